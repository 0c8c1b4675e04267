"""CSV: what looks like a formula is text, numbers stay numbers, and a long list is never held as one."""

import csv
import io
from itertools import count, islice

import pytest

from handlers.dashboard.frame.export import BYTE_ORDER_MARK, LINES_AT_ONCE, cell, rows_as_csv


def read(text):
    return list(csv.reader(io.StringIO(text.removeprefix(BYTE_ORDER_MARK), newline="")))


STARTS = ["=1+1", "+1-2", "-x", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\u00a0=1", "\x00=1"]


@pytest.mark.parametrize("text", [*STARTS, "-1+1", "--1", "-", "-1.", "+1", "'=1", "''=1"])
def test_what_a_spreadsheet_would_run_is_text(text):
    assert cell(text).startswith("'")


@pytest.mark.parametrize("value", [-5, 0, 1.5, "-5", "-12.50", "9" * 40, "plain", "a=b", "'quoted", ""])
def test_numbers_and_plain_text_stay_as_they_are(value):
    assert cell(value) == value


def test_nothing_and_truth_are_said_in_words():
    assert [cell(None), cell(True), cell(False)] == ["", "yes", "no"]


def test_every_text_comes_back_as_it_was():
    row = ['a "quoted" cell', "two\nlines", "commas, and ; too", "\U0001f4b0", "\u202egnp.exe", "x" * 10_000]
    assert read("".join(rows_as_csv(["a"] * 6, [row]))) == [["a"] * 6, row]


def test_rows_are_written_as_they_come():
    pulled = []

    def endless():
        for number in count():
            pulled.append(number)
            yield [number]

    assert len(list(islice(rows_as_csv(["n"], endless()), 3))) == 3
    assert len(pulled) == 3 * LINES_AT_ONCE


def test_a_header_alone_is_a_file():
    assert "".join(rows_as_csv(["a", "b"], [])) == f"{BYTE_ORDER_MARK}a,b\r\n"
