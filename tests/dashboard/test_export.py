"""CSV: what looks like a formula is text, ids stay what they are, and a long list is never held as one."""

import csv
import io
import shutil
import subprocess
from datetime import date
from decimal import Decimal
from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinslot.base import csv_text
from coinslot.base.csv_text import cell
from handlers.dashboard.frame.export import BYTE_ORDER_MARK, LINES_AT_ONCE, rows_as_csv

FOR_LIBREOFFICE = "CSV:44,34,76,1,,0,false,true"  # comma, quotes, UTF-8; dates are recognized as Excel does


def read(text):
    return list(csv.reader(io.StringIO(text.removeprefix(BYTE_ORDER_MARK), newline="")))


STARTS = ["=1+1", "+1-2", "-x", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\u00a0=1", "\x00=1"]


@pytest.mark.parametrize("text", [*STARTS, "-1+1", "--1", "-", "-1.", "+1", "'=1", "''=1", '="1"'])
def test_what_a_spreadsheet_would_run_is_text(text):
    assert csv_text.written(text).startswith("'")


@pytest.mark.parametrize(
    "value", [-5, 0, 1.5, "-5", "12345678901", "plain", "a=b", "'quoted", "", "player-7", "1f3e-2"]
)
def test_numbers_and_plain_text_stay_as_they_are(value):
    assert cell(value) == value


ALTERED = [
    *(
        "0042",
        "007",
        "123456789012",
        "9" * 40,
        "1.10",
        "-12.50",
        "1,5",
        "1E5",
        "12e34",
        "1-2",
        "3/4",
        "2026-11",
        "12:30",
    ),
    *("2026-11-30", "Jan-5", "5 MAR", "TRUE", "false", "5%", "$5", "1 234", "7:00 pm"),
]


@pytest.mark.parametrize("text", ALTERED)
def test_a_text_that_a_spreadsheet_would_alter_is_written_as_text(text):
    assert cell(text) == f'="{text}"'


def test_amounts_are_numbers_with_all_their_digits():
    amounts = [csv_text.number(each) for each in ("9.90", "-0.005", "12000", "9" * 20, "999 minor units", None)]
    assert amounts[:2] == [Decimal("9.90"), Decimal("-0.005")]
    assert [cell(each) for each in amounts] == ["9.90", "-0.005", "12000", "9" * 20, "999 minor units", ""]
    assert cell(Decimal("1E+3")) == "1000"


def test_nothing_truth_and_times_have_one_spelling():
    assert [cell(None), cell(True), cell(False)] == ["", "yes", "no"]
    assert cell("2026-11-30T08:15:00.123456Z") == "2026-11-30 08:15:00"
    assert cell(date(2026, 11, 30)) == "2026-11-30"
    header, rows = ["is_test", "count"], [[1, 1], [0, 0], [None, None], [True, 2]]
    assert read("".join(rows_as_csv(header, rows))) == [
        *(["is_test", "count"], ["yes", "1"], ["no", "0"], ["", ""], ["yes", "2"])
    ]


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00")) | st.text("0123456789.-/:eE+' =\"", max_size=12)
)
def test_every_id_is_read_back_as_it_was(text):
    assert csv_text.read(csv_text.written(text)) == text or csv_text._ROUNDED.fullmatch(text)


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
def test_libreoffice_gives_back_what_it_was_given(tmp_path):
    """Opened and saved by LibreOffice: ids are the same, a time is a time."""
    ids = [*ALTERED, "plain", "42", "-5", *(each for each in STARTS if each.isprintable() and each.strip() == each)]
    rows = [[each, "2026-11-30T08:15:00.123456Z", csv_text.number("9.90"), True] for each in ids]
    (tmp_path / "a.csv").write_text("".join(rows_as_csv(["id", "at", "amount", "is_test"], rows)), newline="")
    profile = f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}"
    for source, kind, more in (("a.csv", "fods", [f"--infilter={FOR_LIBREOFFICE}"]), ("b/a.fods", "csv", [])):
        call = ["soffice", "--headless", profile, *more, "--convert-to", kind, "--outdir", "b", source]
        subprocess.run(call, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "b/a.fods").read_text().count('office:date-value="2026-11-30T08:15:00"') == len(ids)
    _, *saved = read((tmp_path / "b/a.csv").read_text())
    assert [csv_text.read(row[0]) for row in saved] == ids
    assert {tuple(row[1:]) for row in saved} == {("2026-11-30 08:15:00", "9.9", "yes")}


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
