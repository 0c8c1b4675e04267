"""Months held against the partners' own figures: what agrees, what does not, and what is at stake."""

import csv
import io
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from coinslot.ledger.refunds import REFUNDED_AT
from coinslot.settlement import (
    closing,
    differences,
    jobs,
    months,
    purchases,
    reconciling,
    report_files,
    runs,
    sorting,
    states,
)
from coinslot.settlement.columns import Layout
from coinslot.settlement.differences import Difference, PartnerRow, Side, compare
from coinslot.settlement.runs import ReconciliationError, Run
from handlers.appcharge.api.month_report import row_of
from tests.books import Books
from tests.fakes import appcharge as fake_appcharge
from tests.fakes.appcharge import FakeAppcharge
from tests.fakes.http import status
from tests.fakes.playcamp import PlayCamp
from tests.reconciler import FOREVER, Room


@pytest.fixture
def books(installation, studio):
    return Books(installation, studio)


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
def room(app, books):
    return Room(app, books)


class TestJudging:
    """One purchase as both sides have it."""

    @pytest.mark.parametrize(
        ("ours", "theirs", "verdict"),
        [
            (None, None, None),
            (Side(Decimal(999), "USD", False, None), Side(Decimal("999.0"), "USD", False, None), None),
            (Side(Decimal(999), "USD", True, None), Side(Decimal(999), "USD", True, None), None),
            (Side(Decimal(999), "USD", True, None), Side(None, "USD", True, None), None),
            (None, Side(Decimal(999), "USD", False, None), Difference("missing_here", Decimal(999), "USD")),
            (None, Side(Decimal(999), "USD", True, None), None),
            (None, Side(Decimal(0), "USD", False, None), None),
            (None, Side(None, "USD", True, None), None),
            (None, Side(None, "USD", False, None), Difference("missing_here", None, "USD")),
            (Side(Decimal(999), "USD", False, None), None, Difference("missing_there", Decimal(999), "USD")),
            (Side(Decimal(999), "USD", True, None), None, None),
            (
                Side(Decimal(999), "USD", False, None),
                Side(Decimal(899), "USD", False, None),
                Difference("amount_differs", Decimal(100), "USD"),
            ),
            (
                Side(Decimal(999), "USD", False, None),
                Side(Decimal(999), "EUR", False, None),
                Difference("amount_differs", Decimal(999), "EUR"),
            ),
            (
                Side(Decimal(999), "USD", False, None),
                Side(Decimal(999), "USD", True, None),
                Difference("refunded_there", Decimal(999), "USD"),
            ),
            (
                Side(Decimal(999), "USD", True, None),
                Side(Decimal(999), "USD", False, None),
                Difference("refunded_here", Decimal(999), "USD"),
            ),
            (
                Side(None, None, False, None),
                Side(Decimal(999), "USD", False, None),
                Difference("amount_differs", Decimal(999), "USD"),
            ),
            (Side(None, None, False, None), Side(Decimal(0), "USD", False, None), None),
            (Side(Decimal(0), "EUR", False, None), Side(Decimal(0), "USD", True, None), None),
        ],
    )
    def test_what_does_not_agree_has_a_name_and_a_sum(self, ours, theirs, verdict):
        assert compare(ours, theirs) == verdict

    def test_a_dispute_that_is_won_leaves_what_was_paid(self):
        rows = [
            PartnerRow("o-1", str(number), kind, "999", "USD", None)
            for number, kind in enumerate(("paid", "refunded", "reinstated"))
        ]
        assert differences.their_side(rows) == Side(Decimal(999), "USD", False, None)
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


def told(fake: FakeAppcharge, order_id: str, kind: str = "paid", amount: Any = 999, **more: Any) -> None:
    row = fake_appcharge.transaction(f"{order_id}-{kind}", "2026-07-10T10:00:00.000Z", type=kind, amount=amount)
    fake.transactions.append(row | {"orderId": order_id} | more)


def seed_every_difference(books: Books, appcharge: FakeAppcharge) -> dict[str, tuple[Any, ...]]:
    """Orders on both sides; returns what does not agree."""
    for order_id in ("agrees", "given-back", "won", "amount", "there", "here", "late", "not-there", "free", "gone"):
        gross = 0 if order_id == "free" else 999
        books.order(order_id, gross, kind="bonus" if order_id == "free" else "purchase")
    books.refund_order("given-back")
    books.refund_order("here")
    books.refund_order("gone")
    books.refund_order("late", at="2026-08-03T00:00:00.000000Z")
    for order_id in ("agrees", "given-back", "won", "there", "here", "late", "not-granted", "never-mind"):
        told(appcharge, order_id)
    told(appcharge, "amount", amount=899)
    told(appcharge, "fraction", amount="12.5")
    for order_id in ("given-back", "there", "never-mind"):
        told(appcharge, order_id, "refund", -999)
    told(appcharge, "won", "dispute_funds_withdrawn", -999)
    told(appcharge, "won", "dispute_funds_reinstated")
    told(appcharge, "free-and-lost", amount=0)
    return {
        "not-granted": ("missing_here", "999", "USD", "request_award"),
        "fraction": ("missing_here", "12.5", "USD", "request_award"),
        "not-there": ("missing_there", "999", "USD", "ask_partner"),
        "amount": ("amount_differs", "100", "USD", "ask_partner"),
        "there": ("refunded_there", "999", "USD", "record_refund"),
        "here": ("refunded_here", "999", "USD", "refund_order"),
    }


class TestAppcharge:
    @pytest.mark.parametrize("page_size", [1, 4, 1000])
    @pytest.mark.parametrize("tells", ["both", "query", "cursor"])
    def test_every_kind_of_difference_is_found_and_nothing_else(self, room, books, appcharge, page_size, tells):
        expected = seed_every_difference(books, appcharge)
        appcharge.page_size, appcharge.tells = page_size, tells
        books.close()

        run = room.by_api("appcharge")

        assert room.differences(run) == expected
        assert run.matched == 4, "agrees, given-back, won, late"
        assert run.progress == 1
        (headline,) = runs.charged_but_not_granted([run])
        assert (headline.count, headline.stake_minor, headline.currency) == (2, Decimal("1011.5"), "USD")
        assert {(each.result, each.count) for each in run.summary} == {
            ("missing_here", 2),
            ("missing_there", 1),
            ("amount_differs", 1),
            ("refunded_there", 1),
            ("refunded_here", 1),
        }

    def test_the_same_again_finds_the_same_and_what_was_mended_is_gone(self, room, books, appcharge):
        expected = seed_every_difference(books, appcharge)
        books.close()
        first = room.by_api("appcharge")

        second = room.by_api("appcharge")
        assert second.id != first.id
        assert room.differences(second) == expected

        books.order("not-granted")
        books.order("fraction", 12)
        books.refund_order("there")
        third = room.by_api("appcharge")
        assert set(room.differences(third)) == {"not-there", "amount", "here", "fraction"}
        assert [run.id for run in runs.current_runs(books.installation.database.read(), books.game.id)] == [third.id]

    def test_what_was_replaced_is_cleared_away_by_the_job(self, room, books, appcharge, db):
        seed_every_difference(books, appcharge)
        books.close()
        room.by_api("appcharge")
        last = room.by_api("appcharge")

        books.installation.new_relay().drain()

        assert {row["id"] for row in db("SELECT * FROM reconciliations")} == {last.id}
        assert {row["reconciliation_id"] for row in db("SELECT * FROM partner_rows")} == {last.id}
        assert {row["reconciliation_id"] for row in db("SELECT * FROM differences")} == {last.id}

    def test_a_run_goes_on_where_it_stopped(self, room, books, appcharge):
        expected = seed_every_difference(books, appcharge)
        appcharge.page_size = 5
        books.close()
        run_id = room.begin("appcharge")
        seen = []

        while room.carry_on(run_id, "appcharge", deadline=0):  # one step at a time, as if the process died after each
            seen.append(room.run(run_id).progress)
            assert room.begin("appcharge") == run_id

        assert room.differences(room.run(run_id)) == expected
        assert seen == sorted(seen)
        assert len(appcharge.requests) == 4, "no page was asked for twice"

    def test_in_the_background_it_is_the_relays_work(self, room, books, appcharge):
        expected = seed_every_difference(books, appcharge)
        books.close()
        run_id = room.begin("appcharge")

        books.installation.new_relay().drain()

        assert room.run(run_id).is_done
        assert room.differences(room.run(run_id)) == expected

    def test_an_order_that_came_under_another_id_is_known_by_ours(self, room, books, appcharge, db):
        books.order("payment:p-1")
        (row,) = db("SELECT public_id FROM transactions")
        told(appcharge, "real-order-id", publisherTransactionId=row["public_id"])
        books.close()

        run = room.by_api("appcharge")

        assert (room.differences(run), run.matched) == ({}, 1)

    def test_an_order_that_was_reported_again_under_its_proper_id_is_known_by_that(self, room, books, appcharge):
        books.order("payment:p-1", keys=(("payment", "p-1"),), fingerprint="same", reference="p-1")
        books.order("o-1", keys=(("payment", "p-1"),), known_by=(("payment", "p-1"),), fingerprint="same")
        told(appcharge, "o-1", publisherTransactionId=None)
        books.close()

        run = room.by_api("appcharge")

        assert (room.differences(run), run.matched) == ({}, 1)

    def test_a_report_that_is_cut_short_is_no_report(self, room, books, appcharge, monkeypatch):
        told(appcharge, "o-1")
        books.order("o-1")
        books.close()
        run_id = room.begin("appcharge")
        report = FakeAppcharge.report_transactions

        def short(self, request):
            status, page = report(self, request)
            return status, page | {"totalCount": 7}

        appcharge.script.append(lambda handler: appcharge.send(handler, short(appcharge, appcharge.requests[-1])))
        with pytest.raises(Exception, match="incomplete: 1 of 7"):
            room.carry_on(run_id, "appcharge")
        assert room.run(run_id).state == "reading"

        room.carry_on(run_id, "appcharge")
        assert room.run(run_id).matched == 1

    def test_a_month_that_agrees_is_reconciled_by_itself(self, room, books, appcharge):
        books.order("o-1")
        told(appcharge, "o-1")
        books.close()

        room.by_api("appcharge")

        found = months.find_closed(books.installation.database.read(), books.game.id, "2026-07")
        assert found is not None
        assert found.state == "reconciled"

    def test_a_month_that_does_not_agree_with_all_waits_for_a_person(self, room, books, appcharge):
        books.order("o-1")
        books.pay("GP-1")
        told(appcharge, "o-1")
        books.close()

        room.by_api("appcharge")

        found = months.find_closed(books.installation.database.read(), books.game.id, "2026-07")
        assert found is not None
        assert found.state == "closed"
        assert states.unreconciled(books.installation.database.read(), books.game.id, "2026-07") == (["playcamp"], [])

    @pytest.mark.parametrize(
        "row",
        [
            {"orderId": ""},
            {"transactionDetails": None},
            {"transactionDetails": {"id": "x", "type": "payout", "amount": 1}},
            {"transactionDetails": {"id": "x", "type": "paid", "amount": "much", "currencyCode": "USD"}},
        ],
    )
    def test_what_cannot_be_read_does_not_agree(self, room, books, appcharge, row):
        books.order("o-1")
        told(appcharge, "o-1")
        told(appcharge, "o-1", "dispute_open", 0)
        books.close()
        appcharge.transactions.append(fake_appcharge.transaction("x") | {"orderId": "o-1"} | row)

        run = room.by_api("appcharge")

        assert run.rows_odd == 1
        names = {"o-1"} if row != {"orderId": ""} else set()
        assert {name: found[0] for name, found in room.differences(run).items()} == dict.fromkeys(names, "unreadable")
        assert states.unreconciled(books.installation.database.read(), books.game.id, "2026-07") == ([], ["appcharge"])
        found = months.find_closed(books.installation.database.read(), books.game.id, "2026-07")
        assert found is not None
        assert found.state == "closed"

    def test_a_run_is_done_once_it_is_summed_up(self, room, books, appcharge, monkeypatch):
        books.order("not-there")
        books.close()
        run_id = room.begin("appcharge")

        class Died(Exception):
            pass

        def die(*_: Any) -> None:
            raise Died

        with monkeypatch.context() as patched:
            patched.setattr(reconciling, "finish", die)
            with pytest.raises(Died):
                room.carry_on(run_id, "appcharge")
        assert (room.run(run_id).state, room.run(run_id).is_done) == ("done", False)
        assert states.unreconciled(books.installation.database.read(), books.game.id, "2026-07") == (["appcharge"], [])

        room.carry_on(run_id, "appcharge")
        assert [each.result for each in room.run(run_id).summary] == ["missing_there"]

    @pytest.mark.parametrize("deadline", [0, FOREVER])
    def test_a_month_that_was_reopened_is_held_against_anew(self, room, books, appcharge, deadline):
        told(appcharge, "o-1")
        books.order("o-1")
        books.close()
        before = room.begin("appcharge")
        room.carry_on(before, "appcharge", deadline)

        books.installation.database.write_here(lambda tx: closing.reopen(tx, books.game.id, "2026-07", "test", "why"))
        books.order("o-9")
        books.close()

        assert states.unreconciled(books.installation.database.read(), books.game.id, "2026-07") == (["appcharge"], [])
        assert not room.carry_on(before, "appcharge")
        again = room.by_api("appcharge")
        assert again.id != before
        assert set(room.differences(again)) == {"o-9"}

    def test_an_open_month_is_closed_first(self, room, appcharge):
        with pytest.raises(months.SettlementError, match="open"):
            room.begin("appcharge")

    def test_who_cannot_be_asked_gives_a_file(self, room, books, studio):
        books.close()
        with pytest.raises(ReconciliationError, match="file"):
            room.begin("playcamp")
        with pytest.raises(ReconciliationError, match="no figures"):
            room.begin("playtem")


class TestAtTheEndOfTheMonth:
    """A report of movements is compared with what was so when its month ended."""

    def july(self, appcharge: FakeAppcharge, *rows: tuple[str, str]) -> None:
        for number, (kind, at) in enumerate((("paid", "2026-07-10T00:00:00.000Z"), *rows)):
            amount = 999 if kind in ("paid", "dispute_funds_reinstated") else -999
            row = fake_appcharge.transaction(f"t-{number}", at, type=kind, amount=amount)
            appcharge.transactions.append(row | {"orderId": "o-1"})

    @pytest.mark.parametrize(
        ("here", "there", "results"),
        [
            # A dispute that was lost in July and won in August.
            (
                [("chargeback", "2026-07-20T00"), ("reinstated", "2026-08-05T00")],
                [("dispute_funds_withdrawn", "2026-07-20T00")],
                {},
            ),
            (
                [("chargeback", "2026-07-20T00"), ("reinstated", "2026-08-05T00")],
                [("dispute_funds_withdrawn", "2026-07-20T00"), ("dispute_funds_reinstated", "2026-08-05T00")],
                {},
            ),
            (
                [("chargeback", "2026-07-20T00"), ("reinstated", "2026-07-25T00"), ("refund", "2026-08-03T00")],
                [("dispute_funds_withdrawn", "2026-07-20T00"), ("dispute_funds_reinstated", "2026-07-25T00")],
                {},
            ),
            # Within a second of midnight, on either side of it.
            ([("refund", "2026-08-01T00:00:01")], [("refund", "2026-07-31T23:59:59")], {}),
            ([("refund", "2026-07-31T23:59:59")], [], {}),
            (
                [("chargeback", "2026-08-01T00:00:01"), ("reinstated", "2026-08-20T00")],
                [("dispute_funds_withdrawn", "2026-07-31T23:59:59")],
                {},
            ),
            # Given back in August: not in July's report, unless that reaches so far.
            ([("refund", "2026-08-03T00")], [], {}),
            ([("refund", "2026-08-03T00")], [("refund", "2026-08-03T00")], {}),
            ([], [("refund", "2026-08-03T00")], {"o-1": "refunded_there"}),
            ([("refund", "2026-07-20T00")], [], {"o-1": "refunded_here"}),
            ([("reinstated", "2026-07-25T00")], [("refund", "2026-07-20T00")], {"o-1": "refunded_there"}),
        ],
    )
    def test_refunds_and_disputes_count_as_they_stood(self, room, books, appcharge, here, there, results):
        def stamp(at: str) -> str:
            return at + ":00:00"[: 19 - len(at)] + ".000000Z"

        books.order("o-1")
        for reason, at in here:
            books.refund_order("o-1", reason, stamp(at))
        self.july(appcharge, *((kind, stamp(at)) for kind, at in there))
        books.close()
        assert room.results(room.by_api("appcharge")) == results

    def test_what_was_given_back_later_and_is_not_in_the_report_is_missing_there(self, room, books, appcharge):
        books.order("o-1")
        books.refund_order("o-1", at="2026-08-03T00:00:00.000000Z")
        books.order("o-2")
        books.refund_order("o-2", at="2026-07-20T00:00:00.000000Z")
        books.close()
        assert room.results(room.by_api("appcharge")) == {"o-1": "missing_there"}

    def test_a_free_order_without_a_price_agrees_with_one_told_as_nothing(self, room, books, appcharge):
        books.order("o-1", None, None, kind="bonus")
        told(appcharge, "o-1", amount=0)
        books.close()
        run = room.by_api("appcharge")
        assert (room.results(run), run.matched) == ({}, 1)

    def test_a_refund_in_hours_that_only_our_month_has_is_not_missed_there(self, room, books, studio):
        studio.config("settlement.zone", "America/New_York")
        books.order("o-1")
        books.refund_order("o-1", at="2026-08-01T02:00:00.000000Z")
        books.close()
        text = "order_id,type,amount_minor,currency,timestamp\no-1,paid,999,USD,2026-07-10T00:00:00Z\n"
        assert room.results(room.by_text("appcharge", text)) == {}

    def test_a_payment_given_back_after_the_month_agrees_with_its_report(self, room, books):
        books.pay("GP-1", "9.99", "USD")
        books.refund_payment("GP-1", "2026-08-03T00:00:00.000000Z")
        books.close()
        text = "transactionId,amount,currency,status\nGP-1,9.99,USD,COMPLETED\n"
        assert room.results(room.by_text("playcamp", text)) == {}


def test_what_is_refunded_is_the_same_here_as_in_the_months_lines(room, books):
    chance = random.Random(7)
    for number in range(60):
        books.order(f"o-{number}")
        for _ in range(chance.randint(0, 4)):
            at = f"2026-0{chance.randint(7, 8)}-{chance.randint(11, 14)}T00:00:0{chance.randint(0, 1)}.{number:06d}Z"
            books.refund_order(f"o-{number}", chance.choice(["refund", "chargeback", "chargeback", "reinstated"]), at)
    books.close()
    connection = books.installation.database.read()
    run = room.run(room.begin("appcharge", file=(Path(__file__), Layout.of(room.partners["appcharge"].report, {}))))
    rows = connection.execute(f"SELECT reference, {REFUNDED_AT} AS at FROM transactions t WHERE kind = 'purchase'")
    in_lines = {row["reference"]: row["at"] is not None for row in rows}
    ours = purchases.by_id(connection, run, list(in_lines))
    assert {name: differences.is_refunded(own.refunds) for name, own in ours.items()} == in_lines
    assert 10 < sum(in_lines.values()) < 50


class TestANewerReport:
    def state(self, books: Books) -> str:
        found = months.find_closed(books.installation.database.read(), books.game.id, "2026-07")
        assert found is not None
        return found.state

    def test_a_month_is_not_reconciled_any_more_when_a_newer_report_disagrees(self, room, books, appcharge):
        books.order("o-1")
        told(appcharge, "o-1")
        books.close()
        room.by_api("appcharge")
        assert self.state(books) == "reconciled"

        told(appcharge, "o-2")
        room.by_api("appcharge")
        assert self.state(books) == "closed"
        newest = months.steps(books.installation.database.read(), books.game.id, "2026-07")[-1]
        assert (newest.state, newest.note) == ("closed", "a newer report of appcharge does not agree")

        appcharge.transactions.pop()
        room.by_api("appcharge")
        assert self.state(books) == "reconciled"

    def test_what_was_accepted_stays_so_until_the_next_report(self, room, books, appcharge):
        books.order("o-1")
        books.close()
        first = room.by_api("appcharge")
        books.installation.database.write(lambda tx: states.accept(tx, books.game.id, "2026-07", "test", "it is known"))
        room.carry_on(first.id, "appcharge")
        assert self.state(books) == "reconciled"
        assert states.disagreeing(books.installation.database.read(), books.game.id, "2026-07") == []

        room.by_api("appcharge")
        assert self.state(books) == "closed"

    def test_a_month_whose_payment_is_confirmed_stays_where_it_is(self, room, books, appcharge):
        books.order("o-1")
        told(appcharge, "o-1")
        books.close()
        room.by_api("appcharge")
        books.installation.database.write(
            lambda tx: states.advance(tx, books.game.id, "2026-07", "payment_confirmed", "test", "")
        )
        told(appcharge, "o-2")
        room.by_api("appcharge")
        assert self.state(books) == "payment_confirmed"


class TestPlayCamp:
    def known_there(self, playcamp: PlayCamp, transaction_id: str, amount: Any, status: str = "COMPLETED") -> None:
        playcamp.payments[transaction_id] = {
            "id": 1,
            "transactionId": transaction_id,
            "userId": "alice",
            "amount": amount,
            "currency": "USD",
            "status": status,
            "purchasedAt": "2026-07-10T00:00:00.000Z",
        }

    def test_each_payment_is_asked_for(self, room, books, playcamp):
        for name in ("agrees", "given/back", "amount", "there", "here", "nowhere"):
            books.pay(name, "9.99", "USD")
        books.refund_payment("given/back")
        books.refund_payment("here")
        books.pay("test", "9.99", "USD", is_test=True)
        self.known_there(playcamp, "agrees", Decimal("9.99"))
        self.known_there(playcamp, "given/back", Decimal("9.99"), "REFUNDED")
        self.known_there(playcamp, "amount", Decimal("8.99"))
        self.known_there(playcamp, "there", Decimal("9.99"), "REFUNDED")
        self.known_there(playcamp, "here", Decimal("9.99"))
        books.close()

        run = room.by_api("playcamp")

        assert room.differences(run) == {
            "amount": ("amount_differs", "100", "USD", "ask_partner"),
            "there": ("refunded_there", "999", "USD", "report_refund"),
            "here": ("refunded_here", "999", "USD", "send_refund"),
            "nowhere": ("missing_there", "999", "USD", "ask_partner"),
        }
        assert run.matched == 2

    def test_trouble_is_waited_out_and_nothing_asked_twice(self, room, books, playcamp, monkeypatch):
        from handlers.playcamp.payments import month_report as report

        monkeypatch.setattr(report, "PAYMENTS_AT_ONCE", 2)
        for number in range(5):
            books.pay(f"GP-{number}", "9.99", "USD")
            self.known_there(playcamp, f"GP-{number}", Decimal("9.99"))
        books.close()
        run_id = room.begin("playcamp")
        playcamp.trouble("GET", "/v1/server/payments/GP-3", status(401, b'{"error": "no"}'))

        with pytest.raises(Exception, match="401"):
            room.carry_on(run_id, "playcamp")
        assert room.run(run_id).rows_read == 2
        room.carry_on(run_id, "playcamp")

        assert (room.run(run_id).matched, room.differences(room.run(run_id))) == (5, {})
        assert playcamp.routes.count("GET /v1/server/payments/GP-0") == 1

    def test_a_file_tells_what_the_game_never_reported(self, room, books, tmp_path):
        books.pay("GP-1", "9.99", "USD")
        books.pay("GP-2", "9.99", "USD")
        path = tmp_path / "report.csv"
        path.write_text(
            "\ufeffPayment,Gross,Currency,status\n"
            "GP-1,9.99,usd,COMPLETED\n"
            "GP-2,9.99,USD,REFUNDED\n"
            "GP-2,9.99,USD,REFUNDED\n"
            "GP-9,19.99,USD,COMPLETED\n"
            "GP-8,5.00,USD,CANCELLED\n"
            "GP-7,none,USD,COMPLETED\n"
            "GP-6,1.00,USD,HALF\n"
            ",,,\n"
        )
        books.close()

        run = room.by_file("playcamp", path, reference="Payment", amount="Gross")

        assert room.differences(run) == {
            "GP-2": ("refunded_there", "999", "USD", "report_refund"),
            "GP-9": ("missing_here", "1999", "USD", "report_payment"),
            "GP-7": ("unreadable", None, "USD", "read_line"),
            "GP-6": ("unreadable", None, "USD", "read_line"),
        }
        assert (run.matched, run.rows_odd) == (1, 2)


class TestFiles:
    def read(self, text: str, room: Room, partner: str = "playcamp", **options: Any) -> list[PartnerRow]:
        layout = Layout.of(room.partners[partner].report, options.pop("columns", {}), **options)
        return [row for rows in report_files.read(io.StringIO(text), layout) for row in rows or []]

    def test_units_and_decimals_are_the_currencys(self, room):
        rows = self.read("transactionId,amount,currency\na,1480,JPY\nb,3.125,KWD\nc,9.99,USD\n", room)
        assert [row.amount_minor for row in rows] == ["1480", "3125", "999"]

        (row,) = self.read("transactionId,amount\na,999\n", room, unit="minor", currency="USD")
        assert (row.amount_minor, row.currency) == ("999", "USD")

    def test_appcharges_own_export_needs_no_mapping(self, room):
        text = (
            "timestamp,type,amount_minor,currency,order_id,transaction_id,our_transaction_id\n"
            "2026-07-10T10:00:00.000Z,refund,-999,USD,o-1,t-2,70c2e3c8\n"
        )
        assert self.read(text, room, "appcharge") == [
            PartnerRow("o-1", "t-2:refunded", "refunded", "999", "USD", "2026-07-10T10:00:00.000000Z", "70c2e3c8")
        ]

    @pytest.mark.parametrize(
        ("text", "options", "words"),
        [
            ("a,b\n1,2\n", {}, "no column transactionId"),
            ("transactionId,amount\n1,2\n", {}, "which currency"),
            ("transactionId,amount\n1,2\n", {"currency": "XXX"}, "decimals XXX"),
            ("", {}, "no column"),
            ("transactionId,amount,currency\n" + "x" * 100_000, {}, "no CSV"),
            ("a", {"columns": {"colour": "x"}}, "no field colour"),
        ],
    )
    def test_what_cannot_be_read_is_refused_in_words(self, room, text, options, words):
        with pytest.raises(ReconciliationError, match=words):
            self.read(text, room, **options)

    @pytest.mark.parametrize("cell", ["", "x", "1e999", "NaN", "9,9,9", "--1"])
    def test_an_amount_that_is_none_makes_the_line_odd_and_no_more(self, room, cell):
        text = io.StringIO()
        csv.writer(text).writerows([["transactionId", "amount", "currency"], ["a", cell, "USD"], ["b", "1", "USD"]])
        assert [(row.reference, row.kind) for row in self.read(text.getvalue(), room)] == [
            ("a", "unreadable"),
            ("b", "paid"),
        ]

    def test_a_file_broken_off_goes_on_and_another_one_begins_anew(self, room, books, tmp_path, monkeypatch):
        monkeypatch.setattr(runs, "ROWS_AT_ONCE", 2)
        for number in range(5):
            books.pay(f"GP-{number}", "9.99", "USD")
        books.close()
        path = tmp_path / "report.csv"
        path.write_text("transactionId,amount,currency\n" + "".join(f"GP-{n},9.99,USD\n" for n in range(5)))
        layout = Layout.of(room.partners["playcamp"].report, {})
        run_id = room.begin("playcamp", file=(path, layout))

        class Died(Exception):
            pass

        def die(run: Run) -> None:
            if run.rows_read == 4:
                raise Died

        with pytest.raises(Died):
            jobs.take_file(books.installation.database, run_id, path, layout, die)
        assert room.run(run_id).state == "reading"
        assert room.begin("playcamp", file=(path, layout)) == run_id
        jobs.take_file(books.installation.database, run_id, path, layout)
        room.carry_on(run_id, "playcamp")
        assert (room.run(run_id).rows_read, room.run(run_id).matched) == (5, 5)

        path.write_text("transactionId,amount,currency\nGP-1,9.99,USD\n")
        other = room.by_file("playcamp", path)
        assert other.id != run_id
        assert len(room.differences(other)) == 4


def test_pages_of_differences_miss_and_repeat_nothing(room, books, appcharge):
    for number in range(25):
        told(appcharge, f"x-{number:02d}")
        books.order(f"y-{number:02d}")
    books.close()
    run = room.by_api("appcharge")
    connection = books.installation.database.read()

    seen, after = [], 0
    while rows := runs.find_differences(connection, run.id, after=after, limit=7):
        seen += [row["reference"] for row in rows]
        after = rows[-1]["id"]

    assert len(seen) == 50
    assert len(set(seen)) == 50
    (row,) = runs.find_differences(connection, run.id, reference="x-03")
    assert (row["result"], row["theirs_minor"], row["ours_minor"]) == ("missing_here", "999", None)
    assert runs.find_differences(connection, run.id, result="refunded_here") == []


def test_a_large_file_is_sorted_in_parts_and_loses_nothing(room, monkeypatch):
    monkeypatch.setattr(sorting, "SORTED_AT_ONCE", 7)
    monkeypatch.setattr(sorting, "READ_AT_ONCE", 3)
    numbers = [n * 37 % 100 for n in range(100)]
    text = "transactionId,amount,currency\n" + "".join(f"GP-{n:03d},{n + 1},USD\n" for n in numbers) + ",5,USD\n"
    layout = Layout.of(room.partners["playcamp"].report, {})

    count, odd, rows = sorting.in_order(report_files.read(io.StringIO(text), layout))

    assert (count, odd) == (100, 1)
    assert [row.reference for row in rows] == [f"GP-{n:03d}" for n in range(100)]
