"""One window of the game's payments, read and shown as it would be stored; nothing is stored."""

import math
import re
import time
from collections import Counter
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.installation import Installation
from coinslot.payments.parsing import Payment
from handlers.kit.previews import TriedRow, Window
from handlers.playcamp.payments import polling
from handlers.playcamp.payments import source as game_payments
from handlers.playcamp.payments.game_answer import SourceError
from handlers.playcamp.payments.rules import rules
from handlers.playcamp.payments.source import Source
from handlers.playcamp.settings import is_sandbox

ROWS_SHOWN = 5
MOST_REASONS = 10
MOST_PAGES = 3  # enough to see that .next works
PAGE_SECONDS = 10.0  # for one answer: a person is waiting for it
WINDOW_SECONDS = 15.0  # then no further page is read
HIDDEN = "…"
_SECRET = re.compile(r"key|token|secret|sign|auth|pass|fingerprint|hash", re.IGNORECASE)


def try_window(
    installation: Installation, game: Game, days: int | None = None, start: int | None = None, most_pages: int = 1
) -> Window:
    """Read the first pages of one window as a poll would, and store nothing.

    The window has the last ``days``, or is as long as that of a poll: from ``start`` on (Unix seconds), else up to
    where a poll would end now. What goes wrong is the window's ``error``; nothing is raised.
    """
    begin, end = _range(game, days, start)
    window = Window(game.settings["playcamp.payments.method"], "", clock.stamp(begin), clock.stamp(end))
    if not game_payments.is_configured(game):
        return replace(window, error="playcamp.payments needs .url, .rows and .map before payments can be read")
    if begin >= end:
        return replace(window, error="that begins later than payments are asked for yet")
    wanted, is_test = rules(game), is_sandbox(game)
    count = pages = 0
    rows: list[TriedRow] = []
    first: Payment | None = None
    parked: Counter[str] = Counter()
    after: str | None = None
    seen: set[str] = set()
    error = doubt = None
    deadline = time.monotonic() + WINDOW_SECONDS
    try:
        source = Source(game, installation.outbound.for_callers)
        window = replace(window, address=masked(source.address(begin, end), game))
        while pages < most_pages and (pages == 0 or after is not None) and time.monotonic() < deadline:
            seen.add(after or "")
            page = source.page(begin, end, after, PAGE_SECONDS)
            after, pages, count, doubt = page.next, pages + 1, count + len(page.rows), page.doubt
            for row in page.rows:
                payment = polling.read_row(source, row, wanted, is_test)
                if len(rows) < ROWS_SHOWN:
                    rows.append(_tried(row, payment))
                if payment.problem is not None:
                    parked[payment.problem] += 1
                else:
                    first = first or payment
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


def masked(text: str, game: Game) -> str:
    """An address without our key, and without the values of parameters whose names suggest a secret."""
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


def _range(game: Game, days: int | None, start: int | None) -> tuple[int, int]:
    span = int(game.settings["playcamp.payments.span_seconds"])
    until = math.floor(clock.now()) - int(game.settings["playcamp.payments.lag_seconds"])
    if start is not None:
        return start, max(start, min(start + span, until))
    length = span if days is None else min(days * polling.DAY_SECONDS, max(span, polling.DAY_SECONDS))
    return max(0, until - length), until


def _tried(raw: Any, payment: Payment) -> TriedRow:
    if payment.problem is not None:
        return TriedRow(raw, None, payment.problem)
    fields = {
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
    return TriedRow(
        raw, {name: value for name, value in fields.items() if value is not None}, None, payment.kept_because
    )
