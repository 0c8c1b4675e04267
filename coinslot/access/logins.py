"""Logging in with a code: a player who is signed in to the game proves to the store who they are.

Either the store begins (kind ``redirect``): it gets a token, the game confirms whose it is, and the player sees a code.
Or the game makes a link with token and code (kind ``link``). The store then sends both back. A code works once; five
wrong ones end the login, and so does time.

Tokens are random and kept as hashes. A code of a few digits could be guessed from any plain hash, so its hash is keyed
with the token, which is not kept.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coinslot.base import clock, signing
from coinslot.store import queries
from coinslot.store.db import Connection, Row

MOST_WRONG_CODES = 5
KEPT_SECONDS = 86400.0  # after the end: until then a late player gets an answer that says so
MOST_PRUNED = 100


class LoginError(Exception):
    """A login cannot be confirmed."""


class UnknownLoginError(LoginError):
    """No login with this token waits for a player."""


class ExpiredLoginError(LoginError):
    """Its time has passed."""


class UsedLoginError(LoginError):
    """Its code was used, or guessed at too often."""


class OtherPlayerError(LoginError):
    """It was confirmed for another player."""


@dataclass(frozen=True)
class Outcome:
    """The result of trying a code. ``reason`` is None when it was right: ``player_id`` has logged in.

    Otherwise ``reason`` is ``wrong_code``, ``expired``, ``used`` or ``too_many_codes``, and ``player_id`` is the player
    of the login, if known.
    """

    player_id: str | None
    reason: str | None


def begin(tx: Connection, game_id: int, partner: str, seconds: float) -> str:
    """Begin a login that the game must confirm within ``seconds``; returns its token."""
    token = _new_token()
    _insert(tx, seconds, token, {"game_id": game_id, "partner": partner, "kind": "redirect"})
    return token


def confirm(tx: Connection, game_id: int, token: str, player_id: str, digits: int) -> str:
    """Name the player of a login that the store began; returns the code. A second call replaces the code.

    Raises :class:`UnknownLoginError`, :class:`UsedLoginError`, :class:`ExpiredLoginError` or :class:`OtherPlayerError`.
    """
    row = _by_token(tx, game_id, token)
    if row is None or row["kind"] != "redirect":
        raise UnknownLoginError("there is no such login")
    if row["used_at"] is not None or row["wrong_codes"] >= MOST_WRONG_CODES:
        raise UsedLoginError("the login was used")
    if row["expires_at"] <= clock.stamp():
        raise ExpiredLoginError("the login has expired")
    if row["player_id"] not in (None, player_id):
        raise OtherPlayerError("the login was confirmed for another player")
    code = _new_code(digits)
    tx.execute(
        "UPDATE logins SET player_id = :player_id, code_hash = :code_hash WHERE id = :id",
        {"id": row["id"], "player_id": player_id, "code_hash": _code_hash(token, code)},
    )
    return code


def link(
    tx: Connection, game_id: int, partner: str, player_id: str, digits: int, seconds: float
) -> tuple[str, str, str]:
    """Make a login for a player whom the game has signed in; returns token, code and the stamp of its end."""
    token, code = _new_token(), _new_code(digits)
    row = {"game_id": game_id, "partner": partner, "kind": "link", "player_id": player_id}
    return token, code, _insert(tx, seconds, token, {**row, "code_hash": _code_hash(token, code)})


def player_of(connection: Connection, game_id: int, token: str) -> str | None:
    """The player of a login; None until the game has named one."""
    row = _by_token(connection, game_id, token)
    return None if row is None else row["player_id"]


def use(tx: Connection, game_id: int, token: str, code: str) -> Outcome:
    """Log in with a code, once. A wrong one is counted, so the result is returned and not raised."""
    row = _by_token(tx, game_id, token)
    if row is None:
        return Outcome(None, "wrong_code")
    if row["used_at"] is not None:
        return Outcome(row["player_id"], "used")
    if row["expires_at"] <= clock.stamp():
        return Outcome(row["player_id"], "expired")
    if row["wrong_codes"] >= MOST_WRONG_CODES:
        return Outcome(row["player_id"], "too_many_codes")
    if row["code_hash"] is None or not signing.is_equal(row["code_hash"], _code_hash(token, code)):
        tx.execute("UPDATE logins SET wrong_codes = wrong_codes + 1 WHERE id = :id", {"id": row["id"]})
        return Outcome(row["player_id"], "wrong_code")
    tx.execute("UPDATE logins SET used_at = :now WHERE id = :id", {"id": row["id"], "now": clock.stamp()})
    return Outcome(row["player_id"], None)


def _by_token(connection: Connection, game_id: int, token: str) -> Row | None:
    # By its hash: the time that the look-up takes tells nothing about similar tokens.
    sql = "SELECT * FROM logins WHERE token_hash = :token_hash AND game_id = :game_id"
    return queries.row(connection, sql, {"token_hash": _token_hash(token), "game_id": game_id})


def _insert(tx: Connection, seconds: float, token: str, columns: Mapping[str, Any]) -> str:
    """Insert a login and delete some that ended long ago; returns the stamp of its end."""
    now = clock.now()
    expires_at = clock.stamp(now + seconds)
    its_times = {"created_at": clock.stamp(now), "expires_at": expires_at}
    queries.insert(tx, "logins", {**columns, "token_hash": _token_hash(token), **its_times})
    tx.execute(
        """DELETE FROM logins WHERE id IN
               (SELECT id FROM logins WHERE expires_at < :old ORDER BY expires_at LIMIT :most)""",
        {"old": clock.stamp(now - KEPT_SECONDS), "most": MOST_PRUNED},
    )
    return expires_at


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def _new_code(digits: int) -> str:
    return f"{secrets.randbelow(10**digits):0{digits}d}"


def _token_hash(token: str) -> str:
    return hashlib.sha256(_bytes(token)).hexdigest()


def _code_hash(token: str, code: str) -> str:
    return signing.hmac_hex("sha256", _bytes(token), _bytes(code))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")
