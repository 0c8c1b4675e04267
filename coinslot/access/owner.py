"""The first owner: whom the setup link, or ``flask admin password``, gives a password."""

import secrets

from coinslot.access import people
from coinslot.access.people import FIRST, OWNER, Person
from coinslot.base import clock
from coinslot.store import audit, queries
from coinslot.store.db import Connection

SETUP_LINK_SECONDS = 3600
NONCE = "owner.setup_nonce"  # a fact of the installation


def has_password(connection: Connection) -> bool:
    """Whether an owner can sign in, so that there is nothing to set up any more."""
    sql = "SELECT 1 FROM people WHERE role = :role AND password_hash IS NOT NULL LIMIT 1"
    return queries.row(connection, sql, {"role": OWNER}) is not None


def first(tx: Connection) -> Person:
    """The first owner, who is added where missing."""
    row = {"name": FIRST, "folded": FIRST, "role": OWNER, "created_at": clock.stamp()}
    queries.insert(tx, "people", row, "ON CONFLICT (folded) DO NOTHING")
    return people.named(tx, FIRST)


def set_password(tx: Connection, password_hash: str, actor: str) -> None:
    """Set the first owner's password and sign their browsers out."""
    people.set_password(tx, first(tx), password_hash, actor)


def set_first_password(tx: Connection, password_hash: str) -> Person | None:
    """Set the first owner's password if no owner has one; returns None when another request was first."""
    if has_password(tx):
        return None
    person = first(tx)
    tx.execute("UPDATE people SET password_hash = :hash WHERE id = :id", {"id": person.id, "hash": password_hash})
    audit.record(tx, None, person.name, "owner.setup", person.name)
    return person


def setup_nonce(tx: Connection) -> str:
    """A new nonce for the setup link; earlier links stop working."""
    nonce = secrets.token_urlsafe(16)
    queries.set_fact(tx, NONCE, nonce)
    return nonce


def is_setup_nonce(connection: Connection, nonce: str) -> bool:
    return queries.fact(connection, NONCE) == nonce
