"""Appcharge's Grant Award callback, known in the dashboard as Order Reporting: ``POST /appcharge/<game>/orders``.

Sent when a payment is final or a free offer is collected; the player waits for the answer. The same order may come
again seconds later, at the same time, or weeks later with ``awardFlow: manual_retry``. Docs of 2023 to 2026 disagree in
places (checked 2026-11); what follows from that:

* ``orderId`` identifies an order since 2025. Older payloads have only ``appChargePaymentId``, free orders of the older
  documentation only ``externalTransactionId``.
* ``...InCents``, ``subTotal`` and ``tax`` are in the currency's lowest unit; ``...InDollar`` and the estimates are US
  cents since 2025 and were dollars before, which is a setting and never guessed.
* ``sessionMetadata`` is text, an object, or null.
* Nearly every field may be missing, new ones may appear, and ``products[].amount`` may exceed 64 bits.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from flask import Response, current_app, request
from marshmallow import EXCLUDE, Schema, ValidationError, fields

from coinslot import clock, counters, events, exact, ledger, lookup, registry, signing
from coinslot.games import Game
from coinslot.keyring import SecretValue
from handlers import installation, is_address_allowed, must_wait, note_refusal
from handlers.appcharge.signature import SignatureError, verify

PARTNER = "appcharge"
MOST_PRODUCTS = 500

# Money figures Appcharge sends; all are kept, exactly, under these names.
FIGURES = (
    "priceInCents subTotal tax priceInDollar priceTotalInDollar taxInDollar originalPriceInDollar paymentPriceInDollar "
    "currencyExchangeCost estimatedPublisherNetAmount estimatedAppchargeFee pricePointMetadata"
).split()


def report_order(game_slug: str) -> Response:
    """Credit an order once and answer with our id for it."""
    house = installation()
    game = house.games.by_slug(game_slug)
    if game is None or not is_configured(game):
        return _refuse(404, "Not Found", "unknown_game", game)
    if not is_address_allowed(game, PARTNER):
        return _refuse(403, "Forbidden", "address", game)
    body = request.get_data(cache=True)

    try:
        signer = verify_call(game, body)
    except SignatureError as error:
        return _refuse(401, "Unauthorized", error.reason, game)

    try:
        order = parse_order(body)
    except ValueError as error:
        return _refuse(400, f"The order cannot be read: {error}", "malformed", game)
    wanted = to_credit(order, game, body, request.headers["signature"], signer.label)
    if not order["is_completed"]:
        house.database.write(lambda tx: record_uncompleted(tx, wanted, order["actionStatus"]))
        return answer(wanted.answer_status, wanted.answer_body)

    if must_wait(game, PARTNER, wanted):
        return _refuse(503, "The game is down; please try again", "game_down", game)
    try:
        rules = lookup.rules(house.database, house.outbound, game, wanted)
        credited = house.database.write(lambda tx: ledger.credit(tx, wanted, rules))
    except ledger.ConflictError as error:
        known = error.transaction_id
        house.database.write(lambda tx: ledger.record_conflict(tx, wanted, known))
        return _refuse(400, "This order was reported before with other content", "conflict", game)
    except ledger.UnknownPlayerError:
        return _refuse(400, "Unknown player", "unknown_player", game)
    except ledger.UnknownItemError as error:
        return _refuse(400, f"Unknown product {error.sku}", "unknown_item", game)
    except ledger.QuantityError as error:
        return _refuse(400, f"The order cannot be read: products: {error}", "malformed", game)
    except lookup.LookupFailedError as error:
        current_app.logger.error("appcharge %s: an order could not be credited: %s", game.slug, error)
        return refuse(503, "The game's server did not answer; please try again")
    if credited.is_new:
        current_app.logger.info("appcharge %s: credited order %r", game.slug, wanted.reference)
    return answer(credited.answer_status, credited.answer_body)


def is_configured(game: Game) -> bool:
    """Both proofs must be set: a check is never skipped because its secret is missing."""
    return bool(game.keys("appcharge.main_key") and game.keys("appcharge.publisher_token"))


def verify_call(game: Game, body: bytes) -> SecretValue:
    """The key that signed the current request. Raises SignatureError, also for a wrong token or project."""
    keys = game.keys("appcharge.main_key")
    if game.settings["appcharge.secondary_role"] == "backup":
        keys += game.keys("appcharge.secondary_key")
    tolerance = float(game.settings["appcharge.tolerance_seconds"])
    signer = verify(body, request.headers.get("signature", ""), keys, tolerance)

    token = request.headers.get("x-publisher-token", "")
    tokens = [key for key in game.keys("appcharge.publisher_token") if signing.is_equal(key.value, token)]
    if not tokens:
        raise SignatureError("token")
    project = request.headers.get("x-project-id")
    if project is not None and game.settings["appcharge.project_id"] not in ("", project):
        raise SignatureError("project")
    for key in (signer, tokens[0]):
        installation().observations.key_used(game.id, key.name, key.slot)
    return signer


class _Id(fields.Field[str | None]):
    """An id as text; a JSON integer keeps its digits. Empty counts as missing."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise ValidationError("not text")
        try:
            return registry.checked_id(value) if value else None
        except ValueError as error:
            raise ValidationError(str(error)) from None


class _Word(fields.Field[str]):
    """A short text such as a status."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("not text")
        return value.strip()[:64]


class _Quantity(fields.Field[int]):
    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        return int(_checked(exact.whole, value, exact.QUANTITY_DIGITS))


class _Product(Schema):
    class Meta:
        unknown = EXCLUDE

    amount = _Quantity(required=True)
    sku = _Id(load_default=None, allow_none=True)
    productId = fields.Dict(load_default=None, allow_none=True)  # {"sku", "name"} in 2023, when sku was not beside it


class _Order(Schema):
    class Meta:
        unknown = EXCLUDE

    orderId = _Id(load_default=None, allow_none=True)
    purchaseId = _Id(load_default=None, allow_none=True)
    appChargePaymentId = _Id(load_default=None, allow_none=True)
    externalTransactionId = _Id(load_default=None, allow_none=True)
    playerId = _Id(required=True)
    products = fields.List(fields.Nested(_Product), required=True)
    currency = _Word(load_default="", allow_none=True)
    action = fields.Raw(load_default=None, allow_none=True)
    actionStatus = _Word(load_default="", allow_none=True)
    purchaseDateAndTimeUtc = fields.Raw(load_default=None, allow_none=True)
    sessionMetadata = fields.Raw(load_default=None, allow_none=True)


_order = _Order()


def parse_order(body: bytes) -> dict[str, Any]:
    """The order's fields under Appcharge's names, checked. Raises ValueError, which names the field and no value.

    Added: ``lines`` (sku, amount), ``is_completed``, ``figures``.
    """
    document = exact.parse_json(body, allow_half_pairs=True)  # a name cut within an emoji is no reason to refuse
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    try:
        order: dict[str, Any] = dict(_order.load(document))
    except ValidationError as error:
        raise ValueError(_first_message(error.messages)) from None

    if not any(order[name] for name in ("orderId", "appChargePaymentId", "externalTransactionId")):
        raise ValueError("orderId is missing")
    if order["playerId"] is None:
        raise ValueError("playerId is missing")
    if len(order["products"]) > MOST_PRODUCTS:
        raise ValueError(f"products: more than {MOST_PRODUCTS}")
    order["lines"] = tuple(_line(index, product) for index, product in enumerate(order["products"]))
    order["figures"] = _figures(document)
    order["currency"] = (order["currency"] or "").upper() or None
    if order["currency"] is not None and not (len(order["currency"]) == 3 and order["currency"].isascii()):
        raise ValueError("currency: not a currency code")
    order["gross_minor"] = _minor(order["figures"].get("priceInCents"), "priceInCents")
    # A missing status counts as completed; of the others only this word credits.
    order["is_completed"] = (order["actionStatus"] or "completed").lower() == "completed"
    return order


def to_credit(order: dict[str, Any], game: Game, body: bytes, signature: str, signed_with: str) -> ledger.Credit:
    """An order in the ledger's words."""
    payment, external = order["appChargePaymentId"], order["externalTransactionId"]
    if order["orderId"]:
        reference = external_id = order["orderId"]
    else:
        reference = payment or external
        external_id = f"payment:{payment}" if payment else f"external:{external}"
    figures = order["figures"]
    is_free = order["action"] == "bonus" or (bool(figures) and not any(map(Decimal, figures.values())))
    known_by = tuple((kind, value) for kind, value in (("payment", payment), ("external", external)) if value)
    keys = known_by if order["purchaseId"] is None else (("purchase", order["purchaseId"]), *known_by)
    return ledger.Credit(
        game_id=game.id,
        game_slug=game.slug,
        partner=PARTNER,
        external_id=external_id,
        reference=reference,
        kind="bonus" if is_free else "purchase",
        player_id=order["playerId"],
        lines=order["lines"],
        fingerprint=ledger.fingerprint(
            order["playerId"], order["gross_minor"], order["currency"], lines=order["lines"]
        ),
        raw_body=body,
        signature=signature,
        signed_with=signed_with,
        answer_status=200,
        answer_body=json.dumps({"publisherPurchaseId": ledger.public_id(game.slug, PARTNER, external_id)}),
        environment=game.settings["appcharge.environment"],
        money=ledger.Money(
            currency=order["currency"],
            gross_minor=order["gross_minor"],
            subtotal_minor=_minor_if_whole(figures.get("subTotal")),
            tax_minor=_minor_if_whole(figures.get("tax")),
            usd_gross=figures.get("priceTotalInDollar"),
            usd_tax=figures.get("taxInDollar"),
            usd_fee=figures.get("estimatedAppchargeFee"),
            usd_net=figures.get("estimatedPublisherNetAmount"),
            usd_unit="cents" if game.is_on("appcharge.dollar_fields_are_cents") else "dollars",
            figures=figures,
        ),
        occurred_at=_occurred_at(order["purchaseDateAndTimeUtc"]),
        session_metadata=_session_metadata(order["sessionMetadata"]),
        keys=keys,
        known_by=known_by,
    )


def record_uncompleted(tx: Any, wanted: ledger.Credit, status: str) -> None:
    """An order that failed is kept once and credits nothing; a later ``completed`` for it credits."""
    is_new = events.record(
        tx,
        game_id=wanted.game_id,
        partner=PARTNER,
        type="appcharge.order.failed",
        dedupe_key=f"order:{wanted.external_id}:{status.lower()}",
        data={"order_id": wanted.reference, "status": status, "player_id": wanted.player_id},
        raw_body=wanted.raw_body,
        environment=wanted.environment,
        is_test=wanted.is_test,
        external_id=wanted.external_id,
        player_id=wanted.player_id,
        occurred_at=wanted.occurred_at,
    )
    if is_new:
        counters.add(tx, wanted.game_id, PARTNER, "failed")


def answer(status: int, body: str) -> Response:
    return Response(body, status, mimetype="application/json")


def refuse(status: int, message: str) -> Response:
    """Appcharge's error dialect: ``publisherErrorMessage`` is shown to the studio in its dashboard."""
    return answer(status, json.dumps({"error": message, "publisherErrorMessage": message}))


def _refuse(status: int, message: str, reason: str, game: Game | None) -> Response:
    note_refusal(PARTNER, "orders", game, reason, status)
    return refuse(status, message)


def _checked(read: Any, *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def _line(index: int, product: dict[str, Any]) -> tuple[str, int]:
    sku = product["sku"]
    if sku is None and product["productId"] is not None:
        sku = _Id().deserialize(product["productId"].get("sku") or "")
    if sku is None:
        raise ValueError(f"products.{index}.sku is missing")
    if product["amount"] < 0:
        raise ValueError(f"products.{index}.amount: below 0")
    return sku, product["amount"]


def _figures(document: dict[str, Any]) -> dict[str, str]:
    """The money figures that were sent, as exact decimal text. A dozen schema fields would say the same, slower."""
    figures = {}
    for name in FIGURES:
        if document.get(name) not in (None, ""):
            try:
                figures[name] = exact.figure(document[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    return figures


def _minor(figure: str | None, name: str) -> int | None:
    if figure is None:
        return None
    try:
        amount = exact.whole(figure, exact.MINOR_DIGITS)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if amount < 0:
        raise ValueError(f"{name}: below 0")
    return amount


def _minor_if_whole(figure: str | None) -> int | None:
    # Payloads of 2023 have subTotal and tax in major units (0.90): kept among the figures, but no minor units.
    try:
        return None if figure is None else exact.whole(figure, exact.MINOR_DIGITS)
    except ValueError:
        return None


def _occurred_at(text: Any) -> str | None:
    """ISO 8601 to our format; empty on some free orders, and never a reason to refuse."""
    try:
        moment = datetime.fromisoformat(text if isinstance(text, str) else "")
        return clock.stamp((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


def _session_metadata(value: Any) -> str | None:
    """JSON text of what the game attached, whether it came as an object, as JSON in text, or as plain text."""
    if isinstance(value, str) and value:
        with suppress(ValueError):  # plain text is allowed too
            value = exact.parse_json(value.encode())
    return None if value in (None, "") else json.dumps(value, default=float)


def _first_message(messages: Any, path: str = "") -> str:
    """``products.0.amount: not a whole number`` out of marshmallow's nested messages."""
    while isinstance(messages, dict):
        key, messages = next(iter(messages.items()))
        path = f"{path}.{key}" if path else str(key)
    return f"{path}: {messages[0] if isinstance(messages, list) else messages}"
