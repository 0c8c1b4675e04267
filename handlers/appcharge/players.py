"""Appcharge's Personalize Web Store callback, once Player Info Sync: ``POST /appcharge/<game>/players``.

The store asks when a player logs in, after each purchase, every five minutes while it is open, and when we tell it to
reload a player. The answer is what the game pushed, which was checked then (``handlers/kit/profile.py``); what a player
lacks comes from the game's defaults. Version 1 is the older shape, with fewer fields.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from flask import Response, current_app

from coinslot.games import lookup, registry
from coinslot.games.games import Game
from coinslot.games.options import web_address
from handlers.appcharge.receive import answer, read, refuse
from handlers.appcharge.shapes import read_object, required_id
from handlers.kit import profile
from handlers.kit.receive import current_installation

# The profile's parts under Appcharge's names, such as ``playerLevel``. ``sessionMetadata`` is sent in any case.
PARTS = {
    name: re.sub("_([a-z])", lambda found: found[1].upper(), name)
    for name in (
        "session_metadata logo profile_frame_id player_level_name banner_external_id player_level player_level_banners "
        "offers_order sections_order segments focus attributes store_theme balances offers"
    ).split()
}


def personalize(game_slug: str) -> Response:
    """Answer what the store shows a player, or that the player is unknown."""
    call, player_id = read(game_slug, "players", parse_player_id)
    game = call.game
    try:
        known = find(game, player_id)
    except lookup.LookupFailedError as error:
        current_app.logger.error("appcharge %s: a player could not be looked up: %s", game.slug, error)
        return refuse(503, "The game's server did not answer; please try again")

    if game.settings["appcharge.players_version"] == "1":
        return answer(200, version_1(player_id, known))
    return answer(200, version_2(known))


def parse_player_id(body: bytes) -> str:
    """Raises ValueError, which names the field and no value."""
    return required_id(read_object(body), "playerId")


def find(game: Game, player_id: str) -> dict[str, Any] | None:
    """The player's profile over the game's defaults, with ``name`` and ``profile_image``; None for an unknown player.

    Registers nobody. Raises LookupFailedError where the game's server must be asked and does not answer.
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
    found = lookup.player(installation.outbound.for_callers, game, player_id)
    if found is None:
        return None
    parts, wrong = profile.valid_parts(found.document)
    if wrong:
        current_app.logger.warning(
            "appcharge %s: a profile from players.lookup_url is not as it should be, and was shown without: %s",
            game.slug,
            ", ".join(wrong),
        )
    return {**defaults, **parts, **found.profile}


def _is_web_address(value: str | None) -> bool:
    try:
        return bool(value and web_address(value))
    except ValueError:
        return False


def version_2(known: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the store shows of a player; ``known`` is None for an unknown one."""
    content: dict[str, Any] = {"version": 2, "status": "invalid" if known is None else "valid", "sessionMetadata": {}}
    if known is None:
        return content
    content |= {theirs: known[ours] for ours, theirs in PARTS.items() if ours in known}
    return {**content, "offers": known.get("offers", [])}  # the store expects offers to be there


def version_1(player_id: str, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same in the words of 2023; every field is there, since old readers may insist on it."""
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
    made: dict[str, Any] = {"publisherOfferId": offer["publisherOfferId"]}
    limits = [entry["playerAvailability"] for entry in sequence if "playerAvailability" in entry]
    if limits:
        made["offerPlayerAvailability"] = limits[0]["total"] - limits[0]["remaining"]  # how often it was bought
    made["productsSequence"] = [
        {"index": entry["index"], "products": [_product_1(each) for each in entry["products"]]} for entry in sequence
    ]
    look = _dynamic_ui_1(offer)
    return made | ({"dynamicOfferUi": look} if look else {})


def _product_1(product: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: product[name] for name in ("publisherProductId", "quantity", "badgeText") if name in product}
    rarity = dict(product.get("rarityProductInfo", {}))
    tooltip = rarity.pop("tooltip", None)
    if isinstance(tooltip, dict):  # the other kind, sections of products, is version 2's own
        rarity |= tooltip
    return made | ({"rarityProductInfo": rarity} if rarity else {})


def _dynamic_ui_1(offer: Mapping[str, Any]) -> dict[str, Any]:
    """What the game pushed as such; the rest comes from the newer fields."""
    given, sale = offer.get("dynamicOfferUi", {}), offer.get("productSale", {})
    made: dict[str, Any] = {}
    badges = given.get("badges", offer.get("badges"))
    if badges is not None:
        names = ("publisherBadgeId", "position")
        made["badges"] = [{name: badge[name] for name in names if name in badge} for badge in badges]
    if "salePercentage" in given:
        made["salePercentage"] = given["salePercentage"]
    elif "sale" in sale and sale.get("type", "percentage") == "percentage":
        made["salePercentage"] = sale["sale"]
    return made


@lru_cache(maxsize=64)
def _parsed(defaults: str) -> Mapping[str, Any]:
    """The defaults, parsed once; for reading."""
    parsed: dict[str, Any] = json.loads(defaults or "{}")
    return parsed
