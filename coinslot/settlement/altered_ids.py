"""Ids that a spreadsheet has altered: without their leading zeros, rounded, or written as powers of ten.

Such a purchase is missing on both sides, each time under another id. Two that have the same amount and currency, about
the same day, and ids of which one may come from the other, are one purchase; so is whatever an id written as a power of
ten may stand for. They are marked, so that nobody takes them for a purchase that was charged and not granted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from itertools import groupby

from coinslot.base import clock
from coinslot.settlement.judging import ID_ALTERED, MISSING_HERE, MISSING_THERE, RESTORE_IDS
from coinslot.store.db import Connection, Database, Row

PAIRS_AT_ONCE = 2000
MOST_POWERS = 10_000
DAY_SECONDS = 86_400.0
KEPT_DIGITS = 15  # of a number, in a spreadsheet

_POWER = re.compile(r"([1-9](?:[.,][0-9]{1,14})?)E\+([0-9]{1,3})", re.IGNORECASE)
_DIGITS = re.compile("[0-9]{1,255}")
_NUMBER = re.compile("[0-9]{1,255}(?:[eE][0-9]{1,3})?")  # as a spreadsheet takes it: 68e2 is 6800


def mark(database: Database, run_id: int) -> None:
    """Mark the differences of a run whose ids look altered. Done again, or by two at once, it marks the same."""
    with database.snapshot() as connection:
        powers = _powers(connection, run_id)
        portion: list[Mapping[str, object]] = []
        for pair in _pairs(connection, run_id):
            portion += pair
            if len(portion) >= 2 * PAIRS_AT_ONCE:
                _write(database, portion)
                portion = []
        portion += [_marked(number, None) for number, _ in powers.values()]
        if powers:
            for row in _missing(connection, run_id, MISSING_THERE):
                there = next((powers[key] for key in _roundings(row["reference"]) if key in powers), None)
                if there is not None:
                    portion.append(_marked(row["id"], there[1]))
                if len(portion) >= 2 * PAIRS_AT_ONCE:
                    _write(database, portion)
                    portion = []
    if portion:
        _write(database, portion)


def _pairs(connection: Connection, run_id: int) -> Iterator[list[Mapping[str, object]]]:
    """One that is missing here, with one that is missing there, as they are to be marked."""
    ours = groupby(_missing(connection, run_id, MISSING_THERE), key=_sum)
    waiting = next(ours, None)
    for key, group in groupby(_missing(connection, run_id, MISSING_HERE), key=_sum):
        while waiting is not None and waiting[0] < key:
            waiting = next(ours, None)
        if waiting is None or waiting[0] != key:
            continue
        by_form: dict[str, list[Row]] = {}
        for row in waiting[1]:
            for form in _forms(row["reference"]):
                by_form.setdefault(form, []).append(row)
        taken: set[int] = set()
        for row in group:
            found = (each for form in _forms(row["reference"]) for each in by_form.get(form, ()))
            other = next((each for each in found if each["id"] not in taken and _is_near(row, each)), None)
            if other is not None:
                taken.add(other["id"])
                yield [_marked(row["id"], other["reference"]), _marked(other["id"], row["reference"])]


def _missing(connection: Connection, run_id: int, result: str) -> Iterator[Row]:
    """By amount and currency; where the amount is not known there is nothing to go by."""
    return iter(
        connection.execute(
            """SELECT id, reference, stake_minor, currency, occurred_at FROM differences
               WHERE reconciliation_id = :id AND result = :result AND stake_minor IS NOT NULL AND currency IS NOT NULL
               ORDER BY currency, stake_minor, id""",
            {"id": run_id, "result": result},
        )
    )


def _sum(row: Row) -> tuple[str, str]:
    return row["currency"], row["stake_minor"]


def _is_near(one: Row, other: Row) -> bool:
    """Whether they may be of one day; a report need not tell when."""
    if one["occurred_at"] is None or other["occurred_at"] is None:
        return True
    return abs(clock.seconds(one["occurred_at"]) - clock.seconds(other["occurred_at"])) <= DAY_SECONDS


def _forms(reference: str) -> set[str]:
    """What an id may have become: letters of one case, no zeros in front, no more digits than a spreadsheet keeps."""
    plain = "".join(each for each in reference.casefold() if each.isalnum()).lstrip("0")
    forms = {plain}
    if _DIGITS.fullmatch(plain) and len(plain) > KEPT_DIGITS:
        forms.add(plain[:KEPT_DIGITS] + "0" * (len(plain) - KEPT_DIGITS))
    return forms


def _powers(connection: Connection, run_id: int) -> dict[str, tuple[int, str]]:
    """Of the ids that are powers of ten: what they round to -> the difference's id, and the id as it is there."""
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


def _marked(number: int, other: str | None) -> Mapping[str, object]:
    return {"id": number, "detail": other, "result": ID_ALTERED, "action": RESTORE_IDS}


def _write(database: Database, portion: Sequence[Mapping[str, object]]) -> None:
    database.write(
        lambda tx: tx.executemany(
            """UPDATE differences SET result = :result, action = :action, detail = coalesce(:detail, detail)
               WHERE id = :id AND result <> :result""",
            portion,
        )
    )
