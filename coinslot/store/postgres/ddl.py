"""PostgreSQL's tables, derived from the statements that make SQLite's: ``schema.sql`` and the steps after it.

``schema.sql`` stays the one document. What differs, and nothing else:

* ``INTEGER`` is bigint, ``BLOB`` is bytea, and ``TEXT`` is text in the order of SQLite: by code point, whatever the
  language of the database.
* ``id INTEGER PRIMARY KEY`` counts by itself, as SQLite's does, unless the comment beside it says ``from sequences``.
* A generated column is stored, ``GLOB`` is a regular expression, ``STRICT`` and ``WITHOUT ROWID`` have no counterpart.
* A trigger that refuses calls one function with its sentence. Where rows are never deleted, TRUNCATE is refused too,
  which fires no trigger of a row.
* A table that a step makes anew goes on counting, and others refer to it again once :data:`PUT_BACK` has run.
"""

import re
from collections.abc import Iterator

STRING = r"'(?:[^']|'')*'"
COMMENT = r"--[^\n]*|/\*.*?\*/"

REFUSE = """CREATE OR REPLACE FUNCTION coinslot_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = 'integrity_constraint_violation';
END $$"""

# Each id that counts by itself goes on after the largest one that is there. Wanted after rows came with their ids.
RESUME_IDS = """DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT CAST(a.attrelid AS regclass) AS place, a.attname AS name
                 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = current_schema() AND a.attidentity <> '' LOOP
        EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, %L), coalesce(max(%I), 0) + 1, false) FROM %s',
                       found.place, found.name, found.name, found.place);
    END LOOP;
END $$"""

# Before DROP TABLE: the foreign keys of other tables to it are put aside, for the table that gets its name.
PUT_ASIDE = """DO $$
DECLARE
    found record;
BEGIN
    CREATE TEMPORARY TABLE IF NOT EXISTS coinslot_aside (place oid, name text, definition text) ON COMMIT DROP;
    FOR found IN SELECT conrelid AS place, conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint
                 WHERE contype = 'f' AND confrelid = to_regclass('{table}') LOOP
        INSERT INTO coinslot_aside VALUES (found.place, found.name, found.definition);
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', CAST(found.place AS regclass), found.name);
    END LOOP;
END $$"""
# At the end of a transaction with statements of :func:`derived`: those foreign keys hold again, unless their own table
# is gone. Each is checked; like SQLite, which looks at all of them once the steps have ended.
PUT_BACK = """DO $$
DECLARE
    found record;
BEGIN
    IF to_regclass('pg_temp.coinslot_aside') IS NOT NULL THEN
        FOR found IN SELECT a.* FROM coinslot_aside a JOIN pg_class c ON c.oid = a.place LOOP
            EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s',
                           CAST(found.place AS regclass), found.name, found.definition);
        END LOOP;
        DROP TABLE coinslot_aside;
    END IF;
END $$"""
# SQLite knows a trigger by its name alone.
DROP_TRIGGER = """DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT t.tgname AS name, CAST(t.tgrelid AS regclass) AS place
                 FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = current_schema() AND t.tgname IN ('{name}', '{name}_by_truncate') LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', found.name, found.place);
    END LOOP;
END $$"""

TRIGGER = re.compile(
    rf"CREATE\s+TRIGGER\s+(?P<name>\w+)\s+BEFORE\s+(?P<event>INSERT|DELETE|UPDATE(?:\s+OF\s+[\w\s,]+?)?)"
    rf"\s+ON\s+(?P<table>\w+)(?:\s+FOR\s+EACH\s+ROW)?(?:\s+WHEN\s+(?P<condition>.+?))?"
    rf"\s+BEGIN\s+SELECT\s+RAISE\s*\(\s*ABORT\s*,\s*(?P<sentence>{STRING})\s*\)\s*;\s*END",
    re.DOTALL,
)


def creation(script: str) -> list[str]:
    """The statements that make a new database out of ``schema.sql``, to be executed one by one without parameters."""
    return [REFUSE, *derived(script)]


def derived(script: str) -> list[str]:
    """The same statements for PostgreSQL, in their order, to be executed one by one without parameters.

    ``script`` is SQLite's: CREATE, ALTER and DROP of tables, indexes and triggers, and plain INSERT, UPDATE and DELETE.
    Raises ValueError for any other statement, and for a trigger that does more than refuse.
    """
    # First of all, for this is the one comment that says something to us.
    script = re.sub(
        r"\bid(\s+)INTEGER PRIMARY KEY(,?\s*-- from sequences\b)", r"id\1INTEGER NOT NULL PRIMARY KEY\2", script
    )
    return [each for statement in statements(script) for each in _derived(statement)]


def statements(script: str) -> Iterator[str]:
    """The statements of a script without comments. Those in a trigger's body belong to it."""
    script = _outside_strings(COMMENT, "", script)
    for found in re.finditer(rf"\s*((?:CREATE\s+TRIGGER\b.*?;\s*END\b)|(?:{STRING}|[^';])*)(?:;|$)", script, re.DOTALL):
        if found[1].strip():
            yield found[1].strip()


def _derived(statement: str) -> Iterator[str]:
    kind = " ".join(re.findall(r"\w+", statement)[:2]).upper().replace("UNIQUE", "INDEX")
    if kind == "CREATE TRIGGER":
        yield from _trigger(statement)
    elif kind == "CREATE TABLE":
        yield _columns(re.sub(r"\)[\sA-Z,]*\Z", ")", statement))
    elif kind == "CREATE INDEX":
        yield _columns(statement)
    elif kind == "ALTER TABLE":
        yield _columns(statement)
        if re.search(r"\bRENAME\s+TO\b", statement):
            yield RESUME_IDS
    elif kind == "DROP TABLE":
        yield PUT_ASIDE.format(table=statement.split()[-1])
        yield statement
    elif kind == "DROP TRIGGER":
        yield DROP_TRIGGER.format(name=statement.split()[-1])
    elif kind == "DROP INDEX" or kind.split()[0] in ("INSERT", "UPDATE", "DELETE"):
        yield statement
    else:
        raise ValueError(f"no rule makes this statement one of PostgreSQL: {statement}")


def _columns(text: str) -> str:
    """What stands in a table's or an index's parentheses, or follows ADD COLUMN."""
    for pattern, replacement in (
        (r"\bid\s+INTEGER PRIMARY KEY\b", "id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"),
        (r"\bINTEGER\b", "bigint"),
        (r"\bTEXT\b", 'text COLLATE "C"'),
        (r"\bBLOB\b", "bytea"),
        (r"\bVIRTUAL\b", "STORED"),
    ):
        text = _outside_strings(pattern, replacement, text)
    return re.sub(
        rf"\b(NOT\s+)?GLOB\s+({STRING})",
        lambda found: f"{'!~' if found[1] else '~'} {_expression(found[2])}",
        text,
    )


def _trigger(statement: str) -> Iterator[str]:
    found = TRIGGER.fullmatch(statement)
    if found is None:
        raise ValueError(f"no rule makes this trigger one of PostgreSQL: {statement}")
    name, event, table, condition, sentence = found.group("name", "event", "table", "condition", "sentence")
    when = "" if condition is None else f"WHEN ({condition}) "
    refuse = f"EXECUTE FUNCTION coinslot_refuse({sentence})"
    yield f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW {when}{refuse}"
    if event == "DELETE":
        yield f"CREATE TRIGGER {name}_by_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {refuse}"


def _expression(glob: str) -> str:
    """The regular expression of a GLOB pattern, both as literals."""
    parts = re.findall(r"\[\^?\]?[^\]]*\]|.", glob[1:-1], re.DOTALL)
    words = {"*": ".*", "?": "."}
    return "'^" + "".join(words.get(part, part if part[0] in "['" else re.escape(part)) for part in parts) + "$'"


def _outside_strings(pattern: str, replacement: str, text: str) -> str:
    return re.sub(rf"({STRING})|{pattern}", lambda found: found[1] or replacement, text, flags=re.DOTALL)
