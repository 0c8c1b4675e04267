"""Who changed what: one row per change, in the transaction of the change. Never a value of a secret."""

import sqlite3

from coinslot import clock


def record(tx: sqlite3.Connection, game_id: int | None, actor: str, action: str, subject: str) -> None:
    """``actor`` is ``command``, ``owner`` or ``game``; ``action`` reads like ``secret.rotate``."""
    tx.execute(
        """INSERT INTO audit (game_id, actor, action, subject, created_at)
           VALUES (:game_id, :actor, :action, :subject, :now)""",
        {"game_id": game_id, "actor": actor, "action": action, "subject": subject, "now": clock.stamp()},
    )
