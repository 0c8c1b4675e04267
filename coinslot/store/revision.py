"""How every process learns that its copy of a game is old: a value that is new with each change."""

import secrets
import sqlite3


def new() -> str:
    # Random rather than counted: after a restore no process may take an old copy for a new one.
    return secrets.token_hex(8)


def touch(tx: sqlite3.Connection, game_id: int) -> None:
    """To be called in the transaction of every change to a game's settings or secrets."""
    tx.execute("UPDATE games SET revision = :revision WHERE id = :id", {"revision": new(), "id": game_id})
