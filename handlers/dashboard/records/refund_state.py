"""How it stands with the refund of an order that a person may ask its partner for."""

from dataclasses import dataclass
from typing import Any

from coinslot.ledger import refund_requests
from coinslot.ledger.dossier import Dossier
from coinslot.ledger.refund_requests import REFUSED
from coinslot.store.db import Connection
from handlers.kit import refunding
from handlers.kit.partner import Partner
from handlers.kit.receive import partners


@dataclass(frozen=True)
class Stand:
    """How it stands with the refund of an order. ``state`` is that of the newest request, None where there was none.

    ``objection`` says why it cannot be asked for, None where it can; it is empty where that needs no words.
    """

    partner: str
    state: str | None
    sentence: str
    detail: str
    at: str | None
    objection: str | None


def stand(found: Dossier) -> Stand:
    """What the page of an order says about its refund."""
    partner = partner_of(found)
    title = found.transaction["partner"] if partner is None else partner.title
    newest = found.requests[-1] if found.requests else None
    state = None if newest is None else refund_requests.state_of(newest)
    objection = refunding.objection(partner, found.transaction)
    if any(each["reason"] == "refund" and each["event_id"] for each in found.refunds):
        objection = f"{title} reported its refund already."
    elif state not in (None, REFUSED):
        objection = ""
    if newest is None or state is None:
        return Stand(title, None, "", "", None, objection)
    said, at = refunding.sentence(title, state), newest["ended_at"] or newest["answered_at"] or newest["created_at"]
    return Stand(title, state, said, newest["detail"], at, objection)


def newest(connection: Connection, game_id: int, limit: int) -> list[dict[str, Any]]:
    """The newest requests of a game, each with its ``state`` by now and its ``sentence``."""
    titles = {each.name: each.title for each in partners()}
    rows, _ = refund_requests.listing(connection, game_id, limit=limit)
    states = map(refund_requests.state_of, rows)
    return [
        {**row, "state": state, "sentence": refunding.sentence(titles.get(row["partner"], row["partner"]), state)}
        for row, state in zip(rows, states, strict=True)
    ]


def partner_of(found: Dossier) -> Partner | None:
    """The card of the partner that reported the order; None where there is none."""
    return next((each for each in partners() if each.name == found.transaction["partner"]), None)
