"""One purchase as both sides have it: whether they agree, what is at stake, and what mends it.

A report of movements tells what moved in its month: what we have is looked at as it was when that month ended. What the
report itself carries from later counts, and so does what was put right here since. A report of states tells how each
purchase stands when the report is made.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from coinslot.base import clock, money

PAID, REFUNDED, REINSTATED, UNREADABLE = "paid", "refunded", "reinstated", "unreadable"
KINDS = (PAID, REFUNDED, REINSTATED, UNREADABLE)
MISSING_HERE, MISSING_THERE, AMOUNT_DIFFERS = "missing_here", "missing_there", "amount_differs"
REFUNDED_THERE, REFUNDED_HERE, AT_EDGE, ID_ALTERED = "refunded_there", "refunded_here", "at_edge", "id_altered"
RESULTS = (
    *(MISSING_HERE, MISSING_THERE, AMOUNT_DIFFERS, REFUNDED_THERE, REFUNDED_HERE),
    *(UNREADABLE, AT_EDGE, ID_ALTERED),
)
TOLERATED_SECONDS = 600.0  # by which two clocks may put a refund into different months


class PartnerRow(NamedTuple):
    """One movement of money as the partner tells it. ``ours`` is our public id of the purchase, where it repeats that.

    ``amount_minor`` is exact text, in minor units of the currency; None where it is not told. ``sample`` is what the
    report says, of a row that cannot be read; once kept, of one that has another id there than here it is that id.
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
    """A purchase as one side has it. ``amount`` is in minor units; None where nobody told it."""

    amount: Decimal | None
    currency: str | None
    is_refunded: bool
    occurred_at: str | None


class Fact(NamedTuple):
    """Money that went back, or came back from a dispute that was won. ``is_theirs``: the partner has told us of it."""

    reason: str
    occurred_at: str | None
    created_at: str
    id: int
    is_theirs: bool

    @property
    def at(self) -> str:
        return self.occurred_at or self.created_at

    @property
    def is_away(self) -> bool:
        return self.reason != "reinstated"


class Own(NamedTuple):
    """A purchase as we have it. ``state`` and what follows are those of a payment."""

    amount: Decimal | None
    currency: str | None
    occurred_at: str
    facts: tuple[Fact, ...] = ()
    state: str | None = None
    refund_state: str | None = None
    source: str | None = None
    registered_at: str | None = None
    updated_at: str | None = None


class Verdict(NamedTuple):
    """What does not agree, and what is at stake."""

    result: str
    stake: Decimal | None
    currency: str | None


class Scope(NamedTuple):
    """What a report can tell. The month ends at ``ends_at`` here, and there perhaps hours before, at ``covered_until``.

    ``is_live``: it is the partner's answer of now. Any other was first held against the month at ``held_at``: what was
    done since is not in it.
    """

    are_movements: bool
    is_live: bool
    ends_at: str
    covered_until: str
    held_at: str

    @property
    def before_end(self) -> str:
        """Until then both sides are in the month, whichever clock and time zone they go by."""
        return clock.stamp(clock.seconds(self.covered_until) - TOLERATED_SECONDS)


def judge(ours: Side | None, theirs: Side | None) -> Verdict | None:
    """What does not agree about one purchase; None when nothing does. What is worth nothing on both sides agrees."""
    if ours is None and theirs is None:
        return None
    if ours is None:
        assert theirs is not None
        if theirs.is_refunded or theirs.amount == 0:
            return None  # charged, given back and never granted; or free
        return Verdict(MISSING_HERE, theirs.amount, theirs.currency)
    if theirs is None:
        return None if ours.is_refunded else Verdict(MISSING_THERE, ours.amount, ours.currency)
    if not ours.amount and not theirs.amount and (ours.amount, theirs.amount) != (None, None):
        return None
    if ours.is_refunded != theirs.is_refunded:
        stake = ours.amount if ours.amount is not None else theirs.amount
        currency = ours.currency if ours.amount is not None else theirs.currency
        return Verdict(REFUNDED_THERE if theirs.is_refunded else REFUNDED_HERE, stake, currency)
    if theirs.amount is None or (ours.amount == theirs.amount and ours.currency in (theirs.currency, None)):
        return None
    if theirs.currency is None and ours.amount == theirs.amount:
        return None
    if ours.amount is None or ours.currency != theirs.currency:
        return Verdict(AMOUNT_DIFFERS, theirs.amount, theirs.currency)
    return Verdict(AMOUNT_DIFFERS, abs(ours.amount - theirs.amount), ours.currency)


def together(rows: Iterable[PartnerRow], *, are_movements: bool = True) -> Side:
    """One purchase out of all that the partner tells of it: what was paid, and whether that was given back.

    In a report of states, a row that was given back tells what had been paid.
    """
    rows = list(rows)
    if len(rows) == 1 and rows[0].kind == PAID:  # most of them
        row = rows[0]
        amount = None if row.amount_minor is None else Decimal(row.amount_minor)
        return Side(amount, row.currency, False, row.occurred_at)
    balance = sum({REFUNDED: 1, REINSTATED: -1}.get(row.kind, 0) for row in rows)
    paid = [row for row in rows if row.kind == PAID]
    if not paid and not are_movements:
        paid = [row for row in rows if row.kind == REFUNDED]
    told = [*reversed(paid), *rows]  # the newest word on what was paid, else any
    amounts = [Decimal(row.amount_minor) for row in paid if row.amount_minor is not None]
    with money.exactly():
        return Side(
            sum(amounts, Decimal(0)) if amounts else None,
            next((row.currency for row in told if row.currency), None),
            balance > 0,
            next((row.occurred_at for row in told if row.occurred_at), None),
        )


def unreadable(rows: Sequence[PartnerRow]) -> str | None:
    """What the partner tells of a purchase that cannot be read; None where all of it can."""
    for row in rows:
        if row.kind == UNREADABLE:
            return row.sample or ""
    if len({row.currency for row in rows if row.kind == PAID}) > 1:
        return "paid in several currencies"
    return None


def detail(result: str, rows: Sequence[PartnerRow]) -> str | None:
    """What the remedy has to say: when the partner gave the purchase back, or the partner's own id where it has one."""
    if result == REFUNDED_HERE:
        return next((row.sample for row in rows if row.sample), None)
    return max((row.occurred_at for row in rows if row.kind == REFUNDED and row.occurred_at), default=None)


def is_refunded(facts: Sequence[Fact], until: str | None = None) -> bool:
    """Whether the money is with the player, by what had happened before ``until``, or by now."""
    known = [fact for fact in facts if until is None or fact.at < until]
    return any(fact.is_away and not _is_won(fact, known) for fact in known)


def _is_won(lost: Fact, known: Sequence[Fact]) -> bool:
    """A refund's money is with the player whoever wins a dispute; and a report may be late."""
    if lost.reason != "chargeback":
        return False
    for fact in known:
        if fact.is_away:
            continue
        if fact.occurred_at is None or lost.occurred_at is None:
            if fact.id > lost.id:
                return True
        elif fact.occurred_at[:19] >= lost.occurred_at[:19]:  # some events count seconds, others milliseconds
            return True
    return False


def held_against(own: Own, rows: Sequence[PartnerRow], scope: Scope) -> Side:
    """Our side of a purchase, as it has to be for the report to agree with it."""
    return Side(own.amount, own.currency, bool(own.facts) and _was_refunded(own.facts, rows, scope), own.occurred_at)


def at_end(own: Own, scope: Scope) -> Side:
    """Our side of a purchase that the partner does not report."""
    until = None if scope.is_live and not scope.are_movements else scope.ends_at
    return Side(own.amount, own.currency, is_refunded(own.facts, until), own.occurred_at)


def _was_refunded(facts: Sequence[Fact], rows: Sequence[PartnerRow], scope: Scope) -> bool:
    balance = sum({REFUNDED: 1, REINSTATED: -1}.get(row.kind, 0) for row in rows)
    if scope.is_live and not scope.are_movements:
        return is_refunded(facts)
    if balance > 0:  # there; here it may have been put right since, or be known by a clock that is a little off
        return is_refunded(facts, scope.ends_at) or any(fact.is_away and fact.at >= scope.before_end for fact in facts)
    was = is_refunded(facts, scope.ends_at)
    if any(row.kind == REINSTATED for row in rows):
        return was and is_refunded(facts)
    return was and is_refunded(facts, scope.before_end if scope.are_movements else None)


# What mends it


REQUEST_AWARD, REPORT_PAYMENT, REGISTER_PAYMENT = "request_award", "report_payment", "register_payment"
RECORD_REFUND, REPORT_REFUND, SEND_REFUND, REFUND_ORDER = (
    "record_refund",
    "report_refund",
    "send_refund",
    "refund_order",
)
REDRIVE, MEND_PAYMENT, ASK_PARTNER = "redrive", "mend_payment", "ask_partner"
READ_LINE, OTHER_MONTH, RESTORE_IDS = "read_line", "other_month", "restore_ids"
ACTIONS = (
    *(REQUEST_AWARD, REPORT_PAYMENT, REGISTER_PAYMENT, RECORD_REFUND, REPORT_REFUND, SEND_REFUND, REFUND_ORDER),
    *(REDRIVE, MEND_PAYMENT, ASK_PARTNER, READ_LINE, OTHER_MONTH, RESTORE_IDS),
)
_OF_BOTH = {AMOUNT_DIFFERS: ASK_PARTNER, UNREADABLE: READ_LINE, AT_EDGE: OTHER_MONTH, ID_ALTERED: RESTORE_IDS}
_OF_PAYMENTS = {**_OF_BOTH, MISSING_HERE: REPORT_PAYMENT, REFUNDED_THERE: REPORT_REFUND}
_OF_ORDERS = {**_OF_BOTH, MISSING_HERE: REQUEST_AWARD, MISSING_THERE: ASK_PARTNER, REFUNDED_THERE: RECORD_REFUND}


def mend_order(result: str, own: Own | None, scope: Scope, *, is_being_refunded: bool) -> str | None:
    """The word for what mends a difference about an order; None where that was done, and no report of this month can
    tell. ``is_being_refunded``: the partner was asked from here to give the money back.
    """
    if result != REFUNDED_HERE or own is None:
        return _OF_ORDERS[result]
    theirs = [fact.at for fact in own.facts if fact.is_theirs and fact.is_away]
    if is_being_refunded or any(at >= scope.before_end for at in theirs):
        return None
    # It said so itself, for this very month: then no second refund is wanted, but an explanation.
    return ASK_PARTNER if theirs else REFUND_ORDER


def mend_payment(result: str, own: Own | None, scope: Scope) -> str | None:
    """The word for what mends a difference about a payment; None where that was done since the report was made."""
    if own is None or result not in (MISSING_THERE, REFUNDED_HERE, REFUNDED_THERE):
        return _OF_PAYMENTS[result]
    if result == REFUNDED_THERE:
        return REPORT_REFUND if own.source in ("push", "poll") else ASK_PARTNER  # else the game does not report it
    if result == MISSING_THERE and own.state == "registered":
        return _ask_unless_since(own.registered_at, scope)
    if result == REFUNDED_HERE and own.refund_state == "done":
        return _ask_unless_since(own.updated_at, scope)
    if own.state == "quarantined" or (result == REFUNDED_HERE and own.refund_state == "quarantined"):
        return REDRIVE
    if own.state in ("parked", "kept"):
        return MEND_PAYMENT if own.state == "parked" else ASK_PARTNER
    return REGISTER_PAYMENT if result == MISSING_THERE else SEND_REFUND


def _ask_unless_since(done_at: str | None, scope: Scope) -> str | None:
    return None if not scope.is_live and (done_at or "") > scope.held_at else ASK_PARTNER
