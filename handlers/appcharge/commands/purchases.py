"""Doing something about a purchase or a player at Appcharge."""

from functools import partial

import click

from coinslot.base.spellings import shown
from coinslot.games.registry import checked_text
from coinslot.ledger import refunds
from coinslot.ledger.refund_requests import REFUSED, UNKNOWN
from handlers.appcharge.commands.shared import audited, checked, game_and_client
from handlers.appcharge.receive import PARTNER
from handlers.kit import refunding
from handlers.kit.api import is_header
from handlers.kit.console import Command, checked_option, opened_game
from handlers.kit.receive import current_installation, partners

LONGEST_REASON = 255


@click.command("refund", cls=Command)
@click.argument("game")
@click.argument("order_id", metavar="ORDER")
@click.option("--user", required=True, help="Who refunds, for Appcharge's records.")
@click.option("--reason", default="", help="For your own records.")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
def refund(game: str, order_id: str, user: str, reason: str, is_sure: bool) -> None:
    """Give the money of an ORDER back: all of it, and irreversibly. An order is asked about once."""
    order_id = checked(order_id)
    reason = checked_option("--reason", partial(checked_text, longest=LONGEST_REASON), reason) if reason else ""
    if not is_header(user):
        raise click.BadParameter("use printable ASCII characters without blanks", param_hint="--user")
    opened = opened_game(game)
    installation = current_installation()
    partner = next(each for each in partners() if each.name == PARTNER)
    order = refunds.purchase(installation.database.read(), opened.id, PARTNER, order_id)
    if not is_sure:
        click.confirm(f"Refund order {shown(order_id, 80)} of {game} in full? This cannot be undone", abort=True)
    state, detail = refunding.send(
        *(installation, opened, partner, order_id),
        actor="command",
        who=user,
        reason=reason,
        transaction_id=None if order is None else order["id"],
        environment=None if order is None else order["environment"],
    )
    if state == REFUSED:
        raise click.ClickException(detail)
    if state == UNKNOWN:
        raise click.ClickException(
            f"{detail}\nThe refund may have begun. It is not sent again: Appcharge's event or its report decides, and "
            "`flask doctor` names it until then."
        )
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
