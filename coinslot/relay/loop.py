"""The loop that drains the outbox and runs the jobs that are due: claim, send, record, wait.

Any number of relays may run, as threads of the web workers and as ``flask relay``: a claim is a lease, and only one of
them gets it. The network is outside every transaction. A relay sees what any process commits within
:data:`LOOK_SECONDS`.
"""

import logging
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from coinslot.access.vault import Vault, VaultError
from coinslot.base import clock
from coinslot.base.outbound import Answer, Outbound
from coinslot.outbox import attempts, deliveries, destinations, redrives
from coinslot.outbox.attempts import Claim, Result
from coinslot.outbox.formats import FORMATS, Format
from coinslot.relay import due_times, webhooks
from coinslot.relay import jobs as schedules
from coinslot.relay.jobs import Due, JobError
from coinslot.store.db import Connection, Database, DatabaseError, EngineError

LOOK_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 1.0
BEAT_SECONDS = 5.0
PRUNE_SECONDS = 60.0
PRUNE_PAUSE_SECONDS = 1.0  # between batches, for whoever else wants to write
STOP_SECONDS = 15.0
IN_FLIGHT_PER_DESTINATION = 8  # so that a slow one cannot take every thread
THREADS = 64
JOBS_AT_ONCE = 4  # with threads of their own, so that no delivery waits for a job
KEPT_DELIVERED_DAYS = 30

log = logging.getLogger("coinslot")


class Relay:
    """One relay. ``run`` loops until ``stop``; ``drain`` sends what is due now and returns. Either, once.

    ``jobs`` are what it runs besides, when they are due: name -> function of a game's slug (``schedules.py``). Those
    that are ``standing`` it asks for itself, once it sees a game and when that game's configuration has changed.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        outbound: Outbound,
        jobs: Mapping[str, Callable[[str], float | None]] | None = None,
        standing: Collection[str] = (),
        formats: Mapping[str, Format] = FORMATS,
    ) -> None:
        self._database = database
        self._vault = vault
        self._outbound = outbound
        self._jobs = jobs or {}
        self._standing = standing
        self._formats = formats
        self._revisions: dict[int, str] = {}  # of games, as of when their standing jobs were last asked for
        self.owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._is_stopping = False
        self._pool = ThreadPoolExecutor(THREADS + JOBS_AT_ONCE, thread_name_prefix="coinslot-relay")
        self._in_flight: Counter[int] = Counter()  # per destination; under the mutex
        self._jobs_in_hand = 0  # likewise
        self._mutex = threading.Lock()
        self._something_ended = threading.Event()  # an attempt or a job
        self._jobs_seen: tuple[int, str | None] = (-1, None)  # data_version, and when a job was due as of then

    def run(self) -> None:
        """Until :meth:`stop`. Trouble is logged and waited out; it never ends the loop."""
        next_beat = next_prune = 0.0
        while not self._is_stopping:
            try:
                if time.monotonic() >= next_beat:
                    self._beat()
                    next_beat = time.monotonic() + BEAT_SECONDS
                if time.monotonic() >= next_prune:
                    next_prune = time.monotonic() + (PRUNE_PAUSE_SECONDS if self._prune() else PRUNE_SECONDS)
                self._turn(min(next_beat, time.monotonic() + LONGEST_WAIT_SECONDS))
            except (DatabaseError, EngineError, OSError) as error:
                log.error("the relay waits: %s", error)
                self._pause()
            except Exception:
                log.exception("the relay waits")
                self._pause()
        self._finish()

    def drain(self) -> int:
        """Send what is due, and what becomes due while that is sent, and return how many attempts that were.

        Jobs that are due are run and waited for too; those do not count.
        """
        self._beat()
        count = 0
        while not self._is_stopping:
            was_busy = self._is_busy()
            sent, ran = self._turn(time.monotonic() + LOOK_SECONDS if was_busy else 0)
            count += sent
            if sent + ran == 0 and not was_busy:
                break
        self._finish()
        return count

    def stop(self) -> None:
        """Ask the loop to end: what is in hand is finished, nothing more is claimed.

        May be called by a signal: nothing here takes a lock that the interrupted thread could be holding.
        """
        self._is_stopping = True

    def _beat(self) -> None:
        def beat(tx: Connection) -> bool:
            deliveries.beat(tx)
            has_more = redrives.go_on(tx)
            return due_times.mend(tx) or has_more

        while self._database.write(beat) and not self._is_stopping:
            pass

    def _turn(self, wait_until: float) -> tuple[int, int]:
        """Claim what is due, send or run it, and return how many deliveries and jobs that were.

        When there is nothing, wait for something.
        """
        connection = self._database.read()
        # Before looking: what is committed between the two is then noticed as a change.
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        moments = attempts.next_due(connection)
        job_moment = self._next_job(connection, version)
        room = self._room(moments)
        due = {each: free for each, free in room.items() if moments[each] <= clock.stamp()}
        is_job_due = job_moment is not None and job_moment <= clock.stamp()
        if not due and not is_job_due:
            awaited = [moments[each] for each in room] + ([] if job_moment is None else [job_moment])
            self._wait(connection, version, min(awaited, default=None), wait_until)
            return 0, 0
        ran = self._claim_jobs() if is_job_due else 0
        return (self._claim_deliveries(due) if due else 0), ran

    def _claim_deliveries(self, due: Mapping[int, int]) -> int:
        claims = self._database.write(lambda tx: attempts.claim_due(tx, self.owner, due))
        for claim in claims:
            with self._mutex:
                self._in_flight[claim.destination.id] += 1
            self._pool.submit(self._deliver, claim)
        return len(claims)

    def _claim_jobs(self) -> int:
        with self._mutex:
            room = JOBS_AT_ONCE - self._jobs_in_hand
        claims = self._database.write(lambda tx: schedules.claim_due(tx, self.owner, self._jobs, room))
        for due in claims:
            with self._mutex:
                self._jobs_in_hand += 1
            self._pool.submit(self._run_job, due)
        return len(claims)

    def _next_job(self, connection: Connection, version: int) -> str | None:
        """When the next job may be claimed; None while there is none, or no room for one.

        Asked for only when somebody has committed since: whatever moves a job is a commit.
        """
        if not self._jobs:
            return None
        if self._jobs_seen[0] != version:
            self._ask_for_standing(connection)
            self._jobs_seen = (version, schedules.next_due(connection, self._jobs))
        with self._mutex:
            return self._jobs_seen[1] if self._jobs_in_hand < JOBS_AT_ONCE else None

    def _ask_for_standing(self, connection: Connection) -> None:
        if not self._standing:
            return
        rows = connection.execute("SELECT id, revision FROM games").fetchall()
        changed = {row["id"]: row["revision"] for row in rows if self._revisions.get(row["id"]) != row["revision"]}
        if not changed:
            return

        def ask(tx: Connection) -> None:
            for game_id in changed:
                ask_for = schedules.wake if game_id in self._revisions else schedules.begin
                for name in self._standing:
                    ask_for(tx, game_id, name)

        self._database.write(ask)
        self._revisions |= changed

    def _room(self, moments: dict[int, str]) -> dict[int, int]:
        """How many more deliveries each destination may have in flight, those with none left out."""
        room = {}
        with self._mutex:
            free = THREADS - self._in_flight.total()
            for each in sorted(moments, key=moments.__getitem__):  # longest due first, should threads be short
                most = min(free, IN_FLIGHT_PER_DESTINATION - self._in_flight[each])
                if most > 0:
                    room[each] = most
                    free -= most
        return room

    def _wait(self, connection: Connection, version: int, due: str | None, until: float) -> None:
        """Until another connection has committed, something in hand has ended, something is due, or it is ``until``."""
        while not self._is_stopping and time.monotonic() < until:
            if self._something_ended.wait(LOOK_SECONDS):
                self._something_ended.clear()
                return
            if due is not None and due <= clock.stamp():
                return
            if connection.execute("PRAGMA data_version").fetchone()[0] != version:
                return

    def _pause(self) -> None:
        until = time.monotonic() + LONGEST_WAIT_SECONDS
        while not self._is_stopping and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)

    def _is_busy(self) -> bool:
        with self._mutex:
            return self._in_flight.total() + self._jobs_in_hand > 0

    def _deliver(self, claim: Claim) -> None:
        name = claim.destination.name
        try:
            if self._is_stopping or not claim.is_long_enough():
                self._database.write(lambda tx: attempts.give_back(tx, claim))
                return
            result = self._attempt(claim)
            state = self._database.write(lambda tx: attempts.record(tx, claim, result))
            if state == "gone":
                log.info("delivery %d to %s was overtaken by a restore; how it went is not recorded", claim.id, name)
            elif state == "dead":
                log.error("delivery %d to %s is dead: %s", claim.id, name, result.failure)
            elif result.failure is not None:
                log.warning("delivery %d to %s failed: %s", claim.id, name, result.failure)
        except (DatabaseError, EngineError) as error:
            # Not recorded: the lease runs out and the delivery is attempted again, under the same id.
            log.error("delivery %d to %s was not recorded: %s", claim.id, name, error)
        except Exception:
            log.exception("delivery %d to %s was not recorded", claim.id, name)
        finally:
            with self._mutex:
                self._in_flight[claim.destination.id] -= 1
            self._something_ended.set()

    def _attempt(self, claim: Claim) -> Result:
        """Send once. Whatever is wrong with this one delivery is a failure on its schedule, so it ends some day."""
        destination = claim.destination
        connection = self._database.read()
        try:
            content = webhooks.body(connection, claim)
            keys = destinations.signing_secrets(connection, self._vault, destination.id)
            if not keys:
                return Result("rejected", detail="it has no signing secret")
            headers = webhooks.signed(self._formats[destination.format], claim.webhook_id, claim.number, content, keys)
            return judged(
                destination, self._outbound.post(destination.url, headers, content, destination.timeout_seconds)
            )
        except (DatabaseError, EngineError):
            raise
        except VaultError as error:
            log.error("delivery %d to %s cannot be signed: %s", claim.id, destination.name, error)
            return Result("rejected", detail="its signing secret does not open")
        except Exception:
            log.exception("delivery %d to %s could not be made", claim.id, destination.name)
            return Result("rejected", detail="it could not be made; the log says why")

    def _run_job(self, due: Due) -> None:
        """Run once and write down how it went. What is not written down runs again when its lease ends."""
        what = f"{due.name} of {due.game_slug}"
        try:
            if self._is_stopping:
                self._database.write(lambda tx: schedules.give_back(tx, due))
                return
            again_in_seconds, error = self._outcome(due, what)
            self._database.write(lambda tx: schedules.finished(tx, due, again_in_seconds, error))
        except (DatabaseError, EngineError) as trouble:
            log.error("job %s was not recorded: %s", what, trouble)
        except Exception:
            log.exception("job %s was not recorded", what)
        finally:
            with self._mutex:
                self._jobs_in_hand -= 1
            self._something_ended.set()

    def _outcome(self, due: Due, what: str) -> tuple[float | None, JobError | None]:
        """In how many seconds the job wants to run again, and what went wrong."""
        try:
            return self._jobs[due.name](due.game_slug), None
        except (JobError, DatabaseError, VaultError, EngineError) as error:
            log.warning("job %s failed: %s", what, schedules.in_a_line(str(error)))
            return None, error if isinstance(error, JobError) else JobError(str(error))
        except Exception as error:
            log.exception("job %s failed", what)
            return None, JobError(f"{type(error).__name__}; the log says more")

    def _prune(self) -> bool:
        """Delete some of what arrived long ago; returns whether there may be more."""
        before = clock.stamp(clock.now() - KEPT_DELIVERED_DAYS * 86400)
        if not deliveries.has_prunable(self._database.read(), before):
            return False
        return self._database.write(lambda tx: deliveries.prune(tx, before)) == deliveries.PRUNED_AT_ONCE

    def _finish(self) -> None:
        """Let what is in hand end. What takes too long keeps its lease, so nobody else has it meanwhile."""
        self._is_stopping = True
        deadline = time.monotonic() + STOP_SECONDS
        while self._is_busy() and time.monotonic() < deadline:
            self._something_ended.wait(LOOK_SECONDS)
            self._something_ended.clear()
        self._pool.shutdown(wait=False)


def judged(destination: destinations.Destination, answer: Answer) -> Result:
    """An answer as the outbox keeps it, by the destination's rule of success."""
    failure, detail, asked = answer.failure, answer.detail, answer.retry_after_seconds
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
        retry_after_seconds=None
        if failure is None or asked is None
        else min(asked, destinations.LONGEST_RETRY_AFTER_SECONDS),
    )
