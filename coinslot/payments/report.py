"""What was reported of an in-game payment, read once: a payment that can be sent, or the reason why it cannot.

Reports come from the game's own interface, from its pushes and out of our ledger, and may say anything. :func:`check`
takes each for what it is: every field by itself, so that a :class:`Payment` tells all that is wrong with it at once,
and keeps what a better configuration could make more of. Nothing here raises for what was reported, or stores it.

A payment may be too cheap to be sent, or name a reserved id; that is no problem of it, but ``kept_because`` says so.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from coinslot.base import clock, exact, moments, spellings
from coinslot.games.registry import RESERVED_ID, checked_id, checked_text

LEAST_AMOUNT = Decimal("0.01")
AMOUNT_DIGITS = 15  # before the point
LONGEST_NAME = 255  # of a product
LONGEST_MARKET = 64
FUTURE_SECONDS = 3600.0  # less than the offset of any zone that a time could have been misread in
LONGEST_ROW = 16 * 1024
LONGEST_KEPT_TEXT = 500
LONGEST_REASON = 500

UNADDRESSABLE = (".", "..")  # as ids: no address can name them, since they stand for another path
UNREADABLE = "unreadable:"  # and a digest: stands for the id of a row that has none
UNMAPPED = "unmapped"  # in ``payments.row``: the game's own row, of which nothing could be made that can be sent

TOO_CHEAP = f"the amount is below {LEAST_AMOUNT}"
A_TEST = f"it names {RESERVED_ID}"

NO_PLACE = "it has neither a market nor both platform and distributionType"

_UNSEEN = re.compile("[\u034f\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # no width, and no format characters
_NUMBERS = (int, float, Decimal)
_ENCODER = json.JSONEncoder(default=str, sort_keys=True)  # json.dumps makes one for each row
_FIELDS = {
    "transactionId",
    "userId",
    "productId",
    "productName",
    "amount",
    "currency",
    "market",
    "platform",
    "distributionType",
    "purchasedAt",
    "status",
    "refunded_at",
}


@dataclass(frozen=True)
class Rules:
    """What a payment must be like. ``markets``: name in lower case -> platform, distribution type.

    ``zone`` is that of times without an offset.
    """

    platforms: Collection[str]
    distribution_types: Collection[str]
    markets: Mapping[str, tuple[str, str]]
    zone: str = "UTC"


@dataclass(frozen=True)
class Payment:
    """A payment as it was reported. Everything that could be read is there; ``problem`` says why it cannot be sent.

    ``amount`` is exact decimal text in major units, ``purchased_at`` and ``refunded_at`` (None: it stands) are stamps.
    ``kept_because`` is set where nothing is wrong and it is not to be sent all the same. ``row`` is JSON.
    """

    transaction_id: str
    source: str
    row: str = field(repr=False)
    player_id: str | None = None
    product_id: str | None = None
    product_name: str | None = None
    amount: str | None = None
    currency: str | None = None
    market: str | None = None
    platform: str | None = None
    distribution_type: str | None = None
    purchased_at: str | None = None
    refunded_at: str | None = None
    is_test: bool = False
    problem: str | None = None
    is_incomplete: bool = False  # its problem is no more than that fields are missing
    kept_because: str | None = None

    @property
    def fingerprint(self) -> str:
        """Of what makes it this payment. A product may be renamed, and a time may come with fewer digits.

        Where it was bought is compared apart: a market's meaning is configuration. What could not be read of it is
        content too.
        """
        second = self.purchased_at and self.purchased_at[:19]
        content = [self.player_id, self.product_id, self.amount, self.currency, second]
        content += [] if self.problem is None else [self.problem]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def check(
    row: object, rules: Rules, source: str, *, raw: object = None, is_test: bool = False, at: float | None = None
) -> Payment:
    """The payment that a row tells of; never raises. What is wrong with it is its ``problem``, in sentences.

    ``row`` has ``transactionId``, ``userId``, ``productId``, ``amount`` (number or text), ``currency``, ``market`` or
    ``platform`` and ``distributionType``, ``purchasedAt`` (Unix seconds, milliseconds or ISO 8601), and perhaps
    ``productName``, ``status`` (``paid`` or ``refunded``) and ``refunded_at``. Numbers may be int, float or Decimal.
    ``raw`` is the game's own row, kept where there is a problem with what was made of it. ``is_test``: it is of a
    sandbox. ``at`` is when it was reported, if that was not now.
    """
    now = clock.now() if at is None else at
    if not isinstance(row, Mapping):
        return unmapped(row if raw is None else raw, "the row became no object", source, is_test=is_test)
    problems: list[str] = []
    transaction_id = _id(row, "transactionId", problems, canonical_id)
    if transaction_id in UNADDRESSABLE:
        problems.append(f"transactionId: no address can name {transaction_id}, so its refund could not be asked for")
    player_id = _id(row, "userId", problems)
    product_id = _id(row, "productId", problems)
    amount = _amount(row.get("amount"), problems)
    currency = _currency(row.get("currency"), problems)
    market, platform, distribution_type = _place(row, rules, problems)
    purchased_at = _purchased_at(row.get("purchasedAt"), rules.zone, now, problems)
    refunded_at = _refunded_at(row, rules.zone, now, problems)
    is_reserved = RESERVED_ID in (player_id, product_id)
    is_too_cheap = amount is not None and Decimal(amount) < LEAST_AMOUNT
    # Of what cannot be sent, the game's own words are kept: another configuration may make more of them.
    kept_row = _kept_row(row) if raw is None or not problems else _unmapped_row(raw)
    return Payment(
        transaction_id=_stand_in(kept_row if raw is None else _json(raw)) if transaction_id is None else transaction_id,
        source=source,
        row=kept_row,
        player_id=player_id,
        product_id=product_id,
        product_name=_product_name(row.get("productName")),
        amount=amount,
        currency=currency,
        market=market,
        platform=platform,
        distribution_type=distribution_type,
        purchased_at=purchased_at,
        refunded_at=refunded_at,
        is_test=is_test or is_reserved,
        problem="; ".join(problems)[:LONGEST_REASON] or None,
        is_incomplete=bool(problems) and all(each.endswith("is missing") or each == NO_PLACE for each in problems),
        kept_because=A_TEST if is_reserved else TOO_CHEAP if is_too_cheap else None,
    )


def unmapped(
    raw: object, reason: str, source: str, *, transaction_id: str | None = None, is_test: bool = False
) -> Payment:
    """A row of the game's that no payment could be made of, to be parked under an id that is the same next time."""
    stand_in = transaction_id or _stand_in(_json(raw))
    return Payment(stand_in, source, _unmapped_row(raw), is_test=is_test, problem=reason[:LONGEST_REASON])


def canonical_id(text: str) -> str:
    """A transaction id without what nobody sees: in NFC, and with no characters that have no width."""
    if text.isascii():
        return text
    seen = "".join(each for each in _UNSEEN.sub("", text) if unicodedata.category(each) != "Cf")
    return spellings.composed(seen)


def unknown_market(market: str | None) -> str:
    """The problem of a payment whose market is not configured."""
    return f"market {market} is in no table"


# How


def _id(
    row: Mapping[str, Any], name: str, problems: list[str], spelled: Callable[[str], str] = str.strip
) -> str | None:
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or value == "":
        problems.append(f"{name} is missing")
        return None
    try:
        if not isinstance(value, str):
            raise ValueError("not text")
        return checked_id(spelled(value).strip())
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return None


def _product_name(value: object) -> str | None:
    """A name that cannot be kept is none: no payment waits for one."""
    try:
        return checked_text(value, LONGEST_NAME) or None if isinstance(value, str) else None
    except ValueError:
        return None


def _amount(value: object, problems: list[str]) -> str | None:
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


def _currency(value: object, problems: list[str]) -> str | None:
    if value is None or value == "":
        problems.append("currency is missing")
        return None
    code = value.strip().upper() if isinstance(value, str) else ""
    if not (len(code) == 3 and code.isascii() and code.isalpha()):
        problems.append("currency: use three letters (ISO 4217)")
        return None
    return code


def _place(row: Mapping[str, Any], rules: Rules, problems: list[str]) -> tuple[str | None, str | None, str | None]:
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


def _purchased_at(value: object, zone: str, now: float, problems: list[str]) -> str | None:
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


def _refunded_at(row: Mapping[str, Any], zone: str, now: float, problems: list[str]) -> str | None:
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


def _kept_row(row: Mapping[str, Any]) -> str:
    """What was told of it, as JSON: our fields alone, and nothing that is no plain value or too long to be one."""
    return _json({name: value for name, value in row.items() if name in _FIELDS and _is_plain(value)})


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_KEPT_TEXT
    return value is None or isinstance(value, _NUMBERS)


def _unmapped_row(raw: object) -> str:
    text = _json({UNMAPPED: raw})
    return text if len(text) <= LONGEST_ROW else _json({UNMAPPED: None})


def _json(value: object) -> str:
    return _ENCODER.encode(value)


def _stand_in(text: str) -> str:
    return UNREADABLE + hashlib.sha256(text.encode()).hexdigest()[:32]
