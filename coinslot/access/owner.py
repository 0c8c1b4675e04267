"""The one person who runs this installation: a password, the link on which it is first set, the browsers signed in."""

import hashlib
import secrets

from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.store import audit
from coinslot.store.db import Connection, Row

SHORTEST_PASSWORD = 10
SETUP_LINK_SECONDS = 3600
SESSION_SECONDS = 14 * 86400  # without a visit
SEEN_SECONDS = 300  # how exactly the last visit is known: a visit costs a write no more often
LONGEST_AGENT = 200
MOST_SESSIONS_SHOWN = 100


class OwnerError(CoinslotError):
    """What the owner asked cannot be done; the message is for the owner."""


def has_password(connection: Connection) -> bool:
    return _fact(connection, "owner.password_hash") is not None


def checked_password(password: str) -> str:
    """Raises :class:`OwnerError` for a password that is too short to guard money."""
    if len(password) < SHORTEST_PASSWORD:
        raise OwnerError(f"use at least {SHORTEST_PASSWORD} characters")
    return password


def set_password(tx: Connection, password_hash: str, actor: str, keep: str | None = None) -> None:
    """Every browser is signed out, but the one with the hash ``keep``."""
    tx.execute(
        """INSERT INTO installation (name, value, updated_at) VALUES ('owner.password_hash', :hash, :now)
           ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at""",
        {"hash": password_hash, "now": clock.stamp()},
    )
    end_sessions(tx, but=keep)
    audit.record(tx, None, actor, "owner.password", "owner")


def set_first_password(tx: Connection, password_hash: str) -> bool:
    """Set the password if there is none; False means that somebody was first."""
    row = tx.execute(
        """INSERT INTO installation (name, value, updated_at) VALUES ('owner.password_hash', :hash, :now)
           ON CONFLICT (name) DO NOTHING RETURNING 1""",
        {"hash": password_hash, "now": clock.stamp()},
    ).fetchone()
    if row is not None:
        audit.record(tx, None, "owner", "owner.setup", "owner")
    return row is not None


def password_hash(connection: Connection) -> str | None:
    return _fact(connection, "owner.password_hash")


def begin_session(tx: Connection, remote_address: str, user_agent: str) -> str:
    """Sign a browser in; returns the token for its cookie, which is kept as a hash alone."""
    now = clock.now()
    tx.execute("DELETE FROM owner_sessions WHERE expires_at < :now", {"now": clock.stamp(now)})
    token = secrets.token_urlsafe(32)
    tx.execute(
        """INSERT INTO owner_sessions (token_hash, created_at, seen_at, expires_at, remote_address, user_agent)
           VALUES (:hash, :now, :now, :expires_at, :remote_address, :user_agent)""",
        {
            "hash": session_hash(token),
            "now": clock.stamp(now),
            "expires_at": clock.stamp(now + SESSION_SECONDS),
            "remote_address": remote_address,
            "user_agent": user_agent[:LONGEST_AGENT],
        },
    )
    audit.record(tx, None, "owner", "owner.login", remote_address)
    return token


def session(connection: Connection, token: str) -> Row | None:
    """The browser this token signed in; None when it is unknown, ended or expired."""
    row: Row | None = connection.execute(
        "SELECT * FROM owner_sessions WHERE token_hash = :hash AND expires_at > :now",
        {"hash": session_hash(token), "now": clock.stamp()},
    ).fetchone()
    return row


def is_due(row: Row) -> bool:
    """Whether a visit of this browser is worth writing down (:func:`seen`)."""
    return clock.now() - clock.seconds(row["seen_at"]) > SEEN_SECONDS


def seen(tx: Connection, token_hash: str) -> None:
    now = clock.now()
    tx.execute(
        "UPDATE owner_sessions SET seen_at = :now, expires_at = :expires_at WHERE token_hash = :hash",
        {"hash": token_hash, "now": clock.stamp(now), "expires_at": clock.stamp(now + SESSION_SECONDS)},
    )


def end_session(tx: Connection, token_hash: str) -> bool:
    """Sign one browser out; returns whether it was signed in."""
    return tx.execute("DELETE FROM owner_sessions WHERE token_hash = :hash", {"hash": token_hash}).rowcount > 0


def end_sessions(tx: Connection, but: str | None = None) -> int:
    """Sign every browser out, but the one with this hash; returns how many those were."""
    return tx.execute(
        "DELETE FROM owner_sessions WHERE CAST(:but AS TEXT) IS NULL OR token_hash <> :but", {"but": but}
    ).rowcount


def sessions(connection: Connection) -> list[Row]:
    """Browsers signed in, the one seen last first; of very many, some."""
    return connection.execute(
        "SELECT * FROM owner_sessions WHERE expires_at > :now ORDER BY seen_at DESC LIMIT :most",
        {"now": clock.stamp(), "most": MOST_SESSIONS_SHOWN},
    ).fetchall()


def session_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def setup_nonce(tx: Connection) -> str:
    """A fresh nonce for the setup link; the link of an earlier start ends with it."""
    nonce = secrets.token_urlsafe(16)
    tx.execute(
        """INSERT INTO installation (name, value, updated_at) VALUES ('owner.setup_nonce', :nonce, :now)
           ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at""",
        {"nonce": nonce, "now": clock.stamp()},
    )
    return nonce


def is_setup_nonce(connection: Connection, nonce: str) -> bool:
    return _fact(connection, "owner.setup_nonce") == nonce


def _fact(connection: Connection, name: str) -> str | None:
    row = connection.execute("SELECT value FROM installation WHERE name = :name", {"name": name}).fetchone()
    return None if row is None else str(row["value"])
