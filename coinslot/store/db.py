"""The database file: connections, the writer, the schema's version.

It promises:

* A write is a function of a connection. It runs in its own savepoint: all of it happens or nothing.
* :meth:`Database.write` returns after COMMIT has returned, with ``synchronous=FULL``: the write is on the disk.
* Commits of all processes follow one another under one lock on ``write.lock``. SQLite's own waiting is unfair, and
  before 3.51.3 it can lose committed pages when a checkpoint meets another connection's commit; commits that never
  overlap avoid both.
* Reads never take the lock.
"""

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from coinslot.base.errors import CoinslotError
from coinslot.store import commits
from coinslot.store.checkpoints import LARGE_FOLLOWED_BYTES, checkpoint
from coinslot.store.connection import connect as connect
from coinslot.store.connection import is_followed, transaction
from coinslot.store.lock import WriteLock, make_empty
from coinslot.store.migrations import MIGRATIONS
from coinslot.store.waiting_write import WaitingWrite

SCHEMA_VERSION = 11
OLDEST_VERSION = 11  # earlier versions were previews, never released; each later one has a migration
APPLICATION_ID = 0x436F696E  # "Coin": tells `file` and us whose database this is
MINIMUM_SQLITE = (3, 37, 0)  # STRICT tables

WAIT_SECONDS = 5.0  # how long a caller waits for its write before BusyError
BATCH_LIMIT = 64  # writes under one fsync, so that no process keeps the lock for long

LARGE_WAL_BYTES = 8 * 1024 * 1024  # twice the size at which SQLite copies the WAL into the file
QUIET_SECONDS = 1.0  # without a write, after which a large WAL is truncated

SCHEMA_FILE = Path(__file__).resolve().parents[2] / "schema.sql"

# For the folders above, which import sqlite3 nowhere.
Connection = sqlite3.Connection
Row = sqlite3.Row
EngineError = sqlite3.Error

T = TypeVar("T")


class DatabaseError(CoinslotError):
    """The file cannot be read or written. A partner gets 5xx and tries again."""


class BusyError(DatabaseError):
    """The write was not committed within :data:`WAIT_SECONDS`."""


class SchemaError(DatabaseError):
    """This code must not serve the file: it is newer, older, or not ours."""


class Database:
    """The database file in one folder. Safe to share between threads; opens nothing before it is used."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "coinslot.db"
        self.lock = WriteLock(home / "write.lock")
        self.last_failure = commits.LastFailure(self.lock.mark)
        self._local = threading.local()
        self._starting = threading.Lock()
        self._writer: _Writer | None = None

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
        """This thread's connection for reading. It sees what is committed and cannot change anything."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None or self._local.pid != os.getpid():
            connection = self._open()
            connection.execute("PRAGMA query_only = ON")
            self._local.connection, self._local.pid = connection, os.getpid()
        return connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """This thread's reading connection, which sees one state of the database for several queries."""
        connection = self.read()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")

    def changes(self) -> int | None:
        """A number that is another one after each commit that may have changed a game's configuration.

        None while it is not known whether such a commit is done. It costs no statement.
        """
        return self.lock.changes()

    def write(self, function: Callable[[sqlite3.Connection], T], *, keeps_games: bool = False) -> T:
        """Run ``function`` inside a transaction and return its result once that is committed and fsynced.

        ``keeps_games``: it changes no game, setting or secret, so that :meth:`changes` may stay as it is.

        What it raises is raised here, and nothing of it is stored. Raises :class:`BusyError` after
        :data:`WAIT_SECONDS`: a function that was not begun by then never runs, but one that was may still commit, so
        the caller must be able to repeat it (unique keys make that safe).
        """
        with self._starting:
            if self._writer is None or self._writer.pid != os.getpid():
                self._writer = _Writer(self)
        result: T = self._writer.run(WaitingWrite(function, keeps_games))
        return result

    def write_here(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Like :meth:`write`, in this thread: for commands, which have no commit to share."""
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
        """The same as far as it is known without a commit. Waits for the lock as a write does."""
        with self.lock:
            return self.lock.is_marked()

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

    def close(self) -> None:
        """Stop this process's writer after the writes that wait, and close this thread's connection."""
        with self._starting:
            writer, self._writer = self._writer, None
        if writer is not None and writer.pid == os.getpid():
            writer.stop()
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None and self._local.pid == os.getpid():
            connection.close()
        self._local = threading.local()

    def _open(self, cache_kib: int = 2048) -> sqlite3.Connection:
        if not self.path.exists():  # and never make one: a server whose file is gone must not credit into an empty one
            raise DatabaseError(f"there is no database at {self.path}; the first start of the server makes one")
        with _readable():
            connection = connect(self.path, cache_kib)
            version = file_version(connection)
        if version != SCHEMA_VERSION:
            connection.close()
            raise SchemaError(version_trouble(version))
        return connection


class _Writer:
    """The one thread of this process that writes. It commits all waiting writes together, then wakes their callers."""

    def __init__(self, database: Database) -> None:
        self.pid = os.getpid()
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._is_followed, self._next_look = False, 0.0  # when the connection was opened; whether that is still so
        self._changes_seen: int | None = None  # as of when the schema's version was last looked at
        self._mutex = threading.Lock()
        self._something_waits = threading.Condition(self._mutex)
        self._waiting: deque[WaitingWrite] = deque()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._loop, name="coinslot-writer", daemon=True)
        self._thread.start()

    def run(self, write: WaitingWrite) -> Any:
        with self._mutex:
            if self._is_stopping:
                raise BusyError("the server is stopping")
            self._waiting.append(write)
            self._something_waits.notify()
        if not write.is_finished_within(WAIT_SECONDS):
            with self._mutex:
                if write.state == "waiting":
                    write.state = "withdrawn"
                    self._waiting.remove(write)
            if not write.is_finished_within(0):
                raise BusyError(f"the database was busy for {WAIT_SECONDS:.0f} seconds")
        if write.error is not None:
            raise write.error
        return write.result

    def stop(self) -> None:
        with self._mutex:
            self._is_stopping = True
            self._something_waits.notify()
        self._thread.join(WAIT_SECONDS)

    def _loop(self) -> None:
        is_untidy = False  # whether something was written since the WAL was last looked at
        while True:
            with self._mutex:
                while not self._waiting and not self._is_stopping:
                    if not self._something_waits.wait(QUIET_SECONDS if is_untidy else None) and is_untidy:
                        break
                if not self._waiting and self._is_stopping:
                    break
            if not self._waiting:
                is_untidy = not self._tidy()
                continue
            is_untidy = True
            batch: list[WaitingWrite] = []
            try:
                with self._database.lock:
                    try:
                        self._commit_together(batch)
                    except BaseException as error:
                        self._database.last_failure.failed(error, max((write.rows for write in batch), default=0))
                        raise
            except BaseException as error:  # the thread must survive all disk errors; the callers get them
                self._forget_connection()
                trouble = error if isinstance(error, DatabaseError) else DatabaseError(f"write failed: {error}")
                if not batch:  # opening or beginning failed, which concerns all waiting writes
                    batch = self._take_all()
                for write in batch:
                    write.result, write.error = None, trouble
            for write in batch:
                write.finish()
            self._follow()
        self._forget_connection()

    def _commit_together(self, batch: list[WaitingWrite]) -> None:
        """Fill ``batch`` with the writes taken and commit them. After an exception none of them is stored."""
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

    def _follow(self) -> None:
        """Once a second: open a new connection when Litestream has begun, and do its work when it has stopped."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + QUIET_SECONDS
        if is_followed(self._database.path) != self._is_followed:
            self._forget_connection()
        elif self._is_followed:
            self._tidy()

    def _look_at_version(self, connection: sqlite3.Connection) -> None:
        """Refuse to write where newer code has changed the schema under this process. No statement after a credit."""
        changes = self._database.lock.changes()
        if changes is None or changes != self._changes_seen:
            if (version := file_version(connection)) != SCHEMA_VERSION:
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

    def _take(self) -> WaitingWrite | None:
        with self._mutex:
            if not self._waiting:
                return None
            write = self._waiting.popleft()
            write.state = "begun"
            return write

    def _take_all(self) -> list[WaitingWrite]:
        return list(iter(self._take, None))

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
    return int(version)


def creation_script() -> str:
    """The statements that make a new database."""
    return (
        f"{SCHEMA_FILE.read_text(encoding='utf-8')}\n"
        f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {SCHEMA_VERSION};"
    )


def migrate(connection: sqlite3.Connection) -> None:
    """Bring an open file to this code's version: all steps in one transaction. The caller holds the write lock.

    Raises :class:`SchemaError` for a version that cannot be migrated, and when the steps would leave a row that refers
    to none. Then the file is as it was, and the code that made it can still serve it.
    """
    version = file_version(connection)
    if not OLDEST_VERSION <= version <= SCHEMA_VERSION:
        raise SchemaError(version_trouble(version))
    if version == SCHEMA_VERSION:
        return
    log = logging.getLogger("coinslot")
    steps = f"steps from schema version {version} to {SCHEMA_VERSION}"
    log.info("%s: nothing is served until they have ended; stopped before that, the file stays as it is", steps)
    began_at = time.monotonic()
    # Else DROP TABLE, with which a step makes a table anew, would delete the rows that refer to it. SQLite takes this
    # outside a transaction only.
    connection.execute("PRAGMA foreign_keys = OFF")
    try:
        with transaction(connection):
            for step in range(version + 1, SCHEMA_VERSION + 1):
                MIGRATIONS[step](connection)
            if (broken := connection.execute("PRAGMA foreign_key_check").fetchone()) is not None:
                raise SchemaError(f"the {steps} would leave a row of {broken[0]} that refers to none of {broken[2]}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION:d}")
    finally:
        connection.execute("PRAGMA foreign_keys = ON")
    log.info("%s: done in %.1f s", steps, time.monotonic() - began_at)


def version_trouble(version: int) -> str:
    """Why a file of this schema version is not served, and what to do about it."""
    if version > SCHEMA_VERSION:
        what = f"newer than this code's {SCHEMA_VERSION}; update the code"
    elif version < OLDEST_VERSION:
        what = "older than the first release; keep the folder for the code that made it, and begin with a new one"
    else:
        what = f"older than this code's {SCHEMA_VERSION}; start the server once"
    return f"the database has schema version {version}, {what}"
