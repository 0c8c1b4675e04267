"""Facts from partners that credit nothing, kept once each and owed to the destinations that want them."""

import json
from collections.abc import Mapping
from typing import Any

from coinslot.base import clock
from coinslot.outbox import deliveries
from coinslot.store.db import Connection, Row


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
) -> int | None:
    """Store an event unless it is known by its ``dedupe_key``; returns its id, None when it is not new."""
    key = {"game_id": game_id, "partner": partner, "dedupe_key": dedupe_key}
    known = tx.execute(
        "SELECT 1 FROM events WHERE game_id = :game_id AND partner = :partner AND dedupe_key = :dedupe_key", key
    ).fetchone()
    if known is not None:
        return None
    # The feed's ids have no gaps from repeats: one is taken only for a row that will be there.
    (event_id,) = tx.execute(
        "UPDATE sequences SET last_id = last_id + 1 WHERE name = 'events' RETURNING last_id"
    ).fetchone()
    tx.execute(
        """INSERT INTO events (id, game_id, partner, type, dedupe_key, external_id, player_id, data, raw_body,
                               environment, is_test, occurred_at, received_at)
           VALUES (:id, :game_id, :partner, :type, :dedupe_key, :external_id, :player_id, :data, :raw_body,
                   :environment, :is_test, :occurred_at, :now)""",
        {
            **key,
            "id": event_id,
            "type": type,
            "external_id": external_id,
            "player_id": player_id,
            "data": json.dumps(dict(data)),
            "raw_body": raw_body,
            "environment": environment,
            "is_test": int(is_test),
            "occurred_at": occurred_at,
            "now": clock.stamp(),
        },
    )
    deliveries.enqueue(tx, game_id, type, event_id=event_id, player_id=player_id)
    return int(event_id)


def find(connection: Connection, game_id: int, partner: str, dedupe_key: str) -> int | None:
    """The id of an event that is known by this key."""
    row = connection.execute(
        "SELECT id FROM events WHERE game_id = :game_id AND partner = :partner AND dedupe_key = :dedupe_key",
        {"game_id": game_id, "partner": partner, "dedupe_key": dedupe_key},
    ).fetchone()
    return None if row is None else int(row["id"])


def last_like(connection: Connection, game_id: int, partner: str, beginning: str) -> int | None:
    """The newest event whose ``dedupe_key`` begins so; its id, None when there is none."""
    row = connection.execute(
        """SELECT max(id) AS id FROM events
           WHERE game_id = :game_id AND partner = :partner AND dedupe_key >= :beginning AND dedupe_key < :beyond""",
        {"game_id": game_id, "partner": partner, "beginning": beginning, "beyond": f"{beginning}~"},
    ).fetchone()
    return None if row["id"] is None else int(row["id"])


def feed(connection: Connection, game_id: int, after: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Events with an id above ``after``, in order, as the game reads them; and whether there are more."""
    rows = connection.execute(
        """SELECT id, type, partner, player_id, external_id, data, is_test, occurred_at, received_at FROM events
           WHERE game_id = :game_id AND id > :after ORDER BY id LIMIT :limit""",
        {"game_id": game_id, "after": after, "limit": limit + 1},
    ).fetchall()
    return [_as_read(row) for row in rows[:limit]], len(rows) > limit


def event(connection: Connection, event_id: int) -> dict[str, Any]:
    """One event as the game reads it in the feed."""
    row = connection.execute(
        """SELECT id, type, partner, player_id, external_id, data, is_test, occurred_at, received_at FROM events
           WHERE id = :id""",
        {"id": event_id},
    ).fetchone()
    return _as_read(row)


def latest_of_each_type(connection: Connection, game_id: int, partner: str) -> list[Row]:
    """The newest event of each type of a partner's, the newest first, among a game's last 200 events."""
    rows = connection.execute(
        """SELECT id, partner, type, player_id, data, is_test, occurred_at, received_at FROM events
           WHERE game_id = :game_id ORDER BY id DESC LIMIT 200""",
        {"game_id": game_id},
    ).fetchall()
    latest: dict[str, Row] = {}
    for row in rows:
        if row["partner"] == partner:
            latest.setdefault(row["type"], row)
    return list(latest.values())


def _as_read(row: Row) -> dict[str, Any]:
    return {**dict(row), "data": json.loads(row["data"]), "is_test": bool(row["is_test"])}
