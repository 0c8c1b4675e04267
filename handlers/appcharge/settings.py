"""What the owner may set for Appcharge: the keys' names and what each is for, and every switch with its default."""

import json
import re
from collections.abc import Mapping

from marshmallow import ValidationError

from coinslot.games.options import Setting, networks, one_of, text, web_address, whole_number
from coinslot.ledger import statuses
from handlers.kit import profile
from handlers.kit.partner import WHEN_GAME_DOWN, Key
from handlers.kit.problems import unprocessable

METHODS = ("userToken", "userPassword", "otp", "google", "apple", "facebook")
TOKEN_KINDS = ("auto", "access_token", "id_token", "code")
LONGEST_DEFAULTS = 64 * 1024

# Keys of Appcharge's Integration page, in its order.
PAGE_KEYS = (
    Key("appcharge.main_key", "Main Key", "signs every call", is_mandatory=True),
    Key("appcharge.secondary_key", "Secondary Key", "a second key that calls may be signed with"),
    Key(
        "appcharge.checkout_public_key",
        "Checkout Public Key",
        "needed only for a checkout in the game or on your own site",
        is_proof=False,
    ),
    Key("appcharge.publisher_token", "Publisher Token", "comes with every call, in both directions", is_mandatory=True),
    Key("appcharge.events_secret", "Secret Key of Events V2", "needed only where the dashboard shows one"),
)
LOGIN_KEYS = (
    Key("appcharge.google_secret", "Google's client secret", "for Google logins that bring a code", is_proof=False),
    Key("appcharge.facebook_secret", "Facebook's app secret", "for Facebook logins", is_proof=False),
    Key(
        "appcharge.apple_secret",
        "Apple's client secret",
        "or the private key (PEM) that makes it; for Apple logins",
        is_proof=False,
        has_lines=True,
    ),
)

# Settings that follow from Appcharge's dashboard.
AGREED = (
    *(
        f"appcharge.{name}"
        for name in (
            "environment project_id payload secondary_role logins store_url deep_link code_digits players_version "
            "events_without_token dollar_fields_are_cents completed_statuses failed_statuses"
        ).split()
    ),
    "allowlist.appcharge",
)


def methods(value: str) -> str:
    words = [word.strip() for word in value.split(",") if word.strip()]
    unknown = [word for word in words if word not in METHODS]
    if unknown:
        raise ValueError(f"use some of: {', '.join(METHODS)}")
    return ",".join(words)


def deep_link(value: str) -> str:
    """A link that opens the game: any scheme, with the place where the token goes."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", value) or not value.isprintable() or " " in value:
        raise ValueError("use a link such as mygame://login?token={token}")
    if value.count("{token}") != 1:
        raise ValueError("the link must contain {token} once: where the token goes")
    if value.lower().startswith(("javascript:", "data:")):
        raise ValueError("use a link that opens the game")
    return value


def player_defaults(value: str) -> str:
    """A profile as the game would push it, as compact JSON."""
    if len(value) > LONGEST_DEFAULTS:
        raise ValueError(f"use up to {LONGEST_DEFAULTS} characters")
    try:
        return json.dumps(profile.read(value.encode()), separators=(",", ":"))
    except ValidationError as error:
        raise ValueError(unprocessable(error).detail) from None
    except ValueError:
        raise ValueError('use a JSON object such as {"segments": ["new"]}') from None


ON_OFF = one_of("on", "off")

SETTINGS: Mapping[str, Setting] = {
    "appcharge.environment": Setting(
        "everything from a sandbox is a test", one_of("live", "sandbox"), "live", title="Environment"
    ),
    "appcharge.tolerance_seconds": Setting(
        "accepted age of a signature", whole_number(1, 86400), "300", title="Age of a signature, in seconds"
    ),
    "appcharge.secondary_role": Setting(
        "backup: the secondary key verifies too; iv: it does not",
        one_of("backup", "iv"),
        "backup",
        title="Use of the secondary key",
    ),
    "appcharge.payload": Setting(
        "json: signed; aes: encrypted as in 2023, with a main key of 32 characters and a secondary key of 16",
        one_of("json", "aes"),
        "json",
        title="Payload",
    ),
    "appcharge.events_tolerance_seconds": Setting(
        "accepted age of an event's signature; retries come a quarter of an hour later",
        whole_number(1, 86400),
        "1800",
        title="Age of an event, in seconds",
    ),
    "appcharge.events_without_token": Setting(
        "on: an event may lack x-publisher-token; a wrong one is always refused",
        ON_OFF,
        "off",
        title="Events without a token",
    ),
    "appcharge.project_id": Setting("x-project-id to insist on where a call carries one", text(64), title="Project id"),
    "appcharge.dollar_fields_are_cents": Setting(
        "on since 2025; off for accounts whose ...InDollar fields are dollars",
        ON_OFF,
        "on",
        title="Dollar fields are in cents",
    ),
    "appcharge.completed_statuses": Setting(
        "values of actionStatus that credit an order, separated by commas; one that is in neither list is refused",
        statuses.listed,
        statuses.COMPLETED,
        title="Statuses of a paid order",
    ),
    "appcharge.failed_statuses": Setting(
        "values of actionStatus of an order that failed: noted, and nothing is credited",
        statuses.listed,
        statuses.FAILED,
        title="Statuses of a failed order",
    ),
    "appcharge.when_game_down": WHEN_GAME_DOWN,
    "allowlist.appcharge": Setting(
        "CIDR blocks Appcharge calls from; empty: any", networks, title="Addresses that may call"
    ),
    # Logging in
    "appcharge.logins": Setting(
        f"login methods to allow, some of {', '.join(METHODS)}; empty: all that are configured",
        methods,
        title="Login methods",
    ),
    "appcharge.store_url": Setting(
        "address of the web store, where login links lead", web_address, title="Address of the web store"
    ),
    "appcharge.deep_link": Setting(
        "link that opens the game to log in, with {token}", deep_link, title="Link that opens the game"
    ),
    "appcharge.code_digits": Setting(
        "digits of a player's login code", one_of("4", "6"), "6", title="Digits of a login code"
    ),
    "appcharge.desktop_auto_redirect": Setting(
        "on: a desktop is sent to the deep link; off: it shows it as a QR code",
        ON_OFF,
        "off",
        title="Deep link on a desktop",
    ),
    "appcharge.redirect_seconds": Setting(
        "life of a login the store began", whole_number(60, 3600), "600", title="Life of a login, in seconds"
    ),
    "appcharge.link_seconds": Setting(
        "life of a login link the game made",
        whole_number(60, 604800),
        "259200",
        title="Life of a login link, in seconds",
    ),
    "appcharge.social_ids": Setting(
        "what an account is that the game linked to no player: linked: nobody; subject: the player with its id",
        one_of("linked", "subject"),
        "linked",
        title="Social accounts",
    ),
    "appcharge.google_client_id": Setting(
        "our client ids at Google, separated by commas", text(2048), title="Google: client ids"
    ),
    "appcharge.google_token": Setting(
        "what the store sends for Google", one_of(*TOKEN_KINDS), "auto", title="Google: what the store sends"
    ),
    "appcharge.google_url": Setting(
        "where Google tells about access tokens",
        web_address,
        "https://oauth2.googleapis.com/tokeninfo",
        title="Google: address for tokens",
    ),
    "appcharge.google_code_url": Setting(
        "Google's codes", web_address, "https://oauth2.googleapis.com/token", title="Google: address for codes"
    ),
    "appcharge.google_keys_url": Setting(
        "Google's published keys",
        web_address,
        "https://www.googleapis.com/oauth2/v3/certs",
        title="Google: published keys",
    ),
    "appcharge.facebook_app_id": Setting("our app id at Facebook", text(64), title="Facebook: app id"),
    "appcharge.facebook_token": Setting(
        "what the store sends for Facebook", one_of(*TOKEN_KINDS), "auto", title="Facebook: what the store sends"
    ),
    "appcharge.facebook_url": Setting(
        "Facebook's Graph API", web_address, "https://graph.facebook.com", title="Facebook: address"
    ),
    "appcharge.facebook_keys_url": Setting(
        "Facebook's published keys",
        web_address,
        "https://www.facebook.com/.well-known/oauth/openid/jwks/",
        title="Facebook: published keys",
    ),
    "appcharge.apple_client_id": Setting(
        "our client ids at Apple, separated by commas", text(2048), title="Apple: client ids"
    ),
    "appcharge.apple_team_id": Setting(
        "our team id at Apple, to make the client secret with", text(64), title="Apple: team id"
    ),
    "appcharge.apple_key_id": Setting(
        "id of the private key at Apple, to make the client secret with", text(64), title="Apple: key id"
    ),
    "appcharge.apple_token": Setting(
        "what the store sends for Apple",
        one_of("auto", "id_token", "code"),
        "auto",
        title="Apple: what the store sends",
    ),
    "appcharge.apple_url": Setting(
        "Apple's token server and published keys", web_address, "https://appleid.apple.com", title="Apple: address"
    ),
    "appcharge.login_redirect_uri": Setting(
        "redirect_uri to name when a code is exchanged; empty: none", web_address, title="Redirect URI of logins"
    ),
    # The store's view of a player
    "appcharge.players_version": Setting(
        "version of Personalize that the store uses", one_of("1", "2"), "2", title="Version of Personalize"
    ),
    "appcharge.player_defaults": Setting(
        "JSON object: what the store shows where a player's profile lacks a part",
        player_defaults,
        title="Defaults of a player's profile",
    ),
    "appcharge.refresh": Setting(
        "on: when the game changes a player's profile, an open store is asked to load it",
        ON_OFF,
        "off",
        title="Reload open stores",
    ),
    "appcharge.refresh_seconds": Setting(
        "how long changes of profiles are gathered before the store is asked",
        whole_number(1, 3600),
        "5",
        title="Gather changes for, in seconds",
    ),
    # Calling Appcharge
    "appcharge.base_url": Setting(
        "Appcharge's API; empty: api.appcharge.com, or its sandbox by appcharge.environment",
        web_address,
        title="Address of the API",
    ),
    "appcharge.sign_calls": Setting(
        "on: our calls carry a signature with the main key", ON_OFF, "off", title="Sign our calls"
    ),
}
