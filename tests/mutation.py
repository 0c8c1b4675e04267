"""How much the tests notice: the code is changed in one place, and the tests of its area must fail.

``python -m tests.mutation`` changes some three hundred places, one at a time, spread evenly over the areas below and
chosen by a fixed seed. Each change is made in a copy of the tree and tried against its own area's tests, stopped at
the first failure. A change that no test notices, or whose tests do not end in time, counts as not caught; those are
listed. A few of them change nothing that could be noticed.
"""

import argparse
import ast
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
TREE = ("app.py", "wsgi.py", "gunicorn.conf.py", "schema.sql", "pyproject.toml", "coinslot", "handlers", "tests")

# Area -> the files that are changed, and the tests that are asked.
AREAS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ledger": (
        (
            "coinslot/ledger/credit.py",
            "coinslot/ledger/reports.py",
            "coinslot/ledger/chain.py",
            "coinslot/ledger/grants.py",
            "coinslot/ledger/refunds.py",
            "coinslot/ledger/policies.py",
            "coinslot/ledger/reversals.py",
        ),
        (
            "tests/ledger/test_credit.py",
            "tests/ledger/test_refunds.py",
            "tests/kit/test_partner_addresses.py",
            "tests/appcharge/test_orders.py",
        ),
    ),
    "outbox": (
        (
            "coinslot/outbox/deliveries.py",
            "coinslot/outbox/attempts.py",
            "coinslot/outbox/redrives.py",
            "coinslot/outbox/destinations.py",
            "coinslot/outbox/checks.py",
            "coinslot/outbox/circuit.py",
            "coinslot/outbox/conversion_queue.py",
        ),
        ("tests/outbox/test_deliveries.py", "tests/playcamp/test_conversion.py"),
    ),
    "relay": (
        ("coinslot/relay/loop.py", "coinslot/relay/jobs.py", "coinslot/relay/webhooks.py"),
        ("tests/relay/test_webhooks.py", "tests/relay/test_jobs.py", "tests/relay/test_loop.py"),
    ),
    "vault": (
        (
            "coinslot/access/vault.py",
            "coinslot/access/keyring.py",
            "coinslot/access/rotation.py",
            "coinslot/access/throttle.py",
        ),
        (
            "tests/access/test_vault.py",
            "tests/access/test_rotation_advice.py",
            "tests/game/test_logins.py",
            "tests/commands/test_commands.py",
            "tests/appcharge/test_auth.py",
        ),
    ),
    "signatures": (
        (
            "coinslot/base/signing.py",
            "handlers/appcharge/signature.py",
            "handlers/appcharge/encryption.py",
            "handlers/playcamp/recipe.py",
            "handlers/playcamp/events/signature.py",
            "handlers/playtem/payload.py",
        ),
        (
            "tests/base/test_signing.py",
            "tests/kit/test_partner_addresses.py",
            "tests/appcharge/test_orders.py",
            "tests/appcharge/test_receive.py",
            "tests/playtem/test_credit.py",
            "tests/playcamp/test_webhooks.py",
            "tests/playcamp/test_entry.py",
        ),
    ),
    "receive": (
        (
            "handlers/appcharge/orders.py",
            "handlers/appcharge/receive.py",
            "handlers/playtem/credit.py",
            "handlers/kit/bodies.py",
        ),
        (
            "tests/kit/test_partner_addresses.py",
            "tests/appcharge/test_orders.py",
            "tests/appcharge/test_receive.py",
            "tests/appcharge/test_oddities.py",
            "tests/playtem/test_credit.py",
        ),
    ),
    "payments": (
        (
            "coinslot/payments/store.py",
            "coinslot/payments/agreement.py",
            "coinslot/payments/queries.py",
            "coinslot/payments/parsing.py",
            "coinslot/payments/fields.py",
            "coinslot/base/exact.py",
            "coinslot/base/expressions.py",
            "coinslot/base/functions.py",
            "coinslot/base/limits.py",
            "coinslot/base/steps.py",
        ),
        (
            "tests/base/test_exact.py",
            "tests/base/test_expressions.py",
            "tests/playcamp/test_payments.py",
            "tests/playcamp/test_registration.py",
        ),
    ),
    "settlement": (
        (
            "coinslot/settlement/closing.py",
            "coinslot/settlement/months.py",
            "coinslot/settlement/calculation.py",
            "coinslot/settlement/payment_lines.py",
            "coinslot/settlement/lines.py",
            "coinslot/settlement/order_lines.py",
            "coinslot/settlement/periods.py",
            "coinslot/settlement/states.py",
            "coinslot/settlement/partner_rows.py",
            "coinslot/settlement/runs.py",
        ),
        (
            "tests/settlement/test_closing.py",
            "tests/settlement/test_reconciliation.py",
            "tests/settlement/test_documents.py",
        ),
    ),
}

COMPARISONS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "is not": "is", "is": "is not", "not in": "in", "in": "not in",
}  # fmt: skip
ARITHMETIC = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "//"), ast.FloorDiv: ("//", "*")}
SQL = re.compile(r"\b(SELECT|UPDATE|INSERT|DELETE)\b")
SQL_CHANGES = (
    (re.compile(r"\bAND\b"), "OR"),
    (re.compile(r"\bIS NOT NULL\b"), "IS NULL"),
    (re.compile(r"\bIS NULL\b"), "IS NOT NULL"),
    (re.compile(r"<="), "<"),
    (re.compile(r">="), ">"),
    (re.compile(r"<>"), "="),
    (re.compile(r"(?<=[\w.] )=(?= [\d':])"), "<>"),
    (re.compile(r"\bDESC\b"), "ASC"),
    (re.compile(r" \+ 1\b"), " + 2"),
)


@dataclass(frozen=True)
class Change:
    """``text`` in the place of the characters from ``begin`` to ``end`` of a file."""

    area: str
    path: str
    line: int
    begin: int
    end: int
    before: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before.strip()!r} -> {self.text.strip()!r}"


def changes(area: str, path: str) -> Iterator[Change]:
    source = (ROOT / path).read_text(encoding="utf-8")
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    raw = source.encode()
    tree = ast.parse(source)
    left_out = {
        id(inner)
        for node in ast.walk(tree)
        for part in (
            getattr(node, "annotation", None),
            getattr(node, "returns", None),
            *getattr(node, "decorator_list", ()),
        )
        if part is not None
        for inner in ast.walk(part)
    }
    left_out |= {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and isinstance(node.body[0], ast.Expr)
    }

    def at(line: int, column: int) -> int:
        return starts[line - 1] + column

    def span(node: ast.expr | ast.stmt) -> tuple[int, int]:
        return at(node.lineno, node.col_offset), at(node.end_lineno or 0, node.end_col_offset or 0)

    def change(line: int, begin: int, end: int, text: str) -> Change:
        return Change(area, path, line, begin, end, raw[begin:end].decode(), text)

    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, right in pairwise(sides):
                begin, end = span(left)[1], span(right)[0]
                word = raw[begin:end].decode().strip("() \n")
                if word in COMPARISONS:
                    yield change(node.lineno, begin, end, raw[begin:end].decode().replace(word, COMPARISONS[word]))
        elif isinstance(node, ast.BoolOp):
            word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            for left, right in pairwise(node.values):
                begin, end = span(left)[1], span(right)[0]
                yield change(left.end_lineno or 0, begin, end, raw[begin:end].decode().replace(word, other, 1))
        elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            word, other = ARITHMETIC[type(node.op)]
            begin, end = span(node.left)[1], span(node.right)[0]
            yield change(node.lineno, begin, end, raw[begin:end].decode().replace(word, other, 1))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            begin = span(node)[0]
            yield change(node.lineno, begin, begin + len("not"), "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield change(node.lineno, *span(node), str(not node.value))
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            yield change(node.lineno, *span(node), str(node.value + 1))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value):
            begin, end = span(node)
            text = raw[begin:end].decode()
            for pattern, new in SQL_CHANGES:
                for found in pattern.finditer(text):
                    first = begin + len(text[: found.start()].encode())
                    line = node.lineno + text[: found.start()].count("\n")
                    yield change(line, first, first + len(found[0].encode()), new)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield change(node.lineno, *span(node), "pass")
        elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
            yield change(node.lineno, *span(node), "return None")


def chosen(count: int, seed: int) -> list[Change]:
    """As many of each area, in an order that mixes them."""
    picked = random.Random(seed)
    found: list[Change] = []
    for number, (area, (paths, _)) in enumerate(AREAS.items()):
        share = count // len(AREAS) + (number < count % len(AREAS))
        every = sorted({each for path in paths for each in changes(area, path)}, key=str)
        found += picked.sample(every, min(share, len(every)))
    picked.shuffle(found)
    return found


def copy_tree(folder: Path) -> None:
    folder.mkdir()
    for name in TREE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)


def ask(folder: Path, area: str, seconds: float) -> bool | None:
    """Whether the area's tests fail; None where they did not end in time."""
    tests = [name for name in AREAS[area][1] if (folder / name).exists()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.returncode != 0


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    options.add_argument("--count", type=int, default=304)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--area", choices=AREAS, action="append")
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--seconds", type=float, default=90, help="after which one change counts as not caught")
    asked = options.parse_args()

    begun = time.monotonic()
    folders: SimpleQueue[Path] = SimpleQueue()
    caught: dict[str, list[bool]] = defaultdict(list)
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as home:
        for number in range(asked.processes):
            copy_tree(Path(home) / str(number))
            folders.put(Path(home) / str(number))
        unchanged = folders.get()
        for area in asked.area or AREAS:
            if ask(unchanged, area, 10 * asked.seconds) is not False:
                raise SystemExit(f"the tests of {area} fail as it is")
        folders.put(unchanged)

        def one(change: Change) -> tuple[Change, bool | None]:
            folder = folders.get()
            file = folder / change.path
            before = file.read_bytes()
            try:
                file.write_bytes(before[: change.begin] + change.text.encode() + before[change.end :])
                return change, ask(folder, change.area, asked.seconds)
            finally:
                file.write_bytes(before)
                folders.put(folder)

        wanted = [each for each in chosen(asked.count, asked.seed) if each.area in (asked.area or AREAS)]
        with ThreadPoolExecutor(asked.processes) as pool:
            for change, result in pool.map(one, wanted):
                caught[change.area].append(result is True)
                if result is not True:
                    missed.append(f"{change}{' (did not end)' if result is None else ''}")
    print("not caught:", *(sorted(missed) or ["none"]), sep="\n  ")
    for area, results in sorted(caught.items()):
        print(f"{area:12} {sum(results):3} of {len(results):3} caught")
    every = [each for results in caught.values() for each in results]
    minutes = (time.monotonic() - begun) / 60
    print(f"{'in all':12} {sum(every):3} of {len(every):3} caught, {sum(every) / len(every):.0%}, in {minutes:.0f} min")


if __name__ == "__main__":
    main()
