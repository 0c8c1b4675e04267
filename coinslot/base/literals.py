"""Objects as guides print them and old programs send them: Python literals, no braces, Latin-1, trailing NUL."""

import ast
from typing import Any

# The file that Python's warnings about such a text name; app.py silences them.
SOURCE = "<payload>"


def decoded(raw: bytes) -> tuple[str, str]:
    """The text of some bytes, and its encoding: UTF-8, else Latin-1, which fits all bytes. Trailing NUL is padding."""
    raw = raw.rstrip(b"\0")
    try:
        return raw.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return raw.decode("latin-1"), "latin-1"


def members(text: str) -> list[tuple[Any, Any]]:
    """Names and values of ``{'Items': [1, 2]}``, with or without the outer braces. Nothing is run.

    Raises ValueError for anything but literals.
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
