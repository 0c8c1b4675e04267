"""Work that is due at a time: one row per game and job, claimed by lease like a delivery.

Whoever wants a job to run says when (:func:`at`); any relay that finds it due runs it. A job that fails is tried again
after a growing pause, which no asking shortens, and its row says why. A process that dies in the middle gives the job
back when its lease ends, so a job must be safe to begin again, and must end well before its lease does: one with more
to do than that returns 0 and goes on in its next run.

A :class:`Standing` job needs nobody to ask: it runs once a relay sees the game, and after each change of its
configuration, which ends a pause too.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.store.db import Connection, Row

if TYPE_CHECKING:
    pass

LEASE_SECONDS = 120.0
LONGEST_LEASE_SECONDS = LEASE_SECONDS + 60  # one that seems longer was made by a clock that ran ahead
PAUSES_SECONDS = (10, 60, 300, 1800)  # after the first failure, the second, ...; then always the last
LONGEST_PAUSE_SECONDS = 3600.0  # that another side may ask for
LONGEST_ERROR = 500


class JobError(CoinslotError):
    """A job could not be done this time. The message is for the owner, who reads it in the log and in the row.

    ``pauses`` are the job's own in the place of :data:`PAUSES_SECONDS`; ``at_least`` is what the other side asked for,
    of which no more than :data:`LONGEST_PAUSE_SECONDS` is kept, and the message says so.
    ``is_anew``: the job got ahead before it failed, so that its pauses begin with the first one again.
    """

    def __init__(
        self,
        message: str,
        pauses: Sequence[float] = PAUSES_SECONDS,
        at_least: float = 0.0,
        *,
        is_anew: bool = False,
    ) -> None:
        if at_least > LONGEST_PAUSE_SECONDS:
            message += f"; it asks for a pause of {at_least / 3600:,.0f} hours, and is tried again within an hour"
        super().__init__(message)
        self.pauses = pauses
        self.at_least = min(at_least, LONGEST_PAUSE_SECONDS)
        self.is_anew = is_anew


@dataclass(frozen=True)
class Due:
    """A claimed job. ``asked`` is how often it had been asked for by then."""

    game_id: int
    game_slug: str
    name: str
    owner: str
    leased_until: str
    asked: int
    failures: int


def at(tx: Connection, game_id: int, name: str, seconds: float) -> None:
    """Have a job run ``seconds`` from now; one that is to run earlier, or pauses after a failure, keeps its time."""
    tx.execute(
        """INSERT INTO schedules (game_id, name, due_at, asked) VALUES (:game_id, :name, :due_at, 1)
           ON CONFLICT (game_id, name) DO UPDATE SET asked = schedules.asked + 1,
               due_at = CASE WHEN schedules.due_at IS NULL THEN excluded.due_at
                             WHEN schedules.failures > 0 AND schedules.lease_owner IS NULL THEN schedules.due_at
                             WHEN schedules.due_at > excluded.due_at THEN excluded.due_at
                             ELSE schedules.due_at END""",
        {"game_id": game_id, "name": name, "due_at": clock.stamp(clock.now() + seconds)},
    )


def begin(tx: Connection, game_id: int, name: str) -> None:
    """Have a job run now unless it has a time already, be that a pause."""
    tx.execute(
        """INSERT INTO schedules (game_id, name, due_at, asked) VALUES (:game_id, :name, :now, 1)
           ON CONFLICT (game_id, name) DO UPDATE SET asked = schedules.asked + 1, due_at = :now
           WHERE schedules.due_at IS NULL""",
        {"game_id": game_id, "name": name, "now": clock.stamp()},
    )


def wake(tx: Connection, game_id: int, name: str) -> None:
    """Have a job run now, or once more should it be running: what it stands on has changed. A pause ends."""
    tx.execute(
        """INSERT INTO schedules (game_id, name, due_at, asked) VALUES (:game_id, :name, :now, 1)
           ON CONFLICT (game_id, name) DO UPDATE SET asked = schedules.asked + 1, due_at = :now""",
        {"game_id": game_id, "name": name, "now": clock.stamp()},
    )


def last_errors(connection: Connection, game_id: int) -> dict[str, str]:
    """Why jobs failed in their last run, by their names; a job that did not is absent."""
    rows = connection.execute(
        "SELECT name, last_error FROM schedules WHERE game_id = :game_id AND failures > 0 AND last_error IS NOT NULL",
        {"game_id": game_id},
    )
    return {row["name"]: row["last_error"] for row in rows}


def cursor(connection: Connection, game_id: int, name: str) -> str | None:
    """How far a job has come, in its own words; None when it has not begun."""
    row = connection.execute(
        "SELECT cursor FROM schedules WHERE game_id = :game_id AND name = :name", {"game_id": game_id, "name": name}
    ).fetchone()
    return None if row is None else row["cursor"]


def put_cursor(tx: Connection, game_id: int, name: str, text: str | None) -> None:
    """Note how far a job has come, in the write that stores what it came by."""
    tx.execute(
        """INSERT INTO schedules (game_id, name, asked, cursor) VALUES (:game_id, :name, 0, :cursor)
           ON CONFLICT (game_id, name) DO UPDATE SET cursor = excluded.cursor""",
        {"game_id": game_id, "name": name, "cursor": text},
    )


def warn(tx: Connection, game_id: int, name: str, warning: str | None) -> None:
    """What a job wants the owner to know though it did not fail; None: nothing any more."""
    tx.execute(
        """INSERT INTO schedules (game_id, name, asked, warning) VALUES (:game_id, :name, 0, :warning)
           ON CONFLICT (game_id, name) DO UPDATE SET warning = excluded.warning""",
        {"game_id": game_id, "name": name, "warning": warning},
    )


def warnings(connection: Connection, game_id: int) -> dict[str, str]:
    """What the jobs of a game want its owner to know, by their names."""
    rows = connection.execute(
        "SELECT name, warning FROM schedules WHERE game_id = :game_id AND warning IS NOT NULL ORDER BY name",
        {"game_id": game_id},
    )
    return {row["name"]: row["warning"] for row in rows}


def listing(connection: Connection, game_id: int | None = None) -> list[Row]:
    """The jobs of a game, or of all: when each last ran, when it runs next, and how it failed."""
    return connection.execute(
        """SELECT * FROM schedules WHERE CAST(:game_id AS INTEGER) IS NULL OR game_id = :game_id
           ORDER BY game_id, name""",
        {"game_id": game_id},
    ).fetchall()


def next_due(connection: Connection, names: Collection[str]) -> str | None:
    """When the next of these jobs may be claimed, as a stamp; None when none is to run."""
    moments = [
        max(row["due_at"], row["leased_until"] or "")
        for row in connection.execute("SELECT name, due_at, leased_until FROM schedules WHERE due_at IS NOT NULL")
        if row["name"] in names
    ]
    return min(moments, default=None)


def claim_due(tx: Connection, owner: str, names: Collection[str], most: int) -> list[Due]:
    """Take up to ``most`` of these jobs that are due and that nobody has in hand, longest due first."""
    now = clock.now()
    rows = tx.execute(
        """SELECT s.game_id, g.slug, s.name, s.asked, s.failures FROM schedules s JOIN games g ON g.id = s.game_id
           WHERE s.due_at <= :now AND (s.leased_until IS NULL OR s.leased_until <= :now) ORDER BY s.due_at""",
        {"now": clock.stamp(now)},
    ).fetchall()
    until = clock.stamp(now + LEASE_SECONDS)
    claims = [
        Due(row["game_id"], row["slug"], row["name"], owner, until, row["asked"], row["failures"])
        for row in rows
        if row["name"] in names
    ][:most]
    for due in claims:
        tx.execute(
            """UPDATE schedules SET due_at = :until, leased_until = :until, lease_owner = :owner
               WHERE game_id = :game_id AND name = :name""",
            {"game_id": due.game_id, "name": due.name, "owner": owner, "until": until},
        )
    return claims


def take(tx: Connection, owner: str, game_id: int, name: str) -> Due | None:
    """Claim one job for somebody who does it by hand, due or not; None while another has it in hand."""
    now = clock.now()
    row = tx.execute(
        """INSERT INTO schedules (game_id, name, due_at, asked, leased_until, lease_owner)
           VALUES (:game_id, :name, NULL, 0, :until, :owner)
           ON CONFLICT (game_id, name) DO UPDATE
               SET due_at = CASE WHEN schedules.due_at IS NOT NULL THEN :until END,
                   leased_until = excluded.leased_until, lease_owner = excluded.lease_owner
               WHERE schedules.leased_until IS NULL OR schedules.leased_until <= :now
                  OR schedules.leased_until > :longest
           RETURNING asked, failures, (SELECT slug FROM games WHERE id = :game_id) AS slug""",
        {
            "game_id": game_id,
            "name": name,
            "owner": owner,
            "now": clock.stamp(now),
            "until": clock.stamp(now + LEASE_SECONDS),
            "longest": clock.stamp(now + LONGEST_LEASE_SECONDS),
        },
    ).fetchone()
    if row is None:
        return None
    return Due(game_id, row["slug"], name, owner, clock.stamp(now + LEASE_SECONDS), row["asked"], row["failures"])


def give_back(tx: Connection, due: Due) -> None:
    """End a claim with nothing done: the job is due again at once."""
    tx.execute(
        """UPDATE schedules SET due_at = :now, leased_until = NULL, lease_owner = NULL
           WHERE game_id = :game_id AND name = :name AND lease_owner = :owner AND leased_until = :leased_until""",
        {
            "game_id": due.game_id,
            "name": due.name,
            "owner": due.owner,
            "leased_until": due.leased_until,
            "now": clock.stamp(),
        },
    )


def finished(
    tx: Connection,
    due: Due,
    again_in_seconds: float | None,
    error: JobError | str | None = None,
) -> None:
    """End a claim. After success the job runs again when it wants or was asked to; after an ``error`` it pauses.

    Changes nothing when the lease has run out and somebody else has the job in hand.
    """
    now = clock.now()
    failures = 0
    trouble = JobError(error) if isinstance(error, str) else error
    if trouble is not None:
        failures = 1 if trouble.is_anew else due.failures + 1
        again_in_seconds = max(trouble.pauses[min(failures, len(trouble.pauses)) - 1], trouble.at_least)
    tx.execute(
        """UPDATE schedules SET leased_until = NULL, lease_owner = NULL, failures = :failures, last_error = :error,
               last_ran_at = :now,
               due_at = CASE WHEN CAST(:error AS TEXT) IS NULL AND asked <> :asked
                                  AND (CAST(:due_at AS TEXT) IS NULL OR due_at < :due_at)
                             THEN due_at ELSE :due_at END
           WHERE game_id = :game_id AND name = :name AND lease_owner = :owner AND leased_until = :leased_until""",
        {
            "game_id": due.game_id,
            "name": due.name,
            "owner": due.owner,
            "leased_until": due.leased_until,
            "asked": due.asked,
            "failures": failures,
            "error": None if trouble is None else in_a_line(str(trouble)),
            "now": clock.stamp(now),
            "due_at": None if again_in_seconds is None else clock.stamp(now + again_in_seconds),
        },
    )


def in_a_line(error: str) -> str:
    """An error as it is logged and stored: the beginning, and nothing that a row or a log could not hold."""
    kept = "".join(character if character.isprintable() else " " for character in error)
    return " ".join(kept.split())[:LONGEST_ERROR]
