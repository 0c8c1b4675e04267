"""A line of a month: what it is about, its figures, and how lines are added and subtracted."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from coinslot.base import money

# Minor units, or US cents. A purchase above that is listed apart, by its id: no price is as high, and sums of such
# amounts would not fit into the database.
LARGEST_AMOUNT = 10**14
SHORT = 10  # characters: a number written with fewer is below that in every currency
COUNTED, ORDERS, FREE, TEST, INCOMPLETE = "counted", "orders", "free", "test", "incomplete"
TOO_LARGE = "too_large"
SECTIONS = (COUNTED, ORDERS, FREE, TEST, INCOMPLETE, TOO_LARGE)  # in this order in every document
IN_TOTALS = (COUNTED, ORDERS)


@dataclass(frozen=True)
class Line:
    """A line of ``settlement_lines``; None where that has NULL. ``usd_`` figures are the partner's own, in US cents."""

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
        """What it is about. Not ``is_registered``: that may change without any money moving."""
        about = (self.month, self.section, self.partner, self.currency, self.distribution_type, self.creator)
        return (*about, self.reference)

    @property
    def order(self) -> tuple[Any, ...]:
        """The sort key of lines in documents."""
        about = (self.month, self.partner, self.currency, self.distribution_type, self.creator or "")
        marks = (self.creator is not None, self.is_registered is False, self.reference)
        return (SECTIONS.index(self.section), *about, *marks)

    @property
    def is_zero(self) -> bool:
        """Whether all figures are 0 or None."""
        return not any(getattr(self, name) for name in FIGURES)


NAMES = tuple(each.name for each in fields(Line))
FIGURES = NAMES[7:-1]  # the fields that are added and subtracted


def difference(now: Iterable[Line], before: Iterable[Line]) -> list[Line]:
    """What must be added to the lines before to get those of now, sorted; lines that add nothing are left out."""
    summed = sum_by_key([*now, *(negative(line) for line in before)])
    return sorted((line for line in summed if not line.is_zero), key=lambda line: line.order)


def sum_by_key(lines: Iterable[Line]) -> list[Line]:
    """One line for each :attr:`Line.key`."""
    sums: dict[tuple[Any, ...], Line] = {}
    with money.exactly():
        for line in lines:
            known = sums.get(line.key)
            sums[line.key] = replace(line, is_registered=None) if known is None else add(known, line)
    return list(sums.values())


def totals(lines: Iterable[Line]) -> list[Line]:
    """One line for each partner and currency, of the lines that count, sorted; month, type and creator are empty."""
    blank: dict[str, Any] = {"month": "", "section": COUNTED, "distribution_type": "", "creator": None}
    summed = sum_by_key(replace(line, **blank) for line in lines if line.section in IN_TOTALS)
    return sorted(summed, key=lambda line: (line.partner, line.currency))


def totals_by_creator(lines: Iterable[Line]) -> list[Line]:
    """One line for each creator and currency, of the lines that count, sorted; they are owed ``share_minor``."""
    blank: dict[str, Any] = {"month": "", "section": COUNTED, "partner": "", "distribution_type": ""}
    counted = (line for line in lines if line.section in IN_TOTALS and line.creator is not None)
    summed = sum_by_key(replace(line, **blank) for line in counted)
    return sorted(summed, key=lambda line: (line.creator or "", line.currency))


def add(one: Line, other: Line) -> Line:
    """The first line with the figures of both."""
    return replace(one, **{name: add_known(getattr(one, name), getattr(other, name)) for name in FIGURES})


def add_known(one: Any, other: Any) -> Any:
    """The sum of two numbers, where None is unknown: None only if both are."""
    return other if one is None else one if other is None else one + other


def negative(line: Line) -> Line:
    """The line with each figure negated; None stays None."""
    figures: dict[str, Any] = {name: None if getattr(line, name) is None else -getattr(line, name) for name in FIGURES}
    return replace(line, **figures)
