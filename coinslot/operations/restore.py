"""A copy put back.

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from coinslot.access import keyring, owner
from coinslot.access.vault import MasterKey, Vault, database_key_id, set_database_key_id
from coinslot.base import clock
from coinslot.ledger import notices
from coinslot.operations import forgetting
from coinslot.operations.backup import BackupError, check_integrity, create, in_words, remove, sync
from coinslot.operations.serving import Live, holds_game, look_at, put_in_place, replace_content
from coinslot.outbox import deliveries
from coinslot.store import audit, revision
from coinslot.store.db import SCHEMA_VERSION, Connection, Database, EngineError, connect, file_version, migrate
from coinslot.store.lock import hand_over

# A restore moves the feeds' ids by this much, and never below what this rate would have reached since 1970. The rate
# is above what Coinslot can credit: ids stay new even when the database in between is lost without a trace and the
# same old copy is restored twice. Both stay far below 2**53, where JSON numbers end.
ID_GAP = 1_000_000_000
IDS_PER_SECOND = 10_000


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
    with in_words(f"{file} was not restored"), _only_restore(database.home):
        live = look_at(database.path)
        prepared = database.home / f".restore-{secrets.token_hex(4)}"
        try:
            restored = _prepare(prepared, file, vault, live, database.home)
            hand_over(prepared)
            with database.lock:
                hand_over(database.home / "write.lock")
                if live.state == "healthy":
                    return replace(restored, kept=replace_content(database, prepared, live))
                return replace(restored, aside=put_in_place(database, prepared, live))
        finally:
            remove(prepared)


def _prepare(prepared: Path, file: Path, vault: Vault, live: Live, home: Path) -> Restored:
    """Copy ``file`` to ``prepared``, check that, and make of it what is to be served. Returns what to tell of it."""
    # The bytes are copied, rather than opened where they are: a copy may be on a disk that cannot be written.
    create(prepared)
    shutil.copyfile(file, prepared)
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
        notices.set_restored(connection)
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
