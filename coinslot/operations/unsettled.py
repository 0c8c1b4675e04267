"""Reports of a partner that led to nothing and that a person must settle. Tests are left out."""

from collections.abc import Sequence
from typing import Any

from coinslot.store.db import Connection, Row
from coinslot.store.queries import value

_EVENTS = """FROM events e
    WHERE e.game_id = :game_id AND e.partner = :partner AND e.is_test = 0 AND e.type IN ({types})
      AND e.received_at >= :since
      AND NOT EXISTS (
          SELECT 1 FROM transactions t
          WHERE t.game_id = e.game_id AND t.partner = e.partner AND t.external_id = e.external_id)"""


def events_without_grant(
    connection: Connection, game_id: int, partner: str, types: Sequence[str], limit: int
) -> list[Row]:
    """Events of these types, newest first, whose transaction is not in the ledger, or that name none."""
    named, values = _types(types)
    return connection.execute(
        f"SELECT e.id, e.type, e.player_id, e.external_id, e.received_at, e.data {_EVENTS.format(types=named)} "
        "ORDER BY e.id DESC LIMIT :limit",
        {"game_id": game_id, "partner": partner, "since": "", "limit": limit, **values},
    ).fetchall()


def count_events_without_grant(
    connection: Connection, game_id: int, partner: str, types: Sequence[str], since: str
) -> int:
    """How many such events have come since."""
    named, values = _types(types)
    values |= {"game_id": game_id, "partner": partner, "since": since}
    return int(value(connection, f"SELECT count(*) {_EVENTS.format(types=named)}", values))


def conflicts(connection: Connection, game_id: int, partner: str, limit: int) -> list[Row]:
    """Transactions that came again with other content, newest first; the first content counts."""
    return connection.execute(
        """SELECT id, external_id, player_id, last_at FROM conflicts
           WHERE game_id = :game_id AND partner = :partner ORDER BY id DESC LIMIT :limit""",
        {"game_id": game_id, "partner": partner, "limit": limit},
    ).fetchall()


def count_conflicts(connection: Connection, game_id: int, partner: str, since: str) -> int:
    """How many such transactions came again since."""
    query = "SELECT count(*) FROM conflicts WHERE game_id = :game_id AND partner = :partner AND last_at >= :since"
    return int(value(connection, query, {"game_id": game_id, "partner": partner, "since": since}))


def _types(types: Sequence[str]) -> tuple[str, dict[str, Any]]:
    values = {f"type_{number}": each for number, each in enumerate(types)}
    return ", ".join(f":{name}" for name in values), values
