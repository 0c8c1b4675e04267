"""The engine of one file: SQLite, in the installation's folder.

* A write is on the disk when COMMIT returns: ``synchronous=FULL``.
* The lock around every commit is a flock on ``write.lock``. SQLite's own waiting is unfair, and before 3.51.3 it can
  lose committed pages when a checkpoint meets another connection's commit; commits that never overlap avoid both.
"""

import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

from coinslot.base import clock
from coinslot.store import commits, db, migrations, writer
from coinslot.store.checkpoints import LARGE_FOLLOWED_BYTES, checkpoint
from coinslot.store.connection import connect as connect
from coinslot.store.connection import is_followed, transaction
from coinslot.store.db import Database, version_trouble
from coinslot.store.errors import DatabaseError, MovedError, SchemaError
from coinslot.store.lock import WriteLock, make_empty
from coinslot.store.marks import Mark
from coinslot.store.waiting_write import WaitingWrite
from coinslot.store.writer import BATCH_LIMIT, Writer

APPLICATION_ID = 0x436F696E  # "Coin": tells `file` and us whose database this is
MINIMUM_SQLITE = (3, 37, 0)  # STRICT tables
MARKED_VERSION = 1_000_000_000  # schema version of a file that must not be served (marks.py)
LARGE_WAL_BYTES = 8 * 1024 * 1024  # twice the size at which SQLite copies the WAL into the file

T = TypeVar("T")


class SqliteDatabase(Database):
    """The database file in an installation's folder."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.path = home / "coinslot.db"
        self.name = str(self.path)
        self.lock: WriteLock = WriteLock(home / "write.lock")
        self.last_failure = commits.LastFailure(self.lock.mark)

    def prepare(self) -> None:
        """Create the folder (0700) and the file (0600) where missing, and migrate an older file.

        Raises :class:`SchemaError` when the file is newer than the code, a preview's, or not a Coinslot database.
        """
        if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
            raise SchemaError(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 or newer is needed")
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.lock, _readable():
            is_new = not self.path.exists() or self.path.stat().st_size == 0
            if is_new:
                make_empty(self.path)
            with closing(connect(self.path)) as connection:
                if is_new:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.executescript(f"BEGIN IMMEDIATE;\n{creation_script()}\nCOMMIT;")
                else:
                    with self.lock.changing():  # a process with older code that still runs must notice
                        migrate(connection)

    def read(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None or self._local.pid != os.getpid() or self._local.turn != self.lock.turn():
            self._close_reader()
            self.lock.changes()  # opens the file of the lock
            turn = self.lock.turn()  # first: what is marked meanwhile is then seen later
            connection = self._open()
            connection.execute("PRAGMA query_only = ON")
            self._local.connection, self._local.pid, self._local.turn = connection, os.getpid(), turn
        return connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        connection = self.read()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")

    def exists(self) -> bool:
        return self.path.exists()

    def commits_seen(self) -> int:
        (version,) = self.read().execute("PRAGMA data_version").fetchone()
        return int(version)

    def changes(self) -> int | None:
        return self.lock.changes()

    def _new_writer(self) -> Writer:
        return _SqliteWriter(self)

    def write_here(self, function: Callable[[sqlite3.Connection], T]) -> T:
        if not self.path.exists():
            self.prepare()
        with self.lock, closing(self._open()) as connection, self.lock.changing(), transaction(connection):
            return function(connection)

    def is_refusing(self) -> bool:
        """Whether a commit of any process failed on the disk, and its process has committed nothing as large since.

        For a commit of this process, it tries whether as much can be written now. Waits and raises like a write.
        """
        if rows := self.last_failure.rows_to_try:
            with suppress(DatabaseError, sqlite3.Error):
                self.write(lambda tx: commits.write_trial(tx, rows))
                self.write(commits.remove_trial)
        return self.write(lambda _: self.lock.is_marked())

    def is_marked(self) -> bool:
        with self.lock:
            return self.lock.is_marked()

    def files(self) -> tuple[Path, ...]:
        return self.path, Path(f"{self.path}-wal"), self.home / "write.lock"

    def size_bytes(self) -> int:
        (pages,), (page_size,) = (self.read().execute(f"PRAGMA page_{each}").fetchone() for each in ("count", "size"))
        return int(pages * page_size)

    def free_bytes(self) -> int | None:
        return shutil.disk_usage(self.home).free

    def wal_bytes(self) -> int:
        """The size of the WAL. It grows while a reader keeps a state of the database, and does not shrink by itself."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size
        except OSError:
            return 0

    def truncate_wal(self, wait_ms: int = 200) -> bool:
        """Copy the WAL into the file and empty it; returns whether that succeeded.

        Nobody can write meanwhile, so it waits for readers only ``wait_ms`` at a time, three times. A followed
        database's WAL is copied if that can be done at once, and keeps its size (``checkpoints.py``).
        """
        if is_followed(self.path):
            with self.lock:
                return checkpoint(self.path)
        for _ in range(3):
            with self.lock, closing(self._open()) as connection:
                connection.execute(f"PRAGMA busy_timeout = {wait_ms:d}")
                (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not is_busy:
                    return True
        return False

    def tidy(self) -> None:
        self.truncate_wal()

    def _close_readers(self) -> None:
        self._close_reader()
        self._local = threading.local()

    def _close_reader(self) -> None:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None and self._local.pid == os.getpid():
            connection.close()

    def _open(self, cache_kib: int = 2048) -> sqlite3.Connection:
        if not self.path.exists():  # and never make one: a server whose file is gone must not credit into an empty one
            raise DatabaseError(f"there is no database at {self.path}; the first start of the server makes one")
        with _readable():
            connection = connect(self.path, cache_kib)
            version = file_version(connection)
        if version != db.SCHEMA_VERSION:
            connection.close()
            raise SchemaError(version_trouble(version))
        return connection


class _SqliteWriter(Writer):
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._is_followed, self._next_look = False, 0.0  # when the connection was opened; whether that is still so
        self._changes_seen: int | None = None  # as of when the schema's version was last looked at
        super().__init__()

    def _commit_together(self, batch: list[WaitingWrite]) -> None:
        with self._database.lock:
            try:
                self._commit(batch)
            except BaseException as error:
                self._database.last_failure.failed(error, max((write.rows for write in batch), default=0))
                raise

    def _commit(self, batch: list[WaitingWrite]) -> None:
        if self._connection is None:
            self._is_followed = is_followed(self._database.path)  # first: what begins meanwhile is then seen later
            self._connection = self._database._open(cache_kib=16384)
        connection = self._connection
        is_spoiled = False  # a file that was read-only when it was opened stays so for this connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._look_at_version(connection)
            while len(batch) < BATCH_LIMIT and (write := self._take()) is not None:
                batch.append(write)
                is_first = len(batch) == 1  # with nothing before it to keep, the transaction itself is its savepoint
                if not is_first:
                    connection.execute("SAVEPOINT one_write")
                before = connection.total_changes
                try:
                    write.result = write.context.run(write.function, connection)
                    write.rows = connection.total_changes - before
                except BaseException as error:
                    write.rows = connection.total_changes - before + 1
                    is_spoiled |= self._database.last_failure.failed(error, write.rows, write.function)
                    if not connection.in_transaction:
                        raise  # SQLite itself gave up the whole transaction (disk full, I/O error)
                    write.error = error
                    if is_first:
                        connection.execute("ROLLBACK")
                        connection.execute("BEGIN IMMEDIATE")
                    else:
                        connection.execute("ROLLBACK TO one_write")
                if not is_first:
                    connection.execute("RELEASE one_write")
            with nullcontext() if all(write.keeps_games for write in batch) else self._database.lock.changing():
                connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        for write in batch:
            if write.error is None:
                self._database.last_failure.succeeded(write.rows, write.function)
        if is_spoiled:
            self._forget_connection()

    def _look_around(self) -> None:
        """Once a second: open a new connection when Litestream has begun, and do its work when it has stopped."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + writer.QUIET_SECONDS
        if is_followed(self._database.path) != self._is_followed:
            self._forget_connection()
        elif self._is_followed:
            self._tidy()

    def _look_at_version(self, connection: sqlite3.Connection) -> None:
        """Refuse to write where newer code has changed the schema under this process. No statement after a credit."""
        changes = self._database.lock.changes()
        if changes is None or changes != self._changes_seen:
            if (version := file_version(connection)) != db.SCHEMA_VERSION:
                raise SchemaError(version_trouble(version))
            self._changes_seen = changes

    def _tidy(self) -> bool:
        """Truncate a large WAL while nobody writes; returns whether it is small now."""
        if self._database.wal_bytes() <= (LARGE_FOLLOWED_BYTES if self._is_followed else LARGE_WAL_BYTES):
            return True
        try:
            return self._database.truncate_wal(wait_ms=0)
        except (DatabaseError, sqlite3.Error, OSError):
            return False  # try again at the next quiet moment

    def _forget_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


@contextmanager
def _readable() -> Iterator[None]:
    """Raise :class:`SchemaError` for a file that is no database, or damaged: SQLite's words may quote its pages."""
    try:
        yield
    except sqlite3.OperationalError:  # no such file, locked, no permission: may be temporary
        raise
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise SchemaError(f"the file cannot be read as a database: {type(error).__name__}") from error


def file_version(connection: sqlite3.Connection) -> int:
    """The schema version of an open file. Raises :class:`SchemaError` when it is not a Coinslot database."""
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise SchemaError(f"the file cannot be read as a database: {error}") from error
    if application_id != APPLICATION_ID:
        raise SchemaError("the file is not a Coinslot database")
    if version == MARKED_VERSION:
        raise MovedError(read_mark(connection).sentence())
    return int(version)


def read_mark(connection: sqlite3.Connection) -> Mark:
    """The mark of a file whose version is :data:`MARKED_VERSION`."""
    (value,) = connection.execute("SELECT value FROM installation WHERE name = 'moved'").fetchone()
    return Mark.read(value)


def write_mark(tx: sqlite3.Connection, mark: Mark | None) -> None:
    """Mark a file, or take the mark away. All code that ever was refuses a marked file, which looks newer to it."""
    tx.execute("DELETE FROM installation WHERE name = 'moved'")
    if mark is not None:
        value = {"value": mark.text(), "now": clock.stamp()}
        tx.execute("INSERT INTO installation (name, value, updated_at) VALUES ('moved', :value, :now)", value)
    tx.execute(f"PRAGMA user_version = {db.SCHEMA_VERSION if mark is None else MARKED_VERSION:d}")


def creation_script() -> str:
    """The statements that make a new database."""
    return (
        f"{db.SCHEMA_FILE.read_text(encoding='utf-8')}\n"
        f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {db.SCHEMA_VERSION};"
    )


def migrate(connection: sqlite3.Connection) -> None:
    """Bring an open file to this code's version: all steps in one transaction. The caller holds the write lock.

    Raises :class:`SchemaError` for a version that cannot be migrated, and when the steps would leave a row that refers
    to none. Then the file is as it was, and the code that made it can still serve it.
    """
    version = file_version(connection)
    if not db.OLDEST_VERSION <= version <= db.SCHEMA_VERSION:
        raise SchemaError(version_trouble(version))
    if version == db.SCHEMA_VERSION:
        return
    log = logging.getLogger("coinslot")
    steps = f"steps from schema version {version} to {db.SCHEMA_VERSION}"
    log.info("%s: nothing is served until they have ended; stopped before that, the file stays as it is", steps)
    began_at = time.monotonic()
    # Else DROP TABLE, with which a step makes a table anew, would delete the rows that refer to it. SQLite takes this
    # outside a transaction only.
    connection.execute("PRAGMA foreign_keys = OFF")
    try:
        with transaction(connection):
            for step in range(version + 1, db.SCHEMA_VERSION + 1):
                migrations.MIGRATIONS[step](connection)
            if (broken := connection.execute("PRAGMA foreign_key_check").fetchone()) is not None:
                raise SchemaError(f"the {steps} would leave a row of {broken[0]} that refers to none of {broken[2]}")
            connection.execute(f"PRAGMA user_version = {db.SCHEMA_VERSION:d}")
    finally:
        connection.execute("PRAGMA foreign_keys = ON")
    log.info("%s: done in %.1f s", steps, time.monotonic() - began_at)
