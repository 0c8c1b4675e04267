"""The steps of a run after reading: compare the partner's purchases with ours, search for ours it lacks, sum up.

Purchases are found by id in whatever month they are here: the two sides need not agree on where a month begins. A
purchase that is not reported, in the hours by which the two months may differ, is ``at_edge``.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any, NamedTuple

from coinslot.base import clock, money
from coinslot.settlement import differences, partner_rows, periods, purchases, spreadsheet_ids
from coinslot.settlement.differences import AT_EDGE, REFUNDED_HERE, RESULTS, UNREADABLE, Difference, Own, Scope, Side
from coinslot.settlement.runs import ROWS_AT_ONCE, Run
from coinslot.store.db import Connection, Database
from coinslot.store.paging import plain_rows

HOURS_APART = 26  # at most, between the beginnings of one month in two time zones


class _Found(NamedTuple):
    """A difference of one purchase. ``detail`` is what its remedy says beside its id."""

    reference: str
    difference: Difference
    own: Own | None
    ours: Side | None
    theirs: Side | None
    detail: str | None


def step(database: Database, run: Run, *, are_movements: bool) -> None:
    """Compare, search or sum up some more. Call it with the run as it is now, until that is done.

    ``are_movements``: the partner's rows are movements of money, else states of its purchases.
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
        some = connection.execute(
            """SELECT DISTINCT reference FROM partner_rows WHERE reconciliation_id = :id AND reference > :after
               ORDER BY reference LIMIT :limit""",
            {"id": run.id, "after": run.cursor, "limit": ROWS_AT_ONCE},
        )
        ids = [row["reference"] for row in some]
        if not ids:
            _move(database, run, "searching", "")
            return
        found: list[_Found] = []
        count = matched = 0
        ours = purchases.by_id(connection, run, ids)
        theirs = partner_rows.read_rows(connection, run, ids[0], ids[-1])
        for reference, group in groupby(theirs, key=lambda row: row.reference):
            rows = list(group)
            count += len(rows)
            own = ours.get(reference)
            mine = None if own is None else differences.our_side(own, rows, scope)
            other = differences.their_side(rows, are_movements=scope.are_movements)
            difference = differences.compare(mine, other)
            detail = differences.unreadable(rows)
            if detail is not None:
                known = other if mine is None or mine.amount is None else mine
                difference = Difference(UNREADABLE, known.amount, known.currency)
            elif difference is not None:
                detail = differences.detail(difference.result, rows)
            elif mine is not None:
                matched += 1
            if difference is not None:
                found.append(_Found(reference, difference, own, mine, other, detail))
        unresolved = _unresolved(connection, run, scope, found)
    _move(database, run, "comparing", ids[-1], unresolved, count, matched + len(found) - len(unresolved))


def _search(database: Database, run: Run, scope: Scope) -> None:
    at, last_id = json.loads(run.cursor) if run.cursor else (run.month.starts_at, 0)
    begins_at, ends_at = _covered(run)
    with database.snapshot() as connection:
        rows = purchases.next_in_month(connection, run, (at, last_id), ROWS_AT_ONCE)
        lacking = [row["reference"] for row in rows if row["counts"] and not row["is_reported"]]
        ours = purchases.by_id(connection, run, lacking)
        at_edge = [reference for reference, own in ours.items() if not begins_at <= own.occurred_at < ends_at]
        elsewhere = _reported_beside(connection, run, at_edge)
        found = []
        for reference, own in ours.items():
            mine = differences.our_side_alone(own, scope)
            difference = differences.compare(mine, None)
            if difference is None or reference in elsewhere:
                continue
            beside = None
            if not begins_at <= own.occurred_at < ends_at:
                near = periods.before if own.occurred_at < begins_at else periods.after
                beside = near(run.month.name)
                difference = difference._replace(result=AT_EDGE)
            found.append(_Found(reference, difference, own, mine, None, beside))
        unresolved = _unresolved(connection, run, scope, found)
    is_over = len(rows) < ROWS_AT_ONCE
    cursor = "" if is_over else json.dumps([rows[-1]["at"], rows[-1]["id"]])
    _move(database, run, "done" if is_over else "searching", cursor, unresolved)


def _covered(run: Run) -> tuple[str, str]:
    """The part of a month that the report surely covers: from, and up to.

    The partner's own month may be of another time zone: of UTC, unless its rows begin hours before our month or end
    hours after it.
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


def _reported_beside(connection: Connection, run: Run, ids: Sequence[str]) -> set[str]:
    """Which of these purchases the partner has in its reports of the months before and after."""
    before, after = periods.before(run.month.name), periods.after(run.month.name)
    rows = connection.execute(
        """SELECT r.reference
           FROM reconciliations n CROSS JOIN json_each(:ids) j CROSS JOIN /* hint */ partner_rows r
           ON r.reconciliation_id = n.id AND r.reference = j.value
           WHERE n.game_id = :game_id AND n.partner = :partner AND n.month IN (:before, :after) AND n.state = 'done'""",
        {"ids": json.dumps(ids), "game_id": run.game_id, "partner": run.partner, "before": before, "after": after},
    )
    return {row["reference"] for row in rows}


def _unresolved(connection: Connection, run: Run, scope: Scope, found: Sequence[_Found]) -> list[Mapping[str, Any]]:
    """Rows for ``differences``, each with its action; without those that were resolved since."""
    refunded = [each.detail or each.reference for each in found if each.difference.result == REFUNDED_HERE]
    asked = _being_refunded(connection, run, refunded) if refunded and not run.is_of_payments else set()
    rows = []
    for each in found:
        result = each.difference.result
        if run.is_of_payments:
            action = differences.action_for_payment(result, each.own, scope)
        else:
            is_asked = (each.detail or each.reference) in asked
            action = differences.action_for_order(result, each.own, scope, is_being_refunded=is_asked)
        if action is not None:
            rows.append(_row(run, each, action))
    return rows


def _being_refunded(connection: Connection, run: Run, ids: Sequence[str]) -> set[str]:
    """Which of these orders the partner was asked from here to refund, and did not refuse to."""
    rows = connection.execute(
        """SELECT reference FROM refund_requests
           WHERE game_id = :game_id AND partner = :partner AND state <> 'refused'
             AND reference IN (SELECT value FROM json_each(:ids))""",
        {"ids": json.dumps(ids), "game_id": run.game_id, "partner": run.partner},
    )
    return {row["reference"] for row in rows}


def _row(run: Run, found: _Found, action: str) -> Mapping[str, Any]:
    """A row of ``differences``; amounts are exact text."""
    row: dict[str, Any] = {
        "id": run.id,
        "reference": found.reference,
        "result": found.difference.result,
        "action": action,
        "currency": found.difference.currency,
        "stake_minor": _text(found.difference.stake),
        "occurred_at": None,
        "detail": found.detail,
    }
    for name, side in (("theirs", found.theirs), ("ours", found.ours)):
        row[f"{name}_minor"] = None if side is None else _text(side.amount)
        row[f"{name}_currency"] = None if side is None else side.currency
        row["occurred_at"] = (None if side is None else side.occurred_at) or row["occurred_at"]
    return row


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")


def _move(
    database: Database,
    run: Run,
    state: str,
    cursor: str,
    rows: Sequence[Mapping[str, Any]] = (),
    compared: int = 0,
    matched: int = 0,
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
        if moved:  # else another process has done this step
            tx.executemany(
                """INSERT INTO differences (reconciliation_id, reference, result, action, currency, stake_minor,
                                               ours_minor, ours_currency, theirs_minor, theirs_currency, occurred_at,
                                               detail)
                   VALUES (:id, :reference, :result, :action, :currency, :stake_minor,
                           :ours_minor, :ours_currency, :theirs_minor, :theirs_currency, :occurred_at, :detail)
                   ON CONFLICT (reconciliation_id, reference) DO NOTHING""",
                rows,
            )

    database.write(write)
    if state == "done":
        finish(database, run.id)


def finish(database: Database, run_id: int) -> None:
    """Mark ids that a spreadsheet altered, and store the summary, once; doing it again changes nothing."""
    spreadsheet_ids.mark(database, run_id)
    with database.snapshot() as connection:
        summary = json.dumps(_summary(connection, run_id))
    database.write(
        lambda tx: tx.execute(
            """UPDATE reconciliations SET summary = :summary, finished_at = :now
               WHERE id = :id AND state = 'done' AND finished_at IS NULL""",
            {"id": run_id, "summary": summary, "now": clock.stamp()},
        )
    )


def _summary(connection: Connection, run_id: int) -> list[list[Any]]:
    """Result, currency, count and amount at stake."""
    sums: dict[tuple[str, str | None], tuple[int, Decimal | None]] = {}
    rows = plain_rows(
        connection,
        "SELECT result, currency, stake_minor FROM differences WHERE reconciliation_id = :id",
        {"id": run_id},
    )
    with money.exactly():
        for result, currency, at_stake in rows:
            count, stake = sums.get((result, currency), (0, None))
            if at_stake is not None:
                stake = (stake or 0) + Decimal(at_stake)
            sums[result, currency] = (count + 1, stake)
    ordered = sorted(sums.items(), key=lambda item: (RESULTS.index(item[0][0]), item[0][1] or ""))
    return [[*key, count, _text(stake)] for key, (count, stake) in ordered]
