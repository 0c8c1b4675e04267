"""The months of a game as they are: open, or closed and frozen. Everything here only reads.

A month is of the game's time zone as it is now, but it begins where the closed month before it ended, and ends where
the closed month after it begins: closed months never move. So after a change of the zone no hour counts twice and none
is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coinslot.base import clock
from coinslot.games.games import Game, GameError
from coinslot.settlement import periods
from coinslot.settlement.lines import NAMES, Line
from coinslot.settlement.periods import Month
from coinslot.settlement.terms import ZONE, Terms
from coinslot.store.db import Connection, Row

OPEN = "open"
CLOSED, RECONCILED, CONFIRMED, SETTLED = STATES = ("closed", "reconciled", "payment_confirmed", "creators_settled")
REOPENED = "reopened"
MOST_MONTHS = 600  # a list ends somewhere, even where a row is misdated


class SettlementError(GameError):
    """What was asked of a month cannot be done."""


@dataclass(frozen=True)
class Step:
    """A state a month has reached. ``is_skipped``: it was passed over, and ``note`` says why."""

    state: str
    is_skipped: bool
    actor: str
    note: str
    at: str


@dataclass(frozen=True)
class Settlement:
    """A month that is closed, or was until it was reopened."""

    id: int
    game_id: int
    month: Month
    version: int
    terms: Terms
    state: str
    known_at: str
    closed_at: str


@dataclass(frozen=True)
class MonthState:
    """A month in the list. ``settlement`` is None while it is open."""

    month: Month
    settlement: Settlement | None

    @property
    def state(self) -> str:
        """``open``, or one of :data:`STATES`."""
        return OPEN if self.settlement is None else self.settlement.state


@dataclass(frozen=True)
class ZoneChange:
    """From ``month`` on, which begins at ``starts_at``, months are of another time zone than those closed before."""

    month: str
    starts_at: str
    zone: str
    zone_before: str

    @property
    def sentence(self) -> str:
        """For the owner."""
        return (
            f"The time zone of the months was changed from {self.zone_before} to {self.zone}: that holds from "
            f"{self.month} on. {self.month} begins {self.starts_at[:16].replace('T', ' ')} UTC, where the closed month "
            "before it ended, so that no purchase counts twice and none is left out."
        )


def find_closed(connection: Connection, game_id: int, name: str) -> Settlement | None:
    """The month as it is closed; None while it is open."""
    row = connection.execute(
        "SELECT * FROM settlements WHERE game_id = :game_id AND month = :month AND state <> 'reopened'",
        {"game_id": game_id, "month": name},
    ).fetchone()
    return None if row is None else settlement_of(row)


def closed_month(connection: Connection, game_id: int, name: str) -> Settlement:
    """The month as it is closed. Raises :class:`SettlementError` while it is open."""
    found = find_closed(connection, game_id, name)
    if found is None:
        raise SettlementError(f"{name} is open: close it first")
    return found


def all_closed(connection: Connection, game_id: int) -> list[Settlement]:
    """The closed months of a game, the oldest first."""
    rows = connection.execute(
        "SELECT * FROM settlements WHERE game_id = :game_id AND state <> 'reopened' ORDER BY month",
        {"game_id": game_id},
    )
    return [settlement_of(row) for row in rows]


def month_of(connection: Connection, game: Game, name: str) -> Month:
    """A month with its first instant and its end. Raises :class:`GameError` for what is no month."""
    return _bounds(name, game.settings[ZONE], _closed_by_name(connection, game.id))


def month_list(connection: Connection, game: Game) -> list[MonthState]:
    """Every month from the first that has a purchase or is closed, to the present one; the newest first."""
    zone = game.settings[ZONE]
    closed = _closed_by_name(connection, game.id)
    first = _first_purchase(connection, game.id)
    names = [*closed, *([] if first is None else [_month_at(first, zone, closed)])]
    if not names:
        return []
    found: list[MonthState] = []
    name = max(_month_at(clock.stamp(), zone, closed), *names)
    while name >= max(min(names), clock.FIRST_YEAR) and len(found) < MOST_MONTHS:
        found.append(MonthState(_bounds(name, zone, closed), closed.get(name)))
        name = periods.before(name)
    return found


def zone_changes(connection: Connection, game: Game, month: str | None = None) -> list[ZoneChange]:
    """Where months are of another time zone than the closed one before; the oldest first. Of one month, or of all."""
    closed, zone = all_closed(connection, game.id), game.settings[ZONE]
    zones = [(each.month.name, each.month.starts_at, each.terms.zone) for each in closed]
    if closed:
        zones.append((periods.after(closed[-1].month.name), closed[-1].month.ends_at, zone))
    return [
        ZoneChange(name, starts_at, zone, last.terms.zone)
        for last, (name, starts_at, zone) in zip(closed, zones[1:], strict=True)
        if zone != last.terms.zone and month in (None, name)
    ]


def frozen_lines(connection: Connection, settlement_id: int) -> list[Line]:
    """The lines of a closed month, in the order of the documents."""
    rows = connection.execute(
        "SELECT * FROM settlement_lines WHERE settlement_id = :id ORDER BY number", {"id": settlement_id}
    )
    return [line_of(row) for row in rows]


def steps(connection: Connection, game_id: int, name: str) -> list[Step]:
    """All steps of a month, the oldest first, reopened versions included."""
    rows = connection.execute(
        """SELECT t.* FROM settlement_steps t JOIN settlements s ON s.id = t.settlement_id
           WHERE s.game_id = :game_id AND s.month = :month ORDER BY t.id""",
        {"game_id": game_id, "month": name},
    )
    return [Step(row["state"], bool(row["is_skipped"]), row["actor"], row["note"], row["created_at"]) for row in rows]


def gross_by_month(connection: Connection, game_id: int, most: int = 12) -> list[Row]:
    """``month``, ``partner``, ``currency`` and ``gross_minor`` of what counts in the newest closed months.

    The figure is for charts: a floating-point number, which cannot overflow.
    """
    return connection.execute(
        """SELECT s.month, l.partner, l.currency, sum(CAST(l.gross_minor AS DOUBLE PRECISION)) AS gross_minor
           FROM (SELECT id, month FROM settlements WHERE game_id = :game_id AND state <> 'reopened'
                 ORDER BY month DESC LIMIT :most) s
           CROSS JOIN /* hint */ settlement_lines l ON l.settlement_id = s.id AND l.section = 'counted'
           GROUP BY s.month, l.partner, l.currency ORDER BY s.month, l.partner, l.currency""",
        {"game_id": game_id, "most": most},
    ).fetchall()


def due_to_close(connection: Connection, game: Game, days: int) -> tuple[Month | None, float]:
    """The oldest open month that ended that many days ago, and seconds until there may be another."""
    zone = game.settings[ZONE]
    before = clock.stamp(clock.now() - days * 86400)
    for each in reversed(month_list(connection, game)):
        if each.state == OPEN and each.month.ends_at <= before:
            return each.month, 0.0
    closed = _closed_by_name(connection, game.id)
    present = _bounds(_month_at(before, zone, closed), zone, closed)
    return None, clock.seconds(present.ends_at) + days * 86400 - clock.now()


def settlement_of(row: Row) -> Settlement:
    """A row of ``settlements``."""
    month = Month(row["month"], row["starts_at"], row["ends_at"])
    same = {name: row[name] for name in ("id", "game_id", "version", "state", "known_at", "closed_at")}
    return Settlement(month=month, terms=Terms.loads(row["terms"]), **same)


def line_of(row: Row) -> Line:
    """A row of ``settlement_lines``."""
    values: dict[str, Any] = {name: row[name] for name in NAMES}
    if values["is_registered"] is not None:
        values["is_registered"] = bool(values["is_registered"])
    return Line(**values)


def _bounds(name: str, zone: str, closed: Mapping[str, Settlement]) -> Month:
    if name in closed:
        return closed[name].month
    month = periods.month(name, zone)
    before, after = closed.get(periods.before(name)), closed.get(periods.after(name))
    starts_at = month.starts_at if before is None else before.month.ends_at
    return Month(name, starts_at, month.ends_at if after is None else after.month.starts_at)


def _month_at(stamp: str, zone: str, closed: Mapping[str, Settlement]) -> str:
    """The month that holds a moment: the calendar's, or the one beside it where a closed month reaches further."""
    name = periods.of(stamp, zone)
    month = _bounds(name, zone, closed)
    return periods.before(name) if stamp < month.starts_at else periods.after(name) if stamp >= month.ends_at else name


def _closed_by_name(connection: Connection, game_id: int) -> dict[str, Settlement]:
    return {each.month.name: each for each in all_closed(connection, game_id)}


def _first_purchase(connection: Connection, game_id: int) -> str | None:
    row = connection.execute(
        """SELECT (SELECT min(purchased_at) FROM payments WHERE game_id = :game_id) AS payment,
                  (SELECT moment FROM transactions WHERE game_id = :game_id
                   ORDER BY moment LIMIT 1) AS ordered""",
        {"game_id": game_id},
    ).fetchone()
    return min((each for each in (row["payment"], row["ordered"]) if each is not None), default=None)
