"""Deliveries as their owner looks at them: lists a page at a time, one with its attempts, and counts.

Nothing here changes any.
"""

from collections.abc import Sequence

from coinslot.outbox.deliveries import STATES
from coinslot.store.db import Connection, Row
from coinslot.store.paging import LAST_ID, Listed, cut

COUNTED_TO = 10_000  # a longer queue is counted no further
LOOKED_THROUGH = 2000  # deliveries of a state, for those a filter leaves over: what one page of a list may cost

# The newest deliveries of each state that is asked for, below an id. ``CASE`` makes a state not asked for cost nothing.
_LOOKED_THROUGH = "looked_through AS ({})".format(
    " UNION ALL ".join(
        f"""SELECT * FROM (SELECT id, state, destination_id, event_type FROM deliveries
                   WHERE game_id = :game_id AND state = '{state}' AND id < :before
                   ORDER BY id DESC LIMIT CASE :{state} WHEN 1 THEN :looked_through ELSE 0 END) of_{state}"""  # noqa: S608
        for state in STATES
    )
)
# How the last attempt of a delivery ``d`` ended: ``ok``, why it failed, or NULL.
_LAST_ATTEMPT = """(SELECT coalesce(a.failure, 'ok') FROM attempts a
                    WHERE a.delivery_id = d.id AND a.duration_ms IS NOT NULL ORDER BY a.id DESC LIMIT 1)
                    AS last_attempt"""


def page(
    connection: Connection,
    game_id: int,
    *,
    states: Sequence[str] = STATES,
    destination: str | None = None,
    event_type: str | None = None,
    before: int = LAST_ID,
    limit: int = 50,
) -> Listed:
    """Deliveries with an id below ``before``, newest first, and the ``before`` of the page after, None on the last.

    A filter is looked for among :data:`LOOKED_THROUGH` deliveries of each state, so that a page may have few, or none,
    and still not be the last.
    """
    is_filtered = destination is not None or event_type is not None
    values = {
        "game_id": game_id,
        "destination": destination,
        "event_type": event_type,
        "before": before,
        "limit": limit + 1,
        "looked_through": LOOKED_THROUGH if is_filtered else limit + 1,
    } | {state: int(state in states) for state in STATES}
    (seen_to,) = connection.execute(
        f"""WITH {_LOOKED_THROUGH}
            SELECT max(lowest)
            FROM (SELECT min(id) AS lowest, count(*) AS found FROM looked_through GROUP BY state) ends
            WHERE found = :looked_through""",  # noqa: S608  our own words only
        values,
    ).fetchone()
    rows = connection.execute(
        f"""WITH {_LOOKED_THROUGH}
            SELECT d.id, d.state, d.event_type, d.grant_id, d.event_id, d.attempts_made, d.next_attempt_at,
                   d.leased_until, d.dead_reason, d.created_at, d.finished_at, d.webhook_id, d.waits_for,
                   t.name AS destination, t.state AS destination_state, t.circuit_open_since, t.next_probe_at,
                   x.public_id, coalesce(g.player_id, e.player_id) AS player_id,
                   {_LAST_ATTEMPT}
            FROM (SELECT l.id FROM looked_through l JOIN destinations t ON t.id = l.destination_id
                  WHERE l.id >= :seen_to AND (CAST(:destination AS TEXT) IS NULL OR t.name = :destination)
                    AND (CAST(:event_type AS TEXT) IS NULL OR l.event_type = :event_type)
                  ORDER BY l.id DESC LIMIT :limit) wanted
            JOIN deliveries d ON d.id = wanted.id JOIN destinations t ON t.id = d.destination_id
            LEFT JOIN grants g ON g.id = d.grant_id LEFT JOIN transactions x ON x.id = g.transaction_id
            LEFT JOIN events e ON e.id = d.event_id ORDER BY d.id DESC""",  # noqa: S608  our own words only
        {**values, "seen_to": seen_to or 0},
    ).fetchall()
    rows, following = cut(rows, limit)
    return rows, following or seen_to


def find(connection: Connection, game_id: int, delivery_id: int) -> Row | None:
    """A delivery of the game with the transaction or event it carries; None when there is none."""
    row: Row | None = connection.execute(
        """SELECT d.*, x.public_id, x.partner, x.reference, e.type AS fact_type, e.partner AS event_partner,
                  coalesce(g.player_id, e.player_id) AS of_player, o.state AS waits_for_state
           FROM deliveries d LEFT JOIN grants g ON g.id = d.grant_id LEFT JOIN transactions x ON x.id = g.transaction_id
           LEFT JOIN events e ON e.id = d.event_id LEFT JOIN deliveries o ON o.id = d.waits_for
           WHERE d.id = :id AND d.game_id = :game_id""",
        {"id": delivery_id, "game_id": game_id},
    ).fetchone()
    return row


def attempts(connection: Connection, delivery_id: int, limit: int) -> list[Row]:
    """The attempts of a delivery, the newest first."""
    return connection.execute(
        "SELECT * FROM attempts WHERE delivery_id = :id ORDER BY id DESC LIMIT :limit",
        {"id": delivery_id, "limit": limit},
    ).fetchall()


def queues(connection: Connection) -> dict[int, dict[str, int]]:
    """Game -> how many deliveries wait and are dead now; a count ends at :data:`COUNTED_TO` and one."""
    rows = connection.execute(
        """SELECT g.id,
                  (SELECT count(*) FROM (SELECT 1 FROM deliveries
                                         WHERE game_id = g.id AND state = 'waiting' LIMIT :most) w) AS waiting,
                  (SELECT count(*) FROM (SELECT 1 FROM deliveries
                                         WHERE game_id = g.id AND state = 'dead' LIMIT :most) d) AS dead
           FROM games g""",
        {"most": COUNTED_TO + 1},
    )
    return {row["id"]: {"waiting": row["waiting"], "dead": row["dead"]} for row in rows}


def listing(connection: Connection, game_id: int, state: str | None = None, limit: int = 100) -> list[Row]:
    """The newest deliveries, with where they go and how their last attempt went."""
    return connection.execute(
        f"""SELECT d.id, d.state, d.event_type, d.grant_id, d.event_id, d.attempts_made, d.next_attempt_at,
                  d.dead_reason, d.created_at, d.finished_at, d.webhook_id, t.name AS destination,
                  t.state AS destination_state, t.circuit_open_since, {_LAST_ATTEMPT}
           FROM deliveries d JOIN destinations t ON t.id = d.destination_id
           WHERE d.game_id = :game_id AND (CAST(:state AS TEXT) IS NULL OR d.state = :state)
           ORDER BY d.id DESC LIMIT :limit""",  # noqa: S608  our own words only
        {"game_id": game_id, "state": state, "limit": limit},
    ).fetchall()


def of_event(connection: Connection, game_id: int, event_id: int) -> list[Row]:
    """The deliveries of an event: ``destination``, ``state`` and ``last_attempt``: ``ok``, why it failed, or None."""
    return connection.execute(
        f"""SELECT t.name AS destination, d.state, {_LAST_ATTEMPT}
           FROM deliveries d JOIN destinations t ON t.id = d.destination_id
           WHERE d.event_id = :event_id AND d.game_id = :game_id ORDER BY d.id""",  # noqa: S608  likewise
        {"game_id": game_id, "event_id": event_id},
    ).fetchall()


def last_answer(connection: Connection, destination_id: int) -> bytes | None:
    """The beginning of the last answer of a destination to a delivery that has ended; None where there is none."""
    row = connection.execute(
        """SELECT a.answer FROM attempts a WHERE a.answer IS NOT NULL AND a.delivery_id IN (
               SELECT id FROM (SELECT id FROM deliveries WHERE destination_id = :id AND state = 'delivered'
                                 AND finished_at IS NOT NULL
                               ORDER BY finished_at DESC LIMIT 3) delivered
               UNION ALL
               SELECT id FROM (SELECT id FROM deliveries WHERE destination_id = :id AND state = 'dead'
                                 AND finished_at IS NOT NULL
                               ORDER BY finished_at DESC LIMIT 3) dead)
           ORDER BY a.id DESC LIMIT 1""",
        {"id": destination_id},
    ).fetchone()
    return None if row is None else bytes(row["answer"])
