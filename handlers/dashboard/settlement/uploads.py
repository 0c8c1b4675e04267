"""A partner's report as a file: upload it, choose its columns, and compare the month with it."""

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.games.games import Game
from coinslot.operations import uploads
from coinslot.settlement import jobs, report_files
from coinslot.settlement.amounts import DECIMALS
from coinslot.settlement.columns import FIELDS, NEEDED, Layout, plain
from coinslot.settlement.differences import UNREADABLE
from coinslot.settlement.runs import ReconciliationError
from handlers.dashboard.frame.pages import PageError, page, see_other, show_on_error, who, whole
from handlers.dashboard.settlement.differences import differences, reporting_partner
from handlers.dashboard.settlement.documents import closed_month
from handlers.kit import partner_reports
from handlers.kit.partner import Report
from handlers.kit.receive import current_installation
from handlers.kit.wording import shown

MOST_COLUMNS = 100
ROWS_SHOWN = 5
FIELD_WORDS = {
    "reference": ("The purchase's id", "the partner's order or transaction id, as it is known here"),
    "amount": ("Amount", ""),
    "currency": ("Currency", "or say below which one it is for all rows"),
    "kind": ("What happened", "such as paid or refunded; without it every row is a payment"),
    "at": ("When", ""),
    "row_id": ("Id of the row", "where one purchase has several rows"),
    "ours": ("Our own id", "if the report repeats it"),
}


def upload_report(game: Game, name: str) -> AnyResponse:
    """Keep a partner's report until its columns are chosen."""
    closed_month(game, name)
    partner, report = reporting_partner(request.form.get("partner", ""))
    upload = request.files.get("file")
    if upload is None or not upload.filename:
        return differences(game, name, 400, "Please choose a file.")
    database = current_installation().database
    upload_id = uploads.keep(database, _purpose(game, name, partner.name), upload.stream)
    try:
        with _uploaded(game, name, partner.name, upload_id) as path:
            _head(path, report)
    except ReconciliationError as error:
        uploads.forget(database, upload_id)
        return differences(game, name, 400, f"{shown(upload.filename, 60)} cannot be read: {error}.")
    return see_other("report_columns", name=name, partner=partner.name, upload_id=upload_id)


def report_columns(game: Game, name: str, partner: str, upload_id: str) -> Response:
    """The first rows of the file, and a form that says what each column is."""
    closed_month(game, name)
    return _columns_page(game, name, partner, upload_id)


def hold_against_report(game: Game, name: str, partner: str, upload_id: str) -> AnyResponse:
    """Read the file as the form says and begin to compare, unless it cannot be read."""
    closed_month(game, name)
    asked, report = reporting_partner(partner)
    installation = current_installation()
    with _uploaded(game, name, partner, upload_id) as path:
        show_on_error(_columns_page, game, name, partner, upload_id)
        layout = _layout(report, _head(path, report)[0])
        _check(path, layout)
        # The file is read now; the job compares what was read.
        run_id = partner_reports.begin(installation, game, name, asked, who(), (path, layout), is_background=True)
        jobs.take_file(installation.database, run_id, path, layout)
    uploads.forget(installation.database, upload_id)
    return see_other("differences", "reconciling", name=name)


def _columns_page(
    game: Game, name: str, partner_name: str, upload_id: str, status: int = 200, problem: str | None = None
) -> Response:
    partner, report = reporting_partner(partner_name)
    with _uploaded(game, name, partner_name, upload_id) as path:
        columns, rows = _head(path, report)
        guessed, unit, currency = _guessed(path, Layout.of(report, {}))
    chosen = {field: whole(request.form.get(field)) if problem else guessed[field] for field in FIELDS}
    return page(
        "report_columns.html",
        status,
        name=name,
        partner=partner,
        upload_id=upload_id,
        problem=problem,
        columns=columns,
        choices=_choices(columns),
        rows=rows,
        fields=FIELD_WORDS,
        needed=NEEDED,
        chosen=chosen,
        kinds=", ".join(report.kinds),
        unit=request.form.get("unit") or unit,
        decimals=DECIMALS,
        decimal=request.form.get("decimal", ""),
        currency=request.form.get("all_currency", currency or ""),
    )


def _purpose(game: Game, name: str, partner: str) -> str:
    return f"report-{game.id}-{name}-{partner}"


@contextmanager
def _uploaded(game: Game, name: str, partner: str, upload_id: str) -> Iterator[Path]:
    with uploads.copied(current_installation().database, _purpose(game, name, partner), upload_id) as found:
        if found is None:
            raise PageError(404, "That file is not here any more. Please upload it again.")
        yield found


def _head(path: Path, report: Report) -> tuple[list[str], list[list[str]]]:
    """The names of a file's columns, and its first rows. Raises ReconciliationError."""
    with report_files.open_report(path) as file:
        head, rows = report_files.head_and_rows(file, Layout.of(report, {}), ROWS_SHOWN)
    if not any(cell.strip() for cell in head):
        raise ReconciliationError("it has no names of columns")
    return head[:MOST_COLUMNS], [row[:MOST_COLUMNS] for row in rows]


def _guessed(path: Path, layout: Layout) -> tuple[dict[str, int | None], str, str | None]:
    """The columns of a file as far as they are known by their names, and unit and currency of its amounts."""
    with report_files.open_report(path) as file:
        places, unit, currency = report_files.guess(file, layout)
    return {field: places.get(field) for field in FIELDS}, unit, currency


def _choices(columns: list[str]) -> list[tuple[int, str]]:
    """The columns to choose from; of several with one name, only the first."""
    known = [plain(each) for each in columns]
    return [
        (place, f"{shown(name, 60)}" if name.strip() else f"column {place + 1}, without a name")
        for place, name in enumerate(columns)
        if known.index(plain(name)) == place
    ]


def _layout(report: Report, columns: list[str]) -> Layout:
    """What the form says of the file. Raises ReconciliationError."""
    places = {field: whole(request.form.get(field), MOST_COLUMNS) for field in FIELDS}
    named = {field: columns[place] for field, place in places.items() if place is not None and place < len(columns)}
    for field in NEEDED:
        if field not in named:
            raise ReconciliationError(f"choose the column of: {FIELD_WORDS[field][0].lower()}")
    unit = request.form.get("unit", "")
    currency = request.form.get("all_currency", "").strip().upper() or None
    if unit not in ("major", "minor"):
        raise ReconciliationError("say whether amounts are whole units or the smallest ones")
    if currency is not None and not re.fullmatch("[A-Z]{3}", currency):
        raise ReconciliationError("write a currency with three letters, such as USD")
    if "currency" not in named and currency is None:
        raise ReconciliationError("choose the column of the currency, or say which one it is for all rows")
    # Only the columns that were chosen: what was left out is not read, though the file may have it.
    layout = Layout.of(report, {}, unit, currency, DECIMALS.get(request.form.get("decimal", "")))
    return dataclasses.replace(layout, columns=named, finds=False)


def _check(path: Path, layout: Layout) -> None:
    """Raises ReconciliationError for a file without a readable row."""
    with report_files.open_report(path) as file:
        is_readable = any(row.kind != UNREADABLE for rows in report_files.read(file, layout) for row in rows or [])
    if not is_readable:
        raise ReconciliationError("no row of it can be read like that: look at the columns, the unit and the currency")
