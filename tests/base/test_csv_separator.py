"""The separator of a CSV file, as spreadsheets write it."""

import pytest

from coinslot.base import csv_separator


@pytest.mark.parametrize(
    ("line", "separator"),
    [
        ("player_id,name\n", ","),
        ("player_id;name\r\n", ";"),
        ("player_id\tname", "\t"),
        ("player_id|name", "|"),
        ('"Amount, gross";"Fee, net";id', ";"),
        ('"a;b;c",d', ","),
        ("player_id", ","),
        ("", ","),
    ],
)
def test_the_separator_of_a_header_line_is_the_one_outside_of_quotes(line, separator):
    assert csv_separator.of(line) == separator


@pytest.mark.parametrize(
    ("line", "separator"),
    [("sep=;\r\n", ";"), ("\ufeffSEP=\t\n", "\t"), ('"sep=|"\n', "|"), ("sep=x\n", None), ("separator;x\n", None)],
)
def test_a_line_may_declare_the_separator(line, separator):
    assert csv_separator.declared(line) == separator
