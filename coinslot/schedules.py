"""Work that is due at a time: one row per game and job, claimed by lease like a delivery.

Whoever wants a job to run says when (:func:`at`); any relay that finds it due runs it. A job that raises is tried
again after a growing pause, and its row says why. A process that dies in the middle gives the job back when its lease
ends, so a job must be safe to begin again.
"""

import sqlite3
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from coinslot import clock

if TYPE_CHECKING:
    from coinslot.games import Game
    from coinslot.installation import Installation

LEASE_SECONDS = 120.0
PAUSES_SECONDS = (10, 60, 300, 1800)  # after the first failure, the second, ...; then always the last
LONGEST_ERROR = 500

# What a job does; returns in how many seconds it wants to run again, or None for "when somebody asks for it".
Job: TypeAlias = "Callable[[Installation, Game], float | None]"


@dataclass(frozen=True)
class Due:
    """A claimed job. ``asked`` tells whether somebody asked for it again while it ran."""

    game_id: int
    game_slug: str
    name: str
    owner: str
    asked: int
    failures: int


def at(tx: sqlite3.Connection, game_id: int, name: str, seconds: float) -> None:
    """Have a job run ``seconds`` from now; one that is to run earlier already keeps its time."""
    tx.execute(
        """INSERT INTO schedules (game_id, name, due_at, asked) VALUES (:game_id, :name, :due_at, 1)
           ON CONFLICT (game_id, name) DO UPDATE SET asked = asked + 1,
               due_at = CASE WHEN due_at IS NULL OR due_at > excluded.due_at THEN excluded.due_at ELSE due_at END""",
        {"game_id": game_id, "name": name, "due_at": clock.stamp(clock.now() + seconds)},
    )


def next_due(connection: sqlite3.Connection, names: Collection[str]) -> str | None:
    """When the next of these jobs may be claimed, as a stamp; None when none is to run."""
    moments = [
        max(row["due_at"], row["leased_until"] or "")
        for row in connection.execute("SELECT name, due_at, leased_until FROM schedules WHERE due_at IS NOT NULL")
        if row["name"] in names
    ]
    return min(moments, default=None)


def claim_due(tx: sqlite3.Connection, owner: str, names: Collection[str]) -> list[Due]:
    """Take every one of these jobs that is due and that nobody has in hand."""
    now = clock.now()
    rows = tx.execute(
        """SELECT s.game_id, g.slug, s.name, s.asked, s.failures FROM schedules s JOIN games g ON g.id = s.game_id
           WHERE s.due_at <= :now AND (s.leased_until IS NULL OR s.leased_until <= :now)""",
        {"now": clock.stamp(now)},
    ).fetchall()
    claims = [
        Due(row["game_id"], row["slug"], row["name"], owner, row["asked"], row["failures"])
        for row in rows
        if row["name"] in names
    ]
    for due in claims:
        tx.execute(
            """UPDATE schedules SET due_at = :until, leased_until = :until, lease_owner = :owner
               WHERE game_id = :game_id AND name = :name""",
            {
                "game_id": due.game_id,
                "name": due.name,
                "owner": owner,
                "until": clock.stamp(now + LEASE_SECONDS),
            },
        )
    return claims


def finished(tx: sqlite3.Connection, due: Due, again_in_seconds: float | None, error: str | None = None) -> None:
    """End a claim. After an ``error`` the job pauses; what was asked for meanwhile is not forgotten.

    Changes nothing when the lease has run out and somebody else has the job in hand.
    """
    now = clock.now()
    failures = 0 if error is None else due.failures + 1
    if error is not None:
        again_in_seconds = PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS)) - 1]
    tx.execute(
        """UPDATE schedules SET leased_until = NULL, lease_owner = NULL, failures = :failures, last_error = :error,
               last_ran_at = :now,
               due_at = CASE WHEN asked <> :asked THEN min(due_at, coalesce(:due_at, due_at)) ELSE :due_at END
           WHERE game_id = :game_id AND name = :name AND lease_owner = :owner""",
        {
            "game_id": due.game_id,
            "name": due.name,
            "owner": due.owner,
            "asked": due.asked,
            "failures": failures,
            "error": None if error is None else error[:LONGEST_ERROR],
            "now": clock.stamp(now),
            "due_at": None if again_in_seconds is None else clock.stamp(now + again_in_seconds),
        },
    )
