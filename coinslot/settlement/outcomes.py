"""Reconciliations as they stand: how far each run is, and what it has found. Everything here only reads."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from coinslot.base import clock, money
from coinslot.games.games import GameError
from coinslot.settlement.judging import MISSING_HERE, RESULTS
from coinslot.settlement.periods import Month
from coinslot.store.db import Connection, Row


class ReconciliationError(GameError):
    """What was asked of a reconciliation cannot be done."""


@dataclass(frozen=True)
class Run:
    """A row of ``reconciliations``."""

    id: int
    game_id: int
    month: Month
    partner: str
    is_of_payments: bool
    source: str
    state: str
    cursor: str
    rows_expected: int | None
    rows_read: int
    rows_odd: int
    rows_compared: int
    matched: int
    started_at: str
    finished_at: str | None
    held_at: str
    first_paid_at: str | None
    last_paid_at: str | None
    notes: tuple[str, ...]
    summary: "tuple[Summed, ...]"

    @property
    def is_done(self) -> bool:
        """Whether all of it is known: a run that has come to its end is summed up in a step of its own."""
        return self.finished_at is not None

    @property
    def agrees(self) -> bool:
        """Whether every row could be read and nothing differs; of one that is done."""
        return not self.summary and not self.rows_odd

    @property
    def progress(self) -> float:
        """How much of it is done, from 0 to 1: a guess that only grows."""
        if self.state == "reading":
            return 0.6 * min(1.0, self.rows_read / self.rows_expected) if self.rows_expected else 0.0
        if self.state == "comparing":
            return 0.6 + 0.2 * (self.rows_compared / self.rows_read if self.rows_read else 1.0)
        if self.state == "searching":
            begins, ends = clock.seconds(self.month.starts_at), clock.seconds(self.month.ends_at)
            at = clock.seconds(json.loads(self.cursor)[0]) if self.cursor else begins
            return 0.8 + 0.2 * min(1.0, max(0.0, (at - begins) / (ends - begins)))
        return 1.0


@dataclass(frozen=True)
class Summed:
    """How many purchases differ in one way, and the sum at stake in one currency; None where no amount is known."""

    result: str
    currency: str | None
    count: int
    stake_minor: Decimal | None


def run_by_id(connection: Connection, run_id: int) -> Run | None:
    row = connection.execute("SELECT * FROM reconciliations WHERE id = :id", {"id": run_id}).fetchone()
    return None if row is None else run_of(row)


def runs(connection: Connection, game_id: int, month: str | None = None) -> list[Run]:
    """The standing run of each partner, of one month or of all; the newest month first."""
    rows = connection.execute(
        """SELECT * FROM reconciliations
           WHERE game_id = :game_id AND state <> 'replaced' AND (CAST(:month AS TEXT) IS NULL OR month = :month)
           ORDER BY month DESC, partner""",
        {"game_id": game_id, "month": month},
    )
    return [run_of(row) for row in rows]


def differences(
    connection: Connection,
    run_id: int,
    *,
    result: str | None = None,
    reference: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Row]:
    """What does not agree, in the order of ids above ``after``; of one result, or of one purchase, or all.

    Each has the columns of ``differences``; amounts are exact text in minor units of their currencies.
    """
    if reference is not None:
        return connection.execute(
            """SELECT * FROM differences
               WHERE reconciliation_id = :id AND reference = :reference AND id > :after
                 AND (CAST(:result AS TEXT) IS NULL OR result = :result)""",
            {"id": run_id, "reference": reference, "after": after, "result": result},
        ).fetchall()
    return connection.execute(
        _OF_EACH_RESULT if result is None else f"{_OF_ONE_RESULT} ORDER BY id LIMIT :limit",
        {"id": run_id, "result": result, "after": after, "limit": limit},
    ).fetchall()


_OF_ONE_RESULT = "SELECT * FROM differences WHERE reconciliation_id = :id AND result = :result AND id > :after"
# Each part comes out of the index in the order of ids, and the parts are merged: no more is read than is wanted.
_OF_EACH_RESULT = (
    " UNION ALL ".join(_OF_ONE_RESULT.replace(":result", f"'{result}'") for result in RESULTS)
    + " ORDER BY id LIMIT :limit"
)


def charged_but_not_granted(found: Iterable[Run]) -> list[Summed]:
    """The headline: what partners have charged and nobody here was given, per currency, of runs that are done.

    In-game payments are granted by the game itself: of those none is here.
    """
    counts: Counter[str | None] = Counter()
    stakes: dict[str | None, Decimal] = defaultdict(Decimal)
    with money.exactly():
        for run in found:
            for each in run.summary:
                if each.result == MISSING_HERE and not run.is_of_payments:
                    counts[each.currency] += each.count
                    stakes[each.currency] += each.stake_minor or 0
    return [Summed(MISSING_HERE, currency, counts[currency], stakes[currency]) for currency in sorted(counts, key=str)]


def run_of(row: Row) -> Run:
    return Run(
        id=row["id"],
        game_id=row["game_id"],
        month=Month(row["month"], row["starts_at"], row["ends_at"]),
        partner=row["partner"],
        is_of_payments=bool(row["is_of_payments"]),
        source=row["source"],
        state=row["state"],
        cursor=row["cursor"],
        rows_expected=row["rows_expected"],
        rows_read=row["rows_read"],
        rows_odd=row["rows_odd"],
        rows_compared=row["rows_compared"],
        matched=row["matched"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        held_at=row["held_at"],
        first_paid_at=row["first_paid_at"],
        last_paid_at=row["last_paid_at"],
        notes=tuple(json.loads(row["notes"] or "[]")),
        summary=tuple(
            Summed(result, currency, count, None if stake is None else Decimal(stake))
            for result, currency, count, stake in json.loads(row["summary"] or "[]")
        ),
    )
