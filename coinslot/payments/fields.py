"""The fields of a reported payment, read one by one. What is wrong with one becomes a problem; nothing raises."""

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
_UNSEEN = re.compile("[\u034f\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # no width, and no format characters


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
    """A transaction id without what nobody sees: in NFC, and with no characters that have no width."""
    if text.isascii():
        return text
    seen = "".join(each for each in _UNSEEN.sub("", text) if unicodedata.category(each) != "Cf")
    return spellings.composed(seen)


def unknown_market(market: str | None) -> str:
    """The problem of a payment whose market is not configured."""
    return f"market {market} is in no table"


def id_of(
    row: Mapping[str, Any], name: str, problems: list[str], spelled: Callable[[str], str] = str.strip
) -> str | None:
    value = row.get(name)
    if value is None or value == "":
        problems.append(f"{name} is missing")
        return None
    text = text_of(value)
    if text is None:
        problems.append(f"{name}: not text")
        return None
    try:
        return checked_id(spelled(text).strip())
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return None


def product_name_of(value: object) -> str | None:
    """A name that cannot be kept is none: no payment waits for one."""
    try:
        return checked_text(value, LONGEST_NAME) or None if isinstance(value, str) else None
    except ValueError:
        return None


def amount_of(value: object, problems: list[str]) -> str | None:
    if value is None:
        problems.append("amount is missing")
        return None
    try:
        text = exact.figure(repr(value) if isinstance(value, float) else value)
    except ValueError as error:
        problems.append(f"amount: {error}")
        return None
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    number = Decimal(text)
    if number < 0:
        problems.append("amount is below 0")
        return None
    if number and number.adjusted() >= AMOUNT_DIGITS:
        problems.append("amount: out of range")
        return None
    return text.removeprefix("-")  # of nothing at all


def currency_of(value: object, problems: list[str]) -> str | None:
    if value is None or value == "":
        problems.append("currency is missing")
        return None
    code = value.strip().upper() if isinstance(value, str) else ""
    if not (len(code) == 3 and code.isascii() and code.isalpha()):
        problems.append("currency: use three letters (ISO 4217)")
        return None
    return code


def place_of(row: Mapping[str, Any], rules: Rules, problems: list[str]) -> tuple[str | None, str | None, str | None]:
    """Market, platform and distribution type; what the row does not say, its market says. The fee hangs on it."""
    market = _word(row, "market", problems)
    platform = _one_of(row, "platform", rules.platforms, problems)
    distribution_type = _one_of(row, "distributionType", rules.distribution_types, problems)
    if platform is not None and distribution_type is not None:
        return market, platform, distribution_type
    if market is None:
        if not any(problem.startswith(("market", "platform", "distributionType")) for problem in problems):
            problems.append(NO_PLACE)
        return market, platform, distribution_type
    found = rules.markets.get(market.lower())
    if found is None:
        problems.append(unknown_market(market))
        return market, platform, distribution_type
    return market, platform or found[0], distribution_type or found[1]


def _word(row: Mapping[str, Any], name: str, problems: list[str]) -> str | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    word = value.strip() if isinstance(value, str) else ""
    if not (word and len(word) <= LONGEST_MARKET and word.isprintable()):
        problems.append(f"{name}: use text of up to {LONGEST_MARKET} printable characters")
        return None
    return word


def _one_of(row: Mapping[str, Any], name: str, words: Collection[str], problems: list[str]) -> str | None:
    """The word as it is spelled, however the row writes it."""
    value = row.get(name)
    if value is None or value == "":
        return None
    if value in words if isinstance(value, str) else False:
        return str(value)
    wanted = value.strip().lower() if isinstance(value, str) else None
    found = next((word for word in words if word.lower() == wanted), None)
    if found is None:
        problems.append(f"{name}: use one of {', '.join(words)}")
    return found


def purchased_of(value: object, zone: str, now: float, problems: list[str]) -> str | None:
    if value is None or value == "":
        problems.append("purchasedAt is missing")
        return None
    seconds = _moment(value, zone)
    if seconds is None:
        problems.append("purchasedAt: use Unix seconds, milliseconds or ISO 8601")
        return None
    if seconds > now + FUTURE_SECONDS:
        problems.append("purchasedAt is in the future: is its time zone right?")
        return None
    stamped = clock.stamp(seconds)
    if stamped < clock.FIRST_YEAR:
        problems.append(f"purchasedAt is before {clock.FIRST_YEAR}")
        return None
    return stamped


def refunded_of(row: Mapping[str, Any], zone: str, now: float, problems: list[str]) -> str | None:
    """When it was refunded, now where that is not said or cannot be; None where it stands."""
    status = row.get("status")
    word = status.strip().lower() if isinstance(status, str) else "paid" if status is None else None
    if word in ("paid", ""):
        return None
    if word != "refunded":
        problems.append("status: use paid or refunded")
        return None
    seconds = _moment(row.get("refunded_at"), zone)
    return clock.stamp(now if seconds is None else min(seconds, now))


def _moment(value: object, zone: str) -> float | None:
    try:
        return moments.milliseconds(str(value) if isinstance(value, Decimal) else value, zone) / 1000
    except moments.UnfitError:
        return None
