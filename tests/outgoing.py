"""Every call that Coinslot makes to another server: where the code makes it, which settings name its address, and how
a test makes it. ``tests/kit/test_outgoing.py`` fails when the code makes a call that is not here.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app import create_app
from coinslot.access.keyring import SecretValue
from coinslot.base.errors import CoinslotError
from coinslot.base.outbound import Outbound
from coinslot.games import lookup
from coinslot.games.games import Game
from coinslot.games.options import web_address
from coinslot.installation import Installation
from coinslot.outbox import destinations
from coinslot.outbox.attempts import Claim
from coinslot.relay.grader import Grader
from handlers.appcharge.api.client import Client as Appcharge
from handlers.appcharge.logins import jwks, providers
from handlers.playcamp.api.client import Client as PlayCamp
from handlers.playcamp.payments.source import Source
from tests import databases
from tests.conftest import furnish
from tests.owed import Owed

SECRETS = {
    "appcharge.publisher_token": "publisher-token",
    "appcharge.main_key": "main-key-0123456789",
    "appcharge.google_secret": "google-secret",
    "appcharge.facebook_secret": "facebook-secret",
    "appcharge.apple_secret": "apple-secret",
    "playcamp.api_key": "key:secret",
    "game.lookup_key": "lookup-key",
}
POLL = {"playcamp.payments.rows": "rows", "playcamp.payments.map": "@", "playcamp.payments.next": "next"}
PIN = "ab" * 32


class World:
    """An installation in ``home`` that may or may not call private addresses, with a delivery that is due."""

    def __init__(self, home: Path, private_targets: str) -> None:
        environment = {**databases.environment(home), "COINSLOT_PRIVATE_TARGETS": private_targets}
        self.installation: Installation = create_app(environment).extensions["coinslot"]
        self.installation.prepare()
        studio = furnish(self.installation)
        owed = Owed(self.installation, studio)
        owed.destination("game")
        owed.credit()
        (self._claim,) = owed.claim()

    def game(self, **settings: str) -> Game:
        """The game with these settings as they are: no check of the page or the command has seen them."""
        found = self.installation.games.by_slug("demo")
        assert found is not None
        secrets = {name: (SecretValue(name, "current", value.encode()),) for name, value in SECRETS.items()}
        return dataclasses.replace(found, settings={**found.settings, **settings}, secrets=secrets)

    def claim(self, url: str) -> Claim:
        """The delivery, to this address."""
        return dataclasses.replace(
            self._claim, destination=dataclasses.replace(self._claim.destination, url=url, timeout_seconds=3)
        )

    @property
    def outbound(self) -> Outbound:
        return self.installation.outbound.for_callers


@dataclass(frozen=True)
class Way:
    """``call`` makes the call at an address and returns what the owner is told; it may raise what tells it."""

    places: tuple[str, ...]
    settings: tuple[str, ...]
    call: Callable[[World, str], object] = field(repr=False)


def _login(world: World, provider: str, **settings: str) -> providers.Login:
    return providers.Login(world.game(**settings), world.outbound, provider, ["client-1"], "client-1")


def _deliver(world: World, url: str) -> object:
    return world.installation.new_relay()._attempt(world.claim(url), "a delivery").detail


def _grade(world: World, url: str) -> object:
    destination = world.claim(url).destination
    keys = destinations.signing_secrets(world.installation.database.read(), world.installation.vault, destination.id)
    form = world.installation.formats[destination.format]
    return next(Grader(world.installation.outbound, destination, form, keys, "appcharge").findings()).words


def _trickle(world: World, url: str) -> object:
    """The grader's slow sender, without the calls before it."""
    destination = world.claim(url).destination
    form = world.installation.formats[destination.format]
    keys = destinations.signing_secrets(world.installation.database.read(), world.installation.vault, destination.id)
    grader = Grader(world.installation.outbound, destination, form, keys, "appcharge")
    delivery = grader._signed(grader._grant())
    return grader._trickle(dataclasses.replace(delivery, body=b"{}")).detail


def _poll(world: World, url: str, **settings: str) -> object:
    return Source(world.game(**POLL, **{"playcamp.payments.url": url}, **settings), world.installation.outbound).page(
        0, 1, None, 3.0
    )


def _next_page(world: World, url: str) -> object:
    source = Source(world.game(**POLL, **{"playcamp.payments.url": url}), world.installation.outbound)
    return source.page(0, 1, url, 3.0)


def _keys(setting: str, provider: str) -> Callable[[World, str], object]:
    def call(world: World, url: str) -> object:
        login = _login(world, provider, **{setting: url})
        return jwks.PublishedKeys(world.outbound, providers._keys_url(login)).find("key-1")

    return call


_API = "handlers/kit/api.py:_call"
_LOGINS = "handlers/appcharge/logins"
WAYS: dict[str, Way] = {
    "delivery": Way(("coinslot/relay/loop.py:_attempt",), ("destination",), _deliver),
    "grading": Way(("coinslot/relay/grader.py:_post",), ("destination",), _grade),
    "grading, slowly": Way(("coinslot/relay/grader.py:_trickle",), ("destination",), _trickle),
    "player look-up": Way(
        ("coinslot/games/lookup.py:player",),
        ("players.lookup_url",),
        lambda world, url: lookup.player(world.outbound, world.game(**{"players.lookup_url": url}), "alice"),
    ),
    "login at the game": Way(
        ("coinslot/games/lookup.py:player_by_password",),
        ("players.login_url",),
        lambda world, url: lookup.player_by_password(
            world.outbound, world.game(**{"players.login_url": url}), "alice", "password"
        ),
    ),
    "Google's access tokens": Way(
        (f"{_LOGINS}/providers.py:google_access_token",),
        ("appcharge.google_url",),
        lambda world, url: providers.google_access_token(_login(world, "google", **{"appcharge.google_url": url}), "t"),
    ),
    "Google's codes": Way(
        (f"{_LOGINS}/providers.py:_exchange",),
        ("appcharge.google_code_url",),
        lambda world, url: providers.google_code(_login(world, "google", **{"appcharge.google_code_url": url}), "c"),
    ),
    "Google's keys": Way(
        (f"{_LOGINS}/jwks.py:fetch_data",), ("appcharge.google_keys_url",), _keys("appcharge.google_keys_url", "google")
    ),
    "Apple's codes": Way(
        (f"{_LOGINS}/providers.py:_exchange",),
        ("appcharge.apple_url",),
        lambda world, url: providers.apple_code(_login(world, "apple", **{"appcharge.apple_url": url}), "c"),
    ),
    "Apple's keys": Way(
        (f"{_LOGINS}/jwks.py:fetch_data",), ("appcharge.apple_url",), _keys("appcharge.apple_url", "apple")
    ),
    "Facebook": Way(
        (f"{_LOGINS}/providers.py:_ask_facebook",),
        ("appcharge.facebook_url",),
        lambda world, url: providers.facebook_access_token(
            _login(world, "facebook", **{"appcharge.facebook_url": url}), "t"
        ),
    ),
    "Facebook's keys": Way(
        (f"{_LOGINS}/jwks.py:fetch_data",),
        ("appcharge.facebook_keys_url",),
        _keys("appcharge.facebook_keys_url", "facebook"),
    ),
    "Appcharge's API": Way(
        (_API,),
        ("appcharge.base_url",),
        lambda world, url: Appcharge(
            world.game(**{"appcharge.base_url": url}), world.outbound, tries=1, patience_seconds=3
        ).offer("o"),
    ),
    "PlayCamp's API": Way(
        (_API,),
        ("playcamp.base_url",),
        lambda world, url: PlayCamp(
            world.game(**{"playcamp.base_url": url}), world.outbound, tries=1, patience_seconds=3
        ).creator("c"),
    ),
    "payment poll": Way(("handlers/playcamp/payments/source.py:page",), ("playcamp.payments.url",), _poll),
    "payment poll with a body": Way(
        ("handlers/playcamp/payments/source.py:page",),
        ("playcamp.payments.url",),
        lambda world, url: _poll(world, url, **{"playcamp.payments.method": "POST", "playcamp.payments.body": "{}"}),
    ),
    "payment poll with a pinned certificate": Way(
        ("handlers/playcamp/payments/source.py:page",),
        ("playcamp.payments.url",),
        lambda world, url: _poll(world, url, **{"playcamp.payments.pin": PIN}),
    ),
    "next page of payments": Way(
        ("handlers/playcamp/payments/source.py:page",), ("playcamp.payments.url",), _next_page
    ),
}

# Calls whose address no game's settings name: only whoever runs the machine, or an owner of it, enters these.
EXEMPT: Mapping[str, str] = {
    "coinslot/operations/alerts/heartbeat.py:beat": "the heartbeat's URL (docs/alerts.md)",
    "coinslot/operations/alerts/child.py:main": "alert targets, called by Apprise (docs/alerts.md)",
    "coinslot/operations/certificate.py:look": "COINSLOT_PUBLIC_URL, for the certificate",
    "coinslot/operations/doctor.py:reachable": "COINSLOT_PUBLIC_URL, for the doctor",
    "handlers/kit/sending.py:send": "COINSLOT_PUBLIC_URL or where this server listens, for tests and `flask simulate`",
}

# Settings that hold an address which is shown or linked to, and which nothing here calls.
NEVER_CALLED = {"appcharge.store_url", "appcharge.login_redirect_uri", "appcharge.deep_link", "playcamp.entry_url"}


def told(world: World, way: Way, url: str) -> str:
    """Make the call; what the owner is told of how it ended. Errors that are no words of ours are raised."""
    try:
        return str(way.call(world, url))
    except (CoinslotError, lookup.LookupFailedError, providers.ProviderError, jwks.PyJWTError) as error:
        return str(error)
    except providers.LoginRefusedError as error:
        return error.reason
    except ValueError as error:  # what no setting can hold may be an error of Python's
        with pytest.raises(ValueError):
            web_address(url)
        return str(error)
