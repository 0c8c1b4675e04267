"""The documents of a closed month: CSV, creators' statements, double entry."""

import csv
import io
import re
import subprocess
import sys
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from beancount import loader
from beancount.core import data, realization
from hypothesis import given, settings
from hypothesis import strategies as st

from coinslot.base import money
from coinslot.settlement import documents
from coinslot.settlement.lines import totals, totals_by_creator
from coinslot.settlement.months import Settlement
from tests.books import Books

BEAN_CHECK = Path(sys.executable).with_name("bean-check")
STATEMENT = (
    "month,partner,currency,distribution_type,creator,count,gross,refunds,fee,net,creator_share,without_figures\n"
    "2026-07,appcharge,EUR,,,1,9.20,0.00,,,0.00,0.00\n"
    "2026-07,appcharge,USD,of EUR,,0,,,0.86,7.65,,\n"
    "2026-07,appcharge,USD,,,2,5009.99,0.00,0.86,7.65,0.00,5000.00\n"
    "2026-07,playcamp,KRW,MOBILE_STORE,,2,19800,9900,2970,6930,0,0\n"
    "2026-07,playcamp,KWD,MOBILE_STORE,AAA11,1,3.125,0.000,0.938,2.187,0.219,0.000\n"
    "2026-07,playcamp,USD,PC_SELF_STORE,,1,9.99,0.00,0.00,9.99,0.00,0.00\n"
    "2026-07,playcamp,USD,MOBILE_SELF_STORE,AAA11,1,9.99,0.00,0.00,9.99,1.00,0.00\n"
)
OF_CREATOR = (
    "month,creator,partner,currency,distribution_type,count,gross,refunds,fee,net,creator_share\n"
    "2026-07,AAA11,playcamp,KWD,MOBILE_STORE,1,3.125,0.000,0.938,2.187,0.219\n"
    "2026-07,AAA11,playcamp,USD,MOBILE_SELF_STORE,1,9.99,0.00,0.00,9.99,1.00\n"
)


class Documents:
    """The documents of one game, as text."""

    def __init__(self, books: Books) -> None:
        self.books = books

    def statement(self, found: Settlement, **options: Any) -> str:
        return "".join(documents.statement_csv(self.books.connection, found, **options))

    def rows(self, found: Settlement, **options: Any) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.statement(found, **options))))

    def creators(self, found: Settlement, *creator: str) -> str:
        return "".join(documents.creator_csv(self.books.connection, found, *creator))

    def beancount(self, found: Settlement, name: str = "Demo") -> str:
        return "".join(documents.beancount(self.books.connection, found, name))


@pytest.fixture
def books(books, studio):
    studio.config("settlement.share", "10")
    books.boost("bob", "AAA11", "2026-01-01")
    return books


@pytest.fixture
def written(books):
    return Documents(books)


@pytest.fixture
def filled(books):
    books.pay("GP-1", "9900", "KRW")
    books.pay("GP-2", "9.99", "USD", "pc")
    books.pay("GP-3", "3.125", "KWD", player="bob")
    books.pay("GP-4", "9900", "KRW", is_refunded=True)
    books.pay("appcharge:o-1", "9.99", "USD", "web", player="bob", source="appcharge")
    told = {"tax_minor": 149, "usd_gross": "999", "usd_tax": "149.4", "usd_fee": "85.5", "usd_net": "764.5"}
    books.order("o-1", player="bob", **told)
    books.order("o-2", 920, "EUR", **told)
    books.order("o-3", 0, kind="bonus")
    books.order("o-4", 500000)  # without any of Appcharge's figures
    return books


def bean_check(content: str, path: Path) -> str:
    """What bean-check has against it."""
    path.write_text(content)
    done = subprocess.run([BEAN_CHECK, path], capture_output=True, text=True, timeout=60)
    return done.stderr if done.returncode else ""


class TestCsv:
    def test_has_these_bytes_each_time_whatever_comes_later(self, filled, written):
        found = filled.close()
        before = written.statement(found, is_whole=True), written.beancount(found)
        filled.pay("late")
        filled.close("2026-08")

        assert written.statement(found) == STATEMENT
        assert (written.statement(found, is_whole=True), written.beancount(found)) == before
        assert written.creators(found, "AAA11") == written.creators(found) == OF_CREATOR
        assert written.creators(found, "ZZZ99").count("\n") == 1
        owed = totals_by_creator(filled.lines())
        assert [(line.creator, line.currency, line.share_minor) for line in owed] == [
            ("AAA11", "KWD", 219),
            ("AAA11", "USD", 100),
        ]

    def test_an_adjustment_stands_under_the_month_it_is_of(self, books, written):
        books.close()
        books.pay("GP-1")

        rows = written.rows(books.close("2026-08"))

        assert [(row["month"], row["gross"]) for row in rows] == [("2026-07", "9900")]

    def test_whole_it_tells_what_stands_apart_too(self, filled, written):
        filled.pay("GP-9", market="bazaar", is_registered=False)
        rows = written.rows(filled.close(), is_whole=True)
        apart = [row for row in rows if row["section"] not in ("counted", "orders")]
        assert [(row["section"], row["partner"], row["count"]) for row in apart] == [
            ("free", "appcharge", "1"),
            ("incomplete", "playcamp", "1"),
        ]

    def test_a_creators_key_becomes_no_formula(self):
        assert documents._csv(["=1+1", "-5.00", "@x"]) == "'=1+1,-5.00,'@x\n"


class TestDoubleEntry:
    def test_bean_check_accepts_months_put_together_and_is_really_asked(self, filled, written, tmp_path):
        july = written.beancount(filled.close(), 'Demo "the" \\ game')
        filled.pay("late", "100")
        filled.refund_order("o-1", at="2026-08-03")
        august = written.beancount(filled.close("2026-08"))

        assert "adjustment of 2026-07" in august
        assert bean_check(july + august, tmp_path / "both.beancount") == ""
        wrong = '2026-07-31 * "x"\n  Assets:A  1 USD\n  Income:B  -2 USD\n'
        assert "balance" in bean_check(wrong, tmp_path / "x")
        for content in (july, august):
            assert loader.load_string(content)[1] == []

    def test_accounts_come_to_what_the_statement_says(self, filled, written):
        entries, errors, _ = loader.load_string(written.beancount(filled.close()))

        assert errors == []
        assert sum(isinstance(entry, data.Transaction) for entry in entries) == 6
        root = realization.realize(entries)
        balances = {
            "Assets:Receivable:Playcamp:MobileStore": "2.187 KWD, 6930 KRW",
            "Income:Playcamp:Refunds:MobileStore": "9900 KRW",
            "Assets:Receivable:Appcharge": "15.30 USD",
            "Liabilities:Creators:AAA11": "-1.00 USD, -0.219 KWD",
            "Income:Appcharge:Sales": "-5009.99 USD, -9.20 EUR",
            "Assets:Receivable:Appcharge:WithoutFigures": "5000.00 USD",
            "Equity:Conversions:Appcharge": "-9.99 USD, 9.20 EUR",
        }
        assert {name: realization.get(root, name).balance.to_string(parens=False) for name in balances} == balances

    def test_every_document_of_a_month_and_of_its_adjustments_has_the_same_gross(self, filled, written):
        filled.order("o-5", 777, "EUR", usd_fee="12")
        months = [filled.close()]
        filled.order("late", 123, "EUR")
        filled.refund_order("o-4")
        filled.refund_order("o-2")
        months.append(filled.close("2026-08"))
        for found in months:
            lines = filled.lines(found.month.name)
            stated = {(each.partner, each.currency): each.gross_minor for each in totals(lines)}
            for is_whole in (False, True):
                sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
                for row in written.rows(found, is_whole=is_whole):
                    sums[row["partner"], row["currency"]] += Decimal(row["gross"] or 0)
                assert {key: money.in_minor(gross, key[1]) for key, gross in sums.items() if key in stated} == stated
            entries, errors, _ = loader.load_string(written.beancount(found))
            assert errors == []
            booked: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
            for posting in (each for entry in entries for each in getattr(entry, "postings", ())):
                if ":Sales" in posting.account:
                    partner = posting.account.split(":")[1].lower()
                    booked[partner, posting.units.currency] -= posting.units.number
            for line in lines:
                if line.section == "orders":  # the sale itself is the store's
                    stated[line.partner, line.currency] -= line.gross_minor
            assert {key: money.in_minor(gross, key[1]) for key, gross in booked.items()} == {
                key: minor for key, minor in stated.items() if minor
            }

    def test_a_line_that_is_wholly_given_back_keeps_the_names_of_its_accounts(self, books, written):
        books.order("o-1")
        books.refund_order("o-1")

        content = written.beancount(books.close())

        accounts = re.findall(r"^  ((?:Income|Assets|Expenses)\S+)", content, re.MULTILINE)
        assert accounts == ["Income:Appcharge:Sales", "Income:Appcharge:Refunds"]


NAMES = st.text("aAzZ09-_. \u00e9\u00c9\u0130/", min_size=1, max_size=6) | st.text(min_size=1, max_size=30)


@settings(deadline=None)
@given(NAMES, NAMES)
def test_two_names_never_become_the_same_account(one, other):
    for name in (one, other):
        assert re.fullmatch("[A-Z0-9][A-Za-z0-9-]*", documents._account(name))
    if one != other and one[:1].upper() + one[1:] != other[:1].upper() + other[1:]:
        assert documents._account(one) != documents._account(other)
