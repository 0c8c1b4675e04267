"""Appcharge's events: both versions on one address, kept once each, and what refunds and disputes do.

Payloads are written by hand after the documentation's field tables.
"""

import json

import pytest

from coinslot.games.readers import moment_of
from coinslot.ledger import chain
from handlers.appcharge.events import refund_reason, without_personal_data
from tests import databases
from tests.conftest import MAIN_KEY, appcharge_headers, order
from tests.owed import Owed

ORDER = order()
V1 = {
    "event": "order_refunded",
    "timestamp": 1632345000,
    "appChargePaymentId": ORDER["appChargePaymentId"],
    "appChargeOrderId": ORDER["orderId"],
    "playerId": "alice",
    "playerEmail": "alice@example.com",
    "reason": "requested_by_customer",
    "offer": {"offerName": "Starter Pack", "priceInCents": 999, "priceInDollar": 9.99, "products": []},
}
V2 = {
    "eventName": "order.refunded",
    "eventId": "8d7a2b52-8a4a-4f6a-9f15-3a1f1f0a1c11",
    "timestamp": 1632345000123,
    "sessionId": "s-1",
    "requestId": "r-1",
    "result": "success",
    "reason": None,
    "customer": {"id": "alice", "email": "alice@example.com", "name": "Alice Liddell"},
    "geolocation": {"countryCode2": "US", "ipAddress": "192.0.2.1", "zipCode": "90210"},
    "order": {"totalPayment": 999, "currencyCode": "USD"},
    "transactions": [{"purchaseId": ORDER["purchaseId"], "type": "paid", "timestamp": 1632340000123, "amount": "9.99"}],
}


def v1(**changed):
    return {name: value for name, value in (V1 | changed).items() if value is not ...}


def v2(**changed):
    return {name: value for name, value in (V2 | changed).items() if value is not ...}


@pytest.fixture
def post(client, studio):
    """Post an event, as JSON or as bytes."""

    def send(body):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return client.post("/appcharge/demo/events", data=raw, headers=appcharge_headers(raw))

    return send


@pytest.fixture
def outcomes(db):
    """What became of the refunds so far."""
    return lambda: [row["outcome"] for row in db("SELECT outcome FROM refunds ORDER BY id")]


@pytest.fixture
def take_back(studio):
    studio.config("refunds.revoke", "on")


@pytest.fixture
def granted(client, studio):
    def read(player="alice"):
        answer = client.get(f"/game/v1/players/{player}/granted", headers={"Authorization": f"Bearer {studio.token}"})
        return {sku: quantity for sku, quantity in answer.json["granted"].items() if quantity}

    return read


ALL = {"coins": 1000, "gems": 5}


def is_taken(answer):
    return (answer.status_code, answer.json, answer.mimetype) == (200, {}, "application/json")


NAMES = """
    login_land login_method_selected login_canceled login_resolved shop_land login_clicked login_screen_presented
    login_otp_ios_button login_approval login_result offers_loaded offers_shown approval_request_displayed
    approval_request_closed invalid_property_error order_created payment_intent_success payment_intent_failed
    order_completed_success order_completed_failed order_canceled order_cancelled order_refunded order_dispute_open
    order_dispute_won order_dispute_lost
    order.created order.payment.resolved order.completed order.canceled order.refunded order.dispute.opened
    order.dispute.resolved webstore.login.displayed webstore.login.completed webstore.login.canceled
    webstore.offers.displayed webstore.offers.popup_closed webstore.offers.popup.closed
    webstore.approval_request.closed webstore.offers.progress_bar.mission.started
    webstore.personalization_api.error webstore.personalization_api.error.invalid_property portal.login.completed
    portal.block.clicked portal.footer.clicked something.they_will.add.tomorrow
""".split()


class TestKeeping:
    @pytest.mark.parametrize("version", ["event", "eventName"])
    def test_every_name_is_kept_under_itself_acknowledged_and_credits_nothing(self, post, db, feed, version):
        for name in NAMES:
            assert is_taken(post({version: name, "timestamp": 1726130178951, "playerId": "alice"}))

        assert [row["type"] for row in db("SELECT type FROM events ORDER BY id")] == [f"appcharge.{n}" for n in NAMES]
        assert feed() == []
        assert db("SELECT * FROM transactions") == []
        assert db("SELECT value FROM counters WHERE name = 'event'") == [{"value": len(NAMES)}]

    def test_what_has_no_name_is_kept_and_nothing_guessed(self, post, db, post_order, granted, take_back):
        post_order()
        names = [..., None, "", "  ", 7, ["order.refunded"], "x" * 101, "a\nb", "\ud800", {"a": 1}]

        for number, name in enumerate(names):
            assert is_taken(post(v1(event=name)))
            assert is_taken(post(v2(eventName=name, eventId=f"e-{number}")))

        rows = db("SELECT type FROM events")
        assert [row["type"] for row in rows] == ["appcharge.unnamed"] * 2 * len(names)
        assert granted() == ALL

    def test_a_name_keeps_its_spelling_but_not_the_blanks_around_it(self, post, db):
        post({"eventName": " webstore.offers.popup_Closed ", "eventId": "e-1"})

        (row,) = db("SELECT type, dedupe_key FROM events")
        assert row["type"] == "appcharge.webstore.offers.popup_Closed"
        assert row["dedupe_key"] == "event:webstore.offers.popup.closed:e-1"

    def test_the_game_reads_it_without_personal_data(self, post, client, studio):
        post(v2(sessionMetadata={"shard": 3, "note": "caf\ud83d"}))

        answer = client.get("/game/v1/events?after=0", headers={"Authorization": f"Bearer {studio.token}"})

        (event,) = answer.json["events"]
        assert event["type"] == "appcharge.order.refunded"
        assert (event["partner"], event["player_id"], event["external_id"]) == ("appcharge", "alice", None)
        assert event["occurred_at"] == "2021-09-22T21:10:00.123000Z"
        assert event["data"] == {
            **V2,
            "customer": {"id": "alice"},
            "geolocation": {"countryCode2": "US"},
            "sessionMetadata": {"shard": 3, "note": "caf\ufffd"},
        }

    def test_the_body_is_kept_as_it_was_signed_until_the_player_is_forgotten(self, post, db, client, studio):
        raw = json.dumps(V1, indent=1).encode()
        post(raw)
        assert db("SELECT raw_body FROM events") == [{"raw_body": raw}]

        client.delete("/game/v1/players/alice", headers={"Authorization": f"Bearer {studio.token}"})

        assert db("SELECT raw_body FROM events") == [{"raw_body": None}]

    def test_an_event_id_is_known_again_whatever_else_has_changed(self, post, db):
        for body in (V2, v2(timestamp=1632345000124), v2(requestId="r-2")):
            assert is_taken(post(body))

        assert len(db("SELECT * FROM events")) == 1

    def test_without_an_event_id_the_bytes_are(self, post, db):
        odd = [..., None, "", 1.5, ["x"], "x" * 256, "\ud800"]
        for count, event_id in enumerate(odd):
            for _ in range(2):
                assert is_taken(post(v2(eventId=event_id)))
            assert len(db("SELECT * FROM events")) == 2 * count + 1
            assert is_taken(post(v2(eventId=event_id, requestId="another")))
            assert len(db("SELECT * FROM events")) == 2 * count + 2

    PLAYERS = (
        ({"customer": {"id": "alice", "playerId": "bob"}, "playerId": "carol"}, "alice"),
        ({"customer": {"playerId": "bob"}, "playerId": "carol"}, "bob"),
        ({"customer": {"id": None, "name": None}, "playerId": "carol"}, "carol"),
        ({"customer": None, "playerId": 12345678901234567890}, "12345678901234567890"),
        ({"event": "invalid_property_error", "data": {"playerId": "bob"}}, "bob"),
        ({"playerId": " alice"}, None),
        ({"playerId": True}, None),
        ({"playerId": ["alice"]}, None),
        ({"playerId": "x" * 256}, None),
        ({"playerId": "\ud800"}, None),
        ({"customer": "alice"}, None),
        ({}, None),
    )

    def test_the_player_is_looked_for_where_the_versions_name_it(self, post, db):
        for given, _ in self.PLAYERS:
            assert is_taken(post({"event": "shop_land", **given}))

        rows = db("SELECT player_id FROM events ORDER BY id")
        assert [row["player_id"] for row in rows] == [kept for _, kept in self.PLAYERS]

    TIMES = (
        (1632345000, "2021-09-22T21:10:00.000000Z"),
        (1726130178951, "2024-09-12T08:36:18.951000Z"),
        ("1726130178951", "2024-09-12T08:36:18.951000Z"),
        (" 1632345000 ", "2021-09-22T21:10:00.000000Z"),
        (1726130178951.0, "2024-09-12T08:36:18.951000Z"),
        (0, None),
        (-5, None),
        (True, None),
        (None, None),
        (10**19, None),
        (10**3000, None),
        (1e22, None),
        ("yesterday", None),
        ("", None),
        ([1632345000], None),
        ({}, None),
    )

    def test_a_time_is_seconds_or_milliseconds_and_never_a_reason_to_refuse(self, post, db):
        for given, kept in self.TIMES:
            assert moment_of(given) == kept
            assert is_taken(post({"event": "shop_land", "timestamp": given}))

        rows = db("SELECT occurred_at FROM events ORDER BY id")
        assert [row["occurred_at"] for row in rows] == [kept for _, kept in self.TIMES]

    def test_a_number_that_no_float_holds_is_kept_as_text_and_refuses_no_event(self, post, db):
        answer = post(
            b'{"event": "order_refunded", "appChargeOrderId": "o-1", "fx": [1e999, -1E400], "timestamp": 2e999}'
        )

        assert is_taken(answer)
        (row,) = db("SELECT data FROM events")
        assert json.loads(row["data"])["fx"] == ["1e999", "-1E400"]

    UNREADABLE = (
        *(
            b"",
            b"{",
            b"[]",
            b"null",
            b'"order.refunded"',
            b"\xff\xfe",
            b'{"a": NaN}',
            b'{"a": -Infinity}',
            b"[" * 100_000,
        ),
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a":' * 400 + b"1" + b"}" * 400,
        b'{"a":' + b"[" * 90 + b"]" * 90 + b"}",
    )

    def test_what_cannot_be_read_is_refused(self, post, db, installation):
        for raw in self.UNREADABLE:
            answer = post(raw)
            assert answer.status_code == 400, raw[:20]
            assert set(answer.json) == {"error"}
            assert answer.json["error"].startswith("The event cannot be read: ")

        assert db("SELECT * FROM events") == []
        installation.observations.flush()
        rows = db("SELECT endpoint, reason FROM refusals")
        assert rows == [{"endpoint": "events", "reason": "malformed"}] * len(self.UNREADABLE)

    def test_a_failed_write_is_our_trouble_and_the_event_may_come_again(
        self, post, post_order, db, installation, take_back, outcomes
    ):
        post_order()
        with databases.Fault(installation, "INSERT ON refunds"):
            assert post(V1).status_code >= 500
        assert db("SELECT * FROM events") == []

        assert is_taken(post(V1))
        assert outcomes() == ["reversed"]


class TestRefunds:
    def test_both_versions_of_one_refund_reverse_its_order_once(
        self, post, post_order, feed, granted, take_back, db, outcomes
    ):
        post_order()

        for body in (V1, V2, V1, v2(eventId="another")):
            assert is_taken(post(body))

        purchase, reversal = feed()
        assert (reversal["kind"], reversal["reverses"], reversal["policy"]) == ("reversal", purchase["id"], "revoke")
        assert reversal["items"] == [{"sku": "coins", "quantity": -1000}, {"sku": "gems", "quantity": -5}]
        assert (reversal["transaction_id"], reversal["external_id"]) == (purchase["transaction_id"], ORDER["orderId"])
        assert granted() == {}
        assert outcomes() == ["reversed", "repeated", "repeated"]
        assert len(db("SELECT * FROM events")) == 3

    NAMED = (
        lambda ids: v1(appChargeOrderId=ids["orderId"], appChargePaymentId=...),
        lambda ids: v1(appChargeOrderId=..., appChargePaymentId=ids["appChargePaymentId"]),
        lambda ids: v2(transactions=[], order={"orderId": ids["orderId"]}),
        lambda ids: v2(transactions=None, order={"id": ids["orderId"]}),
        lambda ids: v2(transactions=..., orderId=ids["orderId"]),
        lambda ids: v2(transactions=[{"purchaseId": ids["purchaseId"], "type": "paid"}]),
        lambda ids: v2(transactions="none", purchaseId=ids["purchaseId"]),
        lambda ids: v2(transactions=[None, 7, {}], order={"purchaseId": ids["purchaseId"]}),
        lambda ids: v2(transactions=[{"paymentId": ids["appChargePaymentId"]}]),
    )

    @pytest.mark.parametrize("is_early", [False, True], ids=["after", "before"])
    def test_a_refund_finds_its_order_by_any_id_before_and_after(
        self, post, post_order, feed, granted, take_back, is_early
    ):
        for number, make in enumerate(self.NAMED):
            ids = {"orderId": f"o-{number}", "purchaseId": f"pr-{number}", "appChargePaymentId": f"pay-{number}"}
            body = {**make(ids), "eventId": f"e-{number}"}
            steps = [lambda body=body: post(body), lambda ids=ids: post_order(**ids)]
            for step in steps if is_early else reversed(steps):
                assert step().status_code == 200
            newest = [(grant["external_id"], grant["kind"]) for grant in feed()][2 * number :]
            assert newest == [(ids["orderId"], "purchase"), (ids["orderId"], "reversal")], body

        assert granted() == {}

    def test_a_free_order_of_the_older_kind_is_found_by_its_external_id(self, post, post_order, granted, take_back):
        post_order(orderId=..., purchaseId=..., appChargePaymentId=..., externalTransactionId="ext-1", action="bonus")
        assert granted() == ALL

        post(v1(appChargeOrderId=..., appChargePaymentId=..., externalTransactionId="ext-1"))

        assert granted() == {}

    def test_whoever_an_event_names_the_one_who_received_gives_back(self, post, post_order, feed, granted, take_back):
        post_order()

        assert is_taken(post(v1(playerId="bob")))

        assert feed()[1]["player_id"] == "alice"
        assert (granted(), granted("bob")) == ({}, {})

    def test_a_refund_of_an_order_nobody_reported_waits_and_is_acknowledged(self, post, feed, take_back, outcomes):
        assert is_taken(post(V1))
        assert (feed(), outcomes()) == ([], ["waiting"])

    def test_what_names_several_orders_or_none_is_left_to_a_person(
        self, post, post_order, granted, take_back, outcomes, caplog
    ):
        post_order()
        post_order(orderId="another", purchaseId="pr_another")
        payment_ids = [ORDER["appChargePaymentId"], ..., None, 1.5, "\ud800", ["x"]]

        for payment_id in payment_ids:
            assert is_taken(post(v1(appChargeOrderId=..., appChargePaymentId=payment_id)))

        assert granted() == {"coins": 2000, "gems": 10}
        assert outcomes() == ["ambiguous"] * len(payment_ids)
        assert "names no one order" in caplog.text

    @pytest.mark.parametrize("result", ["success", "failed", " FAILED ", None, "who knows", 7, {"x": 1}], ids=repr)
    def test_the_name_alone_makes_a_refund(self, post, post_order, granted, take_back, result):
        post_order()
        assert is_taken(post(v2(result=result, reason="insufficient_funds")))
        assert granted() == {}
        assert refund_reason("order_refunded", {"result": result}) == "refund"

    def test_as_it_comes_the_policy_ignores(self, post, post_order, granted, outcomes):
        post_order()
        assert is_taken(post(V1))
        assert (granted(), outcomes()) == (ALL, ["ignored"])

    def test_policies_per_item_and_reason_reach_the_game(self, post, post_order, feed, studio):
        studio.config("refunds.refund", "ignore")
        studio.config("refunds.chargeback", "revoke")
        studio.config("refunds.chargeback.gems", "revoke_negative")
        post_order()

        post(V1)
        assert len(feed()) == 1
        post(v1(event="order_dispute_lost"))

        assert feed()[1]["policy"] == "revoke"
        assert feed()[1]["items"] == [
            {"sku": "coins", "quantity": -1000},
            {"sku": "gems", "quantity": -5, "policy": "revoke_negative"},
        ]

    def test_a_sandbox_punishes_nobody(self, post, post_order, feed, granted, studio, take_back, db):
        post_order()
        studio.config("appcharge.environment", "sandbox")
        assert is_taken(post(V1))
        assert granted() == ALL
        assert db("SELECT outcome, is_test FROM refunds") == [{"outcome": "test", "is_test": 1}]

        post_order(orderId="s-1", purchaseId="pr_s", appChargePaymentId="pay_s")
        assert is_taken(post(v1(appChargeOrderId="s-1", appChargePaymentId="pay_s")))

        assert [(grant["external_id"], grant["kind"], grant["is_test"]) for grant in feed()][1:] == [
            ("s-1", "purchase", True),
            ("s-1", "reversal", True),
        ]
        assert granted() == ALL

    def test_an_event_that_names_the_reserved_player_punishes_nobody(self, post, post_order, granted, take_back, db):
        post_order()
        assert is_taken(post(v1(playerId="coinslot-test")))
        assert (granted(), db("SELECT is_test FROM events")) == (ALL, [{"is_test": 1}])

    def test_a_live_refund_of_a_test_order_is_a_test(self, post, post_order, feed, studio, take_back):
        studio.config("appcharge.environment", "sandbox")
        post_order()
        studio.config("appcharge.environment", "live")

        post(V1)

        assert [(grant["kind"], grant["is_test"]) for grant in feed()] == [("purchase", True), ("reversal", True)]

    def test_event_and_reversal_are_owed_to_whoever_wants_them(
        self, post, post_order, installation, studio, take_back, db
    ):
        owed = Owed(installation, studio)
        owed.destination("refunds", events="appcharge.order.refunded")
        owed.destination("grants", events="grant.*")
        post_order()

        for _ in range(2):
            post(V2)

        rows = db(
            """SELECT n.name, d.event_type, d.grant_id, d.event_id FROM deliveries d
               JOIN destinations n ON n.id = d.destination_id ORDER BY d.id"""
        )
        assert [tuple(row.values()) for row in rows] == [
            ("grants", "grant.created", 1, None),
            ("refunds", "appcharge.order.refunded", None, 1),
            ("grants", "grant.reversed", 2, None),
        ]


LOST, WON, OPEN = "order_dispute_lost", "order_dispute_won", "order_dispute_open"
GONE, BACK = {"type": "dispute_funds_withdrawn"}, {"type": "dispute_funds_reinstated"}


class TestDisputes:
    def test_lost_takes_won_gives_back_and_a_refund_takes_again(
        self, post, post_order, feed, granted, take_back, installation
    ):
        post_order()
        seen = []
        for number, name in enumerate((OPEN, LOST, LOST, WON, WON, "order_refunded", "order_refunded")):
            assert is_taken(post(v1(event=name, timestamp=1632345000 + number)))
            seen.append(granted())

        assert seen == [ALL, {}, {}, ALL, ALL, {}, {}]
        assert [(grant["kind"], grant["external_id"], grant["reverses"]) for grant in feed()] == [
            ("purchase", ORDER["orderId"], None),
            ("reversal", ORDER["orderId"], 1),
            ("adjustment", ORDER["orderId"], 2),
            ("reversal", ORDER["orderId"], 3),
        ]
        assert list(chain.verify(installation.database.read())) == []

    def test_won_before_lost_takes_nothing(self, post, post_order, granted, take_back):
        post_order()
        post(v1(event=WON, timestamp=1632345100))
        post(v1(event=LOST, timestamp=1632345000))
        assert granted() == ALL

    @pytest.mark.parametrize("is_early", [False, True], ids=["after", "before"])
    def test_lost_and_won_give_the_same_before_the_order_and_after(
        self, post, post_order, granted, take_back, is_early
    ):
        if not is_early:
            post_order()
        post(v1(event=LOST, timestamp=1632345000))
        post(v1(event=WON, timestamp=1632345100))
        post_order()

        assert granted() == ALL

    def test_an_open_dispute_takes_nothing(self, post, post_order, granted, take_back, db):
        post_order()

        for name in (OPEN, "order.dispute.open", "order.dispute.opened", "Order_Dispute_Opened"):
            assert is_taken(post(v1(event=name)))

        assert granted() == ALL
        assert db("SELECT * FROM refunds") == []

    RESOLVED = (
        ({"result": "lost"}, "chargeback"),
        ({"result": "WON"}, "reinstated"),
        ({"reason": "dispute_lost"}, "chargeback"),
        ({"reason": "dispute_won"}, "reinstated"),
        ({"dispute": {"status": "lost"}}, "chargeback"),
        ({"dispute": {"result": "won"}}, "reinstated"),
        ({"dispute": {"outcome": "payment_dispute_lost"}}, "chargeback"),
        ({"order": {"disputeStatus": "dispute.won"}}, "reinstated"),
        ({"transactions": [{"type": "paid"}, GONE]}, "chargeback"),
        ({"transactions": [GONE, BACK, {"type": "paid"}]}, "reinstated"),
        ({"transactions": [BACK | {"timestamp": 1632349000}, GONE | {"timestamp": 1632348000}]}, "reinstated"),
        ({"transactions": [GONE | {"timestamp": 1632349000}, BACK | {"timestamp": 1632348000}]}, "chargeback"),
        ({"result": "won", "transactions": [GONE]}, "reinstated"),
        ({"result": "won", "dispute": {"status": "lost"}}, None),
        ({"reason": "the player won"}, None),
        ({"result": "success", "dispute": "lost"}, None),
        ({"transactions": [{"type": "paid"}, {"type": 7}, None]}, None),
        ({"result": 1, "reason": ["lost"], "transactions": GONE}, None),
        ({}, None),
    )

    def test_how_a_dispute_was_resolved_is_looked_for(self):
        for name in ("order.dispute.resolved", "order_dispute_resolved"):
            for said, reason in self.RESOLVED:
                assert refund_reason(name, said) == reason, said
        for spelling in ("order.dispute.lost", "ORDER.DISPUTE_LOST", "order_dispute.lost"):
            assert refund_reason(spelling, {}) == "chargeback"

    def test_a_dispute_resolved_against_us_is_a_chargeback(self, post, post_order, feed, studio):
        studio.config("refunds.chargeback", "flag")
        post_order()

        post(v2(eventName="order.dispute.resolved", dispute={"status": "lost"}))

        assert [grant["policy"] for grant in feed()] == [None, "flag"]

    def test_a_dispute_resolved_without_a_word_how_is_kept_and_logged(
        self, post, post_order, granted, take_back, db, caplog
    ):
        post_order()

        assert is_taken(post(v2(eventName="order.dispute.resolved", result=None)))

        assert granted() == ALL
        assert len(db("SELECT * FROM events")) == 1
        assert any(each.levelname == "WARNING" and "dispute" in each.message for each in caplog.records)


class TestPersonalData:
    HIDDEN = (
        "emailAddress contactEmail phone_number clientIp remoteIp ipV4 ip_addr ip ipAddress billingAddress zip5"
        " postal_code firstName fullName cardNumber playerCode proofKey accessToken dateOfBirth"
    ).split()
    TOLD = "sku offerName displayName publisherTabId tip recipe currencyCode sessionId description ship".split()

    def test_what_appcharge_may_add_without_notice_is_told_only_where_it_is_about_the_offer(self):
        for name in self.HIDDEN:
            assert without_personal_data({name: "x", "inside": [{name: "x"}]}) == {"inside": [{}]}, name
        assert without_personal_data(dict.fromkeys(self.TOLD, "x")) == dict.fromkeys(self.TOLD, "x")
        address_in_text = {"sessionMetadata": '{"mail":"a.b@example.com"}'}
        assert without_personal_data(address_in_text) == {"sessionMetadata": '{"mail":"[e-mail]"}'}

    def test_nothing_personal_is_left_at_any_depth(self):
        hidden = {
            "email": "alice@example.com",
            "playerEmail": "alice@example.com",
            "ipAddress": "192.0.2.1",
            "createdByIp": "192.0.2.1",
            "zipCode": "90210",
            "zip_code": "90210",
            "accessToken": "secret-1",
            "session_token": "secret-1",
            "publisherToken": "secret-1",
            "userPassword": "secret-1",
            "otp": {"token": "secret-1"},
            "IPADDRESS": "192.0.2.1",
            "customer": {"name": "Alice Liddell", "email": "alice@example.com"},
            "customerDetails": [{"name": "Alice Liddell"}],
        }

        left = without_personal_data({**hidden, "a": [{"b": hidden}], "offer": {"name": "Pack"}, "sku": "coins"})

        empty = {"customer": {}, "customerDetails": [{}]}
        assert left == {**empty, "a": [{"b": empty}], "offer": {"name": "Pack"}, "sku": "coins"}

    def test_none_of_it_reaches_the_log(self, post, post_order, installation, take_back, capfd, caplog):
        post_order()
        for body in (V1, V2, v1(event=LOST), v2(eventId="e", eventName="order.dispute.resolved")):
            post(body)
        installation.observations.flush()

        logged = capfd.readouterr().err + caplog.text
        assert "reversed" in logged
        for hidden in ("alice@example.com", "192.0.2.1", "90210", "Liddell", MAIN_KEY, "test-publisher-token"):
            assert hidden not in logged
