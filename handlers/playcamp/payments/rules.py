"""What a payment of a game's must be like before PlayCamp is told of it, as its owner has configured it."""

from coinslot.games.games import Game
from coinslot.payments.fields import Rules
from handlers.playcamp.settings import DISTRIBUTION_TYPES, MARKETS, PLATFORMS


def rules(game: Game) -> Rules:
    """The owner's own markets come before those everybody knows."""
    own = {}
    for name, told in game.family("playcamp.market.").items():
        platform, _, distribution_type = told.partition(",")
        own[name.lower()] = (platform, distribution_type)
    return Rules(PLATFORMS, DISTRIBUTION_TYPES, {**MARKETS, **own}, game.settings["playcamp.payments.zone"])


def is_registering(game: Game) -> bool:
    """Whether it is we who register what the game pushes; else PlayCamp's own gateway asks us for it.

    With neither key payments wait for the first: nobody could ask for them.
    """
    return bool(game.keys("playcamp.api_key")) or not game.keys("playcamp.payments_key")
