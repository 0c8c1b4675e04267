"""What is owed to a game's destinations: written with the fact that caused it, claimed, attempted, done or dead.

Delivery is at least once: ``webhook_id`` stays the same over every attempt, and the receiver deduplicates on it.
A claim is a lease; a process that dies with deliveries in hand gives them back by doing nothing. Nothing here talks
to anyone: the network is ``coinslot/relay/loop.py``'s, outside every transaction.

A reversal waits while its original does. In formats with an order nothing of a player's overtakes, and one at a time
is in hand. A dead letter blocks nobody.
"""

import random
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from coinslot.base import clock
from coinslot.outbox import destinations
from coinslot.outbox.destinations import JITTER, LONGEST_TIMEOUT_SECONDS, Destination
from coinslot.store import counters
from coinslot.store.db import Connection, Row

LEASE_SPARE_SECONDS = 5  # beyond the destination's timeout
# A lease that ends later than this was made by a clock that ran ahead and was set right since: it has run out.
LONGEST_LEASE_SECONDS = LONGEST_TIMEOUT_SECONDS + LEASE_SPARE_SECONDS + 60
COUNTED_AS = "relay"  # in place of a partner, among the counters
TOOK_MS = (100, 300, 1000, 3000, 10000)  # attempts are counted by how long they took: up to these, or longer
KEPT_ANSWER_BYTES = 2048
PRUNED_AT_ONCE = 500
REDRIVEN_AT_ONCE = 500
PROBED_IN_TURN = 100
OLDEST_BEAT_SECONDS = 30  # a relay says every five that it runs

STATES = ("waiting", "dead", "delivered")

# What a person may put back: the dead, and what would be sent later only.
_REDRIVEN = """(state = 'dead'
         OR state = 'waiting' AND (leased_until IS NULL OR leased_until <= :now OR leased_until > :longest)
            AND (next_attempt_at > :now
                 OR destination_id IN (SELECT id FROM destinations WHERE circuit_open_since IS NOT NULL)))
    AND destination_id IN (SELECT id FROM destinations WHERE state <> 'removed')"""
_CHOSEN = """(:state IS NULL OR state = :state)
    AND (:destination_id IS NULL OR destination_id = :destination_id)
    AND (:event_type IS NULL OR event_type = :event_type)
    AND (:since IS NULL OR created_at >= :since) AND (:until IS NULL OR created_at < :until)"""
# What of it may not be, since a later one of its player has arrived or is on its way: the condition of `_revive`.
_OVERTAKEN = """(state = 'dead'
    AND destination_id IN (SELECT id FROM destinations WHERE keeps_order = 1)
    AND EXISTS (
        SELECT 1 FROM deliveries l
        WHERE l.destination_id = deliveries.destination_id AND l.player_id = deliveries.player_id
          AND l.id > deliveries.id
          AND (l.state = 'delivered' AND l.finished_at >= deliveries.finished_at
               OR l.state = 'waiting' AND l.leased_until > :now AND l.leased_until <= :longest)))"""


class DeliveryError(Exception):
    """What was asked for a delivery cannot be done; the message is for the person who asked."""


@dataclass(frozen=True)
class Claim:
    """One delivery in hand: to be sent to ``destination`` before ``leased_until``, and then recorded."""

    id: int
    destination: Destination
    webhook_id: str
    event_type: str
    grant_id: int | None
    event_id: int | None
    attempt_id: int
    started_at: str
    number: int
    owner: str
    leased_until: float

    def is_long_enough(self) -> bool:
        """Whether an attempt begun now ends, and is recorded, within the lease."""
        return self.leased_until - clock.now() >= self.destination.timeout_seconds + 1


@dataclass(frozen=True)
class Result:
    """How an attempt went. ``failure`` is one of the words of ``attempts.failure``, or None when it arrived."""

    failure: str | None
    status: int | None = None
    detail: str | None = None
    answer: bytes = b""
    duration_ms: int = 0
    retry_after_seconds: float | None = None


def enqueue(
    tx: Connection,
    game_id: int,
    event_type: str,
    *,
    grant_id: int | None = None,
    event_id: int | None = None,
    player_id: str | None = None,
    reverses: int | None = None,
) -> int:
    """Owe a grant or an event to every destination of the game that wants it; returns how many that were.

    ``reverses`` is the grant that a reversal undoes. Formats that get only what was converted for them get none of it.
    """
    wanting = destinations.wanting(tx, game_id, (event_type,))
    for destination_id in wanting:
        waits_for = None if reverses is None else _delivery_of(tx, destination_id, reverses)
        _owe(tx, game_id, destination_id, event_type, grant_id, event_id, player_id, waits_for)
    return len(wanting)


def enqueue_converted(
    tx: Connection, game_id: int, event_types: Sequence[str], event_id: int, player_id: str | None
) -> int:
    """Owe the body an event was converted into to every destination of such a format that wants it, likewise.

    A body may hold several events of a player: ``event_id`` is the first, and who wants the type of one gets all.
    """
    wanting = destinations.wanting(tx, game_id, event_types, is_converted=True)
    for destination_id in wanting:
        _owe(tx, game_id, destination_id, event_types[0], None, event_id, player_id, None)
    return len(wanting)


def claim_due(tx: Connection, owner: str, room: Mapping[int, int]) -> list[Claim]:
    """Take due deliveries, at most ``room[destination id]`` of each destination; each becomes an attempt in progress.

    One conditional update per delivery makes the lease: whoever changes the row has it. A destination whose circuit
    is open gives one, once per rest.
    """
    now = clock.now()
    claims: list[Claim] = []
    for destination_id, free in room.items():
        row = tx.execute(
            "SELECT * FROM destinations WHERE id = :id AND state = 'active'", {"id": destination_id}
        ).fetchone()
        if row is None:
            continue
        destination = destinations.opened(row)
        leased_until = now + destination.timeout_seconds + LEASE_SPARE_SECONDS
        if not destination.is_open:
            due = [each["id"] for each in _claimable(tx, row, clock.stamp(now), free)]
        elif row["next_probe_at"] <= clock.stamp(now):
            due = _probe(tx, row, leased_until)
        else:
            due = []
        for delivery_id in due:
            claim = _lease(tx, destination, delivery_id, owner, now, leased_until)
            if claim is not None:
                claims.append(claim)
    return claims


def record(tx: Connection, claim: Claim, result: Result) -> str:
    """Write down how an attempt went; returns the delivery's state after it.

    A success counts even if the lease had run out. A failure then changes nothing but the attempt's row, since
    somebody else has the delivery in hand. ``gone``: a restore has put another state in place of the one it was
    claimed in, and nothing is changed; what its ids name now may be something else.
    """
    row = tx.execute(
        """SELECT d.state, d.lease_owner, d.leased_until FROM deliveries d JOIN attempts a ON a.delivery_id = d.id
           WHERE d.id = :id AND d.webhook_id = :webhook_id AND a.id = :attempt_id AND a.started_at = :started_at""",
        {
            "id": claim.id,
            "webhook_id": claim.webhook_id,
            "attempt_id": claim.attempt_id,
            "started_at": claim.started_at,
        },
    ).fetchone()
    if row is None:
        return "gone"
    tx.execute(
        """UPDATE attempts SET duration_ms = :duration_ms, status = :status, failure = :failure, detail = :detail,
               answer = :answer WHERE id = :id""",
        {
            "id": claim.attempt_id,
            "duration_ms": result.duration_ms,
            "status": result.status,
            "failure": result.failure,
            "detail": result.detail,
            "answer": result.answer[:KEPT_ANSWER_BYTES],
        },
    )
    _count(tx, claim, result)
    if row["state"] == "delivered":
        return "delivered"
    if result.failure is None:
        _finish(tx, claim.id, "delivered", None)
        down_since = destinations.succeeded(tx, claim.destination.id)
        if down_since is not None:
            _begin_reviving(tx, claim.destination.id, down_since)
        return "delivered"
    if (row["lease_owner"], row["leased_until"]) != (claim.owner, clock.stamp(claim.leased_until)):
        return str(row["state"])

    was_resting = destinations.failed(tx, claim.destination.id, claim.id, result.retry_after_seconds)
    if result.status == 410:
        destinations.pause(tx, claim.destination.id, "it answered 410 Gone")
    if was_resting or result.status == 410:  # that told us about the destination, and costs the delivery nothing
        _end_lease(tx, claim)
        return "waiting"
    return _retry(tx, claim, result)


def give_back(tx: Connection, claim: Claim) -> None:
    """End a claim that was not used: there was no attempt. One that a restore has overtaken is left alone likewise."""
    if _end_lease(tx, claim):
        tx.execute(
            "DELETE FROM attempts WHERE id = :id AND delivery_id = :delivery_id AND started_at = :started_at",
            {"id": claim.attempt_id, "delivery_id": claim.id, "started_at": claim.started_at},
        )


def next_due(connection: Connection) -> dict[int, str]:
    """When each active destination will next have something to claim, as a stamp; absent: nothing free waits.

    Leases that run out are not foreseen: whoever waits for this looks again every now and then.
    """
    now = clock.stamp()
    moments = {}
    for row in connection.execute("SELECT * FROM destinations WHERE state = 'active'").fetchall():
        if row["next_probe_at"] is not None and row["next_probe_at"] > now:
            moments[row["id"]] = str(row["next_probe_at"])  # until then its backlog, which may be long, is left alone
            continue
        for delivery in _claimable(connection, row, "9999", 1):
            moments[row["id"]] = str(row["next_probe_at"] or delivery["next_attempt_at"])
    return moments


def active_destinations(connection: Connection) -> list[int]:
    return [row["id"] for row in connection.execute("SELECT id FROM destinations WHERE state = 'active'")]


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
            **_lease_bounds(clock.now()),
        },
    )
    return [row["id"] for row in rows]


def redrive(tx: Connection, game_id: int, delivery_ids: Iterable[int]) -> int:
    """Put back deliveries that are dead, or wait for a later attempt: they are due now. Returns how many.

    Their schedule starts anew, and the circuit of their destination closes: somebody says that it is mended. What is
    due or in hand as it is stays so, and dead ones that a later one of their player has overtaken stay dead
    (:func:`count_overtaken`).
    """
    bounds = _lease_bounds(clock.now())
    goals = []
    for delivery_id in delivery_ids:
        row = tx.execute(
            f"""UPDATE deliveries SET state = 'waiting', attempts_made = 0, next_attempt_at = :now, dead_reason = NULL,
                   finished_at = NULL, self_redriven = 0, leased_until = NULL, lease_owner = NULL
               WHERE game_id = :game_id AND id = :id AND {_REDRIVEN} AND NOT {_OVERTAKEN}
               RETURNING destination_id""",  # noqa: S608  our own words only
            {"game_id": game_id, "id": delivery_id, **bounds},
        ).fetchone()
        if row is not None:
            goals.append(row["destination_id"])
    for destination_id in set(goals):
        destinations.close(tx, destination_id)
    return len(goals)


def redrive_one(tx: Connection, game_id: int, delivery_id: int) -> None:
    """Raises :class:`DeliveryError` when :func:`redrive` does not put this one back; its message says why."""
    if redrive(tx, game_id, [delivery_id]):
        return
    if count_overtaken(tx, game_id, delivery_id=delivery_id):
        raise DeliveryError(f"delivery {delivery_id} stays dead: a later one of its player has overtaken it")
    waits = tx.execute(
        "SELECT 1 FROM deliveries WHERE id = :id AND game_id = :game_id AND state = 'waiting'",
        {"id": delivery_id, "game_id": game_id},
    ).fetchone()
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
            original = None if grant["reverses"] is None else _delivery_of(tx, destination_id, grant["reverses"])
            _owe(tx, game_id, destination_id, event_type, grant["id"], None, grant["player_id"], original)
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
        **_lease_bounds(clock.now()),
    }
    (count,) = connection.execute(
        f"""SELECT count(*) FROM deliveries
            WHERE game_id = :game_id AND (:delivery_id IS NULL OR id = :delivery_id)
              AND {_REDRIVEN} AND {_CHOSEN} AND {_OVERTAKEN}""",  # noqa: S608  our own words only
        which,
    ).fetchone()
    return int(count)


def has_prunable(connection: Connection, before: str) -> bool:
    row = connection.execute(
        """SELECT 1 FROM destinations t WHERE EXISTS (
               SELECT 1 FROM deliveries d
               WHERE d.destination_id = t.id AND d.state = 'delivered' AND d.finished_at < :before) LIMIT 1""",
        {"before": before},
    )
    return row.fetchone() is not None


def prune(tx: Connection, before: str) -> int:
    """Delete up to :data:`PRUNED_AT_ONCE` deliveries that arrived before a time; returns how many.

    What waits or is dead stays, and so does what another delivery waits for.
    """
    rows = tx.execute(
        """SELECT id FROM deliveries d
           WHERE destination_id IN (SELECT id FROM destinations) AND state = 'delivered' AND finished_at < :before
             AND NOT EXISTS (SELECT 1 FROM deliveries w WHERE w.waits_for = d.id) LIMIT :limit""",
        {"before": before, "limit": PRUNED_AT_ONCE},
    ).fetchall()
    for row in rows:
        tx.execute("DELETE FROM attempts WHERE delivery_id = :id", {"id": row["id"]})
        tx.execute("DELETE FROM deliveries WHERE id = :id", {"id": row["id"]})
    return len(rows)


def last_ids(connection: Connection) -> dict[str, int]:
    """At least the highest id of each table of ours that was handed out, as far as this database knows."""
    deliveries, attempts = connection.execute(
        "SELECT (SELECT max(id) FROM deliveries), (SELECT max(id) FROM attempts)"
    ).fetchone()
    return {
        "deliveries": max(deliveries or 0, _floor(connection, "deliveries")),
        "attempts": max(attempts or 0, _floor(connection, "attempts")),
    }


def begin_above(tx: Connection, ids: Mapping[str, int]) -> None:
    """Have the ids of these tables go on above these, so that an id of before a restore names nothing new."""
    for name, last_id in ids.items():
        tx.execute(
            """INSERT INTO installation (name, value, updated_at) VALUES (:name, :value, :now)
               ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at""",
            {"name": f"outbox.{name}_above", "value": str(last_id), "now": clock.stamp()},
        )


def beat(tx: Connection) -> None:
    """Say that a relay is running."""
    tx.execute(
        """INSERT INTO heartbeats (name, beat_at) VALUES ('relay', :now)
           ON CONFLICT (name) DO UPDATE SET beat_at = excluded.beat_at""",
        {"now": clock.stamp()},
    )


def last_beat(connection: Connection) -> float | None:
    """When a relay last said so. None: never, or by a clock that ran ahead, and then nobody knows."""
    row = connection.execute("SELECT beat_at FROM heartbeats WHERE name = 'relay'").fetchone()
    beat = None if row is None else clock.seconds(row["beat_at"])
    return None if beat is None or beat > clock.now() + OLDEST_BEAT_SECONDS else beat


def _owe(
    tx: Connection,
    game_id: int,
    destination_id: int,
    event_type: str,
    grant_id: int | None,
    event_id: int | None,
    player_id: str | None,
    waits_for: int | None,
) -> None:
    tx.execute(
        """INSERT INTO deliveries (id, game_id, destination_id, webhook_id, event_type, grant_id, event_id, waits_for,
                                   player_id, next_attempt_at, created_at)
           VALUES ((SELECT max(coalesce((SELECT max(id) FROM deliveries), 0), :floor) + 1), :game_id, :destination_id,
                   :webhook_id, :event_type, :grant_id, :event_id, :waits_for, :player_id, :now, :now)""",
        {
            "floor": _floor(tx, "deliveries"),
            "game_id": game_id,
            "destination_id": destination_id,
            "webhook_id": f"msg_{uuid.uuid4().hex}",
            "event_type": event_type,
            "grant_id": grant_id,
            "event_id": event_id,
            "waits_for": waits_for,
            "player_id": player_id,
            "now": clock.stamp(),
        },
    )


def _floor(connection: Connection, table: str) -> int:
    row = connection.execute(
        "SELECT value FROM installation WHERE name = :name", {"name": f"outbox.{table}_above"}
    ).fetchone()
    return 0 if row is None else int(row["value"])


def _lease_bounds(now: float) -> dict[str, str]:
    """A lease counts that ends after ``now`` and not after ``longest``."""
    return {"now": clock.stamp(now), "longest": clock.stamp(now + LONGEST_LEASE_SECONDS)}


def _delivery_of(tx: Connection, destination_id: int, grant_id: int) -> int | None:
    row = tx.execute(
        "SELECT max(id) FROM deliveries WHERE grant_id = :grant_id AND destination_id = :destination_id",
        {"grant_id": grant_id, "destination_id": destination_id},
    ).fetchone()
    return None if row[0] is None else int(row[0])


def _claimable(connection: Connection, destination: Row, until: str, limit: int) -> list[Row]:
    """Deliveries that nobody has in hand and that wait for no other, due by ``until``, longest due first."""
    return connection.execute(
        """SELECT id, next_attempt_at FROM deliveries d
           WHERE destination_id = :destination_id AND state = 'waiting' AND next_attempt_at <= :until
             AND (leased_until IS NULL OR leased_until <= :now OR leased_until > :longest)
             AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.id = d.waits_for AND o.state = 'waiting')
             AND (:is_ordered = 0 OR NOT EXISTS (
                 SELECT 1 FROM deliveries p
                 WHERE p.destination_id = d.destination_id AND p.player_id = d.player_id AND p.state = 'waiting'
                   AND (p.id < d.id OR p.id > d.id AND p.leased_until > :now AND p.leased_until <= :longest)))
           ORDER BY next_attempt_at, id LIMIT :limit""",
        {
            "destination_id": destination["id"],
            "is_ordered": destination["keeps_order"],
            "until": until,
            **_lease_bounds(clock.now()),
            "limit": limit,
        },
    ).fetchall()


def _probe(tx: Connection, destination: Row, next_probe_at: float) -> list[int]:
    """The one delivery to try a resting destination with, due or not; then it rests until ``next_probe_at``.

    They take turns: one that is never accepted must not keep the circuit open.
    """
    candidates = sorted(row["id"] for row in _claimable(tx, destination, "9999", PROBED_IN_TURN))
    if not candidates:
        return []
    chosen = next((each for each in candidates if each > destination["last_probed"]), candidates[0])
    tx.execute(
        "UPDATE destinations SET next_probe_at = :at, last_probed = :chosen WHERE id = :id",
        {"id": destination["id"], "at": clock.stamp(next_probe_at), "chosen": chosen},
    )
    return [chosen]


def _lease(
    tx: Connection, destination: Destination, delivery_id: int, owner: str, now: float, until: float
) -> Claim | None:
    row = tx.execute(
        """UPDATE deliveries SET leased_until = :until, lease_owner = :owner
           WHERE id = :id AND state = 'waiting'
             AND (leased_until IS NULL OR leased_until <= :now OR leased_until > :longest)
           RETURNING webhook_id, event_type, grant_id, event_id, attempts_made""",
        {"id": delivery_id, "owner": owner, "until": clock.stamp(until), **_lease_bounds(now)},
    ).fetchone()
    if row is None:
        return None
    (attempt_id,) = tx.execute(
        """INSERT INTO attempts (id, delivery_id, started_at)
           VALUES ((SELECT max(coalesce((SELECT max(id) FROM attempts), 0), :floor) + 1), :id, :now) RETURNING id""",
        {"floor": _floor(tx, "attempts"), "id": delivery_id, "now": clock.stamp(now)},
    ).fetchone()
    return Claim(
        id=delivery_id,
        destination=destination,
        webhook_id=row["webhook_id"],
        event_type=row["event_type"],
        grant_id=row["grant_id"],
        event_id=row["event_id"],
        attempt_id=attempt_id,
        started_at=clock.stamp(now),
        number=row["attempts_made"] + 1,
        owner=owner,
        leased_until=until,
    )


def _retry(tx: Connection, claim: Claim, result: Result) -> str:
    """Schedule the next attempt, or bury the delivery when the table has no more."""
    delays = claim.destination.retry_seconds
    if claim.number > len(delays):
        words = [result.failure or "", f"status {result.status}" if result.status else "", result.detail or ""]
        counters.add(tx, claim.destination.game_id, COUNTED_AS, "dead")
        _finish(tx, claim.id, "dead", f"{claim.number} attempts; the last: {', '.join(filter(None, words))}")
        return "dead"
    delay = delays[claim.number - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  spreads load, hides nothing
    delay = max(delay, result.retry_after_seconds or 0)
    tx.execute(
        """UPDATE deliveries SET attempts_made = :number, next_attempt_at = :at, leased_until = NULL, lease_owner = NULL
           WHERE id = :id""",
        {"id": claim.id, "number": claim.number, "at": clock.stamp(clock.now() + delay)},
    )
    return "waiting"


def _count(tx: Connection, claim: Claim, result: Result) -> None:
    took = next((str(limit) for limit in TOOK_MS if result.duration_ms <= limit), "more")
    outcome = "delivered" if result.failure is None else f"failed.{result.failure}"
    counters.add_each(tx, claim.destination.game_id, COUNTED_AS, {outcome: 1, f"took.{took}": 1})


def _finish(tx: Connection, delivery_id: int, state: str, reason: str | None) -> None:
    tx.execute(
        """UPDATE deliveries SET state = :state, dead_reason = :reason, attempts_made = attempts_made + 1,
               next_attempt_at = NULL, leased_until = NULL, lease_owner = NULL, finished_at = :now
           WHERE id = :id""",
        {"id": delivery_id, "state": state, "reason": reason, "now": clock.stamp()},
    )


def _end_lease(tx: Connection, claim: Claim) -> bool:
    """Returns False when it had run out and somebody else has the delivery, or the delivery is no more."""
    ended = tx.execute(
        """UPDATE deliveries SET leased_until = NULL, lease_owner = NULL
           WHERE id = :id AND webhook_id = :webhook_id AND lease_owner = :owner AND leased_until = :until""",
        {
            "id": claim.id,
            "webhook_id": claim.webhook_id,
            "owner": claim.owner,
            "until": clock.stamp(claim.leased_until),
        },
    )
    return ended.rowcount == 1


def go_on(tx: Connection) -> bool:
    """Do some more of what was begun and is long; returns whether there may be more.

    That is: put back what died while destinations were down, and bury what removed ones were owed.
    """
    row = tx.execute("SELECT * FROM destinations WHERE reviving_since IS NOT NULL LIMIT 1").fetchone()
    if row is not None:
        _revive(tx, row)
        return True
    return destinations.bury_removed(tx)


def _begin_reviving(tx: Connection, destination_id: int, down_since: str) -> None:
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
            **_lease_bounds(clock.now()),
        },
    ).rowcount
    if changed >= REDRIVEN_AT_ONCE:
        return True
    tx.execute("UPDATE destinations SET reviving_since = NULL WHERE id = :id", {"id": destination["id"]})
    return False
