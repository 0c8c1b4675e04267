"""How much an expression may do: the size of the document bounds time and memory."""

import math
from typing import Any

from jmespath.visitor import _Expression

from coinslot.base.exact import SMALL

DEEPEST = 64  # levels: of an expression, a document, a result
LARGEST = 1024 * 1024  # of any value on the way, in about the characters of its JSON; a larger document allows more
FREE_LENGTH = 64  # of a text that is not weighed
FREE_WORK = 200_000  # a step, or 8 characters looked at, is 1; a larger document allows more
INTEGER_BITS = 13_288  # as long as exact.LONGEST_INTEGER


class ExpressionError(Exception):
    """An expression cannot be read or applied; the message is for the owner and holds no value of a document."""


class TooLargeError(ExpressionError):
    """A value is larger than :class:`Limits` allows."""


class Limits:
    """What one evaluation may cost. Every value made on the way is weighed, so that none grows too large.

    Values share their parts: ``[@,@] | [@,@] | ...`` is small in memory and doubles as JSON with each step. So a value
    weighs what its JSON would, and weighing stops where that is too much. The document is weighed only when the free
    limits do not suffice.
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
            return size_of(value, self._largest, allow_half_pairs=allow_half_pairs)
        except TooLargeError:
            if self._is_weighed:
                raise
            return size_of(value, self.largest, allow_half_pairs=allow_half_pairs)

    def weigh(self, value: Any) -> None:
        kind = type(value)  # most are small, and the step that made them is counted
        if value is None or (kind is str and len(value) < FREE_LENGTH) or (kind is int and -SMALL < value < SMALL):
            return
        self.spend(self.size(value, allow_half_pairs=True) // 8)

    def _weigh_document(self) -> None:
        if not self._is_weighed:
            self._is_weighed = True
            size = size_of(self._document, None, allow_half_pairs=True)
            self._largest = max(LARGEST, size)
            self._left += 2 * size


def size_of(root: Any, most: int | None, *, allow_half_pairs: bool = False) -> int:
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
                    raise too_deep("a value")
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


def too_deep(what: str) -> ExpressionError:
    return ExpressionError(f"{what} is nested deeper than {DEEPEST} levels")


def _too_large() -> ExpressionError:
    return TooLargeError("a value grows too large")
