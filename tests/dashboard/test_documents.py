"""The documents as pages: open, true to their files, linked with each other, and led to from every page."""

import html
import re
import shlex

import pytest

from handlers.dashboard.documents import rendering
from handlers.dashboard.frame.help import HELP
from tests.conftest import Studio
from tests.fakes.appcharge import FakeAppcharge
from tests.pages import SENDABLE, text_of


@pytest.fixture
def documents(app):
    with app.test_request_context("/"):
        return {each.name: each for each in rendering.listed()}


def anchors_of(text):
    return set(re.findall(r'id="([^"]+)"', text))


class TestDocuments:
    def test_every_file_is_a_page_that_needs_no_sign_in(self, client, documents):
        assert {"readme", "security", "examples"} | {path.stem for path in rendering.ROOT.glob("docs/*.md")} == set(
            documents
        )
        for name, document in documents.items():
            answer = client.get(f"/docs/{name}")
            assert (answer.status_code, answer.mimetype) == (200, "text/html"), name
            assert document.title in text_of(answer).replace("&quot;", '"').replace("&#39;", "'")
            assert f'href="/docs/{name}"' in client.get("/docs").text

    def test_links_and_pictures_lead_somewhere(self, client, documents):
        seen = 0
        for name in documents:
            text = client.get(f"/docs/{name}").text
            own = anchors_of(text)
            for address in map(html.unescape, re.findall(r'(?:href|src)="([^"]+)"', text)):
                path, _, anchor = address.partition("#")
                if address.startswith(("http", "/static", "/login")) or path in ("", "/"):
                    assert path or anchor in own, (name, address)
                    continue
                assert path.startswith("/docs"), (name, address)
                answer = client.get(path)
                assert answer.status_code == 200, (name, address)
                assert not anchor or anchor in anchors_of(answer.text), (name, address)
                seen += 1
        assert seen > 200
        assert client.get("/docs/pictures/overview.png").mimetype == "image/png"

    def test_lists_with_commands_and_tables_are_read_as_elsewhere(self, client):
        midnight = client.get("/docs/midnight").text
        assert re.search(r"<ol>(?:(?!</ol>).)*<pre", midnight, re.DOTALL), "commands within a numbered list"
        assert "<th>" in client.get("/docs/appcharge").text
        assert "style=" not in "".join(client.get(f"/docs/{name}").text for name in ("settlement", "speed", "readme"))

    def test_raw_html_in_a_file_is_text(self, app, monkeypatch, tmp_path):
        text = "# Title\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1)) <b>y</b>\n\n| a |\n|--:|\n| 1 |\n"
        (tmp_path / "README.md").write_text(text)
        monkeypatch.setattr(rendering, "ROOT", tmp_path)
        for each in (rendering.names, rendering.document):
            each.cache_clear()
        try:
            with app.test_request_context("/"):
                shown = rendering.document("readme").html
        finally:
            for each in (rendering.names, rendering.document):
                each.cache_clear()
        assert not re.search(r"<script|<b>|href=|style=", shown), shown
        assert '<td class="number">1' in shown

    def test_nothing_else_is_served(self, client):
        for name in ("nope", "..", "%2e%2e%2fREADME.md", "schema.sql", SENDABLE[:20]):
            assert client.get(f"/docs/{name}").status_code in (404, 308), name
        for name in ("..%2fdashboard.md", "../dashboard.md", "nope.png", "..%2f..%2fapp.py"):
            assert client.get(f"/docs/pictures/{name}").status_code == 404, name


class TestHelp:
    def test_every_place_is_one_that_is_there(self, documents):
        for endpoint, place in HELP.items():
            name, _, anchor = place.partition("#")
            assert name in documents, endpoint
            assert not anchor or anchor in documents[name].anchors, (endpoint, place)

    def test_the_link_is_on_the_page(self, browser, studio):
        assert 'href="/docs/deliveries">Help' in browser.get("/games/demo/deliveries").text
        assert 'href="/docs/dashboard#the-pages">Help' in browser.get("/").text

    def test_each_partners_page_leads_to_its_own_document(self, app, browser, studio):
        for partner in app.extensions["coinslot.partners"]:
            page = browser.get(f"/games/demo/integration/{partner.name}").text
            assert f'href="/docs/{partner.name}">Help' in page
            assert browser.get(f"/docs/{partner.name}").status_code == 200


class TestApi:
    def test_a_stranger_reads_every_operation_and_no_games_name(self, client, studio):
        answer = client.get("/docs/api")
        document = client.get("/game/v1/openapi.json").json
        assert answer.status_code == 200
        text = text_of(answer)
        for path, item in document["paths"].items():
            for method in item.keys() - {"parameters"}:
                assert f"{method.upper()} {path}" in text, (method, path)
                assert item[method]["summary"] in html.unescape(text)
        for name, schema in document["components"]["schemas"].items():
            for field in schema.get("properties", {}):
                assert f"<code>{field}</code>" in answer.text, (name, field)
        links = set(re.findall(r'href="#([^"]+)"', answer.text))
        assert links <= anchors_of(answer.text)
        assert "demo" not in text
        assert "Demo" not in text

    def test_who_is_signed_in_sees_it_for_a_game(self, browser, studio, installation):
        Studio(installation, "second")
        assert "Its token was shown once" in text_of(browser.get("/docs/api"))
        chosen = browser.get("/docs/api?for=second").text
        assert "flask game token second" in chosen
        assert 'href="/games/second/settings#token"' in chosen
        assert browser.get("/docs/api?for=nobody").status_code == 200

    def test_the_curl_lines_are_good_calls(self, client, studio, installation, post_order):
        studio.secret("playcamp.shared_key", "test-shared-key-0123456789")
        post_order()  # so that there is a grant to acknowledge
        base = f"{installation.settings.public_url}/game/v1"
        lines = [
            html.unescape(each).replace("\\\n", " ")
            for each in re.findall(r"<pre[^>]*>(curl .*?)</pre>", client.get("/docs/api").text, re.DOTALL)
        ]
        answered = {}
        with FakeAppcharge() as fake:
            studio.config("appcharge.base_url", fake.url)
            studio.secret("appcharge.checkout_public_key", "key")
            for line in sorted(lines, key=lambda each: "DELETE" in each):
                words = shlex.split(line)
                method = words[words.index("-X") + 1] if "-X" in words else "GET"
                headers = dict(words[at + 1].split(": ") for at, word in enumerate(words) if word == "-H")
                headers = {name: value.replace("$COINSLOT_TOKEN", studio.token) for name, value in headers.items()}
                body = words[words.index("-d") + 1] if "-d" in words else None
                (address,) = (word for word in words if word.startswith(base))
                answer = client.open(
                    address.removeprefix(installation.settings.public_url), method=method, headers=headers, data=body
                )
                answered[line] = (answer.status_code, answer.get_data(as_text=True)[:300])
        assert len(lines) == len(answered) > 20
        # Not set up here, or nothing is there to be found: the call itself is right.
        bad = {line: each for line, each in answered.items() if each[0] >= 400 and each[0] not in (404, 409)}
        assert bad == {}
        assert sum(status < 300 for status, _ in answered.values()) > 14
