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
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from coinslot.base import clock
from coinslot.games.registry import RESERVED_ID
from coinslot.payments.report import LEAST_AMOUNT, LONGEST_REASON, TOO_CHEAP, Payment, unknown_market
from coinslot.store import audit

LEASE_SECONDS = 120.0
MOST_TRIES = 5  # of one payment or refund that is refused by itself; then it waits for a person
OTHER_ENVIRONMENT_SECONDS = 3600.0  # what is for the sandbox, or not for it, is looked at again after this
LAST_DELAY_SECONDS = 3600.0  # when the table of delays has come to its end
LOOKED_AT = 2000  # of the latest payments, for what is reported twice
TOLERATED_SECONDS = 1  # between two reports of one payment
WON_SECONDS = 30 * 86400.0  # how long it is told that a refund was sent and the dispute has been won since

SENT = "it was sent, with no answer yet"
MOVED = "payment.move"  # in the audit; an index holds it
FROM_SANDBOX = "it was reported in the sandbox"
STATES = ("parked", "waiting", "registered", "quarantined", "kept")


def store_many(
    tx: sqlite3.Connection,
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


def store(tx: sqlite3.Connection, game_id: int, payment: Payment, *, is_registering: bool) -> str:
    """:func:`store_many` of one."""
    return store_many(tx, game_id, [payment], is_registering=is_registering)[0]


def find(connection: sqlite3.Connection, game_id: int, transaction_id: str) -> sqlite3.Row | None:
    """The payment with this id, with every column; None when there is none."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM payments WHERE game_id = :game_id AND transaction_id = :transaction_id",
        {"game_id": game_id, "transaction_id": transaction_id},
    ).fetchone()
    return row


# Registering


def claim_due(tx: sqlite3.Connection, game_id: int, limit: int, *, is_sandbox: bool) -> list[sqlite3.Row]:
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


def registered(tx: sqlite3.Connection, payment_ids: Iterable[int], *, is_sandbox: bool) -> None:
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
    tx: sqlite3.Connection,
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


def quarantine(tx: sqlite3.Connection, reasons: Mapping[int, str]) -> None:
    """These are not sent again before a person says so."""
    tx.executemany(
        """UPDATE payments SET state = 'quarantined', is_sent = is_told, reason = :reason, tries = tries + 1,
                  next_try_at = NULL, refund_state = NULL, refund_next_at = NULL, waits_since = NULL, updated_at = :now
           WHERE id = :id AND state = 'waiting'""",
        [{"id": each, "reason": _reason(reason), "now": clock.stamp()} for each, reason in reasons.items()],
    )


def postpone(tx: sqlite3.Connection, payment_ids: Iterable[int], seconds: float, reason: str | None = None) -> None:
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


def next_due(connection: sqlite3.Connection, game_id: int) -> str | None:
    """When the next payment or refund is due, as a stamp; None when none waits."""
    row = connection.execute(
        """SELECT (SELECT min(next_try_at) FROM payments WHERE game_id = :game_id AND state = 'waiting') AS payment,
                  (SELECT min(refund_next_at) FROM payments
                   WHERE game_id = :game_id AND refund_state = 'waiting' AND state = 'registered') AS refund""",
        {"game_id": game_id},
    ).fetchone()
    return min((each for each in (row["payment"], row["refund"]) if each is not None), default=None)


# Refunding


def claim_refunds(tx: sqlite3.Connection, game_id: int, limit: int, *, is_sandbox: bool) -> list[sqlite3.Row]:
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


def refund_done(tx: sqlite3.Connection, payment_id: int, *, is_sandbox: bool) -> None:
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


def refund_refused(tx: sqlite3.Connection, payment_id: int, reason: str, delays_seconds: Sequence[float]) -> bool:
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


def postpone_refund(tx: sqlite3.Connection, payment_id: int, seconds: float, reason: str | None = None) -> None:
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


def register_again(tx: sqlite3.Connection, payment_id: int) -> None:
    """It is not known where it was registered: that is done first, and its refund waits for it."""
    tx.execute(
        """UPDATE payments SET state = 'waiting', next_try_at = :now, registered_at = NULL,
                  refund_tries = refund_tries + coalesce(refund_state = 'waiting', 0),
                  waits_since = coalesce(waits_since, :now), updated_at = :now
           WHERE id = :id AND state = 'registered'""",
        {"id": payment_id, "now": clock.stamp()},
    )


# What waits for a person


def redrive(tx: sqlite3.Connection, game_id: int, transaction_id: str) -> bool:
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


def parked(
    connection: sqlite3.Connection, game_id: int, after: int, limit: int, through: int | None = None
) -> list[sqlite3.Row]:
    """Parked payments with an id above ``after``, in order; each has every column."""
    return connection.execute(
        """SELECT * FROM payments
           WHERE game_id = :game_id AND state = 'parked' AND id > :after AND (:through IS NULL OR id <= :through)
           ORDER BY id LIMIT :limit""",
        {"game_id": game_id, "after": after, "limit": limit, "through": through},
    ).fetchall()


def replace_parked(
    tx: sqlite3.Connection, game_id: int, payment_id: int, payment: Payment, *, is_registering: bool
) -> str:
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


def redrive_all(tx: sqlite3.Connection, game_id: int, limit: int) -> int:
    """:func:`redrive` of every quarantined payment and refund, up to ``limit`` of each; returns how many those were."""
    rows = tx.execute(
        """SELECT transaction_id FROM (SELECT transaction_id FROM payments
                                       WHERE game_id = :game_id AND state = 'quarantined' ORDER BY id LIMIT :limit)
           UNION SELECT transaction_id FROM (SELECT transaction_id FROM payments
                                             WHERE game_id = :game_id AND refund_state = 'quarantined'
                                             ORDER BY id LIMIT :limit)""",
        {"game_id": game_id, "limit": limit},
    ).fetchall()
    return sum(redrive(tx, game_id, row["transaction_id"]) for row in rows)


def oldest_polled(connection: sqlite3.Connection, game_id: int, from_at: str, to_at: str) -> str | None:
    """When the first payment of [from_at, to_at) was paid that came out of the game's own API; None: there is none."""
    row = connection.execute(
        """SELECT purchased_at FROM payments
           WHERE game_id = :game_id AND purchased_at >= :from_at AND purchased_at < :to_at AND source = 'poll'
           ORDER BY purchased_at LIMIT 1""",
        {"game_id": game_id, "from_at": from_at, "to_at": to_at},
    ).fetchone()
    return None if row is None else str(row["purchased_at"])


def newest_polled(connection: sqlite3.Connection, game_id: int, to_at: str) -> str | None:
    """When the last payment before ``to_at`` was paid that came out of the game's own API; None: there is none."""
    row = connection.execute(
        """SELECT purchased_at FROM payments
           WHERE game_id = :game_id AND purchased_at < :to_at AND source = 'poll'
           ORDER BY purchased_at DESC LIMIT 1""",
        {"game_id": game_id, "to_at": to_at},
    ).fetchone()
    return None if row is None else str(row["purchased_at"])


def known(connection: sqlite3.Connection, game_id: int, found: Iterable[Payment]) -> list[Payment]:
    """Those of them that are stored already, under their transaction id."""
    return [each for each in found if find(connection, game_id, each.transaction_id) is not None]


# Being asked for


def paid_between(
    connection: sqlite3.Connection,
    game_id: int,
    from_at: str,
    to_at: str,
    after: tuple[str, int] | None,
    limit: int,
    *,
    is_sandbox: bool,
) -> list[sqlite3.Row]:
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


def told(tx: sqlite3.Connection, payment_ids: Iterable[int]) -> None:
    """The query answers with these as they are in this write; they stay so, whatever becomes of them."""
    tx.execute(
        "UPDATE payments SET is_sent = 1, is_told = 1 WHERE id IN (SELECT value FROM json_each(:ids)) AND is_told = 0",
        {"ids": json.dumps(list(payment_ids))},
    )


# Months


def made_between(
    connection: sqlite3.Connection, game_id: int, after: tuple[str, int], to_at: str, limit: int
) -> list[sqlite3.Row]:
    """Payments that are no tests, in the order of time and id, after those of the last one read; before ``to_at``."""
    return connection.execute(
        """SELECT id, transaction_id, purchased_at FROM payments
           WHERE game_id = :game_id AND purchased_at >= :at AND purchased_at < :to_at
             AND (purchased_at > :at OR id > :last_id) AND is_test = 0
           ORDER BY purchased_at, id LIMIT :limit""",
        {"game_id": game_id, "at": after[0], "last_id": after[1], "to_at": to_at, "limit": limit},
    ).fetchall()


def count_between(connection: sqlite3.Connection, game_id: int, from_at: str, to_at: str) -> int:
    """How many there are, tests included; for a progress bar."""
    (count,) = connection.execute(
        """SELECT count(*) FROM payments
           WHERE game_id = :game_id AND purchased_at >= :from_at AND purchased_at < :to_at""",
        {"game_id": game_id, "from_at": from_at, "to_at": to_at},
    ).fetchone()
    return int(count)


# Payments out of our own ledger


def newest(connection: sqlite3.Connection) -> tuple[int, int]:
    """The highest ids of transactions and refunds."""
    row = connection.execute(
        "SELECT (SELECT max(id) FROM transactions) AS transaction_id, (SELECT max(id) FROM refunds) AS refund_id"
    ).fetchone()
    return row["transaction_id"] or 0, row["refund_id"] or 0


# When the money of a purchase ``t`` went back. A dispute that was won since is none, in whichever order that was told.
REFUNDED_AT = """(SELECT min(coalesce(r.occurred_at, r.created_at)) FROM refunds r
                     WHERE r.transaction_id = t.id AND r.reason IN ('refund', 'chargeback') AND r.is_test = 0
                       AND r.outcome NOT IN ('waiting', 'ambiguous', 'test')
                       AND NOT (r.reason = 'chargeback' AND EXISTS (
                           SELECT 1 FROM refunds w
                           WHERE w.transaction_id = t.id AND w.reason = 'reinstated' AND w.is_test = 0
                             AND w.outcome IN ('restored', 'repeated')
                             AND CASE WHEN w.occurred_at IS NULL OR r.occurred_at IS NULL THEN w.id > r.id
                                 ELSE substr(w.occurred_at, 1, 19) >= substr(r.occurred_at, 1, 19) END)))"""


def orders(
    connection: sqlite3.Connection, game_id: int, partner: str, after: int, through: int, limit: int
) -> list[sqlite3.Row]:
    """Paid, live purchases of a partner with ids above ``after`` and up to ``through``, in order.

    ``refunded_at`` is when the money went back, None where it did not; ``sku`` is one of the items bought.
    """
    return connection.execute(
        f"""SELECT t.id, t.reference, t.player_id, t.currency, t.gross_minor, t.raw_body,
                  coalesce(t.occurred_at, t.received_at) AS purchased_at,
                  (SELECT min(e.sku) FROM grants g JOIN entries e ON e.grant_id = g.id
                   WHERE g.transaction_id = t.id AND g.kind = t.kind) AS sku,
                  {REFUNDED_AT} AS refunded_at
           FROM transactions t
           WHERE t.id > :after AND t.id <= :through AND t.game_id = :game_id AND t.partner = :partner
             AND t.kind = 'purchase' AND t.is_test = 0 AND t.environment = 'live' AND t.gross_minor > 0
           ORDER BY t.id LIMIT :limit""",  # noqa: S608 (a constant of ours)
        {"game_id": game_id, "partner": partner, "after": after, "through": through, "limit": limit},
    ).fetchall()


def refunded_orders(
    connection: sqlite3.Connection, game_id: int, partner: str, after: int, through: int
) -> list[tuple[str, str | None]]:
    """Purchases with refunds, or won disputes, of ids above ``after`` and up to ``through``: reference, and since when.

    None where the money came back: every chargeback has been won, and there is no other refund.

    One that waits for its purchase is not there: the purchase, once it comes, is told of as refunded.
    """
    rows = connection.execute(
        f"""SELECT t.reference, {REFUNDED_AT} AS refunded_at
           FROM transactions t
           WHERE t.id IN (SELECT transaction_id FROM refunds
                          WHERE id > :after AND id <= :through AND game_id = :game_id AND partner = :partner
                            AND is_test = 0 AND outcome NOT IN ('waiting', 'ambiguous', 'test'))
           ORDER BY t.id""",  # noqa: S608 (a constant of ours)
        {"game_id": game_id, "partner": partner, "after": after, "through": through},
    )
    return [(str(row["reference"]), row["refunded_at"]) for row in rows]


def refund_known(tx: sqlite3.Connection, game_id: int, transaction_id: str, refunded_at: str) -> bool:
    """A payment is refunded; returns whether it is known and was not refunded before."""
    row = find(tx, game_id, transaction_id)
    if row is None or row["refunded_at"] is not None:
        return False
    _refund(tx, row, refunded_at, clock.stamp())
    return True


def withdraw_refund(tx: sqlite3.Connection, game_id: int, transaction_id: str) -> None:
    """A payment stands again: its refund is not sent. One sent already stays ``done`` (:func:`refunded_though_won`)."""
    tx.execute(
        """UPDATE payments SET refunded_at = NULL, refund_state = CASE WHEN refund_state = 'done' THEN 'done' END,
                  refund_tries = 0, refund_next_at = NULL, reason = CASE WHEN state <> 'registered' THEN reason END,
                  waits_since = CASE WHEN state = 'waiting' THEN waits_since END,
                  updated_at = :now
           WHERE game_id = :game_id AND transaction_id = :transaction_id AND refunded_at IS NOT NULL""",
        {"game_id": game_id, "transaction_id": transaction_id, "now": clock.stamp()},
    )


def refunded_though_won(connection: sqlite3.Connection, game_id: int, partner: str, prefix: str) -> list[str]:
    """References of a partner's purchases whose refund was sent before their dispute was won, within a month of it.

    ``prefix`` and a reference are the payment's id.
    """
    rows = connection.execute(
        """SELECT DISTINCT t.reference
           FROM refunds r JOIN transactions t ON t.id = r.transaction_id
           JOIN payments p ON p.game_id = r.game_id AND p.transaction_id = :prefix || t.reference
           WHERE r.game_id = :game_id AND r.partner = :partner AND r.reason = 'reinstated'
             AND p.refund_state = 'done' AND p.refunded_at IS NULL AND p.updated_at >= :since
           ORDER BY t.reference""",
        {
            "game_id": game_id,
            "partner": partner,
            "prefix": prefix,
            "since": clock.stamp(clock.now() - WON_SECONDS),
        },
    )
    return [str(row["reference"]) for row in rows]


def attributed(tx: sqlite3.Connection, game_id: int, transaction_id: str) -> None:
    """PlayCamp has told whose purchase a payment is: a closed month that holds it has to learn of that."""
    tx.execute(
        "UPDATE payments SET updated_at = :now WHERE game_id = :game_id AND transaction_id = :transaction_id",
        {"game_id": game_id, "transaction_id": transaction_id, "now": clock.stamp()},
    )


def kept_orders(connection: sqlite3.Connection, game_id: int, source: str, since_at: str, limit: int) -> list[int]:
    """Ids of payments of a source that are only kept to be asked for, those paid from ``since_at`` on, oldest first."""
    rows = connection.execute(
        """SELECT id FROM payments
           WHERE game_id = :game_id AND purchased_at >= :since_at AND state = 'kept' AND reason IS NULL
             AND source = :source
           ORDER BY purchased_at, id LIMIT :limit""",
        {"game_id": game_id, "source": source, "since_at": since_at, "limit": limit},
    )
    return [row["id"] for row in rows]


def kept_pushes(connection: sqlite3.Connection, game_id: int, limit: int) -> list[int]:
    """The same of what the game has pushed, from whatever time."""
    rows = connection.execute(
        """SELECT id FROM payments
           WHERE game_id = :game_id AND state = 'kept' AND reason IS NULL AND source = 'push'
           ORDER BY id LIMIT :limit""",
        {"game_id": game_id, "limit": limit},
    )
    return [row["id"] for row in rows]


def release(tx: sqlite3.Connection, payment_ids: Iterable[int]) -> None:
    """Have payments that were only kept to be asked for registered too, and refunded after that where they are."""
    tx.execute(
        """UPDATE payments SET state = 'waiting', next_try_at = :now, waits_since = :now, updated_at = :now,
                  refund_state = CASE WHEN refunded_at IS NOT NULL THEN 'waiting' END,
                  refund_next_at = CASE WHEN refunded_at IS NOT NULL THEN :now END
           WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'kept' AND reason IS NULL""",
        {"ids": json.dumps(list(payment_ids)), "now": clock.stamp()},
    )


def reported_by_game(connection: sqlite3.Connection, game_id: int, partner: str) -> list[str]:
    """References of a partner's purchases that the game reports too, by itself; among the latest payments."""
    rows = connection.execute(
        """SELECT t.reference FROM
               (SELECT transaction_id, source FROM payments WHERE game_id = :game_id
                ORDER BY purchased_at DESC LIMIT :looked_at) p
               JOIN transactions t
               ON t.game_id = :game_id AND t.partner = :partner AND t.external_id = p.transaction_id
           WHERE p.source <> 'appcharge'""",
        {"game_id": game_id, "partner": partner, "looked_at": LOOKED_AT},
    )
    return [str(row["reference"]) for row in rows]


# How


def _store(
    tx: sqlite3.Connection, game_id: int, payment: Payment, is_registering: bool, now: str, *, is_repeated: bool
) -> str:
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
    tx: sqlite3.Connection,
    known: sqlite3.Row,
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
        _refund(tx, known, payment.refunded_at, now)
        return "refunded"
    if is_conflict:
        return "conflict"
    if is_registering and known["state"] == "kept" and known["reason"] is None and payment.problem is None:
        release(tx, [known["id"]])
    return "known"


def _replace(
    tx: sqlite3.Connection, known: sqlite3.Row, payment: Payment, is_registering: bool, now: str, *, is_sent: bool
) -> str:
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


def _note_move(tx: sqlite3.Connection, known: sqlite3.Row, purchased_at: str | None) -> None:
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


def _agrees(known: sqlite3.Row, payment: Payment) -> bool:
    """Whether both tell of the same payment; what a refund leaves out is no contradiction."""
    is_same_place = (payment.market is not None and known["market"] == payment.market) or all(
        told in (None, stored)
        for told, stored in (
            (payment.platform, known["platform"]),
            (payment.distribution_type, known["distribution_type"]),
        )
    )
    return is_same_place and _tells_same(known, payment)


def _is_understood(known: sqlite3.Row, payment: Payment) -> bool:
    """Whether nothing in the report is unreadable. Its market may be one that is configured no more."""
    if payment.problem in (None, unknown_market(known["market"])):
        return True
    return payment.is_incomplete and payment.refunded_at is not None


def _tells_same(known: sqlite3.Row, payment: Payment) -> bool:
    """Whether both agree in every field that both have, but for the place; one rounds times, the other cuts them."""
    told = (payment.player_id, payment.product_id, payment.amount, payment.currency)
    stored = (known["player_id"], known["product_id"], known["amount"], known["currency"])
    if not all(each is None or other in (None, each) for each, other in zip(told, stored, strict=True)):
        return False
    if payment.purchased_at is None or known["purchased_at"] is None:
        return True
    apart = clock.seconds(payment.purchased_at) // 1 - clock.seconds(known["purchased_at"]) // 1
    return abs(apart) <= TOLERATED_SECONDS


def _is_correction(known: sqlite3.Row, payment: Payment) -> bool:
    """Whether other content is to take the place of what nobody has, of the same source and environment."""
    if payment.problem is not None or known["source"] != payment.source or known["is_test"] != payment.is_test:
        return False
    return not known["is_sent"]


def _with_known_amount(known: sqlite3.Row, payment: Payment) -> Payment:
    """A refund may say that nothing is paid any more: its amount of 0 is none."""
    if payment.refunded_at is None or payment.amount is None or known["amount"] is None or Decimal(payment.amount):
        return payment
    is_too_cheap = payment.kept_because == TOO_CHEAP and Decimal(known["amount"]) < LEAST_AMOUNT
    kept_because = payment.kept_because if is_too_cheap or payment.kept_because != TOO_CHEAP else None
    return replace(payment, amount=known["amount"], kept_because=kept_because)


def _refund(tx: sqlite3.Connection, known: sqlite3.Row, refunded_at: str, now: str) -> None:
    is_done = known["refund_state"] == "done"  # before a dispute was won that is lost now
    is_due = known["state"] in ("waiting", "registered") and not is_done
    tx.execute(
        """UPDATE payments SET refunded_at = :refunded_at, refund_state = :state, refund_next_at = :next_at,
                  waits_since = CASE WHEN :next_at IS NULL THEN waits_since ELSE coalesce(waits_since, :now) END,
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


def _keep_conflict(tx: sqlite3.Connection, payment_id: int, payment: Payment, now: str) -> None:
    tx.execute(
        """INSERT INTO payment_conflicts (payment_id, fingerprint, reason, row, seen, first_at, last_at)
           VALUES (:payment_id, :fingerprint, :reason, :row, 1, :now, :now)
           ON CONFLICT (payment_id, fingerprint) DO UPDATE SET
               row = excluded.row, seen = seen + 1, last_at = excluded.last_at""",
        {
            "payment_id": payment_id,
            "fingerprint": payment.fingerprint,
            "reason": payment.problem,
            "row": payment.row,
            "now": now,
        },
    )


def _set_aside(tx: sqlite3.Connection, payment_ids: Iterable[int]) -> None:
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
