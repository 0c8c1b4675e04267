"""One contract for all pages: who may see them, what they cost, what an empty one says, and hostile text as text."""

import ast
import re
import subprocess
import sys
from importlib import import_module

import pytest

from coinslot.games import games
from handlers import dashboard
from handlers.dashboard.frame.help import HELP
from tests import databases
from tests.conftest import Browser, Studio
from tests.pages import PAGES, SENDABLE, Page, text_of


def addresses_of(app, method):
    """Every address of the dashboard that takes this method, filled in."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("dashboard.") and method in rule.methods:
            words = {name: getattr(converter, "items", None) for name, converter in rule._converters.items()}
            given = {name: min(words[name] or ["demo" if name == "slug" else "1"]) for name in words}
            yield rule.endpoint.removeprefix("dashboard."), app.url_map.bind("").build(rule.endpoint, given, method)


class TestAddresses:
    def test_each_leads_to_a_function_that_is_there(self):
        for _, _, place in dashboard.PAGES:
            module, _, name = place.partition(":")
            assert callable(getattr(import_module(f"handlers.dashboard.{module}"), name)), place

    def test_each_page_is_in_the_table_of_these_tests(self):
        gets = {place.partition(":")[2] for method, _, place in dashboard.PAGES if method == "GET"}
        assert set(PAGES) == gets - {"login", "login_code", "setup"}

    def test_each_page_names_the_section_that_explains_it(self):
        pages = {name for name, page in PAGES.items() if page.heading is not None} - set(DOCUMENTS)
        gets = {place.partition(":")[2] for method, _, place in dashboard.PAGES if method == "GET"}
        assert pages <= set(HELP) <= gets, "frame/help.py has the section of each page, for its Help link"

    def test_no_page_is_imported_before_it_is_asked_for(self):
        code = "import sys, wsgi; print([name for name in sys.modules if name.startswith('handlers.dashboard.')])"
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
        assert {name.split(".")[2] for name in ast.literal_eval(done.stdout)} == {"frame"}


DOCUMENTS = ("documents", "document", "picture", "api_document")  # open, as the files they are made of


class TestGuard:
    def test_without_a_session_every_page_leads_to_the_login_and_no_post_works(self, app, client, studio, db):
        before, seen = db("SELECT * FROM audit"), 0
        for method, open_ones in (
            ("GET", ("static", "login", "setup", "invitation", *DOCUMENTS)),
            ("POST", ("sign_in", "sign_in_with_code", "complete_setup", "join")),
        ):
            for endpoint, address in addresses_of(app, method):
                if endpoint not in open_ones:
                    answer = client.open(address, method=method)
                    assert (answer.status_code, answer.location.partition("?")[0]) == (303, "/login"), address
                    seen += 1
        assert seen > 90
        assert db("SELECT * FROM audit") == before

    def test_with_a_session_no_post_works_without_the_form_token(self, app, browser, studio, db):
        before = db("SELECT * FROM audit")
        for endpoint, address in addresses_of(app, "POST"):
            if endpoint not in ("complete_setup", "join"):
                for given in ({}, {"form_token": "0" * 64}, {"form_token": "\u00e9"}):
                    assert browser.client.post(address, data=given).status_code == 403, address
        assert db("SELECT * FROM audit") == before
        assert browser.get("/").status_code == 200

    def test_a_form_of_another_site_or_another_browser_is_refused(self, app, browser, installation):
        token = browser.form_token()
        elsewhere = browser.client.post("/logout", data={"form_token": token}, headers={"Sec-Fetch-Site": "cross-site"})
        other = Browser(app.test_client(), installation)
        assert elsewhere.status_code == 403
        assert other.client.post("/logout", data={"form_token": token}).status_code == 403
        assert browser.post("/logout").status_code == 303
        assert browser.get("/").status_code == 303

    def test_no_page_of_a_game_is_there_for_a_game_that_is_not(self, browser, app, studio):
        for method in ("GET", "POST"):
            for endpoint, address in addresses_of(app, method):
                if address.startswith("/games/"):
                    nowhere = address.replace("/games/demo", "/games/nobody")
                    answer = browser.post(nowhere) if method == "POST" else browser.get(nowhere)
                    assert (answer.status_code, answer.mimetype) == (404, "text/html"), endpoint
                    assert "Content-Security-Policy" in answer.headers


HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}

# The overview asks PostgreSQL's server about itself too, and about its standbys.
MOST_QUERIES = 14 if databases.IS_POSTGRES else 12


def faults(page, answer, queries):
    """What is wrong with the answer of a full page."""
    text = answer.get_data(as_text=True) if answer.mimetype.startswith("text/") else ""
    policy = answer.headers["Content-Security-Policy"]
    # Fields of a form keep what is stored, as it is.
    plain = re.sub(r'(value|action|href)="[^"]*"|<textarea.*?</textarea>', "", text, flags=re.DOTALL)
    is_page = answer.mimetype == "text/html" and answer.status_code == 200
    yield answer.status_code != page.status, answer.status_code
    yield len(queries) > MOST_QUERIES, queries
    yield not HEADERS.items() <= dict(answer.headers).items(), answer.headers
    yield not {"default-src 'none'", "frame-ancestors 'none'"} <= set(policy.split("; ")) or "unsafe" in policy, policy
    cells = re.sub(r'"=""[^"=@]*"""', "", text.removeprefix("\ufeff"))  # without ids that are kept as text
    yield answer.mimetype == "text/csv" and re.search(r'(^|[,"\n])[=@]', cells), "a formula"
    if is_page:
        scripts = re.findall("<script[^>]*>", plain)
        yield (page.heading or "") not in text_of(answer), re.findall("<h[12].*", text)
        yield scripts != ['<script src="/static/app.js" defer>'], scripts
        for bad in ("<img src=x", "<i>", "<b>", "\u202e", "\x00", "style="):
            yield bad in plain, bad
        yield "x" * 5000 in re.sub("<pre.*?</pre>", "", plain, flags=re.DOTALL), "a text that is not cut"


def test_a_full_page_costs_little_and_shows_hostile_text_as_text(world, browser):
    found = []
    for name, page in PAGES.items():
        for address in page.addresses:
            browser.get(address.format(**world))  # opens the game, its secrets and what else is kept
            answer, queries = browser.queries(address.format(**world))
            found += [(name, address, what) for is_fault, what in faults(page, answer, queries) if is_fault]
    assert not found, "\n".join(map(str, found))


def test_ids_of_one_game_lead_to_nothing_in_another(world, app, browser, installation, db):
    Studio(installation, "other")
    before = db("SELECT * FROM audit")
    owned = [(name, page) for name, page in PAGES.items() if any("{game}" in each for each in page.addresses)]
    ids = re.compile(r"\{(transaction|player|delivery|event|payment|refusal|creator)\}")
    for name, page in owned:
        for address in filter(ids.search, page.addresses):
            elsewhere = address.format(**world | {"game": "/games/other", "month": "/games/other/settlements/2026-07"})
            assert browser.get(elsewhere).status_code == 404, (name, elsewhere)
    for address, form in (
        ("transactions/{transaction}/reveal", {}),
        ("transactions/{transaction}/reversal", {"policy": "flag", "reason": "x"}),
        ("transactions/{transaction}/redelivery", {"reason": "x"}),
        ("deliveries/{delivery}/redrive", {}),
        ("events/{event}", {}),
        ("deliveries/destinations/game/pause", {}),
        ("payments/redrive", {"transaction_id": SENDABLE}),
        ("refusals/{refusal}", {}),
        ("integration/keys/retire", {"name": "appcharge.main_key"}),
        *(
            (f"settings/destinations/game/{each}", {"state": "removed", "sure": "yes"})
            for each in ("state", "secret", "secret/retire", "grade")
        ),
    ):
        for slug, status in (("other", 404), ("demo", None)):
            if slug == "other":
                assert browser.post(f"/games/{slug}/{address.format(**world)}", **form).status_code == status, address
    for page in (page for page in PAGES.values() if page.empty and "{game}" in page.addresses[0]):
        assert page.empty in text_of(browser.get(page.addresses[0].format(game="/games/other"))), page
    assert browser.get(f"/refusals/{world['refusal']}").status_code == 404
    assert browser.get(f"/games/demo/refusals/{world['stray']}").status_code == 404
    assert db("SELECT * FROM audit") == before


def test_a_strangers_page_has_the_headers_of_all_pages(client, installation):
    link = installation.new_setup_link().partition("http://127.0.0.1:8000")[2]
    for address, status in (("/", 303), ("/login", 200), (link, 200), ("/setup?token=x", 403)):
        assert [
            what for is_fault, what in faults(Page((address,), status=status), client.get(address), []) if is_fault
        ] == []


def test_an_empty_page_says_what_it_will_show(browser, studio, installation):
    installation.database.write_here(
        lambda tx: games.set_setting(tx, installation.catalogue, "demo", "players.unknown", "create", "t")
    )
    seen = 0
    for page in PAGES.values():
        if page.empty:
            answer = browser.get(page.addresses[0].format(game="/games/demo"))
            assert (answer.status_code, page.empty in text_of(answer)) == (200, True), page
            seen += 1
    assert seen == 10


@pytest.mark.parametrize(
    "address", ["games/demo/refusals", "games/demo/payments", "games/demo/transactions", "activity"]
)
def test_filters_are_folded_until_one_is_set(browser, studio, address):
    name = "action" if address == "activity" else "player" if address.endswith(("refusals", "transactions")) else "q"
    plain, filtered = (browser.get(f"/{address}{query}").text for query in ("", f"?{name}=somebody"))
    assert re.search(r'<details class="card">\s*<summary>Filter</summary>', plain)
    assert re.search(r'<details class="card" open>\s*<summary>Filter</summary>', filtered)


def test_every_filter_is_sent_by_find(browser, world):
    addresses = [each.format(**world) for item in PAGES.values() if item.heading is not None for each in item.addresses]
    forms = [
        form
        for each in addresses
        for form in re.findall(r'<form class="filter" method="get".*?</form>', browser.get(each).text, re.S)
    ]
    assert len(forms) > 8
    assert {label for form in forms for label in re.findall("<button[^>]*>(.*?)</button>", form)} == {"Find"}
