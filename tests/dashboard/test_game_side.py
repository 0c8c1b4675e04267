"""The Go and PHP code for the game's side, compiled and run against a real server: deliveries, the feed, entries."""

import http.client
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from app import create_app
from coinslot.access.keyring import SecretValue
from coinslot.installation import Installation
from coinslot.outbox import destinations
from coinslot.outbox.formats import STANDARD
from coinslot.relay import webhooks
from tests import databases
from tests.conftest import Browser, Studio, furnished
from tests.dashboard.test_snippets import RECIPES, SHARED_KEY, changed, code
from tests.fakes.http import closed_port
from tests.server.test_server import post_order, read_feed, rows
from tests.servers import Server, end_with_parent, until

pytestmark = pytest.mark.long

FILES = Path(__file__).parent / "game_side"
QUANTITIES = (1000, 10**39 + 7, 3)
ENTRIES = {f"entry{number}": recipe for number, recipe in enumerate(RECIPES)}
COMPILE_SECONDS = 300
RUN_SECONDS = 60


def needs(program: str) -> Any:
    return pytest.mark.skipif(shutil.which(program) is None and "CI" not in os.environ, reason=f"there is no {program}")


LANGUAGES = [pytest.param("go", marks=needs("go")), pytest.param("php", marks=needs("php"))]


class GameSide:
    """The snippets of one language in a folder, and the program made of them."""

    def __init__(self, language: str, folder: Path) -> None:
        self.language = language
        self.folder = folder
        folder.mkdir()
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("COINSLOT_")} | {
            "GOCACHE": str(folder / "cache"),
            "GOPATH": str(folder / "path"),
            "GOPROXY": "off",
            "CGO_ENABLED": "0",
        }

    def write(self, name: str, text: str) -> None:
        """A snippet: in Go each has a package of its own."""
        path = self.folder / (f"{name}/{name}.go" if self.language == "go" else f"{name}.php")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def build(self, entries: list[str]) -> None:
        """Make the program, once all snippets are written."""
        for file in FILES.glob(f"*.{self.language}"):
            shutil.copy(file, self.folder)
        if self.language == "go":
            imports = "".join(f'\t{name} "game/{name}"\n' for name in entries)
            known = ", ".join(f'"{name}": {name}.EntryURL' for name in entries)
            table = f"var entries = map[string]func(string, string) (string, error){{{known}}}"
            (self.folder / "entries.go").write_text(f"package main\n\nimport (\n{imports})\n\n{table}\n")
            (self.folder / "go.mod").write_text("module game\n\ngo 1.19\n")
            self._run("go", "build", "-o", "program", ".", seconds=COMPILE_SECONDS)

    def run(self, *words: str, **environment: str) -> str:
        """What the program prints; it must succeed."""
        return self._run(*self._command(*words), **environment)

    @contextmanager
    def listening(self, port: int, secret: str) -> Iterator[None]:
        """The game takes deliveries."""
        command = self._command("listen", str(port))
        if self.language == "php":
            command = ["php", "-n", "-S", f"127.0.0.1:{port}", "main.php"]
        with (self.folder / "output").open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment | {"COINSLOT_WEBHOOK_SECRET": secret},
                stdout=output,
                stderr=output,
                preexec_fn=end_with_parent,
            )
        try:
            until(lambda: re.search("listening|started", (self.folder / "output").read_text()), "the game listens", 30)
            yield
        finally:
            process.kill()
            process.wait()

    def taken(self) -> list[tuple[str, dict[str, Any]]]:
        """Type and data of each delivery that was believed."""
        path = self.folder / ("output" if self.language == "go" else "taken")
        lines = path.read_text().splitlines() if path.exists() else []
        words = [line.split(" ", 2) for line in lines if line.startswith("taken ")]
        return [(kind, json.loads(data)) for _, kind, data in words]

    def _command(self, *words: str) -> list[str]:
        # Without php.ini: what is built in, and PDO for SQLite, which the test's own database needs.
        extensions = ["-d", "extension=pdo", "-d", "extension=pdo_sqlite"]
        return ["./program", *words] if self.language == "go" else ["php", "-n", *extensions, "main.php", *words]

    def _run(self, *command: str, seconds: float = RUN_SECONDS, **environment: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment | environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


class Shop:
    """A real server, whose owner sees the address that it really has."""

    def __init__(self, installation: Installation, studio: Studio, server: Server) -> None:
        self.installation = installation
        self.studio = studio
        self.server = server
        app = create_app({**databases.environment(server.home), "COINSLOT_PUBLIC_URL": server.url})
        self._browser = Browser(app.test_client(), installation)
        self._close = app.extensions["coinslot"].database.close

    def code(self, language: str, name: str) -> str:
        return code(self._browser, language, name)

    def close(self) -> None:
        self._close()
        self.installation.database.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    installation, studio = furnished(tmp_path_factory.mktemp("shop") / "home")
    studio.secret("playcamp.shared_key", SHARED_KEY)
    studio.config("playcamp.param.user", "uid")
    with Server(installation.settings.home) as server:
        made = Shop(installation, studio, server)
        yield made
        made.close()


@pytest.fixture(scope="module", params=LANGUAGES)
def side(shop: Shop, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> GameSide:
    made = GameSide(request.param, tmp_path_factory.mktemp("game") / "side")
    for name in ("feed", "webhook"):
        made.write(name, shop.code(made.language, name))
    for name, recipe in ENTRIES.items():
        shop.studio.config("playcamp.signature", recipe)
        made.write(name, shop.code(made.language, "entry-1"))
    made.build(list(ENTRIES))
    return made


def test_deliveries_are_verified_and_the_feed_is_read_exactly_once(shop, side):
    studio, server, port = shop.studio, shop.server, closed_port()
    database, vault = shop.installation.database, shop.installation.vault
    player = f"player-{side.language}"
    studio.player(player)
    about = {"actor": "test", "events": "grant.*", "retry": "1," * 40 + "1"}
    url = f"http://127.0.0.1:{port}/"
    secret = database.write_here(lambda tx: destinations.add(tx, vault, "demo", side.language, url, **about))
    with side.listening(port, secret):
        for number, quantity in enumerate(QUANTITIES):
            products = [{"sku": "coins", "amount": quantity}]
            assert post_order(server, f"{player}-{number}", playerId=player, products=products).status == 200
        assert post_order(server, f"{player}-test", playerId="coinslot-test").status == 200
        grants = [each for each in read_feed(server, studio.token) if each["external_id"].startswith(player)]
        until(lambda: len(side.taken()) >= len(grants), "the deliveries have come", 60)
        assert_refuses_forged(side, port, secret)
    database.write_here(lambda tx: destinations.set_state(tx, "demo", side.language, "removed", actor="test"))

    taken = sorted((data["id"], str(data["items"][0]["quantity"])) for _, data in side.taken())
    assert taken == [(each["id"], str(each["items"][0]["quantity"])) for each in grants]
    said = side.run("read", COINSLOT_TOKEN=studio.token).splitlines()
    given = [line for line in said if line.endswith(f" to {player}")]
    assert given == [f"give {quantity} coins to {player}" for quantity in QUANTITIES]
    assert not [line for line in said if line.endswith("coinslot-test")]
    assert said[-1] == "read twice"
    (game,) = rows(shop.installation, "SELECT acked_through FROM games")
    assert game["acked_through"] == read_feed(server, studio.token)[-1]["id"]


def assert_refuses_forged(side: GameSide, port: int, secret: str) -> None:
    """What is changed, too old or signed by another is answered 401 and not taken."""
    before, other = side.taken(), destinations.new_secret()
    body = json.dumps({"type": "grant.created", "timestamp": "now", "data": {"id": 1, "items": []}}).encode()

    def signed(by: str, at: float | None = None) -> dict[str, str]:
        key = SecretValue("destination.main", "current", by.encode())
        return webhooks.signed(STANDARD, "evt_1", 1, body, [key], at)

    forged = [(signed(other), body)]
    forged += [(signed(secret, time.time() + seconds), body) for seconds in (-310, 310)]
    changes = ("body", "id", "old", "missing", "cut", "version", "webhook-id", "webhook-timestamp")
    forged += [changed(signed(secret), body, change) for change in changes]
    for headers, content in forged:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/", content, headers)
        assert connection.getresponse().status == 401, headers
        connection.close()
    assert side.taken() == before


def test_a_signed_entry_is_taken_by_the_real_address(shop, side):
    for name, recipe in ENTRIES.items():
        shop.studio.config("playcamp.signature", recipe)
        for user, campaign in (("alice smith+1&2", "camp/1"), ("玩家-1", "")):
            url = side.run("entry", name, user, campaign, PLAYCAMP_SHARED_KEY=SHARED_KEY).rstrip("\n")

            parts = urlsplit(url)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            assert url.startswith(f"{shop.server.url}/api/demo/sponsor?uid=")
            assert "+" not in parts.query
            assert (query["uid"], query.get("camp_code", "")) == (user, campaign)
            # PlayCamp's own key is not set, so a proved entry ends on the page that says not now.
            assert shop.server.get(f"{parts.path}?{parts.query}").status == 502, recipe
            spoiled = parts.query.replace("uid=", "uid=x")
            assert shop.server.get(f"{parts.path}?{spoiled}").status == 401, recipe
