"""Xsolla's webhooks: the signature, user validation, both ways of reporting a purchase, refunds, and its error form.

The bodies are written by hand after developers.xsolla.com/webhooks (checked 2026-11).
"""

import hashlib
import json

import pytest

from tests.partner_cases import XSOLLA_SECRET as SECRET_KEY


def signed(body: bytes, key: str = SECRET_KEY) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "Authorization": f"Signature {hashlib.sha1(body + key.encode()).hexdigest()}",
    }


def dump(document) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def order(**changed):
    """An order with payment details inside, as projects since 2025 get it."""
    document = {
        "notification_type": "order_paid",
        "items": [{"sku": "coins", "type": "virtual_good", "is_pre_order": False, "quantity": 1, "amount": "9.9900"}],
        "order": {
            "id": 4567,
            "mode": "default",
            "currency_type": "real",
            "currency": "USD",
            "amount": "9.9900",
            "status": "paid",
            "platform": "xsolla",
            "invoice_id": "87654321",
        },
        "user": {"external_id": "alice", "email": "alice@example.com", "country": "US"},
        "billing": {
            "notification_type": "payment",
            "purchase": {"total": {"currency": "USD", "amount": 9.99}},
            "transaction": {"id": 87654321, "payment_date": "2026-01-02T12:00:00+03:00"},
            "payment_details": {"payment": {"currency": "USD", "amount": 10.89}, "payout": {"amount": 9.1}},
        },
    }
    return document | changed


def payment(**changed):
    """A payment of the older in-game store."""
    document = {
        "notification_type": "payment",
        "purchase": {
            "virtual_items": {"items": [{"sku": "coins", "amount": 1}]},
            "total": {"currency": "USD", "amount": 9.99},
        },
        "user": {"id": "alice", "email": "alice@example.com", "country": "US"},
        "transaction": {"id": 87654321, "payment_date": "2026-01-02T12:00:00+03:00"},
        "payment_details": {"payment": {"currency": "USD", "amount": 10.89}},
    }
    return document | changed


def refund(code=1, kind="refund", **changed):
    document = payment(notification_type=kind, refund_details={"code": code, "reason": "written by hand"})
    return document | changed


@pytest.fixture
def studio(studio):
    studio.secret("xsolla.secret", SECRET_KEY)
    return studio


@pytest.fixture
def post(client, studio):
    """Send a webhook: a document, or bytes as they are."""

    def send(document, game="demo", key=SECRET_KEY, headers=None):
        body = document if isinstance(document, bytes) else dump(document)
        return client.post(f"/xsolla/{game}/webhook", data=body, headers=headers or signed(body, key))

    return send


def code(answer) -> str:
    assert answer.status_code == 400
    assert answer.mimetype == "application/json"
    assert set(answer.json["error"]) == {"code", "message"}
    return answer.json["error"]["code"]


def is_accepted(answer) -> bool:
    return (answer.status_code, answer.data) == (204, b"")


class TestSignature:
    def test_the_documentation_s_own_sample(self):
        from handlers.xsolla.messages import signature_of

        assert signature_of(b'{"a":1}', b"key") == hashlib.sha1(b'{"a":1}key').hexdigest()

    @pytest.mark.parametrize(
        "header", ["Signature {}", "signature {}", "SIGNATURE  {}", " Signature {} ", "Signature {upper}"]
    )
    def test_spellings_of_the_header_are_accepted(self, post, header):
        body = dump(order())
        digest = hashlib.sha1(body + SECRET_KEY.encode()).hexdigest()

        assert is_accepted(post(body, headers={"Authorization": header.format(digest, upper=digest.upper())}))

    @pytest.mark.parametrize("header", ["", "Signature", "Signature {}00", "Bearer {}", "{}", "Signature {cut}", "é"])
    def test_what_is_no_signature_is_refused(self, post, feed, header):
        body = dump(order())
        digest = hashlib.sha1(body + SECRET_KEY.encode()).hexdigest()

        answer = post(body, headers={"Authorization": header.format(digest, cut=digest[:-1])})

        assert code(answer) == "INVALID_SIGNATURE"
        assert feed() == []


class TestUserValidation:
    def ask(self, post, player_id):
        return post({"notification_type": "user_validation", "user": {"id": player_id, "email": "alice@example.com"}})

    def test_a_registered_player_is_valid_and_any_other_is_not(self, post, studio, db):
        studio.player("1234567")

        assert is_accepted(self.ask(post, "alice"))
        assert is_accepted(self.ask(post, 1234567))
        assert code(self.ask(post, "mallory")) == "INVALID_USER"
        assert code(post({"notification_type": "user_validation", "user": {}})) == "INVALID_PARAMETER"
        assert db("SELECT * FROM players WHERE player_id = 'mallory'") == []

    def test_every_player_is_valid_where_the_game_creates_unknown_ones(self, post, studio, db):
        studio.config("players.unknown", "create")

        assert is_accepted(self.ask(post, "mallory"))
        assert db("SELECT * FROM players WHERE player_id = 'mallory'") == []

    def test_a_game_that_does_not_answer_is_asked_again(self, post, studio):
        studio.config("players.lookup_url", "http://127.0.0.1:1/players")
        studio.config("players.unknown", "lookup")

        assert self.ask(post, "mallory").status_code == 503
        assert is_accepted(self.ask(post, "alice"))


class TestPurchases:
    @pytest.mark.parametrize("document", [order(), payment()], ids=["order_paid", "payment"])
    def test_both_kinds_credit_and_keep_the_money(self, post, feed, db, document):
        assert is_accepted(post(document))

        (row,) = db("SELECT * FROM transactions")
        assert (row["external_id"], row["kind"], row["player_id"]) == ("87654321", "purchase", "alice")
        assert (row["gross_minor"], row["currency"], row["occurred_at"]) == (999, "USD", "2026-01-02T09:00:00.000000Z")
        assert [grant["items"] for grant in feed()] == [[{"sku": "coins", "quantity": 1}]]

    def test_a_payment_and_an_order_of_one_purchase_credit_once(self, post, feed, db):
        for document in (payment(), order(), payment(), order()):
            assert is_accepted(post(document))

        assert len(feed()) == 1
        assert db("SELECT * FROM conflicts") == []

    def test_a_payment_without_items_waits_for_its_order(self, post, feed, db):
        assert is_accepted(post(payment(purchase={"checkout": {"currency": "USD", "amount": 9.99}})))
        assert feed() == []
        assert [row["type"] for row in db("SELECT type FROM events")] == ["xsolla.payment"]

        assert is_accepted(post(order()))
        assert len(feed()) == 1

    @pytest.mark.parametrize(("amount", "kinds"), [("9.9900", ["empty_order"]), ("0.0000", [])])
    def test_a_paid_order_without_items_is_for_a_person_to_look_at(self, post, db, amount, kinds):
        for _ in range(2):
            assert is_accepted(post(order(items=[], order={**order()["order"], "amount": amount})))

        assert [row["kind"] for row in db("SELECT kind FROM notices")] == kinds

    def test_an_order_without_a_transaction_goes_by_its_own_id_and_is_found_by_it_later(self, post, feed):
        free = order(order={**order()["order"], "invoice_id": None}, billing={})

        assert is_accepted(post(free))
        assert is_accepted(post(order()))
        assert len(feed()) == 1

    @pytest.mark.parametrize(
        ("items", "credited"),
        [
            ([{"sku": "coins", "quantity": "3"}], [("coins", 3)]),
            ([{"sku": "coins"}], [("coins", 1)]),
            ([{"sku": "coins", "quantity": 1}, {"sku": "coins", "quantity": 2}], [("coins", 3)]),
            ([{"sku": "coins", "quantity": 1500, "type": "virtual_currency", "amount": None}], [("coins", 1500)]),
            (
                [
                    {"sku": "gems", "quantity": 1, "type": "bundle"},
                    {"sku": "coins", "quantity": 9, "is_bundle_content": True},
                ],
                [("gems", 1)],
            ),
            ([{"sku": "coins", "quantity": 9, "is_bundle_content": True}], [("coins", 9)]),
        ],
    )
    def test_items_as_orders_list_them(self, post, feed, items, credited):
        assert is_accepted(post(order(items=items)))
        assert [(line["sku"], line["quantity"]) for line in feed()[0]["items"]] == credited

    def test_a_virtual_currency_of_a_payment_is_an_item(self, post, feed):
        bought = {"virtual_currency": {"name": "Coins", "sku": "coins", "quantity": 10}, "total": {"amount": 1}}

        assert is_accepted(post(payment(purchase=bought)))
        assert feed()[0]["items"] == [{"sku": "coins", "quantity": 10}]

    @pytest.mark.parametrize(
        ("changed", "currency", "gross_minor", "kind"),
        [
            ({"amount": "0.0000"}, "USD", 0, "bonus"),
            ({"amount": "12,50"}, "USD", None, "purchase"),
            ({"amount": None}, "USD", None, "purchase"),
            ({"amount": "1200", "currency": "KRW"}, "KRW", 1200, "purchase"),
            ({"amount": "5", "currency": "gold", "currency_type": "virtual"}, None, None, "bonus"),
        ],
    )
    def test_money_that_cannot_be_read_never_refuses(self, post, db, changed, currency, gross_minor, kind):
        assert is_accepted(post(order(order={**order()["order"], **changed}, billing={})))

        (row,) = db("SELECT currency, gross_minor, kind FROM transactions")
        assert row == {"currency": currency, "gross_minor": gross_minor, "kind": kind}

    @pytest.mark.parametrize(
        "document",
        [order(order={**order()["order"], "mode": "sandbox"}), payment(transaction={"id": 1, "dry_run": 1})],
        ids=["sandbox", "dry_run"],
    )
    def test_tests_are_marked(self, post, feed, document):
        assert is_accepted(post(document))
        assert [grant["is_test"] for grant in feed()] == [True]

    @pytest.mark.parametrize(
        "document",
        [
            b"",
            b"[]",
            b"{",
            b"\xff{}",
            dump({"user": {"id": "alice"}}),
            dump(order(user={})),
            dump(order(order={}, billing={})),
            dump(order(items=[{"sku": ""}])),
            dump(order(items=[{"sku": "coins", "quantity": -1}])),
            dump(order(items=[{"sku": "coins", "quantity": 1.5}])),
            dump(order(items={"sku": "coins"})),
            dump(order(items=[["coins"]])),
        ],
    )
    def test_what_cannot_be_read_is_refused_and_kept(self, post, feed, db, installation, document):
        assert code(post(document)) == "INVALID_PARAMETER"
        installation.observations.flush()
        assert [row["reason"] for row in db("SELECT reason FROM refusals")] == ["malformed"]
        assert feed() == []


class TestRefunds:
    @pytest.fixture(autouse=True)
    def _policy(self, studio):
        studio.config("refunds.revoke", "on")

    def reversed_items(self, feed):
        return [grant["kind"] for grant in feed()]

    @pytest.mark.parametrize(
        ("document", "reason"),
        [
            (refund(1), "refund"),
            (refund(2), "chargeback"),
            (refund("11"), "chargeback"),
            (order(notification_type="order_canceled"), "refund"),
            (refund(9, "partial_refund"), "refund"),
        ],
    )
    def test_each_way_of_money_going_back_applies_the_policy_once(self, post, feed, db, document, reason):
        post(order())
        for _ in range(2):
            assert is_accepted(post(document))

        assert [row["reason"] for row in db("SELECT reason FROM refunds")] == [reason]
        assert self.reversed_items(feed) == ["purchase", "reversal"]

    def test_a_refund_and_a_cancellation_of_one_order_take_back_once(self, post, feed):
        post(payment())
        post(order())
        assert is_accepted(post(refund()))
        assert is_accepted(post(order(notification_type="order_canceled")))

        assert self.reversed_items(feed) == ["purchase", "reversal"]

    def test_a_refund_that_overtakes_its_purchase_is_applied_when_that_comes(self, post, feed):
        assert is_accepted(post(refund()))
        post(order())

        assert self.reversed_items(feed) == ["purchase", "reversal"]

    def test_a_partial_refund_is_for_a_person_to_look_at(self, post, db):
        post(order())
        part = refund(1, "partial_refund", payment_details={"payment": {"currency": "USD", "amount": 2.5}})
        assert is_accepted(post(part))

        assert [row["kind"] for row in db("SELECT kind FROM notices")] == ["partial_refund"]

    def test_a_refund_names_nobody_else_s_purchase(self, post, feed, db):
        post(order())
        assert is_accepted(post(refund(transaction={"id": 1}, user={"id": "bob"})))

        assert self.reversed_items(feed) == ["purchase"]
        assert [row["outcome"] for row in db("SELECT outcome FROM refunds")] == ["waiting"]


class TestOtherWebhooks:
    def test_a_type_nobody_knows_is_kept_once_without_personal_data(self, post, feed, db, client, studio):
        document = {"notification_type": "afs_reject", "user": {"id": "alice", "email": "alice@example.com"}}
        assert is_accepted(post(document))
        assert is_accepted(post(document))

        assert [row["type"] for row in db("SELECT type FROM events")] == ["xsolla.afs_reject"]
        told = client.get("/game/v1/events", headers={"Authorization": f"Bearer {studio.token}"})
        assert "alice@example.com" not in told.text
        assert feed() == []


def test_its_integration_page_has_its_address_and_key_and_no_empty_card(studio, browser):
    page = browser.get("/games/demo/integration/xsolla")

    assert page.status_code == 200
    assert "/xsolla/demo/webhook" in page.text
    assert "Secret key" in page.text
    assert "Agreed with" not in page.text
    assert "Agreed with Playtem" in browser.get("/games/demo/integration/playtem").text
