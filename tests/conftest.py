"""Fixtures of all tests: an installation in a temporary folder, a game with keys, a named cast.

The cast: ``alice`` and ``bob`` are registered players, ``mallory`` is nobody. ``coins`` and ``gems`` are items.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings

from app import PARTNERS, create_app, new_installation, read_settings
from coinslot.access import key_copy, keyring, owner, people, sessions
from coinslot.games import games, registry
from coinslot.installation import Installation
from coinslot.store.db import Connection, Row
from handlers.appcharge.signature import sign
from handlers.kit import receive
from tests import databases, sqlite_only
from tests.owed import Owed

MAIN_KEY = "test-main-key-0123456789"
TOKEN = "test-publisher-token"
PLAYTEM_SECRET = "test-playtem-secret"


# A machine under load is no fault of a test.
settings.register_profile("coinslot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("coinslot")


def pytest_configure() -> None:
    databases.check_engine()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if databases.ENGINE != "sqlite":
        for item in items:
            if reason := sqlite_only.reason(item.nodeid):
                item.add_marker(pytest.mark.skip(reason=f"SQLite alone: {reason}"))


@pytest.fixture(scope="session")
def shared_app() -> Flask:
    """The application, made once. Each test gives it an installation of its own."""
    app = create_app({"COINSLOT_HOME": "/nonexistent"})
    app.testing = False  # errors are answered in their dialect, as they are in production
    return app


@pytest.fixture
def app(shared_app: Flask, tmp_path: Path) -> Iterator[Flask]:
    installation = new_installation(read_settings(databases.environment(tmp_path / "home")))
    shared_app.extensions |= {
        "coinslot": installation,
        "coinslot.partners": PARTNERS,
    }  # whatever a test before has put there
    installation.job_context = shared_app.app_context
    installation.prepare()
    yield shared_app
    installation.observations.flush()
    installation.database.close()


@pytest.fixture(autouse=databases.IS_POSTGRES)
def _drop_databases() -> Iterator[None]:
    """Databases that the test, and no fixture of its module, has made are dropped once nothing uses them."""
    before = databases.postgres.homes()
    yield
    for home in databases.postgres.homes() - before:
        databases.postgres.drop(home)


@pytest.fixture
def installation(app: Flask) -> Installation:
    found: Installation = app.extensions["coinslot"]
    return found


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def db(installation: Installation) -> Callable[..., list[dict[str, Any]]]:
    """Rows of a query, from a connection of the test's own."""

    return partial(databases.rows, installation)


@pytest.fixture
def clock() -> Iterator[Any]:
    """One clock for everything, standing still until the test moves it."""
    with databases.travel(time.time()) as traveller:
        yield traveller


class Studio:
    """A game as its owner has set it up, and the means to change that."""

    def __init__(self, installation: Installation, slug: str) -> None:
        self.installation = installation
        self.slug = slug
        self.token = installation.database.write_here(lambda tx: games.add(tx, slug, slug.title(), "test"))

    @property
    def row(self) -> Row:
        return games.find(self.installation.database.read(), self.slug)

    def secret(self, name: str, value: str) -> None:
        self.installation.database.write_here(
            lambda tx: keyring.put(tx, self.installation.vault, self.row, name, value, "test")
        )

    def rotate(self, name: str, value: str) -> None:
        self.installation.database.write_here(
            lambda tx: keyring.rotate(tx, self.installation.vault, self.row, name, value, "test")
        )

    def retire(self, name: str) -> None:
        self.installation.database.write_here(lambda tx: keyring.retire(tx, self.row, name, "test"))

    def config(self, key: str, value: str) -> None:
        catalogue = self.installation.catalogue
        self.installation.database.write_here(
            lambda tx: games.set_setting(tx, catalogue, self.slug, key, value, "test")
        )

    def player(self, *player_ids: str) -> None:
        for player_id in player_ids:
            self.installation.database.write_here(
                lambda tx, player_id=player_id: registry.put_player(tx, self.row["id"], player_id, {})
            )

    def item(self, *skus: str) -> None:
        for sku in skus:
            self.installation.database.write_here(lambda tx, sku=sku: registry.put_item(tx, self.row["id"], sku, None))


def use_key(tx: Connection, name: str, slot: str, at: str) -> None:
    """Note that a caller proved itself with this value of a secret, as a server does after some calls."""
    row = tx.execute(
        "SELECT game_id, created_at FROM secrets WHERE name = :name AND slot = :slot", {"name": name, "slot": slot}
    ).fetchone()
    keyring.used(tx, row["game_id"], name, row["created_at"], at)


def furnish(installation: Installation) -> Studio:
    """The game ``demo`` with its keys and its cast."""
    studio = Studio(installation, "demo")
    studio.secret("appcharge.main_key", MAIN_KEY)
    studio.secret("appcharge.publisher_token", TOKEN)
    studio.secret("playtem.secret", PLAYTEM_SECRET)
    studio.player("alice", "bob")
    studio.item("coins", "gems")
    key = installation.vault.current(installation.database.read())
    key_copy.check(installation.database, installation.vault, key)
    return studio


def furnished(home: Path) -> tuple[Installation, Studio]:
    """The same in a folder, for servers that are processes of their own."""
    installation: Installation = create_app(databases.environment(home)).extensions["coinslot"]
    installation.prepare()
    return installation, furnish(installation)


@pytest.fixture
def studio(installation: Installation) -> Studio:
    return furnish(installation)


@pytest.fixture
def owed(installation: Installation, studio: Studio) -> Owed:
    return Owed(installation, studio)


@pytest.fixture
def simulated(app: Flask, installation: Installation) -> dict[str, str]:
    """The header of a simulated call of ours."""
    with app.app_context():
        return receive.simulated()


class Browser:
    """A signed-in owner: pages are got, forms are posted with the token that every form of theirs carries.

    ``support`` is the name of somebody who signs in in place of the owner, and is added where missing.
    """

    def __init__(self, client: FlaskClient, installation: Installation, support: str | None = None) -> None:
        self.client = client
        self.installation = installation

        def sign_in(tx: Any) -> str:
            person = owner.first(tx)
            if support is not None:
                if people.by_name(tx, support) is None:
                    people.accept(tx, people.invite(tx, support, "support", "test"), "hash")
                person = people.named(tx, support)
            return sessions.begin(tx, person.id, "127.0.0.1", "test")

        client.set_cookie("coinslot_session", installation.database.write_here(sign_in))

    def get(self, path: str, **kwargs: Any) -> Any:
        return self.client.get(path, **kwargs)

    def post(self, path: str, **form: Any) -> Any:
        return self.client.post(path, data={"form_token": self.form_token(), **form})

    def form_token(self) -> str:
        return re.search(r'name="form_token" value="([^"]+)"', self.client.get("/").text)[1]

    def queries(self, path: str, **kwargs: Any) -> tuple[Any, list[str]]:
        """The answer of a page, and every statement it had the database run to read."""
        with databases.statements(self.installation) as statements:
            answer = self.client.get(path, **kwargs)
        return answer, [each for each in statements if each.lstrip()[:6].upper() in ("SELECT", "WITH", "PRAGMA")]


@pytest.fixture
def browser(app: Flask, installation: Installation) -> Browser:
    return Browser(app.test_client(), installation)


def order(**changed: Any) -> dict[str, Any]:
    """A paid order; written by hand after the documentation's field table."""
    document = {
        "orderId": "68e25eebdcb1278",
        "purchaseId": "pr_750b85591e16",
        "appChargePaymentId": "68e25eebd76543210",
        "purchaseDateAndTimeUtc": "2026-07-21T14:17:27.329Z",
        "playerId": "alice",
        "bundleName": "Starter Pack",
        "sku": "starterpack",
        "products": [{"amount": 1000, "sku": "coins", "name": "Gold Coins"}, {"amount": 5, "sku": "gems"}],
        "priceInCents": 999,
        "currency": "USD",
        "subTotal": 850,
        "tax": 149,
        "action": "purchase",
        "actionStatus": "completed",
        "sessionMetadata": '{"shard":3}',
        "awardFlow": "auto",
    }
    return {name: value for name, value in (document | changed).items() if value is not ...}


def appcharge_headers(body: bytes, key: str = MAIN_KEY, token: str = TOKEN, at: float | None = None) -> dict[str, str]:
    timestamp = str(int((time.time() if at is None else at) * 1000))
    return {
        "Content-Type": "application/json",
        "x-publisher-token": token,
        "signature": sign(body, key.encode(), timestamp),
    }


@pytest.fixture
def post_order(client: FlaskClient) -> Callable[..., Any]:
    """Post an order as Appcharge does; ``raw`` replaces the JSON, other keywords change the order's fields."""

    def post(
        raw: bytes | None = None, game: str = "demo", headers: dict[str, str] | None = None, **changed: Any
    ) -> Any:
        body = json.dumps(order(**changed), separators=(",", ":")).encode() if raw is None else raw
        return client.post(f"/appcharge/{game}/orders", data=body, headers=headers or appcharge_headers(body))

    return post


@pytest.fixture
def feed(client: FlaskClient, studio: Studio) -> Callable[..., Any]:
    """The grants the game reads, after a cursor."""

    def read(after: int = 0, limit: int = 1000) -> Any:
        answer = client.get(
            f"/game/v1/grants?after={after}&limit={limit}", headers={"Authorization": f"Bearer {studio.token}"}
        )
        assert answer.status_code == 200, answer.text
        return answer.json["grants"]

    return read
