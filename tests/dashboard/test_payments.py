"""Payments: what was reported, what came of it, and trying again what was refused too often."""

import csv
import html
import io
import json
import re
import time

import pytest

from coinslot.payments import lists, payment_queue, queries
from coinslot.payments import store as payments
from coinslot.payments.parsing import Payment
from coinslot.relay import jobs
from tests.books import quarantine
from tests.conftest import Studio
from tests.pages import STORABLE, assert_has, every_page, follow, text_of

LIST = "/games/demo/payments"


@pytest.fixture
def keep(installation, studio):
    """Store payments as the game reports them; ``state`` is where they have got to since."""

    def store(count=1, first=1, *, state=None, is_registering=True, **changed):
        def write(tx):
            for number in range(first, first + count):
                row = json.dumps({"transactionId": f"T-{number}", "amount": "9.99"})
                values = {"transaction_id": f"T-{number}", "source": "push", "row": row, "player_id": "alice"}
                values |= {"product_id": "gems", "amount": "9.99", "currency": "USD", "market": "google"}
                values |= {"purchased_at": "2026-07-21T14:17:27.329000Z"} | changed
                payments.store(tx, studio.row["id"], Payment(**values), is_registering=is_registering)
                row = queries.find(tx, studio.row["id"], values["transaction_id"])
                if state == "registered":
                    payment_queue.finish(tx, payment_queue.REGISTER, [row["id"]], is_sandbox=False)
                elif state == "quarantined":
                    quarantine(tx, row["id"], "PlayCamp answered 422: no such product")

        installation.database.write_here(write)

    return store


def listed(answer):
    return re.findall(r'href="/games/demo/payments/([^"]+)"', answer.text)


class TestList:
    def test_each_state_has_its_list_and_its_count(self, browser, keep):
        assert_has(text_of(browser.get(LIST)), "POST /game/v1/payments", "try how they are asked for")
        keep(2, 1, problem="market x is in no table")
        keep(3, 10)
        keep(1, 20, state="registered")
        keep(1, 30, state="quarantined")
        keep(1, 40, is_registering=False)
        page = text_of(browser.get(LIST))
        assert_has(page, "Parked 2", "Waiting 3")
        assert listed(browser.get(LIST)) == ["T-40", "T-30", "T-20", "T-12", "T-11", "T-10", "T-2", "T-1"]
        for state, ids in (
            ("parked", ["T-2", "T-1"]),
            ("waiting", ["T-12", "T-11", "T-10"]),
            ("registered", ["T-20"]),
            ("quarantined", ["T-30"]),
            ("kept", ["T-40"]),
            ("refunded", []),
            ("refund-refused", []),
        ):
            assert listed(browser.get(f"{LIST}?state={state}")) == ids, state
        assert "market x is in no table" in text_of(browser.get(f"{LIST}?state=parked"))

    def test_pages_follow_one_another_without_gaps(self, browser, keep):
        keep(70, 1, state="registered")
        keep(50, 71)
        seen = [each for page in every_page(browser, LIST) for each in listed(page)]
        assert seen == [f"T-{number}" for number in range(120, 0, -1)]

    def test_refunded_ones_are_found_among_many(self, browser, keep, monkeypatch):
        monkeypatch.setattr(lists, "LOOKED_THROUGH", 7)
        keep(3, 1, refunded_at="2026-07-22T00:00:00.000000Z", state="registered")
        keep(20, 10, state="registered")
        keep(1, 40, refunded_at="2026-07-22T00:00:00.000000Z")
        seen = [each for page in every_page(browser, f"{LIST}?state=refunded") for each in listed(page)]
        assert seen == ["T-40", "T-3", "T-2", "T-1"]

    def test_search_by_transaction_and_by_player(self, browser, installation, keep):
        keep(3, 1)
        keep(2, 10, player_id="bob")
        assert listed(browser.get(f"{LIST}?q=T-2")) == ["T-2"]
        assert listed(browser.get(f"{LIST}?q=bob")) == ["T-11", "T-10"]
        assert listed(browser.get(f"{LIST}?q=nobody")) == []
        Studio(installation, "other")
        assert "There is none like that" in browser.get("/games/other/payments?q=T-1").text
        assert browser.get("/games/other/payments/T-1").status_code == 404
        assert browser.post("/games/other/payments/redrive", transaction_id="T-1").status_code == 404

    def test_the_doctor_names_the_page_that_shows_what_it_counts(self, browser, app, keep):
        keep(1, 1, problem="it has no market")
        keep(1, 2, state="quarantined")
        keep(1, 3)
        keep(1, 3, amount="1.00", source="appcharge")
        told = app.test_cli_runner().invoke(args=["doctor"]).output
        pages = re.findall(r": (/games/demo/payments\S+)$", told, re.MULTILINE)
        assert sorted([listed(browser.get(address)) for address in pages]) == [["T-1"], ["T-2"], ["T-3"]]

    def test_polls_say_how_far_they_have_come_and_why_not_further(self, browser, installation, studio):
        for name, value in (("url", "http://127.0.0.1:9/{from}"), ("rows", "rows"), ("map", "@")):
            studio.config(f"playcamp.payments.{name}", value)
        cursor = json.dumps({"since": 0, "until": None, "through": 1_790_000_000, "window": None})
        installation.database.write_here(lambda tx: jobs.put_cursor(tx, studio.row["id"], "playcamp.poll", cursor))
        failing = "UPDATE schedules SET failures = 2, last_error = :why"
        installation.database.write_here(lambda tx: tx.execute(failing, {"why": STORABLE}))
        page = browser.get(LIST)
        assert_has(text_of(page), "read up to 2026-09-21 14:13:20", "2 in a row")
        assert "<script>alert" not in page.text
        installation.database.write_here(lambda tx: jobs.put_cursor(tx, studio.row["id"], "playcamp.poll", "[nonsense"))
        assert "the first answer has not come yet" in text_of(browser.get(LIST))

    def test_the_page_follows_polls_until_they_have_come_to_the_present(self, browser, installation, studio, clock):
        for name, value in (("url", "http://127.0.0.1:9/{from}"), ("rows", "rows"), ("map", "@")):
            studio.config(f"playcamp.payments.{name}", value)
        now = int(time.time())
        seen = []
        for through in (now - 750_000, now - 600):
            cursor = json.dumps({"since": now - 1_000_000, "until": None, "through": through, "window": None})
            installation.database.write_here(
                lambda tx, cursor=cursor: jobs.put_cursor(tx, studio.row["id"], "playcamp.poll", cursor)
            )
            page = browser.get(LIST)
            seen.append(("The past is being read: 25%" in text_of(page), 'http-equiv="refresh"' in page.text))
        assert seen == [(True, True), (False, False)]

    def test_lists_are_read_by_their_index(self, installation):
        values = {"game_id": 1, "before": 5, "looked_through": 5} | dict.fromkeys(payments.STATES, 1)
        plan = installation.database.read().execute(f"EXPLAIN QUERY PLAN {lists._NEWEST}", values).fetchall()
        assert not [row["detail"] for row in plan if "SCAN payments" in row["detail"] or "B-TREE" in row["detail"]]


class TestRedrive:
    def test_one_that_was_refused_is_tried_again(self, browser, installation, keep, db):
        keep(state="quarantined")
        page = browser.get(f"{LIST}/T-1")
        assert "no such product" in page.text
        answer = follow(browser, browser.post(f"{LIST}/redrive", transaction_id="T-1"))
        assert_has(text_of(answer), "Redriven", "to be registered")
        assert db("SELECT state FROM payments") == [{"state": "waiting"}]
        (row,) = db("SELECT actor, subject FROM audit WHERE action = 'payment.redrive'")
        assert row == {"actor": "owner", "subject": "T-1"}
        assert db("SELECT name FROM schedules WHERE due_at IS NOT NULL") == [{"name": "playcamp.register"}]

    def test_one_that_was_not_refused_is_left_alone(self, browser, keep, db):
        keep(state="registered")
        answer = follow(browser, browser.post(f"{LIST}/redrive", transaction_id="T-1"))
        assert "There was nothing to do" in text_of(answer)
        assert db("SELECT * FROM audit WHERE action = 'payment.redrive'") == []
        assert browser.post(f"{LIST}/redrive", transaction_id="T-9").status_code == 404

    def test_all_of_them_and_their_refunds(self, browser, installation, keep, db):
        keep(3, state="quarantined")
        keep(1, 10, state="registered", refunded_at="2026-07-22T00:00:00.000000Z")
        refused = "UPDATE payments SET refund_state = 'quarantined', refund_next_at = NULL WHERE refunded_at > ''"
        installation.database.write_here(lambda tx: tx.execute(refused))
        assert listed(browser.get(f"{LIST}?state=refund-refused")) == ["T-10"]
        assert "refused it too often" in browser.get(f"{LIST}/T-10").text
        answer = follow(browser, browser.post(f"{LIST}/redrive", which="all"))
        assert "4 redriven." in text_of(answer)
        assert {row["state"] for row in db("SELECT state FROM payments")} == {"waiting", "registered"}
        assert db("SELECT * FROM payments WHERE refund_state = 'quarantined'") == []


def test_a_payment_shows_what_was_reported_and_its_conflicts(browser, installation, keep):
    keep(state="registered")
    keep(amount="1.00", row=json.dumps({"transactionId": "T-1", "amount": "1.00"}))
    page = browser.get(f"{LIST}/T-1")
    assert_has(
        page.text,
        "What was registered",
        "&#34;amount&#34;: &#34;9.99&#34;",
        "&#34;amount&#34;: &#34;1.00&#34;",
        "Seen 1 time",
    )
    assert "T-1" in browser.get(f"{LIST}?state=conflicts").text


def test_the_list_as_csv(browser, keep):
    keep(600, 1, player_id="=HYPERLINK(1)")
    rows = list(csv.DictReader(io.StringIO(browser.get(f"{LIST}.csv").text.removeprefix("\ufeff"))))
    assert [row["transaction_id"] for row in rows] == [f"T-{number}" for number in range(600, 0, -1)]
    assert rows[0]["player_id"] == "'=HYPERLINK(1)"
    assert rows[0]["amount"] == "9.99"
    assert len(browser.get(f"{LIST}.csv?state=registered").text.splitlines()) == 1


@pytest.mark.parametrize(
    "transaction_id",
    ["..", "../x", "//x", "a/b//c", "50%25 & more?#x", "%2e%2e", " x", ".", "redrive", "日本", STORABLE],
)
def test_any_id_leads_to_its_page(browser, keep, transaction_id):
    keep(transaction_id=transaction_id)
    (address,) = re.findall(r'data-label="Transaction"><span class="id"><a href="([^"]+)"', browser.get(LIST).text)
    answer = browser.get(html.unescape(address))
    assert answer.status_code == 200
    assert "9.99" in answer.text


def test_half_a_surrogate_pair_in_a_row_shows_as_it_was_spelled(browser, keep):
    keep(row='{"user": "\\ud800"}')
    answer = browser.get(f"{LIST}/T-1")
    assert (answer.status_code, "\\ud800" in answer.text) == (200, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("refund_state = 'done', refund_next_at = NULL", "PlayCamp has it."),
        ("refund_state = 'done', refund_next_at = NULL, refunded_at = NULL", "ask PlayCamp to count it again"),
        ("refund_state = 'waiting', refund_next_at = '2999-01-01T00:00:00.000000Z'", "It is sent to PlayCamp soon."),
        ("refund_state = NULL, refund_next_at = NULL", "Nothing to send: it was never registered."),
    ],
)
def test_a_refund_says_what_playcamp_knows_of_it(browser, installation, keep, change, said):
    keep(state="registered", refunded_at="2026-07-22T00:00:00.000000Z")
    installation.database.write_here(lambda tx: tx.execute(f"UPDATE payments SET {change}"))
    assert said in text_of(browser.get(f"{LIST}/T-1"))
