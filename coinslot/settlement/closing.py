"""Closing a month: its lines are frozen, and never change; reopening it.

Closing reads the month from one snapshot of the database, without a lock, and writes its lines in one short write. The
unique key of the month decides who is first; a second close finds it closed and changes nothing.
"""

from functools import partial

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.settlement import months, runs
from coinslot.settlement.calculation import preview
from coinslot.settlement.lines import NAMES, Line
from coinslot.settlement.months import Settlement, SettlementError
from coinslot.settlement.periods import Month
from coinslot.settlement.states import add_step, checked_note
from coinslot.settlement.terms import InGame, Terms
from coinslot.store.db import Connection, Database, DatabaseError

TRIES = 5  # while others close months of the same game


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
    note = checked_note(note)
    terms = Terms.of(game, in_game)
    for _ in range(TRIES):
        with database.snapshot() as connection:
            month = months.month_of(connection, game, name)
            known = months.find_closed(connection, game.id, name)
            if known is not None:
                return known, False
            if not month.is_over and not (may_be_early and month.starts_at <= clock.stamp()):
                raise SettlementError(f"{name} is not over before {month.ends_at[:16]} UTC")
            newest_step, known_at = _newest_step(connection, game.id), clock.stamp()
            lines = preview(connection, game.id, month, terms, in_game)
        freeze = partial(_freeze, game.id, month, terms, newest_step, known_at, lines, actor, note)
        frozen = database.write(freeze)
        if frozen is not None:
            return frozen, True
    raise DatabaseError(f"months of {game.slug} are being closed and reopened all the time; please try again")


def reopen(tx: Connection, game_id: int, name: str, actor: str, note: str) -> None:
    """Open a closed month again. Its lines and reconciliations are kept, and count no more.

    Raises :class:`SettlementError` if its payment is confirmed, or a later month holds adjustments of it.
    """
    if not note.strip():
        raise SettlementError("say in a note why it is reopened")
    settlement = months.closed_month(tx, game_id, name)
    if settlement.state in (months.CONFIRMED, months.SETTLED):
        raise SettlementError(f"the payment of {name} is confirmed: what was wrong is put right by the next month")
    later = tx.execute(
        """SELECT s.month FROM settlement_lines l JOIN settlements s ON s.id = l.settlement_id
           WHERE s.game_id = :game_id AND s.state <> 'reopened' AND s.id <> :id AND l.month = :month
           ORDER BY s.month DESC LIMIT 1""",
        {"game_id": game_id, "id": settlement.id, "month": name},
    ).fetchone()
    if later is not None:
        raise SettlementError(f"{later['month']} holds adjustments of {name}: reopen that month first")
    add_step(tx, settlement, months.REOPENED, actor, checked_note(note))
    runs.replace_all(tx, game_id, name)


def _freeze(
    game_id: int,
    month: Month,
    terms: Terms,
    newest_step: int,
    known_at: str,
    lines: list[Line],
    actor: str,
    note: str,
    tx: Connection,
) -> Settlement | None:
    if _newest_step(tx, game_id) != newest_step:
        return None  # another month was closed or reopened meanwhile: the adjustments may be other ones
    row = tx.execute(
        """INSERT INTO settlements (game_id, month, version, starts_at, ends_at, terms, known_at, state, closed_at)
           SELECT :game_id, :name,
                  (SELECT count(*) + 1 FROM settlements WHERE game_id = :game_id AND month = :name),
                  :starts_at, :ends_at, :terms, :known_at, 'closed', :now
           WHERE true
           ON CONFLICT (game_id, month) WHERE state <> 'reopened' DO NOTHING RETURNING *""",
        {**vars(month), "game_id": game_id, "terms": terms.dumps(), "known_at": known_at, "now": clock.stamp()},
    ).fetchone()
    if row is None:
        return None
    settlement = months.settlement_of(row)
    columns, places = ", ".join(NAMES), ", ".join(f":{name}" for name in NAMES)
    tx.executemany(
        f"INSERT INTO settlement_lines (settlement_id, number, {columns}) VALUES (:id, :number, {places})",  # noqa: S608
        ({"id": settlement.id, "number": number, **vars(line)} for number, line in enumerate(lines, 1)),
    )
    add_step(tx, settlement, months.CLOSED, actor, note)
    return settlement


def _newest_step(connection: Connection, game_id: int) -> int:
    (found,) = connection.execute(
        "SELECT coalesce(max(id), 0) FROM settlement_steps WHERE game_id = :game_id", {"game_id": game_id}
    ).fetchone()
    return int(found)
