"""Whether the disk takes what is written: a commit that failed is remembered until one that writes as much succeeds.

A write of nothing shows nothing: it succeeds beside a full disk, a file-size limit and a damaged page.
"""

import sqlite3
from collections.abc import Callable
from typing import Any

TROUBLES = {
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
}
TRIAL_CHARACTERS = 8192  # a row of a trial takes two pages at least, as a changed row with its indexes does


class LastFailure:
    """The last failed commit of one process; ``tell`` hears whether there is one. Used under the write lock."""

    def __init__(self, tell: Callable[[bool], None]) -> None:
        self._tell = tell
        self._rows = 0  # that it would have changed, at least; 0: none has failed
        self._code: object = None  # of the function that met a damaged page, which others may never meet
        self._may_try = False

    def failed(self, error: BaseException, rows: int, function: Callable[..., Any] | None = None) -> None:
        """``function`` failed, or None: the commit. What follows from a failure of a function does not hide it."""
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code not in TROUBLES or (function is None and self._code is not None):
            return
        is_damage = code == sqlite3.SQLITE_CORRUPT
        self._rows, self._may_try = max(rows, 1), not is_damage
        # Damage that the commit met, and no function before it, concerns any write: a restart ends it.
        self._code = None if not is_damage else "the commit" if function is None else _code(function)
        self._tell(True)

    def succeeded(self, rows: int, function: Callable[..., Any]) -> None:
        """A write was committed. A damaged page concerns some writes alone: one of the same kind ends that failure."""
        if 0 < self._rows <= rows and self._code in (None, _code(function)):
            self._rows, self._code = 0, None
            self._tell(False)

    @property
    def rows_to_try(self) -> int:
        """How many rows a trial must write to end it; 0 where there is nothing a trial can end."""
        return self._rows if self._may_try else 0


def write_trial(tx: sqlite3.Connection, rows: int) -> None:
    for number in range(rows):
        tx.execute(
            """INSERT INTO installation (name, value, updated_at) VALUES ('trial.' || :number, :value, '')
               ON CONFLICT (name) DO UPDATE SET value = excluded.value""",
            {"number": number, "value": "0" * TRIAL_CHARACTERS},
        )


def remove_trial(tx: sqlite3.Connection) -> None:
    tx.execute("DELETE FROM installation WHERE name LIKE 'trial.%'")


def _code(function: Callable[..., Any]) -> object:
    """The same for the same kind of write: its code, without what it closes over."""
    return getattr(getattr(function, "func", function), "__code__", type(function))
