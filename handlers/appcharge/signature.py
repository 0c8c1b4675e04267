"""Who signed an Appcharge call, and when.

Header ``signature: t=<timestamp>,v1=<hex>``, where v1 is HMAC-SHA256, keyed with the literal text of the main key, over
``<t as written in the header>.<raw body>``. The documentation says milliseconds, some of Appcharge's own agents send
seconds; both are read. The bytes received are what is signed: JSON printed again differs in spacing and numbers.
"""

import re
from collections.abc import Iterable

from coinslot.access.keyring import SecretValue
from coinslot.base import signing

_NAME = re.compile(r"[A-Za-z0-9_]+")


class SignatureError(Exception):
    """The call proves nothing. ``reason`` is for the owner only."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def verify(body: bytes, header: str, keys: Iterable[SecretValue], tolerance_seconds: float) -> SecretValue:
    """The key that signed ``body``. Raises :class:`SignatureError` with reason ``signature`` or ``timestamp``.

    ``keys`` are tried in their order: current, then previous, then the secondary key where it is a backup. With no
    keys nothing passes.
    """
    timestamp, v1 = parse(header)
    message = timestamp.encode("ascii") + b"." + body
    signer = next((key for key in keys if signing.is_equal(signing.hmac_hex("sha256", key.value, message), v1)), None)
    if signer is None:
        raise SignatureError("signature")
    if not signing.is_fresh(signing.unix_seconds(timestamp), tolerance_seconds):
        raise SignatureError("timestamp")
    return signer


def parse(header: str) -> tuple[str, str]:
    """``t`` as text and ``v1`` in lower case; exactly one of each; blanks and other ``k=v`` parts are ignored."""
    pairs = []
    for part in header.split(","):  # no one pattern for all of it: between blanks it would try every way to share them
        name, is_pair, value = (word.strip() for word in part.partition("="))
        if not is_pair or not _NAME.fullmatch(name) or len(value.split()) > 1:
            raise SignatureError("signature")
        pairs.append((name, value))
    timestamps = [value for name, value in pairs if name == "t"]
    signatures = [value.lower() for name, value in pairs if name == "v1"]
    if len(timestamps) != 1 or not re.fullmatch(r"[0-9]{1,20}", timestamps[0]):
        raise SignatureError("signature")
    if len(signatures) != 1 or not re.fullmatch(r"[0-9a-f]{64}", signatures[0]):
        raise SignatureError("signature")
    return timestamps[0], signatures[0]


def sign(body: bytes, key: bytes, timestamp: str) -> str:
    """The header as Appcharge sends it; ``timestamp`` in milliseconds."""
    return f"t={timestamp},v1={signing.hmac_hex('sha256', key, timestamp.encode('ascii') + b'.' + body)}"
