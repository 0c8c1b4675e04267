"""Months: what a game should be paid and what it owes its creators, closed and brought from step to step."""

from collections.abc import Sequence

from flask import Response, request
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from coinslot import counters, money, months, settlement
from coinslot.games import Game, GameError
from coinslot.months import Month
from coinslot.settlement import Settlement, Total
from handlers import installation
from handlers.dashboard import charts
from handlers.dashboard.pages import PageError, bp, page, see_other, the_game

MOST_LINES = 500  # on the page; the documents hold all of them

# State of a month, and what it means for its owner.
MEANING = {
    "open": "Purchases of this month still come in.",
    "closed": "The figures are frozen. What becomes known later goes into a later month.",
    "reconciled": "The figures were held against the partners' own.",
    "payment_confirmed": "The partners' money has arrived.",
    "creators_settled": "The creators have their share.",
}


@bp.get("/games/<slug>/settlements")
def settlements(slug: str) -> Response:
    game = the_game(slug)
    found = settlement.month_list(installation().database.read(), game.id, game.settings["settlement.zone"])
    return page("settlements.html", game=game, months=found, zone=game.settings["settlement.zone"], meaning=MEANING)


@bp.get("/games/<slug>/settlements/<name>")
def month(slug: str, name: str) -> Response:
    game = the_game(slug)
    return _page(game, _month(game, name))


@bp.post("/games/<slug>/settlements/<name>/close")
def close_month(slug: str, name: str) -> AnyResponse:
    game = the_game(slug)
    _month(game, name)
    try:
        settlement.close(installation().database, game, name, "owner", request.form.get("note", "").strip())
    except GameError as error:
        return _page(game, _month(game, name), 400, str(error))
    return see_other("month", said="saved", slug=slug, name=name)


@bp.post("/games/<slug>/settlements/<name>/steps")
def advance_month(slug: str, name: str) -> AnyResponse:
    """Bring a closed month to its next state, or pass over one; the note says why."""
    game = the_game(slug)
    _month(game, name)
    state, note = request.form.get("state", ""), request.form.get("note", "").strip()
    is_skipping = request.form.get("skipping") == "on"
    if state not in settlement.STATES:
        raise PageError(400, "There is no such state")
    try:
        installation().database.write(
            lambda tx: settlement.advance(tx, game.id, name, state, "owner", note, skipping=is_skipping)
        )
    except GameError as error:
        return _page(game, _month(game, name), 400, str(error))
    return see_other("month", said="saved", slug=slug, name=name)


@bp.post("/games/<slug>/settlements/<name>/reopen")
def reopen_month(slug: str, name: str) -> AnyResponse:
    game = the_game(slug)
    _month(game, name)
    note = request.form.get("note", "").strip()
    try:
        installation().database.write(lambda tx: settlement.reopen(tx, game.id, name, "owner", note))
    except GameError as error:
        return _page(game, _month(game, name), 400, str(error))
    return see_other("month", said="saved", slug=slug, name=name)


def _month(game: Game, name: str) -> Month:
    try:
        return months.month(name, game.settings["settlement.zone"])
    except GameError as error:
        raise PageError(404, str(error)) from None


def _page(game: Game, named: Month, status: int = 200, problem: str | None = None) -> Response:
    connection = installation().database.read()
    closed = settlement.standing(connection, game.id, named.name)
    lines = [] if closed is None else settlement.lines(connection, closed.id)
    totals = settlement.totals(lines)
    return page(
        "settlement.html",
        status,
        game=game,
        month=named if closed is None else closed.month,
        closed=closed,
        state=settlement.OPEN if closed is None else closed.state,
        meaning=MEANING,
        states=settlement.STATES,
        next_states=_next_states(closed),
        lines=lines[:MOST_LINES],
        more_lines=len(lines) - MOST_LINES,
        totals=totals,
        charts=[(total, _waterfall(total)) for total in totals],
        steps=settlement.steps(connection, game.id, named.name),
        so_far=[] if closed is not None else _so_far(game, named),
        problem=problem,
    )


def _next_states(closed: Settlement | None) -> Sequence[str]:
    return () if closed is None else settlement.STATES[settlement.STATES.index(closed.state) + 1 :]


def _waterfall(total: Total) -> Markup:
    """From what was paid to what is left, a bar for each step; what nobody said has none."""
    steps = [
        ("Gross", total.gross_minor),
        ("Refunds", total.refunds_minor),
        ("Tax", total.tax_minor),
        ("Fee", total.fee_minor),
        ("Net", total.net_minor),
        ("Creators", total.share_minor),
    ]
    rows = [
        (name, float(abs(amount)), f"{money.in_major(amount, total.currency)} {total.currency}")
        for name, amount in steps
        if amount is not None
    ]
    return charts.ranking(f"{total.partner}, {total.currency}: from gross to the creators' share", rows)


def _so_far(game: Game, named: Month) -> list[tuple[str, str, int, int]]:
    """Partner, currency, gross and refunds of an open month as counted per UTC day; a month's lines are exact."""
    sums: dict[tuple[str, str], list[int]] = {}
    for row in counters.since(installation().database.read(), game.id, named.starts_at[:10]):
        for at, prefix in enumerate((counters.GROSS, counters.REFUNDED)):
            if row["name"].startswith(prefix) and row["day"] < named.ends_at[:10]:
                sums.setdefault((row["partner"], row["name"].removeprefix(prefix)), [0, 0])[at] += row["value"]
    return [(partner, currency, *amounts) for (partner, currency), amounts in sorted(sums.items())]  # type: ignore[misc]
