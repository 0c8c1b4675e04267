"""What is asked of SQLite itself, beside queries: its version, a private database, and a copy of a whole one."""

import sqlite3
from collections.abc import Callable

from coinslot.store.db import Connection, Row

VERSION, VERSION_INFO = sqlite3.sqlite_version, sqlite3.sqlite_version_info
IntegrityError = sqlite3.IntegrityError


def has_race() -> bool:
    """Whether a checkpoint that meets another connection's commit may lose pages: mended in these versions."""
    mended = VERSION_INFO >= (3, 51, 3) or (3, 50, 7) <= VERSION_INFO < (3, 51) or (3, 44, 6) <= VERSION_INFO < (3, 45)
    return not mended


def private() -> Connection:
    """A database of its own in a temporary file that nobody else sees. Closing the connection deletes it."""
    connection = sqlite3.connect("", isolation_level=None)
    connection.row_factory = Row
    return connection


def copy_pages(source: Connection, target: Connection, pages: int, locked: Callable[[], Exception]) -> None:
    """All of ``source`` in place of all of ``target``, as one transaction of the target, ``pages`` at a step.

    Between steps a signal is heard. Raises ``locked()`` when another program keeps a database locked.
    """

    def after_each_step(status: int, _remaining: int, _total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):  # Python would try for ever
            raise locked()

    source.backup(target, pages=pages, progress=after_each_step)
