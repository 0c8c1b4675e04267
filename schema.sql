-- Coinslot's one database file, in order from cause to effect: who is served, what partners reported, what was
-- credited because of it, what must be delivered because of that, how months are settled, and what the owner looks at.
--
-- Conventions
--   * STRICT tables; foreign keys are on for every connection (coinslot/store/db.py).
--   * Times are UTC text of one fixed width, 2026-01-31T23:59:59.123456Z, so that text order is time order.
--   * Booleans are named is_... and hold 0 or 1.
--   * Text holds no NUL character: other engines cannot store one.
--   * Quantities are exact integers of up to 40 digits and therefore TEXT; they are summed in Python, never here.
--   * Money: *_minor is an integer in the minor unit of `currency` (cents, yen); usd_* is exact decimal text whose
--     unit is in usd_unit. NULL means "the partner did not say", never 0.
--   * One process writes at a time (coinslot/store/db.py), so a SELECT inside a write sees the state it will commit on.
--
-- PostgreSQL's tables are made from this text by a few rules (coinslot/store/postgres/ddl.py). One comment counts there:
-- the ids of a table whose id says "from sequences" are given by us and do not count by themselves.
--
-- This file describes a new database. An older one is brought here by the numbered steps in coinslot/store/migrations.py.

-- What the installation knows about itself, one fact per row:
--   vault.key_id          id of the master key every sealed value is under
--   vault.checked_key_id  id of the master key of which somebody has shown a copy (flask key check), and when
--   demo                  when flask demo made this installation up; absent: it is a real one
--   pages.zone            IANA name of the time zone of the pages; absent: UTC
--   owner.setup_nonce     of the newest setup link; the earlier links do not work
--   person.removed.<name> when a person of this folded name was removed: a restore removes them again
--   heartbeat.arrived_at  when the heartbeat's URL last answered as it should; absent: not yet
--   heartbeat.failure     why it did not, since when; absent: the last call arrived
--   restored_at           when a backup was restored last; absent: never
--   certificate           JSON: what the public URL's certificate was when it was last looked at
--   follower              JSON: when the copy that follows was last complete, as Litestream said when last asked
--   outbox...._above      where the ids of deliveries and of attempts go on after a restore
--   moved                 JSON: the mark of a file that is not served (coinslot/store/marks.py); absent in one that is
CREATE TABLE installation (
    name        TEXT NOT NULL PRIMARY KEY,
    value       TEXT NOT NULL,
    updated_at  TEXT NOT NULL
) STRICT;

-- Secrets of the installation itself, sealed as those of games are.
CREATE TABLE installation_secrets (
    name        TEXT NOT NULL PRIMARY KEY,     -- totp.<id of a person>, and totp_offered.<id> until it is confirmed;
                                               -- alert.<target> and heartbeat.url: URLs, which are secrets too;
                                               -- search.addresses: the key of the hashes in search_keys
    ciphertext  BLOB NOT NULL,
    nonce       BLOB NOT NULL UNIQUE,
    key_id      TEXT NOT NULL,
    created_at  TEXT NOT NULL
) STRICT;

-- Proofs: each is a backup that was restored in a folder of its own and checked (coinslot/operations/proofs.py).
CREATE TABLE proofs (
    id          INTEGER PRIMARY KEY,
    began_at    TEXT NOT NULL,
    ended_at    TEXT NOT NULL,
    took_ms     INTEGER NOT NULL,
    faults      INTEGER NOT NULL,              -- how many things were wrong; 0: all is well
    fault       TEXT,                          -- the first of them; NULL: none
    file        TEXT,                          -- name of the backup in COINSLOT_BACKUPS; NULL: none was written
    size_bytes  INTEGER,                       -- of it
    kept        INTEGER NOT NULL,              -- how many backups there were afterwards
    is_short    INTEGER NOT NULL CHECK (is_short IN (0, 1)),  -- 1: fewer are kept than wanted, for lack of room
    CHECK ((faults = 0) = (fault IS NULL)),
    CHECK ((file IS NULL) = (size_bytes IS NULL))
) STRICT;

-- Who may sign in: owners, who may do everything, and support (handlers/dashboard/frame/roles.py says what they may).
CREATE TABLE people (
    id                  INTEGER PRIMARY KEY,
    name                TEXT NOT NULL,         -- as it was written; the actor in audit
    folded              TEXT NOT NULL UNIQUE,  -- the name as it is looked for: no two differ by case or accents alone
    role                TEXT NOT NULL CHECK (role IN ('owner', 'support')),
    password_hash       TEXT,                  -- scrypt; NULL: invited, and has not accepted
    totp_step           INTEGER,               -- the last time step used; NULL: no second factor is asked for. Its secret
                                               -- is in installation_secrets
    invitation_hash     TEXT UNIQUE,           -- SHA-256 of the token in the link; NULL: there is no link. One that was
                                               -- accepted stays, so that its link can say so
    invitation_ends_at  TEXT,
    created_at          TEXT NOT NULL,
    CHECK ((invitation_hash IS NULL) = (invitation_ends_at IS NULL))
) STRICT;

-- Browsers in which a person is signed in. The cookie holds a token, of which only a hash is stored.
CREATE TABLE sessions (
    token_hash      TEXT NOT NULL PRIMARY KEY,
    person_id       INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    created_at      TEXT NOT NULL,
    seen_at         TEXT NOT NULL,             -- to within some minutes
    expires_at      TEXT NOT NULL,
    remote_address  TEXT NOT NULL,
    user_agent      TEXT NOT NULL,
    shown_page      TEXT,                      -- SHA-256 of the one page on which support has pressed Show
    shown_until     TEXT,
    CHECK ((shown_page IS NULL) = (shown_until IS NULL))
) STRICT;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);        -- pruning
CREATE INDEX sessions_by_person ON sessions (person_id);         -- ending them; removing a person

-- Each signs in once, in place of a lost second factor.
CREATE TABLE recovery_codes (
    code_hash   TEXT NOT NULL PRIMARY KEY,
    person_id   INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    created_at  TEXT NOT NULL,
    used_at     TEXT
) STRICT;
CREATE INDEX recovery_codes_by_person ON recovery_codes (person_id);  -- counting, replacing, removing a person

-- Where alerts are sent (coinslot/operations/alerts). The URL of each is in installation_secrets.
CREATE TABLE alert_targets (
    name            TEXT NOT NULL PRIMARY KEY,
    scheme          TEXT NOT NULL,             -- of its URL, such as mailto: all that is shown of it
    is_new          INTEGER NOT NULL CHECK (is_new IN (0, 1)),  -- 1: it was not yet sent what stands since before it
    failures        INTEGER NOT NULL DEFAULT 0,  -- in a row
    last_failure    TEXT,                      -- the last one, in our words; NULL: none yet
    last_failed_at  TEXT,
    last_sent_at    TEXT,                      -- NULL: nothing has arrived yet
    created_at      TEXT NOT NULL,
    CHECK ((last_failure IS NULL) = (last_failed_at IS NULL))
) STRICT;

-- Troubles as the alerts know them, one row per key of a trouble that is wrong, from when it was first seen until a day
-- after it was over. Empty while there is no target.
CREATE TABLE alerts (
    key            TEXT NOT NULL PRIMARY KEY,
    sentence       TEXT NOT NULL,              -- as it was last sent, for the message that it is over
    game           TEXT,                       -- slug; NULL: the installation as a whole
    page           TEXT NOT NULL,              -- path of the page that shows it
    is_returned    INTEGER NOT NULL CHECK (is_returned IN (0, 1)),  -- it was over less than a day before
    first_seen_at  TEXT NOT NULL,
    gone_at        TEXT,                       -- since when it has not been seen; NULL: it stands
    sent_at        TEXT,                       -- the last time; NULL: not yet
    over_at        TEXT                        -- when it was sent that it is over; NULL: not yet
) STRICT;

-- Messages to the targets: written in the commit that marks their alerts as sent, and sent from here.
CREATE TABLE alert_messages (
    id               INTEGER PRIMARY KEY,
    target           TEXT NOT NULL REFERENCES alert_targets (name) ON DELETE CASCADE,
    subject          TEXT NOT NULL,
    body             TEXT NOT NULL,
    state            TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'given_up')),
    attempts         INTEGER NOT NULL DEFAULT 0,  -- begun
    next_attempt_at  TEXT NOT NULL,            -- also the lease: an attempt sets the time of the one after it
    created_at       TEXT NOT NULL,
    ended_at         TEXT,
    CHECK ((state = 'waiting') = (ended_at IS NULL))
) STRICT;
CREATE INDEX alert_messages_waiting ON alert_messages (target, id) WHERE state = 'waiting';  -- what is due
CREATE INDEX alert_messages_by_end ON alert_messages (ended_at) WHERE ended_at IS NOT NULL;  -- pruning

-- The last id per feed. A restore moves these far ahead, so that an id which the game has read never changes its meaning.
CREATE TABLE sequences (
    name        TEXT NOT NULL PRIMARY KEY CHECK (name IN ('grants', 'events')),
    last_id     INTEGER NOT NULL
) STRICT;
INSERT INTO sequences (name, last_id) VALUES ('grants', 0), ('events', 0);


-- Who is served ------------------------------------------------------------------------------------------------

CREATE TABLE games (
    id              INTEGER PRIMARY KEY,
    slug            TEXT NOT NULL UNIQUE,
    name            TEXT NOT NULL,
    api_token_hash  TEXT NOT NULL UNIQUE,      -- SHA-256 of the newest bearer token; the token itself is shown once
    acked_through   INTEGER NOT NULL DEFAULT 0, -- the game says it has applied every grant up to this id
    acked_at        TEXT,                      -- NULL until the first acknowledgement
    revision        TEXT NOT NULL,             -- random; new with every change of settings or secrets, so that
                                               -- each process knows from the next request that its copy is old
    created_at      TEXT NOT NULL
) STRICT;

-- API tokens that were replaced and are still valid, until the owner retires them.
CREATE TABLE replaced_tokens (
    token_hash   TEXT NOT NULL PRIMARY KEY,
    game_id      INTEGER NOT NULL REFERENCES games (id),
    replaced_at  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX replaced_tokens_by_game ON replaced_tokens (game_id, replaced_at);

-- Plain configuration per game; which keys exist and what they may hold is declared in code.
CREATE TABLE settings (
    game_id     INTEGER NOT NULL REFERENCES games (id),
    key         TEXT NOT NULL,
    value       TEXT NOT NULL,
    updated_at  TEXT NOT NULL,
    PRIMARY KEY (game_id, key)
) STRICT;

-- Secrets at rest: AES-256-GCM, a fresh nonce each, game and name bound as additional data (coinslot/access/vault.py).
CREATE TABLE secrets (
    game_id       INTEGER NOT NULL REFERENCES games (id),
    name          TEXT NOT NULL,               -- <partner>.<secret>, or destination.<name>
    slot          TEXT NOT NULL CHECK (slot IN ('current', 'previous')),
    ciphertext    BLOB NOT NULL,               -- includes the 16-byte tag
    nonce         BLOB NOT NULL UNIQUE,
    key_id        TEXT NOT NULL,               -- which master key sealed it
    created_at    TEXT NOT NULL,               -- when this value was set; kept when it moves to 'previous'
    last_used_at  TEXT,                        -- NULL until a caller proved itself with it; written in batches
    PRIMARY KEY (game_id, name, slot)
) STRICT;

-- The studio's players, pushed by the game or imported. A player is forgotten by deleting this row.
CREATE TABLE players (
    game_id        INTEGER NOT NULL REFERENCES games (id),
    player_id      TEXT NOT NULL,
    name           TEXT,                       -- these five are NULL until the game sends them
    profile_image  TEXT,
    country        TEXT,                       -- ISO 3166-1 alpha-2
    login_name     TEXT,
    login_key      TEXT,                       -- login_name as it is looked up (coinslot/base/spellings.py)
    password_hash  TEXT,                       -- scrypt; NULL = has no password here
    profile        TEXT NOT NULL DEFAULT '{}', -- JSON: segments, balances, offers, ... as the game pushed them
    is_profile_checked INTEGER NOT NULL DEFAULT 0 CHECK (is_profile_checked IN (0, 1)),  -- 0: stored as it came; what
                                               -- is shown of it is checked when it is shown
    is_in_search   INTEGER NOT NULL DEFAULT 0 CHECK (is_in_search IN (0, 1)),  -- 0: new or changed since the job came by
    created_at     TEXT NOT NULL,
    updated_at     TEXT NOT NULL,
    PRIMARY KEY (game_id, player_id)
) STRICT;
CREATE UNIQUE INDEX players_by_login_key ON players (game_id, login_key) WHERE login_key IS NOT NULL;
CREATE INDEX players_to_search ON players (game_id, player_id) WHERE is_in_search = 0;  -- the job that fills search_keys

-- What leads to a player. A job fills it from players, transactions, events, payments and refused calls, after their
-- commits (coinslot/operations/search_job.py). To fill it anew: delete its rows, set is_in_search of all players to 0, and the cursor of the job
-- `search` in schedules to NULL.
CREATE TABLE search_keys (
    kind       TEXT NOT NULL CHECK (kind IN ('id', 'name', 'address')),
    key        TEXT NOT NULL,                  -- id, or name from any of its words on: folded, the first 64 characters.
                                               -- Of an e-mail address a keyed hash, and nothing else
    game_id    INTEGER NOT NULL REFERENCES games (id),
    player_id  TEXT NOT NULL,                  -- registered or not
    PRIMARY KEY (kind, key, game_id, player_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX search_keys_of_player ON search_keys (game_id, player_id) WHERE kind <> 'id';  -- new name, forgetting

-- Players forgotten in this state of the database; a restore compares them with the file that lists all of them.
CREATE TABLE forgotten (
    hash          TEXT NOT NULL PRIMARY KEY,   -- SHA-256 of the game's slug and the player's id
    forgotten_at  TEXT NOT NULL                -- the last time
) STRICT, WITHOUT ROWID;

-- A player's ids elsewhere: a Facebook user id, a Google or Apple `sub`.
CREATE TABLE identities (
    game_id    INTEGER NOT NULL,
    provider   TEXT NOT NULL CHECK (provider IN ('google', 'apple', 'facebook')),
    subject    TEXT NOT NULL,
    player_id  TEXT NOT NULL,
    PRIMARY KEY (game_id, provider, subject),
    FOREIGN KEY (game_id, player_id) REFERENCES players (game_id, player_id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX identities_by_player ON identities (game_id, player_id, provider);

-- Logins in progress that end with a code which the game gives its player. Stored are only a hash of the access token, and
-- a hash of the code keyed with the token, so that nobody can log in with a copy of this table.
CREATE TABLE logins (
    id           INTEGER PRIMARY KEY,
    game_id      INTEGER NOT NULL REFERENCES games (id),
    partner      TEXT NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('redirect', 'link')),  -- begun by the store, or by the game
    token_hash   TEXT NOT NULL UNIQUE,
    code_hash    TEXT,                         -- NULL until the game has named the player
    player_id    TEXT,                         -- likewise
    wrong_codes  INTEGER NOT NULL DEFAULT 0,
    created_at   TEXT NOT NULL,
    expires_at   TEXT NOT NULL,
    used_at      TEXT,
    CHECK ((code_hash IS NULL) = (player_id IS NULL))
) STRICT;
CREATE INDEX logins_by_expiry ON logins (expires_at);            -- pruning
CREATE INDEX logins_by_player ON logins (game_id, player_id) WHERE player_id IS NOT NULL;  -- forgetting a player

-- Signed entries that were used, where the game lets each open the page once.
CREATE TABLE used_entries (
    game_id     INTEGER NOT NULL REFERENCES games (id),
    hash        TEXT NOT NULL,
    expires_at  TEXT NOT NULL,
    PRIMARY KEY (game_id, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX used_entries_by_expiry ON used_entries (expires_at);  -- pruning

-- Wrong passwords and the like, counted per key of the caller that is slowed down; the key is a hash.
CREATE TABLE throttles (
    game_id         INTEGER NOT NULL,          -- 0: when people sign in to the pages
    key             TEXT NOT NULL,
    failures        INTEGER NOT NULL,
    last_failed_at  TEXT NOT NULL,
    PRIMARY KEY (game_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX throttles_by_time ON throttles (last_failed_at);    -- pruning

CREATE TABLE items (
    game_id     INTEGER NOT NULL REFERENCES games (id),
    sku         TEXT NOT NULL,
    name        TEXT,                          -- NULL until the studio names it
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL,
    PRIMARY KEY (game_id, sku)
) STRICT;


-- What partners reported, and what was credited because of it -----------------------------------------------------

-- One row per partner transaction that was credited. UNIQUE (game_id, partner, external_id) is the exactly-once
-- promise: the first to insert credits, all others are duplicates or conflicts. Rows are never changed
-- (see the triggers); a later fact about the same purchase is a grant or an event of its own.
CREATE TABLE transactions (
    id               INTEGER PRIMARY KEY,
    public_id        TEXT NOT NULL UNIQUE,     -- UUIDv5 of (game slug, partner, external_id): the same order has the
                                               -- same id even after a restore; the game sees it as transaction_id
    game_id          INTEGER NOT NULL REFERENCES games (id),
    partner          TEXT NOT NULL,
    external_id      TEXT NOT NULL,            -- the partner's stable id; prefixed when it is a fallback id
    reference        TEXT NOT NULL,            -- that id as the partner writes it, for the game and for people
    kind             TEXT NOT NULL CHECK (kind IN ('purchase', 'bonus', 'reward', 'coupon', 'adjustment')),
    player_id        TEXT NOT NULL,
    currency         TEXT,                     -- ISO 4217
    gross_minor      INTEGER,                  -- paid by the player, tax included
    subtotal_minor   INTEGER,                  -- before tax; NULL also where the partner's figure is no whole minor unit
    tax_minor        INTEGER,                  -- likewise
    usd_gross        TEXT,                     -- the partner's own conversions and estimates
    usd_tax          TEXT,
    usd_fee          TEXT,
    usd_net          TEXT,
    usd_unit         TEXT CHECK (usd_unit IN ('cents', 'dollars')),
    figures          BLOB NOT NULL,            -- JSON object: every money figure under the partner's name for it,
                                               -- its exact decimal digits as text; packed (coinslot/ledger/packing.py)
    session_metadata TEXT,                     -- JSON the game attached to the store session; NULL once forgotten
    fingerprint      TEXT NOT NULL,            -- the same for a retry; another for a conflict
    raw_body         BLOB,                     -- what was signed, byte for byte, packed; NULL once the player is
                                               -- forgotten, and then signature is NULL too; or once the month was
                                               -- settled long ago (coinslot/operations/retention.py): it stays then
    body_sha256      TEXT NOT NULL,            -- stays, so that a kept copy can still be proved
    signature        TEXT,                     -- accepted signature as received; NULL once the player is forgotten
    signed_with      TEXT NOT NULL,            -- secret and slot that matched: <secret>/current or /previous
    answer_status    INTEGER NOT NULL,         -- the first answer to the partner; repeats get the same
    answer_body      TEXT NOT NULL,
    environment      TEXT NOT NULL CHECK (environment IN ('live', 'sandbox')),  -- the partner's
    is_test          INTEGER NOT NULL CHECK (is_test IN (0, 1)),  -- sandbox, or names a reserved id
    occurred_at      TEXT,                     -- the partner's own time of the purchase
    received_at      TEXT NOT NULL,
    moment           TEXT NOT NULL GENERATED ALWAYS AS (coalesce(occurred_at, received_at)) VIRTUAL,  -- months go by it
    previous_hash    TEXT NOT NULL,            -- row_hash of the row before; 64 zeros for the first
    row_hash         TEXT NOT NULL,            -- SHA-256 over previous_hash and this row
    UNIQUE (game_id, partner, external_id)
) STRICT;
CREATE INDEX transactions_by_player ON transactions (game_id, player_id, id);  -- a player's history and totals
-- The owner's lists and searches, newest first.
CREATE INDEX transactions_by_partner ON transactions (game_id, partner, id);
CREATE INDEX transactions_by_time ON transactions (game_id, received_at);      -- where a day begins among the ids
CREATE INDEX transactions_by_amount ON transactions (game_id, gross_minor, id) WHERE gross_minor IS NOT NULL;
CREATE INDEX transactions_tests ON transactions (game_id, id) WHERE is_test = 1;
-- Months, by when it was bought. The last column finds what came late.
CREATE INDEX transactions_by_moment ON transactions (game_id, moment, received_at);

-- The owner's search in either case of letters; ids in small letters, as most are, are found by the unique keys.
CREATE INDEX transactions_folded ON transactions (lower(reference)) WHERE reference <> lower(reference);

-- raw_body, signature and session_metadata are left out of the list on purpose: forgetting a player empties them, and
-- retention the first of them.
CREATE TRIGGER transactions_are_never_changed BEFORE UPDATE OF
    id, public_id, game_id, partner, external_id, reference, kind, player_id, currency, gross_minor, subtotal_minor,
    tax_minor, usd_gross, usd_tax, usd_fee, usd_net, usd_unit, figures, fingerprint, body_sha256, signed_with,
    answer_status, answer_body, environment, is_test, occurred_at, received_at, previous_hash, row_hash
    ON transactions BEGIN SELECT RAISE(ABORT, 'transactions are never changed'); END;
CREATE TRIGGER transactions_are_emptied_not_rewritten BEFORE UPDATE OF raw_body, signature, session_metadata
    ON transactions
    WHEN new.raw_body IS NOT NULL AND (old.raw_body IS NULL OR new.raw_body <> old.raw_body)
      OR new.signature IS NOT NULL AND (old.signature IS NULL OR new.signature <> old.signature)
      OR new.session_metadata IS NOT NULL
         AND (old.session_metadata IS NULL OR new.session_metadata <> old.session_metadata)
    BEGIN SELECT RAISE(ABORT, 'transactions are never changed'); END;
CREATE TRIGGER transactions_are_never_deleted BEFORE DELETE ON transactions
    BEGIN SELECT RAISE(ABORT, 'transactions are never deleted'); END;

-- Other ids of a transaction, for look-ups. Only a signature promises something: it credits once, whatever else the call
-- says.
CREATE TABLE transaction_keys (
    game_id         INTEGER NOT NULL REFERENCES games (id),
    partner         TEXT NOT NULL,
    kind            TEXT NOT NULL,             -- e.g. purchase, payment, external, order, signature;
                                               -- alias, fallback, twin: see coinslot/ledger/aliases.py
    value           TEXT NOT NULL,
    transaction_id  INTEGER NOT NULL REFERENCES transactions (id),
    PRIMARY KEY (game_id, partner, kind, value, transaction_id)
) STRICT, WITHOUT ROWID;
-- A query that compares kind with a parameter writes +:kind /* hint */. Without +, SQLite re-prepares the query for each
-- value, to see whether this partial index applies. The same holds for every index with such a WHERE.
CREATE UNIQUE INDEX transaction_keys_signature ON transaction_keys (game_id, partner, value) WHERE kind = 'signature';
CREATE INDEX transaction_keys_folded ON transaction_keys (lower(value)) WHERE value <> lower(value);  -- the owner's search

-- What the game reads: one row per credit or reversal. The id is the feed's cursor and rises in commit order.
CREATE TABLE grants (
    id              INTEGER PRIMARY KEY,       -- from sequences
    game_id         INTEGER NOT NULL REFERENCES games (id),
    transaction_id  INTEGER NOT NULL REFERENCES transactions (id),
    kind            TEXT NOT NULL CHECK (kind IN ('purchase', 'bonus', 'reward', 'coupon', 'reversal', 'adjustment')),
    player_id       TEXT NOT NULL,
    reverses        INTEGER REFERENCES grants (id),  -- reversals only
    restores        INTEGER REFERENCES grants (id),  -- the reversal that an adjustment undoes; NULL otherwise
    policy          TEXT CHECK (policy IN ('revoke', 'revoke_negative', 'flag')),  -- of a reversal, and of what undoes it
    reason          TEXT,                      -- why, where a person or an event gave one
    is_test         INTEGER NOT NULL CHECK (is_test IN (0, 1)),
    created_at      TEXT NOT NULL,
    request_id      TEXT,                      -- of the call that caused it, as in the log and in X-Request-ID of its
                                               -- answer; NULL: no call, but a job or a command. No hash covers it
    grant_hash      TEXT NOT NULL DEFAULT '',  -- SHA-256 over that of the grant before, this row and its lines. Empty:
                                               -- not written by this code, and the ledger's check says so
    UNIQUE (transaction_id, kind),             -- what a game deduplicates on
    CHECK ((kind = 'reversal') = (reverses IS NOT NULL))
) STRICT;
CREATE INDEX grants_feed ON grants (game_id, id);                -- GET /game/v1/grants
CREATE INDEX grants_reversals ON grants (game_id, id) WHERE kind = 'reversal';  -- the owner's list of what was undone

CREATE TABLE entries (
    grant_id   INTEGER NOT NULL REFERENCES grants (id),
    sku        TEXT NOT NULL,
    quantity   TEXT NOT NULL CHECK (length(quantity) BETWEEN 1 AND 41 AND quantity NOT GLOB '*[^0-9-]*'),
    policy     TEXT CHECK (policy IN ('revoke', 'revoke_negative', 'flag')),  -- of a reversal's line, where it differs
                                               -- from the grant's
    PRIMARY KEY (grant_id, sku)
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_by_sku ON entries (sku, grant_id);          -- who was given an item

CREATE TRIGGER grants_are_never_changed BEFORE UPDATE ON grants
    BEGIN SELECT RAISE(ABORT, 'grants are never changed'); END;
CREATE TRIGGER grants_are_never_deleted BEFORE DELETE ON grants
    BEGIN SELECT RAISE(ABORT, 'grants are never deleted'); END;
CREATE TRIGGER entries_are_never_changed BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
CREATE TRIGGER entries_are_never_deleted BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries are never deleted'); END;

-- Verified facts from partners that credit nothing: an order that failed, later refunds, disputes, logins, boosts.
CREATE TABLE events (
    id           INTEGER PRIMARY KEY,          -- from sequences
    game_id      INTEGER NOT NULL REFERENCES games (id),
    partner      TEXT NOT NULL,
    type         TEXT NOT NULL,                -- <partner>.<event>
    dedupe_key   TEXT NOT NULL,                -- the partner's event id, or a substitute
    external_id  TEXT,                         -- the transaction it is about; NULL: none
    player_id    TEXT,                         -- likewise
    data         TEXT NOT NULL,                -- JSON in our words
    raw_body     BLOB,                         -- NULL for a login, which may hold a password, once the player is
                                               -- forgotten, or after the time that the game keeps it
    environment  TEXT NOT NULL CHECK (environment IN ('live', 'sandbox')),
    is_test      INTEGER NOT NULL CHECK (is_test IN (0, 1)),
    occurred_at  TEXT,
    received_at  TEXT NOT NULL,
    request_id   TEXT,                         -- of the call that brought it, as of grants
    UNIQUE (game_id, partner, dedupe_key)
) STRICT;
CREATE INDEX events_feed ON events (game_id, id);
CREATE INDEX events_by_time ON events (game_id, received_at);    -- the owner's list: where a day begins among the ids
CREATE INDEX events_by_player ON events (game_id, player_id, id) WHERE player_id IS NOT NULL;
CREATE INDEX events_by_transaction ON events (game_id, partner, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX events_of_nobody ON events (game_id, id)
    WHERE player_id IS NULL AND raw_body IS NOT NULL;                          -- forgetting a player
CREATE INDEX events_of_boosts ON events (game_id, occurred_at, received_at)
    WHERE type IN ('sponsor.created', 'sponsor.ended');                        -- who supported whom when: months
-- The owner's search in either case of letters.
CREATE INDEX events_folded ON events (lower(dedupe_key)) WHERE dedupe_key <> lower(dedupe_key);
CREATE INDEX events_by_transaction_folded ON events (lower(external_id)) WHERE external_id <> lower(external_id);

-- Money that went back to the player, or came back after a dispute, and its outcome here. A fact about an unknown purchase
-- waits for it.
CREATE TABLE refunds (
    id              INTEGER PRIMARY KEY,
    game_id         INTEGER NOT NULL REFERENCES games (id),
    partner         TEXT NOT NULL,
    event_id        INTEGER UNIQUE REFERENCES events (id),        -- NULL when a person reversed it
    reason          TEXT NOT NULL CHECK (reason IN ('refund', 'chargeback', 'reinstated')),
    amount          TEXT,                      -- exact, as the partner wrote it, in whichever unit; NULL: not said
    outcome         TEXT NOT NULL CHECK (outcome IN
                    ('waiting',                -- for its purchase
                     'reversed', 'restored',   -- grant_id is the grant that did it
                     'ignored',                -- by the refund policy
                     'repeated',               -- there was nothing left to do
                     'ambiguous',              -- it names several purchases, or none; a person decides
                     'test')),                 -- a test's refund of a live purchase
    transaction_id  INTEGER REFERENCES transactions (id),         -- NULL while it waits, or when ambiguous
    grant_id        INTEGER REFERENCES grants (id),
    is_test         INTEGER NOT NULL CHECK (is_test IN (0, 1)),
    occurred_at     TEXT,
    created_at      TEXT NOT NULL,
    settled_at      TEXT,                      -- NULL while it waits
    CHECK ((outcome = 'waiting') = (settled_at IS NULL))
) STRICT;
CREATE INDEX refunds_by_game ON refunds (game_id, id);                         -- lists
CREATE INDEX refunds_by_transaction ON refunds (transaction_id) WHERE transaction_id IS NOT NULL;
CREATE INDEX refunds_waiting ON refunds (game_id, partner) WHERE outcome = 'waiting';  -- asked for by every credit
CREATE INDEX refunds_unsettled ON refunds (game_id, id) WHERE outcome IN ('ambiguous', 'waiting');  -- lists, doctor

-- The ids by which a waiting refund names its purchase: the kinds of transaction_keys, and 'reference'.
CREATE TABLE refund_keys (
    game_id    INTEGER NOT NULL REFERENCES games (id),
    partner    TEXT NOT NULL,
    kind       TEXT NOT NULL,
    value      TEXT NOT NULL,
    refund_id  INTEGER NOT NULL REFERENCES refunds (id),
    PRIMARY KEY (game_id, partner, kind, value, refund_id)
) STRICT, WITHOUT ROWID;

-- Refunds that a person asked a partner for (coinslot/ledger/refund_requests.py). A row is stored before anything is sent,
-- and the unique index lets one request per order stand, however many people ask.
CREATE TABLE refund_requests (
    id              INTEGER PRIMARY KEY,
    game_id         INTEGER NOT NULL REFERENCES games (id),
    partner         TEXT NOT NULL,
    reference       TEXT NOT NULL,             -- the partner's id of the order
    transaction_id  INTEGER REFERENCES transactions (id),         -- NULL: an order that is not known here
    state           TEXT NOT NULL CHECK (state IN
                    ('requested',              -- stored; without an answer for two minutes it is taken for unknown
                     'sent',                   -- the partner said that the refund has begun
                     'refused',                -- nothing has begun, and detail says why; another request may follow
                     'unknown',                -- no answer: it may have begun. Never sent again by itself
                     'done')),                 -- the partner reported the refund
    actor           TEXT NOT NULL,             -- who asked, as in audit
    reason          TEXT NOT NULL,             -- theirs; empty once the player was forgotten
    detail          TEXT NOT NULL,             -- what the partner said, or why there was no answer
    created_at      TEXT NOT NULL,
    answered_at     TEXT,                      -- when it left 'requested'; NULL: it did not, or the event was first
    ended_at        TEXT,
    CHECK ((state IN ('refused', 'done')) = (ended_at IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX refund_requests_standing ON refund_requests (game_id, partner, reference) WHERE state <> 'refused';
CREATE INDEX refund_requests_by_game ON refund_requests (game_id, id);         -- lists
CREATE INDEX refund_requests_by_transaction ON refund_requests (transaction_id) WHERE transaction_id IS NOT NULL;
CREATE INDEX refund_requests_open ON refund_requests (game_id, id)
    WHERE state IN ('requested', 'sent', 'unknown');                           -- troubles, the partner's report

-- A known transaction reported again with other content: refused, not credited, kept for a person to decide.
CREATE TABLE conflicts (
    id              INTEGER PRIMARY KEY,
    game_id         INTEGER NOT NULL REFERENCES games (id),
    partner         TEXT NOT NULL,
    transaction_id  INTEGER NOT NULL REFERENCES transactions (id),  -- the one that was credited
    external_id     TEXT NOT NULL,             -- as the refused call gave it
    player_id       TEXT NOT NULL,
    fingerprint     TEXT NOT NULL,
    raw_body        BLOB,                      -- NULL once the player is forgotten
    seen            INTEGER NOT NULL,          -- how often this content came
    first_at        TEXT NOT NULL,
    last_at         TEXT NOT NULL,
    UNIQUE (transaction_id, external_id, fingerprint)
) STRICT;
CREATE INDEX conflicts_by_game ON conflicts (game_id, id);       -- lists

-- What a proved report showed that a person has to look at, and that no other table knows (coinslot/ledger/notices.py).
CREATE TABLE notices (
    game_id         INTEGER NOT NULL REFERENCES games (id),
    partner         TEXT NOT NULL,
    kind            TEXT NOT NULL CHECK (kind IN
                    ('empty_order',            -- paid, and named nothing to credit
                     'unreadable_money',       -- credited, and what was paid for it cannot be read
                     'unnamed_event',          -- names an order, and not what happened to it
                     'partial_refund',         -- of less than the order
                     'credited_twice',         -- two transactions turned out to be one purchase
                     'replayed')),             -- credited again after a restore, perhaps under another transaction id
    subject         TEXT NOT NULL,             -- the word, or the id of the order; never a player's
    detail          TEXT NOT NULL,             -- more about it, or empty
    transaction_id  INTEGER REFERENCES transactions (id),  -- this and the next: the transactions it is about, if any
    other_id        INTEGER REFERENCES transactions (id),
    currency        TEXT,                      -- of the money at stake; NULL: none, or unknown; likewise the amount
    amount_minor    INTEGER,
    seen            INTEGER NOT NULL,          -- how often it was noted
    first_at        TEXT NOT NULL,
    last_at         TEXT NOT NULL,
    PRIMARY KEY (game_id, partner, kind, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_by_kind ON notices (kind, last_at);         -- troubles


-- Creators and payments --------------------------------------------------------------------------------------------

-- Which creator a player supports now, per campaign, as the newest event says.
CREATE TABLE boosts (
    game_id      INTEGER NOT NULL REFERENCES games (id),
    player_id    TEXT NOT NULL,
    campaign_id  TEXT NOT NULL,                -- empty when the event named none
    is_test      INTEGER NOT NULL CHECK (is_test IN (0, 1)),
    creator_key  TEXT,                         -- NULL: the support ended
    changed_at   TEXT NOT NULL,                -- the event's own time; an older event changes nothing
    PRIMARY KEY (game_id, player_id, campaign_id, is_test)
) STRICT, WITHOUT ROWID;

-- An event to be converted to the game's own format, after it was acknowledged; then it is owed to the destinations with
-- that format. One that cannot be converted yet is parked with its reason, and later ones of that player wait.
CREATE TABLE conversions (
    id           INTEGER PRIMARY KEY,
    game_id      INTEGER NOT NULL REFERENCES games (id),
    event_id     INTEGER NOT NULL UNIQUE REFERENCES events (id),
    player_id    TEXT NOT NULL,
    batch        TEXT NOT NULL,                -- events of one batch and player that go out in one body share it
    state        TEXT NOT NULL CHECK (state IN ('waiting', 'parked', 'converted')),
    reason       TEXT,                         -- why it is parked
    body         BLOB,                         -- once converted; on the first event of its batch only;
                                               -- NULL again once the player is forgotten and nothing waits for it
    created_at   TEXT NOT NULL,
    updated_at   TEXT NOT NULL
) STRICT;
CREATE INDEX conversions_open ON conversions (game_id, id) WHERE state <> 'converted';

-- In-game payments to be registered for creators: one row per transaction id, from whatever source and however often.
CREATE TABLE payments (
    id                 INTEGER PRIMARY KEY,
    game_id            INTEGER NOT NULL REFERENCES games (id),
    transaction_id     TEXT NOT NULL,
    source             TEXT NOT NULL,          -- poll or push: the game reported it; else the web store whose order it is
    player_id          TEXT,                   -- this and the next eight are NULL in a parked row that lacks them
    product_id         TEXT,
    product_name       TEXT,
    amount             TEXT,                   -- exact decimal text in major units
    currency           TEXT,
    market             TEXT,
    platform           TEXT,
    distribution_type  TEXT,
    purchased_at       TEXT,
    reported           TEXT NOT NULL,          -- JSON: what was reported, converted by the game's expression
    fingerprint        TEXT NOT NULL,          -- the same for a repeat; another for a conflict
    is_test            INTEGER NOT NULL CHECK (is_test IN (0, 1)),
    refunded_at        TEXT,                   -- NULL: not refunded
    state              TEXT NOT NULL CHECK (state IN
                       ('parked',              -- cannot be sent as it is; reason says why
                        'waiting',             -- to be registered
                        'registered',
                        'quarantined',         -- refused too often; a person decides
                        'kept')),              -- not to be registered, only to be asked for
    reason             TEXT,
    tries              INTEGER NOT NULL DEFAULT 0,
    next_try_at        TEXT,                   -- NULL unless waiting
    registered_at      TEXT,
    is_sent            INTEGER NOT NULL DEFAULT 0 CHECK (is_sent IN (0, 1)),  -- 1: it may have left this database; its
                                               -- content is frozen
    is_told            INTEGER NOT NULL DEFAULT 0 CHECK (is_told IN (0, 1)),  -- 1: the query API has served it
    refund_state       TEXT CHECK (refund_state IN ('waiting', 'done', 'quarantined')),  -- NULL: no refund
    refund_tries       INTEGER NOT NULL DEFAULT 0,
    refund_next_at     TEXT,                   -- NULL unless the refund waits
    waits_since        TEXT,                   -- since when it, or its refund, is to be sent; NULL: neither is
    created_at         TEXT NOT NULL,
    updated_at         TEXT NOT NULL,
    UNIQUE (game_id, transaction_id),
    CHECK ((state = 'waiting') = (next_try_at IS NOT NULL)),
    CHECK ((coalesce(refund_state, '') = 'waiting') = (refund_next_at IS NOT NULL))
) STRICT;
CREATE INDEX payments_due ON payments (game_id, next_try_at) WHERE state = 'waiting';
CREATE INDEX payments_refunds_due ON payments (game_id, refund_next_at) WHERE refund_state = 'waiting';
CREATE INDEX payments_refunds_stuck ON payments (game_id, id) WHERE refund_state = 'quarantined';
CREATE INDEX payments_by_time ON payments (game_id, purchased_at, id);       -- the payment query API, months
CREATE INDEX payments_by_player ON payments (game_id, player_id, id);
CREATE INDEX payments_by_state ON payments (game_id, state, id);             -- lists
CREATE INDEX payments_folded ON payments (lower(transaction_id))
    WHERE transaction_id <> lower(transaction_id);                           -- the owner's search in either case
CREATE INDEX payments_changed ON payments (game_id, updated_at, purchased_at);  -- what came late for a closed month

-- A known payment reported again with other content: the first report holds; a person decides.
CREATE TABLE payment_conflicts (
    id           INTEGER PRIMARY KEY,
    payment_id   INTEGER NOT NULL REFERENCES payments (id),
    fingerprint  TEXT NOT NULL,
    reason       TEXT,                         -- why the report cannot be read; NULL: it can, and says otherwise
    reported     TEXT NOT NULL,                -- as in payments
    seen         INTEGER NOT NULL,
    first_at     TEXT NOT NULL,
    last_at      TEXT NOT NULL,
    UNIQUE (payment_id, fingerprint)
) STRICT;


-- What must be delivered because of it (the outbox) ---------------------------------------------------------------

CREATE TABLE destinations (
    id                  INTEGER PRIMARY KEY,
    game_id             INTEGER NOT NULL REFERENCES games (id),
    name                TEXT NOT NULL,         -- its signing secret is the game's secret destination.<name>
    url                 TEXT NOT NULL,
    events              TEXT NOT NULL DEFAULT '*',  -- pattern such as grant.*
    format              TEXT NOT NULL DEFAULT 'standard',  -- or one of a partner, which has these properties:
    is_converted        INTEGER NOT NULL DEFAULT 0 CHECK (is_converted IN (0, 1)),  -- gets only converted events
    keeps_order         INTEGER NOT NULL DEFAULT 0 CHECK (keeps_order IN (0, 1)),   -- of each player's deliveries
    timeout_seconds     INTEGER NOT NULL DEFAULT 10,
    retry_seconds       TEXT,                  -- comma list of delays; NULL = those of the standard format
    success             TEXT NOT NULL DEFAULT '2xx' CHECK (success IN ('2xx', '200', 'expression')),
    success_expression  TEXT,                  -- JMESPath on the answer, for 'expression' (which wants a 200 as well)
    state               TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'removed')),
    state_reason        TEXT,                  -- why it is paused, where that was not the owner
    -- The circuit. It is open while circuit_open_since is set; then one delivery at a time probes.
    failures_in_row     INTEGER NOT NULL DEFAULT 0,
    failing_deliveries  TEXT NOT NULL DEFAULT '',  -- comma list of the first few deliveries those failures were of
    down_since          TEXT,                  -- the first of those failures; NULL after a success
    circuit_open_since  TEXT,
    reviving_since      TEXT,                  -- it is back: what died since then is redriven, some at a time; NULL: done
    next_probe_at       TEXT,                  -- when the circuit is open
    last_probed         INTEGER NOT NULL DEFAULT 0,  -- the delivery of the last probe; the next probe takes the one after
    created_at          TEXT NOT NULL,
    updated_at          TEXT NOT NULL,
    UNIQUE (game_id, name),
    CHECK ((circuit_open_since IS NULL) = (next_probe_at IS NULL))
) STRICT;

-- One event owed to one destination; written in the same commit as the fact that caused it.
CREATE TABLE deliveries (
    id                INTEGER PRIMARY KEY,
    game_id           INTEGER NOT NULL REFERENCES games (id),
    destination_id    INTEGER NOT NULL REFERENCES destinations (id),
    webhook_id        TEXT NOT NULL UNIQUE,    -- never changes over retries: the receiver deduplicates on it
    event_type        TEXT NOT NULL,           -- grant.created, grant.reversed, ...
    grant_id          INTEGER REFERENCES grants (id),  -- the fact: a grant
    event_id          INTEGER REFERENCES events (id),  -- or an event
    waits_for         INTEGER REFERENCES deliveries (id),  -- of a reversal: its original, while that one waits
    player_id         TEXT,                    -- where the format keeps the order of each player's deliveries
    state             TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
    attempts_made     INTEGER NOT NULL DEFAULT 0,  -- of the retry table; a redrive starts at 0 again
    next_attempt_at   TEXT,                    -- NULL unless waiting
    leased_until      TEXT,                    -- a claim; past = free again
    lease_owner       TEXT,
    self_redriven     INTEGER NOT NULL DEFAULT 0 CHECK (self_redriven IN (0, 1)),  -- by a destination coming back, once
    dead_reason       TEXT,
    created_at        TEXT NOT NULL,
    finished_at       TEXT,                    -- delivered or dead since
    CHECK ((grant_id IS NULL) <> (event_id IS NULL)),
    CHECK ((state = 'waiting') = (next_attempt_at IS NOT NULL)),
    CHECK ((state = 'waiting') = (finished_at IS NULL)),
    CHECK ((leased_until IS NULL) = (lease_owner IS NULL))
) STRICT;
CREATE INDEX deliveries_due ON deliveries (destination_id, next_attempt_at) WHERE state = 'waiting';  -- the claim
CREATE INDEX deliveries_by_state ON deliveries (game_id, state, id);                     -- lists and redrives
CREATE INDEX deliveries_by_destination ON deliveries (destination_id, state, finished_at);  -- redrives, pruning
CREATE INDEX deliveries_by_grant ON deliveries (grant_id, destination_id) WHERE grant_id IS NOT NULL;
CREATE INDEX deliveries_by_event ON deliveries (event_id) WHERE event_id IS NOT NULL;    -- what became of an event
CREATE INDEX deliveries_waited_for ON deliveries (waits_for) WHERE waits_for IS NOT NULL;
CREATE INDEX deliveries_of_player ON deliveries (destination_id, player_id, id)
    WHERE state = 'waiting' AND player_id IS NOT NULL;                                   -- order per player

CREATE TABLE attempts (
    id            INTEGER PRIMARY KEY,
    delivery_id   INTEGER NOT NULL REFERENCES deliveries (id),
    started_at    TEXT NOT NULL,
    duration_ms   INTEGER,                     -- NULL while under way, and afterwards if the process died then
    status        INTEGER,                     -- HTTP status, when there was an answer
    failure       TEXT CHECK (failure IN
                  ('dns', 'refused', 'timeout', 'tls', 'redirect', 'too_large', 'status', 'rejected')),
    detail        TEXT,                        -- the failure in a few more words
    answer        BLOB                         -- beginning of the answer's body
) STRICT;
CREATE INDEX attempts_by_delivery ON attempts (delivery_id, id);

-- Loops that must be running somewhere, and when one last said so.
CREATE TABLE heartbeats (
    name     TEXT NOT NULL PRIMARY KEY,        -- relay
    beat_at  TEXT NOT NULL
) STRICT;


-- Work that is due at a time, one row per game and job (coinslot/relay/jobs.py).
CREATE TABLE schedules (
    game_id       INTEGER NOT NULL,            -- 0: a job of the installation as a whole
    name          TEXT NOT NULL,               -- <partner>.<job>; of the installation one word
    due_at        TEXT,                        -- NULL: not until it is asked for
    asked         INTEGER NOT NULL,            -- how often it was asked for
    leased_until  TEXT,                        -- a claim; past = free again
    lease_owner   TEXT,
    failures      INTEGER NOT NULL DEFAULT 0,  -- in a row
    last_error    TEXT,                        -- NULL after a success
    warning       TEXT,                        -- what the owner should know though no run failed; NULL: nothing
    last_ran_at   TEXT,
    cursor        TEXT,                        -- how far the job has come, in its own words; NULL: not begun
    PRIMARY KEY (game_id, name),
    CHECK ((leased_until IS NULL) = (lease_owner IS NULL))
) STRICT;

-- Players whose profile has changed, and whose open store a partner must be asked to reload.
CREATE TABLE refreshes (
    game_id    INTEGER NOT NULL REFERENCES games (id),
    partner    TEXT NOT NULL,
    player_id  TEXT NOT NULL,
    asked_at   TEXT NOT NULL,
    PRIMARY KEY (game_id, partner, player_id)
) STRICT, WITHOUT ROWID;


-- Settlement -------------------------------------------------------------------------------------------------------

-- A closed month. The first to insert closes it: only one row per game and month is not reopened. An open month has no
-- row. Frozen columns never change (see the triggers); a month that was closed again has a new row.
CREATE TABLE settlements (
    id          INTEGER PRIMARY KEY,
    game_id     INTEGER NOT NULL REFERENCES games (id),
    month       TEXT NOT NULL CHECK (month GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]'),
    version     INTEGER NOT NULL,              -- 1, and one more each time it was reopened and closed again
    starts_at   TEXT NOT NULL,                 -- the month's bounds in the game's time zone, the second not part of it
    ends_at     TEXT NOT NULL,
    terms       TEXT NOT NULL,                 -- JSON: zone, store fees and creators' shares it was computed with
    known_at    TEXT NOT NULL,                 -- when its facts were read; what came later goes into a later month
    state       TEXT NOT NULL CHECK (state IN
                ('closed', 'reconciled', 'payment_confirmed', 'creators_settled',
                 'reopened')),                 -- its lines no longer count
    closed_at   TEXT NOT NULL,
    UNIQUE (game_id, month, version)
) STRICT;
CREATE UNIQUE INDEX settlements_standing ON settlements (game_id, month) WHERE state <> 'reopened';

CREATE TRIGGER settlements_are_frozen BEFORE UPDATE OF
    id, game_id, month, version, starts_at, ends_at, terms, known_at, closed_at
    ON settlements BEGIN SELECT RAISE(ABORT, 'a closed month is never changed'); END;
CREATE TRIGGER settlements_are_never_deleted BEFORE DELETE ON settlements
    BEGIN SELECT RAISE(ABORT, 'a closed month is never deleted'); END;

-- Each state a closed month has come to: who brought it there, when, and what they said about it.
CREATE TABLE settlement_steps (
    id             INTEGER PRIMARY KEY,
    game_id        INTEGER NOT NULL REFERENCES games (id),
    settlement_id  INTEGER NOT NULL REFERENCES settlements (id),
    state          TEXT NOT NULL CHECK (state IN
                   ('closed', 'reconciled', 'payment_confirmed', 'creators_settled', 'reopened')),
    is_skipped     INTEGER NOT NULL CHECK (is_skipped IN (0, 1)),  -- passed over, and the note says why
    actor          TEXT NOT NULL,              -- a person's name, command, or job
    note           TEXT NOT NULL,              -- empty: none
    created_at     TEXT NOT NULL
) STRICT;
CREATE INDEX settlement_steps_by_settlement ON settlement_steps (settlement_id, id);
CREATE INDEX settlement_steps_by_game ON settlement_steps (game_id, id);         -- whether anything has moved meanwhile

CREATE TRIGGER settlement_steps_are_never_changed BEFORE UPDATE ON settlement_steps
    BEGIN SELECT RAISE(ABORT, 'what was done with a month is never changed'); END;
CREATE TRIGGER settlement_steps_are_never_deleted BEFORE DELETE ON settlement_steps
    BEGIN SELECT RAISE(ABORT, 'what was done with a month is never deleted'); END;

-- What a closed month consists of. A line whose own month is an earlier one is an adjustment: what came late for it.
CREATE TABLE settlement_lines (
    settlement_id      INTEGER NOT NULL REFERENCES settlements (id),
    number             INTEGER NOT NULL,       -- from 1, in the order of the documents
    month              TEXT NOT NULL,          -- the one its facts are of
    section            TEXT NOT NULL CHECK (section IN
                       ('counted',
                        'orders',              -- a web store's orders that were registered for creators; their
                                               -- money is in the lines of the web store
                        'free', 'test',        -- apart: in no total
                        'incomplete',          -- apart: no amount, currency or distribution type is known yet
                        'too_large')),         -- apart: one line for each purchase whose amount no sum can hold
    partner            TEXT NOT NULL,
    currency           TEXT NOT NULL,          -- ISO 4217; empty where there is none
    distribution_type  TEXT NOT NULL,          -- empty where the partner has none
    creator            TEXT,                   -- NULL: no creator
    is_registered      INTEGER CHECK (is_registered IN (0, 1)),  -- for creators, when the month was closed; NULL for
                                               -- other partners, and for adjustments
    count              INTEGER NOT NULL,       -- of purchases; below 0 in adjustments only, like all that follows
    refund_count       INTEGER NOT NULL,       -- how many of them were given back
    gross_minor        INTEGER NOT NULL,
    refunds_minor      INTEGER NOT NULL,       -- of the gross, what was given back
    tax_minor          INTEGER,                -- this and the next two: NULL where the partner did not say
    fee_minor          INTEGER,
    net_minor          INTEGER,
    share_minor        INTEGER NOT NULL,       -- of the net, the creator's
    usd_gross          INTEGER,                -- the partner's own figures of what was not refunded, summed in whole US cents;
    usd_tax            INTEGER,                -- NULL: not said
    usd_fee            INTEGER,
    usd_net            INTEGER,
    unsaid             INTEGER NOT NULL,       -- how many that were not refunded came without fee or net
    unsaid_minor       INTEGER NOT NULL,       -- their gross
    undated            INTEGER NOT NULL,       -- how many came without a time that can be used: they are in the month in
                                               -- which they were received
    reference          TEXT NOT NULL,          -- the one purchase it is about, where it is too large; else empty
    PRIMARY KEY (settlement_id, number)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER settlement_lines_are_never_changed BEFORE UPDATE ON settlement_lines
    BEGIN SELECT RAISE(ABORT, 'a closed month is never changed'); END;
CREATE TRIGGER settlement_lines_are_never_deleted BEFORE DELETE ON settlement_lines
    BEGIN SELECT RAISE(ABORT, 'a closed month is never deleted'); END;

-- Figures of large open months so far, computed now and then for the page. A cache: it may be deleted at any time.
CREATE TABLE months_so_far (
    game_id   INTEGER NOT NULL REFERENCES games (id),
    month     TEXT NOT NULL,
    lines     TEXT NOT NULL,                   -- JSON: objects as in settlement_lines
    known_at  TEXT NOT NULL,                   -- when its facts were read
    PRIMARY KEY (game_id, month)
) STRICT, WITHOUT ROWID;

-- A month compared with a partner's own figures. The newest of each partner counts; older ones are deleted.
CREATE TABLE reconciliations (
    id              INTEGER PRIMARY KEY,
    game_id         INTEGER NOT NULL REFERENCES games (id),
    month           TEXT NOT NULL,
    partner         TEXT NOT NULL,
    is_of_payments  INTEGER NOT NULL DEFAULT 0 CHECK (is_of_payments IN (0, 1)),  -- in-game ones; else of its own orders
    source          TEXT NOT NULL CHECK (source IN ('api', 'file')),
    fingerprint     TEXT NOT NULL,             -- of the file and how it is read: the same goes on where it stopped
    starts_at       TEXT NOT NULL,
    ends_at         TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN
                    ('reading',                -- the partner's rows are coming in
                     'comparing',              -- theirs, in the order of their ids
                     'searching',              -- ours that they do not have
                     'done', 'replaced')),
    cursor          TEXT NOT NULL DEFAULT '',  -- how far that has come, in its own words
    rows_expected   INTEGER,                   -- NULL: unknown
    rows_read       INTEGER NOT NULL DEFAULT 0,
    rows_odd        INTEGER NOT NULL DEFAULT 0,  -- of those, which could not be read
    rows_compared   INTEGER NOT NULL DEFAULT 0,
    matched         INTEGER NOT NULL DEFAULT 0,  -- purchases on which both sides agree
    summary         TEXT,                      -- JSON: count and sum of each kind of difference; NULL until done
    notes           TEXT,                      -- JSON: sentences on how the report was read; NULL: none
    held_at         TEXT NOT NULL,             -- when this report was first compared with the month: what was done
                                               -- since is not in it
    first_paid_at   TEXT,                      -- of the partner's rows of what was paid, the first and the last time:
    last_paid_at    TEXT,                      -- its month need not be ours
    started_at      TEXT NOT NULL,
    finished_at     TEXT                       -- NULL until done
) STRICT;
CREATE UNIQUE INDEX reconciliations_standing ON reconciliations (game_id, month, partner) WHERE state <> 'replaced';
CREATE INDEX reconciliations_replaced ON reconciliations (game_id, id) WHERE state = 'replaced';  -- clearing away

-- What the partner says, one row per movement of money; reference is our own id of the purchase where we know it.
CREATE TABLE partner_rows (
    reconciliation_id  INTEGER NOT NULL REFERENCES reconciliations (id),
    reference          TEXT NOT NULL,
    row_id             TEXT NOT NULL,          -- the partner's id of this row, or a substitute, with its amount
    kind               TEXT NOT NULL CHECK (kind IN ('paid', 'refunded', 'reinstated', 'unreadable')),
    amount_minor       TEXT,                   -- exact; not always whole. NULL: not said
    currency           TEXT,
    occurred_at        TEXT,
    sample             TEXT,                   -- of a row that cannot be read: what it says; else the partner's id of
                                               -- the purchase, where that is not ours
    PRIMARY KEY (reconciliation_id, reference, row_id)
) STRICT, WITHOUT ROWID;

-- What does not agree, one row per purchase.
CREATE TABLE differences (
    id                 INTEGER PRIMARY KEY,
    reconciliation_id  INTEGER NOT NULL REFERENCES reconciliations (id),
    reference          TEXT NOT NULL,
    result             TEXT NOT NULL CHECK (result IN
                       ('missing_here',        -- charged by the partner, and nothing was granted or counted here
                        'missing_there', 'amount_differs',
                        'refunded_there', 'refunded_here',    -- on one side only
                        'unreadable',          -- the partner reports it in a way that cannot be read
                        'at_edge',             -- not there, in the hours by which the two months may differ
                        'id_altered')),        -- missing on one side, and on the other under an id that was altered
    action             TEXT NOT NULL,          -- the word for what mends it
    currency           TEXT,                   -- of the sum at stake
    stake_minor        TEXT,                   -- exact; NULL where no amount is known
    ours_minor         TEXT,                   -- NULL: we have none, or it is not known
    ours_currency      TEXT,
    theirs_minor       TEXT,
    theirs_currency    TEXT,
    occurred_at        TEXT,
    detail             TEXT,                   -- what the remedy has to say: the line, the time, the month, the other id
    UNIQUE (reconciliation_id, reference)
) STRICT;
CREATE INDEX differences_by_result ON differences (reconciliation_id, result, id);  -- lists


-- What the owner looks at -------------------------------------------------------------------------------------

-- Refused calls. The plain columns carry no secret and no signature; the call itself is sealed by the vault.
-- Without a state: a bounded ring of calls that proved nothing, written in batches outside the request
-- (coinslot/operations/observations.py). With a state: a call that had proved itself, committed before it was answered and
-- never dropped while it is open (coinslot/ledger/refused.py).
CREATE TABLE refusals (
    id              INTEGER PRIMARY KEY,
    game_id         INTEGER REFERENCES games (id),  -- NULL when the call named no game of ours, and proved nothing
    state           TEXT CHECK (state IN
                    ('open',                   -- nothing was credited for it
                     'mended',                 -- its order was credited, failed or was refunded since
                     'aside')),                -- a person set it aside
    partner         TEXT NOT NULL,
    endpoint        TEXT NOT NULL,
    path            TEXT NOT NULL DEFAULT '',  -- as it was called, where there is no such address; empty otherwise
    reason          TEXT NOT NULL,             -- signature, timestamp, token, address, malformed, unknown_player, ...
    status          INTEGER NOT NULL,          -- HTTP status of the answer
    is_simulated    INTEGER NOT NULL DEFAULT 0 CHECK (is_simulated IN (0, 1)),  -- proved to be one of our own calls:
                                               -- it counts as no trouble of the partner
    remote_address  TEXT NOT NULL,
    body_size       INTEGER NOT NULL,
    ciphertext      BLOB NOT NULL,             -- JSON: request line, headers that matter, body (cut at 64 KiB)
    nonce           BLOB NOT NULL UNIQUE,
    key_id          TEXT NOT NULL,
    created_at      TEXT NOT NULL,
    -- Of calls with a state:
    name            TEXT,                      -- the id that the order goes by: one of refusal_names
    is_question     INTEGER NOT NULL DEFAULT 0 CHECK (is_question IN (0, 1)),  -- it reported nothing, and asked
                                               -- something: the same question is one row
    reference       TEXT NOT NULL DEFAULT '',  -- the order's id as the partner writes it; empty: it has none
    detail          TEXT NOT NULL DEFAULT '',  -- more about the reason: the sku, the status
    player_id       TEXT,                      -- NULL: not said
    currency        TEXT,                      -- NULL: not said, or unreadable; likewise the amount
    amount_minor    INTEGER,
    is_test         INTEGER NOT NULL DEFAULT 0 CHECK (is_test IN (0, 1)),
    seen            INTEGER NOT NULL DEFAULT 1, -- how often it was refused
    last_at         TEXT,                      -- the last time
    ended_at        TEXT,                      -- mended or set aside since
    note            TEXT,                      -- why it was set aside
    CHECK (state IS NOT NULL OR (player_id IS NULL AND last_at IS NULL)),
    CHECK (state IS NULL OR (game_id IS NOT NULL AND last_at IS NOT NULL)),
    CHECK (coalesce(state, 'open') = 'open' OR ended_at IS NOT NULL)
) STRICT;
CREATE INDEX refusals_by_partner ON refusals (partner, game_id, id);
CREATE INDEX refusals_by_time ON refusals (created_at) WHERE state IS NULL;
CREATE INDEX refusals_open ON refusals (game_id, partner, id) WHERE state = 'open';  -- troubles; asked for by every credit
CREATE INDEX refusals_by_player ON refusals (game_id, player_id) WHERE player_id IS NOT NULL;  -- the owner's search
CREATE INDEX refusals_ended ON refusals (ended_at) WHERE ended_at IS NOT NULL;       -- pruning

-- The names of the order that such a call reported: its ids as the ledger knows them, or the hash of the body.
CREATE TABLE refusal_names (
    game_id     INTEGER NOT NULL REFERENCES games (id),
    partner     TEXT NOT NULL,
    name        TEXT NOT NULL,
    refusal_id  INTEGER NOT NULL REFERENCES refusals (id) ON DELETE CASCADE,
    PRIMARY KEY (game_id, partner, name, refusal_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX refusal_names_by_refusal ON refusal_names (refusal_id);            -- deleting
CREATE INDEX refusal_names_folded ON refusal_names (lower(name));               -- the owner's search in either case

-- From where calls of a partner have proved themselves: what is refused from there is no stranger's noise.
CREATE TABLE callers (
    partner         TEXT NOT NULL,
    remote_address  TEXT NOT NULL,
    proved_at       TEXT NOT NULL,             -- to within an hour
    PRIMARY KEY (partner, remote_address)
) STRICT, WITHOUT ROWID;

-- Troubles that a person set aside. One is shown again when it happens again, and forgotten once it is over.
CREATE TABLE asides (
    trouble     TEXT NOT NULL PRIMARY KEY,     -- its key
    note        TEXT NOT NULL,
    created_at  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Who changed what, by page or command. Never holds a value of a secret.
CREATE TABLE audit (
    id          INTEGER PRIMARY KEY,
    game_id     INTEGER REFERENCES games (id), -- NULL: the installation as a whole
    actor       TEXT NOT NULL,                 -- a person's name; or command, game (its API token, its reports), or
                                               -- server (troubles)
    action      TEXT NOT NULL,                 -- e.g. secret.rotate
    subject     TEXT NOT NULL,                 -- what it was done to
    created_at  TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_game ON audit (game_id, id);
CREATE INDEX audit_of_moves ON audit (game_id, created_at, subject) WHERE action = 'payment.move';  -- closed months

-- Each address of ours: whether its partner has it, and the results of the last calls there. Written in batches outside
-- the request (coinslot/operations/observations.py), so that no call gets slower.
CREATE TABLE contacts (
    game_id         INTEGER NOT NULL REFERENCES games (id),
    partner         TEXT NOT NULL,
    endpoint        TEXT NOT NULL,
    copied_at       TEXT,                      -- when the owner noted that it is in the partner's dashboard
    first_at        TEXT,                      -- NULL until a call has proved itself here
    proved_at       TEXT,                      -- the last one that did
    usual_pause_seconds INTEGER,               -- the longest that is usual between two such calls; NULL: not known yet
    silent_from     TEXT,                      -- without another one until then, something is wrong; likewise
    refused_at      TEXT,                      -- the last one that was refused, for any reason
    refused_reason  TEXT,
    PRIMARY KEY (game_id, partner, endpoint),
    CHECK ((first_at IS NULL) = (proved_at IS NULL)),
    CHECK ((usual_pause_seconds IS NULL) = (silent_from IS NULL)),
    CHECK ((refused_at IS NULL) = (refused_reason IS NULL))
) STRICT, WITHOUT ROWID;

-- The longest pause of each day, from which coinslot/operations/pauses.py learns what is usual: between two calls to an
-- address that proved themselves, counted for the day of the second and written in the same batches; and, of partner
-- game, from a grant until the game has read it.
CREATE TABLE pauses (
    game_id          INTEGER NOT NULL REFERENCES games (id),
    partner          TEXT NOT NULL,
    endpoint         TEXT NOT NULL,
    day              TEXT NOT NULL,            -- 2026-01-31, UTC
    ended            INTEGER NOT NULL,         -- how many ended that day
    longest_seconds  INTEGER NOT NULL,
    PRIMARY KEY (game_id, partner, endpoint, day)
) STRICT, WITHOUT ROWID;

-- How far each game has read its feed, and what became of its grants (coinslot/operations/feeds.py).
CREATE TABLE feeds (
    game_id             INTEGER PRIMARY KEY REFERENCES games (id),
    read_through        INTEGER NOT NULL DEFAULT 0,  -- it asked for what comes after this id; written in batches
    read_at             TEXT,                  -- when it last asked, to within a minute; NULL: never
    learned_through     INTEGER NOT NULL DEFAULT 0,  -- how long it took is known up to this id
    usual_seconds       INTEGER,               -- from a grant until the game has read it, at most; NULL: not known
    late_after_seconds  INTEGER,               -- a grant is late that it has not taken after this; likewise
    judged_through      INTEGER NOT NULL DEFAULT 0   -- each grant up to this id is taken, or in untaken_grants
) STRICT;

-- Grants that no destination has got and the game has not read, as far as they are judged; some per game.
CREATE TABLE untaken_grants (
    game_id   INTEGER NOT NULL REFERENCES games (id),
    grant_id  INTEGER NOT NULL REFERENCES grants (id),
    PRIMARY KEY (game_id, grant_id)
) STRICT, WITHOUT ROWID;

-- Files that the owner has uploaded and not used yet, in parts (coinslot/operations/uploads.py).
CREATE TABLE uploads (
    name        TEXT NOT NULL,
    part        INTEGER NOT NULL,
    purpose     TEXT NOT NULL,   -- a word of ours: what it is for, and of which game
    content     BLOB NOT NULL,   -- zlib
    created_at  TEXT NOT NULL,   -- the same for all parts
    PRIMARY KEY (name, part)
) STRICT;

-- Figures counted as they happen; no page and no scrape counts rows. Tests count only in credited.test, and credits of the
-- reserved player or item nowhere.
CREATE TABLE counters (
    game_id  INTEGER NOT NULL REFERENCES games (id),
    partner  TEXT NOT NULL,                    -- or relay, for what is sent to the game
    name     TEXT NOT NULL,                    -- without a label: credited, reversed, restored (each also as
                                               -- credited.test and so on), duplicate, conflict, failed, event;
                                               -- of the relay: delivered, dead
    label    TEXT NOT NULL DEFAULT '',         -- called: the address; refused: the reason; item: the sku, counting
                                               -- grants that hold it; gross, refunded, returned: the currency, in
                                               -- minor units; of the relay: failed: the word; took: milliseconds
    day      TEXT NOT NULL,                    -- UTC date
    value    INTEGER NOT NULL,
    PRIMARY KEY (game_id, partner, name, label, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX counters_by_day ON counters (game_id, day);         -- the last thirty days of everything
