"""Backups: copies of a database in use.

A copy is the state between two commits, in one file: everything acknowledged before it began is in it. The master key
is not. Without the key, a copy reveals no secret and cannot be restored.
"""

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from coinslot.access.vault import database_key_id
from coinslot.base import clock
from coinslot.store import copying, engine
from coinslot.store.db import Connection, Database, DatabaseError, EngineError
from coinslot.store.lock import hand_over, make_empty
from coinslot.store.sqlite import APPLICATION_ID, SqliteDatabase, connect, file_version

PAGES_PER_STEP = 2048  # of a copy; between steps a signal is heard
AfterStep = Callable[[int, int], None]  # pages or rows left, of how many
SIDE_FILES = ("-wal", "-shm", "-journal")


class BackupError(DatabaseError):
    """A copy was not written, or not restored; nothing was changed."""


@dataclass(frozen=True)
class Copy:
    """A written copy. ``key_id`` names the master key it needs; None: it holds nothing sealed."""

    path: Path
    size_bytes: int
    key_id: str | None


def _go_on(left: int, total: int) -> None:
    """Do nothing between two steps."""


def backup(database: Database, file: Path, *, after_step: AfterStep = _go_on, is_checked: bool = True) -> Copy:
    """Write a copy of the database to ``file`` while it is in use; an earlier copy there is replaced at the end.

    Whoever checks the copy afterwards says that it is not to be checked here (``is_checked``).

    The write lock is held only until the state to copy is fixed: a transaction that has read once keeps that state of
    the WAL, and SQLite's backup copies from the open transaction. Credits continue meanwhile; only the WAL cannot
    start over before the copy is done. Under the lock no commit of ours is under way, even when opening the file has
    to recover it after a crash.

    Of a PostgreSQL database it is a SQLite file with the same rows, of one state of it. Nothing waits for that.

    Raises :class:`BackupError`; ``file`` is then unchanged.
    """
    file = file.resolve()
    check_is_there(database)
    _check_target(database, file)
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}.partial")
    with backup_errors(f"{file} was not written"):
        if not isinstance(database, SqliteDatabase):
            with database.snapshot() as source:
                key = database_key_id(source)
                checked = file if is_checked else None
                write_copy(lambda copy: copying.fill_file(copy, source, after_step), file, partial, checked)
            return Copy(file, file.stat().st_size, key)
        with database.lock:
            source = connect(database.path)
            try:
                file_version(source)
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            except BaseException:
                source.close()
                raise
        try:
            key = database_key_id(source)
            checked = database.path if is_checked else None
            write_copy(lambda copy: copy_pages(source, copy, after_step), file, partial, checked)
        finally:
            source.close()
        return Copy(file, file.stat().st_size, key)


def check_is_there(database: Database) -> None:
    """Raises :class:`DatabaseError` where there is nothing to copy. Nothing is made."""
    if not isinstance(database, SqliteDatabase):
        database.read().execute("SELECT 1")
    elif not database.path.is_file():
        raise BackupError(f"there is no database at {database.path}")


def copy_to_send(database: Database) -> tuple[Copy, IO[bytes]]:
    """A copy as an open file without a name: closing it, or the end of the process, frees the disk.

    It is made in the home folder. Raises :class:`BackupError`.
    """
    with backup_errors("no copy was made"), _own_folder(database.home) as folder:
        file = folder / "copy.db"
        copy = backup(database, file)
        return copy, file.open("rb")


@contextmanager
def received(home: Path, stream: IO[bytes]) -> Iterator[Path]:
    """A stream as a file in the home folder, until the block ends. Raises :class:`BackupError`."""
    with backup_errors("what was sent was not kept"):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _own_folder(home) as folder:
        file = folder / "standard-input"
        with backup_errors("what was sent was not kept"):
            create(file)
            with file.open("wb") as kept:
                shutil.copyfileobj(stream, kept)
        yield file


def _check_target(database: Database, file: Path) -> None:
    """A copy may replace a copy, and no other file."""
    if not file.parent.is_dir():
        raise BackupError(f"there is no folder {file.parent}")
    served = database.path if isinstance(database, SqliteDatabase) else None
    if file.exists():
        if not file.is_file() or (served is not None and served.exists() and file.samefile(served)):
            raise BackupError(f"{file} cannot be replaced by a copy")
        with file.open("rb") as opened:
            head = opened.read(72)
        if head and (head[:16] != b"SQLite format 3\0" or head[68:72] != APPLICATION_ID.to_bytes(4, "big")):
            raise BackupError(f"{file} is not a copy of a Coinslot database; it is not replaced")
    elif served is not None and file == served.resolve():
        raise BackupError(f"{file} cannot be replaced by a copy")
    for side_file in side_files(file):
        if side_file.exists():
            raise BackupError(f"{side_file} is in the way: SQLite would take it for a part of the copy")


def write_copy(fill: Callable[[Connection], object], file: Path, partial: Path, checked: Path | None = None) -> None:
    """Have ``fill`` fill ``partial`` and, once that is on the disk, rename it to ``file``.

    With ``checked``, the name of what is copied, the copy is checked before it is renamed.
    """
    try:
        create(partial)
        copy = connect(partial)
        try:
            fill(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # leave WAL mode: one file
            if checked is not None:
                check_integrity(copy, checked)
        finally:
            copy.close()
        sync(partial)
        os.replace(partial, file)
        sync(file.parent)
    except BaseException:
        remove(partial)
        raise


def copy_pages(source: Connection, target: Connection, after_step: AfterStep = _go_on) -> None:
    """Copy a database into another one. Raises :class:`BackupError` when another program keeps one locked."""

    def locked() -> BackupError:
        return BackupError("another program keeps the database locked")

    engine.copy_pages(source, target, PAGES_PER_STEP, locked, after_step)


@contextmanager
def _own_folder(home: Path) -> Iterator[Path]:
    """A temporary folder; one whose process was killed is removed by the next call."""
    for leftover in home.glob(".download-*"):
        with suppress(OSError):
            is_new = leftover.stat().st_mtime > clock.now() - 60  # and perhaps not held yet
            if not is_new:
                with held(leftover):  # no process holds it
                    shutil.rmtree(leftover)
    folder = Path(tempfile.mkdtemp(prefix=".download-", dir=home))
    hand_over(folder)
    try:
        with held(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Raises OSError when another process, or another part of this one, holds the folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def backup_errors(what: str) -> Iterator[None]:
    """A full disk, a missing permission and the like, as a :class:`BackupError`.

    ValueError too: Python's sqlite3 raises it for a damaged file when SQLite's message quotes bytes that are not text.
    """
    try:
        yield
    except (EngineError, OSError, ValueError) as error:
        raise BackupError(f"{what}: {error}") from error


def check_integrity(connection: Connection, file: Path) -> None:
    """Raises :class:`BackupError`, which names ``file``, when the database is damaged."""
    try:
        (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except (EngineError, ValueError) as error:
        answer = str(error)
    if answer != "ok":
        raise BackupError(f"{file} is damaged: {answer}")


def side_files(path: Path) -> list[Path]:
    """The files that SQLite may keep beside a database."""
    return [Path(f"{path}{suffix}") for suffix in SIDE_FILES]


def create(path: Path) -> None:
    """Make an empty file, as ``make_empty`` does, where there is none."""
    make_empty(path, os.O_EXCL)


def remove(path: Path) -> None:
    """Delete a database and the files beside it, if they exist."""
    for each in (path, *side_files(path)):
        each.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
