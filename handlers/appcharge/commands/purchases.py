"""Doing something about a purchase or a player at Appcharge."""

import click

from coinslot.base.spellings import shown
from handlers.appcharge.commands.shared import audited, checked, game_and_client
from handlers.kit.api import ApiError
from handlers.kit.console import Command


@click.command("refund", cls=Command)
@click.argument("game")
@click.argument("order_id", metavar="ORDER")
@click.option("--user", required=True, help="Who refunds, for Appcharge's records.")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
def refund(game: str, order_id: str, user: str, is_sure: bool) -> None:
    """Give the money of an ORDER back: all of it, and irreversibly."""
    order_id = checked(order_id)
    opened, client = game_and_client(game)
    if not is_sure:
        click.confirm(f"Refund order {shown(order_id, 80)} of {game} in full? This cannot be undone", abort=True)
    try:
        with audited(opened, "appcharge.refund", order_id):
            client.refund_order(order_id, user)
    except ApiError as error:
        if not error.is_uncertain:
            raise
        raise click.ClickException(
            f"{error}\nThe refund may have begun; look at the order (`flask appcharge orders`) before you try again."
        ) from None
    click.echo("Appcharge has begun the refund; how it ends comes as an event, or in `flask appcharge orders`.")


@click.command("refresh", cls=Command)
@click.argument("game")
@click.argument("player_ids", metavar="[PLAYER]...", nargs=-1)
def refresh(game: str, player_ids: tuple[str, ...]) -> None:
    """Make the open stores of these players reload them, or all open stores where none is named."""
    ids = [checked(each) for each in player_ids]
    opened, client = game_and_client(game)
    subject = f"{len(ids)} players" if ids else "everyone"
    with audited(opened, "appcharge.refresh", subject):
        if ids:
            client.refresh(ids)
        else:
            client.refresh_everyone()
    click.echo(f"Appcharge was asked to reload {subject}; only stores that are open now do.")
