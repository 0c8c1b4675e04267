"""What tests of the outbox need: destinations, and grants owed to them."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from coinslot.base import clock
from coinslot.installation import Installation
from coinslot.ledger import credit as ledger
from coinslot.ledger import events, policies, refunds, reports
from coinslot.outbox import conversion_queue, destinations, redrives
from coinslot.outbox.attempts import Claim, Result, claim_due, record
from coinslot.relay.loop import Relay
from coinslot.store.db import Connection, Row

T = TypeVar("T")
NOWHERE = "http://127.0.0.1:9/hook"  # of destinations that nothing is sent to


def a_credit(game_id: int, external_id: str, **changed: Any) -> reports.Credit:
    """A purchase of 5 coins by ``alice``, as a partner's route hands it to the ledger."""
    usual: dict[str, Any] = {
        "game_slug": "demo",
        "partner": "appcharge",
        "kind": "purchase",
        "player_id": "alice",
        "lines": (("coins", 5),),
        "fingerprint": "same",
        "raw_body": b"body",
        "signature": "signature",
        "signed_with": "key/current",
        "answer_status": 200,
        "answer_body": "first",
    }
    return reports.Credit(game_id=game_id, external_id=external_id, reference=external_id, **usual | changed)


class Owed:
    """A game's destinations and deliveries. ``studio`` is the fixture of conftest.py."""

    def __init__(self, installation: Installation, studio: Any) -> None:
        self.installation = installation
        self.studio = studio
        self.credited = 0
        self.happened = 0

    def write(self, function: Callable[[Connection], T]) -> T:
        return self.installation.database.write_here(function)

    @property
    def game_id(self) -> int:
        return int(self.studio.row["id"])

    def change(self, sql: str, **values: Any) -> None:
        """One statement in a write of its own."""
        self.write(lambda tx: tx.execute(sql, values))

    def rows(self, sql: str, **values: Any) -> list[Row]:
        return self.installation.database.read().execute(sql, values).fetchall()

    def destination(self, name: str = "game", url: str = NOWHERE, **options: Any) -> str:
        """Returns the signing secret."""
        return self.write(
            lambda tx: destinations.add(
                *(tx, self.installation.vault, self.studio.slug, name, url),
                actor="test",
                formats=self.installation.formats,
                **options,
            )
        )

    def state(self, name: str = "game") -> Row:
        (row,) = self.rows("SELECT * FROM destinations WHERE name = :name", name=name)
        return row

    def set_state(self, name: str, state: str) -> None:
        self.write(lambda tx: destinations.set_state(tx, self.studio.slug, name, state, "test"))

    def credit(self, count: int = 1, player: str = "alice") -> list[int]:
        """Credit so many times in one write; returns the ids of the grants."""

        def make(tx: Connection) -> list[int]:
            for _ in range(count):
                self.credited += 1
                wanted = a_credit(
                    self.game_id, f"e-{self.credited}", partner="somebody", game_slug=self.studio.slug, player_id=player
                )
                ledger.credit(tx, wanted, reports.Rules(unknown_player="accept"))
            rows = tx.execute("SELECT id FROM grants ORDER BY id DESC LIMIT :count", {"count": count}).fetchall()
            return sorted(row["id"] for row in rows)

        return self.write(make)

    def happen(self, count: int = 1, player: str = "alice") -> list[int]:
        """Have so many boosts begin and convert each, in one write; returns the ids of the events."""
        game_id = self.game_id

        def make(tx: Connection) -> list[int]:
            event_ids = []
            for _ in range(count):
                self.happened += 1
                event_id = events.record(
                    tx,
                    game_id=game_id,
                    partner="somebody",
                    type="sponsor.created",
                    dedupe_key=f"b-{self.happened}",
                    data={},
                    raw_body=None,
                    environment="live",
                    is_test=False,
                    player_id=player,
                )
                assert event_id is not None
                conversion_queue.add(tx, game_id, event_id, player, f"b-{self.happened}")
                event_ids.append(event_id)
            for group in list(conversion_queue.open_groups(tx, game_id)):
                body = {"event_id": group[0].event_id, "player_id": player}
                conversion_queue.convert(tx, game_id, group, json.dumps(body).encode())
            return event_ids

        return self.write(make)

    def reverse(self, grant_id: int) -> int:
        """Reverse the transaction of a grant; returns the id of the reversal's."""

        def make(tx: Connection) -> int:
            transaction = tx.execute(
                "SELECT t.* FROM transactions t JOIN grants g ON g.transaction_id = t.id WHERE g.id = :id",
                {"id": grant_id},
            ).fetchone()
            new_id = refunds.reverse(tx, transaction, policies.Policy.always("flag"), "a test asked for it")
            assert new_id is not None
            return new_id

        return self.write(make)

    def claim(self, room: int = 8, owner: str = "me", name: str = "game") -> list[Claim]:
        destination_id = self.state(name)["id"]
        return self.write(lambda tx: claim_due(tx, owner, {destination_id: room}))

    def claimed(self, owner: str = "me", **options: Any) -> Claim:
        """A destination, a grant that is owed to it, and the claim on that."""
        self.destination(**options)
        self.credit()
        (claim,) = self.claim(owner=owner)
        return claim

    def record(self, claim: Claim, failure: str | None = None, status: int | None = None, **rest: Any) -> str:
        """Returns the delivery's state; ``failure`` None is a success."""
        return self.write(lambda tx: record(tx, claim, Result(failure, status, **rest)))

    def fail(self, claim: Claim) -> str:
        return self.record(claim, "status", 500)

    def fail_all(self, name: str = "game") -> None:
        """Fail what can be claimed until nothing can: with ``retry="0"``, until all of it is dead."""
        while claims := self.claim(name=name):
            for claim in claims:
                self.fail(claim)

    def redrive(self, delivery_id: int | None = None, **which: Any) -> int:
        """Put back one delivery, or all that are chosen; returns how many."""
        if delivery_id is not None:
            self.write(lambda tx: redrives.redrive_one(tx, self.game_id, delivery_id))
            return 1
        portions = redrives.redrivable(self.installation.database.read(), self.game_id, **which)
        found = list(itertools.chain.from_iterable(portions))
        return self.write(lambda tx: redrives.redrive(tx, self.game_id, found))

    def drain(self) -> int:
        return self.installation.new_relay().drain()

    def deliveries(self, state: str | None = None) -> list[Row]:
        return self.rows("SELECT * FROM deliveries WHERE :state IS NULL OR state = :state ORDER BY id", state=state)

    def delivery(self, grant_id: int) -> Row:
        (row,) = self.rows("SELECT * FROM deliveries WHERE grant_id = :id", id=grant_id)
        return row

    def attempts(self) -> list[Row]:
        return self.rows("SELECT * FROM attempts ORDER BY id")

    def due_in(self, delivery_id: int) -> float:
        (row,) = self.rows("SELECT next_attempt_at FROM deliveries WHERE id = :id", id=delivery_id)
        return clock.seconds(row["next_attempt_at"]) - clock.now()


@contextmanager
def running(installation: Installation, relays: int = 1) -> Iterator[Relay]:
    """Relays that run in threads of this process."""
    made = [installation.new_relay() for _ in range(relays)]
    threads = [threading.Thread(target=each.run) for each in made]
    for thread in threads:
        thread.start()
    try:
        yield made[0]
    finally:
        for each in made:
            each.stop()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
