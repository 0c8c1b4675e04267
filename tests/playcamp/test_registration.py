"""Registration: every payment reaches PlayCamp once and never with two contents, whatever either side does wrong."""

import json
import threading
from contextlib import suppress
from decimal import Decimal

import pytest

from coinslot.base import clock as coinslot_clock
from coinslot.payments import payment_queue as queue
from coinslot.relay import jobs
from coinslot.relay.jobs import JobError
from handlers.playcamp.payments import registration, sends
from tests.fakes.game_payments import GamePayments
from tests.fakes.http import reset, silence
from tests.fakes.playcamp import answers, broken, garbage, too_many
from tests.playcamp.conftest import NOW
from tests.servers import until

BULK = "/v1/server/payments/bulk"


def sent(playcamp):
    """The transaction ids of each bulk call."""
    return [[each["transactionId"] for each in request.json["payments"]] for request in playcamp.asked(BULK)]


def due_in(row, name):
    return round(coinslot_clock.seconds(row[name]) - coinslot_clock.now())


def as_always(playcamp):
    """A trouble that is none."""

    def reply(handler):
        playcamp.send(handler, playcamp.reply(playcamp.requests[-1]))

    return reply


def poisoned(playcamp, text, trouble):
    """A trouble that calls with some text in them have, and no others."""

    def reply(handler):
        is_poison = text.encode() in playcamp.requests[-1].body
        (trouble if is_poison else as_always(playcamp))(handler)

    return reply


class TestPayments:
    def test_a_payment_is_told_in_playcamps_words(self, register, report, playcamp, row):
        report("GP-1", productName="100 gems", amount="12345678901234.56", purchasedAt="2026-01-02T12:00:00.987+09:00")

        assert register() is None

        (request,) = playcamp.asked(BULK)
        assert request.json == {
            "payments": [
                {
                    "userId": "100001",
                    "transactionId": "GP-1",
                    "productId": "gem_100",
                    "productName": "100 gems",
                    "amount": Decimal("12345678901234.56"),
                    "currency": "KRW",
                    "platform": "Android",
                    "distributionType": "MOBILE_STORE",
                    "purchasedAt": "2026-01-02T03:00:00.987Z",
                }
            ]
        }
        assert row("GP-1")["state"] == "registered"

    def test_a_thousand_and_one_payments_are_two_calls(self, register, report, playcamp, states):
        report(*(f"GP-{number}" for number in range(1001)))

        register()

        assert [len(each) for each in sent(playcamp)] == [1000, 1]
        assert set(states().values()) == {"registered"}
        assert len(playcamp.payments) == 1001

    @pytest.mark.parametrize("is_conflict", [True, False])
    def test_what_playcamp_knows_already_is_done(self, register, report, playcamp, states, is_conflict):
        report("GP-1", "GP-2")
        playcamp.payments["GP-1"] = {"transactionId": "GP-1"}
        if is_conflict:
            playcamp.trouble("POST", BULK, answers(409, {"error": "known", "code": "CONFLICT"}), times=2)

        register()

        assert states() == {"GP-1": "registered", "GP-2": "registered"}
        assert sent(playcamp) == [["GP-1", "GP-2"], *([["GP-1"], ["GP-2"]] if is_conflict else [])]

    def test_without_an_api_key_everything_waits(self, register, report, states, now):
        report("GP-1")

        assert register() is None
        assert states() == {"GP-1": "waiting"}

    def test_what_is_not_for_this_environment_is_not_sent(self, register, report, playcamp, studio, states):
        report("GP-1", userId="coinslot-test")
        report("GP-2", is_test=True)
        report("GP-3")
        register()
        report("GP-4")
        studio.config("playcamp.environment", "sandbox")

        assert register() == 3600  # it keeps no job busy
        assert sent(playcamp) == [["GP-3"]]
        assert states() == {"GP-1": "kept", "GP-2": "kept", "GP-3": "registered", "GP-4": "waiting"}

    @pytest.mark.parametrize("transaction_ids", [["GP-1"], ["GP-0", "GP-1", "GP-2"]])
    def test_those_a_conflict_names_are_done_and_the_others_are_sent(
        self, register, report, playcamp, row, states, transaction_ids
    ):
        report(*transaction_ids)
        playcamp.payments["GP-1"] = {"transactionId": "GP-1"}

        def reply(handler):
            posted = [each["transactionId"] for each in playcamp.requests[-1].json["payments"]]
            if "GP-1" not in posted:
                return as_always(playcamp)(handler)
            where = {"path": f"payments.{posted.index('GP-1')}.transactionId", "message": "already registered"}
            return answers(409, {"error": "known", "code": "CONFLICT", "details": [where]})(handler)

        playcamp.trouble("POST", BULK, reply, times=10)

        assert register() is None

        assert states() == dict.fromkeys(transaction_ids, "registered")
        assert row("GP-1")["tries"] == 0

    def test_what_the_sandbox_answers_is_not_taken_for_a_payment_that_began_anew_meanwhile(
        self, register, report, playcamp, studio, row, now
    ):
        studio.config("playcamp.environment", "sandbox")
        report("GP-1", is_test=True)

        def reply(handler):
            studio.config("playcamp.environment", "live")
            report("GP-1")
            as_always(playcamp)(handler)

        playcamp.trouble("POST", BULK, reply)
        register()
        assert (row("GP-1")["state"], row("GP-1")["is_test"]) == ("waiting", 0)

        playcamp.payments.clear()  # there is another one outside of the sandbox
        now.shift(queue.OTHER_ENVIRONMENT_SECONDS)
        register()

        assert row("GP-1")["state"] == "registered"
        assert sent(playcamp) == [["GP-1"], ["GP-1"]]


class TestRefused:
    def test_failed_ones_are_tried_five_times_by_the_owners_table_and_then_wait_for_a_person(
        self, register, report, playcamp, studio, row, now
    ):
        studio.config("playcamp.payments.retry", "5,30,120")
        report("GP-1", "GP-2")
        playcamp.failing["GP-1"] = "the campaign has no such player"
        waits = [round(register())]
        while row("GP-1")["state"] == "waiting":
            assert due_in(row("GP-1"), "next_try_at") == waits[-1]
            now.shift(waits[-1])
            waits.append(register())

        assert waits == [5, 30, 120, 3600, None]
        assert (row("GP-1")["state"], row("GP-1")["tries"]) == ("quarantined", 5)
        assert "the campaign has no such player" in row("GP-1")["reason"]
        assert row("GP-2")["state"] == "registered"
        assert sent(playcamp) == [["GP-1", "GP-2"], *[["GP-1"]] * 4]

    @pytest.mark.parametrize(("is_named", "calls"), [(True, [16, 15]), (False, [16, 8, 8, 4, 4, 2, 2, 1, 1])])
    def test_a_refusal_because_of_one_costs_the_others_nothing(
        self, register, report, playcamp, row, states, is_named, calls
    ):
        report(*(f"GP-{number}" for number in range(16)))
        playcamp.has_item_paths = is_named
        playcamp.invalid["GP-5"] = ("productId", "is not of this project")

        register()

        assert sorted((len(each) for each in sent(playcamp)), reverse=True) == calls
        assert {each for each, state in states().items() if state == "waiting"} == {"GP-5"}
        assert ("is not of this project" if is_named else "Validation Error") in row("GP-5")["reason"]
        assert (row("GP-5")["tries"], due_in(row("GP-5"), "next_try_at")) == (1, 5)

    @pytest.mark.parametrize("status", [400, 413, 422])
    def test_where_nothing_is_accepted_it_is_not_the_payments(self, register, report, playcamp, status, db, now):
        report(*(f"GP-{number:02}" for number in range(64)))
        refusal = answers(status, {"error": "No active campaign", "code": "BAD_REQUEST"})
        playcamp.trouble("POST", BULK, refusal, times=1000)

        with pytest.raises(JobError, match="No active campaign") as caught:
            register()

        assert caught.value.pauses == [3600]
        assert len(sent(playcamp)) < 40
        assert {(row["state"], row["tries"]) for row in db("SELECT * FROM payments")} == {("waiting", 0)}

    def test_a_few_that_are_all_refused_lose_no_try_however_often_and_refunds_go_on(
        self, register, report, playcamp, db, row, now
    ):
        report("GP-old")
        register()
        report("GP-1", "GP-2", "GP-3")
        report("GP-old", status="refunded")
        refusal = answers(400, {"error": "No active campaign", "code": "BAD_REQUEST"})
        playcamp.trouble("POST", BULK, refusal, times=1000)
        for _ in range(7):
            with pytest.raises(JobError, match="No active campaign") as caught:
                register()
            now.shift(caught.value.pauses[0])

        found = db("SELECT * FROM payments WHERE transaction_id <> 'GP-old'")
        assert {(row["state"], row["tries"]) for row in found} == {("waiting", 0)}
        assert row("GP-old")["refund_state"] == "done"

    def test_many_bad_ones_in_front_do_not_hold_up_the_others(self, register, report, playcamp, states, now):
        bad = [f"GP-bad-{number}" for number in range(sends.LONE_REFUSALS)]
        report(*bad, "GP-1", "GP-2")
        playcamp.has_item_paths = False
        playcamp.trouble("POST", BULK, poisoned(playcamp, "GP-bad-", answers(400, {"error": "No"})), times=1000)

        with pytest.raises(JobError):
            register()
        now.shift(3600)
        register()

        assert [states()[each] for each in ("GP-1", "GP-2")] == ["registered"] * 2

    def test_items_missing_from_the_results_are_asked_for_again(self, register, report, playcamp, row, now):
        report("GP-1", "GP-2")
        playcamp.forgotten.add("GP-1")

        assert round(register()) == 5
        first = row("GP-1")
        playcamp.forgotten.clear()
        now.shift(5)
        register()

        assert (first["state"], first["tries"]) == ("waiting", 1)
        assert (row("GP-1")["state"], sent(playcamp)) == ("registered", [["GP-1", "GP-2"], ["GP-1"]])


class TestTrouble:
    @pytest.mark.parametrize("is_stored", [False, True])
    @pytest.mark.parametrize(
        "trouble", [broken(), broken(503), too_many(), reset, silence, garbage, answers(200, {"data": 1})]
    )
    def test_trouble_at_playcamp_loses_nothing_and_doubles_nothing(
        self, register, report, playcamp, states, trouble, is_stored, monkeypatch
    ):
        if trouble is silence:
            monkeypatch.setattr(sends, "PATIENCE_SECONDS", 3.0)
        report("GP-1", "GP-2")
        playcamp.trouble("POST", BULK, trouble, is_stored=is_stored)

        with pytest.raises(JobError):
            register()
        before = states()
        monkeypatch.undo()
        register()

        first, second = playcamp.asked(BULK)
        assert (set(before.values()), set(states().values())) == ({"waiting"}, {"registered"})
        assert first.body == second.body
        assert list(playcamp.payments) == ["GP-1", "GP-2"]

    def test_failures_pause_by_the_owners_table_and_a_limit_is_respected(self, installation, report, playcamp, db, now):
        report("GP-1")
        playcamp.trouble("POST", BULK, broken(), broken(), too_many(900))
        waits = []
        for _ in range(3):
            installation.new_relay().drain()
            (job,) = db("SELECT * FROM schedules WHERE name = :name", name=sends.JOB)
            waits.append(due_in(job, "due_at"))
            now.shift(waits[-1])

        installation.new_relay().drain()

        assert waits == [5, 30, 900]
        assert list(playcamp.payments) == ["GP-1"]

    def test_a_refused_key_is_told_and_looked_at_hourly_and_a_new_one_at_once(
        self, installation, report, studio, playcamp, db, now
    ):
        report("GP-1")
        studio.secret("playcamp.api_key", "ak_server_other:wrong-secret")
        relay = installation.new_relay()
        thread = threading.Thread(target=relay.run)
        thread.start()
        try:
            (job,) = until(
                lambda: db("SELECT * FROM schedules WHERE name = 'playcamp.register' AND failures > 0"), "a try"
            )
            studio.secret("playcamp.api_key", playcamp.api_key)
            until(lambda: playcamp.payments, "the payment is registered")
        finally:
            relay.stop()
            thread.join(30)

        assert (due_in(job, "due_at"), "401" in job["last_error"]) == (3600, True)
        assert "wrong-secret" not in job["last_error"]

    def test_a_run_that_got_ahead_has_the_pauses_begin_anew(self, installation, report, playcamp, db, now):
        playcamp.trouble("POST", BULK, too_many(), too_many(), too_many(), as_always(playcamp), too_many(), too_many())
        report(*(f"GP-{number}" for number in range(1001)))
        found = []
        for _ in range(5):
            installation.new_relay().drain()
            (job,) = db("SELECT * FROM schedules WHERE name = :name", name=sends.JOB)
            found.append((job["failures"], due_in(job, "due_at")))
            now.shift(found[-1][1])

        assert found == [(1, 5), (2, 30), (3, 120), (1, 5), (2, 30)]

    def test_a_payment_playcamp_breaks_at_is_found_and_holds_up_no_other(self, register, report, playcamp, row, states):
        report(*(f"GP-{number}" for number in range(8)))
        playcamp.trouble("POST", BULK, poisoned(playcamp, "GP-5", broken()), times=1000)
        for _ in range(sends.BREAKS):
            with pytest.raises(JobError):
                register()
        before = sent(playcamp)

        register()

        assert [len(each) for each in before] == [8] * sends.BREAKS
        assert {each for each, state in states().items() if state == "waiting"} == {"GP-5"}
        assert (row("GP-5")["tries"], "500" in row("GP-5")["reason"]) == (1, True)

    def test_a_payment_that_may_have_arrived_keeps_its_content_whatever_comes_after(
        self, register, report, playcamp, row, now, installation
    ):
        report("GP-1")

        def stored_and_broken(handler):
            (posted,) = [each for each in playcamp.requests[-1].json["payments"] if each["transactionId"] == "GP-1"]
            playcamp.payments["GP-1"] = posted
            broken()(handler)

        playcamp.trouble("POST", BULK, poisoned(playcamp, "GP-1", stored_and_broken), times=1000)
        for number in range(60):
            report(f"other-{number}")
            with suppress(JobError):
                register()
            now.shift(7300)
            if row("GP-1")["state"] == "quarantined":
                break
        assert row("GP-1")["state"] == "quarantined"

        assert report("GP-1", amount="99000") == ["conflict"]
        game_id = installation.games.by_slug("demo").id
        installation.database.write_here(lambda tx: queue.redrive(tx, game_id, "GP-1"))
        assert report("GP-1", amount="99000") == ["conflict"]
        playcamp.end_troubles()
        register()

        assert (row("GP-1")["state"], row("GP-1")["amount"]) == ("registered", "9900")

    def test_what_was_refused_for_good_may_be_corrected(self, register, report, playcamp, row, now):
        report("GP-1")
        playcamp.failing["GP-1"] = "the amount is unbelievable"
        while row("GP-1")["state"] == "waiting":
            register()
            now.shift(7300)
        playcamp.failing.clear()

        assert report("GP-1", amount="99.00") == ["new"]
        register()

        assert (row("GP-1")["state"], row("GP-1")["amount"]) == ("registered", "99")

    def test_a_playcamp_that_is_down_costs_no_payment_a_try(self, register, report, playcamp, db, states, now):
        report(*(f"GP-{number}" for number in range(30)))
        is_down = True
        playcamp.trouble("POST", BULK, lambda it: (broken() if is_down else as_always(playcamp))(it), times=10**6)
        for _ in range(12):
            with pytest.raises(JobError):
                register()
            now.shift(3600)
        is_down = False
        down = {(row["state"], row["tries"]) for row in db("SELECT * FROM payments")}
        for _ in range(3):
            now.shift(3600)
            register()

        assert down == {("waiting", 0)}
        assert set(states().values()) == {"registered"}

    def test_what_takes_longer_than_a_slice_goes_on_at_once(self, register, report, playcamp, monkeypatch, states):
        monkeypatch.setattr(registration, "SLICE_SECONDS", 0.0)
        report(*(f"GP-{number}" for number in range(1001)))

        waits = [register() for _ in range(3)]

        assert waits == [0.0, 0.0, None]
        assert set(states().values()) == {"registered"}

    def test_a_key_that_is_no_key_is_told(self, register, report, studio, now):
        studio.secret("playcamp.api_key", "no-colon")
        report("GP-1")

        with pytest.raises(JobError, match="keyId:secret"):
            register()


class TestRefunds:
    def test_a_refund_follows_its_payment(self, register, report, playcamp, row):
        report("GP/1", status="refunded")

        register()

        assert playcamp.routes == [f"POST {BULK}", "POST /v1/server/payments/GP%2F1/refund"]
        assert (row("GP/1")["state"], row("GP/1")["refund_state"]) == ("registered", "done")
        assert playcamp.payments["GP/1"]["status"] == "REFUNDED"

    def test_a_refund_never_overtakes_a_payment_that_waits(self, register, report, playcamp, row):
        report("GP-1", status="refunded")
        playcamp.failing["GP-1"] = "not now"

        register()

        assert playcamp.routes == [f"POST {BULK}"]
        assert row("GP-1")["refund_state"] == "waiting"

    @pytest.mark.parametrize("again", [200, 400, 409])
    def test_what_is_refunded_already_is_done(self, register, report, playcamp, row, again):
        playcamp.refunded_again = again
        report("GP-1", status="refunded")
        playcamp.payments["GP-1"] = {"transactionId": "GP-1", "userId": "100001", "status": "REFUNDED"}

        register()

        assert row("GP-1")["refund_state"] == "done"

    def test_a_refund_that_is_refused_is_tried_five_times(self, register, report, playcamp, studio, row, now):
        studio.config("playcamp.payments.retry", "5")
        report("GP-1", status="refunded")
        refusal = answers(400, {"error": "The month is closed", "code": "BAD_REQUEST"})
        playcamp.trouble("POST", "/v1/server/payments/GP-1/refund", refusal, times=100)
        register()
        for wait in (5, 3600, 3600, 3600):
            now.shift(wait)
            register()

        assert (row("GP-1")["state"], row("GP-1")["refund_state"]) == ("registered", "quarantined")
        assert "The month is closed" in row("GP-1")["reason"]
        assert len([path for path in playcamp.routes if path.endswith("/refund")]) == 5

    def test_a_payment_playcamp_has_lost_is_registered_before_its_refund(self, register, report, playcamp, row):
        report("GP-1")
        register()
        playcamp.payments.clear()
        report("GP-1", status="refunded")

        assert register() == 0.0
        assert report("GP-1", amount="1") == ["conflict"]  # it keeps its content
        register()

        assert (row("GP-1")["state"], row("GP-1")["refund_state"]) == ("registered", "done")
        assert (playcamp.payments["GP-1"]["status"], str(playcamp.payments["GP-1"]["amount"])) == ("REFUNDED", "9900")

    def test_a_refund_of_the_sandbox_is_not_taken_for_that_of_a_payment_that_began_anew_meanwhile(
        self, register, report, playcamp, studio, row, now
    ):
        studio.config("playcamp.environment", "sandbox")
        report("GP-1", is_test=True)
        register()
        report("GP-1", is_test=True, status="refunded")

        def reply(handler):
            studio.config("playcamp.environment", "live")
            report("GP-1", status="refunded")
            as_always(playcamp)(handler)

        playcamp.trouble("POST", "/v1/server/payments/GP-1/refund", reply)
        register()
        assert (row("GP-1")["state"], row("GP-1")["refund_state"]) == ("waiting", "waiting")

        playcamp.payments.clear()  # there is another one outside of the sandbox
        now.shift(queue.OTHER_ENVIRONMENT_SECONDS)
        register()

        assert (row("GP-1")["state"], row("GP-1")["refund_state"]) == ("registered", "done")
        assert len(playcamp.asked("/v1/server/payments/GP-1/refund")) == 2

    def test_a_payment_playcamp_never_knows_ends_with_a_person(self, register, report, playcamp, row, now):
        report("GP-1", status="refunded")
        missing = answers(404, {"error": "Payment not found", "code": "NOT_FOUND"})
        playcamp.trouble("POST", "/v1/server/payments/GP-1/refund", missing, times=100)
        playcamp.trouble("GET", "/v1/server/payments/GP-1", missing, times=100)
        for _ in range(8):
            register()
            now.shift(3600)

        assert (row("GP-1")["state"], row("GP-1")["refund_state"]) == ("registered", "quarantined")
        assert "does not know the payment" in row("GP-1")["reason"]

    def test_a_limit_told_of_a_refund_leaves_all_of_them_due(self, register, report, playcamp, row):
        report("GP-1", "GP-2", status="refunded")
        playcamp.trouble("POST", "/v1/server/payments/GP-1/refund", too_many())

        with pytest.raises(JobError):
            register()
        between = row("GP-2")["refund_state"]
        register()

        assert (between, row("GP-1")["refund_state"], row("GP-2")["refund_state"]) == ("waiting", "done", "done")

    @pytest.mark.parametrize("is_stored", [False, True])
    @pytest.mark.parametrize("trouble", [broken(), broken(503), reset, garbage])
    def test_a_refund_playcamp_fails_at_waits_by_itself(self, register, report, playcamp, row, trouble, is_stored, now):
        report("GP-1", "GP-2", status="refunded")
        playcamp.trouble("POST", "/v1/server/payments/GP-1/refund", trouble, is_stored=is_stored)

        wait = register()
        between = row("GP-1")["refund_state"], row("GP-1")["refund_tries"], row("GP-2")["refund_state"]
        now.shift(wait)
        register()

        assert (round(wait), between) == (5, ("waiting", 0, "done"))
        assert (row("GP-1")["refund_state"], row("GP-1")["reason"]) == ("done", None)

    def test_a_refund_playcamp_always_fails_at_holds_up_no_other_and_loses_no_try(
        self, register, report, playcamp, row, now
    ):
        report("GP-1")
        register()
        report("GP-1", status="refunded")
        playcamp.trouble("POST", "/v1/server/payments/GP-1/refund", broken(), times=100)
        waits = []
        for number in range(6):
            waits.append(round(register()))
            now.shift(waits[-1])
            report(f"GP-new-{number}", status="refunded")

        assert waits == [5, 600, 600, 600, 600, 600]
        assert (row("GP-1")["refund_state"], row("GP-1")["refund_tries"]) == ("waiting", 0)
        assert "500" in row("GP-1")["reason"]
        assert [row(f"GP-new-{number}")["refund_state"] for number in range(5)] == ["done"] * 5

    def test_three_failing_refunds_with_no_other_answer_pause_everything_and_the_others_come_first_then(
        self, register, report, playcamp, states, db, now
    ):
        ids = [f"GP-{number}" for number in range(5)]
        report(*ids)
        register()
        report(*ids, status="refunded")
        for each in ids[:3]:
            playcamp.trouble("POST", f"/v1/server/payments/{each}/refund", broken(), times=100)

        with pytest.raises(JobError):
            register()
        asked = [path for path in playcamp.routes if path.endswith("/refund")]
        now.shift(5)
        register()

        assert len(asked) == 3
        found = [row["refund_state"] for row in db("SELECT refund_state FROM payments ORDER BY id")]
        assert found == ["waiting"] * 3 + ["done"] * 2


def test_the_whole_round_with_everything_going_wrong(installation, studio, playcamp, db, now):
    """The game's API dies in mid-window, PlayCamp fails, limits, forgets and times out after it has stored."""
    with GamePayments("nested") as game:
        game.set_up(studio)
        game.limit = 7
        for number in range(40):
            game.pay(f"GP-{number}", NOW - 3600 + number, amount=f"{number}.99", currency="USD")
        game.rows[4]["refunded_at"] = NOW - 60.0
        game.trouble(None, reset, None, None, lambda handler: handler.send_error(502), None)
        playcamp.forgotten.add("GP-8")
        playcamp.trouble("POST", BULK, broken(), too_many(), garbage)
        playcamp.trouble("POST", BULK, reset, is_stored=True)
        for _ in range(12):
            installation.new_relay().drain()
            now.shift(60)
        playcamp.forgotten.clear()
        now.shift(600)
        installation.new_relay().drain()

    stored = {row["transaction_id"]: row for row in db("SELECT * FROM payments")}
    assert len(stored) == 40
    assert {row["state"] for row in stored.values()} == {"registered"}
    assert {key: str(each["amount"]) for key, each in playcamp.payments.items()} == {
        key: row["amount"] for key, row in stored.items()
    }
    contents: dict[str, set[str]] = {}
    for request in playcamp.asked(BULK):
        for each in request.json["payments"]:
            contents.setdefault(each["transactionId"], set()).add(json.dumps(each, default=str, sort_keys=True))
    assert {len(each) for each in contents.values()} == {1}
    assert [key for key, each in playcamp.payments.items() if each["status"] == "REFUNDED"] == ["GP-4"]
    (job,) = db("SELECT * FROM schedules WHERE name = 'playcamp.poll'")
    assert (job["failures"], json.loads(job["cursor"])["window"]) == (0, None)
    assert jobs.cursor(installation.database.read(), studio.row["id"], "playcamp.poll") == job["cursor"]
