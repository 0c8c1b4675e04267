"""Signed entries that open a page once: the first use is noted until the entry would have expired anyway."""

import hashlib

from coinslot.base import clock
from coinslot.store import queries
from coinslot.store.db import Connection

MOST_PRUNED = 100  # old rows that one use deletes


def is_used(connection: Connection, game_id: int, signature: str) -> bool:
    """Whether the entry with this signature has been used."""
    return queries.get(connection, "1", "used_entries", game_id=game_id, hash=_hash(signature)) is not None


def use(tx: Connection, game_id: int, signature: str, expires_at: float) -> bool:
    """Use the entry with this signature; returns False when it was used before. ``expires_at``: Unix seconds."""
    entry = {"game_id": game_id, "hash": _hash(signature), "expires_at": clock.stamp(expires_at)}
    row = queries.insert(tx, "used_entries", entry, "ON CONFLICT (game_id, hash) DO NOTHING RETURNING 1")
    tx.execute(
        """DELETE FROM used_entries WHERE (game_id, hash) IN
               (SELECT game_id, hash FROM used_entries WHERE expires_at < :now LIMIT :most)""",
        {"now": clock.stamp(), "most": MOST_PRUNED},
    )
    return row is not None


def _hash(signature: str) -> str:
    return hashlib.sha256(signature.encode()).hexdigest()
