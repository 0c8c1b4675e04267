"""Both engines, made from the one schema.sql, hold the same and refuse the same."""

import random
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import product
from typing import Any, NamedTuple

import pytest

from coinslot.games.registry import LONGEST_ID
from coinslot.store.db import SCHEMA_FILE
from coinslot.store.postgres import ddl
from tests import postgres
from tests.store.postgres import catalogs

SCHEMA = SCHEMA_FILE.read_text(encoding="utf-8")
ODD_TEXTS = (
    "",
    "12",
    "-5",
    "1-2",
    "12a",
    "1" * 41,
    "1" * 42,
    "１２",
    "12\n",
    "2026-01",
    "2026-1",
    "2026-01\n",
    "x2026-01",
)

WIDE = [chr(code) for code in range(0x1F300, 0x1F600)]  # four bytes each


class Pair(NamedTuple):
    """One database of each engine. Foreign keys are looked at by the catalogs alone; no row here has a parent."""

    sqlite: sqlite3.Connection
    postgres: Any  # as the role that owns the tables
    superuser: Any

    def run(self, script: str) -> None:
        """Statements as a step of the schema has them."""
        self.sqlite.executescript(script)
        with self.postgres.transaction():
            for statement in [*ddl.derived(script), ddl.PUT_BACK]:
                self.postgres.execute(statement)

    def outcomes(self, sql: str, values: dict[str, Any] | None = None) -> tuple[str, str]:
        """Why each engine refuses a change, or nothing; either way it is undone."""
        return _outcome_of_sqlite(self.sqlite, sql, values or {}), _outcome_of_postgres(self.superuser, sql, values)

    @contextmanager
    def row(self, table: str, row: dict[str, Any]) -> Iterator[None]:
        """A row in both for a while, whatever it refers to.

        It is committed: a row of the same transaction has its foreign keys looked at with each change.
        """
        sql = insertion(table, row)
        with self.unguarded():
            self.superuser.execute(re.sub(r":(\w+)", r"%(\1)s", sql), row)
        self.sqlite.execute("SAVEPOINT row")
        self.sqlite.execute(sql, row)
        try:
            yield
        finally:
            self.sqlite.execute("ROLLBACK TO row")
            with self.unguarded():
                self.superuser.execute(f"DELETE FROM {table}")

    @contextmanager
    def unguarded(self) -> Iterator[None]:
        """Without PostgreSQL's triggers and foreign keys."""
        self.superuser.execute("SET session_replication_role = replica")
        try:
            yield
        finally:
            self.superuser.execute("SET session_replication_role = origin")


def insertion(table: str, row: dict[str, Any]) -> str:
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"


def _outcome_of_sqlite(connection: sqlite3.Connection, sql: str, values: dict[str, Any]) -> str:
    connection.execute("SAVEPOINT trial")
    try:
        connection.execute(sql, values)
    except sqlite3.IntegrityError as error:
        return re.sub(r"(CHECK|UNIQUE|NOT NULL) constraint failed.*", r"\1", str(error), flags=re.DOTALL)
    finally:
        connection.execute("ROLLBACK TO trial")
    return ""


def _outcome_of_postgres(connection: Any, sql: str, values: dict[str, Any] | None) -> str:
    import psycopg

    names = {"CheckViolation": "CHECK", "UniqueViolation": "UNIQUE", "NotNullViolation": "NOT NULL"}
    with suppress(psycopg.Rollback):
        try:
            with connection.transaction():
                connection.execute(re.sub(r":(\w+)", r"%(\1)s", sql), values)
                raise psycopg.Rollback
        except psycopg.IntegrityError as error:
            return names.get(type(error).__name__, error.diag.message_primary)
    return ""


@contextmanager
def pair(template: str) -> Iterator[Pair]:
    import psycopg

    path = {"options": "-c search_path=coinslot", "autocommit": True}
    with (
        postgres.fresh_database(template) as url,
        closing(sqlite3.connect(":memory:", isolation_level=None)) as ours,
        psycopg.connect(url, **path) as theirs,
        psycopg.connect(postgres.superuser(url), **path) as superuser,
    ):
        ours.executescript(SCHEMA)
        yield Pair(ours, theirs, superuser)


@pytest.fixture(scope="module")
def template() -> Iterator[str]:
    """A database made from the schema by a role that is no superuser."""
    postgres.needs_postgres()
    import psycopg

    with postgres.fresh_database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE SCHEMA coinslot")
            connection.execute("SET search_path TO coinslot")
            for statement in ddl.creation(SCHEMA):
                connection.execute(statement)
        yield url


@pytest.fixture(scope="module")
def both(template: str) -> Iterator[Pair]:
    """For tests that undo what they do."""
    with pair(template) as made:
        yield made


class TestText:
    def test_every_statement_of_the_schema_is_found(self):
        assert len(list(ddl.statements(SCHEMA))) == len(re.findall(r"^(CREATE|INSERT)", SCHEMA, re.MULTILINE))

    def test_what_stands_in_literals_stays(self):
        (made,) = ddl.derived("CREATE TABLE t (a TEXT DEFAULT 'TEXT; -- ''BLOB'' /*' CHECK (a <> ')' )) STRICT -- end")
        assert made == """CREATE TABLE t (a text COLLATE "C" DEFAULT 'TEXT; -- ''BLOB'' /*' CHECK (a <> ')' ))"""

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE VIEW v AS SELECT 1",
            "PRAGMA user_version = 12",
            "CREATE TRIGGER t AFTER INSERT ON games BEGIN DELETE FROM items; END",
            "CREATE TRIGGER t BEFORE DELETE ON games BEGIN SELECT RAISE(IGNORE); END",
            "VACUUM",
        ],
    )
    def test_what_has_no_rule_is_refused(self, statement):
        with pytest.raises(ValueError, match="no rule"):
            ddl.derived(statement)


def assert_alike(made: Pair) -> catalogs.Catalog:
    ours, theirs = catalogs.of_sqlite(made.sqlite), catalogs.of_postgres(made.postgres)
    for part in catalogs.Catalog._fields:
        assert getattr(theirs, part) == getattr(ours, part), part
    wrongly_ordered = """SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = CAST(current_schema() AS regnamespace) AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attcollation NOT IN (0, (SELECT oid FROM pg_collation WHERE collname = 'C'))"""
    assert made.postgres.execute(wrongly_ordered).fetchall() == []
    return theirs


def counting(made: Pair) -> set[str]:
    """The tables of PostgreSQL whose ids count by themselves."""
    sql = "SELECT CAST(attrelid AS regclass)::text FROM pg_attribute WHERE attidentity = 'd' AND attname = 'id'"
    return {table for (table,) in made.postgres.execute(sql)}


@pytest.mark.long
class TestSchema:
    def test_tables_columns_keys_indexes_and_triggers_are_the_same(self, both):
        found = assert_alike(both)

        assert min(map(len, found)) > 10
        assert (
            max(map(len, [*found.indexes, *found.triggers])) + len("_by_truncate") < 64
        )  # PostgreSQL cuts longer ones

    @pytest.mark.parametrize(
        "pattern", ["a?c", "*a*", "[a-c]?", "[^a-c]", "a.c", "[]x]", "", "*", "é?", "a\\*", "it''s", "(a|b)+"]
    )
    def test_a_pattern_matches_the_same(self, both, pattern):
        (made,) = ddl.derived(f"CREATE INDEX i ON games (id) WHERE name GLOB '{pattern}'")
        condition = made.partition(" WHERE ")[2]

        for word in (
            "abc",
            "a.c",
            "ac",
            "a",
            "b",
            "bx",
            "x",
            "]",
            "",
            "a\nc",
            "abc\n",
            "é!",
            "a\\x",
            "it's",
            "(a|b)+",
            "aa",
        ):
            (ours,) = both.sqlite.execute(f"SELECT name GLOB '{pattern}' FROM (SELECT ? AS name)", [word]).fetchone()
            sql = f"SELECT {condition} FROM (SELECT CAST(%s AS text) AS name) w"
            assert both.postgres.execute(sql, [word]).fetchone() == (bool(ours),), word

    def test_ids_count_by_themselves_but_those_of_the_feeds(self, both):
        found = assert_alike(both)

        with_id = {table for table, key in found.primary_keys.items() if key == ["id"]}
        assert counting(both) == with_id - {"grants", "events"}

    def test_rows_that_belong_to_a_new_database_are_there(self, both):
        sql = "SELECT name, last_id FROM sequences ORDER BY name"

        assert both.postgres.execute(sql).fetchall() == both.sqlite.execute(sql).fetchall() != []

    def test_text_is_ordered_and_folded_by_code_point_whatever_the_language_of_the_database(self, both):
        words = ["b", "B", "a", "é", "Z", "😀", "-a", "ａ", "É", "a b", "ab", "_"]
        both.postgres.execute("CREATE TEMPORARY TABLE words AS SELECT name FROM games LIMIT 0")
        for word in words:
            both.postgres.execute("INSERT INTO words VALUES (%s)", [word])

        assert [word for (word,) in both.postgres.execute("SELECT name FROM words ORDER BY name")] == sorted(words)
        assert both.postgres.execute("SELECT 'a' < 'B', name < 'B' FROM words WHERE name = 'a'").fetchone() == (
            True,
            False,
        )
        for word in words:
            (ours,) = both.sqlite.execute("SELECT lower(?)", [word]).fetchone()
            assert both.postgres.execute("SELECT lower(name) FROM words WHERE name = %s", [word]).fetchone() == (ours,)


class Check(NamedTuple):
    name: str
    columns: tuple[str, ...]
    text: str


def checks_of(made: Pair, table: str) -> list[Check]:
    sql = """SELECT o.conname, array_agg(a.attname ORDER BY a.attnum), pg_get_constraintdef(o.oid)
             FROM pg_constraint o JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = ANY (o.conkey)
             WHERE o.contype = 'c' AND o.conrelid = to_regclass(%s) GROUP BY o.oid, o.conname ORDER BY o.conname"""
    return [Check(name, tuple(columns), text) for name, columns, text in made.postgres.execute(sql, [table])]


def candidates(column: catalogs.Column, checks: list[Check]) -> list[Any]:
    """Values worth trying in a column: those its checks name, others, and none where it may be empty."""
    texts = [check.text for check in checks if column.name in check.columns]
    found: list[Any]
    if column.type == "bigint":
        found = [1, 0, 2, -1]
    elif column.type == "bytea":
        found = [b"x", b"y"]
    else:
        named = dict.fromkeys(word for text in texts for word in re.findall(r"'(\w+)'", text))
        found = [*named, "x", "y", *(ODD_TEXTS if any("~" in text for text in texts) else ())]
    return [*found, None] if column.is_nullable else found


def base_row(made: Pair, table: str, columns: list[catalogs.Column], checks: list[Check]) -> dict[str, Any]:
    """A row that all checks accept, the same in each run."""
    chance = random.Random(table)
    checked = {name for check in checks for name in check.columns}
    for _ in range(20_000):
        row = {
            column.name: chance.choice(candidates(column, checks))
            if column.name in checked
            else candidates(column, checks)[0]
            for column in columns
            if not column.generated
        }
        if _outcome_of_sqlite(made.sqlite, insertion(table, row), row) == "":
            return row
    raise AssertionError(f"no row of {table} found")


@pytest.fixture(scope="module")
def empty(template: str) -> Iterator[Pair]:
    with pair(template) as made:
        made.run("DELETE FROM sequences")
        yield made


@pytest.fixture(scope="module")
def catalog(empty: Pair) -> catalogs.Catalog:
    return catalogs.of_sqlite(empty.sqlite)


@pytest.mark.long
class TestRefusals:
    def test_each_check_accepts_and_refuses_the_same_values(self, empty, catalog):
        tried = 0
        with empty.unguarded():
            for table, columns in catalog.columns.items():
                checks = checks_of(empty, table)
                base = base_row(empty, table, columns, checks) if checks else {}
                for check in checks:
                    chosen = [column for column in columns if column.name in check.columns]
                    seen = set()
                    for values in product(*(candidates(column, checks) for column in chosen)):
                        row = base | dict(zip((column.name for column in chosen), values, strict=True))
                        ours, theirs = empty.outcomes(insertion(table, row), row)
                        assert theirs == ours, (check, row)
                        seen.add(ours)
                        tried += 1
                    assert seen == {"", "CHECK"}, check
        assert tried > 500

    def test_two_of_the_longest_ids_fit_into_each_index(self, empty, catalog):
        """PostgreSQL refuses a row with more than 2,704 bytes in an index; SQLite has no such limit."""
        chance = random.Random(1)
        tried = 0
        with empty.unguarded():
            for table, columns in catalog.columns.items():
                checks = checks_of(empty, table)
                base = base_row(empty, table, columns, checks)
                checked = {name for check in checks for name in check.columns}
                free = {each.name for each in columns if each.type == "text" and not each.generated} - checked
                indexed = [catalog.primary_keys[table], *(key[1:] for key in catalog.unique_keys if key[0] == table)]
                for sql in catalog.indexes.values():
                    if f" ON {table} " in sql:
                        indexed.append(re.findall(r"\w+", sql.partition(f" ON {table} ")[2].partition(" WHERE ")[0]))
                for names in indexed:
                    ids = [name for name in names if name in free][-2:]
                    # Compressible texts would take less. What stands after an id, such as an amount, is short.
                    row = base | {name: "".join(chance.choices(WIDE, k=LONGEST_ID)) + "x" * 80 for name in ids}
                    assert _outcome_of_postgres(empty.superuser, insertion(table, row), row) == "", (table, names)
                    tried += len(ids)
        assert tried > 100

    def test_each_guarded_table_refuses_the_same_changes_with_the_same_sentence(self, empty, catalog):
        seen = set()
        for table in sorted(set(catalog.triggers.values())):
            checks = checks_of(empty, table)
            columns = catalog.columns[table]
            base = base_row(empty, table, columns, checks)
            for column in columns:
                if column.generated:
                    continue
                values = candidates(column, checks)
                for before in {base[column.name], values[0], values[-1]}:
                    row = base | {column.name: before}
                    if _outcome_of_sqlite(empty.sqlite, insertion(table, row), row):
                        continue
                    with empty.row(table, row):
                        changes = [(f"UPDATE {table} SET {column.name} = {column.name}", {})]
                        changes += [(f"UPDATE {table} SET {column.name} = :x", {"x": value}) for value in values]
                        for sql, new in changes:
                            ours, theirs = empty.outcomes(sql, new)
                            assert theirs == ours, (sql, new, row)
                            seen.add((table, ours))
            with empty.row(table, base):
                ours, theirs = empty.outcomes(f"DELETE FROM {table}")
                assert theirs == ours != "", table
                assert _outcome_of_postgres(empty.superuser, f"TRUNCATE {table} CASCADE", None) == ours

        refused = {table for table, outcome in seen if outcome not in ("", "CHECK")}
        assert refused == set(catalog.triggers.values())
        assert {table for table, outcome in seen if outcome == ""} == {"transactions", "settlements"}
        assert "are never deleted" in _outcome_of_postgres(empty.superuser, "TRUNCATE games CASCADE", None)


PARENTS = """
INSERT INTO games (id, slug, name, api_token_hash, revision, created_at) VALUES (7, 'a', 'A', 'h', 'r', 'now');
INSERT INTO people (id, name, folded, role, created_at) VALUES (41, 'Ann', 'ann', 'owner', 'now');
INSERT INTO sessions (token_hash, person_id, created_at, seen_at, expires_at, remote_address, user_agent)
    VALUES ('t', 41, 'now', 'now', 'later', '127.0.0.1', 'test');
"""
STEPS = {
    "a new table": """
        CREATE TABLE made_up (
            id        INTEGER PRIMARY KEY,     -- a comment; with 'one quote and a -- and ( in it
            game_id   INTEGER REFERENCES games (id) ON DELETE SET NULL,
            code      TEXT NOT NULL DEFAULT 'it''s; INTEGER' CHECK (code GLOB 'a?[x-z]*' OR code NOT GLOB '*.b'),
            body      BLOB,
            shown     TEXT GENERATED ALWAYS AS (coalesce(code, 'none')) VIRTUAL,
            UNIQUE (game_id, code),
            CHECK (length(code) < 100)
        ) STRICT;
        CREATE TABLE made_up_lines (a TEXT NOT NULL, b INTEGER NOT NULL REFERENCES made_up (id) ON DELETE CASCADE,
            PRIMARY KEY (b, a)) STRICT, WITHOUT ROWID;
        CREATE UNIQUE INDEX made_up_first ON made_up (game_id) WHERE code = 'x' AND body IS NULL;
        CREATE TRIGGER made_up_stays BEFORE UPDATE OF code, body ON made_up WHEN old.code <> new.code
            BEGIN SELECT RAISE(ABORT, 'it''s never changed; never'); END;
        CREATE TRIGGER made_up_is_kept BEFORE DELETE ON made_up BEGIN SELECT RAISE(ABORT, 'kept'); END;
        INSERT INTO made_up (game_id, code) VALUES (7, 'axx'), (NULL, 'other');""",
    "a new feed": "CREATE TABLE feed (id INTEGER PRIMARY KEY, -- from sequences\n a TEXT) STRICT;",
    "a new index": """
        CREATE INDEX players_by_country ON players (game_id, country, player_id) WHERE country IN ('DE', 'FR');
        CREATE INDEX players_folded ON players (lower(name), game_id) WHERE name <> lower(name);""",
    "new columns": """
        ALTER TABLE games ADD COLUMN colour TEXT NOT NULL DEFAULT 'red' CHECK (colour IN ('red', 'blue'));
        ALTER TABLE games ADD COLUMN of_person INTEGER REFERENCES people (id);
        ALTER TABLE games ADD COLUMN icon BLOB;
        ALTER TABLE games ADD COLUMN shown TEXT GENERATED ALWAYS AS (coalesce(acked_at, created_at)) VIRTUAL;
        UPDATE games SET of_person = 41;""",
    "renamed and removed columns": """
        ALTER TABLE alert_targets RENAME COLUMN scheme TO kind;
        ALTER TABLE notices DROP COLUMN detail;""",
    "things dropped": """
        DROP INDEX players_to_search;
        DROP TABLE months_so_far;
        DROP TRIGGER settlements_are_never_deleted;
        DROP TRIGGER grants_are_never_changed;""",
    "a table made anew": """
        CREATE TABLE people_new (id INTEGER PRIMARY KEY, name TEXT NOT NULL, folded TEXT NOT NULL UNIQUE,
            role TEXT NOT NULL CHECK (role IN ('owner', 'support', 'bookkeeper')), created_at TEXT NOT NULL) STRICT;
        INSERT INTO people_new (id, name, folded, role, created_at)
            SELECT id, name, folded, role, created_at FROM people;
        DROP TABLE people;
        ALTER TABLE people_new RENAME TO people;
        CREATE INDEX people_by_role ON people (role);
        INSERT INTO people (name, folded, role, created_at) VALUES ('Bo', 'bo', 'bookkeeper', 'now');""",
    "tables made anew that refer to one another and to themselves": """
        CREATE TABLE refunds_new (id INTEGER PRIMARY KEY, grant_id INTEGER REFERENCES grants (id)) STRICT;
        CREATE TABLE grants_new (id INTEGER PRIMARY KEY, -- from sequences
            game_id INTEGER NOT NULL REFERENCES games (id), reverses INTEGER REFERENCES grants (id)) STRICT;
        INSERT INTO grants_new (id, game_id) VALUES (1, 7);
        DROP TABLE grants;
        ALTER TABLE grants_new RENAME TO grants;
        DROP TABLE refunds;
        ALTER TABLE refunds_new RENAME TO refunds;
        INSERT INTO refunds (grant_id) VALUES (1);
        CREATE TRIGGER grants_are_never_deleted BEFORE DELETE ON grants
            BEGIN SELECT RAISE(ABORT, 'grants are never deleted'); END;""",
}


@pytest.mark.long
class TestSteps:
    @pytest.mark.parametrize("name", STEPS)
    def test_a_step_does_the_same_to_both(self, name, template):
        with pair(template) as made:
            made.run(PARENTS)
            ids = counting(made)
            made.postgres.execute(ddl.RESUME_IDS)

            made.run(STEPS[name])

            found = assert_alike(made)
            for table, columns in found.columns.items():
                names = ", ".join(column.name for column in columns)
                sql = f"SELECT {names} FROM {table} ORDER BY 1"
                assert made.postgres.execute(sql).fetchall() == made.sqlite.execute(sql).fetchall()
            assert counting(made) == ids | ({"made_up"} if name == "a new table" else set())

    def test_a_foreign_key_that_no_longer_holds_is_noticed_in_the_end(self, template):
        import psycopg

        with pair(template) as made:
            made.run(PARENTS)

            with pytest.raises(psycopg.errors.ForeignKeyViolation, match="sessions_person_id_fkey"):
                made.run(STEPS["a table made anew"].replace("FROM people;", "FROM people WHERE id <> 41;"))
            with pytest.raises(psycopg.errors.UndefinedTable):
                made.run("DROP TABLE people")

    def test_a_new_trigger_refuses_the_same(self, template):
        with pair(template) as made:
            made.run(PARENTS + STEPS["a new table"])

            for sql, sentence in (
                ("UPDATE made_up SET code = 'y'", "it's never changed; never"),
                ("UPDATE made_up SET code = code, body = NULL", ""),
                ("DELETE FROM made_up", "kept"),
            ):
                assert made.outcomes(sql) == (sentence, sentence)
            assert _outcome_of_postgres(made.postgres, "TRUNCATE made_up CASCADE", None) == "kept"

    def test_a_dropped_trigger_refuses_nothing_any_more(self, template):
        with pair(template) as made:
            made.run(STEPS["things dropped"])

            assert _outcome_of_postgres(made.postgres, "TRUNCATE settlement_steps, settlements CASCADE", None) != ""
            made.run("DROP TRIGGER settlement_steps_are_never_deleted; DROP TRIGGER settlement_lines_are_never_deleted")
            assert _outcome_of_postgres(made.postgres, "TRUNCATE settlements CASCADE", None) == ""

    def test_ids_go_on_after_rows_that_came_with_theirs(self, template):
        with pair(template) as made:
            made.run(PARENTS)
            made.postgres.execute(ddl.RESUME_IDS)

            sql = "INSERT INTO people (name, folded, role, created_at) VALUES ('Bo', 'bo', 'owner', 'now') RETURNING id"
            assert made.postgres.execute(sql).fetchone() == made.sqlite.execute(sql).fetchone() == (42,)
