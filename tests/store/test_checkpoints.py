"""A database that Litestream follows: no checkpoint of ours may meet a commit of another program."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from coinslot.store import sqlite
from coinslot.store import writer as writer_module
from coinslot.store.checkpoints import checkpoint
from coinslot.store.connection import connect, is_followed
from coinslot.store.db import Database, open_database
from tests.servers import until

FRAME_BYTES = 4096 + 24


@pytest.fixture
def database(tmp_path):
    made = open_database(tmp_path / "home")
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def follow(database):
    """Let Litestream begin: it makes a folder beside the database."""
    return lambda: database.path.with_name(".coinslot.db-litestream").mkdir()


def fill(database: Database, rows: int = 2000) -> None:
    database.write(lambda tx: tx.execute("CREATE TABLE IF NOT EXISTS scratch (text TEXT)"))
    database.write(lambda tx: tx.executemany("INSERT INTO scratch VALUES (?)", [("x" * 4000,)] * rows))


def automatic(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA wal_autocheckpoint").fetchone()[0]


def wal_bytes(database: Database) -> int:
    return Path(f"{database.path}-wal").stat().st_size


def test_automatic_checkpoints_end_when_litestream_begins(database, follow):
    with closing(connect(database.path)) as connection:
        assert automatic(connection) == 1000
    assert not is_followed(database.path)

    follow()

    assert is_followed(database.path)
    with closing(connect(database.path)) as connection:
        assert automatic(connection) == 0


def test_a_server_that_runs_notices_it_within_a_second(database, follow, monkeypatch):
    monkeypatch.setattr(writer_module, "QUIET_SECONDS", 0.01)
    assert database.write(automatic) == 1000

    follow()

    until(lambda: database.write(automatic) == 0, "the writer makes no checkpoints")


def test_a_checkpoint_of_ours_lets_the_wal_start_over(database, follow):
    follow()
    fill(database)
    size = wal_bytes(database)

    assert database.truncate_wal()

    assert wal_bytes(database) == size
    fill(database, rows=10)
    assert wal_bytes(database) == size
    with closing(sqlite3.connect(f"file:{database.path}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM scratch").fetchone()[0] == 2010


def test_no_other_program_can_commit_during_a_checkpoint_of_ours(database, follow, monkeypatch):
    follow()
    fill(database)
    seen = []

    def spied(path):
        connection = connect(path)
        connection.set_trace_callback(lambda statement: seen.append((statement, can_commit(path))))
        return connection

    def can_commit(path):
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            return True

    monkeypatch.setattr("coinslot.store.checkpoints.connect", spied)
    assert checkpoint(database.path)

    assert ("PRAGMA wal_checkpoint(PASSIVE)", False) in seen


def test_while_another_program_writes_there_is_no_checkpoint(database, follow):
    follow()
    fill(database)
    before = database.path.stat().st_size
    with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        assert not database.truncate_wal()

    assert database.path.stat().st_size == before


def test_the_wal_starts_over_when_litestream_has_stopped(database, follow, monkeypatch):
    """Without its checkpoints the WAL would grow until the disk is full."""
    monkeypatch.setattr(writer_module, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(sqlite, "LARGE_FOLLOWED_BYTES", 100 * FRAME_BYTES)
    follow()
    for _ in range(20):
        fill(database, rows=50)

    assert wal_bytes(database) < 400 * FRAME_BYTES
