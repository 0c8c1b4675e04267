"""The circuit of a destination: whether it is up.

It opens after :data:`FAILURES_TO_OPEN` failures in a row over :data:`DELIVERIES_TO_OPEN` deliveries or more. The
destination then rests: no delivery loses an attempt, one at a time probes, and the first success closes the circuit.
"""

from coinslot.base import clock
from coinslot.store.db import Connection

FAILURES_TO_OPEN = 10
DELIVERIES_TO_OPEN = 3
FIRST_REST_SECONDS = 30
LONGEST_REST_SECONDS = 600
CLOSED = """failures_in_row = 0, failing_deliveries = '', down_since = NULL, circuit_open_since = NULL,
    next_probe_at = NULL"""


def failed(tx: Connection, destination_id: int, delivery_id: int, retry_after_seconds: float | None = None) -> bool:
    """Count an attempt that failed, and open the circuit when there are enough. Returns whether it was open before.

    The rest grows with the time the circuit has been open, and is never shorter than the destination asked for.
    """
    row = tx.execute("SELECT * FROM destinations WHERE id = :id", {"id": destination_id}).fetchone()
    now = clock.now()
    several = [each for each in row["failing_deliveries"].split(",") if each]
    if str(delivery_id) not in several and len(several) < DELIVERIES_TO_OPEN:
        several.append(str(delivery_id))
    failures = row["failures_in_row"] + 1
    was_open = row["circuit_open_since"] is not None
    open_since = clock.seconds(row["circuit_open_since"]) if was_open else now
    next_probe_at = None
    if was_open or (failures >= FAILURES_TO_OPEN and len(several) >= DELIVERIES_TO_OPEN):
        rest = min(max(now - open_since, FIRST_REST_SECONDS), LONGEST_REST_SECONDS)
        next_probe_at = clock.stamp(now + max(rest, retry_after_seconds or 0))
    tx.execute(
        """UPDATE destinations SET failures_in_row = :failures, failing_deliveries = :several,
               down_since = coalesce(down_since, :now), circuit_open_since = :open_since,
               next_probe_at = :next_probe_at
           WHERE id = :id""",
        {
            "id": destination_id,
            "failures": failures,
            "several": ",".join(several),
            "now": clock.stamp(now),
            "open_since": None if next_probe_at is None else clock.stamp(open_since),
            "next_probe_at": next_probe_at,
        },
    )
    return was_open


def succeeded(tx: Connection, destination_id: int) -> str | None:
    """Forget the failures and close the circuit; returns since when the destination was down, None if it was not.

    After a single failure it was not: that may be the delivery's own fault.
    """
    row = tx.execute(
        "SELECT down_since, failures_in_row FROM destinations WHERE id = :id", {"id": destination_id}
    ).fetchone()
    if row["down_since"] is None:
        return None
    close(tx, destination_id)
    return str(row["down_since"]) if row["failures_in_row"] > 1 else None


def close(tx: Connection, destination_id: int) -> None:
    """Send to a destination again as if it had not failed."""
    tx.execute(f"UPDATE destinations SET {CLOSED} WHERE id = :id", {"id": destination_id})  # noqa: S608  our own words


def pause(tx: Connection, destination_id: int, reason: str) -> None:
    """Pause a destination because of its own answer (410)."""
    tx.execute(
        """UPDATE destinations SET state = 'paused', state_reason = :reason, updated_at = :now
           WHERE id = :id AND state = 'active'""",
        {"id": destination_id, "reason": reason, "now": clock.stamp()},
    )
