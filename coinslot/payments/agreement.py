"""Whether two reports are about the same payment, and which of them counts."""

from dataclasses import replace
from decimal import Decimal

from coinslot.base import clock
from coinslot.payments.fields import unknown_market
from coinslot.payments.parsing import LEAST_AMOUNT, TOO_CHEAP, Payment
from coinslot.store.db import Row

TOLERATED_SECONDS = 1  # between two reports of one payment: one source rounds times, another cuts them


def agrees(known: Row, payment: Payment) -> bool:
    """Whether both agree in content and place. A field that a refund leaves out is no contradiction."""
    is_same_market = payment.market is not None and known["market"] == payment.market
    is_same_place = payment.platform in (None, known["platform"]) and (
        payment.distribution_type in (None, known["distribution_type"])
    )
    return (is_same_market or is_same_place) and has_same_content(known, payment)


def is_understood(known: Row, payment: Payment) -> bool:
    """Whether everything in the report can be read. Its market may be one that is no longer configured."""
    if payment.problem in (None, unknown_market(known["market"])):
        return True
    return payment.is_incomplete and payment.refunded_at is not None


def has_same_content(known: Row, payment: Payment) -> bool:
    """Whether both agree in every field that both have, apart from the place of purchase."""
    for name in ("player_id", "product_id", "amount", "currency"):
        if known[name] is not None and getattr(payment, name) not in (None, known[name]):
            return False
    if payment.purchased_at is None or known["purchased_at"] is None:
        return True
    apart = clock.seconds(payment.purchased_at) // 1 - clock.seconds(known["purchased_at"]) // 1
    return abs(apart) <= TOLERATED_SECONDS


def is_correction(known: Row, payment: Payment) -> bool:
    """Whether other content replaces what was never sent: it is of the same source and environment."""
    is_same_origin = known["source"] == payment.source and known["is_test"] == payment.is_test
    return payment.problem is None and is_same_origin and not known["is_sent"]


def with_known_amount(known: Row, payment: Payment) -> Payment:
    """The report, with the stored amount if it is a refund that gives 0 as what is paid now."""
    if payment.refunded_at is None or payment.amount is None or known["amount"] is None or Decimal(payment.amount):
        return payment
    is_free_again = payment.kept_because == TOO_CHEAP and Decimal(known["amount"]) >= LEAST_AMOUNT
    return replace(payment, amount=known["amount"], kept_because=None if is_free_again else payment.kept_because)
