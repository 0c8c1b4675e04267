"""Events on their way into the game's own format: converted after they were acknowledged, in order per player.

An event waits, may be parked with its reason, and is converted once: with the body that is sent, and in the same commit
owed to the destinations that want it. What converts is the partner's room; here is what is kept of it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from coinslot.base import clock
from coinslot.outbox import deliveries
from coinslot.store.db import Connection, Row

ROWS_AT_ONCE = 500


@dataclass(frozen=True)
class Open:
    """An event that is not converted yet. ``reason`` says why it is parked; None: it waits."""

    id: int
    event_id: int
    event_type: str
    player_id: str  # empty when the event names none
    batch: str
    reason: str | None
    is_test: bool
    occurred_at: str | None
    created_at: str
    data_json: str = field(repr=False)

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.data_json)
        return found


def add(tx: Connection, game_id: int, event_id: int, player_id: str, batch: str) -> None:
    """Have an event converted. Those of one ``batch`` and player go out together.

    A batch is added in one write.
    """
    tx.execute(
        """INSERT INTO conversions (game_id, event_id, player_id, batch, state, created_at, updated_at)
           VALUES (:game_id, :event_id, :player_id, :batch, 'waiting', :now, :now)""",
        {"game_id": game_id, "event_id": event_id, "player_id": player_id, "batch": batch, "now": clock.stamp()},
    )


def open_of(connection: Connection, game_id: int, player_id: str) -> list[Row]:
    """A player's events that are still to be converted, as they came: ``batch``, and what the event says."""
    return connection.execute(
        """SELECT c.batch, e.type, e.is_test, e.occurred_at, e.data
           FROM conversions c JOIN events e ON e.id = c.event_id
           WHERE c.game_id = :game_id AND c.state <> 'converted' AND c.player_id = :player_id
           ORDER BY c.id""",
        {"game_id": game_id, "player_id": player_id},
    ).fetchall()


def open_groups(connection: Connection, game_id: int) -> Iterator[list[Open]]:
    """What goes out together, in the order it came: the open events of one batch and player.

    A batch that was added to later stands where it began. Read in pieces, so that whoever goes through it may write
    meanwhile.
    """
    scattered: dict[str, list[Open]] = {}
    for one in _open_ones(connection, game_id, is_scattered=True):
        scattered.setdefault(one.batch, []).append(one)
    for name, batch in groupby(_open_ones(connection, game_id), key=lambda one: one.batch):
        if name in scattered:
            whole, scattered[name] = scattered[name], []
            if whole:
                yield whole
            continue
        of_players: dict[str, list[Open]] = {}
        for one in batch:
            of_players.setdefault(one.player_id, []).append(one)
        yield from of_players.values()


def convert(tx: Connection, game_id: int, group: Sequence[Open], body: bytes) -> int:
    """Keep the body of a group and owe it to the destinations that want it; returns how many those are.

    Changes nothing when somebody else has converted the group meanwhile.
    """
    first = group[0]
    if not _settle(tx, first, body):
        return 0
    for one in group[1:]:
        _settle(tx, one, None)
    types = [one.event_type for one in group]
    return deliveries.enqueue_converted(tx, game_id, types, first.event_id, first.player_id or None)


def put_off(tx: Connection, one: Open, reason: str | None) -> None:
    """Park an event for a reason, or without one let it wait for the others of its group."""
    tx.execute(
        """UPDATE conversions SET state = :state, reason = :reason, updated_at = :now
           WHERE id = :id AND state <> 'converted'""",
        {"id": one.id, "state": "waiting" if reason is None else "parked", "reason": reason, "now": clock.stamp()},
    )


def drop(tx: Connection, group: Sequence[Open]) -> None:
    """Forget that these were to be converted: nobody is to get them. The events stay."""
    tx.executemany("DELETE FROM conversions WHERE id = :id AND state <> 'converted'", [{"id": one.id} for one in group])


def body(connection: Connection, event_id: int | None) -> bytes:
    """What was kept when the group of this first event was converted. Raises LookupError when there is nothing."""
    row = connection.execute(
        "SELECT body FROM conversions WHERE event_id = :event_id", {"event_id": event_id}
    ).fetchone()
    if row is None or row["body"] is None:
        raise LookupError(f"event {event_id} was not converted")
    return bytes(row["body"])


def fate(connection: Connection, event_id: int) -> Row | None:
    """What became of an event's conversion: ``state``, ``reason``, and ``sent_as``, the event whose body it is part of.

    None when it is not to be converted, or is not any more.
    """
    row: Row | None = connection.execute(
        """SELECT c.state, c.reason,
                  (SELECT f.event_id FROM conversions f
                   WHERE f.game_id = c.game_id AND f.batch = c.batch AND f.player_id = c.player_id
                     AND f.body IS NOT NULL AND f.id <= c.id ORDER BY f.id DESC LIMIT 1) AS sent_as
           FROM conversions c WHERE c.event_id = :event_id""",
        {"event_id": event_id},
    ).fetchone()
    return row


def parked(connection: Connection, game_id: int, limit: int = 100) -> list[Row]:
    """Events that cannot be converted yet, oldest first: why, and since when. Later ones of their players wait."""
    return connection.execute(
        """SELECT c.id, c.event_id, e.type AS event_type, c.player_id, c.reason, c.created_at,
                  c.updated_at AS parked_at
           FROM conversions c JOIN events e ON e.id = c.event_id
           WHERE c.game_id = :game_id AND c.state <> 'converted' AND c.state = 'parked' ORDER BY c.id LIMIT :limit""",
        {"game_id": game_id, "limit": limit},
    ).fetchall()


def count_parked(connection: Connection, game_id: int) -> int:
    (count,) = connection.execute(
        """SELECT count(*) FROM conversions
           WHERE game_id = :game_id AND state <> 'converted' AND state = 'parked'""",
        {"game_id": game_id},
    ).fetchone()
    return int(count)


def _open_ones(connection: Connection, game_id: int, is_scattered: bool = False) -> Iterator[Open]:
    """In the order of their ids: all of them, or only those of players' batches that were added to later."""
    last_id = 0
    while True:
        rows = connection.execute(
            """SELECT c.id, c.event_id, e.type, c.player_id, c.batch, c.reason, e.is_test, e.occurred_at, e.data,
                      c.created_at
               FROM conversions c JOIN events e ON e.id = c.event_id
               WHERE c.game_id = :game_id AND c.state <> 'converted' AND c.id > :last_id
                 AND (:is_scattered = 0 OR c.batch IN (
                     SELECT batch FROM conversions WHERE game_id = :game_id AND state <> 'converted'
                     GROUP BY batch HAVING count(*) < max(id) - min(id) + 1 AND min(player_id) = max(player_id)))
               ORDER BY c.id LIMIT :limit""",
            {"game_id": game_id, "last_id": last_id, "limit": ROWS_AT_ONCE, "is_scattered": int(is_scattered)},
        ).fetchall()
        for row in rows:
            yield Open(
                id=row["id"],
                event_id=row["event_id"],
                event_type=row["type"],
                player_id=row["player_id"],
                batch=row["batch"],
                reason=row["reason"],
                is_test=bool(row["is_test"]),
                occurred_at=row["occurred_at"],
                created_at=row["created_at"],
                data_json=row["data"],
            )
        if len(rows) < ROWS_AT_ONCE:
            return
        last_id = rows[-1]["id"]


def _settle(tx: Connection, one: Open, body: bytes | None) -> bool:
    """Mark an event as converted; returns False when it was so before."""
    changed = tx.execute(
        """UPDATE conversions SET state = 'converted', reason = NULL, body = :body, updated_at = :now
           WHERE id = :id AND state <> 'converted'""",
        {"id": one.id, "body": body, "now": clock.stamp()},
    )
    return changed.rowcount == 1


def held_by(connection: Connection, event_id: int) -> str | None:
    """Why the first parked event is so that holds this waiting one back: an earlier one of its player, or of its group.

    None when it does not wait, or for none that is parked.
    """
    row = connection.execute(
        """SELECT f.reason FROM conversions c JOIN conversions f ON f.game_id = c.game_id AND f.player_id = c.player_id
           WHERE c.event_id = :event_id AND c.state = 'waiting' AND f.state <> 'converted' AND f.state = 'parked'
             AND (f.batch = c.batch OR (f.id < c.id AND c.player_id <> '')) ORDER BY f.id LIMIT 1""",
        {"event_id": event_id},
    ).fetchone()
    return None if row is None else str(row["reason"])
