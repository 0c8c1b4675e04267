"""One purchase as both sides have it: whether they agree, what is at stake, and what has to be done.

A report of movements tells what moved in its month, so our purchase is taken as it was when that month ended. Later
facts count if the report has them, or if they were recorded here to resolve the difference. A report of states tells
how each purchase stood when the report was made.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from coinslot.base import clock, money

PAID, REFUNDED, REINSTATED, UNREADABLE = "paid", "refunded", "reinstated", "unreadable"
MISSING_HERE, MISSING_THERE, AMOUNT_DIFFERS = "missing_here", "missing_there", "amount_differs"
REFUNDED_THERE, REFUNDED_HERE, AT_EDGE, ID_ALTERED = "refunded_there", "refunded_here", "at_edge", "id_altered"
_OF_AGREEMENT = (MISSING_HERE, MISSING_THERE, AMOUNT_DIFFERS, REFUNDED_THERE, REFUNDED_HERE)
RESULTS = (*_OF_AGREEMENT, UNREADABLE, AT_EDGE, ID_ALTERED)
TOLERATED_SECONDS = 600.0  # by which two clocks may put a refund into different months

# What resolves a difference; handlers/kit/partner_reports.py has the words.
ACTIONS = tuple(
    "request_award report_payment register_payment record_refund report_refund send_refund refund_order redrive "
    "mend_payment ask_partner read_line other_month restore_ids".split()
)
_OF_BOTH = {AMOUNT_DIFFERS: "ask_partner", UNREADABLE: "read_line", AT_EDGE: "other_month"}
_OF_PAYMENTS = {**_OF_BOTH, MISSING_HERE: "report_payment", REFUNDED_THERE: "report_refund"}
_OF_ORDERS = {
    **_OF_BOTH,
    MISSING_HERE: "request_award",
    MISSING_THERE: "ask_partner",
    REFUNDED_THERE: "record_refund",
}
_BALANCE = {REFUNDED: 1, REINSTATED: -1}


class PartnerRow(NamedTuple):
    """One row of a partner's report. ``ours`` is our public id of the purchase, where the report repeats it.

    ``amount_minor`` is exact text in minor units of the currency; None if unknown. ``sample`` is what an unreadable row
    says; in the database also the partner's own id, where that is another than ours.
    """

    reference: str
    row_id: str
    kind: str
    amount_minor: str | None
    currency: str | None
    occurred_at: str | None
    ours: str | None = None
    sample: str | None = None


class Side(NamedTuple):
    """A purchase as one side has it. ``amount`` is in minor units; None if unknown."""

    amount: Decimal | None
    currency: str | None
    is_refunded: bool
    occurred_at: str | None


class Refund(NamedTuple):
    """A refund, a dispute that was lost (``chargeback``), or one that was won (``reinstated``).

    ``is_theirs``: the partner reported it.
    """

    reason: str
    occurred_at: str | None
    created_at: str
    id: int
    is_theirs: bool

    @property
    def at(self) -> str:
        """When it happened, as far as that is known."""
        return self.occurred_at or self.created_at

    @property
    def is_to_player(self) -> bool:
        """Whether the money went to the player."""
        return self.reason != "reinstated"


class Own(NamedTuple):
    """A purchase as we have it. ``state`` and the fields after it are those of a payment."""

    amount: Decimal | None
    currency: str | None
    occurred_at: str
    refunds: tuple[Refund, ...] = ()
    state: str | None = None
    refund_state: str | None = None
    source: str | None = None
    registered_at: str | None = None
    updated_at: str | None = None


class Difference(NamedTuple):
    """In which way two sides differ, and the amount at stake in minor units; None if unknown."""

    result: str
    stake: Decimal | None
    currency: str | None


class Scope(NamedTuple):
    """What a report covers. Our month ends at ``ends_at``; the partner's perhaps hours before, at ``covered_until``.

    ``are_movements``: its rows are movements of money, else states of purchases. ``is_live``: it is the partner's
    answer of now. Any other was first used at ``held_at``: it does not have what was done since.
    """

    are_movements: bool
    is_live: bool
    ends_at: str
    covered_until: str
    held_at: str

    @property
    def before_end(self) -> str:
        """Until then both sides are in the month, whatever their clocks and time zones."""
        return clock.stamp(clock.seconds(self.covered_until) - TOLERATED_SECONDS)


def compare(ours: Side | None, theirs: Side | None) -> Difference | None:
    """How the two sides of one purchase differ; None if they agree. What is worth nothing on both sides agrees."""
    if theirs is None:
        if ours is None or ours.is_refunded:
            return None
        return Difference(MISSING_THERE, ours.amount, ours.currency)
    if ours is None:
        if theirs.is_refunded or theirs.amount == 0:
            return None  # charged, refunded and never granted; or free
        return Difference(MISSING_HERE, theirs.amount, theirs.currency)
    if not ours.amount and not theirs.amount and (ours.amount, theirs.amount) != (None, None):
        return None
    if ours.is_refunded != theirs.is_refunded:
        known = ours if ours.amount is not None else theirs
        return Difference(REFUNDED_THERE if theirs.is_refunded else REFUNDED_HERE, known.amount, known.currency)
    is_same_currency = ours.currency == theirs.currency or None in (ours.currency, theirs.currency)
    if theirs.amount is None or (ours.amount == theirs.amount and is_same_currency):
        return None
    if ours.amount is None or ours.currency != theirs.currency:
        return Difference(AMOUNT_DIFFERS, theirs.amount, theirs.currency)
    return Difference(AMOUNT_DIFFERS, abs(ours.amount - theirs.amount), ours.currency)


def their_side(rows: Iterable[PartnerRow], *, are_movements: bool = True) -> Side:
    """One purchase from all rows a partner has of it: what was paid, and whether that was refunded.

    In a report of states, a refunded row has the amount that was paid.
    """
    rows = list(rows)
    if len(rows) == 1 and rows[0].kind == PAID:  # most of them
        row = rows[0]
        amount = None if row.amount_minor is None else Decimal(row.amount_minor)
        return Side(amount, row.currency, False, row.occurred_at)
    paid = [row for row in rows if row.kind == PAID]
    if not paid and not are_movements:
        paid = [row for row in rows if row.kind == REFUNDED]
    ordered = [*reversed(paid), *rows]  # the newest row of what was paid, else any
    amounts = [Decimal(row.amount_minor) for row in paid if row.amount_minor is not None]
    with money.exactly():
        return Side(
            sum(amounts, Decimal(0)) if amounts else None,
            next((row.currency for row in ordered if row.currency), None),
            _balance(rows) > 0,
            next((row.occurred_at for row in ordered if row.occurred_at), None),
        )


def _balance(rows: Iterable[PartnerRow]) -> int:
    """Above 0 where the partner refunded the purchase more often than it won that back."""
    return sum(_BALANCE.get(row.kind, 0) for row in rows)


def unreadable(rows: Sequence[PartnerRow]) -> str | None:
    """What a partner's rows of a purchase say that cannot be read; None if all can be read."""
    for row in rows:
        if row.kind == UNREADABLE:
            return row.sample or ""
    if len({row.currency for row in rows if row.kind == PAID}) > 1:
        return "paid in several currencies"
    return None


def detail(result: str, rows: Sequence[PartnerRow]) -> str | None:
    """What the remedy needs: the partner's own id of a purchase refunded here, else when the partner refunded it."""
    if result == REFUNDED_HERE:
        return next((row.sample for row in rows if row.sample), None)
    return max((row.occurred_at for row in rows if row.kind == REFUNDED and row.occurred_at), default=None)


def is_refunded(refunds: Sequence[Refund], until: str | None = None) -> bool:
    """Whether the money is with the player, by what had happened before ``until``, or by now."""
    known = [refund for refund in refunds if until is None or refund.at < until]
    return any(refund.is_to_player and not _is_won(refund, known) for refund in known)


def _is_won(lost: Refund, known: Sequence[Refund]) -> bool:
    """Whether a dispute was won after it was lost. A refund is never won back. A report may come late."""
    if lost.reason != "chargeback":
        return False
    for refund in known:
        if refund.is_to_player:
            continue
        if refund.occurred_at is None or lost.occurred_at is None:
            if refund.id > lost.id:
                return True
        elif refund.occurred_at[:19] >= lost.occurred_at[:19]:  # some events have seconds, others milliseconds
            return True
    return False


def our_side(own: Own, rows: Sequence[PartnerRow], scope: Scope) -> Side:
    """Our side of a purchase that the partner reports."""
    refunded = bool(own.refunds) and _was_refunded(own.refunds, rows, scope)
    return Side(own.amount, own.currency, refunded, own.occurred_at)


def our_side_alone(own: Own, scope: Scope) -> Side:
    """Our side of a purchase that the partner does not report."""
    until = None if scope.is_live and not scope.are_movements else scope.ends_at
    return Side(own.amount, own.currency, is_refunded(own.refunds, until), own.occurred_at)


def _was_refunded(refunds: Sequence[Refund], rows: Sequence[PartnerRow], scope: Scope) -> bool:
    if scope.is_live and not scope.are_movements:
        return is_refunded(refunds)
    was = is_refunded(refunds, scope.ends_at)
    if _balance(rows) > 0:  # there; here it may have been recorded since, or be dated by a clock that is a little off
        return was or any(refund.is_to_player and refund.at >= scope.before_end for refund in refunds)
    if any(row.kind == REINSTATED for row in rows):
        return was and is_refunded(refunds)
    return was and is_refunded(refunds, scope.before_end if scope.are_movements else None)


def action_for_order(result: str, own: Own | None, scope: Scope, *, is_being_refunded: bool) -> str | None:
    """Which of :data:`ACTIONS` resolves a difference about an order; None if it was done and no report can show it.

    ``is_being_refunded``: the partner was asked from here to refund it.
    """
    if result != REFUNDED_HERE or own is None:
        return _OF_ORDERS[result]
    theirs = [refund.at for refund in own.refunds if refund.is_theirs and refund.is_to_player]
    if is_being_refunded or any(at >= scope.before_end for at in theirs):
        return None
    # If the partner reported the refund itself, for this very month, ask about it; a second refund would be wrong.
    return "ask_partner" if theirs else "refund_order"


def action_for_payment(result: str, own: Own | None, scope: Scope) -> str | None:
    """Which of :data:`ACTIONS` resolves a difference about a payment; None if it was done since the report was made."""
    if own is None or result not in (MISSING_THERE, REFUNDED_HERE, REFUNDED_THERE):
        return _OF_PAYMENTS[result]
    if result == REFUNDED_THERE:
        return "report_refund" if own.source in ("push", "poll") else "ask_partner"  # else the game does not report it
    if result == MISSING_THERE and own.state == "registered":
        return _ask_unless_since(own.registered_at, scope)
    if result == REFUNDED_HERE and own.refund_state == "done":
        return _ask_unless_since(own.updated_at, scope)
    if own.state == "quarantined" or (result == REFUNDED_HERE and own.refund_state == "quarantined"):
        return "redrive"
    if own.state in ("parked", "kept"):
        return "mend_payment" if own.state == "parked" else "ask_partner"
    return "register_payment" if result == MISSING_THERE else "send_refund"


def _ask_unless_since(done_at: str | None, scope: Scope) -> str | None:
    return None if not scope.is_live and (done_at or "") > scope.held_at else "ask_partner"
