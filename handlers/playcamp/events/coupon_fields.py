"""The fields of the game's calls about coupons, and of their answers."""

from typing import Any

from marshmallow import ValidationError, fields

from handlers.kit.fields import Identifier, Strict


class Flag(fields.Field[bool]):
    """true or false; 1 and "yes" are neither."""

    openapi = {"type": "boolean"}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("not true or false")
        return value


class CouponToValidate(Strict):
    player_id = Identifier(required=True)
    coupon_code = Identifier(required=True)
    is_test = Flag(metadata={"description": "Have PlayCamp check everything and use up nothing"})


class CouponToRedeem(CouponToValidate):
    game_user_uuid = fields.UUID(metadata={"description": "PlayCamp's `gameUserUuid`"})


class CouponLine(Strict):
    sku = fields.String(required=True)
    quantity = fields.Integer(required=True)


class _Coupon(Strict):
    items = fields.List(
        fields.Nested(CouponLine),
        required=True,
        allow_none=True,
        metadata={"description": "null where PlayCamp did not list them so that they can be granted"},
    )
    package_name = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata={"description": "By language; under the empty name where it has none"},
    )
    creator_key = fields.String(required=True, allow_none=True)
    campaign_id = fields.String(required=True, allow_none=True)


class CouponValidity(_Coupon):
    valid = fields.Boolean(required=True)
    error_code = fields.String(required=True, allow_none=True, metadata={"description": "Such as COUPON_EXPIRED"})
    message = fields.String(required=True, allow_none=True)


class CouponRedeemed(_Coupon):
    usage_id = fields.Integer(required=True, allow_none=True, metadata={"description": "`external_id` of the grant"})
    transaction_id = fields.UUID(
        required=True,
        allow_none=True,
        metadata={"description": "Of the grant in the feed; null: PlayCamp has not said what to grant, or not yet"},
    )
    is_test = fields.Boolean(required=True)
