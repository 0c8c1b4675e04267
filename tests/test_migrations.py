"""A database made by an earlier version, with rows in it, becomes exactly what a new one is."""

import re
import sqlite3
from pathlib import Path

import pytest

from coinslot import counters, db, grants, registry
from coinslot.db import SCHEMA_VERSION, Database

ADDED_TO = (
    "entries",
    "grants",
    "payments",
    "players",
    "refusals",
    "schedules",
)  # their newest column was added, not written in
SCHEMAS = Path(__file__).parent / "schemas"  # schema.sql as it was when each earlier version served


def made_by(version: int, path: Path) -> None:
    """A file as version ``version`` made it, with an order that it credited."""
    connection = sqlite3.connect(path)
    connection.executescript(
        f"""PRAGMA journal_mode = WAL;
        {(SCHEMAS / f"{version}.sql").read_text()}
        PRAGMA application_id = {db.APPLICATION_ID}; PRAGMA user_version = {version};
        INSERT INTO games (id, slug, name, api_token_hash, revision, created_at)
            VALUES (1, 'demo', 'Demo', 'hash', 'r', '2026-01-31T00:00:00.000000Z');
        INSERT INTO transactions (id, public_id, game_id, partner, external_id, reference, kind, player_id, fingerprint,
                raw_body, body_sha256, signature, signed_with, answer_status, answer_body, environment, is_test,
                received_at, previous_hash, row_hash)
            VALUES (1, 'p', 1, 'appcharge', 'o-1', 'o-1', 'purchase', 'alice', 'f', x'7b7d', 'sha', 's', 'k', 200, 'a',
                'live', 0, '2026-01-31T00:00:00.000000Z', 'h0', 'h1');
        INSERT INTO grants (id, game_id, transaction_id, kind, player_id, is_test, created_at)
            VALUES (1, 1, 1, 'purchase', 'alice', 0, '2026-01-31T00:00:00.000000Z');
        INSERT INTO entries (grant_id, sku, quantity) VALUES (1, 'coins', '1000');
        UPDATE sequences SET last_id = 1 WHERE name = 'grants';"""
    )
    connection.close()


def shape(path: Path) -> dict[str, object]:
    """Every table with its columns, keys and checks, every index and trigger; comments and blanks do not count."""
    connection = sqlite3.connect(path)
    found: dict[str, object] = {}
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"):
        text = re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", sql)).replace("( ", "(").replace(" )", ")").strip()
        checks = sorted(re.findall(r"CHECK \(.*?\)(?=[,)]| [A-Z]|$)", text))
        found[f"{kind} {name}"] = (
            (
                connection.execute(f"PRAGMA table_xinfo({name})").fetchall(),
                connection.execute(f"PRAGMA foreign_key_list({name})").fetchall(),
                "STRICT" in text,
                "WITHOUT ROWID" in text,
                checks,
            )
            if kind == "table" and name in ADDED_TO
            else text
        )
    connection.close()
    return found


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_an_older_database_becomes_what_a_new_one_is_and_keeps_its_rows(tmp_path, version):
    old = Database(tmp_path / "old")
    old.home.mkdir()
    made_by(version, old.path)
    new = Database(tmp_path / "new")
    new.prepare()

    old.prepare()

    assert old.version() == SCHEMA_VERSION
    assert shape(old.path) == shape(new.path)
    page, _ = grants.feed(old.read(), 1, 0, 10)
    assert [(grant["external_id"], grant["items"]) for grant in page] == [("o-1", [{"sku": "coins", "quantity": 1000}])]
    old.close()
    new.close()


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_profile_that_was_stored_before_counts_as_unchecked_until_it_is_stored_anew(tmp_path, version):
    database = Database(tmp_path / "old")
    database.home.mkdir()
    made_by(version, database.path)
    connection = sqlite3.connect(database.path)
    for player_id in ("alice", "bob", "carol"):
        connection.execute(
            """INSERT INTO players (game_id, player_id, profile, created_at, updated_at)
               VALUES (1, :player_id, '{"offers":7}', '2026-01-31T00:00:00.000000Z', '2026-01-31T00:00:00.000000Z')""",
            {"player_id": player_id},
        )
    connection.commit()
    connection.close()

    database.prepare()
    database.write_here(lambda tx: registry.put_player(tx, 1, "alice", {"profile": {"segments": ["vip"]}}))
    database.write_here(lambda tx: registry.register_player(tx, 1, "bob", "Bob"))

    found = {each: registry.profile(database.read(), 1, each) for each in ("alice", "bob", "carol")}
    assert {name: row["is_profile_checked"] for name, row in found.items()} == {"alice": 1, "bob": 0, "carol": 0}
    assert (found["bob"]["name"], found["bob"]["profile"]) == ("Bob", '{"offers":7}')
    database.close()


def test_every_version_has_a_step_and_a_schema_to_start_from():
    assert sorted(db.MIGRATIONS) == list(range(2, SCHEMA_VERSION + 1))
    assert sorted(path.stem for path in SCHEMAS.glob("*.sql")) == [str(version) for version in range(1, SCHEMA_VERSION)]


def test_a_step_that_breaks_halfway_leaves_the_old_file(tmp_path, monkeypatch):
    database = Database(tmp_path / "old")
    database.home.mkdir()
    made_by(1, database.path)
    before = shape(database.path)
    step = db.MIGRATIONS[2]

    def breaks(tx: sqlite3.Connection) -> None:
        step(tx)
        raise OSError("the disk is gone")

    monkeypatch.setitem(db.MIGRATIONS, 2, breaks)
    with pytest.raises(OSError, match="gone"):
        database.prepare()

    assert database.version() == 1
    assert shape(database.path) == before


def test_what_was_credited_before_the_figures_is_in_them_once(tmp_path):
    database = Database(tmp_path / "old")
    database.home.mkdir()
    made_by(3, database.path)
    connection = sqlite3.connect(database.path)
    connection.executescript(
        """INSERT INTO transactions (id, public_id, game_id, partner, external_id, reference, kind, player_id, currency,
                gross_minor, fingerprint, body_sha256, signed_with, answer_status, answer_body, environment, is_test,
                received_at, previous_hash, row_hash)
            SELECT 1 + n, 'p' || n, 1, 'appcharge', 'n' || n, 'n' || n, 'purchase', 'alice', 'USD', 500, 'f', 'sha',
                'k', 200, 'a', 'live', n = 3, '2026-02-0' || n || 'T00:00:00.000000Z', 'h', 'r'
            FROM (SELECT 1 AS n UNION SELECT 2 UNION SELECT 3);
        INSERT INTO refunds (game_id, partner, reason, outcome, transaction_id, is_test, created_at, settled_at)
            VALUES (1, 'appcharge', 'refund', 'ignored', 2, 0, '2026-03-01T00:00:00.000000Z', '2026-03-01'),
                   (1, 'appcharge', 'refund', 'ignored', 2, 0, '2026-03-02T00:00:00.000000Z', '2026-03-02'),
                   (1, 'appcharge', 'reinstated', 'restored', 2, 0, '2026-03-03T00:00:00.000000Z', '2026-03-03');"""
    )
    connection.close()

    database.prepare()

    rows = counters.days_after(database.read(), 1, ("", "", ""), 100)
    counted = {(row["name"], row["day"]): row["value"] for row in rows}
    assert counted == {
        ("item.coins", "2026-01-31"): 1,
        ("gross.USD", "2026-02-01"): 500,
        ("gross.USD", "2026-02-02"): 500,
        ("refunded.USD", "2026-03-01"): 500,
        ("returned.USD", "2026-03-03"): 500,
    }
    database.close()


@pytest.mark.parametrize("version", range(3, 6))
def test_a_payment_that_somebody_may_have_is_known_as_such(tmp_path, version):
    database = Database(tmp_path / "old")
    database.home.mkdir()
    made_by(version, database.path)
    at = "2026-01-31T00:00:00.000000Z"
    payments = {  # state, reason, tries, next_try_at, registered_at -> whether its content stays
        "never sent": ("waiting", None, 0, at, None),
        "sent, no answer": ("waiting", "it was sent, with no answer yet", 0, at, None),
        "refused once": ("waiting", "PlayCamp: no", 1, at, None),
        "registered": ("registered", None, 0, None, at),
        "refused for good": ("quarantined", "PlayCamp: no", 5, None, None),
        "kept": ("kept", None, 0, None, None),
        "parked": ("parked", "amount is missing", 0, None, None),
    }
    with sqlite3.connect(database.path) as connection:
        connection.executemany(
            """INSERT INTO payments (game_id, transaction_id, source, row, fingerprint, is_test, state, reason, tries,
                                     next_try_at, registered_at, created_at, updated_at)
               VALUES (1, ?, 'push', '{}', 'f', 0, ?, ?, ?, ?, ?, '2026', '2026')""",
            [(name, *columns) for name, columns in payments.items()],
        )
    connection.close()

    database.prepare()

    found = database.read().execute("SELECT transaction_id FROM payments WHERE is_sent = 1 ORDER BY id").fetchall()
    assert [row["transaction_id"] for row in found] == ["sent, no answer", "refused once", "registered"]
    database.close()
