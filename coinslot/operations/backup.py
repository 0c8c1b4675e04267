"""Copies of a database in use.

A copy is one state between two commits, in one file: everything acknowledged before it was begun is in it. The master
key is not; without it a copy gives nobody a secret, and restores nothing.
"""

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from coinslot.access.vault import database_key_id
from coinslot.base import clock
from coinslot.store import engine
from coinslot.store.db import (
    APPLICATION_ID,
    Connection,
    Database,
    DatabaseError,
    EngineError,
    connect,
    file_version,
)

PAGES_PER_STEP = 2048  # of a copy; between steps a signal is heard
SIDE_FILES = ("-wal", "-shm", "-journal")


class BackupError(DatabaseError):
    """A copy that was not written, or not restored; nothing was changed. The message is for the person who asked."""


@dataclass(frozen=True)
class Copy:
    """A copy as it was written. ``key_id`` names the master key it needs; None: it holds nothing sealed."""

    path: Path
    size_bytes: int
    key_id: str | None


def backup(database: Database, file: Path) -> Copy:
    """Write a copy of the database to ``file``, while it is in use; an earlier copy there is replaced at the end.

    The write lock is held only until the copy's state is fixed: a transaction that has read once stays on that state
    of the WAL, and SQLite's backup copies out of the transaction it finds open. Credits go on meanwhile, however long
    the copy takes; only the WAL cannot start over before it is done. The state is taken under the lock so that no
    commit of ours is under way just then, not even when opening the file has to recover it after a crash.

    Raises :class:`BackupError`, and then ``file`` is what it was.
    """
    file = file.resolve()
    if not database.path.is_file():
        raise BackupError(f"there is no database at {database.path}")
    _check_target(database, file)
    with in_words(f"{file} was not written"):
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
            write_copy(source, file, file.with_name(f".{file.name}.{secrets.token_hex(4)}.partial"), database.path)
        finally:
            source.close()
        return Copy(file, file.stat().st_size, key)


def copy_to_send(database: Database) -> tuple[Copy, IO[bytes]]:
    """A copy as an open file that has no name any more: closing it frees the disk, and so does any end of the process.

    It is made in the home folder, where there is room for a second database or there is none for backups either.
    Raises :class:`BackupError`.
    """
    with in_words("no copy was made"), _own_folder(database.home) as folder:
        file = folder / "copy.db"
        copy = backup(database, file)
        return copy, file.open("rb")


def _check_target(database: Database, file: Path) -> None:
    """A copy may take the place of a copy: of nothing else, and never of a file we live on."""
    if not file.parent.is_dir():
        raise BackupError(f"there is no folder {file.parent}")
    if file.exists():
        if not file.is_file() or file.samefile(database.path):
            raise BackupError(f"{file} cannot be replaced by a copy")
        with file.open("rb") as opened:
            head = opened.read(72)
        if head and (head[:16] != b"SQLite format 3\0" or head[68:72] != APPLICATION_ID.to_bytes(4, "big")):
            raise BackupError(f"{file} is something else than a copy of a Coinslot database; it is left alone")
    elif file == database.path.resolve():
        raise BackupError(f"{file} cannot be replaced by a copy")
    for side_file in side_files(file):
        if side_file.exists():
            raise BackupError(f"{side_file} is in the way: SQLite would take it for a part of the copy")


def write_copy(source: Connection, file: Path, partial: Path, original: Path | None = None) -> None:
    """Write the state ``source`` is on to ``partial`` and, once that is on the disk, rename it to ``file``.

    Checked before the rename where ``original`` says whose damage it would be.
    """
    try:
        create(partial)
        copy = connect(partial)
        try:
            copy_pages(source, copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # out of WAL mode: one file that needs none beside it
            if original is not None:
                check_integrity(copy, original)
        finally:
            copy.close()
        sync(partial)
        os.replace(partial, file)
        sync(file.parent)
    except BaseException:
        remove(partial)
        raise


def copy_pages(source: Connection, target: Connection) -> None:
    def locked() -> BackupError:
        return BackupError("another program keeps the database locked")

    engine.copy_pages(source, target, PAGES_PER_STEP, locked)


@contextmanager
def _own_folder(home: Path) -> Iterator[Path]:
    """A folder of our own that goes away; one whose maker was killed goes away with the next."""
    for leftover in home.glob(".download-*"):
        with suppress(OSError):
            is_new = leftover.stat().st_mtime > clock.now() - 60  # and perhaps not held yet
            if not is_new:
                with _held(leftover):  # not held by anybody: its maker is gone
                    shutil.rmtree(leftover)
    folder = Path(tempfile.mkdtemp(prefix=".download-", dir=home))
    try:
        with _held(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Raises OSError when another process, or another part of this one, holds the folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def in_words(what: str) -> Iterator[None]:
    """A full disk, a missing permission and the like, as a :class:`BackupError`.

    ValueError too: Python's sqlite3 raises it over a damaged file, when SQLite's message quotes bytes that are no text.
    """
    try:
        yield
    except (EngineError, OSError, ValueError) as error:
        raise BackupError(f"{what}: {error}") from error


def check_integrity(connection: Connection, file: Path) -> None:
    try:
        (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except (EngineError, ValueError) as error:
        answer = str(error)
    if answer != "ok":
        raise BackupError(f"{file} is damaged: {answer}")


def side_files(path: Path) -> list[Path]:
    return [Path(f"{path}{suffix}") for suffix in SIDE_FILES]


def create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def remove(path: Path) -> None:
    for each in (path, *side_files(path)):
        each.unlink(missing_ok=True)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
