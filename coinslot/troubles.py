"""What is wrong, in all games at once: each trouble with how many it is of, in one statement however many games.

Counts end at :data:`MOST`: one more says "more than that". The words, and the link that mends it, are the pages'.
"""

import sqlite3
from dataclasses import dataclass

from coinslot import clock, outbox
from coinslot.registry import RESERVED_ID

MOST = 10_000
HOUR_SECONDS = 3600
DAY_SECONDS = 86_400
RECENT_DAYS = 7  # conflicts are told for so long: nothing settles them but a look
ROTATION_DAYS = 7  # after that a rotation should be over
LOOKED_AT = 1000  # of the newest conflicts
LISTED = 100  # destinations, jobs and keys that are told one by one


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong. ``game`` is a slug, None where it concerns all; ``subject`` is what it is about.

    ``count`` is None where there is nothing to count. ``detail`` says more, in the words of whoever failed: it may be
    anybody's text.
    """

    kind: str
    game: str | None = None
    count: int | None = None
    detail: str = ""
    subject: str = ""


def find(connection: sqlite3.Connection) -> list[Trouble]:
    """Every trouble the database knows of; empty when all is well."""
    now = clock.now()
    values = {
        "most": MOST + 1,
        "listed": LISTED,
        "looked_at": LOOKED_AT,
        "reserved": RESERVED_ID,
        "now": clock.stamp(now),
        "hour_ago": clock.stamp(now - HOUR_SECONDS),
        "day_ago": clock.stamp(now - DAY_SECONDS),
        "recently": clock.stamp(now - RECENT_DAYS * DAY_SECONDS),
        "rotation_began": clock.stamp(now - ROTATION_DAYS * DAY_SECONDS),
        "oldest_beat": clock.stamp(now - outbox.OLDEST_BEAT_SECONDS),
        "newest_beat": clock.stamp(now + outbox.OLDEST_BEAT_SECONDS),
    }
    rows = connection.execute(f"{_ONE_BY_ONE} UNION ALL {_COUNTED}", values)
    return [Trouble(row["kind"], row["game"], row["count"], row["detail"] or "", row["subject"] or "") for row in rows]


# What is told one by one: tables of a few rows each.
_ONE_BY_ONE = """
    SELECT 'no_password' AS kind, NULL AS game, NULL AS count, NULL AS detail, NULL AS subject
    WHERE NOT EXISTS (SELECT 1 FROM installation WHERE name = 'owner.password_hash')
    UNION ALL
    SELECT 'no_relay', NULL, NULL, (SELECT beat_at FROM heartbeats WHERE name = 'relay'), NULL
    WHERE EXISTS (SELECT 1 FROM destinations WHERE state = 'active')
      AND NOT EXISTS (SELECT 1 FROM heartbeats WHERE name = 'relay' AND beat_at BETWEEN :oldest_beat AND :newest_beat)
    UNION ALL
    SELECT * FROM (
        SELECT 'down', g.slug, NULL, d.down_since, d.name
        FROM destinations d JOIN games g ON g.id = d.game_id
        WHERE d.state = 'active' AND d.circuit_open_since IS NOT NULL ORDER BY g.slug, d.name LIMIT :listed)
    UNION ALL
    SELECT * FROM (
        SELECT 'paused', g.slug, NULL, d.state_reason, d.name
        FROM destinations d JOIN games g ON g.id = d.game_id
        WHERE d.state = 'paused' AND d.state_reason IS NOT NULL ORDER BY g.slug, d.name LIMIT :listed)
    UNION ALL
    SELECT * FROM (
        SELECT CASE WHEN s.failures > 0 THEN 'job' ELSE 'late_job' END, g.slug, s.failures, s.last_error, s.name
        FROM schedules s JOIN games g ON g.id = s.game_id
        WHERE s.failures > 0 OR s.due_at < :hour_ago ORDER BY g.slug, s.name LIMIT :listed)
    UNION ALL
    SELECT * FROM (
        SELECT 'rotation', g.slug, NULL, c.created_at, c.name
        FROM secrets c JOIN secrets p ON p.game_id = c.game_id AND p.name = c.name AND p.slot = 'previous'
        JOIN games g ON g.id = c.game_id
        WHERE c.slot = 'current' AND c.created_at < :rotation_began ORDER BY g.slug, c.name LIMIT :listed)
    UNION ALL
    SELECT * FROM (
        SELECT 'old_token', g.slug, NULL, max(r.replaced_at), NULL
        FROM replaced_tokens r JOIN games g ON g.id = r.game_id
        GROUP BY g.slug HAVING max(r.replaced_at) < :rotation_began ORDER BY g.slug LIMIT :listed)
    UNION ALL
    SELECT * FROM (
        SELECT 'refused', g.slug, count(*), r.reason, r.partner
        FROM refusals r JOIN games g ON g.id = r.game_id
        WHERE r.created_at > :day_ago AND r.is_simulated = 0 AND r.reason IN ('signature', 'timestamp')
        GROUP BY g.slug, r.partner, r.reason ORDER BY g.slug, r.partner, r.reason LIMIT :listed)
    UNION ALL
    SELECT 'no_players', g.slug, NULL, NULL, NULL FROM games g
    WHERE NOT EXISTS (SELECT 1 FROM players WHERE game_id = g.id)
      AND NOT EXISTS (SELECT 1 FROM settings WHERE game_id = g.id AND key = 'players.unknown' AND value <> 'reject')
    UNION ALL
    SELECT 'no_items', g.slug, NULL, NULL, NULL FROM games g
    WHERE NOT EXISTS (SELECT 1 FROM items WHERE game_id = g.id)
      AND NOT EXISTS (SELECT 1 FROM settings WHERE game_id = g.id AND key = 'items.unknown' AND value <> 'reject')
"""

# What is counted per game, each by an index and no further than :most.
_COUNTED = """
    SELECT * FROM (
        SELECT 'dead' AS kind, g.slug AS game,
               (SELECT count(*) FROM (
                    SELECT 1 FROM destinations t JOIN deliveries d ON d.destination_id = t.id AND d.state = 'dead'
                    WHERE t.game_id = g.id AND t.state <> 'removed' LIMIT :most)) AS count,
               NULL AS detail, NULL AS subject
        FROM games g
        UNION ALL
        SELECT 'overdue', g.slug,
               (SELECT count(*) FROM (
                    SELECT 1 FROM destinations t JOIN deliveries d
                    ON d.destination_id = t.id AND d.state = 'waiting' AND d.next_attempt_at < :hour_ago
                    WHERE t.game_id = g.id AND t.state = 'active' AND t.circuit_open_since IS NULL
                      AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.id = d.waits_for AND o.state = 'waiting')
                    LIMIT :most)), NULL, NULL
        FROM games g
        UNION ALL
        SELECT 'conflicts', g.slug,
               (SELECT count(*) FROM (
                    SELECT player_id, last_at FROM conflicts WHERE game_id = g.id ORDER BY id DESC LIMIT :looked_at)
                WHERE last_at >= :recently AND player_id <> :reserved), NULL, NULL
        FROM games g
        UNION ALL
        SELECT 'payment_conflicts', g.slug, count(*), NULL, NULL
        FROM (SELECT payment_id, last_at FROM payment_conflicts ORDER BY id DESC LIMIT :looked_at) c
        CROSS JOIN payments p ON p.id = c.payment_id CROSS JOIN games g ON g.id = p.game_id
        WHERE c.last_at >= :recently GROUP BY g.slug
        UNION ALL
        SELECT 'refunds_ambiguous', g.slug,
               (SELECT count(*) FROM (
                    SELECT 1 FROM refunds
                    WHERE game_id = g.id AND outcome IN ('ambiguous', 'waiting') AND outcome = 'ambiguous'
                      AND is_test = 0 LIMIT :most)), NULL, NULL
        FROM games g
        UNION ALL
        SELECT 'refunds_waiting', g.slug,
               (SELECT count(*) FROM (
                    SELECT 1 FROM refunds
                    WHERE game_id = g.id AND outcome IN ('ambiguous', 'waiting') AND outcome = 'waiting'
                      AND is_test = 0 AND created_at < :day_ago LIMIT :most)), NULL, NULL
        FROM games g
        UNION ALL
        SELECT 'payments_parked', g.slug,
               (SELECT count(*) FROM (
                    SELECT 1 FROM payments WHERE game_id = g.id AND state = 'parked' LIMIT :most)), NULL, NULL
        FROM games g
        UNION ALL
        SELECT 'payments_quarantined', g.slug,
               (SELECT count(*) FROM (
                    SELECT 1 FROM payments WHERE game_id = g.id AND state = 'quarantined' LIMIT :most)), NULL, NULL
        FROM games g
        UNION ALL
        SELECT 'payment_refunds', g.slug,
               (SELECT count(*) FROM (
                    SELECT 1 FROM payments WHERE game_id = g.id AND refund_state = 'quarantined' LIMIT :most)),
               NULL, NULL
        FROM games g
        UNION ALL
        SELECT 'conversions', g.slug,
               (SELECT count(*) FROM (
                    SELECT state FROM conversions WHERE game_id = g.id AND state <> 'converted'
                    ORDER BY id LIMIT :most) WHERE state = 'parked'), NULL, NULL
        FROM games g)
    WHERE count > 0
"""
