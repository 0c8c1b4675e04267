"""Single values of a partner's or a game's JSON, read leniently: None for a value that is nothing of the kind."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from coinslot.base import clock, exact, signing
from coinslot.games.registry import LONGEST_ID, checked_id

LONGEST_TIME = 64
_TOO_LONG = 10**LONGEST_ID  # made once: ids that are numbers are read by the thousand
_UNIX_TIME = re.compile(r"([0-9]{9,20})(?:\.[0-9]+)?")  # fewer digits: a date such as 20260131


def text_of(value: Any) -> str | None:
    """Text that is not empty, or the digits of an integer: senders write ids both ways."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _TOO_LONG:
        return str(value)
    return value if isinstance(value, str) and value else None


def id_of(value: Any) -> str | None:
    """An id that :func:`coinslot.games.registry.checked_id` takes."""
    try:
        return checked_id(text_of(value) or "")
    except ValueError:
        return None


def whole_of(value: Any, digits: int = exact.MINOR_DIGITS) -> int | None:
    """A whole number from 0 on, of at most ``digits`` digits."""
    try:
        number = exact.whole(value, digits)
    except ValueError:
        return None
    return number if number >= 0 else None


def figure_of(value: Any) -> str | None:
    """The exact decimal text of a money figure."""
    try:
        return exact.figure(value)
    except ValueError:
        return None


def moment_of(value: Any) -> str | None:
    """A time as a stamp of :mod:`coinslot.base.clock`, from ISO 8601 (without a zone: UTC) or Unix (milli)seconds."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value) > LONGEST_TIME:
        return None
    text = value.strip()
    try:
        if unix := _UNIX_TIME.fullmatch(text):
            return clock.stamp(signing.unix_seconds(unix[1]))
        found = datetime.fromisoformat(text)
        return clock.stamp((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def at_path(document: Any, path: str) -> Any:
    """The value at a path such as ``customer.id``; None where there is none."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, Mapping) else None
    return document
