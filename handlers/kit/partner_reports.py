"""Reconciliation with partners: how their figures are asked for, and what resolves a difference, in words."""

import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from coinslot.base import clock
from coinslot.base.spellings import shown
from coinslot.games.games import Game
from coinslot.installation import Installation, Job, Standing
from coinslot.settlement import jobs as settlement_jobs
from coinslot.settlement import open_months, runs
from coinslot.settlement.amounts import LONGEST_SAMPLE
from coinslot.settlement.columns import Layout
from coinslot.settlement.jobs import CLOSE_JOB, OPEN_MONTHS_JOB, Reader
from coinslot.settlement.runs import RECONCILE_JOB, ReconciliationError
from coinslot.settlement.terms import InGame
from coinslot.store.db import Database, Row
from handlers.kit.partner import Partner, Report

# What a person does about a difference. {id} is the purchase's, as a command takes it, or {id_last} if it looks like an
# option; {partner} is its title; {detail} is what is known beside.
REMEDIES: Mapping[str, str] = {
    "request_award": "charged but not granted: have {partner} send the award of {reference} again (Retry Award)",
    "report_payment": "{partner} counts {reference} and the game has not reported it: have the game report it",
    "register_payment": "it waits to be registered: it is sent by itself",
    "redrive": "{partner} refused it: `flask playcamp redrive {game}{id}{id_last}`",
    "mend_payment": "it lacks what {partner} needs: have the game report {reference} whole",
    "record_refund": "given back at {partner}: "
    "`flask refund reverse {game}{id}{at} --reason 'given back at {partner}'{id_last}`",
    "report_refund": "given back at {partner}: have the game report {reference} as refunded",
    "send_refund": "given back here: it is sent by itself",
    "refund_order": "taken back here, and {partner} has not given the money back: "
    "`flask appcharge refund {game}{id} --user owner{id_last}`",
    "ask_partner": "ask {partner} about {reference}",
    "read_line": "reported, unreadable: {detail}; put that line right, or ask {partner}",
    "other_month": "at the edge of the month, and {partner} may count it in {detail}: "
    "compare {detail} with its report, then this month again",
    "restore_ids": "the ids look altered, as by a spreadsheet{other}: take the report as {partner} exports it",
}
LONGEST_SHOWN = 60


def remedy(game: str, title: str, difference: Row) -> str:
    """What resolves a difference, in words; a command in it is between backticks, and can be run as it is."""
    reference, detail = difference["reference"], difference["detail"]
    named = detail if difference["action"] == "refund_order" and detail else reference
    looks_like_option = named.startswith("-")
    return REMEDIES[difference["action"]].format(
        game=game,
        partner=title,
        reference=shown(reference, LONGEST_SHOWN),
        id="" if looks_like_option else f" {shlex.quote(named)}",
        id_last=f" -- {shlex.quote(named)}" if looks_like_option else "",
        at=f" --at {detail}" if clock.plausible(detail) and detail <= clock.stamp() else "",
        detail=shown(detail or "", LONGEST_SAMPLE),
        other=f", with {shown(detail, LONGEST_SHOWN)} on the other side" if detail else "",
    )


def jobs(partners: Iterable[Partner]) -> dict[str, Job]:
    """The background jobs of months: closing, calculating open ones, reconciling."""
    reports = {partner.name: partner.report for partner in partners if partner.report is not None}

    def of_months(work: Callable[[Database, Game, InGame], float | None]) -> Job:
        return Standing(lambda installation, game: work(installation.database, game, installation.in_game))

    def reconcile(installation: Installation, game: Game) -> float | None:
        readers = {name: reader(installation, game, report) for name, report in reports.items()}
        return settlement_jobs.reconcile_open(installation.database, game, readers)

    return {
        CLOSE_JOB: of_months(settlement_jobs.close_due),
        OPEN_MONTHS_JOB: of_months(open_months.calculate_large),
        RECONCILE_JOB: reconcile,
    }


def begin(
    installation: Installation,
    game: Game,
    month: str,
    partner: Partner,
    actor: str,
    file: tuple[Path, Layout] | None = None,
    *,
    is_background: bool = True,
) -> int:
    """Begin a run for a closed month, as :func:`coinslot.settlement.runs.begin`. Raises ReconciliationError."""
    if partner.report is None:
        raise ReconciliationError(f"{partner.title} has no figures to compare a month with")
    if file is None and not partner.report.is_askable(game):
        raise ReconciliationError(f"{partner.title} cannot be asked, its key is not set: give its report as a file")
    return runs.begin(
        *(installation.database, game, month, partner.name, actor),
        None if file is None else file[1].fingerprint(file[0]),
        is_of_payments=partner.in_game is not None,
        is_background=is_background,
    )


def reader(installation: Installation, game: Game, report: Report) -> Reader:
    """How a game asks the partner of a report for its figures."""
    return Reader(partial(report.read, installation, game), report.are_movements)
