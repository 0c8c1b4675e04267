"""In-game payments on their way to whoever counts them for creators: stored once, registered, refunded.

``UNIQUE (game_id, transaction_id)`` decides who is first, whatever the source. What is reported again is known; a
payment may become refunded, and never paid again. What was never sent takes newer content of its own source, as a
mistaken configuration that was put right gives it; any other content under a known id is a conflict: the first one
stands, a person judges. What cannot be sent as it is, is parked with its reason, and mended by a better report or by a
change of the configuration (:func:`replace_parked`).

``is_sent`` says whether somebody may have a payment as it is, so that its content stays: from its first claim on, since
of one that was not answered nobody knows whether it arrived, and from when it was told to who asked. What was refused
for good is nowhere, and may be corrected again, unless it was told.

The way through: ``payment_report.check`` makes a :class:`Payment` of what was reported, :func:`store_many` keeps it.
Whoever registers takes :func:`claim_due`, sends outside of any write, and says what became of each:
:func:`registered`, :func:`refused`, :func:`postpone` or :func:`quarantine`. Refunds likewise, by
:func:`claim_refunds`, each only after its payment is registered. A claim is a lease of :data:`LEASE_SECONDS`: what
nobody settled is due again then.

A payment of a sandbox is a test. It is registered with the sandbox alone, and one reported again outside of it begins
anew. What names a reserved id is a test too, and is registered nowhere.
"""

import json
from collections.abc import Collection, Iterable
from typing import Any

from coinslot.base import clock
from coinslot.payments.agreement import agrees, is_correction, is_understood, tells_same, with_known_amount
from coinslot.payments.parsing import Payment
from coinslot.payments.queries import find
from coinslot.store import audit
from coinslot.store.db import Connection, Row

MOVED = "payment.move"  # in the audit; an index holds it
STATES = ("parked", "waiting", "registered", "quarantined", "kept")


def store_many(
    tx: Connection,
    game_id: int,
    payments: Iterable[Payment],
    *,
    is_registering: bool,
    earlier: Collection[str] = (),
) -> list[str]:
    """Keep payments, in order, and say of each: ``new``, ``known``, ``refunded`` (since now), or ``conflict``.

    ``is_registering``: they are to be registered; else they are kept to be asked for. One that has a problem is parked,
    and ``new`` when it was not there. A parked one that is now reported as it should be is ``new``. Two with one id and
    other content in one report are a conflict: neither corrects the other. A few hundred at a time, so that others
    may write in between; ``earlier`` are the ids of the same report that were kept before. What cannot be read of a
    known payment is a conflict too, but for fields that a refund leaves out.
    """
    now = clock.stamp()
    stored: set[str] = set()
    outcomes = []
    for payment in payments:
        is_repeated = payment.transaction_id in stored or payment.transaction_id in earlier
        stored.add(payment.transaction_id)
        outcomes.append(_store(tx, game_id, payment, is_registering, now, is_repeated=is_repeated))
    return outcomes


def store(tx: Connection, game_id: int, payment: Payment, *, is_registering: bool) -> str:
    """:func:`store_many` of one."""
    return store_many(tx, game_id, [payment], is_registering=is_registering)[0]


# What waits for a person


def replace_parked(tx: Connection, game_id: int, payment_id: int, payment: Payment, *, is_registering: bool) -> str:
    """What a parked row tells when it is read again: ``new`` when it is mended, else ``known``.

    A row that had no id and has one now may turn out to be a payment stored since; then it is what storing that says.
    """
    row = tx.execute("SELECT * FROM payments WHERE id = :id AND state = 'parked'", {"id": payment_id}).fetchone()
    if row is None:
        return "known"
    if row["transaction_id"] != payment.transaction_id:
        outcome = store(tx, game_id, payment, is_registering=is_registering)
        _note_move(tx, row, None)
        tx.execute("DELETE FROM payment_conflicts WHERE payment_id = :id", {"id": payment_id})
        tx.execute("DELETE FROM payments WHERE id = :id", {"id": payment_id})
        return outcome
    return _store_known(tx, row, payment, is_registering, clock.stamp())


# Being asked for


def told(tx: Connection, payment_ids: Iterable[int]) -> None:
    """The query answers with these as they are in this write; they stay so, whatever becomes of them."""
    tx.execute(
        "UPDATE payments SET is_sent = 1, is_told = 1 WHERE id IN (SELECT value FROM json_each(:ids)) AND is_told = 0",
        {"ids": json.dumps(list(payment_ids))},
    )


def attributed(tx: Connection, game_id: int, transaction_id: str) -> None:
    """The partner has told whose purchase a payment is: a closed month that holds it has to learn of that."""
    tx.execute(
        "UPDATE payments SET updated_at = :now WHERE game_id = :game_id AND transaction_id = :transaction_id",
        {"game_id": game_id, "transaction_id": transaction_id, "now": clock.stamp()},
    )


def release(tx: Connection, payment_ids: Iterable[int]) -> None:
    """Have payments that were only kept to be asked for registered too, and refunded after that where they are."""
    tx.execute(
        """UPDATE payments SET state = 'waiting', next_try_at = :now, waits_since = :now, updated_at = :now,
                  refund_state = CASE WHEN refunded_at IS NOT NULL THEN 'waiting' END,
                  refund_next_at = CASE WHEN refunded_at IS NOT NULL THEN :now END
           WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'kept' AND reason IS NULL""",
        {"ids": json.dumps(list(payment_ids)), "now": clock.stamp()},
    )


# How


def _store(tx: Connection, game_id: int, payment: Payment, is_registering: bool, now: str, *, is_repeated: bool) -> str:
    is_new = tx.execute(
        """INSERT INTO payments (game_id, transaction_id, source, player_id, product_id, product_name, amount, currency,
                                 market, platform, distribution_type, purchased_at, reported, fingerprint, is_test,
                                 refunded_at, state, reason, next_try_at, refund_state, refund_next_at, waits_since,
                                 created_at, updated_at)
           VALUES (:game_id, :transaction_id, :source, :player_id, :product_id, :product_name, :amount, :currency,
                   :market, :platform, :distribution_type, :purchased_at, :reported, :fingerprint, :is_test,
                   :refunded_at, :state, :reason, :next_try_at, :refund_state, :refund_next_at,
                   :waits_since, :now, :now)
           ON CONFLICT (game_id, transaction_id) DO NOTHING""",
        {"game_id": game_id, **_values(payment, is_registering, now)},
    ).rowcount
    if is_new:
        return "new"
    known = find(tx, game_id, payment.transaction_id)
    assert known is not None, "it was in the way a moment ago, in this write"
    return _store_known(tx, known, payment, is_registering, now, is_repeated=is_repeated)


def _store_known(
    tx: Connection,
    known: Row,
    payment: Payment,
    is_registering: bool,
    now: str,
    *,
    is_repeated: bool = False,
) -> str:
    payment = with_known_amount(known, payment)
    begins_anew = bool(known["is_test"]) and not payment.is_test and payment.problem is None
    is_correctable = payment.source == known["source"] and not known["is_sent"] and not is_repeated
    if begins_anew or (known["state"] == "parked" and (is_correctable or tells_same(known, payment))):
        return _replace(tx, known, payment, is_registering, now, is_sent=not begins_anew and bool(known["is_sent"]))
    is_agreed = agrees(known, payment)
    is_conflict = not (is_agreed and is_understood(known, payment))
    if is_conflict:
        if not is_repeated and is_correction(known, payment):
            was_registering = known["state"] in ("waiting", "quarantined")
            return _replace(tx, known, payment, is_registering or was_registering, now, is_sent=False)
        _keep_conflict(tx, known["id"], payment, now)
    if is_agreed and payment.refunded_at is not None and known["refunded_at"] is None:
        mark_refunded(tx, known, payment.refunded_at, now)
        return "refunded"
    if is_conflict:
        return "conflict"
    if is_registering and known["state"] == "kept" and known["reason"] is None and payment.problem is None:
        release(tx, [known["id"]])
    return "known"


def _replace(tx: Connection, known: Row, payment: Payment, is_registering: bool, now: str, *, is_sent: bool) -> str:
    """What was never sent takes the better content; refunded stays refunded."""
    values = _values(payment, is_registering, now, refunded_at=payment.refunded_at or known["refunded_at"])
    same = payment.problem is not None and all(
        known[name] == values[name]
        for name in ("fingerprint", "reason", "reported", "refunded_at", "is_test", "market")
    )
    if not same:
        _note_move(tx, known, payment.purchased_at)
        tx.execute(
            """UPDATE payments SET source = :source, player_id = :player_id, product_id = :product_id,
                      product_name = :product_name, amount = :amount, currency = :currency, market = :market,
                      platform = :platform, distribution_type = :distribution_type, purchased_at = :purchased_at,
                      reported = :reported, fingerprint = :fingerprint, is_test = :is_test, refunded_at = :refunded_at,
                      state = :state, reason = :reason, tries = 0, next_try_at = :next_try_at, registered_at = NULL,
                      refund_state = :refund_state, refund_tries = 0, refund_next_at = :refund_next_at,
                      waits_since = :waits_since, is_sent = :is_sent,
                      is_told = CASE WHEN :is_sent = 1 THEN is_told ELSE 0 END, updated_at = :now
               WHERE id = :id""",
            {**values, "is_sent": int(is_sent), "id": known["id"]},
        )
        tx.execute(
            "DELETE FROM payment_conflicts WHERE payment_id = :id AND fingerprint = :fingerprint",
            {"id": known["id"], "fingerprint": payment.fingerprint},
        )
    return "known" if payment.problem is not None else "new"


def _note_move(tx: Connection, known: Row, purchased_at: str | None) -> None:
    """A payment leaves the time it was counted at: a closed month that held it has to learn of that."""
    if known["purchased_at"] is not None and known["purchased_at"] != purchased_at:
        subject = f"{known['purchased_at']} to {purchased_at or '-'}: {known['transaction_id']}"
        audit.record(tx, known["game_id"], "game", MOVED, subject)


def _values(payment: Payment, is_registering: bool, now: str, refunded_at: str | None = None) -> dict[str, Any]:
    """A payment's columns when it is stored, but for the tries and what comes of them."""
    refunded_at = refunded_at or payment.refunded_at
    reason: str | None = None
    if payment.problem is not None:
        state, reason = "parked", payment.problem
    elif payment.kept_because is not None or not is_registering:
        state, reason = "kept", payment.kept_because
    else:
        state = "waiting"
    is_refund_due = refunded_at is not None and state == "waiting"
    return {
        "transaction_id": payment.transaction_id,
        "source": payment.source,
        "player_id": payment.player_id,
        "product_id": payment.product_id,
        "product_name": payment.product_name,
        "amount": payment.amount,
        "currency": payment.currency,
        "market": payment.market,
        "platform": payment.platform,
        "distribution_type": payment.distribution_type,
        "purchased_at": payment.purchased_at,
        "reported": payment.row,
        "fingerprint": payment.fingerprint,
        "is_test": int(payment.is_test),
        "refunded_at": refunded_at,
        "state": state,
        "reason": reason,
        "next_try_at": now if state == "waiting" else None,
        "waits_since": now if state == "waiting" else None,
        "refund_state": "waiting" if is_refund_due else None,
        "refund_next_at": now if is_refund_due else None,
        "now": now,
    }


def mark_refunded(tx: Connection, known: Row, refunded_at: str, now: str) -> None:
    is_done = known["refund_state"] == "done"  # before a dispute was won that is lost now
    is_due = known["state"] in ("waiting", "registered") and not is_done
    tx.execute(
        """UPDATE payments SET refunded_at = :refunded_at, refund_state = :state, refund_next_at = :next_at,
                  waits_since = CASE WHEN CAST(:next_at AS TEXT) IS NULL THEN waits_since
                                     ELSE coalesce(waits_since, :now) END,
                  updated_at = :now
           WHERE id = :id""",
        {
            "id": known["id"],
            "refunded_at": refunded_at,
            "state": "done" if is_done else "waiting" if is_due else None,
            "next_at": now if is_due else None,
            "now": now,
        },
    )


def _keep_conflict(tx: Connection, payment_id: int, payment: Payment, now: str) -> None:
    tx.execute(
        """INSERT INTO payment_conflicts (payment_id, fingerprint, reason, reported, seen, first_at, last_at)
           VALUES (:payment_id, :fingerprint, :reason, :reported, 1, :now, :now)
           ON CONFLICT (payment_id, fingerprint) DO UPDATE SET
               reported = excluded.reported, seen = payment_conflicts.seen + 1, last_at = excluded.last_at""",
        {
            "payment_id": payment_id,
            "fingerprint": payment.fingerprint,
            "reason": payment.problem,
            "reported": payment.row,
            "now": now,
        },
    )
