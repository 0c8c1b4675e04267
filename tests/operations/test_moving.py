"""Moves between the engines: exact, under load, cut short at each step, and never to where something is."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from coinslot.access.vault import MasterKey
from coinslot.ledger import chain
from coinslot.store import db
from handlers.commands import move, operate
from tests import databases
from tests.operations.places import Place, post
from tests.servers import ROOT, Server, until

pytestmark = pytest.mark.long

KEY = MasterKey(bytes(range(32))).text()
HELD = """import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT count(*) FROM games").fetchone()
print("open", flush=True)
input()"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """The installation in its SQLite file."""
    place = Place(tmp_path / "home", COINSLOT_MASTER_KEY=KEY)
    place.set_up()
    yield place
    place.close()


@pytest.fixture
def moved(place: Place, url: str) -> Iterator[Place]:
    """The same installation with COINSLOT_DATABASE: after a move, the one that is served."""
    moved = Place(place.home, COINSLOT_MASTER_KEY=KEY, COINSLOT_DATABASE=url)
    yield moved
    moved.close()


def run(place: Place, to: str) -> str:
    result = place.run(move.move_command, to)
    assert result.exit_code == 0, result.output
    return str(result.output)


def is_refused(place: Place, to: str) -> str:
    result = place.run(move.move_command, to)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    return str(result.output)


def serves(place: Place, order_id: str) -> bool:
    """Whether an order is credited there. What it must not be is answered by 503, whatever was read before."""
    with suppress(AssertionError):
        return bool(place.order(order_id))
    return False


def dump(path: Path) -> list[str]:
    """All rows but what a move itself writes down."""
    return sorted(line for line in databases.content(path) if "'move'" not in line)


def rows_of(place: Place, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in place.installation.database.read().execute(sql).fetchall()]


def test_there_and_back_every_row_of_a_demo_is_the_same(url, tmp_path):
    home = tmp_path / "home"
    environment = {"COINSLOT_HOME": str(home), "COINSLOT_MASTER_KEY": KEY}
    flask(environment, "demo", "--days", "10")
    before = dump(home / "coinslot.db")
    credited = databases.tuples(home, "SELECT count(*) FROM transactions")[0][0]

    said = flask(environment, "move", url)
    back = flask(environment | {"COINSLOT_DATABASE": url}, "move", "sqlite:")

    for each in (said, back):
        assert f"The hash chain of its {credited:,} transactions is whole." in each
        assert urlsplit(url).password not in each
    assert dump(home / "coinslot.db") == before
    databases.assert_intact(home)
    (kept,) = home.glob("coinslot.db.moved-*")
    assert str(kept) in back
    assert [line for line in dump(kept) if "'moved'" not in line] == before


def flask(environment: dict[str, str], *arguments: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COINSLOT_")}
    command = [sys.executable, "-m", "flask", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_ids_chain_and_cursor_go_on_in_both_directions(place, moved, url):
    first = place.order("first")
    run(place, url)
    place.close()  # or it would have the file open that is moved aside
    second = moved.order("second")
    assert moved.order("first") == first
    run(moved, "sqlite:")
    third = place.order("third")
    assert place.order("second") == second
    run(place, url)
    moved.order("fourth")

    assert rows_of(moved, "SELECT id, grant_hash <> '' FROM grants ORDER BY id") == [(n, 1) for n in range(1, 5)]
    assert [row[0] for row in rows_of(moved, "SELECT public_id FROM transactions ORDER BY id")][:3] == [
        first, second, third,
    ]  # fmt: skip
    assert list(chain.verify(moved.installation.database.read())) == []
    actions = rows_of(moved, "SELECT subject FROM audit WHERE action = 'move' ORDER BY id")
    assert [subject for (subject,) in actions] == [
        moved.installation.database.name, str(place.path), moved.installation.database.name,
    ]  # fmt: skip


def test_the_way_back_does_not_replace_a_file_that_a_process_has_open(place, moved, url):
    place.order("first")
    run(place, url)
    place.close()
    second = moved.order("second")

    with subprocess.Popen(
        [sys.executable, "-c", HELD, str(place.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:  # as Litestream, or a server that nobody stopped
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        assert "a process has it open" in is_refused(moved, "sqlite:")
        assert moved.order("second") == second
        assert serves(moved, "third")
        other.communicate("\n")

    run(moved, "sqlite:")
    assert place.order("second") == second


def test_what_was_moved_from_refuses_to_read_and_to_write_in_a_process_that_used_it(place, moved, url):
    place.order("first")
    assert rows_of(place, "SELECT count(*) FROM transactions") == [(1,)]
    run(place, url)
    with pytest.raises(db.SchemaError, match=r"was moved to postgresql://.*flask move sqlite:"):
        place.installation.database.read()
    with pytest.raises(db.SchemaError, match="was moved to postgresql://"):
        place.installation.database.write(lambda tx: None, keeps_games=True)
    assert not serves(place, "elsewhere")

    assert serves(moved, "second")
    run(moved, "sqlite:")
    with pytest.raises(db.SchemaError, match=r"was moved to .*coinslot.db.*without COINSLOT_DATABASE"):
        rows_of(moved, "SELECT count(*) FROM transactions")
    with pytest.raises(db.SchemaError, match=r"was moved to .*coinslot.db"):
        moved.installation.database.write(lambda tx: None)
    with pytest.raises(db.SchemaError, match="was moved to"):
        Place(place.home, COINSLOT_MASTER_KEY=KEY, COINSLOT_DATABASE=url).installation.prepare()
    assert serves(Place(place.home, COINSLOT_MASTER_KEY=KEY), "third")


@pytest.mark.parametrize("command", [operate.backup_command, operate.restore_command])
def test_a_file_that_was_moved_from_is_not_backed_up_and_not_restored_over(place, url, tmp_path, command):
    place.backup(tmp_path / "copy.db")
    run(place, url)
    before = databases.content(place.path)

    result = place.run(command, tmp_path / "copy.db")

    assert result.exit_code == 1
    assert "was moved to postgresql://" in result.output
    assert databases.content(place.path) == before
    assert not list(place.home.glob("coinslot.db.*"))


def test_nothing_is_moved_to_where_a_coinslot_is(place, moved, url, tmp_path):
    run(place, url)
    other = Place(tmp_path / "other", COINSLOT_MASTER_KEY=KEY)
    other.set_up()
    assert "holds a Coinslot already" in is_refused(other, url)
    assert serves(other, "still here")
    other.close()

    back = Place(tmp_path / "other", COINSLOT_MASTER_KEY=KEY, COINSLOT_DATABASE=url)
    assert "holds a Coinslot already" in is_refused(back, "sqlite:")
    assert serves(back, "still there")
    back.close()


def test_a_move_to_the_same_engine_is_refused(place, moved, url):
    assert "from SQLite to PostgreSQL or back" in is_refused(place, "sqlite:")
    run(place, url)
    assert "from SQLite to PostgreSQL or back" in is_refused(moved, url)
    assert "was moved to postgresql://" in is_refused(place, url)


def test_another_programs_schema_of_that_name_is_left_alone(place, url):
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA coinslot CREATE TABLE theirs (id bigint)")
        assert "not Coinslot's" in is_refused(place, url)
        assert connection.execute("SELECT count(*) FROM coinslot.theirs").fetchone() == (0,)
    assert serves(place, "still here")


def test_the_master_key_must_be_in_the_environment_and_open_everything(url, tmp_path):
    place = Place(tmp_path / "home")
    place.set_up()
    said = is_refused(place, url)
    assert str(place.installation.vault.path) in said
    assert "COINSLOT_MASTER_KEY" in said

    wrong = Place(place.home, COINSLOT_MASTER_KEY=KEY)
    assert "which COINSLOT_MASTER_KEY does not hold" in is_refused(wrong, url)

    text = place.installation.vault.path.read_text().strip()
    with databases.connected(place.home) as connection:
        connection.execute("UPDATE secrets SET ciphertext = nonce WHERE name = 'appcharge.main_key'")
    right = Place(place.home, COINSLOT_MASTER_KEY=text)
    said = is_refused(right, url)
    assert "appcharge.main_key" in said
    assert text not in said
    for each in (place, wrong, right):
        each.close()


def test_a_password_in_the_address_is_in_no_sentence(place, url):
    parts = urlsplit(url)
    for wrong in (
        url.replace(parts.password, "hunter2"),
        "postgresql://me:hunter2@[::1/x",
        "postgresql://me:hunter2@127.0.0.1:1/none?connect_timeout=1",
        "postgres://me:hunter2@h/x?nonsense=1",
        "mysql://me:hunter2@h/x",
    ):
        result = place.run(move.move_command, wrong)
        assert result.exit_code != 0 or wrong.startswith(url[:10])
        assert "hunter2" not in result.output, wrong


STEPS = {
    "filled": ("schemas.put_in_place", "moving.put_in_place"),
    "in place": ("moving._mark_file", "schemas.leave"),
    "marked": ("schemas.unmark", "moving._unmark_file"),
}
DIE = """
import os, sys
from coinslot.operations import moving
from coinslot.store.postgres import schemas
owner, name = sys.argv.pop(1).split(".")
setattr({"moving": moving, "schemas": schemas}[owner], name, lambda *_: os._exit(9))
from flask.cli import main
main()
"""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("direction", ["to PostgreSQL", "back"])
def test_a_move_that_dies_leaves_one_that_serves_or_a_sentence_and_is_ended_by_the_same_command(
    place, moved, url, step, direction
):
    old, new, to = place, moved, url
    place.order("first")
    if direction == "back":
        run(place, url)
        old, new, to = moved, place, "sqlite:"
        place.close()
    old.order("second")

    environment = {"COINSLOT_HOME": str(place.home), **old.environment}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COINSLOT_")}
    command = [sys.executable, "-c", DIE, STEPS[step][direction == "back"], "move", to]
    done = subprocess.run(command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 9, done.stderr

    fresh = Place(place.home, **new.environment)
    if step == "marked":
        for each in (old, fresh):
            with pytest.raises(db.SchemaError, match=r"was moved to|run the same `flask move` again"):
                each.installation.database.write(lambda tx: None)
    else:
        assert serves(old, "third")
        if step == "in place":
            with pytest.raises(db.SchemaError, match="has not ended"):
                fresh.installation.database.write(lambda tx: None)
            with pytest.raises(db.SchemaError, match="has not ended"):
                fresh.installation.prepare()
    old.close()
    fresh.close()

    said = run(old, to)

    assert ("had been cut short" in said) == (step == "marked")
    assert serves(new, "last")
    assert not serves(old, "lost")
    wanted = ["first", "second", *(["third"] if step != "marked" else []), "last"]
    assert [row[0] for row in rows_of(new, "SELECT external_id FROM transactions ORDER BY id")] == wanted
    assert not list(place.home.glob(".move-*"))


def test_a_server_under_load_loses_nothing_and_is_refused_afterwards(place, moved, url):
    """Whatever was acknowledged before the move is in the new database, and nothing is acknowledged after it."""
    place.close()
    with Server(place.home, COINSLOT_MASTER_KEY=KEY) as server:
        acknowledged: list[str] = []
        is_over = threading.Event()

        def report(name: str) -> None:
            for number in range(100_000):
                if is_over.is_set():
                    return
                status, _ = post(server, f"{name} {number}")
                if status == 200:
                    acknowledged.append(f"{name} {number}")

        threads = [threading.Thread(target=report, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        try:
            until(lambda: len(acknowledged) > 40, "orders are credited", 60)
            run(place, url)
            after = len(acknowledged)
            time.sleep(0.3)
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
        assert len(acknowledged) <= after + len(threads)  # those under way were credited before the mark
        assert post(server, "too late")[0] == 503
        assert server.get("/readyz").status == 503
        assert "was moved to postgresql://" in server.log
    credited = [row[0] for row in rows_of(moved, "SELECT external_id FROM transactions ORDER BY id")]
    assert sorted(credited) == sorted(set(credited))
    assert set(acknowledged) <= set(credited)
