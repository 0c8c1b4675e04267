"""Restores: a copy is served in place of the current database.

* A restore is prepared and checked in a file of its own. Whenever the machine stops, the old database or the new one
  is served, whole; and what was served before is kept beside it.
* A restore uses no feed id again, so that a game's cursor misses nothing. What was credited after the copy was taken
  is missing from the ledger until its partner reports it again; it then gets the same transaction id. Ids of
  deliveries and attempts jump too: an attempt from before the restore is not taken for a new one.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from coinslot.access import keyring, people, sessions
from coinslot.access.vault import MasterKey, Vault, database_key_id, set_database_key_id
from coinslot.ledger import notices
from coinslot.operations import forgetting
from coinslot.operations.alerts import watch
from coinslot.operations.backup import BackupError, backup_errors, check_integrity, create, remove, sync
from coinslot.operations.serving import (
    Live,
    holds_game,
    look_at,
    put_in_place,
    replace_content,
    transactions_until,
)
from coinslot.outbox import deliveries
from coinslot.store import audit, feed_ids, revision
from coinslot.store.db import SCHEMA_VERSION, Database, EngineError
from coinslot.store.sqlite import SqliteDatabase, connect, file_version, migrate


class IncompleteCopyError(BackupError):
    """A copy may lack what was committed last: a person must agree before it is served."""


@dataclass(frozen=True)
class Restored:
    """What a restore did. ``kept`` is the database served before, ``aside`` the same where it could not be read."""

    key_id: str
    former_key_id: str | None  # the key the copy was under, where that is not the installation's
    former_version: int | None  # the copy's schema version, where that was older
    sealed_values: int
    last_ids: dict[str, int]
    transactions_until: str | None  # when the newest transaction in the copy came in
    forgotten: int  # players who were forgotten since the copy was taken, and now in it too
    kept: Path | None = None
    aside: Path | None = None
    kept_schema: str | None = None  # the same as ``kept`` where PostgreSQL serves: the name it has now


def restore(
    database: Database,
    vault: Vault,
    file: Path,
    copy_file: Callable[[Path, Path], object] = shutil.copyfile,
    *,
    may_be_incomplete: bool = False,
) -> Restored:
    """Check a copy, then serve it in place of the current database; running servers see it on their next request.

    The copy must be a sound Coinslot database, not newer than this code, with a game if there is one now, and each
    sealed value in it must open with a current master key. If a rotation has replaced that key, everything is sealed
    again under the present one.

    A copy of the database's own file, which :func:`backup` did not make, is refused with
    :class:`IncompleteCopyError` unless it ``may_be_incomplete``.

    A sound current database keeps its file and gets the copy's content in one commit: the connections of running
    servers stay valid. Its former content is kept beside it; the write lock is held over both, so that no commit falls
    between. A missing file is created; one that is damaged or newer than this code is moved aside, unless a process
    has it open.

    On PostgreSQL the copy's rows are loaded beside the tables that are served, and then take their names in one commit.

    Raises :class:`BackupError` or VaultError; what is served is then unchanged.
    """
    file = file.resolve()
    vault.candidates()  # raises when there is no key, before anything is made
    if not file.is_file():
        raise BackupError(f"there is no file {file}")
    if isinstance(database, SqliteDatabase) and database.path.exists() and file.samefile(database.path):
        raise BackupError(f"{file} is the database itself")
    with ExitStack() as stack:
        stack.enter_context(backup_errors(f"{file} was not restored"))
        stack.enter_context(_only_restore(database.home))
        if isinstance(database, SqliteDatabase):
            live = look_at(database.path)
        else:
            from coinslot.operations.served_tables import served_tables  # which imports psycopg

            tables = stack.enter_context(served_tables(database))
            live = tables.look_at()
        prepared = database.home / f".restore-{secrets.token_hex(4)}"
        try:
            restored = _prepare(prepared, file, vault, live, database.home, copy_file)
            if _is_raw_copy(file) and not may_be_incomplete:
                raise IncompleteCopyError(_what_may_be_missing(file, restored, live))
            if not isinstance(database, SqliteDatabase):
                return replace(restored, kept_schema=tables.replace(prepared, live))
            with database.lock:
                if live.state == "healthy":
                    return replace(restored, kept=replace_content(database, prepared, live))
                return replace(restored, aside=put_in_place(database, prepared, live))
        finally:
            remove(prepared)


def _prepare(
    prepared: Path, file: Path, vault: Vault, live: Live, home: Path, copy_file: Callable[[Path, Path], object]
) -> Restored:
    """Copy ``file`` to ``prepared``, check it, and turn it into what is to be served."""
    # Not opened where it is: a copy may be on a disk that cannot be written.
    create(prepared)
    copy_file(file, prepared)
    for suffix in ("-wal", "-journal"):
        if Path(f"{file}{suffix}").exists():
            create(Path(f"{prepared}{suffix}"))
            shutil.copyfile(f"{file}{suffix}", f"{prepared}{suffix}")

    try:
        connection = connect(prepared)
    except (EngineError, ValueError) as error:
        raise BackupError(f"{file} cannot be read as a database: {error}") from None
    try:
        version = file_version(connection)
        check_integrity(connection, file)
        if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise BackupError(f"{file} is damaged: rows refer to rows that are not there")
        connection.execute("PRAGMA journal_mode = DELETE")
        migrate(connection)
        if live.has_game and not holds_game(connection):
            raise BackupError(
                f"{file} holds no game, but the current database does; was it copied without the -wal file beside it? "
                "`flask backup` makes copies that are whole"
            )

        copy_key, key = _choose_keys(vault, database_key_id(connection), live.key_id)
        connection.execute("BEGIN IMMEDIATE")
        sealed_values = keyring.reseal(connection, copy_key, key)  # opens each one, and so tests it
        set_database_key_id(connection, key.id)
        last_ids = feed_ids.jump(connection, live.last_ids)
        deliveries.begin_above(connection, feed_ids.far_above(deliveries.last_ids(connection), live.last_ids))
        for row in connection.execute("SELECT id FROM games").fetchall():
            revision.touch(connection, row["id"])
        sessions.end_all(connection)  # the copy may hold one that was ended since
        people.remove_again(connection, live.removed)
        forgotten = forgetting.forget_again(connection, key, home, live.forgotten)
        watch.forget(connection)  # they may have been sent since
        notices.set_restored(connection)
        audit.record(connection, None, "command", "restore", file.name)
        connection.execute("COMMIT")

        if live.page_size is not None and live.state == "healthy":
            # A database in WAL mode cannot take pages of another size; VACUUM does nothing where the size is right.
            (page_size,) = connection.execute("PRAGMA page_size").fetchone()
            if page_size != live.page_size:
                connection.execute(f"PRAGMA page_size = {live.page_size:d}")
                connection.execute("VACUUM")
        else:
            connection.execute("PRAGMA journal_mode = WAL")
        until = transactions_until(connection)
    finally:
        connection.close()
    sync(prepared)
    return Restored(
        key_id=key.id,
        former_key_id=None if copy_key.id == key.id else copy_key.id,
        former_version=None if version == SCHEMA_VERSION else version,
        sealed_values=sealed_values,
        last_ids=last_ids,
        transactions_until=until,
        forgotten=forgotten,
    )


def _is_raw_copy(file: Path) -> bool:
    """Whether a file was copied as it lay there. It says that it is in WAL mode, as a backup never does.

    What the server commits is in the file with the WAL at first, sometimes for hours.
    """
    with file.open("rb") as opened:
        return opened.read(20)[18:] == b"\x02\x02"


def _what_may_be_missing(file: Path, restored: Restored, live: Live) -> str:
    newest = (
        "it holds no transaction"
        if restored.transactions_until is None
        else (f"the newest transaction in it is of {restored.transactions_until}")
    )
    if live.transactions_until is not None:
        newest += f", that of the database which is served now of {live.transactions_until}"
    if Path(f"{file}-wal").exists():
        risk = "If the server ran while it was copied with its -wal file, the two may not belong to the same moment"
    else:
        risk = "There is no -wal file beside it, so what the server committed last may not be in it"
    return f"{file} is not a backup but a copy of the database's own file. {risk}: orders may be missing; {newest}"


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
        f"the copy is under master key {copy_key_id}, which is not here; put its key file beside {vault.path} "
        f"as {vault.path.name}.old-restore, and try again"
    )


@contextmanager
def _only_restore(home: Path) -> Iterator[None]:
    """One restore at a time. What a killed one has left is removed."""
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
