"""Checks of the machine, the files and the settings; nothing is changed, and a missing file is not made.

Each check works by itself, also when the key is wrong, the schema newer, or the file missing or damaged. It yields
troubles, and sentences on what is well. Those under "slow" are for ``flask doctor`` alone. What only one engine has is
in ``sqlite_checks.py`` and ``postgres_checks.py``.
"""

import stat
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from urllib.parse import urlsplit

import urllib3

from coinslot import __version__
from coinslot.access.vault import Vault, VaultError
from coinslot.base import clock
from coinslot.base.settings import Settings
from coinslot.games.games import Games
from coinslot.ledger import chain
from coinslot.operations import backup_folder, certificate, forgetting
from coinslot.operations.findings import LITTLE_FREE_BYTES, LOOK, NOTE, SENTENCES, WRONG, Checked, Trouble, size_text
from coinslot.store.db import Connection, Database
from coinslot.store.sqlite import SqliteDatabase

CHAIN_ROWS = 100_000  # newest transactions whose hashes are checked
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
    for path in (home, *database.files(), vault.path, vault.next_path, home / forgetting.FILE):
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
        if vault.is_from_environment and len(candidates) > 1:
            sentence = f"COINSLOT_MASTER_KEY holds {len(candidates)} keys, and the database is under {needed}."
            yield Trouble("two_keys", NOTE, sentence, "Once all servers have the new key, take the old one out of it.")
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


def engine(database: Database, is_readable: bool) -> Iterator[Checked]:
    """Which Coinslot this is, and whether it may rely on its engine. What does not answer is not asked again."""
    yield f"Coinslot {__version__}"
    if is_readable or database.files():
        yield from _checks(database).engine(database)


def disk_space(database: Database) -> Iterator[Checked]:
    """The room for the database or for its backups, and whether commits of the server fail."""
    yield from _checks(database).disk_space(database)


def backups_disk(settings: Settings, database: Database) -> Iterator[Checked]:
    """Whether a disk that breaks takes the database and its backups, and whether there is room for these."""
    if not database.files():  # it is on another machine
        free = backup_folder.free_bytes(
            next(path for path in (settings.backups, *settings.backups.parents) if path.exists())
        )
        room = f"{size_text(free)} free on the disk of {settings.backups}, where this machine keeps its backups"
        if free < LITTLE_FREE_BYTES:
            yield Trouble("backups_disk", LOOK, f"{room}: little.", "Make room on it.")
        else:
            yield room
    elif backup_folder.is_same_disk(settings.backups, settings.home):
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
    """A connection that changes nothing, where the database is one of ours at this code's version; and what it is."""
    found: tuple[Connection | None, Checked] = _checks(database).open_database(database)
    return found


def soundness(database: Database, connection: Connection) -> Iterator[Checked]:
    """Whether the database is whole, as far as its engine can tell."""
    yield from _checks(database).soundness(database, connection)


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


def _checks(database: Database) -> ModuleType:
    """The checks that only one engine has."""
    engine = "sqlite" if isinstance(database, SqliteDatabase) else "postgres"
    return import_module(f"coinslot.operations.{engine}_checks")
