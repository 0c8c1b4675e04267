"""Events from partners that credit nothing. Each is kept once and owed to the destinations that want it."""

import json
from collections.abc import Mapping
from typing import Any

from coinslot.base import clock, request_ids
from coinslot.games import registry
from coinslot.ledger import refused
from coinslot.outbox import deliveries
from coinslot.store import counters, queries
from coinslot.store.db import Connection, Row

MOST_LOOKED_AT = 200  # of a game's newest events
_COLUMNS = "id, type, partner, player_id, external_id, data, is_test, occurred_at, received_at"


def record(
    tx: Connection,
    *,
    game_id: int,
    partner: str,
    type: str,
    dedupe_key: str,
    data: Mapping[str, object],
    raw_body: bytes | None,
    environment: str,
    is_test: bool,
    external_id: str | None = None,
    player_id: str | None = None,
    occurred_at: str | None = None,
    counted_as: str | None = None,
) -> int | None:
    """Store an event unless its ``dedupe_key`` is known; returns its id, None when it is not new.

    A new event adds 1 to the counter ``counted_as``, unless it names the reserved player.
    """
    if raw_body is not None:
        refused.mend_call(tx, game_id, partner, raw_body)
    if find(tx, game_id, partner, dedupe_key) is not None:
        return None
    # An id is taken only for a row that will be there: repeats leave no gaps in the feed.
    event_id = queries.value(
        tx, "UPDATE sequences SET last_id = last_id + 1 WHERE name = 'events' RETURNING last_id", {}
    )
    row = {
        "id": event_id,
        "game_id": game_id,
        "partner": partner,
        "type": type,
        "dedupe_key": dedupe_key,
        "external_id": external_id,
        "player_id": player_id,
        "data": json.dumps(dict(data)),
        "raw_body": raw_body,
        "environment": environment,
        "is_test": int(is_test),
        "occurred_at": occurred_at,
        "received_at": clock.stamp(),
        "request_id": request_ids.current(),
    }
    queries.insert(tx, "events", row)
    deliveries.enqueue(tx, game_id, type, event_id=event_id, player_id=player_id)
    if counted_as is not None and player_id != registry.RESERVED_ID:
        counters.add(tx, game_id, partner, counted_as)
    return int(event_id)


def find(connection: Connection, game_id: int, partner: str, dedupe_key: str) -> int | None:
    """The id of the event with this key; None when there is none."""
    found: int | None = queries.get(connection, "id", "events", game_id=game_id, partner=partner, dedupe_key=dedupe_key)
    return found


def last_like(connection: Connection, game_id: int, partner: str, beginning: str) -> int | None:
    """The id of the newest event whose ``dedupe_key`` begins so; None when there is none."""
    found: int | None = queries.value(
        connection,
        """SELECT max(id) FROM events
           WHERE game_id = :game_id AND partner = :partner AND dedupe_key >= :beginning AND dedupe_key < :beyond""",
        {"game_id": game_id, "partner": partner, "beginning": beginning, "beyond": f"{beginning}~"},
    )
    return found


def feed(connection: Connection, game_id: int, after: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Events with an id above ``after``, in order, as the game reads them; and whether there are more."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM events WHERE game_id = :game_id AND id > :after ORDER BY id LIMIT :limit",  # noqa: S608
        {"game_id": game_id, "after": after, "limit": limit + 1},
    ).fetchall()
    return [_as_read(row) for row in rows[:limit]], len(rows) > limit


def event(connection: Connection, event_id: int) -> dict[str, Any]:
    """One event as the game reads it in the feed."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM events WHERE id = :id", {"id": event_id}).fetchone()  # noqa: S608
    return _as_read(row)


def latest_of_each_type(connection: Connection, game_id: int, partner: str) -> list[Row]:
    """The newest event of each type of a partner, newest first, among a game's newest 200 events."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM events WHERE game_id = :game_id ORDER BY id DESC LIMIT :most",  # noqa: S608
        {"game_id": game_id, "most": MOST_LOOKED_AT},
    )
    latest: dict[str, Row] = {}
    for row in rows:
        if row["partner"] == partner:
            latest.setdefault(row["type"], row)
    return list(latest.values())


def _as_read(row: Row) -> dict[str, Any]:
    return {**dict(row), "data": json.loads(row["data"]), "is_test": bool(row["is_test"])}
