"""What partners sent, readable, with what tells who somebody is blotted out until it is asked for.

Wider than what partners document, since they add fields without notice: names of fields, and the looks of values
wherever they stand. Nothing is lost, only hidden: the bytes are in the database as they came.
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
LONGEST_PARSED = 256 * 1024  # what is longer is shown as text

# By the name of a field, in lower case and without _ and -.
_PERSONAL = re.compile(
    r"e?mail|phone|mobile|telephone|address|street|^line[12]$|^addr|zip|postal|postcode|city$|^town$|birth|^dob$|^age$|gender"
    r"|firstname|lastname|fullname|surname|givenname|familyname|middlename|playername|customername|username|cardholder"
    r"|displayname|nickname|^name$|passw|secret|token|signature$|cardnumber|^last4$|^bin$|iban|^pan$|cvc|cvv|taxid|vatid|passport"
    r"|ip$|ipv?[46]|ipaddr|useragent|deviceid|fingerprint|latitude|longitude|^lat$|^lng$|avatar|profileimage|picture$"
)
# A `name` is a person's where it stands in one of these, and a product's elsewhere.
_PERSONS = re.compile(
    r"customer|player|user|person|buyer|billing|shipping|contact|owner|cardholder|payer|profile|account"
)
_THINGS = re.compile(r"^name$|displayname|nickname")

_LOOKS = (
    re.compile(r"[^\s@\"'<>=&]{1,64}@[^\s@\"'<>&]{1,255}\.[\w-]{2,63}"),  # e-mail
    re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"),  # IPv4
    re.compile(r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{1,4}:){3,7}(?::?[0-9A-Fa-f]{1,4}){1,4}(?![0-9A-Fa-f:])"),  # IPv6
    re.compile(r"(?<![0-9A-Za-z:])(?:[0-9A-Fa-f]{1,4}:){1,6}:(?:[0-9A-Fa-f]{1,4}:?){0,6}[0-9A-Fa-f](?![0-9A-Za-z:])"),
    re.compile(r"(?<![\w+])\+\d[\d ()./-]{6,18}\d(?!\w)"),  # a telephone number, written internationally
    re.compile(r"(?<![\w-])(?:\d{4}[ -]){3}\d{3,4}(?![\w-])"),  # a card number, in groups
)


@dataclass(frozen=True)
class Shown:
    """``pretty`` is None where the body could not be read, and all of it hidden then."""

    pretty: str | None
    is_masked: bool


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its order and its repeats."""


class _Number(str):
    """A number, its digits as they came."""


def masked(body: bytes) -> Shown:
    """A body pretty-printed, personal values replaced by :data:`HIDDEN`."""
    return _shown(body, is_masked=True)


def revealed(body: bytes) -> Shown:
    """The same with everything in it."""
    return _shown(body, is_masked=False)


def as_text(body: bytes) -> str:
    """The bytes as they came, for looking at: what is no UTF-8 is written as ``\\xNN``."""
    return body.decode("utf-8", errors="backslashreplace")


def masked_text(text: str) -> str:
    """Text with what looks like somebody's address or number hidden."""
    for looks in _LOOKS if "@" in text else _LOOKS[1:]:
        text = looks.sub(HIDDEN, text)
    return text


def part_of(text: str | None, kept: int = 2) -> str | None:
    """Enough of an id or a name to know it again: its ends. None stays None."""
    if text is None:
        return None
    return HIDDEN if len(text) <= 2 * kept else f"{text[:kept]}{HIDDEN}{text[-kept:]}"


def in_json(value: object) -> str:
    """A value of ours as JSON on one line, with nothing hidden."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _shown(body: bytes, is_masked: bool) -> Shown:
    document = _document(body)
    if document is None:
        return Shown(None if is_masked else as_text(body), is_masked)
    if is_masked:
        document = _mask(document, "", False, 0)
    # A half of a pair, as `\\ud83d` leaves it, cannot be sent.
    return Shown(_printed(document, 0).encode("utf-8", "backslashreplace").decode(), is_masked)


def _document(body: bytes) -> Any:
    """The body as JSON, or as the fields of a query, in which Base64 of JSON is opened. None: neither."""
    if len(body) > LONGEST_PARSED:
        return None
    text = body.decode("utf-8", errors="backslashreplace")
    document = _json(text)
    if document is not None:
        return document
    if "=" not in text or re.search(r"\s", text.strip()):
        return None
    pairs = parse_qsl(text.strip(), keep_blank_values=True, max_num_fields=200) if text.count("&") < 200 else []
    return _Pairs((name, _opened(value)) for name, value in pairs) or None


def _json(text: str) -> Any:
    try:
        document = json.loads(
            text, object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_Number
        )
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, list) else None


def _opened(value: str) -> Any:
    """What a field's Base64 holds, where it holds JSON or the guide's notation; else the text."""
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


def _mask(value: Any, name: str, is_person: bool, depth: int) -> Any:
    if depth > DEEPEST:
        return HIDDEN
    if isinstance(value, _Pairs):
        inside = is_person or bool(_PERSONS.search(_plain(name)))
        return _Pairs((key, _mask(each, key, inside, depth + 1)) for key, each in value)
    if isinstance(value, list):
        return [_mask(each, name, is_person, depth + 1) for each in value]
    if value is None or isinstance(value, bool) or value == "":
        return value
    if _is_personal(name, is_person):
        return HIDDEN
    if isinstance(value, _Number):
        return value
    inner = _json(value)  # JSON within text, as session metadata comes
    if inner is not None:
        return _printed(_mask(inner, name, is_person, depth + 1), None)
    return masked_text(value)


def _is_personal(name: str, is_person: bool) -> bool:
    plain = _plain(name)
    if _THINGS.search(plain):
        return is_person or plain != "name"
    return bool(_PERSONAL.search(plain))


def _plain(name: str) -> str:
    return re.sub(r"[_\-\s.]", "", name).lower()


def _printed(value: Any, indent: int | None, depth: int = 0) -> str:
    """JSON with numbers as they came; ``indent`` None is all on one line."""
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
    return begin + "".join(f"\n{blanks}  {each}," for each in members)[:-1] + f"\n{blanks}" + end


_text: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False).encode
