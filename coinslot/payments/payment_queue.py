"""The queue of what is to be sent to the partner: payments to register, and refunds of registered payments.

A row of ``payments`` is in the queue once for each :class:`Kind`. Take rows with :func:`claim`, send them outside of
any write, then say what became of each: :func:`finish`, :func:`refuse` or :func:`postpone`. A claim is a lease of
:data:`LEASE_SECONDS`: what was not settled by then is due again.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from coinslot.base import clock
from coinslot.payments.parsing import LONGEST_REASON
from coinslot.store.db import Connection, Row

LEASE_SECONDS = 120.0
MOST_TRIES = 5  # of one payment or refund that is refused by itself; then it is quarantined
OTHER_ENVIRONMENT_SECONDS = 3600.0  # until a payment of the other environment is looked at again
LAST_DELAY_SECONDS = 3600.0  # after the last delay of the table
SENT = "it was sent, with no answer yet"
FROM_SANDBOX = "it was reported in the sandbox"


@dataclass(frozen=True)
class Kind:
    """What is sent: its columns in ``payments``, and the SQL in which the two kinds differ."""

    state: str
    tries: str
    due: str
    is_waiting: str  # it may be claimed
    is_open: str  # it may be finished
    on_claim: str
    on_finish: str
    on_refusal: str
    on_redrive: str


REGISTER = Kind(
    state="state",
    tries="tries",
    due="next_try_at",
    is_waiting="state = 'waiting'",
    is_open="state = 'waiting'",
    on_claim="""reason = CASE WHEN is_test = :is_sandbox THEN coalesce(reason, :sent) ELSE reason END,
                is_sent = CASE WHEN is_test = :is_sandbox THEN 1 ELSE is_sent END,""",
    on_finish="""state = 'registered', is_sent = 1, next_try_at = NULL, registered_at = :now,
                 refund_next_at = CASE WHEN refund_state = 'waiting' THEN :now END,
                 waits_since = CASE WHEN refund_state = 'waiting' THEN :now END,""",
    on_refusal="""is_sent = CASE WHEN is_told = 1 THEN 1 ELSE :is_sent END,
                  refund_state = CASE WHEN :state = 'waiting' THEN refund_state END,
                  refund_next_at = CASE WHEN :state = 'waiting' THEN refund_next_at END,""",
    on_redrive="""refund_state = CASE WHEN refunded_at IS NOT NULL THEN 'waiting' END,
                  refund_next_at = CASE WHEN refunded_at IS NOT NULL THEN :now END,""",
)
REFUND = Kind(
    state="refund_state",
    tries="refund_tries",
    due="refund_next_at",
    is_waiting="refund_state = 'waiting' AND state = 'registered'",
    # Also when ``withdraw_refund`` came while it was being sent, so that the owner learns of it.
    is_open="""(refund_state = 'waiting'
                OR (state = 'registered' AND refund_state IS NULL AND refunded_at IS NULL))""",
    on_claim="",
    on_finish="refund_state = 'done', refund_next_at = NULL, waits_since = NULL,",
    on_refusal="",
    on_redrive="",
)
KINDS = (REGISTER, REFUND)


def claim(tx: Connection, kind: Kind, game_id: int, limit: int, *, is_sandbox: bool) -> list[Row]:
    """Take rows that are due, longest due first, and return them in the order of their ids.

    Each has what is sent of it, its ``reason`` and ``refund_tries``. Rows of the other environment are not returned:
    outside of the sandbox, its payments are kept and never registered; others wait. So there may be fewer than
    ``limit``, or none, while more are due (:func:`next_due`).
    """
    now = clock.now()
    rows = tx.execute(
        f"""UPDATE payments SET {kind.on_claim} {kind.due} = :until
            WHERE id IN (SELECT id FROM payments
                         WHERE game_id = :game_id AND {kind.is_waiting} AND {kind.due} <= :now
                         ORDER BY {kind.due}, id LIMIT :limit)
            RETURNING id, player_id, transaction_id, product_id, product_name, amount, currency, platform,
                      distribution_type, purchased_at, is_test, reason, refund_tries""",  # noqa: S608  our own words
        {
            "game_id": game_id,
            "now": clock.stamp(now),
            "until": clock.stamp(now + LEASE_SECONDS),
            "is_sandbox": int(is_sandbox),
            "sent": SENT,
            "limit": limit,
        },
    ).fetchall()
    others = [row["id"] for row in rows if row["is_test"] != is_sandbox]
    if is_sandbox or kind is REFUND:
        postpone(tx, kind, others, OTHER_ENVIRONMENT_SECONDS)
    else:
        _keep(tx, others)
    return sorted((row for row in rows if row["is_test"] == is_sandbox), key=lambda row: int(row["id"]))


def finish(tx: Connection, kind: Kind, payment_ids: Iterable[int], *, is_sandbox: bool) -> None:
    """The partner has these now, or had them before. A refund that waited for its payment becomes due.

    A payment of the sandbox that was reported again outside of it meanwhile is left alone: only the sandbox has it.
    """
    # One statement for all: with one each, threads would take turns a thousand times.
    tx.execute(
        f"""UPDATE payments SET {kind.on_finish} reason = NULL, updated_at = :now
            WHERE id IN (SELECT value FROM json_each(:ids) /* numbers */)
              AND {kind.is_open} AND is_test = :is_sandbox""",  # noqa: S608
        {"ids": json.dumps(list(payment_ids)), "is_sandbox": int(is_sandbox), "now": clock.stamp()},
    )


def refuse(
    tx: Connection,
    kind: Kind,
    reasons: Mapping[int, str],
    delays_seconds: Sequence[float],
    uncertain: Collection[int] = (),
) -> None:
    """Payment id -> why it was refused. Each is tried again after the delays, and quarantined after MOST_TRIES.

    ``uncertain`` payments may have arrived all the same: their content stays frozen.
    """
    for payment_id, reason in reasons.items():
        row = tx.execute(
            f"SELECT {kind.tries} AS tries FROM payments WHERE id = :id AND {kind.state} = 'waiting'",  # noqa: S608
            {"id": payment_id},
        ).fetchone()
        if row is None:
            continue
        tries = row["tries"] + 1
        is_over = tries >= MOST_TRIES
        delay = delays_seconds[tries - 1] if tries <= len(delays_seconds) else LAST_DELAY_SECONDS
        tx.execute(
            f"""UPDATE payments SET {kind.state} = :state, {kind.tries} = :tries, {kind.due} = :due, reason = :reason,
                       {kind.on_refusal} waits_since = CASE WHEN :state = 'waiting' THEN waits_since END,
                       updated_at = :now
                WHERE id = :id""",  # noqa: S608
            {
                "id": payment_id,
                "state": "quarantined" if is_over else "waiting",
                "tries": tries,
                "due": None if is_over else clock.stamp(clock.now() + delay),
                "reason": _one_line(reason),
                "is_sent": int(not is_over or payment_id in uncertain),
                "now": clock.stamp(),
            },
        )


def postpone(tx: Connection, kind: Kind, payment_ids: Iterable[int], seconds: float, reason: str | None = None) -> None:
    """The partner was unavailable: these are due again in ``seconds``, and no try is counted."""
    now = clock.now()
    values = {
        "due": clock.stamp(now + seconds),
        "reason": None if reason is None else _one_line(reason),
        "now": clock.stamp(now),
    }
    tx.executemany(
        f"""UPDATE payments SET {kind.due} = :due, reason = coalesce(:reason, reason), updated_at = :now
            WHERE id = :id AND {kind.state} = 'waiting'""",  # noqa: S608
        [{"id": each, **values} for each in payment_ids],
    )


def next_due(connection: Connection, game_id: int) -> str | None:
    """When the next payment or refund is due, as a stamp; None when none waits."""
    found = [
        connection.execute(
            f"SELECT min({kind.due}) FROM payments WHERE game_id = :game_id AND {kind.is_waiting}",  # noqa: S608
            {"game_id": game_id},
        ).fetchone()[0]
        for kind in KINDS
    ]
    return min((each for each in found if each is not None), default=None)


def register_again(tx: Connection, payment_id: int) -> None:
    """The partner does not know a registered payment: it is sent again, and its refund waits for that."""
    tx.execute(
        """UPDATE payments SET state = 'waiting', next_try_at = :now, registered_at = NULL,
                  refund_tries = refund_tries + CASE WHEN refund_state = 'waiting' THEN 1 ELSE 0 END,
                  waits_since = coalesce(waits_since, :now), updated_at = :now
           WHERE id = :id AND state = 'registered'""",
        {"id": payment_id, "now": clock.stamp()},
    )


def redrive(tx: Connection, game_id: int, transaction_id: str) -> bool:
    """Put a quarantined payment or refund back in the queue; returns whether there was one."""
    key = {"game_id": game_id, "transaction_id": transaction_id}
    which = "game_id = :game_id AND transaction_id = :transaction_id"
    return sum(_redrive(tx, kind, which, key) for kind in KINDS) > 0


def redrive_all(tx: Connection, game_id: int, limit: int) -> int:
    """:func:`redrive` of every quarantined payment and refund, up to ``limit`` of each; returns how many those were."""
    count = 0
    for kind in KINDS:
        rows = tx.execute(
            f"""SELECT id FROM payments WHERE game_id = :game_id AND {kind.state} = 'quarantined'
                ORDER BY id LIMIT :limit""",  # noqa: S608
            {"game_id": game_id, "limit": limit},
        )
        ids = json.dumps([row["id"] for row in rows])
        count += _redrive(tx, kind, "id IN (SELECT value FROM json_each(:ids) /* numbers */)", {"ids": ids})
    return count


def _redrive(tx: Connection, kind: Kind, which: str, values: Mapping[str, object]) -> int:
    return tx.execute(
        f"""UPDATE payments SET {kind.on_redrive} {kind.state} = 'waiting', reason = NULL, {kind.tries} = 0,
                   {kind.due} = :now, waits_since = :now, updated_at = :now
            WHERE {which} AND {kind.state} = 'quarantined'""",  # noqa: S608
        {**values, "now": clock.stamp()},
    ).rowcount


def _keep(tx: Connection, payment_ids: Iterable[int]) -> None:
    """Payments that were to be registered with the sandbox, and are not any more."""
    tx.executemany(
        """UPDATE payments SET state = 'kept', reason = :reason, next_try_at = NULL, refund_state = NULL,
                  refund_next_at = NULL, waits_since = NULL, updated_at = :now
           WHERE id = :id""",
        [{"id": each, "reason": FROM_SANDBOX, "now": clock.stamp()} for each in payment_ids],
    )


def _one_line(text: str) -> str:
    kept = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(kept.split())[:LONGEST_REASON]
