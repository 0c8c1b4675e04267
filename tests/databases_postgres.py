"""What ``databases.py`` needs where ``COINSLOT_TEST_ENGINE`` is ``postgres``: one database for each home folder.

A fresh one is a copy of a template that has the tables. The database's clock is the machine's, until a test moves its
own (:func:`following`).
"""

import atexit
import base64
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import time_machine

from tests import postgres

ALWAYS_WRONG = ("fsync = off", "full_page_writes = off")
TABLES = """SELECT tablename AS name FROM pg_tables WHERE schemaname = 'coinslot' AND tablename <> 'engine'
            ORDER BY tablename"""
COLUMNS = """SELECT column_name AS name, CASE data_type WHEN 'bigint' THEN 'INTEGER' WHEN 'bytea' THEN 'BLOB'
                 ELSE upper(data_type) END AS type
             FROM information_schema.columns WHERE table_schema = 'coinslot' AND table_name = :name
             ORDER BY ordinal_position"""
INDEX = "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'coinslot' AND indexname = :name"
LINES = "SELECT CAST(t AS text) FROM {0} t ORDER BY 1"
VERSION = "SELECT string_agg(CAST(xmin AS text) || CAST(ctid AS text), ' ' ORDER BY ctid) FROM {0}"
WAITING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
FAULT = """CREATE OR REPLACE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION '{says}'; END $$;
           CREATE TRIGGER fault BEFORE {action} FOR EACH ROW {when} EXECUTE FUNCTION fault()"""
CHECKS = (
    "CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA public",
    """WITH trees AS MATERIALIZED (
           SELECT c.oid, c.relname FROM pg_class c JOIN pg_am a ON a.oid = c.relam
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE a.amname = 'btree' AND n.nspname = 'coinslot')
       SELECT relname FROM trees WHERE public.bt_index_check(oid, true) IS NULL""",
    """SELECT t.tablename, found.* FROM pg_tables t,
           LATERAL public.verify_heapam(CAST('coinslot.' || t.tablename AS regclass)) found
       WHERE t.schemaname = 'coinslot'""",
)

# The clock of the database, in the place of PostgreSQL's own: a moment, or so many seconds ahead, by the file.
_CLOCK = """
ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO machines_clock;
CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    moved text := pg_read_file('{file}');
    ahead text := current_setting('coinslot_test.ahead', true);
BEGIN
    IF left(moved, 1) = '=' THEN
        RETURN timestamptz 'epoch' + CAST(substr(moved, 2) AS bigint) * interval '1 microsecond';
    END IF;
    RETURN pg_catalog.machines_clock()
        + CAST(coalesce(nullif(moved, ''), nullif(ahead, ''), '0') AS float8) * interval '1 second';
END $$;
"""


@dataclass(frozen=True)
class Made:
    url: str
    master_key: str


_made: dict[Path, Made] = {}


def is_installed() -> bool:
    return bool(postgres.find_programs() or os.environ.get("TEST_POSTGRES"))


def environment(home: Path) -> dict[str, str]:
    found = _made.get(home.absolute()) or make(home)
    return {"COINSLOT_DATABASE": found.url, "COINSLOT_MASTER_KEY": found.master_key}


def make(home: Path, is_bare: bool = False) -> Made:
    assert home.absolute() not in _made, "it has a database"
    url = postgres.new_database(_template(is_bare))
    made = _made[home.absolute()] = Made(url, base64.b64encode(os.urandom(32)).decode())
    return made


def homes() -> set[Path]:
    """All that have a database now."""
    return set(_made)


def drop(home: Path) -> None:
    postgres.drop_database(_made.pop(home).url)


@cache
def _template(is_bare: bool) -> str:
    from coinslot.store.db import open_database

    url = postgres.new_database()
    import psycopg

    with psycopg.connect(postgres.superuser(url), autocommit=True) as connection:
        connection.execute(_CLOCK.replace("{file}", str(_clock_file())).encode())
    if not is_bare:
        with tempfile.TemporaryDirectory() as folder:
            database = open_database(Path(folder), url)
            database.prepare()
            database.close()
    return url


@contextmanager
def connected(home: Path) -> Iterator[sqlite3.Connection]:
    from coinslot.store.postgres.connection import PostgresConnection, open_connection

    raw = open_connection(postgres.superuser(_made[home.absolute()].url), "", "read-write")
    try:
        yield cast(sqlite3.Connection, PostgresConnection(raw))
    finally:
        raw.close()


@contextmanager
def holding(home: Path) -> Iterator[None]:
    """Nothing of Coinslot is committed in the block."""
    from coinslot.store.postgres.writer import LOCK

    with connected(home) as connection:
        connection.execute("SELECT pg_advisory_lock(:lock)", {"lock": LOCK})
        yield


def _remove(folder: Path, maker: int) -> None:
    if os.getpid() == maker:  # not in a forked child
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _clock_file() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="coinslot-clock-"))
    atexit.register(_remove, folder, os.getpid())
    folder.chmod(0o755)  # the database server may be another user
    file = folder / "clock"
    file.write_text("")
    return file


@contextmanager
def following(traveller: Any, is_ticking: bool) -> Iterator["MovedClock"]:
    """The databases' clock goes with that of this process, which ``time_machine`` has moved."""
    from coinslot.base import clock

    before = _clock_file().read_text()
    clock.set_ahead(0.0)
    try:
        yield MovedClock(traveller, is_ticking)
    finally:
        _set_clock(before)
        clock.set_ahead(0.0)


class MovedClock:
    """The methods of ``time_machine``'s traveller."""

    def __init__(self, traveller: Any, is_ticking: bool) -> None:
        self._traveller = traveller
        self._is_ticking = is_ticking
        self._follow()

    def shift(self, by: Any) -> None:
        self._traveller.shift(by)
        self._follow()

    def move_to(self, moment: Any, tick: bool | None = None) -> None:
        self._is_ticking = self._is_ticking if tick is None else tick
        self._traveller.move_to(moment, tick)
        self._follow()

    def _follow(self) -> None:
        if self._is_ticking:
            _set_clock(f"{time.time() - time_machine.escape_hatch.time.time():f}")
        else:
            _set_clock(f"={round(time.time() * 1_000_000)}")


def be_ahead(seconds: float) -> None:
    """For the rest of this process, the databases' clock is ahead in its connections alone."""
    import psycopg

    connect = psycopg.Connection.connect.__func__  # type: ignore[attr-defined]

    def ahead(kind: Any, url: str = "", **how: Any) -> Any:
        return connect(kind, url, **how | {"options": f"{how.get('options', '')} -c coinslot_test.ahead={seconds:f}"})

    psycopg.Connection.connect = classmethod(ahead)  # type: ignore[assignment,method-assign]
    psycopg.connect = psycopg.Connection.connect


def _set_clock(text: str) -> None:
    """``=MICROSECONDS``: it stands still; ``SECONDS``: it is so far ahead; nothing: it is the machine's."""
    file = _clock_file()
    new = file.with_name(f"{file.name}.new")
    new.write_text(text)
    new.replace(file)


@contextmanager
def statements() -> Iterator[list[str]]:
    import psycopg

    found: list[str] = []
    thread = threading.get_ident()
    execute = psycopg.Connection.execute

    def noted(connection: Any, query: Any, values: Any = None, **how: Any) -> Any:
        if threading.get_ident() == thread:
            found.append(psycopg.ClientCursor(connection).mogrify(query, values))
        return execute(connection, query, values, **how)

    psycopg.Connection.execute = noted  # type: ignore[method-assign]
    try:
        yield found
    finally:
        psycopg.Connection.execute = execute  # type: ignore[method-assign]
