"""Restores: of old copies, damaged ones, under other keys, under load, cut short."""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import Any

import pytest

from coinslot.ledger import chain
from coinslot.operations.restore import _only_restore
from coinslot.outbox import attempts, destinations
from coinslot.store import db, migrations
from handlers.commands import operate
from tests import databases
from tests.operations.places import ITEM_NAMES, KEY, Place, orders_in, post, rows, spoil_last
from tests.servers import Server, until


def test_restore_serves_the_copy_and_keeps_what_was_served(place, copy_of_first):
    first = place.order("first")
    lost = place.order("lost")

    place.restore(copy_of_first)

    assert orders_in(place.home) == ["first"]
    assert place.kept("SELECT external_id FROM transactions ORDER BY id") == [[("first",), ("lost",)]]
    databases.assert_intact(place.home)
    assert rows(place.home, "SELECT actor, action, subject FROM audit ORDER BY id DESC LIMIT 1") == [
        ("command", "restore", "copy.db")
    ]
    assert not list(place.home.glob(".restore-*"))
    assert place.order("first") == first
    assert place.order("lost") == lost


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
        assert rows(place.home, "SELECT count(*) FROM deliveries") == [(2,)]

    for name in ("grant_id", "id", "attempt_id"):
        ids = [getattr(each, name) for each in claims]
        assert ids[0] + 1_000_000_000 < ids[1], name
        assert ids[1] + 1_000_000_000 < ids[2] < 2**53 / 100, name
    stale = claims[0]
    assert installation.database.write_here(lambda tx: attempts.record(tx, stale, attempts.Result(None, 200))) == "gone"


def test_feed_ids_are_new_even_when_every_later_database_was_lost(place, copy, tmp_path):
    """The same old copy on two new machines, one after the other: the second knows nothing of the first."""
    place.restore(copy)
    place.order("on the first machine")
    ((handed_out,),) = rows(place.home, "SELECT max(id) FROM grants")

    second = Place(tmp_path / "second", COINSLOT_MASTER_KEY=place.installation.vault.candidates()[0].text())
    with databases.travel(time.time() + 86400, tick=True):
        second.restore(copy)

    ((floor,),) = rows(second.home, "SELECT last_id FROM sequences WHERE name = 'grants'")
    assert floor > handed_out
    second.close()


def test_fresh_machine_with_only_the_key(place, copy_of_first):
    first = place.order("first")
    key = place.installation.vault.candidates()[0].text()
    other = Place(place.home.parent / "other", COINSLOT_MASTER_KEY=key)

    other.restore(copy_of_first)

    assert not (other.home / "master.key").exists()
    other.installation.prepare()
    assert other.order("first") == first
    other.close()


def test_under_another_key_a_restore_is_refused_by_the_keys_name(place, other, tmp_path):
    place.backup(tmp_path / "copy.db")
    other.set_up()
    other.order("stays")

    said = other.is_refused(tmp_path / "copy.db")

    assert place.installation.vault.candidates()[0].id in said
    assert f"{other.home / 'master.key'} as master.key.old-restore" in said
    (other.home / "master.key.old-restore").write_text(place.installation.vault.candidates()[0].text())
    other.restore(tmp_path / "copy.db")
    other.order("first")


def test_copy_from_before_a_key_rotation_is_sealed_again(place, tmp_path):
    place.refuse_a_call()
    place.backup(tmp_path / "copy.db")
    old = place.installation.vault.candidates()[0]
    new = place.rotate_key()
    place.close()

    with_both = Place(place.home, COINSLOT_MASTER_KEY=f"{new.text()} {old.text()}")
    result = with_both.restore(tmp_path / "copy.db")
    with_both.close()

    assert old.id in result.output
    assert new.id in result.output
    assert rows(place.home, "SELECT value FROM installation WHERE name = 'vault.key_id'") == [(new.id,)]
    assert rows(place.home, "SELECT DISTINCT key_id FROM secrets UNION SELECT key_id FROM refusals") == [(new.id,)]
    after = Place(place.home, COINSLOT_MASTER_KEY=new.text())
    assert after.order("first")
    after.close()


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
        databases.assert_intact(place.home)

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
        migrations.MIGRATIONS, db.SCHEMA_VERSION, lambda tx: tx.execute("UPDATE games SET name = 'came later'")
    )

    result = place.restore(copy_of_first)

    assert f"schema version {db.SCHEMA_VERSION - 1}" in result.output
    assert databases.version(place.home) == db.SCHEMA_VERSION
    assert rows(place.home, "SELECT name FROM games") == [("came later",)]
    assert databases.version(copy_of_first) == db.SCHEMA_VERSION - 1  # the copy is let be


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
    assert orders_in(place.home) == ["first"]
    result = place.app.test_cli_runner().invoke(operate.restore_command, ["-"], input=copy.stdout[:8192])
    assert result.exit_code == 1
    assert orders_in(place.home) == ["first"]
    assert not list(place.home.glob(".*"))


def test_copy_without_a_game_does_not_take_the_games_away(place, other, tmp_path):
    other.installation.prepare()
    other.backup(tmp_path / "copy.db")

    said = place.is_refused(tmp_path / "copy.db")

    assert "copy.db holds no game, but the current database does" in said
    assert "-wal" in said
    place.order("still served")


def test_copy_without_a_game_may_replace_a_database_without_one(other, tmp_path):
    other.installation.prepare()
    other.backup(tmp_path / "copy.db")

    other.restore(tmp_path / "copy.db")

    assert rows(other.home, "SELECT * FROM games") == []


def test_second_restore_at_the_same_time_is_refused(place, copy):

    with _only_restore(place.home):
        assert "another restore" in place.is_refused(copy)


# With a real server ---------------------------------------------------------------------------------------------


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
        assert len(set(acknowledged) - set(orders_in(place.home))) >= 300
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
    assert list(chain.verify(place.installation.database.read())) == []
    databases.assert_intact(place.home)
    place.close()


@pytest.mark.long
def test_restore_that_is_killed_leaves_the_old_database_or_the_new_one(place, tmp_path):
    def last_id() -> int:
        ((found,),) = rows(place.home, "SELECT last_id FROM sequences WHERE name = 'grants'")
        return int(found)

    place.add_large_items(60, "new")
    place.backup(tmp_path / "copy.db")
    chance = random.Random(7)
    full: float | None = None
    for _ in range(11):
        place.add_large_items(60, "old")
        before = last_id()
        took = place.restore_or_be_killed(tmp_path / "copy.db", full, chance)
        full = full or took

        databases.assert_intact(place.home)
        ((name, count),) = rows(place.home, ITEM_NAMES)
        assert count == 60
        assert (last_id() >= before + 1_000_000_000) == (name == "new")
        if name == "new":
            assert place.kept(ITEM_NAMES)[-1] == [("old", 60)]

    place.restore_or_be_killed(tmp_path / "copy.db", None, chance)
    assert rows(place.home, ITEM_NAMES) == [("new", 60)]
    assert not list(place.home.glob(".restore-*"))
