"""Setup in a browser, and pages that tell a stranger nothing."""

import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest
from werkzeug.security import check_password_hash, generate_password_hash

from app import create_app
from coinslot.access import owner, sessions
from handlers.kit import passwords
from tests import databases
from tests.pages import assert_has

PASSWORD = "correct horse battery"


@pytest.fixture
def token(installation):
    return parse_qs(urlsplit(installation.new_setup_link()).query)["token"][0]


def form(token, **changed):
    return {"token": token, "password": PASSWORD, "slug": "space-miner", "name": "Space Miner"} | changed


def test_setup_sets_the_password_adds_the_game_and_shows_its_token_once(client, installation, token, db):
    assert client.get(f"/setup?token={token}").status_code == 200
    done = client.post("/setup", data=form(token))

    assert done.status_code == 200
    (api_token,) = set(re.findall(r"coinslot_[\w-]{43}", done.text))
    assert_has(
        done.text,
        "http://127.0.0.1:8000/appcharge/space-miner/orders",
        "http://127.0.0.1:8000/playtem/space-miner/credit",
    )
    assert client.get("/game/v1/items", headers={"Authorization": f"Bearer {api_token}"}).json == {"items": []}
    (row,) = db("SELECT password_hash FROM people WHERE name = 'owner'")
    assert row["password_hash"].startswith("scrypt:")
    assert check_password_hash(row["password_hash"], PASSWORD)
    assert db("SELECT slug, name FROM games") == [{"slug": "space-miner", "name": "Space Miner"}]
    assert [each["action"] for each in db("SELECT action FROM audit")] == ["owner.setup", "game.add", "person.login"]
    for path in installation.settings.home.iterdir():
        assert api_token.encode() not in path.read_bytes()


def test_following_the_link_uses_nothing_up_and_posting_it_does(client, installation, token):
    for _ in range(3):
        assert client.get(f"/setup?token={token}").status_code == 200
    assert client.post("/setup", data=form(token)).status_code == 200

    assert client.get(f"/setup?token={token}").status_code == 410
    assert client.post("/setup", data=form(token, slug="other")).status_code == 410
    assert installation.new_setup_link() is None


def test_a_newer_link_a_password_and_time_end_a_link(client, installation, token, clock):
    newer = parse_qs(urlsplit(installation.new_setup_link()).query)["token"][0]
    assert client.get(f"/setup?token={token}").status_code == 410
    clock.shift(owner.SETUP_LINK_SECONDS - 1)
    assert client.get(f"/setup?token={newer}").status_code == 200
    clock.shift(2)
    assert client.get(f"/setup?token={newer}").status_code == 410

    latest = parse_qs(urlsplit(installation.new_setup_link()).query)["token"][0]
    installation.database.write_here(lambda tx: owner.set_password(tx, "hash", "command"))
    assert client.post("/setup", data=form(latest)).status_code == 410


@pytest.mark.parametrize("name", ["a\0b", "a\x1bb", "x" * 256])
def test_a_name_that_no_page_can_show_is_refused_and_the_link_stays(client, installation, token, name, db):
    refused = client.post("/setup", data=form(token, name=name))

    assert refused.status_code == 400
    assert_has(refused.text, "the game&#39;s name: use ")
    assert db("SELECT slug FROM games") == []
    assert client.post("/setup", data=form(token)).status_code == 200


@pytest.mark.parametrize("spoiled", ["", "x", "InRva2VuIg.aaaa.bbbb"])
def test_a_forged_link_is_403(client, installation, token, spoiled):
    assert client.get(f"/setup?token={spoiled}").status_code == 403
    assert client.get("/setup").status_code == 403
    assert client.post("/setup", data=form(spoiled or token[:-1])).status_code == 403


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"password": "short"}, "at least 10 characters"),
        ({"slug": ""}, "is no slug"),
        ({"slug": "Über"}, "is no slug"),
        ({"slug": "-a"}, "is no slug"),
        ({"slug": "a" * 64}, "is no slug"),
    ],
)
def test_a_mistake_in_the_form_changes_nothing_and_the_link_stays_good(client, token, db, changed, said):
    answer = client.post("/setup", data=form(token, **changed))
    assert answer.status_code == 400
    assert_has(answer.text, said, without=(PASSWORD,))
    assert db("SELECT * FROM games") == []
    assert client.post("/setup", data=form(token)).status_code == 200


def test_where_there_is_a_game_only_the_password_is_asked(client, studio, token, db):
    assert 'name="slug"' not in client.get(f"/setup?token={token}").text
    done = client.post("/setup", data={"token": token, "password": PASSWORD})
    assert done.status_code == 200
    assert "coinslot_" not in done.text
    assert len(db("SELECT * FROM games")) == 1


def test_only_one_of_many_gets_to_set_it_up(app, token, db):
    def post(number):
        return app.test_client().post("/setup", data=form(token, slug=f"game-{number}")).status_code

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(post, range(8)))
    assert answers == [200] + [410] * 7
    assert len(db("SELECT * FROM games")) == 1


def test_what_was_typed_is_shown_as_text(client, token):
    answer = client.post("/setup", data=form(token, slug='"><script>alert(1)</script>', name="<b>\u202e😀"))
    assert_has(answer.text, "&lt;script&gt;", without=("<script>",))


@pytest.mark.parametrize(("chosen", "typed"), [("\u00eb" * 10, "e\u0308" * 10), ("e\u0308" * 10, "\u00eb" * 10)])
def test_the_owners_password_is_the_same_in_either_unicode_form(client, installation, chosen, typed):
    installation.database.write_here(lambda tx: owner.set_password(tx, passwords.hash_of(chosen), "test"))
    token = re.search(r'name="form_token" value="([^"]+)"', client.get("/login").text)[1]

    assert client.post("/login", data={"form_token": token, "password": typed}).status_code == 303


def test_a_stranger_learns_nothing_from_the_login_page(client, studio, installation):
    before = client.get("/login").text
    assert "no owner yet" in before
    installation.database.write_here(lambda tx: owner.set_password(tx, "hash", "command"))
    after = client.get("/login").text
    assert "no owner yet" not in after
    assert "demo" not in before + after


def test_whoever_sets_it_up_is_signed_in(client, token):
    client.post("/setup", data=form(token))
    assert client.get("/").status_code == 200


class TestLogin:
    def sign_in(self, client, password=PASSWORD, **form):
        page = client.get("/login").text
        (token,) = re.findall(r'name="form_token" value="([^"]+)"', page)
        return client.post("/login", data={"form_token": token, "password": password, **form})

    @pytest.fixture(autouse=True)
    def password(self, installation):
        digest = generate_password_hash(PASSWORD)
        installation.database.write_here(lambda tx: owner.set_password(tx, digest, "command"))

    def test_the_password_signs_in_and_the_cookie_is_safe(self, client, db):
        answer = self.sign_in(client)
        cookie = next(each for each in answer.headers.getlist("Set-Cookie") if each.startswith("coinslot_session"))
        assert answer.status_code == 303
        assert_has(cookie, "HttpOnly", "SameSite=Lax")
        assert client.get("/").status_code == 200
        (row,) = db("SELECT * FROM sessions")
        assert row["token_hash"] not in cookie
        assert cookie.partition("=")[2].partition(";")[0] not in str(row)

    def test_the_cookie_is_for_https_alone_where_that_is_the_address(self, tmp_path):
        app = create_app(
            {**databases.environment(tmp_path / "https"), "COINSLOT_PUBLIC_URL": "https://pay.example.com"}
        )
        app.extensions["coinslot"].prepare()
        cookies = app.test_client().get("/login").headers.getlist("Set-Cookie")
        assert cookies
        assert all("Secure" in each for each in cookies)
        app.extensions["coinslot"].database.close()

    def test_a_wrong_password_does_not_and_ten_are_enough(self, client, clock):
        assert self.sign_in(client, "wrong password").status_code == 403
        for _ in range(9):
            self.sign_in(client, "wrong password")
        throttled = self.sign_in(client)
        assert throttled.status_code == 429
        assert int(throttled.headers["Retry-After"]) > 0
        clock.shift(901)
        assert self.sign_in(client).status_code == 303

    def test_an_address_is_no_new_one_by_its_last_half(self, client, clock):
        for number in range(10):
            client.environ_base["REMOTE_ADDR"] = f"2001:db8:1:2::{number}"
            assert self.sign_in(client, "wrong password").status_code == 403
        assert self.sign_in(client).status_code == 429
        client.environ_base["REMOTE_ADDR"] = "2001:db8:1:3::1"
        assert self.sign_in(client).status_code == 303

    def test_a_session_ends_by_signing_out_by_time_and_by_a_new_password(self, client, installation, clock):
        for end in ("time", "password"):
            assert self.sign_in(client).status_code == 303
            assert client.get("/").status_code == 200
            if end == "time":
                clock.shift(sessions.SESSION_SECONDS + 1)
            else:
                digest = generate_password_hash(PASSWORD)
                installation.database.write_here(lambda tx, digest=digest: owner.set_password(tx, digest, "command"))
            assert client.get("/").status_code == 303

    def test_visits_keep_it_alive(self, client, clock):
        self.sign_in(client)
        for _ in range(3):
            clock.shift(sessions.SESSION_SECONDS - 60)
            assert client.get("/").status_code == 200

    @pytest.mark.parametrize(
        ("wanted", "led_to"),
        [
            ("/games/demo/players?q=a", "/games/demo/players?q=a"),
            ("https://elsewhere.example", "/"),
            ("//elsewhere.example", "/"),
            ("/\\elsewhere.example", "/"),
            ("javascript:alert(1)", "/"),
            ("//[x", "/"),
            ("/a\r\nSet-Cookie: b=c", "/"),
            ("", "/"),
        ],
    )
    def test_it_leads_on_to_the_page_that_was_asked_for_and_nowhere_else(self, client, wanted, led_to):
        assert self.sign_in(client, next=wanted).location == led_to


def ready(client):
    answer = client.get("/readyz")
    return answer.status_code, answer.json["status"], answer.json["checks"]


def test_it_is_ready_only_with_its_key(client, installation):
    assert client.get("/healthz").json == {"status": "ok"}
    status, word, checks = ready(client)
    assert (status, word) == (200, "ready")
    installation.database.write_here(lambda tx: tx.execute("UPDATE installation SET value = 'other'"))
    assert ready(client)[::2] == (503, checks | {"key": "missing or wrong"})


def test_it_is_ready_only_with_a_database_that_can_be_written(client, installation):
    assert ready(client)[2] == {"database": "ok", "key": "ok", "disk": "ok", "relay": "not needed"}
    installation.database.close()
    installation.database.path.rename(installation.database.path.with_suffix(".gone"))
    installation.database.path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    status, _, checks = ready(client)
    assert (status, checks["database"]) == (503, "not writable")
    assert client.get("/healthz").status_code == 200


def test_an_address_of_nobody_is_a_page_for_who_is_signed_in_and_json_for_anybody_else(browser, client, studio):
    page, other = browser.get("/nope"), client.get("/nope")
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert 'href="/activity"' in page.text
    assert "Content-Security-Policy" in page.headers
    assert (other.status_code, other.mimetype) == (404, "application/json")
    client.set_cookie("coinslot_session", "made-up")
    assert client.get("/nope").mimetype == "application/json"
    within = browser.get("/games/demo/nope")
    assert (within.status_code, within.mimetype) == (404, "text/html")
