"""What the game may send and what it gets, as marshmallow schemas: the checks and the OpenAPI document are the same."""

from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from coinslot import exact
from coinslot.registry import checked_id

MOST_PLAYERS = 1000
MOST_PASSWORDS = 20  # in one bulk call: each costs the better part of a tenth of a second to hash
BALANCE_DIGITS = 24  # Appcharge's limit for balances[].quantity


class Identifier(fields.String):
    """An id: 1 to 255 characters, no control characters, no blanks at the ends."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        try:
            return checked_id(str(super()._deserialize(value, *args, **kwargs)))
        except ValueError as error:
            raise ValidationError(str(error)) from None


class WholeNumber(fields.Field[int]):
    """A JSON integer, exactly; 1.0, "1" and true are none."""

    def __init__(self, digits: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.digits = digits

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationError("not a whole number")
        try:
            number = exact.whole(value, self.digits)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        if number < 0:
            raise ValidationError("below 0")
        return number


class Scalar(fields.Field[Any]):
    """Text, a number, true or false."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if not isinstance(value, str | int | float):
            raise ValidationError("not text, a number, true or false")
        return value


class Strict(Schema):
    """The game's own words: what is not known is a mistake, and said."""

    class Meta:
        unknown = RAISE


class Identities(Strict):
    google = Identifier(metadata={"description": "`sub` of the Google account"})
    apple = Identifier(metadata={"description": "`sub` of the Apple account"})
    facebook = Identifier(metadata={"description": "Facebook user id"})


class Balance(Strict):
    publisherProductId = Identifier(required=True)
    quantity = WholeNumber(BALANCE_DIGITS, required=True)


def _text(longest: int, **about: Any) -> fields.String:
    return fields.String(validate=validate.Length(max=longest), allow_none=True, **about)


class Player(Strict):
    """A registry entry as the game writes it. The inner shapes of the profile are Appcharge's."""

    name = _text(255)
    profile_image = _text(2048)
    country = fields.String(validate=[validate.Length(equal=2), validate.Regexp("^[A-Z]{2}$")], allow_none=True)
    login_name = Identifier(allow_none=True)
    password = fields.String(
        validate=validate.Length(min=1, max=1024),
        allow_none=True,
        load_only=True,
        metadata={"description": "Stored as a scrypt hash. Left out: stays as it is; null: removed."},
    )
    identities = fields.Nested(Identities)

    session_metadata = fields.Dict(keys=fields.String())
    segments = fields.List(fields.String())
    balances = fields.List(fields.Nested(Balance))
    offers = fields.List(fields.Dict(keys=fields.String()))
    attributes = fields.Dict(keys=fields.String(), values=Scalar())
    store_theme = fields.Dict(keys=fields.String(), values=fields.String())
    logo = _text(255)
    profile_frame_id = _text(255)
    player_level_name = _text(255)
    banner_external_id = _text(255)
    player_level = fields.Dict(keys=fields.String())
    player_level_banners = fields.List(fields.Dict(keys=fields.String()))
    offers_order = fields.String(
        validate=validate.OneOf(["publisherOrder", "priceHighToLow", "priceLowToHigh"]), allow_none=True
    )
    sections_order = fields.List(fields.String())
    focus = fields.Dict(keys=fields.String())


# What stands in columns of its own; every other field of Player is part of the profile.
COLUMN_FIELDS = ("name", "profile_image", "country", "login_name")


class PlayerWithId(Player):
    player_id = Identifier(required=True)


class Players(Strict):
    players = fields.List(fields.Nested(PlayerWithId), required=True, validate=validate.Length(min=1, max=MOST_PLAYERS))


class StoredPlayer(Player):
    player_id = fields.String(required=True)
    has_password = fields.Boolean(required=True)
    created_at = fields.String(required=True)
    updated_at = fields.String(required=True)


class PlayersStored(Strict):
    created = fields.Integer(required=True)
    replaced = fields.Integer(required=True)


class Item(Strict):
    name = _text(255)


class StoredItem(Strict):
    sku = fields.String(required=True)
    name = fields.String(required=True, allow_none=True)


class Items(Strict):
    items = fields.List(fields.Nested(StoredItem), required=True)


class GrantLine(Strict):
    sku = fields.String(required=True)
    quantity = fields.Integer(required=True, metadata={"description": "Exact, up to 40 digits; negative in a reversal"})


class Grant(Strict):
    id = fields.Integer(required=True, metadata={"description": "The feed's cursor, not an identity"})
    transaction_id = fields.UUID(required=True, metadata={"description": "With kind, what to deduplicate on"})
    partner = fields.String(required=True)
    external_id = fields.String(required=True, metadata={"description": "The partner's own id"})
    kind = fields.String(
        required=True,
        validate=validate.OneOf(["purchase", "bonus", "reward", "coupon", "reversal", "adjustment"]),
    )
    player_id = fields.String(required=True)
    items = fields.List(fields.Nested(GrantLine), required=True)
    reverses = fields.Integer(required=True, allow_none=True)
    policy = fields.String(
        required=True, allow_none=True, validate=validate.OneOf(["revoke", "revoke_negative", "flag"])
    )
    is_test = fields.Boolean(required=True)
    created_at = fields.String(required=True)


class Grants(Strict):
    grants = fields.List(fields.Nested(Grant), required=True)
    next_after = fields.Integer(required=True)
    has_more = fields.Boolean(required=True)


class Ack(Strict):
    through = WholeNumber(18, required=True)


class Acked(Strict):
    acked_through = fields.Integer(required=True)


class Granted(Strict):
    player_id = fields.String(required=True)
    granted = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)


class ProblemPlace(Strict):
    path = fields.String(required=True)
    detail = fields.String(required=True)


class Problem(Strict):
    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    errors = fields.List(fields.Nested(ProblemPlace))
