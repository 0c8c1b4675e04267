"""Time, in the one format the database knows."""

import time
from datetime import UTC, datetime


def now() -> float:
    """Unix seconds. Every age check and every stored time starts here, so a test moves one clock."""
    return time.time()


def stamp(seconds: float | None = None) -> str:
    """UTC text of fixed width, ``2026-01-31T23:59:59.123456Z``: text order is time order."""
    moment = datetime.fromtimestamp(now() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def seconds(stamped: str) -> float:
    """The Unix seconds of a :func:`stamp`."""
    return datetime.fromisoformat(stamped).timestamp()
