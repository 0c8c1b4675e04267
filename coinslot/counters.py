"""Figures rolled up as they happen, per game, partner and UTC day."""

import sqlite3

from coinslot import clock

CALLED = "called."  # and an address: calls there that proved themselves


def add(tx: sqlite3.Connection, game_id: int, partner: str, name: str, amount: int = 1) -> None:
    tx.execute(
        """INSERT INTO counters (game_id, partner, name, day, value) VALUES (:game_id, :partner, :name, :day, :amount)
           ON CONFLICT (game_id, partner, name, day) DO UPDATE SET value = value + excluded.value""",
        {"game_id": game_id, "partner": partner, "name": name, "day": clock.stamp()[:10], "amount": amount},
    )


def called(connection: sqlite3.Connection, game_id: int, partner: str) -> set[str]:
    """The addresses at which a call of this partner has ever proved itself."""
    rows = connection.execute(
        """SELECT DISTINCT name FROM counters
           WHERE game_id = :game_id AND partner = :partner AND name >= :prefix AND name < :prefix || '~'""",
        {"game_id": game_id, "partner": partner, "prefix": CALLED},
    )
    return {row["name"].removeprefix(CALLED) for row in rows}
