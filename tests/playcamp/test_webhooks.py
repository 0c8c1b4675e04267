"""PlayCamp's webhooks: proved, kept once, and what they change. The vectors were signed by PlayCamp's own Go SDK.

What holds at every partner's address is in ``tests/kit/test_partner_addresses.py``.
"""

import base64
import json
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
from tests import databases
from tests.fakes.playcamp import signed, sponsor_event
from tests.owed import Owed

SDK = json.loads((Path(__file__).parents[1] / "payloads/playcamp/signed_by_sdk.json").read_text())
SECRET, HOOKS_OWN = "whsec_demo_0001", "a-secret-of-its-own"
KEY = SecretValue("playcamp.webhook_secret", "current", SECRET.encode())
OTHER_KEY = SecretValue("playcamp.webhook_secret.other", "current", b"another-secret")
HOOK = "/playcamp/demo/webhook"

# The worked example of PlayCamp's contract, 211 bytes.
CHANGED = (
    b'{"events":[{"event":"sponsor.changed","timestamp":"2026-01-02T03:04:05.678Z","callbackId":"cb-1","isTest":false,'
    b'"data":{"userId":"100001","campaignId":"camp_1","oldCreatorKey":"AAA11","newCreatorKey":"BBB22"}}]}'
)
AT = 1767323045
SIMPLE = "a4277a55f4dffe40dc23189c43b05360c25cb8c41a0dea36335f844694eb3fee"
TIMED = "f7c5b5c68d2efb2c17a23db5566c554a15b37d11806125cdc00c8c0c80ead68a"

CONVERTED = {
    "custom_data": "100001|1700000000|a1b2c3d4",
    "usn": 100001,
    "creator_usn": 17324966,
    "event": "sponsor.created",
    "timestamp": 1741588200,
}
OCCURRED = "2026-01-02T03:04:05.000000Z"


@pytest.fixture
def post(client, studio):
    """Post events, or a body, as PlayCamp does; ``signature`` None leaves it out."""
    studio.secret("playcamp.webhook_secret", SECRET)

    def send(content, signature=..., secret=SECRET, path=HOOK, **headers):
        body = content if isinstance(content, bytes) else json.dumps({"events": content}).encode()
        signature = signed(body, secret) if signature is ... else signature
        told = {} if signature is None else {"X-Webhook-Signature": signature}
        return client.post(path, data=body, headers=told | headers, content_type="application/json")

    return send


@pytest.fixture
def send(post):
    """Post events, and expect to be believed."""

    def deliver(*events, **rest):
        answer = post(events, **rest)
        assert (answer.status_code, answer.json) == (200, {"received": True}), answer.text

    return deliver


@pytest.fixture
def get(client, studio):
    def read(path):
        answer = client.get(f"/game/v1/{path}", headers={"Authorization": f"Bearer {studio.token}"})
        assert answer.status_code == 200, answer.text
        return answer.json

    return read


@pytest.fixture
def events(get):
    """The game's feed of events."""
    return lambda: get("events?limit=1000")["events"]


@pytest.fixture
def types(events):
    return lambda: [each["type"].removeprefix("playcamp.") for each in events()]


@pytest.fixture
def sponsors(get):
    """Campaign, creator and time of a player's boosts."""

    def read(player="100001"):
        found = get(f"players/{player}/sponsors")["sponsors"]
        return [(each["campaign_id"], each["creator_key"], each["since"][17:23], each["is_test"]) for each in found]

    return read


def event(name="sponsor.created", user="100001", *keys, at=0, **told):
    """An event about a boost, ``at`` so many seconds after a fixed time; ``...`` leaves a field out."""
    timestamp = datetime.fromtimestamp(AT + at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    made = sponsor_event(name, user, *(keys or ("AAA11",))) | {"timestamp": timestamp}
    made["data"] |= told.pop("data", {})
    made |= told
    if isinstance(made["data"], dict):
        made["data"] = {field: value for field, value in made["data"].items() if value is not ...}
    return {field: value for field, value in made.items() if value is not ...}


def any_event(name, at=0, **data):
    return event(at=at) | {"event": name, "data": data}


def change(**data):
    return event("sponsor.changed", "100001", "AAA11", "BBB22", data=data)


NO_OBJECT, NO_NAME = "it is not a JSON object", "event: use text of 1 to 100 characters"
BAD = [
    *((each, NO_OBJECT) for each in (7, None, "sponsor.created", [event()])),
    ({}, NO_NAME),
    *((event(event=name), NO_NAME) for name in (7, "x" * 101, "a\nb", "\ud800")),
    *((each, "data: not a JSON object") for each in (event() | {"data": 7}, {"event": "sponsor.created"})),
    *((event(data={"userId": value}), "userId: missing") for value in (..., None)),
    *(
        (event(data={"userId": value}), "userId: not an id")
        for value in (True, "", " x", "a\0b", "\ud800", "x" * 256, 10**300)
    ),
    (event(data={"creatorKey": ...}), "creatorKey: missing"),
    (event(data={"creatorKey": ["AAA11"]}), "creatorKey: not an id"),
    (event(data={"campaignId": {}}), "campaignId: not an id"),
    *(
        (event(timestamp=value), "timestamp: not a time")
        for value in (..., "yesterday", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", True, 10**30, [])
    ),
    (change(oldCreatorKey=None), "oldCreatorKey: missing"),
    (change(newCreatorKey=1.5), "newCreatorKey: not an id"),
    (change() | {"data": []}, "data: not a JSON object"),
    ({**CONVERTED, "usn": None}, "usn: missing"),
    ({**CONVERTED, "usn": 1.5}, "usn: not an id"),
    ({**CONVERTED, "creator_usn": None}, "creator_usn: missing"),
    ({**CONVERTED, "timestamp": "soon"}, "timestamp: not a time"),
]


class TestProof:
    def test_what_the_sdk_signed_is_believed_and_with_one_byte_changed_it_is_not(self, post, studio, clock, types):
        clock.move_to(1767225600)
        studio.secret("playcamp.webhook_secret", SDK["secret"])

        for vector in SDK["vectors"]:
            body = base64.b64decode(vector["body_base64"])
            for form in ("simple", "timestamped"):
                assert post(body, vector[form]).status_code == 200, vector["name"]
                assert post(body + b" ", vector[form]).status_code == 401, vector["name"]

        # The same change in its other spelling is nothing new.
        assert types() == [
            *("sponsor.created", "sponsor.ended", "sponsor.ended", "sponsor.created", "coupon.redeemed"),
            *("payment.created", "brand.new", "payment.refunded", "payment.bulk_created"),
        ]

    @pytest.mark.parametrize(
        "header",
        [
            SIMPLE,
            SIMPLE.upper(),
            f"t={AT},v1={TIMED}",
            f"t={AT},v1={TIMED.upper()}",
            f"v1={TIMED},t={AT}",
            f"t={AT}, v1={TIMED}",
            f"t=00{AT},v1={TIMED}",  # read as a number, and signed as that number
            f"t=+{AT},v1={TIMED}",
            f"v0=abc,t={AT},v1={TIMED},v2=def",
        ],
    )
    def test_spellings_of_a_good_signature(self, clock, header):
        clock.move_to(AT)

        assert verify(CHANGED, header, [OTHER_KEY, KEY], 300) is KEY
        with pytest.raises(SignatureError):
            verify(CHANGED, header, [], 300)

    @pytest.mark.parametrize(
        "header",
        [
            "",
            f"v1={SIMPLE}",
            SIMPLE[:-1],
            SIMPLE[:-2],
            f"{SIMPLE}00",
            f"{SIMPLE},",
            f"{SIMPLE[:-1]}f",
            f"{SIMPLE[:32]} {SIMPLE[32:]}",
            TIMED,
            f"t={AT},v1={SIMPLE}",
            *(f"t={at},v1={TIMED}" for at in (f"{AT}.0", "1_767323045", "١767323045", "", "9" * 40, "9" * 5000)),
            f"t=-{AT},v1={TIMED}",
            f"xt={AT},xv1={TIMED}",
            f"t={AT},v1=",
            f"t={AT},v1=\xff\xfe",
            f"t={AT}",
        ],
    )
    def test_everything_else_proves_nothing(self, clock, header):
        clock.move_to(AT)

        with pytest.raises(SignatureError) as caught:
            verify(CHANGED, header, [KEY], 300)

        assert caught.value.reason == "signature"

    @pytest.mark.parametrize(
        ("at", "reason"),
        [(2**63 - 1, "timestamp"), (2**63, "signature"), (-(2**63), "timestamp"), (-(2**63) - 1, "signature")],
    )
    def test_a_time_is_a_number_of_64_bits(self, at, reason):
        v1 = signing.hmac_hex("sha256", SECRET.encode(), f"{at}.".encode() + CHANGED)

        with pytest.raises(SignatureError) as caught:
            verify(CHANGED, f"t={at},v1={v1}", [KEY], 300)

        assert caught.value.reason == reason

    def test_the_age_of_a_timestamped_call_is_bounded_and_that_of_a_simple_one_cannot_be(self, post, clock, studio):
        # In the order of time: a database's clock never goes back by some seconds.
        ages = [(-6, 401), (-5, 200), (-4, 200), (299, 200), (300, 200), (300.9, 200), (301, 401)]
        for late, status in ages:
            clock.move_to(AT + late)

            assert post(CHANGED, f"t={AT},v1={TIMED}").status_code == status, late
            assert post(CHANGED, SIMPLE).status_code == 200

        studio.config("playcamp.tolerance_seconds", "900")
        clock.move_to(AT + 900)
        assert post(CHANGED, f"t={AT},v1={TIMED}").status_code == 200

    def test_a_hooks_secret_is_good_everywhere_and_at_its_own_address_no_other(self, post, studio):
        studio.secret("playcamp.webhook_secret.coupons", HOOKS_OWN)
        own = f"{HOOK}/coupons"

        cases = [(HOOKS_OWN, HOOK, 200), (HOOKS_OWN, own, 200), (SECRET, own, 401), (SECRET, f"{own}-none", 404)]
        for secret, path, status in cases:
            assert post([], secret=secret, path=path).status_code == status, (secret, path)

    def test_a_signed_body_that_is_no_batch_is_a_bad_request(self, post, installation, db):
        bodies = [
            *(b"", b" ", b"{", b"[]", b"{}", b"null", b'"events"', b'{"events": null}', b'{"events": {}}'),
            *(b'{"events": "x", "event": "sponsor.created"}', b'{"events": [NaN]}', b"\xff\xfe", b'{"events": [\xff]}'),
            *(b"[" * 100_000, b'{"events": [' + b"1," * 10_000 + b"1]}"),
        ]

        for body in bodies:
            assert post(body).status_code == 400, body[:40]

        assert post(b"", None).status_code == 400
        assert post(b'{"events": [' + b" " * (1024 * 1024) + b"]}").status_code == 413
        assert db("SELECT * FROM events") == []
        installation.observations.flush()
        assert {row["reason"] for row in db("SELECT reason FROM refusals")} == {"malformed"}


class TestKeeping:
    def test_a_created_boost_is_told_to_the_game(self, send, events, db):
        made = event(callbackId="100001|1700000000|abc", isTest=False)

        send(made)

        (told,) = events()
        head = {"type": "sponsor.created", "partner": "playcamp", "player_id": "100001", "external_id": None}
        assert told | head | {"is_test": False, "occurred_at": OCCURRED} == told
        data = {"player_id": "100001", "campaign_id": "camp_1", "creator_key": "AAA11", "occurred_at": OCCURRED}
        assert told["data"] == data | {"custom_data": "100001|1700000000|abc"}
        (row,) = db("SELECT raw_body FROM events")
        assert json.loads(row["raw_body"]) == {"events": [made]}
        assert db("SELECT value FROM counters WHERE name = 'event'") == [{"value": 1}]

    def test_both_spellings_of_a_change_are_the_same_to_the_game(self, post, send, events, db):
        assert post(CHANGED, SIMPLE).status_code == 200
        first = events()

        both = json.loads(CHANGED)["events"][0]
        halves = [("sponsor.ended", "AAA11"), ("sponsor.created", "BBB22")]
        send(
            *(
                event(name, "100001", key) | {"timestamp": both["timestamp"], "callbackId": "cb-1"}
                for name, key in halves
            )
        )

        assert [(each["type"], each["data"]["creator_key"]) for each in first] == halves
        assert {each["data"]["custom_data"] for each in first} == {"cb-1"}
        assert {each["occurred_at"] for each in first} == {"2026-01-02T03:04:05.678000Z"}
        assert events() == first  # a game subscribed to both has one change
        assert len({row["batch"] for row in db("SELECT batch FROM conversions")}) == 1

    def test_a_repeat_changes_nothing_alone_or_in_another_batch(self, send, types, db):
        send(event(), event("sponsor.ended", at=5))
        turned = dict(reversed(event().items())) | {"deliveredBy": "node-7"}  # another order, and a new field
        send(turned | {"data": dict(reversed(turned["data"].items()))}, event("sponsor.ended", at=5))
        send(event("sponsor.ended", at=5), event(at=9))

        assert types() == ["sponsor.created", "sponsor.ended", "sponsor.created"]
        assert len(db("SELECT * FROM conversions")) == 3

    def test_what_differs_in_time_callback_or_data_is_another_event(self, send, events):
        changes = ({}, {"at": 1}, {"callbackId": "cb-2"}, {"callbackId": ...}, {"data": {"campaignId": "camp_2"}})
        for changed in (*changes, {"data": {"userId": "100002"}}):
            send(event(**{"callbackId": "cb-1"} | changed))

        assert len(events()) == 6

    def test_boosts_of_one_call_are_told_in_the_order_of_their_time_and_the_rest_where_it_was(self, send, types):
        late = event("sponsor.changed", "100001", "AAA11", "BBB22", at=5)

        send(any_event("brand.new", at=9), late, any_event("brand.new", at=1), event())

        assert types() == ["brand.new", "sponsor.created", "sponsor.ended", "brand.new", "sponsor.created"]

    def test_a_bare_event_is_a_batch_of_one_and_an_empty_batch_is_received(self, post, send, types):
        send()
        assert types() == []
        assert post(json.dumps(event()).encode()).status_code == 200
        assert types() == ["sponsor.created"]

    def test_other_documented_events_are_told_in_our_words(self, send, events):
        payment = {"transactionId": "GP/1", "userId": "u", "amount": 9.99, "currency": "USD", "platform": "iOS"}
        counts = {"totalRequested": 3, "successful": 0, "failed": 2, "skipped": 1, "transactionIds": ["a", 7, None]}

        send(
            any_event("payment.created", creatorKey="AAA11", campaignId="camp_1", **payment),
            any_event("payment.bulk_created", **counts) | {"callbackId": "poll-1"},
            any_event("payment.refunded", transactionId="GP/1", userId="u"),
        )

        ids = {"player_id": "u", "transaction_id": "GP/1", "custom_data": None, "occurred_at": OCCURRED}
        paid = {"amount": "9.99", "currency": "USD", "platform": "iOS", "creator_key": "AAA11", "campaign_id": "camp_1"}
        counted = {"total_requested": 3, "successful": 0, "failed": 2, "skipped": 1, "transaction_ids": ["a", "7"]}
        assert [(each["type"][17:], each["external_id"], each["player_id"], each["data"]) for each in events()] == [
            ("created", "GP/1", "u", ids | paid),
            ("bulk_created", None, None, counted | {"custom_data": "poll-1", "occurred_at": OCCURRED}),
            ("refunded", "GP/1", "u", ids),
        ]

    def test_a_payment_told_again_at_another_time_is_the_same_and_with_another_amount_is_not(self, send, events):
        payment = {"transactionId": "GP-1", "userId": "u", "amount": 1, "currency": "USD"}

        send(any_event("payment.created", **payment))
        send(any_event("payment.created", at=9, **payment))
        send(any_event("payment.created", **payment) | {"isTest": True})
        send(any_event("payment.created", **payment | {"amount": 2}))

        told = [(each["data"]["amount"], each["is_test"]) for each in events()]
        assert told == [("1", False), ("1", True), ("2", False)]

    def test_an_event_of_tomorrow_is_kept_whole_but_for_what_tells_who_somebody_is(self, send, events):
        data = {"userId": 7, "mood": {"level": 1.50, "eMail": "a@example.com"}, "list": [{"access_token": "x", "a": 1}]}

        send(any_event("brand.new", transactionId="t", **data))
        send(any_event("brand.new", at=1, transactionId="t", **data))

        first, again = events()
        assert (first["type"], first["player_id"]) == ("playcamp.brand.new", "7")
        kept = {"userId": 7, "transactionId": "t", "mood": {"level": "1.5"}, "list": [{"a": 1}]}
        assert first["data"]["data"] == kept
        assert again["type"] == "playcamp.brand.new"  # what makes two of these the same is not documented

    def test_one_bad_event_fails_no_batch(self, send, events, sponsors, db, caplog):
        for number, (bad, _) in enumerate(BAD):
            before = event("sponsor.created", f"before-{number}", callbackId="signature-of-an-entry")
            send(before, bad, event("sponsor.created", f"after-{number}"))
            send(bad)

        told = events()
        assert [each["type"] for each in told] == ["sponsor.created", "playcamp.unreadable", "sponsor.created"] * len(
            BAD
        )
        assert [each["data"]["reason"] for each in told[1::3]] == [reason for _, reason in BAD]
        assert sponsors("before-0")
        assert sponsors(f"after-{len(BAD) - 1}")
        assert len(db("SELECT * FROM conversions")) == 2 * len(BAD)
        assert "could not be read" in caplog.text
        assert "signature-of-an-entry" not in caplog.text

    def test_huge_numbers_and_deep_lists_fail_no_batch(self, post, events, types):
        some = [
            json.dumps(event()),
            f'{{"event": "a", "data": {{"n": {"9" * 5000}}}}}',
            '{"event": "b", "data": {"n": 1e999999999999999999999}}',
            '{"event": "payment.created", "data": {"amount": 1e999999, "transactionId": 1e5}}',
            f'{{"event": "c", "data": {"[" * 500 + "]" * 500}}}',
            '{"event": "d", "timestamp": 1e400, "data": {"\\ud800": "\\udfff"}}',
            '{"event": "e", "timestamp": -1, "callbackId": 12, "data": null}',
        ]
        body = f'{{"events": [{",".join(some)}]}}'.encode()

        for _ in range(2):
            assert post(body).status_code == 200

        assert types() == ["sponsor.created", "a", "b", "payment.created", "unreadable", "d", "e"]
        told = [each["data"] for each in events()]
        assert told[3]["amount"] is None
        assert told[4] == {"reason": "it is nested deeper than 64 levels", "event": "c", "player_id": None}
        assert told[5]["data"] == {"\ufffd": "\ufffd"}
        assert told[6]["custom_data"] == "12"

    def test_an_event_has_64_levels_at_most(self, send, types):
        def nested(levels):
            inside = {}
            for _ in range(levels - 2):  # the event and the innermost object are levels too
                inside = {"a": inside}
            return any_event("deep") | {"data": inside}

        send(nested(64), nested(65))

        assert types() == ["deep", "unreadable"]

    def test_a_converted_event_that_is_no_boost_may_lack_its_creator_but_not_name_one_badly(self, send, events):
        other = {**CONVERTED, "event": "player.left"}
        send({name: value for name, value in other.items() if name != "creator_usn"}, {**other, "creator_usn": 1.5})

        named, unreadable = events()
        assert (named["type"], named["data"]["creator_usn"]) == ("playcamp.player.left", None)
        assert unreadable["data"]["reason"] == "creator_usn: not an id"

    def test_ids_may_be_numbers_and_times_may_lack_their_zone(self, send, events):
        send(event("sponsor.created", 100001, data={"campaignId": None}, timestamp="2026-01-02T03:04:05"))
        send(event("sponsor.created", 100002, data={"campaignId": ...}, timestamp="2026-01-02T12:04:05.5+09:00"))

        assert [(each["player_id"], each["data"]["campaign_id"], each["occurred_at"]) for each in events()] == [
            ("100001", None, OCCURRED),
            ("100002", None, "2026-01-02T03:04:05.500000Z"),
        ]

    def test_what_is_a_test_is_marked(self, send, studio, events, sponsors):
        marks = [{}, {"isTest": False}, {"isTest": "false"}, {"isTest": None}]
        marks += [{"isTest": True}, {"isTest": "true"}, {"isTest": 1}]

        for number, told in enumerate(marks):
            send(event(at=number, **told), any_event("x", at=number) | told, told | {"event": None, "n": number})
        studio.config("playcamp.environment", "sandbox")
        send(event(at=99), any_event("x", at=99), {"event": 99})
        studio.config("playcamp.environment", "live")
        send(event("sponsor.created", "coinslot-test"))

        assert [each["is_test"] for each in events()] == [False] * 12 + [True] * 13
        assert [is_test for *_, is_test in sponsors("coinslot-test")] == [True]

    def test_nothing_is_acknowledged_that_is_not_on_the_disk(self, post, send, installation, db):
        halves = [event(), event("sponsor.ended", at=1)]
        with databases.Fault(installation, "INSERT ON events", when="new.type = 'sponsor.ended'"):
            assert post(halves).status_code == 503
        assert db("SELECT * FROM events") == db("SELECT * FROM boosts") == []
        send(*halves)
        assert len(db("SELECT * FROM events")) == 2

    def test_standard_destinations_are_owed_it_at_once(self, send, installation, studio, db):
        Owed(installation, studio).destination(events="sponsor.*")
        send(event(), any_event("payment.bulk_created"))

        assert [row["event_type"] for row in db("SELECT event_type FROM deliveries")] == ["sponsor.created"]


# Events of one player, and the boosts they leave, in whatever order they come.
IN_ANY_ORDER = {
    "an end said to be later than the other half of its change ends no other boost": (
        [("created", "AAA11", 0), ("created", "BBB22", 5.678), ("ended", "AAA11", 5.681)],
        [("camp_1", "BBB22", "10.678", False)],
    ),
    "a beginning that another has followed is over though that has ended too": (
        [("created", "AAA11", 0), ("ended", "AAA11", 1), ("created", "BBB22", 2), ("ended", "BBB22", 3)],
        [],
    ),
    "an end that overtook its beginning still counts": (
        [("created", "AAA11", 5), ("ended", "BBB22", 10), ("ended", "AAA11", 8), ("created", "BBB22", 8)],
        [],
    ),
    "the end of another creator's boost changes nothing": (
        [("created", "AAA11", 0), ("ended", "BBB22", 9)],
        [("camp_1", "AAA11", "05.000", False)],
    ),
}


class TestBoosts:
    def test_a_boost_begins_changes_and_ends(self, send, sponsors, get):
        send(event())
        assert get("players/100001/sponsors") == {
            "player_id": "100001",
            "sponsors": [{"campaign_id": "camp_1", "creator_key": "AAA11", "since": OCCURRED, "is_test": False}],
        }
        send(event("sponsor.changed", "100001", "AAA11", "BBB22", at=1))
        assert sponsors() == [("camp_1", "BBB22", "06.000", False)]
        send(event("sponsor.ended", "100001", "BBB22", at=2))
        assert sponsors() == []

    def test_a_player_supports_one_creator_per_campaign_and_tests_are_beside_that(self, send, sponsors):
        send(
            event(),
            event(data={"campaignId": "camp_2", "creatorKey": "BBB22"}),
            event(data={"campaignId": ..., "creatorKey": "CCC33"}),
            event(data={"creatorKey": "TEST1"}, isTest=True),
            event("sponsor.ended", at=5, data={"creatorKey": "TEST1"}),
        )

        assert sponsors() == [
            (None, "CCC33", "05.000", False),
            ("camp_1", "AAA11", "05.000", False),
            ("camp_1", "TEST1", "05.000", True),
            ("camp_2", "BBB22", "05.000", False),
        ]

    def test_at_equal_times_the_order_of_the_batch_decides(self, send, sponsors):
        send(event("sponsor.ended"), event(), event("sponsor.created", "b"), event("sponsor.ended", "b"))

        assert [creator for _, creator, *_ in sponsors()] == ["AAA11"]
        assert sponsors("b") == []

    @pytest.mark.parametrize("story", IN_ANY_ORDER)
    def test_in_whatever_order_events_come(self, send, sponsors, story):
        told, expected = IN_ANY_ORDER[story]

        for number, order in enumerate(permutations(told)):
            for name, creator, at in order:
                send(event(f"sponsor.{name}", str(number), creator, at=at))

            assert sponsors(str(number)) == expected, order

    def test_what_has_followed_in_another_campaign_or_in_a_test_ends_nothing(self, send, sponsors):
        send(event("sponsor.ended", "100001", "BBB22", at=9))
        send(event(at=8, data={"campaignId": ...}), event(at=8, isTest=True))
        send(event(at=5))

        assert [(campaign, is_test) for campaign, *_, is_test in sponsors()] == [
            (None, False),
            ("camp_1", False),
            ("camp_1", True),
        ]

    def test_the_game_asks_by_its_token_and_about_its_own_players(self, send, client, studio, sponsors):
        send(event("sponsor.created", "a/b é"))

        assert client.get("/game/v1/players/100001/sponsors").status_code == 401
        assert [creator for _, creator, *_ in sponsors("a/b é")] == ["AAA11"]
        token = {"Authorization": f"Bearer {studio.token}"}
        assert client.get("/game/v1/players/x%20/sponsors", headers=token).status_code == 422
        assert sponsors("nobody") == []


class TestConversion:
    @pytest.fixture
    def queued(self, db):
        """Player and type of each event to be converted."""
        sql = "SELECT c.player_id, e.type FROM conversions c JOIN events e ON e.id = c.event_id ORDER BY c.id"
        return lambda: [(row["player_id"], row["type"]) for row in db(sql)]

    def test_sponsor_events_are_to_be_converted_and_others_are_not(self, send, db, queued):
        send(event(), any_event("payment.created", transactionId="t", userId="100001"), event("sponsor.ended", "b"))
        send(event(at=7))

        assert queued() == [("100001", "sponsor.created"), ("b", "sponsor.ended"), ("100001", "sponsor.created")]
        assert len({row["batch"] for row in db("SELECT batch FROM conversions WHERE state = 'waiting'")}) == 3
        (job,) = db("SELECT name, due_at IS NOT NULL AS is_due FROM schedules")
        assert job == {"name": "playcamp.convert", "is_due": 1}

    def test_a_game_may_want_more_types_by_either_name(self, send, queued, studio):
        studio.config("playcamp.events.also", "payment.bulk_created, playcamp.brand.new")

        send(any_event("payment.bulk_created"), any_event("brand.new", userId="u"), any_event("brand.old"))

        assert queued() == [("", "playcamp.payment.bulk_created"), ("u", "playcamp.brand.new")]

    @pytest.mark.parametrize("environment", ["live", "sandbox"])
    @pytest.mark.parametrize("wish", ["auto", "on", "off"])
    def test_events_marked_as_tests_are_converted_where_the_owner_wants_it(
        self, send, queued, studio, environment, wish
    ):
        players = ["real", "marked", "coinslot-test"]
        studio.config("playcamp.environment", environment)
        studio.config("playcamp.forward_test_events", wish)
        send(*(event("sponsor.created", name, isTest=name == "marked") for name in players))

        sends_tests = wish == "on" or (wish, environment) == ("auto", "sandbox")
        assert [player for player, _ in queued()] == (players if sends_tests else ["real"])


class TestConverted:
    """Where PlayCamp runs the gateway, and we take what it has converted."""

    def gateways(self, body, at):
        signature = signing.hmac_hex("sha256", SECRET.encode(), at.encode() + b"." + body)
        return {"X-Gateway-Timestamp": at, "X-Gateway-Signature": signature}

    def test_it_is_believed_with_a_gateways_signature_and_told_like_any_boost(self, post, events, types, db, clock):
        clock.move_to(1741588300)
        ended = {**CONVERTED, "event": "sponsor.ended", "timestamp": 1741588201}
        body = json.dumps({"events": [CONVERTED, ended]}).encode()

        answer = post(body, None, **self.gateways(body, "1741588300"))

        assert (answer.status_code, answer.json) == (200, {"received": True})
        assert types() == ["sponsor.created", "sponsor.ended"]
        told = events()[0]
        assert told["player_id"] == "100001"
        data = {"player_id": "100001", "campaign_id": None, "creator_key": None, "creator_usn": 17324966}
        data |= {"custom_data": CONVERTED["custom_data"], "occurred_at": "2025-03-10T06:30:00.000000Z"}
        assert told["data"] == data
        assert [row["player_id"] for row in db("SELECT player_id FROM conversions")] == ["100001", "100001"]

    def test_our_own_deliveries_in_that_format_are_believed(self, post, installation, studio, events):
        Owed(installation, studio).destination(format="playcamp")
        (secret,) = installation.games.by_slug("demo").keys("destination.game")
        studio.secret("playcamp.webhook_secret.gateway", secret.value.decode())
        body = json.dumps({"events": [CONVERTED]}).encode()

        headers = signed_by_us(FORMAT, "msg_1", 1, body, [secret])
        del headers["Content-Type"]

        for path in (HOOK, f"{HOOK}/gateway"):
            assert post(body, None, path=path, **headers).status_code == 200
        assert len(events()) == 1

    def test_a_gateways_signature_has_an_age_and_covers_every_byte(self, post, clock, db):
        body = json.dumps({"events": [CONVERTED]}).encode()
        good = self.gateways(body, "1741588200")
        signature = good["X-Gateway-Signature"]

        def status(sent=body, plain=None, **changed):
            changed = {f"X-Gateway-{name.title()}": value for name, value in changed.items()}
            return post(sent, plain, **good | changed).status_code

        clock.move_to(1741588200 + 301)
        assert status() == 401
        clock.move_to(1741588200 + 300)
        assert status(body + b" ") == 401
        assert [status(timestamp=each) for each in ("", "174158820x", "1741588201", "9" * 21)] == [401] * 4
        assert [status(signature=each) for each in ("", signature + "0", signature[:-1] + "g", "é")] == [401] * 4
        assert status(plain="0" * 64) == 401
        assert db("SELECT * FROM events") == []
        assert status() == 200

    def test_the_webhook_signature_proves_it_too_and_a_repeat_is_one(self, send, events):
        send(CONVERTED)
        send(CONVERTED, {**CONVERTED, "creator_usn": "17324967"})

        assert [each["data"]["creator_usn"] for each in events()] == [17324966, "17324967"]

    @pytest.fixture
    def call(self, send):
        """Post events that a gateway has converted, under its own id of the call."""

        def deliver(delivery, *names, **changed):
            told = {} if delivery is None else {"X-Gateway-Delivery": delivery}
            send(*({**CONVERTED, "event": name, **changed} for name in names), **told)

        return deliver

    def test_a_boost_that_turns_twice_within_a_second_is_told_as_often(self, call, studio, types, sponsors):
        studio.config("playcamp.creator.AAA11", "17324966")

        for number, name in enumerate(("sponsor.created", "sponsor.ended", "sponsor.created")):
            for _ in range(2):  # each is tried twice
                call(f"d-{number}", name)
            call("d-0", "sponsor.created")  # late, and known

        assert types() == ["sponsor.created", "sponsor.ended", "sponsor.created"]
        assert [creator for _, creator, *_ in sponsors()] == ["AAA11"]

    def test_in_one_call_too_and_without_an_id_of_it(self, call, types):
        for _ in range(2):
            call(None, "sponsor.created", "sponsor.ended", "sponsor.created", "sponsor.ended")

        assert types() == ["sponsor.created", "sponsor.ended"] * 2

    def test_the_same_under_another_id_is_a_repeat_where_nothing_has_turned(self, call, types):
        call("d-0", "sponsor.created", "sponsor.created")
        call("d-1", "sponsor.created")
        call(None, "sponsor.created")
        call("d-2", "sponsor.ended", usn=7)
        call("d-3", "sponsor.created")

        assert types() == ["sponsor.created", "sponsor.ended"]

    def test_agreed_words_are_understood_and_turn_a_boost_and_unknown_ones_are_kept(self, call, send, studio, types):
        studio.config("playcamp.event.registered", "BOOST_ON")
        studio.config("playcamp.event.removed", "BOOST_OFF")

        call("d-0", "BOOST_ON", "BOOST_OFF", "BOOST_ON", "sponsor.created", "boost.paused")
        send({"usn": "7", "event": "note"})

        boosts = ["sponsor.created", "sponsor.ended", "sponsor.created", "sponsor.created"]
        assert types() == [*boosts, "boost.paused", "note"]

    def test_a_creator_known_by_number_is_a_boost_the_game_can_ask_for(self, send, studio, sponsors):
        studio.config("playcamp.creator.AAA11", "17324966")

        send(CONVERTED, {**CONVERTED, "usn": 2, "creator_usn": 5})

        assert [(campaign, creator) for campaign, creator, *_ in sponsors()] == [(None, "AAA11")]
        assert sponsors("2") == []
