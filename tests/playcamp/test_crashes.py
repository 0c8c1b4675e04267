"""The relay killed in the midst of polling and registering: afterwards no row is lost, and none was sent in two ways.

``flask relay`` runs as a process of its own between a game and a PlayCamp that really answer, and is killed with
SIGKILL at a step that the other side, or a lock on the database, makes last. What it held is given back by the end of
its lease, so that whoever goes on is a process whose clock is ahead.
"""

import json
import random
import threading
import time

import pytest

from coinslot.payments import payment_queue as queue
from coinslot.relay import jobs
from handlers.playcamp.payments import polling
from tests.fakes.game_payments import GamePayments
from tests.fakes.http import reset, silence, status
from tests.fakes.playcamp import PlayCamp
from tests.killing import flask
from tests.servers import until

BULK = "/v1/server/payments/bulk"
LEASE_SECONDS = max(jobs.LEASE_SECONDS, queue.LEASE_SECONDS) + 5
ROWS, PAGE = 1300, 400  # pages of the game, and calls of up to 1,000 to PlayCamp
REFUNDED = ("GP-3", "GP-700", "GP-1299")

pytestmark = pytest.mark.long


class Locked:
    """Holds the lock of all writes as another process would, from ``take`` on until the end."""

    def __init__(self, installation):
        self._installation = installation
        self._is_held = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._hold)

    def _hold(self):
        def hold(tx):
            self._is_held.set()
            self._is_over.wait(30)

        self._installation.database.write_here(hold)

    def take(self):
        self._thread.start()
        assert self._is_held.wait(20)

    def end(self):
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join(30)


class Round:
    """A game with payments, a PlayCamp, and what has to be true of both whatever happened in between."""

    def __init__(self, installation, studio, db, game, playcamp):
        self.installation = installation
        self.db = db
        self.game = game
        self.playcamp = playcamp
        self.lock = Locked(installation)
        self.is_reached = threading.Event()
        self.slug = studio.slug

    def pay(self, count, at):
        first = len(self.game.rows)
        for number in range(first, first + count):
            self.game.pay(f"GP-{number}", at + number / 100, user=str(number % 50), amount=f"{number}.99")

    def stored(self):
        return {row["transaction_id"]: row for row in self.db("SELECT * FROM payments")}

    def watermark(self):
        return polling.watermark(self.installation, self.installation.games.by_slug(self.slug))

    def lost(self):
        """Rows that nobody will ask for again, and that are not here."""
        found = self.watermark()
        through = 0 if found is None or found.through is None else found.through
        stored = self.stored()
        return [row["id"] for row in self.game.rows if row["at"] < through and row["id"] not in stored]

    def contents(self):
        """What PlayCamp was told of each payment, in as many ways as it was."""
        found = {}
        for request in self.playcamp.asked(BULK):
            for each in request.json["payments"]:
                found.setdefault(each["transactionId"], set()).add(json.dumps(each, default=str, sort_keys=True))
        return found

    def refunds(self):
        return [each for each in self.playcamp.routes if each.endswith("/refund")]

    def check_all_is_done(self):
        rows = {row["id"]: row for row in self.game.rows}
        refunded = {each for each, row in rows.items() if row["refunded_at"] is not None}
        stored = self.stored()
        assert set(stored) == set(self.playcamp.payments) == set(rows)
        assert {row["state"] for row in stored.values()} == {"registered"}
        assert {each for each, row in stored.items() if row["refund_state"] == "done"} == refunded
        told = {each for each, payment in self.playcamp.payments.items() if payment["status"] == "REFUNDED"}
        assert told == refunded
        assert {len(each) for each in self.contents().values()} == {1}
        assert {key: str(each["amount"]) for key, each in self.playcamp.payments.items()} == {
            key: row["amount"] for key, row in rows.items()
        }
        assert self.lost() == []
        assert self.watermark().window is None
        assert self.db("SELECT * FROM schedules WHERE lease_owner IS NOT NULL") == []
        assert self.db("SELECT * FROM payment_conflicts") == []

    # Steps: what a call does that is to be the last

    def silent(self, handler):
        """Says nothing more; what it was asked for may be done already."""
        self.is_reached.set()
        silence(handler)

    def answered_to_nobody(self, handler):
        """Answers, and whoever hears it cannot write anything down."""
        self.lock.take()
        handler.fake.send(handler, handler.fake.reply(handler.fake.requests[-1]))
        handler.wfile.flush()
        time.sleep(0.2)  # for the answer to be read; should it not be, the test is another one's and as true
        self.is_reached.set()


@pytest.fixture
def round_(installation, studio, db):
    with GamePayments("numbered") as game, PlayCamp() as playcamp:
        game.limit = PAGE
        game.set_up(studio)
        playcamp.set_up(studio)
        studio.config("playcamp.payments.every_seconds", "10")
        made = Round(installation, studio, db, game, playcamp)
        yield made
        made.lock.end()


def relay(installation, *options, later_seconds=0.0):
    return flask(installation.database.home, "relay", *options, later_seconds=later_seconds)


def go_on(installation, later_seconds):
    """All that is due by then, done by another process."""
    with relay(installation, "--once", later_seconds=later_seconds) as process:
        status, output = process.end()
    assert status == 0, output


def page_fetched(round_):
    round_.game.trouble(None, round_.answered_to_nobody)


def rows_stored(round_):
    round_.game.trouble(None, None, round_.silent)


def payments_claimed(round_):
    round_.playcamp.trouble("POST", BULK, round_.silent)


def bulk_stored(round_):
    round_.playcamp.trouble("POST", BULK, round_.silent, is_stored=True)


def bulk_answered(round_):
    round_.playcamp.trouble("POST", BULK, round_.answered_to_nobody, is_stored=True)


def one_call_done(round_):
    def as_always(handler):
        round_.playcamp.send(handler, round_.playcamp.reply(round_.playcamp.requests[-1]))

    round_.playcamp.trouble("POST", BULK, as_always, round_.silent, is_stored=True)


def refund_stored(round_):
    round_.playcamp.trouble("POST", f"/v1/server/payments/{REFUNDED[0]}/refund", round_.silent, is_stored=True)


def refund_answered(round_):
    refund = f"/v1/server/payments/{REFUNDED[0]}/refund"
    round_.playcamp.trouble("POST", refund, round_.answered_to_nobody, is_stored=True)


@pytest.mark.parametrize(
    "step",
    [
        page_fetched,
        rows_stored,
        payments_claimed,
        bulk_stored,
        bulk_answered,
        one_call_done,
        refund_stored,
        refund_answered,
    ],
)
def test_kill_9_at_each_step_loses_no_row_and_sends_none_in_two_ways(round_, installation, step):
    round_.pay(ROWS, time.time() - 600)
    for each in REFUNDED:
        round_.game.rows[int(each[3:])]["refunded_at"] = time.time() - 100
    step(round_)

    with relay(installation) as process:
        process.kill_when(round_.is_reached.is_set, "the step is reached")
    round_.lock.end()
    stored, asked, known = round_.stored(), len(round_.playcamp.asked(BULK)), dict(round_.playcamp.payments)

    assert round_.lost() == []
    states = {row["state"] for row in stored.values()}
    if step is page_fetched:
        assert len(stored) == PAGE  # the page that came last is gone with the process
        assert round_.watermark().through is None
    if step is rows_stored:
        assert (len(stored), round_.watermark().window.pages) == (2 * PAGE, 2)
        assert round_.watermark().through is None
    if step in (payments_claimed, bulk_stored, bulk_answered):
        assert (asked, states) == (1, {"waiting"})  # nothing says what became of any
        assert bool(known) is (step is not payments_claimed)
    if step is one_call_done:
        assert (asked, states) == (2, {"waiting", "registered"})
    if step in (refund_stored, refund_answered):
        assert stored[REFUNDED[0]]["refund_state"] == "waiting"
        assert known[REFUNDED[0]]["status"] == "REFUNDED"

    go_on(installation, LEASE_SECONDS)

    round_.check_all_is_done()


@pytest.mark.parametrize("step", [payments_claimed, bulk_stored])
def test_what_may_have_been_sent_before_the_kill_is_sent_again_as_it_was(round_, installation, step):
    """Though the game tells of it otherwise by then: of one that was not answered nobody knows whether it arrived."""
    round_.pay(5, time.time() - 600)
    step(round_)

    with relay(installation) as process:
        process.kill_when(round_.is_reached.is_set, "the step is reached")
    round_.game.rows[2]["amount"] = "1.23"
    go_on(installation, LEASE_SECONDS)

    assert {len(each) for each in round_.contents().values()} == {1}
    assert str(round_.playcamp.payments["GP-2"]["amount"]) == round_.stored()["GP-2"]["amount"] == "2.99"
    assert {row["state"] for row in round_.stored().values()} == {"registered"}
    assert len(round_.db("SELECT * FROM payment_conflicts")) == 1  # for a person


def test_kill_9_at_moments_that_chance_chooses_loses_nothing_either(round_, installation, studio):
    """Each time with new payments, some given back, a game that breaks off, and a PlayCamp in trouble."""
    chance = random.Random(20)
    later = 0.0
    round_.game.limit = 50
    studio.config("playcamp.payments.retry", ",".join(["1"] * 20))  # trouble is to keep no round from its work
    for number in range(10):
        round_.pay(150, time.time() + later - 100)  # after the end of the range before
        chance.choice(round_.game.rows)["refunded_at"] = time.time() + later - 50
        round_.game.trouble(*[None] * chance.randrange(4), chance.choice((None, reset, status(500), status(429))))
        round_.playcamp.trouble("POST", BULK, chance.choice((reset, status(500))), is_stored=number % 2 == 0)
        with relay(installation, later_seconds=later) as process:
            before = len(round_.game.requests)
            until(lambda n=before: len(round_.game.requests) > n, "the relay is at it", 60)
            process.kill_after(0.6, chance)
        assert round_.lost() == []
        later += LEASE_SECONDS

    round_.game.end_troubles()
    round_.playcamp.end_troubles()
    for _ in range(3):
        go_on(installation, later)
        later += LEASE_SECONDS + 3600

    round_.check_all_is_done()
