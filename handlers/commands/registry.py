"""``flask player`` and ``flask item``: who may receive and what there is to give, one by one or from a CSV file."""

import csv
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from itertools import chain
from typing import IO

import click
from flask.cli import with_appcontext

from coinslot import audit, games, imports, registry
from coinslot.db import Connection
from coinslot.games import web_address
from coinslot.registry import RegistryError, checked_id, checked_text
from handlers import installation
from handlers.console import shown
from handlers.trouble import in_words

LONGEST_LINE = 64 * 1024  # bytes
ERRORS_TOLD = 20

Check = Callable[[str], str]


def _name(value: str) -> str:
    return checked_text(value, registry.LONGEST_ID)


def _country(value: str) -> str:
    if not re.fullmatch("[A-Za-z]{2}", value):
        raise ValueError("use two letters (ISO 3166-1)")
    return value.upper()


# Column of the file -> column of the registry and the check of its cells. The id's come first.
PLAYER_COLUMNS: Mapping[str, tuple[str, Check]] = {
    "player_id": ("id", checked_id),
    "id": ("id", checked_id),
    "name": ("name", _name),
    "profile_image": ("profile_image", web_address),
    "country": ("country", _country),
    "login_name": ("login_name", _name),
}
ITEM_COLUMNS: Mapping[str, tuple[str, Check]] = {
    "sku": ("id", checked_id),
    "id": ("id", checked_id),
    "name": ("name", _name),
}


@click.group("player")
def player() -> None:
    """The players partners may credit."""


@player.command("add")
@click.argument("game")
@click.argument("player_id", metavar="ID")
@click.option("--name")
@with_appcontext
@in_words
def add_player(game: str, player_id: str, name: str | None) -> None:
    """Register a player. One who is there already stays as is, but takes the name."""
    checked = _checked_entry(player_id, name)

    def add(tx: Connection) -> bool:
        game_id = games.find(tx, game)["id"]
        is_new = registry.player(tx, game_id, player_id) is None
        registry.register_player(tx, game_id, player_id, checked.get("name"))
        audit.record(tx, game_id, "command", "player.add", player_id)
        return is_new

    is_new = installation().database.write_here(add)
    click.echo(f"{player_id} is registered." if is_new else f"{player_id} was registered already.")


@player.command("import")
@click.argument("game")
@click.argument("file", type=click.File("rb"))
@with_appcontext
@in_words
def import_players(game: str, file: IO[bytes]) -> None:
    """Register the players of a CSV FILE (- is standard input), all of them or none.

    Columns: player_id, name, profile_image, country, login_name, in any order under a header row; without one,
    player_id and name. A player who is there already keeps what the file does not have; an empty cell counts as
    not there.
    """
    database = installation().database
    game_id = games.find(database.read(), game)["id"]
    with closing(imports.staging()) as staged:
        errors = Errors()
        _stage_file(staged, file, PLAYER_COLUMNS, errors)
        for line, login_name in imports.staged_login_names_taken(database.read(), game_id, staged):
            errors.note(line, f"login_name {login_name} belongs to another player")
        errors.refuse_if_any()
        count = imports.portion(staged)

        def store(tx: Connection) -> int:
            new = imports.import_players(tx, game_id, staged)
            audit.record(tx, game_id, "command", "player.import", f"{count} players ({new} new)")
            return new

        new = database.write_here(store)
    click.echo(f"imported {count} players ({new} new)")


@click.group("item")
def item() -> None:
    """The items partners may credit."""


@item.command("add")
@click.argument("game")
@click.argument("sku")
@click.option("--name")
@with_appcontext
@in_words
def add_item(game: str, sku: str, name: str | None) -> None:
    """Register an item. One that is there already stays as is, but takes the name."""
    checked = _checked_entry(sku, name)
    with closing(imports.staging()) as staged:
        imports.stage(staged, 1, checked)
        imports.portion(staged)

        def add(tx: Connection) -> int:
            game_id = games.find(tx, game)["id"]
            new = imports.import_items(tx, game_id, staged)
            audit.record(tx, game_id, "command", "item.add", sku)
            return new

        is_new = installation().database.write_here(add) > 0
    click.echo(f"{sku} is registered." if is_new else f"{sku} was registered already.")


@item.command("import")
@click.argument("game")
@click.argument("file", type=click.File("rb"))
@with_appcontext
@in_words
def import_items(game: str, file: IO[bytes]) -> None:
    """Register the items of a CSV FILE (- is standard input), all of them or none.

    Columns: sku, name, in any order under a header row, in this order without one. An empty name leaves the name
    that is there.
    """
    database = installation().database
    game_id = games.find(database.read(), game)["id"]
    with closing(imports.staging()) as staged:
        errors = Errors()
        _stage_file(staged, file, ITEM_COLUMNS, errors)
        errors.refuse_if_any()
        count = imports.portion(staged)

        def store(tx: Connection) -> int:
            new = imports.import_items(tx, game_id, staged)
            audit.record(tx, game_id, "command", "item.import", f"{count} items ({new} new)")
            return new

        new = database.write_here(store)
    click.echo(f"imported {count} items ({new} new)")


class Errors:
    """What is wrong with a file, by line: the first of them in words, the others counted."""

    def __init__(self) -> None:
        self._told: list[str] = []
        self._count = 0

    def note(self, line: int, message: str) -> None:
        self._count += 1
        if len(self._told) < ERRORS_TOLD:
            self._told.append(f"line {line}: {message}")

    def refuse_if_any(self) -> None:
        if self._count:
            more = self._count - len(self._told)
            told = [*self._told, f"and {more} more"] if more else self._told
            raise RegistryError("\n".join(["nothing was imported", *told]))


class UnreadableError(Exception):
    """From this line on the file makes no sense."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def _stage_file(staged: Connection, file: IO[bytes], columns: Mapping[str, tuple[str, Check]], errors: Errors) -> None:
    """Stage every row that is good, note every one that is not."""
    records = _records(file)
    header: list[str] | None = None
    try:
        for line, cells in records:
            if _is_header(cells, columns):
                header = _header(line, cells, columns)
            else:
                records = chain([(line, cells)], records)
            break
        for line, cells in records:
            try:
                imports.stage(staged, line, _row(cells, header, columns))
            except (ValueError, RegistryError) as error:
                errors.note(line, str(error))
    except UnreadableError as error:
        errors.note(error.line, str(error))


def _header(line: int, cells: list[str], columns: Mapping[str, tuple[str, Check]]) -> list[str]:
    """The registry's column for each cell of a header row. Raises :class:`UnreadableError`."""
    names = [cell.strip().lower() for cell in cells]
    if unknown := [shown(cell, 40) for cell, name in zip(cells, names, strict=True) if name not in columns]:
        known = ", ".join(columns)
        raise UnreadableError(line, f"unknown column {', '.join(unknown)}; there are {known}, separated by commas")
    header = [columns[name][0] for name in names]
    if len(set(header)) < len(header):
        raise UnreadableError(line, "a column is there twice")
    if "id" not in header:
        raise UnreadableError(line, f"the column {next(iter(columns))} is missing")
    return header


def _is_header(cells: list[str], columns: Mapping[str, tuple[str, Check]]) -> bool:
    # A header with semicolons or tabs counts too, so that it is refused instead of becoming a strange id.
    return re.split(r"[;\t]", cells[0])[0].strip().lower() in columns


def _row(cells: list[str], header: list[str] | None, columns: Mapping[str, tuple[str, Check]]) -> dict[str, str]:
    """The cells by the registry's column, without the empty ones. Raises ValueError."""
    if header is None and len(cells) > 2:
        raise ValueError(f"{len(cells)} columns; without a header row there are an id and a name")
    if header is not None and len(cells) != len(header):
        raise ValueError(f"{len(cells)} columns, and {len(header)} in the header row")
    checks = dict(columns.values())
    row = {}
    for column, cell in zip(header or ["id", "name"], cells, strict=False):
        if cell or column == "id":
            try:
                row[column] = checks[column](cell)
            except ValueError as error:
                raise ValueError(f"{column}: {error}") from None
    return row


def _records(file: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV file with the line each begins on, blank lines left out. Raises :class:`UnreadableError`."""
    begins = 1
    with closing(_lines(file)) as lines:
        reader = csv.reader(lines, strict=True)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise UnreadableError(begins, f"not CSV: {error}") from None
            if cells:
                yield begins, cells
            begins = reader.line_num + 1


def _lines(file: IO[bytes]) -> Generator[str, None, None]:
    """The lines of a UTF-8 file, with or without a byte order mark, and a progress bar where somebody watches."""
    size = 0  # of a pipe nobody knows it, hence no bar
    if file.seekable():
        start = file.tell()
        size = file.seek(0, os.SEEK_END) - start
        file.seek(start)
    is_hidden = size <= 0 or not sys.stderr.isatty()
    with click.progressbar(length=size, label="Reading", file=sys.stderr, hidden=is_hidden) as bar:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise UnreadableError(number, f"longer than {LONGEST_LINE} bytes")
            if b"\0" in line:
                raise UnreadableError(number, "holds a NUL character")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                yield line.decode()
            except UnicodeDecodeError:
                raise UnreadableError(number, "not UTF-8") from None
            bar.update(len(line))


def _checked_entry(entry_id: str, name: str | None) -> dict[str, str]:
    """The id and, if there is one, the name, as :func:`imports.stage` takes them."""
    try:
        return {"id": checked_id(entry_id)} | ({"name": _name(name)} if name else {})
    except ValueError as error:
        raise RegistryError(str(error)) from None


COMMANDS: tuple[click.Command, ...] = (player, item)
