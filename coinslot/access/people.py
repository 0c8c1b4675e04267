"""Who may sign in to the pages: owners, and support. Each has a name and a password of their own.

A person is invited by a link that is good for a day and for one use, and has no password until the link was used. The
name is the actor of what the person does (``audit``), so no two names differ by case, accents or blanks alone.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from coinslot.access import own_secrets, sessions
from coinslot.base import clock, spellings
from coinslot.base.errors import CoinslotError
from coinslot.store import audit, queries
from coinslot.store.db import Connection, Row

OWNER, SUPPORT = ROLES = ("owner", "support")
FIRST = "owner"  # the name of whom the setup link makes
SHORTEST_PASSWORD = 10
LONGEST_NAME = 40
INVITATION_SECONDS = 86400
REMOVED = "person.removed."  # facts of the installation: when a person of this folded name was removed
ACTORS = ("command", "game", "server", "job")  # who else does something; no person is called so


class PersonError(CoinslotError):
    """What was asked of a person cannot be done."""


@dataclass(frozen=True)
class Person:
    """A person who may sign in, or is invited. ``role`` is one of :data:`ROLES`."""

    id: int
    name: str
    role: str

    @classmethod
    def of(cls, row: Row) -> "Person":
        return cls(row["id"], row["name"], row["role"])


def checked_password(password: str) -> str:
    """Raises :class:`PersonError` for a password that is too short to guard money."""
    if len(password) < SHORTEST_PASSWORD:
        raise PersonError(f"use at least {SHORTEST_PASSWORD} characters")
    return password


def checked_name(name: str, role: str) -> str:
    """The name without blanks around it. Raises :class:`PersonError` for one that nobody may have, or no role."""
    if role not in ROLES:
        raise PersonError(f"a role is one of {', '.join(ROLES)}")
    name = spellings.composed(name).strip()
    folded = folded_name(name)
    if not folded or len(name) > LONGEST_NAME or not name.isprintable():
        raise PersonError(f"a name has 1 to {LONGEST_NAME} characters, all of which can be seen")
    if folded in ACTORS or (folded == FIRST and role != OWNER):
        raise PersonError(f"nobody may be called {name}: Activity would not say who that was")
    return name


def by_name(connection: Connection, name: str) -> Row | None:
    """The row of a person, by the name in any spelling; None when there is nobody of that name."""
    return queries.row(connection, "SELECT * FROM people WHERE folded = :folded", {"folded": folded_name(name)})


def by_id(connection: Connection, person_id: int) -> Row | None:
    return queries.row(connection, "SELECT * FROM people WHERE id = :id", {"id": person_id})


def named(connection: Connection, name: str) -> Person:
    """The same as a person. Raises :class:`PersonError` when there is nobody of that name."""
    row = by_name(connection, name)
    if row is None:
        raise PersonError("there is nobody of that name")
    return Person.of(row)


def meant(connection: Connection, name: str) -> Row | None:
    """Whom a name at the sign-in means. No name means the only person there is, or else the first owner."""
    if name.strip():
        return by_name(connection, name)
    with_password = connection.execute("SELECT * FROM people WHERE password_hash IS NOT NULL LIMIT 2").fetchall()
    return with_password[0] if len(with_password) == 1 else by_name(connection, FIRST)


def are_several(connection: Connection) -> bool:
    """Whether more than one person can sign in, so that a name is needed."""
    sql = "SELECT 1 FROM people WHERE password_hash IS NOT NULL LIMIT 2"
    return len(connection.execute(sql).fetchall()) > 1


def every(connection: Connection) -> list[Row]:
    """All people in the order in which they came, each with ``browsers`` signed in and ``last_seen_at`` (or None)."""
    return connection.execute(
        """SELECT p.id, p.name, p.role, p.totp_step, p.invitation_ends_at, p.created_at,
                  CASE WHEN p.password_hash IS NULL THEN 1 ELSE 0 END AS is_invited,
                  count(s.token_hash) AS browsers, max(s.seen_at) AS last_seen_at
           FROM people p LEFT JOIN sessions s ON s.person_id = p.id AND s.expires_at > :now
           GROUP BY p.id, p.name, p.role, p.totp_step, p.invitation_ends_at, p.created_at, p.password_hash
           ORDER BY p.id""",
        {"now": clock.stamp()},
    ).fetchall()


def set_password(tx: Connection, person: Person, password_hash: str, actor: str, keep: str | None = None) -> None:
    """Set a person's password and sign all their browsers out, except the one with the hash ``keep``.

    An invitation that was not used ends with it.
    """
    tx.execute(
        """UPDATE people SET password_hash = :password_hash, invitation_hash = NULL, invitation_ends_at = NULL
           WHERE id = :id""",
        {"id": person.id, "password_hash": password_hash},
    )
    sessions.end_of(tx, person.id, but=keep)
    audit.record(tx, None, actor, "person.password", person.name)


def invite(tx: Connection, name: str, role: str, actor: str) -> str:
    """Invite a person; returns the token of their link. A person who was invited before gets a new link and this role.

    Raises :class:`PersonError` for a name that is not allowed, or that a person already signs in with.
    """
    name, token, now = checked_name(name, role), secrets.token_urlsafe(32), clock.now()
    row = {"name": name, "folded": folded_name(name), "role": role, "created_at": clock.stamp(now)}
    row |= {"invitation_hash": _hash(token), "invitation_ends_at": clock.stamp(now + INVITATION_SECONDS)}
    is_invited = queries.insert(
        tx,
        "people",
        row,
        """ON CONFLICT (folded) DO UPDATE SET name = excluded.name, role = excluded.role,
               invitation_hash = excluded.invitation_hash, invitation_ends_at = excluded.invitation_ends_at
           WHERE people.password_hash IS NULL RETURNING 1""",
    )
    if is_invited is None:
        raise PersonError(f"there is a person called {name} already")
    audit.record(tx, None, actor, "person.invite", f"{name}, for {role}")
    return token


def link(public_url: str, token: str) -> str:
    """The link of an invitation."""
    return f"{public_url}/invitation?token={token}"


def invited(connection: Connection, token: str) -> Person | None:
    """Whom an invitation is for; None when its link is none, was used or replaced, or is older than a day."""
    row = queries.row(
        connection,
        """SELECT * FROM people
           WHERE invitation_hash = :hash AND invitation_ends_at > :now AND password_hash IS NULL""",
        {"hash": _hash(token), "now": clock.stamp()},
    )
    return None if row is None else Person.of(row)


def accept(tx: Connection, token: str, password_hash: str) -> Person | None:
    """Use an invitation up: its person has this password from now on. None where :func:`invited` says None."""
    person = invited(tx, token)
    if person is not None:
        sql = "UPDATE people SET password_hash = :password_hash WHERE id = :id"
        tx.execute(sql, {"id": person.id, "password_hash": password_hash})
        audit.record(tx, None, person.name, "person.accept", person.role)
    return person


def remove(tx: Connection, person: Person, actor: str) -> None:
    """Remove a person and sign all their browsers out. What they did stays in the audit.

    Raises :class:`PersonError` for the last owner who can sign in.
    """
    if person.role == OWNER:
        others = "SELECT 1 FROM people WHERE role = :role AND password_hash IS NOT NULL AND id <> :id"
        if queries.row(tx, others, {"role": OWNER, "id": person.id}) is None:
            raise PersonError(f"{person.name} is the only owner: there must be one")
    _delete(tx, person.id)
    queries.set_fact(tx, f"{REMOVED}{folded_name(person.name)}", clock.stamp())
    audit.record(tx, None, actor, "person.remove", f"{person.name}, {person.role}")


def removed(connection: Connection) -> dict[str, str]:
    """Folded name -> when a person of that name was last removed."""
    rows = connection.execute(
        "SELECT name, value FROM installation WHERE substr(name, 1, :length) = :prefix",
        {"prefix": REMOVED, "length": len(REMOVED)},
    ).fetchall()
    return {row["name"].removeprefix(REMOVED): row["value"] for row in rows}


def remove_again(tx: Connection, gone: Mapping[str, str]) -> None:
    """After a restore: remove whoever was removed since the copy was made (:func:`removed`), and end all invitations.

    An invitation of the copy may have been used since, and one works once.
    """
    tx.execute("UPDATE people SET invitation_hash = NULL, invitation_ends_at = NULL WHERE invitation_hash IS NOT NULL")
    for folded, removed_at in gone.items():
        queries.set_fact(tx, f"{REMOVED}{folded}", removed_at)
        row = queries.row(tx, "SELECT * FROM people WHERE folded = :folded", {"folded": folded})
        if row is not None and row["created_at"] <= removed_at:
            _delete(tx, row["id"])


def _delete(tx: Connection, person_id: int) -> None:
    for name in ("totp", "totp_offered"):
        own_secrets.delete(tx, f"{name}.{person_id}")
    tx.execute("DELETE FROM people WHERE id = :id", {"id": person_id})  # and their sessions and recovery codes


def folded_name(name: str) -> str:
    """The same for every spelling of a name, so that no two people's names look alike."""
    return spellings.searched(name)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
