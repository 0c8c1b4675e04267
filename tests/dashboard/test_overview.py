"""The first page: what is wrong is said first, figures are those that were counted, and unknown is not 0."""

import csv
import io
import re

import pytest

from coinslot.access import owner, sessions
from coinslot.games import games
from coinslot.operations import proofs, troubles
from coinslot.outbox import deliveries, lists
from coinslot.store import counters
from handlers.dashboard.frame import charts
from tests.conftest import Studio
from tests.owed import Owed
from tests.pages import HOSTILE, assert_has, text_of


@pytest.fixture
def owed(installation, studio):
    return Owed(installation, studio)


def count(installation, studio, partner, **amounts):
    """Counts ``name`` or ``name__label``."""
    names = {name.partition("__")[::2]: value for name, value in amounts.items()}
    installation.database.write_here(lambda tx: counters.add_each(tx, studio.row["id"], partner, names))


def kinds(installation):
    return {trouble.kind for trouble in troubles.find(installation.database.read()).found}


class TestFigures:
    def test_a_paid_order_shows_today_and_in_30_days(self, browser, studio, post_order):
        post_order()
        post_order()
        page = text_of(browser.get("/"))
        assert_has(
            page,
            "Grants today 1 1 in 30 days",
            "Duplicates stopped 1 1 in 30 days",
            "Appcharge 9.99 USD 0.00 USD 9.99 USD 0.00 USD",
        )

    def test_yesterday_is_not_today_and_what_is_older_than_30_days_is_left_out(
        self, browser, installation, studio, clock
    ):
        count(installation, studio, "appcharge", credited=5, gross__JPY=700)
        clock.shift(86400)
        count(installation, studio, "appcharge", credited=2)
        page = text_of(browser.get("/"))
        assert_has(page, "Grants today 2 7 in 30 days", "Appcharge 0 JPY 0 JPY 700 JPY 0 JPY")
        clock.shift(29 * 86400)
        token = installation.database.write_here(lambda tx: sessions.begin(tx, owner.first(tx).id, "a", "b"))
        browser.client.set_cookie("coinslot_session", token)
        assert "Grants today 0 2 in 30 days" in text_of(browser.get("/"))

    def test_what_a_dispute_brought_back_is_not_refunded(self, browser, installation, studio):
        count(installation, studio, "appcharge", gross__USD=1000, refunded__USD=500, returned__USD=200)
        assert "Appcharge 10.00 USD 3.00 USD 10.00 USD 3.00 USD" in text_of(browser.get("/"))

    def test_what_cannot_be_read_is_unknown_and_the_rest_is_there(self, browser, installation, studio):
        installation.database.write_here(lambda tx: tx.execute("DROP TABLE counters"))
        page = text_of(browser.get("/"))
        assert_has(page, "Grants today unknown", "those figures are unknown", "Waiting now 0")

    def test_troubles_that_cannot_be_looked_for_are_no_sign_that_all_is_well(self, browser, installation, studio):
        installation.database.write_here(lambda tx: tx.execute("DROP TABLE refusals"))
        page = text_of(browser.get("/"))
        assert_has(page, "nobody knows what else is wrong", without=("All is well",))

    def test_queues_are_counted_as_far_as_it_matters(self, browser, owed, monkeypatch):
        monkeypatch.setattr(lists, "COUNTED_TO", 2)
        owed.destination()
        owed.credit(5)
        assert lists.queues(owed.installation.database.read())[owed.studio.row["id"]] == {"waiting": 3, "dead": 0}

    def test_the_last_contact_of_each_partner_is_told(self, browser, installation, studio, post_order):
        assert "no call has proved itself yet" in text_of(browser.get("/"))
        post_order()
        post_order(headers={"signature": "t=1,v1=00"})
        installation.observations.flush()
        page = text_of(browser.get("/"))
        assert_has(page, "seen just now", "last refused just now")

    def test_charts_have_the_same_figures_in_a_table(self, browser, installation, studio):
        count(installation, studio, "appcharge", gross__USD=123456, item__coins=7)
        count(installation, studio, "relay", delivered=3, failed__timeout=1, took__300=4)
        page = browser.get("/").text
        assert "Appcharge: 1,234.56" in page  # shown when one points at the bar
        assert '<td class="number">1,234.56 USD</td>' in page
        assert "timeout 1" in page
        assert "up to 0.3 s" in page
        assert "coins: 7" in page

    def test_figures_of_every_day_are_exported(self, browser, installation, studio, clock):
        count(installation, studio, "appcharge", gross__USD=123456, gross__JPY=700, credited=2)
        count(installation, studio, "appcharge", **{f"item__{HOSTILE[:40]}": 1, "item__=cmd": 3})
        clock.shift(400 * 86400)
        count(installation, studio, "relay", failed__timeout=4)
        token = installation.database.write_here(lambda tx: sessions.begin(tx, owner.first(tx).id, "a", "b"))
        browser.client.set_cookie("coinslot_session", token)
        answer = browser.get("/games/demo/figures.csv")
        assert answer.headers["Content-Disposition"] == 'attachment; filename="demo-figures.csv"'
        rows = list(csv.reader(io.StringIO(answer.text.removeprefix("\ufeff"))))
        assert rows[0] == ["day", "partner", "figure", "currency_or_item", "value"]
        assert ["appcharge", "gross", "USD", "1234.56"] in [row[1:] for row in rows]
        assert ["appcharge", "gross", "JPY", "700"] in [row[1:] for row in rows]
        assert ["appcharge", "item", "'=cmd", "3"] in [row[1:] for row in rows]
        assert rows[-1][1:] == ["relay", "failed.timeout", "", "4"]
        assert len(rows) == 7


class TestTroubles:
    def test_a_game_in_order_has_none(self, installation, studio):
        assert kinds(installation) == {"no_alerts", "no_heartbeat", "no_password"}

    def test_without_a_game_the_page_says_what_to_do_first(self, browser):
        page = text_of(browser.get("/"))
        assert_has(page, "What to do first", "flask game add")

    def test_a_new_game_is_led_to_its_integration_page(self, browser, installation):
        Studio(installation, "fresh")
        page = browser.get("/").text
        assert_has(
            page,
            "No partner is set up yet",
            '<a href="/games/fresh/integration">',
            without=("No player is registered",),
        )

    def test_destinations_without_a_relay(self, browser, installation, owed, clock):
        owed.destination()
        assert "none has been seen yet" in text_of(browser.get("/"))
        installation.database.write_here(deliveries.beat)
        assert "no_relay" not in kinds(installation)
        clock.shift(deliveries.OLDEST_BEAT_SECONDS + 61)
        assert "the last one was seen 1 minute ago" in text_of(browser.get("/"))

    def test_dead_letters_lead_to_their_list(self, browser, installation, owed):
        owed.destination(retry="1")
        owed.credit(2)
        for _ in range(2):
            for claim in owed.claim():
                owed.fail(claim)
            owed.write(lambda tx: tx.execute("UPDATE deliveries SET next_attempt_at = '2000' WHERE state = 'waiting'"))
        page = browser.get("/")
        assert "2 deliveries are dead letters" in text_of(page)
        assert 'href="/games/demo/deliveries?state=dead"' in page.text
        owed.set_state("game", "removed")
        assert "dead" not in kinds(installation)  # nobody could redrive them

    def test_a_destination_that_is_down_or_paused_itself(self, browser, installation, owed):
        owed.destination()
        owed.credit(12)
        for claim in owed.claim(12):
            owed.fail(claim)
        assert "game has not answered as it should since just now" in text_of(browser.get("/"))
        owed.set_state("game", "active")
        owed.write(lambda tx: tx.execute("UPDATE deliveries SET next_attempt_at = '2000' WHERE state = 'waiting'"))
        owed.record(owed.claim(1)[0], "status", 410)
        assert "it answered 410 Gone" in text_of(browser.get("/"))
        owed.set_state("game", "paused")  # the owner's own doing is no trouble
        assert not kinds(installation) & {"down", "paused"}

    def test_what_is_overdue_and_not_held_up_by_its_original(self, installation, owed, clock):
        owed.destination()
        (grant,) = owed.credit()
        owed.reverse(grant)
        assert "overdue" not in kinds(installation)
        clock.shift(3601)
        assert [each.count for each in troubles.find(installation.database.read()).found if each.kind == "overdue"] == [
            1
        ]

    def test_conflicts(self, browser, installation, studio, post_order, clock):
        post_order()
        post_order(priceInCents=1)
        page = browser.get("/")
        assert "1 call named a known transaction with other content" in text_of(page)
        assert 'href="/games/demo/conflicts"' in page.text
        clock.shift(800 * 86400)
        assert "conflicts" in kinds(installation)  # until a person sets them aside

    def test_calls_refused_for_their_signature(self, browser, installation, studio, post_order, clock):
        post_order(headers={"signature": "t=1,v1=00", "x-publisher-token": "test-publisher-token"})
        installation.observations.flush()
        page = browser.get("/")
        assert "1 call of Appcharge was refused in 24 hours" in text_of(page)
        assert 'href="/games/demo/refusals?partner=appcharge"' in page.text
        clock.shift(86401)
        assert "refused" not in kinds(installation)

    def test_a_rotation_that_is_not_finished(self, browser, installation, studio, clock):
        studio.rotate("appcharge.main_key", "another-main-key-000")
        assert "rotation" not in kinds(installation)
        clock.shift(7 * 86400 + 1)
        page = browser.get("/")
        assert "appcharge.main_key was rotated 7 days ago" in text_of(page)
        assert 'href="/games/demo/integration/appcharge"' in page.text

    def test_a_replaced_token_that_is_still_valid(self, browser, installation, studio, clock):
        installation.database.write_here(lambda tx: games.replace_token(tx, "demo", "test"))
        assert "old_token" not in kinds(installation)
        clock.shift(7 * 86400 + 1)
        page = browser.get("/")
        assert "The API token was replaced 7 days ago" in text_of(page)
        assert 'href="/games/demo/settings#token"' in page.text

    def test_a_partner_begun_with_a_key_missing(self, browser, installation):
        studio = Studio(installation, "half")
        studio.secret("appcharge.main_key", "some-main-key-00000")
        page = browser.get("/")
        assert_has(text_of(page), "appcharge.publisher_token is not set", "No player is registered")
        studio.config("players.unknown", "create")
        studio.config("items.unknown", "accept")
        assert not kinds(installation) & {"no_players", "no_items"}

    def test_a_job_that_fails(self, browser, installation, studio):
        installation.database.write_here(
            lambda tx: tx.execute(
                """INSERT INTO schedules (game_id, name, due_at, asked, failures, last_error)
                   VALUES (:id, 'playcamp.poll', '2100-01-01T00:00:00.000000Z', 1, 3, :error)""",
                {"id": studio.row["id"], "error": HOSTILE + "x" * 10_000},
            )
        )
        page = browser.get("/")
        assert "playcamp.poll has failed 3 times in a row" in text_of(page)
        assert_has(page.text, 'href="/games/demo/payments"', without=("<script>alert", "\u202e"))

    def test_the_wrong_master_key(self, browser, installation, studio):
        installation.database.write_here(
            lambda tx: tx.execute("UPDATE installation SET value = 'other' WHERE name = 'vault.key_id'")
        )
        assert "The database is under master key other" in text_of(browser.get("/"))

    def test_every_search_uses_an_index(self, installation, studio):
        connection = installation.database.read()
        values = dict.fromkeys(
            (
                "most listed looked_at reserved now hour_ago day_ago recently rotation_began oldest_beat newest_beat"
                " forgotten two_days_ago hours_ago unanswered_before unended_before"
            ).split(),
            1,
        )
        small = {
            "destinations",
            "games",
            "g",
            "d",
            "t",
            "s",
            "c",
            "p",
            "schedules",
            "secrets",
            "count",
            "r",
            "installation",
            "alert_targets",
            "proofs",
            "k",
            "asides",
            "people",
        }
        for statement in (troubles._ONE_BY_ONE, proofs.TROUBLES, troubles._COUNTED):
            named = set(re.findall(r"\) (\w+)(?=\n|\)| WHERE)", statement))  # what a subquery found, which is few
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values):
                scanned = re.match(r"SCAN (\w+)", row["detail"])
                assert (
                    scanned is None
                    or scanned[1] in small | named | {"payment_conflicts", "CONSTANT"}
                    or (scanned[1].startswith("("))
                ), row["detail"]


def test_the_overview_asks_the_database_no_more_with_more_games(browser, installation, studio):
    few = len(browser.queries("/")[1])
    for number in range(20):
        Studio(installation, f"game-{number}").secret("appcharge.main_key", f"some-main-key-0000{number}")
    answer, statements = browser.queries("/")
    assert answer.status_code == 200
    assert len(statements) == few <= 12


class TestCharts:
    @pytest.mark.parametrize(
        ("tallest", "top"), [(0, 1), (1, 1), (4, 4), (7, 8), (99, 100), (101, 150), (1234, 1500), (0.37, 0.4)]
    )
    def test_the_scale_ends_at_a_round_value(self, tallest, top):
        assert list(charts._grid(tallest))[-1] == pytest.approx(top)
        assert len(list(charts._grid(tallest))) <= charts.MOST_LINES + 1

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0, "0"), (250, "250"), (1500, "1.5k"), (2e7, "20M"), (0.3, "0.3"), (0.30000000000000004, "0.3")],
    )
    def test_values_of_the_scale_are_short(self, value, text):
        assert charts.short(value) == text

    def test_charts_hold_the_largest_sums_there_can_be(self):
        drawn = charts.bars("t", ["a", "b"], [charts.Series("s", [2**63 - 1, 0])])
        assert_has(drawn, without=("NaN", "inf"))

    def test_no_bar_is_drawn_for_zero(self):
        drawn = charts.ranking("t", [("some", 3, "3"), ("none", 0, "0")])
        assert (drawn.count("track"), drawn.count("series-0")) == (2, 1)
        drawn = charts.bars("t", ["a", "b"], [charts.Series("s", [1, 0]), charts.Series("u", [0, 0])])
        assert (drawn.count("series-0"), drawn.count("series-1")) == (1, 0)
