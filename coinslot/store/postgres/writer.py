"""Commits on PostgreSQL: one at a time in the whole installation, under one advisory lock."""

import time
from typing import cast

from coinslot.base import clock
from coinslot.store import db, feed_ids
from coinslot.store.errors import DatabaseError, SchemaError
from coinslot.store.postgres.connection import WRITER, PostgresError, WritingConnection, known_errors, open_connection
from coinslot.store.waiting_write import WaitingWrite
from coinslot.store.writer import BATCH_LIMIT, Writer

LOCK = 0x436F696E  # of pg_advisory_xact_lock: "Coin"
CHANNEL = "coinslot"  # of NOTIFY, once per commit
FROZEN_MS = (
    5000  # a server that stops in the middle of a commit is cut off by the database after this, and loses the lock
)
# A commit that was not copied to the standby, though it was to be: the wait was cancelled (PostgreSQL, "SyncRep").
NOT_COPIED = "01000"

_BEGIN = (
    f"BEGIN; SELECT pg_advisory_xact_lock({LOCK}); "  # noqa: S608  our own words only
    "SELECT version, moved_to, timeline, left(pg_walfile_name(pg_current_wal_lsn()), 8), coinslot_now() FROM engine"
)


class Transactions:
    """One connection to write with, and transactions on it. For one thread."""

    def __init__(self, url: str) -> None:
        with known_errors():
            self._raw = open_connection(
                url, f"-c idle_in_transaction_session_timeout={FROZEN_MS}", "read-write", WRITER
            )
        self._warnings: list[str] = []
        self._raw.add_notice_handler(lambda notice: self._warnings.append(notice.sqlstate or ""))
        self.connection = WritingConnection(self._raw)

    def begin(self) -> None:
        """Begin, wait for the lock, and set the clock of this process by the database's.

        Raises :class:`SchemaError` when this code must not write. After a failover, which the number of the timeline
        shows, the standby may lack what the game has read: the ids of the feeds go on far above.
        """
        with known_errors():
            cursor = self._raw.execute(_BEGIN)
            while cursor.nextset():
                pass
            version, moved_to, timeline, present_timeline, microseconds = cursor.fetchall()[0]
        clock.set_ahead(microseconds / 1_000_000 - time.time())
        if version != db.SCHEMA_VERSION:
            raise SchemaError(db.version_trouble(version))
        if moved_to is not None:
            raise SchemaError(f"this database was moved to {moved_to}")
        if timeline != present_timeline:
            self.connection.execute(
                "UPDATE engine SET timeline = :timeline, changed_at = :now",
                {"timeline": present_timeline, "now": clock.stamp()},
            )
            feed_ids.jump(cast(db.Connection, self.connection))

    def commit(self) -> None:
        """Raises :class:`DatabaseError` when it is not certain that everything is committed and copied."""
        self._warnings.clear()
        self.connection.add(f"SELECT pg_notify('{CHANNEL}', '')")
        self.connection.add("COMMIT")
        try:
            self.connection.send()
        except PostgresError as error:
            raise DatabaseError(f"it is not known whether this was committed: {error}") from error
        if NOT_COPIED in self._warnings:
            raise DatabaseError("this was committed and not copied to the standby: the wait was cancelled")

    def roll_back(self) -> None:
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
                with known_errors():
                    self._raw.execute("ROLLBACK TO SAVEPOINT one_write; RELEASE SAVEPOINT one_write")

    def close(self) -> None:
        self._raw.close()


class PostgresWriter(Writer):
    """The writing thread of a process. It has one connection, as long as that is good."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._transactions: Transactions | None = None
        super().__init__()

    def _commit_together(self, batch: list[WaitingWrite]) -> None:
        if self._transactions is None:
            self._transactions = Transactions(self._url)
        transactions = self._transactions
        transactions.begin()
        while len(batch) < BATCH_LIMIT and (write := self._take()) is not None:
            batch.append(write)
            transactions.run(write)
        if all(write.error is not None for write in batch):
            transactions.roll_back()
        else:
            transactions.commit()

    def _tidy(self) -> bool:
        return True

    def _look_around(self) -> None:
        """There is nothing beside the connection to look at."""

    def _forget_connection(self) -> None:
        transactions, self._transactions = self._transactions, None
        if transactions is not None:
            transactions.close()
