"""Figures rolled up as they happen, per game, partner and UTC day."""

import sqlite3
from collections.abc import Iterable, Mapping

from coinslot.base import clock

# Beginnings of names, and what follows them.
CALLED = "called."  # an address: calls there that proved themselves
REFUSED = "refused."  # a reason
GROSS = "gross."  # a currency: what players paid, in minor units
REFUNDED = "refunded."  # a currency: what went back to them, whether or not items were taken back
RETURNED = "returned."  # a currency: of that, what a dispute that was won brought back
ITEMS_LOOKED_AT = 20_000
ITEM = "item."  # a sku: grants that hold it

# The figures ``c`` whose keys are ``k``, which an index holds: those of items, which may be many, are never fetched.
# The sign after the point is the slash, so what lies between the two are items.
_WITHOUT_ITEMS = """
    CROSS JOIN /* hint */ counters c
        ON c.game_id = k.game_id AND c.partner = k.partner AND c.name = k.name AND c.day = k.day
    WHERE (k.name < 'item.' OR k.name >= 'item/')"""


def add(tx: sqlite3.Connection, game_id: int, partner: str, name: str, amount: int = 1) -> None:
    add_each(tx, game_id, partner, {name: amount})


def add_each(tx: sqlite3.Connection, game_id: int, partner: str, amounts: Mapping[str, int]) -> None:
    """Add to several at once. A sum that would leave 64 bits stays at their end: no credit fails for a figure."""
    day = clock.stamp()[:10]
    tx.executemany(
        """INSERT INTO counters (game_id, partner, name, day, value) VALUES (:game_id, :partner, :name, :day, :amount)
           ON CONFLICT (game_id, partner, name, day)
           DO UPDATE SET value = CASE
               WHEN excluded.value > 0 AND counters.value > 9223372036854775807 - excluded.value
               THEN 9223372036854775807 ELSE counters.value + excluded.value END""",
        [
            {"game_id": game_id, "partner": partner, "name": name, "day": day, "amount": amount}
            for name, amount in amounts.items()
        ],
    )


def days_after(
    connection: sqlite3.Connection, game_id: int, after: tuple[str, str, str], limit: int
) -> list[sqlite3.Row]:
    """Figures of a game in the order of day, partner and name, those that follow ``after``; ("", "", "") begins."""
    day, partner, name = after
    return connection.execute(
        """SELECT day, partner, name, value FROM counters
           WHERE game_id = :game_id AND day >= :day AND (day, partner, name) > (:day, :partner, :name)
           ORDER BY day, partner, name LIMIT :limit""",
        {"game_id": game_id, "day": day, "partner": partner, "name": name, "limit": limit},
    ).fetchall()


def of_all(connection: sqlite3.Connection, first_day: str) -> list[sqlite3.Row]:
    """Every figure of every game since a UTC day, but for those of single items (:func:`top_items`)."""
    return connection.execute(
        f"""SELECT c.game_id, c.partner, c.name, c.day, c.value
            FROM games g CROSS JOIN /* hint */ counters k ON k.game_id = g.id AND k.day >= :first_day
            {_WITHOUT_ITEMS}""",  # noqa: S608
        {"first_day": first_day},
    ).fetchall()


def of_day(connection: sqlite3.Connection, day: str) -> list[sqlite3.Row]:
    """Every figure of every game on one UTC day, but for those of single items; with the game's ``slug``."""
    return connection.execute(
        f"""SELECT g.slug, c.partner, c.name, c.value
            FROM games g CROSS JOIN /* hint */ counters k ON k.game_id = g.id AND k.day = :day {_WITHOUT_ITEMS}
            ORDER BY g.slug, c.partner, c.name""",  # noqa: S608  our own words only
        {"day": day},
    ).fetchall()


def top_items(connection: sqlite3.Connection, first_day: str, limit: int) -> dict[int, list[tuple[str, int]]]:
    """Game -> the items that most grants since a UTC day hold, with how many; no more than ``limit`` each."""
    rows = connection.execute(
        """SELECT game_id, sku, grants FROM (
               SELECT game_id, sku, grants,
                      row_number() OVER (PARTITION BY game_id ORDER BY grants DESC, sku) AS place
               FROM (SELECT game_id, substr(name, 6) AS sku,
                            sum(CASE WHEN value < 1000000000 THEN value ELSE 1000000000 END) AS grants
                     FROM (SELECT c.game_id, c.name, c.value
                           FROM games g CROSS JOIN /* hint */ counters c INDEXED BY counters_by_day /* hint */
                           ON c.game_id = g.id AND c.day >= :first_day
                           WHERE c.name >= 'item.' AND c.name < 'item/' LIMIT :looked_at) found
                     GROUP BY game_id, name) summed) ranked
           WHERE place <= :limit ORDER BY game_id, place""",
        {"first_day": first_day, "limit": limit, "looked_at": ITEMS_LOOKED_AT},
    )
    found: dict[int, list[tuple[str, int]]] = {}
    for row in rows:
        found.setdefault(row["game_id"], []).append((row["sku"], row["grants"]))
    return found


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
