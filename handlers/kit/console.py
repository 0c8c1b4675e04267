"""How commands talk with the person at the terminal, or with the script in that place."""

import sys
from collections.abc import Sequence

import click

from coinslot.games.games import Game, GameError
from handlers.kit.receive import current_installation

LONGEST_VALUE = 64 * 1024  # bytes; keys and passwords are far shorter, a wrong file on standard input may be huge


def opened_game(slug: str) -> Game:
    """The game as requests see it. Raises :class:`GameError` when there is none."""
    found = current_installation().games.by_slug(slug)
    if found is None:
        raise GameError(f"there is no game {slug}")
    return found


def read_value(what: str) -> str:
    """A value that must not appear on a command line: typed twice and hidden at a terminal, else standard input.

    Of standard input exactly one line ending at the end is not part of the value. Raises ClickException, without
    the value, when it is empty, holds a NUL or is not UTF-8.
    """
    if sys.stdin is None:  # started with it closed
        raise click.ClickException(f"{what}: standard input is closed")
    if sys.stdin.isatty():
        typed = click.prompt(what, hide_input=True, confirmation_prompt=True, default="", show_default=False, err=True)
        value = str(typed).encode("utf-8", errors="surrogateescape")
    else:
        value = sys.stdin.buffer.read(LONGEST_VALUE + 1)
        value = value[:-2] if value.endswith(b"\r\n") else value.removesuffix(b"\n")
    if not value:
        raise click.ClickException(f"{what}: the value is empty")
    if len(value) > LONGEST_VALUE:
        raise click.ClickException(f"{what}: the value is longer than {LONGEST_VALUE} bytes")
    if b"\0" in value:
        raise click.ClickException(f"{what}: the value holds a NUL character")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise click.ClickException(f"{what}: the value is not UTF-8") from None


def table(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Rows of cells as lines with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in rows
    )
