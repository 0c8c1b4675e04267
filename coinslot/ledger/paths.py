"""The paths that a search for transactions may follow: each is an index with an order of its own."""

import re
from dataclasses import dataclass
from typing import Any

from coinslot.store import queries
from coinslot.store.db import Connection

MOST_IN_RANGE = 20_000  # transactions with an amount between two others that are put in order
_CURSOR = re.compile(r"([a-z]+)-([0-9]{1,18})")


class CursorError(ValueError):
    """The address of a page names a place that this search does not have."""


@dataclass(frozen=True)
class Filters:
    """Which transactions are listed; None leaves a filter out. Amounts are in minor units of ``currency``."""

    partner: str | None = None
    state: str | None = None
    player_id: str | None = None
    sku: str | None = None
    since: str | None = None  # a stamp, included
    until: str | None = None  # a stamp, not included
    currency: str | None = None
    least: int | None = None
    most: int | None = None

    @property
    def is_empty(self) -> bool:
        return self == Filters()


@dataclass(frozen=True)
class Path:
    """An index to walk. ``place`` is the column of its ids. ``rows`` also has the transactions ``t``."""

    name: str
    place: str
    scanned: str
    rows: str
    at: str  # the query for the moment of a place


# One bound at each end: of two at the same end SQLite seeks to one and walks to the other.
_BETWEEN = "{0} < :after AND {0} >= :first"
_OF_TRANSACTION = "SELECT received_at FROM transactions WHERE id = :place"
_OF_GRANT = "SELECT created_at FROM grants WHERE id = :place"


def _by_index(name: str, index: str, wanted: str) -> Path:
    source = (
        f"transactions t INDEXED BY {index} /* hint */ "
        f"WHERE t.game_id = :game_id AND {wanted} AND {_BETWEEN.format('t.id')}"
    )
    return Path(name, "t.id", source, source, _OF_TRANSACTION)


_BY_PLAYER = _by_index("player", "transactions_by_player", "t.player_id = :player_id")
_BY_AMOUNT = _by_index("amount", "transactions_by_amount", "t.gross_minor = :least")
_TESTS = _by_index("test", "transactions_tests", "t.is_test = 1")
_BY_PARTNER = _by_index("partner", "transactions_by_partner", "t.partner = :partner")
# Few enough to be put in order; `_is_narrow` has counted them.
_IN_RANGE = _by_index("range", "transactions_by_amount", "t.gross_minor BETWEEN :least AND :most")
_OF_ITEM = f"e.sku = :sku AND {_BETWEEN.format('e.grant_id')}"
_BY_ITEM = Path(
    "item",
    "e.grant_id",
    f"entries e INDEXED BY entries_by_sku /* hint */ WHERE {_OF_ITEM}",
    f"""entries e INDEXED BY entries_by_sku /* hint */
       CROSS JOIN /* hint */ grants g ON g.id = e.grant_id
       CROSS JOIN /* hint */ transactions t ON t.id = g.transaction_id
       WHERE {_OF_ITEM} AND g.game_id = :game_id AND g.kind <> 'reversal'""",
    _OF_GRANT,
)
_OF_REVERSAL = f"g.game_id = :game_id AND g.kind = 'reversal' AND {_BETWEEN.format('g.id')}"
_REVERSED = Path(
    "reversed",
    "g.id",
    f"grants g INDEXED BY grants_reversals /* hint */ WHERE {_OF_REVERSAL}",
    f"""grants g INDEXED BY grants_reversals /* hint */
       CROSS JOIN /* hint */ transactions t ON t.id = g.transaction_id WHERE {_OF_REVERSAL}""",
    _OF_GRANT,
)
_OF_CONFLICT = f"c.game_id = :game_id AND {_BETWEEN.format('c.id')}"
_CONFLICTS = Path(
    "conflict",
    "c.id",
    f"conflicts c INDEXED BY conflicts_by_game /* hint */ WHERE {_OF_CONFLICT}",
    f"""conflicts c INDEXED BY conflicts_by_game /* hint */
       CROSS JOIN /* hint */ transactions t ON t.id = c.transaction_id
       WHERE {_OF_CONFLICT}
         AND NOT EXISTS (SELECT 1 FROM conflicts n WHERE n.transaction_id = c.transaction_id AND n.id > c.id)""",  # noqa: S608  our own words only
    "SELECT first_at FROM conflicts WHERE id = :place",
)
# In the order of time, then of ids.
_TIME = """transactions t INDEXED BY transactions_by_time /* hint */
    WHERE t.game_id = :game_id AND (t.received_at, t.id) < (:after_at, :after)
      AND t.received_at >= :first_at AND (t.received_at > :first_at OR t.id >= :first)"""
_BY_TIME = Path("time", "t.id", _TIME, _TIME, _OF_TRANSACTION)
# The filters that each row of a path fits.
_WHOLE = {_BY_TIME: ("since", "until"), _BY_PLAYER: ("player_id",), _BY_PARTNER: ("partner",)}
_PATHS = {
    path.name: path
    for path in (_BY_PLAYER, _BY_AMOUNT, _IN_RANGE, _BY_ITEM, _REVERSED, _CONFLICTS, _TESTS, _BY_PARTNER, _BY_TIME)
}
LAST = 2**62  # above every id


def place_of(after: str | None) -> tuple[str | None, int]:
    """The path and the place in a page's cursor. Raises :class:`CursorError`."""
    if after is None:
        return None, LAST
    matched = _CURSOR.fullmatch(after)
    if matched is None:
        raise CursorError("there is no such page")
    return matched[1], int(matched[2])


def usable(filters: Filters) -> list[str]:
    """The names of the paths that lead to all transactions these filters want, likely the shortest first."""
    is_one_amount = filters.least is not None and filters.least == filters.most
    wanted = (
        ("player", filters.player_id is not None),
        ("amount", is_one_amount),
        ("range", filters.least is not None and filters.most is not None and not is_one_amount),
        ("conflict", filters.state == "conflict"),
        ("reversed", filters.state == "reversed"),
        ("test", filters.state == "test"),
        ("item", filters.sku is not None),
        ("partner", filters.partner is not None),
        ("time", True),
    )
    return [name for name, is_usable in wanted if is_usable]


def chosen(
    connection: Connection, filters: Filters, name: str | None, place: int, given: dict[str, Any]
) -> tuple[Path, dict[str, Any], bool]:
    """The path to follow, its two ends, and whether it goes on after them.

    That is the first path that is short enough to be walked to its end, else the first of all. A cursor keeps its path.
    """
    ids = _ids_between(connection, filters, given)
    walked = [_PATHS[each] for each in (usable(filters) if name is None else [name])]
    is_dated = filters.since is not None or filters.until is not None
    best: tuple[Path, dict[str, Any], bool] | None = None
    for path in walked:
        if path is _IN_RANGE and name is None and not _is_narrow(connection, given):
            continue
        if path is _BY_TIME and best is not None and not is_dated:
            break  # longer than any other
        ends = _ends(connection, path, filters, ids, place if name is not None else None, given)
        if path in _WHOLE and filters == Filters(**{name: getattr(filters, name) for name in _WHOLE[path]}):
            return path, ends, False  # each row is wanted, so the page is full soon
        cut = connection.execute(
            f"""SELECT {path.place} AS first FROM {path.scanned} ORDER BY {order(path)}
                LIMIT 1 OFFSET :scan""",  # noqa: S608  our own words only
            {**given, **ends},
        ).fetchone()
        if cut is None:
            return path, ends, False
        best = best or (path, ends | {"first": cut["first"]}, True)
    assert best is not None, "time leads everywhere"
    path, ends, _ = best
    if path is _BY_TIME:
        ends["first_at"] = queries.value(connection, path.at, {"place": ends["first"]})
    return best


def _ends(
    connection: Connection,
    path: Path,
    filters: Filters,
    ids: tuple[int, int],
    place: int | None,
    given: dict[str, Any],
) -> dict[str, Any]:
    """``after`` and ``first``, between which the search walks a path."""
    if path is _BY_TIME:
        at: str | None = filters.until or "9999"
        if place is not None and (at := queries.value(connection, path.at, {"place": place})) is None:
            raise CursorError("there is no such page")
        return {"after_at": at, "after": place or 0, "first_at": filters.since or "", "first": 0}
    first, last = ids
    if path is _BY_ITEM and ids != (0, LAST):
        row = connection.execute(
            """SELECT coalesce((SELECT min(id) FROM grants WHERE transaction_id = :first), 0) AS first,
                      coalesce((SELECT max(id) FROM grants WHERE transaction_id = :last AND kind <> 'reversal'), :last)
                          AS last""",
            {"first": first, "last": last},
        ).fetchone()
        first, last = row["first"], row["last"]
    elif path in (_REVERSED, _CONFLICTS):
        first, last = 0, LAST  # a reversal or conflict may come at any time after its transaction
    return {"after": min(LAST if place is None else place, last + 1), "first": first}


def _is_narrow(connection: Connection, given: dict[str, Any]) -> bool:
    count: int = queries.value(
        connection,
        """SELECT count(*) FROM (
               SELECT 1 FROM transactions INDEXED BY transactions_by_amount /* hint */
               WHERE game_id = :game_id AND gross_minor BETWEEN :least AND :most LIMIT :most_rows) found""",
        {**given, "most_rows": MOST_IN_RANGE + 1},
    )
    return count <= MOST_IN_RANGE


def order(path: Path) -> str:
    """The ORDER BY of a path."""
    return "t.received_at DESC, t.id DESC" if path is _BY_TIME else f"{path.place} DESC"


def _ids_between(connection: Connection, filters: Filters, given: dict[str, Any]) -> tuple[int, int]:
    """The first and the last id within the moments of a search, both included."""
    since = """SELECT id FROM transactions WHERE game_id = :game_id AND received_at >= :since
               ORDER BY received_at, id LIMIT 1"""
    until = """SELECT id FROM transactions WHERE game_id = :game_id AND received_at < :until
               ORDER BY received_at DESC, id DESC LIMIT 1"""
    first = 0 if filters.since is None else queries.value(connection, since, given)
    last = LAST if filters.until is None else queries.value(connection, until, given)
    return LAST if first is None else first, 0 if last is None else last
