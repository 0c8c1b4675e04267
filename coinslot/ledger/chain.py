"""The rows of transactions, and those of grants, each hashed together with the row before it: a later change shows.

Nothing here decides whether something is credited or reversed; ``credit.py`` and ``refunds.py`` do.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import groupby
from typing import Any

from coinslot.base import clock
from coinslot.ledger import packing
from coinslot.store import queries
from coinslot.store.db import Connection, Row

# UUIDv5 namespace (RFC 9562, section 5.5) of every transaction id Coinslot gives out. Never change it: the ids of old
# orders must come out the same on a machine that has only a backup.
NAMESPACE = uuid.UUID("0c5d1a2e-6f0b-4f3c-9a51-c01500000001")

NO_HASH = "0" * 64
_to_json = json.JSONEncoder(separators=(",", ":")).encode

# The columns that the hash covers: all but those that forgetting a player empties.
_HASHED = (
    "previous_hash public_id game_id partner external_id reference kind player_id currency gross_minor subtotal_minor "
    "tax_minor usd_gross usd_tax usd_fee usd_net usd_unit figures fingerprint body_sha256 signed_with "
    "answer_status answer_body environment is_test occurred_at received_at"
).split()
_EMPTIED = ("raw_body", "signature", "session_metadata")
_HASHED_OF_GRANT = (
    "id game_id transaction_id kind player_id reverses restores policy reason is_test created_at"
).split()


@lru_cache(maxsize=256)  # the answer needs it, and then the row
def public_id(game_slug: str, partner: str, external_id: str) -> str:
    """The id under which game and partner know a transaction: the same for the same order, for ever."""
    return str(uuid.uuid5(NAMESPACE, json.dumps([game_slug, partner, external_id], ensure_ascii=True)))


def insert(tx: Connection, row: Mapping[str, Any], previous_hash: str) -> int | None:
    """Add a transaction after the one with ``previous_hash``; returns its id, None when its external id is taken.

    ``row`` holds the columns of ``transactions``, ``figures`` as JSON and ``raw_body`` as it came; one that is missing
    becomes NULL, and other names are ignored. The hashes and the time of storing are added here.
    """
    values = {column: row.get(column) for column in (*_HASHED, *_EMPTIED)}
    values["body_sha256"] = hashlib.sha256(row["raw_body"] or b"").hexdigest()
    values["received_at"] = clock.stamp()
    values["previous_hash"] = previous_hash
    values["row_hash"] = _row_hash(values)
    values["figures"] = packing.pack(row["figures"].encode())
    values["raw_body"] = None if values["raw_body"] is None else packing.pack(values["raw_body"])
    inserted = queries.insert(
        tx, "transactions", values, "ON CONFLICT (game_id, partner, external_id) DO NOTHING RETURNING id"
    )
    return None if inserted is None else int(inserted["id"])


def last_hash(connection: Connection) -> str:
    """The hash that the next transaction follows."""
    found = queries.value(connection, "SELECT row_hash FROM transactions ORDER BY id DESC LIMIT 1", {})
    return found or NO_HASH


def grant_hash(previous: str, grant: Mapping[str, Any] | Row, lines: Iterable[tuple[str, str, str | None]]) -> str:
    """Covers every column of a grant, and its lines: sku, quantity and policy."""
    return digest([previous, *(grant[column] for column in _HASHED_OF_GRANT), sorted(lines)])


def digest(parts: list[object]) -> str:
    """SHA-256 over the JSON of the parts, in hexadecimal."""
    return hashlib.sha256(_to_json(parts).encode()).hexdigest()


def verify(connection: Connection, newest: int | None = None) -> Iterator[str]:
    """Check every hash, or those of the ``newest`` transactions and grants; yields a sentence for each fault."""
    yield from _verify_transactions(connection, newest)
    yield from _verify_grants(connection, newest)


def _row_hash(row: Mapping[str, Any]) -> str:
    return digest([row[column] for column in _HASHED])


def _is_changed(row: Row) -> bool:
    """Whether a row of ``transactions`` is another one than was hashed."""
    try:
        return bool(row["row_hash"] != _row_hash({**dict(row), "figures": packing.unpack(row["figures"]).decode()}))
    except ValueError:
        return True


def _is_body_changed(row: Row) -> bool:
    if row["raw_body"] is None:  # the player was forgotten, or it was not kept any longer
        return False
    try:
        return bool(hashlib.sha256(packing.unpack(row["raw_body"])).hexdigest() != row["body_sha256"])
    except ValueError:
        return True


def _verify_transactions(connection: Connection, newest: int | None) -> Iterator[str]:
    last_id = queries.value(connection, "SELECT coalesce(max(id), 0) FROM transactions", {})
    first_id = 0 if newest is None else last_id - newest
    previous_hash: str | None = NO_HASH if first_id <= 0 else None
    rows = connection.execute(
        """SELECT t.*, EXISTS (SELECT 1 FROM grants WHERE transaction_id = t.id AND kind = t.kind) AS has_grant
           FROM transactions t WHERE id > :first ORDER BY id""",
        {"first": first_id},
    )
    for row in rows:
        name = f"transaction {row['public_id']}"
        if previous_hash is not None and row["previous_hash"] != previous_hash:
            yield f"{name} does not follow the row before it"
        if _is_changed(row):
            yield f"{name} was changed"
        elif _is_body_changed(row):
            yield f"the kept body of {name} was changed"
        if not row["has_grant"]:
            yield f"the grant of {name} was removed"
        previous_hash = row["row_hash"]


def _verify_grants(connection: Connection, newest: int | None) -> Iterator[str]:
    last_id = queries.value(connection, "SELECT coalesce(max(id), 0) FROM grants", {})
    first = {"first": 0 if newest is None else last_id - newest}
    before = "SELECT grant_hash FROM grants WHERE id <= :first ORDER BY id DESC LIMIT 1"
    previous_hash = queries.value(connection, before, first) or NO_HASH
    rows = connection.execute(
        """SELECT g.*, t.public_id, e.sku, e.quantity, e.policy AS line_policy
           FROM grants g LEFT JOIN transactions t ON t.id = g.transaction_id
           LEFT JOIN entries e ON e.grant_id = g.id WHERE g.id > :first ORDER BY g.id""",
        first,
    )
    for _, group in groupby(rows, lambda row: row["id"]):
        lines = list(group)
        row = lines[0]
        entries = [(line["sku"], line["quantity"], line["line_policy"]) for line in lines if line["sku"] is not None]
        if row["grant_hash"] != grant_hash(previous_hash, row, entries):
            name = f"grant {row['id']} ({row['kind']} of transaction {row['public_id']})"
            yield f"{name} was changed or added, or one before it was removed"
        previous_hash = row["grant_hash"]
