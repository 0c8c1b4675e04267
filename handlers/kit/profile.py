"""A player's profile: what a store is shown about one player, as the game pushes it.

The names at the top are ours; the inner shapes and spellings are Appcharge's (Personalize Web Store, version 2). What
is not known is a mistake and said, since a store takes one mistake in an offer for a reason to show none.
"""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, post_load, validate

from coinslot.base import exact
from handlers.kit.fields import Identifier, Scalar, Strict, Text, WholeNumber
from handlers.kit.values import (
    MOST_WORDS,
    QUANTITY_DIGITS,
    Attributes,
    Each,
    Figure,
    Moment,
    Number,
    Quantity,
    SessionMetadata,
    WebAddress,
    Wording,
)

MOST_OFFERS = 1000
MOST_BALANCES = 1000
MOST_INSIDE = 100  # of each list inside an offer or a banner


class Part(Strict):
    """A part of a profile. Null for an optional field counts as left out and is not kept."""

    keeps_nulls = False  # as a merge patch must

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        if not field_obj.required:
            field_obj.allow_none = True

    @post_load
    def _without_nulls(self, loaded: dict[str, Any], **_: Any) -> dict[str, Any]:
        if self.keeps_nulls:
            return loaded
        return {name: value for name, value in loaded.items() if value is not None}


class PartPatch(Part):
    """The same piece in a merge patch: all of it may be left out, and null removes."""

    keeps_nulls = True

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.required = False
        field_obj.allow_none = True


class Balance(Part):
    publisherProductId = Identifier(required=True)
    quantity = WholeNumber(QUANTITY_DIGITS, required=True)


class PlayerLevel(Part):
    assetId = Identifier(required=True)
    text = Wording()
    endsIn = Moment()


class BannerText(Part):
    id = Identifier(required=True)
    content = Wording()


class Banner(Part):
    designId = Identifier(required=True)
    assetId = Identifier()
    text = Each(fields.Nested(BannerText), MOST_INSIDE)
    endsIn = Moment()


class Focus(Part):
    publisherBundleId = Identifier()
    publisherSpecialOfferId = Identifier(metadata={"description": "Stores of version 1 alone read it"})


class StoreTheme(Part):
    """Names of assets."""

    bgImageMobile = Text(255)
    bgImageDesktop = Text(255)
    logo = Text(255)
    profileFrameImage = Text(255)
    bannerImage = Text(255)
    playerLevelImage = Text(255)


class Badge(Part):
    publisherBadgeId = Identifier(required=True)
    position = fields.String(validate=validate.OneOf(["right", "left", "center"]))
    ribbonTextOverride = Text(255)


class ProductSale(Part):
    amountBeforeSale = Number(metadata={"description": "US dollars"})
    sale = Number()
    type = fields.String(validate=validate.OneOf(["percentage", "multiplier", "fixed_amount"]))


class PriceDiscount(Part):
    discount = Number(highest=100, required=True)
    type = fields.String(required=True, validate=validate.OneOf(["percentage"]))
    priceBeforeDiscount = Number(metadata={"description": "Shown as it is given"})


class DesignOverride(Part):
    offerDesignSubtitleTextOverride = Wording()
    offerDesignId = Identifier(metadata={"description": "The design's external id"})
    offerBackgroundImageOverride = WebAddress()


class DynamicOfferUi(Part):
    badges = Each(fields.Nested(Badge), MOST_INSIDE)
    salePercentage = Figure()
    amountBeforeSale = Figure()
    salePercentageDisplayType = Text(255)
    offerDesignId = Identifier()


class TooltipProduct(Part):
    publisherProductId = Identifier()
    text = Wording()


class TooltipSection(Part):
    sectionName = Wording()
    products = Each(fields.Nested(TooltipProduct), MOST_INSIDE)


class TooltipTexts(Part):
    tooltipText = Wording()
    rarityText = Wording()


class Tooltip(fields.Raw):
    """Sections of products with their texts, or two texts."""

    sections = Each(fields.Nested(TooltipSection), MOST_INSIDE)
    texts = fields.Nested(TooltipTexts)
    alternatives = (sections, texts)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        return (self.sections if isinstance(value, list) else self.texts).deserialize(value)


class Rarity(Part):
    stars = Number()
    tooltip = Tooltip()


class Trait(Part):
    assetId = Identifier()
    text = Wording()


class Product(Part):
    publisherProductId = Identifier(required=True)
    quantity = Quantity(required=True)
    priority = fields.String(validate=validate.OneOf(["Main", "Sub"]))
    traits = Each(fields.Nested(Trait), MOST_INSIDE)
    rarityProductInfo = fields.Nested(Rarity)
    badgeText = Text(255)


class BarPoints(Part):
    publisherBarId = Identifier(required=True)
    points = Number(required=True)


class Availability(Part):
    total = Number(lowest=1, required=True)
    remaining = Number(required=True, metadata={"description": "Not above `total`"})

    @post_load
    def _check(self, loaded: dict[str, Any], **_: Any) -> dict[str, Any]:
        if loaded["remaining"] > loaded["total"]:
            raise ValidationError({"remaining": ["above total"]})
        return loaded


class Entry(Part):
    """One of an offer's sequence: a sub-offer, a day, a mission."""

    index = Number(lowest=1, required=True)
    products = Each(fields.Nested(Product), MOST_INSIDE, required=True)
    productSale = fields.Nested(ProductSale, metadata={"description": "Rolling offers only"})
    priceDiscount = fields.Nested(PriceDiscount, metadata={"description": "Rolling offers only"})
    badges = Each(fields.Nested(Badge), MOST_INSIDE)
    progressBarPoints = Each(fields.Nested(BarPoints), MOST_INSIDE)
    playerAvailability = fields.Nested(Availability)


class Offer(Part):
    publisherOfferId = Identifier(required=True)
    productsSequence = Each(fields.Nested(Entry), MOST_INSIDE, fewest=1, unique="index", required=True)
    endsIn = Moment()
    offerDescriptionOverride = Wording()
    offerDesignOverride = fields.Nested(DesignOverride)
    productSale = fields.Nested(ProductSale)
    priceDiscount = fields.Nested(PriceDiscount)
    badges = Each(fields.Nested(Badge), MOST_INSIDE)
    dynamicOfferUi = fields.Nested(DynamicOfferUi, metadata={"deprecated": True})


class Profile(Part):
    """Every part may be left out."""

    session_metadata = SessionMetadata()
    segments = Each(Identifier(), MOST_WORDS)
    balances = Each(fields.Nested(Balance), MOST_BALANCES, unique="publisherProductId")
    offers = Each(fields.Nested(Offer), MOST_OFFERS, unique="publisherOfferId")
    attributes = Attributes(Scalar())
    store_theme = fields.Nested(StoreTheme)
    logo = Text(255)
    profile_frame_id = Text(255)
    player_level_name = Text(255)
    banner_external_id = Text(255)
    player_level = fields.Nested(PlayerLevel)
    player_level_banners = Each(fields.Nested(Banner), MOST_INSIDE)
    offers_order = fields.String(validate=validate.OneOf(["publisherOrder", "priceHighToLow", "priceLowToHigh"]))
    sections_order = Each(Identifier(), MOST_WORDS)
    focus = fields.Nested(Focus)


class PlayerLevelPatch(PartPatch, PlayerLevel):
    assetId = Identifier(metadata={"description": "May be left out where one is stored"})


class FocusPatch(PartPatch, Focus):
    pass


class StoreThemePatch(PartPatch, StoreTheme):
    pass


_profile = Profile()


def checked(document: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a profile as they are kept. Raises marshmallow's ValidationError, which names each place."""
    loaded: dict[str, Any] = _profile.load(document)
    return loaded


def read(raw: bytes) -> dict[str, Any]:
    """The profile in a JSON document. Raises ValueError for what is no JSON object, else as :func:`checked` does."""
    document = exact.parse_json(raw, exact.finite)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return checked(document)


def valid_parts(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The valid parts of a profile, and the names of those that are not valid; other fields are ignored."""
    known = {name: document[name] for name in _profile.fields if name in document}
    try:
        return checked(known), []
    except ValidationError as error:
        wrong = sorted(name for name in known if name in error.messages)
        return checked({name: value for name, value in known.items() if name not in wrong}), wrong
