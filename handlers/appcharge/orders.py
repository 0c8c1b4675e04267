"""Appcharge's Grant Award callback, known in the dashboard as Order Reporting: ``POST /appcharge/<game>/orders``.

Sent when a payment is final or a free offer is collected; the player waits for the answer. The same order may come
again seconds later, at the same time, or weeks later with ``awardFlow: manual_retry``. Docs of 2023 to 2026 disagree in
places (checked 2026-11); what follows from that:

* ``orderId`` identifies an order since 2025. Older payloads have only ``appChargePaymentId``, free orders of the older
  documentation only ``externalTransactionId``.
* ``...InCents``, ``subTotal`` and ``tax`` are in the currency's lowest unit; ``...InDollar`` and the estimates are US
  cents since 2025 and were dollars before, which is a setting and never guessed.
* ``sessionMetadata`` is text, an object, or null.
* Only the order's id, player, products and proof may refuse an order. Any other field may be missing or unreadable:
  what cannot be read of the money is kept as it came, and that amount is unknown.
* New words for ``actionStatus`` appear without notice: the owner lists those that credit and those that do not.
* ``products[].amount`` may exceed 64 bits.
"""

import json
from decimal import Decimal
from typing import Any

from flask import Response, current_app

from coinslot.base import clock
from coinslot.base.spellings import shown
from coinslot.games.games import Game
from coinslot.games.readers import moment_of
from coinslot.ledger import credit as ledger
from coinslot.ledger import events, reports, statuses
from coinslot.ledger.refused import mend_order
from coinslot.store import counters
from handlers.appcharge.order_body import LONGEST_WORD, kept_text, minor_if_whole, parse_order, session_metadata
from handlers.appcharge.receive import PARTNER, Entered, read, refused
from handlers.kit.receive import current_installation, log_credit

DATE = "purchaseDateAndTimeUtc"

# Why the ledger refused an order -> the reason in the list of refusals, the status and the message of the answer.
REFUSED = {
    "conflict": ("conflict", 400, "This order was reported before with other content"),
    "unknown_player": ("unknown_player", 400, "Unknown player"),
    "unknown_item": ("unknown_item", 400, "Unknown product {detail}"),
    "quantity": ("malformed", 400, "The order cannot be read: products: {detail}"),
    "game_down": ("game_down", 503, "The game is down; please try again"),
    "lookup_failed": ("lookup_failed", 503, "The game's server did not answer; please try again"),
}


def report_order(game_slug: str) -> Response:
    """Credit an order once and answer with our id for it."""
    installation = current_installation()
    call, order = read(game_slug, "orders", parse_order)
    game = call.game
    wanted = to_credit(order, game, call)
    # A missing status counts as completed.
    status = statuses.plain(order["status"]) or statuses.COMPLETED
    meaning = statuses.meaning(
        status, game.settings["appcharge.completed_statuses"], game.settings["appcharge.failed_statuses"]
    )
    if meaning == statuses.FAILED:
        installation.database.write(lambda tx: record_uncompleted(tx, wanted, status))
        return _answer(wanted.answer_status, wanted.answer_body)
    if meaning is None and not ledger.is_credited(installation.database.read(), wanted):
        message = f"Unknown actionStatus: {shown(status, LONGEST_WORD)}"
        raise refused("orders", game, "unknown_status", 400, message, status)

    outcome = ledger.report(
        installation.database,
        installation.outbound.for_callers,
        game,
        wanted,
    )
    if outcome.credited is None:
        reason, answer_status, message = REFUSED[outcome.reason]
        if outcome.reason == "lookup_failed":
            current_app.logger.error("appcharge %s: an order could not be credited: %s", game.slug, outcome.detail)
        raise refused("orders", game, reason, answer_status, message.format(detail=outcome.detail), outcome.detail)
    log_credit(PARTNER, game, f"order {wanted.reference!r}", outcome.credited)
    return _answer(outcome.credited.answer_status, outcome.credited.answer_body)


def to_credit(order: dict[str, Any], game: Game, call: Entered) -> reports.Credit:
    """An order in the ledger's words."""
    payment, external = order["appChargePaymentId"], order["externalTransactionId"]
    if order["orderId"]:
        reference = external_id = order["orderId"]
    else:
        reference = payment or external
        external_id = f"payment:{payment}" if payment else f"external:{external}"
    figures, unreadable, document = order["figures"], order["unreadable"], order["document"]
    known = {name: figure for name, figure in figures.items() if name not in unreadable}
    is_free = document.get("action") == "bonus" or (
        bool(known) and unreadable <= {"currency"} and not any(map(Decimal, known.values()))
    )
    known_by = tuple((kind, value) for kind, value in (("payment", payment), ("external", external)) if value)
    occurred_at = moment_of(document.get(DATE))
    if clock.plausible(occurred_at) is None and (date := kept_text(document.get(DATE) or "")):
        figures = {**figures, DATE: date}  # else nothing but the body has it, and that may be emptied
    keys = known_by if order["purchaseId"] is None else (("purchase", order["purchaseId"]), *known_by)
    return reports.Credit(
        game_id=game.id,
        game_slug=game.slug,
        partner=PARTNER,
        external_id=external_id,
        reference=reference,
        kind="bonus" if is_free else "purchase",
        player_id=order["playerId"],
        lines=order["lines"],
        fingerprint=reports.fingerprint(
            order["playerId"],
            # An unreadable figure counts as it came, so that retries match.
            *(
                figures[name] if name in unreadable else readable
                for name, readable in (("priceInCents", order["gross_minor"]), ("currency", order["currency"]))
            ),
            lines=order["lines"],
        ),
        raw_body=call.body,
        signature=call.signature,
        signed_with=call.signed_with,
        answer_status=200,
        answer_body=json.dumps({"publisherPurchaseId": ledger.public_id(game.slug, PARTNER, external_id)}),
        environment=game.settings["appcharge.environment"],
        money=reports.Money(
            currency=order["currency"],
            gross_minor=order["gross_minor"],
            subtotal_minor=minor_if_whole(known.get("subTotal")),
            tax_minor=minor_if_whole(known.get("tax")),
            usd_gross=known.get("priceTotalInDollar"),
            usd_tax=known.get("taxInDollar"),
            usd_fee=known.get("estimatedAppchargeFee"),
            usd_net=known.get("estimatedPublisherNetAmount"),
            usd_unit="cents" if game.is_on("appcharge.dollar_fields_are_cents") else "dollars",
            figures={name: figure[:LONGEST_WORD] for name, figure in figures.items()},
        ),
        occurred_at=occurred_at,
        session_metadata=session_metadata(document.get("sessionMetadata")),
        keys=keys,
        known_by=known_by,
    )


def record_uncompleted(tx: Any, wanted: reports.Credit, status: str) -> None:
    """An order that failed is kept once and credits nothing; a later ``completed`` for it credits."""
    event_id = events.record(
        tx,
        game_id=wanted.game_id,
        partner=PARTNER,
        type="appcharge.order.failed",
        dedupe_key=f"order:{wanted.external_id}:{status.lower()}",
        data={"order_id": wanted.reference, "status": status, "player_id": wanted.player_id},
        raw_body=wanted.raw_body,
        environment=wanted.environment,
        is_test=wanted.is_test,
        external_id=wanted.external_id,
        player_id=wanted.player_id,
        occurred_at=wanted.occurred_at,
    )
    mend_order(tx, wanted)  # nobody paid for it
    if event_id is not None and not wanted.is_simulated:
        counters.add(tx, wanted.game_id, PARTNER, "failed")


def _answer(status: int, body: str) -> Response:
    return Response(body, status, mimetype="application/json")
