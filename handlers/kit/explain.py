"""Why a call was refused, in one sentence, found by trying: what the partners' rooms share of it.

Only the owner reads this, after the refusal. A room gives its hypotheses in an order, the likeliest first; the first
that fits is the sentence. A signature fits or does not, so that a sentence about one is no guess; what cannot be tried
is said to be so. Trying is bounded: :class:`Attempts` counts what was hashed and ends it.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import product
from typing import Any, TypeAlias, TypeVar

from coinslot.access.keyring import SecretValue
from coinslot.base import addresses
from coinslot.games.games import Game
from coinslot.operations.refusals import Refused

MOST_ATTEMPTS = 2500  # digests per call
MOST_BYTES = 14 * 1024 * 1024  # hashed per call
LONGEST_SHOWN = 80  # of a stranger's text in a sentence
ALIKE_SECONDS = 90.0  # two clocks that differ by the same
ZONE_SECONDS = 120.0  # off a whole number of half hours: a local time taken for UTC

# Secrets in words; of one that is not here its own name is used.
NAMES: Mapping[str, str] = {
    "appcharge.main_key": "main key",
    "appcharge.secondary_key": "secondary key",
    "appcharge.events_secret": "events secret",
    "appcharge.publisher_token": "publisher token",
    "appcharge.checkout_public_key": "checkout public key",
    "playtem.secret": "Playtem secret",
    "playcamp.api_key": "PlayCamp API key",
    "playcamp.webhook_secret": "PlayCamp webhook secret",
    "playcamp.shared_key": "PlayCamp shared key",
    "playcamp.payments_key": "PlayCamp payments key",
}


@dataclass(frozen=True)
class Finding:
    """One sentence, and what to do. ``link`` is a kind of page that mends it; ``is_sure`` is False for a guess."""

    sentence: str
    hint: str = ""
    link: str = ""
    is_sure: bool = True


@dataclass(frozen=True)
class Known:
    """What a diagnosis may look at. The functions ask the database, so that only a hypothesis that needs it does."""

    games: Sequence[Game]
    alike: Callable[[Refused], Sequence[Refused]] = lambda call: ()  # refused for the same reason on the same day
    proved_at: Callable[[Refused], float | None] = lambda call: None  # when a call last proved itself there
    changed: Callable[[Refused], Mapping[str, str]] = lambda call: {}  # secret -> since when its old value is no more

    def game(self, game_id: int | None) -> Game | None:
        return next((game for game in self.games if game.id == game_id), None)

    def named(self, slug: str) -> Game | None:
        return next((game for game in self.games if game.slug == slug), None)


Looked = TypeVar("Looked")
Hypothesis: TypeAlias = Callable[[Looked], Finding | None]  # of what a room has in hand of a call


class Attempts:
    """The digests that may still be made for one call."""

    def __init__(self) -> None:
        self._left, self._bytes = MOST_ATTEMPTS, MOST_BYTES
        self.is_spent = False

    def allow(self, size: int) -> bool:
        self._left -= 1
        self._bytes -= size + 64
        if self._left < 0 or self._bytes < 0:
            self.is_spent = True
        return not self.is_spent


@dataclass(frozen=True)
class Key:
    """A stored secret that may have signed, as it is or as somebody may have read it: ``how`` says which way."""

    game: Game
    secret: SecretValue
    value: bytes = field(repr=False)
    how: str = ""
    is_likely: bool = False  # of this partner, as it is stored: worth trying with what may have been changed as well


@dataclass(frozen=True)
class Text:
    """Bytes that may have been signed in place of those that came; ``how`` says what was done to them."""

    value: bytes = field(repr=False)
    how: str = ""


# Keys


def keys(known: Known, own: Game | None, prefix: str) -> list[Key]:
    """Every stored secret of every game, with the ways of misreading one; the likeliest first.

    First this game's of this partner, then that partner's of other games, then all the others.
    """
    found: list[tuple[int, Key]] = []
    for game in known.games:
        for name, values in game.secrets.items():
            rank = (0 if name.startswith(prefix) else 2) + (0 if game is own else 1)
            for secret in values:
                found += [
                    (rank, Key(game, secret, value, how, is_likely=rank < 2 and not how))
                    for value, how in _readings(secret.value, rank)
                ]
    return [key for _, key in sorted(found, key=lambda each: (each[0], each[1].how != ""))]


def _readings(value: bytes, rank: int) -> Iterator[tuple[bytes, str]]:
    yield value, ""
    if rank > 1:
        return
    if value.strip() != value:
        yield value.strip(), "without the blank or line break at its end that is stored here"
    else:
        yield value + b"\n", "with a line break at its end"
    if value.startswith(b"whsec_"):
        yield value[6:], "without its whsec_"
        with_bytes = _base64(value[6:])
        if with_bytes:
            yield with_bytes, "as the bytes that its Base64 behind whsec_ stands for"
    else:
        yield b"whsec_" + value, "with whsec_ in front of it"
        if re.fullmatch(rb"(?:[0-9A-Fa-f]{2}){8,}", value):
            yield bytes.fromhex(value.decode()), "as the bytes that its hexadecimal digits stand for"
        with_bytes = _base64(value) if len(value) >= 16 else b""
        if with_bytes:
            yield with_bytes, "as the bytes that its Base64 stands for"


def _base64(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def name_of(key: Key, own: Game | None) -> str:
    """A secret in words: ``the main key of this game``, ``the previous main key of Space Miner (sandbox)``."""
    name = NAMES.get(key.secret.name, f"secret {key.secret.name}")
    previous = "previous " if key.secret.slot == "previous" else ""
    if own is not None and key.game.id == own.id:
        return f"the {previous}{name} of this game"
    partner = key.secret.name.partition(".")[0]
    environment = key.game.settings.get(f"{partner}.environment", "live")
    of = own and own.settings.get(f"{partner}.environment", "live")
    mark = f" ({environment})" if own is None or environment != of else ""
    return f"the {previous}{name} of the game {key.game.slug}{mark}"


# Bodies


def body_readings(body: bytes) -> Iterator[Text]:
    """The bodies that may have been signed before something on the way changed them to this one."""
    for ending, words in ((b"\n", "a line break"), (b"\r\n", "a line break"), (b" ", "a blank")):
        if body.endswith(ending):
            yield Text(body[: -len(ending)], f"added {words} at the end of the body")
    if body.strip() != body:
        yield Text(body.strip(), "added blanks or line breaks around the body")
    if body.startswith(b"\xef\xbb\xbf"):
        yield Text(body[3:], "put a byte order mark in front of the body")
    for ending in (b"\n", b"\r\n"):
        yield Text(body + ending, "cut the line break off the end of the body")
    yield Text(b"\xef\xbb\xbf" + body, "cut the byte order mark off the front of the body")
    if b"\r\n" in body:
        yield Text(body.replace(b"\r\n", b"\n"), "changed the line breaks in the body")
    elif b"\n" in body:
        yield Text(body.replace(b"\n", b"\r\n"), "changed the line breaks in the body")
    yield from (Text(each, "re-formatted the body") for each in reprinted(body))


def by_reading(stored: Sequence[Key], own: Game | None, body: bytes, attempts: Attempts) -> Iterator[tuple[Key, Text]]:
    """Each likely key with each other reading of a body, this game's first, until the attempts are spent."""
    likely = [key for key in stored if key.is_likely]
    mine = [key for key in likely if own is not None and key.game.id == own.id]
    for some in (mine, [key for key in likely if key not in mine]):
        for reading in body_readings(body) if some else ():
            for key in some:
                if attempts.is_spent:
                    return
                yield key, reading


def reprinted(body: bytes) -> Iterator[bytes]:
    """The same JSON as other programs print it: spacing, order of names, what is escaped, how fractions are spelled.

    Nothing where it is no JSON, or as it came.
    """
    fractions: list[str] = []
    mark = secrets.token_hex(8)  # which nobody can have put into the body

    def fraction(text: str) -> str:
        fractions.append(text)
        return f"{mark}{len(fractions) - 1};"

    try:
        document = json.loads(body.decode("utf-8-sig"), parse_float=fraction)
    except (ValueError, RecursionError):
        return
    if not isinstance(document, dict | list):
        return
    marked = re.compile(f'"{mark}([0-9]+);"')
    spelled_so = (fractions, map(_as_javascript, fractions), (repr(float(each)) for each in fractions))
    spellings = list(dict.fromkeys(tuple(each) for each in spelled_so))
    seen = {body}
    layouts: tuple[dict[str, Any], ...] = (
        {"separators": (",", ":")},
        {"separators": (", ", ": ")},
        {"indent": 2},
        {"indent": 4},
    )
    for layout, is_sorted, is_ascii in product(layouts, (False, True), (False, True)):
        try:
            text = json.dumps(document, sort_keys=is_sorted, ensure_ascii=is_ascii, **layout)
        except (ValueError, RecursionError):
            return
        for spelled in spellings:
            plain = marked.sub(lambda found, spelled=spelled: spelled[int(found[1])], text)  # type: ignore[misc]
            for printed in dict.fromkeys((plain, plain.replace("/", "\\/"))):
                made = printed.encode("utf-8", "surrogatepass")
                if made not in seen:
                    seen.add(made)
                    yield made


def _as_javascript(text: str) -> str:
    """A fraction as JSON.stringify prints it."""
    number = float(text)
    if number.is_integer() and abs(number) < 1e21:
        return str(int(number))
    if 1e-6 <= abs(number) < 1e-4:
        return _without_exponent(repr(number))
    return re.sub(r"e([+-])0*([0-9])", r"e\1\2", repr(number))


def _without_exponent(text: str) -> str:
    digits, _, exponent = text.partition("e")
    if not exponent:
        return text
    sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
    return f"{sign}0.{'0' * (-int(exponent) - 1)}{digits.replace('.', '')}"


# Proofs


def hmac_hex(key: bytes, message: bytes, algorithm: str = "sha256") -> str:
    return hmac.digest(key, message, algorithm).hex()


def digest_hex(message: bytes, algorithm: str = "sha256") -> str:
    return hashlib.new(algorithm, message).hexdigest()


def as_hex(digest: str, size: int = 32) -> str:
    """A digest in hexadecimal, however it is spelled: upper case, Base64, ``sha256=`` in front; "" where it is none."""
    text = re.sub(r"^(?:sha256|sha1|v1|hmac)\s*=\s*", "", digest.strip(), flags=re.IGNORECASE)
    if re.fullmatch(rf"[0-9A-Fa-f]{{{2 * size}}}", text):
        return text.lower()
    found = _base64(text.replace("-", "+").replace("_", "/").rstrip("=").encode("ascii", "replace"))
    return found.hex() if len(found) == size else ""


# Time


def in_words(seconds: float) -> str:
    """How long: 7 minutes, 3 hours, 2 days."""
    seconds = abs(seconds)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size or (seconds >= size and seconds % size < size / 10):
            count = round(seconds / size)
            return f"{count:,} {unit}{'' if count == 1 else 's'}"
    if seconds >= 3600:
        return f"{round(seconds / 60):,} minutes"
    return f"{round(seconds):,} seconds"


def about_time(
    call: Refused,
    known: Known,
    signed_at: float,
    tolerance_seconds: float,
    signed_when: Callable[[Refused], float | None],
) -> Finding:
    """Whose clock is wrong, or whether an old call was sent again: judged by the other calls of that day.

    The call's signature is right. ``signed_when`` is when another refused call says that it was signed.
    """
    lag = call.received - signed_at
    others = [each for each in known.alike(call) if each.id != call.id]
    lags = [each.received - moment for each in others if (moment := signed_when(each)) is not None]
    again = any(signed_when(each) == signed_at and each.text("signature") == call.text("signature") for each in others)
    proved_at = known.proved_at(call)
    is_clock_right = proved_at is not None and abs(proved_at - call.received) < 86400
    allowed = f"{in_words(tolerance_seconds)} are allowed"
    half_hours = round(lag / 1800)
    is_zone = 2 <= abs(half_hours) <= 28 and abs(lag - half_hours * 1800) < ZONE_SECONDS
    alike = sum(abs(each - lag) < ALIKE_SECONDS for each in lags)
    away = in_words(lag)
    if again and lag > 0:
        return Finding(
            f"An old call was sent again: it was signed {away} before it came, and came more than once ({allowed}).",
            "If it still matters, have the partner send it anew with a new signature.",
        )
    if is_zone and (is_clock_right or not alike):
        return Finding(
            f"Its time is off by {in_words(half_hours * 1800)}, to the minute: whoever signed it took local time for "
            "UTC.",
            "The signature is right. The sender has to sign the time in UTC.",
        )
    if is_clock_right and lag > 0:
        return Finding(
            f"An old call was sent again: it was signed {away} before it came ({allowed}), while others of that day "
            "came on time.",
            "Nothing is wrong with the key or with the clock here.",
        )
    if is_clock_right:
        return Finding(
            f"The sender's clock is {away} ahead: others of that day came with the right time ({allowed}).",
            "Nothing is wrong with the key or with the clock here.",
        )
    if lag < 0:
        return Finding(
            f"This machine's clock is {away} behind: the call was signed that much later than it came here "
            f"({allowed}).",
            "Set the clock, and have it kept right by NTP (timedatectl set-ntp true).",
            is_sure=alike > 0,
        )
    if alike:
        return Finding(
            f"This machine's clock is {away} ahead: {alike + 1} calls of that day were that much too old ({allowed}).",
            "Set the clock, and have it kept right by NTP (timedatectl set-ntp true).",
        )
    return Finding(
        f"It was signed {away} before it came ({allowed}): an old call was sent again, or this machine's clock is "
        "ahead.",
        "The signature is right. Compare this machine's clock with another one.",
        is_sure=False,
    )


def wrong_unit(digits: str) -> str:
    """What a time of so many digits counts, where that is neither seconds nor milliseconds."""
    return {16: "microseconds", 19: "nanoseconds"}.get(len(digits), "") if digits.isdigit() else ""


# What every room says alike


def spelled(value: object) -> str:
    """A stranger's text inside of a sentence: short. (Pages make visible what cannot be seen in it.)"""
    text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def unopened(call: Refused) -> Finding | None:
    if call.is_opened:
        return None
    return Finding("What was kept of this call cannot be opened with the master key that is in use.", is_sure=False)


def about_address(call: Refused, game: Game | None, partner: str) -> Finding:
    allowed = "" if game is None else game.settings[f"allowlist.{partner}"]
    forwarded = call.headers.get("x-forwarded-for", "")
    address = spelled(call.remote_address) or "an unknown address"
    if forwarded and call.remote_address == addresses.UNKNOWN:
        return Finding(
            f"X-Forwarded-For says {spelled(forwarded)}, in which there is no address where the trusted proxies write "
            "one; so nobody knows where it came from.",
            "COINSLOT_TRUSTED_PROXIES has to say how many proxies stand in front of Coinslot, and each has to add an "
            "address to X-Forwarded-For.",
            "settings",
        )
    if forwarded and call.remote_address != addresses.forwarded(forwarded, 1):
        return Finding(
            f"It came from {address}, which is not on allowlist.{partner}; it says that a proxy brought it for "
            f"{spelled(forwarded)}.",
            "If that proxy is yours, COINSLOT_TRUSTED_PROXIES has to say how many stand in front of Coinslot.",
            "settings",
        )
    return Finding(
        f"It came from {address}, which is not on allowlist.{partner}"
        f"{f' ({spelled(allowed)})' if allowed else ', which is empty by now'}.",
        "If the partner calls from there, add that address.",
        "settings",
    )


def about_no_game(
    call: Refused, known: Known, partner: str, slug: str, is_configured: Callable[[Game], bool]
) -> Finding:
    game = known.named(slug)
    if game is not None and is_configured(game):
        return Finding(
            f"The game {slug} was not set up for {partner} when this call came; now it is.", link="integration"
        )
    if game is not None:
        return Finding(
            f"The game {slug} is not set up for {partner}: a key that proves its calls is missing.",
            "Set the partner's keys; until then its addresses answer 404.",
            "integration",
        )
    near = get_close_matches(slug.lower(), [each.slug for each in known.games], 1, 0.6)
    return Finding(
        f"There is no game {spelled(slug)!r} here{f'; there is {near[0]}' if near else ''}.",
        "Look at the address that is pasted into the partner's dashboard." if near else "",
        is_sure=bool(slug),
    )


COMMON: Mapping[str, Finding] = {
    "conflict": Finding(
        "The same transaction was credited before with other content, so nobody was credited this time.",
        "Look at both and decide: the first one stands.",
        "conflicts",
    ),
    "game_down": Finding(
        "The game could not be reached, and the owner has chosen to refuse new credits then.",
        "Once a destination of the game takes deliveries again, have the partner report it again.",
        "deliveries",
    ),
}


def about_player(player_id: str, game: Game | None) -> Finding:
    rule = "reject" if game is None else game.settings["players.unknown"]
    named = f"The player {spelled(player_id)}" if player_id else "The player"
    if rule == "lookup":
        return Finding(f"{named} is unknown to the game: players.lookup_url said that there is nobody.", "", "players")
    return Finding(
        f"{named} was not registered when this call came.",
        "Register the player, or set players.unknown to create or lookup; then have the partner report it again.",
        "players",
    )


def about_item(skus: Sequence[str]) -> Finding:
    named = f"The item {spelled(skus[0])}" if len(skus) == 1 else "An item"
    return Finding(
        f"{named} was not registered when this call came.",
        "Register the item, or set items.unknown to accept; then have the partner report it again.",
        "items",
    )


def in_vain(call: Refused, known: Known, attempts: Attempts, what: str = "body") -> Finding:
    """Nothing that was tried fits."""
    changed = {name: since for name, since in known.changed(call).items() if name.startswith(f"{call.partner}.")}
    hint = "Compare the key in the partner's dashboard with the one that is set here, character by character."
    if changed:
        name, since = max(changed.items(), key=lambda each: each[1])
        hint = (
            f"An older value of the {NAMES.get(name, name)} was given up on {since[:10]}: if the partner still signs "
            "with that one, set the new one there."
        )
    if attempts.is_spent:
        hint += " It is large, so that not everything was tried."
    return Finding(
        f"It was signed with a key that is not stored here, or the {what} was changed on the way.", hint, "integration"
    )


def untried(call: Refused) -> Finding | None:
    """Why a signature over the body cannot be tried, where that is so."""
    if call.is_whole:
        return None
    if call.text("body"):
        return Finding(
            f"The body of this call ({call.body_size:,} bytes) is larger than what is kept of one, so its signature "
            "cannot be tried.",
            "Look at a smaller call that was refused for the same reason.",
            is_sure=False,
        )
    return Finding(
        "Bodies of logins may hold passwords and are not kept, so the signature of this call cannot be tried.",
        "Look at a call to another address that was refused for the same reason: the key is the same.",
        is_sure=False,
    )
