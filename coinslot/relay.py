"""The loop that drains the outbox: claim, send, record, wait.

Any number of relays may run, as threads of the web workers and as ``flask relay``: a claim is a lease, and only one of
them gets it. The network is outside every transaction. A relay sees what any process commits within
:data:`LOOK_SECONDS`.
"""

import logging
import os
import secrets
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from email.utils import parsedate_to_datetime

from coinslot import clock, destinations, outbox, webhooks
from coinslot.db import Database, DatabaseError
from coinslot.outbound import Answer, Outbound
from coinslot.outbox import Claim, Result
from coinslot.vault import Vault, VaultError

LOOK_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 1.0
BEAT_SECONDS = 5.0
PRUNE_SECONDS = 60.0
STOP_SECONDS = 15.0
IN_FLIGHT_PER_DESTINATION = 8  # so that a slow one cannot take every thread
THREADS = 64
KEPT_DELIVERED_DAYS = 30
LONGEST_RETRY_AFTER_SECONDS = 86400.0

log = logging.getLogger("coinslot")


class Relay:
    """One relay. ``run`` loops until ``stop``; ``drain`` sends what is due now and returns."""

    def __init__(self, database: Database, vault: Vault, outbound: Outbound) -> None:
        self._database = database
        self._vault = vault
        self._outbound = outbound
        self.owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._stopping = threading.Event()
        self._slot_freed = threading.Event()
        self._in_flight: Counter[int] = Counter()
        self._mutex = threading.Lock()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="coinslot-relay")
        self._futures: set[Future[None]] = set()

    def run(self) -> None:
        """Until :meth:`stop`. Trouble with the database is logged and waited out; it never ends the loop."""
        next_beat = next_prune = 0.0
        while not self._stopping.is_set():
            try:
                if time.monotonic() >= next_beat:
                    self._database.write(outbox.beat)
                    next_beat = time.monotonic() + BEAT_SECONDS
                if time.monotonic() >= next_prune:
                    is_more = self._prune()
                    next_prune = time.monotonic() + (1 if is_more else PRUNE_SECONDS)
                if self._claim_and_send() == 0:
                    self._wait(min(next_beat, time.monotonic() + LONGEST_WAIT_SECONDS))
            except (DatabaseError, VaultError, sqlite3.Error, OSError) as error:
                log.error("the relay waits: %s", error)
                self._stopping.wait(LONGEST_WAIT_SECONDS)
        self._finish()

    def drain(self) -> int:
        """Send what is due, and what becomes due while that is sent, and return how many attempts that were."""
        count = 0
        self._database.write(outbox.beat)
        while not self._stopping.is_set():
            claimed = self._claim_and_send()
            count += claimed
            if claimed == 0:
                with self._mutex:
                    futures = set(self._futures)
                if not futures:
                    break
                self._slot_freed.wait(LOOK_SECONDS)
                self._slot_freed.clear()
        self._finish()
        return count

    def stop(self) -> None:
        """Ask the loop to end: what is in hand is finished, nothing more is claimed. May be called by a signal."""
        self._stopping.set()
        self._slot_freed.set()

    def _claim_and_send(self) -> int:
        connection = self._database.read()
        room = self._room(connection)
        due = outbox.next_due(connection, room)
        if due is None or due > clock.now():
            return 0
        claims = self._database.write(lambda tx: outbox.claim_due(tx, self.owner, room))
        for claim in claims:
            with self._mutex:
                self._in_flight[claim.destination.id] += 1
                future = self._pool.submit(self._deliver, claim)
                self._futures.add(future)
            future.add_done_callback(self._freed(claim))
        return len(claims)

    def _deliver(self, claim: Claim) -> None:
        try:
            result = self._attempt(claim)
            state = self._database.write(lambda tx: outbox.record(tx, claim, result))
        except (DatabaseError, VaultError, sqlite3.Error) as error:
            # Not recorded: the lease runs out and the delivery is attempted again, under the same id.
            log.error("delivery %d to %s was not recorded: %s", claim.id, claim.destination.name, error)
            return
        except Exception:
            log.exception("delivery %d to %s could not be made", claim.id, claim.destination.name)
            return
        if state == "dead":
            log.error("delivery %d to %s is dead: %s", claim.id, claim.destination.name, result.failure)
        elif result.failure is not None:
            log.warning("delivery %d to %s failed: %s", claim.id, claim.destination.name, result.failure)

    def _attempt(self, claim: Claim) -> Result:
        destination = claim.destination
        connection = self._database.read()
        content = webhooks.body(connection, claim)
        keys = destinations.signing_secrets(connection, self._vault, destination.id)
        if not keys:
            return Result("rejected", detail="it has no signing secret")
        timeout = min(float(destination.timeout_seconds), claim.leased_until - clock.now() - 1)
        if timeout <= 0:
            return Result("timeout", detail="its turn came too late")
        headers = webhooks.headers(claim, content, keys)
        return judged(destination, self._outbound.post(destination.url, headers, content, timeout))

    def _freed(self, claim: Claim) -> "_Freed":
        return _Freed(self, claim.destination.id)

    def _wait(self, until: float) -> None:
        """Until another connection commits, a slot is freed, something is due, or it is ``until``."""
        connection = self._database.read()
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        due = outbox.next_due(connection, self._room(connection))
        while not self._stopping.is_set() and time.monotonic() < until:
            if self._slot_freed.wait(LOOK_SECONDS):
                self._slot_freed.clear()
                return
            if due is not None and due <= clock.now():
                return
            if connection.execute("PRAGMA data_version").fetchone()[0] != version:
                return

    def _room(self, connection: sqlite3.Connection) -> dict[int, int]:
        """How many more deliveries each destination may have in flight, those with none left out."""
        with self._mutex:
            room = {
                destination_id: IN_FLIGHT_PER_DESTINATION - self._in_flight[destination_id]
                for destination_id in outbox.active_destinations(connection)
            }
        return {destination_id: free for destination_id, free in room.items() if free > 0}

    def _prune(self) -> bool:
        before = clock.stamp(clock.now() - KEPT_DELIVERED_DAYS * 86400)
        if not outbox.has_prunable(self._database.read(), before):
            return False
        return self._database.write(lambda tx: outbox.prune(tx, before)) == outbox.PRUNED_AT_ONCE

    def _finish(self) -> None:
        """Let what is being sent end; give back what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            with self._mutex:
                if not self._futures:
                    break
            self._slot_freed.wait(LOOK_SECONDS)
            self._slot_freed.clear()
        try:
            self._database.write(lambda tx: outbox.release_all(tx, self.owner))
        except (DatabaseError, sqlite3.Error) as error:
            log.error("leases were not given back and will run out: %s", error)


class _Freed:
    """What happens when an attempt is over, or was cancelled before it began."""

    def __init__(self, relay: Relay, destination_id: int) -> None:
        self._relay = relay
        self._destination_id = destination_id

    def __call__(self, future: Future[None]) -> None:
        relay = self._relay
        with relay._mutex:
            relay._in_flight[self._destination_id] -= 1
            relay._futures.discard(future)
        relay._slot_freed.set()


def judged(destination: destinations.Destination, answer: Answer) -> Result:
    """An answer as the outbox keeps it, by the destination's rule of success."""
    failure = answer.failure
    detail = answer.detail
    if failure is None and answer.status is not None and not destination.accepts(answer.status, answer.body):
        is_status = not (answer.status == 200 and destination.success == "expression")
        failure = "status" if is_status else "rejected"
        detail = detail or (None if is_status else "the answer does not say yes")
    return Result(
        failure=failure,
        status=answer.status,
        detail=detail,
        answer=answer.body,
        duration_ms=answer.duration_ms,
        retry_after_seconds=_retry_after(answer.retry_after) if failure is not None else None,
    )


def _retry_after(text: str | None) -> float | None:
    """Seconds out of a Retry-After header (RFC 9110, section 10.2.3), at most a day."""
    if text is None:
        return None
    try:
        seconds = float(int(text)) if text.strip().isdigit() else parsedate_to_datetime(text).timestamp() - clock.now()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
