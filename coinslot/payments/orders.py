"""Payments that are orders of a partner, and their refunds."""

from coinslot.base import clock
from coinslot.ledger.refunds import REFUNDED_AT
from coinslot.payments.queries import find
from coinslot.payments.store import mark_refunded
from coinslot.store.db import Connection, Row

LOOKED_AT = 2000  # of the latest payments, in search of orders that are reported twice
WON_SECONDS = 30 * 86400.0  # how long the owner sees that a dispute was won after its refund was sent


def newest(connection: Connection) -> tuple[int, int]:
    """The highest ids of transactions and refunds."""
    row = connection.execute(
        "SELECT (SELECT max(id) FROM transactions) AS transaction_id, (SELECT max(id) FROM refunds) AS refund_id"
    ).fetchone()
    return row["transaction_id"] or 0, row["refund_id"] or 0


def orders(connection: Connection, game_id: int, partner: str, after: int, through: int, limit: int) -> list[Row]:
    """Paid, live purchases of a partner with ids above ``after`` and up to ``through``, in order.

    ``refunded_at`` is when the money went back, None if it did not; ``sku`` is one of the items bought.
    """
    return connection.execute(
        f"""SELECT t.id, t.reference, t.player_id, t.currency, t.gross_minor, t.raw_body,
                  t.moment AS purchased_at,
                  (SELECT min(e.sku) FROM grants g JOIN entries e ON e.grant_id = g.id
                   WHERE g.transaction_id = t.id AND g.kind = t.kind) AS sku,
                  {REFUNDED_AT} AS refunded_at
           FROM transactions t
           WHERE t.id > :after AND t.id <= :through AND t.game_id = :game_id AND t.partner = :partner
             AND t.kind = 'purchase' AND t.is_test = 0 AND t.environment = 'live' AND t.gross_minor > 0
           ORDER BY t.id LIMIT :limit""",  # noqa: S608 (a constant of ours)
        {"game_id": game_id, "partner": partner, "after": after, "through": through, "limit": limit},
    ).fetchall()


def refunded_orders(
    connection: Connection, game_id: int, partner: str, after: int, through: int
) -> list[tuple[str, str | None]]:
    """Reference -> since when it is refunded, of purchases with refunds of ids above ``after`` and up to ``through``.

    None if the money came back: every chargeback has been won, and there is no other refund. A refund that waits for
    its purchase is left out: the purchase will come as refunded.
    """
    rows = connection.execute(
        f"""SELECT t.reference, {REFUNDED_AT} AS refunded_at
           FROM transactions t
           WHERE t.id IN (SELECT transaction_id FROM refunds
                          WHERE id > :after AND id <= :through AND game_id = :game_id AND partner = :partner
                            AND is_test = 0 AND outcome NOT IN ('waiting', 'ambiguous', 'test'))
           ORDER BY t.id""",  # noqa: S608 (a constant of ours)
        {"game_id": game_id, "partner": partner, "after": after, "through": through},
    )
    return [(str(row["reference"]), row["refunded_at"]) for row in rows]


def refund_known(tx: Connection, game_id: int, transaction_id: str, refunded_at: str) -> None:
    """A payment is refunded. Nothing happens if it is not known, or was refunded before."""
    row = find(tx, game_id, transaction_id)
    if row is not None and row["refunded_at"] is None:
        mark_refunded(tx, row, refunded_at, clock.stamp())


def withdraw_refund(tx: Connection, game_id: int, transaction_id: str) -> None:
    """A payment is not refunded any more, and its refund is not sent. One that was sent stays ``done``."""
    tx.execute(
        """UPDATE payments SET refunded_at = NULL, refund_state = CASE WHEN refund_state = 'done' THEN 'done' END,
                  refund_tries = 0, refund_next_at = NULL, reason = CASE WHEN state <> 'registered' THEN reason END,
                  waits_since = CASE WHEN state = 'waiting' THEN waits_since END,
                  updated_at = :now
           WHERE game_id = :game_id AND transaction_id = :transaction_id AND refunded_at IS NOT NULL""",
        {"game_id": game_id, "transaction_id": transaction_id, "now": clock.stamp()},
    )


def refunded_though_won(connection: Connection, game_id: int, partner: str, prefix: str) -> list[str]:
    """References of purchases whose refund was sent before their dispute was won, in the last :data:`WON_SECONDS`.

    ``prefix`` and a reference are the payment's id.
    """
    rows = connection.execute(
        """SELECT DISTINCT t.reference
           FROM refunds r JOIN transactions t ON t.id = r.transaction_id
           JOIN payments p ON p.game_id = r.game_id AND p.transaction_id = :prefix || t.reference
           WHERE r.game_id = :game_id AND r.partner = :partner AND r.reason = 'reinstated'
             AND p.refund_state = 'done' AND p.refunded_at IS NULL AND p.updated_at >= :since
           ORDER BY t.reference""",
        {"game_id": game_id, "partner": partner, "prefix": prefix, "since": clock.stamp(clock.now() - WON_SECONDS)},
    )
    return [str(row["reference"]) for row in rows]


def reported_by_game(connection: Connection, game_id: int, partner: str) -> list[str]:
    """References of a partner's purchases that the game reports as payments too, among the latest payments."""
    rows = connection.execute(
        """SELECT t.reference FROM
               (SELECT transaction_id, source FROM payments
                WHERE game_id = :game_id AND purchased_at IS NOT NULL
                ORDER BY purchased_at DESC LIMIT :looked_at) p
               JOIN transactions t
               ON t.game_id = :game_id AND t.partner = :partner AND t.external_id = p.transaction_id
           WHERE p.source IN ('poll', 'push')""",
        {"game_id": game_id, "partner": partner, "looked_at": LOOKED_AT},
    )
    return [str(row["reference"]) for row in rows]
