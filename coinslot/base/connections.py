"""Connections of outgoing calls: bounded in time, checked for their real address, and reused only when that is safe.

Bytes left over from one call would be read as the answer to the next. So a connection is reused only when exactly one
final answer to the last request was read, nothing followed it, and it was idle for less than :data:`IDLE_SECONDS`. A
server that once sent more than one answer gets a new connection for each call.
"""

import errno
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

IDLE_SECONDS = 2.0
MOST_INTERIM_ANSWERS = 20  # such as 103 (Early Hints), before the final answer
# In full, since the tables of Python's `ipaddress` differ by version.
NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network (RFC 1122)
        "10.0.0.0/8",  # private (RFC 1918)
        "100.64.0.0/10",  # behind a provider's NAT (RFC 6598)
        "127.0.0.0/8",  # loopback (RFC 1122)
        "169.254.0.0/16",  # link-local, with the metadata of clouds (RFC 3927)
        "172.16.0.0/12",  # private (RFC 1918)
        "192.0.0.0/24",  # protocol assignments (RFC 6890)
        "192.0.2.0/24",  # documentation (RFC 5737)
        "192.88.99.0/24",  # relays of 6to4, withdrawn (RFC 7526)
        "192.168.0.0/16",  # private (RFC 1918)
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "198.51.100.0/24",  # documentation (RFC 5737)
        "203.0.113.0/24",  # documentation (RFC 5737)
        "224.0.0.0/3",  # multicast, reserved, broadcast (RFC 1112)
        "2001::/23",  # protocol assignments, among them Teredo, benchmarks and ORCHID (RFC 2928)
        "2001:db8::/32",  # documentation (RFC 3849)
        "3fff::/20",  # documentation (RFC 9637)
    )
)
UNICAST = ipaddress.ip_network("2000::/3")  # all IPv6 addresses assigned so far (RFC 4291)
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # the last 32 bits are the IPv4 address that is called (RFC 6052)


class ForbiddenAddressError(Exception):
    """The name has an address that this installation does not call."""


class UnaskedAnswerError(http.client.HTTPException):
    """The server sent an answer to no request of ours. The message is ours and may be shown."""


def is_public(address: str) -> bool:
    """Whether an IP address is public. For one that contains an IPv4 address, that decides."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        embedded = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in NAT64:
            embedded = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
        if parsed not in UNICAST:
            return False
    return not any(parsed in network for network in NOT_PUBLIC)


_this_call = threading.local()  # .deadline, in monotonic seconds, of the call this thread is making


def limit(seconds: float) -> None:
    """From now on, this thread's call may take so many seconds on all its connections."""
    _this_call.deadline = time.monotonic() + seconds


def pools(context: ssl.SSLContext, checks: str, may_call_private: bool, are_kept: bool) -> urllib3.PoolManager:
    """Connections to all servers. ``are_kept``: they are reused where that is safe."""
    context.sslsocket_class = _TlsSocket
    manager = urllib3.PoolManager(num_pools=64, maxsize=16, retries=False, ssl_context=context, cert_reqs=checks)
    manager.pool_classes_by_scheme = _pool_classes(may_call_private, are_kept)
    return manager


def _remaining() -> float:
    """Seconds left for this thread's call. Raises TimeoutError when there are none."""
    left: float = _this_call.deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the call took too long")
    return left


class _Bounded:
    """A socket whose reads and writes time out at the end of the call."""

    answered_at: float | None = None  # monotonic; None until the final answer to the last request was read
    has_said_more = False  # than one answer

    def recv_into(self, *args: Any) -> int:
        if self.answered_at is not None:
            raise BlockingIOError(errno.EAGAIN, "the answer is complete")
        self.settimeout(_remaining())  # type: ignore[attr-defined]
        return super().recv_into(*args)  # type: ignore[misc,no-any-return]

    def send(self, *args: Any) -> int:
        self.settimeout(_remaining())  # type: ignore[attr-defined]
        return super().send(*args)  # type: ignore[misc,no-any-return]

    def sendall(self, *args: Any) -> None:
        self.settimeout(_remaining())  # type: ignore[attr-defined]
        super().sendall(*args)  # type: ignore[misc]

    def is_quiet(self) -> bool:
        """Whether nothing has come since the answer, and the server has not closed the connection."""
        self.settimeout(0)  # type: ignore[attr-defined]
        try:
            self.has_said_more = bool(self.recv(1))  # type: ignore[attr-defined]
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False


class _PlainSocket(_Bounded, socket.socket):
    pass


class _TlsSocket(_Bounded, ssl.SSLSocket):
    pass


class FinalAnswer(http.client.HTTPResponse):
    """The final answer to a request. Interim answers are skipped; http.client skips only 100."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MOST_INTERIM_ANSWERS + 1):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status == http.client.SWITCHING_PROTOCOLS:
                raise UnaskedAnswerError("it answered 101 (Switching Protocols), for which it was not asked")
            if status >= 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise UnaskedAnswerError(f"it sent more than {MOST_INTERIM_ANSWERS} interim answers (1xx)")


class _Answer(FinalAnswer):
    """An answer that notes on its socket whether it was all that came."""

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        sock.answered_at = None
        self._answering = sock
        super().__init__(sock, *args, **options)

    def _close_conn(self) -> None:
        """Called when the answer was read to its end, and when it is abandoned."""
        sock = self._answering
        if self.chunked is True or self.length == 0:
            sock.answered_at = time.monotonic()  # from here on the reader gives what it has and reads no more
            if self.fp.peek(1):
                sock.answered_at, sock.has_said_more = None, True
        super()._close_conn()  # type: ignore[misc]


def _pool_classes(may_call_private: bool, are_kept: bool) -> dict[str, type]:
    class Checked:
        """Checks the address before it connects, and the server's answers before it is reused."""

        sock: Any
        is_out_of_step = False  # its server has sent more than one answer

        def _new_conn(self) -> socket.socket:
            return _connect(self, may_call_private)

        @property
        def is_connected(self) -> bool:
            sock = self.sock
            if sock is None:
                return False
            may_be_used = (
                sock.answered_at is not None and time.monotonic() - sock.answered_at < IDLE_SECONDS and sock.is_quiet()
            )
            self.is_out_of_step = bool(sock.has_said_more)
            return may_be_used

    class Kept:
        """Connections to one server."""

        are_kept_here = are_kept

        def _get_conn(self, timeout: float | None = None) -> Any:
            connection = super()._get_conn(timeout)  # type: ignore[misc]
            if connection.is_out_of_step:
                self.are_kept_here = False
            return connection

        def _put_conn(self, connection: Any) -> None:
            if connection is not None and not self.are_kept_here:
                connection.close()
            super()._put_conn(connection)  # type: ignore[misc]

    class Http(Checked, HTTPConnection):
        response_class = _Answer

    class Https(Checked, HTTPSConnection):
        response_class = _Answer

    class HttpPool(Kept, urllib3.HTTPConnectionPool):
        ConnectionCls = Http

    class HttpsPool(Kept, urllib3.HTTPSConnectionPool):
        ConnectionCls = Https

    return {"http": HttpPool, "https": HttpsPool}


def _connect(connection: Any, may_call_private: bool) -> socket.socket:
    """A socket that is connected to the first of the name's addresses that accepts."""
    host: str = connection._dns_host.strip("[]")
    try:
        found = socket.getaddrinfo(host, connection.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise NameResolutionError(host, connection, socket.gaierror(str(error))) from None
    failure = OSError("it has no address")
    for family, kind, protocol, _, address in found:
        if not may_call_private and not is_public(str(address[0])):
            raise ForbiddenAddressError(
                f"its address {address[0]} is not a public one (COINSLOT_PRIVATE_TARGETS is off)"
            )
        sock = _PlainSocket(family, kind, protocol)
        try:
            sock.settimeout(_remaining())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address)
        except TimeoutError:
            sock.close()
            raise ConnectTimeoutError(connection, "no connection in time") from None
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise NewConnectionError(connection, str(failure)) from failure
