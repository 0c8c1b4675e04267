"""The game's payments, fetched from its own API and stored: all of them, whatever breaks and wherever it breaks.

A game's history is read in windows, one after the other, each page after page. How far that has come is noted in
``schedules.cursor``, in the write that stores what it came by: up to when nothing is missing (the watermark), and
inside of a window the page to go on from. The watermark moves when the last page of a window is stored, never before.
Each window begins a little before the one before it ended, since rows come late; known ones change nothing.
Money goes back much later than that, so that a job of its own reads the last weeks again, once a day; of what was paid
before the polls began only payments that a backfill has brought.
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
from coinslot.store.db import Connection
from handlers.playcamp.payments import registration, sends
from handlers.playcamp.payments.game_answer import KEY_REFUSED, SourceError
from handlers.playcamp.payments.progress import Gap, Progress, Window, progress_text, steps_made
from handlers.playcamp.payments.rules import rules
from handlers.playcamp.payments.source import RowError, Source, is_configured
from handlers.playcamp.settings import is_sandbox

JOB = "playcamp.poll"
REFUNDS = "playcamp.refunds"
BACKFILL = "playcamp.backfill"  # no job: where the command notes how far it has come

SLICE_SECONDS = 45.0  # of work in one run; then one page more at most, so that it ends well within its lease
DAY_SECONDS = 86400
TOLERATED_AHEAD_SECONDS = DAY_SECONDS  # of the time read up to; a clock set back by less asks for nothing until then
FIRST_SECONDS = DAY_SECONDS  # how far back the first poll goes
MOST_PAGES = 10_000  # of one window
ROWS_AT_ONCE = 300  # in one write


Told = Callable[[Progress, int], None]  # of progress, and of how many rows came with it


def run(installation: Installation, game: Game) -> float | None:
    """Read on, for a while. Raises JobError, and then nothing that was not stored counts as read."""
    if not is_configured(game):
        return None
    every_seconds = float(game.settings["playcamp.payments.every_seconds"])
    overlap = int(game.settings["playcamp.payments.overlap_seconds"])
    end = math.floor(clock.now()) - int(game.settings["playcamp.payments.lag_seconds"])
    before = watermark(installation, game)
    try:
        source = Source(game, installation.outbound)
        progress = _of_a_right_clock(installation, game, before or _begin(installation, game, source))
        if progress.gap is not None and progress.gap.mark != source.mark:
            progress = replace(progress, through=progress.gap.start, window=None, gap=None)
            _note(installation, game, JOB, progress, None)
        return every_seconds if _read(installation, game, source, JOB, progress, end, overlap) else 0.0
    except SourceError as error:
        raise _job_error(installation, game, JOB, before, error) from None


def _of_a_right_clock(installation: Installation, game: Game, progress: Progress) -> Progress:
    """Where to go on from. A clock that ran ahead has passed over time in which payments could still come: that is read
    again, from the newest payment known by now, and a day at least.
    """
    now = clock.now()
    if progress.reached <= now + TOLERATED_AHEAD_SECONDS:
        return progress
    newest = queries.newest_polled(installation.database.read(), game.id, clock.stamp(now))
    back = math.floor(min(now - FIRST_SECONDS, now if newest is None else clock.seconds(newest)))
    return Progress(min(progress.since, back), through=back, gap=progress.gap)


def run_refunds(installation: Installation, game: Game) -> float | None:
    """Once a day, read the last days again as far as the polls have come, for what was given back since.

    It may begin before the polls did, where a backfill has brought payments. Others of that time stay where they are:
    nobody has asked for them.

    Raises JobError. The watermark of the polls stays where it is.
    """
    days = int(game.settings["playcamp.payments.refund_days"])
    if not is_configured(game) or not days:
        return None
    polled = watermark(installation, game)
    if polled is None or polled.through is None:
        return float(game.settings["playcamp.payments.every_seconds"])
    before = progress = Progress.parse(jobs.cursor(installation.database.read(), game.id, REFUNDS))
    now = math.floor(clock.now())
    if progress is None:  # the polls have only just read all this
        progress = Progress(polled.through, until=now, through=now)
        _note(installation, game, REFUNDS, progress, None)
    if progress.until is None or progress.reached >= progress.until:
        wait = (progress.until or 0) + DAY_SECONDS - now
        if 0 < wait <= DAY_SECONDS:  # more: the clock ran ahead when it was last read
            return float(wait)
        since = _oldest(installation, game, now - days * DAY_SECONDS, polled.since)
        progress = Progress(since, until=max(since, min(now, polled.through)))
        _note(installation, game, REFUNDS, progress, None)
    until = progress.until or progress.reached
    try:
        is_done = _read(
            installation, game, Source(game, installation.outbound), REFUNDS, progress, until, 0, began=polled.since
        )
    except SourceError as error:
        raise _job_error(installation, game, REFUNDS, before, error) from None
    return float(DAY_SECONDS) if is_done else 0.0


def _oldest(installation: Installation, game: Game, since: int, began: int) -> int:
    """From when on refunds are looked for, ``since`` at the earliest: since the polls began, or since a payment that
    was paid earlier and is known.
    """
    if since >= began:
        return since
    found = queries.oldest_polled(installation.database.read(), game.id, clock.stamp(since), clock.stamp(began))
    return began if found is None else math.floor(clock.seconds(found))


def backfill(installation: Installation, game: Game, owner: str, since: int, until: int, tell: Told) -> str | None:
    """Read the payments of [since, until), going on where an interrupted backfill of the same range has come to.

    ``tell`` hears of the progress as it is found, and of each step after that. What is not over yet is left to the
    polls. Returns why there may be more than was read, None where nothing says so. Raises SourceError, and JobError
    while another backfill of this game is running; what is stored stays.
    """
    source = Source(game, installation.outbound)
    end = min(until, math.floor(clock.now()) - int(game.settings["playcamp.payments.lag_seconds"]))
    is_done = False
    while not is_done:
        due = installation.database.write_here(lambda tx: jobs.take(tx, owner, game.id, BACKFILL))
        if due is None:
            raise JobError("another backfill of this game is running, or was interrupted less than two minutes ago")
        try:
            progress = Progress.parse(jobs.cursor(installation.database.read(), game.id, BACKFILL))
            if progress is None or (progress.since, progress.until) != (since, until):
                progress = Progress(since, until)
                _note(installation, game, BACKFILL, progress, None)
            tell(progress, 0)
            is_done = _read(installation, game, source, BACKFILL, progress, end, 0, tell)
            if is_done:
                installation.database.write_here(lambda tx: jobs.put_cursor(tx, game.id, BACKFILL, None))
        finally:
            installation.database.write_here(_ending(due))
    return jobs.warnings(installation.database.read(), game.id).get(BACKFILL)


def wrong(game: Game, errors: Mapping[str, str]) -> list[str]:
    """A sentence for the owner where their own API believes no call before they have set another key; likewise."""
    troubles = (errors.get(name) for name in (JOB, REFUNDS))
    found = next((each for each in troubles if each is not None and each.startswith(KEY_REFUSED)), None)
    if found is None:
        return []
    return [
        f"{found}; nothing is polled until `flask secret set {game.slug} playcamp.payments_key` has the key it wants, "
        f"sent as playcamp.payments.auth says ({game.settings['playcamp.payments.auth']})"
    ]


def watermark(installation: Installation, game: Game) -> Progress | None:
    """How far the polls have come; None before the first."""
    return Progress.parse(jobs.cursor(installation.database.read(), game.id, JOB))


def read_row(source: Source, row: Any, made: Rules, is_test: bool) -> Payment:
    """The payment a row of the game's tells of; one that cannot be sent says why."""
    try:
        found = source.payment(row)
    except RowError as error:
        return parsing.unmapped(row, str(error), "poll", is_test=is_test)
    return parsing.check(found, made, "poll", raw=row, is_test=is_test)


def _job_error(
    installation: Installation, game: Game, name: str, before: Progress | None, error: SourceError
) -> JobError:
    """What a run ends with that began at ``before``; one that got further has its pauses begin anew."""
    after = Progress.parse(jobs.cursor(installation.database.read(), game.id, name))
    is_anew = before is not None and after is not None and steps_made(after) > steps_made(before)
    return JobError(str(error), registration.pauses(game), error.retry_after_seconds, is_anew=is_anew)


def _begin(installation: Installation, game: Game, source: Source) -> Progress:
    """Where the first poll starts, noted at once: should it fail, the next one is not to start any later."""
    since = game.settings["playcamp.payments.since"]
    progress = Progress(source.moment(since) if since else math.floor(clock.now()) - FIRST_SECONDS)
    installation.database.write(lambda tx: jobs.put_cursor(tx, game.id, JOB, progress_text(progress)))
    return progress


def _read(
    installation: Installation,
    game: Game,
    source: Source,
    name: str,
    progress: Progress,
    end: int,
    overlap: int,
    tell: Told = lambda progress, rows: None,
    began: int = 0,
) -> bool:
    """Read up to ``end``, noting it under ``name``; returns whether that was all, or only what there was time for.

    What was paid before ``began`` is left out unless it is known.
    """
    deadline = time.monotonic() + SLICE_SECONDS
    span = int(game.settings["playcamp.payments.span_seconds"])
    overlap = min(overlap, span // 2)  # so that each window ends later than the one before
    made, is_test = rules(game), is_sandbox(game)
    seen: set[str] = set()  # of the window that is being read, as far as it is read here
    while progress.window is not None or progress.reached < end:
        window = progress.window
        if window is None or window.mark != source.mark:
            start = progress.since if progress.through is None else max(progress.since, progress.through - overlap)
            window = Window(start, min(start + span, max(end, progress.reached)), source.mark)
            seen.clear()
        seen.add(window.next or "")
        try:
            page = source.page(window.start, window.end, window.next)
            if page.next is not None and (page.next in seen or window.pages >= MOST_PAGES):
                words = "playcamp.payments.next never ends: it leads in a circle, or too far for one range"
                raise SourceError(words, tries=1)
        except SourceError as error:
            if error.tries is not None and window.pages:
                failures = window.failures + 1
                left = None if failures >= error.tries else replace(window, failures=failures)
                _note(installation, game, name, replace(progress, window=left))
            raise
        warning = None
        if page.next is None:
            progress = replace(progress, through=max(progress.reached, window.end), window=None)
            seen.clear()
            if page.doubt is not None and progress.gap is None:
                progress = replace(progress, gap=Gap(window.start, window.mark))
                warning = _incomplete(page.doubt, window.start, name)
        else:
            progress = replace(progress, window=replace(window, pages=window.pages + 1, next=page.next, failures=0))

        def build(rows: list[Any], start: int = window.start) -> list[Payment]:
            found = [read_row(source, row, made, is_test) for row in rows]
            return _since(installation, game, found, began) if start < began else found

        _store(installation, game, name, page.rows, build, progress, warning)
        tell(progress, len(page.rows))
        if time.monotonic() >= deadline:
            return progress.window is None and progress.reached >= end
    return True


def _since(installation: Installation, game: Game, found: list[Payment], began: int) -> list[Payment]:
    """Without what was paid before ``began`` and is not known. A row whose id nobody can read may be a known one."""
    began_at = clock.stamp(began)
    earlier = [
        each
        for each in found
        if (each.purchased_at is None or each.purchased_at < began_at)
        and not each.transaction_id.startswith(parsing.UNREADABLE)
    ]
    kept = {each.transaction_id for each in queries.known(installation.database.read(), game.id, earlier)}
    left_out = {each.transaction_id for each in earlier} - kept
    return [each for each in found if each.transaction_id not in left_out]


def _store(
    installation: Installation,
    game: Game,
    name: str,
    rows: list[Any],
    build: Callable[[list[Any]], list[Payment]],
    progress: Progress,
    warning: str | None,
) -> None:
    """Keep the payments of a page, built portion by portion; the progress is noted with the last of them."""
    earlier: set[str] = set()
    for at in range(0, len(rows), ROWS_AT_ONCE):
        batch = build(rows[at : at + ROWS_AT_ONCE])
        is_last = at + ROWS_AT_ONCE >= len(rows)

        def store(tx: Connection, batch: list[Payment] = batch, is_last: bool = is_last) -> None:
            outcomes = payments.store_many(tx, game.id, batch, is_registering=True, earlier=earlier)
            if "new" in outcomes or "refunded" in outcomes:
                jobs.at(tx, game.id, sends.JOB, 0)
            if is_last:
                jobs.put_cursor(tx, game.id, name, progress_text(progress))
                if warning is not None:
                    jobs.warn(tx, game.id, name, warning)

        installation.database.write(store)
        earlier.update(each.transaction_id for each in batch)
    if not rows:
        installation.database.write(lambda tx: jobs.put_cursor(tx, game.id, name, progress_text(progress)))


def _note(installation: Installation, game: Game, name: str, progress: Progress, *warning: str | None) -> None:
    """Note a progress without payments, and the job's warning where one is given."""

    def note(tx: Connection) -> None:
        jobs.put_cursor(tx, game.id, name, progress_text(progress))
        for each in warning:
            jobs.warn(tx, game.id, name, each)

    installation.database.write(note)


def _incomplete(doubt: str, start: int, name: str) -> str:
    again = {
        JOB: "everything since then is read again as soon as one is changed",
        REFUNDS: "the next daily reading goes by them",
        BACKFILL: "give the command again then",
    }[name]
    return (
        f"{doubt}, and nothing leads to a next page: payments from {clock.stamp(start)[:19]}Z on may be missing. Set "
        f"playcamp.payments.next, or a larger playcamp.payments.limit; {again}"
    )


def _ending(due: Due) -> Callable[[Any], None]:
    return lambda tx: jobs.finished(tx, due, None)
