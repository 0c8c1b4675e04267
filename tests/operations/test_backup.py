"""Copies of a database in use: whole, private, made while credits go on, and never half of one."""

from coinslot.access.vault import MasterKey
from coinslot.operations import backup, restore
from handlers.commands import operate
from tests import databases
from tests.killing import Process, flask
from tests.operations.places import Place, orders_in
from tests.servers import until


def test_copy_is_one_private_file_that_holds_what_was_acknowledged(place, tmp_path):
    place.order("first")
    file = tmp_path / "copy.db"

    result = place.backup(file)

    assert orders_in(file) == ["first"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["copy.db"]
    assert str(file) in result.output
    assert f"{file.stat().st_size:,} bytes" in result.output
    assert "master key is NOT in it" in result.output
    assert place.installation.vault.candidates()[0].id in result.output
    assert place.installation.vault.candidates()[0].text() not in result.output

    place.order("later")
    place.backup(file)
    assert orders_in(file) == ["first", "later"]


def test_copy_names_the_variable_where_the_key_comes_from_it(tmp_path):
    key = MasterKey.generate()
    place = Place(tmp_path / "home", COINSLOT_MASTER_KEY=key.text())
    place.set_up()

    result = place.backup(tmp_path / "copy.db")

    assert "COINSLOT_MASTER_KEY" in result.output
    assert key.text() not in result.output
    place.close()


def test_credits_go_on_during_a_copy(place, tmp_path, monkeypatch):
    place.order("before")
    credited: list[str] = []

    def credit_after_a_step(*_: int) -> None:
        place.order(f"during {len(credited)}")  # waits for the write lock: a copy that held it would stop here
        credited.append("")

    monkeypatch.setattr(backup, "PAGES_PER_STEP", 20)
    backup.backup(place.installation.database, tmp_path / "copy.db", after_step=credit_after_a_step)

    assert credited
    assert orders_in(tmp_path / "copy.db") == ["before"]


def test_copy_that_fails_leaves_the_earlier_one_and_nothing_else(place, tmp_path):
    """The disk is full, as the kernel tells it: no file may grow past half of what the copy needs."""
    folder = tmp_path / "copies"
    folder.mkdir()
    place.backup(folder / "copy.db")
    before = (folder / "copy.db").read_bytes()
    place.order("later")
    script = (
        "import resource, sys; from pathlib import Path; from app import create_app\n"
        "from coinslot.operations import backup\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "backup.backup(create_app().extensions['coinslot'].database, Path(sys.argv[1]))"
    )

    with Process(place.home, "-c", script, folder / "copy.db") as process:
        status, output = process.end()

    assert status == 1
    assert "BackupError" in output
    assert [path.name for path in folder.iterdir()] == ["copy.db"]
    assert (folder / "copy.db").read_bytes() == before


def test_copy_that_is_told_to_stop_leaves_nothing(place, tmp_path):
    place.add_large_items(60)
    folder = tmp_path / "copies"
    folder.mkdir()
    with flask(place.home, "backup", folder / "copy.db") as process:
        until(lambda: list(folder.iterdir()), "it writes")
        status, _ = process.terminate()

    assert status != 0
    assert list(folder.iterdir()) == []


def test_copy_of_nothing_is_refused_and_makes_nothing(tmp_path):
    databases.begin_bare(tmp_path / "other")
    other = Place(tmp_path / "other")

    result = other.run(operate.backup_command, tmp_path / "copy.db")
    other.close()

    assert result.exit_code == 1
    assert "there is no database" in result.output or "there are no tables" in result.output
    assert not other.home.exists()
    assert other.content() == []


def test_of_two_restores_in_one_moment_each_keeps_what_was_served(installation, studio, clock, tmp_path):
    copy = tmp_path / "copy.db"
    backup.backup(installation.database, copy)

    done = [restore.restore(installation.database, installation.vault, copy) for _ in range(2)]

    assert len({each.kept or each.kept_schema for each in done} - {None}) == 2
