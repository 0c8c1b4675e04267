"""The game's numbers of creators: the owner's setting, or PlayCamp's own number."""

import re
import shlex
import time
from typing import TypeAlias

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.games.readers import whole_of
from coinslot.installation import Installation
from handlers.kit.api import ApiError
from handlers.playcamp.api.client import CREATOR_KEY, Client, base_url

LOOKUP_SECONDS = 10.0  # to ask PlayCamp for one creator
KNOWN_SECONDS = 3600.0
UNKNOWN_SECONDS = 300.0
KEPT_CREATORS = 10_000
Usn: TypeAlias = int | str
# PlayCamp's numbers, and until when they are used: per database, game, address and creator.
_numbers: dict[tuple[str, int, str, str], tuple[float, int | None]] = {}


class ConversionError(Exception):
    """An event cannot be converted yet; the message tells the owner why, and what to do."""


def number_of(digits: str) -> Usn:
    """A whole number where text is just that; other text unchanged, also ``007``, which is not 7."""
    return int(digits) if re.fullmatch("0|[1-9][0-9]*", digits) else digits


class Creators:
    """The game's numbers of creators, for one run. PlayCamp is asked until a call fails or the time is over."""

    def __init__(self, installation: Installation, game: Game, until: float) -> None:
        self._installation = installation
        self._game = game
        self._until = until
        self._failure: ApiError | None = None

    def usn(self, creator_key: str) -> Usn:
        """By setting, else by PlayCamp where the owner wants that. Raises :class:`ConversionError`."""
        known = self._game.settings.get(f"playcamp.creator.{creator_key}", "").strip()
        if known:
            return number_of(known)
        missing = f"creator {creator_key} has no creator_usn"
        if self._game.is_on("playcamp.creator_lookup"):
            try:
                found = self._look_up(creator_key) if CREATOR_KEY.fullmatch(creator_key) else None
            except ApiError as error:
                self._failure = error
                raise ConversionError(f"{missing}, and PlayCamp could not be asked for it: {error}") from None
            if found is not None:
                return found
            missing += ", and PlayCamp has none for it"
        command = shlex.join(["flask", "config", "set", self._game.slug, f"playcamp.creator.{creator_key}"])
        raise ConversionError(f"{missing}: {command} NUMBER")

    def _look_up(self, creator_key: str) -> int | None:
        """PlayCamp's number of a creator; None where it has none. Raises ApiError and :class:`ConversionError`."""
        key = (self._installation.database.name, self._game.id, base_url(self._game), creator_key)
        kept = _numbers.get(key)
        if kept is not None and clock.now() < kept[0]:
            return kept[1]
        if self._failure is not None:  # each event would wait for another failure
            raise self._failure
        if time.monotonic() >= self._until:
            raise ConversionError(f"creator {creator_key} has no creator_usn, and PlayCamp is still to be asked for it")
        client = Client(self._game, self._installation.outbound, patience_seconds=LOOKUP_SECONDS, tries=1)
        document = client.creator(creator_key) or {}
        is_it = document.get("creatorKey", creator_key) == creator_key
        found = whole_of(document.get("creatorId")) if is_it else None
        if len(_numbers) >= KEPT_CREATORS:
            _numbers.clear()
        _numbers[key] = (clock.now() + (UNKNOWN_SECONDS if found is None else KNOWN_SECONDS), found)
        return found
