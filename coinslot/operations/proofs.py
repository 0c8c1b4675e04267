"""Proofs: a backup is written, restored in a folder of its own, checked and kept; the result is stored.

Whenever it is stopped, by a signal, SIGKILL or a machine that stops, the backups of before are there and what is served
is untouched. What a killed one has left is removed by the next.
"""

import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from coinslot.access.vault import Vault
from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.operations import backup_folder
from coinslot.operations.backup import backup, check_is_there
from coinslot.operations.backup_folder import Keep, Pace, UnderWayError
from coinslot.operations.drill import Checked, Newest, drill
from coinslot.store import queries
from coinslot.store.db import Connection, Database, EngineError, Row
from coinslot.store.lock import hand_over

KEPT_ROWS = 400
KEEP = Keep()
BACKUP_SHARE = 0.4  # of the whole work


@dataclass(frozen=True)
class Proof:
    """A proof that has ended. ``fault`` is the first thing that was wrong; None: all is well."""

    began_at: str
    ended_at: str
    took_ms: int
    faults: int
    fault: str | None
    file: str | None
    size_bytes: int | None
    kept: int
    is_short: bool

    @classmethod
    def of(cls, row: Row) -> "Proof":
        columns = {each.name: row[each.name] for each in fields(cls)}
        return cls(**columns | {"is_short": bool(row["is_short"])})


def prove(
    database: Database,
    vault: Vault,
    folder: Path,
    *,
    keep: Keep = KEEP,
    progress: Callable[[float], None] = lambda share: None,
    checked: Callable[[Checked], None] = lambda check: None,
) -> Proof:
    """Back up into ``folder``, restore aside, check, keep, and store the result, also that of a failure.

    ``progress`` is called with the share of the work that is done, ``checked`` with each check once it was made.

    Raises :class:`UnderWayError` when another proof runs, DatabaseError when there is no database, and the database's
    errors when the result cannot be stored.
    """
    check_is_there(database)
    began_at, start = clock.stamp(), time.monotonic()
    made = _Made(checked)
    try:
        with backup_folder.in_use(folder, database.home):
            _make(database, vault, folder, keep, progress, made)
    except UnderWayError:
        raise
    except (CoinslotError, EngineError, OSError, ValueError) as error:
        made.note(Checked.of("a backup can be made", [str(error)]))
    proof = Proof(
        began_at=began_at,
        ended_at=clock.stamp(),
        took_ms=round((time.monotonic() - start) * 1000),
        faults=made.faults,
        fault=made.fault,
        file=made.file,
        size_bytes=made.size_bytes,
        kept=len(backup_folder.proved(folder)),
        is_short=made.is_short,
    )
    database.write_here(lambda tx: _record(tx, proof))
    return proof


@dataclass
class _Made:
    """What there is so far."""

    checked: Callable[[Checked], None]
    faults: int = 0
    fault: str | None = None
    file: str | None = None
    size_bytes: int | None = None
    is_short: bool = False

    def note(self, check: Checked) -> None:
        self.faults += check.count
        self.fault = self.fault or next(iter(check.faults), None)
        self.checked(check)


def _make(
    database: Database, vault: Vault, folder: Path, keep: Keep, progress: Callable[[float], None], made: _Made
) -> None:
    with database.snapshot() as connection:
        newest = Newest.of(connection)
    backup_folder.make_room(folder, database.size_bytes(), keep)
    pace = Pace(folder, keep.least_bytes)
    unproved = backup_folder.new_name(folder)

    def after_step(left: int, total: int) -> None:
        for partial in folder.glob(f".{unproved.name}.*.partial"):
            pace.step(partial)
        progress(BACKUP_SHARE * (1 - left / max(total, 1)))

    copy = backup(database, unproved, after_step=after_step, is_checked=False)  # the drill checks it
    made.file, made.size_bytes = unproved.name, copy.size_bytes
    backup_folder.remove_unproved(folder, but=unproved)
    place = folder / f".drill-{secrets.token_hex(4)}"
    place.mkdir(mode=0o700)
    hand_over(place)
    for check in drill(
        *(place, unproved, vault, newest, pace.copy_file),
        lambda share: progress(BACKUP_SHARE + (1 - BACKUP_SHARE) * share),
    ):
        made.note(check)
    shutil.rmtree(place)
    if not made.faults:
        made.file = backup_folder.approve(unproved).name
        made.is_short = backup_folder.prune(folder, database.home, copy.size_bytes, keep)


def last(connection: Connection) -> Proof | None:
    """The newest proof that has ended; None: there was none yet."""
    row = queries.row(connection, "SELECT * FROM proofs ORDER BY id DESC LIMIT 1", {})
    return None if row is None else Proof.of(row)


def last_and_beat(connection: Connection) -> tuple[Proof | None, str | None]:
    """The same, and when a relay last said that it runs, in one statement: for the page that has few of them."""
    row = connection.execute(
        """SELECT p.*, h.beat_at FROM (SELECT 1 AS here) o LEFT JOIN heartbeats h ON h.name = 'relay'
           LEFT JOIN (SELECT * FROM proofs ORDER BY id DESC LIMIT 1) p ON p.id > 0"""
    ).fetchone()
    return None if row["id"] is None else Proof.of(row), row["beat_at"]


def last_good(connection: Connection) -> Proof | None:
    """The newest proof that found nothing wrong."""
    row = queries.row(connection, "SELECT * FROM proofs WHERE faults = 0 ORDER BY id DESC LIMIT 1", {})
    return None if row is None else Proof.of(row)


def _record(tx: Connection, proof: Proof) -> None:
    queries.insert(tx, "proofs", vars(proof) | {"is_short": int(proof.is_short)})
    tx.execute("DELETE FROM proofs WHERE id <= (SELECT max(id) FROM proofs) - :kept", {"kept": KEPT_ROWS})


# Part of the statement in troubles.py. A proof that has begun may take some hours before it is missed.
TROUBLES = """
    SELECT 'unproved_backup', NULL, faults, fault, NULL, ended_at, NULL
    FROM (SELECT * FROM proofs ORDER BY id DESC LIMIT 1) newest_proof WHERE fault IS NOT NULL
    UNION ALL
    SELECT 'old_backup', NULL, NULL, NULL, NULL, (SELECT max(ended_at) FROM proofs WHERE faults = 0), NULL
    WHERE EXISTS (SELECT 1 FROM games WHERE created_at < :day_ago)
      AND NOT EXISTS (SELECT 1 FROM proofs WHERE faults = 0 AND ended_at > :two_days_ago)
      AND NOT EXISTS (SELECT 1 FROM schedules WHERE name = 'proof' AND cursor > :hours_ago)
    UNION ALL
    SELECT 'few_backups', NULL, kept, NULL, NULL, ended_at, NULL
    FROM (SELECT * FROM proofs ORDER BY id DESC LIMIT 1) newest_kept WHERE is_short = 1
    UNION ALL
    SELECT 'unproved_key', NULL, NULL, value, NULL, updated_at, NULL FROM installation k
    WHERE name = 'vault.key_id' AND EXISTS (SELECT 1 FROM secrets)
      AND NOT EXISTS (SELECT 1 FROM installation c WHERE c.name = 'vault.checked_key_id' AND c.value = k.value)
"""
