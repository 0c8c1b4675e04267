"""A delivery as HTTP: its body, and its headers as its format makes them (``coinslot/outbox/formats.py``)."""

import json
from collections.abc import Iterable

from coinslot.access.keyring import SecretValue
from coinslot.base import clock
from coinslot.ledger import events, grants
from coinslot.outbox import conversion_queue
from coinslot.outbox.attempts import Claim
from coinslot.outbox.formats import Format
from coinslot.store.db import Connection
from coinslot.store.queries import row

USER_AGENT = "Coinslot"


def body(connection: Connection, claim: Claim) -> bytes:
    """``{"type", "timestamp", "data"}``, or the conversion; the same bytes for every attempt.

    Raises LookupError where a conversion is wanted and there is none.
    """
    if claim.destination.is_converted:
        return conversion_queue.body(connection, claim.event_id)
    if claim.grant_id is not None:
        data = grants.grant(connection, claim.grant_id)
        at = data["created_at"]
    else:
        assert claim.event_id is not None, "a delivery is of a grant or of an event"
        data = events.event(connection, claim.event_id)
        at = data["received_at"]
    return envelope(claim.event_type, at, data)


def cause(connection: Connection, claim: Claim) -> str:
    """What a delivery is of, as the log says it: ids alone, of the transaction and of the call that caused it."""
    if claim.grant_id is not None:
        of = f"grant {claim.grant_id}"
        sql = """SELECT t.public_id, g.request_id FROM grants g JOIN transactions t ON t.id = g.transaction_id
                 WHERE g.id = :id"""
    else:
        of = f"event {claim.event_id}"
        sql = "SELECT NULL AS public_id, request_id FROM events WHERE id = :id"
    found = row(connection, sql, {"id": claim.grant_id if claim.event_id is None else claim.event_id})
    if found is not None:
        of += f" of transaction {found['public_id']}" if found["public_id"] else ""
        of += f", request {found['request_id']}" if found["request_id"] else ""
    return of


def envelope(event_type: str, timestamp: str, data: dict[str, object]) -> bytes:
    """The body of an unconverted delivery."""
    return json.dumps({"type": event_type, "timestamp": timestamp, "data": data}, separators=(",", ":")).encode()


MASKED = "(made for each attempt)"


def shown_headers(claim: Claim, content: bytes, format: Format) -> dict[str, str]:
    """The headers of an attempt without its time and signature, and so without a key."""
    placeholder = SecretValue("none", "current", b"none")
    found = signed(format, claim.webhook_id, claim.number, content, [placeholder])
    return found | dict.fromkeys((format.time_header, format.signature_header), MASKED)


def signed(
    format: Format,
    webhook_id: str,
    number: int,
    content: bytes,
    secrets: Iterable[SecretValue],
    at: float | None = None,
) -> dict[str, str]:
    """The headers of attempt ``number`` in a format, signed now or ``at`` another time."""
    timestamp = str(int(clock.now() if at is None else at))
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        **format.sign(webhook_id, number, timestamp, content, secrets),
    }
