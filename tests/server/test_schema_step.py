"""A start while a step of the schema runs: what systemd is told, what an interrupted step leaves, and the way back."""

import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from coinslot.store.db import SCHEMA_VERSION
from tests import databases
from tests.checkouts import newer
from tests.conftest import Studio, furnished
from tests.server.test_server import post_order
from tests.servers import Server, until

pytestmark = pytest.mark.long

SLOW = """
import os, time
tx.execute("CREATE TABLE made_up (id INTEGER PRIMARY KEY) STRICT")
open(os.environ["STEP"] + "/begun", "w").close()
while not os.path.exists(os.environ["STEP"] + "/go"):
    time.sleep(0.01)
"""
BREAKING = 'tx.execute("DELETE FROM games")'


class Systemd:
    """Its end of ``NOTIFY_SOCKET``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self._said: list[str] = []

    @property
    def said(self) -> list[str]:
        """Every line so far."""
        while True:
            try:
                self._said += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self._said

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()


@pytest.fixture
def systemd(short_folder: Path) -> Iterator[Systemd]:
    with closing(Systemd(short_folder / "notify")) as ours:
        yield ours


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    installation, studio = furnished(tmp_path / "home")
    assert isinstance(studio, Studio)
    yield installation.settings.home
    installation.database.close()


def test_ready_is_said_after_the_last_step_and_nothing_is_served_before(
    home: Path, tmp_path: Path, systemd: Systemd
) -> None:
    checkout = newer(tmp_path / "newer", SLOW)
    server = Server(home, checkout=checkout, NOTIFY_SOCKET=str(systemd.path), STEP=str(tmp_path))
    try:
        process = server.launch()
        until((tmp_path / "begun").exists, "the step runs", 30)
        assert [line for line in systemd.said if line.startswith("STATUS=")] == systemd.said != []
        assert "Listening at" not in server.log
        assert databases.version(home) == SCHEMA_VERSION
        assert f"steps from schema version {SCHEMA_VERSION} to {SCHEMA_VERSION + 1}: nothing is served" in server.log

        (tmp_path / "go").touch()
        until(lambda: "READY=1" in systemd.said or process.poll() is not None, "gunicorn says READY", 30)
        assert databases.version(home) == SCHEMA_VERSION + 1
        assert "Listening at" in server.log
        assert server.stop() == 0
        server.start()
        assert post_order(server, "after-1").status == 200
    finally:
        server.kill()


def test_a_start_that_is_stopped_in_a_step_leaves_the_file_to_the_old_version(
    home: Path, tmp_path: Path, systemd: Systemd
) -> None:
    new = Server(home, checkout=newer(tmp_path / "newer", SLOW), NOTIFY_SOCKET=str(systemd.path), STEP=str(tmp_path))
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            process = new.launch()
            until((tmp_path / "begun").exists, "the step runs", 30)
            process.send_signal(number)
            assert process.wait(10) == -number
            new.kill()
            (tmp_path / "begun").unlink()
            assert "READY=1" not in systemd.said
            assert databases.version(home) == SCHEMA_VERSION
            with Server(home) as old:
                assert post_order(old, f"old-{number}").status == 200

        (tmp_path / "go").touch()
        new.start()
        assert databases.version(home) == SCHEMA_VERSION + 1
        assert [post_order(new, f"old-{number}").status for number in (signal.SIGTERM, signal.SIGKILL)] == [200, 200]
    finally:
        new.kill()


def test_steps_that_leave_a_row_without_its_parent_are_refused_in_words_and_the_old_version_goes_on(
    home: Path, tmp_path: Path
) -> None:
    new = Server(home, checkout=newer(tmp_path / "newer", BREAKING))
    try:
        assert new.launch().wait(30) not in (0, None)
        (line,) = [line for line in new.log.splitlines() if "Coinslot does not start" in line]
        assert "that refers to none of games" in line or 'on table "games" violates foreign key' in line
    finally:
        new.kill()

    assert databases.version(home) == SCHEMA_VERSION
    with Server(home) as old:
        assert post_order(old, "old-1").status == 200
