"""The thread of a process that writes: it commits all waiting writes together."""

import os
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from coinslot.store.errors import BusyError, DatabaseError
from coinslot.store.waiting_write import WaitingWrite

WAIT_SECONDS = 5.0  # how long a caller waits for its write before BusyError
BATCH_LIMIT = 64  # writes under one commit, so that no process keeps the lock for long
QUIET_SECONDS = 1.0  # without a write, after which the writer tidies


class Writer(ABC):
    """The one thread of this process that writes. It commits all waiting writes together, then wakes their callers."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._mutex = threading.Lock()
        self._something_waits = threading.Condition(self._mutex)
        self._waiting: deque[WaitingWrite] = deque()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._loop, name="coinslot-writer", daemon=True)
        self._thread.start()

    def run(self, function: Callable[[sqlite3.Connection], Any], keeps_games: bool) -> Any:
        """See :meth:`coinslot.store.db.Database.write`."""
        write = WaitingWrite(function, keeps_games)
        with self._mutex:
            if self._is_stopping:
                raise BusyError("the server is stopping")
            self._waiting.append(write)
            self._something_waits.notify()
        if not write.is_finished_within(WAIT_SECONDS):
            with self._mutex:
                if write.state == "waiting":
                    write.state = "withdrawn"
                    self._waiting.remove(write)
            if not write.is_finished_within(0):
                raise BusyError(f"the database was busy for {WAIT_SECONDS:.0f} seconds")
        if write.error is not None:
            raise write.error
        return write.result

    def stop(self) -> None:
        """End after the writes that wait."""
        with self._mutex:
            self._is_stopping = True
            self._something_waits.notify()
        self._thread.join(WAIT_SECONDS)

    @abstractmethod
    def _commit_together(self, batch: list[WaitingWrite]) -> None:
        """Fill ``batch`` with writes that :meth:`_take` gives, and commit them.

        After an exception none of them is stored. An error of one function alone is set in its write.
        """

    @abstractmethod
    def _tidy(self) -> bool:
        """Tidy up while nobody writes; returns whether there is nothing more to tidy."""

    @abstractmethod
    def _look_around(self) -> None:
        """Called after each commit, before the thread waits."""

    @abstractmethod
    def _forget_connection(self) -> None:
        """Close the connection; the next commit opens another one."""

    def _loop(self) -> None:
        is_untidy = False  # whether something was written since the writer last tidied
        while True:
            with self._mutex:
                while not self._waiting and not self._is_stopping:
                    if not self._something_waits.wait(QUIET_SECONDS if is_untidy else None) and is_untidy:
                        break
                if not self._waiting and self._is_stopping:
                    break
            if not self._waiting:
                is_untidy = not self._tidy()
                continue
            is_untidy = True
            batch: list[WaitingWrite] = []
            try:
                self._commit_together(batch)
            except BaseException as error:  # the thread must survive all errors of the disk; the callers get them
                self._forget_connection()
                trouble = error if isinstance(error, DatabaseError) else DatabaseError(f"write failed: {error}")
                if not batch:  # opening or beginning failed, which concerns all waiting writes
                    batch = self._take_all()
                for write in batch:
                    write.result, write.error = None, trouble
            for write in batch:
                write.finish()
            self._look_around()
        self._forget_connection()

    def _take(self) -> WaitingWrite | None:
        with self._mutex:
            if not self._waiting:
                return None
            write = self._waiting.popleft()
            write.state = "begun"
            return write

    def _take_all(self) -> list[WaitingWrite]:
        return list(iter(self._take, None))
