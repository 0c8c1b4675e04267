"""The money of grants that were not delivered, of payments that were not registered, and of refunds without an answer.

Each statement is for one kind of trouble, and reads no more than ``:most`` of its rows.
"""

from coinslot.ledger import refund_requests

# Kind -> the money of the first of its rows.
_OF_DELIVERIES = """
    SELECT '{kind}' AS kind, s.slug AS game, t.currency AS currency, t.gross_minor AS minor, NULL AS amount FROM (
        SELECT g.slug AS slug, d.grant_id AS grant_id FROM games g JOIN destinations t ON t.game_id = g.id
        JOIN deliveries d ON d.destination_id = t.id AND {rows}
        WHERE t.state <> 'removed' AND d.grant_id IS NOT NULL LIMIT :most) s
    JOIN grants r ON r.id = s.grant_id AND r.reverses IS NULL JOIN transactions t ON t.id = r.transaction_id
    WHERE t.is_test = 0 AND t.gross_minor IS NOT NULL AND t.currency IS NOT NULL"""
_OF_PAYMENTS = """
    SELECT * FROM (
        SELECT '{kind}' AS kind, g.slug AS game, p.currency AS currency, CAST(NULL AS INTEGER) AS minor,
               p.amount AS amount
        FROM games g JOIN payments p ON p.game_id = g.id
        WHERE p.state = '{state}' AND p.is_test = 0 AND p.amount IS NOT NULL AND p.currency IS NOT NULL
        LIMIT :most) unregistered"""
STATEMENTS = {
    "dead": _OF_DELIVERIES.format(
        kind="dead", rows="d.state = 'dead' AND (d.dead_reason IS NULL OR d.dead_reason <> :forgotten)"
    ),
    "overdue": _OF_DELIVERIES.format(
        kind="overdue", rows="d.state = 'waiting' AND d.next_attempt_at < :hour_ago AND t.circuit_open_since IS NULL"
    ),
    "refunds_unknown": refund_requests.UNANSWERED_MONEY,
    "payments_parked": _OF_PAYMENTS.format(kind="payments_parked", state="parked"),
    "payments_quarantined": _OF_PAYMENTS.format(kind="payments_quarantined", state="quarantined"),
}
