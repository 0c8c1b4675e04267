"""The job that has a proof made every night (``proofs.py``), in a process of its own.

The first one follows soon after the first game; then one at night, and at once where a night was missed. None begins in
the first minute of a server. One that found something wrong, or was cut off, is made again some hours later.
"""

import logging
import threading
import zlib
from pathlib import Path

from coinslot.base import clock
from coinslot.base.settings import Settings
from coinslot.operations import backup_folder, proofs
from coinslot.operations.proof_process import Running
from coinslot.relay import jobs
from coinslot.store import queries
from coinslot.store.db import Connection, Database

JOB = "proof"
NIGHT_SECONDS = 3 * 3600  # after midnight UTC, and up to this much later, so that machines do not all begin together:
SPREAD_SECONDS = 1800
AFTER_START_SECONDS = 60.0  # less than a trouble stands before an alert: a server that was off tells nobody
AFTER_GAME_SECONDS = 600.0
AFTER_FAULT_SECONDS = 6 * 3600.0
AFTER_CUT_OFF_SECONDS = 3600.0
LONGEST_PAUSE_SECONDS = 1800.0

log = logging.getLogger("coinslot")


def begin_when_due(settings: Settings, database: Database, started_at: float) -> float:
    """Begin a proof if one is due; returns in how many seconds to look again. ``started_at``: of this process."""
    now = clock.now()
    due_at = next_at(database.read(), settings.home)
    if due_at is None:
        return LONGEST_PAUSE_SECONDS
    due_at = max(due_at, started_at + AFTER_START_SECONDS)
    if due_at > now:
        return min(due_at - now, LONGEST_PAUSE_SECONDS)
    if not backup_folder.is_under_way(settings.backups):
        # Before it begins: one that takes the machine down is not begun again at once.
        database.write(lambda tx: jobs.put_cursor(tx, jobs.INSTALLATION, JOB, clock.stamp(now)))
        threading.Thread(target=_follow, args=(Running(settings),), name="coinslot-proof", daemon=True).start()
    return LONGEST_PAUSE_SECONDS


def next_at(connection: Connection, home: Path) -> float | None:
    """When the next proof is due; None while there is no game, and nothing to lose."""
    begun_at = jobs.cursor(connection, jobs.INSTALLATION, JOB)
    last = proofs.last(connection)
    now = clock.now()
    if last is not None and (begun_at is None or last.began_at >= begun_at):
        began = clock.seconds(last.began_at)
        due_at = _night_after(began, home) if last.fault is None else began + AFTER_FAULT_SECONDS
    elif begun_at is not None:
        began = clock.seconds(begun_at)
        due_at = began + AFTER_CUT_OFF_SECONDS
    else:
        first = queries.value(connection, "SELECT min(created_at) FROM games", {})
        if first is None:
            return None
        began = clock.seconds(first)
        due_at = began + AFTER_GAME_SECONDS
    return due_at if began <= now else now  # the clock was ahead then


def _night_after(seconds: float, home: Path) -> float:
    spread = zlib.crc32(str(home).encode()) % SPREAD_SECONDS
    night = seconds // clock.DAY_SECONDS * clock.DAY_SECONDS + NIGHT_SECONDS + spread
    return night if night > seconds else night + clock.DAY_SECONDS


def _follow(running: Running) -> None:
    """Hold the process's standard input open, which it ends with, and log the result."""
    for _ in running:
        pass
    proof = running.proof
    if proof is None and running.is_under_way:
        log.info("proof: %s", running.error)
    elif proof is None:
        log.error("proof: no backup was proved: %s", running.error)
    elif proof.fault is None:
        log.info("proof: %s was restored aside and checked in %.1f s", proof.file, proof.took_ms / 1000)
    else:
        log.error("proof: %d thing(s) wrong; the first: %s", proof.faults, jobs.in_a_line(proof.fault))
