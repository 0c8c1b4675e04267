"""Polling: the game's own payment API, in whatever shape, is read into payments; nothing is lost, nothing twice."""

import hashlib
import hmac
import json
import ssl

import pytest

from coinslot.base import clock as coinslot_clock
from coinslot.installation import Standing
from coinslot.payments import parsing
from coinslot.relay.jobs import JobError
from handlers.playcamp.payments import formulas, polling, sends
from handlers.playcamp.payments import source as game_payments
from handlers.playcamp.payments.progress import Progress, Window
from handlers.playcamp.payments.source import Source
from tests.fakes.game_payments import GamePayments
from tests.fakes.http import certificate, closed_port, reset, silence, slow_body, status
from tests.playcamp.conftest import NOW

DAY = 86400
KEY = "a-payments-key-that-no-log-may-hold"
PLAIN = {
    "rows": "payments",
    "next": "next_cursor",
    "map": "{transactionId: order_id, userId: to_string(usn), productId: product_id, amount: price,"
    " currency: currency, market: market, purchasedAt: paid_at, status: status}",
}


@pytest.fixture
def game():
    with GamePayments("numbered") as game:
        yield game


@pytest.fixture
def poll(installation, studio):
    return lambda: polling.run(installation, installation.games.by_slug(studio.slug))


@pytest.fixture
def watermark(installation, studio):
    """What the polls have noted of how far they have come."""
    return lambda: polling.watermark(installation, installation.games.by_slug(studio.slug))


@pytest.fixture
def ids(stored):
    return lambda: list(stored())


@pytest.fixture
def job(db):
    """The schedule of the polls, with the seconds until the next one."""

    def find():
        (row,) = db("SELECT * FROM schedules WHERE name = 'playcamp.poll'")
        return row, round(coinslot_clock.seconds(row["due_at"]) - coinslot_clock.now())

    return find


def ranges(game):
    return [(int(each.query["since"]) // 1000, int(each.query["until"]) // 1000) for each in game.requests]


def answer(document):
    return status(200, document if isinstance(document, bytes) else json.dumps(document).encode())


def cut(handler):
    """Breaks off in the middle of an answer."""
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"items": [')
    handler.close_connection = True


def plain_row(order_id, **changed):
    row = {"order_id": order_id, "usn": 100001, "product_id": "gem_100", "price": "9900", "currency": "KRW"}
    return row | {"market": "google", "paid_at": NOW - 600, "status": "paid"} | changed


class TestShapes:
    @pytest.mark.parametrize("shape", ["nested", "numbered", "linked"])
    def test_three_differently_shaped_apis_are_read_by_configuration_alone(self, poll, studio, db, now, shape):
        with GamePayments(shape) as game:
            game.set_up(studio)
            game.limit = 2
            for number in range(5):
                game.pay(f"GP/{number}", NOW - 3600 + number, amount="12.34", currency="USD")
            game.rows[3]["refunded_at"] = NOW - 1800.0

            again = poll()

            assert (again, len(game.requests)) == (300.0, 3)
        rows = db("SELECT * FROM payments ORDER BY id")
        assert [row["transaction_id"] for row in rows] == [f"GP/{number}" for number in range(5)]
        assert {(row["player_id"], row["product_id"], row["amount"], row["currency"]) for row in rows} == {
            ("100001", "gem_100", "12.34", "USD")
        }
        assert {(row["platform"], row["distribution_type"], row["state"], row["source"]) for row in rows} == {
            ("Android", "MOBILE_STORE", "waiting", "poll")
        }
        assert rows[0]["purchased_at"] == "2026-01-02T02:04:05.000000Z"
        assert [row["refunded_at"] is not None for row in rows] == [False, False, False, True, False]

    def test_amounts_stay_exact_as_numbers_and_as_text(self, poll, studio, db, now, game):
        game.set_up(studio)
        amounts = ["9900", "0.01", "12345678901234.5", "19.99", "0.30", "1e3", "9900.00", "123456789012345.67"]
        for number, amount in enumerate(amounts):
            game.pay(f"GP-{number}", NOW - 600 + number, amount=amount)

        poll()

        told = [row["amount"] for row in db("SELECT amount FROM payments ORDER BY id")]
        assert told == ["9900", "0.01", "12345678901234.5", "19.99", "0.3", "1000", "9900", "123456789012345.67"]

    def test_places_are_filled_in_percent_encoded_and_in_the_zone(self, installation, studio, now, game):
        game.set_up(
            studio,
            zone="Asia/Seoul",
            url=f"{game.url}/p?a={{from}}&b={{to_ms}}&c={{from_iso}}&d={{from_date}}&e={{to_date}}&f={{cursor}}&g={{limit}}",
            limit="50",
            rows="`[]`",
            next="`null`",
        )
        game.trouble(answer({}), answer({}))
        source = Source(installation.games.by_slug("demo"), installation.outbound)

        source.page(NOW - 12 * 3600, NOW, None)
        source.page(NOW - 12 * 3600, NOW, "a/b c&d=é")

        first, second = (each.target for each in game.requests)
        assert first == (
            f"/p?a={NOW - 12 * 3600}&b={NOW * 1000}&c=2026-01-02T00%3A04%3A05%2B09%3A00"
            "&d=2026-01-02&e=2026-01-02&f=&g=50"
        )
        assert second.endswith("&f=a%2Fb%20c%26d%3D%C3%A9&g=50")

    def test_a_form_is_posted_where_the_body_is_no_json(self, installation, studio, now, game):
        game.set_up(studio, method="POST", body="from={from_iso}&after={cursor}", rows="`[]`", next="`null`")
        game.trouble(answer({}))

        Source(installation.games.by_slug("demo"), installation.outbound).page(NOW, NOW + 60, "a&b")

        assert game.requests[0].body == b"from=2026-01-02T03%3A04%3A05Z&after=a%26b"
        assert game.requests[0].headers["content-type"] == "application/x-www-form-urlencoded"


class TestWindows:
    def test_the_first_poll_goes_a_day_back_and_stays_a_minute_behind(self, poll, studio, now, game, watermark):
        game.set_up(studio)

        again = poll()

        assert ranges(game) == [(NOW - DAY, NOW - 60)]
        assert (again, watermark().through) == (300.0, NOW - 60)
        assert (poll(), len(game.requests)) == (300.0, 1)  # nothing is new

    def test_later_polls_begin_ten_minutes_before_the_watermark(self, poll, studio, now, game, watermark, ids):
        game.set_up(studio)
        game.pay("GP-1", NOW - 300)
        poll()
        game.pay("GP-late", NOW - 400)
        now.shift(300)

        poll()

        assert ranges(game)[1] == (NOW - 660, NOW + 240)
        assert (watermark().through, ids()) == (NOW + 240, ["GP-1", "GP-late"])

    def test_what_was_paid_before_since_is_never_asked_for(self, poll, studio, now, game, ids):
        game.set_up(studio, since="2026-01-02T03:00:00Z")
        cut_over = NOW - 245
        game.pay("GP-before", cut_over - 300)
        game.pay("GP-after", cut_over + 10)
        poll()
        now.shift(300)

        poll()

        assert [start for start, _ in ranges(game)] == [cut_over, cut_over]
        assert ids() == ["GP-after"]

    def test_since_is_a_time_of_the_zone_and_long_ranges_are_asked_for_day_by_day(self, poll, studio, now, game):
        game.set_up(studio, since="2025-12-31", zone="Asia/Seoul")

        poll()

        began = 1_767_106_800  # 2025-12-30T15:00:00Z
        assert [start for start, _ in ranges(game)] == [began, began + DAY - 600, began + 2 * (DAY - 600)]
        assert all(end - start <= DAY for start, end in ranges(game))
        assert ranges(game)[-1][1] == NOW - 60

    def test_an_overlap_longer_than_the_span_still_gets_ahead(self, poll, studio, now, game, watermark):
        game.set_up(studio, span_seconds="60", overlap_seconds="86400", since="2026-01-02T03:00:00")

        poll()

        assert watermark().through == NOW - 60
        assert all(end - start <= 60 for start, end in ranges(game))

    def test_a_first_poll_that_fails_does_not_begin_any_later_the_next_time(self, poll, studio, now, game):
        game.set_up(studio)
        game.trouble(status(503))
        with pytest.raises(JobError):
            poll()
        now.shift(7200)

        poll()

        assert ranges(game)[1][0] == NOW - DAY

    def test_a_clock_that_goes_back_asks_for_nothing(self, poll, studio, now, game, watermark):
        game.set_up(studio)
        poll()
        now.move_to(NOW - 3600)

        poll()

        assert (len(game.requests), watermark().through) == (1, NOW - 60)

    def test_what_a_clock_that_ran_ahead_has_passed_over_is_read_again(self, poll, studio, now, game, watermark):
        game.set_up(studio)
        now.shift(400 * DAY)
        poll()
        now.shift(-400 * DAY)

        poll()

        assert ranges(game)[-1] == (NOW - DAY, NOW - 60)
        assert watermark().through == NOW - 60

    def test_an_incomplete_configuration_is_not_polled(self, poll, studio, now, game):
        studio.config("playcamp.payments.url", f"{game.url}/p?from={{from}}")

        assert poll() is None
        assert game.requests == []


NONSENSE = answer({"ok": False, "error": "the cursor has expired"})


class TestTrouble:
    @pytest.fixture(autouse=True)
    def five_pages(self, studio, now, game):
        game.set_up(studio)
        game.limit = 1
        for number in range(5):
            game.pay(f"GP-{number}", NOW - 600 + number)

    @pytest.mark.parametrize("trouble", [reset, cut, silence, slow_body, status(500), status(429), answer(b"")])
    def test_an_api_that_dies_in_mid_window_loses_no_row(self, poll, game, watermark, ids, trouble, monkeypatch):
        if trouble in (silence, slow_body):
            monkeypatch.setattr(game_payments, "TIMEOUT_SECONDS", 3.0)
        game.trouble(None, None, trouble)

        with pytest.raises(JobError):
            poll()
        monkeypatch.undo()
        stored, through = ids(), watermark().through
        poll()

        assert (stored, through) == (["GP-0", "GP-1"], None)
        assert (ids(), watermark().through) == ([f"GP-{number}" for number in range(5)], NOW - 60)

    @pytest.mark.parametrize(
        ("runs", "pages"),
        [
            ([[None, None, reset]], "1 2 3 3 4 5"),
            ([[None, None, status(410)]], "1 2 3 1 2 3 4 5"),  # refused: the window begins anew
            ([[None, None, NONSENSE], [None, None, NONSENSE]], "1 2 3 3 4 5 5"),  # the place is not lost
            ([[None, None, NONSENSE], [NONSENSE], [NONSENSE]], "1 2 3 3 3 1 2 3 4 5"),  # it never makes sense
        ],
    )
    def test_the_window_goes_on_where_it_was_unless_its_place_is_lost(self, poll, game, ids, runs, pages):
        for script in runs:
            game.trouble(*script)
            with pytest.raises(JobError):
                poll()

        poll()

        assert " ".join(each.query["page"] for each in game.requests) == pages
        assert len(ids()) == 5

    def test_another_configuration_has_the_window_begin_anew(self, poll, game, studio):
        game.trouble(None, None, reset)
        with pytest.raises(JobError):
            poll()
        studio.config("playcamp.payments.limit", "10")

        poll()

        assert [each.query["page"] for each in game.requests][3] == "1"

    def test_a_write_that_fails_leaves_the_page_to_be_asked_for_again(self, poll, game, installation, ids, watermark):
        write, count = installation.database.write, 0

        def dies(function):
            nonlocal count
            count += 1
            if count == 3:
                raise OSError("the disk is gone")
            return write(function)

        installation.database.write = dies
        with pytest.raises(OSError, match="disk"):
            poll()
        installation.database.write = write

        poll()

        assert (len(ids()), watermark().through) == (5, NOW - 60)
        assert [each.query["page"] for each in game.requests] == ["1", "2", "2", "3", "4", "5"]

    @pytest.mark.parametrize(
        ("name", "values"),
        [("rows", ("nothing", "items[0]", "page")), ("next", ("page", "`7`", "`true`", "items", '`"\\u0000"`'))],
    )
    def test_rows_that_are_no_list_and_pages_in_a_circle_move_no_watermark(self, poll, studio, watermark, name, values):
        for value in values:
            studio.config(f"playcamp.payments.{name}", value)
            with pytest.raises(JobError, match=rf"playcamp\.payments\.{name}"):
                poll()

            assert watermark().through is None

    def test_a_circle_of_links_is_noticed(self, poll, studio, game):
        studio.config("playcamp.payments.url", f"{game.url}/p?since={{from_ms}}&until={{to_ms}}&size={{limit}}")
        studio.config("playcamp.payments.next", "next")
        game.trouble(answer({"items": [], "next": "/p?to=a"}), answer({"items": [], "next": "/p?to=b"}))
        game.trouble(answer({"items": [], "next": "/p?to=a"}))

        with pytest.raises(JobError, match="never ends"):
            poll()

    @pytest.mark.parametrize(
        "link",
        "http://example.com/p https://127.0.0.1/p //127.0.0.1:1/p http://127.0.0.1@example.com/p http://[/ "
        "ftp://127.0.0.1/p".split(),
    )
    def test_a_link_to_another_server_is_an_error(self, poll, studio, game, watermark, link):
        studio.config("playcamp.payments.url", f"{game.url}/p?since={{from_ms}}&until={{to_ms}}&size={{limit}}")
        studio.config("playcamp.payments.next", "next")
        game.trouble(answer({"items": [], "next": link}))

        with pytest.raises(JobError, match="link"):
            poll()

        assert (len(game.requests), watermark().through) == (1, None)

    @pytest.mark.parametrize("page", [b"[" * 100_000, b"{", b"<html>", b'{"items": NaN}', b"\xff", status(204)])
    def test_answers_that_are_no_json_are_errors(self, poll, game, watermark, page):
        game.trouble(answer(page) if isinstance(page, bytes) else page)

        with pytest.raises(JobError):
            poll()

        assert watermark().through is None

    def test_a_byte_order_mark_is_no_reason_and_nan_costs_one_row(self, poll, studio, game, now, db):
        game.set_up(studio)
        good, bad = (
            {"txn": each, "uid": "1", "sku": "gem", "price": 9.5, "ccy": "USD", "store": "google"} for each in "ab"
        )
        rows = [row | {"ts": (NOW - 600) * 1000, "state": "PAID"} for row in (good, bad | {"price": float("nan")})]
        page = json.dumps({"items": rows, "page": 1, "pages": 1})
        game.trouble(answer(b"\xef\xbb\xbf" + page.encode()))

        poll()

        assert db("SELECT transaction_id, state FROM payments ORDER BY id") == [
            {"transaction_id": "a", "state": "waiting"},
            {"transaction_id": "b", "state": "parked"},
        ]
        assert formulas.FORMULAS[1].read(b"\xef\xbb\xbf[NaN]") == ["NaN"]  # and a preview of it shows the same

    def test_an_api_that_is_not_there_is_an_error_that_quotes_nothing(self, poll, studio, caplog):
        studio.secret("playcamp.payments_key", KEY)
        studio.config("playcamp.payments.url", f"http://127.0.0.1:{closed_port()}/p?token=secret-token&f={{from}}")

        with pytest.raises(JobError) as caught:
            poll()

        assert "secret-token" not in str(caught.value) + caplog.text
        assert KEY not in str(caught.value) + caplog.text

    @pytest.mark.parametrize(
        ("name", "value"), [("since", "the day before"), ("since", "9" * 60), ("body", '{"a": {cursor}}')]
    )
    def test_a_configuration_that_cannot_work_is_told(self, poll, studio, game, name, value):
        studio.config("playcamp.payments.method", "POST")
        studio.config(f"playcamp.payments.{name}", value)

        with pytest.raises(JobError, match=f"playcamp.payments.{name}"):
            poll()

        assert game.requests == []


class TestSchedule:
    def test_failures_are_recorded_and_retried_by_the_owners_table_and_then_hourly(
        self, installation, studio, job, now, game, ids
    ):
        game.set_up(studio, retry="7,70")
        game.pay("GP-1", NOW - 600)
        game.trouble(status(500), status(429, Retry_After="900"), status(500), status(500))
        waits = []
        for code in (500, 429, 500, 500):
            installation.new_relay().drain()
            row, wait = job()
            waits.append(wait)
            assert (row["failures"], f"answered {code}" in row["last_error"]) == (len(waits), True)
            now.shift(wait)

        installation.new_relay().drain()

        assert waits == [7, 900, 3600, 3600]
        assert (job()[0]["failures"], job()[0]["last_error"], ids()) == (0, None, ["GP-1"])

    def test_what_takes_longer_than_a_slice_goes_on_at_once(self, poll, studio, now, game, ids, monkeypatch):
        monkeypatch.setattr(polling, "SLICE_SECONDS", 0.0)
        game.set_up(studio)
        game.limit = 1
        for number in range(3):
            game.pay(f"GP-{number}", NOW - 600 + number)

        waits = [poll() for _ in range(3)]

        assert (waits, len(ids())) == ([0.0, 0.0, 300.0], 3)
        assert [each.query["page"] for each in game.requests] == ["1", "2", "3"]

    def test_a_poll_that_got_ahead_has_the_pauses_begin_anew(self, installation, studio, job, now, game):
        game.set_up(studio)
        game.limit = 1
        for number in range(4):
            game.pay(f"GP-{number}", NOW - 600 + number)
        game.trouble(status(500), status(500), None, status(500), status(500))
        failures = []
        for _ in range(4):
            installation.new_relay().drain()
            failures.append(job()[0]["failures"])
            now.shift(job()[1])

        assert failures == [1, 2, 1, 2]


class TestLateRefunds:
    @pytest.fixture
    def refunds(self, installation, studio):
        return lambda: polling.run_refunds(installation, installation.games.by_slug(studio.slug))

    def test_a_refund_of_days_later_is_found_once_a_day(self, installation, studio, db, now, game, watermark):
        del installation.jobs["appcharge.never_came"]  # which would try for seconds to reach the store, each day
        game.set_up(studio)
        paid = game.pay("GP-1", NOW - 600)
        installation.new_relay().drain()
        before = db("SELECT refund_state FROM payments")
        for day in range(1, 21):
            now.move_to(NOW + day * DAY + 60)
            paid["refunded_at"] = float(NOW + 15 * DAY) if day >= 15 else None
            installation.new_relay().drain()
            if day == 14:
                before += db("SELECT refund_state FROM payments")

        (row,) = db("SELECT * FROM payments")
        assert [each["refund_state"] for each in before] == [None, None]
        assert (row["refunded_at"] is not None, row["refund_state"]) == (True, "waiting")
        assert watermark().through == NOW + 20 * DAY
        assert db("SELECT * FROM payment_conflicts") == []

    def test_the_last_days_are_read_window_by_window_and_not_beyond_the_polls(
        self, poll, refunds, studio, now, game, watermark
    ):
        game.set_up(studio, refund_days="3")
        poll()
        first = refunds()
        now.shift(5 * DAY)
        poll()
        game.requests.clear()
        polled = watermark()

        again = refunds()

        start, end = NOW + 2 * DAY, NOW + 5 * DAY - 60
        assert (first, again, refunds()) == (DAY, DAY, DAY - 60)
        assert ranges(game) == [(start, start + DAY), (start + DAY, start + 2 * DAY), (start + 2 * DAY, end)]
        assert watermark() == polled

    def test_what_was_paid_before_the_polls_began_is_not_read(self, poll, refunds, studio, now, game, ids):
        game.set_up(studio)
        game.pay("GP-before", NOW - 2 * DAY)
        poll()
        refunds()
        now.shift(DAY)
        poll()

        refunds()

        assert (min(start for start, _ in ranges(game)), ids()) == (NOW - DAY, [])

    def test_of_what_was_paid_before_only_what_a_backfill_brought_is_read(
        self, installation, poll, refunds, studio, now, game, ids, db
    ):
        game.set_up(studio)
        game.pay("GP-unasked", NOW - 6 * DAY - 5)
        brought = game.pay("GP-brought", NOW - 5 * DAY)
        game.pay("GP-between", NOW - 2 * DAY)
        game.pay("GP-unreadable", NOW - 2 * DAY, market="nowhere", user="")
        poll()
        refunds()
        opened = installation.games.by_slug("demo")
        polling.backfill(installation, opened, "test", NOW - 6 * DAY, NOW - 4 * DAY, lambda progress, rows: None)
        brought["refunded_at"] = NOW - 3600.0
        game.pay("GP-polled", NOW - 30)
        now.shift(DAY)
        poll()
        game.requests.clear()

        refunds()

        assert ids() == ["GP-brought", "GP-polled"]
        (row,) = db("SELECT * FROM payments WHERE transaction_id = 'GP-brought'")
        assert (row["refunded_at"] is not None, row["refund_state"]) == (True, "waiting")
        assert ranges(game)[0][0] == NOW - 5 * DAY
        assert db("SELECT * FROM payment_conflicts") == []

    def test_what_a_backfill_brought_of_longer_ago_is_left_to_the_next_one(
        self, installation, poll, refunds, studio, now, game
    ):
        game.set_up(studio, refund_days="3")
        game.pay("GP-brought", NOW - 5 * DAY)
        poll()
        refunds()
        opened = installation.games.by_slug("demo")
        polling.backfill(installation, opened, "test", NOW - 6 * DAY, NOW - 4 * DAY, lambda progress, rows: None)
        now.shift(DAY)
        poll()
        game.requests.clear()

        refunds()

        assert ranges(game)[0][0] == NOW - DAY

    def test_a_reading_that_breaks_goes_on_where_it_was(self, poll, refunds, studio, now, game):
        game.set_up(studio, refund_days="3")
        poll()
        refunds()
        now.shift(5 * DAY)
        poll()
        game.requests.clear()
        game.trouble(None, status(500))
        with pytest.raises(JobError, match="answered 500"):
            refunds()
        now.shift(60)

        refunds()

        start = NOW + 2 * DAY
        assert [begin - start for begin, _ in ranges(game)] == [0, DAY, DAY, 2 * DAY]

    def test_nothing_is_read_again_before_the_first_poll_or_where_nobody_wants_it(
        self, poll, refunds, studio, now, game
    ):
        game.set_up(studio)
        early = refunds()
        poll()
        studio.config("playcamp.payments.refund_days", "0")
        now.shift(2 * DAY)

        assert (early, refunds(), len(game.requests)) == (300.0, None, 1)


class TestRows:
    @pytest.fixture(autouse=True)
    def plain(self, studio, now, game):
        game.set_up(studio, url=f"{game.url}/p?from={{from}}&to={{to}}&cursor={{cursor}}", **PLAIN)

    @pytest.mark.parametrize(
        ("row", "transaction_id", "reason"),
        [
            (plain_row("GP-x", market="corner shop"), "GP-x", "market corner shop is in no table"),
            (plain_row("GP-x", price="ten"), "GP-x", "amount"),
            (plain_row("GP-x", paid_at="yesterday"), "GP-x", "purchasedAt"),
            (plain_row("GP-x", paid_at=NOW + 7200), "GP-x", "in the future"),
            (plain_row("GP-x", currency=None), "GP-x", "currency is missing"),
            (plain_row("GP-x", product_id="\ud800"), None, "surrogate"),
            (plain_row("GP-x", status=["paid"]), "GP-x", "status"),
            (plain_row(None), None, "transactionId is missing"),
            (plain_row({"a": 1}), None, "transactionId"),
            ("no object", None, "is missing"),
            (None, None, "no object of this row, but null"),
        ],
    )
    def test_a_row_that_cannot_be_sent_is_parked_with_its_reason_and_the_poll_goes_on(
        self, poll, game, db, watermark, row, transaction_id, reason
    ):
        game.trouble(answer({"payments": [plain_row("GP-1"), row, plain_row("GP-2")], "next_cursor": None}))

        poll()

        states = {row["transaction_id"]: row for row in db("SELECT * FROM payments")}
        (parked,) = [row for row in states.values() if row["state"] == "parked"]
        assert [states["GP-1"]["state"], states["GP-2"]["state"]] == ["waiting", "waiting"]
        assert reason in parked["reason"]
        assert parked["transaction_id"] == (transaction_id or parked["transaction_id"])
        assert (transaction_id is None) == parked["transaction_id"].startswith(parsing.UNREADABLE)
        assert watermark().through == NOW - 60

    def test_a_row_whose_expression_fails_is_parked_once_however_often_it_comes(self, poll, studio, game, db, now):
        studio.config("playcamp.payments.map", "{transactionId: order_id, amount: scale(price, `-2`)}")
        bad = answer({"payments": [plain_row("GP-1", price="ten")], "next_cursor": None})
        game.trouble(bad, bad)
        poll()
        now.shift(300)

        poll()

        (row,) = db("SELECT * FROM payments")
        assert (row["state"], "scale() takes a number" in row["reason"]) == ("parked", True)

    def test_a_number_beyond_all_numbers_hurts_its_own_row_alone(self, poll, game, db):
        rows = b'{"payments": [{"order_id": "GP-1", "price": 1e999}, {"order_id": "GP-2", "price": 1e-999}]}'
        game.trouble(answer(rows))

        poll()

        assert {row["state"] for row in db("SELECT * FROM payments")} == {"parked"}

    def test_ids_that_are_numbers_are_told_as_they_are_written(self, poll, game, db):
        game.trouble(answer(b'{"payments": [' + json.dumps(plain_row(12345678901234567890)).encode() + b"]}"))

        poll()

        assert db("SELECT transaction_id FROM payments")[0]["transaction_id"] == "12345678901234567890"

    def test_a_payment_told_again_is_known_and_one_given_back_since_is_refunded(self, poll, game, db, now):
        game.trouble(answer({"payments": [plain_row("GP-1"), plain_row("GP-2")]}))
        game.trouble(answer({"payments": [plain_row("GP-1"), plain_row("GP-2", status="refunded")]}))
        poll()
        now.shift(300)

        poll()

        rows = db("SELECT * FROM payments ORDER BY id")
        assert [(row["transaction_id"], row["refund_state"]) for row in rows] == [("GP-1", None), ("GP-2", "waiting")]
        (job,) = db("SELECT due_at FROM schedules WHERE name = :name", name=sends.JOB)
        assert job["due_at"] == coinslot_clock.stamp(NOW)  # since the first one came

    def test_other_content_of_what_may_have_been_sent_is_kept_for_a_person(self, claim, poll, game, db, now):
        game.trouble(answer({"payments": [plain_row("GP-1")]}), answer({"payments": [plain_row("GP-1", price="1")]}))
        poll()
        claim()
        now.shift(300)

        poll()

        assert [row["amount"] for row in db("SELECT amount FROM payments")] == ["9900"]
        assert len(db("SELECT * FROM payment_conflicts")) == 1

    def test_what_is_too_cheap_or_a_test_is_kept_and_never_sent(self, poll, studio, game, db):
        rows = [
            plain_row("GP-1", price="0"),
            plain_row("GP-2", price="0.001"),
            plain_row("GP-3", product_id="coinslot-test"),
        ]
        game.trouble(answer({"payments": rows}))

        poll()

        assert [row["state"] for row in db("SELECT state FROM payments ORDER BY id")] == ["kept"] * 3


class TestProof:
    @pytest.fixture(autouse=True)
    def keyed(self, now, game):
        game.key = KEY

    def test_polls_carry_the_fingerprint_of_the_request_as_it_is_sent(self, poll, studio, game):
        game.set_up(studio)

        poll()

        (asked,) = game.requests
        path, _, query = asked.target.partition("?")
        lines = f"GET\n{path}\n{'&'.join(sorted(query.split('&')))}\n{NOW}\n{KEY}"
        assert asked.headers["x-fingerprint"] == hashlib.sha256(lines.encode()).hexdigest()
        assert (asked.headers["x-partner"], asked.headers["x-timestamp"]) == ("demo", str(NOW))

    def test_the_fingerprint_is_that_of_links_too(self, poll, studio, ids):
        with GamePayments("linked", key=KEY) as game:
            game.set_up(studio)
            game.limit = 1
            game.pay("GP-1", NOW - 600)
            game.pay("GP-2", NOW - 500)

            poll()

        assert ids() == ["GP-1", "GP-2"]

    def test_an_hmac_covers_the_body(self, poll, studio):
        with GamePayments("linked", key=KEY) as game:
            game.set_up(studio, auth="hmac")

            poll()

            (asked,) = game.requests
        lines = f"POST\n/rpc/payments\n\n{NOW}\n{hashlib.sha256(asked.body).hexdigest()}"
        assert asked.headers["x-signature"] == hmac.new(KEY.encode(), lines.encode(), hashlib.sha256).hexdigest()
        assert "x-fingerprint" not in asked.headers

    @pytest.mark.parametrize(
        ("auth", "header", "value"),
        [("header", "x-api-key", KEY), ("basic", "authorization", "Basic YWRtaW46c2VjcmV0")],
    )
    def test_a_key_goes_in_a_header_where_the_game_wants_it_so(self, poll, studio, game, auth, header, value):
        game.key = None
        game.set_up(studio, auth=auth)
        studio.secret("playcamp.payments_key", KEY if auth == "header" else "admin:secret")

        poll()

        assert game.requests[0].headers[header] == value

    def test_without_a_key_nothing_is_proved(self, poll, studio, game):
        game.key = None
        game.set_up(studio)

        poll()

        assert not {"x-fingerprint", "x-partner", "x-api-key", "authorization"} & game.requests[0].headers.keys()

    def test_a_game_that_does_not_believe_us_is_told_of(self, poll, studio, game):
        game.set_up(studio)
        studio.secret("playcamp.payments_key", "another key")

        with pytest.raises(JobError, match="answered 401"):
            poll()


class TestPin:
    def fingerprint(self, path):
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(path.read_text().split("-----BEGIN PRIVATE")[0])).hexdigest()

    def test_a_pinned_certificate_is_believed_though_nobody_vouches_for_it(self, poll, studio, now, ids, tmp_path):
        path = certificate(tmp_path, "game.example", days=-1)
        with GamePayments("numbered", certificate=path) as game:
            digits = self.fingerprint(path)
            game.set_up(studio, pin=":".join(digits[at : at + 2] for at in range(0, 64, 2)).upper())
            game.pay("GP-1", NOW - 600)

            poll()

        assert ids() == ["GP-1"]

    @pytest.mark.parametrize("pin", ["0" * 64, ""])
    def test_another_certificate_hears_nothing(self, poll, studio, now, tmp_path, pin):
        with GamePayments("numbered", key=KEY, certificate=certificate(tmp_path, "127.0.0.1")) as game:
            game.set_up(studio, pin=pin)

            with pytest.raises(JobError, match="certificate"):
                poll()

            assert game.requests == []

    def test_a_pin_without_tls_is_an_error(self, poll, studio, now, game):
        game.set_up(studio, pin="0" * 64)

        with pytest.raises(JobError, match="https"):
            poll()

        assert game.requests == []


def test_progress_survives_being_written_down():
    window = Window(1, 2, "mark", 3, "next")
    progress = Progress(1, 5, 2, window)

    assert Progress.parse(progress.text) == progress
    assert Progress.parse(None) is None
    assert Standing(polling.run).run is polling.run
