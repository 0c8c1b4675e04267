"""What one of Appcharge's orders says, read and checked."""

from contextlib import suppress
from typing import Any

from coinslot.base import exact
from coinslot.games.readers import at_path, id_of
from handlers.appcharge.receive import ORDER_IDS
from handlers.appcharge.shapes import read_object, required_id

MOST_PRODUCTS = 500
LONGEST_WORD = 64  # of a status, and of an unreadable figure, as they are kept
# Money figures Appcharge sends; all are kept, exactly, under these names.
FIGURES = (
    "priceInCents subTotal tax priceInDollar priceTotalInDollar taxInDollar originalPriceInDollar paymentPriceInDollar "
    "currencyExchangeCost estimatedPublisherNetAmount estimatedAppchargeFee pricePointMetadata"
).split()


def parse_order(body: bytes) -> dict[str, Any]:
    """What decides about an order, under Appcharge's names. Raises ValueError, which names the field and no value.

    Added: ``lines`` (sku, amount), ``status``, ``figures`` (all that is said of money, as text), ``unreadable`` (the
    names of those that are not figures), and ``document``, everything as it came.
    """
    document = read_object(body, is_lenient=True)
    order: dict[str, Any] = {name: id_of(document.get(name)) for name in ("purchaseId", *ORDER_IDS)}
    if document.get("orderId") not in (None, ""):
        order["orderId"] = required_id(document, "orderId")  # unreadable, it is not as good as missing
    order["playerId"] = required_id(document, "playerId")
    if not any(order[name] for name in ORDER_IDS):
        raise ValueError("orderId is missing")
    order["lines"] = _lines(document.get("products"))
    status = document.get("actionStatus")
    order["status"] = "" if status is None else kept_text(status)[:LONGEST_WORD]
    order["figures"], order["unreadable"] = _figures(document)
    order["gross_minor"] = _minor(order["figures"].get("priceInCents"), order)
    order["currency"] = _currency(document.get("currency"), order)
    order["document"] = document
    return order


def _lines(products: Any) -> tuple[tuple[str, int], ...]:
    if not isinstance(products, list):
        raise ValueError("products: not a list")
    if len(products) > MOST_PRODUCTS:
        raise ValueError(f"products: more than {MOST_PRODUCTS}")
    return tuple(_line(f"products.{index}", product) for index, product in enumerate(products))


def _line(place: str, product: Any) -> tuple[str, int]:
    if not isinstance(product, dict):
        raise ValueError(f"{place}: not an object")
    sku = product.get("sku")
    if sku in (None, ""):
        sku = at_path(product, "productId.sku")  # in 2023, productId was an object, and sku was not beside it
    sku = required_id({f"{place}.sku": sku}, f"{place}.sku")
    try:
        amount = exact.whole(product.get("amount"), exact.QUANTITY_DIGITS)
    except ValueError as error:
        raise ValueError(f"{place}.amount: {error}") from None
    if amount < 0:
        raise ValueError(f"{place}.amount: below 0")
    return sku, amount


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
            if text := kept_text(value):
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
    text = "" if value is None else kept_text(value).strip()
    code = text.upper()
    if len(code) == 3 and code.isascii() and code.isalnum() and isinstance(value, str):
        return code
    if text:
        order["figures"]["currency"] = text
        order["unreadable"].add("currency")
    return None


def kept_text(value: Any) -> str:
    """Any value of a JSON document, as text that the database takes; equal values have equal texts."""
    try:
        text = value if isinstance(value, str) else exact.json_text(value, is_sorted=True)
    except ValueError:
        text = type(value).__name__  # it is nested too deeply
    return exact.whole_text(text).strip()


def minor_if_whole(figure: str | None) -> int | None:
    """A figure in minor units; None where it is no whole number of at most 18 digits."""
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
