"""Ids that a spreadsheet has altered: without their leading zeros, rounded, or written as powers of ten.

Such a purchase is missing on both sides, each time under another id. Two of the same amount and currency, on about the
same day, are taken for one purchase if one id may come from the other; so is every id that a power of ten may stand
for. They are marked, so that nobody takes them for a purchase that was charged and not granted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import partial
from itertools import groupby, islice
from typing import Any, NamedTuple

from coinslot.base import clock
from coinslot.settlement.differences import ID_ALTERED, MISSING_HERE, MISSING_THERE
from coinslot.store.db import Connection, Database
from coinslot.store.paging import plain_rows

MARKED_AT_ONCE = 4000
MOST_POWERS = 10_000
DAY_SECONDS = 86_400.0
KEPT_DIGITS = 15  # of a number, in a spreadsheet

_POWER = re.compile(r"([1-9](?:[.,][0-9]{1,14})?)E\+([0-9]{1,3})", re.IGNORECASE)
_DIGITS = re.compile("[0-9]{1,255}")
_NUMBER = re.compile("[0-9]{1,255}(?:[eE][0-9]{1,3})?")  # as a spreadsheet reads it: 68e2 is 6800


class _Missing(NamedTuple):
    """A difference that is missing on one side; ``amount`` is that at stake, exact text in minor units."""

    id: int
    reference: str
    amount: str
    currency: str
    occurred_at: str | None


def mark(database: Database, run_id: int) -> None:
    """Mark the differences of a run whose ids look altered. Done again, or by two at once, it marks the same."""
    with database.snapshot() as connection:
        marks = _marks(connection, run_id)
        while portion := list(islice(marks, MARKED_AT_ONCE)):
            database.write(partial(_write, portion))


def _write(marks: Sequence[Mapping[str, Any]], tx: Connection) -> None:
    tx.executemany(
        """UPDATE differences SET result = :result, action = :action, detail = coalesce(:detail, detail)
           WHERE id = :id AND result <> :result""",
        marks,
    )


def _marks(connection: Connection, run_id: int) -> Iterator[Mapping[str, Any]]:
    powers = _powers(connection, run_id)
    yield from _pairs(connection, run_id)
    for number, _ in powers.values():
        yield _mark(number, None)
    for row in _missing(connection, run_id, MISSING_THERE) if powers else ():
        there = next((powers[key] for key in _roundings(row.reference) if key in powers), None)
        if there is not None:
            yield _mark(row.id, there[1])


def _pairs(connection: Connection, run_id: int) -> Iterator[Mapping[str, Any]]:
    """A mark for each of two: one that is missing here, and one that is missing there."""
    ours = groupby(_missing(connection, run_id, MISSING_THERE), key=_amount)
    waiting = next(ours, None)
    for key, group in groupby(_missing(connection, run_id, MISSING_HERE), key=_amount):
        while waiting is not None and waiting[0] < key:
            waiting = next(ours, None)
        if waiting is None or waiting[0] != key:
            continue
        by_form: dict[str, list[_Missing]] = {}
        for row in waiting[1]:
            for form in _forms(row.reference):
                by_form.setdefault(form, []).append(row)
        taken: set[int] = set()
        for row in group:
            found = (each for form in _forms(row.reference) for each in by_form.get(form, ()))
            other = next((each for each in found if each.id not in taken and _is_near(row, each)), None)
            if other is not None:
                taken.add(other.id)
                yield _mark(row.id, other.reference)
                yield _mark(other.id, row.reference)


def _missing(connection: Connection, run_id: int, result: str) -> Iterator[_Missing]:
    """By currency and amount; without an amount two ids cannot be compared."""
    rows = plain_rows(
        connection,
        """SELECT id, reference, stake_minor, currency, occurred_at FROM differences
           WHERE reconciliation_id = :id AND result = :result AND stake_minor IS NOT NULL AND currency IS NOT NULL
           ORDER BY currency, stake_minor, id""",
        {"id": run_id, "result": result},
    )
    return map(_Missing._make, rows)


def _amount(row: _Missing) -> tuple[str, str]:
    return row.currency, row.amount


def _is_near(one: _Missing, other: _Missing) -> bool:
    """Whether they may be of one day; a report need not have the time."""
    if one.occurred_at is None or other.occurred_at is None:
        return True
    return abs(clock.seconds(one.occurred_at) - clock.seconds(other.occurred_at)) <= DAY_SECONDS


def _forms(reference: str) -> set[str]:
    """What an id may have become: letters of one case, no zeros in front, no more digits than a spreadsheet keeps."""
    plain = "".join(each for each in reference.casefold() if each.isalnum()).lstrip("0")
    forms = {plain}
    if _DIGITS.fullmatch(plain) and len(plain) > KEPT_DIGITS:
        forms.add(plain[:KEPT_DIGITS] + "0" * (len(plain) - KEPT_DIGITS))
    return forms


def _powers(connection: Connection, run_id: int) -> dict[str, tuple[int, str]]:
    """Of ids that are powers of ten: :func:`_power` of it -> the difference's id, and the id as it is there."""
    rows = connection.execute(
        """SELECT id, reference FROM differences
           WHERE reconciliation_id = :id AND result = :result AND lower(reference) LIKE '%e+%'
           ORDER BY id LIMIT :most""",
        {"id": run_id, "result": MISSING_HERE, "most": MOST_POWERS},
    )
    found: dict[str, tuple[int, str]] = {}
    for row in rows:
        match = _POWER.fullmatch(row["reference"])
        if match is not None:
            mantissa = match[1].replace(",", ".")
            found.setdefault(_power(Decimal(mantissa), int(match[2]), len(mantissa)), (row["id"], row["reference"]))
    return found


def _roundings(reference: str) -> Iterator[str]:
    """The powers of ten that an id of digits may be written as."""
    if not _NUMBER.fullmatch(reference) or not Decimal(reference):
        return
    for kept in range(1, KEPT_DIGITS + 1):
        rounded = Context(prec=kept, rounding=ROUND_HALF_UP).create_decimal(reference)
        mantissa = rounded.scaleb(-rounded.adjusted())
        yield _power(mantissa, rounded.adjusted(), kept + 1 if kept > 1 else 1)


def _power(mantissa: Decimal, exponent: int, length: int) -> str:
    return f"{mantissa.normalize():f}/{exponent}/{length}"


def _mark(number: int, other: str | None) -> Mapping[str, Any]:
    return {"id": number, "detail": other, "result": ID_ALTERED, "action": "restore_ids"}
