"""The stored secrets that may have made a proof, the ways of misreading one, and how many proofs may be tried."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from coinslot.access.keyring import SecretValue
from coinslot.games.games import Game

MOST_ATTEMPTS = 2500  # digests per call
MOST_BYTES = 14 * 1024 * 1024  # hashed per call


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
    """A stored secret that may have signed, as it is or as it may have been misread: ``how`` says which way."""

    game: Game
    secret: SecretValue
    value: bytes = field(repr=False)
    how: str = ""
    is_likely: bool = False  # of this partner, as it is stored: worth trying with what may have been changed as well


def keys(games: Sequence[Game], own: Game | None, partner: str) -> list[Key]:
    """Every stored secret of every game, with the ways of misreading one; the likeliest first.

    First this game's of this partner, then that partner's of other games, then all the others.
    """
    found: list[tuple[int, Key]] = []
    for game in games:
        for name, values in game.secrets.items():
            rank = (0 if name.startswith(f"{partner}.") else 2) + (0 if game is own else 1)
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


def name_of(key: Key, own: Game | None, names: Mapping[str, str]) -> str:
    """A secret in words: ``the main key of this game``, ``the previous main key of Space Miner (sandbox)``.

    ``names`` has the partners' words; a secret that is not among them is named as it is stored.
    """
    name = names.get(key.secret.name, f"secret {key.secret.name}")
    previous = "previous " if key.secret.slot == "previous" else ""
    if own is not None and key.game.id == own.id:
        return f"the {previous}{name} of this game"
    partner = key.secret.name.partition(".")[0]
    environment = key.game.settings.get(f"{partner}.environment", "live")
    of = own and own.settings.get(f"{partner}.environment", "live")
    mark = f" ({environment})" if own is None or environment != of else ""
    return f"the {previous}{name} of the game {key.game.slug}{mark}"


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


def _base64(value: bytes) -> bytes:
    """What Base64 stands for, with or without its padding; empty where it is none."""
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
