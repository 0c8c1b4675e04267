"""The pages of a game's configuration and its destinations."""

import html
import re

import pytest

from coinslot.games import games
from coinslot.outbox import circuit, destinations
from tests.fakes.http import Receiver, closed_port
from tests.pages import HOSTILE, assert_has

SETTINGS = "/games/demo/settings"
SHARED = ("allowlist", "silence")  # one of each partner, in its own group


@pytest.fixture(autouse=True)
def game(studio):
    return studio


@pytest.fixture
def stored(installation):
    return lambda: games.stored_settings(installation.database.read(), 1)


def audit_of(db, action):
    return [(row["actor"], row["subject"]) for row in db("SELECT * FROM audit WHERE action = :action", action=action)]


def group_form(page, group):
    """The fields of a group's form as a browser would send them back, unchanged."""
    found = re.search(rf'<input type="hidden" name="group" value="{re.escape(group)}">(.*?)</form>', page, re.DOTALL)[1]
    fields = dict(re.findall(r'<input [^>]*name="([^"]+)" value="([^"]*)"', found))
    for name, options in re.findall(r'<select [^>]*name="([^"]+)"[^>]*>(.*?)</select>', found, re.DOTALL):
        fields[name] = re.search(r'value="([^"]*)" selected', options)[1]
    fields |= dict(re.findall(r'<textarea [^>]*name="([^"]+)"[^>]*>\n(.*?)</textarea>', found, re.DOTALL))
    return {"group": group} | {name: html.unescape(value) for name, value in fields.items()}


class TestConfiguration:
    def test_every_key_is_there_once_with_its_meaning_in_a_group_and_every_family(self, browser, installation):
        page = browser.get(SETTINGS).text
        for key, setting in installation.catalogue.items():
            if key.endswith(".*"):
                assert f'<h3>{setting.title}</h3> <code class="key">{key}</code>' in page
            else:
                assert page.count(f'name="value:{key}"') == 1, key
                assert_has(
                    page, f'<label for="f-{key}">{setting.title} <code class="key">{key}</code>'.replace("'", "&#39;")
                )
                assert_has(page, f'aria-describedby="f-{key}-about"')
            assert str(html.escape(setting.about, quote=False)).replace("'", "&#39;")[:30] in page.replace('"', "&#34;")
        found = re.findall(r'name="group" value="([^"]+)"', page)
        assert {"players", "items", "refunds", "appcharge", "appcharge.google", "playcamp.payments"} <= set(found)
        assert len(found) == len(set(found))

    def test_every_setting_has_a_name_of_its_own_for_people(self, installation):
        titles = {}
        for key, setting in installation.catalogue.items():
            assert setting.title, key
            titles.setdefault((key.partition(".")[0], setting.title), []).append(key)
        assert {name: keys for name, keys in titles.items() if len(keys) > 1 and name[0] not in SHARED} == {}

    def test_settings_of_partners_that_are_not_in_use_are_folded(self, browser, studio):
        def halves():
            return browser.get(SETTINGS).text.split('<details class="idle" id="idle">')

        in_use, idle = halves()
        assert_has(in_use, 'id="appcharge"', 'name="value:allowlist.appcharge"', without=('id="xsolla"', "playcamp."))
        assert_has(idle, "Xsolla", 'id="playcamp.payments"', "playcamp.creator.*", 'name="value:silence.xsolla"')
        studio.secret("xsolla.secret", "some-secret-0123456789")
        assert 'id="xsolla"' in halves()[0]
        assert 'id="idle" open' in browser.get(f"{SETTINGS}?open=playcamp").text

    def test_a_form_sent_back_as_it_is_changes_nothing(self, browser, studio, stored, db):
        studio.config("appcharge.player_defaults", '{"segments": ["a"]}')
        studio.config("playcamp.payments.map", "{a: 'x',\n  b: \"y\"}")
        before, audited = stored(), len(db("SELECT * FROM audit"))
        page = browser.get(SETTINGS).text
        for group in re.findall(r'name="group" value="([^"]+)"', page):
            answer = browser.post(SETTINGS, **group_form(page, group))
            assert "said=nothing" in answer.location, (group, answer.location)
        assert (stored(), len(db("SELECT * FROM audit"))) == (before, audited)

    def test_only_what_was_changed_is_saved_and_holds_from_the_next_request(
        self, browser, studio, installation, stored, db
    ):
        form = group_form(browser.get(SETTINGS).text, "players")
        studio.config("players.lookup_url", "https://x.example")
        assert browser.post(SETTINGS, **form | {"value:players.unknown": "create"}).status_code == 303
        assert stored() == {"players.unknown": "create", "players.lookup_url": "https://x.example"}
        assert installation.games.by_slug("demo").settings["players.unknown"] == "create"
        assert audit_of(db, "config.set")[-1] == ("owner", "players.unknown = create")

    def test_a_default_or_nothing_goes_back_to_the_default(self, browser, studio, stored):
        studio.config("players.unknown", "create")
        studio.config("appcharge.tolerance_seconds", "60")
        page = browser.get(SETTINGS).text
        browser.post(SETTINGS, **group_form(page, "players") | {"value:players.unknown": "reject"})
        browser.post(SETTINGS, **group_form(page, "appcharge") | {"value:appcharge.tolerance_seconds": ""})
        assert stored() == {}

    def test_a_bad_value_is_said_beside_its_field_and_nothing_is_saved(self, browser, stored):
        form = group_form(browser.get(SETTINGS).text, "players")
        bad = {"value:players.unknown": "perhaps", "value:players.lookup_url": HOSTILE}
        answer = browser.post(SETTINGS, **form | bad | {"value:players.login_url": "https://ok.example"})
        assert answer.status_code == 400
        assert_has(
            answer.text,
            "use one of: reject, create, lookup",
            "use an http:// or https:// address",
            'aria-describedby="f-players.lookup_url-about f-players.lookup_url-problem"',
            "https://ok.example",  # what was typed stays
            without=["<script>alert"],
        )
        assert stored() == {}

    def test_nobody_sets_what_is_not_in_the_group(self, browser, stored):
        browser.post(SETTINGS, group="items", **{"value:players.unknown": "create", "value:made.up": "x"})
        assert stored() == {}
        assert browser.post(SETTINGS, group="made-up").status_code == 400
        assert browser.post(SETTINGS).status_code == 400

    @pytest.mark.parametrize("value", ["x" * 10_000, "\x00", "\u202e", "😀" * 300, "{{ 7 * 7 }}"])
    def test_odd_values_are_refused_or_shown_as_text(self, browser, value):
        form = group_form(browser.get(SETTINGS).text, "playcamp")
        answer = browser.post(SETTINGS, **form | {"value:playcamp.campaigns": value, "value:playcamp.lang": value})
        assert answer.status_code == 400


class TestFamily:
    FAMILY = f"{SETTINGS}/family"

    def test_one_is_added_replaced_and_removed(self, browser, stored, db):
        for value in ("revoke", "flag"):
            assert browser.post(self.FAMILY, family="refunds.refund.*", name="gems", value=value).status_code == 303
        assert stored() == {"refunds.refund.gems": "flag"}
        assert "gems" in browser.get(SETTINGS).text
        for said in ("removed", "nothing"):
            gone = browser.post(f"{self.FAMILY}/remove", family="refunds.refund.*", name="gems")
            assert (f"said={said}" in gone.location, stored()) == (True, {})
        assert [actor for actor, _ in audit_of(db, "config.set")] == ["owner"] * 3

    @pytest.mark.parametrize(
        ("name", "value"), [("", "flag"), ("gems", ""), ("gems", "perhaps"), ("a\x00b", "flag"), ("x" * 400, "flag")]
    )
    def test_what_cannot_be_is_said(self, browser, stored, name, value):
        answer = browser.post(self.FAMILY, family="refunds.refund.*", name=name, value=value)
        assert (answer.status_code, 'role="alert"' in answer.text, stored()) == (400, True, {})

    def test_a_family_that_is_none_is_not_there(self, browser):
        for family in ("", "players.unknown", "nothing.*", "*", HOSTILE):
            assert browser.post(self.FAMILY, family=family, name="a", value="b").status_code == 404
            assert browser.post(f"{self.FAMILY}/remove", family=family, name="a").status_code == 404

    def test_many_are_shown_a_page_at_a_time(self, browser, installation):
        def fill(tx):
            for number in range(450):
                games.set_setting(tx, installation.catalogue, "demo", f"lookup.table.{number:04d}", "x", "test")

        installation.database.write_here(fill)
        assert "All 450" in browser.get(SETTINGS).text
        seen, path = [], f"{self.FAMILY}?family=lookup.*"
        while path:
            page = browser.get(path).text
            seen += re.findall(r'<th scope="row">table\.(\d+)</th>', page)
            found = re.search(r'rel="next" href="([^"]+)"', page)
            path = found and html.unescape(found[1])
        assert seen == [f"{number:04d}" for number in range(450)]

    def test_hostile_names_and_values_are_text(self, browser):
        name = '"><script>alert(1)</script>😀'
        assert browser.post(self.FAMILY, family="lookup.*", name=name, value="<img src=x>").status_code == 303
        assert browser.post(self.FAMILY, family="lookup.*", name=name, value=HOSTILE).status_code == 400
        for path in (SETTINGS, f"{self.FAMILY}?family=lookup.*"):
            assert_has(browser.get(path).text, without=("<script>alert", "<img"))
        removed = browser.post(f"{self.FAMILY}/remove", family="lookup.*", name=name)
        assert "said=removed" in removed.location


def test_a_new_token_is_shown_once_and_the_one_before_ends_when_that_is_meant(client, browser, studio, db):
    def statuses(*tokens):
        headers = [{"Authorization": f"Bearer {each}"} for each in tokens]
        return [client.get("/game/v1/items", headers=each).status_code for each in headers]

    retire = f"{SETTINGS}/token/retire"
    assert "token/retire" not in browser.get(SETTINGS).text
    (token,) = re.findall(r"<code>(coinslot_[\w-]{43})</code>", browser.post(f"{SETTINGS}/token").text)
    assert statuses(studio.token, token) == [200, 200]
    assert_has(browser.get(SETTINGS).text, "token/retire", without=[token])
    assert browser.post(retire).status_code == 400
    assert statuses(studio.token) == [200]
    assert "said=retired" in browser.post(retire, sure="yes").location
    assert statuses(studio.token, token) == [401, 200]
    assert "said=nothing" in browser.post(retire, sure="yes").location
    assert audit_of(db, "game.token") == audit_of(db, "game.token.retire") == [("owner", "demo")]


class TestDestinations:
    PAGE = f"{SETTINGS}/destinations"

    def add(self, browser, **changed):
        form = {"name": "main", "url": "https://game.example.com/hook", "events": "*", "format": "standard"} | changed
        return browser.post(self.PAGE, **form)

    def test_one_is_added_with_its_secret_shown_once(self, browser, installation, db):
        done = self.add(browser, retry="10,60", timeout="5", success="200")
        secret = html.unescape(re.search(r"<code>(whsec_[\w+/=]+)</code>", done.text)[1])
        assert_has(html.unescape(browser.get(self.PAGE).text), secret[-4:], without=[secret])
        (row,) = db("SELECT * FROM destinations")
        assert (row["retry_seconds"], row["timeout_seconds"], row["success"]) == ("10,60", 5, "200")
        (key,) = destinations.signing_secrets(installation.database.read(), installation.vault, row["id"])
        assert key.value.decode() == secret
        assert audit_of(db, "destination.add") == [("owner", "main *")]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *(("url", HOSTILE), ("url", "https://user:pw@game.example.com"), ("events", "a b"), ("retry", "soon")),
            *(("timeout", "61"), ("timeout", "x"), ("success", "[[["), ("name", "Not A Name"), ("format", HOSTILE)),
        ],
    )
    def test_what_cannot_be_is_said_and_what_was_typed_stays(self, browser, field, value, db):
        answer = self.add(browser, **{field: value})
        assert answer.status_code == 400
        assert_has(answer.text, 'id="add-problem"', without=["<script>alert"])
        assert "https://game.example.com/hook" in answer.text or field == "url"
        assert db("SELECT * FROM destinations") == []

    def test_it_is_paused_resumed_and_removed_when_that_is_meant(self, browser, db):
        self.add(browser)
        for form, status, state in (
            ({"state": "paused"}, 303, "paused"),
            ({"state": "active"}, 303, "active"),
            ({"state": "odd"}, 400, "active"),
            ({"state": "removed"}, 400, "active"),
            ({"state": "removed", "sure": "yes"}, 303, "removed"),
            ({"state": "active"}, 404, "removed"),
        ):
            assert browser.post(f"{self.PAGE}/main/state", **form).status_code == status
            assert db("SELECT state FROM destinations") == [{"state": state}]
            assert ("Resume" in browser.get(self.PAGE).text) == (state == "paused")

    def test_its_secret_is_rotated_and_the_old_one_retired(self, browser, installation, db):
        self.add(browser)
        new = re.search(r"<code>(whsec_[\w+/=]+)</code>", browser.post(f"{self.PAGE}/main/secret").text)[1]
        keys = destinations.signing_secrets(installation.database.read(), installation.vault, 1)
        assert [key.slot for key in keys] == ["current", "previous"]
        assert keys[0].value.decode() == html.unescape(new)
        for said in ("retired", "nothing"):
            assert f"said={said}" in browser.post(f"{self.PAGE}/main/secret/retire").location
        assert audit_of(db, "secret.rotate") == audit_of(db, "secret.retire") == [("owner", "destination.main")]

    def test_one_that_is_down_says_so(self, browser, installation):
        self.add(browser)
        for number in range(12):
            installation.database.write_here(lambda tx, number=number: circuit.failed(tx, 1, number))
        assert_has(browser.get(self.PAGE).text, ">down<", "12 times in a row")

    def test_an_endpoint_is_graded_and_what_to_change_is_said(self, browser, db):
        with Receiver() as receiver:
            self.add(browser, url=receiver.url)
            before = db("SELECT * FROM audit")
            answer = browser.post(f"{self.PAGE}/main/grade")
        assert answer.status_code == 200
        assert_has(answer.text, "UNSAFE", "anybody could give items")  # it takes everything, signed or not
        assert db("SELECT * FROM audit") == before

    def test_one_that_cannot_be_reached_is_told_so_at_once(self, browser):
        self.add(browser, url=f"http://127.0.0.1:{closed_port()}/hook")
        assert "no answer" in browser.post(f"{self.PAGE}/main/grade").text
