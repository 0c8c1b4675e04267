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
from handlers.playcamp.entries.entry import PARAMETERS, allowed_campaigns, recipe_of
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
    # With the current key. Its use is not noted: that does not show which key the other side verifies with.
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
    url = _base(game)
    url += f"{'&' if '?' in url else '?'}{entry_query(game, player_id, campaign_id, custom_data)}"
    return jsonify(url=url, custom_data=custom_data)


def entry_query(game: Game, player_id: str, campaign_id: str | None, custom_data: str) -> str:
    """The query of an entry, with the game's names of its parameters."""
    given = zip(PARAMETERS, (player_id, campaign_id, custom_data), strict=True)
    query = {game.settings[f"playcamp.param.{name}"]: value for name, value in given if value is not None}
    return urlencode(query, quote_via=quote, safe="")  # a space as %20: that has one meaning


def recipe(game: Game) -> EntryRecipe:
    """How a game whose own server signs makes the same address."""
    agreed = recipe_of(game)
    user, campaign, auth = (game.settings[f"playcamp.param.{name}"] for name in PARAMETERS)
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
    ours = f"{current_installation().settings.public_url}/api/{game.slug}/sponsor"
    return (game.settings["playcamp.entry_url"] or ours).partition("#")[0]


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
