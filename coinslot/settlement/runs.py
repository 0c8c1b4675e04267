"""Reconciliation runs: a closed month compared with one partner's figures, and how far each run is.

A run is a row of ``reconciliations``. Its states: ``reading`` (the partner's rows come in, by ``partner_rows.py``),
``comparing`` (their rows, by id, with ours), ``searching`` (ours that they do not have), ``done``. Each step handles
some thousand rows and commits them together with how far it came; a step that is done twice, or by two processes at
once, takes effect once. So a run goes on where it stopped, in any process, and holds only one step in memory. A run
that a newer one supersedes is ``replaced``, and deleted later.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from coinslot.base import clock, money
from coinslot.games.games import Game, GameError
from coinslot.relay import jobs
from coinslot.settlement import months
from coinslot.settlement.differences import MISSING_HERE, RESULTS
from coinslot.settlement.periods import Month
from coinslot.store import audit
from coinslot.store.db import Connection, Database, Row

RECONCILE_JOB = "settlement.reconcile"
FILE, API = "file", "api"
ROWS_AT_ONCE = 5000  # in one step: a few tens of milliseconds of writing


class ReconciliationError(GameError):
    """What was asked of a reconciliation cannot be done."""


@dataclass(frozen=True)
class Summed:
    """How many purchases differ in one way, and the amount at stake in one currency; None if no amount is known."""

    result: str
    currency: str | None
    count: int
    stake_minor: Decimal | None


@dataclass(frozen=True)
class Run:
    """A row of ``reconciliations``."""

    id: int
    game_id: int
    month: Month
    partner: str
    is_of_payments: bool
    source: str
    state: str
    cursor: str
    rows_expected: int | None
    rows_read: int
    rows_odd: int
    rows_compared: int
    matched: int
    started_at: str
    finished_at: str | None
    held_at: str
    first_paid_at: str | None
    last_paid_at: str | None
    notes: tuple[str, ...]
    summary: tuple[Summed, ...]

    @property
    def is_done(self) -> bool:
        """Whether everything is known, the summary too: that is a step of its own."""
        return self.finished_at is not None

    @property
    def agrees(self) -> bool:
        """Whether every row could be read and nothing differs; of a run that is done."""
        return not self.summary and not self.rows_odd

    @property
    def progress(self) -> float:
        """How much of it is done, from 0 to 1: a guess that only grows."""
        if self.state == "reading":
            return 0.6 * min(1.0, self.rows_read / self.rows_expected) if self.rows_expected else 0.0
        if self.state == "comparing":
            return 0.6 + 0.2 * (self.rows_compared / self.rows_read if self.rows_read else 1.0)
        if self.state == "searching":
            begins, ends = clock.seconds(self.month.starts_at), clock.seconds(self.month.ends_at)
            at = clock.seconds(json.loads(self.cursor)[0]) if self.cursor else begins
            return 0.8 + 0.2 * min(1.0, max(0.0, (at - begins) / (ends - begins)))
        return 1.0


def run_by_id(connection: Connection, run_id: int) -> Run | None:
    """A run; None once it is deleted."""
    row = connection.execute("SELECT * FROM reconciliations WHERE id = :id", {"id": run_id}).fetchone()
    return None if row is None else _run_of(row)


def current_runs(connection: Connection, game_id: int, month: str | None = None) -> list[Run]:
    """The run of each partner that is not replaced, of one month or of all; the newest month first."""
    rows = connection.execute(
        """SELECT * FROM reconciliations
           WHERE game_id = :game_id AND state <> 'replaced' AND (CAST(:month AS TEXT) IS NULL OR month = :month)
           ORDER BY month DESC, partner""",
        {"game_id": game_id, "month": month},
    )
    return [_run_of(row) for row in rows]


def find_differences(
    connection: Connection,
    run_id: int,
    *,
    result: str | None = None,
    reference: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Row]:
    """The differences of a run with ids above ``after``, by id; of one result, or of one purchase, or all.

    Each has the columns of ``differences``; amounts are exact text in minor units of their currencies.
    """
    if reference is not None:
        query = f"{_OF_RUN} AND reference = :reference AND (CAST(:result AS TEXT) IS NULL OR result = :result)"
    else:
        query = _OF_ANY_RESULT if result is None else f"{_OF_ONE_RESULT} ORDER BY id LIMIT :limit"
    values = {"id": run_id, "reference": reference, "result": result, "after": after, "limit": limit}
    return connection.execute(query, values).fetchall()


_OF_RUN = "SELECT * FROM differences WHERE reconciliation_id = :id AND id > :after"
_OF_ONE_RESULT = f"{_OF_RUN} AND result = :result"
# Each part comes out of the index sorted by id, and the parts are merged: no more rows are read than are wanted.
_OF_ANY_RESULT = (
    " UNION ALL ".join(_OF_ONE_RESULT.replace(":result", f"'{result}'") for result in RESULTS)
    + " ORDER BY id LIMIT :limit"
)


def charged_but_not_granted(runs: Iterable[Run]) -> list[Summed]:
    """What partners charged and nothing was granted for here, per currency, of runs that are done.

    In-game payments do not count: the game itself grants those.
    """
    sums: dict[str | None, tuple[int, Decimal]] = {}
    with money.exactly():
        for each in (each for run in runs if not run.is_of_payments for each in run.summary):
            if each.result == MISSING_HERE:
                count, stake = sums.get(each.currency, (0, Decimal(0)))
                sums[each.currency] = (count + each.count, stake + (each.stake_minor or 0))
    return [Summed(MISSING_HERE, currency, *sums[currency]) for currency in sorted(sums, key=str)]


def begin(
    database: Database,
    game: Game,
    name: str,
    partner: str,
    actor: str,
    fingerprint: str | None = None,
    *,
    is_of_payments: bool,
    is_background: bool = True,
) -> int:
    """Begin a run for a closed month that replaces the partner's last, or go on with an unfinished one; returns its id.

    ``fingerprint`` distinguishes one file, and how it is read, from another; None: the partner's API is asked.
    ``is_of_payments``: the partner's months are those of in-game payments. In the background the relay carries it on.
    Raises SettlementError for an open month.
    """
    month = months.closed_month(database.read(), game.id, name).month
    wanted = {
        **vars(month),
        "game_id": game.id,
        "partner": partner,
        "is_of_payments": int(is_of_payments),
        "source": API if fingerprint is None else FILE,
        "fingerprint": fingerprint or "",
    }

    def start(tx: Connection) -> int:
        if is_background:
            jobs.wake(tx, game.id, RECONCILE_JOB)
        now = held_at = clock.stamp()
        known = tx.execute(
            """SELECT id, source, fingerprint, state, held_at FROM reconciliations
               WHERE game_id = :game_id AND month = :name AND partner = :partner AND state <> 'replaced'""",
            wanted,
        ).fetchone()
        if known is not None:
            if (known["source"], known["fingerprint"]) == (wanted["source"], wanted["fingerprint"]):
                if known["state"] != "done":
                    return int(known["id"])
                held_at = known["held_at"]
            tx.execute("UPDATE reconciliations SET state = 'replaced' WHERE id = :id", {"id": known["id"]})
        row = tx.execute(
            """INSERT INTO reconciliations (game_id, month, partner, is_of_payments, source, fingerprint, starts_at,
                                            ends_at, state, started_at, held_at)
               VALUES (:game_id, :name, :partner, :is_of_payments, :source, :fingerprint, :starts_at, :ends_at,
                       'reading', :now, :held_at)
               RETURNING id""",
            {**wanted, "now": now, "held_at": held_at},
        ).fetchone()
        audit.record(tx, game.id, actor, "settlement.reconcile", f"{name} {partner} by {wanted['source']}")
        return int(row["id"])

    return database.write(start)


def replace_all(tx: Connection, game_id: int, month: str) -> None:
    """Replace every run of a month: once it is closed again its figures are others."""
    tx.execute(
        """UPDATE reconciliations SET state = 'replaced'
           WHERE game_id = :game_id AND month = :month AND state <> 'replaced'""",
        {"game_id": game_id, "month": month},
    )


def delete_replaced(tx: Connection, game_id: int) -> bool:
    """Delete some rows of replaced runs; returns whether there may be more."""
    row = tx.execute(
        "SELECT id FROM reconciliations WHERE game_id = :game_id AND state = 'replaced' ORDER BY id LIMIT 1",
        {"game_id": game_id},
    ).fetchone()
    if row is None:
        return False
    values = {"id": row["id"], "limit": ROWS_AT_ONCE}
    left = tx.execute(
        """DELETE FROM partner_rows WHERE (reconciliation_id, reference, row_id) IN
               (SELECT reconciliation_id, reference, row_id FROM partner_rows
                WHERE reconciliation_id = :id LIMIT :limit)""",
        values,
    ).rowcount
    left += tx.execute(
        """DELETE FROM differences WHERE id IN
               (SELECT id FROM differences WHERE reconciliation_id = :id LIMIT :limit)""",
        values,
    ).rowcount
    if not left:
        tx.execute("DELETE FROM reconciliations WHERE id = :id", values)
    return True


def _run_of(row: Row) -> Run:
    values: dict[str, Any] = {name: row[name] for name in _SAME_IN_RUN}
    return Run(
        **values,
        month=Month(row["month"], row["starts_at"], row["ends_at"]),
        is_of_payments=bool(row["is_of_payments"]),
        notes=tuple(json.loads(row["notes"] or "[]")),
        summary=tuple(
            Summed(result, currency, count, None if stake is None else Decimal(stake))
            for result, currency, count, stake in json.loads(row["summary"] or "[]")
        ),
    )


_SAME_IN_RUN = {each.name for each in fields(Run)} - {"month", "is_of_payments", "notes", "summary"}
