"""The queries of docs/midnight.md, the last resort: each can be asked of a database as schema.sql makes it."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "midnight.md").read_text(encoding="utf-8")
QUERIES = [
    *re.findall(r'sqlite3 -readonly DB "([^"]+)"', TEXT),
    *(" ".join(each.split()) for each in re.findall(r"`(SELECT [^`]+)`", TEXT)),
]


def test_it_begins_with_the_search_box_and_has_its_queries():
    assert "search box" in TEXT.split("\n\n")[1]
    assert len(QUERIES) >= 5


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_can_be_asked(query, db, studio):
    assert db(query) == []
