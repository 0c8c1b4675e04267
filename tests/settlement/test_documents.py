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
from hypothesis import given
from hypothesis import strategies as st

from coinslot.base import money
from coinslot.ledger import events
from coinslot.settlement import documents
from coinslot.settlement.lines import totals, totals_by_creator
from tests.books import Books

BEAN_CHECK = Path(sys.executable).with_name("bean-check")


@pytest.fixture
def books(installation, studio):
    studio.config("settlement.share", "10")
    books = Books(installation, studio)
    installation.database.write_here(
        lambda tx: events.record(
            tx,
            game_id=books.game.id,
            partner="playcamp",
            type="sponsor.created",
            dedupe_key="b",
            data={"campaign_id": "camp_1", "creator_key": "AAA11"},
            raw_body=None,
            environment="live",
            is_test=False,
            player_id="bob",
            occurred_at="2026-01-01T00:00:00.000000Z",
        )
    )
    return books


def fill(books: Books) -> None:
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


def text(parts: Any) -> str:
    return "".join(parts)


def bean_check(content: str, path: Path) -> str:
    """What bean-check has against it."""
    path.write_text(content)
    done = subprocess.run([BEAN_CHECK, path], capture_output=True, text=True, timeout=60)
    return done.stderr if done.returncode else ""


class TestCsv:
    def test_has_these_columns_and_only_what_counts(self, books):
        fill(books)
        found = books.close()

        assert text(documents.statement_csv(books.installation.database.read(), found)) == (
            "month,partner,currency,distribution_type,creator,count,gross,refunds,fee,net,creator_share,without_figures\n"
            "2026-07,appcharge,EUR,,,1,9.20,0.00,,,0.00,0.00\n"
            "2026-07,appcharge,USD,of EUR,,0,,,0.86,7.65,,\n"
            "2026-07,appcharge,USD,,,2,5009.99,0.00,0.86,7.65,0.00,5000.00\n"
            "2026-07,playcamp,KRW,MOBILE_STORE,,2,19800,9900,2970,6930,0,0\n"
            "2026-07,playcamp,KWD,MOBILE_STORE,AAA11,1,3.125,0.000,0.938,2.187,0.219,0.000\n"
            "2026-07,playcamp,USD,PC_SELF_STORE,,1,9.99,0.00,0.00,9.99,0.00,0.00\n"
            "2026-07,playcamp,USD,MOBILE_SELF_STORE,AAA11,1,9.99,0.00,0.00,9.99,1.00,0.00\n"
        )

    def test_is_the_same_bytes_each_time_whatever_comes_later(self, books):
        fill(books)
        found = books.close()
        connection = books.installation.database.read()
        forms = (
            lambda: text(documents.statement_csv(connection, found, is_whole=True)),
            lambda: text(documents.creator_csv(connection, found)),
            lambda: text(documents.beancount(connection, found, "Demo")),
        )
        before = [form() for form in forms]

        books.pay("late")
        books.close("2026-08")

        assert [form() for form in forms] == before

    def test_an_adjustment_stands_under_the_month_it_is_of(self, books):
        books.close()
        books.pay("GP-1")
        found = books.close("2026-08")

        rows = list(
            csv.DictReader(io.StringIO(text(documents.statement_csv(books.installation.database.read(), found))))
        )

        assert [(row["month"], row["gross"]) for row in rows] == [("2026-07", "9900")]

    def test_whole_it_tells_what_stands_apart_too(self, books):
        fill(books)
        books.pay("GP-9", market="bazaar", is_registered=False)
        found = books.close()
        whole = text(documents.statement_csv(books.installation.database.read(), found, is_whole=True))
        rows = list(csv.DictReader(io.StringIO(whole)))
        apart = [
            (row["section"], row["partner"], row["count"])
            for row in rows
            if row["section"] not in ("counted", "orders")
        ]
        assert apart == [("free", "appcharge", "1"), ("incomplete", "playcamp", "1")]

    def test_a_creators_key_becomes_no_formula(self, books):
        assert documents._csv(["=1+1", "-5.00", "@x"]) == "'=1+1,-5.00,'@x\n"


class TestCreators:
    def test_each_sees_what_they_brought_and_are_owed(self, books):
        fill(books)
        found = books.close()

        assert text(documents.creator_csv(books.installation.database.read(), found, "AAA11")) == (
            "month,creator,partner,currency,distribution_type,count,gross,refunds,fee,net,creator_share\n"
            "2026-07,AAA11,playcamp,KWD,MOBILE_STORE,1,3.125,0.000,0.938,2.187,0.219\n"
            "2026-07,AAA11,playcamp,USD,MOBILE_SELF_STORE,1,9.99,0.00,0.00,9.99,1.00\n"
        )
        assert text(documents.creator_csv(books.installation.database.read(), found, "ZZZ99")).count("\n") == 1
        owed = totals_by_creator(books.lines())
        assert [(line.currency, line.share_minor) for line in owed] == [("KWD", 219), ("USD", 100)]


class TestDoubleEntry:
    def test_bean_check_accepts_a_month_and_months_put_together(self, books, tmp_path):
        fill(books)
        july = text(documents.beancount(books.installation.database.read(), books.close(), 'Demo "the" \\ game'))
        books.pay("late", "100")
        books.refund_order("o-1", at="2026-08-03T00:00:00.000000Z")
        august = text(documents.beancount(books.installation.database.read(), books.close("2026-08"), "Demo"))

        assert bean_check(july, tmp_path / "july.beancount") == ""
        assert bean_check(august, tmp_path / "august.beancount") == ""
        assert "adjustment of 2026-07" in august
        assert bean_check(july + august, tmp_path / "both.beancount") == ""

    def test_bean_check_is_really_asked(self, tmp_path):
        content = '2026-07-31 * "x"\n  Assets:A  1 USD\n  Income:B  -2 USD\n'
        assert "balance" in bean_check(content, tmp_path / "x")

    def test_accounts_come_to_what_the_statement_says(self, books):
        fill(books)
        found = books.close()

        entries, errors, _ = loader.load_string(
            text(documents.beancount(books.installation.database.read(), found, "Demo"))
        )

        assert errors == []
        assert sum(isinstance(entry, data.Transaction) for entry in entries) == 6
        root = realization.realize(entries)

        def balance(account: str) -> str:
            return realization.get(root, account).balance.to_string(parens=False)

        assert balance("Assets:Receivable:Playcamp:MobileStore") == "2.187 KWD, 6930 KRW"
        assert balance("Income:Playcamp:Refunds:MobileStore") == "9900 KRW"
        assert balance("Assets:Receivable:Appcharge") == "15.30 USD"
        assert balance("Liabilities:Creators:AAA11") == "-1.00 USD, -0.219 KWD"
        assert balance("Income:Appcharge:Sales") == "-5009.99 USD, -9.20 EUR"
        assert balance("Assets:Receivable:Appcharge:WithoutFigures") == "5000.00 USD"
        assert balance("Equity:Conversions:Appcharge") == "-9.99 USD, 9.20 EUR"

    def test_every_document_of_a_month_and_of_its_adjustments_has_the_same_gross(self, books):
        fill(books)
        books.order("o-5", 777, "EUR", usd_fee="12")
        months = [books.close()]
        books.order("late", 123, "EUR")
        books.refund_order("o-4")
        books.refund_order("o-2")
        months.append(books.close("2026-08"))
        for found in months:
            lines = books.lines(found.month.name)
            stated = {(each.partner, each.currency): each.gross_minor for each in totals(lines)}
            orders = sum(line.gross_minor for line in lines if line.section == "orders")
            for is_whole in (False, True):
                content = text(documents.statement_csv(books.installation.database.read(), found, is_whole=is_whole))
                sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
                for row in csv.DictReader(io.StringIO(content)):
                    sums[row["partner"], row["currency"]] += Decimal(row["gross"] or 0)
                assert {key: money.in_minor(gross, key[1]) for key, gross in sums.items() if key in stated} == stated
            entries, errors, _ = loader.load_string(
                text(documents.beancount(books.installation.database.read(), found, "Demo"))
            )
            assert errors == []
            booked: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
            for entry in entries:
                for posting in getattr(entry, "postings", ()):
                    if ":Sales" in posting.account:
                        partner = posting.account.split(":")[1].lower()
                        booked[partner, posting.units.currency] -= posting.units.number
            in_store = {key: minor - (orders if key == ("playcamp", "USD") else 0) for key, minor in stated.items()}
            assert {key: money.in_minor(gross, key[1]) for key, gross in booked.items()} == {
                key: minor for key, minor in in_store.items() if minor
            }

    def test_a_line_that_is_wholly_given_back_keeps_the_names_of_its_accounts(self, books):
        books.order("o-1")
        books.refund_order("o-1")

        content = text(documents.beancount(books.installation.database.read(), books.close(), "Demo"))

        accounts = re.findall(r"^  ((?:Income|Assets|Expenses)\S+)", content, re.MULTILINE)
        assert accounts == ["Income:Appcharge:Sales", "Income:Appcharge:Refunds"]


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_two_names_never_become_the_same_account(one, other):
    for name in (one, other):
        assert re.fullmatch("[A-Z0-9][A-Za-z0-9-]*", documents._account(name))
    if one != other and one[:1].upper() + one[1:] != other[:1].upper() + other[1:]:
        assert documents._account(one) != documents._account(other)
