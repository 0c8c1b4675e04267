"""What is wrong in all games, found by a fixed number of statements however many games there are.

A count ends at :data:`MOST` and one, which means "more". ``handlers/kit/trouble_sentences.py`` has the sentences.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import NamedTuple

from coinslot.access.rotation import ROTATION_DAYS, advice
from coinslot.base import clock
from coinslot.base.money import in_minor
from coinslot.games.erasure import FORGOTTEN
from coinslot.games.registry import RESERVED_ID
from coinslot.ledger import refund_requests, statuses
from coinslot.operations import feeds, proofs, stakes
from coinslot.outbox import deliveries
from coinslot.store.db import Connection, Row

MOST = 10_000
HOUR_SECONDS = 3600
DAY_SECONDS = 86_400
RECENT_DAYS = 7  # what has no money at stake is a trouble for so long; nothing else ends it
STAKES_LOOKED_AT = 1000  # deliveries or payments whose money is summed
LOOKED_AT = 1000  # of the newest conflicts
PROOF_HOURS = 6  # that a proof which has begun may take before it is missed
LISTED = 100  # destinations, jobs and keys that are troubles one by one
NAMED = 10  # orders, words and addresses that a trouble names
NOTICES = 1000  # the newest that are counted
WRONG_ADDRESSES = 10  # each a trouble, the most called first
# Calls that proved nothing: from where calls have proved themselves before; since when none has; while others do.
UNPROVED = ("refused_known", "refused_all", "refused_some")


class Dates(NamedTuple):
    """The dates of one value of a secret."""

    name: str
    slot: str
    created_at: str
    last_used_at: str | None


@dataclass(frozen=True)
class Found:
    """Something wrong. ``game`` is a slug, None where it concerns all; ``subject`` is what it is about.

    ``count`` is None where there is nothing to count. ``detail`` says more. ``named`` are the first :data:`NAMED` that
    were counted, each with a detail. ``since`` and ``latest`` are stamps. ``stake`` is money by currency, in minor
    units. All of these texts may be anybody's.
    """

    kind: str
    game: str | None = None
    count: int | None = None
    detail: str = ""
    subject: str = ""
    named: tuple[tuple[str, str], ...] = ()
    since: str | None = None
    latest: str | None = None
    stake: Mapping[str, int | Decimal] = field(default_factory=dict)
    endpoint: str = ""  # of a refused call, ``detail`` is then the reason; of an address without calls
    usual_seconds: int | None = None  # of an address, or of a game's reading
    is_test: bool = False
    is_question: bool = False  # of a refused call: it reported nothing, and asked something

    @property
    def key(self) -> str:
        """What names it as long as it lasts."""
        if self.kind == "refused_order":
            test = "test." if self.is_test else ""
            return f"refused:{self.game}:{test}{self.subject}.{self.endpoint}:{self.detail}"
        about = f"{self.subject}.{self.detail}" if self.kind in (*UNPROVED, "no_address") else self.subject
        about += f".{self.endpoint}" if self.kind == "silence" else ""
        kind = "unproved" if self.kind in UNPROVED else self.kind
        return ":".join(filter(None, (kind, self.game, "".join(about.split()))))


@dataclass(frozen=True)
class State:
    """What the database knows, found at one time.

    ``facts`` are those of the installation, name -> value; ``asides`` the troubles that were set aside, key -> when;
    ``job_errors`` what failed, game -> job -> error; ``newest`` is the stamp of the newest transaction.
    """

    found: list[Found]
    facts: Mapping[str, str]
    asides: Mapping[str, str]
    job_errors: Mapping[str, Mapping[str, str]]
    newest: str | None


def find(connection: Connection) -> State:
    """Every trouble the database knows of, and what the checks of the machine ask it, in three statements at most."""
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
        "two_days_ago": clock.stamp(now - 2 * DAY_SECONDS),
        "hours_ago": clock.stamp(now - PROOF_HOURS * HOUR_SECONDS),
        "recently": clock.stamp(now - RECENT_DAYS * DAY_SECONDS),
        "rotation_began": clock.stamp(now - ROTATION_DAYS * DAY_SECONDS),
        "oldest_beat": clock.stamp(now - deliveries.OLDEST_BEAT_SECONDS),
        "newest_beat": clock.stamp(now + deliveries.OLDEST_BEAT_SECONDS),
        **feeds.bounds(now),
        **refund_requests.bounds(now),
    }
    rows = connection.execute(
        f"{_ONE_BY_ONE} UNION ALL {proofs.TROUBLES} UNION ALL {_COUNTED} UNION ALL {feeds.UNTAKEN}", values
    ).fetchall()
    by_kind = {"unread": _untaken(row for row in rows if row["kind"] == "unread")}
    for row in (row for row in rows if row["kind"] != "unread"):
        kind, game, count, detail, subject, since, latest = row
        if kind in COUNTED:
            figure, since, latest = detail.split(" ")
            count, detail = int(figure), ""
        each = Found(kind, game, count, detail or "", subject or "", since=since or None, latest=latest or None)
        by_kind.setdefault(kind, []).append(each)
    (newest,), facts, aside, secrets = (by_kind.pop(kind, []) for kind in ("newest", "fact", "aside", "secret"))
    errors: dict[str, dict[str, str]] = {}
    for job in by_kind.get("job", []):
        errors.setdefault(job.game or "", {})[job.subject] = job.detail
    found = [each for group in by_kind.values() for each in group]
    if any(kind in stakes.STATEMENTS for kind in by_kind):
        found = _with_stakes(connection, found, values)
    return State(
        found + _keys(secrets, now) + _reported(connection, values),
        facts={each.subject: each.detail for each in facts},
        asides={each.subject: each.since or "" for each in aside},
        job_errors=errors,
        newest=newest.since,
    )


def _untaken(rows: Iterable[Row]) -> list[Found]:
    """The games that have not taken their grants. ``detail`` is when they last read, empty: never."""
    return [
        Found(
            *("unread", each.game, each.count, each.read_at or ""),
            since=each.since,
            latest=each.latest,
            stake=each.money,
            usual_seconds=each.usual_seconds,
        )
        for each in feeds.find(rows)
    ]


def refused_ids(connection: Connection, key: str) -> list[int]:
    """The open refused calls that are the trouble of this key."""
    rows = connection.execute(_OPEN, {"most": MOST + 1, "day_ago": ""}).fetchall()
    return [row["id"] for row in rows if _found_of("refused_order", [row]).key == key]


def _keys(values: Iterable[Found], now: float) -> list[Found]:
    """A trouble for each secret that is due to be replaced, and for each rotation that is due to be ended.

    ``values`` are those of the secrets: ``subject`` is the name and ``latest`` the slot.
    """
    of_games: dict[str, list[Found]] = {}
    for value in values:
        of_games.setdefault(value.game or "", []).append(value)
    found = []
    for game, of_game in of_games.items():
        created = {each.subject: each.since for each in of_game if each.latest == "current"}
        dates = [Dates(each.subject, each.latest or "", each.since or "", each.detail or None) for each in of_game]
        for name, advices in advice(dates, now).items():
            for each in advices:
                kind = "old_key" if each.step == "rotate" else "rotation"
                found += [Found(kind, game, None, each.sentence, name, since=created[name])] if each.is_due else []
    return found


def _reported(connection: Connection, values: Mapping[str, object]) -> list[Found]:
    """A trouble for each game, address and reason of the refused calls that had proved themselves and are open, for
    each called address that does not exist, and for each kind of notices of a partner.
    """
    grouped: dict[tuple[object, ...], list[Row]] = {}
    for row in connection.execute(
        f"{_OPEN} UNION ALL {_NOTICED}", {**values, "notices": NOTICES + 1, "wrong_addresses": WRONG_ADDRESSES}
    ):
        if not _is_failed(row):
            about = (row["endpoint"], row["reason"], row["is_test"])
            grouped.setdefault((row["kind"], row["game"], row["partner"], *about), []).append(row)
    return [_found_of(str(key[0]), rows) for key, rows in grouped.items()]


def _found_of(kind: str, rows: Sequence[Row]) -> Found:
    first = rows[0]
    stake: Counter[str] = Counter()
    for row in rows:
        if row["currency"] is not None and not row["is_test"]:
            stake[row["currency"]] += row["amount_minor"] or 0
    return Found(
        kind=kind,
        game=first["game"],
        # Of a question, and of an address, each time counts; of an order it is still one order.
        count=sum(row["seen"] for row in rows) if first["is_question"] else len(rows),
        detail=first["reason"],
        subject=first["partner"],
        named=tuple((row["reference"], row["detail"]) for row in rows if row["reference"])[:NAMED],
        since=min(row["created_at"] for row in rows),
        latest=max(row["last_at"] for row in rows),
        stake=stake,
        endpoint=first["endpoint"],
        is_test=bool(first["is_test"]),
        is_question=bool(first["is_question"]),
    )


def _is_failed(row: Row) -> bool:
    """Whether the owner's lists say by now that an order with such a status was not paid."""
    lists = [
        default if named is None else named
        for named, default in ((row["completed"], statuses.COMPLETED), (row["failed"], statuses.FAILED))
    ]
    return row["reason"] == "unknown_status" and statuses.meaning(row["detail"], *lists) == statuses.FAILED


def _with_stakes(connection: Connection, found: list[Found], values: Mapping[str, object]) -> list[Found]:
    """The same with the money of grants that were not delivered and of payments that were not registered."""
    money: dict[tuple[str, str], Counter[str]] = {}
    statement = " UNION ALL ".join(
        stakes.STATEMENTS[kind] for kind in dict.fromkeys(e.kind for e in found if e.kind in stakes.STATEMENTS)
    )
    for row in connection.execute(statement, {**values, "most": STAKES_LOOKED_AT}):
        minor = row["minor"]
        if minor is None:  # in-game payments have exact text in major units
            with suppress(ValueError):
                minor = in_minor(Decimal(row["amount"]), row["currency"])
        if minor is not None:
            money.setdefault((row["kind"], row["game"]), Counter())[row["currency"]] += minor
    return [
        replace(each, stake=money.get((each.kind, each.game or ""), {})) if each.kind in stakes.STATEMENTS else each
        for each in found
    ]


# One trouble per row, from tables of few rows.
_ONE_BY_ONE = """
    SELECT 'newest' AS kind, NULL AS game, CAST(NULL AS INTEGER) AS count, NULL AS detail, NULL AS subject,
           (SELECT received_at FROM transactions WHERE id = (SELECT max(id) FROM transactions)) AS since, NULL AS latest
    UNION ALL
    SELECT 'fact', NULL, NULL, value, name, updated_at, NULL FROM installation
    UNION ALL
    SELECT 'aside', NULL, NULL, note, trouble, created_at, NULL FROM asides
    UNION ALL
    SELECT 'secret', g.slug, NULL, s.last_used_at, s.name, s.created_at, s.slot
    FROM secrets s JOIN games g ON g.id = s.game_id
    UNION ALL
    SELECT 'no_game', NULL, NULL, NULL, NULL, NULL, NULL WHERE NOT EXISTS (SELECT 1 FROM games)
    UNION ALL
    SELECT 'no_password', NULL, NULL, NULL, NULL, NULL, NULL
    WHERE NOT EXISTS (SELECT 1 FROM people WHERE role = 'owner' AND password_hash IS NOT NULL)
    UNION ALL
    SELECT 'alert_failed', NULL, failures, last_failure, name, NULL, last_failed_at
    FROM alert_targets WHERE failures > 0
    UNION ALL
    SELECT 'no_alerts', NULL, NULL, NULL, NULL, NULL, NULL WHERE NOT EXISTS (SELECT 1 FROM alert_targets)
    UNION ALL
    SELECT 'heartbeat', NULL, NULL, value, NULL, updated_at, NULL FROM installation WHERE name = 'heartbeat.failure'
    UNION ALL
    SELECT 'no_heartbeat', NULL, NULL, NULL, NULL, NULL, NULL
    WHERE NOT EXISTS (SELECT 1 FROM installation_secrets WHERE name = 'heartbeat.url')
    UNION ALL
    SELECT 'no_relay', NULL, NULL, NULL, NULL, (SELECT beat_at FROM heartbeats WHERE name = 'relay'), NULL
    WHERE EXISTS (SELECT 1 FROM destinations WHERE state = 'active')
      AND NOT EXISTS (SELECT 1 FROM heartbeats WHERE name = 'relay' AND beat_at BETWEEN :oldest_beat AND :newest_beat)
    UNION ALL
    SELECT * FROM (
        SELECT 'down', g.slug, CAST(NULL AS INTEGER), d.down_since, d.name, d.down_since, NULL
        FROM destinations d JOIN games g ON g.id = d.game_id
        WHERE d.state = 'active' AND d.circuit_open_since IS NOT NULL ORDER BY g.slug, d.name LIMIT :listed) down
    UNION ALL
    SELECT * FROM (
        SELECT CASE WHEN d.state_reason IS NULL THEN 'stopped' ELSE 'paused' END, g.slug, CAST(NULL AS INTEGER),
               d.state_reason, d.name, d.updated_at, NULL
        FROM destinations d JOIN games g ON g.id = d.game_id
        WHERE d.state = 'paused' ORDER BY g.slug, d.name LIMIT :listed) paused
    UNION ALL
    SELECT * FROM (
        SELECT CASE WHEN s.failures > 0 THEN 'job' ELSE 'late_job' END, g.slug, s.failures, s.last_error, s.name,
               CASE WHEN s.failures > 0 THEN NULL ELSE s.due_at END, NULL
        FROM schedules s LEFT JOIN games g ON g.id = s.game_id
        WHERE s.failures > 0 OR s.due_at < :hour_ago ORDER BY g.slug NULLS FIRST, s.name LIMIT :listed) jobs
    UNION ALL
    SELECT * FROM (
        SELECT 'job_warning', g.slug, CAST(NULL AS INTEGER), s.warning, s.name, NULL, NULL
        FROM schedules s LEFT JOIN games g ON g.id = s.game_id
        WHERE s.warning IS NOT NULL ORDER BY g.slug NULLS FIRST, s.name LIMIT :listed) warnings
    UNION ALL
    SELECT * FROM (
        SELECT CASE WHEN max(r.replaced_at) < :rotation_began THEN 'old_token' ELSE 'new_token' END, g.slug,
               CAST(NULL AS INTEGER), NULL, NULL, max(r.replaced_at), NULL
        FROM replaced_tokens r JOIN games g ON g.id = r.game_id
        GROUP BY g.slug ORDER BY g.slug LIMIT :listed) tokens
    UNION ALL
    -- Calls that prove nothing and name a game, or come from where calls have proved themselves before.
    SELECT * FROM (
        SELECT CASE WHEN max(CASE WHEN c.remote_address IS NULL THEN 0 ELSE 1 END) = 1 THEN 'refused_known'
                    WHEN max(CASE WHEN a.proved_at > r.created_at THEN 1 ELSE 0 END) = 0 THEN 'refused_all'
                    ELSE 'refused_some' END, g.slug, count(*), r.reason, r.partner,
               min(r.created_at), max(r.created_at)
        FROM refusals r LEFT JOIN games g ON g.id = r.game_id
        LEFT JOIN callers c ON c.partner = r.partner AND c.remote_address = r.remote_address
        LEFT JOIN contacts a ON a.game_id = r.game_id AND a.partner = r.partner AND a.endpoint = r.endpoint
        WHERE r.state IS NULL AND r.created_at > :day_ago AND r.is_simulated = 0
          AND r.reason IN ('signature', 'token', 'project', 'encryption', 'app_id', 'unknown_game')
          AND (r.reason <> 'unknown_game' OR c.remote_address IS NOT NULL)
        GROUP BY g.slug, r.partner, r.reason ORDER BY g.slug NULLS FIRST, r.partner, r.reason LIMIT :listed) refused
    UNION ALL
    SELECT 'no_players', g.slug, NULL, NULL, NULL, NULL, NULL FROM games g
    WHERE NOT EXISTS (SELECT 1 FROM players WHERE game_id = g.id)
      AND NOT EXISTS (SELECT 1 FROM settings WHERE game_id = g.id AND key = 'players.unknown' AND value <> 'reject')
    UNION ALL
    SELECT 'no_items', g.slug, NULL, NULL, NULL, NULL, NULL FROM games g
    WHERE NOT EXISTS (SELECT 1 FROM items WHERE game_id = g.id)
      AND NOT EXISTS (SELECT 1 FROM settings WHERE game_id = g.id AND key = 'items.unknown' AND value <> 'reject')
"""

# Kind -> the rows that count for it, of one game, each with its time: by an index, and no further than :most.
_ROWS = {
    "dead": """SELECT d.finished_at AS at FROM destinations t JOIN deliveries d
        ON d.destination_id = t.id AND d.state = 'dead'
        WHERE t.game_id = g.id AND t.state <> 'removed' AND (d.dead_reason IS NULL OR d.dead_reason <> :forgotten)""",
    "overdue": """SELECT d.next_attempt_at AS at FROM destinations t JOIN deliveries d
        ON d.destination_id = t.id AND d.state = 'waiting' AND d.next_attempt_at < :hour_ago
        WHERE t.game_id = g.id AND t.state = 'active' AND t.circuit_open_since IS NULL
          AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.id = d.waits_for AND o.state = 'waiting')""",
    "conflicts": """SELECT last_at AS at FROM (
            SELECT player_id, last_at FROM conflicts WHERE game_id = g.id ORDER BY id DESC LIMIT :looked_at) newest
        WHERE player_id <> :reserved""",
    "refunds_ambiguous": """SELECT created_at AS at FROM refunds
        WHERE game_id = g.id AND outcome IN ('ambiguous', 'waiting') AND outcome = 'ambiguous' AND is_test = 0""",
    "refunds_waiting": """SELECT created_at AS at FROM refunds
        WHERE game_id = g.id AND outcome IN ('ambiguous', 'waiting') AND outcome = 'waiting' AND is_test = 0
          AND created_at < :day_ago""",
    "refunds_unknown": refund_requests.UNANSWERED,
    "refunds_unended": refund_requests.UNENDED,
    "payments_parked": "SELECT created_at AS at FROM payments WHERE game_id = g.id AND state = 'parked'",
    "payments_waiting": """SELECT since AS at FROM (
            SELECT coalesce(waits_since, created_at) AS since FROM payments
            WHERE game_id = g.id AND state = 'waiting' ORDER BY id LIMIT :most) sends WHERE since < :day_ago
        UNION ALL SELECT since AS at FROM (
            SELECT coalesce(waits_since, refunded_at) AS since FROM payments
            WHERE game_id = g.id AND refund_state = 'waiting' AND state = 'registered'
              AND refund_next_at IS NOT NULL
            ORDER BY refund_next_at LIMIT :most) refunds WHERE since < :day_ago""",
    "payments_quarantined": "SELECT updated_at AS at FROM payments WHERE game_id = g.id AND state = 'quarantined'",
    "payment_refunds": "SELECT updated_at AS at FROM payments WHERE game_id = g.id AND refund_state = 'quarantined'",
    "conversions": """SELECT created_at AS at FROM (
            SELECT state, created_at FROM conversions WHERE game_id = g.id AND state <> 'converted'
            ORDER BY id LIMIT :most) unconverted WHERE state = 'parked'""",
}
# The three figures of a kind are one text, since one subquery gives one value.
_OF_GAMES = "\n        UNION ALL ".join(
    f"""SELECT '{kind}' AS kind, g.slug AS game,
               (SELECT CAST(count(*) AS TEXT) || ' ' || coalesce(min(at), '') || ' ' || coalesce(max(at), '')
                FROM ({rows} LIMIT :most) found) AS figures FROM games g"""  # noqa: S608  our own words only
    for kind, rows in _ROWS.items()
)
COUNTED = frozenset((*_ROWS, "payment_conflicts"))
_COUNTED = f"""
    SELECT kind, game, NULL AS count, figures AS detail, NULL AS subject, NULL AS since, NULL AS latest FROM (
        {_OF_GAMES}
        UNION ALL
        SELECT 'payment_conflicts', g.slug, CAST(count(*) AS TEXT) || ' ' || min(c.last_at) || ' ' || max(c.last_at)
        FROM (SELECT payment_id, last_at FROM payment_conflicts ORDER BY id DESC LIMIT :looked_at) c
        CROSS JOIN /* hint */ payments p ON p.id = c.payment_id CROSS JOIN /* hint */ games g ON g.id = p.game_id
        WHERE c.last_at >= :recently GROUP BY g.slug) counted
    WHERE substr(figures, 1, 2) <> '0 '
"""  # noqa: S608  our own words only

# Refused calls that had proved themselves. One that only asked something is a trouble for a day.
_OPEN = """
    SELECT * FROM (
        SELECT 'refused_order' AS kind, r.id AS id, g.slug AS game, r.partner AS partner, r.endpoint AS endpoint,
               r.reason AS reason, r.reference AS reference, r.detail AS detail, r.currency AS currency,
               r.amount_minor AS amount_minor, r.is_test AS is_test, r.seen AS seen, r.created_at AS created_at,
               r.last_at AS last_at, r.is_question AS is_question,
               (SELECT s.value FROM settings s
                WHERE s.game_id = r.game_id AND s.key = r.partner || '.completed_statuses') AS completed,
               (SELECT s.value FROM settings s
                WHERE s.game_id = r.game_id AND s.key = r.partner || '.failed_statuses') AS failed
        FROM refusals r JOIN games g ON g.id = r.game_id
        WHERE r.state = 'open' AND (r.is_question = 0 OR r.last_at > :day_ago)
        ORDER BY r.id LIMIT :most) refused
"""

# Called addresses that do not exist, and notices, the newest first. Notices with money at stake stand until a person
# sets them aside, or until one of two transactions is reversed. The others end after :recently.
_NOTICED = """
    SELECT * FROM (
        SELECT 'no_address' AS kind, 0 AS id, g.slug AS game, r.partner AS partner, '' AS endpoint, r.path AS reason,
               '' AS reference, '' AS detail, NULL AS currency, CAST(NULL AS INTEGER) AS amount_minor, 0 AS is_test,
               count(*) AS seen, min(r.created_at) AS created_at, max(r.created_at) AS last_at, 1 AS is_question,
               NULL AS completed, NULL AS failed
        FROM refusals r LEFT JOIN games g ON g.id = r.game_id
        WHERE r.state IS NULL AND r.created_at > :recently AND r.is_simulated = 0 AND r.reason = 'no_address'
        GROUP BY g.slug, r.partner, r.path ORDER BY count(*) DESC, r.path LIMIT :wrong_addresses) addresses
    UNION ALL
    SELECT * FROM (
        SELECT n.kind AS kind, 0 AS id, g.slug AS game, n.partner AS partner, '' AS endpoint, '' AS reason,
               n.subject AS reference, n.detail AS detail, n.currency AS currency, n.amount_minor AS amount_minor,
               0 AS is_test, n.seen AS seen, n.first_at AS created_at, n.last_at AS last_at, 0 AS is_question,
               NULL AS completed, NULL AS failed
        FROM (SELECT * FROM (
                  SELECT * FROM notices WHERE kind IN ('credited_twice', 'empty_order', 'unreadable_money')
                  ORDER BY last_at DESC LIMIT :notices) standing
              UNION ALL
              SELECT * FROM (
                  SELECT * FROM notices WHERE kind IN ('unnamed_event', 'partial_refund', 'replayed')
                    AND last_at > :recently ORDER BY last_at DESC LIMIT :notices) recent) n
        JOIN games g ON g.id = n.game_id
        WHERE n.kind <> 'credited_twice' OR NOT EXISTS (
                   SELECT 1 FROM grants r
                   WHERE r.transaction_id IN (n.transaction_id, n.other_id) AND r.kind = 'reversal')
        ORDER BY n.last_at DESC) noticed
"""
