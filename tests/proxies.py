"""Caddy, nginx and HAProxy in front of servers, each with the file of ``deploy/`` as it is, and who calls over https.

Only what concerns this machine is changed: ports, folders, the certificate, and where the server listens.
"""

import http.client
import json
import os
import pwd
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.http import certificate, closed_port
from tests.servers import CALL_SECONDS, ROOT, end_with_parent, needs, until

START_SECONDS = 20
NAMES = ("caddy", "nginx")


class Caller:
    """Someone who calls, over TLS when there is a certificate to trust, else in the clear."""

    def __init__(self, port: int, root_certificate: Path | None = None) -> None:
        self.port = port
        self.tls = None if root_certificate is None else ssl.create_default_context(cafile=root_certificate)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = CALL_SECONDS,
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One call over a connection of its own; a body that is not bytes is sent in chunks."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=timeout)
        if self.tls is not None:
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=timeout, context=self.tls)
        try:
            is_chunked = body is not None and not isinstance(body, bytes)
            connection.request(method, path, body, dict(headers or {}), encode_chunked=is_chunked)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A bare connection, for what no HTTP library would send."""
        connection = socket.create_connection(("localhost", self.port), timeout=CALL_SECONDS)
        if self.tls is None:
            return connection
        return self.tls.wrap_socket(connection, server_hostname="localhost", suppress_ragged_eofs=True)

    def send(self, *pieces: bytes) -> bytes:
        """Send pieces until they end or are no longer taken; returns what was answered, up to the end."""
        with self.connect() as connection:
            with suppress(OSError):
                for piece in pieces:
                    connection.sendall(piece)
            answer = b""
            with suppress(OSError):
                while piece := connection.recv(65536):
                    answer += piece
            return answer

    def is_connected(self) -> bool:
        try:
            self.connect().close()
        except OSError:
            return False
        return True


@dataclass
class Proxy:
    caller: Caller
    plain_port: int | None  # where it answers without TLS
    logs: Callable[[], str]  # everything it has written


@contextmanager
def proxy(name: str, folder: Path, upstream: int | Path) -> Iterator[Proxy]:
    """One of :data:`NAMES`, which passes calls on to a port of this machine or to a Unix socket."""
    with (caddy if name == "caddy" else nginx)(folder, upstream) as running:
        yield running


@contextmanager
def caddy(folder: Path, upstream: int | Path) -> Iterator[Proxy]:
    """In the configuration that Caddy itself makes of the file: no admin port, no listener on port 80, and its own
    authority stays out of this machine's trust store.
    """
    program = needs("caddy")
    port = closed_port()
    environment = os.environ | {
        "COINSLOT_DOMAIN": f"localhost:{port}",
        "COINSLOT_UPSTREAM": f"127.0.0.1:{upstream}" if isinstance(upstream, int) else f"unix/{upstream}",
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    version = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, re.findall(r"[0-9]+", version)[:2])) >= (2, 7):
        environment["COINSLOT_BUFFERING"] = "request_buffers 18MB"
    config = json.loads(adapted(environment).stdout)
    config["admin"] = {"disabled": True, "config": {"persist": False}}
    config["apps"]["pki"] = {"certificate_authorities": {"local": {"install_trust": False}}}
    config["apps"]["http"]["servers"]["srv0"]["automatic_https"] = {"disable_redirects": True}
    (folder / "caddy.json").write_text(json.dumps(config))

    log = folder / "caddy.log"
    with _running([program, "run", "--config", str(folder / "caddy.json")], log, environment):
        until(lambda: "certificate obtained successfully" in log.read_text(), "Caddy has started", START_SECONDS)
        caller = Caller(port, folder / "data/caddy/pki/authorities/local/root.crt")
        until(caller.is_connected, "Caddy uses its certificate", START_SECONDS)
        yield Proxy(caller, None, log.read_text)


def adapted(environment: Mapping[str, str], check: bool = True) -> subprocess.CompletedProcess[str]:
    """What Caddy makes of our Caddyfile."""
    adapt = [needs("caddy"), "adapt", "--config", str(ROOT / "deploy/Caddyfile"), "--adapter", "caddyfile"]
    return subprocess.run(adapt, env=environment, capture_output=True, text=True, check=check)


@contextmanager
def nginx(folder: Path, upstream: int | Path) -> Iterator[Proxy]:
    program = needs("nginx")
    port, plain_port = closed_port(), closed_port()
    trusted = certificate(folder, "localhost", "127.0.0.1")
    place = f"127.0.0.1:{upstream}" if isinstance(upstream, int) else f"unix:{upstream}"
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in _NGINX_TEMPORARY)
    config = (ROOT / "deploy/nginx.conf").read_text()
    for is_there, instead in {
        "user www-data;": f"user {pwd.getpwuid(os.geteuid()).pw_name};",
        "/run/nginx.pid": str(folder / "nginx.pid"),
        "/var/log/nginx/": f"{folder}/",
        "http {": f"http {{ {temporary}",
        "server unix:/run/coinslot/coinslot.sock": f"server {place}",
        "listen 80 default_server": f"listen 127.0.0.1:{plain_port} default_server",
        "listen [::]:80 default_server;": "",
        "listen 443 ssl default_server": f"listen 127.0.0.1:{port} ssl default_server",
        "listen [::]:443 ssl default_server;": "",
        "/etc/letsencrypt/live/pay.example.com/fullchain.pem": str(trusted),
        "/etc/letsencrypt/live/pay.example.com/privkey.pem": str(trusted),
    }.items():
        assert is_there in config, is_there
        config = config.replace(is_there, instead)
    (folder / "nginx.conf").write_text(config)

    own = folder / "nginx.out"
    with _running([program, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-g", "daemon off;"], own, os.environ):
        caller = Caller(port, trusted)
        until(caller.is_connected, f"nginx answers: {own.read_text()}", START_SECONDS)
        logs = (own, folder / "error.log", folder / "coinslot.log")
        yield Proxy(caller, plain_port, lambda: "".join(log.read_text() for log in logs))


@contextmanager
def haproxy(folder: Path, *ports: int) -> Iterator[Proxy]:
    """In front of servers at two ports of this machine."""
    program = needs("haproxy")
    port = closed_port()
    trusted = certificate(folder, "localhost", "127.0.0.1")
    config = (ROOT / "deploy/haproxy.cfg").read_text()
    for is_there, instead in {
        "bind :443 ": f"bind 127.0.0.1:{port} ",
        "bind :80\n": "\n",
        "/etc/haproxy/coinslot.pem": str(trusted),
        "10.0.0.1:8000": f"127.0.0.1:{ports[0]}",
        "10.0.0.2:8000": f"127.0.0.1:{ports[1]}",
    }.items():
        assert is_there in config, is_there
        config = config.replace(is_there, instead)
    (folder / "haproxy.cfg").write_text(config)

    log = folder / "haproxy.log"
    with _running([program, "-db", "-f", str(folder / "haproxy.cfg")], log, os.environ):
        caller = Caller(port, trusted)
        until(lambda: caller.is_connected() or "ALERT" in log.read_text(), "HAProxy answers", START_SECONDS)
        assert "ALERT" not in log.read_text(), log.read_text()
        yield Proxy(caller, None, log.read_text)


_NGINX_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextmanager
def _running(command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A program that ends with the block, with its children."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, preexec_fn=end_with_parent)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
