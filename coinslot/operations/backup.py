"""Copies of a database in use, and putting one back.

* A copy is one state between two commits, in one file: everything acknowledged before it was begun is in it. The master
  key is not; without it a copy gives nobody a secret, and restores nothing.
* A restore is prepared and checked on a file of its own. What is served is then the old database or the new one,
  entirely, whenever the machine stops; and what was served before is kept beside it.
* A restore never hands out a feed id again, so a game's cursor from before it misses nothing. What was credited after
  the copy was taken is gone from the ledger until its partner reports it again; it then has the same transaction id.
  Ids of deliveries and attempts jump likewise: what was on its way meanwhile is taken for nothing that is sent now.
"""

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from coinslot.access import keyring, owner
from coinslot.access.vault import MasterKey, Vault, database_key_id, set_database_key_id
from coinslot.base import clock
from coinslot.ledger import notices
from coinslot.operations import forgetting
from coinslot.outbox import deliveries
from coinslot.store import audit, engine, revision
from coinslot.store.db import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    Connection,
    Database,
    DatabaseError,
    EngineError,
    connect,
    file_version,
    hand_over,
    migrate,
)

PAGES_PER_STEP = 2048  # of a copy; between steps a signal is heard
SIDE_FILES = ("-wal", "-shm", "-journal")

# A restore moves the feeds' ids by this much, and never below what this rate would have reached since 1970. The rate
# is above what Coinslot can credit: ids stay new even when the database in between is lost without a trace and the
# same old copy is restored twice. Both stay far below 2**53, where JSON numbers end.
ID_GAP = 1_000_000_000
IDS_PER_SECOND = 10_000

# Where SQLite keeps its locks: every connection to a database in WAL mode holds some of these bytes while it is open.
LOCK_BYTES_START, LOCK_BYTES = 0x40000000, 512


class BackupError(DatabaseError):
    """A copy that was not written, or not restored; nothing was changed. The message is for the person who asked."""


@dataclass(frozen=True)
class Copy:
    """A copy as it was written. ``key_id`` names the master key it needs; None: it holds nothing sealed."""

    path: Path
    size_bytes: int
    key_id: str | None


@dataclass(frozen=True)
class Restored:
    """What a restore did. ``kept`` is the database that was served before, ``aside`` one that could not be read."""

    key_id: str
    former_key_id: str | None  # the key the copy was under, where that is not the installation's
    former_version: int | None  # the copy's schema version, where that was older
    sealed_values: int
    last_ids: dict[str, int]
    transactions_until: str | None  # when the newest transaction in the copy came in
    forgotten: int  # players who were forgotten since the copy was taken, and in it now
    kept: Path | None = None
    aside: Path | None = None


@dataclass(frozen=True)
class _Live:
    """What is being served. ``state`` is ``healthy``, ``missing``, ``damaged`` or ``newer`` than this code."""

    state: str
    trouble: str = ""
    key_id: str | None = None
    page_size: int | None = None
    last_ids: Mapping[str, int] = field(default_factory=dict)  # of the feeds, of deliveries and attempts
    has_game: bool = False


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
    with _in_words(f"{file} was not written"):
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
            _write_copy(source, file, file.with_name(f".{file.name}.{secrets.token_hex(4)}.partial"), database.path)
        finally:
            source.close()
        return Copy(file, file.stat().st_size, key)


def copy_to_send(database: Database) -> tuple[Copy, IO[bytes]]:
    """A copy as an open file that has no name any more: closing it frees the disk, and so does any end of the process.

    It is made in the home folder, where there is room for a second database or there is none for backups either.
    Raises :class:`BackupError`.
    """
    with _in_words("no copy was made"), _own_folder(database.home) as folder:
        file = folder / "copy.db"
        copy = backup(database, file)
        return copy, file.open("rb")


def restore(database: Database, vault: Vault, file: Path) -> Restored:
    """Check a copy, then serve it in place of the database at hand; running servers see it on their next request.

    Checked: it is a sound Coinslot database, not newer than this code, not one without a game where there is one now,
    and each sealed value in it opens with a master key at hand. Where a rotation has replaced that key, everything is
    sealed again under the present one.

    A database at hand that is sound keeps its file and gets the copy's content, in one commit of its own: the
    connections of running servers stay good, and no write can end in a file that is no longer there. What it held is
    kept beside it; both happen under one holding of the write lock, so no commit falls between. A missing file is
    put in place; one that is damaged or newer than this code is moved aside, if no process has it open.

    Raises :class:`BackupError` or VaultError, and then what is served is what was served.
    """
    file = file.resolve()
    vault.candidates()  # without a key nothing can be checked: say so before anything is made
    if not file.is_file():
        raise BackupError(f"there is no file {file}")
    if database.path.exists() and file.samefile(database.path):
        raise BackupError(f"{file} is the database itself")
    with _in_words(f"{file} was not restored"), _only_restore(database.home):
        live = _look_at(database.path)
        prepared = database.home / f".restore-{secrets.token_hex(4)}"
        try:
            restored = _prepare(prepared, file, vault, live, database.home)
            hand_over(prepared)
            with database.lock:
                hand_over(database.home / "write.lock")
                if live.state == "healthy":
                    return replace(restored, kept=_replace_content(database, prepared, live))
                return replace(restored, aside=_put_in_place(database, prepared, live))
        finally:
            _remove(prepared)


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
    for side_file in _side_files(file):
        if side_file.exists():
            raise BackupError(f"{side_file} is in the way: SQLite would take it for a part of the copy")


def _write_copy(source: Connection, file: Path, partial: Path, original: Path | None = None) -> None:
    """Write the state ``source`` is on to ``partial`` and, once that is on the disk, rename it to ``file``.

    Checked before the rename where ``original`` says whose damage it would be.
    """
    try:
        _create(partial)
        copy = connect(partial)
        try:
            _copy_pages(source, copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # out of WAL mode: one file that needs none beside it
            if original is not None:
                _check_integrity(copy, original)
        finally:
            copy.close()
        _sync(partial)
        os.replace(partial, file)
        _sync(file.parent)
    except BaseException:
        _remove(partial)
        raise


def _copy_pages(source: Connection, target: Connection) -> None:
    def locked() -> BackupError:
        return BackupError("another program keeps the database locked")

    engine.copy_pages(source, target, PAGES_PER_STEP, locked)


def _look_at(path: Path) -> _Live:
    """The state of the database at hand, and of its facts those that can be read."""
    if not path.exists():
        return _Live("missing")
    try:
        connection = connect(path)
    except (EngineError, ValueError) as error:
        return _Live("damaged", str(error))
    key, page_size = None, None
    last_ids: dict[str, int] = {}
    has_game = False
    try:
        with suppress(EngineError, ValueError):
            last_ids = {row["name"]: row["last_id"] for row in connection.execute("SELECT * FROM sequences")}
            key = database_key_id(connection)
            has_game = _has_game(connection)
            last_ids |= deliveries.last_ids(connection)
        version = file_version(connection)
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        if version > SCHEMA_VERSION:
            return _Live("newer", f"schema version {version}", key, page_size, last_ids, has_game)
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        return _Live("healthy" if answer == "ok" else "damaged", answer, key, page_size, last_ids, has_game)
    except (EngineError, DatabaseError, ValueError) as error:
        return _Live("damaged", str(error), key, page_size, last_ids, has_game)
    finally:
        connection.close()


def _prepare(prepared: Path, file: Path, vault: Vault, live: _Live, home: Path) -> Restored:
    """Copy ``file`` to ``prepared``, check that, and make of it what is to be served. Returns what to tell of it."""
    # The bytes are copied, rather than opened where they are: a copy may be on a disk that cannot be written.
    _create(prepared)
    shutil.copyfile(file, prepared)
    for suffix in ("-wal", "-journal"):
        if Path(f"{file}{suffix}").exists():
            _create(Path(f"{prepared}{suffix}"))
            shutil.copyfile(f"{file}{suffix}", f"{prepared}{suffix}")

    try:
        connection = connect(prepared)
    except (EngineError, ValueError) as error:
        raise BackupError(f"{file} cannot be read as a database: {error}") from None
    try:
        version = file_version(connection)
        _check_integrity(connection, file)
        if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise BackupError(f"{file} is damaged: rows refer to rows that are not there")
        connection.execute("PRAGMA journal_mode = DELETE")
        migrate(connection)
        if live.has_game and not _has_game(connection):
            raise BackupError(
                f"{file} holds no game, but the database at hand does; was it copied without the -wal file beside it? "
                "`flask backup` makes copies that are whole"
            )

        copy_key, key = _choose_keys(vault, database_key_id(connection), live.key_id)
        connection.execute("BEGIN IMMEDIATE")
        sealed_values = keyring.reseal(connection, copy_key, key)  # opens each one: this is the test
        set_database_key_id(connection, key.id)
        last_ids = _move_feeds(connection, live.last_ids)
        deliveries.begin_above(connection, _far_above(deliveries.last_ids(connection), live.last_ids))
        for row in connection.execute("SELECT id FROM games").fetchall():
            revision.touch(connection, row["id"])
        owner.end_sessions(connection)  # the copy may remember one that was ended since
        forgotten = forgetting.forget_again(connection, key, home)
        notices.restored(connection)
        audit.record(connection, None, "command", "restore", file.name)
        connection.execute("COMMIT")

        if live.state == "healthy" and live.page_size is not None:
            # A database in WAL mode cannot take pages of another size; VACUUM does nothing where the size is right.
            (page_size,) = connection.execute("PRAGMA page_size").fetchone()
            if page_size != live.page_size:
                connection.execute(f"PRAGMA page_size = {live.page_size:d}")
                connection.execute("VACUUM")
        else:
            connection.execute("PRAGMA journal_mode = WAL")
        (until,) = connection.execute(
            "SELECT received_at FROM transactions WHERE id = (SELECT max(id) FROM transactions)"
        ).fetchone() or (None,)
    finally:
        connection.close()
    _sync(prepared)
    return Restored(
        key_id=key.id,
        former_key_id=None if copy_key.id == key.id else copy_key.id,
        former_version=None if version == SCHEMA_VERSION else version,
        sealed_values=sealed_values,
        last_ids=last_ids,
        transactions_until=until,
        forgotten=forgotten,
    )


def _has_game(connection: Connection) -> bool:
    return connection.execute("SELECT 1 FROM games LIMIT 1").fetchone() is not None


def _choose_keys(vault: Vault, copy_key_id: str | None, live_key_id: str | None) -> tuple[MasterKey, MasterKey]:
    """The key the copy is under, and the one this installation is under."""
    at_hand = vault.candidates()
    current = next((key for key in at_hand if key.id == live_key_id), at_hand[0])
    if copy_key_id is None:
        return current, current
    for key in (*at_hand, *vault.put_aside()):
        if key.id == copy_key_id:
            return key, current
    raise BackupError(
        f"the copy is under master key {copy_key_id}, which is not at hand; put its key file beside {vault.path} "
        f"as {vault.path.name}.old-restore, and try again"
    )


def _move_feeds(tx: Connection, live_last_ids: Mapping[str, int]) -> dict[str, int]:
    """Move every feed's last id far past any that was ever handed out; returns them."""
    rows = tx.execute("SELECT name, last_id FROM sequences ORDER BY name").fetchall()
    moved = _far_above({row["name"]: row["last_id"] for row in rows}, live_last_ids)
    for name, last_id in moved.items():
        tx.execute("UPDATE sequences SET last_id = :last_id WHERE name = :name", {"last_id": last_id, "name": name})
    return moved


def _far_above(last_ids: Mapping[str, int], live_last_ids: Mapping[str, int]) -> dict[str, int]:
    least = int(clock.now()) * IDS_PER_SECOND
    return {
        name: max(last_id + ID_GAP, live_last_ids.get(name, 0) + ID_GAP, least) for name, last_id in last_ids.items()
    }


def _replace_content(database: Database, prepared: Path, live: _Live) -> Path:
    """Keep what the live file holds, then give it the prepared content. The caller holds the write lock."""
    kept = _beside(database, "before-restore")
    target = connect(database.path)
    try:
        file_version(target)
        if database_key_id(target) != live.key_id:
            raise BackupError("the master key was rotated just now; try again")
        if target.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise BackupError("the database is not in WAL mode and cannot be brought there while it is in use")
        _write_copy(target, kept, prepared.with_name(f"{prepared.name}-kept"))
        hand_over(kept)
        source = connect(prepared)
        try:
            _copy_pages(source, target)
        except BaseException:
            _remove(kept)
            raise
        finally:
            source.close()
        # The whole database has gone through the WAL: give its disk back, unless that means waiting for a reader.
        with suppress(EngineError):  # the restore is committed, and a later checkpoint will do
            target.execute("PRAGMA busy_timeout = 0")
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        target.close()
    return kept


def _put_in_place(database: Database, prepared: Path, live: _Live) -> Path | None:
    """Rename the prepared file to the live one's name, which is then new, or free. The caller holds the write lock.

    A file that cannot be served may still be open in a server that was started before. It would go on with the file
    moved aside, and what it commits would be lost: hence the look at SQLite's own locks, which each connection holds
    some of, on the file; held until the end, they also keep everyone from opening it. A file that was deleted can be
    asked for no lock; where there is a /proc, it knows who has it open.
    """
    aside = _beside(database, "damaged")
    if live.state == "missing":
        if database.path.exists():
            raise BackupError("a database was made just now; try again")
        _check_nobody_has_it_open(database.path)
        left = _move_side_files(database.path, aside)
        os.replace(prepared, database.path)
        _sync(database.home)
        return aside if left else None

    descriptor = os.open(database.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, LOCK_BYTES, LOCK_BYTES_START)
        except OSError:
            raise BackupError(
                f"the database at hand cannot be used ({live.state}: {live.trouble}) and must be moved aside, but a "
                "process has it open; stop the server and try again"
            ) from None
        os.link(database.path, aside)  # two names until the rename: no moment without a file
        _move_side_files(database.path, aside)  # an old WAL beside the new file would be taken for its own
        os.replace(prepared, database.path)
        _sync(database.home)
    finally:
        os.close(descriptor)
    return aside


def _move_side_files(path: Path, aside: Path) -> bool:
    """Give -wal and -shm the new name of the file they belong to; returns whether there were any."""
    found = [side_file for side_file in _side_files(path) if side_file.exists()]
    for side_file in found:
        os.replace(side_file, f"{aside}{side_file.name.removeprefix(path.name)}")
    return bool(found)


def _check_nobody_has_it_open(path: Path) -> None:
    """Raises :class:`BackupError` when a process still has the missing database, or its WAL, open as far as we see."""
    names = {str(each) for each in (path.resolve(), *_side_files(path.resolve()))}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # the process ended, or is not ours to look at
            if os.readlink(link).removesuffix(" (deleted)") in names:
                raise BackupError(f"process {link.parts[2]} still has the missing database open; stop the server first")


@contextmanager
def _only_restore(home: Path) -> Iterator[None]:
    """One restore at a time; whatever an earlier one that was killed has left is removed."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError("another restore is under way") from None
        for leftover in home.glob(".restore-*"):
            leftover.unlink()
        yield
    finally:
        os.close(descriptor)


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
def _in_words(what: str) -> Iterator[None]:
    """A full disk, a missing permission and the like, as a :class:`BackupError`.

    ValueError too: Python's sqlite3 raises it over a damaged file, when SQLite's message quotes bytes that are no text.
    """
    try:
        yield
    except (EngineError, OSError, ValueError) as error:
        raise BackupError(f"{what}: {error}") from error


def _check_integrity(connection: Connection, file: Path) -> None:
    try:
        (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except (EngineError, ValueError) as error:
        answer = str(error)
    if answer != "ok":
        raise BackupError(f"{file} is damaged: {answer}")


def _beside(database: Database, word: str) -> Path:
    return database.path.with_name(f"{database.path.name}.{word}-{clock.stamp().replace(':', '')}")


def _side_files(path: Path) -> list[Path]:
    return [Path(f"{path}{suffix}") for suffix in SIDE_FILES]


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _remove(path: Path) -> None:
    for each in (path, *_side_files(path)):
        each.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
