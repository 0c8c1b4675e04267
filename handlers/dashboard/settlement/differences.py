"""A month held against its partners' figures: how far that is, what does not agree, and what mends it."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from flask import Response, request, url_for
from markupsafe import Markup, escape
from werkzeug.wrappers import Response as AnyResponse

from coinslot.base import money
from coinslot.games.games import Game, GameError
from coinslot.games.registry import LONGEST_ID
from coinslot.operations import uploads
from coinslot.relay import jobs as schedules
from coinslot.settlement import jobs, outcomes
from coinslot.settlement import report as report_file
from coinslot.settlement.columns import DECIMALS, FIELDS, NEEDED, Layout, plain
from coinslot.settlement.judging import MISSING_HERE, RESULTS, UNREADABLE
from coinslot.settlement.months import CLOSED
from coinslot.settlement.outcomes import ReconciliationError, Run
from coinslot.store.db import Connection, Row
from handlers.dashboard.frame.export import csv_file
from handlers.dashboard.frame.pages import UPLOADS, PageError, bp, page, see_other, the_game, whole
from handlers.dashboard.settlement.statements import closed_month
from handlers.kit import reconciling, wording
from handlers.kit.partner import Partner, Report
from handlers.kit.receive import installation, partners
from handlers.kit.wording import shown

PER_PAGE = 50
EXPORTED_AT_ONCE = 1000
MOST_COLUMNS = 100
ROWS_SHOWN = 5

RESULT_WORDS = {
    "missing_here": "Missing here",
    "missing_there": "Missing there",
    "amount_differs": "Amount differs",
    "refunded_there": "Refunded there, not here",
    "refunded_here": "Refunded here, not there",
    "unreadable": "Reported, unreadable",
    "at_edge": "At the edge of the month",
    "id_altered": "Id looks altered",
}
STATE_WORDS = {
    "reading": "reading the partner's figures",
    "comparing": "comparing",
    "searching": "looking for what they lack",
    "done": "done",
}
FIELD_WORDS = {
    "reference": ("The purchase's id", "the partner's order or transaction id, as it is known here"),
    "amount": ("Amount", ""),
    "currency": ("Currency", "or say below which one it is for all rows"),
    "kind": ("What happened", "such as paid or refunded; without it every row is a payment"),
    "at": ("When", ""),
    "row_id": ("Id of the row", "where one purchase has several rows"),
    "ours": ("Our own id", "where the report repeats it"),
}
CSV_HEADER = (
    "partner reference difference currency at_stake ours ours_currency theirs theirs_currency occurred_at remedy"
).split()

_CODE = re.compile(r"`([^`]+)`")


@bp.get("/games/<slug>/settlements/<name>/differences")
def differences(slug: str, name: str) -> Response:
    return _page(the_game(slug), name)


@bp.get("/games/<slug>/settlements/<name>/differences.csv")
def differences_csv(slug: str, name: str) -> Response:
    """Everything that the same filters list."""
    game = the_game(slug)
    connection, _ = closed_month(game, name)
    runs = _wanted_runs(outcomes.runs(connection, game.id, name))
    wanted = _wanted()
    titles = {partner.name: partner.title for partner in partners()}

    def rows() -> Iterator[Sequence[object]]:
        for run in runs:
            after = 0
            while found := _found(connection, [run], wanted, after, EXPORTED_AT_ONCE):
                for _, row in found:
                    yield _csv_row(game, run, row, titles[run.partner])
                after = found[-1][1]["id"]

    return csv_file(f"{game.slug}-{name}-differences", CSV_HEADER, rows())


@bp.post("/games/<slug>/settlements/<name>/differences/ask")
def ask_partner(slug: str, name: str) -> AnyResponse:
    """Hold the month against what the partner itself answers, in the background."""
    game = the_game(slug)
    closed_month(game, name)
    partner, _ = _reporting(request.form.get("partner", ""))
    try:
        reconciling.begin(installation(), game, name, partner, "owner", is_background=True)
    except GameError as error:
        return _page(game, name, 400, str(error))
    return see_other("differences", said="reconciling", slug=slug, name=name)


@bp.post("/games/<slug>/settlements/<name>/differences/upload")
def upload_report(slug: str, name: str) -> AnyResponse:
    """Take a partner's report; nothing is done with it before its columns are chosen."""
    game = the_game(slug)
    closed_month(game, name)
    partner, report = _reporting(request.form.get("partner", ""))
    upload = request.files.get("file")
    if upload is None or not upload.filename:
        return _page(game, name, 400, "Please choose a file.")
    upload_id = uploads.keep(installation().settings.home, _purpose(game, name, partner.name), upload.stream)
    kept = _uploaded(game, name, partner.name, upload_id)
    try:
        _head(kept, report)
    except ReconciliationError as error:
        uploads.forget(kept)
        return _page(game, name, 400, f"{shown(upload.filename, 60)} cannot be read: {error}.")
    return see_other("report_columns", slug=slug, name=name, partner=partner.name, upload_id=upload_id)


@bp.get("/games/<slug>/settlements/<name>/differences/<partner>/<upload_id>")
def report_columns(slug: str, name: str, partner: str, upload_id: str) -> Response:
    """What is in the file, and which of its columns is what."""
    game = the_game(slug)
    closed_month(game, name)
    return _columns_page(game, name, partner, upload_id)


@bp.post("/games/<slug>/settlements/<name>/differences/<partner>/<upload_id>")
def hold_against_report(slug: str, name: str, partner: str, upload_id: str) -> AnyResponse:
    """Read the file as the form says and begin; a file that cannot be read begins nothing."""
    game = the_game(slug)
    closed_month(game, name)
    asked, report = _reporting(partner)
    path = _uploaded(game, name, partner, upload_id)
    try:
        layout = _layout(report, _head(path, report)[0])
        _check(path, layout)
        # In this thread, which has the file: the rest is left to the job.
        run_id = reconciling.begin(installation(), game, name, asked, "owner", (path, layout), is_background=True)
        jobs.take_file(installation().database, run_id, path, layout)
    except GameError as error:
        return _columns_page(game, name, partner, upload_id, 400, str(error))
    uploads.forget(path)
    return see_other("differences", said="reconciling", slug=slug, name=name)


@bp.post("/games/<slug>/settlements/<name>/differences/accept")
def accept_differences(slug: str, name: str) -> AnyResponse:
    """The month is reconciled though not everything agrees; the note says why that is good enough."""
    game = the_game(slug)
    closed_month(game, name)
    try:
        jobs.accept(installation().database, game, name, "owner", request.form.get("note", ""))
    except GameError as error:
        return _page(game, name, 400, str(error))
    return see_other("differences", said="accepted", slug=slug, name=name)


def _page(game: Game, name: str, status: int = 200, problem: str | None = None) -> Response:
    connection, closed = closed_month(game, name)
    runs = outcomes.runs(connection, game.id, name)
    wanted, titles = _wanted(), {partner.name: partner.title for partner in partners()}
    found = _found(connection, _wanted_runs(runs), wanted, whole(request.args.get("after")) or 0, PER_PAGE + 1)
    listed = found[:PER_PAGE]
    reporting = [partner for partner in partners() if partner.report is not None]
    return page(
        "differences.html",
        status,
        game=game,
        name=name,
        closed=closed,
        problem=problem,
        runs=runs,
        headline=outcomes.charged_but_not_granted(runs),
        is_done=bool(runs) and all(run.finished_at for run in runs),
        error=schedules.last_errors(connection, game.id).get(jobs.RECONCILE_JOB),
        titles=titles,
        reporting=[(partner, partner.report.is_askable(game)) for partner in reporting if partner.report],
        rows=[(run, row, _remedy(game, titles[run.partner], row), _address(game, run, row)) for run, row in listed],
        following=listed[-1][1]["id"] if len(found) > PER_PAGE else None,
        filters={"partner": request.args.get("partner", ""), **wanted},
        query={key: value for key, value in request.args.items() if key in ("partner", "result", "reference")},
        results=RESULT_WORDS,
        states=STATE_WORDS,
        amount=_amount,
        may_accept=closed.state == CLOSED,
        missing_here=MISSING_HERE,
        largest_mib=UPLOADS["dashboard.upload_report"] // 1024**2,
    )


def _columns_page(
    game: Game, name: str, partner_name: str, upload_id: str, status: int = 200, problem: str | None = None
) -> Response:
    partner, report = _reporting(partner_name)
    path = _uploaded(game, name, partner_name, upload_id)
    columns, rows = _head(path, report)
    guessed, unit, currency = _guessed(path, Layout.of(report, {}))
    chosen = {field: whole(request.form.get(field)) if problem else guessed[field] for field in FIELDS}
    return page(
        "report_columns.html",
        status,
        game=game,
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


# The list


def _wanted_runs(runs: list[Run]) -> list[Run]:
    partner = request.args.get("partner")
    return [run for run in runs if not partner or run.partner == partner]


def _wanted() -> dict[str, str | None]:
    result, reference = request.args.get("result"), request.args.get("reference", "").strip()[:LONGEST_ID]
    return {"result": result if result in RESULTS else None, "reference": reference or None}


def _found(
    connection: Connection, runs: list[Run], wanted: Mapping[str, str | None], after: int, limit: int
) -> list[tuple[Run, Row]]:
    """Of all the runs, in the order of ids above ``after``."""
    found = [
        (run, row)
        for run in runs
        for row in outcomes.differences(connection, run.id, after=after, limit=limit, **wanted)
    ]
    return sorted(found, key=lambda each: int(each[1]["id"]))[:limit]


def _remedy(game: Game, title: str, row: Row) -> Markup:
    """What mends a difference, in words; a command in it stands out as one."""
    text = reconciling.remedy(game.slug, title, row)
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text[:1].upper() + text[1:]))))  # noqa: S704  escaped


def _address(game: Game, run: Run, row: Row) -> str:
    """Where it is looked up here, whether there is anything of it or not."""
    room = "payments" if run.is_of_payments else "transactions"
    return url_for(f"dashboard.{room}", slug=game.slug, q=row["reference"])


def _amount(minor: object, currency: str | None) -> str:
    """Exact text in minor units, as people write amounts; not always whole."""
    return wording.money(None if minor is None else Decimal(str(minor)), currency)


def _csv_row(game: Game, run: Run, row: Row, title: str) -> Sequence[object]:
    def major(minor: str, currency: str) -> str | None:
        return None if row[minor] is None else money.in_major(Decimal(row[minor]), row[currency] or "")

    return (
        run.partner,
        row["reference"],
        row["result"],
        row["currency"],
        major("stake_minor", "currency"),
        major("ours_minor", "ours_currency"),
        row["ours_currency"],
        major("theirs_minor", "theirs_currency"),
        row["theirs_currency"],
        row["occurred_at"],
        _remedy(game, title, row).striptags(),
    )


# The file


def _reporting(name: str) -> tuple[Partner, Report]:
    for partner in partners():
        if partner.name == name and partner.report is not None:
            return partner, partner.report
    raise PageError(404, "There is no partner of that name that a month can be held against")


def _purpose(game: Game, name: str, partner: str) -> str:
    return f"report-{game.id}-{name}-{partner}"


def _uploaded(game: Game, name: str, partner: str, upload_id: str) -> Path:
    found = uploads.find(installation().settings.home, _purpose(game, name, partner), upload_id)
    if found is None:
        raise PageError(404, "That file is not here any more. Please upload it again.")
    return found


def _head(path: Path, report: Report) -> tuple[list[str], list[list[str]]]:
    """The names of a file's columns, and its first rows. Raises ReconciliationError."""
    with report_file.opened(path) as file:
        head, rows = report_file.head_and_rows(file, Layout.of(report, {}), ROWS_SHOWN)
    if not any(cell.strip() for cell in head):
        raise ReconciliationError("it has no names of columns")
    return head[:MOST_COLUMNS], [row[:MOST_COLUMNS] for row in rows]


def _guessed(path: Path, layout: Layout) -> tuple[dict[str, int | None], str, str | None]:
    """The columns of a file as far as they are known by their names, and unit and currency of its amounts."""
    with report_file.opened(path) as file:
        places, unit, currency = report_file.guessed(file, layout)
    return {field: places.get(field) for field in FIELDS}, unit, currency


def _choices(columns: list[str]) -> list[tuple[int, str]]:
    """The columns one can choose: of several with one name the first is read."""
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
    """Raises ReconciliationError for a file of which nothing can be read."""
    with report_file.opened(path) as file:
        is_readable = any(row.kind != UNREADABLE for rows in report_file.read(file, layout) for row in rows or [])
    if not is_readable:
        raise ReconciliationError("no row of it can be read like that: look at the columns, the unit and the currency")
