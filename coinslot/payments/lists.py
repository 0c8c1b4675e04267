"""Payments for pages and commands: lists, a page at a time, and counts. Nothing here changes any."""

from coinslot.payments.store import STATES
from coinslot.store.db import Connection, Row
from coinslot.store.paging import LAST_ID, Listed, cut

COUNTED_TO = 10_000  # of a state; nobody needs an exact number above
LOOKED_THROUGH = 2000  # payments of a state, per page, in search of refunded ones

# The newest payments of each wanted state, below an id. Thanks to ``CASE`` the other states cost nothing.
_NEWEST = " UNION ALL ".join(
    f"""SELECT * FROM (SELECT id, state, refunded_at FROM payments
                       WHERE game_id = :game_id AND state = '{state}' AND id < :before
                       ORDER BY id DESC LIMIT CASE :{state} WHEN 1 THEN :looked_through ELSE 0 END) of_{state}"""  # noqa: S608
    for state in STATES
)


def page(
    connection: Connection,
    game_id: int,
    *,
    state: str | None = None,
    is_refunded: bool = False,
    before: int = LAST_ID,
    limit: int = 50,
) -> Listed:
    """Payments with an id below ``before``, newest first, and the ``before`` of the next page, None on the last.

    ``is_refunded`` selects refunded ones among :data:`LOOKED_THROUGH` of each state, so a page may have few rows, or
    none, and not be the last.
    """
    values = {
        "game_id": game_id,
        "before": before,
        "limit": limit + 1,
        "is_refunded": int(is_refunded),
        "looked_through": LOOKED_THROUGH if is_refunded else limit + 1,
    } | {each: int(state in (None, each)) for each in STATES}
    (seen_to,) = connection.execute(
        f"""SELECT max(lowest)
            FROM (SELECT min(id) AS lowest, count(*) AS found FROM ({_NEWEST}) newest GROUP BY state) ends
            WHERE found = :looked_through""",  # noqa: S608  our own words only
        values,
    ).fetchone()
    rows = connection.execute(
        f"""SELECT * FROM payments WHERE id IN (
                SELECT id FROM ({_NEWEST}) newest
                WHERE id >= :seen_to AND (:is_refunded = 0 OR refunded_at IS NOT NULL)
                ORDER BY id DESC LIMIT :limit)
            ORDER BY id DESC""",  # noqa: S608  our own words only
        {**values, "seen_to": seen_to or 0},
    ).fetchall()
    rows, following = cut(rows, limit)
    return rows, following or seen_to


def search(connection: Connection, game_id: int, text: str, before: int, limit: int) -> Listed:
    """The payment with this transaction id, and those of the player with this id, newest first; as :func:`page`."""
    rows = connection.execute(
        """SELECT * FROM payments WHERE id IN (
               SELECT id FROM payments WHERE game_id = :game_id AND transaction_id = :text AND id < :before
               UNION SELECT id FROM (SELECT id FROM payments
                                     WHERE game_id = :game_id AND player_id = :text AND id < :before
                                     ORDER BY id DESC LIMIT :limit) of_player)
           ORDER BY id DESC LIMIT :limit""",
        {"game_id": game_id, "text": text, "before": before, "limit": limit + 1},
    ).fetchall()
    return cut(rows, limit)


def refused_refunds(connection: Connection, game_id: int, before: int, limit: int) -> Listed:
    """Payments whose refund is quarantined, newest first; as :func:`page`."""
    rows = connection.execute(
        """SELECT * FROM payments WHERE game_id = :game_id AND refund_state = 'quarantined' AND id < :before
           ORDER BY id DESC LIMIT :limit""",
        {"game_id": game_id, "before": before, "limit": limit + 1},
    ).fetchall()
    return cut(rows, limit)


def conflicts(connection: Connection, game_id: int, limit: int) -> list[Row]:
    """Contents that came under a known id, newest first, each with its payment's ``transaction_id``."""
    return connection.execute(
        """SELECT c.*, p.transaction_id FROM payment_conflicts c CROSS JOIN /* hint */ payments p ON p.id = c.payment_id
           WHERE p.game_id = :game_id ORDER BY c.id DESC LIMIT :limit""",  # CROSS: from the few to the many
        {"game_id": game_id, "limit": limit},
    ).fetchall()


def conflicts_of(connection: Connection, payment_id: int, limit: int) -> list[Row]:
    """Other contents that came under a payment's id, the newest first."""
    return connection.execute(
        "SELECT * FROM payment_conflicts WHERE payment_id = :id ORDER BY id DESC LIMIT :limit",
        {"id": payment_id, "limit": limit},
    ).fetchall()


def counts(connection: Connection, game_id: int) -> dict[str, int]:
    """How many payments wait, are parked and are quarantined. Other states are not counted: they only grow."""
    rows = connection.execute(
        """SELECT state, count(*) AS count FROM payments
           WHERE game_id = :game_id AND state IN ('waiting', 'parked', 'quarantined') GROUP BY state""",
        {"game_id": game_id},
    )
    return {"waiting": 0, "parked": 0, "quarantined": 0} | {row["state"]: row["count"] for row in rows}


def capped_counts(connection: Connection, game_id: int | None = None) -> dict[int, dict[str, int]]:
    """Game id -> state -> number of payments, with ``refund-refused`` for quarantined refunds; of one game, or all.

    A number ends at :data:`COUNTED_TO` + 1.
    """
    rows = connection.execute(
        """SELECT g.id, s.state, (SELECT count(*) FROM (
                                      SELECT 1 FROM payments
                                      WHERE game_id = g.id AND state = s.state LIMIT :most) c) AS count
           FROM games g CROSS JOIN (SELECT 'parked' AS state UNION ALL SELECT 'waiting' UNION ALL SELECT 'registered'
                                    UNION ALL SELECT 'quarantined' UNION ALL SELECT 'kept') s
           WHERE CAST(:game_id AS INTEGER) IS NULL OR g.id = :game_id
           UNION ALL
           SELECT g.id, 'refund-refused', (SELECT count(*) FROM (
                                               SELECT 1 FROM payments
                                               WHERE game_id = g.id AND refund_state = 'quarantined' LIMIT :most) c)
           FROM games g WHERE CAST(:game_id AS INTEGER) IS NULL OR g.id = :game_id""",
        {"game_id": game_id, "most": COUNTED_TO + 1},
    )
    found: dict[int, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row["id"], {})[row["state"]] = row["count"]
    return found
