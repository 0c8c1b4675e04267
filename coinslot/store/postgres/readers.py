"""The connections of a process to read with: some, for all its threads.

A pool of psycopg's would connect in a thread of its own and, after an outage, wait longer before each try: readers
would get errors for many seconds after the database is back. Here the thread that needs a connection opens it.
"""

import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from coinslot.store.errors import BusyError
from coinslot.store.postgres.connection import PostgresError, known_errors
from coinslot.store.writer import WAIT_SECONDS

READERS = 10  # connections, per process
IDLE_SECONDS = 60.0  # after which a connection that nobody needs is closed
PAUSE_SECONDS = 0.1  # between two tries to reach the database

T = TypeVar("T")


class Readers:
    """Gives out connections, one thread each; ``opening`` makes one."""

    def __init__(self, opening: "Callable[[], psycopg.Connection[Any]]") -> None:
        self._opening = opening
        self._places = threading.Semaphore(READERS)
        self._mutex = threading.Lock()
        self._free: list[tuple[float, psycopg.Connection[Any]]] = []  # since when; the newest last
        self._is_closed = False

    @contextmanager
    def one(self, first: str | None = None) -> "Iterator[psycopg.Connection[Any]]":
        """A connection for the block, on which a statement was run ``first``.

        It waits for one, or for the database to come back, as long as a caller waits.

        Raises :class:`BusyError` and :class:`PostgresError`.
        """
        if not self._places.acquire(timeout=WAIT_SECONDS):
            raise BusyError(f"all {READERS} connections to read with were in use for {WAIT_SECONDS:.0f} seconds")
        try:
            raw = self._begun(first)
            try:
                yield raw
            finally:
                self._give_back(raw)
        finally:
            self._places.release()

    def run(self, function: "Callable[[psycopg.Connection[Any]], T]") -> T:
        """Run a function on a connection; once more on a new one where the database had gone: reading is harmless."""
        try:
            with self.one() as raw:
                return function(raw)
        except PostgresError as error:
            if not error.is_lost:
                raise
        self.forget()
        with self.one() as raw:
            return function(raw)

    def _begun(self, first: str | None) -> "psycopg.Connection[Any]":
        while True:
            free = self._free_one()
            raw = free or until_there(self._opening)
            try:
                if first is not None:
                    with known_errors():
                        raw.execute(first.encode())
                return raw
            except BaseException as error:
                raw.close()
                if free is None or not isinstance(error, PostgresError):
                    raise

    def forget(self) -> None:
        """Close those that nobody uses."""
        with self._mutex:
            free, self._free = self._free, []
        for _, raw in free:
            raw.close()

    def close(self) -> None:
        """Close them; those in use when they are given back."""
        self._is_closed = True
        self.forget()

    def _free_one(self) -> "psycopg.Connection[Any] | None":
        while True:
            with self._mutex:
                if not self._free:
                    return None
                _, raw = self._free.pop()
            if not _has_ended(raw):
                return raw
            raw.close()

    def _give_back(self, raw: "psycopg.Connection[Any]") -> None:
        is_good = not raw.closed and raw.pgconn.transaction_status == TransactionStatus.IDLE
        now, old = time.monotonic(), None
        with self._mutex:
            if is_good and not self._is_closed:
                self._free.append((now, raw))
                if self._free[0][0] < now - IDLE_SECONDS:
                    old = self._free.pop(0)[1]
            else:
                old = raw
        if old is not None:
            old.close()


def until_there(function: Callable[[], T], is_over: Callable[[], bool] = lambda: False) -> T:
    """What a function returns that reaches for the database; tried again while that is away, as long as callers wait.

    Raises what the function raises for any other reason, or last.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return function()
        except PostgresError as error:
            if not error.is_lost or is_over() or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_SECONDS)


def _has_ended(raw: "psycopg.Connection[Any]") -> bool:
    """Whether the database has closed it: then there is something to be read, where nothing was asked."""
    if raw.closed:
        return True
    poll = select.poll()
    poll.register(raw.fileno(), select.POLLIN)
    return bool(poll.poll(0))
