"""What the owner still has to do for Appcharge: the fields of its Integration page, and the keys that belong to them.

What stands in Appcharge's dashboard cannot be seen from here; that no call has ever come to an address of ours can.
"""

from collections.abc import Mapping

from coinslot import counters
from coinslot.games import Game
from handlers import installation
from handlers.appcharge.door import PARTNER
from handlers.appcharge.payload import KEY_BYTES, VECTOR_BYTES

BEGUN = ("appcharge.main_key", "appcharge.publisher_token")  # with neither, the game has nothing to do with Appcharge

# Our addresses: the field each is pasted into, and what for.
FIELDS: Mapping[str, tuple[str, str]] = {
    "orders": ("Order Reporting (Grant Award Callback)", "without it nothing that is bought is credited"),
    "auth": ("Authentication Webhook (Authenticate Player Callback)", "without it nobody can log in to the store"),
    "players": (
        "Player Info Sync URL (Personalize Web Store Callback)",
        "without it every player sees the same store, with no offers or balances of their own",
    ),
    "events": ("Events Webhook", "without it refunds and disputes stay unknown"),
    "otp": ("OTP Generation Deeplink Url (Initiate Game Auth Callback)", "needed only for logins through the game"),
}

# What was counted before calls were: the first of it says as well that the address is entered there.
COUNTED_BEFORE: Mapping[str, tuple[str, ...]] = {"orders": ("credited", "credited.test", "duplicate")}

# Keys of that page that an installation can do without.
OPTIONAL_KEYS: Mapping[str, str] = {
    "appcharge.secondary_key": "Secondary Key: a second key that calls may be signed with",
    "appcharge.checkout_public_key": "Checkout Public Key: needed only for a checkout in the game or on your own site",
    "appcharge.events_secret": "Secret Key of Events V2: needed only where the dashboard shows one",
}
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
    lack = lacking(game)
    if game.settings["appcharge.payload"] == "aes" and not lack and any(game.keys(name) for name in BEGUN):
        return [
            "appcharge.payload is aes, which has no replay protection and no proof of integrity: ask Appcharge for "
            f"signed calls, then `flask config set {game.slug} appcharge.payload json`"
        ]
    return lack


def lacking(game: Game) -> list[str]:
    """A sentence for each key without which its calls are refused, once one of them is set."""
    if not any(game.keys(name) for name in BEGUN):
        return []
    is_encrypted = game.settings["appcharge.payload"] == "aes"
    needed = (*BEGUN, "appcharge.secondary_key") if is_encrypted else BEGUN
    return [f"{name} is not set, so Appcharge's calls are answered 404" for name in needed if not game.keys(name)]


def wrong(game: Game) -> list[str]:
    """What is set and cannot work."""
    if game.settings["appcharge.payload"] != "aes":
        return []
    wanted = {"appcharge.main_key": KEY_BYTES, "appcharge.secondary_key": VECTOR_BYTES}
    return [
        f"{name} has not the {length} characters that encrypted payloads want, so they cannot be read"
        for name, length in wanted.items()
        for key in game.keys(name)[:1]
        if len(key.value) != length
    ]


def unset(game: Game) -> list[str]:
    """A sentence for each field of the Integration page that is still empty, as far as that can be told from here."""
    if not any(game.keys(name) for name in BEGUN):
        return []
    house = installation()
    connection = house.database.read()
    called = counters.called(connection, game.id, PARTNER)
    called |= {
        endpoint
        for endpoint, names in COUNTED_BEFORE.items()
        if counters.has_counted(connection, game.id, PARTNER, names)
    }
    sentences = [
        f"{field}: no call has come to {house.settings.public_url}/{PARTNER}/{game.slug}/{endpoint} yet; {what_for}"
        for endpoint, (field, what_for) in FIELDS.items()
        if endpoint not in called
    ]
    sentences += [f"{name} is not set ({what_for})" for name, what_for in OPTIONAL_KEYS.items() if not game.keys(name)]
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
