"""Calendar months of a game: ``2026-07`` from its first instant to the next month's, in the game's time zone."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from coinslot.base import clock, moments
from coinslot.games.games import GameError

_MONTH = re.compile(r"2[0-9]{3}-(?:0[1-9]|1[0-2])")


@dataclass(frozen=True)
class Month:
    """``starts_at`` is part of it, ``ends_at`` is not; both are stamps."""

    name: str
    starts_at: str
    ends_at: str

    @property
    def is_over(self) -> bool:
        """By now."""
        return self.ends_at <= clock.stamp()

    @property
    def last_day(self) -> date:
        """By its name."""
        return date.fromisoformat(f"{after(self.name)}-01") - timedelta(days=1)


def month(name: str, zone: str) -> Month:
    """Raises :class:`GameError` for what is no month."""
    if not _MONTH.fullmatch(name):
        raise GameError(f"{name!r} is no month; write it as 2026-07")
    return Month(name, day_begins(f"{name}-01", zone), day_begins(f"{after(name)}-01", zone))


def before(name: str) -> str:
    """The month before this one."""
    year, number = int(name[:4]), int(name[5:])
    return f"{year - 1:04d}-12" if number == 1 else f"{year:04d}-{number - 1:02d}"


def after(name: str) -> str:
    """The month after this one."""
    year, number = int(name[:4]), int(name[5:])
    return f"{year + 1:04d}-01" if number == 12 else f"{year:04d}-{number + 1:02d}"


def of(stamp: str, zone: str) -> str:
    """The month a stamp lies in, by the calendar of the zone alone."""
    return datetime.fromtimestamp(clock.seconds(stamp), moments.time_zone(zone)).strftime("%Y-%m")


def day_begins(day: str, zone: str) -> str:
    """The stamp at which a day (``2026-07-01``) begins. Raises ValueError for what is no day."""
    found = date.fromisoformat(day)
    return clock.stamp(datetime(found.year, found.month, found.day, tzinfo=moments.time_zone(zone)).timestamp())
