"""Appcharge's events: ``POST /appcharge/<game>/events``, version 1 and version 2 on one address.

They report what players do in the store, refunds and disputes. They come late, twice and in any order, and never
credit; a refund or a lost dispute may take back what an order credited. Documentation of 2024 to 2026, checked 2026-11:

* Version 1 says ``event`` and writes ``order_refunded``, version 2 ``eventName`` and ``order.refunded``. Some samples
  lack the name, some names come in both spellings.
* Only version 2 has an ``eventId``. Without one an event is known again by its bytes.
* ``timestamp`` is in seconds or milliseconds, a number or text.
* Version 2 names an order by ``transactions[].purchaseId`` for certain, and perhaps by its order id.
* The printed sample of ``order.refunded`` has the result ``success``, a reason that reads like a failure and a
  transaction of type ``paid``: only the event's name decides. Partial refunds are undocumented.
* Undocumented: where ``order.dispute.resolved`` says won or lost, so several places are read.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from flask import Response, current_app

from coinslot.base import exact
from coinslot.games import registry
from coinslot.games.readers import at_path, id_of, moment_of
from coinslot.ledger import events, notices, refunds
from coinslot.store.db import Connection
from handlers.appcharge.receive import PARTNER, answer, read
from handlers.kit.receive import current_installation

LONGEST_NAME = 100
UNNAMED = "unnamed"
DEEPEST = 64  # levels of a payload
MOST_TRANSACTIONS = 20  # of one order, looked at for ids

# Names with ``_`` read as ``.``, in lower case. What else may happen to an order says nothing about money coming back.
REASONS: Mapping[str, str] = {
    "order.refunded": "refund",
    "order.dispute.lost": "chargeback",
    "order.dispute.won": "reinstated",
}
VERDICTS: Mapping[str, str] = {"lost": "chargeback", "won": "reinstated"}
MOVED: Mapping[str, str] = {"dispute_funds_withdrawn": "chargeback", "dispute_funds_reinstated": "reinstated"}

# Where an event may name its order, dots for objects in objects.
REFERENCES = ("appChargeOrderId", "order.orderId", "order.id", "orderId")
OTHER_IDS: Mapping[str, tuple[str, ...]] = {
    "payment": ("appChargePaymentId", "paymentId", "order.appChargePaymentId", "order.paymentId"),
    "purchase": ("purchaseId", "order.purchaseId"),
    "external": ("externalTransactionId", "order.externalTransactionId"),
}
PLAYERS = ("customer.id", "customer.playerId", "playerId", "data.playerId")
RESULTS = ("result", "reason", "dispute.status", "dispute.result", "dispute.outcome", "order.disputeStatus")
_VERDICT = re.compile(r"(?:payment_)?(?:order_)?(?:dispute_)?(?:inquiry_)?(lost|won)")

# Names of fields that the game does not get: they identify a person or grant access. Appcharge adds fields without
# notice, so this is wider than what its documents name.
PERSONAL = re.compile(
    r"e?mail|phone|address|zip|postal|birth|firstname|lastname|fullname|surname|playername|customername|username"
    r"|passw|secret|token$|cardnumber|iban|playercode|proofkey|^otp$|^(?:client|remote|user|customer|player|created|by)*ip"
    r"(?:v?[46]|addr)?$"
)
PERSONS = ("customer", "customerdetails", "player", "user")  # whose names are one's own
PERSON_NAMES = ("name", "displayname", "nickname")
_ADDRESS = re.compile(r"[^\s@\"'<>]{1,64}@[^\s@\"'<>]{1,255}\.[^\s@\"'<>.]{2,63}")  # of e-mail, within other text
BLOTTED = "[e-mail]"


def receive(game_slug: str) -> Response:
    """Keep an event once, queue it for the game, and apply a refund. Answered 200 once it is stored."""
    call, (payload, data) = read(game_slug, "events", parse_event)
    game = call.game
    name = event_name(payload)
    reason = refund_reason(name, payload)
    environment = game.settings["appcharge.environment"]
    player_id = first_id(payload, PLAYERS)
    order_id = first_id(payload, REFERENCES)
    named = order_ids(payload)
    is_test = environment == "sandbox" or player_id == registry.RESERVED_ID

    def keep(tx: Connection) -> str | None:
        event_id = events.record(
            tx,
            game_id=game.id,
            partner=PARTNER,
            type=f"{PARTNER}.{name}",
            dedupe_key=dedupe_key(payload, name, call.body),
            data=data,
            raw_body=call.body,
            environment=environment,
            is_test=is_test,
            external_id=order_id,
            player_id=player_id,
            occurred_at=moment_of(payload.get("timestamp")),
            counted_as="event",
        )
        if event_id is None:
            return None
        if name == UNNAMED and named and player_id != registry.RESERVED_ID:
            notices.note(tx, game.id, PARTNER, "unnamed_event", named[0][1])
        if reason is None:
            return None
        amount = refunded_amount(payload) if reason == "refund" else None
        return refunds.note_event(tx, game, event_id, reason=reason, named=named, amount=amount)

    outcome = current_installation().database.write(keep)
    log = current_app.logger
    if outcome == "ambiguous":
        log.warning(
            "appcharge %s: a %s names no one order (%s); nothing was changed", game.slug, reason, _named_by(payload)
        )
    elif outcome is not None:
        log.info("appcharge %s: %s, %s: %s", game.slug, reason, _named_by(payload), outcome)
    elif reason is None and _dotted(name) == "order.dispute.resolved":
        log.warning("appcharge %s: a dispute was resolved, but not whether won or lost: kept as an event", game.slug)
    return answer(200, {})


def parse_event(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The event, and what the game gets of it. Raises ValueError."""
    payload = exact.parse_json(body, parse_float=_number, allow_half_pairs=True)
    if not isinstance(payload, dict):
        raise ValueError("it is not a JSON object")
    return payload, without_personal_data(payload)


def _number(text: str) -> float | str:
    """A fraction as a float. One that no float holds is JSON all the same: it stays text and refuses no event."""
    try:
        return exact.finite(text)
    except ValueError:
        return text


def _named_by(payload: Mapping[str, Any]) -> str:
    """The ids an event brought, for the log."""
    words = [f"{'order' if kind == 'reference' else kind} {value!r}" for kind, value in order_ids(payload)]
    return ", ".join(words) or "no id at all"


def event_name(payload: Mapping[str, Any]) -> str:
    """The name as it was sent, or ``unnamed``: such an event is kept, and nothing is guessed."""
    for value in (payload.get("eventName"), payload.get("event")):
        name = value.strip() if isinstance(value, str) else ""
        if name and name.isprintable() and len(name) <= LONGEST_NAME:
            return name
    return UNNAMED


def dedupe_key(payload: Mapping[str, Any], name: str, body: bytes) -> str:
    """What a repeat is recognised by: its name and id, else its bytes.

    The name is part of it, so that a refund is kept even if another event has the same id.
    """
    event_id = id_of(payload.get("eventId"))
    return f"event:{_dotted(name)}:{event_id}" if event_id else f"body:{hashlib.sha256(body).hexdigest()}"


def refund_reason(name: str, payload: Mapping[str, Any]) -> str | None:
    """What an event says about money: ``refund``, ``chargeback``, ``reinstated``, or nothing."""
    dotted = _dotted(name)
    return _resolved(payload) if dotted == "order.dispute.resolved" else REASONS.get(dotted)


def refunded_amount(payload: Mapping[str, Any]) -> str | None:
    """What went back, by the transactions a refund lists: those of refunds, else all. None where it is not said."""
    listed = list(_transactions(payload))
    refunds_listed = [each for each in listed if "refund" in str(each.get("type")).lower()]
    amounts = [each.get("amount") for each in refunds_listed or listed]
    try:
        figures = [Decimal(exact.figure(str(each) if isinstance(each, float) else each)) for each in amounts]
    except ValueError:
        return None
    return format(sum(map(abs, figures)), "f") if figures else None


def order_ids(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Whatever ids an event names its order by, in the words of ``coinslot/ledger/refunds.py``."""
    named = [("reference", id_of(at_path(payload, path))) for path in REFERENCES]
    for kind, paths in OTHER_IDS.items():
        named += [(kind, id_of(at_path(payload, path))) for path in paths]
    for transaction in _transactions(payload):
        named += [
            ("purchase", id_of(transaction.get("purchaseId"))),
            ("payment", id_of(transaction.get("appChargePaymentId"))),
            ("payment", id_of(transaction.get("paymentId"))),
        ]
    return list(dict.fromkeys((kind, value) for kind, value in named if value is not None))


def first_id(payload: Mapping[str, Any], paths: tuple[str, ...]) -> str | None:
    """The first id at one of these paths, in their order; None where none of them has one."""
    ids = (id_of(at_path(payload, path)) for path in paths)
    return next((each for each in ids if each is not None), None)


def without_personal_data(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What the game gets of an event. Raises ValueError when it is nested too deeply."""
    kept: dict[str, Any] = _cleaned(payload, "", DEEPEST)
    return kept


def _cleaned(value: Any, name: str, deeper: int) -> Any:
    if isinstance(value, str):
        return _ADDRESS.sub(BLOTTED, exact.whole_text(value)) if "@" in value else exact.whole_text(value)
    if not isinstance(value, dict | list):
        return value
    if deeper == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return [_cleaned(each, name, deeper - 1) for each in value]
    return {
        exact.whole_text(key): _cleaned(each, plain, deeper - 1)
        for key, each in value.items()
        if not _is_personal(plain := re.sub("[^a-z0-9]", "", key.lower()), name)
    }


def _is_personal(name: str, inside: str) -> bool:
    return PERSONAL.search(name) is not None or (name in PERSON_NAMES and inside in PERSONS)


def _resolved(payload: Mapping[str, Any]) -> str | None:
    """How a dispute ended, wherever it is said; nothing when that is nowhere, or said both ways."""
    said = [at_path(payload, path) for path in RESULTS]
    words = [re.sub("[^a-z]+", "_", each.strip().lower()) for each in said if isinstance(each, str)]
    verdicts = {VERDICTS[found[1]] for found in map(_VERDICT.fullmatch, words) if found is not None}
    if len(verdicts) == 1:
        return verdicts.pop()
    if verdicts:
        return None
    moved = [each for each in _transactions(payload) if _moved(each) is not None]
    # The last by their own times where all have one: nobody says in which order they are listed.
    if all(moment_of(each.get("timestamp")) for each in moved):
        moved.sort(key=lambda each: moment_of(each.get("timestamp")) or "")
    return _moved(moved[-1]) if moved else None


def _moved(transaction: Mapping[str, Any]) -> str | None:
    kind = transaction.get("type")
    return MOVED.get(kind.strip().lower()) if isinstance(kind, str) else None


def _transactions(payload: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    listed = payload.get("transactions")
    for each in (listed if isinstance(listed, list) else [])[-MOST_TRANSACTIONS:]:
        if isinstance(each, dict):
            yield each


def _dotted(name: str) -> str:
    return name.lower().replace("_", ".")
