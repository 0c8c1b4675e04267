"""Figures counted as they happen, per game, partner, name, label and UTC day."""

from collections.abc import Collection, Mapping

from coinslot.base import clock
from coinslot.store.db import Connection, Row

# Names with a label. All other names have the empty label.
CALLED = "called"  # label: an address of ours; calls there whose proof was right
REFUSED = "refused"  # label: a reason
GROSS = "gross"  # label: a currency; what players paid, in minor units
REFUNDED = "refunded"  # label: a currency; what went back to them, whether or not items were taken back
RETURNED = "returned"  # label: a currency; the part of it that a won dispute brought back
ITEM = "item"  # label: a sku; grants that hold it
TOP_ITEM = "top_item"  # a name in what list_sums returns, and nowhere else
TOP_ITEMS = 8  # per game
MOST_ITEM_ROWS = 20_000  # rows that one reading of them looks at

# The figures ``c`` of the keys ``k``. An index holds the keys: rows of items, which may be many, are never fetched.
_WITHOUT_ITEMS = """
    CROSS JOIN /* hint */ counters c
        ON c.game_id = k.game_id AND c.partner = k.partner AND c.name = k.name AND c.label = k.label AND c.day = k.day
    WHERE k.name <> 'item'"""

_TOP_ITEMS = """
    UNION ALL
    SELECT game_id, '', 'top_item', sku, 0, grants, 0 FROM (
        SELECT game_id, sku, grants, row_number() OVER (PARTITION BY game_id ORDER BY grants DESC, sku) AS place
        FROM (SELECT game_id, sku, sum(CASE WHEN value < 1000000000 THEN value ELSE 1000000000 END) AS grants
              FROM (SELECT c.game_id, c.label AS sku, c.value
                    FROM games g CROSS JOIN /* hint */ counters c INDEXED BY counters_by_day /* hint */
                    ON c.game_id = g.id AND c.day >= :items_since
                    WHERE c.name = 'item' LIMIT :looked_at) found
              GROUP BY game_id, sku) summed) ranked
    WHERE place <= :top"""


def add(tx: Connection, game_id: int, partner: str, name: str, amount: int = 1, label: str = "") -> None:
    add_each(tx, game_id, partner, {(name, label): amount})


def add_each(tx: Connection, game_id: int, partner: str, amounts: Mapping[tuple[str, str], int]) -> None:
    """Add to several figures, (name, label) -> amount. A sum beyond 64 bits stays at their end: no credit fails."""
    day = clock.stamp()[:10]
    tx.executemany(
        """INSERT INTO counters (game_id, partner, name, label, day, value)
           VALUES (:game_id, :partner, :name, :label, :day, :amount)
           ON CONFLICT (game_id, partner, name, label, day)
           DO UPDATE SET value = CASE
               WHEN excluded.value > 0 AND counters.value > 9223372036854775807 - excluded.value
               THEN 9223372036854775807 ELSE counters.value + excluded.value END""",
        [
            {"game_id": game_id, "partner": partner, "name": name, "label": label, "day": day, "amount": amount}
            for (name, label), amount in amounts.items()
        ],
    )


def list_days(connection: Connection, game_id: int, after: tuple[str, str, str, str], limit: int) -> list[Row]:
    """Figures of a game that follow ``after`` in the order of day, partner, name and label; empty texts begin."""
    day, partner, name, label = after
    return connection.execute(
        """SELECT day, partner, name, label, value FROM counters
           WHERE game_id = :game_id AND day >= :day AND (day, partner, name, label) > (:day, :partner, :name, :label)
           ORDER BY day, partner, name, label LIMIT :limit""",
        {"game_id": game_id, "day": day, "partner": partner, "name": name, "label": label, "limit": limit},
    ).fetchall()


def list_sums(
    connection: Connection, first_day: str, last_day: str, names: Collection[str], items_since: str | None = None
) -> list[Row]:
    """The sums of these names, of every game, over the UTC days from one to another, both included.

    A sum is ``billions`` * 10^9 + ``rest``, exact whatever its size; ``latest`` is the part of the last day.
    ``items_since`` is a UTC day: then there is also a row for each of the items that most grants since then hold, of
    the name :data:`TOP_ITEM`, with the sku as its label.
    """
    more = {} if items_since is None else {"items_since": items_since, "looked_at": MOST_ITEM_ROWS, "top": TOP_ITEMS}
    given = _named("name", names)
    # The index by day says which figures there are. Each of them lies in one piece, day after day.
    return connection.execute(
        f"""SELECT c.game_id, c.partner, c.name, c.label, sum(c.value / 1000000000) AS billions,
                   sum(c.value % 1000000000) AS rest, max(CASE WHEN c.day = :last_day THEN c.value ELSE 0 END) AS latest
            FROM (SELECT DISTINCT k.game_id, k.partner, k.name, k.label
                  FROM games g CROSS JOIN /* hint */ counters k INDEXED BY counters_by_day /* hint */
                  ON k.game_id = g.id AND k.day >= :first_day AND k.day <= :last_day
                  WHERE k.name IN ({_places(given)})) d
            CROSS JOIN /* hint */ counters c
                ON c.game_id = d.game_id AND c.partner = d.partner AND c.name = d.name AND c.label = d.label
               AND c.day >= :first_day AND c.day <= :last_day
            GROUP BY c.game_id, c.partner, c.name, c.label
            {_TOP_ITEMS if more else ""}""",  # noqa: S608  our own words only
        {"first_day": first_day, "last_day": last_day} | given | more,
    ).fetchall()


def list_between(
    connection: Connection,
    first_day: str,
    last_day: str,
    games: Collection[int],
    partners: Collection[str],
    names: Collection[str],
    labels: Collection[str],
) -> list[Row]:
    """Every figure with one of these games, partners, names and labels, per UTC day from one to another."""
    given = _named("game", games), _named("partner", partners), _named("name", names), _named("label", labels)
    by_game, by_partner, by_name, by_label = map(_places, given)
    return connection.execute(
        f"""SELECT game_id, partner, name, label, day, value FROM counters
            WHERE game_id IN ({by_game}) AND partner IN ({by_partner}) AND name IN ({by_name})
              AND label IN ({by_label}) AND day >= :first_day AND day <= :last_day""",  # noqa: S608  places only
        {"first_day": first_day, "last_day": last_day} | given[0] | given[1] | given[2] | given[3],
    ).fetchall()


def _named(what: str, values: Collection[object]) -> dict[str, object]:
    """Values of a list as named parameters."""
    return {f"{what}_{number}": value for number, value in enumerate(values)}


def _places(given: Collection[str]) -> str:
    return ", ".join(f":{name}" for name in given)


def list_day(connection: Connection, day: str) -> list[Row]:
    """Every figure of every game on one UTC day, without those of single items; with the game's ``slug``."""
    return connection.execute(
        f"""SELECT g.slug, c.partner, c.name, c.label, c.value
            FROM games g CROSS JOIN /* hint */ counters k ON k.game_id = g.id AND k.day = :day {_WITHOUT_ITEMS}
            ORDER BY g.slug, c.partner, c.name, c.label""",  # noqa: S608  our own words only
        {"day": day},
    ).fetchall()


def called(connection: Connection, game_id: int, partner: str) -> set[str]:
    """The addresses of ours that this partner has ever called with a right proof."""
    rows = connection.execute(
        "SELECT DISTINCT label FROM counters WHERE game_id = :game_id AND partner = :partner AND name = 'called'",
        {"game_id": game_id, "partner": partner},
    )
    return {row["label"] for row in rows}


def called_on(connection: Connection, game_id: int, partner: str, day: str) -> int:
    """How many calls of a partner have proved themselves on a UTC day, at all addresses."""
    row = connection.execute(
        """SELECT coalesce(sum(value), 0) AS calls FROM counters
           WHERE game_id = :game_id AND partner = :partner AND name = 'called' AND day = :day""",
        {"game_id": game_id, "partner": partner, "day": day},
    ).fetchone()
    return int(row["calls"])
