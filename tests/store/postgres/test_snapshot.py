"""One state of a PostgreSQL database, read by several queries: it stays, and its rows come a part at a time."""

from itertools import islice

import pytest

from coinslot.store.paging import ROWS_AT_ONCE, plain_rows
from tests import postgres

pytestmark = pytest.mark.long

OF_ITEMS = "SELECT sku FROM items WHERE game_id = :game_id AND name LIKE 'A%' ORDER BY sku"


@pytest.fixture
def database(tmp_path):
    from coinslot.store.postgres.database import PostgresDatabase

    with postgres.fresh_database() as url:
        made = PostgresDatabase(tmp_path, url)
        made.prepare()

        def fill(tx):
            tx.execute(
                """INSERT INTO games (id, slug, name, api_token_hash, revision, created_at)
                   VALUES (1, 'demo', 'Demo', '', '', '')"""
            )
            tx.executemany(
                "INSERT INTO items (game_id, sku, name, created_at, updated_at) VALUES (1, :sku, 'Ab', '', '')",
                [{"sku": f"{number:06}"} for number in range(10 * ROWS_AT_ONCE)],
            )

        made.write(fill)
        yield made
        made.close()


def test_two_results_are_read_in_turns_while_others_write(database):
    with database.snapshot() as connection:
        one, other = (plain_rows(connection, OF_ITEMS, {"game_id": 1}) for _ in range(2))
        first = [sku for (sku,) in islice(one, ROWS_AT_ONCE + 1)]
        database.write(lambda tx: tx.execute("DELETE FROM items"))
        whole = [sku for (sku,) in other]
        first += [sku for (sku,) in one]

        assert whole == first == [f"{number:06}" for number in range(10 * ROWS_AT_ONCE)]
        assert connection.execute("SELECT count(*) FROM items").fetchone()[0] == len(whole)
        assert connection.execute("SELECT count(*) FROM pg_cursors").fetchone()[0] == 0

    assert list(plain_rows(database.read(), OF_ITEMS, {"game_id": 1})) == []


def test_no_more_rows_are_fetched_than_one_part(database):
    with database.snapshot() as connection:
        next(plain_rows(connection, OF_ITEMS, {"game_id": 1}))
        rest = connection.execute(f"FETCH ALL FROM {connection.execute('SELECT name FROM pg_cursors').fetchone()[0]}")

        assert len(rest.fetchall()) == 9 * ROWS_AT_ONCE
