"""What a new credit shows that a person has to look at, whoever reported it."""

from coinslot.base.money import written
from coinslot.games import registry
from coinslot.ledger import notices
from coinslot.ledger.chain import public_id
from coinslot.ledger.reports import Credit
from coinslot.store.db import Connection


def note_oddities(tx: Connection, wanted: Credit, restored_at: str | None) -> None:
    """Note what a person has to look at: a paid order that grants nothing, or whose money cannot be read, or that a
    restore (the last was at ``restored_at``) may have doubled.
    """
    if wanted.player_id == registry.RESERVED_ID:
        return
    money = wanted.money
    about = (wanted.game_id, wanted.partner)
    is_known = money.gross_minor is not None and money.currency is not None
    if wanted.kind == "purchase" and money.gross_minor != 0 and not any(amount for _, amount in wanted.lines):
        paid = "amount unknown"
        if money.gross_minor is not None and money.currency is not None:
            paid = written(money.gross_minor, money.currency)
        amount = money.gross_minor if is_known else None
        notices.note(tx, *about, "empty_order", wanted.reference, paid, currency=money.currency, amount_minor=amount)
    elif wanted.kind == "purchase" and not is_known and not wanted.is_test:
        notices.note(tx, *about, "unreadable_money", wanted.reference)
    is_older = restored_at is not None and (wanted.occurred_at is None or wanted.occurred_at < restored_at)
    if wanted.known_by and is_older:
        _note_replayed(tx, wanted)


def _note_replayed(tx: Connection, wanted: Credit) -> None:
    """Have a person look at an order from before a restore that may have been credited under another id then."""
    others = [
        public_id(wanted.game_slug, wanted.partner, external_id)
        for external_id in (f"{kind}:{value}" for kind, value in wanted.known_by)
        if external_id != wanted.external_id
    ]
    perhaps = f"perhaps known as {' or '.join(others)}" if others else "perhaps known by its order id"
    notices.note(tx, wanted.game_id, wanted.partner, "replayed", wanted.reference, perhaps)
