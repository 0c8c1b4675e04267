"""Troubles: what is wrong in all games, found by a fixed number of statements however many games there are.

A count ends at :data:`MOST` and one, which means "more". ``handlers/kit/trouble_sentences.py`` has the sentences.
"""

from dataclasses import dataclass

from coinslot.base import clock
from coinslot.games.erasure import FORGOTTEN
from coinslot.games.registry import RESERVED_ID
from coinslot.ledger import statuses
from coinslot.outbox import deliveries
from coinslot.store.db import Connection

MOST = 10_000
HOUR_SECONDS = 3600
DAY_SECONDS = 86_400
RECENT_DAYS = 7  # conflicts and the like are troubles for so long; nothing else ends them
ROTATION_DAYS = 7  # after that a rotation should be over
LOOKED_AT = 1000  # of the newest conflicts
LISTED = 100  # destinations, jobs and keys that are troubles one by one
NAMED = 10  # orders, words and addresses that a trouble names
NOTICES = 1000  # the newest that are counted
WRONG_ADDRESSES = 10  # each a trouble, the most called first


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong. ``game`` is a slug, None where it concerns all; ``subject`` is what it is about.

    ``count`` is None where there is nothing to count. ``detail`` says more. ``named`` are the first :data:`NAMED` that
    were counted, each with a detail. All of these texts may be anybody's.
    """

    kind: str
    game: str | None = None
    count: int | None = None
    detail: str = ""
    subject: str = ""
    named: tuple[tuple[str, str], ...] = ()


def find(connection: Connection) -> list[Trouble]:
    """Every trouble the database knows of; empty when all is well."""
    now = clock.now()
    values = {
        "most": MOST + 1,
        "listed": LISTED,
        "looked_at": LOOKED_AT,
        "reserved": RESERVED_ID,
        "forgotten": FORGOTTEN,
        "now": clock.stamp(now),
        "hour_ago": clock.stamp(now - HOUR_SECONDS),
        "day_ago": clock.stamp(now - DAY_SECONDS),
        "recently": clock.stamp(now - RECENT_DAYS * DAY_SECONDS),
        "rotation_began": clock.stamp(now - ROTATION_DAYS * DAY_SECONDS),
        "oldest_beat": clock.stamp(now - deliveries.OLDEST_BEAT_SECONDS),
        "newest_beat": clock.stamp(now + deliveries.OLDEST_BEAT_SECONDS),
    }
    rows = connection.execute(f"{_ONE_BY_ONE} UNION ALL {_COUNTED}", values)
    found = [Trouble(row["kind"], row["game"], row["count"], row["detail"] or "", row["subject"] or "") for row in rows]
    return found + _noticed(connection, values["recently"])


def _noticed(connection: Connection, recently: object) -> list[Trouble]:
    """A trouble for each called address that does not exist, and for each kind of notices of a partner."""
    rows = connection.execute(
        _NOTICED, {"recently": recently, "notices": NOTICES + 1, "wrong_addresses": WRONG_ADDRESSES}
    ).fetchall()
    found = []
    grouped: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for row in rows:
        if row["kind"] == "no_address":
            found.append(Trouble("no_address", row["game"], row["count"], row["detail"], row["partner"]))
        elif row["kind"] != "unknown_status" or not _is_listed(row["subject"], row["completed"], row["failed"]):
            grouped.setdefault((row["kind"], row["game"], row["partner"]), []).append((row["subject"], row["detail"]))
    for (kind, game, partner), named in grouped.items():
        found.append(Trouble(kind, game, len(named), "", partner, tuple(named[:NAMED])))
    return found


def _is_listed(word: str, completed: str | None, failed: str | None) -> bool:
    """Whether the owner's lists say by now what a status means; None: a list has its default."""
    return (
        statuses.meaning(
            word, statuses.COMPLETED if completed is None else completed, statuses.FAILED if failed is None else failed
        )
        is not None
    )


# One trouble per row, from tables of few rows.
_ONE_BY_ONE = """
    SELECT 'no_password' AS kind, NULL AS game, CAST(NULL AS INTEGER) AS count, NULL AS detail, NULL AS subject
    WHERE NOT EXISTS (SELECT 1 FROM installation WHERE name = 'owner.password_hash')
    UNION ALL
    SELECT 'no_relay', NULL, NULL, (SELECT beat_at FROM heartbeats WHERE name = 'relay'), NULL
    WHERE EXISTS (SELECT 1 FROM destinations WHERE state = 'active')
      AND NOT EXISTS (SELECT 1 FROM heartbeats WHERE name = 'relay' AND beat_at BETWEEN :oldest_beat AND :newest_beat)
    UNION ALL
    SELECT * FROM (
        SELECT 'down', g.slug, NULL, d.down_since, d.name
        FROM destinations d JOIN games g ON g.id = d.game_id
        WHERE d.state = 'active' AND d.circuit_open_since IS NOT NULL ORDER BY g.slug, d.name LIMIT :listed) down
    UNION ALL
    SELECT * FROM (
        SELECT 'paused', g.slug, NULL, d.state_reason, d.name
        FROM destinations d JOIN games g ON g.id = d.game_id
        WHERE d.state = 'paused' AND d.state_reason IS NOT NULL ORDER BY g.slug, d.name LIMIT :listed) paused
    UNION ALL
    SELECT * FROM (
        SELECT CASE WHEN s.failures > 0 THEN 'job' ELSE 'late_job' END, g.slug, s.failures, s.last_error, s.name
        FROM schedules s JOIN games g ON g.id = s.game_id
        WHERE s.failures > 0 OR s.due_at < :hour_ago ORDER BY g.slug, s.name LIMIT :listed) jobs
    UNION ALL
    SELECT * FROM (
        SELECT 'job_warning', g.slug, NULL, s.warning, s.name
        FROM schedules s JOIN games g ON g.id = s.game_id
        WHERE s.warning IS NOT NULL ORDER BY g.slug, s.name LIMIT :listed) warnings
    UNION ALL
    SELECT * FROM (
        SELECT 'rotation', g.slug, NULL, c.created_at, c.name
        FROM secrets c JOIN secrets p ON p.game_id = c.game_id AND p.name = c.name AND p.slot = 'previous'
        JOIN games g ON g.id = c.game_id
        WHERE c.slot = 'current' AND c.created_at < :rotation_began ORDER BY g.slug, c.name LIMIT :listed) rotations
    UNION ALL
    SELECT * FROM (
        SELECT 'old_token', g.slug, NULL, max(r.replaced_at), NULL
        FROM replaced_tokens r JOIN games g ON g.id = r.game_id
        GROUP BY g.slug HAVING max(r.replaced_at) < :rotation_began ORDER BY g.slug LIMIT :listed) tokens
    UNION ALL
    SELECT * FROM (
        SELECT 'refused', g.slug, count(*), r.reason, r.partner
        FROM refusals r JOIN games g ON g.id = r.game_id
        WHERE r.created_at > :day_ago AND r.is_simulated = 0 AND r.reason IN ('signature', 'timestamp')
        GROUP BY g.slug, r.partner, r.reason ORDER BY g.slug, r.partner, r.reason LIMIT :listed) refused
    UNION ALL
    SELECT 'no_players', g.slug, NULL, NULL, NULL FROM games g
    WHERE NOT EXISTS (SELECT 1 FROM players WHERE game_id = g.id)
      AND NOT EXISTS (SELECT 1 FROM settings WHERE game_id = g.id AND key = 'players.unknown' AND value <> 'reject')
    UNION ALL
    SELECT 'no_items', g.slug, NULL, NULL, NULL FROM games g
    WHERE NOT EXISTS (SELECT 1 FROM items WHERE game_id = g.id)
      AND NOT EXISTS (SELECT 1 FROM settings WHERE game_id = g.id AND key = 'items.unknown' AND value <> 'reject')
"""

# Kind -> the rows that count for it, of one game: each by an index, and no further than :most.
_ROWS = {
    "dead": """SELECT 1 FROM destinations t JOIN deliveries d ON d.destination_id = t.id AND d.state = 'dead'
        WHERE t.game_id = g.id AND t.state <> 'removed' AND (d.dead_reason IS NULL OR d.dead_reason <> :forgotten)""",
    "overdue": """SELECT 1 FROM destinations t JOIN deliveries d
        ON d.destination_id = t.id AND d.state = 'waiting' AND d.next_attempt_at < :hour_ago
        WHERE t.game_id = g.id AND t.state = 'active' AND t.circuit_open_since IS NULL
          AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.id = d.waits_for AND o.state = 'waiting')""",
    "conflicts": """SELECT 1 FROM (
            SELECT player_id, last_at FROM conflicts WHERE game_id = g.id ORDER BY id DESC LIMIT :looked_at) newest
        WHERE last_at >= :recently AND player_id <> :reserved""",
    "refunds_ambiguous": """SELECT 1 FROM refunds
        WHERE game_id = g.id AND outcome IN ('ambiguous', 'waiting') AND outcome = 'ambiguous' AND is_test = 0""",
    "refunds_waiting": """SELECT 1 FROM refunds
        WHERE game_id = g.id AND outcome IN ('ambiguous', 'waiting') AND outcome = 'waiting' AND is_test = 0
          AND created_at < :day_ago""",
    "payments_parked": "SELECT 1 FROM payments WHERE game_id = g.id AND state = 'parked'",
    "payments_waiting": """SELECT 1 FROM (
            SELECT coalesce(waits_since, created_at) AS since FROM payments
            WHERE game_id = g.id AND state = 'waiting' ORDER BY id LIMIT :most) sends WHERE since < :day_ago
        UNION ALL SELECT 1 FROM (
            SELECT coalesce(waits_since, refunded_at) AS since FROM payments
            WHERE game_id = g.id AND refund_state = 'waiting' AND state = 'registered'
            ORDER BY refund_next_at LIMIT :most) refunds WHERE since < :day_ago""",
    "payments_quarantined": "SELECT 1 FROM payments WHERE game_id = g.id AND state = 'quarantined'",
    "payment_refunds": "SELECT 1 FROM payments WHERE game_id = g.id AND refund_state = 'quarantined'",
    "conversions": """SELECT 1 FROM (
            SELECT state FROM conversions WHERE game_id = g.id AND state <> 'converted'
            ORDER BY id LIMIT :most) unconverted WHERE state = 'parked'""",
}
_OF_GAMES = "\n        UNION ALL ".join(
    f"""SELECT '{kind}' AS kind, g.slug AS game, (SELECT count(*) FROM ({rows} LIMIT :most) found) AS count,
               NULL AS detail, NULL AS subject FROM games g"""  # noqa: S608  our own words only
    for kind, rows in _ROWS.items()
)
_COUNTED = f"""
    SELECT * FROM (
        {_OF_GAMES}
        UNION ALL
        SELECT 'payment_conflicts', g.slug, count(*), NULL, NULL
        FROM (SELECT payment_id, last_at FROM payment_conflicts ORDER BY id DESC LIMIT :looked_at) c
        CROSS JOIN /* hint */ payments p ON p.id = c.payment_id CROSS JOIN /* hint */ games g ON g.id = p.game_id
        WHERE c.last_at >= :recently GROUP BY g.slug) counted
    WHERE count > 0
"""  # noqa: S608  our own words only

# Notices, the newest first. Some end by themselves: the word is in a list, the order is credited, one of the two
# transactions is reversed. The others end after :recently.
_NOTICED = """
    SELECT * FROM (
        SELECT 'no_address' AS kind, g.slug AS game, r.partner AS partner, '' AS subject, r.path AS detail,
               count(*) AS count, NULL AS completed, NULL AS failed
        FROM refusals r LEFT JOIN games g ON g.id = r.game_id
        WHERE r.created_at > :recently AND r.is_simulated = 0 AND r.reason = 'no_address'
        GROUP BY g.slug, r.partner, r.path ORDER BY count(*) DESC, r.path LIMIT :wrong_addresses) a
    UNION ALL
    SELECT * FROM (
        SELECT n.kind AS kind, g.slug AS game, n.partner AS partner, n.subject AS subject, n.detail AS detail,
               n.seen AS count,
               (SELECT s.value FROM settings s
                WHERE s.game_id = n.game_id AND s.key = n.partner || '.completed_statuses') AS completed,
               (SELECT s.value FROM settings s
                WHERE s.game_id = n.game_id AND s.key = n.partner || '.failed_statuses') AS failed
        FROM (SELECT * FROM (
                  SELECT * FROM notices WHERE kind IN ('unknown_status', 'misplaced_order', 'credited_twice')
                  ORDER BY last_at DESC LIMIT :notices) o
              UNION ALL
              SELECT * FROM (
                  SELECT * FROM notices WHERE kind IN ('empty_order', 'unnamed_event', 'partial_refund', 'replayed')
                    AND last_at > :recently ORDER BY last_at DESC LIMIT :notices) l) n
        JOIN games g ON g.id = n.game_id
        WHERE n.kind = 'unknown_status'
           OR (n.kind = 'misplaced_order' AND NOT EXISTS (
                   SELECT 1 FROM transactions t
                   WHERE t.game_id = n.game_id AND t.partner = n.partner
                     AND t.external_id IN (n.subject, 'payment:' || n.subject, 'external:' || n.subject))
               AND NOT EXISTS (
                   SELECT 1 FROM transaction_keys k
                   WHERE k.game_id = n.game_id AND k.partner = n.partner AND k.kind = 'alias' AND k.value = n.subject))
           OR (n.kind = 'credited_twice' AND NOT EXISTS (
                   SELECT 1 FROM grants r
                   WHERE r.transaction_id IN (n.transaction_id, n.other_id) AND r.kind = 'reversal'))
           OR n.kind IN ('empty_order', 'unnamed_event', 'partial_refund', 'replayed')
        ORDER BY n.last_at DESC) b
"""
