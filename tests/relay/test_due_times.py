"""The clock of the machine ran ahead and was set right: nothing waits for the wrong future."""

import time

import pytest

from coinslot.base import clock as coinslot_clock
from coinslot.outbox import attempts, deliveries
from coinslot.outbox.attempts import Result
from coinslot.payments import payment_queue as queue
from coinslot.relay import due_times, jobs
from coinslot.relay.jobs import JobError
from tests import databases
from tests.fakes.http import Receiver, status
from tests.owed import running
from tests.servers import until

YEAR = 365 * 86400


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def test_a_delivery_that_failed_in_the_wrong_future_is_sent_again_at_once(owed, receiver, clock):
    receiver.script[:] = [status(500), status(200)]
    owed.destination(url=receiver.url)
    owed.credit()
    clock.shift(YEAR)
    assert owed.drain() == 1

    clock.shift(-YEAR)

    assert owed.drain() == 1
    assert [row["state"] for row in owed.deliveries()] == ["delivered"]


@pytest.mark.parametrize("ahead", [60, 3600, 86400])
def test_what_a_clock_put_off_that_ran_ahead_by_less_than_a_delay_is_due_too(owed, receiver, clock, ahead):
    receiver.script[:] = [status(500), status(200)]
    owed.destination(url=receiver.url)
    clock.shift(ahead)
    owed.credit()
    assert owed.drain() == 1  # which failed
    owed.credit()  # of which no attempt was begun

    clock.shift(-ahead)

    assert owed.drain() == 2
    assert {row["state"] for row in owed.deliveries()} == {"delivered"}


def test_a_clock_that_runs_ahead_while_an_attempt_is_recorded_puts_it_off_no_further(owed, receiver, clock):
    owed.destination(url=receiver.url)
    owed.credit()
    (claim,) = owed.claim()
    clock.shift(3600)
    owed.write(lambda tx: attempts.record(tx, claim, Result("status", 500, duration_ms=20)))

    clock.shift(-3600 + 60)

    assert owed.drain() == 1
    assert [row["state"] for row in owed.deliveries()] == ["delivered"]


def test_a_clock_that_ran_ahead_for_a_moment_between_two_signs_of_life_is_noticed(owed, receiver):
    receiver.script[:] = [status(500), status(200)]
    owed.destination(url=receiver.url)
    with databases.travel(time.time(), tick=True) as clock, running(owed.installation):
        until(lambda: deliveries.is_relay_running(owed.installation.database.read()), "the relay runs")
        clock.shift(3600)
        owed.credit()
        until(lambda: owed.deliveries()[0]["attempts_made"], "it failed once")
        clock.shift(-3600)
        until(lambda: owed.deliveries()[0]["state"] == "delivered", "it was sent again")


def test_a_relay_notices_that_the_clock_was_set_back(clock):
    watch = due_times.ClockWatch()

    def notices(seconds):
        clock.shift(seconds)
        return watch.is_set_back()

    assert watch.is_set_back()  # before it began, perhaps
    assert [notices(seconds) for seconds in (0, 3600, 60, -30, -0.5, 5, -3600)] == [
        *[False] * 3,
        True,
        False,
        False,
        True,
    ]


def test_a_delay_of_the_table_is_waited_for(owed, receiver, clock):
    receiver.script[:] = [status(500)]
    owed.destination(url=receiver.url, retry="2000000")
    owed.credit()
    assert owed.drain() == 1

    clock.shift(86400)

    assert owed.drain() == 0


@pytest.mark.parametrize("format", ["standard", "playcamp"])
def test_a_lease_of_a_process_that_died_in_the_wrong_future_has_run_out(owed, clock, format):
    owed.destination(format=format, timeout_seconds=60)
    owed.credit() if format == "standard" else owed.happen(2)
    clock.shift(YEAR)
    (first,) = owed.claim(room=1)

    clock.shift(-YEAR)

    (again,) = owed.claim(room=1)
    assert again.id == first.id
    clock.shift(-1)  # as time servers do: the longest lease is respected
    assert owed.claim() == []


def test_a_destination_that_rests_until_the_wrong_future_is_probed(owed, receiver, clock):
    owed.destination(url=receiver.url)
    owed.credit()
    owed.change(
        "UPDATE destinations SET down_since = :at, circuit_open_since = :at, next_probe_at = :at",
        at=coinslot_clock.stamp(coinslot_clock.now() + YEAR),
    )

    assert owed.drain() == 1
    assert owed.state()["circuit_open_since"] is None


def test_a_job_that_failed_or_was_in_hand_in_the_wrong_future_runs(owed, installation, clock):
    ran = []
    installation.jobs = {name: lambda installation, game, name=name: ran.append(name) for name in ("failed", "in-hand")}
    clock.shift(YEAR)
    for name in installation.jobs:
        owed.write(lambda tx, name=name: jobs.at(tx, owed.game_id, name, 0))
    (due,) = owed.write(lambda tx: jobs.claim_due(tx, "dies", ["failed"], 1))
    owed.write(lambda tx: jobs.finished(tx, due, None, JobError("no luck")))
    owed.write(lambda tx: jobs.claim_due(tx, "dies", ["in-hand"], 1))
    assert owed.write(lambda tx: jobs.take(tx, "dies", owed.game_id, "by-hand"))

    clock.shift(-YEAR)

    assert owed.write(lambda tx: jobs.take(tx, "me", owed.game_id, "by-hand"))
    owed.drain()
    assert sorted(ran) == ["failed", "in-hand"]


def test_payments_and_refunds_put_off_into_the_wrong_future_are_due(owed, installation, clock):
    far, day = (coinslot_clock.stamp(time.time() + seconds) for seconds in (YEAR, 80000))
    for number, (next_at, refund_at) in enumerate([(far, None), (None, far), (day, None)]):
        owed.change(
            """INSERT INTO payments (game_id, transaction_id, source, reported, fingerprint, is_test, state,
                                     next_try_at, refund_state, refund_next_at, created_at, updated_at)
               VALUES (:game_id, :id, 'poll', '{}', 'x', 0, :state, :next_at, :refund, :refund_at, :far, :far)""",
            game_id=owed.game_id,
            id=f"T-{number}",
            state="registered" if next_at is None else "waiting",
            next_at=next_at,
            refund=None if refund_at is None else "waiting",
            refund_at=refund_at,
            far=far,
        )

    owed.write(due_times.mend)

    rows = owed.rows("SELECT transaction_id AS id, coalesce(next_try_at, refund_next_at) AS due FROM payments")
    now = coinslot_clock.stamp()
    assert {row["id"]: row["due"] for row in rows} == {"T-0": now, "T-1": now, "T-2": day}
    assert queue.next_due(installation.database.read(), owed.game_id) == now


def test_many_are_mended_a_portion_at_a_time(owed, clock, monkeypatch):
    monkeypatch.setattr(due_times, "MENDED_AT_ONCE", 2)
    owed.destination()
    owed.credit(5)
    owed.change("UPDATE deliveries SET next_attempt_at = '2999-01-01T00:00:00.000000Z'")
    assert [owed.write(due_times.mend) for _ in range(3)] == [True, True, False]
    assert len(owed.claim()) == 5


def test_a_heartbeat_of_the_wrong_future_says_nothing(owed, installation, clock, client):
    owed.destination()
    clock.shift(YEAR)
    owed.write(deliveries.beat)
    clock.shift(-YEAR)
    assert client.get("/readyz").json["checks"]["relay"] != "ok"
    assert deliveries.last_beat(installation.database.read()) is None
