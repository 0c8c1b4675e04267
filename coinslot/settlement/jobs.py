"""Months in the background: closed some days after their end, and reconciled step by step.

A reconciliation may be carried on by the relay, by a command and by a page, at once too: each step is done once.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from coinslot.games.games import Game
from coinslot.relay import jobs
from coinslot.settlement import closing, comparing, months, outcomes, reconciliation, report_files, sorting
from coinslot.settlement.columns import Layout
from coinslot.settlement.figures import IN_TOTALS
from coinslot.settlement.months import CLOSED, RECONCILED
from coinslot.settlement.outcomes import ReconciliationError, Run
from coinslot.settlement.report_files import Seen
from coinslot.settlement.terms import InGame
from coinslot.store.db import Connection, Database

CLOSE_JOB = "settlement.close"
SO_FAR_JOB = "settlement.so_far"
RECONCILE_JOB = "settlement.reconcile"

SLICE_SECONDS = 45.0  # of work in one run of the job, so that it ends well before its lease
LONGEST_WAIT_SECONDS = 6 * 3600.0
FILE, API = "file", "api"


@dataclass(frozen=True)
class Reader:
    """How a partner's own figures are asked for: ``read(run, deadline)`` stores some more of them, until a deadline in
    monotonic seconds, and returns whether there is more; it raises JobError. ``are_movements``: each of its rows is one
    movement of money.
    """

    read: Callable[[Run, float], bool]
    are_movements: bool


def close_due(database: Database, game: Game, in_game: InGame) -> float | None:
    """Close the oldest month that is due, where the owner wants that; one in each run."""
    days = game.settings["settlement.close_after_days"]
    if not days:
        return None
    month, again_in_seconds = months.due_to_close(database.read(), game, int(days))
    if month is None:
        return min(max(again_in_seconds, 1.0), LONGEST_WAIT_SECONDS)
    closing.close(database, game, in_game, month.name, "job", f"{days} days after its end")
    return 0.0


def reconcile_open(database: Database, game: Game, readers: Mapping[str, Reader]) -> float | None:
    """Carry on what is not done, for a while, and clear away what was replaced. Raises JobError."""
    deadline = time.monotonic() + SLICE_SECONDS
    for run in outcomes.runs(database.read(), game.id):
        reader = readers.get(run.partner)
        if run.finished_at is not None or reader is None or (run.source == FILE and run.state == "reading"):
            continue  # of a file only whoever has it can read on
        if carry_on(database, run.id, reader, deadline):
            return 0.0
    while database.write(lambda tx: reconciliation.clear(tx, game.id)):
        if time.monotonic() >= deadline:
            return 0.0
    return None


def zone_notes(connection: Connection, game: Game, month: str | None = None) -> list[str]:
    """What a change of ``settlement.zone`` did to the months, in a sentence each; of one month, or of all."""
    return [
        f"The time zone of the months was changed from {each.zone_before} to {each.zone}: that holds from {each.month} "
        f"on. {each.month} begins {each.starts_at[:16].replace('T', ' ')} UTC, where the closed month before it ended, "
        "so that no purchase counts twice and none is left out."
        for each in months.zone_changes(connection, game)
        if month in (None, each.month)
    ]


def begin(
    database: Database,
    game: Game,
    name: str,
    partner: str,
    actor: str,
    file: tuple[Path, Layout] | None = None,
    *,
    is_of_payments: bool,
    is_background: bool = True,
) -> int:
    """Start a run for a closed month, or find the one that has not ended; by the partner's API where there is no file.

    ``is_of_payments``: the partner's months are those of in-game payments.
    In the background the relay carries it on; a file is read by :func:`take_file` first. Raises ReconciliationError.
    """
    found = months.standing(database.read(), game.id, name)
    if found is None:
        raise ReconciliationError(f"{name} is open: close it first")
    source = API if file is None else FILE
    fingerprint = "" if file is None else file[1].fingerprint(file[0])
    month = found.month

    def start(tx: Connection) -> int:
        run_id = reconciliation.start(
            tx, game.id, month, partner, source, fingerprint, actor, is_of_payments=is_of_payments
        )
        if is_background:
            jobs.wake(tx, game.id, RECONCILE_JOB)
        return run_id

    return database.write(start)


def look_through(path: Path, layout: Layout) -> Seen:
    """How a report is to be read. Raises ReconciliationError for one that cannot be: then no run is begun for it."""
    with report_files.opened(path) as file:
        return report_files.look_through(file, layout)


def take_file(
    database: Database,
    run_id: int,
    path: Path,
    layout: Layout,
    told: Callable[[Run], None] = lambda run: None,
    seen: Seen | None = None,
) -> None:
    """Read a report into its run, going on where that has stopped; ``told`` hears of every step.

    Raises ReconciliationError for a file that cannot be read.
    """
    run = _run(database, run_id)
    seen = seen or look_through(path, layout)
    with report_files.opened(path) as file:
        count, odd, rows = sorting.in_order(report_files.read(file, layout, seen))
        at = int(run.cursor or 0)
        for _ in islice(rows, at):
            pass
        while run.state == "reading":
            taken = list(islice(rows, reconciliation.ROWS_AT_ONCE))
            is_last = len(taken) < reconciliation.ROWS_AT_ONCE
            unread = odd if at == 0 else 0  # told with the first rows
            at += len(taken)
            reconciliation.add_rows(
                *(database, run, taken, str(at)),
                odd=unread,
                expected=count + odd,
                is_last=is_last,
                notes=seen.notes,
            )
            run = _run(database, run_id)
            told(run)
            if not is_last and run.state == "reading" and int(run.cursor or 0) != at:
                return  # somebody else reads the same file
    database.write(lambda tx: jobs.wake(tx, run.game_id, RECONCILE_JOB))


def carry_on(
    database: Database,
    run_id: int,
    reader: Reader,
    deadline: float,
    told: Callable[[Run], None] = lambda run: None,
) -> bool:
    """Read, compare and search on until the deadline; returns whether there is more to do. Raises JobError."""
    run = _run(database, run_id)
    while not run.is_done:
        if run.state == "replaced":
            return False
        if run.state == "reading":
            reader.read(run, min(deadline, time.monotonic() + 1.0))
        else:
            comparing.step(database, run, are_movements=reader.are_movements)
        run = _run(database, run_id)
        told(run)
        if not run.is_done and time.monotonic() >= deadline:
            return True
    _note_outcome(database, run)
    return False


def accept(database: Database, game: Game, name: str, actor: str, note: str) -> list[str]:
    """Have a closed month reconciled with the differences there are; returns the states it came through.

    The note is kept, with the partners that nothing was held against. Raises SettlementError.
    """
    if not note.strip():
        raise months.SettlementError("say in a note why that is good enough")
    missing, _ = unreconciled(database.read(), game.id, name)
    if missing:
        note = f"{note} (not reconciled: {', '.join(missing)})"
    return database.write_here(lambda tx: closing.advance(tx, game.id, name, RECONCILED, actor, note))


def bring_to(
    database: Database,
    game: Game,
    name: str,
    state: str,
    actor: str,
    note: str,
    *,
    is_skipping: bool = False,
    is_accepting: bool = False,
) -> list[str]:
    """Bring a closed month to a state; returns the states it came through. Raises SettlementError.

    Where a report does not agree with it, that has to be accepted, with a note.
    """

    def go_on(tx: Connection) -> list[str]:
        names = disagreeing(tx, game.id, name)
        if names and not (is_accepting and note.strip()):
            raise months.SettlementError(
                f"{name} does not agree with the newest report of {', '.join(names)}, or is still compared with it: "
                "look at its differences; "
                "to go on all the same, accept them (--accept) and say in a note why"
            )
        came_to = closing.advance(tx, game.id, name, RECONCILED, actor, note) if names else []
        return came_to + closing.advance(tx, game.id, name, state, actor, note, skipping=is_skipping)

    return database.write(go_on)


def disagreeing(connection: Connection, game_id: int, name: str) -> list[str]:
    """Partners whose newest report does not agree with a closed month, or is not compared to its end, where nobody has
    accepted that since; none once the payment of the month is confirmed.
    """
    found = months.standing(connection, game_id, name)
    if found is None or found.state not in (CLOSED, RECONCILED):
        return []
    accepted_at = months.steps(connection, game_id, name)[-1].at if found.state == RECONCILED else ""
    runs = outcomes.runs(connection, game_id, name)
    return sorted(
        run.partner for run in runs if not run.is_done or (not run.agrees and (run.finished_at or "") > accepted_at)
    )


def unreconciled(connection: Connection, game_id: int, name: str) -> tuple[list[str], list[str]]:
    """Partners of a closed month that nothing was held against yet, and those with which something does not agree.

    What of a partner's figures could not be read does not agree either: nobody knows what it says.
    """
    found = months.standing(connection, game_id, name)
    if found is None:
        return [], []
    partners = {line.partner for line in months.lines(connection, found.id) if line.section in IN_TOTALS}
    done = {run.partner: run for run in outcomes.runs(connection, game_id, name) if run.is_done}
    return sorted(partners - set(done)), sorted(name for name, run in done.items() if not run.agrees)


def _note_outcome(database: Database, run: Run) -> None:
    """A month that agrees with all of its partners is reconciled; else a person says so, and anew for each report."""
    name = run.month.name

    def note(tx: Connection) -> None:
        found = months.standing(tx, run.game_id, name)
        if found is None:
            return
        if found.state == CLOSED and not any(unreconciled(tx, run.game_id, name)):
            words = "every purchase agrees with the partners' figures"
            closing.advance(tx, run.game_id, name, RECONCILED, "reconciliation", words)
        if found.state == RECONCILED and run.partner in disagreeing(tx, run.game_id, name):
            words = f"a newer report of {run.partner} does not agree"
            closing.back_to_closed(tx, run.game_id, name, "reconciliation", words)

    database.write(note)


def _run(database: Database, run_id: int) -> Run:
    run = outcomes.run_by_id(database.read(), run_id)
    if run is None:
        raise ReconciliationError("this reconciliation was replaced by another one")
    return run
