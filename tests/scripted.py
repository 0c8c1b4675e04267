"""A server that says exactly the bytes a test gives it, for what no HTTP library would send.

It reads a request, waits and writes as its script says, and keeps the connection open until the caller closes it.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

Script = Sequence[bytes | float | None]  # what is written, pauses in seconds, and None to hang up

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


def ok(body: bytes = b"") -> bytes:
    return OK % (len(body), body)


class Scripted:
    """Use as a context manager. ``answer`` makes the script of one request out of its path and body."""

    def __init__(self, answer: Callable[[str, bytes], Script], certificate: Path | None = None) -> None:
        self._answer = answer
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self.connections = 0
        self.requests: list[str] = []
        self._is_over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> "Scripted":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:  # a caller that keeps its connections would be waited for
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    @property
    def url(self) -> str:
        return f"http{'s' if self._context else ''}://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while not self._is_over.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError):
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            self._sockets.append(sock)
            with sock, sock.makefile("rb") as reader:
                sock.settimeout(10)
                while request := reader.readline().decode():
                    length = 0
                    while (line := reader.readline().strip().lower()) != b"":
                        if line.startswith(b"content-length:"):
                            length = int(line.partition(b":")[2])
                    path = request.split()[1]
                    self.requests.append(path)
                    for step in self._answer(path, reader.read(length)):
                        if step is None:
                            return
                        if isinstance(step, bytes):
                            sock.sendall(step)
                        else:
                            self._is_over.wait(step)
