"""Months: what a game should be paid and owes its creators; closed, and brought from state to state."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from flask import Response, request
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from coinslot.base import money
from coinslot.games.games import Game, GameError
from coinslot.settlement import closing, months, open_months, states
from coinslot.settlement.lines import Line, totals
from coinslot.settlement.periods import Month
from coinslot.settlement.runs import charged_but_not_granted, current_runs
from coinslot.settlement.terms import ZONE
from coinslot.store.db import Row
from handlers.dashboard.frame import charts
from handlers.dashboard.frame.pages import PageError, page, partner_titles, read, see_other, show_on_error, who, write
from handlers.dashboard.settlement.progress import NOT_ADDED_UP_SECONDS, refresh_seconds
from handlers.kit import wording
from handlers.kit.receive import current_installation

MOST_LINES = 500  # on the page; the documents hold all of them
CHARTED_MONTHS = 12
# Section of a line, and what it says to its owner.
SECTIONS = {
    "counted": "counts",
    "orders": "web store orders, for creators",
    "free": "free",
    "test": "test",
    "incomplete": "incomplete",
    "too_large": "too large to be summed",
}

# State of a month, and what it means for its owner.
MEANING = {
    "open": "Purchases of this month still come in.",
    "closed": "The figures are frozen. What becomes known later goes into a later month.",
    "reconciled": "The figures were compared with those of the partners.",
    "payment_confirmed": "The partners' money has arrived.",
    "creators_settled": "The creators were paid.",
}


def settlements(game: Game) -> Response:
    connection = read()
    found = months.month_list(connection, game)
    return page(
        "settlements.html",
        months=found,
        zone=game.settings[ZONE],
        zone_changes=months.zone_changes(connection, game),
        meaning=MEANING,
        **_gross(months.gross_by_month(connection, game.id, CHARTED_MONTHS), request.args.get("currency")),
    )


def month(game: Game, name: str, status: int = 200, problem: str | None = None) -> Response:
    """The page of a month; ``problem`` is shown beside the forms."""
    connection, named = read(), named_month(game, name)
    closed = months.find_closed(connection, game.id, named.name)
    as_of: str | None
    if closed is not None:
        lines, as_of = months.frozen_lines(connection, closed.id), closed.known_at
    else:
        with current_installation().database.snapshot() as snapshot:
            found = open_months.find(snapshot, game, named, current_installation().in_game)
        lines, as_of = found.lines or [], found.known_at
    sums = totals(lines)
    runs = current_runs(connection, game.id, named.name)
    return page(
        "settlement.html",
        status,
        month=named if closed is None else closed.month,
        closed=closed,
        zone_changes=months.zone_changes(connection, game, named.name),
        state=months.OPEN if closed is None else closed.state,
        meaning=MEANING,
        states=months.STATES,
        next_states=() if closed is None else months.STATES[months.STATES.index(closed.state) + 1 :],
        lines=lines[:MOST_LINES],
        more_lines=len(lines) - MOST_LINES,
        totals=sums,
        gross=_by_currency(sums),
        charts=[(total, _waterfall(total)) for total in sums],
        steps=months.steps(connection, game.id, named.name),
        as_of=as_of,
        problem=problem,
        sections=SECTIONS,
        titles=partner_titles(),
        runs=runs,
        refresh_seconds=NOT_ADDED_UP_SECONDS if as_of is None else refresh_seconds(runs),
        disagreeing=[] if closed is None else states.disagreeing(connection, game.id, named.name),
        headline=charged_but_not_granted(runs),
    )


def close_month(game: Game, name: str) -> AnyResponse:
    """Freeze the figures of a month that is over."""
    show_on_error(month, game, name)
    installation, note = current_installation(), request.form.get("note", "").strip()
    closing.close(installation.database, game, installation.in_game, name, who(), note)
    return see_other("month", "saved", name=name)


def advance_month(game: Game, name: str) -> AnyResponse:
    """Bring a closed month to a later state. The note says why a state is skipped or a difference accepted."""
    show_on_error(month, game, name)
    state, note = request.form.get("state", ""), request.form.get("note", "").strip()
    is_skipping, is_accepting = (request.form.get(each) == "on" for each in ("skipping", "accepting"))
    if state not in months.STATES:
        raise PageError(400, "There is no such state")
    how = {"is_skipping": is_skipping, "is_accepting": is_accepting}
    write(lambda tx: states.advance(tx, game.id, name, state, who(), note, **how))
    return see_other("month", "saved", name=name)


def reopen_month(game: Game, name: str) -> AnyResponse:
    """Open a closed month again; the note says why."""
    show_on_error(month, game, name)
    note = request.form.get("note", "").strip()
    write(lambda tx: closing.reopen(tx, game.id, name, who(), note))
    return see_other("month", "saved", name=name)


def named_month(game: Game, name: str) -> Month:
    """The month of an address; 404 when there is none."""
    try:
        return months.month_of(read(), game, name)
    except GameError as error:
        raise PageError(404, str(error)) from None


def _waterfall(total: Line) -> Markup:
    """From gross to what is left, a bar for each step; an unknown amount has none.

    A partner's tax, fee and net need not add up: the bars show that too.
    """
    gross, refunds, net, share = total.gross_minor, total.refunds_minor, total.net_minor, total.share_minor
    steps: list[tuple[str, int, int]] = [("Gross", 0, gross)]
    left = gross
    for name, amount in (
        ("Refunds", refunds),
        ("Without figures", total.unsaid_minor),
        ("Tax", total.tax_minor),
        ("Fee", total.fee_minor),
    ):
        if amount:
            steps.append((name, left, left - amount))
            left -= amount
    if net is not None:
        steps.append(("Net", 0, net))
        if share:
            steps += [("Creators", net, net - share), ("Left", 0, net - share)]
    rows = [
        (name, float(start), float(end), wording.money(end - start, total.currency).replace("-", "\N{MINUS SIGN}"))
        for name, start, end in steps
    ]
    return charts.waterfall(f"{total.partner}, {total.currency}: from gross to what is left", rows)


def _by_currency(sums: Sequence[Line]) -> list[tuple[str, int]]:
    """What was bought, in minor units of each currency; currencies are not added up."""
    found: dict[str, int] = {}
    for each in sums:
        found[each.currency] = found.get(each.currency, 0) + each.gross_minor
    return sorted(found.items())


def _gross(rows: Sequence[Row], wanted: str | None) -> dict[str, Any]:
    """The chart of the months list: one currency at a time, since currencies are not added up."""
    if not rows:
        return {}
    counts = Counter(row["currency"] for row in rows)
    currency: str = max(counts, key=lambda each: (each == wanted, counts[each], each))
    exponent = money.exponent(currency) or 0
    places = sorted({row["month"] for row in rows})
    titles = partner_titles()
    gross = {
        (row["partner"], row["month"]): max(row["gross_minor"], 0.0) / 10**exponent
        for row in rows
        if row["currency"] == currency
    }
    names = sorted({partner for partner, _ in gross})
    series = [charts.Series(titles.get(name, name), [gross.get((name, at), 0.0) for at in places]) for name in names]
    labels = {at: places[at] for at in (range(len(places)) if len(places) <= 4 else (0, len(places) - 1))}
    return {
        "currency": currency,
        "currencies": sorted(counts),
        "chart": charts.bars(f"Gross per month in {money.unit(currency)}", places, series, labels, exponent),
        "legend": charts.legend([each.name for each in series]),
    }
