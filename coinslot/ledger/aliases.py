"""One purchase under several ids: which stored transaction a report is of, whatever order the reports came in.

A report goes by its proper id, or by a fallback where it lacks that. What an id was answered with stays its answer:

* the transaction that is stored under the id itself; else
* the one that took the id as a further name when a report by it was answered (a key of kind ``alias`` for a proper id,
  ``fallback`` for another); else
* by a fallback id, whatever shares one of the report's keys, the same content first; by a proper id, a transaction that
  was stored by a fallback id, shares a key, and that no proper id has claimed yet: two proper ids are two purchases,
  even when they share a key.
"""

from collections.abc import Iterable

from coinslot.ledger import grants, notices
from coinslot.ledger.reports import Credit
from coinslot.store.db import Connection, Row

PROPER, FALLBACK = "alias", "fallback"
TWIN = (
    "twin"  # the proper id of a purchase that was stored a second time, by a fallback id: no other one may claim that
)


def find(connection: Connection, wanted: Credit) -> Row | None:
    """The transaction that a report is of; None when there is none yet."""
    known = by_external_id(connection, wanted)
    if known is None and not wanted.is_fallback:
        known = _by_key(connection, wanted, PROPER, wanted.external_id)
    if known is not None:
        return known
    keys = ((FALLBACK, wanted.external_id), *wanted.known_by) if wanted.is_fallback else wanted.known_by
    claims = (_by_key(connection, wanted, kind, value, unclaimed=not wanted.is_fallback) for kind, value in keys)
    found = [row for row in claims if row is not None]
    return min(found, key=lambda row: bool(row["fingerprint"] != wanted.fingerprint), default=None)


def by_external_id(connection: Connection, wanted: Credit) -> Row | None:
    row: Row | None = connection.execute(
        """SELECT id, public_id, external_id, fingerprint, answer_status, answer_body FROM transactions
           WHERE game_id = :game_id AND partner = :partner AND external_id = :external_id""",
        {"game_id": wanted.game_id, "partner": wanted.partner, "external_id": wanted.external_id},
    ).fetchone()
    return row


def names(wanted: Credit, known: Row) -> list[tuple[str, str]]:
    """The keys a repeat adds to the transaction it is of: whatever ids it brought lead there from now on."""
    keys = [(kind, value) for kind, value in wanted.keys if kind != "signature"]
    if known["external_id"] != wanted.external_id:
        keys.append((FALLBACK if wanted.is_fallback else PROPER, wanted.external_id))
    return keys


def note_twins(tx: Connection, wanted: Credit, known: Row) -> None:
    """Have a person look at each other transaction of this purchase, which was credited twice then.

    That is one stored by a fallback id that the report names beside its own, and that no other proper id has claimed.
    """
    for kind, value in wanted.known_by:
        twin = tx.execute(
            """SELECT t.id, t.reference FROM transactions t
               WHERE t.game_id = :game_id AND t.partner = :partner AND t.external_id = :external_id AND t.id <> :id
                 AND NOT EXISTS (SELECT 1 FROM transaction_keys a
                                 WHERE a.game_id = t.game_id AND a.partner = t.partner AND a.kind = 'alias'
                                   AND a.transaction_id = t.id)""",
            {
                "game_id": wanted.game_id,
                "partner": wanted.partner,
                "external_id": f"{kind}:{value}",
                "id": known["id"],
            },
        ).fetchone()
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
            _granted_twice(tx, second),
            transaction_id=first,
            other_id=second,
        )


def insert_keys(tx: Connection, wanted: Credit, keys: Iterable[tuple[str, str]], transaction_id: int) -> None:
    tx.executemany(
        """INSERT INTO transaction_keys (game_id, partner, kind, value, transaction_id)
           VALUES (:game_id, :partner, :kind, :value, :id)
           ON CONFLICT (game_id, partner, kind, value, transaction_id) DO NOTHING""",
        [
            {"game_id": wanted.game_id, "partner": wanted.partner, "kind": kind, "value": value, "id": transaction_id}
            for kind, value in keys
        ],
    )


def _granted_twice(tx: Connection, transaction_id: int) -> str:
    """What the later of two transactions granted, in words."""
    row = tx.execute(
        """SELECT g.id FROM grants g JOIN transactions t ON t.id = g.transaction_id
           WHERE t.id = :id AND g.kind = t.kind""",
        {"id": transaction_id},
    ).fetchone()
    lines = {} if row is None else grants.lines(tx, row["id"])
    return ", ".join(f"{quantity} {sku}" for sku, quantity in lines.items()) or "nothing"


def _by_key(connection: Connection, wanted: Credit, kind: str, value: str, unclaimed: bool = False) -> Row | None:
    """The transaction with this key; among several the one with the same content, else the oldest.

    ``unclaimed``: only one that was stored by a fallback id and that no proper id has as an alias.
    """
    row: Row | None = connection.execute(
        """SELECT t.id, t.public_id, t.external_id, t.fingerprint, t.answer_status, t.answer_body
           FROM transaction_keys k JOIN transactions t ON t.id = k.transaction_id
           WHERE k.game_id = :game_id AND k.partner = :partner AND k.kind = +:kind /* hint */ AND k.value = :value
             AND (:unclaimed = 0 OR (t.external_id <> t.reference AND NOT EXISTS (
                  SELECT 1 FROM transaction_keys a WHERE a.game_id = :game_id AND a.partner = :partner
                  AND a.kind IN ('alias', 'twin') AND a.transaction_id = t.id)))
           ORDER BY CASE WHEN t.fingerprint = :fingerprint THEN 0 ELSE 1 END, t.id LIMIT 1""",
        {
            "game_id": wanted.game_id,
            "partner": wanted.partner,
            "kind": kind,
            "value": value,
            "fingerprint": wanted.fingerprint,
            "unclaimed": int(unclaimed),
        },
    ).fetchone()
    return row
