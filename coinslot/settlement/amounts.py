"""Amounts as people and spreadsheets write them: ``1,234.56``, ``1.234,56``, ``$9.99``, ``(9.99)``, ``9,99 EUR``."""

import re
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from coinslot.base import money
from coinslot.base.spellings import shown
from coinslot.settlement.columns import Layout, bare, cell_of
from coinslot.settlement.runs import ReconciliationError

LONGEST = 64
LONGEST_SAMPLE = 120
POINT, COMMA = ".", ","
DECIMALS = {"point": POINT, "comma": COMMA}

_MINUS = str.maketrans(
    {"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{HYPHEN}": "-", "\N{RIGHT SINGLE QUOTATION MARK}": "'"}
)
_CODE = r"[^0-9.,'+\-()\s]{1,4}\.?"
_WRITTEN = re.compile(rf"([+-]?) ?({_CODE})? ?([+-]?) ?([0-9.,' ]*[0-9])(?: ?({_CODE}))? ?(-?)")
_BRACKETED = re.compile(r"([^()]*?) ?\( ?([^()]*?) ?\) ?([^()]*)")
_SEPARATORS = re.compile("[.,' ]")
_GROUPED = re.compile(r"[0-9]{1,3}(?:([.,' ])[0-9]{3})(?:\1[0-9]{3})*|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}|[0-9]+")


class ParsedAmount(NamedTuple):
    """An amount in a cell. ``decimal`` is the sign before its fraction, ``code`` a currency beside it; None if absent.

    ``exact`` is None if its one separator may stand for thousands or before a fraction (``1.000``).
    """

    number: str
    is_negative: bool
    decimal: str | None
    exact: Decimal | None
    code: str | None

    def value(self, decimal: str | None) -> Decimal | None:
        """The amount, in a report with that decimal sign; None if it is ambiguous and the report shows no sign."""
        if self.exact is not None or decimal is None:
            return self.exact
        return _value(self.number, decimal, is_negative=self.is_negative)

    @property
    def has_fraction(self) -> bool:
        """Whether it shows a fraction."""
        return self.decimal is not None and self.decimal in self.number


@lru_cache(maxsize=8192)  # most purchases have one of few prices
def parse_amount(cell: str) -> ParsedAmount | None:
    """None for what is no amount."""
    if len(cell) > LONGEST:
        return None
    text = " ".join((cell if cell.isascii() else unicodedata.normalize("NFKC", cell)).split()).translate(_MINUS)
    bracketed = _BRACKETED.fullmatch(text)
    match = _WRITTEN.fullmatch(" ".join(filter(None, bracketed.groups())) if bracketed else text)
    if match is None:
        return None
    before, code, after, number, code_after, behind = match.groups()
    signs = before + after + behind
    if len(signs) + (bracketed is not None) > 1 or (code and code_after):
        return None
    is_negative = bracketed is not None or "-" in signs
    decimal, is_open = _separators(number)
    amount = None if is_open else _value(number, decimal, is_negative=is_negative)
    if amount is None and not is_open:
        return None
    letters = (code or code_after or "").upper()
    is_code = len(letters) == 3 and letters.isascii() and letters.isalpha()
    return ParsedAmount(number, is_negative, decimal, amount, letters if is_code else None)


def _value(number: str, decimal: str | None, *, is_negative: bool) -> Decimal | None:
    """None if the part before the fraction is not in groups of thousands."""
    whole, _, fraction = number.partition(decimal) if decimal else (number, "", "")
    if (whole and not _GROUPED.fullmatch(whole)) or (fraction and not fraction.isdecimal()):
        return None
    exact = Decimal((_SEPARATORS.sub("", whole) or "0") + (f".{fraction}" if fraction else ""))
    return -exact if is_negative else exact


def _separators(number: str) -> tuple[str | None, bool]:
    """The decimal sign that a number shows, or that its groups of thousands imply; and whether that is ambiguous."""
    points, commas = number.count(POINT), number.count(COMMA)
    if points and commas:
        return (POINT if number.rindex(POINT) > number.rindex(COMMA) else COMMA), False
    if points + commas == 0:
        return None, False
    sign, other = (POINT, COMMA) if points else (COMMA, POINT)
    if points + commas > 1:
        return other, False
    whole, _, fraction = number.partition(sign)
    if len(fraction) != 3 or whole in ("", "0") or not (len(whole) <= 3 and whole.isdecimal()):
        return sign, False
    return None, True


class AmountStyle:
    """What all amounts of a file together show: their decimal sign, their unit, and their sum so far."""

    def __init__(self, layout: Layout, head: list[str], places: Mapping[str, int], currency: str | None) -> None:
        self._layout, self._places, self._currency = layout, places, currency
        name = bare(head[places["amount"]])
        self._known_unit = layout.unit or ("minor" if "minor" in name or "cents" in name else None)
        self._signs: set[str] = set()
        self._has_fractions = False
        self._ambiguous: tuple[int, str] | None = None
        self._sum, self._count = Decimal(0), 0

    def add(self, line: int, cells: list[str]) -> None:
        """Look at the amount of a line."""
        cell = cell_of(cells, self._places, "amount")
        found = parse_amount(cell)
        if found is None:
            return
        if found.exact is not None:
            self._signs.update(found.decimal or "")
            self._has_fractions = self._has_fractions or found.has_fraction
            self._count += 1
            self._sum += found.exact
        elif COMMA in found.number and (self._known_unit == "minor" or self._digits(cells) == 0):
            self._signs.add(POINT)  # in the smallest unit, or without decimals, a comma can only separate thousands
        else:
            self._ambiguous = self._ambiguous or (line, cell)

    def is_sum(self, cell: str) -> bool:
        """Whether it is the sum of the amounts so far."""
        found = parse_amount(cell)
        return self._count > 1 and found is not None and found.exact == self._sum

    def decimal(self) -> str | None:
        """The decimal sign; None where no amount shows one. Raises ReconciliationError if an amount is ambiguous."""
        if self._layout.decimal is not None:
            return self._layout.decimal
        if self._ambiguous is not None and len(self._signs) != 1:
            line, cell = self._ambiguous
            raise ReconciliationError(
                f"{shown(cell, LONGEST_SAMPLE)} on line {line} may be thousands or a fraction, and no other amount of "
                "the file shows which; say what its decimal sign is, a point or a comma"
            )
        return next(iter(self._signs)) if len(self._signs) == 1 else None

    def unit(self) -> str:
        """``major`` or ``minor``."""
        if self._known_unit is not None:
            return self._known_unit
        return "major" if self._has_fractions else self._layout.report.unit

    def _digits(self, cells: list[str]) -> int | None:
        return money.exponent(cell_of(cells, self._places, "currency").upper() or self._currency or "")
