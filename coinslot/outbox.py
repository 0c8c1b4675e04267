"""What is owed to a game's destinations. Rows are written in the transaction of the fact that caused them.

Delivery is at least once: ``webhook_id`` stays the same over every attempt, and the receiver deduplicates on it.
"""

import sqlite3
import uuid
from fnmatch import fnmatchcase

from coinslot import clock


def enqueue_grant(tx: sqlite3.Connection, game_id: int, grant_id: int, event_type: str, player_id: str) -> int:
    """Owe a grant to every destination of the game whose pattern matches; returns how many that were."""
    destinations = tx.execute(
        "SELECT id, events FROM destinations WHERE game_id = :game_id AND state <> 'removed'", {"game_id": game_id}
    ).fetchall()
    now = clock.stamp()
    matching = [row["id"] for row in destinations if fnmatchcase(event_type, row["events"])]
    tx.executemany(
        """INSERT INTO deliveries (game_id, destination_id, webhook_id, event_type, grant_id, player_id,
                                   next_attempt_at, created_at)
           VALUES (:game_id, :destination_id, :webhook_id, :event_type, :grant_id, :player_id, :now, :now)""",
        [
            {
                "game_id": game_id,
                "destination_id": destination_id,
                "webhook_id": f"msg_{uuid.uuid4().hex}",
                "event_type": event_type,
                "grant_id": grant_id,
                "player_id": player_id,
                "now": now,
            }
            for destination_id in matching
        ],
    )
    return len(matching)
