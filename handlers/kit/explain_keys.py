"""The stored secrets that may have signed a call, the ways of misreading one, and a bound for what is tried."""

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
    """Counts the digests that may still be made for one call."""

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
    """A stored secret that may have signed, unchanged or misread in the way that ``how`` tells."""

    game: Game
    secret: SecretValue
    value: bytes = field(repr=False)
    how: str = ""
    is_likely: bool = False  # of this partner and unchanged: also tried with changed messages


def keys(games: Sequence[Game], own: Game | None, partner: str) -> list[Key]:
    """Every stored secret of every game, with the ways of misreading one.

    First this game's secrets of this partner, then other games' secrets of this partner, then all the others.
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
        yield value.strip(), "without the space or line break that is stored at its end"
    else:
        yield value + b"\n", "with a line break at its end"
    text = value.removeprefix(b"whsec_")
    behind = " behind whsec_" if text != value else ""
    yield (text, "without its whsec_") if behind else (b"whsec_" + value, "with whsec_ in front of it")
    if not behind and re.fullmatch(rb"(?:[0-9A-Fa-f]{2}){8,}", value):
        yield bytes.fromhex(value.decode()), "as the bytes of its hexadecimal digits"
    decoded = _base64(text) if behind or len(value) >= 16 else b""
    if decoded:
        yield decoded, f"as the bytes of its Base64{behind}"


def name_of(key: Key, own: Game | None, names: Mapping[str, str]) -> str:
    """A secret in a sentence: ``the main key of this game``, ``the previous main key of the game miner (sandbox)``.

    ``names`` has the partners' words; any other secret is called by its stored name.
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
    """An HMAC in hexadecimal."""
    return hmac.digest(key, message, algorithm).hex()


def digest_hex(message: bytes, algorithm: str = "sha256") -> str:
    """A plain digest in hexadecimal."""
    return hashlib.new(algorithm, message).hexdigest()


def as_hex(digest: str, size: int = 32) -> str:
    """A digest of ``size`` bytes in hexadecimal, from capitals, Base64 or after ``sha256=`` too; "" for all else."""
    text = re.sub(r"^(?:sha256|sha1|v1|hmac)\s*=\s*", "", digest.strip(), flags=re.IGNORECASE)
    if re.fullmatch(rf"[0-9A-Fa-f]{{{2 * size}}}", text):
        return text.lower()
    found = _base64(text.replace("-", "+").replace("_", "/").rstrip("=").encode("ascii", "replace"))
    return found.hex() if len(found) == size else ""


def _base64(value: bytes) -> bytes:
    """Base64 decoded, with or without padding; empty where it is not Base64."""
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
