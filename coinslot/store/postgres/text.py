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
# A literal, a comment, a parameter, or what is spelled otherwise there. The first two stay as they are.
_TOKENS = re.compile(
    r"""(?P<kept>'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/)|(?<![:\w]):(?P<name>[a-z_]\w*)|(?P<instr>\binstr\()
        |(?P<integer>\bAS\ INTEGER\))|(?P<percent>%)""",
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
    if found["kept"] is not None:
        return found["kept"].replace("%", "%%")
    if found["name"] is not None:
        return f"%({found['name']})s"
    if found["instr"] is not None:
        return "strpos("
    return "AS bigint)" if found["integer"] is not None else "%%"
