"""Calls to addresses an owner typed in: bounded in time and size, no redirects, checked where they really go.

The time limit is for the whole call, however slowly the other side drips its answer; urllib3's own limits are per
read. The address is checked when the connection is made, so a name cannot be checked as one thing and then be another.
"""

import ipaddress
import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

LARGEST_ANSWER = 64 * 1024
WATCH_SECONDS = 0.1


@dataclass(frozen=True)
class Answer:
    """What came of a call. ``failure`` is a word of ``attempts.failure`` where there was no proper answer."""

    failure: str | None
    status: int | None = None
    body: bytes = b""
    detail: str | None = None
    retry_after: str | None = None
    duration_ms: int = 0


class _Call:
    """One call under way, for the watch."""

    def __init__(self, timeout_seconds: float) -> None:
        self.deadline = time.monotonic() + timeout_seconds
        self.connection: Any = None
        self.is_late = False

    def remaining(self) -> float:
        return self.deadline - time.monotonic()


_current = threading.local()  # the _Call of this thread, for the connection classes below


class ForbiddenAddressError(Exception):
    """The name resolves to an address that this installation does not call."""


class Outbound:
    """A pool of connections, kept alive. Safe to share between threads."""

    def __init__(self, may_call_private: bool = True) -> None:
        http, https = _connection_classes(may_call_private)
        self._pool = urllib3.PoolManager(num_pools=64, maxsize=16, retries=False)
        self._pool.pool_classes_by_scheme = {"http": http, "https": https}
        self._calls: set[_Call] = set()
        self._mutex = threading.Lock()
        self._watch: threading.Thread | None = None

    def post(self, url: str, headers: dict[str, str], body: bytes, timeout_seconds: float) -> Answer:
        """POST and read at most 64 KiB of the answer. Never raises for what the other side does."""
        call = _Call(timeout_seconds)
        started = time.monotonic()
        self._begin(call)
        try:
            answer = self._post(call, url, headers, body)
        finally:
            self._end(call)
        return replace(answer, duration_ms=round((time.monotonic() - started) * 1000))

    def _post(self, call: _Call, url: str, headers: dict[str, str], body: bytes) -> Answer:
        response = None
        try:
            response = self._pool.request(
                "POST",
                url,
                headers=headers,
                body=body,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(total=max(call.remaining(), 0.01)),
                preload_content=False,
            )
            content = response.read(LARGEST_ANSWER + 1, decode_content=False)
            failure = detail = None
            if call.is_late:
                failure, detail = "timeout", "the answer did not end in time"
            elif len(content) > LARGEST_ANSWER:
                failure, detail = "too_large", f"the answer is larger than {LARGEST_ANSWER} bytes"
            elif 300 <= response.status < 400:
                failure, detail = "redirect", "redirects are not followed"
            else:
                response.release_conn()
            retry_after = response.headers.get("Retry-After")
            return Answer(failure, response.status, content[:LARGEST_ANSWER], detail, retry_after)
        except (HTTPError, OSError, ForbiddenAddressError, ValueError) as error:
            failure, detail = _in_a_word(error, call.is_late)
            return Answer(failure, detail=detail)
        finally:
            if response is not None:
                response.close()  # a connection given back by then is the pool's, and stays open

    def _begin(self, call: _Call) -> None:
        _current.call = call
        with self._mutex:
            self._calls.add(call)
            if self._watch is None:
                self._watch = threading.Thread(target=self._end_late_calls, name="coinslot-outbound", daemon=True)
                self._watch.start()

    def _end(self, call: _Call) -> None:
        _current.call = None
        with self._mutex:
            self._calls.discard(call)

    def _end_late_calls(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(WATCH_SECONDS)
            with self._mutex:
                if not self._calls:
                    self._watch = None
                    return
                late = [call for call in self._calls if call.remaining() <= 0 and not call.is_late]
            for call in late:
                call.is_late = True
                sock = getattr(call.connection, "sock", None)
                if sock is not None:
                    try:
                        # The plain socket's method even for TLS: it wakes the thread that reads, and changes nothing
                        # of the TLS object under its hands.
                        socket.socket.shutdown(sock, socket.SHUT_RDWR)
                    except OSError:
                        continue  # it ended by itself in this moment


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's: not private, loopback, link-local, multicast or reserved."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_global and not parsed.is_multicast


def _connection_classes(may_call_private: bool) -> tuple[type, type]:
    class Checked:
        """Watches over the current call, and looks at the address before it connects."""

        def connect(self) -> None:
            _current.call.connection = self
            super().connect()  # type: ignore[misc]

        def request(self, *args: Any, **kwargs: Any) -> None:
            _current.call.connection = self
            super().request(*args, **kwargs)  # type: ignore[misc]

        def _new_conn(self) -> socket.socket:
            host: str = self._dns_host.strip("[]")  # type: ignore[attr-defined]
            try:
                found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)  # type: ignore[attr-defined]
            except (socket.gaierror, UnicodeError) as error:
                raise NameResolutionError(host, self, socket.gaierror(str(error))) from None  # type: ignore[arg-type]
            failure: OSError = OSError("it has no address")
            for family, kind, protocol, _, address in found:
                if not may_call_private and not is_public(str(address[0])):
                    raise ForbiddenAddressError(f"its address {address[0]} is not a public one, and those are off here")
                remaining = _current.call.remaining()
                if remaining <= 0:
                    raise ConnectTimeoutError(self, "no connection in time")
                sock = socket.socket(family, kind, protocol)
                sock.settimeout(remaining)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    sock.connect(address)
                except TimeoutError:
                    sock.close()
                    raise ConnectTimeoutError(self, "no connection in time") from None
                except OSError as error:
                    sock.close()
                    failure = error
                else:
                    return sock
            raise NewConnectionError(self, str(failure)) from failure  # type: ignore[arg-type]

    class Http(Checked, HTTPConnection):
        pass

    class Https(Checked, HTTPSConnection):
        pass

    class HttpPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Http

    class HttpsPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Https

    return HttpPool, HttpsPool


def _in_a_word(error: Exception, is_late: bool) -> tuple[str, str]:
    """The failure word, and a few more of ours: what urllib3 says may quote the URL."""
    if is_late or isinstance(error, ConnectTimeoutError | ReadTimeoutError | TimeoutError):
        return "timeout", "no answer in time"
    if isinstance(error, ForbiddenAddressError):
        return "rejected", str(error)
    if isinstance(error, NameResolutionError):
        return "dns", "the name has no address"
    if isinstance(error, NewConnectionError):
        cause = error.__cause__
        return "refused", (cause.strerror or "no connection") if isinstance(cause, OSError) else "no connection"
    if isinstance(error, SSLError):
        reason = getattr(error.args[0] if error.args else None, "verify_message", None)
        return "tls", f"the certificate is not accepted: {reason}" if reason else "no safe connection"
    if isinstance(error, LocationParseError | ValueError):
        return "dns", "the address cannot be read"
    return "refused", "the connection broke before there was an answer"
