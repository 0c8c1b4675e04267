"""What a command says when something cannot be done: one message in words and exit status 1, no traceback."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from coinslot.access.keyring import SecretError
from coinslot.access.owner import OwnerError
from coinslot.access.vault import VaultError
from coinslot.games.games import GameError
from coinslot.games.registry import RegistryError
from coinslot.outbox.checks import DestinationError
from coinslot.outbox.redrives import DeliveryError
from coinslot.store.db import DatabaseError, EngineError

TROUBLE = (
    DatabaseError,
    DeliveryError,
    DestinationError,
    GameError,
    OwnerError,
    RegistryError,
    SecretError,
    VaultError,
)

P = ParamSpec("P")
R = TypeVar("R")


def in_words(command: Callable[P, R]) -> Callable[P, R]:
    """For every command: trouble of the owner's or the machine's becomes click's ``Error: ...``; our bugs do not."""

    @functools.wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except TROUBLE as error:
            raise click.ClickException(str(error)) from None
        except UnicodeEncodeError:
            if not _is_undecodable((*args, *kwargs.values())):
                raise
            raise click.ClickException("what was typed is not UTF-8") from None
        except EngineError as error:
            raise click.ClickException(f"the database does not work: {error}") from None
        except BrokenPipeError:  # whoever read our output went away; click ends quietly
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename is not None else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from None

    return told


def also_in_words(*kinds: type[Exception]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The same for commands that meet these errors too."""

    def wrapped(command: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(command)
        def inner(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return command(*args, **kwargs)
            except kinds as error:
                raise click.ClickException(str(error)) from None

        return in_words(inner)

    return wrapped


def _is_undecodable(value: object) -> bool:
    """Whether an argument, or one of several, holds bytes that are no text: each comes as half of a surrogate pair."""
    if isinstance(value, tuple | list):
        return any(map(_is_undecodable, value))
    return isinstance(value, str) and any("\udc80" <= character <= "\udcff" for character in value)
