"""What an order of Appcharge's says, read and checked."""

from contextlib import suppress
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields

from coinslot.base import exact
from handlers.appcharge.receive import ORDER_IDS
from handlers.appcharge.shapes import Id, Quantity, first_message

MOST_PRODUCTS = 500
LONGEST_WORD = 64  # of a status, and of a figure that is none, as they are kept
# Money figures Appcharge sends; all are kept, exactly, under these names.
FIGURES = (
    "priceInCents subTotal tax priceInDollar priceTotalInDollar taxInDollar originalPriceInDollar paymentPriceInDollar "
    "currencyExchangeCost estimatedPublisherNetAmount estimatedAppchargeFee pricePointMetadata"
).split()


class _Product(Schema):
    class Meta:
        unknown = EXCLUDE

    amount = Quantity(required=True)
    sku = Id(load_default=None, allow_none=True)
    productId = fields.Raw(load_default=None, allow_none=True)  # {"sku", "name"} in 2023, when sku was not beside it


class _Order(Schema):
    class Meta:
        unknown = EXCLUDE

    orderId = Id(load_default=None, allow_none=True)
    playerId = Id(required=True)
    products = fields.List(fields.Nested(_Product), required=True)


_order = _Order()
_id = Id()


def parse_order(body: bytes) -> dict[str, Any]:
    """What decides about an order, under Appcharge's names. Raises ValueError, which names the field and no value.

    Added: ``lines`` (sku, amount), ``status``, ``figures`` (all that was said of money, as text), ``unreadable`` (the
    names of those that are no figures), and ``document``, everything as it came.
    """
    document = exact.parse_json(body, allow_half_pairs=True, is_lenient=True)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    try:
        order: dict[str, Any] = dict(_order.load(document))
    except ValidationError as error:
        raise ValueError(first_message(error.messages)) from None

    for name in ("purchaseId", "appChargePaymentId", "externalTransactionId"):
        order[name] = _readable_id(document.get(name))
    if not any(order[name] for name in ORDER_IDS):
        raise ValueError("orderId is missing")
    if order["playerId"] is None:
        raise ValueError("playerId is missing")
    if len(order["products"]) > MOST_PRODUCTS:
        raise ValueError(f"products: more than {MOST_PRODUCTS}")
    order["lines"] = tuple(_line(index, product) for index, product in enumerate(order["products"]))
    order["status"] = "" if document.get("actionStatus") is None else text_of(document["actionStatus"])[:LONGEST_WORD]
    order["figures"], order["unreadable"] = _figures(document)
    order["gross_minor"] = _minor(order["figures"].get("priceInCents"), order)
    order["currency"] = _currency(document.get("currency"), order)
    order["document"] = document
    return order


def _line(index: int, product: dict[str, Any]) -> tuple[str, int]:
    sku = product["sku"]
    if sku is None and isinstance(product["productId"], dict):
        try:
            sku = _id.deserialize(product["productId"].get("sku") or "")
        except ValidationError as error:
            raise ValueError(first_message(error.messages, f"products.{index}.productId.sku")) from None
    if sku is None:
        raise ValueError(f"products.{index}.sku is missing")
    if product["amount"] < 0:
        raise ValueError(f"products.{index}.amount: below 0")
    return sku, product["amount"]


def _figures(document: dict[str, Any]) -> tuple[dict[str, str], set[str]]:
    """What was said of money: exact decimal text where it is a figure, else as it came; and the names of the latter."""
    figures, unreadable = {}, set()
    for name in FIGURES:
        value = document.get(name)
        if value is None or value == "":
            continue
        try:
            figures[name] = exact.figure(value)
        except ValueError:
            if text := text_of(value):
                figures[name] = text
                unreadable.add(name)
    return figures, unreadable


def _minor(figure: str | None, order: dict[str, Any]) -> int | None:
    """The price; one that is no price is unreadable, even where it is a figure."""
    amount = minor_if_whole(figure)
    if amount is not None and amount >= 0:
        return amount
    if figure is not None:
        order["unreadable"].add("priceInCents")
    return None


def _currency(value: Any, order: dict[str, Any]) -> str | None:
    """A code of three letters or digits; anything else is kept among the figures, and its amount is unknown."""
    text = "" if value is None else text_of(value).strip()
    code = text.upper()
    if len(code) == 3 and code.isascii() and code.isalnum() and isinstance(value, str):
        return code
    if text:
        order["figures"]["currency"] = text
        order["unreadable"].add("currency")
    return None


def _readable_id(value: Any) -> str | None:
    """An id beside the order's own, which is as good as missing when it cannot be read."""
    try:
        return None if value is None else _id.deserialize(value)
    except ValidationError:
        return None


def text_of(value: Any) -> str:
    """Any value of a JSON document, as text that the database takes; equal values have equal texts."""
    try:
        text = value if isinstance(value, str) else exact.json_text(value, is_sorted=True)
    except ValueError:
        text = type(value).__name__  # it is nested too deeply
    return exact.whole_text(text).strip()


def minor_if_whole(figure: str | None) -> int | None:
    # Payloads of 2023 have subTotal and tax in major units (0.90): kept among the figures, but no minor units.
    try:
        return None if figure is None else exact.whole(figure, exact.MINOR_DIGITS)
    except ValueError:
        return None


def session_metadata(value: Any) -> str | None:
    """JSON text of what the game attached, whether it came as an object, as JSON in text, or as plain text."""
    if isinstance(value, str) and value:
        with suppress(ValueError):  # plain text is allowed too
            value = exact.parse_json(value.encode())
    with suppress(ValueError):  # it may be nested too deeply to be written
        return None if value in (None, "") else exact.json_text(value)
    return None
