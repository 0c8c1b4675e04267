"""Due times further ahead than any delay, set by a clock that ran ahead: they count as due now.

Leases of deliveries need no search: a claim ignores one that is longer than a lease can be
(``coinslot/outbox/deliveries.py``).
"""

from coinslot.base import clock
from coinslot.outbox import destinations
from coinslot.relay import jobs
from coinslot.store.db import Connection

MENDED_AT_ONCE = 500
# Of jobs, payments, refunds of payments and probes: none of their delays is longer than a day.
LONGEST_DELAY_SECONDS = 86400 + 3600.0


def mend(tx: Connection) -> bool:
    """Make such times due now, some of each kind; returns whether there may be more.

    A job with a lease longer than any is free again too.
    """
    now = clock.now()
    values = {
        "now": clock.stamp(now),
        "far": clock.stamp(now + LONGEST_DELAY_SECONDS),
        "lease_end": clock.stamp(now + jobs.LONGEST_LEASE_SECONDS),
        "most": MENDED_AT_ONCE,
    }
    changed = [tx.execute(statement, values).rowcount for statement in _STATEMENTS]
    for row in tx.execute("SELECT * FROM destinations WHERE state <> 'removed'").fetchall():
        if sum(changed) >= MENDED_AT_ONCE:
            return True
        longest = destinations.opened(row).longest_delay_seconds
        changed.append(
            tx.execute(
                """UPDATE deliveries SET next_attempt_at = :now
                   WHERE id IN (SELECT id FROM deliveries
                                WHERE destination_id = :id AND state = 'waiting' AND next_attempt_at > :far
                                LIMIT :most)""",
                {**values, "id": row["id"], "far": clock.stamp(now + longest)},
            ).rowcount
        )
    return sum(changed) >= MENDED_AT_ONCE


_STATEMENTS = (
    """UPDATE schedules SET due_at = CASE WHEN due_at IS NOT NULL THEN :now END, leased_until = NULL, lease_owner = NULL
       WHERE due_at > :far OR leased_until > :lease_end""",
    "UPDATE destinations SET next_probe_at = :now WHERE next_probe_at > :far",
    """UPDATE payments SET next_try_at = :now
       WHERE id IN (SELECT id FROM payments
                    WHERE game_id IN (SELECT id FROM games) AND state = 'waiting' AND next_try_at > :far
                    LIMIT :most)""",
    """UPDATE payments SET refund_next_at = :now
       WHERE id IN (SELECT id FROM payments
                    WHERE game_id IN (SELECT id FROM games) AND refund_state = 'waiting' AND refund_next_at > :far
                    LIMIT :most)""",
)
