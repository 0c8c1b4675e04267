"""Telling open stores to reload players whose profiles changed.

Otherwise a store asks every five minutes. Pushed profiles are gathered for ``appcharge.refresh_seconds`` and sent
together by a background job, so that a game never waits for Appcharge.

One bad id makes Appcharge refuse the whole call (checked 2026-11). So a refused call is made again in halves, and an id
that is refused alone is dropped. Changes older than ten minutes are dropped too: every store has asked since.
"""

import logging
import time
from collections.abc import Sequence
from functools import partial

from coinslot.base import clock
from coinslot.games import refreshes
from coinslot.games.games import Game
from coinslot.installation import Installation
from coinslot.relay import jobs
from coinslot.relay.jobs import JobError
from coinslot.store.db import Connection
from handlers.appcharge.api.client import Client
from handlers.appcharge.receive import PARTNER
from handlers.kit.api import ApiError

JOB = "appcharge.refresh"
PLAYERS_AT_ONCE = 500  # in one run of the job
RUN_SECONDS = 20.0  # no call begins after this, so that the job ends before its lease
LATE_SECONDS = 600.0
REFUSED_ALONE = 5  # this many ids refused and none taken: the ids are not the reason

log = logging.getLogger("coinslot")


def profiles_pushed(tx: Connection, game: Game, player_ids: Sequence[str]) -> None:
    """Note, in the write that stores the profiles, which players' stores must reload."""
    if player_ids and _is_wanted(game):
        refreshes.ask(tx, game.id, PARTNER, player_ids)
        jobs.at(tx, game.id, JOB, float(game.settings["appcharge.refresh_seconds"]))


def run(installation: Installation, game: Game) -> float | None:
    """Tell Appcharge of the players that wait; returns 0 while there are more. Raises JobError."""
    if not _is_wanted(game):
        _drop(installation, game, refreshes.EVERYBODY)
        return None
    late = clock.stamp(clock.now() - LATE_SECONDS)
    _drop(installation, game, late)
    waiting = refreshes.waiting(installation.database.read(), game.id, PARTNER, PLAYERS_AT_ONCE)
    if not waiting:
        return None
    try:
        is_done = _tell(installation, game, waiting)
    except ApiError as error:
        raise JobError(str(error)) from None
    return 0.0 if len(waiting) == PLAYERS_AT_ONCE or not is_done else None


def _drop(installation: Installation, game: Game, before: str) -> None:
    while installation.database.write(lambda tx: refreshes.drop_late(tx, game.id, PARTNER, before)):
        pass


def _tell(installation: Installation, game: Game, waiting: dict[str, str]) -> bool:
    """Tell Appcharge of these players; False when time ran out before the last. Raises ApiError."""
    client = Client(game, installation.outbound, tries=1)  # the schedule tries again
    until = time.monotonic() + RUN_SECONDS
    parts, refused, is_any_taken = [list(waiting)], 0, False
    while parts:
        # A run must settle at least one id, or the next run would repeat it.
        if (refused or is_any_taken) and time.monotonic() >= until:
            return False
        part = parts.pop()
        try:
            client.refresh(part)
            is_any_taken = True
        except ApiError as error:
            if error.status not in (400, 422):
                raise
            if len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
                continue
            refused += 1
            if refused == REFUSED_ALONE and not is_any_taken:
                raise
            log.warning(
                "appcharge %s: a player's store is not reloaded: Appcharge refused the id with %d",
                game.slug,
                error.status,
            )
        settled = {player_id: waiting[player_id] for player_id in part}
        installation.database.write(partial(refreshes.remove, game_id=game.id, partner=PARTNER, done=settled))
    return True


def _is_wanted(game: Game) -> bool:
    return game.is_on("appcharge.refresh") and bool(game.keys("appcharge.publisher_token"))
