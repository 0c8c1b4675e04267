"""The portable SQL of the rest, as psycopg and PostgreSQL read it."""

import re
from functools import lru_cache

_HINTS = (
    (re.compile(r"\bCROSS JOIN /\* hint \*/"), "JOIN"),
    (re.compile(r"\bINDEXED BY \w+ /\* hint \*/"), ""),
    (re.compile(r"\+(:\w+) /\* hint \*/"), r"\1"),
)
_NUMBERS = re.compile(r"\bjson_each\((:\w+)\) /\* numbers \*/")
_TEXTS = re.compile(r"\bjson_each\((:\w+)\)")
# What is spelled otherwise there. Columns fold only ASCII, as all text on SQLite; so must what they are compared with.
_SPELLED = {
    "instr(": "strpos(",
    "json_array(": "json_build_array(",
    "json_object(": "json_build_object(",
    "json_group_array(": "json_agg(",
    "AS INTEGER)": "AS bigint)",
    "%": "%%",
    "?": "%s",
}
# Bytes, a literal, a comment, a folded parameter, a parameter, or one of those. Literals and comments stay.
_TOKENS = re.compile(
    r"""\bx'(?P<bytes>[0-9a-f]*)' | (?P<kept>'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/)
        | \blower\(:(?P<folded>[a-z_]\w*)\) | (?<![:\w]):(?P<name>[a-z_]\w*)
        | \b(?:instr\(|json_(?:array|object|group_array)\(|AS\ INTEGER\)) | % | \?""",
    re.DOTALL | re.VERBOSE,
)


@lru_cache(maxsize=4096)
def translated(sql: str) -> str:
    """A statement with ``%(name)s`` for each ``:name``, without what only helps SQLite's planner.

    ``json_each`` of a parameter gives rows of texts in the column ``value``; marked with ``/* numbers */``, of numbers.
    """
    for hint, instead in _HINTS:
        sql = hint.sub(instead, sql)
    sql = _NUMBERS.sub(r"numbers_of(\1)", sql)
    sql = _TEXTS.sub(r"texts_of(\1)", sql)
    return _TOKENS.sub(_translated_token, sql)


def _translated_token(found: re.Match[str]) -> str:
    if found["bytes"] is not None:
        return rf"CAST('\x{found['bytes']}' AS bytea)"
    if found["kept"] is not None:
        return found["kept"].replace("%", "%%")
    if found["folded"] is not None:
        return f'lower(%({found["folded"]})s COLLATE "C")'
    if found["name"] is not None:
        return f"%({found['name']})s"
    return _SPELLED[found[0]]
