"""The alert rules for Prometheus: promtool takes them, each fires when it should, and their figures exist."""

import re
import subprocess

import pytest

from app import create_app
from tests import databases
from tests.servers import ROOT, needs

RULES = ROOT / "deploy/prometheus-alerts.yml"
CASES = ROOT / "tests/server/alert-cases.yml"
TOKEN = "test-metrics-token"
METRIC = re.compile(r"\bcoinslot_[a-z_]+")


def promtool(*arguments: str) -> None:
    done = subprocess.run([needs("promtool"), *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_promtool_takes_the_rules_and_each_fires_when_it_should():
    promtool("check", "rules", str(RULES))
    promtool("test", "rules", str(CASES))


def test_every_rule_says_for_how_long_how_severe_and_what_to_do():
    rules = RULES.read_text(encoding="utf-8").split("- alert: ")[1:]
    cases = CASES.read_text(encoding="utf-8")

    for rule in rules:
        name = rule.split()[0]
        for word in ("expr:", "for: ", "severity: ", "summary: ", "description: "):
            assert word in rule, f"{name} lacks {word}"
        assert cases.count(f"alertname: {name}") >= 2, f"no case shows that {name} fires, and that it is quiet"


def test_every_figure_that_a_rule_names_exists(tmp_path):
    app = create_app({**databases.environment(tmp_path / "home"), "COINSLOT_METRICS_TOKEN": TOKEN})
    installation = app.extensions["coinslot"]
    installation.prepare()
    installation.database.write_here(
        lambda tx: tx.execute(
            """INSERT INTO proofs (began_at, ended_at, took_ms, faults, kept, is_short)
               VALUES ('2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:01.000000Z', 1000, 0, 1, 0)"""
        )
    )
    served = app.test_client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    installation.database.close()

    named = set(METRIC.findall(re.sub(r"#.*", "", RULES.read_text(encoding="utf-8"))))
    existing = set(re.findall(r"^# TYPE (\S+)", served, re.MULTILINE))

    assert len(named) >= 9
    assert named <= existing


def test_a_counter_is_never_compared_by_its_value_alone():
    """It begins at 0 each day: only increase() and rate() are of use, or the value of a series that is new."""
    expressions = re.findall(r"expr: (.+?)\n        for:", RULES.read_text(encoding="utf-8"), re.DOTALL)
    counted = [each for each in expressions if "_total" in each]

    assert counted
    for each in counted:
        plain = re.sub(r"(increase|rate)\([^)]*\)", "", each)
        for name in set(re.findall(r"coinslot_\w+_total", plain)):
            assert re.search(rf"unless {name}\{{[^}}]*\}} offset", plain), each
