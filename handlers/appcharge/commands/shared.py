"""What the commands about Appcharge share."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from coinslot.base import exact
from coinslot.base.spellings import shown
from coinslot.games import registry
from coinslot.games.games import Game
from coinslot.games.registry import RegistryError
from coinslot.store import audit
from handlers.appcharge.api.catalogue import CatalogueError
from handlers.appcharge.api.client import Client
from handlers.kit.api import ApiError
from handlers.kit.console import opened_game
from handlers.kit.receive import current_installation

LONGEST_CELL = 255


def game_and_client(slug: str) -> tuple[Game, Client]:
    """Raises GameError for an unknown game, and NotConfiguredError where its calls to Appcharge lack a key."""
    game = opened_game(slug)
    return game, Client(game, current_installation().outbound)


def checked(value: str | None) -> str:
    """An id that was typed. Raises :class:`RegistryError` in words for the command."""
    try:
        return registry.checked_id(value or "")
    except ValueError as error:
        raise RegistryError(f"an id: {error}") from None


@contextmanager
def audited(game: Game, action: str, subject: str) -> Iterator[None]:
    """Note who does what before it is done, since afterwards may never come; and when it was refused, that too."""

    def note(word: str) -> None:
        current_installation().database.write_here(lambda tx: audit.record(tx, game.id, "command", word, subject))

    note(action)
    try:
        yield
    except (ApiError, CatalogueError):
        note(f"{action}.failed")
        raise


def cell(value: Any, nothing: str = "-") -> str:
    """A value of Appcharge's on one line, numbers exactly as they came."""
    if value is None or isinstance(value, dict | list):
        return nothing
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | Decimal):
        try:
            return exact.figure(value)
        except ValueError:
            return nothing
    return shown(str(value), LONGEST_CELL) or nothing
