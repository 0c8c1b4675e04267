"""``flask playcamp``: payment history, calls before publishing, webhook registrations, what waits for a person.

Players' ids and PlayCamp's own words are shown; keys, signing secrets and rows never are.
"""

import click

from handlers.kit.console import Group
from handlers.playcamp.commands import parked, payments, setup


@click.group("playcamp", cls=Group)
def playcamp() -> None:
    """PlayCamp: payment history, verification, webhooks, what waits for a person."""


for each in (
    payments.backfill,
    payments.try_payments,
    setup.verify,
    setup.webhooks,
    parked.parked,
    payments.list_payments,
    payments.redrive,
):
    playcamp.add_command(each)

COMMANDS: tuple[click.Command, ...] = (playcamp,)
