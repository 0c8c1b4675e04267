"""Checkpoints of a database that another program copies: Litestream, which makes checkpoints and commits of its own.

SQLite before 3.51.3 loses committed pages when a commit starts the WAL over while a checkpoint of that SQLite begins.
Our lock keeps our commits and our checkpoints apart, and Litestream does not know it. So on a followed database no
connection of ours makes SQLite's automatic checkpoints, and our own keep every other program from committing meanwhile.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from coinslot.store.connection import connect

LARGE_FOLLOWED_BYTES = 256 * 1024 * 1024  # of the WAL: Litestream, which cuts it short far below this, has stopped


def checkpoint(path: Path) -> bool:
    """Copy the WAL into the file, so that it starts over; returns whether all of it could be copied.

    The caller holds our lock. SQLite's write lock is held too, by a second connection: no program can commit, and so
    none can start the WAL over, which is safe in every version of SQLite. Without that lock nothing is done. The WAL
    keeps its size. Raises sqlite3's errors.
    """
    with closing(connect(path)) as guard, closing(connect(path)) as connection:
        guard.execute("PRAGMA busy_timeout = 0")
        try:
            guard.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False  # another program writes just now
        (is_busy, frames, copied) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        guard.execute("ROLLBACK")
        return not is_busy and frames == copied
