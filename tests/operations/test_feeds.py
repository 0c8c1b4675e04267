"""Grants that nobody has taken: neither a destination, nor the game, by reading or by its acknowledgement."""

import pytest

from coinslot.base import clock as clocks
from coinslot.operations import feeds
from coinslot.operations.feeds import Untaken
from coinslot.outbox import destinations
from tests import databases
from tests.conftest import order

HOUR = 3600


@pytest.fixture(autouse=True)
def game(clock, studio):
    """The clock stands still, and the game is there."""


@pytest.fixture
def untaken(installation):
    """What is found, with the job run before, and the same without it."""

    def look() -> list[Untaken]:
        return feeds.find(installation.database.read().execute(feeds.UNTAKEN, feeds.bounds(clocks.now())))

    def find() -> list[Untaken]:
        installation.observations.flush()
        before = look()
        feeds.watch(installation.database)
        after = look()
        assert before == after
        return after

    return find


@pytest.fixture
def buy(post_order):
    def buy(number: int, **changed) -> str:
        answer = post_order(
            orderId=f"order-{number}",
            appChargePaymentId=f"payment-{number}",
            purchaseId=f"purchase-{number}",
            **changed,
        )
        assert answer.status_code == 200, answer.text
        return clocks.stamp()

    return buy


def destination(installation, name="game", events="*") -> int:
    def add(tx) -> int:
        destinations.add(tx, installation.vault, "demo", name, "http://127.0.0.1:9/", actor="test", events=events)
        return tx.execute("SELECT max(id) FROM destinations").fetchone()[0]

    return installation.database.write_here(add)


def end_deliveries(installation, state: str) -> None:
    installation.database.write_here(
        lambda tx: tx.execute(
            "UPDATE deliveries SET state = :state, next_attempt_at = NULL, finished_at = :now WHERE state = 'waiting'",
            {"state": state, "now": clocks.stamp()},
        )
    )


def test_a_game_that_never_reads_is_named_after_an_hour_with_its_money(buy, untaken, clock):
    since = buy(1)
    clock.shift(60)
    for number in range(2, 57):
        buy(number)
    clock.shift(HOUR - 61)
    assert untaken() == []
    clock.shift(2)

    (found,) = untaken()
    assert (found.game, found.count, found.since, found.read_at) == ("demo", 56, since, None)
    assert found.usual_seconds is None
    assert found.money == {"USD": 56 * order()["priceInCents"]}


def test_what_it_asks_to_read_after_is_taken_and_so_is_what_it_acknowledges(buy, untaken, feed, clock, client, studio):
    buy(1)
    buy(2)
    clock.shift(2 * HOUR)
    (found,) = untaken()
    assert found.count == 2

    page = feed()  # that it was answered does not say that it arrived
    (found,) = untaken()
    assert (found.count, found.read_at) == (2, clocks.stamp())
    feed(after=page[0]["id"])
    (found,) = untaken()
    assert found.count == 1

    headers = {"Authorization": f"Bearer {studio.token}"}
    client.post("/game/v1/grants/ack", json={"through": page[-1]["id"]}, headers=headers)
    assert untaken() == []


def test_a_cursor_beyond_every_grant_says_nothing(buy, untaken, feed, clock):
    buy(1)
    feed(after=10**12)
    clock.shift(2 * HOUR)

    (found,) = untaken()
    assert found.count == 1
    assert found.read_at is not None


def test_how_long_a_game_takes_is_learned_from_it(buy, untaken, feed, clock, db):
    for number in range(6):  # it reads once a day, ten hours after an order
        buy(number)
        clock.shift(10 * HOUR)
        feed(after=feed()[-1]["id"])
        untaken()
        clock.shift(14 * HOUR)
    buy(99)
    clock.shift(26 * HOUR)
    assert untaken() == []
    clock.shift(2 * HOUR)

    (found,) = untaken()
    assert (found.count, found.usual_seconds) == (1, 10 * HOUR)


def test_a_game_that_reads_every_minute_is_late_after_a_quarter_of_an_hour(buy, untaken, feed, clock):
    for number in range(5):
        buy(number)
        clock.shift(60)
        feed(after=feed()[-1]["id"])
        untaken()
        clock.shift(24 * HOUR)
    buy(99)
    clock.shift(feeds.LEAST_LATE_SECONDS - 1)
    assert untaken() == []
    clock.shift(2)

    assert [each.count for each in untaken()] == [1]


@pytest.mark.parametrize(
    ("state", "is_removed", "is_untaken"),
    [("waiting", False, False), ("dead", False, False), ("delivered", False, False), ("dead", True, True),
     ("delivered", True, False)],
)  # fmt: skip
def test_what_a_destination_has_or_is_still_owed_is_not_untaken(
    installation, buy, untaken, clock, state, is_removed, is_untaken
):
    destination_id = destination(installation)
    buy(1)
    if state != "waiting":
        end_deliveries(installation, state)
    clock.shift(300)
    untaken()
    if is_removed:
        installation.database.write_here(
            lambda tx: tx.execute("UPDATE destinations SET state = 'removed' WHERE id = :id", {"id": destination_id})
        )
    clock.shift(2 * HOUR)

    assert bool(untaken()) is is_untaken


def test_grants_from_before_the_destination_stay_untaken_even_when_deliveries_are_deleted(
    installation, buy, untaken, clock
):
    buy(1)
    clock.shift(100)
    destination(installation)
    buy(2)
    end_deliveries(installation, "delivered")
    clock.shift(2 * HOUR)
    assert [each.count for each in untaken()] == [1]
    installation.database.write_here(lambda tx: tx.execute("DELETE FROM deliveries"))

    assert [each.count for each in untaken()] == [1]


def test_a_destination_that_gets_no_grants_takes_none(installation, buy, untaken, clock):
    destination(installation, events="player.*")
    buy(1)
    clock.shift(2 * HOUR)

    assert [each.count for each in untaken()] == [1]


def test_tests_are_not_counted(installation, buy, untaken, clock, studio):
    studio.config("appcharge.environment", "sandbox")
    buy(1)
    clock.shift(2 * HOUR)

    assert untaken() == []


def test_more_than_are_kept_are_counted_as_more_and_all_end_when_they_are_read(
    installation, buy, untaken, clock, feed, monkeypatch, db
):
    monkeypatch.setattr(feeds, "MOST", 5)
    monkeypatch.setattr(feeds, "JUDGED_AT_ONCE", 4)
    for number in range(20):
        buy(number)
    clock.shift(2 * HOUR)
    assert [each.count for each in untaken()] == [20]
    assert db("SELECT count(*) AS n FROM untaken_grants") == [{"n": 6}]

    feed(after=feed()[-1]["id"])
    assert untaken() == []
    assert db("SELECT count(*) AS n FROM untaken_grants") == [{"n": 0}]
    assert db("SELECT judged_through FROM feeds") == [{"judged_through": 20}]


def test_reading_costs_a_commit_a_minute_when_there_is_nothing_new(installation, feed, clock, db):
    for _ in range(10):
        feed()
        installation.observations.flush()
        clock.shift(10)
    with databases.nothing_written(installation):
        feed()
        installation.observations.flush()
    clock.shift(60)
    feed()
    installation.observations.flush()

    assert db("SELECT read_at FROM feeds") == [{"read_at": clocks.stamp()}]


def test_the_relay_runs_the_job_from_the_start_on(installation, buy, clock, db):
    buy(1)
    clock.shift(120)
    installation.new_relay().drain()

    assert db("SELECT grant_id FROM untaken_grants") == [{"grant_id": 1}]
    (job,) = db("SELECT * FROM schedules WHERE name = 'feeds'")
    assert (job["game_id"], job["failures"]) == (0, 0)
