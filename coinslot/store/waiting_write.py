"""What the writer is handed."""

import sqlite3
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any


class WaitingWrite:
    """A function that waits for the writer. ``state`` changes only under the writer's mutex."""

    __slots__ = ("_done", "context", "error", "function", "keeps_games", "result", "rows", "state")

    def __init__(self, function: Callable[[sqlite3.Connection], Any], keeps_games: bool) -> None:
        self.function = function
        self.context = copy_context()  # of the caller, such as the id of the call that it answers
        self.keeps_games = keeps_games
        self.state = "waiting"  # waiting -> begun | withdrawn
        self.rows = 0  # that it changed, at least
        self.result: Any = None
        self.error: BaseException | None = None
        self._done = threading.Lock()  # held until it is; an Event takes five times as long
        self._done.acquire()

    def finish(self) -> None:
        self._done.release()

    def is_finished_within(self, seconds: float) -> bool:
        """Whether its result or error is there; asked until it says yes."""
        return self._done.acquire(timeout=seconds)
