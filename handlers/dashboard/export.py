"""Lists as CSV (RFC 4180), a row at a time: a file of millions of lines is never held as one.

Spreadsheets run what looks like a formula. A text that begins like one gets an apostrophe in front, by which they know
it as text; numbers stay numbers, however long.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from flask import Response

from handlers.dashboard.pages import download

BEGIN_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
BYTE_ORDER_MARK = "\ufeff"  # without it Excel reads UTF-8 as something else
LINES_AT_ONCE = 200


def csv_file(name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Response:
    """The answer that is such a file; ``name`` is of our making and lacks its ending."""
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
    """A value as it may stand in a cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return value
    text = str(value)
    # Some programs leave out blanks and what cannot be seen before they look at the first character.
    is_formula = text.startswith(BEGIN_FORMULAS) or text.strip(" \x00\u00a0\ufeff").startswith(BEGIN_FORMULAS)
    # NUL ends the file for many readers.
    text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return f"'{text}" if is_formula and not _is_number(text) else text


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-")
    whole, point, fraction = digits.partition(".")
    return text.isascii() and whole.isdigit() and (fraction.isdigit() if point else True)


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
