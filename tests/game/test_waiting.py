"""A server of somebody else's that hangs keeps those waiting who need its answer, and nobody else."""

import json
from contextlib import contextmanager

import pytest

from handlers.appcharge.api.client import Client as Appcharge
from handlers.appcharge.logins import providers, social
from handlers.playcamp.api.client import Client as PlayCamp
from tests.conftest import appcharge_headers, order
from tests.fakes.http import Receiver, silence
from tests.fakes.social import Google
from tests.servers import Server, Underway, until

AT_ONCE = 40


def post(server, endpoint, document):
    body = json.dumps(document).encode()
    return server.post(f"/appcharge/demo/{endpoint}", body, appcharge_headers(body))


def log_in_at_once(server, logins):
    return Underway(*[lambda login=login: post(server, "auth", login) for login in logins])


def order_again_and_again(server):
    """How long the slowest of some orders waited. Each is credited."""
    seconds = []
    for number in range(5):
        answer = post(server, "orders", order(orderId=f"order-{number}"))
        assert answer.status == 200, answer.body
        seconds.append(answer.seconds)
    return max(seconds)


def test_orders_are_credited_while_the_games_login_server_hangs(installation, studio, feed):
    with Receiver(silence) as mute, Server(installation.settings.home, "--workers", "1") as server:
        studio.config("players.login_url", mute.url)
        logins = log_in_at_once(
            server,
            [
                {"authMethod": "userPassword", "userName": f"carol-{number}", "password": "any"}
                for number in range(AT_ONCE)
            ],
        )
        until(lambda: len(mute.requests) == 3, "as many logins hang as may")

        assert order_again_and_again(server) < 2
        assert mute.in_hand.total() == 3

        mute.is_closing.set()
        assert {answer.status for answer in logins.results()} == {503}
        assert "enough calls to it are waiting already" in server.log
    assert mute.most_at_once == 3
    assert len(feed()) == 5


def test_orders_are_credited_while_a_providers_published_keys_hang(installation, studio, feed):
    with Google() as google, Server(installation.settings.home, "--workers", "1") as server:
        google.set_up(studio)
        google.trouble[google.keys_path] = silence
        token = google.id_token()
        logins = log_in_at_once(server, [{"authMethod": "google", "token": token}] * AT_ONCE)
        until(lambda: google.requests, "a login hangs")

        assert order_again_and_again(server) < 2.5  # a fetch is given up after three seconds

        google.is_closing.set()
        assert {answer.status for answer in logins.results()} == {503}
    assert google.paths() == [google.keys_path]
    assert len(feed()) == 5


@contextmanager
def crowded(installation, url, count):
    """As many calls as may be wait for a server that hangs; ``count`` says how many have come there."""
    calls = Underway(*[lambda: installation.outbound.for_callers.post(url, {}, b"{}", 20)] * 3)
    try:
        until(lambda: count() == 3, "no more may wait")
        yield
    finally:
        calls.results()


@pytest.mark.parametrize(
    ("partner", "call"),
    [
        (Appcharge, lambda client: client.offers()),
        (PlayCamp, lambda client: client.redeem_coupon("WELCOME", "alice")),
        (PlayCamp, lambda client: client.validate_coupon("WELCOME", "alice")),
        (PlayCamp, lambda client: client.creator("ABCDE")),
        (PlayCamp, lambda client: client.issue_ott("alice")),
    ],
)
def test_a_call_that_was_turned_away_is_not_repeated_and_nothing_came_of_it(installation, studio, partner, call):
    studio.secret("playcamp.api_key", "key-id:key-secret")
    with Receiver(silence) as mute:
        for name in ("appcharge", "playcamp"):
            studio.config(f"{name}.base_url", mute.url)
        client = partner(installation.games.by_slug("demo"), installation.outbound.for_callers, sleep=pytest.fail)
        with crowded(installation, mute.url, lambda: len(mute.requests)):
            with pytest.raises(Exception, match="enough calls to it are waiting already") as caught:
                call(client)

            assert not caught.value.is_uncertain
            assert not getattr(caught.value, "is_permanent", False)
            assert len(mute.requests) == 3
            mute.is_closing.set()


def test_keys_that_could_not_be_asked_for_are_asked_for_as_soon_as_they_can_be(installation, studio):
    with Google() as google:
        google.set_up(studio)
        google.trouble["/token"] = silence
        game = installation.games.by_slug("demo")
        with crowded(installation, f"{google.url}/token", lambda: google.paths().count("/token")):
            with pytest.raises(providers.ProviderError, match="enough calls wait already"):
                social.subject(game, installation.outbound.for_callers, "google", google.id_token())
            google.is_closing.set()

        assert social.subject(game, installation.outbound.for_callers, "google", google.id_token(sub="g-1")) == "g-1"
        assert google.paths().count(google.keys_path) == 1
