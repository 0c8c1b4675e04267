"""SIGHUP and restarts under load, directly and through each proxy: how many calls fail, and what a retry mends.

A restart is systemd's: SIGTERM, the end of the old server, a new start. What each of the callers met is printed; see it
with ``pytest -m long -n 0 -s tests/server/test_restarts.py``.
"""

import http.client
import os
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Studio, furnished
from tests.fakes.http import closed_port
from tests.handed import Kept
from tests.proxies import NAMES, Caller, proxy
from tests.server.test_server import assert_ledger_is_sound, bearer, credit_path, rows, signed_order
from tests.servers import Server, Underway, together, until

pytestmark = pytest.mark.long

RETRY_SECONDS = 0.5
TURNS = 2  # of each way to begin anew
CALLS = 40  # of each caller between two of them, at least


class Crowd:
    """Who calls in one way: orders, Playtem's purchases and reads of the feed, each on a connection of its own.

    A call that fails is made again after :data:`RETRY_SECONDS`, once; what fails then, too, until it succeeds.
    """

    def __init__(self, name: str, caller: Caller, token: str) -> None:
        self.name = name
        self.caller = caller
        self.token = token
        self.calls = 0
        self.acknowledged: set[str] = set()
        self.failed: Counter[str] = Counter()
        self.failed_twice: Counter[str] = Counter()
        self.refused: list[bytes] = []  # which no call of these may be
        self.slowest = 0.0

    def run(self, thread: int, ended: threading.Event) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            order_id = f"{self.name}-{thread}-{number}"
            body, headers = signed_order(order_id)
            for call in (
                partial(self.caller.ask, "POST", "/appcharge/demo/orders", body, headers),
                partial(self.caller.ask, "GET", credit_path(f"{order_id}-p")),
                partial(self.caller.ask, "GET", "/game/v1/grants?limit=1", None, bearer(self.token)),
            ):
                began_at = time.monotonic()
                if (failure := self._failure(call)) is not None:
                    self.failed[failure] += 1
                    time.sleep(RETRY_SECONDS)
                    if (failure := self._failure(call)) is not None:
                        self.failed_twice[failure] += 1
                        until(lambda call=call: self._failure(call) is None, "the call succeeds", 60)
                self.slowest = max(self.slowest, time.monotonic() - began_at)
                self.calls += 1
            self.acknowledged |= {order_id, f"{order_id}-p"}

    def _failure(self, call: partial) -> str | None:
        """What went wrong with a call; None: it was answered for good."""
        try:
            status, _, answer = call()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        if 400 <= status < 500:
            self.refused.append(answer)
        return str(status) if status >= 500 else None


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Studio]:
    installation, studio = furnished(tmp_path / "home")
    yield studio
    installation.database.close()


def restart(server: Server) -> None:
    assert server.stop() == 0
    server.start()


def hang_up(server: Server) -> None:
    before = set(until(lambda: len(server.booted_workers()) == 2 and server.booted_workers(), "two workers", 20))
    os.kill(server.pid, signal.SIGHUP)
    until(lambda: len(now := set(server.booted_workers())) == 2 and not now & before, "two other workers", 60)


def load(home: Studio, server: Server, ways: dict[str, Caller], *turns: object) -> list[Crowd]:
    """Begin anew while all call; what they met."""
    ended = threading.Event()
    run = secrets.token_hex(2)
    crowds = [Crowd(f"{name}-{run}", caller, home.token) for name, caller in ways.items()]
    threads = [threading.Thread(target=crowd.run, args=(each, ended)) for crowd in crowds for each in range(2)]
    for thread in threads:
        thread.start()
    try:
        for turn in (*turns, None):
            goals = {crowd: crowd.calls + CALLS for crowd in crowds}
            until(lambda goals=goals: all(crowd.calls >= goals[crowd] for crowd in goals), "more calls", 120)
            if turn is not None:
                turn(server)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    for crowd in crowds:
        met = f"failed {dict(crowd.failed)}, again after {RETRY_SECONDS} s {dict(crowd.failed_twice)}"
        print(f"{crowd.name}: {crowd.calls} calls, {met}, the slowest {crowd.slowest:.1f} s")
    assert [crowd.refused for crowd in crowds] == [[]] * len(crowds)
    stored = [row["external_id"] for row in rows(home.installation, "SELECT external_id FROM transactions")]
    assert len(stored) == len(set(stored))
    assert set.union(*(crowd.acknowledged for crowd in crowds)) <= set(stored)
    assert_ledger_is_sound(home.installation)
    return crowds


def test_where_systemd_keeps_the_sockets_a_retry_mends_every_call(
    home: Studio, tmp_path: Path, short_folder: Path
) -> None:
    with ExitStack() as stack:
        kept = stack.enter_context(Kept(short_folder / "coinslot.sock"))
        server = stack.enter_context(kept.server(home.installation.settings.home, COINSLOT_TRUSTED_PROXIES="1"))
        ways = {"direct": Caller(kept.port)}
        for name, upstream in {"caddy": kept.path, "nginx": kept.path}.items():
            (tmp_path / name).mkdir()
            ways[name] = stack.enter_context(proxy(name, tmp_path / name, upstream)).caller

        crowds = load(home, server, ways, *(hang_up, restart) * TURNS)

    for crowd in crowds:
        assert crowd.failed_twice == {}, crowd.name
        assert crowd.failed.total() <= crowd.calls // 100, crowd.name


def test_where_gunicorn_makes_the_sockets_a_sighup_fails_no_call_and_a_restart_refuses_callers(
    home: Studio, tmp_path: Path, short_folder: Path
) -> None:
    path = short_folder / "own.sock"
    listen = ("-b", f"unix:{path}", "-b", f"127.0.0.1:{closed_port()}")
    with ExitStack() as stack:
        server = stack.enter_context(
            Server(home.installation.settings.home, listen=listen, COINSLOT_TRUSTED_PROXIES="1")
        )
        ways = {"direct": Caller(server.port)}
        for name in ("caddy", "nginx"):
            (tmp_path / name).mkdir()
            ways[name] = stack.enter_context(proxy(name, tmp_path / name, path)).caller

        after_hang_up = load(home, server, ways, hang_up)
        after_restart = load(home, server, ways, restart)

    assert [crowd.failed_twice for crowd in after_hang_up] == [{}, {}, {}]
    assert after_restart[0].failed  # what the sockets of systemd are for


@pytest.mark.parametrize("name", NAMES)
def test_no_call_gets_the_body_of_another_while_the_server_is_down(home: Studio, tmp_path: Path, name: str) -> None:
    """Caddy 2.6 tries a call again with a buffer that another call has by then: its signature would not match."""
    port = closed_port()
    with proxy(name, tmp_path, port) as running:
        crowd = Crowd(name, running.caller, home.token)

        def report(number: int) -> str | None:
            body, headers = signed_order(f"down-{number:03}")
            return crowd._failure(partial(running.caller.ask, "POST", "/appcharge/demo/orders", body, headers))

        calls = Underway(*(partial(report, number) for number in range(60)))
        with Server(home.installation.settings.home, listen=("-b", f"127.0.0.1:{port}")):
            together(*(partial(report, number) for number in range(60, 90)))
            failures = calls.results()

    assert crowd.refused == []
    assert set(failures) <= {None, "502"}
