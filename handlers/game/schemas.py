"""What the game may send and what it gets, as marshmallow schemas: the checks and the OpenAPI document are the same."""

from typing import Any

from marshmallow import INCLUDE, Schema, fields, validate

from handlers.kit.fields import Identifier, Scalar, Strict, Text, WholeNumber
from handlers.kit.player_entries import Identities, Player
from handlers.kit.profile import FocusPatch, PlayerLevelPatch, StoreThemePatch
from handlers.kit.values import Attributes

MOST_PLAYERS = 1000
MOST_PASSWORDS = 20  # in one bulk call: each costs the better part of a tenth of a second to hash


class IdentitiesPatch(Identities):
    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.allow_none = True


class PlayerWithId(Player):
    player_id = Identifier(required=True)


class Players(Strict):
    players = fields.List(fields.Nested(PlayerWithId), required=True, validate=validate.Length(min=1, max=MOST_PLAYERS))


class PlayerPatch(Player):
    """A merge patch of an entry (RFC 7396): null removes, inside of objects too."""

    identities = fields.Nested(IdentitiesPatch)
    attributes = Attributes(Scalar(allow_none=True))
    player_level = fields.Nested(PlayerLevelPatch)
    store_theme = fields.Nested(StoreThemePatch)
    focus = fields.Nested(FocusPatch)

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.allow_none = True


class StoredPlayer(Player):
    class Meta(Strict.Meta):
        exclude = ("password",)

    player_id = fields.String(required=True)
    profile_image = Text(2048)  # type: ignore[assignment]  # one that was stored long ago may be anything
    has_password = fields.Boolean(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class PlayersStored(Strict):
    created = fields.Integer(required=True)
    replaced = fields.Integer(required=True)


class Item(Strict):
    name = Text(255)


def _stored(about: str) -> fields.Field[Any]:
    return fields.List(fields.Dict(keys=fields.String()), required=True, metadata={"description": about})


class PlayerExport(Strict):
    """The inner objects are as they are stored, and new fields may come."""

    game = fields.String(required=True)
    player_id = fields.String(required=True)
    exported_at = fields.DateTime(required=True)
    registry = fields.Dict(
        keys=fields.String(), required=True, allow_none=True, metadata={"description": "null: not in the registry"}
    )
    logins = _stored("Logins under way or used lately")
    boosts = _stored("Creators whom the player supports now")
    transactions = _stored("With bodies as they came, grants, items, refunds, events and deliveries")
    conflicts = _stored("Reports that named the player for another player's transaction")
    events = _stored("Other facts that name the player, with their deliveries")
    payments = _stored("In-game payments")
    refused_calls = _stored("Refused calls that name the player")


class StoredItem(Strict):
    sku = fields.String(required=True)
    name = fields.String(required=True, allow_none=True)


class Items(Strict):
    items = fields.List(fields.Nested(StoredItem), required=True)


class GrantLine(Strict):
    sku = fields.String(required=True)
    quantity = fields.Integer(required=True, metadata={"description": "Exact, up to 40 digits; negative in a reversal"})
    policy = fields.String(
        validate=validate.OneOf(["revoke", "revoke_negative", "flag"]),
        metadata={"description": "Only in a reversal's line that asks for more than the reversal's own `policy`"},
    )


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


class Page(Strict):
    next_after = fields.Integer(required=True)
    has_more = fields.Boolean(required=True)


class Grants(Page):
    grants = fields.List(fields.Nested(Grant), required=True)


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


class Events(Page):
    events = fields.List(fields.Nested(Event), required=True)


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


class Document(Schema):
    """An OpenAPI document, as that standard describes it."""

    class Meta:
        unknown = INCLUDE
