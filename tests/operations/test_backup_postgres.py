"""Backups of a PostgreSQL database are Coinslot's SQLite files, and a restore exchanges its tables in one commit."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coinslot.access.vault import MasterKey
from coinslot.games import games
from coinslot.ledger import chain
from coinslot.operations import proofs
from handlers.commands import operate
from tests import databases, postgres
from tests.operations.places import Place, orders_in, post
from tests.operations.test_moving import KEY, rows_of
from tests.servers import ROOT, Server

pytestmark = pytest.mark.long


@pytest.fixture
def place(tmp_path: Path, url: str) -> Iterator[Place]:
    place = Place(tmp_path / "home", COINSLOT_MASTER_KEY=KEY, COINSLOT_DATABASE=url)
    place.set_up()
    yield place
    place.close()


def orders(place: Place) -> list[str]:
    return [row[0] for row in rows_of(place, "SELECT external_id FROM transactions ORDER BY id")]


def schemas(place: Place) -> list[str]:
    found = rows_of(place, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'coinslot%' ORDER BY nspname")
    return [name for (name,) in found]


def test_a_backup_is_a_file_that_either_engine_restores(place, tmp_path):
    first = place.order("first")
    place.refuse_a_call()

    said = place.backup(tmp_path / "copy.db").output

    assert "COINSLOT_MASTER_KEY" in said
    assert orders_in(tmp_path / "copy.db") == ["first"]
    assert (tmp_path / "copy.db").read_bytes()[18:20] == b"\x01\x01"
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    databases.assert_intact(tmp_path / "copy.db")
    sqlite = Place(tmp_path / "other", COINSLOT_MASTER_KEY=KEY)
    sqlite.restore(tmp_path / "copy.db")
    assert sqlite.order("first") == first
    assert list(chain.verify(sqlite.installation.database.read())) == []
    sqlite.close()
    with postgres.fresh_database() as empty:
        fresh = Place(tmp_path / "third", COINSLOT_MASTER_KEY=KEY, COINSLOT_DATABASE=empty)
        assert "kept in the schema" not in fresh.restore(tmp_path / "copy.db").output
        assert fresh.order("first") == first
        fresh.close()


def test_a_restore_is_seen_at_once_keeps_what_was_served_and_uses_no_id_again(place, tmp_path):
    first = place.order("first")
    place.backup(tmp_path / "copy.db")
    lost = place.order("lost")
    ((last_id,),) = rows_of(place, "SELECT max(id) FROM grants")

    said = place.restore(tmp_path / "copy.db").output

    assert orders(place) == ["first"]
    assert (place.order("first"), place.order("lost")) == (first, lost)
    ids = [row[0] for row in rows_of(place, "SELECT id FROM grants ORDER BY id")]
    assert ids[0] == 1
    assert ids[1] > last_id + 1_000_000_000
    assert list(chain.verify(place.installation.database.read())) == []
    served, kept = schemas(place)
    assert served == "coinslot"
    assert f"DROP SCHEMA {kept} CASCADE" in said
    assert rows_of(place, f"SELECT external_id FROM {kept}.transactions ORDER BY id") == [("first",), ("lost",)]
    place.installation.database.write(lambda tx: games.add(tx, "other", "Other", "test"))  # its id counts by itself
    place.restore(tmp_path / "copy.db")
    assert len(schemas(place)) == 3
    assert place.order("again")


def test_a_time_never_goes_back_and_a_long_reader_never_sees_a_mixture(place, tmp_path):
    place.order("first")
    place.backup(tmp_path / "copy.db")
    place.order("second")
    database = place.installation.database
    ((before,),) = rows_of(place, "SELECT last_value FROM last_moment")
    seen: list[object] = []
    try:
        with database.snapshot() as connection:
            seen.append(connection.execute("SELECT count(*) FROM transactions").fetchone()[0])
            place.restore(tmp_path / "copy.db")
            seen.append(connection.execute("SELECT count(*) FROM transactions").fetchone()[0])
    except Exception as error:
        seen.append(type(error).__name__)

    assert seen[0] == 2
    assert seen[1] in ("PostgresError", "BusyError", "DatabaseError")  # it was cut off
    assert orders(place) == ["first"]
    place.order("third")
    ((after,),) = rows_of(place, "SELECT last_value FROM last_moment")
    assert after > before


def test_what_cannot_be_restored_changes_nothing(place, tmp_path):
    place.backup(tmp_path / "copy.db")
    place.order("stays")
    other = Place(tmp_path / "other", COINSLOT_MASTER_KEY=MasterKey.generate().text())
    other.set_up()
    other.backup(tmp_path / "theirs.db")
    other.close()
    (tmp_path / "damaged.db").write_bytes((tmp_path / "copy.db").read_bytes()[:9000])

    for name, words in (("theirs.db", "master key"), ("damaged.db", "malformed"), ("none.db", "there is no file")):
        result = place.run(operate.restore_command, tmp_path / name)
        assert result.exit_code == 1
        assert words in result.output

    assert orders(place) == ["stays"]
    assert schemas(place) == ["coinslot"]
    assert not list(place.home.glob(".restore-*"))


def test_a_stream_carries_it_from_one_engine_to_the_other(place, url, tmp_path):
    place.order("first")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COINSLOT_")}
    flask = [sys.executable, "-m", "flask"]
    there = kept | {"COINSLOT_HOME": str(place.home), **place.environment}
    here = kept | {"COINSLOT_HOME": str(tmp_path / "here"), "COINSLOT_MASTER_KEY": KEY}

    sent = subprocess.run([*flask, "backup", "-"], cwd=ROOT, env=there, stdout=subprocess.PIPE, check=True)
    subprocess.run([*flask, "restore", "-"], cwd=ROOT, env=here, input=sent.stdout, check=True)
    assert orders_in(tmp_path / "here" / "coinslot.db") == ["first"]
    back = subprocess.run([*flask, "backup", "-"], cwd=ROOT, env=here, stdout=subprocess.PIPE, check=True)
    subprocess.run([*flask, "restore", "-"], cwd=ROOT, env=there, input=back.stdout, check=True)

    assert orders(place) == ["first"]
    assert len(schemas(place)) == 2


def test_a_proof_backs_up_restores_aside_and_checks(place):
    place.order("first")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COINSLOT_")}
    environment = kept | {"COINSLOT_HOME": str(place.home), **place.environment}
    command = [sys.executable, "-m", "flask", "proof"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Proved in" in done.stdout
    last = proofs.last(place.installation.database.read())
    assert last is not None
    assert (last.fault, last.kept) == (None, 1)
    assert orders_in(place.home / "backups" / str(last.file)) == ["first"]


def test_a_running_server_goes_on_with_the_copy(place, tmp_path):
    place.order("first")
    place.backup(tmp_path / "copy.db")
    with Server(place.home, **place.environment) as server:
        lost = post(server, "lost")
        assert lost[0] == 200
        place.restore(tmp_path / "copy.db")
        assert post(server, "lost") == lost
        assert post(server, "first")[0] == 200
    assert orders(place) == ["first", "lost"]
