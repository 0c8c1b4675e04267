"""Backups and restores of the database's own file: damaged ones, others' copies of it, its owner, and the key file."""

import os
import random
import shutil
from pathlib import Path

import pytest

from coinslot.ledger import chain
from coinslot.store import sqlite
from handlers.commands import operate
from tests import databases
from tests.operations.places import ITEM_NAMES, Place, orders_in, post, rows, spoil_last
from tests.servers import Server


def test_a_restored_file_is_as_the_server_makes_it_and_what_was_served_is_a_private_file(place, copy_of_first):
    assert copy_of_first.read_bytes()[18:20] == b"\x01\x01"  # not in WAL mode

    result = place.restore(copy_of_first)

    (kept,) = place.home.glob("coinslot.db.before-restore-*")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert str(kept) in result.output
    assert rows(place.path, "PRAGMA journal_mode") == [("wal",)]
    assert not list(place.home.glob(".restore-*"))


def test_copy_names_the_key_file(place, tmp_path):
    assert str(place.installation.vault.path) in place.backup(tmp_path / "copy.db").output


def test_fresh_machine_with_only_the_key_file(place, copy_of_first):
    first = place.order("first")
    other = Place(place.home.parent / "other")
    other.home.mkdir(mode=0o700)
    shutil.copy(place.home / "master.key", other.home)

    other.restore(copy_of_first)

    assert rows(other.path, "PRAGMA journal_mode") == [("wal",)]
    assert (other.path.stat().st_mode & 0o777, other.home.stat().st_mode & 0o777) == (0o600, 0o700)
    other.installation.prepare()
    assert other.order("first") == first
    other.close()


def test_copy_from_before_a_rotation_is_opened_with_the_key_file_that_this_kept(place, copy):
    old = place.installation.vault.candidates()[0]
    new = place.rotate_key()

    result = place.restore(copy)

    assert old.id in result.output
    assert new.id in result.output
    place.close()
    for aside in place.home.glob("master.key.old-*"):
        aside.unlink()
    assert Place(place.home).order("second")


@pytest.mark.parametrize("name", ["master.key", "coinslot.db", "write.lock"])
def test_copy_never_replaces_a_file_we_live_on(place, name):
    (place.home / "write.lock").write_text("something")
    before = (place.home / name).read_bytes()

    result = place.run(operate.backup_command, place.home / name)

    assert result.exit_code == 1
    assert (place.home / name).read_bytes() == before


def test_copy_of_a_damaged_database_is_not_kept(place, copy):
    before = copy.read_bytes()
    place.close()
    place.path.write_bytes(spoil_last(place.path.read_bytes()))

    result = place.run(operate.backup_command, copy)

    assert result.exit_code == 1
    assert f"{place.path} is damaged" in result.output
    assert copy.read_bytes() == before
    assert sorted(path.name for path in copy.parent.iterdir()) == ["copy.db", "home"]


def test_restore_can_be_undone(place, copy):
    place.order("credited since")
    place.restore(copy)
    (kept,) = place.home.glob("coinslot.db.before-restore-*")

    place.restore(kept)

    assert orders_in(place.path) == ["credited since"]


def test_without_any_key_a_restore_is_refused_and_makes_nothing(place, other, tmp_path):
    place.backup(tmp_path / "copy.db")

    said = other.is_refused(tmp_path / "copy.db")

    assert "there is no master key" in said
    assert not other.home.exists()


def test_copy_with_other_pages_goes_into_a_running_database(place, copy_of_first):
    with databases.connected(copy_of_first) as connection:
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("VACUUM")

    place.restore(copy_of_first)

    assert orders_in(place.path) == ["first"]
    assert rows(place.path, "PRAGMA page_size") == [(4096,)]
    assert list(chain.verify(sqlite.connect(place.path))) == []


def test_copy_made_by_hand_with_its_wal_can_be_restored(place, tmp_path):
    place.order("in the WAL")
    for suffix in ("", "-wal"):
        shutil.copy(f"{place.path}{suffix}", tmp_path / f"copy.db{suffix}")
    place.order("lost")

    said = place.is_refused(tmp_path / "copy.db")
    assert "the two may not belong to the same moment" in said
    place.restore(tmp_path / "copy.db", "--yes")

    assert orders_in(place.path) == ["in the WAL"]


def test_copy_of_the_file_itself_is_restored_only_by_somebody_who_knows_what_may_be_missing(place, tmp_path):
    place.order("in the file")
    rows(place.path, "PRAGMA wal_checkpoint(TRUNCATE)")
    place.order("in the WAL")
    shutil.copy(place.path, tmp_path / "copy.db")
    times = [row[0] for row in rows(place.path, "SELECT received_at FROM transactions ORDER BY id")]

    said = place.is_refused(tmp_path / "copy.db")

    assert "not a backup but a copy of the database's own file" in said
    assert "There is no -wal file beside it" in said
    assert "orders may be missing" in said
    assert f"the newest transaction in it is of {times[0]}" in said
    assert f"that of the database which is served now of {times[1]}" in said
    assert "--yes" in said
    place.restore(tmp_path / "copy.db", "--yes")
    assert orders_in(place.path) == ["in the file"]
    # What was served before is kept as a backup, and is one: no question.
    (kept,) = place.home.glob("coinslot.db.before-restore-*")
    place.restore(kept)
    assert orders_in(place.path) == ["in the file", "in the WAL"]


def test_copy_made_by_hand_without_its_wal_does_not_take_the_games_away(tmp_path):
    place = Place(tmp_path / "home")
    place.installation.prepare()
    rows(place.path, "PRAGMA wal_checkpoint(TRUNCATE)")
    place.set_up()
    place.order("in the WAL")
    shutil.copy(place.path, tmp_path / "copy.db")
    assert rows(tmp_path / "copy.db", "SELECT * FROM games") == []

    said = place.is_refused(tmp_path / "copy.db")

    assert "copy.db holds no game, but the current database does" in said
    assert "-wal" in said
    place.order("still served")
    place.close()


def test_reader_in_the_middle_of_its_snapshot_keeps_it(place, copy):
    place.order("seen")

    with place.installation.database.snapshot() as reader:
        assert len(reader.execute("SELECT * FROM transactions").fetchall()) == 1
        place.restore(copy)
        assert len(reader.execute("SELECT * FROM transactions").fetchall()) == 1

    assert place.installation.database.read().execute("SELECT * FROM transactions").fetchall() == []


def test_damaged_database_is_moved_aside(place, copy_of_first):
    place.close()
    place.path.write_bytes(b"spoilt" * 1000)

    result = place.restore(copy_of_first)

    (aside,) = place.home.glob("coinslot.db.damaged-*")
    assert aside.read_bytes() == b"spoilt" * 1000
    assert str(aside) in result.output
    assert orders_in(place.path) == ["first"]
    assert rows(place.path, "PRAGMA journal_mode") == [("wal",)]
    assert place.path.stat().st_mode & 0o777 == 0o600
    place.order("second")


def test_old_wal_is_not_taken_for_the_restored_files(place, copy):
    place.order("only in the WAL")
    wal = Path(f"{place.path}-wal").read_bytes()
    assert wal
    place.close()
    place.path.unlink()
    Path(f"{place.path}-wal").write_bytes(wal)

    place.restore(copy)

    assert orders_in(place.path) == []
    assert rows(place.path, "PRAGMA integrity_check") == [("ok",)]
    (aside,) = place.home.glob("coinslot.db.damaged-*-wal")
    assert aside.read_bytes() == wal


def test_newer_database_is_moved_aside(place, copy_of_first):
    rows(place.path, "PRAGMA user_version = 999")
    rows(place.path, "UPDATE sequences SET last_id = 1000000000000000")
    place.close()

    place.restore(copy_of_first)

    (aside,) = place.home.glob("coinslot.db.damaged-*")
    assert rows(aside, "PRAGMA user_version") == [(999,)]
    assert orders_in(place.path) == ["first"]
    assert rows(place.path, "SELECT last_id FROM sequences WHERE name = 'grants'") == [(1000001000000000,)]


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("state", ["healthy", "damaged", "missing"])
def test_what_root_restores_belongs_to_the_folders_owner(place, tmp_path, state):
    place.backup(tmp_path / "copy.db")
    place.close()
    for path in (place.home, *place.home.iterdir()):
        os.chown(path, 4321, 4321)
    (place.home / "write.lock").unlink()
    if state == "damaged":
        place.path.write_bytes(b"spoilt")
    if state == "missing":
        place.path.unlink()

    Place(place.home).restore(tmp_path / "copy.db")

    assert {path.name: path.stat().st_uid for path in place.home.iterdir()} == dict.fromkeys(
        (path.name for path in place.home.iterdir()), 4321
    )


@pytest.mark.parametrize("trouble", ["damaged", "deleted", "moved away"])
def test_file_that_cannot_be_served_is_not_replaced_under_a_running_server(place, copy_of_first, trouble):
    place.close()

    with Server(place.home) as server:
        assert post(server, "second")[0] == 200
        if trouble == "damaged":
            with place.path.open("r+b") as file:
                file.write(b"spoilt")
        elif trouble == "deleted":
            place.path.unlink()
        else:
            place.path.rename(place.home.parent / "elsewhere")
        assert "stop the server" in place.run(operate.restore_command, copy_of_first).output
        server.stop()

    place.restore(copy_of_first)
    assert orders_in(place.path) == ["first"]


@pytest.mark.long
def test_restore_that_is_killed_leaves_the_damaged_database_or_the_new_one(place, tmp_path):
    place.add_large_items(60, "new")
    place.backup(tmp_path / "copy.db")
    place.close()
    with place.path.open("r+b") as file:
        file.write(b"spoilt")
    damaged = tmp_path / "damaged"
    shutil.copytree(place.home, damaged)
    chance = random.Random(7)
    full = None
    for _ in range(6):
        shutil.rmtree(place.home)
        shutil.copytree(damaged, place.home)
        took = place.restore_or_be_killed(tmp_path / "copy.db", full, chance)
        full = full or took

        if place.path.read_bytes()[:6] != b"spoilt":
            assert rows(place.path, "PRAGMA integrity_check") == [("ok",)]
            assert rows(place.path, ITEM_NAMES) == [("new", 60)]

    place.restore_or_be_killed(tmp_path / "copy.db", None, chance)
    assert rows(place.path, ITEM_NAMES) == [("new", 60)]
    assert not list(place.home.glob(".restore-*"))
