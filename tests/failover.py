"""PostgreSQL's primary is killed under load, and its synchronous standby is promoted: ``python -m tests.failover``.

Two servers have both in their address (``host=first,second``). Partners report orders until they are acknowledged, a
game reads its feed; then everything is compared. Printed is how long no order was acknowledged; nobody waits for a
failover manager here, which needs some seconds more to find out.
"""

import argparse
import atexit
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from tests.postgres import SETTINGS, Cluster, find_programs
from tests.server.two_servers import Pair, Poller, report, two_servers
from tests.servers import end_with_parent, until

CALLERS = 8
LOAD_SECONDS = 3.0
DURABLE = {"fsync": "on", "full_page_writes": "on"}


class Standby:
    """A copy of a running cluster that follows it. As a context manager it is gone in the end."""

    def __init__(self, primary: Cluster) -> None:
        programs = find_programs()
        assert programs is not None
        self._folder = tempfile.TemporaryDirectory(prefix="coinslot-pg-", dir="/tmp")
        self.folder = Path(self._folder.name)
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}
        source = f"host={primary.folder} user=postgres application_name=standby"
        copy = [programs / "pg_basebackup", "-D", self.folder / "data", "-R", "-c", "fast", "-d", source]
        subprocess.run(copy, check=True, capture_output=True, **user)
        # A copy may not have fewer connections.
        settings = {**DURABLE, "listen_addresses": "", "max_connections": SETTINGS["max_connections"]}
        command = [programs / "postgres", "-D", self.folder / "data", "-c", f"unix_socket_directories={self.folder}"]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=end_with_parent, **user)
        atexit.register(self._process.kill)

    def promote(self) -> None:
        with psycopg.connect(f"host={self.folder} user=postgres", autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def __enter__(self) -> "Standby":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)
        atexit.unregister(self._process.kill)
        self._folder.cleanup()


def wait_for_copy(primary: Cluster) -> None:
    """From now on each commit is confirmed once the standby has it."""
    with psycopg.connect(primary.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        connection.execute("SELECT pg_reload_conf()")
        state = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        until(lambda: connection.execute(state).fetchone(), "the standby is waited for", 30)


def kill(primary: Cluster) -> None:
    """All its processes at once."""
    postmaster = primary.pid
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(postmaster)], capture_output=True, text=True, check=True
    )
    for pid in [postmaster, *map(int, children.stdout.split())]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Load:
    """Partners: each order goes to one server and, until it is acknowledged, to the other and again."""

    def __init__(self, pair: Pair) -> None:
        self.sent: set[str] = set()
        self.acknowledged: dict[str, float] = {}
        self.refused: Counter[int] = Counter()
        self._pair = pair
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(caller,)) for caller in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, caller: int) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            order_id = f"order-{caller}-{number}"
            self.sent.add(order_id)
            tries = caller
            while (status := report(self._pair.servers[tries % 2], order_id)[0]) != 200:
                self.refused[status] += 1
                tries += 1
                time.sleep(0.05)
            self.acknowledged[order_id] = time.monotonic()

    def gap(self) -> float:
        """The longest time in which nothing was acknowledged, in seconds."""
        moments = sorted(self.acknowledged.values())
        return max(after - before for before, after in pairwise(moments))


def turn() -> str:
    """One failover; returns what was measured. Raises AssertionError for what is lost, doubled or passed over."""
    with (
        tempfile.TemporaryDirectory(prefix="coinslot-failover-") as folder,
        Cluster(**DURABLE) as primary,
        Standby(primary) as standby,
    ):
        wait_for_copy(primary)
        hosts = ",".join(quote(str(each.folder), safe="") for each in (primary, standby))
        with two_servers(Path(folder), f"postgresql://postgres@/postgres?host={hosts}") as pair:
            with Poller(pair.servers[1], pair.studio.token) as poller:
                load = Load(pair)
                try:
                    time.sleep(LOAD_SECONDS)
                    before = len(load.acknowledged)
                    began = time.monotonic()
                    kill(primary)
                    standby.promote()
                    promoted = time.monotonic() - began
                    until(lambda: len(load.acknowledged) > before + 100, "orders are acknowledged again", 60)
                    time.sleep(LOAD_SECONDS)
                finally:
                    load.end()
            credited = pair.credited()
            assert credited == dict.fromkeys(load.acknowledged, 1), "lost or doubled"
            assert load.sent == load.acknowledged.keys()
            ids = pair.feed_ids()
            assert poller.ids == ids, "the feed passed over grants, or gave some twice"
            assert poller.wrong == []
            jump = max(after - before for before, after in pairwise(ids))
            assert jump > 1_000_000, "the ids did not jump"
            pair.assert_sound()
            until(lambda: not pair.owed(), "everything is delivered", 120)
            assert len(set(pair.receiver.webhook_ids)) == len(ids)
            repeated = len(pair.receiver.webhook_ids) - len(ids)
    return (
        f"{len(ids)} orders acknowledged, each credited once; no answer for {load.gap():.1f} s, of which "
        f"{promoted:.1f} s until the standby was promoted; refused meanwhile: {dict(load.refused)}; "
        f"the feed complete, its ids jumped by {jump}; {repeated} deliveries sent again"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often (default 3)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for number in range(parser.parse_args().rounds):
        print(f"{number + 1}: {turn()}", flush=True)


if __name__ == "__main__":
    main()
