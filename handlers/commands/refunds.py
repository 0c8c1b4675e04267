"""``flask refund``: what became of refunds and disputes, and the reversal that a person decides on."""

from functools import partial

import click

from coinslot.base import clock
from coinslot.base.spellings import shown
from coinslot.games import games
from coinslot.games.games import GameError
from coinslot.games.readers import moment_of
from coinslot.games.registry import checked_text
from coinslot.ledger import refunds
from coinslot.ledger.policies import BY_STRENGTH, Policy
from coinslot.store import audit
from coinslot.store.db import Connection, Row
from handlers.kit.console import Group, checked_option, table
from handlers.kit.receive import current_installation

LONGEST_REASON = 255
EARLIEST = "2010"


@click.group("refund", cls=Group)
def refund() -> None:
    """Refunds and disputes, and what they took back."""


@refund.command("list")
@click.argument("game")
@click.option("--all", "is_all", is_flag=True, help="Those that are settled too.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
def list_refunds(game: str, is_all: bool, limit: int) -> None:
    """Refunds that wait for their order, or name no one order; the newest first."""
    connection = current_installation().database.read()
    rows = refunds.listing(connection, games.find(connection, game)["id"], is_all, limit)
    if not rows:
        click.echo("None." if is_all else "None waits for its order or for a person.")
        return
    head = ("id", "when", "partner", "what", "outcome", "names order", "player", "is of order")
    click.echo(table([head, *(_cells(row) for row in rows)]))


@refund.command("reverse")
@click.argument("game")
@click.argument("order")
@click.option("--partner", default="appcharge", show_default=True)
@click.option("--policy", type=click.Choice(BY_STRENGTH), default="revoke", show_default=True)
@click.option("--at", metavar="TIME", help="When the money went back, such as 2026-07-20T10:00:00Z; default: now.")
@click.option("--reason", required=True, help="For the records; the game is not told.")
def reverse(game: str, order: str, partner: str, policy: str, at: str | None, reason: str) -> None:
    """Take back what ORDER gave, because you say so. The game reads a reversal, once."""
    reason = checked_option("--reason", partial(checked_text, longest=LONGEST_REASON), reason)
    occurred_at = None if at is None else _moment(at)

    def take_back(tx: Connection) -> int:
        game_id = games.find(tx, game)["id"]
        transaction = refunds.purchase(tx, game_id, partner, order)
        if transaction is None:
            raise GameError(f"{partner} has reported no order {order} of {game} that was credited")
        grant_id = refunds.reverse(tx, transaction, Policy.always(policy), reason, occurred_at)
        if grant_id is None:
            raise GameError(f"order {order} was taken back already")
        audit.record(tx, game_id, "command", "order.reverse", f"{partner} {order}: {policy}")
        return grant_id

    grant_id = current_installation().database.write_here(take_back)
    click.echo(f"Order {order} is taken back: grant {grant_id}, policy {policy}.")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        str(row["id"]),
        (row["occurred_at"] or row["created_at"])[:19],
        row["partner"],
        row["reason"] + (" (test)" if row["is_test"] else ""),
        row["outcome"],
        *(shown(row[name] or "-", 40) for name in ("named", "player_id", "reference")),
    )


def _moment(text: str) -> str:
    """A stamp. Raises click.ClickException for a text that is no time, or none that has been."""
    at = moment_of(text)
    if at is None:
        raise click.ClickException("--at: write it as 2026-07-20T10:00:00Z")
    if not EARLIEST <= at <= clock.stamp():
        raise click.ClickException("--at: it lies in the future, or before 2010")
    return at


COMMANDS: tuple[click.Command, ...] = (refund,)
