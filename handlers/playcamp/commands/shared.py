"""What the commands about PlayCamp share."""

from collections.abc import Sequence

import click

from coinslot.base.spellings import shown
from coinslot.games.games import Game
from coinslot.relay.jobs import JobError
from coinslot.store import audit
from handlers.kit.api import ApiError
from handlers.kit.console import table
from handlers.kit.errors import also_in_words
from handlers.kit.receive import current_installation
from handlers.playcamp.payments.game_answer import SourceError

MOST_LISTED = 1000
LONGEST_CELL = 100

errors_in_words = also_in_words(ApiError, JobError, SourceError)


def note(game: Game, action: str, subject: str) -> None:
    current_installation().database.write_here(lambda tx: audit.record(tx, game.id, "command", action, subject))


def print_section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        click.echo(f"{title}:")
        click.echo(table([tuple(head), *(tuple(shown(cell, 300) for cell in row) for row in rows)], indent="  "))
