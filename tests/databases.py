"""The database of an installation, seen from outside: tests look and change through a connection of their own.

``where`` is an installation, its home folder, or one SQLite file, such as a backup. One engine serves a whole run of
the tests (:data:`ENGINE`), and nothing else in the tests needs to know which one it is.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from coinslot.installation import Installation

ENGINE = os.environ.get("COINSLOT_TEST_ENGINE", "sqlite")

Where: TypeAlias = "Installation | Path"


def environment(home: Path) -> dict[str, str]:
    """The variables that make an installation with this home folder; every process of a test gets them from here."""
    return {"COINSLOT_HOME": str(home)}


@contextmanager
def connected(where: Where) -> Iterator[sqlite3.Connection]:
    """A connection of the test's own, in autocommit mode."""
    home = where if isinstance(where, Path) else where.settings.home
    connection = sqlite3.connect(home / "coinslot.db" if home.is_dir() else home, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        yield connection
    finally:
        connection.close()


def rows(where: Where, sql: str, **values: Any) -> list[dict[str, Any]]:
    """The rows of a query."""
    with connected(where) as connection:
        return [dict(row) for row in connection.execute(sql, values)]


def tuples(where: Where, sql: str, **values: Any) -> list[tuple[Any, ...]]:
    """The rows of a query without the names of their columns."""
    with connected(where) as connection:
        return [tuple(row) for row in connection.execute(sql, values)]


def change(where: Where, sql: str, **values: Any) -> int:
    """Run one statement and commit it; returns how many rows it changed."""
    with connected(where) as connection:
        return connection.execute(sql, values).rowcount


def change_guarded(where: Where, sql: str) -> int:
    """The same with a statement that the triggers of the schema refuse."""
    with connected(where) as connection:
        connection.execute("BEGIN IMMEDIATE")
        guards = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            connection.execute(f"DROP TRIGGER {name}")
        changed = connection.execute(sql).rowcount
        for _, made_by in guards:
            connection.execute(made_by)
        connection.execute("COMMIT")
    return changed


def tables(where: Where) -> list[str]:
    """The names of all tables."""
    found = rows(where, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name")
    return [row["name"] for row in found]


def columns(where: Where, table: str) -> dict[str, str]:
    """The columns of a table and their types as ``schema.sql`` names them."""
    return {row["name"]: row["type"] for row in rows(where, f"PRAGMA table_info({table})")}


def content(where: Where) -> list[str]:
    """Everything stored, one row a line: two that are equal hold the same."""
    with connected(where) as connection:
        return list(connection.iterdump())


def assert_intact(where: Where) -> None:
    """The engine finds no damage, and every reference leads to a row."""
    assert tuples(where, "PRAGMA integrity_check") == [("ok",)]
    assert tuples(where, "PRAGMA foreign_key_check") == []
