"""Why Playtem's calls are refused: the hypotheses in the order they are tried."""

import json
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import permutations
from urllib.parse import parse_qsl

from coinslot.base import literals
from coinslot.operations.refusals import Refused
from handlers.kit import explain
from handlers.kit.explain import Hypothesis, Known, Tried, every, spelled
from handlers.kit.explain_keys import Key, digest_hex, hmac_hex
from handlers.kit.explain_words import Finding
from handlers.playtem import payload
from handlers.playtem.explain_words import FINDINGS
from handlers.playtem.payload import FORMATS, Order, PayloadError

# Separators to try between the items, and between the four parts; the guide names none.
BETWEEN_ITEMS = ("", ",", ", ", "|", ";", " ", "-", "_", "&", "\n")
BETWEEN_PARTS = ("", "|", ",", ";", ":", "-", "_", "&", "+", ".", " ", "\n", ", ")
FIELDS = ("AppId", "UserId", "Items", "TransactionId")


def diagnose(call: Refused, known: Known) -> Finding:
    """Why this call was refused: the first of the known causes that fits."""
    return explain.diagnosed(Case(call, known), HYPOTHESES)


class Case(explain.Case):
    """A refused call of Playtem's, and what its query brings."""

    partner = "playtem"
    service = "Playtem"
    what = "call"
    signed_by = "playtem.secret"
    findings = FINDINGS

    @cached_property
    def given(self) -> list[tuple[str, str]]:
        return parse_qsl(self.call.text("query"), keep_blank_values=True, encoding="utf-8", errors="replace")

    @cached_property
    def values(self) -> list[str]:
        name = self.setting("parameter", "payload").lower()
        return [value for key, value in self.given if key.lower() == name]

    @cached_property
    def order(self) -> Order | None:
        return _order(self.values[0]) if self.values else None

    @property
    def text(self) -> str:
        """The decoded payload. Raises ValueError where it is not Base64."""
        return literals.decoded(payload.decode_base64(self.values[0]))[0]

    @property
    def most_likely(self) -> list[Key]:
        """Playtem's secrets as they are, this game's first: more keys times more texts would be too much."""
        return [key for key in self.likely if key.secret.name == self.signed_by][:4]

    def made(self, key: bytes, message: bytes) -> str:
        return hmac_hex(key, message, "sha1")


# What cannot be decoded


def parameter(case: Case) -> Finding | None:
    name = case.setting("parameter", "payload")
    if len(case.values) == 1:
        return None
    if case.values:
        return case.say("parameter_repeated", name=name, count=len(case.values))
    readable = [key for key, value in case.given if _order(value)]
    if readable:
        return case.say("other_parameter", there=spelled(readable[0]), name=name)
    others = ", ".join(dict.fromkeys(key for key, _ in case.given))
    there = f"; there are: {spelled(others)}" if others else ": the query is empty"
    return case.say("parameter_missing", name=name, there=there)


def no_items(case: Case) -> Finding | None:
    return case.say("no_items") if case.order is not None and not case.order.items else None


def undecodable(case: Case) -> Finding | None:
    value = case.values[0]
    if len(value) > payload.LONGEST_PAYLOAD:
        return case.say("too_long", length=len(value), most=payload.LONGEST_PAYLOAD)
    if not value:
        return case.say("empty")
    if value.lstrip()[:1] in ("{", "["):
        return case.say("plain_json")
    try:
        raw = payload.decode_base64(value)
    except ValueError:
        return case.say("no_base64")
    text, encoding = literals.decoded(raw)
    if encoding != "utf-8" and case.order is None:
        return case.say("no_text")
    return case.say("base64_twice") if _order(text) else None


def not_json(case: Case) -> Finding | None:
    if case.order is not None:
        is_readable = case.order.items_text is not None or case.setting("accept_single_quotes") == "on"
        return None if is_readable else case.say("single_quotes")
    try:
        document = json.loads(case.text)
    except (ValueError, RecursionError) as error:
        where = f", character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
        return case.say("no_json", where=where)
    if not isinstance(document, dict):
        return case.say("no_object")
    values = {str(name).lower(): value for name, value in reversed(document.items())}
    lacking = [name for name in (*FIELDS, "Signature") if name.lower() not in values]
    if lacking:
        return case.say("lacking", names=" and ".join(lacking))
    signature = values["signature"]
    if isinstance(signature, str) and len(signature) == 64:
        return case.say("sha256")
    if not isinstance(signature, str) or not re.fullmatch(r"[0-9A-Fa-f]{40}", signature):
        return case.say("no_signature")
    return case.say("no_id")


def readable_by_now(case: Case) -> Finding | None:
    return case.say("readable_by_now")


# The signature


def wrong_app(case: Case) -> Finding | None:
    if case.order is None:
        return None
    app_id, wanted = case.order.app_id, case.setting("app_id")
    if app_id == wanted:
        return case.say("app_id_set_since")
    others = _games_of(case, app_id)
    whose = f", which is the game {others[0]}" if others else ""
    return case.say("app_id", app_id=spelled(app_id), whose=whose, ours=spelled(wanted) or "not set")


def another_key(case: Case) -> Finding | None:
    settings = {f"playtem.{name}": case.setting(name) for name in ("items_separator", "field_separator")}
    texts = [(payload.signed_text(case.order, name, settings), name) for name in FORMATS if case.order is not None]
    found = _signed(case, case.stored, [(text, name) for text, name in texts if text is not None])
    if found is None:
        return None
    key, name = found
    if case.is_right(key) and name not in case.setting("formats").split(","):
        return case.say("another_format", format=name)
    return case.about_key(key)


def another_separator(case: Case) -> Finding | None:
    texts = [
        (between.join(parts.values()), (between, parts["Items"], between_items))
        for parts, between_items in _written(case.order)
        for between in BETWEEN_PARTS
    ]
    found = _signed(case, case.most_likely, texts)
    if found is None:
        return None
    between, items, between_items = found[1]
    settings = [f"playtem.field_separator to {between!r}"] if between != case.setting("field_separator") else []
    settings += [f"playtem.items_separator to {between_items!r}"] if between_items is not None else []
    to_set = f"Set {' and '.join(settings)}." if settings else ""
    return case.say("another_separator", between=between, items=spelled(items), to_set=to_set)


def plain_digest(case: Case) -> Finding | None:
    """It is signed by plain SHA-1 over secret and text; the guide says HMAC."""
    texts = [("".join(parts.values()), None) for parts, _ in _written(case.order)]
    is_plain = any(
        _signed(case, case.most_likely, texts, made)
        for made in (lambda key, text: digest_hex(key + text, "sha1"), lambda key, text: digest_hex(text + key, "sha1"))
    )
    return case.say("plain_digest") if is_plain else None


def another_order(case: Case) -> Finding | None:
    """The four parts in another order, or three of them."""
    texts = [
        (between.join(parts[name] for name in names), names)
        for parts, _ in _written(case.order)[:4]
        for names in (*permutations(FIELDS, 4), *permutations(FIELDS, 3))
        for between in ("", case.setting("field_separator"))
    ]
    found = _signed(case, case.most_likely[:2], texts)
    return found and case.say("another_order", signed=" + ".join(found[1]), guide=" + ".join(FIELDS))


def _signed(
    case: Case, keys: list[Key], texts: list[tuple[str, Tried]], made: Callable[[bytes, bytes], str] | None = None
) -> tuple[Key, Tried] | None:
    """The key and the text that make the order's signature."""
    if case.order is None:
        return None
    messages = [(text.encode(case.order.encoding, "backslashreplace"), tried) for text, tried in texts]
    return case.search(every(keys, messages), case.order.signature.lower(), made)


def _written(order: Order | None) -> list[tuple[dict[str, str], str | None]]:
    """The four parts for each way to write the items, with the separator to set; None where no setting does it."""
    if order is None:
        return []
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
    return [
        (dict(zip(FIELDS, (order.app_id, order.user_id, items, order.transaction_id), strict=True)), between)
        for items, between in found.items()
    ]


def _order(value: str) -> Order | None:
    try:
        return payload.decode(value)
    except PayloadError:
        return None


# Refusals that are not about the signature


def no_game(case: Case) -> Finding | None:
    if case.call.text("path").strip("/").count("/") == 2:
        return explain.no_game(case)
    if case.order is None:
        return None
    app_id, same = spelled(case.order.app_id), _games_of(case, case.order.app_id)
    row = "app_id_of_none" if not same else "app_id_of_one" if len(same) == 1 else "app_id_of_several"
    return case.say(row, app_id=app_id, games=" and ".join(same))


def _games_of(case: Case, app_id: str) -> list[str]:
    return [game.slug for game in case.known.games if game.settings["playtem.app_id"] == app_id]


def player(case: Case) -> Finding | None:
    if case.order is not None and case.setting("user_id") != "player":
        return case.say("facebook_id", user_id=spelled(case.order.user_id), setting=case.setting("user_id"))
    return explain.player(case, "" if case.order is None else case.order.user_id)


def item(case: Case) -> Finding | None:
    return explain.item(case, () if case.order is None else case.order.items)


HYPOTHESES: Mapping[str, tuple[Hypothesis[Case], ...]] = {
    "malformed": (parameter, no_items, undecodable, not_json, readable_by_now),
    "app_id": (wrong_app,),
    "signature": (another_key, another_separator, plain_digest, another_order, explain.in_vain),
    "unknown_game": (no_game,),
    "unknown_player": (player,),
    "unknown_item": (item,),
}
