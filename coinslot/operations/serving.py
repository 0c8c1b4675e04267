"""The database that is served: its state, and how a restore replaces it.

Whenever the machine stops, the old database or the new one is served, whole; what was served before is kept beside it.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

from coinslot.access import people
from coinslot.access.vault import database_key_id
from coinslot.base import clock
from coinslot.operations import forgetting
from coinslot.operations.backup import BackupError, copy_pages, remove, side_files, sync, write_copy
from coinslot.outbox import deliveries
from coinslot.store.connection import is_followed
from coinslot.store.db import SCHEMA_VERSION, Connection, DatabaseError, EngineError
from coinslot.store.errors import MovedError
from coinslot.store.queries import value
from coinslot.store.sqlite import SqliteDatabase, connect, file_version

# SQLite's locks: every open connection to a database in WAL mode holds a lock on some of these bytes of the file.
LOCK_BYTES_START, LOCK_BYTES = 0x40000000, 512


@dataclass(frozen=True)
class Live:
    """The current database.

    ``state`` is ``healthy``, ``missing``, ``damaged``, ``newer`` (than this code) or ``moved`` (to another database).
    """

    state: str
    trouble: str = ""
    key_id: str | None = None
    page_size: int | None = None
    last_ids: Mapping[str, int] = field(default_factory=dict)  # of the feeds, of deliveries and attempts
    has_game: bool = False
    removed: Mapping[str, str] = field(default_factory=dict)  # people, folded name -> when
    forgotten: Mapping[str, str] = field(default_factory=dict)  # players, as hashes -> when
    transactions_until: str | None = None  # when the newest transaction came in


def look_at(path: Path) -> Live:
    """The state of the current database, with what can be read of it. Raises MovedError for one that was moved."""
    if not path.exists():
        return Live("missing")
    known: dict[str, Any] = {}
    try:
        connection = connect(path)
    except (EngineError, ValueError) as error:
        return Live("damaged", str(error))
    try:
        with suppress(EngineError, ValueError):
            for name, found in facts(connection):
                known[name] = found
        version = file_version(connection)
        (known["page_size"],) = connection.execute("PRAGMA page_size").fetchone()
        if version > SCHEMA_VERSION:
            return Live("newer", f"schema version {version}", **known)
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        return Live("healthy" if answer == "ok" else "damaged", answer, **known)
    except MovedError:
        raise  # nothing may be served there
    except (EngineError, DatabaseError, ValueError) as error:
        return Live("damaged", str(error), **known)
    finally:
        connection.close()


def facts(connection: Connection) -> Iterator[tuple[str, Any]]:
    """What a restore has to know of the current database, one after the other: fields of :class:`Live`."""
    last_ids = {row["name"]: row["last_id"] for row in connection.execute("SELECT name, last_id FROM sequences")}
    yield "last_ids", last_ids
    yield "key_id", database_key_id(connection)
    yield "has_game", holds_game(connection)
    yield "removed", people.removed(connection)
    yield "forgotten", forgetting.known(connection)
    yield "transactions_until", transactions_until(connection)
    yield "last_ids", last_ids | deliveries.last_ids(connection)


def holds_game(connection: Connection) -> bool:
    """Whether a database holds a game."""
    return connection.execute("SELECT 1 FROM games LIMIT 1").fetchone() is not None


def transactions_until(connection: Connection) -> str | None:
    """When the newest transaction came in; None where there is none."""
    found: str | None = value(connection, "SELECT received_at FROM transactions ORDER BY id DESC LIMIT 1", {})
    return found


def replace_content(database: SqliteDatabase, prepared: Path, live: Live) -> Path:
    """Keep a copy of the live file, then give it the prepared content. The caller holds the write lock."""
    kept = _beside(database, "before-restore")
    target = connect(database.path)
    try:
        file_version(target)
        if database_key_id(target) != live.key_id:
            raise BackupError("the master key was rotated just now; try again")
        if target.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise BackupError("the database is not in WAL mode and cannot be brought there while it is in use")
        write_copy(lambda copy: copy_pages(target, copy), kept, prepared.with_name(f"{prepared.name}-kept"))
        source = connect(prepared)
        try:
            copy_pages(source, target)
        except BaseException:
            remove(kept)
            raise
        finally:
            source.close()
        # The WAL is as large as the database now: cut it, unless a reader keeps it in use, or Litestream does that.
        with suppress(EngineError):  # the restore is committed, and a later checkpoint cuts it too
            if not is_followed(database.path):
                target.execute("PRAGMA busy_timeout = 0")
                target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        target.close()
    return kept


def put_in_place(database: SqliteDatabase, prepared: Path, live: Live, word: str = "damaged") -> Path | None:
    """Give the prepared file the live one's name. The caller holds the write lock.

    Returns the name that the live one has now, with ``word`` in it; None where there was nothing.

    A file that cannot be served may still be open in a running server, which would continue on the file moved aside,
    and its commits would be lost. So all of SQLite's locks on the file are taken first: it fails when a connection is
    open, and keeps new ones out. A deleted file has no lock to take; /proc, where it exists, knows which process has
    it open.
    """
    aside = _beside(database, word)
    if live.state == "missing":
        if database.path.exists():
            raise BackupError("a database was made just now; try again")
        _check_nobody_has_it_open(database.path)
        left = _move_side_files(database.path, aside)
        os.replace(prepared, database.path)
        sync(database.home)
        return aside if left else None

    descriptor = os.open(database.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, LOCK_BYTES, LOCK_BYTES_START)
        except OSError:
            raise BackupError(
                f"the current database cannot be used ({live.state}: {live.trouble}) and must be moved aside, but a "
                "process has it open; stop the server and try again"
            ) from None
        os.link(database.path, aside)  # two names until the rename, so that there is always a file
        _move_side_files(database.path, aside)  # SQLite would take an old WAL for the new file's
        os.replace(prepared, database.path)
        sync(database.home)
    finally:
        os.close(descriptor)
    return aside


def _move_side_files(path: Path, aside: Path) -> bool:
    """Rename the files beside a database as it was renamed; returns whether there were any."""
    found = [side_file for side_file in side_files(path) if side_file.exists()]
    for side_file in found:
        os.replace(side_file, f"{aside}{side_file.name.removeprefix(path.name)}")
    return bool(found)


def _check_nobody_has_it_open(path: Path) -> None:
    """Raises :class:`BackupError` when a process that we can see has the missing database, or its WAL, open."""
    names = {str(each) for each in (path.resolve(), *side_files(path.resolve()))}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # the process ended, or is not ours to look at
            if os.readlink(link).removesuffix(" (deleted)") in names:
                raise BackupError(f"process {link.parts[2]} still has the missing database open; stop the server first")


def _beside(database: SqliteDatabase, word: str) -> Path:
    """A path that is free, with the time in it. The caller holds the write lock."""
    name = f"{database.path.name}.{word}-{clock.stamp().replace(':', '')}"
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(path for each in names if not (path := database.path.with_name(each)).exists())
