"""The list of what is tested on SQLite alone names what is there, and who opens the file by hand is in it."""

import ast
from pathlib import Path

from tests.sqlite_only import SQLITE_ONLY, reason

TESTS = Path(__file__).resolve().parent


def names(file: Path) -> set[str]:
    """The tests of a file, as pytest names them after the file's own name."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return found


def test_every_entry_names_a_file_or_a_test():
    for entry in SQLITE_ONLY:
        file, _, name = entry.partition("::")
        assert (TESTS / file).exists(), entry
        assert not name or name in names(TESTS / file), entry
        assert not name or file not in SQLITE_ONLY, f"{entry}: the whole file is in the list"


def test_a_node_is_looked_up_by_its_file_and_its_name():
    assert reason("tests/store/test_lock.py::test_anything[a-b]")
    assert reason("tests/store/test_sql.py::test_anything") is None


def test_who_opens_the_file_by_hand_is_in_the_list():
    listed = {entry.partition("::")[0] for entry in SQLITE_ONLY}
    by_hand = {
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("test_*.py")
        if TESTS / "store" not in path.parents and "sqlite3.connect(" in path.read_text(encoding="utf-8")
    }

    others = {"dashboard/test_snippets.py", "test_sqlite_only.py"}  # databases that are not Coinslot's
    assert by_hand - listed == others, "tests/databases.py opens it"
