"""The owner, the one person who runs this installation: password, setup link, and the browsers signed in."""

import hashlib
import secrets

from coinslot.access import page_facts
from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.store import audit, queries
from coinslot.store.db import Connection, Row

SHORTEST_PASSWORD = 10
SETUP_LINK_SECONDS = 3600
SESSION_SECONDS = 14 * 86400  # without a visit
SEEN_SECONDS = 300  # between two notes of a visit, which each cost a write
LONGEST_AGENT = 200
MOST_SESSIONS_SHOWN = 100
PASSWORD, NONCE = "owner.password_hash", "owner.setup_nonce"  # facts of the installation


class OwnerError(CoinslotError):
    """The owner asked for what cannot be done."""


def has_password(connection: Connection) -> bool:
    return password_hash(connection) is not None


def checked_password(password: str) -> str:
    """Raises :class:`OwnerError` for a password that is too short to guard money."""
    if len(password) < SHORTEST_PASSWORD:
        raise OwnerError(f"use at least {SHORTEST_PASSWORD} characters")
    return password


def set_password(tx: Connection, password_hash: str, actor: str, keep: str | None = None) -> None:
    """Set the password and sign every browser out, except the one with the hash ``keep``."""
    queries.set_fact(tx, PASSWORD, password_hash)
    end_sessions(tx, but=keep)
    audit.record(tx, None, actor, "owner.password", "owner")


def set_first_password(tx: Connection, password_hash: str) -> bool:
    """Set the password if there is none; returns False when another request was first."""
    fact = {"name": PASSWORD, "value": password_hash, "updated_at": clock.stamp()}
    row = queries.insert(tx, "installation", fact, "ON CONFLICT (name) DO NOTHING RETURNING 1")
    if row is not None:
        audit.record(tx, None, "owner", "owner.setup", "owner")
    return row is not None


def password_hash(connection: Connection) -> str | None:
    return queries.fact(connection, PASSWORD)


def begin_session(tx: Connection, remote_address: str, user_agent: str) -> str:
    """Sign a browser in; returns the token for its cookie, of which only a hash is kept."""
    now = clock.now()
    tx.execute("DELETE FROM owner_sessions WHERE expires_at < :now", {"now": clock.stamp(now)})
    token = secrets.token_urlsafe(32)
    row = {
        "token_hash": session_hash(token),
        "created_at": clock.stamp(now),
        "seen_at": clock.stamp(now),
        "expires_at": clock.stamp(now + SESSION_SECONDS),
        "remote_address": remote_address,
        "user_agent": user_agent[:LONGEST_AGENT],
    }
    queries.insert(tx, "owner_sessions", row)
    audit.record(tx, None, "owner", "owner.login", remote_address)
    return token


def session(connection: Connection, token: str) -> Row | None:
    """The browser that this token signed in, with :mod:`page_facts`; None when it is unknown, signed out or expired."""
    sql = f"""SELECT s.*, {page_facts.COLUMNS} FROM owner_sessions s
              WHERE s.token_hash = :hash AND s.expires_at > :now"""  # noqa: S608  our own words only
    return queries.row(connection, sql, {"hash": session_hash(token), "now": clock.stamp()})


def is_due(row: Row) -> bool:
    """Whether a visit of this browser is to be noted (:func:`seen`)."""
    return clock.now() - clock.seconds(row["seen_at"]) > SEEN_SECONDS


def seen(tx: Connection, token_hash: str) -> None:
    """Note a visit: the browser stays signed in for another :data:`SESSION_SECONDS`."""
    now = clock.now()
    tx.execute(
        "UPDATE owner_sessions SET seen_at = :now, expires_at = :expires_at WHERE token_hash = :hash",
        {"hash": token_hash, "now": clock.stamp(now), "expires_at": clock.stamp(now + SESSION_SECONDS)},
    )


def end_session(tx: Connection, token_hash: str) -> bool:
    """Sign one browser out; returns whether it was signed in."""
    return tx.execute("DELETE FROM owner_sessions WHERE token_hash = :hash", {"hash": token_hash}).rowcount > 0


def end_sessions(tx: Connection, but: str | None = None) -> int:
    """Sign every browser out, except the one with this hash; returns how many."""
    return tx.execute(
        "DELETE FROM owner_sessions WHERE CAST(:but AS TEXT) IS NULL OR token_hash <> :but", {"but": but}
    ).rowcount


def sessions(connection: Connection) -> list[Row]:
    """The browsers signed in, the last seen first; at most :data:`MOST_SESSIONS_SHOWN`."""
    return connection.execute(
        "SELECT * FROM owner_sessions WHERE expires_at > :now ORDER BY seen_at DESC LIMIT :most",
        {"now": clock.stamp(), "most": MOST_SESSIONS_SHOWN},
    ).fetchall()


def session_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def setup_nonce(tx: Connection) -> str:
    """A new nonce for the setup link; earlier links stop working."""
    nonce = secrets.token_urlsafe(16)
    queries.set_fact(tx, NONCE, nonce)
    return nonce


def is_setup_nonce(connection: Connection, nonce: str) -> bool:
    return queries.fact(connection, NONCE) == nonce
