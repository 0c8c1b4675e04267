"""Jobs: work that is due at a time. One row per game and job, claimed by a lease like a delivery.

A job of the installation as a whole has the game id :data:`INSTALLATION` and an empty slug.

Who wants a job to run says when (:func:`at`); any relay that finds it due runs it. A job that fails is tried again
after a growing pause, which asking does not shorten, and its row says why. When a process dies, the job is due again
once its lease ends. So a job must be safe to begin again, and must end well before its lease does: one with more to do
returns 0 and continues in its next run.

A :class:`Standing` job needs nobody to ask: it runs once a relay sees the game, and after each change of the game's
configuration, which ends a pause too.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.store.db import Connection, Row
from coinslot.store.queries import value

INSTALLATION = 0  # game id of the jobs that concern no one game
LEASE_SECONDS = 120.0
LONGEST_LEASE_SECONDS = LEASE_SECONDS + 60  # a longer one was made by a clock that ran ahead
PAUSES_SECONDS = (10, 60, 300, 1800)  # after the first failure, the second, ...; then always the last
LONGEST_PAUSE_SECONDS = 3600.0  # that another server may ask for
LONGEST_ERROR = 500


class JobError(CoinslotError):
    """A job could not be done this time. The owner reads the message in the log and in the row.

    ``pauses`` are the job's own in place of :data:`PAUSES_SECONDS`; ``at_least`` is the pause the other server asked
    for: at most :data:`LONGEST_PAUSE_SECONDS` of it is kept, and the message says so. ``is_anew``: the job made
    progress before it failed, so its pauses begin again.
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
    """Run a job ``seconds`` from now; one that is to run earlier, or pauses after a failure, keeps its time."""
    _ask(
        *(tx, game_id, name, seconds),
        """due_at = CASE WHEN schedules.due_at IS NULL THEN excluded.due_at
                         WHEN schedules.failures > 0 AND schedules.lease_owner IS NULL THEN schedules.due_at
                         WHEN schedules.due_at > excluded.due_at THEN excluded.due_at
                         ELSE schedules.due_at END""",
    )


def begin(tx: Connection, game_id: int, name: str) -> None:
    """Run a job now unless it has a time already, after a pause or not."""
    _ask(tx, game_id, name, 0, "due_at = excluded.due_at WHERE schedules.due_at IS NULL")


def wake(tx: Connection, game_id: int, name: str) -> None:
    """Run a job now, even if it pauses; once more if it is running: what it depends on has changed."""
    _ask(tx, game_id, name, 0, "due_at = excluded.due_at")


def _ask(tx: Connection, game_id: int, name: str, seconds: float, change: str) -> None:
    tx.execute(
        f"""INSERT INTO schedules (game_id, name, due_at, asked) VALUES (:game_id, :name, :due_at, 1)
           ON CONFLICT (game_id, name) DO UPDATE SET asked = schedules.asked + 1, {change}""",  # noqa: S608  our own
        {"game_id": game_id, "name": name, "due_at": clock.stamp(clock.now() + seconds)},
    )


def last_errors(connection: Connection, game_id: int) -> dict[str, str]:
    """Job -> why its last run failed, for the jobs of a game that failed."""
    rows = connection.execute(
        "SELECT name, last_error FROM schedules WHERE game_id = :game_id AND failures > 0 AND last_error IS NOT NULL",
        {"game_id": game_id},
    )
    return {row["name"]: row["last_error"] for row in rows}


def cursor(connection: Connection, game_id: int, name: str) -> str | None:
    """How far a job has come, in its own words; None when it has not begun."""
    query = "SELECT cursor FROM schedules WHERE game_id = :game_id AND name = :name"
    found: str | None = value(connection, query, {"game_id": game_id, "name": name})
    return found


def put_cursor(tx: Connection, game_id: int, name: str, text: str | None) -> None:
    """Note how far a job has come, in the write that stores what it has found."""
    _note(tx, game_id, name, "cursor", text)


def warn(tx: Connection, game_id: int, name: str, warning: str | None) -> None:
    """Tell the owner something though the job did not fail; None ends the warning."""
    _note(tx, game_id, name, "warning", warning)


def _note(tx: Connection, game_id: int, name: str, column: str, text: str | None) -> None:
    tx.execute(
        f"""INSERT INTO schedules (game_id, name, asked, {column}) VALUES (:game_id, :name, 0, :text)
           ON CONFLICT (game_id, name) DO UPDATE SET {column} = excluded.{column}""",  # noqa: S608  our own words only
        {"game_id": game_id, "name": name, "text": text},
    )


def warnings(connection: Connection, game_id: int) -> dict[str, str]:
    """Job -> its warning, for the jobs of a game that have one."""
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
    """Claim up to ``most`` of these jobs that are due and that no relay has in hand, longest due first."""
    now = clock.now()
    rows = tx.execute(
        """SELECT s.game_id, coalesce(g.slug, '') AS slug, s.name, s.asked, s.failures
           FROM schedules s LEFT JOIN games g ON g.id = s.game_id
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
            """UPDATE schedules SET due_at = :leased_until, leased_until = :leased_until, lease_owner = :owner
               WHERE game_id = :game_id AND name = :name""",
            vars(due),
        )
    return claims


def take(tx: Connection, owner: str, game_id: int, name: str) -> Due | None:
    """Claim one job to do it by hand, due or not; None while another process has it in hand."""
    now = clock.now()
    until = clock.stamp(now + LEASE_SECONDS)
    row = tx.execute(
        """INSERT INTO schedules (game_id, name, due_at, asked, leased_until, lease_owner)
           VALUES (:game_id, :name, NULL, 0, :until, :owner)
           ON CONFLICT (game_id, name) DO UPDATE
               SET due_at = CASE WHEN schedules.due_at IS NOT NULL THEN :until END,
                   leased_until = excluded.leased_until, lease_owner = excluded.lease_owner
               WHERE schedules.leased_until IS NULL OR schedules.leased_until <= :now
                  OR schedules.leased_until > :longest
           RETURNING asked, failures, coalesce((SELECT slug FROM games WHERE id = :game_id), '') AS slug""",
        {
            "game_id": game_id,
            "name": name,
            "owner": owner,
            "now": clock.stamp(now),
            "until": until,
            "longest": clock.stamp(now + LONGEST_LEASE_SECONDS),
        },
    ).fetchone()
    return None if row is None else Due(game_id, row["slug"], name, owner, until, row["asked"], row["failures"])


def give_back(tx: Connection, due: Due) -> None:
    """End a claim with nothing done: the job is due again at once."""
    tx.execute(
        f"UPDATE schedules SET due_at = :now, leased_until = NULL, lease_owner = NULL WHERE {_CLAIMED}",  # noqa: S608
        vars(due) | {"now": clock.stamp()},
    )


def finished(tx: Connection, due: Due, again_in_seconds: float | None, error: JobError | str | None = None) -> None:
    """End a claim. After success the job runs again when it wants or was asked to; after an ``error`` it pauses.

    Changes nothing when the lease has run out and another relay has the job in hand.
    """
    now = clock.now()
    failures = 0
    failure = JobError(error) if isinstance(error, str) else error
    if failure is not None:
        failures = 1 if failure.is_anew else due.failures + 1
        again_in_seconds = max(failure.pauses[min(failures, len(failure.pauses)) - 1], failure.at_least)
    tx.execute(
        f"""UPDATE schedules SET leased_until = NULL, lease_owner = NULL, failures = :failures, last_error = :error,
               last_ran_at = :now,
               due_at = CASE WHEN CAST(:error AS TEXT) IS NULL AND asked <> :asked
                                  AND (CAST(:due_at AS TEXT) IS NULL OR due_at < :due_at)
                             THEN due_at ELSE :due_at END
           WHERE {_CLAIMED}""",  # noqa: S608  our own words only
        vars(due)
        | {
            "failures": failures,
            "error": None if failure is None else in_a_line(str(failure)),
            "now": clock.stamp(now),
            "due_at": None if again_in_seconds is None else clock.stamp(now + again_in_seconds),
        },
    )


_CLAIMED = "game_id = :game_id AND name = :name AND lease_owner = :owner AND leased_until = :leased_until"


def in_a_line(error: str) -> str:
    """The beginning of an error, as one line of printable characters that a log and a row can hold."""
    kept = "".join(character if character.isprintable() else " " for character in error)
    return " ".join(kept.split())[:LONGEST_ERROR]
