"""The login methods: a password, a code we issued, an account at Google, Apple or Facebook.

Each returns a function that finishes the login inside the write that records the attempt.
"""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from coinslot.access import logins, throttle
from coinslot.base import spellings
from coinslot.games import lookup, registry
from coinslot.games.games import Game
from coinslot.store.db import Connection
from handlers.appcharge.logins import providers, social
from handlers.kit import passwords
from handlers.kit.receive import current_installation

FAILED = "We could not log you in. Please check what you entered and try again."

LONGEST_PASSWORD = 1024
LONGEST_CODE = 255  # of a token we issued, too
HASH_WAIT_SECONDS = 1.0
# A hash takes 32 MiB: however many log in at once, this is all the memory they get.
hashing = threading.BoundedSemaphore(2)
# No password has this hash, and checking it takes as long as any other.
_NOBODYS_HASH = "scrypt$nobody$nothing"


class OverloadError(Exception):
    """More passwords came than can be checked at once; the player should try again."""


@dataclass(frozen=True)
class Judged:
    """The result of an attempt: ``player_id`` logged in when ``reason`` is None, else it is the player concerned."""

    player_id: str | None = None
    reason: str | None = None
    profile: Mapping[str, str] = field(
        default_factory=dict, repr=False
    )  # of a player whom the game's server has just named
    message: str | None = None


# Finishes a login inside the write that records it.
Judge = Callable[[Connection], Judged]


def admit(game: Game, player_id: str | None, found: lookup.FoundPlayer | None = None) -> Judge:
    """Let a player in by the rules for unknown ones. ``found``: the game's server has just named this player."""
    installation = current_installation()
    try:
        player_id = registry.checked_id(player_id or "")
    except ValueError:
        return fails("unknown_player")
    is_asked = game.settings["players.unknown"] == "lookup" and found is None
    if is_asked and not registry.has_player(installation.database.read(), game.id, player_id):
        found = lookup.player(installation.outbound.for_callers, game, player_id)
        if found is None:
            return fails("unknown_player")

    return lambda tx: _admitted(tx, game, player_id, found.profile if found else {})


def _admitted(tx: Connection, game: Game, player_id: str, profile: Mapping[str, str]) -> Judged:
    unknown = game.settings["players.unknown"]
    if not registry.has_player(tx, game.id, player_id):
        if unknown == "reject":
            return Judged(reason="unknown_player")
        if unknown == "create":
            registry.register_player(tx, game.id, player_id)
    return Judged(player_id, profile=profile)


def by_password(game: Game, user_name: str | None, password: str | None) -> Judge:
    """Check a password. Known and unknown names count alike towards the throttle and take the same time."""
    installation = current_installation()
    if not _is_usable(user_name, registry.LONGEST_ID) or not _is_usable(password, LONGEST_PASSWORD):
        return fails("wrong_password")
    known = registry.player_by_login_name(installation.database.read(), game.id, user_name)
    player_id = known["player_id"] if known else None
    keys = throttle.password_keys(user_name, player_id)

    def count(tx: Connection) -> None:
        for key in keys:
            throttle.begin(tx, game.id, key)

    def take_back(tx: Connection) -> None:
        for key in keys:
            throttle.take_back(tx, game.id, key)

    try:
        installation.database.write(count)
    except throttle.ThrottledError as error:
        return fails("throttled", player_id, _too_many(error))

    try:
        has_password_here = known is not None and known["password_hash"] is not None
        if has_password_here or not game.settings["players.login_url"]:
            is_right = _is_password(known["password_hash"] if known and has_password_here else _NOBODYS_HASH, password)
            found = lookup.FoundPlayer(player_id) if is_right and player_id is not None else None
        else:
            found = lookup.player_by_password(
                installation.outbound.for_callers, game, spellings.composed(user_name), spellings.composed(password)
            )
    except (lookup.LookupFailedError, OverloadError):
        installation.database.write(take_back)
        raise
    if found is None:
        return fails("wrong_password", player_id)
    let_in = admit(game, found.player_id, found)

    def judge(tx: Connection) -> Judged:
        # Several names may share a spelling key: a login by one of them clears only failures that were all its own.
        shared, *own = keys
        is_all_own = [throttle.failures(tx, game.id, key) for key in own] == [throttle.failures(tx, game.id, shared)]
        for key in keys if is_all_own else own:
            throttle.clear(tx, game.id, key)
        if not is_all_own:
            throttle.take_back(tx, game.id, shared)
        return let_in(tx)

    return judge


def by_code(game: Game, access_token: str | None, code: str | None) -> Judge:
    """Check a code we issued. It may have four digits, so it counts only together with its token."""
    if not access_token or not code or len(access_token) > LONGEST_CODE or len(code) > LONGEST_CODE:
        return fails("wrong_code")
    code = spellings.code(code)

    def judge(tx: Connection) -> Judged:
        # A login has five tries; beginning one login after the other is throttled as well.
        player_id = logins.player_of(tx, game.id, access_token)
        key = throttle.key("code", player_id or "")
        try:
            if player_id is not None:
                throttle.begin(tx, game.id, key)
        except throttle.ThrottledError as error:
            return Judged(player_id, "throttled", message=_too_many(error))
        outcome = logins.use(tx, game.id, access_token, code)
        if outcome.reason is not None or outcome.player_id is None:
            if player_id is not None and outcome.reason != "wrong_code":  # it was no guess
                throttle.take_back(tx, game.id, key)
            return Judged(outcome.player_id, outcome.reason)
        throttle.clear(tx, game.id, key)
        return _admitted(tx, game, outcome.player_id, {})

    return judge


def by_account(game: Game, provider: str, token: str | None, app_id: str | None) -> Judge:
    """Log in with an account elsewhere: as the player it is linked to, else as ``appcharge.social_ids`` says."""
    installation = current_installation()
    if not token:
        return fails("token")
    try:
        subject = social.subject(game, installation.outbound.for_callers, provider, token, app_id)
    except providers.LoginRefusedError as error:
        return fails(error.reason, message=FAILED)
    if game.settings["appcharge.social_ids"] == "subject":
        linked = registry.player_by_identity(installation.database.read(), game.id, provider, subject)
        return _unless_linked_otherwise(game, provider, subject, admit(game, linked or subject))

    def judge(tx: Connection) -> Judged:
        player_id = registry.player_by_identity(tx, game.id, provider, subject)
        if player_id is None and game.settings["players.unknown"] == "create":
            player_id = _register(tx, game, provider, subject)
        return Judged(player_id, None if player_id else "not_linked")

    return judge


def _unless_linked_otherwise(game: Game, provider: str, subject: str, admit: Judge) -> Judge:
    """Refuse a player with the same id who is linked to another account of that provider."""

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
    """Register a player for an account; None where the id is taken by a player with another account."""
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


def fails(reason: str, player_id: str | None = None, message: str | None = None) -> Judge:
    """A judge that refuses every time. ``message`` is shown to the player in place of the words for ``reason``."""
    return lambda tx: Judged(player_id, reason, message=message)


def _is_password(password_hash: str, password: str) -> bool:
    if not hashing.acquire(timeout=HASH_WAIT_SECONDS):
        raise OverloadError("too many passwords came at once")
    try:
        return passwords.is_right(password_hash, password)
    finally:
        hashing.release()


def _too_many(error: throttle.ThrottledError) -> str:
    minutes = math.ceil(error.retry_after_seconds / 60)
    return f"Too many attempts; try again in {minutes} minute{'s' if minutes > 1 else ''}."


def typed(text: str | None) -> str | None:
    """What a person has typed, without blanks around it."""
    return text.strip() if text else None


def _is_usable(text: str | None, longest: int) -> TypeGuard[str]:
    """Whether it may be a name or password; half of a surrogate pair can neither be hashed nor sent on."""
    return text is not None and 0 < len(text) <= longest and not any("\ud800" <= each <= "\udfff" for each in text)
