"""Lists and searches over the ledger for its owner: newest first, a page at a time, and bounded.

A page walks one path (``paths.py``), an index that leads to what some of the filters want, and looks at no more than
:data:`LOOKED_AT` rows of it. The other filters are checked per row. Where the bound comes before the page is full, the
page says how far back it has searched, and the next page goes on there: no search is slow, and none hides that there
may be more.

A page's cursor is the path's name and the place where the page ended, so rows that come in meanwhile move nothing.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from coinslot.ledger.paths import CursorError, Filters, chosen, order, place_of, usable
from coinslot.store import queries
from coinslot.store.db import Connection, Row
from coinslot.store.paging import LAST_ID, Listed, cut

PAGE_ROWS = 50
LOOKED_AT = 2000  # rows of a path per page
ITEMS_SHOWN = 4
STATES = ("credited", "reversed", "conflict", "test")
KEY_KINDS = ("purchase", "payment", "external", "order", "alias", "twin", "signature")
FALLBACKS = ("payment", "external")  # an order without its own id is stored under such a kind and its value


@dataclass(frozen=True)
class Page:
    """Rows, and the cursor of the next page; None when there is nothing more.

    ``searched_to`` is the moment back to which the search came, where the page is not full for its bound.
    """

    rows: Sequence[Row]
    after: str | None
    searched_to: str | None = None


# Not EXISTS, for which PostgreSQL may read every reversal and every conflict there is.
_IS_REVERSED = "(SELECT 1 FROM grants x WHERE x.transaction_id = t.id AND x.kind = 'reversal' LIMIT 1) IS NOT NULL"
_HAS_CONFLICT = "(SELECT 1 FROM conflicts x WHERE x.transaction_id = t.id LIMIT 1) IS NOT NULL"

_MATCHES = f"""(CAST(:partner AS TEXT) IS NULL OR t.partner = :partner)
    AND (CAST(:player_id AS TEXT) IS NULL OR t.player_id = :player_id)
    AND (CAST(:since AS TEXT) IS NULL OR t.received_at >= :since)
    AND (CAST(:until AS TEXT) IS NULL OR t.received_at < :until)
    AND (CAST(:currency AS TEXT) IS NULL OR t.currency = :currency)
    AND (CAST(:least AS INTEGER) IS NULL OR t.gross_minor >= :least)
    AND (CAST(:most AS INTEGER) IS NULL OR t.gross_minor <= :most)
    AND (CAST(:sku AS TEXT) IS NULL OR EXISTS (
        SELECT 1 FROM grants x CROSS JOIN /* hint */ entries l ON l.grant_id = x.id AND l.sku = :sku
        WHERE x.transaction_id = t.id AND x.kind <> 'reversal'))
    AND CASE :state
        WHEN 'test' THEN t.is_test = 1
        WHEN 'reversed' THEN {_IS_REVERSED}
        WHEN 'conflict' THEN {_HAS_CONFLICT}
        WHEN 'credited' THEN t.is_test = 0 AND NOT {_IS_REVERSED}
        ELSE true END"""  # noqa: S608  our own words only

_COLUMNS = f"""t.id, t.public_id, t.partner, t.reference, t.external_id, t.kind, t.player_id, t.currency, t.gross_minor,
    t.is_test, t.environment, t.received_at, t.occurred_at, t.subtotal_minor, t.tax_minor,
    {_IS_REVERSED} AS is_reversed,
    (SELECT CASE x.outcome WHEN 'restored' THEN 1 ELSE 0 END FROM refunds x WHERE x.transaction_id = t.id
     AND x.outcome IN ('reversed', 'restored') ORDER BY x.id DESC LIMIT 1) AS is_restored,
    {_HAS_CONFLICT} AS has_conflict,
    (SELECT coalesce(json_group_array(json_array(sku, quantity)), '[]') FROM (
        SELECT l.sku, l.quantity FROM grants x CROSS JOIN /* hint */ entries l ON l.grant_id = x.id
        WHERE x.transaction_id = t.id AND x.kind = t.kind ORDER BY l.sku LIMIT :items) held) AS items"""  # noqa: S608  our own words only


def transactions(
    connection: Connection,
    game_id: int,
    filters: Filters,
    after: str | None = None,
    limit: int = PAGE_ROWS,
    looked_at: int = LOOKED_AT,
) -> Page:
    """A page of transactions that match, newest first (with a state: by when they got that state).

    Raises :class:`CursorError` for an ``after`` that is no cursor of this search.
    """
    name, place = place_of(after)
    if name is not None and name not in usable(filters):
        raise CursorError("this page's address does not fit its filters")
    given = {"game_id": game_id, **vars(filters), "items": ITEMS_SHOWN, "limit": limit + 1, "scan": looked_at - 1}
    path, ends, is_cut = chosen(connection, filters, name, place, given)
    rows = connection.execute(
        f"""SELECT {path.place} AS place, {_COLUMNS} FROM {path.rows} AND {_MATCHES}
            ORDER BY {order(path)} LIMIT :limit""",  # noqa: S608  our own words only
        {**given, **ends},
    ).fetchall()
    if len(rows) > limit:
        return Page(rows[:limit], f"{path.name}-{rows[limit - 1]['place']}")
    if not is_cut:
        return Page(rows, None)
    return Page(rows, f"{path.name}-{ends['first']}", queries.value(connection, path.at, {"place": ends["first"]}))


def every_transaction(connection: Connection, game_id: int, filters: Filters, at_once: int = 500) -> Iterator[Row]:
    """Every transaction that matches, however many, without one read transaction over all of them."""
    page = transactions(connection, game_id, filters, None, at_once, looked_at=20 * at_once)
    yield from page.rows
    while page.after is not None:
        page = transactions(connection, game_id, filters, page.after, at_once, looked_at=20 * at_once)
        yield from page.rows


def items_of(row: Row | dict[str, Any]) -> list[tuple[str, str]]:
    """The first few (sku, quantity) of a listed transaction."""
    return [(sku, quantity) for sku, quantity in json.loads(row["items"])]


def partners(connection: Connection, game_id: int) -> list[str]:
    """The partners that have ever had something credited: one step through an index for each."""
    rows = connection.execute(
        """WITH RECURSIVE known (partner) AS (
               SELECT min(partner) FROM transactions WHERE game_id = :game_id
               UNION ALL
               SELECT (SELECT min(t.partner) FROM transactions t
                       WHERE t.game_id = :game_id AND t.partner > known.partner)
               FROM known WHERE known.partner IS NOT NULL)
           SELECT partner FROM known WHERE partner IS NOT NULL LIMIT 100""",
        {"game_id": game_id},
    )
    return [row["partner"] for row in rows]


def by_ids(connection: Connection, ids: Sequence[int]) -> list[Row]:
    """These transactions of any game as they are listed, with their ``game_id``, newest first."""
    return connection.execute(
        f"""SELECT t.game_id, {_COLUMNS}
            FROM json_each(:ids) /* numbers */ i CROSS JOIN /* hint */ transactions t ON t.id = i.value
            ORDER BY t.id DESC""",  # noqa: S608  our own words only
        {"ids": json.dumps(list(ids)), "items": ITEMS_SHOWN},
    ).fetchall()


def has_player(connection: Connection, game_id: int, player_id: str) -> bool:
    """Whether there is anything to show of a player: an entry in the registry, a transaction or an event."""
    row = queries.row(
        connection,
        """SELECT 1 WHERE EXISTS (SELECT 1 FROM players WHERE game_id = :game_id AND player_id = :player_id)
               OR EXISTS (SELECT 1 FROM transactions WHERE game_id = :game_id AND player_id = :player_id)
               OR EXISTS (SELECT 1 FROM events WHERE game_id = :game_id AND player_id = :player_id)""",
        {"game_id": game_id, "player_id": player_id},
    )
    return row is not None


def players(
    connection: Connection, game_id: int, beginning: str = "", after: str = "", limit: int = PAGE_ROWS
) -> list[Row]:
    """Registered players whose id begins so, in the order of their ids."""
    return connection.execute(
        """SELECT player_id, name, country, created_at, updated_at FROM players
           WHERE game_id = :game_id AND player_id > :after AND player_id >= :beginning AND player_id < :end
           ORDER BY player_id LIMIT :limit""",
        {"game_id": game_id, "after": after, "beginning": beginning, "end": end_of(beginning), "limit": limit},
    ).fetchall()


def conflicts(connection: Connection, game_id: int, before: int = LAST_ID, limit: int = PAGE_ROWS) -> Listed:
    """Refused reports of known transactions, newest first, with what was credited."""
    rows = connection.execute(
        """SELECT c.id, c.partner, c.external_id, c.player_id, c.seen, c.first_at, c.last_at,
                  t.public_id, t.reference, t.player_id AS credited_player, t.received_at
           FROM conflicts c INDEXED BY conflicts_by_game /* hint */ JOIN transactions t ON t.id = c.transaction_id
           WHERE c.game_id = :game_id AND c.id < :before ORDER BY c.id DESC LIMIT :limit""",
        {"game_id": game_id, "before": before, "limit": limit + 1},
    ).fetchall()
    return cut(rows, limit)


def refunds(
    connection: Connection, game_id: int, is_open: bool = False, before: int = LAST_ID, limit: int = PAGE_ROWS
) -> Listed:
    """Refunds and disputes, newest first, all or only those that are not settled, with purchase and event."""
    columns = """r.id, r.partner, r.reason, r.outcome, r.occurred_at, r.created_at, r.settled_at, r.is_test, r.grant_id,
                 r.event_id, e.external_id AS named, coalesce(t.player_id, e.player_id) AS player_id, t.public_id,
                 t.reference, t.currency, t.gross_minor"""
    index, wanted = "refunds_by_game", "true"
    if is_open:
        index, wanted = "refunds_unsettled", "r.outcome IN ('ambiguous', 'waiting')"
    rows = connection.execute(
        f"""SELECT {columns} FROM refunds r INDEXED BY {index} /* hint */
            LEFT JOIN events e ON e.id = r.event_id LEFT JOIN transactions t ON t.id = r.transaction_id
            WHERE r.game_id = :game_id AND {wanted} AND r.id < :before
            ORDER BY r.id DESC LIMIT :limit""",  # noqa: S608  our own words only
        {"game_id": game_id, "before": before, "limit": limit + 1},
    ).fetchall()
    return cut(rows, limit)


def end_of(beginning: str) -> str:
    """A text after every text that begins so, in the order of the database."""
    return beginning + "\U0010ffff" if beginning else "\U0010ffff" * 2
