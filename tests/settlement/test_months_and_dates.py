"""Whatever date and currency a partner sends: every page works, and the month says what it made of it."""

import json

import pytest

from coinslot.base import money
from coinslot.settlement import months
from tests.books import Books
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
PAGES = (
    *("/", "/games/demo/transactions", "/games/demo/players/alice", "/games/demo/refunds", "/games/demo/settlements"),
    *("/games/demo/settlements/2026-08", "/games/demo/settlements/2026-07", "/games/demo/figures.csv"),
    *("/games/demo/settlements/2026-08/purchases?partner=appcharge", "/games/demo/transactions.csv"),
    *("/games/demo/settlements/2026-08/purchases?partner=playcamp", "/games/demo/payments"),
)


@pytest.fixture
def books(installation, studio):
    return Books(installation, studio)


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

    for page in PAGES:
        assert browser.get(page).status_code == 200, page
    for row in db("SELECT public_id FROM transactions"):
        assert browser.get(f"/games/demo/transactions/{row['public_id']}").status_code == 200
    found = months.month_list(books.installation.database.read(), books.game)
    assert found[0].month.name == "2026-08"
    assert len(found) <= 200


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_any_date_of_an_event_about_creators_leaves_every_page_working(
    client, browser, installation, studio, august, zone
):
    studio.config("settlement.zone", zone)
    studio.secret("playcamp.webhook_secret", "whsec_demo_0001")
    dates = [*ODD_DATES, 10**10, 10**15, 253402300799, -1, 0]
    events = []
    for number, date in enumerate(dates):
        about = {"userId": "alice", "campaignId": f"camp-{number}", "creatorKey": f"AAA{number:02d}"}
        coupon = {
            "couponCode": "X",
            "userId": "alice",
            "usageId": number,
            "reward": [{"itemId": "gems", "itemQuantity": 1}],
        }
        events += [
            {"event": "sponsor.created", "timestamp": date, "data": about},
            {"event": "sponsor.ended", "timestamp": date, "data": about},
            {"event": "coupon.redeemed", "timestamp": date, "data": coupon},
            {"event": "payment.created", "timestamp": date, "data": {"transactionId": f"GP-{number}", **about}},
        ]
    for event in events:
        body = json.dumps({"events": [event]}).encode()
        sent = client.post(
            "/playcamp/demo/webhook", data=body, headers={"X-Webhook-Signature": signed(body, "whsec_demo_0001")}
        )
        assert sent.status_code in (200, 400)
    installation.new_relay().drain()

    for page in (*PAGES, "/games/demo/mapping"):
        assert browser.get(page).status_code == 200, page
    august.move_to("2026-09-02T00:00:00Z")
    Books(installation, studio).close("2026-08")


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
    page = browser.get(f"/games/demo/transactions/{row['public_id']}").text
    assert "undated" in page
    facts = page[page.index("As the partner wrote it") :]
    assert (f"<dd>{date}</dd>" in facts) == bool(date)
    assert "1 undated" in browser.get("/games/demo/settlements/2026-08").text
    assert "1 undated" in browser.get("/games/demo/settlements/2026-08/print").text
    assert "undated" in browser.get("/games/demo/settlements/2026-08/purchases?partner=appcharge").text


@pytest.mark.parametrize("date", ["2010-01-01T00:00:00Z", "2026-08-05T12:00:00Z"])
def test_a_date_that_can_be_is_taken(books, august, post_order, db, date):
    post_order(purchaseDateAndTimeUtc=date)
    (row,) = db("SELECT occurred_at FROM transactions")
    assert row["occurred_at"][:16] == date[:16]


WITHDRAWN = {"BGN": 2, "HRK": 2, "ANG": 2, "ZWL": 2, "SLL": 2, "BYR": 0, "TRL": 0, "LTL": 2, "MRO": 2, "VEF": 2}


@pytest.mark.parametrize("currency", WITHDRAWN)
def test_a_withdrawn_currency_keeps_its_decimals_and_counts(browser, books, august, post_order, db, currency):
    post_order(currency=currency, priceInCents=123456, purchaseDateAndTimeUtc="2026-07-10T00:00:00Z")
    written = "1,234.56" if WITHDRAWN[currency] else "123,456"

    books.close("2026-07")

    (line,) = books.lines("2026-07")
    assert (line.section, line.currency, line.gross_minor) == ("counted", currency, 123456)
    (row,) = db("SELECT public_id FROM transactions")
    for page in (f"transactions/{row['public_id']}", "transactions", "settlements/2026-07"):
        assert f"{written} {currency}" in browser.get(f"/games/demo/{page}").text, page
    assert written.replace(",", "") in browser.get("/games/demo/settlements/2026-07/files/statement.csv").text


def test_a_currency_that_nobody_knows_is_in_minor_units_wherever_it_shows(browser, books, august, post_order, db):
    post_order(currency="QQQ", priceInCents=123456, purchaseDateAndTimeUtc="2026-07-10T00:00:00Z")
    (row,) = db("SELECT public_id FROM transactions")

    for page in ("", f"games/demo/transactions/{row['public_id']}", "games/demo/transactions"):
        assert "123,456 minor units of QQQ" in browser.get(f"/{page}").text, page
    for file in ("figures.csv", "transactions.csv"):
        assert "123456 minor units" in browser.get(f"/games/demo/{file}").text, file
    books.close("2026-07")
    (line,) = books.lines("2026-07")
    assert (line.section, line.currency, line.count) == ("incomplete", "QQQ", 1)
    assert browser.get("/games/demo/settlements/2026-07/files/everything.csv").status_code == 200


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
