"""The format ``playcamp`` of destinations: boosts in the game's own format, signed as PlayCamp's gateway signs them.

The body is the one that ``events/conversion.py`` made. The signature covers time and body; attempts are numbered.
"""

from collections.abc import Iterable

from coinslot.access.keyring import SecretValue
from coinslot.base import signing
from coinslot.outbox.formats import Format


def _sign(
    webhook_id: str, number: int, timestamp: str, content: bytes, secrets: Iterable[SecretValue]
) -> dict[str, str]:
    secret = next(iter(secrets)).value  # the current one: the format carries one signature
    return {
        "X-Gateway-Delivery": webhook_id,
        "X-Gateway-Attempt": str(number),
        "X-Gateway-Timestamp": timestamp,
        "X-Gateway-Signature": signing.hmac_hex("sha256", secret, timestamp.encode() + b"." + content),
    }


FORMAT = Format(
    name="playcamp",
    retry_seconds=(10, 60, 300, 1800, 7200),
    success="200",
    sign=_sign,
    id_header="X-Gateway-Delivery",
    time_header="X-Gateway-Timestamp",
    signature_header="X-Gateway-Signature",
    recipe="hexadecimal HMAC-SHA256 over <X-Gateway-Timestamp>.<body>, keyed with the secret as it is written",
    is_converted=True,
    keeps_order=True,
)
