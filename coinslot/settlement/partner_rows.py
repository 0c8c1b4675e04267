"""The rows of a partner's report, as a run keeps them in ``partner_rows``."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from coinslot.settlement.differences import PAID, UNREADABLE, PartnerRow
from coinslot.settlement.runs import Run
from coinslot.store.db import Connection, Database
from coinslot.store.paging import plain_rows

MOST_NOTES = 20


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

    The same row is kept once; two of one id with different amounts are both kept. ``odd`` is how many lines could not
    be read at all; ``notes`` are sentences on how the report was read.
    """
    known = _own_references(database.read(), run, rows)
    paid_at = [row.occurred_at for row in rows if row.kind == PAID and row.occurred_at]
    paid_at += [at for at in (run.first_paid_at, run.last_paid_at) if at is not None]
    # Tuples, not dictionaries: there may be millions. Sorted by the key, so that neighbours are written together.
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
                "odd": odd + sum(row.kind == UNREADABLE for row in rows),
                "expected": expected,
                "state": "comparing" if is_last else "reading",
                "notes": json.dumps(notes[:MOST_NOTES]) if notes else None,
                "first": min(paid_at, default=None),
                "last": max(paid_at, default=None),
            },
        ).rowcount
        if moved:
            tx.executemany(
                """INSERT INTO partner_rows (reconciliation_id, reference, row_id, kind, amount_minor, currency,
                                             occurred_at, sample)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (reconciliation_id, reference, row_id) DO NOTHING""",
                values,
            )
        return bool(moved)

    return database.write(keep)


def read_rows(connection: Connection, run: Run, first: str, last: str) -> Iterator[PartnerRow]:
    """What the partner has of the purchases from one id to another, sorted by id."""
    rows = plain_rows(
        connection,
        """SELECT reference, row_id, kind, amount_minor, currency, occurred_at, NULL, sample FROM partner_rows
           WHERE reconciliation_id = :id AND reference >= :first AND reference <= :last ORDER BY reference, row_id""",
        {"id": run.id, "first": first, "last": last},
    )
    return map(PartnerRow._make, rows)


def _own_references(connection: Connection, run: Run, rows: Sequence[PartnerRow]) -> Mapping[PartnerRow, str]:
    """Our own ids of those orders that have another id in the report.

    They are found by our public id, if the report has it, or by the alias that a later call left.
    """
    if run.is_of_payments:
        return {}
    found = connection.execute(
        """SELECT 1 AS is_public, t.public_id AS known_by, t.external_id
           FROM json_each(:public_ids) j CROSS JOIN /* hint */ transactions t ON t.public_id = j.value
           WHERE t.game_id = :game_id AND t.partner = :partner
           UNION ALL
           SELECT 0, k.value, t.external_id
           FROM json_each(:references) j CROSS JOIN /* hint */ transaction_keys k
           ON k.game_id = :game_id AND k.partner = :partner AND k.kind = 'alias' AND k.value = j.value
           CROSS JOIN /* hint */ transactions t ON t.id = k.transaction_id""",
        {
            "public_ids": json.dumps(sorted({row.ours for row in rows if row.ours})),
            "references": json.dumps(sorted({row.reference for row in rows})),
            "game_id": run.game_id,
            "partner": run.partner,
        },
    )
    own = {(bool(each["is_public"]), each["known_by"]): str(each["external_id"]) for each in found}
    pairs = ((row, own.get((True, row.ours)) or own.get((False, row.reference))) for row in rows if own)
    return {row: reference for row, reference in pairs if reference is not None}
