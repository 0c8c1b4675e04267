"""The database of an installation, seen from outside: tests look and change through a connection of their own.

``where`` is an installation, its home folder, or one SQLite file, such as a backup. One engine serves a whole run of
the tests (:data:`ENGINE`, from ``COINSLOT_TEST_ENGINE``), and nothing else in the tests needs to know which one it is.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import time_machine

from tests import databases_postgres as postgres

if TYPE_CHECKING:
    from coinslot.installation import Installation

ENGINE = os.environ.get("COINSLOT_TEST_ENGINE") or "sqlite"
IS_POSTGRES = ENGINE == "postgres"
ALWAYS_WRONG = postgres.ALWAYS_WRONG if IS_POSTGRES else ()  # words of what `flask doctor` finds in the tests' server
WELL = int(IS_POSTGRES)  # how `flask doctor` ends where nothing else is wrong

Where: TypeAlias = "Installation | Path"


def check_engine() -> None:
    """Raises when the engine that was asked for cannot be used: no test is to be skipped for that."""
    assert ENGINE in ("sqlite", "postgres"), "COINSLOT_TEST_ENGINE: use sqlite or postgres"
    if IS_POSTGRES:
        import psycopg  # noqa: F401

        assert postgres.is_installed(), "PostgreSQL is not installed"


def environment(home: Path) -> dict[str, str]:
    """The variables that make an installation with this home folder; every process of a test gets them from here.

    On PostgreSQL the first call for a folder makes its database, with the tables.
    """
    return {"COINSLOT_HOME": str(home), **(postgres.environment(home) if IS_POSTGRES else {})}


def begin_bare(home: Path) -> None:
    """What nobody has prepared is there without tables too. To be called first."""
    if IS_POSTGRES:
        postgres.make(home, is_bare=True)


@contextmanager
def connected(where: Where) -> Iterator[sqlite3.Connection]:
    """A connection of the test's own, in autocommit mode, that may do everything."""
    home = where if isinstance(where, Path) else where.settings.home
    if _is_on_postgres(where):
        with postgres.connected(home) as connection:
            yield connection
        return
    connection = sqlite3.connect(home / "coinslot.db" if home.is_dir() else home, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        yield connection
    finally:
        connection.close()


def _is_on_postgres(where: Where) -> bool:
    return IS_POSTGRES and not (isinstance(where, Path) and where.is_file())


def rows(where: Where, sql: str, **values: Any) -> list[dict[str, Any]]:
    """The rows of a query."""
    with connected(where) as connection:
        return [{name: row[name] for name in row.keys()} for row in connection.execute(sql, values)]  # noqa: SIM118


def tuples(where: Where, sql: str, **values: Any) -> list[tuple[Any, ...]]:
    """The rows of a query without the names of their columns."""
    with connected(where) as connection:
        return [tuple(row) for row in connection.execute(sql, values)]


def change(where: Where, sql: str, **values: Any) -> int:
    """Run one statement and commit it; returns how many rows it changed."""
    with connected(where) as connection:
        return connection.execute(sql, values).rowcount


@contextmanager
def unguarded(where: Where) -> Iterator[sqlite3.Connection]:
    """A transaction in which the schema's triggers and references refuse nothing; an error rolls it back."""
    with connected(where) as connection:
        if _is_on_postgres(where):
            connection.execute("SET session_replication_role = replica")
            connection.execute("BEGIN")
            yield connection
        else:
            connection.execute("PRAGMA foreign_keys = OFF")
            connection.execute("BEGIN IMMEDIATE")
            guards = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for name, _ in guards:
                connection.execute(f"DROP TRIGGER {name}")
            yield connection
            for _, made_by in guards:
                connection.execute(made_by)
        connection.execute("COMMIT")


def change_guarded(where: Where, sql: str, **values: Any) -> int:
    """:func:`change` with a statement that the schema would refuse."""
    with unguarded(where) as connection:
        return connection.execute(sql, values).rowcount


def tables(where: Where) -> list[str]:
    """The names of all tables of ``schema.sql``."""
    if _is_on_postgres(where):
        found = rows(where, postgres.TABLES)
    else:
        sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
        found = rows(where, sql)
    return [row["name"] for row in found]


def columns(where: Where, table: str) -> dict[str, str]:
    """The columns of a table and their types as ``schema.sql`` names them."""
    if _is_on_postgres(where):
        found = rows(where, postgres.COLUMNS, name=table)
    else:
        found = rows(where, f"PRAGMA table_info({table})")
    return {row["name"]: row["type"] for row in found}


def index(where: Where, name: str) -> tuple[str, str]:
    """The table of an index, and the statement that made it."""
    sql = postgres.INDEX if _is_on_postgres(where) else "SELECT tbl_name, sql FROM sqlite_schema WHERE name = :name"
    ((table, made_by),) = tuples(where, sql, name=name)
    return table, made_by


def version(where: Where) -> int:
    """The version of the tables."""
    ((found,),) = tuples(where, "SELECT version FROM engine" if _is_on_postgres(where) else "PRAGMA user_version")
    return int(found)


def set_version(where: Where, number: int) -> None:
    change(
        where, f"UPDATE engine SET version = {number}" if _is_on_postgres(where) else f"PRAGMA user_version = {number}"
    )


def raw(where: Where) -> bytes:
    """What the engine stores, to look for what must be nowhere: all of SQLite's files, or PostgreSQL's values."""
    if not _is_on_postgres(where):
        home = where if isinstance(where, Path) else where.settings.home
        return b"\n".join(path.read_bytes() for path in sorted(home.glob("coinslot.db*")))
    found = [value for table in tables(where) for row in tuples(where, f"SELECT * FROM {table}") for value in row]
    return b"\n".join(value if isinstance(value, bytes) else str(value).encode() for value in found)


def content(where: Where) -> list[str]:
    """Everything stored, one row a line: two that are equal hold the same."""
    if _is_on_postgres(where):
        return [
            f"{table}: {line}" for table in tables(where) for (line,) in tuples(where, postgres.LINES.format(table))
        ]
    with connected(where) as connection:
        return list(connection.iterdump())


@contextmanager
def travel(moment: Any, tick: bool = False) -> Iterator[Any]:
    """``time_machine.travel``, which the clock of the databases goes with."""
    from coinslot.base import clock

    with time_machine.travel(moment, tick=tick) as traveller:
        if not IS_POSTGRES:
            clock.set_ahead(0.0)  # which a test of PostgreSQL in this process has left
            yield traveller
            return
        with postgres.following(traveller, tick) as followed:
            yield followed


@contextmanager
def later(seconds: float) -> Iterator[None]:
    """The rest of this process is so many seconds later; for processes that a test starts."""
    if os.environ.get("COINSLOT_DATABASE"):
        postgres.be_ahead(seconds)
    with time_machine.travel(time.time() + seconds, tick=True):
        yield


@contextmanager
def nothing_written(where: Where) -> Iterator[None]:
    """What happens in the block stores nothing, not even what was there before."""
    with connected(where) as connection:
        before = _version(where, connection)
        yield
        assert _version(where, connection) == before, "something was written"


def _version(where: Where, connection: sqlite3.Connection) -> Any:
    if _is_on_postgres(where):
        return [connection.execute(postgres.VERSION.format(table)).fetchone()[0] for table in tables(where)]
    return connection.execute("PRAGMA data_version").fetchone()[0]


def is_waited_for(where: Where) -> bool:
    """Whether somebody waits for a lock of PostgreSQL's, as SQLite never says."""
    return _is_on_postgres(where) and bool(rows(where, postgres.WAITING))


@contextmanager
def statements(installation: "Installation") -> Iterator[list[str]]:
    """Collects what this thread has the database run to read, while the block lasts."""
    if IS_POSTGRES:
        with postgres.statements() as found:
            yield found
        return
    found = []
    connection = installation.database.read()
    connection.set_trace_callback(found.append)
    try:
        yield found
    finally:
        connection.set_trace_callback(None)


class Noting:
    """A connection of a write that notes each statement as it stands in the code."""

    def __init__(self, tx: Any, statements: list[str]) -> None:
        self._tx = tx
        self._statements = statements

    def execute(self, sql: str, values: Any = ()) -> Any:
        self._statements.append(sql)
        return self._tx.execute(sql, values)

    def executemany(self, sql: str, rows: Any) -> Any:
        self._statements.append(sql)
        return self._tx.executemany(sql, rows)


class Fault:
    """From now on every such ``action``, as ``INSERT ON grants``, fails with ``says``, until :meth:`end`.

    ``when`` chooses rows, as ``new.type = 'x'``. With ``ends_all`` the whole transaction is lost, as SQLite does it
    when the disk is full.
    """

    def __init__(
        self, where: Where, action: str, says: str = "disk on fire", when: str = "", ends_all: bool = False
    ) -> None:
        self._where = where
        self._table = action.split()[-1]
        condition = f"WHEN ({when})" if when else ""
        if _is_on_postgres(where):
            change(where, postgres.FAULT.format(action=action, says=says, when=condition))
        else:
            how = f"SELECT RAISE({'ROLLBACK' if ends_all else 'ABORT'}, '{says}')"
            change(where, f"CREATE TRIGGER fault BEFORE {action} {condition} BEGIN {how}; END")

    def end(self) -> None:
        change(self._where, f"DROP TRIGGER fault {f'ON {self._table}' if _is_on_postgres(self._where) else ''}")

    def __enter__(self) -> "Fault":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def assert_intact(where: Where) -> None:
    """The engine finds no damage, and every reference leads to a row."""
    if _is_on_postgres(where):
        with connected(where) as connection:
            for statement in postgres.CHECKS:
                assert connection.execute(statement).fetchall() == []
        return
    assert tuples(where, "PRAGMA integrity_check") == [("ok",)]
    assert tuples(where, "PRAGMA foreign_key_check") == []
