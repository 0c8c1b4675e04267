"""Appcharge's orders: signatures by other people's code, every quirk of the payload, exact answers."""

import base64
import json
import uuid
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st

from coinslot.access.keyring import SecretValue
from coinslot.base import signing
from coinslot.ledger import packing
from handlers.appcharge.order_body import parse_order
from handlers.appcharge.signature import SignatureError, parse, sign, verify
from tests.conftest import MAIN_KEY, TOKEN, order

NODE = json.loads((Path(__file__).parents[1] / "payloads/appcharge/signed_by_node.json").read_text())


def key(value: str, slot: str = "current") -> SecretValue:
    return SecretValue("appcharge.main_key", slot, value.encode())


def at(vector: dict[str, Any]) -> time_machine.travel:
    return time_machine.travel(signing.unix_seconds(vector["t"]), tick=False)


class TestSignature:
    @pytest.mark.parametrize("vector", NODE["vectors"], ids=lambda vector: vector["name"])
    def test_what_node_signed_is_accepted_and_one_byte_more_is_not(self, vector):
        body = base64.b64decode(vector["body_base64"])
        with at(vector):
            assert verify(body, vector["signature"], [key(NODE["key"])], 300).slot == "current"
            with pytest.raises(SignatureError):
                verify(body + b" ", vector["signature"], [key(NODE["key"])], 300)
            with pytest.raises(SignatureError):
                verify(body, vector["signature"], [], 300)

    # Made by hand with the documentation's recipe; milliseconds and seconds over the same body.
    BODY_A = b'{"playerId":"p-1","name":"Starter Pack"}'
    BODY_B = (
        '{"orderId":"68e25eebdcb1278","bundleName":"Pièces d’or / 5%","priceInCents":999,'
        '"estimatedPublisherNetAmount":850.5,"fx":0.000001}'
    ).encode()

    @pytest.mark.parametrize(
        ("timestamp", "body", "v1"),
        [
            ("1735689600000", BODY_A, "e635f7fb948a0d56401eac1ae34303bd8247b9aa6775d69a9e0bbc340c3361a1"),
            ("1735689600000", BODY_B, "8beff2cc24cc79251e1f1116fc9b5ea5c6c1c1d48677ce30437a87c43896a609"),
            ("1735689600", BODY_B, "0f06f2bf0e1a08edd13fef8cb9f8fde07a4dc74cedeffdb721322964bdf66dc6"),
        ],
    )
    def test_the_written_examples(self, timestamp, body, v1):
        with time_machine.travel(1735689600, tick=False):
            for header in (f"t={timestamp},v1={v1}", f" v1={v1.upper()} , x=y, t={timestamp}"):
                assert verify(body, header, [key("test-main-key-0123456789")], 300)

    NOUGHTS = "0" * 64

    @pytest.mark.parametrize(
        "header",
        [
            "",
            "t=1735689600000",
            f"v1={NOUGHTS}",
            *(f"t={t},v1={NOUGHTS}" for NOUGHTS in ["0" * 64] for t in ("", "-1", "1e3", "١٢٣", "9" * 21, "1,t=1")),
            *(f"t=1735689600000,v1={v1}" for v1 in ("0" * 63, "g" * 64, f"{NOUGHTS},v1={NOUGHTS}")),
            f"t=1735689600000;v1={NOUGHTS}",
            *(f"t=1735689600000,v1={NOUGHTS},{part}" for NOUGHTS in ["0" * 64] for part in ("x", "é=1", "x=1 2")),
            "é",
        ],
    )
    def test_a_header_of_another_shape_is_refused(self, header):
        with pytest.raises(SignatureError):
            parse(header)

    @pytest.mark.parametrize(("age", "is_good"), [(0, True), (300, True), (301, False), (-300, True), (-301, False)])
    def test_the_age_of_a_signature(self, clock, age, is_good):
        clock.move_to(1735689600)
        header = sign(b"{}", b"k", str(1735689600 - age))
        if is_good:
            assert verify(b"{}", header, [key("k")], 300)
        else:
            with pytest.raises(SignatureError) as error:
                verify(b"{}", header, [key("k")], 300)
            assert error.value.reason == "timestamp"

    def test_a_signature_without_the_timestamp_in_it_is_refused(self):
        with time_machine.travel(1735689600, tick=False), pytest.raises(SignatureError):
            verify(b"{}", f"t=1735689600,v1={signing.hmac_hex('sha256', b'k', b'{}')}", [key("k")], 300)

    @given(body=st.binary(max_size=200), secret=st.binary(min_size=1, max_size=64), flip=st.integers(0, 10_000))
    def test_whatever_is_signed_verifies_and_any_flipped_bit_does_not(self, body, secret, flip):
        with time_machine.travel(1735689600, tick=False):
            header = sign(body, secret, "1735689600000")
            holder = SecretValue("k", "current", secret)
            assert verify(body, header, [holder], 300) is holder
            if body:
                position, bit = divmod(flip % (len(body) * 8), 8)
                changed = bytearray(body)
                changed[position] ^= 1 << bit
                with pytest.raises(SignatureError):
                    verify(bytes(changed), header, [holder], 300)


def test_a_body_over_one_mebibyte(post_order, studio):
    answer = post_order(b'{"x":"' + b"a" * 1024 * 1024 + b'"}')
    assert answer.status_code == 413
    assert answer.json["publisherErrorMessage"]


def test_other_methods_and_paths_speak_json(client, studio):
    for answer in (client.get("/appcharge/demo/orders"), client.post("/appcharge/demo/nothing")):
        assert answer.status_code in (404, 405)
        assert answer.json["publisherErrorMessage"]


class TestOrders:
    def test_what_is_kept_of_a_paid_order(self, post_order, studio, db, feed):
        answer = post_order(estimatedPublisherNetAmount=850.5, estimatedAppchargeFee=1e-7, priceTotalInDollar=999)

        (row,) = db("SELECT * FROM transactions")
        assert answer.json == {"publisherPurchaseId": row["public_id"]}
        assert uuid.UUID(row["public_id"]).version == 5
        assert (row["external_id"], row["reference"], row["kind"]) == ("68e25eebdcb1278",) * 2 + ("purchase",)
        assert (row["currency"], row["gross_minor"], row["subtotal_minor"], row["tax_minor"]) == ("USD", 999, 850, 149)
        assert (row["usd_gross"], row["usd_fee"], row["usd_net"]) == ("999", "0.0000001", "850.5")
        assert row["usd_unit"] == "cents"
        assert json.loads(row["session_metadata"]) == {"shard": 3}
        assert row["occurred_at"] == "2026-07-21T14:17:27.329000Z"
        assert row["signed_with"] == "appcharge.main_key/current"
        assert json.loads(packing.body(row["raw_body"]))["orderId"] == "68e25eebdcb1278"
        assert row["signature"].startswith("t=")
        (grant,) = feed()
        assert grant == {
            "id": 1,
            "transaction_id": row["public_id"],
            "partner": "appcharge",
            "external_id": "68e25eebdcb1278",
            "kind": "purchase",
            "player_id": "alice",
            "items": [{"sku": "coins", "quantity": 1000}, {"sku": "gems", "quantity": 5}],
            "reverses": None,
            "policy": None,
            "is_test": False,
            "created_at": grant["created_at"],
        }

    @pytest.mark.parametrize("name", ["paid_ms", "free_order_s", "odd_numbers_ms", "unicode_s", "escapes_ms"])
    def test_what_node_sent_is_credited(self, client, studio, feed, name):
        vector = next(vector for vector in NODE["vectors"] if vector["name"] == name)
        studio.secret("appcharge.main_key", NODE["key"])
        studio.player("p-1", "p-é")
        body = base64.b64decode(vector["body_base64"])

        with at(vector):
            answer = client.post(
                "/appcharge/demo/orders",
                data=body,
                headers={"signature": vector["signature"], "x-publisher-token": TOKEN},
            )
        assert answer.status_code == 200, answer.text
        (grant,) = feed()
        sent = json.loads(body, parse_float=Decimal)
        assert {line["sku"]: line["quantity"] for line in grant["items"]} == {
            product["sku"]: int(product["amount"]) for product in sent["products"]
        }

    def test_the_same_order_has_the_same_id_on_another_machine(self, post_order, studio):
        # A constant: if this ever changes, orders replayed after a restore would get new ids.
        assert post_order().json == {"publisherPurchaseId": "7f2e886a-e108-52b9-91b7-01d92e3b7dab"}

    @pytest.mark.parametrize(
        "free",
        [
            {"action": "bonus", "priceInCents": 0},
            {"action": "purchase", "priceInCents": 0, "subTotal": 0, "tax": 0, "priceInDollar": "0"},
            {"action": "bonus", "paymentMethod": "", "purchaseDateAndTimeUtc": ""},
        ],
    )
    def test_free_orders_are_granted_like_paid_ones(self, post_order, studio, feed, free):
        assert post_order(**free).status_code == 200
        assert [grant["kind"] for grant in feed()] == ["bonus"]

    def test_the_older_free_order_with_only_an_external_id(self, post_order, studio, feed):
        body = json.dumps(
            {
                "purchaseDateAndTimeUtc": "2026-07-21T00:00:00.000Z",
                "action": "bonus",
                "subType": "rolling offer",
                "bundleName": "Daily",
                "products": [{"amount": 1, "sku": "gems"}],
                "priceInDollar": "0",
                "playerId": "alice",
                "externalTransactionId": "ext-1",
                "actionStatus": "completed",
            }
        ).encode()
        assert post_order(body).status_code == post_order(body).status_code == 200
        assert [(grant["external_id"], grant["kind"]) for grant in feed()] == [("ext-1", "bonus")]

    def test_a_failed_order_credits_nothing_and_a_later_completed_one_does(self, post_order, studio, feed, db):
        failed = post_order(actionStatus="failed")
        assert failed.status_code == 200
        assert feed() == []
        assert db("SELECT type, external_id FROM events") == [
            {"type": "appcharge.order.failed", "external_id": "68e25eebdcb1278"}
        ]
        assert post_order(actionStatus="failed").data == failed.data
        assert db("SELECT name, value FROM counters WHERE name = 'failed'") == [{"name": "failed", "value": 1}]

        assert post_order(actionStatus="completed").json == failed.json
        assert post_order(actionStatus="failed").json == failed.json
        assert len(feed()) == 1
        assert len(db("SELECT * FROM events")) == 1

    def test_retry_award_long_after_is_the_same_order(self, post_order, studio, feed, clock):
        first = post_order()
        clock.shift(40 * 24 * 3600)
        again = post_order(awardFlow="manual_retry", priceInDollar=851, currencyExchangeCost=3.25)
        assert again.data == first.data
        assert len(feed()) == 1

    def test_products_in_another_order_are_the_same_order(self, post_order, studio, feed):
        first = post_order()
        again = post_order(products=[{"amount": "5", "sku": "gems"}, {"amount": 1e3, "sku": "coins", "name": "new"}])
        assert (again.status_code, again.data) == (200, first.data)

    @pytest.mark.parametrize(
        "changed", [{"priceInCents": 1}, {"currency": "EUR"}, {"playerId": "bob"}, {"products": []}]
    )
    def test_each_part_of_the_fingerprint_counts(self, post_order, studio, feed, changed):
        post_order()
        answer = post_order(**changed)
        assert answer.status_code == 400
        assert answer.json["publisherErrorMessage"] == "This order was reported before with other content"
        assert len(feed()) == 1

    def test_quantities_are_exact(self, post_order, studio, feed, client):
        amounts = [
            (0, 0),
            ("7", 7),
            (10**39, 10**39),
            (str(10**40 - 1), 10**40 - 1),
            (1e21, 10**21),
            ("1e3", 1000),
            (5.0, 5),
        ]
        for number, (amount, quantity) in enumerate(amounts):
            products = [{"amount": amount, "sku": "coins"}]
            assert post_order(orderId=f"o-{number}", products=products).status_code == 200
            assert feed()[number]["items"] == [{"sku": "coins", "quantity": quantity}]
        answer = client.get("/game/v1/players/alice/granted", headers={"Authorization": f"Bearer {studio.token}"})
        assert answer.json["granted"] == {"coins": sum(quantity for _, quantity in amounts)}

    def test_odd_quantities_are_refused_and_name_the_field(self, post_order, studio, feed):
        for amount in (-1, 1.5, "1.5", "", None, True, [], {}, "1e999999999", 10**40, "ten", 1e-7, "١"):
            answer = post_order(products=[{"amount": 1, "sku": "gems"}, {"amount": amount, "sku": "coins"}])
            assert answer.status_code == 400, amount
            assert "products.1.amount" in answer.json["publisherErrorMessage"]
        assert feed() == []

    def test_lines_of_one_item_are_added_up(self, post_order, studio, feed):
        post_order(products=[{"amount": 1, "sku": "coins"}, {"amount": 2, "sku": "coins"}])
        assert feed()[0]["items"] == [{"sku": "coins", "quantity": 3}]
        most = 10**40 - 1
        answer = post_order(orderId="x", products=[{"amount": most, "sku": "coins"}, {"amount": 1, "sku": "coins"}])
        assert answer.status_code == 400

    def test_the_sku_of_2023(self, post_order, studio, feed):
        assert post_order(products=[{"amount": 1, "productId": {"sku": "coins", "name": "C"}}]).status_code == 200
        assert feed()[0]["items"] == [{"sku": "coins", "quantity": 1}]

    def test_the_first_unknown_product_is_named(self, post_order, studio, feed):
        products = [{"amount": 1, "sku": "coins"}, {"amount": 1, "sku": "swords"}, {"amount": 1, "sku": "axes"}]
        answer = post_order(products=products)
        assert (answer.status_code, answer.json["publisherErrorMessage"]) == (400, "Unknown product swords")
        assert feed() == []

    def test_session_metadata_in_every_shape(self, post_order, studio, db):
        deep = {"a": [1, {"b": None}]}
        shapes = ((deep, deep), ('{"a":1}', {"a": 1}), ("plain", "plain"), ("", None), (None, None), (7, 7))
        for number, (metadata, _) in enumerate(shapes):
            assert post_order(orderId=f"o-{number}", sessionMetadata=metadata).status_code == 200
        rows = db("SELECT session_metadata FROM transactions ORDER BY id")
        assert [json.loads(row["session_metadata"] or "null") for row in rows] == [kept for _, kept in shapes]

    def test_half_an_emoji_in_a_name_is_no_reason_to_refuse(self, post_order, studio, db):
        assert post_order(bundleName="Pack \ud83d", sessionMetadata={"nick": "a\ud83d"}).status_code == 200
        (row,) = db("SELECT session_metadata FROM transactions")
        assert json.loads(row["session_metadata"]) == {"nick": "a\ud83d"}

    def test_unknown_and_odd_optional_fields_are_let_be(self, post_order, studio, feed):
        answer = post_order(
            newField={"x": 1}, discountRatePoints="10%", discount="?", awardFlow=3, storeMetadata=[], action="gift"
        )
        assert answer.status_code == 200

    UNUSABLE = (
        ({"orderId": ..., "appChargePaymentId": ...}, "orderId"),
        *(({"playerId": value}, "playerId") for value in (..., "", None, ["a"], "a\nb", "a" * 256, "half \ud83d")),
        ({"products": ...}, "products"),
        ({"products": {}}, "products"),
        ({"products": [7]}, "products"),
        ({"products": [{"amount": 1}]}, "products.0.sku"),
        ({"products": [{"sku": "coins"}]}, "products.0.amount"),
        ({"products": [{"amount": 1, "sku": "coins"}] * 501}, "products"),
        *(({"actionStatus": value}, "actionStatus") for value in (False, 0, {})),
    )
    NO_JSON = (
        *(b"", b"{", b"[]", b"null", b"7", b"\xff\xfe{}", b"\xff", b'{"a":' * 100_000, b'{"a":NaN}'),
        b'{"priceInCents":' + b"9" * 5000 + b"}",
        *(b'{"priceInCents":NaN}', b'{"playerId":"\\ud800"}', b'{"x":"\\udfff","orderId":"1"}'),
    )

    def test_what_cannot_be_worked_with_is_a_400_that_names_the_field(self, post_order, studio, db):
        for changed, place in self.UNUSABLE:
            answer = post_order(**changed)
            assert answer.status_code == 400, changed
            assert place in answer.json["publisherErrorMessage"]
        assert db("SELECT * FROM transactions") == []

    def test_no_json_is_a_400_in_words_of_ours_and_never_a_crash(self, post_order, studio):
        for raw in self.NO_JSON:
            answer = post_order(raw)
            message = answer.json["publisherErrorMessage"]
            assert (answer.status_code, message[:24]) == (400, "The order cannot be read"), raw[:20]
            assert "sys." not in message
            assert "surrogate" not in message

    def test_absent_money_is_unknown_and_not_nought(self, post_order, studio, db):
        assert post_order(priceInCents=..., subTotal=..., tax=..., currency=...).status_code == 200
        (row,) = db("SELECT gross_minor, currency, kind FROM transactions")
        assert row == {"gross_minor": None, "currency": None, "kind": "purchase"}

    def test_figures_of_2023_in_major_units_are_kept_as_sent(self, post_order, studio, db):
        studio.config("appcharge.dollar_fields_are_cents", "off")
        assert post_order(subTotal=0.90, tax=0.10, priceInCents=100, priceInDollar=15).status_code == 200
        (row,) = db("SELECT * FROM transactions")
        assert (row["gross_minor"], row["subtotal_minor"], row["usd_unit"]) == (100, None, "dollars")
        assert json.loads(packing.unpack(row["figures"]))["subTotal"] == "0.9"

    def test_sandbox_orders_are_tests(self, post_order, studio, feed):
        studio.config("appcharge.environment", "sandbox")
        post_order()
        assert feed()[0]["is_test"] is True


class TestAliases:
    """One purchase under several ids, as the documentation of different years names it."""

    def test_two_order_ids_are_two_orders_even_with_one_payment_id(self, post_order, studio, feed):
        post_order(orderId=..., appChargePaymentId="pay-1")
        first = post_order(orderId="o-1", appChargePaymentId="pay-1")
        second = post_order(orderId="o-2", appChargePaymentId="pay-1")
        assert first.json != second.json
        assert [grant["external_id"] for grant in feed()] == ["pay-1", "o-2"]

    REPORTS = "p op o, op p, -e pe o-p, -e pe ope, pe o-e, op oq q, o op p, e pe p op oq q, o ope e p o"

    @pytest.mark.parametrize("reports", [words.split() for words in REPORTS.split(", ")])
    def test_ids_once_seen_together_stay_one_purchase(self, post_order, studio, feed, reports):
        """Each word is a report, each letter an id it carries: order, payment p or q, external."""
        answers = set()
        for report in reports:
            ids = {"orderId": "o-1" if "o" in report else ..., "purchaseId": ...}
            ids["appChargePaymentId"] = next((f"pay-{letter}" for letter in report if letter in "pq"), ...)
            answers.add(post_order(**ids, externalTransactionId="ext-1" if "e" in report else ...).data)
        assert len(answers) == 1
        assert len(feed()) == 1

    def test_an_alias_with_other_content_is_a_conflict(self, post_order, studio, feed):
        post_order(orderId=..., appChargePaymentId="pay-1")
        assert post_order(orderId="o-1", appChargePaymentId="pay-1", playerId="bob").status_code == 400
        assert len(feed()) == 1

    def test_the_same_ids_in_two_games_are_two_orders(self, post_order, studio, installation, feed):
        other = type(studio)(installation, "other")
        other.secret("appcharge.main_key", MAIN_KEY)
        other.secret("appcharge.publisher_token", TOKEN)
        other.player("alice")
        other.item("coins", "gems")
        assert post_order(game="demo").json != post_order(game="other").json
        assert len(feed()) == 1


class TestMoney:
    @settings(max_examples=200)
    @given(minor=st.integers(0, 10**17), shape=st.sampled_from(["int", "text", "float-text", "exponent"]))
    def test_whole_amounts_survive_every_spelling(self, minor, shape):
        spelled = {"int": str(minor), "text": f'"{minor}"', "float-text": f"{minor}.00", "exponent": f"{minor}e0"}[
            shape
        ]
        body = json.dumps(order(priceInCents="@")).replace('"@"', spelled).encode()
        assert parse_order(body)["gross_minor"] == minor

    @settings(max_examples=200)
    @given(figure=st.decimals(-(10**12), 10**12, allow_nan=False, allow_infinity=False, places=6))
    def test_figures_keep_their_value_exactly(self, figure):
        body = json.dumps(order(estimatedPublisherNetAmount="@")).replace('"@"', format(figure, "f")).encode()
        assert Decimal(parse_order(body)["figures"]["estimatedPublisherNetAmount"]) == figure

    @settings(max_examples=200)
    @given(quantity=st.integers(0, 10**40 - 1))
    def test_quantities_survive_every_spelling(self, quantity):
        for spelled in (str(quantity), f'"{quantity}"', f"{quantity}.0"):
            body = json.dumps(order(products=[{"sku": "coins", "amount": "@"}])).replace('"@"', spelled).encode()
            assert parse_order(body)["lines"] == (("coins", quantity),)

    @settings(max_examples=300)
    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
    def test_no_value_anywhere_is_more_than_a_value_error(self, value):
        for name in ("orderId", "playerId", "products", "priceInCents", "currency", "actionStatus", "sessionMetadata"):
            body = json.dumps(order(**{name: value})).encode()
            with suppress(ValueError):
                parse_order(body)
