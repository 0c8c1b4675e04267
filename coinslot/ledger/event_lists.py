"""The kept events of a game for its owner: newest first, filtered, and one in full.

A page looks at no more than :data:`LOOKED_AT` events. Where that many hold fewer than a page of wanted ones, the page
is short, says how far back it has searched, and the next one goes on there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from coinslot.store import queries
from coinslot.store.db import Connection, Row
from coinslot.store.paging import LAST_ID, cut

PAGE_ROWS = 50
ROWS_AT_ONCE = 1000
LOOKED_AT = 20_000
TYPES_AMONG = 500  # of a game's newest events

_COLUMNS = "id, type, partner, player_id, external_id, data, is_test, environment, occurred_at, received_at"


@dataclass(frozen=True)
class Wanted:
    """Which events; None leaves a filter out. ``since`` and ``until`` bound when they came: from the first, before the
    second."""

    partner: str | None = None
    type: str | None = None  # or a part of it
    player_id: str | None = None
    since: str | None = None
    until: str | None = None

    @property
    def is_empty(self) -> bool:
        return self == Wanted()


@dataclass(frozen=True)
class Found:
    """``after``: the next page begins below this id; None on the last. ``searched_to``: how far back a page that is not
    full has searched."""

    rows: list[Row]
    after: int | None
    searched_to: str | None = None


def page(connection: Connection, game_id: int, wanted: Wanted, before: int = LAST_ID, limit: int = PAGE_ROWS) -> Found:
    """The wanted events below an id, newest first."""
    of_player = "" if wanted.player_id is None else "AND player_id = :player_id"
    values: dict[str, Any] = {**vars(wanted), "game_id": game_id, "most": LOOKED_AT, "limit": limit + 1}
    values["before"] = min(before, _first_from(connection, game_id, wanted.until, LAST_ID))
    values["first"] = 0 if wanted.since is None else _first_from(connection, game_id, wanted.since, LAST_ID)
    stretch = connection.execute(
        f"""SELECT count(*) AS count, min(id) AS lowest
            FROM (SELECT id FROM events
                  WHERE game_id = :game_id {of_player} AND id >= :first AND id < :before
                  ORDER BY id DESC LIMIT :most) looked""",  # noqa: S608  our own words only
        values,
    ).fetchone()
    if stretch["count"] == 0:
        return Found([], None)
    rows = connection.execute(
        f"""SELECT {_COLUMNS} FROM events
            WHERE game_id = :game_id {of_player} AND id >= :lowest AND id < :before
              AND (CAST(:partner AS TEXT) IS NULL OR partner = :partner)
              AND (CAST(:type AS TEXT) IS NULL OR instr(lower(type), lower(:type)) > 0)
            ORDER BY id DESC LIMIT :limit""",  # noqa: S608  our own words only
        {**values, "lowest": stretch["lowest"]},
    ).fetchall()
    shown, following = cut(rows, limit)
    if following is not None or stretch["count"] < LOOKED_AT:
        return Found(shown, following)
    lowest = int(stretch["lowest"])
    return Found(shown, lowest, queries.get(connection, "received_at", "events", id=lowest))


def every(connection: Connection, game_id: int, wanted: Wanted) -> Iterator[Row]:
    """All wanted events, newest first, read some at a time."""
    before: int | None = LAST_ID
    while before is not None:
        found = page(connection, game_id, wanted, before, ROWS_AT_ONCE)
        yield from found.rows
        before = found.after


def one(connection: Connection, game_id: int, event_id: int) -> Row | None:
    """All of one event; None where the game has no such event."""
    return queries.row(
        connection,
        f"SELECT {_COLUMNS}, dedupe_key, request_id, raw_body FROM events WHERE id = :id AND game_id = :game_id",  # noqa: S608
        {"id": event_id, "game_id": game_id},
    )


def deliveries(connection: Connection, event_id: int, limit: int = 50) -> list[Row]:
    """Where an event was delivered: ``id``, ``destination``, ``state`` and times."""
    return connection.execute(
        """SELECT d.id, s.name AS destination, d.state, d.created_at, d.finished_at FROM deliveries d
           JOIN destinations s ON s.id = d.destination_id WHERE d.event_id = :id ORDER BY d.id LIMIT :limit""",
        {"id": event_id, "limit": limit},
    ).fetchall()


def transaction_of(connection: Connection, game_id: int, event_id: int) -> str | None:
    """The public id of the transaction that an event is about, where exactly its id or a refund leads there."""
    found: str | None = queries.value(
        connection,
        """SELECT t.public_id FROM refunds r JOIN transactions t ON t.id = r.transaction_id WHERE r.event_id = :id
           UNION ALL
           SELECT t.public_id FROM events e JOIN transactions t
               ON t.game_id = e.game_id AND t.partner = e.partner AND t.external_id = e.external_id
           WHERE e.id = :id AND e.game_id = :game_id""",
        {"id": event_id, "game_id": game_id},
    )
    return found


def types(connection: Connection, game_id: int) -> list[str]:
    """The types among the newest events."""
    rows = connection.execute(
        """SELECT DISTINCT type FROM (SELECT type FROM events WHERE game_id = :game_id ORDER BY id DESC LIMIT :most) n
           ORDER BY type""",
        {"game_id": game_id, "most": TYPES_AMONG},
    )
    return [row["type"] for row in rows]


def _first_from(connection: Connection, game_id: int, moment: str | None, otherwise: int) -> int:
    """The id of the first event from a moment on, since ids rise with time; ``otherwise`` where there is none."""
    if moment is None:
        return otherwise
    found = queries.value(
        connection,
        "SELECT id FROM events WHERE game_id = :game_id AND received_at >= :moment ORDER BY received_at LIMIT 1",
        {"game_id": game_id, "moment": moment},
    )
    return otherwise if found is None else int(found)
