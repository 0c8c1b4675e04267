"""What an open month has come to so far, by the rule it will be closed by.

A small month is reckoned when somebody looks. A large one takes seconds, so a job reckons it now and then and keeps its
lines; what is shown of it says of when it is. What came late for closed months is not in it: that is for closing.
"""

import json
import time
from dataclasses import dataclass

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.settlement import months, statement
from coinslot.settlement.figures import Line
from coinslot.settlement.periods import Month
from coinslot.settlement.terms import InGame, Terms
from coinslot.store.db import Connection, Database

MOST_AT_ONCE = 2000  # rows that are reckoned while a page is made
MOST_MONTHS = 2  # large ones that are kept, the newest
SHARE_OF_TIME = 100  # a job works this small a part of it at most
LEAST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 60.0, 3600.0


@dataclass(frozen=True)
class SoFar:
    """``lines`` is None of a large month that nobody has reckoned yet, and ``known_at`` then too."""

    lines: list[Line] | None
    known_at: str | None


def of(connection: Connection, game: Game, month: Month, in_game: InGame) -> SoFar:
    """An open month. The connection holds one state of the database."""
    if not _is_large(connection, game.id, month):
        return SoFar(statement.lines(connection, game.id, month, Terms.of(game, in_game), in_game), clock.stamp())
    row = connection.execute(
        "SELECT lines, known_at FROM months_so_far WHERE game_id = :game_id AND month = :month",
        {"game_id": game.id, "month": month.name},
    ).fetchone()
    if row is None:
        return SoFar(None, None)
    return SoFar([Line(**each) for each in json.loads(row["lines"])], row["known_at"])


def reckon(database: Database, game: Game, in_game: InGame) -> float:
    """Reckon the newest large months that are open and keep them; returns seconds until that is to be done again."""
    began = time.monotonic()
    found: list[tuple[str, str, str]] = []
    with database.snapshot() as connection:
        for each in months.month_list(connection, game):
            if each.state == months.OPEN and len(found) < MOST_MONTHS and _is_large(connection, game.id, each.month):
                known_at = clock.stamp()
                lines = statement.lines(connection, game.id, each.month, Terms.of(game, in_game), in_game)
                found.append((each.month.name, json.dumps([vars(line) for line in lines]), known_at))
        (kept,) = connection.execute(
            "SELECT count(*) FROM months_so_far WHERE game_id = :game_id", {"game_id": game.id}
        ).fetchone()

    def keep(tx: Connection) -> None:
        tx.execute("DELETE FROM months_so_far WHERE game_id = :game_id", {"game_id": game.id})
        tx.executemany(
            "INSERT INTO months_so_far (game_id, month, lines, known_at) VALUES (:game_id, :month, :lines, :known_at)",
            [{"game_id": game.id, "month": name, "lines": lines, "known_at": at} for name, lines, at in found],
        )

    if found or kept:
        database.write(keep)
    if not found:
        return LONGEST_WAIT_SECONDS
    return min(max((time.monotonic() - began) * SHARE_OF_TIME, LEAST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)


def _is_large(connection: Connection, game_id: int, month: Month) -> bool:
    """Whether it has many rows to read; who supports whom is read from the first boost on."""
    (is_large,) = connection.execute(
        """SELECT EXISTS (
               SELECT 1 FROM payments
               WHERE game_id = :game_id AND purchased_at >= :starts_at AND purchased_at < :ends_at
               LIMIT 1 OFFSET :most)
           OR EXISTS (
               SELECT 1 FROM transactions
               WHERE game_id = :game_id AND moment >= :starts_at
                 AND moment < :ends_at
               LIMIT 1 OFFSET :most)
           OR EXISTS (
               SELECT 1 FROM events
               WHERE game_id = :game_id AND type IN ('sponsor.created', 'sponsor.ended') AND occurred_at < :ends_at
               LIMIT 1 OFFSET :most)""",
        {"game_id": game_id, "starts_at": month.starts_at, "ends_at": month.ends_at, "most": MOST_AT_ONCE},
    ).fetchone()
    return bool(is_large)
