"""Deliveries end to end: a signed order in, a verified webhook out, by whichever process sends it."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks import Webhook

from app import create_app
from coinslot.outbox import deliveries, destinations, redrives
from tests.conftest import MAIN_KEY, PLAYTEM_SECRET, TOKEN, Studio, appcharge_headers, order
from tests.servers import ROOT, Server, until


class Receiver:
    """A game's endpoint: verifies with the public package, counts what overlaps, answers as told."""

    def __init__(self) -> None:
        self.status = 200
        self.delay = 0.0
        self.received: list[tuple[float, str, dict]] = []
        self.secret = ""
        self.overlaps = 0
        self._in_hand: set[str] = set()
        self._mutex = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.take(dict(self.headers), body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        ThreadingHTTPServer.request_queue_size = 128
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        webhook_id = headers["webhook-id"]
        with self._mutex:
            self.overlaps += webhook_id in self._in_hand
            self._in_hand.add(webhook_id)
        time.sleep(self.delay)
        payload = Webhook(self.secret).verify(body, headers)
        with self._mutex:
            self._in_hand.discard(webhook_id)
            self.received.append((time.time(), webhook_id, payload))
            return self.status

    def order_ids(self) -> list[str]:
        return [payload["data"]["external_id"] for _, _, payload in self.received]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def shop(tmp_path, receiver):
    """A home with a game, its keys, its cast and one destination."""
    installation = create_app({"COINSLOT_HOME": str(tmp_path / "home")}).extensions["coinslot"]
    installation.prepare()
    studio = Studio(installation, "demo")
    studio.secret("appcharge.main_key", MAIN_KEY)
    studio.secret("appcharge.publisher_token", TOKEN)
    studio.secret("playtem.secret", PLAYTEM_SECRET)
    studio.player("alice", "bob")
    studio.item("coins", "gems")
    receiver.secret = installation.database.write_here(
        lambda tx: destinations.add(
            tx, installation.vault, "demo", "main", receiver.url, actor="test", events="grant.*"
        )
    )
    yield studio
    installation.database.close()


def post(server: Server, order_id: str, **changed) -> int:
    unique = {"orderId": order_id, "purchaseId": f"pr-{order_id}", "appChargePaymentId": f"pay-{order_id}"}
    body = json.dumps(order(**(unique | changed))).encode()
    return server.post("/appcharge/demo/orders", body, appcharge_headers(body)).status


def states(studio: Studio) -> dict[str, int]:
    rows = studio.installation.database.read().execute("SELECT state, count(*) FROM deliveries GROUP BY state")
    return {row[0]: row[1] for row in rows}


def relay_process(home, *options: str) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COINSLOT_")}
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "relay", *options],
        cwd=ROOT,
        env=environment | {"COINSLOT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_an_order_leaves_for_the_game_within_a_moment(shop, receiver, tmp_path):
    with Server(tmp_path / "home") as server:
        until(lambda: server.get("/readyz").json["checks"]["relay"] == "ok", "a relay runs")
        lags = []
        for number in range(15):
            began = time.time()
            assert post(server, f"o-{number}") == 200
            until(lambda number=number: len(receiver.received) > number, "it arrives")
            lags.append(receiver.received[-1][0] - began)
        until(lambda: states(shop) == {"delivered": 15}, "the last one is recorded")

    assert statistics.median(lags) < 0.5  # a tenth of a second on an idle machine
    assert receiver.order_ids() == [f"o-{number}" for number in range(15)]
    (_, _, payload) = receiver.received[0]
    assert payload["type"] == "grant.created"
    assert payload["data"]["items"] == [{"sku": "coins", "quantity": 1000}, {"sku": "gems", "quantity": 5}]


def test_what_a_command_commits_leaves_too(shop, receiver, tmp_path):
    with Server(tmp_path / "home") as server:
        until(lambda: server.get("/readyz").json["checks"]["relay"] == "ok", "a relay runs")
        receiver.status = 500
        post(server, "o-1")
        until(lambda: receiver.received, "the first attempt")
        shop.installation.database.write_here(
            lambda tx: tx.execute(
                """UPDATE deliveries SET state = 'dead', next_attempt_at = NULL, finished_at = 'now',
                       leased_until = NULL, lease_owner = NULL"""
            )
        )
        receiver.status = 200
        began = time.time()
        shop.installation.database.write_here(lambda tx: redrives.redrive(tx, shop.row["id"], [1]))
        until(lambda: states(shop) == {"delivered": 1}, "the redriven one arrives", 5)
        assert receiver.received[-1][0] - began < 2


def test_relay_once_drains_what_is_due_and_ends(shop, receiver, tmp_path):
    with Server(tmp_path / "home", COINSLOT_RELAY="off") as server:
        assert server.get("/readyz").status == 503  # somebody is owed something, and nobody sends
        for number in range(30):
            post(server, f"o-{number}")
        assert receiver.received == []

        process = relay_process(tmp_path / "home", "--once")
        output, _ = process.communicate(timeout=30)

        assert process.returncode == 0, output
        assert "30 attempts made." in output
        assert sorted(receiver.order_ids()) == sorted(f"o-{number}" for number in range(30))
        assert states(shop) == {"delivered": 30}


def test_two_workers_and_a_relay_process_never_send_one_delivery_twice(shop, receiver, tmp_path):
    receiver.delay = 0.01
    home = tmp_path / "home"
    with Server(home) as server:
        process = relay_process(home)
        try:
            assert process.stdout.readline() == "The relay runs.\n"
            for number in range(150):
                assert post(server, f"o-{number}") == 200
            until(lambda: states(shop) == {"delivered": 150}, "all are delivered", 30)
        finally:
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert receiver.overlaps == 0
    assert sorted(receiver.order_ids()) == sorted(f"o-{number}" for number in range(150))


@pytest.mark.long
def test_kill_9_of_everything_loses_no_delivery_and_invents_none(shop, receiver, tmp_path):
    receiver.delay = 0.02
    shop.installation.database.write_here(lambda tx: tx.execute("UPDATE destinations SET timeout_seconds = 1"))
    home = tmp_path / "home"
    accepted = []
    for life in range(3):
        with Server(home) as server:
            for number in range(40):
                order_id = f"o-{life}-{number}"
                if post(server, order_id) == 200:
                    accepted.append(order_id)
        # Leaving the block is kill -9 of the whole group, with deliveries in hand.
    with Server(home):
        until(lambda: set(accepted) <= set(receiver.order_ids()), "every acknowledged order arrives", 30)
        until(lambda: set(states(shop)) == {"delivered"}, "nothing is stuck after its lease", 30)
    stored = {row[0] for row in shop.installation.database.read().execute("SELECT reference FROM transactions")}
    assert set(receiver.order_ids()) <= stored
    assert receiver.overlaps == 0 or len(receiver.received) >= len(stored)


def test_sigterm_finishes_what_is_in_hand(shop, receiver, tmp_path):
    receiver.delay = 0.5
    with Server(tmp_path / "home") as server:
        for number in range(4):
            post(server, f"o-{number}")
        until(lambda: receiver._in_hand, "one is in hand")
        server.stop()
    in_hand = shop.installation.database.read().execute(
        "SELECT count(*) FROM deliveries WHERE leased_until IS NOT NULL"
    )
    assert in_hand.fetchone()[0] == 0
    assert len(set(receiver.order_ids())) == len(receiver.order_ids()) == states(shop)["delivered"]


class TestWhenTheGameIsDown:
    def open_circuit(self, studio):
        studio.installation.database.write_here(
            lambda tx: tx.execute(
                """UPDATE destinations SET circuit_open_since = '2026-01-01T00:00:00.000000Z', down_since =
                       '2026-01-01T00:00:00.000000Z', next_probe_at = '2999-01-01T00:00:00.000000Z'"""
            )
        )

    def destination(self, installation):
        installation.database.write_here(
            lambda tx: destinations.add(tx, installation.vault, "demo", "main", "http://127.0.0.1:9/", actor="test")
        )

    def test_credits_are_accepted_and_delivered_later(self, installation, studio, post_order, feed):
        self.destination(installation)
        self.open_circuit(studio)
        assert post_order().status_code == 200
        assert len(feed()) == 1

    def test_or_refused_where_the_owner_says_so_but_never_a_repeat(
        self, installation, studio, post_order, client, feed
    ):
        from tests.playtem.test_credit import encode, payload

        self.destination(installation)
        first = post_order()
        client.get(f"/playtem/demo/credit?payload={encode(payload())}")
        studio.config("appcharge.when_game_down", "refuse")
        studio.config("playtem.when_game_down", "refuse")
        assert post_order(orderId="o-2", appChargePaymentId="p-2").status_code == 200

        self.open_circuit(studio)
        assert post_order().data == first.data
        refused = post_order(orderId="o-3", appChargePaymentId="p-3")
        assert (refused.status_code, bool(refused.json["publisherErrorMessage"])) == (503, True)
        assert client.get(f"/playtem/demo/credit?payload={encode(payload())}").data == b""
        playtem = client.get(f"/playtem/demo/credit?payload={encode(payload(TransactionId='tx-2'))}")
        assert (playtem.status_code, playtem.json["ErrorCode"]) == (500, 400)
        assert len(feed()) == 3


class TestCommands:
    def run(self, app, *arguments, code=0):
        result = app.test_cli_runner().invoke(args=arguments)
        assert result.exit_code == code, result.output
        return result.output

    def test_a_destinations_life(self, app, installation, studio, post_order, db):
        url = "https://game.example.com/hook?key=hidden"
        output = self.run(app, "destination", "add", "demo", "main", url, "--events", "grant.*", "--retry", "1,2")
        (secret,) = re.findall(r"whsec_[A-Za-z0-9+/]{43}=", output)
        assert "main" in self.run(app, "destination", "list", "demo")
        assert db("SELECT timeout_seconds, retry_seconds, format, success FROM destinations") == [
            {"timeout_seconds": 10, "retry_seconds": "1,2", "format": "standard", "success": "2xx"}
        ]
        for path in installation.settings.home.iterdir():
            assert secret.encode() not in path.read_bytes()
        post_order()
        listed = self.run(app, "delivery", "list", "demo", "--json")
        (row,) = [json.loads(line) for line in listed.splitlines()]
        assert (row["state"], row["destination"], row["event_type"]) == ("waiting", "main", "grant.created")

        (newer,) = re.findall(r"whsec_[A-Za-z0-9+/]{43}=", self.run(app, "destination", "rotate", "demo", "main"))
        opened = destinations.signing_secrets(installation.database.read(), installation.vault, 1)
        assert [each.value.decode() for each in opened] == [newer, secret]
        self.run(app, "secret", "retire", "demo", "destination.main")
        self.run(app, "destination", "pause", "demo", "main")
        assert "paused" in self.run(app, "destination", "list", "demo")
        self.run(app, "destination", "resume", "demo", "main")
        self.run(app, "destination", "remove", "demo", "main")
        assert db("SELECT state, dead_reason FROM deliveries") == [
            {"state": "dead", "dead_reason": "the destination was removed"}
        ]
        assert db("SELECT * FROM secrets WHERE name LIKE 'destination.%'") == []
        self.run(app, "destination", "add", "demo", "main", "http://127.0.0.1:9/")

    @pytest.mark.parametrize(
        "arguments",
        [
            ("nowhere", "main", "http://x/"),
            ("demo", "Main", "http://x/"),
            ("demo", "main", "ftp://x/"),
            ("demo", "main", "x"),
            ("demo", "main", "http://x/", "--events", "a b"),
            ("demo", "main", "http://x/", "--events", ""),
            ("demo", "main", "http://x/", "--events", "grant.*,"),
            ("demo", "main", "http://x/", "--events", "grant.*;player.login"),
            ("demo", "main", "http://x/", "--events", "grant.*", "--events", "a b"),
            ("demo", "main", "http://x/", "--events", ",".join(f"type.{number}" for number in range(51))),
            ("demo", "main", "http://x/", "--retry", "1,x"),
            ("demo", "main", "http://x/", "--retry", ""),
            ("demo", "main", "http://x/", "--retry", "99999999"),
            ("demo", "main", "http://x/", "--success", "=="),
        ],
    )
    def test_mistakes_are_said_in_words(self, app, studio, arguments, db):
        output = self.run(app, "destination", "add", *arguments, code=1)
        assert output.startswith("Error: ")
        assert db("SELECT * FROM destinations") == []

    @pytest.mark.parametrize(
        "options",
        [
            ("--events", "appcharge.*,player.login"),
            ("--events", " appcharge.* , player.login,appcharge.*"),
            ("--events", "appcharge.*", "--events", "player.login"),
        ],
    )
    def test_several_patterns_are_all_of_them_wanted(self, app, installation, studio, db, options):
        self.run(app, "destination", "add", "demo", "main", "http://x/", *options)

        assert db("SELECT events FROM destinations") == [{"events": "appcharge.*,player.login"}]
        assert "appcharge.*,player.login" in self.run(app, "destination", "list", "demo")
        connection = installation.database.read()
        for event_type, is_wanted in (
            ("appcharge.order.failed", True),
            ("player.login", True),
            ("player.logout", False),
            ("grant.created", False),
        ):
            assert destinations.wanting(connection, 1, (event_type,)) == [1] * is_wanted, event_type

    def test_without_a_pattern_everything_is_wanted(self, app, studio, db):
        self.run(app, "destination", "add", "demo", "main", "http://x/")

        assert db("SELECT events FROM destinations") == [{"events": "*"}]

    def test_a_name_is_taken_once(self, app, studio):
        self.run(app, "destination", "add", "demo", "main", "http://x/")
        assert "already" in self.run(app, "destination", "add", "demo", "main", "http://y/", code=1)

    def test_redrive(self, app, installation, studio, post_order, db):
        self.run(app, "destination", "add", "demo", "main", "http://127.0.0.1:9/")
        for number in range(3):
            post_order(orderId=f"o-{number}", appChargePaymentId=f"p-{number}")
        installation.database.write_here(
            lambda tx: tx.execute(
                """UPDATE deliveries SET state = 'dead', next_attempt_at = NULL, dead_reason = 'x',
                       finished_at = '2026-01-01T00:00:00.000000Z'"""
            )
        )
        assert "1 put back" in self.run(app, "delivery", "redrive", "demo", "2")
        assert "there is no dead delivery 2" in self.run(app, "delivery", "redrive", "demo", "2", code=1)
        assert "0 put back" in self.run(app, "delivery", "redrive", "demo", "--to", "2020-01-01")
        assert "2 put back" in self.run(app, "delivery", "redrive", "demo", "--from", "2020-01-01")
        assert {row["state"] for row in db("SELECT state FROM deliveries")} == {"waiting"}
        assert "0 put back" in self.run(app, "delivery", "redrive", "demo", "--all")
        later = "UPDATE deliveries SET attempts_made = 3, next_attempt_at = '2999-01-01T00:00:00.000000Z'"
        installation.database.write_here(lambda tx: tx.execute(later))
        assert "1 put back" in self.run(app, "delivery", "redrive", "demo", "2")
        assert "2 put back" in self.run(app, "delivery", "redrive", "demo", "--all")
        assert {row["attempts_made"] for row in db("SELECT attempts_made FROM deliveries")} == {0}
        self.run(app, "delivery", "redrive", "demo", code=2)
        self.run(app, "delivery", "redrive", "demo", "1", "--all", code=2)
        self.run(app, "delivery", "redrive", "demo", "--from", "yesterday", code=2)


def test_readyz_wants_a_relay_where_there_is_something_to_send(client, installation, studio, clock):
    assert client.get("/readyz").json["checks"]["relay"] == "not needed"
    installation.database.write_here(
        lambda tx: destinations.add(tx, installation.vault, "demo", "main", "http://127.0.0.1:9/", actor="test")
    )
    assert client.get("/readyz").status_code == 503
    installation.database.write_here(deliveries.beat)
    assert client.get("/readyz").status_code == 200
    clock.shift(60)
    assert client.get("/readyz").status_code == 503
