"""Installations that tests back up, restore and prove, and what is in them."""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

from click.testing import Result
from flask import Flask

from app import create_app
from coinslot.access import keyring
from coinslot.access.vault import MasterKey
from coinslot.games import games
from coinslot.installation import Installation
from coinslot.operations.observations import Refusal
from coinslot.store.db import Connection
from handlers.appcharge.signature import sign
from handlers.commands import operate
from tests import databases
from tests.killing import Process
from tests.servers import Server

KEY, TOKEN = "backup-main-key", "backup-publisher-token"
ITEM_NAMES = "SELECT substr(sku, 1, 3), count(*) FROM items GROUP BY 1"

# Restores the file that it is given, and says when it begins and ends.
RESTORE = """
import sys
from pathlib import Path
from app import create_app
from coinslot.operations import restore
installation = create_app().extensions["coinslot"]
print("begins", flush=True)
restore.restore(installation.database, installation.vault, Path(sys.argv[1]))
print("ends", flush=True)
"""


class Place:
    """One installation in a folder, with its game ``demo``, as one process of it sees it."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.environment = environment
        self.app: Flask = create_app({**databases.environment(home), **environment})
        self.installation: Installation = self.app.extensions["coinslot"]
        self.path = home / "coinslot.db"  # the file, where SQLite is the engine

    def set_up(self) -> str:
        """Prepare it and add the game; returns the game's API token."""
        installation = self.installation
        installation.prepare()
        token = installation.database.write_here(lambda tx: games.add(tx, "demo", "Demo", "test"))

        def configure(tx: Connection) -> None:
            games.set_setting(tx, installation.catalogue, "demo", "players.unknown", "create", "test")
            games.set_setting(tx, installation.catalogue, "demo", "items.unknown", "accept", "test")
            keyring.put(tx, installation.vault, games.find(tx, "demo"), "appcharge.main_key", KEY, "test")
            keyring.put(tx, installation.vault, games.find(tx, "demo"), "appcharge.publisher_token", TOKEN, "test")

        installation.database.write_here(configure)
        return token

    def order(self, order_id: str) -> str:
        """Report an order; returns our id for it."""
        body, headers = signed_order(order_id)
        answer = self.app.test_client().post("/appcharge/demo/orders", data=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return str(answer.json["publisherPurchaseId"])

    def refuse_a_call(self) -> None:
        observations = self.installation.observations
        observations.refused(Refusal(None, "", "appcharge", "orders", "token", 401, "::1", 1, {"token": "hidden"}))
        observations.flush()

    def rotate_key(self) -> MasterKey:
        new = MasterKey.generate()
        self.installation.vault.rotate(self.installation.database, keyring.reseal, new)
        return new

    def run(self, command: Any, *args: object) -> Result:
        return self.app.test_cli_runner().invoke(command, [str(arg) for arg in args])

    def backup(self, file: Path) -> Result:
        result = self.run(operate.backup_command, file)
        assert result.exit_code == 0, result.output
        return result

    def restore(self, file: Path, *options: str) -> Result:
        result = self.run(operate.restore_command, file, *options)
        assert result.exit_code == 0, result.output
        return result

    def is_refused(self, file: Path) -> str:
        """Restoring ``file`` is refused in words and changes nothing; returns the words."""
        self.installation.observations.flush()  # or the thread that does would write something meanwhile
        before = self.content()
        result = self.run(operate.restore_command, file)
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert isinstance(result.exception, SystemExit)
        assert self.content() == before
        assert not list(self.home.glob(".restore-*"))
        assert not list(self.home.glob("coinslot.db.*"))
        return result.output

    def content(self) -> list[str]:
        """Everything stored; nothing where there is no database."""
        return databases.content(self.home) if databases.IS_POSTGRES or self.path.exists() else []

    def kept(self, sql: str) -> list[list[tuple[Any, ...]]]:
        """The rows of a query in each database that a restore has kept, the newest last."""
        if not databases.IS_POSTGRES:
            return [rows(file, sql) for file in sorted(self.home.glob("coinslot.db.before-restore-*"))]
        names = rows(self.home, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'coinslot_before%' ORDER BY 1")
        found = []
        with databases.connected(self.home) as connection:
            for (name,) in names:
                connection.execute(f"SET search_path TO {name}")
                found.append([tuple(row) for row in connection.execute(sql)])
        return found

    def add_large_items(self, count: int, name: str = "large") -> None:
        """In place of those that were added before; each has half a megabyte."""
        items = [{"sku": f"{name} {number}", "name": os.urandom(250_000).hex()} for number in range(count)]

        def write(tx: Connection) -> None:
            tx.execute("DELETE FROM items WHERE length(name) > 100000")
            tx.executemany(
                """INSERT INTO items (game_id, sku, name, created_at, updated_at)
                   VALUES (1, :sku, :name, '', '')""",
                items,
            )

        self.installation.database.write_here(write)

    def restore_or_be_killed(self, file: Path, most_seconds: float | None, chance: random.Random) -> float:
        """Restore in a process, whole, or killed by then where that is given; returns how many seconds it took."""
        with Process(self.home, "-c", RESTORE, file) as process:
            assert process.line() == "begins"
            began = time.monotonic()
            if most_seconds is None:
                assert process.line() == "ends"
            else:
                process.kill_after(most_seconds, chance)
            return time.monotonic() - began

    def close(self) -> None:
        self.installation.observations.flush()
        self.installation.database.close()


def signed_order(order_id: str) -> tuple[bytes, dict[str, str]]:
    order = {
        "orderId": order_id,
        "playerId": f"player of {order_id}",
        "products": [{"sku": "coins", "amount": 5}],
        "priceInCents": 100,
        "currency": "USD",
    }
    body = json.dumps(order).encode()
    signature = sign(body, KEY.encode(), str(int(time.time() * 1000)))
    return body, {"Content-Type": "application/json", "x-publisher-token": TOKEN, "signature": signature}


def rows(where: Path, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query in a home folder or a file, or what a statement changes there by hand."""
    return databases.tuples(where, sql)


def orders_in(where: Path) -> list[str]:
    return [row[0] for row in rows(where, "SELECT external_id FROM transactions ORDER BY id")]


def post(server: Server, order_id: str) -> tuple[int, str]:
    answer = server.post("/appcharge/demo/orders", *signed_order(order_id))
    return answer.status, answer.json.get("publisherPurchaseId", "")


def spoil_last(raw: bytes) -> bytes:
    """The last page, which is some table's. In the middle may stand the schema, without which no file even opens."""
    return raw[:-4096] + os.urandom(4096)
