"""What payments must be like, and how calls about them are signed, as the owner has configured it."""

import hashlib

from coinslot.games.games import Game
from coinslot.payments.fields import Rules
from handlers.playcamp.settings import DISTRIBUTION_TYPES, MARKETS, PLATFORMS


def rules(game: Game) -> Rules:
    """The rules for this game's payments. Its own markets come before the usual ones."""
    own = {}
    for name, place in game.family("playcamp.market.").items():
        platform, _, distribution_type = place.partition(",")
        own[name.lower()] = (platform, distribution_type)
    return Rules(PLATFORMS, DISTRIBUTION_TYPES, {**MARKETS, **own}, game.settings["playcamp.payments.zone"])


def is_registering(game: Game) -> bool:
    """Whether we register what the game pushes; else PlayCamp's own gateway asks us for it.

    With neither key payments wait to be registered: no gateway can ask for them.
    """
    return bool(game.keys("playcamp.api_key")) or not game.keys("playcamp.payments_key")


def signed_lines(method: str, path: str, query: bytes, timestamp: str) -> bytes:
    """What a call signs: method, path, query and timestamp (Unix seconds), one a line.

    The query is as it is sent, percent-encoding included: cut at each ``&``, sorted by bytes, joined by ``&`` again.
    """
    words = b"&".join(sorted(query.split(b"&")))
    return b"\n".join([method.encode(), path.encode(), words, timestamp.encode("utf-8", "surrogateescape")])


def fingerprint(method: str, path: str, query: bytes, timestamp: str, key: bytes) -> str:
    """The proof of a call: the hex SHA-256 of :func:`signed_lines` and the key as the last line."""
    return hashlib.sha256(signed_lines(method, path, query, timestamp) + b"\n" + key).hexdigest()
