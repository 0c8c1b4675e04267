"""What stands around Coinslot in production, really run: Caddy with ``deploy/Caddyfile``, gunicorn, the unit."""

import http.client
import json
import os
import re
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from coinslot.access import keyring
from coinslot.games import games, registry
from handlers.appcharge.signature import sign
from handlers.kit.problems import LARGEST_BULK_BODY

ROOT = Path(__file__).resolve().parents[2]
MAIN_KEY = "deploy-main-key-0123456789"
TOKEN = "deploy-publisher-token"
START_SECONDS = 20


def needs(program: str) -> str:
    """The program's path. Whoever has not got it skips the test; the checks must have it."""
    path = shutil.which(program)
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")
    return path


class Caller:
    """Someone who calls, over TLS when there is a certificate to trust, else in the clear."""

    def __init__(self, port: int, root_certificate: Path | None = None) -> None:
        self.port = port
        self._tls = None if root_certificate is None else ssl.create_default_context(cafile=root_certificate)

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        host = ("localhost", self.port)
        connection = (
            http.client.HTTPConnection(*host, timeout=START_SECONDS)
            if self._tls is None
            else http.client.HTTPSConnection(*host, timeout=START_SECONDS, context=self._tls)
        )
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def report(self, order_id: str, **headers: str) -> tuple[int, dict[str, Any]]:
        body = json.dumps({"orderId": order_id, "playerId": "alice", "products": [{"sku": "coins", "amount": 5}]})
        signature = sign(body.encode(), MAIN_KEY.encode(), str(int(time.time() * 1000)))
        status, _, answer = self.ask(
            "POST",
            "/appcharge/demo/orders",
            body.encode(),
            content_type="application/json",
            x_publisher_token=TOKEN,
            signature=signature,
            **headers,
        )
        return status, json.loads(answer)


class Home:
    """An installation's folder with one game in it, changed from outside as commands do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.installation = create_app({"COINSLOT_HOME": str(path)}).extensions["coinslot"]
        self.installation.prepare()
        self.installation.database.write_here(self._set_up)

    def _set_up(self, tx: sqlite3.Connection) -> None:
        self.api_token = games.add(tx, "demo", "Demo", "test")
        for name, value in (("appcharge.main_key", MAIN_KEY), ("appcharge.publisher_token", TOKEN)):
            keyring.put(tx, self.installation.vault, games.find(tx, "demo"), name, value, "test")
        game_id = games.find(tx, "demo")["id"]
        registry.register_player(tx, game_id, "alice")
        registry.put_item(tx, game_id, "coins", None)

    def allow(self, networks: str) -> None:
        self.installation.database.write_here(
            lambda tx: games.set_setting(
                tx, self.installation.catalogue, "demo", "allowlist.appcharge", networks, "test"
            )
        )

    def credited(self, order_id: str) -> int:
        connection = sqlite3.connect(self.path / "coinslot.db")
        try:
            (count,) = connection.execute(
                """SELECT count(*) FROM transactions t JOIN grants g ON g.transaction_id = t.id
                   WHERE t.external_id = :id""",
                {"id": order_id},
            ).fetchone()
        finally:
            connection.close()
        return int(count)


@contextmanager
def running(command: list[str], log: Path, ready: str, **environment: str) -> Iterator["re.Match[str]"]:
    """A program, from the line on which it says it is ready until it is stopped."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COINSLOT_", "WEB_CONCURRENCY"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=kept | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while (found := re.search(ready, log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} does not start: {log.read_text()}")
            time.sleep(0.02)
        yield found
    finally:
        process.terminate()
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def gunicorn(home: Home, folder: Path, proxies: int) -> Iterator[int]:
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "wsgi:app"]
    environment = {"COINSLOT_HOME": str(home.path), "COINSLOT_TRUSTED_PROXIES": str(proxies)}
    ready = r"Listening at: http://127\.0\.0\.1:(\d+)"
    with running(command, folder / "gunicorn.log", ready, **environment) as found:
        yield int(found[1])


@contextmanager
def caddy(folder: Path, upstream: int) -> Iterator[tuple[Caller, Path]]:
    """Caddy with our Caddyfile as it is; yields a caller who trusts it, and Caddy's log.

    Only what the file leaves to Caddy's defaults is changed, in the configuration Caddy itself made of the file: no
    admin port, no listener on port 80, and its own authority stays out of this machine's trust store.
    """
    program = needs("caddy")
    port = free_port()
    environment = {
        "COINSLOT_DOMAIN": f"localhost:{port}",
        "COINSLOT_UPSTREAM": f"127.0.0.1:{upstream}",
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    adapt = [program, "adapt", "--config", str(ROOT / "deploy/Caddyfile"), "--adapter", "caddyfile"]
    version = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, re.findall(r"[0-9]+", version)[:2])) >= (2, 7):
        environment["COINSLOT_BUFFERING"] = "request_buffers 17MiB"
    adapted = subprocess.run(adapt, env=os.environ | environment, capture_output=True, check=True)
    config = json.loads(adapted.stdout)
    config["admin"] = {"disabled": True, "config": {"persist": False}}
    config["apps"]["pki"] = {"certificate_authorities": {"local": {"install_trust": False}}}
    config["apps"]["http"]["servers"]["srv0"]["automatic_https"] = {"disable_redirects": True}
    (folder / "caddy.json").write_text(json.dumps(config))

    log = folder / "caddy.log"
    run = [program, "run", "--config", str(folder / "caddy.json")]
    with running(run, log, r"certificate obtained successfully", **environment):
        yield Caller(port, folder / "data/caddy/pki/authorities/local/root.crt"), log


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("deploy") / "home")
    yield home
    home.installation.database.close()


@pytest.fixture(scope="module")
def partner(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A partner who calls over https, through Caddy, as in production."""
    folder = tmp_path_factory.mktemp("caddy")
    with gunicorn(home, folder, proxies=1) as upstream, caddy(folder, upstream) as (caller, _):
        yield caller


@pytest.fixture
def open_to_all(home: Home) -> Iterator[None]:
    home.allow("")
    yield
    home.allow("")


def test_the_process_answers_through_caddy_and_says_https_only(partner: Caller) -> None:
    status, headers, body = partner.ask("GET", "/healthz")

    assert (status, json.loads(body)) == (200, {"status": "ok"})
    assert headers["Strict-Transport-Security"].startswith("max-age=")


def test_an_order_through_caddy_is_credited_once(partner: Caller, home: Home, open_to_all: None) -> None:
    first, second = partner.report("order-1"), partner.report("order-1")

    assert first[0] == second[0] == 200
    assert first[1]["publisherPurchaseId"] == second[1]["publisherPurchaseId"]
    assert home.credited("order-1") == 1


@pytest.mark.parametrize("claimed", ["203.0.113.9", "203.0.113.9, 203.0.113.9", ""])
def test_an_address_the_caller_invents_opens_nothing(
    partner: Caller, home: Home, open_to_all: None, claimed: str
) -> None:
    home.allow("203.0.113.0/24")

    status, _ = partner.report("order-2", x_forwarded_for=claimed)

    assert status == 403
    assert home.credited("order-2") == 0


def test_the_address_caddy_saw_is_the_one_that_counts(partner: Caller, home: Home, open_to_all: None) -> None:
    home.allow("127.0.0.0/8,::1")

    status, _ = partner.report("order-3", x_forwarded_for="203.0.113.9")

    assert status == 200
    assert home.credited("order-3") == 1


def test_a_long_query_reaches_the_app(partner: Caller) -> None:
    long = partner.ask("GET", f"/playtem/demo/credit?payload={'A' * 6000}")
    short = partner.ask("GET", "/playtem/demo/credit?payload=AAAA")

    assert long[0] == short[0]
    assert long[2] == short[2]


def test_the_largest_body_we_take_gets_through_caddy(partner: Caller, home: Home) -> None:
    players = json.dumps({"players": [{"player_id": "bob"}]}).encode()
    authorization = f"Bearer {home.api_token}"

    status, _, body = partner.ask(
        "POST",
        "/game/v1/players",
        players.ljust(LARGEST_BULK_BODY),
        content_type="application/json",
        authorization=authorization,
    )

    assert status == 200, body
    assert partner.ask("GET", "/game/v1/players/bob", authorization=authorization)[0] == 200


def test_slow_senders_keep_no_order_waiting(partner: Caller, home: Home, open_to_all: None) -> None:
    """More of them than there are threads, each about to send an order, and nothing more after its first bytes."""
    assert partner._tls is not None
    began = (
        b"POST /appcharge/demo/orders HTTP/1.1\r\nHost: localhost:%d\r\nContent-Length: 1000\r\n\r\n{" % partner.port
    )
    slow = []
    try:
        for _ in range(60):
            connection = socket.create_connection(("localhost", partner.port), timeout=START_SECONDS)
            slow.append(partner._tls.wrap_socket(connection, server_hostname="localhost"))
            slow[-1].sendall(began)
        took = []
        for number in range(20):
            for each in slow:
                each.sendall(b" ")
            began_at = time.monotonic()
            status, _ = partner.report(f"beside-{number}")
            took.append(time.monotonic() - began_at)
            assert status == 200
        assert max(took) < 5  # without a buffer they wait until Caddy lets the slow ones go
    finally:
        for each in slow:
            each.close()


def test_another_caddy_is_told_its_own_word_for_buffering() -> None:
    """The file is one for all versions of Caddy; the one that is installed knows one of the two words."""
    adapt = [needs("caddy"), "adapt", "--config", str(ROOT / "deploy/Caddyfile"), "--adapter", "caddyfile"]
    outcomes = {}
    for line in ("buffer_requests", "request_buffers 17MiB"):
        environment = os.environ | {"COINSLOT_DOMAIN": "localhost", "COINSLOT_BUFFERING": line}
        done = subprocess.run(adapt, env=environment, capture_output=True, text=True, check=False)
        outcomes[line] = "buffer" in done.stdout
        assert outcomes[line] or line.split()[0] in done.stderr, done.stderr
    assert list(outcomes.values()).count(True) >= 1


def test_caddy_logs_a_failing_upstream_without_query_and_headers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = silent.accept()
                except OSError:
                    return
                connection.recv(65536)
                connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        with caddy(tmp_path, silent.getsockname()[1]) as (caller, log):
            status, _, _ = caller.ask(
                "POST", "/playtem/credit?payload=PURCHASE", b"{}", x_publisher_token="TOKEN", signature="SIGNATURE"
            )
        silent.shutdown(socket.SHUT_RDWR)
    written = log.read_text()

    assert status == 502
    assert "/playtem/credit" in written  # it was logged, so the next lines say something
    assert not re.search("PURCHASE|TOKEN|SIGNATURE", written)


def test_without_a_proxy_the_socket_says_who_calls(home: Home, open_to_all: None, tmp_path: Path) -> None:
    with gunicorn(home, tmp_path, proxies=0) as port:
        direct = Caller(port)
        home.allow("203.0.113.0/24")
        stranger, _ = direct.report("order-4", x_forwarded_for="203.0.113.9")
        home.allow("127.0.0.0/8")
        neighbour, _ = direct.report("order-4", x_forwarded_for="203.0.113.9")

    assert (stranger, neighbour) == (403, 200)
    assert home.credited("order-4") == 1


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:  # not a program Coinslot needs: a container has no systemd
        pytest.skip("systemd-analyze is not installed")
    unit = (ROOT / "deploy/coinslot.service").read_text()
    copy = tmp_path / "coinslot.service"
    # The command is not installed on the machine that checks; everything else is judged as it stands.
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", unit))

    verified = subprocess.run([program, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)

    complaints = [line for line in verified.stderr.splitlines() if "coinslot.service" in line]
    assert complaints == []
    assert verified.returncode == 0, verified.stderr


def test_the_unit_waits_longer_for_gunicorn_than_gunicorn_for_its_workers() -> None:
    unit = (ROOT / "deploy/coinslot.service").read_text()
    gunicorn_conf = (ROOT / "gunicorn.conf.py").read_text()

    patience = int(re.findall(r"(?m)^TimeoutStopSec=(\d+)$", unit)[0])

    assert patience > int(re.findall(r"(?m)^graceful_timeout = (\d+)", gunicorn_conf)[0])
