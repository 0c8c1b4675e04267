"""Commands that root types: what they make belongs to the user that the server runs as."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import databases
from tests.conftest import furnished
from tests.servers import ROOT

OWNER = 4321


@pytest.mark.long
@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    home, backups = tmp_path / "home", tmp_path / "backups"
    installation, _ = furnished(home)
    installation.database.close()
    backups.mkdir()
    (tmp_path / "players.csv").write_text("player_id\ncarol\n")
    for path in (home, *home.iterdir(), backups):
        os.chown(path, OWNER, OWNER)
    for made_anew in ("write.lock", "coinslot.db-wal", "coinslot.db-shm"):
        (home / made_anew).unlink(missing_ok=True)
    # A connection that stays keeps the WAL and its index, which SQLite deletes otherwise.
    script = f"""
import sqlite3, sys
connection = sqlite3.connect({str(home / "coinslot.db")!r})
connection.execute("SELECT count(*) FROM games").fetchone()
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as reader:
        for command in (
            ("player", "import", "demo", str(tmp_path / "players.csv")),
            ("backup", str(backups / "by-hand.db")),
            ("proof",),
            ("key", "rotate"),
            ("restore", str(backups / "by-hand.db")),
            ("doctor", "--json"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "flask", *command],
                cwd=ROOT,
                env=os.environ | databases.environment(home) | {"COINSLOT_BACKUPS": str(backups)},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0 or command[0] == "doctor", done.stderr
        made = {path.name: path.stat() for path in (*home.rglob("*"), *backups.rglob("*"))}
        assert reader.stdin is not None
        reader.stdin.close()

    assert made.keys() > {"by-hand.db", "write.lock", "coinslot.db-wal", "coinslot.db-shm"}
    assert {name for name, found in made.items() if (found.st_uid, found.st_gid) != (OWNER, OWNER)} == set()
