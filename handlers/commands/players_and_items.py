"""``flask player`` and ``flask item``: who may receive and what there is to give, one by one or from a CSV file."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

import click

from coinslot.games import csv_files, games, registry
from coinslot.games.registry import LONGEST_ID, RegistryError, checked_id, checked_text
from coinslot.store import audit
from coinslot.store.db import Connection
from handlers.kit.console import Group
from handlers.kit.receive import current_installation


@click.group("player", cls=Group)
def player() -> None:
    """The players partners may credit."""


@player.command("add")
@click.argument("game")
@click.argument("player_id", metavar="ID")
@click.option("--name")
def add_player(game: str, player_id: str, name: str | None) -> None:
    """Register a player. One who is there already stays as is, but takes the name."""
    _add("player", _register_player, game, player_id, name)


@player.command("import")
@click.argument("game")
@click.argument("file", type=click.File("rb"))
def import_players(game: str, file: IO[bytes]) -> None:
    """Register the players of a CSV FILE (- is standard input): every line is checked first.

    Columns: player_id, name, profile_image, country, login_name, in any order under a header row, separated by commas,
    semicolons or tabs; without a header row, player_id and name, separated by a comma. UTF-8, or UTF-16 as Excel writes
    it. A player who is there already keeps what the file does not have; an empty cell counts as not there. A line that
    could be meant in two ways is refused.
    """
    database = current_installation().database
    game_id = games.find(database.read(), game)["id"]
    with _watched(file) as watch:
        done = csv_files.import_players(database, database.write_here, game_id, file, "command", watch)
    click.echo(f"imported {done.count} players ({done.new} new)")


@click.group("item", cls=Group)
def item() -> None:
    """The items partners may credit."""


@item.command("add")
@click.argument("game")
@click.argument("sku")
@click.option("--name")
def add_item(game: str, sku: str, name: str | None) -> None:
    """Register an item. One that is there already stays as is, but takes the name."""
    _add("item", registry.register_item, game, sku, name)


@item.command("import")
@click.argument("game")
@click.argument("file", type=click.File("rb"))
def import_items(game: str, file: IO[bytes]) -> None:
    """Register the items of a CSV FILE (- is standard input): every line is checked first.

    Columns: sku, name, in any order under a header row, in this order without one. An empty name leaves the name
    that is there. The file may be written as for players.
    """
    database = current_installation().database
    game_id = games.find(database.read(), game)["id"]
    with _watched(file) as watch:
        done = csv_files.import_items(database.write_here, game_id, file, "command", watch)
    click.echo(f"imported {done.count} items ({done.new} new)")


@contextmanager
def _watched(file: IO[bytes]) -> Iterator[Callable[[int], None]]:
    """A progress bar at a terminal; call what it yields with the number of bytes read."""
    size = 0  # unknown for a pipe, which gets no bar
    if file.seekable():
        start = file.tell()
        size = file.seek(0, os.SEEK_END) - start
        file.seek(start)
    is_hidden = size <= 0 or not sys.stderr.isatty()
    with click.progressbar(length=size, label="Reading", file=sys.stderr, hidden=is_hidden) as bar:
        yield bar.update


def _register_player(tx: Connection, game_id: int, player_id: str, name: str | None) -> bool:
    is_new = registry.player(tx, game_id, player_id) is None
    registry.register_player(tx, game_id, player_id, name)
    return is_new


def _add(
    kind: str, register: Callable[[Connection, int, str, str | None], bool], game: str, entry_id: str, name: str | None
) -> None:
    try:
        checked_id(entry_id)
        checked_text(name or "", LONGEST_ID)
    except ValueError as error:
        raise RegistryError(str(error)) from None

    def add(tx: Connection) -> bool:
        game_id = games.find(tx, game)["id"]
        is_new = register(tx, game_id, entry_id, name or None)
        audit.record(tx, game_id, "command", f"{kind}.add", entry_id)
        return is_new

    is_new = current_installation().database.write_here(add)
    click.echo(f"{entry_id} is registered." if is_new else f"{entry_id} was registered already.")


COMMANDS: tuple[click.Command, ...] = (player, item)
