"""Orders of Appcharge's that are odd and paid all the same: each is credited, or named to the owner."""

import json

import pytest

from coinslot.ledger import notices, packing
from coinslot.operations import troubles
from coinslot.operations.troubles import NOTICES
from handlers.appcharge.receive import ORDER_IDS
from handlers.commands import troubles as commands_of_troubles
from tests.conftest import appcharge_headers, order
from tests.pages import text_of


@pytest.fixture
def named(installation):
    """What a kind of trouble, or a reason of refused orders, names: subject -> what is said of it."""

    def find(kind):
        found = [each for each in troubles.find(installation.database.read()).found if kind in (each.kind, each.detail)]
        assert len(found) <= 1
        return dict(found[0].named) if found else {}

    return find


@pytest.fixture
def doctor(app):
    return lambda: app.test_cli_runner().invoke(commands_of_troubles.doctor_command, []).output


class TestStatuses:
    def test_an_unknown_status_is_refused_and_named(self, post_order, studio, feed, named):
        odd = ["succeeded", "Pending", "1", 7, True, [], {"is": "x"}, "half \ud83d", "a\x00b"]
        for number, status in enumerate(odd):
            answer = post_order(actionStatus=status, orderId=f"o-{number}")
            assert answer.status_code == 400
            assert "actionStatus" in answer.json["publisherErrorMessage"]
        assert feed() == []
        assert len(named("unknown_status")) == len(odd)

    def test_a_missing_status_is_completed_and_any_case_will_do(self, post_order, studio, feed, named):
        statuses = (..., None, "", "  ", "completed", " COMPLETED ")
        for number, status in enumerate(statuses):
            assert post_order(actionStatus=status, orderId=f"o-{number}").status_code == 200
        assert len(feed()) == len(statuses)
        assert not named("unknown_status")

    def test_the_owner_explains_a_word_and_retry_award_credits(self, post_order, studio, feed, named, browser, doctor):
        assert post_order(actionStatus="Succeeded").status_code == 400
        for said in (text_of(browser.get("/")), doctor()):
            assert "succeeded" in said
            assert "appcharge.completed_statuses" in said
            assert "Retry Award" in said

        studio.config("appcharge.completed_statuses", "completed, SUCCEEDED")
        assert named("unknown_status")  # until somebody presses Retry Award
        assert post_order(actionStatus="Succeeded", awardFlow="manual_retry").status_code == 200

        assert not named("unknown_status")
        assert "succeeded" not in doctor()
        assert len(feed()) == 1

    def test_a_word_for_failed_is_noted_and_credits_nothing(self, post_order, studio, feed, named, db):
        assert post_order(actionStatus="voided").status_code == 400
        studio.config("appcharge.failed_statuses", "failed,Voided")
        assert not named("unknown_status")  # nobody paid

        assert post_order(actionStatus="VOIDED").status_code == 200
        assert feed() == []
        assert db("SELECT type FROM events") == [{"type": "appcharge.order.failed"}]
        assert not named("unknown_status")

    def test_a_word_in_both_lists_is_in_neither(self, post_order, studio, feed, named):
        studio.config("appcharge.completed_statuses", "completed,done")
        studio.config("appcharge.failed_statuses", "failed,done")
        assert post_order(actionStatus="done").status_code == 400
        assert "done" in named("unknown_status").values()

    def test_up_to_ten_words_are_named(self, post_order, studio, named, browser):
        for number in range(12):
            post_order(actionStatus=f"word-{number}", orderId=f"o-{number}")
        assert len(named("unknown_status")) == 10
        assert "and 2 more" in text_of(browser.get("/"))

    def test_a_credited_order_gets_its_answer_whatever_its_status_is_called_now(self, post_order, studio, feed):
        first = post_order()
        assert post_order(actionStatus="settled").data == first.data
        assert len(feed()) == 1

    def test_the_order_of_a_simulation_troubles_nobody(self, post_order, studio, named):
        assert post_order(actionStatus="odd", playerId="coinslot-test").status_code == 400
        assert not named("unknown_status")


ODD_MONEY = [
    ({"estimatedAppchargeFee": "N/A"}, "N/A"),
    ({"pricePointMetadata": {"usd": 999}}, '{"usd": 999}'),
    ({"taxInDollar": False}, "false"),
    ({"currency": "USDT"}, "USDT"),
    ({"currency": 840}, "840"),
    ({"currency": ["USD"]}, '["USD"]'),
    ({"priceInCents": 9.99}, "9.99"),
    ({"priceInCents": -1}, "-1"),
    ({"priceInCents": 10**18}, "1000000000000000000"),
    ({"priceInCents": "1.234,56"}, "1.234,56"),
    ({"priceInCents": True}, "true"),
    ({"subTotal": [1]}, "[1]"),
    ({"currency": "half \ud83d"}, "half \ufffd"),
]


class TestUnreadableMoney:
    def test_what_an_order_does_not_need_never_refuses_it(self, post_order, studio, feed, db):
        for number, (changed, kept) in enumerate(ODD_MONEY):
            first = post_order(orderId=f"o-{number}", **changed)
            again = post_order(orderId=f"o-{number}", **changed, awardFlow="manual_retry")

            assert (first.status_code, again.data) == (200, first.data)
            ((name, _),) = changed.items()
            row = db("SELECT figures, kind FROM transactions ORDER BY id DESC LIMIT 1")[0]
            assert (json.loads(packing.unpack(row["figures"]))[name], row["kind"]) == (kept, "purchase")
        assert len(feed()) == len(ODD_MONEY)

    SPELLED = (
        *('"sessionMetadata":1e400', '"sessionMetadata":1e99999999999999999999', '"estimatedAppchargeFee":NaN'),
        *('"tax":-Infinity', '"taxRate":' + "9" * 5000, '"sessionMetadata":' + "[" * 300 + "]" * 300),
    )

    @pytest.mark.parametrize("spelled", SPELLED, ids=["large", "larger", "nan", "infinity", "digits", "deep"])
    def test_numbers_out_of_any_range_refuse_nothing(self, post_order, studio, feed, spelled):
        name = spelled.split('"')[1]
        body = json.dumps(order(**{name: ...}))[:-1] + f",{spelled}}}"
        for _ in range(2):
            answer = post_order(body.encode())
            assert answer.status_code == 200, answer.text
        assert len(feed()) == 1

    def test_an_unreadable_id_beside_the_orders_own_is_as_good_as_missing(self, post_order, studio, feed):
        values = ({"id": "x"}, ["x"], False, 1.5, "a\nb", "x" * 256)
        for value in values:
            odd = dict.fromkeys(("purchaseId", "appChargePaymentId", "externalTransactionId"), value)
            for order_id in (f"one-{value}"[:9], f"two-{value}"[:9]):
                assert post_order(orderId=order_id.replace("\n", "-"), **odd).status_code == 200
        assert len(feed()) == 2 * len(values)

    def test_odd_times_and_product_ids_refuse_nothing(self, post_order, studio):
        for number, value in enumerate((7, "soon", {}, "9999-99-99", 1e300)):
            products = [{"sku": "coins", "amount": 1, "productId": value}]
            odd = {"purchaseDateAndTimeUtc": value, "action": value, "products": products}
            assert post_order(orderId=f"o-{number}", **odd).status_code == 200

    def test_an_odd_number_is_no_id(self, post_order, studio, db):
        studio.config("players.unknown", "create")
        for spelled in ('"playerId":NaN', '"playerId":1e400', '"orderId":Infinity'):
            name = spelled.split('"')[1]
            body = json.dumps(order(**{name: ...}))[:-1] + f",{spelled}}}"
            assert post_order(body.encode()).status_code == 400
        assert db("SELECT * FROM transactions") == []

    def test_unreadable_money_is_part_of_what_tells_a_retry_from_a_conflict(self, post_order, studio, feed):
        assert post_order(priceInCents="9,99").status_code == 200
        assert post_order(priceInCents="9,98").status_code == 400
        assert post_order(priceInCents=999).status_code == 400
        assert post_order(priceInCents="9,99", estimatedAppchargeFee="N/A", currency="usd").status_code == 200

    def test_readable_money_keeps_the_fingerprint_it_always_had(self, post_order, studio, db):
        post_order(estimatedAppchargeFee="N/A")
        (row,) = db("SELECT fingerprint FROM transactions")
        assert row["fingerprint"] == "7bffdcbee14fae27905d43e8cabe3bbf9f84f9c0022c6f1b3e38f8882bd63202"

    @pytest.mark.parametrize("changed", [{"priceInCents": 9.99}, {"currency": "USDT"}, {"priceInCents": {"usd": 9}}])
    def test_an_unknown_amount_is_said_on_the_order_and_stands_apart_in_its_month(
        self, post_order, studio, browser, app, db, changed
    ):
        post_order(orderId="o-known")
        answer = post_order(orderId="o-odd", **changed)

        page = text_of(browser.get(f"/games/demo/transactions/{answer.json['publisherPurchaseId']}"))
        assert "for an unknown amount" in page
        assert "Paid by the player unknown" in page
        browser.post("/games/demo/settlements/2026-07/close", note="")
        lines = db("SELECT section, count, gross_minor FROM settlement_lines ORDER BY section")
        assert lines == [
            {"section": "counted", "count": 1, "gross_minor": 999},
            {"section": "incomplete", "count": 1, "gross_minor": 0},
        ]

    def test_an_unknown_fee_leaves_the_amount_known(self, post_order, studio, db):
        post_order(estimatedAppchargeFee="N/A", estimatedPublisherNetAmount=850.5)
        (row,) = db("SELECT gross_minor, usd_fee, usd_net FROM transactions")
        assert row == {"gross_minor": 999, "usd_fee": None, "usd_net": "850.5"}

    def test_a_free_order_without_a_readable_currency_is_free(self, post_order, studio, feed):
        post_order(priceInCents=0, subTotal=0, tax=0, currency="none", action=...)
        assert feed()[0]["kind"] == "bonus"


def test_many_notices_that_only_want_a_look_hide_none_that_is_open(installation, post_order, studio, named, browser):
    post_order(actionStatus="succeeded")
    game_id = studio.row["id"]

    def many(tx):
        for number in range(NOTICES + 500):
            notices.note(tx, game_id, "appcharge", "replayed", f"o-{number}")

    installation.database.write_here(many)

    assert named("unknown_status")
    assert "1,000+ orders of Appcharge from before a restore" in text_of(browser.get("/"))


class TestEmptyOrders:
    @pytest.mark.parametrize("products", [[], [{"sku": "coins", "amount": 0}]])
    def test_a_paid_order_of_nothing_is_accepted_counted_and_named(
        self, post_order, studio, named, browser, doctor, db, products
    ):
        first = post_order(products=products)
        assert post_order(products=products).data == first.data

        assert first.status_code == 200
        assert named("empty_order") == {"68e25eebdcb1278": "9.99 USD"}
        for said in (text_of(browser.get("/")), doctor()):
            assert "1 paid order of Appcharge named nothing to credit: 68e25eebdcb1278 (9.99 USD)" in said
            assert "alice" not in said
        assert db("SELECT value FROM counters WHERE name = 'gross' AND label = 'USD'") == [{"value": 999}]

    def test_a_free_one_troubles_nobody_and_an_unreadable_price_may_have_been_paid(self, post_order, studio, named):
        post_order(products=[], priceInCents=0, subTotal=0, tax=0, action="bonus")
        assert not named("empty_order")
        post_order(orderId="o-2", products=[], priceInCents="9,99")
        assert named("empty_order") == {"o-2": "amount unknown"}

    def test_it_is_a_trouble_with_its_money_until_it_is_set_aside(self, app, post_order, studio, named, clock):
        post_order(products=[])
        clock.shift(100 * 86400)
        runner = app.test_cli_runner()

        def listed():
            output = runner.invoke(commands_of_troubles.list_command, ["--json"]).stdout
            return [each for each in json.loads(output) if each["key"].startswith("empty_order")]

        (trouble,) = listed()
        assert (trouble["severity"], trouble["game"], trouble["money"]) == ("wrong", "demo", {"USD": "9.99"})
        for arguments in ([trouble["key"]], [trouble["key"], "--note", " "], ["other", "--note", "x"]):
            assert runner.invoke(commands_of_troubles.aside_command, arguments).exit_code > 0
        done = runner.invoke(commands_of_troubles.aside_command, [trouble["key"], "--note", "given by hand"])
        assert (done.exit_code, listed()) == (0, [])

        clock.shift(1)
        post_order(orderId="o-2", products=[])
        assert [each["count"] for each in listed()] == [2]  # it happened again


@pytest.fixture
def post(client, studio):
    """Post JSON to one of Appcharge's addresses."""

    def send(endpoint, document):
        body = json.dumps(document).encode()
        return client.post(f"/appcharge/demo/{endpoint}", data=body, headers=appcharge_headers(body))

    return send


class TestOrdersAtOtherAddresses:
    @pytest.mark.parametrize("endpoint", ["events", "players", "auth", "otp"])
    def test_an_order_is_refused_there_and_named_until_it_is_credited(
        self, post, post_order, studio, named, browser, doctor, db, endpoint
    ):
        nameless = dict.fromkeys(("orderId", "appChargePaymentId", "purchaseId"), ...)
        orders = [nameless | {name: f"lost-{name[:3]}"} for name in ORDER_IDS]
        for ids in orders:
            assert post(endpoint, order(**ids)).status_code == 400

        assert named("misplaced") == {f"lost-{name[:3]}": f"sent to /{endpoint}" for name in ORDER_IDS}
        for said in (text_of(browser.get("/")), doctor()):
            assert f"lost-ord (sent to /{endpoint})" in said
            assert "At stake: 29.97 USD." in said
            assert "Retry Award" in said
            assert "alice" not in said
        assert db("SELECT * FROM events") == []

        assert [post_order(**ids).status_code for ids in orders] == [200] * 3
        assert not named("misplaced")

    def test_what_is_no_order_is_an_event(self, post, studio, named):
        for changed in (
            {"event": "order_created"},
            {"eventName": "order.created"},
            {"products": ...},
            {"products": "coins"},
            {"orderId": ..., "appChargePaymentId": ...},
        ):
            assert post("events", order(**changed)).status_code == 200
        assert not named("misplaced")

    def test_the_refused_call_says_what_to_do(self, post, studio, installation, browser, db):
        post("events", order())
        installation.observations.flush()
        (row,) = db("SELECT id, reason FROM refusals")
        assert row["reason"] == "misplaced"
        assert "this address takes none" in text_of(browser.get(f"/games/demo/refusals/{row['id']}"))

    def test_a_simulated_order_troubles_nobody(self, post, studio, named):
        assert post("events", order(playerId="coinslot-test")).status_code == 400
        assert not named("misplaced")


class TestEventsAtOtherAddresses:
    EVENT = {"eventName": "order.refunded", "eventId": "e-1", "orderId": "o-1", "playerId": "alice"}

    @pytest.mark.parametrize("endpoint", ["orders", "players", "auth", "otp"])
    def test_an_event_is_refused_there_with_the_right_address(self, post, studio, installation, browser, db, endpoint):
        for changed in ({}, {"eventName": ..., "event": "order_refunded"}, {"playerId": ...}):
            document = {name: value for name, value in (self.EVENT | changed).items() if value is not ...}
            answer = post(endpoint, document)
            assert (answer.status_code, answer.json["error"]) == (400, "This address takes no events")

        installation.observations.flush()
        first, *others = db("SELECT id, reason FROM refusals")
        assert [row["reason"] for row in (first, *others)] == ["misplaced_event"] * 3
        page = text_of(browser.get(f"/games/demo/refusals/{first['id']}"))
        assert "It is an event, and this address takes none" in page
        assert "/appcharge/demo/events" in page

    def test_an_order_with_a_field_of_that_name_is_an_order(self, post_order, studio, feed):
        assert post_order(event="order_created").status_code == 200
        assert len(feed()) == 1


class TestUnnamedEvents:
    BODY = {"timestamp": 1632345000, "appChargePaymentId": "pay-1", "appChargeOrderId": "o-1", "playerId": "alice"}

    def test_one_that_names_an_order_is_taken_and_told(self, post, studio, named, browser, doctor, db):
        for _ in range(2):
            assert post("events", self.BODY).status_code == 200

        assert named("unnamed_event") == {"o-1": ""}
        for said in (text_of(browser.get("/")), doctor()):
            assert "1 event of Appcharge named an order and not what happened to it: o-1." in said
            assert "alice" not in said
        assert len(db("SELECT * FROM events WHERE type = 'appcharge.unnamed'")) == 1
        assert db("SELECT * FROM refunds") == []

    def test_which_are_told(self, post, studio, named):
        for number, (changed, told) in enumerate(
            (
                ({"event": "order_refunded"}, {}),
                ({"appChargeOrderId": None, "appChargePaymentId": None}, {}),
                ({"playerId": "coinslot-test"}, {}),
                ({"appChargeOrderId": None}, {"pay-1": ""}),
                ({"event": "  "}, {"pay-1": "", "o-1": ""}),
            )
        ):
            assert post("events", self.BODY | {"timestamp": 1632345000 + number} | changed).status_code == 200
            assert named("unnamed_event") == told, changed


class TestPartialRefunds:
    def event(self, *amounts, order_id="68e25eebdcb1278"):
        return {
            "eventName": "order.refunded",
            "eventId": f"of-{order_id}",
            "customer": {"id": "alice"},
            "order": {"id": order_id},
            "transactions": [{"type": kind, "amount": amount} for kind, amount in amounts],
        }

    # What a refund of 9.99 USD lists -> what is named of its order, None for a whole refund or an unknown amount.
    LISTED = (
        ([("refund", "4.99")], "4.99 of 9.99 USD"),
        ([("paid", "9.99"), ("refund", "-4.99")], "4.99 of 9.99 USD"),
        ([("refund", 499)], "499 of 9.99 USD"),
        ([("refund", "5")], "5 of 9.99 USD"),
        ([("paid", 4.5)], "4.5 of 9.99 USD"),
        ([("refund", "4.99"), ("Refund", "5.00")], None),
        ([("paid", "9.99")], None),
        *(([("refund", amount)], None) for amount in (-999, "9.990", "all", None)),
        ([], None),
    )

    @pytest.mark.parametrize("is_early", [False, True])
    def test_less_than_the_order_is_named_besides_what_the_policy_does(
        self, post, post_order, studio, named, feed, browser, is_early
    ):
        studio.config("refunds.revoke", "on")
        for number, (amounts, _) in enumerate(self.LISTED):
            ids = {"orderId": f"o-{number}", "purchaseId": f"pr-{number}", "appChargePaymentId": f"pay-{number}"}
            steps = [lambda ids=ids: post_order(**ids)]
            steps.insert(
                0 if is_early else 1,
                lambda amounts=amounts, ids=ids: post("events", self.event(*amounts, order_id=ids["orderId"])),
            )
            assert [step().status_code for step in steps] == [200, 200]

        told = {f"o-{number}": told for number, (_, told) in enumerate(self.LISTED) if told is not None}
        assert named("partial_refund") == told
        assert [grant["kind"] for grant in feed()] == ["purchase", "reversal"] * len(self.LISTED)
        page = text_of(browser.get("/"))
        assert "o-0 (4.99 of 9.99 USD)" in page
        assert "o-5 (" not in page

    def test_doctor_warns_and_does_not_fail_for_it(self, post, post_order, studio, doctor):
        post_order()
        post("events", self.event(("refund", "4.99")))
        (line,) = [line for line in doctor().splitlines() if "4.99 of 9.99 USD" in line]
        assert line.startswith("look")


def test_no_sentence_promises_that_appcharge_sends_an_order_again_by_itself(
    post_order, studio, installation, browser, db
):
    studio.config("items.unknown", "reject")
    post_order(playerId="mallory")
    post_order(products=[{"sku": "rubies", "amount": 1}])
    post_order(headers=appcharge_headers(b"", key="another"))
    installation.observations.flush()
    for row in db("SELECT id FROM refusals"):
        page = text_of(browser.get(f"/games/demo/refusals/{row['id']}"))
        assert "next try" not in page
        assert "next one" not in page


class TestDeepAndOddOrders:
    """Whatever a body holds beside what decides about it."""

    DEEP = "[" * 50_000 + "]" * 50_000
    ODD = [
        f'"sessionMetadata":{DEEP}',
        '"pricePointMetadata":' + '{"a":' * 50_000 + "1" + "}" * 50_000,
        '"note":{"a":"[[[\\"{{{"},"x":' + DEEP,
        '"note":1e400,"x":-Infinity,"y":NaN,"z":' + "9" * 5000,
    ]

    @pytest.mark.parametrize("more", ODD)
    def test_are_credited(self, post_order, studio, feed, more):
        body = json.dumps(order())[:-1].encode() + f",{more}}}".encode()
        assert [post_order(body).status_code for _ in range(2)] == [200, 200]
        assert len(feed()) == 1
