"""Proofs: scheduled backups, restored aside and checked: what is noticed, what is kept, what a killed one leaves."""

import os
import random
import shutil
import signal
import stat
import subprocess
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from coinslot.access import key_copy, keyring
from coinslot.access.vault import MasterKey
from coinslot.base.clock import seconds, stamp
from coinslot.games.registry import RESERVED_ID
from coinslot.ledger.reports import Money
from coinslot.operations import backup_folder, proofs
from coinslot.operations.backup import backup
from coinslot.operations.backup_folder import Keep, UnderWayError
from coinslot.operations.drill import Newest, drill
from coinslot.operations.proof_process import Running
from coinslot.store.db import SCHEMA_VERSION
from handlers import health
from handlers.kit import troubles
from tests import databases
from tests.killing import Process, flask
from tests.ledger.test_refunds import Desk
from tests.operations.places import KEY, Place, orders_in, rows, spoil_last
from tests.servers import together, until

DAY = 86400.0
NOON = 1_800_000_000.0 // DAY * DAY + DAY / 2
WITHOUT_TRIGGERS = """
    DROP TRIGGER transactions_are_never_changed; DROP TRIGGER transactions_are_never_deleted;
    DROP TRIGGER grants_are_never_changed; DROP TRIGGER grants_are_never_deleted;
    DROP TRIGGER entries_are_never_changed; DROP TRIGGER entries_are_never_deleted;
    DROP TRIGGER transactions_are_emptied_not_rewritten;
"""


@pytest.fixture
def busy(place):
    """A place with some orders of each kind: live, simulated, reversed."""
    for number in range(20):
        place.order(f"order {number}")
    reversal = ["refund", "reverse", "demo", "order 3", "--reason", "asked for"]
    assert place.app.test_cli_runner().invoke(args=reversal).exit_code == 0
    return place


def folder_of(place):
    return place.installation.settings.backups


def prove(place, **options):
    installation = place.installation
    return proofs.prove(installation.database, installation.vault, folder_of(place), **options)


def run(place, **environment):
    """``flask proof`` as it is typed."""
    return place.app.test_cli_runner().invoke(args=["proof"])


def faults_of(place, file, newest=None):
    """What the drill says about a copy."""
    newest = newest or Newest.of(place.installation.database.read())
    where = file.with_name(f"drill of {file.name}")
    where.mkdir()
    try:
        return [
            fault
            for check in drill(where, file, place.installation.vault, newest, shutil.copyfile)
            for fault in check.faults
        ]
    finally:
        shutil.rmtree(where)


def names(place):
    return sorted(path.name for path in folder_of(place).iterdir())


def change(file, script, keeps_triggers=False):
    """Change a copy by hand, as nobody should, and put back what protects it."""
    triggers = [sql for (sql,) in rows(file, "SELECT sql FROM sqlite_schema WHERE type = 'trigger'")]
    with databases.connected(file) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.executescript(WITHOUT_TRIGGERS)
        connection.executescript(script)
        if not keeps_triggers:
            have = {row[0] for row in connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger'")}
            for sql in triggers:
                if sql not in have:
                    connection.execute(sql)


# What is made --------------------------------------------------------------------------------------------------


def test_a_proof_writes_one_private_backup_and_says_what_holds(busy):
    result = run(busy)

    assert result.exit_code == 0, result.output
    (file,) = folder_of(busy).iterdir()
    assert backup_folder.proved(folder_of(busy)) == [file]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder_of(busy).stat().st_mode) == 0o700
    assert orders_in(file) == [f"order {number}" for number in range(20)]
    assert "WRONG" not in result.output
    assert result.output.count("ok  ") == 7
    assert str(file) in result.output
    assert "master key is NOT in it" in result.output
    for secret in (KEY, busy.installation.vault.candidates()[0].text(), "player of"):
        assert secret not in result.output
    proof = proofs.last(busy.installation.database.read())
    assert (proof.fault, proof.faults, proof.file, proof.kept) == (None, 0, file.name, 1)
    assert proof.size_bytes == file.stat().st_size
    assert proofs.last_good(busy.installation.database.read()) == proof


def test_a_nightly_backup_is_restored_like_any_other(busy):
    prove(busy)
    (file,) = backup_folder.proved(folder_of(busy))
    busy.order("later")

    busy.restore(file)

    assert orders_in(busy.home) == [f"order {number}" for number in range(20)]
    assert prove(busy).faults == 0
    assert busy.order("later")


def test_the_newest_transaction_of_the_moment_when_it_began_is_asked_for(busy, tmp_path):
    backup(busy.installation.database, tmp_path / "copy.db")
    assert faults_of(busy, tmp_path / "copy.db") == []
    busy.order("acknowledged, and not in the copy")

    found = faults_of(busy, tmp_path / "copy.db")

    assert [fault.partition(" is ")[0] for fault in found] == [
        "the newest of the transactions",
        "the newest of the grants",
    ]


def test_a_live_database_that_is_wrong_is_noticed_and_older_backups_stay(busy):
    prove(busy)
    kept = names(busy)
    databases.change(busy.home, "UPDATE counters SET value = value + 1 WHERE name = 'credited'")

    result = run(busy)

    assert result.exit_code == 1
    assert "the counter credited of appcharge in game demo says 21, the rows say 20" in result.output
    assert "NOT proved: 1 thing is wrong" in result.output
    assert [name for name in names(busy) if name.startswith("coinslot-")] == kept
    (unproved,) = [name for name in names(busy) if name.startswith("unproved-")]
    proof = proofs.last(busy.installation.database.read())
    assert proof.faults == 1
    assert proof.file == unproved
    assert proofs.last_good(busy.installation.database.read()).file == kept[0]

    databases.change(busy.home, "UPDATE counters SET value = value - 1 WHERE name = 'credited'")
    assert run(busy).exit_code == 0
    assert not [name for name in names(busy) if name.startswith("unproved-")]


def test_without_the_right_key_nothing_is_proved(busy):
    prove(busy)
    another = Place(busy.home, COINSLOT_MASTER_KEY=MasterKey.generate().text())

    result = run(another)
    another.close()

    assert result.exit_code == 1
    assert "the copy is under master key" in result.output


def test_where_there_is_no_database_nothing_is_made(tmp_path):
    databases.begin_bare(tmp_path / "home")
    place = Place(tmp_path / "home")

    result = run(place)
    place.close()

    assert result.exit_code == 1
    assert "there is no database" in result.output or "there are no tables" in result.output
    assert not place.home.exists()
    assert place.content() == []


def test_a_folder_whose_disk_is_not_there_is_not_made_elsewhere(tmp_path):
    place = Place(tmp_path / "home", COINSLOT_BACKUPS=str(tmp_path / "not" / "mounted"))
    place.set_up()

    result = run(place)

    assert result.exit_code == 1
    assert "cannot be made" in result.output
    assert not (tmp_path / "not").exists()
    assert proofs.last(place.installation.database.read()).file is None
    place.close()


def test_two_installations_do_not_share_a_folder(tmp_path):
    shared = str(tmp_path / "shared")
    one, other = (Place(tmp_path / name, COINSLOT_BACKUPS=shared) for name in ("one", "other"))
    for each in (one, other):
        each.set_up()
    assert run(one).exit_code == 0

    result = run(other)

    assert result.exit_code == 1
    assert f"holds the backups of the installation in {one.home}" in result.output
    assert len(backup_folder.proved(tmp_path / "shared")) == 1
    assert run(one).exit_code == 0
    for each in (one, other):
        each.close()


# What is noticed -----------------------------------------------------------------------------------------------


CHANGES = {
    "a changed amount": ("UPDATE transactions SET gross_minor = 99 WHERE id = 5", "was changed"),
    "a changed quantity": ("UPDATE entries SET quantity = '6' WHERE grant_id = 5", "grant 5 (purchase"),
    "another player": ("UPDATE grants SET player_id = 'mallory' WHERE id = 5", "grant 5 does not agree"),
    "a changed body": ("UPDATE transactions SET raw_body = x'00' WHERE id = 5", "kept body"),
    "a missing transaction": ("DELETE FROM transactions WHERE id = 5", "rows refer to rows that are not there"),
    "a missing grant": (
        """DELETE FROM entries WHERE grant_id = 5; DELETE FROM deliveries WHERE grant_id = 5;
           DELETE FROM grants WHERE id = 5""",
        "the grant of transaction",
    ),
    "a missing order with all its rows": (
        """DELETE FROM entries WHERE grant_id = 5; DELETE FROM transaction_keys WHERE transaction_id = 5;
           DELETE FROM grants WHERE id = 5; DELETE FROM transactions WHERE id = 5""",
        "does not follow the row before it",
    ),
    "the newest order missing with all its rows": (
        """DELETE FROM refunds; DELETE FROM entries WHERE grant_id >= 20;
           DELETE FROM transaction_keys WHERE transaction_id = 20; DELETE FROM grants WHERE id >= 20;
           DELETE FROM transactions WHERE id = 20; UPDATE counters SET value = value - 1 WHERE name = 'credited'""",
        "the newest of the transactions is missing",
    ),
    "an order that is doubled": (
        """INSERT INTO transactions (public_id, game_id, partner, external_id, reference, kind, player_id, currency,
               gross_minor, figures, fingerprint, raw_body, body_sha256, signature, signed_with, answer_status,
               answer_body, environment, is_test, received_at, previous_hash, row_hash)
           SELECT 'another', game_id, partner, 'order  5', reference, kind, player_id, currency, gross_minor, figures,
               fingerprint, raw_body, body_sha256, signature, signed_with, answer_status, answer_body, environment,
               is_test, received_at, previous_hash, row_hash FROM transactions WHERE id = 5""",
        "does not follow the row before it",
    ),
    "a counter of credits": ("UPDATE counters SET value = 19 WHERE name = 'credited'", "says 19, the rows say 20"),
    "a counter of money": ("UPDATE counters SET value = 1 WHERE name = 'gross'", "the counter gross USD of appcharge"),
    "a counter of an item": ("DELETE FROM counters WHERE name = 'item'", "item coins of appcharge"),
    "a counter of reversals": ("UPDATE counters SET value = 2 WHERE name = 'reversed'", "says 2, the rows say 1"),
    "a counter of nothing": (
        "INSERT INTO counters VALUES (1, 'playtem', 'credited', '', '2026-01-01', 3)",
        "the counter credited of playtem in game demo says 3, the rows say 0",
    ),
    "a secret": ("UPDATE secrets SET ciphertext = x'00'", "the sealed value of secret/demo/"),
    "an index that is a promise": ("DROP INDEX transaction_keys_signature", "transaction_keys_signature is missing"),
    "another version": (f"PRAGMA user_version = {SCHEMA_VERSION + 1}", "newer"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_changed_in_a_backup_is_noticed(busy, tmp_path, what):
    newest = Newest.of(busy.installation.database.read())
    file = tmp_path / "copy.db"
    backup(busy.installation.database, file)
    assert rows(file, "SELECT count(*) FROM refunds") == [(1,)]
    assert faults_of(busy, file, newest) == []
    script, words = CHANGES[what]

    change(file, script)

    found = faults_of(busy, file, newest)
    assert any(words in fault for fault in found), found
    assert KEY not in str(found)
    assert "player of" not in str(found)


def test_a_trigger_that_is_gone_is_noticed(busy, tmp_path):
    backup(busy.installation.database, tmp_path / "copy.db")

    change(tmp_path / "copy.db", "", keeps_triggers=True)

    assert "the trigger grants_are_never_changed is missing" in faults_of(busy, tmp_path / "copy.db")


def test_an_order_twice_is_noticed_where_no_index_forbids_it(busy, tmp_path):
    """The unique key is taken from the table's definition, as a bug of the engine's might ignore it."""
    file = tmp_path / "copy.db"
    backup(busy.installation.database, file)
    change(
        file,
        """PRAGMA writable_schema = ON;
           UPDATE sqlite_schema SET sql = replace(sql, 'UNIQUE (game_id, partner, external_id)', 'CHECK (1)')
           WHERE name = 'transactions';
           DELETE FROM sqlite_schema WHERE name = 'sqlite_autoindex_transactions_2';
           PRAGMA writable_schema = RESET; VACUUM;"""
        + CHANGES["an order that is doubled"][0].replace("order  5", "order 5").replace("'order 5'", "external_id"),
    )

    found = faults_of(busy, file)

    assert any("is there twice" in fault for fault in found), found


@pytest.mark.parametrize("spoil", [spoil_last, lambda raw: raw[: len(raw) // 2], lambda raw: b""])
def test_damaged_pages_are_noticed(busy, tmp_path, spoil):
    file = tmp_path / "copy.db"
    backup(busy.installation.database, file)
    file.write_bytes(spoil(file.read_bytes()))

    assert len(faults_of(busy, file)) == 1


def test_every_flipped_byte_of_the_ledger_is_noticed(busy, tmp_path):
    """A byte in a row of transactions or of entries, anywhere: it is found by page, by hash or by counter."""
    file = tmp_path / "copy.db"
    backup(busy.installation.database, file)
    raw = file.read_bytes()
    chance = random.Random(7)
    places = [at for word in (b"player of order 7", b"order 11") for at in _all(raw, word)]
    outcomes = Counter()
    for at in chance.sample(places, 12):
        position = at + chance.randrange(6)
        file.write_bytes(raw[:position] + bytes([raw[position] ^ 0x01]) + raw[position + 1 :])
        outcomes["noticed" if faults_of(busy, file) else raw[at : at + 40]] += 1

    assert set(outcomes) == {"noticed"}


def _all(raw, word):
    at = raw.find(word)
    while at >= 0:
        yield at
        at = raw.find(word, at + 1)


def test_figures_of_every_kind_of_grant_agree_with_the_rows(installation, studio, tmp_path):
    """Live and sandbox, repeated, of the reserved player and item, taken back, given back after a dispute."""
    desk = Desk(installation, studio)
    money = Money(currency="USD", gross_minor=999)
    for changed in (
        {"money": money},
        {"money": money},
        {"external_id": "yen", "money": Money(currency="JPY", gross_minor=500)},
        {"external_id": "free", "money": Money(currency="USD", gross_minor=0)},
        {"external_id": "empty", "lines": ()},
        {"external_id": "twice in it", "lines": (("coins", 1), ("coins", 2))},
        {"external_id": "sandbox", "environment": "sandbox"},
        {"external_id": "player", "player_id": RESERVED_ID},
        {"external_id": "item", "lines": ((RESERVED_ID, 1), ("coins", 1))},
    ):
        named = changed.get("external_id", "o-1")
        desk.credit(reference=named, keys=(("purchase", named),), known_by=(), **changed)
    desk.fact("chargeback")
    desk.fact("reinstated")
    for external_id in ("yen", "sandbox", "player", "item"):
        desk.reverse(external_id)
    file = tmp_path / "copy.db"
    backup(installation.database, file)
    counted = {(name, label): value for name, label, value in rows(file, "SELECT name, label, value FROM counters")}
    newest = Newest.of(installation.database.read())
    (tmp_path / "drill").mkdir()

    checks = list(drill(tmp_path / "drill", file, installation.vault, newest, shutil.copyfile))

    assert [check.faults for check in checks] == [()] * 7
    assert counted["credited", ""] == 5
    assert counted["credited.test", ""] == counted["restored", ""] == 1
    assert counted["reversed", ""] == counted["reversed.test", ""] == 2
    assert counted["item", "coins"] == 4
    assert (counted["gross", "USD"], counted["gross", "JPY"]) == (999, 500)


# What is kept --------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_forty_nights_keep_seven_days_and_four_weeks(busy, clock):
    made = []
    for night in range(40):
        clock.move_to(NOON + night * DAY)
        made.append(prove(busy, keep=Keep(free_bytes=0)).file)

    kept = [path.name for path in backup_folder.proved(folder_of(busy))]

    assert names(busy) == kept
    assert kept[-7:] == made[-7:]
    assert len(kept) == 11
    weeks = [date.fromisoformat(name[9:17]).isocalendar().week for name in kept[:4]]
    assert weeks == sorted(set(weeks))
    assert weeks[-1] - weeks[0] == 3
    assert 40 - made.index(kept[0]) >= 7 + 21
    assert proofs.last(busy.installation.database.read()).kept == 11


def test_by_hand_in_the_same_day_the_first_and_the_newest_stay(busy, clock):
    clock.move_to(NOON)
    made = []
    for _ in range(4):
        made.append(prove(busy, keep=Keep(free_bytes=0)).file)
        clock.shift(60)

    assert names(busy) == [made[0], made[-1]]


def test_where_the_disk_is_short_only_the_newest_stays_and_it_says_so(busy, clock):
    clock.move_to(NOON)
    for _ in range(3):
        prove(busy, keep=Keep(free_bytes=0))
        clock.shift(DAY)
    assert len(names(busy)) == 3

    proof = prove(busy, keep=Keep(free_bytes=2**60))

    assert proof.faults == 0
    assert proof.is_short
    assert names(busy) == [proof.file]


def test_where_there_is_no_room_at_all_no_backup_is_made_and_the_newest_stays(busy, clock):
    clock.move_to(NOON)
    first = prove(busy, keep=Keep(free_bytes=0))
    clock.shift(DAY)

    proof = prove(busy, keep=Keep(least_bytes=2**60))

    assert "is short" in proof.fault
    assert proof.file is None
    assert names(busy) == [first.file]


def test_a_disk_that_fills_up_meanwhile_leaves_what_was_there(busy):
    """As the kernel tells it: no file may grow past half of what the copy needs."""
    prove(busy)
    kept = names(busy)
    busy.installation.database.tidy()  # or the file may be large already
    script = (
        "import resource; from app import create_app; from coinslot.operations import proofs\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "i = create_app().extensions['coinslot']\n"
        "print(proofs.prove(i.database, i.vault, i.settings.backups).fault)"
    )
    with Process(busy.home, "-c", script) as process:
        status, output = process.end()

    assert status == 0
    assert "was not written" in output
    assert names(busy) == kept


# Stopped, killed, twice ----------------------------------------------------------------------------------------


def test_of_two_at_once_the_second_says_so_and_ends(busy):
    with backup_folder.in_use(folder_of(busy), busy.home):
        with pytest.raises(UnderWayError):
            prove(busy)
        result = run(busy)
        assert result.exit_code == 1
        assert "another proof is under way" in result.output
        assert backup_folder.is_under_way(folder_of(busy))

    assert not backup_folder.is_under_way(folder_of(busy))
    assert proofs.last(busy.installation.database.read()) is None
    busy.add_large_items(40)
    codes = [result.exit_code for result in together(*[lambda: run(busy)] * 3)]
    assert codes.count(0) == 1


def at_step(place, step):
    folder = folder_of(place)
    patterns = {
        "the copy is written": ".unproved-*.partial",
        "the copy waits to be checked": "unproved-*",
        "it is restored aside": ".drill-*/.restore-*",
        "the restored one is checked": ".drill-*/coinslot.db",
    }
    return lambda: list(folder.glob(patterns[step])) if folder.is_dir() else []


STEPS = ("the copy is written", "the copy waits to be checked", "it is restored aside", "the restored one is checked")


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step_nothing_is_lost_and_the_next_one_tidies_up(busy, step):
    busy.add_large_items(40)
    prove(busy)
    kept = names(busy)
    script = (  # so slow that each step is seen
        "import time; from app import create_app; from coinslot.operations import proofs\n"
        "i = create_app().extensions['coinslot']\n"
        "proofs.prove(i.database, i.vault, i.settings.backups, progress=lambda share: time.sleep(0.1))"
    )
    with Process(busy.home, "-c", script) as process:
        process.kill_when(at_step(busy, step), step)

    assert set(kept) < set(names(busy))
    assert busy.order("credited meanwhile")
    assert not backup_folder.is_under_way(folder_of(busy))
    proof = prove(busy)
    assert proof.faults == 0
    assert names(busy) == sorted([*kept, proof.file])
    assert orders_in(folder_of(busy) / proof.file)[-1] == "credited meanwhile"


@pytest.mark.parametrize("how", ["SIGTERM", "killed"])
@pytest.mark.parametrize("step", STEPS[:3])
def test_command_that_is_told_to_stop_or_killed_takes_its_child_along(busy, step, how):
    busy.add_large_items(40)
    with flask(busy.home, "proof") as process:
        until(at_step(busy, step), step, 60)
        if how == "SIGTERM":
            status, _ = process.terminate()
            assert status != 0
        else:
            process.kill()

        until(lambda: not backup_folder.is_under_way(folder_of(busy)), "the child has ended")

    assert [name for name in names(busy) if not name.startswith(("unproved-", "coinslot-"))] == []
    assert prove(busy).faults == 0
    assert len(names(busy)) <= 2


@pytest.mark.parametrize("call", ["mkdir", "rmdir"])
def test_interrupted_as_the_folder_of_the_check_is_made_or_removed_it_leaves_nothing(busy, monkeypatch, call):
    real = getattr(os, call)
    interrupted = []

    def interrupt(path, *arguments, **options):
        if ".drill-" in str(path) and not interrupted:
            interrupted.append(path)
            if call == "mkdir":
                real(path, *arguments, **options)
            raise KeyboardInterrupt
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, call, interrupt)
    with pytest.raises(KeyboardInterrupt):
        prove(busy)

    assert interrupted
    assert [name for name in names(busy) if name.startswith(".")] == []


@pytest.mark.parametrize("at_ctrl_c", [signal.default_int_handler, signal.SIG_IGN], ids=["in front", "in background"])
def test_a_process_that_is_stopped_says_so(busy, at_ctrl_c):
    busy.add_large_items(40)
    for _ in range(5):  # on a busy machine it may end before it is stopped
        before = signal.signal(signal.SIGINT, at_ctrl_c)
        running = Running(busy.installation.settings)
        signal.signal(signal.SIGINT, before)
        until(at_step(busy, "the copy is written"), "it writes")
        running.stop()
        assert list(running) is not None
        if running.proof is None:
            break

    assert running.proof is None
    assert running.error == "it was stopped"


def test_it_runs_with_low_priority(busy):
    busy.add_large_items(40)
    running = Running(busy.installation.settings)
    try:
        pid = running._process.pid
        until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == 19, "it is nice")
    finally:
        running.stop()
    assert os.getpriority(os.PRIO_PROCESS, 0) < 19


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_what_root_makes_belongs_to_the_folders_owner(busy):
    for path in (busy.home, *busy.home.iterdir()):
        os.chown(path, 4321, 4321)

    assert prove(busy).faults == 0

    everything = [path for path in busy.home.rglob("*") if "-" not in path.suffix]
    assert {path.stat().st_uid for path in everything} == {4321}


def test_the_folder_holds_no_name_that_a_shell_would_trip_over(busy):
    prove(busy)
    listed = subprocess.run(["ls", folder_of(busy)], capture_output=True, text=True, check=True).stdout.split()
    assert listed == names(busy)
    assert Path(listed[0]).suffix == ".db"


# What is said about it -----------------------------------------------------------------------------------------


@pytest.fixture
def told(app, installation, studio, clock):
    """The keys of the troubles that concern backups and the key, with their severities."""
    clock.move_to(NOON)
    installation.database.write_here(lambda tx: tx.execute("UPDATE games SET created_at = :now", {"now": stamp()}))

    def troubles_now():
        with app.app_context():
            found = troubles.list_troubles(installation)
        ours = ("unproved_backup", "old_backup", "few_backups", "unproved_key", "backups_disk")
        return {each.key: each.severity for each in found if each.key in ours}

    return troubles_now


def prove_in(installation, **options):
    return proofs.prove(installation.database, installation.vault, installation.settings.backups, **options)


def test_backups_that_fail_or_are_old_or_few_are_troubles(told, installation, clock):
    same_disk = told()  # on the first day
    assert same_disk == ({} if databases.IS_POSTGRES else {"backups_disk": "note"})
    clock.shift(DAY + 1)
    assert told() == same_disk | {"old_backup": "wrong"}
    assert prove_in(installation, keep=Keep(free_bytes=0)).faults == 0
    assert told() == same_disk
    clock.shift(DAY)
    prove_in(installation, keep=Keep(free_bytes=2**60))
    assert told() == same_disk | {"few_backups": "look"}
    prove_in(installation, keep=Keep(least_bytes=2**60))
    assert told() == same_disk | {"unproved_backup": "wrong"}
    clock.shift(2 * DAY + 1)
    assert told() == same_disk | {"unproved_backup": "wrong", "old_backup": "wrong"}


def test_a_key_of_which_no_copy_was_shown_is_a_trouble_once_there_is_a_secret(told, installation):
    keyring.rotate_master_key(installation.database, installation.vault, MasterKey.generate(), "test")
    assert told()["unproved_key"] == "look"
    key = installation.vault.current(installation.database.read())
    key_copy.check(installation.database, installation.vault, key)
    assert "unproved_key" not in told()
    installation.database.write_here(
        lambda tx: tx.execute("DELETE FROM installation WHERE name = 'vault.checked_key_id'")
    )
    assert "unproved_key" in told()
    installation.database.write_here(lambda tx: tx.execute("DELETE FROM secrets"))
    assert "unproved_key" not in told()


def test_the_overview_and_the_metrics_say_when_it_was_and_how_it_went(browser, installation, studio, clock):
    assert "the first follows soon after the first game" in browser.get("/").text
    assert prove_in(installation, keep=Keep(free_bytes=0)).faults == 0
    assert f"today {stamp()[11:16]}, backup of" in browser.get("/").text
    with browser.client.application.app_context():
        gauges = {
            metric.name: metric.samples[0].value
            for metric in health.Figures(installation).collect()
            if metric.name.startswith(("coinslot_proof", "coinslot_backup"))
        }
    assert gauges["coinslot_proof_success"] == gauges["coinslot_backup_kept"] == 1
    assert gauges["coinslot_proof_last_success_timestamp_seconds"] == pytest.approx(seconds(stamp()))
    assert gauges["coinslot_backup_size_bytes"] > 100_000

    prove_in(installation, keep=Keep(least_bytes=2**60))
    page = browser.get("/").text
    assert "the disk of" in page
    assert f"today {stamp()[11:16]}, backup of" not in page
