"""Payments are kept once each, pushed by the game or out of our own orders, and served to a gateway that asks."""

import hashlib
import json
import threading
from datetime import UTC, datetime

import pytest

from coinslot.base import clock as time_of
from coinslot.ledger import policies, refunds
from coinslot.operations import troubles
from coinslot.payments import lists, queries
from coinslot.payments import parsing as payment_report
from coinslot.payments import payment_queue as queue
from coinslot.payments import store as payments
from coinslot.payments.fields import Rules
from coinslot.payments.payment_queue import REFUND, REGISTER
from coinslot.relay import jobs
from coinslot.store.paging import LAST_ID
from handlers.playcamp.payments import own_orders, rechecking
from handlers.playcamp.payments.rules import fingerprint
from handlers.playcamp.settings import DISTRIBUTION_TYPES, MARKETS, PLATFORMS
from tests.books import quarantine
from tests.conftest import Studio
from tests.fakes.playcamp import PlayCamp

KEY = "test-payments-key"
API_KEY = "ak_server_test:secret"
NOW = 1_790_000_000  # 2026-09-21T14:13:20Z
RULES = Rules(PLATFORMS, DISTRIBUTION_TYPES, MARKETS)
PATH = "/playcamp/demo/payments"


@pytest.fixture(autouse=True)
def now(clock):
    clock.move_to(NOW)
    return clock


@pytest.fixture
def push(client, studio):
    def post(*rows, raw=None):
        return client.post(
            "/game/v1/payments",
            data=json.dumps({"payments": rows}) if raw is None else raw,
            headers={"Authorization": f"Bearer {studio.token}"},
        )

    return post


@pytest.fixture
def report(write, studio):
    """Store what a source says of a payment; returns the outcome."""

    def store(source="poll", is_registering=True, **changed):
        found = payment_report.check(paid(**changed), RULES, source)
        return write(payments.store, studio.row["id"], found, is_registering=is_registering)

    return store


@pytest.fixture
def game(installation, studio):
    """The game as it is configured by now, each time it is called."""
    return lambda: installation.games.by_slug("demo")


@pytest.fixture
def recheck(installation, game):
    return lambda: rechecking.run(installation, game())


@pytest.fixture
def take(installation, game):
    """What the job does about our own orders."""
    return lambda: own_orders.run(installation, game())


@pytest.fixture
def order(post_order):
    """An order of the store, paid ``ago`` seconds ago."""

    def post(order_id="o1", ago=100, **changed):
        answer = post_order(orderId=order_id, purchaseDateAndTimeUtc=iso(NOW - ago), **changed)
        assert answer.status_code == 200, answer.text

    return post


@pytest.fixture
def ask(client):
    """The payment query, proved as a gateway does."""

    def get(path=PATH, key=KEY, at=None, headers=None, **arguments):
        words = "&".join(f"{name.rstrip('_')}={value}" for name, value in arguments.items())
        timestamp = str(NOW if at is None else at)
        proof = {
            "X-Partner": "demo",
            "X-Timestamp": timestamp,
            "X-Fingerprint": made("GET", path, words, timestamp, key),
        }
        return client.get(f"{path}?{words}" if words else path, headers=proof | (headers or {}))

    return get


@pytest.fixture
def served(ask):
    """The payments of the last hour, as the query serves them."""
    return lambda: ask(from_=NOW - 3600, to=NOW).json["payments"]


@pytest.fixture
def guarded(studio):
    studio.secret("playcamp.payments_key", KEY)


def made(method, path, words, timestamp, key):
    """The fingerprint, written down anew from its description."""
    ordered = "&".join(sorted(words.split("&")))
    return hashlib.sha256(f"{method}\n{path}\n{ordered}\n{timestamp}\n{key}".encode()).hexdigest()


def paid(transaction_id="GP-1", **changed):
    payment = {
        "transactionId": transaction_id,
        "userId": "100001",
        "productId": "gem_100",
        "productName": "100 gems",
        "amount": "9900",
        "currency": "KRW",
        "market": "google",
        "purchasedAt": iso(NOW - 60),
    }
    return {name: value for name, value in (payment | changed).items() if value is not ...}


def iso(seconds):
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def counted(answer):
    assert answer.status_code == 200, answer.text
    return {name: value for name, value in answer.json.items() if value}


def test_a_row_that_cannot_be_mapped_is_kept_as_the_game_wrote_it():
    mapped, raw = paid(transactionId=...), {"id": 7}
    broken = payment_report.check(None, RULES, "poll", raw=raw)
    bare = payment_report.check(["x"], RULES, "poll")
    nameless = [payment_report.check(mapped, RULES, "poll", raw=each) for each in (raw, {"id": 8})]

    assert [json.loads(each.row) for each in (broken, bare)] == [{"unmapped": raw}, {"unmapped": ["x"]}]
    assert {each.problem for each in (broken, bare)} == {"the mapping did not produce an object"}
    assert len({each.transaction_id for each in (*nameless, payment_report.check(mapped, RULES, "poll"))}) == 3


def test_queries_keep_to_their_game_and_range(report, push, write, installation, studio, stored, now):
    other = Studio(installation, "other")
    for seconds in (10, 20, 30):
        report(transaction_id=f"GP-{seconds}", purchasedAt=NOW - seconds, is_registering=False)
    push(paid("GP-5", purchasedAt=NOW - 5))
    connection, game_id = installation.database.read(), studio.row["id"]
    ids = {name: row["id"] for name, row in stored().items()}
    before = stored()

    from_at, to_at = time_of.stamp(NOW - 20), time_of.stamp(NOW - 5)
    assert queries.count_between(connection, game_id, from_at, to_at) == 2
    assert queries.count_between(connection, other.row["id"], from_at, to_at) == 0
    assert queries.newest_polled(connection, game_id, time_of.stamp(NOW)) == time_of.stamp(NOW - 10)
    assert queries.newest_polled(connection, game_id, time_of.stamp(NOW - 30)) is None
    assert queries.kept(connection, game_id, "poll", 9, time_of.stamp(NOW - 20)) == [ids["GP-10"], ids["GP-20"]]
    now.shift(1)
    write(payments.note_attribution, game_id, "GP-20")
    write(payments.note_attribution, other.row["id"], "GP-10")
    assert [name for name, row in stored().items() if row != before[name]] == ["GP-20"]


# Pushed


def test_a_pushed_payment_is_stored_with_its_exact_amount_and_waits_to_be_registered(push, studio, stored, db):
    studio.secret("playcamp.api_key", API_KEY)

    answer = push(paid(amount="0.30000000000000004"), paid("GP-2", amount=9.99, currency="usd"))
    push(raw=json.dumps({"payments": [paid("GP-3")]}).replace('"9900"', "123456789012345.67"))

    assert answer.json == {"stored": 2, "known": 0, "refunded": 0, "conflicts": [], "parked": []}
    row = stored()["GP-1"]
    assert (row["amount"], row["currency"], row["player_id"]) == ("0.30000000000000004", "KRW", "100001")
    assert (row["platform"], row["distribution_type"], row["source"]) == ("Android", "MOBILE_STORE", "push")
    assert (row["state"], row["purchased_at"]) == ("waiting", time_of.stamp(NOW - 60))
    assert (stored()["GP-2"]["amount"], stored()["GP-2"]["currency"]) == ("9.99", "USD")
    assert stored()["GP-3"]["amount"] == "123456789012345.67"
    assert db("SELECT name, due_at FROM schedules") == [{"name": "playcamp.register", "due_at": time_of.stamp(NOW)}]


def test_a_repeat_is_known_however_it_is_written(push, stored):
    push(paid())

    again = [
        paid(amount=9900),
        paid(amount="9900.00", currency="krw"),
        paid(purchasedAt=NOW - 60),
        paid(purchasedAt=iso(NOW - 61)),
        paid(purchasedAt=(NOW - 60) * 1000 + 500),
        paid(purchasedAt=iso(NOW - 60 + 9 * 3600).replace("Z", "+09:00")),
        paid(productName="100 Edelsteine"),
        paid(market=..., platform="android", distributionType="mobile_store"),
    ]

    assert counted(push(*again)) == {"known": len(again)}
    assert stored()["GP-1"]["product_name"] == "100 gems"


@pytest.mark.parametrize(
    "changed",
    [{"amount": "9901"}, {"currency": "USD"}, {"userId": "100002"}, {"productId": "gem_200"},
     {"purchasedAt": iso(NOW - 62)}, {"market": "apple"}],
)  # fmt: skip
def test_other_content_is_a_conflict_that_a_person_judges_and_stops_no_other_payment(push, claim, stored, db, changed):
    push(paid())
    claim()
    before = stored()["GP-1"]

    answer = push(paid(**changed), paid("GP-2"), paid(**changed))

    assert counted(answer) == {"stored": 1, "conflicts": ["GP-1"]}
    assert stored()["GP-1"] == before
    assert db("SELECT payment_id, seen FROM payment_conflicts") == [{"payment_id": before["id"], "seen": 2}]


def test_paid_may_become_refunded_and_never_paid_again(push, stored):
    push(paid())

    assert counted(push(paid(status="refunded", refunded_at=iso(NOW - 10)))) == {"refunded": 1}
    assert counted(push(paid(status="refunded", refunded_at=iso(NOW - 5)))) == {"known": 1}
    assert counted(push(paid())) == {"known": 1}
    row = stored()["GP-1"]
    assert (row["refunded_at"], row["state"], row["refund_state"]) == (time_of.stamp(NOW - 10), "waiting", "waiting")


def test_a_batch_may_hold_the_same_payment_twice_but_not_with_two_contents(push, stored, db):
    assert counted(push(paid(), paid(), paid(status="refunded"))) == {"stored": 1, "known": 1, "refunded": 1}
    assert stored()["GP-1"]["refunded_at"] == time_of.stamp(NOW)

    assert counted(push(paid("GP-2"), paid("GP-2", amount="100"))) == {"stored": 1, "conflicts": ["GP-2"]}
    assert stored()["GP-2"]["amount"] == "9900"
    assert db("SELECT count(*) AS conflicts FROM payment_conflicts") == [{"conflicts": 1}]
    assert counted(push(paid("GP-2", amount="100"))) == {"stored": 1}  # in a call of its own it is a correction


def test_two_pushes_at_once_store_a_payment_once(app, studio, db):
    answers = []
    barrier = threading.Barrier(4)
    token = {"Authorization": f"Bearer {studio.token}"}

    def post():
        barrier.wait()
        answers.append(app.test_client().post("/game/v1/payments", json={"payments": [paid()]}, headers=token))

    threads = [threading.Thread(target=post) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert sorted(answer.json["stored"] for answer in answers) == [0, 0, 0, 1]
    assert sum(answer.json["known"] for answer in answers) == 3
    assert db("SELECT count(*) AS payments FROM payments") == [{"payments": 1}]


@pytest.mark.parametrize("amount", [0, "0", "0.001", "0.00"])
def test_what_costs_nothing_is_kept_and_never_registered(push, claim, stored, amount):
    assert counted(push(paid(amount=amount))) == {"stored": 1}

    assert (stored()["GP-1"]["state"], stored()["GP-1"]["reason"]) == ("kept", "the amount is below 0.01")
    assert claim() == []


def test_words_are_written_as_playcamp_spells_them(push, stored):
    push(paid(market=..., platform="ios", distributionType="Mobile_Store"), paid("GP-2", market="STEAM"))

    found = {name: (row["platform"], row["distribution_type"]) for name, row in stored().items()}
    assert found == {"GP-1": ("iOS", "MOBILE_STORE"), "GP-2": ("Other", "PC_STORE")}


def test_an_unknown_market_is_parked_and_registered_once_the_owner_says_what_it_is(push, studio, installation, stored):
    answer = push(paid(market="MyShop"), paid("GP-2", market=...))

    assert counted(answer)["parked"] == [
        {"transaction_id": "GP-1", "reason": "market MyShop is in no table"},
        {"transaction_id": "GP-2", "reason": "it has neither a market nor both platform and distributionType"},
    ]
    installation.new_relay().drain()
    assert {row["state"] for row in stored().values()} == {"parked"}

    studio.config("playcamp.market.myshop", "Web,PC_SELF_STORE")
    installation.new_relay().drain()

    row = stored()["GP-1"]
    assert (row["state"], row["reason"], row["platform"]) == ("waiting", None, "Web")
    assert stored()["GP-2"]["state"] == "parked"


def test_a_parked_payment_is_mended_by_a_better_report(push, stored):
    push(paid(market="nowhere", status="refunded", refunded_at=NOW - 5))

    parked = [{"transaction_id": "GP-1", "reason": "market nowhere is in no table"}]
    assert counted(push(paid(market="nowhere"))) == {"parked": parked}
    assert counted(push(paid(amount="5000"))) == {"stored": 1}

    row = stored()["GP-1"]
    assert (row["state"], row["amount"], row["reason"]) == ("waiting", "5000", None)
    assert (row["refunded_at"], row["refund_state"]) == (time_of.stamp(NOW - 5), "waiting")


@pytest.mark.parametrize("is_registering", [True, False])
def test_what_was_never_sent_takes_newer_content_of_its_own_source(report, stored, db, is_registering):
    report(amount="990000", is_registering=is_registering)
    state = stored()["GP-1"]["state"]

    assert report("push", amount="9900") == "conflict"
    assert report(amount=..., currency="USD") == "conflict"
    assert report(amount="9900", is_registering=is_registering) == "new"

    assert (stored()["GP-1"]["amount"], stored()["GP-1"]["state"]) == ("9900", state)
    conflicts = [json.loads(row["reported"]).get("amount") for row in db("SELECT reported FROM payment_conflicts")]
    assert "9900" not in conflicts


@pytest.mark.parametrize("seconds", [0, 600])
def test_what_was_sent_keeps_its_content_even_if_nobody_answered(report, write, claim, finish, stored, now, seconds):
    report()
    (row,) = claim()
    now.shift(1)

    assert report(amount="1") == "conflict"
    write(queue.postpone, REGISTER, [row["id"]], seconds)
    assert report(amount="1") == "conflict"
    now.shift(3600)
    assert report(amount="1") == "conflict"

    finish(row)
    assert (stored()["GP-1"]["amount"], stored()["GP-1"]["reason"]) == ("9900", None)


def test_a_quarantined_payment_waits_again_once_it_is_corrected(report, write, claim, stored):
    report(userId="bad")
    (row,) = claim()
    write(quarantine, row["id"], "PlayCamp: user not found")

    assert report(userId="bad") == "known"
    assert report("push", userId="good") == "conflict"
    assert stored()["GP-1"]["state"] == "quarantined"
    assert report(userId="good", is_registering=False) == "new"

    row = stored()["GP-1"]
    assert (row["state"], row["player_id"], row["reason"], row["tries"]) == ("waiting", "good", None, 0)
    assert [row["player_id"] for row in claim()] == ["good"]


@pytest.mark.parametrize("market", ["google", "nowhere"])
def test_a_refund_whose_amount_is_nothing_refunds_what_was_paid(report, stored, market):
    report(market=market)

    report(market=market, status="refunded", amount="0.00", refunded_at=NOW - 1)

    row = stored()["GP-1"]
    assert (row["amount"], row["refunded_at"]) == ("9900", time_of.stamp(NOW - 1))
    assert row["refund_state"] == ("waiting" if market == "google" else None)


def test_a_refund_that_leaves_out_what_is_known_is_a_refund_and_no_conflict(report, stored):
    report("push")
    missing = dict.fromkeys(("userId", "productId", "amount", "currency", "market", "purchasedAt"), ...)

    assert report(status="refunded", refunded_at=NOW - 1, **missing) == "refunded"
    assert stored()["GP-1"]["refunded_at"] == time_of.stamp(NOW - 1)


def test_a_parked_payment_is_mended_by_another_source_only_where_both_agree(report, stored):
    report(market="nowhere")

    assert report("push", amount="999999") == "conflict"
    assert report("push", userId="somebody") == "conflict"
    assert (stored()["GP-1"]["state"], stored()["GP-1"]["amount"]) == ("parked", "9900")
    assert report("push") == "new"
    assert (stored()["GP-1"]["state"], stored()["GP-1"]["source"]) == ("waiting", "push")


def test_what_names_the_reserved_player_is_a_test_and_is_only_kept(push, stored):
    push(paid(userId="coinslot-test"))

    row = stored()["GP-1"]
    assert (row["is_test"], row["state"], row["reason"]) == (1, "kept", "it names coinslot-test")


def test_a_payment_of_the_sandbox_begins_anew_when_it_is_reported_live(push, studio, claim, finish, stored):
    studio.config("playcamp.environment", "sandbox")
    push(paid(), paid("GP-2"))
    finish(*claim(1, is_sandbox=True), is_sandbox=True)
    assert (stored()["GP-1"]["is_test"], stored()["GP-1"]["state"]) == (1, "registered")

    studio.config("playcamp.environment", "live")

    assert (claim(), stored()["GP-2"]["state"]) == ([], "kept")
    assert counted(push(paid())) == {"stored": 1}
    row = stored()["GP-1"]
    assert (row["is_test"], row["state"], row["registered_at"]) == (0, "waiting", None)
    studio.config("playcamp.environment", "sandbox")
    assert counted(push(paid())) == {"known": 1}
    assert stored()["GP-1"]["is_test"] == 0


def test_payments_are_only_kept_where_playcamp_runs_the_gateway(push, guarded, studio, stored, db):
    push(paid())
    assert (stored()["GP-1"]["state"], stored()["GP-1"]["reason"]) == ("kept", None)
    assert db("SELECT * FROM schedules") == []

    studio.secret("playcamp.api_key", API_KEY)

    assert counted(push(paid(), paid("GP-2"))) == {"stored": 1, "known": 1}
    assert {row["state"] for row in stored().values()} == {"waiting"}


def test_what_was_pushed_before_there_was_a_key_to_register_it_is_registered_then(
    push, guarded, states, stored, studio, recheck
):
    push(paid(), paid("GP-2", amount="0"), paid("GP-3", status="refunded"))
    recheck()
    assert set(states().values()) == {"kept"}

    studio.secret("playcamp.api_key", API_KEY)
    recheck()

    assert states() == {"GP-1": "waiting", "GP-2": "kept", "GP-3": "waiting"}
    assert stored()["GP-3"]["refund_state"] == "waiting"


BAD = (
    *(("transactionId", value) for value in (..., 5, "a\nb", "x" * 256)),
    *(("amount", value) for value in (..., None, True, "9,900", "-1", -1, 10**15, "1e3")),
    *(("purchasedAt", value) for value in ("2026-09-21T14:00:00", "yesterday", True)),
    ("userId", None),
    ("productId", ""),
    ("productName", "x" * 256),
    ("currency", "KRWX"),
    ("currency", "KR\n"),
    ("platform", "Windows"),
    ("distributionType", ["PC_STORE"]),
    ("status", "pending"),
    ("refunded_at", "x"),
    ("colour", "red"),
)
BAD_BODIES = (
    ("[]", 422),
    ("{", 400),
    ('{"payments": {}}', 422),
    ('{"payments": []}', 422),
    ('{"payments": [1]}', 422),
    ('{"payments": [{"transactionId": "\\ud800"}]}', 400),
    ('{"payments": [{"amount": NaN}]}', 400),
    (f'{{"payments": [{{"amount": 1{"0" * 5000}}}]}}', 400),
    ('{"payments": ' + "[" * 200 + "]" * 200 + "}", 422),
)


def test_what_is_not_as_described_is_refused_with_its_place_and_nothing_is_stored(client, push, stored):
    for name, value in BAD:
        answer = push(paid("GP-0"), paid(**{name: value}) if name != "transactionId" else paid(value))

        assert answer.status_code == 422, (name, value)
        assert [error["path"] for error in answer.json["errors"]] == [f"payments.1.{name}"]
    for raw, status in BAD_BODIES:
        assert push(raw=raw).status_code == status, raw[:100]
    assert client.post("/game/v1/payments", json={"payments": [paid()]}).status_code == 401  # without a token
    assert stored() == {}


def test_a_thousand_payments_are_taken_at_once_and_one_more_is_refused(push, db):
    rows = [paid(f"GP-{number}") for number in range(1001)]

    assert push(*rows).status_code == 422
    assert counted(push(*rows[:1000])) == {"stored": 1000}
    assert db("SELECT count(*) AS payments FROM payments") == [{"payments": 1000}]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"purchasedAt": NOW + 7200}, "purchasedAt is in the future: is its time zone right?"),
        ({"purchasedAt": 0}, "purchasedAt is before 2010"),
        ({"purchasedAt": 10**30}, "purchasedAt: use Unix seconds, milliseconds or ISO 8601"),
        ({"purchasedAt": "0001-01-01T00:00:00+14:00"}, "purchasedAt: use Unix seconds, milliseconds or ISO 8601"),
        ({"market": "x" * 64}, f"market {'x' * 64} is in no table"),
        ({"market": " "}, "market: use text of up to 64 printable characters"),
    ],
)
def test_a_payment_that_cannot_be_sent_is_parked_with_the_reason(push, stored, changed, reason):
    answer = push(paid(**changed))

    assert answer.json["parked"] == [{"transaction_id": "GP-1", "reason": reason}]
    assert (stored()["GP-1"]["state"], stored()["GP-1"]["reason"]) == ("parked", reason)


# What a row may look like


@pytest.mark.parametrize(
    ("value", "zone", "expected"),
    [
        (1767323045, "UTC", "2026-01-02T03:04:05.000000Z"),
        ("1767323045678", "UTC", "2026-01-02T03:04:05.678000Z"),
        (1767323045.5, "UTC", "2026-01-02T03:04:05.500000Z"),
        ("2026-01-02T12:04:05+09:00", "UTC", "2026-01-02T03:04:05.000000Z"),
        ("2026-01-02 12:04:05", "Asia/Seoul", "2026-01-02T03:04:05.000000Z"),
        ("2026-01-01", "Asia/Seoul", "2025-12-31T15:00:00.000000Z"),
    ],
)
def test_times_are_read_in_every_form_and_in_the_games_zone(value, zone, expected):
    found = payment_report.check(paid(purchasedAt=value), Rules(PLATFORMS, DISTRIBUTION_TYPES, MARKETS, zone), "poll")

    assert (found.problem, found.purchased_at) == (None, expected)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"transactionId": 123, "userId": 100001}, None),
        ({"userId": True}, "userId: not text"),
        ({"userId": 1.5}, "userId: not text"),
        ({"amount": "nine"}, "amount: not a number"),
        ({"amount": float("inf")}, "amount: not a number"),
        ({"amount": "-5"}, "amount is below 0"),
        ({"amount": "1e29"}, "amount: out of range"),
        ({"amount": "1" + "0" * 60}, "amount: not a number"),
        ({"amount": {}}, "amount: not a number"),
        ({"currency": "₩"}, "currency: use three letters (ISO 4217)"),
        ({"currency": 5}, "currency: use three letters (ISO 4217)"),
        ({"platform": 5}, "platform: use one of iOS, Android, Web, Roblox, Other"),
        ({"market": []}, "market: use text of up to 64 printable characters"),
        ({"status": "pending"}, "status: use paid or refunded"),
        ({"status": 1}, "status: use paid or refunded"),
        ({"productName": {"ko": "보석"}}, None),
        ({"productName": "a\x00b"}, None),
        ({"amount": ..., "currency": None}, "amount is missing; currency is missing"),
    ],
)
def test_whatever_is_in_a_row_it_is_a_payment_or_has_a_reason(changed, problem):
    assert payment_report.check(paid(**changed), RULES, "poll").problem == problem


@pytest.mark.parametrize("row", [None, [], "x", 5, {}, {"transactionId": {}}, {"transactionId": "\ud800"}])
def test_a_row_without_an_id_is_parked_under_one_that_stays_the_same(write, studio, row, stored):
    for _ in range(2):
        found = payment_report.check(row, RULES, "poll", raw={"id": None, "row": row})
        write(payments.store, studio.row["id"], found, is_registering=True)

    ((transaction_id, kept),) = stored().items()
    assert transaction_id.startswith("unreadable:")
    assert (kept["state"], bool(kept["reason"])) == ("parked", True)


def test_polled_rows_that_were_parked_are_read_again_by_the_new_expression(write, studio, recheck, stored, states):
    for name, value in (("url", "http://127.0.0.1:9/p"), ("rows", "rows"), ("map", "{userId: usn}")):
        studio.config(f"playcamp.payments.{name}", value)
    raw = {"id": "P-1", "usn": 7, "price": 990, "at": NOW - 60}
    found = payment_report.check({"userId": 7}, RULES, "poll", raw=raw)
    write(payments.store, studio.row["id"], found, is_registering=True)
    assert recheck() is None
    assert list(stored()) == [found.transaction_id]

    studio.config(
        "playcamp.payments.map",
        "{transactionId: id, userId: usn, productId: 'gem', amount: scale(price, `-2`), currency: 'USD', "
        "market: 'google', purchasedAt: at}",
    )
    assert recheck() is None

    ((transaction_id, row),) = stored().items()
    assert (transaction_id, row["state"], row["amount"], row["player_id"]) == ("P-1", "waiting", "9.9", "7")


def test_a_time_in_the_future_stays_suspect_when_that_time_has_come(studio, recheck, push, states, now):
    push(paid(purchasedAt=NOW + 9 * 3600))
    now.shift(10 * 3600)
    studio.config("playcamp.market.other", "Web,PC_SELF_STORE")

    recheck()

    assert states() == {"GP-1": "parked"}


# The queue


def test_a_claim_is_nobody_elses_until_its_lease_ends(push, claim, now):
    push(paid(), paid("GP-2"), paid("GP-3"))

    first, second = claim(2), claim(2)

    assert [row["transaction_id"] for row in (*first, *second)] == ["GP-1", "GP-2", "GP-3"]
    assert claim() == []
    now.shift(queue.LEASE_SECONDS)
    assert len(claim()) == 3


def test_a_refund_is_due_only_after_its_payment_is_registered(
    push, installation, claim, claim_refunds, finish, stored, studio
):
    push(paid(status="refunded"))
    (row,) = claim()
    assert claim_refunds() == []

    finish(row)
    (refund,) = claim_refunds()
    assert claim_refunds() == []
    finish(refund, kind=REFUND)

    assert (stored()["GP-1"]["state"], stored()["GP-1"]["refund_state"]) == ("registered", "done")
    assert queue.next_due(installation.database.read(), studio.row["id"]) is None


@pytest.mark.parametrize("kind", queue.KINDS)
def test_what_is_refused_again_and_again_is_quarantined_until_a_person_puts_it_back(
    push, installation, claim, finish, write, studio, stored, now, kind
):
    push(paid(status="refunded"))
    if kind is REFUND:
        finish(*claim())
    for seconds in (5, 30, 30, 3600):
        (row,) = claim(kind=kind)
        write(queue.refuse, kind, {row["id"]: "no\nreason"}, [5, 30, 30])
        assert stored()["GP-1"][kind.due] == time_of.stamp(time_of.now() + seconds)
        now.shift(seconds)
    (row,) = claim(kind=kind)
    write(queue.refuse, kind, {row["id"]: "no\nreason"}, [5, 30, 30])

    kept, connection, game_id = stored()["GP-1"], installation.database.read(), studio.row["id"]
    assert (kept[kind.state], kept["reason"]) == ("quarantined", "no reason")
    assert kept["refund_state"] == (None if kind is REGISTER else "quarantined")
    assert lists.counts(connection, game_id)["quarantined"] == (kind is REGISTER)
    assert len(lists.refused_refunds(connection, game_id, LAST_ID, 5)[0]) == (kind is REFUND)
    assert write(queue.redrive, game_id, "GP-1")
    assert not write(queue.redrive, game_id, "GP-1")
    assert len(claim(kind=kind)) == 1
    assert (stored()["GP-1"][kind.tries], stored()["GP-1"]["refund_state"]) == (0, "waiting")


def test_all_that_is_quarantined_may_be_put_back_at_once(push, write, claim, claim_refunds, finish, studio, states):
    push(paid(), paid("GP-2"), paid("GP-3", status="refunded"))
    first, second, third = claim()
    finish(third)
    write(quarantine, first["id"], "no")
    write(quarantine, second["id"], "no")
    for _ in range(queue.MOST_TRIES):
        write(queue.refuse, REFUND, {third["id"]: "no"}, [5])

    assert [write(queue.redrive_all, studio.row["id"], 1) for _ in range(3)] == [2, 1, 0]
    assert (len(claim()), len(claim_refunds())) == (2, 1)


def test_what_is_postponed_is_due_later_with_no_try_counted(push, write, claim, stored, now):
    push(paid())
    (row,) = claim()

    write(queue.postpone, REGISTER, [row["id"]], 600, "PlayCamp did not answer")

    assert (stored()["GP-1"]["tries"], stored()["GP-1"]["reason"]) == (0, "PlayCamp did not answer")
    now.shift(599)
    assert claim() == []
    now.shift(1)
    assert len(claim()) == 1


def test_what_is_for_the_other_environment_is_neither_sent_nor_due_all_the_time(
    push, studio, installation, claim, claim_refunds, finish, stored, states
):
    push(paid(), paid("GP-2", status="refunded"))
    finish(stored()["GP-2"])
    studio.config("playcamp.environment", "sandbox")
    push(*(paid(f"S-{number}") for number in range(3)))

    sandbox, refunded = claim(2, is_sandbox=True), claim_refunds(is_sandbox=True)

    assert ([row["transaction_id"] for row in sandbox], refunded) == (["S-0"], [])
    assert stored()["GP-1"]["next_try_at"] == stored()["GP-2"]["refund_next_at"] == time_of.stamp(NOW + 3600)
    finish(*sandbox, is_sandbox=True)
    assert claim() == []
    assert (states()["S-1"], states()["S-2"]) == ("kept", "kept")
    assert queue.next_due(installation.database.read(), studio.row["id"]) == time_of.stamp(NOW + 3600)


def test_what_needs_a_person_is_listed_and_is_a_trouble(push, claim, installation, write, studio):
    push(paid(), paid("GP-2", market="nowhere"), paid("GP-3"))
    claim()
    push(paid(amount="1"), paid(amount="2"))
    connection, game_id = installation.database.read(), studio.row["id"]
    write(quarantine, 3, "PlayCamp: no")

    assert {each.kind: each.count for each in troubles.find(connection).found if each.kind.startswith("payment")} == {
        "payments_parked": 1,
        "payments_quarantined": 1,
        "payment_conflicts": 2,
    }

    def ids(state, before=LAST_ID, limit=10):
        rows, _ = lists.page(connection, game_id, state=state, before=before, limit=limit)
        return [row["transaction_id"] for row in rows]

    assert ids(None) == ["GP-3", "GP-2", "GP-1"]
    assert ids(None, before=3, limit=1) == ids("parked") == ["GP-2"]
    assert [json.loads(row["reported"])["amount"] for row in lists.conflicts(connection, game_id, 10)] == ["2", "1"]


# Our own orders


@pytest.fixture
def registering(studio):
    studio.config("playcamp.register_appcharge", "on")


def test_an_order_of_the_store_becomes_a_payment_in_major_units(order, registering, studio, take, stored, db):
    studio.secret("playcamp.api_key", API_KEY)
    for order_id, price, currency in (("o1", 999, "USD"), ("o2", 9900, "KRW"), ("o3", 1250, "BHD"), ("o4", 1, "XXQ")):
        order(order_id, priceInCents=price, currency=currency)

    assert take() == take() == own_orders.EVERY_SECONDS

    assert {name: (row["amount"], row["state"], row["reason"]) for name, row in stored().items()} == {
        "appcharge:o1": ("9.99", "waiting", None),
        "appcharge:o2": ("9900", "waiting", None),
        "appcharge:o3": ("1.25", "waiting", None),
        "appcharge:o4": (None, "parked", "nobody knows how many decimals XXQ has"),
    }
    row = stored()["appcharge:o1"]
    assert (row["player_id"], row["product_id"], row["product_name"]) == ("alice", "starterpack", "Starter Pack")
    assert (row["platform"], row["distribution_type"], row["source"]) == ("Web", "MOBILE_SELF_STORE", "appcharge")
    assert row["purchased_at"] == time_of.stamp(NOW - 100)
    assert db("SELECT due_at FROM schedules WHERE name = 'playcamp.register'") == [{"due_at": time_of.stamp(NOW)}]


def test_orders_that_are_tests_or_free_are_no_payments(order, registering, studio, take, stored):
    order("o1", playerId="coinslot-test")
    order("o2", priceInCents=0, subTotal=0, tax=0)
    order("o3", action="bonus")
    studio.config("appcharge.environment", "sandbox")
    order("o4")

    take()

    assert stored() == {}


@pytest.fixture
def dispute(write, studio):
    """Note what became of the money of an order; returns the outcome."""

    def note(reason, at, word="revoke", reference="o1", is_test=False):
        return write(
            refunds.note,
            studio.row["id"],
            "demo",
            "appcharge",
            event_id=None,
            reason=reason,
            named=[("reference", reference)],
            player_id=None,
            is_test=is_test,
            occurred_at=time_of.stamp(at),
            policy=policies.Policy.always(word),
        )

    return note


@pytest.mark.parametrize("is_before", [True, False])
def test_an_order_that_is_refunded_is_a_payment_that_is_refunded(order, registering, dispute, take, stored, is_before):
    order("o1")
    order("o2")
    if not is_before:
        take()
    dispute("chargeback", NOW - 50, "ignore")
    dispute("chargeback", NOW - 50, "ignore", "o2", is_test=True)
    dispute("chargeback", NOW - 50, "ignore", "o3")  # waits for its purchase
    take()
    order("o3")
    take()

    assert {name: (row["refunded_at"], row["refund_state"]) for name, row in stored().items()} == {
        "appcharge:o1": (time_of.stamp(NOW - 50), "waiting"),
        "appcharge:o2": (None, None),
        "appcharge:o3": (time_of.stamp(NOW - 50), "waiting"),
    }


@pytest.mark.parametrize("is_taken", [True, False])
@pytest.mark.parametrize(("word", "outcome"), [("revoke", "restored"), ("ignore", "repeated")])
def test_a_dispute_that_was_won_is_no_refund(order, registering, take, dispute, stored, is_taken, word, outcome):
    order()
    if is_taken:
        take()
    dispute("chargeback", NOW - 50, word)
    if is_taken:
        take()
        assert stored()["appcharge:o1"]["refund_state"] == "waiting"

    assert dispute("reinstated", NOW - 20, word) == outcome
    take()

    row = stored()["appcharge:o1"]
    assert (row["state"], row["refunded_at"], row["refund_state"]) == ("waiting", None, None)
    dispute("chargeback", NOW - 10, word)
    take()
    row = stored()["appcharge:o1"]
    assert (row["refunded_at"], row["refund_state"]) == (time_of.stamp(NOW - 10), "waiting")


def test_a_refund_stays_one_whoever_wins_a_dispute(order, registering, take, dispute, stored):
    order()
    dispute("refund", NOW - 60)
    dispute("chargeback", NOW - 50)

    dispute("reinstated", NOW - 20)
    take()

    assert stored()["appcharge:o1"]["refunded_at"] == time_of.stamp(NOW - 60)


@pytest.fixture
def warnings(app, game):
    def find():
        with app.app_context():
            return own_orders.warnings(game())

    return find


@pytest.mark.parametrize("is_in_flight", [True, False])
def test_the_owner_is_told_of_a_refund_that_was_sent_before_the_dispute_was_won(
    order, registering, studio, take, dispute, stored, claim, claim_refunds, finish, warnings, is_in_flight
):
    studio.secret("playcamp.api_key", API_KEY)
    order()
    dispute("chargeback", NOW - 50)
    take()
    finish(*claim())
    (refund,) = claim_refunds()

    def win():
        dispute("reinstated", NOW - 20)
        take()

    if is_in_flight:
        win()
    finish(refund, kind=REFUND)
    if not is_in_flight:
        win()

    assert (stored()["appcharge:o1"]["refunded_at"], stored()["appcharge:o1"]["refund_state"]) == (None, "done")
    (sentence,) = warnings()
    assert "such as o1" in sentence
    dispute("chargeback", NOW - 10)
    take()
    assert (stored()["appcharge:o1"]["refund_state"], warnings()) == ("done", [])


def test_orders_from_before_the_day_it_was_switched_on_are_not_registered(order, guarded, studio, take, states):
    order("old", ago=86401)
    order("new", ago=86399)
    take()
    assert set(states().values()) == {"kept"}

    studio.config("playcamp.register_appcharge", "on")
    take()

    assert states() == {"appcharge:old": "kept", "appcharge:new": "waiting"}
    studio.config("playcamp.register_appcharge", "off")
    order("newer", ago=0)
    take()
    assert states()["appcharge:newer"] == "kept"


def test_the_owner_may_have_older_orders_registered_too(post_order, registering, studio, take, states):
    studio.config("playcamp.payments.since", "2026-09-01")
    post_order(orderId="old", purchaseDateAndTimeUtc="2026-09-01T00:00:00Z")
    post_order(orderId="older", purchaseDateAndTimeUtc="2026-08-31T23:59:59Z")

    take()

    assert states() == {"appcharge:old": "waiting", "appcharge:older": "kept"}


def test_orders_registered_with_a_sandbox_begin_anew_when_it_is_live(order, registering, studio, take, stored):
    studio.config("playcamp.environment", "sandbox")
    order()
    take()
    assert [row["is_test"] for row in stored().values()] == [1]

    studio.config("playcamp.environment", "live")
    take()

    assert [(row["is_test"], row["state"]) for row in stored().values()] == [(0, "waiting")]


def test_many_orders_are_taken_step_by_step_and_another_games_are_left_alone(
    order, registering, studio, installation, take, stored, monkeypatch
):
    monkeypatch.setattr(own_orders, "ORDERS_PER_STEP", 2)
    monkeypatch.setattr(own_orders, "IDS_PER_STEP", 3)
    monkeypatch.setattr(own_orders, "STEPS_PER_RUN", 1)
    Studio(installation, "other").config("playcamp.register_appcharge", "on")
    for number in range(7):
        order(f"o{number}", ago=0)

    runs = 0
    while take() == 0:
        runs += 1

    assert sorted(stored()) == [f"appcharge:o{number}" for number in range(7)]
    assert runs == 3
    assert own_orders.run(installation, installation.games.by_slug("other")) in (0, own_orders.EVERY_SECONDS)
    assert {row["game_id"] for row in stored().values()} == {studio.row["id"]}


def test_nothing_is_taken_unless_it_is_configured_and_then_by_itself(order, studio, installation, take, stored):
    order()
    assert (take(), stored()) == (None, {})

    studio.config("playcamp.register_appcharge", "on")
    installation.new_relay().drain()

    assert list(stored()) == ["appcharge:o1"]
    assert jobs.cursor(installation.database.read(), studio.row["id"], own_orders.JOB)


def test_the_owner_is_warned_of_orders_that_the_game_reports_too(order, studio, push, warnings):
    studio.secret("playcamp.api_key", API_KEY)
    order()
    push(paid("o1"), paid("o2"))
    assert warnings() == []

    studio.config("playcamp.register_appcharge", "on")

    (sentence,) = warnings()
    assert "such as o1" in sentence


def test_pushed_payments_and_orders_reach_playcamp_and_are_refunded_there(push, order, studio, installation, stored):
    with PlayCamp() as playcamp:
        playcamp.set_up(studio)
        studio.config("playcamp.register_appcharge", "on")
        order(ago=0)
        push(paid(status="refunded"), paid("a/b?c"))

        installation.new_relay().drain()
        installation.new_relay().drain()

        registered = {name: (str(each["amount"]), each["status"]) for name, each in playcamp.payments.items()}
    assert registered == {
        "GP-1": ("9900", "REFUNDED"),
        "a/b?c": ("9900", "COMPLETED"),
        "appcharge:o1": ("9.99", "COMPLETED"),
    }
    assert {row["state"] for row in stored().values()} == {"registered"}
    assert stored()["GP-1"]["refund_state"] == "done"


# Served to a gateway


def test_a_gateway_reads_pushed_payments_and_orders_of_a_range(ask, guarded, push, order, report):
    push(
        paid(amount="9.90", currency="USD"),
        paid("GP-2", purchasedAt=NOW - 50, status="refunded", refunded_at=NOW - 40, userId="alice", productName=None),
        paid("GP-3", market="myshop", purchasedAt=NOW - 40),
        paid("GP-4", market=..., platform="iOS", distributionType="MOBILE_STORE", purchasedAt=NOW - 30),
        paid("GP-5", userId="coinslot-test", purchasedAt=NOW - 30),
        paid("GP-6", purchasedAt=0),
    )
    report(transaction_id="GP-7")  # polled
    order(ago=20)

    answer = ask(from_=NOW - 3600, to=NOW)

    assert (answer.status_code, answer.headers["Cache-Control"], answer.json["next_cursor"]) == (200, "no-store", None)
    rows = answer.json["payments"]
    assert rows[0] == {
        "order_id": "GP-1",
        "usn": 100001,
        "product_id": "gem_100",
        "product_name": "100 gems",
        "price": "9.9",
        "currency": "USD",
        "market": "google",
        "paid_at": NOW - 60,
        "status": "paid",
        "refunded_at": None,
    }
    assert (rows[1]["usn"], rows[1]["status"], rows[1]["refunded_at"]) == ("alice", "refunded", NOW - 40)
    assert [(row["order_id"], row["market"]) for row in rows] == [
        ("GP-1", "google"),
        ("GP-2", "google"),
        ("GP-3", "myshop"),
        ("GP-4", "apple"),
        ("appcharge:o1", "web"),
    ]


def test_a_range_holds_its_beginning_and_not_its_end(ask, guarded, push):
    push(*(paid(f"GP-{at}", purchasedAt=at) for at in (NOW - 30, NOW - 20, NOW - 10)))

    rows = ask(from_=NOW - 30, to=NOW - 10).json["payments"]

    assert [row["paid_at"] for row in rows] == [NOW - 30, NOW - 20]
    assert ask(from_=NOW - 10, to=NOW - 10).json["payments"] == []
    assert ask(from_=NOW - 86400, to=NOW).status_code == 200  # a day at once


def test_pages_follow_one_another_in_one_order_with_nothing_twice(ask, guarded, push):
    push(*(paid(f"GP-{number}", purchasedAt=NOW - 60 + number // 3) for number in range(10)))
    found, cursor = [], ""

    while cursor is not None:
        answer = ask(from_=NOW - 3600, to=NOW, limit=3, cursor=cursor)
        found += [row["order_id"] for row in answer.json["payments"]]
        cursor = answer.json["next_cursor"]

    assert found == [f"GP-{number}" for number in range(10)]
    whole = ask(from_=NOW - 3600, to=NOW, limit=10).json
    assert (len(whole["payments"]), whole["next_cursor"]) == (10, None)


BAD_ARGUMENTS = (
    {},
    {"from_": NOW},
    {"from_": "x", "to": NOW},
    {"from_": -1, "to": NOW},
    {"from_": NOW, "to": NOW - 1},
    {"from_": NOW - 86401, "to": NOW},
    {"from_": 999999999999, "to": 999999999999},
    {"from_": NOW, "to": "9" * 30},
    *({"from_": NOW, "to": NOW, "limit": limit} for limit in (0, 1001, "x", "")),
    *(
        {"from_": NOW, "to": NOW, "cursor": cursor}
        for cursor in ("x", "%FF", "MjAyNi0wOS0yMVQxNDoxMzoyMC4wMDAwMFovMQ==")
    ),
)


def test_arguments_that_cannot_be_read_are_refused(ask, guarded):
    for arguments in BAD_ARGUMENTS:
        assert ask(**arguments).status_code == 400, arguments


@pytest.mark.parametrize(
    ("changed", "status", "reason"),
    [
        ({"key": "another-key"}, 401, "signature"),
        ({"at": NOW - 301}, 401, "timestamp"),
        ({"at": NOW + 301}, 401, "timestamp"),
        ({"at": "soon"}, 401, "timestamp"),
        ({"headers": {"X-Fingerprint": ""}}, 401, "signature"),
        ({"headers": {"X-Fingerprint": "é" * 64}}, 401, "signature"),
        ({"headers": {"X-Timestamp": str(NOW - 1)}}, 401, "signature"),
        ({"path": "/playcamp/nobody/payments"}, 404, "unknown_game"),
    ],
)
def test_a_call_that_does_not_prove_itself_learns_nothing(
    ask, guarded, push, db, installation, changed, status, reason
):
    push(paid())

    answer = ask(from_=NOW - 3600, to=NOW, **changed)

    assert (answer.status_code, list(answer.json)) == (status, ["error"])
    installation.observations.flush()
    assert db("SELECT partner, endpoint, reason, status FROM refusals") == [
        {"partner": "playcamp", "endpoint": "payments", "reason": reason, "status": status}
    ]


def test_a_call_needs_a_key_and_an_allowed_address_and_may_be_five_minutes_old(ask, studio):
    assert ask(from_=NOW, to=NOW).status_code == 404
    studio.secret("playcamp.payments_key", KEY)
    assert [ask(from_=NOW, to=NOW, at=at).status_code for at in (NOW - 300, NOW + 300)] == [200, 200]

    studio.config("allowlist.playcamp", "192.0.2.0/24")

    assert ask(from_=NOW, to=NOW).status_code == 403


def test_the_previous_key_holds_until_it_is_retired(ask, guarded, studio):
    studio.rotate("playcamp.payments_key", "new-payments-key")

    assert ask(from_=NOW, to=NOW).status_code == 200
    assert ask(from_=NOW, to=NOW, key="new-payments-key").status_code == 200
    studio.retire("playcamp.payments_key")
    assert ask(from_=NOW, to=NOW).status_code == 401


def test_the_fingerprint_is_over_the_query_as_it_is_sent_in_the_order_of_its_bytes(ask, guarded, client):
    assert ask(to=NOW, limit=10, from_=NOW, cursor="", note="a%20b%2Bc").status_code == 200
    words, timestamp = f"to={NOW}&from={NOW}", str(NOW)
    unsorted = hashlib.sha256(f"GET\n{PATH}\n{words}\n{timestamp}\n{KEY}".encode()).hexdigest()
    right = made("GET", PATH, words, timestamp, KEY).upper()

    def answered(given):
        return client.get(f"{PATH}?{words}", headers={"X-Timestamp": timestamp, "X-Fingerprint": given}).status_code

    assert (answered(unsorted), answered(right)) == (401, 200)
    assert fingerprint("GET", "/p", b"", "1", b"k") == made("GET", "/p", "", "1", "k")


@pytest.mark.parametrize("market", ["google", "a shop nobody knows"])
def test_a_payment_that_was_served_keeps_its_content(served, guarded, push, stored, db, market):
    push(paid(market=market))
    assert counted(push(paid(market=market, amount="990"))) != {}  # nobody has it yet
    first = served()

    answer = push(paid(market=market, amount="9900"))

    assert answer.json["conflicts"] == ["GP-1"]
    assert (len(first), served()) == (1, first)
    assert (stored()["GP-1"]["amount"], stored()["GP-1"]["is_sent"]) == ("990", 1)
    assert db("SELECT count(*) AS conflicts FROM payment_conflicts") == [{"conflicts": 1}]
    assert push(paid(market=market, amount="990", status="refunded")).json["conflicts"] == []


def test_a_payment_that_was_served_before_its_market_was_known_is_mended_and_still_keeps_its_content(
    served, guarded, push, stored, studio
):
    push(paid(market="corner"))
    served()

    studio.config("playcamp.market.corner", "Web,PC_SELF_STORE")
    push(paid(market="corner"))

    assert (stored()["GP-1"]["platform"], stored()["GP-1"]["state"]) == ("Web", "kept")
    assert push(paid(market="corner", amount="1")).json["conflicts"] == ["GP-1"]


def test_the_query_reads_by_an_index(installation, studio, guarded):
    seen = []
    connection = installation.database.read()
    connection.set_trace_callback(seen.append)
    queries.paid_between(connection, studio.row["id"], "2026", "2027", None, 10, is_sandbox=False)
    connection.set_trace_callback(None)

    plan = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {seen[-1]}")]

    assert plan == ["SEARCH payments USING INDEX payments_by_time (game_id=? AND purchased_at>? AND purchased_at<?)"]


def test_a_payment_of_the_sandbox_is_served_in_the_sandbox_alone(served, guarded, studio, push):
    studio.config("playcamp.environment", "sandbox")
    push(paid())
    assert len(served()) == 1

    studio.config("playcamp.environment", "live")

    assert served() == []
