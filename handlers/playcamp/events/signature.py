"""Who signed a webhook, and when.

Header ``X-Webhook-Signature``, keyed with the text of the webhook's secret as it is written (``whsec_`` is part of it),
in one of two forms: ``<hex>`` over the raw body, which has no time, or ``t=<seconds>,v1=<hex>`` over
``<t>.<raw body>``. The rules are those of PlayCamp's Go SDK v0.0.8 (checked 2026-11); the surprising ones:

* The second form is meant wherever both ``t=`` and ``v1=`` are anywhere in the header.
* ``t`` is read as a number and written again before it is signed: ``t=007`` was signed as ``7``.
* It may be 5 seconds ahead of us at most, however large the accepted age is.

A gateway of PlayCamp's signs converted events as ours does: ``X-Gateway-Signature: <hex>`` over
``<X-Gateway-Timestamp>.<raw body>``.
"""

import re
from collections.abc import Iterable

from coinslot.access.keyring import SecretValue
from coinslot.base import clock, signing
from handlers.playcamp.recipe import SignatureError

AHEAD_SECONDS = 5
_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_LONGEST_INTEGER = 2**63


def verify(body: bytes, header: str, keys: Iterable[SecretValue], tolerance_seconds: int) -> SecretValue:
    """The key that signed ``body``. Raises :class:`SignatureError` with reason ``signature`` or ``timestamp``.

    Without keys every call is refused.
    """
    if "t=" not in header or "v1=" not in header:
        return _signer(body, header, keys)
    # Of several times or signatures the last counts, as with PlayCamp's own verifier.
    parts = dict(part.strip().partition("=")[::2] for part in header.split(","))
    given = parts.get("t", "")
    if not _INTEGER.fullmatch(given) or not -_LONGEST_INTEGER <= int(given) < _LONGEST_INTEGER:
        raise SignatureError("signature")
    timestamp = int(given)
    signer = _signer(f"{timestamp}.".encode() + body, parts.get("v1", ""), keys)
    age = int(clock.now()) - timestamp
    if age > tolerance_seconds or -age > AHEAD_SECONDS:
        raise SignatureError("timestamp")
    return signer


def verify_converted(
    body: bytes, timestamp: str, signature: str, keys: Iterable[SecretValue], tolerance_seconds: int
) -> SecretValue:
    """The same for events that another gateway has converted and signed."""
    if not re.fullmatch(r"[0-9]{1,20}", timestamp):
        raise SignatureError("signature")
    signer = _signer(timestamp.encode() + b"." + body, signature, keys)
    if not signing.is_fresh(signing.unix_seconds(timestamp), tolerance_seconds):
        raise SignatureError("timestamp")
    return signer


def _signer(message: bytes, signature: str, keys: Iterable[SecretValue]) -> SecretValue:
    if not _HEX.fullmatch(signature):
        raise SignatureError("signature")
    for key in keys:
        if signing.is_equal(signing.hmac_hex("sha256", key.value, message), signature.lower()):
            return key
    raise SignatureError("signature")
