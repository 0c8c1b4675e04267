"""Months compared with the partners' own figures: what agrees, what does not, and what is at stake."""

import dataclasses
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from coinslot.base import clock
from coinslot.ledger.refunds import REFUNDED_AT
from coinslot.settlement import differences, jobs, months, purchases, reconciling, runs, states
from coinslot.settlement.differences import Difference, PartnerRow, Side, compare
from coinslot.settlement.runs import ReconciliationError, Run
from handlers.appcharge.api.month_report import row_of
from handlers.playcamp.payments import month_report
from tests.books import Books, stamp
from tests.fakes import appcharge as fake_appcharge
from tests.fakes.appcharge import FakeAppcharge
from tests.fakes.http import status
from tests.fakes.playcamp import PlayCamp
from tests.reconciler import FOREVER, add_row, seed_every_difference


class Died(Exception):
    """The process ends here."""


def die(*_: Any) -> None:
    raise Died


def unreconciled(books: Books) -> tuple[list[str], list[str]]:
    return states.unreconciled(books.connection, books.game.id, "2026-07")


def side(amount: int | None = 999, currency: str | None = "USD", *, is_refunded: bool = False) -> Side:
    return Side(None if amount is None else Decimal(amount), currency, is_refunded, None)


class TestOnePurchase:
    @pytest.mark.parametrize(
        ("ours", "theirs", "difference"),
        [
            (None, None, None),
            (side(), side(), None),
            (side(is_refunded=True), side(is_refunded=True), None),
            (side(is_refunded=True), side(None, is_refunded=True), None),
            (None, side(), ("missing_here", 999, "USD")),
            (None, side(is_refunded=True), None),
            (None, side(0), None),
            (None, side(None, is_refunded=True), None),
            (None, side(None), ("missing_here", None, "USD")),
            (side(), None, ("missing_there", 999, "USD")),
            (side(is_refunded=True), None, None),
            (side(), side(899), ("amount_differs", 100, "USD")),
            (side(), side(999, "EUR"), ("amount_differs", 999, "EUR")),
            (side(), side(999, None), None),
            (side(999, None), side(), None),
            (side(), side(899, None), ("amount_differs", 899, None)),
            (side(), side(is_refunded=True), ("refunded_there", 999, "USD")),
            (side(None), side(is_refunded=True), ("refunded_there", 999, "USD")),
            (side(is_refunded=True), side(), ("refunded_here", 999, "USD")),
            (side(None, None), side(), ("amount_differs", 999, "USD")),
            (side(None, None), side(0), None),
            (side(0, "EUR"), side(0, is_refunded=True), None),
        ],
    )
    def test_what_does_not_agree_has_a_name_and_a_sum(self, ours, theirs, difference):
        assert compare(ours, theirs) == (difference and Difference(*difference))

    def test_a_dispute_that_is_won_leaves_what_was_paid(self):
        rows = [
            PartnerRow("o-1", str(number), kind, "999", "USD", None)
            for number, kind in enumerate(("paid", "refunded", "reinstated"))
        ]
        assert differences.their_side(rows) == side()
        assert differences.their_side(rows[:2]).is_refunded

    def test_a_row_of_appcharges_report_is_read(self):
        assert row_of(fake_appcharge.transaction("t-1", type="dispute_funds_withdrawn", amount=-999)) == PartnerRow(
            "order-t-1", "t-1", "refunded", "999", "USD", "2026-01-05T10:00:00.000000Z", "70c2e3c8"
        )
        assert row_of(fake_appcharge.transaction("t-1", type="dispute_open")) is None
        for unreadable in ({}, {"transactionDetails": {"type": []}}):
            with pytest.raises(ValueError):
                row_of(unreadable)

    @pytest.mark.parametrize("changed", [{"type": "payout"}, {"amount": -999}, {"amount": "much"}, {"id": ""}])
    def test_a_row_that_cannot_be_read_keeps_its_order_and_what_it_says(self, changed):
        row = row_of(fake_appcharge.transaction("t-1", **changed))
        assert row is not None
        assert (row.reference, row.kind, row.amount_minor) == ("order-t-1", "unreadable", None)
        assert str(changed.get("amount", 999)) in (row.sample or "")


class TestAppcharge:
    @pytest.mark.parametrize("page_size", [1, 4, 1000])
    @pytest.mark.parametrize("tells", ["both", "query", "cursor"])
    def test_every_kind_of_difference_is_found_and_nothing_else(self, reconciler, books, appcharge, page_size, tells):
        expected = seed_every_difference(books, appcharge)
        appcharge.page_size, appcharge.tells = page_size, tells
        books.close()

        run = reconciler.by_api("appcharge")

        assert reconciler.differences(run) == expected
        assert run.matched == 4, "agrees, given-back, won, late"
        assert run.progress == 1
        (headline,) = runs.charged_but_not_granted([run])
        assert (headline.count, headline.stake_minor, headline.currency) == (2, Decimal("1011.5"), "USD")
        kinds = ("missing_there", "amount_differs", "refunded_there", "refunded_here")
        assert [(each.result, each.count) for each in run.summary] == [
            ("missing_here", 2),
            *((kind, 1) for kind in kinds),
        ]

    def test_the_same_again_finds_the_same_and_what_was_mended_is_gone(self, reconciler, books, appcharge, db):
        expected = seed_every_difference(books, appcharge)
        books.close()
        first = reconciler.by_api("appcharge")

        second = reconciler.by_api("appcharge")
        assert second.id != first.id
        assert reconciler.differences(second) == expected

        books.order("not-granted")
        books.order("fraction", 12)
        books.refund_order("there")
        third = reconciler.by_api("appcharge")
        assert set(reconciler.differences(third)) == {"not-there", "amount", "here", "fraction"}
        assert [run.id for run in runs.current_runs(books.connection, books.game.id)] == [third.id]

        books.installation.new_relay().drain()  # deletes what was replaced
        assert {row["id"] for row in db("SELECT * FROM reconciliations")} == {third.id}
        for table in ("partner_rows", "differences"):
            assert {row["reconciliation_id"] for row in db(f"SELECT * FROM {table}")} == {third.id}

    def test_a_run_goes_on_where_it_stopped(self, reconciler, books, appcharge):
        expected = seed_every_difference(books, appcharge)
        appcharge.page_size = 5
        books.close()
        run_id = reconciler.begin("appcharge")
        seen = []

        while reconciler.carry_on(run_id, "appcharge", deadline=0):  # one step, as if the process died after each
            seen.append(reconciler.run(run_id).progress)
            assert reconciler.begin("appcharge") == run_id

        assert reconciler.differences(reconciler.run(run_id)) == expected
        assert seen == sorted(seen)
        assert len(appcharge.requests) == 4, "no page was asked for twice"

    def test_in_the_background_it_is_the_relays_work(self, reconciler, books, appcharge):
        expected = seed_every_difference(books, appcharge)
        books.close()
        run_id = reconciler.begin("appcharge")

        books.installation.new_relay().drain()

        assert reconciler.run(run_id).is_done
        assert reconciler.differences(reconciler.run(run_id)) == expected

    def test_an_order_that_came_under_another_id_is_known_by_ours(self, reconciler, books, appcharge, db):
        books.order("payment:p-1")
        (row,) = db("SELECT public_id FROM transactions")
        add_row(appcharge, "real-order-id", publisherTransactionId=row["public_id"])
        books.close()

        run = reconciler.by_api("appcharge")

        assert (reconciler.differences(run), run.matched) == ({}, 1)

    def test_an_order_that_was_reported_again_under_its_proper_id_is_known_by_that(self, reconciler, books, appcharge):
        books.order("payment:p-1", keys=(("payment", "p-1"),), fingerprint="same", reference="p-1")
        books.order("o-1", keys=(("payment", "p-1"),), known_by=(("payment", "p-1"),), fingerprint="same")
        add_row(appcharge, "o-1", publisherTransactionId=None)
        books.close()

        run = reconciler.by_api("appcharge")

        assert (reconciler.differences(run), run.matched) == ({}, 1)

    def test_a_report_that_is_cut_short_is_no_report(self, reconciler, books, appcharge):
        add_row(appcharge, "o-1")
        books.order("o-1")
        books.close()
        run_id = reconciler.begin("appcharge")

        def cut_short(handler: Any) -> None:
            code, page = FakeAppcharge.report_transactions(appcharge, appcharge.requests[-1])
            appcharge.send(handler, (code, page | {"totalCount": 7}))

        appcharge.script.append(cut_short)
        with pytest.raises(Exception, match="incomplete: 1 of 7"):
            reconciler.carry_on(run_id, "appcharge")
        assert reconciler.run(run_id).state == "reading"

        reconciler.carry_on(run_id, "appcharge")
        assert reconciler.run(run_id).matched == 1

    @pytest.mark.parametrize(("has_payment", "state"), [(False, "reconciled"), (True, "closed")])
    def test_a_month_is_reconciled_by_itself_once_it_agrees_with_all(
        self, reconciler, books, appcharge, db, has_payment, state
    ):
        assert unreconciled(books) == ([], []), "an open month is compared with nobody"
        books.order("o-1")
        if has_payment:
            books.pay("GP-1")
        add_row(appcharge, "o-1")
        books.close()

        reconciler.by_api("appcharge")

        assert books.state() == state
        assert db("SELECT actor, subject FROM audit WHERE action = 'settlement.reconcile'") == [
            {"actor": "test", "subject": "2026-07 appcharge by api"}
        ]
        assert unreconciled(books) == (["playcamp"] if has_payment else [], [])
        if has_payment:
            with pytest.raises(months.SettlementError, match="say in a note"):
                books.write(lambda tx: states.accept(tx, books.game.id, "2026-07", "test", " "))
            books.write(lambda tx: states.accept(tx, books.game.id, "2026-07", "test", "no report"))
            assert books.steps()[-1].note == "no report (not reconciled: playcamp)"

    @pytest.mark.parametrize(
        "row",
        [
            {"orderId": ""},
            {"transactionDetails": None},
            {"transactionDetails": {"id": "x", "type": "payout", "amount": 1}},
            {"transactionDetails": {"id": "x", "type": "paid", "amount": "much", "currencyCode": "USD"}},
        ],
    )
    def test_what_cannot_be_read_does_not_agree(self, reconciler, books, appcharge, row):
        books.order("o-1")
        add_row(appcharge, "o-1")
        add_row(appcharge, "o-1", "dispute_open", 0)
        books.close()
        appcharge.transactions.append(fake_appcharge.transaction("x") | {"orderId": "o-1"} | row)

        run = reconciler.by_api("appcharge")

        assert run.rows_odd == 1
        names = {"o-1"} if row != {"orderId": ""} else set()
        assert reconciler.results(run) == dict.fromkeys(names, "unreadable")
        assert unreconciled(books) == ([], ["appcharge"])
        assert books.state() == "closed"

    def test_a_run_is_done_once_it_is_summed_up(self, reconciler, books, appcharge, monkeypatch):
        books.order("not-there")
        books.close()
        run_id = reconciler.begin("appcharge")

        with monkeypatch.context() as patched:
            patched.setattr(reconciling, "finish", die)
            with pytest.raises(Died):
                reconciler.carry_on(run_id, "appcharge")
        assert (reconciler.run(run_id).state, reconciler.run(run_id).is_done) == ("done", False)
        assert unreconciled(books) == (["appcharge"], [])

        reconciler.carry_on(run_id, "appcharge")
        assert [each.result for each in reconciler.run(run_id).summary] == ["missing_there"]

    def test_its_progress_is_a_guess_that_only_grows(self, reconciler, books, appcharge):
        books.close()
        run = reconciler.run(reconciler.begin("appcharge"))
        middle = clock.stamp((clock.seconds(run.month.starts_at) + clock.seconds(run.month.ends_at)) / 2)
        stages = [
            {"state": "reading", "rows_read": 5, "rows_expected": None},
            {"state": "reading", "rows_read": 5, "rows_expected": 10},
            {"state": "reading", "rows_read": 20, "rows_expected": 10},
            {"state": "comparing", "rows_compared": 5, "rows_read": 10},
            {"state": "comparing", "rows_read": 0},
            {"state": "searching", "cursor": ""},
            {"state": "searching", "cursor": json.dumps([middle, 7])},
            {"state": "searching", "cursor": json.dumps(["2026-08-02T00:00:00.000000Z", 7])},
            {"state": "done"},
        ]

        found = [round(dataclasses.replace(run, **stage).progress, 6) for stage in stages]

        assert found == [0.0, 0.3, 0.6, 0.7, 0.8, 0.8, 0.9, 1.0, 1.0]

    def test_a_run_that_was_replaced_is_deleted_a_portion_at_a_time(
        self, reconciler, books, appcharge, db, monkeypatch
    ):
        monkeypatch.setattr(runs, "ROWS_AT_ONCE", 2)
        for number in range(3):
            add_row(appcharge, f"x-{number}")
        books.close()
        for _ in range(2):
            reconciler.by_api("appcharge")

        calls = 1
        while calls < 20 and books.write(lambda tx: runs.delete_replaced(tx, books.game.id)):
            calls += 1

        assert calls == 4  # two with rows, one for the run itself, one that finds nothing
        assert [row["state"] for row in db("SELECT state FROM reconciliations")] == ["done"]
        assert [row["n"] for row in db("SELECT count(*) AS n FROM partner_rows")] == [3]

    @pytest.mark.parametrize("deadline", [0, FOREVER])
    def test_a_month_that_was_reopened_is_compared_anew(self, reconciler, books, appcharge, deadline):
        add_row(appcharge, "o-1")
        books.order("o-1")
        books.close()
        before = reconciler.begin("appcharge")
        reconciler.carry_on(before, "appcharge", deadline)

        books.reopen()
        books.order("o-9")
        books.close()

        books.close("2026-08")
        reconciler.begin("appcharge", "2026-08")
        assert unreconciled(books) == (["appcharge"], [])
        assert not reconciler.carry_on(before, "appcharge")
        again = reconciler.by_api("appcharge")
        assert again.id != before
        assert set(reconciler.differences(again)) == {"o-9"}
        names = [run.month.name for run in runs.current_runs(books.connection, books.game.id)]
        assert names == ["2026-08", "2026-07"]

    def test_an_open_month_is_closed_first_and_who_cannot_be_asked_gives_a_file(self, reconciler, books, appcharge):
        with pytest.raises(months.SettlementError, match="open"):
            reconciler.begin("appcharge")
        books.close()
        with pytest.raises(ReconciliationError, match="file"):
            reconciler.begin("playcamp")
        with pytest.raises(ReconciliationError, match="no figures"):
            reconciler.begin("playtem")

    def test_pages_of_differences_miss_and_repeat_nothing(self, reconciler, books, appcharge):
        for number in range(25):
            add_row(appcharge, f"x-{number:02d}")
            books.order(f"y-{number:02d}")
        books.close()
        run = reconciler.by_api("appcharge")

        seen, after = [], 0
        while rows := runs.find_differences(books.connection, run.id, after=after, limit=7):
            seen += [row["reference"] for row in rows]
            after = rows[-1]["id"]

        assert sorted(seen) == [f"{letter}-{number:02d}" for letter in "xy" for number in range(25)]
        (row,) = runs.find_differences(books.connection, run.id, reference="x-03")
        assert (row["result"], row["theirs_minor"], row["ours_minor"]) == ("missing_here", "999", None)
        assert runs.find_differences(books.connection, run.id, result="refunded_here") == []


LOST, WON = "dispute_funds_withdrawn", "dispute_funds_reinstated"


class TestAtTheEndOfTheMonth:
    """A report of movements is compared with what was so when its month ended."""

    @pytest.mark.parametrize(
        ("here", "there", "result"),
        [
            # A dispute that was lost in July and won in August.
            (["chargeback 2026-07-20T00", "reinstated 2026-08-05T00"], [f"{LOST} 2026-07-20T00"], None),
            (
                ["chargeback 2026-07-20T00", "reinstated 2026-08-05T00"],
                [f"{LOST} 2026-07-20T00", f"{WON} 2026-08-05T00"],
                None,
            ),
            (
                ["chargeback 2026-07-20T00", "reinstated 2026-07-25T00", "refund 2026-08-03T00"],
                [f"{LOST} 2026-07-20T00", f"{WON} 2026-07-25T00"],
                None,
            ),
            # Within a second of midnight, on either side of it.
            (["refund 2026-08-01T00:00:01"], ["refund 2026-07-31T23:59:59"], None),
            (["refund 2026-07-31T23:59:59"], [], None),
            (["chargeback 2026-08-01T00:00:01", "reinstated 2026-08-20T00"], [f"{LOST} 2026-07-31T23:59:59"], None),
            # Given back in August: not in July's report, unless that reaches so far.
            (["refund 2026-08-03T00"], [], None),
            (["refund 2026-08-03T00"], ["refund 2026-08-03T00"], None),
            ([], ["refund 2026-08-03T00"], "refunded_there"),
            (["refund 2026-07-20T00"], [], "refunded_here"),
            (["reinstated 2026-07-25T00"], ["refund 2026-07-20T00"], "refunded_there"),
        ],
    )
    def test_refunds_and_disputes_count_as_they_stood(self, reconciler, books, appcharge, here, there, result):
        books.order("o-1")
        for reason, at in map(str.split, here):
            books.refund_order("o-1", reason, at)
        for kind, at in map(str.split, ["paid 2026-07-10", *there]):
            add_row(appcharge, "o-1", kind, 999 if kind in ("paid", WON) else -999, at=stamp(at))
        books.close()
        assert reconciler.results(reconciler.by_api("appcharge")) == ({"o-1": result} if result else {})

    def test_what_was_given_back_later_and_is_not_in_the_report_is_missing_there(self, reconciler, books, appcharge):
        for order_id, at in (("o-1", "2026-08-03"), ("o-2", "2026-07-20")):
            books.order(order_id)
            books.refund_order(order_id, at=at)
        books.close()
        assert reconciler.results(reconciler.by_api("appcharge")) == {"o-1": "missing_there"}

    def test_a_free_order_without_a_price_agrees_with_one_told_as_nothing(self, reconciler, books, appcharge):
        books.order("o-1", None, None, kind="bonus")
        add_row(appcharge, "o-1", amount=0)
        books.close()
        run = reconciler.by_api("appcharge")
        assert (reconciler.results(run), run.matched) == ({}, 1)

    def test_a_refund_in_hours_that_only_our_month_has_is_not_missed_there(self, reconciler, books, studio):
        studio.config("settlement.zone", "America/New_York")
        books.order("o-1")
        books.refund_order("o-1", at="2026-08-01T02")
        books.close()
        text = "order_id,type,amount_minor,currency,timestamp\no-1,paid,999,USD,2026-07-10T00:00:00Z\n"
        assert reconciler.results(reconciler.by_text("appcharge", text)) == {}

    def test_a_payment_given_back_after_the_month_agrees_with_its_report(self, reconciler, books):
        books.pay("GP-1", "9.99", "USD")
        books.refund_payment("GP-1", "2026-08-03")
        books.close()
        text = "transactionId,amount,currency,status\nGP-1,9.99,USD,COMPLETED\n"
        assert reconciler.results(reconciler.by_text("playcamp", text)) == {}

    def test_what_is_refunded_is_the_same_here_as_in_the_months_lines(self, reconciler, books):
        chance = random.Random(7)
        for number in range(60):
            books.order(f"o-{number}")
            for _ in range(chance.randint(0, 4)):
                day = f"2026-0{chance.randint(7, 8)}-{chance.randint(11, 14)}"
                at = f"{day}T00:00:0{chance.randint(0, 1)}.{number:06d}Z"
                reason = chance.choice(["refund", "chargeback", "chargeback", "reinstated"])
                books.refund_order(f"o-{number}", reason, at)
        books.close()
        run = reconciler.run(reconciler.begin("appcharge", file=(Path(__file__), reconciler.layout("appcharge"))))
        query = f"SELECT reference, {REFUNDED_AT} AS at FROM transactions t WHERE kind = 'purchase'"
        in_lines = {row["reference"]: row["at"] is not None for row in books.connection.execute(query)}
        ours = purchases.by_id(books.connection, run, list(in_lines))
        assert {name: differences.is_refunded(own.refunds) for name, own in ours.items()} == in_lines
        assert 10 < sum(in_lines.values()) < 50


class TestANewerReport:
    def test_a_month_is_not_reconciled_any_more_when_a_newer_report_disagrees(self, reconciler, books, appcharge):
        books.order("o-1")
        add_row(appcharge, "o-1")
        books.close()
        reconciler.by_api("appcharge")
        assert books.state() == "reconciled"

        add_row(appcharge, "o-2")
        reconciler.by_api("appcharge")
        newest = books.steps()[-1]
        assert (newest.state, newest.note) == ("closed", "a newer report of appcharge does not agree")
        assert books.state() == "closed"

        appcharge.transactions.pop()
        reconciler.by_api("appcharge")
        assert books.state() == "reconciled"

        books.write(lambda tx: states.advance(tx, books.game.id, "2026-07", "payment_confirmed", "test"))
        add_row(appcharge, "o-2")
        reconciler.by_api("appcharge")
        assert books.state() == "payment_confirmed", "it stays where it is once its payment is confirmed"

    def test_what_was_accepted_stays_so_until_the_next_report(self, reconciler, books, appcharge):
        books.order("o-1")
        books.close()
        first = reconciler.by_api("appcharge")
        books.write(lambda tx: states.accept(tx, books.game.id, "2026-07", "test", "it is known"))
        reconciler.carry_on(first.id, "appcharge")
        assert books.state() == "reconciled"
        assert states.disagreeing(books.connection, books.game.id, "2026-07") == []

        reconciler.by_api("appcharge")
        assert books.state() == "closed"


class TestPlayCamp:
    def known_there(self, playcamp: PlayCamp, transaction_id: str, amount: str, status: str = "COMPLETED") -> None:
        known = {"id": 1, "transactionId": transaction_id, "userId": "alice", "amount": Decimal(amount)}
        known |= {"currency": "USD", "status": status, "purchasedAt": "2026-07-10T00:00:00.000Z"}
        playcamp.payments[transaction_id] = known

    def test_each_payment_is_asked_for(self, reconciler, books, playcamp):
        for name in ("agrees", "given/back", "amount", "there", "here", "nowhere"):
            books.pay(name, "9.99", "USD")
        books.refund_payment("given/back")
        books.refund_payment("here")
        books.pay("test", "9.99", "USD", is_test=True)
        for name in ("agrees", "here"):
            self.known_there(playcamp, name, "9.99")
        for name in ("given/back", "there"):
            self.known_there(playcamp, name, "9.99", "REFUNDED")
        self.known_there(playcamp, "amount", "8.99")
        books.close()

        run = reconciler.by_api("playcamp")

        assert reconciler.differences(run) == {
            "amount": ("amount_differs", "100", "USD", "ask_partner"),
            "there": ("refunded_there", "999", "USD", "report_refund"),
            "here": ("refunded_here", "999", "USD", "send_refund"),
            "nowhere": ("missing_there", "999", "USD", "ask_partner"),
        }
        assert run.matched == 2

    def test_trouble_is_waited_out_and_nothing_asked_twice(self, reconciler, books, playcamp, monkeypatch):
        monkeypatch.setattr(month_report, "PAYMENTS_AT_ONCE", 2)
        for number in range(5):
            books.pay(f"GP-{number}", "9.99", "USD")
            self.known_there(playcamp, f"GP-{number}", "9.99")
        books.close()
        run_id = reconciler.begin("playcamp")
        playcamp.trouble("GET", "/v1/server/payments/GP-3", status(401, b'{"error": "no"}'))

        with pytest.raises(Exception, match="401"):
            reconciler.carry_on(run_id, "playcamp")
        assert reconciler.run(run_id).rows_read == 2
        reconciler.carry_on(run_id, "playcamp")

        assert (reconciler.run(run_id).matched, reconciler.differences(reconciler.run(run_id))) == (5, {})
        assert playcamp.routes.count("GET /v1/server/payments/GP-0") == 1

    def test_a_file_tells_what_the_game_never_reported(self, reconciler, books):
        books.pay("GP-1", "9.99", "USD")
        books.pay("GP-2", "9.99", "USD")
        books.close()

        run = reconciler.by_text(
            "playcamp",
            "\ufeffPayment,Gross,Currency,status\n"
            "GP-1,9.99,usd,COMPLETED\n"
            "GP-2,9.99,USD,REFUNDED\n"
            "GP-2,9.99,USD,REFUNDED\n"
            "GP-9,19.99,USD,COMPLETED\n"
            "GP-8,5.00,USD,CANCELLED\n"
            "GP-7,none,USD,COMPLETED\n"
            "GP-6,1.00,USD,HALF\n"
            ",,,\n",
            reference="Payment",
            amount="Gross",
        )

        assert reconciler.differences(run) == {
            "GP-2": ("refunded_there", "999", "USD", "report_refund"),
            "GP-9": ("missing_here", "1999", "USD", "report_payment"),
            "GP-7": ("unreadable", None, "USD", "read_line"),
            "GP-6": ("unreadable", None, "USD", "read_line"),
        }
        assert (run.matched, run.rows_odd) == (1, 2)

    def test_a_file_broken_off_goes_on_and_another_one_begins_anew(self, reconciler, books, tmp_path, monkeypatch):
        monkeypatch.setattr(runs, "ROWS_AT_ONCE", 2)
        for number in range(5):
            books.pay(f"GP-{number}", "9.99", "USD")
        books.close()
        path = tmp_path / "report.csv"
        path.write_text("transactionId,amount,currency\n" + "".join(f"GP-{n},9.99,USD\n" for n in range(5)))
        file = (path, reconciler.layout("playcamp"))
        run_id = reconciler.begin("playcamp", file=file)

        def die_at_four(run: Run) -> None:
            if run.rows_read == 4:
                die()

        with pytest.raises(Died):
            jobs.take_file(books.installation.database, run_id, *file, die_at_four)
        assert reconciler.run(run_id).state == "reading"
        assert reconciler.begin("playcamp", file=file) == run_id
        jobs.take_file(books.installation.database, run_id, *file)
        reconciler.carry_on(run_id, "playcamp")
        assert (reconciler.run(run_id).rows_read, reconciler.run(run_id).matched) == (5, 5)

        path.write_text("transactionId,amount,currency\nGP-1,9.99,USD\n")
        other = reconciler.by_file("playcamp", path)
        assert other.id != run_id
        assert len(reconciler.differences(other)) == 4
