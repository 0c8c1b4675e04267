"""What PlayCamp's webhooks say, in our words.

A call carries a batch, ``{"events": [...]}``, or one event alone. Documentation and Go SDK v0.0.8 (checked 2026-11):

* Nothing has an id: an event is known again by what it says, and one that names a coupon's usage or a payment by that,
  whenever it was sent.
* A change of creator is ``sponsor.changed``, or ``sponsor.ended`` and ``sponsor.created``. The first is read as the
  other two, so that whoever gets both spellings of one change has it once.
* Ids are text but for ``usageId``; samples of ``coupon.redeemed`` are without it, or without the reward.
* ``timestamp`` is ISO 8601, with or without milliseconds; in what a gateway has converted it is in seconds, so that a
  boost that begins, ends and begins again within one of them says the same twice.

A gateway of PlayCamp's sends ``{"custom_data", "usn", "creator_usn", "event", "timestamp"}`` in place of that, with the
words agreed for the game.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from coinslot.base import clock, exact, signing
from coinslot.games import registry
from coinslot.games.games import Game

MOST_EVENTS = 10_000  # of a batch; a body has room for about half as many that say something
LONGEST_NAME = 100
LONGEST_TIME = 64
DEEPEST = 64  # levels of an event
UNREADABLE = "playcamp.unreadable"
SPONSOR = ("sponsor.created", "sponsor.ended")

# PlayCamp's words for ids, and for what it counts, under ours.
IDS = {
    "userId": "player_id",
    "campaignId": "campaign_id",
    "creatorKey": "creator_key",
    "transactionId": "transaction_id",
    "currency": "currency",
    "platform": "platform",
}
COUNTS = {
    "totalRequested": "total_requested",
    "successful": "successful",
    "failed": "failed",
    "skipped": "skipped",
}
DOCUMENTED = ("coupon.redeemed", "payment.created", "payment.bulk_created", "payment.refunded")

# Names of fields that the game is not told from an event nobody has documented yet.
_UNTOLD = re.compile(r"mail|phone|passw|secret|token|address|couponcode|^(?:ott|ip|(?:user|first|last|full)?name)$")


@dataclass(frozen=True)
class Redeemed:
    """A coupon that was used up: ``lines`` are what its player gets, in no order."""

    usage_id: int
    lines: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Fact:
    """One thing an event says. ``name`` is PlayCamp's word for it, ``type`` the game's; ``raw`` is the event as JSON.

    ``creator_key`` is there for the begin or end of a boost of a known creator, ``coupon`` for a coupon whose reward
    can be granted. ``is_marked``: it is a test, whichever environment it comes from. ``opposite_key`` is there for a
    boost another gateway tells of: the ``dedupe_key`` of the same boost ending where this one begins, or the reverse.
    """

    name: str
    type: str
    dedupe_key: str
    data: Mapping[str, Any]
    raw: bytes = field(repr=False)
    is_marked: bool
    player_id: str | None = None
    external_id: str | None = None
    occurred_at: str | None = None
    creator_key: str | None = None
    coupon: Redeemed | None = None
    opposite_key: str | None = None

    @property
    def is_boost(self) -> bool:
        return self.type in SPONSOR


def parse(body: bytes) -> list[Any]:
    """The events of a call, as they are. Raises ValueError when it is no batch and no event either."""
    try:
        document = json.loads(
            body.decode("utf-8"), parse_float=_decimal, parse_int=_integer, parse_constant=_no_constant
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:
        raise ValueError("it is not JSON") from None
    if isinstance(document, dict) and "events" not in document and "event" in document:
        return [document]
    events = document.get("events") if isinstance(document, dict) else None
    if not isinstance(events, list):
        raise ValueError("it holds no list of events")
    if len(events) > MOST_EVENTS:
        raise ValueError(f"it holds more than {MOST_EVENTS} events")
    return events


def read(game: Game, event: Any) -> list[Fact]:
    """What an event says: one fact, or two for a change. Of what cannot be read, the fact that it cannot."""
    kept = _kept(event, DEEPEST)
    try:
        if not isinstance(event, dict):
            raise ValueError("it is not a JSON object")
        if exact.is_deeper(event, DEEPEST):
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")
        if "usn" in event and "data" not in event:
            return [_converted(game, event, kept)]
        return [_fact(game, half, kept) for half in _halves(event)]
    except ValueError as error:
        return [_unreadable(event, kept, str(error))]


def lines(rewards: Iterable[tuple[Any, Any]]) -> tuple[tuple[str, int], ...] | None:
    """Items and quantities, each item once; None unless there is something and all of it can be granted."""
    sums: dict[str, int] = {}
    for item_id, quantity in rewards:
        sku = _id(item_id)
        amount = _whole(quantity, exact.QUANTITY_DIGITS)
        if sku is None or not amount:
            return None
        sums[sku] = sums.get(sku, 0) + amount
    is_grantable = sums and all(amount < 10**exact.QUANTITY_DIGITS for amount in sums.values())
    return tuple(sums.items()) if is_grantable else None


def as_items(granted: tuple[tuple[str, int], ...]) -> list[dict[str, Any]]:
    return [{"sku": sku, "quantity": quantity} for sku, quantity in granted]


def moment(value: Any) -> str | None:
    """A time in our format, from ISO 8601 (without a zone: UTC) or from seconds or milliseconds; None for others."""
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        elif isinstance(value, Decimal):
            value = str(int(value)) if 0 <= value.adjusted() < LONGEST_TIME else ""
        if not isinstance(value, str) or len(value) > LONGEST_TIME:
            return None
        text = value.strip()
        if re.fullmatch("[0-9]+", text):
            seconds = signing.unix_seconds(text)
            return clock.stamp(seconds) if seconds > 0 else None
        found = datetime.fromisoformat(text)
        return clock.stamp((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def _halves(event: dict[str, Any]) -> list[dict[str, Any]]:
    """An event, or the two others that a change is the same as, in their order."""
    if event.get("event") != "sponsor.changed":
        return [event]
    data = _data(event)
    rest = {name: value for name, value in data.items() if name not in ("oldCreatorKey", "newCreatorKey")}
    return [
        {**event, "event": name, "data": {**rest, "creatorKey": _needed(data, key)}}
        for name, key in (("sponsor.ended", "oldCreatorKey"), ("sponsor.created", "newCreatorKey"))
    ]


def _fact(game: Game, event: dict[str, Any], kept: Any) -> Fact:
    name = _name(event)
    if name in SPONSOR:
        return _boost(game, name, event, kept)
    data = event["data"] if isinstance(event.get("data"), dict) else {}
    told = {ours: found for theirs, ours in IDS.items() if (found := _id(data.get(theirs))) is not None}
    player_id, occurred_at = told.get("player_id"), moment(event.get("timestamp"))
    coupon = _coupon(data) if name == "coupon.redeemed" and player_id is not None else None
    usage_id = _whole(data.get("usageId"))
    about: dict[str, Any] = {}
    if name == "coupon.redeemed":  # without the code, since whoever reads that may redeem it too
        about = {"usage_id": usage_id, "items": None if coupon is None else as_items(coupon.lines)}
    elif name == "payment.bulk_created":
        about = {ours: _whole(data.get(theirs)) for theirs, ours in COUNTS.items()}
        about["transaction_ids"] = _ids(data.get("transactionIds"))
    elif name == "payment.created":
        about = {"amount": _figure(data.get("amount"))}
    elif name not in DOCUMENTED:
        about = {"data": _told(_kept(data, DEEPEST))}
    return Fact(
        name=name,
        type=f"playcamp.{name}",
        dedupe_key=_dedupe_key(game, event),
        data={**told, **about, "custom_data": _text(event.get("callbackId")), "occurred_at": occurred_at},
        raw=_json(kept),
        is_marked=_is_marked(event, player_id) or (coupon is not None and registry.RESERVED_ID in dict(coupon.lines)),
        player_id=player_id,
        external_id=told.get("transaction_id") if usage_id is None else str(usage_id),
        occurred_at=occurred_at,
        coupon=coupon,
    )


def _boost(game: Game, name: str, event: dict[str, Any], kept: Any) -> Fact:
    data = _data(event)
    player_id, creator_key = _needed(data, "userId"), _needed(data, "creatorKey")
    campaign_id = None if data.get("campaignId") in (None, "") else _needed(data, "campaignId")
    occurred_at = _needed_moment(event)
    return Fact(
        name=name,
        type=name,
        dedupe_key=_dedupe_key(game, event),
        data={
            "player_id": player_id,
            "campaign_id": campaign_id,
            "creator_key": creator_key,
            "custom_data": _text(event.get("callbackId")),
            "occurred_at": occurred_at,
        },
        raw=_json(kept),
        is_marked=_is_marked(event, player_id),
        player_id=player_id,
        occurred_at=occurred_at,
        creator_key=creator_key,
    )


def _converted(game: Game, event: dict[str, Any], kept: Any) -> Fact:
    """An event of another gateway, which names creators by numbers of the game's."""
    agreed = (game.settings["playcamp.event.registered"], game.settings["playcamp.event.removed"])
    word = _name(event)
    name = dict(zip(agreed, SPONSOR, strict=True)).get(word, word)
    player_id, creator_usn = _needed(event, "usn"), event.get("creator_usn")
    is_boost = name in SPONSOR
    if is_boost or creator_usn is not None:
        found = _needed(event, "creator_usn")
        creator_usn = creator_usn if isinstance(creator_usn, int) else found
    occurred_at = _needed_moment(event) if is_boost else moment(event.get("timestamp"))
    named = [key for key, usn in game.family("playcamp.creator.").items() if usn == str(creator_usn)]
    creator_key = named[0] if len(named) == 1 else None
    custom_data = _text(event.get("custom_data"))
    opposite = next((two[1 - two.index(word)] for two in (agreed, SPONSOR) if word in two), None)

    def key(of_word: str) -> str:
        said = [event.get("usn"), event.get("creator_usn"), of_word, event.get("timestamp"), custom_data]
        return f"converted:{_digest(said)}"

    return Fact(
        name=name,
        type=name if is_boost else f"playcamp.{name}",
        dedupe_key=key(word),
        data={
            "player_id": player_id,
            "campaign_id": None,
            "creator_key": creator_key,
            "creator_usn": creator_usn,
            "custom_data": custom_data,
            "occurred_at": occurred_at,
        },
        raw=_json(kept),
        is_marked=_is_marked(event, player_id),
        player_id=player_id,
        occurred_at=occurred_at,
        creator_key=creator_key if is_boost else None,
        opposite_key=key(opposite) if is_boost and opposite is not None else None,
    )


def _unreadable(event: Any, kept: Any, reason: str) -> Fact:
    known = event if isinstance(event, dict) else {}
    data = known["data"] if isinstance(known.get("data"), dict) else known
    player_id = _id(data.get("userId", data.get("usn")))
    name = known.get("event")
    return Fact(
        name="unreadable",
        type=UNREADABLE,
        dedupe_key=f"unreadable:{_digest(kept)}",
        data={"reason": reason, "event": name if _is_name(name) else None, "player_id": player_id},
        raw=_json(kept),
        is_marked=_is_marked(known, player_id),
        player_id=player_id,
        occurred_at=moment(known.get("timestamp")),
    )


def _dedupe_key(game: Game, event: Mapping[str, Any]) -> str:
    """A retry may come with another time, and with others in its batch, and is the same event all the same."""
    name, data = event["event"], event.get("data")
    has_id = isinstance(data, dict) and any(data.get(each) is not None for each in ("usageId", "transactionId"))
    if has_id and name in DOCUMENTED:
        is_test = game.settings["playcamp.environment"] == "sandbox" or _is_marked(event, None)
        return f"about:{_digest([name, is_test, data])}"
    return f"event:{_digest([name, event.get('timestamp'), event.get('callbackId'), data])}"


def _coupon(data: Mapping[str, Any]) -> Redeemed | None:
    usage_id, reward = _whole(data.get("usageId")), data.get("reward")
    if usage_id is None or not isinstance(reward, list) or not all(isinstance(each, dict) for each in reward):
        return None
    granted = lines((each.get("itemId"), each.get("itemQuantity")) for each in reward)
    return None if granted is None else Redeemed(usage_id, granted)


def _is_marked(event: Mapping[str, Any], player_id: str | None) -> bool:
    return str(event.get("isTest")).lower() in ("true", "1") or player_id == registry.RESERVED_ID


def _name(event: Mapping[str, Any]) -> str:
    name = event.get("event")
    if not _is_name(name):
        raise ValueError(f"event: use text of 1 to {LONGEST_NAME} characters")
    return str(name)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip()


def _data(event: Mapping[str, Any]) -> dict[str, Any]:
    data = event.get("data")
    if not isinstance(data, dict):
        raise ValueError("data: not a JSON object")
    return data


def _needed(data: Mapping[str, Any], name: str) -> str:
    found = _id(data.get(name))
    if found is None:
        raise ValueError(f"{name}: {'missing' if data.get(name) is None else 'not an id'}")
    return found


def _needed_moment(event: Mapping[str, Any]) -> str:
    found = moment(event.get("timestamp"))
    if found is None:
        raise ValueError("timestamp: not a time")
    return found


def _id(value: Any) -> str | None:
    """An id as text; None for what is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    try:
        return registry.checked_id(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _ids(value: Any) -> list[str] | None:
    return [found for each in value if (found := _id(each)) is not None] if isinstance(value, list) else None


def _whole(value: Any, digits: int = exact.MINOR_DIGITS) -> int | None:
    """A whole number from 0 on; None for anything else."""
    try:
        number = exact.whole(value, digits)
    except ValueError:
        return None
    return number if number >= 0 else None


def _figure(value: Any) -> str | None:
    try:
        return exact.figure(value)
    except ValueError:
        return None


def _text(value: Any) -> str | None:
    """Text any database and any JSON reader takes; a whole number is text too."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return exact.whole_text(value) if isinstance(value, str) else None


def _kept(value: Any, deeper: int) -> Any:
    """A copy that can be kept: half a pair of a surrogate becomes the usual mark, what stands too deep null."""
    if isinstance(value, str):
        return exact.whole_text(value)
    if not isinstance(value, dict | list):
        return value
    if deeper == 0:
        return None
    if isinstance(value, list):
        return [_kept(each, deeper - 1) for each in value]
    return {exact.whole_text(name): _kept(each, deeper - 1) for name, each in value.items()}


def _told(value: Any) -> Any:
    """What the game is told of an event that nobody has documented, numbers with a fraction as text."""
    if isinstance(value, dict):
        return {name: _told(each) for name, each in value.items() if not _UNTOLD.search(name.lower().replace("_", ""))}
    if isinstance(value, list):
        return [_told(each) for each in value]
    return str(value) if isinstance(value, Decimal) else value


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, default=str).encode()


def _digest(value: Any) -> str:
    return hashlib.sha256(_json(value)).hexdigest()


def _decimal(text: str) -> Any:
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def _integer(text: str) -> Any:
    return int(text) if len(text) <= exact.LONGEST_INTEGER else text


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
