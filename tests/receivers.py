"""Game servers that take deliveries: real HTTP over loopback, and each answer scripted.

A receiver answers with its script, one behaviour per request, and then with its last one again and again. A behaviour
is a function of the request's handler. What a receiver was sent is in ``requests``; whether it was sent one delivery
twice at the same time, in ``overlaps``.
"""

import datetime
import ipaddress
import os
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import time_machine
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook

DRIP_SECONDS = 0.1


@dataclass(frozen=True)
class Request:
    at: float  # on the test's clock
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def webhook_id(self) -> str:
        return self.headers.get("webhook-id") or self.headers["x-gateway-delivery"]

    def verify(self, secret: str) -> Any:
        """The payload, as the public package gives it to a game; raises when it does not believe it."""
        with time_machine.travel(self.at, tick=False):
            return Webhook(secret).verify(self.body, dict(self.headers))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(time.time(), self.path, headers, body)
        with receiver.mutex:
            receiver.requests.append(request)
            behaviour = receiver.script.pop(0) if len(receiver.script) > 1 else receiver.script[0]
            key = headers.get("webhook-id") or headers.get("x-gateway-delivery", "")
            receiver.in_hand[key] += 1
            receiver.overlaps += receiver.in_hand[key] > 1
            receiver.most_at_once = max(receiver.most_at_once, receiver.in_hand.total())
        try:
            with suppress(OSError):  # the caller may have had enough
                behaviour(self)
        finally:
            with receiver.mutex:
                receiver.in_hand[key] -= 1

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    block_on_close = False
    receiver: "Receiver"

    def handle_error(self, *_: object) -> None:
        pass  # a caller that hangs up is part of the tests


class Receiver:
    """Use as a context manager. ``certificate`` (of :func:`certificate`) makes it speak TLS."""

    def __init__(self, *script: Callable[[Handler], None], certificate: Path | None = None) -> None:
        self.script = list(script) or [status(200)]
        self.requests: list[Request] = []
        self.in_hand: Counter[str] = Counter()
        self.overlaps = 0
        self.most_at_once = 0
        self.connections = 0
        self.mutex = threading.Lock()
        self.is_closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.receiver = self
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake is the connection's own thread's, not the one that accepts.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self._scheme = "https"
        accept = self._server.get_request

        def counted() -> Any:
            self.connections += 1
            return accept()

        self._server.get_request = counted  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/hook"

    @property
    def webhook_ids(self) -> list[str]:
        with self.mutex:
            return [request.webhook_id for request in self.requests]


def status(code: int, body: bytes = b"", **headers: str) -> Callable[[Handler], None]:
    """An ordinary answer; ``Retry_After="5"`` is the header ``Retry-After``."""

    def answer(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def after(seconds: float, behaviour: Callable[[Handler], None]) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.server.receiver.is_closing.wait(seconds)
        behaviour(handler)

    return answer


def silence(handler: Handler) -> None:
    """Never answers."""
    handler.server.receiver.is_closing.wait(60)
    handler.close_connection = True


def slow_headers(handler: Handler) -> None:
    """A header without an end, a letter at a time."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    _drip(handler)


def slow_body(handler: Handler) -> None:
    """The headers at once, the body a byte at a time, and never all of it."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    _drip(handler)


def continues(handler: Handler) -> None:
    """Says "100 Continue" again and again, and nothing else."""
    _drip(handler, b"HTTP/1.1 100 Continue\r\n\r\n")


def huge(handler: Handler) -> None:
    """A body without an end, as fast as it goes; counts in ``handler.server.receiver.sent`` what was taken of it."""
    receiver: Any = handler.server.receiver
    receiver.sent = 0
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while not receiver.is_closing.is_set():
        handler.wfile.write(b"x" * 16384)
        receiver.sent += 16384


def reset(handler: Handler) -> None:
    """Breaks the connection instead of answering."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.rfile.close()
    handler.connection.close()


def hang_up_after(behaviour: Callable[[Handler], None]) -> Callable[[Handler], None]:
    """Answers, and then closes the connection without having said so."""

    def answer(handler: Handler) -> None:
        behaviour(handler)
        handler.close_connection = True

    return answer


def nonsense(handler: Handler) -> None:
    handler.wfile.write(b"this is no HTTP\r\n\r\n")
    handler.close_connection = True


def bad_headers(handler: Handler) -> None:
    """A 500 with a line among its headers that is none."""
    handler.wfile.write(b"HTTP/1.1 500 Oops\r\nno header\r\nX: 1\r\nContent-Length: 0\r\n\r\n")
    handler.close_connection = True


def closed_port() -> int:
    """A port of the loopback on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def certificate(folder: Path, *names: str, days: int = 30) -> Path:
    """A self-signed certificate with its key, in one PEM file; ``days`` below zero: it has expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Coinslot test")])
    alternatives: list[x509.GeneralName] = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=60))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"certificate-{os.urandom(4).hex()}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def _drip(handler: Handler, drop: bytes = b"x") -> None:
    handler.close_connection = True
    while not handler.server.receiver.is_closing.wait(DRIP_SECONDS):
        handler.wfile.write(drop)
