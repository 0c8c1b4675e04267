"""Moves: an installation goes from the SQLite file in its folder to a PostgreSQL database, or back.

All commits of running servers wait meanwhile. The steps, and what a crash after each leaves:

1. The new database is filled beside its place, and compared row by row. The old one is served.
2. It gets its place, with a mark that it is arriving, so that it is refused. The old one is served.
3. The old one is marked as moved. None is served; each says why, and that the same command ends the move.
4. The mark of the new one is taken away. It is served.

What was moved from is kept: the file, or the tables under another name.
"""

import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from coinslot.access import keyring
from coinslot.access.vault import Vault, VaultError
from coinslot.ledger import chain
from coinslot.operations import forgetting
from coinslot.operations.backup import backup_errors, create, remove, sync
from coinslot.operations.serving import Live, put_in_place
from coinslot.store import audit, copying
from coinslot.store.connection import transaction
from coinslot.store.db import SCHEMA_VERSION, Connection, Database, DatabaseError, SchemaError, version_trouble
from coinslot.store.errors import MovedError
from coinslot.store.marks import Mark
from coinslot.store.sqlite import SqliteDatabase, connect, file_version, read_mark, write_mark

FAULTS_SHOWN = 5
Progress = Callable[[float], None]  # the share of the work that is done


class MoveError(DatabaseError):
    """A move that was not made. What was served before is served."""


@dataclass(frozen=True)
class Moved:
    """What a move did. ``rows`` per table: empty when it ended one that was cut short after the last comparison."""

    to: Database
    kept: str | None  # what was moved from, or the file that was in the way; None: there was none
    rows: dict[str, int]
    chain_faults: tuple[str, ...]  # the first; the rows that were moved from have them too
    seconds: float


def move(database: Database, vault: Vault, target: Database, progress: Progress = lambda share: None) -> Moved:
    """Move the installation from the engine that serves it to the other one, or end a move that was cut short.

    The master key must open every sealed value, and be the environment's for PostgreSQL.

    Raises :class:`MoveError` when the target holds a Coinslot, when this is not a move between the two engines, or when
    a row is not the same afterwards; VaultError; and :class:`MovedError` for a database that was moved elsewhere.
    """
    if isinstance(database, SqliteDatabase) == isinstance(target, SqliteDatabase):
        raise MoveError(
            "a move goes from SQLite to PostgreSQL or back, from what COINSLOT_DATABASE names (nothing: SQLite); "
            f"it names {database.name}"
        )
    began = time.monotonic()
    with backup_errors("nothing was moved"):
        if isinstance(database, SqliteDatabase):
            kept, rows, faults = _to_postgres(database, target, vault, progress)
        else:
            assert isinstance(target, SqliteDatabase)
            kept, rows, faults = _to_sqlite(database, target, vault, progress)
    target.write_here(lambda tx: audit.record(tx, None, "command", "move", target.name))
    return Moved(target, kept, rows, faults, time.monotonic() - began)


Done = tuple[str | None, dict[str, int], tuple[str, ...]]  # kept, rows, chain_faults


def _to_postgres(source: SqliteDatabase, target: Database, vault: Vault, progress: Progress) -> Done:
    from coinslot.store.postgres import schemas  # psycopg is there only for who uses it

    if not vault.is_from_environment:
        raise VaultError(
            "on PostgreSQL the master key comes from the environment. Set COINSLOT_MASTER_KEY to the content of "
            f"{vault.path}, for this command and for every server from now on"
        )
    if not source.path.exists():
        raise MoveError(f"there is no database at {source.path}")
    with source.lock, schemas.alone(target) as raw, schemas.commits_wait(raw):
        mark = _mark_of_file(source.path)
        other = schemas.read_mark(raw) if schemas.is_there(raw) else None
        if mark is not None:
            if mark.is_arriving or other is None or other.move_id != mark.move_id:
                raise MovedError(mark.sentence())
            schemas.unmark(raw)
            return source.name, {}, ()
        if schemas.is_there(raw) and other is None:
            raise MoveError(f"{target.name} holds a Coinslot already. Nothing was changed")
        with closing(connect(source.path)) as old:
            old.execute("BEGIN")
            keyring.open_each(old, vault.current(old))
            name, rows = schemas.fill(raw, old, _share_of(progress))
            with schemas.reading(raw, name) as new:
                _compare(old, new, source, target, schemas.id_faults(new))
            faults = tuple(islice(chain.verify(old), FAULTS_SHOWN))
            old.execute("ROLLBACK")
            move_id = secrets.token_hex(8)
            schemas.put_in_place(raw, name, Mark(move_id, source.name, is_arriving=True), "")
            _mark_file(source, old, Mark(move_id, target.name, is_arriving=False))
            schemas.unmark(raw)
    return source.name, rows, faults


def _to_sqlite(source: Database, target: SqliteDatabase, vault: Vault, progress: Progress) -> Done:
    from coinslot.store.postgres import schemas

    target.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with target.lock, schemas.alone(source) as raw, schemas.commits_wait(raw):
        if not schemas.is_there(raw):
            raise MoveError(f"there are no tables in {source.name}")
        mark, other = schemas.read_mark(raw), _mark_of_file(target.path) if target.path.exists() else None
        if mark is not None:
            if mark.is_arriving or other is None or other.move_id != mark.move_id:
                raise MovedError(mark.sentence())
            _unmark_file(target)
            return None, {}, ()
        if target.path.exists() and other is None:
            raise MoveError(f"{target.path} holds a Coinslot already. Nothing was changed")
        for leftover in target.home.glob(".move-*"):
            leftover.unlink()
        prepared = target.home / f".move-{secrets.token_hex(4)}"
        move_id = secrets.token_hex(8)
        try:
            create(prepared)
            with source.snapshot() as old, closing(connect(prepared)) as new:
                keyring.open_each(old, vault.current(old))
                rows = copying.fill_file(new, old, _share_of(progress))
                _compare(old, new, source, target, ())
                faults = tuple(islice(chain.verify(new), FAULTS_SHOWN))
                forgetting.remember_all(old, target.home)
                with transaction(new):
                    write_mark(new, Mark(move_id, source.name, is_arriving=True))
                new.execute("PRAGMA journal_mode = WAL")
            sync(prepared)
            live = Live("missing") if other is None else Live("moved", f"a move with {other.other}")
            aside = put_in_place(target, prepared, live, "moved")
        finally:
            remove(prepared)
        schemas.leave(raw, Mark(move_id, target.name, is_arriving=False))
        _unmark_file(target)
    return None if aside is None else str(aside), rows, faults


def _compare(old: Connection, new: Connection, source: Database, target: Database, faults: Iterable[str]) -> None:
    found = [*copying.differences(old, new, (source.name, target.name)), *faults]
    if found:
        raise MoveError(f"the copy is not the same: {'; '.join(found[:FAULTS_SHOWN])}. Nothing was changed")


def _mark_of_file(path: Path) -> Mark | None:
    """The mark of a file; None: it may be served. Raises :class:`SchemaError` for one of another version."""
    with closing(connect(path)) as connection:
        try:
            version = file_version(connection)
        except MovedError:
            return read_mark(connection)
    if version != SCHEMA_VERSION:
        raise SchemaError(version_trouble(version))
    return None


def _mark_file(database: SqliteDatabase, connection: Connection, mark: Mark | None) -> None:
    """Mark the file that is served, or take its mark away; running servers see it. The caller holds the lock."""
    with database.lock.changing(), transaction(connection):
        write_mark(connection, mark)
    database.lock.begin_turn()


def _unmark_file(database: SqliteDatabase) -> None:
    with closing(connect(database.path)) as connection:
        _mark_file(database, connection, None)


def _share_of(progress: Progress) -> copying.AfterPortion:
    return lambda left, total: progress(1 - left / max(total, 1))
