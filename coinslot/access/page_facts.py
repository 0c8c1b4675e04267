"""What every page of the installation needs: the time zone of the pages, and whether this is a demo.

It is read together with the session (``sessions.find``), so that it costs no statement of its own.
"""

from coinslot.base import clock, moments
from coinslot.base.errors import CoinslotError
from coinslot.store import audit, queries
from coinslot.store.db import Connection, Row

ZONE, DEMO = "pages.zone", "demo"
# NULL: UTC, and no demo.
COLUMNS = f"""(SELECT value FROM installation WHERE name = '{ZONE}') AS zone,
              (SELECT value FROM installation WHERE name = '{DEMO}') AS demo"""  # noqa: S608  our own words only


class ZoneError(CoinslotError):
    """There is no such time zone."""


def read(connection: Connection) -> Row:
    """The columns of :data:`COLUMNS`, for a browser that is not signed in."""
    found = queries.row(connection, f"SELECT {COLUMNS}", {})
    assert found is not None, "a SELECT without FROM has one row"
    return found


def set_zone(tx: Connection, name: str, actor: str) -> None:
    """Choose the time zone of the pages by its IANA name. Raises :class:`ZoneError` if there is no such zone."""
    try:
        moments.time_zone(name)
    except moments.UnfitError as error:
        raise ZoneError(str(error)) from None
    queries.set_fact(tx, ZONE, name)
    audit.record(tx, None, actor, "pages.zone", name)


def is_demo(connection: Connection) -> bool:
    """Whether all of it is made up (``flask demo``). A demo calls nobody and alerts nobody."""
    return queries.fact(connection, DEMO) is not None


def mark_demo(tx: Connection) -> None:
    """From here on this installation is a demo, for good."""
    queries.set_fact(tx, DEMO, clock.stamp())
