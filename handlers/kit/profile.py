"""A player's profile: what a store is shown about one player, as the game pushes it.

The names at the top are ours; the inner shapes and spellings are Appcharge's (Personalize Web Store, version 2). What
is not known is a mistake and said, since a store takes one mistake in an offer for a reason to show none.
"""

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, post_load, validate

from coinslot.base import exact
from handlers.kit.fields import Identifier, Scalar, Strict, Text, WholeNumber
from handlers.kit.problems import MOST_LEVELS

QUANTITY_DIGITS = 24  # Appcharge's limit for a quantity
LARGEST = 10**9 - 1  # of every other number
LONGEST_TEXT = 4096
LONGEST_URL = 2048
MOST_OFFERS = 1000
MOST_BALANCES = 1000
MOST_WORDS = 1000  # segments, sections, attributes
MOST_INSIDE = 100  # of everything that stands inside of an offer or a banner

# Times are milliseconds since 1970. A number this small is a time in seconds, one this large in microseconds.
EARLIEST_MS = 10**11
LATEST_MS = 10**14 - 1

_DIGITS = re.compile(rf"[0-9]{{1,{QUANTITY_DIGITS}}}")
_URL = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?([/?#][!-~]*)?")
_NO_LINE = r"\u0000-\u0009\u000b-\u001f\u007f-\u009f"
_UNPRINTABLE = re.compile(rf"[{_NO_LINE}\ud800-\udfff]")


class Number(WholeNumber):
    """A whole number from ``lowest`` to ``highest``."""

    def __init__(self, lowest: int = 0, highest: int = LARGEST, **kwargs: Any) -> None:
        super().__init__(len(str(highest)), **kwargs)
        self.lowest = lowest
        self.highest = highest
        self.openapi = {"minimum": lowest, "maximum": highest}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> int:
        number = super()._deserialize(value, *args, **kwargs)
        if number < self.lowest:
            raise ValidationError(f"below {self.lowest}")
        if number > self.highest:
            raise ValidationError(f"above {self.highest}")
        return number


class Moment(WholeNumber):
    """A time in milliseconds since 1970."""

    def __init__(self) -> None:
        super().__init__(QUANTITY_DIGITS)
        self.openapi = {"minimum": EARLIEST_MS, "maximum": LATEST_MS, "description": "Milliseconds since 1970"}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> int:
        number = super()._deserialize(value, *args, **kwargs)
        if number < EARLIEST_MS:
            raise ValidationError("use milliseconds since 1970; this looks like seconds")
        if number > LATEST_MS:
            raise ValidationError("use milliseconds since 1970; this is too far away")
        return number


class Figure(fields.Raw):
    """A number that may have a fraction."""

    openapi = {"type": ["number"], "minimum": 0, "maximum": LARGEST}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValidationError("not a number")
        if not 0 <= value <= LARGEST:
            raise ValidationError("out of range")
        return value


class Quantity(fields.Raw):
    """A whole number, as JSON's own or as digits in text; kept, shown and sent on as the former."""

    openapi = {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 10**QUANTITY_DIGITS - 1},
            {"type": "string", "pattern": f"^{_DIGITS.pattern}$"},
        ]
    }

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if isinstance(value, str) and not _DIGITS.fullmatch(value):
            raise ValidationError(f"not a whole number of up to {QUANTITY_DIGITS} digits")
        return int(WholeNumber(QUANTITY_DIGITS).deserialize(int(value) if isinstance(value, str) else value))


class Wording(fields.String):
    """Words a player reads: no control characters but line breaks."""

    openapi = {"maxLength": LONGEST_TEXT, "pattern": f"^[^{_NO_LINE}]*$"}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        words = str(super()._deserialize(value, *args, **kwargs))
        if len(words) > LONGEST_TEXT:
            raise ValidationError(f"use up to {LONGEST_TEXT} characters")
        if _UNPRINTABLE.search(words):
            raise ValidationError("use no control characters but line breaks")
        return words


class WebAddress(fields.String):
    """An address of the web that anybody may load."""

    openapi = {"maxLength": LONGEST_URL, "pattern": f"^{_URL.pattern}$"}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        address = str(super()._deserialize(value, *args, **kwargs))
        if len(address) > LONGEST_URL or not _URL.fullmatch(address):
            raise ValidationError("use an http:// or https:// address")
        return address


class Each(fields.List[Any]):
    """A list of ``fewest`` to ``most`` entries, no two of which have the same ``unique``."""

    def __init__(
        self, inner: fields.Field[Any], most: int, fewest: int = 0, unique: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(inner, **kwargs)
        self.most = most
        self.fewest = fewest
        self.unique = unique
        self.openapi: dict[str, Any] = {"maxItems": most}
        if fewest:
            self.openapi["minItems"] = fewest
        if unique:
            self.openapi["description"] = f"Each `{unique}` once"

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, list) and not self.fewest <= len(value) <= self.most:  # before anybody looks at each
            raise ValidationError(f"use {self.fewest} to {self.most} entries")
        entries: list[Any] = super()._deserialize(value, *args, **kwargs)
        if self.unique:
            seen = set()
            for place, entry in enumerate(entries):
                if entry[self.unique] in seen:
                    raise ValidationError({place: {self.unique: ["occurs twice"]}})
                seen.add(entry[self.unique])
        return entries


class Attributes(fields.Dict):
    """Names with a text, a number, true or false each."""

    def __init__(self, value: fields.Field[Any]) -> None:
        super().__init__(keys=fields.String(), values=value)
        self.openapi = {"maxProperties": MOST_WORDS, "propertyNames": {"maxLength": 255}}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        if isinstance(value, dict):
            if len(value) > MOST_WORDS:
                raise ValidationError(f"use up to {MOST_WORDS}")
            if any(len(name) > 255 for name in value):
                raise ValidationError("use names of up to 255 characters")
        try:
            return dict(super()._deserialize(value, *args, **kwargs))  # type: ignore[no-untyped-call]
        except ValidationError as error:
            if not isinstance(error.messages, dict):
                raise
            # The place of what is wrong is the name itself.
            raise ValidationError({name: told.get("value", told) for name, told in error.messages.items()}) from None


class SessionMetadata(fields.Dict):
    """Whatever the game wants to read again in the store's reports."""

    def __init__(self) -> None:
        super().__init__(keys=fields.String())

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        if exact.is_deeper(value, MOST_LEVELS):
            raise ValidationError(f"nested deeper than {MOST_LEVELS} levels")
        return dict(super()._deserialize(value, *args, **kwargs))  # type: ignore[no-untyped-call]


class Part(Strict):
    """A piece of a profile: null for what may be left out is as good as left out, and is not kept."""

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
    """The parts of a profile that are as they should be, and the names of those that are not; the rest is let be."""
    known = {name: document[name] for name in _profile.fields if name in document}
    try:
        return checked(known), []
    except ValidationError as error:
        wrong = sorted(name for name in known if name in error.messages)
        return checked({name: value for name, value in known.items() if name not in wrong}), wrong
