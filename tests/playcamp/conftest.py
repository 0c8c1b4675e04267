"""PlayCamp as the tests of its payments see it: a fake of its API, and what became of each payment."""

import pytest

from coinslot.payments import parsing as payment_report
from coinslot.payments import store as payments
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
def report(installation, studio):
    """Payments as a game reports them, in the order of their ids."""

    def store(*transaction_ids, is_test=False, **changed):
        game = installation.games.by_slug(studio.slug)
        found = [
            payment_report.check(
                {
                    "transactionId": transaction_id,
                    "userId": "100001",
                    "productId": "gem_100",
                    "amount": "9900",
                    "currency": "KRW",
                    "market": "google",
                    "purchasedAt": NOW - 600,
                    **changed,
                },
                rules(game),
                "push",
                is_test=is_test,
            )
            for transaction_id in transaction_ids
        ]
        return installation.database.write_here(lambda tx: payments.store_many(tx, game.id, found, is_registering=True))

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
