"""The steps in which the two sides of a month are held against each other (``reconciliation.py`` keeps the run)."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any

from coinslot.base import clock, money
from coinslot.settlement import altered_ids, judging, periods, reconciliation
from coinslot.settlement.judging import (
    AT_EDGE,
    REFUNDED_HERE,
    RESULTS,
    UNREADABLE,
    Own,
    Scope,
    Side,
    Verdict,
)
from coinslot.settlement.outcomes import Run
from coinslot.settlement.sides import OUR_ORDERS, OUR_PAYMENTS, ours_of, reported_beside, theirs_of
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
        ours = ours_of(connection, run, ids)
        for reference, group in groupby(theirs_of(connection, run, ids), key=lambda row: row.reference):
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
            OUR_PAYMENTS if run.is_of_payments else OUR_ORDERS,
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
        lacking = ours_of(connection, run, [row["reference"] for row in rows if row["counts"] and not row["is_there"]])
        begins_at, ends_at = _covered(run)
        at_edge = [key for key, own in lacking.items() if not begins_at <= own.occurred_at < ends_at]
        elsewhere = reported_beside(connection, run, at_edge)
        found = []
        for reference, own in lacking.items():
            mine = judging.at_end(own, scope)
            verdict = judging.judge(mine, None)
            if verdict is None or reference in elsewhere:
                continue
            beside = None
            if not begins_at <= own.occurred_at < ends_at:
                beside = (
                    periods.before(run.month.name) if own.occurred_at < begins_at else periods.after(run.month.name)
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
    in_utc = periods.month(run.month.name, "UTC")
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
    if run.is_of_payments:
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
            """INSERT INTO differences (reconciliation_id, reference, result, action, currency, stake_minor,
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
        "SELECT result, currency, stake_minor FROM differences WHERE reconciliation_id = :id", {"id": run_id}
    )
    with money.exactly():
        for row in rows:
            key = (row["result"], row["currency"])
            counts[key] += 1
            if row["stake_minor"] is not None:
                stakes[key] = stakes.get(key, Decimal(0)) + Decimal(row["stake_minor"])
    ordered = sorted(counts, key=lambda key: (RESULTS.index(key[0]), key[1] or ""))
    return [[*key, counts[key], format(stakes[key], "f") if key in stakes else None] for key in ordered]
