"""A NUL on PostgreSQL, whose texts hold none: who looks for one finds nothing, and who would store one hears of it."""

import pytest

from coinslot.store.db import EngineError
from coinslot.store.postgres.database import PostgresDatabase
from tests import postgres

pytestmark = pytest.mark.long

PUT = "INSERT INTO installation (name, value, updated_at) VALUES (:name, 'kept', '')"
DROP = "DELETE FROM installation WHERE name = :name"
LOOK = "SELECT value FROM installation WHERE name = :name"


@pytest.fixture
def database(tmp_path):
    with postgres.fresh_database() as url:
        made = PostgresDatabase(tmp_path / "home", url)
        made.prepare()
        yield made
        made.close()


def test_it_is_in_no_row_that_is_looked_for_or_deleted(database):
    for name in ("ab", "a"):
        database.write(lambda tx, name=name: tx.execute(PUT, {"name": name}).rowcount)

    assert database.read().execute(LOOK, {"name": "a\0b"}).fetchall() == []
    assert database.write(lambda tx: tx.execute(LOOK, {"name": "a\0b"}).fetchall()) == []
    assert database.write(lambda tx: tx.execute(DROP, {"name": "a\0b"}).rowcount) == 0
    assert database.read().execute(LOOK, {"name": "a"}).fetchone()["value"] == "kept"


def test_it_is_never_stored_as_something_else(database):
    with pytest.raises(EngineError):
        database.write(lambda tx: tx.execute(PUT, {"name": "a\0b"}))

    assert database.read().execute("SELECT * FROM installation WHERE name LIKE 'a%'").fetchall() == []
