"""A throwaway PostgreSQL for tests, and fresh databases in it.

The first call of a process starts a cluster in a temporary folder: no network, a Unix socket in that folder, nothing
flushed to the disk. It ends with the process, however that ends, and its folder is deleted. Where ``TEST_POSTGRES`` is
the URL of a superuser of a running cluster, that one is used instead, and what was made in it is dropped.

Sub-processes are given the URL of a database; they start no cluster.
"""

import atexit
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tests.waiting import until

START_SECONDS = 60.0
STOP_SECONDS = 60.0

SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "max_connections": "200",
    "shared_buffers": "32MB",
}
# Ends the cluster and deletes its folder as soon as the pipe on its standard input is closed: by us, or by our death.
KEEPER = r"""
trap '' HUP INT TERM
folder=$1 programs=$2; shift 2
"$programs/initdb" --pgdata "$folder/data" --username=postgres --auth=trust --locale=C --encoding=UTF8 --no-sync \
    --no-instructions </dev/null >"$folder/log" 2>&1 || { cat "$folder/log" >&2; rm -rf "$folder"; exit 1; }
"$programs/postgres" -D "$folder/data" "$@" </dev/null >>"$folder/log" 2>&1 & pid=$!
echo $pid >"$folder/pid"
while read -r _; do :; done
kill -QUIT $pid 2>/dev/null
kill -CONT $pid 2>/dev/null  # a test may have stopped it
wait $pid
rm -rf "$folder"
"""

_lock = threading.RLock()


def find_programs() -> Path | None:
    """The folder with initdb and postgres, of the newest version; Debian has them in no path."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    if found:
        return max(found, key=lambda folder: int(folder.parent.name))
    return None if on_path is None else Path(on_path).resolve().parent


def needs_postgres() -> None:
    """Skip the test for who has no PostgreSQL or no psycopg. The checks must have both."""
    import pytest

    missing = "" if find_programs() or os.environ.get("TEST_POSTGRES") else "PostgreSQL is not installed"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        missing = "psycopg is not installed"
    if missing:
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)


class Cluster:
    """One cluster in a temporary folder. As a context manager it is gone in the end, however that came.

    ``settings`` go beside :data:`SETTINGS` or in their place.
    """

    def __init__(self, **settings: str) -> None:
        programs = find_programs()
        assert programs is not None, "PostgreSQL is not installed"
        # Short, for a socket's path has about 100 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="coinslot-pg-", dir="/tmp"))
        where = f"host={quote(str(self.folder), safe='')}&port={settings.get('port', '5432')}"
        self.url = f"postgresql://postgres@/postgres?{where}"
        self._maker = os.getpid()
        user: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            entry = pwd.getpwnam("postgres")
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        chosen = SETTINGS | {"unix_socket_directories": str(self.folder)} | settings
        options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", KEEPER, "sh", self.folder, programs, *options],
            stdin=subprocess.PIPE,
            cwd="/",
            env=environment | {"LC_ALL": "C"},
            start_new_session=True,
            **user,
        )
        atexit.register(self.stop)
        try:
            until(self._answers, "PostgreSQL answers", START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            log = self.folder / "log"
            assert self._keeper.poll() is None, "the cluster ended"
            assert not log.exists() or "FATAL:  could not" not in log.read_text(), log.read_text()
            return False
        return True

    @property
    def pid(self) -> int:
        """Of the postmaster, for tests that kill it."""
        return int((self.folder / "pid").read_text())

    def stop(self) -> None:
        """End it without a shutdown checkpoint and delete its folder. Harmless when that was done."""
        if self._keeper.stdin is None or os.getpid() != self._maker:
            return  # a forked child, whose parent still uses it
        self._keeper.stdin.close()
        self._keeper.stdin = None
        try:
            self._keeper.wait(STOP_SECONDS)
        finally:
            atexit.unregister(self.stop)

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Databases:
    """Databases in one cluster, owned by a role of their own that is no superuser.

    Their own order of texts is that of English, as on most servers: whatever relies on it instead of our columns'
    order shows.
    """

    def __init__(self, url: str) -> None:
        """``url``: a superuser's."""
        self.url = url
        self._role, self._password = f"coinslot_{secrets.token_hex(4)}", secrets.token_hex(8)
        self._made: set[str] = set()
        self._execute(f"CREATE ROLE {self._role} LOGIN PASSWORD '{self._password}'")
        is_new, has_icu = self._execute(
            """SELECT current_setting('server_version_num')::int >= 150000,
                      EXISTS (SELECT 1 FROM pg_collation WHERE collprovider = 'i')"""
        )
        self._order = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'" if is_new and has_icu else ""

    def _execute(self, statement: str) -> tuple[Any, ...]:
        """Run it; returns the first row, if it gives any."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            done = connection.execute(statement)
            return (done.fetchone() or ()) if done.description else ()

    def add(self, template: str = "") -> str:
        name = f"{self._role}_{secrets.token_hex(4)}"
        source = f'"{database_name(template)}"' if template else f"template0 ENCODING 'UTF8' {self._order}"
        self._execute(f'CREATE DATABASE "{name}" OWNER {self._role} TEMPLATE {source}')
        self._made.add(name)
        return with_user(with_database(self.url, name), f"{self._role}:{self._password}")

    def drop(self, url: str) -> None:
        name = database_name(url)
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self._made.discard(name)

    def close(self) -> None:
        for name in list(self._made):
            self.drop(with_database(self.url, name))
        self._execute(f"DROP ROLE {self._role}")


def database_name(url: str) -> str:
    return unquote(urlsplit(url).path.removeprefix("/"))


def with_database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def with_user(url: str, user: str) -> str:
    """``user``: a name, or ``name:password``."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}").geturl()


@cache
def _databases(_process: int) -> Databases:
    outside = os.environ.get("TEST_POSTGRES")
    found = Databases(outside or Cluster().url)
    if outside:
        atexit.register(found.close)
    return found


def databases() -> Databases:
    """Those of this process; the first call starts the cluster."""
    needs_postgres()
    with _lock:
        return _databases(os.getpid())


def new_database(template: str = "") -> str:
    """The URL of a fresh database, empty or a copy of ``template``, a URL got here to which nobody is connected.

    Its role owns the database and is no superuser.
    """
    return databases().add(template)


def drop_database(url: str) -> None:
    """Drop a database that was got from :func:`new_database`, and end all connections to it."""
    databases().drop(url)


@contextmanager
def fresh_database(template: str = "") -> Iterator[str]:
    """:func:`new_database` for a while."""
    url = new_database(template)
    try:
        yield url
    finally:
        drop_database(url)


def superuser(url: str) -> str:
    """The URL of the same database for the cluster's superuser, for tests that look at or end other connections."""
    return with_database(databases().url, database_name(url))
