"""Pauses: the longest one of each day, and from those the longest that is usual. Nothing here is done in a request."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from coinslot.base import clock
from coinslot.store.db import Connection
from coinslot.store.queries import insert, row

KEPT_DAYS = 400
LOOKED_BACK_DAYS = 28  # four weeks, so that a rhythm of a week shows four times; longer until there are
LOOKED_BACK_PAUSES = 60  # so many, since a few pauses say little of how long they can be; but never longer than
LONGEST_LOOK_DAYS = 180
ONCE_IS_NOT_USUAL_DAYS = 21  # from then on the longest is not usual yet, only the second longest: one may be an outage


@dataclass(frozen=True)
class Day:
    """``number`` counts days on from one to the next; ``ended`` is how many pauses ended on it."""

    number: int
    ended: int
    longest_seconds: float


def note(tx: Connection, game_id: int, partner: str, endpoint: str, seconds: float, ended: int) -> bool:
    """Pauses have ended today, the longest of them after ``seconds``. Returns whether what is usual may change."""
    key = {"game_id": game_id, "partner": partner, "endpoint": endpoint, "day": clock.stamp()[:10]}
    where = "game_id = :game_id AND partner = :partner AND endpoint = :endpoint"
    longest = max(0, round(seconds))
    known = row(tx, f"SELECT longest_seconds FROM pauses WHERE {where} AND day = :day", key)  # noqa: S608  our own
    insert(
        tx,
        "pauses",
        {**key, "ended": ended, "longest_seconds": longest},
        """ON CONFLICT (game_id, partner, endpoint, day) DO UPDATE SET ended = pauses.ended + excluded.ended,
               longest_seconds = CASE WHEN pauses.longest_seconds < excluded.longest_seconds
                                      THEN excluded.longest_seconds ELSE pauses.longest_seconds END""",
    )
    if known is not None:
        return longest > int(known["longest_seconds"])
    oldest = clock.stamp(clock.now() - KEPT_DAYS * clock.DAY_SECONDS)[:10]
    tx.execute(f"DELETE FROM pauses WHERE {where} AND day < :oldest", key | {"oldest": oldest})  # noqa: S608  likewise
    return True


def days(connection: Connection, game_id: int, partner: str, endpoint: str) -> list[Day]:
    """The days with a pause that ended, the oldest first."""
    rows = connection.execute(
        """SELECT day, ended, longest_seconds FROM pauses
           WHERE game_id = :game_id AND partner = :partner AND endpoint = :endpoint ORDER BY day""",
        {"game_id": game_id, "partner": partner, "endpoint": endpoint},
    )
    return [Day(date.fromisoformat(each[0]).toordinal(), each[1], each[2]) for each in rows]


def today() -> int:
    """The number of this day."""
    return datetime.fromtimestamp(clock.now(), UTC).date().toordinal()


def usual(known: Sequence[Day], number: int) -> tuple[float, int]:
    """The longest pause that is usual, in seconds, and how many days back that is known. ``number`` is today's.

    ``known`` are the days, the oldest first, at least one.
    """
    looked_at: list[Day] = []
    ended = 0
    for each in reversed(known):
        age = number - each.number
        if age >= LONGEST_LOOK_DAYS or (age >= LOOKED_BACK_DAYS and ended >= LOOKED_BACK_PAUSES):
            break
        looked_at.append(each)
        ended += each.ended
    longest = sorted((each.longest_seconds for each in looked_at), reverse=True)
    span = number - looked_at[-1].number if looked_at else 0
    is_known_well = span >= ONCE_IS_NOT_USUAL_DAYS and len(longest) > 1
    return (longest[1] if is_known_well else longest[0] if longest else 0.0), span
