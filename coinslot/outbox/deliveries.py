"""Deliveries owed to a game's destinations: written in the commit that causes them, kept until delivered or dead.

Delivery is at least once: ``webhook_id`` stays the same over every attempt, and the receiver deduplicates by it.
``coinslot/relay/loop.py`` sends, outside every transaction.

A reversal waits while its original does. In formats with an order, deliveries of one player go one at a time, in
order. A dead letter blocks no other.
"""

import uuid
from collections.abc import Mapping, Sequence

from coinslot.base import clock
from coinslot.outbox import destinations
from coinslot.outbox.destinations import LONGEST_TIMEOUT_SECONDS
from coinslot.store.db import Connection
from coinslot.store.queries import fact, insert, set_fact, value

LEASE_SPARE_SECONDS = 5  # beyond the destination's timeout
# A lease that ends later than this was made by a clock that ran ahead and was set right since: it has run out.
LONGEST_LEASE_SECONDS = LONGEST_TIMEOUT_SECONDS + LEASE_SPARE_SECONDS + 60
OLDEST_BEAT_SECONDS = 30  # a relay says every five that it runs

STATES = ("waiting", "dead", "delivered")


def enqueue(
    tx: Connection,
    game_id: int,
    event_type: str,
    *,
    grant_id: int | None = None,
    event_id: int | None = None,
    player_id: str | None = None,
    reverses: int | None = None,
) -> int:
    """Owe a grant or an event to every destination of the game that wants it; returns how many those are.

    ``reverses`` is the grant that a reversal undoes. Formats that get only conversions get nothing of it.
    """
    wanting = destinations.wanting(tx, game_id, (event_type,))
    for destination_id in wanting:
        waits_for = None if reverses is None else delivery_of(tx, destination_id, reverses)
        owe(tx, game_id, destination_id, event_type, grant_id, event_id, player_id, waits_for)
    return len(wanting)


def enqueue_converted(
    tx: Connection, game_id: int, event_types: Sequence[str], event_id: int, player_id: str | None
) -> int:
    """Owe the body an event was converted into to every destination of such a format that wants it; returns how many.

    A body may hold several events of a player: ``event_id`` is the first. Who wants the type of one gets the body.
    """
    wanting = destinations.wanting(tx, game_id, event_types, is_converted=True)
    for destination_id in wanting:
        owe(tx, game_id, destination_id, event_types[0], None, event_id, player_id, None)
    return len(wanting)


def prunable(connection: Connection, game_id: int, before: str, limit: int) -> list[int]:
    """Ids of some deliveries of a game that arrived before a time. What another delivery waits for is left out."""
    rows = connection.execute(
        f"""SELECT id FROM deliveries d
            WHERE destination_id IN (SELECT id FROM destinations WHERE game_id = :game_id) AND {_IS_PRUNABLE}
            LIMIT :limit""",  # noqa: S608  our own words only
        {"game_id": game_id, "before": before, "limit": limit},
    )
    return [row["id"] for row in rows]


def prune(tx: Connection, delivery_id: int, before: str) -> bool:
    """Delete a delivery and its attempts, if it may still be deleted; returns whether it was."""
    values = {"id": delivery_id, "before": before}
    if value(tx, f"SELECT 1 FROM deliveries d WHERE id = :id AND {_IS_PRUNABLE}", values) is None:  # noqa: S608
        return False
    tx.execute("DELETE FROM attempts WHERE delivery_id = :id", values)
    tx.execute("DELETE FROM deliveries WHERE id = :id", values)
    return True


_IS_PRUNABLE = """state = 'delivered' AND finished_at < :before
    AND NOT EXISTS (SELECT 1 FROM deliveries w WHERE w.waits_for = d.id)"""


def last_ids(connection: Connection) -> dict[str, int]:
    """At least the highest id of each table of ours that was handed out, as far as this database knows."""
    deliveries, attempts = connection.execute(
        "SELECT (SELECT max(id) FROM deliveries), (SELECT max(id) FROM attempts)"
    ).fetchone()
    return {
        "deliveries": max(deliveries or 0, floor_of(connection, "deliveries")),
        "attempts": max(attempts or 0, floor_of(connection, "attempts")),
    }


def begin_above(tx: Connection, ids: Mapping[str, int]) -> None:
    """Continue the ids of these tables above these, so that an id from before a restore names nothing new."""
    for name, last_id in ids.items():
        set_fact(tx, f"outbox.{name}_above", str(last_id))


def beat(tx: Connection) -> None:
    """Say that a relay is running."""
    ending = "ON CONFLICT (name) DO UPDATE SET beat_at = excluded.beat_at"
    insert(tx, "heartbeats", {"name": "relay", "beat_at": clock.stamp()}, ending)


def last_beat(connection: Connection) -> float | None:
    """When a relay last said so, in Unix seconds. None: never, or by a clock that ran ahead."""
    return read_beat(value(connection, "SELECT beat_at FROM heartbeats WHERE name = 'relay'", {}))


def read_beat(found: str | None) -> float | None:
    """A stored beat, as :func:`last_beat` has it."""
    beat = None if found is None else clock.seconds(found)
    return None if beat is None or beat > clock.now() + OLDEST_BEAT_SECONDS else beat


def is_relay_running(connection: Connection) -> bool:
    """Whether a relay has said so in the last :data:`OLDEST_BEAT_SECONDS`."""
    beat = last_beat(connection)
    return beat is not None and clock.now() - beat <= OLDEST_BEAT_SECONDS


def owe(
    tx: Connection,
    game_id: int,
    destination_id: int,
    event_type: str,
    grant_id: int | None,
    event_id: int | None,
    player_id: str | None,
    waits_for: int | None,
) -> None:
    """Owe one delivery: of a grant or of an event, due at once, or after ``waits_for`` has ended."""
    tx.execute(
        """INSERT INTO deliveries (id, game_id, destination_id, webhook_id, event_type, grant_id, event_id, waits_for,
                                   player_id, next_attempt_at, created_at)
           VALUES ((SELECT CASE WHEN last_id > :floor THEN last_id ELSE :floor END + 1
                    FROM (SELECT coalesce((SELECT max(id) FROM deliveries), 0) AS last_id) d),
                   :game_id, :destination_id, :webhook_id, :event_type, :grant_id, :event_id, :waits_for,
                   :player_id, :now, :now)""",
        {
            "floor": floor_of(tx, "deliveries"),
            "game_id": game_id,
            "destination_id": destination_id,
            "webhook_id": f"msg_{uuid.uuid4().hex}",
            "event_type": event_type,
            "grant_id": grant_id,
            "event_id": event_id,
            "waits_for": waits_for,
            "player_id": player_id,
            "now": clock.stamp(),
        },
    )


def floor_of(connection: Connection, table: str) -> int:
    """The id above which the ids of a table continue."""
    return int(fact(connection, f"outbox.{table}_above") or 0)


def lease_bounds(now: float) -> dict[str, str]:
    """A lease counts that ends after ``now`` and not after ``longest``."""
    return {"now": clock.stamp(now), "longest": clock.stamp(now + LONGEST_LEASE_SECONDS)}


def delivery_of(tx: Connection, destination_id: int, grant_id: int) -> int | None:
    """The newest delivery of a grant to a destination."""
    query = "SELECT max(id) FROM deliveries WHERE grant_id = :grant_id AND destination_id = :destination_id"
    found = value(tx, query, {"grant_id": grant_id, "destination_id": destination_id})
    return None if found is None else int(found)
