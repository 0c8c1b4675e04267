"""Orders that Appcharge lists as paid and that never came: found each night, named once, and over by themselves."""

from datetime import UTC, datetime

import pytest

from coinslot.base import clock as clocks
from coinslot.ledger import refused
from handlers.appcharge.api import never_came
from handlers.appcharge.api.never_came import JOB
from handlers.kit import troubles
from tests.conftest import Browser
from tests.fakes.appcharge import FakeAppcharge, transaction
from tests.pages import assert_has

HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture
def appcharge(studio):
    with FakeAppcharge() as fake:
        studio.config("appcharge.base_url", fake.url)
        yield fake


@pytest.fixture
def night(installation, appcharge, clock):
    """Let it be the next night, and the relay run what is due."""
    clock.move_to(datetime(2026, 8, 3, 12, tzinfo=UTC).timestamp())
    installation.new_relay().drain()
    assert appcharge.requests == []  # by day nothing is asked

    def come() -> None:
        now = clocks.now()
        clock.move_to((now // DAY + (now % DAY >= (never_came.HOUR + 1) * HOUR)) * DAY + (never_came.HOUR + 1) * HOUR)
        installation.new_relay().drain()

    return come


@pytest.fixture
def lacking(db):
    """The open rows."""
    return lambda: [row["reference"] for row in db("SELECT * FROM refusals WHERE state = 'open' ORDER BY id")]


def ago(hours: float, zone: str = "+00:00", says_zone: bool = True) -> str:
    """A moment on a clock of that zone."""
    at = datetime.fromtimestamp(clocks.now() - hours * HOUR, datetime.fromisoformat(f"2026-01-01T00:00{zone}").tzinfo)
    return at.strftime("%Y-%m-%dT%H:%M:%S.000") + (zone if says_zone else "")


def listed(appcharge, name: str, hours: float = 20, **changed) -> None:
    at = changed.pop("at", ago(hours))
    appcharge.transactions.append(transaction(name, at, **changed))


def test_an_order_that_never_came_is_named_with_its_money_and_player(appcharge, night, lacking, db, installation):
    listed(appcharge, "1", amount=1299, currencyCode="eur")
    night()

    (row,) = db("SELECT * FROM refusals")
    assert (row["state"], row["reason"], row["endpoint"], row["reference"]) == (
        "open",
        "never_came",
        "orders",
        "order-1",
    )
    assert (row["currency"], row["amount_minor"], row["player_id"], row["is_test"]) == ("EUR", 1299, "alice", 0)
    night()
    assert lacking() == ["order-1"]


def test_the_owner_reads_what_to_do(app, appcharge, night, installation):
    listed(appcharge, "1")
    night()
    with app.app_context():
        (found,) = [each for each in troubles.list_troubles(installation) if each.key.startswith("refused:")]
    assert (found.severity, found.money) == ("wrong", {"USD": "9.99"})
    assert found.sentence == "1 order that Appcharge lists as paid never came here: order-1."
    assert "press Retry Award for it in Appcharge's dashboard" in found.remedy

    browser = Browser(app.test_client(), installation)  # signed in by this clock
    assert_has(browser.get("/games/demo/refusals").text, "an order that never came", "no call of it came here")
    page = browser.get("/games/demo/refusals/1").text
    assert_has(page, "Press Retry Award", "<code>order-1</code>", "9.99 USD", without=["HTTP 0", "<dt>From</dt>"])


def test_the_credit_of_the_order_mends_it(appcharge, night, lacking, post_order, db):
    listed(appcharge, "1")
    night()
    assert post_order(orderId="order-1").status_code == 200

    assert lacking() == []
    assert [row["state"] for row in db("SELECT state FROM refusals")] == ["mended"]


@pytest.mark.parametrize(
    "known",
    [
        {"orderId": "order-1"},
        {"orderId": ..., "purchaseId": "pr_1"},  # stored by its payment id
    ],
)
def test_an_order_that_is_here_under_any_id_is_not_lacking(appcharge, night, lacking, post_order, known):
    assert post_order(**{"purchaseDateAndTimeUtc": ago(30)} | known).status_code == 200
    listed(appcharge, "1")
    night()

    assert lacking() == []


def test_another_order_of_the_same_checkout_is_not_this_one(appcharge, night, lacking, post_order):
    assert post_order(orderId="order-2", purchaseId="pr_1", purchaseDateAndTimeUtc=ago(30)).status_code == 200
    listed(appcharge, "1")
    night()

    assert lacking() == ["order-1"]


def test_our_public_id_in_the_report_leads_to_the_order(appcharge, night, lacking, post_order, db):
    answer = post_order(orderId="order-other", purchaseDateAndTimeUtc=ago(30))
    appcharge.transactions.append(
        transaction("1", ago(20)) | {"publisherTransactionId": answer.json["publisherPurchaseId"]}
    )
    night()

    assert lacking() == []


def test_a_refused_call_of_the_order_stays_what_it_is(appcharge, night, lacking, post_order, db):
    assert post_order(orderId="order-1", playerId="mallory").status_code == 400
    listed(appcharge, "1")
    night()

    assert [(row["reason"], row["seen"]) for row in db("SELECT * FROM refusals")] == [("unknown_player", 1)]


def test_a_refused_call_without_the_id_of_the_order_is_known_by_its_purchase(appcharge, night, lacking, post_order, db):
    assert post_order(orderId=..., purchaseId="pr_1", playerId="mallory").status_code == 400
    listed(appcharge, "1")
    night()

    assert [row["reason"] for row in db("SELECT reason FROM refusals")] == ["unknown_player"]


def test_one_that_comes_later_and_is_refused_is_a_refused_call_from_then_on(appcharge, night, lacking, post_order, db):
    listed(appcharge, "1")
    night()
    assert post_order(orderId="order-1", playerId="mallory").status_code == 400

    assert [(row["state"], row["reason"]) for row in db("SELECT * FROM refusals")] == [("open", "unknown_player")]


def test_what_was_set_aside_stays_so(appcharge, night, lacking, installation, db):
    listed(appcharge, "1")
    night()
    (row,) = db("SELECT id FROM refusals")
    installation.database.write_here(lambda tx: refused.set_aside(tx, [row["id"]], "paid by bank"))
    night()

    assert lacking() == []


@pytest.mark.parametrize(
    ("paid", "rows", "is_lacking"),
    [
        (999, [("refund", -999)], False),
        (999, [("dispute_funds_withdrawn", -999)], False),
        (999, [("refund", -100)], True),
        (999, [("dispute_funds_withdrawn", -999), ("dispute_funds_reinstated", 999)], True),
        (999, [("dispute_open", -999)], True),
        (0, [], False),
    ],
)
def test_what_was_given_back_or_cost_nothing_is_not_lacking(appcharge, night, lacking, paid, rows, is_lacking):
    listed(appcharge, "1", amount=paid)
    for number, (kind, amount) in enumerate(rows):
        row = transaction(f"r{number}", ago(18), type=kind, amount=amount)
        appcharge.transactions.append(row | {"orderId": "order-1"})
    night()

    assert lacking() == (["order-1"] if is_lacking else [])


def test_a_player_who_is_forgotten_leaves_the_order(appcharge, night, lacking, installation, studio, db):
    listed(appcharge, "1")
    night()
    installation.forget_player(installation.games.by_slug("demo"), "alice", "test")

    (row,) = db("SELECT * FROM refusals")
    assert (row["state"], row["player_id"], row["reference"]) == ("open", None, "order-1")
    night()
    assert [row["player_id"] for row in db("SELECT * FROM refusals")] == [None]


def test_a_refund_there_ends_it_whenever_it_comes(appcharge, night, lacking, clock):
    listed(appcharge, "1")
    night()
    clock.shift(10 * DAY)
    appcharge.transactions = [
        transaction("2", ago(5), type="refund", amount=-999) | {"orderId": "order-1"},
        transaction("3", ago(5), type="refund", amount=-999) | {"orderId": "order-unknown"},
    ]
    night()

    assert lacking() == []


def test_what_was_paid_within_the_hour_may_be_on_its_way(appcharge, night, lacking, clock):
    clock.shift(14.4 * HOUR)
    listed(appcharge, "1", at=ago(0))
    clock.shift(0.5 * HOUR)
    night()
    assert lacking() == []
    night()

    assert lacking() == ["order-1"]


@pytest.mark.parametrize("zone", ["+00:00", "+13:00", "-11:00"])
@pytest.mark.parametrize(
    ("hours", "says_zone", "is_lacking"), [(0.5, True, False), (2, True, True), (0.5, False, False), (30, False, True)]
)
def test_nothing_is_lacking_because_of_a_time_zone(
    appcharge, night, lacking, clock, zone, hours, says_zone, is_lacking
):
    clock.move_to(datetime(2026, 8, 4, 3, tzinfo=UTC).timestamp())
    listed(appcharge, "1", at=ago(hours, zone, says_zone))
    clock.shift(-60)
    night()

    assert lacking() == (["order-1"] if is_lacking else [])


def test_orders_from_before_the_first_one_here_are_of_another_server(appcharge, night, lacking, post_order):
    assert post_order(orderId="order-9", purchaseDateAndTimeUtc=ago(20)).status_code == 200
    listed(appcharge, "1", 21)
    listed(appcharge, "2", 19)
    night()

    assert lacking() == ["order-2"]


def test_an_error_is_the_failure_of_the_job_and_nothing_is_concluded(
    appcharge, night, lacking, db, clock, installation
):
    appcharge.page_size = 1
    listed(appcharge, "1")
    listed(appcharge, "2")
    answered = appcharge.reply
    appcharge.reply = lambda request: (403, {}) if "cursor" in request.query else answered(request)  # the second page
    night()
    assert lacking() == []
    (job,) = db("SELECT * FROM schedules WHERE name = :name", name=JOB)
    assert job["failures"] == 1
    assert "403" in job["last_error"]

    appcharge.reply = answered
    clock.shift(60)
    installation.new_relay().drain()
    assert lacking() == ["order-1", "order-2"]
    (job,) = db("SELECT * FROM schedules WHERE name = :name", name=JOB)
    assert job["failures"] == 0


def test_a_report_that_lacks_rows_is_an_error(appcharge, night, lacking, db):
    listed(appcharge, "1")
    listed(appcharge, "1")  # a page in motion: one row twice, and one not at all
    night()

    assert lacking() == []
    assert db("SELECT failures FROM schedules WHERE name = :name", name=JOB) == [{"failures": 1}]


def test_after_nights_without_a_look_it_looks_back_further(appcharge, night, lacking, clock):
    night()
    appcharge.requests.clear()
    clock.shift(10 * DAY)
    night()

    starts = sorted(request.query["startDate"] for request in appcharge.requests)
    assert starts[0] <= ago(13 * 24)
    ends = sorted(request.query["endDate"] for request in appcharge.requests)
    assert starts[1:] == ends[:-1]  # without a gap


@pytest.mark.parametrize("why", ["sandbox", "no token"])
def test_nothing_is_asked_where_nobody_pays_or_the_token_lacks(appcharge, night, studio, why):
    if why == "sandbox":
        studio.config("appcharge.environment", "sandbox")
    else:
        studio.installation.database.write_here(
            lambda tx: tx.execute("DELETE FROM secrets WHERE name = 'appcharge.publisher_token'")
        )
        studio.config("players.unknown", "create")  # a change
    night()

    assert appcharge.requests == []


def test_orders_of_our_own_simulation_are_left_out(appcharge, night, lacking):
    appcharge.transactions.append(transaction("1", ago(20)) | {"customerDetails": {"id": "coinslot-test"}})
    night()

    assert lacking() == []
