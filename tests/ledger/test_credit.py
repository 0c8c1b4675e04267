"""The ledger without HTTP: a connection is all it needs."""

import hashlib
import json
import sqlite3
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinslot.ledger import chain, reports
from coinslot.ledger import credit as ledger
from tests import databases


def report_of(studio):
    """The fields of a report that every test here may change."""
    return {
        "game_id": studio.row["id"],
        "game_slug": studio.slug,
        "partner": "somebody",
        "external_id": "e-1",
        "reference": "e-1",
        "kind": "purchase",
        "player_id": "alice",
        "lines": (("coins", 5),),
        "fingerprint": "same",
        "raw_body": b"body",
        "signature": "signature",
        "signed_with": "key/current",
        "answer_status": 200,
        "answer_body": "first",
    }


def credit(studio, **changed):
    return reports.Credit(**{**report_of(studio), **changed})


def make(installation, wanted, rules=None):
    return installation.database.write_here(lambda tx: ledger.credit(tx, wanted, rules or reports.Rules()))


def test_a_repeat_hears_the_first_answer_even_when_today_it_would_be_another(installation, studio):
    assert make(installation, credit(studio)).is_new
    again = make(installation, credit(studio, answer_status=201, answer_body="later"))
    assert (again.is_new, again.answer_status, again.answer_body) == (False, 200, "first")


@pytest.mark.parametrize("is_fallback", [False, True])
def test_no_statement_of_a_credit_is_prepared_anew(installation, studio, is_fallback):
    prepared = []

    def credit_some(tx):
        tx.set_authorizer(lambda *asked: prepared.append(asked) or sqlite3.SQLITE_OK)  # asked at each preparation
        for number in range(4):
            if number == 3:
                prepared.clear()
            keys = (("payment", f"p-{number}"), ("purchase", f"q-{number}"))
            reference = f"p-{number}" if is_fallback else f"e-{number}"
            wanted = credit(studio, external_id=f"e-{number}", reference=reference, keys=keys, known_by=keys)
            ledger.credit(tx, wanted, reports.Rules())
            assert not ledger.credit(tx, wanted, reports.Rules()).is_new
        tx.set_authorizer(None)

    installation.database.write_here(credit_some)

    assert prepared == []


def test_the_unique_key_is_game_partner_and_external_id(installation, studio, db):
    other = type(studio)(installation, "other")
    other.player("alice")
    other.item("coins")
    for wanted in (credit(studio), credit(other), credit(studio, partner="another"), credit(studio, external_id="e-2")):
        assert make(installation, wanted).is_new
    with pytest.raises(sqlite3.IntegrityError):
        installation.database.write_here(
            lambda tx: tx.execute(
                """INSERT INTO transactions (public_id, game_id, partner, external_id, reference, kind, player_id,
                       fingerprint, body_sha256, signed_with, answer_status, answer_body, environment, is_test,
                       received_at, previous_hash, row_hash)
                   SELECT 'other', game_id, partner, external_id, reference, kind, player_id, fingerprint, body_sha256,
                       signed_with, answer_status, answer_body, environment, is_test, received_at, previous_hash,
                       row_hash
                   FROM transactions WHERE id = 1"""
            )
        )


def test_public_ids_are_version_5_and_differ_wherever_the_parts_do(studio):
    ids = {
        ledger.public_id(*parts)
        for parts in (("a", "b", "c"), ("a", "bc", ""), ("ab", "", "c"), ('a","b', "c", ""), ("a", "b", "c2"))
    }
    assert len(ids) == 5
    assert {uuid.UUID(each).version for each in ids} == {5}


@given(
    lines=st.lists(st.tuples(st.text(min_size=1, max_size=5), st.integers(0, 10**40)), max_size=6),
    seed=st.randoms(use_true_random=False),
)
def test_a_fingerprint_knows_the_lines_but_not_their_order(lines, seed):
    shuffled = list(lines)
    seed.shuffle(shuffled)
    made = reports.fingerprint("p", 1, None, lines=lines)
    assert reports.fingerprint("p", 1, None, lines=shuffled) == made
    assert reports.fingerprint("p", "1", None, lines=lines) != made
    assert reports.fingerprint("p", 1, None, lines=[*lines, ("x", 1)]) != made


TRANSACTION = "transaction {public_id}"
GRANT = "grant 3 (purchase of transaction {public_id}) was changed or added"
AFTER = "grant 4 (purchase of transaction"
ADDED = """INSERT INTO grants (id, game_id, transaction_id, kind, player_id, is_test, created_at, grant_hash)
           SELECT 6, game_id, 3, 'bonus', 'mallory', 0, created_at, grant_hash FROM grants WHERE id = 3"""


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE transactions SET gross_minor = 1 WHERE id = 3", [f"{TRANSACTION} was changed"]),
        ("UPDATE transactions SET player_id = 'bob' WHERE id = 3", [f"{TRANSACTION} was changed"]),
        ("UPDATE transactions SET body_sha256 = 'x' WHERE id = 3", [f"{TRANSACTION} was changed"]),
        ("UPDATE transactions SET row_hash = 'x' WHERE id = 3", [f"{TRANSACTION} was changed", "does not follow"]),
        ("UPDATE transactions SET raw_body = x'01' WHERE id = 3", [f"the kept body of {TRANSACTION} was changed"]),
        ("UPDATE transactions SET raw_body = x'' WHERE id = 3", [f"the kept body of {TRANSACTION} was changed"]),
        ("UPDATE grants SET player_id = 'bob' WHERE id = 3", [GRANT]),
        ("UPDATE grants SET is_test = 1 WHERE id = 3", [GRANT]),
        ("UPDATE grants SET transaction_id = 99 WHERE id = 3", ["the grant of {public_id} was removed", "grant 3 ("]),
        ("UPDATE grants SET created_at = '2020-01-01T00:00:00.000000Z' WHERE id = 3", [GRANT]),
        ("UPDATE grants SET policy = 'flag' WHERE id = 3", [GRANT]),
        ("UPDATE grants SET grant_hash = '' WHERE id = 3", [GRANT, AFTER]),
        ("UPDATE entries SET quantity = '6' WHERE grant_id = 3", [GRANT]),
        ("UPDATE entries SET policy = 'flag' WHERE grant_id = 3", [GRANT]),
        ("INSERT INTO entries (grant_id, sku, quantity) VALUES (3, 'gems', '1')", [GRANT]),
        ("DELETE FROM entries WHERE grant_id = 3", [GRANT]),
        ("DELETE FROM grants WHERE id = 3", ["the grant of {public_id} was removed", AFTER]),
        (ADDED, ["grant 6 (bonus of transaction {public_id}) was changed or added"]),
        (ADDED.replace(", grant_hash", ""), ["grant 6"]),
    ],
)
def test_whatever_is_changed_of_the_ledger_is_found_and_named(installation, studio, statement, named):
    for number in range(5):
        make(installation, credit(studio, external_id=f"e-{number}", lines=(("coins", 5),) if number % 2 == 0 else ()))
    connection = installation.database.read()
    assert list(chain.verify(connection)) == []
    assert list(chain.verify(connection, newest=2)) == []
    (public_id,) = connection.execute("SELECT public_id FROM transactions WHERE id = 3").fetchone()

    with databases.unguarded(installation) as tx:
        tx.execute(statement)
        found = list(chain.verify(tx))

    assert len(found) == len(named), found
    for sentence, part in zip(found, named, strict=True):
        assert part.format(public_id=public_id).replace("of " + public_id, "of transaction " + public_id) in sentence


def test_forgetting_a_player_keeps_the_chain_whole(installation, studio, db, client):
    make(installation, credit(studio, raw_body=b"alice@example.com"))
    client.delete("/game/v1/players/alice", headers={"Authorization": f"Bearer {studio.token}"})

    (row,) = db("SELECT raw_body, signature, body_sha256 FROM transactions")
    assert row == {
        "raw_body": None,
        "signature": None,
        "body_sha256": hashlib.sha256(b"alice@example.com").hexdigest(),
    }
    assert list(chain.verify(installation.database.read())) == []
    installation.database.close()
    # secure_delete is not promised for freed pages; what is promised is that no row holds it any more.


def test_deliveries_are_owed_in_the_same_commit(installation, studio, db):
    def destination(tx, name, events):
        tx.execute(
            """INSERT INTO destinations (game_id, name, url, events, created_at, updated_at)
               VALUES (:game_id, :name, 'http://127.0.0.1:1/', :events, 'now', 'now')""",
            {"game_id": studio.row["id"], "name": name, "events": events},
        )

    for name, events in (("all", "*"), ("grants", "grant.*"), ("logins", "player.*")):
        installation.database.write_here(lambda tx, name=name, events=events: destination(tx, name, events))
    make(installation, credit(studio))
    make(installation, credit(studio))
    rows = db("SELECT d.name, o.* FROM deliveries o JOIN destinations d ON d.id = o.destination_id ORDER BY d.name")
    assert [(row["name"], row["state"], row["grant_id"], row["event_type"]) for row in rows] == [
        ("all", "waiting", 1, "grant.created"),
        ("grants", "waiting", 1, "grant.created"),
    ]
    assert len({row["webhook_id"] for row in rows}) == 2

    with pytest.raises(reports.RefusedError, match="unknown_player"):
        make(installation, credit(studio, external_id="e-2", player_id="mallory"))
    assert len(db("SELECT * FROM deliveries")) == 2


def test_feed_ids_have_no_gaps_after_refusals(installation, studio, feed):
    make(installation, credit(studio))
    with pytest.raises(reports.RefusedError) as error:
        make(installation, credit(studio, external_id="e-2", lines=(("coins", 1), ("swords", 1), ("axes", 1))))
    assert (error.value.reason, error.value.detail) == ("unknown_item", "swords")
    make(installation, credit(studio, external_id="e-3"))
    assert [grant["id"] for grant in feed()] == [1, 2]


def test_counters_are_rolled_up_with_the_credit(installation, studio, db):
    make(installation, credit(studio))
    make(installation, credit(studio))
    make(installation, credit(studio, external_id="e-2", environment="sandbox"))
    for _ in range(2):
        make(installation, credit(studio, external_id="e-3", player_id="coinslot-test"))
    counted = {(row["name"], row["label"]): row["value"] for row in db("SELECT * FROM counters")}
    assert counted == {("credited", ""): 1, ("credited.test", ""): 1, ("duplicate", ""): 1, ("item", "coins"): 1}


def test_money_is_counted_per_currency_and_a_sum_too_large_fails_no_credit(installation, studio, db):
    largest = 10**18 - 1
    for number in range(12):
        money = reports.Money(currency="JPY", gross_minor=largest)
        make(installation, credit(studio, external_id=f"e-{number}", money=money))
    make(installation, credit(studio, external_id="usd", money=reports.Money(currency="USD", gross_minor=999)))
    make(installation, credit(studio, external_id="free", money=reports.Money(currency="USD", gross_minor=0)))

    counted = {(row["name"], row["label"]): row["value"] for row in db("SELECT * FROM counters")}
    assert (counted["gross", "JPY"], counted["gross", "USD"], counted["credited", ""]) == (2**63 - 1, 999, 14)


def test_a_credit_does_not_show_bodies_or_signatures_in_its_repr(studio):
    shown = repr(credit(studio, raw_body=b"alice@example.com", signature="v1=abc"))
    assert "alice@example.com" not in shown
    assert "v1=abc" not in shown
    assert json.dumps(shown)


def test_a_report_gives_an_outcome_with_a_reason(installation, studio):
    def report(may_be_empty=True, **changed):
        game = installation.games.by_slug(studio.slug)
        wanted = credit(studio, **{"partner": "playtem", **changed})
        return ledger.report(installation.database, installation.outbound, game, wanted, may_be_empty=may_be_empty)

    outcomes = [
        report(),
        report(),
        report(player_id="bob", fingerprint="other"),
        report(external_id="e-2", player_id="mallory"),
        report(external_id="e-2", lines=(("swords", 1),)),
        report(external_id="e-2", lines=(("coins", 10**40),)),
        report(may_be_empty=False, external_id="e-2", lines=()),
    ]

    reasons = ["credited", "duplicate", "conflict", "unknown_player", "unknown_item", "quantity", "empty"]
    assert [outcome.reason for outcome in outcomes] == reasons
    assert [outcome.credited is not None for outcome in outcomes] == [True, True, *[False] * 5]
    assert [outcome.detail for outcome in outcomes[3:]] == ["", "swords", "a quantity has more than 40 digits", ""]
