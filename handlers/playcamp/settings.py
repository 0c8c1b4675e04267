"""What the owner may set for PlayCamp. Most of it is agreed per game, so all of it is configuration."""

import re
from collections.abc import Callable, Mapping

from coinslot.base import expressions, limits, moments
from coinslot.games.games import Game
from coinslot.games.options import Setting, networks, one_of, text, web_address, whole_number
from handlers.kit.partner import Key
from handlers.playcamp.recipe import Recipe

PLATFORMS = ("iOS", "Android", "Web", "Roblox", "Other")
DISTRIBUTION_TYPES = ("MOBILE_STORE", "PC_STORE", "MOBILE_SELF_STORE", "PC_SELF_STORE")

# The places in braces that an address of the game's payments may have.
PLACES = ("from to from_ms to_ms from_iso to_iso from_date to_date cursor page limit").split()

# Games' names of markets -> platform, distributionType. The second decides the store fee.
MARKETS: Mapping[str, tuple[str, str]] = {
    "google": ("Android", "MOBILE_STORE"),
    "googleplay": ("Android", "MOBILE_STORE"),
    "google_play": ("Android", "MOBILE_STORE"),
    "apple": ("iOS", "MOBILE_STORE"),
    "appstore": ("iOS", "MOBILE_STORE"),
    "app_store": ("iOS", "MOBILE_STORE"),
    "steam": ("Other", "PC_STORE"),
    "epic": ("Other", "PC_STORE"),
}


def server_key_doubt(value: str) -> str:
    """What is wrong with the form of a SERVER key; empty: nothing. The secret may have colons of its own."""
    key_id, _, secret = value.partition(":")
    return "" if key_id and secret else "it is not of the form keyId:secret, so that nothing can be asked with it"


KEYS = (
    Key(
        "playcamp.api_key",
        "SERVER key of the SDK API",
        "keyId:secret; opens the WebView and registers payments",
        is_mandatory=True,
        is_proof=False,
        doubt=server_key_doubt,
    ),
    Key("playcamp.shared_key", "Shared key", "game and gateway share it for entry signatures", is_mandatory=True),
    Key("playcamp.webhook_secret", "Webhook secret", "signs PlayCamp's webhooks", is_mandatory=True),
    Key(
        "playcamp.webhook_secret.*",
        "Webhook secret of one webhook",
        "signs the one that calls /playcamp/GAME/webhook/<its name>",
    ),
    Key("playcamp.payments_key", "Payments key", "signs our polls of the game's payments and guards our payment query"),
)

# Settings that are agreed with PlayCamp or with the game's developers.
AGREED = (
    *(
        f"playcamp.{name}"
        for name in (
            "environment param.user param.campaign param.auth signature signature_campaign tolerance_seconds "
            "entry_once campaigns entry_url user_type event.registered event.removed absent_custom_data "
            "payments.url payments.auth"
        ).split()
    ),
    "allowlist.playcamp",
)


def matching(pattern: str, complaint: str) -> Callable[[str], str]:
    """A check for text of one form."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(complaint)
        return value

    return check


parameter = matching(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", "use a name such as usn")


def colour(value: str) -> str:
    return matching("[0-9A-Fa-f]{3}|[0-9A-Fa-f]{6}", "use a colour such as FF6B35")(value.removeprefix("#"))


def fingerprint(value: str) -> str:
    """SHA-256 of a certificate, however it is grouped."""
    return matching("[0-9a-f]{64}", "use the 64 hexadecimal digits of a SHA-256")(value.replace(":", "").lower())


def recipe(value: str) -> str:
    """Raises ValueError, with a sentence, for a recipe that proves nothing."""
    Recipe.parse(text(1024)(value))
    return value


def market(value: str) -> str:
    """``Platform,DISTRIBUTION_TYPE``, each as PlayCamp spells it."""
    platform, _, kind = (word.strip() for word in value.partition(","))
    if platform not in PLATFORMS or kind not in DISTRIBUTION_TYPES:
        raise ValueError(f"use one of {', '.join(PLATFORMS)}, a comma, one of {', '.join(DISTRIBUTION_TYPES)}")
    return f"{platform},{kind}"


def delays(value: str) -> str:
    """1 to 20 numbers of seconds, each of a day at most."""
    words = [word.strip() for word in value.split(",")]
    if len(words) > 20 or not all(re.fullmatch("[0-9]{1,5}", word) and 1 <= int(word) <= 86400 for word in words):
        raise ValueError("use seconds up to a day, separated by commas")
    return ",".join(words)


def expression(value: str) -> str:
    try:
        expressions.Expression.parse(value)
    except limits.ExpressionError as error:
        raise ValueError(str(error)) from None
    return value


def zone(value: str) -> str:
    moments.time_zone(value)
    return value


def url_template(value: str) -> str:
    """An address with places in braces; their values are checked when they are filled in."""
    unknown = set(re.findall(r"{(.*?)}", value)) - set(PLACES)
    if unknown:
        raise ValueError(f"use only the places {', '.join(f'{{{place}}}' for place in PLACES)}")
    web_address(re.sub(r"{(.*?)}", "0", value))
    return value


def switch(meaning: str, title: str) -> Setting:
    """A setting that is ``off`` unless it is switched ``on``."""
    return Setting(meaning, one_of("on", "off"), "off", title)


SETTINGS: Mapping[str, Setting] = {
    "playcamp.environment": Setting(
        "everything from a sandbox is a test", one_of("live", "sandbox"), "live", title="Environment"
    ),
    "playcamp.base_url": Setting(
        "PlayCamp's SDK API; empty: sdk-api.playcamp.io, or its sandbox by playcamp.environment",
        web_address,
        title="Address of the API",
    ),
    "allowlist.playcamp": Setting(
        "CIDR blocks PlayCamp's webhooks and payment queries come from; empty: any",
        networks,
        title="Addresses that may call",
    ),
    # Entry
    "playcamp.param.user": Setting(
        "name of the player's parameter in entries", parameter, "usn", title="Parameter of the player"
    ),
    "playcamp.param.campaign": Setting(
        "name of the campaign's parameter in entries", parameter, "camp_code", title="Parameter of the campaign"
    ),
    "playcamp.param.auth": Setting(
        "name of the signature's parameter in entries", parameter, "custom_data", title="Parameter of the signature"
    ),
    "playcamp.signature": Setting(
        "how entries are signed: pipe-sha256, pipe-hmac-sha256, or FORMAT = ALGORITHM(MESSAGE) of your own",
        recipe,
        "pipe-sha256",
        title="Signature of entries",
    ),
    "playcamp.signature_campaign": switch(
        "on: the two pipe recipes sign the campaign too, after the player", "Sign the campaign"
    ),
    "playcamp.tolerance_seconds": Setting(
        "accepted age of entries and of timestamped webhooks",
        whole_number(1, 86400),
        "300",
        title="Age of a signature, in seconds",
    ),
    "playcamp.entry_once": switch("on: each signed entry opens once", "Entries open once"),
    "playcamp.campaigns": Setting(
        "campaigns players may enter, separated by commas; empty: any", text(4096), title="Campaigns"
    ),
    "playcamp.entry_url": Setting(
        "entry address of the gateway, where PlayCamp runs it; empty: ours", web_address, title="Address of entries"
    ),
    "playcamp.webview_test": switch("on: the WebView opens in test mode", "WebView in test mode"),
    "playcamp.lang": Setting(
        "language of the WebView; empty: the player's browser decides",
        one_of("ko", "en"),
        title="Language of the WebView",
    ),
    "playcamp.tabs": Setting(
        "tabs of the WebView, separated by commas, or all", text(64), "sponsor", title="Tabs of the WebView"
    ),
    "playcamp.primary_color": Setting("colour of the WebView, such as FF6B35", colour, title="Colour of the WebView"),
    # Events into the game's own format
    "playcamp.creator.*": Setting("creator_usn of the creator key in place of *", text(64), title="Creator numbers"),
    "playcamp.creator_lookup": switch(
        "on: a creator without playcamp.creator.<key> is asked for at PlayCamp", "Ask for unknown creators"
    ),
    "playcamp.user_type": Setting(
        "usn as int, where it is all digits, or as string",
        one_of("int", "string"),
        "int",
        title="Type of the user number",
    ),
    "playcamp.event.registered": Setting(
        "word for a boost that begins", text(64), "sponsor.created", title="Word for a boost that begins"
    ),
    "playcamp.event.removed": Setting(
        "word for a boost that ends", text(64), "sponsor.ended", title="Word for a boost that ends"
    ),
    "playcamp.absent_custom_data": Setting(
        "custom_data of an event that did not begin at our entry",
        one_of("null", "empty"),
        "null",
        title="Missing custom_data",
    ),
    "playcamp.events.map": Setting(
        "JMESPath that makes the body for the game; empty: the usual one", expression, title="Mapping of events"
    ),
    "playcamp.events.also": Setting(
        "further event types to send so, separated by commas", text(512), title="Further event types"
    ),
    "playcamp.events.overtaken": Setting(
        "a boost that was over when its event came: sent so all the same, as it comes, or dropped",
        one_of("send", "drop"),
        "send",
        title="Boosts that are over already",
    ),
    "playcamp.forward_test_events": Setting(
        "whether test events are sent so; auto: in the sandbox",
        one_of("auto", "on", "off"),
        "auto",
        title="Test events",
    ),
    # Payments
    "playcamp.payments.url": Setting(
        "address of the game's payments, with {from}, {to}, {cursor} ...",
        url_template,
        title="Address of the game's payments",
    ),
    "playcamp.payments.method": Setting("GET or POST", one_of("GET", "POST"), "GET", title="Method of a poll"),
    "playcamp.payments.body": Setting("body to POST, with the same places", text(8192), title="Body of a poll"),
    "playcamp.payments.rows": Setting("JMESPath: the list of rows in an answer", expression, title="Rows of an answer"),
    "playcamp.payments.map": Setting("JMESPath: one row as a payment", expression, title="Mapping of a row"),
    "playcamp.payments.next": Setting("JMESPath: next cursor, page or link; null ends", expression, title="Next page"),
    "playcamp.payments.zone": Setting(
        "time zone of the game's times, such as Asia/Seoul", zone, "UTC", title="Time zone of the game's times"
    ),
    "playcamp.payments.since": Setting(
        "where the first poll begins: ISO date or time; empty: a day ago", text(64), title="First poll begins at"
    ),
    "playcamp.payments.polling": Setting(
        "whether payments are asked for by themselves; off: all can be set and tried, and nothing is read",
        one_of("on", "off"),
        "on",
        title="Polling",
    ),
    "playcamp.payments.every_seconds": Setting(
        "pause between polls", whole_number(10, 86400), "300", title="Pause between polls, in seconds"
    ),
    "playcamp.payments.span_seconds": Setting(
        "longest range one poll asks for",
        whole_number(60, 31 * 86400),
        "86400",
        title="Longest range of a poll, in seconds",
    ),
    "playcamp.payments.overlap_seconds": Setting(
        "asked for again each time: late rows", whole_number(0, 86400), "600", title="Overlap of polls, in seconds"
    ),
    "playcamp.payments.refund_days": Setting(
        "days asked for again once a day: refunds that came late; 0: none",
        whole_number(0, 366),
        "30",
        title="Days to look for refunds",
    ),
    "playcamp.payments.lag_seconds": Setting(
        "how far behind now a poll ends", whole_number(0, 86400), "60", title="Lag of a poll, in seconds"
    ),
    "playcamp.payments.limit": Setting("{limit} of a page", whole_number(1, 10000), "1000", title="Rows of a page"),
    "playcamp.payments.auth": Setting(
        "how polls prove themselves with playcamp.payments_key",
        one_of("fingerprint", "hmac", "header", "basic"),
        "fingerprint",
        title="Proof of a poll",
    ),
    "playcamp.payments.auth_header": Setting(
        "header that carries the key, for header", parameter, "X-Api-Key", title="Header of the key"
    ),
    "playcamp.payments.pin": Setting(
        "SHA-256 fingerprint of the game server's certificate", fingerprint, title="Certificate of the game server"
    ),
    "playcamp.payments.retry": Setting(
        "delays in seconds after a failure; then hourly", delays, "5,30,120,600,3600", title="Delays after a failure"
    ),
    "playcamp.market.*": Setting("platform,distributionType of the market in place of *", market, title="Markets"),
    "lookup.*": Setting(
        "an entry of a table for expressions: lookup.<table>.<value>", text(255), title="Tables for expressions"
    ),
    "playcamp.register_appcharge": switch(
        "on: Appcharge orders are registered as payments too", "Register Appcharge orders"
    ),
    "playcamp.appcharge_distribution_type": Setting(
        "distributionType of Appcharge orders",
        one_of("MOBILE_SELF_STORE", "PC_SELF_STORE"),
        "MOBILE_SELF_STORE",
        title="Distribution type of Appcharge orders",
    ),
}


def is_sandbox(game: Game) -> bool:
    return game.settings["playcamp.environment"] == "sandbox"
