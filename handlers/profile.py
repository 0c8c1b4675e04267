"""A player's profile: what a store is shown about one player, as the game pushes it.

The names at the top are ours; the inner shapes and spellings are Appcharge's (Personalize Web Store, version 2).
"""

from marshmallow import fields, validate

from handlers.shapes import Identifier, Scalar, Strict, Text, WholeNumber

BALANCE_DIGITS = 24  # Appcharge's limit for balances[].quantity


class Balance(Strict):
    publisherProductId = Identifier(required=True)
    quantity = WholeNumber(BALANCE_DIGITS, required=True)


class Profile(Strict):
    """Every part may be left out."""

    session_metadata = fields.Dict(keys=fields.String())
    segments = fields.List(fields.String())
    balances = fields.List(fields.Nested(Balance))
    offers = fields.List(fields.Dict(keys=fields.String()))
    attributes = fields.Dict(keys=fields.String(), values=Scalar())
    store_theme = fields.Dict(keys=fields.String(), values=fields.String())
    logo = Text(255)
    profile_frame_id = Text(255)
    player_level_name = Text(255)
    banner_external_id = Text(255)
    player_level = fields.Dict(keys=fields.String())
    player_level_banners = fields.List(fields.Dict(keys=fields.String()))
    offers_order = fields.String(
        validate=validate.OneOf(["publisherOrder", "priceHighToLow", "priceLowToHigh"]), allow_none=True
    )
    sections_order = fields.List(fields.String())
    focus = fields.Dict(keys=fields.String())
