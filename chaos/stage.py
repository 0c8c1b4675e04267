"""Where a scene plays: a home folder of its own, the real server on it, the load, the game, and what they leave."""

import os
import random
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from chaos.game import Game, Reader
from chaos.judge import Evidence
from chaos.load import Load
from chaos.orders import MAIN_KEY, PLAYERS, PLAYTEM_SECRET, SKUS, TOKEN
from tests import databases
from tests.servers import ROOT, Server, until

SETTLE_SECONDS = 180.0
READY_SECONDS = 20.0  # after a disk that failed, each worker has to notice that it takes writes again
DESTINATION_TIMEOUT_SECONDS = 1


class Template:
    """A home folder as an owner sets it up on a shell; each scene gets a copy."""

    def __init__(self, folder: Path, destination_port: int) -> None:
        self.home = folder / "template"
        said = flask(self.home, "game", "add", "demo", "--json")
        self.token = re.findall(r'"([^"]{32,})"', said)[0]
        for name, value in (
            ("appcharge.main_key", MAIN_KEY),
            ("appcharge.publisher_token", TOKEN),
            ("playtem.secret", PLAYTEM_SECRET),
        ):
            flask(self.home, "secret", "set", "demo", name, said=f"{value}\n")
        flask(self.home, "player", "import", "demo", "-", said="\n".join(["player_id", *PLAYERS, ""]))
        flask(self.home, "item", "import", "demo", "-", said="\n".join(["sku", *SKUS, ""]))
        url = f"http://127.0.0.1:{destination_port}/grants"
        retries = ",".join(["1"] * 50)
        how = ("--retry", retries, "--timeout", str(DESTINATION_TIMEOUT_SECONDS))
        flask(self.home, "destination", "add", "demo", "game", url, *how)


class Stage:
    """One scene. Use as a context manager: whatever happens, no process and no mount of it is left."""

    def __init__(self, folder: Path, template: Template, game: Game, seconds: float, seed: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.home = folder / "home"
        self.game = game
        self.chance = random.Random(seed)
        self.seconds = seconds
        self.struck = 0  # how often the fault was there
        self.restored: tuple[float, float] | None = None
        self.faults: list[str] = []  # what the scene itself noticed
        self.load: Load
        self.server: Server
        self.port = _free_port()
        self._template = template
        self._seed = seed
        self._reader: Reader
        self._relays: list[subprocess.Popen[bytes]] = []
        self._undo: list[list[str]] = []

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if hasattr(self, "load") and not self.load.is_over():
            self.load.give_up()
        for relay in self._relays:
            relay.kill()
            relay.wait()
        if hasattr(self, "server"):
            self.server.kill()
        self.game.end()
        for command in reversed(self._undo):
            subprocess.run(command, check=False, capture_output=True)

    def undo(self, *command: str) -> None:
        """A command for the end, whatever happens."""
        self._undo.append(list(command))

    def furnish(self) -> None:
        """Give the scene its home folder."""
        shutil.copytree(self._template.home, self.home, dirs_exist_ok=True)
        self.home.chmod(0o700)

    def new_server(self, *options: str, **how: Any) -> Server:
        """gunicorn on this scene's home and port, not started."""
        return Server(self.home, *options, listen=("-b", f"127.0.0.1:{self.port}"), **how)

    def begin(self, *options: str, pace: float = 0.02, permitted: Collection[int] = (), **how: Any) -> None:
        """Start the server, the game and the load, and wait for the first acknowledged orders.

        ``options`` are gunicorn's; ``pace`` and ``permitted`` are the load's, the others those of ``Server``.
        """
        if not self.home.exists():
            self.furnish()
        self.game.begin(self.folder / "deliveries.jsonl", random.Random(f"{self._seed}-game"))
        self.server = self.new_server(*options, **how)
        self.server.start()
        self._reader = Reader(self.port, self._template.token, self.folder / "feed.jsonl")
        self.load = Load(self.port, self.folder / "callers", self._seed, pace, permitted)
        self.load.begin()
        self.go_on()

    def start_again(self) -> None:
        """Start the server, and again where it does not come up: workers of a killed master may still have the port."""
        for _ in range(5):
            with suppress(AssertionError):
                self.server.start()
                return
            time.sleep(1)
        raise RuntimeError("gunicorn does not come up again")

    def go_on(self, orders: int = 20, seconds: float = 60.0) -> None:
        """Wait until so many more orders are acknowledged."""
        wanted = self.load.acknowledged + orders
        until(lambda: self.load.acknowledged >= wanted, "orders are acknowledged again", seconds)

    def moments(self, least: float = 0.2, most: float = 2.0, at_least: int = 1) -> Iterator[int]:
        """Moments of chance until the scene's time is over, counted as strikes; ``at_least`` so many."""
        end = time.monotonic() + self.seconds
        count = 0
        while count < at_least or time.monotonic() < end:
            time.sleep(self.chance.uniform(least, most))
            self.struck += 1
            yield count
            count += 1

    def relay(self) -> "subprocess.Popen[bytes]":
        """``flask relay`` as a process of its own."""
        path = self.folder / f"relay-{len(self._relays)}.log"
        command = [sys.executable, "-u", "-m", "flask", "relay"]
        with path.open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment(self.home), stdout=log, stderr=log)
        self._relays.append(process)
        until(lambda: path.stat().st_size or process.poll() is not None, "flask relay begins", 60)
        return process

    def flask(self, *words: str, said: str = "") -> str:
        return flask(self.home, *words, said=said)

    def expect(self, is_so: bool, sentence: str) -> None:
        """Note a sentence as a fault where something is not so."""
        if not is_so:
            self.faults.append(sentence)

    def until_refused(self, before: int) -> None:
        """Wait until more than so many calls were answered 5xx, which proves that the fault is there."""
        deadline = time.monotonic() + 20
        while self.load.counts["5xx"] <= before and time.monotonic() < deadline:
            time.sleep(0.05)
        self.expect(self.load.counts["5xx"] > before, "no caller was answered 5xx while nothing could be written")

    def settle(self) -> None:
        """End the load, wait until nothing is owed, read the rest of the feed and the sums, and stop the server."""
        self.load.end()
        deadline = time.monotonic() + SETTLE_SECONDS
        while self._owed() and time.monotonic() < deadline:
            time.sleep(0.2)
        with suppress(AssertionError):
            until(lambda: self.server.get("/readyz").status == 200, "the server is ready", READY_SECONDS)
        answer = self.server.get("/readyz")
        self.expect(answer.status == 200, f"the server was not ready in the end: {answer.json['checks']}")
        self._reader.end(self.folder / "balances.json")
        for relay in self._relays:
            relay.terminate()
        for relay in self._relays:
            relay.wait(60)
        self.server.stop()
        self.game.end()

    def evidence(self) -> Evidence:
        where = self.folder
        return Evidence(
            self.home / "coinslot.db",
            where / "callers",
            where / "deliveries.jsonl",
            where / "feed.jsonl",
            where / "balances.json",
            self.restored,
            where / "missing.csv",
        )

    def _owed(self) -> int:
        with closing(sqlite3.connect(f"file:{self.home}/coinslot.db?mode=ro", uri=True, timeout=5)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM deliveries WHERE state = 'waiting'").fetchone()
            return int(count)


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COINSLOT_")}
    return kept | databases.environment(home)


def flask(home: Path, *words: str, said: str = "") -> str:
    """A command of Coinslot's, as an owner types it; returns its standard output. Raises when it fails."""
    command = [sys.executable, "-m", "flask", *words]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(home), input=said, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"flask {' '.join(words[:2])} failed: {done.stdout}{done.stderr}")
    return done.stdout


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
