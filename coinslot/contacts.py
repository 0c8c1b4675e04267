"""What is known of each address of ours: whether its partner has it, and how the last calls there went.

The addresses are the partners' own words for them (``orders``, ``credit``, ``webhook``, ...).
"""

import sqlite3

from coinslot import clock


def proved(tx: sqlite3.Connection, game_id: int, partner: str, endpoint: str) -> None:
    """A call there has proved itself."""
    tx.execute(
        """INSERT INTO contacts (game_id, partner, endpoint, first_at, proved_at)
           VALUES (:game_id, :partner, :endpoint, :now, :now)
           ON CONFLICT (game_id, partner, endpoint)
           DO UPDATE SET first_at = coalesce(first_at, excluded.first_at), proved_at = excluded.proved_at""",
        {"game_id": game_id, "partner": partner, "endpoint": endpoint, "now": clock.stamp()},
    )


def refused(tx: sqlite3.Connection, game_id: int, partner: str, endpoint: str, reason: str) -> None:
    """A call there was refused, whether or not it had proved itself."""
    tx.execute(
        """INSERT INTO contacts (game_id, partner, endpoint, refused_at, refused_reason)
           VALUES (:game_id, :partner, :endpoint, :now, :reason)
           ON CONFLICT (game_id, partner, endpoint)
           DO UPDATE SET refused_at = excluded.refused_at, refused_reason = excluded.refused_reason""",
        {"game_id": game_id, "partner": partner, "endpoint": endpoint, "reason": reason, "now": clock.stamp()},
    )


def copied(tx: sqlite3.Connection, game_id: int, partner: str, endpoint: str) -> None:
    """The owner says that the address is pasted into the partner's dashboard."""
    tx.execute(
        """INSERT INTO contacts (game_id, partner, endpoint, copied_at) VALUES (:game_id, :partner, :endpoint, :now)
           ON CONFLICT (game_id, partner, endpoint) DO UPDATE SET copied_at = excluded.copied_at""",
        {"game_id": game_id, "partner": partner, "endpoint": endpoint, "now": clock.stamp()},
    )


def of_game(connection: sqlite3.Connection, game_id: int) -> dict[tuple[str, str], sqlite3.Row]:
    """(partner, endpoint) -> its row; absent: nothing is known."""
    rows = connection.execute("SELECT * FROM contacts WHERE game_id = :game_id", {"game_id": game_id})
    return {(row["partner"], row["endpoint"]): row for row in rows}


def of_all(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    """What is known of every address of every game."""
    return connection.execute("SELECT * FROM contacts ORDER BY game_id, partner, endpoint").fetchall()
