"""Whatever date and currency a partner sends: every page works, and the month says what it made of it."""

import json

import pytest

from coinslot.base import money
from tests.conftest import appcharge_headers
from tests.fakes.playcamp import signed

ODD_DATES = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "1969-12-31T23:59:59Z",
    "1970-01-01T00:00:00Z",
    "1999-12-31T23:59:59Z",
    "2000-01-01T00:00:00Z",
    "2009-12-31T23:59:59.999999Z",
    "2026-08-05T12:00:01Z",
    "2999-12-31T23:59:59Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
    "",
    "yesterday",
    None,
]
GAME = "/games/demo"
PAGES = (
    *("/", f"{GAME}/transactions", f"{GAME}/players/alice", f"{GAME}/refunds", f"{GAME}/settlements"),
    *(f"{GAME}/settlements/2026-08", f"{GAME}/settlements/2026-07", f"{GAME}/figures.csv", f"{GAME}/payments"),
    *(f"{GAME}/settlements/2026-08/purchases?partner={partner}" for partner in ("appcharge", "playcamp")),
    *(f"{GAME}/transactions.csv", f"{GAME}/mapping"),
)


@pytest.fixture
def august(clock):
    clock.move_to("2026-08-04T12:00:00Z")
    return clock


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Seoul"])
def test_any_date_of_an_order_a_refund_or_a_payment_leaves_every_page_working(
    client, browser, books, studio, august, post_order, db, zone
):
    studio.config("settlement.zone", zone)
    for number, date in enumerate(ODD_DATES):
        sent = {} if date is None else {"purchaseDateAndTimeUtc": date}
        taken = post_order(orderId=f"o-{number}", purchaseId=f"p-{number}", appChargePaymentId=f"y-{number}", **sent)
        assert taken.status_code == 200
        event = {"eventName": "order.refunded", "eventId": f"e-{number}", "orderId": f"o-{number}", "timestamp": date}
        body = json.dumps(event).encode()
        assert client.post("/appcharge/demo/events", data=body, headers=appcharge_headers(body)).status_code == 200
        books.pay(f"GP-{number}", at=date, is_registered=False)

    transactions = [f"{GAME}/transactions/{row['public_id']}" for row in db("SELECT public_id FROM transactions")]
    assert [page for page in (*PAGES, *transactions) if browser.get(page).status_code != 200] == []
    assert books.month_list()[0][0] == "2026-08"
    assert len(books.month_list()) <= 200


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_any_date_of_an_event_about_creators_leaves_every_page_working(client, browser, books, studio, august, zone):
    studio.config("settlement.zone", zone)
    studio.secret("playcamp.webhook_secret", "whsec_demo_0001")
    for number, date in enumerate([*ODD_DATES, 10**10, 10**15, 253402300799, -1, 0]):
        about = {"userId": "alice", "campaignId": f"camp-{number}", "creatorKey": f"AAA{number:02d}"}
        reward = [{"itemId": "gems", "itemQuantity": 1}]
        coupon = {"couponCode": "X", "userId": "alice", "usageId": number, "reward": reward}
        payment = {"transactionId": f"GP-{number}", **about}
        told = {"sponsor.created": about, "sponsor.ended": about, "coupon.redeemed": coupon, "payment.created": payment}
        for kind, data in told.items():
            body = json.dumps({"events": [{"event": kind, "timestamp": date, "data": data}]}).encode()
            headers = {"X-Webhook-Signature": signed(body, "whsec_demo_0001")}
            assert client.post("/playcamp/demo/webhook", data=body, headers=headers).status_code in (200, 400)
    books.installation.new_relay().drain()

    assert [page for page in PAGES if browser.get(page).status_code != 200] == []
    august.move_to("2026-09-02T00:00:00Z")
    books.close("2026-08")


@pytest.mark.parametrize("date", ODD_DATES)
def test_an_order_whose_date_cannot_be_is_of_the_month_in_which_it_was_received_and_says_so(
    browser, books, august, post_order, db, date
):
    post_order(purchaseDateAndTimeUtc=date)
    august.move_to("2026-09-02T00:00:00Z")
    books.close("2026-08")

    (line,) = books.lines("2026-08")
    assert (line.count, line.gross_minor, line.undated) == (1, 999, 1)
    (row,) = db("SELECT public_id FROM transactions")
    page = browser.get(f"{GAME}/transactions/{row['public_id']}").text
    assert "undated" in page
    facts = page[page.index("As the partner wrote it") :]
    assert (f"<dd>{date}</dd>" in facts) == bool(date)
    for page, words in (("", "1 undated"), ("/print", "1 undated"), ("/purchases?partner=appcharge", "undated")):
        assert words in browser.get(f"{GAME}/settlements/2026-08{page}").text


@pytest.mark.parametrize("date", ["2010-01-01T00:00:00Z", "2026-08-05T12:00:00Z"])
def test_a_date_that_can_be_is_taken(studio, august, post_order, db, date):
    post_order(purchaseDateAndTimeUtc=date)
    (row,) = db("SELECT occurred_at FROM transactions")
    assert row["occurred_at"][:16] == date[:16]


WITHDRAWN = {"BGN": 2, "HRK": 2, "ANG": 2, "ZWL": 2, "SLL": 2, "BYR": 0, "TRL": 0, "LTL": 2, "MRO": 2, "VEF": 2}


def test_a_withdrawn_currency_keeps_its_decimals_and_counts(browser, books, august, post_order, db):
    for currency in WITHDRAWN:
        ids = {name: f"{currency}-{name}" for name in ("orderId", "purchaseId", "appChargePaymentId")}
        post_order(currency=currency, priceInCents=123456, purchaseDateAndTimeUtc="2026-07-10T00:00:00Z", **ids)
    amounts = {name: "1,234.56" if decimals else "123,456" for name, decimals in WITHDRAWN.items()}

    books.close("2026-07")

    assert {(line.section, line.currency, line.gross_minor) for line in books.lines()} == {
        ("counted", currency, 123456) for currency in WITHDRAWN
    }
    pages = {page: browser.get(f"{GAME}/{page}").text for page in ("transactions", "settlements/2026-07")}
    statement = browser.get(f"{GAME}/settlements/2026-07/files/statement.csv").text
    for row in db("SELECT public_id, currency FROM transactions"):
        currency, amount = row["currency"], amounts[row["currency"]]
        page = browser.get(f"{GAME}/transactions/{row['public_id']}").text
        assert [name for name, text in {**pages, "own": page}.items() if f"{amount} {currency}" not in text] == []
        assert f",{currency},,,1,{amount.replace(',', '')}," in statement


def test_a_currency_that_nobody_knows_is_in_minor_units_wherever_it_shows(browser, books, august, post_order, db):
    post_order(currency="QQQ", priceInCents=123456, purchaseDateAndTimeUtc="2026-07-10T00:00:00Z")
    (row,) = db("SELECT public_id FROM transactions")

    for page in ("/", f"{GAME}/transactions/{row['public_id']}", f"{GAME}/transactions"):
        assert "123,456 minor units of QQQ" in browser.get(page).text, page
    for file in ("figures.csv", "transactions.csv"):
        assert "123456 minor units" in browser.get(f"{GAME}/{file}").text, file
    books.close("2026-07")
    (line,) = books.lines("2026-07")
    assert (line.section, line.currency, line.count) == ("incomplete", "QQQ", 1)
    assert browser.get(f"{GAME}/settlements/2026-07/files/everything.csv").status_code == 200


@pytest.mark.parametrize(
    ("minor", "currency", "written"),
    [
        (120050, "USD", "1,200.50 USD"),
        (-5, "USD", "-0.05 USD"),
        (1500, "JPY", "1,500 JPY"),
        (1500, "KWD", "1.500 KWD"),
        (999, "HRK", "9.99 HRK"),
        (1234, "QQQ", "1,234 minor units of QQQ"),
        (1234, "", "1,234 minor units"),
        (10**30, "USD", f"{10**28:,}.00 USD"),
    ],
)
def test_an_amount_is_written_with_the_decimals_of_its_currency(minor, currency, written):
    assert money.written(minor, currency) == written
