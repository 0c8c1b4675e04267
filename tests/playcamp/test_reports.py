"""What a game's own payment API says wrongly, twice or not at all is said to its owner, and costs no payment."""

import json

import pytest

from coinslot.operations import troubles
from coinslot.payments import store
from coinslot.relay import jobs
from coinslot.relay.jobs import JobError
from handlers.playcamp.payments import polling, source
from tests.fakes.game_payments import GamePayments
from tests.fakes.http import status
from tests.pages import text_of
from tests.playcamp.conftest import NOW

DAY = 86400
MAP = (
    "{transactionId: order_id, userId: to_string(usn), productId: product_id, amount: price, currency: currency,"
    " market: market, purchasedAt: paid_at, status: status, refunded_at: refunded_at}"
)


@pytest.fixture
def game(studio, now):
    with GamePayments("numbered") as game:
        url = f"{game.url}/p?from={{from}}&to={{to}}&cursor={{cursor}}"
        game.set_up(studio, url=url, rows="payments", next="next_cursor", map=MAP)
        yield game


@pytest.fixture
def poll(installation, studio, game, now):
    """One poll that gets these rows on its first page, and nothing on others; a minute later than the one before."""

    def read(*rows, **document):
        now.shift(60)
        game.end_troubles()
        game.trouble(answer({"payments": list(rows), **document}), *[answer({"payments": []})] * 3)
        return polling.run(installation, installation.games.by_slug(studio.slug))

    return read


@pytest.fixture
def conflicts(db):
    return lambda: db("SELECT * FROM payment_conflicts ORDER BY id")


@pytest.fixture
def doctor(app):
    return lambda: app.test_cli_runner().invoke(args=["doctor"]).output


def answer(document):
    return status(200, document if isinstance(document, bytes) else json.dumps(document).encode())


def paid(order_id="GP-1", **changed):
    row = {"order_id": order_id, "usn": 100001, "product_id": "gem_100", "price": "9.99", "currency": "USD"}
    return row | {"market": "google", "paid_at": NOW - 600, "status": "paid"} | changed


def kinds(installation):
    return {trouble.kind for trouble in troubles.find(installation.database.read()).found}


class TestKnownAndUnreadable:
    @pytest.fixture
    def registered(self, poll, claim, finish):
        """A payment that PlayCamp has."""
        poll(paid())
        finish(*claim())

    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"status": "chargeback"}, "status"),
            ({"status": ["paid"]}, "status"),
            ({"price": "-9.99"}, "below 0"),
            ({"price": "abc"}, "amount"),
            ({"price": None}, "amount is missing"),
            ({"currency": "US"}, "currency"),
            ({"paid_at": "yesterday"}, "purchasedAt"),
            ({"product_id": "a\x00b"}, "productId"),
            ({"market": "\x00"}, "market"),
        ],
    )
    def test_a_known_payment_that_turns_unreadable_is_a_conflict_with_its_reason(
        self, poll, registered, stored, conflicts, installation, app, doctor, changed, reason
    ):
        before = stored()["GP-1"]

        poll(paid(**changed))
        poll(paid(**changed))

        (conflict,) = conflicts()
        assert reason in conflict["reason"]
        assert (conflict["seen"], json.loads(conflict["reported"])["unmapped"]["order_id"]) == (2, "GP-1")
        assert stored() == {"GP-1": before}
        assert "payment_conflicts" in kinds(installation)
        assert "1 payment was reported again with other content" in doctor()
        listed = app.test_cli_runner().invoke(args=["playcamp", "parked", "demo"]).output
        assert reason in listed

    def test_each_reason_is_a_conflict_of_its_own_and_corrects_nothing(self, poll, stored, conflicts):
        poll(paid())
        poll(paid(status="chargeback"))
        poll(paid(status="void"), paid(price="abc"))

        assert len({each["reason"] for each in conflicts()}) == len(conflicts()) == 2  # two words are one reason
        assert (stored()["GP-1"]["state"], stored()["GP-1"]["amount"]) == ("waiting", "9.99")

    @pytest.mark.parametrize(
        ("row", "count"),
        [
            (paid(status="refunded", price="-9.99"), 1),
            ({"order_id": "GP-1", "usn": 100001, "status": "refunded"}, 0),  # fields may be left out
        ],
    )
    def test_a_refund_counts_whatever_else_of_it_cannot_be_read(self, poll, registered, stored, conflicts, row, count):
        poll(row)

        assert (stored()["GP-1"]["refund_state"], len(conflicts())) == ("waiting", count)

    def test_a_market_that_is_configured_no_more_is_no_conflict(self, poll, studio, write, claim, conflicts, stored):
        studio.config("playcamp.market.shop", "Web,MOBILE_SELF_STORE")
        poll(paid(market="shop"))
        claim()
        write(lambda tx: tx.execute("DELETE FROM settings WHERE key = 'playcamp.market.shop'"))
        studio.config("playcamp.payments.limit", "999")
        poll(paid(market="shop"))

        assert (conflicts(), stored()["GP-1"]["platform"]) == ([], "Web")

    def test_a_row_the_mapping_fails_at_is_parked_though_its_payment_is_known(self, poll, registered, studio, stored):
        studio.config("playcamp.payments.map", MAP.replace("price", "scale(price, `0`)"))
        poll(paid(price="abc"))

        assert [row["state"] for row in stored().values()] == ["registered", "parked"]

    @pytest.mark.parametrize("is_mapped", [True, False])
    def test_the_daily_reading_for_refunds_says_it_too(
        self, poll, game, installation, studio, conflicts, stored, now, is_mapped
    ):
        early = paid(paid_at=NOW - 3 * DAY)
        poll()
        opened = installation.games.by_slug(studio.slug)
        game.end_troubles()
        game.trouble(answer({"payments": [early]}), *[answer({"payments": []})] * 3)
        polling.backfill(installation, opened, "test", NOW - 4 * DAY, NOW - 2 * DAY, lambda progress, rows: None)
        polling.run_refunds(installation, opened)
        now.shift(DAY + 60)
        poll()
        if not is_mapped:
            studio.config("playcamp.payments.map", MAP.replace("price", "scale(price, `0`)"))
        game.end_troubles()
        game.trouble(*[answer({"payments": [early | {"price": "abc"}]})] * 5)

        polling.run_refunds(installation, installation.games.by_slug(studio.slug))

        found = [each["reason"] for each in conflicts()] + [
            row["reason"] for row in stored().values() if row["state"] == "parked"
        ]
        assert len(found) == 1


class TestOnePage:
    def test_one_id_with_two_contents_far_apart_is_a_conflict_as_close_by(self, poll, stored, conflicts, monkeypatch):
        monkeypatch.setattr(polling, "ROWS_AT_ONCE", 2)
        others = [paid(f"GP-other-{number}") for number in range(5)]

        poll(paid(), *others, paid(price="1.00"))

        assert (stored()["GP-1"]["amount"], len(conflicts())) == ("9.99", 1)

    def test_more_rows_than_a_page_can_really_hold_are_refused(self, poll, monkeypatch, stored):
        monkeypatch.setattr(source, "MOST_ROWS", 2)

        with pytest.raises(JobError, match="more than 2 rows"):
            poll(paid("GP-1"), paid("GP-2"), paid("GP-3"))
        assert stored() == {}

    def test_a_page_of_millions_of_tiny_rows_is_refused_before_it_is_parsed(self, game, installation, studio):
        game.trouble(answer(b'{"payments": [' + b"{}," * 1_100_000 + b"{}]}"))

        with pytest.raises(JobError, match="objects and lists"):
            polling.run(installation, installation.games.by_slug(studio.slug))

    def test_payments_are_built_portion_by_portion(self, poll, monkeypatch):
        monkeypatch.setattr(polling, "ROWS_AT_ONCE", 2)
        events = []
        read_row, store_many = polling.read_row, store.store_many
        monkeypatch.setattr(polling, "read_row", lambda *args: events.append("built") or read_row(*args))
        monkeypatch.setattr(store, "store_many", lambda *args, **kw: events.append("stored") or store_many(*args, **kw))

        poll(*(paid(f"GP-{number}") for number in range(4)))

        assert events == ["built", "built", "stored"] * 2


class TestPagesThatAreNotAskedFor:
    @pytest.fixture(autouse=True)
    def without_next(self, studio, game):
        studio.config("playcamp.payments.next", "")
        studio.config("playcamp.payments.limit", "3")

    FULL = (paid("GP-1"), paid("GP-2"), paid("GP-3"))

    @pytest.mark.parametrize(
        ("rows", "document"),
        [
            (FULL, {}),
            (FULL[:2], {"total": 250}),
            (FULL[:2], {"meta": {"totalCount": "250"}}),
            (FULL[:1], {"page": {"total_pages": 4}}),
            (FULL[:1], {"has_more": True}),
            (FULL[:1], {"links": {"next": "/p?page=2"}}),
        ],
    )
    def test_what_may_be_the_first_of_several_pages_is_a_trouble(
        self, poll, installation, doctor, browser, stored, app, game, rows, document
    ):
        poll(*rows, **document)

        assert len(stored()) == len(rows)
        assert "job_warning" in kinds(installation)
        assert "payments from 2026-01-01T03:05:05Z on may be missing" in doctor()
        assert "playcamp.payments.next" in text_of(browser.get("/"))
        game.end_troubles()
        game.trouble(answer({"payments": rows, **document}))
        tried = app.test_cli_runner().invoke(args=["playcamp", "try", "demo"])
        assert (tried.exit_code, "playcamp.payments.next is set" in tried.output) == (1, True)

    @pytest.mark.parametrize(
        "document", [{}, {"total": 2}, {"has_more": False, "next": None, "pages": 1}, {"total": "9,99"}]
    )
    def test_a_page_that_says_nothing_of_more_is_none(self, poll, installation, app, game, document):
        poll(*self.FULL[:2], **document)

        assert "job_warning" not in kinds(installation)
        game.end_troubles()
        game.trouble(answer({"payments": self.FULL[:2], **document}))
        assert app.test_cli_runner().invoke(args=["playcamp", "try", "demo"]).exit_code == 0

    def test_it_stays_until_another_way_to_ask_is_set_and_then_the_range_is_read_again(
        self, poll, installation, studio, game, stored
    ):
        poll(*self.FULL)
        poll(paid("GP-4", paid_at=NOW))
        assert "job_warning" in kinds(installation)
        studio.config("playcamp.payments.next", "next_cursor")
        game.requests.clear()

        poll(*self.FULL, paid("GP-lost"), next_cursor=None)

        assert int(game.requests[0].query["from"]) == NOW + 60 - DAY
        assert "GP-lost" in stored()
        assert "job_warning" not in kinds(installation)

    def test_a_next_that_finds_nothing_is_said_where_a_total_is_larger(self, poll, installation, studio):
        studio.config("playcamp.payments.next", "no.such.place")

        poll(*self.FULL[:2], total=250)

        assert "job_warning" in kinds(installation)

    def test_a_backfill_says_it(self, game, app, studio):
        game.trouble(*[answer({"payments": list(self.FULL)})] * 3)

        words = ["playcamp", "backfill", "demo", "--from", "2025-12-30", "--to", "2025-12-30"]
        output = app.test_cli_runner().invoke(args=words).output

        assert "3 rows read" in output
        assert "payments from 2025-12-30T00:00:00Z on may be missing" in output


class TestIds:
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("Caf\u00e9-1", "Cafe\u0301-1"),
            ("GP\u200b-1", "GP-1"),
            ("GP-1", "\ufeffGP-1\u2060"),
            ("G\u00adP-1", "GP\ufe0f-1"),
            ("e\u200d\u0301", "\u00e9"),
        ],
    )
    def test_ids_that_differ_in_what_nobody_sees_are_one_payment(self, poll, stored, conflicts, first, second):
        poll(paid(first), paid(second))
        poll(paid(second), paid(first))

        assert (len(stored()), conflicts()) == (1, [])

    def test_ids_that_differ_in_what_is_seen_are_two(self, poll, stored):
        poll(paid("Caf\u00e9"), paid("Cafe"), paid("cafe"), paid("GP 1"), paid("GP1"))

        assert len(stored()) == 5

    @pytest.mark.parametrize("own_id", [".", "..", "\u200b..", " .. "])
    def test_an_id_that_no_address_can_name_is_parked_with_that_reason(self, poll, stored, own_id):
        poll(paid(own_id), paid("a..b"))

        row = stored()[own_id.strip("\u200b ")]
        assert (row["state"], "no address can name" in row["reason"]) == ("parked", True)
        assert stored()["a..b"]["state"] == "waiting"


class TestRetryAfter:
    @pytest.mark.parametrize("asked", ["999999999", "Fri, 31 Dec 2100 23:59:59 GMT"])
    def test_a_pause_of_years_is_an_hour_and_is_said(self, installation, game, now, db, doctor, asked):
        def limited(handler):
            handler.send_response(429)
            handler.send_header("Retry-After", asked)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        game.trouble(limited)
        installation.new_relay().drain()

        (job,) = db("SELECT * FROM schedules WHERE name = 'playcamp.poll'")
        assert round(jobs.clock.seconds(job["due_at"]) - NOW) == 3600
        assert "asks for a pause of" in doctor()
