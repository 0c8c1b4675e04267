"""Partners' reports as files: read as they were meant, whatever program wrote them, or asked about."""

import csv
import io
import time
from decimal import Decimal
from typing import Any

import pytest

from coinslot.settlement import report_files, sorting
from coinslot.settlement.amounts import parse_amount
from coinslot.settlement.differences import PartnerRow
from coinslot.settlement.runs import ReconciliationError
from tests.books import Books
from tests.reconciler import Reconciler

HEAD = "transactionId,amount,currency\n"
ORDERS = "order_id,amount_minor,currency,type,timestamp\n"


class Reports:
    """Reports of partners' formats, read."""

    def __init__(self, reconciler: Reconciler) -> None:
        self.layout = reconciler.layout

    def read(self, text: str, partner: str = "playcamp", columns: Any = None, **options: Any) -> list[PartnerRow]:
        file, layout = io.StringIO(text, newline=""), self.layout(partner, columns, **options)
        return [row for rows in report_files.read(file, layout) for row in rows or []]

    def rows(self, text: str, partner: str = "playcamp", **options: Any) -> list[tuple[Any, ...]]:
        """Ids, kinds and amounts."""
        return [(row.reference, row.kind, row.amount_minor) for row in self.read(text, partner, **options)]

    def amounts(self, text: str, partner: str = "playcamp", **options: Any) -> list[str | None]:
        return [each[2] for each in self.rows(text, partner, **options)]

    def ids(self, text: str) -> list[str]:
        return [each[0] for each in self.rows(text)]

    def notes(self, text: str, partner: str = "playcamp") -> str:
        return " / ".join(report_files.look_through(io.StringIO(text, newline=""), self.layout(partner)).notes)


@pytest.fixture
def reports(reconciler):
    return Reports(reconciler)


class TestAmounts:
    @pytest.mark.parametrize(
        ("cells", "amount"),
        [
            (["9.99", "9,99", "$9.99", "US$ 9.99", "9,99 €", "9.99 USD", "+9.99"], "9.99"),
            (["-9.99", "-$9.99", "$-9.99", "9.99-", "(9.99)", "$(9.99)", "(9.99) USD", "\N{MINUS SIGN}9.99"], "-9.99"),
            (["1,234.56", "1.234,56", "1 234,56", "1'234.56", "1\N{NO-BREAK SPACE}234,56"], "1234.56"),
            (["1\N{NARROW NO-BREAK SPACE}234.56"], "1234.56"),
            (["1.234.567"], "1234567"),
            (["12,34,567.50"], "1234567.50"),
            (["($1,009.99)"], "-1009.99"),
            (["\N{FULLWIDTH DIGIT NINE}.5"], "9.5"),
            ([".5"], "0.5"),
            (["0.125"], "0.125"),
            (["9900"], "9900"),
            (["", "x", "--1", "-(1)", "1.2.3", "1,23.45", "1e5", "NaN", "1 2", "9.99.", "1" * 65], None),
        ],
    )
    def test_amounts_are_read_as_people_write_them(self, cells, amount):
        found = {cell: parse_amount(cell) for cell in cells}
        assert {cell: each and each.exact for cell, each in found.items()} == dict.fromkeys(
            cells, amount and Decimal(amount)
        )

    @pytest.mark.parametrize(("decimal", "amount"), [(None, None), (".", 1), (",", 1000)])
    def test_one_separator_before_three_digits_is_open(self, decimal, amount):
        found = parse_amount("1.000")
        assert found is not None
        assert found.value(decimal) == amount

    def test_a_long_cell_costs_no_more_than_its_length(self):
        for text in ("9" * 60, "9.9," * 15, "$" * 60, "1 " * 30):
            began = time.perf_counter()
            for number in range(200):
                parse_amount(f"{text}{number:03d}x")
            assert time.perf_counter() - began < 1.0

    @pytest.mark.parametrize(
        ("text", "partner", "options", "amounts"),
        [
            # Of the currency's decimals.
            (f"{HEAD}a,1480,JPY\nb,3.125,KWD\nc,9.99,USD\n", "playcamp", {}, ["1480", "3125", "999"]),
            ("transactionId,amount\na,999\n", "playcamp", {"unit": "minor", "currency": "USD"}, ["999"]),
            # The other amounts of a file tell what a separator is.
            ("transactionId;amount;currency\na;1.000;USD\nb;9,99;USD\n", "playcamp", {}, ["100000", "999"]),
            ("transactionId;amount;currency\na;1.000;USD\nb;9.99;USD\n", "playcamp", {}, ["100.0", "999"]),
            ("transactionId;amount;currency\na;9,900;KRW\nb;14,800;KRW\n", "playcamp", {}, ["9900", "14800"]),
            # Commas in the smallest unit stand for thousands.
            (f'{ORDERS}a,"1,234",USD,paid\nb,999,USD,paid\n', "appcharge", {}, ["1234", "999"]),
            (f'{ORDERS}a,"1,234",USD,paid\nb,85.5,USD,paid\n', "appcharge", {}, ["1234", "85.5"]),
            ('order_id,amount,currency\na,"1,234",USD\nb,"12,345,678",USD\n', "appcharge", {"unit": "minor"},
             ["1234", "12345678"]),
            # With fractions they are whole units, unless the name of the column tells.
            ("order_id,amount,currency,type\na,9.99,USD,paid\n", "appcharge", {}, ["999"]),
            ("order_id,amount,currency,type\na,999,USD,paid\n", "appcharge", {}, ["999"]),
            (f"{ORDERS}a,85.5,USD,paid\n", "appcharge", {}, ["85.5"]),
            ("transactionId,X (cents),currency\na,999,USD\n", "playcamp", {"columns": {"amount": "X (cents)"}},
             ["999"]),
            ("order_id,amount,currency,type\na,9.99,USD,paid\n", "appcharge", {"unit": "minor"}, ["9.99"]),
        ],
    )  # fmt: skip
    def test_unit_and_separators_are_seen_by_all_amounts_of_a_file(self, reports, text, partner, options, amounts):
        assert [Decimal(each) for each in reports.amounts(text, partner, **options)] == list(map(Decimal, amounts))

    @pytest.mark.parametrize("cells", [["1.000"], ["1,000", "2,500"], ["1.000", "9.99", "9,99"]])
    def test_a_file_whose_separators_are_open_is_asked_about(self, reports, cells):
        text = "transactionId;amount;currency\n" + "".join(f"{n};{cell};USD\n" for n, cell in enumerate(cells))
        with pytest.raises(ReconciliationError, match=rf"{cells[0]} on line 2 may be thousands .* a point or a comma"):
            reports.read(text)
        for decimal, minor in ((cells[0][1], 100), ("," if cells[0][1] == "." else ".", 100_000)):
            assert Decimal(reports.amounts(text, decimal=decimal)[0]) == minor

    def test_thousands_with_commas_make_no_difference(self, reconciler, books):
        for number in range(5):
            books.pay(f"GP-{number}", f"{1000 + number}.50", "USD")
        books.close()
        rows = "".join(f'GP-{n},"{1000 + n:,}.50",USD,Payment\n' for n in range(5))
        run = reconciler.by_text("playcamp", f"transactionId,amount,currency,status\n{rows}")
        assert (reconciler.results(run), run.matched, run.rows_odd) == ({}, 5, 0)

    @pytest.mark.parametrize("cell", ["", "x", "1e999", "NaN", "9,9,9", "--1", "9.99 EUR"])
    def test_an_amount_that_is_none_or_of_another_currency_makes_the_line_unreadable_and_no_more(self, reports, cell):
        text = io.StringIO()
        csv.writer(text).writerows([HEAD.strip().split(","), ["a", cell, "USD"], ["b", "1 USD", "USD"]])
        assert reports.rows(text.getvalue()) == [("a", "unreadable", None), ("b", "paid", "100")]


class TestKinds:
    @pytest.mark.parametrize("partner", ["appcharge", "playcamp"])
    @pytest.mark.parametrize(
        ("words", "kinds"),
        [
            (["Payment", "PAID", "", "Sale"], ["paid"]),
            (["refunded", "Refund", "chargeback", "Charge-back"], ["refunded"]),
            (["pending", "Cancelled"], []),
            (["half"], ["unreadable"]),
        ],
    )
    def test_words_for_what_happened_are_understood(self, reports, partner, words, kinds):
        columns = {"reference": "id", "kind": "status", "amount": "amount", "currency": "currency"}
        for word in words:
            rows = reports.rows(f"id,status,amount,currency\na,{word},9.99,USD\n", partner, columns=columns)
            assert [each[1] for each in rows] == kinds, word

    def test_below_nothing_is_a_refund_where_nothing_is_said_and_else_cannot_be_read(self, reconciler, books):
        for name in ("plain", "said", "both"):
            books.pay(name, "3000", "USD")
        books.close()
        run = reconciler.by_text(
            "playcamp",
            "transactionId,amount,currency,status\n"
            "plain,-3000.00,USD,\nsaid,-3000.00,USD,COMPLETED\nboth,3000.00,USD,\nboth,(3000.00),USD,\n",
        )
        assert reconciler.results(run) == {"plain": "refunded_there", "said": "unreadable", "both": "refunded_there"}
        assert not run.agrees

    @pytest.mark.parametrize("has_row_id", [False, True])
    def test_two_rows_of_one_purchase_with_other_amounts_are_a_difference_and_the_same_row_twice_is_one(
        self, reconciler, books, has_row_id
    ):
        for name in ("twice", "other", "times"):
            books.pay(name, "9.99", "USD")
        books.close()
        at, end = "2026-07-10T10:00:00Z", ",r-1\n" if has_row_id else "\n"
        lines = [f"twice,9.99,USD,{at}"] * 2 + [f"{name},USD,{at}" for name in ("other,9.99", "other,5.00")]
        lines += [f"times,9.99,USD,{at}"] + ([] if has_row_id else ["times,9.99,USD,2026-07-11T10:00:00Z"])
        head = HEAD.strip() + ",purchasedAt" + (",rowId\n" if has_row_id else "\n")
        run = reconciler.by_text("playcamp", head + "".join(f"{line}{end}" for line in lines))
        differences = reconciler.differences(run)
        assert differences.pop("other") == ("amount_differs", "500", "USD", "ask_partner")
        assert set(differences) == (set() if has_row_id else {"times"})

    @pytest.mark.parametrize(
        ("rows", "results"),
        [
            # Told as paid and then as refunded, it was paid once.
            ("GP-1,9.99,USD,COMPLETED\nGP-1,9.99,USD,REFUNDED\n", {}),
            ("GP-1,4.99,EUR,\nGP-1,5.00,USD,\n", {"GP-1": "unreadable"}),
        ],
    )
    def test_rows_of_one_payment_are_added_up_in_one_currency(self, reconciler, books, rows, results):
        books.pay("GP-1", "9.99", "USD", is_refunded=True)
        books.close()
        run = reconciler.by_text("playcamp", f"transactionId,amount,currency,status\n{rows}")
        assert (reconciler.results(run), run.matched) == (results, 0 if results else 1)


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
    def test_separators_and_common_names_of_columns_are_recognised(self, reports, text):
        (row,) = reports.read(text)
        assert (row.reference, row.amount_minor, row.currency) == ("a", "999", "USD")

    def test_appcharges_own_export_needs_no_mapping(self, reports):
        text = (
            "timestamp,type,amount_minor,currency,order_id,transaction_id,our_transaction_id\n"
            "2026-07-10T10:00:00.000Z,refund,-999,USD,o-1,t-2,70c2e3c8\n"
        )
        assert reports.read(text, "appcharge") == [
            PartnerRow("o-1", "t-2:refunded", "refunded", "999", "USD", "2026-07-10T10:00:00.000000Z", "70c2e3c8")
        ]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
    @pytest.mark.parametrize("separator", [";", "\t"])
    def test_files_are_read_in_the_encodings_that_spreadsheets_write(
        self, reconciler, books, encoding, separator, tmp_path
    ):
        books.order("a", 123450, "EUR")
        books.close()
        text = "Order Number;Date;Who;Amount;Currency;Kind\r\na;2026-07-10;Müller;1.234,50;EUR;Payment\r\n"
        path = tmp_path / "report.csv"
        path.write_bytes(text.replace(";", separator).encode(encoding))
        run = reconciler.by_file("appcharge", path)
        assert (reconciler.results(run), run.matched, run.rows_odd) == ({}, 1, 0)
        assert any("Windows-1252" in note for note in run.notes) == (encoding == "cp1252")

    @pytest.mark.parametrize("content", [b"\x00\x01\x02\xff" * 40, b"PK\x03\x04\x14\x00\x81\x8d", b"\xff\xfea"])
    def test_what_is_no_text_is_refused(self, tmp_path, content):
        path = tmp_path / "report.xlsx"
        path.write_bytes(content)
        with pytest.raises(ReconciliationError, match="not UTF-8, UTF-16 or Windows-1252"):
            report_files.open_report(path)

    @pytest.mark.parametrize(
        ("text", "options", "words"),
        [
            ("a,b\n1,2\n", {}, "no column transactionId"),
            ("transactionId,amount\n1,2\n", {}, "which currency"),
            ("transactionId,amount\n1,2\n", {"currency": "XXX"}, "decimals XXX"),
            ("", {}, "no column"),
            (HEAD + "x" * 100_000, {}, "no CSV"),
            (HEAD + '"x\n",' * 50_000, {}, "a row is longer than"),
            (HEAD + 'a,1,"USD\nb,2,USD\n', {}, "a quotation mark is not closed"),
            ("a", {"columns": {"colour": "x"}}, "no field colour"),
            (f"{HEAD}a,1,USD\n", {"columns": {"kind": "Knd"}}, "no column Knd"),
            ("Transactions\n\nNr,Betrag,Currency\na,9.99,USD\n", {}, "no column transactionId"),
        ],
    )
    def test_what_cannot_be_read_is_refused_in_words(self, reports, text, options, words):
        with pytest.raises(ReconciliationError, match=words):
            reports.read(text, **options)

    @pytest.mark.parametrize(
        "above",
        [
            "Transactions of July 2026\n",
            "Account;Demo Games\nPeriod;2026-07-01;2026-07-31\n\n",
            "sep=;\nTransactions\n",
            '"Transactions, all";;;;\n;;;;\n',
        ],
    )
    def test_the_header_is_found_below_a_title(self, reports, above):
        text = above + "Transaction ID;Type;Amount;Currency\na;Payment;9,99;USD\nb;Refund;-1,50;USD\n"
        assert reports.rows(text) == [("a", "paid", "999"), ("b", "refunded", "150")]
        number = above.count("\n") + 1
        assert f"line {number} was read as the header, and the lines above it were left out" in reports.notes(text)

    def test_below_a_title_a_header_of_other_names_is_found_by_what_is_named(self, reports):
        text = "Transactions\n\nNr,Betrag,Currency\na,9.99,USD\n"
        assert reports.rows(text, columns={"reference": "Nr", "amount": "Betrag"}) == [("a", "paid", "999")]

    @pytest.mark.parametrize(
        ("text", "partner", "note"),
        [
            ("Payment ID,amount,currency\na,1,USD\n", "playcamp", "reference from Payment ID"),
            ("order_id,amount,currency,type\na,9.99,USD,paid\n", "appcharge", "whole units"),
            (
                f"{HEAD}a,9.00,USD\n\nMade at 2026-08-01\n2 rows,,\n",
                "playcamp",
                "line 4 was left out as a line of words: Made at 2026-08-01",
            ),
        ],
    )
    def test_how_a_file_was_read_is_said(self, reports, text, partner, note):
        assert reports.rows(text, partner)[0][0] == "a"
        assert len(reports.rows(text, partner)) == 1
        assert note in reports.notes(text, partner)
        assert reports.notes(f"{HEAD}a,1,USD\n") == ""

    @pytest.mark.parametrize(
        "last",
        ["Total,15.00,,", ",15.00,,", "Sum:,15.00,USD,\n,,,\n", ",99.00,,Grand total", "Total (2 payments),1,USD,",
         "Total USD,9.99,USD,\nTotal KRW,100,KRW,"],
    )  # fmt: skip
    def test_closing_lines_of_totals_are_left_out_and_said(self, reports, last):
        text = f"transactionId,amount,currency,note\na,9.00,USD,\nb,6.00,USD,\n{last}\n"
        assert reports.ids(text) == ["a", "b"]
        assert "line 4 was left out as a line of totals: " in reports.notes(text)

    @pytest.mark.parametrize("order_id", ["TOTAL-0001", "sum123", "Total2", "subtotalled"])
    def test_an_id_that_begins_like_a_total_is_a_purchases(self, reports, order_id):
        assert reports.ids(f"{HEAD}a,9.99,USD\n{order_id},5.00,USD\n") == ["a", order_id]

    def test_what_does_not_close_the_file_or_is_not_its_sum_is_no_line_of_totals(self, reports):
        text = f"{HEAD}a,9.00,USD\n,15.00,USD\nTotal,1.00,USD\nb,6.00,USD\n,7.00,USD\n"
        assert reports.ids(text) == ["a", "Total", "b"]
        assert "totals" not in reports.notes(text)
        assert "line 3 has no id that can be read: 15.00, USD" in reports.notes(text)

    @pytest.mark.parametrize("cell", ['"=""000002"""', "'000002", "\u200b000002", " 000002\N{NO-BREAK SPACE}"])
    def test_what_a_spreadsheet_wraps_ids_in_is_taken_off(self, reports, cell):
        assert reports.ids(f"{HEAD}{cell},9.99,USD\n") == ["000002"]

    def test_a_line_that_cannot_be_read_is_shown_and_does_not_make_its_purchase_missing(self, reconciler, books):
        books.pay("GP-1", "9.99", "USD")
        books.pay("GP-2", "9.99", "USD")
        books.close()
        run = reconciler.by_text(
            "playcamp",
            "transactionId,amount,currency,status,email\nGP-1,nine,USD,COMPLETED,alice@example.com\n"
            "GP-2,9.99,USD,HALF,alice@example.com\n,1.00,USD,COMPLETED,alice@example.com\n",
        )
        assert reconciler.results(run) == {"GP-1": "unreadable", "GP-2": "unreadable"}
        assert "GP-1, nine, USD, COMPLETED" in reconciler.remedies(run)["GP-1"]
        assert run.rows_odd == 3
        assert "line 4 has no id" in str(run.notes)
        assert "alice" not in str(reconciler.remedies(run)) + str(run.notes)

    def test_a_large_file_is_sorted_in_parts_and_loses_nothing(self, reports, monkeypatch):
        monkeypatch.setattr(sorting, "SORTED_AT_ONCE", 7)
        monkeypatch.setattr(sorting, "READ_AT_ONCE", 3)
        text = HEAD + "".join(f"GP-{n * 37 % 100:03d},{n + 1},USD\n" for n in range(100)) + ",5,USD\n"

        count, odd, rows = sorting.in_order(report_files.read(io.StringIO(text), reports.layout("playcamp")))

        assert (count, odd) == (100, 1)
        assert [row.reference for row in rows] == [f"GP-{n:03d}" for n in range(100)]


class TestIdsOfSpreadsheets:
    def order_all(self, books: Books, ids: dict[str, str]) -> str:
        """Orders of the first ids; returns a report of the second."""
        for amount, ours in enumerate(ids, 100):
            books.order(ours, amount)
        books.close()
        return self.report(ids)

    def report(self, ids: dict[str, str]) -> str:
        at = "2026-07-10T10:00:00Z"
        rows = (f'"{theirs}",{amount},USD,paid,{at}\n' for amount, theirs in enumerate(ids.values(), 100))
        return ORDERS + "".join(rows)

    def test_ids_that_a_spreadsheet_altered_are_no_purchases_that_were_not_granted(self, reconciler, books):
        ids = {
            "000002": "2",
            "0123456": "1.23E+05",
            "1234567890123456789": "1234567890123450000",
            "68e25eeb": "68E25EEB",
            "12E3": "1.20E+04",
            "00123456789012": "1.23457E+11",
            "same": "same",
        }
        report = self.order_all(books, ids) + "lost,999,USD,paid,2026-07-10T10:00:00Z\n"
        run = reconciler.by_text("appcharge", report)
        changed = [name for pair in ids.items() for name in pair if pair[0] != pair[1]]
        assert reconciler.results(run) == {**dict.fromkeys(changed, "id_altered"), "lost": "missing_here"}
        assert "look altered" in reconciler.remedies(run)["2"]
        assert "000002" in reconciler.remedies(run)["2"]
        assert [(each.result, each.count) for each in run.summary] == [("missing_here", 1), ("id_altered", 12)]
        again = reconciler.by_text("appcharge", self.report({each: each for each in ids}))
        assert (reconciler.results(again), again.matched) == ({}, 7)

    def test_many_ids_that_became_one_power_of_ten_are_said_to_be_altered(self, reconciler, books):
        report = self.order_all(books, {str(123400 + number): "1.23E+05" for number in range(20)})
        results = reconciler.results(reconciler.by_text("appcharge", report))
        assert (set(results.values()), len(results)) == ({"id_altered"}, 21)

    def test_other_ids_amounts_or_days_are_no_pair(self, reconciler, books):
        for order_id, amount in (("000001", 100), ("000002", 200), ("000003", 300)):
            books.order(order_id, amount)
        books.close()
        rows = "9,100,USD,paid,2026-07-10{0}2,201,USD,paid,2026-07-10{0}3,300,USD,paid,2026-07-14{0}"
        run = reconciler.by_text("appcharge", ORDERS + rows.format("T10:00:00Z\n"))
        assert sorted(reconciler.results(run).values()) == ["missing_here"] * 3 + ["missing_there"] * 3


class TestEdges:
    """Purchases in the hours by which our month and the partner's differ."""

    def report(self, **rows: str) -> str:
        return "transactionId,amount,currency,purchasedAt\n" + "".join(f"{n},9.99,USD,{at}\n" for n, at in rows.items())

    def pay(self, books: Books, **payments: str) -> None:
        for name, at in payments.items():
            books.pay(name, "9.99", "USD", at=at)

    def test_what_is_not_reported_in_these_hours_is_at_the_edge(self, reconciler, books, studio):
        studio.config("settlement.zone", "Asia/Seoul")
        within = "2026-07-10T00:00:00Z"
        self.pay(books, early="2026-06-30T16:00:00Z", within=within, lost="2026-07-11T00:00:00Z")
        books.close("2026-06")
        books.close()
        july = self.report(within=within, next="2026-07-31T20:00:00Z")
        self.pay(books, next="2026-07-31T20:00:00Z")
        run = reconciler.by_text("playcamp", july)
        assert reconciler.results(run) == {"early": "at_edge", "lost": "missing_there"}
        assert "2026-06" in reconciler.remedies(run)["early"]

        reconciler.by_text("playcamp", self.report(early="2026-06-30T16:00:00Z"), "2026-06")
        assert reconciler.results(reconciler.by_text("playcamp", july)) == {"lost": "missing_there"}

    def test_a_report_of_another_zones_month_shows_where_its_month_ends(self, reconciler, books):
        reported = {"before": "2026-06-30T16:00:00Z", "within": "2026-07-31T10:00:00Z"}
        self.pay(books, late="2026-07-31T18:00:00Z", lost="2026-07-11T00:00:00Z", **reported)
        books.close()
        run = reconciler.by_text("playcamp", self.report(**reported))
        assert reconciler.results(run) == {"late": "at_edge", "lost": "missing_there"}

    def test_where_both_months_are_the_same_nothing_is_at_the_edge(self, reconciler, books):
        self.pay(books, first="2026-07-01T00:00:00Z", last="2026-07-31T23:59:59Z")
        books.close()
        run = reconciler.by_text("playcamp", self.report(x="2026-07-10T00:00:00Z"))
        assert reconciler.results(run) == {"first": "missing_there", "last": "missing_there", "x": "missing_here"}
