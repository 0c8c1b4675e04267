"""The account page: password, second factor, browsers, games, master key and backup."""

import html
import re

import pyotp
import pytest
from werkzeug.security import check_password_hash, generate_password_hash

from app import create_app
from coinslot.access import owner, people, second_factor, sessions
from tests import databases
from tests.conftest import Browser
from tests.pages import HOSTILE, assert_has

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def password(installation):
    digest = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")
    installation.database.write_here(lambda tx: owner.set_password(tx, digest, "command"))


@pytest.fixture
def browser(app, installation, password):
    return Browser(app.test_client(), installation)  # after the password, which ends sessions


@pytest.fixture
def secret(browser, installation, clock):
    """A second factor that was switched on by way of the pages, two steps ago."""
    assert browser.post("/account/second-factor/offer", current=PASSWORD).location == "/account/second-factor"
    page = browser.get("/account/second-factor").text
    secret = re.search(r"<code>([A-Z2-7]{32})</code>", page)[1]
    done = browser.post("/account/second-factor", code=pyotp.TOTP(secret).now())
    assert done.status_code == 200
    clock.shift(90)
    return secret


def actions(db):
    return [each["action"] for each in db("SELECT action FROM audit ORDER BY id")]


def send(client, path, **form):
    (token,) = re.findall(r'name="form_token" value="([^"]+)"', client.get(path).text)
    return client.post(path, data={"form_token": token, **form})


def sign_in(client, password=PASSWORD, **form):
    return send(client, "/login", password=password, **form)


def give_code(client, code):
    return send(client, "/login/code", code=code)


class TestPassword:
    def test_it_is_changed_and_only_this_browser_stays_signed_in(self, app, installation, browser, db):
        other = Browser(app.test_client(), installation)
        answer = browser.post("/account/password", current=PASSWORD, password="another long one")
        assert answer.status_code == 303
        assert browser.get("/account").status_code == 200
        assert other.get("/account").status_code == 303
        (row,) = db("SELECT password_hash FROM people WHERE name = 'owner'")
        assert row["password_hash"].startswith("scrypt:")
        assert check_password_hash(row["password_hash"], "another long one")
        assert "person.password" in actions(db)

    def test_the_present_one_is_asked_and_a_short_one_refused(self, browser, db):
        before = db("SELECT * FROM people")
        assert browser.post("/account/password", current="wrong", password="another long one").status_code == 403
        short = browser.post("/account/password", current=PASSWORD, password="short")
        assert short.status_code == 400
        assert "at least 10 characters" in short.text
        assert db("SELECT * FROM people") == before

    def test_whoever_sits_at_an_open_browser_cannot_guess_it(self, browser, clock):
        for _ in range(10):
            assert browser.post("/account/backup", current="a guess").status_code == 403
        assert browser.post("/account/backup", current=PASSWORD).status_code == 429
        clock.shift(901)
        assert browser.post("/account/backup", current=PASSWORD).status_code == 200


class TestSecondFactor:
    def test_it_is_offered_as_a_picture_and_as_text_and_asked_for_once_it_was_confirmed(self, client, browser, db):
        assert browser.post("/account/second-factor/offer", current="wrong").status_code == 403
        browser.post("/account/second-factor/offer", current=PASSWORD)
        page = browser.get("/account/second-factor")
        assert_has(page.text, "<svg", without=("style=",))
        assert sign_in(client).location == "/"  # not yet
        wrong = browser.post("/account/second-factor", code="12345x")
        assert wrong.status_code == 400
        secret = re.search(r"<code>([A-Z2-7]{32})</code>", wrong.text)[1]
        on = browser.post("/account/second-factor", code=pyotp.TOTP(secret).now())
        assert len(re.findall(r"<code>[a-z2-7]{4}(?:-[a-z2-7]{4}){3}</code>", on.text)) == 10
        assert "second-factor.on" in actions(db)
        assert secret not in browser.get("/account").text
        assert browser.get("/account/second-factor").status_code == 303  # shown no more

    def test_signing_in_takes_the_password_and_then_a_code(self, client, secret):
        answer = sign_in(client, next="/account")
        assert (answer.status_code, answer.location) == (303, "/login/code")
        assert "coinslot_session" not in str(answer.headers)
        assert client.get("/").status_code == 303
        assert give_code(client, "000000").status_code == 403
        done = give_code(client, pyotp.TOTP(secret).now())
        assert (done.status_code, done.location) == (303, "/account")
        assert client.get("/account").status_code == 200

    def test_a_code_signs_in_one_browser_only(self, app, secret):
        first, second = app.test_client(), app.test_client()
        for each in (first, second):
            sign_in(each)
        code = pyotp.TOTP(secret).now()
        assert give_code(first, code).status_code == 303
        assert give_code(second, code).status_code == 403

    def test_without_the_right_password_there_is_no_second_step(self, client, secret):
        assert sign_in(client, "wrong password").status_code == 403
        assert client.get("/login/code").location == "/login"
        (token,) = re.findall(r'name="form_token" value="([^"]+)"', client.get("/login").text)
        answer = client.post("/login/code", data={"form_token": token, "code": pyotp.TOTP(secret).now()})
        assert answer.location.startswith("/login?")
        assert client.get("/").status_code == 303

    def test_the_proof_of_the_password_is_for_one_browser_for_five_minutes_and_for_one_password(
        self, app, installation, secret, clock
    ):
        mine, other = app.test_client(), app.test_client()
        sign_in(mine)
        proof = mine.get_cookie("coinslot_proof", path="/login")
        assert proof.http_only
        other.get("/login")
        other.set_cookie("coinslot_proof", proof.value, path="/login")
        assert other.get("/login/code").location == "/login"
        mine.set_cookie("coinslot_proof", proof.value[:-2] + "xx", path="/login")
        assert mine.get("/login/code").location == "/login"
        mine.set_cookie("coinslot_proof", proof.value, path="/login")
        assert mine.get("/login/code").status_code == 200
        clock.shift(301)
        assert mine.get("/login/code").location == "/login"
        sign_in(mine)
        assert mine.get("/login/code").status_code == 200
        digest = generate_password_hash("a new password", method="scrypt:1024:8:1")
        installation.database.write_here(lambda tx: owner.set_password(tx, digest, "command"))
        assert mine.get("/login/code").location == "/login"

    def test_guessing_codes_ends_after_ten_whatever_the_address(self, app, secret, clock):
        client = app.test_client()
        sign_in(client)
        for number in range(10):
            client.environ_base["REMOTE_ADDR"] = f"192.0.2.{number}"
            assert give_code(client, "000000").status_code == 403
        throttled = give_code(client, pyotp.TOTP(secret).now())
        assert throttled.status_code == 429
        assert int(throttled.headers["Retry-After"]) > 0
        clock.shift(901)
        sign_in(client)
        assert give_code(client, pyotp.TOTP(secret).now()).status_code == 303

    def test_a_recovery_code_signs_in_once_and_new_ones_end_it(self, app, browser, secret, db):
        page = browser.post("/account/recovery-codes", current=PASSWORD)
        codes = re.findall(r"<code>([a-z2-7-]{19})</code>", page.text)
        assert len(codes) == 10
        for _ in range(2):
            client = app.test_client()
            sign_in(client)
            status = give_code(client, codes[0]).status_code
        assert status == 403
        assert "9 of 10 recovery codes are left" in browser.get("/account").text
        assert browser.post("/account/recovery-codes", current="wrong").status_code == 403
        browser.post("/account/recovery-codes", current=PASSWORD)
        assert give_code(client, codes[1]).status_code == 403
        assert "second-factor.recovery" in actions(db)
        assert codes[0] not in str(db("SELECT * FROM recovery_codes")) + str(db("SELECT * FROM audit"))

    @pytest.mark.parametrize("by", ["password", "code"])
    def test_it_is_switched_off_by_password_or_code(self, client, browser, secret, by):
        assert browser.post("/account/second-factor/off", current="000000").status_code == 403
        given = PASSWORD if by == "password" else pyotp.TOTP(secret).now()
        assert browser.post("/account/second-factor/off", current=given).status_code == 303
        assert sign_in(client).location == "/"

    def test_a_lost_phone_is_mended_on_the_command_line(self, app, client, secret, db):
        done = app.test_cli_runner().invoke(args=["admin", "second-factor", "off"])
        assert (done.exit_code, done.output) == (0, "The second factor is off.\n")
        assert db("SELECT actor FROM audit WHERE action = 'second-factor.off'") == [{"actor": "command"}]
        assert sign_in(client).location == "/"
        again = app.test_cli_runner().invoke(args=["admin", "second-factor", "off"])
        assert "nothing was changed" in again.output

    def test_a_long_way_to_go_does_not_break_the_cookie(self, client, secret):
        sign_in(client, next="/activity?action=" + "x" * 5000)
        assert give_code(client, pyotp.TOTP(secret).now()).location == "/"


class TestBrowsers:
    def test_one_is_ended_then_the_others_then_all(self, app, installation, browser, db):
        first, second = Browser(app.test_client(), installation), Browser(app.test_client(), installation)
        token = first.client.get_cookie("coinslot_session").value
        assert browser.get("/account").text.count("this one") == 1
        browser.post("/account/browsers/end", browser=sessions.token_hash(token))
        assert first.get("/").status_code == 303
        assert second.get("/").status_code == 200
        browser.post("/account/browsers/end", browser="others")
        assert second.get("/").status_code == 303
        assert browser.get("/").status_code == 200
        assert "said=nothing" in browser.post("/account/browsers/end", browser=HOSTILE).location
        browser.post("/account/browsers/end", browser="all")
        assert browser.get("/").status_code == 303
        assert db("SELECT * FROM sessions") == []
        assert actions(db).count("session.end") == 3


class TestGames:
    def test_a_game_is_added_and_its_token_shown_once(self, client, browser, db):
        done = browser.post("/account/games", slug="space-miner", name="Space <b>Miner</b>")
        (token,) = re.findall(r"<code>(coinslot_[\w-]{43})</code>", done.text)
        assert client.get("/game/v1/items", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert_has(done.text, "http://127.0.0.1:8000/appcharge/space-miner/orders", without=("<b>",))
        assert token not in browser.get("/account").text
        assert db("SELECT actor FROM audit WHERE action = 'game.add'") == [{"actor": "owner"}]

    @pytest.mark.parametrize(
        ("slug", "name"), [("", "x"), ("Bad Slug", "x"), ("demo", "x"), ("fine", HOSTILE), ("fine", "x" * 300)]
    )
    def test_what_cannot_be_added_is_said_beside_the_field(self, browser, studio, slug, name, db):
        answer = browser.post("/account/games", slug=slug, name=name)
        assert answer.status_code == 400
        assert_has(answer.text, 'role="alert"', without=("<script>alert",))
        assert len(db("SELECT * FROM games")) == 1


class TestMasterKey:
    def test_it_is_rotated_after_the_password_and_everything_still_opens(self, browser, installation, studio, db):
        before = installation.vault.current(installation.database.read()).id
        assert browser.post("/account/master-key", current="wrong").status_code == 403
        done = browser.post("/account/master-key", current=PASSWORD)
        after = installation.vault.current(installation.database.read()).id
        assert after != before
        assert after in done.text
        assert installation.games.by_slug("demo").keys("playtem.secret")
        assert installation.vault.file_put_aside(before).name in done.text
        assert db("SELECT actor FROM audit WHERE action = 'key.rotate'") == [{"actor": "owner"}]

    def test_one_from_the_environment_is_explained_and_left_alone(self, tmp_path):
        key = "A" * 43 + "="
        app = create_app({**databases.environment(tmp_path / "other"), "COINSLOT_MASTER_KEY": key})
        installation = app.extensions["coinslot"]
        installation.prepare()
        browser = Browser(app.test_client(), installation)
        assert_has(browser.get("/account").text, "flask key rotate", without=(key,))
        assert browser.post("/account/master-key", current=PASSWORD).status_code == 400
        installation.database.close()


class TestBackup:
    def test_it_is_a_whole_copy_and_no_file_stays_behind(self, browser, installation, studio, tmp_path, db):
        assert browser.post("/account/backup", current="wrong").status_code == 403
        answer = browser.post("/account/backup", current=PASSWORD)
        assert answer.status_code == 200
        assert re.search(r'filename="coinslot-[0-9T-]+Z\.db"', answer.headers["Content-Disposition"])
        assert int(answer.headers["Content-Length"]) == len(answer.data)
        (tmp_path / "copy.db").write_bytes(answer.data)
        databases.assert_intact(tmp_path / "copy.db")
        assert databases.tuples(tmp_path / "copy.db", "SELECT slug FROM games") == [("demo",)]
        assert [path.name for path in installation.settings.home.glob(".*")] == []
        assert "backup.download" in actions(db)

    def test_one_that_breaks_off_or_is_never_read_leaves_nothing_either(self, browser, installation):
        answer = browser.client.post(
            "/account/backup", data={"form_token": browser.form_token(), "current": PASSWORD}, buffered=False
        )
        next(iter(answer.response))
        answer.close()
        assert list(installation.settings.home.glob(".*")) == []

    def test_what_a_killed_one_left_is_removed_by_the_next(self, browser, installation, clock):
        leftover = installation.settings.home / ".download-killed"
        leftover.mkdir()
        (leftover / "copy.db").write_bytes(b"half")
        browser.post("/account/backup", current=PASSWORD)
        assert leftover.exists()  # it may have been made this moment
        clock.shift(3600)
        browser.post("/account/backup", current=PASSWORD)
        assert not leftover.exists()


def test_nothing_secret_is_on_the_page(browser, installation, studio, secret):
    page = html.unescape(browser.get("/account").text)
    for value in (secret, studio.token, installation.vault.current(installation.database.read()).text(), "scrypt"):
        assert value not in page
    connection = installation.database.read()
    assert second_factor.is_on(connection, people.named(connection, "owner"))
