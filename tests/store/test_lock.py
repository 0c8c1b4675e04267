"""The number in the lock's file: another one after each commit that may have changed a game's configuration."""

import multiprocessing
import os
import signal

import pytest

from coinslot.games import games
from coinslot.store.db import open_database
from coinslot.store.lock import WriteLock


@pytest.fixture
def path(tmp_path):
    with WriteLock(tmp_path / "write.lock"):
        return tmp_path / "write.lock"


def change(path):
    lock = WriteLock(path)
    with lock, lock.changing():
        pass


def die_changing(path):
    lock = WriteLock(path)
    with lock, lock.changing():
        os.kill(os.getpid(), signal.SIGKILL)


def in_another_process(function, *arguments):
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join()


class TestChanges:
    def test_every_process_sees_another_number_after_a_change(self, path):
        lock = WriteLock(path)
        seen = [lock.changes()]
        change(path)
        seen.append(lock.changes())
        in_another_process(change, path)
        seen.append(lock.changes())
        assert None not in seen
        assert len(set(seen)) == 3

    def test_holding_the_lock_is_no_change(self, path):
        lock = WriteLock(path)
        before = lock.changes()
        with WriteLock(path):
            assert lock.changes() == before
        assert lock.changes() == before

    def test_it_is_unknown_while_a_change_is_under_way(self, path):
        lock, other = WriteLock(path), WriteLock(path)
        with lock, lock.changing():
            assert lock.changes() is None
            assert other.changes() is None
        assert lock.changes() == other.changes() is not None

    def test_a_change_that_fails_counts(self, path):
        lock = WriteLock(path)
        before = lock.changes()
        with pytest.raises(KeyError), lock, lock.changing():
            raise KeyError
        assert lock.changes() not in (None, before)

    def test_it_is_unknown_after_a_process_died_changing_until_the_lock_is_taken_again(self, path):
        lock = WriteLock(path)
        before = lock.changes()
        in_another_process(die_changing, path)
        assert lock.changes() is None
        with WriteLock(path):
            pass
        assert lock.changes() not in (None, before)

    def test_it_is_unknown_before_the_file_is_there(self, tmp_path):
        assert WriteLock(tmp_path / "nowhere" / "write.lock").changes() is None


class TestGames:
    def test_a_game_is_not_read_again_until_something_may_have_changed_it(self, installation, studio):
        asked = []
        installation.games.by_slug("demo")
        installation.database.read().set_trace_callback(asked.append)
        kept = installation.games.by_slug("demo")
        assert asked == []

        installation.database.write(lambda tx: None, keeps_games=True)
        assert installation.games.by_slug("demo") is kept
        assert asked == []

        installation.database.write(lambda tx: None)
        assert installation.games.by_slug("demo") is kept
        assert len(asked) == 1

    def test_a_change_by_another_process_holds_from_the_next_request_on(self, installation, studio):
        assert installation.games.by_slug("demo").settings["players.unknown"] == "reject"
        in_another_process(set_unknown_players, installation, "create")
        assert installation.games.by_slug("demo").settings["players.unknown"] == "create"

    def test_a_game_is_read_at_each_request_where_the_number_cannot_be_kept(self, installation, studio):
        installation.database.close()
        (installation.database.home / "write.lock").unlink()
        (installation.database.home / "write.lock").mkdir()
        database = open_database(installation.database.home)
        kept = games.Games(database, installation.vault, installation.catalogue)
        assert kept.by_slug("demo") is kept.by_slug("demo")
        (installation.database.home / "write.lock").rmdir()


def set_unknown_players(installation, value):
    installation.database.write_here(
        lambda tx: games.set_setting(tx, installation.catalogue, "demo", "players.unknown", value, "test")
    )
