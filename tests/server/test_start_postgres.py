"""The start on PostgreSQL: whatever is wrong with COINSLOT_DATABASE is said in one sentence, without the password."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import create_app
from coinslot.access.vault import MasterKey
from coinslot.store.db import DatabaseError
from tests import postgres
from tests.fakes.http import closed_port
from tests.servers import ROOT

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres.Cluster]:
    """One that listens on a port and asks for passwords there."""
    postgres.needs_postgres()
    import psycopg

    with postgres.Cluster(listen_addresses="127.0.0.1", port=str(closed_port())) as found:
        rules = found.folder / "data" / "pg_hba.conf"
        rules.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        with psycopg.connect(found.url, autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("CREATE ROLE studio LOGIN PASSWORD 'right'")
            connection.execute("CREATE DATABASE game TEMPLATE template0")
            connection.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LOCALE 'C' OWNER studio")
        yield found


def environment(home: Path, url: str) -> dict[str, str]:
    return {"COINSLOT_HOME": str(home), "COINSLOT_DATABASE": url, "COINSLOT_MASTER_KEY": MasterKey.generate().text()}


def refusal(home: Path, url: str) -> str:
    """Why an installation cannot be prepared."""
    with pytest.raises(DatabaseError) as raised:
        create_app(environment(home, url)).extensions["coinslot"].prepare()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_each_reason_is_a_sentence(tmp_path, cluster, monkeypatch):
    socket = cluster.url.partition("?")[2]
    port = socket.rpartition("=")[2]

    def said(user: str, where: str) -> str:
        return refusal(tmp_path / "home", f"postgresql://{user}@{where}")

    assert "postgresql://nowhere.invalid/game cannot be used: failed to resolve" in said(
        "studio:right", "nowhere.invalid/game"
    )
    assert "Connection refused" in said("studio:right", "127.0.0.1:1/game")
    wrong = said("studio:mistyped", f"127.0.0.1:{port}/game")
    assert 'password authentication failed for user "studio"' in wrong
    assert "mistyped" not in wrong
    assert 'database "gone" does not exist' in said("studio", f"/gone?{socket}")
    assert "GRANT CREATE ON DATABASE game TO studio" in said("studio", f"/game?{socket}")
    assert "has the encoding LATIN1, and UTF8 is needed" in said("studio", f"/latin?{socket}")
    monkeypatch.setattr("coinslot.store.postgres.database.OLDEST_SERVER", 990000)
    assert "which is too old; 99 or newer is needed" in said("studio", f"/game?{socket}")


def run(*command: str, hide: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a module of Python's, where the module ``hide`` is not installed."""
    code = "import runpy, sys; sys.modules[sys.argv.pop(1)] = None; del sys.argv[0]; "
    code += "runpy.run_module(sys.argv[0], None, '__main__', True)"
    others = {name: value for name, value in os.environ.items() if not name.startswith("COINSLOT_")}
    return subprocess.run(
        [sys.executable, "-c", code, hide, *command],
        cwd=ROOT,
        env=others | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_server_that_cannot_start_says_one_line(tmp_path):
    given = environment(tmp_path / "home", "postgresql://studio:secret@127.0.0.1:1/game")
    done = run("gunicorn", "wsgi:app", "-b", "127.0.0.1:0", **given)

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Coinslot does not start: postgresql://127.0.0.1:1/game cannot be used: ")
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_without_psycopg_it_says_what_to_install(tmp_path):
    given = environment(tmp_path / "home", "postgresql://studio:secret@127.0.0.1:1/game")

    for command in (["gunicorn", "wsgi:app", "-b", "127.0.0.1:0"], ["flask", "game", "list"]):
        done = run(*command, hide="psycopg", **given)
        assert done.returncode != 0
        assert done.stderr.splitlines()[-1].endswith(
            "COINSLOT_DATABASE: psycopg is not installed; run: pip install -r requirements-postgres.txt"
        )
        assert "Traceback" not in done.stderr
