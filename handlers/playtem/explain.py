"""Why Playtem's calls are refused: the signature doctor's hypotheses, in the order they are tried."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations, product
from urllib.parse import parse_qsl

from coinslot.base import literals
from coinslot.games.games import Game
from coinslot.operations.refusals import Refused
from handlers.kit import explain
from handlers.kit.explain import Attempts, Finding, Key, Known, spelled
from handlers.playtem import credit, payload
from handlers.playtem.payload import FORMATS, Order, PayloadError

# What may stand between the items, and between the four parts. The guide says nothing of either.
BETWEEN_ITEMS = ("", ",", ", ", "|", ";", " ", "-", "_", "&", "\n")
BETWEEN_PARTS = ("", "|", ",", ";", ":", "-", "_", "&", "+", ".", " ", "\n", ", ")
FIELDS = ("AppId", "UserId", "Items", "TransactionId")


def diagnose(call: Refused, known: Known) -> Finding:
    """Why this call was refused, as far as trying can tell."""
    looked = Looked(call, known, known.game(call.game_id))
    for each in HYPOTHESES.get(call.reason, ()):
        found = each(looked)
        if found is not None:
            return found
    return Finding("Nothing here knows why.", is_sure=False)


@dataclass(frozen=True)
class Looked:
    """A refused call, and what its query brings."""

    call: Refused
    known: Known
    game: Game | None
    attempts: Attempts = field(default_factory=Attempts)

    @cached_property
    def given(self) -> list[tuple[str, str]]:
        return parse_qsl(self.call.text("query"), keep_blank_values=True, encoding="utf-8", errors="replace")

    def setting(self, name: str, default: str = "") -> str:
        return default if self.game is None else self.game.settings[f"playtem.{name}"]

    @cached_property
    def values(self) -> list[str]:
        name = self.setting("parameter", "payload").lower()
        return [value for key, value in self.given if key.lower() == name]

    @cached_property
    def order(self) -> Order | None:
        try:
            return payload.decode(self.values[0])
        except (PayloadError, IndexError):
            return None

    @cached_property
    def stored(self) -> list[Key]:
        """Every secret there is, the likeliest first."""
        return explain.keys(self.known, self.game, "playtem.")

    def signed(self, key: Key, text: str, order: Order) -> bool:
        return (
            self.attempts.allow(len(text)) and payload.signature_of(key.value, text, order.encoding) == order.signature
        )

    def name(self, key: Key) -> str:
        return explain.name_of(key, self.game)


# What cannot be decoded


def parameter(looked: Looked) -> Finding | None:
    name = looked.setting("parameter", "payload")
    if len(looked.values) == 1:
        return None
    if looked.values:
        return Finding(f"The parameter {name} is there {len(looked.values)} times.", "Playtem sends it once.")
    readable = [key for key, value in looked.given if _is_order(value)]
    if readable:
        return Finding(
            f"The payload came in the parameter {spelled(readable[0])}; {name} is expected.",
            f"Set playtem.parameter to {spelled(readable[0])}.",
            "settings",
        )
    others = ", ".join(dict.fromkeys(key for key, _ in looked.given))
    return Finding(
        f"The parameter {name} is missing{f'; there are: {spelled(others)}' if others else ': the query is empty'}.",
        "If Playtem names it otherwise, set playtem.parameter.",
        "settings",
    )


def undecodable(looked: Looked) -> Finding | None:
    value = looked.values[0]
    if len(value) > payload.LONGEST_PAYLOAD:
        return Finding(
            f"The payload has {len(value):,} characters; more than {payload.LONGEST_PAYLOAD:,} are not read."
        )
    if not value:
        return Finding("The payload is empty.", "Playtem's calls carry one; somebody may have tried the address.")
    if value.lstrip()[:1] in ("{", "["):
        return Finding("The payload is JSON as it is, and not Base64 of it.", "Playtem sends Base64.")
    try:
        raw = payload.decode_base64(value)
    except (ValueError, UnicodeError):
        return Finding(
            "The payload is not Base64, or was cut on the way.", "Compare its length with what Playtem sent."
        )
    text, encoding = literals.decoded(raw)
    if encoding != "utf-8" and looked.order is None:
        return Finding(
            "The payload is Base64 of something that is no text: it may be encrypted.",
            "That is how Playtem links accounts; this address is for credits.",
        )
    if _is_order(text):
        return Finding("The payload was put into Base64 twice.", "Somebody between Playtem and here encodes it again.")
    return None


def not_json(looked: Looked) -> Finding | None:
    text, _ = literals.decoded(payload.decode_base64(looked.values[0]))
    if looked.order is not None:
        if looked.order.items_text is not None or looked.setting("accept_single_quotes") == "on":
            return None
        return Finding(
            "The payload is in the guide's notation with single quotes, which playtem.accept_single_quotes leaves out.",
            "Set playtem.accept_single_quotes to on.",
            "settings",
        )
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f", character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
        return Finding(
            f"The payload is Base64 of something that is no JSON{where}.", "It was cut, or somebody made it up."
        )
    if not isinstance(document, dict):
        return Finding(
            "The payload's JSON is no object.", "Playtem sends AppId, UserId, Items, TransactionId, Signature."
        )
    lower = {str(name).lower() for name in document}
    lacking = [name for name in (*FIELDS, "Signature") if name.lower() not in lower]
    if lacking:
        return Finding(
            f"The payload lacks {' and '.join(lacking)}.", "Playtem sends all five; somebody else made this one."
        )
    signature = next(value for name, value in document.items() if str(name).lower() == "signature")
    if isinstance(signature, str) and len(signature) == 64:
        return Finding(
            "The Signature has 64 digits, as of HMAC-SHA256; Playtem's guide says HMAC-SHA1, which has 40.",
            "Ask Playtem which one it is.",
        )
    if not isinstance(signature, str) or not re.fullmatch(r"[0-9A-Fa-f]{40}", signature):
        return Finding("The Signature is not 40 hexadecimal digits.", "It was cut, or somebody made it up.")
    return Finding("A field of the payload holds what can be no id.", "Look at the call below.", is_sure=False)


def no_items(looked: Looked) -> Finding | None:
    if looked.order is not None and not looked.order.items:
        return Finding(
            "The call proved itself, and there are no items in it to credit.", "Ask Playtem what it stands for."
        )
    return None


def readable_by_now(looked: Looked) -> Finding | None:
    return Finding("By what is set now, the payload can be read: a setting was changed after this call came.")


# The signature


def wrong_app(looked: Looked) -> Finding | None:
    order, wanted = looked.order, looked.setting("app_id")
    if order is None:
        return None
    others = [game.slug for game in looked.known.games if game.settings["playtem.app_id"] == order.app_id]
    whose = f", which is the game {others[0]}" if others else ""
    if order.app_id == wanted:
        return Finding("playtem.app_id was another one when this call came; now it is that of the call.")
    return Finding(
        f"It names the AppId {spelled(order.app_id)}{whose}; playtem.app_id of this game is "
        f"{spelled(wanted) or 'not set'}.",
        "Correct playtem.app_id, or the address that Playtem has for that game.",
        "settings",
    )


def another_key(looked: Looked) -> Finding | None:
    order = looked.order
    if order is None:
        return None
    for key in looked.stored:
        for name in FORMATS:
            text = payload.signed_text(order, name, _settings(looked))
            if text is not None and looked.signed(key, text, order):
                return _signed_with(looked, key, name)
    return None


def _signed_with(looked: Looked, key: Key, name: str) -> Finding:
    is_own = looked.game is not None and key.game.id == looked.game.id
    if key.how:
        return Finding(
            f"It is signed with {looked.name(key)}, {key.how}.",
            "Set the secret here again, exactly as agreed.",
            "integration",
        )
    if not is_own:
        return Finding(
            f"It is signed with {looked.name(key)}.",
            f"Playtem has the address of this game where {key.game.slug}'s belongs, or the secret was set at the "
            "wrong one.",
            "integration",
        )
    if key.secret.name != "playtem.secret":
        return Finding(f"It is signed with {looked.name(key)} in place of the Playtem secret.", "", "integration")
    allowed = looked.setting("formats").split(",")
    if name not in allowed:
        return Finding(
            f"The secret is right, but Items are signed in the format {name}, which playtem.formats leaves out.",
            f"Add {name} to playtem.formats.",
            "settings",
        )
    return Finding(
        f"It is signed with {looked.name(key)}, which was set after this call came.", "The next one will pass."
    )


def another_separator(looked: Looked) -> Finding | None:
    order = looked.order
    if order is None:
        return None
    for key in _likely(looked):
        for words, between in product(_written(order), BETWEEN_PARTS):
            text = between.join((order.app_id, order.user_id, words[0], order.transaction_id))
            if looked.signed(key, text, order):
                settings = (
                    [f"playtem.field_separator to {between!r}"] if between != looked.setting("field_separator") else []
                )
                settings += [f"playtem.items_separator to {words[1]!r}"] if words[1] is not None else []
                return Finding(
                    "The secret is right, but what is signed has other separators: "
                    f"{between!r} between its parts, {spelled(words[0])!r} for its items.",
                    f"Set {' and '.join(settings)}." if settings else "",
                    "settings",
                )
    return None


def another_order(looked: Looked) -> Finding | None:
    """The four parts in another order, or some of them alone, or with the application's name."""
    order = looked.order
    if order is None:
        return None
    for key in _likely(looked)[:2]:
        for items, _ in _written(order)[:4]:
            parts = dict(zip(FIELDS, (order.app_id, order.user_id, items, order.transaction_id), strict=True))
            for count in (4, 3):
                for names in permutations(FIELDS, count):
                    for between in ("", looked.setting("field_separator")):
                        if looked.signed(key, between.join(parts[name] for name in names), order):
                            return Finding(
                                f"The secret is right, but it signs {' + '.join(names)}; the guide says "
                                f"{' + '.join(FIELDS)}.",
                                "Ask Playtem which it is: no setting here takes another order.",
                            )
    return None


def plain_digest(looked: Looked) -> Finding | None:
    """SHA-1 over secret and text, where the guide says HMAC."""
    order = looked.order
    if order is None:
        return None
    for key in _likely(looked):
        for items, _ in _written(order):
            text = "".join((order.app_id, order.user_id, items, order.transaction_id)).encode()
            for message in (key.value + text, text + key.value):
                if (
                    looked.attempts.allow(len(message))
                    and explain.digest_hex(message, "sha1").upper() == order.signature
                ):
                    return Finding(
                        "The secret is right, but it is signed by SHA-1 over the secret and the text, and not by "
                        "HMAC-SHA1.",
                        "Ask Playtem for the HMAC that its guide describes: the other can be extended by a stranger.",
                    )
    return None


def in_vain(looked: Looked) -> Finding | None:
    return explain.in_vain(looked.call, looked.known, looked.attempts, "call")


def _settings(looked: Looked) -> dict[str, str]:
    return {
        "playtem.items_separator": looked.setting("items_separator"),
        "playtem.field_separator": looked.setting("field_separator"),
    }


def _likely(looked: Looked) -> list[Key]:
    """Playtem's secrets as they are, this game's first: more keys times more texts would be too much."""
    return [key for key in looked.stored if key.secret.name == "playtem.secret" and not key.how][:4]


def _written(order: Order) -> list[tuple[str, str | None]]:
    """The items as text, and the separator where a setting could have them so."""
    plain = [(between.join(order.items), between) for between in BETWEEN_ITEMS]
    quoted = [
        each if not is_quoted else json.dumps(each, ensure_ascii=False)
        for each, is_quoted in zip(order.items, order.quoted, strict=True)
    ]
    lists = [f"[{','.join(quoted)}]", f"[{', '.join(quoted)}]", ",".join(quoted), f"[{','.join(order.items)}]"]
    lists += [] if order.items_text is None else [order.items_text]
    found: dict[str, str | None] = {}
    for text, between in [*plain, *((each, None) for each in lists)]:
        found.setdefault(text, between)
    return list(found.items())


def _is_order(value: str) -> bool:
    try:
        payload.decode(value)
    except PayloadError:
        return False
    return True


# What is no matter of proofs


def address(looked: Looked) -> Finding | None:
    return explain.about_address(looked.call, looked.game, "playtem")


def no_game(looked: Looked) -> Finding | None:
    parts = looked.call.text("path").strip("/").split("/")
    if len(parts) == 3:
        return explain.about_no_game(looked.call, looked.known, "Playtem", parts[1], credit.is_configured)
    order = looked.order
    if order is None:
        return None
    same = [game.slug for game in looked.known.games if game.settings["playtem.app_id"] == order.app_id]
    if len(same) > 1:
        return Finding(
            f"It names the AppId {spelled(order.app_id)}, which {' and '.join(same)} both have.",
            "Correct playtem.app_id of one of them.",
        )
    if same:
        return Finding(f"It names the AppId {spelled(order.app_id)}; the game {same[0]} was not set up for it then.")
    return Finding(
        f"It names the AppId {spelled(order.app_id)}, which no game here has as its playtem.app_id.",
        "Set playtem.app_id, or give Playtem the address that names the game.",
    )


def player(looked: Looked) -> Finding | None:
    order = looked.order
    if order is not None and looked.setting("user_id") != "player":
        return Finding(
            f"No player is linked to the Facebook id {spelled(order.user_id)} (playtem.user_id is "
            f"{looked.setting('user_id')}).",
            "Have the game push the player's identities, or set playtem.user_id to player.",
            "players",
        )
    return explain.about_player("" if order is None else order.user_id, looked.game)


def item(looked: Looked) -> Finding | None:
    return explain.about_item([] if looked.order is None else list(dict.fromkeys(looked.order.items)))


def common(looked: Looked) -> Finding | None:
    return explain.COMMON.get(looked.call.reason)


def unopened(looked: Looked) -> Finding | None:
    return explain.unopened(looked.call)


HYPOTHESES: Mapping[str, tuple[explain.Hypothesis[Looked], ...]] = {
    "malformed": (unopened, parameter, no_items, undecodable, not_json, readable_by_now),
    "app_id": (unopened, wrong_app),
    "signature": (unopened, another_key, another_separator, plain_digest, another_order, in_vain),
    "address": (address,),
    "unknown_game": (unopened, no_game),
    "unknown_player": (unopened, player),
    "unknown_item": (unopened, item),
    "conflict": (common,),
    "game_down": (common,),
}
