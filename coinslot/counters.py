"""Figures rolled up as they happen, per game, partner and UTC day."""

import sqlite3

from coinslot import clock


def add(tx: sqlite3.Connection, game_id: int, partner: str, name: str, amount: int = 1) -> None:
    tx.execute(
        """INSERT INTO counters (game_id, partner, name, day, value) VALUES (:game_id, :partner, :name, :day, :amount)
           ON CONFLICT (game_id, partner, name, day) DO UPDATE SET value = value + excluded.value""",
        {"game_id": game_id, "partner": partner, "name": name, "day": clock.stamp()[:10], "amount": amount},
    )
