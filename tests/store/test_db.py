"""The writer: all or nothing, together under one fsync, one process at a time, five seconds at most."""

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import threading
from contextlib import closing, suppress

import pytest

from coinslot.store import db as database_module
from coinslot.store import migrations, sqlite
from coinslot.store import writer as writer_module
from coinslot.store.db import SCHEMA_VERSION, BusyError, DatabaseError, SchemaError, open_database
from coinslot.store.lock import WriteLock
from tests.servers import Underway, together


@pytest.fixture
def database(tmp_path):
    database = open_database(tmp_path / "home")
    database.prepare()
    yield database
    database.close()


def put(name, value="1"):
    def write(tx):
        tx.execute(
            "INSERT INTO installation (name, value, updated_at) VALUES (:name, :value, 'now')",
            {"name": name, "value": value},
        )
        return name

    return write


def fail(tx):
    put("half")(tx)
    raise KeyError("mine")


def names(database):
    return [row["name"] for row in database.read().execute("SELECT name FROM installation ORDER BY name")]


def version(database):
    with closing(sqlite.connect(database.path)) as connection:
        return sqlite.file_version(connection)


class TestFile:
    def test_folder_and_files_are_the_owners_alone(self, database):
        assert database.home.stat().st_mode & 0o777 == 0o700
        database.write(put("a"))
        for path in database.home.iterdir():
            assert path.stat().st_mode & 0o777 == 0o600, path

    def test_settings_of_every_connection(self, database):
        for connection in (database.read(), sqlite.connect(database.path)):
            settings = {
                name: connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "foreign_keys", "mmap_size")
            }
            assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "mmap_size": 0}

    def test_preparing_twice_changes_nothing(self, database):
        database.write(put("a"))
        database.prepare()
        assert names(database) == ["a"]

    def test_reading_connections_cannot_write(self, database):
        with pytest.raises(sqlite3.OperationalError):
            put("a")(database.read())

    @pytest.mark.parametrize("version", [0, SCHEMA_VERSION - 1, SCHEMA_VERSION + 1, 999])
    def test_another_schema_version_is_neither_read_nor_written(self, tmp_path, version):
        database = open_database(tmp_path / "home")
        database.prepare()
        with closing(sqlite3.connect(database.path)) as connection:
            connection.execute(f"PRAGMA user_version = {version}")
        fresh = open_database(tmp_path / "home")

        for refused in (fresh.read, lambda: fresh.write(put("a")), lambda: fresh.write_here(put("a"))):
            with pytest.raises(DatabaseError, match="schema version"):
                refused()
        with pytest.raises(SchemaError, match="newer" if version > SCHEMA_VERSION else "older than the first release"):
            fresh.prepare()

    def test_a_strangers_file_is_left_alone(self, tmp_path):
        home = tmp_path / "home"
        home.mkdir()
        with closing(sqlite3.connect(home / "coinslot.db")) as connection:
            connection.execute("CREATE TABLE theirs (x)")
            connection.commit()
        with pytest.raises(SchemaError, match="not a Coinslot database"):
            open_database(home).prepare()

    def steps(self, monkeypatch, *steps):
        """The code is newer than the file by so many steps."""
        monkeypatch.setattr(database_module, "SCHEMA_VERSION", SCHEMA_VERSION + len(steps))
        monkeypatch.setattr(migrations, "MIGRATIONS", dict(enumerate(steps, SCHEMA_VERSION + 1)))

    def test_a_process_with_older_code_stops_writing_once_the_schema_is_newer(self, database, monkeypatch):
        """An upgrade beside the running server: its connections were opened before."""
        database.write(put("a"))
        self.steps(monkeypatch, lambda tx: None)
        open_database(database.home).prepare()
        monkeypatch.undo()  # the code of the one that runs on

        with pytest.raises(SchemaError, match="newer than this code"):
            database.write(put("b"), keeps_games=True)
        with closing(sqlite.connect(database.path)) as connection:
            assert [row["name"] for row in connection.execute("SELECT name FROM installation")] == ["a"]

    def test_all_steps_and_the_version_commit_together_or_not_at_all(self, database, monkeypatch):
        database.write(put("a"))
        database.close()

        def add_column(tx):
            tx.execute("ALTER TABLE installation ADD COLUMN extra TEXT")

        def break_halfway(tx):
            tx.execute("ALTER TABLE installation ADD COLUMN more TEXT")
            raise RuntimeError("halfway")

        def columns():
            with closing(sqlite.connect(database.path)) as connection:
                return [row["name"] for row in connection.execute("SELECT name FROM pragma_table_info('installation')")]

        self.steps(monkeypatch, add_column, break_halfway)
        with pytest.raises(RuntimeError, match="halfway"):
            database.prepare()
        assert (version(database), columns()) == (SCHEMA_VERSION, ["name", "value", "updated_at"])

        self.steps(monkeypatch, add_column, lambda tx: None)
        database.prepare()
        assert (version(database), columns()) == (SCHEMA_VERSION + 2, ["name", "value", "updated_at", "extra"])
        assert names(database) == ["a"]

    def test_steps_may_make_a_table_anew_and_foreign_keys_are_checked_once_at_the_end(self, database, monkeypatch):
        checks = []
        database.write_here(
            lambda tx: [
                tx.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY) STRICT"),
                tx.execute("CREATE TABLE children (parent INTEGER REFERENCES parents (id) ON DELETE CASCADE) STRICT"),
                tx.execute("INSERT INTO parents VALUES (7)"),
                tx.execute("INSERT INTO children VALUES (7)"),
            ]
        )

        def make_anew(tx):
            tx.set_trace_callback(lambda sql: checks.append(sql) if "foreign_key_check" in sql else None)
            tx.execute("CREATE TABLE new_parents (id INTEGER PRIMARY KEY, name TEXT) STRICT")
            tx.execute("DROP TABLE parents")
            tx.execute("ALTER TABLE new_parents RENAME TO parents")

        def fill(tx):
            tx.execute("INSERT INTO parents (id) VALUES (7)")

        self.steps(monkeypatch, make_anew)
        with pytest.raises(SchemaError, match="row of children that refers to none of parents"):
            database.prepare()
        assert version(database) == SCHEMA_VERSION

        checks.clear()
        self.steps(monkeypatch, make_anew, fill)  # broken between the two
        database.prepare()
        assert len(checks) == 1
        with closing(sqlite.connect(database.path)) as connection:
            assert [row[0] for row in connection.execute("SELECT parent FROM children")] == [7]

    def test_foreign_keys_hold_again_after_the_steps(self, database, monkeypatch):
        for step in (lambda tx: None, fail):
            with closing(sqlite.connect(database.path)) as connection:
                self.steps(monkeypatch, step)
                with suppress(KeyError):
                    sqlite.migrate(connection)
                assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1


class TestWrites:
    def test_a_write_is_on_the_disk_when_it_returns(self, database):
        assert database.write(put("a")) == "a"
        assert names(database) == ["a"]

    def test_a_file_that_could_not_be_written_for_a_while_is_written_again(self, database):
        """SQLite opens such a file all the same, for reading alone: that connection must not be kept."""
        database.write(put("a"))
        how = ["chattr", "+i"] if os.geteuid() == 0 else ["chmod", "0400"]
        back = ["chattr", "-i"] if os.geteuid() == 0 else ["chmod", "0600"]
        files = [database.path, f"{database.path}-wal"]
        if shutil.which(how[0]) is None or subprocess.run([*how, *files], check=False).returncode:
            pytest.skip("files cannot be protected here")
        try:
            for _ in range(5):
                with pytest.raises((DatabaseError, sqlite3.Error)):
                    database.write(put("b"))
        finally:
            subprocess.run([*back, *files], check=True)

        database.write(put("c"))
        assert names(database) == ["a", "c"]
        assert not database.is_refusing()

    def test_an_error_leaves_nothing_and_does_not_touch_its_neighbours(self, database):
        gate, begun = threading.Event(), threading.Event()

        def slow(tx):
            begun.set()
            gate.wait(5)
            return put("slow")(tx)

        def outcome(function):
            try:
                return database.write(function)
            except Exception as error:
                return type(error)

        first = Underway(lambda: outcome(slow))
        assert begun.wait(5)
        others = Underway(
            *[lambda function=function: outcome(function) for function in (fail, put("slow"), put("good"))]
        )
        gate.set()

        assert first.results() + others.results() == ["slow", KeyError, sqlite3.IntegrityError, "good"]
        assert names(database) == ["good", "slow"]

    def test_waiting_writes_share_one_commit(self, database):
        commits = []
        connection = sqlite.connect(database.path)
        gate = threading.Event()

        def versions(tx):
            gate.wait(5)
            commits.append(connection.execute("PRAGMA data_version").fetchone()[0])

        writes = [versions, *(put(f"n{number}") for number in range(20))]
        waiting = Underway(*[lambda write=write: database.write(write) for write in writes])
        gate.set()
        waiting.results()
        after = connection.execute("PRAGMA data_version").fetchone()[0]
        connection.close()

        assert len(names(database)) == 20
        assert after - commits[0] < 20

    def test_a_caller_waits_five_seconds_and_a_write_not_begun_never_runs(self, database, monkeypatch):
        monkeypatch.setattr(writer_module, "WAIT_SECONDS", 0.2)
        database.write(put("before"))
        other = WriteLock(database.home / "write.lock")
        with other, pytest.raises(BusyError):
            database.write(put("withdrawn"))
        monkeypatch.setattr(writer_module, "WAIT_SECONDS", 5)
        database.write(put("after"))
        assert names(database) == ["after", "before"]

    def test_a_write_here_is_rolled_back_whole(self, database):
        with pytest.raises(KeyError):
            database.write_here(fail)
        assert names(database) == []

    def test_the_writer_survives_a_transaction_that_sqlite_gave_up(self, database):
        database.write(put("a"))

        def end_the_transaction(tx):
            tx.execute("ROLLBACK")
            raise sqlite3.OperationalError("disk I/O error")

        with pytest.raises(DatabaseError):
            database.write(end_the_transaction)
        assert database.write(put("b")) == "b"
        assert names(database) == ["a", "b"]

    def test_ledger_tables_refuse_changes(self, database):
        def insert(tx):
            tx.execute(
                "INSERT INTO games (slug, name, api_token_hash, revision, created_at) VALUES ('g', 'g', 'h', 'r', '')"
            )
            tx.execute(
                """INSERT INTO transactions (public_id, game_id, partner, external_id, reference, kind, player_id,
                       figures, fingerprint, raw_body, body_sha256, signature, signed_with, answer_status,
                       answer_body, environment, is_test, received_at, previous_hash, row_hash)
                   VALUES ('u', 1, 'p', 'e', 'e', 'purchase', 'a', x'00', 'f', x'00', 's', 's', 'k', 200, '', 'live', 0,
                           'now', '0', '1')"""
            )
            tx.execute(
                """INSERT INTO grants (id, game_id, transaction_id, kind, player_id, is_test, created_at)
                   VALUES (1, 1, 1, 'purchase', 'a', 0, 'now')"""
            )
            tx.execute("INSERT INTO entries (grant_id, sku, quantity) VALUES (1, 'coins', '5')")

        database.write(insert)
        for statement in (
            "UPDATE transactions SET player_id = 'b'",
            "UPDATE transactions SET raw_body = x'01'",
            "UPDATE transactions SET signature = 'other'",
            "DELETE FROM transactions",
            "UPDATE grants SET player_id = 'b'",
            "DELETE FROM grants",
            "UPDATE entries SET quantity = '500'",
            "DELETE FROM entries",
            "INSERT INTO entries (grant_id, sku, quantity) VALUES (1, 'gems', '5.5')",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                database.write(lambda tx, statement=statement: tx.execute(statement))
        database.write(
            lambda tx: tx.execute("UPDATE transactions SET raw_body = NULL, signature = NULL, session_metadata = NULL")
        )


def _hammer(home, start, count, results):
    database = open_database(home)
    start.wait()

    def next_number(tx):
        (last,) = tx.execute("SELECT last_id FROM sequences WHERE name = 'grants'").fetchone()
        # Read, then write: lost updates would show, were two processes ever inside at once.
        tx.execute("UPDATE sequences SET last_id = :next WHERE name = 'grants'", {"next": last + 1})
        return last + 1

    results.put([database.write(next_number) for _ in range(count)])
    database.close()


def test_processes_write_one_after_another(tmp_path):
    home = tmp_path / "home"
    open_database(home).prepare()
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    processes = [context.Process(target=_hammer, args=(home, start, 200, results)) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    numbers = [number for _ in processes for number in results.get(timeout=60)]
    for process in processes:
        process.join(10)

    assert sorted(numbers) == list(range(1, 601))


def test_threads_of_one_process_exclude_each_other(tmp_path):
    lock = WriteLock(tmp_path / "lock")
    inside = []
    overlaps = []

    def enter():
        for _ in range(50):
            with lock:
                inside.append(1)
                overlaps.append(len(inside))
                inside.pop()

    together(*[enter] * 4)

    assert set(overlaps) == {1}
