"""What the store sells, read out of Appcharge's catalogue, and our registry filled from it.

A list may be partial unless it says how many there are. Money and quantities here are what the store offers to
everybody; what a player is granted, only the order says.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from coinslot.base.errors import CoinslotError
from coinslot.base.spellings import shown
from coinslot.games import registry
from coinslot.games.readers import at_path, text_of, whole_of
from coinslot.store.db import Connection
from handlers.appcharge.api.client import Client
from handlers.kit.api import ApiError

QUANTITY_DIGITS = 30
PRICE_DIGITS = 9
LOWEST_PRICE_USD_CENTS = 80


class CatalogueError(CoinslotError):
    """Something about the catalogue cannot be done; the message is for the person who asked."""


class Product(NamedTuple):
    id: str
    name: str | None  # as players see it, else the internal one


class Line(NamedTuple):
    """One product of an entry. ``quantity`` None: Appcharge did not say, which is not 0."""

    product_id: str | None
    quantity: int | None


@dataclass(frozen=True)
class Entry:
    """One step of an offer. ``price_usd_cents`` None: Appcharge did not say, which is not free."""

    index: int | None
    price_usd_cents: int | None
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Offer:
    """``is_active`` None: Appcharge did not say."""

    id: str
    name: str | None
    kind: str
    sub_kind: str
    is_active: bool | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Catalogue:
    """Products and offers, and what is odd about them. ``is_partial``: there may be more offers than these."""

    products: tuple[Product, ...]
    offers: tuple[Offer, ...]
    is_partial: bool
    warnings: tuple[str, ...]


# Reading


def read(client: Client, known_offer_ids: Sequence[str] = ()) -> Catalogue:
    """Products, then offers. Raises ApiError unless both could be read.

    Where the list of offers is partial, or Appcharge wants ids, ``known_offer_ids`` are asked for by name.
    """
    product_documents = client.products()
    offer_documents, is_partial = read_offers(client, known_offer_ids)
    warnings: list[str] = []
    products = [
        Product(own_id, _name(document))
        for own_id, document in _identified(product_documents, "publisherProductId", "product", warnings)
    ]
    offers = [
        parse_offer(document, own_id)
        for own_id, document in _identified(offer_documents, "publisherOfferId", "offer", warnings)
    ]
    warnings += oddities(products, offers)
    if is_partial:
        warnings.append("Appcharge did not say that these are all offers; there may be more")
    return Catalogue(tuple(products), tuple(offers), is_partial, tuple(warnings))


def read_offers(client: Client, known_offer_ids: Sequence[str] = ()) -> tuple[list[dict[str, Any]], bool]:
    """The offers as Appcharge tells them, each once, and whether there may be more."""
    try:
        listed = client.offers()
        documents, is_partial = listed.documents, listed.is_partial
    except ApiError as error:
        if error.status != 400 or not known_offer_ids:
            raise
        documents, is_partial = [], True
    if is_partial and known_offer_ids:
        seen = {text_of(each.get("publisherOfferId")) for each in documents}
        missing = [each for each in known_offer_ids if each not in seen]
        documents = documents + client.some_offers(missing)
    return documents, is_partial


def parse_offer(document: Mapping[str, Any], offer_id: str) -> Offer:
    """An offer; what is missing or unreadable of it is None or empty."""
    is_active = document.get("active")
    return Offer(
        id=offer_id,
        name=_name(document),
        kind=text_of(document.get("type")) or "",
        sub_kind=sub_kind(document) or "",
        is_active=is_active if isinstance(is_active, bool) else None,
        entries=tuple(map(entry_of, objects_of(document, "productsSequence"))),
    )


def oddities(products: Sequence[Product], offers: Sequence[Offer]) -> Iterator[str]:
    """What an owner should look at, in sentences."""
    known = {product.id for product in products}
    for kind, ids in (("product", [each.id for each in products]), ("offer", [each.id for each in offers])):
        for each, count in Counter(ids).items():
            if count > 1:
                yield f"{kind} {each} is there {count} times"
    for offer in offers:
        lines = [line for entry in offer.entries for line in entry.lines]
        for product_id in dict.fromkeys(line.product_id for line in lines if line.product_id not in known):
            what = "a product without an id" if product_id is None else f"{shown(product_id, 80)}, which is no product"
            yield f"offer {offer.id} has {what}"
        for entry in offer.entries:
            if entry.price_usd_cents is not None and 0 < entry.price_usd_cents < LOWEST_PRICE_USD_CENTS:
                yield f"offer {offer.id} costs {entry.price_usd_cents} US cents; Appcharge sells nothing below 80"


def fill_items(tx: Connection, game_id: int, catalogue: Catalogue) -> list[str]:
    """Register the products that are missing; returns their skus. Nothing is renamed or removed: orders and refunds for
    items that the catalogue does not have may still come."""
    return registry.add_items(tx, game_id, {product.id: product.name for product in catalogue.products})


# Quirks of what Appcharge tells


def _identified(
    documents: Iterable[dict[str, Any]], id_name: str, what: str, warnings: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each document with its id, where we can keep that; a warning for each of the others."""
    for document in documents:
        own_id = text_of(document.get(id_name))
        try:
            yield registry.checked_id(own_id or ""), document
        except ValueError as error:
            name = shown(own_id, 60) if own_id else "without an id"
            warnings.append(f"{what} {name} is left out: {error}")


def entry_of(document: Mapping[str, Any]) -> Entry:
    """One step of an offer; what is missing or unreadable of it is None."""
    lines = tuple(
        Line(text_of(of_item(item, "publisherProductId")), whole_of(of_item(item, "quantity"), QUANTITY_DIGITS))
        for item in objects_of(document, "products")
    )
    return Entry(whole_of(document.get("index"), 6), whole_of(document.get("priceInUsdCents"), PRICE_DIGITS), lines)


def objects_of(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects of a list in this field; empty where there is no list."""
    listed = document.get(name)
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def of_item(item: Mapping[str, Any], name: str) -> Any:
    """A field of an item, else of the product inside of it."""
    value = item.get(name)
    return at_path(item, f"product.{name}") if value is None else value


def sub_kind(document: Mapping[str, Any]) -> str | None:
    """The kind of a pop-up, which Appcharge spells ``subType`` or ``subtype``."""
    return text_of(document.get("subType")) or text_of(document.get("subtype"))


def _name(document: Mapping[str, Any]) -> str | None:
    """The name players see, else the internal one, as our registry can keep it."""
    found = (text_of(document.get(name)) for name in ("displayName", "name"))
    name = next((each.strip() for each in found if each and each.strip()), None)
    if name is None:
        return None
    try:
        return registry.checked_text(name, registry.LONGEST_ID)
    except ValueError:
        return shown(name, registry.LONGEST_ID)


def price_warnings(document: Mapping[str, Any], price_points: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Warnings for prices of an offer that are no price point of the account. Whether they are allowed is not known."""
    known = {whole_of(each.get("priceInUsdCents"), PRICE_DIGITS) for each in price_points}
    for price in dict.fromkeys(entry_of(each).price_usd_cents for each in objects_of(document, "productsSequence")):
        if price and price not in known:
            yield f"{dollars(price)} USD is no price point of this account"


def dollars(usd_cents: int) -> str:
    return format(Decimal(usd_cents).scaleb(-2), ".2f")
