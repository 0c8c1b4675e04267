"""How long a month takes to close and to reconcile, how much memory that needs, and how long others wait meanwhile."""

import argparse
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from app import create_app
from bench.orders import GAME, prepare_home
from bench.size import COPIED, copy_statement, credit_one
from coinslot.games import games
from coinslot.installation import Installation
from coinslot.settlement import closing, jobs, runs
from coinslot.settlement.columns import Layout
from handlers.kit import partner_reports

MONTH = "2026-07"
ROWS_AT_A_TIME = 100_000
CLOSE_SECONDS, RECONCILE_SECONDS = 10.0, 60.0
GROWTH_MIB = 64
WAIT_SECONDS = 0.5  # for another's write
KINDS = ("payments", "orders")
PARTNERS = {"payments": "playcamp", "orders": "appcharge"}
COLUMNS = {"reference": "transactionId", "kind": "status", "amount": "amount", "at": "purchasedAt"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rows", type=int, default=1_000_000, help="purchases of the month (default 1,000,000)")
    command.add_argument("--kind", choices=KINDS, action="append", help="of these alone (default: payments and orders)")


def run(arguments: argparse.Namespace) -> list[str]:
    """Print the figures; returns the budgets that were missed."""
    missed = []
    for kind in arguments.kind or KINDS:
        with tempfile.TemporaryDirectory(prefix="coinslot-bench-") as folder:
            home = Path(folder, "home")
            began = time.perf_counter()
            fill(home, kind, arguments.rows)
            report = Path(folder, "report.csv")
            write_report(home, kind, report)
            print(f"{kind}: {arguments.rows:,} rows, filled in {time.perf_counter() - began:.0f} s", flush=True)
            for what, budget in (("close", CLOSE_SECONDS), ("reconcile", RECONCILE_SECONDS)):
                seconds, busy, growth, waited = _measured(home, what, kind, report)
                print(
                    f"{kind:9} {what:10} {seconds:5.1f} s (budget {budget:.0f}; {busy:.1f} s of computing)   "
                    f"memory grew by {growth:5.1f} MiB (budget {GROWTH_MIB})   "
                    f"longest wait of another's write {waited * 1000:4.0f} ms (budget {WAIT_SECONDS * 1000:.0f})",
                    flush=True,
                )
                if seconds > budget:
                    missed.append(f"{kind}: {what} took {seconds:.1f} s, not {budget:.0f}")
                if growth > GROWTH_MIB:
                    missed.append(f"{kind}: {what} grew by {growth:.1f} MiB, not {GROWTH_MIB}")
                if waited > WAIT_SECONDS:
                    missed.append(f"{kind}: during {what} another's write waited {waited:.2f} s, not {WAIT_SECONDS}")
    return missed


def fill(home: Path, kind: str, rows: int) -> None:
    """A month of purchases, of 1,000 players; each tenth of them supports one of ten creators."""
    prepare_home(home)
    installation: Installation = create_app({"COINSLOT_HOME": str(home)}).extensions["coinslot"]
    installation.database.write_here(
        lambda tx: games.set_setting(tx, installation.catalogue, GAME, "settlement.share", "10", "bench")
    )
    if kind == "orders":
        credit_one(home)
    connection = sqlite3.connect(home / "coinslot.db", isolation_level=None)
    try:
        # Nobody else looks at the file and nothing of it must survive a crash.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -200000")
        statements = [_PAYMENTS] if kind == "payments" else _copies(connection)
        for done in range(1, rows + 1, ROWS_AT_A_TIME):
            values = {"least": done, "most": min(done + ROWS_AT_A_TIME - 1, rows), "rows": rows, "players": 1000}
            values |= {"first_transaction": 1, "first_grant": 1}
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(statement, values)
            connection.execute("COMMIT")
        connection.execute(_BOOSTS)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


# Over the month, each up to two hours before or after its neighbours, as payments of several stores come.
_AT = "strftime('%Y-%m-%dT%H:%M:%S.000000Z', 1782864000 + n * 2671200 / (:rows + 1) + (n * 7919) % 7200, 'unixepoch')"
_PAYMENTS = f"""
    WITH RECURSIVE numbers (n) AS (SELECT :least UNION ALL SELECT n + 1 FROM numbers WHERE n < :most)
    INSERT INTO payments (game_id, transaction_id, source, player_id, product_id, amount, currency, market, platform,
                          distribution_type, purchased_at, reported, fingerprint, is_test, refunded_at, state,
                          registered_at, created_at, updated_at)
    SELECT 1, 'GP-' || (n * 7919 % 1000003) || '-' || n, 'push', printf('player-%05d', n % :players),
           'gems_' || (n % 20), (1 + n % 100) || '.99', CASE n % 3 WHEN 0 THEN 'EUR' ELSE 'USD' END, 'google',
           'Android', 'MOBILE_STORE', {_AT},
           '{{"transactionId":"GP-' || n || '","userId":"player-00001","productId":"gems","amount":"9.99"}}',
           lower(hex(randomblob(32))), 0, CASE WHEN n % 50 = 0 THEN {_AT} END, 'registered', {_AT}, {_AT}, {_AT}
    FROM numbers"""
_BOOSTS = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100)
    INSERT INTO events (id, game_id, partner, type, dedupe_key, player_id, data, environment, is_test, occurred_at,
                        received_at)
    SELECT 1000000000 + n, 1, 'playcamp', 'sponsor.created', 'b' || n, printf('player-%05d', n * 10),
           '{"campaign_id": "camp_1", "creator_key": "CRE0' || (n % 10) || '"}', 'live', 0,
           '2026-06-01T00:00:00.000000Z', '2026-06-01T00:00:00.000000Z' FROM numbers"""


def _copies(connection: sqlite3.Connection) -> list[str]:
    of_first = {"transaction": 1, "grant": 1}
    copied = []
    for table, owner, changed in COPIED:
        if table == "transactions":
            changed = changed | {"occurred_at": _AT, "received_at": _AT, "usd_fee": "'49.95'", "usd_net": "'949.05'"}
        copied.append(copy_statement(connection, table, owner, of_first, changed))
    return copied


def write_report(home: Path, kind: str, report: Path) -> None:
    """The partner's report: as ours, but each thousandth row lacks there, has another amount, or is refunded there."""
    connection = sqlite3.connect(home / "coinslot.db")
    if kind == "payments":
        rows = connection.execute(
            """SELECT id, transaction_id, amount, currency, CASE WHEN refunded_at IS NULL THEN 'COMPLETED'
                      ELSE 'REFUNDED' END, purchased_at FROM payments ORDER BY purchased_at"""
        )
    else:
        rows = connection.execute(
            """SELECT id, external_id, gross_minor / 100.0, currency, 'paid', occurred_at FROM transactions
               WHERE occurred_at < '2026-08' ORDER BY occurred_at"""
        )
    with report.open("w") as file:
        file.write("transactionId,amount,currency,status,purchasedAt\n")
        for number, reference, amount, currency, status, at in rows:
            if number % 1000 == 1:
                continue
            shown = f"{amount:.2f}" if isinstance(amount, float) else amount
            if number % 1000 == 2:
                shown = "0.50"
            if number % 1000 == 3:
                status = "REFUNDED" if kind == "payments" else "refund"
            file.write(f"{reference},{shown},{currency},{status},{at}\n")
        for number in range(1000):
            file.write(f"NOWHERE-{number},9.99,USD,{'COMPLETED' if kind == 'payments' else 'paid'},2026-07-15\n")
    connection.close()


def _measured(home: Path, what: str, kind: str, report: Path) -> tuple[float, float, float, float]:
    """Seconds, those of computing, and growth of memory in a process of its own; the longest write of this one."""
    installation: Installation = create_app({"COINSLOT_HOME": str(home)}).extensions["coinslot"]
    waits = []
    command = [sys.executable, "-m", "bench.settlement", str(home), what, kind, str(report)]
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(0.02):
            began = time.perf_counter()
            installation.database.write(lambda tx: tx.execute("UPDATE games SET acked_at = 'x' WHERE slug = 'nobody'"))
            waits.append(time.perf_counter() - began)

    thread = threading.Thread(target=write)
    thread.start()
    told, _ = process.communicate()
    ended.set()
    thread.join()
    installation.database.close()
    if process.returncode:
        raise RuntimeError(f"{what} failed")
    seconds, busy, growth = (float(word) for word in told.split())
    return seconds, busy, growth, max(waits, default=0.0)


def _do(home: str, what: str, kind: str, report: str) -> None:
    app = create_app({"COINSLOT_HOME": home})
    installation: Installation = app.extensions["coinslot"]
    game = installation.games.by_slug(GAME)
    assert game is not None
    before = _memory_mib("VmRSS")
    began, busy = time.perf_counter(), time.process_time()
    if what == "close":
        closing.close(installation.database, game, installation.in_game, MONTH, "bench")
    else:
        partner = {each.name: each for each in app.extensions["coinslot.partners"]}[PARTNERS[kind]]
        layout = Layout.of(partner.report, COLUMNS, "major")
        file = (Path(report), layout)
        run_id = partner_reports.begin(installation, game, MONTH, partner, "bench", file, is_background=False)
        jobs.take_file(installation.database, run_id, *file)
        jobs.carry_on(
            installation.database, run_id, partner_reports.reader(installation, game, partner.report), float("inf")
        )
        run = runs.run_by_id(installation.database.read(), run_id)
        assert run is not None
        found = ", ".join(f"{each.count} {each.result} {each.currency}" for each in run.summary)
        print(f"          matched {run.matched:,}; {found}", file=sys.stderr)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    print(seconds, busy, _memory_mib("VmHWM") - before)
    installation.database.close()


def _memory_mib(name: str) -> float:
    """Of this process, now or at most. (What getrusage tells begins with the memory of the process that started it.)"""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    _do(*sys.argv[1:])
