"""Whether the disk takes writes: a failed commit is remembered until one that writes as much succeeds.

A write of nothing proves nothing: it succeeds on a full disk, at a file-size limit and with a damaged page.
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
TRIAL_CHARACTERS = 8192  # a trial row takes at least two pages, like a changed row with its indexes


class LastFailure:
    """The last failed commit of a process; ``mark`` is called with whether there is one. Used under the write lock."""

    def __init__(self, mark: Callable[[bool], None]) -> None:
        self._mark = mark
        self._rows = 0  # that it would have changed, at least; 0: no commit has failed
        self._code: object = None  # of the function that met a damaged page, which other functions may not read
        self._may_try = False

    def failed(self, error: BaseException, rows: int, function: Callable[..., Any] | None = None) -> bool:
        """``function`` failed, or the commit (None). An error that follows from a function's does not replace that.

        Returns whether the disk or the file is the reason.
        """
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code not in TROUBLES:
            return False
        if function is None and self._code is not None:
            return True
        is_damage = code == sqlite3.SQLITE_CORRUPT
        self._rows, self._may_try = max(rows, 1), not is_damage
        # Damage that only the commit met concerns all writes: only a restart ends it.
        self._code = None if not is_damage else "the commit" if function is None else _code(function)
        self._mark(True)
        return True

    def succeeded(self, rows: int, function: Callable[..., Any]) -> None:
        """A write was committed. After a damaged page, only a write of the same kind ends the failure."""
        if 0 < self._rows <= rows and self._code in (None, _code(function)):
            self._rows, self._code = 0, None
            self._mark(False)

    @property
    def rows_to_try(self) -> int:
        """How many rows a trial must write to end the failure; 0 where there is none that a trial can end."""
        return self._rows if self._may_try else 0


def write_trial(tx: sqlite3.Connection, rows: int) -> None:
    """Write so many rows; :func:`remove_trial` deletes them."""
    for number in range(rows):
        tx.execute(
            """INSERT INTO installation (name, value, updated_at) VALUES ('trial.' || :number, :value, '')
               ON CONFLICT (name) DO UPDATE SET value = excluded.value""",
            {"number": number, "value": "0" * TRIAL_CHARACTERS},
        )


def remove_trial(tx: sqlite3.Connection) -> None:
    tx.execute("DELETE FROM installation WHERE substr(name, 1, 6) = 'trial.'")


def _code(function: Callable[..., Any]) -> object:
    """Equal for writes of the same kind: the function's code, without the values it closes over."""
    return getattr(getattr(function, "func", function), "__code__", type(function))
