"""Real gunicorn processes, real HTTP, real kills: what no test client can show.

Orders race through two servers on one home, workers die in the middle of a commit, the database is locked by others.
"""

import base64
import contextlib
import functools
import http.client
import http.server
import json
import os
import random
import re
import runpy
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from itsdangerous import URLSafeTimedSerializer

from coinslot.access import keyring
from coinslot.access.vault import MasterKey
from coinslot.games import games
from coinslot.installation import Installation
from coinslot.ledger import chain, packing
from coinslot.ledger import credit as ledger
from coinslot.operations import troubles
from tests import databases
from tests.conftest import MAIN_KEY, PLAYTEM_SECRET, Studio, appcharge_headers, furnished, order
from tests.databases import rows
from tests.fakes.http import FakeServer, Handler, Reply, Request, nonsense, ok, raw, silence, status
from tests.playtem.test_credit import encode, payload
from tests.servers import ROOT, Answer, Server, Underway, path_and_query, together, until

BROKEN_CALL = (OSError, http.client.HTTPException)  # what a caller sees of a server that dies


def counted(installation: Installation, partner: str = "appcharge") -> dict[str, int]:
    """Counters of all days by name, without money, items, and calls, which are counted a moment later."""
    sql = """SELECT name, sum(value) AS value FROM counters
             WHERE partner = :partner AND name NOT IN ('called', 'gross', 'item', 'refused') GROUP BY name"""
    return {row["name"]: row["value"] for row in rows(installation, sql, partner=partner)}


def credited(installation: Installation, reference: str) -> int:
    """How many grants an order or purchase has."""
    sql = "SELECT count(*) AS n FROM grants g JOIN transactions t ON t.id = g.transaction_id WHERE t.reference = :id"
    return int(rows(installation, sql, id=reference)[0]["n"])


def signed_order(order_id: str, key: str = MAIN_KEY, **changed: Any) -> tuple[bytes, dict[str, str]]:
    body = json.dumps(order(orderId=order_id, purchaseId=f"pr_{order_id}", appChargePaymentId=..., **changed)).encode()
    return body, appcharge_headers(body, key=key)


def post_order(
    server: Server, order_id: str, game: str = "demo", key: str = MAIN_KEY, extra: Any = (), **changed: Any
) -> Answer:
    body, headers = signed_order(order_id, key, **changed)
    return server.post(f"/appcharge/{game}/orders", body, {**headers, **dict(extra)})


def credit_path(transaction_id: str, game: str = "demo", **changed: Any) -> str:
    text = encode(payload(key=PLAYTEM_SECRET, TransactionId=transaction_id, **changed))
    return f"/playtem/{game}/credit?payload={quote(text, safe='')}"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def read_feed(server: Server, token: str) -> list[dict[str, Any]]:
    grants: list[dict[str, Any]] = []
    while True:
        after = grants[-1]["id"] if grants else 0
        answer = server.get(f"/game/v1/grants?after={after}&limit=1000", bearer(token))
        assert answer.status == 200, answer.body
        grants += answer.json["grants"]
        if not answer.json["has_more"]:
            return grants


def is_own_trouble(answer: Answer) -> bool:
    """Our 503 in Appcharge's dialect."""
    return answer.status == 503 and bool(answer.json["publisherErrorMessage"])


def is_playtems_own_trouble(answer: Answer) -> bool:
    return answer.status == 500 and answer.json["ErrorCode"] == 400


def assert_ledger_is_sound(installation: Installation) -> None:
    with databases.connected(installation) as connection:
        assert list(chain.verify(connection)) == []
    databases.assert_intact(installation)


# What another process may do to us, and the file it does it to.
HOLDERS = {
    "database": (
        "coinslot.db",
        """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
""",
    ),
    "lock": (
        "write.lock",
        """
import fcntl, sys
file = open(sys.argv[1], "rb+")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
""",
    ),
}


@contextmanager
def held(what: str, home: Path) -> Iterator[None]:
    """Another process keeps everyone from writing until the block ends."""
    if databases.IS_POSTGRES:  # has one lock for both
        with databases.postgres.holding(home):
            yield
        return
    file_name, script = HOLDERS[what]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home / file_name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield
        finally:
            process.kill()


@dataclass
class Shop:
    installation: Installation
    studio: Studio
    server: Server

    @property
    def token(self) -> str:
        return self.studio.token


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One server for the tests that leave it as it was; each uses order ids and settings of its own."""
    installation, studio = furnished(tmp_path_factory.mktemp("shop") / "home")
    with Server(installation.settings.home) as server:
        # Both workers have opened the game before anything about it is changed.
        for number in range(1000):
            assert post_order(server, f"warm-{number}").status == 200
            if len(pids_that_credited(server)) == 2:
                break
        yield Shop(installation, studio, server)
    installation.database.close()


def pids_that_credited(server: Server) -> set[str]:
    return set(re.findall(r"\[([0-9]+)\] \[INFO\] appcharge demo: credited", server.log))


@pytest.fixture
def two_servers(installation: Installation, studio: Studio) -> Iterator[list[Server]]:
    """Two masters with two workers each, on one home."""
    with Server(installation.settings.home) as one, Server(installation.settings.home) as other:
        yield [one, other]


class TestNothingVanishes:
    """What a paid order may meet on its way, through real workers: each is credited, or named within two seconds."""

    @staticmethod
    def named(shop: Shop, kind: str, word: str) -> bool:
        found = troubles.find(shop.installation.database.read()).found
        found = [each for each in found if kind in (each.kind, each.detail)]
        return any(word in str((each.detail, each.named)) for each in found)

    def test_a_nearly_right_address(self, shop):
        body, headers = signed_order("vanished")
        assert shop.server.post("/appcharge//demo/orders%20", body, headers).status == 404
        until(lambda: self.named(shop, "no_address", "vanished"), "the trouble", 2.0)

    def test_an_order_at_another_address_and_one_of_an_unknown_status(self, shop):
        body, headers = signed_order("misplaced-1")
        assert shop.server.post("/appcharge/demo/events", body, headers).status == 400
        assert self.named(shop, "misplaced", "misplaced-1")
        assert post_order(shop.server, "misplaced-1").status == 200
        assert not self.named(shop, "misplaced", "misplaced-1")

        assert post_order(shop.server, "status-1", actionStatus="succeeded").status == 400
        assert self.named(shop, "unknown_status", "succeeded")
        shop.studio.config("appcharge.completed_statuses", "completed,succeeded")
        assert post_order(shop.server, "status-1", actionStatus="succeeded").status == 200
        assert not self.named(shop, "unknown_status", "succeeded")

    def test_odd_money_and_reports_by_several_ids_at_once(self, shop):
        reports = [
            {"priceInCents": "9,99"},
            {"appChargePaymentId": "P-race"},
            {"priceInCents": 9.99, "currency": "USDT"},
        ]

        def report(number: int, **how: Any) -> Answer:
            body = json.dumps(order(orderId=f"odd-{number % 3}", purchaseId=..., **reports[number % 3])).encode()
            return shop.server.post("/appcharge/demo/orders", body, appcharge_headers(body), **how)

        found = at_once(12, report)
        assert {answer.status for answer in found} == {200}
        answers = [answer.body for answer in found]
        assert [len(set(answers[number::3])) for number in range(3)] == [1, 1, 1]
        assert [credited(shop.installation, f"odd-{number}") for number in range(3)] == [1, 1, 1]


def at_once(count: int, call: Callable[..., Answer]) -> list[Answer]:
    """Make calls from as many connections, all open before the first byte is sent."""
    start = threading.Barrier(count)
    return together(*(functools.partial(call, number, before_sending=start.wait) for number in range(count)))


class TestRaces:
    def test_32_callers_with_one_order_at_two_servers_credit_once(self, two_servers, installation, studio):
        body, headers = signed_order("race-1")

        answers = at_once(
            32, lambda number, **how: two_servers[number % 2].post("/appcharge/demo/orders", body, headers, **how)
        )

        assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
        assert answers[0].json["publisherPurchaseId"] == ledger.public_id("demo", "appcharge", "race-1")
        assert len(rows(installation, "SELECT * FROM transactions")) == 1
        assert counted(installation) == {"credited": 1, "duplicate": 31}
        for server in two_servers:
            assert [grant["external_id"] for grant in read_feed(server, studio.token)] == ["race-1"]
        assert_ledger_is_sound(installation)

    def test_20_identical_playtem_calls_credit_once(self, two_servers, installation, studio):
        path = credit_path("race-tx")

        answers = at_once(20, lambda number, **how: two_servers[number % 2].get(path, **how))

        assert {(answer.status, answer.body) for answer in answers} == {(200, b"")}
        assert counted(installation, "playtem") == {"credited": 1, "duplicate": 19}
        assert [each["items"] for each in read_feed(two_servers[0], studio.token)] == [
            [{"sku": "coins", "quantity": 1}]
        ]
        assert_ledger_is_sound(installation)

    def test_two_contents_of_one_order_race_and_exactly_one_is_credited(self, two_servers, installation, studio):
        contents = [signed_order("race-2", priceInCents=price) for price in (999, 1)]

        def report(number: int, **how: Any) -> Answer:
            return two_servers[number % 2].post("/appcharge/demo/orders", *contents[number // 2 % 2], **how)

        answers = at_once(32, report)

        (transaction,) = rows(installation, "SELECT raw_body FROM transactions")
        winner = [content[0] for content in contents].index(packing.body(transaction["raw_body"]))
        assert [answer.status == 200 for answer in answers] == [number // 2 % 2 == winner for number in range(32)]
        assert all(answer.json["publisherErrorMessage"] for answer in answers if answer.status == 400)
        assert [(row["seen"], row["raw_body"]) for row in rows(installation, "SELECT * FROM conflicts")] == [
            (16, contents[1 - winner][0])
        ]
        assert counted(installation) == {"credited": 1, "duplicate": 15, "conflict": 16}
        assert len(read_feed(two_servers[0], studio.token)) == 1
        assert_ledger_is_sound(installation)


class Load:
    """Threads that report unique orders as Appcharge does: each again and again until it is acknowledged."""

    def __init__(self, server: Server, threads: int = 8) -> None:
        self.server = server
        self.acknowledged: dict[str, set[bytes]] = {}
        self.unexpected: list[Answer] = []
        self.broken_calls = 0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._report, args=(number,)) for number in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, orders: int = 40) -> None:
        goal = len(self.acknowledged) + orders
        until(lambda: len(self.acknowledged) >= goal, f"{orders} more orders are acknowledged", 30)

    def _report(self, thread: int) -> None:
        number = 0
        while not self._ended.is_set():
            number += 1
            order_id = f"load-{thread}-{number}"
            until(lambda order_id=order_id: self._is_acknowledged(order_id), f"{order_id} is acknowledged", 60)
            if number % 5 == 0:  # as if our answer had been lost on its way
                self._is_acknowledged(order_id)

    def _is_acknowledged(self, order_id: str) -> bool:
        try:
            answer = post_order(self.server, order_id)
        except BROKEN_CALL:
            self.broken_calls += 1
            return False
        if answer.status == 200:
            self.acknowledged.setdefault(order_id, set()).add(answer.body)
        elif answer.status != 503:
            self.unexpected.append(answer)
        return answer.status == 200


class Reader(threading.Thread):
    """A game that follows the feed with its cursor, through every restart, until it is told that no more comes."""

    def __init__(self, server: Server, token: str) -> None:
        super().__init__()
        self.server = server
        self.token = token
        self.grants: list[dict[str, Any]] = []
        self.unexpected: list[Answer] = []
        self.no_more_comes = threading.Event()

    def run(self) -> None:
        cursor, has_more = 0, True
        while has_more or not self.no_more_comes.is_set():
            is_last = self.no_more_comes.is_set()
            try:
                answer = self.server.get(f"/game/v1/grants?after={cursor}&limit=50", bearer(self.token))
            except BROKEN_CALL:
                self.no_more_comes.wait(0.01)
                continue
            if answer.status != 200:
                self.unexpected.append(answer)
                return
            self.grants += answer.json["grants"]
            cursor = answer.json["next_after"]
            has_more = answer.json["has_more"] or not is_last


class TestSuddenDeath:
    @pytest.mark.parametrize(
        "deaths",
        [
            pytest.param(["worker", "worker", "all", "worker"], id="short"),
            pytest.param([*["worker"] * 6, "all"] * 3, marks=pytest.mark.long, id="long"),
        ],
    )
    def test_kill_9_loses_nothing_acknowledged_and_credits_nothing_twice(self, installation, studio, deaths):
        with Server(installation.settings.home) as server:
            reader = Reader(server, studio.token)
            reader.start()
            try:
                with Load(server) as load:
                    for death in deaths:
                        load.wait_for_more()
                        if death == "worker":
                            server.kill_worker(random.choice(until(lambda: server.workers, "a worker lives")))
                        else:
                            server.kill()
                            server.start()
                    load.wait_for_more()
                acknowledged = {order_id: answers.copy() for order_id, answers in load.acknowledged.items()}
                repeated = {order_id: post_order(server, order_id).body for order_id in list(acknowledged)[-40:]}
            finally:
                reader.no_more_comes.set()
                reader.join()
            feed = read_feed(server, studio.token)

        assert load.unexpected == reader.unexpected == []
        assert load.broken_calls > 0, "the kills met no call"
        assert acknowledged == {
            order_id: {json.dumps({"publisherPurchaseId": ledger.public_id("demo", "appcharge", order_id)}).encode()}
            for order_id in acknowledged
        }
        assert all({body} == acknowledged[order_id] for order_id, body in repeated.items())
        stored = [row["external_id"] for row in rows(installation, "SELECT external_id FROM transactions ORDER BY id")]
        assert sorted(stored) == sorted(acknowledged)
        ids = [grant["id"] for grant in feed]
        assert ids == sorted(set(ids))
        assert [grant["external_id"] for grant in feed] == stored
        assert reader.grants == feed
        assert all(
            grant["items"] == [{"sku": "coins", "quantity": 1000}, {"sku": "gems", "quantity": 5}] for grant in feed
        )
        assert counted(installation)["credited"] == len(acknowledged)
        assert_ledger_is_sound(installation)

    def test_every_200_before_a_sigterm_is_stored_and_requests_in_hand_are_finished(self, installation, studio):
        with Server(installation.settings.home) as server:
            with held("lock", installation.settings.home):
                calls = Underway(*(lambda number=number: post_order(server, f"last-{number}") for number in range(12)))
                until(lambda: server.connections_in_hand() == 12, "the workers have twelve orders in hand", 4)
                server.terminate()
                until(lambda: "Handling signal: term" in server.log, "the master stops", 4)
                assert calls.are_all()
            answers = calls.results()
            assert server.wait() == 0

        assert [answer.status for answer in answers] == [200] * 12
        assert {row["external_id"] for row in rows(installation, "SELECT external_id FROM transactions")} == {
            f"last-{number}" for number in range(12)
        }
        assert_ledger_is_sound(installation)

    def test_sigterm_under_load_acknowledges_nothing_that_is_not_stored(self, installation, studio):
        acknowledged: set[str] = set()
        others: list[Answer] = []

        def report(thread: int) -> None:
            for number in range(100_000):
                try:
                    answer = post_order(server, f"{thread}-{number}")
                except BROKEN_CALL:
                    return
                if answer.status != 200:
                    others.append(answer)
                    return
                acknowledged.add(f"{thread}-{number}")

        with Server(installation.settings.home) as server:
            callers = [threading.Thread(target=report, args=(thread,)) for thread in range(8)]
            for caller in callers:
                caller.start()
            until(lambda: len(acknowledged) > 100, "a hundred orders are acknowledged", 30)
            assert server.stop() == 0
            for caller in callers:
                caller.join()

        assert others == []
        assert acknowledged <= {
            row["external_id"] for row in rows(installation, "SELECT external_id FROM transactions")
        }
        assert_ledger_is_sound(installation)


class TestDatabaseTrouble:
    @pytest.mark.parametrize("what", HOLDERS)
    def test_a_short_wait_is_waited_out(self, shop, what):
        ids = [f"short-{what}-{number}" for number in range(4)]

        with held(what, shop.installation.settings.home):
            calls = Underway(
                *(lambda id=id: post_order(shop.server, id) for id in ids),
                lambda: shop.server.get(credit_path(f"short-{what}")),
            )
            until(lambda: shop.server.connections_in_hand() >= 5, "the workers have five requests in hand", 4)
            assert shop.server.get("/game/v1/grants", bearer(shop.token)).status == 200  # reads wait for nobody
            assert calls.are_all()
        answers = calls.results()

        assert [answer.status for answer in answers] == [200] * 5
        assert [credited(shop.installation, id) for id in (*ids, f"short-{what}")] == [1] * 5

    @pytest.mark.long  # the wait we promise is five seconds
    @pytest.mark.parametrize("what", HOLDERS)
    def test_a_long_wait_is_our_own_trouble_and_the_retry_credits_once(self, installation, studio, what):
        home = installation.settings.home
        # Eight calls in all: a worker's ninth would first wait for a thread, and then five seconds of its own.
        orders = [signed_order(f"long-{number}") for number in range(3)]
        paths = [credit_path(f"long-tx-{number}") for number in range(2)]

        with Server(home) as server:

            def report() -> tuple[list[Answer], list[Answer]]:
                found = together(
                    *(lambda order=order: server.post("/appcharge/demo/orders", *order) for order in orders * 2),
                    *(lambda path=path: server.get(path) for path in paths),
                )
                return found[:-2], found[-2:]

            with held(what, home):
                appcharge, playtem = report()
                assert server.get("/healthz").status == 200
                assert read_feed(server, studio.token) == []
            assert all(map(is_own_trouble, appcharge)), appcharge
            assert all(map(is_playtems_own_trouble, playtem)), playtem
            assert max(answer.seconds for answer in (*appcharge, *playtem)) < 9
            assert all(b"lock" not in answer.body for answer in (*appcharge, *playtem))  # no details for strangers

            # The writers of both workers have gone on by now, and nothing that was given up was done after all.
            until(lambda: all(server.get("/readyz").status == 200 for _ in range(8)), "the server is ready")
            assert rows(installation, "SELECT * FROM transactions") == []

            appcharge, playtem = report()
            assert [answer.status for answer in (*appcharge, *playtem)] == [200] * 8
            assert sorted(grant["external_id"] for grant in read_feed(server, studio.token)) == [
                *(f"long-{number}" for number in range(3)),
                *(f"long-tx-{number}" for number in range(2)),
            ]
        assert counted(installation) == {"credited": 3, "duplicate": 3}
        assert_ledger_is_sound(installation)


def conf() -> dict[str, Any]:
    """The names of gunicorn's configuration file."""
    return runpy.run_path(str(ROOT / "gunicorn.conf.py"))


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Start as gunicorn's master does, which must fail; returns what it says."""

    def start(home: Path, **environment: str) -> str:
        for name, value in {**databases.environment(home), **environment}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as caught:
            conf()["on_starting"](SimpleNamespace())
        for name in environment:
            monkeypatch.delenv(name)
        return str(caught.value)

    return start


OTHER_KEY = base64.b64encode(bytes(range(32))).decode()


class TestStart:
    def test_a_newer_schema_is_refused_in_one_line_and_nothing_is_served(self, installation, studio):
        databases.set_version(installation, 999)

        server = Server(installation.settings.home)
        try:
            assert server.launch().wait(20) not in (0, None)
            (line,) = [line for line in server.log.splitlines() if "[INFO] Starting gunicorn" not in line]
        finally:
            server.kill()
        assert line.startswith("Coinslot does not start: ")
        assert "schema version 999, newer than this code's" in line

    def test_a_file_that_is_no_database_is_refused_and_left_alone(self, tmp_path, refused):
        path = tmp_path / "home/coinslot.db"
        path.parent.mkdir()
        path.write_bytes(b"my shopping list\n" * 1000)

        assert "database" in refused(path.parent)
        assert path.read_bytes() == b"my shopping list\n" * 1000

    def test_another_programs_database_is_refused_and_left_alone(self, tmp_path, refused):
        home = tmp_path / "home"
        home.mkdir()
        databases.begin_bare(home)
        with databases.connected(home) as connection:
            if databases.IS_POSTGRES:
                connection.execute("CREATE SCHEMA coinslot")
            connection.execute("CREATE TABLE shopping (what TEXT)")

        said = refused(home)

        assert "not a Coinslot database" in said or "not Coinslot's" in said
        assert databases.tables(home) == ["shopping"]

    @pytest.mark.parametrize("key", ["", "not Base64!", "c2hvcnQ=", base64.b64encode(bytes(33)).decode()])
    def test_a_malformed_master_key_is_refused(self, tmp_path, key, refused):
        said = refused(tmp_path / "home", COINSLOT_MASTER_KEY=key)

        is_missing = not key and databases.IS_POSTGRES  # which never takes a file's instead
        assert "COINSLOT_MASTER_KEY" + (": with" if is_missing else " does not hold the Base64 of 32 bytes") in said
        assert not key or key not in said

    def test_another_master_key_is_refused(self, installation, studio, refused):
        said = refused(installation.settings.home, COINSLOT_MASTER_KEY=OTHER_KEY)
        assert "COINSLOT_MASTER_KEY does not hold" in said
        assert OTHER_KEY not in said

    def test_another_key_file_is_refused(self, installation, studio, refused):
        key_file = installation.settings.home / "master.key"
        key_file.write_text(OTHER_KEY)

        assert f"{key_file} does not hold" in refused(installation.settings.home)

    def test_a_missing_key_file_is_refused_and_not_made_anew(self, installation, studio, refused):
        key_file = installation.settings.home / "master.key"
        key_file.unlink()

        assert f"{key_file} is missing" in refused(installation.settings.home)
        assert not key_file.exists()

    def test_a_malformed_setting_is_refused_by_name(self, tmp_path, refused):
        assert "COINSLOT_TRUSTED_PROXIES" in refused(tmp_path / "a", COINSLOT_TRUSTED_PROXIES="all")
        assert "COINSLOT_PUBLIC_URL" in refused(tmp_path / "b", COINSLOT_PUBLIC_URL="shop.example")
        assert not (tmp_path / "a").exists()

    def test_the_right_key_in_the_environment_needs_no_file(self, tmp_path):
        with Server(tmp_path / "home", COINSLOT_MASTER_KEY=OTHER_KEY) as server:
            assert server.get("/readyz").status == 200
        assert not (tmp_path / "home/master.key").exists()

    def test_bind_and_workers_come_from_the_environment_and_options_win(self, tmp_path):
        environment = {"COINSLOT_BIND": "127.0.0.1:0", "WEB_CONCURRENCY": "3"}
        with Server(tmp_path / "home", listen=(), **environment) as server:
            until(lambda: len(server.booted_workers()) == 3, "three workers")

        environment["COINSLOT_BIND"] = "192.0.2.1:1"  # not an address of this machine
        with Server(tmp_path / "home", "-w", "1", **environment) as server:
            until(lambda: len(server.booted_workers()) == 1, "one worker")
            assert server.log.count("Booting worker") == 1

    @pytest.mark.long
    def test_a_start_while_another_process_writes_for_long_says_so_or_comes_up(self, installation, studio):
        home = installation.settings.home
        server = Server(home)

        def has_begun_or_given_up() -> bool:
            return process.poll() is not None or "Booting worker" in server.log

        try:
            with held("database", home):
                process = server.launch()
                until(lambda: has_begun_or_given_up() or databases.is_waited_for(home), "it knows of the other", 20)
            until(has_begun_or_given_up, "the server comes up or gives up", 20)
            assert "Traceback" not in server.log, server.log
        finally:
            server.kill()


class TestFirstStart:
    def test_an_empty_home_becomes_an_installation_with_an_owner(self, tmp_path):
        home = tmp_path / "var/coinslot"
        databases.begin_bare(home)
        umask = os.umask(0)  # the modes are ours, not the shell's
        try:
            with Server(home) as server:
                assert server.get("/readyz").status == 200
                assert oct(stat.S_IMODE(home.stat().st_mode)) == "0o700"
                files = ["coinslot.db", "coinslot.db-shm", "coinslot.db-wal", "master.key", "write.lock"]
                assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in home.iterdir()} == dict.fromkeys(
                    [] if databases.IS_POSTGRES else files, "0o600"
                )
                first_link = only_link(server)
                assert server.stop() == 0
                server.start()
                link = only_link(server)
        finally:
            os.umask(umask)

        with Server(home, COINSLOT_PUBLIC_URL="https://coins.example/") as server:
            assert only_link(server).startswith("https://coins.example/setup?token=")
            assert server.get(path_and_query(first_link)).status == 410  # an earlier start's link ends with it
            assert server.get(path_and_query(link)).status == 410
            link = only_link(server)

            assert [server.get(path_and_query(link)).status for _ in range(3)] == [200] * 3  # looking uses nothing up
            for forged in (link[:-2] + "xx", link.partition("=")[0] + "=", link + "x"):
                assert server.get(path_and_query(forged)).status == 403
            form = {"token": parse_qs(urlsplit(link).query)["token"][0], "slug": "demo", "password": "short"}
            assert post_form(server, form).status == 400
            form["password"] = "a good long password"
            # Four browsers at once: one owner.
            start = threading.Barrier(4)
            answers = together(*(lambda: post_form(server, form, before_sending=start.wait) for _ in range(4)))
            assert Counter(answer.status for answer in answers) == {200: 1, 410: 3}
            (done,) = [answer for answer in answers if answer.status == 200]
            (token,) = set(re.findall(r"coinslot_[\w-]{43}", done.body.decode()))
            assert server.get("/game/v1/grants", bearer(token)).status == 200
            assert server.get(path_and_query(link)).status == 410
            assert post_form(server, form).status == 410
            assert server.stop() == 0
            assert token not in server.log
            assert "a good long password" not in server.log

            server.start()
            assert (server.get("/").status, server.get("/login").status) == (303, 200)
            assert "token" not in server.log
            assert server.get(path_and_query(link)).status == 410
            assert post_form(server, form).status == 410

    @pytest.mark.parametrize(
        ("addresses", "host"),
        [
            (["127.0.0.1"], "127.0.0.1"),
            (["0.0.0.0"], "127.0.0.1"),
            (["::1"], "[::1]"),
            (["unix", "127.0.0.1", "127.0.0.1"], "127.0.0.1"),
            (["unix"], None),
        ],
    )
    def test_the_setup_link_names_the_port_that_is_listened_on(self, tmp_path, addresses, host):
        with contextlib.ExitStack() as stack:
            listeners = []
            for address in addresses:
                family = {"unix": socket.AF_UNIX, "::1": socket.AF_INET6}.get(address, socket.AF_INET)
                bound = stack.enter_context(socket.socket(family))
                bound.bind(str(tmp_path / "sock") if address == "unix" else (address, 0))
                listeners.append(SimpleNamespace(sock=bound))
            base = conf()["_base"](SimpleNamespace(LISTENERS=listeners, cfg=SimpleNamespace(is_ssl=False)))

            if host is None:
                assert base == "(the address of your proxy)"
            else:
                port = listeners[addresses.index("unix") + 1 if "unix" in addresses else 0].sock.getsockname()[1]
                assert base == f"http://{host}:{port}"

    def test_an_expired_link_is_gone_and_a_forged_one_forbidden(self, client, installation, clock):
        link = path_and_query(installation.new_setup_link())
        key = installation.vault.current(installation.database.read()).derive("setup link")

        def signed(key: bytes, salt: str = "setup", nonce: str = "another nonce") -> str:
            return f"/setup?token={URLSafeTimedSerializer(key, salt=salt).dumps(nonce)}"

        nonce = URLSafeTimedSerializer(key, salt="setup").loads(parse_qs(urlsplit(link).query)["token"][0])
        assert client.get(link).status_code == 200
        assert client.get(signed(key, nonce=nonce)).status_code == 200
        assert client.get(signed(key)).status_code == 410  # ours, but of another start
        assert client.get(signed(bytes(32), nonce=nonce)).status_code == 403
        assert client.get(signed(key, salt="session", nonce=nonce)).status_code == 403
        clock.shift(3599)
        assert client.get(link).status_code == 200
        clock.shift(2)
        assert client.get(link).status_code == 410
        form = {"token": parse_qs(urlsplit(link).query)["token"][0], "slug": "demo", "password": "a good long password"}
        assert client.post("/setup", data=form).status_code == 410
        assert client.get(signed(key, nonce=nonce)).status_code == 200


def only_link(server: Server) -> str:
    (link,) = until(lambda: re.findall(r"\S+/setup\?token=\S+", server.log), "a setup link in the log")
    return link


def post_form(server: Server, form: dict[str, str], **how: Any) -> Answer:
    return server.post("/setup", urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"}, **how)


class TestChangesByAnotherProcess:
    """This process is the other one. Twenty fresh connections at a time, so that every worker gets some."""

    def twenty(self, call: Callable[[int], Answer]) -> Counter[int]:
        answers = together(*(lambda number=number: call(number) for number in range(20)))
        return Counter(answer.status for answer in answers)

    def test_a_setting_holds_from_the_next_request(self, shop):
        for turn in range(5):
            shop.studio.config("allowlist.appcharge", "192.0.2.0/24")
            assert self.twenty(lambda number: post_order(shop.server, f"config-{number}")) == {403: 20}
            shop.studio.config("allowlist.appcharge", "")
            assert self.twenty(lambda number: post_order(shop.server, f"config-{number}")) == {200: 20}, turn

    def test_a_secret_holds_from_the_next_request(self, shop):
        shop.studio.rotate("appcharge.main_key", "the-new-key")

        def by_old(number: int) -> Answer:
            return post_order(shop.server, f"old-{number}")

        def by_new(number: int) -> Answer:
            return post_order(shop.server, f"new-{number}", key="the-new-key")

        try:
            assert self.twenty(by_new) == {200: 20}
            assert self.twenty(by_old) == {200: 20}
            shop.studio.retire("appcharge.main_key")
            assert self.twenty(by_old) == {401: 20}
            assert self.twenty(by_new) == {200: 20}
        finally:
            shop.studio.secret("appcharge.main_key", MAIN_KEY)
        assert self.twenty(by_new) == {401: 20}
        assert self.twenty(by_old) == {200: 20}

    def test_a_new_and_a_retired_token_hold_from_the_next_request(self, shop):
        def read_by(token: str) -> Callable[[int], Answer]:
            return lambda _: shop.server.get("/game/v1/grants?limit=1", bearer(token))

        old = shop.studio.token
        for _ in range(3):
            new = shop.installation.database.write_here(lambda tx: games.replace_token(tx, "demo", "test"))
            shop.studio.token = new
            assert self.twenty(read_by(old)) == {200: 20}
            assert self.twenty(read_by(new)) == {200: 20}
            shop.installation.database.write_here(lambda tx: games.retire_tokens(tx, "demo", "test"))
            assert self.twenty(read_by(old)) == {401: 20}
            assert self.twenty(read_by(new)) == {200: 20}
            old = new

    def test_a_new_game_and_a_new_player_hold_from_the_next_request(self, shop):
        def call(number: int) -> Answer:
            return post_order(shop.server, f"g-{number}", game="late", playerId="zoe")

        assert self.twenty(call) == {404: 20}
        late = Studio(shop.installation, "late")
        late.item("coins", "gems")
        late.secret("appcharge.main_key", MAIN_KEY)
        assert self.twenty(call) == {404: 20}  # half its proofs are no configuration
        late.secret("appcharge.publisher_token", "test-publisher-token")
        assert self.twenty(call) == {400: 20}
        late.player("zoe")
        assert self.twenty(call) == {200: 20}

    def test_a_rotated_master_key_holds_from_the_next_request(self, installation, studio):
        with Server(installation.settings.home) as server:
            assert self.twenty(lambda number: post_order(server, f"before-{number}")) == {200: 20}
            for turn in range(3):
                installation.vault.rotate(installation.database, keyring.reseal, MasterKey.generate())
                studio.config("appcharge.tolerance_seconds", str(300 + turn))  # everything is opened anew
                assert self.twenty(lambda number, turn=turn: post_order(server, f"{turn}-{number}")) == {200: 20}


CHUNK = b"x" * 65536


class TestHttp:
    def test_a_chunked_body_over_the_limit_is_413_in_the_callers_dialect(self, shop):
        headers = {"Content-Type": "application/json", "signature": f"t=1,v1={'0' * 64}"}
        for chunks in (17, 128):
            answer = shop.server.post("/appcharge/demo/orders", iter([CHUNK] * chunks), headers)
            assert (answer.status, answer.mimetype) == (413, "application/json")
            assert answer.json["publisherErrorMessage"]
        answer = shop.server.post("/game/v1/grants/ack", iter([CHUNK] * 17), bearer(shop.token))
        assert (answer.status, answer.mimetype) == (413, "application/problem+json")

    def test_a_sized_body_over_the_limit_is_413_and_one_below_it_is_read(self, shop):
        answer = shop.server.post("/appcharge/demo/orders", b"x" * (1024 * 1024 + 1), {"signature": "t=1,v1=0"})
        assert (answer.status, answer.mimetype) == (413, "application/json")
        answer = shop.server.post("/appcharge/demo/orders", b"x" * (1024 * 1024), {"signature": "t=1,v1=0"})
        assert answer.status == 401

    @pytest.mark.parametrize("player_id", ["a/granted", "a/sponsors", "a%2Fgranted", "../..", "..", "a?b=c#d", "//"])
    def test_a_player_is_read_and_changed_whatever_the_id_is_made_of(self, shop, player_id):
        path, headers = f"/game/v1/players/{quote(player_id, safe='')}", bearer(shop.token)

        assert shop.server.call("PUT", path, b'{"name": "N"}', headers).json["player_id"] == player_id
        assert shop.server.call("PATCH", path, b'{"country": "DE"}', headers).json["name"] == "N"
        assert shop.server.get(path, headers).json["country"] == "DE"
        for sums in ("granted", "sponsors"):
            assert shop.server.get(f"{path}/{sums}", headers).json["player_id"] == player_id
        assert shop.server.call("DELETE", path, None, headers).status == 204
        assert shop.server.get(path, headers).status == 404

    def test_a_chunked_order_credits(self, shop):
        body, headers = signed_order("chunked-1")
        answer = shop.server.post("/appcharge/demo/orders", iter([body[:7], body[7:100], body[100:]]), headers)
        assert answer.status == 200
        assert credited(shop.installation, "chunked-1") == 1

    def test_a_request_line_of_8_kib_reaches_playtems_room(self, shop):
        paths = (credit_path("8-kib", AppName="n" * length) for length in range(6200, 0, -1))
        path = next(path for path in paths if len(f"GET {path} HTTP/1.1") <= 8190)
        assert len(path) > 8150

        answer = shop.server.get(path)

        assert (answer.status, answer.body) == (200, b"")
        assert credited(shop.installation, "8-kib") == 1

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
    @pytest.mark.parametrize(
        "path",
        [
            *("/nope", "/appcharge", "/appcharge/", "/appcharge/demo", "/appcharge/demo/nope", "/appcharge/a/b/c"),
            *("/game", "/game/v1/nope", "/game/v2/grants", "/appcharge/../nope"),
            *("/%00", "/%ff", "/<script>", "/healthz/x"),
        ],
    )
    def test_an_unknown_path_is_json(self, shop, method, path):
        answer = shop.server.call(method, path)

        assert answer.status in (301, 308, 404, 405)
        assert answer.mimetype in ("application/json", "application/problem+json")
        assert isinstance(answer.json, dict)
        assert b"<" not in answer.body
        if path.startswith("/appcharge"):
            assert answer.json["publisherErrorMessage"]

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
    @pytest.mark.parametrize("path", ["/static/../../app.py", "/setup/x", "/games/<script>x/y", "/account/%00x"])
    def test_an_unknown_page_is_a_page_that_repeats_nothing(self, shop, method, path):
        answer = shop.server.call(method, path)

        assert answer.status in (404, 405)
        assert answer.mimetype == "text/html"
        assert b"create_app" not in answer.body
        assert b"<script>x" not in answer.body
        assert "script-src 'self'" in answer.headers["content-security-policy"]

    @pytest.mark.parametrize(
        "path", ["/playtem", "/playtem/", "/playtem/demo", "/playtem/demo/nope", "/playtem/x/credit"]
    )
    def test_an_unknown_playtem_path_is_no_page(self, shop, path):
        answer = shop.server.get(path)

        assert (answer.status, answer.mimetype) == (404, "text/plain")

    def test_a_wrong_method_is_told_which_is_right(self, shop):
        for path, right in {"/appcharge/demo/orders": "POST", "/game/v1/grants/ack": "POST"}.items():
            answer = shop.server.get(path)
            assert (answer.status, "json" in answer.mimetype) == (405, True)
            assert right in answer.headers["allow"]

    def test_a_head_credits_nothing(self, shop):
        path = credit_path("head-1")

        for each in (path, path.replace("/demo", "")):
            answer = shop.server.call("HEAD", each)
            assert (answer.status, answer.headers["allow"], answer.body) == (405, "GET", b"")
        assert credited(shop.installation, "head-1") == 0
        assert shop.server.get(path).status == 200
        assert credited(shop.installation, "head-1") == 1

    def test_forwarded_headers_are_ignored_by_default(self, shop):
        shop.studio.config("allowlist.appcharge", "192.0.2.0/24")
        try:
            for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X_Forwarded_For"):
                answer = post_order(shop.server, "forwarded-0", extra={name: "192.0.2.7"})
                assert answer.status == 403
                assert answer.json["publisherErrorMessage"]
        finally:
            shop.studio.config("allowlist.appcharge", "")

    def test_behind_one_proxy_the_right_most_address_counts_and_the_access_log_has_no_query(self, installation, studio):
        studio.config("allowlist.appcharge", "192.0.2.0/24")
        studio.config("allowlist.playtem", "192.0.2.0/24")

        with Server(installation.settings.home, "--access-logfile", "-", COINSLOT_TRUSTED_PROXIES="1") as server:

            def status(forwarded: str, **more: str) -> int:
                extra = {"X-Forwarded-For": forwarded, **{name.replace("_", "-"): more[name] for name in more}}
                return post_order(server, "forwarded-1", extra=extra).status

            assert status("192.0.2.7") == 200
            assert status("203.0.113.9, 192.0.2.7") == 200
            assert status("192.0.2.7, 203.0.113.9") == 403
            assert status("192.0.2.7,192.0.2.8,203.0.113.9") == 403
            assert status("192.0.2.7, rubbish") == 403
            assert status("203.0.113.9, 192.0.2.7:50000") == 200
            assert status("[::ffff:192.0.2.7]:4711") == 200
            assert status('192.0.2.7, "192.0.2.7') == 403
            assert status("203.0.113.9", X_Real_IP="192.0.2.7", Forwarded="for=192.0.2.7") == 403
            assert post_order(server, "forwarded-1").status == 403
            assert post_order(server, "forwarded-1", extra={"X_Forwarded_For": "192.0.2.7"}).status == 403
            body, headers = signed_order("forwarded-2")
            doubled = raw_request("POST", "/appcharge/demo/orders", headers, body).replace(
                b"\r\n", b"\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 203.0.113.9\r\n", 1
            )
            assert exchange(server, doubled).startswith(b"HTTP/1.1 403 ")
            assert credited(installation, "forwarded-2") == 0

            query = credit_path("logged-1").partition("?")[2]
            for wrong in ("", "AA"):
                server.get(f"/playtem/demo/credit?{wrong}{query}", {"X-Forwarded-For": "192.0.2.7"})
            assert credited(installation, "logged-1") == 1
            warning = quote(base64.b64encode(b"{'a': 1if 1 else 2}").decode(), safe="")
            server.get(f"/playtem/demo/credit?payload={warning}", {"X-Forwarded-For": "192.0.2.7"})
            until(lambda: server.log.count('"GET /playtem/demo/credit HTTP/1.1"') == 3, "the access log", 5)
            assert server.stop() == 0
            log = server.log
        assert "payload" not in log
        assert "Warning" not in log  # Python's, of what a payload holds
        assert query.partition("=")[2][:40] not in log
        assert headers["signature"].partition("v1=")[2] not in log
        assert "test-publisher-token" not in log

    def test_an_order_shorter_than_it_says_credits_nothing(self, shop):
        body, headers = signed_order("cut-1")
        whole = raw_request("POST", "/appcharge/demo/orders", headers, body)
        promising_more = whole.replace(b"Content-Length: %d" % len(body), b"Content-Length: %d" % (len(body) + 100))
        assert promising_more != whole

        answer = exchange(shop.server, promising_more)

        # What came is well signed, but by RFC 9112, section 8, it is not the whole message.
        assert not answer.startswith(b"HTTP/1.1 200 ")
        assert credited(shop.installation, "cut-1") == 0
        assert exchange(shop.server, whole).startswith(b"HTTP/1.1 200 ")
        assert credited(shop.installation, "cut-1") == 1

    def test_a_setup_form_cut_short_sets_no_password(self, tmp_path):
        with Server(tmp_path / "home") as server:
            link = only_link(server)
            form = {"token": parse_qs(urlsplit(link).query)["token"][0], "slug": "demo", "password": "a" * 30}
            request = raw_request(
                "POST", "/setup", {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(form).encode()
            )

            exchange(server, request[:-10])  # the connection breaks in the middle of the password

            assert server.get(path_and_query(link)).status == 200

    def test_what_gunicorn_cannot_parse_is_not_quoted_in_the_log(self, shop):
        for line in (
            b"GET /playtem/demo/credit?n=caf\xc3\xa9&payload=HIDDEN-1 HTTP/1.1\r\nHost: x",
            b"GET /playtem/demo/credit?payload=a HIDDEN-2 HTTP/1.1\r\nHost: x",
            b"POST /appcharge/demo/orders HTTP/1.1\r\nHost: x\r\nx-publisher-token HIDDEN-3",
            b"POST /appcharge/demo/orders HTTP/1.1\r\nHost: x\r\nBearer HIDDEN-4: x",
            b"GET /" + b"a" * 9000 + b"HIDDEN-5 HTTP/1.1\r\nHost: x",
        ):
            exchange(shop.server, line + b"\r\n\r\n")
        until(lambda: "Invalid request" in shop.server.log, "gunicorn complains")
        assert "HIDDEN" not in shop.server.log

    def test_callers_that_break_off_break_nothing(self, shop):
        body, headers = signed_order("cut-2")
        whole = raw_request("POST", "/appcharge/demo/orders", headers, body)
        chunked = whole[: -len(body)].replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
        unfinished = chunked + b"%x\r\n%s\r\n" % (len(body), body)
        assert not exchange(shop.server, unfinished).startswith(b"HTTP/1.1 200 ")

        for cut in (
            whole[:-10],
            unfinished,
            whole[:40],
            b"\x00" * 100,
            b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        ):
            for _ in range(10):
                with shop.server.connected() as connection:
                    connection.sendall(cut)
                    # A reset instead of a good-bye: the server's next word meets nobody.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: shop.server.connections_in_hand() == 0, "the server is done with them", 20)
        assert credited(shop.installation, "cut-2") == 0
        assert exchange(shop.server, unfinished + b"0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert credited(shop.installation, "cut-2") == 1
        assert "Traceback" not in shop.server.log

    def test_a_caller_that_hangs_up_before_the_answer_is_credited_all_the_same(self, shop):
        body, headers = signed_order("hung-up")
        with held("lock", shop.installation.settings.home), shop.server.connected() as connection:
            connection.sendall(raw_request("POST", "/appcharge/demo/orders", headers, body))
            until(lambda: shop.server.connections_in_hand() >= 1, "a worker has the order in hand", 4)
        until(lambda: credited(shop.installation, "hung-up") == 1, "the order is credited", 5)
        assert post_order(shop.server, "hung-up").status == 200
        assert credited(shop.installation, "hung-up") == 1

    def test_one_connection_carries_many_orders(self, shop):
        connection = http.client.HTTPConnection("127.0.0.1", shop.server.port, timeout=10)
        with contextlib.closing(connection):
            for number in range(20):
                body, headers = signed_order(f"kept-{number}")
                for key in (MAIN_KEY, "another-key"):
                    headers = appcharge_headers(body, key=key)
                    connection.request("POST", "/appcharge/demo/orders", body, headers)
                    response = connection.getresponse()
                    response.read()
                    assert response.status == (200 if key == MAIN_KEY else 401)


def raw_request(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def exchange(server: Server, request: bytes) -> bytes:
    """Everything that comes back for some bytes after which the caller has nothing more to say."""
    with server.connected() as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


class GameServer(FakeServer):
    """A studio's own server. ``players`` says how it answers about each; everyone else is unknown."""

    def __init__(self) -> None:
        super().__init__()
        self.players: dict[str, int | Callable[[Handler], None]] = {}

    @property
    def url(self) -> str:
        return f"{super().url}/players?shard=3"

    def reply(self, request: Request) -> Reply:
        answer = self.players.get(request.query.get("player_id", ""), 404)
        return answer if callable(answer) else (answer, {})

    def times_asked(self, player_id: str) -> int:
        return sum(request.query["player_id"] == player_id for request in self.requests)


# Never silent for long, and done too late.
drip = raw(b"HTTP/1.1 200 OK\r\nX-Slow: ", *[b"z", 0.25] * 24, b"\r\nContent-Length: 0\r\n\r\n", None)


def endless_body(handler: Handler) -> None:
    raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{")(handler)
    while not handler.fake.is_closing.wait(0.01):
        handler.wfile.write(b" " * 10_000)


@pytest.fixture(scope="module")
def game_server() -> Iterator[GameServer]:
    with GameServer() as game_server:
        yield game_server


@pytest.fixture(scope="module")
def curious(shop: Shop, game_server: GameServer) -> Studio:
    """A second game of the shop, which asks its server about players it does not know."""
    curious = Studio(shop.installation, "curious")
    curious.secret("appcharge.main_key", MAIN_KEY)
    curious.secret("appcharge.publisher_token", "test-publisher-token")
    curious.secret("playtem.secret", PLAYTEM_SECRET)
    curious.secret("game.lookup_key", "the-lookup-key")
    curious.item("coins", "gems")
    curious.player("alice")
    curious.config("players.unknown", "lookup")
    curious.config("players.lookup_url", game_server.url)
    return curious


@pytest.fixture
def report(shop: Shop, curious: Studio) -> Callable[..., Answer]:
    def report(order_id: str, player: str) -> Answer:
        return post_order(shop.server, order_id, game="curious", playerId=player)

    return report


class TestPlayerLookup:
    def test_who_exists_is_credited_and_who_does_not_is_refused(self, shop, curious, game_server, report):
        game_server.players["carol"] = 200

        assert report("l-1", "carol").status == 200
        assert credited(shop.installation, "l-1") == 1
        answer = report("l-2", "mallory")
        assert (answer.status, answer.json["publisherErrorMessage"]) == (400, "Unknown player")
        assert credited(shop.installation, "l-2") == 0
        path, headers = game_server.requests[0].target, game_server.requests[0].headers
        assert path == "/players?shard=3&player_id=carol"
        assert headers["authorization"] == "Bearer the-lookup-key"

    def test_playtem_hears_the_same_in_its_dialect(self, shop, curious, game_server):
        game_server.players |= {"dave": 200, "broken-dave": 500}

        def credit(transaction_id: str, player: str) -> Answer:
            return shop.server.get(credit_path(transaction_id, game="curious", UserId=player))

        assert (credit("l-tx-1", "dave").status, credited(shop.installation, "l-tx-1")) == (200, 1)
        answer = credit("l-tx-2", "mallory")
        assert (answer.status, answer.json["ErrorCode"]) == (500, 408)
        assert is_playtems_own_trouble(credit("l-tx-3", "broken-dave"))
        game_server.players["broken-dave"] = 200
        assert (credit("l-tx-3", "broken-dave").status, credited(shop.installation, "l-tx-3")) == (200, 1)

    @pytest.mark.parametrize(
        "trouble",
        [
            *(204, 301, 400, 401, 403, 410, 429, 500, 503),
            *(silence, drip, nonsense, raw(None), status(302, Location="/players?player_id=known")),
        ],
    )
    def test_anything_else_is_our_own_trouble_and_the_retry_credits(self, shop, game_server, report, trouble):
        name = trouble if isinstance(trouble, int) else f"{id(trouble):x}"
        player, order_id = f"troubled-{name}", f"l-{name}"
        game_server.players["known"] = 200
        game_server.players[player] = trouble

        answer = report(order_id, player)

        assert is_own_trouble(answer), answer
        assert answer.seconds < 5
        assert credited(shop.installation, order_id) == 0
        assert game_server.times_asked(player) == 1  # and nobody was asked instead
        game_server.players[player] = 200
        assert report(order_id, player).status == 200
        assert credited(shop.installation, order_id) == 1

    def test_a_game_server_that_is_down_is_our_own_trouble(self, shop, curious, game_server, report):
        game_server.players["erin"] = 200
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            port = nobody.getsockname()[1]
        curious.config("players.lookup_url", f"http://127.0.0.1:{port}/players")
        try:
            assert is_own_trouble(report("l-down", "erin"))
        finally:
            curious.config("players.lookup_url", game_server.url)
        assert credited(shop.installation, "l-down") == 0
        assert report("l-down", "erin").status == 200
        assert credited(shop.installation, "l-down") == 1

    def test_nobody_is_credited_on_the_answer_to_another_call(self, shop, curious, game_server, report):
        def answer(request: Request) -> Reply:
            found = b"HTTP/1.1 200 OK" if "=known" in request.target else b"HTTP/1.1 404 Not Found"
            hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
            return raw(hints, 0.02, found + b"\r\nContent-Length: 2\r\n\r\n{}", ok(b"{}"))

        with FakeServer(answer) as odd:
            curious.config("players.lookup_url", f"{odd.url}/players")
            try:
                for number in range(3):
                    assert report(f"l-known-{number}", f"known-{number}").status == 200
                    assert report(f"l-nobody-{number}", f"nobody-{number}").status == 400
            finally:
                curious.config("players.lookup_url", game_server.url)

        assert [credited(shop.installation, f"l-known-{number}") for number in range(3)] == [1] * 3
        assert [credited(shop.installation, f"l-nobody-{number}") for number in range(3)] == [0] * 3

    def test_only_the_status_of_the_answer_matters(self, shop, game_server, report):
        game_server.players["verbose"] = endless_body

        answer = report("l-verbose", "verbose")

        assert answer.status == 200
        assert answer.seconds < 5

    def test_a_slow_answer_keeps_nobody_else_waiting(self, shop, game_server, report):
        game_server.players["slow"] = silence

        # As many as one process lets wait for one server: they may all have come to the same.
        calls = Underway(*(lambda number=number: report(f"l-slow-{number}", "slow") for number in range(3)))
        until(lambda: game_server.times_asked("slow") == 3, "three lookups are under way", 4)
        answers = [report(f"l-quick-{number}", "alice") for number in range(8)]

        assert calls.are_all()
        assert [answer.status for answer in answers] == [200] * 8
        assert all(map(is_own_trouble, calls.results()))

    @pytest.mark.parametrize("player", ["ünï cödé", "a&admin=1", "100%", "a/b?c#d", "x+y=z", "\"'<>;", "😀", "../up"])
    def test_a_strange_id_arrives_whole(self, shop, game_server, report, player):
        game_server.players[player] = 200

        assert report(f"l-strange-{player}", player).status == 200
        path = game_server.requests[-1].target
        assert path == f"/players?shard=3&player_id={quote(player, safe='')}"
        assert parse_qs(urlsplit(path).query) == {"shard": ["3"], "player_id": [player]}

    def test_a_duplicate_asks_nobody(self, shop, game_server, report):
        game_server.players["frank"] = 200
        first = report("l-dup", "frank")
        game_server.players["frank"] = 404  # he has left since

        answers = together(*(lambda: report("l-dup", "frank") for _ in range(8)))

        assert {(answer.status, answer.body) for answer in answers} == {(200, first.body)}
        assert game_server.times_asked("frank") == 1
        assert credited(shop.installation, "l-dup") == 1

    def test_a_registered_player_is_not_asked_for(self, game_server, report):
        assert report("l-alice", "alice").status == 200
        assert game_server.times_asked("alice") == 0

    def test_the_lookup_key_reaches_no_log(self, shop, game_server, report):
        report("l-broken", "mallory")
        assert "the-lookup-key" not in shop.server.log
