"""What a write takes of turns over the network, under the lock: no installation commits faster than that allows."""

import base64
import os
from dataclasses import replace

import pytest

from app import create_app
from bench.distance import Distance
from coinslot.games import registry
from coinslot.ledger import credit, reports
from coinslot.operations import search_job
from coinslot.outbox import attempts
from tests import postgres
from tests.conftest import furnish
from tests.owed import Owed

pytestmark = pytest.mark.long


@pytest.fixture
def far(tmp_path):
    """An installation whose database is behind a network, that network, and a game."""
    with postgres.fresh_database() as url, Distance(url) as network:
        key = base64.b64encode(os.urandom(32)).decode()
        environment = {
            "COINSLOT_HOME": str(tmp_path / "home"),
            "COINSLOT_DATABASE": network.url,
            "COINSLOT_MASTER_KEY": key,
        }
        installation = create_app(environment).extensions["coinslot"]
        installation.prepare()
        yield installation, network, furnish(installation)
        installation.observations.flush()
        installation.database.close()


def order(studio, number):
    return reports.Credit(
        game_id=studio.row["id"],
        game_slug=studio.slug,
        partner="appcharge",
        external_id=f"e-{number}",
        reference=f"e-{number}",
        kind="purchase",
        player_id="alice",
        lines=(("coins", 5), ("gems", 1)),
        fingerprint="f",
        raw_body=b"body",
        signature="s",
        signed_with="key/current",
        answer_status=200,
        answer_body="{}",
        keys=(("payment", f"p-{number}"), ("purchase", f"q-{number}")),
        known_by=(("payment", f"p-{number}"),),
    )


def test_a_credit_takes_five_turns(far):
    installation, network, studio = far
    first, second = order(studio, 1), order(studio, 2)
    installation.database.write(lambda tx: credit.credit(tx, first, reports.Rules()))  # makes the connection
    before = network.turns

    assert installation.database.write(lambda tx: credit.credit(tx, second, reports.Rules())).is_new

    # To begin, which waits for the lock; what a credit must know; the row that decides; all the rest; to commit.
    assert network.turns - before == 5


def test_deliveries_are_claimed_together(far):
    installation, network, studio = far
    owed = Owed(installation, studio)
    owed.destination()
    owed.credit(20)
    due = {owed.state()["id"]: 20}
    installation.database.write(lambda tx: None)  # makes the connection
    before = network.turns

    claims = installation.database.write(lambda tx: attempts.claim_due(tx, "relay", due))

    assert len({claim.attempt_id for claim in claims}) == 20
    assert network.turns - before <= 8


def test_a_portion_goes_into_the_search_together(far):
    installation, network, studio = far

    def make(tx):
        for number in range(20):
            body = f'{{"customer": {{"email": "{number}@example.com"}}}}'.encode()
            credit.credit(tx, replace(order(studio, number), raw_body=body), reports.Rules())
            registry.register_player(tx, studio.row["id"], f"p-{number}", f"Player {number}")

    installation.database.write(make)
    before = network.turns

    search_job.fill(installation.database, installation.vault)

    assert network.turns - before <= 40
    count = "SELECT count(*) FROM search_keys WHERE kind = 'address'"
    assert installation.database.read().execute(count).fetchone()[0] == 20


def test_a_read_takes_one_turn(far):
    installation, network, _ = far
    installation.database.read().execute("SELECT 1")
    before = network.turns

    assert installation.database.read().execute("SELECT count(*) FROM games").fetchone()[0] == 1

    assert network.turns - before == 1
