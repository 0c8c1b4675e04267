"""Long work in portions, and bulk calls one at a time, so that no call waits long.

The database has one writer, and a write of a thousand rows would block all others. Between portions, each with its own
transaction, others write. Work in portions must be repeatable: after a failure the caller repeats all of it, and unique
keys make sure that nothing happens twice.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from coinslot.store.db import BusyError, Connection

PORTION_SECONDS = 0.04  # of writing, after which the portion is committed
MOST_AT_ONCE = 10  # bulk calls in a process, waiting or running; gunicorn.conf.py has more threads
WAIT_SECONDS = 25.0

A = TypeVar("A")
T = TypeVar("T")


def write_each(
    write: Callable[[Callable[[Connection], list[T]]], list[T]],
    items: Sequence[A],
    function: Callable[[Connection, A], T],
    *,
    longest: float | None = None,
    rest: float | None = None,
) -> list[T]:
    """Run ``function`` for each item, in as many writes as it takes; returns the results once all are committed.

    ``write`` is ``Database.write`` or ``write_here``. What the function raises is raised here: then nothing of that
    portion is stored, and everything of the portions before. A portion ends after ``longest`` seconds of writing
    (:data:`PORTION_SECONDS` when it is left out). Between portions this sleeps as long as one took. With ``rest`` it
    sleeps so many times as long as a portion took with its commit and the wait for its turn, after the last one too:
    who deletes much writes many pages, and the busier the others are, the longer it rests.
    """
    most = PORTION_SECONDS if longest is None else longest
    results: list[T] = []
    took = 0.0

    def portion(tx: Connection) -> list[T]:
        nonlocal took
        began = time.monotonic()
        done: list[T] = []
        for item in islice(items, len(results), None):
            done.append(function(tx, item))
            took = time.monotonic() - began
            if took >= most:
                break
        return done

    while len(results) < len(items):
        began_to_wait = time.monotonic()
        results += write(portion)
        if rest is not None:
            time.sleep(min(time.monotonic() - began_to_wait, PORTION_SECONDS) * rest)
        elif len(results) < len(items):
            time.sleep(min(took, 2 * most))
    return results


_one = threading.Lock()
_places = threading.Semaphore(MOST_AT_ONCE)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Within this, one bulk call of the process is read, checked and stored at a time; the others wait.

    Raises :class:`BusyError` when too many wait already, since other calls need a free thread.
    """
    if not _places.acquire(blocking=False):
        raise BusyError("too many bulk calls wait already")
    try:
        if not _one.acquire(timeout=WAIT_SECONDS):
            raise BusyError("another bulk call takes too long")
        try:
            yield
        finally:
            _one.release()
    finally:
        _places.release()


def ready_made(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """The items in lists of this size."""
    return [items[start : start + size] for start in range(0, len(items), size)]
