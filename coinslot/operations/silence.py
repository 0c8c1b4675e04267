"""Silence: how long an address may go without a call before something is wrong, learned from its own calls.

The limit is stored with each call (``contacts.silent_from``), so that asking who is silent reads no history.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from coinslot.base import clock
from coinslot.games.options import seconds_of
from coinslot.operations.pauses import Day, usual
from coinslot.store.db import Connection

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


def find(connection: Connection) -> list[Silent]:
    """The addresses that are silent for too long, of partners whose keys the game has, by game."""
    now = clock.now()
    rows = connection.execute(_SILENT, {"now": clock.stamp(now)})
    found = []
    for row in rows:
        fixed = seconds_of(row["value"] or "")
        if fixed is None or clock.seconds(row["proved_at"]) + fixed < now:
            usual_seconds = row["usual_pause_seconds"] if fixed is None else None
            limit = "" if fixed is None else row["value"]
            found.append(Silent(row["slug"], row["partner"], row["endpoint"], row["proved_at"], usual_seconds, limit))
    return found


# A limit that the owner has fixed is compared with the time in Python.
_SILENT = """
    SELECT g.slug, c.partner, c.endpoint, c.proved_at, c.usual_pause_seconds, s.value
    FROM contacts c JOIN games g ON g.id = c.game_id
    LEFT JOIN settings s ON s.game_id = c.game_id AND s.key = 'silence.' || c.partner
    WHERE c.proved_at IS NOT NULL
      AND ((coalesce(s.value, 'auto') = 'auto' AND c.silent_from < :now) OR s.value NOT IN ('auto', 'off'))
      AND EXISTS (SELECT 1 FROM secrets k
                  WHERE k.game_id = c.game_id AND k.name > c.partner || '.' AND k.name < c.partner || '/')
    ORDER BY g.slug, c.partner, c.endpoint
"""
