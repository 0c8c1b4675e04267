"""What a process meets that freezes, or whose database goes away: nothing is credited twice, and others go on."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coinslot.store import queries
from coinslot.store.db import BusyError, Connection, Database, DatabaseError, EngineError, open_database
from tests import postgres
from tests.killing import Process
from tests.servers import Underway, until
from tests.store.postgres.relaying import Between

pytestmark = pytest.mark.long

# Adds a fact in a write, and stops in the middle of it; continued, it says how that ended.
FREEZES = """
import signal, sys
from pathlib import Path
from coinslot.store import queries
from coinslot.store.db import DatabaseError, open_database

def add(tx):
    queries.set_fact(tx, "frozen", "1")
    assert queries.fact(tx, "frozen") == "1"
    print("stops", flush=True)
    signal.raise_signal(signal.SIGSTOP)  # to this thread: stopped before it goes on

database = open_database(Path(sys.argv[1]), sys.argv[2])
try:
    database.write(add)
except DatabaseError:
    print("is lost", flush=True)
database.write(lambda tx: queries.set_fact(tx, "again", "1"))
print("goes on", flush=True)
"""


@pytest.fixture
def url() -> Iterator[str]:
    postgres.needs_postgres()
    with postgres.fresh_database() as found:
        yield found


def opened(folder: Path, url: str) -> Database:
    database = open_database(folder, url)
    database.prepare()
    return database


@pytest.fixture
def database(tmp_path: Path, url: str) -> Iterator[Database]:
    found = opened(tmp_path, url)
    yield found
    found.close()


def outside(url: str, sql: str) -> Any:
    """Run a statement as the cluster's superuser; returns the rows, if it gives any."""
    import psycopg

    with psycopg.connect(postgres.superuser(url), autocommit=True) as connection:
        done = connection.execute(sql)
        return done.fetchall() if done.description else None


def end_all(url: str) -> None:
    outside(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'coinslot%'")


def add(tx: Connection, name: str) -> bool:
    """Whether the fact is new."""
    columns = {"name": name, "value": "1", "updated_at": ""}
    return queries.insert(tx, "installation", columns, "ON CONFLICT (name) DO NOTHING RETURNING name") is not None


def facts(database: Database) -> list[str]:
    found = database.read().execute("SELECT name FROM installation ORDER BY name")
    return [row["name"] for row in found]


def test_a_process_frozen_in_the_middle_of_a_write_is_cut_off_and_loses_it(
    database: Database, tmp_path: Path, url: str
) -> None:
    with Process(tmp_path, "-c", FREEZES, tmp_path, url) as frozen:
        assert frozen.line() == "stops"
        began = time.monotonic()
        waits = 0
        while True:
            try:
                database.write(lambda tx: add(tx, "other"))
                break
            except BusyError:
                waits += 1
        seconds = time.monotonic() - began
        frozen._popen.send_signal(signal.SIGCONT)

        assert [frozen.line(), frozen.line()] == ["is lost", "goes on"]

    assert waits <= 1
    assert seconds < 15  # five, where the machine is fast
    assert facts(database) == ["again", "other"]


@pytest.mark.parametrize(("cut", "is_stored"), [("before COMMIT", False), ("after COMMIT", True)])
def test_a_commit_in_doubt_is_an_error_and_may_be_repeated(tmp_path: Path, url: str, cut: str, is_stored: bool) -> None:
    with Between(url) as between:
        database = opened(tmp_path, between.url)
        between.cut = cut

        with pytest.raises(DatabaseError, match="not known whether this was committed") as met:
            database.write(lambda tx: add(tx, "credit"))

        assert not isinstance(met.value, EngineError)
        assert database.write(lambda tx: add(tx, "credit")) is not is_stored
        assert facts(database) == ["credit"]
        database.close()


def test_no_call_fails_for_connections_that_the_database_has_ended(database: Database, url: str) -> None:
    """As after its restart: all connections of a process are gone, the many to read with and the one to write with."""

    def read_slowly() -> Any:
        return database.read().execute("SELECT pg_sleep(0.2)").fetchone()

    Underway(*[read_slowly] * 8).results()
    database.write(lambda tx: add(tx, "before"))

    end_all(url)

    assert facts(database) == ["before"]
    database.write(lambda tx: add(tx, "after"))
    with database.snapshot() as connection:
        end_all(url)
        with pytest.raises(EngineError):
            connection.execute("SELECT 1")
    assert Underway(*[lambda: facts(database)] * 8).results() == [["after", "before"]] * 8


def test_a_read_that_is_under_way_is_made_again(database: Database, url: str) -> None:
    def read() -> Any:
        return database.read().execute("SELECT pg_sleep(1), 7 AS x").fetchone()["x"]

    running = Underway(*[read] * 3)
    until(lambda: len(outside(url, "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1)%7 AS%'")) > 3, "read")
    end_all(url)

    assert running.results() == [7] * 3


def test_calls_wait_for_a_database_that_is_away_for_a_moment(tmp_path: Path, url: str) -> None:
    with Between(url) as between:
        database = opened(tmp_path, between.url)
        database.write(lambda tx: add(tx, "before"))
        facts(database)

        between.end()
        calls = Underway(lambda: facts(database), lambda: database.write(lambda tx: add(tx, "meanwhile")))
        time.sleep(1)
        assert calls.are_all()
        between.begin()

        assert calls.results()[1] is True
        assert facts(database) == ["before", "meanwhile"]
        database.close()


def test_calls_are_refused_while_it_stays_away_and_at_once_no_longer_when_it_is_back(tmp_path: Path, url: str) -> None:
    with Between(url) as between:
        database = opened(tmp_path, between.url)
        database.write(lambda tx: add(tx, "before"))
        between.end()
        calls = Underway(*[lambda: _error_of(database.read().execute, "SELECT 1")] * 20)
        assert _error_of(database.write, lambda tx: add(tx, "never"))
        assert all(calls.results())

        between.begin()

        assert facts(database) == ["before"]
        until(lambda: not _error_of(database.write, lambda tx: add(tx, "after")), "writes succeed")
        assert facts(database) == ["after", "before"]
        database.close()


def _error_of(function: Any, *arguments: Any) -> str:
    """What a caller is told; nothing where it succeeds."""
    try:
        function(*arguments)
    except (DatabaseError, EngineError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def test_commits_of_others_are_noticed_and_again_when_the_listener_was_cut_off(
    database: Database, tmp_path: Path, url: str
) -> None:
    other = open_database(tmp_path / "other", url)
    database.commits_seen()
    for number in range(2):
        until(lambda: outside(url, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"), "somebody listens")
        before = database.commits_seen()
        until(lambda before=before: database.commits_seen() == before, "it has told what was before")
        other.write(lambda tx, number=number: add(tx, f"commit-{number}"))
        until(lambda before=before: database.commits_seen() != before, "it is noticed")
        end_all(url)
    other.close()


def test_a_commit_that_was_not_copied_to_the_standby_is_an_error(tmp_path: Path) -> None:
    postgres.needs_postgres()
    with postgres.Cluster() as cluster:
        database = opened(tmp_path, cluster.url)
        _alter(cluster.url, "SET synchronous_standby_names = 'nobody'")

        write = Underway(lambda: _error_of(database.write, lambda tx: add(tx, "credit")))
        waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        until(lambda: _rows(cluster.url, f"SELECT 1 {waiting}"), "the commit waits for the standby")
        assert facts(database) == []  # nobody sees it before
        _rows(cluster.url, f"SELECT pg_cancel_backend(pid) {waiting}")

        (error,) = write.results()
        assert error.startswith("DatabaseError")
        assert "not copied to the standby" in error
        _alter(cluster.url, "RESET synchronous_standby_names")
        assert database.write(lambda tx: add(tx, "credit")) is False
        database.close()


def _rows(url: str, sql: str) -> Any:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(sql)
        return done.fetchall() if done.description else None


def _alter(url: str, what: str) -> None:
    _rows(url, f"ALTER SYSTEM {what}")
    _rows(url, "SELECT pg_reload_conf()")


@pytest.mark.parametrize("setting", ["off", "local"])
def test_a_role_that_would_not_wait_for_the_disk_waits(database: Database, url: str, setting: str) -> None:
    role = outside(url, "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()")[0][0]
    outside(url, f"ALTER ROLE {role} SET synchronous_commit = {setting}")
    try:
        found = database.write(lambda tx: tx.execute("SELECT current_setting('synchronous_commit')").fetchone()[0])
    finally:
        outside(url, f"ALTER ROLE {role} RESET synchronous_commit")

    assert found == "on"


def test_a_forked_child_has_connections_of_its_own(database: Database) -> None:
    database.write(lambda tx: add(tx, "parent"))
    assert facts(database) == ["parent"]

    child = os.fork()
    if child == 0:
        status = 1
        try:
            database.write(lambda tx: add(tx, "child"))
            status = 0 if facts(database) == ["child", "parent"] else 2
            database.close()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0

    database.write(lambda tx: add(tx, "parent again"))
    assert facts(database) == ["child", "parent", "parent again"]


def test_after_another_life_of_the_database_ids_go_on_far_above_even_if_the_first_write_fails(
    database: Database, url: str
) -> None:
    outside(url, "UPDATE coinslot.engine SET timeline = 'another'")

    def fail(tx: Connection) -> None:
        raise ValueError("no")

    with database.lock:  # so that both go into one commit
        calls = Underway(
            lambda: _error_of(database.write, fail), lambda: database.write(lambda tx: add(tx, "committed"))
        )
        until(lambda: database._writer is not None and len(database._writer._waiting) == 2, "both wait")
    assert calls.results() == ["ValueError: no", True]

    rows = database.read().execute("SELECT last_id FROM sequences").fetchall()
    assert all(row["last_id"] >= 1_000_000_000 for row in rows)
    database.write(lambda tx: add(tx, "next"))
    assert database.read().execute("SELECT last_id FROM sequences").fetchall() == rows


def test_a_dump_that_is_read_in_is_another_life(database: Database, url: str, tmp_path: Path) -> None:
    database.write(lambda tx: add(tx, "x"))
    before = database.read().execute("SELECT last_id FROM sequences").fetchall()
    database.close()
    outside(url, "ALTER TABLE coinslot.engine RENAME TO old; CREATE TABLE coinslot.engine AS TABLE coinslot.old")
    role = outside(url, "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()")[0][0]
    outside(url, f"ALTER TABLE coinslot.engine OWNER TO {role}")

    database.write(lambda tx: add(tx, "y"))

    after = database.read().execute("SELECT last_id FROM sequences").fetchall()
    assert all(new["last_id"] > old["last_id"] + 1_000_000 for new, old in zip(after, before, strict=True))
