"""The copy that follows, with the real Litestream: everything is killed and thrown away, and the copy is served."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import time_machine

from app import create_app
from coinslot.base import clock as clocks
from coinslot.installation import Installation
from coinslot.operations import follower
from coinslot.operations.backup import side_files
from coinslot.store.connection import is_followed
from handlers.appcharge.api import never_came
from tests.conftest import furnished
from tests.fakes.appcharge import FakeAppcharge, transaction
from tests.killing import flask
from tests.litestream import CONFIG, COPY_SECONDS, Litestream, program
from tests.server.test_server import assert_ledger_is_sound, credited, post_order, read_feed
from tests.servers import ROOT, Server, until

CANNOT = "it cannot read what is new or store it at the destination; journalctl -u litestream says why"


class Followed:
    """A game's server, and Litestream, which copies its database into another folder."""

    def __init__(self, folder: Path) -> None:
        self.home, self.copy, self.restored = folder / "home", folder / "copy", folder / "restored.db"
        self.socket = self.home / "litestream.sock"
        self.installation, self.studio = furnished(self.home)
        self.server = Server(self.home, COINSLOT_FOLLOWER=str(self.socket))

    def following(self) -> Litestream:
        return Litestream(self.home, self.copy)

    def look(self) -> follower.Copy:
        return follower.look(self.socket, self.installation.database.path)

    def wait_for_copy(self) -> None:
        """Until all that is committed now is in the copy."""
        until(lambda: self.look().copied_at, "the copy is complete", COPY_SECONDS)

    def flask(self, *words: object) -> str:
        with flask(self.home, *words) as process:
            status, said = process.end()
        assert status == 0, said
        return said

    def lose_everything(self) -> None:
        """Only the master key is left, as somebody who follows the documentation has it elsewhere."""
        key = (self.home / "master.key").read_bytes()
        self.installation.database.close()
        shutil.rmtree(self.home)
        self.home.mkdir(mode=0o700)
        (self.home / "master.key").write_bytes(key)
        (self.home / "master.key").chmod(0o600)
        self.installation = create_app({"COINSLOT_HOME": str(self.home)}).extensions["coinslot"]
        self.studio.installation = self.installation

    def references(self, file: Path | None = None) -> list[str]:
        with closing(sqlite3.connect(file or self.installation.database.path)) as connection:
            return [row[0] for row in connection.execute("SELECT reference FROM transactions ORDER BY id")]


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    made = Followed(tmp_path)
    with made.server:
        yield made
    made.installation.database.close()


def compared(followed: Followed, paid: list[str]) -> list[str]:
    """The open rows of what never came, after a night's comparison with Appcharge's report of these orders."""
    day = clocks.DAY_SECONDS
    night = clocks.now() // day * day + day + (never_came.HOUR + 1) * 3600
    with FakeAppcharge() as appcharge, time_machine.travel(night, tick=False):
        paid_at = clocks.stamp(night - 20 * 3600)
        appcharge.transactions += [transaction(name.removeprefix("order-"), paid_at) for name in paid]
        followed.studio.config("appcharge.base_url", appcharge.url)
        followed.installation.new_relay().drain()
    return lacking(followed.installation)


def lacking(installation: Installation) -> list[str]:
    sql = "SELECT reference FROM refusals WHERE state = 'open' AND reason = 'never_came' ORDER BY reference"
    return [row["reference"] for row in installation.database.read().execute(sql)]


@pytest.mark.long
def test_all_is_lost_but_the_copy(followed: Followed) -> None:
    kept = [f"order-{number}" for number in range(20)]
    late = ["order-late-1", "order-late-2"]
    with followed.following() as litestream:
        until(lambda: is_followed(followed.installation.database.path), "Litestream has begun")
        for name in kept:
            assert post_order(followed.server, name).status == 200
        followed.wait_for_copy()
        os.kill(litestream.pid, signal.SIGSTOP)  # from here on the copy lacks what is acknowledged
        answers = {name: post_order(followed.server, name) for name in late}
        assert {answer.status for answer in answers.values()} == {200}
        read = read_feed(followed.server, followed.studio.token)
        followed.server.kill()
    followed.lose_everything()

    litestream.restore(followed.restored)
    said = followed.flask("restore", "--yes", followed.restored)
    assert "A game keeps its cursor" in said
    assert followed.references() == kept
    assert_ledger_is_sound(followed.installation)
    followed.server.start()
    assert followed.server.get(f"/game/v1/grants?after={read[-1]['id']}", token(followed)).json["grants"] == []

    # Who finds the two orders that were acknowledged and are gone? Appcharge's report, in the next night.
    assert compared(followed, kept + late) == late

    # Appcharge sends one of them again: the same answer, one credit, and nobody has to look at it any more.
    again = [post_order(followed.server, late[0]) for _ in range(3)]
    assert {answer.body for answer in again} == {answers[late[0]].body}
    assert credited(followed.installation, late[0]) == 1
    assert lacking(followed.installation) == late[1:]

    # The game reads on from its cursor. It knows the grant again by transaction and kind, though its id is new.
    (grant,) = followed.server.get(f"/game/v1/grants?after={read[-1]['id']}", token(followed)).json["grants"]
    before = {each["transaction_id"]: each for each in read}
    assert grant["id"] > read[-1]["id"] + 1_000_000
    assert {**grant, "id": 0, "created_at": ""} == {**before[grant["transaction_id"]], "id": 0, "created_at": ""}

    # Litestream begins again, with the same destination, which knows a later state than the one that is served.
    with followed.following() as litestream:
        followed.wait_for_copy()
        followed.restored.unlink()
        litestream.restore(followed.restored)
    assert followed.references(followed.restored) == [*kept, late[0]]


def token(followed: Followed) -> dict[str, str]:
    return {"Authorization": f"Bearer {followed.studio.token}"}


@pytest.mark.long
def test_the_copy_follows_a_restore_and_a_rotation_of_the_key(followed: Followed, tmp_path: Path) -> None:
    """Litestream may run on: what is served is replaced in one commit, and the copy follows."""
    with followed.following() as litestream:
        until(lambda: is_followed(followed.installation.database.path), "Litestream has begun")
        assert post_order(followed.server, "in-the-backup").status == 200
        followed.flask("backup", tmp_path / "backup.db")
        assert post_order(followed.server, "undone-by-the-restore").status == 200
        followed.wait_for_copy()
        followed.flask("restore", tmp_path / "backup.db")
        assert post_order(followed.server, "after-the-restore").status == 200
        followed.flask("key", "rotate")
        assert post_order(followed.server, "after-the-rotation").status == 200
        followed.wait_for_copy()
        litestream.restore(followed.restored)
        served = followed.references()

    assert served == ["in-the-backup", "after-the-restore", "after-the-rotation"]
    assert followed.references(followed.restored) == served
    followed.server.kill()
    followed.lose_everything()  # but for the new key
    followed.flask("restore", "--yes", followed.restored)
    assert_ledger_is_sound(followed.installation)
    assert followed.references() == served


@pytest.mark.long
def test_a_copy_that_cannot_be_made_is_known(followed: Followed) -> None:
    path = followed.installation.database.path
    with followed.following():
        followed.wait_for_copy()
        followed.copy.rename(followed.copy.with_name("elsewhere"))
        followed.copy.write_text("no folder")  # so that not even root can write into it
        assert post_order(followed.server, "first").status == 200
        assert followed.look() == follower.Copy(None, CANNOT)
        followed.copy.unlink()
        followed.copy.with_name("elsewhere").rename(followed.copy)
        followed.wait_for_copy()

        # Another file in its place: Litestream still has the former one open, and its own stamp goes on.
        followed.server.kill()
        for file in (each for each in (path, *side_files(path)) if each.exists()):
            file.rename(f"{file}.former")
        shutil.copyfile(f"{path}.former", path)
        assert followed.look() == follower.Copy(None, CANNOT)

    assert "it does not answer" in followed.look().problem


def test_the_configuration_names_the_database_and_the_destination(tmp_path: Path) -> None:
    for url, kind in (
        (f"file://{tmp_path}/copy", "file"),
        ("sftp://name@host:22/folder", "sftp"),
        ("s3://bucket/folder?endpoint=https://storage.example.com&region=eu-1", "s3"),
    ):
        said = databases(COINSLOT_HOME=str(tmp_path), LITESTREAM_URL=url)
        assert said == [{"path": f"{tmp_path}/coinslot.db", "replica": kind}]


def databases(**environment: str) -> Any:
    command = [program(), "databases", "-json", "-config", CONFIG]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_systemd_understands_the_unit_and_it_is_closed_like_coinslots(tmp_path: Path) -> None:
    unit, ours = ((ROOT / f"deploy/{name}.service").read_text() for name in ("litestream", "coinslot"))
    hardening = re.compile(
        r"(?m)^(?:(?:Protect|Private|Restrict|Capability|Ambient|NoNew|Lock|RemoveIPC|Keyring|Memory|UMask|User)\w*=.*"
        r"|SystemCallFilter=~?@.*)$"
    )
    its, coinslots = set(hardening.findall(unit)), set(hardening.findall(ours))
    assert coinslots - its == set()
    assert its - coinslots == {"SystemCallFilter=@chown"}

    program = shutil.which("systemd-analyze")
    if program is None:  # a container has no systemd
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / "litestream.service"
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", unit))
    verified = subprocess.run([program, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    assert [line for line in verified.stderr.splitlines() if "litestream.service" in line] == []
    assert verified.returncode == 0, verified.stderr
