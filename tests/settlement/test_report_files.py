"""Partners' reports as files: read as they were meant, whatever program wrote them, or asked about."""

import io
import time
from decimal import Decimal
from typing import Any

import pytest

from coinslot.settlement import report_files
from coinslot.settlement.amounts import parse_amount
from coinslot.settlement.columns import Layout
from coinslot.settlement.differences import PartnerRow
from coinslot.settlement.runs import ReconciliationError
from tests.books import Books
from tests.reconciler import Room


@pytest.fixture
def books(installation, studio):
    return Books(installation, studio)


@pytest.fixture
def room(app, books):
    return Room(app, books)


def read(room: Room, text: str, partner: str = "playcamp", **options: Any) -> list[PartnerRow]:
    layout = Layout.of(room.partners[partner].report, options.pop("columns", {}), **options)
    return [row for rows in report_files.read(io.StringIO(text, newline=""), layout) for row in rows or []]


def notes(room: Room, text: str, partner: str = "playcamp") -> str:
    layout = Layout.of(room.partners[partner].report, {})
    return " / ".join(report_files.look_through(io.StringIO(text, newline=""), layout).notes)


class TestAmounts:
    @pytest.mark.parametrize(
        ("cell", "amount"),
        [
            ("9.99", "9.99"),
            ("9,99", "9.99"),
            ("1,234.56", "1234.56"),
            ("1.234,56", "1234.56"),
            ("1.234.567", "1234567"),
            ("12,34,567.50", "1234567.50"),
            ("1 234,56", "1234.56"),
            ("1\N{NO-BREAK SPACE}234,56", "1234.56"),
            ("1\N{NARROW NO-BREAK SPACE}234.56", "1234.56"),
            ("1'234.56", "1234.56"),
            ("$9.99", "9.99"),
            ("US$ 9.99", "9.99"),
            ("9,99 €", "9.99"),
            ("9.99 USD", "9.99"),
            ("+9.99", "9.99"),
            ("-9.99", "-9.99"),
            ("-$9.99", "-9.99"),
            ("$-9.99", "-9.99"),
            ("9.99-", "-9.99"),
            ("(9.99)", "-9.99"),
            ("($1,009.99)", "-1009.99"),
            ("$(9.99)", "-9.99"),
            ("(9.99) USD", "-9.99"),
            ("\N{MINUS SIGN}9.99", "-9.99"),
            ("\N{FULLWIDTH DIGIT NINE}.5", "9.5"),
            (".5", "0.5"),
            ("0.125", "0.125"),
            ("9900", "9900"),
        ],
    )
    def test_amounts_are_read_as_people_write_them(self, cell, amount):
        found = parse_amount(cell)
        assert found is not None
        assert found.exact == Decimal(amount)

    @pytest.mark.parametrize(
        "cell", ["", "x", "--1", "-(1)", "1.2.3", "1,23.45", "1e5", "NaN", "1 2", "9.99.", "1" * 65]
    )
    def test_what_is_no_amount_is_none(self, cell):
        assert parse_amount(cell) is None

    @pytest.mark.parametrize(("decimal", "amount"), [(None, None), (".", "1"), (",", "1000")])
    def test_one_separator_before_three_digits_is_open(self, decimal, amount):
        found = parse_amount("1.000")
        assert found is not None
        assert found.value(decimal) == (None if amount is None else Decimal(amount))

    def test_a_long_cell_costs_no_more_than_its_length(self):
        for text in ("9" * 60, "9.9," * 15, "$" * 60, "1 " * 30):
            began = time.perf_counter()
            for number in range(200):
                parse_amount(f"{text}{number:03d}x")
            assert time.perf_counter() - began < 1.0

    def test_the_other_amounts_of_a_file_tell_what_a_separator_is(self, room):
        head = "transactionId;amount;currency\n"
        assert [row.amount_minor for row in read(room, head + "a;1.000;USD\nb;9,99;USD\n")] == ["100000", "999"]
        (row, _) = read(room, head + "a;1.000;USD\nb;9.99;USD\n")
        assert Decimal(row.amount_minor or "") == 100
        assert [row.amount_minor for row in read(room, head + "a;9,900;KRW\nb;14,800;KRW\n")] == ["9900", "14800"]

    def test_commas_in_the_smallest_unit_stand_for_thousands(self, room):
        text = 'order_id,amount_minor,currency,type\na,"1,234",USD,paid\nb,999,USD,paid\nc,"12,345,678",USD,paid\n'
        assert [row.amount_minor for row in read(room, text, "appcharge")] == ["1234", "999", "12345678"]
        text = text.replace("amount_minor", "amount")
        assert [row.amount_minor for row in read(room, text, "appcharge", unit="minor")] == ["1234", "999", "12345678"]
        (row, _) = read(room, 'order_id,amount_minor,currency,type\na,"1,234",USD,paid\nb,85.5,USD,paid\n', "appcharge")
        assert row.amount_minor == "1234"

    @pytest.mark.parametrize("cells", [["1.000"], ["1,000", "2,500"], ["1.000", "9.99", "9,99"]])
    def test_a_file_whose_separators_are_open_is_asked_about(self, room, cells):
        text = "transactionId;amount;currency\n" + "".join(f"{n};{cell};USD\n" for n, cell in enumerate(cells))
        with pytest.raises(ReconciliationError, match=rf"{cells[0]} on line 2 may be thousands .* a point or a comma"):
            read(room, text)
        for decimal, minor in ((cells[0][1], 100), ("," if cells[0][1] == "." else ".", 100_000)):
            row = read(room, text, decimal=decimal)[0]
            assert Decimal(row.amount_minor or "") == minor

    def test_thousands_with_commas_make_no_difference(self, room, books):
        for number in range(53):
            books.pay(f"GP-{number}", f"{1000 + number}.50", "USD")
        books.close()
        text = "transactionId,amount,currency,status\n"
        text += "".join(f'GP-{n},"{1000 + n:,}.50",USD,Payment\n' for n in range(53))
        run = room.by_text("playcamp", text)
        assert (room.results(run), run.matched, run.rows_odd) == ({}, 53, 0)

    def test_a_code_beside_the_amount_that_is_not_its_currency_makes_it_unreadable(self, room):
        rows = read(room, "transactionId,amount,currency\na,9.99 EUR,USD\nb,9.99 USD,USD\n")
        assert [row.kind for row in rows] == ["unreadable", "paid"]


class TestKinds:
    @pytest.mark.parametrize("partner", ["appcharge", "playcamp"])
    @pytest.mark.parametrize(
        ("word", "kind"),
        [
            *[("Payment", "paid"), ("PAID", "paid"), ("", "paid"), ("Sale", "paid")],
            *[
                ("refunded", "refunded"),
                ("Refund", "refunded"),
                ("chargeback", "refunded"),
                ("Charge-back", "refunded"),
            ],
            *[("pending", None), ("Cancelled", None), ("half", "unreadable")],
        ],
    )
    def test_words_for_what_happened_are_understood(self, room, partner, word, kind):
        columns = {"reference": "id", "kind": "status", "amount": "amount", "currency": "currency"}
        rows = read(room, f"id,status,amount,currency\na,{word},9.99,USD\n", partner, columns=columns)
        assert [row.kind for row in rows] == ([] if kind is None else [kind])

    def test_below_nothing_is_a_refund_where_nothing_is_said_and_else_cannot_be_read(self, room, books):
        for name in ("plain", "said", "both"):
            books.pay(name, "3000", "USD")
        books.close()
        run = room.by_text(
            "playcamp",
            "transactionId,amount,currency,status\n"
            "plain,-3000.00,USD,\nsaid,-3000.00,USD,COMPLETED\nboth,3000.00,USD,\nboth,(3000.00),USD,\n",
        )
        assert room.results(run) == {"plain": "refunded_there", "said": "unreadable", "both": "refunded_there"}
        assert not run.agrees

    @pytest.mark.parametrize("id_column", ["", ",rowId"])
    def test_two_rows_of_one_purchase_with_other_amounts_are_a_difference_and_the_same_row_twice_is_one(
        self, room, books, id_column
    ):
        for name in ("twice", "other", "times"):
            books.pay(name, "9.99", "USD")
        books.close()
        row_id = ",r-1" if id_column else ""
        lines = [
            *("twice,9.99,USD,2026-07-10T10:00:00Z", "twice,9.99,USD,2026-07-10T10:00:00Z"),
            *("other,9.99,USD,2026-07-10T10:00:00Z", "other,5.00,USD,2026-07-10T10:00:00Z"),
        ]
        if not id_column:
            lines += ["times,9.99,USD,2026-07-10T10:00:00Z", "times,9.99,USD,2026-07-11T10:00:00Z"]
        else:
            lines += ["times,9.99,USD,2026-07-10T10:00:00Z"]
        text = f"transactionId,amount,currency,purchasedAt{id_column}\n" + "".join(
            f"{each}{row_id}\n" for each in lines
        )
        differences = room.differences(room.by_text("playcamp", text))
        assert differences.pop("other") == ("amount_differs", "500", "USD", "ask_partner")
        assert set(differences) == (set() if id_column else {"times"})

    def test_a_payment_told_as_paid_and_then_as_refunded_was_paid_once(self, room, books):
        books.pay("GP-1", "9.99", "USD", is_refunded=True)
        books.close()
        run = room.by_text(
            "playcamp", "transactionId,amount,currency,status\nGP-1,9.99,USD,COMPLETED\nGP-1,9.99,USD,REFUNDED\n"
        )
        assert (room.results(run), run.matched) == ({}, 1)

    def test_a_purchase_in_several_currencies_is_not_added_up(self, room, books):
        books.pay("GP-1", "9.99", "USD")
        books.close()
        run = room.by_text("playcamp", "transactionId,amount,currency\nGP-1,4.99,EUR\nGP-1,5.00,USD\n")
        assert room.results(run) == {"GP-1": "unreadable"}


class TestFiles:
    @pytest.mark.parametrize(
        "text",
        [
            "transactionId,amount,currency\na,9.99,USD\n",
            "transactionId;amount;currency\r\na;9,99;USD\r\n",
            "sep=;\r\ntransactionId;amount;currency\r\na;9,99;USD\r\n",
            "transactionId\tamount\tcurrency\na\t9.99\tUSD\n",
            "\n\nTransaction ID|Amount|Currency\n\na|9.99|USD\n",
            'order_id,Currency Code,"Gross Amount"\na,USD,9.99\n',
            "Payment ID,Total,Ccy\na,9.99,usd\n",
            "Payment ID,Amount (USD)\na,9.99\n",
            "Payment ID,Gross_USD\na,$9.99\n",
        ],
    )
    def test_separators_and_common_names_of_columns_are_recognised(self, room, text):
        (row,) = read(room, text)
        assert (row.reference, row.amount_minor, row.currency) == ("a", "999", "USD")

    TEXT = "Order Number;Date;Who;Amount;Currency;Kind\na;2026-07-10;Müller;1.234,50;EUR;Zahlung\n"

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
    @pytest.mark.parametrize("separator", [";", "\t"])
    def test_files_are_read_in_the_encodings_that_spreadsheets_write(self, room, books, encoding, separator, tmp_path):
        books.order("a", 123450, "EUR")
        books.close()
        path = tmp_path / "report.csv"
        text = self.TEXT.replace("Zahlung", "Payment").replace(";", separator)
        path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
        run = room.by_file("appcharge", path)
        assert (room.results(run), run.matched, run.rows_odd) == ({}, 1, 0)
        assert any("Windows-1252" in note for note in run.notes) == (encoding == "cp1252")

    @pytest.mark.parametrize("content", [b"\x00\x01\x02\xff" * 40, b"PK\x03\x04\x14\x00\x81\x8d", b"\xff\xfea"])
    def test_what_is_no_text_is_refused(self, room, tmp_path, content):
        path = tmp_path / "report.xlsx"
        path.write_bytes(content)
        with pytest.raises(ReconciliationError, match="not UTF-8, UTF-16 or Windows-1252"):
            report_files.open_report(path)

    @pytest.mark.parametrize(
        "above",
        [
            "Transactions of July 2026\n",
            "Account;Demo Games\nPeriod;2026-07-01;2026-07-31\n\n",
            "sep=;\nTransactions\n",
            '"Transactions, all";;;;\n;;;;\n',
        ],
    )
    def test_the_header_is_found_below_a_title(self, room, above):
        text = above + "Transaction ID;Type;Amount;Currency\na;Payment;9,99;USD\nb;Refund;-1,50;USD\n"
        assert [(row.reference, row.kind, row.amount_minor) for row in read(room, text)] == [
            ("a", "paid", "999"),
            ("b", "refunded", "150"),
        ]
        number = text[: text.index("Transaction ID")].count("\n") + 1
        assert f"line {number} was read as the header, and what stands above it was left out" in notes(room, text)

    def test_below_a_title_a_header_of_other_names_is_found_by_its_cells_or_by_what_is_named(self, room):
        text = "Transactions\n\nNr,Betrag,Currency\na,9.99,USD\n"
        with pytest.raises(ReconciliationError, match="no column transactionId"):
            read(room, text)
        (row,) = read(room, text, columns={"reference": "Nr", "amount": "Betrag"})
        assert (row.reference, row.amount_minor) == ("a", "999")

    def test_closing_words_are_left_out_and_said(self, room):
        text = "transactionId,amount,currency\na,9.00,USD\n\nMade at 2026-08-01\n2 rows,,\n"
        assert [row.reference for row in read(room, text)] == ["a"]
        assert "line 4 was left out as a line of words: Made at 2026-08-01" in notes(room, text)

    def test_columns_that_were_found_by_common_names_are_said(self, room):
        assert "reference from Payment ID" in notes(room, "Payment ID,amount,currency\na,1,USD\n")
        assert notes(room, "transactionId,amount,currency\na,1,USD\n") == ""

    def test_a_column_that_is_named_has_to_be_there(self, room):
        with pytest.raises(ReconciliationError, match="no column Knd"):
            read(room, "transactionId,amount,currency\na,1,USD\n", columns={"kind": "Knd"})

    def test_amounts_with_fractions_are_whole_units_and_a_name_may_tell_the_smallest(self, room):
        (row,) = read(room, "order_id,amount,currency,type\na,9.99,USD,paid\n", "appcharge")
        assert row.amount_minor == "999"
        assert "whole units" in notes(room, "order_id,amount,currency,type\na,9.99,USD,paid\n", "appcharge")
        (row,) = read(room, "order_id,amount,currency,type\na,999,USD,paid\n", "appcharge")
        assert row.amount_minor == "999"
        (row,) = read(room, "order_id,amount_minor,currency,type\na,85.5,USD,paid\n", "appcharge")
        assert row.amount_minor == "85.5"
        (row,) = read(room, "transactionId,Amount (cents),currency\na,999,USD\n", columns={"amount": "Amount (cents)"})
        assert row.amount_minor == "999"
        (row,) = read(room, "order_id,amount,currency,type\na,9.99,USD,paid\n", "appcharge", unit="minor")
        assert row.amount_minor == "9.99"

    @pytest.mark.parametrize(
        "last",
        ["Total,15.00,,", ",15.00,,", "Sum:,15.00,USD,\n,,,\n", ",99.00,,Grand total", "Total (2 payments),1,USD,"],
    )
    def test_a_closing_line_of_totals_is_left_out_and_said(self, room, last):
        text = f"transactionId,amount,currency,note\na,9.00,USD,\nb,6.00,USD,\n{last}\n"
        assert [row.reference for row in read(room, text)] == ["a", "b"]
        assert "line 4 was left out as a line of totals: " in notes(room, text)

    def test_a_line_of_totals_for_each_currency_is_left_out(self, room):
        text = "transactionId,amount,currency\na,9.99,USD\nb,100,KRW\nTotal USD,9.99,USD\nTotal KRW,100,KRW\n"
        assert [row.reference for row in read(room, text)] == ["a", "b"]

    @pytest.mark.parametrize("order_id", ["TOTAL-0001", "sum123", "Total2", "subtotalled"])
    def test_an_id_that_begins_like_a_total_is_a_purchases(self, room, order_id):
        text = f"transactionId,amount,currency\na,9.99,USD\n{order_id},5.00,USD\n"
        assert [row.reference for row in read(room, text)] == ["a", order_id]

    def test_what_does_not_close_the_file_or_is_not_its_sum_is_no_line_of_totals(self, room):
        text = "transactionId,amount,currency\na,9.00,USD\n,15.00,USD\nTotal,1.00,USD\nb,6.00,USD\n,7.00,USD\n"
        assert [row.reference for row in read(room, text)] == ["a", "Total", "b"]
        told = notes(room, text)
        assert "totals" not in told
        assert "line 3 has no id that can be read: 15.00, USD" in told

    @pytest.mark.parametrize("cell", ['"=""000002"""', "'000002", "\u200b000002", " 000002\N{NO-BREAK SPACE}"])
    def test_what_a_spreadsheet_wraps_ids_in_is_taken_off(self, room, cell):
        assert read(room, f"transactionId,amount,currency\n{cell},9.99,USD\n")[0].reference == "000002"

    def test_a_line_that_cannot_be_read_is_shown_and_does_not_make_its_purchase_missing(self, room, books):
        books.pay("GP-1", "9.99", "USD")
        books.pay("GP-2", "9.99", "USD")
        books.close()
        run = room.by_text(
            "playcamp",
            "transactionId,amount,currency,status,email\nGP-1,nine,USD,COMPLETED,alice@example.com\n"
            "GP-2,9.99,USD,HALF,alice@example.com\n,1.00,USD,COMPLETED,alice@example.com\n",
        )
        assert room.results(run) == {"GP-1": "unreadable", "GP-2": "unreadable"}
        assert "GP-1, nine, USD, COMPLETED" in room.remedies(run)["GP-1"]
        assert run.rows_odd == 3
        assert [each for each in run.notes if "line 4 has no id" in each]
        assert "alice" not in str(room.remedies(run)) + str(run.notes)


class TestAlteredIds:
    def order_all(self, books: Books, ids: dict[str, str]) -> None:
        for amount, (ours, _) in enumerate(ids.items(), 100):
            books.order(ours, amount)
        books.close()

    def report(self, ids: dict[str, str]) -> str:
        lines = [
            f'"{theirs}",{amount},USD,paid,2026-07-10T10:00:00Z' for amount, theirs in enumerate(ids.values(), 100)
        ]
        return "order_id,amount_minor,currency,type,timestamp\n" + "\n".join(lines) + "\n"

    def test_ids_that_a_spreadsheet_altered_are_no_purchases_that_were_not_granted(self, room, books):
        ids = {
            "000002": "2",
            "0123456": "1.23E+05",
            "1234567890123456789": "1234567890123450000",
            "68e25eeb": "68E25EEB",
            "12E3": "1.20E+04",
            "00123456789012": "1.23457E+11",
            "same": "same",
        }
        self.order_all(books, ids)
        run = room.by_text("appcharge", self.report(ids) + "lost,999,USD,paid,2026-07-10T10:00:00Z\n")
        changed = [name for pair in ids.items() for name in pair if pair[0] != pair[1]]
        assert room.results(run) == {**dict.fromkeys(changed, "id_altered"), "lost": "missing_here"}
        assert "look altered" in room.remedies(run)["2"]
        assert "000002" in room.remedies(run)["2"]
        assert [(each.result, each.count) for each in run.summary] == [("missing_here", 1), ("id_altered", 12)]
        again = room.by_text("appcharge", self.report({each: each for each in ids}))
        assert (room.results(again), again.matched) == ({}, 7)

    def test_many_ids_that_became_one_power_of_ten_are_said_to_be_altered(self, room, books):
        ids = {str(123400 + number): "1.23E+05" for number in range(20)}
        self.order_all(books, ids)
        run = room.by_text("appcharge", self.report(ids))
        assert set(room.results(run).values()) == {"id_altered"}
        assert len(room.results(run)) == 21

    def test_other_ids_amounts_or_days_are_no_pair(self, room, books):
        books.order("000001", 100)
        books.order("000002", 200)
        books.order("000003", 300)
        books.close()
        run = room.by_text(
            "appcharge",
            "order_id,amount_minor,currency,type,timestamp\n9,100,USD,paid,2026-07-10T10:00:00Z\n"
            "2,201,USD,paid,2026-07-10T10:00:00Z\n3,300,USD,paid,2026-07-14T10:00:00Z\n",
        )
        assert sorted(room.results(run).values()) == ["missing_here"] * 3 + ["missing_there"] * 3


class TestEdges:
    HEAD = "transactionId,amount,currency,purchasedAt\n"

    def report(self, *rows: tuple[str, str]) -> str:
        return self.HEAD + "".join(f"{name},9.99,USD,{at}\n" for name, at in rows)

    def test_what_lies_in_the_hours_by_which_the_months_differ_is_at_the_edge(self, room, books, studio):
        studio.config("settlement.zone", "Asia/Seoul")
        for name, at in (
            ("early", "2026-06-30T16:00:00Z"),
            ("in", "2026-07-10T00:00:00Z"),
            ("lost", "2026-07-11T00:00:00Z"),
        ):
            books.pay(name, "9.99", "USD", at=at)
        books.close("2026-06")
        books.close()
        july = self.report(("in", "2026-07-10T00:00:00Z"), ("next", "2026-07-31T20:00:00Z"))
        books.pay("next", "9.99", "USD", at="2026-07-31T20:00:00Z")
        run = room.by_text("playcamp", july)
        assert room.results(run) == {"early": "at_edge", "lost": "missing_there"}
        assert "2026-06" in room.remedies(run)["early"]

        room.by_text("playcamp", self.report(("early", "2026-06-30T16:00:00Z")), "2026-06")
        assert room.results(room.by_text("playcamp", july)) == {"lost": "missing_there"}

    def test_a_report_of_another_zones_month_shows_where_its_month_ends(self, room, books):
        for name, at in (
            ("late", "2026-07-31T18:00:00Z"),
            ("in", "2026-07-31T10:00:00Z"),
            ("lost", "2026-07-11T00:00:00Z"),
        ):
            books.pay(name, "9.99", "USD", at=at)
        books.pay("before", "9.99", "USD", at="2026-06-30T16:00:00Z")
        books.close()
        run = room.by_text("playcamp", self.report(("before", "2026-06-30T16:00:00Z"), ("in", "2026-07-31T10:00:00Z")))
        assert room.results(run) == {"late": "at_edge", "lost": "missing_there"}

    def test_where_both_months_are_the_same_nothing_is_at_the_edge(self, room, books):
        books.pay("first", "9.99", "USD", at="2026-07-01T00:00:00Z")
        books.pay("last", "9.99", "USD", at="2026-07-31T23:59:59Z")
        books.close()
        run = room.by_text("playcamp", self.report(("x", "2026-07-10T00:00:00Z")))
        assert room.results(run) == {"first": "missing_there", "last": "missing_there", "x": "missing_here"}
