"""``flask demo``: a home full of life that says that it is made up, and that calls nobody."""

import json
import re
import time
from functools import partial

import pytest

from app import create_app
from coinslot.access.vault import MasterKey
from coinslot.base import clock
from coinslot.outbox import destinations
from handlers.commands.demo.stage import Stage, stopped_clock
from handlers.kit.alerting import watch_and_send
from tests import databases
from tests.fakes.http import FakeServer, Receiver, status
from tests.killing import flask
from tests.owed import Owed
from tests.postgres import needs_postgres
from tests.servers import until


def made(home, monkeypatch, *arguments):
    for name, value in databases.environment(home).items():
        monkeypatch.setenv(name, value)
    return create_app({"COINSLOT_HOME": "/nonexistent"}).test_cli_runner().invoke(args=["demo", *arguments])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demo of ten days, and what the command printed."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        home = tmp_path_factory.mktemp("demo") / "home"
        result = made(home, monkeypatch, "--days", "10")
    assert result.exit_code == 0, result.output
    return home, result


@pytest.fixture
def served(demo):
    app = create_app(databases.environment(demo[0]))
    yield app
    app.extensions["coinslot"].database.close()


@pytest.fixture
def rows(demo):
    return partial(databases.tuples, demo[0])


def signed_in(app, output):
    client = app.test_client()
    (password,) = re.findall(r"the password (\S+)", output)
    token = re.search(r'name="form_token" value="([^"]+)"', client.get("/login").text)[1]
    assert client.post("/login", data={"form_token": token, "password": password}).status_code == 303
    return client


def test_there_is_everything_an_owner_may_meet(rows):
    partners = {partner for (partner,) in rows("SELECT DISTINCT partner FROM transactions")}
    currencies = {
        currency for (currency,) in rows("SELECT DISTINCT currency FROM transactions WHERE kind = 'purchase'")
    }
    states = {state for (state,) in rows("SELECT DISTINCT state FROM deliveries")}

    assert partners == {"appcharge", "playtem", "xsolla"}
    assert len(currencies) >= 5
    assert sorted(rows("SELECT state FROM refusals WHERE reason = 'unknown_player'")) == [("mended",), ("open",)]
    assert rows("SELECT count(*) FROM conflicts") == [(1,)]
    assert states == {"delivered", "waiting", "dead"}
    assert rows("SELECT count(*) FROM settlements WHERE state = 'closed'") == [(2,)]
    assert rows("SELECT count(*) FROM payments WHERE state = 'registered'")[0][0] > 5
    assert {reason for (reason,) in rows("SELECT DISTINCT reason FROM refunds")} >= {"refund"}
    assert rows("SELECT count(*) FROM players WHERE name IS NOT NULL")[0][0] > 60
    assert rows("SELECT count(*) FROM events WHERE type = 'player.login'")[0][0] > 10


def test_every_page_says_that_it_is_a_demo(demo, served):
    assert '<p class="demo">' in served.test_client().get("/login").text
    client = signed_in(served, demo[1].output)

    for address in ("/", "/account", "/games/space-miner/transactions", "/games/tiny-kingdoms/settlements"):
        answer = client.get(address)
        assert (answer.status_code, '<p class="demo">' in answer.text) == (200, True), address
    assert "Kofi" not in client.get("/").text


def test_a_real_installation_says_nothing_of_it(browser, client):
    for page in (browser.get("/"), client.get("/login")):
        assert 'class="demo"' not in page.text


def test_it_says_how_it_is_served_and_nothing_is_logged(demo, rows):
    home, result = demo

    assert f"COINSLOT_HOME={home} gunicorn wsgi:app" in result.stdout
    assert "password" in result.stdout
    assert result.stderr.strip() == "10 days of two games"
    assert rows("SELECT faults FROM proofs") == [(0,)]


def test_its_troubles_are_those_of_the_story(served):
    output = served.test_cli_runner().invoke(args=["trouble", "list", "--json"]).stdout
    found = {each["key"] for each in json.loads(output[output.index("[") :]) if each["severity"] == "wrong"}

    kinds = {each.split(":")[0] for each in found}

    assert {"dead", "down", "refused"} <= kinds <= {"dead", "down", "refused", "payments_parked", "no_relay"}


def test_what_is_planned_comes_at_its_moment_whatever_waits_before_it(app, installation, studio):
    studio.player("alice")
    studio.item("coins", "gems")
    owed = Owed(installation, studio)
    owed.destination()  # where nobody answers, so that a next attempt is due in some seconds
    came = []
    with app.app_context(), stopped_clock():
        stage = Stage(app, installation)
        begins = clock.now()
        for seconds in (1, 60, 120):
            stage.plan(begins + seconds, lambda: came.append(round(clock.now() - begins)) or owed.credit())
        list(stage.play())

    assert came == [1, 60, 120]


def test_a_home_that_holds_anything_is_refused(tmp_path, monkeypatch):
    (tmp_path / "photo.jpg").write_text("mine")

    result = made(tmp_path, monkeypatch)

    assert result.exit_code == 1
    assert f"{tmp_path} holds something already" in result.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["photo.jpg"]


def test_it_is_never_made_in_a_database_that_servers_may_share(tmp_path):
    needs_postgres()
    key = MasterKey.generate().text()
    settings = {"COINSLOT_DATABASE": "postgresql://nobody@127.0.0.1:1/nothing", "COINSLOT_MASTER_KEY": key}
    app = create_app({"COINSLOT_HOME": str(tmp_path / "home"), **settings})

    result = app.test_cli_runner(env={"COINSLOT_HOME": str(tmp_path / "home")}).invoke(args=["demo"])

    assert result.exit_code == 1
    assert "run it without COINSLOT_DATABASE" in result.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("is_there", [True, False])
def test_what_it_began_is_gone_when_it_is_stopped(tmp_path, is_there):
    home = tmp_path / "home"
    if is_there:
        home.mkdir()
    with flask(home, "demo") as process:
        until(lambda: (home / "coinslot.db").exists(), "the database", 60)
        time.sleep(0.5)
        code, _ = process.terminate()

    assert code != 0
    assert home.exists() == is_there
    assert not is_there or not any(home.iterdir())


def test_it_calls_nobody(demo, served):
    installation = served.extensions["coinslot"]
    with Receiver(status(200)) as game:
        installation.database.write_here(
            lambda tx: destinations.add(tx, installation.vault, "tiny-kingdoms", "real", game.url, actor="owner")
        )
        answer = installation.outbound.post(game.url, {}, b"", 5)
        elsewhere = installation.outbound_anywhere.get("https://example.com/", {}, 5)
        waited_for = installation.outbound.for_callers.get("https://example.com/", {}, 5)

        assert {each.failure for each in (answer, elsewhere, waited_for)} == {"refused"}
        assert "demo" in answer.detail
        assert game.requests == []


def test_it_alerts_nobody(served):
    runner = served.test_cli_runner()
    with FakeServer(lambda request: (200, {})) as hook:
        target = hook.url.replace("http://", "json://")
        assert runner.invoke(args=["alert", "add", "main"], input=target).exit_code == 0
        tested = runner.invoke(args=["alert", "test", "main"])
        with served.app_context():
            watch_and_send(served.extensions["coinslot"])
        removed = runner.invoke(args=["alert", "remove", "main"])

    assert (tested.exit_code, removed.exit_code) == (1, 0)
    assert "a demo alerts nobody" in tested.output
    assert hook.requests == []


@pytest.mark.long
def test_it_is_the_same_story_each_time(demo, tmp_path, monkeypatch):
    def orders(home):
        sql = "SELECT external_id, player_id, gross_minor, currency FROM transactions ORDER BY id"
        return databases.tuples(home, sql)

    assert made(tmp_path / "home", monkeypatch, "--days", "10").exit_code == 0

    pairs = list(zip(orders(demo[0]), orders(tmp_path / "home"), strict=False))  # somebody may have bought meanwhile
    assert len(pairs) > 200
    assert all(one == other for one, other in pairs)


@pytest.mark.long
def test_the_whole_of_it_has_a_month_that_was_compared(tmp_path, monkeypatch):
    result = made(tmp_path / "home", monkeypatch)

    assert result.exit_code == 0, result.output
    ((state, summary),) = databases.tuples(tmp_path / "home", "SELECT state, summary FROM reconciliations")
    ((count,),) = databases.tuples(tmp_path / "home", "SELECT count(*) FROM transactions")
    assert (state, [each[0] for each in json.loads(summary)]) == ("done", ["missing_there", "amount_differs"])
    assert count > 1500
