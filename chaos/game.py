"""The game's side: a server that takes deliveries and notes each, and a reader of the feed that notes each grant."""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from chaos.journal import Journal
from chaos.orders import PLAYERS

REFUSED = 0.02  # of the deliveries, always: answered 500, to have them sent again
HANG_SECONDS = 1.5  # longer than the destination's timeout
DRIP_SECONDS = 0.4
FEED_SECONDS = 0.2


class Game(ThreadingHTTPServer):
    """The destination. ``misbehave``: how a delivery is treated instead of properly, and how often."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Delivery)
        self.journal: Journal | None = None
        self.chance = random.Random(0)
        self.misbehave: Callable[[Delivery], None] | None = None
        self.how_often = 0.0
        self.misbehaved = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def begin(self, journal: Path, chance: random.Random) -> None:
        """Behave, and note in another journal."""
        self.end()
        self.journal, self.chance = Journal(journal), chance
        self.misbehave, self.misbehaved = None, 0

    def end(self) -> None:
        """Take nothing any more."""
        journal, self.journal = self.journal, None
        if journal is not None:
            journal.close()

    def handle_error(self, *_: object) -> None:
        pass  # senders are killed all the time


class Delivery(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Game
    content = b""

    def do_POST(self) -> None:
        game = self.server
        if game.misbehave is not None and game.chance.random() < game.how_often:
            game.misbehaved += 1
            self.close_connection = True
            with suppress(OSError):
                game.misbehave(self)
        elif self.read():
            if game.chance.random() < REFUSED:
                self.answer(500)
            elif self.take():
                self.answer(204)

    def read(self) -> bool:
        """The body; False where its sender was killed in the middle."""
        length = int(self.headers["Content-Length"])
        self.content = self.rfile.read(length)
        self.close_connection |= len(self.content) < length
        return len(self.content) == length

    def take(self) -> bool:
        """Note it, as a game that hands out what it says; False between two scenes."""
        document = json.loads(self.content)
        journal = self.server.journal
        if journal is None:
            self.close_connection = True
            return False
        journal.note(webhook_id=self.headers["webhook-id"], type=document["type"], data=document["data"])
        return True

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        """End the connection so that the sender sees it reset, not closed."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, *_: object) -> None:
        pass


def hang(delivery: Delivery) -> None:
    """Taken or not, and never answered."""
    if delivery.read() and delivery.server.chance.random() < 0.5:
        delivery.take()
    time.sleep(HANG_SECONDS)


def drip(delivery: Delivery) -> None:
    """Taken, and answered byte by byte."""
    if delivery.read() and delivery.take():
        for byte in b"HTTP/1.1 204 No Content\r\n\r\n":
            delivery.wfile.write(bytes([byte]))
            delivery.wfile.flush()
            time.sleep(DRIP_SECONDS)


def lie(delivery: Delivery) -> None:
    """500 though it was taken, or 200 with a body that means nothing."""
    if delivery.read() and delivery.take():
        if delivery.server.chance.random() < 0.5:
            delivery.answer(500)
        else:
            delivery.answer(200, b'{"error": "not taken"' + b" " * delivery.server.chance.randrange(5000))


def reset(delivery: Delivery) -> None:
    """The connection is reset after some bytes of the request, or taken and reset after some bytes of the answer."""
    chance = delivery.server.chance
    length = int(delivery.headers["Content-Length"])
    if chance.random() < 0.5:
        delivery.rfile.read(chance.randrange(length))
    elif delivery.read() and delivery.take():
        answer = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
        delivery.wfile.write(answer[: chance.randrange(len(answer))])
        delivery.wfile.flush()
    delivery.reset()


def fail(delivery: Delivery) -> None:
    """Nothing is taken: 503 to everything."""
    if delivery.read():
        delivery.answer(503)


class Reader:
    """The game as it reads its feed: a cursor that moves on, and a note of each grant."""

    def __init__(self, port: int, token: str, journal: Path) -> None:
        self._port = port
        self._headers = {"Authorization": f"Bearer {token}"}
        self._journal = Journal(journal)
        self._after = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self, balances: Path) -> None:
        """Read to the end of the feed, and ask for the sums of each player. The server must be up."""
        self._is_over.set()
        self._thread.join()
        while self._read():
            pass
        sums = {player: self._get(f"/game/v1/players/{player}/granted")["granted"] for player in PLAYERS}
        balances.write_text(json.dumps(sums))
        self._journal.close()

    def _run(self) -> None:
        while not self._is_over.wait(FEED_SECONDS):
            with suppress(OSError, http.client.HTTPException, ValueError):
                self._read()

    def _read(self) -> bool:
        """One page of the feed; returns whether there is more."""
        page = self._get(f"/game/v1/grants?after={self._after}&limit=500")
        for grant in page["grants"]:
            self._journal.note(**grant)
        self._after = page["next_after"]
        return bool(page["has_more"])

    def _get(self, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path, headers=self._headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise ValueError(f"{path} was answered {answer.status}")
            found: dict[str, Any] = json.loads(content)
            return found
        finally:
            connection.close()


MISBEHAVIOURS: dict[str, Callable[[Delivery], None]] = {"hang": hang, "drip": drip, "lie": lie, "reset": reset}
