"""PlayCamp as the tests of its payments see it: a fake of its API, and what became of each payment."""

import pytest

from coinslot.payments import parsing as payment_report
from coinslot.payments import payment_queue
from coinslot.payments import store as payments
from coinslot.payments.payment_queue import REFUND, REGISTER
from handlers.playcamp.payments import registration
from handlers.playcamp.payments.rules import rules
from tests.fakes.playcamp import PlayCamp

NOW = 1_767_323_045  # 2026-01-02T03:04:05Z


@pytest.fixture
def now(clock):
    clock.move_to(NOW)
    return clock


@pytest.fixture
def playcamp(studio, now):
    with PlayCamp() as playcamp:
        playcamp.set_up(studio)
        yield playcamp


@pytest.fixture
def register(installation):
    return lambda: registration.run(installation, installation.games.by_slug("demo"))


@pytest.fixture
def write(installation):
    """Call a function of the core in a write of its own."""
    return lambda function, *values, **named: installation.database.write(lambda tx: function(tx, *values, **named))


@pytest.fixture
def claim(write, studio):
    """Take payments that are due to be registered, as the job does."""

    def take(limit=10, kind=REGISTER, is_sandbox=False):
        return write(payment_queue.claim, kind, studio.row["id"], limit, is_sandbox=is_sandbox)

    return take


@pytest.fixture
def claim_refunds(claim):
    return lambda is_sandbox=False: claim(kind=REFUND, is_sandbox=is_sandbox)


@pytest.fixture
def finish(write):
    """PlayCamp has these payments, or their refunds."""

    def settle(*rows, kind=REGISTER, is_sandbox=False):
        write(payment_queue.finish, kind, [row["id"] for row in rows], is_sandbox=is_sandbox)

    return settle


@pytest.fixture
def report(installation, studio):
    """Payments as a game reports them, in the order of their ids."""

    def store(*transaction_ids, is_test=False, is_registering=True, **changed):
        game = installation.games.by_slug(studio.slug)
        row = {"userId": "100001", "productId": "gem_100", "amount": "9900", "currency": "KRW", "market": "google"}
        row |= {"purchasedAt": NOW - 600} | changed
        found = [
            payment_report.check({**row, "transactionId": each}, rules(game), "push", is_test=is_test)
            for each in transaction_ids
        ]
        return installation.database.write(
            lambda tx: payments.store_many(tx, game.id, found, is_registering=is_registering)
        )

    return store


@pytest.fixture
def row(db):
    def find(transaction_id):
        (found,) = db("SELECT * FROM payments WHERE transaction_id = :id", id=transaction_id)
        return found

    return find


@pytest.fixture
def states(db):
    return lambda: {row["transaction_id"]: row["state"] for row in db("SELECT * FROM payments")}


@pytest.fixture
def stored(db):
    """The payments there are, by transaction id."""
    return lambda: {row["transaction_id"]: row for row in db("SELECT * FROM payments ORDER BY id")}
