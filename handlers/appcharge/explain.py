"""Why Appcharge's calls are refused: the signature doctor's hypotheses, in the order they are tried.

Each is a function of the refused call that returns the sentence, or None where it does not fit.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from coinslot.base import exact, signing
from coinslot.base.spellings import shown
from coinslot.games.games import Game
from coinslot.operations.refusals import Refused
from handlers.appcharge import encryption as payload
from handlers.appcharge import orders, receive
from handlers.appcharge.signature import SignatureError, parse
from handlers.kit import explain
from handlers.kit.explain import Attempts, Finding, Key, Known, spelled

# An order is sent again by itself within half a minute only, which is over when this is read.
PASSES = "Calls that come from now on pass. For an order, press Retry Award in Appcharge's dashboard."

_HEX = re.compile(rb"\s*(?:[0-9A-Fa-f]{2})+\s*")


def diagnose(call: Refused, known: Known) -> Finding:
    """Why this call was refused, as far as trying can tell."""
    game = known.game(call.game_id)
    looked = Looked(call, known, game)
    for each in HYPOTHESES.get(call.reason, ()):
        found = each(looked)
        if found is not None:
            return found
    return Finding("Nothing here knows why.", is_sure=False)


@dataclass(frozen=True)
class Looked:
    """A refused call, and what its header says."""

    call: Refused
    known: Known
    game: Game | None
    attempts: Attempts = field(default_factory=Attempts)

    @property
    def header(self) -> str:
        return self.call.headers.get("signature", self.call.text("signature"))

    def setting(self, name: str) -> str:
        return "" if self.game is None else self.game.settings[f"appcharge.{name}"]

    @cached_property
    def stored(self) -> list[Key]:
        """Every secret there is, the likeliest first."""
        return explain.keys(self.known, self.game, "appcharge.")

    def valid(self) -> list[Key]:
        """The keys that may sign here, by what is configured now."""
        names = ["appcharge.main_key"]
        names += ["appcharge.secondary_key"] if self.setting("secondary_role") == "backup" else []
        names += ["appcharge.events_secret"] if self.call.endpoint == "events" else []
        return [key for key in self.stored if key.game is self.game and not key.how and key.secret.name in names]

    def signed(self, key: Key, message: bytes, v1: str) -> bool:
        return self.attempts.allow(len(message)) and explain.hmac_hex(key.value, message) == v1

    def name(self, key: Key) -> str:
        return explain.name_of(key, self.game)


# The signature


def no_header(looked: Looked) -> Finding | None:
    if looked.header:
        return None
    call, body = looked.call, looked.call.body
    if _HEX.fullmatch(body):
        opened = _opening(looked, body)
        if opened is not None:
            return Finding(
                f"The body is encrypted as in 2023, and opens with {looked.name(opened[0])} and "
                f"{looked.name(opened[1])}; appcharge.payload is json.",
                "Set appcharge.payload to aes.",
                "settings",
            )
        return Finding(
            "The body looks encrypted as in 2023 and there is no signature, while appcharge.payload is json.",
            "If the store still encrypts, set appcharge.payload to aes, and both keys.",
            "settings",
            is_sure=False,
        )
    for name, value in call.headers.items():
        if "sign" in name and explain.as_hex(value.rpartition("v1=")[2]):
            return Finding(
                f"The signature came in the header {spelled(name)}; Appcharge sends it in the header signature.",
                "A proxy that renames it has to let it be.",
            )
    return Finding(
        "The call carries no signature.",
        "Either it does not come from Appcharge, or a proxy on the way drops the header signature.",
    )


def header_of_another_form(looked: Looked) -> Finding | None:
    """One that cannot be read; what it signs is tried all the same."""
    try:
        parse(looked.header)
    except SignatureError:
        pass
    else:
        return None
    parts = [part.strip().partition("=") for part in looked.header.split(",")]
    times = [value.strip() for name, _, value in parts if name.strip() == "t"]
    given = [value.strip() for name, _, value in parts if name.strip() == "v1"]
    if len(times) > 1 or len(given) > 1:
        return Finding(
            "The header signature names its time or its v1 more than once.",
            "Something on the way joins two headers, or signs a second time.",
        )
    digest = explain.as_hex(given[0] if given else looked.header)
    if not times:
        return _without_time(looked, digest)
    if not times[0].isdigit():
        return Finding("The time in the header signature (t=) is no number.", "Appcharge sends Unix milliseconds.")
    if not given:
        return Finding("The header signature has a time and no v1.", "It was cut, or somebody else wrote it.")
    if digest:
        for key in looked.stored:
            if looked.signed(key, f"{times[0]}.".encode() + looked.call.body, digest):
                return Finding(
                    f"It is signed with {looked.name(key)}, and the v1 is written in Base64 in place of hexadecimal.",
                    "Appcharge writes 64 hexadecimal digits; whoever signs here is somebody else.",
                )
    return Finding(
        f"The v1 in the header signature has {len(given[0])} characters, and not 64 hexadecimal digits.",
        "It was cut on the way, or somebody else wrote it.",
    )


def _without_time(looked: Looked, digest: str) -> Finding:
    if digest and looked.call.is_whole:
        for key in looked.stored:
            if looked.signed(key, looked.call.body, digest):
                return Finding(
                    f"It is signed with {looked.name(key)} over the body alone: the header lacks its time (t=).",
                    "That would stay good for ever, so it is refused. Appcharge signs t, a full stop and the body.",
                )
    return Finding(
        "The header signature lacks its time (t=).",
        "Appcharge writes t=<time>,v1=<signature>; it was cut, or not theirs.",
    )


def untried(looked: Looked) -> Finding | None:
    return explain.untried(looked.call)


def right_by_now(looked: Looked) -> Finding | None:
    timestamp, v1 = parse(looked.header)
    message = timestamp.encode() + b"." + looked.call.body
    for key in looked.valid():
        if looked.signed(key, message, v1):
            return Finding(
                f"It is signed with {looked.name(key)}, which was set, or let in, after this call came.",
                PASSES,
            )
    return None


def another_key(looked: Looked) -> Finding | None:
    timestamp, v1 = parse(looked.header)
    message = timestamp.encode() + b"." + looked.call.body
    for key in looked.stored:
        if looked.signed(key, message, v1):
            return _signed_with(looked, key)
    return None


def _signed_with(looked: Looked, key: Key) -> Finding:
    name = looked.name(key)
    if key.how:
        return Finding(
            f"It is signed with {name}, {key.how}.",
            "Set the key here again, exactly as the partner's dashboard shows it.",
            "integration",
        )
    if looked.game is None or key.game.id != looked.game.id:
        return Finding(
            f"It is signed with {name}.",
            f"The address of this game is pasted where {key.game.slug}'s belongs, or its key was set "
            "at the wrong game.",
            "integration",
        )
    if key.secret.name == "appcharge.secondary_key":
        return Finding(
            f"It is signed with {name}, while appcharge.secondary_role is iv.",
            "Set appcharge.secondary_role to backup, or have Appcharge sign with the main key.",
            "settings",
        )
    return Finding(
        f"It is signed with {name} in place of the main key.",
        "One of the two was set in the other's place, here or in Appcharge's dashboard.",
        "integration",
    )


def another_time(looked: Looked) -> Finding | None:
    """The header's time counts another unit than the one that was signed, or is not signed as it should be."""
    timestamp, v1 = parse(looked.header)
    body = looked.call.body
    messages = [
        (body, "over the body alone, without the time"),
        (timestamp.encode() + body, "without the full stop between time and body"),
        (body + b"." + timestamp.encode(), "over body and time in the wrong order"),
        (body + timestamp.encode(), "over body and time in the wrong order"),
    ]
    if len(timestamp) > 3 and timestamp.endswith("000"):
        messages.append((timestamp[:-3].encode() + b"." + body, "with its time in seconds and sent with milliseconds"))
    messages.append((f"{timestamp}000.".encode() + body, "with its time in milliseconds and sent with seconds"))
    if timestamp != str(int(timestamp)):
        messages.append((f"{int(timestamp)}.".encode() + body, "with the time printed anew, without its noughts"))
    for key in looked.stored:
        if key.is_likely:
            for message, how in messages:
                if looked.signed(key, message, v1):
                    return Finding(
                        f"It is signed with {looked.name(key)}, but {how}.",
                        "Appcharge signs the time exactly as the header has it, a full stop, and the body.",
                    )
    return None


def another_body(looked: Looked) -> Finding | None:
    timestamp, v1 = parse(looked.header)
    for key, reading in explain.by_reading(looked.stored, looked.game, looked.call.body, looked.attempts):
        if looked.signed(key, timestamp.encode() + b"." + reading.value, v1):
            own = looked.game is not None and key.game.id == looked.game.id
            with_key = (
                "" if own and key.secret.name == "appcharge.main_key" else f" It is signed with {looked.name(key)}."
            )
            return Finding(
                f"A proxy or middleware {reading.how} after it was signed.{with_key}",
                "What stands in front of Coinslot has to pass the body on byte for byte.",
            )
    return None


def in_vain(looked: Looked) -> Finding | None:
    return explain.in_vain(looked.call, looked.known, looked.attempts)


# The time


def stale(looked: Looked) -> Finding | None:
    try:
        timestamp, _ = parse(looked.header)
    except SignatureError:
        return None
    unit = explain.wrong_unit(timestamp)
    if unit:
        return Finding(
            f"Its time counts {unit}, in place of milliseconds or seconds.",
            "The signature is right; the sender is not.",
        )
    name = "events_tolerance_seconds" if looked.call.endpoint == "events" else "tolerance_seconds"
    tolerance = float(looked.setting(name) or 300)
    return explain.about_time(looked.call, looked.known, signing.unix_seconds(timestamp), tolerance, _signed_at)


def _signed_at(call: Refused) -> float | None:
    try:
        return signing.unix_seconds(parse(call.headers.get("signature", call.text("signature")))[0])
    except SignatureError:
        return None


# The publisher token, and the project


def token(looked: Looked) -> Finding | None:
    given = looked.call.headers.get("x-publisher-token", looked.call.text("token"))
    proved = "" if looked.setting("payload") == "aes" else "The signature is right, but "
    if not given:
        others = [name for name in looked.call.headers if "token" in name]
        also = f" A header {spelled(others[0])} is there." if others else ""
        return Finding(
            f"{_begin(proved)}the header x-publisher-token is missing.{also}",
            "A proxy on the way may drop it. For events alone appcharge.events_without_token lets it be.",
            "settings",
        )
    for key in looked.stored:
        if key.value.decode("utf-8", "replace") == given:
            is_own = looked.game is not None and key.game.id == looked.game.id
            if is_own and key.secret.name == "appcharge.publisher_token" and not key.how:
                return Finding("The publisher token that it carries was set after this call came.", PASSES)
            return Finding(
                f"{_begin(proved)}it carries {looked.name(key)}{f', {key.how},' if key.how else ''} as its publisher "
                "token.",
                "Set the publisher token here again, as Appcharge's dashboard shows it.",
                "integration",
            )
    mine = [] if looked.game is None else looked.game.keys("appcharge.publisher_token")
    for secret in mine:
        ours = secret.value.decode("utf-8", "replace")
        if ours.strip().lower() == given.strip().lower():
            return Finding(
                f"{_begin(proved)}its publisher token differs from the one that is set here in blanks or capitals "
                "alone.",
                "Set it here again, exactly as Appcharge's dashboard shows it.",
                "integration",
            )
        if len(given) >= 8 and (ours.startswith(given) or given.startswith(ours)):
            return Finding(
                f"{_begin(proved)}its publisher token and the one that is set here begin alike: one of them was cut.",
                "Set it here again, all of it.",
                "integration",
            )
    return Finding(
        f"{_begin(proved)}its publisher token is not one that is stored here.",
        "Copy the publisher token from Appcharge's dashboard again: it may have been made anew there.",
        "integration",
    )


def _begin(proved: str) -> str:
    return proved or "The call is encrypted, but "


def project(looked: Looked) -> Finding | None:
    given, wanted = looked.call.headers.get("x-project-id", ""), looked.setting("project_id")
    if not given:
        return None
    others = [game.slug for game in looked.known.games if game.settings["appcharge.project_id"] == given]
    whose = f", which is that of the game {others[0]}" if others else ""
    return Finding(
        f"It comes from the Appcharge project {spelled(given)}{whose}; appcharge.project_id is "
        f"{spelled(wanted) or 'empty by now'}.",
        "Correct appcharge.project_id, or the address in that project.",
        "settings",
    )


# The encrypted payloads of 2023


def encryption(looked: Looked) -> Finding | None:
    body = looked.call.body
    if looked.call.body_size > payload.LARGEST_BODY:
        return Finding(
            f"The body has {looked.call.body_size:,} bytes; encrypted, no more than {payload.LARGEST_BODY:,}."
        )
    if untried(looked) is not None:
        return untried(looked)
    if not _HEX.fullmatch(body):
        return _not_encrypted(looked)
    pair = _opening(looked, body)
    if pair is None:
        sizes = [
            f"the {name} has {len(secret.value)} characters and needs {size}"
            for name, size in (("main_key", payload.KEY_BYTES), ("secondary_key", payload.VECTOR_BYTES))
            for secret in ([] if looked.game is None else looked.game.keys(f"appcharge.{name}"))
            if len(secret.value) != size
        ]
        if sizes:
            return Finding(
                f"It cannot be opened: {' and '.join(sizes)}.".replace("_key", " key"),
                "Copy both keys from Appcharge's dashboard again.",
                "integration",
            )
        return Finding(
            "It was encrypted with keys that are not stored here, or changed on the way.",
            "Compare both keys with those in Appcharge's dashboard.",
            "integration",
        )
    key, vector = pair
    if (key.secret.name, vector.secret.name) == ("appcharge.secondary_key", "appcharge.main_key"):
        return Finding(
            "Main key and secondary key are swapped: it opens when each is taken for the other.",
            "Set the one of 32 characters as the main key and the one of 16 as the secondary key.",
            "integration",
        )
    if looked.game is None or key.game.id != looked.game.id:
        return Finding(
            f"It opens with {looked.name(key)} and {looked.name(vector)}.",
            f"The address of this game is pasted where {key.game.slug}'s belongs.",
            "integration",
        )
    return _inside(looked, key, vector)


def _not_encrypted(looked: Looked) -> Finding:
    is_json = looked.call.body.lstrip()[:1] == b"{"
    if is_json and looked.header:
        try:
            timestamp, v1 = parse(looked.header)
        except SignatureError:
            timestamp, v1 = "", ""
        for key in looked.stored:
            if looked.signed(key, timestamp.encode() + b"." + looked.call.body, v1):
                return Finding(
                    f"It is not encrypted but signed, with {looked.name(key)}, while appcharge.payload is aes.",
                    "Set appcharge.payload to json: the store has left the encrypted payloads behind.",
                    "settings",
                )
    if is_json:
        return Finding(
            "The body is plain JSON, while appcharge.payload is aes.",
            "Set appcharge.payload to json if the store signs its calls.",
            "settings",
        )
    if not looked.call.body:
        return Finding("The body is empty.", "Nothing of Appcharge's is: somebody else called, or a proxy dropped it.")
    return Finding(
        "The body is neither hexadecimal digits nor JSON.", "Appcharge wrote encrypted bodies as hexadecimal digits."
    )


def _inside(looked: Looked, key: Key, vector: Key) -> Finding:
    """It opens with this game's own keys: then the token inside was wrong, or the keys were set since."""
    _, document, _ = payload.decrypt(looked.call.body, [key.secret], [vector.secret])
    if looked.call.headers.get("x-publisher-token") is None:
        inside = document.get("publisherToken")
        tokens = [] if looked.game is None else [each.value for each in looked.game.keys("appcharge.publisher_token")]
        if not isinstance(inside, str) or inside.encode() not in tokens:
            what = "carries no publisherToken" if inside is None else "carries another publisherToken than is set here"
            return Finding(
                f"It opens with this game's keys, and {what}.",
                "Set the publisher token as the store has it.",
                "integration",
            )
    return Finding(f"It opens with {looked.name(key)}, which was set after this call came.", PASSES)


def _opening(looked: Looked, body: bytes) -> tuple[Key, Key] | None:
    """The key and the vector that open an encrypted body."""
    stored = [key for key in looked.stored if not key.how]
    for key in (each for each in stored if len(each.value) == payload.KEY_BYTES):
        for vector in (each for each in stored if len(each.value) == payload.VECTOR_BYTES):
            if key.game is vector.game and looked.attempts.allow(len(body)):
                try:
                    payload.decrypt(body, [key.secret], [vector.secret])
                except SignatureError:
                    continue
                return key, vector
    return None


# What is no matter of proofs


def address(looked: Looked) -> Finding | None:
    return explain.about_address(looked.call, looked.game, "appcharge")


def no_game(looked: Looked) -> Finding | None:
    slug = looked.call.text("path").strip("/").split("/")[1:2]
    return explain.about_no_game(looked.call, looked.known, "Appcharge", (slug or [""])[0], receive.is_configured)


def malformed(looked: Looked) -> Finding | None:
    if looked.call.endpoint == "auth":
        return Finding(
            "The login lacks something that it needs, or is no JSON; bodies of logins are not kept.",
            "Have the store send one again and look at its own log.",
            is_sure=False,
        )
    try:
        if looked.call.endpoint == "orders":
            orders.parse_order(_plain(looked))
        elif not isinstance(exact.parse_json(_plain(looked), allow_half_pairs=True), dict):
            raise ValueError("it is not a JSON object")
    except ValueError as error:
        return Finding(
            f"The call proved itself, but its body cannot be read: {spelled(error)}.",
            "Sending it again does not help. If Appcharge sends such bodies now, Coinslot has to learn it.",
        )
    return Finding(
        "The call proved itself, but something in its body is not as it has to be.",
        "Look at the body below.",
        is_sure=False,
    )


def player(looked: Looked) -> Finding | None:
    return explain.about_player(str(_document(looked).get("playerId") or ""), looked.game)


def item(looked: Looked) -> Finding | None:
    try:
        skus = [sku for sku, _ in orders.parse_order(_plain(looked))["lines"]]
    except ValueError:
        skus = []
    return explain.about_item(list(dict.fromkeys(skus)))


def status(looked: Looked) -> Finding | None:
    return Finding(
        "The order's actionStatus was in neither appcharge.completed_statuses nor appcharge.failed_statuses.",
        "Add it to one of the two; for an order that was paid, then press Retry Award in Appcharge's dashboard.",
        "settings",
    )


def misplaced(looked: Looked) -> Finding | None:
    return Finding(
        "It is an order, and this address takes none. Nothing was credited.",
        "Paste the address of orders into Appcharge's dashboard; then press Retry Award there for this order.",
        "integration",
    )


def misplaced_event(looked: Looked) -> Finding | None:
    address = looked.call.text("path").rpartition("/")[0] + "/events"
    return Finding(
        "It is an event, and this address takes none. Nothing was kept of it.",
        f"Paste the address of events, {shown(address, 200)}, into Appcharge's dashboard.",
        "integration",
    )


def deep_link(looked: Looked) -> Finding | None:
    if not looked.setting("deep_link"):
        return Finding(
            "The store wants to open the game for a login, and appcharge.deep_link is not set.",
            "Set appcharge.deep_link, or leave the address for it empty in Appcharge's dashboard.",
            "settings",
        )
    return Finding("appcharge.deep_link was not set when this call came; now it is.")


def common(looked: Looked) -> Finding | None:
    return explain.COMMON.get(looked.call.reason)


def _plain(looked: Looked) -> bytes:
    """The JSON of a call that has proved itself."""
    body = looked.call.body
    if looked.setting("payload") == "aes" and looked.game is not None:
        with suppress(SignatureError):
            body, _, _ = payload.decrypt(
                body, looked.game.keys("appcharge.main_key"), looked.game.keys("appcharge.secondary_key")
            )
    return body


def _document(looked: Looked) -> dict[str, object]:
    try:
        found = exact.parse_json(_plain(looked), allow_half_pairs=True)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def unopened(looked: Looked) -> Finding | None:
    return explain.unopened(looked.call)


HYPOTHESES: Mapping[str, tuple[explain.Hypothesis[Looked], ...]] = {
    "signature": (
        unopened,
        no_header,
        header_of_another_form,
        untried,
        right_by_now,
        another_key,
        another_time,
        another_body,
        in_vain,
    ),
    "timestamp": (unopened, stale),
    "token": (unopened, token),
    "project": (unopened, project),
    "encryption": (unopened, encryption),
    "address": (address,),
    "unknown_game": (unopened, no_game),
    "malformed": (unopened, malformed),
    "unknown_player": (unopened, player),
    "unknown_item": (unopened, item),
    "deep_link": (deep_link,),
    "unknown_status": (status,),
    "misplaced": (misplaced,),
    "misplaced_event": (misplaced_event,),
    "conflict": (common,),
    "game_down": (common,),
}
