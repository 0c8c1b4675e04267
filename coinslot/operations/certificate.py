"""The certificate of the public URL: when it ends, and whether partners can verify it. A job looks at it."""

import json
import socket
import ssl
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from coinslot.access import page_facts
from coinslot.base import clock
from coinslot.store.db import Database
from coinslot.store.queries import set_fact

JOB = "certificate"
FACT = "certificate"
EVERY_SECONDS = 6 * 3600.0
SOON_SECONDS = 300.0  # while something is wrong with it
TIMEOUT_SECONDS = 10.0
RENEWED_SECONDS = 14 * clock.DAY_SECONDS  # before its end; whatever renews certificates has done it by then
URGENT_SECONDS = 3 * clock.DAY_SECONDS


@dataclass(frozen=True)
class Certificate:
    """What the last look found at ``url``. ``ends_at`` is None, and ``problem`` says why, if it cannot be verified."""

    url: str
    ends_at: str | None
    problem: str

    @property
    def is_ending(self) -> bool:
        """Whether a person should look at it."""
        return self.ends_at is None or clock.seconds(self.ends_at) < clock.now() + RENEWED_SECONDS

    @property
    def is_urgent(self) -> bool:
        """Whether calls fail, or will within days."""
        return self.ends_at is None or clock.seconds(self.ends_at) < clock.now() + URGENT_SECONDS


def known(stored: str | None, url: str) -> Certificate | None:
    """What the stored fact says of the certificate of this public URL; None: nothing, or it has none."""
    found = None if stored is None else Certificate(**json.loads(stored))
    return found if found is not None and found.url == url and is_watched(url) else None


def is_watched(url: str) -> bool:
    """Whether partners see a certificate there: https, and not only this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" and host not in ("", "localhost", "::1") and not host.startswith("127.")


def watch(database: Database, url: str) -> float | None:
    """A job: look at the certificate of the public URL. Returns when to look again, in seconds; None: never."""
    if not is_watched(url) or page_facts.is_demo(database.read()):
        return None
    found = look(url)
    if found is None:  # perhaps this machine cannot reach itself by that name: that says nothing of partners
        return EVERY_SECONDS
    database.write(lambda tx: set_fact(tx, FACT, json.dumps(asdict(found))))
    return SOON_SECONDS if found.is_ending else EVERY_SECONDS


def look(url: str) -> Certificate | None:
    """Look now; None when nothing answers TLS there."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        with (
            socket.create_connection((host, parts.port or 443), TIMEOUT_SECONDS) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=host) as secured,
        ):
            ends = (secured.getpeercert() or {}).get("notAfter")
    except ssl.SSLCertVerificationError as error:
        return Certificate(url, None, error.verify_message or "it cannot be verified")
    except (OSError, ValueError):
        return None
    return None if ends is None else Certificate(url, clock.stamp(ssl.cert_time_to_seconds(str(ends))), "")
