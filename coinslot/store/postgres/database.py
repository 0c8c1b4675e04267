"""A PostgreSQL database, which several servers may share."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import psycopg

from coinslot.store import db, migrations
from coinslot.store.db import Connection, Database
from coinslot.store.errors import DatabaseError, MovedError, SchemaError
from coinslot.store.marks import Mark
from coinslot.store.postgres import address, ddl
from coinslot.store.postgres.connection import (
    READER,
    PostgresConnection,
    PostgresError,
    PostgresIntegrityError,
    Result,
    WritingConnection,
    _PlainCursor,
    known_errors,
    open_connection,
)
from coinslot.store.postgres.listener import READ_ONLY, Listener
from coinslot.store.postgres.readers import Readers, until_there
from coinslot.store.postgres.snapshot import Snapshot
from coinslot.store.postgres.writer import LOCK, LOCKED_MS, PostgresWriter, Transactions, origin
from coinslot.store.waiting_write import WaitingWrite
from coinslot.store.writer import Writer

OLDEST_SERVER = 130000  # as PostgreSQL counts its versions; older ones are not maintained
STUCK_MS = 60_000  # a program that stops while it makes or changes the tables is cut off after this

NO_SUCH_TABLE = "42P01"

T = TypeVar("T")
log = logging.getLogger("coinslot")

# What only this engine has. ``engine`` is one row, ``changed_at`` is when its timeline became another one;
# ``last_moment`` is the newest time that a commit was given.
_OWN = """
CREATE TABLE engine (
    is_only   boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    version   bigint NOT NULL,
    timeline  text COLLATE "C" NOT NULL,
    changed_at text COLLATE "C",
    moved_to  text COLLATE "C"  -- the mark (marks.py); NULL: it is served
);
CREATE SEQUENCE last_moment;
CREATE FUNCTION coinslot_now() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT setval('last_moment', greatest(1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
        CASE WHEN last_value < (extract(epoch FROM clock_timestamp()) + 60) * 1000000 THEN last_value END))
    FROM last_moment
$$;
CREATE FUNCTION texts_of(list text) RETURNS TABLE (value text) LANGUAGE sql IMMUTABLE AS $$
    SELECT value FROM jsonb_array_elements_text(CAST(list AS jsonb)) each (value)
$$;
CREATE FUNCTION numbers_of(list text) RETURNS TABLE (value bigint) LANGUAGE sql IMMUTABLE AS $$
    SELECT CAST(value AS bigint) FROM jsonb_array_elements_text(CAST(list AS jsonb)) each (value)
$$;
CREATE FUNCTION json_extract(list text, place text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CAST(list AS jsonb) ->> CAST(trim('$[]' FROM place) AS integer)
$$;
"""

_SIZE = """SELECT CAST(coalesce(sum(pg_total_relation_size(c.oid)), 0) AS bigint)
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = current_schema() AND c.relkind = 'r'"""


class PostgresDatabase(Database):
    """A database by its URL. Its tables are in the schema ``coinslot``."""

    def __init__(self, home: Path, url: str) -> None:
        super().__init__(home)
        address.read(url)
        self.url = url
        self.name = address.without_password(url)
        self.lock = _Lock(url)
        self._readers: Readers | None = None
        self._readers_pid = 0
        self._reading = _PooledConnection(self)
        self._listener: Listener | None = None

    def prepare(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            raw = open_connection(self.url, f"-c idle_in_transaction_session_timeout={STUCK_MS}", "read-write")
        except PostgresError as error:
            raise DatabaseError(f"{self.name} cannot be used: {error}") from None
        try:
            check_server(raw, self.name)
            with known_errors(), raw.transaction():  # so that one that is stopped here keeps nobody waiting for ever
                raw.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
                if not has_schema(raw):
                    create_schema(raw)
                _migrate(raw)
        finally:
            raw.close()

    def exists(self) -> bool:
        try:
            raw = open_connection(self.url, READ_ONLY, "primary")
        except PostgresError:
            return False
        try:
            with known_errors():
                return has_schema(raw)
        finally:
            raw.close()

    def read(self) -> Connection:
        return cast(Connection, self._reading)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        if self.pinned() is not None:
            yield self.read()
            return
        with self.readers().one("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as raw:
            self._local.pinned = Snapshot(raw)
            try:
                yield self.read()
            finally:
                self._local.pinned = None
                if not raw.closed:
                    with known_errors():
                        raw.execute("ROLLBACK")

    def pinned(self) -> Snapshot | None:
        """The connection of this thread's :meth:`snapshot`."""
        found: Snapshot | None = getattr(self._local, "pinned", None)
        return found

    def commits_seen(self) -> int:
        listener = self._listener
        if listener is None or listener.pid != os.getpid():
            listener = self._listener = Listener(self.url)
        return listener.count

    def changes(self) -> int | None:
        return None

    def _new_writer(self) -> Writer:
        return PostgresWriter(self.url)

    def write_here(self, function: Callable[[Connection], T]) -> T:
        write = WaitingWrite(function, keeps_games=False)
        transactions = until_there(lambda: Transactions(self.url))
        try:
            if transactions.has_no_tables:
                self.prepare()
            transactions.begin()
            transactions.run(write)
            if write.error is not None:
                transactions.roll_back()
                raise write.error
            transactions.commit()
            result: T = write.result
            return result
        finally:
            transactions.close()

    def is_refusing(self) -> bool:
        """A failed commit says nothing about the next one here: the disk is the database server's."""
        return self.write(lambda _: False)

    def is_marked(self) -> bool:
        return False

    def size_bytes(self) -> int:
        (found,) = self.read().execute(_SIZE).fetchone()
        return int(found)

    def tidy(self) -> None:
        """The database server does it."""

    def _close_readers(self) -> None:
        readers, self._readers = self._readers, None
        if readers is not None and self._readers_pid == os.getpid():
            readers.close()
        listener, self._listener = self._listener, None
        if listener is not None and listener.pid == os.getpid():
            listener.stop()

    def readers(self) -> Readers:
        """The connections of this process to read with."""
        readers = self._readers
        if readers is None or self._readers_pid != os.getpid():
            with self._starting:
                if self._readers is None or self._readers_pid != os.getpid():
                    self._readers, self._readers_pid = Readers(self._open_reader), os.getpid()
                return self._readers
        return readers

    def reader(self) -> "AbstractContextManager[psycopg.Connection[Any]]":
        """One of them, for a block."""
        return self.readers().one()

    def _open_reader(self) -> "psycopg.Connection[Any]":
        raw = open_connection(self.url, f"{READ_ONLY} -c lock_timeout={LOCKED_MS}", "primary", READER)
        try:
            with known_errors():
                if not has_schema(raw):
                    raise DatabaseError(f"there are no tables in {self.name}; the first start of the server makes them")
                version, moved_to = raw.execute("SELECT version, moved_to FROM engine").fetchone()  # type: ignore[misc]
            if moved_to is not None:
                raise MovedError(Mark.read(moved_to).sentence())
            if version != db.SCHEMA_VERSION:
                raise SchemaError(db.version_trouble(version))
        except BaseException:
            raw.close()
            raise
        return raw


class _PooledConnection:
    """Reads each statement on a connection of the pool, which is free again when its rows are there.

    Inside a thread's :meth:`PostgresDatabase.snapshot` it reads that.
    """

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    def execute(self, sql: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> Result:
        pinned = self._database.pinned()
        if pinned is not None:
            return cast(Result, pinned.execute(sql, values))
        try:
            return self._database.readers().run(lambda raw: cast(Result, PostgresConnection(raw).execute(sql, values)))
        except PostgresError as error:
            if f"({NO_SUCH_TABLE})" in str(error):  # they were moved away while this process ran
                self._database._open_reader().close()  # says where to
            raise

    def cursor(self) -> Any:
        pinned = self._database.pinned()
        return _PlainCursor(self) if pinned is None else pinned.cursor()

    def close(self) -> None:
        """Nothing is held between two statements."""


@contextmanager
def _locked(url: str) -> Iterator[None]:
    raw = open_connection(url, "", "read-write")
    try:
        with known_errors():
            raw.execute(f"SELECT pg_advisory_lock({LOCK})")
        yield
    finally:
        raw.close()


class _Lock:
    """The lock of all commits, held on a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._held = threading.local()

    def __enter__(self) -> None:
        self._held.context = _locked(self._url)
        self._held.context.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._held.context.__exit__(*error)


def check_server(raw: "psycopg.Connection[Any]", name: str) -> None:
    """Raises :class:`DatabaseError` when this database cannot hold an installation, or the role may not make one."""
    version = raw.info.server_version
    if version < OLDEST_SERVER:
        raise DatabaseError(
            f"{name} is PostgreSQL {version // 10000}, which is too old; {OLDEST_SERVER // 10000} or newer is needed"
        )
    encoding = raw.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise DatabaseError(
            f"{name} has the encoding {encoding}, and UTF8 is needed; make another database: "
            "createdb --encoding=UTF8 --template=template0"
        )
    (may_make,) = raw.execute("SELECT has_database_privilege(current_database(), 'CREATE')").fetchone()  # type: ignore[misc]
    if not may_make and not has_schema(raw):
        raise DatabaseError(
            f"{name} has no tables yet, and {raw.info.user} may not make them; run as the database's owner: "
            f"GRANT CREATE ON DATABASE {raw.info.dbname} TO {raw.info.user}"
        )


def has_schema(raw: "psycopg.Connection[Any]") -> bool:
    """Whether there is a Coinslot, moved away or not. Raises :class:`DatabaseError` where its name is taken."""
    found = raw.execute(
        """SELECT c.oid IS NOT NULL FROM pg_namespace n
           LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'engine' WHERE n.nspname = 'coinslot'"""
    ).fetchone()
    if found is not None and not found[0]:
        raise DatabaseError(f"the database {raw.info.dbname} has a schema coinslot that is not Coinslot's")
    return found is not None


def create_schema(raw: "psycopg.Connection[Any]", schema: str = "coinslot", has_tables: bool = True) -> None:
    """Make an empty schema with all tables, in one transaction. Without tables it only says why nothing is served."""
    with raw.transaction():
        raw.execute(f"CREATE SCHEMA {schema}")
        raw.execute(f"SET LOCAL search_path = {schema}")
        raw.execute(_OWN)
        for statement in ddl.creation(db.SCHEMA_FILE.read_text(encoding="utf-8")) if has_tables else ():
            raw.execute(statement.encode())
        raw.execute("INSERT INTO engine (version, timeline) VALUES (%s, '')", [db.SCHEMA_VERSION])
        raw.execute("UPDATE engine SET timeline = %s || '-' || tableoid", [origin(raw)])


def _migrate(raw: "psycopg.Connection[Any]") -> None:
    """Bring the tables to this code's version: all steps in one transaction. The caller holds the lock.

    Raises :class:`SchemaError` for a version that cannot be migrated, and when a step would leave a row that refers to
    none. Then the tables are as they were, and the code that made them can still serve them.
    """
    version, moved_to = raw.execute("SELECT version, moved_to FROM engine").fetchone()  # type: ignore[misc]
    if moved_to is not None:
        raise MovedError(Mark.read(moved_to).sentence())
    if not db.OLDEST_VERSION <= version <= db.SCHEMA_VERSION:
        raise SchemaError(db.version_trouble(version))
    if version == db.SCHEMA_VERSION:
        return
    steps = f"steps from schema version {version} to {db.SCHEMA_VERSION}"
    log.info("%s: nothing is served until they have ended; stopped before that, the tables stay as they are", steps)
    began_at = time.monotonic()
    try:
        with raw.transaction():
            connection = _Steps(raw)
            for step in range(version + 1, db.SCHEMA_VERSION + 1):
                migrations.MIGRATIONS[step](cast(Connection, connection))
            connection.add(ddl.PUT_BACK)
            connection.send()
            raw.execute("UPDATE engine SET version = %s", [db.SCHEMA_VERSION])
    except PostgresIntegrityError as error:
        raise SchemaError(f"the {steps} failed: {error}") from None
    log.info("%s: done in %.1f s", steps, time.monotonic() - began_at)


class _Steps(WritingConnection):
    """Takes the statements of a step of the schema, which are written for SQLite."""

    def execute(self, sql: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> Any:
        if sql.split(None, 1)[0].upper() not in ("CREATE", "ALTER", "DROP"):
            return super().execute(sql, values)
        for statement in ddl.derived(sql):
            self.add(statement)
        return None
