"""The purchases that a month's lines are made of, page by page, as the rows are now."""

from coinslot.ledger.refunds import REFUNDED_AT
from coinslot.settlement.periods import Month
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
    """What the lines of a partner are made of, as the rows are now, and where to go on; None at the end of the month.

    ``is_of_payments``: those are in-game payments.

    By time and id, after the one that is named. No more than ``most`` are looked at: where few are wanted among many,
    there may be less than ``limit`` of them, and yet others further on. An empty currency or type is that of purchases
    without one.

    Each has ``at``, ``id``, ``reference``, ``player_id``, ``currency``, ``amount`` (payments; text in major units) or
    ``gross_minor`` (transactions, which also have ``public_id``), ``state``, ``is_test``, ``is_refunded``,
    ``is_undated``; of payments also ``distribution_type``.
    """
    found: list[Row] = []
    for _ in range(0, most, PURCHASES_AT_ONCE):
        at, last_id = after or (month.starts_at, 0)
        rows = connection.execute(
            _PAYMENTS_OF_MONTH if is_of_payments else _ORDERS_OF_MONTH,
            {
                "game_id": game_id,
                "partner": partner,
                "ends_at": month.ends_at,
                "at": at,
                "last_id": last_id,
                "limit": PURCHASES_AT_ONCE,
            },
        ).fetchall()
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
