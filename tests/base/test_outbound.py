"""Calls out, against real servers: how each ends in one word, in time, and where they may go."""

import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinslot.base import clock
from coinslot.base.connections import is_public
from coinslot.base.outbound import ENOUGH_WAITING, LARGEST_ANSWER, Answer, Outbound
from tests.fakes.http import (
    Receiver,
    after,
    certificate,
    closed_port,
    continues,
    hang_up_after,
    huge,
    nonsense,
    reset,
    silence,
    slow_body,
    slow_headers,
    status,
)
from tests.servers import Underway, together, until


def post(url, timeout=5.0, outbound=None, body=b"{}"):
    return (outbound or Outbound()).post(url, {"X-Test": "1"}, body, timeout)


@contextmanager
def three_hanging(seconds):
    """Three calls that a caller waits for hang at one server; yields it, the client, and the calls."""
    with Receiver(silence) as mute:
        waited_for = Outbound().for_callers
        hanging = Underway(*[lambda: post(mute.url, seconds, waited_for).failure] * 3)
        until(lambda: len(mute.requests) == 3, "three calls hang")
        yield mute, waited_for, hanging


@pytest.mark.parametrize("code", [200, 204, 404, 410, 500])
def test_an_answer_of_any_status_is_an_answer(code):
    with Receiver(status(code, b"" if code == 204 else b"said")) as receiver:
        answer = post(receiver.url)

    assert (answer.failure, answer.status, answer.body) == (None, code, b"" if code == 204 else b"said")
    assert receiver.requests[0].body == b"{}"
    assert receiver.requests[0].headers["x-test"] == "1"


def test_connections_are_kept_alive_and_a_broken_one_is_replaced():
    with Receiver(status(200), status(500, b"x" * 1000), hang_up_after(status(200)), status(200)) as receiver:
        outbound = Outbound()
        for expected in (200, 500, 200):
            assert post(receiver.url, outbound=outbound).status == expected
        assert receiver.connections == 1
        until(lambda: receiver.in_hand.total() == 0, "the receiver has hung up")
        assert until(lambda: post(receiver.url, outbound=outbound).status, "the next call is answered") == 200


@pytest.mark.parametrize("behaviour", [silence, slow_headers, slow_body, continues])
def test_the_time_limit_is_for_the_whole_call_however_it_drips(behaviour):
    with Receiver(behaviour) as receiver:
        answer = post(receiver.url, timeout=0.4)

    assert answer.failure == "timeout"
    assert 350 <= answer.duration_ms < 900


def test_a_connection_that_was_late_is_not_used_again():
    with Receiver(slow_body, status(200)) as receiver:
        outbound = Outbound()
        assert post(receiver.url, timeout=0.3, outbound=outbound).failure == "timeout"
        assert post(receiver.url, timeout=5, outbound=outbound).failure is None
        assert receiver.connections == 2


def test_a_short_limit_does_not_linger_on_a_kept_connection():
    with Receiver(status(200)) as receiver:
        outbound = Outbound()
        assert post(receiver.url, timeout=0.5, outbound=outbound).failure is None
        time.sleep(0.55)  # the first call's deadline is over; nothing may remember it
        assert post(receiver.url, timeout=5, outbound=outbound, body=b"x" * 3_000_000).failure is None
        assert receiver.connections == 1


def test_a_redirect_is_not_followed():
    with Receiver() as elsewhere, Receiver(status(307, Location=elsewhere.url)) as receiver:
        answer = post(receiver.url)

    assert (answer.failure, answer.status) == ("redirect", 307)
    assert not elsewhere.requests


def test_an_answer_is_read_up_to_the_limit():
    limit = [status(200, b"x" * LARGEST_ANSWER), status(200, b"x" * (LARGEST_ANSWER + 1)), huge]
    with Receiver(*limit) as receiver:
        answers = [post(receiver.url) for _ in limit]

    assert [(answer.failure, answer.status, len(answer.body)) for answer in answers] == [
        (None, 200, LARGEST_ANSWER),
        ("too_large", 200, LARGEST_ANSWER),
        ("too_large", 200, LARGEST_ANSWER),
    ]
    assert receiver.sent < 16_000_000  # what the kernels between us hold


@pytest.mark.parametrize("behaviour", [reset, nonsense])
def test_a_connection_that_breaks_is_refused(behaviour):
    with Receiver(behaviour) as receiver:
        answer = post(receiver.url)

    assert (answer.failure, answer.status) == ("refused", None)


@pytest.mark.parametrize(
    ("url", "failure"),
    [
        ("http://user:hunter2@127.0.0.1:CLOSED/token-hunter2", "refused"),
        ("http://hunter2.invalid/hunter2", "dns"),
        ("http://a..b/hunter2", "dns"),
        (f"http://{'a' * 64}.invalid/", "dns"),
        ("http://[::1/", "dns"),
        ("http://hunter2:x/", "dns"),
    ],
)
def test_an_address_that_leads_nowhere_is_told_as_such_and_not_quoted(url, failure):
    for outbound in (Outbound(), Outbound().for_callers):
        for _ in range(4):
            answer = post(url.replace("CLOSED", str(closed_port())), outbound=outbound)
            assert answer.failure == failure
            assert "hunter2" not in answer.detail


def test_a_connection_that_is_never_accepted_is_a_timeout():
    with ExitStack() as open_sockets:
        full = open_sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = full.getsockname()[1]
        for waiting in [open_sockets.enter_context(socket.socket()) for _ in range(8)]:
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        answer = post(f"http://127.0.0.1:{port}/", timeout=0.4)
    assert answer.failure == "timeout"
    assert answer.duration_ms < 900


def test_a_certificate_nobody_vouches_for_is_tls(tmp_path):
    with Receiver(certificate=certificate(tmp_path, "127.0.0.1")) as receiver:
        answer = post(receiver.url)

    assert answer.failure == "tls"
    assert "self-signed" in answer.detail
    assert not receiver.requests
    with Receiver() as receiver:  # plain HTTP there
        assert post(receiver.url.replace("http:", "https:")).failure == "tls"


@pytest.mark.parametrize(
    ("name", "days", "failure"), [("127.0.0.1", 30, None), ("other", 30, "tls"), ("127.0.0.1", -1, "tls")]
)
def test_a_trusted_certificate_must_be_of_that_name_and_day(tmp_path, monkeypatch, name, days, failure):
    made = certificate(tmp_path, name, days=days)
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    with Receiver(certificate=made) as receiver:
        answer = post(receiver.url)

    assert answer.failure == failure
    assert len(receiver.requests) == (failure is None)


@pytest.mark.parametrize("behaviour", [slow_headers, slow_body])
def test_the_time_limit_holds_within_tls(tmp_path, monkeypatch, behaviour):
    made = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    with Receiver(behaviour, certificate=made) as receiver:
        answer = post(receiver.url, timeout=0.4)

    assert answer.failure == "timeout"
    assert answer.duration_ms < 900


def test_a_handshake_that_drips_is_ended_in_time():
    listener = socket.create_server(("127.0.0.1", 0))
    is_over = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            record = b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xfc"  # a long ServerHello begins
            while not is_over.wait(0.05):
                try:
                    connection.sendall(record[:1] or b"\0")
                except OSError:
                    return
                record = record[1:]

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        answer = post(f"https://127.0.0.1:{listener.getsockname()[1]}/", timeout=0.5)
    finally:
        is_over.set()
        thread.join()
        listener.close()
    assert answer.failure == "timeout"
    assert answer.duration_ms < 1000


def test_many_threads_share_the_pool_and_their_limits_do_not_mix():
    with Receiver(status(200)) as fast, Receiver(silence) as mute:
        outbound = Outbound()
        calls = [lambda: [post(fast.url, 5, outbound).failure for _ in range(20)]] * 6
        late = [lambda: [post(mute.url, 0.3, outbound).failure for _ in range(2)]] * 4
        answers = together(*calls, *late)

    assert answers == [[None] * 20] * 6 + [["timeout"] * 2] * 4


def test_of_the_calls_that_somebody_waits_for_three_may_hang_at_one_server_however_it_is_written(monkeypatch):
    monkeypatch.setattr("coinslot.base.outbound.TURN_SECONDS", 0.05)
    with three_hanging(1.0) as (mute, waited_for, hanging), Receiver(status(200)) as fast:
        here = [f"{mute.url}{rest}" for rest in ("", "/b", "?c", "#d")]
        here += [f"HTTP://127.0.0.1:{mute.port}", f"http://127.0.0.1:0{mute.port}/x", f"http://u@127.0.0.1:{mute.port}"]
        for url in here:
            answer = post(url, 5, waited_for)
            assert (answer, answer.is_turned_away) == (Answer(failure="refused", detail=ENOUGH_WAITING), True), url
        assert [post(fast.url, 5, waited_for).status for _ in range(5)] == [200] * 5
        assert post(f"http://localhost:{closed_port()}/", 5, waited_for).detail != ENOUGH_WAITING
        assert hanging.results() == ["timeout"] * 3
        assert mute.connections == 3
        mute.script[:] = [status(200)]
        assert post(mute.url, 5, waited_for).status == 200


def test_nobody_waits_for_a_server_that_hangs_but_those_it_hangs_up(monkeypatch):
    monkeypatch.setattr("coinslot.base.outbound.SOON_SECONDS", 0.1)
    began = time.monotonic()
    with three_hanging(1.0) as (mute, waited_for, hanging):
        for _ in range(40):
            assert post(mute.url, 5, waited_for).is_turned_away

        assert time.monotonic() - began < 0.8
        assert hanging.are_all()
        hanging.results()


def test_of_the_calls_that_somebody_waits_for_five_may_hang_in_all(monkeypatch):
    monkeypatch.setattr("coinslot.base.outbound.TURN_SECONDS", 0.05)
    with Receiver(silence) as one, Receiver(silence) as other, Receiver(status(200)) as fast:
        outbound = Outbound()
        calls = [lambda: post(one.url, 1.0, outbound.for_callers)] * 3
        calls += [lambda: post(other.url, 1.0, outbound.for_callers)] * 2
        hanging = Underway(*calls)
        until(lambda: len(one.requests) + len(other.requests) == 5, "five calls hang")

        assert outbound.for_callers.get(fast.url, {}, 5).is_turned_away
        assert not fast.requests
        assert post(fast.url, outbound=outbound).status == 200  # nobody waits for this one
        assert {answer.failure for answer in hanging.results()} == {"timeout"}
        assert post(fast.url, outbound=outbound.for_callers).status == 200


def test_a_server_that_answers_soon_serves_everybody_who_waits_for_it():
    with Receiver(after(0.05, status(200))) as slow:
        waited_for = Outbound().for_callers

        many = Underway(*[lambda: post(slow.url, 5, waited_for).status] * 12)

        assert many.results() == [200] * 12


@pytest.mark.parametrize(
    "host",
    "127.0.0.1 localhost [::ffff:127.0.0.1] 0.0.0.0 169.254.169.254 [fe80::1] 10.0.0.1 [::1] 2130706433".split(),
)
def test_addresses_that_are_not_public_may_be_switched_off(host):
    with Receiver() as receiver:
        answer = post(f"http://{host}:{receiver.port}/", outbound=Outbound(may_call_private=False))

    assert answer.failure == "rejected"
    assert "not a public one" in answer.detail
    assert receiver.connections == 0


def test_a_name_is_judged_by_the_address_it_has(monkeypatch):
    """The resolver is the network, so it may be replaced: a public-looking name with a private address."""
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, port, **_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))],
    )
    with Receiver() as receiver:
        url = f"http://hooks.example.com:{receiver.port}/"
        assert post(url, outbound=Outbound(may_call_private=False)).failure == "rejected"
        assert receiver.connections == 0
        assert post(url).failure is None


@pytest.mark.parametrize(
    "address",
    """127.0.0.1 127.9.9.9 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255 224.0.0.1
    240.0.0.1 192.0.2.1 198.18.0.1 ::1 :: fe80::1 fe80::1%eth0 fc00::1 fd00::1 ff02::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1
    ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a00:1 2002:7f00:1:: 2002:a00:1:: 2001:db8::1
    fec0::1 feff::1 3fff::1 3fff:fff::1 192.88.99.1 ::ffff:192.88.99.1 2002:c058:6301:: 64:ff9b::c058:6301 192.0.0.8
    198.51.100.7 203.0.113.7 100.127.255.255 198.19.255.255 239.255.255.255 ::1.1.1.1
    ::ffff:0:1.1.1.1 64:ff9b:1::1 64:ff9b::6440:1 100::1 100:0:0:1::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2
    2001:2::1 2001:10::1 2001:20::1 2001:1ff::1 4000::1 5f00::1 fe00::1 ff0e::1""".split(),
)
def test_what_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    """1.1.1.1 93.184.216.34 2606:4700:4700::1111 ::ffff:1.1.1.1 64:ff9b::101:101 2002:101:101:: 9.255.255.255 11.0.0.0
    100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 192.88.98.255 192.88.100.0 223.255.255.255 2001:200::1
    2a00:1450:4001::1 2c0f::1""".split(),
)
def test_what_is_public(address):
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_the_same_in_every_disguise(address):
    number = int(address)
    for disguise in (f"::ffff:{address}", f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}"):
        assert is_public(disguise) == is_public(str(address))


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Fri, 02 Jan 2026 03:04:15 GMT", 10.0),
        ("Fri, 02 Jan 2026 03:04:00 GMT", 0.0),  # over already
        *[(word, None) for word in (None, "", "soon", "-1", "1e3", "٣", "9" * 5000, "0 0 0 0 0")],
        ("Fri, 99 Jan 2026 03:04:05 GMT", None),
        ("Fri, 02 Jan 99999 03:04:05 GMT", None),
    ],
)
def test_how_long_we_are_asked_to_wait(told, seconds, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: 1767323045.0)  # 2026-01-02 03:04:05

    assert Answer(None, 503, retry_after=told).retry_after_seconds == seconds
