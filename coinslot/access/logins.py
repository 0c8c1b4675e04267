"""Logging in with a code: a player who is signed in to the game shows the store who they are.

Two ways lead there. The store begins (kind ``redirect``): it gets a token, the game confirms which player holds it, and
the player is shown a code. Or the game makes a link with both in it (kind ``link``). Either way the store comes back
with token and code, once: a code is used up by the first who brings it, five wrong ones end the login, so does time.

Tokens are random and kept as hashes. A code of a few digits could be found by trying whatever its hash, so it is keyed
with the token, which is not kept.
"""

import hashlib
import secrets
from dataclasses import dataclass

from coinslot.base import clock, signing
from coinslot.store.db import Connection, Row

MOST_WRONG_CODES = 5
KEPT_SECONDS = 86400.0  # after the end: until then a late player is told that the time has passed
MOST_PRUNED = 100


class LoginError(Exception):
    """A login cannot be confirmed."""


class UnknownLoginError(LoginError):
    """There is no login under this token that waits for a player."""


class ExpiredLoginError(LoginError):
    """Its time has passed."""


class UsedLoginError(LoginError):
    """Its code was used, or guessed at too often."""


class OtherPlayerError(LoginError):
    """It was confirmed for another player."""


@dataclass(frozen=True)
class Outcome:
    """What came of a code. ``reason`` is None when it was right: then ``player_id`` has logged in.

    Otherwise ``reason`` is ``wrong_code``, ``expired``, ``used`` or ``too_many_codes``, and ``player_id`` whose login
    it was, where that is known.
    """

    player_id: str | None
    reason: str | None


def begin(tx: Connection, game_id: int, partner: str, seconds: float) -> str:
    """Begin a login that the game is to confirm within ``seconds``; returns its token."""
    token, now = _new_token(), clock.now()
    _prune(tx, now)
    tx.execute(
        """INSERT INTO logins (game_id, partner, kind, token_hash, created_at, expires_at)
           VALUES (:game_id, :partner, 'redirect', :token_hash, :now, :expires_at)""",
        {
            "game_id": game_id,
            "partner": partner,
            "token_hash": _token_hash(token),
            "now": clock.stamp(now),
            "expires_at": clock.stamp(now + seconds),
        },
    )
    return token


def confirm(tx: Connection, game_id: int, token: str, player_id: str, digits: int) -> str:
    """Name the player of a login the store began; returns the code. Confirmed again it has a new code, and no other.

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
    """Make a login for a player the game vouches for; returns token, code and when it ends."""
    token, code, now = _new_token(), _new_code(digits), clock.now()
    _prune(tx, now)
    expires_at = clock.stamp(now + seconds)
    tx.execute(
        """INSERT INTO logins (game_id, partner, kind, token_hash, code_hash, player_id, created_at, expires_at)
           VALUES (:game_id, :partner, 'link', :token_hash, :code_hash, :player_id, :now, :expires_at)""",
        {
            "game_id": game_id,
            "partner": partner,
            "token_hash": _token_hash(token),
            "code_hash": _code_hash(token, code),
            "player_id": player_id,
            "now": clock.stamp(now),
            "expires_at": expires_at,
        },
    )
    return token, code, expires_at


def player_of(connection: Connection, game_id: int, token: str) -> str | None:
    """Whose login a token is of, where the game has said so."""
    row = _by_token(connection, game_id, token)
    return None if row is None else row["player_id"]


def use(tx: Connection, game_id: int, token: str, code: str) -> Outcome:
    """Log in with a code, once. A wrong one is counted, so this returns what it has to say and never raises it."""
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
    # Looked up by a hash: how long that takes tells nothing about a token that is near.
    row: Row | None = connection.execute(
        """SELECT id, kind, code_hash, player_id, wrong_codes, expires_at, used_at FROM logins
           WHERE token_hash = :token_hash AND game_id = :game_id""",
        {"token_hash": _token_hash(token), "game_id": game_id},
    ).fetchone()
    return row


def _prune(tx: Connection, now: float) -> None:
    tx.execute(
        """DELETE FROM logins WHERE id IN
               (SELECT id FROM logins WHERE expires_at < :old ORDER BY expires_at LIMIT :most)""",
        {"old": clock.stamp(now - KEPT_SECONDS), "most": MOST_PRUNED},
    )


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
