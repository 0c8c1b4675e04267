"""What no HTTP library sends, over bare sockets to a real gunicorn: bad chunks, two lengths, a request inside another.

A proxy and a server that disagree on where a request ends let a stranger put words into somebody else's connection.
So a request that can be read in two ways is refused, and nothing that follows it on its connection is answered.
"""

import json
import re
import socket
from contextlib import suppress

import pytest

from tests.conftest import appcharge_headers, order
from tests.servers import Server

pytestmark = pytest.mark.long

PATH = b"/appcharge/demo/orders"


def signed(number: str) -> tuple[bytes, bytes]:
    """Body and header lines of a good order."""
    body = json.dumps(order(orderId=number, purchaseId=number, appChargePaymentId=number)).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in appcharge_headers(body).items())
    return body, lines.encode()


def whole(number: str) -> bytes:
    body, lines = signed(number)
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s" % (PATH, lines, len(body), body)


def chunked(number: str, how: bytes, before: bytes = b"Transfer-Encoding: chunked\r\n") -> bytes:
    """An order in chunks; ``how`` has BODY and SIZE (hexadecimal) in their places."""
    body, lines = signed(number)
    chunks = how.replace(b"SIZE", b"%x" % len(body)).replace(b"BODY", body)
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%s%s\r\n%s" % (PATH, lines, before, chunks)


GOOD_CHUNKS = b"SIZE\r\nBODY\r\n0\r\n\r\n"
# Each says its length in a way that may be read in two ways, or not at all.
AMBIGUOUS = {
    "both lengths": chunked("n", GOOD_CHUNKS, b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
    "both lengths, the other way round": chunked(
        "n", GOOD_CHUNKS, b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
    ),
    "two lengths": chunked("n", b"BODY", b"Content-Length: 5\r\nContent-Length: 6\r\n"),
    "a list of lengths": chunked("n", b"BODY", b"Content-Length: 5, 5\r\n"),
    "a signed length": chunked("n", b"BODY", b"Content-Length: +5\r\n"),
    "a negative length": chunked("n", b"BODY", b"Content-Length: -5\r\n"),
    "a hexadecimal length": chunked("n", b"BODY", b"Content-Length: 0x5\r\n"),
    "a length with an underscore": chunked("n", b"BODY", b"Content-Length: 1_0\r\n"),
    "a length in other digits": chunked("n", b"BODY", "Content-Length: ٥\r\n".encode()),
    "a blank before the colon": chunked("n", GOOD_CHUNKS, b"Transfer-Encoding : chunked\r\n"),
    "a folded header": chunked("n", GOOD_CHUNKS, b"Transfer-Encoding:\r\n chunked\r\n"),
    "chunked twice": chunked("n", GOOD_CHUNKS, b"Transfer-Encoding: chunked, chunked\r\n"),
    "chunked before another": chunked("n", GOOD_CHUNKS, b"Transfer-Encoding: chunked, identity\r\n"),
    "an unknown coding": chunked("n", GOOD_CHUNKS, b"Transfer-Encoding: xchunked\r\n"),
    "a tab in the coding": chunked("n", GOOD_CHUNKS, b"Transfer-Encoding: \x0bchunked\r\n"),
    "a NUL in a header": chunked("n", GOOD_CHUNKS, b"X: a\x00b\r\nTransfer-Encoding: chunked\r\n"),
    "a bare CR in a header": chunked("n", GOOD_CHUNKS, b"X: a\rTransfer-Encoding: chunked\r\n"),
    "no header at all but a colon": chunked("n", GOOD_CHUNKS, b": chunked\r\n"),
    "HTTP/1.0 with chunks": chunked("n", GOOD_CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0"),
}
# Each is one whole request by its headers, and its chunks are wrong.
BAD_CHUNKS = {
    "no size": b"\r\nBODY\r\n0\r\n\r\n",
    "a size that is no number": b"xyz\r\nBODY\r\n0\r\n\r\n",
    "a negative size": b"-SIZE\r\nBODY\r\n0\r\n\r\n",
    "a signed size": b"+SIZE\r\nBODY\r\n0\r\n\r\n",
    "a size with 0x": b"0xSIZE\r\nBODY\r\n0\r\n\r\n",
    "a size with an underscore": b"0_SIZE\r\nBODY\r\n0\r\n\r\n",
    "a size of 10,000 digits": b"f" * 10_000 + b"\r\nBODY\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"f" * 17 + b"\r\nBODY\r\n0\r\n\r\n",
    "a size that is too small": b"5\r\nBODY\r\n0\r\n\r\n",
    "a blank before the size": b" SIZE\r\nBODY\r\n0\r\n\r\n",
    "a bare CR in an extension": b"SIZE;a=b\rc\r\nBODY\r\n0\r\n\r\n",
}
# These are good HTTP, and credit.
GOOD = {
    "plain": GOOD_CHUNKS,
    "zeros before the size": b"000SIZE\r\nBODY\r\n0\r\n\r\n",
    "an extension": b'SIZE;name="value"\r\nBODY\r\n0\r\n\r\n',
    "trailers": b"SIZE\r\nBODY\r\n0\r\nX-Trailer: a\r\nsignature: t=1,v1=0\r\n\r\n",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    from tests.conftest import furnished

    home = tmp_path_factory.mktemp("raw") / "home"
    installation, _ = furnished(home)
    with Server(home) as server:
        yield server, installation
        assert server.booted_workers()
        assert "Traceback" not in server.log
        assert "HIDDEN" not in server.log
    installation.database.close()


def answers(server: Server, *parts: bytes) -> list[int]:
    """The statuses of all answers on one connection: each part is sent once the one before was answered."""
    received = b""
    with server.connected() as connection, suppress(OSError):  # a reset ends it, too
        connection.settimeout(1)
        for part in parts:
            connection.sendall(part)
            if len(parts) > 1:
                with suppress(TimeoutError):  # it waits for more
                    received += one_answer(connection)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(20)
        while piece := connection.recv(65536):
            received += piece
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", received)]


def one_answer(connection: socket.socket) -> bytes:
    received = b""
    while True:
        head, is_whole, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)^content-length: ([0-9]+)", head, re.MULTILINE)
        if is_whole and (length is None or len(rest) >= int(length[1])):
            return received
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionResetError("closed")
        received += piece


def credited(installation, number: str) -> int:
    row = installation.database.read().execute(
        "SELECT count(*) FROM transactions WHERE external_id = :number", {"number": number}
    )
    return row.fetchone()[0]


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_request_that_can_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read(shop, name):
    server, installation = shop

    told = answers(server, AMBIGUOUS[name] + whole(f"smuggled-{name}"), whole(f"later-{name}"))

    assert credited(installation, f"smuggled-{name}") == 0
    assert credited(installation, f"later-{name}") == 0
    assert credited(installation, "n") == 0
    assert len(told) <= 1
    assert not told or 400 <= told[0] < 502, told


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_bad_chunks_credit_nothing_and_end_the_connection(shop, name):
    server, installation = shop

    told = answers(server, chunked(f"bad-{name}", BAD_CHUNKS[name]) + whole(f"after-{name}"), whole(f"later-{name}"))

    assert credited(installation, f"bad-{name}") == 0
    assert credited(installation, f"after-{name}") == credited(installation, f"later-{name}") == 0
    assert len(told) <= 1
    assert not told or told[0] in (400, 401, 413), told


@pytest.mark.parametrize("name", GOOD)
def test_good_chunks_credit_and_so_does_what_follows(shop, name):
    server, installation = shop

    told = answers(server, chunked(f"good-{name}", GOOD[name]), whole(f"next-{name}"))

    assert told == [200, 200]
    assert credited(installation, f"good-{name}") == credited(installation, f"next-{name}") == 1


def test_a_request_inside_of_a_body_is_a_part_of_the_body(shop):
    server, installation = shop
    inside = whole("inside")
    forged = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (PATH, len(inside), inside)

    told = answers(server, forged, whole("outside"))

    assert told == [401, 200]
    assert (credited(installation, "inside"), credited(installation, "outside")) == (0, 1)


def test_a_header_with_an_underscore_is_another_header(shop):
    """gunicorn leaves it out, so the body ends where Content-Length says, and what follows is no request."""
    server, installation = shop

    told = answers(
        server,
        chunked("underscore", GOOD_CHUNKS, b"Transfer_Encoding: chunked\r\nContent-Length: 0\r\n"),
        whole("later"),
    )

    assert told == [401, 400]
    assert credited(installation, "underscore") == credited(installation, "later") == 0


def test_garbage_from_the_first_byte_on_is_no_fault_of_ours(shop):
    server, _ = shop
    for sent in (
        *(
            b"\x00" * 100,
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"HELP\r\n\r\n",
            b"GET /\r\n\r\n",
            b"\r\n" * 50,
            b"GET  / HTTP/1.1",
        ),
        *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n"),
        *(b"GET / HTTP/1.1\r\nHost: x\r\nX: HIDDEN \xff\xfe\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"\xff" * 20_000),
        b"PROXY TCP4 203.0.113.9 203.0.113.9 1 2\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        assert not [status for status in answers(server, sent) if status in (500, 502, 503)], sent[:40]
    assert server.get("/healthz").status == 200
