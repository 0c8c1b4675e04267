"""The game's part in logging in to the store with a code: it says which of its players is signed in."""

from urllib.parse import urlencode, urlsplit, urlunsplit

from flask import Response, jsonify
from marshmallow import fields

from coinslot.access import logins
from coinslot.games import registry
from coinslot.games.games import Game
from coinslot.store.db import Connection
from handlers.appcharge.receive import PARTNER
from handlers.kit.fields import Identifier, Strict
from handlers.kit.partner import GameCall
from handlers.kit.problems import ProblemError, caller, read_body
from handlers.kit.receive import current_installation


class Confirmation(Strict):
    token = Identifier(required=True, metadata={"description": "As it stood in the link that opened the game"})
    player_id = Identifier(required=True, metadata={"description": "Who is signed in to the game"})


class Confirmed(Strict):
    player_code = fields.String(
        required=True, metadata={"description": "To show to the player; digits, zeros in front included"}
    )
    return_url = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Opens the store and logs in; null until appcharge.store_url is set"},
    )


class LinkRequest(Strict):
    player_id = Identifier(required=True)


class LoginLink(Strict):
    url = fields.String(required=True, metadata={"description": "Opens the store and logs in, once"})
    expires_at = fields.DateTime(required=True)


_confirmation, _link_request = Confirmation(), LinkRequest()


def confirm() -> Response:
    """Name the player of a login the store began."""
    game = caller()
    wanted = read_body(_confirmation)
    token, player_id = wanted["token"], wanted["player_id"]

    def store(tx: Connection) -> str:
        code = logins.confirm(tx, game.id, token, player_id, _digits(game))
        _expect_player(tx, game, player_id)
        return code

    try:
        code = current_installation().database.write(store)
    except logins.UnknownLoginError:
        raise ProblemError(404, "There is no login with this token that waits for a player") from None
    except logins.OtherPlayerError:
        raise ProblemError(409, "The login was confirmed for another player") from None
    except logins.ExpiredLoginError:
        raise ProblemError(410, "The login has expired; the player starts again in the store") from None
    except logins.UsedLoginError:
        raise ProblemError(410, "The login was used; the player starts again in the store") from None
    store_url = game.settings["appcharge.store_url"]
    return jsonify(player_code=code, return_url=login_url(store_url, token, code) if store_url else None)


def link() -> Response:
    """Make a link that logs a player in to the store, for as long as appcharge.link_seconds, once."""
    game = caller()
    player_id = read_body(_link_request)["player_id"]
    store_url = game.settings["appcharge.store_url"]
    if not store_url:
        raise ProblemError(409, "appcharge.store_url is not set, and a login link leads there")
    seconds = float(game.settings["appcharge.link_seconds"])

    def store(tx: Connection) -> tuple[str, str, str]:
        _expect_player(tx, game, player_id)
        return logins.link(tx, game.id, PARTNER, player_id, _digits(game), seconds)

    token, code, expires_at = current_installation().database.write(store)
    return jsonify(url=login_url(store_url, token, code), expires_at=expires_at)


def login_url(store_url: str, token: str, code: str) -> str:
    """Where the store takes a code. (Documentation before 2025 names the second parameter ``accessToken``.)"""
    parts = urlsplit(store_url)
    proof = urlencode({"proofKey": code, "token": token})
    query = f"{parts.query}&{proof}" if parts.query else proof
    return urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/login", query, ""))


def _expect_player(tx: Connection, game: Game, player_id: str) -> None:
    """Apply the rules for unknown players; the game itself has just named this one. Raises a 422."""
    if registry.has_player(tx, game.id, player_id):
        return
    if game.settings["players.unknown"] == "reject":
        detail = "is not a registered player"
        raise ProblemError(422, f"player_id: {detail}", [{"path": "player_id", "detail": detail}])
    if game.settings["players.unknown"] == "create":
        registry.register_player(tx, game.id, player_id)


def _digits(game: Game) -> int:
    return int(game.settings["appcharge.code_digits"])


GAME_CALLS = (
    GameCall(
        "POST",
        "/logins/confirm",
        confirm,
        "Say which player is signed in, of a login the web store began",
        {200: Confirmed},
        Confirmation,
        errors=(400, 404, 409, 410, 413, 422),
    ),
    GameCall(
        "POST",
        "/logins/link",
        link,
        "A link that logs a player in to the web store, once",
        {200: LoginLink},
        LinkRequest,
        errors=(400, 409, 413, 422),
    ),
)
