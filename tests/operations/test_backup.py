"""Copies of a database in use, and restores: of old copies, damaged ones, under other keys, under load, cut short."""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from app import create_app
from coinslot.access import keyring
from coinslot.access.vault import MasterKey
from coinslot.games import games
from coinslot.installation import Installation
from coinslot.ledger import chain
from coinslot.operations import backup
from coinslot.operations.observations import Refusal
from coinslot.operations.restore import _only_restore
from coinslot.outbox import attempts, destinations
from coinslot.store import db, migrations, sqlite
from coinslot.store.db import Connection
from handlers.appcharge.signature import sign
from handlers.commands import operate
from tests import databases
from tests.killing import Process, flask
from tests.servers import Server, until

KEY, TOKEN = "backup-main-key", "backup-publisher-token"
ITEM_NAMES = "SELECT substr(sku, 1, 3), count(*) FROM items"
LARGE_ITEM = """INSERT INTO items (game_id, sku, name, created_at, updated_at)
                VALUES (1, :sku, hex(randomblob(250000)), '', '')"""


class Place:
    """One installation in a folder, with its game ``demo``, as one process of it sees it."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.environment = environment
        self.app: Flask = create_app({**databases.environment(home), **environment})
        self.installation: Installation = self.app.extensions["coinslot"]
        self.path = self.installation.database.path

    def set_up(self) -> str:
        """Prepare it and add the game; returns the game's API token."""
        installation = self.installation
        installation.prepare()
        token = installation.database.write_here(lambda tx: games.add(tx, "demo", "Demo", "test"))

        def configure(tx: Connection) -> None:
            games.set_setting(tx, installation.catalogue, "demo", "players.unknown", "create", "test")
            games.set_setting(tx, installation.catalogue, "demo", "items.unknown", "accept", "test")
            keyring.put(tx, installation.vault, games.find(tx, "demo"), "appcharge.main_key", KEY, "test")
            keyring.put(tx, installation.vault, games.find(tx, "demo"), "appcharge.publisher_token", TOKEN, "test")

        installation.database.write_here(configure)
        return token

    def order(self, order_id: str) -> str:
        """Report an order; returns our id for it."""
        body, headers = signed_order(order_id)
        answer = self.app.test_client().post("/appcharge/demo/orders", data=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return str(answer.json["publisherPurchaseId"])

    def refuse_a_call(self) -> None:
        observations = self.installation.observations
        observations.refused(Refusal(None, "", "appcharge", "orders", "token", 401, "::1", 1, {"token": "hidden"}))
        observations.flush()

    def rotate_key(self) -> MasterKey:
        new = MasterKey.generate()
        self.installation.vault.rotate(self.installation.database, keyring.reseal, new)
        return new

    def run(self, command: Any, *args: object) -> Result:
        return self.app.test_cli_runner().invoke(command, [str(arg) for arg in args])

    def backup(self, file: Path) -> Result:
        result = self.run(operate.backup_command, file)
        assert result.exit_code == 0, result.output
        return result

    def restore(self, file: Path, *options: str) -> Result:
        result = self.run(operate.restore_command, file, *options)
        assert result.exit_code == 0, result.output
        return result

    def is_refused(self, file: Path) -> str:
        """Restoring ``file`` is refused in words and changes nothing; returns the words."""
        self.installation.observations.flush()  # or the thread that does would write something meanwhile
        before = content(self.path) if self.path.exists() else None
        result = self.run(operate.restore_command, file)
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert isinstance(result.exception, SystemExit)
        assert (content(self.path) if self.path.exists() else None) == before
        assert not list(self.home.glob(".restore-*"))
        assert not list(self.home.glob("coinslot.db.*"))
        return result.output

    def close(self) -> None:
        self.installation.observations.flush()
        self.installation.database.close()


def signed_order(order_id: str) -> tuple[bytes, dict[str, str]]:
    order = {
        "orderId": order_id,
        "playerId": f"player of {order_id}",
        "products": [{"sku": "coins", "amount": 5}],
        "priceInCents": 100,
        "currency": "USD",
    }
    body = json.dumps(order).encode()
    signature = sign(body, KEY.encode(), str(int(time.time() * 1000)))
    return body, {"Content-Type": "application/json", "x-publisher-token": TOKEN, "signature": signature}


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query, or what a statement changes in a file by hand, on a connection of its own."""
    return databases.tuples(path, sql)


def orders_in(path: Path) -> list[str]:
    return [row[0] for row in rows(path, "SELECT external_id FROM transactions ORDER BY id")]


def content(path: Path) -> list[str]:
    return databases.content(path)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "home")
    place.set_up()
    yield place
    place.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Place]:
    """A fresh machine: nothing in its home folder, not even the folder."""
    place = Place(tmp_path / "other")
    yield place
    place.close()


@pytest.fixture
def copy(place: Place, tmp_path: Path) -> Path:
    """A copy of the place as it is set up."""
    place.backup(tmp_path / "copy.db")
    return tmp_path / "copy.db"


@pytest.fixture
def copy_of_first(place: Place, tmp_path: Path) -> Path:
    """A copy of the place with one order, ``first``."""
    place.order("first")
    place.backup(tmp_path / "copy.db")
    return tmp_path / "copy.db"


def post(server: Server, order_id: str) -> tuple[int, str]:
    answer = server.post("/appcharge/demo/orders", *signed_order(order_id))
    return answer.status, answer.json.get("publisherPurchaseId", "")


# Copies ---------------------------------------------------------------------------------------------------------


def test_copy_is_one_private_file_that_holds_what_was_acknowledged(place, tmp_path):
    place.order("first")
    file = tmp_path / "copy.db"

    result = place.backup(file)

    assert orders_in(file) == ["first"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes()[18:20] == b"\x01\x01"  # not in WAL mode
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["copy.db"]
    assert str(file) in result.output
    assert f"{file.stat().st_size:,} bytes" in result.output
    assert "master key is NOT in it" in result.output
    assert str(place.installation.vault.path) in result.output
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

    def credit_between_steps(source: Connection, target: Connection, _: Any) -> None:
        def after_each_step(*_: int) -> None:
            place.order(f"during {len(credited)}")  # waits for the write lock: a copy that held it would stop here
            credited.append("")

        source.backup(target, pages=20, progress=after_each_step)

    monkeypatch.setattr(backup, "copy_pages", credit_between_steps)
    place.backup(tmp_path / "copy.db")

    assert credited
    assert orders_in(tmp_path / "copy.db") == ["before"]


@pytest.mark.parametrize("name", ["master.key", "coinslot.db", "write.lock"])
def test_copy_never_replaces_a_file_we_live_on(place, name):
    (place.home / "write.lock").write_text("something")
    before = (place.home / name).read_bytes()

    result = place.run(operate.backup_command, place.home / name)

    assert result.exit_code == 1
    assert (place.home / name).read_bytes() == before


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


def test_copy_of_a_damaged_database_is_not_kept(place, copy):
    before = copy.read_bytes()
    place.close()
    place.path.write_bytes(spoil_last(place.path.read_bytes()))

    result = place.run(operate.backup_command, copy)

    assert result.exit_code == 1
    assert f"{place.path} is damaged" in result.output
    assert copy.read_bytes() == before
    assert sorted(path.name for path in copy.parent.iterdir()) == ["copy.db", "home"]


def test_copy_that_is_told_to_stop_leaves_nothing(place, tmp_path):
    def fill(tx: Connection) -> None:
        for number in range(60):
            tx.execute(LARGE_ITEM, {"sku": f"large {number}"})

    place.installation.database.write_here(fill)
    folder = tmp_path / "copies"
    folder.mkdir()
    with flask(place.home, "backup", folder / "copy.db") as process:
        until(lambda: list(folder.iterdir()), "it writes")
        status, _ = process.terminate()

    assert status != 0
    assert list(folder.iterdir()) == []


def test_copy_of_nothing_is_refused_and_makes_nothing(other, tmp_path):
    result = other.run(operate.backup_command, tmp_path / "copy.db")

    assert result.exit_code == 1
    assert "there is no database" in result.output
    assert not other.home.exists()


# Restores -------------------------------------------------------------------------------------------------------


def test_restore_serves_the_copy_and_keeps_what_was_served(place, copy_of_first):
    first = place.order("first")
    lost = place.order("lost")

    result = place.restore(copy_of_first)

    assert orders_in(place.path) == ["first"]
    (kept,) = place.home.glob("coinslot.db.before-restore-*")
    assert orders_in(kept) == ["first", "lost"]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert str(kept) in result.output
    assert rows(place.path, "PRAGMA journal_mode") == [("wal",)]
    assert rows(place.path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(place.path, "SELECT actor, action, subject FROM audit ORDER BY id DESC LIMIT 1") == [
        ("command", "restore", "copy.db")
    ]
    assert not list(place.home.glob(".restore-*"))
    assert place.order("first") == first
    assert place.order("lost") == lost


def test_restore_can_be_undone(place, copy):
    place.order("credited since")
    place.restore(copy)
    (kept,) = place.home.glob("coinslot.db.before-restore-*")

    place.restore(kept)

    assert orders_in(place.path) == ["credited since"]


def test_ids_of_feeds_deliveries_and_attempts_start_far_above_every_one_ever_handed_out(place, tmp_path):
    installation = place.installation
    installation.database.write_here(
        lambda tx: destinations.add(tx, installation.vault, "demo", "game", "http://127.0.0.1:9/hook", actor="test")
    )
    place.order("first")
    place.backup(tmp_path / "copy.db")

    def claim() -> attempts.Claim:
        place.order("lost")
        return installation.database.write_here(lambda tx: attempts.claim_due(tx, "relay", {1: 9}))[-1]

    claims = [claim()]
    for _ in range(2):
        place.restore(tmp_path / "copy.db")
        claims.append(claim())
        assert rows(place.path, "SELECT count(*) FROM deliveries") == [(2,)]

    for name in ("grant_id", "id", "attempt_id"):
        ids = [getattr(each, name) for each in claims]
        assert ids[0] + 1_000_000_000 < ids[1], name
        assert ids[1] + 1_000_000_000 < ids[2] < 2**53 / 100, name
    stale = claims[0]
    assert installation.database.write_here(lambda tx: attempts.record(tx, stale, attempts.Result(None, 200))) == "gone"


def test_feed_ids_are_new_even_when_every_later_database_was_lost(place, tmp_path, monkeypatch):
    """The same old copy on two new machines, one after the other: the second knows nothing of the first."""
    place.backup(tmp_path / "copy.db")
    place.restore(tmp_path / "copy.db")
    place.order("on the first machine")
    ((handed_out,),) = rows(place.path, "SELECT max(id) FROM grants")
    place.close()
    for file in place.home.glob("coinslot.db*"):
        file.unlink()
    tomorrow = time.time() + 86400
    monkeypatch.setattr("coinslot.base.clock.now", lambda: tomorrow)

    second = Place(place.home)
    second.restore(tmp_path / "copy.db")

    ((floor,),) = rows(second.path, "SELECT last_id FROM sequences WHERE name = 'grants'")
    assert floor > handed_out
    second.close()


@pytest.mark.parametrize("key", ["file", "variable"])
def test_fresh_machine_with_only_the_key(place, copy_of_first, key):
    first = place.order("first")
    text = (place.home / "master.key").read_text()
    other = Place(place.home.parent / "other", **({"COINSLOT_MASTER_KEY": text} if key == "variable" else {}))
    if key == "file":
        other.home.mkdir(mode=0o700)
        shutil.copy(place.home / "master.key", other.home)

    other.restore(copy_of_first)

    assert rows(other.path, "PRAGMA journal_mode") == [("wal",)]
    assert (other.path.stat().st_mode & 0o777, other.home.stat().st_mode & 0o777) == (0o600, 0o700)
    assert (other.home / "master.key").exists() == (key == "file")
    other.installation.prepare()
    assert other.order("first") == first
    other.close()


def test_without_any_key_a_restore_is_refused_and_makes_nothing(place, other, tmp_path):
    place.backup(tmp_path / "copy.db")

    said = other.is_refused(tmp_path / "copy.db")

    assert "there is no master key" in said
    assert not other.home.exists()


def test_under_another_key_a_restore_is_refused_by_the_keys_name(place, other, tmp_path):
    place.backup(tmp_path / "copy.db")
    other.set_up()
    other.order("stays")

    said = other.is_refused(tmp_path / "copy.db")

    assert place.installation.vault.candidates()[0].id in said
    shutil.copy(place.home / "master.key", other.home / "master.key.old-restore")  # as the message says
    other.restore(tmp_path / "copy.db")
    other.order("first")


def test_copy_from_before_a_key_rotation_is_sealed_again(place, tmp_path):
    place.refuse_a_call()
    place.backup(tmp_path / "copy.db")
    old = place.installation.vault.candidates()[0]
    new = place.rotate_key()

    result = place.restore(tmp_path / "copy.db")

    assert old.id in result.output
    assert new.id in result.output
    assert rows(place.path, "SELECT value FROM installation WHERE name = 'vault.key_id'") == [(new.id,)]
    assert rows(place.path, "SELECT DISTINCT key_id FROM secrets UNION SELECT key_id FROM refusals") == [(new.id,)]
    place.order("first")
    place.close()
    for aside in place.home.glob("master.key.old-*"):
        aside.unlink()
    assert Place(place.home).order("second")


def spoil_last(raw: bytes) -> bytes:
    """The last page, which is some table's. In the middle may stand the schema, without which no file even opens."""
    return raw[:-4096] + os.urandom(4096)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_last, "is damaged"),
        (lambda raw: raw[: len(raw) // 2], "malformed"),
        (lambda raw: raw[:5000], "malformed"),
        (lambda raw: b"no database at all " * 1000, "not a database"),
        (lambda raw: b"", "not a Coinslot database"),
        (lambda raw: raw[:68] + b"\0\0\0\1" + raw[72:], "not a Coinslot database"),
        (lambda raw: raw[:60] + (999).to_bytes(4, "big") + raw[64:], "newer"),
    ],
)
def test_file_that_is_no_sound_copy_is_refused(place, tmp_path, spoil, words):
    for number in range(20):
        place.order(f"order {number}")
    place.backup(tmp_path / "copy.db")
    (tmp_path / "copy.db").write_bytes(spoil((tmp_path / "copy.db").read_bytes()))

    assert words in place.is_refused(tmp_path / "copy.db")
    place.order("still served")


def test_every_flipped_byte_is_noticed_or_harmless(place, tmp_path):
    """A restored copy with one byte changed either is refused, or leads to a sound database."""
    for number in range(20):
        place.order(f"order {number}")
    place.backup(tmp_path / "copy.db")
    raw = (tmp_path / "copy.db").read_bytes()
    chance = random.Random(1)

    used = [position for position, byte in enumerate(raw) if byte]  # most of a small database's pages is empty
    outcomes: Counter[str] = Counter()
    for _ in range(20):
        position = chance.choice(used)
        (tmp_path / "copy.db").write_bytes(raw[:position] + bytes([raw[position] ^ 0xFF]) + raw[position + 1 :])
        result = place.run(operate.restore_command, tmp_path / "copy.db")
        outcomes["restored" if result.exit_code == 0 else "refused"] += 1
        assert isinstance(result.exception, SystemExit | None), result.exception
        assert rows(place.path, "PRAGMA integrity_check") == [("ok",)]

    assert outcomes["refused"]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("UPDATE refusals SET ciphertext = x'00'", "sealed value of refusal"),
        ("UPDATE secrets SET ciphertext = x'00' WHERE name = 'appcharge.main_key'", "appcharge.main_key"),
        ("INSERT INTO items (game_id, sku, created_at, updated_at) VALUES (77, 'coins', '', '')", "is damaged"),
        (f"PRAGMA user_version = {db.OLDEST_VERSION - 1}", "older than the first release"),
    ],
)
def test_copy_that_was_changed_is_refused(place, tmp_path, sql, words):
    place.refuse_a_call()
    place.backup(tmp_path / "copy.db")
    rows(tmp_path / "copy.db", sql)

    said = place.is_refused(tmp_path / "copy.db")

    assert words in said
    assert KEY not in said


def test_older_copy_is_brought_up_to_date(place, copy_of_first, monkeypatch):
    rows(copy_of_first, f"PRAGMA user_version = {db.SCHEMA_VERSION - 1}")
    monkeypatch.setattr(db, "OLDEST_VERSION", db.SCHEMA_VERSION - 1)
    monkeypatch.setitem(
        migrations.MIGRATIONS, db.SCHEMA_VERSION, lambda tx: tx.execute("CREATE TABLE came_later (x TEXT)")
    )

    result = place.restore(copy_of_first)

    assert f"schema version {db.SCHEMA_VERSION - 1}" in result.output
    assert rows(place.path, "PRAGMA user_version") == [(db.SCHEMA_VERSION,)]
    assert rows(place.path, "SELECT count(*) FROM came_later") == [(0,)]
    assert rows(copy_of_first, "PRAGMA user_version") == [(db.SCHEMA_VERSION - 1,)]  # the copy is let be


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


def test_copy_goes_through_a_pipe_both_ways(place, tmp_path):
    place.order("first")
    copy = subprocess.run(
        [sys.executable, "-m", "flask", "backup", "-"],
        env=os.environ | databases.environment(place.home),
        capture_output=True,
        check=True,
    )
    place.order("second")

    assert b"The master key is NOT in it" in copy.stderr
    result = place.app.test_cli_runner().invoke(operate.restore_command, ["-"], input=copy.stdout)
    assert result.exit_code == 0, result.output
    assert orders_in(place.path) == ["first"]
    result = place.app.test_cli_runner().invoke(operate.restore_command, ["-"], input=copy.stdout[:8192])
    assert result.exit_code == 1
    assert orders_in(place.path) == ["first"]
    assert not list(place.home.glob(".*"))


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


def test_copy_without_a_game_may_replace_a_database_without_one(other, tmp_path):
    other.installation.prepare()
    other.backup(tmp_path / "copy.db")

    other.restore(tmp_path / "copy.db")

    assert rows(other.path, "SELECT * FROM games") == []


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


def test_second_restore_at_the_same_time_is_refused(place, copy):

    with _only_restore(place.home):
        assert "another restore" in place.is_refused(copy)


# With a real server ---------------------------------------------------------------------------------------------


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
def test_restore_under_load_loses_nothing_that_is_reported_again(tmp_path):
    """Orders keep coming while an older copy is restored; then every one is reported again, as partners do."""
    place = Place(tmp_path / "home")
    token = place.set_up()
    acknowledged: dict[str, str] = {}
    statuses: Counter[int] = Counter()
    stop = threading.Event()
    trouble: list[BaseException] = []

    def report_orders(server: Server, name: int) -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                status, our_id = post(server, f"order {name}-{number}")
                statuses[status] += 1
                if status == 200:
                    acknowledged[f"order {name}-{number}"] = our_id
        except BaseException as error:
            trouble.append(error)

    def read_on(server: Server, cursor: int) -> tuple[list[dict[str, Any]], int]:
        grants: list[dict[str, Any]] = []
        while True:
            answer = server.get(
                f"/game/v1/grants?after={cursor}&limit=1000", headers={"Authorization": f"Bearer {token}"}
            )
            assert answer.status == 200, answer.body
            grants += answer.json["grants"]
            cursor = answer.json["next_after"]
            if not answer.json["has_more"]:
                return grants, cursor

    def wait_for(count: int) -> None:
        until(lambda: len(acknowledged) >= count or trouble, "so many orders are acknowledged", 60)

    with Server(place.home) as server:
        threads = [threading.Thread(target=report_orders, args=(server, name)) for name in range(6)]
        for thread in threads:
            thread.start()
        try:
            wait_for(200)
            before_copy = dict(acknowledged)
            place.backup(tmp_path / "copy.db")
            wait_for(len(acknowledged) + 200)
            applied, cursor = read_on(server, 0)  # the game has read orders that the copy does not hold
            wait_for(len(acknowledged) + 100)
            place.restore(tmp_path / "copy.db")
            wait_for(len(acknowledged) + 200)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not trouble

        in_copy = set(orders_in(tmp_path / "copy.db"))
        assert set(before_copy) <= in_copy
        assert len(set(acknowledged) - set(orders_in(place.path))) >= 300
        for order_id, our_id in acknowledged.items():
            assert post(server, order_id) == (200, our_id)

        news, _ = read_on(server, cursor)
        told = {grant["transaction_id"] for grant in news}
        assert {acknowledged[order_id] for order_id in set(acknowledged) - in_copy} <= told
        # The game applies each transaction once.
        applied_once = {(grant["transaction_id"], grant["kind"]): grant for grant in applied + news}
        owned: Counter[str] = Counter()
        for grant in applied_once.values():
            owned[grant["player_id"]] += grant["items"][0]["quantity"]
        assert owned == {f"player of {order_id}": 5 for order_id in acknowledged}
        ids = [grant["id"] for grant in news]
        assert ids == sorted(set(ids))

    assert set(statuses) <= {200, 503}
    connection = sqlite.connect(place.path)
    assert list(chain.verify(connection)) == []
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()
    place.close()


RESTORE = """
import sys
from pathlib import Path
from app import create_app
from coinslot.operations import restore
installation = create_app().extensions["coinslot"]
print("begins", flush=True)
restore.restore(installation.database, installation.vault, Path(sys.argv[1]))
print("ends", flush=True)
"""


@pytest.mark.long
@pytest.mark.parametrize("live", ["healthy", "damaged"])
def test_restore_that_is_killed_leaves_the_old_database_or_the_new_one(place, tmp_path, live):
    def fill(name: str) -> None:
        def write(tx: Connection) -> None:
            tx.execute("DELETE FROM items")
            tx.executemany(LARGE_ITEM, [{"sku": f"{name} {number}"} for number in range(60)])

        place.installation.database.write_here(write)

    def restore(most_seconds: float | None) -> float:
        """Whole, or killed by then; returns how long it took."""
        with Process(place.home, "-c", RESTORE, tmp_path / "copy.db") as process:
            assert process.line() == "begins"
            began = time.monotonic()
            if most_seconds is None:
                assert process.line() == "ends"
            else:
                process.kill_after(most_seconds, chance)
            return time.monotonic() - began

    fill("new")
    place.backup(tmp_path / "copy.db")
    fill("old")
    place.close()
    old = tmp_path / "old"
    shutil.copytree(place.home, old)
    chance = random.Random(7)
    full: float | None = None
    for _ in range(11):
        shutil.rmtree(place.home)
        shutil.copytree(old, place.home)
        if live == "damaged":
            with place.path.open("r+b") as file:
                file.write(b"spoilt")
        took = restore(full)
        full = full or took

        if place.path.read_bytes()[:6] == b"spoilt":
            assert live == "damaged"
            continue
        assert rows(place.path, "PRAGMA integrity_check") == [("ok",)]
        ((name, count),) = rows(place.path, f"{ITEM_NAMES} GROUP BY 1")
        ((last_id,),) = rows(place.path, "SELECT last_id FROM sequences WHERE name = 'grants'")
        assert count == 60
        assert (last_id > 1_000_000_000) == (name == "new")
        if name == "new" and live == "healthy":
            (kept,) = place.home.glob("coinslot.db.before-restore-*")
            assert rows(kept, f"{ITEM_NAMES} GROUP BY 1") == [("old", 60)]

    restore(None)
    assert rows(place.path, f"{ITEM_NAMES} GROUP BY 1") == [("new", 60)]
    assert not list(place.home.glob(".restore-*"))
