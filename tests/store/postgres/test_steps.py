"""A PostgreSQL database is brought to a newer version by the steps that are written for SQLite."""

import pytest

from coinslot.store import db, migrations
from coinslot.store.errors import SchemaError
from tests import postgres

pytestmark = pytest.mark.long


@pytest.fixture
def database(tmp_path):
    postgres.needs_postgres()
    with postgres.fresh_database() as url:
        made = db.open_database(tmp_path / "home", url)
        made.prepare()
        yield made
        made.close()


@pytest.fixture
def steps(monkeypatch):
    def newer(*steps):
        """The code is newer than the tables by so many steps."""
        monkeypatch.setattr(db, "SCHEMA_VERSION", db.SCHEMA_VERSION + len(steps))
        monkeypatch.setattr(migrations, "MIGRATIONS", dict(enumerate(steps, db.SCHEMA_VERSION - len(steps) + 1)))
        return monkeypatch

    return newer


def version(database):
    return database.read().execute("SELECT version FROM engine").fetchone()[0]


def add_person(tx):
    sql = "INSERT INTO people (name, folded, role, created_at) VALUES ('Ann', 'ann', 'owner', 'now') RETURNING id"
    (person,) = tx.execute(sql).fetchone()
    tx.execute(
        """INSERT INTO recovery_codes (code_hash, person_id, created_at) VALUES ('h', :person, 'now')""",
        {"person": person},
    )


def make_people_anew(tx):
    tx.execute("CREATE TABLE new_people (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT")
    tx.execute("DROP TABLE people")
    tx.execute("ALTER TABLE new_people RENAME TO people")


def fill_people(tx):
    people = [row["person_id"] for row in tx.execute("SELECT person_id FROM recovery_codes")]
    for person in people:
        tx.execute("INSERT INTO people (id, name) VALUES (:id, 'Ann')", {"id": person})
    tx.execute("CREATE INDEX people_by_name ON people (name)")


def test_steps_may_make_a_table_anew_and_others_refer_to_it_in_the_end(database, steps):
    database.write_here(add_person)

    steps(make_people_anew, fill_people)  # broken between the two
    database.prepare()

    assert version(database) == db.SCHEMA_VERSION
    (found,) = database.read().execute("SELECT p.name FROM recovery_codes r JOIN people p ON p.id = r.person_id")
    assert found["name"] == "Ann"
    database.write_here(lambda tx: tx.execute("DELETE FROM people").rowcount)
    assert database.read().execute("SELECT count(*) FROM recovery_codes").fetchone()[0] == 0


def fail(tx):
    raise KeyError("mine")


@pytest.mark.parametrize(
    ("second", "error"),
    [
        (lambda tx: None, SchemaError),  # a code refers to nobody
        (lambda tx: tx.execute("INSERT INTO sessions (token_hash) VALUES ('t')"), SchemaError),
        (fail, KeyError),
    ],
)
def test_all_steps_commit_together_or_not_at_all(database, steps, second, error):
    database.write_here(add_person)
    before = version(database)

    undo = steps(make_people_anew, second)
    with pytest.raises(error):
        database.prepare()
    undo.undo()

    assert version(database) == before == db.SCHEMA_VERSION
    assert database.read().execute("SELECT role FROM people").fetchone()[0] == "owner"
