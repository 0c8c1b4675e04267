"""Payments and refunds on their way to the partner: claim, register, refuse, postpone."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence

from coinslot.base import clock
from coinslot.payments.parsing import LONGEST_REASON
from coinslot.store.db import Connection, Row

LEASE_SECONDS = 120.0
MOST_TRIES = 5  # of one payment or refund that is refused by itself; then it waits for a person
OTHER_ENVIRONMENT_SECONDS = 3600.0  # what is for the sandbox, or not for it, is looked at again after this
LAST_DELAY_SECONDS = 3600.0  # when the table of delays has come to its end
SENT = "it was sent, with no answer yet"
FROM_SANDBOX = "it was reported in the sandbox"


def claim_due(tx: Connection, game_id: int, limit: int, *, is_sandbox: bool) -> list[Row]:
    """Take payments that are due to be registered, longest due first; each has what is sent of it, and its ``reason``.

    Those of the sandbox are for the sandbox alone: outside of it they are set aside. In it, the others wait. So there
    may be less than ``limit``, and none, while more are due (:func:`next_due`).
    """
    now = clock.now()
    rows = tx.execute(
        """UPDATE payments SET next_try_at = :until,
                  reason = CASE WHEN is_test = :is_sandbox THEN coalesce(reason, :sent) ELSE reason END,
                  is_sent = CASE WHEN is_test = :is_sandbox THEN 1 ELSE is_sent END
           WHERE id IN (SELECT id FROM payments
                        WHERE game_id = :game_id AND state = 'waiting' AND next_try_at <= :now
                        ORDER BY next_try_at, id LIMIT :limit)
           RETURNING id, player_id, transaction_id, product_id, product_name, amount, currency, platform,
                     distribution_type, purchased_at, is_test, reason""",
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
    if is_sandbox:
        postpone(tx, others, OTHER_ENVIRONMENT_SECONDS)
    else:
        _set_aside(tx, others)
    return sorted((row for row in rows if row["is_test"] == is_sandbox), key=lambda row: int(row["id"]))


def registered(tx: Connection, payment_ids: Iterable[int], *, is_sandbox: bool) -> None:
    """These are registered, or were known there before; a refund that waited for it is due.

    One that has begun anew outside of the sandbox, while it was sent there, is not: the sandbox alone has it.
    """
    # One statement, since there are a thousand: with one each, threads would hand over a thousand times.
    tx.execute(
        """UPDATE payments SET state = 'registered', is_sent = 1, reason = NULL, next_try_at = NULL,
                  registered_at = :now, refund_next_at = CASE WHEN refund_state = 'waiting' THEN :now END,
                  waits_since = CASE WHEN refund_state = 'waiting' THEN :now END, updated_at = :now
           WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'waiting' AND is_test = :is_sandbox""",
        {"ids": json.dumps(list(payment_ids)), "is_sandbox": int(is_sandbox), "now": clock.stamp()},
    )


def refused(
    tx: Connection,
    reasons: Mapping[int, str],
    delays_seconds: Sequence[float],
    uncertain: Collection[int] = (),
) -> int:
    """These were refused each by itself: tried again after the delays, and quarantined after :data:`MOST_TRIES`.

    Of the ``uncertain`` nobody knows whether they arrived all the same. Returns how many are quarantined now.
    """
    count = 0
    for payment_id, reason in reasons.items():
        row = tx.execute(
            "SELECT tries FROM payments WHERE id = :id AND state = 'waiting'", {"id": payment_id}
        ).fetchone()
        if row is None:
            continue
        tries = row["tries"] + 1
        is_over = tries >= MOST_TRIES
        count += is_over
        tx.execute(
            """UPDATE payments SET state = :state, reason = :reason, tries = :tries, next_try_at = :next_try_at,
                      is_sent = CASE WHEN is_told = 1 THEN 1 ELSE :is_sent END,
                      waits_since = CASE WHEN :state = 'waiting' THEN waits_since END,
                      refund_state = CASE WHEN :state = 'waiting' THEN refund_state END,
                      refund_next_at = CASE WHEN :state = 'waiting' THEN refund_next_at END, updated_at = :now
               WHERE id = :id""",
            {
                "id": payment_id,
                "state": "quarantined" if is_over else "waiting",
                "reason": _reason(reason),
                "tries": tries,
                "next_try_at": None if is_over else _after(delays_seconds, tries),
                "is_sent": int(not is_over or payment_id in uncertain),
                "now": clock.stamp(),
            },
        )
    return count


def quarantine(tx: Connection, reasons: Mapping[int, str]) -> None:
    """These are not sent again before a person says so."""
    tx.executemany(
        """UPDATE payments SET state = 'quarantined', is_sent = is_told, reason = :reason, tries = tries + 1,
                  next_try_at = NULL, refund_state = NULL, refund_next_at = NULL, waits_since = NULL, updated_at = :now
           WHERE id = :id AND state = 'waiting'""",
        [{"id": each, "reason": _reason(reason), "now": clock.stamp()} for each, reason in reasons.items()],
    )


def postpone(tx: Connection, payment_ids: Iterable[int], seconds: float, reason: str | None = None) -> None:
    """Nobody took these, through no fault of theirs: due again in ``seconds``, with no try counted."""
    now = clock.now()
    values = {
        "next_try_at": clock.stamp(now + seconds),
        "reason": None if reason is None else _reason(reason),
        "now": clock.stamp(now),
    }
    tx.executemany(
        """UPDATE payments SET next_try_at = :next_try_at, reason = coalesce(:reason, reason), updated_at = :now
           WHERE id = :id AND state = 'waiting'""",
        [{"id": each, **values} for each in payment_ids],
    )


def next_due(connection: Connection, game_id: int) -> str | None:
    """When the next payment or refund is due, as a stamp; None when none waits."""
    row = connection.execute(
        """SELECT (SELECT min(next_try_at) FROM payments WHERE game_id = :game_id AND state = 'waiting') AS payment,
                  (SELECT min(refund_next_at) FROM payments
                   WHERE game_id = :game_id AND refund_state = 'waiting' AND state = 'registered') AS refund""",
        {"game_id": game_id},
    ).fetchone()
    return min((each for each in (row["payment"], row["refund"]) if each is not None), default=None)


def claim_refunds(tx: Connection, game_id: int, limit: int, *, is_sandbox: bool) -> list[Row]:
    """Take refunds that are due, of payments that are registered; each has every column of its payment.

    Those of the other environment wait for it to come back, as in :func:`claim_due`.
    """
    now = clock.now()
    rows = tx.execute(
        """UPDATE payments SET refund_next_at = :until
           WHERE id IN (SELECT id FROM payments
                        WHERE game_id = :game_id AND refund_state = 'waiting' AND refund_next_at <= :now
                          AND state = 'registered'
                        ORDER BY refund_next_at, id LIMIT :limit)
           RETURNING *""",
        {"game_id": game_id, "now": clock.stamp(now), "until": clock.stamp(now + LEASE_SECONDS), "limit": limit},
    ).fetchall()
    for row in rows:
        if row["is_test"] != is_sandbox:
            postpone_refund(tx, row["id"], OTHER_ENVIRONMENT_SECONDS)
    return sorted((row for row in rows if row["is_test"] == is_sandbox), key=lambda row: int(row["id"]))


def refund_done(tx: Connection, payment_id: int, *, is_sandbox: bool) -> None:
    """It was sent; written down even where :func:`withdraw_refund` came in between, so that the owner hears of it.

    Not of one that has begun anew outside of the sandbox meanwhile, as in :func:`registered`.
    """
    tx.execute(
        """UPDATE payments SET refund_state = 'done', refund_next_at = NULL, waits_since = NULL, reason = NULL,
                  updated_at = :now
           WHERE id = :id AND is_test = :is_sandbox AND (refund_state = 'waiting'
                               OR (state = 'registered' AND refund_state IS NULL AND refunded_at IS NULL))""",
        {"id": payment_id, "is_sandbox": int(is_sandbox), "now": clock.stamp()},
    )


def refund_refused(tx: Connection, payment_id: int, reason: str, delays_seconds: Sequence[float]) -> bool:
    """It is tried again after the delays; returns whether it was the last try, and the refund is quarantined now."""
    row = tx.execute(
        "SELECT refund_tries FROM payments WHERE id = :id AND refund_state = 'waiting'", {"id": payment_id}
    ).fetchone()
    if row is None:
        return False
    tries = row["refund_tries"] + 1
    is_over: bool = tries >= MOST_TRIES
    tx.execute(
        """UPDATE payments SET refund_state = :state, refund_tries = :tries, refund_next_at = :next_at,
                  waits_since = CASE WHEN :state = 'waiting' THEN waits_since END, reason = :reason, updated_at = :now
           WHERE id = :id""",
        {
            "id": payment_id,
            "state": "quarantined" if is_over else "waiting",
            "tries": tries,
            "next_at": None if is_over else _after(delays_seconds, tries),
            "reason": _reason(reason),
            "now": clock.stamp(),
        },
    )
    return is_over


def postpone_refund(tx: Connection, payment_id: int, seconds: float, reason: str | None = None) -> None:
    """Through no fault of the refund's own: due again in ``seconds``, with no try counted."""
    now = clock.now()
    tx.execute(
        """UPDATE payments SET refund_next_at = :next_at, reason = :reason, updated_at = :now
           WHERE id = :id AND refund_state = 'waiting'""",
        {
            "id": payment_id,
            "next_at": clock.stamp(now + seconds),
            "reason": None if reason is None else _reason(reason),
            "now": clock.stamp(now),
        },
    )


def register_again(tx: Connection, payment_id: int) -> None:
    """It is not known where it was registered: that is done first, and its refund waits for it."""
    tx.execute(
        """UPDATE payments SET state = 'waiting', next_try_at = :now, registered_at = NULL,
                  refund_tries = refund_tries + CASE WHEN refund_state = 'waiting' THEN 1 ELSE 0 END,
                  waits_since = coalesce(waits_since, :now), updated_at = :now
           WHERE id = :id AND state = 'registered'""",
        {"id": payment_id, "now": clock.stamp()},
    )


def redrive(tx: Connection, game_id: int, transaction_id: str) -> bool:
    """A person has a quarantined payment, or its quarantined refund, tried anew; returns whether there was one."""
    key = {"game_id": game_id, "transaction_id": transaction_id, "now": clock.stamp()}
    payment = tx.execute(
        """UPDATE payments SET state = 'waiting', reason = NULL, tries = 0, next_try_at = :now, waits_since = :now,
                  refund_state = CASE WHEN refunded_at IS NOT NULL THEN 'waiting' END,
                  refund_next_at = CASE WHEN refunded_at IS NOT NULL THEN :now END, updated_at = :now
           WHERE game_id = :game_id AND transaction_id = :transaction_id AND state = 'quarantined'""",
        key,
    ).rowcount
    refund = tx.execute(
        """UPDATE payments SET refund_state = 'waiting', reason = NULL, refund_tries = 0, refund_next_at = :now,
                  waits_since = :now, updated_at = :now
           WHERE game_id = :game_id AND transaction_id = :transaction_id AND refund_state = 'quarantined'""",
        key,
    ).rowcount
    return payment + refund > 0


def redrive_all(tx: Connection, game_id: int, limit: int) -> int:
    """:func:`redrive` of every quarantined payment and refund, up to ``limit`` of each; returns how many those were."""
    rows = tx.execute(
        """SELECT transaction_id FROM (SELECT transaction_id FROM payments
                                       WHERE game_id = :game_id AND state = 'quarantined' ORDER BY id LIMIT :limit) p
           UNION SELECT transaction_id FROM (SELECT transaction_id FROM payments
                                             WHERE game_id = :game_id AND refund_state = 'quarantined'
                                             ORDER BY id LIMIT :limit) r""",
        {"game_id": game_id, "limit": limit},
    ).fetchall()
    return sum(redrive(tx, game_id, row["transaction_id"]) for row in rows)


def _set_aside(tx: Connection, payment_ids: Iterable[int]) -> None:
    """What was to be registered with the sandbox, and is not any more."""
    tx.executemany(
        """UPDATE payments SET state = 'kept', reason = :reason, next_try_at = NULL, refund_state = NULL,
                  refund_next_at = NULL, waits_since = NULL, updated_at = :now
           WHERE id = :id""",
        [{"id": each, "reason": FROM_SANDBOX, "now": clock.stamp()} for each in payment_ids],
    )


def _after(delays_seconds: Sequence[float], tries: int) -> str:
    delay = delays_seconds[tries - 1] if tries <= len(delays_seconds) else LAST_DELAY_SECONDS
    return clock.stamp(clock.now() + delay)


def _reason(text: str) -> str:
    kept = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(kept.split())[:LONGEST_REASON]
