"""Figures, times and other people's text as commands and pages write them."""

import re
from decimal import Decimal

from coinslot.base import clock
from coinslot.base import money as amounts

NOTHING = "\N{EN DASH}"
LONGEST_CODE = 10  # of a currency
LONGEST_ID = 24  # of one that is shortened
MOST_DIGITS = 40  # of an amount
LONGEST_SHOWN = 300  # characters of a text in a list
# Controls and the marks that turn the direction of text around; line breaks and tabs may stay.
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def money(minor: int | Decimal | None, currency: str | None) -> str:
    """Minor units as people write them: 9.99 USD, 1,200 JPY, 1.500 KWD; 999 minor units of an unknown currency."""
    return NOTHING if minor is None else amounts.written(minor, shown(currency or "", LONGEST_CODE))


def amount(major: str, currency: str | None) -> str:
    """The same for decimal text in major units, as payments have it: 12000 and KRW are 12,000 KRW."""
    code = shown(currency or "", LONGEST_CODE)
    try:
        number = Decimal(major)
    except ArithmeticError:
        return f"{shown(major, 40)} {code}".strip()
    if not number.is_finite() or len(major) > MOST_DIGITS or abs(number.adjusted()) > MOST_DIGITS:
        return f"{shown(major, 40)} {code}".strip()
    digits = max(amounts.exponent(code) or 0, -int(number.as_tuple().exponent))
    return f"{number:,.{digits}f} {code}".strip()


def utc_moment(stamp: str | None) -> str:
    """A stored time to the second, in UTC. Pages use ``handlers/dashboard/frame/times.py``, which knows the zone."""
    return NOTHING if not stamp else f"{stamp[:10]} {stamp[11:19]}"


def ago(stamp: str | None) -> str:
    """How long ago a stored time is, in words."""
    if not stamp:
        return "never"
    seconds = clock.now() - clock.seconds(stamp)
    if seconds < -1:
        return f"at {utc_moment(stamp)} UTC"
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count:,} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def lasting(seconds: float) -> str:
    """How long something takes, in words and in whole units: 7 hours, 2 days, 90 minutes."""
    for size, unit, least in ((86400, "day", 2), (3600, "hour", 2), (60, "minute", 1)):
        if seconds >= least * size:
            count = round(seconds / size)
            return f"{count:,} {unit}{'' if count == 1 else 's'}"
    return "less than a minute"


def for_time(stamp: str | None) -> str:
    """How long something has lasted that began at a stored time, in words: for 18 minutes."""
    return f"for {lasting(clock.now() - clock.seconds(stamp))}" if stamp else "for an unknown time"


def number(value: int | None) -> str:
    """A figure; one that could not be read is unknown and not 0."""
    return "unknown" if value is None else f"{value:,}"


def capped(value: int | None, most: int = 10_000) -> str:
    """A count that stopped at ``most`` and one."""
    return f"{most:,}+" if value is not None and value > most else number(value)


def until(stamp: str | None) -> str:
    """How long it is to a stored time, in words."""
    if not stamp:
        return "never"
    seconds = clock.seconds(stamp) - clock.now()
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = round(seconds / size)
            return f"in {count:,} {unit}{'' if count == 1 else 's'}"
    return "now" if seconds <= 0 else "in less than a minute"


def shown(value: object, longest: int = LONGEST_SHOWN) -> str:
    """Text that is safe to look at: invisible characters are replaced, long text is cut. HTML is not escaped."""
    text = _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", str(value))
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


def shortened(value: object, longest: int = LONGEST_ID) -> str:
    """An id without its middle, so that it has at most ``longest`` characters: beginning and end tell ids apart."""
    text = str(value)
    if len(text) > longest:
        tail = (longest - 1) * 2 // 5
        text = f"{text[: longest - 1 - tail]}…{text[len(text) - tail :]}"
    return shown(text)


def delay(seconds: int | str) -> str:
    """Seconds in the largest unit that has no remainder: 5 s, 1 min, 2 h."""
    count = int(seconds)
    for size, unit in ((3600, "h"), (60, "min")):
        if count and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count} s"
