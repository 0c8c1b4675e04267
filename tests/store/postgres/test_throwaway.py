"""The cluster that tests use is gone when they are, however they end."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import postgres
from tests.servers import ROOT, until

pytestmark = pytest.mark.long

CHILD = """
import signal, time
from tests import postgres
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background ignores it
with postgres.Cluster() as cluster:
    print(cluster.folder, cluster.pid, flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_a_cluster_however_its_process_ends(end):
    postgres.needs_postgres()
    with subprocess.Popen([sys.executable, "-c", CHILD], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            folder, pid = child.stdout.readline().split()
            assert Path(f"/proc/{pid}").exists()
            child.send_signal(end)
            child.wait(30)
        finally:
            child.kill()

    until(lambda: not Path(folder).exists() and not Path(f"/proc/{pid}").exists(), "it is gone", 30)


def test_a_database_is_empty_or_a_copy_and_its_role_is_no_superuser():
    postgres.needs_postgres()
    import psycopg

    with postgres.fresh_database() as first:
        with psycopg.connect(first) as connection:
            connection.execute("CREATE SCHEMA coinslot")
            connection.execute("CREATE TABLE coinslot.t AS SELECT 'ä' AS x")
            about = (
                "SELECT rolsuper, rolcreatedb, current_setting('server_encoding') FROM pg_roles WHERE rolname = user"
            )
            assert connection.execute(about).fetchone() == (False, False, "UTF8")
        with postgres.fresh_database(first) as copy, psycopg.connect(copy) as connection:
            assert connection.execute("SELECT x FROM coinslot.t").fetchall() == [("ä",)]
        with postgres.fresh_database() as other, psycopg.connect(other) as connection:
            assert connection.execute("SELECT to_regclass('coinslot.t')").fetchone() == (None,)

    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(first)
