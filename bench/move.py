"""An installation moves to PostgreSQL and back, with a game that reads its feed all the while.

Real orders are credited, moved there, more are credited, and all are moved back. Rows, sums, ids and the hash chain are
compared by statements of this file's own, and the game must have read every grant once, by one cursor.
"""

import argparse
import base64
import logging
import secrets
import tempfile
import time
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

from flask import Flask

from app import create_app
from bench.engines import cluster, fresh
from bench.orders import GAME, KEYS, order, prepare_home
from coinslot.access.vault import Vault
from coinslot.games import games
from coinslot.ledger import chain
from coinslot.operations import moving
from coinslot.store import copying
from coinslot.store.db import Connection, open_database
from handlers.appcharge.signature import sign

LATER = 100  # orders after each move
LISTED = 1000  # grants that the game asks for at a time


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rows", type=int, default=100_000, help="transactions (default 100,000)")
    command.add_argument(
        "--database", metavar="URL", help="a PostgreSQL database without Coinslot (default: one is made)"
    )


def run(arguments: argparse.Namespace) -> list[str]:
    """Move and print; raises AssertionError for whatever is not as it was."""
    logging.disable(logging.INFO)
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    with ExitStack() as stack:
        home = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coinslot-bench-", ignore_cleanup_errors=True)))
            / "home"
        )
        url = arguments.database or stack.enter_context(cluster())
        stack.enter_context(fresh(url))
        here = {"COINSLOT_HOME": str(home), "COINSLOT_MASTER_KEY": key}
        there = here | {"COINSLOT_DATABASE": url}
        prepare_home(home, here)
        sqlite, postgres = create_app(here), create_app(there)
        token = _database(sqlite).write_here(lambda tx: games.replace_token(tx, GAME, "bench"))
        game = _Game(token)
        vault = Vault(home, key)

        began = time.perf_counter()
        _credit(sqlite, range(arguments.rows))
        print(f"{arguments.rows:,} orders credited in {time.perf_counter() - began:.0f} s", flush=True)
        game.read(sqlite)
        before = _figures(sqlite)
        _move(sqlite, vault, open_database(home, url), "SQLite to PostgreSQL")
        _same(before, _figures(postgres))
        _credit(postgres, range(arguments.rows, arguments.rows + LATER))
        game.read(postgres)
        before = _figures(postgres)
        _database(sqlite).close()  # as a server that was stopped: the file it has open is moved aside
        _move(postgres, vault, open_database(home), "PostgreSQL to SQLite")
        sqlite = create_app(here)
        _same(before, _figures(sqlite))
        _credit(sqlite, range(arguments.rows + LATER, arguments.rows + 2 * LATER))
        game.read(sqlite)

        total = arguments.rows + 2 * LATER
        assert game.ids == list(range(1, total + 1)), "the game has not read each grant once, in order"
        faults = list(chain.verify(_database(sqlite).read()))
        assert faults == [], faults[:3]
        print(f"the game has read {total:,} grants, each once and in order, by one cursor; the hash chain is whole")
        for app in (sqlite, postgres):
            app.extensions["coinslot"].observations.flush()
            _database(app).close()
    return []


class _Game:
    def __init__(self, token: str) -> None:
        self.ids: list[int] = []
        self._token = token

    def read(self, app: Flask) -> None:
        """Go on from the last id that was read."""
        while True:
            after = self.ids[-1] if self.ids else 0
            path = f"/game/v1/grants?after={after}&limit={LISTED}"
            answer = app.test_client().get(path, headers={"Authorization": f"Bearer {self._token}"})
            assert answer.status_code == 200, answer.text
            found = [int(grant["id"]) for grant in answer.get_json()["grants"]]
            if not found:
                return
            self.ids += found


def _credit(app: Flask, numbers: range) -> None:
    client = app.test_client()
    for number in numbers:
        body = order("move", number)
        headers = {
            "Content-Type": "application/json",
            "x-publisher-token": KEYS["appcharge.publisher_token"],
            "signature": sign(body, KEYS["appcharge.main_key"].encode(), str(int(time.time() * 1000))),
        }
        answer = client.post(f"/appcharge/{GAME}/orders", data=body, headers=headers)
        assert answer.status_code == 200, answer.text


def _move(app: Flask, vault: Vault, target: Any, what: str) -> None:
    done = moving.move(_database(app), vault, target)
    assert done.chain_faults == ()
    print(f"{what}: {copying.total_of(done.rows)}, copied and compared in {done.seconds:.1f} s", flush=True)


def _figures(app: Flask) -> dict[str, Any]:
    """What must be the same on both sides. The audit gets a line from the move itself."""
    connection: Connection = _database(app).read()

    def one(sql: str) -> tuple[Any, ...]:
        return tuple(connection.execute(sql).fetchone())

    quantities = connection.execute("SELECT quantity FROM entries").fetchall()
    last_hash = "SELECT id, {0} FROM {1} ORDER BY id DESC LIMIT 1"
    return {
        "rows": {name: count for name, count in copying.counts(connection).items() if name != "audit"},
        "money": one("SELECT count(*), sum(gross_minor), sum(tax_minor), min(id), max(id) FROM transactions"),
        "grants": one("SELECT count(*), min(id), max(id), sum(id) FROM grants"),
        "quantities": sum(Decimal(row[0]) for row in quantities),
        "chain": (one(last_hash.format("row_hash", "transactions")), one(last_hash.format("grant_hash", "grants"))),
        "sequences": [tuple(row) for row in connection.execute("SELECT name, last_id FROM sequences ORDER BY name")],
    }


def _same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name, value in before.items():
        assert after[name] == value, f"{name}: {value} was, {after[name]} is"
    print(f"the same on both sides: {', '.join(before)}", flush=True)


def _database(app: Flask) -> Any:
    return app.extensions["coinslot"].database
