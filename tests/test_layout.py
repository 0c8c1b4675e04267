"""Imports point one way, between files, between folders, and for type checking too."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Each may import what stands before it, and nothing behind it.
CORE = (
    "base",
    "store",
    "access",
    "games",
    "outbox",
    "ledger",
    "payments",
    "relay",
    "operations",
    "settlement",
    "installation",
)
LEVELS = {f"coinslot.{name}": level for level, name in enumerate(CORE)} | {
    "handlers.kit": len(CORE),
    "coinslot.__version__": -1,
}
HANDLERS_LEVEL, APP_LEVEL, WSGI_LEVEL = len(CORE) + 1, len(CORE) + 2, len(CORE) + 3


def sources() -> list[Path]:
    return [
        ROOT / "app.py",
        ROOT / "wsgi.py",
        *sorted(ROOT.glob("coinslot/**/*.py")),
        *sorted(ROOT.glob("handlers/**/*.py")),
    ]


def place(module: str) -> str:
    """The folder or top file that a module belongs to, as in ``coinslot.ledger`` or ``handlers.playtem``."""
    parts = module.split(".")
    return parts[0] if parts[0] in ("app", "wsgi") else ".".join(parts[:2])


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Every module of ours that a file imports, wherever in it: inside of functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{each.name}" for each in node.names]
        elif isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("app", "coinslot", "handlers", "wsgi"))


def level(name: str) -> int:
    known = LEVELS | {"app": APP_LEVEL, "wsgi": WSGI_LEVEL}
    return known.get(place(name), known.get(name.split(".")[0], HANDLERS_LEVEL))


def edges() -> set[tuple[str, str]]:
    return {
        (place(module_of(path)), place(name))
        for path in sources()
        for name in imported(path)
        if place(module_of(path)) != place(name)
    }


def test_imports_between_folders_point_one_way():
    upward = {(who, whom) for who, whom in edges() if level(who) <= level(whom)}

    assert upward == set()


def between(whole: str) -> set[tuple[str, str]]:
    """The imports between folders and top files, with all of one top folder taken for one."""

    def name(place: str) -> str:
        return whole if place.startswith(whole) else place

    return {(name(who), name(whom)) for who, whom in edges() if name(who) != name(whom)}


def test_there_are_few_folders_and_few_imports_between_them():
    outside, inside = between("coinslot"), between("handlers")

    assert len({each for edge in outside for each in edge}) <= 16
    assert len(outside) <= 45
    assert len({each for edge in inside for each in edge}) <= 16


def test_coinslot_holds_nothing_but_folders_and_the_installation():
    assert {path.name for path in ROOT.glob("coinslot/*.py")} <= {"__init__.py", "installation.py"}
    assert {path.name for path in ROOT.glob("coinslot/*/")} - {"__pycache__"} == set(CORE) - {"installation"}


def test_the_core_names_no_partner():
    partners = {path.parent.name for path in ROOT.glob("handlers/*/explain.py")} - {"kit"}
    assert {"appcharge", "playcamp", "playtem"} <= partners

    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(ROOT.glob("coinslot/**/*.py"))
        for number, line in enumerate([path.stem, *path.read_text(encoding="utf-8").splitlines()])
        if any(name in line.lower() for name in partners)
    ]

    assert found == [], "a partner's card says that instead (handlers/kit/partner.py)"


def test_every_folder_says_what_it_promises():
    silent = [
        path
        for path in sources()
        if path.name == "__init__.py" and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]

    assert silent == []


def test_files_are_short_enough_to_read():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}

    assert {path.name: length for path, length in lengths.items() if length > 450} == {}
    assert sum(length <= 300 for length in lengths.values()) >= 0.9 * len(lengths)
