"""Our own purchases of a month, as the rows are now: a page at a time for people, by id for reconciliation."""

import json
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

from coinslot.base import money
from coinslot.ledger.refunds import REFUNDED_AT
from coinslot.settlement.differences import Own, Refund
from coinslot.settlement.periods import Month
from coinslot.settlement.runs import Run
from coinslot.store.db import Connection, Row

PURCHASES_AT_ONCE = 500


def of_month(
    connection: Connection,
    game_id: int,
    month: Month,
    partner: str,
    after: tuple[str, int] | None = None,
    limit: int = 100,
    *,
    is_of_payments: bool = False,
    currency: str | None = None,
    distribution_type: str | None = None,
    most: int = 2000,
) -> tuple[list[Row], tuple[str, int] | None]:
    """A partner's purchases of a month after a time and id, sorted by these, and where to go on; None at its end.

    ``is_of_payments``: they are in-game payments. No more than ``most`` rows are read: where few of many match, there
    may be less than ``limit`` of them, and more further on. An empty currency or type means: purchases without one.

    Each has ``at``, ``id``, ``reference``, ``player_id``, ``currency``, ``amount`` (payments; text in major units) or
    ``gross_minor`` (transactions, which also have ``public_id``), ``state``, ``is_test``, ``is_refunded``,
    ``is_undated``; of payments also ``distribution_type``.
    """
    found: list[Row] = []
    values = {"game_id": game_id, "partner": partner, "ends_at": month.ends_at, "limit": PURCHASES_AT_ONCE}
    for _ in range(0, most, PURCHASES_AT_ONCE):
        at, last_id = after or (month.starts_at, 0)
        query = _PAYMENTS_OF_MONTH if is_of_payments else _ORDERS_OF_MONTH
        rows = connection.execute(query, {**values, "at": at, "last_id": last_id}).fetchall()
        for row in rows:
            after = (row["at"], row["id"])
            if (
                row["partner"] == partner
                and currency in (None, row["currency"] or "")
                and distribution_type in (None, row["distribution_type"] or "")
            ):
                found.append(row)
                if len(found) == limit:
                    return found, after
        if len(rows) < PURCHASES_AT_ONCE:
            return found, None
    return found, after


_PAYMENTS_OF_MONTH = """
    SELECT :partner AS partner, purchased_at AS at, id, transaction_id AS reference, player_id, currency, amount,
           NULL AS gross_minor, distribution_type, NULL AS public_id, state, is_test,
           refunded_at IS NOT NULL AS is_refunded, 0 AS is_undated
    FROM payments
    WHERE game_id = :game_id AND purchased_at >= :at AND purchased_at < :ends_at
      AND (purchased_at > :at OR id > :last_id)
    ORDER BY purchased_at, id LIMIT :limit"""
# Of every partner: no index has the moments of one of them, and one with few orders must not make the page slow.
_ORDERS_OF_MONTH = f"""
    SELECT t.partner, t.moment AS at, t.id, t.reference, t.player_id, t.currency,
           NULL AS amount, t.gross_minor, '' AS distribution_type, t.public_id,
           t.kind AS state, t.is_test, {REFUNDED_AT} IS NOT NULL AS is_refunded, t.occurred_at IS NULL AS is_undated
    FROM transactions t
    WHERE t.game_id = :game_id AND t.kind <> 'adjustment'
      AND t.moment >= :at AND t.moment < :ends_at
      AND (t.moment > :at OR t.id > :last_id)
    ORDER BY t.moment, t.id LIMIT :limit"""  # noqa: S608 (a constant of ours)


def next_in_month(connection: Connection, run: Run, after: tuple[str, int], limit: int) -> list[Row]:
    """A run's purchases after a time and id, in that order.

    Each has ``at``, ``id``, ``reference``, ``counts`` (the partner should report it) and ``is_reported`` (it does).
    """
    query = _NEXT_PAYMENTS if run.is_of_payments else _NEXT_ORDERS
    values = {"id": run.id, "game_id": run.game_id, "partner": run.partner, "ends_at": run.month.ends_at}
    return connection.execute(query, {**values, "at": after[0], "last_id": after[1], "limit": limit}).fetchall()


def _next_purchases(table: str, at: str, reference: str, counts: str) -> str:
    """The query of :func:`next_in_month`, of a table with these columns and this condition."""
    return f"""
        SELECT {at} AS at, id, {reference} AS reference, {counts} AS counts,
               EXISTS (SELECT 1 FROM partner_rows r
                       WHERE r.reconciliation_id = :id AND r.reference = {reference}) AS is_reported
        FROM {table}
        WHERE game_id = :game_id AND {at} >= :at AND {at} < :ends_at AND ({at} > :at OR id > :last_id)
        ORDER BY {at}, id LIMIT :limit"""  # noqa: S608 (constants of ours)


_NEXT_PAYMENTS = _next_purchases(
    *("payments", "purchased_at", "transaction_id"),
    """is_test = 0 AND amount <> '0' AND NOT (source NOT IN ('poll', 'push') AND state = 'kept')
       AND distribution_type IS NOT NULL""",
)
_NEXT_ORDERS = _next_purchases(
    *("transactions", "moment", "external_id"),
    "is_test = 0 AND kind = 'purchase' AND coalesce(gross_minor, 1) > 0 AND partner = :partner",
)


def by_id(connection: Connection, run: Run, ids: Sequence[str]) -> dict[str, Own]:
    """Our purchases with these ids, in whatever month; tests are left out."""
    values = {"game_id": run.game_id, "partner": run.partner, "ids": json.dumps(ids)}
    found: dict[str, Own] = {}
    if run.is_of_payments:
        for row in connection.execute(_PAYMENTS_BY_ID, values):
            at = row["refunded_at"]
            refunds = () if at is None else (Refund("refund", at, at, 0, False),)
            sending = (row[name] for name in ("state", "refund_state", "source", "registered_at", "updated_at"))
            amount = _in_minor(row["amount"], row["currency"])
            found[row["transaction_id"]] = Own(amount, row["currency"], row["purchased_at"], refunds, *sending)
        return found
    for row in connection.execute(_ORDERS_BY_ID, values):
        amount = None if row["gross_minor"] is None else Decimal(row["gross_minor"])
        own = found.setdefault(row["external_id"], Own(amount, row["currency"], row["at"]))
        if row["refund_id"] is not None:
            refund = Refund(*(row[name] for name in ("reason", "occurred_at", "created_at", "refund_id", "is_theirs")))
            found[row["external_id"]] = own._replace(refunds=(*own.refunds, refund))
    return found


_PAYMENTS_BY_ID = """
    SELECT p.transaction_id, p.amount, p.currency, p.purchased_at, p.refunded_at, p.state, p.refund_state, p.source,
           p.registered_at, p.updated_at
    FROM json_each(:ids) j
    CROSS JOIN /* hint */ payments p ON p.game_id = :game_id AND p.transaction_id = j.value
    WHERE p.is_test = 0"""
_ORDERS_BY_ID = """
    SELECT t.external_id, t.gross_minor, t.currency, t.moment AS at,
           r.id AS refund_id, r.reason, r.occurred_at, r.created_at, r.event_id IS NOT NULL AS is_theirs
    FROM json_each(:ids) j CROSS JOIN /* hint */ transactions t
    ON t.game_id = :game_id AND t.partner = :partner AND t.external_id = j.value
    LEFT JOIN refunds r ON r.transaction_id = t.id AND r.is_test = 0
        AND r.outcome NOT IN ('waiting', 'ambiguous', 'test')
        AND (r.reason <> 'reinstated' OR r.outcome IN ('restored', 'repeated'))
    WHERE t.is_test = 0 AND t.kind <> 'adjustment'"""


@lru_cache(maxsize=4096)  # most payments have one of few prices
def _in_minor(amount: str | None, currency: str | None) -> Decimal | None:
    return None if amount is None or currency is None else money.in_minor(Decimal(amount), currency)
