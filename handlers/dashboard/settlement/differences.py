"""A month compared with its partners' figures: progress, what differs, and what to do about it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from flask import Response, request, url_for
from markupsafe import Markup, escape
from werkzeug.wrappers import Response as AnyResponse

from coinslot.base import csv_text, money
from coinslot.games.games import Game
from coinslot.games.registry import LONGEST_ID
from coinslot.relay import jobs as schedules
from coinslot.settlement import states
from coinslot.settlement.differences import MISSING_HERE, RESULTS
from coinslot.settlement.months import CLOSED
from coinslot.settlement.runs import RECONCILE_JOB, Run, charged_but_not_granted, current_runs, find_differences
from coinslot.store.db import Connection, Row
from handlers.dashboard.frame.export import csv_file
from handlers.dashboard.frame.pages import (
    UPLOADS,
    PageError,
    page,
    partner_titles,
    see_other,
    show_on_error,
    who,
    whole,
    write,
)
from handlers.dashboard.settlement.documents import closed_month
from handlers.dashboard.settlement.progress import refresh_seconds
from handlers.kit import partner_reports, wording
from handlers.kit.partner import Partner, Report
from handlers.kit.receive import current_installation, partners

PER_PAGE = 50
EXPORTED_AT_ONCE = 1000

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
CSV_HEADER = (
    "partner reference difference currency at_stake ours ours_currency theirs theirs_currency occurred_at remedy"
).split()

_CODE = re.compile(r"`([^`]+)`")


def differences(game: Game, name: str, status: int = 200, problem: str | None = None) -> Response:
    """The page; ``problem`` is shown above the forms."""
    connection, closed = closed_month(game, name)
    runs = current_runs(connection, game.id, name)
    wanted, titles = _wanted(), partner_titles()
    found = _found(connection, _wanted_runs(runs), wanted, whole(request.args.get("after")) or 0, PER_PAGE + 1)
    listed = found[:PER_PAGE]
    reporting = [partner for partner in partners() if partner.report is not None]
    return page(
        "differences.html",
        status,
        name=name,
        closed=closed,
        problem=problem,
        runs=runs,
        refresh_seconds=refresh_seconds(runs),
        headline=charged_but_not_granted(runs),
        is_done=bool(runs) and all(run.finished_at for run in runs),
        error=schedules.last_errors(connection, game.id).get(RECONCILE_JOB),
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


def differences_csv(game: Game, name: str) -> Response:
    """Everything that the same filters list."""
    connection, _ = closed_month(game, name)
    runs = _wanted_runs(current_runs(connection, game.id, name))
    wanted = _wanted()
    titles = partner_titles()

    def rows() -> Iterator[Sequence[object]]:
        for run in runs:
            after = 0
            while found := _found(connection, [run], wanted, after, EXPORTED_AT_ONCE):
                for _, row in found:
                    yield _csv_row(game, run, row, titles[run.partner])
                after = found[-1][1]["id"]

    return csv_file(f"{game.slug}-{name}-differences", CSV_HEADER, rows())


def ask_partner(game: Game, name: str) -> AnyResponse:
    """Compare the month with the partner's API, in the background."""
    closed_month(game, name)
    partner, _ = reporting_partner(request.form.get("partner", ""))
    show_on_error(differences, game, name)
    partner_reports.begin(current_installation(), game, name, partner, who(), is_background=True)
    return see_other("differences", "reconciling", name=name)


def accept_differences(game: Game, name: str) -> AnyResponse:
    """Accept what differs: the month is reconciled, and the note says why."""
    closed_month(game, name)
    show_on_error(differences, game, name)
    note = request.form.get("note", "")
    write(lambda tx: states.accept(tx, game.id, name, who(), note))
    return see_other("differences", "accepted", name=name)


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
        (run, row) for run in runs for row in find_differences(connection, run.id, after=after, limit=limit, **wanted)
    ]
    return sorted(found, key=lambda each: int(each[1]["id"]))[:limit]


def _remedy(game: Game, title: str, row: Row) -> Markup:
    """What to do about a difference; commands in it are marked as code."""
    text = partner_reports.remedy(game.slug, title, row)
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text[:1].upper() + text[1:]))))  # noqa: S704  escaped


def _address(game: Game, run: Run, row: Row) -> str:
    """The page that searches for it here."""
    page_name = "payments" if run.is_of_payments else "transactions"
    return url_for(f"dashboard.{page_name}", q=row["reference"])


def _amount(minor: object, currency: str | None) -> str:
    """Exact text in minor units, as people write amounts; not always whole."""
    return wording.money(None if minor is None else Decimal(str(minor)), currency)


def _csv_row(game: Game, run: Run, row: Row, title: str) -> Sequence[object]:
    def major(minor: str, currency: str) -> Decimal | str | None:
        text = None if row[minor] is None else money.in_major(Decimal(row[minor]), row[currency] or "")
        return csv_text.number(text)

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


def reporting_partner(name: str) -> tuple[Partner, Report]:
    for partner in partners():
        if partner.name == name and partner.report is not None:
            return partner, partner.report
    raise PageError(404, "There is no partner of that name that a month can be compared with")
