"""Decode a Playtem payload, whatever the query string did to it, and verify its signature.

The guide leaves much open, so every reasonable spelling is read; the package's docstring lists them.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from coinslot.access.keyring import SecretValue
from coinslot.base import literals, signing
from coinslot.games import registry

LONGEST_PAYLOAD = 8192
FORMATS = ("concat", "comma", "json_compact", "json_spaced", "raw")

_BLANKS = re.compile(r"[ \t\n\r]*")  # RFC 8259, section 2


class PayloadError(Exception):
    """The payload cannot be decoded, or proves nothing. ``reason`` is for the owner."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Order:
    """A decoded payload. Ids are text with the digits and letters that came; ``quoted`` says which came as text."""

    app_id: str
    user_id: str
    items: tuple[str, ...]
    transaction_id: str
    signature: str = field(repr=False)  # 40 upper-case hexadecimal digits
    quoted: tuple[bool, ...]
    items_text: str | None  # the list exactly as it stood in the JSON; None when it was not JSON
    encoding: str = "utf-8"  # of the payload


def decode(payload: str, accept_single_quotes: bool = True) -> Order:
    """Base64, text, JSON, fields. Raises :class:`PayloadError` (``malformed``) for whatever is not a whole order."""
    try:
        text, encoding = literals.decoded(decode_base64(payload))
        pairs = _parse(text, accept_single_quotes)
        items = _one(pairs, "Items")
        elements = items.value if isinstance(items.value, list) else [items.value]
        signature = _one(pairs, "Signature").value
        if not isinstance(signature, str) or not re.fullmatch(r"[0-9A-Fa-f]{40}", signature):
            raise ValueError("Signature")
        return Order(
            app_id=_id(_one(pairs, "AppId").value),
            user_id=_id(_one(pairs, "UserId").value),
            items=tuple(_id(element) for element in elements),
            transaction_id=_id(_one(pairs, "TransactionId").value),
            signature=signature.upper(),
            quoted=tuple(not isinstance(element, _Digits) for element in elements),
            items_text=items.text,
            encoding=encoding,
        )
    except (ValueError, RecursionError, MemoryError):
        raise PayloadError("malformed") from None


def decode_base64(payload: str) -> bytes:
    """The bytes of Base64 text that a query string may have changed. Raises ValueError.

    In this order: a blank becomes ``+``; ``%`` is decoded, since the text was encoded twice; line breaks are removed;
    ``-_`` are the URL-safe alphabet; padding is added again. Other characters are refused.
    """
    if not 0 < len(payload) <= LONGEST_PAYLOAD:
        raise ValueError("length")
    text = payload.replace(" ", "+")
    if "%" in text:
        text = unquote(text, errors="strict")
    text = re.sub(r"[\r\n\t]", "", text).replace("-", "+").replace("_", "/").rstrip("=")
    if len(text) % 4 == 1:
        raise ValueError("padding")
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), validate=True)


def verify(order: Order, keys: Iterable[SecretValue], settings: Mapping[str, str]) -> tuple[SecretValue, str]:
    """The secret that signed the order, and the format that matched. Raises :class:`PayloadError`.

    Once the game's AppId is known, no other is accepted: the signature alone does not say where AppId ends.
    """
    if settings["playtem.app_id"] not in ("", order.app_id):
        raise PayloadError("app_id")
    for secret in keys:
        for name in settings["playtem.formats"].split(","):
            message = signed_text(order, name, settings)
            if message is None:
                continue
            signatures = [signature_of(secret.value, message, encoding) for encoding in {"utf-8", order.encoding}]
            if any(signing.is_equal(each, order.signature) for each in signatures):
                return secret, name
    raise PayloadError("signature")


def signed_text(order: Order, format_name: str, settings: Mapping[str, str]) -> str | None:
    """The text a format signs; None where the order cannot be written in it."""
    json_items = [
        item if not is_quoted else json.dumps(item, ensure_ascii=False)
        for item, is_quoted in zip(order.items, order.quoted, strict=True)
    ]
    items = {
        "concat": settings["playtem.items_separator"].join(order.items),
        "comma": ",".join(order.items),
        "json_compact": f"[{','.join(json_items)}]",
        "json_spaced": f"[{', '.join(json_items)}]",
        "raw": order.items_text,
    }[format_name]
    if items is None:
        return None
    return settings["playtem.field_separator"].join((order.app_id, order.user_id, items, order.transaction_id))


def signature_of(secret: bytes, message: str, encoding: str = "utf-8") -> str:
    """HMAC-SHA1 of a text in this encoding: 40 upper-case hexadecimal digits."""
    # Characters that Latin-1 lacks can only have come as escapes; no known caller signs such a text.
    return signing.hmac_hex("sha1", secret, message.encode(encoding, "backslashreplace")).upper()


class _Digits(str):
    """An id that came as a number: its digits as sent. The type says that it had no quotes."""


@dataclass(frozen=True)
class _Member:
    value: Any
    text: str | None


def _parse(text: str, accept_single_quotes: bool) -> list[tuple[str, _Member]]:
    """Members of the object, each with its own text. Raises ValueError."""
    try:
        return _parse_json(text)
    except ValueError:
        if not accept_single_quotes:
            raise
    # The guide prints its sample like Python's literals, and without the outer braces.
    pairs = literals.members(text)
    return [(name, _Member(_digits(value), None)) for name, value in pairs if isinstance(name, str)]


def _parse_json(text: str) -> list[tuple[str, _Member]]:
    decoder = json.JSONDecoder(parse_int=_Digits, parse_float=_Digits, parse_constant=_no_constant)

    def skip(position: int) -> int:
        blanks = _BLANKS.match(text, position)
        return int(blanks.end()) if blanks else position

    def expect(position: int, characters: str) -> str:
        if position >= len(text) or text[position] not in characters:
            raise ValueError("not a JSON object")
        return text[position]

    members: list[tuple[str, _Member]] = []
    position = skip(0)
    expect(position, "{")
    position = skip(position + 1)
    while True:
        expect(position, '"')
        name, position = decoder.raw_decode(text, position)
        position = skip(position)
        expect(position, ":")
        start = skip(position + 1)
        value, end = decoder.raw_decode(text, start)
        members.append((name, _Member(value, text[start:end])))
        position = skip(end)
        if expect(position, ",}") == "}":
            break
        position = skip(position + 1)
    if skip(position + 1) != len(text):
        raise ValueError("text after the object")
    return members


def _one(members: list[tuple[str, _Member]], name: str) -> _Member:
    """The member of this name, in this spelling or else in any case. Raises ValueError unless there is exactly one."""
    found = [member for key, member in members if key == name]
    found = found or [member for key, member in members if key.lower() == name.lower()]
    if len(found) != 1:
        raise ValueError(name)
    return found[0]


def _id(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("an id is a number or text")
    return registry.checked_id(str(value))


def _digits(value: Any) -> Any:
    """Python's literals as the JSON parser gives them: whole numbers as digits, nothing else that is a number."""
    if isinstance(value, list):
        return [_digits(element) for element in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return _Digits(value)
    return value


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
