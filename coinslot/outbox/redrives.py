"""Redrives: dead letters put back by a person, or once by themselves after a destination was down.

In formats with an order, a dead letter stays dead when a later one of its player has overtaken it.
"""

from collections.abc import Iterable, Iterator
from typing import TypedDict, Unpack

from coinslot.base import clock
from coinslot.base.errors import CoinslotError
from coinslot.games.erasure import FORGOTTEN
from coinslot.outbox import circuit, destinations
from coinslot.outbox.deliveries import delivery_of, lease_bounds, owe
from coinslot.store.db import Connection, Row

REDRIVEN_AT_ONCE = 500
# What a person may put back: the dead, and what would be sent later only.
_REDRIVEN = """(state = 'dead'
         OR state = 'waiting' AND (leased_until IS NULL OR leased_until <= :now OR leased_until > :longest)
            AND (next_attempt_at > :now
                 OR destination_id IN (SELECT id FROM destinations WHERE circuit_open_since IS NOT NULL)))
    AND destination_id IN (SELECT id FROM destinations WHERE state <> 'removed')
    AND (dead_reason IS NULL OR dead_reason <> :forgotten)"""
_CHOSEN = """(CAST(:delivery_id AS INTEGER) IS NULL OR id = :delivery_id)
    AND (CAST(:state AS TEXT) IS NULL OR state = :state)
    AND (CAST(:destination_id AS INTEGER) IS NULL OR destination_id = :destination_id)
    AND (CAST(:event_type AS TEXT) IS NULL OR event_type = :event_type)
    AND (CAST(:since AS TEXT) IS NULL OR created_at >= :since)
    AND (CAST(:until AS TEXT) IS NULL OR created_at < :until)"""
# Dead, and a later one of its player has arrived or is in hand.
_OVERTAKEN = """(state = 'dead'
    AND destination_id IN (SELECT id FROM destinations WHERE keeps_order = 1)
    AND EXISTS (
        SELECT 1 FROM deliveries l
        WHERE l.destination_id = deliveries.destination_id AND l.player_id = deliveries.player_id
          AND l.id > deliveries.id
          AND (l.state = 'delivered' AND l.finished_at >= deliveries.finished_at
               OR l.state = 'waiting' AND l.leased_until > :now AND l.leased_until <= :longest)))"""


class DeliveryError(CoinslotError):
    """What was asked for a delivery cannot be done."""


class Which(TypedDict, total=False):
    """Which deliveries; a missing key or None is no condition. ``since`` and ``until`` are of when they were owed."""

    delivery_id: int | None
    state: str | None
    destination_id: int | None
    event_type: str | None
    since: str | None
    until: str | None


def redrivable(connection: Connection, game_id: int, **which: Unpack[Which]) -> Iterator[list[int]]:
    """The ids of the deliveries that :func:`redrive` puts back, in portions: the reader writes between them."""
    after = 0
    while True:
        rows = connection.execute(
            f"""SELECT id FROM deliveries
                WHERE game_id = :game_id AND id > :after AND {_REDRIVEN} AND {_CHOSEN} AND NOT {_OVERTAKEN}
                ORDER BY id LIMIT :limit""",  # noqa: S608  our own words only
            {**_values(game_id, which), "after": after, "limit": REDRIVEN_AT_ONCE},
        )
        found = [row["id"] for row in rows.fetchall()]
        if not found:
            return
        yield found
        after = found[-1]


def count_overtaken(connection: Connection, game_id: int, **which: Unpack[Which]) -> int:
    """How many of these dead letters :func:`redrive` leaves dead, in formats with an order."""
    (count,) = connection.execute(
        f"""SELECT count(*) FROM deliveries
            WHERE game_id = :game_id AND {_REDRIVEN} AND {_CHOSEN} AND {_OVERTAKEN}""",  # noqa: S608  likewise
        _values(game_id, {**which, "state": "dead"}),
    ).fetchone()
    return int(count)


def _values(game_id: int, which: Which) -> dict[str, object]:
    no_condition = dict.fromkeys(Which.__annotations__)
    return {**no_condition, **which, "game_id": game_id, "forgotten": FORGOTTEN, **lease_bounds(clock.now())}


def redrive(tx: Connection, game_id: int, delivery_ids: Iterable[int]) -> int:
    """Put back deliveries that are dead, or wait for a later attempt: they are due now. Returns how many.

    Their schedule begins again, and the circuit of their destination closes. What is due or in hand does not change,
    and overtaken dead letters stay dead (:func:`count_overtaken`).
    """
    bounds = lease_bounds(clock.now())
    goals = []
    for delivery_id in delivery_ids:
        row = tx.execute(
            f"""UPDATE deliveries SET state = 'waiting', attempts_made = 0, next_attempt_at = :now, dead_reason = NULL,
                   finished_at = NULL, self_redriven = 0, leased_until = NULL, lease_owner = NULL
               WHERE game_id = :game_id AND id = :id AND {_REDRIVEN} AND NOT {_OVERTAKEN}
               RETURNING destination_id""",  # noqa: S608  our own words only
            {"game_id": game_id, "id": delivery_id, "forgotten": FORGOTTEN, **bounds},
        ).fetchone()
        if row is not None:
            goals.append(row["destination_id"])
    for destination_id in set(goals):
        circuit.close(tx, destination_id)
    return len(goals)


def redrive_one(tx: Connection, game_id: int, delivery_id: int) -> None:
    """Raises :class:`DeliveryError` when :func:`redrive` does not put this one back; its message says why."""
    if redrive(tx, game_id, [delivery_id]):
        return
    if count_overtaken(tx, game_id, delivery_id=delivery_id):
        raise DeliveryError(f"delivery {delivery_id} stays dead: a later one of its player has overtaken it")
    row = tx.execute(
        "SELECT state, dead_reason FROM deliveries WHERE id = :id AND game_id = :game_id",
        {"id": delivery_id, "game_id": game_id},
    ).fetchone()
    if row is not None and row["dead_reason"] == FORGOTTEN:
        raise DeliveryError(f"delivery {delivery_id} stays dead: {FORGOTTEN}, and its content with the player")
    waits = row is not None and row["state"] == "waiting"
    raise DeliveryError(f"there is no dead delivery {delivery_id}{'. It is due, or being sent' if waits else ''}")


def deliver_again(tx: Connection, game_id: int, transaction_id: int) -> tuple[int, int]:
    """Owe the grants of a transaction again; returns how many deliveries, and how many of them are redriven.

    Each destination that wants a grant gets a new delivery of it, unless one waits already; a dead one is put back
    instead. The grant keeps its id, so that a game recognizes it.
    """
    rows = tx.execute(
        """SELECT id, kind, player_id, reverses FROM grants
           WHERE transaction_id = :id AND game_id = :game_id ORDER BY id""",
        {"game_id": game_id, "id": transaction_id},
    ).fetchall()
    owed = redriven = 0
    for grant in rows:
        event_type = "grant.reversed" if grant["kind"] == "reversal" else "grant.created"
        for destination_id in destinations.wanting(tx, game_id, (event_type,)):
            newest = tx.execute(
                """SELECT id, state FROM deliveries WHERE grant_id = :grant_id AND destination_id = :destination_id
                   ORDER BY id DESC LIMIT 1""",
                {"grant_id": grant["id"], "destination_id": destination_id},
            ).fetchone()
            if newest is not None and newest["state"] == "waiting":
                continue
            owed += 1
            if newest is not None and newest["state"] == "dead":
                redrive_one(tx, game_id, newest["id"])
                redriven += 1
                continue
            original = None if grant["reverses"] is None else delivery_of(tx, destination_id, grant["reverses"])
            owe(tx, game_id, destination_id, event_type, grant["id"], None, grant["player_id"], original)
    return owed, redriven


def go_on(tx: Connection) -> bool:
    """Continue what takes many writes; returns whether there may be more.

    That is: put back what died while a destination was down, and end what removed destinations were owed.
    """
    row = tx.execute("SELECT * FROM destinations WHERE reviving_since IS NOT NULL LIMIT 1").fetchone()
    if row is not None:
        _revive(tx, row)
        return True
    return destinations.bury_removed(tx)


def begin_reviving(tx: Connection, destination_id: int, down_since: str) -> None:
    """Put back what died since a destination was down, in this write or the next ones (:func:`go_on`)."""
    row = tx.execute(
        "UPDATE destinations SET reviving_since = :since WHERE id = :id RETURNING *",
        {"id": destination_id, "since": down_since},
    ).fetchone()
    _revive(tx, row)


def _revive(tx: Connection, destination: Row) -> None:
    """Each dead letter is put back once only: one that is never accepted must end."""
    changed = tx.execute(
        f"""UPDATE deliveries SET state = 'waiting', attempts_made = 0, next_attempt_at = :now, dead_reason = NULL,
               finished_at = NULL, self_redriven = 1
           WHERE id IN (
               SELECT id FROM deliveries
               WHERE destination_id = :id AND state = 'dead' AND finished_at >= :since AND self_redriven = 0
                 AND (dead_reason IS NULL OR dead_reason <> :forgotten) AND NOT {_OVERTAKEN}
               LIMIT :most)""",  # noqa: S608  our own words only
        {
            "id": destination["id"],
            "since": destination["reviving_since"],
            "most": REDRIVEN_AT_ONCE,
            "forgotten": FORGOTTEN,
            **lease_bounds(clock.now()),
        },
    ).rowcount
    if changed < REDRIVEN_AT_ONCE:
        tx.execute("UPDATE destinations SET reviving_since = NULL WHERE id = :id", {"id": destination["id"]})
