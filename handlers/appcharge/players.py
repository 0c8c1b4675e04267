"""Appcharge's Personalize Web Store callback, once Player Info Sync: ``POST /appcharge/<game>/players``.

Asked when a player logs in, after each purchase, every five minutes while the store is open, and when we tell the store
to load a player anew. The answer is what the game has pushed, checked then (``handlers/kit/profile.py``) and sent as it
is now; what a player lacks comes from the game's defaults. Version 1 is the older shape of the same, with less of it.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from flask import Response, current_app
from marshmallow import EXCLUDE, Schema, ValidationError

from coinslot.base import exact
from coinslot.games import lookup, registry
from coinslot.games.games import Game
from coinslot.games.options import web_address
from handlers.appcharge.receive import answer, enter, refuse, refused
from handlers.appcharge.shapes import Id, first_message
from handlers.kit import profile
from handlers.kit.receive import current_installation

# The profile's parts under Appcharge's names. ``sessionMetadata`` is sent in any case.
PARTS = {
    "session_metadata": "sessionMetadata",
    "logo": "logo",
    "profile_frame_id": "profileFrameId",
    "player_level_name": "playerLevelName",
    "banner_external_id": "bannerExternalId",
    "player_level": "playerLevel",
    "player_level_banners": "playerLevelBanners",
    "offers_order": "offersOrder",
    "sections_order": "sectionsOrder",
    "segments": "segments",
    "focus": "focus",
    "attributes": "attributes",
    "store_theme": "storeTheme",
    "balances": "balances",
    "offers": "offers",
}


def personalize(game_slug: str) -> Response:
    """Tell the store what to show a player; of a player who is nobody, that this is so."""
    call = enter(game_slug, "players")
    game = call.game

    try:
        player_id = parse_player_id(call.body)
    except ValueError as error:
        raise refused("players", game, "malformed", 400, f"The call cannot be read: {error}") from None
    try:
        known = find(game, player_id)
    except lookup.LookupFailedError as error:
        current_app.logger.error("appcharge %s: a player could not be looked up: %s", game.slug, error)
        return refuse(503, "The game's server did not answer; please try again")

    if game.settings["appcharge.players_version"] == "1":
        return answer(200, version_1(player_id, known))
    return answer(200, version_2(known))


class _Call(Schema):
    class Meta:
        unknown = EXCLUDE

    playerId = Id(required=True)


_call = _Call()


def parse_player_id(body: bytes) -> str:
    """Raises ValueError, which names the field and no value."""
    document = exact.parse_json(body, allow_half_pairs=True)  # of what is not ours to read
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    try:
        player_id: str | None = _call.load(document)["playerId"]
    except ValidationError as error:
        raise ValueError(first_message(error.messages)) from None
    if player_id is None:
        raise ValueError("playerId is missing")
    return player_id


def find(game: Game, player_id: str) -> dict[str, Any] | None:
    """The player's profile over the game's defaults, with ``name`` and ``profile_image``; None for an unknown player.

    Registers nobody: the store asks for whoever it likes. Raises LookupFailedError where the game's server must say.
    """
    installation = current_installation()
    defaults = _parsed(game.settings["appcharge.player_defaults"])
    row = registry.profile(installation.database.read(), game.id, player_id)
    if row is not None:
        parts, image = json.loads(row["profile"]), row["profile_image"]
        if not row["is_profile_checked"]:
            parts, _ = profile.valid_parts(parts)
            image = image if _is_web_address(image) else None
        return {**defaults, **parts, "name": row["name"], "profile_image": image}
    if player_id == registry.RESERVED_ID or game.settings["players.unknown"] == "create":
        return dict(defaults)
    if game.settings["players.unknown"] == "reject":
        return None
    told = lookup.player(installation.outbound.for_callers, game, player_id)
    if told is None:
        return None
    parts, wrong = profile.valid_parts(told.document)
    if wrong:
        current_app.logger.warning(
            "appcharge %s: a profile from players.lookup_url is not as it should be, and was shown without: %s",
            game.slug,
            ", ".join(wrong),
        )
    return {**defaults, **parts, **told.profile}


def _is_web_address(value: str | None) -> bool:
    try:
        return bool(value and web_address(value))
    except ValueError:
        return False


def version_2(known: Mapping[str, Any] | None) -> dict[str, Any]:
    told: dict[str, Any] = {"version": 2, "status": "invalid" if known is None else "valid", "sessionMetadata": {}}
    for ours, theirs in PARTS.items():
        if known is not None and ours in known:
            told[theirs] = known[ours]
    if known is not None:
        told.setdefault("offers", [])  # the store expects it to be there
    return told


def version_1(player_id: str, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same in the words of 2023; every field is there, since their readers of then may insist."""
    # Profiles that were pushed before their offers were checked may hold anything.
    parts, _ = profile.valid_parts(known or {})
    focus = parts.get("focus", {})
    return {
        "status": "invalid" if known is None else "valid",
        "playerName": (known or {}).get("name") or player_id,
        "playerProfileImage": (known or {}).get("profile_image") or "",
        "publisherPlayerId": player_id,
        "sessionMetadata": parts.get("session_metadata", {}),
        "segments": parts.get("segments", []),
        "focus": {name: focus.get(name) for name in ("publisherBundleId", "publisherSpecialOfferId")},
        "balances": [
            {"publisherProductId": each["publisherProductId"], "balance": each["quantity"]}
            for each in parts.get("balances", [])
        ],
        "offers": [_offer_1(each) for each in parts.get("offers", [])],
    }


def _offer_1(offer: Mapping[str, Any]) -> dict[str, Any]:
    sequence = offer["productsSequence"]
    told: dict[str, Any] = {"publisherOfferId": offer["publisherOfferId"]}
    limit = next((entry["playerAvailability"] for entry in sequence if "playerAvailability" in entry), None)
    if limit is not None:
        told["offerPlayerAvailability"] = limit["total"] - limit["remaining"]  # how often it was bought
    told["productsSequence"] = [
        {"index": entry["index"], "products": [_product_1(each) for each in entry["products"]]} for entry in sequence
    ]
    if look := _dynamic_ui_1(offer):
        told["dynamicOfferUi"] = look
    return told


def _product_1(product: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: product[name] for name in ("publisherProductId", "quantity", "badgeText") if name in product}
    rarity = dict(product.get("rarityProductInfo", {}))
    tooltip = rarity.pop("tooltip", None)
    if isinstance(tooltip, dict):  # the other kind, sections of products, is version 2's own
        rarity |= tooltip
    return told | ({"rarityProductInfo": rarity} if rarity else {})


def _dynamic_ui_1(offer: Mapping[str, Any]) -> dict[str, Any]:
    """What the game gave as such, and for the rest what stands in the newer fields for it."""
    given = offer.get("dynamicOfferUi", {})
    sale = offer.get("productSale", {})
    told: dict[str, Any] = {}
    badges = given.get("badges", offer.get("badges"))
    if badges is not None:
        told["badges"] = [
            {name: badge[name] for name in ("publisherBadgeId", "position") if name in badge} for badge in badges
        ]
    if "salePercentage" in given:
        told["salePercentage"] = given["salePercentage"]
    elif "sale" in sale and sale.get("type", "percentage") == "percentage":
        told["salePercentage"] = sale["sale"]
    return told


@lru_cache(maxsize=64)
def _parsed(defaults: str) -> Mapping[str, Any]:
    """The defaults, parsed once; for reading."""
    parsed: dict[str, Any] = json.loads(defaults or "{}")
    return parsed
