"""Exact numbers from JSON, never through a float.

:func:`parse_json` gives ``int``, ``Decimal`` and ``str``; the readers below make whole numbers and decimal text of
them, and refuse the rest. Limits are checked first: ``int()`` of a Decimal with a huge exponent takes seconds.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

QUANTITY_DIGITS = 40  # what the feed promises for a quantity
MINOR_DIGITS = 18  # what fits the database's 64-bit integers
FIGURE_DIGITS = 30
LONGEST_INTEGER = 4000
MOST_PARTS = 1_000_000  # objects and lists of one document; each takes a hundred times the memory of its two braces
DEEPEST_LEVEL = 32  # to which a document that is nested too deeply to parse is cut
SMALL = 10**MINOR_DIGITS  # a smaller int needs no check of its digits

_KINDS = (int, Decimal, str)
_INSIDES = (dict, list)
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_UNKEPT = re.compile("[\0\ud800-\udfff]")  # cannot be stored in databases or UTF-8
_ESCAPED = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")  # as JSON escapes them; a surrogate alone is half of a pair
# Text is skipped; unterminated text up to the end.
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]{1,60}(?:\.[0-9]{1,60})?(?:[eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True)
class OddNumber:
    """A number of a JSON document that is out of range, or ``NaN``, as it was written."""

    text: str


def parse_json(
    raw: bytes,
    parse_float: Callable[[str], Any] | None = None,
    parse_constant: Callable[[str], Any] | None = None,
    allow_half_pairs: bool = False,
    is_lenient: bool = False,
) -> Any:
    """JSON from UTF-8 bytes, numbers as ``int`` and ``Decimal``. Raises ValueError for anything else.

    It also refuses NaN and Infinity (unless ``parse_constant`` takes them), nesting or integers too large to parse, and
    half of a surrogate pair, which databases cannot store. ``allow_half_pairs``: the caller checks each text it keeps.
    ``is_lenient``: the caller checks each value; numbers that cannot be parsed become :class:`OddNumber`, and parts
    that are nested too deeply None.
    """
    try:
        document = _decoder(parse_float or _decimal, parse_constant, is_lenient).decode(raw.decode("utf-8"))
    except UnicodeDecodeError:  # Python's own words quote bytes
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError:
        raise ValueError("it is not JSON") from None
    except RecursionError:
        if is_lenient and (cut := _cut(raw)) != raw:
            return parse_json(cut, parse_float, parse_constant, allow_half_pairs, is_lenient)
        raise ValueError("nested too deeply") from None
    if not allow_half_pairs and may_be_unkept(raw):
        _refuse_half_surrogates(document)
    return document


@lru_cache(maxsize=16)  # to make one takes longer than a small document
def _decoder(
    parse_float: Callable[[str], Any], parse_constant: Callable[[str], Any] | None, is_lenient: bool
) -> json.JSONDecoder:
    return json.JSONDecoder(
        parse_float=_odd_or(parse_float) if is_lenient else parse_float,
        parse_int=_odd_or(_integer) if is_lenient else _integer,
        parse_constant=parse_constant or (OddNumber if is_lenient else _no_constant),
    )


def leaves(document: Any) -> Iterator[tuple[str, Any]]:
    """Every value of a parsed document that is no object and no list, with the name of the field that it stands in."""
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        field, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(field, each) for each in value]
        else:
            yield field, value


def json_text(value: Any, *, is_sorted: bool = False) -> str:
    """A parsed value as JSON again. A number that no float holds becomes text."""
    try:
        return json.dumps(value, default=_plain_number, sort_keys=is_sorted, allow_nan=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def whole_text(text: str) -> str:
    """Text that all databases, UTF-8 and JSON readers take: NUL and half of a surrogate pair become U+FFFD.

    For text that is stored or sent, such as a name cut within an emoji. Refuse such ids instead: two would become one.
    """
    return text if text.isascii() and "\0" not in text else _UNKEPT.sub("\ufffd", text)


def is_whole(text: str) -> bool:
    """Whether all databases can store this text, so that it may be looked for: none holds another."""
    return whole_text(text) == text


def may_be_unkept(raw: bytes) -> bool:
    """Whether text in this JSON may hold NUL or half of a surrogate pair; for most JSON it does not."""
    return _ESCAPED.search(raw) is not None


def is_crowded(raw: bytes) -> bool:
    """Whether this JSON may hold more than :data:`MOST_PARTS` objects and lists, without parsing it."""
    return raw.count(b"{") + raw.count(b"[") > MOST_PARTS


def finite(text: str) -> float:
    """For :func:`parse_json`, where floats are good enough. Raises ValueError for what no float can hold."""
    number = float(text)
    if math.isinf(number):
        raise ValueError("out of range")
    return number


def is_deeper(document: Any, levels: int) -> bool:
    """Whether objects and lists are nested more than ``levels`` deep."""
    level = [document] if isinstance(document, _INSIDES) else []
    while level and levels:
        insides = (each.values() if isinstance(each, dict) else each for each in level)
        level = [value for inside in insides for value in inside if isinstance(value, _INSIDES)]
        levels -= 1
    return bool(level)


def whole(value: object, digits: int) -> int:
    """A whole number of at most ``digits`` digits from an int, Decimal or numeric text; else ValueError.

    ``1000``, ``"1000"``, ``1e21`` and ``10.0`` are whole; ``1.5``, ``true`` and ``""`` are not.
    """
    if type(value) is int and -SMALL < value < SMALL and digits >= MINOR_DIGITS:
        return value
    number = _number(value)
    # adjusted() is the exponent of the first digit: this bounds the size before any big integer is made.
    if number and (number.adjusted() >= digits or number.adjusted() < 0):
        raise ValueError("out of range" if number.adjusted() >= digits else "not a whole number")
    if number != number.to_integral_value():
        raise ValueError("not a whole number")
    return int(number)


def figure(value: object) -> str:
    """The exact decimal text of a money figure, with all digits that were sent; else ValueError."""
    if type(value) is int and -SMALL < value < SMALL:
        return str(value)
    number = _number(value)
    if abs(number.adjusted()) >= FIGURE_DIGITS or len(number.as_tuple().digits) > FIGURE_DIGITS:
        raise ValueError("out of range")
    return format(number, "f")


def _number(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, _KINDS):
        raise ValueError("not a number")
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        raise ValueError("not a number")
    number = Decimal(value.strip() if isinstance(value, str) else value)
    if not number.is_finite():
        raise ValueError("not a number")
    return number


def _cut(raw: bytes) -> bytes:
    """JSON with ``null`` in place of each object and list deeper than :data:`DEEPEST_LEVEL`."""
    kept, level, begin = [], 0, 0
    for found in _STRUCTURE.finditer(raw):
        if found[0] in (b"[", b"{"):
            level += 1
            if level == DEEPEST_LEVEL + 1:
                kept += [raw[begin : found.start()], b"null"]
        elif found[0] in (b"]", b"}"):
            if level == DEEPEST_LEVEL + 1:
                begin = found.end()
            level -= 1
    return b"".join([*kept, raw[begin:]]) if level == 0 else raw


def _odd_or(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except ValueError:
            return OddNumber(text)

    return parsed


def _plain_number(value: object) -> float | str:
    if isinstance(value, Decimal):
        return float(value) if math.isfinite(float(value)) else str(value)
    if isinstance(value, OddNumber):
        return value.text
    raise TypeError(f"{type(value).__name__} is not JSON")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("a number is out of range") from None


def _integer(text: str) -> int:
    if len(text) > LONGEST_INTEGER:  # Python's own limit raises too, in words about Python
        raise ValueError("a number is too long")
    return int(text)


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _refuse_half_surrogates(document: Any) -> None:
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if _HALF_PAIR.search(value):
                raise ValueError("half of a surrogate pair")
        elif isinstance(value, dict):
            waiting.extend(value)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
