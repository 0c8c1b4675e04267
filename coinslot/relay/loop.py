"""The relay: a loop that sends deliveries and runs the jobs that are due. It claims, sends, records and waits.

Any number of relays may run, as threads of the web workers and as ``flask relay``: a claim is a lease that one of them
gets. The network is outside every transaction. A relay sees what any process commits within :data:`LOOK_SECONDS`.
"""

import logging
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

from coinslot.access.vault import Vault, VaultError
from coinslot.base import clock
from coinslot.base.errors import CoinslotError
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
STOP_SECONDS = 15.0
IN_HAND_PER_DESTINATION = 8  # so that a slow one cannot take every thread
THREADS = 64
JOBS_AT_ONCE = 4  # with threads of their own, so that no delivery waits for a job
_JOBS = 0  # among the counts of what is in hand; no destination has this id

log = logging.getLogger("coinslot")


class Relay:
    """One relay. ``run`` loops until ``stop``; ``drain`` sends what is due now and returns. Either, once.

    ``jobs`` are run when they are due: name -> function of a game's slug that returns in how many seconds it wants to
    run again (``jobs.py``). The relay asks for those that are ``standing`` itself: once it sees a game, and when that
    game's configuration has changed. For those ``of_installation`` it asks once, when it begins; they get no slug. A
    job that ``has_work`` names is claimed only while that is true, which is asked after each commit.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        outbound: Outbound,
        jobs: Mapping[str, Callable[[str], float | None]] | None = None,
        standing: Collection[str] = (),
        formats: Mapping[str, Format] = FORMATS,
        of_installation: Collection[str] = (),
        has_work: Mapping[str, Callable[[Connection], bool]] | None = None,
        pool: Executor | None = None,
    ) -> None:
        self._database = database
        self._vault = vault
        self._outbound = outbound
        self._jobs = jobs or {}
        self._standing = standing
        self._of_installation = list(of_installation)  # those not asked for yet
        self._has_work = has_work or {}
        self._wanted: Collection[str] = ()  # the jobs to be claimed when they are due, as of _jobs_seen
        self._formats = formats
        self._revisions: dict[int, str] = {}  # of games, as of when their standing jobs were last asked for
        self.owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._is_stopping = False
        self._clock_watch = due_times.ClockWatch()
        self._must_mend = False  # the clock was set back, and what it put off is not all due yet
        self._pool = pool or ThreadPoolExecutor(THREADS + JOBS_AT_ONCE, thread_name_prefix="coinslot-relay")
        self._in_hand: Counter[int] = Counter()  # per destination, and jobs; under the mutex
        self._mutex = threading.Lock()
        self._something_ended = threading.Event()  # an attempt or a job
        self._job_changes = 0  # claims and ends of jobs here; commits_seen may tell of them later. Under the mutex
        # commits_seen, _job_changes, and when a job was due as of then
        self._jobs_seen: tuple[int, int, str | None] = (-1, 0, None)

    def run(self) -> None:
        """Loop until :meth:`stop`. An error is logged, and the loop continues after a pause."""
        next_beat = 0.0
        while not self._is_stopping:
            try:
                if self._is_set_back() or time.monotonic() >= next_beat:
                    self._beat()
                    next_beat = time.monotonic() + BEAT_SECONDS
                self._turn(min(next_beat, time.monotonic() + LONGEST_WAIT_SECONDS))
            except (DatabaseError, EngineError, OSError) as error:
                log.error("the relay waits: %s", error)
                self._sleep(LONGEST_WAIT_SECONDS)
            except Exception:
                log.exception("the relay waits")
                self._sleep(LONGEST_WAIT_SECONDS)
        self._finish()

    def drain(self) -> int:
        """Send what is due, and what becomes due meanwhile; returns how many attempts were made.

        Jobs that are due are run too, and are not counted.
        """
        self._beat()
        count = self.send_due()
        self._finish()
        return count

    def send_due(self) -> int:
        """The same, without a sign of life before and without an end after: it may be called again."""
        count = 0
        while not self._is_stopping:
            was_busy = self._is_busy()
            sent, ran = self._turn(time.monotonic() + LOOK_SECONDS if was_busy else 0)
            count += sent
            if sent + ran == 0 and not was_busy:
                break
        return count

    def stop(self) -> None:
        """Ask the loop to end: claimed work is finished, nothing more is claimed.

        A signal handler may call it: it takes no lock that the interrupted thread could hold.
        """
        self._is_stopping = True

    def _beat(self) -> None:
        def beat(tx: Connection) -> bool:
            deliveries.beat(tx)
            has_more = redrives.go_on(tx)
            return due_times.mend(tx, self._must_mend) or has_more

        self._is_set_back()
        while self._database.write(beat) and not self._is_stopping:
            pass
        self._must_mend = False

    def _is_set_back(self) -> bool:
        """Whether the clock was set back since due times were mended. Asked often: it may be ahead for a moment."""
        self._must_mend |= self._clock_watch.is_set_back()
        return self._must_mend

    def _turn(self, wait_until: float) -> tuple[int, int]:
        """Claim what is due and begin it; returns how many deliveries and jobs. Without any, wait for a change."""
        connection = self._database.read()
        # Before looking: a commit between the two is then noticed as a change.
        version = self._database.commits_seen()
        moments = attempts.next_due(connection)
        job_moment = self._next_job(connection, version)
        places = self._free_places(moments)
        due = {each: free for each, free in places.items() if moments[each] <= clock.stamp()}
        is_job_due = job_moment is not None and job_moment <= clock.stamp()
        if not due and not is_job_due:
            awaited = [moments[each] for each in places] + ([] if job_moment is None else [job_moment])
            self._wait(version, min(awaited, default=None), wait_until)
            return 0, 0
        return self._claim(due, is_job_due)

    def _claim(self, due: Mapping[int, int], is_job_due: bool) -> tuple[int, int]:
        """Claim, each kind in one write, and begin what is claimed in threads."""
        jobs: list[Due] = []
        if is_job_due:
            free = JOBS_AT_ONCE - self._in_hand[_JOBS]
            jobs = self._database.write(lambda tx: schedules.claim_due(tx, self.owner, self._wanted, free))
        for job in jobs:
            what = f"job {job.name} of {job.game_slug}" if job.game_slug else f"job {job.name}"
            self._begin(_JOBS, what, partial(self._run_job, job))
        claims = self._database.write(lambda tx: attempts.claim_due(tx, self.owner, due)) if due else []
        for claim in claims:
            what = f"delivery {claim.id} to {claim.destination.name}"
            self._begin(claim.destination.id, what, partial(self._deliver, claim))
        return len(claims), len(jobs)

    def _begin(self, counted: int, what: str, work: Callable[[str], None]) -> None:
        with self._mutex:
            self._in_hand[counted] += 1
            self._job_changes += counted == _JOBS
        self._pool.submit(self._work, counted, what, work)

    def _work(self, counted: int, what: str, work: Callable[[str], None]) -> None:
        """In a thread of its own. What is not recorded is done again when its lease ends."""
        try:
            work(what)
        except (DatabaseError, EngineError) as error:
            log.error("%s was not recorded: %s", what, error)
        except Exception:
            log.exception("%s was not recorded", what)
        finally:
            with self._mutex:
                self._in_hand[counted] -= 1
                self._job_changes += counted == _JOBS
            self._something_ended.set()

    def _next_job(self, connection: Connection, version: int) -> str | None:
        """When the next job may be claimed; None while there is none, or no thread for one.

        The database is asked again only after a commit: every change of a job is one.
        """
        if not self._jobs:
            return None
        changes = self._job_changes
        if self._jobs_seen[:2] != (version, changes):
            self._ask_for_standing(connection)
            self._wanted = [
                name for name in self._jobs if name not in self._has_work or self._has_work[name](connection)
            ]
            self._jobs_seen = (version, changes, schedules.next_due(connection, self._wanted))
        return self._jobs_seen[2] if self._in_hand[_JOBS] < JOBS_AT_ONCE else None

    def _ask_for_standing(self, connection: Connection) -> None:
        while self._of_installation:
            name = self._of_installation[-1]
            self._database.write(partial(schedules.begin, game_id=schedules.INSTALLATION, name=name))
            self._of_installation.pop()
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

    def _free_places(self, moments: dict[int, str]) -> dict[int, int]:
        """How many more deliveries each destination may have in hand; absent: none."""
        places = {}
        with self._mutex:
            free = THREADS - (self._in_hand.total() - self._in_hand[_JOBS])
            for each in sorted(moments, key=moments.__getitem__):  # longest due first, when threads are short
                most = min(free, IN_HAND_PER_DESTINATION - self._in_hand[each])
                if most > 0:
                    places[each] = most
                    free -= most
        return places

    def _wait(self, version: int, due: str | None, until: float) -> None:
        """Wait for a commit of others, an end of something in hand, a due time, a clock set back, or ``until``."""
        while not self._is_stopping and time.monotonic() < until:
            if self._is_set_back():
                return
            if self._something_ended.wait(LOOK_SECONDS):
                self._something_ended.clear()
                return
            if due is not None and due <= clock.stamp():
                return
            if self._database.commits_seen() != version:
                return

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._is_stopping and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)

    def _is_busy(self) -> bool:
        with self._mutex:
            return self._in_hand.total() > 0

    def _deliver(self, claim: Claim, what: str) -> None:
        if self._is_stopping or not claim.is_long_enough():
            self._database.write(lambda tx: attempts.give_back(tx, claim))
            return
        cause = webhooks.cause(self._database.read(), claim)
        result = self._attempt(claim, what)
        state = self._database.write(lambda tx: attempts.record(tx, claim, result))
        if state == "gone":
            log.info("%s was overtaken by a restore; how it went is not recorded", what)
        elif state == "dead":
            log.error("%s is dead: %s; %s", what, result.failure, cause)
        elif result.failure is not None:
            log.warning("%s failed: %s; %s", what, result.failure, cause)
        else:
            log.info("%s: answered %s in %d ms; %s", what, result.status, result.duration_ms, cause)

    def _attempt(self, claim: Claim, what: str) -> Result:
        """Send once. A delivery that cannot be made fails too, so that it ends on its schedule."""
        destination = claim.destination
        connection = self._database.read()
        try:
            content = webhooks.body(connection, claim)
            keys = destinations.signing_secrets(connection, self._vault, destination.id)
            if not keys:
                return Result("rejected", detail="it has no signing secret")
            headers = webhooks.signed(self._formats[destination.format], claim.webhook_id, claim.number, content, keys)
            answer = self._outbound.post(destination.url, headers, content, destination.timeout_seconds)
        except (DatabaseError, EngineError):
            raise
        except VaultError as error:
            log.error("%s cannot be signed: %s", what, error)
            return Result("rejected", detail="its signing secret does not open")
        except Exception:
            log.exception("%s could not be made", what)
            return Result("rejected", detail="it could not be made; the log says why")
        return judged(destination, answer)

    def _run_job(self, due: Due, what: str) -> None:
        if self._is_stopping:
            self._database.write(lambda tx: schedules.give_back(tx, due))
            return
        again_in_seconds, error = None, None
        try:
            again_in_seconds = self._jobs[due.name](due.game_slug)
        except (CoinslotError, EngineError) as known:
            log.warning("%s failed: %s", what, schedules.in_a_line(str(known)))
            error = known if isinstance(known, JobError) else JobError(str(known))
        except Exception as unknown:
            log.exception("%s failed", what)
            error = JobError(f"{type(unknown).__name__}; the log says more")
        self._database.write(lambda tx: schedules.finished(tx, due, again_in_seconds, error))

    def _finish(self) -> None:
        """Wait for what is in hand. What takes too long keeps its lease, so that no other relay begins it meanwhile."""
        self._is_stopping = True
        deadline = time.monotonic() + STOP_SECONDS
        while self._is_busy() and time.monotonic() < deadline:
            self._something_ended.wait(LOOK_SECONDS)
            self._something_ended.clear()
        self._pool.shutdown(wait=False)


def judged(destination: destinations.Destination, answer: Answer) -> Result:
    """An answer as the outbox stores it, by the destination's rule of success."""
    failure, detail, retry_after = answer.failure, answer.detail, None
    if failure is None and answer.status is not None and not destination.accepts(answer.status, answer.body):
        is_refused_in_body = answer.status == 200 and destination.success == "expression"
        failure = "rejected" if is_refused_in_body else "status"
        detail = detail or ("the answer does not say yes" if is_refused_in_body else None)
    if failure is not None and answer.retry_after_seconds is not None:
        retry_after = min(answer.retry_after_seconds, destinations.LONGEST_RETRY_AFTER_SECONDS)
    return Result(failure, answer.status, detail, answer.body, answer.duration_ms, retry_after)
