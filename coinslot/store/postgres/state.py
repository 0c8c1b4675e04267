"""What a PostgreSQL server says of itself, as far as it tells a role without special rights. Nothing is changed."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from coinslot.store.postgres.connection import LISTENER, NAMES, WRITER, known_errors
from coinslot.store.postgres.readers import READERS

if TYPE_CHECKING:
    from coinslot.store.postgres.database import PostgresDatabase

CONNECTIONS_PER_PROCESS = READERS + 2  # one to write with, and one that hears of commits
LONG_SECONDS = 300
MOST_LISTED = 5

# ``max_wal_senders`` have connections of their own.
_STATE = """
SELECT current_setting('server_version') AS version,
       current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('synchronous_standby_names') AS synchronous_standby_names,
       d.encoding, d.collation,
       CAST(current_setting('max_connections') AS integer)
           - CAST(current_setting('superuser_reserved_connections') AS integer)
           - CAST(coalesce(current_setting('reserved_connections', true), '0') AS integer) AS most,
       d.most AS most_of_database, r.most AS most_of_role,
       a.used, a.used_here, a.used_by_role, a.ours, a.writers, a.listeners,
       left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline, e.changed_at,
       current_user AS role, clock_timestamp() AS moment
FROM (SELECT pg_encoding_to_char(encoding) AS encoding, datcollate AS collation, datconnlimit AS most
      FROM pg_database WHERE datname = current_database()) d
CROSS JOIN (SELECT rolconnlimit AS most FROM pg_roles WHERE rolname = current_user) r
CROSS JOIN (SELECT count(datname) AS used,
                   count(CASE WHEN datname = current_database() THEN 1 END) AS used_here,
                   count(CASE WHEN usename = current_user THEN 1 END) AS used_by_role,
                   count(CASE WHEN datname = current_database() AND application_name = ANY(%(names)s) THEN 1 END)
                       AS ours,
                   count(CASE WHEN datname = current_database() AND application_name = %(writer)s THEN 1 END)
                       AS writers,
                   count(CASE WHEN datname = current_database() AND application_name = %(listener)s THEN 1 END)
                       AS listeners
            FROM pg_stat_activity) a
CROSS JOIN engine e
"""
_STANDBYS = """
SELECT application_name AS name, state, sync_state, pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn) AS lag_bytes,
       extract(epoch FROM flush_lag) AS lag_seconds
FROM pg_stat_replication ORDER BY sync_state, application_name
"""
_LONG = """
SELECT 'process ' || pid AS name, usename AS role, application_name AS program, xact_start AS began_at
FROM pg_stat_activity WHERE datname = current_database() AND xact_start < now() - make_interval(secs => %(long)s)
UNION ALL
SELECT 'prepared transaction ' || gid, owner, '', prepared
FROM pg_prepared_xacts WHERE database = current_database() AND prepared < now() - make_interval(secs => %(long)s)
ORDER BY began_at LIMIT %(most)s
"""


@dataclass(frozen=True)
class Standby:
    """A server that copies this one. All but the name is None for a role that may not see it."""

    name: str
    state: str | None
    sync_state: str | None
    lag_bytes: int | None
    lag_seconds: float | None

    @property
    def is_waited_for(self) -> bool:
        return self.state == "streaming" and self.sync_state in ("sync", "quorum")


@dataclass(frozen=True)
class Transaction:
    """One that is open for long."""

    name: str
    role: str
    program: str
    seconds: float


@dataclass(frozen=True)
class State:
    """``used`` of ``most`` connections are open, of the limit that is reached first; ``ours`` are Coinslot's of those,
    and ``may_open`` what all its processes that were seen may open. ``timeline_changed_at`` is when a commit was first
    made after a failover; None: never. ``clock_ahead`` is how many seconds the database's clock is ahead of this
    machine's.
    """

    version: str
    encoding: str
    collation: str
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    synchronous_standby_names: str
    timeline: str
    timeline_changed_at: str | None
    role: str
    used: int
    most: int
    ours: int
    may_open: int
    clock_ahead: float
    standbys: tuple[Standby, ...]


def look(database: "PostgresDatabase") -> State:
    """Ask the database, in two statements. Raises the database's errors."""
    values = {"names": list(NAMES), "writer": WRITER, "listener": LISTENER}
    with database.reader() as raw, known_errors():
        before = time.time()
        (row,) = raw.execute(_STATE, values).fetchall()
        after = time.time()
        standbys = raw.execute(_STANDBYS).fetchall()
    limits = [
        (row["most"], row["used"]),
        *[
            (most, used)
            for most, used in (
                (row["most_of_database"], row["used_here"]),
                (row["most_of_role"], row["used_by_role"]),
            )
            if most >= 0
        ],
    ]
    most, used = min(limits, key=lambda pair: pair[0] - pair[1])
    moment: datetime = row["moment"]
    return State(
        version=row["version"].split(" ")[0],
        encoding=row["encoding"],
        collation=row["collation"],
        fsync=row["fsync"],
        full_page_writes=row["full_page_writes"],
        synchronous_commit=row["synchronous_commit"],
        synchronous_standby_names=row["synchronous_standby_names"],
        timeline=row["timeline"],
        timeline_changed_at=row["changed_at"],
        role=row["role"],
        used=used,
        most=most,
        ours=row["ours"],
        may_open=max(row["writers"], row["listeners"]) * CONNECTIONS_PER_PROCESS,
        clock_ahead=moment.timestamp() - (before + after) / 2,
        standbys=tuple(
            Standby(
                name=each["name"] or "",
                state=each["state"],
                sync_state=each["sync_state"],
                lag_bytes=None if each["lag_bytes"] is None else int(each["lag_bytes"]),
                lag_seconds=None if each["lag_seconds"] is None else float(each["lag_seconds"]),
            )
            for each in standbys
        ),
    )


def long_transactions(database: "PostgresDatabase") -> list[Transaction]:
    """Those open for more than five minutes, the oldest first, as far as the role may see them."""
    with database.reader() as raw, known_errors():
        rows = raw.execute(_LONG, {"long": LONG_SECONDS, "most": MOST_LISTED}).fetchall()
    now = time.time()
    return [
        Transaction(each["name"], each["role"] or "", each["program"] or "", now - each["began_at"].timestamp())
        for each in rows
    ]


def broken_keys(database: "PostgresDatabase") -> list[str]:
    """Constraints and indexes that the server itself does not trust, such as one that was made while it was stopped."""
    with database.reader() as raw, known_errors():
        rows = raw.execute(
            """SELECT c.conname AS name FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
               WHERE n.nspname = 'coinslot' AND NOT c.convalidated
               UNION ALL
               SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
               JOIN pg_namespace n ON n.oid = i.relnamespace
               WHERE n.nspname = 'coinslot' AND NOT (x.indisvalid AND x.indisready) ORDER BY 1 LIMIT 5"""
        ).fetchall()
    return [each["name"] for each in rows]
