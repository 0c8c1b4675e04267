"""Whether two reports tell of the same payment, and which of them stands."""

from dataclasses import replace
from decimal import Decimal

from coinslot.base import clock
from coinslot.payments.fields import unknown_market
from coinslot.payments.parsing import LEAST_AMOUNT, TOO_CHEAP, Payment
from coinslot.store.db import Row

TOLERATED_SECONDS = 1  # between two reports of one payment


def agrees(known: Row, payment: Payment) -> bool:
    """Whether both tell of the same payment; what a refund leaves out is no contradiction."""
    is_same_place = (payment.market is not None and known["market"] == payment.market) or all(
        told in (None, stored)
        for told, stored in (
            (payment.platform, known["platform"]),
            (payment.distribution_type, known["distribution_type"]),
        )
    )
    return is_same_place and tells_same(known, payment)


def is_understood(known: Row, payment: Payment) -> bool:
    """Whether nothing in the report is unreadable. Its market may be one that is configured no more."""
    if payment.problem in (None, unknown_market(known["market"])):
        return True
    return payment.is_incomplete and payment.refunded_at is not None


def tells_same(known: Row, payment: Payment) -> bool:
    """Whether both agree in every field that both have, but for the place; one rounds times, the other cuts them."""
    told = (payment.player_id, payment.product_id, payment.amount, payment.currency)
    stored = (known["player_id"], known["product_id"], known["amount"], known["currency"])
    if not all(each is None or other in (None, each) for each, other in zip(told, stored, strict=True)):
        return False
    if payment.purchased_at is None or known["purchased_at"] is None:
        return True
    apart = clock.seconds(payment.purchased_at) // 1 - clock.seconds(known["purchased_at"]) // 1
    return abs(apart) <= TOLERATED_SECONDS


def is_correction(known: Row, payment: Payment) -> bool:
    """Whether other content is to take the place of what nobody has, of the same source and environment."""
    if payment.problem is not None or known["source"] != payment.source or known["is_test"] != payment.is_test:
        return False
    return not known["is_sent"]


def with_known_amount(known: Row, payment: Payment) -> Payment:
    """A refund may say that nothing is paid any more: its amount of 0 is none."""
    if payment.refunded_at is None or payment.amount is None or known["amount"] is None or Decimal(payment.amount):
        return payment
    is_too_cheap = payment.kept_because == TOO_CHEAP and Decimal(known["amount"]) < LEAST_AMOUNT
    kept_because = payment.kept_because if is_too_cheap or payment.kept_because != TOO_CHEAP else None
    return replace(payment, amount=known["amount"], kept_because=kept_because)
