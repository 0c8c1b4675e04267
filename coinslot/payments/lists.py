"""In-game payments as their owner looks at them: lists a page at a time, and counts.

Nothing here changes any.
"""

from coinslot.payments.store import STATES
from coinslot.store.db import Connection, Row
from coinslot.store.paging import LAST_ID, Listed, cut

COUNTED_TO = 10_000  # of a state: further than that nobody has to know it exactly
LOOKED_THROUGH = 2000  # of a state, for the refunded ones among them: what one page of a list may cost

# The newest payments of each state that is asked for, below an id. ``CASE`` has a state not asked for cost nothing.
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
    """Payments with an id below ``before``, newest first, and the ``before`` of the page after, None on the last.

    ``is_refunded`` leaves only refunded ones over, which are looked for among :data:`LOOKED_THROUGH` of each state: a
    page may have few, or none, and still not be the last.
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


def listing(connection: Connection, game_id: int, state: str | None, before: int | None, limit: int) -> list[Row]:
    """Payments, newest first, with an id below ``before``; of one state, or of all. Each has every column."""
    before = LAST_ID if before is None else before
    found: list[Row] = []
    for each in STATES if state is None else (state,):
        found += connection.execute(
            """SELECT * FROM payments WHERE game_id = :game_id AND state = +:state /* hint */ AND id < :before
               ORDER BY id DESC LIMIT :limit""",
            {"game_id": game_id, "state": each, "before": before, "limit": limit},
        )
    return sorted(found, key=lambda row: int(row["id"]), reverse=True)[:limit]


def stuck_refunds(connection: Connection, game_id: int, limit: int) -> list[Row]:
    """Payments whose refund is quarantined."""
    return connection.execute(
        """SELECT * FROM payments WHERE game_id = :game_id AND refund_state = 'quarantined' ORDER BY id LIMIT :limit""",
        {"game_id": game_id, "limit": limit},
    ).fetchall()


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
    """How many wait, are parked, are quarantined, and have a refund that is: what somebody should look at.

    The others are not counted: they are all the rest, and there is no end of them.
    """
    found = {}
    for state in ("waiting", "parked", "quarantined"):
        (found[state],) = connection.execute(
            "SELECT count(*) FROM payments WHERE game_id = :game_id AND state = +:state /* hint */",
            {"game_id": game_id, "state": state},
        ).fetchone()
    (found["refunds_quarantined"],) = connection.execute(
        "SELECT count(*) FROM payments WHERE game_id = :game_id AND refund_state = 'quarantined'",
        {"game_id": game_id},
    ).fetchone()
    (found["conflicts"],) = connection.execute(
        """SELECT count(*) FROM payment_conflicts c JOIN payments p ON p.id = c.payment_id
           WHERE p.game_id = :game_id""",
        {"game_id": game_id},
    ).fetchone()
    return found


def capped_counts(connection: Connection, game_id: int | None = None) -> dict[int, dict[str, int]]:
    """Game -> how many payments are in each state, and how many refunds are ``refund-refused``; of one game, or all.

    A count ends at :data:`COUNTED_TO` and one.
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
