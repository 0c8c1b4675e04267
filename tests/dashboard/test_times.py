"""Times in the zone of the pages: on the pages alone, with UTC on hover."""

import re

import pytest

from tests.pages import assert_has, text_of

AT = 1_785_340_799  # 2026-07-29 15:59:59 UTC


@pytest.fixture
def seoul(browser):
    assert browser.post("/account/zone", zone="Asia/Seoul").status_code == 303


def test_times_are_utc_until_a_zone_is_chosen(browser, studio, clock, post_order):
    clock.move_to(AT)
    post_order()

    page = browser.get("/games/demo/transactions").text

    assert re.search(r'title="2026-07-29 15:59:59 UTC, just now">2026-07-29 15:59:59<', page)
    assert "Times are UTC." in page


def test_a_chosen_zone_holds_on_every_page_and_utc_is_on_hover(seoul, browser, studio, clock, post_order):
    clock.move_to(AT)
    post_order()

    page = browser.get("/games/demo/transactions").text

    assert re.search(
        r'datetime="2026-07-29T15:59:59[^"]*" title="2026-07-29 15:59:59 UTC, just now">2026-07-30 00:59', page
    )
    assert_has(page, "Times are Asia/Seoul (UTC+09:00).", "are UTC days")


def test_sentences_have_the_zone_and_files_have_utc(seoul, browser, studio, clock, post_order, feed, installation):
    clock.move_to(AT)
    post_order()
    post_order(priceInCents=1)
    clock.shift(60)
    post_order(priceInCents=1)
    installation.observations.flush()
    (grant,) = feed()
    page = browser.get(f"/games/demo/transactions/{grant['transaction_id']}")
    checklist = browser.get("/games/demo/integration/appcharge")
    csv = browser.get("/games/demo/transactions.csv")

    assert "2 times, the last time on 2026-07-30 01:00:59" in text_of(page)
    assert re.search("came on 2026-07-30 0[01]", text_of(checklist))
    assert re.search("2026-07-29.15:59", csv.text)
    assert "2026-07-30" not in csv.text
    assert grant["created_at"].startswith("2026-07-29T15:59:59")


def test_the_form_offers_what_it_takes_and_says_what_it_does_not(seoul, browser, db):
    page = browser.get("/account").text

    assert "<option selected>Asia/Seoul</option>" in page
    assert "<option>UTC</option>" in page
    for wrong in ("Asia/Atlantis", "", "../etc/passwd", "Asia/Seoul\n"):
        answer = browser.post("/account/zone", zone=wrong)
        assert (answer.status_code, "there is no such time zone" in answer.text) == (400, True), wrong
    assert browser.post("/account/zone", zone="UTC").status_code == 303
    assert "Times are UTC." in browser.get("/").text
    assert [each["subject"] for each in db("SELECT subject FROM audit WHERE action = 'pages.zone'")] == [
        "Asia/Seoul",
        "UTC",
    ]


def test_summer_time_and_a_zone_that_is_no_more(browser, installation, studio, clock):
    browser.post("/account/zone", zone="Europe/Berlin")
    clock.move_to(1_767_225_599)  # 2025-12-31 23:59:59 UTC
    assert "Times are Europe/Berlin (UTC+01:00)." in browser.get("/").text
    clock.move_to(AT)
    assert "Times are Europe/Berlin (UTC+02:00)." in browser.get("/").text
    installation.database.write_here(
        lambda tx: tx.execute("UPDATE installation SET value = 'Mars/Olympus' WHERE name = 'pages.zone'")
    )
    assert "Times are UTC." in browser.get("/").text
