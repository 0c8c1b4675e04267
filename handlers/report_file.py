"""A partner's report as a CSV file: which of its columns is what, and its rows one after the other."""

import csv
import hashlib
import heapq
import json
import marshal
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import IO

from coinslot import exact, money
from coinslot.reconciliation import PAID, PartnerRow, ReconciliationError
from coinslot.registry import LONGEST_ID
from handlers import Report

FIELDS = ("reference", "row_id", "kind", "amount", "currency", "at", "ours")
NEEDED = ("reference", "amount")
LONGEST_LINE = 64 * 1024
DIGEST_BYTES = 1024 * 1024
SORTED_AT_ONCE = 50_000  # rows: some 20 MiB
READ_AT_ONCE = 500

_ID = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{LONGEST_ID}}}")


@dataclass(frozen=True)
class Layout:
    """``columns``: our name of a field -> the file's. ``currency`` is that of every row where no column tells it.

    ``unit`` is ``major`` or ``minor``.
    """

    columns: Mapping[str, str]
    unit: str
    kinds: Mapping[str, tuple[str, ...]]
    currency: str | None = None

    @classmethod
    def of(
        cls, report: Report, columns: Mapping[str, str], unit: str | None = None, currency: str | None = None
    ) -> "Layout":
        """The partner's own, with what the owner says otherwise. Raises ReconciliationError."""
        for name in columns:
            if name not in FIELDS:
                raise ReconciliationError(f"there is no field {name}; use some of {', '.join(FIELDS)}")
        if currency is not None and money.exponent(currency) is None:
            raise ReconciliationError(f"nobody knows how many decimals {currency} has")
        return cls({**report.columns, **columns}, unit or report.unit, report.kinds, currency)

    def fingerprint(self, path: Path) -> str:
        """Of the file's content and how it is read."""
        digest = hashlib.sha256(json.dumps([dict(self.columns), self.unit, self.currency], sort_keys=True).encode())
        with path.open("rb") as file:
            while block := file.read(DIGEST_BYTES):
                digest.update(block)
        return digest.hexdigest()


def read(lines: Iterable[str], layout: Layout) -> Iterator[list[PartnerRow] | None]:
    """What each line tells, nothing where it moves no money; None where it cannot be read.

    Raises ReconciliationError where no line could be.
    """
    reader = csv.reader(_bounded(lines))
    try:
        head = [name.strip().removeprefix("\ufeff").lower() for name in next(reader, [])]
        wanted = {name: column.strip().lower() for name, column in layout.columns.items()}
        places = {name: head.index(column) for name, column in wanted.items() if column in head}
        for name in NEEDED:
            if name not in places:
                raise ReconciliationError(
                    f"the file has no column {layout.columns[name]} ({name}); name another one: {name}=..."
                )
        if "currency" not in places and layout.currency is None:
            raise ReconciliationError(f"the file has no column {layout.columns['currency']}; say which currency it is")
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _rows(cells, places, layout)
    except csv.Error as error:
        raise ReconciliationError(f"line {reader.line_num} of the file is no CSV: {error}") from None
    except UnicodeDecodeError:
        raise ReconciliationError(f"the file is not UTF-8, after line {reader.line_num}") from None


def in_order(lines: Iterable[list[PartnerRow] | None]) -> tuple[int, int, Iterator[PartnerRow]]:
    """How many rows there are, how many lines could not be read, and the rows in the order of their purchases' ids.

    A million rows that go into the database in that order cost a tenth of what they cost in any other. They are sorted
    in parts, in files that nobody else can open and that are gone with them.
    """
    parts: list[Iterator[PartnerRow]] = []
    part: list[PartnerRow] = []
    count = odd = 0
    for rows in lines:
        if rows is None:
            odd += 1
            continue
        count += len(rows)
        part += rows
        if len(part) >= SORTED_AT_ONCE:
            part.sort(key=_key)
            parts.append(_set_aside(part))
            part = []
    part.sort(key=_key)
    return count, odd, heapq.merge(*parts, part, key=_key)


def _key(row: PartnerRow) -> tuple[str, str]:
    return row[:2]


def _set_aside(part: list[PartnerRow]) -> Iterator[PartnerRow]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 closed by whoever has read it to the end, or forgets it
    for start in range(0, len(part), READ_AT_ONCE):
        marshal.dump([tuple(row) for row in part[start : start + READ_AT_ONCE]], file)
    marshal.dump([], file)
    file.seek(0)
    return _read_back(file)


def _read_back(file: IO[bytes]) -> Iterator[PartnerRow]:
    with file:
        while block := marshal.load(file):  # noqa: S302 (written by this process a moment ago)
            yield from map(PartnerRow._make, block)


def _rows(cells: list[str], places: Mapping[str, int], layout: Layout) -> list[PartnerRow] | None:
    told = {name: cells[place].strip() for name, place in places.items() if place < len(cells)}
    kinds = layout.kinds.get(told["kind"].lower()) if told.get("kind") else (PAID,)
    if kinds is None:
        return None
    if not kinds:
        return []
    currency = told.get("currency", "").upper() or layout.currency or ""
    reference, row_id = told.get("reference", ""), told.get("row_id", "")
    minor = _minor(told.get("amount", ""), currency, layout.unit)
    if minor is None or not _ID.fullmatch(reference) or not (row_id == "" or _ID.fullmatch(row_id)):
        return None
    at, ours = _moment(told.get("at", "")), told.get("ours") or None
    # A row without an id is that of its purchase: a report repeated in a file does not count twice.
    return [
        PartnerRow(reference, f"{row_id}:{kind}" if row_id else kind, kind, minor, currency, at, ours) for kind in kinds
    ]


@lru_cache(maxsize=4096)  # of a million purchases few have a price of their own
def _minor(text: str, currency: str, unit: str) -> str | None:
    """Exact text in minor units; None where it is no amount of a currency."""
    if not (len(currency) == 3 and currency.isascii()):
        return None
    try:
        amount = abs(Decimal(exact.figure(text)))
    except ValueError:
        return None
    minor = money.in_minor(amount, currency) if unit == "major" else amount
    return None if minor is None else format(minor, "f")


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
