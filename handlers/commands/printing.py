"""Months and reconciliations as they are printed at the terminal."""

from decimal import Decimal

import click

from coinslot.base import money
from coinslot.base.spellings import shown
from coinslot.games.games import Game
from coinslot.settlement import jobs, months, outcomes
from coinslot.settlement.figures import IN_TOTALS, Line
from coinslot.settlement.judging import MISSING_HERE
from coinslot.settlement.outcomes import Run
from coinslot.store.db import Row
from handlers.kit import partner_reports
from handlers.kit.console import table
from handlers.kit.receive import current_installation, partners

LONGEST_CREATOR = 40
SHOWN_AT_ONCE = 20  # differences of each kind; a file has them all
IN_WORDS = {"unreadable": "reported, unreadable", "at_edge": "at the edge", "id_altered": "id looks altered"}


def print_lines(month: str, lines: list[Line]) -> None:
    counted = [line for line in lines if line.section in IN_TOTALS]
    if not counted:
        click.echo("Nothing counts in it.")
    else:
        head = ("month", "partner", "cur", "type", "creator", "count", "gross", "refunds", "fee", "net", "share", "")
        rows = [head, *(_cells(line, month) for line in counted)]
        click.echo(table(rows))
        totals = [("total", "cur", "count", "gross", "refunds", "tax", "fee", "net", "share")]
        for each in months.totals(lines):
            figures = (each.gross_minor, each.refunds_minor, each.tax_minor, each.fee_minor, each.net_minor)
            told = (*figures, each.share_minor)
            cells = ("-" if minor is None else money.in_major(minor, each.currency) for minor in told)
            totals.append((each.partner, each.currency, str(each.count), *cells))  # type: ignore[arg-type]
        click.echo(table(totals))
    for line in lines:
        if line.section not in IN_TOTALS:
            what = _APART[line.section].format(reference=shown(line.reference, 60))
            click.echo(f"apart: {line.count} {what} ({line.partner} {line.currency}".rstrip() + ")")


_APART = {
    "free": "free",
    "test": "tests",
    "incomplete": "with no amount, currency or type known yet",
    "too_large": "too large to be summed: {reference}",
}


def print_zone_notes(game: Game, month: str | None) -> None:
    for note in jobs.zone_notes(current_installation().database.read(), game, month):
        click.echo(note)


def _cells(line: Line, own_month: str) -> tuple[str, ...]:
    marks = []
    if line.month != own_month:
        marks.append("adjustment")
    if line.is_registered is False:
        marks.append("not registered yet")
    if line.section == "orders":
        marks.append("orders of the web store")
    if line.unsaid:
        marks.append(f"{line.unsaid} without the partner's figures ({money.written(line.unsaid_minor, line.currency)})")
    if line.undated:
        marks.append(f"{line.undated} undated")
    figures = (line.gross_minor, line.refunds_minor, line.fee_minor, line.net_minor, line.share_minor)
    return (
        line.month,
        line.partner,
        line.currency,
        line.distribution_type or "-",
        shown(line.creator or "-", LONGEST_CREATOR),
        str(line.count),
        *("-" if each is None else money.in_major(each, line.currency) for each in figures),
        ", ".join(marks),
    )


def print_run(game: Game, run: Run) -> None:
    click.echo(
        f"{run.partner}, by {run.source}: {run.state}, {run.progress:.0%}; {run.rows_read} rows read, "
        f"{run.rows_odd} of them unreadable, {run.matched} purchases agree"
    )
    for note in run.notes:
        click.echo(note[:1].upper() + note[1:] + ".")
    if not run.is_done:
        return
    is_granted_here = bool(outcomes.charged_but_not_granted([run]))
    headline = "CHARGED BUT NOT GRANTED" if is_granted_here else "COUNTED THERE AND NOT REPORTED HERE"
    for each in run.summary:
        if each.result == MISSING_HERE:
            click.echo(f"{headline}: {each.count} ({amount_of(each.stake_minor, each.currency)} {each.currency or ''})")
    if not run.summary:
        click.echo("Every purchase that could be read agrees." if run.rows_odd else "Every purchase agrees.")
        return
    rows = [
        (words_of(each.result), str(each.count), amount_of(each.stake_minor, each.currency), each.currency or "-")
        for each in run.summary
    ]
    click.echo(table([("difference", "count", "at stake", ""), *rows]))
    connection = current_installation().database.read()
    for result in dict.fromkeys(each.result for each in run.summary):
        for row in outcomes.differences(connection, run.id, result=result, limit=SHOWN_AT_ONCE):
            remedy = remedy_of(game, run.partner, row)
            stake = amount_of(row["stake_minor"], row["currency"])
            what = f"{words_of(row['result'])}  {shown(row['reference'], 60)}"
            click.echo(f"{what}  {stake} {row['currency'] or ''}  {remedy}")
    click.echo(f"All of them: flask settlement differences {game.slug} {run.month.name}")


def remedy_of(game: Game, partner: str, row: Row) -> str:
    titles = {each.name: each.title for each in partners()}
    return partner_reports.remedy(game.slug, titles.get(partner, partner), row)


def amount_of(minor: object, currency: str | None) -> str:
    return "-" if minor is None else money.in_major(Decimal(str(minor)), currency or "")


def words_of(state: str) -> str:
    return IN_WORDS.get(state) or state.replace("_", " ")
