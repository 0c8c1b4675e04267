"""How an older file becomes one of today: a step per version of the schema, each in one transaction (``db.migrate``).

A step is history: it makes what the schema was then, in words of its own, and is never edited once it has served.
``schema.sql`` says what a new file looks like; a test holds the two together.
"""

import sqlite3
from collections.abc import Callable


def _to_version_2(tx: sqlite3.Connection) -> None:
    """Logins by code, refunds, scheduled work."""
    for statement in _VERSION_2:
        tx.execute(statement)


_VERSION_2 = (
    """
    CREATE TABLE logins (
        id           INTEGER PRIMARY KEY,
        game_id      INTEGER NOT NULL REFERENCES games (id),
        partner      TEXT NOT NULL,
        kind         TEXT NOT NULL CHECK (kind IN ('redirect', 'link')),
        token_hash   TEXT NOT NULL UNIQUE,
        code_hash    TEXT,
        player_id    TEXT,
        wrong_codes  INTEGER NOT NULL DEFAULT 0,
        created_at   TEXT NOT NULL,
        expires_at   TEXT NOT NULL,
        used_at      TEXT,
        CHECK ((code_hash IS NULL) = (player_id IS NULL))
    ) STRICT
    """,
    "CREATE INDEX logins_by_expiry ON logins (expires_at)",
    "CREATE INDEX logins_by_player ON logins (game_id, player_id) WHERE player_id IS NOT NULL",
    """
    CREATE TABLE throttles (
        game_id         INTEGER NOT NULL REFERENCES games (id),
        key             TEXT NOT NULL,
        failures        INTEGER NOT NULL,
        last_failed_at  TEXT NOT NULL,
        PRIMARY KEY (game_id, key)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX throttles_by_time ON throttles (last_failed_at)",
    """
    CREATE TABLE refunds (
        id              INTEGER PRIMARY KEY,
        game_id         INTEGER NOT NULL REFERENCES games (id),
        partner         TEXT NOT NULL,
        event_id        INTEGER UNIQUE REFERENCES events (id),
        reason          TEXT NOT NULL CHECK (reason IN ('refund', 'chargeback', 'reinstated')),
        outcome         TEXT NOT NULL CHECK (outcome IN
                        ('waiting', 'reversed', 'restored', 'ignored', 'repeated', 'ambiguous', 'test')),
        transaction_id  INTEGER REFERENCES transactions (id),
        grant_id        INTEGER REFERENCES grants (id),
        is_test         INTEGER NOT NULL CHECK (is_test IN (0, 1)),
        occurred_at     TEXT,
        created_at      TEXT NOT NULL,
        settled_at      TEXT,
        CHECK ((outcome = 'waiting') = (settled_at IS NULL))
    ) STRICT
    """,
    "CREATE INDEX refunds_by_transaction ON refunds (transaction_id) WHERE transaction_id IS NOT NULL",
    "CREATE INDEX refunds_waiting ON refunds (game_id, partner) WHERE outcome = 'waiting'",
    """
    CREATE TABLE refund_keys (
        game_id    INTEGER NOT NULL REFERENCES games (id),
        partner    TEXT NOT NULL,
        kind       TEXT NOT NULL,
        value      TEXT NOT NULL,
        refund_id  INTEGER NOT NULL REFERENCES refunds (id),
        PRIMARY KEY (game_id, partner, kind, value, refund_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE schedules (
        game_id       INTEGER NOT NULL REFERENCES games (id),
        name          TEXT NOT NULL,
        due_at        TEXT,
        asked         INTEGER NOT NULL,
        leased_until  TEXT,
        lease_owner   TEXT,
        failures      INTEGER NOT NULL DEFAULT 0,
        last_error    TEXT,
        last_ran_at   TEXT,
        PRIMARY KEY (game_id, name),
        CHECK ((leased_until IS NULL) = (lease_owner IS NULL))
    ) STRICT
    """,
    """
    CREATE TABLE refreshes (
        game_id    INTEGER NOT NULL REFERENCES games (id),
        partner    TEXT NOT NULL,
        player_id  TEXT NOT NULL,
        asked_at   TEXT NOT NULL,
        PRIMARY KEY (game_id, partner, player_id)
    ) STRICT, WITHOUT ROWID
    """,
    "ALTER TABLE entries ADD COLUMN policy TEXT CHECK (policy IN ('revoke', 'revoke_negative', 'flag'))",
)

# Version -> the step that brings a file there from the version before.
MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {2: _to_version_2}
