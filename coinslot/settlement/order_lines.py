"""Partners' own orders of a month, summed up into lines: one for each section, partner and currency.

They bring the partner's own tax, fee and net, in US cents beside the local minor units; no fee table applies. Those
figures are rounded once in each line, to whole cents: an adjustment is the difference of two rounded sums, so nothing
is left over when everything is refunded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from coinslot.base import money
from coinslot.ledger.refunds import REFUNDED_AT
from coinslot.settlement import lines
from coinslot.settlement.lines import Line
from coinslot.settlement.periods import Month
from coinslot.store.db import Connection
from coinslot.store.paging import plain_rows

USD = "USD"


@dataclass(slots=True)
class _Sum:
    """Orders of one line. ``cents``: exact US cents of gross, tax, fee, net of orders not refunded; None if unknown."""

    count: int = 0
    refund_count: int = 0
    gross: int = 0
    refunds: int = 0
    tax: int | None = None
    cents: list[Decimal | None] = field(default_factory=lambda: [None] * 4)
    unsaid: int = 0
    unsaid_minor: int = 0
    undated: int = 0


def lines_of_orders(connection: Connection, game_id: int, month: Month) -> Iterator[Line]:
    """The lines of a month's orders, unsorted. Inside of :func:`coinslot.base.money.exactly`."""
    sums: dict[tuple[str, str, str], _Sum] = {}
    for partner, kind, currency, gross, tax, *usd, unit, is_test, is_refunded, is_undated, reference in plain_rows(
        connection, _ORDERS, {**vars(month), "game_id": game_id}
    ):
        currency = currency or ""
        if is_test:
            section = lines.TEST
        elif kind != "purchase" or gross == 0:
            section = lines.FREE
        elif gross is None or money.exponent(currency) is None:
            section = lines.INCOMPLETE
        elif max(gross, tax or 0) > lines.LARGEST_AMOUNT or any(_is_too_large(each, unit) for each in usd):
            about = (month.name, lines.TOO_LARGE, partner, currency, "", None, None)
            yield Line(*about, count=1, undated=is_undated, reference=reference)
            continue
        else:
            section = lines.COUNTED
        summed = sums.get((section, partner, currency))
        if summed is None:
            summed = sums[section, partner, currency] = _Sum()
        summed.count += 1
        summed.undated += is_undated
        if section != lines.COUNTED:
            continue
        summed.gross += gross
        if is_refunded:
            summed.refund_count += 1
            summed.refunds += gross
            continue
        summed.tax = lines.add_known(summed.tax, tax)
        if usd[2] is None or usd[3] is None:
            summed.unsaid += 1
            summed.unsaid_minor += gross
        summed.cents = [lines.add_known(one, _cents(other, unit)) for one, other in zip(summed.cents, usd, strict=True)]
    for (section, partner, currency), each in sums.items():
        usd_gross, usd_tax, usd_fee, usd_net = (None if sum_ is None else money.rounded(sum_) for sum_ in each.cents)
        yield Line(
            *(month.name, section, partner, currency, "", None, None),
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


_ORDERS = f"""
    SELECT t.partner, t.kind, t.currency, t.gross_minor, t.tax_minor, t.usd_gross, t.usd_tax, t.usd_fee, t.usd_net,
           t.usd_unit, t.is_test, {REFUNDED_AT} IS NOT NULL, t.occurred_at IS NULL, t.reference
    FROM transactions t
    WHERE t.game_id = :game_id AND t.moment >= :starts_at AND t.moment < :ends_at
      AND t.kind <> 'adjustment'"""  # noqa: S608 (a constant of ours)


def _is_too_large(figure: str | None, unit: str | None) -> bool:
    return (
        figure is not None
        and len(figure) > lines.SHORT
        and abs(_cents(figure, unit) or Decimal(0)) > lines.LARGEST_AMOUNT
    )


def _in_own_currency(cents: int | None, currency: str, unsaid: int) -> int | None:
    """A partner gives fee and net in US cents alone: they are known where that is the order's own currency."""
    if currency != USD or (cents is None and unsaid):
        return None
    return cents or 0  # all orders were refunded


def _cents(figure: str | None, unit: str | None) -> Decimal | None:
    if figure is None:
        return None
    return Decimal(figure) * 100 if unit == "dollars" else Decimal(figure)
