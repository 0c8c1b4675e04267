"""One call never reads the answer of another, whatever a server sends before, beside and after its own."""

import time

import pytest

from coinslot.base import connections
from coinslot.base.connections import MOST_INTERIM_ANSWERS
from coinslot.base.outbound import Outbound
from tests.fakes.http import FakeServer, certificate, ok, raw
from tests.servers import together, until

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ODD = b"HTTP/1.1 199 What\r\nContent-Length: 4\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
FAILED = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(params=["kept", "own"])
def outbound(request):
    return Outbound() if request.param == "kept" else Outbound().for_callers


def echo(request):
    return raw(ok(request.path.encode()))


def said(outbound, server, path, timeout=3.0):
    return outbound.post(f"{server.url}{path}", {}, b"{}", timeout)


def bodies(outbound, server, *paths):
    return [said(outbound, server, path).body for path in paths]


@pytest.mark.parametrize(
    "before", [HINTS, PROCESSING, CONTINUE, ODD, CONTINUE + HINTS + PROCESSING + HINTS, HINTS * MOST_INTERIM_ANSWERS]
)
def test_interim_answers_are_read_past_and_each_call_gets_its_own(outbound, before):
    with FakeServer(lambda request: raw(before, 0.02, ok(request.path.encode()))) as server:
        answers = [said(outbound, server, path) for path in ("/one", "/two", "/three")]

    assert [answer.body for answer in answers] == [b"/one", b"/two", b"/three"]
    assert {(answer.failure, answer.status) for answer in answers} == {(None, 200)}


def test_interim_answers_are_read_past_within_tls(tmp_path, monkeypatch):
    made = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    outbound = Outbound()
    with FakeServer(lambda request: raw(HINTS, 0.02, ok(request.path.encode())), made) as server:
        assert bodies(outbound, server, "/one", "/two", "/three") == [b"/one", b"/two", b"/three"]
        assert server.connections == 1


def test_interim_answers_without_an_end_are_bounded_in_number_and_in_time(outbound):
    def answer(request):
        if request.path == "/many":
            return raw(HINTS * (MOST_INTERIM_ANSWERS + 1), ok(b"late"))
        if request.path == "/slow":
            return raw(*[HINTS, 0.1] * 15, ok(b"late"))
        return echo(request)

    with FakeServer(answer) as server:
        many = said(outbound, server, "/many")
        slow = said(outbound, server, "/slow", timeout=0.4)
        after = bodies(outbound, server, "/a", "/b")

    assert (many.failure, many.status) == ("refused", None)
    assert "interim answers" in many.detail
    assert (slow.failure, slow.status) == ("timeout", None)
    assert slow.duration_ms < 900
    assert after == [b"/a", b"/b"]


def test_a_switch_of_protocols_ends_the_connection(outbound):
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    odd_one = raw(upgrade, ok(b"not ours"))
    with FakeServer(lambda request: odd_one if request.path == "/odd" else echo(request)) as server:
        odd = said(outbound, server, "/odd")
        after = bodies(outbound, server, "/a", "/b")

    assert (odd.failure, odd.status) == ("refused", None)
    assert "101" in odd.detail
    assert after == [b"/a", b"/b"]
    assert server.connections >= 2


@pytest.mark.parametrize(
    ("first", "script"),
    [
        (204, [NO_CONTENT + ok(b"second")]),
        (204, [NO_CONTENT + ok(b"second" * 4000)]),
        (204, [NO_CONTENT, 0.05, ok(b"second")]),
        (204, [b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"]),
        (200, [ok(b"first") + ok(b"second")]),
        (200, [ok(b"first"), 0.05, TIMED_OUT]),
        (200, [ok(b"first"), 0.05, HINTS]),
        (200, [ok(b"first") + b"\r\n"]),
        (200, [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n" + ok(b"second")]),
        (200, [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ok(b"second")]),
        (304, [b"HTTP/1.1 304 Not Modified\r\n\r\n" + ok(b"second")]),
        (500, [FAILED, ok(b"second")]),
    ],
)
def test_what_follows_an_answer_is_never_the_answer_to_the_next_call(outbound, first, script):
    with FakeServer(lambda request: raw(*script) if request.path == "/odd" else echo(request)) as server:
        assert said(outbound, server, "/odd").status == first
        time.sleep(0.1)  # longer than the script's own pause: what is unasked for has come
        after = [said(outbound, server, path) for path in ("/a", "/b", "/c")]

    assert [(answer.failure, answer.body) for answer in after] == [(None, b"/a"), (None, b"/b"), (None, b"/c")]


def test_what_follows_an_answer_is_noticed_within_tls(tmp_path, monkeypatch):
    made = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    outbound = Outbound()
    script = [ok(b"first") + ok(b"second")]
    with FakeServer(lambda request: raw(*script) if request.path == "/odd" else echo(request), made) as server:
        assert said(outbound, server, "/odd").body == b"first"
        assert said(outbound, server, "/a").body == b"/a"
        assert server.connections == 2


def test_a_server_that_answers_twice_gets_a_new_connection_for_each_call_from_then_on():
    with FakeServer(lambda _: raw(NO_CONTENT, 0.05, ok(b"late"))) as server:
        outbound = Outbound()
        for _ in range(2):
            assert said(outbound, server, "/").status == 204
            time.sleep(0.1)
        for _ in range(5):
            assert said(outbound, server, "/").status == 204  # at once: none of them meets what comes late

        assert server.connections == 7


def test_a_connection_is_used_again_soon_and_not_after_it_was_idle(monkeypatch):
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.2)
    with FakeServer(echo) as server:
        outbound = Outbound()
        assert bodies(outbound, server, "/0", "/1", "/2") == [b"/0", b"/1", b"/2"]
        assert server.connections == 1
        time.sleep(0.25)
        assert bodies(outbound, server, "/late", "/soon") == [b"/late", b"/soon"]
        assert server.connections == 2


def test_a_server_that_closes_its_connections_is_still_kept_alive_afterwards():
    with FakeServer(echo) as server:
        outbound = Outbound()
        assert bodies(outbound, server, "/a") == [b"/a"]
    with FakeServer(echo) as server:
        assert bodies(outbound, server, *["/b"] * 3) == [b"/b"] * 3
        assert server.connections == 1


def test_calls_on_whose_answer_somebody_waits_share_no_connection():
    with FakeServer(echo) as server:
        outbound = Outbound()
        assert bodies(outbound, server, "/kept") == [b"/kept"]
        assert bodies(outbound.for_callers, server, "/0", "/1", "/2") == [b"/0", b"/1", b"/2"]
        assert server.connections == 4
        assert bodies(outbound, server, "/kept") == [b"/kept"]
        assert server.connections == 4


def test_an_answer_that_ends_early_is_none():
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    with FakeServer(lambda _: raw(half, None)) as server:
        answer = said(Outbound(), server, "/")

    assert answer.failure == "refused"
    assert "complete" in answer.detail


def test_many_threads_each_get_their_own_answers_from_an_odd_server():
    def answer(request):
        return raw(HINTS, ok(request.path.encode()), *([TIMED_OUT] if request.path.endswith("7") else []))

    with FakeServer(answer) as server:
        outbound = Outbound()
        calls = [
            lambda thread=thread: [
                (said(outbound, server, f"/{thread}-{number}").body, f"/{thread}-{number}".encode())
                for number in range(20)
                if not time.sleep(0.002)
            ]
            for thread in range(6)
        ]
        for answers in together(*calls):
            for got, wanted in answers:
                assert got in (wanted, b"")  # a 408 may come between the look and the call; never another's 200


@pytest.mark.parametrize("value", ["s3cret\nX-Injected: 1", "s3cret\r\n", "s3cr\u0435t"])
def test_a_header_that_cannot_be_sent_is_not_quoted(value, caplog):
    with FakeServer(lambda _: raw(ok())) as server:
        answer = Outbound().get(server.url, {"Authorization": value}, 2.0)

    assert (answer.failure, answer.status) == ("rejected", None)
    assert "header" in answer.detail
    assert "s3cr" not in answer.detail + caplog.text
    assert until(lambda: not server.requests, "nothing was sent")
