"""Amounts between major and minor units, exactly: how many decimals a currency has is ISO 4217's word (iso4217)."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from functools import lru_cache

from iso4217 import Currency

# Sums of a month stay exact: amounts have up to 30 digits, and a million of them six more.
_EXACT = Context(prec=120, rounding=ROUND_HALF_UP)


@contextmanager
def exactly() -> Iterator[None]:
    """Sums and products of amounts lose no digit in here; what is rounded in the end is rounded half up."""
    with localcontext(_EXACT):
        yield


@lru_cache(maxsize=512)
def exponent(currency: str) -> int | None:
    """How many decimals a currency has; None for one that is not in the table, or has none of its own (gold)."""
    try:
        found: int | None = Currency(currency).exponent
    except ValueError:
        return None
    return found


def rounded(amount: Decimal) -> int:
    """To a whole number, halves away from zero. Inside of :func:`exactly`."""
    return int(amount.to_integral_value(ROUND_HALF_UP))


def in_major(minor: int | Decimal, currency: str) -> str:
    """Decimal text in major units with just the currency's decimals: 999 of USD is ``9.99``, 999 of JPY ``999``.

    Of a currency that is in no table, the minor units as they are.
    """
    digits = exponent(currency) or 0
    with localcontext(_EXACT):
        return format(Decimal(minor).scaleb(-digits), "f")


def in_minor(major: Decimal, currency: str) -> Decimal | None:
    """Minor units, not rounded; None for a currency that is in no table."""
    digits = exponent(currency)
    if digits is None:
        return None
    with localcontext(_EXACT):
        return major.scaleb(digits)
