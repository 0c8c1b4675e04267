"""Lists and searches over the ledger for its owner: the newest first, a page at a time, and bounded.

A page follows one path: an index that leads to what the filters ask for, in an order of its own. What the path cannot
tell is looked up per row, and so a page looks at no more than :data:`LOOKED_AT` rows of it. Where that ends before the
page is full, the page says how far it has come and goes on from there: no search is slow, and none pretends that there
is nothing more.

Paging is by cursor: the path's name and the place on it where the last page ended, so that rows which come in between
move nothing.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from coinslot.store.db import Connection, Row
from coinslot.store.paging import LAST_ID, Listed, cut

PAGE_ROWS = 50
LOOKED_AT = 2000  # rows of a path per page
MOST_IN_RANGE = 20_000  # transactions with an amount between two others that are put in order
MOST_FOUND = 20
ITEMS_SHOWN = 4
STATES = ("credited", "reversed", "conflict", "test")
KEY_KINDS = ("purchase", "payment", "external", "order", "alias", "signature")
FALLBACKS = ("payment", "external")  # kinds that stand in front of an id when an order came without its own

_CURSOR = re.compile(r"([a-z]+)-([0-9]{1,18})")


class CursorError(ValueError):
    """A page's address names a place that this search does not have."""


@dataclass(frozen=True)
class Filters:
    """What a transaction must be to be listed; None is "whatever". Amounts are in minor units of ``currency``."""

    partner: str | None = None
    state: str | None = None
    player_id: str | None = None
    sku: str | None = None
    since: str | None = None  # stamps: from the first on, and before the second
    until: str | None = None
    currency: str | None = None
    least: int | None = None
    most: int | None = None

    @property
    def is_empty(self) -> bool:
        return self == Filters()


@dataclass(frozen=True)
class Page:
    """Rows, and where to go on: None when there is nothing more.

    ``searched_to`` is the moment back to which all was looked at when the page is not full for that alone.
    """

    rows: Sequence[Row]
    after: str | None
    searched_to: str | None = None


@dataclass(frozen=True)
class _Path:
    """``scanned`` and ``rows`` are the same places: without, and with, the transactions ``t`` they lead to."""

    name: str
    place: str
    scanned: str
    rows: str
    at: str  # the moment of a place, for `searched_to`


# One bound at each end: of two at the same end SQLite seeks to one and walks to the other.
_BETWEEN = "{0} < :after AND {0} >= :first"
_OF_TRANSACTION = "SELECT received_at FROM transactions WHERE id = :place"


def _by_index(name: str, index: str, wanted: str) -> _Path:
    source = f"transactions t INDEXED BY {index} WHERE t.game_id = :game_id AND {wanted} AND {_BETWEEN.format('t.id')}"
    return _Path(name, "t.id", source, source, _OF_TRANSACTION)


_BY_PLAYER = _by_index("player", "transactions_by_player", "t.player_id = :player_id")
_BY_AMOUNT = _by_index("amount", "transactions_by_amount", "t.gross_minor = :least")
_TESTS = _by_index("test", "transactions_tests", "t.is_test = 1")
_BY_PARTNER = _by_index("partner", "transactions_by_partner", "t.partner = :partner")
# Few enough to be put in order; `_is_narrow` has counted them.
_IN_RANGE = _by_index("range", "transactions_by_amount", "t.gross_minor BETWEEN :least AND :most")
_OF_ITEM = f"e.sku = :sku AND {_BETWEEN.format('e.grant_id')}"
_BY_ITEM = _Path(
    "item",
    "e.grant_id",
    f"entries e INDEXED BY entries_by_sku WHERE {_OF_ITEM}",
    f"""entries e INDEXED BY entries_by_sku
       CROSS JOIN grants g ON g.id = e.grant_id CROSS JOIN transactions t ON t.id = g.transaction_id
       WHERE {_OF_ITEM} AND g.game_id = :game_id AND g.kind <> 'reversal'""",
    "SELECT created_at FROM grants WHERE id = :place",
)
_REVERSED = _Path(
    "reversed",
    "g.id",
    """grants g INDEXED BY grants_reversals
       WHERE g.game_id = :game_id AND g.kind = 'reversal' AND g.id < :after AND g.id >= :first""",
    """grants g INDEXED BY grants_reversals CROSS JOIN transactions t ON t.id = g.transaction_id
       WHERE g.game_id = :game_id AND g.kind = 'reversal' AND g.id < :after AND g.id >= :first""",
    "SELECT created_at FROM grants WHERE id = :place",
)
_CONFLICTS = _Path(
    "conflict",
    "c.id",
    "conflicts c INDEXED BY conflicts_by_game WHERE c.game_id = :game_id AND c.id < :after AND c.id >= :first",
    """conflicts c INDEXED BY conflicts_by_game CROSS JOIN transactions t ON t.id = c.transaction_id
       WHERE c.game_id = :game_id AND c.id < :after AND c.id >= :first
         AND NOT EXISTS (SELECT 1 FROM conflicts n WHERE n.transaction_id = c.transaction_id AND n.id > c.id)""",
    "SELECT first_at FROM conflicts WHERE id = :place",
)
# In the order of time, with the ids behind it: of several games this one's alone.
_BY_TIME = _Path(
    "time",
    "t.id",
    """transactions t INDEXED BY transactions_by_time
       WHERE t.game_id = :game_id AND (t.received_at, t.id) < (:after_at, :after)
         AND t.received_at >= :first_at AND (t.received_at > :first_at OR t.id >= :first)""",
    """transactions t INDEXED BY transactions_by_time
       WHERE t.game_id = :game_id AND (t.received_at, t.id) < (:after_at, :after)
         AND t.received_at >= :first_at AND (t.received_at > :first_at OR t.id >= :first)""",
    _OF_TRANSACTION,
)
# The filters that a path keeps to by itself.
_WHOLE = {
    _BY_TIME: ("since", "until"),
    _BY_PLAYER: ("player_id",),
    _BY_PARTNER: ("partner",),
}
_PATHS = {
    path.name: path
    for path in (_BY_PLAYER, _BY_AMOUNT, _IN_RANGE, _BY_ITEM, _REVERSED, _CONFLICTS, _TESTS, _BY_PARTNER, _BY_TIME)
}

_MATCHES = """(:partner IS NULL OR t.partner = :partner)
    AND (:player_id IS NULL OR t.player_id = :player_id)
    AND (:since IS NULL OR t.received_at >= :since) AND (:until IS NULL OR t.received_at < :until)
    AND (:currency IS NULL OR t.currency = :currency)
    AND (:least IS NULL OR t.gross_minor >= :least) AND (:most IS NULL OR t.gross_minor <= :most)
    AND (:sku IS NULL OR EXISTS (SELECT 1 FROM grants x CROSS JOIN entries l ON l.grant_id = x.id AND l.sku = :sku
                                 WHERE x.transaction_id = t.id AND x.kind <> 'reversal'))
    AND CASE :state
        WHEN 'test' THEN t.is_test = 1
        WHEN 'reversed' THEN EXISTS (SELECT 1 FROM grants x WHERE x.transaction_id = t.id AND x.kind = 'reversal')
        WHEN 'conflict' THEN EXISTS (SELECT 1 FROM conflicts x WHERE x.transaction_id = t.id)
        WHEN 'credited' THEN t.is_test = 0 AND NOT EXISTS (
            SELECT 1 FROM grants x WHERE x.transaction_id = t.id AND x.kind = 'reversal')
        ELSE 1 END"""

_COLUMNS = """t.id, t.public_id, t.partner, t.reference, t.external_id, t.kind, t.player_id, t.currency, t.gross_minor,
    t.is_test, t.environment, t.received_at, t.occurred_at, t.subtotal_minor, t.tax_minor,
    EXISTS (SELECT 1 FROM grants x WHERE x.transaction_id = t.id AND x.kind = 'reversal') AS is_reversed,
    (SELECT x.outcome = 'restored' FROM refunds x WHERE x.transaction_id = t.id
     AND x.outcome IN ('reversed', 'restored') ORDER BY x.id DESC LIMIT 1) AS is_restored,
    EXISTS (SELECT 1 FROM conflicts x WHERE x.transaction_id = t.id) AS has_conflict,
    (SELECT json_group_array(json_array(sku, quantity)) FROM (
        SELECT l.sku, l.quantity FROM grants x CROSS JOIN entries l ON l.grant_id = x.id
        WHERE x.transaction_id = t.id AND x.kind = t.kind LIMIT :items)) AS items"""


def transactions(
    connection: Connection,
    game_id: int,
    filters: Filters,
    after: str | None = None,
    limit: int = PAGE_ROWS,
    looked_at: int = LOOKED_AT,
) -> Page:
    """A page of transactions that match, the newest first (with a state, by when they came into it).

    Raises :class:`CursorError` for an ``after`` that no page of ours has named.
    """
    name, place = _cursor(after)
    if name is not None and name not in _usable(filters):
        raise CursorError("this page's address does not fit its filters")
    given = {"game_id": game_id, **vars(filters), "items": ITEMS_SHOWN, "limit": limit + 1, "scan": looked_at - 1}
    path, ends, is_cut = _chosen(connection, filters, name, place, given)
    rows = connection.execute(
        f"""SELECT {path.place} AS place, {_COLUMNS} FROM {path.rows} AND {_MATCHES}
            ORDER BY {_order(path)} LIMIT :limit""",  # noqa: S608  our own words only
        {**given, **ends},
    ).fetchall()
    if len(rows) > limit:
        return Page(rows[:limit], f"{path.name}-{rows[limit - 1]['place']}")
    if not is_cut:
        return Page(rows, None)
    (at,) = connection.execute(path.at, {"place": ends["first"]}).fetchone()
    return Page(rows, f"{path.name}-{ends['first']}", at)


def every_transaction(connection: Connection, game_id: int, filters: Filters, at_once: int = 500) -> Iterator[Row]:
    """Every transaction that matches, however many, without holding one state of the database for all of them."""
    after: str | None = None
    while True:
        page = transactions(connection, game_id, filters, after, at_once, looked_at=20 * at_once)
        yield from page.rows
        if page.after is None:
            return
        after = page.after


def items_of(row: Row | dict[str, Any]) -> list[tuple[str, str]]:
    """The first few (sku, quantity) of a listed transaction."""
    return [(sku, quantity) for sku, quantity in json.loads(row["items"])]


def partners(connection: Connection, game_id: int) -> list[str]:
    """The partners that have ever had something credited, by a step per partner through their index."""
    rows = connection.execute(
        """WITH RECURSIVE known (partner) AS (
               SELECT min(partner) FROM transactions WHERE game_id = :game_id
               UNION ALL
               SELECT (SELECT min(t.partner) FROM transactions t
                       WHERE t.game_id = :game_id AND t.partner > known.partner)
               FROM known WHERE known.partner IS NOT NULL LIMIT 100)
           SELECT partner FROM known WHERE partner IS NOT NULL""",
        {"game_id": game_id},
    )
    return [row["partner"] for row in rows]


def by_any_id(connection: Connection, game_id: int, text: str) -> list[str]:
    """The ``public_id`` of up to :data:`MOST_FOUND` transactions that anybody knows by this id.

    That is our own id, the partner's (as it is, or as one that stood in for it), any of ``transaction_keys``, the id of
    a grant, or of a delivery. The transaction's own ids come first, and where one is found the others are not asked.
    """
    known = partners(connection, game_id)
    ids = [text, *(f"{kind}:{text}" for kind in FALLBACKS)]
    found = connection.execute(
        """SELECT t.id, t.public_id FROM transactions t WHERE t.public_id = :text AND t.game_id = :game_id
           UNION
           SELECT t.id, t.public_id FROM json_each(:partners) p CROSS JOIN json_each(:ids) i
           CROSS JOIN transactions t
               ON t.game_id = :game_id AND t.partner = p.value AND t.external_id = i.value
           UNION
           SELECT t.id, t.public_id FROM json_each(:partners) p CROSS JOIN json_each(:kinds) k
           CROSS JOIN transaction_keys x
               ON x.game_id = :game_id AND x.partner = p.value AND x.kind = k.value AND x.value = :text
           CROSS JOIN transactions t ON t.id = x.transaction_id
           ORDER BY 1 DESC LIMIT :most""",
        {
            "game_id": game_id,
            "text": text,
            "partners": json.dumps(known),
            "ids": json.dumps(ids),
            "kinds": json.dumps(KEY_KINDS),
            "most": MOST_FOUND,
        },
    ).fetchall()
    if not found:
        grant_id = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None
        found = connection.execute(
            """SELECT t.id, t.public_id FROM grants g JOIN transactions t ON t.id = g.transaction_id
               WHERE g.id = :grant_id AND g.game_id = :game_id
               UNION
               SELECT t.id, t.public_id FROM deliveries d JOIN grants g ON g.id = d.grant_id
               JOIN transactions t ON t.id = g.transaction_id
               WHERE d.webhook_id = :text AND d.game_id = :game_id""",
            {"game_id": game_id, "grant_id": grant_id, "text": text},
        ).fetchall()
    return [row["public_id"] for row in found]


def by_public_ids(connection: Connection, game_id: int, public_ids: Sequence[str]) -> list[Row]:
    """These transactions as they are listed, the newest first."""
    return connection.execute(
        f"""SELECT t.id AS place, {_COLUMNS} FROM json_each(:ids) i CROSS JOIN transactions t ON t.public_id = i.value
            WHERE t.game_id = :game_id ORDER BY t.id DESC LIMIT :most""",  # noqa: S608  our own words only
        {"game_id": game_id, "ids": json.dumps(list(public_ids)), "most": MOST_FOUND, "items": ITEMS_SHOWN},
    ).fetchall()


def has_player(connection: Connection, game_id: int, player_id: str) -> bool:
    """Whether there is anything to show of a player: an entry in the registry, a transaction or an event."""
    row = connection.execute(
        """SELECT 1 WHERE EXISTS (SELECT 1 FROM players WHERE game_id = :game_id AND player_id = :player_id)
               OR EXISTS (SELECT 1 FROM transactions WHERE game_id = :game_id AND player_id = :player_id)
               OR EXISTS (SELECT 1 FROM events WHERE game_id = :game_id AND player_id = :player_id)""",
        {"game_id": game_id, "player_id": player_id},
    ).fetchone()
    return row is not None


def players(
    connection: Connection, game_id: int, beginning: str = "", after: str = "", limit: int = PAGE_ROWS
) -> list[Row]:
    """Registered players in the order of their ids, those whose id begins so."""
    return connection.execute(
        """SELECT player_id, name, country, created_at, updated_at FROM players
           WHERE game_id = :game_id AND player_id > :after AND player_id >= :beginning AND player_id < :end
           ORDER BY player_id LIMIT :limit""",
        {"game_id": game_id, "after": after, "beginning": beginning, "end": _end_of(beginning), "limit": limit},
    ).fetchall()


def players_by_name(connection: Connection, game_id: int, beginning: str, limit: int = PAGE_ROWS) -> list[Row]:
    """The first registered players whose name begins so, in the order of their names."""
    return connection.execute(
        """SELECT player_id, name, country, created_at, updated_at FROM players INDEXED BY players_by_name
           WHERE game_id = :game_id AND name >= :beginning AND name < :end ORDER BY name LIMIT :limit""",
        {"game_id": game_id, "beginning": beginning, "end": _end_of(beginning), "limit": limit},
    ).fetchall()


def conflicts(connection: Connection, game_id: int, before: int = LAST_ID, limit: int = PAGE_ROWS) -> Listed:
    """Refused reports of known transactions, the newest first, with what was credited."""
    rows = connection.execute(
        """SELECT c.id, c.partner, c.external_id, c.player_id, c.seen, c.first_at, c.last_at,
                  t.public_id, t.reference, t.player_id AS credited_player, t.received_at
           FROM conflicts c INDEXED BY conflicts_by_game JOIN transactions t ON t.id = c.transaction_id
           WHERE c.game_id = :game_id AND c.id < :before ORDER BY c.id DESC LIMIT :limit""",
        {"game_id": game_id, "before": before, "limit": limit + 1},
    ).fetchall()
    return cut(rows, limit)


def refunds(
    connection: Connection,
    game_id: int,
    is_open: bool = False,
    before: int = LAST_ID,
    limit: int = PAGE_ROWS,
) -> Listed:
    """Refunds and disputes, the newest first, all or those that nobody has settled, with purchase and event."""
    columns = """r.id, r.partner, r.reason, r.outcome, r.occurred_at, r.created_at, r.settled_at, r.is_test, r.grant_id,
                 r.event_id, e.external_id AS named, coalesce(t.player_id, e.player_id) AS player_id, t.public_id,
                 t.reference, t.currency, t.gross_minor"""
    index, wanted = (
        ("refunds_unsettled", "r.outcome IN ('ambiguous', 'waiting')") if is_open else ("refunds_by_game", "1")
    )
    rows = connection.execute(
        f"""SELECT {columns} FROM refunds r INDEXED BY {index}
            LEFT JOIN events e ON e.id = r.event_id LEFT JOIN transactions t ON t.id = r.transaction_id
            WHERE r.game_id = :game_id AND {wanted} AND r.id < :before
            ORDER BY r.id DESC LIMIT :limit""",  # noqa: S608  our own words only
        {"game_id": game_id, "before": before, "limit": limit + 1},
    ).fetchall()
    return cut(rows, limit)


_LAST = 2**62  # above every id


def _cursor(after: str | None) -> tuple[str | None, int]:
    if after is None:
        return None, _LAST
    matched = _CURSOR.fullmatch(after)
    if matched is None:
        raise CursorError("there is no such page")
    return matched[1], int(matched[2])


def _usable(filters: Filters) -> list[str]:
    """The paths that lead to all that these filters ask for, likely the shortest first."""
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


def _chosen(
    connection: Connection, filters: Filters, name: str | None, place: int, given: dict[str, Any]
) -> tuple[_Path, dict[str, Any], bool]:
    """The path to follow, its two ends, and whether it goes on behind them.

    That is the first path short enough to be walked to its end, else the first of all. A cursor stays on its path.
    """
    ids = _ids_between(connection, filters, given)
    usable = [_PATHS[each] for each in (_usable(filters) if name is None else [name])]
    is_dated = filters.since is not None or filters.until is not None
    best: tuple[_Path, dict[str, Any], bool] | None = None
    for path in usable:
        if path is _IN_RANGE and name is None and not _is_narrow(connection, given):
            continue
        if path is _BY_TIME and best is not None and not is_dated:
            break  # all there is: longer than any other
        ends = _ends(connection, path, filters, ids, place if name is not None else None, given)
        if path in _WHOLE and filters == Filters(**{name: getattr(filters, name) for name in _WHOLE[path]}):
            return path, ends, False  # each row of it is wanted, so the page will be full soon enough
        cut = connection.execute(
            f"""SELECT {path.place} AS first FROM {path.scanned} ORDER BY {_order(path)}
                LIMIT 1 OFFSET :scan""",  # noqa: S608  our own words only
            {**given, **ends},
        ).fetchone()
        if cut is None:
            return path, ends, False
        best = best or (path, ends | {"first": cut["first"]}, True)
    assert best is not None, "time leads everywhere"
    path, ends, _ = best
    if path is _BY_TIME:
        ends["first_at"] = connection.execute(path.at, {"place": ends["first"]}).fetchone()["received_at"]
    return best


def _ends(
    connection: Connection,
    path: _Path,
    filters: Filters,
    ids: tuple[int, int],
    place: int | None,
    given: dict[str, Any],
) -> dict[str, Any]:
    """``after`` and ``first``, between which the search goes along a path."""
    if path is _BY_TIME:
        if place is None:
            return {"after_at": filters.until or "9999", "after": 0, "first_at": filters.since or "", "first": 0}
        row = connection.execute(path.at, {"place": place}).fetchone()
        if row is None:
            raise CursorError("there is no such page")
        return {"after_at": row["received_at"], "after": place, "first_at": filters.since or "", "first": 0}
    first, last = ids
    if path is _BY_ITEM and ids != (0, _LAST):
        row = connection.execute(
            """SELECT coalesce((SELECT min(id) FROM grants WHERE transaction_id = :first), 0) AS first,
                      coalesce((SELECT max(id) FROM grants WHERE transaction_id = :last AND kind <> 'reversal'), :last)
                          AS last""",
            {"first": first, "last": last},
        ).fetchone()
        first, last = row["first"], row["last"]
    elif path in (_REVERSED, _CONFLICTS):
        first, last = 0, _LAST  # their places are of another time than the transactions
    return {"after": min(_LAST if place is None else place, last + 1), "first": first}


def _is_narrow(connection: Connection, given: dict[str, Any]) -> bool:
    (count,) = connection.execute(
        """SELECT count(*) FROM (
               SELECT 1 FROM transactions INDEXED BY transactions_by_amount
               WHERE game_id = :game_id AND gross_minor BETWEEN :least AND :most LIMIT :most_rows)""",
        {**given, "most_rows": MOST_IN_RANGE + 1},
    ).fetchone()
    return int(count) <= MOST_IN_RANGE


def _order(path: _Path) -> str:
    return "t.received_at DESC, t.id DESC" if path is _BY_TIME else f"{path.place} DESC"


def _ids_between(connection: Connection, filters: Filters, given: dict[str, Any]) -> tuple[int, int]:
    """The first and the last id within the moments of a search, both included."""
    first, last = 0, _LAST
    if filters.since is not None:
        row = connection.execute(
            """SELECT id FROM transactions WHERE game_id = :game_id AND received_at >= :since
               ORDER BY received_at, id LIMIT 1""",
            given,
        ).fetchone()
        first = _LAST if row is None else row["id"]
    if filters.until is not None:
        row = connection.execute(
            """SELECT id FROM transactions WHERE game_id = :game_id AND received_at < :until
               ORDER BY received_at DESC, id DESC LIMIT 1""",
            given,
        ).fetchone()
        last = 0 if row is None else row["id"]
    return first, last


def _end_of(beginning: str) -> str:
    """What comes after every text that begins so, in the order of the database."""
    return beginning + "\U0010ffff" if beginning else "\U0010ffff" * 2
