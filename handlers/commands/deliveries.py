"""``flask destination``, ``flask delivery``, ``flask relay``: where grants are sent, which wait, and who sends them."""

import gc
import json
import signal
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click

from coinslot.access import keyring
from coinslot.base import clock
from coinslot.base.spellings import shown
from coinslot.games import games
from coinslot.outbox import destinations, lists, redrives
from coinslot.store.db import Connection, Row
from handlers.commands.grade import grade
from handlers.kit.console import Command, Group, table
from handlers.kit.receive import current_installation
from handlers.kit.wording import for_time

STATES = ("waiting", "delivered", "dead")


@click.group("destination", cls=Group)
def destination() -> None:
    """Addresses of the game that deliveries go to."""


@destination.command("add")
@click.argument("game")
@click.argument("name")
@click.argument("url")
@click.option(
    "--events",
    multiple=True,
    default=("*",),
    show_default="*",
    help="Patterns of the event types it wants, such as grant.* or appcharge.*,player.login; may be given again.",
)
@click.option("--format", type=click.Choice(["standard", "playcamp"]), default="standard")
@click.option("--retry", help="Delays of the retries in seconds, such as 10,60,300; the format's own when left out.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.IntRange(1, 60),
    default=10,
    show_default=True,
    help="Seconds per attempt.",
)
@click.option(
    "--success", help="2xx, 200, or a JMESPath expression on the answer of a 200; the format's own if left out."
)
def add(game: str, name: str, url: str, events: tuple[str, ...], **options: Any) -> None:
    """Add a destination NAME at URL to GAME and print its signing secret, this once."""
    installation = current_installation()
    installation.prepare()
    add_to = partial(destinations.add, vault=installation.vault, formats=installation.formats, actor="command")
    secret = installation.database.write_here(
        lambda tx: add_to(tx, slug=game, name=name, url=url, events=",".join(events), **options)
    )
    what = "what is converted" if installation.formats[options["format"]].is_converted else "what is granted"
    click.echo(f"{name} of {game} is added; {what} from now on goes there.")
    _print_secret(game, name, secret)


@destination.command("list")
@click.argument("game")
def list_destinations(game: str) -> None:
    """Destinations of GAME, and whether they are up."""
    connection = current_installation().database.read()
    rows = destinations.listing(connection, games.find(connection, game)["id"])
    if not rows:
        click.echo(f"{game} has no destination; its grants wait in the feed. `flask destination add` adds one.")
        return
    head = ("name", "url", "events", "format", "state")
    cells = [(row["name"], shown(row["url"], 80), row["events"], row["format"], _state(row)) for row in rows]
    click.echo(table([head, *cells]))


@destination.command("rotate")
@click.argument("game")
@click.argument("name")
def rotate(game: str, name: str) -> None:
    """Make a new signing secret for NAME and print it; deliveries carry both signatures until the old is retired."""
    installation = current_installation()
    secret = destinations.new_secret()

    secret_name = destinations.secret_name(name)

    def change(tx: Connection) -> None:
        destinations.find_id(tx, game, name)
        keyring.rotate(tx, installation.vault, games.find(tx, game), secret_name, secret, actor="command")

    installation.database.write_here(change)
    _print_secret(game, name, secret)
    click.echo(f"Once your game has it: flask secret retire {game} {secret_name}")


def _switch(command: str, state: str, help: str) -> None:
    """Add the command that brings a destination into a state."""

    @destination.command(command, help=help)
    @click.argument("game")
    @click.argument("name")
    def switch(game: str, name: str) -> None:
        current_installation().database.write_here(
            lambda tx: destinations.set_state(tx, game, name, state, actor="command")
        )
        click.echo(f"{name} of {game} is {state}.")


_switch("pause", "paused", "Send nothing to NAME until it is resumed; its deliveries wait.")
_switch("resume", "active", "Send to NAME again, beginning with what has waited longest.")
_switch("remove", "removed", "End NAME. Its deliveries that were not sent are dead; the grants stay in the feed.")
destination.add_command(grade)


@click.group("delivery", cls=Group)
def delivery() -> None:
    """Deliveries, waiting, delivered or dead."""


@delivery.command("list")
@click.argument("game")
@click.option("--state", type=click.Choice(STATES))
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@click.option("--json", "is_json", is_flag=True, help="One JSON document per line.")
def list_deliveries(game: str, state: str | None, limit: int, is_json: bool) -> None:
    """The newest deliveries of GAME."""
    connection = current_installation().database.read()
    rows = lists.listing(connection, games.find(connection, game)["id"], state, limit)
    if is_json:
        for row in rows:
            click.echo(json.dumps(dict(row)))
        return
    if not rows:
        click.echo("There are none.")
        return
    head = ("id", "destination", "event", "state", "attempts", "last", "next attempt", "why dead")
    cells = [
        (
            str(row["id"]),
            row["destination"],
            row["event_type"],
            row["state"],
            str(row["attempts_made"]),
            row["last_attempt"] or "-",
            (row["next_attempt_at"] or "-")[:19],
            shown(row["dead_reason"] or "-", 60),
        )
        for row in rows
    ]
    click.echo(table([head, *cells]))


@delivery.command("redrive")
@click.argument("game")
@click.argument("delivery_id", type=click.IntRange(1, 2**63 - 1), required=False)
@click.option("--all", "is_all", is_flag=True, help="Every delivery of the game that is dead or waits.")
@click.option("--from", "since", help="Those created from this time on (ISO 8601, UTC unless it says so).")
@click.option("--to", "until", help="And before this time.")
def redrive(game: str, delivery_id: int | None, is_all: bool, since: str | None, until: str | None) -> None:
    """Redrive deliveries that are dead or wait for a later attempt: one, those of a time range, or all.

    Where a format keeps each player's order, those that a later one has overtaken stay dead.
    """
    is_range = since is not None or until is not None
    if [delivery_id is not None, is_all, is_range].count(True) != 1:
        raise click.UsageError("say which: an id, --all, or --from and --to")
    first, last = _moment(since, "--from"), _moment(until, "--to")

    database = current_installation().database
    game_id = games.find(database.read(), game)["id"]
    if delivery_id is not None:
        database.write_here(lambda tx: redrives.redrive_one(tx, game_id, delivery_id))
        click.echo("1 redriven.")
        return
    count = 0
    for found in redrives.redrivable(database.read(), game_id, since=first, until=last):
        count += database.write_here(partial(redrives.redrive, game_id=game_id, delivery_ids=found))
    overtaken = redrives.count_overtaken(database.read(), game_id, since=first, until=last)
    click.echo(f"{count} redriven.")
    if overtaken:
        click.echo(f"{overtaken} stay dead: a later one of the same player has overtaken each.")


@click.command("relay", cls=Command)
@click.option("--once", is_flag=True, help="Send and run what is due now and end.")
def relay(once: bool) -> None:
    """Send deliveries and run the jobs that are due, beside the web workers or in their place (COINSLOT_RELAY=off).

    SIGTERM ends it tidily from its first line of output on: claimed work is finished.
    """
    installation = current_installation()
    running = installation.new_relay()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: running.stop())
    installation.prepare()
    gc.freeze()  # what the application is made of stays; thousands of payments a second need not look through it again
    try:
        if once:
            click.echo(f"{running.drain()} attempts made.")
        else:
            click.echo("The relay runs.")
            running.run()
    finally:
        installation.database.close()


def _print_secret(game: str, name: str, secret: str) -> None:
    click.echo(
        f"Signing secret, shown this once (`flask destination rotate {game} {name}` makes a new one):\n  {secret}"
    )


def _state(row: Row) -> str:
    if row["circuit_open_since"] is not None:
        return f"down {for_time(row['down_since'])}, probed"
    reason = f" ({row['state_reason']})" if row["state_reason"] else ""
    return f"{row['state']}{reason}"


def _moment(text: str | None, option: str) -> str | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{option}: use a date or time such as 2026-01-31 or 2026-01-31T12:00") from None
    return clock.stamp((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


COMMANDS: tuple[click.Command, ...] = (destination, delivery, relay)
