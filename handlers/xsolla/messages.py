"""What Xsolla's webhooks say, in our words, and who signed them.

Field names are those of developers.xsolla.com/webhooks (checked 2026-11). The same fact has another place in each type
of webhook; ``PATHS`` lists the places, the likeliest first.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from coinslot.access.keyring import SecretValue
from coinslot.base import exact, signing
from coinslot.base.money import in_minor
from coinslot.games.readers import at_path, figure_of, id_of, moment_of

VALIDATION, PAYMENT, ORDER_PAID = "user_validation", "payment", "order_paid"
REFUND, ORDER_CANCELED, PARTIAL_REFUND = "refund", "order_canceled", "partial_refund"
REFUNDS = (REFUND, ORDER_CANCELED, PARTIAL_REFUND)

# Refund codes of fraud and chargebacks: those for which Xsolla recommends to block the player. The others are refunds.
CHARGEBACK_CODES = ("2", "4", "7", "11", "12")

LONGEST_TYPE = 100
MOST_ITEMS = 500
PATHS: Mapping[str, tuple[str, ...]] = {
    "player": ("user.external_id", "user.id"),
    "transaction": ("billing.transaction.id", "transaction.id", "order.invoice_id"),
    "order": ("order.id",),
    "external": ("billing.transaction.external_id", "transaction.external_id"),
    "date": (
        "billing.refund_details.date",
        "refund_details.date",
        "billing.transaction.payment_date",
        "transaction.payment_date",
        "transaction.date",
    ),
    "amount": ("order.amount", "purchase.total.amount", "purchase.checkout.amount", "billing.purchase.total.amount"),
    "currency": ("order.currency", "purchase.total.currency", "purchase.checkout.currency"),
    "refunded": ("payment_details.payment.amount", "billing.payment_details.payment.amount"),
    "refund code": ("refund_details.code", "billing.refund_details.code"),
    "dry run": ("billing.transaction.dry_run", "transaction.dry_run"),
}
# What is said of money, kept under these names: figure -> path, in the webhook or in its ``billing``.
FIGURES = ("payment", "payout", "vat", "sales_tax", "xsolla_fee", "payment_method_fee")


class SignatureError(Exception):
    """The call is not signed with a secret of this game."""


def signature_of(body: bytes, secret: bytes) -> str:
    """SHA-1 over body and secret, in lower-case hexadecimal. The algorithm is Xsolla's choice."""
    return hashlib.sha1(body + secret, usedforsecurity=False).hexdigest()


def verify(body: bytes, header: str, secrets: Iterable[SecretValue]) -> SecretValue:
    """The secret that signed the body. ``header`` is ``Signature <40 hexadecimal digits>``. Raises SignatureError."""
    found = re.fullmatch("signature +([0-9a-f]{40})", header.strip().lower())
    for secret in secrets:
        if found is not None and signing.is_equal(signature_of(body, secret.value), found[1]):
            return secret
    raise SignatureError


def parse(body: bytes) -> dict[str, Any]:
    """The webhook as a JSON object with a ``notification_type``. Raises ValueError, which names the field."""
    document = exact.parse_json(body, allow_half_pairs=True, is_lenient=True)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    kind = document.get("notification_type")
    if not isinstance(kind, str) or not (0 < len(kind) <= LONGEST_TYPE and kind.isprintable()):
        raise ValueError("notification_type is missing")
    return document


def player_id(document: Mapping[str, Any]) -> str:
    """Raises ValueError where none is named."""
    found = identifier(document, "player")
    if found is None:
        raise ValueError("user.id is missing")
    return found


def purchase_ids(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The ids a webhook names its purchase by, as kind and value; ``reference`` is Xsolla's transaction id."""
    named = {"reference": "transaction", "order": "order", "external": "external"}
    ids = ((kind, identifier(document, name)) for kind, name in named.items())
    return [(kind, value) for kind, value in ids if value is not None]


def lines(document: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """What was bought, as item and quantity. Raises ValueError, which names the field.

    ``order_paid`` lists ``items``. A ``payment`` lists virtual items and a virtual currency, or nothing where an
    ``order_paid`` follows. Version 2 lists the contents of a bundle beside it: the bundle's own item is credited.
    """
    if document["notification_type"] == PAYMENT:
        listed = at_path(document, "purchase.virtual_items.items") or []
        currency = at_path(document, "purchase.virtual_currency")
        if isinstance(currency, dict) and currency.get("quantity"):
            listed = [*_checked_list(listed), {**currency, "sku": currency.get("sku") or currency.get("name")}]
    else:
        listed = document.get("items") or []
    listed = _checked_list(listed)
    if any(each.get("type") == "bundle" for each in listed):
        listed = [each for each in listed if each.get("is_bundle_content") is not True]
    return tuple(_line(index, each) for index, each in enumerate(listed))


def money(document: Mapping[str, Any]) -> tuple[str | None, int | None, dict[str, str]]:
    """Currency, price in minor units, and every figure as text. What cannot be read is None and among the figures."""
    figures = {}
    for name, value in (
        ("amount", _first(document, "amount")),
        ("currency", _first(document, "currency")),
        *((name, _payment_detail(document, name)) for name in FIGURES),
    ):
        if value not in (None, ""):
            figures[name] = exact.whole_text(str(value))[:64]
    currency = figures.get("currency", "").upper()
    if at_path(document, "order.currency_type") not in (None, "real") or not re.fullmatch("[A-Z]{3}", currency):
        return None, None, figures
    try:
        amount = in_minor(Decimal(exact.figure(figures.get("amount"))), currency)
        return currency, None if amount is None else exact.whole(amount, exact.MINOR_DIGITS), figures
    except ValueError:
        return currency, None, figures


def is_free(document: Mapping[str, Any]) -> bool:
    """Whether nothing was paid, or it was paid with a currency of the game's."""
    amount = figure_of(_first(document, "amount"))
    is_zero = amount is not None and not Decimal(amount)
    return is_zero or at_path(document, "order.currency_type") in ("virtual", "loyalty_point")


def is_sandbox(document: Mapping[str, Any]) -> bool:
    return at_path(document, "order.mode") == "sandbox" or _first(document, "dry run") in (1, "1", True)


def occurred_at(document: Mapping[str, Any]) -> str | None:
    """When it was paid or given back, as :func:`coinslot.base.clock.stamp`; None where that is not said."""
    return moment_of(_first(document, "date"))


def refund_reason(document: Mapping[str, Any]) -> str:
    """``chargeback`` or ``refund``."""
    return "chargeback" if str(_first(document, "refund code")) in CHARGEBACK_CODES else "refund"


def refunded_amount(document: Mapping[str, Any]) -> str | None:
    """What a partial refund gave back, as decimal text; None where it is not said."""
    return figure_of(_first(document, "refunded")) if document["notification_type"] == PARTIAL_REFUND else None


def identifier(document: Mapping[str, Any], name: str) -> str | None:
    """The first of an id's places (:data:`PATHS`) that holds one, as text."""
    return next(
        (found for found in (id_of(at_path(document, path)) for path in PATHS[name]) if found is not None), None
    )


def _line(index: int, item: Mapping[str, Any]) -> tuple[str, int]:
    sku = id_of(item.get("sku"))
    if sku is None:
        raise ValueError(f"items.{index}.sku is missing")
    given = next((item[name] for name in ("quantity", "amount") if item.get(name) is not None), 1)
    try:
        quantity = exact.whole(given, exact.QUANTITY_DIGITS)
    except ValueError as error:
        raise ValueError(f"items.{index}.quantity: {error}") from None
    if quantity < 0:
        raise ValueError(f"items.{index}.quantity: below 0")
    return sku, quantity


def _checked_list(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > MOST_ITEMS or not all(isinstance(each, dict) for each in value):
        raise ValueError(f"items is not a list of up to {MOST_ITEMS} items")
    return value


def _payment_detail(document: Mapping[str, Any], name: str) -> Any:
    places = (f"{place}payment_details.{name}.amount" for place in ("", "billing."))
    return next((found for found in (at_path(document, place) for place in places) if found is not None), None)


def _first(document: Mapping[str, Any], name: str) -> Any:
    return next((found for path in PATHS[name] if (found := at_path(document, path)) is not None), None)
