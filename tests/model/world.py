"""The real thing that the model is held against: gunicorn, the game's server, the commands, and what is on the disk."""

import http.client
import json
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from standardwebhooks import Webhook

from app import create_app
from coinslot.access.vault import MasterKey
from tests import databases
from tests.fakes.http import FakeServer, Reply, Request
from tests.model.calls import GAME, SECRETS, TOKEN, Call
from tests.model.model import Model
from tests.servers import Answer, Server, until

LOST = (OSError, http.client.HTTPException)  # a call that was not answered
SETTLE_SECONDS = 60.0
MOST_ROTATIONS = 100  # of the master key, in one world


class Game(FakeServer):
    """The game's server. While it is up it takes deliveries that the public package believes; else it answers 500."""

    def __init__(self) -> None:
        super().__init__()
        self.is_keeping_requests = False
        self.is_up = True
        self.secret = ""
        self.taken: dict[str, Any] = {}  # webhook id -> what it said
        self.wrong: list[str] = []

    def reply(self, request: Request) -> Reply:
        if not self.is_up:
            return 500, {}
        try:
            said = Webhook(self.secret).verify(request.body, dict(request.headers))
        except Exception as error:  # answered 500, so that it is tried again and remains visible as undelivered too
            self.wrong.append(f"a delivery cannot be believed: {error!r}")
            return 500, {}
        with self.mutex:
            if self.taken.setdefault(request.webhook_id, said["data"]) != said["data"]:
                self.wrong.append(f"delivery {request.webhook_id} said two things")
        return 200, {}


class World:
    """One installation in a folder. Use as a context manager; no process of it is left."""

    def __init__(self, folder: Path, model: Model) -> None:
        self.home = folder / "home"
        self.game = Game()
        environment = databases.environment(self.home)
        self._next_keys = iter(())
        if "COINSLOT_MASTER_KEY" in environment:  # the keys of all rotations, so that the server goes on
            keys = [environment["COINSLOT_MASTER_KEY"], *(MasterKey.generate().text() for _ in range(MOST_ROTATIONS))]
            environment["COINSLOT_MASTER_KEY"] = " ".join(keys)
            self._next_keys = iter(keys[1:])
        self.server = Server(self.home, **environment)
        self._app = create_app(environment)
        self._folder = folder
        self._token = ""
        self._model = model
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with self._open:
            self._open.enter_context(self.game)
            self._open.callback(lambda: self._app.extensions["coinslot"].database.close())
            self._set_up(self._model)
            self._open.enter_context(self.server)
            self._open = self._open.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _set_up(self, model: Model) -> None:
        self._token = json.loads(self.flask("game", "add", GAME, "--json").splitlines()[-1])["api_token"]
        self.flask("secret", "set", GAME, "appcharge.publisher_token", said=TOKEN)
        for partner, (key,) in model.keys.items():
            self.flask("secret", "set", GAME, SECRETS[partner], said=key)
        self.flask("config", "set", GAME, "refunds.revoke", "on")
        self.flask("player", "import", GAME, "-", said="\n".join(("player_id", *sorted(model.players))))
        self.flask("item", "import", GAME, "-", said="\n".join(("sku", *sorted(model.items))))
        added = self.flask("destination", "add", GAME, "game", self.game.url, "--retry", "1,1", "--timeout", "2")
        self.game.secret = next(word for word in added.split() if word.startswith("whsec_"))

    def flask(self, *words: str, said: str | None = None) -> str:
        """What a command prints; it must succeed. It runs in a process that is not the server's."""
        result = self._app.test_cli_runner().invoke(args=list(words), input=said)
        assert result.exit_code == 0, f"flask {' '.join(words)}: {result.output}"
        return result.stdout

    def rotate_master_key(self) -> None:
        """Where the key is a file, the command makes the new one."""
        self.flask("key", "rotate", said=next(self._next_keys, None))

    def rows(self, sql: str) -> list[dict[str, Any]]:
        return databases.rows(self.home, sql)

    def send(self, call: Call) -> Answer | None:
        """What the server answers to a partner; None when the call was cut off."""
        with suppress(*LOST):
            return self.server.call(call.method, call.path, call.body, call.headers)
        return None

    def ask(self, path: str, method: str = "GET", body: Mapping[str, Any] | None = None) -> Answer:
        """A call of the game's server."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        return self.server.call(method, f"/game/v1/{path}", content, headers)

    def feed(self, name: str) -> list[dict[str, Any]]:
        """All of the feed of ``grants`` or ``events``, read in pages as a game reads it."""
        found: list[dict[str, Any]] = []
        after, has_more = 0, True
        while has_more:
            answer = self.ask(f"{name}?after={after}&limit=1000")
            assert answer.status == 200, answer
            found += answer.json[name]
            after, has_more = answer.json["next_after"], answer.json["has_more"]
        return found

    def restart(self) -> None:
        self.server.stop()
        self.server.start()

    def kill(self, after_seconds: float, is_all: bool) -> None:
        """``kill -9`` of everything, or of one worker. May run in any thread; :meth:`recover` may not."""
        time.sleep(after_seconds)
        if is_all:
            self.server.kill()
        elif workers := self.server.workers:
            self.server.kill_worker(workers[0])

    def recover(self) -> None:
        """Start what was killed: the system ends a server when the thread ends that has started it."""
        if self.server.port == 0:
            self.server.start()
        until(self.server.is_up, "the server answers again", SETTLE_SECONDS)

    def deliveries(self) -> list[dict[str, Any]]:
        return self.rows("SELECT webhook_id, state, grant_id FROM deliveries WHERE grant_id IS NOT NULL")

    def settle(self) -> None:
        """Bring the game's server back and wait until nothing waits to be delivered."""
        self.game.is_up = True
        self.flask("delivery", "redrive", GAME, "--all")
        waiting = "SELECT count(*) AS n FROM deliveries WHERE state <> 'delivered'"
        until(lambda: self.rows(waiting)[0]["n"] == 0, "everything is delivered", SETTLE_SECONDS)
