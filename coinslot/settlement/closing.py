"""Months: open until they are closed, then frozen; reconciled, paid and handed on, step by step.

Closing reads the month's facts from one state of the database, without any lock, and writes its lines in one short
write. The unique key of the month decides who is first; whoever comes second, or again, finds it closed and changes
nothing.

A month goes through its states one after the other. One is passed over only with a note, and the record says so.
"""

from collections.abc import Sequence
from dataclasses import fields

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.games.registry import checked_text
from coinslot.settlement import figures, reconciliation, statement
from coinslot.settlement.adjustments import adjustments
from coinslot.settlement.figures import Line
from coinslot.settlement.months import (
    CLOSED,
    CONFIRMED,
    RECONCILED,
    REOPENED,
    SETTLED,
    STATES,
    Settlement,
    SettlementError,
    closed_month,
    month_of,
    settlement_of,
    standing,
)
from coinslot.settlement.periods import Month
from coinslot.settlement.terms import InGame, Terms
from coinslot.store import audit
from coinslot.store.db import Connection, Database, DatabaseError

LONGEST_NOTE = 500
TRIES = 5  # while others close months of the same game
LARGEST_SUM = 2**63 - 1  # the database holds none above it


def close(
    database: Database,
    game: Game,
    in_game: InGame,
    name: str,
    actor: str,
    note: str = "",
    *,
    may_be_early: bool = False,
) -> tuple[Settlement, bool]:
    """Close a month and return it, and whether this call did; one that is closed stays as it is.

    Raises :class:`SettlementError` for a month that is not over, unless it ``may_be_early``.
    """
    note = _checked(note)
    terms = Terms.of(game, in_game)
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
            lines = preview(connection, game.id, month, terms, in_game)

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


def preview(connection: Connection, game_id: int, month: Month, terms: Terms, in_game: InGame) -> list[Line]:
    """The lines a month would be closed with now, adjustments included. Reads all of its rows.

    Raises :class:`SettlementError` where a sum of them is too large to be kept.
    """
    found = statement.lines(connection, game_id, month, terms, in_game)
    found += adjustments(connection, game_id, month, in_game)
    for line in found:
        found_figures = (getattr(line, name) for name in figures.FIGURES)
        if any(isinstance(each, int) and abs(each) > LARGEST_SUM for each in found_figures):
            raise SettlementError(f"{line.month} holds amounts of {line.currency} too large to be summed")
    return sorted(found, key=lambda line: line.order)


def reopen(tx: Connection, game_id: int, name: str, actor: str, note: str) -> None:
    """Have a closed month open again; its lines count no more, and are kept. Nor do its reconciliations.

    Raises :class:`SettlementError` where its payment is confirmed, or a later month holds adjustments of it.
    """
    if not note.strip():
        raise SettlementError("say in a note why it is reopened")
    settlement = closed_month(tx, game_id, name)
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
    settlement = closed_month(tx, game_id, name)
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
    settlement = closed_month(tx, game_id, name)
    if settlement.state == RECONCILED:
        _take_step(tx, settlement, CLOSED, actor, _checked(note))


# How


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
    settlement = settlement_of(row)
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


def _newest_step(connection: Connection, game_id: int) -> int:
    (found,) = connection.execute(
        "SELECT coalesce(max(id), 0) FROM settlement_steps WHERE game_id = :game_id", {"game_id": game_id}
    ).fetchone()
    return int(found)


def _checked(note: str) -> str:
    try:
        return checked_text(note.strip(), LONGEST_NOTE)
    except ValueError as error:
        raise SettlementError(f"the note: {error}") from None
