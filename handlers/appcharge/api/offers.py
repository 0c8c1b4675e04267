"""Changing the offers of Appcharge's catalogue, with care.

Nothing says whether a PUT keeps the fields it leaves out. So a change is read back and compared with what was before.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from coinslot.base.spellings import shown
from coinslot.games import registry
from coinslot.games.readers import at_path, text_of
from handlers.appcharge.api.catalogue import CatalogueError, entry_of, objects_of, of_item, sub_kind
from handlers.appcharge.api.client import Client
from handlers.kit.api import ApiError

# What Appcharge tells about an offer and does not take back.
READ_ONLY = ("offerId", "publisherId", "offerUi", "createdAt", "updatedAt", "deeplinkUrl", "subtype")
FIXED = ("publisherOfferId", "type", "subType")  # once an offer is there
# Of an entry, what it takes beside index, price and products.
_ENTRY_EXTRAS = (
    "playerAvailability hidePlayerAvailability progressBarPoints barSize badges productSale priceDiscount"
).split()


class UncertainError(CatalogueError):
    """Nobody knows whether a change was made. ``before`` is the offer as it was."""

    def __init__(self, message: str, before: dict[str, Any]) -> None:
        super().__init__(message)
        self.before = before


@dataclass(frozen=True)
class Changed:
    """A change that was made. ``before`` is the offer as it was, None for a new one; ``unexpected`` says what is not
    as it should be now, and is empty when all is well."""

    before: dict[str, Any] | None
    after: dict[str, Any]
    unexpected: tuple[str, ...]


def create_offer(client: Client, document: Mapping[str, Any]) -> Changed:
    """Create an offer, switched off whatever the document says, and read it back.

    Raises CatalogueError when it has no id of ours, a product that Appcharge does not have, or the id of another offer.
    An answer that got lost is looked up; it is not asked for twice.
    """
    offer_id = document.get("publisherOfferId")
    try:
        offer_id = registry.checked_id(offer_id if isinstance(offer_id, str) else "")
    except ValueError as error:
        raise CatalogueError(f"nothing was sent\npublisherOfferId: {error}") from None
    _refuse_if_wrong(_unknown_products(client, document))
    if client.offer(offer_id) is not None:
        raise CatalogueError(f"there is an offer {offer_id} already")
    wanted = {**document, "active": False}
    try:
        client.create_offer(wanted)
    except ApiError as error:
        if not error.is_uncertain or client.offer(offer_id) is None:
            raise
    after = client.offer(offer_id)
    if after is None:
        raise CatalogueError(f"Appcharge took offer {offer_id}, and does not know it when asked")
    return Changed(None, after, tuple(_not_as_sent(wanted, after)))


def change_offer(client: Client, offer_id: str, changes: Mapping[str, Any]) -> Changed:
    """Change fields of an offer and read it back, so that it shows when Appcharge changed more than that.

    ``changes`` may be a whole offer as Appcharge answered it, to go back to it.
    Raises CatalogueError when there is no such offer or the changes cannot be right, and UncertainError when the
    answer got lost.
    """
    before = client.offer(offer_id)
    if before is None:
        raise CatalogueError(f"there is no offer {offer_id}")
    if "offerId" in changes:
        changes = as_request(changes)
    _refuse_if_wrong(_problems_of_changes(changes, before))
    if "productsSequence" in changes:
        _refuse_if_wrong(_unknown_products(client, changes))
    request = {"type": before.get("type")}
    if request["type"] == "PopUp":
        request["subType"] = sub_kind(before)
    if request["type"] == "RollingOffer":
        request |= {name: before.get(name) for name in ("name", "active")}
        if "productsSequence" not in changes:
            request["productsSequence"] = to_request(before.get("productsSequence"), has_priorities=False)
    request |= {name: value for name, value in changes.items() if name not in FIXED}
    is_sent = False
    try:
        client.update_offer(offer_id, request)
        is_sent = True
        after = client.offer(offer_id)
    except ApiError as error:
        if not is_sent and not error.is_uncertain:
            raise
        raise UncertainError(f"{error}\nThe offer may have changed; look at it before you try again.", before) from None
    if after is None:
        return Changed(before, {}, (f"the offer {offer_id} is gone",))
    return Changed(before, after, (*_not_as_sent(changes, after), *_changed_besides(before, after, changes)))


def as_request(answered: Mapping[str, Any]) -> dict[str, Any]:
    """An answered offer, as changes that lead back to it. Raises CatalogueError as :func:`to_request`."""
    has_priorities = answered.get("type") != "RollingOffer"
    made = {name: value for name, value in answered.items() if name not in (*READ_ONLY, *FIXED) and value is not None}
    if "productsSequence" in made:
        made["productsSequence"] = to_request(made["productsSequence"], has_priorities)
    return made | _extras(made)


def as_new(answered: Mapping[str, Any]) -> dict[str, Any]:
    """An offer as Appcharge answered it, as one to create after it was deleted. Raises CatalogueError likewise."""
    fixed = {name: answered.get(name) for name in FIXED} | {"subType": sub_kind(answered)}
    return {name: value for name, value in fixed.items() if value is not None} | as_request(answered)


def to_request(entries: Any, has_priorities: bool = True) -> list[dict[str, Any]]:
    """The entries of an offer as a request wants them. Raises CatalogueError where a price or quantity is unknown."""
    made = []
    for place, document in enumerate(entries if isinstance(entries, list) else [], 1):
        entry = entry_of(document if isinstance(document, dict) else {})
        if entry.price_usd_cents is None or any(line.quantity is None or not line.product_id for line in entry.lines):
            raise CatalogueError(f"Appcharge does not tell price and quantities of entry {place}; send the entries too")
        products: list[dict[str, Any]] = []
        for line, item in zip(entry.lines, objects_of(document, "products"), strict=True):
            product: dict[str, Any] = {"publisherProductId": line.product_id, "quantity": line.quantity}
            if has_priorities and (priority := of_item(item, "priority")) is not None:
                product["priority"] = priority
            products.append(product)
        extras = _extras(document)
        index = place if entry.index is None else entry.index
        made.append({"index": index, "priceInUsdCents": entry.price_usd_cents, "products": products, **extras})
    return made


def _extras(document: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry, or an offer, has beside its products, as a request wants it."""
    extras = {name: document[name] for name in _ENTRY_EXTRAS if document.get(name) is not None}
    if isinstance(extras.get("badges"), list):
        badges = [each for each in extras["badges"] if isinstance(each, dict)]
        extras["badges"] = [{"publisherBadgeId": each.get("publisherBadgeId")} for each in badges]
    if isinstance(extras.get("priceDiscount"), dict):
        kept = dict(extras["priceDiscount"])
        kept.pop("priceBeforeDiscount", None)  # nobody knows in what unit
        extras["priceDiscount"] = kept
    return extras


def _problems_of_changes(changes: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    """What a change would be left out of without a word. All else Appcharge refuses itself, and says why."""
    stored = {**before, "subType": sub_kind(before)}
    for name in FIXED:
        if name in changes and changes[name] != stored.get(name):
            yield f"{name}: cannot be changed"
    for name in READ_ONLY:
        if name in changes:
            yield f"{name}: Appcharge tells this and does not take it"


def _unknown_products(client: Client, document: Mapping[str, Any]) -> Iterator[str]:
    entries = map(entry_of, objects_of(document, "productsSequence"))
    wanted = [line.product_id for entry in entries for line in entry.lines if line.product_id is not None]
    if not wanted:
        return
    known = {text_of(each.get("publisherProductId")) for each in client.products()}
    yield from (f"{shown(each, 80)} is no product at Appcharge" for each in dict.fromkeys(wanted) if each not in known)


def _refuse_if_wrong(problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        more = [f"and {len(found) - 20} more"] if len(found) > 20 else []
        raise CatalogueError("\n".join(["nothing was sent", *found[:20], *more]))


def _not_as_sent(sent: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What came back otherwise than it was sent. What Appcharge does not tell back at all cannot be compared."""
    for name, value in sent.items():
        if name == "productsSequence":
            is_different = _essence(value) != _essence(after.get(name))
        elif name in ("offerUiId", "offerExternalUiId"):
            names = ("id",) if name == "offerUiId" else ("externalId", "offerExternalUiId")
            answered = [at_path(after, f"offerUi.{each}") for each in names]
            is_different = any(answered) and value not in answered
        elif name == "subType":
            is_different = sub_kind(after) not in (None, value)
        else:
            is_told = name in after or name in ("name", "type", "active")
            is_different = is_told and not _is_same(value, after.get(name))
        if is_different:
            yield f"{name} is not what was sent"


def _changed_besides(before: Mapping[str, Any], after: Mapping[str, Any], changes: Collection[str]) -> Iterator[str]:
    """What else is different now. Entries get new ids of Appcharge's with every change, so of those the rest counts."""
    touched = {*changes, "updatedAt"}
    if {"offerUiId", "offerExternalUiId"} & touched:
        touched |= {"offerUi", "offerUiId", "offerExternalUiId"}
    for name in sorted({*before, *after} - touched):
        essence = _essence if name == "productsSequence" else lambda value: value
        if essence(before.get(name)) != essence(after.get(name)):
            yield f"{shown(name, 60)} has changed too"


def _essence(entries: Any) -> list[Any]:
    """What counts of a sequence of entries, comparable in whatever shape it comes."""
    made = []
    for document in objects_of({"entries": entries}, "entries"):
        extras = {name: value for name, value in _extras(document).items() if value not in ([], {})}
        made.append((entry_of(document), extras))
    return sorted(made, key=lambda each: each[0].index or 0)


def _is_same(sent: Any, answered: Any) -> bool:
    """Whether the answer is what was sent: times as moments, numbers by value, objects by the fields sent."""
    if isinstance(sent, dict):
        return isinstance(answered, dict) and all(_is_same(value, answered.get(name)) for name, value in sent.items())
    if isinstance(sent, list):
        return isinstance(answered, list) and len(sent) == len(answered) and all(map(_is_same, sent, answered))
    if isinstance(sent, str) and isinstance(answered, str) and _moment(sent) is not None:
        return _moment(sent) == _moment(answered)
    return bool(sent == answered) and isinstance(sent, bool) == isinstance(answered, bool)


def _moment(value: Any) -> datetime | None:
    """An ISO 8601 time with a zone; None for anything else."""
    if not isinstance(value, str) or not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T", value):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else None
