"""Each night: which orders Appcharge lists as paid in the last three days and never reported to us.

They are read by the reader of the months' reports, a day at a time. A look that fails is the job's failure, and nothing
is concluded from it.
"""

import json
import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.games.readers import id_of
from coinslot.games.registry import RESERVED_ID
from coinslot.installation import Installation, Standing
from coinslot.ledger import never_came
from coinslot.ledger.never_came import Listed
from coinslot.relay import jobs
from coinslot.relay.jobs import JobError
from coinslot.settlement.differences import PAID, REFUNDED, REINSTATED, PartnerRow
from handlers.appcharge.api.client import Client
from handlers.appcharge.api.month_report import REPORT, row_of
from handlers.appcharge.receive import PARTNER
from handlers.kit.api import ApiError

JOB = "appcharge.never_came"
ENDPOINT = "orders"
HOUR = 2  # of the night, UTC; each game at a minute of its own
LOOKS_BACK_SECONDS = 3 * clock.DAY_SECONDS
LONGEST_LOOK_SECONDS = 31 * clock.DAY_SECONDS  # back, after nights without a look
STEP_SECONDS = clock.DAY_SECONDS
RUN_SECONDS = 45.0  # no step begins after this, so that the job ends before its lease
ON_ITS_WAY_SECONDS = 3600.0  # for so long Appcharge may still try
UNZONED_SECONDS = 14 * 3600.0  # by which a time without a zone may be wrong

_ZONED = re.compile(r"(?:Z|[+-][0-9]{2}:?[0-9]{2}|[0-9]{9,})$", re.IGNORECASE)


def run(installation: Installation, game: Game) -> float | None:
    """The next step of a look, if it is night; returns in how many seconds to run again. Raises JobError."""
    if not REPORT.is_askable(game) or game.settings["appcharge.environment"] == "sandbox":
        return None
    until = time.monotonic() + RUN_SECONDS
    while True:
        now = clock.now()
        state = json.loads(jobs.cursor(installation.database.read(), game.id, JOB) or "{}")
        if "due" not in state:
            state = {"due": _next_night(now, game.id), "through": now}
            _put(installation, game, state)
        if now < state["due"]:
            return float(state["due"] - now)
        if time.monotonic() >= until:
            return 0.0
        start = max(state.get("at", state["through"] - LOOKS_BACK_SECONDS), now - LONGEST_LOOK_SECONDS)
        end = min(start + STEP_SECONDS, now)
        _look(installation, game, start, end)
        is_last = end >= now
        _put(
            installation,
            game,
            {"due": _next_night(now, game.id), "through": end} if is_last else {**state, "at": end},
        )


job = Standing(run)


def _next_night(now: float, game_id: int) -> float:
    begins = now // clock.DAY_SECONDS * clock.DAY_SECONDS + HOUR * 3600 + game_id % 60 * 60
    return begins if begins > now else begins + clock.DAY_SECONDS


def _put(installation: Installation, game: Game, state: Mapping[str, float]) -> None:
    text = json.dumps(state)
    installation.database.write(lambda tx: jobs.put_cursor(tx, game.id, JOB, text))


def _look(installation: Installation, game: Game, start: float, end: float) -> None:
    """Compare what was paid or given back from one moment to another."""
    moments = (datetime.fromtimestamp(each, UTC) for each in (start, end))
    try:
        listed = list_orders(Client(game, installation.outbound).transactions(*moments))
    except ApiError as error:
        raise JobError(str(error)) from None
    never_came.compare(
        *(installation.database, installation.vault, game.id, PARTNER, ENDPOINT, listed),
        clock.stamp(clock.now() - ON_ITS_WAY_SECONDS),
    )


def list_orders(documents: Iterable[Mapping[str, Any]]) -> list[Listed]:
    """The orders in some rows of the report; those with an unreadable row are left to the month's comparison."""
    rows: dict[str, list[tuple[PartnerRow, Mapping[str, Any]]]] = {}
    for document in documents:
        try:
            row = row_of(document)
        except ValueError:
            continue
        if row is not None:
            rows.setdefault(row.reference, []).append((row, document))
    return [found for found in map(_listed, rows.values()) if found is not None]


def _listed(rows: list[tuple[PartnerRow, Mapping[str, Any]]]) -> Listed | None:
    customer = rows[0][1].get("customerDetails")
    player_id = id_of(customer.get("id")) if isinstance(customer, dict) else None
    if player_id == RESERVED_ID or any(row.kind not in (PAID, REFUNDED, REINSTATED) for row, _ in rows):
        return None
    first = rows[0][0]
    paid = [(row, document) for row, document in rows if row.kind == PAID]
    returned = _sum(row for row, _ in rows if row.kind == REFUNDED)
    returned -= _sum(row for row, _ in rows if row.kind == REINSTATED)
    purchase_id = id_of(rows[0][1].get("purchaseId"))
    amount = _sum(row for row, _ in paid)
    is_known = len({row.currency for row, _ in paid}) == 1 and amount == int(amount)
    return Listed(
        reference=first.reference,
        public_id=first.ours or "",
        keys=(("purchase", purchase_id),) if purchase_id else (),
        paid_at=min((_paid_at(row, document) for row, document in paid), default=None),
        player_id=player_id,
        currency=first.currency,
        amount_minor=int(amount) if is_known else None,
        returned_minor=max(0, int(returned)),
    )


def _paid_at(row: PartnerRow, document: Mapping[str, Any]) -> str:
    """The latest moment at which it may have been paid; without a time, now."""
    if row.occurred_at is None:
        return clock.stamp()
    is_zoned = _ZONED.search(str(document.get("timestamp")).strip()) is not None
    return row.occurred_at if is_zoned else clock.stamp(clock.seconds(row.occurred_at) + UNZONED_SECONDS)


def _sum(rows: Iterable[PartnerRow]) -> Decimal:
    return sum((Decimal(row.amount_minor) for row in rows if row.amount_minor is not None), Decimal(0))
