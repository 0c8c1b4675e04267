"""Formats of deliveries: how an attempt is signed, when it is made again, and what there is to deliver.

``standard`` is Standard Webhooks (github.com/standard-webhooks, specification read 2026-11): the signature covers id,
time of the attempt and body, the id stays the same over retries, and during a rotation there are two signatures. Any
other format comes with the partner that it is for.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from coinslot.access.keyring import SecretValue

# The headers of one attempt, of: its webhook id, its number, its Unix time, the body, and the secrets, current first.
Sign: TypeAlias = Callable[[str, int, str, bytes, Iterable[SecretValue]], dict[str, str]]


@dataclass(frozen=True)
class Format:
    """How deliveries to a destination are made.

    ``retry_seconds``, the delays after the first attempt, and ``success``, the rule, are defaults of a destination.
    ``id_header``, ``time_header`` and ``signature_header`` are among the headers of ``sign``; ``recipe`` says in words
    how the signature is made. ``is_converted``: it gets only conversions (``conversion_queue.py``). ``keeps_order``:
    deliveries of one player stay in order. ``has_several_signatures``: one per secret.
    """

    name: str
    retry_seconds: tuple[int, ...]
    success: str
    sign: Sign
    id_header: str
    time_header: str
    signature_header: str
    recipe: str
    is_converted: bool = False
    keeps_order: bool = False
    has_several_signatures: bool = False


def signing_key(secret: bytes) -> bytes:
    """The key in a ``whsec_`` secret; a secret of another shape is its own key."""
    if secret.startswith(b"whsec_"):
        try:
            return base64.b64decode(secret.removeprefix(b"whsec_"), validate=True) or secret
        except binascii.Error:
            return secret
    return secret


def _sign(
    webhook_id: str, number: int, timestamp: str, content: bytes, secrets: Iterable[SecretValue]
) -> dict[str, str]:
    message = f"{webhook_id}.{timestamp}.".encode() + content
    signatures = [
        base64.b64encode(hmac.new(signing_key(secret.value), message, hashlib.sha256).digest()).decode()
        for secret in secrets
    ]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


STANDARD = Format(
    name="standard",
    retry_seconds=(5, 60, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),  # surface of the product, in README
    success="2xx",
    sign=_sign,
    id_header="webhook-id",
    time_header="webhook-timestamp",
    signature_header="webhook-signature",
    recipe="HMAC-SHA256 over <webhook-id>.<webhook-timestamp>.<body>, keyed with what follows whsec_, decoded",
    has_several_signatures=True,
)
FORMATS: Mapping[str, Format] = {STANDARD.name: STANDARD}  # without any partner's
