"""A partner's report as a CSV file: how it is written, and its rows one after the other.

A file is looked through before it is read: what separates its cells, what its decimal sign is, whether its amounts are
whole units, and whether it ends with a line of totals. What that does not tell is asked for, never guessed.
"""

import csv
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import chain
from typing import IO

from coinslot.base import csv_separator, exact, money
from coinslot.base.spellings import shown
from coinslot.games.registry import LONGEST_ID
from coinslot.settlement.amounts import COMMA, POINT, written
from coinslot.settlement.columns import Layout, bare, currency_of, is_found, kind_of, known_places, places_of
from coinslot.settlement.judging import PAID, REFUNDED, UNREADABLE, PartnerRow
from coinslot.settlement.outcomes import ReconciliationError

LONGEST_LINE = 64 * 1024
LONGEST_SAMPLE = 120
MOST_SAMPLES = 5

_TOTAL = re.compile(
    r"\W*(?:grand |sub-?)?(?:totals?|totale|sum|summe|gesamt|gesamtsumme|合計|합계)(?:\W*|[\s:(].*)", re.IGNORECASE
)
_ID = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{LONGEST_ID}}}")
_FORMULA = re.compile(r'="([^"]*)"')  # as a spreadsheet keeps text that looks like a number
_UNSEEN = re.compile("[\u200b-\u200f\u2060\ufeff]")


@dataclass(frozen=True)
class Seen:
    """A file, looked through. ``places``: field -> number of its column; ``left_out`` are lines that are no rows."""

    places: Mapping[str, int]
    currency: str | None
    unit: str
    decimal: str | None
    left_out: frozenset[int]
    notes: tuple[str, ...]


def look_through(file: IO[str], layout: Layout) -> Seen:
    """How a file is to be read. Raises ReconciliationError where that cannot be seen, or nothing can be read."""
    records = _records(file)
    head = next(records, (0, []))[1]
    places = places_of(head, layout)
    currency = currency_of(head, places, layout)
    amounts = _Amounts(layout, places, currency)
    totals: list[tuple[int, list[str]]] = []
    lost: list[str] = []
    for line, cells in records:
        if _is_total(cells, places, amounts):
            totals.append((line, cells))
            continue
        totals.clear()  # only what the file ends with is a line of totals
        amounts.add(line, cells)
        if not 0 < len(_cell(cells, places, "reference")) <= LONGEST_ID and len(lost) < MOST_SAMPLES:
            lost.append(f"line {line} has no id that can be read: {_sample(cells, places)}")
    notes = [f"line {line} was left out as a line of totals: {_sample(cells)}" for line, cells in totals[:MOST_SAMPLES]]
    unit, decimal = amounts.unit(head), amounts.decimal()
    if unit != layout.report.unit and layout.unit is None:
        words = {
            "major": "whole units, since they have fractions",
            "minor": "the smallest units, by their column's name",
        }
        notes.append(f"amounts were read as {words[unit]}")
    found = [
        f"{field} from {head[place].strip()}" for field, place in places.items() if is_found(field, place, head, layout)
    ]
    if found:
        notes.append("columns were recognised: " + ", ".join(found))
    return Seen(places, currency, unit, decimal, frozenset(line for line, _ in totals), (*notes, *lost))


def guessed(file: IO[str], layout: Layout) -> tuple[Mapping[str, int], str, str | None]:
    """The columns that are known by their names, and unit and currency of the amounts, of a file that may lack some."""
    records = _records(file)
    head = next(records, (0, []))[1]
    places = known_places(head, layout)
    if "amount" not in places:
        return places, layout.report.unit, None
    currency = currency_of(head, places, layout)
    amounts = _Amounts(layout, places, currency)
    for line, cells in records:
        amounts.add(line, cells)
    return places, amounts.unit(head), currency


def read(file: IO[str], layout: Layout, seen: Seen | None = None) -> Iterator[list[PartnerRow] | None]:
    """What each line tells, nothing where it moves no money; None where not even its id can be read.

    Raises ReconciliationError where no line could be.
    """
    seen = seen or look_through(file, layout)
    file.seek(0)
    records = _records(file)
    next(records, None)
    for line, cells in records:
        if line not in seen.left_out:
            yield _rows(cells, seen, layout)


def _records(file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV file that are not blank, each with its number; the header is the first."""
    lines = _bounded(file)
    declared, first, number = None, "", 0
    with _in_words(lambda: number + 1):
        for number, first in enumerate(lines, 1):  # noqa: B007 (both are used below)
            declared = declared or csv_separator.declared(first)
            if first.strip() and csv_separator.declared(first) is None:
                break
    reader = csv.reader(chain([first], lines), delimiter=declared or csv_separator.of(first))
    with _in_words(lambda: number - 1 + reader.line_num):
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield number - 1 + reader.line_num, cells


@contextmanager
def _in_words(line: Callable[[], int]) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        raise ReconciliationError(f"line {line()} of the file is no CSV: {error}") from None
    except UnicodeDecodeError:
        raise ReconciliationError(f"the file is not UTF-8, after line {line()}") from None


class _Amounts:
    """What the amounts of a file tell of how they are written, all of them together."""

    def __init__(self, layout: Layout, places: Mapping[str, int], currency: str | None) -> None:
        self._layout, self._places, self._currency = layout, places, currency
        self._signs: set[str] = set()
        self._has_fractions = False
        self._open: tuple[int, str] | None = None
        self._sum, self._count = Decimal(0), 0

    def add(self, line: int, cells: list[str]) -> None:
        cell = _cell(cells, self._places, "amount")
        found = written(cell)
        if found is None:
            return
        if found.exact is not None:
            self._signs.update(found.decimal or "")
            self._has_fractions = self._has_fractions or found.has_fraction
            self._count += 1
            self._sum += found.exact
        elif COMMA in found.number and self._digits(cells) == 0:
            self._signs.add(POINT)  # a currency without decimals: the comma stands for thousands
        else:
            self._open = self._open or (line, cell)

    def is_sum(self, cell: str) -> bool:
        """Whether it is what the amounts so far come to."""
        found = written(cell)
        return self._count > 1 and found is not None and found.exact == self._sum

    def decimal(self) -> str | None:
        if self._layout.decimal is not None:
            return self._layout.decimal
        if self._open is not None and len(self._signs) != 1:
            line, cell = self._open
            raise ReconciliationError(
                f"{shown(cell, LONGEST_SAMPLE)} on line {line} may be thousands or a fraction, and no other amount of "
                "the file shows which; say what its decimal sign is, a point or a comma"
            )
        return next(iter(self._signs)) if len(self._signs) == 1 else None

    def unit(self, head: list[str]) -> str:
        if self._layout.unit is not None:
            return self._layout.unit
        name = bare(head[self._places["amount"]])
        if "minor" in name or "cents" in name:
            return "minor"
        return "major" if self._has_fractions else self._layout.report.unit

    def _digits(self, cells: list[str]) -> int | None:
        return money.exponent(_cell(cells, self._places, "currency").upper() or self._currency or "")


def _is_total(cells: list[str], places: Mapping[str, int], amounts: _Amounts) -> bool:
    """Whether a line may be one of totals: without an id, and called so, or with what the lines before come to."""
    reference = _cell(cells, places, "reference")
    if reference and not _TOTAL.fullmatch(reference):
        return False
    amount = _cell(cells, places, "amount")
    if written(amount) is None:
        return False
    return any(_TOTAL.fullmatch(cell) for cell in cells) or (not reference and amounts.is_sum(amount))


def _cell(cells: list[str], places: Mapping[str, int], field: str) -> str:
    place = places.get(field)
    return cells[place].strip() if place is not None and place < len(cells) else ""


def _reference(cells: list[str], places: Mapping[str, int], field: str = "reference") -> str:
    """An id without what a spreadsheet wraps it in; empty where there is none that can be read."""
    text = _cell(cells, places, field)
    if text[:1] in ("=", "'"):
        formula = _FORMULA.fullmatch(text)
        text = (formula[1] if formula else text.removeprefix("'")).strip()
    if not text.isascii():
        text = _UNSEEN.sub("", text).strip()
    return text if text and _ID.fullmatch(text) else ""


def _sample(cells: list[str], places: Mapping[str, int] | None = None) -> str:
    """What a line says in the columns that are read: the others may hold who a player is."""
    kept = cells if places is None else [cells[each] for each in sorted(set(places.values())) if each < len(cells)]
    return shown(", ".join(cell.strip() for cell in kept if cell.strip() and "@" not in cell), LONGEST_SAMPLE)


def _rows(cells: list[str], seen: Seen, layout: Layout) -> list[PartnerRow] | None:
    places = seen.places
    reference = _reference(cells, places)
    if not reference:
        return None
    row_id = _reference(cells, places, "row_id")
    kind = kind_of(_cell(cells, places, "kind"), layout.report.kinds)
    if kind == "":
        return []
    currency = _cell(cells, places, "currency").upper() or seen.currency or ""
    amount = _minor(_cell(cells, places, "amount"), currency, seen.unit, seen.decimal)
    if kind is None and amount is not None and not _cell(cells, places, "kind"):
        kind = REFUNDED if amount < 0 else PAID
    at, ours = _moment(_cell(cells, places, "at")), _cell(cells, places, "ours") or None
    # Without an id of its own a row is told from others by all that it says: only the same line twice is one row.
    row_id = row_id or hashlib.blake2b("\0".join(cells).encode(), digest_size=8).hexdigest()
    if kind is None or amount is None or (amount < 0 and kind != REFUNDED):
        code = currency if money.exponent(currency) is not None else None
        sample = _sample(cells, places)
        return [PartnerRow(reference, f"{row_id}:{UNREADABLE}", UNREADABLE, None, code, at, ours, sample)]
    return [PartnerRow(reference, f"{row_id}:{kind}", kind, format(abs(amount), "f"), currency, at, ours)]


@lru_cache(maxsize=8192)  # of a million purchases few have a price of their own
def _minor(cell: str, currency: str, unit: str, decimal: str | None) -> Decimal | None:
    """Exact, in minor units; None where it is no amount of a currency."""
    found = written(cell)
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


def _bounded(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if len(line) > LONGEST_LINE:
            raise csv.Error("it is too long")
        yield line
