"""What needs a person's eye: reports that contradict an earlier one, and money that went back."""

from collections.abc import Iterator

from flask import Response, request

from coinslot import search
from handlers import installation
from handlers.dashboard.export import rows_as_csv
from handlers.dashboard.pages import bp, download, page, the_game, whole
from handlers.dashboard.timeline import OUTCOMES, REASONS
from handlers.dashboard.transactions import major, player_address

ROWS_AT_ONCE = 500
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


@bp.get("/games/<slug>/conflicts")
def conflicts(slug: str) -> Response:
    game = the_game(slug)
    after = whole(request.args.get("after"))
    rows = search.conflicts(installation().database.read(), game.id, after, search.PAGE_ROWS + 1)
    return page(
        "conflicts.html",
        game=game,
        rows=rows[: search.PAGE_ROWS],
        next=rows[search.PAGE_ROWS - 1]["id"] if len(rows) > search.PAGE_ROWS else None,
        is_first=after is None,
        player_address=player_address,
    )


@bp.get("/games/<slug>/conflicts.csv")
def conflicts_csv(slug: str) -> Response:
    game = the_game(slug)
    connection = installation().database.read()

    def rows() -> Iterator[tuple[object, ...]]:
        after: int | None = None
        while found := search.conflicts(connection, game.id, after, ROWS_AT_ONCE):
            for row in found:
                yield tuple(row["public_id" if name == "transaction_id" else name] for name in CONFLICT_HEADER)
            after = found[-1]["id"]

    return download(rows_as_csv(CONFLICT_HEADER, rows()), f"{game.slug}-conflicts.csv", "text/csv")


@bp.get("/games/<slug>/refunds")
def refunds(slug: str) -> Response:
    game = the_game(slug)
    after = whole(request.args.get("after"))
    is_open = request.args.get("show") == "open"
    rows = search.refunds(installation().database.read(), game.id, is_open, after, search.PAGE_ROWS + 1)
    return page(
        "refunds.html",
        game=game,
        rows=rows[: search.PAGE_ROWS],
        next=rows[search.PAGE_ROWS - 1]["id"] if len(rows) > search.PAGE_ROWS else None,
        is_first=after is None,
        is_open=is_open,
        reasons=REASONS,
        outcomes=OUTCOMES,
        advice=ADVICE,
        player_address=player_address,
    )


@bp.get("/games/<slug>/refunds.csv")
def refunds_csv(slug: str) -> Response:
    game = the_game(slug)
    connection = installation().database.read()
    is_open = request.args.get("show") == "open"

    def rows() -> Iterator[tuple[object, ...]]:
        after: int | None = None
        while found := search.refunds(connection, game.id, is_open, after, ROWS_AT_ONCE):
            for row in found:
                known = {**dict(row), "transaction_id": row["public_id"], "is_test": bool(row["is_test"])}
                known["amount"] = major(row["gross_minor"], row["currency"])
                yield tuple(known[name] for name in REFUND_HEADER)
            after = found[-1]["id"]

    return download(rows_as_csv(REFUND_HEADER, rows()), f"{game.slug}-refunds.csv", "text/csv")
