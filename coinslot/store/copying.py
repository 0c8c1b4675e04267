"""All rows of a database, copied into an empty one of either engine, and two databases compared row by row.

Both engines are made from ``schema.sql``, give the same Python values, and order texts by code point. So a row is a
tuple that can be copied and compared as it is. Columns that are computed are left out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from itertools import zip_longest
from typing import Any, TypeAlias

from coinslot.store import engine
from coinslot.store.db import Connection, IntegrityError
from coinslot.store.sqlite import creation_script

PORTION = 1000  # rows that are in memory at a time

Values: TypeAlias = tuple[Any, ...]
AfterPortion: TypeAlias = Callable[[int, int], None]  # rows left, of how many


@dataclass(frozen=True)
class Table:
    """A table of ``schema.sql``: the columns that are stored, and the primary key."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


@cache
def tables() -> tuple[Table, ...]:
    """Every table, after those that its foreign keys refer to.

    Rows that refer to rows of their own table are in any order. PostgreSQL looks at foreign keys at the end of a
    statement, so one statement must insert a whole table. Raises ``graphlib.CycleError`` for a schema in which tables
    refer to one another in a circle.
    """
    with closing(engine.private()) as fresh:
        fresh.executescript(creation_script())
        names = [row[0] for row in fresh.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
        found, parents = {}, {}
        for name in names:
            info = fresh.execute(f"PRAGMA table_xinfo({name})").fetchall()
            key = {row["pk"]: row["name"] for row in info if row["pk"]}
            columns = tuple(row["name"] for row in info if not row["hidden"])
            found[name] = Table(name, columns, tuple(key[place] for place in sorted(key)))
            parents[name] = {row["table"] for row in fresh.execute(f"PRAGMA foreign_key_list({name})")} - {name}
    return tuple(found[name] for name in TopologicalSorter(parents).static_order())


def portions(connection: Connection, table: Table) -> Iterator[list[Values]]:
    """The rows of a table in the order of its primary key, some at a time."""
    names, key = ", ".join(table.columns), ", ".join(table.key)
    places = [table.columns.index(column) for column in table.key]
    after = ", ".join(f":{column}" for column in table.key)
    first = f"SELECT {names} FROM {table.name} ORDER BY {key} LIMIT {PORTION}"  # noqa: S608  our own words only
    next_ones = f"SELECT {names} FROM {table.name} WHERE ({key}) > ({after}) ORDER BY {key} LIMIT {PORTION}"  # noqa: S608
    sql = first
    values: dict[str, Any] = {}
    while rows := [tuple(row) for row in connection.execute(sql, values).fetchall()]:
        yield rows
        sql, values = next_ones, {column: rows[-1][place] for column, place in zip(table.key, places, strict=True)}


def counts(connection: Connection) -> dict[str, int]:
    """How many rows each table holds."""
    return {
        table.name: connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]  # noqa: S608
        for table in tables()
    }


def copy(
    source: Connection,
    insert: Callable[[Table, Iterator[Values]], None],
    after_portion: AfterPortion = lambda left, total: None,
) -> dict[str, int]:
    """Give every table's rows to ``insert``, table by table; returns how many rows each has.

    ``source`` must show one state of its database meanwhile. ``insert`` must take all rows of a table in one call.
    """
    total = left = sum(counts(source).values())
    copied: dict[str, int] = {}

    def rows(table: Table) -> Iterator[Values]:
        nonlocal left
        for portion in portions(source, table):
            yield from portion
            copied[table.name] += len(portion)
            left -= len(portion)
            after_portion(left, total)

    for table in tables():
        copied[table.name] = 0
        insert(table, rows(table))
    return copied


def differences(left: Connection, right: Connection, names: Sequence[str]) -> Iterator[str]:
    """Compare two databases, which ``names`` calls, row by row; yields one sentence per table that differs.

    Values are in no sentence.
    """
    for table in tables():
        pairs = zip_longest(_rows(left, table), _rows(right, table))
        for number, (ours, theirs) in enumerate(pairs, start=1):
            if ours != theirs:
                yield f"{table.name}: row {number:,} is not the same in {names[0]} and in {names[1]}"
                break


def fill_file(
    connection: Connection, source: Connection, after_portion: AfterPortion = lambda left, total: None
) -> dict[str, int]:
    """Make a new SQLite file out of all rows of ``source``; ``connection`` is to an empty file.

    Returns how many rows each table has. Raises sqlite3.IntegrityError for a row that refers to none.
    """
    # Nobody uses the file before it is whole, and who made it brings it to the disk. Foreign keys are looked at once,
    # in the end: that is faster, and rows may refer to later rows of their own table.
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.executescript(f"BEGIN IMMEDIATE;\n{creation_script()}\nCOMMIT;")
    connection.execute("BEGIN IMMEDIATE")
    for table in tables():
        connection.execute(f"DELETE FROM {table.name}")  # noqa: S608  what every new database begins with

    def insert(table: Table, rows: Iterator[Values]) -> None:
        columns, places = ", ".join(table.columns), ", ".join("?" * len(table.columns))
        connection.executemany(f"INSERT INTO {table.name} ({columns}) VALUES ({places})", rows)  # noqa: S608

    copied = copy(source, insert, after_portion)
    if (broken := connection.execute("PRAGMA foreign_key_check").fetchone()) is not None:
        raise IntegrityError(f"a row of {broken[0]} refers to none of {broken[2]}")
    connection.execute("COMMIT")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    return copied


def total_of(copied: Mapping[str, int]) -> str:
    """How much was copied, as a sentence has it."""
    return f"{sum(copied.values()):,} rows in {len(copied)} tables"


def _rows(connection: Connection, table: Table) -> Iterator[Values]:
    for portion in portions(connection, table):
        yield from portion
