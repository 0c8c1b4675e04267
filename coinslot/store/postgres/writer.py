"""Commits on PostgreSQL: one at a time in the whole installation, under one advisory lock."""

import logging
import time
from typing import Any, cast

import psycopg

from coinslot.base import clock
from coinslot.store import db, feed_ids
from coinslot.store.errors import DatabaseError, MovedError, SchemaError
from coinslot.store.marks import Mark
from coinslot.store.postgres.connection import WRITER, PostgresError, WritingConnection, known_errors, open_connection
from coinslot.store.postgres.readers import until_there
from coinslot.store.waiting_write import WaitingWrite
from coinslot.store.writer import BATCH_LIMIT, Writer

LOCK = 0x436F696E  # of pg_advisory_xact_lock: "Coin"
CHANNEL = "coinslot"  # of NOTIFY, once per commit
# A server that stops in the middle of a commit is cut off by the database after this, and loses the lock.
FROZEN_MS = 5000
FROZEN = f"-c idle_in_transaction_session_timeout={FROZEN_MS}"
# Whoever waits longer for a lock of another program, or for ours, gives up: no caller waits as long.
LOCKED_MS = 10_000
# A commit that was not copied to the standby, though it was to be: the wait was cancelled (PostgreSQL, "SyncRep").
NOT_COPIED = "01000"

_BEGIN = (
    f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock({LOCK}); "  # noqa: S608  our words
    "SELECT version, moved_to, timeline, tableoid, coinslot_now() FROM engine"
)

log = logging.getLogger("coinslot")


class Transactions:
    """One connection to write with, and transactions on it. For one thread."""

    def __init__(self, url: str) -> None:
        self._raw = open_connection(url, f"{FROZEN} -c lock_timeout={LOCKED_MS}", "read-write", WRITER)
        try:
            with known_errors():
                self._origin = origin(self._raw)
                ((durability, is_empty),) = self._raw.execute(
                    "SELECT current_setting('synchronous_commit'), to_regclass('engine') IS NULL"
                ).fetchall()
                if durability in ("off", "local"):  # an acknowledged credit would be lost with a crash or a failover
                    self._raw.execute("SET synchronous_commit = on")
        except BaseException:
            self._raw.close()
            raise
        self.has_no_tables = bool(is_empty)
        self._warnings: list[str] = []
        self._raw.add_notice_handler(lambda notice: self._warnings.append(notice.sqlstate or ""))
        self.connection = WritingConnection(self._raw)

    def begin(self) -> None:
        """Begin, wait for the lock, and set the clock of this process by the database's.

        Until the transaction ends, time stands still for this thread: on whichever servers and by whichever clocks two
        commits are made, no time in the later one is before one in the earlier.

        Raises :class:`SchemaError` when this code must not write. Where these are not the tables that were written last
        (``origin``), they may lack what the game has read: the ids of the feeds go on far above.
        """
        with known_errors():
            cursor = self._raw.execute(_BEGIN)
            while cursor.nextset():
                pass
            version, moved_to, timeline, table, microseconds = cursor.fetchall()[0]
        moment = microseconds / 1_000_000
        clock.set_ahead(moment - time.time())
        clock.hold(moment)
        if moved_to is not None:
            raise MovedError(Mark.read(moved_to).sentence())
        if version != db.SCHEMA_VERSION:
            raise SchemaError(db.version_trouble(version))
        present = f"{self._origin}-{table}"
        if timeline != present:
            self.connection.execute(
                "UPDATE engine SET timeline = :timeline, changed_at = :now",
                {"timeline": present, "now": clock.stamp()},
            )
            feed_ids.jump(cast(db.Connection, self.connection))
            self.connection.send()  # not with the first write, which may fail alone

    def commit(self) -> None:
        """Raises :class:`DatabaseError` when it is not certain that everything is committed and copied."""
        self._warnings.clear()
        # In one message. After an error nothing is committed, for the first statement is then refused.
        self.connection.add(f"SELECT pg_notify('{CHANNEL}', '')")
        self.connection.add("COMMIT")
        try:
            self.connection.send()
        except PostgresError as error:
            raise DatabaseError(f"it is not known whether this was committed: {error}") from error
        finally:
            clock.hold(None)
        if NOT_COPIED in self._warnings:
            raise DatabaseError("this was committed and not copied to the standby: the wait was cancelled")

    def roll_back(self) -> None:
        clock.hold(None)
        self.connection.discard()
        with known_errors():
            self._raw.execute("ROLLBACK")

    def run(self, write: WaitingWrite) -> None:
        """Run one write in a savepoint of its own; an error that it raises is kept in it, and nothing of it stays.

        Raises :class:`DatabaseError` when the connection is of no use any more.
        """
        connection = self.connection
        sends_before = connection.sends
        connection.add("SAVEPOINT one_write")
        try:
            write.result = write.context.run(write.function, cast(db.Connection, connection))
            connection.add("RELEASE SAVEPOINT one_write")
            connection.send()
        except BaseException as error:
            connection.discard()
            if self._raw.closed:
                raise DatabaseError(f"the connection was lost: {error}") from error
            write.result, write.error = None, error
            if connection.sends != sends_before:
                try:
                    with known_errors():
                        self._raw.execute("ROLLBACK TO SAVEPOINT one_write; RELEASE SAVEPOINT one_write")
                except PostgresError:  # after a statement that cannot be read the savepoint was never made
                    raise DatabaseError(f"the transaction was lost: {error}") from error

    def close(self) -> None:
        clock.hold(None)
        self._raw.close()


class PostgresWriter(Writer):
    """The writing thread of a process. It has one connection, as long as that is good."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._transactions: Transactions | None = None
        super().__init__()

    def _commit_together(self, batch: list[WaitingWrite]) -> None:
        # No write is begun yet: where the database has gone meanwhile, nothing is lost by beginning again.
        try:
            transactions = until_there(self._begun, lambda: self._is_stopping)
        except PostgresError as error:
            log.error("no commit can be begun: %s", error)  # the callers may have gone
            raise
        while len(batch) < BATCH_LIMIT and (write := self._take()) is not None:
            batch.append(write)
            transactions.run(write)
        if all(write.error is not None for write in batch):
            transactions.roll_back()
        else:
            transactions.commit()

    def _begun(self) -> Transactions:
        try:
            if self._transactions is None:
                self._transactions = Transactions(self._url)
            self._transactions.begin()
        except PostgresError:
            self._forget_connection()
            raise
        return self._transactions

    def _tidy(self) -> bool:
        return True

    def _look_around(self) -> None:
        """There is nothing beside the connection to look at."""

    def _forget_connection(self) -> None:
        transactions, self._transactions = self._transactions, None
        if transactions is not None:
            transactions.close()


def origin(raw: "psycopg.Connection[Any]") -> str:
    """Which cluster this is, and in which of its lives: a standby that was promoted, or a restored copy, has another.

    With the table's own number, which a dump does not keep, it tells whether the tables are those written last.
    """
    try:
        (found,) = raw.execute(
            "SELECT system_identifier || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()"
        ).fetchone()  # type: ignore[misc]
    except psycopg.Error as error:  # some who host databases allow neither
        if raw.closed or raw.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            raise
        log.warning("a failover of the database cannot be noticed: %s", type(error).__name__)
        return "unknown"
    return str(found)
