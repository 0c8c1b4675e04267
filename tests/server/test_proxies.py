"""Caddy and nginx with the files of ``deploy/``, really run, before a real server: what gets through, and who said it.

Caddy reaches the server at a port, nginx at a Unix socket; the long run has both the other way round, too.
"""

import json
import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from handlers.kit.problems import LARGEST_BULK_BODY
from tests.conftest import Studio, furnished
from tests.fakes.http import FakeServer, closed_port, raw
from tests.proxies import NAMES, Caller, Proxy, adapted, proxy
from tests.server.test_server import bearer, credit_path, credited, signed_order
from tests.servers import ROOT, Server, Underway, together, until

CHUNK = b"10000\r\n%b\r\n"
# In the calls of these tests: what must be in no log.
SECRETS = re.compile(
    r"PURCHASE|TOKEN|SIGNATURE|BODY|payload=|Bearer|coinslot_|v1=[0-9a-f]|test-publisher-token|priceInCents"
)


@dataclass
class Place:
    """A server with a game, and a proxy in front."""

    studio: Studio
    server: Server
    proxy: Proxy

    def ask(self, *call: Any, **how: Any) -> Any:
        return self.proxy.caller.ask(*call, **how)

    def report(self, order_id: str, **extra: str) -> tuple[int, dict[str, Any]]:
        body, headers = signed_order(order_id)
        extra = {name.replace("__", "-"): value for name, value in extra.items()}
        status, _, answer = self.ask("POST", "/appcharge/demo/orders", body, headers | extra)
        return status, json.loads(answer)

    def credited(self, order_id: str) -> int:
        return credited(self.studio.installation, order_id)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("caddy", "port"), id="caddy"),
        pytest.param(("nginx", "socket"), id="nginx", marks=pytest.mark.long),
        pytest.param(("caddy", "socket"), id="caddy at a socket", marks=pytest.mark.long),
    ],
)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, short_folder: Path
) -> Iterator[Place]:
    name, at = request.param
    installation, studio = furnished(tmp_path_factory.mktemp("behind") / "home")
    path = short_folder / f"{name}.sock"
    listen = ("-b", f"unix:{path}", "-b", "127.0.0.1:0") if at == "socket" else ("-b", "127.0.0.1:0")
    with (
        Server(installation.settings.home, listen=listen, COINSLOT_TRUSTED_PROXIES="1") as server,
        proxy(name, tmp_path_factory.mktemp(name), path if at == "socket" else server.port) as running,
    ):
        yield Place(studio, server, running)
        assert not SECRETS.search(running.logs() + server.log)
    installation.database.close()


@pytest.fixture
def allowlist(place: Place) -> Iterator[Any]:
    yield lambda blocks: place.studio.config("allowlist.appcharge", blocks)
    place.studio.config("allowlist.appcharge", "")


def test_it_answers_and_says_https_only(place: Place) -> None:
    for path, status in {"/healthz": 200, "/nowhere": 404}.items():
        answer = place.ask("GET", path)
        assert answer[0] == status
        assert answer[1]["Strict-Transport-Security"].startswith("max-age=")


def test_an_order_is_credited_once(place: Place) -> None:
    first, second = place.report("order-1"), place.report("order-1")

    assert first[0] == second[0] == 200
    assert first[1]["publisherPurchaseId"] == second[1]["publisherPurchaseId"]
    assert place.credited("order-1") == 1


@pytest.mark.parametrize(
    "claim",
    [
        {"X__Forwarded__For": "203.0.113.9"},
        {"X__Forwarded__For": "203.0.113.9, 203.0.113.9"},
        {"X__Forwarded__For": ""},
        {"X_Forwarded_For": "203.0.113.9", "X__Real__IP": "203.0.113.9", "Forwarded": "for=203.0.113.9"},
    ],
    ids=["one", "two", "empty", "other names"],
)
def test_an_address_the_caller_invents_opens_nothing(place: Place, allowlist: Any, claim: dict[str, str]) -> None:
    order_id = f"claimed-{json.dumps(claim)}"
    allowlist("203.0.113.0/24")
    assert place.report(order_id, **claim)[0] == 403
    assert place.credited(order_id) == 0

    allowlist("127.0.0.0/8,::1")
    assert place.report(order_id, **claim)[0] == 200
    assert place.credited(order_id) == 1


def test_a_long_query_and_an_encoded_slash_reach_the_app_as_they_were_sent(place: Place) -> None:
    paths = (credit_path("8-kib", AppName="n" * length) for length in range(6200, 0, -1))
    path = next(path for path in paths if len(f"GET {path} HTTP/1.1") <= 8190)
    assert place.ask("GET", path)[0] == 200
    assert place.credited("8-kib") == 1

    player = f"/game/v1/players/{quote('a/b%2F..//c', safe='')}"
    assert place.ask("PUT", player, b"{}", bearer(place.studio.token))[0] == 201
    assert json.loads(place.ask("GET", player, None, bearer(place.studio.token))[2])["player_id"] == "a/b%2F..//c"


def test_the_largest_body_gets_through_and_a_larger_one_is_refused_in_words(place: Place) -> None:
    players, who = json.dumps({"players": [{"player_id": "bob"}]}).encode(), bearer(place.studio.token)

    status, _, body = place.ask("POST", "/game/v1/players", players.ljust(LARGEST_BULK_BODY), who)
    assert status == 200, body
    assert place.ask("GET", "/game/v1/players/bob", None, who)[0] == 200

    status, headers, body = place.ask("POST", "/game/v1/players", players.ljust(LARGEST_BULK_BODY + 1), who)
    assert (status, headers.get_content_type()) == (413, "application/problem+json")


@pytest.mark.long
def test_what_is_larger_than_anything_is_a_clean_413(place: Place) -> None:
    call = (
        b"POST /game/v1/players HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
        % place.studio.token.encode()
    )
    sized = b"Content-Length: %d\r\n\r\n" % (18 * 10**6)
    piece = b"BODY" * 16384

    for length, pieces in ((sized, [piece] * 400), (b"Transfer-Encoding: chunked\r\n\r\n", [CHUNK % piece] * 400)):
        answer = place.proxy.caller.send(call + length, *pieces)
        assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
        assert b"strict-transport-security: " in answer.lower()
    assert place.report("order-3")[0] == 200


def test_slow_senders_keep_no_order_waiting(place: Place) -> None:
    """More of them than there are threads, each about to send an order, and nothing more after its first bytes."""
    began = b"POST /appcharge/demo/orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
    slow = []
    try:
        for _ in range(60):
            slow.append(place.proxy.caller.connect())
            slow[-1].sendall(began)
        took = []
        for number in range(20):
            for each in slow:
                with suppress(OSError):  # let go, on a machine that is slow itself
                    each.sendall(b" ")
            began_at = time.monotonic()
            status, _ = place.report(f"beside-{number}")
            took.append(time.monotonic() - began_at)
            assert status == 200
        assert max(took) < 5  # without a buffer they wait until the proxy lets the slow ones go
    finally:
        for each in slow:
            each.close()


@pytest.mark.long
def test_an_order_cut_off_at_any_byte_credits_nothing_and_keeps_no_thread(place: Place) -> None:
    body, headers = signed_order("cut-off")
    lines = [
        f"{name}: {value}" for name, value in {"Host": "localhost", "Content-Length": len(body), **headers}.items()
    ]
    whole = "\r\n".join(["POST /appcharge/demo/orders HTTP/1.1", *lines, "", ""]).encode() + body

    for length in range(len(whole)):
        connection = place.proxy.caller.connect()
        if length % 2:  # a reset instead of an end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(whole[:length])
        connection.close()

    began_at = time.monotonic()
    for number in range(40):  # more than there are threads
        assert place.report(f"after-{number}")[0] == 200
    assert time.monotonic() - began_at < 20
    assert place.credited("cut-off") == 0
    with place.proxy.caller.connect() as connection:
        connection.sendall(whole)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    assert place.credited("cut-off") == 1


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_the_logs_say_that_a_call_failed_and_nothing_of_what_was_sent(
    name: str, tmp_path: Path, short_folder: Path
) -> None:
    path = b"/playtem/demo/credit?payload=PURCHASE"
    secret = b"x-publisher-token: TOKEN\r\nsignature: SIGNATURE\r\nCookie: coinslot_session=TOKEN"
    head = b"%b %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%b\r\nContent-Length: %d\r\n\r\n"
    malformed = [
        b"GET PATH HTTP/1.1\r\nHost: localhost\r\nTOKEN TOKEN\r\n\r\n",
        b"GET PATH HTTP/1.1\r\nHost: localhost\r\nHost: TOKEN\r\n\r\n",
        b"GET PATH HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET PATH\r\n\r\n",
        b"PURCHASE TOKEN PATH\r\n\r\n",
        b"GET PATH HTTP/1.1\r\nHost: localhost\r\nsignature: " + b"SIGNATURE" * 200_000 + b"\r\n\r\n",
        b"GET PATH" + b"PURCHASE" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST PATH HTTP/1.1\r\nHost: localhost\r\nContent-Length: TOKEN\r\n\r\nBODY",
        b"POST PATH HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nBODY\r\nBODY",
        b"GET /%00PATH HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nsignature: SIGNATURE\r\n\r\n",
        b"GET PATH HTTP/1.1\r\nHost: localhost\r\nsignature: SIGN\0ATURE\r\n\r\n",
    ]
    hang_up, half = raw(None), raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", None)
    with FakeServer(lambda request: {"hang_up": hang_up, "half": half}[request.query["how"]]) as upstream:
        for number, place in enumerate((upstream.port, short_folder / "nobody")):
            folder = tmp_path / str(number)
            folder.mkdir()
            with proxy(name, folder, place) as running:

                def send(request: bytes, to: Caller = running.caller) -> bytes:
                    return to.send(request)

                calls = [
                    head % (method, path + how, secret, length) + b"BODY" * repeated
                    for how in (b"&how=hang_up", b"&how=half")
                    for method, length, repeated in ((b"GET", 0, 0), (b"POST", 4, 1), (b"POST", 18 * 10**6, 4_500_000))
                ]
                calls += [request.replace(b"PATH", path) for request in malformed]
                ports = [port for port in (running.caller.port, running.plain_port) if port]
                in_the_clear = [partial(send, calls[1], Caller(port)) for port in ports]
                answers = together(*(partial(send, call) for call in calls), *in_the_clear)

                until(lambda: "/playtem/demo/credit" in running.logs(), "the failures are logged", 10)
                statuses = {answer[9:12] for answer in answers}
                assert {b"502", b"413", b"400"} <= statuses, answers
            found = SECRETS.search(running.logs())
            assert not found, running.logs()[found.start() - 300 :][:600]


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_get_that_broke_off_is_sent_again_and_a_call_with_a_body_is_not(name: str, tmp_path: Path) -> None:
    with FakeServer(lambda _: (200, {})) as upstream, proxy(name, tmp_path, upstream.port) as running:
        statuses = {}
        for method, body in {"GET": None, "POST": b"{}"}.items():
            upstream.script = [raw(None)]
            statuses[method] = running.caller.ask(method, "/playtem/demo/credit", body)[0]

    assert statuses == {"GET": 200, "POST": 502}
    assert upstream.routes == [f"{method} /playtem/demo/credit" for method in ("GET", "GET", "POST")]


@pytest.mark.long
def test_caddy_waits_with_a_get_until_the_server_is_there(tmp_path: Path) -> None:
    port = closed_port()
    with proxy("caddy", tmp_path, port) as running:
        asked = Underway(lambda: running.caller.ask("GET", "/playtem/demo/credit")[0])
        time.sleep(0.3)  # for the first try to fail; later the test would only show less
        with FakeServer(lambda _: (200, {}), port=port):
            assert asked.results() == [200]


@pytest.mark.long
def test_nginx_sends_who_comes_in_the_clear_to_https(tmp_path: Path) -> None:
    with proxy("nginx", tmp_path, closed_port()) as running:
        assert running.plain_port is not None
        status, headers, _ = Caller(running.plain_port).ask("POST", "/appcharge/demo/orders?a=b", b"{}")

    assert (status, headers["Location"]) == (308, "https://pay.example.com/appcharge/demo/orders?a=b")


def test_caddy_knows_a_length_that_is_too_large() -> None:
    (pattern,) = re.findall(r"header_regexp Content-Length (\S+)", (ROOT / "deploy/Caddyfile").read_text())

    refused = [
        length for length in (0, 17_999_999, 18_000_000, 99_999_999, 10**8, 10**12) if re.match(pattern, str(length))
    ]

    assert refused == [18_000_000, 99_999_999, 10**8, 10**12]


def test_another_caddy_is_told_its_own_word_for_buffering() -> None:
    """The file is one for all versions of Caddy; the one that is installed knows one of the two words."""
    outcomes = {}
    for line in ("buffer_requests", "request_buffers 18MB"):
        done = adapted({"COINSLOT_DOMAIN": "localhost", "COINSLOT_BUFFERING": line}, check=False)
        outcomes[line] = "buffer" in done.stdout
        assert outcomes[line] or line.split()[0] in done.stderr, done.stderr
    assert list(outcomes.values()).count(True) >= 1
