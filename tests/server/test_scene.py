"""What a new owner may meet in a week, on a real server: each refused order is named, sent once, and then over."""

import json
import re

import pytest

from app import create_app
from tests import databases
from tests.conftest import appcharge_headers, furnished, order
from tests.fakes.http import FakeServer
from tests.killing import flask
from tests.servers import Server


def body_of(order_id, **changed):
    return json.dumps(order(orderId=order_id, appChargePaymentId=..., purchaseId=..., **changed)).encode()


@pytest.fixture
def scene(tmp_path):
    """A game with a server that has met what the first paragraph names."""
    installation, studio = furnished(tmp_path / "home")
    with Server(installation.settings.home, COINSLOT_RELAY="off") as server:

        def post(body, path="/appcharge/demo/orders", **headers):
            return server.post(path, body, appcharge_headers(body, **headers)).status

        assert [post(body_of(f"unknown-{n}", playerId=f"stranger-{n}")) for n in range(5)] == [400] * 5
        assert [post(body_of(f"token-{n}"), token="wrong") for n in range(3)] == [401] * 3
        assert [post(body_of(f"typed-{n}"), path="/appcharge/dmeo/orders") for n in range(3)] == [404] * 3
        assert post(body_of("empty-1", products=[])) == 200
        for _ in range(200):
            assert post(body_of("forged"), key="nobody's key") == 401
        assert post(body_of("token-2"), token="wrong") == 401
        server.kill()  # kill -9, right after the answer
        server.start()
        yield installation, studio, post
    installation.database.close()


def listed(installation):
    process = flask(installation.settings.home, "trouble", "list", "--json")
    status, output = process.end()
    assert status == 0, output
    return {each["key"]: each for each in json.loads(output[output.index("[") :])}


@pytest.mark.long
def test_each_is_named_with_its_money_sent_once_and_over_when_it_is_mended(scene):
    installation, studio, post = scene
    found = listed(installation)

    assert {
        key: (each["count"], each["money"])
        for key, each in found.items()
        if each["severity"] == "wrong" and each["money"]
    } == {
        "refused:demo:appcharge.orders:unknown_player": (5, {"USD": "49.95"}),
        "refused:demo:appcharge.orders:token": (3, {"USD": "29.97"}),
        "refused:demo:appcharge.orders:unknown_game": (3, {"USD": "29.97"}),
        "empty_order:demo:appcharge": (1, {"USD": "9.99"}),
    }
    assert "stranger" not in str(found)
    assert all("Retry Award" in each["remedy"] for key, each in found.items() if key.startswith("refused:"))

    with FakeServer(lambda request: (200, {})) as hook:
        target = hook.url.replace("http://", "json://")
        runner = create_app(databases.environment(installation.settings.home)).test_cli_runner()
        assert runner.invoke(args=["alert", "add", "main"], input=target).exit_code == 0
        for later_seconds in (0, 130, 140, 150):
            process = flask(installation.settings.home, "relay", "--once", later_seconds=later_seconds)
            if later_seconds == 130:
                process.kill_when(lambda: len(hook.requests) == 1, "the alert")
            else:
                process.end()
        (sent,) = hook.requests
        message = json.loads(sent.body)
        assert re.search("119[.]88 USD", message["title"] + message["message"])
        assert "stranger" not in sent.body.decode()

        for n in range(5):
            studio.player(f"stranger-{n}")
        assert [post(body_of(f"unknown-{n}", playerId=f"stranger-{n}")) for n in range(5)] == [200] * 5
        assert [post(body_of(f"token-{n}")) for n in range(3)] == [200] * 3
        assert [post(body_of(f"typed-{n}")) for n in range(3)] == [200] * 3
        assert set(listed(installation)) & {key for key in found if key.startswith("refused:")} == set()
        for later_seconds in (400, 600, 800):  # the lease of the one that was killed has ended
            flask(installation.settings.home, "relay", "--once", later_seconds=later_seconds).end()
        assert len(hook.requests) == 2
        over = hook.requests[1].body.decode()
        assert "over" in json.loads(over)["title"]
        assert "Retry Award" in sent.body.decode()
        assert "Retry Award" not in over
