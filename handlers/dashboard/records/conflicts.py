"""What a person has to look at: reports that contradict an earlier one, and refunds."""

from collections.abc import Iterator

from flask import Response, request

from coinslot.games.games import Game
from coinslot.ledger import search
from coinslot.store.paging import every
from handlers.dashboard.frame.export import csv_file
from handlers.dashboard.frame.pages import below, page, read
from handlers.dashboard.frame.timeline import OUTCOMES, REASONS
from handlers.dashboard.records import refund_state
from handlers.dashboard.records.transactions import major

ROWS_AT_ONCE = 500
MOST_REQUESTS = 20  # refunds asked for here that are listed
ADVICE = {
    "waiting": "Nothing yet: when the purchase is reported, this is applied to it. If it has waited for over a day, ask"
    " the partner which order it means.",
    "ambiguous": "Find the order in the partner's dashboard, open it here, and reverse it if the items should go.",
    "ignored": "Nothing, unless you want the items back: then open the order and reverse it.",
    "reversed": "Nothing: the game has been asked.",
    "restored": "Nothing: the game has been asked.",
    "repeated": "Nothing.",
    "test": "Nothing.",
}
CONFLICT_HEADER = (
    "first_at last_at seen partner external_id player_id transaction_id reference credited_player received_at".split()
)
REFUND_HEADER = (
    "created_at occurred_at settled_at partner reason outcome is_test transaction_id reference player_id currency "
    "amount"
).split()


def conflicts(game: Game) -> Response:
    rows, following = search.conflicts(read(), game.id, below())
    return page("conflicts.html", rows=rows, next=following)


def conflicts_csv(game: Game) -> Response:
    connection = read()

    found = every(lambda before: search.conflicts(connection, game.id, before, ROWS_AT_ONCE))
    rows = ([row["public_id" if name == "transaction_id" else name] for name in CONFLICT_HEADER] for row in found)
    return csv_file(f"{game.slug}-conflicts", CONFLICT_HEADER, rows)


def refunds(game: Game) -> Response:
    is_open = request.args.get("show") == "open"
    rows, following = search.refunds(read(), game.id, is_open, below())
    return page(
        "refunds.html",
        rows=rows,
        next=following,
        is_open=is_open,
        reasons=REASONS,
        outcomes=OUTCOMES,
        advice=ADVICE,
        requests=refund_state.newest(read(), game.id, MOST_REQUESTS) if "after" not in request.args else [],
    )


def refunds_csv(game: Game) -> Response:
    connection = read()
    is_open = request.args.get("show") == "open"

    def rows() -> Iterator[tuple[object, ...]]:
        for row in every(lambda before: search.refunds(connection, game.id, is_open, before, ROWS_AT_ONCE)):
            known = {**dict(row), "transaction_id": row["public_id"], "is_test": bool(row["is_test"])}
            known["amount"] = major(row["gross_minor"], row["currency"])
            yield tuple(known[name] for name in REFUND_HEADER)

    return csv_file(f"{game.slug}-refunds", REFUND_HEADER, rows())
