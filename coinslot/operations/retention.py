"""Retention: for how long a game keeps what it does not need for ever, and the job that deletes what is older.

What proves money is never deleted: transactions, their keys, grants and entries, refunds, conflicts, payments, closed
months and their differences. Each kind below has a setting that says what is lost with it
(coinslot/games/retention.py).

The job looks for a few rows, deletes them in short writes, and rests much longer than it wrote, so that
credits do not wait for it. How far it has come is the job's cursor; what is deleted twice is deleted once, so a process
may die at any point. The hash chain stays whole: it covers the body's SHA-256 and not the body.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.games.retention import FOREVER
from coinslot.operations import uploads
from coinslot.outbox import deliveries
from coinslot.relay import jobs
from coinslot.store import portions
from coinslot.store.db import Connection, Database

JOB = "retention"
RUN_SECONDS = 5.0  # of one run: a relay that is asked to stop waits for it
AGAIN_SECONDS = 600.0
ROWS_AT_ONCE = 200  # that are looked for
WRITE_SECONDS = 0.001  # of one write, beside its commit: some fifty rows
REST = 19.0  # so many times as long as a write took with its commit, nothing is written
PAUSE_SECONDS = 0.01  # between looks, for the threads that answer calls
LOGIN = "player.login"
ROWS_OF_REPORT = 100  # deleted at a time


class Found(NamedTuple):
    """``ids`` of what may be deleted now; ``at``: where the next look begins, as JSON can hold it."""

    ids: Sequence[int]
    at: Any


@dataclass(frozen=True)
class Kind:
    """What one setting is about. ``find`` gets the game's id, a time and where to begin; ``delete`` an id, and returns
    how much was deleted. ``done`` says it in a sentence.
    """

    name: str
    setting: str
    done: str
    find: Callable[[Connection, int, str, Any], Found]
    delete: Callable[[Connection, int, str], int]


def run(database: Database, games: Sequence[Game]) -> float:
    """Delete for some seconds what these games need not keep; returns in how many the job wants to run again."""
    until = time.monotonic() + RUN_SECONDS
    uploads.forget_old(database)
    connection = database.read()
    state = _parsed(jobs.cursor(connection, jobs.INSTALLATION, JOB))
    for game in games:
        for kind in KINDS:
            days = game.settings[kind.setting]
            if days == FOREVER:
                continue
            before = clock.stamp(clock.now() - int(days) * clock.DAY_SECONDS)
            while _go_on(database, game.id, kind, before, state):
                if time.monotonic() >= until:
                    return 0.0
                time.sleep(PAUSE_SECONDS)
    return AGAIN_SECONDS


def _go_on(database: Database, game_id: int, kind: Kind, before: str, state: dict[str, Any]) -> bool:
    """Find and delete some rows of one kind; returns whether there may be more."""
    mine = state.setdefault(str(game_id), {}).setdefault(kind.name, {"at": None})
    found = kind.find(database.read(), game_id, before, mine["at"])
    if not found.ids and found.at == mine["at"]:
        return False
    deleted = sum(
        portions.write_each(
            database.write,
            found.ids,
            lambda tx, each: kind.delete(tx, each, before),
            longest=WRITE_SECONDS,
            rest=REST,
        )
    )
    today = clock.stamp()[:10]
    mine["at"] = found.at
    if deleted:
        mine |= {"count": deleted + (mine.get("count", 0) if mine.get("day") == today else 0), "day": today}
    database.write(lambda tx: jobs.put_cursor(tx, jobs.INSTALLATION, JOB, json.dumps(state)))
    return True


def said(cursor: str | None, game_id: int) -> list[str]:
    """What was deleted of a game on the last day on which anything of a kind was; ``cursor`` is the job's."""
    mine = _parsed(cursor).get(str(game_id), {})
    done = [(kind, mine[kind.name]) for kind in KINDS if "day" in mine.get(kind.name, {})]
    return [f"{kind.done.format(count=format(last['count'], ','))} on {last['day']}" for kind, last in done]


def sentences(connection: Connection, games: Sequence[Game]) -> Iterator[str]:
    """What retention did last, a sentence per game."""
    cursor = jobs.cursor(connection, jobs.INSTALLATION, JOB)
    for game in games:
        done = said(cursor, game.id)
        yield f"game {game.slug}: retention: {', '.join(done) if done else 'nothing was old enough to delete yet'}"


def _parsed(cursor: str | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cursor or "{}")
    return found


# Finding ------------------------------------------------------------------------------------------------------------


def _in_order(query: str) -> Callable[[Connection, int, str, Any], Found]:
    """By a table's ids, which rise with time. The query's rows have ``id``, ``at`` and ``is_wanted``.

    A row that is younger than those after it, since the clock was ahead then, is passed over and stays.
    """

    def find(connection: Connection, game_id: int, before: str, at: Any) -> Found:
        after = at or 0
        ids = []
        for row in connection.execute(query, {"game_id": game_id, "after": after, "most": ROWS_AT_ONCE}):
            if row["at"] < before:
                after = row["id"]
                if row["is_wanted"]:
                    ids.append(after)
        return Found(ids, after)

    return find


def _find_deliveries(connection: Connection, game_id: int, before: str, at: Any) -> Found:
    return Found(deliveries.prunable(connection, game_id, before, ROWS_AT_ONCE), None)


def _find_refused(connection: Connection, game_id: int, before: str, at: Any) -> Found:
    rows = connection.execute(
        "SELECT id FROM refusals WHERE ended_at < :before AND game_id = :game_id LIMIT :most",
        {"game_id": game_id, "before": before, "most": ROWS_AT_ONCE},
    )
    return Found([row["id"] for row in rows], None)


# Nobody is owed anything any more, and nothing of the month is open.
_SETTLED = """SELECT id, starts_at, ends_at, known_at FROM settlements
              WHERE game_id = :game_id AND state IN ('payment_confirmed', 'creators_settled') AND ends_at < :before
              ORDER BY ends_at"""


def _find_bodies(connection: Connection, game_id: int, before: str, at: Any) -> Found:
    """Month by month. What came late for a month is left out: it counts in another one."""
    done = list(at["done"]) if at else []
    for month in connection.execute(_SETTLED, {"game_id": game_id, "before": before}).fetchall():
        if month["id"] in done:
            continue
        is_begun = at is not None and at.get("month") == month["id"]
        rows = connection.execute(
            """SELECT id, moment, received_at FROM transactions
               WHERE game_id = :game_id AND moment >= :at AND moment < :ends_at AND (moment > :at OR id > :last_id)
               ORDER BY moment, id LIMIT :most""",
            {
                "game_id": game_id,
                "ends_at": month["ends_at"],
                "at": at["moment"] if is_begun else month["starts_at"],
                "last_id": at["id"] if is_begun else 0,
                "most": ROWS_AT_ONCE,
            },
        ).fetchall()
        if rows:
            here = {"done": done, "month": month["id"], "moment": rows[-1]["moment"], "id": rows[-1]["id"]}
            return Found([row["id"] for row in rows if row["received_at"] <= month["known_at"]], here)
        done.append(month["id"])
    return Found([], {"done": done} if done else at)


def _find_reports(connection: Connection, game_id: int, before: str, at: Any) -> Found:
    """The id of one report, so often that a portion of its rows is deleted by each."""
    row = connection.execute(
        f"""SELECT n.id FROM ({_SETTLED}) s
            JOIN settlements m ON m.id = s.id
            JOIN reconciliations n ON n.game_id = :game_id AND n.month = m.month
            WHERE n.state = 'done' AND n.finished_at < :before
              AND EXISTS (SELECT 1 FROM partner_rows r WHERE r.reconciliation_id = n.id)
            ORDER BY n.id LIMIT 1""",  # noqa: S608  our own words only
        {"game_id": game_id, "before": before},
    ).fetchone()
    return Found([] if row is None else [row["id"]] * max(1, ROWS_AT_ONCE // ROWS_OF_REPORT), None)


# Deleting: each statement asks again whether it may, since the rows were found before the write --------------------


def _deletes(*statements: str) -> Callable[[Connection, int, str], int]:
    """How many rows the first of these statements changed."""

    def delete(tx: Connection, row_id: int, before: str) -> int:
        values = {"id": row_id, "before": before, "portion": ROWS_OF_REPORT}
        changed = [tx.execute(statement, values).rowcount for statement in statements]
        return changed[0]

    return delete


# Three kinds of bodies are kept: of orders that were refunded, disputed or reported with other content; where the body
# alone may tell the amount; and of calls without a signature, which would look like those of forgotten players.
_EMPTY_BODY = """
    UPDATE transactions SET raw_body = NULL
    WHERE id = :id AND raw_body IS NOT NULL AND signature IS NOT NULL
      AND NOT (kind = 'purchase' AND (gross_minor IS NULL OR currency IS NULL))
      AND NOT EXISTS (SELECT 1 FROM refunds r WHERE r.transaction_id = transactions.id)
      AND NOT EXISTS (SELECT 1 FROM refund_requests q WHERE q.transaction_id = transactions.id)
      AND NOT EXISTS (SELECT 1 FROM conflicts c WHERE c.transaction_id = transactions.id)"""
_EMPTY_EVENT = """
    UPDATE events SET raw_body = NULL
    WHERE id = :id AND raw_body IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM refunds r WHERE r.event_id = events.id)
      AND NOT EXISTS (SELECT 1 FROM conversions c WHERE c.event_id = events.id AND c.state <> 'converted')"""
_EMPTY_CONVERTED = """
    UPDATE conversions SET body = NULL
    WHERE event_id = :id AND state = 'converted' AND body IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = conversions.event_id)"""
_DELETE_LOGIN = """
    DELETE FROM events
    WHERE id = :id AND type = 'player.login'
      AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = events.id)
      AND NOT EXISTS (SELECT 1 FROM conversions c WHERE c.event_id = events.id)
      AND NOT EXISTS (SELECT 1 FROM refunds r WHERE r.event_id = events.id)"""
_DELETE_REPORT_ROWS = """
    DELETE FROM partner_rows WHERE (reconciliation_id, reference, row_id) IN
        (SELECT reconciliation_id, reference, row_id FROM partner_rows WHERE reconciliation_id = :id LIMIT :portion)"""


KINDS = (
    Kind(
        "deliveries",
        "retention.deliveries_days",
        "{count} delivered deliveries deleted",
        _find_deliveries,
        deliveries.prune,
    ),
    Kind(
        "refused",
        "retention.refused_days",
        "{count} closed refused calls deleted",
        _find_refused,
        _deletes("DELETE FROM refusals WHERE id = :id AND ended_at < :before"),
    ),
    Kind("bodies", "retention.bodies_days", "bodies of {count} orders deleted", _find_bodies, _deletes(_EMPTY_BODY)),
    Kind(
        "event_bodies",
        "retention.event_bodies_days",
        "bodies of {count} events deleted",
        _in_order(
            """SELECT id, received_at AS at, raw_body IS NOT NULL AS is_wanted FROM events
               WHERE game_id = :game_id AND id > :after ORDER BY id LIMIT :most"""
        ),
        _deletes(_EMPTY_EVENT, _EMPTY_CONVERTED),
    ),
    Kind(
        "logins",
        "retention.logins_days",
        "{count} sign-ins deleted",
        _in_order(
            f"""SELECT id, received_at AS at, type = '{LOGIN}' AS is_wanted FROM events
                WHERE game_id = :game_id AND id > :after ORDER BY id LIMIT :most"""  # noqa: S608  our own words only
        ),
        _deletes(_DELETE_LOGIN),
    ),
    Kind(
        "reports",
        "retention.reports_days",
        "{count} rows of partners' reports deleted",
        _find_reports,
        _deletes(_DELETE_REPORT_ROWS),
    ),
    Kind(
        "changes",
        "retention.changes_days",
        "{count} entries of the log of changes deleted",
        _in_order(
            # A payment that moved to another month leaves only this: an open month must be able to find it.
            """SELECT id, created_at AS at, action <> 'payment.move' AS is_wanted FROM audit
               WHERE game_id = :game_id AND id > :after ORDER BY id LIMIT :most"""
        ),
        _deletes("DELETE FROM audit WHERE id = :id"),
    ),
)
