"""What ``flask doctor`` checks of the machine, the files and the settings: one finding per thing; nothing is changed.

Each check works by itself, also when the key is wrong, the schema newer, or the file missing or damaged. A missing
file is not made.
"""

import shutil
import stat
from collections.abc import Iterator
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
from coinslot.operations.findings import LEAST_FREE_BYTES, LITTLE_FREE_BYTES, Finding, ok, warning, wrong
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
from coinslot.store.queries import value

CHAIN_ROWS = 100_000  # newest transactions whose hashes are checked
SENTENCES = 5  # about one thing; the rest is counted
EARLIEST_YEAR, LATEST_YEAR = "2024", "2100"
CLOCK_SLACK_SECONDS = 60
REACH_SECONDS = 3.0


def folder(settings: Settings, database: Database, vault: Vault) -> Iterator[Finding]:
    """Who may read the home folder and what is in it, and whether one user owns all of it."""
    home = settings.home
    if not home.is_dir():
        yield wrong(f"COINSLOT_HOME {home} does not exist; start the server once, or restore a backup")
        return
    owner_id = home.stat().st_uid
    is_tidy = True
    paths = [home, database.path, Path(f"{database.path}-wal"), vault.path, vault.next_path]
    for path in (*paths, home / "write.lock", home / forgetting.FILE):
        if not path.exists():
            continue
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            wanted = "0700" if path == home else "0600"
            yield wrong(f"{path} is open to other users (mode {mode:04o}): chmod {wanted} {path}")
        if status.st_uid != owner_id:
            remedy = f"chown {owner_id} {path}"
            yield wrong(f"{path} belongs to user {status.st_uid}, its folder to {owner_id}: {remedy}")
        is_tidy = is_tidy and not mode & 0o077 and status.st_uid == owner_id
    if is_tidy:
        yield ok(f"COINSLOT_HOME {home}, open to its owner alone")


def master_key(vault: Vault, connection: Connection | None) -> Iterator[Finding]:
    """Whether the key at hand is well formed and the one the database is under. ``connection`` None: no database."""
    source = "COINSLOT_MASTER_KEY" if vault.is_from_environment else str(vault.path)
    candidates = vault.candidates()
    needed = None if connection is None else database_key_id(connection)
    if connection is None:
        yield ok(f"master key {candidates[0].id} from {source}; no database to compare it with")
    elif needed is None:
        yield warning(f"master key {candidates[0].id} from {source}; the database is under no key yet")
    elif needed in {key.id for key in candidates}:
        yield ok(f"master key {needed} from {source}, the one the database is under")
    else:
        yield wrong(f"the database is under master key {needed}, but {source} holds {candidates[0].id}")
    if not vault.is_from_environment and vault.next_path.exists():
        yield warning(f"{vault.next_path} is left from a key rotation that was cut short; keep it, rotate again")
    if vault.is_from_environment and vault.path.exists():
        yield warning(f"{vault.path} is not used while COINSLOT_MASTER_KEY is set")


def release() -> Iterator[Finding]:
    """Which Coinslot this is."""
    yield ok(f"Coinslot {__version__}")


def engine() -> Iterator[Finding]:
    """Whether this SQLite is new enough."""
    if sqlite.VERSION_INFO < MINIMUM_SQLITE:
        yield wrong(f"SQLite {sqlite.VERSION} is too old; 3.37 or newer is needed")
    elif not sqlite.has_race():
        yield ok(f"SQLite {sqlite.VERSION}")
    else:
        yield warning(
            f"SQLite {sqlite.VERSION} has a race between a checkpoint and a commit (fixed in 3.51.3, 3.50.7 "
            "and 3.44.6); Coinslot's write lock makes it harmless, so write to the file with nothing else"
        )


def open_database(database: Database) -> tuple[Connection | None, Finding]:
    """A connection that changes nothing, where the file is one of ours at this code's version; and what it is."""
    try:
        if not database.path.exists():
            return None, wrong(f"there is no database at {database.path}; start the server, or restore a backup")
        connection = connect(database.path)
    except (EngineError, OSError, ValueError) as error:
        return None, wrong(f"{database.path} cannot be opened: {error}")
    try:
        connection.execute("PRAGMA query_only = ON")
        version = file_version(connection)
        if version == SCHEMA_VERSION:
            size = database.path.stat().st_size
            return connection, ok(f"database {database.path}, schema version {version}, {_size(size)}")
        found = wrong(f"{database.path}: {version_trouble(version)}")
    except (EngineError, DatabaseError, ValueError) as error:
        found = wrong(f"{database.path}: {error}")
    connection.close()
    return None, found


def database_file(connection: Connection) -> Iterator[Finding]:
    """Whether the file is sound, in WAL mode, and without rows that refer to nothing."""
    answers = [" ".join(row[0].split()) for row in connection.execute(f"PRAGMA quick_check({SENTENCES:d})")]
    if answers == ["ok"]:
        yield ok("the database file is sound (quick_check)")
    else:
        yield from (wrong(f"the database file is damaged: {answer}; restore a backup") for answer in answers)
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode == "wal":
        yield ok("journal mode wal")
    else:
        yield wrong(f"journal mode {mode}; stop the server and run: sqlite3 ... 'PRAGMA journal_mode = WAL'")
    broken = connection.execute("PRAGMA foreign_key_check").fetchmany(SENTENCES)
    if not broken:
        yield ok("every row refers to rows that are there (foreign keys)")
    yield from (wrong(f"a row of {row['table']} refers to none of {row['parent']}") for row in broken)


def hash_chain(connection: Connection) -> Iterator[Finding]:
    """Whether the newest rows of the ledger are as they were written."""
    sentences = list(chain.verify(connection, newest=CHAIN_ROWS))
    yield from map(wrong, sentences[:SENTENCES])
    if len(sentences) > SENTENCES:
        yield wrong(f"and {len(sentences) - SENTENCES} more like that in the ledger")
    if not sentences:
        yield ok(f"the ledger's hash chain holds (newest {CHAIN_ROWS:,} transactions and grants)")


def disk_space(database: Database) -> Iterator[Finding]:
    """The room on the disk, the size of the WAL, and whether a commit of the server failed."""
    folder = next(path for path in (database.home, *database.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    size = database.path.stat().st_size if database.path.exists() else 0
    if free < LEAST_FREE_BYTES:
        yield wrong(f"{_size(free)} free on the disk of {folder}: credits are about to fail")
    elif free < max(LITTLE_FREE_BYTES, 3 * size):  # a restore needs the prepared file, the kept copy and the WAL
        yield warning(f"{_size(free)} free on the disk of {folder}: little for a database of {_size(size)}")
    else:
        yield ok(f"{_size(free)} free on the disk of {folder}")
    wal = database.wal_bytes()
    if wal > LARGE_WAL_BYTES:
        yield warning(
            f"{_size(wal)} in {database.path}-wal beside {_size(size)} in the database: the server cuts it when "
            "nothing writes, unless a reader holds it, such as a backup under way or an open sqlite3 shell"
        )
    if database.path.exists():
        with database.lock:
            is_refusing = database.lock.is_marked()
        if is_refusing:
            yield wrong(
                "a commit of the running server failed on the disk, and none that writes as much has succeeded since: "
                "look at its log, the room on the disk and the limits of the process (ulimit -f); then restart it"
            )


def system_clock(connection: Connection | None) -> Iterator[Finding]:
    """Whether the clock is right: its year, the newest transaction, and calls refused for their age."""
    now = clock.stamp()
    if not EARLIEST_YEAR <= now[:4] <= LATEST_YEAR:
        yield wrong(f"the clock says {now}: signed calls will be refused")
        return
    newest, stale = None, []
    if connection is not None:
        newest = value(connection, "SELECT received_at FROM transactions ORDER BY id DESC LIMIT 1", {})
        stale = [row for row in refused_since(connection) if row["reason"] == "timestamp"]
    if newest is not None and newest > clock.stamp(clock.now() + CLOCK_SLACK_SECONDS):
        yield wrong(f"the clock says {now}, earlier than the newest transaction ({newest})")
    elif stale:
        yield warning(
            f"the clock says {now}; {at_least(stale)} signed call(s) of the last 24 hours were refused for their age: "
            "compare it with a time server (timedatectl)"
        )
    else:
        yield ok(f"the clock says {now}")


def owner_password(connection: Connection) -> Iterator[Finding]:
    """Whether the pages have a password."""
    if owner.has_password(connection):
        yield ok("the owner's password is set")
    else:
        yield warning("no owner's password is set: use the link in the server's log, or `flask admin password`")


def public_url(settings: Settings) -> Iterator[Finding]:
    """Whether partners can use the address: https unless it is this machine, believed proxies, and an answer."""
    url = settings.public_url
    parts = urlsplit(url)
    is_local = parts.hostname in ("localhost", "::1") or (parts.hostname or "").startswith("127.")
    if parts.scheme == "https":
        yield ok(f"COINSLOT_PUBLIC_URL {url}")
        if settings.trusted_proxies == 0:
            yield warning(
                "COINSLOT_TRUSTED_PROXIES is 0, but https means a proxy in front: allowlists see its address, not the "
                "caller's"
            )
    elif is_local:
        yield ok(f"COINSLOT_PUBLIC_URL {url} (this machine alone; partners need an https address)")
    else:
        yield wrong(f"COINSLOT_PUBLIC_URL {url} is not https: keys and player data would be readable on the way")
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
        yield warning(f"{url}/healthz does not answer from here ({type(error).__name__}): is the server up?")
        return
    if status == 200:
        yield ok(f"{url}/healthz answers")
    else:
        yield warning(f"{url}/healthz answers {status}: something else answers at that address")


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
