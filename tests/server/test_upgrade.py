"""``deploy/upgrade`` on a made-up machine: a bare repository with revisions of this checkout, a real gunicorn, and a
stand-in for systemctl that starts and stops it. Nothing comes from the network.
"""

import http.client
import os
import shutil
import signal
import site
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from coinslot.store.db import SCHEMA_VERSION
from tests import databases
from tests.conftest import furnished
from tests.server.test_server import signed_order
from tests.servers import ROOT, Server, until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.getuid() != 0, reason="only root upgrades"),
    pytest.mark.skipif(shutil.which("git") is None and os.environ.get("CI") != "true", reason="git is not installed"),
]

# In place of venv and pip: the packages are those of the tests.
MAKE_ENVIRONMENT = f"""#!/bin/sh
set -eu
{sys.executable} -m venv --without-pip "$1/.venv"
for folder in "$1"/.venv/lib/python*/site-packages; do echo {site.getsitepackages()[0]} > "$folder/tests.pth"; done
printf '#!%s/.venv/bin/python\\nfrom gunicorn.app.wsgiapp import run\\nrun()\\n' "$1" > "$1/.venv/bin/gunicorn"
printf '#!%s/.venv/bin/python\\nfrom flask.cli import main\\nmain()\\n' "$1" > "$1/.venv/bin/flask"
chmod +x "$1/.venv/bin/gunicorn" "$1/.venv/bin/flask"
"""

# Starts what the unit names, as systemd does with Type=notify: it returns once the server answers, or fails.
SYSTEMCTL = """#!{python}
import os, pathlib, signal, subprocess, sys, time, urllib.request
sys.path.insert(0, "{deploy}")
import as_service
verb, unit = sys.argv[1:]
file = pathlib.Path("{folder}/pid")
service = as_service.read_service(unit, os.environ["SYSTEMD_UNIT_PATH"])
with open("{folder}/systemctl.log", "a") as log:
    log.write(verb + "\\n")

def stop():
    if file.exists():
        pid = int(file.read_text())
        file.unlink()
        os.kill(pid, signal.SIGTERM)
        while os.path.exists(f"/proc/{{pid}}") and b"gunicorn" in pathlib.Path(f"/proc/{{pid}}/cmdline").read_bytes():
            time.sleep(0.02)

def start():
    with open("{folder}/server.log", "ab") as log:
        process = subprocess.Popen(
            as_service.words(service.settings["ExecStart"], unit), cwd=service.folder, start_new_session=True,
            env=as_service.environment_of(service, {{}}), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
    file.write_text(str(process.pid))
    while process.poll() is None:
        try:
            urllib.request.urlopen("{url}/healthz", timeout=2).read()
            return
        except OSError:
            time.sleep(0.05)
    file.unlink()
    sys.exit("Job for coinslot.service failed.")

if verb in ("stop", "restart"):
    stop()
if verb in ("start", "restart"):
    start()
"""


class Machine:
    """The folder ``opt/coinslot`` with revision ``first``, its unit, and a server that runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app, self.home = folder / "opt/coinslot", folder / "home"
        self.work, self.bare = folder / "work", folder / "origin.git"
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        installation, _ = furnished(self.home)
        installation.database.close()

        self.work.mkdir()
        for name in ("app.py", "wsgi.py", "gunicorn.conf.py", "schema.sql", "requirements.txt"):
            shutil.copy(ROOT / name, self.work)
        for name in ("coinslot", "handlers", "deploy"):
            shutil.copytree(ROOT / name, self.work / name, ignore=shutil.ignore_patterns("__pycache__"))
        self.git("init", "--quiet", "--initial-branch", "first")
        self.commit("first")
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch", "first", self.bare], check=True)
        self.git("remote", "add", "origin", str(self.bare))
        self.git("push", "--quiet", "origin", "first")
        subprocess.run(["git", "clone", "--quiet", self.bare, self.app], check=True)

        self.programs = folder / "bin"
        self.programs.mkdir()
        deploy = ROOT / "deploy"
        systemctl = SYSTEMCTL.format(python=sys.executable, deploy=deploy, folder=folder, url=self.url)
        for name, text in (("make-environment", MAKE_ENVIRONMENT), ("systemctl", systemctl)):
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        subprocess.run([self.programs / "make-environment", self.app], check=True)
        units = folder / "units"
        units.mkdir()
        (units / "coinslot.service").write_text(
            f"[Service]\nUser=root\nWorkingDirectory={self.app}\nExecStart={self.app}/.venv/bin/gunicorn wsgi:app\n"
            f"Environment=COINSLOT_HOME={self.home} COINSLOT_PUBLIC_URL={self.url}\n"
            f"Environment=COINSLOT_BIND=127.0.0.1:{self.port} WEB_CONCURRENCY=1\n"
        )
        self.environment = {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "SYSTEMD_UNIT_PATH": str(units),
            "HOME": str(folder),
        }
        subprocess.run(["systemctl", "start", "coinslot.service"], env=self.environment, check=True)

    def git(self, *words: str) -> None:
        who = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        subprocess.run(["git", *who, "-C", self.work, *words], check=True, capture_output=True)

    def commit(self, name: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", name)

    def revision(self, name: str, *changes: tuple[str, str, str], base: str = "first") -> str:
        """Publish a branch: ``base``, and in each named file one text in place of another."""
        self.git("checkout", "--quiet", base)
        self.git("checkout", "--quiet", "-b", name)
        (self.work / "REVISION").write_text(name)
        for file, old, new in changes:
            text = (self.work / file).read_text()
            assert text.count(old) == 1, (file, old)
            (self.work / file).write_text(text.replace(old, new))
        self.commit(name)
        self.git("push", "--quiet", "origin", name)
        return name

    def upgrade(self, *words: str) -> tuple[int, str]:
        maker = ("--make-environment", str(self.programs / "make-environment"))
        done = subprocess.run(
            [ROOT / "deploy/upgrade", *maker, *words], env=self.environment, capture_output=True, text=True
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    @property
    def running(self) -> str:
        """The revision that the service's folder holds, and that a server of it runs."""
        pid = int((self.folder / "pid").read_text())
        assert Path(f"/proc/{pid}/cwd").resolve() == self.app.resolve()
        marker = self.app / "REVISION"
        return marker.read_text() if marker.exists() else "first"

    def report(self, order_id: str) -> int:
        """Report an order; 0 where nobody answers."""
        server = Server(self.home)
        server.port = self.port
        body, headers = signed_order(order_id)
        try:
            return server.post("/appcharge/demo/orders", body, headers, timeout=10).status
        except (OSError, http.client.HTTPException):
            return 0

    def rows(self, sql: str) -> list[Any]:
        return databases.tuples(self.home, sql)

    def credited(self) -> list[str]:
        return [row[0] for row in self.rows("SELECT reference FROM transactions WHERE is_test = 0 ORDER BY id")]

    def stop(self) -> None:
        with suppress(OSError, ValueError):
            os.killpg(int((self.folder / "pid").read_text()), signal.SIGKILL)


class Orders(threading.Thread):
    """Reports orders all the time, each until it is acknowledged; ``acknowledged`` must never be lost."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine
        self.acknowledged: list[str] = []
        self.is_stopping = False

    def run(self) -> None:
        while not self.is_stopping:
            order_id = f"order-{len(self.acknowledged)}"
            if self.machine.report(order_id) in (200, 202):  # of the revision that answers wrongly
                self.acknowledged.append(order_id)
            time.sleep(0.02)

    def __enter__(self) -> "Orders":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_stopping = True
        self.join()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    try:
        yield made
    finally:
        made.stop()


STEP = (
    ("coinslot/store/db.py", f"SCHEMA_VERSION = {SCHEMA_VERSION}", f"SCHEMA_VERSION = {SCHEMA_VERSION + 1}"),
    (
        "coinslot/store/migrations.py",
        "MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {}",
        "def _step(connection: sqlite3.Connection) -> None:\n"
        '    connection.execute("CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT")\n\n\n'
        f"MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {{{SCHEMA_VERSION + 1}: _step}}",
    ),
    (
        "schema.sql",
        "CREATE TABLE proofs (",
        "CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT;\nCREATE TABLE proofs (",
    ),
)
# With these the test by `flask simulate` fails: everywhere, and only where the relay runs.
WRONG_IN_PUBLIC = (
    "handlers/appcharge/logins/otp.py",
    '"deep_link", 404,',
    '"deep_link", 410 if current_installation().settings.is_relaying else 404,',
)
WRONG_ANSWER = ("handlers/appcharge/orders.py", "        answer_status=200,", "        answer_status=202,")


def test_a_database_that_is_not_the_file_is_left_alone(tmp_path: Path) -> None:
    """What is restored aside would go into it: the rows of PostgreSQL are the same for every home folder."""
    units, app = tmp_path / "units", tmp_path / "coinslot"
    units.mkdir()
    app.mkdir()
    (units / "coinslot.service").write_text(
        f"[Service]\nUser=root\nWorkingDirectory={app}\nExecStart={app}/.venv/bin/gunicorn wsgi:app\n"
        f"Environment=COINSLOT_HOME={tmp_path} COINSLOT_DATABASE=postgresql://coinslot:secret@db.invalid/coinslot\n"
    )
    environment = {"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": str(units)}
    done = subprocess.run([ROOT / "deploy/upgrade"], env=environment, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (1, "")
    assert "the database is PostgreSQL, and this upgrades an installation on SQLite alone" in done.stdout
    assert "nothing was changed" in done.stdout
    assert "secret" not in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coinslot", "units"]


def test_an_upgrade_and_those_that_fail_lose_no_order(machine: Machine) -> None:
    good = machine.revision("good")
    no_start = machine.revision(
        "no-start",
        ("gunicorn.conf.py", "def on_starting(server):\n", "def on_starting(server):\n    raise SystemExit(3)\n"),
    )
    wrong = machine.revision("wrong", WRONG_ANSWER)
    broken = machine.revision("broken", ("app.py", "import logging\n", "import logging\nimport no_such_module\n"))
    unmet = machine.revision("unmet", ("requirements.txt", "Flask==", "Flask==99."))

    with Orders(machine) as orders:
        until(lambda: orders.acknowledged, "orders come in", 60)
        assert not machine.app.is_symlink()
        assert machine.upgrade("nowhere")[0] == 1
        for name, why in ((broken, "no_such_module"), (unmet, "Flask 99.")):
            status, said = machine.upgrade(name)
            assert (status, machine.running) == (1, "first"), said
            assert why in said
            assert said.endswith("upgrade: nothing was changed\n")
        assert not machine.app.is_symlink()

        status, said = machine.upgrade(good)
        assert (status, machine.running) == (0, good), said
        assert machine.app.is_symlink()
        for name, why in ((no_start, "systemctl restart coinslot.service failed"), (wrong, "SURPRISE")):
            status, said = machine.upgrade(name)
            assert (status, machine.running) == (1, good), said
            assert why in said
            assert "the revision before is put back. The database is as it is" in said
        count = len(orders.acknowledged)
        until(lambda: len(orders.acknowledged) > count, "the one that was put back serves", 60)

    assert machine.credited() == orders.acknowledged
    assert "runs already" in machine.upgrade(good)[1]
    assert len(list(machine.home.glob("before-upgrade-*.db"))) >= 1
    assert not list(machine.home.glob(".*"))
    assert not list((machine.app.parent / "coinslot-releases").glob(".*"))


def test_an_upgrade_with_a_schema_step_goes_back_only_while_nothing_was_accepted(machine: Machine) -> None:
    fails_apart = machine.revision("fails-apart", *STEP, WRONG_ANSWER)
    fails_in_public = machine.revision("fails-in-public", *STEP, WRONG_IN_PUBLIC)
    mended = machine.revision("mended", *STEP)

    with Orders(machine) as orders:
        until(lambda: orders.acknowledged, "orders come in", 60)
        status, said = machine.upgrade(fails_apart)
        assert (status, machine.running) == (1, "first"), said
        assert "SURPRISE" in said
        assert "nothing was accepted since" in said
        assert machine.rows("PRAGMA user_version") == [(SCHEMA_VERSION,)]
        assert machine.rows("PRAGMA journal_mode") == [("wal",)]
        # A game may have read ids of the tests that the revision was tried with: none is given out again.
        assert machine.rows("SELECT min(last_id) FROM sequences")[0][0] > 10**9
        (aside,) = (
            path for path in machine.home.glob("coinslot.db.damaged-*") if path.suffix[-4:] not in ("-wal", "-shm")
        )
        assert databases.tuples(aside, "PRAGMA user_version") == [(SCHEMA_VERSION + 1,)]
        count = len(orders.acknowledged)
        until(lambda: len(orders.acknowledged) > count, "the one that was put back serves", 60)

        status, said = machine.upgrade(fails_in_public)
        assert (status, machine.running) == (2, fails_in_public), said
        assert "failed, and stays: it has accepted something since (" in said.partition(f"{SCHEMA_VERSION + 1}\n")[2]
        assert "transactions, grants" in said
        assert "have each partner send again what came after 20" in " ".join(said.split())
        count = len(orders.acknowledged)
        until(lambda: len(orders.acknowledged) > count, "the one that stays serves", 60)

        assert "--mend" in machine.upgrade(mended)[1]
        status, said = machine.upgrade(mended, "--mend")
        assert (status, machine.running) == (0, mended), said

    assert machine.rows("PRAGMA user_version") == [(SCHEMA_VERSION + 1,)]
    assert machine.credited() == orders.acknowledged
    assert machine.rows("PRAGMA integrity_check") == [("ok",)]
