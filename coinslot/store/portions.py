"""Long work, cut so that it keeps nobody waiting: writes in portions, and bulk calls one at a time.

The database has one writer. A write of a thousand rows would keep it from everybody else for as long as it takes; cut
into portions, each of them whole, it leaves room for others in between. What is cut like this must be safe to begin
again: whoever called repeats the whole of it after a failure, and the unique keys see to it that nothing is done twice.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from coinslot.store.db import BusyError, Connection

PORTION_SECONDS = 0.04  # of writing; then the portion is committed
MOST_AT_ONCE = 10  # bulk calls of a process, the one in hand included: gunicorn.conf.py has more threads than that
WAIT_SECONDS = 25.0

A = TypeVar("A")
T = TypeVar("T")


def write_each(
    write: Callable[[Callable[[Connection], list[T]]], list[T]],
    items: Sequence[A],
    function: Callable[[Connection, A], T],
) -> list[T]:
    """Run ``function`` for each item, in as many writes as it takes, and return the results once all are committed.

    ``write`` is ``Database.write`` or ``write_here``. What the function raises is raised here: of that portion nothing
    is stored then, of those before it everything. Between two portions this waits as long as the first one took.
    """
    results: list[T] = []
    took = 0.0

    def portion(tx: Connection) -> list[T]:
        nonlocal took
        began = time.monotonic()
        made: list[T] = []
        for item in islice(items, len(results), None):
            made.append(function(tx, item))
            took = time.monotonic() - began
            if took >= PORTION_SECONDS:
                break
        return made

    while len(results) < len(items):
        results += write(portion)
        if len(results) < len(items):
            time.sleep(min(took, 2 * PORTION_SECONDS))
    return results


_one = threading.Lock()
_places = threading.Semaphore(MOST_AT_ONCE)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Where a bulk call is read, checked and stored, one at a time in this process; the others wait for their turn.

    Raises :class:`BusyError` when too many wait already: somebody else must find a thread free.
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
    """The items in lists of this size, for work that is done for several together."""
    return [items[start : start + size] for start in range(0, len(items), size)]
