"""The months of a game as they are: open, or closed and frozen. Everything here only reads.

A month is of the game's time zone as it is now, but it begins where the closed month before it ended, and ends where
the closed month after it begins: closed months never move, so that a change of the zone counts no hour twice and leaves
none out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from coinslot.base import clock, money
from coinslot.games.games import Game, GameError
from coinslot.settlement import periods
from coinslot.settlement.figures import IN_TOTALS, Line, plus
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
    """A state a month has come to. ``is_skipped``: it was passed over, and ``note`` says why."""

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
    state: str
    settlement: Settlement | None


@dataclass(frozen=True)
class Total:
    """What one partner's lines of one currency come to; None where the partner did not say.

    The ``usd`` figures are the partner's own, in whole US cents.
    """

    partner: str
    currency: str
    count: int
    refund_count: int
    gross_minor: int
    refunds_minor: int
    tax_minor: int | None
    fee_minor: int | None
    net_minor: int | None
    share_minor: int
    usd_gross: int | None
    usd_tax: int | None
    usd_fee: int | None
    usd_net: int | None
    unsaid: int
    unsaid_minor: int
    undated: int


@dataclass(frozen=True)
class ZoneChange:
    """From ``month`` on, which begins at ``starts_at``, months are of another time zone than those closed before."""

    month: str
    starts_at: str
    zone: str
    zone_before: str


def standing(connection: Connection, game_id: int, name: str) -> Settlement | None:
    """The month as it is closed; None while it is open."""
    row = connection.execute(
        "SELECT * FROM settlements WHERE game_id = :game_id AND month = :month AND state <> 'reopened'",
        {"game_id": game_id, "month": name},
    ).fetchone()
    return None if row is None else settlement_of(row)


def month_of(connection: Connection, game: Game, name: str) -> Month:
    """A month from where it begins to where it ends. Raises :class:`GameError` for what is none."""
    return _bounds(name, game.settings[ZONE], closed_months(connection, game.id))


def month_list(connection: Connection, game: Game) -> list[MonthState]:
    """Every month from the first with a purchase, or closed, to the present one; the newest first."""
    zone = game.settings[ZONE]
    closed = closed_months(connection, game.id)
    first = _first_purchase(connection, game.id)
    names = [*closed, *([] if first is None else [_month_at(first, zone, closed)])]
    if not names:
        return []
    found: list[MonthState] = []
    name = max(_month_at(clock.stamp(), zone, closed), *names)
    while name >= max(min(names), clock.FIRST_YEAR) and len(found) < MOST_MONTHS:
        settlement = closed.get(name)
        state = OPEN if settlement is None else settlement.state
        found.append(MonthState(_bounds(name, zone, closed), state, settlement))
        name = periods.before(name)
    return found


def zone_changes(connection: Connection, game: Game) -> list[ZoneChange]:
    """Where closed months are of another time zone than the one before, or than what is set now; the oldest first."""
    found: list[ZoneChange] = []
    last: Settlement | None = None
    for each in all_standing(connection, game.id):
        if last is not None and each.terms.zone != last.terms.zone:
            found.append(ZoneChange(each.month.name, each.month.starts_at, each.terms.zone, last.terms.zone))
        last = each
    zone = game.settings[ZONE]
    if last is not None and zone != last.terms.zone:
        found.append(ZoneChange(periods.after(last.month.name), last.month.ends_at, zone, last.terms.zone))
    return found


def lines(connection: Connection, settlement_id: int) -> list[Line]:
    """The frozen lines, in the order of the documents."""
    rows = connection.execute(
        "SELECT * FROM settlement_lines WHERE settlement_id = :id ORDER BY number", {"id": settlement_id}
    )
    return [line_of(row) for row in rows]


def totals(found: Iterable[Line]) -> list[Total]:
    """One for each partner and currency, of the lines that count; what stands apart is in none."""
    names = [each.name for each in fields(Total)]
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    with money.exactly():
        for line in found:
            if line.section not in IN_TOTALS:
                continue
            summed = sums.setdefault((line.partner, line.currency), {})
            for name in names[2:]:
                summed[name] = plus(summed.get(name), getattr(line, name))
    return [Total(*key, **summed) for key, summed in sorted(sums.items())]


def steps(connection: Connection, game_id: int, name: str) -> list[Step]:
    """All that was done with a month, the oldest first, reopened versions included."""
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
    """The oldest month that has been over for so many days and is open, and seconds until there may be another."""
    zone = game.settings[ZONE]
    before = clock.stamp(clock.now() - days * 86400)
    for each in reversed(month_list(connection, game)):
        if each.state == OPEN and each.month.ends_at <= before:
            return each.month, 0.0
    closed = closed_months(connection, game.id)
    present = _bounds(_month_at(before, zone, closed), zone, closed)
    return None, clock.seconds(present.ends_at) + days * 86400 - clock.now()


def _bounds(name: str, zone: str, closed: Mapping[str, Settlement]) -> Month:
    if name in closed:
        return closed[name].month
    month = periods.month(name, zone)
    before, after = closed.get(periods.before(name)), closed.get(periods.after(name))
    return Month(
        name,
        month.starts_at if before is None else before.month.ends_at,
        month.ends_at if after is None else after.month.starts_at,
    )


def _month_at(stamp: str, zone: str, closed: Mapping[str, Settlement]) -> str:
    """The month that holds a moment: the calendar's, or the one beside it where a closed month reaches further."""
    name = periods.of(stamp, zone)
    month = _bounds(name, zone, closed)
    return periods.before(name) if stamp < month.starts_at else periods.after(name) if stamp >= month.ends_at else name


def closed_months(connection: Connection, game_id: int) -> dict[str, Settlement]:
    return {each.month.name: each for each in all_standing(connection, game_id)}


def closed_month(connection: Connection, game_id: int, name: str) -> Settlement:
    found = standing(connection, game_id, name)
    if found is None:
        raise SettlementError(f"{name} is open: close it first")
    return found


def all_standing(connection: Connection, game_id: int) -> list[Settlement]:
    rows = connection.execute(
        "SELECT * FROM settlements WHERE game_id = :game_id AND state <> 'reopened' ORDER BY month",
        {"game_id": game_id},
    )
    return [settlement_of(row) for row in rows]


def _first_purchase(connection: Connection, game_id: int) -> str | None:
    row = connection.execute(
        """SELECT (SELECT min(purchased_at) FROM payments WHERE game_id = :game_id) AS payment,
                  (SELECT moment FROM transactions WHERE game_id = :game_id
                   ORDER BY moment LIMIT 1) AS ordered""",
        {"game_id": game_id},
    ).fetchone()
    return min((each for each in (row["payment"], row["ordered"]) if each is not None), default=None)


def settlement_of(row: Row) -> Settlement:
    return Settlement(
        id=row["id"],
        game_id=row["game_id"],
        month=Month(row["month"], row["starts_at"], row["ends_at"]),
        version=row["version"],
        terms=Terms.loads(row["terms"]),
        state=row["state"],
        known_at=row["known_at"],
        closed_at=row["closed_at"],
    )


def line_of(row: Row) -> Line:
    values: dict[str, Any] = {each.name: row[each.name] for each in fields(Line)}
    if values["is_registered"] is not None:
        values["is_registered"] = bool(values["is_registered"])
    return Line(**values)
