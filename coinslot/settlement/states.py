"""The states of a closed month: reconciled, payment confirmed, creators settled, one after the other.

A state is passed over only with a note, and the record says so.
"""

from coinslot.base import clock
from coinslot.games.registry import checked_text
from coinslot.settlement import months, runs
from coinslot.settlement.lines import IN_TOTALS
from coinslot.settlement.months import CLOSED, RECONCILED, STATES, Settlement, SettlementError
from coinslot.settlement.runs import Run
from coinslot.store import audit
from coinslot.store.db import Connection

LONGEST_NOTE = 500


def advance(
    tx: Connection,
    game_id: int,
    name: str,
    state: str,
    actor: str,
    note: str = "",
    *,
    is_skipping: bool = False,
    is_accepting: bool = False,
) -> list[str]:
    """Bring a closed month to a state; returns the states it went through, ``state`` the last; none if it is there.

    Raises :class:`SettlementError` if a state between would be passed over, unless ``is_skipping``, with a note; and if
    a report does not agree with the month, unless ``is_accepting``, with a note.
    """
    names = disagreeing(tx, game_id, name)
    if names and not (is_accepting and note.strip()):
        raise SettlementError(
            f"{name} does not agree with the newest report of {', '.join(names)}, or is still compared with it: "
            "look at its differences; to go on all the same, accept them (--accept) and say in a note why"
        )
    accepted = _advance(tx, game_id, name, RECONCILED, actor, note) if names else []
    return accepted + _advance(tx, game_id, name, state, actor, note, is_skipping=is_skipping)


def accept(tx: Connection, game_id: int, name: str, actor: str, note: str) -> list[str]:
    """Make a closed month reconciled despite its differences; returns the states it went through.

    The note is kept, with the partners it was not compared with. Raises :class:`SettlementError`.
    """
    if not note.strip():
        raise SettlementError("say in a note why that is good enough")
    missing, _ = unreconciled(tx, game_id, name)
    if missing:
        note = f"{note} (not reconciled: {', '.join(missing)})"
    return _advance(tx, game_id, name, RECONCILED, actor, note)


def note_outcome(tx: Connection, run: Run) -> None:
    """After a run: a month that agrees with all partners becomes reconciled; one that does not any more, closed."""
    found = months.find_closed(tx, run.game_id, run.month.name)
    if found is None:
        return
    if found.state == CLOSED and not any(unreconciled(tx, run.game_id, found.month.name)):
        words = "every purchase agrees with the partners' figures"
        _advance(tx, run.game_id, found.month.name, RECONCILED, "reconciliation", words)
    if found.state == RECONCILED and run.partner in disagreeing(tx, run.game_id, found.month.name):
        add_step(tx, found, CLOSED, "reconciliation", f"a newer report of {run.partner} does not agree")


def disagreeing(connection: Connection, game_id: int, name: str) -> list[str]:
    """Partners whose newest report does not agree with a closed month, or is not compared to its end.

    Those whose differences were accepted since are left out; so are all once the payment of the month is confirmed.
    """
    found = months.find_closed(connection, game_id, name)
    if found is None or found.state not in (CLOSED, RECONCILED):
        return []
    accepted_at = months.steps(connection, game_id, name)[-1].at if found.state == RECONCILED else ""
    return sorted(
        run.partner
        for run in runs.current_runs(connection, game_id, name)
        if not run.is_done or (not run.agrees and (run.finished_at or "") > accepted_at)
    )


def unreconciled(connection: Connection, game_id: int, name: str) -> tuple[list[str], list[str]]:
    """Partners that a closed month was not compared with yet, and those with which something does not agree.

    A figure that could not be read does not agree: nobody knows what it says.
    """
    found = months.find_closed(connection, game_id, name)
    if found is None:
        return [], []
    partners = {line.partner for line in months.frozen_lines(connection, found.id) if line.section in IN_TOTALS}
    done = {run.partner: run for run in runs.current_runs(connection, game_id, name) if run.is_done}
    return sorted(partners - set(done)), sorted(partner for partner, run in done.items() if not run.agrees)


def _advance(
    tx: Connection, game_id: int, name: str, state: str, actor: str, note: str, *, is_skipping: bool = False
) -> list[str]:
    settlement = months.closed_month(tx, game_id, name)
    here, there = STATES.index(settlement.state), STATES.index(state)
    note = checked_note(note)
    if there <= here:
        return []
    passed = STATES[here + 1 : there]
    if passed and not (is_skipping and note):
        words = " and ".join(word.replace("_", " ") for word in passed)
        raise SettlementError(f"{name} is not {words}; to pass that over, say so and why")
    for each in passed:
        add_step(tx, settlement, each, actor, note, is_skipped=True)
    add_step(tx, settlement, state, actor, note)
    return [*passed, state]


def add_step(
    tx: Connection, settlement: Settlement, state: str, actor: str, note: str, *, is_skipped: bool = False
) -> None:
    """Record that a month reached a state, or passed it over."""
    values = {"game_id": settlement.game_id, "id": settlement.id, "state": state, "actor": actor, "note": note}
    tx.execute(
        """INSERT INTO settlement_steps (game_id, settlement_id, state, is_skipped, actor, note, created_at)
           VALUES (:game_id, :id, :state, :is_skipped, :actor, :note, :now)""",
        {**values, "is_skipped": int(is_skipped), "now": clock.stamp()},
    )
    tx.execute("UPDATE settlements SET state = :state WHERE id = :id", values)
    word = "settlement.skip" if is_skipped else "settlement.state"
    audit.record(tx, settlement.game_id, actor, word, f"{settlement.month.name}: {state}")


def checked_note(note: str) -> str:
    """A note without blanks around it. Raises :class:`SettlementError`."""
    try:
        return checked_text(note.strip(), LONGEST_NOTE)
    except ValueError as error:
        raise SettlementError(f"the note: {error}") from None
