"""The steps in which the two sides of a month are held against each other (``reconciliation.py`` keeps the run)."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from typing import Any

from coinslot.base import clock, money
from coinslot.settlement import altered_ids, calendar, judging, reconciliation
from coinslot.settlement.judging import (
    AT_EDGE,
    REFUNDED_HERE,
    RESULTS,
    UNREADABLE,
    Fact,
    Own,
    PartnerRow,
    Scope,
    Side,
    Verdict,
)
from coinslot.settlement.reconciliation import Run
from coinslot.settlement.statement import PAYMENTS_PARTNER
from coinslot.store.db import Connection, Database

HOURS_APART = 26  # at most, between the beginnings of one month in two time zones


def step(database: Database, run: Run, *, are_movements: bool) -> None:
    """Compare, search or sum up some more. To be called with the run as it is now, until that is done.

    ``are_movements``: the partner's rows are movements of money, else they are the states of its purchases.
    """
    scope = Scope(are_movements, run.source == "api", run.month.ends_at, _covered(run)[1], run.held_at)
    if run.state == "comparing":
        _compare(database, run, scope)
    elif run.state == "searching":
        _search(database, run, scope)
    elif run.state == "done":
        finish(database, run.id)


def _compare(database: Database, run: Run, scope: Scope) -> None:
    with database.snapshot() as connection:
        ids = [
            row["reference"]
            for row in connection.execute(
                """SELECT DISTINCT reference FROM partner_rows WHERE reconciliation_id = :id AND reference > :after
                   ORDER BY reference LIMIT :limit""",
                {"id": run.id, "after": run.cursor, "limit": reconciliation.ROWS_AT_ONCE},
            )
        ]
        if not ids:
            _move(database, run, [], "", 0, 0, "searching")
            return
        found: list[_Found] = []
        rows = matched = 0
        ours = _ours(connection, run, ids)
        for reference, group in groupby(_theirs(connection, run, ids), key=lambda row: row.reference):
            told = list(group)
            rows += len(told)
            own = ours.get(reference)
            mine = None if own is None else judging.held_against(own, told, scope)
            theirs = judging.together(told, are_movements=scope.are_movements)
            sample = judging.unreadable(told)
            if sample is not None:
                amount, currency = (theirs if mine is None or mine.amount is None else mine)[:2]
                found.append(_Found(reference, Verdict(UNREADABLE, amount, currency), own, mine, theirs, sample))
                continue
            verdict = judging.judge(mine, theirs)
            if verdict is not None:
                found.append(_Found(reference, verdict, own, mine, theirs, judging.detail(verdict.result, told)))
            elif mine is not None:
                matched += 1
        differences = _mended(connection, run, scope, found)
    _move(database, run, differences, ids[-1], rows, matched + len(found) - len(differences), "comparing")


def _search(database: Database, run: Run, scope: Scope) -> None:
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
                "limit": reconciliation.ROWS_AT_ONCE,
            },
        ).fetchall()
        lacking = _ours(connection, run, [row["reference"] for row in rows if row["counts"] and not row["is_there"]])
        begins_at, ends_at = _covered(run)
        at_edge = [key for key, own in lacking.items() if not begins_at <= own.occurred_at < ends_at]
        elsewhere = _reported_beside(connection, run, at_edge)
        found = []
        for reference, own in lacking.items():
            mine = judging.at_end(own, scope)
            verdict = judging.judge(mine, None)
            if verdict is None or reference in elsewhere:
                continue
            beside = None
            if not begins_at <= own.occurred_at < ends_at:
                beside = (
                    calendar.before(run.month.name) if own.occurred_at < begins_at else calendar.after(run.month.name)
                )
                verdict = verdict._replace(result=AT_EDGE)
            found.append(_Found(reference, verdict, own, mine, None, beside))
        differences = _mended(connection, run, scope, found)
    is_over = len(rows) < reconciliation.ROWS_AT_ONCE
    cursor = "" if is_over else json.dumps([rows[-1]["at"], rows[-1]["id"]])
    _move(database, run, differences, cursor, 0, 0, "done" if is_over else "searching")


def _covered(run: Run) -> tuple[str, str]:
    """The part of a month that the report surely tells of: from, and up to.

    The partner's own month may be that of another time zone: by its word UTC's, and another one's where its rows begin
    before our month, or end after it, by hours.
    """
    begins_at, ends_at = run.month.starts_at, run.month.ends_at
    first, last = run.first_paid_at, run.last_paid_at
    if run.source == "api":  # it is asked for our month
        return begins_at, ends_at
    in_utc = calendar.month(run.month.name, "UTC")
    apart = HOURS_APART * 3600
    covered_from = max(begins_at, min(in_utc.starts_at, first or in_utc.starts_at))
    covered_until = min(ends_at, max(in_utc.ends_at, last or in_utc.ends_at))
    if first is None or last is None:
        return covered_from, covered_until
    if clock.stamp(clock.seconds(begins_at) - apart) <= first < min(begins_at, in_utc.starts_at):
        covered_until = min(covered_until, max(last, clock.stamp(clock.seconds(ends_at) - apart)))
    if max(ends_at, in_utc.ends_at) <= last < clock.stamp(clock.seconds(ends_at) + apart):
        covered_from = max(covered_from, min(first, clock.stamp(clock.seconds(begins_at) + apart)))
    return covered_from, covered_until


def _reported_beside(connection: Connection, run: Run, ids: Sequence[str]) -> set[str]:
    """Which of these purchases the partner has in its reports of the months before and after."""
    if not ids:
        return set()
    rows = connection.execute(
        """SELECT r.reference
           FROM reconciliations n CROSS JOIN json_each(:ids) j CROSS JOIN partner_rows r
           ON r.reconciliation_id = n.id AND r.reference = j.value
           WHERE n.game_id = :game_id AND n.partner = :partner AND n.month IN (:before, :after) AND n.state = 'done'""",
        {
            "ids": json.dumps(ids),
            "game_id": run.game_id,
            "partner": run.partner,
            "before": calendar.before(run.month.name),
            "after": calendar.after(run.month.name),
        },
    )
    return {row["reference"] for row in rows}


_OUR_PAYMENTS = """
    SELECT p.purchased_at AS at, p.id, p.transaction_id AS reference,
           p.is_test = 0 AND p.amount <> '0' AND NOT (p.source = 'appcharge' AND p.state = 'kept')
               AND p.distribution_type IS NOT NULL AS counts,
           EXISTS (SELECT 1 FROM partner_rows r
                   WHERE r.reconciliation_id = :id AND r.reference = p.transaction_id) AS is_there
    FROM payments p
    WHERE p.game_id = :game_id AND p.purchased_at >= :at AND p.purchased_at < :ends_at
      AND (p.purchased_at > :at OR p.id > :last_id)
    ORDER BY p.purchased_at, p.id LIMIT :limit"""
_OUR_ORDERS = """
    SELECT coalesce(t.occurred_at, t.received_at) AS at, t.id, t.external_id AS reference,
           t.is_test = 0 AND t.kind = 'purchase' AND coalesce(t.gross_minor, 1) > 0 AND t.partner = :partner AS counts,
           EXISTS (SELECT 1 FROM partner_rows r
                   WHERE r.reconciliation_id = :id AND r.reference = t.external_id) AS is_there
    FROM transactions t
    WHERE t.game_id = :game_id AND coalesce(t.occurred_at, t.received_at) >= :at
      AND coalesce(t.occurred_at, t.received_at) < :ends_at
      AND (coalesce(t.occurred_at, t.received_at) > :at OR t.id > :last_id)
    ORDER BY coalesce(t.occurred_at, t.received_at), t.id LIMIT :limit"""


def _theirs(connection: Connection, run: Run, ids: Sequence[str]) -> Iterator[PartnerRow]:
    rows = connection.cursor()
    rows.row_factory = None
    rows.execute(
        """SELECT reference, row_id, kind, amount_minor, currency, occurred_at, NULL, sample FROM partner_rows
           WHERE reconciliation_id = :id AND reference >= :first AND reference <= :last ORDER BY reference, row_id""",
        {"id": run.id, "first": ids[0], "last": ids[-1]},
    )
    return map(PartnerRow._make, rows)


def _ours(connection: Connection, run: Run, ids: Sequence[str]) -> dict[str, Own]:
    """What we have of the purchases with these ids, tests left out."""
    values = {"game_id": run.game_id, "partner": run.partner, "ids": json.dumps(ids)}
    if run.partner == PAYMENTS_PARTNER:
        return {
            row["transaction_id"]: Own(
                _in_minor(row["amount"], row["currency"]),
                row["currency"],
                row["purchased_at"],
                _refund_of(row["refunded_at"]),
                *(row["state"], row["refund_state"], row["source"], row["registered_at"], row["updated_at"]),
            )
            for row in connection.execute(
                """SELECT p.transaction_id, p.amount, p.currency, p.purchased_at, p.refunded_at, p.state,
                          p.refund_state, p.source, p.registered_at, p.updated_at
                   FROM json_each(:ids) j CROSS JOIN payments p ON p.game_id = :game_id AND p.transaction_id = j.value
                   WHERE p.is_test = 0""",
                values,
            )
        }
    found: dict[str, Own] = {}
    for row in connection.execute(
        """SELECT t.external_id, t.gross_minor, t.currency, coalesce(t.occurred_at, t.received_at) AS at,
                  r.id AS refund_id, r.reason, r.occurred_at, r.created_at, r.event_id IS NOT NULL AS is_theirs
           FROM json_each(:ids) j CROSS JOIN transactions t
           ON t.game_id = :game_id AND t.partner = :partner AND t.external_id = j.value
           LEFT JOIN refunds r ON r.transaction_id = t.id AND r.is_test = 0
               AND r.outcome NOT IN ('waiting', 'ambiguous', 'test')
               AND (r.reason <> 'reinstated' OR r.outcome IN ('restored', 'repeated'))
           WHERE t.is_test = 0 AND t.kind <> 'adjustment'""",
        values,
    ):
        own = found.get(row["external_id"])
        if own is None:
            amount = None if row["gross_minor"] is None else Decimal(row["gross_minor"])
            own = found[row["external_id"]] = Own(amount, row["currency"], row["at"])
        if row["refund_id"] is not None:
            fact = Fact(*(row[name] for name in ("reason", "occurred_at", "created_at", "refund_id", "is_theirs")))
            found[row["external_id"]] = own._replace(facts=(*own.facts, fact))
    return found


def _refund_of(at: str | None) -> tuple[Fact, ...]:
    return () if at is None else (Fact("refund", at, at, 0, False),)


@dataclass(frozen=True)
class _Found:
    """A difference. ``detail`` is what its remedy has to say beside its id."""

    reference: str
    verdict: Verdict
    own: Own | None
    ours: Side | None
    theirs: Side | None
    detail: str | None


def _mended(connection: Connection, run: Run, scope: Scope, found: Sequence[_Found]) -> list[Mapping[str, Any]]:
    """What is left of these once what was done about them is known, each with the word for what mends it."""
    if run.partner == PAYMENTS_PARTNER:
        pairs = [(each, judging.mend_payment(each.verdict.result, each.own, scope)) for each in found]
    else:
        named = {
            each.reference: each.detail or each.reference for each in found if each.verdict.result == REFUNDED_HERE
        }
        asked = _being_refunded(connection, run, list(named.values()))
        pairs = [
            (
                each,
                judging.mend_order(
                    each.verdict.result, each.own, scope, is_being_refunded=named.get(each.reference) in asked
                ),
            )
            for each in found
        ]
    return [_difference(run, each, action) for each, action in pairs if action is not None]


def _being_refunded(connection: Connection, run: Run, ids: Sequence[str]) -> set[str]:
    """Which of these orders the partner was asked from here to give back, and did not refuse."""
    if not ids:
        return set()
    rows = connection.execute(
        """SELECT subject, action FROM audit
           WHERE game_id = :game_id AND action IN (:asked, :refused)
             AND subject IN (SELECT value FROM json_each(:ids))
           ORDER BY id""",
        {
            "ids": json.dumps(ids),
            "game_id": run.game_id,
            "asked": f"{run.partner}.refund",
            "refused": f"{run.partner}.refund.failed",
        },
    )
    newest = {row["subject"]: row["action"] for row in rows}
    return {subject for subject, action in newest.items() if action == f"{run.partner}.refund"}


@lru_cache(maxsize=4096)  # of a million payments few have a price of their own
def _in_minor(amount: str | None, currency: str | None) -> Decimal | None:
    return None if amount is None or currency is None else money.in_minor(Decimal(amount), currency)


def _difference(run: Run, found: _Found, action: str) -> Mapping[str, Any]:
    def text(amount: Decimal | None) -> str | None:
        return None if amount is None else format(amount, "f")

    verdict, ours, theirs = found.verdict, found.ours, found.theirs
    return {
        "id": run.id,
        "reference": found.reference,
        "result": verdict.result,
        "action": action,
        "currency": verdict.currency,
        "stake_minor": text(verdict.stake),
        "ours_minor": None if ours is None else text(ours.amount),
        "ours_currency": None if ours is None else ours.currency,
        "theirs_minor": None if theirs is None else text(theirs.amount),
        "theirs_currency": None if theirs is None else theirs.currency,
        "occurred_at": (None if ours is None else ours.occurred_at) or (None if theirs is None else theirs.occurred_at),
        "detail": found.detail,
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
    def write(tx: Connection) -> None:
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
                                           ours_minor, ours_currency, theirs_minor, theirs_currency, occurred_at,
                                           detail)
               VALUES (:id, :reference, :result, :action, :currency, :stake_minor,
                       :ours_minor, :ours_currency, :theirs_minor, :theirs_currency, :occurred_at, :detail)
               ON CONFLICT (reconciliation_id, reference) DO NOTHING""",
            found,
        )

    database.write(write)
    if state == "done":
        finish(database, run.id)


def finish(database: Database, run_id: int) -> None:
    """Find the ids that were altered, and sum up what does not agree, once; done again it changes nothing."""
    altered_ids.mark(database, run_id)
    summary = json.dumps(_summed_up(database.read(), run_id))
    database.write(
        lambda tx: tx.execute(
            """UPDATE reconciliations SET summary = :summary, finished_at = :now
               WHERE id = :id AND state = 'done' AND finished_at IS NULL""",
            {"id": run_id, "summary": summary, "now": clock.stamp()},
        )
    )


def _summed_up(connection: Connection, run_id: int) -> list[list[Any]]:
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
