"""The functions of expressions: JMESPath's own, made exact and bounded, and ours.

A moment is Unix seconds, milliseconds (from 12 digits on) or ISO 8601, as number or text. ISO text without an offset is
a time in the zone.

- ``unix(x)``, ``unix_ms(x)``: a moment as whole seconds or milliseconds, rounded down.
- ``iso(x)``: a moment as ``YYYY-MM-DDTHH:MM:SS.sssZ``.
- ``time(x, format)``: a number, or ISO text with an offset, is written in the format, in the zone. Any other text is
  read by the format, in the zone, and becomes Unix seconds; numeric text that the format does not spell is written.
- ``scale(x, n)``: x times 10 to the n as exact text, without exponent and without trailing zeros.
- ``int(x)``: a whole number of up to 40 digits, from number or text, exactly.
- ``upper(x)``, ``lower(x)``: of text.
- ``sum(x)``: as in JMESPath, but exact; a sum with more digits than a JSON number keeps is refused.
  ``avg(x)``: the number nearest to the exact mean.
- ``default(x, y)``: y where x is null or empty text.
- ``lookup(table, x)``: the text that a table has for a number or text; null where it has none.
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from jmespath.exceptions import JMESPathTypeError
from jmespath.functions import Functions, signature
from jmespath.visitor import _Expression

from coinslot.base import exact
from coinslot.base.exact import SMALL
from coinslot.base.limits import ExpressionError, Limits
from coinslot.base.moments import (
    EPOCH,
    MILLISECOND,
    UnfitError,
    are,
    decimal_of,
    from_iso,
    is_numeric,
    is_short,
    kind_of,
    milliseconds_in,
    scaled,
    since_epoch,
    without_float,
)

MOST_PLACES = 30  # to scale by
KEPT_EXPRESSIONS = 256
Lookup = Callable[[str, str], str | None]
# Directives that all platforms and locales write alike; not %s, %c, %-d.
_FORMAT = re.compile(r"(?:[^%]|%[aAbBdfHIjmMpSyYzZ%])+")
_DIRECTIVE = re.compile(r"%(.)", re.DOTALL)
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,59})(?:\.[0-9]{1,60})?(?:[eE][+-]?[0-9]{1,3})?")
# JMESPath's own functions that take an expression (&x).
_TAKE_EXPRESSIONS = {"map", "max_by", "min_by", "sort_by"}


class ExpressionFunctions(Functions):
    """JMESPath's functions, and ours. Ours raise :class:`UnfitError`."""

    def __init__(self, zone: tzinfo, lookup: Lookup | None, limits: Limits) -> None:
        self._zone = zone
        self._lookup = lookup
        self._limits = limits

    def call_function(self, function_name: str, resolved_args: Any) -> Any:
        self._limits.spend()
        for argument in resolved_args:
            if not (isinstance(argument, _Expression) and function_name in _TAKE_EXPRESSIONS):
                self._limits.weigh(argument)
        try:
            if function_name in _UNTYPED:  # the number of arguments was checked when the expression was parsed
                result = self.FUNCTION_TABLE[function_name]["function"](self, *resolved_args)
            else:
                result = super().call_function(function_name, resolved_args)
        except UnfitError as error:
            raise ExpressionError(f"{function_name}() {error}") from None
        except JMESPathTypeError as error:
            takes = " or ".join(kind.replace("-", " of ") for kind in error.expected_types)
            raise ExpressionError(f"{function_name}() takes {takes}, not {kind_of(error.current_value)}") from None
        except (ArithmeticError, TypeError, ValueError):
            if function_name not in Functions.FUNCTION_TABLE:
                raise
            # The library's functions check the kinds of some arguments only, and no sizes.
            raise ExpressionError(f"{function_name}() cannot do that with what it was given") from None
        if isinstance(result, float) and not math.isfinite(result):
            raise ExpressionError(f"{function_name}() comes out too large for a number")
        self._limits.weigh(result)
        return result

    @signature({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, separator: str, array: list[str]) -> str:
        if len(separator) * len(array) > self._limits.largest:  # before the text is made
            raise UnfitError("makes too long a text")
        return separator.join(array)

    @signature({"types": ["array-number"]})
    def _func_sum(self, arg: list[int | float]) -> int | float:
        """The library adds floats, so that 0.1 and 0.2 make 0.30000000000000004."""
        total = _total(arg)
        if isinstance(total, int):
            return total
        if total.denominator == 1 and abs(total) < 10**exact.QUANTITY_DIGITS:
            return int(total)
        try:
            nearest = float(total)
        except OverflowError:
            raise UnfitError("comes out too large for a number") from None
        if Fraction(repr(nearest)) != total:
            raise UnfitError("comes out with more digits than a number keeps")
        return nearest

    @signature({"types": ["array-number"]})
    def _func_avg(self, arg: list[int | float]) -> float | None:
        return float(Fraction(_total(arg), len(arg))) if arg else None

    @signature({"types": []})
    def _func_to_number(self, arg: Any) -> int | float | None:
        """Takes JSON numbers only; the library's own also takes ``NaN``, ``1_000`` and digits of any script."""
        if are(int | float, arg):
            return arg  # type: ignore[no-any-return]
        if not isinstance(arg, str) or not _JSON_NUMBER.fullmatch(arg):
            return None
        number = float(arg) if re.search(r"[.eE]", arg) else int(arg)
        return number if math.isfinite(number) else None

    @signature({"types": []})
    def _func_unix(self, x: Any) -> int:
        return milliseconds_in(x, self._zone) // 1000

    @signature({"types": []})
    def _func_unix_ms(self, x: Any) -> int:
        return milliseconds_in(x, self._zone)

    @signature({"types": []})
    def _func_iso(self, x: Any) -> str:
        moment = EPOCH + milliseconds_in(x, self._zone) * MILLISECOND
        return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"

    @signature({"types": []}, {"types": []})
    def _func_time(self, x: Any, format: Any) -> str | int:
        if not (is_short(format) and _is_format(format)):
            raise UnfitError("takes a format of text and % with one of aAbBdfHIjmMpSyYzZ%")
        if isinstance(x, str):
            moment = from_iso(x)
            if moment is None or moment.tzinfo is None:
                seconds = _read(x, format, self._zone)
                if seconds is not None:
                    return seconds
                if not is_numeric(x):
                    raise UnfitError("was given text that its format does not fit, and that names no moment itself")
        written = EPOCH + milliseconds_in(x, self._zone) * MILLISECOND
        try:
            return written.astimezone(self._zone).strftime(format)
        except OverflowError:
            raise UnfitError("takes moments of the years 1 to 9999") from None

    @signature({"types": []}, {"types": []})
    def _func_scale(self, x: Any, n: Any) -> str:
        places = _whole(n)
        if abs(places) > MOST_PLACES:
            raise UnfitError(f"goes by at most {MOST_PLACES} places")
        return spelled(scaled(decimal_of(x), places))

    @signature({"types": []})
    def _func_int(self, x: Any) -> int:
        return _whole(x)

    @signature({"types": []})
    def _func_upper(self, x: Any) -> str:
        return _text(x).upper()

    @signature({"types": []})
    def _func_lower(self, x: Any) -> str:
        return _text(x).lower()

    @signature({"types": []}, {"types": []})
    def _func_default(self, x: Any, y: Any) -> Any:
        return y if x is None or x == "" else x

    @signature({"types": []}, {"types": []})
    def _func_lookup(self, table: Any, x: Any) -> str | None:
        key = x if isinstance(x, str) or x is None else spelled(decimal_of(x))
        name = _text(table)
        if self._lookup is None:
            raise UnfitError("has no tables here")
        return None if key is None else self._lookup(name, key)


# Functions that check the kinds of their arguments themselves.
_UNTYPED = {
    name
    for name, known in ExpressionFunctions.FUNCTION_TABLE.items()
    if not any(each["types"] or each.get("variadic") for each in known["signature"])
}


def _read(text: str, format: str, zone: tzinfo) -> int | None:
    """The Unix seconds of text in a format; None where the text is not in it."""
    if not _can_read(format):
        if is_numeric(text):
            return None
        raise UnfitError("reads by a format with a year, a month and a day, each once, and without %Z")
    if not is_short(text):
        return None
    try:
        moment = datetime.strptime(text, format)  # noqa: DTZ007  the zone comes next
        # strptime takes 1767323045 as March of 1767: a number has to be exactly what the format spells.
        if is_numeric(text) and moment.strftime(format) != text:
            return None
    except ValueError:
        return None
    return since_epoch(moment if moment.tzinfo else moment.replace(tzinfo=zone)) // 1000


@lru_cache(maxsize=KEPT_EXPRESSIONS)
def _is_format(format: str) -> bool:
    return format.isprintable() and _FORMAT.fullmatch(format) is not None


@lru_cache(maxsize=KEPT_EXPRESSIONS)
def _can_read(format: str) -> bool:
    """Whether text in this format names a moment, and names it once."""
    directives = Counter(found for found in _DIRECTIVE.findall(format) if found != "%")
    names_year = directives.keys() & {"Y", "y"}
    names_day = "j" in directives or ("d" in directives and directives.keys() & {"m", "b", "B"})
    # strptime would read a missing year as 1900, drop a zone's name, and raise re.error for a directive twice.
    return bool(names_year and names_day and "Z" not in directives and max(directives.values()) == 1)


def _whole(value: Any) -> int:
    if type(value) is int and -SMALL < value < SMALL:
        return value
    try:
        return exact.whole(without_float(value), exact.QUANTITY_DIGITS)
    except ValueError as error:
        raise UnfitError(f"takes a whole number, was given {kind_of(value)}: {error}") from None


def _total(numbers: list[Any]) -> int | Fraction:
    """The exact sum of JSON numbers; a float counts as its shortest decimal digits."""
    if are(int, *numbers):
        return int(sum(numbers))
    return sum((Fraction(repr(number)) for number in numbers), Fraction())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise UnfitError(f"takes a string, not {kind_of(value)}")
    return value


def spelled(number: Decimal) -> str:
    """The one text of a number, however it was written: 9900, 9900.0 and 9.9e3 are all ``9900``."""
    if not number:
        return "0"
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
