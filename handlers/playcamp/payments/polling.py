"""The game's payments, read from its own API and stored: all of them, whatever fails and wherever it fails.

A game's history is read in windows, one after the other, each page after page. The progress is noted in
``schedules.cursor``, in the write that stores the payments: up to when nothing is missing (the watermark), and the next
page inside of a window. The watermark moves when the last page of a window is stored, never before. Each window begins
a little before the end of the one before it, since rows come late; known ones change nothing. Refunds come much later
than that, so a job of its own reads the last weeks again, once a day; of the time before the polls began it only
changes payments that a backfill has brought.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.installation import Installation
from coinslot.payments import parsing, queries
from coinslot.payments import store as payments
from coinslot.payments.fields import Rules
from coinslot.payments.parsing import Payment
from coinslot.relay import jobs
from coinslot.relay.jobs import Due, JobError
from coinslot.store.db import Connection, Database
from handlers.playcamp.payments import registration, sends
from handlers.playcamp.payments.game_answer import KEY_REFUSED, SourceError
from handlers.playcamp.payments.progress import Gap, Progress, Window
from handlers.playcamp.payments.rules import rules
from handlers.playcamp.payments.source import RowError, Source, is_polled
from handlers.playcamp.settings import is_sandbox

JOB = "playcamp.poll"
REFUNDS = "playcamp.refunds"
BACKFILL = "playcamp.backfill"  # no job: the name under which the command notes its progress

SLICE_SECONDS = 45.0  # of work in one run; then one page more at most, so that it ends well within its lease
DAY_SECONDS = 86400
TOLERATED_AHEAD_SECONDS = DAY_SECONDS  # that the watermark may be in the future, after the clock was set back
FIRST_SECONDS = DAY_SECONDS  # how far back the first poll goes
MOST_PAGES = 10_000  # of one window
ROWS_AT_ONCE = 300  # in one write

Watch = Callable[[Progress, int], None]  # is called with the progress, and how many rows came with it


def run(installation: Installation, game: Game) -> float | None:
    """Poll for a while; returns the seconds until the next run. Raises JobError; only what is stored counts as read."""
    if not is_polled(game):
        return None
    end = math.floor(clock.now()) - int(game.settings["playcamp.payments.lag_seconds"])
    before = watermark(installation, game)
    try:
        reading = _Reading(installation, game, JOB)
        progress = reading.rewound(before or reading.begin())
        if progress.gap is not None and progress.gap.mark != reading.source.mark:
            progress = replace(progress, through=progress.gap.start, window=None, gap=None)
            reading.note(progress, None)
        overlap = int(game.settings["playcamp.payments.overlap_seconds"])
        is_done = reading.read(progress, end, overlap)
    except SourceError as error:
        raise _job_error(installation, game, JOB, before, error) from None
    return float(game.settings["playcamp.payments.every_seconds"]) if is_done else 0.0


def run_refunds(installation: Installation, game: Game) -> float | None:
    """Once a day, read the last days again as far as the polls have come, in search of refunds. Raises JobError.

    It begins before the polls did if a backfill has brought payments. The watermark of the polls does not move.
    """
    days = int(game.settings["playcamp.payments.refund_days"])
    if not is_polled(game) or not days:
        return None
    polled = watermark(installation, game)
    if polled is None or polled.through is None:
        return float(game.settings["playcamp.payments.every_seconds"])
    before = progress = _progress(installation.database, game, REFUNDS)
    now = math.floor(clock.now())
    try:
        reading = _Reading(installation, game, REFUNDS)
        if progress is None:  # the polls have only just read all this
            progress = Progress(polled.through, until=now, through=now)
            reading.note(progress, None)
        if progress.until is None or progress.reached >= progress.until:
            wait = (progress.until or 0) + DAY_SECONDS - now
            if 0 < wait <= DAY_SECONDS:  # more: the clock was ahead at the last run
                return float(wait)
            since = _oldest(installation.database, game, now - days * DAY_SECONDS, polled.since)
            progress = Progress(since, until=max(since, min(now, polled.through)))
            reading.note(progress, None)
        is_done = reading.read(progress, progress.until or progress.reached, began=polled.since)
    except SourceError as error:
        raise _job_error(installation, game, REFUNDS, before, error) from None
    return float(DAY_SECONDS) if is_done else 0.0


def backfill(installation: Installation, game: Game, owner: str, since: int, until: int, watch: Watch) -> str | None:
    """Read the payments of [since, until), going on where an interrupted backfill of the same range stopped.

    ``watch`` is called with the progress at the start, and after each step. What the polls will still read is left to
    them. Returns why rows may be missing, None if nothing suggests it. Raises SourceError, and JobError while another
    backfill of this game is running; what is stored stays.
    """
    database = installation.database
    reading = _Reading(installation, game, BACKFILL)
    end = min(until, math.floor(clock.now()) - int(game.settings["playcamp.payments.lag_seconds"]))
    is_done = False
    while not is_done:
        due = database.write_here(lambda tx: jobs.take(tx, owner, game.id, BACKFILL))
        if due is None:
            raise JobError("another backfill of this game is running, or was interrupted less than two minutes ago")
        try:
            progress = _progress(database, game, BACKFILL)
            if progress is None or (progress.since, progress.until) != (since, until):
                progress = Progress(since, until)
                reading.note(progress, None)
            watch(progress, 0)
            is_done = reading.read(progress, end, watch=watch)
            if is_done:
                database.write_here(lambda tx: jobs.put_cursor(tx, game.id, BACKFILL, None))
        finally:
            _finish(database, due)
    return jobs.warnings(database.read(), game.id).get(BACKFILL)


def wrong(game: Game, errors: Mapping[str, str]) -> list[str]:
    """A sentence for the owner if their API refuses every call until another key is set. ``errors``: of its jobs."""
    troubles = (errors.get(name) for name in (JOB, REFUNDS))
    found = next((each for each in troubles if each is not None and each.startswith(KEY_REFUSED)), None)
    if found is None:
        return []
    return [
        f"{found}; nothing is polled until `flask secret set {game.slug} playcamp.payments_key` has the key it wants, "
        f"sent as playcamp.payments.auth says ({game.settings['playcamp.payments.auth']})"
    ]


def watermark(installation: Installation, game: Game) -> Progress | None:
    """The progress of the polls; None before the first."""
    return _progress(installation.database, game, JOB)


def read_row(source: Source, row: Any, wanted: Rules, is_test: bool, at: float | None = None) -> Payment:
    """The payment of a row of the game's, reported ``at`` that time, else now; one that cannot be sent says why."""
    try:
        found = source.payment(row)
    except RowError as error:
        return parsing.unmapped(row, str(error), "poll", is_test=is_test)
    return parsing.check(found, wanted, "poll", raw=row, is_test=is_test, at=at)


class _Reading:
    """One history that is being read, its progress noted under ``name``. Raises SourceError."""

    def __init__(self, installation: Installation, game: Game, name: str) -> None:
        self.source = Source(game, installation.outbound)
        self._database = installation.database
        self._game = game
        self._name = name
        self._rules = rules(game)
        self._is_test = is_sandbox(game)

    def begin(self) -> Progress:
        """The start of the first poll, noted at once: if it fails, the next one must not start later."""
        since = self._game.settings["playcamp.payments.since"]
        progress = Progress(self.source.moment(since) if since else math.floor(clock.now()) - FIRST_SECONDS)
        self.note(progress)
        return progress

    def rewound(self, progress: Progress) -> Progress:
        """Where to go on from. A clock that was ahead has skipped time in which payments could still come.

        Then it is read again from the newest payment that is known, and a day at least.
        """
        now = clock.now()
        if progress.reached <= now + TOLERATED_AHEAD_SECONDS:
            return progress
        newest = queries.newest_polled(self._database.read(), self._game.id, clock.stamp(now))
        back = math.floor(min(now - FIRST_SECONDS, now if newest is None else clock.seconds(newest)))
        return Progress(min(progress.since, back), through=back, gap=progress.gap)

    def note(self, progress: Progress, *warning: str | None) -> None:
        """Note a progress without payments, and the job's warning if one is given."""

        def note(tx: Connection) -> None:
            jobs.put_cursor(tx, self._game.id, self._name, progress.text)
            for each in warning:
                jobs.warn(tx, self._game.id, self._name, each)

        self._database.write(note)

    def read(
        self,
        progress: Progress,
        end: int,
        overlap: int = 0,
        watch: Watch = lambda progress, rows: None,
        began: int = 0,
    ) -> bool:
        """Read up to ``end``; returns whether that is done, or time ran out.

        What was paid before ``began`` is left out unless it is known.
        """
        deadline = time.monotonic() + SLICE_SECONDS
        span = int(self._game.settings["playcamp.payments.span_seconds"])
        overlap = min(overlap, span // 2)  # so that each window ends later than the one before
        seen: set[str] = set()  # pages of the window
        while progress.window is not None or progress.reached < end:
            window = progress.window
            if window is None or window.mark != self.source.mark:
                start = progress.since if progress.through is None else max(progress.since, progress.through - overlap)
                window = Window(start, min(start + span, max(end, progress.reached)), self.source.mark)
                seen.clear()
            seen.add(window.next or "")
            try:
                page = self.source.page(window.start, window.end, window.next)
                if page.next is not None and (page.next in seen or window.pages >= MOST_PAGES):
                    words = "playcamp.payments.next never ends: it leads in a circle, or too far for one range"
                    raise SourceError(words, tries=1)
            except SourceError as error:
                if error.tries is not None and window.pages:
                    failures = window.failures + 1
                    left = None if failures >= error.tries else replace(window, failures=failures)
                    self.note(replace(progress, window=left))
                raise
            warning = None
            if page.next is None:
                progress = replace(progress, through=max(progress.reached, window.end), window=None)
                seen.clear()
                if page.doubt is not None and progress.gap is None:
                    progress = replace(progress, gap=Gap(window.start, window.mark))
                    warning = _incomplete(page.doubt, window.start, self._name)
            else:
                progress = replace(progress, window=replace(window, pages=window.pages + 1, next=page.next, failures=0))
            self._store(page.rows, began if window.start < began else 0, progress, warning)
            watch(progress, len(page.rows))
            if time.monotonic() >= deadline:
                return progress.window is None and progress.reached >= end
        return True

    def _store(self, rows: list[Any], began: int, progress: Progress, warning: str | None) -> None:
        """Store the payments of a page, a portion at a time; the progress is noted with the last."""
        earlier: set[str] = set()
        for at in range(0, max(1, len(rows)), ROWS_AT_ONCE):
            portion = [read_row(self.source, row, self._rules, self._is_test) for row in rows[at : at + ROWS_AT_ONCE]]
            batch = self._since(portion, began) if began else portion
            is_last = at + ROWS_AT_ONCE >= len(rows)

            def store(tx: Connection, batch: list[Payment] = batch, is_last: bool = is_last) -> None:
                outcomes = payments.store_many(tx, self._game.id, batch, is_registering=True, earlier=earlier)
                if "new" in outcomes or "refunded" in outcomes:
                    jobs.at(tx, self._game.id, sends.JOB, 0)
                if is_last:
                    jobs.put_cursor(tx, self._game.id, self._name, progress.text)
                    if warning is not None:
                        jobs.warn(tx, self._game.id, self._name, warning)

            self._database.write(store)
            earlier.update(each.transaction_id for each in batch)

    def _since(self, found: list[Payment], began: int) -> list[Payment]:
        """Without unknown payments of before ``began``. A row whose id cannot be read may be a known payment."""
        began_at, connection = clock.stamp(began), self._database.read()

        def is_wanted(payment: Payment) -> bool:
            is_later = payment.purchased_at is not None and payment.purchased_at >= began_at
            if is_later or payment.transaction_id.startswith(parsing.UNREADABLE):
                return True
            return queries.find(connection, self._game.id, payment.transaction_id) is not None

        left_out = {each.transaction_id for each in found if not is_wanted(each)}
        return [each for each in found if each.transaction_id not in left_out]


def _progress(database: Database, game: Game, name: str) -> Progress | None:
    return Progress.parse(jobs.cursor(database.read(), game.id, name))


def _finish(database: Database, due: Due) -> None:
    database.write_here(lambda tx: jobs.finished(tx, due, None))


def _oldest(database: Database, game: Game, since: int, began: int) -> int:
    """Where the search for refunds begins: at ``since``, but before the polls began only at a known payment."""
    if since >= began:
        return since
    found = queries.oldest_polled(database.read(), game.id, clock.stamp(since), clock.stamp(began))
    return began if found is None else math.floor(clock.seconds(found))


def _job_error(
    installation: Installation, game: Game, name: str, before: Progress | None, error: SourceError
) -> JobError:
    """The end of a run that began at ``before``; if it got further, its pauses begin again."""
    after = _progress(installation.database, game, name)
    is_anew = before is not None and after is not None and after.steps > before.steps
    return JobError(str(error), registration.pauses(game), error.retry_after_seconds, is_anew=is_anew)


def _incomplete(doubt: str, start: int, name: str) -> str:
    again = {
        JOB: "everything since then is read again as soon as one is changed",
        REFUNDS: "the next daily reading uses them",
        BACKFILL: "give the command again then",
    }[name]
    return (
        f"{doubt}, and nothing leads to a next page: payments from {clock.stamp(start)[:19]}Z on may be missing. Set "
        f"playcamp.payments.next, or a larger playcamp.payments.limit; {again}"
    )
