"""What stands around Coinslot in production, really run: Caddy with ``deploy/Caddyfile``, gunicorn, the unit."""

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from handlers.kit.problems import LARGEST_BULK_BODY
from tests.conftest import Studio, furnished
from tests.fakes.http import FakeServer, closed_port, raw
from tests.server.test_server import bearer, credited, signed_order
from tests.servers import ROOT, Server, until

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
        self.tls = None if root_certificate is None else ssl.create_default_context(cafile=root_certificate)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("localhost", self.port, timeout=START_SECONDS)
        if self.tls is not None:
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=START_SECONDS, context=self.tls)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def is_answered(self) -> bool:
        try:
            self.ask("GET", "/healthz")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def report(self, order_id: str, forwarded: str | None = None) -> tuple[int, dict[str, Any]]:
        body, headers = signed_order(order_id)
        if forwarded is not None:
            headers["X-Forwarded-For"] = forwarded
        status, _, answer = self.ask("POST", "/appcharge/demo/orders", body, headers)
        return status, json.loads(answer)


@contextmanager
def caddy(folder: Path, upstream: int) -> Iterator[tuple[Caller, Path]]:
    """Caddy with our Caddyfile as it is; yields a caller who trusts it, and Caddy's log.

    Only what the file leaves to Caddy's defaults is changed, in the configuration Caddy itself made of the file: no
    admin port, no listener on port 80, and its own authority stays out of this machine's trust store.
    """
    program = needs("caddy")
    port = closed_port()
    environment = os.environ | {
        "COINSLOT_DOMAIN": f"localhost:{port}",
        "COINSLOT_UPSTREAM": f"127.0.0.1:{upstream}",
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    version = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, re.findall(r"[0-9]+", version)[:2])) >= (2, 7):
        environment["COINSLOT_BUFFERING"] = "request_buffers 17MiB"
    config = json.loads(adapted(environment).stdout)
    config["admin"] = {"disabled": True, "config": {"persist": False}}
    config["apps"]["pki"] = {"certificate_authorities": {"local": {"install_trust": False}}}
    config["apps"]["http"]["servers"]["srv0"]["automatic_https"] = {"disable_redirects": True}
    (folder / "caddy.json").write_text(json.dumps(config))

    log = folder / "caddy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "run", "--config", str(folder / "caddy.json")], env=environment, stdout=output, stderr=output
        )
    try:
        until(lambda: "certificate obtained successfully" in log.read_text(), "Caddy has started", START_SECONDS)
        caller = Caller(port, folder / "data/caddy/pki/authorities/local/root.crt")
        until(caller.is_answered, "Caddy uses its certificate", START_SECONDS)
        yield caller, log
    finally:
        process.kill()
        process.wait()


def adapted(environment: dict[str, str], check: bool = True) -> subprocess.CompletedProcess[str]:
    """What Caddy makes of our Caddyfile."""
    adapt = [needs("caddy"), "adapt", "--config", str(ROOT / "deploy/Caddyfile"), "--adapter", "caddyfile"]
    return subprocess.run(adapt, env=environment, capture_output=True, text=True, check=check)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A game in a folder, changed from outside as commands do."""
    installation, studio = furnished(tmp_path_factory.mktemp("deploy") / "home")
    yield studio
    installation.database.close()


@pytest.fixture(scope="module")
def partner(home: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A partner who calls over https, through Caddy, as in production."""
    folder = tmp_path_factory.mktemp("caddy")
    with ExitStack() as stack:
        server = stack.enter_context(Server(home.installation.settings.home, COINSLOT_TRUSTED_PROXIES="1"))
        caller, _ = stack.enter_context(caddy(folder, server.port))
        yield caller


@pytest.fixture
def open_to_all(home: Studio) -> Iterator[None]:
    home.config("allowlist.appcharge", "")
    yield
    home.config("allowlist.appcharge", "")


def test_the_process_answers_through_caddy_and_says_https_only(partner: Caller) -> None:
    status, headers, body = partner.ask("GET", "/healthz")

    assert (status, json.loads(body)) == (200, {"status": "ok"})
    assert headers["Strict-Transport-Security"].startswith("max-age=")


def test_an_order_through_caddy_is_credited_once(partner: Caller, home: Studio, open_to_all: None) -> None:
    first, second = partner.report("order-1"), partner.report("order-1")

    assert first[0] == second[0] == 200
    assert first[1]["publisherPurchaseId"] == second[1]["publisherPurchaseId"]
    assert credited(home.installation, "order-1") == 1


@pytest.mark.parametrize("claimed", ["203.0.113.9", "203.0.113.9, 203.0.113.9", ""])
def test_an_address_the_caller_invents_opens_nothing(
    partner: Caller, home: Studio, open_to_all: None, claimed: str
) -> None:
    home.config("allowlist.appcharge", "203.0.113.0/24")

    status, _ = partner.report("order-2", forwarded=claimed)

    assert status == 403
    assert credited(home.installation, "order-2") == 0


def test_the_address_caddy_saw_is_the_one_that_counts(partner: Caller, home: Studio, open_to_all: None) -> None:
    home.config("allowlist.appcharge", "127.0.0.0/8,::1")

    status, _ = partner.report("order-3", forwarded="203.0.113.9")

    assert status == 200
    assert credited(home.installation, "order-3") == 1


def test_a_long_query_reaches_the_app(partner: Caller) -> None:
    long = partner.ask("GET", f"/playtem/demo/credit?payload={'A' * 6000}")
    short = partner.ask("GET", "/playtem/demo/credit?payload=AAAA")

    assert long[0] == short[0]
    assert long[2] == short[2]


def test_the_largest_body_we_take_gets_through_caddy(partner: Caller, home: Studio) -> None:
    players = json.dumps({"players": [{"player_id": "bob"}]}).encode()

    status, _, body = partner.ask("POST", "/game/v1/players", players.ljust(LARGEST_BULK_BODY), bearer(home.token))

    assert status == 200, body
    assert partner.ask("GET", "/game/v1/players/bob", None, bearer(home.token))[0] == 200


def test_slow_senders_keep_no_order_waiting(partner: Caller, home: Studio, open_to_all: None) -> None:
    """More of them than there are threads, each about to send an order, and nothing more after its first bytes."""
    assert partner.tls is not None
    began = (
        b"POST /appcharge/demo/orders HTTP/1.1\r\nHost: localhost:%d\r\nContent-Length: 1000\r\n\r\n{" % partner.port
    )
    slow = []
    try:
        for _ in range(60):
            connection = socket.create_connection(("localhost", partner.port), timeout=START_SECONDS)
            slow.append(partner.tls.wrap_socket(connection, server_hostname="localhost"))
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
    outcomes = {}
    for line in ("buffer_requests", "request_buffers 17MiB"):
        done = adapted(os.environ | {"COINSLOT_DOMAIN": "localhost", "COINSLOT_BUFFERING": line}, check=False)
        outcomes[line] = "buffer" in done.stdout
        assert outcomes[line] or line.split()[0] in done.stderr, done.stderr
    assert list(outcomes.values()).count(True) >= 1


def test_caddy_logs_a_failing_upstream_without_query_and_headers(tmp_path: Path) -> None:
    with FakeServer(lambda _: raw(None)) as upstream, caddy(tmp_path, upstream.port) as (caller, log):
        secrets = {"x-publisher-token": "TOKEN", "signature": "SIGNATURE"}
        status, _, _ = caller.ask("POST", "/playtem/credit?payload=PURCHASE", b"{}", secrets)
    written = log.read_text()

    assert status == 502
    assert "/playtem/credit" in written  # it was logged, so the next lines say something
    assert not re.search("PURCHASE|TOKEN|SIGNATURE", written)


def test_without_a_proxy_the_socket_says_who_calls(home: Studio, open_to_all: None) -> None:
    with Server(home.installation.settings.home) as server:
        direct = Caller(server.port)
        home.config("allowlist.appcharge", "203.0.113.0/24")
        stranger, _ = direct.report("order-4", forwarded="203.0.113.9")
        home.config("allowlist.appcharge", "127.0.0.0/8")
        neighbour, _ = direct.report("order-4", forwarded="203.0.113.9")

    assert (stranger, neighbour) == (403, 200)
    assert credited(home.installation, "order-4") == 1


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
