"""Deliveries in hand: claimed by a lease, attempted, and recorded as delivered, due again or dead.

The lease of a process that dies runs out, and the delivery is due again.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coinslot.base import clock
from coinslot.outbox import circuit, destinations
from coinslot.outbox.deliveries import LEASE_SPARE_SECONDS, floor_of, lease_bounds
from coinslot.outbox.destinations import JITTER, Destination
from coinslot.outbox.redrives import begin_reviving
from coinslot.store import counters
from coinslot.store.db import Connection, Row
from coinslot.store.queries import value

COUNTED_AS = "relay"  # in place of a partner, among the counters
TOOK_MS = (100, 300, 1000, 3000, 10000)  # attempts are counted by how long they took: up to these, or longer
KEPT_ANSWER_BYTES = 2048
PROBED_IN_TURN = 100


@dataclass(frozen=True)
class Claim:
    """One delivery in hand: sent to ``destination`` before ``leased_until``, then recorded.

    ``number`` is that of the attempt, ``leased_until`` in Unix seconds.
    """

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

    def values(self) -> dict[str, object]:
        """The parameters of statements about this claim."""
        return vars(self) | {"until": clock.stamp(self.leased_until)}

    def is_long_enough(self) -> bool:
        """Whether an attempt that begins now ends, and is recorded, within the lease."""
        return self.leased_until - clock.now() >= self.destination.timeout_seconds + 1


@dataclass(frozen=True)
class Result:
    """How an attempt went. ``failure`` is one of the words of ``attempts.failure``; None: it was delivered."""

    failure: str | None
    status: int | None = None
    detail: str | None = None
    answer: bytes = b""
    duration_ms: int = 0
    retry_after_seconds: float | None = None


def claim_due(tx: Connection, owner: str, most: Mapping[int, int]) -> list[Claim]:
    """Take due deliveries, at most ``most[destination id]`` of each destination; each becomes an attempt in progress.

    A conditional update makes the lease, so that one relay gets a delivery. A destination whose circuit is open gives
    one delivery per rest.
    """
    now = clock.now()
    claims: list[Claim] = []
    for destination_id, free in most.items():
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
        if due:
            claims += _lease(tx, destination, due, owner, now, leased_until)
    return claims


def record(tx: Connection, claim: Claim, result: Result) -> str:
    """Record how an attempt went; returns the delivery's state after it.

    A success counts even if the lease has run out. If another relay has the delivery by then, a failure changes only
    the attempt's row. ``gone``: a restore has replaced the database since the claim; its ids may name other rows now,
    and nothing is changed.
    """
    row = tx.execute(
        """SELECT d.state, d.lease_owner, d.leased_until FROM deliveries d JOIN attempts a ON a.delivery_id = d.id
           WHERE d.id = :id AND d.webhook_id = :webhook_id AND a.id = :attempt_id AND a.started_at = :started_at""",
        claim.values(),
    ).fetchone()
    if row is None:
        return "gone"
    tx.execute(
        """UPDATE attempts SET duration_ms = :duration_ms, status = :status, failure = :failure, detail = :detail,
               answer = :answer WHERE id = :attempt_id""",
        vars(result) | {"attempt_id": claim.attempt_id, "answer": result.answer[:KEPT_ANSWER_BYTES]},
    )
    _count(tx, claim, result)
    if row["state"] == "delivered":
        return "delivered"
    if result.failure is None:
        _finish(tx, claim.id, "delivered", None)
        down_since = circuit.succeeded(tx, claim.destination.id)
        if down_since is not None:
            begin_reviving(tx, claim.destination.id, down_since)
        return "delivered"
    if (row["lease_owner"], row["leased_until"]) != (claim.owner, clock.stamp(claim.leased_until)):
        return str(row["state"])

    was_resting = circuit.failed(tx, claim.destination.id, claim.id, result.retry_after_seconds)
    if result.status == 410:
        circuit.pause(tx, claim.destination.id, "it answered 410 Gone")
    if was_resting or result.status == 410:  # the destination's failure, which costs the delivery no attempt
        _end_lease(tx, claim)
        return "waiting"
    return _retry(tx, claim, result)


def give_back(tx: Connection, claim: Claim) -> None:
    """End a claim without an attempt. It changes nothing when the claim is not valid any more."""
    if _end_lease(tx, claim):
        tx.execute(
            "DELETE FROM attempts WHERE id = :attempt_id AND delivery_id = :id AND started_at = :started_at",
            claim.values(),
        )


def next_due(connection: Connection) -> dict[int, str]:
    """Active destination -> when it will next have something to claim, as a stamp; absent: nothing free waits.

    Leases that run out are not foreseen: the relay looks again once in a while.
    """
    now = clock.stamp()
    moments = {}
    for row in connection.execute("SELECT * FROM destinations WHERE state = 'active'").fetchall():
        if row["next_probe_at"] is not None and row["next_probe_at"] > now:
            moments[row["id"]] = str(row["next_probe_at"])  # its backlog may be long: not searched until then
            continue
        for delivery in _claimable(connection, row, "9999", 1):
            moments[row["id"]] = str(row["next_probe_at"] or delivery["next_attempt_at"])
    return moments


def active_destinations(connection: Connection) -> list[int]:
    """The ids of the destinations that are sent to."""
    rows = connection.execute("SELECT id FROM destinations WHERE state = 'active' ORDER BY id")
    return [row["id"] for row in rows]


def _claimable(connection: Connection, destination: Row, until: str, limit: int) -> list[Row]:
    """Deliveries that no relay has in hand and that wait for no other, due by ``until``, longest due first."""
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
            **lease_bounds(clock.now()),
            "limit": limit,
        },
    ).fetchall()


def _probe(tx: Connection, destination: Row, next_probe_at: float) -> list[int]:
    """The one delivery to probe a resting destination with, due or not; then it rests until ``next_probe_at``.

    Deliveries take turns: one that is never accepted must not keep the circuit open.
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
    tx: Connection, destination: Destination, ids: list[int], owner: str, now: float, until: float
) -> list[Claim]:
    leased = tx.execute(
        """UPDATE deliveries SET leased_until = :until, lease_owner = :owner
           WHERE id IN (SELECT value FROM json_each(:ids) /* numbers */) AND state = 'waiting'
             AND (leased_until IS NULL OR leased_until <= :now OR leased_until > :longest)
           RETURNING id, state, webhook_id, event_type, grant_id, event_id, attempts_made""",
        {"ids": json.dumps(ids), "owner": owner, "until": clock.stamp(until), **lease_bounds(now)},
    ).fetchall()
    rows = {row["id"]: row for row in leased}
    last_id = max(floor_of(tx, "attempts"), value(tx, "SELECT max(id) FROM attempts", {}) or 0)
    lease = {"started_at": clock.stamp(now), "owner": owner, "leased_until": until}
    claims = [
        claim_of(rows[each], destination, attempt_id=attempt_id, **lease)
        for attempt_id, each in enumerate((each for each in ids if each in rows), last_id + 1)
    ]
    tx.executemany(
        "INSERT INTO attempts (id, delivery_id, started_at) VALUES (:attempt_id, :id, :started_at)",
        [vars(claim) for claim in claims],
    )
    return claims


def claim_of(row: Row, destination: Destination, **lease: Any) -> Claim:
    """The claim on a delivery; without ``lease`` one to look at, without an owner."""
    unclaimed: dict[str, Any] = {"attempt_id": 0, "started_at": clock.stamp(), "owner": "", "leased_until": 0.0}
    number = row["attempts_made"] + (row["state"] == "waiting")
    columns = {name: row[name] for name in ("id", "webhook_id", "event_type", "grant_id", "event_id")}
    return Claim(destination=destination, number=number, **columns, **unclaimed | lease)


def _retry(tx: Connection, claim: Claim, result: Result) -> str:
    """Schedule the next attempt; without one in the table the delivery is dead."""
    delays = claim.destination.retry_seconds
    if claim.number > len(delays):
        words = [result.failure or "", f"status {result.status}" if result.status else "", result.detail or ""]
        counters.add(tx, claim.destination.game_id, COUNTED_AS, "dead")
        _finish(tx, claim.id, "dead", f"{claim.number} attempts; the last: {', '.join(filter(None, words))}")
        return "dead"
    delay = delays[claim.number - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  spreads load, hides nothing
    delay = max(delay, result.retry_after_seconds or 0)
    ended = clock.seconds(claim.started_at) + result.duration_ms / 1000  # now, unless the clock was set meanwhile
    tx.execute(
        """UPDATE deliveries SET attempts_made = :number, next_attempt_at = :at, leased_until = NULL, lease_owner = NULL
           WHERE id = :id""",
        {"id": claim.id, "number": claim.number, "at": clock.stamp(min(clock.now(), ended) + delay)},
    )
    return "waiting"


def _count(tx: Connection, claim: Claim, result: Result) -> None:
    took = next((str(limit) for limit in TOOK_MS if result.duration_ms <= limit), "more")
    outcome = ("delivered", "") if result.failure is None else ("failed", result.failure)
    counters.add_each(tx, claim.destination.game_id, COUNTED_AS, {outcome: 1, ("took", took): 1})


def _finish(tx: Connection, delivery_id: int, state: str, reason: str | None) -> None:
    tx.execute(
        """UPDATE deliveries SET state = :state, dead_reason = :reason, attempts_made = attempts_made + 1,
               next_attempt_at = NULL, leased_until = NULL, lease_owner = NULL, finished_at = :now
           WHERE id = :id""",
        {"id": delivery_id, "state": state, "reason": reason, "now": clock.stamp()},
    )


def _end_lease(tx: Connection, claim: Claim) -> bool:
    """Returns False when the lease is another relay's by now, or the delivery does not exist any more."""
    ended = tx.execute(
        """UPDATE deliveries SET leased_until = NULL, lease_owner = NULL
           WHERE id = :id AND webhook_id = :webhook_id AND lease_owner = :owner AND leased_until = :until""",
        claim.values(),
    )
    return ended.rowcount == 1
