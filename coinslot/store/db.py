"""The database: what every engine promises. ``sqlite.py`` is the engine of an installation that names no other.

* A write is a function of a connection. It runs in its own savepoint: all of it happens or nothing.
* :meth:`Database.write` returns after COMMIT has returned: the write is on the disk.
* Commits of all processes follow one another under one lock, so a write sees the state it will be committed on.
* Reads never take the lock.
"""

import os
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from coinslot.store.errors import BusyError as BusyError
from coinslot.store.errors import DatabaseError as DatabaseError
from coinslot.store.errors import SchemaError as SchemaError
from coinslot.store.writer import Writer

SCHEMA_VERSION = 12
OLDEST_VERSION = 12  # earlier versions were previews, never released; each later one has a migration
SCHEMA_FILE = Path(__file__).resolve().parents[2] / "schema.sql"

# For the folders above, which import no engine. Another engine's connections and rows have the part of these that
# Coinslot uses, and it raises subclasses of these errors.
Connection = sqlite3.Connection
Row = sqlite3.Row
EngineError = sqlite3.Error
IntegrityError = sqlite3.IntegrityError

T = TypeVar("T")


class Database(ABC):
    """One installation's database. Safe to share between threads; opens nothing before it is used.

    ``home`` is the installation's folder on this machine, ``name`` what sentences call the database: a path, or an
    address without a password. Every commit holds ``lock``; who holds it does what no commit may fall between.
    """

    name: str
    lock: AbstractContextManager[None]

    def __init__(self, home: Path) -> None:
        self.home = home
        self._local = threading.local()
        self._starting = threading.Lock()
        self._writer: Writer | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Make the database where it is missing, and migrate an older one.

        Raises :class:`SchemaError` when it is newer than the code, a preview's, or not Coinslot's.
        """

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is a database already."""

    @abstractmethod
    def read(self) -> Connection:
        """A connection for this thread to read with. It sees what is committed and cannot change anything."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[Connection]:
        """This thread's reading connection, which sees one state of the database for several queries."""

    @abstractmethod
    def commits_seen(self) -> int:
        """Another number than before once another process or thread has committed. For those who wait for that."""

    @abstractmethod
    def changes(self) -> int | None:
        """A number that is another one after each commit that may have changed a game's configuration.

        None while it is not known whether such a commit is done, and where that would cost a statement.
        """

    def write(self, function: Callable[[Connection], T], *, keeps_games: bool = False) -> T:
        """Run ``function`` inside a transaction and return its result once that is committed and on the disk.

        ``keeps_games``: it changes no game, setting or secret, so that :meth:`changes` may stay as it is.

        What it raises is raised here, and nothing of it is stored. Raises :class:`BusyError` when it takes too long
        (``writer.py``): a function that was not begun by then never runs, but one that was may still commit, so the
        caller must be able to repeat it (unique keys make that safe).
        """
        with self._starting:
            if self._writer is None or self._writer.pid != os.getpid():
                self._writer = self._new_writer()
        result: T = self._writer.run(function, keeps_games)
        return result

    @abstractmethod
    def _new_writer(self) -> Writer:
        """A writer, begun."""

    @abstractmethod
    def write_here(self, function: Callable[[Connection], T]) -> T:
        """Like :meth:`write`, in this thread: for commands, which have no commit to share."""

    @abstractmethod
    def is_refusing(self) -> bool:
        """Whether a commit of any process failed on the disk, and its process has committed nothing as large since.

        Waits and raises like a write.
        """

    @abstractmethod
    def is_marked(self) -> bool:
        """The same as far as it is known without a commit. Waits for the lock as a write does."""

    def files(self) -> tuple[Path, ...]:
        """The files on this machine that hold the database or guard it, whether they are there or not."""
        return ()

    @abstractmethod
    def size_bytes(self) -> int:
        """How large all tables and their indexes are."""

    def free_bytes(self) -> int | None:
        """The room on the disk of the database; None where the database server alone can tell. Raises OSError."""
        return None

    @abstractmethod
    def tidy(self) -> None:
        """Remove what commits have left behind and nobody needs, such as deleted data in a log of commits."""

    def close(self) -> None:
        """Stop this process's writer after the writes that wait, and close this thread's connection."""
        with self._starting:
            writer, self._writer = self._writer, None
        if writer is not None and writer.pid == os.getpid():
            writer.stop()
        self._close_readers()

    @abstractmethod
    def _close_readers(self) -> None: ...


def open_database(home: Path, url: str | None = None) -> Database:
    """The database of an installation: the SQLite file in ``home``, or a PostgreSQL database by its ``url``."""
    if url is not None:
        try:
            from coinslot.store.postgres.database import PostgresDatabase
        except ModuleNotFoundError as error:
            raise ValueError(
                f"COINSLOT_DATABASE: {error.name} is not installed; run: pip install -r requirements-postgres.txt"
            ) from None

        return PostgresDatabase(home, url)
    from coinslot.store.sqlite import SqliteDatabase  # which imports this file

    return SqliteDatabase(home)


def version_trouble(version: int) -> str:
    """Why a file of this schema version is not served, and what to do about it."""
    if version > SCHEMA_VERSION:
        what = f"newer than this code's {SCHEMA_VERSION}; update the code"
    elif version < OLDEST_VERSION:
        what = "older than the first release; keep the folder for the code that made it, and begin with a new one"
    else:
        what = f"older than this code's {SCHEMA_VERSION}; start the server once"
    return f"the database has schema version {version}, {what}"
