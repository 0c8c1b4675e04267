"""A year of a busy game on the disk: what each table takes, what pages cost, and what retention gives back.

Orders, events, refused calls, deliveries, reports and counters are copies of rows that the product itself wrote, spread
over the 365 days before now. The steps may be run apart on one folder: ``--home FOLDER --steps fill``, then others.
"""

import argparse
import json
import sqlite3
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from app import create_app
from bench import pages, size
from bench.credits import WARM_UP_SECONDS, Quiet, print_load
from bench.load import Load, drive
from bench.orders import GAME, KEYS, MOST_PER_SECOND, order, prepare_home, write_orders
from bench.server import serve
from bench.size import COPIED, Copied, copy_statement
from coinslot.base import clock
from coinslot.games import games
from coinslot.games.retention import FOREVER, SETTINGS
from coinslot.installation import Installation
from coinslot.ledger import events, policies, refunds, refused
from coinslot.operations import retention, search_job
from coinslot.outbox import destinations
from coinslot.settlement import closing, states
from coinslot.store.db import Connection
from handlers.appcharge.signature import sign

STEPS = ("fill", "sizes", "pages", "load", "delete")
DAYS = 365
REFUNDED = 100  # one order in so many
REFUSED = 100  # one call refused for so many orders, and mended since
TWICE = 20  # one delivery in so many took two attempts
STORE_EVENTS = 6  # one event in so many has a body; the others are sign-ins
ITEMS_A_DAY = 200  # items that were in a grant, and so have a counter, each day
CHANGES = 20_000  # entries of the log
# What the owner chose for this run; the default keeps all but deliveries (30) and closed refused calls (365).
KEPT_DAYS = {"deliveries": 30, "refused": 90, "bodies": 180, "event_bodies": 90, "logins": 90, "reports": 90}
STORE_EVENT = (
    b'{"id":"evt_0123456789abcdef","event":"order.shipped","createdAt":"2026-07-21T14:17:27.329Z","playerId":"player-1",'
    b'"sessionMetadata":{"shard":3},"store":{"name":"Bench","country":"US","currency":"USD"},"order":{"orderId":"0123456'
    b'789abcdef","bundleId":"684044555ed01178ed2c0b3b","bundleName":"Starter Pack","priceInCents":999,"tax":149}}'
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rows", type=int, default=1_000_000, help="orders of the year (default 1,000,000)")
    command.add_argument("--events", type=int, default=3_000_000, help="events of the year (default 3,000,000)")
    command.add_argument("--home", type=Path, help="the folder to fill, or to go on with")
    command.add_argument("--steps", default=",".join(STEPS), help=f"some of these (default {','.join(STEPS)})")
    command.add_argument("--seconds", type=int, default=20, help="per run of credits (default 20)")
    command.add_argument("--rounds", type=int, default=3, help="turns with and without retention (default 3)")


def run(arguments: argparse.Namespace) -> list[str]:
    """Measure and print; there is no budget but that of the pages."""
    missed = []
    with tempfile.TemporaryDirectory(prefix="coinslot-bench-") as folder:
        home = arguments.home or Path(folder, "home")
        for step in arguments.steps.split(","):
            print(f"\n== {step}", flush=True)
            if step == "fill":
                fill(home, arguments.rows, arguments.events)
            elif step == "sizes":
                print_sizes(home)
            elif step == "pages":
                missed += pages.measure_all({"COINSLOT_HOME": str(home)}, 3, "/")
            elif step == "load":
                load(home, Path(folder), arguments)
            elif step == "delete":
                delete(home)
                print_sizes(home)
                missed += pages.measure_all({"COINSLOT_HOME": str(home)}, 3, "/")
            else:
                raise SystemExit(f"--steps: use some of {','.join(STEPS)}")
    return missed


# Filling --------------------------------------------------------------------------------------------------------------


def fill(home: Path, rows: int, count: int) -> None:
    began = time.perf_counter()
    prepare_home(home)
    size.fill(home, rows, _year_of_orders(rows))
    _say("orders", began)
    app = create_app({"COINSLOT_HOME": str(home)})
    installation: Installation = app.extensions["coinslot"]
    game_id = games.find(installation.database.read(), GAME)["id"]
    _refuse_one(app)

    def set_up(tx: Connection) -> None:
        destinations.add(tx, installation.vault, GAME, "main", "http://127.0.0.1:9/", actor="bench", events="grant.*")
        destinations.set_state(tx, GAME, "main", "paused", "bench")
        events.record(tx, **_event(game_id, "player.login", None))
        events.record(tx, **_event(game_id, "appcharge.order.shipped", STORE_EVENT))

    installation.database.write_here(set_up)
    connection = sqlite3.connect(home / "coinslot.db", isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -1000000")
    for what, statements in (
        ("deliveries", _DELIVERIES),
        ("events", _events(connection)),
        ("refused calls", _refused(connection)),
        ("reports, counters, changes, items", _OTHERS),
    ):
        values = {"game_id": game_id, "rows": rows, "events": count, "now": clock.stamp(), "first": _first()}
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement, values)
        connection.execute("COMMIT")
        _say(what, began)
    connection.close()
    _refund_some(installation, rows)
    _say("refunds", began)
    _settle(installation)
    _say("months closed and paid", began)
    search_job.ROWS_AT_ONCE = 20_000  # nobody else waits
    pages.fill_search(home)
    installation.database.truncate_wal()
    installation.database.close()
    _say("everything", began)


def _say(what: str, began: float) -> None:
    print(f"filled: {what}, {time.perf_counter() - began:.0f} s", flush=True)


def _first() -> int:
    return int(clock.now()) - DAYS * 86_400


def _at(n: str, of: str) -> str:
    """SQL: the time of row ``n`` of ``of`` in the year, as a stamp."""
    seconds = f"{_first()} + CAST({n} AS INTEGER) * {DAYS * 86_400} / ({of} + 1)"
    return f"strftime('%Y-%m-%dT%H:%M:%S', {seconds}, 'unixepoch') || printf('.%06dZ', {n} % 1000000)"


def _year_of_orders(rows: int) -> Copied:
    at = _at("n", str(rows))
    changed = {"received_at": at, "occurred_at": at, "gross_minor": "CASE n % 10 WHEN 0 THEN 499 ELSE 999 END"}
    changed |= {"reference": "CASE n % 7 WHEN 0 THEN hex(randomblob(8)) ELSE lower(hex(randomblob(8))) END"}
    more = {"transactions": changed, "grants": {"created_at": at}}
    return tuple((table, rows_of, known | more.get(table, {})) for table, rows_of, known in COPIED)


def _event(game_id: int, type: str, body: bytes | None) -> dict:
    data = {"method": "otp", "ip_country": "US"} if body is None else {"order": "0123456789abcdef", "status": "shipped"}
    about = {"dedupe_key": f"bench-{type}", "player_id": "player-00001", "environment": "live", "is_test": False}
    return {"game_id": game_id, "partner": "appcharge", "type": type, "data": data, "raw_body": body, **about}


def _refuse_one(app) -> None:
    """One order that names an unknown player, as the product keeps it; then a person sets it aside."""
    body = order("refused", 1).replace(b"player-00001", b"player-x0001")
    headers = {
        "x-publisher-token": KEYS["appcharge.publisher_token"],
        "signature": sign(body, KEYS["appcharge.main_key"].encode(), str(int(time.time() * 1000))),
    }
    answer = app.test_client().post(f"/appcharge/{GAME}/orders", data=body, headers=headers)
    installation: Installation = app.extensions["coinslot"]
    installation.observations.flush()
    ids = [row["id"] for row in installation.database.read().execute("SELECT id FROM refusals WHERE state = 'open'")]
    if answer.status_code == 200 or len(ids) != 1:
        raise AssertionError(f"the order of an unknown player was answered {answer.status}, and {len(ids)} rows kept")
    installation.database.write_here(lambda tx: refused.set_aside(tx, ids, "bench"))


_DELIVERIES = (
    """INSERT INTO deliveries (game_id, destination_id, webhook_id, event_type, grant_id, state, attempts_made,
                               created_at, finished_at)
       SELECT game_id, (SELECT id FROM destinations), 'grant_' || lower(hex(randomblob(16))), 'grant.created', id,
              'delivered', 1 + (id % 20 = 0), created_at, created_at FROM grants""",
    """INSERT INTO attempts (delivery_id, started_at, duration_ms, status, failure, answer)
       SELECT id, created_at, 20 + id % 200, CASE n WHEN attempts_made THEN 200 END,
              CASE n WHEN attempts_made THEN NULL ELSE 'timeout' END,
              CASE n WHEN attempts_made THEN CAST('{"ok":true}' AS BLOB) END
       FROM deliveries JOIN (SELECT 1 AS n UNION ALL SELECT 2) ON n <= attempts_made""",
)


def _events(connection: sqlite3.Connection) -> list[str]:
    at = _at("n", ":events")
    varied = {"id": "10 + n", "dedupe_key": "lower(hex(randomblob(12)))", "received_at": at, "occurred_at": at}
    varied |= {"player_id": "printf('player-%05d', n % 50000)"}
    statements = []
    for each, (which, every) in enumerate((("player.login", "<>"), ("appcharge.order.shipped", "="))):
        made = copy_statement(connection, "events", f"type = '{which}'", {}, varied)
        # Of all numbers, those of this kind. Each kind has a table of its own with the first row.
        made = (
            made.replace("first_of_events", f"first_of_events_{each}")
            .replace(":least", "1")
            .replace(":most", ":events")
        )
        connection.execute(f"ALTER TABLE temp.first_of_events RENAME TO first_of_events_{each}")
        statements.append(f"{made} WHERE n % {STORE_EVENTS} {every} 0")
    return [*statements, "UPDATE sequences SET last_id = 10 + :events WHERE name = 'events'"]


def _refused(connection: sqlite3.Connection) -> list[str]:
    at = _at("n", f"(:rows / {REFUSED})")
    varied = {"id": "100 + n", "nonce": "randomblob(12)", "created_at": at, "last_at": at, "ended_at": at}
    varied |= {"name": "lower(hex(randomblob(8)))", "reference": "lower(hex(randomblob(8)))"}
    copies = copy_statement(connection, "refusals", "state = 'aside'", {}, varied)
    names = copy_statement(
        connection, "refusal_names", "true", {}, {"refusal_id": "100 + n", "name": "hex(randomblob(8))"}
    )
    return [each.replace(":least", "1").replace(":most", f":rows / {REFUSED}") for each in (copies, names)]


_OTHERS = (
    # A report of each month that is over, which has a row for every order of it.
    """INSERT INTO reconciliations (game_id, month, partner, source, fingerprint, starts_at, ends_at, state, summary,
                                    held_at, started_at, finished_at, rows_read, rows_compared, matched)
       SELECT :game_id, substr(received_at, 1, 7), 'appcharge', 'file', 'f', min(received_at), max(received_at), 'done',
              '[]', :now, :now, max(received_at), count(*), count(*), count(*)
       FROM transactions WHERE substr(received_at, 1, 7) < substr(:now, 1, 7) GROUP BY substr(received_at, 1, 7)""",
    """INSERT INTO partner_rows (reconciliation_id, reference, row_id, kind, amount_minor, currency, occurred_at,
                                 sample)
       SELECT n.id, t.external_id, lower(hex(randomblob(12))), 'paid', '999', 'USD', t.received_at, NULL
       FROM reconciliations n JOIN transactions t ON substr(t.received_at, 1, 7) = n.month""",
    f"""WITH RECURSIVE days (d) AS (SELECT 0 UNION ALL SELECT d + 1 FROM days WHERE d < {DAYS}),
        names (name, label) AS (
            VALUES ('credited', ''), ('duplicate', ''), ('called', 'orders'), ('called', 'events'), ('gross', 'USD'),
                   ('refunded', 'USD'), ('refused', 'unknown_player'), ('event', '')),
        items (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM items WHERE i < {ITEMS_A_DAY})
        INSERT INTO counters (game_id, partner, name, label, day, value)
        SELECT :game_id, 'appcharge', name, label, date(:first + d * 86400, 'unixepoch'), 2740 FROM days, names
        UNION ALL SELECT :game_id, 'appcharge', 'item', printf('item-%d', (i + d) % 5000),
                         date(:first + d * 86400, 'unixepoch'), 13 FROM days, items
        UNION ALL SELECT :game_id, 'relay', 'took', printf('%d', 10 * i), date(:first + d * 86400, 'unixepoch'), 300
                  FROM days, items WHERE i < 10
        ON CONFLICT (game_id, partner, name, label, day) DO NOTHING""",
    f"""WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {CHANGES})
        INSERT INTO audit (game_id, actor, action, subject, created_at)
        SELECT :game_id, 'owner', 'transaction.reveal', lower(hex(randomblob(18))), {_at("n", str(CHANGES))}
        FROM numbers""",
    """INSERT INTO conflicts (game_id, partner, transaction_id, external_id, player_id, fingerprint, raw_body, seen,
                              first_at, last_at)
       SELECT game_id, partner, id, external_id, player_id, 'x', raw_body, 1, received_at, received_at
       FROM transactions WHERE id % 1000 = 0""",
)


def _refund_some(installation: Installation, rows: int) -> None:
    """Money that went back: each is a reversal, a refund and an event, written by the ledger."""
    found = installation.database.read().execute(
        "SELECT * FROM transactions WHERE id % :every = 3", {"every": REFUNDED}
    )
    chosen = found.fetchall()

    def reverse(tx: Connection) -> None:
        for row in chosen:
            refunds.reverse(tx, row, policies.Policy.always("revoke"), "bench")

    installation.database.write_here(reverse)


def _settle(installation: Installation) -> None:
    """Close every month that is over, from the second on, and confirm its payment."""
    game = installation.games.by_slug(GAME)
    month = datetime.now(UTC).replace(day=1) - timedelta(days=330)
    while f"{month:%Y-%m}" < clock.stamp()[:7]:
        name = f"{month:%Y-%m}"
        closing.close(installation.database, game, installation.in_game, name, "bench")
        installation.database.write_here(
            lambda tx, name=name: states.advance(
                tx, game.id, name, "payment_confirmed", "bench", "paid", is_skipping=True, is_accepting=True
            )
        )
        month = (month.replace(day=1) + timedelta(days=32)).replace(day=1)


# Measuring ------------------------------------------------------------------------------------------------------------


def print_sizes(home: Path) -> None:
    """What the file holds, by table with its indexes: bytes of pages, and of them what is empty."""
    connection = sqlite3.connect(home / "coinslot.db")
    found = connection.execute(
        """SELECT coalesce(s.tbl_name, d.name) AS named, sum(d.pgsize), sum(d.unused), sum(d.pageno)
           FROM (SELECT name, pgsize, unused, pageno FROM dbstat WHERE aggregate = 1) d
           LEFT JOIN sqlite_schema s ON s.name = d.name GROUP BY named ORDER BY 2 DESC"""
    ).fetchall()
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    print(f"{'table with its indexes':<26}{'rows':>12}{'MB':>10}{'empty MB':>10}{'bytes/row':>11}")
    for name, used, unused, _ in found:
        if used < 1_000_000:
            continue
        (count,) = connection.execute(f"SELECT count(*) FROM {name}").fetchone()
        print(f"{name:<26}{count:>12,}{used / 1e6:>10.1f}{unused / 1e6:>10.1f}{used / max(count, 1):>11.0f}")
    file = (home / "coinslot.db").stat().st_size
    print(f"the file: {file / 1e6:,.1f} MB, of which {free * page_size / 1e6:,.1f} MB are free pages", flush=True)
    connection.close()


def _choose(home: Path, *, is_deleting: bool) -> None:
    installation: Installation = create_app({"COINSLOT_HOME": str(home)}).extensions["coinslot"]

    def choose(tx: Connection) -> None:
        for key in SETTINGS:
            days = KEPT_DAYS.get(key.removeprefix("retention.").removesuffix("_days"))
            value = str(days) if is_deleting and days is not None else FOREVER
            games.set_setting(tx, installation.catalogue, GAME, key, value, "bench")
        tx.execute(
            "UPDATE schedules SET due_at = :now WHERE name = :name", {"now": clock.stamp(), "name": retention.JOB}
        )

    installation.database.write_here(choose)
    installation.database.close()


def load(home: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """Credits by turns without retention and while it deletes."""
    loads: dict[str, list[Load]] = {"without": [], "while it deletes": []}
    for turn in range(arguments.rounds):
        for name, runs in loads.items():
            KEYS.update(json.loads((home / "keys.json").read_text()))  # of who filled it
            _choose(home, is_deleting=name != "without")
            count = (arguments.seconds + WARM_UP_SECONDS) * MOST_PER_SECOND
            orders = write_orders(folder / "orders", count, f"year-{time.time()}")
            before, quiet = _rows(home), Quiet()
            with serve(home) as server:
                drive(server.port, orders, WARM_UP_SECONDS, arguments.callers, count=WARM_UP_SECONDS * MOST_PER_SECOND)
                first = WARM_UP_SECONDS * MOST_PER_SECOND
                runs.append(drive(server.port, orders, arguments.seconds, arguments.callers, first=first))
            print_load(f"round {turn + 1}, {name}", runs[-1])
            gone = {table: was - now for (table, was), now in zip(before.items(), _rows(home).values(), strict=True)}
            shown = ", ".join(f"{count:,} {table}" for table, count in gone.items() if count > 0)
            print(f"  deleted meanwhile: {shown or 'nothing'}; others took {quiet.others():.0%} of the machine")
    for name, runs in loads.items():
        rate, p50, p99 = (median(getattr(load, each) for load in runs) for each in ("per_second", "p50", "p99"))
        longest = max(load.longest for load in runs)
        print(f"median {name:<18} {rate:6.0f}/s  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms  longest {longest:7.2f} ms")


def _rows(home: Path) -> dict[str, int]:
    """What retention may delete; the deliveries of new credits wait, and are not counted."""
    connection = sqlite3.connect(home / "coinslot.db")
    (delivered,) = connection.execute("SELECT count(*) FROM deliveries WHERE state = 'delivered'").fetchone()
    (count,) = connection.execute("SELECT count(*) FROM events").fetchone()
    connection.close()
    return {"deliveries": delivered, "events": count}


def delete(home: Path) -> None:
    """The rest of the deleting, without the pauses that it makes for others; and what a VACUUM by hand gives back."""
    _choose(home, is_deleting=True)
    installation: Installation = create_app({"COINSLOT_HOME": str(home)}).extensions["coinslot"]
    paced = retention.REST
    retention.REST, retention.PAUSE_SECONDS, retention.ROWS_AT_ONCE = 0.0, 0.0, 5000
    began = time.perf_counter()
    while (
        retention.run(installation.database, games.outlines(installation.database.read(), installation.catalogue))
        == 0.0
    ):
        pass
    seconds = time.perf_counter() - began
    for sentence in retention.sentences(
        installation.database.read(), games.outlines(installation.database.read(), installation.catalogue)
    ):
        print(sentence)
    print(f"deleted in {seconds:,.0f} s without pauses; beside credits it writes 1 s in {paced + 1:.0f}")
    installation.database.truncate_wal()
    installation.database.close()
    connection = sqlite3.connect(home / "coinslot.db", isolation_level=None)
    began = time.perf_counter()
    connection.execute("VACUUM INTO :file", {"file": str(home / "small.db")})
    took = time.perf_counter() - began
    connection.close()
    small = (home / "small.db").stat().st_size
    (home / "small.db").unlink()
    print(f"VACUUM into another file: {small / 1e6:,.1f} MB, in {took:.0f} s")
