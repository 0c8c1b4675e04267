"""Every statement of Coinslot that stands complete in the code is one that PostgreSQL takes, with the types it infers.

What is put together while it runs is not seen here: the tests of both engines run it.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import coinslot
from coinslot.games import imports
from coinslot.store.db import open_database
from coinslot.store.postgres.text import translated
from tests import postgres
from tests.store.test_sql import ROOT, SOURCES, queries

IS_STATEMENT = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|WITH)\b(?!.*\{)", re.DOTALL)
# A private database of an import, and what is in SQLite files alone.
NOT_THERE = r"\b(?:staged|portions|sqlite_schema)\b"


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(coinslot.__path__, "coinslot."):
        if not found.name.startswith("coinslot.store.postgres"):
            yield importlib.import_module(found.name)


def held(value: Any) -> Iterator[str]:
    """The texts in a constant."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from held(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from held(each)


def statements() -> dict[str, str]:
    """Statement -> where it stands: literals, and what modules put together as they are imported."""
    found: dict[str, str] = {}
    for path in SOURCES:
        if "postgres" not in path.parts:
            for line, sql in queries(path.read_text(encoding="utf-8")):
                found.setdefault(sql, f"{path.relative_to(ROOT)}:{line}")
    for module in modules():
        for name, value in vars(module).items():
            if name.isupper():
                for sql in held(value):
                    found.setdefault(sql, f"{module.__name__}.{name}")
    return {sql: place for sql, place in found.items() if IS_STATEMENT.match(sql) and not re.search(NOT_THERE, sql)}


def prepared(sql: str) -> str:
    """PREPARE with a translated statement. What is compared with a number is one, as the server sees in its value."""
    names: list[str] = []
    numbers = re.findall(r":(\w+) (?:=|<>|WHEN) \d", sql)

    def numbered(parameter: re.Match[str]) -> str:
        name = parameter[1] or f"place {len(names)}"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    text = re.sub(r"%(?:\((\w+)\))?s", numbered, translated(sql).replace("%%", "\0")).replace("\0", "%")
    types = ", ".join("bigint" if name in numbers else "unknown" for name in names)
    return f"PREPARE statement {f'({types})' if types else ''} AS {text}"


def test_parameters_are_numbered_by_name_and_by_place():
    assert prepared("SELECT :a, :b = 1, :a % 2") == "PREPARE statement (unknown, bigint) AS SELECT $1, $2 = 1, $1 % 2"
    assert prepared("SELECT ?, ?") == "PREPARE statement (unknown, unknown) AS SELECT $1, $2"


@pytest.mark.parametrize(
    ("sql", "there"),
    [
        (
            "SELECT :a, ':b', 'it''s %', x'00ff' -- :c %",
            r"SELECT %(a)s, ':b', 'it''s %%', CAST('\x00ff' AS bytea) -- :c %%",
        ),
        ("UPDATE t SET a = ?, b = b % 2 WHERE c = +:c /* hint */", "UPDATE t SET a = %s, b = b %% 2 WHERE c = %(c)s"),
        ("FROM a CROSS JOIN /* hint */ b INDEXED BY i /* hint */ ON true", "FROM a JOIN b  ON true"),
        ("WHERE instr(lower(name), lower(:text)) > 0", 'WHERE strpos(lower(name), lower(%(text)s COLLATE "C")) > 0'),
        (
            "SELECT json_group_array(json_array(a)), json_object('b', b)",
            "SELECT json_agg(json_build_array(a)), json_build_object('b', b)",
        ),
        ("FROM json_each(:ids) /* numbers */ i, json_each(:texts)", "FROM numbers_of(%(ids)s) i, texts_of(%(texts)s)"),
        ("SELECT CAST(:x AS INTEGER), a::text", "SELECT CAST(%(x)s AS bigint), a::text"),
    ],
)
def test_a_text_says_the_same_to_both(sql: str, there: str):
    assert translated(sql) == there


@pytest.mark.long
def test_postgresql_takes_every_statement(tmp_path: Path):
    postgres.needs_postgres()
    import psycopg

    texts = statements()
    refused = {}
    with postgres.fresh_database() as url:
        open_database(tmp_path / "home", url).prepare()
        with psycopg.connect(url, autocommit=True, options="-c search_path=coinslot") as connection:
            for sql, place in texts.items():
                try:
                    connection.execute(prepared(sql).encode())
                    connection.execute("DEALLOCATE statement")
                except psycopg.Error as error:
                    refused[sql] = f"{place}: {error}"
    # A part of a longer statement may name a table of that one.
    whole = [why for sql, why in refused.items() if not any(sql.strip() in other and sql != other for other in texts)]

    assert "\n".join(whole) == ""
    assert len(texts) > 450


def test_tables_that_are_nowhere_in_the_schema_are_those_of_an_import():
    connection = imports.staging()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    connection.close()

    assert tables == {"staged", "portions"}


@pytest.mark.long
def test_what_nobody_can_store_is_looked_for_and_not_found(tmp_path: Path):
    postgres.needs_postgres()
    with postgres.fresh_database() as url:
        database = open_database(tmp_path / "home", url)
        database.prepare()
        found = database.read().execute("SELECT 1 FROM games WHERE slug = :slug", {"slug": "a\0b"}).fetchall()
        database.close()

    assert found == []
