"""The nightly job: when a proof is due, that it really begins, in one process at a time, and never at the start."""

import pytest

from coinslot.base import clock as time_of
from coinslot.operations import nightly, proofs
from coinslot.operations.backup_folder import in_use, proved
from coinslot.relay import jobs
from tests.conftest import furnished
from tests.databases import change
from tests.servers import until

DAY = 86400.0
MIDNIGHT = 1_800_000_000.0 // DAY * DAY


@pytest.fixture
def night(installation, clock):
    clock.move_to(MIDNIGHT + DAY / 2)
    return Night(installation, clock)


class Night:
    def __init__(self, installation, clock):
        self.installation = installation
        self.clock = clock

    @property
    def connection(self):
        return self.installation.database.read()

    def due_in(self):
        at = nightly.next_at(self.connection, self.installation.settings.home)
        return None if at is None else at - time_of.now()

    def game(self):
        self.installation.database.write_here(
            lambda tx: tx.execute(
                """INSERT INTO games (slug, name, api_token_hash, revision, created_at)
                   VALUES ('demo', 'Demo', 'hash', 'revision', :now)""",
                {"now": time_of.stamp()},
            )
        )

    def prove(self):
        installation = self.installation
        return proofs.prove(installation.database, installation.vault, installation.settings.backups)

    def begun(self):
        self.installation.database.write_here(
            lambda tx: jobs.put_cursor(tx, jobs.INSTALLATION, nightly.JOB, time_of.stamp())
        )


def test_the_first_follows_soon_after_the_first_game(night):
    assert night.due_in() is None
    night.game()
    assert night.due_in() == nightly.AFTER_GAME_SECONDS


def test_after_a_good_one_the_next_is_at_night(night):
    night.game()
    assert night.prove().faults == 0

    at = time_of.now() + night.due_in()
    assert DAY + 3 * 3600 <= at - MIDNIGHT < DAY + 3.5 * 3600
    night.clock.move_to(at + 1)
    night.begun()
    assert night.prove().faults == 0
    assert night.due_in() == pytest.approx(DAY - 1)
    night.clock.shift(5 * DAY)  # the server was down
    assert night.due_in() < 0


def test_one_that_found_something_or_was_cut_off_is_made_again(night):
    night.game()
    night.begun()
    assert night.due_in() == nightly.AFTER_CUT_OFF_SECONDS
    change(night.installation, "INSERT INTO counters VALUES (1, 'somebody', 'credited', '', '', 1)")
    assert night.prove().faults == 1
    assert night.due_in() == nightly.AFTER_FAULT_SECONDS


def test_a_clock_that_was_ahead_stops_nothing(night):
    night.game()
    night.prove()
    night.clock.shift(-30 * DAY)
    assert night.due_in() == 0


def test_nothing_begins_in_the_first_minutes_of_a_server(night):
    night.game()
    night.clock.shift(DAY)
    installation = night.installation

    pause = nightly.begin_when_due(installation.settings, installation.database, time_of.now())

    assert pause == nightly.AFTER_START_SECONDS
    assert not installation.settings.backups.exists()


def test_while_one_is_under_way_none_begins(night):
    night.game()
    night.clock.shift(DAY)
    installation = night.installation
    with in_use(installation.settings.backups, installation.settings.home):
        nightly.begin_when_due(installation.settings, installation.database, 0.0)

    assert jobs.cursor(night.connection, jobs.INSTALLATION, nightly.JOB) is None


def test_a_relay_has_it_made_and_logs_it(tmp_path, caplog):
    installation, _ = furnished(tmp_path / "home")
    change(installation, "UPDATE games SET created_at = '2026-01-01T00:00:00.000000Z'")
    folder = installation.settings.backups
    installation.new_relay().drain()
    assert not folder.exists()

    installation.started_at -= nightly.AFTER_START_SECONDS
    installation.database.write_here(lambda tx: jobs.wake(tx, jobs.INSTALLATION, nightly.JOB))
    installation.new_relay().drain()

    until(lambda: "restored aside and checked" in caplog.text, "it is proved", 60)
    assert len(proved(folder)) == 1
    assert proofs.last(installation.database.read()).fault is None
    installation.database.write_here(lambda tx: jobs.wake(tx, jobs.INSTALLATION, nightly.JOB))
    installation.new_relay().drain()
    assert len(proved(folder)) == 1
    installation.database.close()
