"""Players and items out of a CSV file: every line is checked before the first is stored; that is done in portions.

What is wrong is told by line, twenty lines of it at most.
"""

import csv
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any

from coinslot import audit, imports, portions, registry
from coinslot.db import Connection, Database
from coinslot.games import web_address
from coinslot.registry import RegistryError, checked_id, checked_text

LONGEST_LINE = 64 * 1024  # bytes
ERRORS_TOLD = 20

Check = Callable[[str], str]
Watch = Callable[[int], None]


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

Write = Callable[[Callable[[Connection], Any]], Any]  # Database.write, or write_here


@dataclass(frozen=True)
class Imported:
    count: int
    new: int


def import_players(
    database: Database, write: Write, game_id: int, file: IO[bytes], actor: str, watch: Watch = lambda size: None
) -> Imported:
    """Columns: player_id, name, profile_image, country, login_name, in any order under a header row; without one,
    player_id and name. A player who is there already keeps what the file does not have; an empty cell counts as not
    there. ``watch`` hears how many bytes were read. Raises :class:`RegistryError`, and then nothing was stored.
    """
    with closing(imports.staging()) as staged:
        errors = Errors()
        _stage_file(staged, file, PLAYER_COLUMNS, errors, watch)
        for line, login_name in imports.staged_login_names_taken(database.read(), game_id, staged):
            errors.note(line, f"login_name {login_name} belongs to another player")
        errors.refuse_if_any()
        return _store(write, game_id, staged, imports.import_players, actor, "player")


def import_items(write: Write, game_id: int, file: IO[bytes], actor: str, watch: Watch = lambda size: None) -> Imported:
    """Columns: sku, name, in any order under a header row, in this order without one. An empty name leaves the name
    that is there. Otherwise like :func:`import_players`.
    """
    with closing(imports.staging()) as staged:
        errors = Errors()
        _stage_file(staged, file, ITEM_COLUMNS, errors, watch)
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
    """Store what is staged in portions, so that others may write in between; then the audit says so."""
    count = imports.portion(staged)
    new = sum(portions.write_each(write, imports.numbers(staged), lambda tx, each: store(tx, game_id, staged, each)))
    write(lambda tx: audit.record(tx, game_id, actor, f"{what}.import", f"{count} {what}s ({new} new)"))
    return Imported(count, new)


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


def _stage_file(
    staged: Connection, file: IO[bytes], columns: Mapping[str, tuple[str, Check]], errors: Errors, watch: Watch
) -> None:
    """Stage every row that is good, note every one that is not."""
    records = _records(file, watch)
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
    if unknown := [_shown(cell) for cell, name in zip(cells, names, strict=True) if name not in columns]:
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


def _records(file: IO[bytes], watch: Watch) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV file with the line each begins on, blank lines left out. Raises :class:`UnreadableError`."""
    begins = 1
    with closing(_lines(file, watch)) as lines:
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


def _lines(file: IO[bytes], watch: Watch) -> Generator[str, None, None]:
    """The lines of a UTF-8 file, with or without a byte order mark."""
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
        watch(len(line))


def _shown(cell: str, longest: int = 40) -> str:
    line = "".join(character if character.isprintable() else "\N{MIDDLE DOT}" for character in cell[: longest + 1])
    return line if len(line) <= longest else line[: longest - 1] + "…"
