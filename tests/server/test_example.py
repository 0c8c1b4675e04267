"""The example games as processes of their own, against a real Coinslot: each grant once, whatever happens to either."""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from standardwebhooks import Webhook

from coinslot.access.keyring import SecretValue
from coinslot.installation import Installation
from coinslot.outbox import destinations
from coinslot.outbox.formats import STANDARD
from coinslot.relay import webhooks
from tests.conftest import Studio, furnished
from tests.fakes.http import closed_port
from tests.server.test_server import post_order, read_feed, rows
from tests.servers import ROOT, Answer, Server, end_with_parent, together, until

SECRET = destinations.new_secret()
IDS = count(7)


COMMANDS = {
    "python": (sys.executable, str(ROOT / "examples" / "game_server.py")),
    "node": ("node", str(ROOT / "examples" / "game_server.js")),
}
needs_node = pytest.mark.skipif(shutil.which("node") is None and "CI" not in os.environ, reason="there is no node here")


class ExampleGame:
    """An example game with a database of its own. Killed when the block ends, and whenever you like.

    All have the same ``command``, that of the language whose turn it is.
    """

    command: tuple[str, ...] = COMMANDS["python"]

    def __init__(self, folder: Path, **environment: str) -> None:
        self.port = 0
        self.player = "alice"
        self._folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("COINSLOT_", "GAME_"))
        } | {"GAME_DB": str(folder / "game.db"), **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "ExampleGame":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start, again on the port it had; returns once it listens."""
        assert self._process is None, "already started"
        self.environment["GAME_PORT"] = str(self.port)
        with (self._folder / "game.log").open("wb") as log:
            process = self._process = subprocess.Popen(
                [*self.command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,
            )
        try:
            found = until(
                lambda: process.poll() is not None or re.search(r"listening on http://.*:([0-9]+)", self.log),
                "the example game listens",
            )
            assert isinstance(found, re.Match), self.log
        except BaseException:
            self.kill()
            raise
        self.port = int(found[1])

    def kill(self) -> None:
        """``kill -9``."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/coinslot"

    @property
    def log(self) -> str:
        return (self._folder / "game.log").read_text()

    def call(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read(), 0.0)
        finally:
            connection.close()

    def look(self, player_id: str = "") -> Any:
        answer = self.call("GET", f"/inventory/{quote(player_id or self.player, safe='')}")
        assert answer.status == 200, answer.body
        return answer.json

    def items(self, player_id: str = "") -> Any:
        return self.look(player_id)["items"]

    def states(self, player_id: str = "") -> list[tuple[str, str]]:
        """Kind and state of each grant noted, oldest first."""
        return [(kind, state) for _, kind, state in reversed(self.look(player_id)["newest_grants"])]

    def grant(self, **changed: Any) -> dict[str, Any]:
        """A new grant to the player."""
        return {
            "id": next(IDS),
            "transaction_id": str(uuid.uuid4()),
            "partner": "appcharge",
            "external_id": f"order-of-{self.player}",
            "kind": "purchase",
            "player_id": self.player,
            "items": [{"sku": "coins", "quantity": 1000}],
            "reverses": None,
            "policy": None,
            "is_test": False,
            "created_at": "2026-07-21T14:17:27.329000Z",
        } | changed

    def spend(self, quantity: int) -> None:
        spending = self.grant(kind="adjustment", items=[{"sku": "coins", "quantity": -quantity}])
        assert self.deliver(spending) == 200

    def deliver(self, grant: dict[str, Any], event_type: str = "grant.created", secret: str = SECRET) -> int:
        """Send a grant as Coinslot does; returns the status."""
        body = webhooks.envelope(event_type, grant["created_at"], grant)
        headers = webhooks.signed(STANDARD, f"msg_{uuid.uuid4().hex}", 1, body, [key(secret)])
        return self.call("POST", "/coinslot", body, headers).status


def key(secret: str) -> SecretValue:
    return SecretValue("destination.main", "current", secret.encode())


def reversal_of(grant: dict[str, Any], policy: str) -> dict[str, Any]:
    items = [{"sku": line["sku"], "quantity": -line["quantity"]} for line in grant["items"]]
    return {**grant, "id": next(IDS), "kind": "reversal", "items": items, "reverses": grant["id"], "policy": policy}


@pytest.fixture(
    scope="module", autouse=True, params=["python", pytest.param("node", marks=[pytest.mark.long, needs_node])]
)
def language(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs with the example of each language."""
    ExampleGame.command = COMMANDS[request.param]
    yield
    ExampleGame.command = COMMANDS["python"]


@pytest.fixture(scope="module")
def example(language: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleGame]:
    """Takes webhooks and reads no feed."""
    with ExampleGame(tmp_path_factory.mktemp("game"), COINSLOT_WEBHOOK_SECRET=SECRET) as game:
        yield game


@pytest.fixture
def game(example: ExampleGame) -> ExampleGame:
    """The same game, and a new player."""
    example.player = f"player-{uuid.uuid4()}"
    return example


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, Studio, Server]]:
    """One Coinslot for the tests of this file; each has a player of its own."""
    installation, studio = furnished(tmp_path_factory.mktemp("shop") / "home")
    with Server(installation.settings.home) as server:
        yield installation, studio, server
    installation.database.close()


class TestWithCoinslot:
    def test_an_order_reaches_the_inventory_through_the_feed_and_is_acknowledged(self, shop, tmp_path):
        installation, studio, server = shop
        with ExampleGame(tmp_path, COINSLOT_URL=server.url, COINSLOT_TOKEN=studio.token) as game:
            assert post_order(server, "by-feed").status == 200

            until(game.items, "the order is in the inventory")

            assert game.items() == {"coins": 1000, "gems": 5}
            assert game.items("bob") == {}
            newest = read_feed(server, studio.token)[-1]["id"]
            until(
                lambda: rows(installation, "SELECT acked_through FROM games")[0]["acked_through"] >= newest,
                "it is acked",
            )

    def test_the_same_grant_by_feed_and_by_webhook_is_applied_once(self, shop, tmp_path):
        _, studio, server = shop
        studio.player("both-ways")
        assert post_order(server, "both-ways", playerId="both-ways").status == 200
        grant = read_feed(server, studio.token)[-1]
        feed = {"COINSLOT_URL": server.url, "COINSLOT_TOKEN": studio.token}
        with ExampleGame(tmp_path, COINSLOT_WEBHOOK_SECRET=SECRET, **feed) as game:
            until(lambda: game.items("both-ways"), "the feed has brought it")
            assert [game.deliver(grant), game.deliver(grant)] == [200, 200]

            assert game.items("both-ways") == {"coins": 1000, "gems": 5}
            assert game.states("both-ways") == [("purchase", "applied")]

    def test_webhook_first_and_feed_after_a_restart_is_applied_once(self, shop, tmp_path):
        _, studio, server = shop
        studio.player("webhook-first")
        assert post_order(server, "webhook-first", playerId="webhook-first").status == 200
        grant = read_feed(server, studio.token)[-1]
        with ExampleGame(tmp_path, COINSLOT_WEBHOOK_SECRET=SECRET) as game:
            assert game.deliver(grant) == 200
            game.kill()
            assert post_order(server, "webhook-first-2", playerId="webhook-first").status == 200
            game.environment |= {"COINSLOT_URL": server.url, "COINSLOT_TOKEN": studio.token}
            game.start()

            until(lambda: len(game.states("webhook-first")) == 2, "the feed has brought the other one")
            assert game.items("webhook-first") == {"coins": 2000, "gems": 10}

    def test_the_feed_is_read_on_after_coinslot_was_away(self, installation, studio, tmp_path):
        with Server(installation.settings.home) as server:
            assert post_order(server, "before").status == 200
            with ExampleGame(tmp_path, COINSLOT_URL=server.url, COINSLOT_TOKEN=studio.token) as game:
                until(game.items, "the first is there")
                port = server.port
                server.stop()
                until(lambda: "feed: " in game.log, "the game has noticed")
                with Server(installation.settings.home, listen=("-b", f"127.0.0.1:{port}")) as again:
                    assert post_order(again, "after").status == 200
                    until(lambda: game.items()["coins"] == 2000, "the second is there")

    @pytest.mark.long
    def test_kill_9_again_and_again_loses_and_doubles_nothing(self, shop, tmp_path):
        installation, studio, server = shop
        studio.player("survivor")
        game = ExampleGame(tmp_path, COINSLOT_URL=server.url, COINSLOT_TOKEN=studio.token)
        # The relay needs the address before there is a game at it.
        game.port = closed_port()
        game.environment["COINSLOT_WEBHOOK_SECRET"] = installation.database.write_here(
            lambda tx: destinations.add(
                tx,
                installation.vault,
                "demo",
                "example",
                game.url,
                actor="test",
                events="grant.*",
                retry="1," * 40 + "1",
            )
        )
        with game:
            for number in range(8):
                for part in range(5):
                    order_id = f"survivor-{number}-{part}"
                    assert post_order(server, order_id, playerId="survivor").status == 200
                if number % 2:  # in the middle of work, or a moment later
                    until(lambda number=number: len(game.states("survivor")) > number * 5, "some have come")
                game.kill()
                game.start()

            undelivered = "SELECT count(*) AS n FROM deliveries WHERE state <> 'delivered'"
            until(lambda: rows(installation, undelivered)[0]["n"] == 0, "all are delivered", 60)
            until(lambda: len(game.states("survivor")) == 40, "all are there")

            assert game.items("survivor") == {"coins": 40_000, "gems": 200}
            assert set(game.states("survivor")) == {("purchase", "applied")}
            installation.database.write_here(
                lambda tx: destinations.set_state(tx, "demo", "example", "removed", actor="test")
            )

    def test_simulated_orders_are_noted_and_not_applied(self, shop, tmp_path):
        _, studio, server = shop
        with ExampleGame(tmp_path, COINSLOT_URL=server.url, COINSLOT_TOKEN=studio.token) as game:
            assert post_order(server, "simulated", playerId="coinslot-test").status == 200

            until(lambda: game.states("coinslot-test"), "it is noted")
            assert game.states("coinslot-test") == [("purchase", "test")]
            assert game.items("coinslot-test") == {}


class TestProof:
    def test_one_of_several_signatures_is_enough(self, game):
        body = webhooks.envelope("grant.created", "now", game.grant())
        other = destinations.new_secret()

        for secrets in ([other, SECRET], [SECRET, other]):
            headers = webhooks.signed(STANDARD, "msg_1", 1, body, map(key, secrets))
            assert game.call("POST", "/coinslot", body, headers).status == 200
        headers = webhooks.signed(STANDARD, "msg_1", 1, body, [key(other), key(destinations.new_secret())])
        assert game.call("POST", "/coinslot", body, headers).status == 401

    @pytest.mark.parametrize(
        "changed",
        [
            {"webhook-id": "msg_2"},
            {"webhook-id": None},
            {"webhook-timestamp": "a second later"},
            {"webhook-timestamp": None},
            {"webhook-timestamp": ""},
            {"webhook-timestamp": "soon"},
            {"webhook-timestamp": "9" * 5000},
            {"webhook-timestamp": "\u00b2"},
            {"webhook-signature": None},
            {"webhook-signature": ""},
            {"webhook-signature": "v1,"},
            {"webhook-signature": "v1,\u00e9\u00e9"},
        ],
        ids=str,
    )
    def test_a_changed_header_is_refused(self, game, changed):
        body = webhooks.envelope("grant.created", "now", game.grant())
        headers = {**webhooks.signed(STANDARD, "msg_1", 1, body, [key(SECRET)]), **changed}
        if headers["webhook-timestamp"] == "a second later":
            headers["webhook-timestamp"] = str(int(time.time()) + 1)

        answer = game.call("POST", "/coinslot", body, {name: value for name, value in headers.items() if value})

        assert answer.status == 401
        assert game.states() == []

    def test_one_changed_byte_and_another_version_are_refused(self, game):
        body = webhooks.envelope("grant.created", "now", game.grant(items=[{"sku": "coins", "quantity": 10001000}]))
        headers = webhooks.signed(STANDARD, "msg_1", 1, body, [key(SECRET)])
        second = headers | {"webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")}

        assert game.call("POST", "/coinslot", body.replace(b"10001000", b"90001000"), headers).status == 401
        assert game.call("POST", "/coinslot", body + b" ", headers).status == 401
        assert game.call("POST", "/coinslot", body, second).status == 401
        assert game.deliver(game.grant(), secret=destinations.new_secret()) == 401
        assert game.states() == []

    @pytest.mark.parametrize(("seconds", "status"), [(-320, 401), (-280, 200), (0, 200), (280, 200), (320, 401)])
    def test_what_the_public_package_signs_is_believed_unless_stale_or_of_the_future(self, game, seconds, status):
        assert by_the_package(game, datetime.now(UTC) + timedelta(seconds=seconds)) == status
        assert game.items() == ({"coins": 1000} if status == 200 else {})

    def test_without_a_secret_nothing_is_believed(self, tmp_path):
        nowhere = f"http://127.0.0.1:{closed_port()}"
        with ExampleGame(tmp_path, COINSLOT_TOKEN="token", COINSLOT_URL=nowhere) as game:
            assert game.deliver(game.grant()) == 401
            assert game.deliver(game.grant(), secret="whsec_") == 401

    @pytest.mark.parametrize(
        "environment", [{}, {"COINSLOT_WEBHOOK_SECRET": "c2VjcmV0"}, {"COINSLOT_WEBHOOK_SECRET": "whsec_"}]
    )
    def test_it_does_not_start_without_what_it_needs(self, tmp_path, environment):
        with pytest.raises(AssertionError, match="COINSLOT_WEBHOOK_SECRET"):
            ExampleGame(tmp_path, **environment).start()


def by_the_package(game: ExampleGame, at: datetime) -> int:
    """Send a grant that the public package has signed at some time; returns the status."""
    body = json.dumps({"type": "grant.created", "timestamp": "now", "data": game.grant()})
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", at, body),
    }
    return game.call("POST", "/coinslot", body.encode(), headers).status


class TestGrants:
    def test_16_at_once_are_applied_once(self, game):
        grant = game.grant()

        assert set(together(*[lambda: game.deliver(grant)] * 16)) == {200}

        assert game.items() == {"coins": 1000}

    def test_one_transaction_may_have_grants_of_several_kinds(self, game):
        grant = game.grant()

        assert game.deliver(grant) == game.deliver({**grant, "id": next(IDS), "kind": "bonus"}) == 200

        assert game.items() == {"coins": 2000}

    def test_quantities_of_40_digits_stay_exact(self, game):
        most = int("9" * 40)

        for quantity in (most, 1, -most):
            assert game.deliver(game.grant(items=[{"sku": "coins", "quantity": quantity}], kind="adjustment")) == 200

            if quantity == 1:
                assert game.items() == {"coins": 10**40}
        assert game.items() == {"coins": 1}

    @pytest.mark.parametrize(
        ("policy", "left", "state"),
        [
            ("revoke", 0, "applied"),
            ("revoke_negative", -700, "applied"),
            ("flag", 300, "flagged"),
            (None, 300, "flagged"),
        ],
    )
    def test_a_reversal_does_what_its_policy_says(self, game, policy, left, state):
        grant = game.grant()
        assert game.deliver(grant) == 200
        game.spend(700)

        for _ in range(2):
            assert game.deliver(reversal_of(grant, policy), "grant.reversed") == 200

            assert game.items() == {"coins": left}
        assert game.states()[-1] == ("reversal", state)

    def test_a_line_with_a_policy_of_its_own_goes_by_that(self, game):
        grant = game.grant(items=[{"sku": "coins", "quantity": 1000}, {"sku": "gems", "quantity": 5}])
        assert game.deliver(grant) == 200
        reversal = reversal_of(grant, "flag")
        next(line for line in reversal["items"] if line["sku"] == "gems")["policy"] = "revoke"

        assert game.deliver(reversal, "grant.reversed") == 200

        assert game.items() == {"coins": 1000, "gems": 0}
        assert game.states()[-1] == ("reversal", "flagged")

    @pytest.mark.parametrize(
        ("policy", "spent", "after"),
        [("revoke", 0, 1000), ("revoke", 700, 300), ("revoke_negative", 700, 300), ("flag", 700, 300)],
    )
    @pytest.mark.parametrize("is_early", [False, True])
    def test_what_a_dispute_took_is_given_back_and_no_more(self, game, policy, spent, after, is_early):
        grant = game.grant()
        reversal = reversal_of(grant, policy)
        won = game.grant(kind="adjustment", reverses=reversal["id"], policy=policy)
        assert game.deliver(grant) == 200
        game.spend(spent)

        for each in (won, reversal) if is_early else (reversal, won):
            assert game.deliver(each, "grant.created") == 200

        assert game.items() == {"coins": after}

    def test_revoking_from_one_who_owes_already_takes_nothing_and_gives_nothing(self, game):
        grant = game.grant()
        assert game.deliver(grant) == 200
        game.spend(1500)

        assert game.deliver(reversal_of(grant, "revoke"), "grant.reversed") == 200

        assert game.items() == {"coins": -500}

    def test_a_reversal_that_comes_first_waits_for_its_grant(self, game):
        grant = game.grant()

        assert game.deliver(reversal_of(grant, "revoke"), "grant.reversed") == 200
        assert game.states() == [("reversal", "waiting")]
        assert game.items() == {}
        assert game.deliver(grant) == 200

        assert sorted(game.states()) == [("purchase", "applied"), ("reversal", "applied")]
        assert game.items() == {"coins": 0}

    def test_unknown_types_are_accepted_and_ignored(self, game):
        assert game.deliver(game.grant(), "player.login") == 200

        assert game.states() == []

    def test_a_grant_that_cannot_be_read_is_not_accepted_and_leaves_nothing(self, game):
        lines = [{"sku": "gems", "quantity": 1}, {"sku": "coins", "quantity": 1.5}]

        assert game.deliver(game.grant(items=lines)) == 500

        assert game.states() == []
        assert game.items() == {}

    def test_what_is_too_large_or_goes_elsewhere_is_refused(self, game):
        assert game.call("POST", "/coinslot", b"", {"Content-Length": str(2**20 + 1)}).status == 413
        assert game.call("POST", "/elsewhere", b"{}").status == 404
        assert game.call("GET", "/coinslot").status == 404
        assert game.deliver(game.grant(player_id="a/b %")) == 200
        assert game.items("a/b %") == {"coins": 1000}
