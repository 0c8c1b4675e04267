"""``deploy/coinslot``: a command with the user and the environment of the service.

The unit runs a program of the test, which says how it was started. Coinslot itself runs in the last test.
"""

import ast
import json
import os
import random
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT

WRAPPER = ROOT / "deploy/coinslot"
MODULE = runpy.run_path(str(ROOT / "deploy/as_service.py"))
SYSTEMDS_OWN = Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator")
NOBODY = 65534
SECRET = "never-shown-0123456789"

# Says how it was started. `hold` first waits for its standard input to end.
PROGRAM = """#!/usr/bin/python3
import json, os, sys, pathlib
words = sys.argv[1:]
said = sys.stdin.buffer.read().decode() if "hold" in words else ""
if words == ["backup", "-"]:
    sys.stdout.write("a copy")
    sys.exit(int(os.environ.get("FAIL", 0)))
contents = {word: pathlib.Path(word).read_text() for word in words if word.startswith("/") and os.path.exists(word)}
beside = {word: pathlib.Path(f"{word}-wal").read_text() for word in contents if os.path.exists(f"{word}-wal")}
umask = os.umask(0)
print(json.dumps({
    "words": words, "cwd": os.getcwd(), "environment": dict(os.environ), "said": said, "umask": umask,
    "ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(), "contents": contents, "beside": beside,
}))
sys.exit(7 if "fail" in words else 0)
"""

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user"),
    pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="the system has no Python of its own"),
]


class Machine:
    """A folder that everyone may enter, with a unit, its drop-ins and environment file, and the program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        os.chown(self.home, NOBODY, NOBODY)
        (folder / "bin").mkdir()
        (folder / "bin/flask").write_text(PROGRAM)
        (folder / "bin/flask").chmod(0o755)
        self.private = folder / "private"  # of the caller's alone
        self.private.mkdir(mode=0o700)
        unit = (ROOT / "deploy/coinslot.service").read_text()
        for ours, here in {
            "User=coinslot": f"User={NOBODY}",
            "WorkingDirectory=/opt/coinslot": f"WorkingDirectory={folder}",
            "/opt/coinslot/.venv/bin/": f"{folder}/bin/",
            "/var/lib/coinslot": str(self.home),
            "/etc/coinslot.env": f"{folder}/coinslot.env",
        }.items():
            assert ours in unit
            unit = unit.replace(ours, here)
        self.unit = folder / "units/coinslot.service"
        self.unit.parent.mkdir()
        self.unit.write_text(unit)
        self.file = folder / "coinslot.env"
        self.file.touch(0o600)

    def drop_in(self, name: str, text: str) -> None:
        """What ``systemctl edit`` writes."""
        folder = self.unit.parent / "coinslot.service.d"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.conf").write_text(f"[Service]\n{text}\n")

    def run(self, *words: str, before: tuple[str, ...] = (), **how: Any) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "SYSTEMD_UNIT_PATH": str(self.unit.parent),
            "TERM": "vt100",
            "COINSLOT_PUBLIC_URL": "https://the.callers.example.com",
            "PYTHONPATH": str(self.private),
        }
        how = {"cwd": self.folder, "input": "", "env": environment, **how}
        return subprocess.run([*before, WRAPPER, *words], capture_output=True, text=True, **how)

    def said(self, *words: str, **how: Any) -> dict[str, Any]:
        """What the program says of its start."""
        done = self.run(*words, **how)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def trouble(self, *words: str, **how: Any) -> str:
        done = self.run(*words, **how)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("coinslot: ")
        assert done.stderr.count("\n") == 1
        assert SECRET not in done.stderr
        return done.stderr


@pytest.fixture
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="coinslot-wrapper-"))  # pytest's own folders are closed to other users
    folder.chmod(0o755)
    try:
        yield Machine(folder)
    finally:
        shutil.rmtree(folder)


def test_a_command_gets_user_and_environment_of_the_unit_and_of_what_was_added_to_it(machine: Machine) -> None:
    machine.drop_in("b", "Environment=FIRST=overridden SECOND='of the drop-in' \\\n  \"THIRD=100%% sure\" # no comment")
    machine.drop_in("a", f"Environment=FIRST=of-an-earlier-one\nEnvironmentFile=-{machine.folder}/missing.env")
    machine.file.write_text(
        "# settings\nCOINSLOT_PUBLIC_URL=https://pay.example.com\n"
        f"COINSLOT_MASTER_KEY='{SECRET}'\nSECOND=\"the file's\"\nCOINSLOT_BACKUPS=copies\nnot a setting\n"
    )
    (machine.folder / "here").mkdir()

    said = machine.said("hold", "doctor", "--json", cwd=machine.folder / "here", input="typed in")

    environment = said["environment"]
    assert said["words"] == ["hold", "doctor", "--json"]
    assert said["said"] == "typed in"
    assert said["ids"] == [NOBODY] * 6
    assert said["groups"] == [NOBODY]
    assert said["umask"] == 0o077
    assert said["cwd"] == str(machine.folder / "here")
    assert environment["COINSLOT_PUBLIC_URL"] == "https://pay.example.com"
    assert environment["COINSLOT_MASTER_KEY"] == SECRET
    assert environment["COINSLOT_TRUSTED_PROXIES"] == "1"
    assert environment["COINSLOT_HOME"] == str(machine.home)
    assert environment["COINSLOT_BACKUPS"] == str(machine.folder / "copies")
    assert environment["FLASK_APP"] == str(machine.folder / "wsgi.py")
    assert [environment[name] for name in ("FIRST", "SECOND", "THIRD")] == ["overridden", "the file's", "100% sure"]
    assert environment["TERM"] == "vt100"
    assert environment["HOME"] == "/nonexistent"
    assert "PYTHONPATH" not in environment
    assert str(machine.private) not in environment["PATH"]

    machine.drop_in("c", "Environment=\nEnvironment=COINSLOT_HOME=data\nEnvironmentFile=")
    environment = machine.said()["environment"]
    assert environment["COINSLOT_HOME"] == str(machine.folder / "data")
    assert {"FIRST", "COINSLOT_MASTER_KEY", "COINSLOT_PUBLIC_URL"} & environment.keys() == set()


def test_no_secret_is_on_a_command_line_and_the_exit_status_is_the_commands(machine: Machine) -> None:
    machine.file.write_text(f"COINSLOT_MASTER_KEY={SECRET}\n")
    seen = []
    with subprocess.Popen(
        [WRAPPER, "hold", "fail"],
        env={"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": str(machine.unit.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while not seen or str(machine.folder / "bin/flask").encode() not in seen[-1]:  # shell, Python, program
                assert process.poll() is None
                seen.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
            output, errors = process.communicate("")
        finally:
            process.kill()

    assert process.returncode == 7
    assert not any(SECRET.encode() in line for line in seen)
    assert errors == ""
    assert json.loads(output)["environment"]["COINSLOT_MASTER_KEY"] == SECRET


def test_what_cannot_be_done_is_one_sentence(machine: Machine) -> None:
    machine.file.write_text(f"COINSLOT_MASTER_KEY={SECRET}\n")
    as_user = ("setpriv", "--clear-groups", "--regid", str(NOBODY), "--reuid")

    assert "run this as root" in machine.trouble("doctor", before=(*as_user, "12345"))
    assert "coinslot.env cannot be read (Permission denied)" in machine.trouble(
        "doctor", before=(*as_user, str(NOBODY))
    )
    os.chown(machine.file, NOBODY, NOBODY)
    assert machine.said("doctor", before=(*as_user, str(NOBODY)))["ids"] == [NOBODY] * 6
    assert "cannot become the user nobody" in machine.trouble(
        "doctor", before=("setpriv", "--bounding-set", "-setuid,-setgid")
    )
    for added, said in {
        "User=who-is-this": "there is no user who-is-this, which coinslot.service names",
        "DynamicUser=yes": "DynamicUser=",
        f"Environment=KEY={SECRET}%h": "a % in KEY that only systemd can replace",
        f'Environment="KEY={SECRET}': "a quote that is not closed",
        "EnvironmentFile=/nowhere.env": "there is no /nowhere.env, which coinslot.service names",
        "ExecStart=": "no ExecStart=",
        "ExecStart=/nowhere/bin/gunicorn": "/nowhere/bin/flask does not run as nobody: No such file",
    }.items():
        machine.drop_in("z", added)
        assert said in machine.trouble("doctor"), added
    machine.unit.unlink()
    assert "there is no coinslot.service in" in machine.trouble("doctor")


def test_a_file_that_only_the_caller_can_read_is_passed_on_as_a_copy(machine: Machine) -> None:
    (machine.private / "backup.db").write_text("a backup")
    (machine.private / "backup.db-wal").write_text("its WAL")
    (machine.folder / "open.csv").write_text("open")
    for no_path in ("import", "demo"):  # words of a command that happen to be names of files, too
        (machine.private / no_path).write_text("")

    done = machine.run("import", "backup.db", "demo", "fail", str(machine.folder / "open.csv"), cwd=machine.private)

    said = json.loads(done.stdout)
    assert done.returncode == 7
    assert done.stderr == "coinslot: backup.db is not readable for nobody: a copy is passed on\n"
    copy, game, _, open_file = said["words"][1:]
    assert game == "demo"
    assert said["contents"] == {copy: "a backup", open_file: "open"}
    assert said["beside"] == {copy: "its WAL"}
    assert open_file == str(machine.folder / "open.csv")
    assert list(machine.home.iterdir()) == []
    assert {path.name for path in machine.private.iterdir()} == {"backup.db", "backup.db-wal", "import", "demo"}
    (machine.private / "copy").write_text("a backup")
    assert list(machine.said("restore", "copy", cwd=machine.private)["contents"].values()) == ["a backup"]
    shutil.rmtree(machine.home)
    assert "No such file" in machine.trouble("restore", str(machine.private / "backup.db"))


def test_a_backup_is_written_where_only_the_caller_may(machine: Machine) -> None:
    target = machine.private / "copy.db"

    done = machine.run("backup", str(target))

    assert (done.returncode, done.stdout) == (0, "")
    assert target.read_text() == "a copy"
    assert target.stat().st_mode & 0o777 == 0o600
    assert "copy.db exists" in machine.trouble("backup", "copy.db", cwd=machine.private)
    machine.file.write_text("FAIL=3\n")
    assert machine.run("backup", str(machine.private / "other.db")).returncode == 3
    assert [path.name for path in machine.private.iterdir()] == ["copy.db"]
    # Where the service's user may write, it does so itself.
    assert machine.said("backup", str(machine.home / "copy.db"))["words"] == ["backup", str(machine.home / "copy.db")]


@pytest.mark.skipif(not SYSTEMDS_OWN.exists(), reason="this systemd has no such program")
def test_an_environment_file_is_read_as_systemd_reads_it(tmp_path: Path) -> None:
    """systemd's generator reads with the same code. It replaces $ too, and skips what is empty: neither is compared."""
    folder = tmp_path / ".config/environment.d"
    folder.mkdir(parents=True)
    chance = random.Random(7)
    pieces = ["A", "B=", "=", "\n", "\n", "'", '"', "\\", " ", "x", "#", ";", "\t", "C=", "D=v", "é"]
    compared = 0
    for _ in range(300):
        text = "".join(chance.choice(pieces) for _ in range(chance.randrange(1, 30)))
        ours = MODULE["read_environment"](text)
        if not ours or "" in ours.values():
            continue
        (folder / "x.conf").write_text(text)
        done = subprocess.run([SYSTEMDS_OWN], env={"HOME": str(tmp_path)}, capture_output=True, text=True)
        printed = dict(line.split("=", 1) for line in done.stdout.splitlines())
        theirs = {name: ast.literal_eval(value) if value[:1] == '"' else value for name, value in printed.items()}
        assert {name: theirs.get(name) for name in ours} == ours, text
        compared += 1
    assert compared > 50


def test_coinslot_itself_has_the_address_and_the_master_key_of_the_server(machine: Machine) -> None:
    (machine.folder / "bin/flask").unlink()
    (machine.folder / "bin/flask").symlink_to(Path(sys.executable).with_name("flask"))
    machine.drop_in("a", f"User=root\nWorkingDirectory={ROOT}")  # nobody else may reach this Python
    machine.file.write_text(f"COINSLOT_PUBLIC_URL=https://pay.example.com\nCOINSLOT_MASTER_KEY={'AB' * 21}A=\n")
    elsewhere = {"cwd": machine.private}

    added = machine.run("game", "add", "demo", **elsewhere)
    kept = machine.run("secret", "set", "demo", "appcharge.main_key", input="a-key-of-a-partner", **elsewhere)
    doctor = machine.run("doctor", "--json", **elsewhere)
    copied = machine.run("backup", "copy.db", **elsewhere)

    assert added.returncode == kept.returncode == copied.returncode == 0, added.stderr + kept.stderr + copied.stderr
    assert "https://pay.example.com/appcharge/demo/orders" in added.stdout
    assert not (machine.home / "master.key").exists()
    assert "COINSLOT_MASTER_KEY" in copied.stdout
    assert json.loads(doctor.stdout)
    assert (machine.private / "copy.db").stat().st_size > 4096
