"""``flask playcamp`` and ``flask simulate``: what they print, change and call, and what never shows."""

import base64
import json
import re
import threading
import time

import pytest

from coinslot.base import clock
from coinslot.relay import jobs
from handlers.kit.receive import partners
from handlers.playcamp import simulation
from handlers.playcamp.commands.setup import EVENT_TYPES
from handlers.playcamp.events import conversion
from handlers.playcamp.payments import polling, registration, sends
from tests import databases
from tests.fakes.game_payments import GamePayments
from tests.fakes.http import Receiver, reset, status
from tests.fakes.playcamp import API_KEY, PlayCamp, answers, broken, signed
from tests.owed import Owed
from tests.pages import serving
from tests.playcamp.conftest import NOW  # noon in Seoul
from tests.servers import until as wait_until

PAYMENTS_KEY = "a-payments-key-that-no-log-may-hold"
SHARED_KEY = "a-shared-key-that-no-log-may-hold"
HERE = "http://127.0.0.1:8000/playcamp/demo/webhook"
OLD_HOST = "https://old.example/playcamp/demo/webhook/sponsor.created"
DAYS = ("--from", "2026-01-01", "--to", "2026-01-02")


@pytest.fixture
def playcamp(studio):
    with PlayCamp() as playcamp:
        playcamp.event_types |= {"sponsor.changed"}
        playcamp.set_up(studio)
        yield playcamp


@pytest.fixture
def game(studio):
    with GamePayments("nested", key=PAYMENTS_KEY) as game:
        game.set_up(studio)
        yield game


@pytest.fixture
def report(report, write, studio):
    """Payments as a game pushes them."""

    def store(*transaction_ids):
        report(*transaction_ids)
        write(jobs.at, studio.row["id"], sends.JOB, 0)

    return store


@pytest.fixture
def flask(app, studio, caplog, installation):
    """Run a command; no output of it ever holds a secret."""

    def run(*words, exit_code=0):
        result = app.test_cli_runner().invoke(args=list(words))
        assert result.exit_code == exit_code, result.output
        if exit_code == 1:
            assert isinstance(result.exception, SystemExit), "a traceback instead of words"
        stored = [key.value.decode() for keys in installation.games.by_slug("demo").secrets.values() for key in keys]
        for secret in (API_KEY, *stored):
            assert secret not in result.output + caplog.text
        return result

    return run


@pytest.fixture
def audited(db):
    return lambda: [(row["action"], row["subject"]) for row in db("SELECT * FROM audit WHERE action LIKE 'playcamp.%'")]


class TestBackfill:
    def test_a_range_of_days_is_read_and_registered(self, flask, game, playcamp, db, now, audited):
        inside = (
            1_767_193_200,
            1_767_279_600,
            NOW - 61,
        )  # the first moment of the first day in Seoul, the second day's
        for number, at in enumerate((1_767_193_199, *inside, NOW - 59)):
            game.pay(f"GP-{number}", at)

        result = flask("playcamp", "backfill", "demo", *DAYS)

        assert "3 rows read." in result.output
        assert "0 wait to be registered, 0 are parked, 0 quarantined." in result.output
        assert list(playcamp.payments) == ["GP-1", "GP-2", "GP-3"]
        assert {row["state"] for row in db("SELECT state FROM payments")} == {"registered"}
        assert audited() == [("playcamp.backfill", "2026-01-01 to 2026-01-02")]

    def test_what_is_registered_already_is_not_sent_again(self, flask, game, playcamp, now):
        game.pay("GP-1", NOW - 600)
        flask("playcamp", "backfill", "demo", *DAYS)

        flask("playcamp", "backfill", "demo", *DAYS)

        assert len(playcamp.asked("/v1/server/payments/bulk")) == 1

    def test_an_interrupted_one_goes_on_where_it_was(self, flask, game, playcamp, db, now):
        game.limit = 1
        for number in range(4):
            game.pay(f"GP-{number}", NOW - 600 + number)
        game.trouble(None, None, None, reset)
        broken_off = flask("playcamp", "backfill", "demo", *DAYS, exit_code=1)
        first = len(game.requests)
        now.shift(3600)

        result = flask("playcamp", "backfill", "demo", *DAYS)

        assert "the same command goes on from there" in broken_off.output
        assert "2 rows read." in result.output
        # The page it broke off at, the rest of that range, and what has passed of the day since.
        assert [each.query["after"] for each in game.requests[first:]] == ["2", "3", ""]
        assert len(playcamp.payments) == 4

    def test_the_polls_go_on_where_they_were(self, flask, installation, game, playcamp, now):
        opened = installation.games.by_slug("demo")
        polling.run(installation, opened)
        before = polling.watermark(installation, opened)

        flask("playcamp", "backfill", "demo", *DAYS)

        assert polling.watermark(installation, opened) == before

    def test_without_an_api_key_it_stores_and_says_so(self, flask, game, db, now):
        game.pay("GP-1", NOW - 600)

        result = flask("playcamp", "backfill", "demo", *DAYS)

        assert "nothing is registered before it is" in result.output
        assert [row["state"] for row in db("SELECT state FROM payments")] == ["waiting"]

    def test_trouble_at_playcamp_is_told_and_leaves_the_rest_to_the_relay(self, flask, game, playcamp, db, now):
        game.pay("GP-1", NOW - 600)
        playcamp.trouble("POST", "/v1/server/payments/bulk", broken())

        result = flask("playcamp", "backfill", "demo", *DAYS, exit_code=1)

        assert "PlayCamp answered 500" in result.output
        (job,) = db("SELECT * FROM schedules WHERE name = :name", name=sends.JOB)
        assert (job["failures"], job["due_at"] is None, job["leased_until"]) == (1, False, None)

    def test_what_a_relay_has_in_hand_is_left_to_it(self, flask, installation, game, playcamp, studio, now):
        game.pay("GP-1", NOW - 600)
        taken = installation.database.write_here(lambda tx: jobs.take(tx, "me", studio.row["id"], sends.JOB))

        result = flask("playcamp", "backfill", "demo", *DAYS)

        assert "The server is registering them already." in result.output
        assert (taken is not None, playcamp.payments) == (True, {})

    def test_one_at_a_time(self, flask, installation, game, studio, now):
        installation.database.write_here(lambda tx: jobs.take(tx, "me", studio.row["id"], polling.BACKFILL))

        assert "another backfill" in flask("playcamp", "backfill", "demo", *DAYS, exit_code=1).output

    @pytest.mark.parametrize(
        ("since", "until"),
        [("2026-01-02", "2026-01-01"), ("today", "2026-01-01"), ("2026-01-01", "2026-02-31"), ("1", "9" * 30)],
    )
    def test_what_is_no_range_is_refused(self, flask, game, since, until, now):
        flask("playcamp", "backfill", "demo", "--from", since, "--to", until, exit_code=2)

        assert game.requests == []

    def test_a_game_without_polling_is_refused(self, flask, now):
        assert "playcamp.payments" in flask("playcamp", "backfill", "demo", *DAYS, exit_code=1).output


class TestVerify:
    def test_the_three_calls_are_made_as_tests(self, flask, playcamp, studio):
        output = flask("playcamp", "verify", "demo").output

        assert playcamp.routes == [f"POST /v1/server/{each}" for each in ("sponsors", "coupons/validate", "payments")]
        assert {request.json["isTest"] for request in playcamp.requests} == {True}
        assert (playcamp.payments, playcamp.usages) == ({}, [])
        assert f"PlayCamp live, {playcamp.url}, as tests:" in output
        assert re.search(r"POST /sponsors +ok +supports TEST1", output)
        assert re.search(r"POST /coupons/validate +ok +not valid: COUPON_NOT_FOUND", output)
        assert re.search(r"POST /payments +ok +SUCCESS", output)

        studio.config("playcamp.environment", "sandbox")
        assert "on live before it publishes" in flask("playcamp", "verify", "demo").output

    def test_a_refused_call_is_told_and_the_others_are_made(self, flask, playcamp):
        result = flask("playcamp", "verify", "demo", "--creator", "NOONE", exit_code=1)

        assert re.search(r"POST /sponsors +REFUSED +PlayCamp answered 404", result.output)
        assert len(playcamp.requests) == 3

    def test_without_a_key_nothing_is_called(self, flask):
        assert "playcamp.api_key is not set" in flask("playcamp", "verify", "demo", exit_code=1).output
        assert "no game nope" in flask("playcamp", "verify", "nope", exit_code=1).output


@pytest.mark.parametrize("value", ["no-colon-in-it", ":only-the-secret", "only-the-id:"])
def test_an_api_key_of_another_form_is_set_and_told_of(app, studio, installation, value):
    def run(word, value):
        return app.test_cli_runner().invoke(args=["secret", word, "demo", "playcamp.api_key"], input=value)

    output = run("set", value)
    assert output.exit_code == 0
    assert "is set.\nWARNING: playcamp.api_key: it is not of the form keyId:secret" in output.output
    assert installation.games.by_slug("demo").keys("playcamp.api_key")[0].value.decode() == value
    assert "WARNING" not in run("rotate", API_KEY).output
    assert "WARNING: playcamp.api_key" in run("rotate", value).output
    assert "WARNING" not in run("set", API_KEY).output


class TestWebhooks:
    @pytest.fixture
    def register(self, flask, playcamp):
        return lambda *options, exit_code=0: flask("playcamp", "webhooks", "demo", *options, exit_code=exit_code).output

    @pytest.fixture
    def ours(self, playcamp):
        """The registrations of an event type for our address."""

        def find(event_type="sponsor.created"):
            url = f"{HERE}/{event_type}"
            return [hook for hook in playcamp.hooks.values() if (hook["eventType"], hook["url"]) == (event_type, url)]

        return find

    @pytest.fixture
    def secret(self, installation):
        """Our secret of an event type; None where there is none."""

        def find(event_type="sponsor.created"):
            keys = installation.games.by_slug("demo").keys(f"playcamp.webhook_secret.{event_type}")
            return keys[0].value.decode() if keys else None

        return find

    @pytest.fixture
    def deliver(self, playcamp, client):
        """Have PlayCamp announce a boost; returns the statuses of its calls."""

        def post(url, headers, body):
            answer = client.post(url.removeprefix("http://127.0.0.1:8000"), data=body, headers=dict(headers))
            return answer.status_code, answer.data

        playcamp.post = post
        event = {"event": "sponsor.created", "timestamp": "2026-01-02T03:04:05Z"}
        event["data"] = {"userId": "100001", "campaignId": "camp_1", "creatorKey": "AAA11"}
        return lambda hook_id=None: [each.status for each in playcamp.deliver([event], webhook_id=hook_id)]

    def test_every_event_type_is_registered_and_its_secret_kept(self, register, playcamp, ours, secret, deliver, db):
        output = register()

        assert {hook["eventType"] for hook in playcamp.hooks.values()} == set(EVENT_TYPES) - {"payment.refunded"}
        for event_type in set(EVENT_TYPES) - {"payment.refunded"}:
            assert [hook["secret"] for hook in ours(event_type)] == [secret(event_type)]
        assert re.search(r"payment.refunded +not offered +PlayCamp answered 400", output)
        assert deliver() == [200]
        assert [row["type"] for row in db("SELECT type FROM events")] == ["sponsor.created"]

        before, keys = dict(playcamp.hooks), {each: secret(each) for each in EVENT_TYPES}
        again = register()
        assert (playcamp.hooks, {each: secret(each) for each in EVENT_TYPES}) == (before, keys)
        assert len(re.findall(r" kept ", again)) == len(before)

    def test_an_address_that_is_not_https_is_not_registered_elsewhere_than_here(self, register, playcamp, studio):
        studio.config("playcamp.base_url", "https://playcamp.example")

        assert "PlayCamp reaches https addresses on the internet only" in register(exit_code=1)
        assert playcamp.routes == []

    def test_registrations_at_another_host_are_listed_and_moved_when_asked_for(self, register, playcamp, ours):
        old = playcamp.hook("sponsor.created", OLD_HOST)

        listed = register()
        assert re.search(r"sponsor.created +at another host +https://old.example", listed)
        assert "--replace moves them here" in listed
        assert (ours(), old in playcamp.hooks.values()) == ([], True)

        playcamp.trouble("DELETE", f"/v1/server/webhooks/{old['id']}", broken())
        undeleted = register("--replace", exit_code=1)
        assert re.search(rf"sponsor.created +registered .*\n +NOT DELETED +{old['id']}: ", undeleted)

        assert re.search(r"sponsor.created +kept .*\n +and at +https://old.example", register())
        assert re.search(r"sponsor.created +moved here", register("--replace"))
        assert (len(ours()), old in playcamp.hooks.values()) == (1, False)

    def test_a_lost_secret_has_the_registration_made_anew(self, register, playcamp, ours, secret):
        old = [playcamp.hook("sponsor.created", f"{HERE}/sponsor.created") for _ in range(2)]
        playcamp.trouble("POST", "/v1/server/webhooks", broken())

        failed = register(exit_code=1)

        assert re.search(r"sponsor.created +FAILED .*\n +left alone +2 older registration", failed)
        assert (ours(), secret()) == (old, None)

        assert re.search(r"sponsor.created +registered again", register())
        (made,) = ours()
        assert (secret(), made["id"] in [each["id"] for each in old]) == (made["secret"], False)

    def test_an_older_one_that_cannot_be_deleted_is_told_of_and_the_new_one_is_good(
        self, register, playcamp, ours, deliver, db
    ):
        old = playcamp.hook("sponsor.created", f"{HERE}/sponsor.created")
        playcamp.trouble("DELETE", f"/v1/server/webhooks/{old['id']}", broken())

        output = register(exit_code=1)

        assert re.search(rf"sponsor.created +registered again .*\n +NOT DELETED +{old['id']}: ", output)
        assert "1 older registration(s) could not be deleted and are still there" in output
        (made,) = (hook for hook in ours() if hook is not old)
        assert [deliver(each["id"]) for each in (old, made, made)] == [[401], [200], [200]]
        assert deliver() == [401]  # one call for both, signed by the older
        assert len(db("SELECT type FROM events")) == 1

        register()
        assert len(ours()) == 1

    def test_one_that_was_switched_off_is_switched_on_and_those_of_others_are_left_alone(
        self, register, playcamp, ours
    ):
        playcamp.hook("sponsor.created", "https://elsewhere.example/hook")
        register()
        ours()[0]["isActive"] = False

        output = register()

        assert ours()[0]["isActive"] is True
        assert re.search(r"sponsor.created +switched on", output)
        assert "1 more registration(s) of this project send elsewhere" in output

    def test_a_failure_in_the_middle_leaves_the_rest_to_be_done_again(self, register, playcamp, secret):
        playcamp.trouble("POST", "/v1/server/webhooks", broken(), is_stored=True)
        assert re.search(r"sponsor.created +FAILED", register(exit_code=1))

        register()

        assert [hook["secret"] for hook in playcamp.hooks.values()] == [
            secret(hook["eventType"]) for hook in playcamp.hooks.values()
        ]
        assert len(playcamp.hooks) == len(EVENT_TYPES) - 1

    def test_without_a_destination_in_the_games_format_it_says_that_nothing_is_sent(
        self, register, installation, studio
    ):
        words = "Nothing is sent to the game in its own format before `flask destination add demo NAME URL"
        owed = Owed(installation, studio)

        assert words in register()
        owed.destination("other", events="sponsor.*")
        assert words in register()
        owed.destination("boosts", events="sponsor.*", format="playcamp")
        assert words not in register()

    def test_a_refusal_is_a_failure_unless_the_type_is_neither_documented_nor_registered(self, register, playcamp):
        playcamp.event_types.discard("coupon.redeemed")
        playcamp.hook("payment.refunded", f"{HERE}/payment.refunded")

        output = register(exit_code=1)

        assert re.search(r"coupon.redeemed +FAILED +PlayCamp answered 400", output)
        assert re.search(r"payment.refunded +FAILED", output)


class TestLists:
    @pytest.fixture
    def stored(self, game, installation, studio, now):
        game.pay("GP-1", NOW - 600)
        game.pay("GP-2", NOW - 500, market="corner shop")
        game.pay("GP-3", NOW - 400, refunded_at=NOW - 300.0)
        polling.run(installation, installation.games.by_slug("demo"))

    def test_payments_are_listed_by_state_and_as_json(self, flask, stored):
        everything = flask("playcamp", "payments", "demo").output
        waiting = flask("playcamp", "payments", "demo", "--state", "waiting").output
        lines = flask("playcamp", "payments", "demo", "--json", "--limit", "2").output.splitlines()

        assert re.search(r"GP-1 +100001 +9900 KRW +google +2026-01-02T02:54:05 +waiting", everything)
        assert "GP-2" in everything
        assert ("GP-2" in waiting, "GP-3" in waiting) == (False, True)
        assert "There are none." in flask("playcamp", "payments", "demo", "--state", "quarantined").output
        assert [json.loads(line)["transaction_id"] for line in lines] == ["GP-3", "GP-2"]

    def test_what_needs_a_person_is_shown_with_its_reason_and_may_be_put_back(
        self, flask, stored, playcamp, installation, now, audited
    ):
        playcamp.failing["GP-1"] = "no such player"
        refusal = answers(400, {"error": "The month is closed", "code": "BAD_REQUEST"})
        playcamp.trouble("POST", "/v1/server/payments/GP-3/refund", refusal, times=100)
        for _ in range(6):
            registration.run(installation, installation.games.by_slug("demo"))
            now.shift(3600)

        parked = flask("playcamp", "parked", "demo").output
        playcamp.failing.clear()
        flask("playcamp", "redrive", "demo", "GP-1")
        installation.new_relay().drain()

        assert re.search(r"GP-2 +parked .*market", parked)
        assert re.search(r"GP-1 +quarantined .*no such player", parked)
        assert re.search(r"GP-3 .*The month is closed", parked)
        assert "GP-1" in playcamp.payments
        assert audited() == [("playcamp.redrive", "GP-1")]
        assert "not quarantined: GP-1" in flask("playcamp", "redrive", "demo", "GP-1", exit_code=1).output

    def test_where_nothing_waits_it_says_so(self, flask):
        assert flask("playcamp", "parked", "demo").output == "Nothing needs a person.\n"

    def test_coupons_that_gave_nothing_and_events_nobody_could_read_are_told(self, flask, client, studio, now):
        secret = "whsec_of_these_events"
        studio.secret("playcamp.webhook_secret", secret)
        redeemed = {"event": "coupon.redeemed", "timestamp": "2026-01-02T03:00:00Z"}
        reward = [{"itemId": "gems", "itemQuantity": 3}]
        events = [
            {"event": "sponsor.created", "timestamp": "soon", "data": {"userId": "7", "creatorKey": "AAA11"}},
            {**redeemed, "data": {"userId": "bob", "couponCode": "C-SECRET"}},
            {**redeemed, "data": {"userId": "al", "usageId": 5, "reward": reward}},
            {**redeemed, "data": {"userId": "al", "usageId": 5, "reward": reward * 2}},
        ]
        body = json.dumps({"events": events}).encode()
        headers = {"X-Webhook-Signature": signed(body, secret)}
        assert client.post("/playcamp/demo/webhook", data=body, headers=headers).status_code == 200

        parked, doctor = flask("playcamp", "parked", "demo").output, flask("doctor", exit_code=databases.WELL).output

        assert re.search(r"could not be granted:\n.*\n.* bob ", parked)
        assert re.search(r"could not be read:\n.*\n.* 7 .*timestamp: not a time", parked)
        assert re.search(r"reported again with other content; the first grant counts:\n.*\n +5 +al ", parked)
        assert "C-SECRET" not in parked
        assert (
            "1 redeemed coupon(s) not granted, 1 event(s) not read, 1 coupon(s) reported with other content" in doctor
        )


class TestDoctor:
    """Keys that the other side refuses are told as what they are: wrong, and the owner's to set."""

    @pytest.mark.parametrize("code", [401, 403])
    def test_a_refused_api_key_is_wrong_until_another_is_taken(
        self, flask, installation, studio, playcamp, report, now, code
    ):
        for number in range(3):
            report(f"GP-{number}")
        playcamp.trouble("POST", "/v1/server/payments/bulk", broken(code), times=100)
        installation.new_relay().drain()

        output = flask("doctor", exit_code=1).output

        assert re.search(rf"^wrong +game demo: PlayCamp: playcamp.api_key is refused: PlayCamp .* {code}", output, re.M)
        assert "`flask secret set demo playcamp.api_key` has the SERVER key (keyId:secret) of PlayCamp's live" in output

        playcamp.end_troubles()
        studio.secret("playcamp.api_key", f"{API_KEY}")
        installation.new_relay().drain()
        now.shift(3601)
        installation.new_relay().drain()

        assert "playcamp.api_key is refused" not in flask("doctor", exit_code=databases.WELL).output

    @pytest.mark.parametrize("code", [401, 403])
    def test_a_payment_api_that_believes_no_call_is_wrong_too(self, flask, installation, game, now, code):
        game.trouble(status(code))
        installation.new_relay().drain()

        output = flask("doctor", exit_code=1).output

        assert f"playcamp.payments_key is refused: the game's payment API answered {code}" in output
        assert "`flask secret set demo playcamp.payments_key` has the key it wants" in output

    def test_other_trouble_is_a_warning_as_ever(self, flask, installation, playcamp, report, now):
        report("GP-1")
        playcamp.trouble("POST", "/v1/server/payments/bulk", broken(500))
        installation.new_relay().drain()

        output = flask("doctor", exit_code=databases.WELL).output

        assert re.search(r"^look +game demo: The job “Register payments with PlayCamp” has failed once", output, re.M)


class TestTry:
    def test_a_window_is_read_and_the_first_payment_shown_and_nothing_stored(self, flask, game, installation, db, now):
        game.limit = 2
        for number in range(5):
            game.pay(f"GP-{number}", NOW - 600 + number, amount="12.34", currency="usd")
        game.rows[0]["market"] = "nowhere"

        output = flask("playcamp", "try", "demo").output

        assert "from 2026-01-01T03:03:05Z to 2026-01-02T03:03:05Z: 5 row(s) on 3 page(s). Nothing was stored." in output
        assert re.search(r"^  transaction_id +GP-1$", output, re.M)
        assert re.search(r"^  amount +12.34$", output, re.M)
        assert re.search(r"^  platform +Android$", output, re.M)
        assert "1 row(s) cannot be sent:" in output
        assert re.search(r"^  1 +market is missing|^  1 +it has neither a market", output, re.M)
        assert db("SELECT * FROM payments") == db("SELECT * FROM schedules") == []
        assert polling.watermark(installation, installation.games.by_slug("demo")) is None

    def test_another_window_may_be_asked_for_and_is_as_long_as_one_of_a_poll(self, flask, game, studio, now):
        studio.config("playcamp.payments.span_seconds", "3600")
        game.pay("GP-1", 1_767_193_200)  # the first moment of 2026 in Seoul

        output = flask("playcamp", "try", "demo", "--from", "2026-01-01").output

        assert "from 2025-12-31T15:00:00Z to 2025-12-31T16:00:00Z: 1 row(s)" in output

    def test_many_pages_are_not_all_read(self, flask, game, now):
        game.limit = 1
        for number in range(10):
            game.pay(f"GP-{number}", NOW - 600 + number)

        output = flask("playcamp", "try", "demo").output

        assert "3 row(s) on 3 page(s), and there are more" in output
        assert len(game.requests) == 3

    def test_pages_that_lead_in_a_circle_and_times_to_come_are_told(self, flask, game, studio, now):
        assert (
            "begins later than payments are asked for yet"
            in flask("playcamp", "try", "demo", "--from", "2027-01-01", exit_code=1).output
        )
        studio.config("playcamp.payments.next", "`7`")
        game.pay("GP-1", NOW - 600)

        output = flask("playcamp", "try", "demo", exit_code=1).output

        assert "leads in a circle" in output
        assert re.search(r"^  transaction_id +GP-1$", output, re.M)

    def test_an_empty_window_is_nothing_wrong(self, flask, game, now):
        assert "0 row(s) on 1 page(s). Nothing" in flask("playcamp", "try", "demo").output

    def test_rows_none_of_which_can_be_sent_are_wrong(self, flask, game, studio, now):
        studio.config("playcamp.payments.map", "{transactionId: nothing}")
        game.pay("GP-1", NOW - 600)

        output = flask("playcamp", "try", "demo", exit_code=1).output

        assert "no row can be sent: transactionId is missing" in output

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("playcamp.payments.rows", "nothing", "playcamp.payments.rows found no list"),
            ("playcamp.payments.next", "`7`", "answered"),
            ("playcamp.payments.map", "", "needs .url, .rows and .map"),
            ("playcamp.payments.url", "http://127.0.0.1:1/p?f={from}", "the game's payment API"),
        ],
    )
    def test_what_cannot_work_is_told(self, flask, game, studio, now, key, value, words):
        studio.config(key, value)
        game.pay("GP-1", NOW - 600)
        if "next" in key:
            game.trouble(None, status(500))

        assert words in flask("playcamp", "try", "demo", exit_code=1).output

    def test_it_is_on_the_partners_card_for_other_pages(self, app, installation, game, now):
        game.pay("GP-1", NOW - 600)
        with app.app_context():
            (try_window,) = (each.try_window for each in partners() if each.try_window is not None)

            found = try_window(installation, installation.games.by_slug("demo"), 1)

        assert (found.count, found.first.transaction_id, found.wrong) == (1, "GP-1", None)
        assert clock.seconds(found.end) - clock.seconds(found.start) == 86400


class TestSimulate:
    @pytest.fixture
    def play(self, app, flask):
        with serving(app) as server:
            url = f"http://127.0.0.1:{server.server_port}"
            yield lambda url=url, exit_code=0: flask("simulate", "demo", "--url", url, exit_code=exit_code).output

    @pytest.fixture(autouse=True)
    def alone(self, studio, installation):
        """PlayCamp without the other partners."""
        installation.database.write_here(lambda tx: tx.execute("DELETE FROM secrets"))
        studio.secret("playcamp.shared_key", SHARED_KEY)
        studio.secret("playcamp.webhook_secret", "whsec_that_no_log_may_hold")
        studio.secret("playcamp.webhook_secret.sponsor.created", "whsec_of_a_hook_of_its_own")
        studio.secret("playcamp.payments_key", PAYMENTS_KEY)

    def test_the_whole_round_is_as_expected_and_counts_nothing(self, play, playcamp, db):
        for _ in range(2):
            output = play()

            assert "SURPRISE" not in output
            assert re.search(r"^PlayCamp +entry +302, to the WebView +302 +ok$", output, re.M)
            assert re.search(r"^PlayCamp +webhook sponsor.created +200 +200 .* ok$", output, re.M)
            assert '{"received":true}' in output
            assert re.search(r"^PlayCamp +payment query +200, payments +200 .* ok$", output, re.M)
            assert re.search(r"payments in bulk, as a test +registered +SUCCESS +ok", output)
            assert re.search(
                r"a coupon, validated as a test +an answer +(valid|not valid: COUPON_NOT_FOUND) +ok", output
            )
        assert {row["is_test"] for row in db("SELECT is_test FROM events")} == {1}
        assert {row["player_id"] for row in db("SELECT player_id FROM events")} <= {"coinslot-test", None}
        assert {token.body.get("isTest") for token in playcamp.tokens.values()} == {True}
        tests = [*playcamp.asked("/v1/server/payments/bulk"), *playcamp.asked("/v1/server/coupons/validate")]
        assert [each.json["isTest"] for each in tests] == [True] * 4
        assert tests[0].json["payments"][0]["userId"] == "coinslot-test"
        assert (playcamp.payments, playcamp.usages, db("SELECT * FROM payments")) == ({}, [], [])
        (grant,) = db("SELECT * FROM grants WHERE kind = 'coupon'")
        assert (grant["player_id"], grant["is_test"]) == ("coinslot-test", 1)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("playcamp.entry_once", "on"),
            ("playcamp.signature", "pipe-hmac-sha256"),
            ("playcamp.signature", "{signature}.{time}.{nonce} = hmac-sha512-base64url({user}.{time}.{nonce})"),
            ("playcamp.campaigns", "camp_1,camp_2"),
            ("playcamp.param.user", "player"),
        ],
    )
    def test_it_follows_the_configuration(self, play, playcamp, studio, key, value):
        studio.config(key, value)

        assert "SURPRISE" not in play()

    def test_live_playcamp_hears_nothing_of_it(self, play, studio):
        studio.secret("playcamp.api_key", API_KEY)

        output = play()

        assert [words in output for words in ("to the WebView", "in bulk", "validated")] == [False] * 3
        assert "entry: signed with another key" in output

    def test_only_what_has_a_secret_is_played(self, installation, studio):
        installation.database.write_here(lambda tx: tx.execute("DELETE FROM secrets"))
        studio.config("playcamp.tabs", "sponsor")  # so that the change is noticed
        assert list(simulation.simulate(installation.games.by_slug("demo"))) == []

    @pytest.fixture
    def relay(self, installation):
        relay = installation.new_relay()
        thread = threading.Thread(target=relay.run)
        thread.start()
        yield relay
        relay.stop()
        thread.join(30)

    @pytest.fixture
    def boosts(self, installation, studio):
        """The game's own receiver of converted events, in the sandbox."""
        studio.config("playcamp.environment", "sandbox")
        with Receiver(status(200)) as receiver:
            Owed(installation, studio).destination("boosts", receiver.url, events="sponsor.*", format="playcamp")
            yield receiver

    def test_a_webhook_is_followed_until_it_is_parked_or_the_game_has_it_in_its_own_format(
        self, play, playcamp, studio, boosts, relay, db
    ):
        for creator in ("TEST1", "TEST2"):
            began = time.monotonic()
            parked = rf"the webhook in the game's format .* parked: creator {creator} has no creator_usn.* ok$"
            assert re.search(parked, play(), re.M)
            assert time.monotonic() - began < simulation.CONVERSION_SECONDS
            studio.config(f"playcamp.creator.{creator}", creator[-1])

        for _ in range(2):
            output = play()
            assert re.search(r"the webhook in the game's format .* converted, delivered to boosts +ok", output)

        sent = [each for request in boosts.requests for each in json.loads(request.body)["events"]]
        assert {each["usn"] for each in sent} == {"coinslot-test"}
        assert sent[0]["creator_usn"] == 1

        # One of before that met the error would keep the next ones of the same player waiting.
        is_all_there = """SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM conversions WHERE state <> 'converted')
                          AND NOT EXISTS (SELECT 1 FROM deliveries WHERE state <> 'delivered')"""
        wait_until(lambda: db(is_all_there), "the game has all of before", 30)
        boosts.script = [status(500)]
        assert "SURPRISE: must be taken by the game's endpoint" in play(exit_code=1)

    def test_what_nobody_converts_is_a_surprise_behind_a_parked_one_too(
        self, play, playcamp, boosts, installation, monkeypatch
    ):
        monkeypatch.setattr(simulation, "CONVERSION_SECONDS", 0.2)
        assert "is a relay running?" in play(exit_code=1)
        conversion.run(installation, installation.games.by_slug("demo"))

        assert "is a relay running?" in play(exit_code=1)

    def test_another_server_than_that_of_this_database_is_told_of(self, play, playcamp, boosts):
        with Receiver(status(200, b'{"received":true}')) as other:
            assert "is --url its server?" in play(f"http://127.0.0.1:{other.port}", exit_code=1)

    def test_another_playcamp_than_the_keys_is_a_surprise(self, play, playcamp, studio):
        studio.secret("playcamp.api_key", "ak_server_other:wrong-secret")

        output = play(exit_code=1)

        assert re.search(r"payments in bulk.*401.*SURPRISE: must be registered", output)
        assert re.search(r"a coupon, validated.*401.*SURPRISE: must be answered", output)

    def test_one_window_of_the_games_payments_is_read_and_not_stored(self, play, playcamp, game, installation, db):
        game.pay("GP-1", time.time() - 600)

        assert re.search(r"the game's own payments, one window +rows .* 1 row\(s\) +ok", play())
        assert db("SELECT * FROM payments") == []
        assert polling.watermark(installation, installation.games.by_slug("demo")) is None

        game.trouble(status(500))
        assert "SURPRISE: the game's payment API answered 500" in play(exit_code=1)

    def test_a_wrong_key_is_a_surprise(self, play, playcamp, monkeypatch):
        monkeypatch.setattr(simulation, "_signed", lambda body, key: "0" * 64)

        assert "were a surprise" in play(exit_code=1)


def test_after_a_whole_round_no_secret_is_on_the_disk_in_clear(
    flask, game, playcamp, installation, studio, report, now
):
    """Entries, webhooks, polls, registration, with every kind of secret that PlayCamp has here."""
    own = {
        "playcamp.api_key": API_KEY,
        "playcamp.payments_key": PAYMENTS_KEY,
        "playcamp.shared_key": SHARED_KEY,
        "playcamp.webhook_secret": "whsec_that_no_disk_may_hold",
        "playcamp.webhook_secret.sponsor.created": "whsec_of_a_hook_that_no_disk_may_hold",
    }
    for name, value in own.items():
        studio.secret(name, value)
    studio.rotate("playcamp.shared_key", "the-next-shared-key-of-them")
    game.pay("GP-1", NOW - 600)
    report("GP-2")
    installation.new_relay().drain()
    flask("playcamp", "webhooks", "demo")

    assert set(playcamp.payments) == {"GP-1", "GP-2"}
    on_disk = b"".join(path.read_bytes() for path in installation.database.home.iterdir() if path.name != "master.key")
    dumped = "\n".join(databases.content(installation))
    made = [hook["secret"] for hook in playcamp.hooks.values()]
    assert len(made) > 3
    for value in [*own.values(), "the-next-shared-key-of-them", API_KEY.partition(":")[2], *made]:
        for spelled in (value, value.encode().hex(), base64.b64encode(value.encode()).decode().rstrip("=")):
            assert spelled.encode() not in on_disk
            assert spelled not in dumped


def test_a_local_time_reaches_playcamp_as_that_moment_in_utc(installation, game, playcamp, now):
    """Polled as Seoul's ``2026/01/02 11:54:05``; a zone misread could be another day, and another month's."""
    game.pay("GP-1", NOW - 600)

    installation.new_relay().drain()

    (bulk,) = playcamp.asked("/v1/server/payments/bulk")
    assert bulk.json["payments"][0]["purchasedAt"] == "2026-01-02T02:54:05.000Z"


def test_a_game_server_that_answers_in_error_is_told_of(flask, game, playcamp, now):
    game.trouble(status(503, b"a page with a secret-token in it"))

    output = flask("playcamp", "backfill", "demo", *DAYS, exit_code=1).output

    assert ("answered 503" in output, "secret-token" in output) == (True, False)
