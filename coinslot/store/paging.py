"""Lists a page at a time, newest first: each page continues below the lowest id of the page before."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from coinslot.store.db import Connection, Row

LAST_ID = 2**63 - 1  # the highest in SQLite

ROWS_AT_ONCE = 1000

# The rows of a page, and the id below which the next page begins; None on the last page.
Listed = tuple[list[Row], int | None]


def cut(rows: list[Row], limit: int) -> Listed:
    """A page of ``limit`` rows, from ``rows``, which has one more row where more follow."""
    return (rows, None) if len(rows) <= limit else (rows[:limit], int(rows[limit - 1]["id"]))


def every(page_below: Callable[[int], Listed]) -> Iterator[Row]:
    """The rows of all pages; each page is read when it is needed."""
    before: int | None = LAST_ID
    while before is not None:
        rows, before = page_below(before)
        yield from rows


def plain_rows(connection: Connection, query: str, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """The rows of a query as tuples, a thousand read at a time: for results of millions of rows."""
    cursor = connection.cursor()
    cursor.row_factory = None
    cursor.execute(query, values)
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        yield from rows
