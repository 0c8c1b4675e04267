"""/readyz on PostgreSQL, as a load balancer asks it: not ready while credits fail, and ready by itself afterwards."""

import http.client
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from app import create_app
from coinslot.access.vault import MasterKey
from coinslot.store.writer import WAIT_SECONDS
from tests import postgres
from tests.conftest import furnish
from tests.server.test_server import post_order, signed_order
from tests.servers import Answer, Server, until

pytestmark = pytest.mark.long

A_FEW_SECONDS = WAIT_SECONDS + 3


class Gate:
    """The database server, as its administrator."""

    def __init__(self, url: str) -> None:
        self.url, self.name = url, postgres.database_name(url)

    def run(self, *statements: str, database: str = "postgres") -> None:
        import psycopg

        with psycopg.connect(postgres.with_database(postgres.superuser(self.url), database), autocommit=True) as raw:
            for statement in statements:
                raw.execute(statement)

    def close(self) -> None:
        """Nobody is let in, and who is in is put out."""
        self.run(
            f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS false',
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'",
        )

    def open(self) -> None:
        self.run(f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS true')


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    postgres.needs_postgres()
    with postgres.fresh_database() as url:
        yield Gate(url)


@pytest.fixture(scope="module")
def server(gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("ready") / "home"
    environment = {"COINSLOT_DATABASE": gate.url, "COINSLOT_MASTER_KEY": MasterKey.generate().text()}
    installation = create_app({"COINSLOT_HOME": str(home), **environment}).extensions["coinslot"]
    installation.prepare()
    furnish(installation)
    installation.database.close()
    with Server(home, "-w", "1", **environment) as server:
        yield server
        assert "Traceback" not in server.log


def asked(server: Server) -> Answer:
    answer = server.get("/readyz", timeout=60)
    print(answer.status, answer.json, round(answer.seconds, 2))
    return answer


def is_ready(server: Server) -> bool:
    return asked(server).status == 200


def test_it_is_not_ready_while_nobody_is_let_in_and_ready_by_itself_afterwards(gate, server):
    until(lambda: asked(server).json["checks"]["relay"] == "ok", "a relay runs")
    assert asked(server).json["checks"] == {"database": "ok", "key": "ok", "disk": "not needed", "relay": "ok"}

    gate.close()
    try:
        answer = asked(server)
        assert answer.status == 503
        assert answer.json["checks"]["database"] == "not writable"
        assert answer.seconds < A_FEW_SECONDS
    finally:
        gate.open()

    began = time.monotonic()
    until(lambda: is_ready(server), "it is ready again", 30)
    print(f"ready {time.monotonic() - began:.1f} s after the database is back")
    assert post_order(server, "meanwhile").status == 200


def test_it_is_not_ready_while_nobody_can_write(gate, server):
    import psycopg

    from coinslot.store.postgres.writer import LOCK

    until(lambda: is_ready(server), "it is ready")
    with psycopg.connect(postgres.superuser(gate.url), autocommit=True) as other:
        other.execute(f"SELECT pg_advisory_lock({LOCK})")
        answer = asked(server)
        assert answer.status == 503
        assert answer.seconds < A_FEW_SECONDS
    until(lambda: is_ready(server), "it is ready again", 30)


def test_on_sigterm_calls_in_hand_are_answered_and_new_ones_go_elsewhere(gate, server):
    """What a load balancer sees: gunicorn closes its port at once, so the next check of it fails to connect."""
    body, headers = signed_order("in-hand")
    with server.connected() as slow, closing(http.client.HTTPConnection("127.0.0.1", server.port)) as kept:
        kept.request("GET", "/readyz")
        assert kept.getresponse().read()
        head = "".join(f"{name}: {value}\r\n" for name, value in {**headers, "Content-Length": len(body)}.items())
        slow.sendall(f"POST /appcharge/demo/orders HTTP/1.1\r\nHost: a\r\n{head}\r\n".encode() + body[:10])
        until(lambda: server.connections_in_hand() >= 2, "the call is in hand")

        server.terminate()
        until(lambda: _fails(server), "new connections are refused")
        slow.sendall(body[10:])

        assert b"200" in slow.recv(4096).split(b"\r\n")[0]
    assert server.wait() == 0
    assert "Traceback" not in server.log
    server.start()
    assert post_order(server, "in-hand").status == 200


def _fails(server: Server) -> Any:
    try:
        server.get("/readyz", timeout=2)
    except (OSError, http.client.HTTPException) as error:
        return error
    return None
