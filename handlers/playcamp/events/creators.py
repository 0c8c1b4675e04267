"""Who a creator is to the game: the owner's setting, or PlayCamp's own number."""

import re
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from coinslot.base import clock, exact
from coinslot.games.games import Game
from coinslot.installation import Installation
from handlers.kit.api import ApiError
from handlers.playcamp.api.client import CREATOR_KEY, Client, base_url

LOOKUP_SECONDS = 10.0  # to ask PlayCamp for one creator
KNOWN_SECONDS = 3600.0
UNKNOWN_SECONDS = 300.0
KEPT_CREATORS = 10_000
Usn: TypeAlias = int | str
# What PlayCamp said of creators, and until when that is good: per database, game and address.
_creators: dict[tuple[Path, int, str, str], tuple[float, int | None]] = {}


class ConversionError(Exception):
    """An event cannot be converted yet; the message says to the owner why, and what to do."""


def number_of(digits: str) -> Usn:
    """A whole number where text is just that; other text as it is, also ``007``, which would be somebody else's 7."""
    return int(digits) if re.fullmatch("0|[1-9][0-9]*", digits) else digits


class Creators:
    """The game's numbers of creators, for one run. PlayCamp is asked until it fails to answer, or until time is out."""

    def __init__(self, installation: Installation, game: Game, until: float) -> None:
        self._installation = installation
        self._game = game
        self._until = until
        self._client: Client | None = None
        self._trouble: ApiError | None = None

    def usn(self, creator_key: str) -> Usn:
        """By setting, else by PlayCamp where the owner wants that. Raises :class:`ConversionError`."""
        known = self._game.settings.get(f"playcamp.creator.{creator_key}", "").strip()
        if known:
            return number_of(known)
        missing = f"creator {creator_key} has no creator_usn"
        if self._game.is_on("playcamp.creator_lookup"):
            found = self._asked(creator_key)
            if found is not None:
                return found
            missing += ", and PlayCamp has none for it"
        command = shlex.join(["flask", "config", "set", self._game.slug, f"playcamp.creator.{creator_key}"])
        raise ConversionError(f"{missing}: {command} NUMBER")

    def _asked(self, creator_key: str) -> int | None:
        """PlayCamp's number of a creator; None where it has none. Raises :class:`ConversionError`."""
        if not CREATOR_KEY.fullmatch(creator_key):
            return None
        try:
            key = (self._installation.database.path, self._game.id, base_url(self._game), creator_key)
            kept = _creators.get(key)
            if kept is not None and clock.now() < kept[0]:
                return kept[1]
            found = self._fetched(creator_key)
        except ApiError as error:
            self._trouble = error
            raise ConversionError(
                f"creator {creator_key} has no creator_usn, and PlayCamp could not be asked for it: {error}"
            ) from None
        if len(_creators) >= KEPT_CREATORS:
            _creators.clear()
        _creators[key] = (clock.now() + (UNKNOWN_SECONDS if found is None else KNOWN_SECONDS), found)
        return found

    def _fetched(self, creator_key: str) -> int | None:
        if self._trouble is not None:  # every event would wait for the same
            raise self._trouble
        if time.monotonic() >= self._until:
            raise ConversionError(f"creator {creator_key} has no creator_usn, and PlayCamp is still to be asked for it")
        if self._client is None:
            self._client = Client(self._game, self._installation.outbound, patience_seconds=LOOKUP_SECONDS, tries=1)
        return _creator_id(self._client.creator(creator_key), creator_key)


def _creator_id(document: Mapping[str, Any] | None, creator_key: str) -> int | None:
    if document is None or document.get("creatorKey", creator_key) != creator_key:
        return None
    try:
        return exact.whole(document.get("creatorId"), exact.MINOR_DIGITS)
    except ValueError:
        return None
