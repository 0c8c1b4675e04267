"""The browsers in which people are signed in. The cookie holds a token, of which only a hash is kept."""

import hashlib
import secrets

from coinslot.access import page_facts
from coinslot.base import clock
from coinslot.store import audit, queries
from coinslot.store.db import Connection, Row

SESSION_SECONDS = 14 * 86400  # without a visit
SEEN_SECONDS = 300  # between two notes of a visit, which each cost a write
SHOWN_SECONDS = 300  # for which a page stays shown after Show was pressed
LONGEST_AGENT = 200
MOST_SHOWN = 100


def begin(tx: Connection, person_id: int, remote_address: str, user_agent: str) -> str:
    """Sign a browser of a person in; returns the token for its cookie."""
    now = clock.now()
    tx.execute("DELETE FROM sessions WHERE expires_at < :now", {"now": clock.stamp(now)})
    token = secrets.token_urlsafe(32)
    row = {
        "token_hash": token_hash(token),
        "person_id": person_id,
        "created_at": clock.stamp(now),
        "seen_at": clock.stamp(now),
        "expires_at": clock.stamp(now + SESSION_SECONDS),
        "remote_address": remote_address,
        "user_agent": user_agent[:LONGEST_AGENT],
    }
    queries.insert(tx, "sessions", row)
    name = queries.get(tx, "name", "people", id=person_id)
    audit.record(tx, None, name, "person.login", remote_address)
    return token


def find(connection: Connection, token: str) -> Row | None:
    """The browser that this token signed in, with ``id``, ``name`` and ``role`` of its person and :mod:`page_facts`.

    None when the token is unknown, or the browser is signed out.
    """
    sql = f"""SELECT s.token_hash, s.seen_at, s.shown_page, s.shown_until, p.id, p.name, p.role, {page_facts.COLUMNS}
              FROM sessions s JOIN people p ON p.id = s.person_id
              WHERE s.token_hash = :hash AND s.expires_at > :now"""  # noqa: S608  our own words only
    return queries.row(connection, sql, {"hash": token_hash(token), "now": clock.stamp()})


def is_due(row: Row) -> bool:
    """Whether a visit of this browser is to be noted (:func:`seen`)."""
    return clock.now() - clock.seconds(row["seen_at"]) > SEEN_SECONDS


def seen(tx: Connection, token_hash: str) -> None:
    """Note a visit: the browser stays signed in for another :data:`SESSION_SECONDS`."""
    now = clock.now()
    tx.execute(
        "UPDATE sessions SET seen_at = :now, expires_at = :expires_at WHERE token_hash = :hash",
        {"hash": token_hash, "now": clock.stamp(now), "expires_at": clock.stamp(now + SESSION_SECONDS)},
    )


def show(tx: Connection, token_hash: str, page: str) -> None:
    """What is hidden on this page, a path with its query, is shown in this browser for :data:`SHOWN_SECONDS`.

    Of the page only a hash is kept: a name or an address may have been searched for.
    """
    tx.execute(
        "UPDATE sessions SET shown_page = :page, shown_until = :until WHERE token_hash = :hash",
        {"hash": token_hash, "page": _page_hash(page), "until": clock.stamp(clock.now() + SHOWN_SECONDS)},
    )


def is_shown(row: Row, page: str) -> bool:
    """Whether :func:`show` was called for this page a moment ago."""
    return (
        row["shown_page"] is not None and row["shown_page"] == _page_hash(page) and row["shown_until"] > clock.stamp()
    )


def end(tx: Connection, person_id: int, token_hash: str) -> bool:
    """Sign one browser of a person out; returns whether it was signed in."""
    return (
        tx.execute(
            "DELETE FROM sessions WHERE token_hash = :hash AND person_id = :person_id",
            {"hash": token_hash, "person_id": person_id},
        ).rowcount
        > 0
    )


def end_of(tx: Connection, person_id: int, but: str | None = None) -> int:
    """Sign every browser of a person out, except the one with this hash; returns how many."""
    return tx.execute(
        """DELETE FROM sessions
           WHERE person_id = :person_id AND (CAST(:but AS TEXT) IS NULL OR token_hash <> :but)""",
        {"person_id": person_id, "but": but},
    ).rowcount


def end_all(tx: Connection) -> None:
    """Sign everybody out."""
    tx.execute("DELETE FROM sessions")


def of(connection: Connection, person_id: int) -> list[Row]:
    """The browsers of a person that are signed in, the last seen first; at most :data:`MOST_SHOWN`."""
    return connection.execute(
        """SELECT * FROM sessions WHERE person_id = :person_id AND expires_at > :now
           ORDER BY seen_at DESC LIMIT :most""",
        {"person_id": person_id, "now": clock.stamp(), "most": MOST_SHOWN},
    ).fetchall()


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _page_hash(page: str) -> str:
    return hashlib.sha256(page.encode("utf-8", "surrogatepass")).hexdigest()
