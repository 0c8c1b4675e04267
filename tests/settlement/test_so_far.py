"""An open month: what it has come to so far, for every partner, by the rule that closes it."""

import pytest

from coinslot.settlement import calculation, open_months
from tests.books import Books
from tests.pages import text_of

MONTH = "/games/demo/settlements/2026-07"


@pytest.fixture
def books(installation, studio, clock):
    clock.move_to("2026-07-20T00:00:00Z")
    return Books(installation, studio)


def fill(books: Books) -> None:
    books.pay("GP-1", "9900", "KRW")
    books.order("o-1", usd_fee="85.5", usd_net="764.5")
    books.order("o-2", 920, "EUR", usd_fee="85.5", usd_net="764.5")
    books.order("edge", 5555, at="2026-06-30T20:00:00.000000Z")  # July in Seoul
    books.order("received-now", 7777, at="2026-06-10T00:00:00.000000Z")  # of June, though it came in July


def test_it_has_every_partner_with_fee_and_net_by_the_months_own_rule(browser, books, studio):
    studio.config("settlement.zone", "Asia/Seoul")
    fill(books)

    shown = text_of(browser.get(MONTH))

    assert "9,900 KRW" in shown
    assert "2,970 KRW" in shown
    assert "6,930 KRW" in shown
    assert "65.54 USD" in shown
    assert "0.86 USD" in shown
    assert "7.65 USD" in shown
    assert "9.20 EUR" in shown
    assert "77.77" not in shown
    assert "1 without the partner's figures (55.55 USD)" in shown
    assert "As of 2026-07-20 00:00:00 UTC" in shown


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
    browser, books, installation, clock, monkeypatch
):
    monkeypatch.setattr(open_months, "MOST_AT_ONCE", 3)
    for number in range(5):
        books.order(f"o-{number}", usd_fee="85.5", usd_net="764.5")
    assert "being reckoned in the background" in text_of(browser.get(MONTH))

    installation.new_relay().drain()
    first = text_of(browser.get(MONTH))
    books.order("later")
    clock.shift(1800)
    still = text_of(browser.get(MONTH))
    clock.shift(1800)
    installation.new_relay().drain()
    then = text_of(browser.get(MONTH))

    assert "49.95 USD" in first
    assert "As of 2026-07-20 00:00:00 UTC" in first
    assert "49.95 USD" in still
    assert "As of 2026-07-20 00:00:00 UTC" in still
    assert "59.94 USD" in then
    assert "As of 2026-07-20 01:00:00 UTC" in then


def test_a_month_that_was_closed_is_kept_no_more(books, installation, clock, db, monkeypatch):
    monkeypatch.setattr(open_months, "MOST_AT_ONCE", 3)
    for number in range(5):
        books.order(f"o-{number}")
    open_months.calculate_large(installation.database, books.game, installation.in_game)
    assert [row["month"] for row in db("SELECT * FROM months_so_far")] == ["2026-07"]
    clock.move_to("2026-08-02T00:00:00Z")
    books.close()

    open_months.calculate_large(installation.database, books.game, installation.in_game)

    assert db("SELECT * FROM months_so_far") == []


@pytest.mark.parametrize("what", ["payments", "orders", "boosts"])
def test_a_page_reads_no_large_month(browser, books, installation, monkeypatch, what):
    monkeypatch.setattr(open_months, "MOST_AT_ONCE", 3)
    monkeypatch.setattr(calculation, "month_lines", lambda *_: pytest.fail("it was reckoned while the page was made"))
    from tests.settlement.test_closing import boost

    for number in range(5):
        if what == "payments":
            books.pay(f"GP-{number}")
        elif what == "orders":
            books.order(f"o-{number}")
        else:
            boost(books, "created", f"p-{number}", "AAA11", "2026-03-01T00:00:00.000000Z")
    assert browser.get(MONTH).status_code == 200
