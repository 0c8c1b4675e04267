"""PlayCamp's webhooks: proved, kept once, and what they change. The vectors were signed by PlayCamp's own Go SDK."""

import base64
import json
import random
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import pytest

from coinslot.access.keyring import SecretValue
from coinslot.base import signing
from coinslot.relay.webhooks import signed as signed_by_us
from handlers.playcamp.events.signature import verify
from handlers.playcamp.format import FORMAT
from handlers.playcamp.recipe import SignatureError
from tests.fakes.playcamp import DOCUMENTED_EVENT_TYPES, PlayCamp, signed, sponsor_event
from tests.owed import Owed
from tests.receivers import Receiver

SDK = json.loads((Path(__file__).parents[1] / "payloads/playcamp/signed_by_sdk.json").read_text())
SECRET = "whsec_demo_0001"
KEY = SecretValue("playcamp.webhook_secret", "current", SECRET.encode())
OTHER_KEY = SecretValue("playcamp.webhook_secret.other", "current", b"another-secret")

# The worked example of PlayCamp's contract, 211 bytes.
CHANGED = (
    b'{"events":[{"event":"sponsor.changed","timestamp":"2026-01-02T03:04:05.678Z","callbackId":"cb-1","isTest":false,'
    b'"data":{"userId":"100001","campaignId":"camp_1","oldCreatorKey":"AAA11","newCreatorKey":"BBB22"}}]}'
)
CHANGED_AT = 1767323045
CHANGED_SIMPLE = "a4277a55f4dffe40dc23189c43b05360c25cb8c41a0dea36335f844694eb3fee"
CHANGED_TIMESTAMPED = "f7c5b5c68d2efb2c17a23db5566c554a15b37d11806125cdc00c8c0c80ead68a"

CONVERTED = {
    "custom_data": "100001|1700000000|a1b2c3d4",
    "usn": 100001,
    "creator_usn": 17324966,
    "event": "sponsor.created",
    "timestamp": 1741588200,
}


@pytest.fixture
def hooked(studio):
    studio.secret("playcamp.webhook_secret", SECRET)
    return studio


@pytest.fixture
def post(client, hooked):
    """Post a body with a signature as it is."""

    def send(body, signature=None, path="/playcamp/demo/webhook", **headers):
        told = {} if signature is None else {"X-Webhook-Signature": signature}
        return client.post(path, data=body, headers=told | headers, content_type="application/json")

    return send


@pytest.fixture
def send(post):
    """Post events as PlayCamp does, and expect to be believed."""

    def deliver(*events, form="simple", secret=SECRET, **rest):
        body = json.dumps({"events": events}).encode()
        answer = post(body, signed(body, secret, form), **rest)
        assert (answer.status_code, answer.json) == (200, {"received": True}), answer.text
        return answer

    return deliver


@pytest.fixture
def events(client, studio):
    """The game's feed of events."""

    def read():
        answer = client.get("/game/v1/events?limit=1000", headers={"Authorization": f"Bearer {studio.token}"})
        assert answer.status_code == 200, answer.text
        return answer.json["events"]

    return read


@pytest.fixture
def sponsors(client, studio):
    def read(player="100001"):
        path = f"/game/v1/players/{player}/sponsors"
        answer = client.get(path, headers={"Authorization": f"Bearer {studio.token}"})
        assert (answer.status_code, answer.json["player_id"]) == (200, player), answer.text
        return answer.json["sponsors"]

    return read


def event(name="sponsor.created", user="100001", *keys, at=0, **told):
    """An event about a boost, ``at`` so many seconds after a fixed time; ``...`` leaves a field out."""
    timestamp = datetime.fromtimestamp(CHANGED_AT + at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    made = sponsor_event(name, user, *(keys or ("AAA11",))) | {"timestamp": timestamp}
    made["data"] |= told.pop("data", {})
    made |= told
    made["data"] = {field: value for field, value in made["data"].items() if value is not ...}
    return {field: value for field, value in made.items() if value is not ...}


def any_event(name, at=0, **data):
    return event(at=at) | {"event": name, "data": data}


BAD = [
    (7, "it is not a JSON object"),
    (None, "it is not a JSON object"),
    ("sponsor.created", "it is not a JSON object"),
    ([event()], "it is not a JSON object"),
    ({}, "event: use text of 1 to 100 characters"),
    (event(event=7), "event: use text of 1 to 100 characters"),
    (event(event="x" * 101), "event: use text of 1 to 100 characters"),
    (event(event="a\nb"), "event: use text of 1 to 100 characters"),
    (event(event="\ud800"), "event: use text of 1 to 100 characters"),
    (event() | {"data": 7}, "data: not a JSON object"),
    ({"event": "sponsor.created"}, "data: not a JSON object"),
    (event(data={"userId": ...}), "userId: missing"),
    (event(data={"userId": None}), "userId: missing"),
    (event(data={"userId": True}), "userId: not an id"),
    (event(data={"userId": ""}), "userId: not an id"),
    (event(data={"userId": " x"}), "userId: not an id"),
    (event(data={"userId": "a\0b"}), "userId: not an id"),
    (event(data={"userId": "\ud800"}), "userId: not an id"),
    (event(data={"userId": "x" * 256}), "userId: not an id"),
    (event(data={"userId": 10**300}), "userId: not an id"),
    (event(data={"creatorKey": ...}), "creatorKey: missing"),
    (event(data={"creatorKey": ["AAA11"]}), "creatorKey: not an id"),
    (event(data={"campaignId": {}}), "campaignId: not an id"),
    (event(timestamp=...), "timestamp: not a time"),
    (event(timestamp="yesterday"), "timestamp: not a time"),
    (event(timestamp="0001-01-01T00:00:00+14:00"), "timestamp: not a time"),
    (event(timestamp="9999-12-31T23:59:59-14:00"), "timestamp: not a time"),
    (event(timestamp=True), "timestamp: not a time"),
    (event(timestamp=10**30), "timestamp: not a time"),
    (event(timestamp=[]), "timestamp: not a time"),
    (
        event("sponsor.changed", "100001", "AAA11", "BBB22", data={"oldCreatorKey": None}),
        "oldCreatorKey: missing",
    ),
    (
        event("sponsor.changed", "100001", "AAA11", "BBB22", data={"newCreatorKey": 1.5}),
        "newCreatorKey: not an id",
    ),
    (event("sponsor.changed", "100001", "AAA11", "BBB22") | {"data": []}, "data: not a JSON object"),
    ({**CONVERTED, "usn": None}, "usn: missing"),
    ({**CONVERTED, "usn": 1.5}, "usn: not an id"),
    ({**CONVERTED, "creator_usn": None}, "creator_usn: missing"),
    ({**CONVERTED, "timestamp": "soon"}, "timestamp: not a time"),
]


def names(found):
    return [(each["type"], each["data"].get("creator_key")) for each in found]


def refusals(installation, db):
    installation.observations.flush()
    return [(row["reason"], row["status"]) for row in db("SELECT reason, status FROM refusals ORDER BY id")]


class TestProof:
    def test_what_the_sdk_signed_is_believed_and_with_one_byte_changed_it_is_not(self, post, studio, clock, db):
        clock.move_to(1767225600)
        studio.secret("playcamp.webhook_secret", SDK["secret"])

        for vector in SDK["vectors"]:
            body = base64.b64decode(vector["body_base64"])
            for form in ("simple", "timestamped"):
                assert post(body, vector[form]).status_code == 200, vector["name"]
                assert post(body + b" ", vector[form]).status_code == 401, vector["name"]

        assert [row["type"].removeprefix("playcamp.") for row in db("SELECT type FROM events ORDER BY id")] == [
            "sponsor.created",
            "sponsor.ended",
            "sponsor.ended",
            "sponsor.created",  # and the same change in its other spelling is nothing new
            "coupon.redeemed",
            "payment.created",
            "brand.new",
            "payment.refunded",
            "payment.bulk_created",
        ]

    @pytest.mark.parametrize(
        "header",
        [
            CHANGED_SIMPLE,
            CHANGED_SIMPLE.upper(),
            f"t={CHANGED_AT},v1={CHANGED_TIMESTAMPED}",
            f"t={CHANGED_AT},v1={CHANGED_TIMESTAMPED.upper()}",
            f"v1={CHANGED_TIMESTAMPED},t={CHANGED_AT}",
            f"t={CHANGED_AT}, v1={CHANGED_TIMESTAMPED}",
            f"t=00{CHANGED_AT},v1={CHANGED_TIMESTAMPED}",  # read as a number, and signed as that number
            f"t=+{CHANGED_AT},v1={CHANGED_TIMESTAMPED}",
            f"v0=abc,t={CHANGED_AT},v1={CHANGED_TIMESTAMPED},v2=def",
        ],
    )
    def test_spellings_of_a_good_signature(self, clock, header):
        clock.move_to(CHANGED_AT)

        assert verify(CHANGED, header, [OTHER_KEY, KEY], 300) is KEY

    @pytest.mark.parametrize(
        "header",
        [
            "",
            "v1=" + CHANGED_SIMPLE,
            CHANGED_SIMPLE[:-1],
            CHANGED_SIMPLE[:-2],
            CHANGED_SIMPLE + "00",
            CHANGED_SIMPLE[:-1] + "f",
            " ".join([CHANGED_SIMPLE[:32], CHANGED_SIMPLE[32:]]),
            CHANGED_TIMESTAMPED,
            f"t={CHANGED_AT},v1={CHANGED_SIMPLE}",
            f"t={CHANGED_AT}.0,v1={CHANGED_TIMESTAMPED}",
            f"t=1_767323045,v1={CHANGED_TIMESTAMPED}",
            f"t=١767323045,v1={CHANGED_TIMESTAMPED}",
            f"t=,v1={CHANGED_TIMESTAMPED}",
            f"t={'9' * 40},v1={CHANGED_TIMESTAMPED}",
            f"t={'9' * 5000},v1={CHANGED_TIMESTAMPED}",
            f"t=-{CHANGED_AT},v1={CHANGED_TIMESTAMPED}",
            f"xt={CHANGED_AT},xv1={CHANGED_TIMESTAMPED}",
            f"t={CHANGED_AT},v1=",
            f"t={CHANGED_AT},v1=\xff\xfe",
            f"t={CHANGED_AT}",
        ],
    )
    def test_everything_else_proves_nothing(self, clock, header):
        clock.move_to(CHANGED_AT)

        with pytest.raises(SignatureError) as caught:
            verify(CHANGED, header, [KEY], 300)

        assert caught.value.reason == "signature"

    def test_without_keys_nothing_passes(self, clock):
        with pytest.raises(SignatureError):
            verify(CHANGED, CHANGED_SIMPLE, [], 300)

    def test_the_age_of_a_timestamped_call_is_bounded_and_that_of_a_simple_one_cannot_be(
        self, post, clock, installation, db
    ):
        for late, status in [(299, 200), (300, 200), (300.9, 200), (301, 401), (-4, 200), (-5, 200), (-6, 401)]:
            clock.move_to(CHANGED_AT + late)

            assert post(CHANGED, f"t={CHANGED_AT},v1={CHANGED_TIMESTAMPED}").status_code == status, late
            assert post(CHANGED, CHANGED_SIMPLE).status_code == 200

        assert refusals(installation, db) == [("timestamp", 401)] * 2

    def test_the_accepted_age_is_a_setting(self, post, clock, studio):
        studio.config("playcamp.tolerance_seconds", "900")
        clock.move_to(CHANGED_AT + 900)

        assert post(CHANGED, f"t={CHANGED_AT},v1={CHANGED_TIMESTAMPED}").status_code == 200

    def test_every_active_secret_is_good_and_a_retired_one_is_not(self, post, studio, db):
        studio.rotate("playcamp.webhook_secret", "the-next-secret")
        studio.secret("playcamp.webhook_secret.coupons", "a-secret-of-its-own")
        body = json.dumps({"events": []}).encode()

        for secret in (SECRET, "the-next-secret", "a-secret-of-its-own"):
            assert post(body, signed(body, secret)).status_code == 200
        studio.retire("playcamp.webhook_secret")

        assert post(body, signed(body, SECRET)).status_code == 401
        assert post(body, signed(body, "the-next-secret")).status_code == 200

    def test_at_a_hooks_own_address_only_its_secret_is_good(self, post, studio, send, db, installation):
        studio.secret("playcamp.webhook_secret.coupons", "a-secret-of-its-own")
        body = json.dumps({"events": []}).encode()
        path = "/playcamp/demo/webhook/coupons"

        send(event(), secret="a-secret-of-its-own", path=path)

        assert post(body, signed(body, SECRET), path=path).status_code == 401
        assert post(body, signed(body, SECRET), path=f"{path}-none").status_code == 404
        installation.observations.flush()
        used = db("SELECT name FROM secrets WHERE last_used_at IS NOT NULL")
        assert used == [{"name": "playcamp.webhook_secret.coupons"}]
        assert db("SELECT value FROM counters WHERE name = 'called' AND label = 'webhook'") == [{"value": 1}]

    def test_a_game_that_is_not_there_or_has_no_secret_is_not_found(self, post, client, studio):
        studio.secret("playcamp.api_key", "ak_server:x")

        assert post(CHANGED, CHANGED_SIMPLE, path="/playcamp/nothing/webhook").status_code == 404
        studio.installation.database.write_here(
            lambda tx: tx.execute("DELETE FROM secrets WHERE name LIKE '%webhook%'")
        )
        studio.config("playcamp.tabs", "sponsor")  # so that the change is noticed
        assert post(CHANGED, CHANGED_SIMPLE).status_code == 404
        assert client.get("/playcamp/demo/webhook").status_code == 405

    def test_an_empty_body_is_a_bad_request(self, post):
        assert post(b"", signed(b"", SECRET)).status_code == 400
        assert post(b"").status_code == 400

    def test_a_signed_body_that_is_no_batch_is_a_bad_request(self, post, installation, db):
        bodies = [
            b" ",
            b"{",
            b"[]",
            b"{}",
            b"null",
            b'"events"',
            b'{"events": null}',
            b'{"events": {}}',
            b'{"events": "x", "event": "sponsor.created"}',
            b'{"events": [NaN]}',
            b"\xff\xfe",
            b'{"events": [\xff]}',
            b"[" * 100_000,
            b'{"events": [' + b"1," * 10_000 + b"1]}",
        ]

        for body in bodies:
            assert post(body, signed(body, SECRET)).status_code == 400, body[:40]

        assert db("SELECT * FROM events") == []
        assert refusals(installation, db) == [("malformed", 400)] * len(bodies)

    def test_a_body_that_is_too_large_is_refused(self, post):
        body = b'{"events": [' + b" " * (1024 * 1024) + b"]}"

        assert post(body, signed(body, SECRET)).status_code == 413

    def test_nothing_of_a_proof_is_logged(self, post, send, caplog):
        send(event(callbackId="100001|1700000000|sig-of-an-entry"), {"event": 7})
        post(CHANGED, "t=1,v1=" + "a" * 64)

        assert "sig-of-an-entry" not in caplog.text
        assert SECRET not in caplog.text


class TestKeeping:
    def test_a_created_boost_is_told_to_the_game(self, send, events, db):
        made = event(callbackId="100001|1700000000|abc", isTest=False)

        send(made)

        (told,) = events()
        assert {name: told[name] for name in ("type", "partner", "player_id", "external_id", "is_test", "data")} == {
            "type": "sponsor.created",
            "partner": "playcamp",
            "player_id": "100001",
            "external_id": None,
            "is_test": False,
            "data": {
                "player_id": "100001",
                "campaign_id": "camp_1",
                "creator_key": "AAA11",
                "custom_data": "100001|1700000000|abc",
                "occurred_at": "2026-01-02T03:04:05.000000Z",
            },
        }
        assert told["occurred_at"] == "2026-01-02T03:04:05.000000Z"
        (row,) = db("SELECT raw_body FROM events")
        assert json.loads(row["raw_body"]) == {"events": [made]}
        assert db("SELECT value FROM counters WHERE name = 'event'") == [{"value": 1}]

    def test_both_spellings_of_a_change_are_the_same_to_the_game(self, post, studio, events, db):
        assert post(CHANGED, CHANGED_SIMPLE).status_code == 200
        first = events()

        both = json.loads(CHANGED)["events"][0]
        halves = [
            {**both, "event": name, "data": {"userId": "100001", "campaignId": "camp_1", "creatorKey": key}}
            for name, key in (("sponsor.ended", "AAA11"), ("sponsor.created", "BBB22"))
        ]
        body = json.dumps({"events": halves}).encode()
        assert post(body, signed(body, SECRET)).status_code == 200

        assert names(first) == [("sponsor.ended", "AAA11"), ("sponsor.created", "BBB22")]
        assert {each["data"]["custom_data"] for each in first} == {"cb-1"}
        assert {each["occurred_at"] for each in first} == {"2026-01-02T03:04:05.678000Z"}
        assert events() == first  # whoever is subscribed to both has one change
        assert len({row["batch"] for row in db("SELECT batch FROM conversions")}) == 1

    def test_a_repeat_changes_nothing_alone_or_in_another_batch(self, send, events, db):
        send(event(), event("sponsor.ended", at=5))
        send(event(), event("sponsor.ended", at=5), form="timestamped")
        send(event("sponsor.ended", at=5), event(at=9))

        assert names(events()) == [
            ("sponsor.created", "AAA11"),
            ("sponsor.ended", "AAA11"),
            ("sponsor.created", "AAA11"),
        ]
        assert len(db("SELECT * FROM conversions")) == 3

    def test_what_differs_in_time_callback_or_data_is_another_event(self, send, events):
        send(event(callbackId="cb-1"))
        send(event(callbackId="cb-1", at=1))
        send(event(callbackId="cb-2"))
        send(event())
        send(event(callbackId="cb-1", data={"campaignId": "camp_2"}))
        send(event(callbackId="cb-1", data={"userId": "100002"}))

        assert len(events()) == 6

    def test_the_order_of_fields_and_new_fields_beside_them_make_no_other_event(self, post, events):
        first = json.dumps({"events": [event(callbackId="cb")]}).encode()
        turned = dict(reversed(event(callbackId="cb").items())) | {"deliveredBy": "node-7"}
        turned["data"] = dict(reversed(turned["data"].items()))
        again = json.dumps({"events": [turned]}, indent=2).encode()

        assert post(first, signed(first, SECRET)).status_code == 200
        assert post(again, signed(again, SECRET)).status_code == 200

        assert len(events()) == 1

    def test_boosts_of_one_call_are_told_in_the_order_of_their_time_and_the_rest_where_it_stood(self, send, events):
        late = event("sponsor.changed", "100001", "AAA11", "BBB22", at=5)

        send(any_event("brand.new", at=9), late, any_event("brand.new", at=1), event())

        assert [each["type"].removeprefix("playcamp.") for each in events()] == [
            "brand.new",
            "sponsor.created",
            "sponsor.ended",
            "brand.new",
            "sponsor.created",
        ]

    def test_a_bare_event_is_a_batch_of_one(self, post, events):
        body = json.dumps(event()).encode()

        assert post(body, signed(body, SECRET)).status_code == 200
        assert names(events()) == [("sponsor.created", "AAA11")]

    def test_an_empty_batch_is_received(self, send, events):
        send()

        assert events() == []

    def test_other_documented_events_are_told_in_our_words(self, send, events):
        payment = {"transactionId": "GP/1", "userId": "u", "amount": 9.99, "currency": "USD", "platform": "iOS"}
        counts = {"totalRequested": 3, "successful": 0, "failed": 2, "skipped": 1, "transactionIds": ["a", 7, None]}

        send(
            any_event("payment.created", creatorKey="AAA11", campaignId="camp_1", **payment),
            any_event("payment.bulk_created", **counts) | {"callbackId": "poll-1"},
            any_event("payment.refunded", transactionId="GP/1", userId="u"),
        )

        created, bulk, refunded = events()
        assert (created["type"], created["external_id"], created["player_id"]) == (
            "playcamp.payment.created",
            "GP/1",
            "u",
        )
        assert created["data"] == {
            "player_id": "u",
            "transaction_id": "GP/1",
            "amount": "9.99",
            "currency": "USD",
            "platform": "iOS",
            "creator_key": "AAA11",
            "campaign_id": "camp_1",
            "custom_data": None,
            "occurred_at": "2026-01-02T03:04:05.000000Z",
        }
        assert (bulk["type"], bulk["player_id"]) == ("playcamp.payment.bulk_created", None)
        assert bulk["data"] == {
            "total_requested": 3,
            "successful": 0,
            "failed": 2,
            "skipped": 1,
            "transaction_ids": ["a", "7"],
            "custom_data": "poll-1",
            "occurred_at": "2026-01-02T03:04:05.000000Z",
        }
        assert (refunded["type"], refunded["data"]["transaction_id"]) == ("playcamp.payment.refunded", "GP/1")

    def test_a_payment_told_again_at_another_time_is_the_same_and_with_another_amount_is_not(self, send, events):
        payment = {"transactionId": "GP-1", "userId": "u", "amount": 1, "currency": "USD"}

        send(any_event("payment.created", **payment))
        send(any_event("payment.created", at=9, **payment))
        send(any_event("payment.created", **payment) | {"isTest": True})
        send(any_event("payment.created", **payment | {"amount": 2}))

        assert [(each["data"]["amount"], each["is_test"]) for each in events()] == [
            ("1", False),
            ("1", True),
            ("2", False),
        ]

    def test_an_event_of_tomorrow_is_kept_whole_but_for_what_tells_who_somebody_is(self, send, events):
        data = {"userId": 7, "mood": {"level": 1.50, "eMail": "a@example.com"}, "list": [{"access_token": "x", "a": 1}]}

        send(any_event("brand.new", transactionId="t", **data))
        send(any_event("brand.new", at=1, transactionId="t", **data))

        first, again = events()
        assert (first["type"], first["player_id"]) == ("playcamp.brand.new", "7")
        assert first["data"]["data"] == {
            "userId": 7,
            "transactionId": "t",
            "mood": {"level": "1.5"},
            "list": [{"a": 1}],
        }
        assert again["type"] == "playcamp.brand.new"  # nobody has written down what makes two of these the same

    def test_one_bad_event_fails_no_batch(self, send, events, sponsors, db):
        for number, (bad, _) in enumerate(BAD):
            send(event("sponsor.created", f"before-{number}"), bad, event("sponsor.created", f"after-{number}"))
            send(bad)

        told = events()
        unreadable = [each for each in told if each["type"] == "playcamp.unreadable"]
        assert [each["data"]["reason"] for each in unreadable] == [reason for _, reason in BAD]
        assert [each["type"] for each in told] == ["sponsor.created", "playcamp.unreadable", "sponsor.created"] * len(
            BAD
        )
        assert sponsors("before-0")
        assert sponsors(f"after-{len(BAD) - 1}")
        assert len(db("SELECT * FROM conversions")) == 2 * len(BAD)

    def test_huge_numbers_and_deep_lists_fail_no_batch(self, post, events):
        deep = "[" * 500 + "]" * 500
        body = (
            '{"events": ['
            + ",".join(
                [
                    json.dumps(event()),
                    f'{{"event": "a", "data": {{"n": {"9" * 5000}}}}}',
                    '{"event": "b", "data": {"n": 1e999999999999999999999}}',
                    '{"event": "payment.created", "data": {"amount": 1e999999, "transactionId": 1e5}}',
                    f'{{"event": "c", "data": {deep}}}',
                    '{"event": "d", "timestamp": 1e400, "data": {"\\ud800": "\\udfff"}}',
                    '{"event": "e", "timestamp": -1, "callbackId": 12, "data": null}',
                ]
            )
            + "]}"
        ).encode()

        assert post(body, signed(body, SECRET)).status_code == 200
        assert post(body, signed(body, SECRET)).status_code == 200

        told = events()
        assert [each["type"] for each in told] == [
            "sponsor.created",
            "playcamp.a",
            "playcamp.b",
            "playcamp.payment.created",
            "playcamp.unreadable",
            "playcamp.d",
            "playcamp.e",
        ]
        assert told[3]["data"]["amount"] is None
        assert told[4]["data"] == {"reason": "it is nested deeper than 64 levels", "event": "c", "player_id": None}
        assert told[5]["data"]["data"] == {"\ufffd": "\ufffd"}
        assert told[6]["data"]["custom_data"] == "12"

    def test_ids_may_be_numbers_and_times_may_lack_their_zone(self, send, events):
        send(event("sponsor.created", 100001, data={"campaignId": None}, timestamp="2026-01-02T03:04:05"))
        send(event("sponsor.created", 100002, data={"campaignId": ...}, timestamp="2026-01-02T12:04:05.5+09:00"))

        assert [(each["player_id"], each["data"]["campaign_id"], each["occurred_at"]) for each in events()] == [
            ("100001", None, "2026-01-02T03:04:05.000000Z"),
            ("100002", None, "2026-01-02T03:04:05.500000Z"),
        ]

    def test_what_is_a_test_is_marked(self, send, studio, events):
        marks = [{}, {"isTest": False}, {"isTest": "false"}, {"isTest": None}]
        marks += [{"isTest": True}, {"isTest": "true"}, {"isTest": 1}]

        for number, told in enumerate(marks):
            send(event(at=number, **told), any_event("x", at=number) | told, told | {"event": None, "n": number})
        studio.config("playcamp.environment", "sandbox")
        send(event(at=99), any_event("x", at=99), {"event": 99})

        assert [each["is_test"] for each in events()] == [False] * 12 + [True] * 12

    def test_what_names_the_reserved_player_is_a_test(self, send, events, sponsors):
        send(event("sponsor.created", "coinslot-test"))

        assert [each["is_test"] for each in events()] == [True]
        assert [each["is_test"] for each in sponsors("coinslot-test")] == [True]

    def test_nothing_is_acknowledged_that_is_not_on_the_disk(self, post, installation, db):
        body = json.dumps({"events": [event(), event("sponsor.ended", at=1)]}).encode()
        installation.database.write_here(
            lambda tx: tx.execute(
                """CREATE TRIGGER trouble BEFORE INSERT ON events WHEN new.type = 'sponsor.ended'
                   BEGIN SELECT RAISE(ABORT, 'trouble'); END"""
            )
        )

        assert post(body, signed(body, SECRET)).status_code == 503
        assert db("SELECT * FROM events") == []
        assert db("SELECT * FROM boosts") == []
        installation.database.write_here(lambda tx: tx.execute("DROP TRIGGER trouble"))
        assert post(body, signed(body, SECRET)).status_code == 200
        assert len(db("SELECT * FROM events")) == 2

    def test_standard_destinations_are_owed_it_at_once(self, send, installation, studio, db):
        with Receiver() as receiver:
            Owed(installation, studio).destination(url=receiver.url, events="sponsor.*")
            send(event(), any_event("payment.bulk_created"))

        assert [row["event_type"] for row in db("SELECT event_type FROM deliveries")] == ["sponsor.created"]

    def test_a_webhook_of_every_type_from_the_fake_arrives(self, client, studio, events):
        with PlayCamp() as playcamp:
            playcamp.set_up(studio)
            studio.secret("playcamp.webhook_secret", SECRET)

            def call(url, headers, body):
                answer = client.post(url, data=body, headers=dict(headers))
                return answer.status_code, answer.data

            playcamp.post = call
            for name in DOCUMENTED_EVENT_TYPES:
                playcamp.hook(name, "/playcamp/demo/webhook", SECRET)
            sent = playcamp.deliver(
                [any_event(name, userId="u", creatorKey="AAA11") for name in DOCUMENTED_EVENT_TYPES]
            )

        assert [each.status for each in sent] == [200]
        assert sorted(each["type"].removeprefix("playcamp.") for each in events()) == sorted(DOCUMENTED_EVENT_TYPES)


class TestBoosts:
    def test_a_boost_begins_changes_and_ends(self, send, sponsors):
        send(event())
        begun = sponsors()
        send(event("sponsor.changed", "100001", "AAA11", "BBB22", at=1))
        changed = sponsors()
        send(event("sponsor.ended", "100001", "BBB22", at=2))

        assert begun == [
            {
                "campaign_id": "camp_1",
                "creator_key": "AAA11",
                "since": "2026-01-02T03:04:05.000000Z",
                "is_test": False,
            }
        ]
        assert [(each["creator_key"], each["since"]) for each in changed] == [("BBB22", "2026-01-02T03:04:06.000000Z")]
        assert sponsors() == []

    def test_a_player_supports_one_creator_per_campaign_and_tests_are_beside_that(self, send, sponsors):
        send(
            event(),
            event(data={"campaignId": "camp_2", "creatorKey": "BBB22"}),
            event(data={"campaignId": ..., "creatorKey": "CCC33"}),
            event(data={"creatorKey": "TEST1"}, isTest=True),
            event("sponsor.ended", at=5, data={"creatorKey": "TEST1"}),
        )

        assert [(each["campaign_id"], each["creator_key"], each["is_test"]) for each in sponsors()] == [
            (None, "CCC33", False),
            ("camp_1", "AAA11", False),
            ("camp_1", "TEST1", True),
            ("camp_2", "BBB22", False),
        ]

    def test_at_equal_times_the_order_of_the_batch_decides(self, send, sponsors):
        send(event("sponsor.ended"), event(), event("sponsor.created", "b"), event("sponsor.ended", "b"))

        assert [each["creator_key"] for each in sponsors()] == ["AAA11"]
        assert sponsors("b") == []

    def test_the_end_of_another_creators_boost_changes_nothing(self, send, sponsors):
        send(event())
        send(event("sponsor.ended", "100001", "BBB22", at=9))

        assert [each["creator_key"] for each in sponsors()] == ["AAA11"]

    def test_in_whatever_order_and_batches_events_come_the_newest_decides(self, send, sponsors):
        for seed in range(20):
            player = str(seed)
            story = [
                event("sponsor.created", player, at=1),
                event("sponsor.changed", player, "AAA11", "BBB22", at=2),
                event("sponsor.ended", player, "BBB22", at=3),
                event("sponsor.created", player, "CCC33", at=4),
                event("sponsor.changed", player, "CCC33", "AAA11", at=5),
                *([event("sponsor.ended", player, at=6)] if seed % 2 else []),
            ]
            shuffled = random.Random(seed).sample(story * 2, len(story) * 2)

            for each in shuffled[:3]:
                send(each)
            send(*shuffled[3:])

            assert [each["creator_key"] for each in sponsors(player)] == ([] if seed % 2 else ["AAA11"]), seed

    def test_an_end_that_overtook_its_beginning_still_counts(self, send, sponsors):
        send(event(at=5))
        send(event("sponsor.ended", "100001", "BBB22", at=10))
        send(event("sponsor.changed", "100001", "AAA11", "BBB22", at=8))

        assert sponsors() == []

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_an_end_that_says_it_is_later_than_the_other_half_of_its_change_ends_no_other_boost(
        self, send, sponsors, order
    ):
        told = [
            event(),
            event("sponsor.created", "100001", "BBB22", at=5.678),
            event("sponsor.ended", "100001", "AAA11", at=5.681),
        ]

        for number in order:
            send(told[number])

        assert [(each["creator_key"], each["since"]) for each in sponsors()] == [
            ("BBB22", "2026-01-02T03:04:10.678000Z")
        ]

    @pytest.mark.parametrize("order", list(permutations(range(4))))
    def test_a_beginning_that_another_one_has_followed_is_over_though_that_has_ended_too(self, send, sponsors, order):
        told = [
            event(),
            event("sponsor.ended", at=1),
            event("sponsor.created", "100001", "BBB22", at=2),
            event("sponsor.ended", "100001", "BBB22", at=3),
        ]

        for number in order:
            send(told[number])

        assert sponsors() == []

    def test_what_has_followed_in_another_campaign_or_in_a_test_ends_nothing(self, send, sponsors):
        send(event("sponsor.ended", "100001", "BBB22", at=9))
        send(event(at=8, data={"campaignId": ...}), event(at=8, isTest=True))
        send(event(at=5))

        assert [(each["campaign_id"], each["is_test"]) for each in sponsors()] == [
            (None, False),
            ("camp_1", False),
            ("camp_1", True),
        ]

    def test_the_game_asks_by_its_token_and_about_its_own_players(self, send, client, studio, sponsors):
        send(event("sponsor.created", "a/b é"))

        assert client.get("/game/v1/players/100001/sponsors").status_code == 401
        assert [each["creator_key"] for each in sponsors("a/b é")] == ["AAA11"]
        token = {"Authorization": f"Bearer {studio.token}"}
        assert client.get("/game/v1/players/x%20/sponsors", headers=token).status_code == 422
        assert sponsors("nobody") == []


class TestConversion:
    def test_sponsor_events_are_to_be_converted_and_others_are_not(self, send, db, studio):
        send(event(), any_event("payment.created", transactionId="t", userId="100001"), event("sponsor.ended", "b"))
        send(event(at=7))

        rows = db(
            """SELECT c.player_id, c.state, c.batch, e.type FROM conversions c JOIN events e ON e.id = c.event_id
               ORDER BY c.id"""
        )
        assert [(row["player_id"], row["state"], row["type"]) for row in rows] == [
            ("100001", "waiting", "sponsor.created"),
            ("b", "waiting", "sponsor.ended"),
            ("100001", "waiting", "sponsor.created"),
        ]
        assert len({row["batch"] for row in rows}) == 3
        (job,) = db("SELECT name, due_at IS NOT NULL AS is_due FROM schedules")
        assert job == {"name": "playcamp.convert", "is_due": 1}

    def test_a_game_may_want_more_types_by_either_name(self, send, db, studio):
        studio.config("playcamp.events.also", "payment.bulk_created, playcamp.brand.new")

        send(any_event("payment.bulk_created"), any_event("brand.new", userId="u"), any_event("brand.old"))

        rows = db("SELECT c.player_id, e.type FROM conversions c JOIN events e ON e.id = c.event_id ORDER BY c.id")
        assert [(row["player_id"], row["type"]) for row in rows] == [
            ("", "playcamp.payment.bulk_created"),
            ("u", "playcamp.brand.new"),
        ]

    def test_events_marked_as_tests_are_converted_where_the_owner_wants_it(self, send, db, studio):
        players = ["real", "marked", "coinslot-test"]
        cases = [
            ("live", "auto", ["real"]),
            ("live", "on", players),
            ("live", "off", ["real"]),
            ("sandbox", "auto", players),
            ("sandbox", "on", players),
            ("sandbox", "off", ["real"]),
        ]
        for number, (environment, wish, _) in enumerate(cases):
            studio.config("playcamp.environment", environment)
            studio.config("playcamp.forward_test_events", wish)
            send(*(event("sponsor.created", name, at=number, isTest=name == "marked") for name in players))

        assert [row["player_id"] for row in db("SELECT player_id FROM conversions ORDER BY id")] == [
            name for _, _, forwarded in cases for name in forwarded
        ]


class TestConverted:
    """Where PlayCamp runs the gateway, and we take what it has converted."""

    def test_it_is_believed_with_a_gateways_signature_and_told_like_any_boost(self, post, events, db, clock):
        clock.move_to(1741588300)
        body = json.dumps(
            {"events": [CONVERTED, {**CONVERTED, "event": "sponsor.ended", "timestamp": 1741588201}]}
        ).encode()
        at = "1741588300"
        signature = signing.hmac_hex("sha256", SECRET.encode(), at.encode() + b"." + body)

        answer = post(body, **{"X-Gateway-Timestamp": at, "X-Gateway-Signature": signature})

        assert (answer.status_code, answer.json) == (200, {"received": True})
        told = events()
        assert [each["type"] for each in told] == ["sponsor.created", "sponsor.ended"]
        assert told[0]["player_id"] == "100001"
        assert told[0]["data"] == {
            "player_id": "100001",
            "campaign_id": None,
            "creator_key": None,
            "creator_usn": 17324966,
            "custom_data": "100001|1700000000|a1b2c3d4",
            "occurred_at": "2025-03-10T06:30:00.000000Z",
        }
        assert [row["player_id"] for row in db("SELECT player_id FROM conversions")] == ["100001", "100001"]

    def test_our_own_deliveries_in_that_format_are_believed(self, post, installation, studio, events):
        Owed(installation, studio).destination(format="playcamp")
        (secret,) = installation.games.by_slug("demo").keys("destination.game")
        studio.secret("playcamp.webhook_secret.gateway", secret.value.decode())
        body = json.dumps({"events": [CONVERTED]}).encode()

        headers = signed_by_us(FORMAT, "msg_1", 1, body, [secret])
        del headers["Content-Type"]

        assert post(body, **headers).status_code == 200
        assert post(body, path="/playcamp/demo/webhook/gateway", **headers).status_code == 200
        assert len(events()) == 1

    def test_a_gateways_signature_has_an_age_and_covers_every_byte(self, post, clock, db):
        body = json.dumps({"events": [CONVERTED]}).encode()
        at = "1741588200"
        signature = signing.hmac_hex("sha256", SECRET.encode(), at.encode() + b"." + body)

        def status(sent=body, at=at, signature=signature):
            return post(sent, **{"X-Gateway-Timestamp": at, "X-Gateway-Signature": signature}).status_code

        clock.move_to(1741588200 + 301)
        assert status() == 401
        clock.move_to(1741588200 + 300)
        assert status(body + b" ") == 401
        assert [status(at=each) for each in ("", "174158820x", "1741588201", "9" * 21)] == [401] * 4
        assert [status(signature=each) for each in ("", signature + "0", signature[:-1] + "g", "é")] == [401] * 4
        assert post(body, "0" * 64, **{"X-Gateway-Timestamp": at, "X-Gateway-Signature": signature}).status_code == 401
        assert db("SELECT * FROM events") == []
        assert status() == 200

    def test_the_webhook_signature_proves_it_too_and_a_repeat_is_one(self, send, events):
        send(CONVERTED)
        send(CONVERTED, {**CONVERTED, "creator_usn": "17324967"})

        assert [each["data"]["creator_usn"] for each in events()] == [17324966, "17324967"]

    @pytest.fixture
    def call(self, post):
        """Post what a gateway has converted, under its own id of the call."""

        def deliver(delivery, *names, **changed):
            body = json.dumps({"events": [{**CONVERTED, "event": name, **changed} for name in names]}).encode()
            told = {} if delivery is None else {"X-Gateway-Delivery": delivery}
            assert post(body, signed(body, SECRET), **told).status_code == 200

        return deliver

    def test_a_boost_that_turns_twice_within_a_second_is_told_as_often(self, call, studio, events, sponsors):
        studio.config("playcamp.creator.AAA11", "17324966")

        for number, name in enumerate(("sponsor.created", "sponsor.ended", "sponsor.created")):
            for _ in range(2):  # each is tried twice
                call(f"d-{number}", name)
            call("d-0", "sponsor.created")  # late, and known

        assert [each["type"] for each in events()] == ["sponsor.created", "sponsor.ended", "sponsor.created"]
        assert [each["creator_key"] for each in sponsors()] == ["AAA11"]

    def test_in_one_call_too_and_without_an_id_of_it(self, call, events):
        for _ in range(2):
            call(None, "sponsor.created", "sponsor.ended", "sponsor.created", "sponsor.ended")

        assert [each["type"] for each in events()] == ["sponsor.created", "sponsor.ended"] * 2

    def test_the_same_under_another_id_is_a_repeat_where_nothing_has_turned(self, call, events):
        call("d-0", "sponsor.created", "sponsor.created")
        call("d-1", "sponsor.created")
        call(None, "sponsor.created")
        call("d-2", "sponsor.ended", usn=7)
        call("d-3", "sponsor.created")

        assert [each["type"] for each in events()] == ["sponsor.created", "sponsor.ended"]

    def test_agreed_words_turn_a_boost_as_well(self, call, studio, events):
        studio.config("playcamp.event.registered", "BOOST_ON")
        studio.config("playcamp.event.removed", "BOOST_OFF")

        call("d-0", "BOOST_ON", "BOOST_OFF", "BOOST_ON")

        assert len(events()) == 3

    def test_agreed_words_are_understood_and_unknown_ones_kept(self, send, studio, events):
        studio.config("playcamp.event.registered", "BOOST_ON")
        studio.config("playcamp.event.removed", "BOOST_OFF")

        for name in ("BOOST_ON", "BOOST_OFF", "sponsor.created", "boost.paused"):
            send({**CONVERTED, "event": name})
        send({"usn": "7", "event": "note"})

        assert [each["type"] for each in events()] == [
            "sponsor.created",
            "sponsor.ended",
            "sponsor.created",
            "playcamp.boost.paused",
            "playcamp.note",
        ]

    def test_a_creator_known_by_number_is_a_boost_the_game_can_ask_for(self, send, studio, sponsors):
        studio.config("playcamp.creator.AAA11", "17324966")

        send(CONVERTED, {**CONVERTED, "usn": 2, "creator_usn": 5})

        assert [(each["creator_key"], each["campaign_id"]) for each in sponsors()] == [("AAA11", None)]
        assert sponsors("2") == []
