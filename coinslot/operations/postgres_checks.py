"""What ``flask doctor`` checks of a PostgreSQL server, as far as it answers Coinslot's role.

Imported only where PostgreSQL is the engine.
"""

from collections.abc import Iterator

from coinslot.base import clock
from coinslot.operations.findings import LOOK, NOTE, WRONG, Checked, Trouble, size_text
from coinslot.store.db import SCHEMA_VERSION, Connection, DatabaseError, EngineError
from coinslot.store.postgres import state
from coinslot.store.postgres.database import PostgresDatabase
from coinslot.store.postgres.state import State

CLOCK_SLACK_SECONDS = 2.0
FAILOVER_DAYS = 7  # for which a failover is a trouble
LATE_SECONDS = 10.0  # of a synchronous standby: every commit waits for it
FEW_CONNECTIONS = 5
ASK = "Ask whoever runs the database server."


def engine(database: PostgresDatabase) -> Iterator[Checked]:
    """Whether the server keeps what it confirms, and copies it; its clock; and its connections."""
    found = state.look(database)
    yield f"PostgreSQL {found.version}, encoding {found.encoding}, collation {found.collation} (Coinslot's columns: C)"
    yield from _durability(found)
    yield from _standbys(found)
    yield from _timeline(found)
    yield from _clock(found)
    yield from _connections(found)


def _durability(found: State) -> Iterator[Checked]:
    settings = {
        "fsync": (found.fsync, "a power cut can destroy the database"),
        "full_page_writes": (found.full_page_writes, "a power cut can destroy the database"),
        "synchronous_commit": (found.synchronous_commit, "credits that were acknowledged can be lost"),
    }
    for name, (value, result) in settings.items():
        if value == "off":
            sentence = f"The database server has {name} = off: {result}."
            yield Trouble(f"postgres:{name}", WRONG, sentence, f"Set {name} = on. {ASK}")
    if "off" not in (each for each, _ in settings.values()):
        yield "the database keeps what it confirms (fsync, full_page_writes, synchronous_commit)"


def _standbys(found: State) -> Iterator[Checked]:
    """Whether a commit is copied before it is answered, and how far the standbys are."""
    hidden = [each for each in found.standbys if each.sync_state is None]
    for each in found.standbys:
        if each.sync_state is not None:
            lag = "" if each.lag_bytes is None else f", {size_text(max(0, each.lag_bytes))} behind"
            lag += "" if each.lag_seconds is None else f" ({each.lag_seconds:.1f} s)"
            yield f"standby {each.name}: {each.state}, {each.sync_state}{lag}"
        if each.is_waited_for and (each.lag_seconds or 0) > LATE_SECONDS:
            sentence = f"Standby {each.name} is {each.lag_seconds:.0f} s late, and every commit waits for it."
            yield Trouble(f"postgres:late:{each.name}", WRONG, sentence, ASK)
    if not found.synchronous_standby_names:
        sentence = (
            "No commit waits for a standby (synchronous_standby_names is empty): if the database server is lost, its "
            "newest credits are lost with it, unless its storage is copied."
        )
        yield Trouble("postgres:standby", NOTE, sentence, f"Name a synchronous standby. {ASK}")
    elif found.synchronous_commit in ("off", "local"):
        sentence = (
            f"A synchronous standby is named, but synchronous_commit = {found.synchronous_commit} does not wait for it."
        )
        yield Trouble("postgres:standby", WRONG, sentence, f"Set synchronous_commit = on. {ASK}")
    elif any(each.is_waited_for for each in found.standbys):
        yield f"a commit is confirmed when a standby has it ({found.synchronous_standby_names})"
    elif hidden:
        remedy = f"For that, run as the database's administrator: GRANT pg_monitor TO {found.role}"
        sentence = f"{len(hidden)} standby server(s) are connected; their state is hidden from {found.role}."
        yield Trouble("postgres:monitor", NOTE, sentence, remedy)
    else:
        sentence = (
            f"No synchronous standby is connected (synchronous_standby_names = {found.synchronous_standby_names}): "
            "every commit waits for one, and calls are answered 503."
        )
        yield Trouble("postgres:standby", WRONG, sentence, f"Start the standby. {ASK}")


def _timeline(found: State) -> Iterator[Checked]:
    number = int(found.timeline, 16)
    at = found.timeline_changed_at
    if at is None:
        yield f"timeline {number}, the same since Coinslot's tables were made"
    elif clock.seconds(at) > clock.now() - FAILOVER_DAYS * clock.DAY_SECONDS:
        sentence = (
            f"Another server became the primary, or a copy was restored: timeline {number}, first written to at {at}. "
            "The ids of the feeds went on far above the old ones."
        )
        remedy = "If that server may lack the newest commits, ask the partners for purchases that never came."
        yield Trouble(f"postgres:timeline:{number}", LOOK, sentence, remedy, since=at)
    else:
        yield f"timeline {number} since {at}"


def _clock(found: State) -> Iterator[Checked]:
    ahead = found.clock_ahead
    if abs(ahead) <= CLOCK_SLACK_SECONDS:
        yield f"the database's clock and this machine's differ by {abs(ahead):.1f} s"
        return
    sentence = (
        f"The database's clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's. Coinslot "
        "stores times, and judges the age of signatures, by the database's."
    )
    yield Trouble("postgres:clock", LOOK, sentence, "Compare both with a time server: timedatectl")


def _connections(found: State) -> Iterator[Checked]:
    free = found.most - found.used
    wanted = max(0, found.may_open - found.ours)
    about = (
        f"{found.used} of {found.most} connections of the database are open, {found.ours} of them by Coinslot, whose "
        f"processes may open {found.may_open}"
    )
    remedy = "Raise max_connections, or start fewer workers (WEB_CONCURRENCY)."
    if free < FEW_CONNECTIONS:
        yield Trouble("postgres:connections", WRONG, f"{about}: calls are about to be answered 503.", remedy)
    elif free < wanted:
        yield Trouble("postgres:connections", LOOK, f"{about}: there may be too few.", remedy)
    else:
        yield about


# Slow, for ``flask doctor`` alone


def open_database(database: PostgresDatabase) -> tuple[Connection | None, Checked]:
    """A connection that changes nothing, where the database is one of ours at this code's version; and what it is."""
    try:
        connection = database.read()
        connection.execute("SELECT 1")
        size = size_text(database.size_bytes())
    except (EngineError, DatabaseError) as error:
        return None, Trouble("database", WRONG, f"{database.name} cannot be used: {error}.")
    return connection, f"database {database.name}, schema version {SCHEMA_VERSION}, {size}"


def soundness(database: PostgresDatabase, connection: Connection) -> Iterator[Checked]:
    """Whether the server trusts its constraints and indexes, and whether transactions stay open."""
    broken = state.broken_keys(database)
    for name in broken:
        sentence = f"The database server does not trust {name}: it was made or checked only in part."
        yield Trouble(f"postgres:broken:{name}", WRONG, sentence, f"REINDEX or VALIDATE it. {ASK}")
    if not broken:
        yield "every constraint and index of the database is valid"
    found = state.long_transactions(database)
    for each in found:
        who = " ".join(filter(None, (each.role, each.program and f"({each.program})")))
        sentence = f"A transaction of {who} is open for {each.seconds / 60:.0f} minutes ({each.name})."
        remedy = "End it, else deleted rows of every table are kept and the database grows."
        yield Trouble(f"postgres:open:{each.name.replace(' ', '-')}", LOOK, sentence, remedy)
    if not found:
        yield "no transaction is open for long, as far as Coinslot's role sees"


def disk_space(database: PostgresDatabase) -> Iterator[Checked]:
    """The database server alone knows its disk."""
    return iter(())
