"""The list of troubles: each keeps its own money, key, severity and words beside others."""

import json

import pytest

from coinslot.operations import troubles as finding
from coinslot.operations.findings import NOTE
from handlers.kit import troubles
from tests.conftest import appcharge_headers, order

HOUR = 3600


@pytest.fixture
def listed(app, installation):
    """Key -> trouble, without notes."""

    def read():
        installation.observations.flush()
        with app.app_context():
            return {each.key: each for each in troubles.list_troubles(installation) if each.severity != NOTE}

    return read


def test_grants_that_nobody_took_keep_their_money_beside_dead_letters(clock, post_order, installation, owed, listed):
    post_order()
    clock.shift(2 * HOUR)
    assert listed()["unread:demo"].money == {"USD": "9.99"}

    owed.destination(retry="0")
    owed.credit(1)
    owed.fail_all()

    found = listed()
    assert found["dead:demo"].count == 1
    assert found["unread:demo"].money == {"USD": "9.99"}


def test_calls_that_prove_nothing_are_one_trouble_per_reason_with_a_key_that_stays(
    clock, client, studio, post_order, listed
):
    studio.config("appcharge.project_id", "1")
    body = json.dumps(order()).encode()

    def refuse():
        client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body, key="nobody's key"))

    refuse()
    key = "unproved:demo:appcharge.signature"
    found = listed()[key]
    assert (found.severity, found.sentence.endswith("None has proved itself since.")) == ("wrong", True)

    clock.shift(1)
    post_order()
    assert "have proved themselves before" in listed()[key].sentence  # both came from this machine
    assert listed()[key].severity == "wrong"


def test_a_signed_order_that_cannot_be_read_is_wrong_though_it_has_no_id_and_no_money(client, studio, listed):
    for endpoint, body in (("orders", b"{"), ("auth", b"{")):
        client.post(f"/appcharge/demo/{endpoint}", data=body, headers=appcharge_headers(body))

    severities = {key: each.severity for key, each in listed().items() if key.startswith("refused:")}
    assert severities == {
        "refused:demo:appcharge.orders:malformed": "wrong",  # a player may have paid
        "refused:demo:appcharge.auth:malformed": "look",
    }


def test_an_id_with_brackets_stays_as_it_came(post_order, studio, listed):
    post_order(orderId="o[a|b]", playerId="mallory")

    assert "o[a|b]" in listed()["refused:demo:appcharge.orders:unknown_player"].sentence


def test_two_reasons_have_two_keys_whatever_else_proves_itself():
    found = [finding.Found(kind, "demo", 1, "token", "appcharge") for kind in finding.UNPROVED]
    other = finding.Found(finding.UNPROVED[0], "demo", 1, "signature", "appcharge")

    assert {each.key for each in found} == {"unproved:demo:appcharge.token"}
    assert other.key == "unproved:demo:appcharge.signature"
