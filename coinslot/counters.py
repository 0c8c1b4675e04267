"""Figures rolled up as they happen, per game, partner and UTC day."""

import sqlite3
from collections.abc import Iterable

from coinslot import clock

CALLED = "called."  # and an address: calls there that proved themselves


def add(tx: sqlite3.Connection, game_id: int, partner: str, name: str, amount: int = 1) -> None:
    tx.execute(
        """INSERT INTO counters (game_id, partner, name, day, value) VALUES (:game_id, :partner, :name, :day, :amount)
           ON CONFLICT (game_id, partner, name, day) DO UPDATE SET value = value + excluded.value""",
        {"game_id": game_id, "partner": partner, "name": name, "day": clock.stamp()[:10], "amount": amount},
    )


def has_counted(connection: sqlite3.Connection, game_id: int, partner: str, names: Iterable[str]) -> bool:
    """Whether one of these has ever happened."""
    return any(
        connection.execute(
            "SELECT 1 FROM counters WHERE game_id = :game_id AND partner = :partner AND name = :name LIMIT 1",
            {"game_id": game_id, "partner": partner, "name": name},
        ).fetchone()
        is not None
        for name in names
    )


def called(connection: sqlite3.Connection, game_id: int, partner: str) -> set[str]:
    """The addresses at which a call of this partner has ever proved itself."""
    rows = connection.execute(
        """SELECT DISTINCT name FROM counters
           WHERE game_id = :game_id AND partner = :partner AND name >= :prefix AND name < :prefix || '~'""",
        {"game_id": game_id, "partner": partner, "prefix": CALLED},
    )
    return {row["name"].removeprefix(CALLED) for row in rows}
