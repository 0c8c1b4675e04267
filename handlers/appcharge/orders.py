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
from decimal import Decimal
from typing import Any

from flask import Response, current_app
from marshmallow import EXCLUDE, Schema, ValidationError, fields

from coinslot import counters, events, exact, ledger, lookup
from coinslot.games import Game
from handlers import installation, must_wait
from handlers.appcharge.door import PARTNER, Entered, enter, refuse, refused
from handlers.appcharge.shapes import Id, Quantity, Word, first_message, moment

MOST_PRODUCTS = 500

# Money figures Appcharge sends; all are kept, exactly, under these names.
FIGURES = (
    "priceInCents subTotal tax priceInDollar priceTotalInDollar taxInDollar originalPriceInDollar paymentPriceInDollar "
    "currencyExchangeCost estimatedPublisherNetAmount estimatedAppchargeFee pricePointMetadata"
).split()


def report_order(game_slug: str) -> Response:
    """Credit an order once and answer with our id for it."""
    house = installation()
    call = enter(game_slug, "orders")
    game = call.game

    try:
        order = parse_order(call.body)
    except ValueError as error:
        raise refused("orders", game, "malformed", 400, f"The order cannot be read: {error}") from None
    wanted = to_credit(order, game, call)
    if not order["is_completed"]:
        house.database.write(lambda tx: record_uncompleted(tx, wanted, order["actionStatus"]))
        return _answer(wanted.answer_status, wanted.answer_body)

    if must_wait(game, PARTNER, wanted):
        raise refused("orders", game, "game_down", 503, "The game is down; please try again")
    try:
        rules = lookup.rules(house.database, house.outbound.for_callers, game, wanted)
        credited = house.database.write(lambda tx: ledger.credit(tx, wanted, rules))
    except ledger.ConflictError as error:
        known = error.transaction_id
        house.database.write(lambda tx: ledger.record_conflict(tx, wanted, known))
        message = "This order was reported before with other content"
        raise refused("orders", game, "conflict", 400, message) from None
    except ledger.UnknownPlayerError:
        raise refused("orders", game, "unknown_player", 400, "Unknown player") from None
    except ledger.UnknownItemError as error:
        raise refused("orders", game, "unknown_item", 400, f"Unknown product {error.sku}") from None
    except ledger.QuantityError as error:
        raise refused("orders", game, "malformed", 400, f"The order cannot be read: products: {error}") from None
    except lookup.LookupFailedError as error:
        current_app.logger.error("appcharge %s: an order could not be credited: %s", game.slug, error)
        return refuse(503, "The game's server did not answer; please try again")
    if credited.is_new:
        current_app.logger.info("appcharge %s: credited order %r", game.slug, wanted.reference)
    return _answer(credited.answer_status, credited.answer_body)


class _Product(Schema):
    class Meta:
        unknown = EXCLUDE

    amount = Quantity(required=True)
    sku = Id(load_default=None, allow_none=True)
    productId = fields.Dict(load_default=None, allow_none=True)  # {"sku", "name"} in 2023, when sku was not beside it


class _Order(Schema):
    class Meta:
        unknown = EXCLUDE

    orderId = Id(load_default=None, allow_none=True)
    purchaseId = Id(load_default=None, allow_none=True)
    appChargePaymentId = Id(load_default=None, allow_none=True)
    externalTransactionId = Id(load_default=None, allow_none=True)
    playerId = Id(required=True)
    products = fields.List(fields.Nested(_Product), required=True)
    currency = Word(load_default="", allow_none=True)
    action = fields.Raw(load_default=None, allow_none=True)
    actionStatus = Word(load_default="", allow_none=True)
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
        raise ValueError(first_message(error.messages)) from None

    if not any(order[name] for name in ("orderId", "appChargePaymentId", "externalTransactionId")):
        raise ValueError("orderId is missing")
    if order["playerId"] is None:
        raise ValueError("playerId is missing")
    if len(order["products"]) > MOST_PRODUCTS:
        raise ValueError(f"products: more than {MOST_PRODUCTS}")
    order["lines"] = tuple(_line(index, product) for index, product in enumerate(order["products"]))
    order["figures"] = _figures(document)
    order["currency"] = (order["currency"] or "").upper() or None
    if order["currency"] is not None and not (
        len(order["currency"]) == 3 and order["currency"].isascii() and order["currency"].isalnum()
    ):
        raise ValueError("currency: not a currency code")
    order["gross_minor"] = _minor(order["figures"].get("priceInCents"), "priceInCents")
    # A missing status counts as completed; of the others only this word credits.
    order["is_completed"] = (order["actionStatus"] or "completed").lower() == "completed"
    return order


def to_credit(order: dict[str, Any], game: Game, call: Entered) -> ledger.Credit:
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
        raw_body=call.body,
        signature=call.signature,
        signed_with=call.signed_with,
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
        occurred_at=moment(order["purchaseDateAndTimeUtc"]),
        session_metadata=_session_metadata(order["sessionMetadata"]),
        keys=keys,
        known_by=known_by,
    )


def record_uncompleted(tx: Any, wanted: ledger.Credit, status: str) -> None:
    """An order that failed is kept once and credits nothing; a later ``completed`` for it credits."""
    event_id = events.record(
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
    if event_id is not None:
        counters.add(tx, wanted.game_id, PARTNER, "failed")


def _answer(status: int, body: str) -> Response:
    return Response(body, status, mimetype="application/json")


def _line(index: int, product: dict[str, Any]) -> tuple[str, int]:
    sku = product["sku"]
    if sku is None and product["productId"] is not None:
        sku = Id().deserialize(product["productId"].get("sku") or "")
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


def _session_metadata(value: Any) -> str | None:
    """JSON text of what the game attached, whether it came as an object, as JSON in text, or as plain text."""
    if isinstance(value, str) and value:
        with suppress(ValueError):  # plain text is allowed too
            value = exact.parse_json(value.encode())
    return None if value in (None, "") else json.dumps(value, default=float)
