"""The game's server has an entry signed: the address its client then opens in a browser."""

from urllib.parse import quote, urlencode

from flask import Response, jsonify
from marshmallow import fields

from coinslot.base import clock
from coinslot.games.games import Game
from handlers.kit.fields import Identifier, Strict
from handlers.kit.partner import EntryRecipe, GameCall
from handlers.kit.problems import ProblemError, caller, read_body
from handlers.kit.receive import current_installation
from handlers.playcamp.entries.entry import allowed_campaigns, recipe_of
from handlers.playcamp.recipe import sign


class PlayCampEntryRequest(Strict):
    player_id = Identifier(required=True, metadata={"description": "Need not be registered"})
    campaign_id = Identifier(metadata={"description": "Else PlayCamp's active campaign"})


class PlayCampEntry(Strict):
    url = fields.String(required=True, metadata={"description": "Open it in a browser, soon: the signature ages"})
    custom_data = fields.String(required=True, metadata={"description": "Comes back with what the player chooses"})


_request = PlayCampEntryRequest()


def sign_entry() -> Response:
    """Sign a player's entry as of now, for our own gateway or PlayCamp's."""
    game = caller()
    wanted = read_body(_request)
    player_id, campaign_id = wanted["player_id"], wanted.get("campaign_id")
    # With the current key. That says nothing of what the other side verifies with, so its use is not noted.
    keys = game.keys("playcamp.shared_key")
    if not keys:
        raise ProblemError(409, "playcamp.shared_key is not set, so there is nothing to sign with")
    allowed = allowed_campaigns(game)
    if campaign_id is not None and allowed and campaign_id not in allowed:
        detail = "is not one of playcamp.campaigns"
        raise ProblemError(422, f"campaign_id: {detail}", [{"path": "campaign_id", "detail": detail}])
    try:
        custom_data = sign(recipe_of(game), keys[0].value, player_id, campaign_id, clock.now())
    except ValueError as error:
        raise ProblemError(409, f"playcamp.signature cannot sign this: {error}") from None
    return jsonify(url=_address(game, player_id, campaign_id, custom_data), custom_data=custom_data)


def recipe(game: Game) -> EntryRecipe:
    """The same for a game whose own server signs."""
    agreed = recipe_of(game)
    user, campaign, auth = (game.settings[f"playcamp.param.{name}"] for name in ("user", "campaign", "auth"))
    return EntryRecipe(
        "PlayCamp entry",
        _base(game),
        (user, campaign, auth),
        agreed.digest,
        agreed.is_keyed,
        agreed.encoding,
        agreed.form,
        agreed.message,
        "playcamp.shared_key",
    )


def _base(game: Game) -> str:
    base = (
        game.settings["playcamp.entry_url"] or f"{current_installation().settings.public_url}/api/{game.slug}/sponsor"
    )
    return base.partition("#")[0]


def _address(game: Game, player_id: str, campaign_id: str | None, custom_data: str) -> str:
    base = _base(game)
    given = {"user": player_id, "campaign": campaign_id, "auth": custom_data}
    query = urlencode(
        {game.settings[f"playcamp.param.{name}"]: value for name, value in given.items() if value is not None},
        quote_via=quote,  # a blank as %20: that has one meaning
        safe="",
    )
    return f"{base}{'&' if '?' in base else '?'}{query}"


GAME_CALLS = (
    GameCall(
        "POST",
        "/playcamp/entry",
        sign_entry,
        "Sign a player's entry into PlayCamp's WebView",
        {200: PlayCampEntry},
        PlayCampEntryRequest,
        errors=(400, 409, 413, 422),
    ),
)
