"""Time, in the one format the database knows."""

import threading
import time
from datetime import UTC, datetime

FIRST_YEAR = "2010"  # an earlier time was misread
DAY_SECONDS = 86400.0
_stopped_at: float | None = None  # see stop_at
_ahead: float | None = None  # see set_ahead


class _Thread(threading.local):
    moment: float | None = None


_held = _Thread()  # see hold


def now() -> float:
    """Unix seconds. All age checks and stored times use this, so that a test moves one clock."""
    if _stopped_at is not None:
        return _stopped_at
    if _ahead is None:
        return time.time()
    return time.time() + _ahead if _held.moment is None else _held.moment


def set_ahead(seconds: float) -> None:
    """Count by a clock that is so far ahead of this machine's: that of a database which several machines share."""
    global _ahead
    _ahead = seconds


def hold(moment: float | None) -> None:
    """Let it be this moment, in Unix seconds, for this thread until the next call; None: time goes on for it.

    Once :func:`set_ahead` was called.
    """
    _held.moment = moment


def stop_at(seconds: float | None) -> None:
    """Let it be this moment for the whole process, until the next call; None: the machine's clock counts again.

    ``flask demo`` alone does that: it lives 60 days in a minute.
    """
    global _stopped_at
    _stopped_at = seconds


def stamp(seconds: float | None = None) -> str:
    """UTC text of fixed width, ``2026-01-31T23:59:59.123456Z``: text order is time order."""
    moment = datetime.fromtimestamp(now() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def plausible(stamped: str | None) -> str | None:
    """A stamp that a partner has sent; None for one before 2010 or more than a day ahead."""
    return stamped if stamped is not None and FIRST_YEAR <= stamped <= stamp(now() + DAY_SECONDS) else None


def seconds(stamped: str) -> float:
    """The Unix seconds of a :func:`stamp`."""
    return datetime.fromisoformat(stamped).timestamp()
