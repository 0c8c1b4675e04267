"""The judge of ``python -m chaos`` knows nothing of Coinslot's code, and finds what is planted."""

import ast
import json
import shutil
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace

import pytest

from chaos import hashes
from chaos.judge import Evidence, judge
from coinslot.ledger import packing
from tests.owed import Owed
from tests.servers import ROOT

JUDGE = ("judge.py", "hashes.py", "journal.py")
UNGUARDED = "SELECT 'DROP TRIGGER ' || name FROM sqlite_master WHERE type = 'trigger'"


@pytest.mark.parametrize("name", JUDGE)
def test_it_imports_nothing_but_the_standard_library_and_itself(name):
    tree = ast.parse((ROOT / "chaos" / name).read_text())
    imported = set()
    for each in ast.walk(tree):
        if isinstance(each, ast.ImportFrom):
            assert each.level == 0
            imported |= (
                {f"{each.module}.{alias.name}" for alias in each.names} if each.module == "chaos" else {each.module}
            )
        elif isinstance(each, ast.Import):
            imported |= {alias.name for alias in each.names}
    ours = {f"chaos.{each.removesuffix('.py')}" for each in JUDGE}

    assert {each for each in imported - ours if each.partition(".")[0] not in sys.stdlib_module_names} == set()
    assert "import_module" not in ast.dump(tree)
    assert "__import__" not in ast.dump(tree)


def test_its_words_are_those_of_the_packing():
    assert hashes.WORDS == packing.WORDS


class Left:
    """What a scene left: three orders of 5 coins, acknowledged, delivered and read, and the means to plant faults."""

    def __init__(self, evidence):
        self.evidence = evidence

    def sql(self, *statements):
        """Change the file as somebody would who goes around everything that guards it."""
        with closing(sqlite3.connect(self.evidence.database, isolation_level=None)) as connection:
            for (drop,) in connection.execute(UNGUARDED).fetchall():
                connection.execute(drop)
            for each in statements:
                assert connection.execute(each).rowcount != 0, f"changed nothing: {each}"

    def note(self, journal, *facts):
        path = {"caller": self.evidence.callers / "somebody.jsonl"}.get(journal) or getattr(self.evidence, journal)
        with path.open("a") as lines:
            lines.writelines(json.dumps(fact) + "\n" for fact in facts)

    def facts(self, journal):
        return [json.loads(line) for line in getattr(self.evidence, journal).read_text().splitlines()]

    def forget_last(self, journal):
        kept = self.facts(journal)[:-1]
        getattr(self.evidence, journal).write_text("")
        self.note(journal, *kept)

    def judged(self):
        verdict = judge(self.evidence)
        return {
            name: count
            for name, count in (
                ("lost", verdict.lost),
                ("doubled", verdict.doubled),
                ("not delivered", verdict.not_delivered),
                ("gone", verdict.gone),
            )
            if count
        }, verdict.wrong


def answered(name, status=200, body="first", at=100.0):
    return {
        "what": "answer",
        "partner": "somebody",
        "id": name,
        "status": status,
        "body": body,
        "seconds": 0.1,
        "at": at,
    }


def order(name):
    return {"what": "order", "partner": "somebody", "id": name, "player": "alice", "items": {"coins": 5}, "at": 99.0}


@pytest.fixture(scope="module")
def left_whole(tmp_path_factory):
    """Made by Coinslot itself, once."""
    from tests.conftest import furnished

    folder = tmp_path_factory.mktemp("left")
    installation, studio = furnished(folder / "home")
    owed = Owed(installation, studio)
    owed.destination()
    owed.credit(3)
    for claim in owed.claim():
        owed.record(claim)
    left = Left(
        Evidence(
            folder / "home" / "coinslot.db",
            folder / "callers",
            folder / "deliveries.jsonl",
            folder / "feed.jsonl",
            folder / "balances.json",
        )
    )
    left.evidence.callers.mkdir()
    rows = owed.rows("""SELECT t.public_id AS transaction_id, t.reference, d.webhook_id, d.grant_id
                        FROM transactions t JOIN grants g ON g.transaction_id = t.id
                        JOIN deliveries d ON d.grant_id = g.id ORDER BY g.id""")
    installation.database.close()
    for row in rows:
        data = {
            "id": row["grant_id"],
            "transaction_id": row["transaction_id"],
            "partner": "somebody",
            "external_id": row["reference"],
            "kind": "purchase",
            "player_id": "alice",
            "items": [{"sku": "coins", "quantity": 5}],
        }
        left.note("caller", order(row["reference"]), answered(row["reference"]))
        left.note("deliveries", {"webhook_id": row["webhook_id"], "type": "grant.created", "data": data, "at": 101.0})
        left.note("feed", data)
    left.evidence.balances.write_text(json.dumps({"alice": {"coins": 15}, "bob": {}}))
    return folder


@pytest.fixture
def left(left_whole, tmp_path):
    shutil.copytree(left_whole, tmp_path / "left")
    where = tmp_path / "left"
    return Left(
        Evidence(
            where / "home" / "coinslot.db",
            where / "callers",
            where / "deliveries.jsonl",
            where / "feed.jsonl",
            where / "balances.json",
        )
    )


def test_what_is_whole_is_found_whole(left):
    verdict = judge(left.evidence)

    assert verdict.is_good(), [*verdict.named, *verdict.wrong]
    assert (verdict.acknowledged, verdict.slowest_seconds) == (3, 0.1)


def test_what_was_refused_and_not_sent_again_may_be_there_or_not(left):
    left.note("caller", order("e-9"), answered("e-9", 503))
    left.evidence.callers.joinpath("somebody.jsonl").write_text(
        left.evidence.callers.joinpath("somebody.jsonl")
        .read_text()
        .replace('"id": "e-1", "status": 200', '"id": "e-1", "status": 0')
    )

    assert left.judged() == ({}, [])


LAST = "(SELECT max(id) FROM grants)"
REMOVED = (
    "DELETE FROM attempts WHERE delivery_id = (SELECT max(id) FROM deliveries)",
    f"DELETE FROM deliveries WHERE grant_id = {LAST}",
    f"DELETE FROM entries WHERE grant_id = {LAST}",
    "DELETE FROM transaction_keys WHERE transaction_id = (SELECT max(id) FROM transactions)",
    f"DELETE FROM grants WHERE id = {LAST}",
    "DELETE FROM transactions WHERE id = (SELECT max(id) FROM transactions)",
)


class TestAPlantedFaultIsCaught:
    def test_a_lost_row(self, left):
        left.sql(*(each for each in REMOVED if "transaction_keys" not in each))

        found, wrong = left.judged()

        assert found["lost"] == 1
        assert wrong  # the feed gave it, the sums have it

    def test_an_acknowledged_order_that_was_never_stored(self, left):
        left.note("caller", order("e-4"), answered("e-4"))

        assert left.judged() == ({"lost": 1}, [])

    def test_a_doubled_grant(self, left):
        """A second transaction of the same order, as if its unique key had let it through."""
        self.copy_transaction(left, "'e-3-again'", "'e-3'")

        found, wrong = left.judged()

        assert found["doubled"] == 1
        assert wrong

    def test_a_grant_that_nobody_asked_for(self, left):
        self.copy_transaction(left, "'e-7'", "'e-7'")

        assert left.judged()[0]["doubled"] == 1

    def test_a_second_grant_of_one_transaction(self, left):
        left.sql(
            """INSERT INTO grants (id, game_id, transaction_id, kind, player_id, is_test, created_at)
               SELECT id + 1, game_id, transaction_id, 'bonus', player_id, is_test, created_at FROM grants
               WHERE id = (SELECT max(id) FROM grants)"""
        )

        assert left.judged()[0]["doubled"] == 1

    def test_a_delivery_recorded_and_not_sent(self, left):
        left.forget_last("deliveries")

        assert left.judged() == ({"not delivered": 1}, [])

    @pytest.mark.parametrize(
        ("change", "is_caught"),
        [
            ("state = 'dead', dead_reason = 'ten attempts'", False),
            ("state = 'dead'", True),
            ("state = 'waiting', next_attempt_at = created_at, finished_at = NULL", True),
        ],
    )
    def test_what_did_not_arrive_must_be_dead_with_a_reason(self, left, change, is_caught):
        left.forget_last("deliveries")
        left.sql(f"UPDATE deliveries SET {change} WHERE id = (SELECT max(id) FROM deliveries)")

        assert left.judged() == ({"not delivered": 1} if is_caught else {}, [])

    def test_a_grant_owed_to_nobody(self, left):
        left.sql(*REMOVED[:2])

        assert left.judged()[0]["not delivered"] == 1

    def test_a_delivery_made_twice_under_two_ids(self, left):
        left.note("deliveries", {**left.facts("deliveries")[0], "webhook_id": "another"})

        assert left.judged() == ({"doubled": 1}, [])

    def test_a_delivery_repeated_under_its_own_id_is_no_fault(self, left):
        left.note("deliveries", left.facts("deliveries")[0])

        assert left.judged() == ({}, [])

    def test_a_delivery_of_another_quantity(self, left):
        fact = left.facts("deliveries")[0]
        fact["data"]["items"][0]["quantity"] = 6
        left.note("deliveries", fact)

        assert left.judged() == ({}, ["somebody e-1 was handed out as something else"])

    @pytest.mark.parametrize(
        ("statement", "sentence"),
        [
            ("UPDATE transactions SET gross_minor = 1 WHERE reference = 'e-2'", "e-2 does not match its hash"),
            ("UPDATE transactions SET received_at = '2026' WHERE reference = 'e-2'", "e-2 does not match its hash"),
            ("UPDATE transactions SET figures = x'007b7d20' WHERE reference = 'e-2'", "e-2 does not match its hash"),
            ("UPDATE transactions SET figures = x'017b' WHERE reference = 'e-2'", "e-2 cannot be read"),
            ("UPDATE transactions SET raw_body = x'0061' WHERE reference = 'e-2'", "the body of"),
            ("UPDATE transactions SET row_hash = 'other' WHERE reference = 'e-2'", "e-3 does not follow"),
            ("UPDATE transactions SET public_id = 'other' WHERE reference = 'e-2'", "e-2 has another id"),
            ("UPDATE grants SET reason = 'other' WHERE id = 2", "grant 2 does not match"),
            ("UPDATE grants SET grant_hash = 'other' WHERE id = 2", "grant 3 does not match"),
            ("UPDATE entries SET policy = 'flag' WHERE grant_id = 2", "grant 2 does not match"),
            ("UPDATE entries SET quantity = '6' WHERE grant_id = 2", "the sums of alice"),
        ],
    )
    def test_a_broken_chain(self, left, statement, sentence):
        left.sql(statement)

        assert any(sentence in each for each in left.judged()[1])

    def test_a_row_taken_out_of_the_chain(self, left):
        left.sql("DELETE FROM transactions WHERE reference = 'e-2'")

        found, wrong = left.judged()

        assert found["lost"] == 1
        assert "transaction somebody e-3 does not follow the row before it" in wrong
        assert any("refers to none of transactions" in each for each in wrong)

    def test_a_balance_that_does_not_agree(self, left):
        left.evidence.balances.write_text(json.dumps({"alice": {"coins": 20}}))

        assert left.judged() == ({}, ["the sums of alice are not those of the entries"])

    def test_a_balance_that_nobody_could_read(self, left):
        left.evidence.balances.unlink()

        assert left.judged()[1] == ["nobody could read the players' sums in the end"]

    def test_a_grant_that_the_feed_passed_over(self, left):
        left.forget_last("feed")

        assert left.judged() == ({}, ["the feed passed over grant 3"])

    def test_a_feed_that_goes_back(self, left):
        left.note("feed", left.facts("feed")[0])

        assert "the feed went back, or gave an id twice" in left.judged()[1]

    def test_a_repeat_that_is_answered_differently(self, left):
        left.note("caller", answered("e-1", body="second"))

        assert left.judged() == ({}, ["the repeat of somebody e-1 was answered differently"])

    def test_an_order_that_was_refused_for_good(self, left):
        left.note(
            "caller", order("e-8"), answered("e-8", 400), {"what": "given up", "partner": "somebody", "id": "e-8"}
        )

        assert left.judged() == ({}, ["somebody e-8 was refused, or never acknowledged"])

    def test_a_damaged_page(self, left):
        with closing(sqlite3.connect(left.evidence.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (page_size,) = connection.execute("PRAGMA page_size").fetchone()
            name = "transactions_by_time"
            (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        with left.evidence.database.open("r+b") as file:
            file.seek((page - 1) * page_size)
            file.write(bytes(page_size))

        assert any("integrity" in each or "cannot be read" in each for each in left.judged()[1])

    @staticmethod
    def copy_transaction(left, external_id, reference):
        names = ", ".join(
            (
                "game_id partner kind player_id figures fingerprint body_sha256 signed_with answer_status answer_body "
                "environment is_test received_at previous_hash row_hash"
            ).split()
        )
        left.sql(
            f"""INSERT INTO transactions (public_id, external_id, reference, {names})
                SELECT 'copy', {external_id}, {reference}, {names} FROM transactions WHERE reference = 'e-3'""",
            f"""INSERT INTO grants (id, game_id, transaction_id, kind, player_id, is_test, created_at)
                SELECT id + 1, game_id, transaction_id + 1, kind, player_id, is_test, created_at FROM grants
                WHERE id = {LAST}""",
        )


class TestAfterARestore:
    def test_what_was_acknowledged_after_the_backup_may_be_gone(self, left):
        left.note("caller", order("e-4"), answered("e-4", at=150.0))
        gone = left.facts("deliveries")[0]
        gone["data"] |= {"transaction_id": "gone", "external_id": "e-4"}
        left.note("deliveries", {**gone, "webhook_id": "gone", "at": 150.0})
        left.evidence = replace(left.evidence, restored=(140.0, 160.0))

        assert left.judged() == ({"gone": 1}, [])

    @pytest.mark.parametrize(
        ("named", "sentences"),
        [
            ("o-1", []),
            ("", ["appcharge o-1 is gone, and the comparison does not name it"]),
            ("o-1\no-2", ["the comparison names appcharge o-2, which is there"]),
        ],
    )
    def test_the_comparison_with_the_partner_must_name_what_is_gone(self, left, tmp_path, named, sentences):
        for fact in (order("o-1"), answered("o-1", at=150.0)):
            left.note("caller", fact | {"partner": "appcharge"})
        (tmp_path / "missing.csv").write_text(f"reference\n{named}\n")
        left.evidence = replace(left.evidence, restored=(140.0, 160.0), missing=tmp_path / "missing.csv")

        assert left.judged() == ({"gone": 1}, sentences)

    @pytest.mark.parametrize("at", [130.0, 170.0])
    def test_what_was_acknowledged_before_or_afterwards_must_be_there(self, left, at):
        left.note("caller", order("e-4"), answered("e-4", at=150.0), answered("e-4", at=at))
        left.evidence = replace(left.evidence, restored=(140.0, 160.0))

        assert left.judged() == ({"lost": 1}, [])

    def test_a_grant_handed_out_under_a_second_transaction_id_is_doubled(self, left):
        again = left.facts("deliveries")[0]
        again["data"]["transaction_id"] = "another"
        left.note("deliveries", {**again, "webhook_id": "another", "at": 200.0})
        left.evidence = replace(left.evidence, restored=(140.0, 160.0))

        assert left.judged()[0] == {"doubled": 1}
