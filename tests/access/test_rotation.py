"""Keys change without a refused call: old and new are both good during the switch, and the old one ends with it."""

import itertools
import threading

import pytest

from app import create_app
from tests import databases
from tests.appcharge_calls import ENDPOINTS, body, is_accepted, path
from tests.conftest import MAIN_KEY, TOKEN, Studio, appcharge_headers
from tests.servers import Server, until

SECONDARY = "the-secondary-key"
NEW_KEY = "the-new-main-key-0123456789"
NEW_TOKEN = "the-new-publisher-token"
DEEP_LINK = "demo://login?token={token}"


@pytest.fixture
def store(studio):
    studio.secret("appcharge.secondary_key", SECONDARY)
    studio.config("appcharge.deep_link", DEEP_LINK)
    return studio


@pytest.fixture
def is_taken(client):
    """Whether a call made just now is accepted; each is another fact."""
    numbers = itertools.count()

    def taken(endpoint, key=MAIN_KEY, token=TOKEN):
        content = body(endpoint, next(numbers))
        answer = client.post(path(endpoint), data=content, headers=appcharge_headers(content, key, token))
        return is_accepted(answer.status_code, answer.json)

    return taken


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_old_new_and_secondary_key_are_good_during_the_switch_and_the_old_ends_with_it(store, is_taken, endpoint, db):
    assert [is_taken(endpoint, key) for key in (MAIN_KEY, SECONDARY, NEW_KEY)] == [True, True, False]

    store.rotate("appcharge.main_key", NEW_KEY)
    assert all(is_taken(endpoint, key) for _ in range(3) for key in (MAIN_KEY, NEW_KEY, SECONDARY))

    store.retire("appcharge.main_key")
    assert [is_taken(endpoint, key) for key in (MAIN_KEY, SECONDARY, NEW_KEY)] == [False, True, True]
    assert [row["slot"] for row in db("SELECT slot FROM secrets WHERE name = 'appcharge.main_key'")] == ["current"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_both_publisher_tokens_are_good_during_the_switch(store, is_taken, endpoint):
    assert [is_taken(endpoint, token=token) for token in (TOKEN, NEW_TOKEN)] == [True, False]

    store.rotate("appcharge.publisher_token", NEW_TOKEN)
    assert [is_taken(endpoint, token=token) for token in (TOKEN, NEW_TOKEN)] == [True, True]

    store.retire("appcharge.publisher_token")
    assert [is_taken(endpoint, token=token) for token in (TOKEN, NEW_TOKEN)] == [False, True]


def test_key_and_token_may_change_at_the_same_time(store, is_taken):
    store.rotate("appcharge.main_key", NEW_KEY)
    store.rotate("appcharge.publisher_token", NEW_TOKEN)

    assert all(is_taken("orders", key, token) for key in (MAIN_KEY, NEW_KEY) for token in (TOKEN, NEW_TOKEN))


@pytest.mark.parametrize(
    ("name", "endpoint"), [("appcharge.secondary_key", "orders"), ("appcharge.events_secret", "events")]
)
def test_other_keys_change_likewise(store, is_taken, name, endpoint):
    old = "the-old-value-0123456789"
    store.secret(name, old)
    store.rotate(name, NEW_KEY)
    assert all(is_taken(endpoint, key) for key in (MAIN_KEY, old, NEW_KEY))
    assert is_taken("orders", old) is (endpoint == "orders")

    store.retire(name)

    assert [is_taken(endpoint, key) for key in (old, NEW_KEY)] == [False, True]


def test_what_proved_each_call_is_recorded(store, is_taken, installation, db):
    store.rotate("appcharge.main_key", NEW_KEY)
    for key in (MAIN_KEY, NEW_KEY, SECONDARY):
        is_taken("orders", key)
    installation.observations.flush()

    assert [row["signed_with"] for row in db("SELECT signed_with FROM transactions ORDER BY id")] == [
        "appcharge.main_key/previous",
        "appcharge.main_key/current",
        "appcharge.secondary_key/current",
    ]
    used = db("SELECT name, slot FROM secrets WHERE last_used_at IS NOT NULL ORDER BY name, slot")
    assert [(row["name"], row["slot"]) for row in used] == [
        ("appcharge.main_key", "current"),
        ("appcharge.main_key", "previous"),
        ("appcharge.publisher_token", "current"),
        ("appcharge.secondary_key", "current"),
    ]


def test_a_use_written_after_a_rotation_is_of_the_value_that_was_used(store, is_taken, installation, db):
    assert is_taken("orders", MAIN_KEY)
    store.rotate("appcharge.main_key", "mistyped-0123456789")
    installation.observations.flush()

    used = db("SELECT slot FROM secrets WHERE name = 'appcharge.main_key' AND last_used_at IS NOT NULL")
    assert [row["slot"] for row in used] == ["previous"]
    # So the next rotation replaces the value that nobody has used, and the partner's own stays.
    store.rotate("appcharge.main_key", NEW_KEY)
    assert [is_taken("orders", key) for key in (MAIN_KEY, "mistyped-0123456789", NEW_KEY)] == [True, False, True]


class Appcharge:
    """Somebody who calls all five addresses of a server without a pause, with whatever key and token it was given."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._numbers = itertools.count()
        self._mutex = threading.Lock()
        self._is_ending = False
        self._threads = [threading.Thread(target=self._call) for _ in range(4)]
        self.proofs = [(MAIN_KEY, TOKEN)]
        self.calls = 0
        self.in_hand = []
        self.refused = []

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._is_ending = True
        for thread in self._threads:
            thread.join()

    def switch(self, *proofs):
        """From now on these; returns once no call with another is under way."""
        with self._mutex:
            self.proofs = list(proofs)
        until(lambda: all(proof in proofs for proof in list(self.in_hand)), "calls with other keys are over")

    def go_on(self, calls=20):
        """Until so many more calls have been answered."""
        enough = self.calls + calls
        until(lambda: self.calls >= enough, f"{calls} more calls", 30)

    def is_taken(self, endpoint, key, token):
        content = body(endpoint, next(self._numbers))
        answer = self._server.post(path(endpoint), content, appcharge_headers(content, key, token))
        return is_accepted(answer.status, answer.json)

    def _call(self):
        while not self._is_ending:
            with self._mutex:
                number = next(self._numbers)
                endpoint, proof = ENDPOINTS[number % len(ENDPOINTS)], self.proofs[number % len(self.proofs)]
                self.in_hand.append(proof)
            try:
                is_taken = self.is_taken(endpoint, *proof)
            except OSError as error:
                is_taken = repr(error)
            with self._mutex:
                self.in_hand.remove(proof)
                self.calls += 1
                if is_taken is not True:
                    self.refused.append((endpoint, proof, is_taken))


def flask(home, *words, value=None):
    """A command as the owner types it, in another process than the server's."""
    done = create_app(databases.environment(home)).test_cli_runner().invoke(args=words, input=value)
    assert done.exit_code == 0, done.output
    assert value is None or value not in done.output


def test_a_server_under_load_refuses_no_call_while_its_owner_changes_the_keys(tmp_path):
    home = tmp_path / "home"
    installation = create_app(databases.environment(home)).extensions["coinslot"]
    installation.prepare()
    studio = Studio(installation, "demo")
    studio.secret("appcharge.main_key", MAIN_KEY)
    studio.secret("appcharge.publisher_token", TOKEN)
    studio.config("appcharge.deep_link", DEEP_LINK)
    studio.player("alice")
    studio.item("coins", "gems")
    installation.database.close()

    with Server(home, WEB_CONCURRENCY="2") as server, Appcharge(server) as appcharge:
        appcharge.go_on()
        flask(home, "secret", "rotate", "demo", "appcharge.main_key", value=NEW_KEY)
        flask(home, "secret", "rotate", "demo", "appcharge.publisher_token", value=NEW_TOKEN)
        appcharge.switch((MAIN_KEY, TOKEN), (NEW_KEY, NEW_TOKEN), (MAIN_KEY, NEW_TOKEN), (NEW_KEY, TOKEN))
        appcharge.go_on()
        appcharge.switch((NEW_KEY, NEW_TOKEN))
        flask(home, "secret", "retire", "demo", "appcharge.main_key")
        flask(home, "secret", "retire", "demo", "appcharge.publisher_token")
        appcharge.go_on()
        late = [
            appcharge.is_taken(endpoint, key, token)
            for endpoint in ENDPOINTS
            for key, token in ((MAIN_KEY, NEW_TOKEN), (NEW_KEY, TOKEN))
        ]

    assert appcharge.refused == []
    assert late == [False] * len(late)
