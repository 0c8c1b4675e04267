"""The first page: what is wrong is said first, figures are those that were counted, and unknown is not 0."""

import csv
import io
import re

import pytest

from coinslot.access import owner, sessions
from coinslot.games import games
from coinslot.operations import proofs, troubles
from coinslot.operations.findings import NOTE
from coinslot.outbox import deliveries, lists
from coinslot.store import counters
from handlers.dashboard.frame import charts
from handlers.kit.troubles import list_troubles
from tests.conftest import Studio
from tests.owed import Owed
from tests.pages import HOSTILE, STORABLE, assert_has
from tests.pages import text_of as spaced_text_of


def text_of(answer):
    """The text, with no space before the end of a part of a sentence."""
    return re.sub(r" (?=[.,;)])", "", spaced_text_of(answer))


@pytest.fixture
def owed(installation, studio):
    return Owed(installation, studio)


def count(installation, studio, partner, **amounts):
    """Counts ``name`` or ``name__label``."""
    names = {name.partition("__")[::2]: value for name, value in amounts.items()}
    installation.database.write_here(lambda tx: counters.add_each(tx, studio.row["id"], partner, names))


def kinds(installation):
    return {trouble.kind for trouble in troubles.find(installation.database.read()).found}


def sign_in_again(browser, installation):
    """The clock was moved past the end of the session."""
    token = installation.database.write_here(lambda tx: sessions.begin(tx, owner.first(tx).id, "a", "b"))
    browser.client.set_cookie("coinslot_session", token)


def troubles_of(browser, installation):
    with browser.client.application.test_request_context():
        return list_troubles(installation)


class TestFigures:
    def test_a_paid_order_is_said_in_words_and_stands_in_its_games_row(self, browser, studio, post_order):
        post_order()
        post_order()
        page = text_of(browser.get("/"))
        assert_has(page, "In the last 30 days players paid 9.99 USD. Today: 9.99 USD.", "Paid 9.99 USD", "Grants 1")
        grants = text_of(browser.get("/?metric=grants"))
        assert_has(grants, "1 grant in the last 30 days, 1 of it today.", "1 duplicate was answered and not credited")

    def test_a_range_is_chosen_by_a_link_and_days_outside_of_it_do_not_count(
        self, browser, installation, studio, clock
    ):
        clock.move_to(1784116800)  # 2026-07-15
        count(installation, studio, "appcharge", credited=5, gross__JPY=700)
        clock.shift(20 * 86400)  # 2026-08-04
        count(installation, studio, "appcharge", credited=2)
        sign_in_again(browser, installation)
        for query, grants in (
            *(("", 7), ("range=7", 2), ("range=30", 7), ("range=2026-07", 5), ("range=2026-08", 2)),
            *(("range=2026-09", 7), ("range=2014-01", 7), ("range=2026-13", 7), (f"range={HOSTILE}", 7)),
        ):
            page = text_of(browser.get("/", query_string=f"{query}&metric=grants"))
            assert f"{grants} grants in" in page, (query, page)
        page = browser.get("/?range=2026-07")
        assert_has(text_of(page), "In July 2026 players paid 700 JPY.", without=("Today", "today"))
        assert_has(page.text, 'href="/?range=2026-06#figures" rel="prev"', 'href="/?range=2026-08#figures" rel="next"')
        assert 'rel="next"' not in browser.get("/?range=2026-08").text
        assert "Nothing was paid in June 2026." in text_of(browser.get("/?range=2026-06"))

    def test_every_currency_is_said_and_can_be_drawn(self, browser, installation, studio):
        amounts = {"gross__USD": 1000, "gross__KRW": 9000, "gross__EUR": 500, "refunded__GBP": 100}
        count(installation, studio, "appcharge", **amounts)
        page = browser.get("/")
        assert_has(
            text_of(page),
            "players paid 10.00 USD, 9,000 KRW and 5.00 EUR.",  # by about what they are worth
            "Refunded, less what disputes brought back: 1.00 GBP.",
            "Appcharge: 10.00",
        )
        assert_has(page.text, 'href="/?currency=KRW#figures"', 'href="/?currency=EUR#figures"')
        for currency, drawn in (("KRW", "Appcharge: 9,000"), ("EUR", "Appcharge: 5.00"), ("GBP", "Appcharge: 10.00")):
            assert drawn in browser.get(f"/?currency={currency}").text

    def test_what_a_dispute_brought_back_is_not_refunded(self, browser, installation, studio):
        count(installation, studio, "appcharge", gross__USD=1000, refunded__USD=500, returned__USD=200)
        assert "less what disputes brought back: 3.00 USD." in text_of(browser.get("/"))

    def test_refused_calls_and_deliveries_are_metrics_of_their_own(self, browser, installation, studio):
        count(installation, studio, "appcharge", credited=1, refused__signature=2, refused__unknown_player=1)
        count(installation, studio, "relay", delivered=3, failed__timeout=1, took__300=4)
        page = browser.get("/?metric=refusals")
        assert_has(text_of(page), "3 calls were refused in the last 30 days, 3 of them today.", "unknown player: 1")
        page = browser.get("/?metric=deliveries")
        assert_has(
            text_of(page),
            "3 deliveries arrived in the last 30 days, 3 of them today; 1 attempt failed (timeout 1).",
            "up to 0.3 s",
            without=("up to 0.1 s", "longer than"),
        )
        assert "Paid none" in text_of(page)

    def test_the_game_that_earns_most_comes_first_whatever_the_currency(self, browser, installation, studio):
        rich, poor = Studio(installation, "zoo"), Studio(installation, "ant")
        count(installation, rich, "appcharge", credited=1, gross__USD=900_00)
        count(installation, poor, "appcharge", credited=1, gross__KRW=100_000)
        count(installation, studio, "appcharge", credited=1, gross__EUR=500_00)
        rows = re.findall(r'data-label="Game"><a href="/games/(\w+)"', browser.get("/").text)
        assert rows == ["zoo", "demo", "ant"]
        assert_has(browser.get("/?currency=KRW").text, "100,000", 'aria-label="Paid per day in KRW, all games')

    def test_the_page_of_a_game_has_its_figures_alone(self, browser, installation, studio):
        other = Studio(installation, "other")
        count(installation, studio, "appcharge", credited=1, gross__USD=1000, item__coins=7)
        count(installation, other, "appcharge", credited=1, gross__USD=77700)
        page = browser.get("/games/demo?metric=grants").text
        assert_has(page, "<h1>Demo</h1>", "10.00 USD", "coins: 7", without=("777.00", "<h2>Games</h2>"))

    def test_more_parts_than_shades_are_added_up(self, browser, installation, studio):
        reasons = [f"reason-{number}" for number in range(9)]
        count(installation, studio, "appcharge", credited=1, **{f"refused__{each}": 10 for each in reasons})
        page = browser.get("/?metric=refusals").text
        assert_has(page, "others: 40", "<strong>90</strong> calls were refused")

    def test_what_cannot_be_read_is_unknown_and_the_rest_is_there(self, browser, installation, studio):
        count(installation, studio, "appcharge", credited=1)
        installation.database.write_here(lambda tx: tx.execute("DROP TABLE counters"))
        page = text_of(browser.get("/"))
        assert_has(page, "shown as unknown", "unknown", "Last contact", without=("All is well",))

    def test_troubles_that_cannot_be_looked_for_are_no_sign_that_all_is_well(self, browser, installation, studio):
        installation.database.write_here(lambda tx: tx.execute("ALTER TABLE refusals RENAME TO gone"))
        page = text_of(browser.get("/"))
        assert_has(page, "nobody knows what else is wrong", without=("All is well",))

    def test_queues_are_counted_as_far_as_it_matters(self, browser, owed, monkeypatch):
        monkeypatch.setattr(lists, "COUNTED_TO", 2)
        owed.destination()
        owed.credit(5)
        assert lists.queues(owed.installation.database.read())[owed.studio.row["id"]] == {"waiting": 3, "dead": 0}

    def test_the_last_contact_of_each_partner_is_told(self, browser, installation, studio, post_order):
        post_order(headers={"signature": "t=1,v1=00"})
        installation.observations.flush()
        post_order()
        installation.observations.flush()
        assert_has(text_of(browser.get("/")), "Appcharge just now", without=("last refused",))
        post_order(headers={"signature": "t=1,v1=00"})
        installation.observations.flush()
        assert_has(text_of(browser.get("/")), "Appcharge just now", "last refused just now: signature")

    def test_the_chart_has_the_same_figures_in_a_table(self, browser, installation, studio):
        count(installation, studio, "appcharge", gross__USD=123456)
        page = browser.get("/").text
        assert "Appcharge: 1,234.56" in page  # shown when one points at the bar
        assert '<td class="number">1,234.56 USD</td>' in page

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

    def test_all_is_well_stands_beside_no_warning(self, browser, installation, studio, post_order):
        def fail(failures):
            installation.database.write_here(
                lambda tx: tx.execute(
                    """INSERT INTO schedules (game_id, name, due_at, asked, failures)
                       VALUES (:id, 'settlement.close', '2100-01-01T00:00:00.000000Z', 1, :failures)
                       ON CONFLICT (game_id, name) DO UPDATE SET failures = :failures""",
                    {"id": studio.row["id"], "failures": failures},
                )
            )

        post_order()
        for key in [each.key for each in troubles_of(browser, installation) if each.severity != NOTE]:
            browser.post("/troubles/aside", key=key, note="seen")
        well = "All is well: nothing waits for you."
        assert_has(browser.get("/").text, well, without=("Needs attention", '<details class="card behind" open'))
        fail(1)
        assert_has(browser.get("/").text, "1 job fails", '<details class="card behind" open', without=(well,))
        fail(0)
        assert well in browser.get("/").text
        post_order(playerId="nobody")
        assert_has(browser.get("/").text, "Needs attention", without=(well,))

    def test_a_game_that_is_not_set_up_is_one_line_with_five_steps(self, browser, installation):
        fresh = Studio(installation, "fresh")

        def steps():
            line = re.search(r'<ul class="begin">(.*?)</ul>', browser.get("/").text, re.DOTALL)[1]
            names = ("Keys entered", "Address pasted", "Players known", "Items known", "First credit")
            assert all(name in line for name in names), line
            return [re.search(f"✓</span> {name}", line) is not None for name in names]

        page = browser.get("/").text
        assert_has(
            page, '<a href="/games/fresh/integration">', without=("No player is registered", "<table", 'id="figures"')
        )
        assert steps() == [False] * 5
        fresh.secret("appcharge.main_key", "fresh-main-key-01234")
        fresh.config("items.unknown", "accept")
        assert steps() == [False, False, False, True, False]
        fresh.secret("appcharge.publisher_token", "fresh-token-0123456")
        fresh.player("alice")
        browser.post("/games/fresh/integration/appcharge/copied", endpoint="orders", is_copied="1")
        assert steps() == [True, True, True, True, False]
        count(installation, fresh, "appcharge", credited=1)
        assert '<ul class="begin">' not in browser.get("/").text

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
        assert "game has not answered as it should for less than a minute" in text_of(browser.get("/"))
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
                {"id": studio.row["id"], "error": STORABLE + "x" * 10_000},
            )
        )
        page = browser.get("/")
        assert "The job “Ask the game for its payments” has failed 3 times in a row" in text_of(page)
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
