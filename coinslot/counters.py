"""Figures rolled up as they happen, per game, partner and UTC day."""

import sqlite3
from collections.abc import Iterable, Mapping

from coinslot import clock

# Beginnings of names, and what follows them.
CALLED = "called."  # an address: calls there that proved themselves
REFUSED = "refused."  # a reason
GROSS = "gross."  # a currency: what players paid, in minor units
REFUNDED = "refunded."  # a currency: what went back to them, whether or not items were taken back
RETURNED = "returned."  # a currency: of that, what a dispute that was won brought back
ITEM = "item."  # a sku: grants that hold it


def add(tx: sqlite3.Connection, game_id: int, partner: str, name: str, amount: int = 1) -> None:
    add_each(tx, game_id, partner, {name: amount})


def add_each(tx: sqlite3.Connection, game_id: int, partner: str, amounts: Mapping[str, int]) -> None:
    """Add to several at once. A sum that would leave 64 bits stays at their end: no credit fails for a figure."""
    day = clock.stamp()[:10]
    tx.executemany(
        """INSERT INTO counters (game_id, partner, name, day, value) VALUES (:game_id, :partner, :name, :day, :amount)
           ON CONFLICT (game_id, partner, name, day)
           DO UPDATE SET value = min(value, 9223372036854775807 - excluded.value) + excluded.value""",
        [
            {"game_id": game_id, "partner": partner, "name": name, "day": day, "amount": amount}
            for name, amount in amounts.items()
        ],
    )


def since(connection: sqlite3.Connection, game_id: int, first_day: str) -> list[sqlite3.Row]:
    """Every figure of a game per partner, name and day, from a UTC day (``2026-01-31``) on."""
    return connection.execute(
        "SELECT partner, name, day, value FROM counters WHERE game_id = :game_id AND day >= :first_day ORDER BY day",
        {"game_id": game_id, "first_day": first_day},
    ).fetchall()


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
