"""What is asked of a PostgreSQL database, and how it goes about it: the plan of each statement."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

READS = re.compile(r"\s*(?:SELECT|WITH)\b", re.IGNORECASE)


@contextmanager
def noted() -> Iterator[list[str]]:
    """The statements that this process sends meanwhile, with their values, as they are sent."""
    sent: list[str] = []
    plain = psycopg.Connection.execute

    def execute(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        sent.append(query.decode() if isinstance(query, bytes) else psycopg.ClientCursor(self).mogrify(query, params))
        return plain(self, query, params, **options)

    psycopg.Connection.execute = execute  # type: ignore[method-assign]
    try:
        yield sent
    finally:
        psycopg.Connection.execute = plain  # type: ignore[method-assign]


def plan(connection: Any, statement: str) -> list[dict[str, Any]]:
    """What PostgreSQL did for a statement that reads, step by step, as it describes it; nothing for another one."""
    if not READS.match(statement):
        return []
    explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}"
    ((found,),) = connection.execute(explain.encode()).fetchall()
    explained = json.loads(found) if isinstance(found, str) else found  # Coinslot's own connections leave it a text
    return list(_steps(explained[0]["Plan"]))


def _steps(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield step
    for each in step.get("Plans", ()):
        yield from _steps(each)
