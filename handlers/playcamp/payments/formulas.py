"""The expressions of PlayCamp's settings, which the owner may try on samples before they are used."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from coinslot.base.expressions import Expression
from coinslot.base.limits import ExpressionError
from coinslot.games.games import Game
from coinslot.ledger import events
from coinslot.outbox.conversion_queue import Open
from coinslot.payments import lists, parsing
from handlers.kit.previews import Formula, Made, Sample
from handlers.kit.receive import current_installation
from handlers.playcamp.events import conversion, creators
from handlers.playcamp.events.creators import ConversionError, Usn
from handlers.playcamp.payments import game_answer
from handlers.playcamp.payments.rules import rules
from handlers.playcamp.payments.window_preview import ROWS_SHOWN
from handlers.playcamp.settings import is_sandbox

_ROW = {
    "order_id": "GP-20260102-1",
    "usn": 100001,
    "item": "gems_500",
    "price": "9900",
    "currency": "KRW",
    "store": "google",
    "paid_at": 1767323045,
    "refunded": False,
}
_ANSWER = {"result": {"orders": [_ROW, {**_ROW, "order_id": "GP-20260102-2"}], "next": "GP-20260102-2"}}
_BOOST = {"creator_key": "AAA11", "campaign_id": "camp_1"}
_EVENTS: Mapping[str, Mapping[str, Any]] = {
    "sponsor.created": {"custom_data": "100001|1767323045|a1b2", **_BOOST},
    "sponsor.ended": {"custom_data": None, **_BOOST},
}


def event_samples(game: Game) -> list[Sample]:
    """The begin and the end of a boost as in PlayCamp's guide, and the last event of each type that came."""
    found = [
        Sample(
            event_type,
            f"Sample: {event_type}",
            _events(game, event_type, "100001", False, "2026-01-02T03:04:05.678000Z", json.dumps(data)),
        )
        for event_type, data in _EVENTS.items()
    ]
    for row in events.latest_of_each_type(current_installation().database.read(), game.id, conversion.PARTNER):
        about = row["type"], row["player_id"] or "", bool(row["is_test"]), row["occurred_at"], row["data"]
        try:
            document = _events(game, *about)
        except ConversionError:  # of an event that names no creator
            continue
        title = f"The last {row['type']}, of {row['received_at'][:16]}"
        found.append(Sample(f"last:{row['type']}", title, document, True))
    return found


def _events(game: Game, event_type: str, player: str, is_test: bool, occurred_at: str, data: str) -> dict[str, Any]:
    """The document that ``playcamp.events.map`` gets for one event."""
    one = Open(0, 0, event_type, player, "", None, is_test, occurred_at, "", data)
    return {"events": [conversion.item(game, one, lambda key: _usn(game, key))]}


def _usn(game: Game, creator_key: str) -> Usn:
    """The game's number of a creator if the owner has set one, else an invented one; PlayCamp is not called."""
    known = game.settings.get(f"playcamp.creator.{creator_key}", "").strip()
    return creators.number_of(known) if known else 17324966


def apply_to_events(game: Game, expression: str, document: Any) -> Made:
    """The body for the game."""
    if not expression:
        items = document.get("events") if isinstance(document, dict) else None
        if not isinstance(items, list):
            raise ExpressionError("without an expression the usual body is made, of a document with events")
        try:
            return Made(json.loads(conversion.body(game, items)), ["This is the usual body: no expression is set."])
        except (ConversionError, KeyError, TypeError):
            raise ExpressionError("this cannot be made into the usual body") from None
    value = _applied(game, expression, document)
    if not isinstance(value, dict | list):
        return Made(value, ["This is neither an object nor a list: the event would be parked."], is_good=False)
    return Made(value)


def answer_samples(game: Game) -> list[Sample]:
    """An answer of a game's payment API."""
    return [Sample("answer", "Sample: an answer of a game's payment API", _ANSWER)]


def apply_rows(game: Game, expression: str, document: Any) -> Made:
    """The rows of an answer."""
    value = _applied(game, expression, document)
    if not isinstance(value, list):
        return Made(value, ["This is no list of rows: the poll would fail and try again."], is_good=False)
    return Made(value, [f"{len(value):,} row{'' if len(value) == 1 else 's'}."])


def apply_next(game: Game, expression: str, document: Any) -> Made:
    """The cursor, page or link after an answer."""
    if not expression:
        return Made(None, ["No expression is set: each window has one page."])
    value = _applied(game, expression, document)
    if value is None or value is False or value == "":
        return Made(value, ["Nothing: this would be the last page."])
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return Made(value, ["This is no cursor, page or link: the poll would fail and try again."], is_good=False)
    return Made(value, ["The next page would be read with this."])


def row_samples(game: Game) -> list[Sample]:
    """An invented row, and the game's own latest rows that could not be made payments."""
    found = [Sample("row", "Sample: a row of a game's", _ROW)]
    rows, _ = lists.page(current_installation().database.read(), game.id, state="parked", limit=ROWS_SHOWN)
    for number, row in enumerate(rows, 1):
        document = json.loads(row["reported"]).get(parsing.UNMAPPED)
        if document is not None:
            title = f"A row that is parked, of {row['created_at'][:16]}"
            found.append(Sample(f"parked:{number}", title, document, True))
    return found


def apply_to_row(game: Game, expression: str, document: Any) -> Made:
    """The payment of a row."""
    value = _applied(game, expression, document)
    if not isinstance(value, dict):
        return Made(value, ["This is no object: the row would be parked."], is_good=False)
    payment = parsing.check(value, rules(game), "poll", raw=document, is_test=is_sandbox(game))
    if payment.problem is not None:
        return Made(value, [f"The row would be parked: {payment.problem}."], is_good=False)
    if payment.kept_because is not None:
        return Made(value, [f"It would be kept and not be sent: {payment.kept_because}."])
    price = f"{payment.amount} {payment.currency} on {payment.platform}, {payment.distribution_type}"
    return Made(value, [f"It would be registered: {price}, bought at {(payment.purchased_at or '')[:19]}."])


def _applied(game: Game, expression: str, document: Any) -> Any:
    return Expression.parse(expression).apply(
        document,
        zone=game.settings["playcamp.payments.zone"],
        lookup=lambda table, key: game.settings.get(f"lookup.{table}.{key}"),
        allow_half_pairs=True,
    )


_formula: Callable[..., Formula] = partial(Formula, read=game_answer.parse)  # numbers as in an answer

FORMULAS = (
    _formula(
        "playcamp.events.map",
        "Events for the game",
        "Makes the body that the game gets of PlayCamp's events. Empty: the usual body of PlayCamp's guide.",
        samples=event_samples,
        apply=apply_to_events,
    ),
    _formula(
        "playcamp.payments.rows",
        "Rows of the payment API",
        "Finds the list of rows in an answer of the game's payment API.",
        samples=answer_samples,
        apply=apply_rows,
    ),
    _formula(
        "playcamp.payments.next",
        "Next page of the payment API",
        "Finds the next cursor, page or link in an answer; null ends. Empty: one page.",
        samples=answer_samples,
        apply=apply_next,
    ),
    _formula(
        "playcamp.payments.map",
        "One row as a payment",
        "Makes one row of the game's a payment: transactionId, userId, productId, amount, currency, market or platform "
        "and distributionType, purchasedAt.",
        samples=row_samples,
        apply=apply_to_row,
    ),
)
