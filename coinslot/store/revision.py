"""A game's revision, a new random value with each change: by it every process sees that its copy is old."""

import secrets
import sqlite3


def new() -> str:
    # Random, not counted: after a restore an old copy must not pass for a new one.
    return secrets.token_hex(8)


def touch(tx: sqlite3.Connection, game_id: int) -> None:
    """Call it in the transaction of every change of a game's settings or secrets."""
    tx.execute("UPDATE games SET revision = :revision WHERE id = :id", {"revision": new(), "id": game_id})
