"""Checks of the machine, the files and the settings; nothing is changed, and a missing file is not made.

Each check works by itself, also when the key is wrong, the schema newer, or the file missing or damaged. It yields
troubles, and sentences on what is well. Those under "slow" are for ``flask doctor`` alone.
"""

import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from coinslot import __version__
from coinslot.access.vault import Vault, VaultError
from coinslot.base import clock
from coinslot.base.settings import Settings
from coinslot.games.games import Games
from coinslot.ledger import chain
from coinslot.operations import backup_folder, certificate, forgetting
from coinslot.operations.findings import (
    LEAST_FREE_BYTES,
    LITTLE_FREE_BYTES,
    LOOK,
    NOTE,
    WRONG,
    Checked,
    Trouble,
)
from coinslot.store import engine as sqlite
from coinslot.store.checkpoints import LARGE_FOLLOWED_BYTES
from coinslot.store.connection import is_followed
from coinslot.store.db import (
    SCHEMA_VERSION,
    Connection,
    Database,
    DatabaseError,
    EngineError,
    version_trouble,
)
from coinslot.store.sqlite import LARGE_WAL_BYTES, MINIMUM_SQLITE, connect, file_version

CHAIN_ROWS = 100_000  # newest transactions whose hashes are checked
LARGEST_FOLLOWED_BYTES = 4 * LARGE_FOLLOWED_BYTES  # of the WAL, above which neither Litestream nor the server gets on
SENTENCES = 5  # about one thing; the rest is counted
EARLIEST_YEAR, LATEST_YEAR = "2024", "2100"
CLOCK_SLACK_SECONDS = 60
SET_CLOCK = "Compare it with a time server: timedatectl"
REACH_SECONDS = 3.0


def folder(settings: Settings, database: Database, vault: Vault) -> Iterator[Checked]:
    """Who may read the home folder and what is in it, and whether one user owns all of it."""
    home = settings.home
    if not home.is_dir():
        sentence = f"COINSLOT_HOME {home} does not exist."
        yield Trouble("no_home", WRONG, sentence, "Start the server once, or restore a backup.")
        return
    owner_id = home.stat().st_uid
    is_tidy = True
    paths = [home, database.path, Path(f"{database.path}-wal"), vault.path, vault.next_path]
    for path in (*paths, home / "write.lock", home / forgetting.FILE):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            wanted = "0700" if path == home else "0600"
            sentence = f"{path} is open to other users (mode {mode:04o})."
            yield Trouble(f"open_file:{path.name}", WRONG, sentence, f"Run chmod {wanted} {path}")
        if status.st_uid != owner_id:
            sentence = f"{path} belongs to user {status.st_uid}, its folder to {owner_id}."
            yield Trouble(f"other_owner:{path.name}", WRONG, sentence, f"Run chown {owner_id} {path}")
        is_tidy = is_tidy and not mode & 0o077 and status.st_uid == owner_id
    if is_tidy:
        yield f"COINSLOT_HOME {home}, open to its owner alone"


def master_key(vault: Vault, facts: Mapping[str, str] | None) -> Iterator[Checked]:
    """Whether the key at hand is well formed and the one the database is under. ``facts`` None: no database."""
    source = "COINSLOT_MASTER_KEY" if vault.is_from_environment else str(vault.path)
    try:
        candidates = vault.candidates()
    except (VaultError, OSError) as error:
        yield Trouble("key", WRONG, f"The master key cannot be used: {error}.", "Put the right key back.")
        return
    needed = None if facts is None else facts.get("vault.key_id")
    if facts is None:
        yield f"master key {candidates[0].id} from {source}; no database to compare it with"
    elif needed is None:
        yield f"master key {candidates[0].id} from {source}; the database is under no key yet"
    elif needed in {key.id for key in candidates}:
        yield f"master key {needed} from {source}, the one the database is under"
    else:
        sentence = (
            f"The database is under master key {needed}, but {source} holds {candidates[0].id}: every call is refused "
            "for now."
        )
        yield Trouble("key", WRONG, sentence, "Put the right key back.")
    if not vault.is_from_environment and vault.next_path.exists():
        sentence = f"{vault.next_path} is left from a key rotation that was cut short."
        yield Trouble("key_rotation", LOOK, sentence, "Keep the file, and rotate again: flask key rotate")
    if vault.is_from_environment and vault.path.exists():
        yield Trouble("unused_key", NOTE, f"{vault.path} is not used while COINSLOT_MASTER_KEY is set.")


def engine(database: Database) -> Iterator[Checked]:
    """Which Coinslot this is, and whether its SQLite is new enough."""
    yield f"Coinslot {__version__}"
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


def disk_space(database: Database) -> Iterator[Checked]:
    """The room on the disk, the size of the WAL, and whether commits of the server fail."""
    folder = next(path for path in (database.home, *database.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    size = database.path.stat().st_size if database.path.exists() else 0
    room = f"{_size(free)} free on the disk of {folder}"
    if free < LEAST_FREE_BYTES:
        yield Trouble("disk", WRONG, f"{room}: credits are about to fail.", "Make room on it.")
    elif free < max(LITTLE_FREE_BYTES, 3 * size):  # a restore needs the prepared file, the kept copy and the WAL
        yield Trouble("disk", LOOK, f"{room}: little for a database of {_size(size)}.", "Make room on it.")
    else:
        yield room
    wal = database.wal_bytes()
    is_copied = is_followed(database.path)
    if wal > (LARGEST_FOLLOWED_BYTES if is_copied else LARGE_WAL_BYTES):
        who = "Litestream starts it over" if is_copied else "the server cuts it when nothing writes"
        place = f"{_size(wal)} in {database.path}-wal beside {_size(size)} in the database"
        sentence = f"{place}: {who}, unless a reader holds it."
        yield Trouble("wal", LOOK, sentence, "End the reader: a backup under way, or an open sqlite3 shell.")
    if database.path.exists() and database.is_marked():
        sentence = "A commit failed on the disk, and none that writes as much has succeeded since."
        remedy = (
            "Look at the server's log, the room on the disk and the limits of the process (ulimit -f); then restart it."
        )
        yield Trouble("commits", WRONG, sentence, remedy)


def backups_disk(settings: Settings) -> Iterator[Checked]:
    """Whether a disk that breaks takes the database and its backups."""
    if backup_folder.is_same_disk(settings.backups, settings.home):
        sentence = f"The backups in {settings.backups} are on the disk of the database: one that breaks takes both."
        yield Trouble("backups_disk", NOTE, sentence, "Name a folder on another disk in COINSLOT_BACKUPS.")
    else:
        yield f"the backups in {settings.backups} are on another disk than the database"


def system_clock(newest: str | None) -> Iterator[Checked]:
    """Whether the clock is right: its year, and the stamp of the newest transaction."""
    now = clock.stamp()
    if not EARLIEST_YEAR <= now[:4] <= LATEST_YEAR:
        yield Trouble("clock", WRONG, f"The clock says {now}: signed calls will be refused.", SET_CLOCK)
        return
    if newest is not None and newest > clock.stamp(clock.now() + CLOCK_SLACK_SECONDS):
        sentence = f"The clock says {now}, earlier than the newest transaction ({newest})."
        yield Trouble("clock", WRONG, sentence, SET_CLOCK)
    else:
        yield f"the clock says {now}"


def public_url(settings: Settings) -> Iterator[Checked]:
    """Whether partners can use the address: https unless it is this machine, and believed proxies."""
    url = settings.public_url
    parts = urlsplit(url)
    remedy = "Set COINSLOT_TRUSTED_PROXIES to the number of proxies in front."
    if parts.scheme == "https":
        yield f"COINSLOT_PUBLIC_URL {url}"
    elif settings.is_local:
        yield f"COINSLOT_PUBLIC_URL {url} (this machine alone; partners need an https address)"
    else:
        sentence = f"COINSLOT_PUBLIC_URL {url} is not https: keys and player data would be readable on the way."
        yield Trouble("public_url", WRONG, sentence, "Put a proxy with a certificate in front (docs/deploy.md).")
    if settings.trusted_proxies == 0 and settings.bind.startswith("unix:"):
        sentence = (
            "COINSLOT_TRUSTED_PROXIES is 0, but at a Unix socket (COINSLOT_BIND) only a proxy can say who calls: "
            "allowlists let nobody in."
        )
        yield Trouble("proxies", WRONG, sentence, remedy)
    elif settings.trusted_proxies == 0 and parts.scheme == "https":
        sentence = (
            "COINSLOT_TRUSTED_PROXIES is 0, but https means a proxy in front: allowlists see its address, not the "
            "caller's."
        )
        yield Trouble("proxies", LOOK, sentence, remedy)


def public_certificate(facts: Mapping[str, str], settings: Settings) -> Iterator[Checked]:
    """The certificate of the public URL, as the job saw it last (``certificate.py``)."""
    url = settings.public_url
    found = certificate.known(facts.get(certificate.FACT), url)
    if found is None:
        return
    remedy = (
        "Renew it, and look why that was not done by itself: partners refuse to call an address they cannot verify."
    )
    severity = WRONG if found.is_urgent else LOOK
    if found.ends_at is None:
        yield Trouble("certificate", severity, f"The certificate of {url} cannot be verified: {found.problem}.", remedy)
    elif found.is_ending:
        verb = "ended" if found.ends_at < clock.stamp() else "ends"
        sentence = f"The certificate of {url} {verb} on {found.ends_at[:10]}."
        yield Trouble("certificate", severity, sentence, remedy)
    else:
        yield f"the certificate of {url} ends on {found.ends_at[:10]}"


# Slow, for ``flask doctor`` alone


def open_database(database: Database) -> tuple[Connection | None, Checked]:
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
            return connection, f"database {database.path}, schema version {version}, {_size(size)}"
        found = Trouble("database", WRONG, f"{database.path}: {version_trouble(version)}.")
    except (EngineError, DatabaseError, ValueError) as error:
        found = Trouble("database", WRONG, f"{database.path}: {error}.")
    connection.close()
    return None, found


def database_file(connection: Connection) -> Iterator[Checked]:
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


def hash_chain(connection: Connection) -> Iterator[Checked]:
    """Whether the newest rows of the ledger are as they were written."""
    sentences = list(chain.verify(connection, newest=CHAIN_ROWS))
    for number, sentence in enumerate(sentences[:SENTENCES], 1):
        yield Trouble(f"chain:{number}", WRONG, f"{sentence}.".replace("..", "."))
    if len(sentences) > SENTENCES:
        sentence = f"And {len(sentences) - SENTENCES} more like that in the ledger."
        yield Trouble("chain:more", WRONG, sentence)
    if not sentences:
        yield f"the ledger's hash chain holds (newest {CHAIN_ROWS:,} transactions and grants)"


def secrets(all_games: Games) -> Iterator[Checked]:
    """Whether every secret of the games opens."""
    try:
        yield f"every secret opens ({len(all_games.opened())} game(s))"
    except VaultError as error:
        yield Trouble("secrets", WRONG, f"A secret does not open: {error}.", "Set it again.")


def reachable(settings: Settings) -> Iterator[Checked]:
    """Whether this server answers at its public address."""
    url = settings.public_url
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
        sentence = f"{url}/healthz does not answer from here ({type(error).__name__})."
        yield Trouble("unreachable", LOOK, sentence, "Is the server up?")
        return
    if status == 200:
        yield f"{url}/healthz answers"
    else:
        sentence = f"{url}/healthz answers {status}: something else answers at that address."
        yield Trouble("unreachable", LOOK, sentence)


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
