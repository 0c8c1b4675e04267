"""The answers of the game's payment API: their JSON, and what they say of further pages."""

import codecs
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from coinslot.base import exact
from coinslot.base.errors import CoinslotError
from coinslot.base.outbound import Answer

KEY_REFUSED = "playcamp.payments_key is refused"  # the start of an error that only another key or proof can end
_TRANSIENT = (408, 425, 429)
_REFUSED_KEY = (401, 403)

MOST_ROWS = 200_000  # of a page: no more real rows fit into its bytes
DOUBTFUL_TRIES = 3  # of an answer that makes no sense: it may be a page about maintenance
_LONG = re.compile(r"-?(?=.{16,62}\Z)[0-9]+\.[0-9]+")  # with more digits than every float keeps
LEVELS_OF_FIGURES = 3
_MOST_MEMBERS = 50  # of an object that describes the answer: a larger one holds rows


class SourceError(CoinslotError):
    """A page could not be read. The message is for the owner and holds nothing of what was sent or received.

    ``tries``: how often in a row a page may fail in this way before its range is read from its start, since the place
    of the page may no longer be valid; None: without limit.
    """

    def __init__(self, message: str, tries: int | None = DOUBTFUL_TRIES, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.tries = tries
        self.retry_after_seconds = retry_after_seconds


def figures(document: Any, levels: int) -> Iterator[tuple[str, Any]]:
    """The members of an answer's objects, but not of its lists; names in lower case without punctuation."""
    for name, value in document.items() if isinstance(document, dict) and len(document) <= _MOST_MEMBERS else ():
        yield re.sub("[^a-z]", "", name.lower()), value
        if levels:
            yield from figures(value, levels - 1)


def document_of(answer: Answer) -> Any:
    """The JSON of an answer, ready for expressions. Raises :class:`SourceError`."""
    if answer.failure is not None:
        tries = DOUBTFUL_TRIES if answer.failure in ("redirect", "too_large") else None
        raise SourceError(f"the game's payment API: {answer.detail or answer.failure}", tries)
    if answer.status != 200:
        is_key_refused = answer.status in _REFUSED_KEY
        is_refused = answer.status is not None and 400 <= answer.status < 500 and answer.status not in _TRANSIENT
        tries = DOUBTFUL_TRIES if is_key_refused else 1 if is_refused else None
        refused = f"{KEY_REFUSED}: " if is_key_refused else ""
        raise SourceError(
            f"{refused}the game's payment API answered {answer.status}", tries, answer.retry_after_seconds or 0.0
        )
    if exact.is_crowded(answer.body):
        raise SourceError(f"the game's payment API answered with more than {exact.MOST_PARTS:,} objects and lists")
    try:
        return parse(answer.body)
    except ValueError:
        raise SourceError("the game's payment API answered with something that is not JSON in UTF-8") from None


def parse(body: bytes) -> Any:
    """A page as expressions take it. Raises ValueError for what is not JSON in UTF-8.

    NaN, a number beyond any float and one with more digits than a float keeps stay text: so only one row has a problem,
    and no amount loses digits.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    return exact.parse_json(body, parse_float=number, parse_constant=str, allow_half_pairs=True)


def number(text: str) -> int | float | str:
    """A number for expressions; text if a float would change it."""
    value = float(text)
    if math.isinf(value) or (_LONG.fullmatch(text) and Decimal(repr(value)) != Decimal(text)):
        return text
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def kind_of(value: Any) -> str:
    """The kind of a JSON value, with its article."""
    if value is None:
        return "null"
    words = {bool: "a boolean", str: "a text", list: "a list", dict: "an object"}
    return words.get(type(value), "a number")
