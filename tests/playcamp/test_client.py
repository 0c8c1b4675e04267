"""The client of PlayCamp's API, against a fake PlayCamp over real HTTP."""

import json
import logging
import time
import traceback
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coinslot.access.keyring import SecretValue
from coinslot.base import exact
from coinslot.base.outbound import Answer, Outbound
from coinslot.games.games import Game
from handlers.kit.api import HIDDEN, ApiError, Detail, NotConfiguredError, UnsentError
from handlers.playcamp.api.answers import Reward
from handlers.playcamp.api.client import Client, base_url, item_reasons, webview_url
from tests.fakes.http import after, closed_port, nonsense, reset, silence, status
from tests.fakes.playcamp import API_KEY, PlayCamp, answers, broken, garbage, signed, too_many

CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
PROOF = "100001|1700000000|a1b2c3d4e5f6a7b8"
OUTBOUND = Outbound()
OTT = ("POST", "/v1/server/webview/ott")
BULK = ("POST", "/v1/server/payments/bulk")
REDEEM = ("POST", "/v1/server/coupons/redeem")
CREATOR = ("GET", "/v1/server/creators/AAA11")
HOOKS = ("GET", "/v1/server/webhooks")


def game(url=None, key=API_KEY, **changed):
    secret = (SecretValue("playcamp.api_key", "current", key.encode()),) if key is not None else ()
    own = {} if url is None else {"playcamp.base_url": url}
    return Game(1, "demo", "Demo", own | changed, {"playcamp.api_key": secret})


@pytest.fixture
def playcamp():
    with PlayCamp() as fake:
        yield fake


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def client(playcamp, pauses):
    return Client(game(playcamp.url), OUTBOUND, sleep=pauses.append)


def payment(transaction_id="GP-1", **changed):
    document = {
        "userId": "100001",
        "transactionId": transaction_id,
        "productId": "gem_100",
        "productName": "보석 100",
        "amount": 9900,
        "currency": "KRW",
        "platform": "Android",
        "distributionType": "MOBILE_STORE",
        "purchasedAt": "2026-01-02T03:04:05.000Z",
    }
    return document | changed


def refusal(function, *args, **named):
    with pytest.raises(ApiError) as caught:
        function(*args, **named)
    return caught.value


# What a game must have


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "https://sdk-api.playcamp.io"),
        ({"playcamp.environment": "live"}, "https://sdk-api.playcamp.io"),
        ({"playcamp.environment": "sandbox"}, "https://sandbox-sdk-api.playcamp.io"),
        ({"playcamp.base_url": "https://sdk-api.playcamp.dev//"}, "https://sdk-api.playcamp.dev"),
        ({"playcamp.base_url": "http://localhost:5000/", "playcamp.environment": "live"}, "http://localhost:5000"),
        ({"playcamp.base_url": "http://127.0.0.1:5000"}, "http://127.0.0.1:5000"),
        ({"playcamp.base_url": "http://[::1]:5000"}, "http://[::1]:5000"),
    ],
)
def test_the_address_is_the_games_own_or_its_environments(changed, expected):
    assert base_url(game(**changed)) == Client(game(**changed), OUTBOUND).base_url == expected


@pytest.mark.parametrize(
    "url",
    ["http://sdk-api.playcamp.io", "http://localhost.example.com", "http://127.0.0.2", "http://10.0.0.1",
     "https://user:pass@sdk-api.playcamp.io", "https://sdk-api.playcamp.io/?a=b", "https://sdk-api.playcamp.io/#x",
     "https://sdk-api.playcamp.io:port", "http://[::1", "ftp://localhost", "sdk-api.playcamp.io", "https://",
     "https://a b"],
)  # fmt: skip
def test_an_address_the_key_must_not_go_to_is_refused(url):
    with pytest.raises(NotConfiguredError, match=r"playcamp\.base_url"):
        Client(game(url), OUTBOUND)


@pytest.mark.parametrize("key", [None, "", "no-colon", ":secret", "keyId:", "key id:secret", "k:s\r\nX: 1", "k:ключ"])
def test_a_key_that_is_no_pair_is_refused_and_not_shown(key):
    with pytest.raises(NotConfiguredError, match=r"playcamp\.api_key") as caught:
        Client(game("http://localhost", key), OUTBOUND)

    assert not key or key in ":secret keyId:" or key not in str(caught.value)
    assert (caught.value.is_permanent, caught.value.is_uncertain) == (True, False)


def test_every_call_carries_the_pair_as_it_is(playcamp, client):
    client.webhooks()
    client.issue_ott("100001")

    for request in playcamp.requests:
        assert request.headers["authorization"] == f"Bearer {API_KEY}"
        assert request.headers["accept"] == "application/json"
    assert playcamp.requests[1].headers["content-type"] == "application/json"


# One-time tokens


def test_a_token_is_issued_with_all_that_was_given_and_opens_the_webview_once(playcamp, client):
    ott = client.issue_ott("100001", "camp_1", PROOF, CHALLENGE, is_test=True)
    url = webview_url(client.base_url, ott, "ko", "sponsor,coupon", "#FF6B35")
    client.issue_ott("100002")

    assert [OUTBOUND.get(url, {}, 5).status for _ in range(2)] == [200, 401]
    first, second = [request.json for request in playcamp.asked(OTT[1])]
    assert first == {
        "userId": "100001",
        "campaignId": "camp_1",
        "codeChallenge": CHALLENGE,
        "callbackId": PROOF,
        "isTest": True,
    }
    assert second == {"userId": "100002"}
    assert playcamp.sessions[0]["query"] == {"lang": "ko", "tabs": "sponsor,coupon", "primaryColor": "FF6B35"}
    assert playcamp.sessions[0]["callbackId"] == PROOF


@pytest.mark.parametrize("code", [200, 201])
def test_a_token_may_be_any_text(playcamp, client, code):
    playcamp.trouble(*OTT, answers(code, {"data": {"ott": "not hex, and fine", "expiresAt": "soon"}}))

    assert client.issue_ott("100001") == "not hex, and fine"


@pytest.mark.parametrize(
    "document",
    [{"data": {}}, {"data": {"ott": ""}}, {"data": {"ott": 5}}, {"data": {"ott": "a\nb"}},
     {"data": {"ott": "x" * 5000}}, {"data": []}, {"data": None}, [], None, 1, b"", b"{", b"\xff", b"[" * 100_000,
     b'{"data":{"ott":"\\ud800\\n"}}'],
)  # fmt: skip
def test_an_answer_without_a_token_is_an_error(playcamp, client, document):
    playcamp.trouble(*OTT, answers(201, document))

    error = refusal(client.issue_ott, "100001")

    assert (error.status, error.is_permanent) == (201, False)


def test_a_webview_address_encodes_every_value():
    url = webview_url("https://sdk-api.playcamp.io", "a/b+c&d=é", "ko&x", "sponsor coupon", "FF6B35")

    assert url == (
        "https://sdk-api.playcamp.io/webview/?ott=a%2Fb%2Bc%26d%3D%C3%A9&lang=ko%26x&tabs=sponsor%20coupon"
        "&primaryColor=FF6B35"
    )
    assert webview_url("https://x", "t", "", None, "") == "https://x/webview/?ott=t"
    with pytest.raises(UnsentError):
        webview_url("https://x", "half \ud800")


def test_a_token_is_asked_for_once_more_if_the_connection_broke(playcamp, client, pauses):
    playcamp.trouble(*OTT, reset)

    assert client.issue_ott("100001")
    assert (len(playcamp.requests), len(pauses)) == (2, 1)


def test_a_token_is_not_asked_for_a_third_time(pauses):
    error = refusal(
        Client(game(f"http://127.0.0.1:{closed_port()}"), OUTBOUND, sleep=pauses.append).issue_ott, "100001"
    )

    assert (error.status, error.failure, len(pauses)) == (None, "refused", 1)


@pytest.mark.parametrize("behaviour", [too_many(1), broken(500), broken(503), garbage])
def test_a_token_is_not_asked_for_again_if_playcamp_answered(playcamp, client, pauses, behaviour):
    playcamp.trouble(*OTT, behaviour)

    refusal(client.issue_ott, "100001")

    assert (len(playcamp.requests), pauses) == (1, [])


@pytest.mark.parametrize("call", [lambda client: client.issue_ott("100001"), lambda client: client.webhooks()])
def test_all_attempts_together_end_in_time(playcamp, call):
    playcamp.trouble(*OTT, silence)
    playcamp.trouble(*HOOKS, silence, times=9)
    client = Client(game(playcamp.url), OUTBOUND, patience_seconds=0.3)
    began = time.monotonic()

    error = refusal(call, client)

    assert (error.status, error.failure, error.is_uncertain) == (None, "timeout", True)
    assert time.monotonic() - began < 1


def test_a_token_waits_five_seconds_and_other_calls_thirty():
    waited = []

    def call(method, url, headers, body, timeout_seconds, largest_answer):
        waited.append((round(timeout_seconds, 1), largest_answer))
        return Answer("timeout", detail="no complete answer in time")

    client = Client(game("http://localhost"), SimpleNamespace(call=call), sleep=lambda seconds: None)
    refusal(client.issue_ott, "100001")
    refusal(client.refund, "GP-1")

    assert waited == [(5.0, Client.largest_answer), (30.0, Client.largest_answer)]


# Payments


def test_every_payment_of_a_batch_has_its_own_answer(playcamp, client):
    client.register_payments([payment("GP-0")])
    playcamp.failing["GP-2"] = "no such user ann@example.com"
    playcamp.forgotten.add("GP-3")
    batch = [payment(f"GP-{number}") for number in range(4)]

    found = client.register_payments(batch)

    assert {key: (each.status, each.is_registered, each.error) for key, each in found.items()} == {
        "GP-0": ("SKIPPED", True, None),
        "GP-1": ("SUCCESS", True, None),
        "GP-2": ("FAILED", False, f"no such user {HIDDEN}"),
        "GP-3": ("UNKNOWN", False, None),
    }
    assert playcamp.requests[1].json == {"payments": batch}
    assert set(playcamp.payments) == {"GP-0", "GP-1", "GP-3"}


def test_tests_are_stored_nowhere(playcamp, client):
    assert client.register_payments([payment("GP-1")], is_test=True)["GP-1"].status == "SUCCESS"
    client.check_payment(payment("GP-2"))
    assert client.check_sponsor("u/1", "TEST1", "camp_1") == "TEST1"
    assert client.redeem_coupon("WELCOME", "alice", is_test=True).is_accepted
    assert client.validate_coupon("WELCOME", "alice", is_test=True).is_accepted

    assert {request.json["isTest"] for request in playcamp.requests} == {True}
    assert (playcamp.payments, playcamp.usages) == ({}, [])


@pytest.mark.parametrize(
    ("amount", "wire"),
    [
        (9900, b"9900"),
        ("9900", b"9900"),
        ("9900.00", b"9900.00"),
        (Decimal("0.1") + Decimal("0.2"), b"0.3"),
        ("0.30000000000000004", b"0.30000000000000004"),
        ("0.01", b"0.01"),
        (Decimal("9.99"), b"9.99"),
        (Decimal("12345678901234.56"), b"12345678901234.56"),
        ("123456789012345678901.23456789", b"123456789012345678901.23456789"),
        ("1e2", b"100"),
        (Decimal("1E+5"), b"100000"),
    ],
)
def test_amounts_arrive_with_the_digits_they_have(playcamp, client, amount, wire):
    client.register_payments([payment("GP-1", amount=amount)])
    client.check_payment(payment("GP-2", amount=amount))
    read = client.payment("GP-1")

    assert all(b'"amount":' + wire + b"}" in request.body for request in playcamp.requests[:2])
    assert exact.figure(read["amount"]) == wire.decode()
    assert not isinstance(read["amount"], float)


@given(st.decimals(min_value="0.01", max_value="999999999999999999999", places=8))
@settings(max_examples=50, deadline=None)
def test_every_amount_is_written_as_the_number_it_is(amount):
    sent = []

    def call(method, url, headers, body, timeout_seconds, largest_answer):
        sent.append(body)
        return Answer(None, 201, b'{"data":{"results":[]}}')

    Client(game("http://localhost"), SimpleNamespace(call=call)).register_payments([payment(amount=amount)])

    assert exact.parse_json(sent[0])["payments"][0]["amount"] == amount


@pytest.mark.parametrize(
    "amount",
    [9.99, None, True, "", "9,99", "NaN", Decimal("NaN"), Decimal("Infinity"), "1e500", "9" * 31, [], "９.9", "\ud800"],
)
def test_an_amount_that_is_not_exact_is_not_sent(playcamp, client, amount):
    with pytest.raises(UnsentError, match="amount of payment GP-1"):
        client.register_payments([payment("GP-0"), payment("GP-1", amount=amount)])
    with pytest.raises(UnsentError, match="amount of payment GP-1"):
        client.check_payment(payment("GP-1", amount=amount))

    assert playcamp.requests == []


@pytest.mark.parametrize(
    "batch",
    [
        [payment(str(number)) for number in range(1001)],
        [payment("GP-1"), payment("GP-2"), payment("GP-1")],
        [payment("")],
        [payment(None)],
        [payment(7)],
        [{"amount": 1}],
        [payment(productName="half \ud83d a pair")],
        [payment(productName=float("nan"))],
        [payment(productName=b"bytes")],
    ],
)
def test_a_batch_that_cannot_go_is_not_sent(playcamp, client, batch):
    error = refusal(client.register_payments, batch)

    assert (type(error), error.is_permanent) == (UnsentError, True)
    assert client.register_payments([]) == {}
    assert playcamp.requests == []


def test_a_thousand_payments_go_in_one_call_and_optional_fields_may_be_none(playcamp, client):
    found = client.register_payments([payment(str(number), productName=None) for number in range(1000)])

    assert [each.status for each in found.values()] == ["SUCCESS"] * 1000
    assert "productName" not in playcamp.requests[0].json["payments"][0]


def test_a_batch_refused_as_a_whole_names_the_payments_at_fault(playcamp, client):
    playcamp.invalid = {"GP-1": ("purchasedAt", "Invalid datetime"), "GP-3": ("userId", "Required")}

    error = refusal(client.register_payments, [payment(f"GP-{number}") for number in range(5)])

    assert (error.status, error.code, error.text) == (400, "VALIDATION_ERROR", "Validation Error")
    assert error.details[0] == Detail("payments.1.purchasedAt", "Invalid datetime")
    assert set(item_reasons(error)) == {1, 3}
    assert error.is_permanent
    assert "payments.1.purchasedAt: Invalid datetime" in str(error)
    assert playcamp.payments == {}


@pytest.mark.parametrize(
    ("path", "items"),
    [
        ("payments.12.amount", {12}),
        ("payments[12].amount", {12}),
        ("payments.[12].amount", {12}),
        ("payments/12/amount", {12}),
        (["payments", 12, "amount"], {12}),
        *((path, set()) for path in ("payments", "12.amount", "payments.99999", None, {}, 12)),
    ],
)
def test_a_details_path_is_read_in_every_spelling(playcamp, client, path, items):
    document = {"code": "VALIDATION_ERROR", "error": "no", "details": [{"path": path, "message": "bad"}, "odd", None]}
    playcamp.trouble(*BULK, answers(422, document))

    error = refusal(client.register_payments, [payment()])

    assert (set(item_reasons(error)), error.is_permanent) == (items, True)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], "UNKNOWN"),
        ([None, 5, "x", [], {}], "UNKNOWN"),
        ([{"transactionId": "other", "status": "SUCCESS"}], "UNKNOWN"),
        *(([{"transactionId": "17", "status": word}], "UNKNOWN") for word in ("PENDING", None, ["SUCCESS"], "CREATED")),
        ([{"transactionId": "17"}], "UNKNOWN"),
        ([{"transactionId": ["17"], "status": "SUCCESS"}], "UNKNOWN"),
        ([{"transactionId": 17, "status": "SUCCESS"}], "SUCCESS"),
        ([{"transactionId": "17", "status": "SUCCESS", "data": 5}], "SUCCESS"),
        ([{"transactionId": "17", "status": "SUCCESS"}, {"transactionId": "17", "status": "SKIPPED"}], "SKIPPED"),
        ([{"transactionId": "17", "status": "SUCCESS"}, {"transactionId": "17", "status": "FAILED"}], "UNKNOWN"),
        ([{"transactionId": "17", "status": "FAILED"}, {"transactionId": "17", "status": "SUCCESS"}], "UNKNOWN"),
        ([{"transactionId": "17", "status": "FAILED", "error": {"message": "why"}}], "FAILED"),
        ([{"transactionId": "17", "status": "success"}], "SUCCESS"),
        ([{"transactionId": "17", "status": " Skipped "}], "SKIPPED"),
        ([{"transactionId": "17", "status": "failed"}], "FAILED"),
    ],
)
def test_odd_results_are_unknown_and_never_success(playcamp, client, results, expected):
    playcamp.trouble(*BULK, answers(200, {"data": {"results": results}}))

    assert client.register_payments([payment("17")])["17"].status == expected


@pytest.mark.parametrize(
    "document", [b"", b"ok", {"data": {}}, {"data": {"results": None}}, {"data": []}, {"results": 5}]
)
def test_an_answer_without_results_leaves_it_open(playcamp, client, document):
    playcamp.trouble(*BULK, answers(200, document))

    error = refusal(client.register_payments, [payment()])

    assert (error.status, error.is_uncertain, error.is_permanent) == (200, True, False)


@pytest.mark.parametrize(
    ("behaviour", "answered", "failure"),
    [
        (too_many(7), 429, None),
        (broken(500), 500, None),
        (broken(502), 502, None),
        (reset, None, "refused"),
        (nonsense, None, "refused"),
        (garbage, 200, None),
    ],
)
def test_payments_are_sent_again_by_the_caller_only(playcamp, client, pauses, behaviour, answered, failure):
    playcamp.trouble(*BULK, behaviour, is_stored=True)

    error = refusal(client.register_payments, [payment()])

    assert (error.status, error.failure, error.is_permanent) == (answered, failure, False)
    assert error.retry_after == (7.0 if answered == 429 else None)
    assert (len(playcamp.requests), pauses) == (1, [])
    assert client.register_payments([payment()])["GP-1"].status == "SKIPPED"


def test_a_payment_can_be_read_and_refunded_whatever_its_id(playcamp, client):
    odd = "a/b ?ü%2F#"
    client.register_payments([payment(odd, amount="9.90")])

    refunded = client.refund(odd)

    assert refunded["status"] == client.payment(odd)["status"] == "REFUNDED"
    assert playcamp.requests[1].path == "/v1/server/payments/a%2Fb%20%3F%C3%BC%252F%23/refund"
    assert playcamp.requests[1].body == b"{}"
    assert client.payment("unknown") is None
    assert refusal(client.refund, "unknown").code == "NOT_FOUND"


@pytest.mark.parametrize(("again", "code"), [(409, "CONFLICT"), (400, "BAD_REQUEST")])
def test_a_second_refund_is_an_error_as_playcamp_answers_it(playcamp, client, again, code):
    playcamp.refunded_again = again
    client.register_payments([payment()])
    client.refund("GP-1")

    error = refusal(client.refund, "GP-1")

    assert (error.status, error.code) == (again, code)


@pytest.mark.parametrize("bad_id", ["", ".", "..", "half \ud800"])
def test_an_id_that_makes_no_path_is_not_sent(playcamp, client, bad_id):
    for call in (client.payment, client.refund, client.creator, client.delete_webhook):
        with pytest.raises(UnsentError):
            call(bad_id)

    assert playcamp.requests == []


# Sponsors and coupons


@pytest.mark.parametrize("key", ["streamer_abc", "aaa11", "AAA1", "AAA111", "AAA1\n", ""])
def test_a_creator_key_of_another_form_is_not_sent(playcamp, client, key):
    with pytest.raises(UnsentError, match="five characters"):
        client.check_sponsor("u", key)

    assert playcamp.requests == []


def test_an_unknown_creator_or_no_campaign_is_an_error(playcamp, client):
    assert refusal(client.check_sponsor, "u", "ZZZ99").status == 404
    playcamp.campaigns["camp_1"]["status"] = "COMPLETED"
    assert refusal(client.check_sponsor, "u", "AAA11").text == "No active campaign"


def test_a_coupon_is_validated_and_redeemed_once(playcamp, client):
    valid = client.validate_coupon("welcome", "alice")
    redeemed = client.redeem_coupon("welcome", "alice", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff")
    again = client.redeem_coupon("welcome", "alice")

    assert (valid.is_accepted, redeemed.is_accepted, again.is_accepted) == (True, True, False)
    assert (valid.usage_id, valid.creator_key, valid.campaign_id) == (None, "AAA11", "camp_1")
    assert valid.package_name["en"] == "Welcome gift"
    assert redeemed.rewards == valid.rewards == (Reward("gems", 100),)
    assert (redeemed.usage_id, bool(redeemed.redeemed_at)) == (5678, True)
    assert (again.error_code, again.error_text) == ("USER_CODE_LIMIT", "Coupon was already used")
    assert playcamp.requests[1].json["gameUserUuid"] == "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
    assert playcamp.events[0]["data"]["usageId"] == 5678


@pytest.mark.parametrize("variant", ["valid", "status"])
@pytest.mark.parametrize(
    ("code", "error_code"),
    [("NOSUCH", "COUPON_NOT_FOUND"), ("INACTIVE", "COUPON_INACTIVE"), ("TOMORROW", "COUPON_NOT_YET_VALID"),
     ("YESTERDAY", "COUPON_EXPIRED"), ("USEDCODE", "USER_CODE_LIMIT"), ("USEDPACKAGE", "USER_PACKAGE_LIMIT"),
     ("USEDUP", "TOTAL_USAGE_LIMIT")],
)  # fmt: skip
def test_a_coupon_that_is_not_valid_is_an_answer_in_either_variant(playcamp, client, variant, code, error_code):
    playcamp.invalid_coupon = variant

    for answered in (client.validate_coupon(code, "alice"), client.redeem_coupon(code, "alice")):
        assert (answered.is_accepted, answered.error_code, answered.rewards) == (False, error_code, None)
        assert answered.error_text
    assert playcamp.usages == []


@pytest.mark.parametrize(
    "behaviour", [too_many(), broken(500), reset, garbage, answers(200, {"data": {"couponCode": "C1"}})]
)
def test_a_redemption_is_never_repeated(playcamp, client, pauses, behaviour):
    playcamp.trouble(*REDEEM, behaviour, is_stored=True)

    error = refusal(client.redeem_coupon, "WELCOME", "alice")

    assert error.is_uncertain is (error.status != 429)
    assert (len(playcamp.requests), pauses) == (1, [])


@pytest.mark.parametrize(
    ("status", "document", "accepted", "error_code"),
    [
        (200, {"data": {"success": True, "usageId": "77", "packageId": "p", "quantity": 1}}, True, None),
        (200, {"data": {"redeemed": True}}, True, None),
        (200, {"data": {"usageId": 77, "itemName": "Gift"}}, True, None),
        (200, {"data": {"success": False}}, False, "UNKNOWN"),
        (200, {"data": {"valid": True, "success": False, "code": "COUPON_EXPIRED"}}, False, "COUPON_EXPIRED"),
        (400, {"code": "BAD_REQUEST", "errorCode": "COUPON_EXPIRED", "message": "old"}, False, "COUPON_EXPIRED"),
        (404, {"code": "COUPON_NOT_FOUND", "error": "what?"}, False, "COUPON_NOT_FOUND"),
        (409, {"errorCode": "USER_CODE_LIMIT", "error": "used"}, False, "USER_CODE_LIMIT"),
    ],
)
def test_a_redemption_is_read_in_every_form(playcamp, client, status, document, accepted, error_code):
    playcamp.trouble(*REDEEM, answers(status, document))

    answered = client.redeem_coupon("WELCOME", "alice")

    assert (answered.is_accepted, answered.error_code, answered.rewards) == (accepted, error_code, None)
    assert answered.usage_id == (77 if "usageId" in str(document) else None)
    assert answered.package_name == ({"": "Gift"} if "itemName" in str(document) else {})


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
def test_other_refusals_of_a_coupon_are_errors(playcamp, client, status):
    playcamp.trouble("POST", "/v1/server/coupons/validate", answers(status, {"error": "no", "code": "BAD_REQUEST"}))

    error = refusal(client.validate_coupon, "WELCOME", "alice")

    assert (error.status, error.is_key_refused) == (status, status in (401, 403))


@pytest.mark.parametrize(
    "reward",
    [None, {}, "gems", [None], [{}], [{"itemId": "gems"}], [{"itemId": "gems", "itemQuantity": 0}],
     [{"itemId": "gems", "itemQuantity": -1}], [{"itemId": "gems", "itemQuantity": 1.5}],
     [{"itemId": "gems", "itemQuantity": True}], [{"itemId": "", "itemQuantity": 1}],
     [{"itemId": "ok", "itemQuantity": 1}, {"itemId": ["x"], "itemQuantity": 1}]],
)  # fmt: skip
def test_rewards_that_cannot_all_be_read_are_none(playcamp, client, reward):
    document = {"data": {"success": True, "usageId": 1, "reward": reward, "packageName": ["?"]}}
    playcamp.trouble(*REDEEM, answers(200, document))

    answered = client.redeem_coupon("WELCOME", "alice")

    assert (answered.is_accepted, answered.usage_id, answered.rewards) == (True, 1, None)


def test_large_and_textual_quantities_of_a_reward_are_exact(playcamp, client):
    reward = [{"itemId": 5, "itemQuantity": 10**39}, {"itemId": "b", "itemQuantity": "3", "itemName": "B"}]
    playcamp.trouble("POST", "/v1/server/coupons/validate", answers(200, {"data": {"valid": True, "reward": reward}}))

    assert client.validate_coupon("WELCOME", "alice").rewards == (Reward("5", 10**39), Reward("b", 3))


# Creators and webhook registrations


def test_a_creator_is_found_or_not(playcamp, client):
    assert client.creator("AAA11")["creatorId"] == 11
    assert client.creator("streamer/abc") is None
    assert playcamp.routes[-1] == "GET /v1/server/creators/streamer%2Fabc"


@pytest.mark.parametrize("document", [b"<html>nginx</html>", b"", {"data": None}])
def test_a_404_that_is_not_playcamps_says_nothing_of_a_creator(playcamp, client, document):
    playcamp.trouble(*CREATOR, answers(404, document))

    error = refusal(client.creator, "AAA11")

    assert (error.status, error.text) == (404, "HTTP 404")


def test_half_an_emoji_in_a_name_spoils_no_answer(playcamp, client):
    body = b'{"data":{"creatorName":"cut \\ud83d","other":["\\ud83d\\ude00", 1]}}'
    playcamp.trouble(*CREATOR, answers(200, body))

    assert client.creator("AAA11") == {"creatorName": "cut \ufffd", "other": ["\U0001f600", 1]}


def test_an_answer_with_too_many_parts_is_an_error(playcamp, client):
    playcamp.trouble(*CREATOR, answers(200, b'{"data":{"a":[' + b"[]," * (exact.MOST_PARTS + 1) + b"0]}}"))

    assert "too many parts" in str(refusal(client.creator, "AAA11"))


def test_a_webhook_is_registered_listed_changed_and_deleted(playcamp, client):
    made = client.create_webhook("sponsor.created", "https://example.com/hook")
    listed = client.webhooks()
    changed = client.update_webhook(made.id, is_active=False)
    client.delete_webhook(made.id)
    client.delete_webhook(made.id)

    assert made.secret
    assert (made.event_type, made.url, made.is_active) == ("sponsor.created", "https://example.com/hook", True)
    assert [(each.id, each.secret) for each in listed] == [(made.id, None)]
    assert not changed.is_active
    assert client.webhooks() == []


def test_an_event_type_that_cannot_be_subscribed_is_a_permanent_error(playcamp, client):
    error = refusal(client.create_webhook, "sponsor.changed", "https://example.com/hook")

    assert (error.status, error.is_permanent) == (400, True)
    assert error.details == (Detail("eventType", "Invalid enum value"),)


@pytest.mark.parametrize(
    ("address", "document", "words"),
    [
        (("POST", HOOKS[1]), {"data": {"id": 1}}, "no signing secret"),
        (HOOKS, {"data": [{"url": "x"}]}, "without an id"),
        (HOOKS, {"data": {}}, "not a list"),
    ],
)
def test_a_registration_that_lacks_what_is_needed_is_an_error(playcamp, client, address, document, words):
    playcamp.trouble(*address, answers(201, document))
    calls = {"POST": lambda: client.create_webhook("sponsor.created", "https://example.com"), "GET": client.webhooks}

    assert words in str(refusal(calls[address[0]]))


# Errors and retries


@pytest.mark.parametrize(
    ("document", "text", "code"),
    [
        ({"error": "Readable text", "code": "CONFLICT"}, "Readable text", "CONFLICT"),
        ({"message": "Readable text", "code": "NOT_FOUND"}, "Readable text", "NOT_FOUND"),
        ({"message": "first", "error": "second"}, "first", None),
        ({"error": "Coupon has expired", "errorCode": "COUPON_EXPIRED"}, "Coupon has expired", "COUPON_EXPIRED"),
        ({"message": ["a", {"message": "b"}]}, "a; b", None),
        ({"error": {"message": "inside"}}, "inside", None),
        ({"message": "two\nlines\tand \x1b[31mred"}, "two lines and ·[31mred", None),
        ({"message": "", "error": None, "code": 5}, "HTTP 400", None),
        ({"code": "X" * 5000}, "HTTP 400", "X" * 63 + "…"),
        ({"message": "y" * 5000}, "y" * 499 + "…", None),
        *((body, "HTTP 400", None) for body in ([], b"", b"<html>400</html>", b"\xff\xfe", b"[" * 100_000, b"null")),
        (b'{"message": "\\ud800 half"}', "\ufffd half", None),
    ],
)
def test_every_shape_of_error_is_read(playcamp, client, document, text, code):
    playcamp.trouble("POST", "/v1/server/payments", answers(400, document))

    error = refusal(client.check_payment, payment())

    assert (error.status, error.text, error.code) == (400, text, code)
    assert str(error) == f"PlayCamp answered 400{f' {code}' if code else ''}: {text}"
    assert str(error).isprintable()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_what_will_not_change_is_permanent_and_not_repeated(playcamp, client, status):
    playcamp.trouble(*HOOKS, answers(status, {"error": "no", "code": "X"}))

    error = refusal(client.webhooks)

    assert (error.is_permanent, error.is_uncertain, error.is_key_refused) == (True, False, status in (401, 403))
    assert len(playcamp.requests) == 1


@pytest.mark.parametrize("behaviour", [reset, nonsense, too_many(), broken(500), broken(503), after(0.01, broken(502))])
def test_reading_is_repeated_until_it_succeeds(playcamp, client, pauses, behaviour):
    playcamp.trouble(*HOOKS, behaviour, times=3)

    assert client.webhooks() == []
    assert len(playcamp.requests) == 4
    assert [0.5 <= pauses[0] <= 0.65, 1 <= pauses[1] <= 1.3, 2 <= pauses[2] <= 2.6] == [True] * 3


def test_reading_ends_after_the_last_attempt(playcamp, client, pauses):
    playcamp.trouble(*HOOKS, broken(503), times=9)

    error = refusal(client.webhooks)

    assert (error.status, error.code, error.is_permanent) == (503, "INTERNAL_ERROR", False)
    assert (len(playcamp.requests), len(pauses)) == (4, 3)


def test_retry_after_is_honoured_as_seconds_and_as_a_date_unless_it_is_too_long(playcamp, client, pauses, clock):
    clock.move_to(1767323045)
    playcamp.trouble(*HOOKS, too_many(3), too_many("Fri, 02 Jan 2026 03:04:12 GMT"), too_many(3600))

    error = refusal(client.webhooks)

    assert (pauses, error.status, error.retry_after) == ([3.0, 7.0], 429, 3600.0)


@pytest.mark.parametrize("word", ["soon", "-1", "1.5", "9" * 30, "Fri, 99 Foo 2026"])
def test_a_retry_after_that_says_nothing_is_ignored(playcamp, client, pauses, word):
    playcamp.trouble(*HOOKS, too_many(word))

    client.webhooks()

    assert 0.5 <= pauses[0] <= 0.65


def test_changes_are_never_repeated(playcamp, client, pauses):
    calls = {
        ("POST", "/v1/server/sponsors"): lambda: client.check_sponsor("7", "AAA11"),
        ("PUT", "/v1/server/webhooks/7"): lambda: client.update_webhook("7", is_active=True),
        ("DELETE", "/v1/server/webhooks/7"): lambda: client.delete_webhook("7"),
        ("POST", "/v1/server/payments/7/refund"): lambda: client.refund("7"),
        ("POST", "/v1/server/webhooks"): lambda: client.create_webhook("sponsor.created", "https://example.com"),
    }
    for (method, path), call in calls.items():
        playcamp.trouble(method, path, broken(503))
        assert refusal(call).status == 503

    assert (len(playcamp.requests), pauses) == (len(calls), [])


def test_a_redirect_is_not_followed_and_an_endless_answer_not_read(playcamp, client):
    too_large = b" " * (Client.largest_answer + 1)
    playcamp.trouble(*HOOKS, status(302, Location="http://127.0.0.1:1/"))
    redirected = refusal(client.webhooks)
    playcamp.trouble(*HOOKS, answers(200, too_large))
    large = refusal(client.webhooks)
    playcamp.trouble(*CREATOR, answers(404, too_large))

    assert (redirected.status, redirected.failure, redirected.is_permanent) == (302, "redirect", False)
    assert redirected.is_refusal
    assert (large.status, large.failure, large.is_permanent) == (200, "too_large", False)
    assert refusal(client.creator, "AAA11").failure == "too_large"


def test_nine_megabytes_are_read(playcamp, client):
    rows = [{"id": number, "url": "x" * 1000} for number in range(9000)]
    playcamp.trouble(*HOOKS, answers(200, {"data": rows}))

    assert len(client.webhooks()) == 9000


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["data", "ott", "results", "transactionId", "status", "valid", "reward", "error",
                                       "details", "code", "message", "id", "pagination", "expiresAt"]), inner),
    max_leaves=12,
).map(lambda document: json.dumps(document).encode()), st.sampled_from([200, 400, 404, 409, 429, 500]))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_no_answer_gives_anything_but_a_result_or_an_api_error(body, code):
    outbound = SimpleNamespace(call=lambda *args: Answer(None, code, body))
    client = Client(game("http://localhost"), outbound, sleep=lambda seconds: None, tries=2)
    calls = [
        lambda: client.issue_ott("u"),
        lambda: client.register_payments([payment()]),
        lambda: client.check_payment(payment()),
        lambda: client.payment("t"),
        lambda: client.check_sponsor("u", "AAA11"),
        lambda: client.redeem_coupon("WELCOME", "u"),
        lambda: client.creator("AAA11"),
        lambda: client.webhooks(),
        lambda: client.create_webhook("sponsor.created", "https://example.com"),
    ]
    errors = []
    for call in calls:
        try:
            call()
        except ApiError as error:
            errors.append(str(error))

    assert all(each.isprintable() and len(each) <= 1000 for each in errors)


# What nobody may see


def test_nothing_secret_is_in_an_error(playcamp, client):
    proof, code = "100001|1700000000|00ff00ff00ff", "SUMMER-2026-XYZ"
    secret = API_KEY.partition(":")[2]

    def quoting(handler):
        said = {"message": f"key {API_KEY} {secret} {proof} {code} bob@example.com", "code": f"BAD {secret}"}
        said["details"] = [{"path": f"callbackId {proof}", "message": f"{secret} {code}"}]
        answers(400, said)(handler)

    def echoing(handler):
        answers(400, {"error": f"cannot read: {playcamp.requests[-1].body.decode()[:150]}"})(handler)

    calls = {
        "webview/ott": lambda: client.issue_ott("100001", callback_id=proof),
        "coupons/redeem": lambda: client.redeem_coupon(code, "100001"),
        "payments": lambda: client.check_payment(payment()),
        "payments/bulk": lambda: client.register_payments([payment()]),
    }
    seen = []
    for behaviour in (quoting, echoing):
        for path, call in calls.items():
            playcamp.trouble("POST", f"/v1/server/{path}", behaviour)
            error = refusal(call)
            words = f"{error} {error!r} {error.text} {error.code} {error.details} "
            seen.append(words + "".join(traceback.format_exception(error)))

    everything = "\n".join(seen)
    for hidden in (secret, "bob@example.com", "gem_100", '"userId"'):
        assert hidden not in everything
    assert [proof in each for each in seen[:4]] == [False, True, True, True]  # only where it was not sent
    assert [code in each for each in seen[:4]] == [True, False, True, True]


def test_reprs_and_logs_hold_no_secret(playcamp, client, caplog):
    caplog.set_level(logging.DEBUG)
    playcamp.trouble(*HOOKS, broken(500), reset)
    ott = client.issue_ott("100001", callback_id=PROOF)
    made = client.create_webhook("sponsor.created", "https://example.com/hook")
    coupon = client.redeem_coupon("WELCOME", "alice")
    client.webhooks()

    seen = f"{made!r} {coupon!r} {client!r} {caplog.text}"
    for hidden in (ott, made.secret, "WELCOME", API_KEY, API_KEY.partition(":")[2], PROOF):
        assert hidden not in seen


def test_the_fake_signs_as_playcamps_own_kit_does():
    """The body and both values were made with PlayCamp's Go SDK v0.0.8."""
    body, secret = b'{"events":[]}', "whsec_vector_91c2"

    assert signed(body, secret) == "106421683dfb6b3785681ba2efe770076e6f70bba514aa01bd0216cec544b9c6"
    assert signed(body, secret, "timestamped", 1767225600) == (
        "t=1767225600,v1=71346b994826c1fc8c2e9e477e648a6976e030a212c1ac291f4cae106603cc10"
    )
