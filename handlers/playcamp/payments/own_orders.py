"""Our own Appcharge orders as payments, so that a purchase in the web store counts for the player's creator too.

If ``playcamp.register_appcharge`` is on, they are registered. If PlayCamp runs the gateway (``playcamp.payments_key``),
they are kept for its query. Their ids are ``appcharge:<order id>``: if a game reports these orders itself, under any
other id, they count twice.
"""

import json
from dataclasses import replace
from typing import Any

from coinslot.base import clock, exact, moments, money
from coinslot.base.spellings import shown
from coinslot.games.games import Game
from coinslot.installation import Installation
from coinslot.ledger import packing
from coinslot.payments import orders as payment_orders
from coinslot.payments import parsing, queries
from coinslot.payments import store as payments
from coinslot.payments.fields import Rules
from coinslot.payments.parsing import Payment
from coinslot.relay import jobs
from coinslot.store.db import Connection, Row
from handlers.kit.receive import current_installation
from handlers.playcamp.payments import sends
from handlers.playcamp.payments.rules import rules
from handlers.playcamp.settings import is_sandbox

JOB = "playcamp.orders"
PARTNER = "appcharge"
PREFIX = "appcharge:"

EVERY_SECONDS = 30.0
STEPS_PER_RUN = 50  # of the job, so that it ends well before its lease
IDS_PER_STEP = 50_000  # looked at; they are those of all games and partners together
ORDERS_PER_STEP = 500
FIRST_SECONDS = 86400.0  # how far back the first run registers, as the first poll does


def run(installation: Installation, game: Game) -> float | None:
    """Store what has come since the last run; again in half a minute while it is configured."""
    if not game.is_on("playcamp.register_appcharge") and not game.keys("playcamp.payments_key"):
        return None
    return EVERY_SECONDS if catch_up(installation, game) else 0.0


def catch_up(installation: Installation, game: Game) -> bool:
    """Store a bounded number of orders; returns whether those were all."""
    return any(not _take(installation, game) for _ in range(STEPS_PER_RUN))


def _take(installation: Installation, game: Game) -> bool:
    """Store the next few orders and refunds as payments; returns whether there may be more.

    Several may do this at once, and again: a payment is stored once.
    """
    with installation.database.snapshot() as connection:
        noted = jobs.cursor(connection, game.id, JOB)
        before = _cursor(game, noted)
        last_order, last_refund = payment_orders.newest(connection)
        through = min(last_order, before["transaction"] + IDS_PER_STEP)
        orders = payment_orders.orders(connection, game.id, PARTNER, before["transaction"], through, ORDERS_PER_STEP)
        if len(orders) == ORDERS_PER_STEP:
            through = orders[-1]["id"]
        refunds_through = min(last_refund, before["refund"] + IDS_PER_STEP)
        refunds = payment_orders.refunded_orders(connection, game.id, PARTNER, before["refund"], refunds_through)
    after = {**before, "transaction": through, "refund": refunds_through}
    is_turned_on = game.is_on("playcamp.register_appcharge") and before["since"] is None
    since = after["since"] = _since(game) if is_turned_on else before["since"]
    if noted is not None and after == json.loads(noted):
        return False

    wanted = rules(game)
    found = [_payment(game, wanted, row) for row in orders]
    recent = [each for each in found if since is not None and (each.purchased_at or "") >= since]
    older = [each for each in found if since is None or (each.purchased_at or "") < since]

    def store(tx: Connection) -> bool:
        has_more = False
        if is_turned_on and since is not None:
            kept = queries.kept(tx, game.id, PARTNER, ORDERS_PER_STEP, since)
            payments.release(tx, kept)
            has_more = len(kept) == ORDERS_PER_STEP
            after["since"] = None if has_more else since
        payments.store_many(tx, game.id, older, is_registering=False)
        payments.store_many(tx, game.id, recent, is_registering=True)
        for reference, refunded_at in refunds:
            if refunded_at is None:
                payment_orders.withdraw_refund(tx, game.id, PREFIX + reference)
            else:
                payment_orders.refund_known(tx, game.id, PREFIX + reference, refunded_at)
        jobs.put_cursor(tx, game.id, JOB, json.dumps(after))
        if since is not None and game.keys("playcamp.api_key"):
            jobs.at(tx, game.id, sends.JOB, 0)
        return has_more

    has_more = installation.database.write(store)
    return has_more or through < last_order or refunds_through < last_refund


def warnings(game: Game) -> list[str]:
    """Sentences for the owner: refunds that cannot be taken back, and orders that count twice."""
    connection = current_installation().database.read()
    sentences = []
    won = payment_orders.refunded_though_won(connection, game.id, PARTNER, PREFIX)
    if won:
        sentences.append(
            f"PlayCamp got the refund of {len(won)} Appcharge order(s) whose dispute has been won since "
            f"(such as {shown(won[0], 60)}): ask PlayCamp to count them again"
        )
    is_on = game.is_on("playcamp.register_appcharge")
    twice = payment_orders.reported_by_game(connection, game.id, PARTNER) if is_on else []
    if twice:
        sentences.append(
            "playcamp.register_appcharge is on, and the game reports Appcharge's orders itself "
            f"({len(twice)} of its latest payments, such as {shown(twice[0], 60)}), so that they are counted twice: "
            "switch it off, or leave them out of what the game reports"
        )
    return sentences


def _cursor(game: Game, noted: str | None) -> dict[str, Any]:
    """How far it has come. What was registered with a sandbox begins again when the game is live.

    ``since``: what was paid from then on is registered; None while nothing is.
    """
    beginning = {"environment": game.settings["playcamp.environment"], "transaction": 0, "refund": 0, "since": None}
    cursor: dict[str, Any] = beginning if noted is None else json.loads(noted)
    if cursor["environment"] != beginning["environment"]:
        cursor = beginning
    return cursor if game.is_on("playcamp.register_appcharge") else {**cursor, "since": None}


def _since(game: Game) -> str:
    """``playcamp.payments.since``, else a day ago."""
    try:
        zone = game.settings["playcamp.payments.zone"]
        return clock.stamp(moments.milliseconds(game.settings["playcamp.payments.since"], zone) / 1000)
    except (ValueError, OverflowError):
        return clock.stamp(clock.now() - FIRST_SECONDS)


def _payment(game: Game, wanted: Rules, row: Row) -> Payment:
    """The payment of an order; it lacks the amount if the currency's decimals are not known."""
    sku, name = _product(packing.body(row["raw_body"]))
    currency = row["currency"]
    is_known = money.exponent(currency or "") is not None
    document = {
        "transactionId": PREFIX + row["reference"],
        "userId": row["player_id"],
        "productId": sku or row["sku"],
        "productName": name,
        "amount": money.in_major(row["gross_minor"], currency) if is_known else None,
        "currency": currency,
        "market": "web",
        "platform": "Web",
        "distributionType": game.settings["playcamp.appcharge_distribution_type"],
        "purchasedAt": row["purchased_at"],
        "status": "paid" if row["refunded_at"] is None else "refunded",
        "refunded_at": row["refunded_at"],
    }
    found = parsing.check(document, wanted, PARTNER, is_test=is_sandbox(game))
    if not found.transaction_id.startswith(parsing.UNREADABLE):
        found = replace(found, transaction_id=PREFIX + row["reference"])  # exactly as in the ledger
    problem = f"nobody knows how many decimals {currency or 'an order without a currency'} has"
    return found if is_known else replace(found, problem=problem, is_incomplete=False)


def _product(raw_body: bytes | None) -> tuple[str | None, str | None]:
    """The sku and the name of the offer; both None if the player was forgotten since, with the body."""
    try:
        order = exact.parse_json(raw_body or b"{}", allow_half_pairs=True)
        return order.get("sku") or None, order.get("bundleName")
    except (AttributeError, ValueError):
        return None, None
