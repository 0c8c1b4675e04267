"""Signatures of entries: a recipe says how the game signs and how that is written into ``custom_data``.

A recipe is ``pipe-sha256``, ``pipe-hmac-sha256``, or ``FORMAT = ALGORITHM(MESSAGE)`` as agreed with the game:

    {user}|{time}|{signature} = sha256({user}|{time}|{key})
    {signature}.{time}.{nonce} = hmac-sha512-base64url({user}.{campaign}.{time}.{nonce})

FORMAT is the form of ``custom_data``. The algorithms are sha256, sha512, hmac-sha256 and hmac-sha512, each in
hexadecimal unless it ends in ``-base64`` or ``-base64url``. A plain digest has the shared ``{key}`` in its message; an
HMAC is keyed with it. ``{time}`` is Unix seconds, ``{time_ms}`` milliseconds, ``{nonce}`` is chosen by the signer,
``{user}`` and ``{campaign}`` are the entry's own parameters. No two entries have the same message: times have a fixed
length, and a value never holds the character that ends it in the message.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from coinslot.access.keyring import SecretValue
from coinslot.base import signing

LONGEST_CUSTOM_DATA = 255  # it becomes PlayCamp's callbackId, whose limit is not documented
FUTURE_SECONDS = 5.0  # how far the game's clock may be ahead

NAMED: Mapping[str, str] = {
    "pipe-sha256": "{user}|{time}|{signature} = sha256({user}|{time}|{key})",
    "pipe-hmac-sha256": "{user}|{time}|{signature} = hmac-sha256({user}|{time})",
}

_ALGORITHM = re.compile(
    r"=\s*((?P<hmac>hmac-)?(?P<digest>sha256|sha512)(-(?P<encoding>base64|base64url))?|[A-Za-z0-9-]+)\("
)
_IN_FORM = ("user", "campaign", "time", "time_ms", "signature", "nonce")
_IN_MESSAGE = ("user", "campaign", "time", "time_ms", "nonce", "key")
_TIMES = ("time", "time_ms")


class SignatureError(Exception):
    """The entry is not proved. ``reason`` is malformed, player, signature or timestamp.

    ``found`` is what the owner may read: ``signed_at`` where only the time is wrong; ``signed`` and ``entering``, the
    players that ``custom_data`` and the entry name, where they differ.
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
    signed_at: float  # Unix seconds
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

    @staticmethod
    @lru_cache(maxsize=64)
    def parse(text: str, with_campaign: bool = False) -> "Recipe":
        """The recipe that a setting describes. ``with_campaign``: a named recipe signs the campaign after the player.

        Raises ValueError with a sentence for the owner.
        """
        written = NAMED.get(text, text).strip()
        if with_campaign and text in NAMED:
            written = written.replace("{user}", "{user}|{campaign}")
        match = _ALGORITHM.search(written, 1)
        if match is None or not written.endswith(")") or not written.isprintable():
            raise ValueError(f"use {', '.join(NAMED)}, or FORMAT = ALGORITHM(MESSAGE)")
        if match["digest"] is None:
            raise ValueError(
                "use one of sha256, sha512, hmac-sha256, hmac-sha512, followed by -base64 or -base64url unless it is "
                "hexadecimal"
            )
        form = _parts(written[: match.start()].rstrip(), _IN_FORM, "FORMAT")
        message = _parts(written[match.end() : -1], _IN_MESSAGE, "MESSAGE")
        recipe = Recipe(match["digest"], match["hmac"] is not None, match["encoding"] or "hex", form, message)
        complaint = next(recipe._complaints(), None)
        if complaint is not None:
            raise ValueError(complaint)
        return recipe

    def _complaints(self) -> Iterator[str]:
        """Why the recipe proves nothing, or cannot be verified."""
        form, message = self.form[1::2], self.message[1::2]
        if form.count("signature") != 1:
            yield "FORMAT must have {signature}, once"
        if sum(form.count(place) for place in _TIMES) != 1:
            yield "FORMAT must have {time} or {time_ms}, once"
        for place in ("user", *(place for place in _TIMES if place in form)):
            if place not in message:
                yield f"MESSAGE must have {{{place}}}: it would not be signed"
        for place in ("campaign", "nonce"):
            if place in form and place not in message:
                yield f"FORMAT has {{{place}}} and MESSAGE has not: it would not be signed"
        for place in ("nonce", *_TIMES):
            if place in message and place not in form:
                yield f"MESSAGE has {{{place}}} and FORMAT has not: nobody could verify it"
        if self.is_keyed and "key" in message:
            yield "leave {key} out of an HMAC's MESSAGE: it is keyed with it anyway"
        if not self.is_keyed and "key" not in message:
            yield "MESSAGE must have {key}: without it everybody could sign"
        for place, end in self._ends():
            if not end:
                yield f"put a separator after {{{place}}} in MESSAGE: its end could not be found"

    def _ends(self) -> list[tuple[str, str]]:
        """The character after each value of varying length, "" where there is none. The last value needs none."""
        varying = ("user", "campaign", "nonce")
        found = [(part, self.message[i + 1][:1]) for i, part in enumerate(self.message) if i % 2 and part in varying]
        return found[:-1]

    @property
    def time_place(self) -> str:
        return next(place for place in _TIMES if place in self.form[1::2])

    def read(self, custom_data: str, user: str | None, campaign: str) -> dict[str, str] | None:
        """The values in ``custom_data``; None when it has another form, or names another player or campaign.

        Without a ``user`` it is the one that ``custom_data`` names.
        """
        known = {"campaign": campaign if "campaign" in self.message[1::2] else ""}
        known |= {} if user is None else {"user": user}
        match = _pattern(self, tuple(known)).fullmatch("\0".join([*known.values(), custom_data]))
        return match.groupdict() if match is not None and "user" in match.groupdict() else None

    def normal(self, signature: str) -> str:
        """A signature in its one spelling: small letters in hexadecimal, Base64 without padding."""
        return signature.lower() if self.encoding == "hex" else signature.rstrip("=")

    def sign(self, key: bytes, values: Mapping[str, str]) -> str:
        """The signature of these values. Raises ValueError where another entry could have the same message."""
        for place, end in self._ends():
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


def sign(recipe: Recipe, key: bytes, user: str, campaign: str | None, at: float) -> str:
    """The ``custom_data`` of an entry signed at a time in Unix seconds. Raises ValueError where it cannot be signed."""
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
) -> Proof:
    """The proof that one of ``keys`` signed this entry, not too long ago and not in the future.

    Without a ``user`` it is the one that ``custom_data`` names. Raises :class:`SignatureError`.
    """
    if len(custom_data) > LONGEST_CUSTOM_DATA:
        raise SignatureError("malformed")
    values = recipe.read(custom_data, user, campaign or "")
    if values is None:
        of_other = None if user is None else recipe.read(custom_data, None, campaign or "")
        if user is None or of_other is None:
            raise SignatureError("malformed")
        raise SignatureError("player", signed=of_other["user"], entering=user)
    given = recipe.normal(values["signature"])
    try:
        signatures = [(key, recipe.sign(key.value, values)) for key in keys]
    except ValueError:
        raise SignatureError("malformed") from None
    # Every key is compared, so that the time taken does not tell which one is near.
    matching = [(key, ours) for key, ours in signatures if signing.is_equal(recipe.normal(ours), given)]
    if not matching:
        raise SignatureError("signature")
    signed_at = int(values[recipe.time_place]) / (1000 if recipe.time_place == "time_ms" else 1)
    if not now - tolerance_seconds <= signed_at <= now + FUTURE_SECONDS:
        raise SignatureError("timestamp", signed_at=repr(signed_at))
    key, signature = matching[0]
    return Proof(key, values["user"], signed_at, custom_data, signature)


@lru_cache(maxsize=1024)
def _pattern(recipe: Recipe, known: tuple[str, ...]) -> re.Pattern[str]:
    """Matches the values of these places and ``custom_data``, joined by NUL. A caller's text is never compiled."""
    size = hashlib.new(recipe.digest).digest_size
    letters = f"{{{(size * 8 + 5) // 6}}}={{0,2}}"
    places = {
        "user": r"[^\0]+",
        "time": "[0-9]{10}",  # from 2001 to 2286
        "time_ms": "[0-9]{13}",
        "nonce": "[A-Za-z0-9_-]{1,64}",
        "signature": {
            "hex": f"[0-9A-Fa-f]{{{2 * size}}}",
            "base64": f"[A-Za-z0-9+/]{letters}",
            "base64url": f"[A-Za-z0-9_-]{letters}",
        }[recipe.encoding],
    }
    pattern = "".join(rf"(?P<{place}>[^\0]*)\0" for place in known)
    for i, part in enumerate(recipe.form):
        if i % 2 == 0:
            pattern += re.escape(part)
        else:
            pattern += f"(?P={part})" if f"(?P<{part}>" in pattern else f"(?P<{part}>{places[part]})"
    return re.compile(pattern)


def _parts(text: str, places: Iterable[str], what: str) -> tuple[str, ...]:
    """Text and names of places in turn."""
    parts = re.split(r"{([^{}]*)}", text)
    if set(parts[1::2]) - set(places) or any(brace in part for part in parts[::2] for brace in "{}"):
        raise ValueError(f"{what} may have the places {', '.join(f'{{{place}}}' for place in places)}, and no other")
    return tuple(parts)
