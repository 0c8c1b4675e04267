"""``flask doctor`` on PostgreSQL: what the server keeps, copies and lets in, as far as its role sees it."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import time_machine

from app import create_app
from coinslot.access.vault import MasterKey
from coinslot.installation import Installation
from handlers.commands import troubles
from tests import postgres
from tests.servers import needs, until

pytestmark = pytest.mark.long


class Patient:
    """An installation in a database of its own; ``url`` is that of its role, ``above`` a superuser's."""

    def __init__(self, home: Path, url: str, above: str, key: MasterKey) -> None:
        self.url, self.above = url, above
        environment = {"COINSLOT_HOME": str(home), "COINSLOT_PUBLIC_URL": "http://127.0.0.1:1"}
        environment |= {"COINSLOT_DATABASE": url, "COINSLOT_MASTER_KEY": key.text()}
        self.app = create_app(environment)
        self.installation: Installation = self.app.extensions["coinslot"]

    def examine(self) -> list[str]:
        result = self.app.test_cli_runner().invoke(troubles.doctor_command, [])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert self.url.partition("@")[0].rpartition(":")[2] not in result.output, "the password"
        return result.output.splitlines()

    def line(self, words: str) -> str:
        """The one line with these words; empty: there is none."""
        return next((line for line in self.examine() if words in line), "")

    def as_administrator(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.above, autocommit=True) as connection:
            connection.execute(statement)

    @property
    def database(self) -> str:
        return postgres.database_name(self.url)


@pytest.fixture(scope="module")
def key() -> MasterKey:
    return MasterKey.generate()


@pytest.fixture(scope="module")
def shared(key: MasterKey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    postgres.needs_postgres()
    with postgres.fresh_database() as url:
        patient = Patient(tmp_path_factory.mktemp("doctor") / "home", url, postgres.superuser(url), key)
        patient.installation.prepare()
        yield patient
        patient.installation.database.close()


@pytest.fixture
def served(shared: Patient) -> Iterator[Patient]:
    """The same database for each test, as it was before."""
    yield shared
    shared.as_administrator(f"ALTER DATABASE {shared.database} RESET ALL")
    shared.as_administrator(f"ALTER DATABASE {shared.database} CONNECTION LIMIT -1")
    shared.as_administrator("UPDATE coinslot.engine SET changed_at = NULL")
    shared.installation.database.close()


@contextmanager
def copying(cluster: postgres.Cluster, folder: Path) -> Iterator[None]:
    """A program that copies each commit as a synchronous standby does."""
    folder.mkdir()
    folder.chmod(0o777)
    program = needs(f"{postgres.find_programs()}/pg_receivewal")
    url = f"{cluster.url}&application_name=standby"
    with subprocess.Popen([program, "-d", url, "-D", folder, "--synchronous", "-s", "1"]) as process:
        try:
            yield
        finally:
            process.terminate()


def test_no_sentence_is_about_a_file_where_there_is_none(served):
    lines = served.examine()

    assert not [line for line in lines if any(word in line for word in ("SQLite", "WAL", "wal", "Litestream", ".db"))]
    assert any(line.startswith("ok") and "PostgreSQL 1" in line and "UTF8" in line for line in lines)
    for words in (
        "timeline 1",
        "clock and this machine's differ",
        "connections of the database",
        "schema version",
        "is valid",
    ):
        assert any(line.startswith("ok") and words in line for line in lines), (words, lines)
    assert [line for line in lines if line.startswith("wrong") and "fsync = off" in line]
    assert [line for line in lines if line.startswith("wrong") and "full_page_writes = off" in line]
    assert [line for line in lines if line.startswith("note") and "No commit waits for a standby" in line]


def test_a_database_without_tables_and_one_that_is_not_there(tmp_path, key):
    postgres.needs_postgres()
    with postgres.fresh_database() as url:
        patient = Patient(tmp_path / "home", url, postgres.superuser(url), key)
        assert patient.line("there are no tables").startswith("wrong")
        postgres.drop_database(url)
        assert "does not exist" in patient.line("cannot be used")


def test_commits_that_are_not_awaited(served):
    served.as_administrator(f"ALTER DATABASE {served.database} SET synchronous_commit = off")

    assert served.line("synchronous_commit = off").startswith("wrong")


def test_few_connections(served):
    served.installation.database.write(lambda tx: None)
    assert "may open 12" in served.line("connections of the database")

    served.as_administrator(f"ALTER DATABASE {served.database} CONNECTION LIMIT 10")
    assert served.line("there may be too few").startswith("look")
    served.as_administrator(f"ALTER DATABASE {served.database} CONNECTION LIMIT 4")
    assert served.line("about to be answered 503").startswith("wrong")


def test_a_clock_that_is_not_the_databases(served):
    with time_machine.travel(time.time() + 30, tick=True):
        assert served.line("s behind this machine's").startswith("look")


def test_another_timeline_and_since_when(served):
    assert "the same since" in served.line("timeline")
    before = served.installation.database.read().execute("SELECT max(last_id) FROM sequences").fetchone()[0]
    served.as_administrator("UPDATE coinslot.engine SET timeline = '00000000'")

    served.installation.database.write(lambda tx: None)

    assert served.line("Another server became the primary").startswith("look")
    assert served.installation.database.read().execute("SELECT max(last_id) FROM sequences").fetchone()[0] > before


def test_a_transaction_that_stays_open(served, monkeypatch):
    import psycopg

    monkeypatch.setattr("coinslot.store.postgres.state.LONG_SECONDS", 0)
    with psycopg.connect(served.url, application_name="somebody") as connection:
        connection.execute("SELECT 1")
        assert served.line("(somebody) is open").startswith("look")


def test_standbys_as_far_as_the_role_may_see_them(tmp_path, key):
    postgres.needs_postgres()
    with postgres.Cluster(fsync="on", full_page_writes="on") as cluster:
        url = postgres.Databases(cluster.url).add()
        role = url.partition("://")[2].partition(":")[0]
        patient = Patient(tmp_path / "home", url, cluster.url, key)
        patient.installation.prepare()
        assert patient.line("keeps what it confirms").startswith("ok")

        def name_standby(name: str) -> None:
            patient.as_administrator(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
            patient.as_administrator("SELECT pg_reload_conf()")
            sentence = "is empty" if name == "" else "standby"
            until(lambda: (sentence in patient.line("standby")) and patient, "the server has read it")

        name_standby("standby")
        assert patient.line("No synchronous standby is connected").startswith("wrong")
        with copying(cluster, tmp_path / "wal"):
            hidden = until(lambda: patient.line("are connected; their state is hidden"), "it copies")
            assert f"GRANT pg_monitor TO {role}" in hidden
            patient.as_administrator(f"GRANT pg_monitor TO {role}")
            assert until(lambda: patient.line("standby standby: streaming, sync"), "it is synchronous").startswith("ok")
            assert patient.line("a commit is confirmed when a standby has it").startswith("ok")
        until(lambda: patient.line("No synchronous standby is connected"), "it is gone")
        patient.installation.database.close()


def test_troubles_of_the_server_are_in_the_list_of_all(served):
    result = served.app.test_cli_runner().invoke(args=["trouble", "list", "--json"])

    assert "postgres:fsync" in {each["key"] for each in json.loads(result.stdout)}
