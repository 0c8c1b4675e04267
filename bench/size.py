"""The credit path with many transactions stored, against an empty database."""

import argparse
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from types import MappingProxyType

from app import create_app
from bench.credits import DURABLE, WARM_UP_SECONDS, measure, print_load
from bench.load import Load
from bench.orders import GAME, KEYS, MOST_PER_SECOND, PLAYERS, order, prepare_home, write_orders
from handlers.appcharge.signature import sign

LEAST_OF_EMPTY = 0.9
MOST_BYTES = 1800  # of the file, per credit, with all indexes
BUDGET_ROWS = 10_000_000
ROWS_AT_A_TIME = 100_000

# Table, which of its rows are copied, and what differs in each copy.
Copied = tuple[tuple[str, str, dict[str, str]], ...]


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rows", type=int, default=1_000_000, help="transactions stored before (default 1,000,000)")
    command.add_argument("--full", action="store_true", help=f"{BUDGET_ROWS:,} rows, as the budget says (about 18 GB)")
    command.add_argument("--seconds", type=int, default=10, help="per run (default 10)")
    command.add_argument("--rounds", type=int, default=3, help="turns each side gets (default 3)")
    command.add_argument("--folder", type=Path, help="where to put the files (default: the temporary folder)")


def run(arguments: argparse.Namespace) -> list[str]:
    """Measure and print; returns the budgets missed, as sentences."""
    rows = BUDGET_ROWS if arguments.full else arguments.rows
    loads: dict[str, list[Load]] = {"empty": [], "filled": []}
    with tempfile.TemporaryDirectory(prefix="coinslot-bench-", dir=arguments.folder) as folder:
        template, filled = Path(folder, "template"), Path(folder, "filled")
        prepare_home(template)
        shutil.copytree(template, filled)
        began = time.perf_counter()
        fill(filled, rows)
        size = (filled / "coinslot.db").stat().st_size
        each = size / rows
        print(
            f"{rows:,} transactions, {size / 1e9:.1f} GB, {each:,.0f} bytes each (budget <= {MOST_BYTES:,}), "
            f"filled in {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        for turn in range(arguments.rounds):
            count = (arguments.seconds + WARM_UP_SECONDS) * MOST_PER_SECOND
            orders = write_orders(Path(folder, "orders"), count, f"size-{turn}")
            empty = Path(folder, f"empty-{turn}")
            shutil.copytree(template, empty)
            for name, home in (("empty", empty), ("filled", filled)):
                load = measure(home, DURABLE, orders, arguments.seconds, arguments.callers)
                loads[name].append(load)
                print_load(f"round {turn + 1}, {name}", load)
            shutil.rmtree(empty)

    ratio = median(load.per_second for load in loads["filled"]) / median(load.per_second for load in loads["empty"])
    print(f"\nfilled / empty  {ratio:.2f}  (budget >= {LEAST_OF_EMPTY} at {BUDGET_ROWS:,} rows)")
    missed = [] if ratio >= LEAST_OF_EMPTY else [f"{ratio:.2f} of the empty database's rate, not {LEAST_OF_EMPTY}"]
    return missed + ([] if each <= MOST_BYTES else [f"{each:,.0f} bytes per credit, more than {MOST_BYTES:,}"])


def fill(home: Path, rows: int, copied: Copied | None = None) -> None:
    """Credit one real order and copy its rows until there are ``rows`` transactions.

    Sizes and the disorder of the keys are those of real orders, whatever columns the schema has. Hashes and ids of the
    copies are random, so the chain does not hold, and the ledger's own check must not be run on it. ``copied`` says
    what differs in each copy; :data:`COPIED` when it is left out.
    """
    credit_one(home)
    connection = sqlite3.connect(home / "coinslot.db", isolation_level=None)
    try:
        # Nobody else looks at the file and nothing of it must survive a crash.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -1000000")
        ((first_grant, first_transaction),) = connection.execute("SELECT id, transaction_id FROM grants").fetchall()
        of_first = {"transaction": first_transaction, "grant": first_grant}
        statements = [
            copy_statement(connection, table, owner, of_first, changed) for table, owner, changed in copied or COPIED
        ]
        for done in range(1, rows, ROWS_AT_A_TIME):
            values = {"least": done, "most": min(done + ROWS_AT_A_TIME, rows) - 1, "players": PLAYERS}
            values |= {"first_transaction": first_transaction, "first_grant": first_grant}
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(statement, values)
            connection.execute("COMMIT")
        connection.execute("UPDATE sequences SET last_id = last_id + :more WHERE name = 'grants'", {"more": rows - 1})
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


def credit_one(home: Path, more: Mapping[str, str] = MappingProxyType({})) -> None:
    app = create_app({"COINSLOT_HOME": str(home), **more})
    body = order("fill", 0)
    headers = {
        "x-publisher-token": KEYS["appcharge.publisher_token"],
        "signature": sign(body, KEYS["appcharge.main_key"].encode(), str(int(time.time() * 1000))),
    }
    answer = app.test_client().post(f"/appcharge/{GAME}/orders", data=body, headers=headers)
    app.extensions["coinslot"].database.close()
    if answer.status_code != 200:
        raise AssertionError(f"the first order was answered {answer.status}")


def copy_statement(
    connection: sqlite3.Connection, table: str, owner: str, of_first: dict[str, int], changed: dict[str, str]
) -> str:
    """Inserts copies of the first order's rows, numbered on from it; every column not in ``changed`` is kept."""
    # Set aside, since finding them again among millions may have no index.
    connection.execute(f"CREATE TEMP TABLE first_of_{table} AS SELECT * FROM main.{table} WHERE {owner}", of_first)
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    wanted = ", ".join(changed.get(column, column) for column in columns)
    return f"""WITH RECURSIVE numbers (n) AS (SELECT :least UNION ALL SELECT n + 1 FROM numbers WHERE n < :most)
               INSERT INTO {table} ({", ".join(columns)}) SELECT {wanted} FROM numbers, temp.first_of_{table}"""


PLAYER = "printf('player-%05d', n % :players)"
HASH = "lower(hex(randomblob(32)))"
COPIED: Copied = (
    (
        "transactions",
        "id = :transaction",
        {"id": ":first_transaction + n", "public_id": "lower(hex(randomblob(18)))", "player_id": PLAYER}
        | {"external_id": "lower(hex(randomblob(8)))", "reference": "lower(hex(randomblob(8)))"}
        | {"fingerprint": HASH, "body_sha256": HASH, "previous_hash": HASH, "row_hash": HASH},
    ),
    (
        "transaction_keys",
        "transaction_id = :transaction",
        {"transaction_id": ":first_transaction + n", "value": "lower(hex(randomblob(8)))"},
    ),
    (
        "grants",
        "id = :grant",
        {"id": ":first_grant + n", "transaction_id": ":first_transaction + n", "player_id": PLAYER},
    ),
    ("entries", "grant_id = :grant", {"grant_id": ":first_grant + n"}),
)
