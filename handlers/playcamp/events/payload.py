"""What PlayCamp's webhooks say, in our words.

A call carries a batch, ``{"events": [...]}``, or one event alone. Documentation and Go SDK v0.0.8 (checked 2026-11):

* Nothing has an id. A repeat is recognised by its content; an event that names a coupon's usage or a payment by that
  alone, whenever it was sent.
* A change of creator is ``sponsor.changed``, or ``sponsor.ended`` and ``sponsor.created``. The first is read as the
  other two, so that a game subscribed to both spellings gets one change.
* Ids are text but for ``usageId``; samples of ``coupon.redeemed`` lack it, or lack the reward.
* ``timestamp`` is ISO 8601, with or without milliseconds. A gateway that has converted an event sends seconds, so a
  boost that begins, ends and begins again within one second comes as the same event twice.

A gateway of PlayCamp's sends ``{"custom_data", "usn", "creator_usn", "event", "timestamp"}`` in place of that, with the
words agreed for the game.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from coinslot.base import exact
from coinslot.games import registry
from coinslot.games.games import Game
from coinslot.games.readers import figure_of, id_of, moment_of, whole_of
from handlers.playcamp.events.values import (
    as_items,
    as_json,
    digest_of,
    for_the_game,
    ids_of,
    kept_copy,
    lines,
    text_of,
)

MOST_EVENTS = 10_000  # of a batch; about half as many real ones fit into a body
LONGEST_NAME = 100
DEEPEST = 64  # levels of an event
UNREADABLE = "playcamp.unreadable"
SPONSOR = ("sponsor.created", "sponsor.ended")

# PlayCamp's names of ids and counts -> ours.
IDS = {
    "userId": "player_id",
    "campaignId": "campaign_id",
    "creatorKey": "creator_key",
    "transactionId": "transaction_id",
    "currency": "currency",
    "platform": "platform",
}
COUNTS = {"totalRequested": "total_requested", "successful": "successful", "failed": "failed", "skipped": "skipped"}
DOCUMENTED = ("coupon.redeemed", "payment.created", "payment.bulk_created", "payment.refunded")


@dataclass(frozen=True)
class Redeemed:
    """A coupon that was used up: ``lines`` are the items and quantities for its player, in no order."""

    usage_id: int
    lines: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Fact:
    """One thing an event says. ``name`` is PlayCamp's word for it, ``type`` the game's; ``raw`` is the event as JSON.

    ``is_marked``: it is a test, whichever environment it comes from. ``coupon`` is there when its reward can be
    granted. ``opposite_key`` is there for a boost from another gateway: the ``dedupe_key`` of the same boost ending
    where this one begins, or the reverse.
    """

    name: str
    type: str
    dedupe_key: str
    data: Mapping[str, Any]
    is_marked: bool
    occurred_at: str | None
    external_id: str | None = None
    coupon: Redeemed | None = None
    opposite_key: str | None = None
    raw: bytes = field(default=b"", repr=False)

    @property
    def is_boost(self) -> bool:
        return self.type in SPONSOR

    @property
    def player_id(self) -> str | None:
        found: str | None = self.data.get("player_id")
        return found

    @property
    def creator_key(self) -> str | None:
        """The creator of a boost; None where PlayCamp's key is not known."""
        found: str | None = self.data.get("creator_key") if self.is_boost else None
        return found


def parse(body: bytes) -> list[Any]:
    """The events of a call, unchecked. Raises ValueError when it is neither a batch nor an event."""
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
    """What an event says: one fact, or two for a change; for an unreadable event the fact that it is unreadable."""
    kept = kept_copy(event, DEEPEST)
    try:
        if not isinstance(event, dict):
            raise ValueError("it is not a JSON object")
        if exact.is_deeper(event, DEEPEST):
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")
        if "usn" in event and "data" not in event:
            facts = [_converted(game, event)]
        else:
            facts = [_fact(game, half) for half in _halves(event)]
    except ValueError as error:
        facts = [_unreadable(event, kept, str(error))]
    return [replace(fact, raw=as_json(kept)) for fact in facts]


def _halves(event: dict[str, Any]) -> list[dict[str, Any]]:
    """The event itself, or the end and the beginning that a change is the same as."""
    if event.get("event") != "sponsor.changed":
        return [event]
    data = _data(event)
    rest = {name: value for name, value in data.items() if name not in ("oldCreatorKey", "newCreatorKey")}
    return [
        {**event, "event": name, "data": {**rest, "creatorKey": _needed(data, key)}}
        for name, key in (("sponsor.ended", "oldCreatorKey"), ("sponsor.created", "newCreatorKey"))
    ]


def _fact(game: Game, event: dict[str, Any]) -> Fact:
    name = _name(event)
    if name in SPONSOR:
        return _boost(game, name, event)
    data = event["data"] if isinstance(event.get("data"), dict) else {}
    ids = {ours: found for theirs, ours in IDS.items() if (found := id_of(data.get(theirs))) is not None}
    usage_id, coupon = whole_of(data.get("usageId")), None
    about: dict[str, Any] = {}
    if name == "coupon.redeemed":  # without the code: a reader could redeem it
        coupon = _coupon(data) if "player_id" in ids else None
        about = {"usage_id": usage_id, "items": None if coupon is None else as_items(coupon.lines)}
    elif name == "payment.bulk_created":
        about = {ours: whole_of(data.get(theirs)) for theirs, ours in COUNTS.items()}
        about["transaction_ids"] = ids_of(data.get("transactionIds"))
    elif name == "payment.created":
        about = {"amount": figure_of(data.get("amount"))}
    elif name not in DOCUMENTED:
        about = {"data": for_the_game(kept_copy(data, DEEPEST))}
    occurred_at = moment_of(event.get("timestamp"))
    is_reserved = coupon is not None and registry.RESERVED_ID in dict(coupon.lines)
    return Fact(
        name=name,
        type=f"playcamp.{name}",
        dedupe_key=_dedupe_key(game, event),
        data={**ids, **about, "custom_data": text_of(event.get("callbackId")), "occurred_at": occurred_at},
        is_marked=is_reserved or _is_marked(event, ids.get("player_id")),
        occurred_at=occurred_at,
        external_id=ids.get("transaction_id") if usage_id is None else str(usage_id),
        coupon=coupon,
    )


def _boost(game: Game, name: str, event: dict[str, Any]) -> Fact:
    data = _data(event)
    found = {
        "player_id": _needed(data, "userId"),
        "campaign_id": None if data.get("campaignId") in (None, "") else _needed(data, "campaignId"),
        "creator_key": _needed(data, "creatorKey"),
        "custom_data": text_of(event.get("callbackId")),
        "occurred_at": _needed_moment(event),
    }
    is_marked = _is_marked(event, found["player_id"])
    return Fact(name, name, _dedupe_key(game, event), found, is_marked, found["occurred_at"])


def _converted(game: Game, event: dict[str, Any]) -> Fact:
    """An event of another gateway, which names creators by numbers of the game's."""
    agreed = (game.settings["playcamp.event.registered"], game.settings["playcamp.event.removed"])
    word = _name(event)
    name = dict(zip(agreed, SPONSOR, strict=True)).get(word, word)
    player_id, creator_usn = _needed(event, "usn"), event.get("creator_usn")
    is_boost = name in SPONSOR
    if is_boost or creator_usn is not None:
        found = _needed(event, "creator_usn")
        creator_usn = creator_usn if isinstance(creator_usn, int) else found
    named = [key for key, usn in game.family("playcamp.creator.").items() if usn == str(creator_usn)]
    opposite = next((two[1 - two.index(word)] for two in (agreed, SPONSOR) if word in two), None)
    data: dict[str, Any] = {
        "player_id": player_id,
        "campaign_id": None,
        "creator_key": named[0] if len(named) == 1 else None,
        "creator_usn": creator_usn,
        "custom_data": text_of(event.get("custom_data")),
        "occurred_at": _needed_moment(event) if is_boost else moment_of(event.get("timestamp")),
    }

    def key(of_word: str) -> str:
        values = [event.get("usn"), event.get("creator_usn"), of_word, event.get("timestamp"), data["custom_data"]]
        return f"converted:{digest_of(values)}"

    return Fact(
        name=name,
        type=name if is_boost else f"playcamp.{name}",
        dedupe_key=key(word),
        data=data,
        is_marked=_is_marked(event, player_id),
        occurred_at=data["occurred_at"],
        opposite_key=key(opposite) if is_boost and opposite is not None else None,
    )


def _unreadable(event: Any, kept: Any, reason: str) -> Fact:
    known = event if isinstance(event, dict) else {}
    data = known["data"] if isinstance(known.get("data"), dict) else known
    player_id = id_of(data.get("userId", data.get("usn")))
    name = known.get("event")
    return Fact(
        name="unreadable",
        type=UNREADABLE,
        dedupe_key=f"unreadable:{digest_of(kept)}",
        data={"reason": reason, "event": name if _is_name(name) else None, "player_id": player_id},
        is_marked=_is_marked(known, player_id),
        occurred_at=moment_of(known.get("timestamp")),
    )


def _dedupe_key(game: Game, event: Mapping[str, Any]) -> str:
    """What a repeat is recognised by: a retry may come with another time, and with others in its batch."""
    name, data = event["event"], event.get("data")
    has_id = isinstance(data, dict) and any(data.get(each) is not None for each in ("usageId", "transactionId"))
    if has_id and name in DOCUMENTED:
        is_test = game.settings["playcamp.environment"] == "sandbox" or _is_marked(event, None)
        return f"about:{digest_of([name, is_test, data])}"
    return f"event:{digest_of([name, event.get('timestamp'), event.get('callbackId'), data])}"


def _coupon(data: Mapping[str, Any]) -> Redeemed | None:
    usage_id, reward = whole_of(data.get("usageId")), data.get("reward")
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
    found = id_of(data.get(name))
    if found is None:
        raise ValueError(f"{name}: {'missing' if data.get(name) is None else 'not an id'}")
    return found


def _needed_moment(event: Mapping[str, Any]) -> str:
    found = moment_of(event.get("timestamp"))
    if found is None:
        raise ValueError("timestamp: not a time")
    return found


def _decimal(text: str) -> Any:
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def _integer(text: str) -> Any:
    return int(text) if len(text) <= exact.LONGEST_INTEGER else text


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
