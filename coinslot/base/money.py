"""Amounts between major and minor units, exactly, by the decimals of each currency (ISO 4217).

The library iso4217 has the currencies of today. Orders keep their currency for ever, so withdrawn currencies are here.
For a currency that is in neither table nothing is guessed: its amounts stay in minor units.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from functools import lru_cache

from iso4217 import Currency

# Withdrawn codes by their decimals, from older tables of iso4217 (back to 2014) and OpenJDK's currency data. When an
# update of the library drops a currency, add it here.
_WITHDRAWN = {
    **dict.fromkeys("ADP BEF BYB BYR ESP GRD ITL LUF MGF PTE TPE TRL".split(), 0),
    **dict.fromkeys(
        """AFA ANG ATS AYM AZM BGL BGN CSD CUC CYP DEM EEK FIM FRF GHC GWP HRK IEP LTL LVL MRO MTL MZM NLG ROL RUR SDD
        SIT SKK SLL SRG STD TMM USS VEB VEF YUM ZMK ZWD ZWL ZWN ZWR""".split(),
        2,
    ),
}

# Sums of a month stay exact: amounts have up to 30 digits, and a million of them six more.
_EXACT = Context(prec=120, rounding=ROUND_HALF_UP)


MINOR_UNITS = "minor units"


@contextmanager
def exactly() -> Iterator[None]:
    """In this context sums and products of amounts lose no digit, and rounding is half up."""
    with localcontext(_EXACT):
        yield


@lru_cache(maxsize=512)
def exponent(currency: str) -> int | None:
    """The decimals that a currency has or had; None for one in no table, or without decimals, such as gold."""
    try:
        found: int | None = Currency(currency).exponent
    except ValueError:
        return _WITHDRAWN.get(currency)
    return found


def rounded(amount: Decimal) -> int:
    """To a whole number, halves away from zero. Use it within :func:`exactly`."""
    return int(amount.to_integral_value(ROUND_HALF_UP))


def in_major(minor: int | Decimal, currency: str) -> str:
    """Decimal text in major units with the currency's decimals: 999 of USD is ``9.99``, 999 of JPY ``999``.

    For a currency in no table: ``999 minor units``.
    """
    number = _major(minor, currency)
    return f"{number:f}" if exponent(currency) is not None else f"{number:f} {MINOR_UNITS}"


def written(minor: int | Decimal, currency: str) -> str:
    """An amount as people write it, with its :func:`unit`: ``1,200.50 USD``, ``999 minor units of ABC``."""
    return f"{_major(minor, currency):,f} {unit(currency)}"


def unit(currency: str) -> str:
    """The unit of a currency's amounts: its code, or minor units for a currency in no table."""
    return currency if exponent(currency) is not None else f"{MINOR_UNITS} of {currency}" if currency else MINOR_UNITS


def _major(minor: int | Decimal, currency: str) -> Decimal:
    with localcontext(_EXACT):
        return Decimal(minor).scaleb(-(exponent(currency) or 0))


def in_minor(major: Decimal, currency: str) -> Decimal | None:
    """Minor units, not rounded; None for a currency that is in no table."""
    digits = exponent(currency)
    if digits is None:
        return None
    with localcontext(_EXACT):
        return major.scaleb(digits)
