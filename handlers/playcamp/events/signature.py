"""Who signed a webhook, and when.

Header ``X-Webhook-Signature``, keyed with the text of the webhook's secret as it stands (``whsec_`` is part of it), in
one of two forms: ``<hex>`` over the raw body, which says nothing of its age, or ``t=<seconds>,v1=<hex>`` over
``<t>.<raw body>``. The rules are those of PlayCamp's Go SDK v0.0.8 (checked 2026-11); the odd ones:

* The second form is meant wherever both ``t=`` and ``v1=`` are anywhere in the header.
* ``t`` is read as a number and written anew before it is signed: ``t=007`` was signed as ``7``.
* It may be 5 seconds ahead of us, and no more, however old it may be.

A gateway of PlayCamp's signs what it has converted like our own: ``X-Gateway-Signature: <hex>`` over
``<X-Gateway-Timestamp>.<raw body>``.
"""

import re
from collections.abc import Iterable

from coinslot.access.keyring import SecretValue
from coinslot.base import clock, signing

AHEAD_SECONDS = 5
_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_LONGEST_INTEGER = 2**63


class SignatureError(Exception):
    """The call proves nothing. ``reason`` is for the owner; the caller is told nothing of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def verify(body: bytes, header: str, keys: Iterable[SecretValue], tolerance_seconds: int) -> SecretValue:
    """The key that signed ``body``. Raises :class:`SignatureError` with reason ``signature`` or ``timestamp``.

    With no keys nothing passes.
    """
    if "t=" not in header or "v1=" not in header:
        return _signer(body, header, keys)
    timestamp, signature = _parts(header)
    signer = _signer(f"{timestamp}.".encode() + body, signature, keys)
    age = int(clock.now()) - timestamp
    if age > tolerance_seconds or -age > AHEAD_SECONDS:
        raise SignatureError("timestamp")
    return signer


def verify_converted(
    body: bytes, timestamp: str, signature: str, keys: Iterable[SecretValue], tolerance_seconds: int
) -> SecretValue:
    """The same for what another gateway has converted and signed."""
    if not re.fullmatch(r"[0-9]{1,20}", timestamp):
        raise SignatureError("signature")
    signer = _signer(timestamp.encode() + b"." + body, signature, keys)
    if not signing.is_fresh(signing.unix_seconds(timestamp), tolerance_seconds):
        raise SignatureError("timestamp")
    return signer


def _parts(header: str) -> tuple[int, str]:
    """``t`` and ``v1``; of several the last, as with PlayCamp's own verifier."""
    timestamp = signature = ""
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            timestamp = value
        elif name == "v1":
            signature = value
    if not _INTEGER.fullmatch(timestamp) or not -_LONGEST_INTEGER <= int(timestamp) < _LONGEST_INTEGER:
        raise SignatureError("signature")
    return int(timestamp), signature


def _signer(message: bytes, signature: str, keys: Iterable[SecretValue]) -> SecretValue:
    if not _HEX.fullmatch(signature):
        raise SignatureError("signature")
    wanted = bytes.fromhex(signature)
    for key in keys:
        if signing.is_equal(bytes.fromhex(signing.hmac_hex("sha256", key.value, message)), wanted):
            return key
    raise SignatureError("signature")
