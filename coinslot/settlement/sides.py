"""What each side has of a month's purchases: the rows of the partner's report, and our own."""

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import lru_cache

from coinslot.base import money
from coinslot.settlement import periods
from coinslot.settlement.judging import (
    Fact,
    Own,
    PartnerRow,
)
from coinslot.settlement.outcomes import Run
from coinslot.store.db import Connection


def reported_beside(connection: Connection, run: Run, ids: Sequence[str]) -> set[str]:
    """Which of these purchases the partner has in its reports of the months before and after."""
    if not ids:
        return set()
    rows = connection.execute(
        """SELECT r.reference
           FROM reconciliations n CROSS JOIN json_each(:ids) j CROSS JOIN /* hint */ partner_rows r
           ON r.reconciliation_id = n.id AND r.reference = j.value
           WHERE n.game_id = :game_id AND n.partner = :partner AND n.month IN (:before, :after) AND n.state = 'done'""",
        {
            "ids": json.dumps(ids),
            "game_id": run.game_id,
            "partner": run.partner,
            "before": periods.before(run.month.name),
            "after": periods.after(run.month.name),
        },
    )
    return {row["reference"] for row in rows}


OUR_PAYMENTS = """
    SELECT p.purchased_at AS at, p.id, p.transaction_id AS reference,
           p.is_test = 0 AND p.amount <> '0' AND NOT (p.source NOT IN ('poll', 'push') AND p.state = 'kept')
               AND p.distribution_type IS NOT NULL AS counts,
           EXISTS (SELECT 1 FROM partner_rows r
                   WHERE r.reconciliation_id = :id AND r.reference = p.transaction_id) AS is_there
    FROM payments p
    WHERE p.game_id = :game_id AND p.purchased_at >= :at AND p.purchased_at < :ends_at
      AND (p.purchased_at > :at OR p.id > :last_id)
    ORDER BY p.purchased_at, p.id LIMIT :limit"""
OUR_ORDERS = """
    SELECT t.moment AS at, t.id, t.external_id AS reference,
           t.is_test = 0 AND t.kind = 'purchase' AND coalesce(t.gross_minor, 1) > 0 AND t.partner = :partner AS counts,
           EXISTS (SELECT 1 FROM partner_rows r
                   WHERE r.reconciliation_id = :id AND r.reference = t.external_id) AS is_there
    FROM transactions t
    WHERE t.game_id = :game_id AND t.moment >= :at
      AND t.moment < :ends_at
      AND (t.moment > :at OR t.id > :last_id)
    ORDER BY t.moment, t.id LIMIT :limit"""


def theirs_of(connection: Connection, run: Run, ids: Sequence[str]) -> Iterator[PartnerRow]:
    rows = connection.cursor()
    rows.row_factory = None
    rows.execute(
        """SELECT reference, row_id, kind, amount_minor, currency, occurred_at, NULL, sample FROM partner_rows
           WHERE reconciliation_id = :id AND reference >= :first AND reference <= :last ORDER BY reference, row_id""",
        {"id": run.id, "first": ids[0], "last": ids[-1]},
    )
    return map(PartnerRow._make, rows)


def ours_of(connection: Connection, run: Run, ids: Sequence[str]) -> dict[str, Own]:
    """What we have of the purchases with these ids, tests left out."""
    values = {"game_id": run.game_id, "partner": run.partner, "ids": json.dumps(ids)}
    if run.is_of_payments:
        return {
            row["transaction_id"]: Own(
                _in_minor(row["amount"], row["currency"]),
                row["currency"],
                row["purchased_at"],
                _refund_of(row["refunded_at"]),
                *(row["state"], row["refund_state"], row["source"], row["registered_at"], row["updated_at"]),
            )
            for row in connection.execute(
                """SELECT p.transaction_id, p.amount, p.currency, p.purchased_at, p.refunded_at, p.state,
                          p.refund_state, p.source, p.registered_at, p.updated_at
                   FROM json_each(:ids) j
                   CROSS JOIN /* hint */ payments p ON p.game_id = :game_id AND p.transaction_id = j.value
                   WHERE p.is_test = 0""",
                values,
            )
        }
    found: dict[str, Own] = {}
    for row in connection.execute(
        """SELECT t.external_id, t.gross_minor, t.currency, t.moment AS at,
                  r.id AS refund_id, r.reason, r.occurred_at, r.created_at, r.event_id IS NOT NULL AS is_theirs
           FROM json_each(:ids) j CROSS JOIN /* hint */ transactions t
           ON t.game_id = :game_id AND t.partner = :partner AND t.external_id = j.value
           LEFT JOIN refunds r ON r.transaction_id = t.id AND r.is_test = 0
               AND r.outcome NOT IN ('waiting', 'ambiguous', 'test')
               AND (r.reason <> 'reinstated' OR r.outcome IN ('restored', 'repeated'))
           WHERE t.is_test = 0 AND t.kind <> 'adjustment'""",
        values,
    ):
        own = found.get(row["external_id"])
        if own is None:
            amount = None if row["gross_minor"] is None else Decimal(row["gross_minor"])
            own = found[row["external_id"]] = Own(amount, row["currency"], row["at"])
        if row["refund_id"] is not None:
            fact = Fact(*(row[name] for name in ("reason", "occurred_at", "created_at", "refund_id", "is_theirs")))
            found[row["external_id"]] = own._replace(facts=(*own.facts, fact))
    return found


def _refund_of(at: str | None) -> tuple[Fact, ...]:
    return () if at is None else (Fact("refund", at, at, 0, False),)


@lru_cache(maxsize=4096)  # of a million payments few have a price of their own
def _in_minor(amount: str | None, currency: str | None) -> Decimal | None:
    return None if amount is None or currency is None else money.in_minor(Decimal(amount), currency)
