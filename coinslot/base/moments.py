"""Moments as partners and games write them: seconds, milliseconds, ISO 8601 text, with or without a zone."""

import math
import re
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Context, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from jmespath.visitor import _Expression

from coinslot.base import exact
from coinslot.base.exact import SMALL
from coinslot.base.signing import MILLISECOND_DIGITS

LONGEST_TIME = 64
_EXACTLY = Context(prec=4 * exact.FIGURE_DIGITS)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
_FIRST_MILLISECOND, _LAST_MILLISECOND = -62_135_596_800_000, 253_402_300_799_999  # the years 1 to 9999
_LEAST_MILLISECONDS = 10 ** (MILLISECOND_DIGITS - 1)  # the least number of so many digits
# datetime.fromisoformat alone reads the offset of 2026-01-02+09:00 as the time of day.
_ISO = re.compile(
    r"(?P<date>[0-9]{4}-?[0-9]{2}-?[0-9]{2})"
    r"(?:[Tt ](?P<time>[0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]{1,9})?)?)?)"
    r" ?(?P<offset>[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)


class UnfitError(ValueError):
    """A function was given what it does not take; the message continues after the function's name."""


def time_zone(name: str) -> tzinfo:
    """The zone of an IANA name; ``UTC`` is known without a zone database. Raises :class:`UnfitError`."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UnfitError("there is no such time zone: use an IANA name such as Asia/Seoul") from None


def milliseconds(value: Any, zone: str = "UTC") -> int:
    """The moment that a value names, in whole Unix milliseconds; ISO text without an offset is a time in the zone.

    Raises :class:`UnfitError` for a value that names none.
    """
    try:
        return milliseconds_in(value, time_zone(zone))
    except UnfitError:
        raise UnfitError(f"not Unix seconds, milliseconds or ISO 8601, but {kind_of(value)}") from None


def milliseconds_in(x: Any, zone: tzinfo) -> int:
    """A moment in Unix milliseconds, rounded down."""
    if type(x) is int and -SMALL < x < SMALL:
        return _in_range(x if abs(x) >= _LEAST_MILLISECONDS else x * 1000)
    if isinstance(x, str):
        moment = None if x.strip().isdigit() else from_iso(x)  # 20260102 is a number before it is a date
        if moment is not None:
            return since_epoch(moment if moment.tzinfo else moment.replace(tzinfo=zone))
    if not (is_numeric(x) if isinstance(x, str) else are(int | float, x)):
        raise UnfitError(f"takes a moment: Unix seconds, milliseconds or ISO 8601, was given {kind_of(x)}")
    number = decimal_of(x)
    is_milliseconds = abs(math.floor(number)) >= _LEAST_MILLISECONDS
    return _in_range(math.floor(number if is_milliseconds else scaled(number, 3)))


def is_numeric(text: str) -> bool:
    try:
        exact.figure(text)
    except ValueError:
        return False
    return True


def is_short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TIME


def from_iso(text: str) -> datetime | None:
    """The time an ISO 8601 text names, with its offset if it has one."""
    found = _ISO.fullmatch(text.strip()) if is_short(text) else None
    if found is None:
        return None
    try:
        return datetime.fromisoformat(f"{found['date']}T{found['time'] or '00'}{(found['offset'] or '').upper()}")
    except ValueError:
        return None


def since_epoch(moment: datetime) -> int:
    since = moment - EPOCH
    return _in_range((since.days * 86400 + since.seconds) * 1000 + since.microseconds // 1000)


def _in_range(milliseconds: int) -> int:
    if not _FIRST_MILLISECOND <= milliseconds <= _LAST_MILLISECOND:
        raise UnfitError("takes moments of the years 1 to 9999")
    return milliseconds


def decimal_of(value: Any) -> Decimal:
    """The exact value of a number or numeric text, of as many digits as money may have."""
    if type(value) is int and -SMALL < value < SMALL:
        return Decimal(value)
    try:
        return Decimal(exact.figure(without_float(value)))
    except ValueError as error:
        raise UnfitError(f"takes a number or numeric text, was given {kind_of(value)}: {error}") from None


def without_float(value: Any) -> Any:
    return Decimal(repr(value)) if isinstance(value, float) else value  # the shortest digits that mean this float


def scaled(number: Decimal, places: int) -> Decimal:
    """Times 10 to the ``places``, exactly: in the thread's own context Decimal would round."""
    return _EXACTLY.scaleb(number, places)


def kind_of(value: Any) -> str:
    """JMESPath's word for the kind of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    words = {str: "string", list: "array", dict: "object", _Expression: "&expression"}
    return words.get(type(value), "number" if isinstance(value, int | float | Decimal) else "something else")


def are(kind: Any, *values: Any) -> bool:
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in values)
