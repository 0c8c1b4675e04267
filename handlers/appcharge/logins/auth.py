"""Appcharge's Authenticate Player callback: ``POST /appcharge/<game>/auth``.

Sent when a player logs in to the web store, by any method; the player waits for the answer. A failed login is answered
200 with ``status: invalid`` (checked 2026-11: only that answer has documented error fields; some of Appcharge's agents
answer an empty 400).

* ``userToken`` proves nothing: the token is the player id, which anyone may type in.
* ``appId`` is also written ``appID``; ``token``, ``otp`` and the names may be null; ids may be numbers.
* A code works once, so this call is not safe to repeat, and Appcharge does not say whether it repeats it.

Every attempt becomes an event for the game, in the same commit as what it changes. No event holds a password, code,
token or login name. No answer shows whether a player exists whose password was wrong.
"""

import uuid
from dataclasses import dataclass, field
from typing import Any

from flask import Response, current_app

from coinslot.games import lookup, registry
from coinslot.games.games import Game
from coinslot.games.readers import at_path, moment_of, text_of
from coinslot.ledger import events
from coinslot.store.db import Connection
from handlers.appcharge.logins import providers, social
from handlers.appcharge.logins.methods import (
    FAILED,
    Judge,
    Judged,
    OverloadError,
    admit,
    by_account,
    by_code,
    by_password,
    fails,
    typed,
)
from handlers.appcharge.receive import PARTNER, answer, read, refuse
from handlers.appcharge.settings import METHODS
from handlers.appcharge.shapes import read_object
from handlers.kit.receive import current_installation

LONGEST_WORD = 64  # of what an event repeats


FAILED_TITLE = "Login failed"
FAILED_BECAUSE = {
    "method_off": "You cannot log in this way here. Please choose another one.",
    "not_linked": "No player is linked to this account. Link it in the game and try again.",
    "wrong_code": "This code is not right. Open the game and try again.",
    "expired": "This code has expired. Open the game and try again.",
    "used": "This code was used already. Open the game and try again.",
    "too_many_codes": "There were too many wrong codes. Open the game and try again.",
}


@dataclass(frozen=True)
class Attempt:
    """A login as Appcharge sends it. A field that is missing or of another type is None."""

    method: str
    token: str | None = field(repr=False)
    app_id: str | None
    user_name: str | None = field(repr=False)
    password: str | None = field(repr=False)
    code: str | None = field(repr=False)
    access_token: str | None = field(repr=False)
    session_id: str | None
    os: str | None
    country: str | None
    occurred_at: str | None


def authenticate(game_slug: str) -> Response:
    """Answer who logs in, or that the login failed."""
    installation = current_installation()
    call, attempt = read(game_slug, "auth", read_attempt)
    game = call.game
    try:
        judge = _examine(game, attempt)
    except (lookup.LookupFailedError, providers.ProviderError, OverloadError) as error:
        current_app.logger.error("appcharge %s: a login could not be checked: %s", game.slug, error)
        installation.database.write(lambda tx: _record(tx, game, attempt, Judged(reason="unavailable")))
        return refuse(503, "Your login could not be checked; please try again")

    def store(tx: Connection) -> Judged:
        judged = judge(tx)
        _record(tx, game, attempt, judged)
        return judged

    judged = installation.database.write(store)
    return answer(200, _failed(judged) if judged.reason else _logged_in(game, judged))


def read_attempt(body: bytes) -> Attempt:
    """The attempt. Raises ValueError, which names the field and no value, when it has no method."""
    document = read_object(body)
    method = document.get("authMethod")
    if not isinstance(method, str) or not method:
        raise ValueError("authMethod is missing")
    return Attempt(
        method=method,
        token=typed(text_of(document.get("token"))),
        app_id=text_of(document.get("appId")) or text_of(document.get("appID")),
        user_name=typed(text_of(document.get("userName"))),
        password=text_of(document.get("password")),
        code=text_of(at_path(document, "otp.playerCode")),
        access_token=typed(text_of(at_path(document, "otp.accessToken"))),
        session_id=_word(text_of(document.get("sessionId"))),
        os=_word(text_of(document.get("os"))),
        country=_word(text_of(at_path(document, "playerLocation.countryCode2"))),
        occurred_at=moment_of(document.get("date")),
    )


def allowed_methods(game: Game) -> tuple[str, ...]:
    """The login methods this game's store may use: those that are set up, and that the owner has not left out."""
    chosen = [word for word in game.settings["appcharge.logins"].split(",") if word]
    return tuple(
        method
        for method in METHODS
        if (not chosen or method in chosen) and (method not in registry.PROVIDERS or social.is_configured(game, method))
    )


def _examine(game: Game, attempt: Attempt) -> Judge:
    """Do what takes long before the write. Raises an error when we, or a server we ask, cannot check the login."""
    if attempt.method not in allowed_methods(game):
        return fails("method_off")
    if attempt.method == "userToken":
        return admit(game, attempt.token)
    if attempt.method == "userPassword":
        return by_password(game, attempt.user_name, attempt.password)
    if attempt.method == "otp":
        return by_code(game, attempt.access_token, attempt.code)
    return by_account(game, attempt.method, attempt.token, attempt.app_id)


def _record(tx: Connection, game: Game, attempt: Attempt, judged: Judged) -> None:
    environment = game.settings["appcharge.environment"]
    events.record(
        tx,
        game_id=game.id,
        partner=PARTNER,
        type="player.login",
        dedupe_key=f"login:{uuid.uuid4().hex}",  # two attempts are never one, however alike
        data={
            "method": attempt.method if attempt.method in METHODS else "unknown",
            "result": "failed" if judged.reason else "success",
            "reason": _word(judged.reason),
            "session_id": attempt.session_id,
            "os": attempt.os,
            "country": attempt.country,
        },
        raw_body=None,  # it may hold a password
        environment=environment,
        is_test=environment == "sandbox" or judged.player_id == registry.RESERVED_ID,
        player_id=judged.player_id,
        occurred_at=attempt.occurred_at,
    )


def _logged_in(game: Game, judged: Judged) -> dict[str, Any]:
    assert judged.player_id is not None, "a login that did not fail names a player"
    entry = registry.player(current_installation().database.read(), game.id, judged.player_id) or {}
    metadata = entry.get("profile", {}).get("session_metadata")
    content = {
        "status": "valid",
        "publisherPlayerId": judged.player_id,
        "playerName": entry.get("name") or judged.profile.get("name") or judged.player_id,
        "playerProfileImage": entry.get("profile_image") or judged.profile.get("profile_image") or "",
        "sessionMetadata": metadata if isinstance(metadata, dict) else {},
    }
    country = entry.get("country") or judged.profile.get("country")
    return {**content, "playerOverrideCountry": country} if country else content


def _failed(judged: Judged) -> dict[str, Any]:
    return {
        "status": "invalid",
        "publisherErrorMessageType": "plainText",
        "publisherErrorMessageTitle": FAILED_TITLE,
        "publisherErrorMessage": judged.message or FAILED_BECAUSE.get(judged.reason or "", FAILED),
    }


def _word(text: str | None) -> str | None:
    """Text of theirs as an event keeps it: short and printable."""
    kept = "".join(each for each in (text or "")[: 4 * LONGEST_WORD] if each.isprintable()).strip()
    return kept[:LONGEST_WORD] or None
