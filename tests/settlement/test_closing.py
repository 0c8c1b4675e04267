"""Months: what they are closed with, what comes late, and the states they go through."""

import hmac
import json
import sqlite3
from typing import Any

import pytest

from coinslot.base import clock as clocks
from coinslot.payments import parsing, queries, store
from coinslot.settlement import calculation, closing, months, periods, purchases, states
from coinslot.settlement.lines import sum_by_key, totals
from coinslot.settlement.months import SettlementError
from coinslot.settlement.terms import InGame, Terms, rates, rates_text
from tests.books import RULES, Books, quarantine, stamp
from tests.conftest import Studio
from tests.servers import together

TOLD = {"tax_minor": 149, "usd_gross": "999", "usd_tax": "149", "usd_fee": "85.5", "usd_net": "764.5"}
JULY = periods.month("2026-07", "UTC")


class TestWorkedFigures:
    @pytest.mark.parametrize(
        ("paid", "figures"),
        [
            ([("9900", "KRW", "google")], [("KRW", "MOBILE_STORE", None, 1, 9900, 0, 2970, 6930, 0)]),
            ([("9.99", "USD", "pc")], [("USD", "PC_SELF_STORE", None, 1, 999, 0, 0, 999, 0)]),
            ([("1480", "JPY")], [("JPY", "MOBILE_STORE", None, 1, 1480, 0, 444, 1036, 0)]),
            ([("3.125", "KWD")], [("KWD", "MOBILE_STORE", None, 1, 3125, 0, 938, 2187, 0)]),  # of 937.5
            ([("9.99", "USD")] * 3, [("USD", "MOBILE_STORE", None, 3, 2997, 0, 899, 2098, 0)]),  # rounded once a line
        ],
    )
    def test_a_store_takes_its_fee_once_from_each_line(self, books, paid, figures):
        for number, payment in enumerate(paid):
            books.pay(f"GP-{number}", *payment)

        books.close()

        assert books.figures() == [("playcamp", *each) for each in figures]

    def test_an_order_brings_its_partners_own_figures(self, books):
        books.order("o-1", **TOLD)
        books.order("o-2", **TOLD)
        books.order("o-3", 920, "EUR", **{**TOLD, "tax_minor": 140})

        books.close()

        euro, dollar = books.lines()
        assert (dollar.currency, dollar.count, dollar.gross_minor) == ("USD", 2, 1998)
        assert (dollar.tax_minor, dollar.fee_minor, dollar.net_minor) == (298, 171, 1529)
        assert (euro.currency, euro.gross_minor, euro.tax_minor) == ("EUR", 920, 140)
        assert (euro.fee_minor, euro.net_minor) == (None, None), "Appcharge tells them in dollars alone"
        assert (euro.usd_gross, euro.usd_tax, euro.usd_fee, euro.usd_net) == (999, 149, 86, 765)

    @pytest.mark.parametrize(
        ("told", "figures"),
        [
            ({"usd_fee": "0.855", "usd_net": "7.645", "usd_unit": "dollars"}, (86, 765, 86, 765, 0, 0)),
            ({}, (None, None, None, None, 1, 999)),
        ],
    )
    def test_figures_in_dollars_become_cents_and_what_is_not_told_is_said(self, books, told, figures):
        books.order("o-1", **told)

        books.close()

        (line,) = books.lines()
        assert (line.usd_fee, line.usd_net, line.fee_minor, line.net_minor, line.unsaid, line.unsaid_minor) == figures

    @pytest.mark.parametrize("currency", ["USD", "EUR", "JPY"])
    def test_a_fee_that_is_wholly_given_back_leaves_no_cent_behind(self, books, currency):
        for number in range(3):
            books.order(f"o-{number}", 100, currency, usd_gross="100", usd_fee="0.3", usd_net="99.7", usd_tax="0.3")
        books.close("2026-07")
        for month, order in (("2026-08", "o-0"), ("2026-09", "o-1"), ("2026-10", "o-2")):
            books.refund_order(order)
            books.close(month)

        (total,) = totals(books.lines("2026-07", "2026-08", "2026-09", "2026-10"))
        assert (total.gross_minor, total.refunds_minor) == (300, 300)
        assert (total.usd_gross, total.usd_tax, total.usd_fee, total.usd_net) == (0, 0, 0, 0)
        assert (total.fee_minor or 0, total.net_minor or 0) == (0, 0)

    def test_what_was_given_back_leaves_no_fee_and_no_net(self, books):
        books.pay("GP-1", "9900")
        books.pay("GP-2", "100", is_refunded=True)
        books.order("o-1", usd_fee="85.5", usd_net="764.5", tax_minor=149)
        books.refund_order("o-1")

        books.close()

        assert books.figures() == [
            ("appcharge", "USD", "", None, 1, 999, 999, 0, 0, 0),
            ("playcamp", "KRW", "MOBILE_STORE", None, 2, 10000, 100, 2970, 6930, 0),
        ]


class TestWhatStandsApart:
    def test_tests_and_free_orders_are_in_no_total(self, books):
        books.order("o-1", 0, kind="bonus")
        books.order("o-2", 999, environment="sandbox")
        books.order("p-1", None, None, kind="reward", partner="playtem")
        books.pay("T-1", is_test=True)
        books.pay("Z-1", "0")

        books.close()

        apart = set(books.columns("section partner count"))
        free, tests = ("appcharge", "playtem", "playcamp"), ("appcharge", "playcamp")
        assert apart == {("free", name, 1) for name in free} | {("test", name, 1) for name in tests}
        assert totals(books.lines()) == []

    def test_a_payment_of_an_unknown_market_waits_apart_and_counts_later_once_it_is_known(self, books):
        books.pay("GP-1", market="bazaar", is_registered=False)
        books.close()
        assert books.columns("section count") == [("incomplete", 1)]

        books.pay("GP-1", market="google")
        books.close("2026-08")

        assert books.figures("2026-08") == [("playcamp", "KRW", "MOBILE_STORE", None, 1, 9900, 0, 2970, 6930, 0)]
        assert {each.month for each in books.lines("2026-08")} == {"2026-07"}

    def test_what_is_not_registered_yet_is_a_line_of_its_own_and_registering_it_moves_no_money(self, books, clock):
        books.pay("GP-1", "9.99", "USD")
        books.pay("GP-2", "9.99", "USD", is_registered=False)
        books.close()
        assert books.columns("is_registered count gross_minor") == [(True, 1, 999), (False, 1, 999)]
        (total,) = totals(books.lines())
        assert (total.count, total.gross_minor, total.fee_minor, total.net_minor) == (2, 1998, 599, 1399)

        query = "UPDATE payments SET state = 'registered', next_try_at = NULL, updated_at = :now"
        books.write(lambda tx: tx.execute(query, {"now": clocks.stamp()}))
        books.close("2026-08")
        assert books.lines("2026-08") == []

    def test_orders_told_to_playcamp_are_lines_apart_from_the_stores_own(self, books):
        books.order("o-1")
        books.pay("appcharge:o-1", "9.99", "USD", "web", source="appcharge")

        books.close()

        assert books.columns("section partner gross_minor") == [
            ("counted", "appcharge", 999),
            ("orders", "playcamp", 999),
        ]

    def test_amounts_too_large_to_be_summed_stand_apart_each_by_its_id(self, books):
        for number in range(10):
            books.order(f"o-{number}", 10**18 - 1)
        books.order("fee", usd_fee="9" * 30)
        books.order("largest", 10**14)
        books.pay("GP-1", "9" * 15)
        books.pay("GP-2", "9900")

        books.close()

        assert books.figures() == [
            ("appcharge", "USD", "", None, 1, 10**14, 0, None, None, 0),
            ("playcamp", "KRW", "MOBILE_STORE", None, 1, 9900, 0, 2970, 6930, 0),
        ]
        apart = [(each.section, each.reference) for each in books.lines() if each.section != "counted"]
        assert apart == [("too_large", name) for name in ("fee", *(f"o-{number}" for number in range(10)), "GP-1")]

    def test_a_too_large_amount_that_is_corrected_later_is_an_adjustment(self, books):
        books.pay("GP-1", "9" * 15, is_registered=False)
        books.close()
        books.pay("GP-1", "9900")
        books.close("2026-08")

        assert books.columns("section reference count gross_minor", "2026-08") == [
            ("counted", "", 1, 9900),
            ("too_large", "GP-1", -1, 0),
        ]


class TestCreators:
    def test_a_purchase_is_its_creators_of_that_time(self, books, studio):
        studio.config("settlement.share", "10")
        studio.config("settlement.share.creator.BBB22", "20")
        books.boost("alice", "AAA11", "2026-07-05")
        books.boost("alice", "AAA11", "2026-07-15", is_end=True)
        books.boost("alice", "BBB22", "2026-07-15")
        for day in ("01", "10", "20"):
            books.pay(f"GP-{day}", at=f"2026-07-{day}T00:00:00Z")
        books.pay("GP-bob", player="bob")

        books.close()

        assert books.figures() == [
            ("playcamp", "KRW", "MOBILE_STORE", None, 2, 19800, 0, 5940, 13860, 0),
            ("playcamp", "KRW", "MOBILE_STORE", "AAA11", 1, 9900, 0, 2970, 6930, 693),
            ("playcamp", "KRW", "MOBILE_STORE", "BBB22", 1, 9900, 0, 2970, 6930, 1386),
        ]

    def test_an_event_that_names_no_creator_changes_nothing(self, books):
        books.boost("alice", "AAA11", "2026-07-05")
        for day, kind in (("06", "sponsor.created"), ("07", "sponsor.ended")):
            for player in ("alice", "bob"):
                books.event(kind, {"note": player}, player_id=player, occurred_at=f"2026-07-{day}T00:00:00.000000Z")
        books.pay("GP-alice")
        books.pay("GP-bob", player="bob")

        books.close()

        assert [(row[3], row[4]) for row in books.figures()] == [(None, 1), ("AAA11", 1)]

    def test_what_playcamp_itself_says_of_a_payment_holds(self, books):
        books.boost("alice", "AAA11", "2026-07-05")
        books.pay("GP-1")
        books.event("playcamp.payment.created", {"creator_key": "CCC33"}, external_id="GP-1")

        books.close()

        assert books.columns("creator") == [("CCC33",)]

    def test_a_share_may_be_of_a_campaign_of_gross_and_change_within_the_month(self, books, studio):
        studio.config("settlement.share_of", "gross")
        studio.config("settlement.share.campaign.camp_1", "10, 20 from 2026-07-15")
        books.boost("alice", "AAA11", "2026-01-01")
        books.pay("GP-1", "1000", at="2026-07-14T23:59:59Z")
        books.pay("GP-2", "1000", at="2026-07-15T00:00:00Z")

        books.close()

        assert books.columns("share_minor") == [(300,)]


class TestTerms:
    def test_a_fee_changes_on_its_day_in_the_games_time_zone(self, books, studio):
        studio.config("settlement.zone", "Asia/Seoul")
        studio.config("settlement.fee.MOBILE_STORE", "30, 15 from 2026-07-10")
        for at in ("2026-07-09T14:59:59Z", "2026-07-09T15:00:00Z", "2026-06-30T15:00:00Z", "2026-07-31T15:00:00Z"):
            books.pay(at, "1000", at=at)

        books.close()

        assert books.figures() == [("playcamp", "KRW", "MOBILE_STORE", None, 3, 3000, 0, 750, 2250, 0)]

    def test_changed_terms_change_no_closed_month(self, books, studio, clock):
        books.pay("GP-1", "1000")
        books.close()

        studio.config("settlement.fee.MOBILE_STORE", "15")
        books.pay("GP-2", "1000")
        books.close("2026-08")

        assert books.figures("2026-08") == [("playcamp", "KRW", "MOBILE_STORE", None, 1, 1000, 0, 300, 700, 0)]

    @pytest.mark.parametrize("text", ["", "x", "101", "30,15", "30 from 2026-01-01", "30, 20 from 2026-02-30", "-1"])
    def test_what_is_no_rate_is_refused(self, text):
        with pytest.raises(ValueError):
            rates_text(text)

    def test_days_of_rates_rise(self):
        with pytest.raises(ValueError, match="order"):
            rates("30, 20 from 2026-02-01, 10 from 2026-01-01", "UTC")

    def test_terms_survive_being_written_down(self):
        terms = Terms("Asia/Seoul", {"X": "1"}, "2", {"A": "3"}, {"C": "4"}, "gross", True)
        assert Terms.loads(terms.dumps()) == terms


def close_all(books: Books, *names: str) -> list[Any]:
    """Close months, all at once."""
    database, game, in_game = books.installation.database, books.game, books.installation.in_game
    return together(*(lambda name=name: closing.close(database, game, in_game, name, "test") for name in names))


class TestClosing:
    def test_twice_or_by_several_at_once_changes_nothing(self, books, db):
        books.pay("GP-1")
        found = close_all(books, *["2026-07"] * 6)
        assert sorted(is_new for _, is_new in found) == [False] * 5 + [True]
        tables = ("settlements", "settlement_lines", "settlement_steps")
        before = [db(f"SELECT * FROM {table}") for table in tables]
        assert [len(rows) for rows in before] == [1, 1, 1]

        books.pay("GP-2")

        assert books.close() == found[0][0]
        assert [db(f"SELECT * FROM {table}") for table in tables] == before

    def test_months_closed_at_once_take_what_came_late_once(self, books):
        books.pay("GP-1", "1000")
        books.close()
        books.pay("GP-2", "1000")

        close_all(books, "2026-08", "2026-09", "2026-10")

        late = books.lines("2026-08", "2026-09", "2026-10")
        assert [(line.month, line.gross_minor) for line in late] == [("2026-07", 1000)]

    def test_a_month_that_is_not_over_is_not_closed(self, books, clock):
        present = periods.of(clocks.stamp(), "UTC")
        with pytest.raises(SettlementError, match="not over"):
            books.close(present)
        assert books.close(present, may_be_early=True).state == "closed"

    @pytest.mark.parametrize("name", ["", "2026", "2026-13", "2026-7", "1999-01", "2026-07-01"])
    def test_what_is_no_month_is_refused(self, books, name):
        with pytest.raises(Exception, match="no month"):
            books.close(name)

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE settlement_lines SET gross_minor = 1",
            "DELETE FROM settlement_lines",
            "UPDATE settlements SET terms = '{}'",
            "DELETE FROM settlements",
            "DELETE FROM settlement_steps",
            "UPDATE settlement_steps SET note = 'x'",
        ],
    )
    def test_what_is_frozen_cannot_be_changed(self, books, statement):
        books.pay("GP-1")
        books.close()
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            books.write(lambda tx: tx.execute(statement))

    def test_one_game_has_nothing_of_another(self, books, installation):
        other = Books(installation, Studio(installation, "other"))
        other.pay("GP-1")
        other.order("o-1")

        books.close()

        assert books.lines() == []

    def test_a_preview_is_what_closing_freezes(self, books):
        books.pay("GP-1")
        books.order("o-1")
        in_game = books.installation.in_game
        with books.installation.database.snapshot() as connection:
            shown = calculation.preview(connection, books.game.id, JULY, Terms.of(books.game, in_game), in_game)

        books.close()

        assert books.lines() == shown
        assert len(shown) == 2

    def test_in_game_payments_are_of_whichever_partner_says_so(self, books):
        books.pay("GP-1")
        books.order("o-1")
        other = InGame("other", "other.payment", counts_kept=lambda game: False)
        with books.installation.database.snapshot() as connection:
            shown = calculation.preview(connection, books.game.id, JULY, Terms.of(books.game, other), other)

        assert sorted(line.partner for line in shown) == ["appcharge", "other"]

    @pytest.mark.parametrize(
        ("name", "before", "after", "last_day"),
        [
            ("2026-12", "2026-11", "2027-01", "2026-12-31"),
            ("2026-01", "2025-12", "2026-02", "2026-01-31"),
            ("2024-02", "2024-01", "2024-03", "2024-02-29"),
        ],
    )
    def test_months_follow_each_other_without_a_gap(self, name, before, after, last_day):
        month = periods.month(name, "UTC")
        assert (periods.before(name), periods.after(name), str(month.last_day)) == (before, after, last_day)
        assert (month.starts_at, month.ends_at) == (stamp(f"{name}-01"), stamp(f"{after}-01"))

    def test_a_note_has_a_length(self, books):
        with pytest.raises(SettlementError, match="the note"):
            books.close(note="x" * 501)
        books.close(note="x" * 500)
        assert books.steps()[0].note == "x" * 500


class TestZoneChanges:
    """A month that is closed keeps its bounds; the ones beside it take them."""

    SEOUL, NEW_YORK = "Asia/Seoul", "America/New_York"

    @pytest.mark.parametrize(
        ("zone", "at", "month"),
        [
            (SEOUL, "2026-07-31T19:30:00Z", "2026-07"),  # August there, but July was closed until midnight UTC
            (NEW_YORK, "2026-08-01T02:00:00Z", "2026-08"),  # July there, and July ended two hours before
        ],
    )
    def test_an_hour_at_the_edge_counts_once(self, books, studio, zone, at, month):
        books.order("edge", 10000, at=at.replace("Z", ".000000Z"))
        books.pay("GP-1", "9900", at=at)
        books.close("2026-07")
        studio.config("settlement.zone", zone)
        books.close("2026-08")

        assert {line.month for line in books.lines(month)} == {month}
        assert sum(line.count for line in books.lines(month)) == len(books.lines("2026-07", "2026-08")) == 2

    def test_a_month_between_closed_ones_lies_between_them(self, books, studio):
        books.close("2026-06")
        studio.config("settlement.zone", self.SEOUL)
        books.close("2026-08")
        studio.config("settlement.zone", self.NEW_YORK)

        july = books.close("2026-07").month

        assert (july.starts_at[:16], july.ends_at[:16]) == ("2026-07-01T00:00", "2026-07-31T15:00")

    def test_the_list_has_the_month_that_has_begun_though_the_zone_is_still_in_the_one_before(
        self, books, studio, clock
    ):
        clock.move_to("2026-08-01T01:00:00Z")
        books.order("o-1")
        books.close("2026-07")
        studio.config("settlement.zone", self.NEW_YORK)

        assert books.month_list() == [("2026-08", "open"), ("2026-07", "closed")]
        assert months.month_of(books.connection, books.game, "2026-08").starts_at[:16] == "2026-08-01T00:00"

    def test_it_is_said_from_which_month_it_holds(self, books, studio):
        books.close("2026-06")
        assert months.zone_changes(books.connection, books.game) == []
        studio.config("settlement.zone", self.SEOUL)
        books.close("2026-07")
        studio.config("settlement.zone", self.NEW_YORK)

        found = months.zone_changes(books.connection, books.game)

        assert [(each.month, each.zone, each.zone_before) for each in found] == [
            ("2026-07", self.SEOUL, "UTC"),
            ("2026-08", self.NEW_YORK, self.SEOUL),
        ]
        assert months.zone_changes(books.connection, books.game, "2026-08") == found[1:]


class TestLateFacts:
    def test_go_into_the_next_month_visibly_and_once(self, books):
        books.pay("GP-1", "1000")
        books.pay("GP-2", "500")
        books.order("o-1", usd_fee="85.5", usd_net="764.5")
        books.close()

        books.pay("GP-3", "2000")
        books.refund_payment("GP-2")
        books.refund_order("o-1", at="2026-08-03")
        books.pay("GP-4", "100", at="2026-08-10T00:00:00Z")
        books.close("2026-08")
        books.close("2026-09")

        assert books.columns("month partner count gross_minor refunds_minor fee_minor", "2026-08") == [
            ("2026-07", "appcharge", 0, 0, 999, -86),
            ("2026-07", "playcamp", 1, 2000, 500, 450),
            ("2026-08", "playcamp", 1, 100, 0, 30),
        ]
        assert books.lines("2026-09") == []

    def test_a_dispute_that_is_won_comes_back(self, books):
        books.order("o-1")
        books.close()
        books.refund_order("o-1", "chargeback", at="2026-08-03")
        books.close("2026-08")
        books.refund_order("o-1", "reinstated", at="2026-09-03")
        books.close("2026-09")

        assert books.columns("refunds_minor", "2026-08", "2026-09") == [(999,), (-999,)]

    @pytest.mark.parametrize("moved_at", ["2026-08-01T00:00:00Z", "2026-06-30T00:00:00Z", "no time"])
    def test_a_payment_that_moves_to_another_month_counts_once(self, books, clock, moved_at):
        clock.move_to("2026-07-31T12:00:00Z")
        books.pay("GP-1", "1000", at="2026-07-31T00:00:00Z", is_registered=False)
        books.pay("GP-2", "500", at="2026-07-31T00:00:00Z", market="nowhere", is_registered=False)
        books.write(lambda tx: quarantine(tx, 1, "refused"))
        clock.move_to("2026-08-02T00:00:00Z")
        books.close("2026-06")
        books.close()
        clock.move_to("2026-08-10T00:00:00Z")

        books.pay("GP-1", "1000", at=moved_at, market="google", is_registered=False)
        books.pay("GP-2", "500", at=moved_at, market="nowhere", is_registered=False)
        clock.move_to("2026-09-02T00:00:00Z")
        books.close("2026-08")
        clock.move_to("2026-10-02T00:00:00Z")
        books.close("2026-09")

        assert books.lines("2026-09") == []
        summed = sum_by_key(books.lines("2026-06", "2026-07", "2026-08"))
        kept = {(line.month, line.section): line for line in summed if not line.is_zero}
        if moved_at == "no time":  # nothing takes the place of what can be registered, but for what can be too
            assert set(kept) == {("2026-07", "counted")}
        else:
            assert set(kept) == {(moved_at[:7], "counted"), (moved_at[:7], "incomplete")}
            assert kept[moved_at[:7], "counted"].gross_minor == 1000

    def test_whose_a_payment_is_moves_its_share_however_late_playcamp_tells(self, books, clock, studio, client):
        studio.secret("playcamp.webhook_secret", "whsec_demo_0001")
        studio.config("settlement.share", "10")
        clock.move_to("2026-07-31T12:00:00Z")
        books.pay("GP-1", "1000")
        clock.move_to("2026-08-02T00:00:00Z")
        books.close()
        clock.move_to("2026-08-10T00:00:00Z")

        told = {"transactionId": "GP-1", "userId": "alice", "creatorKey": "AAA11", "campaignId": "camp_1"}
        event = {"event": "payment.created", "timestamp": "2026-07-31T12:00:01Z", "isTest": False, "data": told}
        body = json.dumps({"events": [event]}).encode()
        signature = hmac.new(b"whsec_demo_0001", body, "sha256").hexdigest()
        answer = client.post("/playcamp/demo/webhook", data=body, headers={"X-Webhook-Signature": signature})
        assert answer.status_code == 200, answer.text
        clock.move_to("2026-09-02T00:00:00Z")
        books.close("2026-08")

        assert books.columns("month creator count share_minor", "2026-08") == [
            ("2026-07", None, -1, 0),
            ("2026-07", "AAA11", 1, 70),
        ]

    def test_a_payment_that_turns_out_to_be_another_one_counts_once(self, books, clock):
        clock.move_to("2026-07-31T12:00:00Z")
        books.pay("x", at="2026-07-31T00:00:00Z", market="nowhere")
        clock.move_to("2026-08-02T00:00:00Z")
        books.close()
        clock.move_to("2026-08-10T00:00:00Z")

        row = queries.find(books.connection, books.game.id, "x")
        told = {"transactionId": "GP-1", "userId": "alice", "productId": "gems", "amount": "9900", "currency": "KRW"}
        told |= {"market": "google", "purchasedAt": "2026-08-01T00:00:00Z", "status": "paid"}
        found = parsing.check(told, RULES, "push", is_test=False)
        books.write(lambda tx: store.replace_parked(tx, books.game.id, row["id"], found, is_registering=True))
        clock.move_to("2026-09-02T00:00:00Z")
        books.close("2026-08")

        assert books.columns("month section count", "2026-08") == [
            ("2026-08", "counted", 1),
            ("2026-07", "incomplete", -1),
        ]

    def test_months_nobody_touched_are_not_read_again(self, books, clock):
        def changed() -> list[str]:
            found = calculation.changed_months(books.connection, books.game.id, "2026-08")
            return [each.month.name for each in found]

        books.pay("GP-1")
        clock.shift(3600)
        books.close()
        clock.shift(3600)
        assert changed() == []
        books.pay("GP-2")
        assert changed() == ["2026-07"]


class TestReopening:
    def test_keeps_the_record_and_the_next_close_counts_everything(self, books, db):
        books.pay("GP-1", "1000")
        books.close()
        books.pay("GP-2", "1000")

        books.reopen(note="a late report")
        assert books.state() == "open"
        assert books.close().version == 2

        assert books.columns("gross_minor") == [(2000,)]
        assert [(each.state, each.note) for each in books.steps()] == [
            ("closed", ""),
            ("reopened", "a late report"),
            ("closed", ""),
        ]
        assert db("SELECT * FROM audit WHERE action = 'settlement.state' AND subject = '2026-07: reopened'")

    def test_versions_are_counted_for_each_month_and_charts_hold_what_counts_of_the_newest(self, books):
        books.order("o-1", 999)
        books.order("o-2", 500, environment="sandbox")
        books.order("o-3", 700, at="2026-08-05")
        books.close()
        books.reopen()

        assert [books.close("2026-07").version, books.close("2026-08").version] == [2, 1]

        for most, expected in ((12, [("2026-07", 999), ("2026-08", 700)]), (1, [("2026-08", 700)])):
            rows = months.gross_by_month(books.connection, books.game.id, most)
            assert [(row["month"], row["gross_minor"]) for row in rows] == expected

    def test_takes_a_reason(self, books):
        books.close()
        with pytest.raises(SettlementError, match="why"):
            books.reopen(note=" ")

    def test_is_refused_while_a_later_month_holds_adjustments_of_it(self, books):
        books.close()
        books.pay("GP-1")
        books.close("2026-08")
        with pytest.raises(SettlementError, match="2026-08 holds"):
            books.reopen()

        books.reopen("2026-08")
        books.close("2026-09")

        assert books.columns("month gross_minor", "2026-09") == [("2026-07", 9900)]

    @pytest.mark.parametrize("again_at", ["2026-10-03T00:00:00Z", "2026-12-01T00:00:00Z"])
    def test_loses_no_adjustment_of_an_earlier_month(self, books, clock, again_at):
        clock.move_to("2026-07-15T00:00:00Z")
        books.pay("GP-1", "1000")
        clock.move_to("2026-08-02T00:00:00Z")
        books.close("2026-07")
        clock.move_to("2026-08-10T00:00:00Z")
        books.pay("GP-2", "500")
        clock.move_to("2026-09-02T00:00:00Z")
        books.close("2026-08")
        clock.move_to("2026-10-02T00:00:00Z")
        books.close("2026-09")
        clock.move_to(again_at)
        books.reopen("2026-08")

        clock.shift(3600)
        books.close("2026-08")

        assert books.columns("month gross_minor", "2026-08") == [("2026-07", 500)]
        clock.move_to("2027-01-02T00:00:00Z")
        books.close("2026-10")
        assert books.lines("2026-10") == []


class TestStates:
    def advance(self, books: Books, state: str, **options: Any) -> list[str]:
        return books.write(lambda tx: states.advance(tx, books.game.id, "2026-07", state, "test", **options))

    def test_come_one_after_the_other(self, books):
        with pytest.raises(SettlementError, match="open"):
            self.advance(books, "reconciled")
        books.close()

        assert self.advance(books, "reconciled") == ["reconciled"]
        assert self.advance(books, "payment_confirmed", note="bank statement 12") == ["payment_confirmed"]
        assert self.advance(books, "creators_settled") == ["creators_settled"]
        assert self.advance(books, "reconciled") == []

        assert [each.state for each in books.steps()] == list(months.STATES)

    def test_none_is_skipped_silently(self, books):
        books.close()
        for options in ({}, {"is_skipping": True}):
            with pytest.raises(SettlementError, match="not reconciled"):
                self.advance(books, "payment_confirmed", **options)

        self.advance(books, "payment_confirmed", is_skipping=True, note="no report to be had")

        assert [(each.state, each.is_skipped) for each in books.steps()] == [
            ("closed", False),
            ("reconciled", True),
            ("payment_confirmed", False),
        ]
        with pytest.raises(SettlementError, match="payment of 2026-07 is confirmed"):
            books.reopen()

    def test_the_list_has_every_month_since_the_first_purchase(self, books, clock):
        clock.move_to("2026-11-28T12:00:00Z")
        books.order("o-1", at="2026-08-10")
        books.pay("GP-1", at="2026-09-10T00:00:00Z")
        books.close("2026-09")

        assert books.month_list() == [
            ("2026-11", "open"),
            ("2026-10", "open"),
            ("2026-09", "closed"),
            ("2026-08", "open"),
        ]


class TestPurchases:
    def test_each_line_leads_to_its_purchases_page_by_page(self, books):
        for number in range(7):
            books.pay(f"GP-{number}", at="2026-07-10T00:00:00Z")
            books.order(f"o-{number}")
        books.order("other", currency="EUR")
        books.pay("other", "9.99", "USD")

        def every(partner: str, **wanted: Any) -> list[str]:
            found: list[str] = []
            after: Any = None
            while True:
                rows, after = purchases.of_month(
                    *(books.connection, books.game.id, JULY, partner, after, 3),
                    is_of_payments=partner == "playcamp",
                    **wanted,
                )
                found += [row["reference"] for row in rows]
                if after is None:
                    return found

        assert every("playcamp", currency="KRW") == [f"GP-{number}" for number in range(7)]
        assert every("playcamp", distribution_type="PC_STORE") == []
        assert every("appcharge", currency="USD") == [f"o-{number}" for number in range(7)]
        assert every("appcharge") == [*(f"o-{number}" for number in range(7)), "other"]
        assert every("playtem") == []

    def test_few_purchases_among_many_are_looked_for_a_stretch_at_a_time(self, books, monkeypatch):
        monkeypatch.setattr(purchases, "PURCHASES_AT_ONCE", 2)
        for number in range(6):
            books.order(f"o-{number}")
        books.order("rare", currency="EUR")
        about = (books.connection, books.game.id, JULY, "appcharge")

        first, after = purchases.of_month(*about, currency="EUR", most=4)
        assert (first, after is None) == ([], False)
        rest, after = purchases.of_month(*about, after, currency="EUR", most=4)
        assert ([row["reference"] for row in rest], after) == (["rare"], None)
