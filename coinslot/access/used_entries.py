"""Signed entries that are good for one opening: who comes first has used one up, until it would have expired anyway."""

import hashlib

from coinslot.base import clock
from coinslot.store.db import Connection

MOST_PRUNED = 100  # rows at a time: whoever comes by carries a little out


def is_used(connection: Connection, game_id: int, signature: str) -> bool:
    """Whether the entry with this signature has been used."""
    row = connection.execute(
        "SELECT 1 FROM used_entries WHERE game_id = :game_id AND hash = :hash",
        {"game_id": game_id, "hash": _hash(signature)},
    ).fetchone()
    return row is not None


def use(tx: Connection, game_id: int, signature: str, expires_at: float) -> bool:
    """Use up the entry with this signature. False when somebody was first."""
    row = tx.execute(
        """INSERT INTO used_entries (game_id, hash, expires_at) VALUES (:game_id, :hash, :expires_at)
           ON CONFLICT (game_id, hash) DO NOTHING RETURNING 1""",
        {"game_id": game_id, "hash": _hash(signature), "expires_at": clock.stamp(expires_at)},
    ).fetchone()
    tx.execute(
        """DELETE FROM used_entries WHERE (game_id, hash) IN
               (SELECT game_id, hash FROM used_entries WHERE expires_at < :now LIMIT :most)""",
        {"now": clock.stamp(), "most": MOST_PRUNED},
    )
    return row is not None


def _hash(signature: str) -> str:
    return hashlib.sha256(signature.encode()).hexdigest()
