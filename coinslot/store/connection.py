"""How every connection to the database file is set, and one transaction on it."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def is_followed(path: Path) -> bool:
    """Whether Litestream copies, or has copied, this database: it keeps a folder beside it."""
    return os.path.isdir(path.with_name(f".{path.name}-litestream"))  # never raises, unlike Path's own


def connect(path: Path, cache_kib: int = 2048) -> sqlite3.Connection:
    """A connection with our settings. The file must exist. Raises sqlite3's errors."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    pragmas = (
        "busy_timeout = 5000",  # for writers that are not ours, such as the sqlite3 shell
        "foreign_keys = ON",
        "synchronous = FULL",
        "temp_store = MEMORY",
        "mmap_size = 0",
        f"cache_size = -{cache_kib:d}",  # every thread has a connection; only the writer needs a large cache
        "trusted_schema = OFF",
        "secure_delete = ON",  # deleted data is overwritten in the file
    )
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        if is_followed(path):
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoints.py says why
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block is committed, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
