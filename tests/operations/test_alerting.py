"""From a trouble to its alert through real relays, processes and kill -9; the heartbeat; the commands."""

import json
import time

import pytest

from coinslot.access import keyring
from coinslot.access.vault import MasterKey
from coinslot.base import clock as stamps
from coinslot.operations.alerts import heartbeat, targets, watch
from coinslot.operations.alerts.targets import AlertError
from coinslot.relay import jobs as schedules
from handlers.kit import troubles
from tests import databases, killing
from tests.conftest import furnished
from tests.fakes.http import FakeServer, after, status
from tests.owed import Owed, running
from tests.pages import assert_has, text_of
from tests.servers import together, until

SECRET = "not-for-your-eyes"
STANDS = 130.0  # seconds after which what was seen is sent

# A relay that ends between writing the message and sending it.
COMPOSES = """
import sys
from functools import partial
from tests import databases
from app import create_app
from coinslot.operations.alerts import watch
from handlers.kit import alerting, troubles

app = create_app()
installation = app.extensions["coinslot"]
with app.app_context(), databases.later(float(sys.argv[1])):
    found = alerting.worth_sending(troubles.list_troubles(installation))
    watch.look(installation.database, found, partial(alerting.compose, "http://here"))
print("composed", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def service():
    with FakeServer(lambda request: (200, {})) as server:
        yield server


def add_target(installation, service, name="ops"):
    url = f"json://user:{SECRET}@127.0.0.1:{service.port}/{SECRET}?rto=20"
    installation.database.write_here(lambda tx: targets.add(tx, installation.vault, name, url, "json", "test"))


def have_dead_letters(owed):
    owed.destination(retry="0")
    owed.credit(3)
    owed.fail_all()


class Home:
    """A home with a target and dead letters that were seen once, and relays on it as processes."""

    def __init__(self, path, service):
        self.path, self.service = path, service
        self.installation, studio = furnished(path)
        add_target(self.installation, service)
        self.owed = Owed(self.installation, studio)
        have_dead_letters(self.owed)
        self.relay()
        assert self.count("alerts") > 0

    def relay(self, later_seconds=0.0):
        with killing.flask(self.path, "relay", "--once", later_seconds=later_seconds) as process:
            code, output = process.end()
        assert code == 0, output
        return output

    def count(self, table):
        return self.installation.database.read().execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def states(self):
        rows = self.installation.database.read().execute("SELECT state FROM alert_messages ORDER BY id")
        return [row["state"] for row in rows]


@pytest.fixture
def home(tmp_path, service):
    made = Home(tmp_path / "home", service)
    yield made
    made.installation.database.close()


class TestProcesses:
    @pytest.mark.long
    def test_two_relays_and_later_ones_send_once_and_once_that_it_is_over(self, home, service):
        together(*[lambda: home.relay(STANDS)] * 2)
        home.relay(STANDS + 60)

        (request,) = service.requests
        assert "dead letter" in request.json["message"]
        assert SECRET not in json.dumps(request.json)

        home.owed.redrive()
        home.owed.change("UPDATE deliveries SET state = 'delivered', next_attempt_at = NULL, finished_at = created_at")
        home.relay(STANDS + 70)
        home.relay(STANDS + 70 + watch.OVER_SECONDS)
        home.relay(STANDS + 70 + watch.OVER_SECONDS + 100)
        assert len(service.requests) == 2
        assert "over" in service.requests[1].json["title"]

    def test_killed_between_writing_the_message_and_sending_it(self, home, service):
        with killing.Process(home.path, "-c", COMPOSES, STANDS) as process:
            assert process.line() == "composed"
            process.kill()
        assert home.states() == ["waiting"]
        assert service.requests == []

        together(*[lambda: home.relay(STANDS + schedules.LEASE_SECONDS)] * 2)

        assert len(service.requests) == 1
        assert home.states() == ["sent"]

    def test_killed_while_it_is_sent_what_has_arrived_is_recorded_all_the_same(self, home, service):
        service.script = [after(1.0, status(200))]
        with killing.flask(home.path, "relay", later_seconds=STANDS) as process:
            process.kill_when(lambda: service.requests, "it is being sent")
        assert home.states() == ["waiting"]

        until(lambda: home.states() == ["sent"], "its child has recorded it")
        home.relay(STANDS + schedules.LEASE_SECONDS + 100)
        assert len(service.requests) == 1


class TestTheJob:
    @pytest.fixture
    def dead_letters(self, installation, owed, service):
        add_target(installation, service)
        have_dead_letters(owed)

    def test_at_most_three_minutes_pass_from_a_trouble_to_its_alert(self, dead_letters, owed, service, clock):
        began = time.time()
        while not service.requests and time.time() - began < 600:
            owed.drain()
            clock.shift(10)

        assert 120 <= service.requests[0].at - began <= 180
        assert service.requests[0].json["title"].startswith("Coinslot at 127.0.0.1:8000: ")

    def test_what_waits_is_sent_even_when_the_troubles_cannot_be_read(self, dead_letters, installation, owed, service):
        owed.change("ALTER TABLE conflicts RENAME TO conflicts_away")
        installation.database.write_here(
            lambda tx: tx.execute(
                """INSERT INTO alert_messages (target, subject, body, state, next_attempt_at, created_at)
                   VALUES ('ops', 's', 'b', 'waiting', '2020', '2020')"""
            )
        )
        owed.drain()
        assert len(service.requests) == 1

    def test_with_two_relays_that_run_a_message_is_sent_once(self, dead_letters, installation, owed, service):
        owed.drain()
        owed.change("UPDATE alerts SET first_seen_at = '2026-01-01T00:00:00.000000Z'")
        owed.change("UPDATE schedules SET due_at = '2026-01-01T00:00:00.000000Z' WHERE name = 'alerts'")
        with running(installation, relays=2):
            until(lambda: service.requests, "it is sent", 20)
            owed.change("UPDATE schedules SET due_at = '2026-01-01T00:00:00.000000Z' WHERE name = 'alerts'")
            until(lambda: owed.rows("SELECT 1 FROM alert_messages WHERE state = 'sent'"), "it is recorded", 20)
        assert len(service.requests) == 1


class TestTheScene:
    def pass_time(self, installation, owed, clock, seconds):
        for _ in range(round(seconds / 10)):
            installation.observations.flush()
            owed.drain()
            clock.shift(10)

    def test_that_alerts_do_not_arrive_is_on_the_overview_and_is_never_sent(
        self, installation, studio, service, owed, clock, browser
    ):
        add_target(installation, service)
        installation.database.write_here(
            lambda tx: targets.add(tx, installation.vault, "dead", f"json://{SECRET}@127.0.0.1:9/", "json", "test")
        )
        have_dead_letters(owed)
        self.pass_time(installation, owed, clock, 600)

        assert_has(text_of(browser.get("/")), "Alerts do not arrive at dead", without=[SECRET])
        assert "do not arrive" not in str([request.json for request in service.requests])
        installation.database.write_here(lambda tx: targets.remove(tx, "dead", "test"))
        assert "do not arrive" not in text_of(browser.get("/"))

    def test_a_heartbeat_that_fails_is_to_be_looked_at_since_its_first_failure(self, installation, app, owed, clock):
        heart = Heart(installation, owed, "http://127.0.0.1:9/")
        heart.on()
        for _ in range(3):
            owed.drain()
            clock.shift(61)
        with app.app_context():
            (found,) = [each for each in troubles.list_troubles(installation) if each.key == "heartbeat"]
        assert found.severity == "look"
        assert time.time() - stamps.seconds(found.since) > 180

    def test_a_job_of_the_installation_that_fails_leads_to_no_page_of_a_game(self, installation, app, owed, clock):
        installation.own_jobs = {"watch": lambda given: 1 / 0}
        owed.drain()
        with app.app_context():
            (found,) = [each for each in troubles.list_troubles(installation) if each.key == "job:watch"]
        assert (found.link, found.label, found.remedy) == ("", "", "The server's log says more.")


class Heart:
    def __init__(self, installation, owed, url):
        self.installation, self.owed, self.url = installation, owed, url
        self.write = installation.database.write_here

    def on(self, url=None):
        self.write(lambda tx: heartbeat.set_url(tx, self.installation.vault, url or self.url, "test"))

    def off(self):
        return self.write(lambda tx: heartbeat.turn_off(tx, "test"))

    @property
    def state(self):
        return heartbeat.state(self.installation.database.read())


class TestHeartbeat:
    @pytest.fixture
    def heart(self, installation, owed, service):
        return Heart(installation, owed, f"{service.url}/ping/{SECRET}")

    def test_it_is_called_once_a_minute_until_it_is_switched_off(self, heart, owed, service, clock):
        owed.drain()
        heart.on()
        for _ in range(5):
            owed.drain()
            owed.drain()
            clock.shift(61)
        assert service.routes == [f"GET /ping/{SECRET}"] * 5
        assert heart.state.arrived_at is not None

        assert heart.off()
        assert not heart.off()
        owed.drain()
        assert len(service.requests) == 5
        assert heart.state == heartbeat.State(False, None, None)

    def test_it_is_not_called_while_readyz_would_not_say_ready(self, heart, owed, service, client, clock):
        heart.on()
        ((key_id,),) = databases.tuples(
            heart.installation, "SELECT value FROM installation WHERE name = 'vault.key_id'"
        )
        under = "UPDATE installation SET value = :key_id WHERE name = 'vault.key_id'"
        databases.change(heart.installation, under, key_id="another")
        assert client.get("/readyz").status_code == 503
        owed.drain()
        assert service.requests == []

        databases.change(heart.installation, under, key_id=key_id)
        assert client.get("/readyz").status_code == 200
        clock.shift(61)
        owed.drain()
        assert len(service.requests) == 1

    @pytest.mark.parametrize(
        ("answer", "why"), [(status(500), "answered 500"), (status(301), "redirects are not followed")]
    )
    def test_a_failure_is_kept_in_our_words_and_it_is_called_again_a_minute_later(
        self, heart, owed, service, clock, caplog, answer, why
    ):
        heart.on()
        service.script = [answer]
        owed.drain()
        assert why in heart.state.failure
        clock.shift(60)
        owed.drain()

        assert heart.state.failure is None
        assert len(service.requests) == 2
        assert SECRET not in caplog.text

    def test_its_url_may_be_private_is_sealed_and_lives_through_a_new_master_key(self, heart, db, owed, service):
        heart.on()
        keyring.rotate_master_key(heart.installation.database, heart.installation.vault, MasterKey.generate(), "test")
        owed.drain()

        assert len(service.requests) == 1
        for table in ("audit", "installation", "installation_secrets", "schedules"):
            assert SECRET not in str(db(f"SELECT * FROM {table}"))

    @pytest.mark.parametrize("url", ["", "ftp://host/", f"https://user:{SECRET}@host/", "http://a b/"])
    def test_another_kind_of_address_is_refused_without_being_said(self, heart, url):
        with pytest.raises(AlertError) as refused:
            heart.on(url or " ")

        assert SECRET not in str(refused.value)


class TestCommands:
    @pytest.fixture
    def run(self, app):
        def run(*words, stdin=None):
            result = app.test_cli_runner().invoke(args=["alert", *words], input=stdin)
            assert SECRET not in result.output
            return result.exit_code, result.output

        return run

    def test_a_target_is_added_listed_tested_and_removed(self, run, service):
        assert "nobody is sent" in run("list")[1]
        url = f"json://user:{SECRET}@127.0.0.1:{service.port}/{SECRET}\n"
        assert run("add", "ops", stdin=url) == (0, "ops (json) is added. Try it: flask alert test ops\n")
        assert run("test", "ops") == (0, "ops took the test.\n")
        (request,) = service.requests
        assert "test" in request.json["title"]

        service.script = [status(403)]
        assert run("test", "ops") == (1, "ops did not take the test: the service answered 403.\n")
        listed = run("list")[1]
        assert listed.splitlines()[0].split("  ")[0] == "name"
        assert "json" in listed
        assert f"{time.strftime('%Y-')}" in listed
        assert "the service answered 403" in listed
        assert run("remove", "ops") == (0, "ops is removed.\n")
        assert run("remove", "ops")[0] == run("test", "ops")[0] == 1

    @pytest.mark.parametrize("name", ["", "Ops", "-a", "a b", "a" * 64])
    def test_a_name_is_like_those_of_destinations(self, run, name):
        assert "is not a name" in run("add", "--", name, stdin="json://host")[1]

    def test_what_apprise_does_not_understand_is_refused(self, run):
        code, output = run("add", "ops", stdin=f"{SECRET}://{SECRET}")

        assert code == 1
        assert "does not understand" in output

    def test_the_heartbeat_is_set_and_switched_off(self, run):
        assert run("heartbeat", "https://watch.example/ping")[0] == 0
        assert "Heartbeat: on" in run("list")[1]
        assert run("heartbeat", "off") == (0, "The heartbeat is off.\n")
        assert run("heartbeat", "off") == (0, "There is no heartbeat; nothing was changed.\n")
        assert run("heartbeat", stdin="nothing")[0] == 1
        assert run("heartbeat", stdin="https://watch.example/ping\n")[0] == 0
