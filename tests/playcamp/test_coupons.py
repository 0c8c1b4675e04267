"""Coupons, through the game API and by webhook: validated, redeemed, and granted once whoever tells of it first."""

import json
import uuid

import pytest

from coinslot.access import keyring
from coinslot.ledger import packing
from handlers.playcamp.events import coupons
from tests import databases
from tests.fakes.http import reset, silence
from tests.fakes.playcamp import Coupon, PlayCamp, answers, broken, garbage, signed
from tests.owed import Owed

SECRET = "whsec_demo_0001"
REDEEM = "/v1/server/coupons/redeem"
GEMS = [{"itemId": "gems", "itemQuantity": 100, "itemName": {"ko": "보석", "en": "Gems"}}]
GIFT = {
    "items": [{"sku": "gems", "quantity": 100}],
    "package_name": {"ko": "환영 선물", "en": "Welcome gift"},
    "creator_key": "AAA11",
    "campaign_id": "camp_1",
}


@pytest.fixture
def playcamp(studio):
    with PlayCamp() as fake:
        fake.set_up(studio)
        studio.secret("playcamp.webhook_secret", SECRET)
        yield fake


@pytest.fixture
def call(client, studio):
    headers = {"Authorization": f"Bearer {studio.token}"}
    return lambda what, body: client.post(f"/game/v1/playcamp/coupons/{what}", data=json.dumps(body), headers=headers)


@pytest.fixture
def ask(call, playcamp):
    def ask(what, player_id="100001", coupon_code="WELCOME", **rest):
        return call(what, {"player_id": player_id, "coupon_code": coupon_code} | rest)

    return ask


@pytest.fixture
def granted(client, studio):
    """What a player has in all, tests apart."""
    headers = {"Authorization": f"Bearer {studio.token}"}
    return lambda: client.get("/game/v1/players/100001/granted", headers=headers).json["granted"]


@pytest.fixture
def announce(client, playcamp):
    """Have PlayCamp send what calls have caused, or these events."""

    def send(*events):
        made = list(events) or playcamp.events
        body = json.dumps({"events": made}).encode()
        headers = {"X-Webhook-Signature": signed(body, SECRET)}
        answer = client.post("/playcamp/demo/webhook", data=body, headers=headers)
        assert (answer.status_code, answer.json) == (200, {"received": True}), answer.text

    return send


def redeemed(usage_id=5678, user="100001", reward=GEMS, at="2026-01-01T00:00:00Z", **told):
    data = {"couponCode": "WELCOME", "userId": user, "usageId": usage_id, "reward": reward}
    data = {name: value for name, value in data.items() if value is not ...}
    return {"event": "coupon.redeemed", "timestamp": at, "data": data, **told}


# None of these says all of who gets what, and by which usage.
ODD = [
    *(redeemed(usage_id=value) for value in (..., None, True, -1, 1.5, 10**18, "u-1")),
    *(redeemed(user=value) for value in (..., "\ud800")),
    *(redeemed(reward=value) for value in (..., None, [], {"itemId": "gems", "itemQuantity": 1}, [*GEMS, 7])),
    redeemed(reward=[*GEMS, {"itemId": "coins"}]),
    *(redeemed(reward=[*GEMS, {"itemId": "coins", "itemQuantity": value}]) for value in (0, -1, 1.5, 10**40)),
    redeemed(reward=[*GEMS, {"itemId": "gems", "itemQuantity": 10**40 - 1}]),
    *(redeemed(reward=[*GEMS, {"itemId": value, "itemQuantity": 1}]) for value in ("\0", None)),
    {"event": "coupon.redeemed", "timestamp": "x", "data": None},
]


def lines(grant):
    return {item["sku"]: item["quantity"] for item in grant["items"]}


class TestValidating:
    def test_a_good_coupon_is_valid_and_nothing_is_used_up(self, ask, playcamp, feed):
        answer = ask("validate")

        assert answer.status_code == 200
        assert answer.json == {"valid": True, "error_code": None, "message": None, **GIFT}
        assert playcamp.usages == []
        assert feed() == []

    @pytest.mark.parametrize("spelling", ["valid", "status"])
    def test_a_coupon_that_is_not_valid_is_an_answer_that_says_why(self, ask, playcamp, spelling):
        playcamp.invalid_coupon = spelling
        for coupon_code, error_code in {
            "NONE": "COUPON_NOT_FOUND",
            "INACTIVE": "COUPON_INACTIVE",
            "TOMORROW": "COUPON_NOT_YET_VALID",
            "YESTERDAY": "COUPON_EXPIRED",
            "USEDCODE": "USER_CODE_LIMIT",
            "USEDPACKAGE": "USER_PACKAGE_LIMIT",
            "USEDUP": "TOTAL_USAGE_LIMIT",
        }.items():
            answer = ask("validate", coupon_code=coupon_code)

            assert (answer.status_code, answer.json["valid"], answer.json["error_code"]) == (200, False, error_code)
            assert answer.json["message"]
            assert answer.json["items"] is None

    def test_trouble_at_playcamp_is_told_as_its_own(self, ask, playcamp, caplog):
        path = "/v1/server/coupons/validate"
        refusal = {"code": "VALIDATION_ERROR", "error": "Validation Error"}
        refusal["details"] = [{"path": "userId", "message": "too long"}]
        key_refused = answers(401, {"error": "Invalid", "code": "UNAUTHORIZED"})
        playcamp.trouble("POST", path, broken(), garbage, reset, key_refused, answers(400, refusal))

        assert [ask("validate").status_code for _ in range(4)] == [502] * 4
        answer = ask("validate")

        assert (answer.status_code, answer.json["errors"]) == (422, [{"path": "userId", "detail": "too long"}])
        assert len(playcamp.asked(path)) == 5  # none of them repeated
        assert playcamp.api_key.partition(":")[2] not in caplog.text
        assert "WELCOME" not in caplog.text


class TestRedeeming:
    def test_a_redeemed_coupon_is_granted_at_once_and_its_webhook_grants_nothing_more(
        self, ask, announce, playcamp, feed, db, granted
    ):
        game_user_uuid = str(uuid.uuid4())

        answer = ask("redeem", game_user_uuid=game_user_uuid)
        announce()
        announce()

        assert answer.status_code == 200
        (grant,) = feed()
        usage = {"usage_id": 5678, "transaction_id": grant["transaction_id"], "is_test": False}
        assert answer.json == usage | GIFT
        assert (grant["partner"], grant["kind"], grant["external_id"]) == ("playcamp", "coupon", "5678")
        assert (grant["player_id"], lines(grant), grant["is_test"]) == ("100001", {"gems": 100}, False)
        assert playcamp.asked(REDEEM)[0].json["gameUserUuid"] == game_user_uuid
        assert db("SELECT * FROM conflicts") == []
        (event,) = db("SELECT type, external_id, player_id, data FROM events")
        assert (event["type"], event["external_id"]) == ("playcamp.coupon.redeemed", "5678")
        assert json.loads(event["data"])["items"] == [{"sku": "gems", "quantity": 100}]
        assert "WELCOME" not in event["data"]
        assert granted() == {"gems": 100}

    def test_the_webhook_may_come_first(self, ask, announce, playcamp, feed, db):
        playcamp.usages.append({"userId": "other", "couponCode": "X", "packageId": "none"})
        announce(redeemed(usage_id=5679))

        answer = ask("redeem")

        assert answer.status_code == 200
        assert answer.json["transaction_id"] == feed()[0]["transaction_id"]
        assert len(feed()) == 1
        assert db("SELECT * FROM conflicts") == []

    def test_one_that_is_refused_is_a_conflict_that_says_why(self, ask, playcamp, feed):
        for spelling in ("valid", "status"):
            playcamp.invalid_coupon = spelling

            answer = ask("redeem", coupon_code="YESTERDAY")

            assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")
            assert answer.json["detail"] == "COUPON_EXPIRED: Coupon has expired"
            assert answer.json["errors"] == [{"path": "coupon_code", "detail": "COUPON_EXPIRED"}]
        assert feed() == []

    @pytest.mark.parametrize("behaviour", [broken(), broken(503), reset, garbage, silence])
    def test_where_the_answer_is_lost_the_game_is_told_and_the_webhook_brings_the_grant(
        self, ask, announce, playcamp, feed, monkeypatch, caplog, behaviour
    ):
        monkeypatch.setattr(coupons, "PATIENCE_SECONDS", 1.0)
        playcamp.trouble("POST", REDEEM, behaviour, is_stored=True)

        answer = ask("redeem")
        before = feed()
        announce()

        assert answer.status_code == 502
        assert "may have been redeemed" in answer.json["detail"]
        assert before == []
        assert len(playcamp.asked(REDEEM)) == 1
        assert [lines(grant) for grant in feed()] == [{"gems": 100}]
        assert "may have been redeemed" in caplog.text
        assert "WELCOME" not in caplog.text

    def test_a_refusal_of_our_key_redeemed_nothing(self, ask, playcamp, studio, caplog):
        studio.secret("playcamp.api_key", "ak_server_other:x")

        answer = ask("redeem")

        assert (answer.status_code, "may have been" in answer.json["detail"]) == (502, False)
        assert playcamp.usages == []

    def test_a_body_that_is_not_as_described_is_refused_and_without_a_key_nothing_is_asked(
        self, call, playcamp, studio
    ):
        good = {"player_id": "a", "coupon_code": "b"}
        changes = [{"player_id": 7}, {"coupon_code": ""}, {"is_test": 1}, {"is_test": None}, {"more": 1}]
        for body in ({}, {"player_id": "a"}, *(good | each for each in [*changes, {"game_user_uuid": "no-uuid"}])):
            assert call("redeem", body).status_code == 422, body
        assert call("redeem", good | {"coupon_code": "\ud800"}).status_code == 400

        studio.installation.database.write_here(lambda tx: keyring.delete(tx, studio.row, "playcamp.api_key"))
        for what in ("validate", "redeem"):
            answer = call(what, good)
            assert (answer.status_code, "playcamp.api_key" in answer.json["detail"]) == (409, True)
        assert playcamp.requests == []

    def test_a_reward_that_is_not_told_waits_for_the_webhook(self, ask, announce, playcamp, feed, db, caplog):
        data = {"success": True, "usageId": 77, "packageId": "p", "quantity": 1}
        playcamp.trouble("POST", REDEEM, answers(200, {"data": data}))

        answer = ask("redeem")
        announce(redeemed(usage_id=77))

        assert answer.status_code == 200
        assert {"usage_id": 77, "transaction_id": None, "items": None}.items() <= answer.json.items()
        assert [(grant["external_id"], lines(grant)) for grant in feed()] == [("77", {"gems": 100})]
        types = [row["type"] for row in db("SELECT type FROM events ORDER BY id")]
        assert types == ["playcamp.coupon.ungranted", "playcamp.coupon.redeemed"]
        assert "cannot be granted" in caplog.text

    def test_a_usage_that_is_not_told_is_kept_and_granted_by_nobody(self, ask, playcamp, feed, db):
        playcamp.trouble("POST", REDEEM, answers(200, {"data": {"redeemed": True, "reward": GEMS}}))

        answer = ask("redeem")

        assert (answer.status_code, answer.json["usage_id"], answer.json["transaction_id"]) == (200, None, None)
        assert feed() == []
        (event,) = db("SELECT type, data FROM events")
        assert event["type"] == "playcamp.coupon.ungranted"
        assert json.loads(event["data"])["items"] == [{"sku": "gems", "quantity": 100}]

    def test_a_usage_that_was_granted_otherwise_is_a_conflict(self, ask, announce, feed, db):
        announce(redeemed(reward=[{"itemId": "coins", "itemQuantity": 1}]))

        answer = ask("redeem")

        assert answer.status_code == 409
        assert [lines(grant) for grant in feed()] == [{"coins": 1}]
        assert [row["external_id"] for row in db("SELECT external_id FROM conflicts")] == ["5678"]

    @pytest.mark.parametrize("ends_all", [True, False])
    def test_when_nothing_can_be_stored_the_game_is_told_that_it_was_redeemed(
        self, ask, announce, installation, playcamp, feed, caplog, ends_all
    ):
        with databases.Fault(installation, "INSERT ON grants", ends_all=ends_all):
            answer = ask("redeem")
        announce()

        assert (answer.status_code, "was redeemed" in answer.json["detail"]) == (503, True)
        assert len(feed()) == 1

    def test_test_coupons_never_count_and_never_stand_for_real_ones(
        self, ask, announce, playcamp, feed, granted, studio
    ):
        real = playcamp.coupons["WELCOME"]
        real.per_user = 9

        tests = [ask("redeem", is_test=True), ask("redeem", player_id="coinslot-test"), ask("redeem", is_test=True)]
        usages = list(playcamp.usages)
        real_one = ask("redeem")
        studio.config("playcamp.environment", "sandbox")
        sandboxed = ask("redeem")

        assert [answer.json["is_test"] for answer in tests] == [True, True, True]
        assert usages == []
        assert [request.json.get("isTest") for request in playcamp.asked(REDEEM)] == [True, True, True, None, None]
        assert (real_one.json["usage_id"], real_one.json["is_test"]) == (5678, False)
        assert sandboxed.json["is_test"] is True
        assert [(grant["external_id"], grant["player_id"], grant["is_test"]) for grant in feed()] == [
            ("5678", "100001", True),
            ("5678", "coinslot-test", True),
            ("5678", "100001", False),
            ("5679", "100001", True),
        ]
        assert granted() == {"gems": 100}


class TestWebhook:
    def test_a_coupon_redeemed_in_the_webview_is_granted_to_a_player_and_with_items_nobody_registered(
        self, announce, feed, installation, studio, db
    ):
        Owed(installation, studio).destination(events="grant.*")
        reward = [{"itemId": "new-item", "itemQuantity": 10**39}, {"itemId": 7, "itemQuantity": "2"}]

        announce(redeemed(user="nobody", reward=reward))

        (grant,) = feed()
        assert (grant["player_id"], grant["kind"], lines(grant)) == ("nobody", "coupon", {"new-item": 10**39, "7": 2})
        assert [row["event_type"] for row in db("SELECT event_type FROM deliveries")] == ["grant.created"]
        (row,) = db("SELECT signed_with, occurred_at, signature, raw_body FROM transactions")
        assert row["signed_with"] == "playcamp.webhook_secret/current"
        assert row["occurred_at"] == "2026-01-01T00:00:00.000000Z"
        assert row["signature"] == signed(packing.body(row["raw_body"]), SECRET)

    def test_a_usage_is_granted_once_however_often_and_in_whatever_words_it_is_told(self, announce, feed, db):
        split = [{"itemId": "gems", "itemQuantity": 40}, {"itemId": "gems", "itemQuantity": 60.0}]

        announce(redeemed())
        announce(redeemed(at="2026-01-01T00:00:09Z"))
        announce(redeemed(reward=split), redeemed(usage_id="5678"))

        assert [lines(grant) for grant in feed()] == [{"gems": 100}]
        assert db("SELECT * FROM conflicts") == []

    @pytest.mark.parametrize("other", [{"user": "100002"}, {"reward": [{"itemId": "gems", "itemQuantity": 101}]}])
    def test_other_content_under_the_same_usage_is_kept_and_the_batch_goes_on(self, announce, feed, db, caplog, other):
        announce(redeemed())
        announce(redeemed(**other), redeemed(usage_id=5679))

        assert [grant["external_id"] for grant in feed()] == ["5678", "5679"]
        assert [row["seen"] for row in db("SELECT seen FROM conflicts")] == [1]
        assert "1 coupon(s) were granted before with other content" in caplog.text

    def test_what_cannot_be_granted_whole_is_an_event_and_no_grant(self, announce, feed, db, caplog):
        for number, odd in enumerate(ODD):
            announce(odd, redeemed(usage_id=number))

        assert [grant["external_id"] for grant in feed()] == [str(number) for number in range(len(ODD))]
        assert [row["type"] for row in db("SELECT type FROM events")] == ["playcamp.coupon.redeemed"] * 2 * len(ODD)
        assert caplog.text.count("1 redeemed coupon(s) could not be granted") == len(ODD)

    @pytest.mark.parametrize("told", [{"isTest": True}, {}], ids=["marked", "sandbox"])
    def test_a_tests_coupon_never_counts(self, announce, feed, granted, studio, told):
        if not told:
            studio.config("playcamp.environment", "sandbox")

        announce(redeemed(**told))
        studio.config("playcamp.environment", "live")
        announce(redeemed(at="2026-02-01T00:00:00Z"))

        assert [(grant["external_id"], grant["is_test"]) for grant in feed()] == [("5678", True), ("5678", False)]
        assert granted() == {"gems": 100}

    def test_the_reserved_item_makes_a_test_of_it_whoever_tells(self, ask, announce, playcamp, feed, db):
        playcamp.coupons["TRY"] = Coupon("TRY", [{"itemId": "coinslot-test", "itemQuantity": 1}])

        answer = ask("redeem", coupon_code="TRY")
        announce()

        assert answer.json["is_test"] is True
        assert db("SELECT is_test FROM events") == [{"is_test": 1}]
        assert [(grant["external_id"], grant["is_test"]) for grant in feed()] == [("5678", True)]
