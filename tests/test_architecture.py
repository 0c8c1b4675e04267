"""docs/architecture.md says what is there: every folder, and every function it names, called by whom it says."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_layout import CORE, ROOT, module_of

DOCS = sorted((ROOT / "docs").glob("*.md"))
DOCUMENT = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
WAYS = re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[1:]
NAMED = re.compile(r"`((?:[\w-]+/)*[\w.-]+\.py): ([\w.]+)`")
STEP = re.compile(r"^(\d+)\. `([^`:]+): ([\w.]+)`(?: \(called by (\d+)\))?", re.MULTILINE)


class Step(NamedTuple):
    way: str
    number: int
    file: str
    function: str
    caller: "Step | None"

    def __str__(self) -> str:
        return f"{self.way}, step {self.number}"


def ways() -> Iterator[tuple[str, list[Step]]]:
    for text in WAYS:
        title, steps = text.partition("\n")[0], {}
        for number, file, function, caller in STEP.findall(text):
            steps[number] = Step(title, int(number), file, function, steps[caller] if caller else None)
        if steps:
            yield title, list(steps.values())


STEPS = [step for _, steps in ways() for step in steps]


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def definition(file: str, name: str) -> ast.AST | None:
    """The function or class of that name; one of a class's own is written as ``Class.function``."""
    found: ast.AST = tree(file)
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        inside = [each for each in ast.iter_child_nodes(found) if isinstance(each, kinds) and each.name == part]
        if not inside:
            return None
        found = inside[0]
    return found


def imports(file: str) -> set[str]:
    return {
        name
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ImportFrom) and node.module
        for name in (node.module, *(f"{node.module}.{each.name}" for each in node.names))
    }


def test_the_five_ways_are_there():
    assert [title for title, _ in ways()] == [
        "An order is verified and credited",
        "A delivery is retried",
        "A key is rotated",
        "A month is closed",
        "A refused call is explained",
    ]
    for _, steps in ways():
        assert [step.number for step in steps] == list(range(1, len(steps) + 1))


@pytest.mark.parametrize("page", ["README.md", "app.py"])
def test_every_way_is_two_steps_from_where_reading_starts(page):
    assert "docs/architecture.md" in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "app.py", "gunicorn.conf.py", *(f"docs/{path.name}" for path in DOCS)])
def test_every_file_of_ours_that_a_page_names_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:coinslot|handlers|tests|bench)/[\w/.-]+\.py\b", text))

    assert {name for name in named if not (ROOT / name).is_file()} == set()


def test_every_function_that_is_named_is_there():
    named = NAMED.findall(DOCUMENT)
    missing = [(file, name) for file, name in named if not (ROOT / file).is_file() or definition(file, name) is None]

    assert missing == []
    assert len(named) >= len(STEPS) > 50


@pytest.mark.parametrize("step", [step for step in STEPS if step.caller], ids=str)
def test_a_function_is_called_by_the_one_that_the_document_says(step):
    caller, name = step.caller, step.function.rpartition(".")[2]
    body = definition(caller.file, caller.function)
    assert body is not None
    named = {node.id if isinstance(node, ast.Name) else node.attr for node in ast.walk(body)
             if isinstance(node, ast.Name | ast.Attribute)}  # fmt: skip

    assert name in named
    if "." not in step.function and step.file != caller.file:  # a method is reached through its object
        assert module_of(ROOT / step.file) in imports(caller.file) | {module_of(ROOT / caller.file)}


def test_the_drawing_has_every_folder_of_the_core_in_the_order_of_imports_and_every_handler():
    drawing = DOCUMENT.split("```")[1]
    core = re.findall(r"^  (\w+(?:/|\.py)) ", drawing.partition("coinslot/")[2], flags=re.MULTILINE)
    handlers = set(re.findall(r"(\w+)/", drawing.partition("handlers/")[2].partition("coinslot/")[0]))

    assert [name.removesuffix("/").removesuffix(".py") for name in core] == list(reversed(CORE))
    assert handlers == {path.name for path in Path(ROOT / "handlers").iterdir() if (path / "__init__.py").exists()}
