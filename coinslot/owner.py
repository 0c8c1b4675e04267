"""The one person who runs this installation: a password, and the link on which it is first set."""

import secrets
import sqlite3

from coinslot import audit, clock

SHORTEST_PASSWORD = 10
SETUP_LINK_SECONDS = 3600


class OwnerError(Exception):
    """What the owner asked cannot be done; the message is for the owner."""


def has_password(connection: sqlite3.Connection) -> bool:
    return _fact(connection, "owner.password_hash") is not None


def checked_password(password: str) -> str:
    """Raises :class:`OwnerError` for a password that is too short to guard money."""
    if len(password) < SHORTEST_PASSWORD:
        raise OwnerError(f"use at least {SHORTEST_PASSWORD} characters")
    return password


def set_password(tx: sqlite3.Connection, password_hash: str, actor: str) -> None:
    tx.execute(
        """INSERT INTO installation (name, value, updated_at) VALUES ('owner.password_hash', :hash, :now)
           ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at""",
        {"hash": password_hash, "now": clock.stamp()},
    )
    audit.record(tx, None, actor, "owner.password", "owner")


def set_first_password(tx: sqlite3.Connection, password_hash: str) -> bool:
    """Set the password if there is none; False means that somebody was first."""
    row = tx.execute(
        """INSERT INTO installation (name, value, updated_at) VALUES ('owner.password_hash', :hash, :now)
           ON CONFLICT (name) DO NOTHING RETURNING 1""",
        {"hash": password_hash, "now": clock.stamp()},
    ).fetchone()
    if row is not None:
        audit.record(tx, None, "owner", "owner.setup", "owner")
    return row is not None


def setup_nonce(tx: sqlite3.Connection) -> str:
    """A fresh nonce for the setup link; the link of an earlier start ends with it."""
    nonce = secrets.token_urlsafe(16)
    tx.execute(
        """INSERT INTO installation (name, value, updated_at) VALUES ('owner.setup_nonce', :nonce, :now)
           ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at""",
        {"nonce": nonce, "now": clock.stamp()},
    )
    return nonce


def is_setup_nonce(connection: sqlite3.Connection, nonce: str) -> bool:
    return _fact(connection, "owner.setup_nonce") == nonce


def _fact(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("SELECT value FROM installation WHERE name = :name", {"name": name}).fetchone()
    return None if row is None else str(row["value"])
