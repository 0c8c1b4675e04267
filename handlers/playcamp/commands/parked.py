"""The command that lists what needs a person."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from coinslot.operations import unsettled
from coinslot.outbox import conversion_queue
from coinslot.payments import lists
from coinslot.store.db import Connection
from coinslot.store.paging import LAST_ID
from handlers.kit.console import Command, opened_game
from handlers.kit.receive import current_installation
from handlers.playcamp.commands.shared import MOST_LISTED, print_section
from handlers.playcamp.events.payload import UNREADABLE
from handlers.playcamp.events.webhooks import PARTNER
from handlers.playcamp.parked import COUPONS

# Title -> its columns, each with the name of the value in a row.
_SECTIONS = {
    "Events that cannot be converted": "event=event_id type=event_type player=player_id since=parked_at why=reason",
    "Payments that cannot be registered": "transaction=transaction_id state=state since=updated_at why=reason",
    "Refunds that PlayCamp does not take": "transaction=transaction_id since=updated_at why=reason",
    "Payments reported again with other content; the first one counts": (
        "transaction=transaction_id times=seen last=last_at why=reason"
    ),
    "Coupons that were redeemed and could not be granted": (
        "event=id usage=external_id player=player_id since=received_at"
    ),
    "Events that could not be read": "event=id player=player_id since=received_at why=reason",
    "Coupons reported again with other content; the first grant counts": (
        "usage=external_id player=player_id last=last_at"
    ),
}


@click.command("parked", cls=Command)
@click.argument("game")
@click.option("--limit", type=click.IntRange(1, MOST_LISTED), default=100, show_default=True, help="Rows of each kind.")
def parked(game: str, limit: int) -> None:
    """What of GAME's cannot go on by itself, and why: events, coupons, payments, refunds, conflicts.

    Most of it goes on by itself once the configuration knows the creator, the market or the field; a quarantined
    payment after `flask playcamp redrive`.
    """
    found = _found(current_installation().database.read(), opened_game(game).id, limit)
    for (title, columns), rows in zip(_SECTIONS.items(), found, strict=True):
        names = dict(column.split("=") for column in columns.split())
        print_section(title, tuple(names), [[_cell(row, name) for name in names.values()] for row in rows])
    if not any(found):
        click.echo("Nothing needs a person.")


def _found(connection: Connection, game_id: int, limit: int) -> list[Sequence[Any]]:
    """The rows of each section."""
    unreadable = unsettled.events_without_grant(connection, game_id, PARTNER, (UNREADABLE,), limit)
    return [
        conversion_queue.parked(connection, game_id, limit),
        [
            row
            for state in ("parked", "quarantined")
            for row in lists.page(connection, game_id, state=state, limit=limit)[0]
        ],
        lists.refused_refunds(connection, game_id, LAST_ID, limit)[0],
        lists.conflicts(connection, game_id, limit),
        unsettled.events_without_grant(connection, game_id, PARTNER, COUPONS, limit),
        [{**row, "reason": json.loads(row["data"])["reason"]} for row in unreadable],
        unsettled.conflicts(connection, game_id, PARTNER, limit),
    ]


def _cell(row: Mapping[str, Any], name: str) -> str:
    text = str(row[name] or "-")
    return text[:19] if name.endswith("_at") else text
