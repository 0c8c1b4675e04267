"""Rows go from one engine to the other and back as they were, and what differs afterwards is found."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from coinslot.store import copying
from coinslot.store.db import Connection, open_database
from coinslot.store.lock import make_empty
from coinslot.store.sqlite import connect, creation_script
from tests import postgres

ODD_TEXTS = ["", " ", "é", "É", "E", "e", "😀", "ａ", "a\nb", "\\N", "\\.", "\t", "'", '"', "%s", ":name", "{}", "1"]
NOW = "2026-01-31T23:59:59.123456Z"


def test_every_table_comes_after_those_it_refers_to_and_every_stored_column_is_named():
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(creation_script())
        names = {name for (name,) in fresh.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        seen: set[str] = set()
        for table in copying.tables():
            parents = {row[2] for row in fresh.execute(f"PRAGMA foreign_key_list({table.name})")}
            assert parents - {table.name} <= seen, table.name
            seen.add(table.name)
            assert list(table.columns) == [row[1] for row in fresh.execute(f"PRAGMA table_info({table.name})")]
            assert table.key, table.name

    assert seen == names
    assert "moment" not in next(table for table in copying.tables() if table.name == "transactions").columns


def insert(connection: Connection, table: str, **row: Any) -> None:
    places = ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", row)


def fill(connection: sqlite3.Connection) -> None:
    """Rows of every odd kind: more than a portion of them, and some that refer to later rows of their own table."""
    connection.execute("BEGIN")
    insert(connection, "games", id=7, slug="demo", name="Demo", api_token_hash="h", revision="r", created_at=NOW)
    for text in ODD_TEXTS:
        insert(connection, "items", game_id=7, sku=text, name=text, created_at=NOW, updated_at=NOW)
    for kind in ("id", "name"):
        for number in range(copying.PORTION + 7):
            text = f"{ODD_TEXTS[number % len(ODD_TEXTS)]}{number // len(ODD_TEXTS)}"
            insert(connection, "search_keys", kind=kind, key=text, game_id=7, player_id=ODD_TEXTS[-number % 5])
    for number in (-(2**63), -1, 0, 2**63 - 1):
        insert(connection, "counters", game_id=7, partner="p", name="n", label=str(number), day="d", value=number)
    transaction = {
        "game_id": 7, "partner": "p", "kind": "purchase", "player_id": "a", "fingerprint": "f", "body_sha256": "s",
        "signed_with": "k", "answer_status": 200, "answer_body": "{}", "environment": "live", "is_test": 0,
        "received_at": NOW, "previous_hash": "0", "row_hash": "1",
    }  # fmt: skip
    for number, body in enumerate((None, b"", b"\0", bytes(range(256)), b"\\x00\\N\n\t")):
        ids = {"id": 2**40 + number, "public_id": f"t{number}", "external_id": f"e{number}", "reference": ""}
        insert(connection, "transactions", **transaction, **ids, figures=body or b"", raw_body=body)
    connection.execute("COMMIT")
    connection.execute("PRAGMA foreign_keys = OFF")
    grant = {"game_id": 7, "transaction_id": 2**40, "player_id": "a", "is_test": 0, "created_at": NOW}
    insert(connection, "grants", **grant, id=3, kind="reversal", reverses=9)
    insert(connection, "grants", **grant, id=9, kind="purchase")
    connection.execute("PRAGMA foreign_keys = ON")
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.execute("UPDATE sequences SET last_id = 9 WHERE name = 'grants'")


@contextmanager
def new_file(path: Path) -> Iterator[sqlite3.Connection]:
    make_empty(path)
    with closing(connect(path)) as connection:
        yield connection


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    with new_file(tmp_path_factory.mktemp("copying") / "filled.db") as connection:
        connection.executescript(creation_script())
        connection.execute("PRAGMA synchronous = OFF")
        fill(connection)
        yield connection


def rows(connection: sqlite3.Connection) -> list[str]:
    """Everything that is stored, in any order."""
    return sorted(connection.iterdump())


@pytest.mark.long
def test_a_file_filled_from_another_holds_the_same(filled, tmp_path):
    left: list[int] = []
    with new_file(tmp_path / "copy.db") as copy:
        copied = copying.fill_file(copy, filled, lambda some, total: left.append(some))

        assert rows(copy) == rows(filled)
        assert list(copying.differences(filled, copy, ("one", "two"))) == []
        assert copy.execute("PRAGMA foreign_key_check").fetchall() == []
        assert copied == copying.counts(filled)
        assert copied["search_keys"] == 2 * (copying.PORTION + 7)
        assert left == sorted(left, reverse=True)
        assert left[-1] == 0


CHANGES = {
    "UPDATE items SET name = 'x' WHERE sku = '😀'": "items",
    "UPDATE items SET name = NULL WHERE sku = ''": "items",
    "DELETE FROM search_keys WHERE kind = 'name' AND key = '😀3'": "search_keys",
    "INSERT INTO search_keys VALUES ('name', 'zzz', 7, '')": "search_keys",
    "UPDATE transactions SET raw_body = NULL WHERE raw_body = x'00'": "transactions",
    "UPDATE counters SET value = value - 1 WHERE value > 1": "counters",
    "UPDATE sequences SET last_id = 10": "sequences",
}


@pytest.mark.long
def test_whatever_differs_is_found(filled, tmp_path):
    with new_file(tmp_path / "copy.db") as copy:
        copying.fill_file(copy, filled)
        for sql, table in CHANGES.items():
            copy.execute("BEGIN")
            assert copy.execute(sql).rowcount > 0, sql
            (sentence,) = copying.differences(filled, copy, ("one", "two"))
            assert sentence.startswith(f"{table}: row "), sql
            copy.execute("ROLLBACK")


@pytest.mark.long
def test_a_row_that_refers_to_none_is_not_copied_in_silence(filled, tmp_path):
    filled.execute("PRAGMA foreign_keys = OFF")
    filled.execute("BEGIN")
    filled.execute("DELETE FROM games")
    with new_file(tmp_path / "copy.db") as copy, pytest.raises(sqlite3.IntegrityError, match="refers to none of games"):
        copying.fill_file(copy, filled)
    filled.execute("ROLLBACK")


@pytest.mark.long
class TestThereAndBack:
    def test_every_value_comes_back_and_ids_count_on(self, filled, tmp_path):
        postgres.needs_postgres()
        from coinslot.store.postgres import schemas

        with postgres.fresh_database() as url:
            database = open_database(tmp_path, url)
            with schemas.alone(database) as raw:
                name, copied = schemas.fill(raw, filled)
                with schemas.reading(raw, name) as there:
                    assert list(copying.differences(filled, there, ("one", "two"))) == []
                    assert list(schemas.id_faults(there)) == []
                    with new_file(tmp_path / "back.db") as back:
                        assert copying.fill_file(back, there) == copied
                        assert rows(back) == rows(filled)
                schemas.put_in_place(raw, name, None, "")
            insert_game = (
                "INSERT INTO games (slug, name, api_token_hash, revision, created_at) VALUES ('a', '', '', '', '')"
            )
            database.write_here(lambda tx: tx.execute(insert_game))
            assert database.read().execute("SELECT max(id) FROM games").fetchone()[0] == 8
            database.close()

    def test_an_id_that_would_be_used_again_is_found(self, filled, tmp_path):
        postgres.needs_postgres()
        from coinslot.store.postgres import schemas

        with postgres.fresh_database() as url, schemas.alone(open_database(tmp_path, url)) as raw:
            name, _ = schemas.fill(raw, filled)
            raw.execute(f"SELECT setval('{name}.games_id_seq', 6)")
            with schemas.reading(raw, name) as there:
                assert list(schemas.id_faults(there)) == ["games: the next id would be 7, and there is 7"]

    def test_what_a_killed_one_has_left_is_dropped_and_only_one_works_at_a_time(self, filled, tmp_path):
        postgres.needs_postgres()
        from coinslot.store.errors import BusyError
        from coinslot.store.postgres import schemas

        with postgres.fresh_database() as url:
            database = open_database(tmp_path, url)
            with schemas.alone(database) as raw:
                schemas.fill(raw, filled)
                with pytest.raises(BusyError), schemas.alone(database):
                    pass
            with schemas.alone(database) as raw:
                names = [name for (name,) in raw.execute("SELECT nspname FROM pg_namespace").fetchall()]
                assert [name for name in names if name.startswith("coinslot")] == []
