"""In-game payments: each is stored once, under its transaction id, whatever the source.

A payment that is reported again is known; it may become refunded, and never paid again. As long as it was never sent,
newer content of its own source replaces it, as a corrected configuration gives it. Any other content under a known id
is a conflict: the first one counts, and a person judges. A payment that cannot be sent as it is, is parked with its
reason, and fixed by a better report or by a changed configuration (:func:`replace_parked`).

``is_sent``: it may have left this database, so its content is frozen. It is set by the first claim, since a call
without an answer may have arrived, and when the query API serves it. A payment that was refused for good has not
arrived and may be corrected again, unless the query API has served it.

``parsing.check`` makes a :class:`Payment` of a report, :func:`store_many` stores it, and ``payment_queue`` sends it.

A payment of the sandbox is a test. It is registered with the sandbox alone, and begins again when it is reported
outside of it. A payment that names a reserved id is a test too, and is never registered.
"""

import json
from collections.abc import Collection, Iterable
from typing import Any

from coinslot.base import clock
from coinslot.payments.agreement import agrees, has_same_content, is_correction, is_understood, with_known_amount
from coinslot.payments.parsing import Payment
from coinslot.payments.queries import find
from coinslot.store import audit
from coinslot.store.db import Connection, Row

MOVED = "payment.move"  # in the audit; an index holds it
STATES = ("parked", "waiting", "registered", "quarantined", "kept")

_COLUMNS = (
    "source player_id product_id product_name amount currency market platform distribution_type purchased_at "
    "fingerprint is_test reported refunded_at state reason next_try_at waits_since refund_state refund_next_at"
).split()
_INSERT = f"""
    INSERT INTO payments (game_id, transaction_id, {", ".join(_COLUMNS)}, created_at, updated_at)
    VALUES (:game_id, :transaction_id, {", ".join(f":{name}" for name in _COLUMNS)}, :now, :now)
    ON CONFLICT (game_id, transaction_id) DO NOTHING"""  # noqa: S608  our own words only
_REPLACE = f"""
    UPDATE payments SET {", ".join(f"{name} = :{name}" for name in _COLUMNS)}, tries = 0, registered_at = NULL,
           refund_tries = 0, is_sent = :is_sent, is_told = CASE WHEN :is_sent = 1 THEN is_told ELSE 0 END,
           updated_at = :now
    WHERE id = :id"""  # noqa: S608


def store_many(
    tx: Connection,
    game_id: int,
    payments: Iterable[Payment],
    *,
    is_registering: bool,
    earlier: Collection[str] = (),
) -> list[str]:
    """Store payments, in order, and say of each: ``new``, ``known``, ``refunded`` (since now), or ``conflict``.

    ``is_registering``: they are to be registered; else they are kept for the query API. A payment with a problem is
    parked, and ``new`` the first time. A parked payment that is now reported well is ``new``. Two contents of one id in
    one report are a conflict: neither corrects the other. ``earlier`` are the ids of the same report that were stored
    before. A report of a known payment that cannot be read is a conflict too, but for what a refund may leave out.
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


def replace_parked(tx: Connection, game_id: int, payment_id: int, payment: Payment, *, is_registering: bool) -> str:
    """Store what a parked row becomes when it is read again: ``new`` when it is fixed, else ``known``.

    A row that had no id and has one now may be a payment that was stored since; then it is stored as a report of that.
    """
    row = tx.execute("SELECT * FROM payments WHERE id = :id AND state = 'parked'", {"id": payment_id}).fetchone()
    if row is None:
        return "known"
    if row["transaction_id"] == payment.transaction_id:
        return _store_known(tx, row, payment, is_registering, clock.stamp())
    outcome = store(tx, game_id, payment, is_registering=is_registering)
    _note_move(tx, row, None)
    tx.execute("DELETE FROM payment_conflicts WHERE payment_id = :id", {"id": payment_id})
    tx.execute("DELETE FROM payments WHERE id = :id", {"id": payment_id})
    return outcome


def freeze(tx: Connection, payment_ids: Iterable[int]) -> None:
    """The query API serves these with their content of this write. It never changes again."""
    tx.execute(
        """UPDATE payments SET is_sent = 1, is_told = 1
           WHERE id IN (SELECT value FROM json_each(:ids) /* numbers */) AND is_told = 0""",
        {"ids": json.dumps(list(payment_ids))},
    )


def note_attribution(tx: Connection, game_id: int, transaction_id: str) -> None:
    """The partner has named the creator of a payment. The change is seen by the closed month that holds it."""
    tx.execute(
        "UPDATE payments SET updated_at = :now WHERE game_id = :game_id AND transaction_id = :transaction_id",
        {"game_id": game_id, "transaction_id": transaction_id, "now": clock.stamp()},
    )


def release(tx: Connection, payment_ids: Iterable[int]) -> None:
    """Have payments registered that were kept for the query API, and then refunded if they are."""
    tx.execute(
        """UPDATE payments SET state = 'waiting', next_try_at = :now, waits_since = :now, updated_at = :now,
                  refund_state = CASE WHEN refunded_at IS NOT NULL THEN 'waiting' END,
                  refund_next_at = CASE WHEN refunded_at IS NOT NULL THEN :now END
           WHERE id IN (SELECT value FROM json_each(:ids) /* numbers */) AND state = 'kept' AND reason IS NULL""",
        {"ids": json.dumps(list(payment_ids)), "now": clock.stamp()},
    )


def mark_refunded(tx: Connection, known: Row, refunded_at: str, now: str) -> None:
    """A known payment is refunded since ``refunded_at``; the refund is sent unless it was sent before."""
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


def _store(tx: Connection, game_id: int, payment: Payment, is_registering: bool, now: str, *, is_repeated: bool) -> str:
    values = _values(payment, is_registering, now)
    values["game_id"] = game_id
    if tx.execute(_INSERT, values).rowcount:
        return "new"
    known = find(tx, game_id, payment.transaction_id)
    assert known is not None, "it was in the way a moment ago, in this write"
    return _store_known(tx, known, payment, is_registering, now, is_repeated=is_repeated)


def _store_known(
    tx: Connection, known: Row, payment: Payment, is_registering: bool, now: str, *, is_repeated: bool = False
) -> str:
    payment = with_known_amount(known, payment)
    begins_anew = bool(known["is_test"]) and not payment.is_test and payment.problem is None
    is_correctable = payment.source == known["source"] and not known["is_sent"] and not is_repeated
    if begins_anew or (known["state"] == "parked" and (is_correctable or has_same_content(known, payment))):
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
    """Give a payment that was never sent its better content. A refunded payment stays refunded."""
    values = _values(payment, is_registering, now, refunded_at=payment.refunded_at or known["refunded_at"])
    names = ("fingerprint", "reason", "reported", "refunded_at", "is_test", "market")
    if payment.problem is None or any(known[name] != values[name] for name in names):
        _note_move(tx, known, payment.purchased_at)
        tx.execute(_REPLACE, {**values, "is_sent": int(is_sent), "id": known["id"]})
        tx.execute(
            "DELETE FROM payment_conflicts WHERE payment_id = :id AND fingerprint = :fingerprint",
            {"id": known["id"], "fingerprint": payment.fingerprint},
        )
    return "known" if payment.problem is not None else "new"


def _note_move(tx: Connection, known: Row, purchased_at: str | None) -> None:
    """A payment changes its time of purchase. The audit entry is seen by the closed month that held it."""
    if known["purchased_at"] is not None and known["purchased_at"] != purchased_at:
        subject = f"{known['purchased_at']} to {purchased_at or '-'}: {known['transaction_id']}"
        audit.record(tx, known["game_id"], "game", MOVED, subject)


def _values(payment: Payment, is_registering: bool, now: str, refunded_at: str | None = None) -> dict[str, Any]:
    """The columns of a payment as it is stored."""
    refunded_at = refunded_at or payment.refunded_at
    state = "waiting"
    if payment.problem is not None:
        state = "parked"
    elif payment.kept_because is not None or not is_registering:
        state = "kept"
    is_waiting = state == "waiting"
    is_refund_due = is_waiting and refunded_at is not None
    return {
        **vars(payment),
        "fingerprint": payment.fingerprint,
        "is_test": int(payment.is_test),
        "reported": payment.row,
        "refunded_at": refunded_at,
        "state": state,
        "reason": payment.problem or payment.kept_because,
        "next_try_at": now if is_waiting else None,
        "waits_since": now if is_waiting else None,
        "refund_state": "waiting" if is_refund_due else None,
        "refund_next_at": now if is_refund_due else None,
        "now": now,
    }


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
