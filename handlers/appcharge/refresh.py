"""Telling an open store that a player's profile has changed, so that it asks for it again at once.

Without it a store asks every five minutes. Pushes are gathered for ``appcharge.refresh_seconds`` and told together, by
a job of the relay: a game that pushes a profile never waits for Appcharge.
"""

import sqlite3
from collections.abc import Sequence

from coinslot import refreshes, schedules
from coinslot.games import Game
from coinslot.installation import Installation
from coinslot.schedules import JobError
from handlers.appcharge.client import ApiError, Client
from handlers.appcharge.door import PARTNER

JOB = "appcharge.refresh"
PLAYERS_AT_ONCE = 500  # in one run of the job, so that it ends well before its lease


def profiles_pushed(tx: sqlite3.Connection, game: Game, player_ids: Sequence[str]) -> None:
    """Note, in the write that stores the profiles, that these players' stores are to be told."""
    if player_ids and _is_wanted(game):
        refreshes.ask(tx, game.id, PARTNER, player_ids)
        schedules.at(tx, game.id, JOB, float(game.settings["appcharge.refresh_seconds"]))


def run(house: Installation, game: Game) -> float | None:
    """Tell Appcharge of the players that wait; at once again while there are more. Raises JobError."""
    if not _is_wanted(game):
        house.database.write(lambda tx: refreshes.drop(tx, game.id, PARTNER))
        return None
    waiting = refreshes.waiting(house.database.read(), game.id, PARTNER, PLAYERS_AT_ONCE)
    if not waiting:
        return None
    try:
        Client(game, house.outbound, tries=1).refresh(list(waiting))  # the schedule tries again
    except ApiError as error:
        raise JobError(str(error)) from None
    house.database.write(lambda tx: refreshes.told(tx, game.id, PARTNER, waiting))
    return 0.0 if len(waiting) == PLAYERS_AT_ONCE else None


def _is_wanted(game: Game) -> bool:
    return game.is_on("appcharge.refresh") and bool(game.keys("appcharge.publisher_token"))
