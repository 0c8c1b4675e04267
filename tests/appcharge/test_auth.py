"""Logins to Appcharge's store: every method, every way to fail, both ways by code, and nothing secret kept or told."""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from werkzeug.security import generate_password_hash

from coinslot.games import registry
from handlers.appcharge.logins import auth
from handlers.appcharge.logins import methods as login_methods
from handlers.appcharge.logins.game_calls import login_url
from tests import databases
from tests.conftest import appcharge_headers
from tests.fakes.http import FakeServer, Request, closed_port, status
from tests.fakes.social import Facebook, Google
from tests.owed import Owed

# Written by hand after the documentation's field table.
LOGIN = {
    "authMethod": "userToken",
    "token": "alice",
    "date": "2025-10-21T14:17:27.329Z",
    "appId": "NA",
    "userName": None,
    "password": None,
    "otp": None,
    "os": "android",
    "utmSource": "newsletter",
    "sessionId": "3f0b1c9e-0a52-4a43-9a51-c01500000001",
    "playerLocation": {"countryCode2": "US", "state": "FL"},
    "somethingNew": {"of": ["theirs"]},
}
INITIATION = {"device": "DESKTOP", "date": "2025-10-21T14:17:27.329Z"}
DEEP_LINK = "mygame://login?shop=1&token={token}"
STORE = "https://store.example.com"
# As strong as a test needs; one of full strength takes the better part of a tenth of a second.
PASSWORD, PASSWORD_HASH = "correct horse", generate_password_hash("correct horse", "scrypt:1024:8:1")
BY_PASSWORD = {"authMethod": "userPassword", "userName": "al", "password": PASSWORD}
SUBJECT = "110169484474386276334"


COMPOSED, DECOMPOSED = "Zo\u00eb", "Zoe\u0308"
# Ways to write "al" that some server or other takes for the same name.
UNSEEN = "\u200b\u200d\ufeff\u00ad\u034f\u0301\u20dd\ufe0f\x00\x1f\x85\u3164"
SPELLINGS = [
    *(f"{before}a{between}l" for each in UNSEEN for before, between in (("", each), (each, ""), (each, each))),
    *("AL", "Al", "\uff41\uff4c", "\u00e1l", "a\u013a", "a l", "a\u00a0l", "A\u2113"),
]


class Studio:
    """What the tests do: call as Appcharge does, call as the game does, and look at what became of it."""

    def __init__(self, client: Any, studio: Any, db: Callable[..., list[dict[str, Any]]]) -> None:
        self.client = client
        self.studio = studio
        self.db = db
        self.config = studio.config

    def call(self, endpoint: str, body: bytes, **headers: str) -> Any:
        signed = appcharge_headers(body) | headers
        return self.client.post(f"/appcharge/demo/{endpoint}", data=body, headers=signed)

    def log_in(self, **changed: Any) -> Any:
        document = {name: value for name, value in (LOGIN | changed).items() if value is not ...}
        answer = self.call("auth", json.dumps(document).encode())
        assert answer.status_code == 200, answer.text
        return answer.json

    def log_in_with(self, user_name: Any = "al", password: Any = PASSWORD) -> Any:
        return self.log_in(authMethod="userPassword", token=None, userName=user_name, password=password)

    def log_in_by_code(self, code: Any, token: Any = ...) -> Any:
        otp = {"playerCode": code} | ({} if token is ... else {"accessToken": token})
        return self.log_in(authMethod="otp", token=None, otp=otp)

    def unavailable(self, **changed: Any) -> Any:
        """A login that is answered 503, in Appcharge's words."""
        answer = self.call("auth", json.dumps(LOGIN | changed).encode())
        assert (answer.status_code, answer.json["status"]) == (503, "invalid")
        return answer

    def confirm(self, token: str, player_id: str = "alice") -> str:
        """The code that the game shows its player."""
        answer = self.game("logins/confirm", {"token": token, "player_id": player_id})
        assert answer.status_code == 200, answer.text
        return answer.json["player_code"]

    def put(self, player_id: str, method: str = "PUT", **entry: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.studio.token}"}
        return self.client.open(f"/game/v1/players/{player_id}", method=method, json=entry, headers=headers)

    def is_registered(self, player_id: str) -> bool:
        return bool(self.db("SELECT 1 FROM players WHERE player_id = :id", id=player_id))

    def initiate(self, **changed: Any) -> Any:
        return self.call("otp", json.dumps(INITIATION | changed).encode())

    def game(self, path: str, document: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.studio.token}"}
        return self.client.post(f"/game/v1/{path}", json=document, headers=headers)

    def entry(self, player_id: str, **entry: Any) -> None:
        game_id = self.studio.row["id"]
        self.studio.installation.database.write_here(lambda tx: registry.put_player(tx, game_id, player_id, entry))

    def events(self) -> list[tuple[Any, ...]]:
        """Of every attempt: method, result, reason and player."""
        rows = self.db("SELECT type, data, player_id, raw_body FROM events ORDER BY id")
        assert all((row["type"], row["raw_body"]) == ("player.login", None) for row in rows)
        told = [(json.loads(row["data"]), row["player_id"]) for row in rows]
        return [(data["method"], data["result"], data["reason"], player_id) for data, player_id in told]

    def everything(self) -> str:
        """Every value of every table, as text."""
        tables = databases.tables(self.studio.installation)
        return "\n".join(str(row) for table in tables for row in self.db(f"SELECT * FROM {table}"))


@pytest.fixture
def store(client, studio, db) -> Studio:
    return Studio(client, studio, db)


class GameServer(FakeServer):
    """A studio's own server. ``players`` and ``passwords`` say what it answers: a status and a document, or bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.players: dict[str, tuple[int, Any]] = {}
        self.passwords: dict[tuple[str, str], tuple[int, Any]] = {}

    def reply(self, request: Request) -> tuple[int, Any]:
        if request.method == "GET":
            return self.players.get(request.query["player_id"], (404, {}))
        return self.passwords.get((request.json["login_name"], request.json["password"]), (401, {}))


@pytest.fixture
def game_server(store) -> Iterator[GameServer]:
    """A server the game's ``players.login_url`` and ``players.lookup_url`` lead to."""
    with GameServer() as server:
        store.config("players.login_url", f"{server.url}/login")
        store.config("players.lookup_url", f"{server.url}/players?shard=3")
        store.studio.secret("game.lookup_key", "the-lookup-key")
        yield server


@pytest.fixture(scope="module")
def google() -> Iterator[Google]:
    with Google() as google:
        yield google


def assert_invalid(answer: dict[str, Any], message: str | None = None) -> None:
    assert set(answer) == {"status", "publisherErrorMessageType", "publisherErrorMessageTitle", "publisherErrorMessage"}
    assert (answer["status"], answer["publisherErrorMessageType"]) == ("invalid", "plainText")
    assert answer["publisherErrorMessageTitle"] == "Login failed"
    assert answer["publisherErrorMessage"] == (login_methods.FAILED if message is None else message)


BARE = {"status": "valid", "playerProfileImage": "", "sessionMetadata": {}}
IMAGE = "https://cdn.example.com/alice.png"


class TestAnswers:
    def test_a_player_without_a_profile_has_their_id_for_a_name(self, store):
        assert store.log_in() == BARE | {"publisherPlayerId": "alice", "playerName": "alice"}

    def test_a_profile_is_told(self, store):
        metadata = {"shard": 3, "nested": {"a": [1, 2.5, None]}}
        profile = {"session_metadata": metadata, "logo": "x"}
        store.entry("alice", name="Älice", profile_image=IMAGE, country="DE", profile=profile)

        assert store.log_in() == {
            "status": "valid",
            "publisherPlayerId": "alice",
            "playerName": "Älice",
            "playerProfileImage": IMAGE,
            "sessionMetadata": metadata,
            "playerOverrideCountry": "DE",
        }

    def test_an_attempt_is_an_event_of_the_feed_and_owed_to_the_game(self, store, installation, db):
        Owed(installation, store.studio).destination(events="player.*")

        store.log_in()
        store.log_in(token="mallory")

        headers = {"Authorization": f"Bearer {store.studio.token}"}
        first, second = store.client.get("/game/v1/events", headers=headers).json["events"]
        told = {name: first[name] for name in ("type", "partner", "player_id", "is_test", "occurred_at")}
        assert tuple(told.values()) == ("player.login", "appcharge", "alice", False, "2025-10-21T14:17:27.329000Z")
        assert first["data"] == {
            "method": "userToken",
            "result": "success",
            "reason": None,
            "session_id": LOGIN["sessionId"],
            "os": "android",
            "country": "US",
        }
        assert (second["player_id"], second["data"]["reason"]) == (None, "unknown_player")
        assert [row["event_type"] for row in db("SELECT event_type FROM deliveries")] == ["player.login"] * 2

    def test_the_same_login_twice_is_two_attempts(self, store):
        store.log_in()
        store.log_in()

        assert store.events() == [("userToken", "success", None, "alice")] * 2

    def test_the_reserved_player_and_a_sandbox_are_tests(self, store, db):
        store.log_in(token="coinslot-test")
        store.log_in()
        store.config("appcharge.environment", "sandbox")
        store.log_in()

        rows = db("SELECT is_test, environment FROM events ORDER BY id")
        assert [tuple(row.values()) for row in rows] == [(1, "live"), (0, "live"), (1, "sandbox")]

    def test_odd_details_are_cut_or_dropped_and_hinder_nobody(self, store, db):
        for field, value, kept in (
            ("sessionId", "x" * 5000, "x" * 64),
            ("sessionId", "a\n\x00\u202eb\ud800", "ab"),
            ("sessionId", 12345, "12345"),
            ("sessionId", {"a": 1}, None),
            ("sessionId", ..., None),
            ("os", None, None),
            ("os", ["ios"], None),
            ("playerLocation", "US", None),
            ("playerLocation", {"countryCode2": 7.5}, None),
            ("playerLocation", {"countryCode2": None}, None),
            ("playerLocation", None, None),
        ):
            assert store.log_in(**{field: value})["status"] == "valid"

            data = json.loads(db("SELECT data FROM events ORDER BY id DESC LIMIT 1")[0]["data"])
            assert data[{"sessionId": "session_id", "os": "os", "playerLocation": "country"}[field]] == kept

    def test_an_odd_date_is_no_date(self, store, db):
        for date in (None, "", "yesterday", 5, {}, "9999-99-99", "0001-01-01T00:00:00+23:59", ...):
            assert store.log_in(date=date)["status"] == "valid"

        assert db("SELECT DISTINCT occurred_at FROM events") == [{"occurred_at": None}]


class TestRefusals:
    def test_what_cannot_be_read_is_refused_and_noted(self, store, installation, db):
        bodies = (
            *(b"", b"{", b"[]", b"null", b'"x"', b"{}", b"\xff\xfe", b'{"authMethod": null}', b'{"authMethod": ""}'),
            *(b'{"authMethod": 5}', b'{"authMethod": ["otp"]}', b'{"authMethod": "userToken", "token": NaN}'),
            b'{"authMethod": "userToken", "token": ' + b"9" * 5000 + b"}",
            b'{"authMethod": "userToken", "token": ' + b"[" * 100_000,
        )
        for body in bodies:
            answer = store.call("auth", body)

            assert answer.status_code == 400
            error = answer.json["error"]
            assert error.startswith("The login cannot be read: ")
            assert answer.json == {"error": error, "status": "invalid"}
        installation.observations.flush()
        refusals = db("SELECT endpoint, reason, status FROM refusals")
        assert refusals == [{"endpoint": "auth", "reason": "malformed", "status": 400}] * len(bodies)
        assert store.events() == []

    def test_a_method_nobody_knows_is_invalid_and_an_event(self, store):
        methods = ("carrierPigeon", "usertoken", "OTP", "userToken\x00", "x" * 10_000, "\ud800")
        for method in methods:
            assert_invalid(store.log_in(authMethod=method), auth.FAILED_BECAUSE["method_off"])

        assert store.events() == [("unknown", "failed", "method_off", None)] * len(methods)

    def test_only_the_methods_the_owner_allows_are_allowed(self, store):
        store.config("appcharge.logins", "otp, userPassword")
        assert_invalid(store.log_in(), auth.FAILED_BECAUSE["method_off"])

        store.config("appcharge.logins", "userToken")
        assert store.log_in()["status"] == "valid"

    def test_a_provider_that_is_not_set_up_is_off_even_where_it_is_allowed(self, store):
        store.config("appcharge.logins", "google,apple,facebook")

        for provider in ("google", "apple", "facebook"):
            assert_invalid(store.log_in(authMethod=provider), auth.FAILED_BECAUSE["method_off"])

    def test_our_own_trouble_is_503_in_the_dialect(self, store, installation):
        with databases.Fault(installation, "INSERT ON events"):
            store.unavailable()


class TestUserToken:
    def test_who_is_not_registered_cannot_log_in(self, store):
        tokens = ("mallory", "", None, ..., "x" * 256, "a\nb", "\ud800", ["alice"], True, 1.5, {})
        for token in tokens:
            assert_invalid(store.log_in(token=token))

        assert store.events() == [("userToken", "failed", "unknown_player", None)] * len(tokens)

    def test_an_id_typed_with_blanks_or_sent_as_a_number_is_that_id(self, store):
        store.studio.player("8533676467")

        assert store.log_in(token=" alice ")["publisherPlayerId"] == "alice"
        assert store.log_in(token=8533676467)["publisherPlayerId"] == "8533676467"

    def test_create_registers_whoever_comes(self, store):
        store.config("players.unknown", "create")

        assert store.log_in(token="carol")["publisherPlayerId"] == "carol"
        assert store.is_registered("carol")
        assert_invalid(store.log_in(token=""))

    def test_lookup_asks_the_game_and_shows_what_it_tells(self, store, game_server):
        store.config("players.unknown", "lookup")
        told = {"name": "Carol", "profile_image": IMAGE, "country": "FR", "token": "x"}
        game_server.players["carol"] = (200, told)

        shown = {"playerName": "Carol", "playerProfileImage": IMAGE, "playerOverrideCountry": "FR"}
        assert store.log_in(token="carol") == BARE | shown | {"publisherPlayerId": "carol"}
        assert_invalid(store.log_in(token="mallory"))
        assert store.log_in()["publisherPlayerId"] == "alice"
        assert [(request.target, request.headers["authorization"]) for request in game_server.requests] == [
            ("/players?shard=3&player_id=carol", "Bearer the-lookup-key"),
            ("/players?shard=3&player_id=mallory", "Bearer the-lookup-key"),
        ]  # who is registered needs no asking
        assert not store.is_registered("carol")

    def test_a_profile_the_game_tells_badly_is_not_shown(self, store, game_server):
        store.config("players.unknown", "lookup")
        for document in (
            b"",
            b"not JSON",
            b"[]",
            b"[" * 50_000,
            b"x" * 100_000,
            {"name": 5, "profile_image": "javascript:alert(1)", "country": "France"},
            {"name": "a\nb", "profile_image": "https://x/\x00", "country": "fr"},
            {"name": "x" * 256, "profile_image": "https://" + "x" * 2048, "country": "FRA\n"},
            {"name": "\ud800", "profile_image": None, "country": None},
            {"name": " ", "profile_image": {}, "country": []},
        ):
            game_server.players["carol"] = (200, document)

            assert store.log_in(token="carol") == BARE | {"publisherPlayerId": "carol", "playerName": "carol"}

    def test_a_game_server_that_does_not_say_is_our_trouble_and_an_event(self, store, game_server, caplog):
        store.config("players.unknown", "lookup")
        game_server.players["carol"] = (500, {})

        answer = store.unavailable(token="carol")
        assert answer.json["publisherErrorMessage"] == answer.json["error"]
        assert answer.json["publisherErrorMessageType"] == "plainText"
        assert store.events() == [("userToken", "failed", "unavailable", None)]
        assert "carol" not in caplog.text


class TestPassword:
    @pytest.fixture(autouse=True)
    def password(self, store):
        store.entry("alice", login_name="al", password_hash=PASSWORD_HASH)

    def test_the_right_password_logs_in(self, store):
        assert store.log_in_with()["publisherPlayerId"] == "alice"
        assert store.log_in_with(" al ")["publisherPlayerId"] == "alice"

        assert store.events() == [("userPassword", "success", None, "alice")] * 2

    def test_a_password_set_through_the_game_api_is_good(self, store):
        assert store.put("bob", login_name="bobby", password="swordfish").status_code == 200

        assert store.log_in_with("bobby", "swordfish")["publisherPlayerId"] == "bob"
        assert_invalid(store.log_in_with("bobby", "swordfisH"))

    def test_wrong_passwords_and_unknown_names_look_alike(self, store):
        store.entry("bob", login_name="without-password")

        names = {"al": "alice", "nobody": None, "without-password": "bob"}
        answers = [store.log_in_with(name, "wrong") for name in names]

        assert answers == [answers[0]] * 3
        assert_invalid(answers[0])
        assert [event[2:] for event in store.events()] == [("wrong_password", player) for player in names.values()]

    def test_wrong_passwords_and_unknown_names_take_alike(self, store):
        store.entry("alice", login_name="al", password_hash=generate_password_hash(PASSWORD))

        def seconds(user_name: str) -> float:
            began = time.thread_time()
            store.log_in_with(user_name, "wrong")
            return time.thread_time() - began

        assert seconds("nobody") > seconds("al") / 2

    @pytest.mark.parametrize(("stored", "typed"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)], ids=["NFC", "NFD"])
    def test_the_same_letters_are_the_same_in_either_unicode_form(self, store, stored, typed):
        answer = store.put("bob", login_name=f"{stored}@x", password=f"{stored} horse")
        assert answer.json["login_name"] == f"{stored}@x"  # as the game wrote it

        assert store.log_in_with(f"{typed}@x", f"{typed} horse")["publisherPlayerId"] == "bob"
        assert store.log_in_with(f"\u200b{typed}@x\ufeff", f"{typed} horse")["publisherPlayerId"] == "bob"
        assert_invalid(store.log_in_with("Zoe@x", f"{typed} horse"))
        assert store.put("zoe", login_name=f"{typed}@x").status_code == 409

    def test_what_is_no_password_or_no_name_is_a_wrong_one(self, store):
        for password in ("", None, ..., "x" * 1025, "\ud800", 5.5, ["correct horse"], " correct horse "):
            assert_invalid(store.log_in_with("al", password))
        for user_name in ("", None, ..., "x" * 256, "\ud800", {"al": 1}, "AL", "al\x00"):
            assert_invalid(store.log_in_with(user_name))

    def test_more_than_can_be_hashed_at_once_is_our_trouble_and_counts_for_nobody(self, store, db, monkeypatch):
        monkeypatch.setattr(login_methods, "HASH_WAIT_SECONDS", 0.01)
        with login_methods.hashing, login_methods.hashing:
            store.unavailable(**BY_PASSWORD)

        assert {row["failures"] for row in db("SELECT failures FROM throttles")} == {0}
        assert store.log_in_with()["status"] == "valid"


class TestThrottle:
    @pytest.fixture(autouse=True)
    def password(self, store):
        store.entry("alice", login_name="al", password_hash=PASSWORD_HASH)

    def test_after_ten_wrong_passwords_even_the_right_one_waits_a_quarter_of_an_hour(self, store, clock):
        for _ in range(10):
            assert_invalid(store.log_in_with("al", "wrong"))

        assert_invalid(store.log_in_with(), "Too many attempts; try again in 15 minutes.")
        clock.shift(14 * 60 + 30)
        assert_invalid(store.log_in_with(), "Too many attempts; try again in 1 minute.")
        clock.shift(31)
        assert store.log_in_with()["status"] == "valid"

        reasons = [event[2:] for event in store.events()]
        assert reasons == [("wrong_password", "alice")] * 10 + [("throttled", "alice")] * 2 + [(None, "alice")]

    def test_success_clears(self, store, clock, db):
        for _ in range(9):
            store.log_in_with("al", "wrong")
        store.log_in_with()
        assert db("SELECT * FROM throttles") == []

        for _ in range(9):
            store.log_in_with("al", "wrong")

        assert store.log_in_with()["status"] == "valid"

    def test_one_name_is_slowed_down_and_no_other(self, store, clock):
        store.entry("bob", login_name="bobby", password_hash=PASSWORD_HASH)
        for _ in range(10):
            store.log_in_with("al", "wrong")

        assert store.log_in_with("bobby")["publisherPlayerId"] == "bob"
        assert store.log_in(token="alice")["status"] == "valid"

    def test_other_spellings_of_a_name_are_no_further_tries(self, store, clock, game_server):
        for name in ("al", "AL", "Al", "aL", "ａｌ") * 2:
            store.log_in_with(name, "wrong")

        assert "Too many attempts" in store.log_in_with("aL", "wrong")["publisherErrorMessage"]

    def test_no_spelling_of_a_name_gets_around_the_wait(self, store, clock, game_server):
        for name in SPELLINGS:
            game_server.passwords[name, PASSWORD] = (200, {"player_id": "bob"})
        assert len(set(SPELLINGS)) >= 40
        for name in SPELLINGS[:10]:
            assert_invalid(store.log_in_with(name, "wrong"))

        for name in SPELLINGS[10:]:
            assert_invalid(store.log_in_with(name), "Too many attempts; try again in 15 minutes.")

        assert len(game_server.requests) <= 10

    def test_who_is_in_by_another_spelling_has_earned_a_name_nothing(self, store, clock):
        store.entry("mallory", login_name="AL", password_hash=PASSWORD_HASH)
        for _ in range(9):
            assert_invalid(store.log_in_with("al", "wrong"))
        assert store.log_in_with("AL")["publisherPlayerId"] == "mallory"

        store.log_in_with("al", "wrong")

        assert_invalid(store.log_in_with("al", "wrong"), "Too many attempts; try again in 15 minutes.")

    def test_a_new_password_ends_the_wait(self, store, clock):
        for _ in range(10):
            store.log_in_with("al", "wrong")

        assert store.put("alice", "PATCH", password="a new one").status_code == 200
        assert store.log_in_with("al", "a new one")["publisherPlayerId"] == "alice"

    def test_neither_the_game_nor_a_hash_is_asked_while_throttled(self, store, clock, game_server):
        for _ in range(10):
            assert_invalid(store.log_in_with("carol", "wrong"))
        assert len(game_server.requests) == 10

        with login_methods.hashing, login_methods.hashing:
            answer = store.log_in_with("carol")

        assert "Too many attempts" in answer["publisherErrorMessage"]
        assert len(game_server.requests) == 10

    def test_of_many_guesses_at_once_ten_are_judged(self, app, store):
        def guess(number: int) -> None:
            mine = Studio(app.test_client(), store.studio, store.db)
            mine.log_in_with("al", f"wrong-{number}")

        threads = [threading.Thread(target=guess, args=(number,)) for number in range(14)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        reasons = [event[2] for event in store.events()]
        assert sorted(reasons) == ["throttled"] * 4 + ["wrong_password"] * 10

    def test_the_name_is_kept_as_a_hash(self, store, db):
        store.log_in_with("secret-name", "wrong")

        (row,) = db("SELECT key, failures FROM throttles")
        assert re.fullmatch("password-of-name:[0-9a-f]{64}", row["key"])
        assert row["failures"] == 1
        assert "secret-name" not in store.everything()


class TestPasswordsAtTheGame:
    def test_the_game_is_asked_where_there_is_no_password_here(self, store, game_server):
        game_server.passwords["al", PASSWORD] = (200, {"player_id": "alice"})

        assert store.log_in_with()["publisherPlayerId"] == "alice"

        (request,) = game_server.requests
        assert (request.route, request.json) == ("POST /login", {"login_name": "al", "password": PASSWORD})
        assert request.headers["authorization"] == "Bearer the-lookup-key"
        assert request.headers["content-type"] == "application/json"

    def test_the_game_is_asked_in_one_unicode_form(self, store, game_server):
        game_server.passwords[COMPOSED, f"{COMPOSED} horse"] = (200, {"player_id": "alice"})

        assert store.log_in_with(DECOMPOSED, f"{DECOMPOSED} horse")["publisherPlayerId"] == "alice"

    def test_a_password_here_is_the_only_one(self, store, game_server):
        store.entry("alice", login_name="al", password_hash=PASSWORD_HASH)
        game_server.passwords["al", "other"] = (200, {"player_id": "bob"})

        assert_invalid(store.log_in_with("al", "other"))
        assert store.log_in_with()["publisherPlayerId"] == "alice"

        assert game_server.requests == []

    def test_the_game_may_say_no(self, store, game_server):
        for code in (401, 403, 404):
            game_server.passwords["al", PASSWORD] = (code, {})

            assert_invalid(store.log_in_with())

        assert store.events() == [("userPassword", "failed", "wrong_password", None)] * 3

    def test_anything_else_is_our_trouble_and_counts_for_nobody(self, store, game_server, db):
        odd_ids = ("", None, ["alice"], True, "x" * 256, "a\nb", " alice", "\ud800")
        answers = [
            *((code, {"player_id": "alice"}) for code in (201, 301, 302, 400, 429, 500, 503)),
            *((200, {"player_id": value}) for value in odd_ids),
            (204, b""),
            (200, {}),
            (200, []),
            (200, b""),
            (200, b'{"player_id": "alice"' + b" " * 70_000 + b"}"),
        ]
        for told in answers:
            game_server.passwords["al", PASSWORD] = told
            store.unavailable(**BY_PASSWORD)
        assert db("SELECT failures FROM throttles") == [{"failures": 0}]
        assert store.events() == [("userPassword", "failed", "unavailable", None)] * len(answers)

    def test_a_game_that_is_down_is_our_trouble(self, store):
        store.config("players.login_url", f"http://127.0.0.1:{closed_port()}/login")
        store.unavailable(**BY_PASSWORD)

    @pytest.mark.parametrize(("unknown", "is_let_in"), [("reject", False), ("create", True), ("lookup", True)])
    def test_a_player_the_game_names_exists_unless_players_must_be_registered(
        self, store, game_server, db, unknown, is_let_in
    ):
        store.config("players.unknown", unknown)
        game_server.passwords["al", PASSWORD] = (200, {"player_id": "carol", "name": "Carol"})

        answer = store.log_in_with()

        if is_let_in:
            assert (answer["publisherPlayerId"], answer["playerName"]) == ("carol", "Carol")
        else:
            assert_invalid(answer)
        assert store.is_registered("carol") == (unknown == "create")
        assert len(game_server.requests) == 1


class TestAccounts:
    @pytest.fixture(autouse=True)
    def configured(self, store, google):
        google.set_up(store.studio)

    def log_in(self, store, token: Any, **changed: Any) -> Any:
        return store.log_in(authMethod="google", token=token, **changed)

    def test_a_linked_account_is_its_player(self, store, google):
        store.entry("alice", identities={"google": SUBJECT})

        assert self.log_in(store, google.access_token())["publisherPlayerId"] == "alice"
        assert self.log_in(store, google.id_token(), appId=..., appID=google.client_id)["publisherPlayerId"] == "alice"

        assert store.events() == [("google", "success", None, "alice")] * 2

    def test_an_account_that_is_not_linked_is_nobody(self, store, google, db):
        def is_refused(**account: Any) -> None:
            assert_invalid(self.log_in(store, google.access_token(**account)), auth.FAILED_BECAUSE["not_linked"])

        is_refused()
        assert store.events() == [("google", "failed", "not_linked", None)]
        store.config("players.unknown", "create")
        is_refused(sub="9" * 255)  # too long for a player's id
        store.entry(f"google:{SUBJECT}", identities={"google": "another"})
        is_refused()  # the id is taken by a player with another account
        assert [row["subject"] for row in db("SELECT subject FROM identities")] == ["another"]

    def test_create_registers_a_player_and_links_it(self, store, google, db):
        store.config("players.unknown", "create")

        for _ in range(2):
            assert self.log_in(store, google.access_token())["publisherPlayerId"] == f"google:{SUBJECT}"

        assert db("SELECT provider, subject, player_id FROM identities") == [
            {"provider": "google", "subject": SUBJECT, "player_id": f"google:{SUBJECT}"}
        ]

    def test_where_ids_are_the_accounts_own_the_player_rules_hold(self, store, google, db):
        store.config("appcharge.social_ids", "subject")
        assert_invalid(self.log_in(store, google.access_token()))

        store.studio.player(SUBJECT)
        assert self.log_in(store, google.access_token())["publisherPlayerId"] == SUBJECT

        store.config("players.unknown", "create")
        assert self.log_in(store, google.access_token(sub="77"))["publisherPlayerId"] == "77"
        assert db("SELECT player_id FROM players WHERE player_id = '77'") == [{"player_id": "77"}]
        store.entry("alice", identities={"google": "88"})
        assert self.log_in(store, google.access_token(sub="88"))["publisherPlayerId"] == "alice"

    def test_an_account_is_no_player_who_is_linked_to_another_one(self, store, google, db):
        store.config("appcharge.social_ids", "subject")
        store.entry(SUBJECT, identities={"google": "another", "facebook": "42"})

        assert_invalid(self.log_in(store, google.access_token()), auth.FAILED_BECAUSE["not_linked"])
        assert store.events() == [("google", "failed", "not_linked", None)]
        store.config("players.unknown", "create")
        assert_invalid(self.log_in(store, google.access_token()), auth.FAILED_BECAUSE["not_linked"])
        assert self.log_in(store, google.access_token(sub="another"))["publisherPlayerId"] == SUBJECT

        store.entry(SUBJECT, identities={"facebook": "42"})
        assert self.log_in(store, google.access_token())["publisherPlayerId"] == SUBJECT

    def test_a_token_that_proves_nothing_lets_nobody_in(self, store):
        tokens = ("worthless", "", None, ..., ["x"], "a\nb", "x" * 9000)
        for token in tokens:
            assert_invalid(self.log_in(store, token))

        assert store.events() == [("google", "failed", "token", None)] * len(tokens)

    def test_a_token_issued_to_somebody_else_lets_nobody_in(self, store, google):
        store.entry("alice", identities={"google": SUBJECT})

        assert_invalid(self.log_in(store, google.access_token(aud="another-app")))
        assert_invalid(self.log_in(store, google.access_token(aud="another-app"), appId="another-app"))
        assert_invalid(self.log_in(store, google.id_token(exp=1)))  # in no words about codes

        assert all(event[1] == "failed" for event in store.events())

    def test_wrong_tokens_are_not_throttled(self, store, google, db):
        store.entry("alice", identities={"google": SUBJECT})
        for _ in range(11):
            self.log_in(store, "worthless")

        assert self.log_in(store, google.access_token())["status"] == "valid"
        assert db("SELECT * FROM throttles") == []

    def test_a_provider_in_trouble_is_our_trouble(self, store, google, caplog):
        token = google.access_token()
        google.trouble["/tokeninfo"] = status(500)
        try:
            store.unavailable(authMethod="google", token=token)
        finally:
            google.trouble.clear()

        assert store.events() == [("google", "failed", "unavailable", None)]
        assert token not in caplog.text

    def test_accounts_of_providers_are_apart(self, store, google):
        store.entry("alice", identities={"google": "42"})
        with Facebook() as facebook:
            facebook.set_up(store.studio)
            answer = store.log_in(authMethod="facebook", token=facebook.access_token(user_id="42"))

        assert_invalid(answer, auth.FAILED_BECAUSE["not_linked"])


class TestInitiating:
    @pytest.fixture(autouse=True)
    def configured(self, store):
        store.config("appcharge.deep_link", DEEP_LINK)

    def test_the_answer_is_a_link_to_the_game_and_its_token(self, store, db):
        for device in ("DESKTOP", "APPCHARGE", "MOBILE", "FRIDGE"):
            answer = store.initiate(device=device, platform="ios")
            token = answer.json["accessToken"]
            link = {"deepLink": f"mygame://login?shop=1&token={token}", "accessToken": token}
            assert (answer.status_code, answer.json) == (200, link | {"desktopAutoRedirect": False})
            assert re.fullmatch("[A-Za-z0-9_-]{43}", token)
        begun = {"kind": "redirect", "player_id": None, "used_at": None}
        assert db("SELECT kind, player_id, used_at FROM logins") == [begun] * 4

        store.config("appcharge.desktop_auto_redirect", "on")
        assert store.initiate().json["desktopAutoRedirect"] is True

    def test_parameters_that_are_missing_are_refused(self, store, db):
        date = b'"date": "2025-10-21T14:17:27.329Z"'
        for body in (
            *(b"", b"{", b"[]", b"null", b"{}", b'{"device": "DESKTOP"}', b"{" + date + b"}"),
            *(b'{"device": ' + device + b", " + date + b"}" for device in (b"null", b"5", b'""')),
            *(b'{"device": "DESKTOP", "date": ' + date + b"}" for date in (b"1761056247329", b'["2025"]')),
        ):
            answer = store.call("otp", body)

            assert (answer.status_code, answer.json) == (403, {"error": "Parameters not correct"}), body
        assert db("SELECT * FROM logins") == []

    def test_without_a_deep_link_there_is_no_such_address(self, store):
        store.config("appcharge.deep_link", "")

        answer = store.initiate()

        assert (answer.status_code, answer.json) == (404, {"error": "Not Found"})


class TestByTheGame:
    """Game Redirect, from the store to the game and back."""

    @pytest.fixture(autouse=True)
    def configured(self, store):
        store.config("appcharge.deep_link", DEEP_LINK)
        store.config("appcharge.store_url", STORE)

    @pytest.fixture
    def token(self, store) -> str:
        return parse_qs(urlsplit(store.initiate().json["deepLink"]).query)["token"][0]

    @pytest.mark.parametrize("digits", [4, 6])
    def test_the_whole_way(self, store, token, digits, db):
        store.config("appcharge.code_digits", str(digits))

        confirmed = store.game("logins/confirm", {"token": token, "player_id": "alice"})
        code = confirmed.json["player_code"]
        answer = store.log_in_by_code(code, token)

        assert confirmed.status_code == 200
        assert re.fullmatch(f"[0-9]{{{digits}}}", code)
        assert confirmed.json["return_url"] == f"{STORE}/login?proofKey={code}&token={token}"
        assert answer["publisherPlayerId"] == "alice"
        assert_invalid(store.log_in_by_code(code, token), auth.FAILED_BECAUSE["used"])
        assert store.events() == [("otp", "success", None, "alice"), ("otp", "failed", "used", "alice")]
        assert db("SELECT count(*) AS used FROM logins WHERE used_at IS NOT NULL") == [{"used": 1}]

    def test_without_an_address_of_the_store_there_is_a_code_to_type(self, store, token):
        store.config("appcharge.store_url", "")

        confirmed = store.game("logins/confirm", {"token": token, "player_id": "alice"})

        assert (confirmed.status_code, confirmed.json["return_url"]) == (200, None)
        assert store.log_in_by_code(confirmed.json["player_code"], token)["status"] == "valid"

    WRITTEN = (
        lambda code: f" {code} ",
        lambda code: f" {code[:3]} {code[3:]}\t",
        lambda code: "-".join(code),
        lambda code: f"{code[:3]}\u2013{code[3:]}\u200b",
        lambda code: "\u00a0".join(chr(ord(each) + 0xFEE0) for each in code),  # full width
        lambda code: "".join(chr(ord(each) + 0x630) for each in code),  # Arabic-Indic
    )

    @pytest.mark.parametrize("written", WRITTEN)
    def test_a_code_may_be_written_in_groups_and_with_any_digits(self, store, token, written):
        code = store.confirm(token)

        assert_invalid(store.log_in_by_code(written(f"0{code}"), token), auth.FAILED_BECAUSE["wrong_code"])
        assert store.log_in_by_code(written(code), token)["publisherPlayerId"] == "alice"

    def test_of_two_stores_at_once_one_gets_in(self, app, store, token):
        code = store.confirm(token)
        barrier, statuses = threading.Barrier(4), []

        def come() -> None:
            mine = Studio(app.test_client(), store.studio, store.db)
            barrier.wait()
            statuses.append(mine.log_in_by_code(code, token)["status"])

        threads = [threading.Thread(target=come) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(statuses) == ["invalid"] * 3 + ["valid"]
        assert sorted(event[1] for event in store.events()) == ["failed"] * 3 + ["success"]

    def test_five_wrong_codes_end_it(self, store, token):
        code = store.confirm(token)
        wrong = f"{(int(code) + 1) % 10**6:06d}"
        for _ in range(5):
            assert_invalid(store.log_in_by_code(wrong, token), auth.FAILED_BECAUSE["wrong_code"])

        assert_invalid(store.log_in_by_code(code, token), auth.FAILED_BECAUSE["too_many_codes"])
        assert [event[2] for event in store.events()] == ["wrong_code"] * 5 + ["too_many_codes"]
        problem = store.game("logins/confirm", {"token": token, "player_id": "alice"})
        assert (problem.status_code, problem.mimetype) == (410, "application/problem+json")

    def test_ten_wrong_codes_stop_a_player_s_logins_however_many_are_begun(self, store, clock):
        def begun():
            token = store.initiate().json["accessToken"]
            code = store.confirm(token)
            return token, code

        for _ in range(2):
            token, code = begun()
            for _ in range(5):
                store.log_in_by_code(f"{(int(code) + 1) % 10**6:06d}", token)
        token, code = begun()

        assert_invalid(store.log_in_by_code(code, token), "Too many attempts; try again in 15 minutes.")
        clock.shift(15 * 60 + 1)
        token, code = begun()
        assert store.log_in_by_code(code, token)["publisherPlayerId"] == "alice"
        assert [event[2] for event in store.events()] == ["wrong_code"] * 10 + ["throttled", None]

    def test_time_ends_it(self, store, clock):
        store.config("appcharge.redirect_seconds", "60")
        token = store.initiate().json["accessToken"]
        code = store.confirm(token)

        clock.shift(60)

        assert_invalid(store.log_in_by_code(code, token), "This code has expired. Open the game and try again.")
        assert store.game("logins/confirm", {"token": token, "player_id": "alice"}).status_code == 410
        assert store.events() == [("otp", "failed", "expired", "alice")]

    def test_odd_codes_and_tokens_let_nobody_in(self, store):
        for otp in (
            None,
            "123456",
            [],
            {},
            {"playerCode": None, "accessToken": None},
            {"playerCode": "{code}"},
            {"playerCode": "{code}", "accessToken": ""},
            {"playerCode": "{code}", "accessToken": "another"},
            {"playerCode": "{code}", "accessToken": "x" * 100_000},
            {"playerCode": "{code}", "accessToken": ["{token}"]},
            {"playerCode": "{code}", "accessToken": "\ud800"},
            {"playerCode": "", "accessToken": "{token}"},
            {"playerCode": "0{code}", "accessToken": "{token}"},
            {"playerCode": ["{code}"], "accessToken": "{token}"},
            {"playerCode": "\ud800", "accessToken": "{token}"},
            {"playerCode": "9" * 100_000, "accessToken": "{token}"},
        ):
            token = store.initiate().json["accessToken"]
            code = store.confirm(token)
            filled = json.loads(json.dumps(otp).replace("{code}", code).replace("{token}", token))

            assert_invalid(store.log_in(authMethod="otp", otp=filled), auth.FAILED_BECAUSE["wrong_code"])

            assert store.log_in_by_code(code, token)["status"] == "valid"

    def test_confirming_again_gives_a_new_code(self, store, token):
        codes = [store.confirm(token)]
        while codes[-1] == codes[0]:
            codes.append(store.confirm(token))

        assert_invalid(store.log_in_by_code(codes[0], token), auth.FAILED_BECAUSE["wrong_code"])
        assert store.log_in_by_code(codes[-1], token)["status"] == "valid"

    def test_what_cannot_be_confirmed_is_a_problem(self, store, token, db):
        def confirm(**changed: Any) -> tuple[int, str]:
            answer = store.game("logins/confirm", {"token": token, "player_id": "alice"} | changed)
            return answer.status_code, answer.mimetype

        linked = store.game("logins/link", {"player_id": "alice"}).json["url"].rpartition("token=")[2]
        problem = "application/problem+json"

        assert confirm(token="unknown") == (404, problem)
        assert confirm(token=linked) == (404, problem)
        for changed in ({"token": ""}, {"token": 5}, {"player_id": ""}, {"player_id": None}, {"more": 1}):
            assert confirm(**changed) == (422, problem)
        assert confirm(player_id="mallory") == (422, problem)
        assert db("SELECT player_id FROM logins WHERE kind = 'redirect'") == [{"player_id": None}]
        assert confirm()[0] == 200
        assert confirm(player_id="bob") == (409, problem)

    def test_another_game_cannot_confirm_it(self, store, installation, token):
        from tests.conftest import Studio as Owner

        other = Owner(installation, "other")
        other.player("alice")
        answer = store.client.post(
            "/game/v1/logins/confirm",
            json={"token": token, "player_id": "alice"},
            headers={"Authorization": f"Bearer {other.token}"},
        )

        assert answer.status_code == 404

    @pytest.mark.parametrize(("unknown", "is_registered"), [("create", True), ("lookup", False)])
    def test_the_game_may_name_players_it_has_not_registered(self, store, token, db, unknown, is_registered):
        store.config("players.unknown", unknown)

        code = store.confirm(token, "carol")

        assert store.is_registered("carol") == is_registered
        assert store.log_in_by_code(code, token)["publisherPlayerId"] == "carol"

    def test_who_was_forgotten_meanwhile_does_not_get_in(self, store, token):
        code = store.confirm(token)
        assert store.put("alice", "DELETE").status_code == 204

        assert_invalid(store.log_in_by_code(code, token), auth.FAILED_BECAUSE["wrong_code"])


class TestByLink:
    """Pre-Authenticated login: the game makes the link."""

    def test_the_whole_way(self, store, clock, db):
        store.config("appcharge.store_url", STORE)

        made = store.game("logins/link", {"player_id": "alice"})
        url = urlsplit(made.json["url"])
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        clock.shift(3 * 86400 - 1)
        answer = store.log_in_by_code(query["proofKey"], query["token"])

        assert made.status_code == 200
        assert (url.scheme, url.netloc, url.path) == ("https", "store.example.com", "/login")
        assert made.json["expires_at"] == db("SELECT expires_at FROM logins")[0]["expires_at"]
        assert answer["publisherPlayerId"] == "alice"
        assert_invalid(store.log_in_by_code(query["proofKey"], query["token"]), auth.FAILED_BECAUSE["used"])

    def test_it_lives_as_long_as_the_owner_wants(self, store, clock):
        store.config("appcharge.store_url", STORE)
        store.config("appcharge.link_seconds", "3600")
        query = parse_qs(urlsplit(store.game("logins/link", {"player_id": "alice"}).json["url"]).query)

        clock.shift(3600)

        answer = store.log_in_by_code(query["proofKey"][0], query["token"][0])
        assert_invalid(answer, auth.FAILED_BECAUSE["expired"])

    def test_without_an_address_of_the_store_there_is_no_link(self, store, db):
        answer = store.game("logins/link", {"player_id": "alice"})

        assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")
        assert "appcharge.store_url" in answer.json["detail"]
        assert db("SELECT * FROM logins") == []

    @pytest.mark.parametrize(
        ("unknown", "code", "is_registered"), [("reject", 422, False), ("create", 200, True), ("lookup", 200, False)]
    )
    def test_unknown_players_follow_the_players_rules(self, store, db, unknown, code, is_registered):
        store.config("appcharge.store_url", STORE)
        store.config("players.unknown", unknown)

        answer = store.game("logins/link", {"player_id": "carol"})

        assert answer.status_code == code
        if code == 422:
            assert answer.json["errors"] == [{"path": "player_id", "detail": "is not a registered player"}]
        assert store.is_registered("carol") == is_registered

    @pytest.mark.parametrize(
        ("store_url", "url"),
        [
            ("https://store.example.com", "https://store.example.com/login?proofKey=0042&token=t-_"),
            ("https://store.example.com/", "https://store.example.com/login?proofKey=0042&token=t-_"),
            ("https://example.com:8443/shop/", "https://example.com:8443/shop/login?proofKey=0042&token=t-_"),
            ("https://example.com/shop?lang=de", "https://example.com/shop/login?lang=de&proofKey=0042&token=t-_"),
            ("https://example.com/?a=1#top", "https://example.com/login?a=1&proofKey=0042&token=t-_"),
        ],
    )
    def test_links_lead_to_the_stores_login(self, store_url, url):
        assert login_url(store_url, "t-_", "0042") == url


class TestSecrecy:
    def test_no_password_code_token_or_name_is_logged_or_kept(self, store, installation, google, caplog, db):
        caplog.set_level(logging.DEBUG)
        store.config("appcharge.deep_link", DEEP_LINK)
        store.config("appcharge.store_url", STORE)
        google.set_up(store.studio)
        store.entry("alice", login_name="name-of-alice", password_hash=PASSWORD_HASH)

        store.log_in_with("name-of-alice", PASSWORD)
        store.log_in_with("name-of-alice", "wrong-password")
        store.log_in_with("name-of-nobody", "wrong-password")
        google_token = google.access_token()
        store.log_in(authMethod="google", token=google_token)
        token = store.initiate().json["accessToken"]
        code = store.confirm(token)
        store.log_in_by_code("7654321", token)
        store.log_in_by_code(code, token)
        store.config("players.login_url", f"http://127.0.0.1:{closed_port()}/login")
        body = json.dumps({**LOGIN, "authMethod": "userPassword", "userName": "x-name", "password": "x-password"})
        store.call("auth", body.encode())
        store.call("auth", b'{"password": "y-password", "otp": {"playerCode": "7654321"}')
        store.call("auth", body.encode(), signature="t=1,v1=00")
        installation.observations.flush()

        assert len(db("SELECT id FROM refusals")) == 2
        kept = re.sub(r"name-of-alice", "", store.everything(), count=2)  # the registry's own: the name and its key
        secrets = (PASSWORD, "wrong-password", "name-of-", google_token, token, "7654321", "x-name", "x-password")
        for secret in (*secrets, "y-password"):
            assert secret not in kept
            assert secret not in caplog.text
        assert f'"{code}"' not in kept
        assert SUBJECT not in kept
        assert not re.search(rf"\b{code}\b", caplog.text)

    def test_nothing_that_holds_a_secret_shows_it_in_its_repr(self):
        login = {"authMethod": "userPassword", "token": "s3cret-1", "userName": "s3cret-2", "password": "s3cret-3"}
        login |= {"otp": {"playerCode": "s3cret-4", "accessToken": "s3cret-5"}}
        attempt = auth.read_attempt(json.dumps(login).encode())

        assert (attempt.password, attempt.access_token) == ("s3cret-3", "s3cret-5")
        assert "s3cret" not in repr(attempt)
