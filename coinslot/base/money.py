"""Amounts between major and minor units, exactly: ISO 4217 says how many decimals a currency has (iso4217).

That library holds the currencies of today. An order keeps its currency for ever, so those that were withdrawn are here,
with the decimals they had. A currency that is in neither table is never guessed: its amounts are in minor units.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from functools import lru_cache

from iso4217 import Currency

# Withdrawn codes by their decimals: what older tables of iso4217 held, back to 2014, and before that OpenJDK's currency
# data. One that the library drops when its version is raised belongs here from then on.
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
    """Sums and products of amounts lose no digit in here; what is rounded in the end is rounded half up."""
    with localcontext(_EXACT):
        yield


@lru_cache(maxsize=512)
def exponent(currency: str) -> int | None:
    """How many decimals a currency has or had; None for one that is in no table, or has none of its own (gold)."""
    try:
        found: int | None = Currency(currency).exponent
    except ValueError:
        return _WITHDRAWN.get(currency)
    return found


def rounded(amount: Decimal) -> int:
    """To a whole number, halves away from zero. Inside of :func:`exactly`."""
    return int(amount.to_integral_value(ROUND_HALF_UP))


def in_major(minor: int | Decimal, currency: str) -> str:
    """Decimal text in major units with just the currency's decimals: 999 of USD is ``9.99``, 999 of JPY ``999``.

    Of a currency that is in no table: ``999 minor units``.
    """
    number = _major(minor, currency)
    return f"{number:f}" if exponent(currency) is not None else f"{number:f} {MINOR_UNITS}"


def written(minor: int | Decimal, currency: str) -> str:
    """An amount as people write it, with its :func:`unit`: ``1,200.50 USD``, ``999 minor units of ABC``."""
    return f"{_major(minor, currency):,f} {unit(currency)}"


def unit(currency: str) -> str:
    """What amounts of a currency are in: its code, or minor units where nobody knows how many make one."""
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
