"""A partner's report as a CSV file: how it is written, and its rows one after the other.

A file is looked through before it is read: what separates its cells, what its decimal sign is, whether its amounts are
whole units, and whether it ends with a line of totals. What the file does not show is asked for, never guessed.
"""

import csv
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import IO

from coinslot.base import csv_separator, csv_text, exact, money
from coinslot.base.spellings import shown
from coinslot.games.registry import LONGEST_ID
from coinslot.settlement import columns
from coinslot.settlement.amounts import LONGEST_SAMPLE, AmountStyle, parse_amount
from coinslot.settlement.columns import NEEDED, Layout, cell_of, currency_of, known_places, places_of
from coinslot.settlement.differences import PAID, REFUNDED, UNREADABLE, PartnerRow
from coinslot.settlement.runs import ReconciliationError

LONGEST_LINE = 64 * 1024
MOST_SAMPLES = 5
MOST_ABOVE = 30  # lines among which the header is looked for

_TOTAL = re.compile(
    r"\W*(?:grand |sub-?)?(?:totals?|totale|sum|summe|gesamt|gesamtsumme|合計|합계)(?:\W*|[\s:(].*)", re.IGNORECASE
)
_ID = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{LONGEST_ID}}}")
_FORMULA = re.compile(r'="([^"]*)"')  # as a spreadsheet keeps text that looks like a number
_UNSEEN = re.compile("[\u200b-\u200f\u2060\ufeff]")
_UNIT_WORDS = {"major": "whole units, since they have fractions", "minor": "the smallest units, by their column's name"}


@dataclass(frozen=True)
class Reading:
    """How to read a file. ``places``: field -> number of its column; ``left_out``: lines that are no rows."""

    places: Mapping[str, int]
    currency: str | None
    unit: str
    decimal: str | None
    left_out: frozenset[int]
    notes: tuple[str, ...]


def open_report(path: Path) -> IO[str]:
    """A report, to be looked through and read. Raises ReconciliationError for what is no text."""
    try:
        return csv_text.opened(path)
    except csv_text.UnreadableError as error:
        raise ReconciliationError(str(error)) from None


def look_through(file: IO[str], layout: Layout) -> Reading:
    """How to read a file. Raises ReconciliationError if the file does not show it, or nothing can be read."""
    start, head, records = _open(file, layout)
    places = places_of(head, layout)
    currency = currency_of(head, places, layout)
    style = AmountStyle(layout, head, places, currency)
    closing: list[tuple[int, list[str], str]] = []
    lost: list[str] = []
    for line, cells in records:
        if what := _closing(cells, places, style):
            closing.append((line, cells, what))
            continue
        closing.clear()  # only at the end of the file is such a line no row
        style.add(line, cells)
        if not 0 < len(cell_of(cells, places, "reference")) <= LONGEST_ID and len(lost) < MOST_SAMPLES:
            lost.append(f"line {line} has no id that can be read: {_sample(cells, places)}")
    unit, decimal = style.unit(), style.decimal()
    notes = [f"line {line} was left out as a line of {what}: {_sample(cells)}" for line, cells, what in closing]
    notes = notes[:MOST_SAMPLES]
    if start.has_title:
        notes.append(f"line {start.line} was read as the header, and the lines above it were left out")
    if getattr(file, "encoding", None) == csv_text.WINDOWS:
        notes.append("the file was read as Windows-1252, since it is not UTF-8")
    if unit != layout.report.unit and layout.unit is None:
        notes.append(f"amounts were read as {_UNIT_WORDS[unit]}")
    found = [
        f"{field} from {head[place].strip()}"
        for field, place in places.items()
        if columns.plain(layout.columns.get(field, "")) != columns.plain(head[place])
    ]
    if found:
        notes.append("columns were recognised: " + ", ".join(found))
    return Reading(places, currency, unit, decimal, frozenset(line for line, *_ in closing), (*notes, *lost))


def guess(file: IO[str], layout: Layout) -> tuple[Mapping[str, int], str, str | None]:
    """The columns whose names are known, and unit and currency of the amounts, of a file that may lack some."""
    _, head, records = _open(file, layout)
    places = known_places(head, layout)
    if "amount" not in places:
        return places, layout.report.unit, None
    currency = currency_of(head, places, layout)
    style = AmountStyle(layout, head, places, currency)
    for line, cells in records:
        style.add(line, cells)
    return places, style.unit(), currency


def read(file: IO[str], layout: Layout, reading: Reading | None = None) -> Iterator[list[PartnerRow] | None]:
    """The rows of each line, none where it moves no money; None where not even its id can be read.

    Raises ReconciliationError for a file that cannot be read.
    """
    reading = reading or look_through(file, layout)
    file.seek(0)
    for line, cells in _open(file, layout)[2]:
        if line not in reading.left_out:
            yield _rows(cells, reading, layout)


def head_and_rows(file: IO[str], layout: Layout, most: int) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the first rows as they are written. Raises ReconciliationError."""
    _, head, records = _open(file, layout)
    return head, [cells for _, cells in islice(records, most)]


@dataclass(frozen=True)
class _Start:
    """A file from its header on, which is on that line; ``has_title``: there is text above it."""

    line: int
    separator: str
    lines: Iterator[str]
    has_title: bool


def _open(file: IO[str], layout: Layout) -> tuple[_Start, list[str], Iterator[tuple[int, list[str]]]]:
    """Where a file begins, its header, and the lines below it that are not blank, each with its number."""
    start = _find_header(file, layout)
    records = _records(start)
    return start, next(records, (0, []))[1], records


def _find_header(file: IO[str], layout: Layout) -> _Start:
    """The header is the first line that names both an id and an amount; else the first of several cells.

    Programs write a title, an account or a period above it.
    """
    lines = _bounded(file)
    taken: list[str] = []
    with _csv_errors(lambda: len(taken) + 1):
        taken += islice(lines, MOST_ABOVE)
    declared = next(filter(None, map(csv_separator.declared, taken)), None)
    texts = [n for n, text in enumerate(taken) if text.strip() and csv_separator.declared(text) is None]
    heads = {number: _cells(taken[number], declared) for number in texts}
    named = (number for number, cells in heads.items() if known_places(cells, layout).keys() >= set(NEEDED))
    several = (number for number, cells in heads.items() if sum(bool(cell.strip()) for cell in cells) > 1)
    at = next(chain(named, several, texts), 0)
    separator = declared or csv_separator.of(taken[at] if taken else "")
    return _Start(at + 1, separator, chain(taken[at:], lines), any(number < at for number in texts))


def _cells(line: str, declared: str | None) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=declared or csv_separator.of(line)), [])
    except csv.Error:
        return []


def _records(start: _Start) -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV file that are not blank, each with its number; the header is the first."""
    taken = csv_text.Taken(start.lines)
    reader = csv.reader(taken, delimiter=start.separator)
    with _csv_errors(lambda: start.line - 1 + reader.line_num):
        for cells in reader:
            if len(taken.lines) > 1 and sum(each.count('"') for each in taken.lines) % 2:
                raise csv.Error(csv_text.UNCLOSED)  # at its end the reader gives what it has, without a word
            taken.clear()
            if any(cell.strip() for cell in cells):
                yield start.line - 1 + reader.line_num, cells


@contextmanager
def _csv_errors(line: Callable[[], int]) -> Iterator[None]:
    """Turn what is no CSV, and no text, into ReconciliationError with the number of the line."""
    try:
        yield
    except csv.Error as error:
        raise ReconciliationError(f"line {line()} of the file is no CSV: {error}") from None
    except UnicodeDecodeError:
        raise ReconciliationError(f"the file is no text, after line {line()}") from None


def _bounded(file: IO[str]) -> Iterator[str]:
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise csv.Error("it is too long")
        yield line


def _closing(cells: list[str], places: Mapping[str, int], style: AmountStyle) -> str | None:
    """What a line may be at the end of a file: ``words`` alone, or ``totals``.

    Totals have no id, and a word for totals or the sum of the lines before.
    """
    filled = [cell.strip() for cell in cells if cell.strip()]
    if len(filled) == 1 and " " in filled[0]:
        return "words"
    reference = cell_of(cells, places, "reference")
    if reference and not _TOTAL.fullmatch(reference):
        return None
    amount = cell_of(cells, places, "amount")
    if parse_amount(amount) is None:
        return None
    is_total = any(_TOTAL.fullmatch(cell) for cell in cells) or (not reference and style.is_sum(amount))
    return "totals" if is_total else None


def _reference(cells: list[str], places: Mapping[str, int], field: str = "reference") -> str:
    """An id without what a spreadsheet adds to it; empty where there is none that can be read."""
    text = cell_of(cells, places, field)
    if text[:1] in ("=", "'"):
        formula = _FORMULA.fullmatch(text)
        text = (formula[1] if formula else text.removeprefix("'")).strip()
    if not text.isascii():
        text = _UNSEEN.sub("", text).strip()
    return text if text and _ID.fullmatch(text) else ""


def _sample(cells: list[str], places: Mapping[str, int] | None = None) -> str:
    """What a line says in the columns that are read: others may hold who a player is."""
    kept = cells if places is None else [cells[each] for each in sorted(set(places.values())) if each < len(cells)]
    return shown(", ".join(cell.strip() for cell in kept if cell.strip() and "@" not in cell), LONGEST_SAMPLE)


def _rows(cells: list[str], reading: Reading, layout: Layout) -> list[PartnerRow] | None:
    places = reading.places
    reference = _reference(cells, places)
    if not reference:
        return None
    word = cell_of(cells, places, "kind")
    kind = columns.kind_of(word, layout.report.kinds)
    if kind == "":
        return []
    currency = cell_of(cells, places, "currency").upper() or reading.currency or ""
    amount = _minor(cell_of(cells, places, "amount"), currency, reading.unit, reading.decimal)
    if kind is None and amount is not None and not word:
        kind = REFUNDED if amount < 0 else PAID
    at, ours = _moment(cell_of(cells, places, "at")), cell_of(cells, places, "ours") or None
    # Without an id of its own a row is identified by all that it says: only the same line twice is one row.
    row_id = (
        _reference(cells, places, "row_id") or hashlib.blake2b("\0".join(cells).encode(), digest_size=8).hexdigest()
    )
    if kind is None or amount is None or (amount < 0 and kind != REFUNDED):
        code = currency if money.exponent(currency) is not None else None
        sample = _sample(cells, places)
        return [PartnerRow(reference, f"{row_id}:{UNREADABLE}", UNREADABLE, None, code, at, ours, sample)]
    return [PartnerRow(reference, f"{row_id}:{kind}", kind, format(abs(amount), "f"), currency, at, ours)]


@lru_cache(maxsize=8192)  # most purchases have one of few prices
def _minor(cell: str, currency: str, unit: str, decimal: str | None) -> Decimal | None:
    """Exact, in minor units; None if it is no amount of that currency."""
    found = parse_amount(cell)
    if found is None or not (len(currency) == 3 and currency.isascii()) or found.code not in (None, currency):
        return None
    amount = found.value(decimal)
    try:
        exact.figure(amount)
    except ValueError:
        return None
    return money.in_minor(amount, currency) if amount is not None and unit == "major" else amount


def _moment(text: str) -> str | None:
    try:
        found = datetime.fromisoformat(text)
        found = found.astimezone(UTC) if found.tzinfo else found
        return f"{found.isoformat(timespec='microseconds')[:26]}Z"
    except (ValueError, OverflowError, OSError):
        return None
