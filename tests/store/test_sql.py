"""SQL that any engine reads, and the one folder that may import the engine.

Each rule finds text that another engine would refuse or read otherwise. Below are its violations, and what must pass.
"""

import ast
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(ROOT.glob("coinslot/**/*.py"))
IS_SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|WITH|FROM|WHERE|JOIN|AND|OR|IN|IS|EXISTS|CASE|SET|ORDER)\b")
ENGINES = ("sqlite3", "psycopg")
HINT = r"\s*/\* hint \*/"
WORDS = frozenset(
    """and as asc between by case cast coalesce conflict cross current delete desc distinct do else end excluded exists
    false from group having in insert integer into is join left like limit not nothing null offset on or order returning
    select set text then true union update values when where""".split()
)


def columns(is_meant: Callable[[str, bool], bool]) -> str:
    """A pattern of the columns of the schema whose type, and whether they may be NULL, is so in each table."""
    found: dict[str, set[bool]] = {}
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript((ROOT / "schema.sql").read_text(encoding="utf-8"))
        for name, kind, not_null, key in connection.execute(
            """SELECT c.name, c.type, c."notnull", c.pk FROM sqlite_schema t, pragma_table_info(t.name) c
               WHERE t.type = 'table'"""
        ):
            found.setdefault(name, set()).add(is_meant(kind, not (not_null or key)))
    return f"(?:{'|'.join(sorted(name for name, meant in found.items() if meant == {True}))})"


NUMBER = columns(lambda kind, _: kind == "INTEGER")
MAY_BE_NULL = columns(lambda _, is_nullable: is_nullable)


def queries(source: str) -> Iterator[tuple[int, str]]:
    """Every string with SQL in a file, and its line; the values in an f-string become ``{}``."""
    tree = ast.parse(source)
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if id(node) in inner:
            continue
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if IS_SQL.search(text):
            yield node.lineno, re.sub(r"--.*", "", text)


def inside(text: str, start: int) -> str:
    """What stands between the parenthesis that opens just before ``start`` and the one that closes it."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
    return text[start:]


def top_level(text: str) -> str:
    """The text without what stands in parentheses, and without literals."""
    text = re.sub(r"'[^']*'", "''", text)
    while text != (shorter := re.sub(r"\([^()]*\)", "", text)):
        text = shorter
    return text


def nameless_subquery(sql: str) -> bool:
    for found in re.finditer(r"(?:\bFROM|\bJOIN|,)\s*\((?=\s*(?:SELECT\b|\{\}|WITH\b|VALUES\b))", sql):
        if found[0].startswith(",") and not re.search(
            r"\bFROM\b(?:(?!\b(?:SELECT|WHERE)\b)[^()])*$", sql[: found.start()]
        ):
            continue  # a value among others
        after = sql[found.end() + len(inside(sql, found.end())) + 1 :]
        name = re.match(r"\s*(?:AS\s+)?([A-Za-z_]\w*)", after)
        if name is None or name[1].lower() in WORDS:
            return True
    return False


def is_for_equals(sql: str) -> bool:
    return re.search(r"\bIS\s+(?!NOT\s+NULL\b|NULL\b|TRUE\b|FALSE\b|NOT\s+TRUE\b|NOT\s+FALSE\b)", sql) is not None


def bare_column_in_upsert(sql: str) -> bool:
    for found in re.finditer(r"\bDO UPDATE\s+SET\b", sql):
        rest = re.split(r"\bRETURNING\b|\bON CONFLICT\b", sql[found.end() :])[0]
        rest = re.sub(r"\(\s*SELECT\b.*", "", re.sub(r"'[^']*'|/\*.*?\*/", "", rest), flags=re.DOTALL)
        assigned = re.sub(r"(^|,)\s*\w+\s*=(?!=)", r"\1", rest)
        for name in re.finditer(r"(?<![.:\w{])([a-z_]\w*)\b(?!\s*[.(])", assigned):
            if name[1].lower() not in WORDS:
                return True
    return False


def two_conflicts(sql: str) -> bool:
    """Elsewhere a statement has one. It means any unique key where it names no columns."""
    return sql.count("ON CONFLICT") > 1


def uncast_nullable_parameter(sql: str) -> bool:
    return re.search(r":\w+\s+IS\s+(NOT\s+)?NULL\b", sql) is not None


def total(sql: str) -> bool:
    return re.search(r"\btotal\s*\(", sql, re.IGNORECASE) is not None


def min_or_max_of_two(sql: str) -> bool:
    return any("," in top_level(inside(sql, found.end())) for found in re.finditer(r"\b(?:min|max)\s*\(", sql))


def comparison_as_number(sql: str) -> bool:
    """A truth value that is summed, or stands beside a number: in a sum, a coalesce, or the branches of a CASE."""
    for found in re.finditer(r"\b(sum|avg|coalesce)\s*\(", sql):
        held = top_level(inside(sql, found.end()))
        if not re.search(r"\bCASE\b", held) and re.search(r"[=<>]|\bIS\b|\bIN\b|\bEXISTS\b", held):
            return True
    for found in re.finditer(r"\(", sql):
        held = inside(sql, found.end())
        is_computed = re.match(r"\s*[-+*]\s", sql[found.end() + len(held) + 1 :]) is not None
        if is_computed and not held.startswith("SELECT") and re.search(r"[=<>]|\bEXISTS\b", top_level(held)):
            return True
    is_truth = re.search(r"\bTHEN\s+(?:NOT\s+)?(?:EXISTS\b|[\w.:']+\s*(?:=|<|>|IS\b|IN\b))", sql)
    return is_truth is not None and re.search(r"\b(?:THEN|ELSE)\s+\d+\s*(?:END|WHEN|ELSE)\b", sql) is not None


def unmarked_hint(sql: str) -> bool:
    """What only helps this engine's planner carries a comment. CROSS JOIN is one where it has a condition."""
    for found in re.finditer(rf"\bCROSS JOIN\b(?!{HINT})", sql):
        if re.match(r"\s*(\([^()]*\)|\w+\([^()]*\)|\w+)\s+(AS\s+)?(\w+\s+)?ON\b", sql[found.end() :]):
            return True
    return re.search(rf"\bINDEXED BY\s+(\w+|\{{\}})(?!\w|{HINT})|\+:\w+(?!\w|{HINT})", sql) is not None


def words_of_one_engine(sql: str) -> bool:
    words = r"\bINSERT OR\b|\browid\b|\b(?:strftime|datetime|julianday|ifnull|iif)\s*\(|\bREPLACE INTO\b"
    return re.search(words, sql) is not None


def hint_without_condition(sql: str) -> bool:
    """Without the hint it is a JOIN, and that has an ON."""
    for found in re.finditer(rf"\bCROSS JOIN{HINT}", sql):
        following = re.search(r"\b(?:ON|WHERE|JOIN|GROUP|ORDER|LIMIT|UNION)\b|\)|$", sql[found.end() :])
        if following is None or following[0] != "ON":
            return True
    return False


def reserved_name(sql: str) -> bool:
    return re.search(r"\)\s+(?:AS\s+)?(?:all|any|both|end|only|some|user|window)\b", sql) is not None


def unmarked_numbers(sql: str) -> bool:
    """A list of numbers says so, and a number taken out of JSON is cast: the engine must know what they are."""
    for found in re.finditer(r"\bjson_each\(:\w+\)(?!\s*/\* numbers \*/)\s*(?:([a-z]\w*)\b)?", sql):
        value = rf"{found[1]}\.value\b" if found[1] else r"value\b"
        if re.search(rf"\b{NUMBER}\s*=\s*{value}", sql):
            return True
        if re.search(rf"\b{NUMBER}\s+(?:NOT\s+)?IN\s*\(\s*SELECT\s+value\s+FROM\s*$", sql[: found.start()]):
            return True
    return re.search(rf"\b{NUMBER}\s*(?:[=<>]+|BETWEEN)\s*json_extract\(", sql) is not None


def list_of_no_rows(sql: str) -> bool:
    """It is empty here and NULL elsewhere. An import's private tables are in SQLite always."""
    return "INTO portions" not in sql and re.search(r"(?<!coalesce\()\bjson_group_array\(", sql) is not None


def limited_recursion(sql: str) -> bool:
    bodies = [top_level(inside(sql, found.end())) for found in re.finditer(r"\bAS\s*\(", sql)]
    return "RECURSIVE" in sql and any("UNION" in body and "LIMIT" in body for body in bodies)


def like(sql: str) -> bool:
    """Small and capital letters are the same to it here, and nowhere else; what is folded before is."""
    return re.search(r"(?<!\))\s(?:NOT\s+)?LIKE\b", sql) is not None


def nulls_anywhere(sql: str) -> bool:
    """NULL is first in order here and last elsewhere: the order says which, or no such row is wanted."""
    for found in re.finditer(r"\bORDER BY\b", sql):
        for term in re.split(r"\bLIMIT\b|\)", sql[found.end() :])[0].split(","):
            name = re.match(rf"\s*(?:\w+\.)?({MAY_BE_NULL})\b(?!.*\bNULLS\b)", term)
            if name and not re.search(rf"\b{name[1]}\s*(?:[<>=]|BETWEEN\b|IS NOT NULL\b)", sql):
                return True
    return False


VIOLATIONS: dict[Callable[[str], bool], tuple[str, ...]] = {
    nameless_subquery: (
        "SELECT id FROM (SELECT id FROM games LIMIT 1)",
        "SELECT id FROM (SELECT id FROM games) WHERE id > 1",
        "SELECT * FROM ({}) ORDER BY id",
        "SELECT 1 FROM games g JOIN (SELECT max(id) AS id FROM games) ON true",
        "SELECT 1 FROM games g, (SELECT 1 AS x)",
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM games)) FROM games",
    ),
    is_for_equals: ("WHERE game_id IS :game_id", "WHERE a.name IS NOT b.name", "WHERE k.game_id IS r.game_id"),
    bare_column_in_upsert: (
        "INSERT INTO t (a, n) VALUES (:a, 1) ON CONFLICT (a) DO UPDATE SET n = n + 1",
        "INSERT INTO t (a, n) VALUES (:a, 1) ON CONFLICT (a) DO UPDATE SET b = excluded.b, n = coalesce(n, excluded.n)",
        "INSERT INTO t (a, n) VALUES (:a, 1) ON CONFLICT (a) DO UPDATE SET n = excluded.n WHERE n IS NULL",
        "INSERT INTO t (a) VALUES (:a) ON CONFLICT (a) DO UPDATE SET d = CASE WHEN due IS NULL THEN :now END",
    ),
    two_conflicts: ("INSERT INTO t (a, b) VALUES (:a, :b) ON CONFLICT (a) DO NOTHING ON CONFLICT (b) DO NOTHING",),
    uncast_nullable_parameter: ("WHERE :x IS NULL OR a = :x", "CASE WHEN :x IS NOT NULL THEN 1 END"),
    total: ("SELECT total(amount) FROM t", "SELECT TOTAL (amount) FROM t"),
    min_or_max_of_two: (
        "UPDATE games SET acked = max(acked, :through)",
        "SELECT sum(min(value, 10)) FROM t",
        "SELECT max(coalesce((SELECT max(id) FROM t), 0), :floor) FROM t",
    ),
    comparison_as_number: (
        "SELECT sum(state = 'waiting') FROM t",
        "SELECT coalesce(sum(state = 'a' AND b < :c), 0) FROM t",
        "UPDATE t SET n = n + coalesce(state = 'waiting', 0)",
        "AND CASE :state WHEN 'test' THEN t.is_test = 1 ELSE 1 END",
        "SELECT (a = 'x') + (b = 'y') FROM t",
        "SELECT sum(ended_at IS NULL) FROM t",
    ),
    unmarked_hint: (
        "FROM a CROSS JOIN b ON b.id = a.id",
        "FROM t INDEXED BY t_by_time WHERE a = 1",
        "FROM t INDEXED BY {} WHERE a = 1",
        "WHERE kind = +:kind AND a = 1",
    ),
    words_of_one_engine: (
        "INSERT OR IGNORE INTO t (a) VALUES (1)",
        "SELECT rowid FROM t",
        "SELECT strftime('%s', at) FROM t",
    ),
    hint_without_condition: (
        "SELECT 1 FROM a CROSS JOIN /* hint */ b WHERE b.id = a.id",
        "SELECT 1 FROM a CROSS JOIN /* hint */ b CROSS JOIN /* hint */ c ON c.id = b.id",
        "SELECT 1 FROM (SELECT 1 FROM a CROSS JOIN /* hint */ b) c",
    ),
    reserved_name: ("SELECT * FROM (SELECT 1 AS x) some", "SELECT * FROM (SELECT 1 AS x) AS user WHERE x = 1"),
    unmarked_numbers: (
        "SELECT 1 FROM json_each(:ids) i CROSS JOIN /* hint */ grants g ON g.id = i.value",
        "UPDATE payments SET is_sent = 1 WHERE id IN (SELECT value FROM json_each(:ids))",
        "SELECT 1 FROM json_each(:players) w JOIN events e ON e.game_id = json_extract(w.value, '$[0]')",
        "SELECT 1 FROM grants t WHERE t.id BETWEEN json_extract(:x, '$[0]') AND 5",
    ),
    list_of_no_rows: ("SELECT json_group_array(json_array(sku, quantity)) FROM entries",),
    limited_recursion: (
        "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 9) SELECT x FROM n",
        "WITH RECURSIVE m (x) AS (SELECT 1), n (x) AS (SELECT 1 UNION SELECT x FROM n LIMIT 9) SELECT x FROM n",
    ),
    like: ("SELECT 1 FROM t WHERE a LIKE 'x%'", "SELECT 1 FROM t WHERE lower(a) = 'x' AND a NOT LIKE :b"),
    nulls_anywhere: (
        "SELECT id FROM payments WHERE game_id = 1 ORDER BY purchased_at DESC LIMIT 9",
        "SELECT id FROM (SELECT id FROM deliveries d ORDER BY d.id, d.finished_at) x",
    ),
}
PASSED = (
    "SELECT x.id FROM (SELECT id FROM games LIMIT 1) x WHERE x.id > 1",
    "SELECT a.id FROM (SELECT 1 AS id) AS a JOIN (SELECT 2 AS id) b ON b.id = a.id",
    "SELECT a FROM t UNION ALL SELECT b, (SELECT 2) FROM t",
    "SELECT coalesce(a, (SELECT 1)), (SELECT 2) FROM t WHERE b IS NULL AND c IS NOT NULL",
    "INSERT INTO t (a, n) VALUES (:a, 1) ON CONFLICT (a) DO UPDATE SET n = t.n + 1, b = coalesce(t.b, excluded.b)"
    " WHERE t.n <= excluded.n RETURNING n",
    "WHERE CAST(:x AS TEXT) IS NULL OR a = :x",
    "SELECT max(id), min(id), max(coalesce(a, b)) FROM t",
    "SELECT sum(CASE WHEN a = 1 THEN 1 ELSE 0 END), coalesce(sum(CASE WHEN a = 1 THEN 1 END), 0) FROM t",
    "SELECT EXISTS (SELECT 1 FROM t WHERE a = 1) AS has_any, a IS NOT NULL AS has_a FROM t",
    "FROM a CROSS JOIN /* hint */ b ON b.kind = +:kind /* hint */ AND b.x = 1",
    "FROM a CROSS JOIN (SELECT 1 AS x UNION ALL SELECT 2) b CROSS JOIN json_each(:ids) i",
    "FROM t INDEXED BY t_by_time /* hint */ WHERE a = 1",
    "FROM t INDEXED BY {} /* hint */ WHERE a = 1",
    "SELECT 1 FROM json_each(:ids) /* numbers */ i CROSS JOIN /* hint */ t INDEXED BY u /* hint */ ON t.id = i.value",
    "SELECT 1 FROM json_each(:texts) i JOIN transactions t ON t.public_id = i.value",
    "SELECT 1 FROM t WHERE t.id = CAST(json_extract(:x, '$[0]') AS INTEGER)",
    "SELECT coalesce(json_group_array(json_array(a, b)), '[]') FROM t WHERE lower(a) LIKE '%e+%'",
    "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT (SELECT a FROM t LIMIT 1) FROM n) SELECT x FROM n LIMIT 9",
    "SELECT id FROM payments WHERE purchased_at > :at ORDER BY purchased_at, id",
    "SELECT id FROM payments ORDER BY purchased_at DESC NULLS LAST, id DESC",
)


@pytest.fixture(scope="module")
def everything():
    """Every query in coinslot/, by file and line."""
    found = {}
    for path in SOURCES:
        for line, sql in queries(path.read_text(encoding="utf-8")):
            found[f"{path.relative_to(ROOT)}:{line}"] = sql
    return found


@pytest.mark.parametrize("rule", VIOLATIONS, ids=lambda rule: rule.__name__)
def test_all_sql_keeps_to_each_rule_which_finds_its_violations_and_nothing_else(rule, everything):
    assert [sql for sql in VIOLATIONS[rule] if not rule(sql)] == []
    assert [sql for sql in PASSED if rule(sql)] == []
    assert [place for place, sql in everything.items() if rule(sql)] == []


def test_sql_is_found_wherever_a_file_holds_it():
    source = '''
"""SELECT in a docstring is none."""
A = "SELECT 1"

def f(tx, name):
    """WITH words."""
    tx.execute(f"SELECT * FROM t WHERE {name} IS :x")
    return ("UPDATE t "
            "SET a = 1")
'''

    assert sorted(queries(source)) == [
        (3, "SELECT 1"),
        (7, "SELECT * FROM t WHERE {} IS :x"),
        (8, "UPDATE t SET a = 1"),
    ]


def test_only_the_store_knows_the_engine():
    knowing = {
        path.relative_to(ROOT).parts[1]
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(each.name.split(".")[0] in ENGINES for each in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ENGINES)
    }

    assert knowing == {"store"}
