"""Refused calls that had proved themselves: one row per order, open until the order needs nobody any more."""

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coinslot.operations import asides, troubles
from tests.conftest import appcharge_headers, order

ORDERS = "/appcharge/demo/orders"


@pytest.fixture
def send(client, studio):
    """Post an order that named it so; other keywords change its fields. Returns the status."""

    def post(order_id, path=ORDERS, token=None, at=None, key=None, **changed):
        body = json.dumps(
            order(**{"orderId": order_id, "appChargePaymentId": ..., "purchaseId": ...} | changed)
        ).encode()
        how = {name: value for name, value in (("token", token), ("at", at), ("key", key)) if value is not None}
        return client.post(path, data=body, headers=appcharge_headers(body, **how)).status_code

    return post


@pytest.fixture
def rows(db):
    return lambda: db("SELECT reference, reason, state, seen, currency, amount_minor FROM refusals ORDER BY id")


WAYS = {
    "unknown_player": {"playerId": "mallory"},
    "token": {"token": "wrong"},
    "timestamp": {"at": 1_700_000_000.0},
    "unknown_game": {"path": "/appcharge/dmeo/orders"},
    "no_address": {"path": "/appcharge/demo/ordres"},
    "misplaced": {"path": "/appcharge/demo/players"},
    "unknown_status": {"actionStatus": "half"},
    "malformed": {"products": [{"sku": "coins", "amount": -1}]},
}


@pytest.mark.parametrize(("reason", "how"), WAYS.items(), ids=WAYS)
def test_a_refused_order_is_a_row_with_its_money_when_it_is_answered_and_mended_by_its_credit(send, rows, reason, how):
    assert send("o-1", **how) >= 400
    assert send("o-1", **how) >= 400
    common = {"reference": "o-1", "reason": reason, "currency": "USD", "amount_minor": 999}
    assert rows() == [common | {"state": "open", "seen": 2}]

    assert send("o-1") == 200

    assert rows() == [common | {"state": "mended", "seen": 2}]
    assert send("o-1", **how) in (200, 400, 401, 404)  # a retry of what is credited is no trouble
    assert [row["state"] for row in rows() if row["state"]] == ["mended"]


def test_forged_calls_are_no_rows_of_their_own_and_push_out_none(send, rows, installation, db):
    assert send("o-1", playerId="mallory") == 400
    for number in range(400):
        assert send(f"forged-{number}", key="nobody's key") == 401
        if number % 100 == 99:
            installation.observations.flush()
    assert [row["reference"] for row in rows() if row["state"] == "open"] == ["o-1"]
    assert db("SELECT count(*) AS n FROM refusals WHERE state IS NULL")[0]["n"] <= 300


def test_two_own_ids_are_two_orders_though_they_share_a_payment(send, rows):
    for order_id in ("o-1", "o-2"):
        assert send(order_id, appChargePaymentId="P", playerId="mallory") == 400
    assert send("o-2", appChargePaymentId="P") == 200
    assert [(row["reference"], row["state"]) for row in rows()] == [("o-1", "open"), ("o-2", "mended")]


@pytest.mark.parametrize("refused_first", [True, False])
def test_an_order_by_its_payment_is_the_one_that_has_an_own_id_too(send, rows, refused_first):
    own, fallback = {"order_id": "o-1"}, {"order_id": ...}
    first, second = (own, fallback) if refused_first else (fallback, own)
    assert send(**first, appChargePaymentId="P", playerId="mallory") == 400
    assert send(**second, appChargePaymentId="P", playerId="mallory") == 400
    assert len(rows()) == 1
    assert send(**second, appChargePaymentId="P") == 200
    assert [row["state"] for row in rows()] == ["mended"]


def test_one_that_failed_or_was_refunded_needs_nobody(send, rows, client):
    send("o-1", playerId="mallory")
    send("o-2", playerId="mallory")
    assert send("o-1", actionStatus="failed") == 200
    event = json.dumps({"eventName": "order.refunded", "eventId": "e", "orderId": "o-2"}).encode()
    assert client.post("/appcharge/demo/events", data=event, headers=appcharge_headers(event)).status_code == 200
    assert [row["state"] for row in rows()] == ["mended", "mended"]


def test_an_event_that_was_refused_is_mended_by_the_same_bytes(client, studio, rows):
    event = json.dumps({"eventName": "order.refunded", "eventId": "e", "orderId": "o-2"}).encode()

    def post(**how):
        return client.post("/appcharge/demo/events", data=event, headers=appcharge_headers(event, **how)).status_code

    assert post(token="wrong") == 401
    assert [(row["state"], row["amount_minor"]) for row in rows()] == [("open", None)]
    assert post() == 200
    assert [row["state"] for row in rows()] == ["mended"]


def test_what_was_set_aside_is_open_again_for_another_reason_alone(send, rows, installation):
    send("o-1", playerId="mallory")
    key = "refused:demo:appcharge.orders:unknown_player"
    installation.database.write_here(lambda tx: asides.add(tx, key, "a test of ours", "test"))
    assert [row["state"] for row in rows()] == ["aside"]
    send("o-1", playerId="mallory")
    assert [row["state"] for row in rows()] == ["aside"]
    send("o-1", token="wrong")
    assert [row["state"] for row in rows()] == ["open"]


def test_it_is_kept_for_ever_while_it_is_open(send, rows, installation, clock):
    send("o-1", playerId="mallory")
    clock.shift(1000 * 86400)
    send("o-2", key="nobody's key")
    installation.observations.flush()
    assert [row["reference"] for row in rows() if row["state"] == "open"] == ["o-1"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["good", "forged", *WAYS])), min_size=1, max_size=25),
    run=st.uuids(),
)
def test_each_proved_paid_order_is_credited_or_named_by_one_trouble(send, installation, db, story, run):
    """For any story of calls: by the end each order that proved itself is credited, or named once, with its money."""
    proved = set()
    for number, how in story:
        reference = f"{run.hex[:8]}-{number}"
        if how == "forged":
            for _ in range(50):
                send(reference, key="nobody's key")
        else:
            send(reference, **WAYS.get(how, {}))
            proved.add(reference)
    credited = {row["reference"] for row in db("SELECT reference FROM transactions")}
    named = Counter(
        row["reference"]
        for row in db("SELECT reference FROM refusals WHERE state = 'open'")
        if row["reference"] in proved
    )
    found = [each for each in troubles.find(installation.database.read()).found if each.kind == "refused_order"]

    assert dict.fromkeys(proved - credited, 1) == dict(named)
    assert sum(each.count for each in found) == db("SELECT count(*) AS n FROM refusals WHERE state = 'open'")[0]["n"]
    stakes = sum((Counter(each.stake) for each in found), Counter())
    assert stakes.get("USD", 0) == 999 * sum(each.count for each in found)
