"""``flask settlement``: close a month, look at it, hold it against the partners, take it through its states."""

import csv
import sys
import time
from pathlib import Path

import click

from coinslot.games.games import Game
from coinslot.relay.jobs import JobError
from coinslot.settlement import closing, documents, jobs, months, outcomes
from coinslot.settlement.columns import DECIMALS, Layout
from coinslot.settlement.figures import IN_TOTALS
from coinslot.settlement.judging import RESULTS
from coinslot.settlement.months import CONFIRMED, SETTLED, SettlementError
from coinslot.settlement.outcomes import ReconciliationError, Run
from coinslot.settlement.terms import Terms
from handlers.commands.printing import amount_of, print_lines, print_run, print_zone_notes, remedy_of, words_of
from handlers.kit import partner_reports
from handlers.kit.console import Group, opened_game, table
from handlers.kit.partner import Partner
from handlers.kit.receive import current_installation, partners

PROGRESS_SECONDS = 1.0
FORMATS = ("csv", "all", "creators", "beancount")


@click.group("settlement", cls=Group)
def group() -> None:
    """Months: what they come to, and whether the partners say the same."""


@group.command("list")
@click.argument("game")
def list_months(game: str) -> None:
    """The months of GAME and their states, the newest first."""
    opened = opened_game(game)
    connection = current_installation().database.read()
    rows = [(each.month.name, words_of(each.state)) for each in months.month_list(connection, opened)]
    click.echo(table([("month", "state"), *rows]) if rows else "Nothing was bought yet.")
    print_zone_notes(opened, None)


@group.command("close")
@click.argument("game")
@click.argument("month")
@click.option("--note", default="", help="For the records.")
@click.option("--early", is_flag=True, help="Though the month is not over; the rest of it comes as adjustments.")
def close(game: str, month: str, note: str, early: bool) -> None:
    """Freeze MONTH (such as 2026-07) of GAME. A month that is closed stays as it is."""
    opened = opened_game(game)
    installation = current_installation()
    found, is_new = closing.close(
        installation.database, opened, installation.in_game, month, "command", note, may_be_early=early
    )
    click.echo(f"{month} of {game} " + ("is closed." if is_new else f"was closed {found.closed_at[:16]} UTC."))
    print_zone_notes(opened, month)
    print_lines(month, months.lines(installation.database.read(), found.id))


@group.command("reopen")
@click.argument("game")
@click.argument("month")
@click.option("--note", required=True, help="Why; kept with the month.")
def reopen(game: str, month: str, note: str) -> None:
    """Open a closed MONTH again; what it was closed with is kept, and counts no more."""
    opened = opened_game(game)
    current_installation().database.write_here(lambda tx: closing.reopen(tx, opened.id, month, "command", note))
    click.echo(f"{month} of {game} is open again.")


@group.command("show")
@click.argument("game")
@click.argument("month")
@click.option("--steps", "has_steps", is_flag=True, help="Who did what with the month, and when.")
def show(game: str, month: str, has_steps: bool) -> None:
    """What MONTH comes to: as it was closed, or as it would be closed now."""
    opened = opened_game(game)
    connection = current_installation().database.read()
    found = months.standing(connection, opened.id, month)
    if found is not None:
        click.echo(f"{month} of {game}: {words_of(found.state)}, closed {found.closed_at[:16]} UTC")
        print_lines(month, months.lines(connection, found.id))
    else:
        in_game = current_installation().in_game
        terms = Terms.of(opened, in_game)
        with current_installation().database.snapshot() as snapshot:
            wanted = months.month_of(snapshot, opened, month)
            lines = closing.preview(snapshot, opened.id, wanted, terms, in_game)
        click.echo(f"{month} of {game}: open; this is what it would be closed with now")
        print_lines(month, lines)
    print_zone_notes(opened, month)
    for run in outcomes.runs(connection, opened.id, month):
        print_run(opened, run)
    if has_steps:
        rows = [
            (each.at[:19], words_of(each.state) + (" (passed over)" if each.is_skipped else ""), each.actor, each.note)
            for each in months.steps(connection, opened.id, month)
        ]
        click.echo(table([("when", "state", "who", "note"), *rows]) if rows else "Nothing was done with it yet.")


@group.command("reconcile")
@click.argument("game")
@click.argument("month")
@click.option("--partner", "name", help="One partner alone; default: every one that can be asked.")
@click.option("--file", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its report as CSV.")
@click.option("--map", "mapped", multiple=True, metavar="FIELD=COLUMN", help="A column of the file; may repeat.")
@click.option("--unit", type=click.Choice(("major", "minor")), help="Of the file's amounts.")
@click.option("--currency", help="Of a file that does not tell it.")
@click.option(
    "--decimal", type=click.Choice(tuple(DECIMALS)), help="The sign before a fraction, where it is not clear."
)
@click.option("--background", is_flag=True, help="Leave it to the server; `flask settlement show` tells how far it is.")
@click.option("--accept", is_flag=True, help="The month is reconciled, with the differences there are; takes --note.")
@click.option("--note", default="", help="For the records.")
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
    """Hold a closed MONTH against what the partners say, and tell what does not agree.

    FIELD is one of reference (the purchase's id), amount, currency, kind (paid, refunded, ...), at, row_id, ours. What
    was broken off goes on where it stopped.
    """
    opened = opened_game(game)
    if accept:
        _accept(opened, month, note)
        return
    wanted = _partners(opened, month, name, path is not None)
    columns = dict(each.partition("=")[::2] for each in mapped)
    installation = current_installation()
    for partner in wanted:
        assert partner.report is not None
        file = (
            None
            if path is None
            else (path, Layout.of(partner.report, columns, unit, currency, DECIMALS.get(decimal or "")))
        )
        seen = None if file is None else jobs.look_through(*file)
        run_id = partner_reports.begin(installation, opened, month, partner, "command", file, is_background=background)
        told = _Told(partner.title)
        if file is not None:
            jobs.take_file(installation.database, run_id, *file, told, seen)
        if not background:
            try:
                jobs.carry_on(
                    installation.database,
                    run_id,
                    partner_reports.reader(installation, opened, partner.report),
                    float("inf"),
                    told,
                )
            except JobError as error:
                raise click.ClickException(f"{error}\nThe same command goes on where it stopped.") from None
        run = outcomes.run_by_id(installation.database.read(), run_id)
        if run is not None:
            print_run(opened, run)


@group.command("differences")
@click.argument("game")
@click.argument("month")
@click.option("--result", type=click.Choice(RESULTS), help="Of one kind alone.")
def differences(game: str, month: str, result: str | None) -> None:
    """Every purchase on which MONTH and a partner do not agree, as CSV, with what mends it."""
    opened = opened_game(game)
    connection = current_installation().database.read()
    names = "reference,result,currency,stake,ours,theirs,occurred_at,action".split(",")
    amounts = (("stake_minor", "currency"), ("ours_minor", "ours_currency"), ("theirs_minor", "theirs_currency"))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["partner", *names])
    for run in outcomes.runs(connection, opened.id, month):
        after = 0
        while rows := outcomes.differences(connection, run.id, result=result, after=after, limit=1000):
            for row in rows:
                cells = [amount_of(row[minor], row[code]) for minor, code in amounts]
                remedy = remedy_of(opened, run.partner, row)
                named = (run.partner, row["reference"], row["result"], row["currency"] or "")
                writer.writerow([*named, *cells, row["occurred_at"] or "", remedy])
            after = rows[-1]["id"]


@group.command("confirm")
@click.argument("game")
@click.argument("month")
@click.option("--creators", "is_of_creators", is_flag=True, help="The creators have their share: the last state.")
@click.option("--skip", "is_skipping", is_flag=True, help="Pass over the states between; takes --note.")
@click.option("--accept", "is_accepting", is_flag=True, help="Though a report does not agree; takes --note.")
@click.option("--note", default="", help="For the records, such as the number of a bank statement.")
def confirm(game: str, month: str, is_of_creators: bool, is_skipping: bool, is_accepting: bool, note: str) -> None:
    """The payment of a reconciled MONTH has come; with --creators, the creators have their share."""
    opened = opened_game(game)
    state = SETTLED if is_of_creators else CONFIRMED

    came_to = jobs.bring_to(
        *(current_installation().database, opened, month, state, "command", note),
        is_skipping=is_skipping,
        is_accepting=is_accepting,
    )
    click.echo(f"{month} of {game}: {words_of(state)}{'' if came_to else ', as before'}.")


@group.command("export")
@click.argument("game")
@click.argument("month")
@click.option("--format", "form", type=click.Choice(FORMATS), default="csv", show_default=True)
@click.option("--creator", help="One creator's statement alone.")
def export(game: str, month: str, form: str, creator: str | None) -> None:
    """A closed MONTH on standard output, the same bytes each time.

    csv: what counts. all: what stands apart too, and every column. creators: what each brought and is owed. beancount:
    double entry, as that program reads it.
    """
    opened = opened_game(game)
    connection = current_installation().database.read()
    found = months.standing(connection, opened.id, month)
    if found is None:
        raise SettlementError(f"{month} is open: close it first")
    if creator is not None or form == "creators":
        parts = documents.creator_csv(connection, found, creator)
    elif form == "beancount":
        parts = documents.beancount(connection, found, opened.name)
    else:
        parts = documents.statement_csv(connection, found, is_whole=form == "all")
    for part in parts:
        click.echo(part, nl=False)


COMMANDS: tuple[click.Command, ...] = (group,)


class _Told:
    """Progress for the person at the terminal, now and then, apart from what is printed for good."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._next = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, run: Run) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            click.echo(f"{self._title}: {run.state}, {run.progress:.0%}", err=True)


def _partners(game: Game, month: str, name: str | None, has_file: bool) -> list[Partner]:
    """Those to reconcile with."""
    known = {partner.name: partner for partner in partners() if partner.report is not None}
    if name is not None and name not in known:
        raise ReconciliationError(f"{name} has no figures to hold a month against; use one of {', '.join(known)}")
    if name is not None:
        return [known[name]]
    if has_file:
        raise click.UsageError("--file: say whose it is with --partner")
    connection = current_installation().database.read()
    found = months.standing(connection, game.id, month)
    if found is None:
        raise SettlementError(f"{month} is open: close it first")
    theirs = {line.partner for line in months.lines(connection, found.id) if line.section in IN_TOTALS}
    askable = [
        partner
        for partner in known.values()
        if partner.report is not None and partner.report.is_askable(game) and (partner.name in theirs or not theirs)
    ]
    if not askable:
        raise ReconciliationError("no partner of this month can be asked: give a report with --partner and --file")
    return askable


def _accept(game: Game, month: str, note: str) -> None:
    if not note.strip():
        raise click.UsageError("--accept: say in a --note why that is good enough")
    came_to = jobs.accept(current_installation().database, game, month, "command", note)
    click.echo(f"{month} of {game.slug}: reconciled{'' if came_to else ', as before'}.")
