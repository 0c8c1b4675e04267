"""An open month: what it has come to so far, for every partner, by the rule that closes it."""

import pytest

from coinslot.settlement import calculation, open_months
from tests.books import Books
from tests.pages import text_of

MONTH = "/games/demo/settlements/2026-07"


@pytest.fixture
def books(books, clock):
    clock.move_to("2026-07-20T00:00:00Z")
    return books


@pytest.fixture
def few_are_many(monkeypatch):
    monkeypatch.setattr(open_months, "MOST_AT_ONCE", 3)


def fill(books: Books) -> None:
    books.pay("GP-1", "9900", "KRW")
    books.order("o-1", usd_fee="85.5", usd_net="764.5")
    books.order("o-2", 920, "EUR", usd_fee="85.5", usd_net="764.5")
    books.order("edge", 5555, at="2026-06-30T20")  # July in Seoul
    books.order("received-now", 7777, at="2026-06-10")  # of June, though it came in July


def test_it_has_every_partner_with_fee_and_net_by_the_months_own_rule(browser, books, studio):
    studio.config("settlement.zone", "Asia/Seoul")
    fill(books)

    shown = text_of(browser.get(MONTH))

    payments, orders = ("9,900 KRW", "2,970 KRW", "6,930 KRW"), ("65.54 USD", "0.86 USD", "7.65 USD", "9.20 EUR")
    notes = ("1 without the partner's figures (55.55 USD)", "As of 2026-07-20 00:00:00")
    assert [each for each in (*payments, *orders, *notes) if each not in shown] == []
    assert "77.77" not in shown


def test_what_it_shows_is_what_closing_freezes(browser, books, clock):
    fill(books)
    before = text_of(browser.get(MONTH))
    clock.move_to("2026-08-02T00:00:00Z")
    books.close()
    after = text_of(browser.get(MONTH))
    for line in books.lines():
        for part in (f"{line.gross_minor / 100:.2f}", str(line.count)):
            assert (part in before) == (part in after)


def test_a_large_month_is_reckoned_in_the_background_and_says_of_when_it_is(
    browser, books, installation, clock, few_are_many
):
    for number in range(5):
        books.order(f"o-{number}", usd_fee="85.5", usd_net="764.5")
    assert "That is done in the background" in text_of(browser.get(MONTH))

    def shows(gross: str, at: str) -> bool:
        text = text_of(browser.get(MONTH))
        return f"{gross} USD" in text and f"As of 2026-07-20 {at}" in text

    installation.new_relay().drain()
    assert shows("49.95", "00:00:00")
    books.order("later")
    clock.shift(1800)
    assert shows("49.95", "00:00:00")
    clock.shift(1800)
    installation.new_relay().drain()
    assert shows("59.94", "01:00:00")


def test_a_month_that_was_closed_is_kept_no_more(books, installation, clock, db, few_are_many):
    for number in range(5):
        books.order(f"o-{number}")
    open_months.calculate_large(installation.database, books.game, installation.in_game)
    assert [row["month"] for row in db("SELECT * FROM months_so_far")] == ["2026-07"]
    clock.move_to("2026-08-02T00:00:00Z")
    books.close()

    open_months.calculate_large(installation.database, books.game, installation.in_game)

    assert db("SELECT * FROM months_so_far") == []


@pytest.mark.parametrize("what", ["payments", "orders", "boosts"])
def test_a_page_reads_no_large_month(browser, books, monkeypatch, what, few_are_many):
    monkeypatch.setattr(calculation, "month_lines", lambda *_: pytest.fail("a page has calculated it"))
    for number in range(5):
        if what == "payments":
            books.pay(f"GP-{number}")
        elif what == "orders":
            books.order(f"o-{number}")
        else:
            books.boost(f"p-{number}", "AAA11", "2026-03-01")
    assert browser.get(MONTH).status_code == 200
