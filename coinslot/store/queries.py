"""Statements that many modules make: read a row or a value, insert a row, keep a fact about the installation."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from coinslot.base import clock
from coinslot.store.db import Connection, Row


def row(connection: Connection, sql: str, values: Mapping[str, Any]) -> Row | None:
    """The first row; None when there is none."""
    found: Row | None = connection.execute(sql, values).fetchone()
    return found


def value(connection: Connection, sql: str, values: Mapping[str, Any]) -> Any:
    """The first column of the first row; None when there is no row."""
    found = connection.execute(sql, values).fetchone()
    return None if found is None else found[0]


def get(connection: Connection, column: str, table: str, **key: Any) -> Any:
    """A column of the row with this key, column = value; None when there is no such row."""
    return value(connection, _get_sql(column, table, tuple(key)), key)


def insert(tx: Connection, table: str, columns: Mapping[str, Any], ending: str = "") -> Row | None:
    """Insert a row, column -> value. ``ending`` is an ON CONFLICT or RETURNING clause; returns the row it returns."""
    inserted = tx.execute(_insert_sql(table, tuple(columns), ending), columns)
    # A row is fetched only where there may be one: over a network the statement then goes out with the next one.
    found: Row | None = inserted.fetchone() if "RETURNING" in ending else None
    return found


def equals(column: str, value: object) -> str:
    """A condition: the column has the value of the parameter of its name; where that is None, the column is NULL.

    ``=`` is never true of NULL, and other engines refuse ``IS :x``.
    """
    return f"{column} IS NULL" if value is None else f"{column} = :{column}"


def fact(connection: Connection, name: str) -> str | None:
    """What the installation knows about itself under a name (``schema.sql`` lists them); None when it is not there."""
    found: str | None = get(connection, "value", "installation", name=name)
    return found


def set_fact(tx: Connection, name: str, value: str) -> None:
    insert(
        tx,
        "installation",
        {"name": name, "value": value, "updated_at": clock.stamp()},
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
    )


@lru_cache(maxsize=256)
def _get_sql(column: str, table: str, key: tuple[str, ...]) -> str:
    return f"SELECT {column} FROM {table} WHERE {' AND '.join(f'{name} = :{name}' for name in key)}"  # noqa: S608


@lru_cache(maxsize=256)
def _insert_sql(table: str, columns: tuple[str, ...], ending: str) -> str:
    names, values = ", ".join(columns), ", ".join(f":{column}" for column in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({values}) {ending}"  # noqa: S608  our own words only
