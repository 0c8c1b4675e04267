"""One delivery whose body comes in small pieces, slowly: whether the receiver waits for all of it."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from urllib3.util import Url, parse_url

from coinslot.base import connections, outbound
from coinslot.base.outbound import Answer
from coinslot.outbox.destinations import Destination

TRICKLE_SECONDS = 2.0
TRICKLE_PIECES = 20


@dataclass(frozen=True)
class Delivery:
    """Headers and body, ready to be sent as often as wanted."""

    headers: dict[str, str]
    body: bytes


def trickle(destination: Destination, delivery: Delivery, may_call_private: bool) -> Answer:
    """POST over a connection of its own, the body in small pieces; the answer has the usual time after the last."""
    url = parse_url(destination.url)
    try:
        sock = _connected(url, destination.timeout_seconds, may_call_private)
    except OSError as error:
        return Answer("refused", detail=f"no connection: {error.strerror or 'it failed'}")
    connection = http.client.HTTPConnection(str(url.host))
    connection.sock = sock
    connection.response_class = connections.FinalAnswer
    # The socket's own limit is per read; this one ends an answer that is dripped.
    watch = threading.Timer(TRICKLE_SECONDS + destination.timeout_seconds + 1, _hang_up, (sock,))
    watch.start()
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before the whole body was there
            headers = {**delivery.headers, "Host": str(url.netloc), "Content-Length": str(len(delivery.body))}
            connection.request("POST", url.request_uri, _pieces(delivery.body), headers)
        response = connection.getresponse()
        return Answer(None, response.status, response.read(outbound.LARGEST_ANSWER))
    except TimeoutError:
        return Answer("timeout", detail="no answer in time")
    except (OSError, http.client.HTTPException):
        return Answer("refused", detail="the connection ended without one")
    finally:
        watch.cancel()
        connection.close()
        sock.close()


def _connected(url: Url, timeout_seconds: int, may_call_private: bool) -> socket.socket:
    """A connection, in TLS for https, to an address that may be called. Raises OSError."""
    port = url.port or (443 if url.scheme == "https" else 80)
    host = str(url.host).strip("[]")
    failure = OSError(None, "it has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not may_call_private and not connections.is_public(str(address[0])):
            raise OSError(None, "its address is not a public one, and those are off here")
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(timeout_seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect(address)
            if url.scheme == "https":
                return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _hang_up(sock: socket.socket) -> None:
    with suppress(OSError):
        # The plain socket's method even for TLS: it wakes the thread that reads, and changes nothing of the TLS object.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _pieces(body: bytes) -> Iterator[bytes]:
    size = -(-len(body) // TRICKLE_PIECES)
    for start in range(0, len(body), size):
        time.sleep(TRICKLE_SECONDS / TRICKLE_PIECES)
        yield body[start : start + size]
