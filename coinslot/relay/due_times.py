"""Due times that were set by a clock that ran ahead: they count as due now.

Those further ahead than any delay are looked for all the time. Nearer ones look like a delay: when a relay begins, and
when it notices that the clock was set back, they are found by what else their rows say about the time.

Leases of deliveries need no search: a claim ignores one that is longer than a lease can be
(``coinslot/outbox/deliveries.py``).
"""

import time

from coinslot.base import clock
from coinslot.outbox import destinations
from coinslot.relay import jobs
from coinslot.store.db import Connection

MENDED_AT_ONCE = 500
# Of jobs, payments, refunds of payments and probes: none of their delays is longer than a day.
LONGEST_DELAY_SECONDS = 86400 + 3600.0
NOTICED_SECONDS = 1.0  # time servers set a clock back by less, and slowly


class ClockWatch:
    """Notices that the clock was set back since it was asked last."""

    def __init__(self) -> None:
        self._ahead: float | None = None  # the clock's lead over the one that is never set

    def is_set_back(self) -> bool:
        """True also at the first call: it may have been while nobody looked."""
        before, self._ahead = self._ahead, clock.now() - time.monotonic()
        return before is None or self._ahead < before - NOTICED_SECONDS


def mend(tx: Connection, is_set_back: bool = False) -> bool:
    """Make such times due now, some of each kind; returns whether there may be more.

    A job with a lease longer than any is free again too. ``is_set_back``: look for the nearer ones too.
    """
    now = clock.now()
    values = {
        "now": clock.stamp(now),
        "far": clock.stamp(now + LONGEST_DELAY_SECONDS),
        "lease_end": clock.stamp(now + jobs.LONGEST_LEASE_SECONDS),
        "most": MENDED_AT_ONCE,
    }
    statements = (*_STATEMENTS, *_AFTER_A_SET_BACK) if is_set_back else _STATEMENTS
    changed = [tx.execute(statement, values).rowcount for statement in statements]
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

# What was last touched after now was given its due time by a clock that was wrong.
_AFTER_A_SET_BACK = (
    """UPDATE deliveries SET next_attempt_at = :now
       WHERE id IN (SELECT id FROM deliveries d
                    WHERE destination_id IN (SELECT id FROM destinations) AND state = 'waiting'
                      AND next_attempt_at > :now
                      AND (created_at > :now
                           OR EXISTS (SELECT 1 FROM attempts WHERE delivery_id = d.id AND started_at > :now))
                    LIMIT :most)""",
    "UPDATE schedules SET due_at = :now WHERE due_at > :now AND last_ran_at > :now",
    "UPDATE destinations SET next_probe_at = :now WHERE next_probe_at > :now AND circuit_open_since > :now",
    """UPDATE payments SET next_try_at = :now
       WHERE id IN (SELECT id FROM payments
                    WHERE game_id IN (SELECT id FROM games) AND state = 'waiting' AND next_try_at > :now
                      AND updated_at > :now LIMIT :most)""",
    """UPDATE payments SET refund_next_at = :now
       WHERE id IN (SELECT id FROM payments
                    WHERE game_id IN (SELECT id FROM games) AND refund_state = 'waiting' AND refund_next_at > :now
                      AND updated_at > :now LIMIT :most)""",
)
