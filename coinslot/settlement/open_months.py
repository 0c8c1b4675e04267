"""The figures of an open month so far, by the rule it will be closed by.

A small month is calculated when a page asks for it. A large one takes seconds, so a job calculates it now and then and
keeps its lines; the page says of when they are. Adjustments are not in it: they come with closing.
"""

import json
import time
from dataclasses import dataclass

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.settlement import calculation, months
from coinslot.settlement.lines import Line
from coinslot.settlement.periods import Month
from coinslot.settlement.terms import InGame, Terms
from coinslot.store.db import Connection, Database

MOST_AT_ONCE = 2000  # rows that are read while a page is made
MOST_MONTHS = 2  # large ones that are kept, the newest
SHARE_OF_TIME = 100  # the job works at most this small a part of the time
LEAST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 60.0, 3600.0


@dataclass(frozen=True)
class OpenMonth:
    """``lines`` and ``known_at`` are None for a large month that was not calculated yet."""

    lines: list[Line] | None
    known_at: str | None


def find(connection: Connection, game: Game, month: Month, in_game: InGame) -> OpenMonth:
    """The lines of an open month. The connection must hold one snapshot."""
    if not _is_large(connection, game.id, month):
        lines = calculation.month_lines(connection, game.id, month, Terms.of(game, in_game), in_game)
        return OpenMonth(lines, clock.stamp())
    row = connection.execute(
        "SELECT lines, known_at FROM months_so_far WHERE game_id = :game_id AND month = :month",
        {"game_id": game.id, "month": month.name},
    ).fetchone()
    return OpenMonth(None, None) if row is None else OpenMonth(_loads(row["lines"]), row["known_at"])


def _loads(text: str) -> list[Line]:
    return [Line(**each) for each in json.loads(text)]


def calculate_large(database: Database, game: Game, in_game: InGame) -> float:
    """Calculate the newest large open months and keep them; returns seconds until that should be done again."""
    began = time.monotonic()
    found: list[dict[str, object]] = []
    with database.snapshot() as connection:
        for each in months.month_list(connection, game):
            if each.state == months.OPEN and len(found) < MOST_MONTHS and _is_large(connection, game.id, each.month):
                known_at = clock.stamp()
                lines = calculation.month_lines(connection, game.id, each.month, Terms.of(game, in_game), in_game)
                text = json.dumps([vars(line) for line in lines])
                found.append({"game_id": game.id, "month": each.month.name, "lines": text, "known_at": known_at})
        (kept,) = connection.execute(
            "SELECT count(*) FROM months_so_far WHERE game_id = :game_id", {"game_id": game.id}
        ).fetchone()

    def keep(tx: Connection) -> None:
        tx.execute("DELETE FROM months_so_far WHERE game_id = :game_id", {"game_id": game.id})
        tx.executemany(
            "INSERT INTO months_so_far (game_id, month, lines, known_at) VALUES (:game_id, :month, :lines, :known_at)",
            found,
        )

    if found or kept:
        database.write(keep)
    if not found:
        return LONGEST_WAIT_SECONDS
    return min(max((time.monotonic() - began) * SHARE_OF_TIME, LEAST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)


def _is_large(connection: Connection, game_id: int, month: Month) -> bool:
    """Whether it has many rows to read; of support for creators everything from the first event on is read."""
    (is_large,) = connection.execute(
        """SELECT EXISTS (
               SELECT 1 FROM payments
               WHERE game_id = :game_id AND purchased_at >= :starts_at AND purchased_at < :ends_at
               LIMIT 1 OFFSET :most)
           OR EXISTS (
               SELECT 1 FROM transactions
               WHERE game_id = :game_id AND moment >= :starts_at AND moment < :ends_at
               LIMIT 1 OFFSET :most)
           OR EXISTS (
               SELECT 1 FROM events
               WHERE game_id = :game_id AND type IN ('sponsor.created', 'sponsor.ended') AND occurred_at < :ends_at
               LIMIT 1 OFFSET :most)""",
        {**vars(month), "game_id": game_id, "most": MOST_AT_ONCE},
    ).fetchone()
    return bool(is_large)
