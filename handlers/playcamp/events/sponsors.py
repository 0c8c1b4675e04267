"""The game asks which creators a player supports."""

from flask import Response, jsonify
from marshmallow import fields

from coinslot.ledger import boosts
from handlers.kit.fields import Strict
from handlers.kit.partner import GameCall
from handlers.kit.problems import caller, checked
from handlers.kit.receive import current_installation


class Sponsor(Strict):
    campaign_id = fields.String(
        required=True, allow_none=True, metadata={"description": "null where PlayCamp named none"}
    )
    creator_key = fields.String(required=True)
    since = fields.DateTime(required=True, metadata={"description": "When PlayCamp last said so, by its own clock"})
    is_test = fields.Boolean(required=True)


class Sponsors(Strict):
    player_id = fields.String(required=True)
    sponsors = fields.List(fields.Nested(Sponsor), required=True)


def show(player_id: str) -> Response:
    """The player's boosts, one per campaign. The player need not be registered."""
    game = caller()
    player_id = checked(player_id, "player_id")
    return jsonify(
        player_id=player_id, sponsors=boosts.current(current_installation().database.read(), game.id, player_id)
    )


GAME_CALLS = (
    GameCall(
        "GET",
        "/players/<id:player_id>/sponsors",
        show,
        "Which creators a player supports now",
        {200: Sponsors},
        errors=(422,),
    ),
)
