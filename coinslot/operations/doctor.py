"""What ``flask doctor`` looks at, apart from the partners: one finding per thing, and nothing is changed.

Every check stands on its own: it says what it found also when the key is wrong, the schema newer, or the file missing
or damaged. A file that is missing is not made.
"""

import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec
from urllib.parse import urlsplit

import urllib3

from coinslot import __version__
from coinslot.access import keyring, owner, rotation
from coinslot.access.vault import Vault, VaultError, database_key_id
from coinslot.base import clock
from coinslot.base.settings import Settings
from coinslot.games import games
from coinslot.games.games import Game
from coinslot.games.registry import FORGOTTEN, RESERVED_ID
from coinslot.ledger import chain, refunds
from coinslot.operations import forgetting, observations
from coinslot.outbox import deliveries as outbox
from coinslot.outbox.destinations import SECRET_PREFIX
from coinslot.payments import lists
from coinslot.relay import jobs
from coinslot.store import engine as sqlite
from coinslot.store.db import (
    LARGE_WAL_BYTES,
    MINIMUM_SQLITE,
    SCHEMA_VERSION,
    Connection,
    Database,
    DatabaseError,
    EngineError,
    Row,
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
STUCK_SECONDS = 3600
REACH_SECONDS = 3.0
RECENT_SECONDS = 24 * 3600

OK, NOTE, WARNING, WRONG = "ok", "note", "warning", "WRONG"

P = ParamSpec("P")


@dataclass(frozen=True)
class Finding:
    """One line. WRONG: credits fail or will, or secrets lie open; warning: a person should look at it; note: what could
    be had besides.
    """

    level: str
    text: str


def guarded(check: Callable[P, Iterator[Finding]], *args: P.args, **kwargs: P.kwargs) -> Iterator[Finding]:
    """The check's findings; when it stumbles over what it checks, that is the finding."""
    try:
        yield from check(*args, **kwargs)
    except (EngineError, DatabaseError, VaultError, OSError, ValueError) as error:
        yield Finding(WRONG, f"{check.__name__.strip('_').replace('_', ' ')}: {error}")


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
    answers = [row[0] for row in connection.execute(f"PRAGMA quick_check({SENTENCES:d})")]
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
    stale = [row for row in _refused(connection) if row["reason"] == "timestamp"]
    if stale:
        yield Finding(
            WARNING,
            f"the clock says {clock.stamp(now)}; {_at_least(stale)} signed call(s) of the last 24 hours were refused "
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


def game_setup(connection: Connection, game: Game) -> Iterator[Finding]:
    """What a game needs whoever its partners are."""
    if game.settings["players.unknown"] == "lookup" and not game.settings["players.lookup_url"]:
        yield Finding(WRONG, f"game {game.slug}: players.unknown is lookup, but players.lookup_url is not set")
    for table, setting in (("players", "players.unknown"), ("items", "items.unknown")):
        if game.settings[setting] == "reject" and not _has_rows(connection, table, game.id):
            yield Finding(
                WARNING, f"game {game.slug}: no {table} are registered and {setting} is reject: every credit is refused"
            )


def keys(connection: Connection, game: Game) -> Iterator[Finding]:
    """Secrets that are due to be rotated, and rotations that are due to be ended."""
    told = rotation.advice(keyring.listing_of(connection, game.id, game.secrets), clock.now())
    for name, advices in told.items():
        for advice in advices:
            if advice.is_due and advice.step == "rotate":
                yield Finding(WARNING, f"game {game.slug}: {name} {advice.sentence}: `{_rotation(game, name)}`")
            elif advice.is_due:
                retire = f"`flask secret retire {game.slug} {name}`"
                yield Finding(WARNING, f"game {game.slug}: {name} {advice.sentence}, {retire}")
    replaced_at = games.token_replaced_at(connection, game.id)
    if replaced_at is not None:
        is_due = replaced_at < clock.stamp(clock.now() - rotation.ROTATION_DAYS * 86400)
        yield Finding(
            WARNING if is_due else NOTE,
            f"game {game.slug}: its API token was replaced on {replaced_at[:10]} and the one before is still valid; "
            f"once the game uses the new one: `flask game token {game.slug} --retire`",
        )


def waiting_work(connection: Connection, game: Game, payments_go_to: str) -> Iterator[Finding]:
    """What waits for a person, or for another server. ``payments_go_to`` is the title of who takes in-game payments."""
    (conflicts,) = connection.execute(
        "SELECT count(*) FROM conflicts WHERE game_id = :game_id AND player_id <> :simulated",
        {"game_id": game.id, "simulated": RESERVED_ID},
    ).fetchone()
    if conflicts:
        yield Finding(
            WARNING,
            f"game {game.slug}: {conflicts} conflict(s) wait for a person: a known transaction came with other "
            f"content, as the page /games/{game.slug}/conflicts shows",
        )
    ambiguous, waiting = refunds.unsettled(connection, game.id, clock.stamp(clock.now() - RECENT_SECONDS))
    if ambiguous:
        yield Finding(
            WARNING,
            f"game {game.slug}: {ambiguous} refund(s) name no one order: `flask refund list {game.slug}`, or the page "
            f"/games/{game.slug}/refunds?show=open",
        )
    if waiting:
        yield Finding(
            WARNING,
            f"game {game.slug}: {waiting} refund(s) have waited for their order for over a day: "
            f"`flask refund list {game.slug}`",
        )
    counted = lists.counts(connection, game.id)
    for name, state, words in (
        ("parked", "parked", "payment(s) are parked: they cannot be sent as they are"),
        ("quarantined", "quarantined", "payment(s) were refused too often"),
        ("refunds_quarantined", "refund-refused", "refund(s) of payments were refused too often"),
        ("conflicts", "conflicts", "payment conflict(s): a known payment came with other content"),
    ):
        if counted[name]:
            where = f"the page /games/{game.slug}/payments?state={state}"
            yield Finding(WARNING, f"game {game.slug}: for a person to judge: {counted[name]} {words}; {where}")
    waiting = lists.count_waiting_since(connection, game.id, clock.stamp(clock.now() - RECENT_SECONDS))
    if waiting:
        yield Finding(
            WARNING,
            f"game {game.slug}: {waiting} payment(s) or refund(s) have waited for over a day to be taken by "
            f"{payments_go_to}; "
            f"the page /games/{game.slug}/payments?state=waiting",
        )
    for name, warning in jobs.warnings(connection, game.id).items():
        yield Finding(WARNING, f"game {game.slug}: job {name}: {warning}")
    stuck = connection.execute(
        """SELECT d.name, count(*) AS deliveries FROM deliveries v JOIN destinations d ON d.id = v.destination_id
           WHERE v.game_id = :game_id AND v.state = 'waiting' AND v.next_attempt_at < :since AND d.state = 'active'
             AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.id = v.waits_for AND o.state = 'waiting')
           GROUP BY d.name ORDER BY d.name""",
        {"game_id": game.id, "since": clock.stamp(clock.now() - STUCK_SECONDS)},
    )
    for row in stuck:
        yield Finding(
            WARNING,
            f"game {game.slug}: {row['deliveries']} delivery(s) to {row['name']} have been due for over an hour; "
            "does it answer, and is a relay running?",
        )
    late = connection.execute(
        """SELECT name, failures, last_error, due_at FROM schedules
           WHERE game_id = :game_id AND (failures > 0 OR due_at < :since) ORDER BY name""",
        {"game_id": game.id, "since": clock.stamp(clock.now() - STUCK_SECONDS)},
    )
    for row in late:
        if row["failures"]:
            trouble = f"has failed {row['failures']} time(s) in a row: {row['last_error']}"
        else:
            trouble = "has been due for over an hour; is a relay running?"
        yield Finding(WARNING, f"game {game.slug}: job {row['name']} {trouble}")


def deliveries(connection: Connection) -> Iterator[Finding]:
    """Whether somebody sends, and whether those who are sent to take it."""
    beat = outbox.last_beat(connection)
    is_fresh = beat is not None and clock.now() - beat <= outbox.OLDEST_BEAT_SECONDS
    rows = connection.execute(
        """SELECT d.*, g.slug,
                  (SELECT count(*) FROM deliveries v WHERE v.destination_id = d.id AND v.state = 'dead'
                     AND (v.dead_reason IS NULL OR v.dead_reason <> :forgotten)) AS dead
           FROM destinations d JOIN games g ON g.id = d.game_id WHERE d.state <> 'removed' ORDER BY g.slug, d.name""",
        {"forgotten": FORGOTTEN},
    ).fetchall()
    if is_fresh:
        yield Finding(OK, "a relay is running")
    elif rows:
        since = "never was" if beat is None else f"has not been since {clock.stamp(beat)}"
        yield Finding(WARNING, f"no relay is running, and {since}: nothing is delivered; is the server up?")
    for row in rows:
        name = f"game {row['slug']}: destination {row['name']}"
        if row["circuit_open_since"] is not None:
            yield Finding(WARNING, f"{name} has been down since {row['down_since']} and is probed")
        elif row["state"] == "paused":
            yield Finding(WARNING, f"{name} is paused{': ' + row['state_reason'] if row['state_reason'] else ''}")
        else:
            yield Finding(OK, f"{name} is active")
        if row["dead"]:
            yield Finding(
                WARNING,
                f"{name} has {row['dead']} dead delivery(s): `flask delivery redrive {row['slug']} --all`, or one by "
                f"one on the page /games/{row['slug']}/deliveries?state=dead",
            )


def refusals(connection: Connection) -> Iterator[Finding]:
    """Calls refused in the last 24 hours, as far as the ring of refusals reaches."""
    rows = _refused(connection)
    for row in rows:
        whose = "no game of ours" if row["slug"] is None else f"game {row['slug']}"
        yield Finding(
            WARNING,
            f"{whose}: {_at_least([row])} call(s) of {row['partner']} to {row['endpoint']} refused in 24 hours, "
            f"reason {row['reason']}",
        )
    if not rows:
        yield Finding(OK, "no call was refused in the last 24 hours")


_HAS_ROWS = {
    "players": "SELECT 1 FROM players WHERE game_id = :game_id LIMIT 1",
    "items": "SELECT 1 FROM items WHERE game_id = :game_id LIMIT 1",
}


def _refused(connection: Connection) -> list[Row]:
    """Recent refusals that are kept, counted, our own simulated calls left out.

    ``has_more``: the ring is full of such, and older ones may be gone.
    """
    return connection.execute(
        """SELECT g.slug, r.partner, r.endpoint, r.reason, count(*) AS calls,
                  (SELECT count(*) FROM refusals k WHERE k.partner = r.partner
                   AND (k.game_id = r.game_id OR (k.game_id IS NULL AND r.game_id IS NULL))
                   AND k.created_at > :since) >= :kept AS has_more
           FROM refusals r LEFT JOIN games g ON g.id = r.game_id
           WHERE r.created_at > :since AND r.is_simulated = 0 GROUP BY r.game_id, r.partner, r.endpoint, r.reason
           ORDER BY g.slug, r.partner, r.endpoint, r.reason""",
        {"since": clock.stamp(clock.now() - RECENT_SECONDS), "kept": observations.KEPT_PER_PARTNER},
    ).fetchall()


def _at_least(rows: Sequence[Row]) -> str:
    """How many calls that were, as far as anybody can know."""
    calls = sum(row["calls"] for row in rows)
    return f"{calls} or more" if any(row["has_more"] for row in rows) else str(calls)


def _rotation(game: Game, name: str) -> str:
    if name.startswith(SECRET_PREFIX):
        return f"flask destination rotate {game.slug} {name.removeprefix(SECRET_PREFIX)}"
    return f"flask secret rotate {game.slug} {name}"


def _has_rows(connection: Connection, table: str, game_id: int) -> bool:
    row: Any = connection.execute(_HAS_ROWS[table], {"game_id": game_id}).fetchone()
    return row is not None


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
