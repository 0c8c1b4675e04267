"""One fake HTTP server for all tests: threaded, on a free port of the loopback, with TLS when given a certificate.

    with FakeServer(lambda request: (200, {"id": request.query["id"]})) as server:
        ...
        assert server.requests[0].path == "/players"

``requests`` holds what came. What the server answers is a document with its status, or a behaviour: a function of the
request's :class:`Handler`, such as those below, which hang, drip, reset or talk nonsense. Behaviours in ``script``
answer the next requests instead. A fake of a partner is a subclass with a ``reply`` of its own.
"""

import datetime
import ipaddress
import json
import os
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import time_machine
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook

DRIP_SECONDS = 0.1


@dataclass(frozen=True)
class Request:
    method: str
    target: str  # path and query as they were sent
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    at: float = field(default_factory=time.time)  # on the test's clock

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def route(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        is_form = self.headers.get("content-type") == "application/x-www-form-urlencoded"
        return dict(parse_qsl(self.body.decode())) if is_form else {}

    @property
    def json(self) -> Any:
        return json.loads(self.body, parse_float=Decimal)

    @property
    def webhook_id(self) -> str:
        return self.headers.get("webhook-id") or self.headers.get("x-gateway-delivery", "")

    def verify(self, secret: str) -> Any:
        """The payload, as the public package gives it to a game; raises when it does not believe it."""
        with time_machine.travel(self.at, tick=False):
            return Webhook(secret).verify(self.body, dict(self.headers))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    @property
    def fake(self) -> Any:
        return self.server.fake

    def take(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # the caller was killed in the middle: this was never a request
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        with self.fake.mutex:
            if self.fake.is_keeping_requests:
                self.fake.requests.append(request)
        with suppress(OSError):  # the caller may have had enough
            self.fake.answer(self, request)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = take

    def end_headers(self) -> None:
        if self.fake.is_closing_connections:
            self.send_header("Connection", "close")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


Behaviour = Callable[[Handler], None]
Reply = Behaviour | tuple[int, Any]  # a behaviour, or a status with a document or the body's bytes


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    block_on_close = False
    fake: "FakeServer"

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.open_sockets: list[socket.socket] = []

    def server_close(self) -> None:
        super().server_close()
        for each in self.open_sockets:  # as when the process ends: a caller that keeps its connection notices
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def get_request(self) -> Any:
        accepted = super().get_request()
        self.fake.connections += 1
        self.open_sockets.append(accepted[0])
        return accepted

    def handle_error(self, *_: object) -> None:
        pass  # a caller that hangs up is part of the tests


class FakeServer:
    """Use as a context manager. ``certificate`` (of :func:`certificate`) makes it use TLS."""

    content_type = "application/json"
    is_closing_connections = False  # after each answer, and says so

    def __init__(
        self, reply: Callable[[Request], Reply] | None = None, certificate: Path | None = None, port: int = 0
    ) -> None:
        if reply is not None:
            self.reply = reply  # type: ignore[method-assign]
        self.script: list[Behaviour | None] = []  # for the next requests; None: as always
        self.requests: list[Request] = []
        self.is_keeping_requests = True
        self.connections = 0
        self.mutex = threading.RLock()
        self.is_closing = threading.Event()
        self._server = _Server(port)
        self._server.fake = self
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake is made in the connection's own thread, not in the one that accepts.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True)

    def __enter__(self) -> Self:
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
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def routes(self) -> list[str]:
        """Method and path of every request."""
        with self.mutex:
            return [request.route for request in self.requests]

    def reply(self, request: Request) -> Reply:
        return 404, {}

    def answer(self, handler: Handler, request: Request) -> None:
        """Answer one request: by the script, or by :meth:`reply`."""
        with self.mutex:
            behaviour = self.script.pop(0) if self.script else None
        self.send(handler, behaviour or self.reply(request))

    def send(self, handler: Handler, reply: Reply) -> None:
        if callable(reply):
            reply(handler)
            return
        code, document = reply
        body = document if isinstance(document, bytes) else json.dumps(document, default=float).encode()
        status(code, body, Content_Type=self.content_type)(handler)


class Receiver(FakeServer):
    """A game's server that takes deliveries. It answers with its script, and then with the last of it again and again.

    ``overlaps`` counts how often it was sent one delivery twice at the same time.
    """

    def __init__(self, *script: Behaviour, certificate: Path | None = None) -> None:
        super().__init__(certificate=certificate)
        self.script = list(script) or [status(200)]
        self.in_hand: Counter[str] = Counter()
        self.overlaps = 0
        self.most_at_once = 0

    @property
    def url(self) -> str:
        return f"{super().url}/hook"

    @property
    def webhook_ids(self) -> list[str]:
        with self.mutex:
            return [request.webhook_id for request in self.requests]

    def answer(self, handler: Handler, request: Request) -> None:
        key = request.webhook_id
        with self.mutex:
            behaviour = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            self.in_hand[key] += 1
            self.overlaps += self.in_hand[key] > 1
            self.most_at_once = max(self.most_at_once, self.in_hand.total())
        try:
            assert behaviour is not None
            behaviour(handler)
        finally:
            with self.mutex:
                self.in_hand[key] -= 1


def status(code: int, body: bytes = b"", **headers: str) -> Behaviour:
    """An ordinary answer; ``Retry_After="5"`` is the header ``Retry-After``."""

    def answer(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if code != 204:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def raw(*steps: bytes | float | None) -> Behaviour:
    """Exactly these bytes, for what no HTTP library would send; a number is a pause in seconds, None hangs up."""

    def answer(handler: Handler) -> None:
        for step in steps:
            if step is None:
                handler.close_connection = True
                return
            if isinstance(step, bytes):
                handler.wfile.write(step)
            else:
                handler.fake.is_closing.wait(step)

    return answer


def ok(body: bytes = b"") -> bytes:
    """The bytes of an ordinary answer, for :func:`raw`."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def after(seconds: float, behaviour: Behaviour) -> Behaviour:
    def answer(handler: Handler) -> None:
        handler.fake.is_closing.wait(seconds)
        behaviour(handler)

    return answer


def silence(handler: Handler) -> None:
    """Never answers."""
    handler.fake.is_closing.wait(60)
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
    """A body without an end, as fast as it goes; counts in ``handler.fake.sent`` what was taken of it."""
    handler.fake.sent = 0
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while not handler.fake.is_closing.is_set():
        handler.wfile.write(b"x" * 16384)
        handler.fake.sent += 16384


def reset(handler: Handler) -> None:
    """Breaks the connection instead of answering."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.rfile.close()
    handler.connection.close()


def hang_up_after(behaviour: Behaviour) -> Behaviour:
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
    while not handler.fake.is_closing.wait(DRIP_SECONDS):
        handler.wfile.write(drop)
