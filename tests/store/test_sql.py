"""SQL that any engine reads: what coinslot may say to its database, and who may know which engine it is."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(ROOT.glob("coinslot/**/*.py"))


def test_only_the_store_knows_the_engine():
    knowing = {
        path.parent.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(each.name.split(".")[0] == "sqlite3" for each in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sqlite3")
    }

    assert knowing == {"store"}
