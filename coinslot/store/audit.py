"""Who changed what: one row per change, in the transaction of the change. Never a value of a secret."""

import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from coinslot.base import clock
from coinslot.store.paging import LAST_ID, Listed, cut, every
from coinslot.store.queries import equals

MOST_LOOKED_AT = 10_000  # rows a page reads at most to find those that are wanted
ROWS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Wanted:
    """Which entries: of one game, of none (the installation itself), or of all; None leaves a filter out."""

    game_id: int | None = None
    is_installation: bool = False
    actor: str | None = None
    word: str | None = None  # somewhere in the action


def record(tx: sqlite3.Connection, game_id: int | None, actor: str, action: str, subject: str) -> None:
    """``actor`` is ``command``, ``owner`` or ``game``; ``action`` reads like ``secret.rotate``."""
    tx.execute(
        """INSERT INTO audit (game_id, actor, action, subject, created_at)
           VALUES (:game_id, :actor, :action, :subject, :now)""",
        {"game_id": game_id, "actor": actor, "action": action, "subject": subject, "now": clock.stamp()},
    )


def entries(connection: sqlite3.Connection, wanted: Wanted, before: int = LAST_ID, limit: int = 50) -> Listed:
    """Entries below an id, newest first, and the id to go on below; None when there are no more.

    Where few are wanted among many, a page may hold fewer than ``limit`` and yet be followed by others.
    """
    is_all = wanted.game_id is None and not wanted.is_installation
    of_game = "true" if is_all else equals("game_id", wanted.game_id)
    values = {
        "game_id": wanted.game_id,
        "actor": wanted.actor,
        "word": wanted.word,
        "before": before,
        "most": MOST_LOOKED_AT,
        "limit": limit + 1,
    }
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


def every_entry(connection: sqlite3.Connection, wanted: Wanted) -> Iterator[sqlite3.Row]:
    """All of them, newest first, read a portion at a time."""
    return every(lambda before: entries(connection, wanted, before, ROWS_AT_ONCE))


def last_done(connection: sqlite3.Connection, game_id: int | None, actions: Collection[str]) -> dict[str, str]:
    """When each of these was last done to what: subject -> time. Looks at the last 500 changes alone."""
    rows = connection.execute(
        f"""SELECT action, subject, created_at FROM audit WHERE {equals("game_id", game_id)}
            ORDER BY id DESC LIMIT 500""",  # noqa: S608  our own words only
        {"game_id": game_id},
    ).fetchall()
    return {row["subject"]: row["created_at"] for row in reversed(rows) if row["action"] in actions}
