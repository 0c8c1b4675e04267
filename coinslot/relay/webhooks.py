"""A delivery as HTTP: body and headers of each format.

``standard`` is Standard Webhooks (github.com/standard-webhooks, specification read 2026-11): the signature covers id,
time of the attempt and body, the id stays the same over retries, and during a rotation there are two signatures.
``playcamp`` signs time and body, in hexadecimal, and numbers its attempts; its body is what was converted for the game.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable

from coinslot.access.keyring import SecretValue
from coinslot.base import clock, signing
from coinslot.ledger import events, grants
from coinslot.outbox import conversions
from coinslot.outbox.deliveries import Claim
from coinslot.outbox.destinations import CONVERTED
from coinslot.store.db import Connection

USER_AGENT = "Coinslot"


def body(connection: Connection, claim: Claim) -> bytes:
    """``{"type", "timestamp", "data"}``, or what was converted; the same bytes for every attempt.

    Raises LookupError where a conversion is wanted and there is none.
    """
    if claim.destination.format in CONVERTED:
        return conversions.body(connection, claim.event_id)
    if claim.grant_id is not None:
        data = grants.grant(connection, claim.grant_id)
        at = data["created_at"]
    else:
        assert claim.event_id is not None, "a delivery is of a grant or of an event"
        data = events.event(connection, claim.event_id)
        at = data["received_at"]
    return envelope(claim.event_type, at, data)


def envelope(event_type: str, timestamp: str, data: dict[str, object]) -> bytes:
    return json.dumps({"type": event_type, "timestamp": timestamp, "data": data}, separators=(",", ":")).encode()


def headers(claim: Claim, content: bytes, secrets: Iterable[SecretValue]) -> dict[str, str]:
    return signed(claim.destination.format, claim.webhook_id, claim.number, content, secrets)


MASKED = "(made anew for each attempt)"
_OF_AN_ATTEMPT = ("webhook-timestamp", "webhook-signature", "X-Gateway-Timestamp", "X-Gateway-Signature")


def shown_headers(claim: Claim, content: bytes) -> dict[str, str]:
    """The headers as an attempt sends them, but for what is made for that attempt alone; no key is needed."""
    nobody = SecretValue("nobody", "current", b"nobody")
    return {
        name: MASKED if name in _OF_AN_ATTEMPT else value for name, value in headers(claim, content, [nobody]).items()
    }


def signed(
    format: str,
    webhook_id: str,
    number: int,
    content: bytes,
    secrets: Iterable[SecretValue],
    at: float | None = None,
) -> dict[str, str]:
    """The headers of attempt ``number`` in a format, signed now or ``at`` another time."""
    timestamp = str(int(clock.now() if at is None else at))
    if format == "playcamp":
        return _playcamp(webhook_id, number, timestamp, content, secrets)
    return _standard(webhook_id, timestamp, content, secrets)


def _standard(webhook_id: str, timestamp: str, content: bytes, secrets: Iterable[SecretValue]) -> dict[str, str]:
    message = f"{webhook_id}.{timestamp}.".encode() + content
    signatures = [
        base64.b64encode(hmac.new(signing_key(secret.value), message, hashlib.sha256).digest()).decode()
        for secret in secrets
    ]
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _playcamp(
    webhook_id: str, number: int, timestamp: str, content: bytes, secrets: Iterable[SecretValue]
) -> dict[str, str]:
    secret = next(iter(secrets)).value  # the current one: this format has room for one signature
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "X-Gateway-Delivery": webhook_id,
        "X-Gateway-Attempt": str(number),
        "X-Gateway-Timestamp": timestamp,
        "X-Gateway-Signature": signing.hmac_hex("sha256", secret, timestamp.encode() + b"." + content),
    }


def signing_key(secret: bytes) -> bytes:
    """The key in a ``whsec_`` secret; a secret of another shape is its own key."""
    if secret.startswith(b"whsec_"):
        try:
            return base64.b64decode(secret.removeprefix(b"whsec_"), validate=True) or secret
        except binascii.Error:
            return secret
    return secret
