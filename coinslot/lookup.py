"""Asking the game's own server whether a player exists, for games that configure it (``players.unknown = lookup``)."""

from urllib.parse import quote

import urllib3

from coinslot import ledger, registry
from coinslot.db import Database
from coinslot.games import Game

TIMEOUT_SECONDS = 2.0

_pool = urllib3.PoolManager(num_pools=8, maxsize=8, retries=False)


class LookupFailedError(Exception):
    """The game's server did not say whether the player exists. Our trouble: the partner is to come again."""


def rules(database: Database, game: Game, wanted: ledger.Credit, may_be_empty: bool = True) -> ledger.Rules:
    """What the game does about unknown players and items, for this credit.

    Asks the game's server only where nothing else decides. Raises :class:`LookupFailedError`.
    """
    unknown_player = game.settings["players.unknown"]
    if unknown_player == "lookup":
        connection = database.read()
        is_settled = registry.has_player(connection, game.id, wanted.player_id) or ledger.is_credited(
            connection, wanted
        )
        unknown_player = "accept" if not is_settled and has_player(game, wanted.player_id) else "reject"
    return ledger.Rules(unknown_player, game.settings["items.unknown"], may_be_empty)


def has_player(game: Game, player_id: str) -> bool:
    """200 is yes, 404 is no; anything else, and two seconds of silence, is :class:`LookupFailedError`."""
    url = game.settings["players.lookup_url"]
    if not url:
        raise LookupFailedError("players.lookup_url is not set")
    headers = {"Accept": "application/json"}
    for key in game.keys("game.lookup_key")[:1]:
        headers["Authorization"] = f"Bearer {key.value.decode()}"
    address = f"{url}{'&' if '?' in url else '?'}player_id={quote(player_id, safe='')}"
    try:
        answer = _pool.request(
            "GET",
            address,
            headers=headers,
            timeout=urllib3.Timeout(total=TIMEOUT_SECONDS),
            redirect=False,
            preload_content=False,
        )
    except urllib3.exceptions.HTTPError as error:
        raise LookupFailedError(f"the game's server did not answer: {type(error).__name__}") from None
    # Only the status is wanted. The body stays unread, so this connection is not used again.
    answer.close()
    if answer.status not in (200, 404):
        raise LookupFailedError(f"the game's server answered {answer.status}")
    return answer.status == 200
