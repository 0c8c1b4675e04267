"""The documents of a closed month: files, pages to print, and the purchases of its lines."""

import re
from collections.abc import Callable, Iterator
from itertools import chain

from flask import Response, request, url_for

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.settlement import documents, months, purchases
from coinslot.settlement.lines import IN_TOTALS, Line, totals, totals_by_creator
from coinslot.settlement.months import Settlement
from coinslot.store.db import Connection, Row
from handlers.dashboard.frame.export import BYTE_ORDER_MARK
from handlers.dashboard.frame.pages import PageError, download, page, partner_titles, read
from handlers.dashboard.frame.words import with_query
from handlers.dashboard.settlement.months import SECTIONS, named_month
from handlers.kit.receive import current_installation

MOST_PRINTED = 2000  # lines; the files hold all of them
PER_PAGE = 50
MOST_READ = 2000  # purchases of a month that one page looks at to find those that are wanted

_CURSOR = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{15}Z)~([0-9]{1,18})")


# The end of a file's address -> what writes it.
FILES: dict[str, Callable[[Connection, Game, Settlement], Iterator[str]]] = {
    "statement.csv": lambda connection, game, found: documents.statement_csv(connection, found),
    "everything.csv": lambda connection, game, found: documents.statement_csv(connection, found, is_whole=True),
    "creators.csv": lambda connection, game, found: documents.creator_csv(
        connection, found, request.args.get("creator")
    ),
    "month.beancount": lambda connection, game, found: documents.beancount(connection, found, game.name),
}


def month_file(game: Game, name: str, document: str) -> Response:
    """The same as ``flask settlement export`` writes."""
    connection, found = closed_month(game, name)
    write = FILES.get(document)
    if write is None:
        raise PageError(404, "There is no such document")
    parts, is_csv = write(connection, game, found), document.endswith(".csv")
    chunks = chain([BYTE_ORDER_MARK], parts) if is_csv else parts
    return download(chunks, f"{game.slug}-{name}-{document}", "text/csv" if is_csv else "text/plain")


def month_print(game: Game, name: str) -> Response:
    """The month's statement, to hand out."""
    connection, found = closed_month(game, name)
    lines = months.frozen_lines(connection, found.id)
    counted = [line for line in lines if line.section in IN_TOTALS]
    return page(
        "settlement_print.html",
        closed=found,
        lines=counted[:MOST_PRINTED],
        more_lines=len(counted) - MOST_PRINTED,
        apart=[line for line in lines if line.section not in IN_TOTALS],
        sections=SECTIONS,
        totals=totals(lines),
        steps=months.steps(connection, game.id, name),
        titles=partner_titles(),
        printed_at=clock.stamp(),
    )


def month_creators(game: Game, name: str) -> Response:
    """What creators brought and are owed: all of them, or the statement of the one in ``creator``."""
    connection, found = closed_month(game, name)
    wanted = request.args.get("creator")
    lines: list[Line] = months.frozen_lines(connection, found.id)
    sums = [each for each in totals_by_creator(lines) if wanted in (None, each.creator)]
    if wanted is not None and not sums:
        raise PageError(404, "This month has nothing of that creator")
    lines = [line for line in lines if line.section in IN_TOTALS and line.creator == wanted]
    return page(
        "settlement_creators.html",
        closed=found,
        wanted=wanted,
        sums=sums[:MOST_PRINTED],
        more_sums=len(sums) - MOST_PRINTED,
        lines=lines[:MOST_PRINTED],
        titles=partner_titles(),
        printed_at=clock.stamp(),
    )


def month_purchases(game: Game, name: str) -> Response:
    """What a line is made of, as the rows are now; the newest come last, as in the month."""
    connection = read()
    partner = request.args.get("partner", "")
    if partner not in partner_titles():
        raise PageError(404, "There is no such partner")
    closed = months.find_closed(connection, game.id, name)
    month = named_month(game, name) if closed is None else closed.month
    currency, kind = request.args.get("currency"), request.args.get("distribution_type")
    is_payments = partner == current_installation().in_game.partner
    rows, following = purchases.of_month(
        connection,
        game.id,
        month,
        partner,
        _after(month.starts_at),
        PER_PAGE,
        is_of_payments=is_payments,
        currency=currency,
        distribution_type=kind,
        most=MOST_READ,
    )
    return page(
        "settlement_purchases.html",
        month=month,
        closed=closed,
        partner=partner_titles()[partner],
        currency=currency,
        distribution_type=kind,
        is_payments=is_payments,
        rows=rows,
        addresses=[_address(row, is_payments) for row in rows],
        next_page=None if following is None else with_query(after=f"{following[0]}~{following[1]}"),
        first_page=with_query(after=None) if "after" in request.args else None,
        searched_to=following[0] if following and len(rows) < PER_PAGE else None,
    )


def closed_month(game: Game, name: str) -> tuple[Connection, Settlement]:
    """The closed month of an address; 404 while the month is open."""
    named_month(game, name)
    connection = read()
    found = months.find_closed(connection, game.id, name)
    if found is None:
        raise PageError(404, f"{name} is open: close it first")
    return connection, found


def _address(row: Row, is_payments: bool) -> str:
    if is_payments:
        return url_for("dashboard.payments", q=row["reference"])
    return url_for("dashboard.transaction", public_id=row["public_id"])


def _after(starts_at: str) -> tuple[str, int] | None:
    given = request.args.get("after")
    if given is None:
        return None
    match = _CURSOR.fullmatch(given)
    if match is None or match[1] < starts_at:
        raise PageError(404, "There is no such page of this list")
    return match[1], int(match[2])
