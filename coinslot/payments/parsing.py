"""What was reported of an in-game payment: a payment that can be sent, or the reason why it cannot.

Reports come from the game's API, from its pushes and from our ledger, and may say anything. :func:`check` reads each
field by itself, so that a :class:`Payment` names everything that is wrong, and keeps what a better configuration could
read. Nothing here raises for what was reported, or stores it.

A payment may be too cheap to be sent, or name a reserved id. That is no problem: ``kept_because`` says so.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

from coinslot.base import clock
from coinslot.games.registry import RESERVED_ID
from coinslot.payments import fields
from coinslot.payments.fields import FieldError, Rules

LEAST_AMOUNT = Decimal("0.01")
LONGEST_ROW = 16 * 1024
LONGEST_KEPT_TEXT = 500
LONGEST_REASON = 500

UNADDRESSABLE = (".", "..")  # ids that no path can hold: they stand for another path
UNREADABLE = "unreadable:"  # and a digest: the id of a row that has none
UNMAPPED = "unmapped"  # in ``payments.reported``: the game's own row, which became no payment that can be sent

TOO_CHEAP = f"the amount is below {LEAST_AMOUNT}"
A_TEST = f"it names {RESERVED_ID}"

_ENCODER = json.JSONEncoder(default=str, sort_keys=True)  # json.dumps makes one for each row
_NUMBERS = (int, float, Decimal)
_FIELDS = frozenset(
    "transactionId userId productId productName amount currency market platform distributionType purchasedAt status "
    "refunded_at".split()
)

T = TypeVar("T")


@dataclass(frozen=True)
class Payment:
    """A payment as it was reported, with every field that could be read. ``problem`` says why it cannot be sent.

    ``amount`` is exact decimal text in major units, ``purchased_at`` and ``refunded_at`` (None: not refunded) are
    stamps. ``kept_because`` says why a payment without a problem is not sent. ``row`` is JSON.
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
    is_incomplete: bool = False  # its only problem is that fields are missing
    kept_because: str | None = None

    @property
    def fingerprint(self) -> str:
        """A digest of the content. A product may be renamed, and a time may come with fewer digits.

        The market is compared apart, since its meaning is configuration. A problem is content too.
        """
        second = self.purchased_at and self.purchased_at[:19]
        content = [self.player_id, self.product_id, self.amount, self.currency, second]
        content += [] if self.problem is None else [self.problem]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def check(
    row: object, rules: Rules, source: str, *, raw: object = None, is_test: bool = False, at: float | None = None
) -> Payment:
    """The payment of a row; never raises. Its ``problem`` says in sentences what is wrong.

    ``row`` has ``transactionId``, ``userId``, ``productId``, ``amount`` (number or text), ``currency``, ``market`` or
    ``platform`` and ``distributionType``, ``purchasedAt`` (Unix seconds, milliseconds or ISO 8601), and perhaps
    ``productName``, ``status`` (``paid`` or ``refunded``) and ``refunded_at``. Numbers may be int, float or Decimal.
    ``raw`` is the game's own row, stored if there is a problem with what was made of it. ``is_test``: it is of a
    sandbox. ``at`` is when it was reported, if that was not now.
    """
    now = clock.now() if at is None else at
    if not isinstance(row, Mapping):
        return unmapped(row if raw is None else raw, "the mapping did not produce an object", source, is_test=is_test)
    problems: list[str] = []

    def read(reader: Callable[..., T], *values: Any) -> T | None:
        try:
            return reader(*values)
        except FieldError as error:
            problems.append(str(error))
            return None

    transaction_id = read(fields.id_of, row, "transactionId", fields.canonical_id)
    if transaction_id in UNADDRESSABLE:
        problems.append(f"transactionId: no address can name {transaction_id}, so its refund could not be asked for")
    player_id = read(fields.id_of, row, "userId")
    product_id = read(fields.id_of, row, "productId")
    amount = read(fields.amount_of, row.get("amount"))
    currency = read(fields.currency_of, row.get("currency"))
    before = len(problems)
    market = read(fields.market_of, row["market"]) if "market" in row else None
    platform = distribution_type = None
    if "platform" in row:
        platform = read(fields.one_of, row["platform"], "platform", rules.platforms)
    if "distributionType" in row:
        distribution_type = read(fields.one_of, row["distributionType"], "distributionType", rules.distribution_types)
    if platform is None or distribution_type is None:
        is_unreadable = market is None and len(problems) > before
        place = None if is_unreadable else read(fields.place_of, market, rules)
        if place is not None:
            platform, distribution_type = platform or place[0], distribution_type or place[1]
    purchased_at = read(fields.purchased_of, row.get("purchasedAt"), rules.zone, now)
    refunded_at = read(fields.refunded_of, row, rules.zone, now)
    is_reserved = RESERVED_ID in (player_id, product_id)
    is_too_cheap = amount is not None and Decimal(amount) < LEAST_AMOUNT
    # The game's own words are stored of a row with a problem: another configuration may read them.
    kept_row = _kept_row(row) if raw is None or not problems else _unmapped_row(raw)
    return Payment(
        transaction_id=_stand_in(kept_row if raw is None else _json(raw)) if transaction_id is None else transaction_id,
        source=source,
        row=kept_row,
        player_id=player_id,
        product_id=product_id,
        product_name=fields.product_name_of(row.get("productName")),
        amount=amount,
        currency=currency,
        market=market,
        platform=platform,
        distribution_type=distribution_type,
        purchased_at=purchased_at,
        refunded_at=refunded_at,
        is_test=is_test or is_reserved,
        problem="; ".join(problems)[:LONGEST_REASON] or None,
        is_incomplete=bool(problems)
        and all(each.endswith("is missing") or each == fields.NO_PLACE for each in problems),
        kept_because=A_TEST if is_reserved else TOO_CHEAP if is_too_cheap else None,
    )


def unmapped(raw: object, reason: str, source: str, *, is_test: bool = False) -> Payment:
    """A row of the game's that became no payment, to be parked under an id that is the same next time."""
    return Payment(_stand_in(_json(raw)), source, _unmapped_row(raw), is_test=is_test, problem=reason[:LONGEST_REASON])


def _kept_row(row: Mapping[str, Any]) -> str:
    """The row as JSON: our fields alone, without long texts and values of other types."""
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
