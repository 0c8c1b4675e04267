"""Amounts as people and spreadsheets write them: ``1,234.56``, ``1.234,56``, ``$9.99``, ``(9.99)``, ``9,99 EUR``."""

import re
import unicodedata
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

LONGEST = 64
POINT, COMMA = ".", ","

_MINUS = str.maketrans(
    {"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{HYPHEN}": "-", "\N{RIGHT SINGLE QUOTATION MARK}": "'"}
)
_CODE = r"[^0-9.,'+\-()\s]{1,4}\.?"
_WRITTEN = re.compile(rf"([+-]?) ?({_CODE})? ?([+-]?) ?([0-9.,' ]*[0-9])(?: ?({_CODE}))? ?(-?)")
_BRACKETED = re.compile(r"([^()]*?) ?\( ?([^()]*?) ?\) ?([^()]*)")
_SEPARATORS = re.compile("[.,' ]")
_GROUPED = re.compile(r"[0-9]{1,3}(?:([.,' ])[0-9]{3})(?:\1[0-9]{3})*|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}|[0-9]+")


class Written(NamedTuple):
    """An amount as it is written. ``exact`` is None where it is open whether its one separator stands for thousands
    or before a fraction (``1.000``); ``decimal`` is the sign before its fraction as far as that can be seen, and
    ``code`` the letters of a currency that stand beside it.
    """

    number: str
    is_negative: bool
    decimal: str | None
    exact: Decimal | None
    code: str | None

    def value(self, decimal: str | None) -> Decimal | None:
        """The amount, in a report with that decimal sign; None where it is open and the report shows none."""
        if self.exact is not None or decimal is None:
            return self.exact
        return _value(self.number, decimal, is_negative=self.is_negative)

    @property
    def has_fraction(self) -> bool:
        return self.decimal is not None and self.decimal in self.number


@lru_cache(maxsize=8192)  # of a million purchases few have a price of their own
def written(cell: str) -> Written | None:
    """None for what is no amount."""
    if len(cell) > LONGEST:
        return None
    text = " ".join((cell if cell.isascii() else unicodedata.normalize("NFKC", cell)).split()).translate(_MINUS)
    bracketed = _BRACKETED.fullmatch(text)
    is_bracketed = bracketed is not None
    match = _WRITTEN.fullmatch(" ".join(filter(None, bracketed.groups())) if bracketed else text)
    if match is None:
        return None
    before, code, after, number, code_after, behind = match.groups()
    signs = before + after + behind
    if len(signs) + is_bracketed > 1 or (code and code_after):
        return None
    is_negative = is_bracketed or "-" in signs
    decimal, is_open = _separators(number)
    amount = None if is_open else _value(number, decimal, is_negative=is_negative)
    if amount is None and not is_open:
        return None
    letters = (code or code_after or "").upper()
    known = letters if len(letters) == 3 and letters.isascii() and letters.isalpha() else None
    return Written(number, is_negative, decimal, amount, known)


def _value(number: str, decimal: str | None, *, is_negative: bool) -> Decimal | None:
    """None where what stands before the fraction is not in groups of thousands."""
    whole, _, fraction = number.partition(decimal) if decimal else (number, "", "")
    if (whole and not _GROUPED.fullmatch(whole)) or (fraction and not fraction.isdecimal()):
        return None
    exact = Decimal((_SEPARATORS.sub("", whole) or "0") + (f".{fraction}" if fraction else ""))
    return -exact if is_negative else exact


def _separators(number: str) -> tuple[str | None, bool]:
    """The decimal sign that a number shows, or that its groups of thousands leave; and whether that is open."""
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
