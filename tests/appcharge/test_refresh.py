"""An open store is told that profiles have changed: once per window, of everybody, again when it did not work."""

import json

import pytest

from coinslot.games import erasure, refreshes
from handlers.appcharge.api import refresh
from tests.conftest import MAIN_KEY, TOKEN, Studio
from tests.fakes.http import Receiver, status
from tests.servers import Server, until

PATH = "/store/v1/personalization/refresh-specific-active-players"


@pytest.fixture
def appcharge(studio):
    """Appcharge's API, as far as it takes refreshes."""
    with Receiver(status(200, b'{"message":"Event triggered for publisher demo"}')) as receiver:
        studio.config("appcharge.base_url", receiver.url.removesuffix("/hook"))
        studio.config("appcharge.refresh", "on")
        yield receiver


@pytest.fixture
def push(installation, studio):
    """What the game API does with the profiles it has stored."""

    def pushed(*player_ids, slug="demo"):
        game = installation.games.by_slug(slug)
        installation.database.write(lambda tx: refresh.profiles_pushed(tx, game, player_ids))

    return pushed


@pytest.fixture
def drain(installation):
    return lambda: installation.new_relay().drain()


@pytest.fixture
def after(clock, drain):
    """Let seconds pass, and then run what is due."""

    def run(seconds=5):
        clock.shift(seconds)
        drain()

    return run


@pytest.fixture
def waiting(db):
    return lambda: [row["player_id"] for row in db("SELECT player_id FROM refreshes ORDER BY player_id")]


def refreshed(appcharge):
    return [sorted(json.loads(request.body)["playerIds"]) for request in appcharge.requests]


def job(db):
    (row,) = db("SELECT * FROM schedules WHERE name = 'appcharge.refresh'")
    return row


def test_one_call_per_window_tells_of_everybody(appcharge, push, drain, after, waiting):
    for _ in range(3):
        push("alice")
        push("alice", "bob")
        after(1)
    assert appcharge.requests == []  # the window of five seconds is still open
    after(2)

    assert refreshed(appcharge) == [["alice", "bob"]]
    (request,) = appcharge.requests
    assert request.path == PATH
    assert request.headers["x-publisher-token"] == TOKEN
    assert "signature" not in request.headers
    assert waiting() == []
    drain()
    assert len(appcharge.requests) == 1


def test_the_window_is_a_setting(appcharge, studio, push, after):
    studio.config("appcharge.refresh_seconds", "60")
    push("alice")
    for seconds, calls in ((59, []), (1, [["alice"]])):
        after(seconds)
        assert refreshed(appcharge) == calls


def test_nobody_is_told_unless_the_owner_wants_it_and_can(appcharge, installation, studio, push, db):
    bare = Studio(installation, "bare")  # without a publisher token
    bare.config("appcharge.refresh", "on")
    push("alice", slug="bare")
    push()
    studio.config("appcharge.refresh", "off")
    push("alice")

    assert (db("SELECT * FROM refreshes"), db("SELECT * FROM schedules")) == ([], [])


def test_what_waits_is_dropped_once_the_owner_has_switched_it_off(appcharge, studio, push, db, after, waiting):
    push("alice")
    studio.config("appcharge.refresh", "off")
    after()

    assert appcharge.requests == []
    assert waiting() == []
    assert job(db)["due_at"] is None


def test_many_players_are_told_in_calls_of_a_bounded_size(appcharge, push, after, waiting):
    everybody = [f"p-{number:04}" for number in range(2 * refresh.PLAYERS_AT_ONCE + 3)]
    push(*everybody)
    after()

    assert [len(ids) for ids in refreshed(appcharge)] == [refresh.PLAYERS_AT_ONCE, refresh.PLAYERS_AT_ONCE, 3]
    assert sorted(player_id for ids in refreshed(appcharge) for player_id in ids) == everybody
    assert waiting() == []


def test_a_refusal_is_recorded_and_tried_again_after_growing_pauses(appcharge, push, db, caplog, after, waiting):
    appcharge.script[:] = [status(401, b'{"message":"no such publisher"}'), status(500), status(200, b"{}")]
    push("alice")
    after()
    assert job(db)["failures"] == 1
    assert "no such publisher" in job(db)["last_error"]
    push("bob")
    after(9)
    assert len(appcharge.requests) == 1  # asking does not shorten the pause

    after(1)
    after(59)
    assert len(appcharge.requests) == 2
    after(1)

    assert refreshed(appcharge) == [["alice"], ["alice", "bob"], ["alice", "bob"]]
    assert (job(db)["failures"], job(db)["last_error"], job(db)["due_at"]) == (0, None, None)
    assert waiting() == []
    assert not any(each.exc_info for each in caplog.records)
    for hidden in (TOKEN, MAIN_KEY):
        assert hidden not in caplog.text + str(db("SELECT * FROM schedules"))


def refusing(*refused, code=400):
    """Appcharge, as far as it refuses every call that has one of these ids."""

    def answer(handler):
        ids = json.loads(handler.fake.requests[-1].body)["playerIds"]
        named = [each for each in ids if each in refused]
        refusal = status(code, json.dumps({"message": f"no such player {named}"}).encode())
        (refusal if named else status(200, b"{}"))(handler)

    return answer


def taken(appcharge, *refused):
    return sorted(each for ids in refreshed(appcharge) if not set(ids) & set(refused) for each in ids)


@pytest.mark.parametrize("code", [400, 422])
@pytest.mark.parametrize("count", [1, 2, 3, refresh.PLAYERS_AT_ONCE])
def test_an_id_that_is_refused_is_let_go_and_all_others_are_told(
    appcharge, push, db, caplog, code, count, after, waiting
):
    appcharge.script[:] = [refusing("p-0000", code=code)]
    everybody = [f"p-{number:04}" for number in range(count)]
    push(*everybody)
    after()

    assert taken(appcharge, "p-0000") == everybody[1:]
    assert len(appcharge.requests) <= 2 * count.bit_length() + 1
    assert waiting() == []
    assert (job(db)["failures"], job(db)["due_at"]) == (0, None)
    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert "demo" in warning
    assert str(code) in warning
    assert "p-0" not in caplog.text


def test_many_ids_that_are_refused_keep_nobody_else_waiting(appcharge, push, after, waiting):
    everybody = [f"p-{number:04}" for number in range(16)]
    bad = everybody[::7]
    appcharge.script[:] = [refusing(*bad)]
    push(*everybody)
    after()

    assert taken(appcharge, *bad) == [each for each in everybody if each not in bad]
    assert waiting() == []


def test_where_everybody_is_refused_it_is_not_for_the_ids_and_the_job_pauses(appcharge, push, db, after):
    appcharge.script[:] = [status(400, b'{"message":"no such project"}')]
    push(*[f"p-{number:04}" for number in range(100)])
    after()

    assert len(appcharge.requests) < 20
    assert job(db)["failures"] == 1
    assert "no such project" in job(db)["last_error"]
    assert 90 < len(db("SELECT * FROM refreshes")) < 100


def test_what_was_taken_before_another_trouble_is_not_told_again(appcharge, push, db, after, waiting):
    appcharge.script[:] = [status(400), status(200), status(500), status(200)]
    push("alice", "bob")
    after()
    assert waiting() == ["bob"]
    assert job(db)["failures"] == 1

    after(10)

    assert refreshed(appcharge) == [["alice", "bob"], ["alice"], ["bob"], ["bob"]]
    assert waiting() == []


def test_a_run_that_takes_long_goes_on_in_the_next_one(appcharge, push, monkeypatch, after, waiting):
    monkeypatch.setattr(refresh, "RUN_SECONDS", 0)
    appcharge.script[:] = [refusing("p-0")]
    push("p-0", "p-1", "p-2", "p-3")
    after()

    assert [len(ids) for ids in refreshed(appcharge)] == [4, 2, 1, 3]
    assert taken(appcharge, "p-0") == ["p-1", "p-2", "p-3"]
    assert waiting() == []


def test_nobody_is_told_of_what_is_older_than_ten_minutes(appcharge, push, clock, after, waiting):
    appcharge.script[:] = [status(500), status(200)]
    push("alice")
    after()
    clock.shift(594)
    push("bob")
    after(2)

    assert refreshed(appcharge) == [["alice"], ["bob"]]
    assert waiting() == []


def test_a_player_pushed_again_during_the_call_is_told_again(appcharge, push, clock, after, waiting):
    def pushed_meanwhile(handler):
        clock.shift(1)
        push("alice")
        status(200, b"{}")(handler)

    appcharge.script[:] = [pushed_meanwhile, status(200, b"{}")]
    push("alice", "bob")
    after()
    assert waiting() == ["alice"]

    after()

    assert refreshed(appcharge) == [["alice", "bob"], ["alice"]]
    assert waiting() == []


@pytest.mark.parametrize("others", [["bob"], []])
def test_a_forgotten_player_is_not_told_of(appcharge, installation, studio, push, db, others, after, waiting):
    push("alice", *others)
    installation.database.write(lambda tx: erasure.forget_player(tx, studio.row["id"], "alice"))
    assert waiting() == others
    after()

    assert refreshed(appcharge) == ([others] if others else [])
    assert job(db)["due_at"] is None


def test_games_are_told_of_their_own_players(appcharge, installation, studio, push, after):
    other = Studio(installation, "other")
    other.secret("appcharge.publisher_token", "token-of-the-other-game")
    other.config("appcharge.refresh", "on")
    with Receiver(status(200)) as theirs:
        other.config("appcharge.base_url", theirs.url.removesuffix("/hook"))
        push("alice")
        push("alice", "zoe", slug="other")
        after()

        assert (refreshed(appcharge), refreshed(theirs)) == ([["alice"]], [["alice", "zoe"]])
        assert theirs.requests[0].headers["x-publisher-token"] == "token-of-the-other-game"


def test_a_push_that_is_rolled_back_asks_for_nothing(appcharge, installation, db):
    game = installation.games.by_slug("demo")

    def spoilt(tx):
        refresh.profiles_pushed(tx, game, ["alice"])
        raise RuntimeError("the profile was not stored")

    with pytest.raises(RuntimeError):
        installation.database.write(spoilt)

    assert (db("SELECT * FROM refreshes"), db("SELECT * FROM schedules")) == ([], [])


def test_a_profile_pushed_through_the_game_api_reaches_an_open_store(appcharge, client, studio, after):
    bearer = {"Authorization": f"Bearer {studio.token}"}
    client.put("/game/v1/players/alice", json={"segments": ["whale"]}, headers=bearer)
    client.patch("/game/v1/players/bob", json={"segments": ["new"]}, headers=bearer)
    after()

    assert refreshed(appcharge) == [["alice", "bob"]]


def test_told_leaves_what_has_been_asked_for_since(installation, studio, clock):
    game_id = studio.row["id"]
    installation.database.write(lambda tx: refreshes.ask(tx, game_id, "appcharge", ["alice", "bob"]))
    waiting = refreshes.waiting(installation.database.read(), game_id, "appcharge", 10)
    clock.shift(1)
    installation.database.write(lambda tx: refreshes.ask(tx, game_id, "appcharge", ["bob"]))

    installation.database.write(lambda tx: refreshes.remove(tx, game_id, "appcharge", waiting))

    assert list(refreshes.waiting(installation.database.read(), game_id, "appcharge", 10)) == ["bob"]


def test_the_workers_of_a_server_tell_by_themselves(appcharge, installation, studio):
    studio.config("appcharge.refresh_seconds", "1")
    bearer = {"Authorization": f"Bearer {studio.token}", "Content-Type": "application/json"}
    with Server(installation.settings.home) as server:
        for segment in (b"new", b"whale"):
            content = b'{"segments":["' + segment + b'"]}'
            assert server.call("PUT", "/game/v1/players/alice", content, bearer).status == 200
        until(lambda: appcharge.requests, "Appcharge is told")
        until(
            lambda: not installation.database.read().execute("SELECT * FROM refreshes").fetchall(),
            "and that is recorded",
        )

    assert refreshed(appcharge) == [["alice"]]
