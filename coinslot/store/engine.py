"""What only SQLite does: its version, a private database, and a copy of a whole database."""

import sqlite3
from collections.abc import Callable

from coinslot.store.db import Connection, Row

VERSION, VERSION_INFO = sqlite3.sqlite_version, sqlite3.sqlite_version_info


def has_race() -> bool:
    """Whether a checkpoint during another connection's commit may lose pages, as in versions before these."""
    fixed = VERSION_INFO >= (3, 51, 3) or (3, 50, 7) <= VERSION_INFO < (3, 51) or (3, 44, 6) <= VERSION_INFO < (3, 45)
    return not fixed


def private() -> Connection:
    """A private database in a temporary file. Closing the connection deletes it."""
    connection = sqlite3.connect("", isolation_level=None)
    connection.row_factory = Row
    return connection


def copy_pages(
    source: Connection,
    target: Connection,
    pages: int,
    locked: Callable[[], Exception],
    after_step: Callable[[int, int], None] = lambda left, total: None,
) -> None:
    """Replace all of ``target`` by all of ``source`` in one transaction, so many pages per step.

    Signals are handled between steps, and ``after_step`` is told how many pages are left, of how many. Raises
    ``locked()`` when another program keeps a database locked.
    """

    def after_each_step(status: int, left: int, total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):  # Python would try for ever
            raise locked()
        after_step(left, total)

    source.backup(target, pages=pages, progress=after_each_step)
