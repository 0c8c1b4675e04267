"""Who changed what: one row per change, in its transaction, without values of secrets."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from coinslot.base import clock
from coinslot.store import queries
from coinslot.store.db import Connection, Row
from coinslot.store.paging import LAST_ID, Listed, cut, every
from coinslot.store.queries import equals

MOST_LOOKED_AT = 10_000  # rows that a page reads at most to find the wanted ones
ROWS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Wanted:
    """Which entries: of one game, of the installation itself, or of all; None leaves a filter out."""

    game_id: int | None = None
    is_installation: bool = False
    actor: str | None = None
    word: str | None = None  # anywhere in the action


def record(tx: Connection, game_id: int | None, actor: str, action: str, subject: str) -> None:
    """Note a change. ``actor`` is a person's name, ``command``, ``game`` or ``server``.

    An ``action`` is such as ``secret.rotate``.
    """
    row = {"game_id": game_id, "actor": actor, "action": action, "subject": subject, "created_at": clock.stamp()}
    queries.insert(tx, "audit", row)


def entries(connection: Connection, wanted: Wanted, before: int = LAST_ID, limit: int = 50) -> Listed:
    """Entries below an id, newest first, and the id below which the next page begins; None after the last page.

    Where few entries of many are wanted, a page may hold fewer than ``limit`` although others follow.
    """
    is_all = wanted.game_id is None and not wanted.is_installation
    of_game = "true" if is_all else equals("game_id", wanted.game_id)
    values = {**vars(wanted), "before": before, "most": MOST_LOOKED_AT, "limit": limit + 1}
    stretch = connection.execute(
        f"""SELECT count(*) AS count, min(id) AS lowest
            FROM (SELECT id FROM audit WHERE {of_game} AND id < :before ORDER BY id DESC LIMIT :most) stretch""",  # noqa: S608
        values,
    ).fetchone()
    if stretch["count"] == 0:
        return [], None
    values["from"] = stretch["lowest"]
    rows = connection.execute(
        f"""SELECT * FROM audit
            WHERE {of_game} AND id >= :from AND id < :before
              AND (CAST(:actor AS TEXT) IS NULL OR actor = :actor)
              AND (CAST(:word AS TEXT) IS NULL OR instr(action, :word) > 0)
            ORDER BY id DESC LIMIT :limit""",  # noqa: S608  our own words only
        values,
    ).fetchall()
    rows, following = cut(rows, limit)
    return rows, following or (int(stretch["lowest"]) if stretch["count"] == MOST_LOOKED_AT else None)


def every_entry(connection: Connection, wanted: Wanted) -> Iterator[Row]:
    """All wanted entries, newest first, read a portion at a time."""
    return every(lambda before: entries(connection, wanted, before, ROWS_AT_ONCE))


def last_done(connection: Connection, game_id: int | None, actions: Collection[str]) -> dict[str, str]:
    """Subject -> when one of these actions was last done to it, among the last 500 changes."""
    rows = connection.execute(
        f"""SELECT action, subject, created_at FROM audit WHERE {equals("game_id", game_id)}
            ORDER BY id DESC LIMIT 500""",  # noqa: S608  our own words only
        {"game_id": game_id},
    ).fetchall()
    return {row["subject"]: row["created_at"] for row in reversed(rows) if row["action"] in actions}
