"""Jobs that are due: asked for, claimed once, run by any relay, paused after a failure, given back by the dying."""

import logging
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from coinslot.base import clock as coinslot_clock
from coinslot.installation import Standing
from coinslot.outbox import deliveries
from coinslot.relay import jobs as schedules
from coinslot.relay.jobs import LEASE_SECONDS, PAUSES_SECONDS, JobError
from coinslot.relay.loop import JOBS_AT_ONCE
from tests.owed import Owed
from tests.receivers import Receiver, silence, status
from tests.servers import ROOT, until

JOB = "test.job"
SECRET = "a-secret-that-no-log-may-hold"


class Jobs:
    """The jobs of an installation, and what they are told to do."""

    def __init__(self, installation, studio):
        self.installation = installation
        self.game_id = studio.row["id"]
        self.ran = []
        self.does = lambda installation, game: None
        installation.jobs = {JOB: self._run}

    def _run(self, installation, game):
        self.ran.append(game.slug)
        return self.does(installation, game)

    def write(self, function):
        return self.installation.database.write_here(function)

    def at(self, seconds=0.0, game_id=None, name=JOB):
        self.write(lambda tx: schedules.at(tx, game_id or self.game_id, name, seconds))

    def claim(self, owner="me", most=9, names=(JOB,)):
        return self.write(lambda tx: schedules.claim_due(tx, owner, names, most))

    def finish(self, due, again=None, error=None):
        self.write(lambda tx: schedules.finished(tx, due, again, error))

    def drain(self):
        return self.installation.new_relay().drain()

    def row(self, name=JOB):
        (row,) = (
            self.installation.database.read()
            .execute("SELECT * FROM schedules WHERE name = :name AND game_id = :id", {"name": name, "id": self.game_id})
            .fetchall()
        )
        return row

    def due_in(self):
        due = self.row()["due_at"]
        return None if due is None else round(coinslot_clock.seconds(due) - coinslot_clock.now(), 3)


@pytest.fixture
def jobs(installation, studio):
    return Jobs(installation, studio)


@contextmanager
def running(installation):
    relay = installation.new_relay()
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield relay
    finally:
        relay.stop()
        thread.join(30)
        assert not thread.is_alive()


def fails(error):
    def job(installation, game):
        raise error

    return job


class TestTheRow:
    def test_asking_again_never_postpones_a_job(self, jobs, clock):
        jobs.at(10)
        jobs.at(30)
        assert jobs.due_in() == 10

        jobs.at(5)

        assert jobs.due_in() == 5
        assert jobs.row()["asked"] == 3

    def test_a_claimed_job_is_nobody_elses_until_its_lease_ends(self, jobs, clock):
        jobs.at()

        (first,) = jobs.claim("one")

        assert jobs.claim("two") == []
        clock.shift(LEASE_SECONDS + 1)
        (second,) = jobs.claim("two")
        assert (second.owner, second.failures) == ("two", 0)
        jobs.finish(first, again=1)  # too late: somebody else has it in hand
        assert jobs.row()["lease_owner"] == "two"
        jobs.finish(second)
        assert (jobs.row()["lease_owner"], jobs.due_in()) == (None, None)

    def test_a_late_end_of_the_same_relays_earlier_claim_changes_nothing(self, jobs, clock):
        jobs.at()
        (first,) = jobs.claim()
        clock.shift(LEASE_SECONDS + 1)
        (second,) = jobs.claim()

        jobs.finish(first)

        assert jobs.row()["leased_until"] == second.leased_until

    def test_claims_are_limited_and_the_longest_due_comes_first(self, jobs, clock):
        for name in ("c", "a", "b"):
            jobs.at(name=name)
            clock.shift(1)

        claimed = jobs.claim(names=("a", "b", "c", "d"), most=2)

        assert [due.name for due in claimed] == ["c", "a"]

    def test_jobs_nobody_here_knows_are_let_be(self, jobs, clock):
        jobs.at(name="of.another.version")

        assert jobs.claim() == []
        assert schedules.next_due(jobs.installation.database.read(), [JOB]) is None

    def test_what_was_asked_for_while_it_ran_is_not_forgotten(self, jobs, clock):
        jobs.at()
        (due,) = jobs.claim()
        jobs.at(5)

        jobs.finish(due)

        assert jobs.due_in() == 5

    def test_the_earlier_of_two_wishes_counts(self, jobs, clock):
        jobs.at()
        (due,) = jobs.claim()
        jobs.at(5)
        jobs.finish(due, again=2)
        assert jobs.due_in() == 2

        clock.shift(2)
        (due,) = jobs.claim()
        jobs.at(5)
        jobs.finish(due, again=60)
        assert jobs.due_in() == 5

    def test_pauses_grow_and_asking_does_not_shorten_them(self, jobs, clock):
        jobs.at()
        for failures, pause in enumerate((*PAUSES_SECONDS, PAUSES_SECONDS[-1]), 1):
            (due,) = jobs.claim()
            jobs.at(1)  # while it runs
            jobs.finish(due, error="no luck")
            jobs.at(1)  # and while it pauses
            assert (jobs.due_in(), jobs.row()["failures"], jobs.row()["last_error"]) == (pause, failures, "no luck")
            clock.shift(pause)

        (due,) = jobs.claim()
        jobs.finish(due)

        assert (jobs.due_in(), jobs.row()["failures"], jobs.row()["last_error"]) == (None, 0, None)

    @pytest.mark.parametrize("error", ["half a pair \ud800", "two\nlines\x1b[2J", "long " * 1000])
    def test_any_error_can_be_written_down(self, jobs, clock, error):
        jobs.at()
        (due,) = jobs.claim()

        jobs.finish(due, error=error)

        kept = jobs.row()["last_error"]
        assert 0 < len(kept) <= schedules.LONGEST_ERROR
        assert kept.isprintable()

    def test_a_job_given_back_is_due_at_once(self, jobs, clock):
        jobs.at()
        (due,) = jobs.claim()

        jobs.write(lambda tx: schedules.give_back(tx, due))

        assert [each.name for each in jobs.claim("another")] == [JOB]


class TestARelay:
    def test_a_due_job_is_run_for_its_game_and_recorded(self, jobs, clock):
        jobs.at(5)
        assert jobs.drain() == 0
        assert jobs.ran == []
        clock.shift(5)

        jobs.drain()

        assert jobs.ran == ["demo"]
        row = jobs.row()
        assert (row["due_at"], row["lease_owner"], row["last_error"]) == (None, None, None)
        assert row["last_ran_at"] == coinslot_clock.stamp()
        jobs.drain()
        assert jobs.ran == ["demo"]

    def test_a_job_that_wants_to_runs_again(self, jobs, clock):
        answers = [0.0, 0.0, 30.0]
        jobs.does = lambda installation, game: answers.pop(0)
        jobs.at()

        jobs.drain()

        assert jobs.ran == ["demo"] * 3
        assert jobs.due_in() == 30

    def test_a_failure_that_was_expected_is_one_line(self, jobs, clock, caplog):
        jobs.does = fails(JobError("Appcharge said no\nTraceback: not really"))
        jobs.at()

        jobs.drain()

        (record,) = [each for each in caplog.records if JOB in each.getMessage()]
        assert record.levelno == logging.WARNING
        assert record.exc_info is None
        assert record.getMessage() == "job test.job of demo failed: Appcharge said no Traceback: not really"
        assert jobs.row()["last_error"] == "Appcharge said no Traceback: not really"
        assert jobs.due_in() == PAUSES_SECONDS[0]

    def test_a_bug_is_logged_whole_and_the_row_holds_no_more_than_its_kind(self, jobs, clock, caplog):
        jobs.does = fails(KeyError(SECRET))
        jobs.at()

        jobs.drain()

        assert [each.exc_info[0] for each in caplog.records if each.exc_info] == [KeyError]
        assert jobs.row()["last_error"] == "KeyError; the log says more"
        assert jobs.due_in() == PAUSES_SECONDS[0]

    def test_a_secret_that_does_not_open_is_a_failure_like_others(self, jobs, clock, caplog):
        jobs.write(lambda tx: tx.execute("UPDATE secrets SET ciphertext = zeroblob(40)"))
        jobs.at()

        jobs.drain()

        assert jobs.ran == []
        assert jobs.row()["failures"] == 1
        assert not any(each.exc_info for each in caplog.records)

    def test_a_job_runs_outside_of_every_transaction(self, jobs, clock):
        jobs.does = lambda installation, game: installation.database.write(
            lambda tx: schedules.at(tx, game.id, JOB, 60)
        )
        jobs.at()

        jobs.drain()

        assert jobs.due_in() == 60

    def test_deliveries_go_on_while_every_place_for_jobs_is_taken(self, jobs, installation, studio):
        owed = Owed(installation, studio)
        everybody_in, release = threading.Semaphore(0), threading.Event()

        def hang(installation, game):
            everybody_in.release()
            release.wait(30)

        jobs.does = hang
        installation.jobs = {f"job.{number}": jobs.does for number in range(JOBS_AT_ONCE + 3)}
        for name in installation.jobs:
            jobs.at(name=name)
        with Receiver(status(200)) as receiver, running(installation):
            for _ in range(JOBS_AT_ONCE):
                assert everybody_in.acquire(timeout=10)
            owed.destination(url=receiver.url)
            owed.credit(20)
            until(lambda: len(owed.deliveries("delivered")) == 20, "all are delivered")
            assert not everybody_in.acquire(blocking=False)  # the others wait their turn
            release.set()
            for _ in range(3):
                assert everybody_in.acquire(timeout=10)

    def test_jobs_go_on_beside_a_destination_that_hangs(self, jobs, installation, studio):
        owed = Owed(installation, studio)
        with Receiver(silence) as receiver:
            owed.destination(url=receiver.url, timeout_seconds=1)
            owed.credit(9)
            with running(installation):
                until(lambda: receiver.requests, "it hangs")
                jobs.at()
                until(lambda: jobs.ran, "the job ran")

    def test_a_running_relay_notices_a_job_of_another_process(self, jobs, installation):
        with running(installation):
            until(lambda: deliveries.last_beat(installation.database.read()), "it runs")
            subprocess.run(
                [sys.executable, "-c", ASKS, str(installation.settings.home), str(jobs.game_id)], cwd=ROOT, check=True
            )
            until(lambda: jobs.ran, "the job ran", 2)

    def test_what_is_in_hand_is_finished_and_what_was_not_begun_given_back(self, jobs, installation):
        begun, release = threading.Event(), threading.Event()

        def slow(installation, game):
            begun.set()
            release.wait(30)

        jobs.does = slow
        jobs.at()
        with running(installation) as relay:
            assert begun.wait(10)
            relay.stop()
            (late,) = jobs.write(lambda tx: self._claim_another(tx, jobs))
            relay._jobs_in_hand += 1
            relay._run_job(late)
            release.set()

        assert jobs.row()["last_ran_at"] is not None
        given_back = jobs.row("late")
        assert (given_back["lease_owner"], given_back["last_ran_at"]) == (None, None)
        assert given_back["due_at"] is not None

    def _claim_another(self, tx, jobs):
        schedules.at(tx, jobs.game_id, "late", -1)
        return schedules.claim_due(tx, "me", ["late"], 1)

    def test_two_relays_run_a_job_once(self, jobs, installation):
        with running(installation), running(installation):
            for number in range(1, 11):
                jobs.at()
                until(lambda number=number: len(jobs.ran) >= number, "it ran")
                until(lambda: jobs.row()["lease_owner"] is None, "it is recorded")

        assert len(jobs.ran) == 10

    def test_schedules_are_looked_up_only_after_a_commit(self, jobs, installation):
        relay = installation.new_relay()
        connection = installation.database.read()
        statements = []
        connection.set_trace_callback(statements.append)

        def look():
            relay._turn(0)
            return sum("FROM schedules" in each for each in statements)

        assert [look() for _ in range(20)] == [1] * 20
        jobs.at(60)
        assert [look() for _ in range(20)] == [2] * 20


ASKS = """
import sys
from pathlib import Path
from coinslot.relay import jobs
from coinslot.store.db import Database

database = Database(Path(sys.argv[1]))
database.write_here(lambda tx: jobs.at(tx, int(sys.argv[2]), "test.job", 0))
"""


class TestStandingJobs:
    @pytest.fixture
    def standing(self, jobs, installation):
        installation.jobs = {JOB: Standing(jobs._run)}
        return jobs

    def test_they_run_once_a_relay_sees_the_game_and_not_again_by_themselves(self, standing, clock):
        standing.drain()
        standing.drain()

        assert standing.ran == ["demo", "demo"]  # each relay looks for itself
        assert standing.due_in() is None

    def test_a_time_they_have_is_kept(self, standing, clock):
        standing.at(60)

        standing.drain()

        assert (standing.ran, standing.due_in()) == ([], 60)

    def test_a_changed_configuration_has_them_run_again_and_ends_a_pause(self, standing, installation, studio):
        standing.does = fails(JobError("not now", pauses=[3600]))
        with running(installation):
            until(lambda: standing.ran, "the first run")
            until(lambda: standing.row()["failures"] == 1, "it failed")
            standing.does = lambda installation, game: None
            studio.config("appcharge.tolerance_seconds", "400")
            until(lambda: standing.row()["failures"] == 0, "the second run")

        assert standing.ran == ["demo", "demo"]

    def test_a_game_added_later_is_seen(self, standing, installation, studio):
        with running(installation):
            until(lambda: standing.ran, "the first game")
            type(studio)(installation, "second")
            until(lambda: len(standing.ran) == 2, "the second")

        assert standing.ran == ["demo", "second"]


class TestOwnPauses:
    def test_a_failure_pauses_by_the_jobs_own_table(self, jobs, clock):
        jobs.does = fails(JobError("not now", pauses=[7, 70]))
        jobs.at()
        waits = []
        for _ in range(3):
            jobs.drain()
            waits.append(jobs.due_in())
            clock.shift(waits[-1])

        assert waits == [7, 70, 70]

    @pytest.mark.parametrize(("asked", "kept"), [(3, 7), (900, 900), (10**9, schedules.LONGEST_PAUSE_SECONDS)])
    def test_the_other_side_may_ask_for_a_longer_pause(self, jobs, clock, asked, kept):
        jobs.does = fails(JobError("not now", pauses=[7], at_least=asked))
        jobs.at()

        jobs.drain()

        assert jobs.due_in() == kept


class TestByHand:
    def take(self, jobs, owner="me", name=JOB):
        return jobs.write(lambda tx: schedules.take(tx, owner, jobs.game_id, name))

    def test_a_job_taken_is_nobody_elses_until_it_is_finished(self, jobs, clock):
        jobs.at(300)

        due = self.take(jobs)

        assert (self.take(jobs, "you"), jobs.claim()) == (None, [])
        jobs.finish(due, 5)
        assert (jobs.due_in(), jobs.row()["lease_owner"]) == (5, None)
        assert self.take(jobs, "you").owner == "you"

    def test_what_a_relay_has_in_hand_cannot_be_taken(self, jobs, clock):
        jobs.at()
        jobs.claim()

        assert self.take(jobs) is None
        clock.shift(LEASE_SECONDS)
        assert self.take(jobs) is not None

    def test_one_that_dies_leaves_the_job_as_due_as_it_was(self, jobs, clock):
        self.take(jobs, name="never.asked.for")
        jobs.at()
        self.take(jobs)
        clock.shift(LEASE_SECONDS)

        assert [due.name for due in jobs.claim(names=(JOB, "never.asked.for"))] == [JOB]

    def test_a_job_asked_for_meanwhile_runs_again(self, jobs, clock):
        due = self.take(jobs)
        jobs.at()

        jobs.finish(due)

        assert jobs.due_in() == 0


def test_a_cursor_is_kept_with_the_job_and_survives_its_runs(jobs, installation, clock):
    jobs.does = lambda installation, game: installation.database.write(
        lambda tx: schedules.put_cursor(tx, game.id, JOB, "page 7")
    )
    jobs.at()
    assert schedules.cursor(installation.database.read(), jobs.game_id, JOB) is None

    jobs.drain()

    assert schedules.cursor(installation.database.read(), jobs.game_id, JOB) == "page 7"
    jobs.write(lambda tx: schedules.put_cursor(tx, jobs.game_id, JOB, None))
    assert schedules.cursor(installation.database.read(), jobs.game_id, JOB) is None
    assert schedules.cursor(installation.database.read(), jobs.game_id, "unknown") is None


class TestTheCommand:
    def test_relay_once_runs_what_is_due_and_waits_for_it(self, jobs, app):
        done = []

        def slow(installation, game):
            threading.Event().wait(0.1)
            done.append(game.slug)

        jobs.does = slow
        jobs.at()

        result = app.test_cli_runner().invoke(args=["relay", "--once"])

        assert (result.exit_code, result.output) == (0, "0 attempts made.\n")
        assert done == ["demo"]

    def test_sigterm_after_the_first_line_ends_the_relay_tidily(self, installation):
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "relay"],
            cwd=ROOT,
            env={"COINSLOT_HOME": str(installation.settings.home), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout.readline() == "The relay runs.\n"
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()

        assert (process.returncode, output) == (0, "")
