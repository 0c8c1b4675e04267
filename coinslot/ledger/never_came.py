"""Orders that a partner lists as paid and that never came here: each is kept like a refused call, until it is mended.

It is mended by a credit of the same order, as a refused call is, or here: once it is known by another id, or its money
went back. So it is one trouble with its money, is found by the search, and can be set aside.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from coinslot.access import keyring
from coinslot.access.vault import Vault
from coinslot.ledger import refused
from coinslot.ledger.refused import NEVER_CAME, OPEN, Claim
from coinslot.store import portions, queries
from coinslot.store.db import Connection, Database, Row


@dataclass(frozen=True)
class Listed:
    """An order in a partner's report, by all rows that were read of it. ``reference`` is the partner's id.

    ``public_id`` is ours, where the report repeats it; ``keys`` are its other ids, as kind and value. ``paid_at`` is a
    stamp, None where the report has only rows about money that went back. ``returned_minor`` is how much that was.
    """

    reference: str
    public_id: str
    keys: tuple[tuple[str, str], ...]
    paid_at: str | None
    player_id: str | None
    currency: str | None
    amount_minor: int | None
    returned_minor: int = 0

    def is_returned(self, amount_minor: int | None) -> bool:
        """Whether all of this amount went back; of an unknown amount, whether anything did."""
        return self.returned_minor > 0 and self.returned_minor >= (amount_minor or 0)


def compare(
    database: Database, vault: Vault, game_id: int, partner: str, endpoint: str, listed: Iterable[Listed], until: str
) -> int:
    """Keep the orders paid before ``until`` that are unknown here, and end those that need nobody any more.

    Orders from before the first one here are left out: another server credited them. Returns how many were kept.
    """
    connection = database.read()
    since = first_paid_at(connection, game_id, partner)
    changes = [
        (each, row_id)
        for each, row_id in _to_change(connection, game_id, partner, listed)
        if row_id is not None or (each.paid_at is not None and since <= each.paid_at < until)
    ]

    def change(tx: Connection, what: tuple[Listed, int | None]) -> bool:
        order, row_id = what
        if row_id is not None:
            refused.end(tx, (row_id,))
            return False
        if _kept(tx, game_id, partner, order) is not None or is_here(tx, game_id, partner, order):
            return False  # it came meanwhile
        claim = Claim(game_id, (order.reference,), order.reference, order.player_id, order.currency, order.amount_minor)
        row = {
            "endpoint": endpoint,
            "reason": NEVER_CAME,
            "status": 0,
            "remote_address": "",
            "body_size": 0,
            **vars(vault.seal(tx, keyring.REFUSAL_PURPOSE, json.dumps({}).encode())),
        }
        return refused.keep(tx, partner, claim, row)

    return sum(portions.write_each(database.write, changes, change))


def first_paid_at(connection: Connection, game_id: int, partner: str) -> str:
    """When the first order that came here was paid; empty while none has come."""
    found = queries.value(
        connection,
        """SELECT moment FROM transactions
           WHERE game_id = :game_id AND partner = :partner AND is_test = 0 AND kind <> 'adjustment'
           ORDER BY id LIMIT 1""",
        {"game_id": game_id, "partner": partner},
    )
    return str(found or "")


def is_here(connection: Connection, game_id: int, partner: str, order: Listed) -> bool:
    """Whether the order is stored, under whatever id."""
    values = {"game_id": game_id, "partner": partner, "id": order.reference, "public_id": order.public_id}
    if queries.value(connection, _BY_ID, values) is not None:
        return True
    return any(
        queries.value(connection, _BY_KEY, {**values, "kind": kind, "value": key}) is not None
        for kind, key in order.keys
    )


_BY_ID = """
    SELECT 1 FROM transactions WHERE game_id = :game_id AND partner = :partner AND external_id = :id
    UNION ALL
    SELECT 1 FROM transactions WHERE public_id = :public_id AND game_id = :game_id AND partner = :partner
    UNION ALL
    SELECT 1 FROM transaction_keys WHERE game_id = :game_id AND partner = :partner AND kind = 'alias' AND value = :id
    LIMIT 1"""
# Stored by another id, since the report of it lacked its own.
_BY_KEY = """
    SELECT 1 FROM transaction_keys k JOIN transactions t ON t.id = k.transaction_id
    WHERE k.game_id = :game_id AND k.partner = :partner AND k.kind = +:kind /* hint */ AND k.value = :value
      AND t.external_id <> t.reference LIMIT 1"""


def _to_change(
    connection: Connection, game_id: int, partner: str, listed: Iterable[Listed]
) -> Iterator[tuple[Listed, int | None]]:
    """The orders that are lacking here, and those whose open row can end, with its id."""
    for order in listed:
        kept = _kept(connection, game_id, partner, order)
        if kept is not None:
            is_over = order.is_returned(kept["amount_minor"]) or (
                kept["reason"] == NEVER_CAME and is_here(connection, game_id, partner, order)
            )
            if kept["state"] == OPEN and is_over:
                yield order, kept["id"]
        elif (
            order.paid_at is not None
            and order.amount_minor != 0
            and not order.is_returned(order.amount_minor)
            and not is_here(connection, game_id, partner, order)
        ):
            yield order, None


def _kept(connection: Connection, game_id: int, partner: str, order: Listed) -> Row | None:
    """The row of this order among the refused calls: one that has its id, or one of its keys and no own id."""
    names = (order.reference, *(f"{kind}:{value}" for kind, value in order.keys))
    found = (
        queries.row(
            connection,
            """SELECT r.id, r.state, r.reason, r.amount_minor
               FROM refusal_names n JOIN refusals r ON r.id = n.refusal_id
               WHERE n.game_id = :game_id AND n.partner = :partner AND n.name = :name
                 AND (r.name = :name OR r.name <> r.reference) ORDER BY r.id LIMIT 1""",
            {"game_id": game_id, "partner": partner, "name": name},
        )
        for name in names
    )
    return next((each for each in found if each is not None), None)
