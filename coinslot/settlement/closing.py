"""Months: open until they are closed, then frozen; reconciled, paid and handed on, step by step.

Closing reads the month's facts from one state of the database, without any lock, and writes its lines in one short
write. The unique key of the month decides who is first; whoever comes second, or again, finds it closed and changes
nothing.

A month is of the game's time zone as it is now, but it begins where the closed month before it ended, and ends where
the closed month after it begins: closed months never move, so that a change of the zone counts no hour twice and leaves
none out.

What becomes known of a closed month later (a late payment, a refund, a corrected row) goes into the next month that is
closed, as adjustments: lines whose own month is the earlier one. They are the difference between that month as it would
be reckoned now, under the terms it was closed with, and all that was frozen of it so far. So the lines of all closed
months together are always what the rows say, and nothing is counted twice.

A month goes through its states one after the other. One is passed over only with a note, and the record says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from coinslot.base import clock, money
from coinslot.games.games import Game, GameError
from coinslot.games.registry import checked_text
from coinslot.settlement import calendar, reconciliation, statement
from coinslot.settlement.calendar import Month
from coinslot.settlement.statement import IN_TOTALS, Line, plus
from coinslot.settlement.terms import ZONE, Terms
from coinslot.store import audit
from coinslot.store.db import Connection, Database, DatabaseError, Row

OPEN = "open"
CLOSED, RECONCILED, CONFIRMED, SETTLED = STATES = ("closed", "reconciled", "payment_confirmed", "creators_settled")
REOPENED = "reopened"
LONGEST_NOTE = 500
TRIES = 5  # while others close months of the same game
OVERLAP_SECONDS = 600.0  # a row may be committed some time after the time that is written in it
LARGEST_SUM = 2**63 - 1  # the database holds none above it
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


def close(
    database: Database, game: Game, name: str, actor: str, note: str = "", *, may_be_early: bool = False
) -> tuple[Settlement, bool]:
    """Close a month and return it, and whether this call did; one that is closed stays as it is.

    Raises :class:`SettlementError` for a month that is not over, unless it ``may_be_early``.
    """
    note = _checked(note)
    terms = Terms.of(game)
    for _ in range(TRIES):
        with database.snapshot() as connection:
            month = month_of(connection, game, name)
            known = standing(connection, game.id, name)
            if known is not None:
                return known, False
            if not month.is_over and not (may_be_early and month.starts_at <= clock.stamp()):
                raise SettlementError(f"{name} is not over before {month.ends_at[:16]} UTC")
            moved = _newest_step(connection, game.id)
            known_at = clock.stamp()
            lines = preview(connection, game.id, month, terms)

        def freeze(
            tx: Connection,
            month: Month = month,
            moved: int = moved,
            known_at: str = known_at,
            lines: list[Line] = lines,
        ) -> Settlement | None:
            if _newest_step(tx, game.id) != moved:
                return None  # another month was closed or reopened meanwhile: the adjustments may be other ones
            return _freeze(tx, game.id, month, terms, known_at, lines, actor, note)

        frozen = database.write(freeze)
        if frozen is not None:
            return frozen, True
    raise DatabaseError(f"months of {game.slug} are being closed and reopened all the time; please try again")


def preview(connection: Connection, game_id: int, month: Month, terms: Terms) -> list[Line]:
    """The lines a month would be closed with now, adjustments included. Reads all of its rows.

    Raises :class:`SettlementError` where a sum of them is too large to be kept.
    """
    found = statement.lines(connection, game_id, month, terms) + _adjustments(connection, game_id, month)
    for line in found:
        figures = (getattr(line, name) for name in statement.FIGURES)
        if any(isinstance(each, int) and abs(each) > LARGEST_SUM for each in figures):
            raise SettlementError(f"{line.month} holds amounts of {line.currency} too large to be summed")
    return sorted(found, key=lambda line: line.order)


def reopen(tx: Connection, game_id: int, name: str, actor: str, note: str) -> None:
    """Have a closed month open again; its lines count no more, and are kept. Nor do its reconciliations.

    Raises :class:`SettlementError` where its payment is confirmed, or a later month holds adjustments of it.
    """
    if not note.strip():
        raise SettlementError("say in a note why it is reopened")
    settlement = _standing(tx, game_id, name)
    if settlement.state in (CONFIRMED, SETTLED):
        raise SettlementError(f"the payment of {name} is confirmed: what was wrong is put right by the next month")
    later = tx.execute(
        """SELECT s.month FROM settlement_lines l JOIN settlements s ON s.id = l.settlement_id
           WHERE s.game_id = :game_id AND s.state <> 'reopened' AND s.id <> :id AND l.month = :month
           ORDER BY s.month DESC LIMIT 1""",
        {"game_id": game_id, "id": settlement.id, "month": name},
    ).fetchone()
    if later is not None:
        raise SettlementError(f"{later['month']} holds adjustments of {name}: reopen that month first")
    _take_step(tx, settlement, REOPENED, actor, _checked(note))
    reconciliation.replace_all(tx, game_id, name)


def advance(
    tx: Connection, game_id: int, name: str, state: str, actor: str, note: str = "", *, skipping: bool = False
) -> list[str]:
    """Bring a closed month to a state, and return those it came through, ``state`` the last; none when it is there.

    Raises :class:`SettlementError` when a state between would be passed over, unless ``skipping``, which takes a note.
    """
    settlement = _standing(tx, game_id, name)
    here, there = STATES.index(settlement.state), STATES.index(state)
    note = _checked(note)
    if there <= here:
        return []
    passed = STATES[here + 1 : there]
    if passed and not (skipping and note):
        words = " and ".join(word.replace("_", " ") for word in passed)
        raise SettlementError(f"{name} is not {words}; to pass that over, say so and why")
    for each in passed:
        _take_step(tx, settlement, each, actor, note, is_skipped=True)
    _take_step(tx, settlement, state, actor, note)
    return [*passed, state]


def back_to_closed(tx: Connection, game_id: int, name: str, actor: str, note: str) -> None:
    """A reconciled month is not so any more; one that has come further stays where it is."""
    settlement = _standing(tx, game_id, name)
    if settlement.state == RECONCILED:
        _take_step(tx, settlement, CLOSED, actor, _checked(note))


# Reading


def standing(connection: Connection, game_id: int, name: str) -> Settlement | None:
    """The month as it is closed; None while it is open."""
    row = connection.execute(
        "SELECT * FROM settlements WHERE game_id = :game_id AND month = :month AND state <> 'reopened'",
        {"game_id": game_id, "month": name},
    ).fetchone()
    return None if row is None else _settlement(row)


def month_of(connection: Connection, game: Game, name: str) -> Month:
    """A month from where it begins to where it ends. Raises :class:`GameError` for what is none."""
    return _bounds(name, game.settings[ZONE], _closed_months(connection, game.id))


def month_list(connection: Connection, game: Game) -> list[MonthState]:
    """Every month from the first with a purchase, or closed, to the present one; the newest first."""
    zone = game.settings[ZONE]
    closed = _closed_months(connection, game.id)
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
        name = calendar.before(name)
    return found


def zone_changes(connection: Connection, game: Game) -> list[ZoneChange]:
    """Where closed months are of another time zone than the one before, or than what is set now; the oldest first."""
    found: list[ZoneChange] = []
    last: Settlement | None = None
    for each in _all_standing(connection, game.id):
        if last is not None and each.terms.zone != last.terms.zone:
            found.append(ZoneChange(each.month.name, each.month.starts_at, each.terms.zone, last.terms.zone))
        last = each
    zone = game.settings[ZONE]
    if last is not None and zone != last.terms.zone:
        found.append(ZoneChange(calendar.after(last.month.name), last.month.ends_at, zone, last.terms.zone))
    return found


def lines(connection: Connection, settlement_id: int) -> list[Line]:
    """The frozen lines, in the order of the documents."""
    rows = connection.execute(
        "SELECT * FROM settlement_lines WHERE settlement_id = :id ORDER BY number", {"id": settlement_id}
    )
    return [_line(row) for row in rows]


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
        """SELECT s.month, l.partner, l.currency, total(l.gross_minor) AS gross_minor
           FROM (SELECT id, month FROM settlements WHERE game_id = :game_id AND state <> 'reopened'
                 ORDER BY month DESC LIMIT :most) s
           CROSS JOIN settlement_lines l ON l.settlement_id = s.id AND l.section = 'counted'
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
    closed = _closed_months(connection, game.id)
    present = _bounds(_month_at(before, zone, closed), zone, closed)
    return None, clock.seconds(present.ends_at) + days * 86400 - clock.now()


# How


def _bounds(name: str, zone: str, closed: Mapping[str, Settlement]) -> Month:
    if name in closed:
        return closed[name].month
    month = calendar.month(name, zone)
    before, after = closed.get(calendar.before(name)), closed.get(calendar.after(name))
    return Month(
        name,
        month.starts_at if before is None else before.month.ends_at,
        month.ends_at if after is None else after.month.starts_at,
    )


def _month_at(stamp: str, zone: str, closed: Mapping[str, Settlement]) -> str:
    """The month that holds a moment: the calendar's, or the one beside it where a closed month reaches further."""
    name = calendar.of(stamp, zone)
    month = _bounds(name, zone, closed)
    return (
        calendar.before(name) if stamp < month.starts_at else calendar.after(name) if stamp >= month.ends_at else name
    )


def _closed_months(connection: Connection, game_id: int) -> dict[str, Settlement]:
    return {each.month.name: each for each in _all_standing(connection, game_id)}


def _adjustments(connection: Connection, game_id: int, month: Month) -> list[Line]:
    """What became known of earlier closed months since all that was frozen of them."""
    all_closed = _all_standing(connection, game_id)
    earlier = [each for each in all_closed if each.month.name < month.name]
    found: list[Line] = []
    for settlement in _touched(connection, game_id, earlier, all_closed):
        now = statement.lines(connection, game_id, settlement.month, settlement.terms)
        found += statement.difference(now, _frozen_of(connection, game_id, settlement.month.name))
    return found


def _touched(
    connection: Connection, game_id: int, earlier: Sequence[Settlement], all_closed: Sequence[Settlement]
) -> list[Settlement]:
    """Those months that are to be reckoned again. A few too many do no harm.

    A row of theirs has come or changed since they were last looked at, or a month was reopened that held lines of them.
    """
    found = []
    for each in earlier:
        looked_at = max(other.known_at for other in all_closed if other.month.name >= each.month.name)
        values = {
            "game_id": game_id,
            "month": each.month.name,
            "starts_at": each.month.starts_at,
            "ends_at": each.month.ends_at,
            "since": clock.stamp(clock.seconds(looked_at) - OVERLAP_SECONDS),
        }
        if any(connection.execute(query, values).fetchone() is not None for query in _CHANGES):
            found.append(each)
    return found


_CHANGES = (
    # Of the two times the index of the first is wanted: few rows have changed, and a month may have a million.
    """SELECT 1 FROM payments
       WHERE game_id = :game_id AND updated_at >= :since
         AND coalesce(purchased_at, '') >= :starts_at AND coalesce(purchased_at, '') < :ends_at LIMIT 1""",
    # Of a payment that is in another month now, or gone, nothing else is left here. The subject begins with the time.
    """SELECT 1 FROM audit
       WHERE game_id = :game_id AND action = 'payment.move' AND created_at >= :since
         AND subject >= :starts_at AND subject < :ends_at LIMIT 1""",
    """SELECT 1 FROM transactions
       WHERE game_id = :game_id AND coalesce(occurred_at, received_at) >= :starts_at
         AND coalesce(occurred_at, received_at) < :ends_at AND received_at >= :since LIMIT 1""",
    """SELECT 1 FROM refunds r JOIN transactions t ON t.id = r.transaction_id
       WHERE r.game_id = :game_id AND (r.created_at >= :since OR r.settled_at >= :since)
         AND coalesce(t.occurred_at, t.received_at) >= :starts_at AND coalesce(t.occurred_at, t.received_at) < :ends_at
       LIMIT 1""",
    # Who is supported holds until another event says otherwise.
    """SELECT 1 FROM events
       WHERE game_id = :game_id AND type IN ('sponsor.created', 'sponsor.ended') AND occurred_at < :ends_at
         AND received_at >= :since LIMIT 1""",
    # Adjustments that a reopened month held count no more, however long ago their rows changed.
    """SELECT 1 FROM settlements s JOIN settlement_lines l ON l.settlement_id = s.id
       WHERE s.game_id = :game_id AND s.state = 'reopened' AND s.month <> :month AND l.month = :month LIMIT 1""",
)


def _frozen_of(connection: Connection, game_id: int, name: str) -> list[Line]:
    """All that standing months hold of one month: its own lines and its adjustments."""
    rows = connection.execute(
        """SELECT l.* FROM settlement_lines l JOIN settlements s ON s.id = l.settlement_id
           WHERE s.game_id = :game_id AND s.state <> 'reopened' AND l.month = :month""",
        {"game_id": game_id, "month": name},
    )
    return [_line(row) for row in rows]


def _freeze(
    tx: Connection,
    game_id: int,
    month: Month,
    terms: Terms,
    known_at: str,
    found: Sequence[Line],
    actor: str,
    note: str,
) -> Settlement | None:
    row = tx.execute(
        """INSERT INTO settlements (game_id, month, version, starts_at, ends_at, terms, known_at, state, closed_at)
           SELECT :game_id, :month,
                  (SELECT count(*) + 1 FROM settlements WHERE game_id = :game_id AND month = :month),
                  :starts_at, :ends_at, :terms, :known_at, 'closed', :now
           WHERE true
           ON CONFLICT (game_id, month) WHERE state <> 'reopened' DO NOTHING RETURNING *""",
        {
            "game_id": game_id,
            "month": month.name,
            "starts_at": month.starts_at,
            "ends_at": month.ends_at,
            "terms": terms.dumps(),
            "known_at": known_at,
            "now": clock.stamp(),
        },
    ).fetchone()
    if row is None:
        return None
    settlement = _settlement(row)
    names = [each.name for each in fields(Line)]
    columns = ", ".join(names)
    places = ", ".join(f":{name}" for name in names)
    tx.executemany(
        f"INSERT INTO settlement_lines (settlement_id, number, {columns}) VALUES (:id, :number, {places})",  # noqa: S608
        ({"id": settlement.id, "number": number, **vars(line)} for number, line in enumerate(found, 1)),
    )
    _take_step(tx, settlement, CLOSED, actor, note)
    return settlement


def _take_step(
    tx: Connection, settlement: Settlement, state: str, actor: str, note: str, *, is_skipped: bool = False
) -> None:
    tx.execute(
        """INSERT INTO settlement_steps (game_id, settlement_id, state, is_skipped, actor, note, created_at)
           VALUES (:game_id, :settlement_id, :state, :is_skipped, :actor, :note, :now)""",
        {
            "game_id": settlement.game_id,
            "settlement_id": settlement.id,
            "state": state,
            "is_skipped": int(is_skipped),
            "actor": actor,
            "note": note,
            "now": clock.stamp(),
        },
    )
    tx.execute("UPDATE settlements SET state = :state WHERE id = :id", {"state": state, "id": settlement.id})
    word = "settlement.skip" if is_skipped else "settlement.state"
    audit.record(tx, settlement.game_id, actor, word, f"{settlement.month.name}: {state}")


def _standing(connection: Connection, game_id: int, name: str) -> Settlement:
    found = standing(connection, game_id, name)
    if found is None:
        raise SettlementError(f"{name} is open: close it first")
    return found


def _all_standing(connection: Connection, game_id: int) -> list[Settlement]:
    rows = connection.execute(
        "SELECT * FROM settlements WHERE game_id = :game_id AND state <> 'reopened' ORDER BY month",
        {"game_id": game_id},
    )
    return [_settlement(row) for row in rows]


def _newest_step(connection: Connection, game_id: int) -> int:
    (found,) = connection.execute(
        "SELECT coalesce(max(id), 0) FROM settlement_steps WHERE game_id = :game_id", {"game_id": game_id}
    ).fetchone()
    return int(found)


def _first_purchase(connection: Connection, game_id: int) -> str | None:
    row = connection.execute(
        """SELECT (SELECT min(purchased_at) FROM payments WHERE game_id = :game_id) AS payment,
                  (SELECT coalesce(occurred_at, received_at) FROM transactions WHERE game_id = :game_id
                   ORDER BY coalesce(occurred_at, received_at) LIMIT 1) AS ordered""",
        {"game_id": game_id},
    ).fetchone()
    return min((each for each in (row["payment"], row["ordered"]) if each is not None), default=None)


def _checked(note: str) -> str:
    try:
        return checked_text(note.strip(), LONGEST_NOTE)
    except ValueError as error:
        raise SettlementError(f"the note: {error}") from None


def _settlement(row: Row) -> Settlement:
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


def _line(row: Row) -> Line:
    values: dict[str, Any] = {each.name: row[each.name] for each in fields(Line)}
    if values["is_registered"] is not None:
        values["is_registered"] = bool(values["is_registered"])
    return Line(**values)
