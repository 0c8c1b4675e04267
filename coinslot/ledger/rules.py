"""What a credit of a game needs: known players and items, or not."""

from coinslot.base.outbound import Outbound
from coinslot.games import registry
from coinslot.games.games import Game
from coinslot.games.lookup import player
from coinslot.ledger import credit, reports
from coinslot.store.db import Database


def rules(
    database: Database, outbound: Outbound, game: Game, wanted: reports.Credit, may_be_empty: bool = True
) -> reports.Rules:
    """What the game does about unknown players and items, for this credit.

    Asks the game's server only where nothing else decides. Raises :class:`LookupFailedError`.
    """
    unknown_player = game.settings["players.unknown"]
    if unknown_player == "lookup":
        connection = database.read()
        is_settled = registry.has_player(connection, game.id, wanted.player_id) or credit.is_credited(
            connection, wanted
        )
        is_there = not is_settled and player(outbound, game, wanted.player_id) is not None
        unknown_player = "accept" if is_there else "reject"
    return reports.Rules(unknown_player, game.settings["items.unknown"], may_be_empty)
