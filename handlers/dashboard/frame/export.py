"""Lists as CSV (RFC 4180), streamed: a file of millions of lines is never in memory as a whole.

Spreadsheets run a text that begins like a formula, so it gets an apostrophe in front. Numbers stay numbers.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from flask import Response

from coinslot.base import csv_text
from handlers.dashboard.frame.pages import download

BYTE_ORDER_MARK = "\ufeff"  # without it Excel reads UTF-8 as something else
LINES_AT_ONCE = 200


def csv_file(name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Response:
    """An answer that is such a file. ``name`` has no ending and no text of strangers."""
    return download(rows_as_csv(header, rows), f"{name}.csv", "text/csv")


def rows_as_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Chunks of a CSV file: the header, then the rows as they come. None is an empty cell, a bool is yes or no."""
    buffer = io.StringIO()
    buffer.write(BYTE_ORDER_MARK)
    writer = csv.writer(buffer)
    writer.writerow([cell(name) for name in header])
    for number, row in enumerate(rows, start=1):
        writer.writerow([cell(value) for value in row])
        if number % LINES_AT_ONCE == 0:
            yield _taken(buffer)
    yield _taken(buffer)


def cell(value: object) -> str | int | float:
    """A value as a cell has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return value
    text = csv_text.written(str(value))
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")  # many readers end the file at NUL


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
