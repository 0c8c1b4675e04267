"""Appcharge's Authenticate Player callback: ``POST /appcharge/<game>/auth``.

Sent when a player logs in to the web store, by any method; the player waits for the answer. A login that fails is
answered with 200 and ``status: invalid`` too (checked 2026-11: the documents define the error's fields there alone,
some of Appcharge's agents answer an empty 400). Facts that bite:

* ``userToken`` proves nothing: the token is the player id, typed in by whoever knows it.
* ``appId`` is also written ``appID``; ``token``, ``otp`` and the names may be null; ids may be numbers.
* A code works once, so this call is not safe to repeat, and Appcharge does not say whether it repeats it.

Every attempt becomes an event for the game, in the same commit as what it changes. Passwords, codes, tokens and login
names stand in none of them, and no answer tells whether a player exists whose password was wrong.
"""

import math
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from flask import Response, current_app
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from coinslot.access import logins, throttle
from coinslot.base import exact, spellings
from coinslot.games import lookup, registry
from coinslot.games.games import Game
from coinslot.ledger import events
from coinslot.store.db import Connection
from handlers.appcharge.logins import social
from handlers.appcharge.receive import PARTNER, answer, enter, refuse, refused
from handlers.appcharge.settings import METHODS
from handlers.appcharge.shapes import first_message, moment
from handlers.kit import passwords
from handlers.kit.receive import installation

LONGEST_PASSWORD = 1024
LONGEST_CODE = 255  # of a token we issued, too
LONGEST_WORD = 64  # of what an event repeats
HASH_WAIT_SECONDS = 1.0

# A hash takes 32 MiB: however many log in at once, this is all the memory they get.
_hashing = threading.BoundedSemaphore(2)
# No password has this hash, and finding that out takes as long as for any other.
_NOBODYS_HASH = "scrypt$nobody$nothing"

FAILED_TITLE = "Login failed"
FAILED = "We could not log you in. Please check what you entered and try again."
FAILED_BECAUSE = {
    "method_off": "You cannot log in this way here. Please choose another one.",
    "not_linked": "No player is linked to this account. Link it in the game and try again.",
    "wrong_code": "This code is not right. Open the game and try again.",
    "expired": "This code has expired. Open the game and try again.",
    "used": "This code was used already. Open the game and try again.",
    "too_many_codes": "There were too many wrong codes. Open the game and try again.",
}


class OverloadError(Exception):
    """More passwords came than can be checked. Our trouble: the player is to try again."""


@dataclass(frozen=True)
class Attempt:
    """A login as Appcharge sends it. What a method has no use for, or what came in an odd type, is None."""

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


@dataclass(frozen=True)
class Judged:
    """What came of an attempt. ``player_id`` has logged in when ``reason`` is None; else it is whom it concerned."""

    player_id: str | None = None
    reason: str | None = None
    profile: Mapping[str, str] = field(default_factory=dict, repr=False)  # of a player the game told us of just now
    message: str | None = None


# What a method leaves to be done and said inside of the write that records the attempt.
Judge = Callable[[Connection], Judged]


def authenticate(game_slug: str) -> Response:
    """Tell who logs in, or that nobody does."""
    house = installation()
    call = enter(game_slug, "auth")
    game = call.game
    try:
        attempt = read_attempt(call.body)
    except ValueError as error:
        raise refused("auth", game, "malformed", 400, f"The login cannot be read: {error}") from None

    try:
        judge = _examine(game, attempt)
    except (lookup.LookupFailedError, social.ProviderError, OverloadError) as error:
        current_app.logger.error("appcharge %s: a login could not be checked: %s", game.slug, error)
        house.database.write(lambda tx: _record(tx, game, attempt, Judged(reason="unavailable")))
        return refuse(503, "Your login could not be checked; please try again")

    def store(tx: Connection) -> Judged:
        judged = judge(tx)
        _record(tx, game, attempt, judged)
        return judged

    judged = house.database.write(store)
    return answer(200, _failed(judged) if judged.reason else _logged_in(game, judged))


class _Lenient(fields.Field[str | None]):
    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str | None:
        return _text(value)


class _Inner(fields.Field[Mapping[str, Any]]):
    """An object; anything else is an empty one."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Mapping[str, Any]:
        return value if isinstance(value, dict) else {}


class _Login(Schema):
    class Meta:
        unknown = EXCLUDE

    authMethod = fields.String(required=True, validate=validate.Length(min=1))
    token = _Lenient(load_default=None, allow_none=True)
    appId = _Lenient(load_default=None, allow_none=True)
    appID = _Lenient(load_default=None, allow_none=True)
    userName = _Lenient(load_default=None, allow_none=True)
    password = _Lenient(load_default=None, allow_none=True)
    otp = _Inner(load_default=None, allow_none=True)
    sessionId = _Lenient(load_default=None, allow_none=True)
    os = _Lenient(load_default=None, allow_none=True)
    playerLocation = _Inner(load_default=None, allow_none=True)
    date = _Lenient(load_default=None, allow_none=True)


_login = _Login()


def read_attempt(body: bytes) -> Attempt:
    """The attempt. Raises ValueError, which names the field and no value, when it has no method."""
    document = exact.parse_json(body, allow_half_pairs=True)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    try:
        login = _login.load(document)
    except ValidationError as error:
        raise ValueError(first_message(error.messages)) from None
    otp, location = login["otp"] or {}, login["playerLocation"] or {}
    return Attempt(
        method=login["authMethod"],
        token=_typed(login["token"]),
        app_id=login["appId"] or login["appID"],
        user_name=_typed(login["userName"]),
        password=login["password"],
        code=_text(otp.get("playerCode")),
        access_token=_typed(_text(otp.get("accessToken"))),
        session_id=_word(login["sessionId"]),
        os=_word(login["os"]),
        country=_word(_text(location.get("countryCode2"))),
        occurred_at=moment(login["date"]),
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
    """Everything that takes long, done before the write. Raises what is our own trouble."""
    if attempt.method not in allowed_methods(game):
        return _fails("method_off")
    if attempt.method == "userToken":
        return _admit(game, attempt.token)
    if attempt.method == "userPassword":
        return _by_password(game, attempt.user_name, attempt.password)
    if attempt.method == "otp":
        return _by_code(game, attempt.access_token, attempt.code)
    return _by_account(game, attempt.method, attempt.token, attempt.app_id)


def _admit(game: Game, player_id: str | None, told: lookup.Told | None = None) -> Judge:
    """Let a player in by the rules for unknown ones; whom the game's server told us of just now, it knows."""
    house = installation()
    try:
        player_id = registry.checked_id(player_id or "")
    except ValueError:
        return _fails("unknown_player")
    is_asked = game.settings["players.unknown"] == "lookup" and told is None
    if is_asked and not registry.has_player(house.database.read(), game.id, player_id):
        told = lookup.player(house.outbound.for_callers, game, player_id)
        if told is None:
            return _fails("unknown_player")

    return lambda tx: _admitted(tx, game, player_id, told.profile if told else {})


def _admitted(tx: Connection, game: Game, player_id: str, profile: Mapping[str, str]) -> Judged:
    unknown = game.settings["players.unknown"]
    if not registry.has_player(tx, game.id, player_id):
        if unknown == "reject":
            return Judged(reason="unknown_player")
        if unknown == "create":
            registry.register_player(tx, game.id, player_id)
    return Judged(player_id, profile=profile)


def _by_password(game: Game, user_name: str | None, password: str | None) -> Judge:
    """Wrong and right passwords, known and unknown names: counted alike, and judged in the same time."""
    house = installation()
    if not _is_usable(user_name, registry.LONGEST_ID) or not _is_usable(password, LONGEST_PASSWORD):
        return _fails("wrong_password")
    known = registry.player_by_login_name(house.database.read(), game.id, user_name)
    player_id = known["player_id"] if known else None
    keys = throttle.password_keys(user_name, player_id)

    def count(tx: Connection) -> None:
        for key in keys:
            throttle.begin(tx, game.id, key)

    def take_back(tx: Connection) -> None:
        for key in keys:
            throttle.take_back(tx, game.id, key)

    try:
        house.database.write(count)
    except throttle.ThrottledError as error:
        return _fails("throttled", player_id, _too_many(error))

    try:
        has_password_here = known is not None and known["password_hash"] is not None
        if has_password_here or not game.settings["players.login_url"]:
            is_right = _is_password(known["password_hash"] if known and has_password_here else _NOBODYS_HASH, password)
            told = lookup.Told(player_id) if is_right and player_id is not None else None
        else:
            told = lookup.player_by_password(
                house.outbound.for_callers, game, spellings.composed(user_name), spellings.composed(password)
            )
    except (lookup.LookupFailedError, OverloadError):
        house.database.write(take_back)
        raise
    if told is None:
        return _fails("wrong_password", player_id)
    admit = _admit(game, told.player_id, told)

    def judge(tx: Connection) -> Judged:
        # Several names may share a spelling key: whoever is in by one of them clears only what was all their own.
        shared, *own = keys
        is_all_own = [throttle.failures(tx, game.id, key) for key in own] == [throttle.failures(tx, game.id, shared)]
        for key in keys if is_all_own else own:
            throttle.clear(tx, game.id, key)
        if not is_all_own:
            throttle.take_back(tx, game.id, shared)
        return admit(tx)

    return judge


def _by_code(game: Game, access_token: str | None, code: str | None) -> Judge:
    """A code alone is four digits that anybody may guess: without its token it is nothing."""
    if not access_token or not code or len(access_token) > LONGEST_CODE or len(code) > LONGEST_CODE:
        return _fails("wrong_code")
    code = spellings.code(code)

    def judge(tx: Connection) -> Judged:
        # Five tries are all a login has; whoever begins one login after the other is slowed down as well.
        player_id = logins.player_of(tx, game.id, access_token)
        key = throttle.key("code", player_id or "")
        try:
            if player_id is not None:
                throttle.begin(tx, game.id, key)
        except throttle.ThrottledError as error:
            return Judged(player_id, "throttled", message=_too_many(error))
        outcome = logins.use(tx, game.id, access_token, code)
        if outcome.reason is not None or outcome.player_id is None:
            if player_id is not None and outcome.reason != "wrong_code":  # nobody was guessing
                throttle.take_back(tx, game.id, key)
            return Judged(outcome.player_id, outcome.reason)
        throttle.clear(tx, game.id, key)
        return _admitted(tx, game, outcome.player_id, {})

    return judge


def _by_account(game: Game, provider: str, token: str | None, app_id: str | None) -> Judge:
    """An account at Google, Apple or Facebook: the player it is linked to, or what the owner wants of the others."""
    house = installation()
    if not token:
        return _fails("token")
    try:
        subject = social.subject(game, house.outbound.for_callers, provider, token, app_id)
    except social.LoginRefusedError as error:
        return _fails(error.reason, message=FAILED)
    if game.settings["appcharge.social_ids"] == "subject":
        linked = registry.player_by_identity(house.database.read(), game.id, provider, subject)
        return _unless_linked_otherwise(game, provider, subject, _admit(game, linked or subject))

    def judge(tx: Connection) -> Judged:
        player_id = registry.player_by_identity(tx, game.id, provider, subject)
        if player_id is None and game.settings["players.unknown"] == "create":
            player_id = _register(tx, game, provider, subject)
        return Judged(player_id, None if player_id else "not_linked")

    return judge


def _unless_linked_otherwise(game: Game, provider: str, subject: str, admit: Judge) -> Judge:
    """Nobody becomes a player who is linked to another account of that provider, though the id be the same."""

    def judge(tx: Connection) -> Judged:
        judged = admit(tx)
        if judged.player_id is not None and registry.identity(tx, game.id, judged.player_id, provider) not in (
            None,
            subject,
        ):
            return Judged(reason="not_linked")
        return judged

    return judge


def _register(tx: Connection, game: Game, provider: str, subject: str) -> str | None:
    """A player for an account that nobody has; None where that id is somebody already, with another account."""
    try:
        player_id = registry.checked_id(f"{provider}:{subject}")
    except ValueError:
        return None
    registry.register_player(tx, game.id, player_id)
    try:
        registry.link_identity(tx, game.id, player_id, provider, subject)
    except registry.RegistryError:
        return None
    return player_id


def _fails(reason: str, player_id: str | None = None, message: str | None = None) -> Judge:
    return lambda tx: Judged(player_id, reason, message=message)


def _is_password(password_hash: str, password: str) -> bool:
    if not _hashing.acquire(timeout=HASH_WAIT_SECONDS):
        raise OverloadError("too many passwords came at once")
    try:
        return passwords.is_right(password_hash, password)
    finally:
        _hashing.release()


def _too_many(error: throttle.ThrottledError) -> str:
    minutes = math.ceil(error.retry_after_seconds / 60)
    return f"Too many attempts; try again in {minutes} minute{'s' if minutes > 1 else ''}."


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
    assert judged.player_id is not None, "a login that did not fail is somebody's"
    entry = registry.player(installation().database.read(), game.id, judged.player_id) or {}
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


def _text(value: object) -> str | None:
    """Text, or a whole number's digits; anything else is nothing."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _typed(text: str | None) -> str | None:
    """What a person has typed in, without the blanks that came along."""
    return text.strip() if text else None


def _is_usable(text: str | None, longest: int) -> TypeGuard[str]:
    """Whether it may be a name or password at all; half of a surrogate pair can neither be hashed nor sent on."""
    return text is not None and 0 < len(text) <= longest and not any("\ud800" <= each <= "\udfff" for each in text)


def _word(text: str | None) -> str | None:
    """Something of theirs that an event repeats: short, and safe to show."""
    kept = "".join(each for each in (text or "")[: 4 * LONGEST_WORD] if each.isprintable()).strip()
    return kept[:LONGEST_WORD] or None
