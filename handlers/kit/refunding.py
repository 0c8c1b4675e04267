"""Refunding an order, as a person decides: the request is stored, then sent once, and its answer is stored."""

from collections.abc import Mapping

from coinslot.games.games import Game
from coinslot.games.registry import RESERVED_ID
from coinslot.installation import Installation
from coinslot.ledger import refund_requests
from coinslot.ledger.refund_requests import DONE, REFUSED, REQUESTED, SENT, UNKNOWN, RequestError
from coinslot.relay import jobs
from coinslot.store import audit
from coinslot.store.db import Connection
from handlers.kit.api import ApiError
from handlers.kit.partner import Partner

UNSENT = ("dns", "rejected")  # failures before anything is sent

# What a state of a request means, and what to do; {partner} is the partner's title.
SENTENCES: Mapping[str, str] = {
    REQUESTED: "It is being sent to {partner}.",
    SENT: "{partner} has begun it. Its event says when the money is back; the items go then, by your refund policy.",
    REFUSED: "No refund has begun.",
    UNKNOWN: "Without an answer, it may have begun. It is not sent again: {partner}'s event or its report decides.",
    DONE: "{partner} reported that the money went back.",
}


def send(
    installation: Installation,
    game: Game,
    partner: Partner,
    reference: str,
    *,
    actor: str,
    who: str,
    reason: str,
    transaction_id: int | None = None,
    environment: str | None = None,
) -> tuple[str, str]:
    """Ask a partner for the refund of an order, once; returns the request's state, and what the partner said.

    ``who`` is told to the partner, as one ASCII word. Raises NotConfiguredError where the game cannot ask, and
    RequestError where a request stands or the order was refunded: then nothing is sent.
    """
    if partner.refunds is None:
        raise RequestError(f"{partner.title} has no call that refunds an order")
    how = partner.refunds
    ask = how.sender(game, installation.outbound.for_callers, environment)
    subject = f"{partner.name} {reference}"

    def store(tx: Connection) -> int:
        request_id = refund_requests.begin(
            *(tx, game.id, partner.name, reference), actor=actor, reason=reason, transaction_id=transaction_id
        )
        audit.record(tx, game.id, actor, "order.refund", f"{subject}: {reason}" if reason else subject)
        jobs.at(tx, game.id, how.job, how.first_look_seconds)
        return request_id

    request_id = installation.database.write(store)
    state, detail = SENT, ""
    try:
        ask(reference, who)
    except ApiError as error:
        is_uncertain = error.is_uncertain and error.failure not in UNSENT
        state, detail = UNKNOWN if is_uncertain else REFUSED, str(error)

    def keep(tx: Connection) -> str:
        audit.record(tx, game.id, actor, f"order.refund.{state}", subject)
        return refund_requests.answered(tx, request_id, state, detail)

    return installation.database.write(keep), detail


def objection(partner: Partner | None, transaction: Mapping[str, object]) -> str | None:
    """Why the refund of a transaction cannot be asked for, whatever is set; None where it can.

    Empty where nobody would ask.
    """
    if partner is None or transaction["kind"] != "purchase":
        return ""
    if partner.refunds is None:
        return f"Its money goes back in {partner.title}'s dashboard."
    if transaction["player_id"] == RESERVED_ID:
        return f"It is a test of {RESERVED_ID}: {partner.title} does not know it."
    if transaction["external_id"] != transaction["reference"]:
        return f"It came without {partner.title}'s id of the order, which the refund needs. Refund it in its dashboard."
    return None


def sentence(partner: str, state: str) -> str:
    """What a request's state means; ``partner`` is the partner's title."""
    return SENTENCES[state].format(partner=partner)
