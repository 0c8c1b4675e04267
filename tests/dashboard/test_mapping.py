"""Expressions on a page: what each makes, where it is wrong, that nothing counts before it is saved; and one window."""

import html
import json
import re
import time

import pytest

from coinslot.outbox import destinations
from handlers.dashboard.integration.payment_mapping import LARGEST_PASTED
from handlers.playcamp.payments import polling
from handlers.playcamp.payments.window_preview import masked
from tests.conftest import Studio
from tests.fakes.game_payments import GamePayments
from tests.fakes.http import status
from tests.fakes.playcamp import signed, sponsor_event
from tests.pages import assert_has

PAGE = "/games/demo/mapping"
EVENTS, ROWS, NEXT, MAP = (
    "playcamp.events.map",
    "playcamp.payments.rows",
    "playcamp.payments.next",
    "playcamp.payments.map",
)
GOOD_MAP = (
    "{transactionId: order_id, userId: usn, productId: item, amount: price, currency: currency, market: store, "
    "purchasedAt: paid_at}"
)


@pytest.fixture
def tried(browser, studio):
    """What the page says comes of an expression."""

    def post(what, expression, data="", pasted="", **form):
        answer = browser.post(PAGE, what=what, expression=expression, data=data, pasted=pasted, do="preview", **form)
        assert answer.status_code == 200
        return html.unescape(re.search(r'id="preview".*?</section>', answer.text, re.DOTALL)[0])

    return post


@pytest.fixture
def destination(installation, studio):
    def add(tx):
        destinations.add(
            tx,
            installation.vault,
            "demo",
            "server",
            "http://127.0.0.1:9/hook",
            actor="test",
            success="result == `true`",
        )

    installation.database.write_here(add)
    return "destination.server"


class TestPreview:
    def test_the_page_shows_each_expression_with_what_it_makes_of_a_sample(self, browser, studio, destination):
        for what in (EVENTS, ROWS, NEXT, MAP, destination):
            assert browser.get(f"{PAGE}?what={what}").status_code == 200
        assert "This is the usual body" in browser.get(PAGE).text

    @pytest.mark.parametrize(
        ("what", "expression", "said"),
        [
            (EVENTS, "events[0].{player: usn, word: event}", '"word": "sponsor.created"'),
            (EVENTS, "events[0].usn", "This is neither an object nor a list: the event would be parked."),
            (ROWS, "result.orders", "2 rows."),
            (ROWS, "result", "This is no list of rows"),
            (NEXT, "result.next", "The next page would be read with this."),
            (NEXT, "result.nothing", "Nothing: this would be the last page."),
            (NEXT, "result", "This is no cursor, page or link"),
            (NEXT, "", "each window has one page"),
            (
                MAP,
                GOOD_MAP,
                "It would be registered: 9900 KRW on Android, MOBILE_STORE, bought at 2026-01-02T03:04:05.",
            ),
            (MAP, "{transactionId: order_id}", "The row would be parked: userId is missing; productId is missing"),
            (MAP, "order_id", "This is no object: the row would be parked."),
        ],
    )
    def test_what_comes_of_it(self, tried, what, expression, said):
        assert said in tried(what, expression)

    @pytest.mark.parametrize(
        ("expression", "said", "place"),
        [
            ("events[?", "the expression ends too early", None),
            ("events[0].{a: }", "character 15:", "}"),
            ("a b", "character 3:", "b"),
            ("nobody(@)", "there is no function nobody()", None),
            ("upper(events)", "upper() takes a string, not array", None),
            ("", "", None),
            ("a" * 8193, "an expression has at most 8192 characters", None),
            ("[" * 200 + "a" + "]" * 200, "", None),
        ],
    )
    def test_a_mistake_is_told_with_its_place(self, tried, expression, said, place):
        shown = tried(EVENTS, expression)
        assert said in shown
        assert (re.findall("<mark>(.*?)</mark>", shown) == [place]) if place else "<mark>" not in shown

    def test_pasted_data(self, tried):
        assert '"x": 1' in tried(MAP, "{x: a}", "pasted", '{"a": 1}')
        assert "it is not JSON (line 2, character 1)" in tried(MAP, "{x: a}", "pasted", '{"a":\n}')
        assert "are tried at most" in tried(MAP, "{x: a}", "pasted", f'"{"a" * LARGEST_PASTED}"')
        assert "cannot be read" in tried(MAP, "{x: a}", "pasted", "[" * 10_000)
        assert "cannot be read" in tried(MAP, "{x: a}", "pasted", "")

    def test_the_last_real_event(self, client, studio, tried, browser):
        studio.secret("playcamp.webhook_secret", "whsec_demo_0001")
        body = json.dumps({"events": [sponsor_event("sponsor.created", "100077", "AAA11")]}).encode()
        client.post(
            "/playcamp/demo/webhook", data=body, headers={"X-Webhook-Signature": signed(body, "whsec_demo_0001")}
        )
        assert 'value="last:sponsor.created"' in browser.get(PAGE).text
        assert '"usn": 100077' in tried(EVENTS, "", "last:sponsor.created")
        studio.config("playcamp.creator.AAA11", "555")
        assert '"creator_usn": 555' in tried(EVENTS, "", "last:sponsor.created")

    def test_success_of_a_destination(self, tried, destination):
        assert "With status 200 this is delivered." in tried(destination, "result == `true`")
        assert "would be tried again" in tried(destination, "result == `true`", "no")
        assert "The status of the answer alone decides." in tried(destination, "2xx")
        assert "would be tried again" in tried(destination, "result", "pasted", '{"result": 1}')

    def test_what_does_not_exist_is_404(self, browser, studio, installation):
        other = Studio(installation, "other")
        installation.database.write_here(
            lambda tx: destinations.add(
                tx, installation.vault, other.slug, "theirs", "http://127.0.0.1:9/", actor="test"
            )
        )
        for what in ("playcamp.api_key", "destination.theirs", "nonsense"):
            assert browser.get(f"{PAGE}?what={what}").status_code == 404
            assert browser.post(PAGE, what=what, expression="a", do="save").status_code == 404

    @pytest.mark.parametrize(
        "expression", ["[@,@,@,@] | [@,@,@,@] | [@,@,@,@] | " * 20 + "@", "events[*]." * 60 + "a", "map(&@, events)"]
    )
    def test_nothing_goes_on_for_ever(self, tried, expression):
        pasted = json.dumps({"events": [[1, "x" * 20]] * 2000})
        began = time.monotonic()
        tried(EVENTS, expression, "pasted", pasted)
        assert time.monotonic() - began < 10

    def test_hostile_text_shows_as_text(self, tried, browser):
        hostile = "<script>alert(1)</script>\u202e😀\0" + "a" * 10_000
        for expression in ("{x: a}", f"{{x: '{hostile[:200]}'}}", hostile[:300]):
            answer = browser.post(
                PAGE, what=EVENTS, expression=expression, data="pasted", pasted=json.dumps({"a": hostile}), do="preview"
            )
            assert "<script>alert" not in answer.text
            shown = re.search(r'id="preview".*?</section>', answer.text, re.DOTALL)[0]
            assert not re.search("[\x00\u202e]", shown)


class TestSaving:
    def test_nothing_counts_before_it_is_saved(self, browser, tried, installation, db):
        tried(ROWS, "data")
        assert db("SELECT * FROM settings") == []
        answer = browser.post(PAGE, what=ROWS, expression=" data.rows \r\n", do="save")
        assert (answer.status_code, "said=saved" in answer.location, ROWS in answer.location) == (303, True, True)
        assert installation.games.by_slug("demo").settings[ROWS] == "data.rows"
        assert db("SELECT actor, action, subject FROM audit WHERE action = 'config.set'") == [
            {"actor": "owner", "action": "config.set", "subject": f"{ROWS} = data.rows"}
        ]
        browser.post(PAGE, what=ROWS, expression="", do="save")
        assert installation.games.by_slug("demo").settings[ROWS] == ""

    def test_what_cannot_be_read_is_not_saved(self, browser, studio, db):
        answer = browser.post(PAGE, what=ROWS, expression="data[", do="save")
        assert (answer.status_code, "the expression ends too early" in answer.text) == (400, True)
        assert db("SELECT * FROM settings") == []

    def test_a_destinations_success(self, browser, destination, db):
        assert browser.post(PAGE, what=destination, expression="ok", do="save").status_code == 303
        rows = "SELECT success, success_expression FROM destinations"
        assert db(rows) == [{"success": "expression", "success_expression": "ok"}]
        assert browser.post(PAGE, what=destination, expression="200", do="save").status_code == 303
        assert db(rows) == [{"success": "200", "success_expression": None}]
        assert browser.post(PAGE, what=destination, expression="a b", do="save").status_code == 400
        assert [row["actor"] for row in db("SELECT * FROM audit WHERE action = 'destination.success'")] == ["owner"] * 2


class TestWindow:
    @pytest.fixture(params=["nested", "numbered", "linked"])
    def payments(self, request, studio):
        with GamePayments(request.param, key="the-payments-key-1") as payments:
            payments.set_up(studio)
            yield payments

    def stored(self, db):
        return [db(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in ("payments", "schedules", "audit")]

    def test_one_window_is_shown_and_stored_nowhere(self, browser, payments, db):
        for number in range(7):
            payments.pay(f"GP-{number}", at=time.time() - 3600 - number)
        before = self.stored(db)
        answer = browser.post(f"{PAGE}/window", days="1")
        text = html.unescape(answer.text)
        assert answer.status_code == 200
        assert "7 rows" in text
        assert text.count('"transactionId": "GP-') == 5
        assert "the-payments-key-1" not in text
        assert (self.stored(db), len(payments.requests)) == (before, 1)

    def test_what_would_be_parked_says_why(self, browser, studio, db):
        with GamePayments("nested") as payments:
            payments.set_up(studio)
            payments.pay("GP-1", at=time.time() - 3600, market="moon")
            payments.pay("GP-2", at=time.time() - 3600)
            text = html.unescape(browser.post(f"{PAGE}/window", days="7").text)
        assert_has(
            text,
            "would be parked",
            "it has neither a market nor both platform and distributionType",
            '"transactionId": "GP-2"',
        )

    def test_trouble_is_told(self, browser, studio, payments):
        payments.trouble(status(500, b"oh no"))
        assert "the game's payment API answered 500" in html.unescape(browser.post(f"{PAGE}/window").text)
        payments.key = "another-key"
        assert "the game's payment API answered 401" in html.unescape(browser.post(f"{PAGE}/window").text)

    def test_what_is_not_set_up_says_so(self, browser, studio):
        answer = browser.post(f"{PAGE}/window")
        assert answer.status_code == 200
        assert "failed" in answer.text

    def test_the_first_row_can_be_worked_on(self, browser, payments):
        payments.pay("GP-1", at=time.time() - 3600)
        text = browser.post(f"{PAGE}/window").text
        fields = dict(
            re.findall(r'<input type="hidden" name="(\w+)" value="(.*?)">', text.rpartition("<form")[2], re.DOTALL)
        )
        assert "GP-1" in fields["pasted"]
        form = {name: html.unescape(value) for name, value in fields.items() if name != "form_token"}
        assert "It would be registered" in browser.post(PAGE, **form).text

    def test_no_secret_of_an_address_is_shown(self, studio, installation):
        studio.secret("playcamp.payments_key", "a key/1")
        game = installation.games.by_slug("demo")
        assert masked("https://x.example/p?api_key=abc&from=1&Token=&q=a%20key%2F1", game) == (
            "https://x.example/p?api_key=…&from=1&Token=&q=…"
        )

    def test_hostile_rows_show_as_text(self, browser, payments):
        payments.pay("<script>alert(1)</script>\u202e", at=time.time() - 3600, user="1", product="a" * 10_000)
        text = browser.post(f"{PAGE}/window").text
        assert_has(text, without=("<script>alert", "\u202e"))


class TestPolling:
    """Everything is tried before anything is saved, and no poll begins before the owner says so."""

    PAYMENTS = f"{PAGE}/payments"

    @pytest.fixture
    def payments(self, studio):
        with GamePayments("nested", key="the-payments-key-1") as payments:
            payments.set_up(studio)
            yield payments

    @pytest.fixture
    def form(self, payments, installation, studio):
        """What the owner types, with nothing of it saved."""
        settings = installation.games.by_slug("demo").settings
        typed = {name: settings[f"playcamp.payments.{name}"] for name in ("url", "rows", "next", "map")}
        for name in typed:
            studio.config(f"playcamp.payments.{name}", "")
        return typed

    @pytest.fixture
    def poll(self, installation):
        return lambda: polling.run(installation, installation.games.by_slug("demo"))

    def saved(self, db):
        rows = db("SELECT key, value FROM settings WHERE key LIKE 'playcamp.payments.%'")
        return {row["key"].removeprefix("playcamp.payments."): row["value"] for row in rows}

    def test_it_is_tried_without_saving(self, browser, payments, form, db):
        payments.pay("GP-1", at=time.time() - 3600)
        before = self.saved(db), db("SELECT * FROM audit")
        text = html.unescape(browser.post(f"{PAGE}/window", **form).text)
        assert_has(text, '"transactionId": "GP-1"', "Not saved yet")
        assert form["map"] in text
        assert (self.saved(db), db("SELECT * FROM audit")) == before
        assert not db("SELECT 1 FROM payments")

    def test_saving_begins_no_polls_and_begin_does_from_since_on(self, browser, payments, form, poll, db):
        payments.pay("GP-old", at=time.time() - 9 * 86400)
        payments.pay("GP-new", at=time.time() - 3600)
        assert browser.post(self.PAYMENTS, **form, do="save").status_code == 303
        assert {name: self.saved(db).get(name) for name in ("url", "polling")} == {"url": form["url"], "polling": "off"}
        assert (poll(), len(payments.requests)) == (None, 0)
        assert "not polling" in browser.get(self.PAYMENTS).text
        since = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 12 * 86400))
        assert browser.post(self.PAYMENTS, **form, do="begin", since=since).location.endswith("said=polling")
        assert (self.saved(db)["polling"], self.saved(db)["since"]) == ("on", since)
        while poll() == 0.0:
            pass
        assert {row["transaction_id"] for row in db("SELECT * FROM payments")} == {"GP-old", "GP-new"}
        assert "Payments are being read" in browser.get(self.PAYMENTS).text
        asked = len(payments.requests)
        browser.post(self.PAYMENTS, **form, do="stop")
        assert (poll(), len(payments.requests)) == (None, asked)
        # What is saved while they run changes nothing about that.
        browser.post(self.PAYMENTS, **form, do="begin")
        browser.post(PAGE, what=MAP, expression=form["map"], do="save")
        assert self.saved(db)["polling"] == "on"

    def test_the_last_setting_that_is_saved_on_the_page_of_mappings_begins_no_polls(self, browser, form, studio, db):
        studio.config("playcamp.payments.url", form["url"])
        studio.config("playcamp.payments.rows", form["rows"])
        browser.post(PAGE, what=MAP, expression=form["map"], do="save")
        assert self.saved(db)["polling"] == "off"

    def test_by_command_polls_begin_with_the_third_setting(self, studio, form, poll, payments):
        for name, value in form.items():
            studio.config(f"playcamp.payments.{name}", value)
        poll()
        assert payments.requests

    @pytest.mark.parametrize(
        ("field", "value", "do"),
        [
            *(("map", "a[", "save"), ("url", "nowhere", "save"), ("rows", "", "begin"), ("url", "", "begin")),
            *(("since", "soon", "begin"), ("do", "else", "else")),
        ],
    )
    def test_what_cannot_be_is_said_and_not_saved(self, browser, form, field, value, do, db):
        before = self.saved(db)
        answer = browser.post(self.PAYMENTS, **{**form, "do": do, field: value})
        assert answer.status_code == 400
        assert self.saved(db) == before

    def test_the_pages_lead_there(self, browser, studio):
        for page in ("/games/demo/integration", "/games/demo/payments", f"{PAGE}?what={MAP}"):
            assert f'href="{self.PAYMENTS}"' in browser.get(page).text
        assert f'href="{PAGE}"' in browser.get("/games/demo/integration").text
