"""What is put back: by a person, or once by itself after a destination was down.

In formats with an order, a dead letter stays dead when a later one of its player has overtaken it.
"""

from collections.abc import Iterable

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
_CHOSEN = """(CAST(:state AS TEXT) IS NULL OR state = :state)
    AND (CAST(:destination_id AS INTEGER) IS NULL OR destination_id = :destination_id)
    AND (CAST(:event_type AS TEXT) IS NULL OR event_type = :event_type)
    AND (CAST(:since AS TEXT) IS NULL OR created_at >= :since)
    AND (CAST(:until AS TEXT) IS NULL OR created_at < :until)"""
# What of it may not be, since a later one of its player has arrived or is on its way: the condition of `_revive`.
_OVERTAKEN = """(state = 'dead'
    AND destination_id IN (SELECT id FROM destinations WHERE keeps_order = 1)
    AND EXISTS (
        SELECT 1 FROM deliveries l
        WHERE l.destination_id = deliveries.destination_id AND l.player_id = deliveries.player_id
          AND l.id > deliveries.id
          AND (l.state = 'delivered' AND l.finished_at >= deliveries.finished_at
               OR l.state = 'waiting' AND l.leased_until > :now AND l.leased_until <= :longest)))"""


class DeliveryError(CoinslotError):
    """What was asked for a delivery cannot be done; the message is for the person who asked."""


def redrivable(
    connection: Connection,
    game_id: int,
    *,
    after: int = 0,
    limit: int = REDRIVEN_AT_ONCE,
    state: str | None = None,
    destination_id: int | None = None,
    event_type: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> list[int]:
    """The first deliveries with an id above ``after`` that :func:`redrive` puts back, of all or those of a destination,
    state, type or range.
    """
    rows = connection.execute(
        f"""SELECT id FROM deliveries
            WHERE game_id = :game_id AND id > :after AND {_REDRIVEN} AND {_CHOSEN} AND NOT {_OVERTAKEN}
            ORDER BY id LIMIT :limit""",  # noqa: S608  our own words only
        {
            "game_id": game_id,
            "after": after,
            "limit": limit,
            "state": state,
            "destination_id": destination_id,
            "event_type": event_type,
            "since": since,
            "until": until,
            "forgotten": FORGOTTEN,
            **lease_bounds(clock.now()),
        },
    )
    return [row["id"] for row in rows]


def redrive(tx: Connection, game_id: int, delivery_ids: Iterable[int]) -> int:
    """Put back deliveries that are dead, or wait for a later attempt: they are due now. Returns how many.

    Their schedule starts anew, and the circuit of their destination closes: somebody says that it is mended. What is
    due or in hand as it is stays so, and dead ones that a later one of their player has overtaken stay dead
    (:func:`count_overtaken`).
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
    """Owe what a transaction granted to its destinations once more; returns how many deliveries, and how many of them
    are dead ones that were put back.

    Each destination that wants a grant gets a new delivery of it, unless one waits already; a dead one is put back
    instead. The grant keeps its id, and so a game that heard of it knows it again.
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


def count_overtaken(
    connection: Connection,
    game_id: int,
    *,
    delivery_id: int | None = None,
    destination_id: int | None = None,
    event_type: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> int:
    """How many of these dead letters :func:`redrive` leaves dead, in formats with an order."""
    which = {
        "game_id": game_id,
        "delivery_id": delivery_id,
        "state": "dead",
        "destination_id": destination_id,
        "event_type": event_type,
        "since": since,
        "until": until,
        "forgotten": FORGOTTEN,
        **lease_bounds(clock.now()),
    }
    (count,) = connection.execute(
        f"""SELECT count(*) FROM deliveries
            WHERE game_id = :game_id AND (CAST(:delivery_id AS INTEGER) IS NULL OR id = :delivery_id)
              AND {_REDRIVEN} AND {_CHOSEN} AND {_OVERTAKEN}""",  # noqa: S608  our own words only
        which,
    ).fetchone()
    return int(count)


def go_on(tx: Connection) -> bool:
    """Do some more of what was begun and is long; returns whether there may be more.

    That is: put back what died while destinations were down, and bury what removed ones were owed.
    """
    row = tx.execute("SELECT * FROM destinations WHERE reviving_since IS NOT NULL LIMIT 1").fetchone()
    if row is not None:
        _revive(tx, row)
        return True
    return destinations.bury_removed(tx)


def begin_reviving(tx: Connection, destination_id: int, down_since: str) -> None:
    row = tx.execute(
        "UPDATE destinations SET reviving_since = :since WHERE id = :id RETURNING *",
        {"id": destination_id, "since": down_since},
    ).fetchone()
    _revive(tx, row)


def _revive(tx: Connection, destination: Row) -> bool:
    """What died while the destination was down is put back: once, or a delivery it never takes would live for ever.

    In formats with an order it stays dead when a later one of its player has arrived, or is on its way. Returns whether
    there may be more.
    """
    changed = tx.execute(
        """UPDATE deliveries SET state = 'waiting', attempts_made = 0, next_attempt_at = :now, dead_reason = NULL,
               finished_at = NULL, self_redriven = 1
           WHERE id IN (
               SELECT id FROM deliveries d
               WHERE destination_id = :id AND state = 'dead' AND finished_at >= :since AND self_redriven = 0
                 AND (dead_reason IS NULL OR dead_reason <> :forgotten)
                 AND (:is_ordered = 0 OR NOT EXISTS (
                     SELECT 1 FROM deliveries l
                     WHERE l.destination_id = :id AND l.player_id = d.player_id AND l.id > d.id
                       AND (l.state = 'delivered' AND l.finished_at >= d.finished_at
                            OR l.state = 'waiting' AND l.leased_until > :now AND l.leased_until <= :longest)))
               LIMIT :most)""",
        {
            "id": destination["id"],
            "since": destination["reviving_since"],
            "is_ordered": destination["keeps_order"],
            "most": REDRIVEN_AT_ONCE,
            "forgotten": FORGOTTEN,
            **lease_bounds(clock.now()),
        },
    ).rowcount
    if changed >= REDRIVEN_AT_ONCE:
        return True
    tx.execute("UPDATE destinations SET reviving_since = NULL WHERE id = :id", {"id": destination["id"]})
    return False
