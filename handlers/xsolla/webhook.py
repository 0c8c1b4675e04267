"""The one address Xsolla calls: verify, then act by ``notification_type``, then answer 204.

A purchase is known by Xsolla's transaction id, and by its order id beside it. ``payment`` and ``order_paid`` may both
report one purchase; whichever lists items first credits it, and the other is a repeat.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from flask import Response, current_app, request

from coinslot.access.keyring import SecretValue
from coinslot.games import lookup, registry
from coinslot.games.games import Game
from coinslot.ledger import credit as ledger
from coinslot.ledger import events, refunds, refused, reports
from coinslot.ledger.refused import Claim
from coinslot.store.db import Connection
from handlers.kit.receive import current_installation, is_address_allowed, log_credit, note_call, note_refusal
from handlers.xsolla import messages
from handlers.xsolla.settings import SIGNING_KEY

PARTNER = "xsolla"
ENDPOINT = "webhook"

INVALID_SIGNATURE, INVALID_USER, INVALID_PARAMETER = "INVALID_SIGNATURE", "INVALID_USER", "INVALID_PARAMETER"


# Why a purchase is not credited (coinslot.ledger.reports.Outcome) -> code, message and status of the answer.
REFUSED: Mapping[str, tuple[str, str, int]] = {
    "unknown_player": (INVALID_USER, "Invalid user", 400),
    "unknown_item": (INVALID_PARAMETER, "Unknown item {detail}", 400),
    "quantity": (INVALID_PARAMETER, "The webhook cannot be read: {detail}", 400),
    "conflict": (INVALID_PARAMETER, "This transaction was reported before with other content", 400),
    "game_down": (INVALID_PARAMETER, "The game is down; please try again", 503),
}


class RefusedError(Exception):
    """The call is refused. ``code`` and ``message`` are for Xsolla, in its own form of an error."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.status = status


def receive(game_slug: str) -> Response:
    """Act on one webhook. Raises RefusedError, which is kept for the owner."""
    game, signer = _enter(game_slug)
    body = request.get_data(cache=True)
    try:
        document = messages.parse(body)
        act = ACTIONS.get(document["notification_type"], _keep)
        act(game, signer, document)
    except ValueError as error:
        raise _refused(game, "malformed", INVALID_PARAMETER, f"The webhook cannot be read: {error}") from None
    return Response(status=204)


def refuse(status: int, message: str, code: str = INVALID_PARAMETER) -> Response:
    """An error in Xsolla's form."""
    body = json.dumps({"error": {"code": code, "message": message}})
    return Response(body, status, mimetype="application/json")


def claim(game: Game, endpoint: str) -> Claim | None:
    """What the current request reports, if a secret of the game signed it, whatever else is wrong with it."""
    body = request.get_data(cache=True)
    try:
        signer = messages.verify(body, request.headers.get("Authorization", ""), game.keys(SIGNING_KEY))
    except messages.SignatureError:
        return None
    try:
        document = messages.parse(body)
    except ValueError:
        return Claim(game.id, (refused.body_name(body),))
    kind, player_id = document["notification_type"], messages.identifier(document, "player")
    is_reserved = player_id == registry.RESERVED_ID
    if kind == messages.VALIDATION:
        return Claim(game.id, (refused.question_name(kind, body),), is_report=False, is_simulated=is_reserved)
    with suppress(ValueError):
        if kind in (messages.PAYMENT, messages.ORDER_PAID):
            return refused.claim_of(to_credit(document, game, signer))
    reference = dict(messages.purchase_ids(document)).get("reference", "")
    return Claim(
        game.id,
        (refused.body_name(body),),
        reference=reference,
        player_id=player_id,
        is_test=messages.is_sandbox(document),
        is_simulated=is_reserved,
    )


def is_configured(game: Game) -> bool:
    return bool(game.keys(SIGNING_KEY))


def _enter(game_slug: str) -> tuple[Game, SecretValue]:
    """The game that is called, and the secret that signed the call."""
    game = current_installation().games.by_slug(game_slug)
    if game is None or not is_configured(game):
        raise _refused(None, "unknown_game", INVALID_PARAMETER, "Not Found", 404)
    if not is_address_allowed(game, PARTNER):
        raise _refused(game, "address", INVALID_PARAMETER, "Forbidden", 403)
    try:
        signer = messages.verify(
            request.get_data(cache=True), request.headers.get("Authorization", ""), game.keys(SIGNING_KEY)
        )
    except messages.SignatureError:
        raise _refused(game, "signature", INVALID_SIGNATURE, "Invalid signature") from None
    note_call(game, PARTNER, ENDPOINT, signer)
    return game, signer


def _validate(game: Game, signer: SecretValue, document: Mapping[str, Any]) -> None:
    """Whether a player exists. Registers nobody."""
    player_id = messages.player_id(document)
    unknown = game.settings["players.unknown"]
    installation = current_installation()
    is_known = unknown == "create" or registry.has_player(installation.database.read(), game.id, player_id)
    if not is_known and unknown == "lookup":
        try:
            is_known = lookup.player(installation.outbound.for_callers, game, player_id) is not None
        except lookup.LookupFailedError as error:
            raise _unanswered(game, str(error)) from None
    if not is_known:
        raise _refused(game, "unknown_player", INVALID_USER, "Invalid user")


def _credit(game: Game, signer: SecretValue, document: Mapping[str, Any]) -> None:
    """Credit what was bought, once. A ``payment`` that lists nothing is kept: its ``order_paid`` lists the items."""
    installation = current_installation()
    wanted = to_credit(document, game, signer)
    if not wanted.lines and document["notification_type"] == messages.PAYMENT:
        _keep(game, signer, document)
        return
    outcome = ledger.report(installation.database, installation.outbound.for_callers, game, wanted)
    if outcome.credited is None:
        if outcome.reason == "lookup_failed":
            raise _unanswered(game, outcome.detail)
        code, message, status = REFUSED[outcome.reason]
        reason = "malformed" if outcome.reason == "quantity" else outcome.reason
        raise _refused(game, reason, code, message.format(detail=outcome.detail), status, outcome.detail)
    log_credit(PARTNER, game, f"purchase {wanted.reference!r}", outcome.credited)


def to_credit(document: Mapping[str, Any], game: Game, signer: SecretValue) -> reports.Credit:
    """A purchase in the ledger's words. Raises ValueError for one that names no player or has no id."""
    player_id, lines = messages.player_id(document), messages.lines(document)
    currency, gross_minor, figures = messages.money(document)
    ids = dict(messages.purchase_ids(document))
    order_id = ids.get("order")
    if "reference" not in ids and order_id is None:
        raise ValueError("transaction.id is missing")
    reference = ids.get("reference") or order_id or ""
    keys = tuple((kind, value) for kind, value in ids.items() if kind != "reference")
    return reports.Credit(
        game_id=game.id,
        game_slug=game.slug,
        partner=PARTNER,
        external_id=reference if "reference" in ids else f"order:{order_id}",
        reference=reference,
        kind="bonus" if messages.is_free(document) else "purchase",
        player_id=player_id,
        lines=lines,
        fingerprint=reports.fingerprint(player_id, gross_minor, currency, lines=lines),
        raw_body=request.get_data(cache=True),
        signature=request.headers.get("Authorization", "")[:512],
        signed_with=signer.label,
        answer_status=204,
        answer_body="",
        environment="sandbox" if messages.is_sandbox(document) else "live",
        money=reports.Money(currency=currency, gross_minor=gross_minor, figures=figures),
        occurred_at=messages.occurred_at(document),
        keys=keys,
        known_by=tuple(each for each in keys if each[0] == "order"),
    )


def _keep(game: Game, signer: SecretValue, document: Mapping[str, Any]) -> None:
    """Keep a fact that credits nothing, and apply what it says about money that went back."""
    kind = document["notification_type"]
    body = request.get_data(cache=True)
    named = messages.purchase_ids(document)
    player_id = messages.identifier(document, "player")
    is_test = messages.is_sandbox(document) or player_id == registry.RESERVED_ID
    is_once = kind in (messages.REFUND, messages.ORDER_CANCELED) and named
    key = f"{named[0][0]}:{named[0][1]}" if is_once else f"body:{hashlib.sha256(body).hexdigest()}"
    reason = messages.refund_reason(document)

    def keep(tx: Connection) -> str | None:
        event_id = events.record(
            tx,
            game_id=game.id,
            partner=PARTNER,
            type=f"{PARTNER}.{kind}",
            dedupe_key=f"{kind}:{key}",
            data={"notification_type": kind, "player_id": player_id, **dict(named)},
            raw_body=body,
            environment="sandbox" if messages.is_sandbox(document) else "live",
            is_test=is_test,
            external_id=dict(named).get("reference"),
            player_id=player_id,
            occurred_at=messages.occurred_at(document),
            counted_as="event",
        )
        if event_id is None:
            return None
        if kind not in messages.REFUNDS:
            return None
        amount = messages.refunded_amount(document)
        return refunds.note_event(tx, game, event_id, reason=reason, named=named, amount=amount)

    outcome = current_installation().database.write(keep)
    if outcome is not None:
        log = current_app.logger.warning if outcome == "ambiguous" else current_app.logger.info
        log("xsolla %s: %s of %s: %s", game.slug, reason, named, outcome)


def _refused(
    game: Game | None, reason: str, code: str, message: str, status: int = 400, detail: str = ""
) -> RefusedError:
    """A refusal to be raised, kept for the owner with the header that the engine of explanations needs."""
    proof = {"authorization": request.headers.get("Authorization", "")[:512]}
    answered = refuse(status, message, code)
    note_refusal(PARTNER, ENDPOINT, game, reason, status, found=proof, detail=detail, answer=answered)
    return RefusedError(code, message, status)


def _unanswered(game: Game, why: str) -> RefusedError:
    current_app.logger.error("xsolla %s: a player could not be looked up: %s", game.slug, why)
    message = "The game's server did not answer; please try again"
    return _refused(game, "lookup_failed", INVALID_PARAMETER, message, 503)


ACTIONS: Mapping[str, Callable[[Game, SecretValue, Mapping[str, Any]], None]] = {
    messages.VALIDATION: _validate,
    messages.PAYMENT: _credit,
    messages.ORDER_PAID: _credit,
}
