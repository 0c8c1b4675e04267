"""What was reported of an in-game payment, read once: a payment that can be sent, or the reason why it cannot.

Reports come from the game's own interface, from its pushes and out of our ledger, and may say anything. :func:`check`
takes each for what it is: every field by itself, so that a :class:`Payment` tells all that is wrong with it at once,
and keeps what a better configuration could make more of. Nothing here raises for what was reported, or stores it.

A payment may be too cheap to be sent, or name a reserved id; that is no problem of it, but ``kept_because`` says so.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from coinslot.base import clock
from coinslot.games.registry import RESERVED_ID
from coinslot.payments.fields import (
    NO_PLACE,
    Rules,
    amount_of,
    canonical_id,
    currency_of,
    id_of,
    place_of,
    product_name_of,
    purchased_of,
    refunded_of,
)

LEAST_AMOUNT = Decimal("0.01")
LONGEST_ROW = 16 * 1024
LONGEST_KEPT_TEXT = 500
LONGEST_REASON = 500

UNADDRESSABLE = (".", "..")  # as ids: no address can name them, since they stand for another path
UNREADABLE = "unreadable:"  # and a digest: stands for the id of a row that has none
UNMAPPED = "unmapped"  # in ``payments.reported``: the game's own row, of which nothing could be made that can be sent

TOO_CHEAP = f"the amount is below {LEAST_AMOUNT}"
A_TEST = f"it names {RESERVED_ID}"


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
    transaction_id = id_of(row, "transactionId", problems, canonical_id)
    if transaction_id in UNADDRESSABLE:
        problems.append(f"transactionId: no address can name {transaction_id}, so its refund could not be asked for")
    player_id = id_of(row, "userId", problems)
    product_id = id_of(row, "productId", problems)
    amount = amount_of(row.get("amount"), problems)
    currency = currency_of(row.get("currency"), problems)
    market, platform, distribution_type = place_of(row, rules, problems)
    purchased_at = purchased_of(row.get("purchasedAt"), rules.zone, now, problems)
    refunded_at = refunded_of(row, rules.zone, now, problems)
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
        product_name=product_name_of(row.get("productName")),
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


# How


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
