"""Exact numbers and strict JSON."""

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinslot.base import exact


@pytest.mark.parametrize(
    ("number", "spellings"),
    [
        (0, [0, -0, "0", "000", Decimal("0e5"), Decimal("0.0")]),
        (10**21, [Decimal("1e21")]),
        (1000, ["1E3"]),
        (-5, ["-5"]),
        (7, [" 7 "]),
        (10, [Decimal("10.000")]),
        (10**40 - 1, [10**40 - 1]),
    ],
)
def test_whole(number, spellings):
    assert [exact.whole(value, 40) for value in spellings] == [number] * len(spellings)


@pytest.mark.parametrize(
    "values",
    [
        [1.0, True, None, [], 10**40],
        [Decimal(text) for text in ("0.5", "1e40", "1e999999999999", "NaN", "Infinity")],
        ["", " ", "1.5", "1e999", "0x10", "1_000", "١", "+1", "NaN", "Infinity", "1e-7"],
    ],
    ids=["kinds", "decimals", "texts"],
)
def test_not_whole(values):
    started = time.perf_counter()
    for value in values:
        with pytest.raises(ValueError):
            exact.whole(value, 40)
    assert time.perf_counter() - started < 1  # never makes the big integer first


@given(st.integers(-(10**40) + 1, 10**40 - 1), st.integers(0, 30))
def test_whole_numbers_with_any_number_of_zeros_behind_the_point(number, zeros):
    spelled = f"{number}.{'0' * zeros}" if zeros else str(number)
    assert exact.whole(spelled, 40) == exact.whole(Decimal(spelled), 40) == number


@given(st.integers(-(10**20), 10**20), st.integers(1, 9), st.integers(1, 20))
def test_a_fraction_is_never_whole(number, digit, places):
    with pytest.raises(ValueError):
        exact.whole(f"{number}.{'0' * (places - 1)}{digit}", 40)


@given(st.decimals(-(10**15), 10**15, allow_nan=False, allow_infinity=False, places=8))
def test_figures_are_the_same_number_in_plain_digits(number):
    text = exact.figure(number)
    assert Decimal(text) == number
    assert "e" not in text.lower()


@pytest.mark.parametrize("value", ["", "1e31", "1e-31", "9" * 31, True, None, 1.5, "abc", Decimal("NaN")])
def test_no_figure(value):
    with pytest.raises(ValueError):
        exact.figure(value)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"\xff", "it is not UTF-8"),
        ("{}".encode("utf-16"), "it is not UTF-8"),
        (b"-Infinity", "-Infinity is not JSON"),
        (b"1e9999999999999999999", "a number is out of range"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\udc00":1}', "half of a surrogate pair"),
        (b'["a", "\\ud83d\\ud83d"]', "half of a surrogate pair"),
        (b'{"password": "hunter2"', "it is not JSON"),
        (b'{"a": 1} hunter2', "it is not JSON"),
        (b'{"a": "hunter2\xff"}', "it is not UTF-8"),
        (b"NaN", "NaN is not JSON"),
        (b"[" * 100000, "nested too deeply"),
        (b"1" * 5000, "a number is too long"),
    ],
)
def test_why_it_is_no_json_is_said_in_our_words_without_places_or_bytes(raw, words):
    with pytest.raises(ValueError) as caught:
        exact.parse_json(raw)

    assert (type(caught.value), str(caught.value)) == (ValueError, words)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_json_keeps_numbers_exact():
    document = exact.parse_json(b'{"a": 0.1, "b": 12345678901234567890123, "c": "\\ud83d\\ude00"}')
    assert document == {"a": Decimal("0.1"), "b": 12345678901234567890123, "c": "\U0001f600"}


def test_a_document_that_is_nested_too_deeply_to_parse_may_be_read_without_its_depths():
    def nested(levels, inside):
        return b'{"a":' * levels + inside + b"}" * levels

    raw = b'{"before": "[{", "deep": ' + nested(100_000, b"1") + b', "after": [1, {"b": 2}, ' + nested(9, b"3") + b"]}"

    document = exact.parse_json(raw, is_lenient=True)

    assert (document["before"], document["after"][:2]) == ("[{", [1, {"b": 2}])
    levels, deep = 1, document["deep"]  # the document is one itself
    while deep is not None:
        levels, deep = levels + 1, deep["a"]
    assert levels == exact.DEEPEST_LEVEL
    assert document["after"][2] == exact.parse_json(nested(9, b"3"))
    with pytest.raises(ValueError, match="nested too deeply"):
        exact.parse_json(raw)


def test_what_may_hold_nul_or_half_of_a_surrogate_pair():
    # The last is a whole pair, which shows only when it is read.
    assert all(map(exact.may_be_unkept, (rb'"\ud800"', rb'"\uDFFF"', rb'"\u0000"', rb'"\ud83d\ude00"')))
    assert not any(map(exact.may_be_unkept, (rb'"\ubcf4\uc11d \ud7a3"', "보석 😀".encode())))


def test_text_with_nul_is_mended():
    assert exact.whole_text("x\0y") == "x\ufffdy"
    assert exact.whole_text("é\0") == "é\ufffd"
