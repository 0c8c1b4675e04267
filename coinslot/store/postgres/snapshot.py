"""One state of the database for several queries; results of millions of rows come a part at a time."""

from collections.abc import Mapping
from typing import Any

import psycopg

from coinslot.store.postgres.connection import PostgresConnection


class Snapshot(PostgresConnection):
    """A connection inside of a transaction that reads one state."""

    def __init__(self, raw: "psycopg.Connection[Any]") -> None:
        super().__init__(raw)
        self.cursors = 0

    def cursor(self) -> Any:
        return _Cursor(self)


class _Cursor:
    """A cursor of the database server: it keeps the rows that were not fetched."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.row_factory: object = None  # rows are tuples anyway
        self._snapshot = snapshot
        snapshot.cursors += 1
        self._name = f"cursor_{snapshot.cursors}"

    def execute(self, sql: str, values: Mapping[str, Any]) -> None:
        self._snapshot.execute(f"DECLARE {self._name} NO SCROLL CURSOR FOR {sql}", values)

    def fetchmany(self, size: int) -> list[Any]:
        rows: list[Any] = self._snapshot.execute(f"FETCH {size:d} FROM {self._name}").fetchall()
        if not rows:
            self._snapshot.execute(f"CLOSE {self._name}")
        return rows
