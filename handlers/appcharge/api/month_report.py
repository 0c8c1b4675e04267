"""Appcharge's own figures of a month (Get Transactions), a page at a time: payments, refunds, disputes.

Quirks: one order has several rows, each with an id of its own; amounts are minor units, below 0 for what went back; a
page may repeat rows, and the last may lead to itself.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from coinslot.base import clock, exact
from coinslot.base.spellings import shown
from coinslot.games.games import Game
from coinslot.games.readers import figure_of, moment_of
from coinslot.games.registry import checked_id
from coinslot.installation import Installation
from coinslot.relay.jobs import JobError
from coinslot.settlement.differences import PAID, REFUNDED, REINSTATED, UNREADABLE, PartnerRow
from coinslot.settlement.partner_rows import add_rows
from coinslot.settlement.runs import Run
from handlers.appcharge.api.client import Client
from handlers.kit.api import ApiError
from handlers.kit.partner import Report

LONGEST_SAMPLE = 120

KINDS: Mapping[str, str] = {
    "paid": PAID,
    "refund": REFUNDED,
    "dispute_funds_withdrawn": REFUNDED,
    "dispute_funds_reinstated": REINSTATED,
    # What a dispute has come to: its money moves in rows of their own.
    **dict.fromkeys(("dispute_open", "dispute_inquiry_open", "dispute_lost", "dispute_won"), ""),
}


def read(installation: Installation, game: Game, run: Run, deadline: float) -> bool:
    """Page after page; how far that has come is the query of the next. Raises JobError."""
    start, end = (datetime.fromtimestamp(clock.seconds(at), UTC) for at in (run.month.starts_at, run.month.ends_at))
    cursor, count = run.cursor, run.rows_read
    while True:
        try:
            page = Client(game, installation.outbound).transactions_page(start, end, cursor or None)
        except ApiError as error:
            raise JobError(str(error)) from None
        rows, odd = _read(page.rows)
        next_query = page.next_query if page.next_query != cursor else None
        count += len(page.rows)
        if next_query is None and page.total is not None and count < page.total:
            raise JobError(f"the report is incomplete: {count} of {page.total} transactions came")
        is_kept = add_rows(
            installation.database,
            replace(run, cursor=cursor),
            rows,
            next_query or "",
            odd=odd,
            expected=page.total,
            is_last=next_query is None,
        )
        if next_query is None or not is_kept:
            return False
        cursor = next_query
        if time.monotonic() >= deadline:
            return True


def _read(documents: Sequence[Mapping[str, Any]]) -> tuple[list[PartnerRow], int]:
    """The rows that move money, and how many cannot be read at all."""
    rows, odd = [], 0
    for document in documents:
        try:
            row = row_of(document)
        except ValueError:
            odd += 1
        else:
            rows += [] if row is None else [row]
    return rows, odd


def row_of(document: Mapping[str, Any]) -> PartnerRow | None:
    """A row of the report; None for one that moves no money. Raises ValueError where no order can be read in it."""
    details = document.get("transactionDetails")
    reference = checked_id(str(document.get("orderId") or ""))
    if not isinstance(details, dict):
        details = {}
    kind = KINDS.get(str(details.get("type")).lower())
    if kind == "":
        return None
    currency, ours, stated = details.get("currencyCode"), document.get("publisherTransactionId"), details.get("amount")
    amount = figure_of(stated)
    row = PartnerRow(
        reference,
        str(details.get("id") or ""),
        kind or UNREADABLE,
        None if amount is None else amount.removeprefix("-"),
        currency.upper() if isinstance(currency, str) and len(currency) == 3 else None,
        moment_of(document.get("timestamp")),
        ours if isinstance(ours, str) and len(ours) <= 64 else None,
    )
    try:
        checked_id(row.row_id)
        is_odd = kind is None or row.amount_minor is None or (kind != REFUNDED and Decimal(exact.figure(stated)) < 0)
    except ValueError:
        is_odd = True
    if not is_odd:
        return row
    sample = shown(f"type {details.get('type')}, amount {stated}, currency {currency}", LONGEST_SAMPLE)
    row_id = hashlib.blake2b(f"{row.row_id} {sample}".encode(), digest_size=8).hexdigest()
    return row._replace(row_id=row_id, kind=UNREADABLE, amount_minor=None, sample=sample)


REPORT = Report(
    read=read,
    is_askable=lambda game: bool(game.keys("appcharge.publisher_token")),
    columns={  # of `flask appcharge transactions GAME --csv`
        "reference": "order_id",
        "row_id": "transaction_id",
        "kind": "type",
        "amount": "amount_minor",
        "currency": "currency",
        "at": "timestamp",
        "ours": "our_transaction_id",
    },
    kinds=KINDS,
    unit="minor",
    are_movements=True,
)
