"""Refunds that a person asks Appcharge for: how one is sent, and how the report of orders says what became of it.

Appcharge refunds an order in full or not at all. Its answer 201 says that a refund has begun; how it ends comes as an
event, or as the order's state in the report of orders (documentation checked 2026-11). A request without an answer is
never sent again; the report is asked instead: ten minutes later, and then every hour.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

from coinslot.base import clock
from coinslot.base.outbound import Outbound
from coinslot.games.games import Game
from coinslot.games.readers import id_of
from coinslot.installation import Installation
from coinslot.ledger import refund_requests
from coinslot.ledger.refund_requests import DONE, REFUSED, SENT
from coinslot.relay.jobs import JobError
from coinslot.store.db import Row
from handlers.appcharge.api.client import Client
from handlers.appcharge.receive import PARTNER
from handlers.kit.api import ApiError, NotConfiguredError
from handlers.kit.partner import LONGEST_REFUND_SECONDS, Refunds

JOB = "appcharge.refunds"
FIRST_LOOK_SECONDS = 600.0
AGAIN_SECONDS = 3600.0
MOST_AT_ONCE = 50  # requests of one run
RUN_SECONDS = 45.0  # no look begins after this, so that the job ends before its lease
EVENT_SECONDS = clock.DAY_SECONDS  # for so long the event of a refund that has begun is waited for
NOT_BEGUN_SECONDS = 3600.0  # a report from before that may not know the refund yet
AROUND_SECONDS = clock.DAY_SECONDS  # the order's own time is Appcharge's, and may lack its zone
CLOSE_SECONDS = 900.0

# State of an order in the report -> what it says of a refund.
STATES: Mapping[str, str] = {
    "payment_refunded": DONE,
    "payment_refund_pending": SENT,
    "payment_refund_requires_action": SENT,
    "payment_refund_failed": REFUSED,
    "payment_refund_canceled": REFUSED,
}
PAID = ("payment_succeed", "charge_pending", "charge_succeed", "charge_failed")  # charge: the award of the items
ORDER_IDS = ("acOrderId", "orderId", "_id")


def sender(game: Game, outbound: Outbound, environment: str | None) -> Callable[[str, str], None]:
    """What sends a request, once; see :class:`Refunds`."""
    own = game.settings["appcharge.environment"]
    if environment not in (None, own):
        raise NotConfiguredError(f"the order is from {environment}, and appcharge.environment is {own}")
    return Client(game, outbound, patience_seconds=LONGEST_REFUND_SECONDS, tries=1).refund_order


def run(installation: Installation, game: Game) -> float | None:
    """Ask the report about the requests that wait for it; runs again while any stands. Raises JobError."""
    rows = refund_requests.standing(installation.database.read(), game.id, PARTNER, MOST_AT_ONCE)
    if not rows or not game.keys("appcharge.publisher_token"):
        return None
    until = time.monotonic() + RUN_SECONDS
    client = Client(game, installation.outbound)
    for row in filter(_is_due, rows):
        if time.monotonic() >= until:
            break
        try:
            found = _look(client, row)
        except ApiError as error:
            raise JobError(str(error)) from None
        if found is not None:
            state, detail = found
            installation.database.write(
                partial(refund_requests.decided, request_id=row["id"], state=state, detail=detail)
            )
    return AGAIN_SECONDS


def _is_due(row: Row) -> bool:
    state, age = refund_requests.state_of(row), clock.now() - clock.seconds(row["created_at"])
    return age >= {refund_requests.UNKNOWN: FIRST_LOOK_SECONDS, SENT: EVENT_SECONDS}.get(state, age + 1)


def _look(client: Client, row: Row) -> tuple[str, str] | None:
    """The state that the report gives a request, and why; None where it does not decide."""
    paid_at = None if row["paid_at"] is None else clock.seconds(row["paid_at"])
    asked_at = clock.seconds(row["created_at"])
    first, last = (asked_at - 90 * clock.DAY_SECONDS, asked_at) if paid_at is None else (paid_at, paid_at)
    state = _state(client, row["reference"], first - AROUND_SECONDS, last + AROUND_SECONDS, tuple(STATES))
    if state is None and paid_at is not None:
        state = _state(client, row["reference"], paid_at - CLOSE_SECONDS, paid_at + CLOSE_SECONDS)
    if state is not None and state in STATES:
        return STATES[state], f"Appcharge's report lists the order as {state}"
    is_late = clock.now() - asked_at >= NOT_BEGUN_SECONDS
    if state in PAID and is_late and row["state"] != SENT:
        return REFUSED, f"no refund has begun: Appcharge's report lists the order as {state}"
    return None


def _state(client: Client, reference: str, start: float, end: float, statuses: tuple[str, ...] = ()) -> str | None:
    """The order's state in the report; None where it is not listed."""
    first, last = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(min(end, clock.now()), UTC)
    listed = client.orders(first, last, statuses)
    found = next((each for each in listed if reference in map(id_of, map(each.get, ORDER_IDS))), None)
    state = None if found is None else found.get("state")
    return state if isinstance(state, str) else None


REFUNDS = Refunds(sender, JOB, FIRST_LOOK_SECONDS)
