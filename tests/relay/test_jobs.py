"""Jobs that are due: asked for, claimed once, run by any relay, paused after a failure, given back by the dying."""

import logging
import threading

import pytest

from coinslot.base import clock as coinslot_clock
from coinslot.games import games
from coinslot.installation import Following, Standing
from coinslot.relay import jobs as schedules
from coinslot.relay.jobs import LEASE_SECONDS, PAUSES_SECONDS, JobError
from coinslot.relay.loop import JOBS_AT_ONCE
from coinslot.store.db import DatabaseError
from tests import databases
from tests.fakes.http import Receiver, silence, status
from tests.owed import running
from tests.servers import until

JOB = "test.job"
SECRET = "a-secret-that-no-log-may-hold"


class Jobs:
    """The jobs of an installation, and what they are told to do: ``does`` is a function of installation and game."""

    def __init__(self, installation, studio):
        self.installation = installation
        self.game_id = studio.row["id"]
        self.ran = []
        self.does = lambda installation, game: None
        installation.jobs = {JOB: self._run}
        installation.own_jobs = {}

    def _run(self, installation, game):
        self.ran.append(game.slug)
        return self.does(installation, game)

    def fails(self, error):
        def job(installation, game):
            raise error

        self.does = job

    def write(self, function):
        return self.installation.database.write_here(function)

    def at(self, seconds=0.0, name=JOB):
        self.write(lambda tx: schedules.at(tx, self.game_id, name, seconds))

    def claim(self, owner="me", most=9, names=(JOB,)):
        return self.write(lambda tx: schedules.claim_due(tx, owner, names, most))

    def take(self, owner="me", name=JOB):
        return self.write(lambda tx: schedules.take(tx, owner, self.game_id, name))

    def finish(self, due, again=None, error=None):
        self.write(lambda tx: schedules.finished(tx, due, again, error))

    def drain(self):
        return self.installation.new_relay().drain()

    def row(self, name=JOB):
        (row,) = self.installation.database.read().execute(
            "SELECT * FROM schedules WHERE name = :name AND game_id = :id", {"name": name, "id": self.game_id}
        )
        return row

    def due_in(self):
        due = self.row()["due_at"]
        return None if due is None else round(coinslot_clock.seconds(due) - coinslot_clock.now(), 3)


@pytest.fixture
def jobs(installation, studio):
    return Jobs(installation, studio)


class TestTheRow:
    def test_asking_again_never_postpones_a_job(self, jobs, clock):
        jobs.at(10)
        jobs.at(30)
        assert jobs.due_in() == 10
        jobs.at(5)
        assert (jobs.due_in(), jobs.row()["asked"]) == (5, 3)

    @pytest.mark.parametrize("owner", ["me", "two"])
    def test_a_claimed_job_is_nobody_elses_until_its_lease_ends(self, jobs, clock, owner):
        jobs.at()

        (first,) = jobs.claim()

        assert jobs.claim("two") == []
        clock.shift(LEASE_SECONDS + 1)
        (second,) = jobs.claim(owner)
        assert (second.owner, second.failures) == (owner, 0)
        jobs.finish(first, again=1)  # too late: another claim has it in hand
        assert jobs.row()["leased_until"] == second.leased_until
        jobs.finish(second)
        assert (jobs.row()["lease_owner"], jobs.due_in()) == (None, None)

    def test_claims_are_limited_and_the_longest_due_comes_first(self, jobs, clock):
        for name in ("c", "a", "b"):
            jobs.at(name=name)
            clock.shift(1)

        assert [due.name for due in jobs.claim(names=("a", "b", "c", "d"), most=2)] == ["c", "a"]

    def test_jobs_nobody_here_knows_are_left_alone(self, jobs, clock):
        jobs.at(name="of.another.version")

        assert jobs.claim() == []
        assert schedules.next_due(jobs.installation.database.read(), [JOB]) is None

    @pytest.mark.parametrize(("asked", "again", "due"), [(5, None, 5), (5, 2, 2), (5, 60, 5)])
    def test_what_was_asked_for_while_it_ran_is_not_forgotten_and_the_earlier_wish_counts(
        self, jobs, clock, asked, again, due
    ):
        jobs.at()
        (claimed,) = jobs.claim()
        jobs.at(asked)

        jobs.finish(claimed, again)

        assert jobs.due_in() == due

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
        jobs.finish(jobs.claim()[0], error=error)

        kept = jobs.row()["last_error"]
        assert 0 < len(kept) <= schedules.LONGEST_ERROR
        assert kept.isprintable()

    def test_a_job_given_back_is_due_at_once(self, jobs, clock):
        jobs.at()
        (due,) = jobs.claim()

        jobs.write(lambda tx: schedules.give_back(tx, due))

        assert [each.name for each in jobs.claim("another")] == [JOB]

    def test_waking_a_job_runs_it_now_though_it_pauses(self, jobs, clock):
        jobs.at()
        jobs.finish(jobs.claim()[0], error="no luck")

        jobs.write(lambda tx: schedules.wake(tx, jobs.game_id, JOB))

        assert (jobs.due_in(), jobs.row()["asked"]) == (0, 2)

    def test_a_warning_stands_until_it_is_ended_and_an_error_until_the_job_succeeds(self, jobs, clock):
        def standing():
            connection = jobs.installation.database.read()
            return schedules.warnings(connection, jobs.game_id), schedules.last_errors(connection, jobs.game_id)

        jobs.at()
        jobs.write(lambda tx: schedules.warn(tx, jobs.game_id, JOB, "three rows have no id"))
        jobs.finish(jobs.claim()[0], error="no luck")
        assert standing() == ({JOB: "three rows have no id"}, {JOB: "no luck"})

        clock.shift(PAUSES_SECONDS[0])
        jobs.write(lambda tx: schedules.warn(tx, jobs.game_id, JOB, None))
        jobs.finish(jobs.claim()[0])
        assert standing() == ({}, {})


class TestByHand:
    def test_a_job_taken_is_nobody_elses_until_it_is_finished(self, jobs, clock):
        jobs.at(300)

        due = jobs.take()

        assert (jobs.take("you"), jobs.claim()) == (None, [])
        jobs.finish(due, 5)
        assert (jobs.due_in(), jobs.row()["lease_owner"]) == (5, None)
        assert jobs.take("you").owner == "you"

    def test_what_a_relay_has_in_hand_cannot_be_taken(self, jobs, clock):
        jobs.at()
        jobs.claim()

        assert jobs.take() is None
        clock.shift(LEASE_SECONDS)
        assert jobs.take() is not None

    def test_one_that_dies_leaves_the_job_as_due_as_it_was(self, jobs, clock):
        jobs.take(name="never.asked.for")
        jobs.at()
        jobs.take()
        clock.shift(LEASE_SECONDS)

        assert [due.name for due in jobs.claim(names=(JOB, "never.asked.for"))] == [JOB]

    def test_a_job_asked_for_meanwhile_runs_again(self, jobs, clock):
        due = jobs.take()
        jobs.at()

        jobs.finish(due)

        assert jobs.due_in() == 0


class TestARelay:
    def test_a_due_job_is_run_once_for_its_game_and_recorded(self, jobs, clock):
        jobs.at(5)
        assert jobs.drain() == 0
        assert jobs.ran == []
        clock.shift(5)

        jobs.drain()
        jobs.drain()

        assert jobs.ran == ["demo"]
        row = jobs.row()
        assert (row["due_at"], row["lease_owner"], row["last_error"]) == (None, None, None)
        assert row["last_ran_at"] == coinslot_clock.stamp()

    def test_a_job_that_wants_to_runs_again(self, jobs, clock):
        answers = [0.0, 0.0, 30.0]
        jobs.does = lambda installation, game: answers.pop(0)
        jobs.at()

        jobs.drain()

        assert jobs.ran == ["demo"] * 3
        assert jobs.due_in() == 30

    def test_it_runs_again_however_late_the_database_tells_of_commits(self, jobs, installation, monkeypatch):
        looked = []

        def nothing_after_the_claim():
            looked.append(None)
            return min(len(looked), 2)

        def does(installation, game):
            until(lambda: len(looked) > 2, "the relay has seen the claim")
            return answers.pop(0)

        monkeypatch.setattr(installation.database, "commits_seen", nothing_after_the_claim)
        answers = [0.0, 0.0, 30.0]
        jobs.does = does
        jobs.at()

        jobs.drain()

        assert jobs.ran == ["demo"] * 3

    def test_a_failure_that_was_expected_is_one_line(self, jobs, clock, caplog):
        jobs.fails(JobError("Appcharge said no\nTraceback: not really"))
        jobs.at()

        jobs.drain()

        (record,) = [each for each in caplog.records if JOB in each.getMessage()]
        assert (record.levelno, record.exc_info) == (logging.WARNING, None)
        assert record.getMessage() == "job test.job of demo failed: Appcharge said no Traceback: not really"
        assert jobs.row()["last_error"] == "Appcharge said no Traceback: not really"
        assert jobs.due_in() == PAUSES_SECONDS[0]

    def test_a_bug_is_logged_whole_and_the_row_holds_no_more_than_its_kind(self, jobs, clock, caplog):
        jobs.fails(KeyError(SECRET))
        jobs.at()

        jobs.drain()

        assert [each.exc_info[0] for each in caplog.records if each.exc_info] == [KeyError]
        assert jobs.row()["last_error"] == "KeyError; the log says more"
        assert jobs.due_in() == PAUSES_SECONDS[0]

    def test_a_secret_that_does_not_open_is_a_failure_like_others(self, jobs, clock, caplog):
        jobs.write(lambda tx: tx.execute("UPDATE secrets SET ciphertext = x'00'"))
        jobs.at()

        jobs.drain()

        assert jobs.ran == []
        assert jobs.row()["failures"] == 1
        assert not any(each.exc_info for each in caplog.records)

    @pytest.mark.parametrize(
        ("pauses", "asked", "waits"),
        [
            ([7, 70], 0, [7, 70, 70]),
            ([7], 3, [7]),
            ([7], 900, [900]),
            ([7], 10**9, [schedules.LONGEST_PAUSE_SECONDS]),
        ],
    )
    def test_a_failure_pauses_by_the_jobs_own_table_or_as_long_as_the_other_side_asks(
        self, jobs, clock, pauses, asked, waits
    ):
        jobs.fails(JobError("not now", pauses=pauses, at_least=asked))
        jobs.at()
        for wait in waits:
            jobs.drain()
            assert jobs.due_in() == wait
            clock.shift(wait)

    def test_a_job_runs_outside_of_every_transaction_and_its_cursor_survives_its_runs(self, jobs, installation, clock):
        connection = installation.database.read()

        def work(tx):
            schedules.at(tx, jobs.game_id, JOB, 60)
            schedules.put_cursor(tx, jobs.game_id, JOB, "page 7")

        jobs.does = lambda installation, game: installation.database.write(work)
        jobs.at()
        assert schedules.cursor(connection, jobs.game_id, JOB) is None

        jobs.drain()

        assert jobs.due_in() == 60
        assert schedules.cursor(connection, jobs.game_id, JOB) == "page 7"
        jobs.write(lambda tx: schedules.put_cursor(tx, jobs.game_id, JOB, None))
        assert schedules.cursor(connection, jobs.game_id, JOB) is None
        assert schedules.cursor(connection, jobs.game_id, "unknown") is None

    def test_deliveries_go_on_while_every_place_for_jobs_is_taken(self, jobs, installation, owed):
        everybody_in, release = threading.Semaphore(0), threading.Event()

        def hang(installation, game):
            everybody_in.release()
            release.wait(30)

        installation.jobs = {f"job.{number}": hang for number in range(JOBS_AT_ONCE + 3)}
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

    def test_jobs_go_on_beside_a_destination_that_hangs(self, jobs, installation, owed):
        with Receiver(silence) as receiver:
            owed.destination(url=receiver.url, timeout_seconds=1)
            owed.credit(9)
            with running(installation):
                until(lambda: receiver.requests, "it hangs")
                jobs.at()
                until(lambda: jobs.ran, "the job ran")

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
            jobs.at(-1, "late")
            (late,) = jobs.claim(names=["late"])
            relay._run_job(late, "late")
            release.set()

        assert jobs.row()["last_ran_at"] is not None
        given_back = jobs.row("late")
        assert (given_back["lease_owner"], given_back["last_ran_at"]) == (None, None)
        assert given_back["due_at"] is not None

    @pytest.mark.parametrize("error", [DatabaseError("it is locked"), KeyError("a bug")])
    def test_what_could_not_be_recorded_is_logged_and_is_in_hand_no_more(self, jobs, installation, caplog, error):
        def work(what):
            raise error

        relay = installation.new_relay()
        relay._in_hand[1] += 1
        relay._work(1, "delivery 1", work)

        assert "delivery 1 was not recorded" in caplog.text
        assert not relay._is_busy()

    def test_two_relays_run_a_job_once(self, jobs, installation):
        with running(installation, relays=2):
            for number in range(1, 11):
                jobs.at()
                until(lambda number=number: len(jobs.ran) >= number, "it ran")
                until(lambda: jobs.row()["lease_owner"] is None, "it is recorded")

        assert len(jobs.ran) == 10

    def test_schedules_are_looked_up_only_after_a_commit(self, jobs, installation):
        installation.own_jobs = {}
        relay = installation.new_relay()

        def look():
            relay._turn(0)
            return sum("FROM schedules" in each for each in statements)

        with databases.statements(installation) as statements:
            assert [look() for _ in range(20)] == [1] * 20
            jobs.at(60)
            assert [look() for _ in range(20)] == [2] * 20


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

    def test_a_changed_configuration_has_them_run_again_and_a_new_game_too(self, standing, installation, studio):
        standing.fails(JobError("not now", pauses=[3600]))
        with running(installation):
            until(lambda: standing.ran and standing.row()["failures"] == 1, "the first run failed")
            standing.does = lambda installation, game: None
            studio.config("appcharge.tolerance_seconds", "400")
            until(lambda: standing.row()["failures"] == 0, "the second run, in spite of the pause")
            type(studio)(installation, "second")
            until(lambda: len(standing.ran) == 3, "the new game's")

        assert standing.ran == ["demo", "demo", "second"]


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


class TestJobsOfTheInstallation:
    def test_one_runs_once_a_relay_runs_even_without_any_game_and_again_when_it_wants_to(self, installation, clock):
        ran = []
        installation.own_jobs = {"watch": lambda given: ran.append(given) or 60.0}

        def drain():
            installation.new_relay().drain()
            return len(ran)

        assert (drain(), drain()) == (1, 1)
        clock.shift(61)
        assert drain() == 2
        assert ran == [installation, installation]
        query = "SELECT game_id, name, failures FROM schedules"
        assert [tuple(row) for row in installation.database.read().execute(query)] == [(0, "watch", 0)]

    def test_one_that_follows_commits_is_claimed_only_while_it_has_work(self, installation, clock):
        ran = []

        def has_work(connection):
            return connection.execute("SELECT count(*) FROM games").fetchone()[0] > len(ran)

        installation.own_jobs = {"follow": Following(lambda given: ran.append(given) or 1.0, has_work)}

        def drain():
            installation.new_relay().drain()
            return len(ran)

        assert drain() == 0
        installation.database.write_here(lambda tx: games.add(tx, "demo", "Demo", "test"))
        assert (drain(), drain()) == (1, 1)
        clock.shift(1)
        assert drain() == 1
        installation.database.write_here(lambda tx: games.add(tx, "other", "Other", "test"))
        assert drain() == 2

    def test_one_without_work_costs_no_commit(self, installation):
        installation.own_jobs = {"follow": Following(lambda given: 1.0, lambda connection: False)}
        relay = installation.new_relay()
        relay._turn(0)  # asks for it

        with databases.nothing_written(installation):
            turns = [relay._turn(0) for _ in range(20)]

        assert turns == [(0, 0)] * 20
