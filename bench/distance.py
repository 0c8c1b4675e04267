"""A network between a server and its database, on the loopback: ``python -m bench.distance MILLISECONDS``.

What passes is handed on later by half the milliseconds in each direction, in order, and as much of it as comes: a round
trip takes so much longer, and nothing else becomes slower. The database's URL is read from standard input, since it
may hold a password. Prints the URL as seen from afar, and ends when standard input is closed.
"""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from urllib.parse import parse_qs, unquote, urlsplit

PIECE_BYTES = 65536


class Distance:
    """A port of the loopback that is ``seconds`` away from a PostgreSQL server, there and back.

    ``turns`` counts how often anyone sent something after something had come back: round trips over the network.
    """

    def __init__(self, url: str, seconds: float = 0.0) -> None:
        self.turns = 0
        self._parts = urlsplit(url)
        self._one_way = seconds / 2
        self._listening = socket.create_server(("127.0.0.1", 0))
        port = self._listening.getsockname()[1]
        user = self._parts.netloc.rpartition("@")[0]
        self.url = self._parts._replace(netloc=f"{user}@127.0.0.1:{port}" if user else f"127.0.0.1:{port}", query="")
        self.url = self.url.geturl()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Distance":
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listening.accept()
                threading.Thread(target=self._connect, args=(caller,), daemon=True).start()

    def _connect(self, caller: socket.socket) -> None:
        try:
            server = self._reach()
        except OSError:
            caller.close()
            return
        _Connection(self, caller, server, self._one_way)

    def _reach(self) -> socket.socket:
        folder = parse_qs(self._parts.query).get("host", [""])[0] or unquote(self._parts.hostname or "")
        if folder.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{folder}/.s.PGSQL.{self._parts.port or 5432}")
            return server
        server = socket.create_connection((folder or "127.0.0.1", self._parts.port or 5432))
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server


class _Connection:
    def __init__(self, distance: Distance, caller: socket.socket, server: socket.socket, one_way: float) -> None:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._distance = distance
        self._one_way = one_way
        self._is_answered = True
        for source, target in ((caller, server), (server, caller)):
            on_the_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
            threading.Thread(target=self._take, args=(source, source is caller, on_the_way), daemon=True).start()
            threading.Thread(target=self._hand_on, args=(target, on_the_way), daemon=True).start()

    def _take(self, source: socket.socket, is_caller: bool, on_the_way: "SimpleQueue[tuple[float, bytes]]") -> None:
        piece = b"x"
        while piece:
            try:
                piece = source.recv(PIECE_BYTES)
            except OSError:
                piece = b""
            if is_caller and piece and self._is_answered:
                self._distance.turns += 1
            self._is_answered = not is_caller
            on_the_way.put((time.monotonic() + self._one_way, piece))

    def _hand_on(self, target: socket.socket, on_the_way: "SimpleQueue[tuple[float, bytes]]") -> None:
        piece = b"x"
        with target:
            while piece:
                due, piece = on_the_way.get()
                if (left := due - time.monotonic()) > 0:
                    time.sleep(left)
                try:
                    if piece:
                        target.sendall(piece)
                    else:
                        target.shutdown(socket.SHUT_RDWR)  # which ends the reading of the other direction too
                except OSError:
                    piece = b""


@contextmanager
def far_away(url: str, milliseconds: float) -> Iterator[str]:
    """The URL of the same database, so far away, for as long as this lasts. A process of its own does it."""
    command = [sys.executable, "-m", "bench.distance", str(milliseconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            print(url, file=process.stdin, flush=True)
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    with Distance(sys.stdin.readline().strip(), float(sys.argv[1]) / 1000) as distance:
        print(distance.url, flush=True)
        sys.stdin.read()
