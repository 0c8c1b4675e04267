"""The storm of kills in bench/: its judge knows nothing of ours, and notices what is wrong."""

import ast
import sqlite3
import subprocess
import sys
from types import SimpleNamespace

import pytest

from bench import storm
from tests.servers import ROOT


def test_it_imports_nothing_of_coinslot():
    tree = ast.parse((ROOT / "bench/storm.py").read_text())
    names = {each.module for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)}
    names |= {alias.name for each in ast.walk(tree) if isinstance(each, ast.Import) for alias in each.names}
    assert {str(name).partition(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("statement", "noticed"),
    [
        ("SELECT 1", {}),
        ("DELETE FROM grants WHERE id = 1", {"lost": 1, "doubled": 1}),  # its delivery is of nothing then
        ("INSERT INTO grants VALUES (3, 1, 'alice')", {"doubled": 1}),
        ("INSERT INTO grants VALUES (3, 3, 'alice')", {"doubled": 1}),
        ("UPDATE entries SET quantity = '6' WHERE grant_id = 1", {"wrong": 1}),
        ("UPDATE grants SET player_id = 'bob' WHERE id = 1", {"wrong": 1}),
        ("UPDATE transactions SET public_id = 'other' WHERE id = 1", {"not delivered": 1, "doubled": 1}),
    ],
)
def test_the_judge_notices(tmp_path, statement, noticed):
    connection = sqlite3.connect(tmp_path / "coinslot.db")
    connection.executescript(
        f"""CREATE TABLE transactions (id, partner, reference, public_id);
            CREATE TABLE grants (id, transaction_id, player_id);
            CREATE TABLE entries (grant_id, sku, quantity);
            INSERT INTO transactions VALUES (1, 'appcharge', 'o-1', 'p-1'), (2, 'playtem', 'o-2', 'p-2'),
                                            (3, 'playtem', 'nobody-sent-it', 'p-3');
            INSERT INTO grants VALUES (1, 1, 'alice'), (2, 2, 'alice');
            INSERT INTO entries VALUES (1, 'coins', '5'), (2, 'coins', '5');
            {statement};"""
    )
    connection.close()
    orders = [
        storm.Order(partner, each, "alice", (("coins", 5),))
        for partner, each in (("appcharge", "o-1"), ("playtem", "o-2"))
    ]
    lines = [{"sku": "coins", "quantity": 5}]
    taken = {each: {"transaction_id": each, "player_id": "alice", "items": lines} for each in ("p-1", "p-2")}

    found = storm.judge(
        tmp_path, SimpleNamespace(acknowledged=dict.fromkeys(orders, b""), wrong=[]), SimpleNamespace(taken=taken)
    )

    assert {what: count for what, count in found.items() if count} == noticed


@pytest.mark.long
def test_a_small_storm_loses_and_doubles_nothing():
    done = subprocess.run(
        [sys.executable, "-m", "bench.storm", "--kills", "2"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 lost, 0 doubled, 0 wrong, 0 not delivered" in done.stdout
