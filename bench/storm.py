"""Orders under ``kill -9``: ``python -m bench.storm --kills 60``.

Appcharge's and Playtem's orders are sent by several callers at once, retried until they are acknowledged, and some of
the acknowledged ones are sent again. Meanwhile gunicorn's workers and its master are killed in turn. What came of it is
judged by what this file knows by itself: it imports nothing of Coinslot, signs its own calls, reads the database with
``sqlite3`` and counts what its own HTTP server was delivered. Ends with 1 when anything was lost, doubled or not
delivered.
"""

import argparse
import base64
import hashlib
import hmac
import http.client
import json
import os
import random
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAIN_KEY, TOKEN, PLAYTEM_SECRET = (secrets.token_hex(16) for _ in range(3))
PLAYERS = [f"player-{number}" for number in range(50)]
APPCHARGE_CALLERS, PLAYTEM_CALLERS = 6, 2
REPLAYED = 0.2  # of the acknowledged calls
REFUSED = 0.02  # of the deliveries: the destination answers 500, to have them sent again
START_SECONDS = 60
SETTLE_SECONDS = 180


@dataclass(frozen=True)
class Order:
    """One purchase: the id its partner knows it by, who gets what, and the call that reports it."""

    partner: str
    id: str
    player: str
    items: tuple[tuple[str, int], ...]

    def call(self) -> tuple[str, str, bytes | None, dict[str, str]]:
        if self.partner == "playtem":
            skus = [sku for sku, _ in self.items]
            document = {"AppId": 3, "AppName": "Storm", "UserId": self.player, "Items": skus, "TransactionId": self.id}
            message = f"3{self.player}{''.join(skus)}{self.id}".encode()
            document["Signature"] = hmac.new(PLAYTEM_SECRET.encode(), message, hashlib.sha1).hexdigest().upper()
            payload = base64.b64encode(json.dumps(document).encode()).decode()
            return "GET", f"/playtem/demo/credit?payload={urllib.parse.quote(payload, safe='')}", None, {}
        document = {
            "orderId": self.id,
            "appChargePaymentId": f"payment-{self.id}",
            "purchaseDateAndTimeUtc": "2026-07-21T14:17:27.329Z",
            "playerId": self.player,
            "products": [{"sku": sku, "amount": amount} for sku, amount in self.items],
            "priceInCents": 999,
            "currency": "USD",
            "action": "purchase",
            "actionStatus": "completed",
        }
        body = json.dumps(document).encode()
        stamp = str(int(time.time() * 1000))
        digest = hmac.new(MAIN_KEY.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        headers = {"x-publisher-token": TOKEN, "signature": f"t={stamp},v1={digest}"}
        return "POST", "/appcharge/demo/orders", body, {**headers, "Content-Type": "application/json"}


@dataclass
class Storm:
    """What the callers share."""

    port: int
    is_over: threading.Event = field(default_factory=threading.Event)
    mutex: threading.Lock = field(default_factory=threading.Lock)
    acknowledged: dict[Order, bytes] = field(default_factory=dict)  # and the first answer
    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def send(self, order: Order) -> bytes | None:
        """The answer of a 200; None for anything else, and then it has to be sent again."""
        method, path, body, headers = order.call()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            outcome, content, status = "cut off", b"", 0
        else:
            status = answer.status
            outcome = "answered 200" if status == 200 else "answered 5xx" if status >= 500 else "refused"
        finally:
            connection.close()
        with self.mutex:
            self.counts[outcome] += 1
            if outcome == "refused":
                self.wrong.append(f"{order.partner} {order.id} was answered {status}")
        return content if status == 200 else None

    def caller(self, partner: str, number: int, seed: int) -> None:
        """Orders one after another, each until it is acknowledged, be the storm over or not."""
        chance = random.Random(f"{seed}-{partner}-{number}")
        own: list[Order] = []
        while not self.is_over.is_set():
            amounts = (1, 1) if partner == "playtem" else (chance.randint(1, 9), chance.randint(1, 9))
            items = tuple(zip(("coins", "gems"), amounts, strict=True))
            order = Order(partner, f"{partner}-{number}-{len(own)}", chance.choice(PLAYERS), items)
            while (answer := self.send(order)) is None:
                time.sleep(0.05)
            with self.mutex:
                self.acknowledged[order] = answer
            own.append(order)
            if chance.random() < REPLAYED:
                self.replay(chance.choice(own))

    def replay(self, order: Order) -> None:
        while (answer := self.send(order)) is None:
            time.sleep(0.05)
        with self.mutex:
            self.counts["replays"] += 1
            if answer != self.acknowledged[order]:
                self.wrong.append(f"the repeat of {order.partner} {order.id} was answered differently")


class Destination(ThreadingHTTPServer):
    """The game's server: counts what it is delivered, and refuses some of it the first time."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Delivery)
        self.mutex = threading.Lock()
        self.taken: dict[str, dict[str, object]] = {}  # webhook id -> what it says
        self.repeats = self.refused = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        pass  # senders are killed all the time


class _Delivery(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Destination

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        if len(content) < length:  # its sender was killed in the middle
            self.close_connection = True
            return
        document = json.loads(content)
        is_refused = random.random() < REFUSED
        with self.server.mutex:
            if is_refused:
                self.server.refused += 1
            else:
                webhook_id = self.headers["webhook-id"]
                self.server.repeats += webhook_id in self.server.taken
                self.server.taken[webhook_id] = document["data"]
        self.send_response(500 if is_refused else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Server:
    """gunicorn as production runs it."""

    def __init__(self, home: Path, port: int) -> None:
        self._port = port
        self._log = (home.parent / "gunicorn.log").open("ab")
        self._environment = environment(home) | {"COINSLOT_BIND": f"127.0.0.1:{port}"}
        self._groups: list[int] = []
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "gunicorn", "wsgi:app"]
        self._master = subprocess.Popen(
            command, cwd=ROOT, env=self._environment, stdout=self._log, stderr=self._log, start_new_session=True
        )
        self._groups.append(self._master.pid)
        deadline = time.monotonic() + START_SECONDS
        while not self.is_up():
            if self._master.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"gunicorn does not come up; see {self._log.name}")
            time.sleep(0.05)

    def is_up(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200 and bool(self.workers())
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def workers(self) -> list[int]:
        listed = Path(f"/proc/{self._master.pid}/task/{self._master.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def kill_worker(self, chance: random.Random) -> None:
        """The master puts another in its place."""
        with suppress(ProcessLookupError, IndexError):
            os.kill(chance.choice(self.workers()), signal.SIGKILL)

    def kill_master(self) -> None:
        """Its workers are left to themselves, and go on for a moment beside the next ones."""
        self._master.kill()
        self._master.wait()
        self.start()

    def end(self) -> None:
        for group in self._groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self._master.wait()
        self._log.close()


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COINSLOT_")}
    return kept | {"COINSLOT_HOME": str(home)}


def set_up(home: Path, destination: str) -> None:
    """A game, as its owner sets it up on a shell."""

    def flask(*words: str, said: str = "") -> None:
        command = [sys.executable, "-m", "flask", *words]
        subprocess.run(
            command, cwd=ROOT, env=environment(home), input=said.encode(), check=True, stdout=subprocess.DEVNULL
        )

    flask("game", "add", "demo")
    for name, value in (
        ("appcharge.main_key", MAIN_KEY),
        ("appcharge.publisher_token", TOKEN),
        ("playtem.secret", PLAYTEM_SECRET),
    ):
        flask("secret", "set", "demo", name, said=f"{value}\n")
    flask("player", "import", "demo", "-", said="player_id\n" + "\n".join(PLAYERS) + "\n")
    flask("item", "import", "demo", "-", said="sku\ncoins\ngems\n")
    flask("destination", "add", "demo", "game", destination, "--retry", ",".join(["1"] * 50))


def judge(home: Path, storm: Storm, destination: Destination) -> dict[str, int]:
    """How many acknowledged orders were lost, doubled or not delivered, by the database and by what arrived."""
    connection = sqlite3.connect(f"file:{home / 'coinslot.db'}?mode=ro", uri=True)
    credited: dict[tuple[str, str], list[tuple[str, int, str]]] = defaultdict(list)
    for partner, reference, public_id, grant_id, player in connection.execute(
        """SELECT t.partner, t.reference, t.public_id, g.id, g.player_id
           FROM transactions t JOIN grants g ON g.transaction_id = t.id"""
    ):
        credited[partner, reference].append((public_id, grant_id, player))
    entries: dict[int, dict[str, int]] = defaultdict(dict)
    for grant_id, sku, quantity in connection.execute("SELECT grant_id, sku, quantity FROM entries"):
        entries[grant_id][sku] = int(quantity)
    connection.close()
    arrived: dict[str, list[dict[str, object]]] = defaultdict(list)
    for data in destination.taken.values():
        arrived[str(data["transaction_id"])].append(data)

    found = Counter({"lost": 0, "doubled": 0, "wrong": len(storm.wrong), "not delivered": 0})
    for order in storm.acknowledged:
        made = credited.pop((order.partner, order.id), [])
        if not made:
            found["lost"] += 1
            continue
        found["doubled"] += len(made) > 1
        public_id, grant_id, player = made[0]
        found["wrong"] += (player, entries[grant_id]) != (order.player, dict(order.items))
        delivered = arrived.pop(public_id, [])
        found["not delivered"] += not delivered
        found["doubled"] += len(delivered) > 1  # under two webhook ids; a repeat of one is what a game expects
        for data in delivered:
            told = {line["sku"]: line["quantity"] for line in data["items"]}  # type: ignore[attr-defined]
            found["wrong"] += (data["player_id"], told) != (order.player, dict(order.items))
    found["doubled"] += len(credited) + len(arrived)  # what nobody has sent
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="coinslot-storm-") as folder:
        home = Path(folder, "home")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            storm = Storm(listener.getsockname()[1])
        destination = Destination()
        set_up(home, f"http://127.0.0.1:{destination.server_address[1]}/grants")
        began = time.monotonic()
        server = Server(home, storm.port)
        try:
            callers = [("appcharge", number) for number in range(APPCHARGE_CALLERS)]
            callers += [("playtem", number) for number in range(PLAYTEM_CALLERS)]
            threads = [threading.Thread(target=storm.caller, args=(*each, options.seed)) for each in callers]
            for thread in threads:
                thread.start()
            for number in range(options.kills):
                time.sleep(chance.uniform(0.2, 2.0))
                if number % 2:
                    server.kill_master()
                else:
                    server.kill_worker(chance)
                print(f"\rkill {number + 1}, {len(storm.acknowledged):,} orders acknowledged", end="", flush=True)
            time.sleep(1)
            storm.is_over.set()
            for thread in threads:
                thread.join()
            print()
            for order in chance.sample(list(storm.acknowledged), min(200, len(storm.acknowledged))):
                storm.replay(order)
            deadline = time.monotonic() + SETTLE_SECONDS
            while len(destination.taken) < len(storm.acknowledged) and time.monotonic() < deadline:
                time.sleep(0.2)
        finally:
            storm.is_over.set()
            server.end()
            destination.shutdown()
        found = judge(home, storm, destination)
    seconds = time.monotonic() - began
    counts = storm.counts
    print(f"{options.kills} kills in {seconds:.0f} s, workers and master in turn")
    print(f"{len(storm.acknowledged):,} orders acknowledged, {counts['replays']:,} of them sent again")
    print(f"{counts['cut off']:,} calls cut off and {counts['answered 5xx']:,} answered 5xx, all sent again")
    taken, repeats, refused = len(destination.taken), destination.repeats, destination.refused
    print(f"{taken:,} deliveries taken, {repeats:,} of them repeated, {refused:,} refused and sent again")
    print(", ".join(f"{count} {what}" for what, count in found.items()))
    for sentence in storm.wrong[:10]:
        print(sentence)
    sys.exit(1 if any(found.values()) else 0)


if __name__ == "__main__":
    main()
