"""Lists a page at a time, newest first: each page has what is below the lowest id of the page before it."""

from collections.abc import Callable, Iterator

from coinslot.store.db import Row

LAST_ID = 2**63 - 1  # SQLite has none above it

# The rows of a page, and the id that the page after is below; None on the last.
Listed = tuple[list[Row], int | None]


def cut(rows: list[Row], limit: int) -> Listed:
    """A page of ``limit`` rows, out of as many and, where more follow, one more."""
    return (rows, None) if len(rows) <= limit else (rows[:limit], int(rows[limit - 1]["id"]))


def every(page_below: Callable[[int], Listed]) -> Iterator[Row]:
    """The rows of all pages, each read when the one before is used up."""
    before: int | None = LAST_ID
    while before is not None:
        rows, before = page_below(before)
        yield from rows
