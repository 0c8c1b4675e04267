"""The owner's pages with many transactions stored: each is asked for, signed in, through the real app."""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from urllib.parse import quote

from flask.testing import FlaskClient

from app import create_app
from bench.engines import cluster
from bench.orders import GAME, prepare_home
from bench.size import COPIED, Copied, fill
from coinslot.access import owner, sessions
from coinslot.base import clock
from coinslot.games import games
from coinslot.installation import Installation
from coinslot.ledger import policies, refunds
from coinslot.operations import search_job
from coinslot.outbox import destinations
from coinslot.store.connection import connect
from coinslot.store.copying import total_of
from coinslot.store.db import Connection, open_database

BUDGET_MS, BUDGET_QUERIES = 50, 12
# There the overview asks the server about itself and its standbys too.
BUDGET_POSTGRES_MS, BUDGET_POSTGRES_QUERIES = 100, 14
SHOPPERS = 200_000
CATALOGUE = 200_000
EVENTS = 500_000

# The pages, under the names in `named` below. A page that does not exist yet is left out of the table.
PAGES = (
    "/",
    *(f"/?range=90&metric={each}" for each in ("paid", "grants", "refusals", "deliveries")),
    "/games/{game}",
    "/activity",
    "/account",
    "/search?q={public_id}",
    "/search?q={external_id}",
    "/search?q={folded}",
    "/search?q={payment}",
    "/search?q={player}",
    "/search?q=shopper-777@example.com",
    "/search?q=nothing-of-that-name",
    *(f"/search?q={each}" for each in ("0", "1", "a", "d", "s", "12", "shopper")),
    "/games/{game}/integration",
    "/games/{game}/integration/appcharge",
    "/games/{game}/integration/keys",
    "/games/{game}/transactions",
    "/games/{game}/transactions?after=time-{middle}",
    "/games/{game}/transactions?partner=playtem",
    "/games/{game}/transactions?partner=playtem&after=partner-{middle}",
    "/games/{game}/transactions?state=credited",
    "/games/{game}/transactions?state=reversed",
    "/games/{game}/transactions?state=conflict",
    "/games/{game}/transactions?state=test",
    "/games/{game}/transactions?player={player}",
    "/games/{game}/transactions?player=nobody",
    "/games/{game}/transactions?item=coins",
    "/games/{game}/transactions?item=rare",
    "/games/{game}/transactions?item=nothing",
    "/games/{game}/transactions?from=2026-03-01&to=2026-03-02",
    "/games/{game}/transactions?from=1999-01-01&to=1999-01-02",
    "/games/{game}/transactions?amount=9.99+USD",
    "/games/{game}/transactions?amount=0.01+USD",
    "/games/{game}/transactions?amount=5+USD&amount_to=6+USD",
    "/games/{game}/transactions?amount=9.99+EUR",
    "/games/{game}/transactions?player={player}&item=rare&state=credited",
    "/games/{game}/transactions?partner=playtem&state=reversed&item=coins",
    "/games/{game}/transactions?partner=playtem&from=2026-03-01&to=2026-03-02&amount=0.01+USD",
    "/games/{game}/transactions/{public_id}",
    "/games/{game}/transactions/{reversed}",
    "/games/{game}/players",
    "/games/{game}/players?q=player-0",
    "/games/{game}/players/{player}",
    "/games/{game}/players?id={player}&show=timeline",
    "/games/{game}/items",
    "/games/{game}/items?q=item-5",
    "/games/{game}/items?q=nothing-like-it",
    "/games/{game}/events",
    "/games/{game}/events?type=rare",
    "/games/{game}/events?partner=nobody&from=2026-03-01&to=2026-06-01",
    "/games/{game}/events?player={player}",
    "/games/{game}/conflicts",
    "/games/{game}/refunds",
    "/games/{game}/deliveries",
    "/games/{game}/payments",
    "/games/{game}/settlements",
    "/games/{game}/settings",
)

# A year of orders, a second apart or less, of two partners, some of them tests, with many prices.
FIRST_AT = 1767225600  # 2026-01-01
SECONDS = 26_000_000  # some ten months
RECEIVED = (
    f"strftime('%Y-%m-%dT%H:%M:%S', {FIRST_AT} + n * {SECONDS} / :rows, 'unixepoch') || printf('.%06dZ', n % 1000000)"
)


def varied(rows: int) -> Copied:
    """Copies that differ in what the pages search for."""
    received = RECEIVED.replace(":rows", str(rows))
    changed = {
        "partner": "CASE WHEN n % 500 = 0 THEN 'playtem' ELSE partner END",
        "received_at": received,
        "is_test": "n % 1000 = 7",
        "reference": "CASE n % 7 WHEN 0 THEN hex(randomblob(8)) ELSE lower(hex(randomblob(8))) END",  # for the search
        "gross_minor": "CASE n % 10 WHEN 0 THEN 499 WHEN 1 THEN n % 20000 ELSE 999 END",
    }
    more = {"transactions": changed, "grants": {"is_test": "n % 1000 = 7", "created_at": received}}
    more["entries"] = {"sku": "CASE WHEN sku = 'gems' AND n % 20000 = 3 THEN 'rare' ELSE sku END"}
    return tuple((table, rows_of, known | more.get(table, {})) for table, rows_of, known in COPIED)


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rows", type=int, default=1_000_000, help="transactions stored before (default 1,000,000)")
    command.add_argument("--times", type=int, default=5, help="how often each page is asked for (default 5)")
    command.add_argument("--home", type=Path, help="use this filled folder again, or fill it when it is not there")
    command.add_argument("--only", default="/", help="pages whose address begins so (default all)")
    command.add_argument("--postgres", action="store_true", help="copied to PostgreSQL, in a cluster made for it")
    command.add_argument("--database", metavar="URL", help="copied to this PostgreSQL database, unless one is there")


def run(arguments: argparse.Namespace) -> list[str]:
    """Measure and print; returns the budgets missed, as sentences."""
    with tempfile.TemporaryDirectory(prefix="coinslot-bench-") as folder:
        home = arguments.home or Path(folder, "home")
        if not (home / "coinslot.db").exists():
            began = time.perf_counter()
            prepare_home(home)
            fill(home, arguments.rows, varied(arguments.rows))
            happen(home)
            print(f"{arguments.rows:,} transactions, filled in {time.perf_counter() - began:.0f} s", flush=True)
            fill_search(home)
        if not arguments.postgres and arguments.database is None:
            return measure_all({"COINSLOT_HOME": str(home)}, arguments.times, arguments.only)
        with cluster() if arguments.postgres else nullcontext(arguments.database) as url:
            environment = {
                "COINSLOT_HOME": str(home),
                "COINSLOT_DATABASE": url,
                "COINSLOT_MASTER_KEY": (home / "master.key").read_text().strip(),
            }
            copy_to_postgres(home, url)
            return measure_all(environment, arguments.times, arguments.only)


def copy_to_postgres(home: Path, url: str) -> None:
    """All rows of the folder's database, as ``flask move`` copies them, unless a Coinslot is there already."""
    from coinslot.store.postgres import schemas

    with closing(connect(home / "coinslot.db")) as old, schemas.alone(open_database(home, url)) as raw:
        if schemas.is_there(raw):
            return
        began = time.perf_counter()
        old.execute("BEGIN")
        name, rows = schemas.fill(raw, old)
        schemas.put_in_place(raw, name, None, "")
        print(f"{total_of(rows)} copied to PostgreSQL in {time.perf_counter() - began:.0f} s", flush=True)


def happen(home: Path) -> None:
    """What befalls some of the orders: reversals, conflicts, deliveries."""
    app = create_app({"COINSLOT_HOME": str(home)})
    installation: Installation = app.extensions["coinslot"]
    now = clock.stamp()

    def write(tx: Connection) -> None:
        game_id = games.find(tx, GAME)["id"]
        destinations.add(tx, installation.vault, GAME, "main", "http://127.0.0.1:9/", actor="bench")
        (last,) = tx.execute("SELECT max(id) FROM transactions").fetchone()
        every = f"WHERE t.id % {max(last // 20_000, 2)} = 0"
        tx.execute(
            f"""INSERT INTO conflicts (game_id, partner, transaction_id, external_id, player_id, fingerprint, raw_body,
                                       seen, first_at, last_at)
                SELECT game_id, partner, id, external_id, player_id, 'x', raw_body, 1, :now, :now
                FROM transactions t {every}""",
            {"now": now},
        )
        for row in tx.execute(f"SELECT * FROM transactions t {every} ORDER BY id").fetchall():
            refunds.reverse(tx, row, policies.Policy.always("revoke"), "bench")
        tx.execute(
            """INSERT INTO deliveries (game_id, destination_id, webhook_id, event_type, grant_id, state,
                                       attempts_made, dead_reason, created_at, finished_at)
               SELECT :game_id, (SELECT id FROM destinations), 'bench_' || id, 'grant.created', id, 'dead', 1, 'bench',
                      created_at, created_at FROM grants WHERE id % 100 = 5""",
            {"game_id": game_id},
        )
        tx.execute(
            """INSERT INTO attempts (delivery_id, started_at, duration_ms, failure)
               SELECT id, created_at, 20, 'refused' FROM deliveries WHERE state = 'dead'"""
        )

    installation.database.write_here(write)
    installation.database.write_here(fill_records)
    installation.database.close()


def fill_records(tx: Connection) -> None:
    """A long catalogue, and events of a year, of which few are of the rarest type."""
    numbers = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)"
    tx.execute(
        f"""{numbers} INSERT INTO items (game_id, sku, name, created_at, updated_at)
            SELECT (SELECT id FROM games), printf('item-%d', n), printf('Sword of level %d', n), :now, :now
            FROM numbers""",
        {"count": CATALOGUE, "now": clock.stamp()},
    )
    tx.execute(
        f"""{numbers} INSERT INTO events (id, game_id, partner, type, dedupe_key, player_id, data, environment, is_test,
                                          received_at)
            SELECT n, (SELECT id FROM games), 'appcharge',
                   CASE WHEN n % 100000 = 7 THEN 'appcharge.rare' ELSE 'player.login' END, printf('bench-%d', n),
                   printf('player-%d', n % 5000), '{{}}', 'live', 0, {RECEIVED.replace(":rows", ":count")}
            FROM numbers""",
        {"count": EVENTS},
    )
    tx.execute("UPDATE sequences SET last_id = :count WHERE name = 'events'", {"count": EVENTS})


def fill_search(home: Path) -> None:
    """Register many players with names and e-mail addresses, and have the job read everything."""
    installation: Installation = create_app({"COINSLOT_HOME": str(home)}).extensions["coinslot"]
    installation.database.write_here(
        lambda tx: tx.execute(
            """WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :players)
               INSERT INTO players (game_id, player_id, name, profile, created_at, updated_at)
               SELECT (SELECT id FROM games), printf('shopper-%d', n), printf('Shopper Smith %d', n),
                      printf('{"email": "shopper-%d@example.com"}', n), :now, :now FROM numbers""",
            {"players": SHOPPERS, "now": clock.stamp()},
        )
    )
    began, before = time.perf_counter(), (home / "coinslot.db").stat().st_size
    while search_job.fill(installation.database, installation.vault) == 0.0:
        pass
    installation.database.truncate_wal()
    (rows,) = installation.database.read().execute("SELECT count(*) FROM search_keys").fetchone()
    grown = ((home / "coinslot.db").stat().st_size - before) / 1e6
    print(f"search: {rows:,} keys in {time.perf_counter() - began:.0f} s, {grown:.1f} MB", flush=True)
    installation.database.close()


def measure_all(environment: dict[str, str], times: int, only: str) -> list[str]:
    """Ask for each page whose address begins with ``only``; returns the budgets missed, as sentences."""
    app = create_app(environment)
    installation: Installation = app.extensions["coinslot"]
    installation.database.prepare()
    client = app.test_client()
    client.set_cookie(
        "coinslot_session",
        installation.database.write(lambda tx: sessions.begin(tx, owner.first(tx).id, "127.0.0.1", "bench")),
    )
    missed = []
    found = named(installation)
    noting = partial(noted_by_sqlite, installation)
    budget_ms, most = BUDGET_MS, BUDGET_QUERIES
    if "COINSLOT_DATABASE" in environment:
        from bench.statements import noted as noting  # needs psycopg

        budget_ms, most = BUDGET_POSTGRES_MS, BUDGET_POSTGRES_QUERIES
    print(f"{'median ms':>10} {'worst':>8} {'of CPU':>8} {'queries':>8}  page")
    for page in (page for page in PAGES if page.startswith(only)):
        address = page.format_map(found)
        figures = measure(client, address, times, noting)
        if figures is None:
            continue
        middle, worst, processor, queries = figures
        print(f"{middle:10.1f} {worst:8.1f} {processor:8.1f} {queries:8}  {address}", flush=True)
        if middle > budget_ms:
            missed.append(f"{address} takes {middle:.0f} ms, not {budget_ms:.0f}")
        if queries > most:
            missed.append(f"{address} asks {queries} questions, not {most}")
    installation.database.close()
    return missed


def measure(
    client: FlaskClient, address: str, times: int, noting: Callable[[], AbstractContextManager[list[str]]]
) -> tuple[float, float, float, int] | None:
    """Milliseconds, median and worst, those of this process's processor alone (which tell a slow page from a busy
    machine), and the queries of one; None when there is no such page."""
    taken, worked = [], []
    for _ in range(times):
        with noting() as statements:
            began, cpu = time.perf_counter(), time.thread_time()
            answer = client.get(address)
            worked.append((time.thread_time() - cpu) * 1000)
            taken.append((time.perf_counter() - began) * 1000)
        if answer.status_code == 404:
            return None
        if answer.status_code not in (200, 303):
            raise AssertionError(f"{address} was answered {answer.status}")
    reads = [each for each in statements if each.lstrip()[:6].upper() in ("SELECT", "WITH")]
    return median(taken), max(taken), median(worked), len(reads)


@contextmanager
def noted_by_sqlite(installation: Installation) -> Iterator[list[str]]:
    """The statements of this thread's reading connection meanwhile."""
    statements: list[str] = []
    installation.database.read().set_trace_callback(statements.append)
    try:
        yield statements
    finally:
        installation.database.read().set_trace_callback(None)


def named(installation: Installation) -> dict[str, str]:
    """What the addresses above speak of: some transaction in the middle, one that was reversed, a player."""
    connection = installation.database.read()
    (middle,) = connection.execute("SELECT max(id) / 2 FROM transactions").fetchone()
    row = connection.execute("SELECT * FROM transactions WHERE id = :id", {"id": middle}).fetchone()
    (payment,) = connection.execute("SELECT value FROM transaction_keys WHERE kind = 'payment' LIMIT 1").fetchone()
    (undone,) = connection.execute(
        """SELECT t.public_id FROM grants g JOIN transactions t ON t.id = g.transaction_id
           WHERE g.kind = 'reversal' LIMIT 1"""
    ).fetchone()
    values = {"external_id": row["external_id"], "public_id": row["public_id"], "player": row["player_id"]}
    (folded,) = connection.execute(
        "SELECT lower(reference) FROM transactions WHERE id % 7 = 1 LIMIT 1 OFFSET 1"
    ).fetchone()
    return {
        "game": GAME,
        "folded": folded,
        "middle": str(middle),
        "payment": quote(payment),
        "reversed": undone,
        **values,
    }
