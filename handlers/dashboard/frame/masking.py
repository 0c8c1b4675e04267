"""Bodies as they came, readable, with a value hidden unless its field is known to tell nothing about a person.

Partners add fields without notice, so the list names what is harmless; a new field is hidden until the owner presses
Show. What looks like an e-mail address, a telephone, card or IP number is hidden in every field. The database keeps
all bytes.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from coinslot.base import literals

HIDDEN = "•••"
DEEPEST = 60
LONGEST_PARSED = 256 * 1024  # bytes; a larger body is hidden as a whole

# The value of a field is shown when each word of its name is one of these: orderId, price_in_cents, CreatedAt.
_HARMLESS = frozenset(
    """
    accepted action actual adjusted amount amounts app appcharge applied at attempt attributes award awarded balance
    base bonus bought bundle callback campaign canceled cancelled category cents charge chargeback client code
    completed converted cost count country coupon created creator credit currency current custom customer data date day
    decimal deliver delivered description discount display dispute distribution dollar duration ended environment error
    estimated event events exchange expires external fee fees flow fraction free from game grant granted group gross
    has id in index is item items key kind language level lines list local locale market max message metadata
    method milliseconds min minor mission mode month name net new next note number of offer offers old option order
    orders original package paid partner payload payment payments payout percent percentage period platform
    play playcamp player playtem point points position premium price priced prices processed product products progress
    project promo promotion provider publisher purchase purchased quantity rate reason received reference refund
    refunded region result retry reward rewards rolling rule rules sale season seconds sequence server session
    settlement shard shipped sku skus slot source sponsor sponsored stage start started state status step stock store
    sub subtotal sum symbol tab tags tax test time timestamp title to total transaction transactions type types unit
    units until updated usd used user usn utm valid value variant version web webhook webstore window year zone
    """.split()
)
# A name that contains "name" is a person's in one of these, or when it has one of these words.
_PERSONS = re.compile(
    r"customer|player|user|person|buyer|billing|shipping|contact|owner|cardholder|payer|profile|account|display|client"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_LOOKS = (
    re.compile(r"[^\s@\"'<>=&]{1,64}@[^\s@\"'<>&]{1,255}\.[\w-]{2,63}"),  # e-mail
    re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"),  # IPv4
    re.compile(r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{1,4}:){3,7}(?::?[0-9A-Fa-f]{1,4}){1,4}(?![0-9A-Fa-f:])"),  # IPv6
    re.compile(r"(?<![0-9A-Za-z:])(?:[0-9A-Fa-f]{1,4}:){1,6}:(?:[0-9A-Fa-f]{1,4}:?){0,6}[0-9A-Fa-f](?![0-9A-Za-z:])"),
    re.compile(r"(?<![\w+])\+\d[\d ()./-]{6,18}\d(?!\w)"),  # an international telephone number
    re.compile(r"(?<![\w-])(?:\d{4}[ -]){3}\d{3,4}(?![\w-])"),  # a card number, in groups
)


@dataclass(frozen=True)
class Shown:
    """``pretty`` is None when the body could not be parsed: then all of it is hidden."""

    pretty: str | None
    is_masked: bool


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its order and its repeated names."""


class _Number(str):
    """A number, its digits as they came."""


def masked(body: bytes) -> Shown:
    """A body pretty-printed, with :data:`HIDDEN` in place of whatever may be personal."""
    document = _document(body)
    return Shown(None if document is None else _sendable(_mask(document, "", False, 0)), True)


def revealed(body: bytes) -> Shown:
    """A body pretty-printed, with everything in it."""
    document = _document(body)
    return Shown(as_text(body) if document is None else _sendable(document), False)


def as_text(body: bytes) -> str:
    """The bytes as they came, to look at: what is not UTF-8 is written as ``\\xNN``."""
    return body.decode("utf-8", errors="backslashreplace")


def masked_text(text: str) -> str:
    """Text with what looks like a person's address or number hidden."""
    for looks in _LOOKS if "@" in text else _LOOKS[1:]:
        text = looks.sub(HIDDEN, text)
    return text


def part_of(text: str | None, kept: int = 2) -> str | None:
    """The first and last ``kept`` characters of an id or a name, enough to recognise it. None stays None."""
    if text is None:
        return None
    return HIDDEN if len(text) <= 2 * kept else f"{text[:kept]}{HIDDEN}{text[-kept:]}"


def is_harmless(name: str, is_in_person: bool) -> bool:
    """Whether the value of a field may be shown. ``is_in_person``: the field is inside an object about a person."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or not _HARMLESS.issuperset(words) or {"tax", "id"}.issubset(words):
        return False
    return "name" not in words or not (is_in_person or any(map(_PERSONS.search, words)))


def _sendable(document: Any) -> str:
    # JSON can spell half a surrogate pair; UTF-8 cannot.
    return _printed(document, 0).encode("utf-8", "backslashreplace").decode()


def _document(body: bytes) -> Any:
    """The body as JSON, or as the fields of a query with Base64 of JSON decoded. None when it is neither."""
    if len(body) > LONGEST_PARSED:
        return None
    text = as_text(body)
    document = _json(text)
    if document is not None:
        return document
    if "=" not in text or re.search(r"\s", text.strip()):
        return None
    pairs = parse_qsl(text.strip(), keep_blank_values=True, max_num_fields=200) if text.count("&") < 200 else []
    return _Pairs((name, _decoded(value)) for name, value in pairs) or None


def _json(text: str) -> Any:
    try:
        document = json.loads(
            text, object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_Number
        )
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, list) else None


def _decoded(value: str) -> Any:
    """The content of a field when it is Base64 of JSON, or of the notation in Playtem's guide; else the text."""
    text = re.sub(r"\s", "", unquote(value.replace(" ", "+"))).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        inner, _ = literals.decoded(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except (binascii.Error, ValueError):
        return value
    document = _json(inner)
    if document is not None:
        return document
    try:
        return _json(json.dumps({str(name): each for name, each in literals.members(inner)})) or value
    except (ValueError, TypeError, RecursionError):
        return value


def _mask(value: Any, name: str, is_in_person: bool, depth: int) -> Any:
    if depth > DEEPEST:
        return HIDDEN
    if isinstance(value, _Pairs):
        inside = is_in_person or bool(_PERSONS.search(name.lower()))
        return _Pairs((key, _mask(each, key, inside, depth + 1)) for key, each in value)
    if isinstance(value, list):
        return [_mask(each, name, is_in_person, depth + 1) for each in value]
    if value is None or isinstance(value, bool) or value == "":
        return value
    if not is_harmless(name, is_in_person):
        return HIDDEN
    if isinstance(value, _Number):
        return value
    inner = _json(value)  # JSON in a text, as session metadata comes
    return masked_text(value) if inner is None else _printed(_mask(inner, name, is_in_person, depth + 1), None)


def _printed(value: Any, indent: int | None, depth: int = 0) -> str:
    """JSON with numbers as they came; with ``indent`` None on one line."""
    if isinstance(value, list) and depth > DEEPEST:
        return '"…"'
    inner = None if indent is None else indent + 2
    if isinstance(value, _Pairs):
        members = [f"{_text(name)}: {_printed(each, inner, depth + 1)}" for name, each in value]
        return _enclosed("{", "}", members, indent)
    if isinstance(value, list):
        return _enclosed("[", "]", [_printed(each, inner, depth + 1) for each in value], indent)
    return str(value) if isinstance(value, _Number) else _text(value)


def _enclosed(begin: str, end: str, members: list[str], indent: int | None) -> str:
    if not members:
        return begin + end
    if indent is None:
        return begin + ", ".join(members) + end
    blanks = " " * indent
    return begin + ",".join(f"\n{blanks}  {each}" for each in members) + f"\n{blanks}{end}"


_text: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False).encode
