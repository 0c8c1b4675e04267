"""One purchase under several ids: which stored transaction a report is of, in whatever order the reports came.

A report has its proper id, or a fallback id where it lacks that. An id keeps the answer it once got:

* by the transaction that is stored under the id; else
* by the one that took the id as another name when a report by it was answered (a key of kind ``alias`` for a proper
  id, ``fallback`` for a fallback id); else
* a fallback id means whatever transaction shares one of the report's keys, the same content first; a proper id means a
  transaction that was stored by a fallback id, shares a key, and has no proper id yet: two proper ids are two
  purchases, even when they share a key.
"""

from collections.abc import Iterable

from coinslot.ledger import grants, notices
from coinslot.ledger.reports import Credit
from coinslot.store import queries
from coinslot.store.db import Connection, Row

PROPER, FALLBACK = "alias", "fallback"
TWIN = "twin"  # the proper id of a purchase that was stored again by a fallback id; no other proper id may take that


def find(connection: Connection, wanted: Credit) -> Row | None:
    """The transaction that a report is of; None when there is none yet."""
    known = by_external_id(connection, wanted)
    if known is None and not wanted.is_fallback:
        known = _by_key(connection, wanted, PROPER, wanted.external_id)
    if known is not None:
        return known
    keys = ((FALLBACK, wanted.external_id), *wanted.known_by) if wanted.is_fallback else wanted.known_by
    found = [_by_key(connection, wanted, kind, value, has_no_proper_id=not wanted.is_fallback) for kind, value in keys]
    known_rows = [row for row in found if row is not None]
    return min(known_rows, key=lambda row: bool(row["fingerprint"] != wanted.fingerprint), default=None)


def by_external_id(connection: Connection, wanted: Credit) -> Row | None:
    """The transaction that is stored under the report's own id; None when there is none."""
    return queries.row(
        connection,
        """SELECT id, public_id, external_id, fingerprint, answer_status, answer_body FROM transactions
           WHERE game_id = :game_id AND partner = :partner AND external_id = :external_id""",
        vars(wanted),
    )


def names(wanted: Credit, known: Row) -> list[tuple[str, str]]:
    """The keys that a repeat adds to its transaction, so that every id it brought leads there from now on."""
    keys = [(kind, value) for kind, value in wanted.keys if kind != "signature"]
    if known["external_id"] != wanted.external_id:
        keys.append((FALLBACK if wanted.is_fallback else PROPER, wanted.external_id))
    return keys


def note_twins(tx: Connection, wanted: Credit, known: Row) -> None:
    """Note for a person each other transaction of this purchase: it was credited twice.

    That is a transaction stored by a fallback id which the report names beside its own id, and without a proper id.
    """
    for kind, value in wanted.known_by:
        twin = queries.row(
            tx,
            """SELECT t.id, t.reference FROM transactions t
               WHERE t.game_id = :game_id AND t.partner = :partner AND t.external_id = :fallback_id AND t.id <> :id
                 AND NOT EXISTS (SELECT 1 FROM transaction_keys a
                                 WHERE a.game_id = t.game_id AND a.partner = t.partner AND a.kind = 'alias'
                                   AND a.transaction_id = t.id)""",
            {**vars(wanted), "fallback_id": f"{kind}:{value}", "id": known["id"]},
        )
        if twin is None:
            continue
        if not wanted.is_fallback:
            insert_keys(tx, wanted, [(TWIN, wanted.external_id)], twin["id"])
        first, second = sorted((known["id"], twin["id"]))
        reference = {known["id"]: wanted.reference, twin["id"]: twin["reference"]}
        notices.note(
            tx,
            wanted.game_id,
            wanted.partner,
            "credited_twice",
            f"{reference[first]} and {reference[second]}",
            _describe_grant(tx, second),
            transaction_id=first,
            other_id=second,
        )


def insert_keys(tx: Connection, wanted: Credit, keys: Iterable[tuple[str, str]], transaction_id: int) -> None:
    """Add other ids of a transaction; one that it has already is no error."""
    tx.executemany(
        """INSERT INTO transaction_keys (game_id, partner, kind, value, transaction_id)
           VALUES (:game_id, :partner, :kind, :value, :id)
           ON CONFLICT (game_id, partner, kind, value, transaction_id) DO NOTHING""",
        [
            {"game_id": wanted.game_id, "partner": wanted.partner, "kind": kind, "value": value, "id": transaction_id}
            for kind, value in keys
        ],
    )


def _describe_grant(tx: Connection, transaction_id: int) -> str:
    """What a transaction granted, such as ``5 coins, 1 sword``."""
    grant_id = queries.value(
        tx,
        """SELECT g.id FROM grants g JOIN transactions t ON t.id = g.transaction_id
           WHERE t.id = :id AND g.kind = t.kind""",
        {"id": transaction_id},
    )
    lines = {} if grant_id is None else grants.lines(tx, grant_id)
    return ", ".join(f"{quantity} {sku}" for sku, quantity in lines.items()) or "nothing"


def _by_key(
    connection: Connection, wanted: Credit, kind: str, value: str, has_no_proper_id: bool = False
) -> Row | None:
    """The transaction with this key; among several the one with the same content, else the oldest.

    ``has_no_proper_id``: only one that was stored by a fallback id and that no proper id has as an alias.
    """
    return queries.row(
        connection,
        """SELECT t.id, t.public_id, t.external_id, t.fingerprint, t.answer_status, t.answer_body
           FROM transaction_keys k JOIN transactions t ON t.id = k.transaction_id
           WHERE k.game_id = :game_id AND k.partner = :partner AND k.kind = +:key_kind /* hint */ AND k.value = :value
             AND (:has_no_proper_id = 0 OR (t.external_id <> t.reference AND NOT EXISTS (
                  SELECT 1 FROM transaction_keys a WHERE a.game_id = :game_id AND a.partner = :partner
                  AND a.kind IN ('alias', 'twin') AND a.transaction_id = t.id)))
           ORDER BY CASE WHEN t.fingerprint = :fingerprint THEN 0 ELSE 1 END, t.id LIMIT 1""",
        {**vars(wanted), "key_kind": kind, "value": value, "has_no_proper_id": int(has_no_proper_id)},
    )
