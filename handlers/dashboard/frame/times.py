"""Times as the pages write them: in the zone chosen under Account, with UTC on hover. Files and the API keep UTC.

Days of figures, charts and filters are UTC days, since that is how figures are counted.
"""

from datetime import UTC, datetime, tzinfo
from functools import cache
from zoneinfo import available_timezones

from flask import g, has_app_context

from coinslot.base import clock
from coinslot.base.moments import UnfitError, time_zone
from handlers.kit.wording import NOTHING, ago, utc_moment

# First words of the names that are places. The other names are old spellings of these.
REGIONS = ("Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")


def zone_of(name: str | None) -> tzinfo:
    """The zone of a stored name; UTC where there is none, or where this machine does not know it any more."""
    try:
        return time_zone(name or "UTC")
    except UnfitError:
        return UTC


def moment(stamp: str | None) -> str:
    """A stored time to the second, in the zone of the pages."""
    found = _in_zone(stamp)
    return NOTHING if found is None else found.isoformat(" ", "seconds")[:19]


def day(stamp: str | None) -> str:
    """The day of a stored time, in the zone of the pages."""
    return moment(stamp)[:10]


def hover(stamp: str) -> str:
    """What a shown time says on hover: the same in UTC, and how long ago it was."""
    return f"{utc_moment(stamp)} UTC, {ago(stamp)}"


def zone_in_words() -> str:
    """The zone of the pages: UTC, or Asia/Seoul (UTC+09:00)."""
    name = str(getattr(_zone(), "key", "UTC"))
    if name == "UTC":
        return name
    offset = datetime.fromtimestamp(clock.now(), _zone()).strftime("%z")
    return f"{name} (UTC{offset[:3]}:{offset[3:5]})"


@cache
def choices() -> dict[str, list[str]]:
    """Region -> the names of its zones."""
    known = sorted(available_timezones())
    return {region: [name for name in known if name.startswith(f"{region}/")] for region in REGIONS}


def _zone() -> tzinfo:
    found: tzinfo = g.get("zone", UTC) if has_app_context() else UTC
    return found


def _in_zone(stamp: str | None) -> datetime | None:
    if not stamp:
        return None
    try:
        return datetime.fromisoformat(stamp).astimezone(_zone())
    except OverflowError:  # the first or last day there is
        return datetime.fromisoformat(stamp)
