"""What the commands about PlayCamp share."""

import functools
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import click

from coinslot.base.spellings import shown
from coinslot.games.games import Game, GameError
from coinslot.relay.jobs import JobError
from coinslot.store import audit
from handlers.kit.api import ApiError
from handlers.kit.console import table
from handlers.kit.errors import in_words
from handlers.kit.receive import installation
from handlers.playcamp.payments.game_answer import SourceError

MOST_LISTED = 1000
LONGEST_CELL = 100
P = ParamSpec("P")
R = TypeVar("R")


def told(command: Callable[P, R]) -> Callable[P, R]:
    """For every command here: what PlayCamp or the game refuses, in words like all other trouble."""

    @functools.wraps(command)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ApiError, JobError, SourceError) as error:
            raise click.ClickException(str(error)) from None

    return in_words(inner)


def opened_game(slug: str) -> Game:
    game = installation().games.by_slug(slug)
    if game is None:
        raise GameError(f"there is no game {slug}")
    return game


def note(game: Game, action: str, subject: str) -> None:
    installation().database.write_here(lambda tx: audit.record(tx, game.id, "command", action, subject))


def print_section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        click.echo(f"{title}:")
        click.echo(table([tuple(head), *(tuple(shown(cell, 300) for cell in row) for row in rows)], indent="  "))
