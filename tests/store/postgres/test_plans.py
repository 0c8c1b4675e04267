"""No page of the owner's reads a large table from end to end: PostgreSQL goes by the same indexes as SQLite.

Every table that grows has more rows than any page may look at. Each statement is asked as a page asks it, and
PostgreSQL says what it did.
"""

import base64
import os
import re

import pytest

from app import create_app
from bench import orders
from bench.orders import GAME, prepare_home
from bench.pages import PAGES, named
from bench.size import credit_one
from bench.statements import noted, plan
from coinslot.outbox import destinations
from tests import postgres
from tests.conftest import Browser

pytestmark = pytest.mark.long

ROWS = 24_000
MOST_READ = 21_000  # rows of one step of a plan. The longest look is event_lists.LOOKED_AT
STAMP = "to_char(TIMESTAMP '2026-01-01' + n * INTERVAL '15 minutes', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
PLAYER = f"'player-' || lpad(CAST(n % {orders.PLAYERS} AS text), 5, '0')"
# Of ids that are made: above those of what was really stored.
NEXT = 10
# Copies of the first order differ in these columns.
CHANGED = {
    "id": f"{NEXT} + n",
    "public_id": "md5('p' || n)",
    "partner": "CASE WHEN n % 500 = 0 THEN 'playtem' ELSE partner END",
    "external_id": "md5('e' || n)",
    "reference": "CASE WHEN n % 7 = 0 THEN upper(md5('e' || n)) ELSE md5('e' || n) END",
    "player_id": PLAYER,
    "gross_minor": "CASE n % 10 WHEN 0 THEN 499 WHEN 1 THEN n ELSE 999 END",
    "is_test": "CASE WHEN n % 1000 = 7 THEN 1 ELSE 0 END",
    "received_at": STAMP,
}
FILL = f"""
CREATE TEMP TABLE numbers AS SELECT CAST(n AS bigint) AS n FROM generate_series(1, {ROWS}) n;
CREATE TEMP TABLE g AS SELECT * FROM grants;
INSERT INTO transactions ($columns) SELECT $values FROM transactions, numbers;
INSERT INTO transaction_keys SELECT game_id, partner, 'payment', md5('k' || id), id FROM transactions WHERE id > {NEXT};
INSERT INTO grants (id, game_id, transaction_id, kind, player_id, is_test, created_at)
    SELECT {NEXT} + n, game_id, {NEXT} + n, kind, {PLAYER}, 0, {STAMP} FROM g, numbers;
INSERT INTO grants (id, game_id, transaction_id, kind, player_id, reverses, policy, is_test, created_at)
    SELECT {NEXT + ROWS} + n, game_id, {NEXT} + n, 'reversal', {PLAYER}, {NEXT} + n, 'revoke', 0, {STAMP}
    FROM g, numbers;
INSERT INTO entries SELECT {NEXT} + n, CASE WHEN n % 2000 = 3 THEN 'rare' ELSE 'gems' END, '5' FROM numbers;
INSERT INTO entries SELECT {NEXT} + n, 'coins', '1000' FROM numbers;
INSERT INTO entries SELECT {NEXT + ROWS} + n, 'coins', '-1000' FROM numbers;
INSERT INTO refunds (game_id, partner, reason, outcome, transaction_id, grant_id, is_test, created_at, settled_at)
    SELECT game_id, partner, 'refund', 'reversed', transaction_id, id, 0, created_at, created_at
    FROM (SELECT x.*, 'appcharge' AS partner FROM grants x WHERE x.kind = 'reversal') reversals;
INSERT INTO conflicts (game_id, partner, transaction_id, external_id, player_id, fingerprint, seen, first_at, last_at)
    SELECT game_id, partner, id, external_id, player_id, 'x', 1, received_at, received_at
    FROM transactions WHERE id > {NEXT};
INSERT INTO deliveries (game_id, destination_id, webhook_id, event_type, grant_id, state, attempts_made, dead_reason,
                        created_at, finished_at)
    SELECT g.game_id, d.id, 'w' || n, 'grant.created', {NEXT} + n, CASE WHEN n % 2 = 0 THEN 'dead' ELSE 'delivered' END,
           1, CASE WHEN n % 2 = 0 THEN 'test' END, {STAMP}, {STAMP}
    FROM g, numbers, destinations d;
INSERT INTO attempts (delivery_id, started_at, duration_ms, failure)
    SELECT id, created_at, 20, 'timeout' FROM deliveries;
INSERT INTO events (id, game_id, partner, type, dedupe_key, player_id, data, environment, is_test, received_at)
    SELECT {NEXT} + n, g.game_id, 'appcharge', CASE WHEN n % 8000 = 7 THEN 'appcharge.rare' ELSE 'player.login' END,
           'd' || n, {PLAYER}, '{{}}', 'live', 0, {STAMP}
    FROM g, numbers;
INSERT INTO players (game_id, player_id, name, profile, is_in_search, created_at, updated_at)
    SELECT g.game_id, 'shopper-' || n, 'Shopper ' || n, '{{}}', 1, {STAMP}, {STAMP} FROM g, numbers;
INSERT INTO search_keys SELECT keys.kind, keys.key || '-' || n, g.game_id, 'shopper-' || n
    FROM g, numbers, (VALUES ('id', 'shopper'), ('name', 'shopper'), ('address', 'a')) keys (kind, key);
INSERT INTO items SELECT g.game_id, 'item-' || n, 'Sword ' || n, {STAMP}, {STAMP} FROM g, numbers;
UPDATE sequences SET last_id = {NEXT + 2 * ROWS};
ANALYZE"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """An installation with many rows in every table that grows."""
    home = tmp_path_factory.mktemp("plans") / "home"
    with postgres.fresh_database() as url:
        key = base64.b64encode(os.urandom(32)).decode()
        environment = {"COINSLOT_HOME": str(home), "COINSLOT_DATABASE": url, "COINSLOT_MASTER_KEY": key}
        prepare_home(home, environment)
        credit_one(home, environment)
        app = create_app(environment)
        installation = app.extensions["coinslot"]
        installation.database.write_here(
            lambda tx: destinations.add(tx, installation.vault, GAME, "main", "http://127.0.0.1:9/", actor="test")
        )
        _fill(url)
        yield app, installation, url
        installation.database.close()


def _fill(url):
    import psycopg

    with psycopg.connect(postgres.superuser(url), autocommit=True) as connection:
        # Rows are made in any order, and nobody looks at what they refer to.
        connection.execute("SET session_replication_role = replica; SET search_path = coinslot")
        columns = [
            name
            for (name,) in connection.execute(
                """SELECT column_name FROM information_schema.columns
                   WHERE table_schema = 'coinslot' AND table_name = 'transactions' AND is_generated = 'NEVER'"""
            )
        ]
        values = ", ".join(CHANGED.get(each, each) for each in columns)
        for statement in FILL.split(";\n"):
            statement = statement.replace("$columns", ", ".join(columns)).replace("$values", values)
            connection.execute(statement.encode())


def test_no_page_reads_a_large_table_from_end_to_end(filled):
    app, installation, _ = filled
    browser = Browser(app.test_client(), installation)
    found = named(installation)
    asked, answered = {}, 0
    for page in PAGES:
        address = page.format_map(found)
        with noted() as statements:
            answer = browser.get(address)
        assert answer.status_code in (200, 303), address
        answered += answer.status_code == 200
        asked.update({re.sub(r"'[^']*'|\d+", "?", each): (address, each) for each in statements})
    assert answered > 50
    assert len(asked) > 100

    with installation.database.reader() as connection:
        wrong = [
            f"{address} reads {step['Relation Name']}: {step['Node Type']}, {rows:.0f} rows\n{statement}"
            for address, statement in asked.values()
            for step in plan(connection, statement)
            if (rows := _rows_read(step)) > MOST_READ
        ]
    assert wrong == [], "\n\n".join(wrong)


def _rows_read(step):
    if "Relation Name" not in step:
        return 0
    removed = sum(step.get(f"Rows Removed by {what}", 0) for what in ("Filter", "Index Recheck"))
    return (step["Actual Rows"] + removed) * step["Actual Loops"]
