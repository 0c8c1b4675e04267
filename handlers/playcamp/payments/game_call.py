"""In-game payments that the game pushes, up to 1,000 at a time; they are registered with PlayCamp if that is set up.

A payment has the fields of PlayCamp's bulk call, so that a studio writes them once.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from flask import Response, jsonify
from marshmallow import ValidationError, fields, validate

from coinslot.games.games import Game
from coinslot.payments import fields as payment_fields
from coinslot.payments import parsing
from coinslot.payments import store as payments
from coinslot.payments.parsing import Payment
from coinslot.relay import jobs
from coinslot.store import portions
from coinslot.store.db import Connection
from handlers.kit.fields import Identifier, Strict, Text
from handlers.kit.partner import GameCall
from handlers.kit.problems import LARGEST_BULK_BODY, caller, read_body
from handlers.kit.receive import current_installation
from handlers.playcamp.payments import sends
from handlers.playcamp.payments.rules import is_registering, rules
from handlers.playcamp.settings import DISTRIBUTION_TYPES, PLATFORMS, is_sandbox

MOST_PAYMENTS = 1000
PAYMENTS_AT_ONCE = 20
LARGEST_AMOUNT = 10**payment_fields.AMOUNT_DIGITS - 1


class Amount(fields.Field[Any]):
    """Money in major units, exactly: decimal text or a number."""

    openapi = {
        "type": ["string", "number"],
        "pattern": r"^[0-9]{1,15}(\.[0-9]{1,20})?$",
        "minimum": 0,
        "maximum": LARGEST_AMOUNT,
    }
    _text = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,20})?")

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if isinstance(value, str) and self._text.fullmatch(value):
            return value
        if isinstance(value, int | Decimal) and not isinstance(value, bool) and 0 <= value <= LARGEST_AMOUNT:
            return value
        raise ValidationError("use a number or decimal text from 0 on, in major units: 9.99 USD, 9900 KRW")


class Instant(fields.Field[Any]):
    """A time with its zone, or Unix seconds or milliseconds."""

    openapi = {"type": ["string", "number"], "format": "date-time"}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return value
        try:
            # Only checked for a zone here; ``parsing.check`` reads it.
            if len(value) > 10 and datetime.fromisoformat(value.upper()).tzinfo is not None:
                return value
        except (AttributeError, TypeError, ValueError):
            pass
        raise ValidationError("use a time with its zone, such as 2026-01-31T12:00:00Z, or Unix seconds or milliseconds")


class Word(fields.String):
    """One of some words, in any case, such as ``ios``."""

    def __init__(self, words: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.words = {word.lower(): word for word in words}
        self.openapi = {"enum": [*words, None] if self.allow_none else list(words)}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        word = self.words.get(str(super()._deserialize(value, *args, **kwargs)).lower())
        if word is None:
            raise ValidationError(f"use one of {', '.join(self.words.values())}")
        return word


def _about(description: str) -> dict[str, Any]:
    """The options of a field that is required, and described in the OpenAPI document."""
    return {"required": True, "metadata": {"description": description}}


class PushedPayment(Strict):
    transactionId = Identifier(**_about("Once and for all: a repeat is no new payment"))
    userId = Identifier(required=True)
    productId = Identifier(required=True)
    productName = Text(payment_fields.LONGEST_NAME)
    amount = Amount(**_about("Major units: 9.99 USD, 9900 KRW. Below 0.01: only kept"))
    currency = fields.String(
        required=True,
        validate=validate.Regexp(r"[A-Za-z]{3}\Z", error="use three letters (ISO 4217)"),
        metadata={"pattern": "^[A-Za-z]{3}$"},
    )
    market = Text(payment_fields.LONGEST_MARKET)
    platform = Word(PLATFORMS, allow_none=True)
    distributionType = Word(
        DISTRIBUTION_TYPES,
        allow_none=True,
        metadata={"description": "With platform it says what market else says; lacking both, the payment is parked"},
    )
    purchasedAt = Instant(required=True)
    status = Word(("paid", "refunded"), allow_none=True, metadata={"description": "paid where it is not said"})
    refunded_at = Instant(allow_none=True)


class PushedPayments(Strict):
    payments = fields.List(
        fields.Nested(PushedPayment), required=True, validate=validate.Length(min=1, max=MOST_PAYMENTS)
    )


class ParkedPayment(Strict):
    transaction_id = fields.String(required=True)
    reason = fields.String(required=True)


class PaymentsStored(Strict):
    stored = fields.Integer(strict=True, **_about("New, parked until now, or corrected before it was sent"))
    known = fields.Integer(required=True, strict=True)
    refunded = fields.Integer(strict=True, **_about("Known, and refunded since now"))
    conflicts = fields.List(
        fields.String(),
        **_about("transactionId known with other content; what was sent, or what another source reported, stays"),
    )
    parked = fields.List(fields.Nested(ParkedPayment), **_about("Kept, and not registered as it is"))


_payments = PushedPayments()


def push() -> Response:
    """Store payments once each. One that is a conflict, or cannot be registered, stops no other."""
    game = caller()
    with portions.one_at_a_time():
        stored = _store(game, read_body(_payments, LARGEST_BULK_BODY, keeps_digits=True)["payments"])
    parked = {each.transaction_id: each.problem for each, outcome in stored if each.problem and outcome != "conflict"}
    sound = [outcome for each, outcome in stored if each.problem is None]
    return jsonify(
        stored=sound.count("new"),
        known=sound.count("known"),
        refunded=sound.count("refunded"),
        conflicts=list(dict.fromkeys(each.transaction_id for each, outcome in stored if outcome == "conflict")),
        parked=[{"transaction_id": each, "reason": reason} for each, reason in parked.items()],
    )


def _store(game: Game, pushed: list[dict[str, Any]]) -> list[tuple[Payment, str]]:
    """Each payment and its outcome."""
    wanted = rules(game)
    found = [parsing.check(each, wanted, "push", is_test=is_sandbox(game)) for each in pushed]
    has_key = bool(game.keys("playcamp.api_key"))
    stored: set[str] = set()

    def store(tx: Connection, some: Sequence[Payment]) -> list[str]:
        outcomes = payments.store_many(tx, game.id, some, is_registering=is_registering(game), earlier=stored)
        stored.update(each.transaction_id for each in some)
        if has_key and not {"new", "refunded"}.isdisjoint(outcomes):
            jobs.at(tx, game.id, sends.JOB, 0)
        return outcomes

    made = portions.write_each(
        current_installation().database.write, portions.ready_made(found, PAYMENTS_AT_ONCE), store
    )
    return list(zip(found, [outcome for some in made for outcome in some], strict=True))


GAME_CALLS = (
    GameCall(
        "POST",
        "/payments",
        push,
        "Store in-game payments, each transactionId once; they are registered with PlayCamp where that is set up",
        {200: PaymentsStored},
        PushedPayments,
        errors=(400, 413, 422),
    ),
)
