"""Alerts: when a trouble is sent, repeated and over; that each message arrives once; and that no URL shows anywhere.

The service is Apprise's own ``json://`` against a real server. The clock is moved, never waited for.
"""

import logging
import random
import re
import time
from dataclasses import replace

import pytest

from coinslot.access import keyring
from coinslot.access.vault import MasterKey, Vault
from coinslot.operations import backup, restore
from coinslot.operations.alerts import child, outbox, sending, targets, watch
from coinslot.operations.alerts.targets import AlertError
from coinslot.operations.alerts.watch import Alarm, News
from handlers.kit import alerting
from tests import databases
from tests.fakes.http import FakeServer, silence, status
from tests.servers import together

SECRET = "not-for-your-eyes"
PUBLIC_URL = "https://pay.example.com"
DAY = watch.REPEAT_SECONDS


def alarm(key="a", sentence="Something is wrong.", **changed):
    return Alarm(key, sentence, "/games/demo/refusals", **changed)


class Alerts:
    """An installation with targets, the troubles it has at the moment, and the messages that have been written."""

    def __init__(self, installation, clock):
        self.installation = installation
        self.clock = clock
        self.wrong = []

    def target(self, name="ops", url="json://127.0.0.1:9/"):
        self.write(lambda tx: targets.add(tx, self.installation.vault, name, url, "json", "test"))

    def write(self, function):
        return self.installation.database.write_here(function)

    def look(self, **options):
        """Look once; returns the bodies that were written since."""
        before = len(self.messages())
        self.wait = watch.look(
            self.installation.database, self.wrong, lambda news: alerting.compose(PUBLIC_URL, news), **options
        )
        return [row["body"] for row in self.messages()[before:]]

    def later(self, seconds, every=10.0):
        """Look every ten seconds for so long; returns the bodies that were written."""
        bodies = []
        for _ in range(round(seconds / every)):
            self.clock.shift(every)
            bodies += self.look()
        return bodies

    def messages(self):
        return self.installation.database.read().execute("SELECT * FROM alert_messages ORDER BY id").fetchall()

    def states(self):
        return [row["state"] for row in self.messages()]

    def send(self, **options):
        return sending.send_due(self.installation.database, self.installation.settings, **options)

    def row(self, name="ops"):
        return targets.find(self.installation.database.read(), name)


@pytest.fixture
def alerts(installation, clock):
    return Alerts(installation, clock)


@pytest.fixture
def service():
    with FakeServer(lambda request: (200, {})) as server:
        yield server


def at(server, secret=SECRET):
    return f"json://user:{secret}@127.0.0.1:{server.port}/{secret}"


class TestWhatIsSent:
    def test_a_trouble_that_stands_two_minutes_is_sent_once_then_every_day_then_once_when_it_is_over(self, alerts):
        alerts.target()
        alerts.wrong = [alarm()]
        assert alerts.look() == alerts.later(110) == []

        (first,) = alerts.later(60)
        assert first == f"Something is wrong.\n{PUBLIC_URL}/games/demo/refusals"
        assert alerts.later(DAY - 600, every=300) == []
        assert alerts.later(600, every=300) == [f"Still: {first}"]
        assert alerts.later(DAY + 3600, every=3600) == [f"Still: {first}"]

        alerts.wrong = []
        assert alerts.look() == alerts.later(watch.OVER_SECONDS - 10) == []
        assert alerts.later(30) == [f"Over: {first}"]
        assert alerts.later(3 * DAY, every=3600) == []
        assert alerts.installation.database.read().execute("SELECT * FROM alerts").fetchall() == []

    def test_at_most_three_minutes_pass_even_while_others_come_one_after_the_other(self, alerts):
        alerts.target()
        for number in range(30):
            alerts.wrong.append(alarm(f"{number}", f"Trouble {number}."))
            if alerts.look():
                break
            alerts.clock.shift(10)

        assert number * 10 <= 170
        assert "Trouble 0." in alerts.messages()[0]["body"]

    def test_one_that_was_over_before_it_was_sent_is_not_mentioned(self, alerts):
        alerts.target()
        alerts.wrong = [alarm()]
        alerts.later(100)
        alerts.wrong = []

        assert alerts.later(DAY, every=60) == []

    def test_one_that_flickers_is_sent_once_and_is_not_over(self, alerts):
        alerts.target()
        bodies = []
        for _ in range(40):
            alerts.wrong = [alarm()]
            bodies += alerts.later(60)
            alerts.wrong = []
            bodies += alerts.later(watch.OVER_SECONDS - 10)

        assert len(bodies) == 1

    def test_one_that_comes_and_goes_all_day_is_at_most_two_messages_an_hour(self, alerts):
        alerts.target()
        bodies = []
        for _ in range(24 * 6):
            alerts.wrong = [alarm()]
            bodies += alerts.later(300)
            alerts.wrong = []
            bodies += alerts.later(300)

        assert [body.startswith("Over") for body in bodies] == [False, True, False]

    def test_many_at_once_are_one_message_with_the_sum_in_its_subject(self, alerts):
        alerts.target()
        for number in range(8):
            alerts.clock.shift(3)
            money = {"USD": "4.99", "EUR": "1.50"} if number < 5 else {}
            alerts.wrong.append(alarm(f"{number}", f"Trouble {number}.", game="demo", money=money))
            alerts.look()

        (body,) = alerts.later(180)

        assert alerts.messages()[0]["subject"] == (
            "Coinslot at pay.example.com: 8 troubles, 7.50 EUR and 24.95 USD at stake"
        )
        assert body.count("\n\n") == 7
        assert body.startswith("demo: Trouble 0.\nAt stake: 1.50 EUR and 4.99 USD\nhttps://pay.example.com/games/demo/")

        alerts.wrong = []
        (over,) = alerts.later(180)
        assert alerts.messages()[1]["subject"] == "Coinslot at pay.example.com: over: 8 troubles"
        assert over.count("Over: demo: Trouble") == 8

    def test_hundreds_are_one_message_that_says_how_many_more(self, alerts):
        alerts.target()
        alerts.wrong = [alarm(f"{number}") for number in range(300)]

        alerts.look()
        (body,) = alerts.later(150)
        assert body.endswith(f"270 more: {PUBLIC_URL}/")

    def test_a_restart_and_a_clock_that_was_set_back_lose_nothing(self, alerts):
        alerts.target()
        alerts.wrong = [alarm()]
        alerts.clock.shift(30 * DAY)
        alerts.look()
        alerts.clock.shift(-30 * DAY)

        assert len(alerts.look()) == 1
        alerts.installation.database.close()
        assert alerts.later(200) == []

    def test_the_activity_has_each_without_a_target_too_and_a_new_target_gets_what_stands(self, alerts):
        def noted():
            rows = alerts.installation.database.read().execute("SELECT * FROM audit WHERE actor = 'server' ORDER BY id")
            return [(row["action"], row["subject"]) for row in rows]

        alerts.wrong = [alarm()]
        assert alerts.look() == alerts.later(200) == []
        assert noted() == [("trouble.new", alarm().sentence)]
        alerts.target("first")
        assert len([*alerts.look(), *alerts.later(200)]) == 1

        alerts.target("second")
        assert len(alerts.look()) == 1
        assert [row["target"] for row in alerts.messages()] == ["first", "second"]
        assert alerts.later(200) == []

        for name in ("first", "second"):
            alerts.write(lambda tx, name=name: targets.remove(tx, name, "test"))
        alerts.wrong = []
        assert alerts.look() == alerts.later(200) == []
        assert noted() == [("trouble.new", alarm().sentence), ("trouble.over", alarm().sentence)]
        query = "SELECT count(*) FROM installation_secrets"
        assert alerts.installation.database.read().execute(query).fetchone()[0] == 0

    def test_while_nobody_knows_what_is_wrong_nothing_is_over(self, alerts):
        alerts.target()
        alerts.wrong = [alarm()]
        alerts.look()
        assert len(alerts.later(150)) == 1
        alerts.wrong = [alarm("unreadable")]
        alerts.look(are_all=False)
        for _ in range(30):
            alerts.clock.shift(10)
            alerts.look(are_all=False)

        assert [row["body"].startswith("Over") for row in alerts.messages()] == [False, False]

    @pytest.mark.parametrize("seed", range(6))
    def test_of_any_story_each_is_sent_once_and_each_that_was_sent_is_over_once(self, alerts, seed):
        chance = random.Random(seed)
        alerts.target()
        since, sent = {}, set()
        for _ in range(400):
            for key in "abcde":
                if chance.random() < 0.05:
                    since[key] = None if since.get(key) else time.time()
            alerts.wrong = [alarm(key, f"({key})") for key, at in since.items() if at is not None]
            for paragraph in "\n\n".join(alerts.look()).split("\n\n"):
                if paragraph:
                    word, key = re.match(r"(Over: |Still: |)\((.)\)", paragraph).groups()
                    assert word != "Still: "
                    assert (key in sent) == (word == "Over: ")
                    sent ^= {key}
            assert all(key in sent for key, at in since.items() if at is not None and time.time() - at >= 170)
            alerts.clock.shift(10)
        alerts.wrong = []
        over = "".join(alerts.later(watch.RETURNED_OVER_SECONDS + 100))
        assert sorted(re.findall(r"Over: \((.)\)", over)) == sorted(sent)

    def test_while_nothing_changes_nothing_is_written(self, alerts):
        alerts.target()
        alerts.wrong = [alarm()]
        alerts.look()
        alerts.later(200)

        with databases.nothing_written(alerts.installation):
            alerts.later(600)

    def test_two_relays_that_look_at_the_same_time_write_one_message(self, alerts):
        alerts.target()
        alerts.wrong = [alarm()]
        alerts.look()
        alerts.clock.shift(150)

        together(*[alerts.look] * 4)

        assert len(alerts.messages()) == 1


class TestSending:
    def written(self, alerts, *names):
        for name in names:
            alerts.write(lambda tx, name=name: outbox.enqueue(tx, name, "Subject", "First.\n\nSecond."))

    def test_a_message_arrives_once(self, alerts, service):
        alerts.target(url=at(service))
        self.written(alerts, "ops")

        assert alerts.send()
        assert not alerts.send()

        (request,) = service.requests
        assert (request.json["title"], request.json["message"]) == ("Subject", "First.\n\nSecond.")
        assert alerts.states() == ["sent"]
        assert alerts.row()["last_sent_at"] is not None

    def test_two_relays_send_once(self, alerts, service):
        alerts.target(url=at(service))
        self.written(alerts, "ops")

        together(*[alerts.send] * 3)

        assert len(service.requests) == 1

    def test_one_that_fails_is_tried_again_with_growing_pauses_and_those_behind_it_keep_their_order(
        self, alerts, service, caplog
    ):
        alerts.target(url=at(service))
        self.written(alerts, "ops", "ops")
        service.script = [status(500), status(401)]
        for pause in outbox.PAUSES_SECONDS[:2]:
            alerts.send()
            assert not alerts.send()
            alerts.clock.shift(pause - 1)
            assert not alerts.send()
            alerts.clock.shift(1)
        assert alerts.row()["failures"] == 2
        assert alerts.row()["last_failure"] == "the service answered 401"

        while alerts.send():
            pass

        assert len(service.requests) == 4
        assert alerts.states() == ["sent", "sent"]
        assert alerts.row()["failures"] == 0
        assert "alert message 1 to ops failed: the service answered 500" in caplog.text

    def test_after_a_day_it_is_given_up_and_the_next_is_sent(self, alerts, service):
        alerts.target()
        self.written(alerts, "ops")
        alerts.send()
        alerts.clock.shift(DAY)
        self.written(alerts, "ops")

        alerts.send()

        assert alerts.states() == ["given_up", "waiting"]
        assert [row["attempts"] for row in alerts.messages()] == [1, 1]

    def test_a_service_that_hangs_is_left_when_its_time_is_up_and_does_not_hold_up_another(self, alerts, service):
        with FakeServer() as hanging:
            hanging.script = [silence]
            alerts.target("hanging", f"{at(hanging)}?rto=50")
            alerts.target("other", at(service))
            self.written(alerts, "hanging", "other")
            began = time.monotonic()

            alerts.send(seconds=8.0)

        assert time.monotonic() - began < 30
        assert alerts.states() == ["waiting", "sent"]
        assert alerts.row("hanging")["last_failure"] == "nothing was sent within 8 s"

    def test_targets_that_work_come_before_those_that_fail(self, alerts, service):
        for name in ("a", "b", "c"):
            alerts.target(name)
            self.written(alerts, name)
            alerts.write(lambda tx, name=name: outbox.note(tx, name, "it failed"))
        alerts.target("works", at(service))
        self.written(alerts, "works")

        alerts.send()

        assert len(service.requests) == 1

    def test_an_attempt_that_was_overtaken_records_nothing(self, alerts):
        alerts.target()
        self.written(alerts, "ops")
        (first,) = alerts.write(lambda tx: outbox.claim(tx, 1))
        alerts.clock.shift(outbox.PAUSES_SECONDS[0])
        (second,) = alerts.write(lambda tx: outbox.claim(tx, 1))

        alerts.write(lambda tx: outbox.record(tx, first, None))
        assert alerts.states() == ["waiting"]
        alerts.write(lambda tx: outbox.record(tx, second, None))
        assert alerts.states() == ["sent"]

    def test_a_process_that_dies_without_a_word_is_a_failure(self, alerts, monkeypatch, tmp_path):
        alerts.target()
        self.written(alerts, "ops")
        monkeypatch.setattr(sending.sys, "executable", "/bin/false")

        alerts.send()

        assert alerts.row()["last_failure"] == sending.ENDED
        monkeypatch.setattr(sending.sys, "executable", str(tmp_path / "missing"))
        alerts.clock.shift(100)
        alerts.send()
        assert alerts.row()["failures"] == 2

    @pytest.mark.parametrize(
        ("longest", "shown"),
        [
            (200, "First one.\n\nSecond one, of many words.\n\nThird one."),
            (45, "First one.\n\n2 more on the overview."),
            (11, "First one."),
        ],
    )
    def test_a_service_with_little_room_gets_whole_paragraphs(self, longest, shown):
        fitted = child.fitted("First one.\n\nSecond one, of many words.\n\nThird one.", longest)

        assert len(fitted) <= longest
        assert fitted.rstrip() == shown


class TestSecrecy:
    def test_no_url_is_in_a_log_an_exception_a_table_or_the_audit(self, alerts, service, caplog, db, installation):
        caplog.set_level(logging.DEBUG)
        alerts.target(url=at(service))
        service.script = [status(500), silence]
        alerts.write(lambda tx: outbox.enqueue(tx, "ops", "Subject", "Body"))
        alerts.send()
        with pytest.raises(AlertError) as refused:
            sending.understood_scheme(f"{SECRET}://{SECRET}")
        assert sending.send_test(installation.settings, "ops", "Subject", "Body", seconds=1.0) is not None

        assert SECRET not in caplog.text
        assert SECRET not in str(refused.value)
        for table in ("alert_targets", "alert_messages", "alerts", "audit", "installation", "installation_secrets"):
            assert SECRET not in str(db(f"SELECT * FROM {table}"))
        assert SECRET.encode() not in databases.raw(installation)

    @pytest.mark.parametrize("url", ["", "nonsense", "json://one json://two", "json://one,json://two", "json://a\nb"])
    def test_what_is_not_one_url_of_a_service_is_refused(self, url):
        with pytest.raises(AlertError):
            sending.understood_scheme(url)

    @pytest.mark.parametrize(
        ("url", "scheme"),
        [
            (f"json://user:{SECRET}@host/", "json"),
            (f"mailto://user:{SECRET}@example.com", "mailto"),
            ("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "slack"),
        ],
    )
    def test_the_scheme_alone_is_told(self, url, scheme):
        assert sending.understood_scheme(url) == scheme

    @pytest.mark.parametrize(
        "said", [f"Failed to send to {SECRET}: error=503.", f"A Connection error at {SECRET}", SECRET]
    )
    def test_a_reason_is_in_our_words(self, said):
        assert SECRET not in child.reason([said])

    def test_a_new_master_key_reseals_the_urls_and_a_restore_sends_nothing_twice(
        self, alerts, service, installation, tmp_path
    ):
        alerts.target(url=at(service))
        alerts.wrong = [alarm()]
        alerts.look()
        alerts.later(150)
        backup.backup(installation.database, tmp_path / "copy.db")
        new = MasterKey.generate()
        keyring.rotate_master_key(installation.database, installation.vault, new, "test")
        if installation.settings.master_key:  # then the owner puts the new one beside it
            both = f"{new.text()} {installation.settings.master_key}"
            installation.settings = replace(installation.settings, master_key=both)
            installation.vault = Vault(installation.settings.home, both)
        alerts.send()
        assert len(service.requests) == 1

        restore.restore(installation.database, installation.vault, tmp_path / "copy.db")
        alerts.send()
        assert len(service.requests) == 1

        assert targets.url(installation.database.read(), installation.vault, "ops") == at(service)
        assert len(alerts.later(170)) == 1
        alerts.send()
        assert len(service.requests) == 2


def test_news_of_nothing_is_none():
    assert not News()
