"""``flask appcharge``: what the store sells, what was paid, refunds, and reloading players in open stores."""

import click

from handlers.appcharge.commands import catalogue, purchases, reports
from handlers.kit.console import Group


@click.group("appcharge", cls=Group)
def appcharge() -> None:
    """Appcharge's own API: the store's catalogue, its reports, refunds."""


for each in (
    catalogue.offers,
    catalogue.items,
    catalogue.price_points,
    reports.transactions,
    reports.orders,
    purchases.refund,
    purchases.refresh,
):
    appcharge.add_command(each)

COMMANDS: tuple[click.Command, ...] = (appcharge,)
