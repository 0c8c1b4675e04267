"""A month held against a partner's own figures: which purchases agree, which do not, and what mends each.

``judging.py`` compares one purchase. Around it a run goes through three states, in steps of some thousand rows, each
committed with how far it has come: ``reading`` (the partner's rows come in, by :func:`add_rows`), ``comparing``
(theirs, in the order of their ids, with ours), ``searching`` (ours that they do not have). A step that is done twice,
or by two at once, is done once. So a run goes on where it stopped, in whichever process, and never holds more than one
step in memory.

Purchases are found by their id in whatever month they are here: the two sides need not agree where a month begins. What
is not reported and lies in the hours by which the two months may differ is ``at_edge``. What is worth nothing on both
sides (a refund of what was never granted) is no difference.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from coinslot.base import clock
from coinslot.settlement import judging
from coinslot.settlement.judging import UNREADABLE, PartnerRow
from coinslot.settlement.outcomes import Run
from coinslot.settlement.periods import Month
from coinslot.store import audit
from coinslot.store.db import Connection, Database

ROWS_AT_ONCE = 5000  # a few tens of milliseconds of writing
CLEARED_AT_ONCE = 5000
MOST_NOTES = 20


# A run


def start(
    tx: Connection,
    game_id: int,
    month: Month,
    partner: str,
    source: str,
    fingerprint: str,
    actor: str,
    *,
    is_of_payments: bool,
) -> int:
    """Begin a run and return its id; one of the same source that has not ended goes on. The partner's last is replaced.

    ``fingerprint`` tells one file, and how it is read, from another.
    """
    held_at = clock.stamp()
    known = tx.execute(
        """SELECT id, source, fingerprint, state, held_at FROM reconciliations
           WHERE game_id = :game_id AND month = :month AND partner = :partner AND state <> 'replaced'""",
        {"game_id": game_id, "month": month.name, "partner": partner},
    ).fetchone()
    if known is not None:
        if (known["source"], known["fingerprint"]) == (source, fingerprint):
            if known["state"] != "done":
                return int(known["id"])
            held_at = known["held_at"]
        tx.execute("UPDATE reconciliations SET state = 'replaced' WHERE id = :id", {"id": known["id"]})
    row = tx.execute(
        """INSERT INTO reconciliations (game_id, month, partner, is_of_payments, source, fingerprint, starts_at,
                                        ends_at, state, started_at, held_at)
           VALUES (:game_id, :month, :partner, :is_of_payments, :source, :fingerprint, :starts_at, :ends_at,
                   'reading', :now, :held_at)
           RETURNING id""",
        {
            "game_id": game_id,
            "month": month.name,
            "partner": partner,
            "is_of_payments": int(is_of_payments),
            "source": source,
            "fingerprint": fingerprint,
            "starts_at": month.starts_at,
            "ends_at": month.ends_at,
            "now": clock.stamp(),
            "held_at": held_at,
        },
    ).fetchone()
    audit.record(tx, game_id, actor, "settlement.reconcile", f"{month.name} {partner} by {source}")
    return int(row["id"])


def add_rows(
    database: Database,
    run: Run,
    rows: Sequence[PartnerRow],
    cursor: str,
    *,
    odd: int = 0,
    expected: int | None = None,
    is_last: bool = False,
    notes: Sequence[str] = (),
) -> bool:
    """Keep some of the partner's rows, and how far that has come. Returns whether this call did it.

    The same row is kept once; two of one id that tell other amounts are both kept. ``odd`` is how many lines could not
    be read at all; ``notes`` are sentences on how the report was read.
    """
    unread = odd + sum(row.kind == UNREADABLE for row in rows)
    known = _own_references(database.read(), run, rows)
    paid_at = [row.occurred_at for row in rows if row.kind == judging.PAID and row.occurred_at]
    paid_at += [at for at in (run.first_paid_at, run.last_paid_at) if at is not None]
    # By place, not by name: there may be millions, and a dictionary for each takes as long as the rest. In the order of
    # the key, so that rows that lie together are written together.
    values: list[tuple[Any, ...]] = []
    for row in rows:
        own, row_id = known.get(row, row.reference), f"{row.row_id}:{row.amount_minor}:{row.currency}"
        sample = row.sample or (None if own == row.reference else row.reference)
        values.append((run.id, own, row_id, *row[2:6], sample))
    values.sort(key=lambda row: row[1:3])

    def keep(tx: Connection) -> bool:
        moved = tx.execute(
            """UPDATE reconciliations SET cursor = :cursor, rows_read = rows_read + :count, rows_odd = rows_odd + :odd,
                      rows_expected = coalesce(:expected, rows_expected), state = :state,
                      notes = coalesce(:notes, notes), first_paid_at = :first, last_paid_at = :last
               WHERE id = :id AND state = 'reading' AND cursor = :before""",
            {
                "id": run.id,
                "before": run.cursor,
                "cursor": "" if is_last else cursor,
                "count": len(rows) + odd,
                "odd": unread,
                "expected": expected,
                "state": "comparing" if is_last else "reading",
                "notes": json.dumps(notes[:MOST_NOTES]) if notes else None,
                "first": min(paid_at, default=None),
                "last": max(paid_at, default=None),
            },
        ).rowcount
        if not moved:
            return False
        tx.executemany(
            """INSERT INTO partner_rows (reconciliation_id, reference, row_id, kind, amount_minor, currency,
                                         occurred_at, sample)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (reconciliation_id, reference, row_id) DO NOTHING""",
            values,
        )
        return True

    return database.write(keep)


def replace_all(tx: Connection, game_id: int, month: str) -> None:
    """What a month was held against counts no more: it is another one when it is closed again."""
    tx.execute(
        """UPDATE reconciliations SET state = 'replaced'
           WHERE game_id = :game_id AND month = :month AND state <> 'replaced'""",
        {"game_id": game_id, "month": month},
    )


def clear(tx: Connection, game_id: int) -> bool:
    """Delete some of what replaced runs have left; returns whether there may be more."""
    row = tx.execute(
        "SELECT id FROM reconciliations WHERE game_id = :game_id AND state = 'replaced' ORDER BY id LIMIT 1",
        {"game_id": game_id},
    ).fetchone()
    if row is None:
        return False
    values = {"id": row["id"], "limit": CLEARED_AT_ONCE}
    left = tx.execute(
        """DELETE FROM partner_rows WHERE (reconciliation_id, reference, row_id) IN
               (SELECT reconciliation_id, reference, row_id FROM partner_rows
                WHERE reconciliation_id = :id LIMIT :limit)""",
        values,
    ).rowcount
    left += tx.execute(
        """DELETE FROM differences WHERE id IN
               (SELECT id FROM differences WHERE reconciliation_id = :id LIMIT :limit)""",
        values,
    ).rowcount
    if not left:
        tx.execute("DELETE FROM reconciliations WHERE id = :id", values)
    return True


# How


def _own_references(connection: Connection, run: Run, rows: Sequence[PartnerRow]) -> Mapping[PartnerRow, str]:
    """Our own ids of those orders that came under another id than the report gives.

    They are known by our public id, where the report has it, or by the alias that a later call has left.
    """
    if run.is_of_payments:
        return {}
    values = {
        "public_ids": json.dumps(sorted({row.ours for row in rows if row.ours})),
        "references": json.dumps(sorted({row.reference for row in rows})),
        "game_id": run.game_id,
        "partner": run.partner,
    }
    found = connection.execute(
        """SELECT 1 AS is_public, t.public_id AS told, t.external_id
           FROM json_each(:public_ids) j CROSS JOIN /* hint */ transactions t ON t.public_id = j.value
           WHERE t.game_id = :game_id AND t.partner = :partner
           UNION ALL
           SELECT 0, k.value, t.external_id
           FROM json_each(:references) j CROSS JOIN /* hint */ transaction_keys k
           ON k.game_id = :game_id AND k.partner = :partner AND k.kind = 'alias' AND k.value = j.value
           CROSS JOIN /* hint */ transactions t ON t.id = k.transaction_id""",
        values,
    )
    own = {(bool(each["is_public"]), each["told"]): str(each["external_id"]) for each in found}
    if not own:
        return {}
    pairs = ((row, own.get((True, row.ours)) or own.get((False, row.reference))) for row in rows)
    return {row: reference for row, reference in pairs if reference is not None}
