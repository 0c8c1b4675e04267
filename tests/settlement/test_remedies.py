"""What a difference says will mend it: done as it is printed, the difference is gone, by the very same report."""

import json
import re
import shlex
from typing import Any

import pytest

from coinslot.ledger import refunds
from coinslot.ledger.policies import Policy
from coinslot.settlement import differences
from handlers.kit import partner_reports
from tests.books import Books, quarantine
from tests.conftest import appcharge_headers, order
from tests.fakes import appcharge as fake_appcharge
from tests.fakes.appcharge import FakeAppcharge
from tests.fakes.playcamp import PlayCamp
from tests.reconciler import Room

ORDERS = "order_id,type,amount_minor,currency,timestamp\n"
PAYMENTS = "transactionId,amount,currency,status,purchasedAt\n"


@pytest.fixture
def books(installation, studio):
    return Books(installation, studio)


@pytest.fixture
def room(app, books):
    return Room(app, books)


@pytest.fixture
def appcharge(studio):
    with FakeAppcharge() as fake:
        studio.config("appcharge.base_url", fake.url)
        yield fake


@pytest.fixture
def playcamp(studio):
    with PlayCamp() as fake:
        fake.set_up(studio)
        yield fake


@pytest.fixture
def run_printed(app):
    """The command that stands between backticks, run as a shell would."""

    def run(text: str) -> None:
        (command,) = re.findall(r"`flask ([^`]+)`", text)
        result = app.test_cli_runner().invoke(args=shlex.split(command), input="y\n")
        assert result.exit_code == 0, result.output

    return run


@pytest.fixture
def push(client, studio):
    def post(**row: Any) -> None:
        rows = [{"userId": "alice", "productId": "gems", "market": "google", "currency": "USD", **row}]
        headers = {"Authorization": f"Bearer {studio.token}"}
        answer = client.post("/game/v1/payments", data=json.dumps({"payments": rows}), headers=headers)
        assert answer.status_code == 200, answer.text

    return post


def test_every_remedy_has_words():
    assert set(partner_reports.REMEDIES) == set(differences.ACTIONS)


class TestOrders:
    @pytest.mark.parametrize("order_id", ["o-1", "o 'one' (a)", "o" * 200, "-1", "--policy"])
    @pytest.mark.parametrize("refunded", ["2026-07-20T10:00:00Z", "2026-08-03T10:00:00Z", ""])
    def test_given_back_there(self, room, books, run_printed, order_id, refunded, db):
        books.order(order_id)
        books.close()
        report = f"{ORDERS}{order_id},paid,999,USD,2026-07-10T00:00:00Z\n{order_id},refund,-999,USD,{refunded}\n"
        before = room.by_text("appcharge", report)
        assert room.results(before) == {order_id: "refunded_there"}

        run_printed(room.remedies(before)[order_id])

        after = room.by_text("appcharge", report)
        assert (room.results(after), after.matched) == ({}, 1)
        (row,) = db("SELECT occurred_at FROM refunds")
        assert row["occurred_at"].startswith(refunded[:10])

    @pytest.mark.parametrize(
        "refunded", ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "20/07"]
    )
    def test_given_back_there_at_a_time_that_cannot_be(self, room, books, run_printed, refunded):
        books.order("o-1")
        books.close()
        report = f"{ORDERS}o-1,paid,999,USD,2026-07-10T00:00:00Z\no-1,refund,-999,USD,{refunded}\n"
        run_printed(room.remedies(room.by_text("appcharge", report))["o-1"])
        assert room.results(room.by_text("appcharge", report)) == {}

    @pytest.mark.parametrize("order_id", ["o-1", "-o1"])
    def test_taken_back_here_and_not_there(self, room, books, run_printed, appcharge, order_id):
        books.order(order_id)
        books.close()
        take_back(books, order_id, "2026-07-20T00:00:00.000000Z")
        appcharge.orders.append({"acOrderId": order_id})
        appcharge.transactions.append(
            fake_appcharge.transaction("t-1", "2026-07-10T00:00:00.000Z", type="paid") | {"orderId": order_id}
        )
        report = f"{ORDERS}{order_id},paid,999,USD,2026-07-10T00:00:00Z\n"
        before = room.by_text("appcharge", report)
        assert room.results(before) == {order_id: "refunded_here"} == room.results(room.by_api("appcharge"))

        run_printed(room.remedies(before)[order_id])

        assert appcharge.refunded == [(order_id, "owner")]
        assert room.results(room.by_text("appcharge", report)) == {} == room.results(room.by_api("appcharge"))

    def test_an_order_that_has_another_id_there_is_given_back_by_that(self, room, books, run_printed, appcharge, db):
        books.order("payment:p-1")
        books.close()
        take_back(books, "payment:p-1", "2026-07-20T00:00:00.000000Z")
        appcharge.orders.append({"acOrderId": "o-1"})
        (row,) = db("SELECT public_id FROM transactions")
        report = "order_id,type,amount_minor,currency,our_transaction_id\n" + f"o-1,paid,999,USD,{row['public_id']}\n"
        before = room.by_text("appcharge", report)
        run_printed(room.remedies(before)["payment:p-1"])
        assert appcharge.refunded == [("o-1", "owner")]
        assert room.results(room.by_text("appcharge", report)) == {}

    def test_taken_back_here_and_a_refund_that_was_refused_there_differs_still(self, room, books, appcharge, app):
        books.order("o-1")
        books.close()
        take_back(books, "o-1", "2026-07-20T00:00:00.000000Z")
        refused = app.test_cli_runner().invoke(args=["appcharge", "refund", "demo", "o-1", "--user", "x"], input="y\n")
        assert refused.exit_code == 1
        run = room.by_text("appcharge", f"{ORDERS}o-1,paid,999,USD,2026-07-10T00:00:00Z\n")
        assert room.results(run) == {"o-1": "refunded_here"}

    def test_taken_back_here_because_the_partner_said_so_is_asked_about_and_not_given_back_again(
        self, room, books, client, appcharge
    ):
        books.order("o-1")
        body = json.dumps(
            {"eventName": "order.refunded", "eventId": "e", "timestamp": 1784500000000, "orderId": "o-1"}
        ).encode()
        assert client.post("/appcharge/demo/events", data=body, headers=appcharge_headers(body)).status_code == 200
        books.close()
        run = room.by_text("appcharge", f"{ORDERS}o-1,paid,999,USD,2026-07-10T00:00:00Z\n")
        assert room.differences(run) == {"o-1": ("refunded_here", "999", "USD", "ask_partner")}

    def test_charged_and_not_granted(self, room, books, client):
        books.close()
        report = f"{ORDERS}68e25eebdcb1278,paid,999,USD,2026-07-21T14:17:27Z\n"
        before = room.by_text("appcharge", report)
        assert "Retry Award" in room.remedies(before)["68e25eebdcb1278"]

        body = json.dumps(order()).encode()
        assert client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body)).status_code == 200

        assert room.results(room.by_text("appcharge", report)) == {}

    def test_a_line_that_cannot_be_read(self, room, books):
        books.order("o-1")
        books.close()
        report = f"{ORDERS}o-1,payout,999,USD,2026-07-10T00:00:00Z\n"
        assert "put that line right" in room.remedies(room.by_text("appcharge", report))["o-1"]
        assert room.results(room.by_text("appcharge", report.replace("payout", "paid"))) == {}


def take_back(books: Books, order_id: str, at: str) -> None:
    def reverse(tx: Any) -> None:
        row = refunds.purchase(tx, books.game.id, "appcharge", order_id)
        assert row is not None
        refunds.reverse(tx, row, Policy.always("revoke"), "by phone", at)

    books.installation.database.write_here(reverse)


class TestPayments:
    def test_what_waits_is_sent_by_itself(self, room, books, playcamp):
        books.pay("GP-1", "9.99", "USD", is_registered=False)
        books.close()
        report = f"{PAYMENTS}GP-9,1.00,USD,PENDING,\n"
        before = room.by_text("playcamp", report)
        assert room.differences(before)["GP-1"] == ("missing_there", "999", "USD", "register_payment")
        assert set(room.results(room.by_api("playcamp"))) == {"GP-1"}
        before = room.by_text("playcamp", report)

        books.installation.new_relay().drain()

        assert room.results(room.by_text("playcamp", report)) == {} == room.results(room.by_api("playcamp"))

    @pytest.mark.parametrize("payment", ["GP 'one'", "-GP"])
    def test_what_was_refused_is_sent_again(self, room, books, playcamp, run_printed, payment):
        books.pay(payment, "9.99", "USD", is_registered=False)
        books.installation.database.write_here(lambda tx: quarantine(tx, 1, "refused"))
        books.close()
        report = f"{PAYMENTS}GP-9,1.00,USD,PENDING,\n"
        before = room.by_text("playcamp", report)

        run_printed(room.remedies(before)[payment])
        books.installation.new_relay().drain()

        assert room.results(room.by_text("playcamp", report)) == {} == room.results(room.by_api("playcamp"))

    def test_what_was_registered_long_before_is_asked_about(self, room, books):
        books.pay("GP-1", "9.99", "USD")
        books.close()
        report = f"{PAYMENTS}GP-9,1.00,USD,PENDING,\n"
        for _ in range(2):
            run = room.by_text("playcamp", report)
            assert room.differences(run) == {"GP-1": ("missing_there", "999", "USD", "ask_partner")}

    def test_what_is_parked_is_reported_whole(self, room, books, playcamp, push):
        push(transactionId="GP-1", amount="9.99", purchasedAt="2026-07-10T00:00:00Z", market="nowhere")
        books.close()
        report = f"{PAYMENTS}GP-1,9.99,USD,COMPLETED,\n"
        room.by_text("playcamp", report)
        push(transactionId="GP-1", amount="9.99", purchasedAt="2026-07-10T00:00:00Z")
        books.installation.new_relay().drain()
        assert room.results(room.by_text("playcamp", report)) == {} == room.results(room.by_api("playcamp"))

    @pytest.mark.parametrize("is_refused", [False, True])
    def test_a_refund_is_sent(self, room, books, playcamp, run_printed, is_refused):
        books.pay("GP-1", "9.99", "USD", is_registered=False)
        books.installation.new_relay().drain()
        books.refund_payment("GP-1", "2026-07-20T00:00:00.000000Z")
        if is_refused:
            books.installation.database.write_here(
                lambda tx: tx.execute("UPDATE payments SET refund_state = 'quarantined', refund_next_at = NULL")
            )
        books.close()
        report = f"{PAYMENTS}GP-1,9.99,USD,COMPLETED,2026-07-10T00:00:00Z\n"
        room.by_api("playcamp")
        before = room.by_text("playcamp", report)
        action = "redrive" if is_refused else "send_refund"
        assert room.differences(before) == {"GP-1": ("refunded_here", "999", "USD", action)}

        if is_refused:
            run_printed(room.remedies(before)["GP-1"])
        books.installation.new_relay().drain()

        assert room.results(room.by_text("playcamp", report)) == {} == room.results(room.by_api("playcamp"))

    def test_what_the_game_never_reported_is_reported(self, room, books, playcamp, push):
        books.close()
        report = f"{PAYMENTS}GP-1,9.99,USD,COMPLETED,2026-07-10T00:00:00Z\n"
        before = room.by_text("playcamp", report)
        assert "have the game report it" in room.remedies(before)["GP-1"]
        push(transactionId="GP-1", amount="9.99", purchasedAt="2026-07-10T00:00:00Z")
        assert room.results(room.by_text("playcamp", report)) == {}

    def test_what_was_given_back_there_is_reported_as_refunded(self, room, books, push):
        row = {"transactionId": "GP-1", "amount": "9.99", "purchasedAt": "2026-07-10T00:00:00Z"}
        push(**row)
        books.close()
        report = f"{PAYMENTS}GP-1,9.99,USD,REFUNDED,2026-07-10T00:00:00Z\n"
        before = room.by_text("playcamp", report)
        assert room.differences(before) == {"GP-1": ("refunded_there", "999", "USD", "report_refund")}
        push(**row, status="refunded")
        assert room.results(room.by_text("playcamp", report)) == {}
