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
from dataclasses import replace
from decimal import Decimal
from typing import Any

from coinslot.base import clock
from coinslot.games.registry import RESERVED_ID
from coinslot.payments.report import LEAST_AMOUNT, TOO_CHEAP, Payment, unknown_market
from coinslot.store import audit
from coinslot.store.db import Connection, Row

TOLERATED_SECONDS = 1  # between two reports of one payment

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


def find(connection: Connection, game_id: int, transaction_id: str) -> Row | None:
    """The payment with this id, with every column; None when there is none."""
    row: Row | None = connection.execute(
        "SELECT * FROM payments WHERE game_id = :game_id AND transaction_id = :transaction_id",
        {"game_id": game_id, "transaction_id": transaction_id},
    ).fetchone()
    return row


# Registering


# Refunding


# What waits for a person


def parked(connection: Connection, game_id: int, after: int, limit: int, through: int | None = None) -> list[Row]:
    """Parked payments with an id above ``after``, in order; each has every column."""
    return connection.execute(
        """SELECT * FROM payments
           WHERE game_id = :game_id AND state = 'parked' AND id > :after
             AND (CAST(:through AS INTEGER) IS NULL OR id <= :through)
           ORDER BY id LIMIT :limit""",
        {"game_id": game_id, "after": after, "limit": limit, "through": through},
    ).fetchall()


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


def oldest_polled(connection: Connection, game_id: int, from_at: str, to_at: str) -> str | None:
    """When the first payment of [from_at, to_at) was paid that came out of the game's own API; None: there is none."""
    row = connection.execute(
        """SELECT purchased_at FROM payments
           WHERE game_id = :game_id AND purchased_at >= :from_at AND purchased_at < :to_at AND source = 'poll'
           ORDER BY purchased_at LIMIT 1""",
        {"game_id": game_id, "from_at": from_at, "to_at": to_at},
    ).fetchone()
    return None if row is None else str(row["purchased_at"])


def newest_polled(connection: Connection, game_id: int, to_at: str) -> str | None:
    """When the last payment before ``to_at`` was paid that came out of the game's own API; None: there is none."""
    row = connection.execute(
        """SELECT purchased_at FROM payments
           WHERE game_id = :game_id AND purchased_at < :to_at AND source = 'poll'
           ORDER BY purchased_at DESC LIMIT 1""",
        {"game_id": game_id, "to_at": to_at},
    ).fetchone()
    return None if row is None else str(row["purchased_at"])


def known(connection: Connection, game_id: int, found: Iterable[Payment]) -> list[Payment]:
    """Those of them that are stored already, under their transaction id."""
    return [each for each in found if find(connection, game_id, each.transaction_id) is not None]


# Being asked for


def paid_between(
    connection: Connection,
    game_id: int,
    from_at: str,
    to_at: str,
    after: tuple[str, int] | None,
    limit: int,
    *,
    is_sandbox: bool,
) -> list[Row]:
    """Payments that were not polled, paid from ``from_at`` on and before ``to_at``, in the order of time and id.

    ``after`` are the ``purchased_at`` and ``id`` of the last one read. Left out is what lacks a field, what names a
    reserved id, and but for ``is_sandbox`` what is of a sandbox. One that is parked only because its market is not
    known here is there.
    """
    at, last_id = after or (from_at, 0)
    return connection.execute(
        """SELECT * FROM payments
           WHERE game_id = :game_id AND purchased_at >= :at AND purchased_at < :to_at
             AND (purchased_at > :at OR id > :last_id)
             AND source <> 'poll' AND is_test <= :is_sandbox AND player_id <> :reserved AND product_id <> :reserved
             AND amount IS NOT NULL AND currency IS NOT NULL
           ORDER BY purchased_at, id LIMIT :limit""",
        {
            "game_id": game_id,
            "at": max(at, from_at),
            "to_at": to_at,
            "last_id": last_id if at >= from_at else 0,
            "is_sandbox": int(is_sandbox),
            "reserved": RESERVED_ID,
            "limit": limit,
        },
    ).fetchall()


def told(tx: Connection, payment_ids: Iterable[int]) -> None:
    """The query answers with these as they are in this write; they stay so, whatever becomes of them."""
    tx.execute(
        "UPDATE payments SET is_sent = 1, is_told = 1 WHERE id IN (SELECT value FROM json_each(:ids)) AND is_told = 0",
        {"ids": json.dumps(list(payment_ids))},
    )


# Months


def made_between(connection: Connection, game_id: int, after: tuple[str, int], to_at: str, limit: int) -> list[Row]:
    """Payments that are no tests, in the order of time and id, after those of the last one read; before ``to_at``."""
    return connection.execute(
        """SELECT id, transaction_id, purchased_at FROM payments
           WHERE game_id = :game_id AND purchased_at >= :at AND purchased_at < :to_at
             AND (purchased_at > :at OR id > :last_id) AND is_test = 0
           ORDER BY purchased_at, id LIMIT :limit""",
        {"game_id": game_id, "at": after[0], "last_id": after[1], "to_at": to_at, "limit": limit},
    ).fetchall()


def count_between(connection: Connection, game_id: int, from_at: str, to_at: str) -> int:
    """How many there are, tests included; for a progress bar."""
    (count,) = connection.execute(
        """SELECT count(*) FROM payments
           WHERE game_id = :game_id AND purchased_at >= :from_at AND purchased_at < :to_at""",
        {"game_id": game_id, "from_at": from_at, "to_at": to_at},
    ).fetchone()
    return int(count)


# Payments out of our own ledger


def attributed(tx: Connection, game_id: int, transaction_id: str) -> None:
    """The partner has told whose purchase a payment is: a closed month that holds it has to learn of that."""
    tx.execute(
        "UPDATE payments SET updated_at = :now WHERE game_id = :game_id AND transaction_id = :transaction_id",
        {"game_id": game_id, "transaction_id": transaction_id, "now": clock.stamp()},
    )


def kept_orders(connection: Connection, game_id: int, source: str, since_at: str, limit: int) -> list[int]:
    """Ids of payments of a source that are only kept to be asked for, those paid from ``since_at`` on, oldest first."""
    rows = connection.execute(
        """SELECT id FROM payments
           WHERE game_id = :game_id AND purchased_at >= :since_at AND state = 'kept' AND reason IS NULL
             AND source = :source
           ORDER BY purchased_at, id LIMIT :limit""",
        {"game_id": game_id, "source": source, "since_at": since_at, "limit": limit},
    )
    return [row["id"] for row in rows]


def kept_pushes(connection: Connection, game_id: int, limit: int) -> list[int]:
    """The same of what the game has pushed, from whatever time."""
    rows = connection.execute(
        """SELECT id FROM payments
           WHERE game_id = :game_id AND state = 'kept' AND reason IS NULL AND source = 'push'
           ORDER BY id LIMIT :limit""",
        {"game_id": game_id, "limit": limit},
    )
    return [row["id"] for row in rows]


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
                                 market, platform, distribution_type, purchased_at, row, fingerprint, is_test,
                                 refunded_at, state, reason, next_try_at, refund_state, refund_next_at, waits_since,
                                 created_at, updated_at)
           VALUES (:game_id, :transaction_id, :source, :player_id, :product_id, :product_name, :amount, :currency,
                   :market, :platform, :distribution_type, :purchased_at, :row, :fingerprint, :is_test, :refunded_at,
                   :state, :reason, :next_try_at, :refund_state, :refund_next_at, :waits_since, :now, :now)
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
    payment = _with_known_amount(known, payment)
    begins_anew = bool(known["is_test"]) and not payment.is_test and payment.problem is None
    is_correctable = payment.source == known["source"] and not known["is_sent"] and not is_repeated
    if begins_anew or (known["state"] == "parked" and (is_correctable or _tells_same(known, payment))):
        return _replace(tx, known, payment, is_registering, now, is_sent=not begins_anew and bool(known["is_sent"]))
    is_agreed = _agrees(known, payment)
    is_conflict = not (is_agreed and _is_understood(known, payment))
    if is_conflict:
        if not is_repeated and _is_correction(known, payment):
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
        known[name] == values[name] for name in ("fingerprint", "reason", "row", "refunded_at", "is_test", "market")
    )
    if not same:
        _note_move(tx, known, payment.purchased_at)
        tx.execute(
            """UPDATE payments SET source = :source, player_id = :player_id, product_id = :product_id,
                      product_name = :product_name, amount = :amount, currency = :currency, market = :market,
                      platform = :platform, distribution_type = :distribution_type, purchased_at = :purchased_at,
                      row = :row, fingerprint = :fingerprint, is_test = :is_test, refunded_at = :refunded_at,
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
        "row": payment.row,
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


def _agrees(known: Row, payment: Payment) -> bool:
    """Whether both tell of the same payment; what a refund leaves out is no contradiction."""
    is_same_place = (payment.market is not None and known["market"] == payment.market) or all(
        told in (None, stored)
        for told, stored in (
            (payment.platform, known["platform"]),
            (payment.distribution_type, known["distribution_type"]),
        )
    )
    return is_same_place and _tells_same(known, payment)


def _is_understood(known: Row, payment: Payment) -> bool:
    """Whether nothing in the report is unreadable. Its market may be one that is configured no more."""
    if payment.problem in (None, unknown_market(known["market"])):
        return True
    return payment.is_incomplete and payment.refunded_at is not None


def _tells_same(known: Row, payment: Payment) -> bool:
    """Whether both agree in every field that both have, but for the place; one rounds times, the other cuts them."""
    told = (payment.player_id, payment.product_id, payment.amount, payment.currency)
    stored = (known["player_id"], known["product_id"], known["amount"], known["currency"])
    if not all(each is None or other in (None, each) for each, other in zip(told, stored, strict=True)):
        return False
    if payment.purchased_at is None or known["purchased_at"] is None:
        return True
    apart = clock.seconds(payment.purchased_at) // 1 - clock.seconds(known["purchased_at"]) // 1
    return abs(apart) <= TOLERATED_SECONDS


def _is_correction(known: Row, payment: Payment) -> bool:
    """Whether other content is to take the place of what nobody has, of the same source and environment."""
    if payment.problem is not None or known["source"] != payment.source or known["is_test"] != payment.is_test:
        return False
    return not known["is_sent"]


def _with_known_amount(known: Row, payment: Payment) -> Payment:
    """A refund may say that nothing is paid any more: its amount of 0 is none."""
    if payment.refunded_at is None or payment.amount is None or known["amount"] is None or Decimal(payment.amount):
        return payment
    is_too_cheap = payment.kept_because == TOO_CHEAP and Decimal(known["amount"]) < LEAST_AMOUNT
    kept_because = payment.kept_because if is_too_cheap or payment.kept_because != TOO_CHEAP else None
    return replace(payment, amount=known["amount"], kept_because=kept_because)


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
        """INSERT INTO payment_conflicts (payment_id, fingerprint, reason, row, seen, first_at, last_at)
           VALUES (:payment_id, :fingerprint, :reason, :row, 1, :now, :now)
           ON CONFLICT (payment_id, fingerprint) DO UPDATE SET
               row = excluded.row, seen = payment_conflicts.seen + 1, last_at = excluded.last_at""",
        {
            "payment_id": payment_id,
            "fingerprint": payment.fingerprint,
            "reason": payment.problem,
            "row": payment.row,
            "now": now,
        },
    )
