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


def _to_version_3(tx: sqlite3.Connection) -> None:
    """Creators, conversions into a game's own format, payments."""
    for statement in _VERSION_3:
        tx.execute(statement)


_VERSION_3 = (
    """
    CREATE TABLE boosts (
        game_id      INTEGER NOT NULL REFERENCES games (id),
        player_id    TEXT NOT NULL,
        campaign_id  TEXT NOT NULL,
        is_test      INTEGER NOT NULL CHECK (is_test IN (0, 1)),
        creator_key  TEXT,
        changed_at   TEXT NOT NULL,
        PRIMARY KEY (game_id, player_id, campaign_id, is_test)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE conversions (
        id           INTEGER PRIMARY KEY,
        game_id      INTEGER NOT NULL REFERENCES games (id),
        event_id     INTEGER NOT NULL UNIQUE REFERENCES events (id),
        player_id    TEXT NOT NULL,
        batch        TEXT NOT NULL,
        state        TEXT NOT NULL CHECK (state IN ('waiting', 'parked', 'converted')),
        reason       TEXT,
        body         BLOB,
        created_at   TEXT NOT NULL,
        updated_at   TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX conversions_open ON conversions (game_id, id) WHERE state <> 'converted'",
    """
    CREATE TABLE used_entries (
        game_id     INTEGER NOT NULL REFERENCES games (id),
        hash        TEXT NOT NULL,
        expires_at  TEXT NOT NULL,
        PRIMARY KEY (game_id, hash)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX used_entries_by_expiry ON used_entries (expires_at)",
    """
    CREATE TABLE payments (
        id                 INTEGER PRIMARY KEY,
        game_id            INTEGER NOT NULL REFERENCES games (id),
        transaction_id     TEXT NOT NULL,
        source             TEXT NOT NULL CHECK (source IN ('poll', 'push', 'appcharge')),
        player_id          TEXT,
        product_id         TEXT,
        product_name       TEXT,
        amount             TEXT,
        currency           TEXT,
        market             TEXT,
        platform           TEXT,
        distribution_type  TEXT,
        purchased_at       TEXT,
        row                TEXT NOT NULL,
        fingerprint        TEXT NOT NULL,
        is_test            INTEGER NOT NULL CHECK (is_test IN (0, 1)),
        refunded_at        TEXT,
        state              TEXT NOT NULL CHECK (state IN ('parked', 'waiting', 'registered', 'quarantined', 'kept')),
        reason             TEXT,
        tries              INTEGER NOT NULL DEFAULT 0,
        next_try_at        TEXT,
        registered_at      TEXT,
        refund_state       TEXT CHECK (refund_state IN ('waiting', 'done', 'quarantined')),
        refund_tries       INTEGER NOT NULL DEFAULT 0,
        refund_next_at     TEXT,
        created_at         TEXT NOT NULL,
        updated_at         TEXT NOT NULL,
        UNIQUE (game_id, transaction_id),
        CHECK ((state = 'waiting') = (next_try_at IS NOT NULL)),
        CHECK (coalesce(refund_state = 'waiting', 0) = (refund_next_at IS NOT NULL))
    ) STRICT
    """,
    "CREATE INDEX payments_due ON payments (game_id, next_try_at) WHERE state = 'waiting'",
    "CREATE INDEX payments_refunds_due ON payments (game_id, refund_next_at) WHERE refund_state = 'waiting'",
    "CREATE INDEX payments_refunds_stuck ON payments (game_id, id) WHERE refund_state = 'quarantined'",
    "CREATE INDEX payments_by_time ON payments (game_id, purchased_at, id)",
    "CREATE INDEX payments_by_player ON payments (game_id, player_id, id)",
    "CREATE INDEX payments_by_state ON payments (game_id, state, id)",
    """
    CREATE TABLE payment_conflicts (
        id           INTEGER PRIMARY KEY,
        payment_id   INTEGER NOT NULL REFERENCES payments (id),
        fingerprint  TEXT NOT NULL,
        row          TEXT NOT NULL,
        seen         INTEGER NOT NULL,
        first_at     TEXT NOT NULL,
        last_at      TEXT NOT NULL,
        UNIQUE (payment_id, fingerprint)
    ) STRICT
    """,
    "CREATE INDEX refunds_unsettled ON refunds (game_id, id) WHERE outcome IN ('ambiguous', 'waiting')",
    "ALTER TABLE schedules ADD COLUMN cursor TEXT",
    "ALTER TABLE players ADD COLUMN is_profile_checked INTEGER NOT NULL DEFAULT 0 CHECK (is_profile_checked IN (0, 1))",
    "ALTER TABLE grants ADD COLUMN restores INTEGER REFERENCES grants (id)",
)


def _to_version_4(tx: sqlite3.Connection) -> None:
    """The owner's pages: signing in, lists, figures. What was credited before them is counted once, here."""
    for statement in _VERSION_4:
        tx.execute(statement)


_VERSION_4 = (
    """
    CREATE TABLE installation_secrets (
        name        TEXT NOT NULL PRIMARY KEY,
        ciphertext  BLOB NOT NULL,
        nonce       BLOB NOT NULL UNIQUE,
        key_id      TEXT NOT NULL,
        created_at  TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE owner_sessions (
        token_hash      TEXT NOT NULL PRIMARY KEY,
        created_at      TEXT NOT NULL,
        seen_at         TEXT NOT NULL,
        expires_at      TEXT NOT NULL,
        remote_address  TEXT NOT NULL,
        user_agent      TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX owner_sessions_by_expiry ON owner_sessions (expires_at)",
    """
    CREATE TABLE recovery_codes (
        code_hash   TEXT NOT NULL PRIMARY KEY,
        created_at  TEXT NOT NULL,
        used_at     TEXT
    ) STRICT
    """,
    # Made anew without its foreign key, for the owner's own login; what is counted in it is good for minutes.
    "DROP TABLE throttles",
    """
    CREATE TABLE throttles (
        game_id         INTEGER NOT NULL,
        key             TEXT NOT NULL,
        failures        INTEGER NOT NULL,
        last_failed_at  TEXT NOT NULL,
        PRIMARY KEY (game_id, key)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX throttles_by_time ON throttles (last_failed_at)",
    "CREATE INDEX players_by_name ON players (game_id, name) WHERE name IS NOT NULL",
    "CREATE INDEX transactions_by_partner ON transactions (game_id, partner, id)",
    "CREATE INDEX transactions_by_time ON transactions (game_id, received_at)",
    "CREATE INDEX transactions_by_amount ON transactions (game_id, gross_minor, id) WHERE gross_minor IS NOT NULL",
    "CREATE INDEX transactions_tests ON transactions (game_id, id) WHERE is_test = 1",
    "CREATE INDEX grants_reversals ON grants (game_id, id) WHERE kind = 'reversal'",
    "CREATE INDEX entries_by_sku ON entries (sku, grant_id)",
    "CREATE INDEX refunds_by_game ON refunds (game_id, id)",
    "CREATE INDEX conflicts_by_game ON conflicts (game_id, id)",
    "CREATE INDEX deliveries_by_event ON deliveries (event_id) WHERE event_id IS NOT NULL",
    """
    CREATE TABLE contacts (
        game_id         INTEGER NOT NULL REFERENCES games (id),
        partner         TEXT NOT NULL,
        endpoint        TEXT NOT NULL,
        copied_at       TEXT,
        first_at        TEXT,
        proved_at       TEXT,
        refused_at      TEXT,
        refused_reason  TEXT,
        PRIMARY KEY (game_id, partner, endpoint),
        CHECK ((first_at IS NULL) = (proved_at IS NULL)),
        CHECK ((refused_at IS NULL) = (refused_reason IS NULL))
    ) STRICT, WITHOUT ROWID
    """,
    "ALTER TABLE refusals ADD COLUMN is_simulated INTEGER NOT NULL DEFAULT 0 CHECK (is_simulated IN (0, 1))",
    "CREATE INDEX counters_by_day ON counters (game_id, day)",
    """
    INSERT INTO counters (game_id, partner, name, day, value)
        SELECT game_id, partner, 'gross.' || currency, substr(received_at, 1, 10),
               CAST(min(total(gross_minor), 9e18) AS INTEGER)
        FROM transactions WHERE is_test = 0 AND gross_minor > 0 AND currency IS NOT NULL
        GROUP BY game_id, partner, currency, substr(received_at, 1, 10)
    """,
    """
    INSERT INTO counters (game_id, partner, name, day, value)
        SELECT g.game_id, t.partner, 'item.' || e.sku, substr(g.created_at, 1, 10), count(*)
        FROM grants g JOIN transactions t ON t.id = g.transaction_id JOIN entries e ON e.grant_id = g.id
        WHERE g.is_test = 0 AND g.kind NOT IN ('reversal', 'adjustment')
        GROUP BY g.game_id, t.partner, e.sku, substr(g.created_at, 1, 10)
    """,
    """
    INSERT INTO counters (game_id, partner, name, day, value)
        SELECT game_id, partner, 'refunded.' || currency, day, CAST(min(total(gross_minor), 9e18) AS INTEGER)
        FROM (SELECT t.game_id, t.partner, t.currency, t.gross_minor, substr(min(r.created_at), 1, 10) AS day
              FROM refunds r JOIN transactions t ON t.id = r.transaction_id
              WHERE r.outcome IN ('reversed', 'ignored') AND r.reason <> 'reinstated' AND t.is_test = 0
                AND t.gross_minor > 0 AND t.currency IS NOT NULL GROUP BY t.id)
        GROUP BY game_id, partner, currency, day
    """,
    """
    INSERT INTO counters (game_id, partner, name, day, value)
        SELECT t.game_id, t.partner, 'returned.' || t.currency, substr(r.created_at, 1, 10),
               CAST(min(total(t.gross_minor), 9e18) AS INTEGER)
        FROM refunds r JOIN transactions t ON t.id = r.transaction_id
        WHERE r.outcome = 'restored' AND t.is_test = 0 AND t.gross_minor > 0 AND t.currency IS NOT NULL
        GROUP BY t.game_id, t.partner, t.currency, substr(r.created_at, 1, 10)
    """,
)


def _to_version_5(tx: sqlite3.Connection) -> None:
    """Closed months, and what partners say of them."""
    for statement in _VERSION_5:
        tx.execute(statement)


_VERSION_5 = (
    """
    CREATE INDEX transactions_by_moment ON transactions (game_id, coalesce(occurred_at, received_at), received_at)
    """,
    "CREATE INDEX payments_changed ON payments (game_id, updated_at, purchased_at)",
    "CREATE INDEX audit_of_moves ON audit (game_id, created_at, subject) WHERE action = 'payment.move'",
    """
    CREATE INDEX events_of_boosts ON events (game_id, occurred_at, received_at)
        WHERE type IN ('sponsor.created', 'sponsor.ended')
    """,
    """
    CREATE TABLE settlements (
        id          INTEGER PRIMARY KEY,
        game_id     INTEGER NOT NULL REFERENCES games (id),
        month       TEXT NOT NULL CHECK (month GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]'),
        version     INTEGER NOT NULL,
        starts_at   TEXT NOT NULL,
        ends_at     TEXT NOT NULL,
        terms       TEXT NOT NULL,
        known_at    TEXT NOT NULL,
        state       TEXT NOT NULL CHECK (state IN
                    ('closed', 'reconciled', 'payment_confirmed', 'creators_settled',
                     'reopened')),
        closed_at   TEXT NOT NULL,
        UNIQUE (game_id, month, version)
    ) STRICT
    """,
    "CREATE UNIQUE INDEX settlements_standing ON settlements (game_id, month) WHERE state <> 'reopened'",
    """
    CREATE TRIGGER settlements_are_frozen BEFORE UPDATE OF
        id, game_id, month, version, starts_at, ends_at, terms, known_at, closed_at
        ON settlements BEGIN SELECT RAISE(ABORT, 'a closed month is never changed'); END
    """,
    """
    CREATE TRIGGER settlements_are_never_deleted BEFORE DELETE ON settlements
        BEGIN SELECT RAISE(ABORT, 'a closed month is never deleted'); END
    """,
    """
    CREATE TABLE settlement_steps (
        id             INTEGER PRIMARY KEY,
        game_id        INTEGER NOT NULL REFERENCES games (id),
        settlement_id  INTEGER NOT NULL REFERENCES settlements (id),
        state          TEXT NOT NULL CHECK (state IN
                       ('closed', 'reconciled', 'payment_confirmed', 'creators_settled', 'reopened')),
        is_skipped     INTEGER NOT NULL CHECK (is_skipped IN (0, 1)),
        actor          TEXT NOT NULL,
        note           TEXT NOT NULL,
        created_at     TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX settlement_steps_by_settlement ON settlement_steps (settlement_id, id)",
    "CREATE INDEX settlement_steps_by_game ON settlement_steps (game_id, id)",
    """
    CREATE TRIGGER settlement_steps_are_never_changed BEFORE UPDATE ON settlement_steps
        BEGIN SELECT RAISE(ABORT, 'what was done with a month is never changed'); END
    """,
    """
    CREATE TRIGGER settlement_steps_are_never_deleted BEFORE DELETE ON settlement_steps
        BEGIN SELECT RAISE(ABORT, 'what was done with a month is never deleted'); END
    """,
    """
    CREATE TABLE settlement_lines (
        settlement_id      INTEGER NOT NULL REFERENCES settlements (id),
        number             INTEGER NOT NULL,
        month              TEXT NOT NULL,
        section            TEXT NOT NULL CHECK (section IN
                           ('counted',
                            'orders',
                            'free', 'test',
                            'incomplete')),
        partner            TEXT NOT NULL,
        currency           TEXT NOT NULL,
        distribution_type  TEXT NOT NULL,
        creator            TEXT,
        is_registered      INTEGER CHECK (is_registered IN (0, 1)),
        count              INTEGER NOT NULL,
        refund_count       INTEGER NOT NULL,
        gross_minor        INTEGER NOT NULL,
        refunds_minor      INTEGER NOT NULL,
        tax_minor          INTEGER,
        fee_minor          INTEGER,
        net_minor          INTEGER,
        share_minor        INTEGER NOT NULL,
        usd_gross          TEXT,
        usd_tax            TEXT,
        usd_fee            TEXT,
        usd_net            TEXT,
        unsaid             INTEGER NOT NULL,
        PRIMARY KEY (settlement_id, number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TRIGGER settlement_lines_are_never_changed BEFORE UPDATE ON settlement_lines
        BEGIN SELECT RAISE(ABORT, 'a closed month is never changed'); END
    """,
    """
    CREATE TRIGGER settlement_lines_are_never_deleted BEFORE DELETE ON settlement_lines
        BEGIN SELECT RAISE(ABORT, 'a closed month is never deleted'); END
    """,
    """
    CREATE TABLE reconciliations (
        id              INTEGER PRIMARY KEY,
        game_id         INTEGER NOT NULL REFERENCES games (id),
        month           TEXT NOT NULL,
        partner         TEXT NOT NULL,
        source          TEXT NOT NULL CHECK (source IN ('api', 'file')),
        fingerprint     TEXT NOT NULL,
        starts_at       TEXT NOT NULL,
        ends_at         TEXT NOT NULL,
        state           TEXT NOT NULL CHECK (state IN
                        ('reading',
                         'comparing',
                         'searching',
                         'done', 'replaced')),
        cursor          TEXT NOT NULL DEFAULT '',
        rows_expected   INTEGER,
        rows_read       INTEGER NOT NULL DEFAULT 0,
        rows_odd        INTEGER NOT NULL DEFAULT 0,
        rows_compared   INTEGER NOT NULL DEFAULT 0,
        matched         INTEGER NOT NULL DEFAULT 0,
        summary         TEXT,
        started_at      TEXT NOT NULL,
        finished_at     TEXT
    ) STRICT
    """,
    """
    CREATE UNIQUE INDEX reconciliations_standing ON reconciliations (game_id, month, partner) WHERE state <> 'replaced'
    """,
    "CREATE INDEX reconciliations_replaced ON reconciliations (game_id, id) WHERE state = 'replaced'",
    """
    CREATE TABLE partner_rows (
        reconciliation_id  INTEGER NOT NULL REFERENCES reconciliations (id),
        reference          TEXT NOT NULL,
        row_id             TEXT NOT NULL,
        kind               TEXT NOT NULL CHECK (kind IN ('paid', 'refunded', 'reinstated')),
        amount_minor       TEXT,
        currency           TEXT,
        occurred_at        TEXT,
        PRIMARY KEY (reconciliation_id, reference, row_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE reconciliation (
        id                 INTEGER PRIMARY KEY,
        reconciliation_id  INTEGER NOT NULL REFERENCES reconciliations (id),
        reference          TEXT NOT NULL,
        result             TEXT NOT NULL CHECK (result IN
                           ('missing_here',
                            'missing_there', 'amount_differs',
                            'refunded_there', 'refunded_here')),
        action             TEXT NOT NULL,
        currency           TEXT,
        stake_minor        TEXT,
        ours_minor         TEXT,
        ours_currency      TEXT,
        theirs_minor       TEXT,
        theirs_currency    TEXT,
        occurred_at        TEXT,
        UNIQUE (reconciliation_id, reference)
    ) STRICT
    """,
    "CREATE INDEX reconciliation_by_result ON reconciliation (reconciliation_id, result, id)",
)


def _to_version_6(tx: sqlite3.Connection) -> None:
    """Whether somebody may have a payment as it is. It was read off its state until then, and its reason."""
    tx.execute("ALTER TABLE payments ADD COLUMN is_sent INTEGER NOT NULL DEFAULT 0 CHECK (is_sent IN (0, 1))")
    tx.execute(
        """UPDATE payments SET is_sent = 1
           WHERE state = 'registered' OR registered_at IS NOT NULL
              OR (state = 'waiting' AND (tries > 0 OR reason IS NOT NULL)) OR (state = 'kept' AND tries > 0)"""
    )


# Version -> the step that brings a file there from the version before.
MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {
    2: _to_version_2,
    3: _to_version_3,
    4: _to_version_4,
    5: _to_version_5,
    6: _to_version_6,
}
