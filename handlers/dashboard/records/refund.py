"""Refunding an order: what is asked before, and what became of it. Whoever presses the button sends one request."""

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.games.games import Game
from coinslot.ledger.refund_requests import RequestError
from handlers.dashboard.frame.pages import page, see_other, who
from handlers.dashboard.records.refund_state import partner_of, stand
from handlers.dashboard.records.transactions import find, read_reason
from handlers.kit import refunding
from handlers.kit.api import NotConfiguredError
from handlers.kit.receive import current_installation

WHO = "owner"  # what the partner is told


def refund_order(game: Game, public_id: str) -> Response:
    """The form that asks for the reason and for a confirmation."""
    return _form(game, public_id)


def send_refund(game: Game, public_id: str) -> AnyResponse:
    """Send the request, once, and say what was answered."""
    found = find(game, public_id)
    if stand(found).objection is not None:
        return _form(game, public_id, 409)
    reason, wrong = read_reason()
    if wrong is None and request.form.get("sure") != "yes":
        wrong = "Confirm that the money is to go back."
    if wrong is not None:
        return _form(game, public_id, 400, problem=wrong)
    partner = partner_of(found)
    assert partner is not None, "there was no objection"
    try:
        state, _ = refunding.send(
            *(current_installation(), game, partner, found.transaction["reference"]),
            actor=who(),
            who=WHO,
            reason=reason,
            transaction_id=found.transaction["id"],
            environment=found.transaction["environment"],
        )
    except NotConfiguredError as error:
        return _form(game, public_id, 400, problem=f"Nothing was sent: {error}.")
    except RequestError as error:  # another person was faster
        return _form(game, public_id, 409, problem=str(error))
    return see_other("transaction", f"refund-{state}", public_id=public_id)


def _form(game: Game, public_id: str, status: int = 200, problem: str | None = None) -> Response:
    found = find(game, public_id)
    return page(
        "refund.html",
        status,
        problem=problem,
        transaction=found.transaction,
        found=found,
        refund=stand(found),
        typed=request.form,
    )
