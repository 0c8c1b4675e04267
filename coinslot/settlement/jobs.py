"""Months in the background: closed some days after their end, and reconciled step by step.

The relay, a command and a page may carry on the same run, even at once: each step takes effect once.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from coinslot.games.games import Game
from coinslot.relay import jobs
from coinslot.settlement import closing, months, partner_rows, reconciling, report_files, runs, sorting, states
from coinslot.settlement.columns import Layout
from coinslot.settlement.report_files import Reading
from coinslot.settlement.runs import FILE, RECONCILE_JOB, ReconciliationError, Run
from coinslot.settlement.terms import InGame
from coinslot.store.db import Database

CLOSE_JOB = "settlement.close"
OPEN_MONTHS_JOB = "settlement.so_far"

SLICE_SECONDS = 45.0  # of work in one run of the job, so that it ends well before its lease
LONGEST_WAIT_SECONDS = 6 * 3600.0


@dataclass(frozen=True)
class Reader:
    """How to read a partner's own figures: ``read(run, deadline)`` stores some more rows, until a deadline in
    monotonic seconds, and returns whether there are more; it raises JobError. ``are_movements``: each of its rows is
    one movement of money.
    """

    read: Callable[[Run, float], bool]
    are_movements: bool


def close_due(database: Database, game: Game, in_game: InGame) -> float | None:
    """Close the oldest month that is due, if the owner set that; one in each run. Returns seconds to the next run."""
    days = game.settings["settlement.close_after_days"]
    if not days:
        return None
    month, again_in_seconds = months.due_to_close(database.read(), game, int(days))
    if month is None:
        return min(max(again_in_seconds, 1.0), LONGEST_WAIT_SECONDS)
    closing.close(database, game, in_game, month.name, "job", f"{days} days after its end")
    return 0.0


def reconcile_open(database: Database, game: Game, readers: Mapping[str, Reader]) -> float | None:
    """Carry on unfinished runs for a while, and delete what was replaced. Raises JobError."""
    deadline = time.monotonic() + SLICE_SECONDS
    for run in runs.current_runs(database.read(), game.id):
        reader = readers.get(run.partner)
        if run.is_done or reader is None or (run.source == FILE and run.state == "reading"):
            continue  # a file can be read on only where it is
        if carry_on(database, run.id, reader, deadline):
            return 0.0
    while database.write(lambda tx: runs.delete_replaced(tx, game.id)):
        if time.monotonic() >= deadline:
            return 0.0
    return None


def look_through(path: Path, layout: Layout) -> Reading:
    """How to read a report. Raises ReconciliationError for one that cannot be read: then no run is begun for it."""
    with report_files.open_report(path) as file:
        return report_files.look_through(file, layout)


def take_file(
    database: Database,
    run_id: int,
    path: Path,
    layout: Layout,
    report_progress: Callable[[Run], None] = lambda run: None,
    reading: Reading | None = None,
) -> None:
    """Read a report into its run, from where that stopped. Raises ReconciliationError for an unreadable file."""
    run = _run(database, run_id)
    reading = reading or look_through(path, layout)
    with report_files.open_report(path) as file:
        count, odd, rows = sorting.in_order(report_files.read(file, layout, reading))
        at = int(run.cursor or 0)
        for _ in islice(rows, at):
            pass
        while run.state == "reading":
            taken = list(islice(rows, runs.ROWS_AT_ONCE))
            is_last = len(taken) < runs.ROWS_AT_ONCE
            unread = odd if at == 0 else 0  # counted with the first rows
            at += len(taken)
            partner_rows.add_rows(
                *(database, run, taken, str(at)),
                odd=unread,
                expected=count + odd,
                is_last=is_last,
                notes=reading.notes,
            )
            run = _run(database, run_id)
            report_progress(run)
            if not is_last and run.state == "reading" and int(run.cursor or 0) != at:
                return  # another process reads the same file
    database.write(lambda tx: jobs.wake(tx, run.game_id, RECONCILE_JOB))


def carry_on(
    database: Database,
    run_id: int,
    reader: Reader,
    deadline: float,
    report_progress: Callable[[Run], None] = lambda run: None,
) -> bool:
    """Read, compare and search until the deadline; returns whether there is more to do. Raises JobError."""
    run = _run(database, run_id)
    while not run.is_done:
        if run.state == "replaced":
            return False
        if run.state == "reading":
            reader.read(run, min(deadline, time.monotonic() + 1.0))
        else:
            reconciling.step(database, run, are_movements=reader.are_movements)
        run = _run(database, run_id)
        report_progress(run)
        if not run.is_done and time.monotonic() >= deadline:
            return True
    database.write(lambda tx: states.note_outcome(tx, run))
    return False


def _run(database: Database, run_id: int) -> Run:
    run = runs.run_by_id(database.read(), run_id)
    if run is None:
        raise ReconciliationError("this reconciliation was replaced by another one")
    return run
