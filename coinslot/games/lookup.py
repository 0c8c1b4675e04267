"""Asking the game's own server about its players, where a game configures that.

Whether a player exists (``players.unknown = lookup``), and which player a login name and password belong to
(``players.login_url``). The answers are checked like all input.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from coinslot.base import exact
from coinslot.base.outbound import Answer, Outbound
from coinslot.games import registry
from coinslot.games.games import Game
from coinslot.games.readers import text_of

TIMEOUT_SECONDS = 2.0
LOGIN_TIMEOUT_SECONDS = 5.0  # a password's hash takes its time
LARGEST_PROFILE = 1024 * 1024  # as much as the game may push


class LookupFailedError(Exception):
    """The game's server did not say whether the player exists. The partner may try again later."""


@dataclass(frozen=True)
class FoundPlayer:
    """A player as the game's server describes one. ``profile`` has ``name``, ``profile_image`` and ``country``, where
    valid; ``document`` is the whole answer, unchecked, and empty where that was no JSON object.
    """

    player_id: str
    profile: Mapping[str, str] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)


def player(outbound: Outbound, game: Game, player_id: str) -> FoundPlayer | None:
    """200 means yes, 404 no (None). Any other answer, or none in two seconds, raises :class:`LookupFailedError`."""
    url = game.settings["players.lookup_url"]
    if not url:
        raise LookupFailedError("players.lookup_url is not set")
    address = f"{url}{'&' if '?' in url else '?'}player_id={quote(player_id, safe='')}"
    answer = outbound.call("GET", address, _headers(game), None, TIMEOUT_SECONDS, LARGEST_PROFILE)
    if answer.status not in (200, 404):  # with one of these, nothing else in the answer matters
        raise LookupFailedError(f"the game's server did not say: {answer.trouble}")
    if answer.status == 404:
        return None
    document = _document(answer)
    return FoundPlayer(player_id, _profile(document), document)


def player_by_password(outbound: Outbound, game: Game, login_name: str, password: str) -> FoundPlayer | None:
    """The player to whom this login name and password belong, by the game's server; None where it knows none.

    Raises :class:`LookupFailedError` for every answer but 200 with a ``player_id``, 401, 403 and 404.
    """
    body = json.dumps({"login_name": login_name, "password": password}).encode()
    headers = {**_headers(game), "Content-Type": "application/json"}
    answer = outbound.post(game.settings["players.login_url"], headers, body, LOGIN_TIMEOUT_SECONDS)
    if answer.status in (401, 403, 404):
        return None
    if answer.status != 200 or answer.failure:
        raise LookupFailedError(f"the game's server did not say who logs in: {answer.trouble}")
    document = _document(answer)
    try:
        return FoundPlayer(registry.checked_id(text_of(document.get("player_id")) or ""), _profile(document))
    except ValueError:
        raise LookupFailedError("the game's server said who logs in without a player_id") from None


def _headers(game: Game) -> dict[str, str]:
    headers = {"Accept": "application/json"}
    for key in game.keys("game.lookup_key")[:1]:
        headers["Authorization"] = f"Bearer {key.value.decode()}"
    return headers


def _document(answer: Answer) -> Mapping[str, Any]:
    """The JSON object of an answer; an empty one where there is none."""
    try:
        document = exact.parse_json(answer.body, exact.finite, allow_half_pairs=True)  # each text is checked when used
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _profile(document: Mapping[str, Any]) -> dict[str, str]:
    """The valid parts of a profile; other fields are ignored."""
    name, image, country = (document.get(key) for key in ("name", "profile_image", "country"))
    profile = {}
    if isinstance(name, str) and _is_text(name, 255):
        profile["name"] = name
    if isinstance(image, str) and image.startswith(("https://", "http://")) and _is_text(image, 2048):
        profile["profile_image"] = image
    if isinstance(country, str) and re.fullmatch("[A-Z]{2}", country):
        profile["country"] = country
    return profile


def _is_text(value: str, longest: int) -> bool:
    try:
        return bool(registry.checked_text(value, longest).strip())
    except ValueError:
        return False
