"""What a write and a read meet on PostgreSQL besides good luck: errors that are caught, odd values, several clocks."""

import base64
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from coinslot.base import clock
from coinslot.store import queries
from coinslot.store.db import BusyError, Connection, Database, EngineError, IntegrityError, open_database
from tests import postgres
from tests.servers import Underway, until

pytestmark = pytest.mark.long


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    postgres.needs_postgres()
    with postgres.fresh_database() as url:
        found = open_database(tmp_path, url)
        found.prepare()
        yield found
        found.close()


def add(tx: Connection, name: str, value: str = "1") -> None:
    queries.insert(tx, "installation", {"name": name, "value": value, "updated_at": clock.stamp()})


def facts(connection: Connection) -> dict[str, str]:
    found = connection.execute("SELECT name, value FROM installation ORDER BY name").fetchall()
    return {row["name"]: row["value"] for row in found}


def both_in_one_commit(database: Database, *functions: Any) -> list[Any]:
    def outcome(function: Any) -> Any:
        try:
            return database.write(function)
        except Exception as error:
            return type(error)

    with database.lock:
        calls = Underway(*(lambda function=function: outcome(function) for function in functions))
        until(lambda: database._writer and len(database._writer._waiting) == len(functions), "all wait")
    return calls.results()


def test_a_write_that_catches_its_failed_statement_and_goes_on_stores_nothing_and_fails_alone(
    database: Database,
) -> None:
    database.write(lambda tx: add(tx, "there"))

    def catch(tx: Connection, is_asking: bool) -> None:
        add(tx, "before")
        try:
            result = tx.execute("INSERT INTO installation (name, value, updated_at) VALUES ('there', '', '')")
            assert result.rowcount == 1 if is_asking else True
        except IntegrityError:
            pass
        if is_asking:
            add(tx, "after")

    for is_asking in (True, False):
        outcomes = both_in_one_commit(
            database,
            lambda tx, is_asking=is_asking: catch(tx, is_asking),
            lambda tx, is_asking=is_asking: add(tx, f"other-{is_asking}"),
        )
        assert issubclass(outcomes[0], EngineError)
        assert outcomes[1] is None
    assert list(facts(database.read())) == ["other-False", "other-True", "there"]


def test_no_sentence_quotes_a_value(database: Database) -> None:
    def message(function: Any) -> str:
        with pytest.raises((EngineError, ValueError)) as met:
            function()
        assert met.value.__cause__ is None
        return str(met.value)

    database.write(lambda tx: add(tx, "secret-name"))
    for sentence in (
        message(lambda: database.read().execute("SELECT CAST(:x AS bigint)", {"x": "secret"})),
        message(lambda: database.read().execute("SELECT CAST(:x AS jsonb)", {"x": '{"secret'})),
        message(lambda: database.read().execute("SELECT 1 FROM 'secret'")),
        message(lambda: database.write(lambda tx: add(tx, "secret-name", "secret"))),
        message(lambda: database.write(lambda tx: add(tx, "secret\0name"))),
        message(lambda: database.write(lambda tx: tx.execute("UPDATE sequences SET last_id = 'secret'").rowcount)),
    ):
        assert "secret-name" not in sentence
        assert "'secret" not in sentence
        assert '"secret' not in sentence


@pytest.mark.parametrize("before_host", ["u:se%zzret", "u:pa/secret", "u:p@secret", "u:p#secret", "u:p?secret"])
def test_an_address_that_cannot_be_read_is_refused_without_a_word_of_it(tmp_path: Path, before_host: str) -> None:
    postgres.needs_postgres()
    with pytest.raises(ValueError, match="COINSLOT_DATABASE") as met:
        open_database(tmp_path, f"postgresql://{before_host}@h/db")

    assert "secret" not in str(met.value)


def test_odd_values_come_back_or_are_refused_by_themselves(database: Database) -> None:
    long = "ä" * 1_000_000 + "'\\%:x?"
    database.write(lambda tx: add(tx, "long", long))
    assert facts(database.read())["long"] == long

    for odd in ("a\0b", "a\ud800b"):
        with pytest.raises((EngineError, UnicodeEncodeError)):
            database.write(lambda tx, odd=odd: add(tx, "odd", odd))
    with pytest.raises(EngineError):
        database.write(lambda tx: tx.execute("UPDATE sequences SET last_id = :n", {"n": 2**63}).rowcount)
    assert list(facts(database.read())) == ["long"]
    largest = database.write(
        lambda tx: tx.execute("SELECT sum(x) FROM (SELECT :n AS x) v", {"n": 2**63 - 1}).fetchone()[0]
    )
    assert largest == 2**63 - 1
    assert isinstance(largest, int)


def test_time_stands_still_in_a_write_and_never_goes_back_between_writes(database: Database) -> None:
    def moments(tx: Connection) -> tuple[str, str]:
        first = clock.stamp()
        time.sleep(0.01)
        return first, clock.stamp()

    def set_last(seconds: int) -> None:
        moment = f"(extract(epoch FROM clock_timestamp()) + {seconds}) * 1000000"
        database.write(lambda tx: tx.execute(f"SELECT setval('last_moment', CAST({moment} AS bigint))").fetchone())

    set_last(30)  # the database's clock, or that of another primary before a failover, was ahead
    seen = [database.write(moments) for _ in range(5)]
    assert all(first == second for first, second in seen)
    assert seen == sorted(seen)
    assert clock.seconds(seen[0][0]) > time.time() + 20

    set_last(86400)  # by so much that nobody waits for it to come true
    assert abs(clock.seconds(database.write(moments)[0]) - time.time()) < 20
    clock.set_ahead(0.0)


def test_a_snapshot_holds_for_nested_reads_of_its_thread_alone(database: Database) -> None:
    database.write(lambda tx: add(tx, "one"))
    before = database.read()

    def pieces() -> Iterator[list[str]]:
        with database.snapshot() as connection:
            for _ in range(2):
                yield list(facts(connection))

    streaming = pieces()
    assert next(streaming) == ["one"]
    database.write(lambda tx: add(tx, "two"))
    with database.snapshot() as inner:
        assert [list(facts(each)) for each in (inner, before, database.read())] == [["one"]] * 3
    assert Underway(lambda: list(facts(database.read()))).results() == [["one", "two"]]
    assert next(streaming) == ["one"]
    streaming.close()  # as when the one who reads it hangs up
    assert list(facts(before)) == ["one", "two"]


def test_many_threads_share_few_connections_and_none_waits_for_ever(database: Database, monkeypatch: Any) -> None:
    def read() -> int:
        return sum(database.read().execute("SELECT pg_sleep(0.01), 1 AS x").fetchone()["x"] for _ in range(5))

    assert Underway(*[read] * 40).results() == [5] * 40
    used = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'coinslot reader'"
    assert database.read().execute(used).fetchone()[0] <= 10

    monkeypatch.setattr("coinslot.store.postgres.readers.WAIT_SECONDS", 0.2)
    are_there, may_go = threading.Barrier(11), threading.Event()

    def keep() -> None:
        with database.snapshot():
            are_there.wait()
            may_go.wait()

    keeping = Underway(*[keep] * 10)
    are_there.wait()
    with pytest.raises(BusyError):
        database.read().execute("SELECT 1")
    may_go.set()
    keeping.results()
    assert database.read().execute("SELECT 7 AS x").fetchone()["x"] == 7


def test_a_game_whose_name_in_a_url_can_be_no_text_is_unknown(tmp_path: Path) -> None:
    postgres.needs_postgres()
    with postgres.fresh_database() as url:
        app = create_app(
            {
                "COINSLOT_HOME": str(tmp_path),
                "COINSLOT_DATABASE": url,
                "COINSLOT_MASTER_KEY": base64.b64encode(bytes(32)).decode(),
            }
        )
        installation = app.extensions["coinslot"]
        installation.prepare()

        assert app.test_client().get("/playtem/a%00b/credit").status_code == 404
        installation.database.close()
