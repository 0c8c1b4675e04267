"""Importing players and items from a CSV file: every line is checked before any is stored.

Faults are listed by line, twenty at most.
"""

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Any

from coinslot.base import csv_separator, csv_text, spellings
from coinslot.games import imports, registry
from coinslot.games.options import web_address
from coinslot.games.registry import RegistryError, checked_id, checked_text
from coinslot.store import audit, portions
from coinslot.store.db import Connection, Database

MOST_LISTED = 20

Check = Callable[[str], str]
Watch = csv_text.Watch


def _name(value: str) -> str:
    return checked_text(value, registry.LONGEST_ID)


def _country(value: str) -> str:
    if not re.fullmatch("[A-Za-z]{2}", value):
        raise ValueError("use two letters (ISO 3166-1)")
    return value.upper()


IGNORED = "ignored"  # in a list that was exported here
SURE_COMMENTS = ("# ", "//")  # an id may begin with #


class Columns:
    """The names that a file may give its columns. The first name of each is the one we write."""

    def __init__(self, **named: tuple[Check, str]) -> None:
        """The registry's column -> the check of its cells, and its names separated by blanks."""
        self.checks = {column: check for column, (check, _) in named.items()}
        self.names = {column: names.split() for column, (_, names) in named.items()}
        self._by_plain_name = {_plain(name): column for column, names in self.names.items() for name in names}

    def named(self, cell: str) -> str | None:
        """The registry's column with this name; ``Player ID``, ``playerId`` and ``player_id`` are the same."""
        return self._by_plain_name.get(_plain(cell))


def _plain(cell: str) -> str:
    return re.sub(r"[\W_]", "", cell).lower()


PLAYERS = Columns(
    id=(checked_id, "player_id player user_id user uid id"),
    name=(_name, "name player_name display_name nickname"),
    profile_image=(web_address, "profile_image avatar"),
    country=(_country, "country country_code"),
    login_name=(_name, "login_name login"),
    ignored=(_name, "created_at updated_at"),
)
ITEMS = Columns(
    id=(checked_id, "sku item_id item_sku item product_id id"),
    name=(_name, "name item_name product_name title"),
    ignored=(_name, "created_at updated_at"),
)
# A cell of nothing but these words is the name of a column, perhaps of none of ours.
HEADER_WORDS = frozenset(
    "id ids identifier uid uuid usn number no key name names nickname display title description player players user "
    "username login account email e mail item items sku product country code image avatar picture profile level "
    "created updated at date time type price amount quantity status".split()
)

Write = Callable[[Callable[[Connection], Any]], Any]  # Database.write, or write_here


@dataclass(frozen=True)
class Imported:
    count: int
    new: int


def import_players(
    database: Database, write: Write, game_id: int, file: IO[bytes], actor: str, watch: Watch = lambda size: None
) -> Imported:
    """Columns: player_id, name, profile_image, country, login_name, in any order under a header row; without one,
    player_id and name. A registered player keeps what the file does not have, or has as an empty cell. ``watch`` is
    called with the number of bytes read. Raises :class:`RegistryError`, and then nothing was stored.
    """
    with closing(imports.staging()) as staged:
        errors = Errors()
        _stage_file(staged, file, PLAYERS, errors, watch)
        for line, login_name in imports.staged_login_names_taken(database.read(), game_id, staged):
            errors.note(line, f"login_name {login_name} belongs to another player")
        errors.refuse_if_any()
        return _store(write, game_id, staged, imports.import_players, actor, "player")


def import_items(write: Write, game_id: int, file: IO[bytes], actor: str, watch: Watch = lambda size: None) -> Imported:
    """Columns: sku, name, in any order under a header row, in this order without one. An empty name changes nothing.
    Otherwise like :func:`import_players`.
    """
    with closing(imports.staging()) as staged:
        errors = Errors()
        _stage_file(staged, file, ITEMS, errors, watch)
        errors.refuse_if_any()
        return _store(write, game_id, staged, imports.import_items, actor, "item")


def _store(
    write: Write,
    game_id: int,
    staged: Connection,
    store: Callable[[Connection, int, Connection, int], int],
    actor: str,
    what: str,
) -> Imported:
    """Store the staged rows in portions, so that others may write in between, and note it in the audit."""
    count = imports.portion(staged)
    new = sum(portions.write_each(write, imports.numbers(staged), lambda tx, each: store(tx, game_id, staged, each)))
    write(lambda tx: audit.record(tx, game_id, actor, f"{what}.import", f"{count} {what}s ({new} new)"))
    return Imported(count, new)


class Errors:
    """The faults of a file: the first in words, the others counted."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._others = 0

    def note(self, line: int, message: str) -> None:
        if len(self._first) < MOST_LISTED:
            self._first.append(f"line {line}: {message}")
        else:
            self._others += 1

    def refuse_if_any(self) -> None:
        if self._first:
            others = [f"and {self._others} more"] if self._others else []
            raise RegistryError("\n".join(["nothing was imported", *self._first, *others]))


def _stage_file(staged: Connection, file: IO[bytes], columns: Columns, errors: Errors, watch: Watch) -> None:
    """Stage every good row, and note the fault of every other."""
    try:
        with csv_text.table(file, watch) as table:
            header: list[str] | None = None
            for record in table.records:
                try:
                    if header is None and _is_header(record.cells, columns):
                        header = _header(record, columns)
                        continue
                    header = header or []
                    row = _row(record, header, columns) if header else _bare_row(record, table, columns)
                    imports.stage(staged, record.line, row)
                except (ValueError, RegistryError) as error:
                    errors.note(record.line, str(error))
    except csv_text.UnreadableError as error:
        errors.note(error.line, str(error))


def _header(record: csv_text.Record, columns: Columns) -> list[str]:
    """The registry's column for each cell of a header row. Raises UnreadableError."""
    cells = _without_empty_ends(record.cells, 1)
    header = [column for cell in cells if (column := columns.named(cell)) is not None]
    if unknown := [spellings.shown(cell, 40) for cell in cells if columns.named(cell) is None]:
        known = ", ".join(names[0] for column, names in columns.names.items() if column != IGNORED)
        message = f"unknown column {', '.join(unknown)}; there are {known}. If this row is no header, put one above it"
        raise csv_text.UnreadableError(record.line, message)
    wanted = [column for column in header if column != IGNORED]
    if len(set(wanted)) < len(wanted):
        raise csv_text.UnreadableError(record.line, "a column is there twice")
    if "id" not in header:
        raise csv_text.UnreadableError(record.line, f"the column {columns.names['id'][0]} is missing")
    return header


def _is_header(cells: list[str], columns: Columns) -> bool:
    """Whether a cell of the first row is the name of a column, ours or not. A wrong no would store it as a player."""
    return any(columns.named(cell) or ((words := _words(cell)) and words <= HEADER_WORDS) for cell in cells)


def _row(record: csv_text.Record, header: list[str], columns: Columns) -> dict[str, str]:
    """The cells by the registry's column, without the empty ones. Raises ValueError."""
    cells = _without_empty_ends(record.cells, len(header))
    is_odd = len(header) == 1 and csv_separator.of(record.text) in (";", "\t")
    is_whole = len(cells) == len(header) and not is_odd
    if record.text.startswith(SURE_COMMENTS) or (not is_whole and record.text.startswith(csv_text.COMMENTS)):
        raise ValueError("looks like a comment; leave it out, or put the id in quotes")
    if not is_whole:
        count = "several" if is_odd else len(cells)
        raise ValueError(f"{count} columns, and {len(header)} in the header row")
    if len(cells) > 1 and all(map(columns.named, cells)):
        raise ValueError("looks like a header row; leave out the lines above it")
    row = {}
    for column, cell in zip(header, cells, strict=True):
        if column != IGNORED and (cell or column == "id"):
            try:
                row[column] = columns.checks[column](csv_text.read(cell))
            except ValueError as error:
                raise ValueError(f"{column}: {error}") from None
    return row


def _bare_row(record: csv_text.Record, table: csv_text.Table, columns: Columns) -> dict[str, str]:
    """Id and name of a row in a file without a header row. Raises ValueError for a row that may mean something else."""
    if table.comments:
        message = "looks like a comment; leave it out, or add a header row below it"
        raise csv_text.UnreadableError(table.comments[0], message)
    cells = _without_empty_ends(record.cells, 1)
    if not table.is_declared and csv_separator.of(record.text) != ",":
        raise ValueError("columns are separated by another sign than a comma; add a header row")
    if record.text.startswith(csv_text.COMMENTS):
        raise ValueError("looks like a comment; leave it out, or add a header row")
    if record.text.lstrip().startswith(("[", "{", "<")):
        raise ValueError("looks like JSON or HTML; add a header row if it is an id")
    if len(cells) > 2:
        raise ValueError(f"{len(cells)} columns; without a header row there are an id and a name")
    return _row(record, ["id", "name"][: len(cells)], columns)


def _without_empty_ends(cells: list[str], least: int) -> list[str]:
    """The cells without empty ones at the end, which spreadsheets add; at least ``least`` cells."""
    count = len(cells)
    while count > least and not cells[count - 1]:
        count -= 1
    return cells[:count]


def _words(cell: str) -> set[str]:
    """``playerId`` and ``Player ID`` are the words player and id."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W_]+", cell)}
