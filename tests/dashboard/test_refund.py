"""The page that refunds an order: what it asks, what it sends, and where its state shows."""

import json
from urllib.parse import quote

import pytest

from tests.conftest import appcharge_headers, order
from tests.fakes.appcharge import FakeAppcharge, report_order
from tests.fakes.http import reset, status
from tests.pages import SENDABLE, assert_has, text_of
from tests.playtem.test_credit import encode, payload

ORDER = order()["orderId"]
SURE = {"reason": "asked by mail", "sure": "yes"}


@pytest.fixture
def fake():
    with FakeAppcharge() as fake:
        fake.orders = [report_order(ORDER)]
        yield fake


@pytest.fixture
def address(studio, fake, post_order, db):
    studio.config("appcharge.base_url", fake.url)
    studio.config("refunds.revoke", "on")
    assert post_order().status_code == 200
    return f"/games/demo/transactions/{db('SELECT public_id FROM transactions')[0]['public_id']}"


def post_event(client):
    body = json.dumps({"eventName": "order.refunded", "eventId": "1", "orderId": ORDER}).encode()
    assert client.post("/appcharge/demo/events", data=body, headers=appcharge_headers(body)).status_code == 200


def test_the_form_names_amount_and_player_and_needs_a_reason_and_a_yes(browser, address, fake):
    assert f'{address}/refund"' in browser.get(address).text
    form = text_of(browser.get(f"{address}/refund"))
    assert_has(form, "Refund 9.99 USD", "Give 9.99 USD back to alice", "nobody can undo it")

    for given, why in (({}, "Give a reason"), ({"reason": "x"}, "Confirm that"), ({"sure": "yes"}, "Give a reason")):
        answer = browser.post(f"{address}/refund", **given)
        assert (answer.status_code, why in answer.text) == (400, True)
    assert fake.requests == []


def test_a_refund_from_the_page_to_its_event(browser, client, address, fake, db):
    answer = browser.post(f"{address}/refund", **SURE)
    assert (answer.status_code, answer.location) == (303, f"{address}?said=refund-sent")
    assert fake.refunded == [(ORDER, "owner")]

    page = text_of(browser.get(address))
    assert_has(page, "Appcharge has begun it", "A person asked Appcharge to refund", without=["Refund the money"])
    assert_has(text_of(browser.get("/games/demo/refunds")), "Refunds you asked for", "asked by mail", "sent")
    assert "asked by mail" in text_of(browser.get("/activity"))

    again = browser.post(f"{address}/refund", **SURE)
    assert (again.status_code, len(fake.refunded)) == (409, 1)

    post_event(client)
    page = text_of(browser.get(address))
    assert_has(page, "Appcharge reported that the money went back", "The partner said that the order was refunded")
    assert db("SELECT state FROM refund_requests") == [{"state": "done"}]


def test_a_refusal_shows_the_partners_words_and_the_form_again(browser, address, fake):
    fake.script = [status(403, json.dumps({"message": f"too old {SENDABLE}"}).encode())]
    assert browser.post(f"{address}/refund", **SURE).location.endswith("?said=refund-refused")
    page = browser.get(f"{address}?said=refund-refused")
    assert_has(page.text, "Appcharge answered 403: too old", "Refund the money", without=["<img src=x"])
    browser.post(f"{address}/refund", **SURE)
    assert len(fake.refunded) == 1


def test_no_answer_is_said_and_is_a_trouble(browser, address, fake):
    fake.script = [reset]
    assert browser.post(f"{address}/refund", **SURE).location.endswith("?said=refund-unknown")
    assert_has(text_of(browser.get(address)), "Without an answer, it may have begun", without=["Refund the money"])
    assert "that you asked for got no answer" in text_of(browser.get("/"))
    assert browser.post(f"{address}/refund", **SURE).status_code == 409
    assert len(fake.requests) == 1


def test_what_cannot_be_refunded_says_why(browser, address, fake, studio, client, post_order, db):
    def page_of(reference):
        (row,) = db("SELECT public_id FROM transactions WHERE reference = :r", r=reference)
        return f"/games/demo/transactions/{row['public_id']}"

    post_order(orderId=None, purchaseId="pr-2", appChargePaymentId="pay-2")
    post_order(orderId="free", priceInCents=0, subTotal=0, tax=0, purchaseId="pr-3", appChargePaymentId="pay-3")
    assert client.get(f"/playtem/demo/credit?payload={quote(encode(payload()), safe='')}").status_code == 200
    assert "without Appcharge" in text_of(browser.get(page_of("pay-2")))
    for found in ("pay-2", "free", "tx-1"):
        assert "Refund the money" not in text_of(browser.get(page_of(found)))
        assert browser.post(f"{page_of(found)}/refund", **SURE).status_code == 409
    studio.config("appcharge.environment", "sandbox")
    answer = browser.post(f"{address}/refund", **SURE)
    assert (answer.status_code, "appcharge.environment is sandbox" in answer.text) == (400, True)
    assert fake.requests == []
