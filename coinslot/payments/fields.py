"""The fields of a reported payment, read one by one. What is wrong with one is a :class:`FieldError`."""

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from coinslot.base import clock, exact, moments, spellings
from coinslot.games.readers import text_of
from coinslot.games.registry import checked_id, checked_text

AMOUNT_DIGITS = 15  # before the point
LONGEST_NAME = 255  # of a product
LONGEST_MARKET = 64
FUTURE_SECONDS = 3600.0  # less than the offset of any zone that a time could have been misread in
NO_PLACE = "it has neither a market nor both platform and distributionType"
_INVISIBLE = re.compile("[\u034f\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # beside the format characters


class FieldError(ValueError):
    """A field cannot be used; the message names it and says why, for the owner."""


@dataclass(frozen=True)
class Rules:
    """What a payment must be like. ``markets``: name in lower case -> platform, distribution type.

    ``zone`` is that of times without an offset.
    """

    platforms: Collection[str]
    distribution_types: Collection[str]
    markets: Mapping[str, tuple[str, str]]
    zone: str = "UTC"


def canonical_id(text: str) -> str:
    """A transaction id in NFC and without invisible characters."""
    if text.isascii():
        return text
    visible = "".join(each for each in _INVISIBLE.sub("", text) if unicodedata.category(each) != "Cf")
    return spellings.composed(visible)


def unknown_market(market: str | None) -> str:
    """The problem of a payment whose market is not configured."""
    return f"market {market} is in no table"


def id_of(row: Mapping[str, Any], name: str, spelled: Callable[[str], str] = str.strip) -> str:
    """An id: text, or a whole number. Raises FieldError."""
    value = row.get(name)
    if value is None or value == "":
        raise FieldError(f"{name} is missing")
    text = text_of(value)
    if text is None:
        raise FieldError(f"{name}: not text")
    try:
        return checked_id(spelled(text).strip())
    except ValueError as error:
        raise FieldError(f"{name}: {error}") from None


def product_name_of(value: object) -> str | None:
    """The name of a product; None for one that cannot be stored, since no payment waits for it."""
    try:
        return checked_text(value, LONGEST_NAME) or None if isinstance(value, str) else None
    except ValueError:
        return None


def amount_of(value: object) -> str:
    """Exact decimal text from 0 on, in major units, without trailing zeros. Raises FieldError."""
    if value is None:
        raise FieldError("amount is missing")
    try:
        text = exact.figure(repr(value) if isinstance(value, float) else value)
    except ValueError as error:
        raise FieldError(f"amount: {error}") from None
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    number = Decimal(text)
    if number < 0:
        raise FieldError("amount is below 0")
    if number and number.adjusted() >= AMOUNT_DIGITS:
        raise FieldError("amount: out of range")
    return text.removeprefix("-")  # of -0


def currency_of(value: object) -> str:
    """Three letters (ISO 4217), in upper case. Raises FieldError."""
    if value is None or value == "":
        raise FieldError("currency is missing")
    code = value.strip().upper() if isinstance(value, str) else ""
    if not (len(code) == 3 and code.isascii() and code.isalpha()):
        raise FieldError("currency: use three letters (ISO 4217)")
    return code


def market_of(value: object) -> str | None:
    """The market; None if the row names none. Raises FieldError."""
    if value is None or value == "":
        return None
    word = value.strip() if isinstance(value, str) else ""
    if not (word and len(word) <= LONGEST_MARKET and word.isprintable()):
        raise FieldError(f"market: use text of up to {LONGEST_MARKET} printable characters")
    return word


def one_of(value: object, name: str, words: Collection[str]) -> str | None:
    """The word of a table, in whatever case the row writes it; None if there is none. Raises FieldError."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and value in words:
        return value
    wanted = value.strip().lower() if isinstance(value, str) else None
    found = next((word for word in words if word.lower() == wanted), None)
    if found is None:
        raise FieldError(f"{name}: use one of {', '.join(words)}")
    return found


def place_of(market: str | None, rules: Rules) -> tuple[str, str]:
    """Platform and distribution type of a market; the second decides the store fee. Raises FieldError."""
    if market is None:
        raise FieldError(NO_PLACE)
    found = rules.markets.get(market.lower())
    if found is None:
        raise FieldError(unknown_market(market))
    return found


def purchased_of(value: object, zone: str, now: float) -> str:
    """The time of purchase as a stamp. Raises FieldError."""
    if value is None or value == "":
        raise FieldError("purchasedAt is missing")
    seconds = _moment(value, zone)
    if seconds is None:
        raise FieldError("purchasedAt: use Unix seconds, milliseconds or ISO 8601")
    if seconds > now + FUTURE_SECONDS:
        raise FieldError("purchasedAt is in the future: is its time zone right?")
    stamped = clock.stamp(seconds)
    if stamped < clock.FIRST_YEAR:
        raise FieldError(f"purchasedAt is before {clock.FIRST_YEAR}")
    return stamped


def refunded_of(row: Mapping[str, Any], zone: str, now: float) -> str | None:
    """When it was refunded, as a stamp; now if that is missing or unreadable; None if it is paid. Raises FieldError."""
    status = row.get("status")
    word = status.strip().lower() if isinstance(status, str) else "paid" if status is None else None
    if word in ("paid", ""):
        return None
    if word != "refunded":
        raise FieldError("status: use paid or refunded")
    seconds = _moment(row.get("refunded_at"), zone)
    return clock.stamp(now if seconds is None else min(seconds, now))


def _moment(value: object, zone: str) -> float | None:
    try:
        return moments.milliseconds(str(value) if isinstance(value, Decimal) else value, zone) / 1000
    except moments.UnfitError:
        return None
