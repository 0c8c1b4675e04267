"""``flask settlement``: close a month, look at it, reconcile it with the partners, take it through its states."""

import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from coinslot.base import csv_text
from coinslot.games.games import Game
from coinslot.relay.jobs import JobError
from coinslot.settlement import calculation, closing, documents, jobs, months, runs, states
from coinslot.settlement.amounts import DECIMALS
from coinslot.settlement.columns import Layout
from coinslot.settlement.differences import RESULTS
from coinslot.settlement.lines import IN_TOTALS
from coinslot.settlement.months import CONFIRMED, SETTLED
from coinslot.settlement.runs import ReconciliationError, Run
from coinslot.settlement.terms import Terms
from coinslot.store.db import Connection, Database
from handlers.commands.printing import amount_of, print_lines, print_run, print_zone_changes, remedy_of, words_of
from handlers.kit import partner_reports
from handlers.kit.console import Group, opened_game, table
from handlers.kit.partner import Partner
from handlers.kit.receive import current_installation, partners

PROGRESS_SECONDS = 1.0
FORMATS = ("csv", "all", "creators", "beancount")
_NOTE = click.option("--note", default="", help="For the records.")


@click.group("settlement", cls=Group)
def group() -> None:
    """Months: their figures, and whether the partners have the same."""


def _command(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command of the group, for one month of a game."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        group.command(name)(click.argument("game")(click.argument("month")(function)))
        return function

    return add


def _database() -> Database:
    return current_installation().database


@group.command("list")
@click.argument("game")
def list_months(game: str) -> None:
    """The months of GAME and their states, the newest first."""
    opened, connection = opened_game(game), _database().read()
    rows = [(each.month.name, words_of(each.state)) for each in months.month_list(connection, opened)]
    click.echo(table([("month", "state"), *rows]) if rows else "Nothing was bought yet.")
    print_zone_changes(connection, opened)


@_command("close")
@_NOTE
@click.option("--early", is_flag=True, help="Close it early; later facts become adjustments.")
def close(game: str, month: str, note: str, early: bool) -> None:
    """Freeze MONTH (such as 2026-07) of GAME. A month that is closed stays as it is."""
    opened, database = opened_game(game), _database()
    in_game = current_installation().in_game
    found, is_new = closing.close(database, opened, in_game, month, "command", note, may_be_early=early)
    click.echo(f"{month} of {game} " + ("is closed." if is_new else f"was closed {found.closed_at[:16]} UTC."))
    print_zone_changes(database.read(), opened, month)
    print_lines(month, months.frozen_lines(database.read(), found.id))


@_command("reopen")
@click.option("--note", required=True, help="Why; kept with the month.")
def reopen(game: str, month: str, note: str) -> None:
    """Open a closed MONTH again; what it was closed with is kept, and counts no more."""
    opened = opened_game(game)
    _database().write_here(lambda tx: closing.reopen(tx, opened.id, month, "command", note))
    click.echo(f"{month} of {game} is open again.")


@_command("show")
@click.option("--steps", "has_steps", is_flag=True, help="Who did what with the month, and when.")
def show(game: str, month: str, has_steps: bool) -> None:
    """The figures of MONTH: as it was closed, or as it would be closed now."""
    opened, connection = opened_game(game), _database().read()
    found = months.find_closed(connection, opened.id, month)
    if found is not None:
        click.echo(f"{month} of {game}: {words_of(found.state)}, closed {found.closed_at[:16]} UTC")
        print_lines(month, months.frozen_lines(connection, found.id))
    else:
        in_game = current_installation().in_game
        with _database().snapshot() as snapshot:
            wanted = months.month_of(snapshot, opened, month)
            lines = calculation.preview(snapshot, opened.id, wanted, Terms.of(opened, in_game), in_game)
        click.echo(f"{month} of {game}: open; this is what it would be closed with now")
        print_lines(month, lines)
    print_zone_changes(connection, opened, month)
    for run in runs.current_runs(connection, opened.id, month):
        print_run(connection, opened, run)
    if has_steps:
        rows = [
            (each.at[:19], words_of(each.state) + (" (passed over)" if each.is_skipped else ""), each.actor, each.note)
            for each in months.steps(connection, opened.id, month)
        ]
        click.echo(table([("when", "state", "who", "note"), *rows]) if rows else "Nothing was done with it yet.")


@_command("reconcile")
@click.option("--partner", "name", help="One partner alone; default: every one that can be asked.")
@click.option("--file", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its report as CSV.")
@click.option("--map", "mapped", multiple=True, metavar="FIELD=COLUMN", help="A column of the file; may repeat.")
@click.option("--unit", type=click.Choice(("major", "minor")), help="Of the file's amounts.")
@click.option("--currency", help="Of the file's amounts, if no column has it.")
@click.option(
    "--decimal", type=click.Choice(tuple(DECIMALS)), help="The sign before a fraction, if the file does not show it."
)
@click.option("--background", is_flag=True, help="Leave it to the server; `flask settlement show` shows how far it is.")
@click.option("--accept", is_flag=True, help="Accept the differences there are; needs --note.")
@_NOTE
def reconcile(
    game: str,
    month: str,
    name: str | None,
    path: Path | None,
    mapped: tuple[str, ...],
    unit: str | None,
    currency: str | None,
    decimal: str | None,
    background: bool,
    accept: bool,
    note: str,
) -> None:
    """Compare a closed MONTH with the partners' figures, and list what does not agree.

    FIELD is one of reference (the purchase's id), amount, currency, kind (paid, refunded, ...), at, row_id, ours. A
    run that stopped goes on where it stopped.
    """
    opened, database = opened_game(game), _database()
    if accept:
        if not note.strip():
            raise click.UsageError("--accept: say in a --note why that is good enough")
        reached = database.write_here(lambda tx: states.accept(tx, opened.id, month, "command", note))
        click.echo(f"{month} of {opened.slug}: reconciled{'' if reached else ', as before'}.")
        return
    columns = dict(each.partition("=")[::2] for each in mapped)
    for partner in _partners(database.read(), opened, month, name, path is not None):
        assert partner.report is not None
        file = reading = None
        if path is not None:
            file = path, Layout.of(partner.report, columns, unit, currency, DECIMALS.get(decimal or ""))
            reading = jobs.look_through(*file)
        run_id = partner_reports.begin(
            *(current_installation(), opened, month, partner, "command", file), is_background=background
        )
        progress = _Progress(partner.title)
        if file is not None:
            jobs.take_file(database, run_id, *file, progress, reading)
        if not background:
            reader = partner_reports.reader(current_installation(), opened, partner.report)
            try:
                jobs.carry_on(database, run_id, reader, float("inf"), progress)
            except JobError as error:
                raise click.ClickException(f"{error}\nThe same command goes on where it stopped.") from None
        run = runs.run_by_id(database.read(), run_id)
        if run is not None:
            print_run(database.read(), opened, run)


class _Progress:
    """Prints how far a run is, now and then, on standard error."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._next = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, run: Run) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            click.echo(f"{self._title}: {run.state}, {run.progress:.0%}", err=True)


def _partners(connection: Connection, game: Game, month: str, name: str | None, has_file: bool) -> list[Partner]:
    """The partners to reconcile with."""
    known = {partner.name: partner for partner in partners() if partner.report is not None}
    if name is not None:
        if name not in known:
            raise ReconciliationError(f"{name} has no figures to compare a month with; use one of {', '.join(known)}")
        return [known[name]]
    if has_file:
        raise click.UsageError("--file: say whose it is with --partner")
    lines = months.frozen_lines(connection, months.closed_month(connection, game.id, month).id)
    theirs = {line.partner for line in lines if line.section in IN_TOTALS} or set(known)
    askable = [each for each in known.values() if each.report and each.report.is_askable(game) and each.name in theirs]
    if not askable:
        raise ReconciliationError("no partner of this month can be asked: give a report with --partner and --file")
    return askable


@_command("differences")
@click.option("--result", type=click.Choice(RESULTS), help="Of one kind alone.")
def differences(game: str, month: str, result: str | None) -> None:
    """Every purchase on which MONTH and a partner do not agree, as CSV, with what resolves it."""
    opened, connection = opened_game(game), _database().read()
    amounts = (("stake_minor", "currency"), ("ours_minor", "ours_currency"), ("theirs_minor", "theirs_currency"))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow("partner,reference,result,currency,stake,ours,theirs,occurred_at,action".split(","))
    for run in runs.current_runs(connection, opened.id, month):
        after = 0
        while rows := runs.find_differences(connection, run.id, result=result, after=after, limit=1000):
            for row in rows:
                cells = [amount_of(row[minor], row[code]) for minor, code in amounts]
                remedy = csv_text.harmless(remedy_of(opened, run.partner, row))
                named = (run.partner, csv_text.harmless(row["reference"]), row["result"], row["currency"] or "")
                writer.writerow([*named, *cells, row["occurred_at"] or "", remedy])
            after = rows[-1]["id"]


@_command("confirm")
@click.option("--creators", "is_of_creators", is_flag=True, help="The creators were paid: the last state.")
@click.option("--skip", "is_skipping", is_flag=True, help="Pass over the states between; needs --note.")
@click.option("--accept", "is_accepting", is_flag=True, help="Confirm although a report does not agree; needs --note.")
@click.option("--note", default="", help="For the records, such as the number of a bank statement.")
def confirm(game: str, month: str, is_of_creators: bool, note: str, **flags: bool) -> None:
    """The payment of a reconciled MONTH arrived; with --creators, the creators were paid."""
    opened, state = opened_game(game), SETTLED if is_of_creators else CONFIRMED
    reached = _database().write(lambda tx: states.advance(tx, opened.id, month, state, "command", note, **flags))
    click.echo(f"{month} of {game}: {words_of(state)}{'' if reached else ', as before'}.")


@_command("export")
@click.option("--format", "form", type=click.Choice(FORMATS), default="csv", show_default=True)
@click.option("--creator", help="One creator's statement alone.")
def export(game: str, month: str, form: str, creator: str | None) -> None:
    """A closed MONTH on standard output, the same bytes each time.

    csv: what counts. all: what does not count too, and every column. creators: what each brought and is owed.
    beancount: double entry, for that program.
    """
    opened, connection = opened_game(game), _database().read()
    found = months.closed_month(connection, opened.id, month)
    if creator is not None or form == "creators":
        parts = documents.creator_csv(connection, found, creator)
    elif form == "beancount":
        parts = documents.beancount(connection, found, opened.name)
    else:
        parts = documents.statement_csv(connection, found, is_whole=form == "all")
    for part in parts:
        click.echo(part, nl=False)


COMMANDS: tuple[click.Command, ...] = (group,)
