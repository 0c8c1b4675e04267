"""How the amounts of a report are written: what all of them together tell."""

from collections.abc import Mapping
from decimal import Decimal

from coinslot.base import money
from coinslot.base.spellings import shown
from coinslot.settlement.amounts import COMMA, POINT, written
from coinslot.settlement.columns import Layout, bare
from coinslot.settlement.outcomes import ReconciliationError

LONGEST_SAMPLE = 120


class Amounts:
    """What the amounts of a file tell of how they are written, all of them together."""

    def __init__(self, layout: Layout, head: list[str], places: Mapping[str, int], currency: str | None) -> None:
        self._layout, self._places, self._currency = layout, places, currency
        name = bare(head[places["amount"]])
        self._told_unit = layout.unit or ("minor" if "minor" in name or "cents" in name else None)
        self._signs: set[str] = set()
        self._has_fractions = False
        self._open: tuple[int, str] | None = None
        self._sum, self._count = Decimal(0), 0

    def add(self, line: int, cells: list[str]) -> None:
        cell = cell_of(cells, self._places, "amount")
        found = written(cell)
        if found is None:
            return
        if found.exact is not None:
            self._signs.update(found.decimal or "")
            self._has_fractions = self._has_fractions or found.has_fraction
            self._count += 1
            self._sum += found.exact
        elif COMMA in found.number and (self._told_unit == "minor" or self._digits(cells) == 0):
            self._signs.add(POINT)  # the smallest unit, or a currency without decimals: the comma stands for thousands
        else:
            self._open = self._open or (line, cell)

    def is_sum(self, cell: str) -> bool:
        """Whether it is what the amounts so far come to."""
        found = written(cell)
        return self._count > 1 and found is not None and found.exact == self._sum

    def decimal(self) -> str | None:
        if self._layout.decimal is not None:
            return self._layout.decimal
        if self._open is not None and len(self._signs) != 1:
            line, cell = self._open
            raise ReconciliationError(
                f"{shown(cell, LONGEST_SAMPLE)} on line {line} may be thousands or a fraction, and no other amount of "
                "the file shows which; say what its decimal sign is, a point or a comma"
            )
        return next(iter(self._signs)) if len(self._signs) == 1 else None

    def unit(self) -> str:
        if self._told_unit is not None:
            return self._told_unit
        return "major" if self._has_fractions else self._layout.report.unit

    def _digits(self, cells: list[str]) -> int | None:
        return money.exponent(cell_of(cells, self._places, "currency").upper() or self._currency or "")


def cell_of(cells: list[str], places: Mapping[str, int], field: str) -> str:
    place = places.get(field)
    return cells[place].strip() if place is not None and place < len(cells) else ""
