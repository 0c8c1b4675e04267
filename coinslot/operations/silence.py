"""Silence: how long an address may go without a call before something is wrong, learned from its own calls.

The limit is stored with each call (``contacts.silent_from``), so that asking who is silent reads no history.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.games.options import seconds_of
from coinslot.operations.pauses import Day, usual
from coinslot.store.db import Row

FEWEST_CALLS = 20  # before these, on so many days, nothing is known
FEWEST_DAYS = 3
TIMES_USUAL = (
    2.7  # so the alarm comes before three times the longest usual pause; a smaller factor gives more false ones
)
LEAST_SECONDS = 120.0  # a restart of either side takes this long
YOUNG_DAYS = 8  # before, no week has been seen
YOUNG_SECONDS = clock.DAY_SECONDS  # or
YOUNG_TIMES = 24.0  # so many times the usual pause, if that is less


@dataclass(frozen=True)
class Silent:
    """An address that is silent for too long. ``since`` is its last call; ``usual_seconds`` None: a fixed limit."""

    game: str
    partner: str
    endpoint: str
    since: str
    usual_seconds: int | None
    limit: str  # the fixed limit, as it is set; empty where it was learned


def limits(known: Sequence[Day], number: int) -> tuple[float, float] | None:
    """The longest usual pause and the limit, both in seconds; None while too little is known. ``number`` is today's."""
    if len(known) < FEWEST_DAYS or sum(each.ended for each in known) < FEWEST_CALLS:
        return None
    pause, span = usual(known, number)
    limit = max(TIMES_USUAL * pause, LEAST_SECONDS)
    if span < YOUNG_DAYS:
        limit = max(limit, min(YOUNG_SECONDS, YOUNG_TIMES * pause))
    return pause, limit


def find(contacts: Iterable[Row], games: Iterable[Game]) -> list[Silent]:
    """The addresses that are silent for too long, of partners whose keys the game has.

    ``contacts`` are the rows of all addresses; of the games, settings and the names of secrets are used.
    """
    now = clock.now()
    by_id = {game.id: game for game in games}
    found = []
    for row in contacts:
        game, partner = by_id.get(row["game_id"]), row["partner"]
        if game is None or row["proved_at"] is None or not any(name.startswith(f"{partner}.") for name in game.secrets):
            continue
        limit = game.settings.get(f"silence.{partner}", "off")
        fixed = seconds_of(limit)
        if fixed is not None and clock.seconds(row["proved_at"]) + fixed < now:
            found.append(Silent(game.slug, partner, row["endpoint"], row["proved_at"], None, limit))
        elif limit == "auto" and row["silent_from"] is not None and row["silent_from"] < clock.stamp(now):
            usual_seconds = row["usual_pause_seconds"]
            found.append(Silent(game.slug, partner, row["endpoint"], row["proved_at"], usual_seconds, ""))
    return found
