"""The one call Playtem makes: verify, credit every item or none, answer an empty 200."""

import json
from collections.abc import Mapping

from flask import Response, current_app, request
from werkzeug.exceptions import MethodNotAllowed

from coinslot.access.keyring import SecretValue
from coinslot.games import games, registry
from coinslot.games.games import Game
from coinslot.games.options import Setting
from coinslot.ledger import credit as ledger
from coinslot.ledger import refused, reports
from coinslot.ledger.refused import Claim
from coinslot.store.db import Connection
from handlers.kit.receive import current_installation, is_address_allowed, log_credit, note_call, note_refusal
from handlers.playtem.payload import Order, PayloadError, decode, verify

PARTNER = "playtem"

ANY_OTHER_ERROR, UNKNOWN_ITEM, BAD_PAYLOAD, UNKNOWN_USER = 400, 402, 407, 408

# Why the ledger refused a purchase -> the reason in the list of refusals, the ErrorCode and the ErrorMessage of the
# answer.
REFUSED = {
    "conflict": ("conflict", ANY_OTHER_ERROR, "This transaction was credited before with other content"),
    "unknown_player": ("unknown_player", UNKNOWN_USER, "User #{user_id} doesn't exist"),
    "unknown_item": ("unknown_item", UNKNOWN_ITEM, "Item #{detail} doesn't exist"),
    "empty": ("malformed", ANY_OTHER_ERROR, "There are no items to credit"),
    "game_down": ("game_down", ANY_OTHER_ERROR, "The game is down; please try again"),
    "lookup_failed": ("lookup_failed", ANY_OTHER_ERROR, "The game's server did not answer; please try again"),
}


def credit_to_game(game_slug: str) -> Response:
    """Credit the items of one purchase, all or none. Answers an empty 200, also for a repeat, or :func:`refuse`."""
    if request.method != "GET":  # Flask runs a GET's view for HEAD too, and a HEAD must not credit
        raise MethodNotAllowed(["GET"])
    game = current_installation().games.by_slug(game_slug)
    if game is None or not is_configured(game):
        note_refusal(PARTNER, "credit", None, "unknown_game", 404)
        return not_found()
    return _credit(game, game.settings["playtem.parameter"])


def credit_by_app_id() -> Response:
    """The same, for a studio with several games: ``playtem.app_id`` says whose call it is."""
    if request.method != "GET":  # Flask runs a GET's view for HEAD too, and a HEAD must not credit
        raise MethodNotAllowed(["GET"])
    try:
        order = decode(_payload("payload"))
    except PayloadError as error:
        note_refusal(PARTNER, "credit", None, error.reason, 500)
        return refuse(BAD_PAYLOAD, "The payload cannot be decoded")
    game = current_installation().games.by_setting("playtem.app_id", order.app_id)
    if game is None or not is_configured(game):
        note_refusal(PARTNER, "credit", None, "unknown_game", 500)
        return refuse(BAD_PAYLOAD, "The signature does not match")
    return _credit(game, "payload")  # decoded again, by this game's settings


def _credit(game: Game, parameter: str) -> Response:
    installation = current_installation()
    if not is_address_allowed(game, PARTNER):
        answered = Response("Forbidden\n", 403, mimetype="text/plain")
        note_refusal(PARTNER, "credit", game, "address", 403, answer=answered)
        return answered

    try:
        order = decode(_payload(parameter), game.is_on("playtem.accept_single_quotes"))
        signer, matched_format = verify(order, game.keys("playtem.secret"), game.settings)
    except PayloadError as error:
        is_forged = error.reason in ("signature", "app_id")
        answered = refuse(
            BAD_PAYLOAD, f"The {'signature does not match' if is_forged else 'payload cannot be decoded'}"
        )
        note_refusal(PARTNER, "credit", game, error.reason, 500, answer=answered)
        return answered
    note_call(game, PARTNER, "credit", signer)

    wanted = to_credit(order, game, signer, matched_format)
    outcome = ledger.report(
        installation.database,
        installation.outbound.for_callers,
        game,
        wanted,
        may_be_empty=False,
        also=lambda tx, credited: learn_app_id(tx, installation.catalogue, game, order, wanted),
    )
    if outcome.credited is None:
        reason, code, message = REFUSED[outcome.reason]
        answered = refuse(code, message.format(user_id=order.user_id, detail=outcome.detail))
        note_refusal(PARTNER, "credit", game, reason, 500, detail=outcome.detail, answer=answered)
        if outcome.reason == "lookup_failed":
            current_app.logger.error("playtem %s: a purchase could not be credited: %s", game.slug, outcome.detail)
        return answered
    log_credit(PARTNER, game, f"reward {wanted.reference!r}, signature format {matched_format}", outcome.credited)
    return answer(outcome.credited.answer_status, outcome.credited.answer_body)


def claim(game: Game, endpoint: str) -> Claim | None:
    """What the current request reports, if a secret of the game signed it, whatever else is wrong with it."""
    settings = {**game.settings, "playtem.app_id": ""}
    for parameter in dict.fromkeys((settings["playtem.parameter"], "payload")):
        try:
            order = decode(_payload(parameter), game.is_on("playtem.accept_single_quotes"))
            signer, matched_format = verify(order, game.keys("playtem.secret"), settings)
        except PayloadError:
            continue
        return refused.claim_of(to_credit(order, game, signer, matched_format))
    return None


def is_configured(game: Game) -> bool:
    return bool(game.keys("playtem.secret"))


def _payload(parameter: str) -> str:
    """The one value of the parameter, whose case the guide itself does not keep."""
    values = [value for name, value in request.args.items(multi=True) if name.lower() == parameter.lower()]
    if len(values) != 1:
        raise PayloadError("malformed")
    return values[0]


def to_credit(order: Order, game: Game, signer: SecretValue, matched_format: str) -> reports.Credit:
    """An order as the ledger takes it. Items are ids without a quantity: the same id twice means two of it."""
    player_id = _player_id(order.user_id, game)
    lines = tuple((item, 1) for item in order.items)
    return reports.Credit(
        game_id=game.id,
        game_slug=game.slug,
        partner=PARTNER,
        external_id=order.transaction_id,
        reference=order.transaction_id,
        kind="reward",
        player_id=player_id,
        lines=lines,
        fingerprint=reports.fingerprint(order.user_id, lines=lines),
        raw_body=request.query_string,
        signature=order.signature,
        signed_with=f"{signer.label} {matched_format}",
        answer_status=200,
        answer_body="",
        keys=(("signature", order.signature),),
    )


def learn_app_id(
    tx: Connection, catalogue: Mapping[str, Setting], game: Game, order: Order, wanted: reports.Credit
) -> None:
    """Set the game's AppId from the first verified call that is no test, if the owner has not set it."""
    if not wanted.is_test and not games.stored_settings(tx, game.id).get("playtem.app_id"):
        games.set_setting(tx, catalogue, game.slug, "playtem.app_id", order.app_id, actor="playtem")


def answer(status: int, body: str) -> Response:
    return Response(body, status, mimetype="application/json", headers={"Cache-Control": "no-store"})


def refuse(code: int, message: str) -> Response:
    """Playtem's form of an error: always HTTP 500, with ``{"ErrorCode", "ErrorMessage"}`` in the body."""
    return answer(500, json.dumps({"ErrorCode": code, "ErrorMessage": message}))


def refuse_http(status: int, message: str) -> Response:
    """The answer where no call was handled: 404 and 405 keep their status, any other error is ErrorCode 400."""
    if status == 404:
        return not_found()
    if status == 405:
        return Response(status=405, mimetype="text/plain")
    return refuse(ANY_OTHER_ERROR, message)


def not_found() -> Response:
    return Response("Not Found\n", 404, mimetype="text/plain")


def _player_id(user_id: str, game: Game) -> str:
    """The player Playtem means. Its guide says UserId is a Facebook id; its linking call sends the game's own id."""
    meaning = game.settings["playtem.user_id"]
    if meaning == "player" or user_id == registry.RESERVED_ID:
        return user_id
    linked = registry.player_by_identity(current_installation().database.read(), game.id, "facebook", user_id)
    if linked is None and meaning == "facebook":
        return f"facebook:{user_id}"  # no player has this id, so the rule for unknown players decides
    return linked or user_id
