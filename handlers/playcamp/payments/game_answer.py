"""What the game's API answers about payments: its JSON, and what it says of further pages."""

import codecs
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from coinslot.base import exact
from coinslot.base.errors import CoinslotError
from coinslot.base.outbound import Answer

KEY_REFUSED = "playcamp.payments_key is refused"  # how an error begins that only another proof can end
_TRANSIENT = (408, 425, 429)
_REFUSED_KEY = (401, 403)

MOST_ROWS = 200_000  # of a page: as many as real ones fit into its bytes
DOUBTFUL_TRIES = 3  # of an answer that makes no sense: a page of errors, or of maintenance, that will be over
_LONG = re.compile(r"-?(?=.{16,62}\Z)[0-9]+\.[0-9]+")  # with more digits than every float keeps
LEVELS_OF_FIGURES = 3
_MOST_MEMBERS = 50  # of an object that says something of the answer: a larger one holds rows


class SourceError(CoinslotError):
    """A page could not be had. The message is for the owner and holds nothing of what was sent or came back.

    ``tries``: how often in a row a page may fail so before its range is begun anew, since it may be that nothing can
    be asked for by its place any more; None: as often as it does.
    """

    def __init__(self, message: str, tries: int | None = DOUBTFUL_TRIES, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.tries = tries
        self.retry_after_seconds = retry_after_seconds


def figures(document: Any, levels: int) -> Iterator[tuple[str, Any]]:
    """What the objects of an answer hold besides its lists, by names that are compared."""
    for name, value in document.items() if isinstance(document, dict) and len(document) <= _MOST_MEMBERS else ():
        yield re.sub("[^a-z]", "", name.lower()), value
        if levels:
            yield from figures(value, levels - 1)


def document_of(answer: Answer) -> Any:
    """The JSON of an answer, as :func:`coinslot.base.expressions.plain` would have it. Raises :class:`SourceError`."""
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

    A number that is none in JSON stays text, as does one that no float reaches: only its row suffers. So does one with
    more digits than a float keeps: an amount loses none of them.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    return exact.parse_json(body, parse_float=number, parse_constant=str, allow_half_pairs=True)


def number(text: str) -> int | float | str:
    """A number for expressions; one that a float would change stays text."""
    value = float(text)
    if math.isinf(value) or (_LONG.fullmatch(text) and Decimal(repr(value)) != Decimal(text)):
        return text
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def kind_of(value: Any) -> str:
    if value is None:
        return "null"
    words = {bool: "a boolean", str: "a text", list: "a list", dict: "an object"}
    return words.get(type(value), "a number")
