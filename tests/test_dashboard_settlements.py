"""The pages of months: closed, brought on and opened again in a browser."""

import pytest

from tests.books import Books

HOSTILE = '"><script>alert(1)</script>\u202e\x00😀' + "x" * 10_000


@pytest.fixture
def books(house, studio):
    return Books(house, studio)


@pytest.fixture
def july(clock):
    clock.move_to(1785801600)  # 2026-08-04


def test_without_a_purchase_the_page_says_so(browser, studio):
    assert "There is no month yet" in browser.get("/games/demo/settlements").text


def test_an_open_month_shows_what_it_came_to_so_far_and_is_closed_with_a_button(browser, books, july, db):
    books.order("o-1")
    books.order("o-2", gross=None, currency=None)

    listed = browser.get("/games/demo/settlements").text
    closed = browser.post("/games/demo/settlements/2026-07/close", note="all in")
    page = browser.get(closed.location).text

    assert "2026-07" in listed
    assert closed.status_code == 303
    assert "9.99 USD" in page
    assert "all in" in page
    assert [row["state"] for row in db("SELECT state FROM settlements")] == ["closed"]
    assert ("owner", "settlement.state") in [(row["actor"], row["action"]) for row in db("SELECT * FROM audit")]


def test_a_month_that_is_not_over_is_not_closed(browser, books, july):
    books.order("o-1", at="2026-08-02T00:00:00.000000Z")
    assert "can be closed once it is over" in browser.get("/games/demo/settlements/2026-08").text
    answer = browser.post("/games/demo/settlements/2026-08/close")
    assert (answer.status_code, "is not over before" in answer.text) == (400, True)


def test_no_step_is_passed_over_without_a_word(browser, books, july, db):
    books.order("o-1")
    books.close()
    steps = "/games/demo/settlements/2026-07/steps"

    refused = browser.post(steps, state="payment_confirmed")
    passed = browser.post(steps, state="payment_confirmed", skipping="on", note="their report is late")

    assert (refused.status_code, "is not reconciled" in refused.text) == (400, True)
    assert passed.status_code == 303
    assert "passed over" in browser.get("/games/demo/settlements/2026-07").text
    assert browser.post(steps, state="open").status_code == 400


def test_a_month_is_opened_again_with_a_reason(browser, books, july, db):
    books.order("o-1")
    books.close()
    reopen = "/games/demo/settlements/2026-07/reopen"
    assert browser.post(reopen, note="").status_code == 400
    assert browser.post(reopen, note="wrong fee").status_code == 303
    assert [row["state"] for row in db("SELECT state FROM settlements")] == ["reopened"]


def test_hostile_text_shows_as_text(browser, books, july):
    books.pay("p-1", player="alice")
    books.close(note="<script>alert(1)</script>")
    page = browser.get("/games/demo/settlements/2026-07").text
    assert "<script>alert" not in page
    assert browser.get("/games/demo/settlements/%3Cscript%3E").status_code == 404
    assert browser.post("/games/demo/settlements/2026-07/reopen", note=HOSTILE).status_code == 400


def test_the_pages_ask_the_database_little(browser, books, july):
    for number in range(30):
        books.order(f"o-{number}")
    assert len(browser.queries("/games/demo/settlements")[1]) <= 12
    assert len(browser.queries("/games/demo/settlements/2026-07")[1]) <= 12
    books.close()
    assert len(browser.queries("/games/demo/settlements/2026-07")[1]) <= 12


def test_months_of_a_game_are_its_own(browser, house, books, july, studio):
    type(studio)(house, "other")
    books.order("o-1")
    books.close()
    assert "9.99 USD" not in browser.get("/games/other/settlements/2026-07").text
    assert browser.post("/games/other/settlements/2026-07/reopen", note="x").status_code == 400
    assert browser.get("/games/nobody/settlements/2026-07").status_code == 404
