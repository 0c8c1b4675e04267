"""PlayCamp's own view of a month: each payment of ours is looked up, one call each (no report of theirs is known).

So this finds what PlayCamp lacks or has otherwise. What PlayCamp has and we lack is only in a file from its dashboard.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from coinslot.base import exact, money
from coinslot.base.spellings import shown
from coinslot.games.games import Game
from coinslot.games.readers import moment_of
from coinslot.installation import Installation
from coinslot.payments import queries
from coinslot.relay.jobs import JobError
from coinslot.settlement.differences import PAID, REFUNDED, UNREADABLE, PartnerRow
from coinslot.settlement.partner_rows import add_rows
from coinslot.settlement.runs import Run
from handlers.kit.api import ApiError, UnsentError
from handlers.kit.partner import Report
from handlers.playcamp.api.client import Client

PAYMENTS_AT_ONCE = 50  # calls between two commits
LONGEST_SAMPLE = 120

KINDS: Mapping[str, str] = {
    "completed": PAID,
    "paid": PAID,
    "refunded": REFUNDED,
    **dict.fromkeys(("pending", "cancelled", "canceled", "failed"), ""),  # no money
}


def read(installation: Installation, game: Game, run: Run, deadline: float) -> bool:
    """Look up payment after payment, in the order they were made; True while there is more. Raises JobError."""
    try:
        client = Client(game, installation.outbound)
    except ApiError as error:
        raise JobError(str(error)) from None
    cursor = run.cursor
    expected = run.rows_expected or queries.count_between(
        installation.database.read(), game.id, run.month.starts_at, run.month.ends_at
    )
    while True:
        after = tuple(json.loads(cursor)) if cursor else (run.month.starts_at, 0)
        rows = queries.made_between(installation.database.read(), game.id, after, run.month.ends_at, PAYMENTS_AT_ONCE)
        try:
            found = _look_up(client, [each["transaction_id"] for each in rows])
        except ApiError as error:
            raise JobError(str(error), at_least=error.retry_after or 0) from None
        is_last = len(rows) < PAYMENTS_AT_ONCE
        next_cursor = "" if is_last else json.dumps([rows[-1]["purchased_at"], rows[-1]["id"]])
        own = replace(run, cursor=cursor)
        if not add_rows(installation.database, own, found, next_cursor, expected=expected, is_last=is_last) or is_last:
            return False
        cursor = next_cursor
        if time.monotonic() >= deadline:
            return True


def _look_up(client: Client, transaction_ids: Sequence[str]) -> list[PartnerRow]:
    """What PlayCamp has of these, without those whose call it refuses. Raises ApiError if it refuses all."""
    found: list[PartnerRow] = []
    refusals: list[ApiError] = []
    for each in transaction_ids:
        try:
            document = client.payment(each)
        except UnsentError:
            continue
        except ApiError as error:
            if error.is_key_refused or not error.is_refusal:
                raise
            refusals.append(error)
            continue
        found += [] if document is None else rows_of(each, document)
    if refusals and len(refusals) == len(transaction_ids):
        raise refusals[-1]
    return found


def rows_of(transaction_id: str, document: Mapping[str, Any]) -> list[PartnerRow]:
    """What PlayCamp says of a payment; nothing for one that moved no money."""
    status, amount, currency = document.get("status"), document.get("amount"), document.get("currency")
    kind = KINDS.get(str(status or "completed").lower())
    if kind == "":
        return []
    code = currency.upper() if isinstance(currency, str) and len(currency) == 3 else None
    at, minor = moment_of(document.get("purchasedAt")), _minor(amount, code)
    if kind is not None and minor is not None:
        return [PartnerRow(transaction_id, kind, kind, minor, code, at)]
    sample = shown(f"status {status}, amount {amount}, currency {currency}", LONGEST_SAMPLE)
    return [PartnerRow(transaction_id, UNREADABLE, UNREADABLE, None, code, at, None, sample)]


def _minor(value: object, currency: str | None) -> str | None:
    """In minor units; None for what is no amount, or below 0."""
    try:
        amount = money.in_minor(Decimal(exact.figure(value)), currency or "")
    except ValueError:
        return None
    return None if amount is None or amount < 0 else format(amount, "f")


REPORT = Report(
    read=read,
    is_askable=lambda game: bool(game.keys("playcamp.api_key")),
    columns={
        "reference": "transactionId",
        "kind": "status",
        "amount": "amount",
        "currency": "currency",
        "at": "purchasedAt",
    },
    kinds=KINDS,
    unit="major",
    are_movements=False,
)
