"""Where the processor time of one credit goes: in this process, one call after another, without gunicorn.

What a server needs beyond this sum, as ``bench credits`` prints it, is gunicorn's part and waking threads.
"""

import argparse
import io
import logging
import re
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app import create_app
from bench import sample
from bench.orders import GAME, KEYS, order, prepare_home
from coinslot.store.connection import connect
from handlers.appcharge.signature import sign

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

WARM_UP = 300
BATCH = 6  # credits under one COMMIT, as 16 callers make them


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--orders", type=int, default=5000, help="credits to measure (default 5,000)")


def run(arguments: argparse.Namespace) -> list[str]:
    """Measure and print, in microseconds of processor time per credit; there is no budget."""
    count = arguments.orders
    with tempfile.TemporaryDirectory(prefix="coinslot-bench-") as folder:
        home = Path(folder, "home")
        prepare_home(home)
        app = create_app({"COINSLOT_HOME": str(home)})
        logging.getLogger("app").handlers = [logging.StreamHandler(io.StringIO())]
        timed = Timed(connect(home / "coinslot.db", 16384))
        app.extensions["coinslot"].database.write = timed.write
        bare = each(sample.app, count)
        whole = each(app, count, timed.reset)
        timed.connection.close()
        app.extensions["coinslot"].database.close()
    in_ledger = timed.ledger / count
    statements = {sql: spent / count for sql, spent in timed.spent.most_common()}
    commits = statements.pop("COMMIT") + statements.pop("BEGIN IMMEDIATE")
    show("Flask alone: a sample that reads JSON and answers", bare)
    show("address, proof, reading, mapping, log line, answer", whole - bare - in_ledger - commits)
    show("the ledger's own code", in_ledger - sum(statements.values()))
    for sql, spent in statements.items():
        show(f"  {sql}", spent)
    show(f"BEGIN and COMMIT, shared by {BATCH}", commits)
    show("sum", whole)
    return []


def show(what: str, seconds: float) -> None:
    print(f"{seconds * 1e6:7.1f} us  {what}")


def each(app: "WSGIApplication", count: int, when_warm: Callable[[], None] = lambda: None) -> float:
    """Seconds of processor time per order."""
    environments = [environment(number) for number in range(WARM_UP + count)]
    for each in environments[:WARM_UP]:
        call(app, each)
    when_warm()
    began = time.thread_time()
    for each in environments[WARM_UP:]:
        call(app, each)
    return (time.thread_time() - began) / count


def call(app: "WSGIApplication", environ: dict[str, Any]) -> None:
    statuses: list[str] = []

    def start(status: str, *_: object) -> Callable[[bytes], object]:
        statuses.append(status)
        return len  # nothing is written through it

    b"".join(app(environ, start))
    if not statuses[0].startswith("200"):
        raise AssertionError(f"an order was answered {statuses[0]}")


def environment(number: int) -> dict[str, Any]:
    """A request as gunicorn hands it over."""
    body = order("profile", number)
    key = KEYS["appcharge.main_key"].encode()
    return {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": f"/appcharge/{GAME}/orders",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_X_PUBLISHER_TOKEN": KEYS["appcharge.publisher_token"],
        "HTTP_SIGNATURE": sign(body, key, str(int(time.time() * 1000))),
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


class Timed:
    """Runs writes in this thread, several under one COMMIT, and adds up what each statement takes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.spent: Counter[str] = Counter()  # statement -> seconds
        self.ledger = 0.0
        self._written = 0

    def reset(self) -> None:
        self.spent.clear()
        self.ledger = 0.0

    def write(self, function: Callable[[Any], Any], **_: Any) -> Any:
        if function.__qualname__ != "report.<locals>.write":
            return None  # what is observed of calls is written by another thread: left out here
        if self._written % BATCH == 0:
            self.execute("BEGIN IMMEDIATE")
        began = time.thread_time()
        self.execute("SAVEPOINT one_write")
        result = function(self)
        self.execute("RELEASE one_write")
        self.ledger += time.thread_time() - began
        self._written += 1
        if self._written % BATCH == 0:
            self.execute("COMMIT")
        return result

    def execute(self, sql: str, *values: Any) -> "Rows":
        return Rows(self._timed(sql, lambda: self.connection.execute(sql, *values).fetchall()))

    def executemany(self, sql: str, rows: Any) -> None:
        self._timed(sql, lambda: self.connection.executemany(sql, rows))

    def _timed(self, sql: str, run: Callable[[], Any]) -> Any:
        began = time.thread_time()
        result = run()
        self.spent[re.sub(r"\s+", " ", sql).strip()[:60]] += time.thread_time() - began
        return result


class Rows(list[Any]):
    """Rows that were fetched while the clock ran, where a cursor is expected."""

    def fetchone(self) -> Any:
        return self[0] if self else None

    def fetchall(self) -> list[Any]:
        return self
