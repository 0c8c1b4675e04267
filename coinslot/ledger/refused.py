"""Refused calls that had proved themselves: a player may have paid, so each is kept until it is mended.

Such a call is a row of ``refusals`` with a state, committed before the call is answered. ``open``: nothing was credited
for it. ``mended``: the same order was credited, or reported as failed or refunded, later. ``aside``: a person set it
aside, with a note. One order has one row, however often and for whatever reasons it is refused.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coinslot.base import clock, exact
from coinslot.ledger import aliases
from coinslot.ledger.reports import Credit
from coinslot.store import queries
from coinslot.store.db import Connection

OPEN, MENDED, ASIDE = "open", "mended", "aside"
NEVER_CAME = "never_came"  # reason of an order that the partner lists as paid and that never arrived
LONGEST_TEXT = 255


@dataclass(frozen=True)
class Claim:
    """What a refused call reports. ``names`` are all ids by which the ledger may know the order, its own first.

    ``reference`` is the id as the partner writes it, empty where it has none. ``is_test``: nobody paid. The amount is
    in minor units, None where it was not said or cannot be read. ``is_report``: it reports an order or an event; any
    other call asks something, and only how often that was refused is kept.
    """

    game_id: int
    names: tuple[str, ...]
    reference: str = ""
    player_id: str | None = None
    currency: str | None = None
    amount_minor: int | None = None
    is_test: bool = False
    is_simulated: bool = False
    is_report: bool = True
    wanted: Credit | None = None  # the order, where it can be read

    @property
    def is_fallback(self) -> bool:
        """Whether it came without its own id, and goes by another that it has."""
        return self.wanted is not None and self.wanted.is_fallback


def claim_of(wanted: Credit) -> Claim:
    """The claim of an order that can be read."""
    return Claim(
        game_id=wanted.game_id,
        names=tuple(names(wanted)),
        reference=wanted.reference,
        player_id=wanted.player_id,
        currency=wanted.money.currency,
        amount_minor=wanted.money.gross_minor if wanted.money.currency else None,
        is_test=wanted.is_test,
        is_simulated=wanted.is_simulated,
        wanted=wanted,
    )


def names(wanted: Credit) -> list[str]:
    """Every name of an order, as claims have them."""
    keys = (*wanted.known_by, *(key for key in wanted.keys if key[0] != "signature"))
    return list(dict.fromkeys((wanted.external_id, *(f"{kind}:{value}" for kind, value in keys))))


def body_name(body: bytes) -> str:
    """The name of a call that has no id of its own: the same bytes are the same call."""
    return f"body:{hashlib.sha256(body).hexdigest()}"


def question_name(asked: str, body: bytes) -> str:
    """The name of a call that only asks something: never that of a report with the same bytes."""
    return f"question:{asked}:{body_name(body)}"


def keep(tx: Connection, partner: str, claim: Claim, row: Mapping[str, Any]) -> bool:
    """Keep a refused call as open; False where its order is credited already, and nothing was kept.

    ``row`` has the columns of ``refusals`` that say what was called, the sealed call among them. A call that was
    refused before gets the newest of all that. One that was set aside is open again if the reason is another one.
    """
    if _is_credited(tx, partner, claim):
        return False
    now = clock.stamp()
    columns = {
        **row,
        "game_id": claim.game_id,
        "partner": partner,
        "reference": exact.whole_text(claim.reference[:LONGEST_TEXT]),
        "player_id": claim.player_id,
        "currency": claim.currency,
        "amount_minor": claim.amount_minor,
        "is_test": int(claim.is_test),
        "is_question": int(not claim.is_report),
        "last_at": now,
    }
    known = _find(tx, claim.game_id, partner, claim.names, claim.is_fallback)
    if not known:
        made = queries.insert(
            tx, "refusals", columns | {"state": OPEN, "created_at": now, "name": claim.names[0]}, "RETURNING id"
        )
        assert made is not None, "RETURNING returns a row"
        refusal_id = made["id"]
    else:
        refusal_id = known[0]
        if not claim.is_fallback:
            columns["name"] = claim.names[0]
        changes = ", ".join(f"{column} = :{column}" for column in columns)
        tx.execute(
            f"""UPDATE refusals SET {changes}, seen = seen + 1,
                   ended_at = CASE WHEN state = 'aside' AND reason = :reason THEN ended_at END,
                   state = CASE WHEN state = 'aside' AND reason = :reason THEN 'aside' ELSE 'open' END
               WHERE id = :id""",  # noqa: S608  our own words only
            columns | {"id": refusal_id},
        )
    for name in claim.names:
        queries.insert(
            tx,
            "refusal_names",
            {"game_id": claim.game_id, "partner": partner, "name": name, "refusal_id": refusal_id},
            "ON CONFLICT (game_id, partner, name, refusal_id) DO NOTHING",
        )
    return True


def mend_order(tx: Connection, wanted: Credit) -> None:
    """The order was credited, or failed: end its open row, if it has one."""
    end(tx, _find(tx, wanted.game_id, wanted.partner, names(wanted), wanted.is_fallback))


def mend_call(tx: Connection, game_id: int, partner: str, body: bytes) -> None:
    """The same bytes were accepted: end the open row of that call, if it has one."""
    end(tx, _find(tx, game_id, partner, (body_name(body),), False))


def mend_refunded(tx: Connection, game_id: int, partner: str, ids: Iterable[tuple[str, str]]) -> None:
    """The money of a purchase that was never credited went back: end its open row. ``ids``: see ``refunds.note``."""
    own = [value if kind == "reference" else f"{kind}:{value}" for kind, value in ids]
    end(tx, _find(tx, game_id, partner, own, True))


def has_open(connection: Connection, game_id: int, partner: str) -> bool:
    """Whether a call of the partner is open."""
    query = "SELECT 1 FROM refusals WHERE game_id = :game_id AND partner = :partner AND state = 'open' LIMIT 1"
    return queries.value(connection, query, {"game_id": game_id, "partner": partner}) is not None


def set_aside(tx: Connection, ids: Collection[int], note: str) -> int:
    """A person says that nothing is left to do for these open rows; returns how many were open."""
    return sum(
        tx.execute(
            """UPDATE refusals SET state = 'aside', ended_at = :now, note = :note WHERE id = :id AND state = 'open'""",
            {"id": each, "note": exact.whole_text(note), "now": clock.stamp()},
        ).rowcount
        for each in ids
    )


def reopen(tx: Connection, refusal_id: int) -> bool:
    """Take back that a row was set aside; False where it was not. It is mended if its order was credited meanwhile."""
    is_credited = transaction(tx, refusal_id) is not None
    taken_back = tx.execute(
        """UPDATE refusals SET state = :state, note = NULL, ended_at = :ended_at
           WHERE id = :id AND state = 'aside'""",
        {
            "id": refusal_id,
            "state": MENDED if is_credited else OPEN,
            "ended_at": clock.stamp() if is_credited else None,
        },
    )
    return taken_back.rowcount > 0


def count_open(connection: Connection, game_id: int, most: int) -> int:
    """How many calls to a game are open; ``most`` where there are more. One short look at an index."""
    query = "SELECT count(*) FROM (SELECT 1 FROM refusals WHERE game_id = :game_id AND state = 'open' LIMIT :most) open"
    return int(queries.value(connection, query, {"game_id": game_id, "most": most}) or 0)


def transaction(connection: Connection, refusal_id: int) -> str | None:
    """The ``public_id`` of the transaction that credits the order of such a call; None where there is none."""
    found: str | None = queries.value(
        connection,
        """SELECT t.public_id FROM refusals r
           JOIN transactions t ON t.game_id = r.game_id AND t.partner = r.partner AND t.external_id = r.name
           WHERE r.id = :id
           UNION ALL
           SELECT t.public_id FROM refusals r
           JOIN transaction_keys k
             ON k.game_id = r.game_id AND k.partner = r.partner AND k.kind = 'alias' AND k.value = r.name
           JOIN transactions t ON t.id = k.transaction_id
           WHERE r.id = :id LIMIT 1""",
        {"id": refusal_id},
    )
    return found


def _is_credited(tx: Connection, partner: str, claim: Claim) -> bool:
    if claim.wanted is not None:
        return aliases.find(tx, claim.wanted) is not None
    query = """SELECT 1 FROM transactions WHERE game_id = :game_id AND partner = :partner AND external_id = :name
               UNION ALL SELECT 1 FROM transaction_keys
               WHERE game_id = :game_id AND partner = :partner AND kind = 'alias' AND value = :name LIMIT 1"""
    values = {"game_id": claim.game_id, "partner": partner}
    return any(queries.value(tx, query, values | {"name": name}) is not None for name in claim.names)


def end(tx: Connection, ids: Iterable[int]) -> None:
    """Nothing is left to do for these rows: end those that are open."""
    for each in ids:
        tx.execute(
            "UPDATE refusals SET state = 'mended', ended_at = :now WHERE id = :id AND state = 'open'",
            {"id": each, "now": clock.stamp()},
        )


def _find(tx: Connection, game_id: int, partner: str, order_names: Sequence[str], is_fallback: bool) -> list[int]:
    """The rows of the same order, as ``aliases.py`` decides it: two own ids are two orders, even if they share another.

    A row that goes by one of these names is of this order. Where the order itself goes by a fallback, so is each row
    that has one of them beside its own id.
    """
    found = []
    for name in order_names:
        rows = tx.execute(
            """SELECT n.refusal_id AS id FROM refusal_names n JOIN refusals r ON r.id = n.refusal_id
               WHERE n.game_id = :game_id AND n.partner = :partner AND n.name = :name
                 AND (r.name = :name OR :is_fallback = 1) ORDER BY n.refusal_id""",
            {"game_id": game_id, "partner": partner, "name": name, "is_fallback": int(is_fallback)},
        )
        found += [row["id"] for row in rows]
    return list(dict.fromkeys(found))
