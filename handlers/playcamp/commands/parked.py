"""What waits for a person."""

import json

import click

from coinslot.operations import unsettled
from coinslot.outbox import conversion_queue
from coinslot.payments import lists
from handlers.kit.console import Command, opened_game
from handlers.kit.receive import current_installation
from handlers.playcamp.commands.shared import MOST_LISTED, print_section
from handlers.playcamp.events.payload import UNREADABLE
from handlers.playcamp.events.webhooks import PARTNER
from handlers.playcamp.parked import COUPONS


@click.command("parked", cls=Command)
@click.argument("game")
@click.option("--limit", type=click.IntRange(1, MOST_LISTED), default=100, show_default=True, help="Rows of each kind.")
def parked(game: str, limit: int) -> None:
    """What of GAME's cannot go on by itself, and why: events, coupons, payments, refunds, conflicts.

    Most of it goes on by itself once the configuration knows the creator, the market or the field; a quarantined
    payment after `flask playcamp redrive`.
    """
    opened = opened_game(game)
    connection = current_installation().database.read()
    events = [
        (str(row["event_id"]), row["event_type"], row["player_id"], row["parked_at"][:19], row["reason"] or "")
        for row in conversion_queue.parked(connection, opened.id, limit)
    ]
    rows = [
        *lists.listing(connection, opened.id, "parked", None, limit),
        *lists.listing(connection, opened.id, "quarantined", None, limit),
    ]
    refunds = lists.stuck_refunds(connection, opened.id, limit)
    conflicts = lists.conflicts(connection, opened.id, limit)
    print_section("Events that cannot be converted", ("event", "type", "player", "since", "why"), events)
    print_section(
        "Payments that cannot be registered",
        ("transaction", "state", "since", "why"),
        [(row["transaction_id"], row["state"], row["updated_at"][:19], row["reason"] or "") for row in rows],
    )
    print_section(
        "Refunds that PlayCamp does not take",
        ("transaction", "since", "why"),
        [(row["transaction_id"], row["updated_at"][:19], row["reason"] or "") for row in refunds],
    )
    print_section(
        "Payments reported again with other content; the first one stands",
        ("transaction", "times", "last", "why"),
        [(row["transaction_id"], str(row["seen"]), row["last_at"][:19], row["reason"] or "") for row in conflicts],
    )
    coupons = unsettled.events_without_grant(connection, opened.id, PARTNER, COUPONS, limit)
    unreadable = unsettled.events_without_grant(connection, opened.id, PARTNER, (UNREADABLE,), limit)
    twice = unsettled.conflicts(connection, opened.id, PARTNER, limit)
    print_section(
        "Coupons that were redeemed and could not be granted",
        ("event", "usage", "player", "since"),
        [
            (str(row["id"]), row["external_id"] or "-", row["player_id"] or "-", row["received_at"][:19])
            for row in coupons
        ],
    )
    print_section(
        "Events that could not be read",
        ("event", "player", "since", "why"),
        [
            (str(row["id"]), row["player_id"] or "-", row["received_at"][:19], json.loads(row["data"])["reason"])
            for row in unreadable
        ],
    )
    print_section(
        "Coupons reported again with other content; the first grant stands",
        ("usage", "player", "last"),
        [(row["external_id"], row["player_id"], row["last_at"][:19]) for row in twice],
    )
    if not (events or rows or refunds or conflicts or coupons or unreadable or twice):
        click.echo("Nothing waits for a person.")
