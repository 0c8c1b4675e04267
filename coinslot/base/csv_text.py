"""CSV files as spreadsheets and tools write them: encoding, records and cells.

Excel writes UTF-8 with a byte order mark, or UTF-16, and may declare the separator in a first line. What a cell looks
like is decided here alone:

* Text that looks like a formula gets an apostrophe in front, since spreadsheets run it.
* Text that looks like a number, a date or a truth value is written ``="0042"``. Excel and LibreOffice show 0042 and
  keep it as text; without that they drop zeros in front, round from 16 digits on, and make dates of 1-2.
* A time is written as ``2026-11-30 08:15:00``, in UTC: Excel reads no time with a T or with microseconds.

:func:`read` takes the first two away again.
"""

import codecs
import csv
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import IO

from coinslot.base import csv_separator

LONGEST_LINE = 64 * 1024  # characters
LONGEST_RECORD = 2 * LONGEST_LINE  # likewise: quotes may hold line ends, and one that is never closed holds the file
LONGEST_ALTERED = 255  # characters: Excel takes no longer text in a formula
BEGIN_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
COMMENTS = ("#", "//")
MARKS_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

WINDOWS = "cp1252"
UNCLOSED = "a quotation mark is not closed"

_BLOCK_BYTES = 1024 * 1024
_AS_TEXT = re.compile('="([^"]*)"')  # how some programs keep Excel from changing digits
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?Z")
_PLAIN_NUMBER = re.compile("-?[0-9]+(?:[.][0-9]+)?")
_SURE_NUMBER = re.compile("-?(?:0|[1-9][0-9]{0,10})")  # from 12 digits on, Excel writes powers of ten
_SIGNS = r"0-9 .,:;/'()+\-$\u20ac\u00a3\u00a5\u20a9%"
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_ALTERED = (
    re.compile(rf"[{_SIGNS}]*[0-9][{_SIGNS}]*"),  # a number, a date, a time, an amount, a fraction
    re.compile(rf"[{_SIGNS}]*[0-9][{_SIGNS}]*[eE][{_SIGNS}]*"),  # a power of ten
    re.compile(rf"[{_SIGNS}]*[0-9][{_SIGNS}]*(?:[aApP][mM]| [aApP])"),  # a time
    re.compile(rf"(?=.*[0-9])[{_SIGNS}]*(?i:{_MONTHS})[A-Za-z]{{0,6}}[{_SIGNS}]*"),  # a date in English
    re.compile("true|false", re.IGNORECASE),
)
_ROUNDED = re.compile(r"[0-9][.,][0-9]+E\+[0-9]+", re.IGNORECASE)

Watch = Callable[[int], None]


class UnreadableError(Exception):
    """The file cannot be read from this line on."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def cell(value: object) -> str | int | float:
    """A value as a cell has it. Text is an id or the like, and stays what it is: an amount has to be a number.

    None is an empty cell, a bool ``yes`` or ``no``. A time as the database has it loses its microseconds.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return value
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, date):
        return value.isoformat()
    text = str(value).replace("\x00", "\N{REPLACEMENT CHARACTER}")  # many readers end the file at NUL
    return f"{text[:10]} {text[11:19]}" if _TIME.fullmatch(text) else written(text)


def number(text: str | None) -> Decimal | str | None:
    """An amount in text as a number for :func:`cell`, with its digits as they are; what is no number stays text."""
    return Decimal(text) if text is not None and _PLAIN_NUMBER.fullmatch(text) else text


def written(text: str) -> str:
    """A text for a cell, which a spreadsheet neither runs nor alters."""
    safe = harmless(text)
    return f'="{text}"' if safe == text and _is_altered(text) else safe


def harmless(text: str) -> str:
    """A text for a cell, which a spreadsheet does not run. For files that other programs read, too."""
    return f"'{text}" if _is_formula(text.lstrip("'")) and not _PLAIN_NUMBER.fullmatch(text) else text


def read(cell: str) -> str:
    """What :func:`written` was given. Raises ValueError for digits that a spreadsheet has rounded."""
    if wrapped := _AS_TEXT.fullmatch(cell):
        return wrapped[1]
    if _ROUNDED.fullmatch(cell):
        raise ValueError("a spreadsheet has rounded this number; format the column as text and write it again")
    return cell[1:] if cell.startswith("'") and _is_formula(cell.lstrip("'")) else cell


def _is_formula(text: str) -> bool:
    # Some programs skip blanks and invisible characters before the first one.
    return text.startswith(BEGIN_FORMULAS) or text.strip(" \x00\u00a0\ufeff").startswith(BEGIN_FORMULAS)


def _is_altered(text: str) -> bool:
    """Whether a spreadsheet may make something else of it. A wrong yes does no harm."""
    if len(text) > LONGEST_ALTERED or _SURE_NUMBER.fullmatch(text):
        return False
    return any(each.fullmatch(text) for each in _ALTERED)


def opened(path: Path) -> IO[str]:
    """A partner's file, opened as UTF-8, UTF-16, or else Windows-1252; the ``encoding`` of the result says which.

    Raises :class:`UnreadableError` for a file in none of these.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(MARKS_16):
        encodings: tuple[str, ...] = ("utf-16",)
    elif start[1::2] == b"\0\0":
        encodings = ("utf-16-le",)
    else:
        encodings = ("utf-8-sig", WINDOWS)
    for encoding in encodings:
        if _is_written_in(path, encoding):
            return path.open(encoding=encoding, newline="")
    raise UnreadableError(1, "it is not UTF-8, UTF-16 or Windows-1252")


def _is_written_in(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        try:
            while block := file.read(_BLOCK_BYTES):
                if "\0" in decoder.decode(block) and encoding == WINDOWS:
                    return False
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


@dataclass(frozen=True)
class Record:
    """``line`` is where the record begins; ``text`` is all of it as in the file."""

    line: int
    cells: list[str]
    text: str


@dataclass(frozen=True)
class Table:
    """``comments`` are the numbers of the lines above the first record that begin like a comment."""

    separator: str
    is_declared: bool
    comments: list[int]
    records: Iterator[Record]


@contextmanager
def table(file: IO[bytes], watch: Watch) -> Iterator[Table]:
    """A file's records, without blank lines and lines of empty cells. The first line declares the separator, or it is
    guessed from the first record. Raises :class:`UnreadableError`, also while the records are read.
    """
    with closing(_lines(file, watch)) as lines:
        separator, comments, begins, first = None, [], 0, ""
        for first in lines:
            begins += 1
            declared = csv_separator.declared(first) if begins == 1 else None
            separator = separator or declared
            if first.startswith(COMMENTS):
                comments.append(begins)
            elif first.strip() and declared is None:
                break
        else:
            first = ""
        chosen = separator or csv_separator.of(first)
        yield Table(chosen, separator is not None, comments, _records(chain([first], lines), chosen, begins))


class Taken:
    """Lines for :func:`csv.reader`, those of the record that it is reading kept as ``lines``.

    Raises csv.Error for a record of more than :data:`LONGEST_RECORD` characters, of however many cells.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines: list[str] = []
        self._lines = lines
        self._length = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.lines.append(line)
            self._length += len(line)
            if self._length > LONGEST_RECORD:
                raise csv.Error(f"a row is longer than {LONGEST_RECORD} characters; a quotation mark may not be closed")
            yield line

    def clear(self) -> None:
        """The record is read; the next one begins."""
        self.lines.clear()
        self._length = 0


def _records(lines: Iterator[str], separator: str, begins: int) -> Iterator[Record]:
    taken = Taken(lines)
    reader = csv.reader(taken, delimiter=separator, strict=True)
    before = begins - 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = str(error).replace("unexpected end of data", UNCLOSED)
            raise UnreadableError(begins, f"not CSV: {problem}") from None
        if any(cells):
            yield Record(begins, cells, "".join(taken.lines))
        taken.clear()
        begins = before + reader.line_num + 1


def _lines(file: IO[bytes], watch: Watch) -> Generator[str, None, None]:
    """The lines of a file in UTF-8, with or without a byte order mark, or in UTF-16 with one."""
    block = file.read(len(codecs.BOM_UTF16_LE))
    name, codec = ("UTF-16", "utf-16") if block in MARKS_16 else ("UTF-8", "utf-8-sig")
    decoder, number, rest = codecs.getincrementaldecoder(codec)(), 0, ""
    while True:
        try:
            rest += decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].count(b"\n")
            raise UnreadableError(number + before + 1, f"not {name}") from None
        *whole, rest = rest.split("\n")
        for line in [f"{each}\n" for each in whole] + ([] if block or not rest else [rest]):
            number += 1
            if "\0" in line:
                raise UnreadableError(number, "holds a NUL character")
            if len(line) > LONGEST_LINE:
                raise UnreadableError(number, f"longer than {LONGEST_LINE} characters")
            yield line
        if len(rest) > LONGEST_LINE:
            raise UnreadableError(number + 1, f"longer than {LONGEST_LINE} characters")
        if not block:
            break
        watch(len(block))
        block = file.read(LONGEST_LINE)
    if number == 0 and codec == "utf-16":
        raise UnreadableError(1, "the file is empty")
