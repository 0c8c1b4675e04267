"""A psycopg connection as the rest knows connections: the part of ``sqlite3.Connection`` that Coinslot uses.

Values come back as SQLite gives them: whole numbers as int, sums among them; truth as 0 or 1; bytes as bytes.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any

import psycopg
from psycopg.adapt import Buffer, Dumper, Loader

from coinslot.store.postgres import address
from coinslot.store.postgres.text import translated

NO_TEXT = "\ufdd0"  # no character, so that no text of ours holds it
CONNECT_SECONDS = 3  # to each host that the address names
ROWS_AT_ONCE = 500  # of values in one INSERT
UNSENT_LENGTH = 500_000  # characters of statements of a write, after which they are sent
NAMES = WRITER, READER, LISTENER, OTHER = "coinslot writer", "coinslot reader", "coinslot listener", "coinslot"
# ``max_parallel_workers_per_gather``: the branches of a UNION ALL come one after another, as written. Compiling a
# statement takes longer than any of ours. Cursors are read to their end. ``tcp_``: the database notices that we are
# gone as soon as we notice it. Every list has an index, and a table is read from end to end only where there is none:
# PostgreSQL would also do it where it guesses that the first rows will do, or that a disk seeks slowly. The same holds
# for joins, which SQLite makes row by row through an index: of a bound that comes from a row PostgreSQL guesses badly.
SETTINGS = {
    "search_path": "coinslot",
    "timezone": "UTC",
    "standard_conforming_strings": "on",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "cursor_tuple_fraction": "1",
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "random_page_cost": "1.1",
}
# How SQLSTATE begins where the database is away; PostgreSQL gives none where it was not reached at all. 57P: it ends or
# begins. Not 25P03, which says that we were frozen in the middle of a transaction.
_AWAY = ("08", "57P")
# A server that is gone without a word is noticed within some ten seconds.
KEEPALIVE = {"keepalives_idle": 4, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}

# An INSERT whose rows may all be in one statement: none of them can be in the way of another, or it is left out.
_OF_MANY_ROWS = re.compile(
    r"\s*INSERT INTO \w+ \([\w\s,]+\)\s+VALUES\s+(?P<row>\([^()]*\))\s*(?:ON CONFLICT \([\w\s,]+\) DO NOTHING\s*)?"
)


class PostgresError(sqlite3.OperationalError):
    """What psycopg raised, under a name that the rest knows. ``is_lost``: the database is away, or was not reached."""

    is_lost = False


class PostgresIntegrityError(PostgresError, sqlite3.IntegrityError):
    """A constraint or a trigger refused a row."""


@contextmanager
def known_errors() -> Iterator[None]:
    """Raise psycopg's errors as ours. Details may quote values of a statement: only the server's message is kept."""
    try:
        yield
    except psycopg.IntegrityError as error:
        raise PostgresIntegrityError(_words(error)) from None
    except psycopg.Error as error:
        known = PostgresError(_words(error))
        known.is_lost = isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08").startswith(_AWAY)
        raise known from None


def _words(error: psycopg.Error) -> str:
    state = error.sqlstate or ""
    first = (error.diag.message_primary or str(error)).splitlines()
    if not first or state[:2] == "22" or state == "42601":  # about a value, or a statement's text: they are quoted
        first = [type(error).__name__]
    return f"{first[0]} ({state})" if state else first[0]


class Row(tuple[Any, ...]):
    """One row, read by number or by name; the part of ``sqlite3.Row`` that Coinslot uses."""

    __slots__ = ()
    places: Mapping[str, int] = {}

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, self.places[key] if isinstance(key, str) else key)

    def keys(self) -> list[str]:
        return list(self.places)


@lru_cache(maxsize=1024)
def _row_type(names: tuple[str, ...]) -> type[Row]:
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        places.setdefault(name, place)
    return type("Row", (Row,), {"__slots__": (), "places": places})


def _as_rows(cursor: psycopg.Cursor[Any]) -> Any:
    if cursor.description is None:
        return tuple
    return _row_type(tuple(column.name for column in cursor.description))


class _Number(Loader):
    """Sums of bigint are ``numeric``."""

    def load(self, data: Buffer) -> int | Decimal:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdigit() else Decimal(text)


class _Truth(Loader):
    def load(self, data: Buffer) -> int:
        return int(bytes(data) == b"t")


class _Text(Loader):
    """JSON that a statement makes is text for who reads it."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode()


class _TruthAsNumber(Dumper):
    """Columns that hold 0 or 1 are numbers."""

    oid = psycopg.postgres.types["int8"].oid

    def dump(self, obj: bool) -> bytes:
        return b"1" if obj else b"0"


def open_connection(url: str, options: str, target: str, name: str = OTHER) -> "psycopg.Connection[Any]":
    """A connection in autocommit mode, its statements in the schema ``coinslot``.

    ``options`` are settings as ``-c name=value``; ``target`` is libpq's target_session_attrs; ``name`` is what the
    database's administrator sees, one of :data:`NAMES`.
    """
    with known_errors():
        connection: psycopg.Connection[Any] = psycopg.connect(**parameters(url, options, target, name))
        adapt(connection)
        return connection


def parameters(url: str, options: str, target: str, name: str) -> dict[str, Any]:
    """Keyword arguments for ``psycopg.connect``. What the address names beside the database is kept."""
    named = address.read(url)
    ours = " ".join(f"-c {setting}={value}" for setting, value in SETTINGS.items())
    return {
        "connect_timeout": CONNECT_SECONDS,
        **KEEPALIVE,
        **named,
        "autocommit": True,
        "cursor_factory": psycopg.ClientCursor,
        "row_factory": _as_rows,
        "application_name": name,
        "client_encoding": "utf8",
        "target_session_attrs": target,
        "options": f"{named.get('options', '')} {ours} {options}",
    }


def adapt(connection: "psycopg.Connection[Any]") -> None:
    """Have values come back as SQLite gives them."""
    connection.adapters.register_loader("numeric", _Number)
    connection.adapters.register_loader("bool", _Truth)
    connection.adapters.register_loader("json", _Text)
    connection.adapters.register_dumper(bool, _TruthAsNumber)


class Result:
    """What a statement gave, as ``sqlite3.Cursor`` gives it."""

    def __init__(self, rows: Sequence[Any], rowcount: int) -> None:
        self.rowcount = rowcount
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchmany(self, size: int) -> list[Any]:
        return list(islice(self._rows, size))

    def fetchall(self) -> list[Any]:
        return list(self._rows)


def _bound(raw: "psycopg.Connection[Any]", sql: str, values: Mapping[str, Any] | Sequence[Any]) -> str:
    """The statement with its values in it.

    No text of PostgreSQL holds a NUL. Who looks for one finds nothing, as in SQLite; to store one is an error.
    """
    cursor = psycopg.ClientCursor(raw)
    try:
        return cursor.mogrify(translated(sql), values or {})
    except psycopg.DataError:
        if not isinstance(values, Mapping) or sql.split(None, 1)[0].upper() not in ("SELECT", "DELETE", "WITH"):
            raise
        found = {name: each.replace("\0", NO_TEXT) if isinstance(each, str) else each for name, each in values.items()}
        return cursor.mogrify(translated(sql), found)


class PostgresConnection:
    """A connection to read with, for the thread that holds it."""

    def __init__(self, raw: "psycopg.Connection[Any]") -> None:
        self.raw = raw

    def execute(self, sql: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> Any:
        with known_errors():
            cursor = self.raw.execute(_bound(self.raw, sql, values).encode())
            return Result(cursor.fetchall() if cursor.description else (), cursor.rowcount)

    def cursor(self) -> "_PlainCursor":
        return _PlainCursor(self)


class WritingConnection(PostgresConnection):
    """A connection inside a transaction. A statement whose result nobody asks for goes out with the next one.

    So a write takes few turns over the network. What a statement raises is raised where its result, or that of a later
    one, is asked for, or by :meth:`send`.
    """

    def __init__(self, raw: "psycopg.Connection[Any]") -> None:
        super().__init__(raw)
        self.sends = 0
        self._unsent: list[tuple[str, _Awaited | None]] = []
        self._unsent_length = 0

    def execute(self, sql: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> Any:
        return self._send_later(self._text(sql, values))

    def executemany(self, sql: str, rows: Iterable[Mapping[str, Any] | Sequence[Any]]) -> Any:
        found = _OF_MANY_ROWS.fullmatch(sql)
        if found is None:
            return _Together([self.execute(sql, values) for values in rows])
        # One statement for many rows takes less than half of the time.
        row, head, ending = found["row"], sql[: found.start("row")], sql[found.end("row") :]
        results, rest = [], iter(rows)
        while some := [self._text(row, values) for values in islice(rest, ROWS_AT_ONCE)]:
            results.append(self._send_later(f"{head}{', '.join(some)}{ending}"))
        return _Together(results)

    def add(self, text: str) -> None:
        """A statement of the engine's own, whose result is not wanted."""
        self._unsent.append((text, None))

    def discard(self) -> None:
        """Never send what was not sent."""
        self._unsent.clear()
        self._unsent_length = 0

    def _text(self, sql: str, values: Mapping[str, Any] | Sequence[Any]) -> str:
        with known_errors():
            return _bound(self.raw, sql, values)

    def _send_later(self, text: str) -> "_Awaited":
        awaited = _Awaited(self)
        self._unsent.append((text, awaited))
        self._unsent_length += len(text)
        if self._unsent_length > UNSENT_LENGTH:
            self.send()
        return awaited

    def send(self) -> None:
        """Send what was not sent. Raises what any of it raises; the transaction is then of no use."""
        if not self._unsent:
            return
        unsent, self._unsent, self._unsent_length = self._unsent, [], 0
        self.sends += 1
        with known_errors():
            cursor = self.raw.execute("\n;\n".join(text for text, _ in unsent).encode())
            for _, awaited in unsent:
                if awaited is not None:
                    awaited.result = Result(cursor.fetchall() if cursor.description else (), cursor.rowcount)
                cursor.nextset()


class _Awaited:
    """The result of a statement that may not be sent yet."""

    def __init__(self, connection: WritingConnection) -> None:
        self._connection = connection
        self.result: Result | None = None

    def _get(self) -> Result:
        if self.result is None:
            self._connection.send()
        assert self.result is not None, "the write is over, and the statement was never sent"
        return self.result

    @property
    def rowcount(self) -> int:
        return self._get().rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._get())

    def fetchone(self) -> Any:
        return self._get().fetchone()

    def fetchmany(self, size: int) -> list[Any]:
        return self._get().fetchmany(size)

    def fetchall(self) -> list[Any]:
        return self._get().fetchall()


class _Together:
    """The results of one statement with many rows of values."""

    def __init__(self, results: Sequence[_Awaited]) -> None:
        self._results = results

    @property
    def rowcount(self) -> int:
        return sum(each.rowcount for each in self._results)


class _PlainCursor:
    """For ``queries.plain_rows``: its rows are tuples anyway."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.row_factory: object = None
        self._result: Any = None

    def execute(self, sql: str, values: Mapping[str, Any]) -> None:
        self._result = self._connection.execute(sql, values)

    def fetchmany(self, size: int) -> list[Any]:
        found: list[Any] = self._result.fetchmany(size)
        return found
