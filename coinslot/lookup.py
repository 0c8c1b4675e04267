"""Asking the game's own server whether a player exists, for games that configure it (``players.unknown = lookup``)."""

from urllib.parse import quote

from coinslot import ledger, registry
from coinslot.db import Database
from coinslot.games import Game
from coinslot.outbound import Outbound

TIMEOUT_SECONDS = 2.0


class LookupFailedError(Exception):
    """The game's server did not say whether the player exists. Our trouble: the partner is to come again."""


def rules(
    database: Database, outbound: Outbound, game: Game, wanted: ledger.Credit, may_be_empty: bool = True
) -> ledger.Rules:
    """What the game does about unknown players and items, for this credit.

    Asks the game's server only where nothing else decides. Raises :class:`LookupFailedError`.
    """
    unknown_player = game.settings["players.unknown"]
    if unknown_player == "lookup":
        connection = database.read()
        is_settled = registry.has_player(connection, game.id, wanted.player_id) or ledger.is_credited(
            connection, wanted
        )
        unknown_player = "accept" if not is_settled and has_player(outbound, game, wanted.player_id) else "reject"
    return ledger.Rules(unknown_player, game.settings["items.unknown"], may_be_empty)


def has_player(outbound: Outbound, game: Game, player_id: str) -> bool:
    """200 is yes, 404 is no; anything else, and two seconds of silence, is :class:`LookupFailedError`."""
    url = game.settings["players.lookup_url"]
    if not url:
        raise LookupFailedError("players.lookup_url is not set")
    headers = {"Accept": "application/json"}
    for key in game.keys("game.lookup_key")[:1]:
        headers["Authorization"] = f"Bearer {key.value.decode()}"
    address = f"{url}{'&' if '?' in url else '?'}player_id={quote(player_id, safe='')}"
    answer = outbound.get(address, headers, TIMEOUT_SECONDS)
    if answer.status not in (200, 404):  # of an answer that says one of these, nothing more is wanted
        raise LookupFailedError(f"the game's server did not say: {answer.failure or answer.status}")
    return answer.status == 200
