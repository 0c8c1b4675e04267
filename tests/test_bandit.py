"""bandit finds nothing in the product's code that is not explained.

ruff's S rules are bandit's, by the same numbers, and run in every check; what they find is explained on its line, by
``noqa: S608`` and a reason. bandit looks a little further. What it finds beyond that is explained here.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

SOURCES = ("app.py", "wsgi.py", "gunicorn.conf.py", "coinslot", "handlers")
# As in pyproject.toml, and B404: to import subprocess is no fault, and each call is looked at.
EVERYWHERE = {"B101", "B404", "B603", "B607"}
# Rule and where -> why it is none.
EXPLAINED = {
    ("B608", "coinslot/games/registry.py"): "names of columns, from a tuple in the code",
    ("B608", "coinslot/operations/contacts.py"): "names of columns, from the code",
    ("B608", "coinslot/operations/feeds.py"): "names of columns, from the code",
    ("B608", "coinslot/outbox/destinations.py"): "names of columns, from the code",
    ("B311", "coinslot/base/request_ids.py"): "an id that tells calls apart and guards nothing",
    ("B105", "handlers/appcharge/explain_words.py"): "what secrets are called on pages",
    ("B105", "handlers/playcamp/explain_words.py"): "what secrets are called on pages",
    ("B105", "handlers/commands/__init__.py"): "the module of a command",
    ("B105", "handlers/dashboard/frame/words.py"): "a sentence of a page",
    ("B105", "handlers/kit/trouble_sentences.py"): "a sentence of a trouble",
    ("B311", "handlers/commands/demo/life.py"): "an invented story, the same each time",
    ("B311", "handlers/commands/demo/studio.py"): "an invented story, the same each time",
}


@pytest.mark.long
def test_bandit_finds_nothing_that_is_not_explained():
    command = [sys.executable, "-m", "bandit", "-q", "-f", "json", "-r", *SOURCES]
    report = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=False).stdout)
    assert report["errors"] == []
    assert report["metrics"]["_totals"]["loc"] > 10_000

    found = set()
    for each in report["results"]:
        rule, name = each["test_id"], each["filename"].removeprefix("./")
        lines = Path(ROOT, name).read_text(encoding="utf-8").splitlines()
        code = "\n".join(lines[min(each["line_range"]) - 1 : max(each["line_range"])])
        if rule not in EVERYWHERE and not re.search(rf"noqa:.*\bS{rule[1:]}\b", code):
            found.add((rule, name))

    assert found - EXPLAINED.keys() == set()
    assert EXPLAINED.keys() - found == set(), "explained, and no longer found"
