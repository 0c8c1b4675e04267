"""Signatures of entries: a recipe says how the game signs and how that is written into ``custom_data``.

A recipe is ``pipe-sha256``, ``pipe-hmac-sha256``, or ``FORMAT = ALGORITHM(MESSAGE)`` as game and gateway have agreed:

    {user}|{time}|{signature} = sha256({user}|{time}|{key})
    {signature}.{time}.{nonce} = hmac-sha512-base64url({user}.{campaign}.{time}.{nonce})

FORMAT is what ``custom_data`` looks like. The algorithms are sha256, sha512, hmac-sha256 and hmac-sha512, each in
hexadecimal unless it ends in ``-base64`` or ``-base64url``; a plain digest has the shared ``{key}`` in its message, an
HMAC is keyed with it. ``{time}`` is Unix seconds, ``{time_ms}`` milliseconds, ``{nonce}`` whatever the signer made up,
``{user}`` and ``{campaign}`` are the entry's own parameters. Who signs, what and when cannot be read in two ways: times
have a fixed length, and a value never holds the character that ends it in the message.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from coinslot.access.keyring import SecretValue
from coinslot.base import signing

LONGEST_CUSTOM_DATA = 255  # it becomes PlayCamp's callbackId, of which nobody has told the limit

NAMED: Mapping[str, str] = {
    "pipe-sha256": "{user}|{time}|{signature} = sha256({user}|{time}|{key})",
    "pipe-hmac-sha256": "{user}|{time}|{signature} = hmac-sha256({user}|{time})",
}

_BETWEEN = re.compile(r"=\s*(?P<algorithm>[A-Za-z0-9-]+)\(")
_ALGORITHM = re.compile(r"(?P<hmac>hmac-)?(?P<digest>sha256|sha512)(?P<encoding>-base64(?:url)?)?")
_IN_FORM = ("user", "campaign", "time", "time_ms", "signature", "nonce")
_IN_MESSAGE = ("user", "campaign", "time", "time_ms", "nonce", "key")
_TIMES = ("time", "time_ms")
_OF_ANY_LENGTH = ("user", "campaign", "nonce")
_TIME_DIGITS = {"time": 10, "time_ms": 13}  # from 2001 to 2286


class SignatureError(Exception):
    """The entry is not proved. ``reason`` is malformed, player, signature or timestamp.

    ``found`` is what the owner may know of it: ``signed_at`` where the signature is right and its time is not, and the
    players that ``custom_data`` and entry name, ``signed`` and ``entering``, where they differ.
    """

    def __init__(self, reason: str, **found: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.found = found


@dataclass(frozen=True)
class Proof:
    """An entry that was signed with ``key``. ``signature`` has one spelling, however it was sent."""

    key: SecretValue
    user: str
    signed_at: float
    custom_data: str = field(repr=False)
    signature: str = field(repr=False)


@dataclass(frozen=True)
class Recipe:
    """How entries are signed. In ``form`` and ``message`` every second part is the name of a place."""

    digest: str
    is_keyed: bool
    encoding: str
    form: tuple[str, ...]
    message: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, with_campaign: bool = False) -> "Recipe":
        """The recipe. ``with_campaign`` has a named one sign the campaign too, after the player.

        Raises ValueError with a sentence for the owner.
        """
        return _parsed(text, with_campaign)

    @property
    def time_place(self) -> str:
        return next(place for place in _TIMES if place in self.form[1::2])

    def read(self, custom_data: str, user: str | None, campaign: str) -> dict[str, str] | None:
        """The values in ``custom_data``; None when it does not look as it should with this player and campaign.

        Without a ``user`` it is the one that ``custom_data`` names.
        """
        if "campaign" not in self.message[1::2]:
            campaign = ""
        if user is None:
            match = self._of_anybody.fullmatch(f"{campaign}\0{custom_data}")
        else:
            match = self._of_user.fullmatch(f"{user}\0{campaign}\0{custom_data}")
        return None if match is None or "user" not in match.groupdict() else match.groupdict()

    def sign(self, key: bytes, values: Mapping[str, str]) -> str:
        """The signature of these values. Raises ValueError where its message could be another entry's."""
        for place, end in _ends(self.message):
            if end in values[place]:
                raise ValueError(f"{place}: {end!r} ends it in what is signed, so it must not be in it")
        known = {place: value.encode() for place, value in values.items()} | {"key": key}
        message = b"".join(known[part] if i % 2 else part.encode() for i, part in enumerate(self.message))
        if self.is_keyed:
            digest = hmac.digest(key, message, self.digest)
        else:
            digest = hashlib.new(self.digest, message).digest()
        if self.encoding == "hex":
            return digest.hex()
        if self.encoding == "base64":
            return base64.b64encode(digest).decode()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    @cached_property
    def _of_user(self) -> re.Pattern[str]:
        return re.compile(rf"(?P<user>[^\0]*)\0(?P<campaign>[^\0]*)\0{self._pattern({'user', 'campaign'})}")

    @cached_property
    def _of_anybody(self) -> re.Pattern[str]:
        return re.compile(rf"(?P<campaign>[^\0]*)\0{self._pattern({'campaign'})}")

    def _pattern(self, named: set[str]) -> str:
        size = hashlib.new(self.digest).digest_size
        letters = (size * 8 + 5) // 6
        spelled = {
            "user": r"[^\0]+",
            "campaign": "",
            "time": f"[0-9]{{{_TIME_DIGITS['time']}}}",
            "time_ms": f"[0-9]{{{_TIME_DIGITS['time_ms']}}}",
            "nonce": "[A-Za-z0-9_-]{1,64}",
            "signature": {
                "hex": f"[0-9A-Fa-f]{{{2 * size}}}",
                "base64": f"[A-Za-z0-9+/]{{{letters}}}={{0,2}}",
                "base64url": f"[A-Za-z0-9_-]{{{letters}}}={{0,2}}",
            }[self.encoding],
        }
        pattern = ""
        for i, part in enumerate(self.form):
            if i % 2 == 0:
                pattern += re.escape(part)
            elif part in named:
                pattern += f"(?P={part})"
            else:
                pattern += f"(?P<{part}>{spelled[part]})"
                named = named | {part}
        return pattern


def sign(recipe: Recipe, key: bytes, user: str, campaign: str | None, at: float) -> str:
    """The ``custom_data`` of an entry signed at a time. Raises ValueError where the recipe cannot sign it."""
    values = {
        "user": user,
        "campaign": campaign or "",
        "time": str(int(at)),
        "time_ms": str(int(at * 1000)),
        "nonce": secrets.token_hex(8),
    }
    values["signature"] = recipe.sign(key, values)
    custom_data = "".join(values[part] if i % 2 else part for i, part in enumerate(recipe.form))
    if len(custom_data) > LONGEST_CUSTOM_DATA:
        raise ValueError(f"the signed data would have more than {LONGEST_CUSTOM_DATA} characters")
    return custom_data


def verify(
    recipe: Recipe,
    keys: Iterable[SecretValue],
    custom_data: str,
    user: str | None,
    campaign: str | None,
    now: float,
    tolerance_seconds: float,
    future_seconds: float,
) -> Proof:
    """The proof that one of ``keys`` signed this entry, not too long ago and not in the future.

    Without a ``user`` it is the one that ``custom_data`` names. Raises :class:`SignatureError`.
    """
    if len(custom_data) > LONGEST_CUSTOM_DATA:
        raise SignatureError("malformed")
    values = recipe.read(custom_data, user, campaign or "")
    if values is None:
        anothers = None if user is None else recipe.read(custom_data, None, campaign or "")
        if user is None or anothers is None:
            raise SignatureError("malformed")
        raise SignatureError("player", signed=anothers["user"], entering=user)
    given = values["signature"].lower() if recipe.encoding == "hex" else values["signature"].rstrip("=")
    try:
        signatures = [(key, recipe.sign(key.value, values)) for key in keys]
    except ValueError:
        raise SignatureError("malformed") from None
    # All of them, so that timing does not tell which one is near.
    matching = [(key, ours) for key, ours in signatures if signing.is_equal(ours.rstrip("="), given)]
    if not matching:
        raise SignatureError("signature")
    signed_at = int(values[recipe.time_place]) / (1000 if recipe.time_place == "time_ms" else 1)
    if not now - tolerance_seconds <= signed_at <= now + future_seconds:
        raise SignatureError("timestamp", signed_at=repr(signed_at))
    key, signature = matching[0]
    return Proof(key, values["user"], signed_at, custom_data, signature)


@lru_cache(maxsize=64)
def _parsed(text: str, with_campaign: bool) -> Recipe:
    written = NAMED.get(text, text)
    if with_campaign and text in NAMED:
        written = written.replace("{user}", "{user}|{campaign}")
    written = written.strip()
    match = _BETWEEN.search(written, 1)
    if match is None or not written.endswith(")") or not written.isprintable():
        raise ValueError(f"use {', '.join(NAMED)}, or FORMAT = ALGORITHM(MESSAGE)")
    algorithm = _ALGORITHM.fullmatch(match["algorithm"])
    if algorithm is None:
        raise ValueError(
            "use one of sha256, sha512, hmac-sha256, hmac-sha512, with -base64 or -base64url where it is not "
            "hexadecimal"
        )
    form, message = (
        _parts(written[: match.start()].rstrip(), _IN_FORM, "FORMAT"),
        _parts(written[match.end() : -1], _IN_MESSAGE, "MESSAGE"),
    )
    in_form, in_message = form[1::2], message[1::2]
    if in_form.count("signature") != 1:
        raise ValueError("FORMAT must have {signature}, once")
    if sum(in_form.count(place) for place in _TIMES) != 1:
        raise ValueError("FORMAT must have {time} or {time_ms}, once")
    time_place = next(place for place in _TIMES if place in in_form)
    for place in ("user", time_place):
        if place not in in_message:
            raise ValueError(f"MESSAGE must have {{{place}}}: it would not be signed")
    for place in ("campaign", "nonce"):
        if place in in_form and place not in in_message:
            raise ValueError(f"FORMAT has {{{place}}} and MESSAGE has not: it would not be signed")
    for place in ("nonce", *_TIMES):
        if place in in_message and place not in in_form:
            raise ValueError(f"MESSAGE has {{{place}}} and FORMAT has not: nobody could verify it")
    is_keyed = algorithm["hmac"] is not None
    if is_keyed and "key" in in_message:
        raise ValueError("leave {key} out of an HMAC's MESSAGE: it is keyed with it anyway")
    if not is_keyed and "key" not in in_message:
        raise ValueError("MESSAGE must have {key}: without it everybody could sign")
    for place, end in _ends(message):
        if not end:
            raise ValueError(f"put a separator after {{{place}}} in MESSAGE: where it ends could not be told")
    encoding = (algorithm["encoding"] or "-hex").removeprefix("-")
    return Recipe(algorithm["digest"], is_keyed, encoding, form, message)


def _parts(text: str, places: Iterable[str], what: str) -> tuple[str, ...]:
    parts = re.split(r"{([^{}]*)}", text)
    unknown = [part for part in parts[1::2] if part not in places]
    if unknown or any(brace in part for part in parts[::2] for brace in "{}"):
        raise ValueError(f"{what} may have the places {', '.join(f'{{{place}}}' for place in places)}, and no other")
    return tuple(parts)


def _ends(message: tuple[str, ...]) -> list[tuple[str, str]]:
    """The character that ends each value of no fixed length, "" where there is none; of the last one none is needed."""
    found = [(part, message[i + 1][:1]) for i, part in enumerate(message) if i % 2 and part in _OF_ANY_LENGTH]
    return found[:-1]
