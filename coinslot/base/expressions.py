"""Conversions between our words and a game's own format: JMESPath, and a few functions of ours.

An :class:`Expression` turns one JSON document into one JSON value, or raises :class:`ExpressionError`. Nothing else
comes out, whatever the document holds, and neither time nor memory goes beyond what the size of the document pays for.

The functions besides JMESPath's own. A moment is Unix seconds, milliseconds (from 12 digits on) or ISO 8601, as number
or text; ISO text without an offset is a time in the zone.

- ``unix(x)``, ``unix_ms(x)``: a moment as whole seconds or milliseconds, rounded down.
- ``iso(x)``: a moment as ``YYYY-MM-DDTHH:MM:SS.sssZ``.
- ``time(x, format)``: a number, or ISO text with an offset, is written in the format, in the zone. Any other text is
  read by the format, in the zone, and becomes Unix seconds; numeric text that the format does not spell is written.
- ``scale(x, n)``: x times 10 to the n as exact text, without exponent and without noughts at the end of a fraction.
- ``int(x)``: a whole number of up to 40 digits, from number or text, exactly.
- ``upper(x)``, ``lower(x)``: of text.
- ``sum(x)``: as JMESPath has it, but exact; a sum with more digits than a JSON number keeps is refused.
  ``avg(x)``: the number nearest to the exact mean.
- ``default(x, y)``: y where x is null or empty text.
- ``lookup(table, x)``: the text a table has for a number or text; null where it has none.

JMESPath does not know Decimal: it is fed :func:`plain` documents, and money is taken out by :func:`exact_text`.
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

import jmespath
from jmespath.exceptions import IncompleteExpressionError, JMESPathError, JMESPathTypeError, LexerError, ParseError
from jmespath.functions import Functions, signature
from jmespath.visitor import TreeInterpreter, _Expression

from coinslot.base import exact
from coinslot.base.exact import SMALL
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
    time_zone,
    without_float,
)

LONGEST_EXPRESSION = 8192
DEEPEST = 64  # levels: of an expression, a document, a result
LARGEST = 1024 * 1024  # about the characters of its JSON: of any value made on the way, unless the document is larger
FREE_LENGTH = 64  # of a text that is not weighed
FREE_WORK = 200_000  # steps, or eights of characters looked at; a larger document allows more

INTEGER_BITS = 13_288  # as long as exact.LONGEST_INTEGER
MOST_PLACES = 30  # to scale by
FIRST_FULL_YEAR = 1000  # strftime spells earlier ones with less than four digits on some platforms
KEPT_EXPRESSIONS = 256


Lookup = Callable[[str, str], str | None]
Step = Callable[["_Interpreter", Any], Any]  # of an expression: what it makes of a value


# What every platform and locale spells alike; %s, %c, %-d are not among it.
_FORMAT = re.compile(r"(?:[^%]|%[aAbBdfHIjmMpSyYzZ%])+")
_DIRECTIVE = re.compile(r"%(.)", re.DOTALL)
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,59})(?:\.[0-9]{1,60})?(?:[eE][+-]?[0-9]{1,3})?")

# JMESPath's own functions that take an expression (&x); to the others one is no value.
_TAKE_EXPRESSIONS = {"map", "max_by", "min_by", "sort_by"}


class ExpressionError(Exception):
    """An expression cannot be read, or not applied; the message is for the owner and holds no value of a document."""


class _TooLargeError(ExpressionError):
    """A value is larger than :class:`_Limits` allows."""


@dataclass(frozen=True)
class Expression:
    """A JMESPath expression, checked; any number of threads may apply it at once."""

    text: str
    _step: Step = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> "Expression":
        """Raises :class:`ExpressionError` saying where and what is wrong, functions and their arguments included."""
        if not isinstance(text, str):
            raise ExpressionError("an expression is text")
        if len(text) > LONGEST_EXPRESSION:
            raise ExpressionError(f"an expression has at most {LONGEST_EXPRESSION} characters")
        return _parsed(text)

    def apply(
        self,
        document: Any,
        *,
        zone: str = "UTC",
        lookup: Lookup | None = None,
        allow_half_pairs: bool = False,
        is_parsed: bool = False,
    ) -> Any:
        """The JSON value this expression makes of a document; parts of it may be parts of the document.

        Raises :class:`ExpressionError`, naming the function and the kind of value that did not fit, never the value;
        what ``lookup(table, key)`` raises may come through. Text with half of a surrogate pair is refused in a result,
        unless whoever asks looks at each text that is kept. ``is_parsed``: the document comes from
        :func:`coinslot.base.exact.parse_json` with plain numbers, or is part of what an expression made of such a one;
        else all of it is looked at first.
        """
        if not is_parsed:
            _size(document, None, allow_half_pairs=True)
        limits = _Limits(document)
        try:
            where = time_zone(zone)
        except UnfitError as error:
            raise ExpressionError(str(error)) from None
        functions = _Functions(where, lookup, limits)
        try:
            result = self._step(_Interpreter(functions, limits), document)
        except RecursionError:  # who calls us may stand deep in the stack already
            raise ExpressionError("the expression is nested too deeply") from None
        limits.size(result, allow_half_pairs=allow_half_pairs)
        return result


def plain(document: Any) -> Any:
    """A document of :func:`coinslot.base.exact.parse_json` with plain JSON numbers in the place of Decimals.

    A whole number stays exact, as an int; a fraction becomes the nearest float, which keeps at least 15 digits.
    Raises :class:`ExpressionError` for a number no float reaches, and for a document nested too deeply.
    """
    return _plain(document, 1)


def exact_text(value: Any) -> str:
    """The decimal text of a money figure that an expression made: text as it is, a number in its shortest digits.

    Raises :class:`ExpressionError` for what is no number, or has more than 30 digits.
    """
    try:
        return exact.figure(value) if isinstance(value, str) else _spelled(decimal_of(value))
    except (ValueError, UnfitError):
        raise ExpressionError(f"not a number of up to {exact.FIGURE_DIGITS} digits, but {kind_of(value)}") from None


@lru_cache(maxsize=KEPT_EXPRESSIONS)
def _parsed(text: str) -> Expression:
    try:
        text.encode("utf-8")
        tree = jmespath.compile(text).parsed
    except UnicodeEncodeError as error:
        raise ExpressionError(f"character {error.start + 1} is half of a surrogate pair") from None
    except IncompleteExpressionError:
        raise ExpressionError("the expression ends too early") from None
    except LexerError as error:
        raise ExpressionError(f"character {error.lexer_position + 1}: {error.message[:100]}") from None
    except ParseError as error:
        raise ExpressionError(f"character {error.lex_position + 1}: {error.msg[:100]}") from None
    except RecursionError:
        raise _too_deep("the expression") from None
    except JMESPathError:  # of text without a word in it
        raise ExpressionError("the expression is empty") from None
    except ValueError:  # of int(), about 4,300 digits in a row
        raise ExpressionError("a number in the expression is too long") from None
    _check(tree)
    is_object = tree["type"] == "multi_select_dict"  # as most are; the result is weighed once, at the end
    return Expression(text, partial(_make_members, _members(tree)) if is_object else _step(tree))


def _check(tree: Any) -> None:
    waiting = [(tree, 1)]
    while waiting:
        node, level = waiting.pop()
        if level > DEEPEST:
            raise _too_deep("the expression")
        if node["type"] == "slice":
            if node["children"][2] == 0:
                raise ExpressionError("a slice cannot go in steps of 0")
            continue
        if node["type"] == "function_expression":
            _check_call(node["value"], len(node["children"]))
        elif "value" in node:
            _size(node["value"], LARGEST)
        waiting.extend((child, level + 1) for child in node["children"])


def _check_call(name: str, count: int) -> None:
    if name not in _Functions.FUNCTION_TABLE:
        raise ExpressionError(f"there is no function {name[:50]}()")
    takes = _Functions.FUNCTION_TABLE[name]["signature"]
    is_variadic = bool(takes[-1].get("variadic"))
    if count < len(takes) or (count > len(takes) and not is_variadic):
        least = "at least " if is_variadic else ""
        word = "argument" if len(takes) == 1 else "arguments"
        raise ExpressionError(f"{name}() takes {least}{len(takes)} {word}, not {count}")


def _step(node: Any) -> Step:
    """What a node does, as a function made once: an expression is applied to row after row.

    The library's interpreter takes four calls for a field. What is not here is left to it, and does the same.
    """
    names = _path(node)
    if names:
        return partial(_go_down, names)
    match node["type"]:
        case "multi_select_dict":
            return partial(_make_object, _members(node))
        case "function_expression":
            return partial(_call, node["value"], [_step(child) for child in node["children"]])
        case "or_expression":
            left, right = (_step(child) for child in node["children"])
            return partial(_either, left, right)
        case "and_expression":
            left, right = (_step(child) for child in node["children"])
            return partial(_both, left, right)
        case "literal" if not isinstance(node["value"], list | dict):
            return partial(_tell, node["value"])
    return lambda run, value: run.visit(node, value)


def _members(node: Any) -> list[tuple[str, Step]]:
    return [(child["value"], _step(child["children"][0])) for child in node["children"]]


def _path(node: Any) -> tuple[str, ...]:
    """The names of nothing but fields, one below the other; empty for anything else."""
    if node["type"] == "field":
        return (node["value"],)
    if node["type"] != "subexpression":
        return ()
    parts = [_path(child) for child in node["children"]]
    return tuple(name for part in parts for name in part) if all(parts) else ()


def _go_down(names: tuple[str, ...], run: "_Interpreter", value: Any) -> Any:
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _make_members(members: list[tuple[str, Step]], run: "_Interpreter", value: Any) -> dict[str, Any] | None:
    run.limits.spend(len(members))
    return None if value is None else {name: step(run, value) for name, step in members}


def _make_object(members: list[tuple[str, Step]], run: "_Interpreter", value: Any) -> dict[str, Any] | None:
    made = _make_members(members, run, value)
    run.limits.weigh(made)
    return made


def _call(name: str, arguments: list[Step], run: "_Interpreter", value: Any) -> Any:
    return run.functions.call_function(name, [step(run, value) for step in arguments])


def _either(left: Step, right: Step, run: "_Interpreter", value: Any) -> Any:
    run.limits.spend()
    found = left(run, value)
    return right(run, value) if run.is_false(found) else found


def _both(left: Step, right: Step, run: "_Interpreter", value: Any) -> Any:
    run.limits.spend()
    found = left(run, value)
    return found if run.is_false(found) else right(run, value)


def _tell(literal: Any, run: "_Interpreter", value: Any) -> Any:
    return literal


class _Limits:
    """What evaluating on one document may cost. Every value made on the way is weighed, so that none can grow unseen.

    Values share their parts (``[@,@] | [@,@] | ...`` is small in memory, and twice as long with each step once
    written out), so weighing goes by what a value is as JSON, and stops where that is too much. The document itself
    is weighed when more is wanted than any may have, which is seldom.
    """

    def __init__(self, document: Any) -> None:
        self._document = document
        self._is_weighed = False
        self._largest = LARGEST
        self._left = FREE_WORK

    @property
    def largest(self) -> int:
        self._weigh_document()
        return self._largest

    def spend(self, work: int = 1) -> None:
        self._left -= work
        if self._left < 0:
            self._weigh_document()
            if self._left < 0:
                raise ExpressionError("the expression does too much for a document of this size")

    def size(self, value: Any, *, allow_half_pairs: bool) -> int:
        try:
            return _size(value, self._largest, allow_half_pairs=allow_half_pairs)
        except _TooLargeError:
            if self._is_weighed:
                raise
            return _size(value, self.largest, allow_half_pairs=allow_half_pairs)

    def weigh(self, value: Any) -> None:
        kind = type(value)  # most are small, and the step that made them is counted
        if value is None or (kind is str and len(value) < FREE_LENGTH) or (kind is int and -SMALL < value < SMALL):
            return
        self.spend(self.size(value, allow_half_pairs=True) // 8)

    def _weigh_document(self) -> None:
        if not self._is_weighed:
            self._is_weighed = True
            size = _size(self._document, None, allow_half_pairs=True)
            self._largest = max(LARGEST, size)
            self._left += 2 * size


class _Interpreter(TreeInterpreter):
    """JMESPath's evaluation, within limits."""

    def __init__(self, functions: "_Functions", limits: _Limits) -> None:
        super().__init__(jmespath.Options(custom_functions=functions))
        self.functions = functions
        self.limits = limits

    def is_false(self, value: Any) -> bool:
        return bool(self._is_false(value))  # type: ignore[attr-defined]  # the library has no types

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self.limits.spend()
        if node["type"] == "field":  # most steps are; the library takes four calls for one
            (value,) = args
            return value.get(node["value"]) if isinstance(value, dict) else None
        return super().visit(node, *args, **kwargs)

    def visit_comparator(self, node: Any, value: Any) -> Any:
        left, right = (self.visit(child, value) for child in node["children"])
        for side in (left, right):
            if isinstance(side, str | list | dict):
                self.limits.weigh(side)
        # The library raises TypeError where the specification says null: a text is neither above nor below a number.
        if node["value"] not in ("eq", "ne") and not (are(str, left, right) or are(int | float, left, right)):
            return None
        return self.COMPARATOR_FUNC[node["value"]](left, right)

    def visit_literal(self, node: Any, value: Any) -> Any:
        literal = node["value"]
        if isinstance(literal, list | dict):  # whoever gets the result may change it, and the expression is shared
            self.limits.weigh(literal)
            return deepcopy(literal)
        return literal

    def visit_multi_select_list(self, node: Any, value: Any) -> list[Any] | None:
        made = super().visit_multi_select_list(node, value)
        self.limits.weigh(made)
        return made

    def visit_multi_select_dict(self, node: Any, value: Any) -> Any:
        made = super().visit_multi_select_dict(node, value)
        self.limits.weigh(made)
        return made


class _Functions(Functions):
    """JMESPath's functions, and ours. Ours raise :class:`UnfitError`."""

    def __init__(self, zone: tzinfo, lookup: Lookup | None, limits: _Limits) -> None:
        self._zone = zone
        self._lookup = lookup
        self._limits = limits

    def call_function(self, function_name: str, resolved_args: Any) -> Any:
        self._limits.spend()
        for argument in resolved_args:
            if not (isinstance(argument, _Expression) and function_name in _TAKE_EXPRESSIONS):
                self._limits.weigh(argument)
        try:
            if function_name in _UNTYPED:  # how many arguments there are was looked at once
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
            # The library's functions check the kind of some of their arguments only, and no sizes.
            raise ExpressionError(f"{function_name}() cannot do that with what it was given") from None
        if isinstance(result, float) and not math.isfinite(result):
            raise ExpressionError(f"{function_name}() comes out too large for a number")
        self._limits.weigh(result)
        return result

    @signature({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, separator: str, array: list[str]) -> str:
        if len(separator) * len(array) > self._limits.largest:  # before it is made: it would be their product
            raise UnfitError("makes too long a text")
        return separator.join(array)

    @signature({"types": ["array-number"]})
    def _func_sum(self, arg: list[int | float]) -> int | float:
        """The library adds floats: 0.1 and 0.2 are 0.30000000000000004 there."""
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
        """Only what is a number in JSON; the library's own takes ``NaN``, ``1_000`` and digits of any script."""
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
        return _spelled(scaled(decimal_of(x), places))

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
        key = x if isinstance(x, str) or x is None else _spelled(decimal_of(x))
        name = _text(table)
        if self._lookup is None:
            raise UnfitError("has no tables here")
        return None if key is None else self._lookup(name, key)


# Functions that look at the kinds of their arguments themselves.
_UNTYPED = {
    name
    for name, known in _Functions.FUNCTION_TABLE.items()
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
    moment = _written_out(text, format)
    if moment is None:
        try:
            moment = datetime.strptime(text, format)  # noqa: DTZ007  the zone comes next
            # strptime takes 1767323045 as March of 1767: a number has to be exactly what the format spells.
            if is_numeric(text) and moment.strftime(format) != text:
                return None
        except ValueError:
            return None
    return since_epoch(moment if moment.tzinfo else moment.replace(tzinfo=zone)) // 1000


def _written_out(text: str, format: str) -> datetime | None:
    """The time of text with every digit that its format may have, as strptime reads it but in a sixth of the time.

    None leaves it to strptime.
    """
    pattern, parts = _digits(format)
    found = None if pattern is None else pattern.fullmatch(text)
    if found is None:
        return None
    try:
        moment = datetime(*map(int, found.group(*parts)))  # type: ignore[arg-type]  # noqa: DTZ001  the zone comes next
    except ValueError:
        return None
    return moment if moment.year >= FIRST_FULL_YEAR else None


@lru_cache(maxsize=KEPT_EXPRESSIONS)
def _is_format(format: str) -> bool:
    return format.isprintable() and _FORMAT.fullmatch(format) is not None


@lru_cache(maxsize=KEPT_EXPRESSIONS)
def _digits(format: str) -> tuple[re.Pattern[str] | None, tuple[str, ...]]:
    """What such text looks like, and its parts from the year on; None for a format of anything but plain digits."""
    text_and_directives = _DIRECTIVE.split(format)  # in turns
    directives = text_and_directives[1::2]
    parts = tuple("YmdHMS"[: len(directives)])
    if len(parts) < len("Ymd") or set(directives) != set(parts):
        return None, ()
    pattern = "".join(
        rf"(?P<{part}>[0-9]{{{4 if part == 'Y' else 2}}})" if at % 2 else re.escape(part)
        for at, part in enumerate(text_and_directives)
    )
    return re.compile(pattern), parts


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
    """The exact sum of JSON numbers; a float stands for the shortest digits that mean it."""
    if are(int, *numbers):
        return int(sum(numbers))
    return sum((Fraction(repr(number)) for number in numbers), Fraction())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise UnfitError(f"takes a string, not {kind_of(value)}")
    return value


def _spelled(number: Decimal) -> str:
    """The one text of a number, however it was written: 9900, 9900.0 and 9.9e3 are all ``9900``."""
    if not number:
        return "0"
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _plain(value: Any, level: int) -> Any:
    if isinstance(value, Decimal):
        return _plain_number(value)
    if isinstance(value, dict | list) and level > DEEPEST:
        raise _too_deep("the document")
    if isinstance(value, dict):
        return {key: _plain(inner, level + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, level + 1) for inner in value]
    return value


def _plain_number(number: Decimal) -> int | float:
    if number.is_finite() and number.adjusted() < exact.QUANTITY_DIGITS and number == number.to_integral_value():
        return int(number)
    nearest = float(number) if number.is_finite() else math.inf
    if not math.isfinite(nearest):
        raise ExpressionError("a number in the document is out of range")
    return nearest


def _size(root: Any, most: int | None, *, allow_half_pairs: bool = False) -> int:
    """About the characters of a value's JSON. Raises :class:`ExpressionError` for what is no JSON or is too much."""
    size = 0
    waiting: list[tuple[list[Any], int]] = [([root], 0)]  # values side by side, and the level of what they are in
    while waiting:
        values, level = waiting.pop()
        for value in values:
            kind = type(value)
            if kind is str:
                size += len(value) + 2
                if not allow_half_pairs and not value.isascii():
                    _refuse_half_pairs(value)
            elif kind is int:
                size += 1 + value.bit_length() // 3
                if value.bit_length() > INTEGER_BITS:
                    raise ExpressionError("a number is too long")
            elif value is None or kind is bool:
                size += 4
            elif kind is dict or kind is list:
                if level >= DEEPEST:
                    raise _too_deep("a value")
                size += 2 + len(value)
                if most is not None and size > most:  # before as many wait
                    raise _too_large()
                if kind is dict:
                    for key in value:
                        if type(key) is not str:
                            raise ExpressionError("a key is no text")
                        size += len(key) + 3
                        if not allow_half_pairs and not key.isascii():
                            _refuse_half_pairs(key)
                    value = list(value.values())
                waiting.append((value, level + 1))
            elif kind is float:
                size += 8
                if not math.isfinite(value):
                    raise ExpressionError("a number is not finite")
            else:
                raise _no_json(value)
            if most is not None and size > most:
                raise _too_large()
    return size


def _refuse_half_pairs(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ExpressionError("half of a surrogate pair in a text") from None


def _no_json(value: Any) -> ExpressionError:
    if isinstance(value, _Expression):
        return ExpressionError("an &expression is no value by itself")
    return ExpressionError(f"{type(value).__name__} is no JSON")


def _too_deep(what: str) -> ExpressionError:
    return ExpressionError(f"{what} is nested deeper than {DEEPEST} levels")


def _too_large() -> ExpressionError:
    return _TooLargeError("a value grows too large")
