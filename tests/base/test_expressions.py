"""Conversions by expression: values, exact money, moments in zones, and limits nothing gets past."""

import itertools
import json
import time
import zoneinfo
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import jmespath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coinslot.base import exact, limits
from coinslot.base.expressions import Expression, plain
from coinslot.base.functions import ExpressionFunctions
from coinslot.base.limits import ExpressionError
from tests.servers import together

SEOUL = "Asia/Seoul"
NEW_YORK = "America/New_York"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
THEN = 1767323045  # 2026-01-02T03:04:05Z
SLOW_SECONDS = 5  # generous: what gets past the limits takes minutes, or all of the memory


def apply(text, document=None, **options):
    return Expression.parse(text).apply({} if document is None else document, **options)


def call(function, *arguments, **options):
    """The function's value for arguments that come out of a document."""
    names = [f"a{index}" for index in range(len(arguments))]
    return apply(f"{function}({', '.join(names)})", dict(zip(names, arguments, strict=True)), **options)


# Whole conversions.


def test_a_row_of_a_game_becomes_a_payment():
    row = {
        "order_id": "GP-1",
        "usn": 100001,
        "goods": {"id": "gem_100", "name": None},
        "price": "9900.00",
        "currency": "krw",
        "store": 3,
        "paid_at": "2026-01-02 12:04:05",
    }
    text = """{transactionId: order_id, userId: to_string(usn), productId: goods.id,
               productName: default(goods.name, goods.id), amount: scale(price, `0`), currency: upper(currency),
               market: lookup('store', store), purchasedAt: unix(paid_at), status: lower('PAID')}"""

    payment = apply(text, row, zone=SEOUL, lookup=stores)

    assert payment == {
        "transactionId": "GP-1",
        "userId": "100001",
        "productId": "gem_100",
        "productName": "gem_100",
        "amount": "9900",
        "currency": "KRW",
        "market": "google",
        "purchasedAt": THEN,
        "status": "paid",
    }


def stores(table, key):
    return {("store", "3"): "google", ("store", "1.5"): "odd"}.get((table, key))


def test_events_of_ours_become_the_events_of_a_game():
    document = {
        "callbackId": "cb-1",
        "events": [
            {"kind": "sponsor.ended", "userId": "100001", "creator": "11", "at": "2026-01-02T03:04:05.678Z"},
            {"kind": "sponsor.created", "userId": "100001", "creator": "22", "at": "2026-01-02T03:04:05.678Z"},
        ],
    }
    text = "{events: events[].{usn: int(userId), creator_usn: int(creator), event: kind, timestamp: unix(at)}}"

    assert apply(text, document) == {
        "events": [
            {"usn": 100001, "creator_usn": 11, "event": "sponsor.ended", "timestamp": THEN},
            {"usn": 100001, "creator_usn": 22, "event": "sponsor.created", "timestamp": THEN},
        ]
    }


def test_the_same_text_is_compiled_once():
    assert Expression.parse("a.b[0]") is Expression.parse("a.b[0]")


def test_whoever_changes_a_result_changes_no_expression():
    expression = Expression.parse('{list: `[1, {"a": []}]`}')

    expression.apply({})["list"][1]["a"].append("changed")

    assert expression.apply({}) == {"list": [1, {"a": []}]}


def test_threads_share_an_expression():
    expression = Expression.parse("{n: int(n), at: unix(at), zone: time(`0`, '%Z'), of: lookup('t', n)}")

    def convert(start, zone):
        documents = [{"n": str(n), "at": "1970-01-01"} for n in range(start, start + 100)]
        made = [expression.apply(each, zone=zone, lookup=lambda table, key: f"{start}:{key}") for each in documents]
        return [(each["n"], each["zone"], each["of"]) for each in made]

    zones = {0: ("UTC", "UTC"), 1000: (SEOUL, "KST"), 2000: ("UTC", "UTC"), 3000: (SEOUL, "KST")}
    made = together(*[lambda start=start: convert(start, zones[start][0]) for start in zones])

    for (start, (_, name)), found in zip(zones.items(), made, strict=True):
        assert found == [(n, name, f"{start}:{n}") for n in range(start, start + 100)]


# What the owner wrote wrongly.


@pytest.mark.parametrize(
    ("message", "texts"),
    [
        ("the expression is empty", [""]),
        ("the expression ends too early", ["   ", "{a: b"]),
        ("character 3: Expecting", ["a."]),
        ("character 3: Unknown token ~", ["a ~ b"]),
        ("character 1: Unclosed ' delimiter", ["'abc"]),
        ("character 3: Unexpected token: b", ["a b"]),
        ("there is no function nope()", ["nope(a)", "rows[?nope(a)].{b: c}", "a || map(&nope(@), b)"]),
        ("unix() takes 1 argument, not 0", ["unix()"]),
        ("scale() takes 2 arguments, not 1", ["scale(a)"]),
        ("not_null() takes at least 1 argument, not 0", ["not_null()"]),
        ("a slice cannot go in steps of 0", ["a[::0]"]),
        ("a number is not finite", ["`NaN`", "`[1e999]`"]),
        ("half of a surrogate pair", ['`"\\ud800"`', '{"\\ud800": a}']),
        ("character 2 is half of a surrogate pair", ["'\ud800'"]),
        ("at most 8192 characters", ["a" * 8193]),
        ("nested deeper than 64 levels", ["(" * 8000, "!" * 100 + "a", " || ".join("a" * 100)]),
        ("nested deeper than 64 levels", ["`" + "[" * depth + "]" * depth + "`" for depth in (70, 4000)]),
        ("a number in the expression is too long", ["a[" + "9" * 5000 + "]"]),
        ("an expression is text", [None]),
    ],
)
def test_what_cannot_be_read_is_refused_with_place_and_reason(message, texts):
    for text in texts:
        with pytest.raises(ExpressionError) as refusal:
            Expression.parse(text)
        assert message in str(refusal.value)
        assert len(str(refusal.value)) < 250


def test_a_chain_of_alternatives_is_as_long_as_owners_write_them():
    text = " || ".join(f"(market == 'm{index}' && 'p{index}')" for index in range(40))

    assert apply(text, {"market": "m39"}) == "p39"


# Moments.


@pytest.mark.parametrize(
    ("milliseconds", "spellings"),
    [
        (0, [0]),
        (THEN * 1000, [THEN, 1.767323045e9, str(THEN), "000001767323045", "2026-01-02T03:04:05"]),
        (THEN * 1000, ["2026-01-02 12:04:05 +09:00", "2026-01-02T12:04:05+0900", "20260102T120405+09"]),
        (THEN * 1000, ["2026-01-01T22:04:05-05:00"]),
        (THEN * 1000 + 500, ["2026-01-02t03:04:05,5Z"]),
        (THEN * 1000 + 678, [THEN * 1000 + 678, 1767323045.678, 1767323045678.9, f" {THEN}678 ", "1767323045.678"]),
        (THEN * 1000 + 678, ["2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678999999z"]),
        (THEN * 1000 + 999, [1767323045.9999]),
        (99999999999000, [99999999999]),  # 11 digits are seconds, 12 are milliseconds
        (100000000000, [100000000000]),
        (-1000, [-1]),
        (-1, [-0.0005]),
        (20260102000, ["20260102"]),
        (1767312000000, ["2026-01-02"]),
        (-62135596800000, ["0001-01-01T00:00:00Z"]),
        (253402300799999, ["9999-12-31T23:59:59.999Z"]),
    ],
)
def test_moments_are_read_from_seconds_milliseconds_and_iso_text(milliseconds, spellings):
    iso = (EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    for x in spellings:
        found = (call("unix_ms", x), call("unix", x), call("iso", x))
        assert found == (milliseconds, milliseconds // 1000, iso), x


@pytest.mark.parametrize("function", ["unix", "unix_ms", "iso"])
@pytest.mark.parametrize(
    "values",
    [
        [None, True, [], [THEN], {}, 1e300, 10**15, 10**39],
        ["", " ", "soon", "9" * 31, "1e999", "NaN", "x" * 100_000, "9" * 100_000],
        ["2026-13-01", "2026-02-30", "2026-01-02T24:00:00Z", "2026-01-02T03:04:60Z", "2026-01-02+09:00"],
        ["2026-01-02T03:04:05+99:00", "0001-01-01T00:00:00+09:00", "9999-12-31T23:59:59-09:00"],
        ["2026-01-02T03:04:05Z" + " " * 60 + "x", "٢٠٢٦-01-02", "１７６７３２３０４５", "2026-01-02\ud80003:04"],
    ],
    ids=["kinds", "texts", "dates", "offsets", "characters"],
)
def test_what_is_no_moment_is_refused(function, values):
    for x in values:
        with pytest.raises(ExpressionError, match=rf"^{function}\(\) takes "):
            call(function, x)


# On the day that summer time begins there, 02:30 is on no clock: it takes the offset from before. On the day it ends,
# 01:30 is there twice: the first counts.
@pytest.mark.parametrize(
    ("zone", "text", "seconds"),
    [
        (SEOUL, "2026-01-02 12:04:05", THEN),
        (SEOUL, "2026-01-02", 1767279600),
        (SEOUL, "2026-01-02T03:04:05Z", THEN),
        ("Asia/Kolkata", "2026-01-02T08:34:05", THEN),
        (NEW_YORK, "2026-01-01T22:04:05", THEN),
        (NEW_YORK, "2026-07-01T12:00:00", 1782921600),
        (NEW_YORK, "2026-03-08T01:59:59", 1772953199),
        (NEW_YORK, "2026-03-08T03:00:00", 1772953200),
        (NEW_YORK, "2026-03-08T02:30:00", 1772955000),
        (NEW_YORK, "2026-11-01T01:30:00", 1793511000),
        (NEW_YORK, "2026-11-01T02:00:00", 1793516400),
    ],
)
def test_text_without_an_offset_is_a_time_in_the_zone(zone, text, seconds):
    assert call("unix", text, zone=zone) == seconds
    if len(text) == len("2026-01-02 12:04:05"):
        by_format = text.replace("-", "").replace(":", "").replace("T", " ")
        assert call("time", by_format, "%Y%m%d %H%M%S", zone=zone) == seconds


@given(
    st.integers(0, 4_000_000_000),
    st.sampled_from([SEOUL, NEW_YORK, "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "UTC"]),
)
def test_a_moment_written_in_a_zone_with_its_offset_reads_back(seconds, zone):
    there = datetime.fromtimestamp(seconds, ZoneInfo(zone))

    written = call("time", seconds, "%Y/%m/%d %H:%M:%S %z", zone=zone)

    assert written == there.strftime("%Y/%m/%d %H:%M:%S %z")
    assert call("time", written, "%Y/%m/%d %H:%M:%S %z", zone="UTC") == seconds
    assert call("unix", there.isoformat(), zone=SEOUL) == seconds
    assert call("unix", there.replace(tzinfo=None, fold=0).isoformat(), zone=zone) in (
        [seconds] if not there.fold else [seconds - 3600, seconds - 1800]
    )


@given(st.integers(-60 * 10**15, 250 * 10**15), st.sampled_from(["", "Z", "+09:00", "-0330"]))
def test_iso_text_is_rounded_down(microseconds, offset):
    text = (EPOCH + timedelta(microseconds=microseconds)).replace(tzinfo=None).isoformat()
    ahead = {"": 0, "Z": 0, "+09:00": 540, "-0330": -210}[offset] * 60_000_000

    assert call("unix", text + offset) == (microseconds - ahead) // 1_000_000
    assert call("unix_ms", text + offset) == (microseconds - ahead) // 1_000


@pytest.mark.parametrize(
    ("x", "format", "result"),
    [
        # Known moments are written.
        (THEN, "%Y-%m-%d %H:%M:%S", "2026-01-02 12:04:05"),
        (THEN * 1000 + 678, "%H:%M:%S.%f", "12:04:05.678000"),
        (1767323045.5, "%d.%m.%Y %H:%M:%S", "02.01.2026 12:04:05"),
        ("2026-01-02T03:04:05.678Z", "%Y%m%d%H%M%S", "20260102120405"),
        ("2026-01-02T03:04:05Z", "%Y-%m-%dT%H:%M:%S%z", "2026-01-02T12:04:05+0900"),
        (THEN, "%A, %d %B %y, %I %p %Z, %j, 100%%", "Friday, 02 January 26, 12 PM KST, 002, 100%"),
        (THEN, "%Y년 %m월", "2026년 01월"),
        (str(THEN), "%Y-%m-%d", "2026-01-02"),
        (str(THEN), "%H:%M %Z", "12:04 KST"),
        (str(THEN), "%Y%m%d%H%M%S", "20260102120405"),
        # Other text is read.
        ("2026-01-02 12:04:05", "%Y-%m-%d %H:%M:%S", THEN),
        ("2026-01-02 12:04:05.999", "%Y-%m-%d %H:%M:%S.%f", THEN),
        ("20260102120405", "%Y%m%d%H%M%S", THEN),
        ("20260102", "%Y%m%d", 1767279600),
        ("2/1/26 12.04.05", "%d/%m/%y %H.%M.%S", THEN),
        ("Jan 02 2026 12:04:05 PM", "%b %d %Y %I:%M:%S %p", THEN),
        ("2026-002 12:04:05", "%Y-%j %H:%M:%S", THEN),
        ("02/01/2026 03:04:05 +0000", "%d/%m/%Y %H:%M:%S %z", THEN),
    ],
)
def test_time_writes_known_moments_and_reads_other_text(x, format, result):
    assert call("time", x, format, zone=SEOUL) == result


@pytest.mark.parametrize(
    ("values", "format"),
    [
        ([None, True, [], "9999-12-31T23:59:59Z"], "%Y"),
        (["", "soon", "x" * 100_000], "%Y-%m-%d"),
        (["2026-01-02"], "%d.%m.%Y"),
        (["2026-01-02 12:04:05.1"], "%Y-%m-%d %H:%M:%S"),
        (["12:04"], "%H:%M"),  # of which day?
        (["02.01."], "%d.%m."),
        (["2026-01-02 KST"], "%Y-%m-%d %Z"),
        (["2026-01-02"], "%Y-%m-%d%d"),
        (["0001-01-01 00:00"], "%Y-%m-%d %H:%M"),
    ],
)
def test_what_time_can_neither_write_nor_read_is_refused(values, format):
    for x in values:
        with pytest.raises(ExpressionError, match=r"^time\(\) "):
            call("time", x, format, zone=SEOUL)


@pytest.mark.parametrize(
    "format", ["", None, 5, "%", "%s", "%c", "%-d", "%999999999d", "%Y\0", "%Y\ud800", "%Y" * 40], ids=repr
)
def test_what_is_no_format_is_refused(format):
    with pytest.raises(ExpressionError, match=r"^time\(\) takes a format"):
        call("time", THEN, format, zone=SEOUL)


@pytest.mark.parametrize(
    "zone", ["", " ", "KST+9 ", "Mars/Olympus", "Europe", "../UTC", "/etc/passwd", "a\0b", "\ud800", "x" * 5000]
)
def test_an_unknown_zone_is_refused(zone):
    with pytest.raises(ExpressionError, match="no such time zone"):
        apply("a", zone=zone)


def test_utc_needs_no_zone_database():
    zoneinfo.reset_tzpath(to=())
    try:
        assert call("iso", "2026-01-02T03:04:05", zone="UTC") == "2026-01-02T03:04:05.000Z"
    finally:
        zoneinfo.reset_tzpath()


# Numbers and money.


@pytest.mark.parametrize(
    ("values", "n", "text"),
    [
        ([1999, "1999"], -2, "19.99"),
        ([1000], -2, "10"),
        ([9900, 9900.0, "9900.00", "9.9e3"], 0, "9900"),
        (["9.90"], 2, "990"),
        ([0.1], 1, "1"),
        ([1.1], 18, "1100000000000000000"),
        ([0.07], 2, "7"),
        ([1.15], 2, "115"),
        ([4.35], 2, "435"),
        ([1e22], -22, "1"),
        ([-5], -3, "-0.005"),
        (["-0.00"], 2, "0"),
        ([0], 30, "0"),
        ([1], -30, "0." + "0" * 29 + "1"),
        ([10**29], 30, "1" + "0" * 59),
        ([123], "-1", "12.3"),
        ([123], -1.0, "12.3"),
    ],
)
def test_scale_is_exact(values, n, text):
    assert [call("scale", x, n) for x in values] == [text] * len(values)


@given(st.decimals(-(10**15), 10**15, allow_nan=False, allow_infinity=False, places=10), st.integers(-30, 30))
def test_scale_of_text_is_the_decimal_times_a_power_of_ten(number, n):
    text = call("scale", format(number, "f"), n)

    assert "e" not in text.lower()
    assert "." not in text or not text.endswith(("0", "."))
    assert Decimal(text) == Decimal(f"{number:f}e{n}")


@given(st.integers(-(10**15), 10**15), st.integers(0, 15))
def test_an_amount_of_15_digits_survives_a_json_float(digits, places):
    amount = Decimal(digits).scaleb(-places)
    as_float = json.loads(f"{amount:f}")

    assert Decimal(call("scale", as_float, 0)) == amount
    assert Decimal(call("scale", plain(amount), 0)) == amount


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([None, True, [], {}, 10**30, 1e300, 5e-324], [2]),
        (["", "1,000", "0x10", "1_000", "١", "NaN", "1e999", "1" * 31], [2]),
        ([1], [31, -31, 10**40, 0.5, None, True, "x"]),
    ],
    ids=["kinds", "texts", "places"],
)
def test_what_scale_cannot_do_exactly_is_refused(values, places):
    for x, n in itertools.product(values, places):
        with pytest.raises(ExpressionError, match=r"^scale\(\) "):
            call("scale", x, n)


@pytest.mark.parametrize(
    ("number", "spellings"),
    [
        (5, [5, "5"]),
        (-5, [" -5 "]),
        (10, [10.0, "10.00"]),
        (1000, ["1e3"]),
        (10**22, [1e22]),
        (10**40 - 1, [10**40 - 1, "9" * 40]),
        (12345678901234567890, [12345678901234567890]),
    ],
)
def test_int_is_exact(number, spellings):
    for x in spellings:
        found = call("int", x)
        assert (found, type(found)) == (number, int), x


@pytest.mark.parametrize(
    "x", [None, True, "", "x", 1.5, "1.5", 10**40, "1" + "0" * 40, 1e40, "1e999999999", "1e400", "NaN", [], {}, "٥"]
)
def test_what_is_not_whole_is_refused(x):
    with pytest.raises(ExpressionError, match=r"^int\(\) takes a whole number, was given "):
        call("int", x)


def test_a_document_becomes_plain_numbers():
    document = exact.parse_json(
        b'{"a": [1, 1.5, 2.0, 1e3, 12345678901234567890.0, -0.0], "b": "1.5", "c": null, "d": 1e300}'
    )

    converted = plain(document)

    assert converted == {"a": [1, 1.5, 2, 1000, 12345678901234567890, 0], "b": "1.5", "c": None, "d": 1e300}
    assert [type(number) for number in converted["a"]] == [int, float, int, int, int, int]
    assert apply("sum(a[:3])", converted) == 4.5


@pytest.mark.parametrize("number", ["1e309", "-1e999999", "NaN", "sNaN", "-Infinity"])
def test_a_number_no_float_reaches_is_refused_and_so_is_a_decimal_that_was_left(number):
    with pytest.raises(ExpressionError, match="out of range"):
        plain({"a": [Decimal(number)]})
    with pytest.raises(ExpressionError, match="Decimal is no JSON"):
        apply("a", {"a": Decimal(number)})


@pytest.mark.parametrize("number", ["1e-999999999", "0e999999999", "1e-400"])
def test_numbers_with_huge_exponents_take_no_time(number):
    started = time.perf_counter()

    assert plain(Decimal(number)) == 0
    assert time.perf_counter() - started < 1


# Text, defaults, tables.


@pytest.mark.parametrize(
    ("result", "texts"),
    [
        ("KRW", ["upper('krw')"]),
        ("google play", ["lower('Google Play')"]),
        ("x", ["default(a, 'x')", "default('', 'x')"]),
        (" ", ["default(' ', 'x')"]),
        (0, ["default(`0`, 'x')"]),
        (False, ["default(`false`, 'x')", "`1` == 'a'"]),
        ([], ["default(`[]`, 'x')"]),
        ("google", ["lookup('store', '3')", "lookup('store', `3`)", "lookup('store', `3.0`)"]),
        ("odd", ["lookup('store', `1.5`)"]),
        ("other", ["default(lookup('store', '4'), 'other')"]),
        (9.5, ["to_number('9.5')"]),
        (True, ["'a' < 'b'"]),
        ("a-b", ["join('-', ['a', 'b'])"]),
        (None, ["default(a, b)", "`1` < 'a'", "lookup('store', '4')", "lookup('nothing', '3')", "lookup('store', a)"]),
        (None, ["lookup('store', '')", "to_number('NaN')", "to_number('1_000')", "to_number('1e999')"]),
        (None, ["to_number(`true`)"]),
    ],
)
def test_functions(result, texts):
    found = [apply(text, lookup=stores) for text in texts]

    assert [(each, type(each)) for each in found] == [(result, type(result))] * len(texts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("upper(a)", "upper() takes a string, not null"),
        ("lower(`5`)", "lower() takes a string, not number"),
        ("upper(`[]`)", "upper() takes a string, not array"),
        ("lookup(`5`, 'x')", "lookup() takes a string, not number"),
        ("lookup('store', `true`)", "lookup() takes a number or numeric text, was given boolean: not a number"),
        ("lookup('store', `{}`)", "lookup() takes a number or numeric text, was given object: not a number"),
        ("abs('x')", "abs() takes number, not string"),
        ("sum(`[1, {}]`)", "sum() takes array of number, not object"),
        ("sum(`[1e308, 1e308]`)", "sum() comes out too large for a number"),
        ("sum(`[12345678901234.5, 0.001]`)", "sum() comes out with more digits than a number keeps"),
        ("sum(`[1e300, 0.1]`)", "sum() comes out with more digits than a number keeps"),
        ("contains('abc', `1`)", "contains() cannot do that with what it was given"),
        ("merge(`{}`, `1`)", "merge() cannot do that with what it was given"),
        ("merge(`{}`, `[[1, 2]]`)", "a key is no text"),
        ('max_by(`[1, "a"]`, &@)', "max_by() cannot do that with what it was given"),
        ("&a", "an &expression is no value by itself"),
        ("[&a]", "an &expression is no value by itself"),
        ("to_string(&a)", "an &expression is no value by itself"),
        ("default(a, &a)", "an &expression is no value by itself"),
    ],
)
def test_what_does_not_fit_a_function_is_refused_by_its_name(text, message):
    with pytest.raises(ExpressionError) as refusal:
        apply(text, lookup=stores)

    assert str(refusal.value) == message


def test_a_refusal_never_repeats_the_value():
    secret = "hunter2-secret"
    texts = [f"{name}(a)" for name in ("unix", "unix_ms", "iso", "int", "abs", "ceil", "sum", "keys")]
    texts += ["time(a, '%Y-%m-%d')", "time(a, a)", "scale(a, `2`)", "scale(`2`, a)", "sort_by([a], &[@])", "sum([a])"]

    for text in texts:
        with pytest.raises(ExpressionError) as refusal:
            apply(text, {"a": secret})

        assert secret not in str(refusal.value)
        assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_without_tables_a_lookup_is_refused():
    with pytest.raises(ExpressionError, match=r"^lookup\(\) has no tables here"):
        apply("lookup('store', '3')")


def test_the_fault_of_a_table_is_not_taken_for_one_of_the_expression():
    def broken(table, key):
        raise TypeError("our own")

    with pytest.raises(TypeError, match="our own"):
        apply("lookup('store', '3')", lookup=broken)


# Limits.


BOMBS = [
    "|".join(["[@,@]"] * 60),
    "|".join(["[@,@][]"] * 60),
    "|".join(["{a: @, b: @}"] * 60),
    "|".join(["join('', [@, @])"] * 60),
    "|".join(["join('xxxxxxxxxxxxxxxx', [@, @]) | [@, @] | join(@[0], @)"] * 12),
    "|".join(["merge({a: @}, {b: @})"] * 30),
    "{a: " + "|".join(["[@,@]"] * 40) + ", b: " + "|".join(["[@,@]"] * 40) + "} | a == b",
    "|".join(["to_string([@])"] * 30),
    "map(&map(&map(&map(&to_string(@), $), $), $), $)".replace("$", "`" + json.dumps(list(range(100))) + "`"),
    "`" + json.dumps([0] * 1000) + "` | [*].[" + "@," * 900 + "@]",
    "[@] | " + "|".join(["[@[],@[]][]"] * 40),
]


@pytest.mark.parametrize("text", BOMBS, ids=range(len(BOMBS)))
def test_no_expression_grows_out_of_a_small_document(text):
    expression = Expression.parse(text)
    started = time.perf_counter()

    for is_parsed in (False, True):
        with pytest.raises(ExpressionError, match=r"grows too large|does too much|too long a text"):
            expression.apply("ab", is_parsed=is_parsed)

    assert time.perf_counter() - started < 2 * SLOW_SECONDS


@pytest.mark.parametrize("is_parsed", [False, True])
def test_a_large_document_may_have_a_large_result(is_parsed):
    rows = [{"id": index, "name": "x" * 500, "paid": index % 2} for index in range(4000)]
    text = "data.rows[?paid == `1`].{id: id, name: upper(name)}"

    paid = apply(text, {"data": {"rows": rows}}, is_parsed=is_parsed)

    assert len(paid) == 2000
    assert paid[0] == {"id": 1, "name": "X" * 500}


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_what_is_nested_deeper_than_64_levels_is_refused(wrap):
    document = nested(wrap, 64)

    assert apply("@", document) == document
    assert plain(document) == document
    with pytest.raises(ExpressionError, match="nested deeper than 64 levels"):
        apply("[@]", document)
    for deep in (nested(wrap, 65), nested(wrap, 50_000)):
        with pytest.raises(ExpressionError, match="nested deeper than 64 levels"):
            apply("b", deep)
        with pytest.raises(ExpressionError, match="nested deeper than 64 levels"):
            plain(deep)


def nested(wrap, levels):
    document = "leaf"
    for _ in range(levels):
        document = wrap(document)
    return document


@pytest.mark.parametrize("half", [{"a": "\ud800"}, {"\udfff": 1}, ["x", ["\udc00"]]])
def test_half_of_a_surrogate_pair_stays_out_of_results(half):
    document = {"good": "안녕 😀", "bad": half}

    assert apply("good", document) == "안녕 😀"
    assert apply("bad", document, allow_half_pairs=True) == half
    with pytest.raises(ExpressionError, match="half of a surrogate pair"):
        apply("bad", document)


@pytest.mark.parametrize("document", [float("nan"), [float("inf")], {1: 2}, (1,), b"x", {"a": {1}}, 10**4001])
def test_what_is_no_json_is_refused(document):
    with pytest.raises(ExpressionError):
        apply("a", document)


_texts = st.one_of(
    st.text(max_size=8),
    st.text(alphabet="0123456789.eE+-:TZ /", max_size=24),
    st.sampled_from(["\ud800", "2026-01-02", "2026-01-02T03:04:05Z", "1767323045", "%Y-%m-%d", "%H", "NaN", "1e400"]),
)
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**45), 10**45), st.floats(allow_nan=False, allow_infinity=False), _texts
)
_keys = st.sampled_from(["a", "b", "c", "d e"]) | st.text(max_size=3)
_documents = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)
_names = st.sampled_from(sorted(ExpressionFunctions.FUNCTION_TABLE))
_leaves = st.one_of(
    st.sampled_from(["@", "a", "b", "c", '"d e"', "*", "[]", "[0]", "[-1]", "[:]", "[::-1]", "a.b", "a[*].b", "@.*"]),
    _documents.map(lambda value: f"`{json.dumps(value).replace('`', '')}`"),
    st.sampled_from(["'%Y-%m-%d'", "'store'", "`2`", "`-2`", "'2026-01-02'", "&a", "&@"]),
)


def _grown(inner):
    return st.one_of(
        st.tuples(_names, st.lists(inner, min_size=1, max_size=3)).map(lambda t: f"{t[0]}({', '.join(t[1])})"),
        st.tuples(st.sampled_from(["map(&{}, {})", "sort_by({1}, &{0})", "max_by({1}, &{0})"]), inner, inner).map(
            lambda t: t[0].format(t[1], t[2])
        ),
        st.tuples(inner, st.sampled_from([" | ", " || ", " && ", " == ", " < ", " >= ", " != "]), inner).map("".join),
        inner.map(lambda text: f"!({text})"),
        inner.map(lambda text: f"({text})[]"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]})[?{t[1]}]"),
        st.lists(inner, min_size=1, max_size=3).map(lambda texts: f"[{', '.join(texts)}]"),
        st.tuples(inner, inner).map(lambda t: f"{{x: {t[0]}, y: {t[1]}}}"),
    )


_expressions = st.recursive(_leaves, _grown, max_leaves=8)


def outcome(text, document):
    """What an expression makes of a document; a refusal is as good as a value, anything else comes through."""
    try:
        return Expression.parse(text).apply(document, zone=NEW_YORK, lookup=lambda table, key: key or None)
    except ExpressionError as refusal:
        return str(refusal)


@settings(max_examples=200, deadline=None)
@given(_expressions, _documents)
def test_an_expression_gives_json_or_a_refusal(text, document):
    before = json.dumps(document)

    result = outcome(text, document)

    json.dumps(result, allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert json.dumps(document) == before


@settings(deadline=None)
@given(st.text(alphabet="ab0.*[]{}()|&!<>=,:'\"`@?-\\ \ud800", max_size=30) | st.text(max_size=10), _documents)
def test_any_text_is_an_expression_or_a_refusal(text, document):
    json.dumps(outcome(text, document), allow_nan=False, ensure_ascii=False).encode("utf-8")


_steps = st.recursive(
    st.sampled_from(["a", "b", '"d e"', "a.b", "a.b.c", "@", "'x'", "`0`", "`null`", "`false`", "`[]`", "a[0]", "*"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" || ", " && ", " | "]), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
        st.tuples(inner, inner).map(lambda t: f"{{x: {t[0]}, y: {t[1]}}}"),
        st.tuples(inner, inner).map(lambda t: f"not_null({t[0]}, {t[1]})"),
        inner.map(lambda text: f"a.{{z: {text}}}"),
    ),
    max_leaves=8,
)
_named = st.recursive(
    st.sampled_from([None, True, False, 0, 1, "", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c", "d e"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(_steps, _named)
def test_what_is_made_once_does_as_the_library_does(text, document):
    assert Expression.parse(text).apply(document) == jmespath.search(text, document)


@pytest.mark.parametrize(
    ("numbers", "total"),
    [
        ([0.1, 0.2], "0.3"),
        ([19.99, 19.99, 19.99], "59.97"),
        ([0.1] * 10, "1"),
        ([1.1, -2.2], "-1.1"),
        ([12345678901234.5, 0.1], "12345678901234.6"),
        ([2**60, 0.0], str(2**60)),
        ([], "0"),
        ([10**28, 1], str(10**28 + 1)),
    ],
)
def test_a_sum_is_exact(numbers, total):
    assert apply("scale(sum(@), `0`)", numbers) == total


def test_a_mean_is_the_nearest_number():
    assert [apply("avg(@)", each) for each in ([0.1, 0.2], [1e308, 1e308], [1, 2], [])] == [0.15, 1e308, 1.5, None]


@pytest.mark.parametrize(
    "value", [[10**39] * 20, ["abc"] * 20, [{"name": 12345, "none": None, "yes": True}] * 20, "x" * 100]
)
def test_the_size_of_a_value_is_about_that_of_its_json(value):
    assert 0.6 < limits.size_of(value, None) / len(json.dumps(value, separators=(",", ":"))) < 1.2
