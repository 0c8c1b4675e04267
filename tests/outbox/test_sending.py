"""Deliveries end to end: a signed order in, a verified webhook out, by whichever process sends it."""

import json
import re
import statistics
import time

import pytest

from app import create_app
from coinslot.outbox import deliveries, destinations, redrives
from tests import databases
from tests.conftest import MAIN_KEY, PLAYTEM_SECRET, TOKEN, Studio, appcharge_headers, order
from tests.fakes.http import Receiver, after, status
from tests.killing import flask
from tests.servers import Server, until

SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")


class Shop:
    """A home with a game, its keys, its cast and one destination, whose receiver verifies with the public package."""

    def __init__(self, home, receiver):
        self.home = home
        self.receiver = receiver
        self.installation = create_app(databases.environment(home)).extensions["coinslot"]
        self.installation.prepare()
        studio = Studio(self.installation, "demo")
        studio.secret("appcharge.main_key", MAIN_KEY)
        studio.secret("appcharge.publisher_token", TOKEN)
        studio.player("alice", "bob")
        studio.item("coins", "gems")
        self.secret = self.change(
            lambda tx: destinations.add(
                *(tx, self.installation.vault, "demo", "main", receiver.url), actor="test", events="grant.*"
            )
        )

    def change(self, function):
        return self.installation.database.write_here(function)

    def post(self, server, order_id):
        unique = {"orderId": order_id, "purchaseId": f"pr-{order_id}", "appChargePaymentId": f"pay-{order_id}"}
        body = json.dumps(order(**unique)).encode()
        return server.post("/appcharge/demo/orders", body, appcharge_headers(body)).status

    def post_many(self, server, count):
        for number in range(count):
            assert self.post(server, f"o-{number}") == 200
        return {f"o-{number}" for number in range(count)}

    def states(self):
        rows = self.installation.database.read().execute("SELECT state, count(*) FROM deliveries GROUP BY state")
        return {row[0]: row[1] for row in rows}

    def arrived(self):
        return [request.verify(self.secret)["data"]["external_id"] for request in list(self.receiver.requests)]


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def shop(tmp_path, receiver):
    shop = Shop(tmp_path / "home", receiver)
    yield shop
    shop.installation.database.close()


def test_orders_and_redriven_deliveries_leave_for_the_game_within_a_moment(shop, receiver):
    with Server(shop.home) as server:
        until(lambda: server.get("/readyz").json["checks"]["relay"] == "ok", "a relay runs")
        lags = []
        for number in range(10):
            began = time.time()
            assert shop.post(server, f"o-{number}") == 200
            until(lambda number=number: len(receiver.requests) > number, "it arrives")
            lags.append(receiver.requests[-1].at - began)
        until(lambda: shop.states() == {"delivered": 10}, "the last one is recorded")
        receiver.script = [status(500)]
        shop.post(server, "o-10")
        until(lambda: len(receiver.requests) > 10, "the first attempt")
        shop.change(
            lambda tx: tx.execute(
                """UPDATE deliveries SET state = 'dead', next_attempt_at = NULL, finished_at = 'now',
                       leased_until = NULL, lease_owner = NULL WHERE state = 'waiting'"""
            )
        )
        receiver.script = [status(200)]
        began = time.time()
        shop.change(lambda tx: redrives.redrive(tx, 1, [11]))  # as a command's process does
        until(lambda: shop.states() == {"delivered": 11}, "the redriven one arrives", 5)
        assert receiver.requests[-1].at - began < 2

    assert statistics.median(lags) < 0.5  # a tenth of a second on an idle machine
    assert shop.arrived() == [f"o-{number}" for number in (*range(11), 10)]
    payload = receiver.requests[0].verify(shop.secret)
    assert payload["type"] == "grant.created"
    assert payload["data"]["items"] == [{"sku": "coins", "quantity": 1000}, {"sku": "gems", "quantity": 5}]


def test_relay_once_drains_what_is_due_and_ends(shop, receiver):
    with Server(shop.home, COINSLOT_RELAY="off") as server:
        assert server.get("/readyz").status == 503  # somebody is owed something, and nobody sends
        posted = shop.post_many(server, 30)
        assert receiver.requests == []

        with flask(shop.home, "relay", "--once") as process:
            ended, said = process.end()
        assert ended == 0
        assert said.splitlines()[-1] == "30 attempts made."
        assert said.count(": answered 200 in ") == 30

    assert sorted(shop.arrived()) == sorted(posted)
    assert shop.states() == {"delivered": 30}


def test_two_workers_and_a_relay_process_never_send_one_delivery_twice_and_end_tidily(shop, receiver):
    receiver.script = [after(0.01, status(200))]
    with Server(shop.home) as server:
        with flask(shop.home, "relay") as process:
            assert process.line() == "The relay runs."
            posted = shop.post_many(server, 100)
            until(lambda: shop.states() == {"delivered": 100}, "all are delivered", 30)
            ended, said = process.terminate()
        assert ended == 0
        assert all(": answered 200 in " in line for line in said.splitlines())
        receiver.script = [after(0.5, status(200))]
        assert shop.post(server, "last") == 200
        until(lambda: receiver.in_hand.total(), "one is in hand")
        server.stop()

    assert receiver.overlaps == 0
    assert sorted(shop.arrived()) == sorted(posted | {"last"})
    assert shop.states() == {"delivered": 101}


@pytest.mark.long
def test_kill_9_of_everything_loses_no_delivery_and_invents_none(shop, receiver):
    receiver.script = [after(0.02, status(200))]
    shop.change(lambda tx: tx.execute("UPDATE destinations SET timeout_seconds = 1"))
    accepted = set()
    for life in range(3):
        with Server(shop.home) as server:
            order_ids = [f"o-{life}-{number}" for number in range(40)]
            accepted |= {each for each in order_ids if shop.post(server, each) == 200}
        # Leaving the block is kill -9 of the whole group, with deliveries in hand.
    with Server(shop.home):
        until(lambda: accepted <= set(shop.arrived()), "every acknowledged order arrives", 30)
        until(lambda: set(shop.states()) == {"delivered"}, "nothing is stuck after its lease", 30)
    stored = {row[0] for row in shop.installation.database.read().execute("SELECT reference FROM transactions")}
    assert set(shop.arrived()) <= stored
    assert receiver.overlaps == 0 or len(receiver.requests) >= len(stored)


def test_credits_go_on_while_the_game_is_down_unless_its_owner_says_otherwise_and_repeats_always(
    owed, studio, post_order, client, feed
):
    from tests.playtem.test_credit import encode, payload

    def playtem(**changed):
        return client.get(f"/playtem/demo/credit?payload={encode(payload(**changed))}")

    studio.secret("playtem.secret", PLAYTEM_SECRET)
    owed.destination()
    far = "2999-01-01T00:00:00.000000Z"
    open_circuit = "UPDATE destinations SET circuit_open_since = :at, down_since = :at, next_probe_at = :at"
    owed.change(open_circuit, at=far)
    first = post_order()
    assert first.status_code == 200
    playtem()
    assert len(feed()) == 2
    for name in ("appcharge", "playtem"):
        studio.config(f"{name}.when_game_down", "refuse")

    assert post_order().data == first.data
    refused = post_order(orderId="o-3", appChargePaymentId="p-3")
    assert (refused.status_code, bool(refused.json["publisherErrorMessage"])) == (503, True)
    assert playtem().data == b""
    refused = playtem(TransactionId="tx-2")
    assert (refused.status_code, refused.json["ErrorCode"]) == (500, 400)
    assert len(feed()) == 2
    owed.change(open_circuit, at=None)
    assert post_order(orderId="o-2", appChargePaymentId="p-2").status_code == 200


class TestCommands:
    @pytest.fixture
    def run(self, app, studio):
        def run(*arguments, code=0):
            result = app.test_cli_runner().invoke(args=arguments)
            assert result.exit_code == code, result.output
            return result.output

        return run

    def test_a_destinations_life(self, run, installation, post_order, db):
        url = "https://game.example.com/hook?key=hidden"
        output = run("destination", "add", "demo", "main", url, "--events", "grant.*", "--retry", "1,2")
        (secret,) = SECRET.findall(output)
        assert "main" in run("destination", "list", "demo")
        assert db("SELECT timeout_seconds, retry_seconds, format, success FROM destinations") == [
            {"timeout_seconds": 10, "retry_seconds": "1,2", "format": "standard", "success": "2xx"}
        ]
        for path in installation.settings.home.iterdir():
            assert secret.encode() not in path.read_bytes()
        post_order()
        (row,) = map(json.loads, run("delivery", "list", "demo", "--json").splitlines())
        assert (row["state"], row["destination"], row["event_type"]) == ("waiting", "main", "grant.created")

        (newer,) = SECRET.findall(run("destination", "rotate", "demo", "main"))
        opened = destinations.signing_secrets(installation.database.read(), installation.vault, 1)
        assert [each.value.decode() for each in opened] == [newer, secret]
        run("secret", "retire", "demo", "destination.main")
        run("destination", "pause", "demo", "main")
        assert "paused" in run("destination", "list", "demo")
        run("destination", "resume", "demo", "main")
        assert "already" in run("destination", "add", "demo", "main", "http://y/", code=1)
        run("destination", "remove", "demo", "main")
        assert db("SELECT state, dead_reason FROM deliveries") == [
            {"state": "dead", "dead_reason": "the destination was removed"}
        ]
        assert db("SELECT * FROM secrets WHERE name LIKE 'destination.%'") == []
        run("destination", "add", "demo", "main", "http://127.0.0.1:9/")

    @pytest.mark.parametrize(
        "arguments",
        [
            ("nowhere", "main", "http://x/"),
            ("demo", "Main", "http://x/"),
            ("demo", "main", "ftp://x/"),
            ("demo", "main", "x"),
            *(
                ("demo", "main", "http://x/", *options)
                for options in (
                    ("--events", ""),
                    ("--events", "grant.*,"),
                    ("--events", "grant.*;player.login"),
                    ("--events", "grant.*", "--events", "a b"),
                    ("--events", ",".join(f"type.{number}" for number in range(51))),
                    ("--retry", "1,x"),
                    ("--success", "=="),
                )
            ),
        ],
    )
    def test_mistakes_are_said_in_words(self, run, arguments, db):
        assert run("destination", "add", *arguments, code=1).startswith("Error: ")
        assert db("SELECT * FROM destinations") == []

    @pytest.mark.parametrize(
        ("options", "events"),
        [
            (("--events", "appcharge.*,player.login"), "appcharge.*,player.login"),
            (("--events", " appcharge.* , player.login,appcharge.*"), "appcharge.*,player.login"),
            (("--events", "appcharge.*", "--events", "player.login"), "appcharge.*,player.login"),
            ((), "*"),
        ],
    )
    def test_several_patterns_are_all_of_them_wanted_and_without_one_everything(
        self, run, installation, db, options, events
    ):
        run("destination", "add", "demo", "main", "http://x/", *options)

        assert db("SELECT events FROM destinations") == [{"events": events}]
        assert events in run("destination", "list", "demo")
        types = ("appcharge.order.failed", "player.login", "player.logout", "grant.created")
        connection = installation.database.read()
        assert [destinations.wanting(connection, 1, (each,)) for each in types] == (
            [[1], [1], [], []] if options else [[1]] * 4
        )

    def test_redrive(self, run, owed, db):
        owed.destination()
        owed.credit(3)
        owed.change(
            """UPDATE deliveries SET state = 'dead', next_attempt_at = NULL, dead_reason = 'x',
                   finished_at = '2026-01-01T00:00:00.000000Z'"""
        )
        assert "1 redriven" in run("delivery", "redrive", "demo", "2")
        assert "there is no dead delivery 2" in run("delivery", "redrive", "demo", "2", code=1)
        assert "0 redriven" in run("delivery", "redrive", "demo", "--to", "2020-01-01")
        assert "2 redriven" in run("delivery", "redrive", "demo", "--from", "2020-01-01")
        assert {row["state"] for row in db("SELECT state FROM deliveries")} == {"waiting"}
        assert "0 redriven" in run("delivery", "redrive", "demo", "--all")
        owed.change("UPDATE deliveries SET attempts_made = 3, next_attempt_at = '2999-01-01T00:00:00.000000Z'")
        assert "1 redriven" in run("delivery", "redrive", "demo", "2")
        assert "2 redriven" in run("delivery", "redrive", "demo", "--all")
        assert {row["attempts_made"] for row in db("SELECT attempts_made FROM deliveries")} == {0}
        for wrong in ((), ("1", "--all"), ("--from", "yesterday")):
            run("delivery", "redrive", "demo", *wrong, code=2)


def test_readyz_wants_a_relay_where_there_is_something_to_send(client, owed, clock):
    assert client.get("/readyz").json["checks"]["relay"] == "not needed"
    owed.destination()
    assert client.get("/readyz").status_code == 503
    owed.write(deliveries.beat)
    assert client.get("/readyz").status_code == 200
    clock.shift(60)
    assert client.get("/readyz").status_code == 503
