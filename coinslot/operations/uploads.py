"""Uploads: files that the owner has uploaded and not used yet, kept in the database for some hours.

Any process finds one by its id and its purpose, on whichever machine the browser's next call arrives.
"""

import secrets
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from coinslot.base import clock
from coinslot.store import queries
from coinslot.store.db import Connection, Database

KEPT_SECONDS = 6 * 3600.0
MOST_KEPT = 20  # of the whole installation; the oldest make room
PART_BYTES = 256 * 1024  # each a write of its own, so that credits do not wait for a large file


def keep(database: Database, purpose: str, file: IO[bytes]) -> str:
    """Keep a copy and return its id. ``purpose`` is a word of ours."""
    columns: dict[str, Any] = {"name": secrets.token_hex(16), "purpose": purpose, "created_at": clock.stamp()}

    def add(tx: Connection) -> None:
        if columns["part"] == 0:
            _make_room(tx)
        queries.insert(tx, "uploads", columns)

    columns["part"] = 0
    while (content := file.read(PART_BYTES)) or columns["part"] == 0:
        columns["content"] = zlib.compress(content, 1)
        database.write(add, keeps_games=True)
        columns["part"] += 1
    return str(columns["name"])


@contextmanager
def copied(database: Database, purpose: str, upload_id: str) -> Iterator[Path | None]:
    """A copy of a file, by its id and its purpose, for the block; None where there is none, or not any more."""
    rows = database.read().execute(
        """SELECT content FROM uploads
           WHERE name = :id AND purpose = :purpose AND created_at > :oldest ORDER BY part""",
        {"id": upload_id, "purpose": purpose, "oldest": _oldest()},
    )
    with tempfile.NamedTemporaryFile(prefix="coinslot-upload-") as file:
        is_there = False
        for row in rows:
            is_there = True
            file.write(zlib.decompress(row["content"]))
        file.flush()
        yield Path(file.name) if is_there else None


def forget(database: Database, upload_id: str) -> None:
    """Delete an upload."""
    statement = "DELETE FROM uploads WHERE name = :id"
    database.write(lambda tx: tx.execute(statement, {"id": upload_id}), keeps_games=True)


def forget_old(database: Database) -> None:
    """Delete those that were kept long enough."""
    first: str | None = queries.value(database.read(), "SELECT min(created_at) FROM uploads", {})
    if first is not None and first <= _oldest():
        database.write(_make_room, keeps_games=True)


def clear(tx: Connection) -> None:
    """Delete every upload."""
    tx.execute("DELETE FROM uploads")


def _make_room(tx: Connection) -> None:
    """Delete the old ones, and of the others all but the newest; one more has its place then."""
    tx.execute(
        """DELETE FROM uploads WHERE created_at <= :oldest OR name NOT IN (
               SELECT n.name FROM (SELECT name, max(created_at) AS at FROM uploads GROUP BY name) n
               ORDER BY n.at DESC, n.name LIMIT :most)""",
        {"oldest": _oldest(), "most": MOST_KEPT - 1},
    )


def _oldest() -> str:
    return clock.stamp(clock.now() - KEPT_SECONDS)
