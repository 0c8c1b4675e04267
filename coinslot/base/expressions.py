"""Conversions between our words and a game's own format: JMESPath, with functions of ours (``functions.py``).

An :class:`Expression` turns one JSON document into one JSON value, or raises :class:`ExpressionError`, whatever the
document holds. The size of the document bounds time and memory. JMESPath does not know Decimal, so documents are made
:func:`plain` first.
"""

import math
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any

import jmespath
from jmespath.exceptions import IncompleteExpressionError, JMESPathError, LexerError, ParseError

from coinslot.base import exact
from coinslot.base.functions import KEPT_EXPRESSIONS, ExpressionFunctions, Lookup
from coinslot.base.limits import DEEPEST, LARGEST, ExpressionError, Limits, size_of, too_deep
from coinslot.base.moments import (
    UnfitError,
    time_zone,
)
from coinslot.base.steps import Interpreter, Step, make_members, members_of, step_of

LONGEST_EXPRESSION = 8192


@dataclass(frozen=True)
class Expression:
    """A checked JMESPath expression. Any number of threads may apply it at once."""

    text: str
    _step: Step = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> "Expression":
        """Raises :class:`ExpressionError`, which says where and what is wrong, also with functions and arguments."""
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
        """The JSON value that this expression makes of a document; parts of it may be parts of the document.

        Raises :class:`ExpressionError` with the function and the kind of value that did not fit, never the value, and
        whatever ``lookup(table, key)`` raises. ``allow_half_pairs``: the caller checks each text that it keeps for half
        of a surrogate pair. ``is_parsed``: the document comes from :func:`coinslot.base.exact.parse_json` with plain
        numbers, or from an expression on such a document; any other is checked first.
        """
        if not is_parsed:
            size_of(document, None, allow_half_pairs=True)
        limits = Limits(document)
        try:
            where = time_zone(zone)
        except UnfitError as error:
            raise ExpressionError(str(error)) from None
        functions = ExpressionFunctions(where, lookup, limits)
        try:
            result = self._step(Interpreter(functions, limits), document)
        except RecursionError:  # the caller may be deep in the stack already
            raise ExpressionError("the expression is nested too deeply") from None
        limits.size(result, allow_half_pairs=allow_half_pairs)
        return result


def plain(document: Any) -> Any:
    """A document of :func:`coinslot.base.exact.parse_json` with plain JSON numbers in place of Decimals.

    A whole number stays exact, as an int; a fraction becomes the nearest float, which keeps at least 15 digits.
    Raises :class:`ExpressionError` for a number no float reaches, and for a document nested too deeply.
    """
    return _plain(document, 1)


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
        raise too_deep("the expression") from None
    except JMESPathError:  # of text without a word in it
        raise ExpressionError("the expression is empty") from None
    except ValueError:  # of int(), about 4,300 digits in a row
        raise ExpressionError("a number in the expression is too long") from None
    _check(tree)
    is_object = tree["type"] == "multi_select_dict"  # as most are; the result is weighed at the end
    return Expression(text, partial(make_members, members_of(tree)) if is_object else step_of(tree))


def _check(tree: Any) -> None:
    waiting = [(tree, 1)]
    while waiting:
        node, level = waiting.pop()
        if level > DEEPEST:
            raise too_deep("the expression")
        if node["type"] == "slice":
            if node["children"][2] == 0:
                raise ExpressionError("a slice cannot go in steps of 0")
            continue
        if node["type"] == "function_expression":
            _check_call(node["value"], len(node["children"]))
        elif "value" in node:
            size_of(node["value"], LARGEST)
        waiting.extend((child, level + 1) for child in node["children"])


def _check_call(name: str, count: int) -> None:
    if name not in ExpressionFunctions.FUNCTION_TABLE:
        raise ExpressionError(f"there is no function {name[:50]}()")
    takes = ExpressionFunctions.FUNCTION_TABLE[name]["signature"]
    is_variadic = bool(takes[-1].get("variadic"))
    if count < len(takes) or (count > len(takes) and not is_variadic):
        least = "at least " if is_variadic else ""
        word = "argument" if len(takes) == 1 else "arguments"
        raise ExpressionError(f"{name}() takes {least}{len(takes)} {word}, not {count}")


def _plain(value: Any, level: int) -> Any:
    if isinstance(value, Decimal):
        return _plain_number(value)
    if isinstance(value, dict | list) and level > DEEPEST:
        raise too_deep("the document")
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
