"""HAProxy with the file of ``deploy/``, really run, before two servers that share a database."""

import http.client
import threading
from collections.abc import Iterator

import pytest

from tests import postgres
from tests.proxies import Proxy, haproxy
from tests.server.test_server import bearer, credit_path, signed_order
from tests.server.two_servers import Pair, two_servers
from tests.servers import until

pytestmark = pytest.mark.long

CALLERS = 4


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    postgres.needs_postgres()
    with (
        postgres.fresh_database() as url,
        two_servers(tmp_path_factory.mktemp("two"), url, COINSLOT_TRUSTED_PROXIES="1") as found,
    ):
        yield found


@pytest.fixture(scope="module")
def proxy(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with haproxy(tmp_path_factory.mktemp("haproxy"), *(server.port for server in pair.servers)) as running:
        yield running
        assert "payload=" not in running.logs()
        assert "v1=" not in running.logs()


def report(proxy: Proxy, order_id: str, **extra: str) -> int:
    """The status of an order that is reported once; 0 where there is no answer."""
    body, headers = signed_order(order_id)
    try:
        return proxy.caller.ask("POST", "/appcharge/demo/orders", body, headers | extra)[0]
    except (OSError, http.client.HTTPException):
        return 0


def test_an_address_the_caller_invents_opens_nothing(pair: Pair, proxy: Proxy) -> None:
    claims = [{"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "203.0.113.9, 203.0.113.9"}, {}]
    pair.studio.config("allowlist.appcharge", "203.0.113.0/24")
    assert [report(proxy, "claimed", **claim) for claim in claims] == [403] * 3

    pair.studio.config("allowlist.appcharge", "127.0.0.0/8")
    assert [report(proxy, f"true-{number}", **claim) for number, claim in enumerate(claims)] == [200] * 3
    pair.studio.config("allowlist.appcharge", "")


def test_a_body_above_the_limit_is_refused_and_an_answer_says_https_only(proxy: Proxy) -> None:
    status, headers, _ = proxy.caller.ask("GET", "/healthz")

    assert status == 200
    assert headers["Strict-Transport-Security"].startswith("max-age=")
    head = b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n"
    assert proxy.caller.send(head + b"some of it").startswith(b"HTTP/1.1 413 ")


def test_no_call_is_lost_while_one_server_restarts_and_a_stopped_one_gets_none(pair: Pair, proxy: Proxy) -> None:
    first, _ = pair.servers
    is_over = threading.Event()
    statuses: dict[str, int] = {}

    def call(caller: int) -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            statuses[f"order-{caller}-{number}"] = report(proxy, f"order-{caller}-{number}")
            statuses[f"playtem-{caller}-{number}"] = proxy.caller.ask("GET", credit_path(f"playtem-{caller}-{number}"))[
                0
            ]
            statuses[f"feed-{caller}-{number}"] = proxy.caller.ask(
                "GET", "/game/v1/grants?limit=1", None, bearer(pair.studio.token)
            )[0]

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(statuses) > 60, "calls are answered", 60)
        assert first.stop() == 0
        until(lambda: "coinslot/first is DOWN" in proxy.logs(), "the stopped server is taken out", 30)
        before = len(statuses)
        until(lambda: len(statuses) > before + 60, "the other one answers", 60)
        first.start()
        until(lambda: "coinslot/first is UP" in proxy.logs(), "it is asked again", 30)
        before = len(statuses)
        until(lambda: len(statuses) > before + 60, "calls are answered", 60)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()

    assert {name: status for name, status in statuses.items() if status != 200} == {}
    orders = [name for name in statuses if not name.startswith("feed")]
    credited = pair.credited()
    assert {name: credited[name] for name in orders} == dict.fromkeys(orders, 1)
