"""The tables of sentences about refused calls: each row can be said, and whatever is said has a row."""

import ast
from pathlib import Path

import pytest

from handlers.appcharge import explain as appcharge
from handlers.kit import explain_words
from handlers.kit.explain_bodies import SignedBody
from handlers.playcamp import explain as webhooks
from handlers.playcamp import explain_entries as entries
from handlers.playcamp import explain_queries as queries
from handlers.playtem import explain as playtem

ROOT = Path(__file__).parents[2] / "handlers"
CASES = [each.Case for each in (appcharge, playtem, webhooks, entries, queries)]
MODULES = {each.Case: each for each in (appcharge, playtem, webhooks, entries, queries)}
COMMON = explain_words.table("unknown?: Nothing here knows why.")


def words(*paths):
    """Every text that stands in the code of these files, sentences apart."""
    found = (node.value for path in paths for node in ast.walk(ast.parse(path.read_text())) if is_text(node))
    return {text for text in found if " " not in text}


def said(*paths):
    """The rows that code names as it says them."""
    calls = (node for path in paths for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "say" and call.args and is_text(call.args[0])
    }


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.service)
def test_whatever_is_said_has_a_row(case):
    shared = {ROOT / "kit/explain.py"}
    shared |= {ROOT / "kit/explain_bodies.py"} if issubclass(case, SignedBody) else set()
    assert said(Path(MODULES[case].__file__), *shared) - set(case.findings) == set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.service)
def test_each_row_can_be_said(case):
    own = {name for name, row in case.findings.items() if row != COMMON.get(name)}
    shared = (ROOT / "kit").glob("explain*.py")
    assert own - words(Path(MODULES[case].__file__), *shared) - set(MODULES[case].HYPOTHESES) == set()


def test_a_row_is_a_sentence_a_hint_a_link_and_whether_it_is_a_guess():
    table = explain_words.table("one, two (settings)?: It is {this}.\n    Do\n    that.\n\nthree: It is.")
    assert table["one"] == table["two"] == explain_words.Finding("It is {this}.", "Do that.", "settings", is_sure=False)
    assert table["three"] == explain_words.Finding("It is.")


@pytest.mark.parametrize("text", ["no sentence", "A name: It is.", "one (x y): It is.", "one:It is."])
def test_what_is_no_row_is_refused(text):
    with pytest.raises(ValueError, match="no row of a table"):
        explain_words.table(text)
