"""A month held against a partner's own figures: which purchases agree, which do not, and what mends each.

:func:`judge` is the whole comparison, of one purchase as both sides have it. Around it a run goes through three states,
in steps of some thousand rows, each committed with how far it has come: ``reading`` (the partner's rows come in, by
:func:`add_rows`), ``comparing`` (theirs, in the order of their ids, with ours), ``searching`` (ours that they do not
have). A step that is done twice, or by two at once, is done once. So a run goes on where it stopped, in whichever
process, and never holds more than one step in memory.

Purchases are found by their id in whatever month they are here: the two sides need not agree where a month begins. What
is worth nothing on both sides (a refund of what was never granted) is no difference.
"""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from coinslot import audit, clock, money
from coinslot.db import Database
from coinslot.games import GameError
from coinslot.months import Month
from coinslot.payments import REFUNDED_AT
from coinslot.statement import PAYMENTS_PARTNER

ROWS_AT_ONCE = 5000  # a few tens of milliseconds of writing
CLEARED_AT_ONCE = 5000

PAID, REFUNDED, REINSTATED = "paid", "refunded", "reinstated"
KINDS = (PAID, REFUNDED, REINSTATED)
MISSING_HERE, MISSING_THERE, AMOUNT_DIFFERS, REFUNDED_THERE, REFUNDED_HERE = RESULTS = (
    *("missing_here", "missing_there", "amount_differs"),
    *("refunded_there", "refunded_here"),
)


class ReconciliationError(GameError):
    """What was asked of a reconciliation cannot be done."""


class PartnerRow(NamedTuple):
    """One movement of money as the partner tells it. ``ours`` is our public id of the purchase, where it repeats that.

    ``amount_minor`` is exact text, in minor units of the currency; None where it is not told.
    """

    reference: str
    row_id: str
    kind: str
    amount_minor: str | None
    currency: str | None
    occurred_at: str | None
    ours: str | None = None


class Side(NamedTuple):
    """A purchase as one side has it. ``amount`` is in minor units; None where nobody told it."""

    amount: Decimal | None
    currency: str | None
    is_refunded: bool
    occurred_at: str | None


@dataclass(frozen=True)
class Verdict:
    """What does not agree, and what is at stake."""

    result: str
    stake: Decimal | None
    currency: str | None


@dataclass(frozen=True)
class Run:
    """A row of ``reconciliations``."""

    id: int
    game_id: int
    month: Month
    partner: str
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
    summary: "tuple[Summed, ...]"

    @property
    def is_done(self) -> bool:
        """Whether all of it is known: a run that has come to its end is summed up in a step of its own."""
        return self.finished_at is not None

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


def judge(ours: Side | None, theirs: Side | None) -> Verdict | None:
    """What does not agree about one purchase; None when nothing does."""
    if ours is None and theirs is None:
        return None
    if ours is None:
        assert theirs is not None
        if theirs.is_refunded or theirs.amount == 0:
            return None  # charged, given back and never granted; or free
        return Verdict(MISSING_HERE, theirs.amount, theirs.currency)
    if theirs is None:
        return None if ours.is_refunded else Verdict(MISSING_THERE, ours.amount, ours.currency)
    if ours.is_refunded != theirs.is_refunded:
        stake = ours.amount if ours.amount is not None else theirs.amount
        currency = ours.currency if ours.amount is not None else theirs.currency
        return Verdict(REFUNDED_THERE if theirs.is_refunded else REFUNDED_HERE, stake, currency)
    if theirs.amount is None or (ours.amount == theirs.amount and ours.currency in (theirs.currency, None)):
        return None
    if theirs.currency is None and ours.amount == theirs.amount:
        return None
    if ours.amount is None or ours.currency != theirs.currency:
        return Verdict(AMOUNT_DIFFERS, theirs.amount, theirs.currency)
    return Verdict(AMOUNT_DIFFERS, abs(ours.amount - theirs.amount), ours.currency)


def together(rows: Iterable[PartnerRow]) -> Side:
    """One purchase out of all that the partner tells of it: what was paid, and whether that was given back."""
    rows = list(rows)
    if len(rows) == 1 and rows[0].kind == PAID:  # most of them
        row = rows[0]
        amount = None if row.amount_minor is None else Decimal(row.amount_minor)
        return Side(amount, row.currency, False, row.occurred_at)
    amounts: list[Decimal] = []
    currency = occurred_at = None
    balance = 0
    for row in rows:
        if row.kind == PAID:
            if row.amount_minor is not None:
                amounts.append(Decimal(row.amount_minor))
            currency = row.currency or currency
            occurred_at = row.occurred_at or occurred_at
        else:
            balance += 1 if row.kind == REFUNDED else -1
            currency = currency or row.currency
            occurred_at = occurred_at or row.occurred_at
    with money.exactly():
        paid = sum(amounts, Decimal(0)) if amounts else None
    return Side(paid, currency, balance > 0, occurred_at)


def action(partner: str, result: str) -> str:
    """The word for what mends a difference."""
    return (_PAYMENT_ACTIONS if partner == PAYMENTS_PARTNER else _ORDER_ACTIONS)[result]


_PAYMENT_ACTIONS = {
    MISSING_HERE: "report_payment",
    MISSING_THERE: "register_payment",
    AMOUNT_DIFFERS: "ask_partner",
    REFUNDED_THERE: "report_refund",
    REFUNDED_HERE: "send_refund",
}
_ORDER_ACTIONS = {
    MISSING_HERE: "request_award",
    MISSING_THERE: "ask_partner",
    AMOUNT_DIFFERS: "ask_partner",
    REFUNDED_THERE: "record_refund",
    REFUNDED_HERE: "refund_order",
}


# A run


def start(
    tx: sqlite3.Connection, game_id: int, month: Month, partner: str, source: str, fingerprint: str, actor: str
) -> int:
    """Begin a run and return its id; one of the same source that has not ended goes on. The partner's last is replaced.

    ``fingerprint`` tells one file, and how it is read, from another.
    """
    known = tx.execute(
        """SELECT id, source, fingerprint, state FROM reconciliations
           WHERE game_id = :game_id AND month = :month AND partner = :partner AND state <> 'replaced'""",
        {"game_id": game_id, "month": month.name, "partner": partner},
    ).fetchone()
    if known is not None:
        if known["state"] != "done" and (known["source"], known["fingerprint"]) == (source, fingerprint):
            return int(known["id"])
        tx.execute("UPDATE reconciliations SET state = 'replaced' WHERE id = :id", {"id": known["id"]})
    row = tx.execute(
        """INSERT INTO reconciliations (game_id, month, partner, source, fingerprint, starts_at, ends_at, state,
                                        started_at)
           VALUES (:game_id, :month, :partner, :source, :fingerprint, :starts_at, :ends_at, 'reading', :now)
           RETURNING id""",
        {
            "game_id": game_id,
            "month": month.name,
            "partner": partner,
            "source": source,
            "fingerprint": fingerprint,
            "starts_at": month.starts_at,
            "ends_at": month.ends_at,
            "now": clock.stamp(),
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
) -> bool:
    """Keep some of the partner's rows, and how far that has come. Returns whether this call did it.

    Rows kept before are not kept twice. ``odd`` is how many could not be read; what was paid without an amount is kept
    and counts as one of them, since nothing can be held against it.
    """
    unread = odd + sum(row.kind == PAID and row.amount_minor is None for row in rows)
    known = _own_references(database.read(), run, rows)
    # By place, not by name: there may be millions, and a dictionary for each takes as long as the rest. In the order of
    # the key, so that rows that lie together are written together.
    values: list[tuple[Any, ...]] = [(run.id, known.get(row, row.reference), *row[1:6]) for row in rows]
    values.sort(key=lambda row: row[1:3])

    def keep(tx: sqlite3.Connection) -> bool:
        moved = tx.execute(
            """UPDATE reconciliations SET cursor = :cursor, rows_read = rows_read + :count, rows_odd = rows_odd + :odd,
                      rows_expected = coalesce(:expected, rows_expected), state = :state
               WHERE id = :id AND state = 'reading' AND cursor = :before""",
            {
                "id": run.id,
                "before": run.cursor,
                "cursor": "" if is_last else cursor,
                "count": len(rows) + odd,
                "odd": unread,
                "expected": expected,
                "state": "comparing" if is_last else "reading",
            },
        ).rowcount
        if not moved:
            return False
        tx.executemany(
            """INSERT INTO partner_rows (reconciliation_id, reference, row_id, kind, amount_minor, currency,
                                         occurred_at)
               VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (reconciliation_id, reference, row_id) DO NOTHING""",
            values,
        )
        return True

    return database.write(keep)


def step(database: Database, run: Run, *, refunds_until: str | None = None) -> None:
    """Compare, search or sum up some more. To be called with the run as it is now, until that is done.

    ``refunds_until``: the partner's report ends there, so that refunds of ours from then on are not in it.
    """
    if run.state == "comparing":
        _compare(database, run, refunds_until)
    elif run.state == "searching":
        _search(database, run)
    elif run.state == "done":
        finish(database, run.id)


def replace_all(tx: sqlite3.Connection, game_id: int, month: str) -> None:
    """What a month was held against counts no more: it is another one when it is closed again."""
    tx.execute(
        """UPDATE reconciliations SET state = 'replaced'
           WHERE game_id = :game_id AND month = :month AND state <> 'replaced'""",
        {"game_id": game_id, "month": month},
    )


def clear(tx: sqlite3.Connection, game_id: int) -> bool:
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
        """DELETE FROM reconciliation WHERE id IN
               (SELECT id FROM reconciliation WHERE reconciliation_id = :id LIMIT :limit)""",
        values,
    ).rowcount
    if not left:
        tx.execute("DELETE FROM reconciliations WHERE id = :id", values)
    return True


# Reading


def run_by_id(connection: sqlite3.Connection, run_id: int) -> Run | None:
    row = connection.execute("SELECT * FROM reconciliations WHERE id = :id", {"id": run_id}).fetchone()
    return None if row is None else _run(row)


def runs(connection: sqlite3.Connection, game_id: int, month: str | None = None) -> list[Run]:
    """The standing run of each partner, of one month or of all; the newest month first."""
    rows = connection.execute(
        """SELECT * FROM reconciliations
           WHERE game_id = :game_id AND state <> 'replaced' AND (:month IS NULL OR month = :month)
           ORDER BY month DESC, partner""",
        {"game_id": game_id, "month": month},
    )
    return [_run(row) for row in rows]


def differences(
    connection: sqlite3.Connection,
    run_id: int,
    *,
    result: str | None = None,
    reference: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[sqlite3.Row]:
    """What does not agree, in the order of ids above ``after``; of one result, or of one purchase, or all.

    Each has the columns of ``reconciliation``; amounts are exact text in minor units of their currencies.
    """
    if reference is not None:
        return connection.execute(
            """SELECT * FROM reconciliation
               WHERE reconciliation_id = :id AND reference = :reference AND id > :after
                 AND (:result IS NULL OR result = :result)""",
            {"id": run_id, "reference": reference, "after": after, "result": result},
        ).fetchall()
    return connection.execute(
        _OF_EACH_RESULT if result is None else f"{_OF_ONE_RESULT} ORDER BY id LIMIT :limit",
        {"id": run_id, "result": result, "after": after, "limit": limit},
    ).fetchall()


_OF_ONE_RESULT = "SELECT * FROM reconciliation WHERE reconciliation_id = :id AND result = :result AND id > :after"
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
                if each.result == MISSING_HERE and run.partner != PAYMENTS_PARTNER:
                    counts[each.currency] += each.count
                    stakes[each.currency] += each.stake_minor or 0
    return [Summed(MISSING_HERE, currency, counts[currency], stakes[currency]) for currency in sorted(counts, key=str)]


# How


def _compare(database: Database, run: Run, refunds_until: str | None) -> None:
    with database.snapshot() as connection:
        ids = [
            row["reference"]
            for row in connection.execute(
                """SELECT DISTINCT reference FROM partner_rows WHERE reconciliation_id = :id AND reference > :after
                   ORDER BY reference LIMIT :limit""",
                {"id": run.id, "after": run.cursor, "limit": ROWS_AT_ONCE},
            )
        ]
        if not ids:
            _move(database, run, [], "", 0, 0, "searching")
            return
        found = []
        rows = matched = 0
        ours = _ours(connection, run, ids)
        for reference, group in groupby(_theirs(connection, run, ids), key=lambda row: row.reference):
            told = list(group)
            rows += len(told)
            mine, refunded_at = ours.get(reference, (None, None))
            if mine is not None and refunds_until is not None and (refunded_at or "") >= refunds_until:
                mine = Side(mine.amount, mine.currency, False, mine.occurred_at)
            theirs = together(told)
            verdict = judge(mine, theirs)
            if verdict is not None:
                found.append(_difference(run, reference, verdict, mine, theirs))
            elif mine is not None:
                matched += 1
    _move(database, run, found, ids[-1], rows, matched, "comparing")


def _search(database: Database, run: Run) -> None:
    at, last_id = json.loads(run.cursor) if run.cursor else (run.month.starts_at, 0)
    with database.snapshot() as connection:
        rows = connection.execute(
            _OUR_PAYMENTS if run.partner == PAYMENTS_PARTNER else _OUR_ORDERS,
            {
                "id": run.id,
                "game_id": run.game_id,
                "partner": run.partner,
                "at": at,
                "last_id": last_id,
                "ends_at": run.month.ends_at,
                "limit": ROWS_AT_ONCE,
            },
        ).fetchall()
    found = []
    for row in rows:
        if row["is_there"] or not row["counts"]:
            continue
        mine = Side(_own_amount(row), row["currency"], bool(row["is_refunded"]), row["at"])
        verdict = judge(mine, None)
        if verdict is not None:
            found.append(_difference(run, row["reference"], verdict, mine, None))
    is_over = len(rows) < ROWS_AT_ONCE
    cursor = "" if is_over else json.dumps([rows[-1]["at"], rows[-1]["id"]])
    _move(database, run, found, cursor, 0, 0, "done" if is_over else "searching")


_OUR_PAYMENTS = """
    SELECT p.purchased_at AS at, p.id, p.transaction_id AS reference, p.amount, NULL AS gross_minor, p.currency,
           p.refunded_at IS NOT NULL AS is_refunded,
           p.is_test = 0 AND p.amount <> '0' AND NOT (p.source = 'appcharge' AND p.state = 'kept')
               AND p.distribution_type IS NOT NULL AS counts,
           EXISTS (SELECT 1 FROM partner_rows r
                   WHERE r.reconciliation_id = :id AND r.reference = p.transaction_id) AS is_there
    FROM payments p
    WHERE p.game_id = :game_id AND p.purchased_at >= :at AND p.purchased_at < :ends_at
      AND (p.purchased_at > :at OR p.id > :last_id)
    ORDER BY p.purchased_at, p.id LIMIT :limit"""
_OUR_ORDERS = f"""
    SELECT coalesce(t.occurred_at, t.received_at) AS at, t.id, t.external_id AS reference, NULL AS amount,
           t.gross_minor, t.currency, {REFUNDED_AT} IS NOT NULL AS is_refunded,
           t.is_test = 0 AND t.kind = 'purchase' AND coalesce(t.gross_minor, 1) > 0 AND t.partner = :partner AS counts,
           EXISTS (SELECT 1 FROM partner_rows r
                   WHERE r.reconciliation_id = :id AND r.reference = t.external_id) AS is_there
    FROM transactions t
    WHERE t.game_id = :game_id AND coalesce(t.occurred_at, t.received_at) >= :at
      AND coalesce(t.occurred_at, t.received_at) < :ends_at
      AND (coalesce(t.occurred_at, t.received_at) > :at OR t.id > :last_id)
    ORDER BY coalesce(t.occurred_at, t.received_at), t.id LIMIT :limit"""  # noqa: S608 (constants of ours)


def _theirs(connection: sqlite3.Connection, run: Run, ids: Sequence[str]) -> Iterator[PartnerRow]:
    rows = connection.cursor()
    rows.row_factory = None
    rows.execute(
        """SELECT reference, row_id, kind, amount_minor, currency, occurred_at, NULL FROM partner_rows
           WHERE reconciliation_id = :id AND reference >= :first AND reference <= :last ORDER BY reference, row_id""",
        {"id": run.id, "first": ids[0], "last": ids[-1]},
    )
    return map(PartnerRow._make, rows)


def _ours(connection: sqlite3.Connection, run: Run, ids: Sequence[str]) -> dict[str, tuple[Side, str | None]]:
    """What we have of the purchases with these ids, tests left out, and since when each is refunded."""
    values = {"game_id": run.game_id, "partner": run.partner, "ids": json.dumps(ids)}
    if run.partner == PAYMENTS_PARTNER:
        rows = connection.execute(
            """SELECT p.transaction_id AS reference, p.amount, NULL AS gross_minor, p.currency, p.refunded_at,
                      p.purchased_at AS at
               FROM json_each(:ids) j CROSS JOIN payments p ON p.game_id = :game_id AND p.transaction_id = j.value
               WHERE p.is_test = 0""",
            values,
        )
    else:
        rows = connection.execute(
            f"""SELECT t.external_id AS reference, NULL AS amount, t.gross_minor, t.currency,
                      {REFUNDED_AT} AS refunded_at, coalesce(t.occurred_at, t.received_at) AS at
               FROM json_each(:ids) j CROSS JOIN transactions t
               ON t.game_id = :game_id AND t.partner = :partner AND t.external_id = j.value
               WHERE t.is_test = 0 AND t.kind <> 'adjustment'""",  # noqa: S608 (a constant of ours)
            values,
        )
    return {
        row["reference"]: (
            Side(_own_amount(row), row["currency"], row["refunded_at"] is not None, row["at"]),
            row["refunded_at"],
        )
        for row in rows
    }


def _own_amount(row: sqlite3.Row) -> Decimal | None:
    if row["gross_minor"] is not None:
        return Decimal(row["gross_minor"])
    if row["amount"] is None or row["currency"] is None:
        return None
    return _in_minor(row["amount"], row["currency"])


@lru_cache(maxsize=4096)  # of a million payments few have a price of their own
def _in_minor(amount: str, currency: str) -> Decimal | None:
    return money.in_minor(Decimal(amount), currency)


def _own_references(connection: sqlite3.Connection, run: Run, rows: Sequence[PartnerRow]) -> Mapping[PartnerRow, str]:
    """Our own ids of those orders that came under another id than the report gives.

    They are known by our public id, where the report has it, or by the alias that a later call has left.
    """
    if run.partner == PAYMENTS_PARTNER:
        return {}
    values = {
        "public_ids": json.dumps(sorted({row.ours for row in rows if row.ours})),
        "references": json.dumps(sorted({row.reference for row in rows})),
        "game_id": run.game_id,
        "partner": run.partner,
    }
    found = connection.execute(
        """SELECT 1 AS is_public, t.public_id AS told, t.external_id
           FROM json_each(:public_ids) j CROSS JOIN transactions t ON t.public_id = j.value
           WHERE t.game_id = :game_id AND t.partner = :partner
           UNION ALL
           SELECT 0, k.value, t.external_id
           FROM json_each(:references) j CROSS JOIN transaction_keys k
           ON k.game_id = :game_id AND k.partner = :partner AND k.kind = 'alias' AND k.value = j.value
           CROSS JOIN transactions t ON t.id = k.transaction_id""",
        values,
    )
    own = {(bool(each["is_public"]), each["told"]): str(each["external_id"]) for each in found}
    if not own:
        return {}
    pairs = ((row, own.get((True, row.ours)) or own.get((False, row.reference))) for row in rows)
    return {row: reference for row, reference in pairs if reference is not None}


def _difference(
    run: Run, reference: str, verdict: Verdict, ours: Side | None, theirs: Side | None
) -> Mapping[str, Any]:
    def text(amount: Decimal | None) -> str | None:
        return None if amount is None else format(amount, "f")

    return {
        "id": run.id,
        "reference": reference,
        "result": verdict.result,
        "action": action(run.partner, verdict.result),
        "currency": verdict.currency,
        "stake_minor": text(verdict.stake),
        "ours_minor": None if ours is None else text(ours.amount),
        "ours_currency": None if ours is None else ours.currency,
        "theirs_minor": None if theirs is None else text(theirs.amount),
        "theirs_currency": None if theirs is None else theirs.currency,
        "occurred_at": (None if ours is None else ours.occurred_at) or (None if theirs is None else theirs.occurred_at),
    }


def _move(
    database: Database,
    run: Run,
    found: Sequence[Mapping[str, Any]],
    cursor: str,
    compared: int,
    matched: int,
    state: str,
) -> None:
    def write(tx: sqlite3.Connection) -> None:
        moved = tx.execute(
            """UPDATE reconciliations SET cursor = :cursor, rows_compared = rows_compared + :compared,
                      matched = matched + :matched, state = :state
               WHERE id = :id AND state = :state_before AND cursor = :before""",
            {
                "id": run.id,
                "before": run.cursor,
                "state_before": run.state,
                "cursor": cursor,
                "compared": compared,
                "matched": matched,
                "state": state,
            },
        ).rowcount
        if not moved:
            return  # somebody else has done this step
        tx.executemany(
            """INSERT INTO reconciliation (reconciliation_id, reference, result, action, currency, stake_minor,
                                           ours_minor, ours_currency, theirs_minor, theirs_currency, occurred_at)
               VALUES (:id, :reference, :result, :action, :currency, :stake_minor,
                       :ours_minor, :ours_currency, :theirs_minor, :theirs_currency, :occurred_at)
               ON CONFLICT (reconciliation_id, reference) DO NOTHING""",
            found,
        )

    database.write(write)
    if state == "done":
        finish(database, run.id)


def finish(database: Database, run_id: int) -> None:
    """Sum up what does not agree, once; done again it changes nothing."""
    summary = json.dumps(_summed_up(database.read(), run_id))
    database.write(
        lambda tx: tx.execute(
            """UPDATE reconciliations SET summary = :summary, finished_at = :now
               WHERE id = :id AND state = 'done' AND finished_at IS NULL""",
            {"id": run_id, "summary": summary, "now": clock.stamp()},
        )
    )


def _summed_up(connection: sqlite3.Connection, run_id: int) -> list[list[Any]]:
    counts: Counter[tuple[str, str | None]] = Counter()
    stakes: dict[tuple[str, str | None], Decimal] = {}
    rows = connection.execute(
        "SELECT result, currency, stake_minor FROM reconciliation WHERE reconciliation_id = :id", {"id": run_id}
    )
    with money.exactly():
        for row in rows:
            key = (row["result"], row["currency"])
            counts[key] += 1
            if row["stake_minor"] is not None:
                stakes[key] = stakes.get(key, Decimal(0)) + Decimal(row["stake_minor"])
    ordered = sorted(counts, key=lambda key: (RESULTS.index(key[0]), key[1] or ""))
    return [[*key, counts[key], format(stakes[key], "f") if key in stakes else None] for key in ordered]


def _run(row: sqlite3.Row) -> Run:
    return Run(
        id=row["id"],
        game_id=row["game_id"],
        month=Month(row["month"], row["starts_at"], row["ends_at"]),
        partner=row["partner"],
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
        summary=tuple(
            Summed(result, currency, count, None if stake is None else Decimal(stake))
            for result, currency, count, stake in json.loads(row["summary"] or "[]")
        ),
    )
