"""Commands: how they run, what they print when something cannot be done, and what they read and print."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from flask import current_app
from flask.cli import ScriptInfo

from coinslot.base.errors import CoinslotError
from coinslot.games.games import Game, GameError
from coinslot.store.db import EngineError
from handlers.kit.receive import current_installation

LONGEST_VALUE = 64 * 1024  # bytes; keys and passwords are far shorter, a wrong file on standard input may be huge


class Command(click.Command):
    """A command that runs in the application's context.

    A :class:`CoinslotError`, or an error of the machine, is printed as one sentence with exit status 1. A bug of ours
    stays a traceback.
    """

    def invoke(self, context: click.Context) -> Any:
        if not current_app:
            context.with_resource(context.ensure_object(ScriptInfo).load_app().app_context())
        try:
            return super().invoke(context)
        except CoinslotError as error:
            raise click.ClickException(str(error)) from None
        except UnicodeEncodeError:
            if not _is_undecodable(tuple(context.params.values())):
                raise
            raise click.ClickException("what was typed is not UTF-8") from None
        except EngineError as error:
            raise click.ClickException(f"the database does not work: {error}") from None
        except BrokenPipeError:  # the reader of our output has gone; click ends quietly
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename is not None else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from None


class Group(click.Group):
    """A group of such commands and groups."""

    command_class = Command
    group_class = type  # this class


def opened_game(slug: str) -> Game:
    """The game as requests see it. Raises :class:`GameError` when there is none."""
    found = current_installation().games.by_slug(slug)
    if found is None:
        raise GameError(f"there is no game {slug}")
    return found


def checked_option(option: str, check: Callable[[str], str], value: str) -> str:
    """What ``check`` makes of an option's value; its ValueError becomes a :class:`CoinslotError` with the option."""
    try:
        return check(value)
    except ValueError as error:
        raise CoinslotError(f"{option}: {error}") from None


def read_value(what: str, *, is_new: bool = True) -> str:
    """A value that must not appear on a command line: typed at a terminal, hidden, or standard input.

    A new value is typed twice. Of standard input exactly one line ending at the end is not part of the value. Raises
    ClickException, without the value, when it is empty, holds a NUL or is not UTF-8.
    """
    if sys.stdin is None:  # started with it closed
        raise click.ClickException(f"{what}: standard input is closed")
    if sys.stdin.isatty():
        typed = click.prompt(
            what, hide_input=True, confirmation_prompt=is_new, default="", show_default=False, err=True
        )
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


@contextmanager
def stopped_tidily() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does, with nothing half-done left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _is_undecodable(value: object) -> bool:
    """Whether an argument, or one of several, holds bytes that are not UTF-8: Python reads each as a lone surrogate."""
    if isinstance(value, tuple):
        return any(map(_is_undecodable, value))
    return isinstance(value, str) and any("\udc80" <= character <= "\udcff" for character in value)
