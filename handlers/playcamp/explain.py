"""Why PlayCamp's calls and players' entries are refused: the signature doctor's hypotheses, in their order.

Three addresses, three kinds of proof: a webhook signs its body, an entry its player, a payment query its address.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import permutations, product
from urllib.parse import unquote_plus, unquote_to_bytes

from coinslot.base import signing
from coinslot.games.games import Game
from coinslot.operations.refusals import Refused
from handlers.kit import explain
from handlers.kit.explain import Attempts, Finding, Key, Known, spelled
from handlers.playcamp.entries import entry
from handlers.playcamp.events import payload, webhooks
from handlers.playcamp.events.signature import AHEAD_SECONDS
from handlers.playcamp.payments import query
from handlers.playcamp.recipe import NAMED, Recipe

# Recipes that games have been seen to use, or could have read out of PlayCamp's guide, beside the named ones.
RECIPES = (
    *NAMED.values(),
    *(each.replace("{user}", "{user}|{campaign}") for each in NAMED.values()),
    "{user}|{time}|{signature} = sha256({user}|{time}|{campaign}|{key})",
    "{user}|{time}|{signature} = hmac-sha256({user}|{time}|{campaign})",
    "{user}|{time}|{signature} = sha256({key}|{user}|{time})",
    "{user}|{time}|{signature} = sha256({time}|{user}|{key})",
    "{user}|{time}|{signature} = hmac-sha256({time}|{user})",
    "{user}|{time}|{signature} = sha512({user}|{time}|{key})",
    "{user}|{time}|{signature} = hmac-sha512({user}|{time})",
)
LAYOUTS = (
    "{user}|{time}|{signature}",
    "{user}|{campaign}|{time}|{signature}",
    "{time}|{signature}",
    "{signature}|{time}",
)
ENCODINGS = ("", "-base64", "-base64url")
SEPARATORS = ("|", ":", ".", "-", "_", ",")


def diagnose(call: Refused, known: Known) -> Finding:
    """Why this call was refused, as far as trying can tell."""
    looked = Looked(call, known, known.game(call.game_id))
    for each in HYPOTHESES.get((call.endpoint, call.reason), HYPOTHESES.get(("", call.reason), ())):
        found = each(looked)
        if found is not None:
            return found
    return Finding("Nothing here knows why.", is_sure=False)


@dataclass(frozen=True)
class Looked:
    """A refused call, and what proves it or should."""

    call: Refused
    known: Known
    game: Game | None
    attempts: Attempts = field(default_factory=Attempts)

    @property
    def header(self) -> str:
        """A webhook's signature as it came."""
        headers = self.call.headers
        return headers.get("x-webhook-signature") or headers.get("x-gateway-signature") or self.call.text("signature")

    @property
    def is_converted(self) -> bool:
        """Whether another gateway has signed it."""
        headers = self.call.headers
        return "x-webhook-signature" not in headers and "x-gateway-signature" in headers

    @cached_property
    def parts(self) -> tuple[str, str]:
        """The time and the signature in the header, in hexadecimal; each empty where it is not there."""
        if self.is_converted:
            return self.call.headers.get("x-gateway-timestamp", ""), explain.as_hex(self.header)
        pairs = [part.strip().partition("=") for part in self.header.split(",")]
        times = [value.strip() for name, _, value in pairs if name == "t"]
        given = [value.strip() for name, _, value in pairs if name == "v1"]
        return (times or [""])[-1], explain.as_hex((given or [self.header])[-1])

    @property
    def hook(self) -> str | None:
        """The webhook whose own address was called."""
        words = self.call.text("path").strip("/").split("/")
        return words[3] if len(words) == 4 else None

    @cached_property
    def given(self) -> dict[str, str]:
        """An entry's parameters."""
        pairs = [pair.partition("=") for pair in self.call.text("query").split("&") if pair]
        return {
            unquote_plus(name): unquote_to_bytes(value.encode("latin-1")).decode("utf-8", "replace")
            for name, _, value in pairs
        }

    def setting(self, name: str, default: str = "") -> str:
        return default if self.game is None else self.game.settings[f"playcamp.{name}"]

    @cached_property
    def stored(self) -> list[Key]:
        """Every secret there is, the likeliest first."""
        return explain.keys(self.known, self.game, "playcamp.")

    def signed(self, key: Key, message: bytes, digest: str) -> bool:
        return self.attempts.allow(len(message)) and explain.hmac_hex(key.value, message) == digest

    def name(self, key: Key) -> str:
        return explain.name_of(key, self.game)

    def is_own(self, key: Key) -> bool:
        return self.game is not None and key.game.id == self.game.id


# Webhooks


def no_header(looked: Looked) -> Finding | None:
    if looked.header and looked.is_converted and not looked.parts[0]:
        return Finding(
            "It has X-Gateway-Signature and lacks X-Gateway-Timestamp.",
            "A gateway of PlayCamp's sends both; one was dropped.",
        )
    if looked.header:
        return None
    for name, value in looked.call.headers.items():
        if "sign" in name and explain.as_hex(value.rpartition("v1=")[2]):
            return Finding(
                f"The signature came in the header {spelled(name)}; PlayCamp sends X-Webhook-Signature.",
                "A proxy that renames it has to let it be.",
            )
    return Finding(
        "The call carries no signature.",
        "Either it does not come from PlayCamp, or a proxy on the way drops the header X-Webhook-Signature.",
    )


def header_of_another_form(looked: Looked) -> Finding | None:
    """One that our verifier cannot read, though it may sign the body rightly."""
    timestamp, digest = looked.parts
    bare = looked.header.strip().lower()
    is_plain = bare == digest or (timestamp.lstrip("+-").isdigit() and f"v1={digest}" in bare.replace(" ", ""))
    if not digest:
        return Finding(
            "The signature in the header is not 64 hexadecimal digits.",
            "It was cut on the way, or somebody else wrote it.",
        )
    if is_plain:
        return None
    for key in looked.stored:
        for message in (looked.call.body, f"{timestamp}.".encode() + looked.call.body):
            if looked.call.is_whole and looked.signed(key, message, digest):
                return Finding(
                    f"It is signed with {looked.name(key)}, but the header is written in another form than PlayCamp's: "
                    f"it begins with {spelled(looked.header[:12])!r}.",
                    "PlayCamp sends <hex>, or t=<seconds>,v1=<hex>. Something on the way writes it anew.",
                )
    return None


def untried(looked: Looked) -> Finding | None:
    return explain.untried(looked.call)


def another_key(looked: Looked) -> Finding | None:
    for key in looked.stored:
        if looked.signed(key, _message(looked, looked.call.body), looked.parts[1]):
            return _signed_with(looked, key)
    return None


def _message(looked: Looked, body: bytes) -> bytes:
    """What PlayCamp signs of this body."""
    timestamp = looked.parts[0]
    if not timestamp:
        return body
    if not looked.is_converted and re.fullmatch(r"[+-]?[0-9]{1,18}", timestamp):
        timestamp = str(int(timestamp))
    return timestamp.encode() + b"." + body


def _signed_with(looked: Looked, key: Key) -> Finding:
    name = looked.name(key)
    if key.how:
        return Finding(
            f"It is signed with {name}, {key.how}.",
            "Set the secret here again, exactly as PlayCamp shows it.",
            "integration",
        )
    if not looked.is_own(key):
        return Finding(
            f"It is signed with {name}.",
            f"The webhook of this game's address was registered with {key.game.slug}'s project, or the secret was "
            "set at the wrong game.",
            "integration",
        )
    hook = key.secret.name.removeprefix("playcamp.webhook_secret").removeprefix(".")
    if key.secret.name.startswith("playcamp.webhook_secret"):
        if looked.hook is not None and hook != looked.hook:
            whose = f"of the webhook {hook}" if hook else "of the address without a webhook's name"
            return Finding(
                f"It came to the address of the webhook {spelled(looked.hook)} and is signed with the secret {whose}.",
                "Swap the two addresses at PlayCamp, or the two secrets here.",
                "integration",
            )
        return Finding(f"It is signed with {name}, which was set after this call came.", "The next one will pass.")
    return Finding(f"It is signed with {name} in place of a webhook's secret.", "", "integration")


def another_time(looked: Looked) -> Finding | None:
    timestamp, digest = looked.parts
    body = looked.call.body
    messages = []
    if timestamp:
        messages.append((body, "over the body alone: the time in the header is not signed"))
        messages.append((timestamp.encode() + body, "without the full stop between time and body"))
        messages.append((f"{timestamp}000.".encode() + body, "with its time in milliseconds and sent with seconds"))
        if timestamp.endswith("000"):
            messages.append(
                (timestamp[:-3].encode() + b"." + body, "with its time in seconds and sent with milliseconds")
            )
    for name, value in looked.call.headers.items():
        if "timestamp" in name and value.isdigit() and value != timestamp:
            messages.append((value.encode() + b"." + body, f"with the time of the header {spelled(name)}"))
    for key in looked.stored:
        if key.is_likely:
            for message, how in messages:
                if looked.signed(key, message, digest):
                    return Finding(
                        f"It is signed with {looked.name(key)}, but {how}.",
                        "PlayCamp signs the body, or the time in seconds, a full stop and the body.",
                    )
    return None


def another_body(looked: Looked) -> Finding | None:
    for key, reading in explain.by_reading(looked.stored, looked.game, looked.call.body, looked.attempts):
        if looked.signed(key, _message(looked, reading.value), looked.parts[1]):
            is_usual = looked.is_own(key) and key.secret.name.startswith("playcamp.webhook_secret")
            with_key = "" if is_usual else f" It is signed with {looked.name(key)}."
            return Finding(
                f"A proxy or middleware {reading.how} after it was signed.{with_key}",
                "What stands in front of Coinslot has to pass the body on byte for byte.",
            )
    return None


def in_vain(looked: Looked) -> Finding | None:
    return explain.in_vain(looked.call, looked.known, looked.attempts)


def stale_webhook(looked: Looked) -> Finding | None:
    signed_at = _webhook_signed_at(looked.call)
    if signed_at is None:
        return None
    timestamp = looked.parts[0]
    if not looked.is_converted and len(timestamp.lstrip("+-")) >= signing.MILLISECOND_DIGITS:
        return Finding(
            "Its time counts milliseconds (or less); PlayCamp's webhooks count seconds.",
            "The signature is right, so the sender is to be asked.",
        )
    lag = looked.call.received - signed_at
    allowed = float(looked.setting("tolerance_seconds", "300")) if lag > 0 or looked.is_converted else AHEAD_SECONDS
    return explain.about_time(looked.call, looked.known, signed_at, allowed, _webhook_signed_at)


def _webhook_signed_at(call: Refused) -> float | None:
    timestamp = Looked(call, Known(()), None).parts[0]
    try:
        return signing.unix_seconds(timestamp.lstrip("+"))
    except ValueError:
        return None


def malformed_webhook(looked: Looked) -> Finding | None:
    if not looked.call.body_size:
        return Finding("The body is empty.", "PlayCamp's webhooks have one: somebody may have tried the address.")
    try:
        payload.parse(looked.call.body)
    except ValueError as error:
        whole = "" if looked.call.is_whole else " (only its beginning was kept)"
        return Finding(f"The call proved itself, but its body cannot be read: {error}{whole}.", "Ask PlayCamp.")
    return None


def no_hook(looked: Looked) -> Finding | None:
    game = looked.game or looked.known.named(_slug(looked.call))
    if game is None or looked.hook is None:
        return None
    if webhooks.secrets_of(game, looked.hook):
        return Finding(f"The webhook {spelled(looked.hook)} had no secret when this call came; now it has one.")
    others = [
        name.removeprefix("playcamp.webhook_secret.")
        for name in game.secrets
        if name.startswith("playcamp.webhook_secret.")
    ]
    there = f" Those with one: {spelled(', '.join(others))}." if others else ""
    return Finding(
        f"The webhook {spelled(looked.hook)} of the game {game.slug} has no secret here.{there}",
        f"Set playcamp.webhook_secret.{spelled(looked.hook)}, or correct the address at PlayCamp.",
        "integration",
    )


# Entries


def parameters(looked: Looked) -> Finding | None:
    """Names that differ from those that are configured: each way to give the parameters their meaning is tried."""
    user, auth, campaign = (looked.setting(f"param.{name}") for name in ("user", "auth", "campaign"))
    if auth in looked.given and user in looked.given and not _is_swapped(looked, user, auth):
        return None
    names = list(looked.given)[:8]
    for as_user, as_auth, as_campaign in permutations([*names, ""], 3):
        if as_user and as_auth and _LIKE_SIGNED.search(looked.given[as_auth]):
            values = [looked.given.get(each, "") for each in (as_user, as_auth, as_campaign)]
            for recipe in _recipes(looked, values[1])[:8]:
                key = _signer(looked, recipe, values[1], values[0], values[2])
                if key is not None:
                    wanted = [("user", as_user, user), ("auth", as_auth, auth), ("campaign", as_campaign, campaign)]
                    differ = [(which, name) for which, name, current in wanted if name and name != current]
                    told = " and ".join(f"playcamp.param.{which} to {spelled(name)}" for which, name in differ)
                    if not differ:
                        continue
                    return Finding(
                        "The entry is signed rightly, but its parameters have other names: "
                        f"{', '.join(f'{spelled(name)} is the {_MEANING[which]}' for which, name in differ)}.",
                        f"Set {told}.",
                        "settings",
                    )
    lacking = [name for name in (user, auth) if name not in looked.given]
    if not lacking:
        return None
    there = f"; there are {spelled(', '.join(names))}" if names else " and so is everything else"
    return Finding(
        f"The parameter {' and '.join(lacking)} is missing{there}.",
        "If the game names them otherwise, set playcamp.param.user, .campaign and .auth.",
        "settings",
    )


_LIKE_SIGNED = re.compile(r"[0-9A-Fa-f]{64}|[A-Za-z0-9+/_-]{43}")
_MEANING = {"user": "player", "auth": "signature", "campaign": "campaign"}


def _is_swapped(looked: Looked, user: str, auth: str) -> bool:
    """Whether the player's parameter looks more like a signature than the signature's."""
    return bool(re.search(r"[0-9A-Fa-f]{64}", looked.given[user])) and not re.search(
        r"[0-9A-Fa-f]{64}", looked.given[auth]
    )


def another_recipe(looked: Looked) -> Finding | None:
    user, custom_data, campaign = _entry(looked)
    configured = entry.recipe_of(looked.game) if looked.game is not None else None
    for recipe in _recipes(looked, custom_data):
        key = _signer(looked, recipe, custom_data, user, campaign)
        if key is None:
            continue
        if recipe == configured:
            return _entry_signed_with(looked, key)
        named = _setting_of(recipe)
        also = (
            ""
            if looked.is_own(key) and key.secret.name == "playcamp.shared_key" and not key.how
            else f", with {looked.name(key)}"
        )
        also += f", {key.how}" if key.how else ""
        return Finding(
            f"The game signs its entries by another recipe: {named}{also}.",
            f"Set playcamp.signature to {named}, or change what the game signs. It is set to "
            f"{looked.setting('signature')} now.",
            "settings",
        )
    return None


def _entry_signed_with(looked: Looked, key: Key) -> Finding:
    if key.how:
        return Finding(
            f"It is signed with {looked.name(key)}, {key.how}.", "Game and Coinslot need the same text.", "integration"
        )
    if looked.is_own(key) and key.secret.name == "playcamp.shared_key":
        return Finding(f"It is signed with {looked.name(key)}, which was set, or its recipe, after this call came.")
    return Finding(
        f"It is signed with {looked.name(key)} in place of this game's PlayCamp shared key.",
        "Give the game's server the shared key that is set here, or set its key here.",
        "integration",
    )


def unlike_the_recipe(looked: Looked) -> Finding | None:
    user, custom_data, _ = _entry(looked)
    if looked.call.reason != "malformed":
        return None
    if len(custom_data) > 255:
        return Finding(f"The signature's parameter has {len(custom_data):,} characters; more than 255 are not read.")
    if custom_data and user and not custom_data.startswith(user) and custom_data.count("|") == 2:
        return Finding("The parameter does not begin with the player that the entry names.", "", is_sure=False)
    return Finding(
        f"The parameter {looked.setting('param.auth')} does not look as playcamp.signature says: it has "
        f"{len(custom_data)} characters and {custom_data.count('|')} bars.",
        f"The recipe is {looked.setting('signature')}. Compare it with what the game's server makes.",
        "settings",
        is_sure=False,
    )


def entry_in_vain(looked: Looked) -> Finding | None:
    found = explain.in_vain(looked.call, looked.known, looked.attempts, "link")
    return Finding(
        found.sentence, "Compare the game server's shared key and recipe with those that are set here.", found.link
    )


def another_player(looked: Looked) -> Finding | None:
    signed, entering = (looked.call.found.get(name, "") for name in ("signed", "entering"))
    rest = signed.removeprefix(entering)
    if entering and signed != entering and signed.startswith(entering) and not rest[0].isalnum():
        return Finding(
            "The game signs something more behind its player: "
            f"{spelled(signed)}, where the entry names {spelled(entering)}.",
            "If that is the campaign, set playcamp.signature_campaign to on; else playcamp.signature has to say what "
            "it is.",
            "settings",
            is_sure=False,
        )
    named = f": {spelled(signed)}, and not {spelled(entering)}" if signed and entering else ""
    return Finding(
        f"The signature is that of another player than the entry names{named}.",
        "The game's client has to send the id that its server has signed. A player may also have changed the link.",
    )


def stale_entry(looked: Looked) -> Finding | None:
    signed_at = _entry_signed_at(looked.call)
    if signed_at is None:
        return Finding(
            "The entry was signed too long ago, or in the future.",
            f"{explain.in_words(float(looked.setting('tolerance_seconds', '300')))} are allowed "
            "(playcamp.tolerance_seconds).",
            is_sure=False,
        )
    lag = looked.call.received - signed_at
    allowed = float(looked.setting("tolerance_seconds", "300")) if lag > 0 else entry.FUTURE_SECONDS
    found = explain.about_time(looked.call, looked.known, signed_at, allowed, _entry_signed_at)
    if lag > 0 and found.sentence.startswith("An old call"):
        return Finding(
            f"The player opened an old link: it was signed {explain.in_words(lag)} before "
            f"({explain.in_words(allowed)} are allowed).",
            "The game has to ask its server for a new link each time the button is pressed.",
        )
    return found


def _entry_signed_at(call: Refused) -> float | None:
    try:
        return float(call.found["signed_at"])
    except (KeyError, ValueError):
        return None


def used(looked: Looked) -> Finding | None:
    return Finding(
        "The link had been opened before, and playcamp.entry_once lets each be opened once.",
        "The game has to ask its server for a new link each time, or set playcamp.entry_once to off.",
        "settings",
    )


def campaign(looked: Looked) -> Finding | None:
    allowed = looked.setting("campaigns")
    return Finding(
        "The entry names a campaign that playcamp.campaigns does not list "
        f"({spelled(allowed) or 'it is empty by now'}).",
        "Add the campaign to playcamp.campaigns, or correct what the game sends.",
        "settings",
    )


def malformed_entry(looked: Looked) -> Finding | None:
    if looked.call.status != 400:
        return None
    return Finding(
        "The entry proved itself, but its player's id or its code_challenge cannot be one.",
        "Look at what the game's client puts into the address.",
        is_sure=False,
    )


def _entry(looked: Looked) -> tuple[str, str, str]:
    """Player, signature and campaign, by the names that are configured."""
    return tuple(looked.given.get(looked.setting(f"param.{name}"), "") for name in ("user", "auth", "campaign"))  # type: ignore[return-value]


def _recipes(looked: Looked, custom_data: str) -> list[Recipe]:
    """The configured one first, then those of the list, then every layout with every way to sign it."""
    configured = [] if looked.game is None else [entry.recipe_of(looked.game)]
    found = dict.fromkeys(configured)
    for separator in SEPARATORS:
        if separator in custom_data:
            found |= dict.fromkeys(_recipes_with(separator))
    return list(found)


@cache
def _recipes_with(separator: str) -> tuple[Recipe, ...]:
    texts = list(RECIPES)
    for layout, is_keyed, digest, encoding in product(LAYOUTS, (True, False), ("sha256", "sha512"), ENCODINGS):
        message = "{user}|{campaign}|{time}" if "campaign" in layout else "{user}|{time}"
        signing_way = f"hmac-{digest}{encoding}({message})" if is_keyed else f"{digest}{encoding}({message}|{{key}})"
        texts.append(f"{layout} = {signing_way}")
    found: dict[Recipe, None] = {}
    for text, place in product(texts, ("{time}", "{time_ms}")):
        with suppress(ValueError):
            found[Recipe.parse(text.replace("|", separator).replace("{time}", place))] = None
    return tuple(found)


def _setting_of(recipe: Recipe) -> str:
    """What playcamp.signature would be for it."""
    for name in NAMED:
        if Recipe.parse(name) == recipe:
            return name
        if Recipe.parse(name, True) == recipe:
            return f"{name} with playcamp.signature_campaign on"
    form, message = (
        "".join(f"{{{part}}}" if i % 2 else part for i, part in enumerate(parts))
        for parts in (recipe.form, recipe.message)
    )
    encoding = "" if recipe.encoding == "hex" else f"-{recipe.encoding}"
    return f"{form} = {'hmac-' if recipe.is_keyed else ''}{recipe.digest}{encoding}({message})"


def _signer(looked: Looked, recipe: Recipe, custom_data: str, user: str, campaign: str) -> Key | None:
    """The stored key by which this recipe makes of the player and the campaign what came."""
    if not custom_data or not user or "\0" in custom_data + user + campaign:
        return None
    values = recipe.read(custom_data, user, campaign)
    if values is None:
        return None
    values = {**values, "campaign": campaign}
    given = values["signature"].lower() if recipe.encoding == "hex" else values["signature"].rstrip("=")
    is_configured = looked.game is not None and recipe == entry.recipe_of(looked.game)
    for key in looked.stored:
        if not (key.is_likely or is_configured):
            continue
        if not looked.attempts.allow(len(custom_data)):
            return None
        try:
            if signing.is_equal(recipe.sign(key.value, values).rstrip("="), given):
                return key
        except ValueError:
            return None
    return None


# Payment queries


def no_fingerprint(looked: Looked) -> Finding | None:
    headers = looked.call.headers
    lacking = [name for name in ("X-Fingerprint", "X-Timestamp") if name.lower() not in headers]
    if not lacking:
        return None
    return Finding(
        f"The query lacks the header {' and '.join(lacking)}.",
        "Either it does not come from PlayCamp's gateway, or a proxy on the way drops the header.",
    )


def another_fingerprint(looked: Looked) -> Finding | None:
    given = looked.call.headers["x-fingerprint"].lower()
    timestamp = looked.call.headers["x-timestamp"]
    for key in looked.stored:
        for lines, how in _fingerprints(looked, timestamp):
            plain = "\n".join([*lines, ""]).encode("utf-8", "surrogateescape") + key.value
            keyed = "\n".join(lines).encode("utf-8", "surrogateescape")
            if looked.attempts.allow(len(plain)) and explain.digest_hex(plain) == given:
                return _fingerprint_of(looked, key, how)
            if looked.attempts.allow(len(keyed)) and explain.hmac_hex(key.value, keyed) == given:
                return _fingerprint_of(looked, key, f"{how}{' and ' if how else ''}as an HMAC in place of a digest")
    return None


def _fingerprints(looked: Looked, timestamp: str) -> Iterator[tuple[list[str], str]]:
    call = looked.call
    method, path, words = call.text("method"), call.text("path"), call.text("query")
    in_order = "&".join(sorted(words.split("&")))
    decoded = "&".join(sorted(unquote_plus(each) for each in words.split("&")))
    for query_line, how in (
        (in_order, ""),
        (words, "over the query as it is sent, its parameters not in order"),
        (decoded, "over the decoded query, without its percent signs"),
        (f"?{in_order}", "with the question mark in front of the query"),
        ("", "without the query"),
    ):
        yield [method, path, query_line, timestamp], how
    yield [method.lower(), path, in_order, timestamp], "with its method in small letters"
    yield [path, in_order, timestamp], "without the method"
    yield [method, path.rstrip("/") + "/", in_order, timestamp], "over another path"
    if timestamp.isdigit():
        yield [method, path, in_order, f"{timestamp}000"], "with its time in milliseconds and sent with seconds"


def _fingerprint_of(looked: Looked, key: Key, how: str) -> Finding:
    name = looked.name(key)
    if how:
        return Finding(
            f"The fingerprint is made with {name}, but {how}.",
            "It is the SHA-256 of five lines: method, path, the query's parameters in order, X-Timestamp and the key.",
        )
    if key.how:
        return Finding(f"The fingerprint is made with {name}, {key.how}.", "Set the key here again.", "integration")
    if looked.is_own(key) and key.secret.name == "playcamp.payments_key":
        return Finding(
            f"The fingerprint is made with {name}, which was set after this call came.", "The next one will pass."
        )
    return Finding(
        f"The fingerprint is made with {name} in place of this game's PlayCamp payments key.",
        "Give PlayCamp the payments key that is set here, or set theirs here.",
        "integration",
    )


def query_in_vain(looked: Looked) -> Finding | None:
    return explain.in_vain(looked.call, looked.known, looked.attempts, "address")


def stale_query(looked: Looked) -> Finding | None:
    signed_at = _query_signed_at(looked.call)
    if signed_at is None:
        return Finding(
            "X-Timestamp is no number; it is Unix seconds.", "The fingerprint is right, so the caller is theirs."
        )
    tolerance = float(looked.setting("tolerance_seconds", "300"))
    return explain.about_time(looked.call, looked.known, signed_at, tolerance, _query_signed_at)


def _query_signed_at(call: Refused) -> float | None:
    try:
        return signing.unix_seconds(call.headers.get("x-timestamp", ""))
    except ValueError:
        return None


# What is no matter of proofs


def address(looked: Looked) -> Finding | None:
    return explain.about_address(looked.call, looked.game, "playcamp")


def no_game(looked: Looked) -> Finding | None:
    is_configured = {
        webhooks.ENDPOINT: lambda game: bool(webhooks.secrets_of(game, looked.hook)),
        entry.ENDPOINT: entry.is_configured,
        query.ENDPOINT: lambda game: bool(game.keys("playcamp.payments_key")),
    }.get(looked.call.endpoint, entry.is_configured)
    what = {entry.ENDPOINT: "PlayCamp's entries", query.ENDPOINT: "PlayCamp's payment queries"}
    named = what.get(looked.call.endpoint, "PlayCamp's webhooks")
    return explain.about_no_game(looked.call, looked.known, named, _slug(looked.call), is_configured)


def _slug(call: Refused) -> str:
    return (call.text("path").strip("/").split("/")[1:2] or [""])[0]


def unopened(looked: Looked) -> Finding | None:
    return explain.unopened(looked.call)


HYPOTHESES: Mapping[tuple[str, str], tuple[explain.Hypothesis[Looked], ...]] = {
    ("webhook", "signature"): (
        unopened,
        no_header,
        header_of_another_form,
        untried,
        another_key,
        another_time,
        another_body,
        in_vain,
    ),
    ("webhook", "timestamp"): (unopened, stale_webhook),
    ("webhook", "malformed"): (unopened, malformed_webhook),
    ("webhook", "unknown_game"): (unopened, no_hook, no_game),
    ("sponsor", "signature"): (unopened, parameters, another_recipe, entry_in_vain),
    ("sponsor", "malformed"): (unopened, malformed_entry, parameters, another_recipe, unlike_the_recipe),
    ("sponsor", "player"): (another_player,),
    ("sponsor", "timestamp"): (unopened, stale_entry),
    ("sponsor", "used"): (used,),
    ("sponsor", "campaign"): (campaign,),
    ("payments", "signature"): (unopened, no_fingerprint, another_fingerprint, query_in_vain),
    ("payments", "timestamp"): (unopened, stale_query),
    ("", "address"): (address,),
    ("", "unknown_game"): (unopened, no_game),
}
