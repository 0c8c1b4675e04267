"""Whole schemas: a new one is filled beside the one that is served, and gets its name in one commit.

What was served before stays, under another name. Readers of running servers look names up with each statement, so they
see the new tables from their next statement on. None sees a mixture: the tables are locked until the names are changed,
and a new schema's rows are committed before that.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from typing import Any, TypeAlias, cast

import psycopg

from coinslot.base import clock
from coinslot.store import copying
from coinslot.store.copying import AfterPortion, Table, Values
from coinslot.store.db import Connection, Database
from coinslot.store.errors import BusyError
from coinslot.store.marks import Mark
from coinslot.store.postgres import ddl
from coinslot.store.postgres.connection import PostgresConnection, known_errors, open_connection
from coinslot.store.postgres.database import PostgresDatabase, check_server, create_schema, has_schema
from coinslot.store.postgres.writer import CHANNEL, LOCK

Raw: TypeAlias = "psycopg.Connection[Any]"

SERVED = "coinslot"
NEW = "coinslot_new_"
LOADING = LOCK + 1  # of pg_try_advisory_lock
PATIENCE_MS = 2000  # with readers, before their connections are ended
ATTEMPTS = 10
# Whatever the role is limited to by default: one statement copies a table.
NO_LIMITS = (
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 "
    "-c lock_timeout=0 -c synchronous_commit=on"
)


@contextmanager
def alone(database: Database) -> Iterator[Raw]:
    """A connection to work on schemas with: one process at a time. What a killed one has left is dropped.

    Raises :class:`BusyError` while another one does.
    """
    assert isinstance(database, PostgresDatabase)
    raw = open_connection(database.url, NO_LIMITS, "read-write")
    try:
        with known_errors():
            check_server(raw, database.name)
            if not raw.execute(f"SELECT pg_try_advisory_lock({LOADING})").fetchone()[0]:  # type: ignore[index]
                raise BusyError("another move or restore is under way")
            for (name,) in raw.execute("SELECT nspname FROM pg_namespace").fetchall():
                if name.startswith(NEW):
                    raw.execute(f"DROP SCHEMA {name} CASCADE")
        yield raw
    finally:
        raw.close()


@contextmanager
def commits_wait(raw: Raw) -> Iterator[None]:
    """No process commits meanwhile. When the connection is lost, they go on, and it can change nothing any more."""
    with known_errors():
        raw.execute(f"SELECT pg_advisory_lock({LOCK})")
    try:
        yield
    finally:
        if not raw.closed:
            with known_errors():
                raw.execute(f"SELECT pg_advisory_unlock({LOCK})")


def is_there(raw: Raw) -> bool:
    """As :func:`has_schema`."""
    with known_errors():
        return has_schema(raw)


def read_mark(raw: Raw) -> Mark | None:
    with known_errors():
        (mark,) = raw.execute(f"SELECT moved_to FROM {SERVED}.engine").fetchone()  # type: ignore[misc]  # noqa: S608
    return None if mark is None else Mark.read(mark)


def fill(
    raw: Raw, source: Connection, after_portion: AfterPortion = lambda left, total: None
) -> tuple[str, dict[str, int]]:
    """Make a new schema out of all rows of ``source``; returns its name, and how many rows each table has.

    It is committed, and nobody reads it before it gets its final name.
    """
    name = f"{NEW}{secrets.token_hex(4)}"
    table_names = ", ".join(table.name for table in copying.tables())
    with known_errors():
        create_schema(raw, name)
        with raw.transaction():
            raw.execute(f"SET LOCAL search_path = {name}")
            for table in copying.tables():
                raw.execute(f"DELETE FROM {table.name}")  # noqa: S608  what every new database begins with

            def insert(table: Table, rows: Iterator[Values]) -> None:
                columns = ", ".join(table.columns)
                with raw.cursor().copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)

            copied = copying.copy(source, insert, after_portion)
            raw.execute(ddl.RESUME_IDS)
            raw.execute(f"ANALYZE {table_names}".encode())  # or the first pages would be planned without any figures
    return name, copied


@contextmanager
def reading(raw: Raw, schema: str) -> Iterator[Connection]:
    """One state of a schema, whatever its name."""
    with known_errors(), raw.transaction():
        raw.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        raw.execute(f"SET LOCAL search_path = {schema}")
        yield cast(Connection, PostgresConnection(raw))


def id_faults(connection: Connection) -> Iterator[str]:
    """Yields a sentence for each table whose next id is not above all that it holds. ``connection``: as above."""
    columns = connection.execute(
        """SELECT c.relname, a.attname, pg_get_serial_sequence(c.relname, a.attname)
           FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = current_schema() AND a.attidentity <> ''"""
    ).fetchall()
    for table, column, sequence in columns:
        last_id, next_id = connection.execute(
            f"""SELECT (SELECT coalesce(max({column}), 0) FROM {table}),
                       (SELECT last_value + CASE WHEN is_called THEN 1 ELSE 0 END FROM {sequence})"""  # noqa: S608
        ).fetchone()
        if next_id <= last_id:
            yield f"{table}: the next id would be {next_id:,}, and there is {last_id:,}"


def put_in_place(raw: Raw, name: str, mark: Mark | None, aside: str) -> str | None:
    """Give a new schema the name that is served, with a mark if there is one. The caller holds the commits.

    Returns the name that the schema served before has now, which begins with ``aside``; None where there was none.
    A schema that was marked is dropped: nothing was served from it.
    """
    kept = None
    with known_errors(), raw.transaction():
        if is_there(raw):
            _lock_tables(raw)
            if read_mark(raw) is None:
                kept = _free_name(raw, aside)
                # A commit's time never goes back.
                raw.execute(
                    f"SELECT setval('{name}.last_moment', greatest(o.last_value, n.last_value)) "  # noqa: S608
                    f"FROM {SERVED}.last_moment o, {name}.last_moment n"
                )
                raw.execute(f"ALTER SCHEMA {SERVED} RENAME TO {kept}")
            else:
                raw.execute(f"DROP SCHEMA {SERVED} CASCADE")
        raw.execute(f"ALTER SCHEMA {name} RENAME TO {SERVED}")
        _set_mark(raw, mark)
    return kept


def leave(raw: Raw, mark: Mark) -> str:
    """Stop serving: what is there is kept under another name, which is returned; the mark stays in its place.

    The caller holds the commits. A server that still runs then finds no tables: it answers 503, and its log says where
    they are.
    """
    with known_errors(), raw.transaction():
        kept = _free_name(raw, "coinslot_moved")
        _lock_tables(raw)
        raw.execute(f"ALTER SCHEMA {SERVED} RENAME TO {kept}")
        create_schema(raw, SERVED, has_tables=False)
        _set_mark(raw, mark)
    return kept


def unmark(raw: Raw) -> None:
    """Serve it from now on."""
    with known_errors(), raw.transaction():
        _set_mark(raw, None)


def _set_mark(raw: Raw, mark: Mark | None) -> None:
    raw.execute(f"UPDATE {SERVED}.engine SET moved_to = %s", [mark and mark.text()])  # noqa: S608
    raw.execute(f"NOTIFY {CHANNEL}")


def _lock_tables(raw: Raw) -> None:
    """Wait until nobody reads the tables, and let nobody begin. Who reads for long is cut off.

    A reader that had begun before would see the other tables in the state of that time, without their rows.
    """
    rows = raw.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY tablename", [SERVED]).fetchall()
    names = ", ".join(f"{SERVED}.{row[0]}" for row in rows)
    for _ in range(ATTEMPTS):
        try:
            with raw.transaction():
                raw.execute(f"SET LOCAL lock_timeout = {PATIENCE_MS}")
                raw.execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE".encode())
                return
        except psycopg.errors.LockNotAvailable:
            raw.execute(
                """SELECT pg_terminate_backend(pid) FROM (
                       SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                       JOIN pg_namespace n ON n.oid = c.relnamespace
                       JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
                       WHERE n.nspname = %s AND l.granted AND l.pid <> pg_backend_pid()) readers""",
                [SERVED],
            )
    raise BusyError("other programs did not let go of the tables")


def _free_name(raw: Raw, aside: str) -> str:
    """With the time in it, and with a number where that time has one already. The caller holds the commits."""
    name = f"{aside}_{re.sub('[^0-9]', '', clock.stamp())[:17]}"
    taken = {row[0] for row in raw.execute("SELECT nspname FROM pg_namespace").fetchall()}
    return next(each for each in chain([name], (f"{name}_{number}" for number in count(2))) if each not in taken)
