"""Partners' own orders of a month, summed up into lines: one for each section, partner and currency.

They bring the partner's own tax, fee and net, in US cents beside the local minor units; no fee table applies. Those
figures are rounded once in each line, to whole cents: an adjustment is the difference of two rounded sums, so nothing
is left over when everything is refunded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from coinslot.base import money
from coinslot.ledger.refunds import REFUNDED_AT
from coinslot.settlement import lines
from coinslot.settlement.lines import Line
from coinslot.settlement.periods import Month
from coinslot.store.db import Connection
from coinslot.store.paging import plain_rows

USD = "USD"
_CENTS = ("usd_gross", "usd_tax", "usd_fee", "usd_net")


@dataclass
class _Sum:
    """Orders of one line; the fields are those of :class:`Line`."""

    count: int = 0
    refund_count: int = 0
    gross_minor: int = 0
    refunds_minor: int = 0
    tax_minor: int | None = None
    unsaid: int = 0
    unsaid_minor: int = 0
    undated: int = 0


def lines_of_orders(connection: Connection, game_id: int, month: Month) -> Iterator[Line]:
    """The lines of a month's orders, unsorted. Inside of :func:`coinslot.base.money.exactly`."""
    sums: dict[tuple[str, str, str], _Sum] = {}
    cents: dict[tuple[str, str, str], list[Decimal | None]] = {}  # exact, in the order of _CENTS; None if unknown
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
        key = (section, partner, currency)
        if key not in sums:
            sums[key], cents[key] = _Sum(), [None] * len(_CENTS)
        summed = sums[key]
        summed.count += 1
        summed.undated += is_undated
        if section != lines.COUNTED:
            continue
        summed.gross_minor += gross
        if is_refunded:
            summed.refund_count += 1
            summed.refunds_minor += gross
            continue
        summed.tax_minor = lines.add_known(summed.tax_minor, tax)
        if usd[2] is None or usd[3] is None:
            summed.unsaid += 1
            summed.unsaid_minor += gross
        cents[key] = [lines.add_known(one, _in_cents(other, unit)) for one, other in zip(cents[key], usd, strict=True)]
    for key, each in sums.items():
        rounded = (None if amount is None else money.rounded(amount) for amount in cents[key])
        figures: dict[str, Any] = dict(zip(_CENTS, rounded, strict=True))
        section, partner, currency = key
        fee, net = (_in_own_currency(figures[name], currency, each.unsaid) for name in ("usd_fee", "usd_net"))
        figures |= {**vars(each), "fee_minor": fee, "net_minor": net}
        yield Line(month.name, section, partner, currency, "", None, None, **figures)


_ORDERS = f"""
    SELECT t.partner, t.kind, t.currency, t.gross_minor, t.tax_minor, t.usd_gross, t.usd_tax, t.usd_fee, t.usd_net,
           t.usd_unit, t.is_test, {REFUNDED_AT} IS NOT NULL, t.occurred_at IS NULL, t.reference
    FROM transactions t
    WHERE t.game_id = :game_id AND t.moment >= :starts_at AND t.moment < :ends_at
      AND t.kind <> 'adjustment'"""  # noqa: S608 (a constant of ours)


def _is_too_large(figure: str | None, unit: str | None) -> bool:
    if figure is None or len(figure) <= lines.SHORT:
        return False
    return abs(_in_cents(figure, unit) or Decimal(0)) > lines.LARGEST_AMOUNT


def _in_own_currency(cents: int | None, currency: str, unsaid: int) -> int | None:
    """A partner gives fee and net in US cents alone: they are known where that is the order's own currency."""
    if currency != USD or (cents is None and unsaid):
        return None
    return cents or 0  # all orders were refunded


def _in_cents(figure: str | None, unit: str | None) -> Decimal | None:
    if figure is None:
        return None
    return Decimal(figure) * 100 if unit == "dollars" else Decimal(figure)
