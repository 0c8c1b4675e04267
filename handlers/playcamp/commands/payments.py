"""Commands for the game's payments: read the history, try one window, list, and redrive what is quarantined."""

import json
import os
import re
import secrets
from datetime import date, timedelta
from typing import Any

import click

from coinslot.base import clock, moments
from coinslot.base.spellings import shown
from coinslot.games.games import Game
from coinslot.payments import lists, payment_queue, store
from coinslot.relay import jobs
from coinslot.relay.jobs import Due, JobError
from coinslot.store import audit
from handlers.kit.console import Command, opened_game, table
from handlers.kit.receive import current_installation
from handlers.playcamp.commands.shared import LONGEST_CELL, MOST_LISTED, note, print_section
from handlers.playcamp.payments import polling, registration, sends, window_preview
from handlers.playcamp.payments.game_answer import SourceError
from handlers.playcamp.payments.progress import Progress
from handlers.playcamp.payments.source import is_configured

DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TRIED = (
    "transaction_id player_id product_id product_name amount currency market platform distribution_type purchased_at "
    "refunded_at kept_because"
).split()
_PRINTED = (
    "transaction_id source player_id product_id amount currency market platform distribution_type purchased_at "
    "refunded_at is_test state reason tries next_try_at registered_at refund_state"
).split()


@click.command("backfill", cls=Command)
@click.argument("game")
@click.option("--from", "since", metavar="DATE", required=True, help="First day, or a time such as 2026-01-31T12:00.")
@click.option("--to", "until", metavar="DATE", required=True, help="Last day, itself included, or a time before which.")
def backfill(game: str, since: str, until: str) -> None:
    """Read a range of GAME's own payment history and register it, beside the polls.

    Days are those of playcamp.payments.zone. What is stored already is not stored again. An interrupted backfill goes
    on where it was when the same command is given again.
    """
    opened = opened_game(game)
    if not is_configured(opened):
        raise click.ClickException("playcamp.payments needs .url, .rows and .map before payments can be read")
    start, end = _moment(opened, "--from", since), _moment(opened, "--to", until, is_end=True)
    if start >= end:
        raise click.UsageError("--to has to be after --from")
    installation = current_installation()
    note(opened, "playcamp.backfill", f"{since} to {until}")
    count = 0
    with click.progressbar(length=end - start, label="Reading payments") as bar:

        def watch(progress: Progress, rows: int) -> None:
            nonlocal count
            count += rows
            bar.update(progress.reached - start - bar.pos)

        try:
            warning = polling.backfill(installation, opened, _owner(), start, end, watch)
        except SourceError as error:
            raise click.ClickException(
                f"{error}\nWhat was read is stored; the same command goes on from there."
            ) from None
    click.echo(f"{count} rows read.")
    if warning is not None:
        click.echo(f"Warning: {warning}.")
    _register(opened)


@click.command("try", cls=Command)
@click.argument("game")
@click.option("--from", "since", metavar="DATE", help="Where the window begins; left out: the one that ends now.")
def try_payments(game: str, since: str | None) -> None:
    """Read one window of GAME's own payments as a poll would, store nothing, and show what comes of it.

    Exit status 1 when nothing can be read, no row of it be sent, or the answer may be the first page of several.
    """
    opened = opened_game(game)
    start = None if since is None else _moment(opened, "--from", since)
    found = window_preview.try_window(current_installation(), opened, start=start, most_pages=window_preview.MOST_PAGES)
    span = f"{found.start[:19]}Z to {found.end[:19]}Z"
    more = "" if found.next is None else ", and there are more"
    click.echo(f"Payments from {span}: {found.count} row(s) on {found.pages} page(s){more}. Nothing was stored.")
    if found.first is not None:
        click.echo("The first that can be sent:")
        rows = [(name, str(getattr(found.first, name) or "-")) for name in _TRIED]
        click.echo(table([(name, shown(value, LONGEST_CELL)) for name, value in rows], indent="  "))
    problems = [(str(count), shown(reason, 300)) for reason, count in found.parked.items()]
    print_section(f"{found.parked_count} row(s) cannot be sent", ("rows", "why"), problems)
    if found.wrong is not None:
        raise click.ClickException(found.wrong)


@click.command("payments", cls=Command)
@click.argument("game")
@click.option("--state", type=click.Choice(store.STATES), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, MOST_LISTED), default=100, show_default=True)
@click.option("--json", "is_json", is_flag=True, help="One JSON document per line.")
def list_payments(game: str, state: str | None, limit: int, is_json: bool) -> None:
    """GAME's in-game payments, newest first."""
    opened = opened_game(game)
    rows, _ = lists.page(current_installation().database.read(), opened.id, state=state, limit=limit)
    if is_json:
        for row in rows:
            click.echo(json.dumps({name: row[name] for name in _PRINTED}))
        return
    if not rows:
        click.echo("There are none.")
        return
    cells: list[tuple[str, ...]] = [("transaction", "player", "amount", "market", "paid", "state", "refund", "why")]
    for row in rows:
        amount = f"{row['amount']} {row['currency']}" if row["amount"] and row["currency"] else "-"
        market = row["market"] or row["distribution_type"]
        paid = (row["purchased_at"] or "-")[:19]
        refund = row["refund_state"] or ("yes" if row["refunded_at"] else "-")
        values = (row["transaction_id"], row["player_id"], amount, market, paid, row["state"], refund, row["reason"])
        cells.append(tuple(shown(value or "-", LONGEST_CELL) for value in values))
    click.echo(table(cells))


@click.command("redrive", cls=Command)
@click.argument("game")
@click.argument("transaction_ids", metavar="TRANSACTION...", nargs=-1, required=True)
def redrive(game: str, transaction_ids: tuple[str, ...]) -> None:
    """Redrive quarantined payments of GAME, or their refunds: they are sent again."""
    opened = opened_game(game)
    missing = []

    def put_back(tx: Any) -> None:
        for transaction_id in transaction_ids:
            if payment_queue.redrive(tx, opened.id, transaction_id):
                audit.record(tx, opened.id, "command", "playcamp.redrive", transaction_id)
            else:
                missing.append(transaction_id)
        jobs.wake(tx, opened.id, sends.JOB)

    current_installation().database.write_here(put_back)
    click.echo(f"{len(transaction_ids) - len(missing)} redriven.")
    if missing:
        raise click.ClickException(f"not quarantined: {', '.join(shown(each, LONGEST_CELL) for each in missing)}")


def _moment(game: Game, option: str, text: str, is_end: bool = False) -> int:
    """Unix seconds of a day or time in the game's zone; of a last day, the first moment after it."""
    zone = game.settings["playcamp.payments.zone"]
    try:
        if is_end and DAY.fullmatch(text):
            text = (date.fromisoformat(text) + timedelta(days=1)).isoformat()
        found = moments.milliseconds(text, zone) // 1000
        if found < 0:
            raise ValueError("before 1970")
    except (ValueError, OverflowError):
        raise click.UsageError(f"{option}: use a day such as 2026-01-31") from None
    return found


def _register(game: Game) -> None:
    """Register what is due, as the relay does, and print the result."""
    database = current_installation().database
    if not game.keys("playcamp.api_key"):
        click.echo("playcamp.api_key is not set: nothing is registered before it is.")
        return
    waiting = lists.counts(database.read(), game.id)["waiting"]
    with click.progressbar(length=max(1, waiting), label="Registering") as bar:
        again: float | None = 0.0
        while again == 0.0:
            due = database.write_here(lambda tx: jobs.take(tx, _owner(), game.id, sends.JOB))
            if due is None:
                break
            again = _run(game, due)
            bar.update(max(0, waiting - lists.counts(database.read(), game.id)["waiting"] - bar.pos))
    if again == 0.0:
        click.echo("The server is registering them already.")
    found = lists.counts(database.read(), game.id)
    click.echo(
        f"{found['waiting']} wait to be registered, {found['parked']} are parked, {found['quarantined']} quarantined"
        f"{'; see `flask playcamp parked`' if found['parked'] or found['quarantined'] else ''}."
    )


def _run(game: Game, due: Due) -> float | None:
    """One run of the job that this command has taken from the relay. Raises JobError."""
    database = current_installation().database
    error: JobError | None = None
    try:
        return registration.run(current_installation(), game)
    except JobError as trouble:
        error = trouble
        raise
    finally:
        # The job is due again when the next payment or refund is.
        at = payment_queue.next_due(database.read(), game.id)
        in_seconds = None if at is None else max(0.0, clock.seconds(at) - clock.now())
        database.write_here(lambda tx: jobs.finished(tx, due, in_seconds, error))


def _owner() -> str:
    return f"command-{os.getpid()}-{secrets.token_hex(4)}"
