"""What ``flask doctor`` checks of a SQLite file, its engine and its disk. ``doctor.py`` says the rest."""

import shutil
from collections.abc import Iterator

from coinslot.operations.findings import (
    LEAST_FREE_BYTES,
    LITTLE_FREE_BYTES,
    LOOK,
    NOTE,
    SENTENCES,
    WRONG,
    Checked,
    Trouble,
    size_text,
)
from coinslot.store import engine as sqlite
from coinslot.store.checkpoints import LARGE_FOLLOWED_BYTES
from coinslot.store.connection import is_followed
from coinslot.store.db import SCHEMA_VERSION, Connection, DatabaseError, EngineError, version_trouble
from coinslot.store.sqlite import LARGE_WAL_BYTES, MINIMUM_SQLITE, SqliteDatabase, connect, file_version

LARGEST_FOLLOWED_BYTES = 4 * LARGE_FOLLOWED_BYTES  # of the WAL, above which neither Litestream nor the server gets on


def engine(database: SqliteDatabase) -> Iterator[Checked]:
    """Whether SQLite is new enough."""
    if sqlite.VERSION_INFO < MINIMUM_SQLITE:
        yield Trouble("engine", WRONG, f"SQLite {sqlite.VERSION} is too old; 3.37 or newer is needed.")
    elif not sqlite.has_race():
        yield f"SQLite {sqlite.VERSION}"
    else:
        sentence = (
            f"SQLite {sqlite.VERSION} has a race between a checkpoint and a commit (fixed in 3.51.3, 3.50.7 and "
            "3.44.6). Coinslot's write lock makes it harmless, so write to the file with nothing else."
        )
        if is_followed(database.path):
            sentence = sentence.replace("with nothing else.", "with nothing else but Litestream 0.5.17 or newer.")
        yield Trouble("engine", NOTE, sentence)


def disk_space(database: SqliteDatabase) -> Iterator[Checked]:
    """The room on the disk, the size of the WAL, and whether commits of the server fail."""
    folder = next(path for path in (database.home, *database.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    size = database.path.stat().st_size if database.path.exists() else 0
    room = f"{size_text(free)} free on the disk of {folder}"
    if free < LEAST_FREE_BYTES:
        yield Trouble("disk", WRONG, f"{room}: credits are about to fail.", "Make room on it.")
    elif free < max(LITTLE_FREE_BYTES, 3 * size):  # a restore needs the prepared file, the kept copy and the WAL
        yield Trouble("disk", LOOK, f"{room}: little for a database of {size_text(size)}.", "Make room on it.")
    else:
        yield room
    wal = database.wal_bytes()
    is_copied = is_followed(database.path)
    if wal > (LARGEST_FOLLOWED_BYTES if is_copied else LARGE_WAL_BYTES):
        who = "Litestream starts it over" if is_copied else "the server cuts it when nothing writes"
        place = f"{size_text(wal)} in {database.path}-wal beside {size_text(size)} in the database"
        sentence = f"{place}: {who}, unless a reader holds it."
        yield Trouble("wal", LOOK, sentence, "End the reader: a backup under way, or an open sqlite3 shell.")
    if database.path.exists() and database.is_marked():
        sentence = "A commit failed on the disk, and none that writes as much has succeeded since."
        remedy = (
            "Look at the server's log, the room on the disk and the limits of the process (ulimit -f); then restart it."
        )
        yield Trouble("commits", WRONG, sentence, remedy)


def open_database(database: SqliteDatabase) -> tuple[Connection | None, Checked]:
    """A connection that changes nothing, where the file is one of ours at this code's version; and what it is."""
    try:
        if not database.path.exists():
            sentence = f"There is no database at {database.path}."
            return None, Trouble("database", WRONG, sentence, "Start the server, or restore a backup.")
        connection = connect(database.path)
    except (EngineError, OSError, ValueError) as error:
        return None, Trouble("database", WRONG, f"{database.path} cannot be opened: {error}.")
    try:
        connection.execute("PRAGMA query_only = ON")
        version = file_version(connection)
        if version == SCHEMA_VERSION:
            size = database.path.stat().st_size
            return connection, f"database {database.path}, schema version {version}, {size_text(size)}"
        found = Trouble("database", WRONG, f"{database.path}: {version_trouble(version)}.")
    except (EngineError, DatabaseError, ValueError) as error:
        found = Trouble("database", WRONG, f"{database.path}: {error}.")
    connection.close()
    return None, found


def soundness(database: SqliteDatabase, connection: Connection) -> Iterator[Checked]:
    """Whether the file is sound, in WAL mode, and without rows that refer to nothing."""
    answers = [" ".join(row[0].split()) for row in connection.execute(f"PRAGMA quick_check({SENTENCES:d})")]
    if answers == ["ok"]:
        yield "the database file is sound (quick_check)"
    else:
        for number, answer in enumerate(answers, 1):
            yield Trouble(f"damaged:{number}", WRONG, f"The database file is damaged: {answer}.", "Restore a backup.")
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode == "wal":
        yield "journal mode wal"
    else:
        remedy = "Stop the server and run: sqlite3 ... 'PRAGMA journal_mode = WAL'"
        yield Trouble("journal", WRONG, f"The journal mode is {mode}.", remedy)
    broken = connection.execute("PRAGMA foreign_key_check").fetchmany(SENTENCES)
    if not broken:
        yield "every row refers to rows that are there (foreign keys)"
    for number, row in enumerate(broken, 1):
        sentence = f"A row of {row['table']} refers to none of {row['parent']}."
        yield Trouble(f"foreign_key:{number}", WRONG, sentence, "Restore a backup.")
