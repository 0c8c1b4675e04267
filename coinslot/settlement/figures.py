"""A line of a month: what it is about, its figures, and how lines are added up and subtracted."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from coinslot.base import money

# Minor units, or cents of a partner's own figures. A purchase above that stands apart, by its id: no price is as high,
# and sums of it would not stay within what the database holds.
LARGEST_AMOUNT = 10**14
SHORT = 10  # characters: a number written with fewer is below that in every currency
COUNTED, ORDERS, FREE, TEST, INCOMPLETE = "counted", "orders", "free", "test", "incomplete"
TOO_LARGE = "too_large"
SECTIONS = (COUNTED, ORDERS, FREE, TEST, INCOMPLETE, TOO_LARGE)  # in this order in every document
IN_TOTALS = (COUNTED, ORDERS)


@dataclass(frozen=True)
class Line:
    """A line of ``settlement_lines``; None where that has NULL."""

    month: str
    section: str
    partner: str
    currency: str
    distribution_type: str
    creator: str | None
    is_registered: bool | None
    count: int = 0
    refund_count: int = 0
    gross_minor: int = 0
    refunds_minor: int = 0
    tax_minor: int | None = None
    fee_minor: int | None = None
    net_minor: int | None = None
    share_minor: int = 0
    usd_gross: int | None = None
    usd_tax: int | None = None
    usd_fee: int | None = None
    usd_net: int | None = None
    unsaid: int = 0
    unsaid_minor: int = 0
    undated: int = 0
    reference: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What it is about, whether it was registered or not: that may change without any money moving."""
        about = (self.month, self.section, self.partner, self.currency, self.distribution_type, self.creator)
        return (*about, self.reference)

    @property
    def order(self) -> tuple[Any, ...]:
        return (
            SECTIONS.index(self.section),
            self.month,
            self.partner,
            self.currency,
            self.distribution_type,
            self.creator or "",
            self.creator is not None,
            self.is_registered is False,
            self.reference,
        )

    @property
    def is_nothing(self) -> bool:
        return not any(getattr(self, name) for name in FIGURES)


ROWS_AT_ONCE = 1000  # read from the database
FIGURES = tuple(each.name for each in fields(Line))[7:-1]  # what lines are added and subtracted by


def difference(now: Iterable[Line], before: Iterable[Line]) -> list[Line]:
    """What has to be added to the lines before to have those of now; lines that add nothing are left out."""
    with money.exactly():
        summed = summed_up([*now, *(negative(line) for line in before)])
    return sorted((line for line in summed if not line.is_nothing), key=lambda line: line.order)


def summed_up(found: Iterable[Line]) -> list[Line]:
    """One line for each :attr:`Line.key`."""
    sums: dict[tuple[Any, ...], Line] = {}
    with money.exactly():
        for line in found:
            known = sums.get(line.key)
            sums[line.key] = replace(line, is_registered=None) if known is None else added(known, line)
    return list(sums.values())


def added(one: Line, other: Line) -> Line:
    """The first line with the figures of both; what neither was told stays untold."""
    return replace(one, **{name: plus(getattr(one, name), getattr(other, name)) for name in FIGURES})


def plus(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else one + other


def negative(line: Line) -> Line:
    changed: dict[str, Any] = {name: None if getattr(line, name) is None else -getattr(line, name) for name in FIGURES}
    return replace(line, **changed)
