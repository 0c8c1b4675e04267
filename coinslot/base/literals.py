"""Objects as guides print them and as old programs send them: Python's literals, no braces, Latin-1, NUL behind."""

import ast
from typing import Any

# Python says in warnings what it thinks of a text, once per text, and names this as its file. app.py has it keep quiet.
SOURCE = "<payload>"


def decoded(raw: bytes) -> tuple[str, str]:
    """The text of some bytes, and its encoding: UTF-8, or else Latin-1, which fits any bytes. NUL behind is padding."""
    raw = raw.rstrip(b"\0")
    try:
        return raw.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return raw.decode("latin-1"), "latin-1"


def members(text: str) -> list[tuple[Any, Any]]:
    """Names and values of ``{'Items': [1, 2]}``, with or without the outer braces. Raises ValueError for anything else.

    Nothing but literals is understood, and nothing is run.
    """
    text = text.strip()
    try:
        tree = ast.parse(text if text.startswith("{") else f"{{{text}}}", SOURCE, "eval").body
        if not isinstance(tree, ast.Dict):
            raise ValueError("not an object")
        pairs = zip(tree.keys, tree.values, strict=True)
        return [(ast.literal_eval(name), ast.literal_eval(value)) for name, value in pairs if name is not None]
    except (SyntaxError, TypeError, RecursionError, MemoryError):
        raise ValueError("no literal") from None
