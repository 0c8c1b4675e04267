"""Proofs of origin: keyed digests, comparison in constant time, age of a signature."""

import hmac
import re

from coinslot.base import clock

# From this many digits on, a timestamp is in milliseconds; 12 digits of seconds are the year 5138 or later.
MILLISECOND_DIGITS = 12


def hmac_hex(algorithm: str, secret: bytes, message: bytes) -> str:
    """Lower-case hexadecimal HMAC (RFC 2104)."""
    return hmac.new(secret, message, algorithm).hexdigest()


def is_equal(ours: str | bytes, theirs: str | bytes) -> bool:
    """Equality in constant time, for any text: ``compare_digest`` itself raises on text that is not ASCII."""
    return hmac.compare_digest(_bytes(ours), _bytes(theirs))


def unix_seconds(timestamp: str) -> float:
    """Seconds from digits that count seconds or milliseconds. Raises ValueError for anything but 1 to 20 digits."""
    if not re.fullmatch(r"[0-9]{1,20}", timestamp):
        raise ValueError("not a timestamp")
    return int(timestamp) / 1000 if len(timestamp) >= MILLISECOND_DIGITS else float(timestamp)


def is_fresh(signed_at: float, tolerance_seconds: float) -> bool:
    """Whether a time is within the tolerance of now, before or after."""
    return abs(clock.now() - signed_at) <= tolerance_seconds


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", errors="surrogatepass") if isinstance(text, str) else text
