"""What the disk refuses: /readyz says it in every process until as much can be written again; and the WAL is cut."""

import resource
import sqlite3
from pathlib import Path

import pytest

from coinslot.store import writer as writer_module
from coinslot.store.sqlite import LARGE_WAL_BYTES
from tests.conftest import furnished
from tests.server.test_server import post_order
from tests.servers import Server, until

POLLS = 24  # over both workers, whoever is asked


@pytest.fixture
def home(tmp_path):
    installation, _ = furnished(tmp_path / "home")
    installation.database.close()
    return tmp_path / "home"


def polls(server):
    return [server.get("/readyz").status for _ in range(POLLS)]


def limit_files(server, size):
    for pid in server.booted_workers():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_no_worker_is_ready_while_a_file_may_not_grow_and_all_are_afterwards(home):
    with Server(home, "-w", "2", COINSLOT_RELAY="off") as server:
        until(lambda: len(server.booted_workers()) == 2, "two workers")
        assert post_order(server, "before").status == 200
        assert polls(server) == [200] * POLLS

        limit_files(server, 8192)
        assert post_order(server, "during").status == 503
        assert polls(server) == [503] * POLLS
        assert server.get("/readyz").json["checks"]["database"] == "not writable"

        limit_files(server, resource.RLIM_INFINITY)
        until(lambda: polls(server) == [200] * POLLS, "all are ready without an order")
        assert post_order(server, "during").status == 200


def test_no_worker_is_ready_while_a_page_is_damaged(home):
    connection = sqlite3.connect(home / "coinslot.db")
    (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'transactions'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with (home / "coinslot.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)

    with Server(home, "-w", "2") as server:
        until(lambda: len(server.booted_workers()) == 2, "two workers")
        assert post_order(server, "o-1").status == 503
        assert polls(server) == [503] * POLLS, server.log


def test_a_smaller_commit_does_not_end_it_and_one_as_large_does(installation, studio):
    database = installation.database
    database.write(lambda tx: tx.execute("CREATE TABLE scratch (n INTEGER PRIMARY KEY, text TEXT)"))

    def add(rows, error=None):
        def write(tx):
            for _ in range(rows):
                tx.execute("INSERT INTO scratch (text) VALUES ('x')")
            if error is not None:
                raise error

        database.write(write)

    def is_marked():
        return database.write(lambda _: database.lock.is_marked())

    with pytest.raises(sqlite3.OperationalError):
        add(3, _full())
    assert is_marked()
    add(2)
    assert is_marked()
    with pytest.raises(ValueError, match="not the disk's"):
        add(5, ValueError("not the disk's"))
    assert is_marked()
    add(4)
    assert not is_marked()

    with pytest.raises(sqlite3.OperationalError):
        add(3, _full())
    assert is_marked()
    assert not database.is_refusing()  # it tried as much
    assert database.read().execute("SELECT count(*) FROM installation WHERE name LIKE 'trial%'").fetchone()[0] == 0


def _full():
    """As SQLite raises it; made by SQLite, which gives errors their codes."""
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA max_page_count = 2")
    try:
        connection.execute("CREATE TABLE a (x)")
        connection.execute("INSERT INTO a VALUES (zeroblob(100000))")
    except sqlite3.OperationalError as error:
        return error
    finally:
        connection.close()


def test_other_errors_of_a_write_are_none_of_the_disks(installation, studio):
    with pytest.raises(sqlite3.IntegrityError):
        installation.database.write(lambda tx: tx.execute("INSERT INTO games (slug) VALUES (NULL)"))
    with pytest.raises(sqlite3.OperationalError):
        installation.database.write(lambda tx: tx.execute("SELECT nothing FROM nowhere"))
    assert not installation.database.is_refusing()


def fill(database, rows=3000):
    database.write(lambda tx: tx.execute("CREATE TABLE IF NOT EXISTS scratch (n INTEGER PRIMARY KEY, text TEXT)"))

    def add(tx):
        tx.executemany("INSERT INTO scratch (text) VALUES (?)", [("x" * 4000,)] * rows)

    database.write(add)


def test_a_large_wal_is_cut_when_nobody_writes(installation, studio, monkeypatch):
    monkeypatch.setattr(writer_module, "QUIET_SECONDS", 0.05)
    wal = Path(f"{installation.database.path}-wal")

    with installation.database.snapshot() as reader:  # nothing can be cut while it reads
        reader.execute("SELECT count(*) FROM games").fetchone()
        fill(installation.database)
        assert wal.stat().st_size > LARGE_WAL_BYTES

    until(lambda: wal.stat().st_size == 0, "the WAL is cut")
    assert installation.database.write(lambda tx: tx.execute("SELECT count(*) FROM scratch").fetchone()[0]) == 3000


def test_doctor_names_a_large_wal_and_a_commit_that_failed(installation, studio, app, monkeypatch):
    monkeypatch.setattr(writer_module, "QUIET_SECONDS", 60.0)
    fill(installation.database)
    said = app.test_cli_runner().invoke(args=["doctor"]).output
    assert "coinslot.db-wal" in said
    assert "A commit failed on the disk" not in said

    with installation.database.lock:
        installation.database.lock.mark(True)
    said = app.test_cli_runner().invoke(args=["doctor"]).output
    assert "A commit failed on the disk" in said
    assert installation.database.truncate_wal()
    assert "coinslot.db-wal" not in app.test_cli_runner().invoke(args=["doctor"]).output
