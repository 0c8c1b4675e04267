"""The ledger's hashes, computed anew from their description in ``docs/chaos.md``: nothing of Coinslot's own is used."""

import hashlib
import json
import sqlite3
import uuid
import zlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

FIRST = "0" * 64
NAMESPACE = uuid.UUID("0c5d1a2e-6f0b-4f3c-9a51-c01500000001")
OF_TRANSACTION = (
    "previous_hash public_id game_id partner external_id reference kind player_id currency gross_minor subtotal_minor "
    "tax_minor usd_gross usd_tax usd_fee usd_net usd_unit figures fingerprint body_sha256 signed_with "
    "answer_status answer_body environment is_test occurred_at received_at"
).split()
OF_GRANT = "id game_id transaction_id kind player_id reverses restores policy reason is_test created_at".split()
# The dictionary of compressed columns, byte for byte.
WORDS = (
    rb'{"sessionMetadata":"{\"storeMetadata":{"productsSequenceIndex":1,"offerType":"Bundle"},"receiptId":"receipt_'
    b'"awardFlow":"auto","manual_retry","notification_type":"transaction":{"payment_date":"purchase":{"total":{"amount":'
    b'"transactionId":"externalTransactionId":"purchaseId":"pr_"PaymentId":"purchaseDateAndTimeUtc":"2026-01-01T00:00:00'
    b'.000Z","date":"created":"timestamp":"user":{"id":"name":"email":"country":"ip":"playerId":"bundleName":" Pack",'
    b'"bundleId":"sku":"items":[{"products":[{"amount":1,"quantity":100,"sku":"coins","name":"Coins"},{"amount":"sku":'
    b'"gems","name":"Gems"}],"price":"user_id=&signature=&trans_id=&data=%5B%7B%22item_id%22%3A%22amount%22%3A%22'
    b'"originalPriceInDollar": "9", "paymentPriceInDollar": "currencyExchangeCost": "0", "estimatedPublisherNetAmount":'
    b'"estimatedFee": "pricePointMetadata":"priceInCents": "999", "currency":"USD","subTotal": "tax": "0", "taxRate":'
    b'"taxInDollar": "priceInDollar": "priceTotalInDollar": "action":"purchase","actionStatus":"completed",'
    b'"paymentMethod":"card","countryCode2":"US","orderId":"'
)


def broken(connection: sqlite3.Connection) -> Iterator[str]:
    """A sentence for each row that does not match its hash, its content or the row before it."""
    yield from _broken_transactions(connection)
    yield from _broken_grants(connection)


def _broken_transactions(connection: sqlite3.Connection) -> Iterator[str]:
    slugs = dict(connection.execute("SELECT id, slug FROM games"))
    previous = FIRST
    for row in _rows(connection, "SELECT * FROM transactions ORDER BY id"):
        name = f"transaction {row['partner']} {row['reference']}"
        try:
            row["figures"] = unpacked(row["figures"]).decode()
            body = None if row["raw_body"] is None else unpacked(row["raw_body"])
        except (ValueError, zlib.error):
            yield f"{name} cannot be read"
            continue
        if row["previous_hash"] != previous:
            yield f"{name} does not follow the row before it"
        if row["row_hash"] != _sha256([row[column] for column in OF_TRANSACTION]):
            yield f"{name} does not match its hash"
        if body is not None and hashlib.sha256(body).hexdigest() != row["body_sha256"]:
            yield f"the body of {name} does not match its hash"
        order = json.dumps([slugs[row["game_id"]], row["partner"], row["external_id"]])
        if row["public_id"] != str(uuid.uuid5(NAMESPACE, order)):
            yield f"{name} has another id than its order gives"
        previous = row["row_hash"]


def _broken_grants(connection: sqlite3.Connection) -> Iterator[str]:
    lines = defaultdict(list)
    for grant_id, *line in connection.execute("SELECT grant_id, sku, quantity, policy FROM entries"):
        lines[grant_id].append(line)
    previous = FIRST
    for row in _rows(connection, "SELECT * FROM grants ORDER BY id"):
        parts = [previous, *(row[column] for column in OF_GRANT), sorted(lines[row["id"]])]
        if row["grant_hash"] != _sha256(parts):
            yield f"grant {row['id']} does not match its hash, or does not follow the grant before it"
        previous = row["grant_hash"]


def unpacked(stored: bytes) -> bytes:
    """A compressed column. Raises ValueError or zlib.error."""
    if stored[:1] == b"\0":
        return stored[1:]
    if stored[:1] != b"\1":
        raise ValueError("packed in no known way")
    inflating = zlib.decompressobj(-15, zdict=WORDS)
    raw = inflating.decompress(stored[1:])
    if not inflating.eof:
        raise ValueError("cut off")
    return raw


def _rows(connection: sqlite3.Connection, query: str) -> Iterator[dict[str, Any]]:
    found = connection.execute(query)
    names = [column[0] for column in found.description]
    for row in found:
        yield dict(zip(names, row, strict=True))


def _sha256(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()
