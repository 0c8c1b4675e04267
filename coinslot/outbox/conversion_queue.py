"""Events to be converted into the game's own format after they were acknowledged, in order per player.

An event waits, may be parked with a reason, and is converted once: its body is stored, and owed to the destinations
that want it, in one commit. The partner's code converts; this module stores.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from coinslot.base import clock
from coinslot.outbox import deliveries
from coinslot.store.db import Connection, Row
from coinslot.store.queries import insert, row, value

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
    now = clock.stamp()
    columns = {"game_id": game_id, "event_id": event_id, "player_id": player_id, "batch": batch, "state": "waiting"}
    insert(tx, "conversions", {**columns, "created_at": now, "updated_at": now})


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

    A batch that was added to later comes where it began. The caller may write between two groups.
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

    Changes nothing when the group was converted meanwhile.
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
    """Do not convert these events. The events themselves stay."""
    tx.executemany("DELETE FROM conversions WHERE id = :id AND state <> 'converted'", [{"id": one.id} for one in group])


def body(connection: Connection, event_id: int | None) -> bytes:
    """What was kept when the group of this first event was converted. Raises LookupError when there is nothing."""
    found = value(connection, "SELECT body FROM conversions WHERE event_id = :event_id", {"event_id": event_id})
    if found is None:
        raise LookupError(f"event {event_id} was not converted")
    return bytes(found)


def fate(connection: Connection, event_id: int) -> Row | None:
    """The ``state`` of an event's conversion, its ``reason``, and ``sent_as``, the event whose body it is part of.

    None when it is not to be converted, or is not any more.
    """
    return row(
        connection,
        """SELECT c.state, c.reason,
                  (SELECT f.event_id FROM conversions f
                   WHERE f.game_id = c.game_id AND f.batch = c.batch AND f.player_id = c.player_id
                     AND f.body IS NOT NULL AND f.id <= c.id ORDER BY f.id DESC LIMIT 1) AS sent_as
           FROM conversions c WHERE c.event_id = :event_id""",
        {"event_id": event_id},
    )


def parked(connection: Connection, game_id: int, limit: int = 100) -> list[Row]:
    """Events that cannot be converted yet, oldest first: why, and since when. Later ones of their players wait."""
    return connection.execute(
        """SELECT c.id, c.event_id, e.type AS event_type, c.player_id, c.reason, c.created_at,
                  c.updated_at AS parked_at
           FROM conversions c JOIN events e ON e.id = c.event_id
           WHERE c.game_id = :game_id AND c.state <> 'converted' AND c.state = 'parked' ORDER BY c.id LIMIT :limit""",
        {"game_id": game_id, "limit": limit},
    ).fetchall()


def _open_ones(connection: Connection, game_id: int, is_scattered: bool = False) -> Iterator[Open]:
    """In the order of their ids: all of them, or only those of players' batches that were added to later."""
    last_id = 0
    while True:
        rows = connection.execute(
            """SELECT c.id, c.event_id, e.type AS event_type, c.player_id, c.batch, c.reason, e.is_test, e.occurred_at,
                      c.created_at, e.data AS data_json
               FROM conversions c JOIN events e ON e.id = c.event_id
               WHERE c.game_id = :game_id AND c.state <> 'converted' AND c.id > :last_id
                 AND (:is_scattered = 0 OR c.batch IN (
                     SELECT batch FROM conversions WHERE game_id = :game_id AND state <> 'converted'
                     GROUP BY batch HAVING count(*) < max(id) - min(id) + 1 AND min(player_id) = max(player_id)))
               ORDER BY c.id LIMIT :limit""",
            {"game_id": game_id, "last_id": last_id, "limit": ROWS_AT_ONCE, "is_scattered": int(is_scattered)},
        ).fetchall()
        for each in rows:
            yield Open(**{**dict(each), "is_test": bool(each["is_test"])})
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
    """The reason of the parked event that this one waits for: an earlier one of its player, or one of its group.

    None when it does not wait, or for none that is parked.
    """
    found = value(
        connection,
        """SELECT f.reason FROM conversions c JOIN conversions f ON f.game_id = c.game_id AND f.player_id = c.player_id
           WHERE c.event_id = :event_id AND c.state = 'waiting' AND f.state <> 'converted' AND f.state = 'parked'
             AND (f.batch = c.batch OR (f.id < c.id AND c.player_id <> '')) ORDER BY f.id LIMIT 1""",
        {"event_id": event_id},
    )
    return None if found is None else str(found)
