"""What PlayCamp refuses or leaves open of one payment or refund holds up that one, and is said until it is settled."""

import posixpath
from contextlib import suppress
from urllib.parse import unquote

import pytest

from coinslot.base import clock as coinslot_clock
from coinslot.base.paths import path_segment
from coinslot.operations import troubles
from coinslot.payments import payment_queue as queue
from coinslot.relay.jobs import JobError
from handlers.playcamp.api.client import Client
from handlers.playcamp.payments import month_report as monthly
from handlers.playcamp.payments import sends
from tests.fakes.http import status
from tests.fakes.playcamp import answers
from tests.pages import text_of
from tests.playcamp.test_registration import BULK, poisoned

REFUND = "/v1/server/payments/{}/refund"
KINDS = [301, 302, 307, 308, 401, 403, 405, 410, 414, 415, 451]


def refusing(code):
    """How a firewall or another server in between answers."""
    if code < 400:
        return status(code, Location="http://127.0.0.1:1/")
    return answers(code, b"<html>blocked</html>")


@pytest.fixture
def doctor(app):
    return lambda: app.test_cli_runner().invoke(args=["doctor"]).output


@pytest.fixture
def job(db):
    def find():
        (found,) = db("SELECT * FROM schedules WHERE name = :name", name=sends.JOB)
        return found

    return find


class TestOneRefund:
    @pytest.mark.parametrize("others", [0, 3])
    def test_a_refusal_of_one_refund_postpones_that_one(self, register, report, playcamp, row, now, doctor, others):
        """Also of a PlayCamp that answers in plain words that it knows no payment."""
        playcamp.trouble("GET", "/v1/server/payments/coinslot-test", answers(404, b"not here"), times=100)
        for code in KINDS:
            one, names = f"GP-x{code}", [f"GP-{number}-{code}" for number in range(others)]
            report(one, *names, status="refunded")
            playcamp.trouble("POST", REFUND.format(one), refusing(code), times=100)

            wait = register()
            report(f"GP-new{code}")
            register()

            assert [row(each)["refund_state"] for each in names] == ["done"] * others
            assert (row(one)["refund_state"], row(one)["refund_tries"], round(wait)) == ("waiting", 1, 5), code
            assert str(code) in row(one)["reason"]
            assert row(f"GP-new{code}")["state"] == "registered"
        assert "api_key is refused" not in doctor()

    def test_it_ends_with_a_person_and_may_be_tried_anew(self, register, report, playcamp, row, now, doctor):
        report("GP-x", status="refunded")
        playcamp.trouble("POST", REFUND.format("GP-x"), refusing(403), times=100)
        for _ in range(6):
            register()
            now.shift(3600)

        assert (row("GP-x")["refund_state"], "403" in row("GP-x")["reason"]) == ("quarantined", True)
        assert "The refund of 1 payment was refused too often" in doctor()
        assert len([path for path in playcamp.routes if path.endswith("/refund")]) == 5

    @pytest.mark.parametrize("code", [401, 403])
    def test_a_key_that_is_refused_for_each_refund_is_said_and_costs_none_a_try(
        self, installation, register, report, playcamp, db, doctor, code, job
    ):
        names = [f"GP-{number}" for number in range(5)]
        report(*names)
        register()
        report(*names, status="refunded")
        for each in names:
            playcamp.trouble("POST", REFUND.format(each), answers(code, {"error": "no"}), times=100)
        installation.new_relay().drain()

        assert "playcamp.api_key is refused" in doctor()
        assert job()["failures"] == 1
        assert {(each["refund_state"], each["refund_tries"]) for each in db("SELECT * FROM payments")} == {
            ("waiting", 0)
        }
        assert len([path for path in playcamp.routes if path.endswith("/refund")]) == 3

    def test_a_wrong_key_is_said_of_a_single_refund_too(
        self, installation, studio, register, report, playcamp, row, doctor
    ):
        report("GP-x")
        register()
        report("GP-x", status="refunded")
        studio.secret("playcamp.api_key", "ak_server_other:wrong-secret")
        installation.new_relay().drain()

        assert "playcamp.api_key is refused" in doctor()
        assert (row("GP-x")["refund_state"], row("GP-x")["refund_tries"]) == ("waiting", 0)

    def test_a_look_at_the_payment_that_is_refused_is_a_refusal_of_that_one(self, register, report, playcamp, row):
        report("GP-x", "GP-1", status="refunded")
        playcamp.trouble("POST", REFUND.format("GP-x"), refusing(404), times=100)
        playcamp.trouble("GET", "/v1/server/payments/GP-x", refusing(404), times=100)

        register()

        assert (row("GP-x")["refund_tries"], row("GP-1")["refund_state"]) == (1, "done")

    def test_what_is_refunded_already_is_done_in_whatever_case_it_is_said(self, register, report, playcamp, row):
        report("GP-1", status="refunded")
        playcamp.payments["GP-1"] = {"transactionId": "GP-1", "userId": "100001", "status": "REFUNDED"}
        playcamp.trouble("POST", REFUND.format("GP-1"), answers(409, {"error": "again"}))
        playcamp.trouble("GET", "/v1/server/payments/GP-1", answers(200, {"data": {"status": "refunded"}}))

        register()

        assert row("GP-1")["refund_state"] == "done"


class TestOnePayment:
    @pytest.mark.parametrize("others", [0, 1, 7])
    def test_a_refusal_of_one_payment_postpones_that_one(self, register, report, playcamp, row, states, doctor, others):
        expected = {}
        for code in KINDS:
            one, names = f"GP-x{code}", [f"GP-{number}-{code}" for number in range(others)]
            report(one, *names)
            playcamp.trouble("POST", BULK, poisoned(playcamp, one, refusing(code)), times=1000)

            wait = register()
            report(f"GP-new{code}")
            register()

            playcamp.end_troubles()
            expected |= {one: "waiting"} | dict.fromkeys([*names, f"GP-new{code}"], "registered")
            assert (round(wait), states()) == (5, expected)
            assert (row(one)["tries"], str(code) in row(one)["reason"]) == (1, True)
        assert "api_key is refused" not in doctor()

    def test_one_that_is_not_found_postpones_that_one_where_others_are_taken(self, register, report, playcamp, states):
        report("GP-x", "GP-1")
        playcamp.trouble("POST", BULK, poisoned(playcamp, "GP-x", refusing(404)), times=1000)

        register()

        assert states() == {"GP-x": "waiting", "GP-1": "registered"}

    def test_it_ends_with_a_person(self, register, report, playcamp, row, now):
        report("GP-x")
        playcamp.trouble("POST", BULK, poisoned(playcamp, "GP-x", refusing(451)), times=1000)
        for _ in range(6):
            register()
            now.shift(3600)

        assert (row("GP-x")["state"], "451" in row("GP-x")["reason"]) == ("quarantined", True)
        assert report("GP-x", amount="1") == ["new"]

    @pytest.mark.parametrize("count", [1, 3, 40])
    def test_a_wrong_key_is_said_after_two_calls_and_costs_no_payment_a_try(
        self, installation, studio, report, playcamp, db, doctor, count
    ):
        report(*(f"GP-{number}" for number in range(count)))
        studio.secret("playcamp.api_key", "ak_server_other:wrong-secret")
        installation.new_relay().drain()

        assert "playcamp.api_key is refused" in doctor()
        assert len(playcamp.requests) == 2
        assert {(each["state"], each["tries"]) for each in db("SELECT * FROM payments")} == {("waiting", 0)}

    def test_an_address_at_which_no_call_is_taken_costs_no_payment_a_try(
        self, register, report, playcamp, studio, db, now
    ):
        report(*(f"GP-{number}" for number in range(5)))
        studio.config("playcamp.base_url", f"{playcamp.url}/elsewhere")
        for _ in range(7):
            with pytest.raises(JobError, match="404"):
                register()
            now.shift(3600)

        assert {(each["state"], each["tries"]) for each in db("SELECT * FROM payments")} == {("waiting", 0)}


class TestResults:
    @pytest.mark.parametrize(
        ("results", "reason"),
        [
            ([], "no result"),
            ([{"transactionId": "GP-1"}], "no result"),
            ([{"transactionId": "GP-1", "status": "CREATED"}], "CREATED"),
            ([{"transactionId": "GP-1", "status": "pending"}], "pending"),
        ],
    )
    def test_a_payment_without_a_known_result_backs_off_and_ends_with_a_person_and_its_word(
        self, register, report, playcamp, row, now, doctor, results, reason
    ):
        report("GP-1")
        playcamp.trouble("POST", BULK, answers(200, {"data": {"results": results}}), times=100)
        waits = [round(register())]
        while row("GP-1")["state"] == "waiting":
            now.shift(waits[-1] + 0.01)  # the database counts on by itself, in microseconds
            waits.append(round(register() or 0))

        assert waits == [5, 30, 120, 600, 0]
        assert (row("GP-1")["state"], row("GP-1")["tries"]) == ("quarantined", 5)
        assert reason in row("GP-1")["reason"]
        assert "1 payment was refused too often" in doctor()
        assert report("GP-1", amount="1") == ["conflict"]  # it may have arrived

    @pytest.mark.parametrize("word", ["success", "Success", "skipped", " SKIPPED"])
    def test_words_are_known_in_any_case(self, register, report, playcamp, states, word):
        report("GP-1")
        results = [{"transactionId": "GP-1", "status": word}]
        playcamp.trouble("POST", BULK, answers(200, {"data": {"results": results}}))

        register()

        assert states() == {"GP-1": "registered"}

    def test_a_payment_that_makes_the_answer_unreadable_holds_up_no_other_for_long(
        self, register, report, playcamp, states, now
    ):
        report(*(f"GP-{number}" for number in range(4)))
        playcamp.trouble("POST", BULK, poisoned(playcamp, "GP-2", answers(200, b"<html>")), times=1000)
        for _ in range(sends.BREAKS + 1):
            with suppress(JobError):
                register()
            now.shift(3600)

        assert {each for each, state in states().items() if state != "registered"} == {"GP-2"}


class TestWaiting:
    def is_said(self, installation, browser, doctor):
        found = [each for each in troubles.find(installation.database.read()).found if each.kind == "payments_waiting"]
        is_on_page = "waited for over a day" in text_of(browser.get("/"))
        assert bool(found) == is_on_page == ("have waited for over a day" in doctor())
        return found[0].count if found else 0

    @pytest.mark.parametrize("cause", ["down", "no key", "sandbox", "refund"])
    def test_what_waits_for_over_a_day_is_a_trouble_whatever_the_cause(
        self, register, report, playcamp, studio, installation, browser, doctor, now, cause
    ):
        if cause == "refund":
            report("GP-1", "GP-2")
            register()
        report("GP-1", "GP-2", status="refunded" if cause == "refund" else "paid")
        if cause == "sandbox":
            studio.config("playcamp.environment", "sandbox")
        if cause == "no key":
            installation.database.write_here(
                lambda tx: tx.execute("DELETE FROM secrets WHERE name = 'playcamp.api_key'")
            )
        for path in (BULK, REFUND.format("GP-1"), REFUND.format("GP-2")):
            playcamp.trouble("POST", path, answers(503, b"down"), times=100)
        for _ in range(24):
            with suppress(JobError):
                register()
            now.shift(3600)
        before = self.is_said(installation, browser, doctor)
        now.shift(60)

        assert (before, self.is_said(installation, browser, doctor)) == (0, 2)

    def test_what_is_put_back_waits_anew(self, register, report, playcamp, installation, now, db):
        report("GP-1")
        playcamp.failing["GP-1"] = "no"
        for _ in range(5):
            register()
            now.shift(3600)
        assert db("SELECT waits_since FROM payments") == [{"waits_since": None}]
        now.shift(86400)
        installation.database.write_here(lambda tx: queue.redrive(tx, 1, "GP-1"))

        assert db("SELECT waits_since FROM payments") == [{"waits_since": coinslot_clock.stamp()}]
        assert "payments_waiting" not in {each.kind for each in troubles.find(installation.database.read()).found}


class TestPaths:
    @pytest.mark.parametrize(
        "own_id",
        [*"GP/1 a/../b ../b b/.. a/./b a\\..\\b %2F ..%2F.. a//b a#c?d 주문-1 GPA.1-2 ...".split(), "a b"],
    )
    def test_an_id_is_one_segment_that_no_server_folds(self, register, report, playcamp, row, own_id):
        segment = path_segment(own_id)
        report(own_id, status="refunded")

        register()

        asked = [path for path in playcamp.routes if path.endswith("/refund")]
        assert asked == [f"POST /v1/server/payments/{segment}/refund"]
        assert (unquote(segment), "/" in segment) == (own_id, False)
        assert posixpath.normpath(f"/payments/{segment}/refund") == f"/payments/{segment}/refund"
        assert row(own_id)["refund_state"] == "done"

    @pytest.mark.parametrize("own_id", ["", ".", "..", "\ud800"])
    def test_what_can_be_no_segment_is_refused(self, own_id):
        with pytest.raises(ValueError, match=r"address|surrogate"):
            path_segment(own_id)


def test_the_reading_of_a_month_passes_over_what_playcamp_refuses_of_one_payment(installation, studio, playcamp, now):
    playcamp.payments["GP-1"] = {"transactionId": "GP-1", "status": "COMPLETED", "amount": 1, "currency": "USD"}
    playcamp.trouble("GET", "/v1/server/payments/GP-x", refusing(414))

    found = monthly._look_up(Client(installation.games.by_slug("demo"), installation.outbound), ["GP-x", "..", "GP-1"])

    assert [each.reference for each in found] == ["GP-1"]
