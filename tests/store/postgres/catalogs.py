"""What a database of either engine consists of, in one form, so that two can be compared."""

import re
import sqlite3
from typing import Any, NamedTuple

TYPES = {"INTEGER": "bigint", "TEXT": "text", "BLOB": "bytea"}


class Column(NamedTuple):
    name: str
    type: str
    is_nullable: bool
    default: str
    generated: str


class Catalog(NamedTuple):
    columns: dict[str, list[Column]]  # of each table, in their order
    primary_keys: dict[str, list[str]]
    unique_keys: set[tuple[str, ...]]  # table and columns, like the next two
    foreign_keys: set[tuple[str, ...]]  # with the table they refer to, its columns, and what deleting does
    checks: dict[str, int]  # how many each table has
    indexes: dict[str, str]
    triggers: dict[str, str]  # name -> table


def plain(expression: str | None) -> str:
    """An expression as neither engine writes it: without parentheses and casts."""
    text = re.sub(r"::(text|bigint|bytea)(\[\])?", "", expression or "")
    text = text.replace("COALESCE", "coalesce")
    text = re.sub(r"\s+COLLATE \"C\"", "", text)
    text = re.sub(r"= ANY \(\(?ARRAY\[(.*?)\]\)?\)", r"IN (\1)", text)
    text = re.sub(r"<> ALL \(\(?ARRAY\[(.*?)\]\)?\)", r"NOT IN (\1)", text)
    return re.sub(r"\s+", " ", re.sub(r"[()]", " ", text)).replace(" ,", ",").strip()


def plain_sql(sql: str) -> str:
    """A table's text without comments and literals."""
    return re.sub(r"--[^\n]*|'(?:[^']|'')*'", "", sql)


def of_sqlite(connection: sqlite3.Connection) -> Catalog:
    def ask(sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in connection.execute(sql, values)]

    found = Catalog({}, {}, set(), set(), {}, {}, {})
    of_all = "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = ? AND sql IS NOT NULL"
    for table, _, sql in ask(f"{of_all} AND name NOT LIKE 'sqlite_%'", "table"):
        info = ask(
            """SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid""", table
        )
        found.columns[table] = [
            Column(
                name,
                TYPES[kind.replace(" GENERATED ALWAYS", "")],
                not (not_null or key),
                plain(default),
                _generated(sql, name) if hidden else "",
            )
            for name, kind, not_null, default, key, hidden in info
        ]
        found.primary_keys[table] = [name for *_, key, name in sorted((row[4], row[0]) for row in info) if key]
        for index, origin in ask("SELECT name, origin FROM pragma_index_list(?)", table):
            if origin == "u":
                columns = ask("SELECT name FROM pragma_index_info(?) ORDER BY seqno", index)
                found.unique_keys.add((table, *(name for (name,) in columns)))
        keys: dict[int, list[tuple[Any, ...]]] = {}
        for row in ask("SELECT * FROM pragma_foreign_key_list(?) ORDER BY id, seq", table):
            keys.setdefault(row[0], []).append(row)
        for rows in keys.values():
            ours, theirs = ", ".join(row[3] for row in rows), ", ".join(row[4] for row in rows)
            found.foreign_keys.add((table, ours, rows[0][2], theirs, rows[0][6], rows[0][5]))
        found.checks[table] = len(re.findall(r"\bCHECK\s*\(", plain_sql(sql)))
    for index, _, sql in ask(of_all, "index"):
        found.indexes[index] = plain(re.sub(r"--[^\n]*", "", sql))
    found.triggers.update({name: table for name, table, _ in ask(of_all, "trigger")})
    return found


def _generated(sql: str, column: str) -> str:
    expression = re.search(rf"\b{column}\b[^\n]*?GENERATED ALWAYS AS \((.*)\) (?:VIRTUAL|STORED)", sql)
    assert expression is not None
    return plain(expression[1])


def of_postgres(connection: Any) -> Catalog:
    """Of the schema that comes first on the connection's path."""

    def ask(sql: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
        return rows

    found = Catalog({}, {}, set(), set(), {}, {}, {})
    mine = "c.relnamespace = CAST(current_schema() AS regnamespace) AND c.relkind = 'r'"
    for table, name, kind, not_null, default, generated in ask(
        f"""SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                   pg_get_expr(d.adbin, d.adrelid), a.attgenerated
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                 LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE {mine} ORDER BY c.relname, a.attnum"""
    ):
        found.columns.setdefault(table, []).append(
            Column(name, kind, not not_null, "" if generated else plain(default), plain(default) if generated else "")
        )
        found.checks[table] = 0
    actions = {"a": "NO ACTION", "c": "CASCADE", "n": "SET NULL", "r": "RESTRICT"}
    names = """(SELECT array_agg(a.attname ORDER BY k.place) FROM unnest({}) WITH ORDINALITY AS k (number, place)
                JOIN pg_attribute a ON a.attrelid = {} AND a.attnum = k.number)"""
    ours, theirs = names.format("o.conkey", "o.conrelid"), names.format("o.confkey", "o.confrelid")
    for table, kind, columns, other, others, on_delete, on_update in ask(
        f"""SELECT c.relname, o.contype, {ours}, r.relname, {theirs}, o.confdeltype, o.confupdtype
            FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid LEFT JOIN pg_class r ON r.oid = o.confrelid
            WHERE {mine} AND o.contype IN ('p', 'u', 'f', 'c')"""
    ):
        if kind == "p":
            found.primary_keys[table] = columns
        elif kind == "u":
            found.unique_keys.add((table, *columns))
        elif kind == "c":
            found.checks[table] += 1
        else:
            found.foreign_keys.add(
                (table, ", ".join(columns), other, ", ".join(others), actions[on_delete], actions[on_update])
            )
    for index, sql in ask(
        f"""SELECT x.relname, pg_get_indexdef(x.oid) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
            JOIN pg_class c ON c.oid = i.indrelid
            WHERE {mine} AND NOT EXISTS (SELECT 1 FROM pg_constraint o WHERE o.conindid = x.oid AND o.contype <> 'f')"""
    ):
        found.indexes[index] = plain(re.sub(r" USING btree|\b\w+\.(?=\w+ USING)", "", sql))
    for name, table in ask(
        f"""SELECT t.tgname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
            WHERE {mine} AND NOT t.tgisinternal AND t.tgname NOT LIKE '%\\_by\\_truncate'"""
    ):
        found.triggers[name] = table
    return found
