"""Partners' own orders of a month, summed up into lines: one for each section, partner and currency.

They bring the partner's own tax, fee and net, in US cents beside the local minor units; no fee table is applied to
them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from coinslot.base import money
from coinslot.ledger.refunds import REFUNDED_AT
from coinslot.settlement.figures import (
    COUNTED,
    FREE,
    INCOMPLETE,
    LARGEST_AMOUNT,
    ROWS_AT_ONCE,
    SHORT,
    TEST,
    TOO_LARGE,
    Line,
    plus,
)
from coinslot.settlement.periods import Month
from coinslot.store.db import Connection

USD = "USD"


@dataclass(slots=True)
class _Orders:
    """Orders of one partner and currency. Figures in exact US cents are of what stands; None until one is told."""

    count: int = 0
    refund_count: int = 0
    gross: int = 0
    refunds: int = 0
    tax: int | None = None
    usd_gross: Decimal | None = None
    usd_tax: Decimal | None = None
    usd_fee: Decimal | None = None
    usd_net: Decimal | None = None
    unsaid: int = 0
    unsaid_minor: int = 0
    undated: int = 0


def lines_of_orders(connection: Connection, game_id: int, month: Month) -> Iterator[Line]:
    sums: dict[tuple[str, str, str], _Orders] = {}
    for (
        partner,
        kind,
        currency,
        gross,
        tax,
        usd_gross,
        usd_tax,
        usd_fee,
        usd_net,
        unit,
        is_test,
        is_refunded,
        is_undated,
        reference,
    ) in _transactions(connection, game_id, month):
        currency = currency or ""
        if is_test:
            section = TEST
        elif kind != "purchase" or gross == 0:
            section = FREE
        elif gross is None or money.exponent(currency) is None:
            section = INCOMPLETE
        elif max(gross, tax or 0) > LARGEST_AMOUNT or _is_too_large((usd_gross, usd_tax, usd_fee, usd_net), unit):
            yield Line(
                *(month.name, TOO_LARGE, partner, currency, "", None, None),
                count=1,
                undated=is_undated,
                reference=reference,
            )
            continue
        else:
            section = COUNTED
        key = (section, partner, currency)
        summed = sums.get(key)
        if summed is None:
            summed = sums[key] = _Orders()
        summed.count += 1
        summed.undated += is_undated
        if section != COUNTED:
            continue
        summed.gross += gross
        if is_refunded:
            summed.refund_count += 1
            summed.refunds += gross
            continue
        summed.tax = plus(summed.tax, tax)
        if usd_fee is None or usd_net is None:
            summed.unsaid += 1
            summed.unsaid_minor += gross
        summed.usd_gross = plus(summed.usd_gross, _cents(usd_gross, unit))
        summed.usd_tax = plus(summed.usd_tax, _cents(usd_tax, unit))
        summed.usd_fee = plus(summed.usd_fee, _cents(usd_fee, unit))
        summed.usd_net = plus(summed.usd_net, _cents(usd_net, unit))
    for (section, partner, currency), each in sums.items():
        usd_gross, usd_tax, usd_fee, usd_net = (
            None if cents is None else money.rounded(cents)
            for cents in (each.usd_gross, each.usd_tax, each.usd_fee, each.usd_net)
        )
        yield Line(
            month.name,
            section,
            partner,
            currency,
            "",
            None,
            None,
            count=each.count,
            refund_count=each.refund_count,
            gross_minor=each.gross,
            refunds_minor=each.refunds,
            tax_minor=each.tax,
            fee_minor=_in_own_currency(usd_fee, currency, each.unsaid),
            net_minor=_in_own_currency(usd_net, currency, each.unsaid),
            usd_gross=usd_gross,
            usd_tax=usd_tax,
            usd_fee=usd_fee,
            usd_net=usd_net,
            unsaid=each.unsaid,
            unsaid_minor=each.unsaid_minor,
            undated=each.undated,
        )


def _transactions(connection: Connection, game_id: int, month: Month) -> Iterator[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.row_factory = None
    cursor.execute(
        f"""SELECT t.partner, t.kind, t.currency, t.gross_minor, t.tax_minor, t.usd_gross, t.usd_tax, t.usd_fee,
                  t.usd_net, t.usd_unit, t.is_test, {REFUNDED_AT} IS NOT NULL, t.occurred_at IS NULL,
                  t.reference
           FROM transactions t
           WHERE t.game_id = :game_id AND t.moment >= :starts_at
             AND t.moment < :ends_at AND t.kind <> 'adjustment'""",  # noqa: S608 (ours)
        {"game_id": game_id, "starts_at": month.starts_at, "ends_at": month.ends_at},
    )
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        yield from rows


def _is_too_large(figures: Iterable[str | None], unit: str | None) -> bool:
    cents = (_cents(each, unit) for each in figures if each is not None and len(each) > SHORT)
    return any(each is not None and abs(each) > LARGEST_AMOUNT for each in cents)


def _in_own_currency(cents: int | None, currency: str, unsaid: int) -> int | None:
    """A partner tells fee and net in US cents alone: known where that is the order's own currency."""
    if currency != USD or (cents is None and unsaid):
        return None
    return cents or 0  # nothing is told where nothing stands


def _cents(told: str | None, unit: str | None) -> Decimal | None:
    if told is None:
        return None
    return Decimal(told) * 100 if unit == "dollars" else Decimal(told)
