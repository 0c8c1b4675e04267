"""Transactions: the list and its search, the page of one, and its actions."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

from flask import Response, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from coinslot.base import csv_text
from coinslot.base import money as exponents
from coinslot.games.games import Game
from coinslot.games.registry import checked_text
from coinslot.ledger import dossier, paths, refunds, search
from coinslot.ledger.dossier import Dossier
from coinslot.ledger.policies import BY_STRENGTH, Policy
from coinslot.operations import search_all
from coinslot.outbox import redrives
from coinslot.store import audit
from coinslot.store.db import Connection
from handlers.dashboard.frame import masking, privacy
from handlers.dashboard.frame.export import csv_file
from handlers.dashboard.frame.pages import PageError, download, page, partner_titles, read, see_other, who, write
from handlers.dashboard.frame.timeline import OUTCOMES, POLICIES, as_text, items_as_text, timeline
from handlers.dashboard.frame.times import moment
from handlers.dashboard.records import dispute
from handlers.dashboard.records.form import read_form
from handlers.dashboard.records.refund_state import stand
from handlers.kit.receive import current_installation

LONGEST_REASON = 255
STATE_WORDS = {"credited": "Credited", "reversed": "Reversed", "conflict": "With a conflict", "test": "Tests"}
KINDS = {
    "purchase": "bought",
    "bonus": "was given, for free,",
    "reward": "was rewarded with",
    "coupon": "redeemed a coupon for",
    "adjustment": "was given back",
}

CSV_HEADER = (
    "received_at occurred_at transaction_id partner reference external_id kind player_id currency gross subtotal tax "
    "state is_test environment items"
).split()


def transactions(game: Game) -> AnyResponse:
    if wanted := request.args.get("q", "").strip():
        return _sought(game, wanted)
    connection = read()
    form = read_form(request.args)
    rows: list[object] = []
    after = searched_to = None
    if not form.problems:
        try:
            listed = search.transactions(connection, game.id, form.filters, request.args.get("after"))
        except paths.CursorError:
            raise PageError(404, "There is no such page of this list") from None
        rows, after, searched_to = list(listed.rows), listed.after, listed.searched_to
    return page(
        "transactions.html",
        400 if form.problems else 200,
        rows=rows,
        after=after,
        searched_to=searched_to,
        form=form,
        partners=search.partners(connection, game.id),
        states=STATE_WORDS,
        items_of=search.items_of,
    )


def _sought(game: Game, wanted: str) -> AnyResponse:
    """Other pages link to a transaction by any of its ids; what is not exactly one is for the search."""
    hits = search_all.find(read(), current_installation().vault, wanted).hits
    exactly = [hit for hit in hits if hit.is_exact and hit.game_id == game.id and hit.what in ("transaction", "grant")]
    public_ids = {hit.row["public_id"] for hit in exactly}
    if len(public_ids) == 1:
        return redirect(url_for("dashboard.transaction", public_id=public_ids.pop()), 303)
    return redirect(url_for("dashboard.search_everything", q=wanted), 303)


def transactions_csv(game: Game) -> Response:
    """Everything that the same filters list."""
    form = read_form(request.args)
    if form.problems:
        raise PageError(400, form.problems[0])
    connection = read()
    rows = (_csv_row(dict(row)) for row in search.every_transaction(connection, game.id, form.filters))
    return csv_file(f"{game.slug}-transactions", CSV_HEADER, rows)


def transaction(game: Game, public_id: str) -> Response:
    return _show(game, find(game, public_id))


def reveal_transaction(game: Game, public_id: str) -> Response:
    """The page with nothing hidden. Only this form leads to it, and the audit notes it."""
    found = find(game, public_id)
    _audit(game, "transaction.reveal", public_id)
    privacy.reveal()
    return _show(game, found, is_revealed=True)


def reverse_transaction(game: Game, public_id: str) -> AnyResponse:
    """Reverse a transaction; the reason is kept."""
    found = find(game, public_id)
    policy = request.form.get("policy", "")
    problem = None if policy in BY_STRENGTH else "Say what the game is asked to do."
    reason, wrong = read_reason()
    problem = problem or wrong
    if problem:
        return _show(game, found, 400, problem=problem)

    def take_back(tx: Connection) -> int | None:
        row = dossier.row(tx, game.id, public_id)
        if row is None or row["kind"] == "adjustment":
            return None
        grant_id = refunds.reverse(tx, row, Policy.always(policy), reason)
        if grant_id is not None:
            audit.record(tx, game.id, who(), "transaction.reverse", f"{public_id} ({policy}): {reason}")
        return grant_id

    if write(take_back) is None:
        return _show(game, found, 400, problem="There is nothing left to reverse: it was taken back already.")
    return see_other("transaction", "reversed", public_id=public_id)


def redeliver_transaction(game: Game, public_id: str) -> AnyResponse:
    """Deliver the grants of a transaction again; the reason is kept."""
    found = find(game, public_id)
    reason, wrong = read_reason()
    if wrong:
        return _show(game, found, 400, problem=wrong)

    def owe(tx: Connection) -> int:
        owed, redriven = redrives.deliver_again(tx, game.id, found.transaction["id"])
        if owed:
            what = f"{public_id} ({owed} deliveries, {redriven} of them redriven): {reason}"
            audit.record(tx, game.id, who(), "transaction.redeliver", what)
        return owed

    try:
        owed = write(owe)
    except redrives.DeliveryError as error:
        return _show(game, found, 400, problem=f"It cannot be delivered again: {error}.")
    if not owed:
        problem = "There is nothing to deliver: no destination wants it, or its delivery is waiting already."
        return _show(game, found, 400, problem=problem)
    return see_other("transaction", "redelivered", public_id=public_id)


def dispute_pack(game: Game, public_id: str) -> Response:
    """Everything that shows what was bought and delivered, for a bank or a partner."""
    found = find(game, public_id)
    _audit(game, "transaction.dispute_pack", public_id)
    packed = dispute.pack(found, as_text(timeline(found)), game.name)
    return download([packed], f"dispute-{found.transaction['public_id']}.zip", "application/zip")


def major(minor: object, currency: object) -> Decimal | str | None:
    """An exact decimal number, for a file; text where the currency is not known."""
    if not isinstance(minor, int):
        return None
    return csv_text.number(exponents.in_major(minor, currency if isinstance(currency, str) else ""))


def find(game: Game, public_id: str) -> Dossier:
    found = dossier.of_transaction(read(), game.id, public_id)
    if found is None:
        raise PageError(404, "This game has no such transaction")
    return found


def _show(
    game: Game, found: Dossier, status: int = 200, *, problem: str | None = None, is_revealed: bool = False
) -> Response:
    transaction = found.transaction
    body = transaction["raw_body"]
    shown = None if body is None else (masking.revealed if is_revealed else masking.masked)(body)
    metadata = transaction["session_metadata"]
    original = next((grant for grant in found.grants if grant["kind"] == transaction["kind"]), None)
    return page(
        "transaction.html",
        status,
        problem=problem,
        found=found,
        transaction=transaction,
        partner_title=partner_titles().get(transaction["partner"], transaction["partner"]),
        body=shown,
        as_it_came=masking.as_text(body) if is_revealed and body is not None else None,
        metadata=None if metadata is None else (masking.revealed if is_revealed else masking.masked)(metadata.encode()),
        is_revealed=is_revealed,
        signature=transaction["signature"] if is_revealed else masking.part_of(transaction["signature"], 6),
        given=items_as_text(original["items"]) if original else "nothing",
        verb=KINDS[transaction["kind"]],
        figures=_figures(transaction),
        is_amount_unknown=_is_amount_unknown(transaction),
        moments=timeline(found, moment),
        outcomes=OUTCOMES,
        policies=POLICIES,
        refund=stand(found),
        typed=request.form,
    )


def _figures(transaction: Mapping[str, object]) -> list[tuple[str, str]]:
    """The partner's money figures under its own names, as they came."""
    return list(cast(dict[str, str], transaction["figures"]).items())


def _is_amount_unknown(transaction: Mapping[str, object]) -> bool:
    """Whether the amount of a purchase is unknown: then no sum of a month has it."""
    gross, currency = transaction["gross_minor"], transaction["currency"]
    return transaction["kind"] == "purchase" and (gross is None or (gross != 0 and currency is None))


def read_reason() -> tuple[str, str | None]:
    """The reason in the form, and what is wrong with it."""
    reason = request.form.get("reason", "").strip()
    if not reason:
        return "", "Give a reason: it is kept with the change."
    try:
        return checked_text(reason, LONGEST_REASON), None
    except ValueError as error:
        return "", f"The reason cannot be kept: {error}."


def _audit(game: Game, action: str, subject: str) -> None:
    write(lambda tx: audit.record(tx, game.id, who(), action, subject))


def _csv_row(row: dict[str, Any]) -> tuple[object, ...]:
    currency = row["currency"]
    state = "restored" if row["is_restored"] else "reversed" if row["is_reversed"] else "credited"
    items = "; ".join(f"{quantity} {sku}" for sku, quantity in search.items_of(row))
    amounts = (major(row[name], currency) for name in ("gross_minor", "subtotal_minor", "tax_minor"))
    plain = "received_at occurred_at public_id partner reference external_id kind player_id currency".split()
    return (*(row[name] for name in plain), *amounts, state, bool(row["is_test"]), row["environment"], items)
