"""Events: what partners reported beside credits, such as logins, boosts, refunds and disputes; and one in full."""

import json
from datetime import timedelta

from flask import Response, request

from coinslot.games.games import Game
from coinslot.ledger import event_lists
from coinslot.ledger.event_lists import Found, Wanted
from coinslot.store import audit
from handlers.dashboard.frame import masking
from handlers.dashboard.frame.export import csv_file
from handlers.dashboard.frame.pages import PageError, below, page, partner_titles, read, who, write
from handlers.dashboard.frame.timeline import EVENTS
from handlers.dashboard.records.form import given, parse_day

EXPORTED = "id received_at occurred_at partner type player_id external_id environment is_test data".split()
WRONG_DAY = "Write a day as year-month-day, such as 2026-01-31."


def events(game: Game) -> Response:
    connection = read()
    wanted = _wanted()
    found = Found([], None) if wanted is None else event_lists.page(connection, game.id, wanted, below())
    return page(
        "events.html",
        400 if wanted is None else 200,
        problem=WRONG_DAY if wanted is None else None,
        found=found,
        wanted=wanted or Wanted(),
        typed=request.args,
        partners=partner_titles(),
        types=event_lists.types(connection, game.id),
        query={name: value for name, value in request.args.items() if name in FIELDS and value},
    )


FIELDS = ("partner", "type", "player", "from", "to")


def events_csv(game: Game) -> Response:
    """All events of the same filters, newest first."""
    connection, wanted = read(), _wanted()
    if wanted is None:
        raise PageError(400, WRONG_DAY)
    rows = ([row[name] for name in EXPORTED] for row in event_lists.every(connection, game.id, wanted))
    return csv_file(f"{game.slug}-events", EXPORTED, rows)


def event(game: Game, event_id: int, is_revealed: bool = False) -> Response:
    connection = read()
    row = event_lists.one(connection, game.id, event_id)
    if row is None:
        raise PageError(404, "This game has no such event")
    body, reveal = row["raw_body"], masking.revealed if is_revealed else masking.masked
    return page(
        "event.html",
        row=row,
        about=EVENTS.get(row["type"]),
        data=_laid_out(row["data"]),
        body=None if body is None else reveal(body),
        as_it_came=masking.as_text(body) if is_revealed and body is not None else None,
        is_revealed=is_revealed,
        transaction=event_lists.transaction_of(connection, game.id, event_id),
        deliveries=event_lists.deliveries(connection, event_id),
    )


def reveal_event(game: Game, event_id: int) -> Response:
    """The page with nothing of the body hidden. Only this form leads to it, and the audit notes it."""
    if event_lists.one(read(), game.id, event_id) is None:
        raise PageError(404, "This game has no such event")
    write(lambda tx: audit.record(tx, game.id, who(), "event.reveal", str(event_id)))
    return event(game, event_id, is_revealed=True)


def _wanted() -> Wanted | None:
    """The filters in the address; None where a day is none."""
    try:
        since, until = parse_day(request.args.get("from", "")), parse_day(request.args.get("to", ""))
        end = None if until is None else (until + timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        return None
    return Wanted(
        partner=given(request.args, "partner"),
        type=given(request.args, "type"),
        player_id=given(request.args, "player"),
        since=None if since is None else since.isoformat(),
        until=end,
    )


def _laid_out(text: str) -> str:
    printed = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return printed.encode("utf-8", "backslashreplace").decode()
