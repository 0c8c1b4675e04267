"""What ``flask doctor`` looks at, apart from the partners: one finding per thing, and nothing is changed.

Every check stands on its own: it says what it found also when the key is wrong, the schema newer, or the file missing
or damaged. A file that is missing is not made.
"""

import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from coinslot import __version__
from coinslot.access import owner
from coinslot.access.vault import Vault, database_key_id
from coinslot.base import clock
from coinslot.base.settings import Settings
from coinslot.ledger import chain
from coinslot.operations import forgetting
from coinslot.operations.checks import at_least, refused_since
from coinslot.operations.findings import OK, WARNING, WRONG, Finding
from coinslot.store import engine as sqlite
from coinslot.store.db import (
    LARGE_WAL_BYTES,
    MINIMUM_SQLITE,
    SCHEMA_VERSION,
    Connection,
    Database,
    DatabaseError,
    EngineError,
    connect,
    file_version,
    version_trouble,
)

CHAIN_ROWS = 100_000  # newest transactions whose hashes are checked
SENTENCES = 5  # about one thing; the rest is counted
LEAST_FREE_BYTES = 64 * 1024 * 1024  # below this a credit is about to fail
ROOM_FREE_BYTES = 1024 * 1024 * 1024
EARLIEST_YEAR, LATEST_YEAR = 2024, 2100
CLOCK_SLACK_SECONDS = 60
REACH_SECONDS = 3.0


def folder(settings: Settings, database: Database, vault: Vault) -> Iterator[Finding]:
    """Who may read the home folder and what is in it, and whether one user owns all of it."""
    home = settings.home
    if not home.is_dir():
        yield Finding(WRONG, f"COINSLOT_HOME {home} does not exist; start the server once, or restore a backup")
        return
    owned_by = home.stat().st_uid
    tidy = True
    paths = [home, database.path, Path(f"{database.path}-wal"), vault.path, vault.next_path]
    paths += [home / "write.lock", home / forgetting.FILE]
    for path in paths:
        if not path.exists():
            continue
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            wanted = "0700" if path == home else "0600"
            yield Finding(WRONG, f"{path} is open to other users (mode {mode:04o}): chmod {wanted} {path}")
            tidy = False
        if status.st_uid != owned_by:
            yield Finding(
                WRONG, f"{path} belongs to user {status.st_uid}, its folder to {owned_by}: chown {owned_by} {path}"
            )
            tidy = False
    if tidy:
        yield Finding(OK, f"COINSLOT_HOME {home}, open to its owner alone")


def master_key(vault: Vault, connection: Connection | None) -> Iterator[Finding]:
    """Whether the key at hand is well formed and the one the database is under. ``connection`` None: no database."""
    source = "COINSLOT_MASTER_KEY" if vault.is_from_environment else str(vault.path)
    candidates = vault.candidates()
    needed = None if connection is None else database_key_id(connection)
    if connection is None:
        yield Finding(OK, f"master key {candidates[0].id} from {source}; no database to compare it with")
    elif needed is None:
        yield Finding(WARNING, f"master key {candidates[0].id} from {source}; the database is under no key yet")
    elif needed in {key.id for key in candidates}:
        yield Finding(OK, f"master key {needed} from {source}, the one the database is under")
    else:
        yield Finding(WRONG, f"the database is under master key {needed}, but {source} holds {candidates[0].id}")
    if not vault.is_from_environment and vault.next_path.exists():
        yield Finding(
            WARNING, f"{vault.next_path} is left from a key rotation that was cut short; keep it, rotate again"
        )
    if vault.is_from_environment and vault.path.exists():
        yield Finding(WARNING, f"{vault.path} is not used while COINSLOT_MASTER_KEY is set")


def release() -> Iterator[Finding]:
    yield Finding(OK, f"Coinslot {__version__}")


def engine() -> Iterator[Finding]:
    if sqlite.VERSION_INFO < MINIMUM_SQLITE:
        yield Finding(WRONG, f"SQLite {sqlite.VERSION} is too old; 3.37 or newer is needed")
    elif not sqlite.has_race():
        yield Finding(OK, f"SQLite {sqlite.VERSION}")
    else:
        yield Finding(
            WARNING,
            f"SQLite {sqlite.VERSION} has a race between a checkpoint and a commit (mended in 3.51.3, 3.50.7 "
            "and 3.44.6); Coinslot's write lock makes it harmless, so write to the file with nothing else",
        )


def open_database(database: Database) -> tuple[Connection | None, Finding]:
    """A connection that changes nothing, where the file is one of ours at this code's version; and what it is."""
    try:
        if not database.path.exists():
            return None, Finding(
                WRONG, f"there is no database at {database.path}; start the server, or restore a backup"
            )
        connection = connect(database.path)
    except (EngineError, OSError, ValueError) as error:
        return None, Finding(WRONG, f"{database.path} cannot be opened: {error}")
    try:
        connection.execute("PRAGMA query_only = ON")
        version = file_version(connection)
        if version == SCHEMA_VERSION:
            size = database.path.stat().st_size
            return connection, Finding(OK, f"database {database.path}, schema version {version}, {_size(size)}")
        found = Finding(WRONG, f"{database.path}: {version_trouble(version)}")
    except (EngineError, DatabaseError, ValueError) as error:
        found = Finding(WRONG, f"{database.path}: {error}")
    connection.close()
    return None, found


def database_file(connection: Connection) -> Iterator[Finding]:
    answers = [" ".join(row[0].split()) for row in connection.execute(f"PRAGMA quick_check({SENTENCES:d})")]
    if answers == ["ok"]:
        yield Finding(OK, "the database file is sound (quick_check)")
    else:
        yield from (Finding(WRONG, f"the database file is damaged: {answer}; restore a backup") for answer in answers)
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode == "wal":
        yield Finding(OK, "journal mode wal")
    else:
        yield Finding(WRONG, f"journal mode {mode}; stop the server and run: sqlite3 ... 'PRAGMA journal_mode = WAL'")
    broken = connection.execute("PRAGMA foreign_key_check").fetchmany(SENTENCES)
    if not broken:
        yield Finding(OK, "every row refers to rows that are there (foreign keys)")
    yield from (Finding(WRONG, f"a row of {row['table']} refers to none of {row['parent']}") for row in broken)


def hash_chain(connection: Connection) -> Iterator[Finding]:
    wrong = 0
    for sentence in chain.verify(connection, newest=CHAIN_ROWS):
        wrong += 1
        if wrong <= SENTENCES:
            yield Finding(WRONG, sentence)
    if wrong > SENTENCES:
        yield Finding(WRONG, f"and {wrong - SENTENCES} more like that in the ledger")
    if wrong == 0:
        yield Finding(OK, f"the ledger's hash chain holds (newest {CHAIN_ROWS:,} transactions and grants)")


def disk_space(database: Database) -> Iterator[Finding]:
    folder = next(path for path in (database.home, *database.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    size = database.path.stat().st_size if database.path.exists() else 0
    if free < LEAST_FREE_BYTES:
        yield Finding(WRONG, f"{_size(free)} free on the disk of {folder}: credits are about to fail")
    elif free < max(ROOM_FREE_BYTES, 3 * size):  # a restore needs the prepared file, the kept copy and the WAL
        yield Finding(WARNING, f"{_size(free)} free on the disk of {folder}: little for a database of {_size(size)}")
    else:
        yield Finding(OK, f"{_size(free)} free on the disk of {folder}")
    wal = database.wal_bytes()
    if wal > LARGE_WAL_BYTES:
        yield Finding(
            WARNING,
            f"{_size(wal)} in {database.path}-wal beside {_size(size)} in the database: the server cuts it when nobody "
            "writes, unless a reader holds it, such as a backup under way or an open sqlite3 shell",
        )
    if database.path.exists():
        with database.lock:
            is_refusing = database.lock.is_marked()
        if is_refusing:
            yield Finding(
                WRONG,
                "a commit of the running server failed on the disk, and none that writes as much has succeeded since: "
                "look at its log, the room on the disk, the limits of the process (ulimit -f), and restart it then",
            )


def system_clock(connection: Connection | None) -> Iterator[Finding]:
    """The year, the newest transaction, and calls refused for their age: signatures stand and fall with the clock."""
    now = clock.now()
    year = datetime.fromtimestamp(now, UTC).year
    if not EARLIEST_YEAR <= year <= LATEST_YEAR:
        yield Finding(WRONG, f"the clock says {clock.stamp(now)}: signed calls will be refused")
        return
    if connection is None:
        yield Finding(OK, f"the clock says {clock.stamp(now)}")
        return
    newest = connection.execute("SELECT received_at FROM transactions ORDER BY id DESC LIMIT 1").fetchone()
    if newest is not None and newest["received_at"] > clock.stamp(now + CLOCK_SLACK_SECONDS):
        yield Finding(
            WRONG, f"the clock says {clock.stamp(now)}, earlier than the newest transaction ({newest['received_at']})"
        )
        return
    stale = [row for row in refused_since(connection) if row["reason"] == "timestamp"]
    if stale:
        yield Finding(
            WARNING,
            f"the clock says {clock.stamp(now)}; {at_least(stale)} signed call(s) of the last 24 hours were refused "
            "for their age: compare it with a time server (timedatectl)",
        )
    else:
        yield Finding(OK, f"the clock says {clock.stamp(now)}")


def owner_password(connection: Connection) -> Iterator[Finding]:
    if owner.has_password(connection):
        yield Finding(OK, "the owner's password is set")
    else:
        yield Finding(
            WARNING, "no owner's password is set: use the link in the server's log, or `flask admin password`"
        )


def public_url(settings: Settings) -> Iterator[Finding]:
    """Whether partners can use the address: https unless it is this machine, believed proxies, and an answer."""
    url = settings.public_url
    parts = urlsplit(url)
    is_local = parts.hostname in ("localhost", "::1") or (parts.hostname or "").startswith("127.")
    if parts.scheme == "https":
        yield Finding(OK, f"COINSLOT_PUBLIC_URL {url}")
        if settings.trusted_proxies == 0:
            yield Finding(
                WARNING,
                "COINSLOT_TRUSTED_PROXIES is 0, but https means a proxy in front: allowlists see its address, not the "
                "caller's",
            )
    elif is_local:
        yield Finding(OK, f"COINSLOT_PUBLIC_URL {url} (this machine alone; partners need an https address)")
    else:
        yield Finding(WRONG, f"COINSLOT_PUBLIC_URL {url} is not https: keys and player data would travel in the open")
    try:
        answer = urllib3.PoolManager(retries=False).request(
            "GET",
            f"{url}/healthz",
            timeout=urllib3.Timeout(total=REACH_SECONDS),
            redirect=False,
            preload_content=False,
        )
        status = answer.status
        answer.close()
    except urllib3.exceptions.HTTPError as error:
        yield Finding(WARNING, f"{url}/healthz does not answer from here ({type(error).__name__}): is the server up?")
        return
    if status == 200:
        yield Finding(OK, f"{url}/healthz answers")
    else:
        yield Finding(WARNING, f"{url}/healthz answers {status}: something else stands at that address")


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
