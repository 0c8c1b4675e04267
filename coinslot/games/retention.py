"""For how long a game keeps what it does not need for ever; each setting says what is lost with it.

``coinslot/operations/retention.py`` deletes it. Of what is about money the default is to keep it for ever.
"""

import re
from collections.abc import Callable

from coinslot.games.options import Setting

FOREVER = "forever"
LONGEST_DAYS = 3650


def _days(lowest: int) -> Callable[[str], str]:
    """So many days, or forever."""

    def check(value: str) -> str:
        if value == FOREVER:
            return value
        if not re.fullmatch(r"[0-9]{1,4}", value) or not lowest <= int(value) <= LONGEST_DAYS:
            raise ValueError(f"use {FOREVER}, or a number of days from {lowest} to {LONGEST_DAYS:,}")
        return str(int(value))

    return check


SETTINGS: dict[str, Setting] = {
    "retention.deliveries_days": Setting(
        "days after which a delivery that arrived is deleted with its attempts, or forever. Lost: when the game "
        "took it, and what it answered. What waits, is dead, or is waited for stays",
        _days(1),
        "30",
        title="Keep deliveries that arrived, days",
    ),
    "retention.refused_days": Setting(
        "days after which a refused call that had proved itself is deleted, counted from when its order was "
        "credited or a person set it aside, or forever. Lost: what came, and why it was refused. Open ones stay",
        _days(30),
        "365",
        title="Keep closed refused calls, days",
    ),
    "retention.bodies_days": Setting(
        "days from the end of a month until the bodies of its orders are deleted, once its payment is confirmed, "
        "or forever. Lost: the raw bytes in a dispute pack, so nobody can check the signature again, and other "
        "ids that only the body names on the order's page. Kept: money, items, ids, the accepted signature, the "
        "body's SHA-256, the hash chain; and the bodies of orders that were refunded, disputed or reported with "
        "other content, whose amount could not be read, or that came late for their month",
        _days(180),
        FOREVER,
        title="Keep bodies of orders, days",
    ),
    "retention.event_bodies_days": Setting(
        "days after which the bodies of events are deleted, or forever. Lost: the raw bytes. Kept: what was read "
        "in them, and the bodies of refunds and disputes",
        _days(90),
        FOREVER,
        title="Keep bodies of events, days",
    ),
    "retention.logins_days": Setting(
        "days after which events player.login are deleted, or forever. Lost: when a player signed in to the "
        "store, on the player's page, in the export and in the game's feed",
        _days(30),
        FOREVER,
        title="Keep sign-ins of players, days",
    ),
    "retention.reports_days": Setting(
        "days from the end of a month until the rows of partners' reports on it are deleted, once its payment is "
        "confirmed, or forever. Lost: the rows. Kept: sums and differences. To compare a month beside it again, "
        "compare this one again first",
        _days(90),
        FOREVER,
        title="Keep rows of partners' reports, days",
    ),
    "retention.changes_days": Setting(
        "days after which entries of the game's log of changes are deleted, or forever. Lost: who changed what by"
        " page or command. Kept: that payments moved to another month, and changes of the installation",
        _days(365),
        FOREVER,
        title="Keep the log of changes, days",
    ),
}
