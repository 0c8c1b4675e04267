"""Lists as CSV (RFC 4180), streamed: a file of millions of lines is never in memory as a whole.

``coinslot/base/csv_text.py`` decides how a cell is written, so that Excel and LibreOffice open it as it is meant.
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
    """Chunks of a CSV file: the header, then the rows as they come, each value as :func:`csv_text.cell` writes it.

    A column whose name begins with ``is_`` has yes or no, also where the database says 1 or 0.
    """
    buffer = io.StringIO()
    buffer.write(BYTE_ORDER_MARK)
    writer = csv.writer(buffer)
    writer.writerow([csv_text.cell(name) for name in header])
    answers = [number for number, name in enumerate(header) if name.startswith("is_")]
    for number, row in enumerate(rows, start=1):
        cells = [csv_text.cell(value) for value in row]
        for place in answers:
            cells[place] = csv_text.cell(None if row[place] is None else bool(row[place]))
        writer.writerow(cells)
        if number % LINES_AT_ONCE == 0:
            yield _taken(buffer)
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
