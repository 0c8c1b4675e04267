"""What the owner may try out before it counts: the expressions of PlayCamp's settings, and one window of payments."""

import json
import math
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from coinslot.base import clock
from coinslot.base.expressions import Expression
from coinslot.base.limits import ExpressionError
from coinslot.games.games import Game
from coinslot.installation import Installation
from coinslot.ledger import events
from coinslot.outbox.conversions import Open
from coinslot.payments import lists, report
from coinslot.payments.report import Payment
from handlers.kit.receive import installation
from handlers.kit.trials import Formula, Made, Sample, TriedRow, Window
from handlers.playcamp.events import conversion, creators
from handlers.playcamp.events.creators import ConversionError, Usn
from handlers.playcamp.payments import polling
from handlers.playcamp.payments import source as game_payments
from handlers.playcamp.payments.rules import rules
from handlers.playcamp.payments.source import Source, SourceError
from handlers.playcamp.settings import is_sandbox

ROWS_SHOWN = 5
MOST_REASONS = 10
MOST_PAGES = 3  # enough to see that .next leads on
PAGE_SECONDS = 10.0  # for one answer: somebody is waiting for it
WINDOW_SECONDS = 15.0  # then no further page is asked for
HIDDEN = "…"

_SECRET = re.compile(r"key|token|secret|sign|auth|pass|fingerprint|hash", re.IGNORECASE)

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


# The expressions


def event_samples(game: Game) -> list[Sample]:
    """One begin and one end of a boost as PlayCamp's guide has them, and the last event of each type that came."""
    invented = [
        _open(
            "sponsor.created",
            {"custom_data": "100001|1767323045|a1b2", "creator_key": "AAA11", "campaign_id": "camp_1"},
        ),
        _open("sponsor.ended", {"custom_data": None, "creator_key": "AAA11", "campaign_id": "camp_1"}),
    ]
    found = [Sample(one.event_type, f"Sample: {one.event_type}", _events(game, one)) for one in invented]
    for row in events.latest_of_each_type(installation().database.read(), game.id, conversion.PARTNER):
        one = Open(
            id=0,
            event_id=row["id"],
            event_type=row["type"],
            player_id=row["player_id"] or "",
            batch="",
            reason=None,
            is_test=bool(row["is_test"]),
            occurred_at=row["occurred_at"],
            created_at=row["received_at"],
            data_json=row["data"],
        )
        try:
            document = _events(game, one)
        except ConversionError:  # of an event that names no creator
            continue
        found.append(
            Sample(f"last:{row['type']}", f"The last {row['type']}, of {row['received_at'][:16]}", document, True)
        )
    return found


def _open(event_type: str, data: Mapping[str, Any]) -> Open:
    return Open(0, 0, event_type, "100001", "", None, False, "2026-01-02T03:04:05.678000Z", "", json.dumps(data))


def _events(game: Game, one: Open) -> dict[str, Any]:
    return {"events": [conversion.item(game, one, lambda key: _usn(game, key))]}


def _usn(game: Game, creator_key: str) -> Usn:
    """The game's number of a creator where the owner has set one; nobody is asked for another."""
    known = game.settings.get(f"playcamp.creator.{creator_key}", "").strip()
    return creators.number_of(known) if known else 17324966


def apply_to_events(game: Game, expression: str, document: Any) -> Made:
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
    return [Sample("answer", "Sample: an answer of a game's payment API", _ANSWER)]


def apply_rows(game: Game, expression: str, document: Any) -> Made:
    value = _applied(game, expression, document)
    if not isinstance(value, list):
        return Made(value, ["This is no list of rows: the poll would fail and try again."], is_good=False)
    return Made(value, [f"{len(value):,} row{'' if len(value) == 1 else 's'}."])


def apply_next(game: Game, expression: str, document: Any) -> Made:
    if not expression:
        return Made(None, ["No expression is set: each window has one page."])
    value = _applied(game, expression, document)
    if value is None or value is False or value == "":
        return Made(value, ["Nothing: this would be the last page."])
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return Made(value, ["This is no cursor, page or link: the poll would fail and try again."], is_good=False)
    return Made(value, ["The next page would be asked for by this."])


def row_samples(game: Game) -> list[Sample]:
    """A made-up row, and the last ones of the game's own that could not be made a payment."""
    found = [Sample("row", "Sample: a row of a game's", _ROW)]
    rows = lists.listing(installation().database.read(), game.id, "parked", None, ROWS_SHOWN)
    for number, row in enumerate(rows, 1):
        document = json.loads(row["reported"]).get(report.UNMAPPED)
        if document is not None:
            found.append(
                Sample(f"parked:{number}", f"A row that is parked, of {row['created_at'][:16]}", document, True)
            )
    return found


def apply_to_row(game: Game, expression: str, document: Any) -> Made:
    value = _applied(game, expression, document)
    if not isinstance(value, dict):
        return Made(value, ["This is no object: the row would be parked."], is_good=False)
    payment = report.check(value, rules(game), "poll", raw=document, is_test=is_sandbox(game))
    if payment.problem is not None:
        return Made(value, [f"The row would be parked: {payment.problem}."], is_good=False)
    if payment.kept_because is not None:
        return Made(value, [f"It would be kept and not be sent: {payment.kept_because}."])
    told = f"{payment.amount} {payment.currency} on {payment.platform}, {payment.distribution_type}"
    return Made(value, [f"It would be registered: {told}, bought at {(payment.purchased_at or '')[:19]}."])


def _applied(game: Game, expression: str, document: Any) -> Any:
    return Expression.parse(expression).apply(
        document,
        zone=game.settings["playcamp.payments.zone"],
        lookup=lambda table, key: game.settings.get(f"lookup.{table}.{key}"),
        allow_half_pairs=True,
    )


def read(body: bytes) -> Any:
    """A pasted document, its numbers as those of an answer."""
    return game_payments.parse(body)


FORMULAS = (
    Formula(
        "playcamp.events.map",
        "Events for the game",
        "Makes the body that the game gets of PlayCamp's events. Empty: the usual body of PlayCamp's guide.",
        event_samples,
        read,
        apply_to_events,
    ),
    Formula(
        "playcamp.payments.rows",
        "Rows of the payment API",
        "Finds the list of rows in an answer of the game's payment API.",
        answer_samples,
        read,
        apply_rows,
    ),
    Formula(
        "playcamp.payments.next",
        "Next page of the payment API",
        "Finds the next cursor, page or link in an answer; null ends. Empty: one page.",
        answer_samples,
        read,
        apply_next,
    ),
    Formula(
        "playcamp.payments.map",
        "One row as a payment",
        "Makes one row of the game's a payment: transactionId, userId, productId, amount, currency, market or platform "
        "and distributionType, purchasedAt.",
        row_samples,
        read,
        apply_to_row,
    ),
)


# One window of payments


def try_window(
    house: Installation, game: Game, days: int | None = None, start: int | None = None, most_pages: int = 1
) -> Window:
    """Ask the game's payment API as a poll would, for the first pages of one window, and store nothing.

    The window has the last ``days``, or is as long as that of a poll: from ``start`` on (Unix seconds), else up to
    where a poll would end now. Never raises for what is configured or answered: that is the window's ``error``.
    """
    begin, end = _range(game, days, start)
    window = Window(game.settings["playcamp.payments.method"], "", clock.stamp(begin), clock.stamp(end))
    if not game_payments.is_configured(game):
        return replace(window, error="playcamp.payments needs .url, .rows and .map before payments can be read")
    if begin >= end:
        return replace(window, error="that begins later than payments are asked for yet")
    made, is_test = rules(game), is_sandbox(game)
    count = pages = 0
    rows: list[TriedRow] = []
    first: Payment | None = None
    parked: Counter[str] = Counter()
    after: str | None = None
    seen: set[str] = set()
    error: str | None = None
    doubt: str | None = None
    deadline = time.monotonic() + WINDOW_SECONDS
    try:
        source = Source(game, house.outbound.for_callers)
        window = replace(window, address=masked(source.address(begin, end), game))
        while pages < most_pages and (pages == 0 or after is not None) and time.monotonic() < deadline:
            seen.add(after or "")
            page = source.page(begin, end, after, PAGE_SECONDS)
            after, pages, count, doubt = page.next, pages + 1, count + len(page.rows), page.doubt
            for row in page.rows:
                payment = polling.read_row(source, row, made, is_test)
                if len(rows) < ROWS_SHOWN:
                    rows.append(_tried(row, payment))
                if payment.problem is not None:
                    parked[payment.problem] += 1
                elif first is None:
                    first = payment
            if after in seen:
                raise SourceError("playcamp.payments.next never ends: it leads in a circle")
    except SourceError as trouble:
        error = str(trouble)
    return replace(
        window,
        error=error,
        count=count,
        pages=pages,
        rows=rows,
        first=first,
        parked=dict(parked.most_common(MOST_REASONS)),
        parked_count=parked.total(),
        next=None if after is None else masked(after, game),
        doubt=doubt,
    )


def _range(game: Game, days: int | None, start: int | None) -> tuple[int, int]:
    span = int(game.settings["playcamp.payments.span_seconds"])
    until = math.floor(clock.now()) - int(game.settings["playcamp.payments.lag_seconds"])
    if start is not None:
        return start, max(start, min(start + span, until))
    length = span if days is None else min(days * polling.DAY_SECONDS, max(span, polling.DAY_SECONDS))
    return max(0, until - length), until


def masked(text: str, game: Game) -> str:
    """An address without what proves us: values of telling names, and the key wherever it stands."""
    for key in game.keys("playcamp.payments_key"):
        value = key.value.decode("utf-8", "replace")
        for written in (value, quote(value, safe="")):
            text = text.replace(written, HIDDEN)
    parts = urlsplit(text)
    if not parts.query:
        return text
    pairs = [pair.partition("=") for pair in parts.query.split("&")]
    words = [
        f"{name}{sign}{HIDDEN if value and _SECRET.search(unquote(name)) else value}" for name, sign, value in pairs
    ]
    return parts._replace(query="&".join(words)).geturl()


def _tried(raw: Any, payment: Payment) -> TriedRow:
    if payment.problem is not None:
        return TriedRow(raw, None, payment.problem)
    told = {
        "transactionId": payment.transaction_id,
        "userId": payment.player_id,
        "productId": payment.product_id,
        "productName": payment.product_name,
        "amount": payment.amount,
        "currency": payment.currency,
        "market": payment.market,
        "platform": payment.platform,
        "distributionType": payment.distribution_type,
        "purchasedAt": payment.purchased_at,
        "refundedAt": payment.refunded_at,
    }
    return TriedRow(raw, {name: value for name, value in told.items() if value is not None}, None, payment.kept_because)
