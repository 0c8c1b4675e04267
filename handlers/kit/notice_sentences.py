"""Notices in words: what a report showed that a person has to look at. It is kept in ``coinslot/ledger/notices.py``."""

from collections.abc import Callable, Mapping
from urllib.parse import quote, urlencode

from coinslot.operations.troubles import NOTICES, Trouble
from handlers.kit.partner import Partner
from handlers.kit.wording import capped, shown

Said = tuple[str, str, str]  # the sentences, a page of the game, and what the link to it says

BAD = ("unknown_status", "misplaced_order", "credited_twice")  # somebody paid and has nothing, or has it twice


def _unknown_status(trouble: Trouble, partner: Partner) -> Said:
    lists = f"{partner.name}.completed_statuses or {partner.name}.failed_statuses"
    return (
        f"Orders of {partner.title} are refused, because their status is in neither of your lists: {_named(trouble)}. "
        f"Add {_one(trouble, 'it', 'each')} to {lists}. For each order that was paid, then {partner.send_again}.",
        "/settings",
        "Add to a list",
    )


def _misplaced_order(trouble: Trouble, partner: Partner) -> Said:
    return (
        f"{_count(trouble, 'order')} of {partner.title} came to an address that takes no orders, and credited nothing: "
        f"{_named(trouble)}. Correct the address in {partner.title}'s dashboard. For each order, then "
        f"{partner.send_again}.",
        f"/integration/{quote(partner.name)}",
        "Look at the addresses",
    )


def _unnamed_event(trouble: Trouble, partner: Partner) -> Said:
    return (
        f"{_count(trouble, 'event')} of {partner.title} named an order and not what happened to it: {_named(trouble)}. "
        f"It may be a refund or a dispute, and nothing was done about it. Look at the order in {partner.title}'s "
        "dashboard.",
        *_orders(trouble),
    )


def _empty_order(trouble: Trouble, partner: Partner) -> Said:
    return (
        f"{_count(trouble, 'paid order')} of {partner.title} named nothing to credit: {_named(trouble)}. The money is "
        f"counted, and the player was given nothing. Look at the offer in {partner.title}'s dashboard.",
        *_orders(trouble),
    )


def _partial_refund(trouble: Trouble, partner: Partner) -> Said:
    return (
        f"{_count(trouble, 'refund')} of {partner.title} may be of less than the order: {_named(trouble)}. The refund "
        "policy was applied to the whole order.",
        *_orders(trouble),
    )


def _credited_twice(trouble: Trouble, partner: Partner) -> Said:
    return (
        f"{_count(trouble, 'purchase')} of {partner.title} credited twice, under two ids each: {_named(trouble)}. "
        "Reverse one of the two on its page.",
        *_orders(trouble),
    )


def _replayed(trouble: Trouble, partner: Partner) -> Said:
    return (
        f"{_count(trouble, 'order')} of {partner.title} from before a restore came again: {_named(trouble)}. If it was "
        "first credited by another id, the game has it under another transaction_id and was given it twice. Compare.",
        *_orders(trouble),
    )


SENTENCES: Mapping[str, Callable[[Trouble, Partner], Said]] = {
    "unknown_status": _unknown_status,
    "misplaced_order": _misplaced_order,
    "unnamed_event": _unnamed_event,
    "empty_order": _empty_order,
    "partial_refund": _partial_refund,
    "credited_twice": _credited_twice,
    "replayed": _replayed,
}


def _orders(trouble: Trouble) -> tuple[str, str]:
    """Where its order is found, if it is about one."""
    if len(trouble.named) != 1:
        return "/transactions", "Look at the transactions"
    return f"/transactions?{urlencode({'q': trouble.named[0][0]})}", "Look at the order"


def _named(trouble: Trouble) -> str:
    """Orders or words, each with what is said about it."""
    named = [f"{shown(name, 80)}{f' ({shown(detail, 200)})' if detail else ''}" for name, detail in trouble.named]
    more = (trouble.count or 0) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more > 0 else "")


def _count(trouble: Trouble, what: str) -> str:
    return f"{capped(trouble.count, NOTICES)} {what}{_one(trouble, '', 's')}"


def _one(trouble: Trouble, one: str, many: str) -> str:
    return one if trouble.count == 1 else many
