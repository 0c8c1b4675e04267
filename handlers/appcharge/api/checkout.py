"""The game's own checkout: a session that Appcharge takes one payment in, asked for by the game's server.

The field names are ours; :func:`_to_appcharge` translates them.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from flask import Response, current_app, jsonify
from marshmallow import ValidationError, fields, validate

from coinslot.games import registry
from coinslot.games.games import Game
from handlers.appcharge.api.client import Client
from handlers.kit.api import ApiError, NotConfiguredError
from handlers.kit.fields import Identifier, Scalar, Strict, WholeNumber
from handlers.kit.partner import GameCall
from handlers.kit.problems import ProblemError, caller, read_body, unprocessable
from handlers.kit.receive import current_installation

PATIENCE_SECONDS = 8.0  # a player waits, and one of our threads
TRIES = 3
PRICE_DIGITS = 15  # what the other side's numbers hold exactly
QUANTITY_DIGITS = 30
MOST_ITEMS = 100


class Written(fields.String):
    """Text that is written in one particular way."""

    def __init__(self, pattern: str, longest: int, hint: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._pattern = re.compile(pattern)
        self._hint = hint
        self.longest = longest
        self.openapi = {"maxLength": longest, "pattern": f"^{pattern}$"}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = str(super()._deserialize(value, *args, **kwargs))
        if len(text) > self.longest or not self._pattern.fullmatch(text):
            raise ValidationError(self._hint)
        return text


class Moment(fields.Field[datetime]):
    """A time with its zone."""

    openapi = {"type": "string", "format": "date-time"}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> datetime:
        try:
            moment = datetime.fromisoformat(value.upper())
            if moment.tzinfo is not None and len(value) > 10:
                return moment
        except (AttributeError, ValueError):
            pass
        raise ValidationError("use a time with its zone, such as 2026-01-31T12:00:00Z")


class CheckoutOffer(Strict):
    name = Identifier(required=True)
    sku = Identifier(required=True, metadata={"description": "Your own id of the offer"})
    display_name = Identifier(metadata={"description": "What the player reads; else the name"})


class CheckoutItem(Strict):
    sku = Identifier(required=True)
    name = Identifier(required=True)
    quantity = WholeNumber(QUANTITY_DIGITS, required=True)


class Checkout(Strict):
    player_id = Identifier(required=True)
    price_minor = WholeNumber(
        PRICE_DIGITS,
        required=True,
        metadata={"description": "In the currency's lowest unit: 999 is 9.99 USD, or 999 JPY"},
    )
    currency = Written("[A-Z]{3}", 3, "use three capital letters (ISO 4217)", required=True)
    offer = fields.Nested(CheckoutOffer, required=True)
    items = fields.List(
        fields.Nested(CheckoutItem),
        validate=validate.Length(max=MOST_ITEMS),
        metadata={
            "description": "What is sold, all of it registered unless items.unknown is accept; granted is what the "
            "order says once it is paid"
        },
    )
    country = Written(
        "[A-Z]{2}",
        2,
        "use two capital letters (ISO 3166-1)",
        metadata={"description": "For taxes; else by the player's address"},
    )
    locale = Written("[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}", 32, "use a locale such as fr-CA")
    session_metadata = fields.Dict(
        keys=fields.String(), metadata={"description": "Comes back with the order; never what to grant"}
    )
    attributes = fields.Dict(keys=fields.String(), values=Scalar())
    redirect_url = Written(
        "[A-Za-z][A-Za-z0-9+.-]{0,31}:[!-~]+",
        2048,
        "use an address or a deep link, percent-encoded",
        metadata={"description": "Leads back to the game; what it says there proves no payment"},
    )
    email = Written(r"[!-?A-~]{1,64}@[!-?A-~]{1,189}", 254, "use an e-mail address")
    first_seen_at = Moment(metadata={"description": "Since when you know the player"})


class CheckoutSession(Strict):
    url = fields.String(required=True, metadata={"description": "Open it as it is"})
    session_token = fields.String(required=True)
    purchase_id = fields.String(required=True, allow_none=True)


class CheckoutCancel(Strict):
    session_token = Written("[!-~]+", 4096, "use the session_token as it was given", required=True)


class CheckoutCancelled(Strict):
    is_cancelled = fields.Boolean(
        required=True, metadata={"description": "The session takes no more payments; one may have been made before"}
    )


class CheckoutKey(Strict):
    checkout_public_key = fields.String(required=True)
    environment = fields.String(required=True, validate=validate.OneOf(["sandbox", "production"]))


_checkout, _cancel = Checkout(), CheckoutCancel()


def create() -> tuple[Response, int]:
    """Make a checkout session. A repeated call makes a second one, which may be paid too; it is never repeated here."""
    game = caller()
    wanted = read_body(_checkout)
    player_id = wanted["player_id"]
    is_strict = game.settings["players.unknown"] == "reject"
    if is_strict and not registry.has_player(current_installation().database.read(), game.id, player_id):
        raise ProblemError(404, "There is no such player")
    if game.settings["items.unknown"] == "reject":
        _check_items(game, wanted.get("items", []))
    try:
        session = _client(game).create_session(_to_appcharge(wanted))
    except ApiError as error:
        raise _told(game, error, "no checkout session was made") from None
    return jsonify(url=session.url, session_token=session.token, purchase_id=session.purchase_id), 201


def cancel() -> Response:
    """End a checkout session, so that nothing can be paid in it any more."""
    game = caller()
    token = read_body(_cancel)["session_token"]
    try:
        return jsonify(is_cancelled=_client(game).cancel_session(token))
    except ApiError as error:
        raise _told(game, error, "a checkout session was not cancelled") from None


def key() -> Response:
    """What the game's client starts Appcharge's checkout with. It is no secret."""
    game = caller()
    keys = game.keys("appcharge.checkout_public_key")
    if not keys:
        raise ProblemError(404, "appcharge.checkout_public_key is not set")
    is_sandbox = game.settings["appcharge.environment"] == "sandbox"
    return jsonify(checkout_public_key=keys[0].value.decode(), environment="sandbox" if is_sandbox else "production")


GAME_CALLS = (
    GameCall(
        "POST",
        "/appcharge/checkout",
        create,
        "Make a checkout session; each call makes one of its own, so a repeated call may be paid twice",
        {201: CheckoutSession},
        Checkout,
        errors=(400, 403, 404, 409, 413, 422, 502),
    ),
    GameCall(
        "POST",
        "/appcharge/checkout/cancel",
        cancel,
        "End a checkout session",
        {200: CheckoutCancelled},
        CheckoutCancel,
        errors=(400, 403, 409, 413, 422, 502),
    ),
    GameCall(
        "GET",
        "/appcharge/checkout-key",
        key,
        "The key that the game's client starts a checkout with",
        {200: CheckoutKey},
        errors=(404,),
    ),
)


def _client(game: Game) -> Client:
    return Client(game, current_installation().outbound.for_callers, patience_seconds=PATIENCE_SECONDS, tries=TRIES)


def _check_items(game: Game, items: Sequence[dict[str, Any]]) -> None:
    """Raises a 422 where the order would be refused once it is paid."""
    connection = current_installation().database.read()
    unknown = [place for place, each in enumerate(items) if not registry.has_item(connection, game.id, each["sku"])]
    if unknown:
        raise unprocessable(
            ValidationError({"items": {place: {"sku": ["there is no such item registered"]} for place in unknown}})
        )


def _to_appcharge(wanted: dict[str, Any]) -> dict[str, Any]:
    customer: dict[str, Any] = {"id": wanted["player_id"]}
    if "email" in wanted:
        customer["email"] = wanted["email"]
    if "first_seen_at" in wanted:
        customer["identitySignals"] = {"firstSeenAt": wanted["first_seen_at"].isoformat().replace("+00:00", "Z")}
    offer = {"name": wanted["offer"]["name"], "sku": wanted["offer"]["sku"]}
    if "display_name" in wanted["offer"]:
        offer["displayName"] = wanted["offer"]["display_name"]
    document: dict[str, Any] = {
        "customer": customer,
        "priceDetails": {"price": wanted["price_minor"], "currency": wanted["currency"]},
        "offer": offer,
    }
    if "locale" in wanted:
        document["receiptMetadata"] = {"locale": wanted["locale"]}
    same = {
        "items": "items",
        "country": "countryCode2",
        "session_metadata": "sessionMetadata",
        "attributes": "attributes",
        "redirect_url": "redirectUrl",
    }
    return document | {theirs: wanted[ours] for ours, theirs in same.items() if ours in wanted}


def _told(game: Game, error: ApiError, what: str) -> ProblemError:
    """The problem for the game, in Appcharge's words. The log gets only the status: those words may hold anything."""
    if isinstance(error, NotConfiguredError):
        return ProblemError(409, str(error))
    if error.status == 403:
        return ProblemError(403, str(error))
    how = "no answer" if error.status is None else f"answer {error.status}"
    current_app.logger.error("appcharge %s: %s: %s", game.slug, what, how)
    return ProblemError(502, str(error))
