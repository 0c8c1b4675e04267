"""Writes of thousands of rows on PostgreSQL: the same rows as on SQLite, in few and never endless statements."""

import pytest

from coinslot.store.db import IntegrityError
from coinslot.store.postgres import connection as connections
from tests import postgres

pytestmark = pytest.mark.long

INTO_ITEMS = "INSERT INTO items (game_id, sku, name, created_at, updated_at) VALUES (:game_id, :sku, :name, :at, :at)"
NO_OTHER = " ON CONFLICT (game_id, sku) DO NOTHING"


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    from coinslot.store.postgres.database import PostgresDatabase

    with postgres.fresh_database() as url:
        made = PostgresDatabase(tmp_path_factory.mktemp("home"), url)
        made.prepare()
        made.write(
            lambda tx: tx.execute(
                """INSERT INTO games (id, slug, name, api_token_hash, revision, created_at)
                   VALUES (1, 'demo', 'Demo', '', '', '')"""
            )
        )
        yield made
        made.close()


@pytest.fixture(autouse=True)
def empty(database):
    database.write(lambda tx: tx.execute("DELETE FROM items"))


def rows(start, end):
    return (
        {"game_id": 1, "sku": f"({number:05})", "name": "100 % '?' :sku" if number % 2 else None, "at": "now"}
        for number in range(start, end)
    )


def stored(database):
    found = database.read().execute("SELECT sku, name FROM items ORDER BY sku")
    return [tuple(row) for row in found]


def test_many_rows_are_stored_as_if_one_by_one_and_those_in_the_way_are_counted_out(database):
    database.write(lambda tx: tx.executemany(INTO_ITEMS, rows(0, 1)))

    def write(tx):
        first = tx.executemany(INTO_ITEMS + NO_OTHER, rows(0, 1201))
        return first.rowcount, tx.executemany(INTO_ITEMS + NO_OTHER, [*rows(1200, 1203), *rows(1202, 1204)]).rowcount

    assert database.write(write) == (1200, 3)
    assert stored(database) == [(row["sku"], row["name"]) for row in rows(0, 1204)]


def test_one_row_in_the_way_undoes_the_write_and_no_other(database):
    def write(tx):
        tx.executemany(INTO_ITEMS, rows(0, 700))
        tx.executemany(INTO_ITEMS, rows(699, 1300))

    with pytest.raises(IntegrityError):
        database.write(write)
    database.write(lambda tx: tx.executemany(INTO_ITEMS, rows(0, 2)))

    assert len(stored(database)) == 2


def test_statements_that_are_no_insert_are_made_for_each_row(database):
    def write(tx):
        tx.executemany(INTO_ITEMS, rows(0, 600))
        changed = tx.executemany(
            "UPDATE items SET name = :name WHERE sku = :sku",
            [{"sku": f"({each:05})", "name": "x"} for each in (1, 599, 700)],
        )
        tx.executemany(
            INTO_ITEMS + " ON CONFLICT (game_id, sku) DO UPDATE SET name = excluded.name", [*rows(1, 2), *rows(1, 2)]
        )
        return changed.rowcount

    assert database.write(write) == 2
    assert dict(stored(database)) == {row["sku"]: row["name"] for row in rows(0, 600)} | {"(00599)": "x"}


def test_a_write_of_many_statements_is_sent_piece_by_piece(database, monkeypatch):
    monkeypatch.setattr(connections, "UNSENT_LENGTH", 20_000)

    def write(tx):
        before = tx.sends
        tx.executemany(INTO_ITEMS, rows(0, 2000))
        return tx.sends - before

    assert database.write(write) >= 3
    assert len(stored(database)) == 2000
