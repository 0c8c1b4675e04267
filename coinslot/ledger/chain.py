"""The rows of transactions, and those of grants, each hashed together with the row before it: a later change shows.

Nothing here decides whether a transaction should be. That is asked of ``coinslot/ledger/credit.py`` and ``refunds.py``.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import groupby
from typing import Any

from coinslot.base import clock
from coinslot.ledger import chain
from coinslot.store.db import Connection, Row

# UUIDv5 namespace (RFC 9562, section 5.5) of every transaction id Coinslot gives out. Never to be changed: the ids
# of old orders must come out the same on a machine that has only a backup.
NAMESPACE = uuid.UUID("0c5d1a2e-6f0b-4f3c-9a51-c01500000001")

NO_HASH = "0" * 64

# The columns the chain covers: everything but what forgetting a player empties.
_CHAINED = (
    "previous_hash public_id game_id partner external_id reference kind player_id currency gross_minor subtotal_minor "
    "tax_minor usd_gross usd_tax usd_fee usd_net usd_unit figures fingerprint body_sha256 signed_with "
    "answer_status answer_body environment is_test occurred_at received_at"
).split()
_CHAINED_OF_GRANT = (
    "id game_id transaction_id kind player_id reverses restores policy reason is_test created_at"
).split()


@lru_cache(maxsize=256)  # asked for by the answer and again by the row
def public_id(game_slug: str, partner: str, external_id: str) -> str:
    """The id under which game and partner know a transaction: the same for the same order, for ever."""
    return str(uuid.uuid5(NAMESPACE, json.dumps([game_slug, partner, external_id], ensure_ascii=True)))


def insert(tx: Connection, row: Mapping[str, Any], previous_hash: str) -> int | None:
    """Add a transaction after the one with ``previous_hash``; returns its id, None when its external id is taken.

    ``row`` holds every column but the hashes and the time it is stored at.
    """
    values = {
        **row,
        "body_sha256": body_hash(row["raw_body"] or b""),
        "received_at": clock.stamp(),
        "previous_hash": previous_hash,
    }
    values["row_hash"] = row_hash(values)
    inserted = tx.execute(
        """INSERT INTO transactions
               (public_id, game_id, partner, external_id, reference, kind, player_id, currency, gross_minor,
                subtotal_minor, tax_minor, usd_gross, usd_tax, usd_fee, usd_net, usd_unit, figures, session_metadata,
                fingerprint, raw_body, body_sha256, signature, signed_with, answer_status, answer_body,
                environment, is_test, occurred_at, received_at, previous_hash, row_hash)
           VALUES
               (:public_id, :game_id, :partner, :external_id, :reference, :kind, :player_id, :currency, :gross_minor,
                :subtotal_minor, :tax_minor, :usd_gross, :usd_tax, :usd_fee, :usd_net, :usd_unit, :figures,
                :session_metadata, :fingerprint, :raw_body, :body_sha256, :signature, :signed_with, :answer_status,
                :answer_body, :environment, :is_test, :occurred_at, :received_at, :previous_hash, :row_hash)
           ON CONFLICT (game_id, partner, external_id) DO NOTHING RETURNING id""",
        values,
    ).fetchone()
    return None if inserted is None else int(inserted["id"])


def body_hash(raw_body: bytes) -> str:
    return hashlib.sha256(raw_body).hexdigest()


def last_hash(connection: Connection) -> str:
    """What the next row follows."""
    row = connection.execute("SELECT row_hash FROM transactions ORDER BY id DESC LIMIT 1").fetchone()
    return NO_HASH if row is None else str(row["row_hash"])


def row_hash(row: Mapping[str, Any] | Row) -> str:
    return digest([row[column] for column in _CHAINED])


def grant_hash(previous: str, grant: Mapping[str, Any] | Row, lines: Iterable[tuple[str, str, str | None]]) -> str:
    """Covers every column of a grant, and its lines: sku, quantity and policy."""
    return digest([previous, *(grant[column] for column in _CHAINED_OF_GRANT), sorted(lines)])


def digest(parts: list[object]) -> str:
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


def verify(connection: Connection, newest: int | None = None) -> Iterator[str]:
    """Check every hash, or those of the ``newest`` transactions and grants; yields one sentence per wrong thing."""
    yield from _verify_transactions(connection, newest)
    yield from _verify_grants(connection, newest)


def _verify_transactions(connection: Connection, newest: int | None) -> Iterator[str]:
    (last_id,) = connection.execute("SELECT coalesce(max(id), 0) FROM transactions").fetchone()
    first_id = 0 if newest is None else last_id - newest
    previous_hash: str | None = chain.NO_HASH if first_id <= 0 else None
    rows = connection.execute(
        """SELECT t.*, EXISTS (SELECT 1 FROM grants WHERE transaction_id = t.id AND kind = t.kind) AS has_grant
           FROM transactions t WHERE id > :first ORDER BY id""",
        {"first": first_id},
    )
    for row in rows:
        what = f"transaction {row['public_id']}"
        if previous_hash is not None and row["previous_hash"] != previous_hash:
            yield f"{what} does not follow the row before it"
        if row["row_hash"] != chain.row_hash(row):
            yield f"{what} was changed"
        # A body that was emptied is a player's who was forgotten.
        elif row["raw_body"] is not None and chain.body_hash(row["raw_body"]) != row["body_sha256"]:
            yield f"the kept body of {what} was changed"
        if not row["has_grant"]:
            yield f"the grant of {what} was removed"
        previous_hash = row["row_hash"]


def _verify_grants(connection: Connection, newest: int | None) -> Iterator[str]:
    (last_id,) = connection.execute("SELECT coalesce(max(id), 0) FROM grants").fetchone()
    first_id = 0 if newest is None else last_id - newest
    before = connection.execute(
        "SELECT grant_hash FROM grants WHERE id <= :first ORDER BY id DESC LIMIT 1", {"first": first_id}
    ).fetchone()
    rows = connection.execute(
        """SELECT g.*, t.public_id, e.sku, e.quantity, e.policy AS line_policy
           FROM grants g LEFT JOIN transactions t ON t.id = g.transaction_id
           LEFT JOIN entries e ON e.grant_id = g.id WHERE g.id > :first ORDER BY g.id""",
        {"first": first_id},
    )
    previous_hash = chain.NO_HASH if before is None else before["grant_hash"]
    for _, group in groupby(rows, lambda row: row["id"]):
        lines = list(group)
        row = lines[0]
        entries = [(line["sku"], line["quantity"], line["line_policy"]) for line in lines if line["sku"] is not None]
        if row["grant_hash"] != chain.grant_hash(previous_hash, row, entries):
            yield (
                f"grant {row['id']} ({row['kind']} of transaction {row['public_id']}) was changed or added, "
                "or one before it was removed"
            )
        previous_hash = row["grant_hash"]
