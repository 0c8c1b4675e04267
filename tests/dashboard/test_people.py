"""Owners and support: who may do what, how people come and go, and what support does not see before they ask."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from werkzeug.security import generate_password_hash

from coinslot.access import owner, people
from handlers import dashboard
from handlers.dashboard.frame import roles
from tests.conftest import Browser
from tests.dashboard.test_pages import addresses_of
from tests.pages import assert_has, follow

FOLDER = Path(dashboard.__file__).parent
PASSWORD = "correct horse battery"
ANOTHER = "another long password"


@pytest.fixture(autouse=True)
def password(installation):
    digest = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")
    installation.database.write_here(lambda tx: owner.set_password(tx, digest, "command"))


@pytest.fixture
def support(app, installation):
    return Browser(app.test_client(), installation, support="Anna")


def token_of(link):
    return link.partition("token=")[2]


def invite(app, name="Anna", role="support"):
    done = app.test_cli_runner().invoke(args=["admin", "invite", name, "--role", role])
    assert done.exit_code == 0, done.output
    return done.stdout


def join(app, name="Anna", role="support", password=ANOTHER):
    client = app.test_client()
    answer = client.post("/invitation", data={"token": token_of(invite(app, name, role).strip()), "password": password})
    assert (answer.status_code, answer.location) == (303, "/")
    return client


def sign_in(client, **form):
    page = client.get("/login").text
    (token,) = re.findall(r'name="form_token" value="([^"]+)"', page)
    return client.post("/login", data={"form_token": token, **form})


class TestRoles:
    def test_support_may_ask_for_what_the_table_says_and_for_nothing_else(self, app, support, studio):
        allowed, refused = set(), set()
        for method in ("GET", "POST"):
            for endpoint, address in addresses_of(app, method):
                if endpoint in roles.OPEN or endpoint == "sign_out":
                    continue
                answer = support.get(address) if method == "GET" else support.post(address)
                is_refused = answer.status_code == 403 and "Only an owner may do that" in answer.text
                (refused if is_refused else allowed).add(endpoint)
                if endpoint == "end_browser":
                    support = Browser(support.client, support.installation, "Anna")
        assert allowed == roles.SUPPORT_MAY - {"sign_out"}
        assert not {each for each in refused if each in roles.SUPPORT_MAY}
        assert len(refused) > 40

    def test_every_name_in_the_table_is_an_address(self, app):
        names = {rule.endpoint.partition(".")[2] for rule in app.url_map.iter_rules()}
        assert names >= roles.OPEN | roles.SUPPORT_MAY

    def test_an_owner_may_do_everything(self, app, browser, studio):
        for endpoint, address in addresses_of(app, "GET"):
            assert "Only an owner may do that" not in browser.get(address).text, endpoint

    def test_money_keys_settings_exports_and_backups_are_for_owners(self):
        for endpoint in """
            reverse_transaction close_month reopen_month advance_month dispute_pack month_file players_csv
            transactions_csv figures_csv activity_csv keys set_key retire_key settings save_settings
            replace_token mapping download_backup rotate_master_key alerts people_page invite_person forget_player
            destination_list rotate_destination mend_refusal an_address_of_tomorrow
        """.split():
            assert not roles.may(people.Person(1, "Anna", "support"), endpoint), endpoint

    def test_what_is_refused_says_so_on_a_page(self, support, studio, db):
        before = db("SELECT * FROM audit")
        answer = support.post("/games/demo/settings/token")
        assert answer.status_code == 403
        assert_has(answer.text, "Only an owner may do that", "signed in as Anna, for support", "/logout")
        assert db("SELECT * FROM audit") == before

    def test_nobody_who_is_signed_out_is_told_what_there_is(self, client, studio):
        assert client.get("/games/demo/settings").location.startswith("/login?")


class TestInvitation:
    def test_the_link_is_alone_on_standard_output_and_signs_in_once(self, app, client, db):
        link = invite(app)
        assert re.fullmatch(r"http://127\.0\.0\.1:8000/invitation\?token=[\w-]{43}\n", link)
        form = client.get(link.strip())
        assert_has(form.text, "Welcome, Anna", 'name="password"', without=("Cookie",))
        short = client.post("/invitation", data={"token": token_of(link.strip()), "password": "short"})
        assert short.status_code == 400
        done = client.post("/invitation", data={"token": token_of(link.strip()), "password": ANOTHER})
        assert (done.status_code, done.location) == (303, "/")
        assert_has(client.get("/account").text, "<strong>Anna</strong>, for support")
        again = app.test_client().get(link.strip())
        assert again.status_code == 410
        assert_has(again.text, "does not work", without=("Anna", "<form"))
        other = app.test_client().post("/invitation", data={"token": token_of(link.strip()), "password": ANOTHER})
        assert (other.status_code, "Set-Cookie" in other.headers) == (410, True)
        assert "coinslot_session" not in str(other.headers)
        assert [row["actor"] for row in db("SELECT actor FROM audit ORDER BY id")][-2:] == ["Anna", "Anna"]

    def test_only_one_of_many_gets_in_by_one_link(self, app, db):
        token = token_of(invite(app).strip())

        def post(number):
            return (
                app.test_client()
                .post("/invitation", data={"token": token, "password": f"{number} {ANOTHER}"})
                .status_code
            )

        with ThreadPoolExecutor(8) as pool:
            answers = sorted(pool.map(post, range(8)))
        assert answers == [303] + [410] * 7
        assert len(db("SELECT * FROM sessions")) == 1

    @pytest.mark.parametrize("token", ["", "x", "\u00e9", "\x00", "x" * 5000])
    def test_what_is_no_invitation_is_410(self, client, token):
        assert client.get("/invitation", query_string={"token": token}).status_code == 410
        assert client.post("/invitation", data={"token": token, "password": ANOTHER}).status_code == 410

    def test_what_cannot_be_is_an_error_of_the_command(self, app):
        runner = app.test_cli_runner()
        join(app)
        for args in (["anna"], ["owner"], ["command"], ["a", "--role", "boss"], [""]):
            assert runner.invoke(args=["admin", "invite", *args]).exit_code != 0, args


class TestLogin:
    def test_alone_an_owner_signs_in_by_the_password_and_a_name_does_no_harm(self, app, client):
        assert 'name="name"' not in client.get("/login").text
        for form in ({}, {"name": ""}, {"name": "owner"}, {"name": "Owner "}):
            assert sign_in(app.test_client(), password=PASSWORD, **form).status_code == 303
        assert sign_in(client, password=PASSWORD, name="Anna").status_code == 403

    def test_one_who_is_only_invited_changes_nothing(self, app, client):
        invite(app)
        assert 'name="name"' not in client.get("/login").text
        assert sign_in(client, password="", name="Anna").status_code == 403

    def test_of_several_each_signs_in_by_name_and_no_name_is_the_first_owner(self, app, client):
        join(app)
        assert 'name="name"' in client.get("/login").text
        for form in ({"password": PASSWORD}, {"password": PASSWORD, "name": "owner"}):
            browser = app.test_client()
            assert sign_in(browser, **form).status_code == 303
            assert browser.get("/account/people").status_code == 200
        anna = app.test_client()
        assert sign_in(anna, password=ANOTHER, name="ANNA").status_code == 303
        assert anna.get("/account/people").status_code == 403
        for wrong in ({"password": PASSWORD, "name": "Anna"}, {"password": ANOTHER}, {"password": "", "name": "x"}):
            assert sign_in(client, **wrong).status_code == 403

    def test_who_may_sign_in_does_not_get_more_guesses_at_another_by_it(self, app):
        join(app)
        client = app.test_client()
        for number in range(10):
            assert sign_in(client, password=f"wrong {number}", name="owner").status_code == 403
            assert sign_in(app.test_client(), password=ANOTHER, name="Anna").status_code == 303
        assert sign_in(client, password=PASSWORD, name="owner").status_code == 429


class TestPage:
    def test_an_owner_invites_somebody_and_sees_the_link_once(self, app, browser):
        assert browser.post("/account/people", name="Anna", role="support", current="wrong").status_code == 403
        assert browser.post("/account/people", name="", role="support", current=PASSWORD).status_code == 400
        assert browser.post("/account/people", name="Anna", role="boss", current=PASSWORD).status_code == 400
        answer = browser.post("/account/people", name="Anna", role="support", current=PASSWORD)
        (link,) = set(re.findall(r"http://127\.0\.0\.1:8000/invitation\?token=[\w-]{43}", answer.text))
        assert "token=" not in browser.get("/account/people").text
        form = {"token": token_of(link), "password": ANOTHER}
        assert app.test_client().post("/invitation", data=form).status_code == 303
        assert_has(browser.get("/account/people").text, "Anna", "signed in, 1 browser")

    def test_removed_or_signed_out_somebody_is_out_at_once(self, app, browser, support, db):
        assert support.get("/").status_code == 200
        follow(browser, browser.post("/account/people/browsers/end", name="Anna"))
        assert support.get("/").status_code == 303
        again = Browser(app.test_client(), support.installation, "Anna")
        assert again.get("/").status_code == 200
        follow(browser, browser.post("/account/people/remove", name="Anna"))
        assert again.get("/").status_code == 303
        said = [(row["actor"], row["action"], row["subject"]) for row in db("SELECT * FROM audit ORDER BY id")]
        assert ("owner", "session.end", "1 browser of Anna") in said
        assert said[-1] == ("owner", "person.remove", "Anna, support")

    def test_nobody_removes_themselves_or_somebody_who_is_not_there(self, browser):
        for name in ("owner", "nobody", ""):
            answer = browser.post("/account/people/remove", name=name)
            assert (answer.status_code, 'role="alert"' in answer.text) == (400, True)

    def test_what_somebody_does_is_noted_under_their_name(self, app, installation, studio, db):
        client = join(app, "Ben", "owner")
        ben = Browser.__new__(Browser)
        ben.client, ben.installation = client, installation
        ben.post("/games/demo/settings/token")
        ben.post("/account/games", slug="other", name="Other")
        actors = {row["action"]: row["actor"] for row in db("SELECT * FROM audit")}
        assert {actors["game.token"], actors["game.add"]} == {"Ben"}

    def test_no_page_notes_the_owner_in_place_of_who_is_signed_in(self):
        found = [
            f"{path}: {line.strip()}"
            for path in sorted(FOLDER.glob("**/*.py"))
            for line in path.read_text(encoding="utf-8").splitlines()
            if re.search(r'"owner"', line) and not line.startswith("WHO = ")
        ]
        assert found == [], "say who() instead (handlers/dashboard/frame/pages.py)"


class TestOwnAccount:
    def test_a_password_is_changed_and_only_ones_own_browsers_are_signed_out(self, app, installation, browser):
        client = join(app)
        anna, other = Browser.__new__(Browser), Browser(app.test_client(), installation, "Anna")
        anna.client, anna.installation = client, installation
        assert anna.post("/account/password", current=PASSWORD, password="a third password").status_code == 403
        assert anna.post("/account/password", current=ANOTHER, password="a third password").status_code == 303
        assert other.get("/").status_code == 303
        assert browser.get("/").status_code == 200
        assert sign_in(app.test_client(), name="anna", password="a third password").status_code == 303
        assert sign_in(app.test_client(), password=PASSWORD).status_code == 303

    def test_nobody_signs_out_a_browser_of_somebody_else_by_its_number(self, browser, support, db):
        (row,) = db("SELECT token_hash FROM sessions s JOIN people p ON p.id = s.person_id WHERE name = 'owner'")
        assert "said=nothing" in support.post("/account/browsers/end", browser=row["token_hash"]).location
        assert browser.get("/").status_code == 200
        support.post("/account/browsers/end", browser="all")
        assert browser.get("/").status_code == 200
        assert support.get("/").status_code == 303

    def test_support_finds_nothing_of_the_installation_there(self, support, installation):
        page = support.get("/account").text
        key = installation.vault.current(installation.database.read()).id
        assert_has(page, "Second factor", without=("master", key, "backup", "Add a game", "Alerts"))


class TestCommands:
    def run(self, app, *args, stdin=None):
        done = app.test_cli_runner().invoke(args=["admin", *args], input=stdin)
        return done.exit_code, done.output

    def test_people_are_listed_and_removed(self, app):
        client = join(app)
        invite(app, "Ben", "owner")
        code, output = self.run(app, "people")
        assert code == 0
        assert [line.split()[:2] for line in output.splitlines()[1:]] == [
            ["owner", "owner"],
            ["Anna", "support"],
            ["Ben", "owner"],
        ]
        assert self.run(app, "remove", "anna") == (0, "Anna is removed.\n")
        assert client.get("/").status_code == 303
        assert self.run(app, "remove", "anna")[0] == 1
        assert self.run(app, "remove", "owner")[0] == 1

    def test_a_password_is_set_and_a_second_factor_ended_for_a_named_person(self, app):
        client = join(app)
        code, output = self.run(app, "password", "Anna", stdin="set by the command\n")
        assert (code, output) == (0, "The password of Anna is set.\n")
        assert client.get("/").status_code == 303
        assert sign_in(client, name="Anna", password="set by the command").status_code == 303
        assert self.run(app, "password", "nobody", stdin="set by the command\n")[0] == 1
        assert "nothing was changed" in self.run(app, "second-factor", "off", "Anna")[1]
        assert self.run(app, "second-factor", "off", "nobody")[0] == 1
