"""Messages on their way to the targets: at least once, in order for each target, tried again for a day.

An attempt begins with the time of the one after it in the row: whoever dies, the message is due again then. The number
of the attempt is the proof of who may record its result.
"""

from dataclasses import dataclass

from coinslot.base import clock
from coinslot.store import queries
from coinslot.store.db import Connection, Row

# After the first attempt, the second, ...; then always the last. Each is longer than an attempt can take.
PAUSES_SECONDS = (90.0, 120.0, 300.0, 900.0, 1800.0, 3600.0)
TRIED_SECONDS = clock.DAY_SECONDS  # after that a message that failed is given up
KEPT_SECONDS = 30 * clock.DAY_SECONDS


@dataclass(frozen=True)
class Attempt:
    """A message that one process may now try to send."""

    message_id: int
    target: str
    number: int


def enqueue(tx: Connection, target: str, subject: str, body: str) -> None:
    """Add a message for a target, due now; and delete messages that ended long ago."""
    now = clock.now()
    tx.execute("DELETE FROM alert_messages WHERE ended_at < :before", {"before": clock.stamp(now - KEPT_SECONDS)})
    stamp = clock.stamp(now)
    row = {"target": target, "subject": subject, "body": body, "state": "waiting"}
    queries.insert(tx, "alert_messages", row | {"next_attempt_at": stamp, "created_at": stamp})


def is_due(connection: Connection) -> bool:
    """Whether a message may be sent now."""
    return bool(_due(connection, 1))


def claim(tx: Connection, most: int) -> list[Attempt]:
    """Begin up to ``most`` attempts, of targets that do not fail first. Gives up what has failed for a day."""
    now = clock.now()
    tx.execute(
        """UPDATE alert_messages SET state = 'given_up', ended_at = :now
           WHERE state = 'waiting' AND attempts > 0 AND created_at <= :too_old AND next_attempt_at <= :now""",
        {"now": clock.stamp(now), "too_old": clock.stamp(now - TRIED_SECONDS)},
    )
    begun = []
    for row in _due(tx, most):
        number = row["attempts"] + 1
        pause = PAUSES_SECONDS[min(number, len(PAUSES_SECONDS)) - 1]
        tx.execute(
            "UPDATE alert_messages SET attempts = :number, next_attempt_at = :next WHERE id = :id",
            {"id": row["id"], "number": number, "next": clock.stamp(now + pause)},
        )
        begun.append(Attempt(row["id"], row["target"], number))
    return begun


def find(connection: Connection, attempt: Attempt) -> Row | None:
    """The message of an attempt; None when another one has begun since, or the message is there no more."""
    return queries.row(connection, f"SELECT * FROM alert_messages WHERE {_OWN}", vars(attempt))  # noqa: S608


def record(tx: Connection, attempt: Attempt, failure: str | None) -> None:
    """Note how an attempt ended, of the message and of its target; ``failure`` is in our words, None if it arrived.

    Changes nothing when another attempt has begun since, or the message is there no more.
    """
    if failure is None:
        ended = tx.execute(
            f"UPDATE alert_messages SET state = 'sent', ended_at = :now WHERE {_OWN}",  # noqa: S608
            vars(attempt) | {"now": clock.stamp()},
        ).rowcount
        if ended:
            note(tx, attempt.target, None)
    elif find(tx, attempt) is not None:
        note(tx, attempt.target, failure)


def note(tx: Connection, target: str, failure: str | None) -> None:
    """Note that something arrived at a target, which makes what waits for it due, or how it failed."""
    values = {"target": target, "now": clock.stamp(), "failure": failure}
    if failure is not None:
        tx.execute(
            """UPDATE alert_targets SET failures = failures + 1, last_failure = :failure, last_failed_at = :now
               WHERE name = :target""",
            values,
        )
        return
    tx.execute("UPDATE alert_targets SET failures = 0, last_sent_at = :now WHERE name = :target", values)
    tx.execute(
        """UPDATE alert_messages SET next_attempt_at = :now
           WHERE target = :target AND state = 'waiting' AND next_attempt_at > :now""",
        values,
    )


_OWN = "id = :message_id AND target = :target AND attempts = :number AND state = 'waiting'"


def _due(connection: Connection, most: int) -> list[Row]:
    """The oldest waiting message of each target, where that is due. A time ahead of any pause counts as due."""
    now = clock.now()
    return connection.execute(
        """SELECT m.id, m.target, m.attempts FROM alert_messages m JOIN alert_targets t ON t.name = m.target
           WHERE m.state = 'waiting' AND (m.next_attempt_at <= :now OR m.next_attempt_at > :far)
             AND NOT EXISTS (SELECT 1 FROM alert_messages e
                             WHERE e.target = m.target AND e.state = 'waiting' AND e.id < m.id)
           ORDER BY t.failures, m.id LIMIT :most""",
        {"now": clock.stamp(now), "far": clock.stamp(now + PAUSES_SECONDS[-1] + 60), "most": most},
    ).fetchall()
