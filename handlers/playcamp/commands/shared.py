"""What the commands about PlayCamp share."""

from collections.abc import Sequence

import click

from coinslot.base.spellings import shown
from coinslot.games.games import Game
from coinslot.store import audit
from handlers.kit.console import table
from handlers.kit.receive import current_installation

MOST_LISTED = 1000
LONGEST_CELL = 100


def note(game: Game, action: str, subject: str) -> None:
    """Record in the audit log that a command did this."""
    current_installation().database.write_here(lambda tx: audit.record(tx, game.id, "command", action, subject))


def print_section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table under its title; nothing where there are no rows."""
    if rows:
        click.echo(f"{title}:")
        click.echo(table([tuple(head), *(tuple(shown(cell, 300) for cell in row) for row in rows)], indent="  "))
