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
from tests.books import Books, quarantine, stamp
from tests.conftest import appcharge_headers, order
from tests.reconciler import add_row

ORDERS = "order_id,type,amount_minor,currency,timestamp\n"
PAYMENTS = "transactionId,amount,currency,status,purchasedAt\n"
PAID = ",paid,999,USD,2026-07-10T00:00:00Z\n"
OTHER_PAYMENT = f"{PAYMENTS}GP-9,1.00,USD,PENDING,\n"
GP_1 = {"transactionId": "GP-1", "amount": "9.99", "purchasedAt": "2026-07-10T00:00:00Z"}


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


@pytest.fixture
def call_appcharge(client, studio):
    def post(path: str, document: Any) -> None:
        body = json.dumps(document).encode()
        answer = client.post(f"/appcharge/demo/{path}", data=body, headers=appcharge_headers(body))
        assert answer.status_code == 200, answer.text

    return post


def take_back(books: Books, order_id: str) -> None:
    def reverse(tx: Any) -> None:
        row = refunds.purchase(tx, books.game.id, "appcharge", order_id)
        assert row is not None
        refunds.reverse(tx, row, Policy.always("revoke"), "by phone", stamp("2026-07-20"))

    books.write(reverse)


def test_every_remedy_has_words():
    assert set(partner_reports.REMEDIES) == set(differences.ACTIONS)


class TestOrders:
    @pytest.mark.parametrize("order_id", ["o-1", "o 'one' (a)", "o" * 200, "-1", "--policy"])
    @pytest.mark.parametrize("refunded", ["2026-07-20T10:00:00Z", "2026-08-03T10:00:00Z", ""])
    def test_given_back_there(self, reconciler, books, run_printed, order_id, refunded, db):
        books.order(order_id)
        books.close()
        report = f"{ORDERS}{order_id}{PAID}{order_id},refund,-999,USD,{refunded}\n"
        before = reconciler.by_text("appcharge", report)
        assert reconciler.results(before) == {order_id: "refunded_there"}

        run_printed(reconciler.remedies(before)[order_id])

        after = reconciler.by_text("appcharge", report)
        assert (reconciler.results(after), after.matched) == ({}, 1)
        (row,) = db("SELECT occurred_at FROM refunds")
        assert row["occurred_at"].startswith(refunded[:10])

    @pytest.mark.parametrize(
        "refunded", ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "20/07"]
    )
    def test_given_back_there_at_a_time_that_cannot_be(self, reconciler, books, run_printed, refunded):
        books.order("o-1")
        books.close()
        report = f"{ORDERS}o-1{PAID}o-1,refund,-999,USD,{refunded}\n"
        run_printed(reconciler.remedies(reconciler.by_text("appcharge", report))["o-1"])
        assert reconciler.results(reconciler.by_text("appcharge", report)) == {}

    @pytest.mark.parametrize("order_id", ["o-1", "-o1"])
    def test_taken_back_here_and_not_there(self, reconciler, books, run_printed, appcharge, order_id):
        books.order(order_id)
        books.close()
        take_back(books, order_id)
        appcharge.orders.append({"acOrderId": order_id})
        add_row(appcharge, order_id)
        report = f"{ORDERS}{order_id}{PAID}"
        before = reconciler.by_text("appcharge", report)
        differing = {order_id: "refunded_here"}
        assert reconciler.results(before) == differing == reconciler.results(reconciler.by_api("appcharge"))

        run_printed(reconciler.remedies(before)[order_id])

        assert appcharge.refunded == [(order_id, "owner")]
        by_text, by_api = reconciler.by_text("appcharge", report), reconciler.by_api("appcharge")
        assert reconciler.results(by_text) == {} == reconciler.results(by_api)

    def test_an_order_that_has_another_id_there_is_given_back_by_that(
        self, reconciler, books, run_printed, appcharge, db
    ):
        books.order("payment:p-1")
        books.close()
        take_back(books, "payment:p-1")
        appcharge.orders.append({"acOrderId": "o-1"})
        (row,) = db("SELECT public_id FROM transactions")
        report = f"order_id,type,amount_minor,currency,our_transaction_id\no-1,paid,999,USD,{row['public_id']}\n"
        run_printed(reconciler.remedies(reconciler.by_text("appcharge", report))["payment:p-1"])
        assert appcharge.refunded == [("o-1", "owner")]
        assert reconciler.results(reconciler.by_text("appcharge", report)) == {}

    def test_taken_back_here_and_a_refund_that_was_refused_there_differs_still(self, reconciler, books, appcharge, app):
        books.order("o-1")
        books.close()
        take_back(books, "o-1")
        refused = app.test_cli_runner().invoke(args=["appcharge", "refund", "demo", "o-1", "--user", "x"], input="y\n")
        assert refused.exit_code == 1
        assert reconciler.results(reconciler.by_text("appcharge", f"{ORDERS}o-1{PAID}")) == {"o-1": "refunded_here"}

    def test_taken_back_here_because_the_partner_said_so_is_asked_about_and_not_given_back_again(
        self, reconciler, books, call_appcharge, appcharge
    ):
        books.order("o-1")
        event = {"eventName": "order.refunded", "eventId": "e", "timestamp": 1784500000000, "orderId": "o-1"}
        call_appcharge("events", event)
        books.close()
        run = reconciler.by_text("appcharge", f"{ORDERS}o-1{PAID}")
        assert reconciler.differences(run) == {"o-1": ("refunded_here", "999", "USD", "ask_partner")}

    def test_charged_and_not_granted(self, reconciler, books, call_appcharge):
        books.close()
        report = f"{ORDERS}68e25eebdcb1278,paid,999,USD,2026-07-21T14:17:27Z\n"
        before = reconciler.by_text("appcharge", report)
        assert "Retry Award" in reconciler.remedies(before)["68e25eebdcb1278"]

        call_appcharge("orders", order())

        assert reconciler.results(reconciler.by_text("appcharge", report)) == {}

    def test_a_line_that_cannot_be_read(self, reconciler, books):
        books.order("o-1")
        books.close()
        report = f"{ORDERS}o-1{PAID}"
        before = reconciler.by_text("appcharge", report.replace("paid", "payout"))
        assert "put that line right" in reconciler.remedies(before)["o-1"]
        assert reconciler.results(reconciler.by_text("appcharge", report)) == {}


class TestPayments:
    @pytest.fixture
    def is_gone(self, reconciler, books, playcamp):
        """Whether nothing differs once the relay has worked, by a report and by what PlayCamp answers."""

        def check(report: str) -> bool:
            books.installation.new_relay().drain()
            by_text, by_api = reconciler.by_text("playcamp", report), reconciler.by_api("playcamp")
            return not by_text.summary and not by_api.summary

        return check

    def test_what_waits_is_sent_by_itself(self, reconciler, books, is_gone):
        books.pay("GP-1", "9.99", "USD", is_registered=False)
        books.close()
        before = reconciler.by_text("playcamp", OTHER_PAYMENT)
        assert reconciler.differences(before)["GP-1"] == ("missing_there", "999", "USD", "register_payment")
        assert set(reconciler.results(reconciler.by_api("playcamp"))) == {"GP-1"}
        reconciler.by_text("playcamp", OTHER_PAYMENT)
        assert is_gone(OTHER_PAYMENT)

    @pytest.mark.parametrize("payment", ["GP 'one'", "-GP"])
    def test_what_was_refused_is_sent_again(self, reconciler, books, run_printed, payment, is_gone):
        books.pay(payment, "9.99", "USD", is_registered=False)
        books.write(lambda tx: quarantine(tx, 1, "refused"))
        books.close()
        before = reconciler.by_text("playcamp", OTHER_PAYMENT)

        run_printed(reconciler.remedies(before)[payment])

        assert is_gone(OTHER_PAYMENT)

    def test_what_was_registered_long_before_is_asked_about(self, reconciler, books):
        books.pay("GP-1", "9.99", "USD")
        books.close()
        for _ in range(2):
            run = reconciler.by_text("playcamp", OTHER_PAYMENT)
            assert reconciler.differences(run) == {"GP-1": ("missing_there", "999", "USD", "ask_partner")}

    def test_what_is_parked_is_reported_whole(self, reconciler, books, push, is_gone):
        push(**GP_1, market="nowhere")
        books.close()
        report = f"{PAYMENTS}GP-1,9.99,USD,COMPLETED,\n"
        reconciler.by_text("playcamp", report)
        push(**GP_1)
        assert is_gone(report)

    @pytest.mark.parametrize("is_refused", [False, True])
    def test_a_refund_is_sent(self, reconciler, books, playcamp, run_printed, is_refused, is_gone):
        books.pay("GP-1", "9.99", "USD", is_registered=False)
        books.installation.new_relay().drain()
        books.refund_payment("GP-1", "2026-07-20")
        if is_refused:
            query = "UPDATE payments SET refund_state = 'quarantined', refund_next_at = NULL"
            books.write(lambda tx: tx.execute(query))
        books.close()
        report = f"{PAYMENTS}GP-1,9.99,USD,COMPLETED,2026-07-10T00:00:00Z\n"
        reconciler.by_api("playcamp")
        before = reconciler.by_text("playcamp", report)
        action = "redrive" if is_refused else "send_refund"
        assert reconciler.differences(before) == {"GP-1": ("refunded_here", "999", "USD", action)}

        if is_refused:
            run_printed(reconciler.remedies(before)["GP-1"])

        assert is_gone(report)

    def test_what_the_game_never_reported_is_reported(self, reconciler, books, push):
        books.close()
        report = f"{PAYMENTS}GP-1,9.99,USD,COMPLETED,2026-07-10T00:00:00Z\n"
        assert "have the game report it" in reconciler.remedies(reconciler.by_text("playcamp", report))["GP-1"]
        push(**GP_1)
        assert reconciler.results(reconciler.by_text("playcamp", report)) == {}

    def test_what_was_given_back_there_is_reported_as_refunded(self, reconciler, books, push):
        push(**GP_1)
        books.close()
        report = f"{PAYMENTS}GP-1,9.99,USD,REFUNDED,2026-07-10T00:00:00Z\n"
        before = reconciler.by_text("playcamp", report)
        assert reconciler.differences(before) == {"GP-1": ("refunded_there", "999", "USD", "report_refund")}
        push(**GP_1, status="refunded")
        assert reconciler.results(reconciler.by_text("playcamp", report)) == {}
