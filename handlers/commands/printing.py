"""Months and reconciliations as they are printed at the terminal."""

from decimal import Decimal

import click

from coinslot.base import money
from coinslot.base.spellings import shown
from coinslot.games.games import Game
from coinslot.settlement import months
from coinslot.settlement.differences import MISSING_HERE
from coinslot.settlement.lines import IN_TOTALS, Line, totals
from coinslot.settlement.runs import Run, charged_but_not_granted, find_differences
from coinslot.store.db import Connection, Row
from handlers.kit import partner_reports, wording
from handlers.kit.console import table
from handlers.kit.receive import partners

LONGEST_CREATOR = 40
LONGEST_ID_SHOWN = 60
SHOWN_AT_ONCE = 20  # differences of each kind; a file has them all
_WORDS = {"unreadable": "reported, unreadable", "at_edge": "at the edge", "id_altered": "id looks altered"}
_HEAD = ("month", "partner", "cur", "type", "creator", "count", "gross", "refunds", "fee", "net", "share", "")
_TOTAL_HEAD = ("total", "cur", "count", "gross", "refunds", "tax", "fee", "net", "share")
_APART = {
    "free": "free",
    "test": "tests",
    "incomplete": "with no amount, currency or type known yet",
    "too_large": "too large to be summed: {reference}",
}


def print_lines(month: str, lines: list[Line]) -> None:
    """The lines of a month that count, their totals, and those listed apart."""
    counted = [line for line in lines if line.section in IN_TOTALS]
    if not counted:
        click.echo("Nothing counts in it.")
    else:
        click.echo(table([_HEAD, *(_cells(line, month) for line in counted)]))
        click.echo(table([_TOTAL_HEAD, *(_total_cells(line) for line in totals(lines))]))
    for line in lines:
        if line.section not in IN_TOTALS:
            what = _APART[line.section].format(reference=shown(line.reference, LONGEST_ID_SHOWN))
            click.echo(f"apart: {line.count} {what} ({line.partner} {line.currency}".rstrip() + ")")


def print_zone_changes(connection: Connection, game: Game, month: str | None = None) -> None:
    """What a change of the time zone did to the months, or to one of them."""
    for each in months.zone_changes(connection, game, month):
        click.echo(each.sentence)


def _cells(line: Line, own_month: str) -> tuple[str, ...]:
    marks = {
        "adjustment": line.month != own_month,
        "not registered yet": line.is_registered is False,
        "orders of the web store": line.section == "orders",
        f"{line.unsaid} without the partner's figures ({money.written(line.unsaid_minor, line.currency)})": line.unsaid,
        f"{line.undated} undated": line.undated,
    }
    creator = shown(line.creator or "-", LONGEST_CREATOR)
    figures = (line.gross_minor, line.refunds_minor, line.fee_minor, line.net_minor, line.share_minor)
    return (
        *(line.month, line.partner, line.currency, line.distribution_type or "-", creator, str(line.count)),
        *(amount_of(each, line.currency) for each in figures),
        ", ".join(mark for mark, holds in marks.items() if holds),
    )


def _total_cells(line: Line) -> tuple[str, ...]:
    figures = (line.gross_minor, line.refunds_minor, line.tax_minor, line.fee_minor, line.net_minor, line.share_minor)
    return (line.partner, line.currency, str(line.count), *(amount_of(each, line.currency) for each in figures))


def print_run(connection: Connection, game: Game, run: Run) -> None:
    """How far a reconciliation is, and what it found."""
    click.echo(
        f"{run.partner}, by {run.source}: {run.state}, {run.progress:.0%}; {run.rows_read} rows read, "
        f"{run.rows_odd} of them unreadable, {run.matched} purchases agree"
    )
    for note in run.notes:
        click.echo(note[:1].upper() + note[1:] + ".")
    if not run.is_done:
        return
    is_granted_here = bool(charged_but_not_granted([run]))
    headline = "CHARGED BUT NOT GRANTED" if is_granted_here else "COUNTED THERE AND NOT REPORTED HERE"
    for each in run.summary:
        if each.result == MISSING_HERE:
            click.echo(f"{headline}: {each.count} ({written(each.stake_minor, each.currency)})")
    if not run.summary:
        click.echo("Every purchase that could be read agrees." if run.rows_odd else "Every purchase agrees.")
        return
    rows = [
        (words_of(each.result), str(each.count), amount_of(each.stake_minor, each.currency), each.currency or "-")
        for each in run.summary
    ]
    click.echo(table([("difference", "count", "at stake", ""), *rows]))
    for result in dict.fromkeys(each.result for each in run.summary):
        for row in find_differences(connection, run.id, result=result, limit=SHOWN_AT_ONCE):
            stake = written(row["stake_minor"], row["currency"])
            what = f"{words_of(row['result'])}  {shown(row['reference'], LONGEST_ID_SHOWN)}"
            click.echo(f"{what}  {stake}  {remedy_of(game, run.partner, row)}")
    click.echo(f"All of them: flask settlement differences {game.slug} {run.month.name}")


def remedy_of(game: Game, partner: str, row: Row) -> str:
    """What resolves a difference, with the command to run."""
    titles = {each.name: each.title for each in partners()}
    return partner_reports.remedy(game.slug, titles.get(partner, partner), row)


def amount_of(minor: object, currency: str | None) -> str:
    """An amount in major units; ``-`` if it is unknown."""
    return "-" if minor is None else money.in_major(Decimal(str(minor)), currency or "")


def written(minor: object, currency: str | None) -> str:
    """An amount in a sentence, grouped and with its currency: 33,000 KRW."""
    return wording.money(None if minor is None else Decimal(str(minor)), currency)


def words_of(state: str) -> str:
    """A state of a month, or a kind of difference, in words."""
    return _WORDS.get(state) or state.replace("_", " ")
