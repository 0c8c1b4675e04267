"""PlayCamp's events in the game's own format: what is sent, what is parked until it can be, and in which order."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from itertools import chain, permutations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coinslot.access import keyring
from coinslot.outbox import conversion_queue
from handlers.playcamp.events import conversion
from tests import databases
from tests.conftest import Studio
from tests.fakes.http import Receiver, status
from tests.fakes.playcamp import PlayCamp, broken, signed, sponsor_event
from tests.owed import NOWHERE, Owed

SECRET = "whsec_demo_0001"
ODD_TEXT = '100001|1700000000|"ä\\💎\u0001\t</script>'
SDK = json.loads((Path(__file__).parents[1] / "payloads/playcamp/signed_by_sdk.json").read_text())

# The worked example of PlayCamp's contract: 211 bytes, and what they become.
CHANGED = (
    b'{"events":[{"event":"sponsor.changed","timestamp":"2026-01-02T03:04:05.678Z","callbackId":"cb-1","isTest":false,'
    b'"data":{"userId":"100001","campaignId":"camp_1","oldCreatorKey":"AAA11","newCreatorKey":"BBB22"}}]}'
)
REMOVED = {"custom_data": "cb-1", "usn": 100001, "creator_usn": 11, "event": "sponsor.ended", "timestamp": 1767323045}
REGISTERED = {**REMOVED, "creator_usn": 22, "event": "sponsor.created"}


def event(name, *creator_keys, user="100001", at="2026-01-02T03:04:05.678Z", callback="cb-1", **told):
    made = {**sponsor_event(f"sponsor.{name}", user, *creator_keys, **told), "timestamp": at}
    return made if callback is None else {**made, "callbackId": callback}


def at(seconds):
    """The time of :func:`event`, so many seconds later."""
    return f"{datetime(2026, 1, 2, 3, 4, 5, 678000, UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.%f}Z"


class Gateway:
    """A game that wants its own format: PlayCamp's calls come in, and what is owed to the game can be seen."""

    def __init__(self, installation, studio, client, db, clock):
        self.installation, self.studio, self.client, self.db, self.clock = installation, studio, client, db, clock
        self.owed = Owed(installation, studio)
        studio.secret("playcamp.webhook_secret", SECRET)

    def send(self, *events, body=None, **headers):
        body = json.dumps({"events": events}).encode() if body is None else body
        headers = {"X-Webhook-Signature": signed(body, SECRET)} | headers
        answer = self.client.post(f"/playcamp/{self.studio.slug}/webhook", data=body, headers=headers)
        assert answer.status_code == 200, answer.text

    def know(self, **creators):
        for key, number in creators.items():
            self.studio.config(f"playcamp.creator.{key}", number)

    def run(self):
        """The job, once; returns in how many seconds it wants to run again."""
        return conversion.run(self.installation, self.installation.games.by_slug(self.studio.slug))

    def convert(self, *events, **rest):
        """What the game is owed for these, a list of bodies."""
        self.send(*events, **rest)
        self.run()
        return self.bodies()

    def bodies(self):
        rows = self.db("SELECT c.body FROM deliveries d JOIN conversions c ON c.event_id = d.event_id ORDER BY d.id")
        return [json.loads(row["body"]) for row in rows]

    def told(self, user="100001"):
        """What a player begins and ends, ``+22`` and ``-11``, a list of bodies."""
        signs = {"sponsor.created": "+", "sponsor.ended": "-"}
        bodies = [body["events"] for body in self.bodies() if body["events"][0]["usn"] == int(user)]
        return [[f"{signs[each['event']]}{each['creator_usn']}" for each in events] for events in bodies]

    def supported(self, user="100001"):
        """The creators whom the game hears of when it asks."""
        found = self.client.get(
            f"/game/v1/players/{user}/sponsors", headers={"Authorization": f"Bearer {self.studio.token}"}
        )
        return [each["creator_key"] for each in found.json["sponsors"]]

    def states(self):
        return [row["state"] for row in self.db("SELECT state FROM conversions ORDER BY id")]

    def reasons(self):
        return [
            row["reason"] for row in conversion_queue.parked(self.installation.database.read(), self.studio.row["id"])
        ]


@pytest.fixture
def gateway(installation, studio, client, db, clock):
    made = Gateway(installation, studio, client, db, clock)
    made.owed.destination(format="playcamp", url=NOWHERE)
    made.know(AAA11="11", BBB22="22")
    return made


@pytest.fixture
def playcamp(gateway):
    """PlayCamp's API, where the owner has it asked for creators."""
    with PlayCamp() as playcamp:
        playcamp.set_up(gateway.studio, creator_lookup="on")
        for key in playcamp.creators:
            gateway.know(**{key: ""})
        yield playcamp


class TestBody:
    def test_the_worked_example_byte_for_byte(self, gateway):
        gateway.convert(body=CHANGED)

        (row,) = gateway.db("SELECT body FROM conversions WHERE body IS NOT NULL")
        assert row["body"] == json.dumps({"events": [REMOVED, REGISTERED]}, separators=(",", ":")).encode()
        assert list(json.loads(row["body"])["events"][0]) == list(REMOVED)

    def test_what_the_sdk_signed_becomes_this_each_once_and_in_order(self, gateway, clock):
        """Begun, ended, changed; and the change once more, spelled as an end and a beginning."""
        clock.move_to(1767225600)
        gateway.studio.secret("playcamp.webhook_secret", SDK["secret"])
        for _ in range(2):
            for vector in SDK["vectors"]:
                answer = gateway.client.post(
                    "/playcamp/demo/webhook",
                    data=base64.b64decode(vector["body_base64"]),
                    headers={"X-Webhook-Signature": vector["timestamped"]},
                )
                assert answer.status_code == 200
        clock.shift(conversion.HELD_SECONDS + 1)

        gateway.run()

        told = [each for body in gateway.bodies() for each in body["events"]]
        assert [(each["event"], each["creator_usn"], each["timestamp"], each["custom_data"]) for each in told] == [
            ("sponsor.created", 11, 1767225600, "100001|1767225500|abc"),
            ("sponsor.ended", 11, 1767225600, None),
            ("sponsor.ended", 11, 1767225600, "cb"),
            ("sponsor.created", 22, 1767225600, "cb"),
        ]
        assert {each["usn"] for each in told} == {100001}

    def test_a_boost_that_begins_or_ends_is_one_event_and_both_in_one_batch_are_a_change(self, gateway):
        gateway.send(event("created", "AAA11"), event("ended", "BBB22", user="7"))
        gateway.clock.shift(10)
        assert gateway.convert(event("created", "BBB22", user="8"), event("ended", "AAA11", user="8")) == [
            {"events": [{**REGISTERED, "creator_usn": 11}]},
            {"events": [{**REMOVED, "creator_usn": 22, "usn": 7}]},
            {"events": [{**REMOVED, "usn": 8}, {**REGISTERED, "usn": 8}]},
        ]

    def test_batches_go_out_one_by_one_and_players_each_by_itself(self, gateway):
        gateway.send(event("created", "AAA11"), event("created", "BBB22", user="7"), event("ended", "AAA11"))
        gateway.send(event("created", "BBB22"))
        assert gateway.run() is None

        assert gateway.bodies() == [
            {"events": [{**REGISTERED, "creator_usn": 11}, REMOVED]},
            {"events": [{**REGISTERED, "usn": 7}]},
            {"events": [REGISTERED]},
        ]
        assert gateway.states() == ["converted"] * 4

    @pytest.mark.parametrize(
        ("settings", "told", "expected"),
        [
            *(({}, {"user": user}, {"usn": int(user)}) for user in ("100001", "0", "9" * 255)),
            *(({}, {"user": user}, {"usn": user}) for user in ("alice", "007", "-5", "1.0", "٣", "하늘 💎")),
            ({"user_type": "string"}, {}, {"usn": "100001"}),
            ({"creator.AAA11": "17324966"}, {}, {"creator_usn": 17324966}),
            ({"creator.AAA11": "d-44"}, {}, {"creator_usn": "d-44"}),
            ({"creator.AAA11": " 11 "}, {}, {"creator_usn": 11}),
            ({"creator.AAA11": "0011"}, {}, {"creator_usn": "0011"}),
            ({}, {"callback": None}, {"custom_data": None}),
            ({"absent_custom_data": "empty"}, {"callback": None}, {"custom_data": ""}),
            ({}, {"callback": ODD_TEXT}, {"custom_data": ODD_TEXT}),
            ({"event.registered": "후원 시작"}, {}, {"event": "후원 시작"}),
            *(
                ({}, {"at": at}, {"timestamp": 1767323045})
                for at in ("2026-01-02T03:04:05.999999Z", "2026-01-02T03:04:05Z", "2026-01-02T12:04:05.5+09:00")
            ),
        ],
        ids=lambda value: ascii(value)[:40],
    )
    def test_a_boost_in_the_games_own_words(self, gateway, settings, told, expected):
        for key, value in settings.items():
            gateway.studio.config(f"playcamp.{key}", value)

        (body,) = gateway.convert(event("created", "AAA11", **told))

        assert body["events"][0] | expected == body["events"][0]

    def test_what_another_gateway_has_converted_keeps_its_number(self, gateway):
        made = {**REGISTERED, "creator_usn": 987654}

        assert gateway.convert(made) == [{"events": [made]}]

    def test_other_types_go_out_where_the_owner_wants_them(self, gateway):
        data = {"couponCode": "WELCOME", "userId": "100001", "usageId": 5}
        data["reward"] = [{"itemId": "gems", "itemQuantity": 100}]
        redeemed = {"event": "coupon.redeemed", "timestamp": "2026-01-02T03:04:05.678Z", "data": data}
        assert gateway.convert(redeemed) == []

        gateway.studio.config("playcamp.events.also", "payment.created, coupon.redeemed")
        redeemed["data"]["usageId"] = 6
        ((made,),) = (body["events"] for body in gateway.convert(redeemed))

        assert list(made) == ["event", "timestamp", "player_id", "data"]
        assert (made["event"], made["timestamp"], made["player_id"]) == ("coupon.redeemed", 1767323045, "100001")
        assert (made["data"]["usage_id"], made["data"]["items"]) == (6, [{"sku": "gems", "quantity": 100}])
        assert "WELCOME" not in json.dumps(made)

    def test_an_event_of_no_player_waits_for_nobody_and_holds_nobody_back(self, gateway):
        gateway.studio.config("playcamp.events.also", "payment.bulk_created")
        gateway.studio.config("playcamp.events.map", "{count: int(events[0].data.successful)}")
        bulk = {"event": "payment.bulk_created", "timestamp": "2026-01-02T03:04:05Z", "data": {}}
        good = {**bulk, "timestamp": "2026-01-02T03:04:06Z", "data": {"successful": 3}}
        gateway.send(bulk)
        gateway.send(good)

        assert gateway.run() == 60

        assert gateway.states() == ["parked", "converted"]
        assert gateway.bodies() == [{"count": 3}]
        assert [row["player_id"] for row in gateway.owed.deliveries()] == [None]


# The setting of overtaken events, how events are sent, and what the game is told. +22@5 begins BBB22 at 5 seconds, -11
# ends AAA11, 11>22 changes one for the other, ! marks a test and / another campaign. A string is one call; a number is
# how many seconds pass before the job runs.
PLAYED = {
    "within a batch time decides, and at the same time the end goes first": (
        "send",
        ["-22@2 +22@0 -11@0"],
        [["-11", "+22", "-22"]],
    ),
    "the other half of a test is a test": (
        "send",
        ["+11@-245", 10, "+11@-244!", 0, "+22@0", "-11@-0.003!", 3.1],
        [["+11"], ["+11"], ["+22"], ["-11"]],
    ),
    "of two beginnings the nearer one is the other half": (
        "send",
        ["+11@-245", 10, "+22@0", "+33@2", "-22@1.997", "-11@-0.003"],
        [["+11"], ["-11", "+22"], ["-22", "+33"]],
    ),
    "a beginning does not go before what came since": (
        "send",
        ["+11@-245", 10, "-11@0", "+33@1 -33@1.5", "+22@2", 3.1],
        [["+11"], ["-11"], ["+33", "-33"], ["+22"]],
    ),
    "half a change waits three seconds and no more": (
        "send",
        ["+11@-245", 10, "+22@0", 0, 3.1],
        [["+11"], ["+22"]],
    ),
    "by default everything is told as it comes": ("send", ["-11@5", 10, "+11@0", 10], [["-11"], ["+11"]]),
    "of a late call with a change what is not over is told": (
        "drop",
        ["+11@0", 0, "22>11@120", 0, "11>22@60"],
        [["+11"], ["-22", "+11"]],
    ),
    "a test overtakes no real event, nor does one of another campaign": (
        "drop",
        ["-11@60!", "-11@60/", "+11@0", "+11@1!", 10],
        [["-11"], ["-11"], ["+11"]],
    ),
    "an end that joins its change is told before what has begun again": (
        "drop",
        ["+11@-60", 10, "+22@0", "22>11@60", "-11@-0.003"],
        [["+11"], ["-11", "+22"], ["-22", "+11"]],
    ),
}


def written(text):
    """An event in the words of :data:`PLAYED`."""
    what, _, when = text.rstrip("!/").partition("@")
    name = {"+": "created", "-": "ended"}.get(what[0], "changed")
    creators = [{"11": "AAA11", "22": "BBB22", "33": "CCC33"}[each] for each in what.lstrip("+-").split(">")]
    told = {"isTest": True} if text.endswith("!") else {"campaign_id": "camp_2"} if text.endswith("/") else {}
    return event(name, *creators, at=at(float(when)), **told)


class TestOrder:
    """A change comes as an end and a beginning of one time, in any order, in one call or two."""

    def begun(self, gateway, clock):
        gateway.convert(event("created", "AAA11", at="2026-01-02T03:00:00Z"))
        clock.shift(10)

    @pytest.mark.parametrize("case", PLAYED)
    def test_what_is_told_and_in_which_order(self, gateway, clock, case):
        overtaken, steps, told = PLAYED[case]
        gateway.studio.config("playcamp.events.overtaken", overtaken)
        gateway.studio.config("playcamp.forward_test_events", "on")
        gateway.know(CCC33="33")

        for step in steps:
            if isinstance(step, str):
                gateway.send(*map(written, step.split()))
            else:
                clock.shift(step)
                gateway.run()
        gateway.run()

        assert gateway.told() == told

    @pytest.mark.parametrize("is_end_first", [True, False])
    @pytest.mark.parametrize("apart", [-3.0, -0.003, 0, 0.003, 3.0])
    def test_halves_in_calls_of_their_own_go_out_as_one_change(self, gateway, clock, is_end_first, apart):
        """Though their times may be a little apart."""
        self.begun(gateway, clock)
        halves = [event("ended", "AAA11", at=at(apart)), event("created", "BBB22")]

        gateway.send(halves[not is_end_first])
        assert 0 < gateway.run() <= 3.001
        assert len(gateway.bodies()) == 1
        clock.shift(0.1)
        gateway.send(halves[is_end_first])
        assert gateway.run() is None

        assert gateway.told()[1:] == [["-11", "+22"]]
        assert gateway.supported() == ["BBB22"]
        assert gateway.states() == ["converted"] * 3

    @pytest.mark.parametrize(
        "other",
        [
            event("ended", "AAA11", at=at(-3.001)),
            event("ended", "AAA11", campaign_id="camp_2"),
            event("ended", "AAA11", user="7"),
            event("created", "AAA11", at=at(0.001)),
            event("ended", "BBB22", at=at(0.001)),
        ],
        ids=["more than three seconds apart", "campaign", "player", "both begin", "the same creator"],
    )
    def test_what_is_no_other_half_goes_out_by_itself(self, gateway, clock, other):
        self.begun(gateway, clock)
        gateway.send(event("created", "BBB22"))

        gateway.send(other)
        clock.shift(3.1)
        gateway.run()

        assert [len(body["events"]) for body in gateway.bodies()[1:]] == [1, 1]

    def test_what_comes_of_the_player_meanwhile_goes_out_after_the_change(self, gateway, clock):
        self.begun(gateway, clock)
        gateway.send(event("created", "BBB22"), event("created", "BBB22", user="7"))
        gateway.send(event("changed", "BBB22", "AAA11", at="2026-01-02T03:05:00Z"))
        gateway.run()
        gateway.send(event("ended", "AAA11"))
        gateway.run()

        assert [[each["usn"] for each in body["events"]] for body in gateway.bodies()[1:]] == [[7], *[[100001] * 2] * 2]
        assert gateway.bodies()[2] == {"events": [REMOVED, REGISTERED]}


STORY = {  # in the order of time
    "begun and ended": ([("created", "AAA11"), ("ended", "AAA11")], []),
    "begun and changed": ([("created", "AAA11"), ("changed", "AAA11", "BBB22")], ["BBB22"]),
    "begun again": ([("created", "AAA11"), ("ended", "AAA11"), ("created", "AAA11")], ["AAA11"]),
    "changed back": ([("created", "AAA11"), ("changed", "AAA11", "BBB22"), ("changed", "BBB22", "AAA11")], ["AAA11"]),
    "changed and ended": ([("created", "AAA11"), ("changed", "AAA11", "BBB22"), ("ended", "BBB22")], []),
}


def believed(told):
    """Whom the player supports, as the game has it from what it was told, in that order."""
    creator = None
    for each in chain.from_iterable(told):
        if each[0] == "+":
            creator = each[1:]
        elif creator == each[1:]:
            creator = None
    return [] if creator is None else [{"11": "AAA11", "22": "BBB22", "33": "CCC33"}[creator]]


@st.composite
def stories(draw):
    """Events of a boost in the order of their times, which are all different."""
    made, supported, seconds = [], None, 0.0
    for _ in range(draw(st.integers(1, 7))):
        seconds += draw(st.sampled_from([0.003, 0.5, 2.0, 4.0, 60.0]))
        creators = [key for key in ("AAA11", "BBB22", "CCC33") if key != supported]
        if supported is None:
            supported = draw(st.sampled_from(creators))
            made.append(("created", supported, at(seconds)))
        elif draw(st.booleans()):
            made.append(("ended", supported, at(seconds)))
            supported = None
        else:
            other = draw(st.sampled_from(creators))
            if draw(st.booleans()):
                made.append(("changed", supported, other, at(seconds)))
            else:
                made.append(("ended", supported, at(seconds)))
                seconds += draw(st.sampled_from([0.003, 1.0]))
                made.append(("created", other, at(seconds)))
            supported = other
    return made, [] if supported is None else [supported]


class TestOvertaken:
    """What is over when it comes is kept, and not told to the game after what is so since, if its owner wants that."""

    @pytest.fixture(autouse=True)
    def drop(self, gateway):
        gateway.studio.config("playcamp.events.overtaken", "drop")

    @pytest.mark.parametrize("name", STORY)
    @pytest.mark.parametrize("marks", [{}, {"isTest": True}, {"campaign_id": ""}], ids=["", "test", "no campaign"])
    def test_what_the_game_is_told_last_is_what_it_hears_when_it_asks(self, gateway, clock, name, marks):
        gateway.studio.config("playcamp.forward_test_events", "on")
        story, supported = STORY[name]

        for user, order in enumerate(permutations(range(len(story))), 1):
            for number in order:
                what, *creators = story[number]
                gateway.send(event(what, *creators, user=str(user), at=at(60 * number), **marks))
                clock.shift(10)
                gateway.run()

            assert gateway.supported(str(user)) == believed(gateway.told(str(user))) == supported, order

    @pytest.mark.parametrize("name", STORY)
    def test_one_call_is_told_whole_and_in_order_however_it_is_ordered(self, gateway, name):
        story, supported = STORY[name]
        signs = {"created": ["+"], "ended": ["-"], "changed": ["-", "+"]}
        numbers = {"AAA11": "11", "BBB22": "22"}
        in_order = [sign + numbers[key] for what, *keys in story for sign, key in zip(signs[what], keys, strict=True)]

        for user, order in enumerate(permutations(range(len(story))), 1):
            events = [event(*story[number], user=str(user), at=at(60 * number)) for number in order]
            gateway.convert(*events)

            assert gateway.told(str(user)) == [in_order]
            assert gateway.supported(str(user)) == believed([in_order]) == supported

    def test_a_late_beginning_is_kept_and_not_told(self, gateway, clock):
        gateway.send(event("ended", "AAA11", at=at(5)))
        gateway.send(event("created", "AAA11", at=at(0)))
        clock.shift(10)

        assert gateway.run() is None

        assert gateway.told() == [["-11"]]
        assert [row["type"] for row in gateway.db("SELECT type FROM events")] == ["sponsor.ended", "sponsor.created"]
        assert gateway.states() == ["converted"]

    @pytest.mark.parametrize("turns", range(1, 5))
    def test_of_what_another_gateway_has_converted_the_later_call_of_a_second_counts(self, gateway, clock, turns):
        words = ["sponsor.created", "sponsor.ended"] * 2
        for number, word in enumerate(words[:turns]):
            gateway.send({**REGISTERED, "creator_usn": 11, "event": word}, **{"X-Gateway-Delivery": f"d-{number}"})
            clock.shift(4)
            gateway.run()

        assert gateway.told() == [["+11"], ["-11"], ["+11"], ["-11"]][:turns]
        assert gateway.supported() == believed(gateway.told()) == (["AAA11"] if turns % 2 else [])

    @pytest.mark.parametrize(("number", "told"), [(11, [["-11"]]), (5, [["-5"], ["+5"]])])
    def test_of_another_gateways_what_is_over_is_not_told_where_the_creator_is_known(self, gateway, number, told):
        late = {**REGISTERED, "creator_usn": number}
        gateway.send({**late, "event": "sponsor.ended", "timestamp": late["timestamp"] + 1})
        gateway.clock.shift(4)
        gateway.convert(late)

        assert gateway.told() == told
        assert gateway.supported() == []

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(story=stories(), data=st.data())
    def test_in_whatever_order_and_calls_a_story_comes_the_game_has_its_end(self, gateway, clock, story, data):
        gateway.know(CCC33="33")
        told, supported = story
        (last,) = gateway.db("SELECT count(DISTINCT player_id) AS player FROM events")
        player = str(last["player"])  # one for each example
        events = [event(what, *creators, user=player, at=when) for what, *creators, when in told]
        again = data.draw(st.lists(st.sampled_from(events), max_size=3))
        left = data.draw(st.permutations(events + again))

        while left:
            count = data.draw(st.sampled_from([1, 1, 1, 2, 3]))
            gateway.send(*left[:count])
            left = left[count:]
            if data.draw(st.booleans()):
                clock.shift(data.draw(st.sampled_from([0.1, 4])))
                gateway.run()
        clock.shift(4)
        assert gateway.run() is None

        assert gateway.supported(player) == supported
        assert believed(gateway.told(player)) == supported


class TestExpression:
    @pytest.mark.parametrize(
        ("expression", "settings", "body"),
        [
            (
                "events[].{userId: player_id, creator: creator_key, kind: lookup('kind', event), at: iso(occurred_at)}",
                {"lookup.kind.sponsor.ended": "OFF", "lookup.kind.sponsor.created": "ON"},
                [
                    {"userId": "100001", "creator": "AAA11", "kind": "OFF", "at": "2026-01-02T03:04:05.678Z"},
                    {"userId": "100001", "creator": "BBB22", "kind": "ON", "at": "2026-01-02T03:04:05.678Z"},
                ],
            ),
            (
                "{header: {count: length(events), test: events[0].is_test}, "
                "rows: events[].[usn, creator_usn, time(timestamp, '%Y-%m-%d %H:%M:%S'), upper(event)]}",
                {"playcamp.payments.zone": "Asia/Seoul"},
                {
                    "header": {"count": 2, "test": False},
                    "rows": [
                        [100001, 11, "2026-01-02 12:04:05", "SPONSOR.ENDED"],
                        [100001, 22, "2026-01-02 12:04:05", "SPONSOR.CREATED"],
                    ],
                },
            ),
            (
                "{campaign: events[0].campaign_id, was: events[?event=='end'].creator_usn | [0], "
                "now: events[?event=='begin'].creator_usn | [0], ms: unix_ms(events[0].occurred_at)}",
                {"playcamp.event.removed": "end", "playcamp.event.registered": "begin"},
                {"campaign": "camp_1", "was": 11, "now": 22, "ms": 1767323045678},
            ),
        ],
    )
    def test_formats_of_all_shapes_by_configuration_alone(self, gateway, expression, settings, body):
        gateway.studio.config("playcamp.events.map", expression)
        for key, value in settings.items():
            gateway.studio.config(key, value)

        assert gateway.convert(body=CHANGED) == [body]

    def test_what_an_expression_cannot_convert_is_parked_until_it_can(self, gateway):
        gateway.send(body=CHANGED)
        for expression, reason in {
            "{a: int(events[0].custom_data)}": "playcamp.events.map: int() takes a whole number",
            "events[9]": "playcamp.events.map: it makes neither an object nor a list of this",
            "events[0].usn": "playcamp.events.map: it makes neither an object nor a list of this",
            "{a: time(events[0].usn, '%q')}": "playcamp.events.map: time() takes a format",
        }.items():
            gateway.studio.config("playcamp.events.map", expression)

            assert gateway.run() == 60

            assert gateway.bodies() == []
            assert gateway.states() == ["parked", "waiting"]
            assert gateway.reasons()[0].startswith(reason), expression
            assert "cb-1" not in gateway.reasons()[0]

        gateway.studio.config("playcamp.events.map", "")
        assert gateway.run() is None
        assert gateway.bodies() == [{"events": [REMOVED, REGISTERED]}]


class TestParked:
    def test_an_unknown_creator_holds_back_its_player_alone(self, gateway, caplog):
        gateway.send(event("created", "CCC33"), event("created", "AAA11", user="7"))
        gateway.send(event("ended", "CCC33"), event("ended", "AAA11", user="7"))
        gateway.send(event("created", "AAA11", at="2026-01-02T03:05:00Z"))

        assert gateway.run() == 60

        assert [body["events"][0]["usn"] for body in gateway.bodies()] == [7, 7]
        assert gateway.states() == ["parked", "converted", "waiting", "converted", "waiting"]
        reason = "creator CCC33 has no creator_usn: flask config set demo playcamp.creator.CCC33 NUMBER"
        assert gateway.reasons() == [reason]
        assert reason in caplog.text
        assert "cb-1" not in caplog.text

        gateway.know(CCC33="33")
        assert gateway.run() is None
        held = [body["events"][0] for body in gateway.bodies() if body["events"][0]["usn"] == 100001]
        assert [(each["creator_usn"], each["event"]) for each in held] == [
            (33, "sponsor.created"),
            (33, "sponsor.ended"),
            (11, "sponsor.created"),
        ]
        assert gateway.reasons() == []

    def test_a_change_goes_out_whole_or_not_at_all(self, gateway):
        gateway.know(BBB22="")

        assert gateway.convert(body=CHANGED) == []
        assert gateway.states() == ["waiting", "parked"]

        gateway.know(AAA11="", BBB22="22")
        gateway.run()
        assert gateway.states() == ["parked", "waiting"]
        assert gateway.bodies() == []

        gateway.know(AAA11="11")
        gateway.run()
        assert gateway.bodies() == [{"events": [REMOVED, REGISTERED]}]

    def test_it_is_told_once_and_dated_from_then(self, gateway, clock, caplog):
        gateway.convert(event("created", "CCC33"))
        (before,) = conversion_queue.parked(gateway.installation.database.read(), gateway.studio.row["id"])
        clock.shift(3600)
        gateway.run()

        (now,) = conversion_queue.parked(gateway.installation.database.read(), gateway.studio.row["id"])
        assert dict(now) == dict(before)
        assert (now["event_type"], now["player_id"]) == ("sponsor.created", "100001")
        assert caplog.text.count("is parked") == 1

    def test_the_doctor_says_what_is_parked(self, gateway, app):
        gateway.convert(event("created", "CCC33"), event("created", "DDD44", user="7"))

        told = app.test_cli_runner().invoke(args=["doctor"]).output

        assert "2 events do not fit the game's own format" in told
        assert "flask playcamp parked demo" in told

        gateway.know(CCC33="33", DDD44="44")
        gateway.run()
        assert "do not fit" not in app.test_cli_runner().invoke(args=["doctor"]).output

    def test_a_key_that_is_no_key_makes_no_command_of_its_own(self, gateway):
        gateway.convert(event("created", "x; rm -rf ~"))

        assert gateway.reasons()[0].endswith("flask config set demo 'playcamp.creator.x; rm -rf ~' NUMBER")

    def test_the_relay_looks_again_within_a_minute(self, gateway, clock):
        with Receiver() as receiver:
            gateway.owed.write(lambda tx: tx.execute("UPDATE destinations SET url = :url", {"url": receiver.url}))
            gateway.send(event("created", "CCC33"))
            gateway.owed.drain()
            gateway.know(CCC33="33")
            clock.shift(60)
            gateway.owed.drain()

        (request,) = receiver.requests
        assert json.loads(request.body)["events"][0]["creator_usn"] == 33

    def test_what_nobody_wants_is_not_parked(self, installation, studio, client, db, clock):
        gateway = Gateway(installation, studio, client, db, clock)
        gateway.owed.destination("standard")
        gateway.owed.destination("coupons", format="playcamp", events="playcamp.coupon.*")
        gateway.send(event("created", "CCC33"))

        assert gateway.run() is None

        assert gateway.states() == []
        assert [row["event_type"] for row in gateway.owed.deliveries()] == ["sponsor.created"]
        assert len(db("SELECT * FROM events")) == 1

    def test_games_do_not_meet(self, gateway, installation, client, db):
        other = Gateway(installation, Studio(installation, "other"), client, db, gateway.clock)
        other.owed.destination("theirs", format="playcamp")
        gateway.send(event("created", "AAA11"))
        other.send(event("created", "AAA11"))

        assert (gateway.run(), other.run()) == (None, 60)

        assert other.reasons() == [
            "creator AAA11 has no creator_usn: flask config set other playcamp.creator.AAA11 NUMBER"
        ]
        assert gateway.reasons() == []


class TestLookup:
    def asked(self, playcamp):
        return [path.rpartition("/")[2] for path in playcamp.routes]

    def test_playcamp_is_asked_once_an_hour(self, gateway, playcamp, clock):
        gateway.send(event("created", "AAA11"), event("created", "AAA11", user="7"))
        assert gateway.run() is None
        assert [body["events"][0]["creator_usn"] for body in gateway.bodies()] == [11, 11]

        clock.shift(3599)
        gateway.convert(event("created", "AAA11", user="8"))
        assert self.asked(playcamp) == ["AAA11"]

        clock.shift(2)
        gateway.convert(event("created", "AAA11", user="9"))
        assert self.asked(playcamp) == ["AAA11", "AAA11"]

    def test_the_owners_table_goes_first(self, gateway, playcamp, clock):
        gateway.know(AAA11="1")

        (body,) = gateway.convert(event("created", "AAA11"))

        assert body["events"][0]["creator_usn"] == 1
        assert playcamp.routes == []

    def test_a_creator_playcamp_does_not_know_is_asked_for_every_five_minutes(self, gateway, playcamp, clock):
        gateway.send(event("created", "CCC33"))
        assert gateway.run() == 60
        assert gateway.reasons() == [
            "creator CCC33 has no creator_usn, and PlayCamp has none for it: "
            "flask config set demo playcamp.creator.CCC33 NUMBER"
        ]
        playcamp.creators["CCC33"] = {"creatorId": 33, "creatorKey": "CCC33"}

        clock.shift(299)
        assert gateway.run() == 60
        assert self.asked(playcamp) == ["CCC33"]

        clock.shift(2)
        assert gateway.run() is None
        assert [body["events"][0]["creator_usn"] for body in gateway.bodies()] == [33]

    def test_an_answer_without_its_number_is_none(self, gateway, playcamp, clock):
        odd = (..., None, "CCC03", True, 1.5)
        told = {f"CCC0{n}": {"creatorKey": f"CCC0{n}", "creatorId": number} for n, number in enumerate(odd)}
        del told["CCC00"]["creatorId"]
        told["CCC06"] = {"creatorKey": "DDD44", "creatorId": 33}
        playcamp.creators.update(told)

        assert gateway.convert(*(event("created", key, user=key) for key in told)) == []

        assert ["PlayCamp has none for it" in reason for reason in gateway.reasons()] == [True] * 6

    def test_while_playcamp_is_down_it_is_asked_once_a_run_and_nobody_else_waits(self, gateway, playcamp, clock):
        gateway.know(BBB22="22")
        playcamp.trouble("GET", "/v1/server/creators/AAA11", broken(503))
        gateway.send(
            event("created", "AAA11"), event("created", "CCC33", user="8"), event("created", "BBB22", user="7")
        )

        assert gateway.run() == 60

        assert [body["events"][0]["usn"] for body in gateway.bodies()] == [7]
        assert self.asked(playcamp) == ["AAA11"]
        assert [reason.partition(":")[0] for reason in gateway.reasons()] == [
            "creator AAA11 has no creator_usn, and PlayCamp could not be asked for it",
            "creator CCC33 has no creator_usn, and PlayCamp could not be asked for it",
        ]

        gateway.run()
        assert [body["events"][0]["usn"] for body in gateway.bodies()] == [7, 100001]
        assert self.asked(playcamp) == ["AAA11", "AAA11", "CCC33"]

    def test_what_cannot_be_asked_for_is_not_and_the_reason_says_so(self, gateway, playcamp, clock):
        installation, row = gateway.installation, gateway.studio.row

        assert gateway.convert(event("created", "../payments")) == []
        gateway.studio.config("playcamp.creator_lookup", "off")
        assert gateway.convert(event("created", "AAA11", user="7")) == []
        gateway.studio.config("playcamp.creator_lookup", "on")
        installation.database.write_here(lambda tx: keyring.delete(tx, row, "playcamp.api_key"))
        assert gateway.convert(event("created", "AAA11", user="8")) == []

        assert playcamp.routes == []
        assert "playcamp.api_key is not set" in gateway.reasons()[-1]


class TestOnce:
    def test_whoever_comes_second_owes_nothing(self, gateway):
        gateway.send(body=CHANGED)
        game_id = gateway.studio.row["id"]
        (group,) = conversion_queue.open_groups(gateway.installation.database.read(), game_id)

        counts = [gateway.owed.write(lambda tx: conversion_queue.convert(tx, game_id, group, b"{}")) for _ in range(2)]
        gateway.owed.write(lambda tx: conversion_queue.put_off(tx, group[0], "late"))
        gateway.owed.write(lambda tx: conversion_queue.drop(tx, group))

        assert counts == [1, 0]
        assert len(gateway.owed.deliveries()) == 1
        assert gateway.states() == ["converted", "converted"]

    def test_a_crash_in_the_write_leaves_it_all_to_be_done(self, gateway):
        gateway.send(body=CHANGED)
        with (
            databases.Fault(gateway.owed.installation, "INSERT ON deliveries", "crash"),
            pytest.raises(Exception, match="crash"),
        ):
            gateway.run()
        assert gateway.states() == ["waiting", "waiting"]

        gateway.run()
        assert gateway.bodies() == [{"events": [REMOVED, REGISTERED]}]

    def test_a_batch_is_whole_wherever_a_page_of_rows_ends(self, gateway, monkeypatch):
        monkeypatch.setattr(conversion_queue, "ROWS_AT_ONCE", 3)
        monkeypatch.setattr(conversion, "CHANGES_AT_ONCE", 2)
        for minute in range(5):
            at = f"2026-01-02T03:{minute:02}:00Z"
            gateway.send(*(event("changed", "AAA11", "BBB22", user=user, at=at) for user in ("7", "8")))

        assert gateway.run() is None

        bodies = gateway.bodies()
        assert [[each["creator_usn"] for each in body["events"]] for body in bodies] == [[11, 22]] * 10
        assert [body["events"][0]["usn"] for body in bodies] == [7, 8] * 5

    def test_a_run_out_of_time_goes_on_at_once(self, gateway, monkeypatch):
        gateway.send(body=CHANGED)
        monkeypatch.setattr(conversion, "RUN_SECONDS", 0.0)
        assert gateway.run() == 0.0
        assert gateway.states() == ["waiting", "waiting"]

        monkeypatch.undo()
        assert gateway.run() is None
        assert gateway.states() == ["converted", "converted"]

    @pytest.mark.parametrize(("wish", "told"), [("auto", 0), ("off", 0), ("on", 2)])
    def test_what_was_parked_in_the_sandbox_stays_there_when_the_game_goes_live(self, gateway, wish, told):
        gateway.studio.config("playcamp.environment", "sandbox")
        gateway.studio.config("playcamp.forward_test_events", wish)
        gateway.convert(event("created", "CCC33"), event("created", "CCC33", user="7"))
        assert gateway.states() == ["parked", "parked"]

        gateway.studio.config("playcamp.environment", "live")
        gateway.know(CCC33="33")
        gateway.run()

        assert sum(len(body["events"]) for body in gateway.bodies()) == told
        gateway.convert(event("created", "AAA11", at="2026-01-02T03:05:00.000Z"))
        assert [each["creator_usn"] for each in gateway.bodies()[-1]["events"]] == [11]

    def test_test_events_stay_here_unless_wanted(self, gateway):
        assert gateway.convert(event("created", "AAA11", isTest=True)) == []

        gateway.studio.config("playcamp.forward_test_events", "on")
        gateway.studio.config("playcamp.events.map", "events[].is_test")
        assert gateway.convert(event("ended", "AAA11", user="7", isTest=True)) == [[True]]


class TestDelivery:
    @pytest.fixture
    def deliver(self, gateway, clock):
        """Aim the destination at a receiver; returns its signing secret."""

        def aim(receiver, **rest):
            gateway.owed.set_state("game", "removed")
            return gateway.owed.destination(format="playcamp", url=receiver.url, **rest)

        return aim

    def test_both_halves_of_a_change_arrive_in_one_post_with_the_gateways_headers(self, gateway, deliver):
        with Receiver(status(200, b'{"result": "ok"}')) as receiver:
            secret = deliver(receiver)
            gateway.send(body=CHANGED)
            gateway.owed.drain()

        (request,) = receiver.requests
        assert json.loads(request.body) == {"events": [REMOVED, REGISTERED]}
        at = request.headers["x-gateway-timestamp"]
        expected = hmac.new(secret.encode(), f"{at}.".encode() + request.body, hashlib.sha256).hexdigest()
        assert request.headers["x-gateway-signature"] == expected
        assert request.headers["x-gateway-attempt"] == "1"
        assert request.headers["content-type"] == "application/json"
        (delivery,) = gateway.owed.deliveries()
        assert request.headers["x-gateway-delivery"] == delivery["webhook_id"]
        (first,) = gateway.db("SELECT min(id) AS id FROM events")
        assert (delivery["state"], delivery["event_id"], delivery["player_id"]) == ("delivered", first["id"], "100001")

    def test_after_anything_but_200_the_same_bytes_are_sent_again(self, gateway, deliver, clock):
        with Receiver(status(201), status(200)) as receiver:
            deliver(receiver)
            gateway.send(body=CHANGED)
            gateway.owed.drain()
            gateway.know(AAA11="99")
            gateway.studio.config("playcamp.events.map", "{other: `1`}")
            clock.shift(12)
            gateway.owed.drain()

        first, second = receiver.requests
        assert first.body == second.body
        assert [each.headers["x-gateway-attempt"] for each in receiver.requests] == ["1", "2"]
        assert [row["state"] for row in gateway.owed.deliveries()] == ["delivered"]

    def test_a_standard_destination_has_the_events_themselves_besides(self, gateway, deliver):
        with Receiver() as theirs, Receiver() as ours:
            deliver(theirs)
            gateway.owed.destination("ours", url=ours.url)
            gateway.send(body=CHANGED)
            gateway.owed.drain()

        assert len(theirs.requests) == 1
        assert sorted(json.loads(request.body)["type"] for request in ours.requests) == [
            "sponsor.created",
            "sponsor.ended",
        ]
