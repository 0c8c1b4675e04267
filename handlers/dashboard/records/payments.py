"""In-game payments for PlayCamp: what was reported, whether it is registered, and what waits for a person."""

import json
from typing import Any

from flask import Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from coinslot.base import clock, csv_text
from coinslot.games.games import Game
from coinslot.payments import lists, payment_queue, queries, store
from coinslot.relay import jobs as schedules
from coinslot.store import audit
from coinslot.store.db import Connection, Row
from coinslot.store.paging import Listed, every
from handlers.dashboard.frame.export import csv_file
from handlers.dashboard.frame.pages import PageError, below, page, read, see_other, who, whole, write
from handlers.dashboard.frame.words import payment_address
from handlers.kit.receive import current_installation
from handlers.kit.wording import shown

PER_PAGE = 50
EXPORTED_AT_ONCE = 500
MOST_CONFLICTS = 100
MOST_PUT_BACK = 1000
LONGEST_ID = 600
LONGEST_ROW = 20_000
CATCHING_UP_SECONDS = 10  # between two looks of the page while the polls read the past
BEHIND_SECONDS = 3600  # beyond what polls are behind always

FILTERS = (*store.STATES, "refunded", "refund-refused", "conflicts")
MEANS = {
    "parked": "cannot be sent as it was reported",
    "waiting": "is to be registered",
    "registered": "PlayCamp has it",
    "quarantined": "was refused too often; a person decides",
    "kept": "is not to be registered, only to be asked for",
    "refunded": "the player has the money back",
    "refund-refused": "the refund was refused too often; a person decides",
    "conflicts": "came again with other content; the first one counts",
}
SOURCES = {"poll": "asked for at the game's interface", "push": "sent by the game", "appcharge": "an Appcharge order"}
REGISTERING, POLLING = "playcamp.register", "playcamp.poll"
JOBS = (POLLING, "playcamp.refunds", REGISTERING, "playcamp.orders", "playcamp.recheck")

EXPORTED = (
    "transaction_id source player_id product_id product_name amount currency market platform distribution_type "
    "purchased_at state reason registered_at refunded_at refund_state is_test created_at"
).split()


def payments(game: Game) -> Response:
    if "id" in request.args:
        return payment(game, request.args["id"])
    connection = read()
    state, search = _wanted()
    is_conflicts = state == "conflicts" and not search
    jobs = schedules.listing(connection, game.id)
    polling = next((row for row in jobs if row["name"] == POLLING), None)
    share = None if polling is None or polling["failures"] else _catching_up(game, polling["cursor"])
    rows, following = ([], None) if is_conflicts else _page(game, state, search, below(), PER_PAGE)
    return page(
        "payments.html",
        rows=rows,
        following=following,
        state=state,
        search=search,
        filters=FILTERS,
        means=MEANS,
        counts=lists.capped_counts(connection, game.id).get(game.id, {}),
        conflicts=lists.conflicts(connection, game.id, MOST_CONFLICTS) if is_conflicts else None,
        jobs=[row for row in jobs if row["name"] in JOBS],
        watermark=None if polling is None else _watermark(polling["cursor"]),
        share=share,
        refresh_seconds=None if share is None else CATCHING_UP_SECONDS,
        is_polling=all(game.settings[f"playcamp.payments.{name}"] for name in ("url", "rows", "map"))
        and game.is_on("playcamp.payments.polling"),
        takes_orders=game.is_on("playcamp.register_appcharge"),
        has_key=bool(game.keys("playcamp.api_key")),
        back=whole(request.args.get("back")),
        query={name: value for name, value in (("state", state), ("q", search)) if value},
    )


def payments_csv(game: Game) -> Response:
    """All payments of the filter, newest first."""
    state, search = _wanted()
    rows = every(lambda before: _page(game, state, search, before, EXPORTED_AT_ONCE))
    known = ({**dict(row), "amount": csv_text.number(row["amount"])} for row in rows)
    return csv_file(f"{game.slug}-payments", EXPORTED, ([row[name] for name in EXPORTED] for row in known))


def payment(game: Game, transaction_id: str) -> Response:
    connection = read()
    row = queries.find(connection, game.id, transaction_id)
    if row is None:
        raise PageError(404, "There is no such payment")
    return page(
        "payment.html",
        row=row,
        means=MEANS,
        source=SOURCES[row["source"]],
        reported=_laid_out(row["reported"]),
        refund=_refund_in_words(row),
        conflicts=[
            (each, _laid_out(each["reported"])) for each in lists.conflicts_of(connection, row["id"], MOST_CONFLICTS)
        ],
        longest_row=LONGEST_ROW,
        can_be_redriven=row["state"] == "quarantined" or row["refund_state"] == "quarantined",
    )


def redrive_payments(game: Game) -> AnyResponse:
    """Put quarantined payments, or their refunds, back in the queue: one, or all."""
    installation = current_installation()
    transaction_id = request.form.get("transaction_id", "")
    is_all = request.form.get("which") == "all"
    if not is_all and queries.find(installation.database.read(), game.id, transaction_id) is None:
        raise PageError(404, "There is no such payment")

    def put_back(tx: Connection) -> int:
        if is_all:
            count = payment_queue.redrive_all(tx, game.id, MOST_PUT_BACK)
        else:
            count = int(payment_queue.redrive(tx, game.id, transaction_id))
        if count:
            subject = f"all ({count})" if is_all else transaction_id
            audit.record(tx, game.id, who(), "payment.redrive", subject)
            if REGISTERING in installation.jobs:
                schedules.wake(tx, game.id, REGISTERING)
        return count

    count = write(put_back)
    said = "put-back" if count else "nothing"
    if is_all:
        return see_other("payments", said, state="quarantined", back=count)
    return redirect(payment_address(transaction_id, said=said), 303)


def _wanted() -> tuple[str, str]:
    """The filter and the search in the address; what makes no sense is left out."""
    state = request.args.get("state", "")
    return state if state in FILTERS else "", request.args.get("q", "").strip()[:LONGEST_ID]


def _page(game: Game, state: str, search: str, before: int, limit: int) -> Listed:
    connection = read()
    if search:
        return lists.search(connection, game.id, search, before, limit)
    if state == "refund-refused":
        return lists.refused_refunds(connection, game.id, before, limit)
    only = state if state in store.STATES else None
    return lists.page(connection, game.id, state=only, is_refunded=state == "refunded", before=before, limit=limit)


def _watermark(cursor: str | None) -> str | None:
    """Up to when the polls have read the game's payments; None before the first answer."""
    try:
        through: Any = json.loads(cursor or "{}").get("through")
        return None if through is None else clock.stamp(through)
    except (ValueError, AttributeError, TypeError, OverflowError):
        return None


def _catching_up(game: Game, cursor: str | None) -> float | None:
    """How much of the past the polls have read, from 0 to 1; None once they have come to the present."""
    try:
        noted: Any = json.loads(cursor or "{}")
        since, through, now = float(noted["since"]), float(noted["through"]), clock.now()
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    usual = sum(int(game.settings[f"playcamp.payments.{name}_seconds"]) for name in ("every", "lag"))
    return (through - since) / (now - since) if since <= through < now - 2 * usual - BEHIND_SECONDS else None


def _laid_out(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _refund_in_words(row: Row) -> str:
    if row["refund_state"] == "done":
        if row["refunded_at"] is None:
            return "PlayCamp got a refund, and the dispute has been won since: ask PlayCamp to count it again."
        return "PlayCamp has it."
    if row["refund_state"] == "waiting":
        when = "once the payment is registered" if row["state"] != "registered" else "soon"
        return f"It is sent to PlayCamp {when}. {shown(row['reason'], 200) if row['reason'] else ''}".strip()
    if row["refund_state"] == "quarantined":
        return "PlayCamp refused it too often. It is not tried again until you redrive it."
    return "Nothing to send: it was never registered." if row["refunded_at"] else ""
