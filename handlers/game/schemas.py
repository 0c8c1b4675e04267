"""What the game may send and what it gets, as marshmallow schemas: the checks and the OpenAPI document are the same."""

from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from coinslot import exact
from coinslot.registry import LONGEST_ID, checked_id, checked_text

MOST_PLAYERS = 1000
MOST_PASSWORDS = 20  # in one bulk call: each costs the better part of a tenth of a second to hash
BALANCE_DIGITS = 24  # Appcharge's limit for balances[].quantity

_CONTROL = r"\u0000-\u001f\u007f-\u009f"

# Beside its check, a field of ours has ``openapi``: how the document tells of that check.


class Identifier(fields.String):
    """An id: 1 to 255 characters, no control characters, no blanks at the ends."""

    openapi = {
        "minLength": 1,
        "maxLength": LONGEST_ID,
        "pattern": rf"^[^\s{_CONTROL}]([^{_CONTROL}]*[^\s{_CONTROL}])?$",
    }

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        try:
            return checked_id(str(super()._deserialize(value, *args, **kwargs)))
        except ValueError as error:
            raise ValidationError(str(error)) from None


class Text(fields.String):
    """A name or the like: no control characters; null is as good as nothing."""

    def __init__(self, longest: int) -> None:
        super().__init__(allow_none=True)
        self.longest = longest
        self.openapi = {"maxLength": longest, "pattern": f"^[^{_CONTROL}]*$"}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        try:
            return checked_text(str(super()._deserialize(value, *args, **kwargs)), self.longest)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class WholeNumber(fields.Field[int]):
    """A JSON integer, exactly; 1.0, "1" and true are none."""

    def __init__(self, digits: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.digits = digits
        self.openapi = {"minimum": 0, "maximum": 10**digits - 1}

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

    openapi = {"type": ["string", "number", "boolean"]}

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


class IdentitiesPatch(Identities):
    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.allow_none = True


class Balance(Strict):
    publisherProductId = Identifier(required=True)
    quantity = WholeNumber(BALANCE_DIGITS, required=True)


class Player(Strict):
    """A registry entry as the game writes it. The inner shapes of the profile are Appcharge's."""

    name = Text(255)
    profile_image = Text(2048)
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


# What stands in columns of its own; every other field of Player is part of the profile.
COLUMN_FIELDS = ("name", "profile_image", "country", "login_name")


class PlayerWithId(Player):
    player_id = Identifier(required=True)


class Players(Strict):
    players = fields.List(fields.Nested(PlayerWithId), required=True, validate=validate.Length(min=1, max=MOST_PLAYERS))


class PlayerPatch(Player):
    """A merge patch of an entry (RFC 7396): null removes, inside of objects too."""

    identities = fields.Nested(IdentitiesPatch)
    attributes = fields.Dict(keys=fields.String(), values=Scalar(allow_none=True))
    store_theme = fields.Dict(keys=fields.String(), values=fields.String(allow_none=True))

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.allow_none = True


class StoredPlayer(Player):
    class Meta(Strict.Meta):
        exclude = ("password",)

    player_id = fields.String(required=True)
    has_password = fields.Boolean(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class PlayersStored(Strict):
    created = fields.Integer(required=True)
    replaced = fields.Integer(required=True)


class Item(Strict):
    name = Text(255)


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
    created_at = fields.DateTime(required=True)


class Grants(Strict):
    grants = fields.List(fields.Nested(Grant), required=True)
    next_after = fields.Integer(required=True)
    has_more = fields.Boolean(required=True)


class Event(Strict):
    id = fields.Integer(required=True, metadata={"description": "The feed's cursor"})
    type = fields.String(required=True, metadata={"description": "Such as appcharge.order.failed; new ones may come"})
    partner = fields.String(required=True)
    player_id = fields.String(required=True, allow_none=True)
    external_id = fields.String(required=True, allow_none=True)
    data = fields.Dict(keys=fields.String(), required=True)
    is_test = fields.Boolean(required=True)
    occurred_at = fields.DateTime(required=True, allow_none=True)
    received_at = fields.DateTime(required=True)


class Events(Strict):
    events = fields.List(fields.Nested(Event), required=True)
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
