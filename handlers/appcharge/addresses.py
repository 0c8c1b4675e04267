"""What the owner still has to do for Appcharge: the fields of its Integration page, and their keys.

Appcharge's dashboard cannot be read from here. That no call has ever come to one of our addresses can be seen.
"""

from collections.abc import Mapping

from coinslot.games.games import Game
from handlers.appcharge.encryption import KEY_BYTES, VECTOR_BYTES
from handlers.appcharge.settings import PAGE_KEYS
from handlers.kit.partner import STEPS, Address
from handlers.kit.receive import current_installation

BEGUN = ("appcharge.main_key", "appcharge.publisher_token")  # with neither, the game has nothing to do with Appcharge


def lacks(game: Game) -> list[str]:
    """The keys without which no call can prove itself."""
    needed = (*BEGUN, "appcharge.secondary_key") if game.settings["appcharge.payload"] == "aes" else BEGUN
    return [name for name in needed if not game.keys(name)]


def lacks_for_otp(game: Game) -> list[str]:
    """What the game lacks for logins through the game: its keys, and the link that opens it."""
    return lacks(game) + [key for key in ("appcharge.deep_link",) if not game.settings[key]]


# Our addresses, in the order of the Integration page.
ADDRESSES = (
    Address(
        "orders",
        "Order Reporting (Grant Award Callback)",
        "/appcharge/{game}/orders",
        "without it nothing that is bought is credited",
        lacks,
        "200 and a publisherPurchaseId, the id under which the order is known here",
        is_mandatory=True,
        steps=STEPS,
    ),
    Address(
        "players",
        "Player Info Sync URL (Personalize Web Store Callback)",
        "/appcharge/{game}/players",
        "without it every player sees the same store, with no offers or balances of their own",
        lacks,
        "200 with the status valid, and what the store is to show this player",
        is_mandatory=True,
    ),
    Address(
        "auth",
        "Authentication Webhook (Authenticate Player Callback)",
        "/appcharge/{game}/auth",
        "without it nobody can log in to the store",
        lacks,
        "200 with the status valid and the player's id",
        is_mandatory=True,
        steps=("copied", "seen", "proved", "accepted"),
        followed_by=("players", "orders"),
        unsent="The sample is a login by player id, which appcharge.logins does not allow.",
    ),
    Address(
        "events",
        "Events Webhook",
        "/appcharge/{game}/events",
        "without it refunds and disputes stay unknown",
        lacks,
        "200: the event is stored",
    ),
    Address(
        "otp",
        "OTP Generation Deeplink Url (Initiate Game Auth Callback)",
        "/appcharge/{game}/otp",
        "needed only for logins through the game",
        lacks_for_otp,
        "200 with the deepLink that opens the game and the accessToken in it",
        steps=("copied", "seen", "proved", "accepted"),
        followed_by=("auth",),
    ),
)

OPTIONAL_SETTINGS: Mapping[str, str] = {
    "appcharge.deep_link": "needed only for logins through the game: the link that opens it",
    "appcharge.store_url": "needed only for login links: the address of the web store",
    "appcharge.project_id": "Project ID: with it, calls for another project are refused",
}

# Login method -> what it needs, settings and secrets.
LOGINS: Mapping[str, tuple[str, ...]] = {
    "google": ("appcharge.google_client_id",),
    "facebook": ("appcharge.facebook_app_id", "appcharge.facebook_secret"),
    "apple": ("appcharge.apple_client_id", "appcharge.apple_secret"),
}


def missing(game: Game) -> list[str]:
    """Sentences for the owner; empty when nothing is missing or nothing was begun."""
    if not any(game.keys(name) for name in BEGUN):
        return []
    lack = [f"{name} is not set, so Appcharge's calls are answered 404" for name in lacks(game)]
    if game.settings["appcharge.payload"] == "aes" and not lack:
        return [
            "appcharge.payload is aes, which has no replay protection and no proof of integrity: ask Appcharge for "
            f"signed calls, then `flask config set {game.slug} appcharge.payload json`"
        ]
    return lack


def wrong(game: Game, errors: Mapping[str, str]) -> list[str]:
    """What is set and cannot work. Raises VaultError for a key that does not open."""
    opened = current_installation().games.by_slug(game.slug) if game.settings["appcharge.payload"] == "aes" else None
    if opened is None:
        return []
    wanted = {"appcharge.main_key": KEY_BYTES, "appcharge.secondary_key": VECTOR_BYTES}
    return [
        f"{name} has not the {length} characters that encrypted payloads want, so they cannot be read"
        for name, length in wanted.items()
        for key in opened.keys(name)[:1]
        if len(key.value) != length
    ]


def unset(game: Game) -> list[str]:
    """A sentence for each key and setting that a store may do without."""
    sentences = [
        f"{key.secret} is not set ({key.name}: {key.what_for})"
        for key in PAGE_KEYS
        if not key.is_mandatory and not game.keys(key.secret)
    ]
    sentences += [
        f"{key} is not set ({what_for})" for key, what_for in OPTIONAL_SETTINGS.items() if not _has(game, key)
    ]
    allowed = [word for word in game.settings["appcharge.logins"].split(",") if word]
    for method, needed in LOGINS.items():
        lacking = [name for name in needed if not _has(game, name)]
        if lacking and (not allowed or method in allowed):
            are = "is" if len(lacking) == 1 else "are"
            sentences.append(f"{' and '.join(lacking)} {are} not set (needed only for logins with {method.title()})")
    return sentences


def _has(game: Game, name: str) -> bool:
    return bool(game.settings.get(name) or game.keys(name))
