"""Two servers with homes of their own, as on two machines, on one PostgreSQL database; and what came of their work."""

import base64
import http.client
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app import create_app
from coinslot.installation import Installation
from coinslot.ledger import chain
from coinslot.outbox import destinations
from tests.conftest import Studio, furnish
from tests.fakes.http import Receiver, closed_port
from tests.server.test_server import bearer, signed_order
from tests.servers import Server

PAUSE_SECONDS = 0.05
GIVE_UP_SECONDS = 60.0


@dataclass
class Pair:
    """The installation, its game, the game's server, and the two servers."""

    installation: Installation
    studio: Studio
    receiver: Receiver
    servers: tuple[Server, Server]

    def rows(self, sql: str) -> list[Any]:
        found: list[Any] = self.installation.database.read().execute(sql).fetchall()
        return found

    def feed_ids(self) -> list[int]:
        return [row["id"] for row in self.rows("SELECT id FROM grants ORDER BY id")]

    def credited(self) -> Counter[str]:
        """How many grants each order has."""
        sql = "SELECT t.external_id FROM transactions t JOIN grants g ON g.transaction_id = t.id"
        return Counter(row["external_id"] for row in self.rows(sql))

    def assert_sound(self) -> None:
        assert list(chain.verify(self.installation.database.read())) == []
        assert [row["last_id"] for row in self.rows("SELECT last_id FROM sequences WHERE name = 'grants'")] == [
            max(self.feed_ids())
        ]

    def owed(self) -> int:
        (row,) = self.rows("SELECT count(*) AS n FROM deliveries WHERE state <> 'delivered'")
        return int(row["n"])


@contextmanager
def two_servers(folder: Path, url: str, **environment: str) -> Iterator[Pair]:
    shared = {"COINSLOT_DATABASE": url, "COINSLOT_MASTER_KEY": base64.b64encode(os.urandom(32)).decode()} | environment
    installation: Installation = create_app({"COINSLOT_HOME": str(folder / "tools"), **shared}).extensions["coinslot"]
    installation.prepare()
    studio = furnish(installation)
    with Receiver() as receiver:
        installation.database.write_here(
            lambda tx: destinations.add(
                *(tx, installation.vault, "demo", "game", receiver.url), actor="test", formats=installation.formats
            )
        )
        with (
            Server(folder / "first", "-w", "1", listen=("-b", f"127.0.0.1:{closed_port()}"), **shared) as first,
            Server(folder / "second", "-w", "1", listen=("-b", f"127.0.0.1:{closed_port()}"), **shared) as second,
        ):
            yield Pair(installation, studio, receiver, (first, second))
    installation.database.close()


def report(server: Server, order_id: str) -> tuple[int, bytes]:
    """An order as a partner reports it: status 0 and nothing where there is no answer."""
    body, headers = signed_order(order_id)
    try:
        answer = server.post("/appcharge/demo/orders", body, headers)
    except (OSError, http.client.HTTPException):
        return 0, b""
    return answer.status, answer.body


@dataclass
class Poller:
    """A game that reads its feed from one server, by a cursor that moves on, while the block lasts."""

    server: Server
    token: str
    ids: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _is_over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Poller":
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Once there is nothing more."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        deadline = time.monotonic() + 4 * GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            is_over = self._is_over.is_set()
            if not self._turn() and is_over:
                return
            time.sleep(PAUSE_SECONDS)

    def _turn(self) -> bool:
        """Whether there may be more."""
        after = self.ids[-1] if self.ids else 0
        try:
            answer = self.server.get(f"/game/v1/grants?after={after}&limit=7", bearer(self.token))
        except (OSError, http.client.HTTPException):
            return self.server.port != 0  # a server that was killed is not waited for
        if answer.status != 200:
            return True
        found = [grant["id"] for grant in answer.json["grants"]]
        if found != sorted(found) or (found and found[0] <= after):
            self.wrong.append(f"after {after} came {found}")
        self.ids += found
        return bool(found)
