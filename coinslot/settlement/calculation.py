"""The lines that a month would be closed with now: its own purchases, and late facts of months closed earlier.

A late fact is a payment, a refund or a corrected row that became known after its month was closed. It goes into the
next month that is closed, as a line whose ``month`` is the earlier one (an adjustment). Adjustments are the difference
between the earlier month as calculated now, under the terms it was closed with, and everything frozen of it so far. So
all closed months together always have what the rows say, and nothing is counted twice.
"""

from coinslot.base import clock, money
from coinslot.settlement import lines, months
from coinslot.settlement.lines import Line
from coinslot.settlement.months import Settlement, SettlementError
from coinslot.settlement.order_lines import lines_of_orders
from coinslot.settlement.payment_lines import lines_of_payments
from coinslot.settlement.periods import Month
from coinslot.settlement.terms import InGame, Terms
from coinslot.store.db import Connection

OVERLAP_SECONDS = 600.0  # a row may be committed some time after the time that is written in it
LARGEST_SUM = 2**63 - 1  # that the database holds


def preview(connection: Connection, game_id: int, month: Month, terms: Terms, in_game: InGame) -> list[Line]:
    """The lines a month would be closed with now, adjustments included, sorted. Reads all of its rows.

    The connection must hold one snapshot. Raises :class:`SettlementError` where a sum is too large for the database.
    """
    found = month_lines(connection, game_id, month, terms, in_game)
    found += adjustments(connection, game_id, month, in_game)
    for line in found:
        if any(abs(getattr(line, name) or 0) > LARGEST_SUM for name in lines.FIGURES):
            raise SettlementError(f"{line.month} holds amounts of {line.currency} too large to be summed")
    return sorted(found, key=lambda line: line.order)


def month_lines(connection: Connection, game_id: int, month: Month, terms: Terms, in_game: InGame) -> list[Line]:
    """The lines of a month's own purchases, sorted. The connection must hold one snapshot."""
    with money.exactly():
        found = [
            *lines_of_payments(connection, game_id, month, terms, in_game),
            *lines_of_orders(connection, game_id, month),
        ]
    return sorted(found, key=lambda line: line.order)


def adjustments(connection: Connection, game_id: int, month: Month, in_game: InGame) -> list[Line]:
    """The late facts of months closed earlier than this one, as lines of those months."""
    found: list[Line] = []
    for each in changed_months(connection, game_id, month.name):
        now = month_lines(connection, game_id, each.month, each.terms, in_game)
        frozen = connection.execute(
            """SELECT l.* FROM settlement_lines l JOIN settlements s ON s.id = l.settlement_id
               WHERE s.game_id = :game_id AND s.state <> 'reopened' AND l.month = :month""",
            {"game_id": game_id, "month": each.month.name},
        )
        found += lines.difference(now, map(months.line_of, frozen))
    return found


def changed_months(connection: Connection, game_id: int, before: str) -> list[Settlement]:
    """Closed months earlier than this name that must be calculated again. A few too many do no harm.

    A row of theirs came or changed since they were last calculated, or a month that held lines of them was reopened.
    """
    found = []
    closed = months.all_closed(connection, game_id)
    for each in closed:
        if each.month.name >= before:
            continue
        known_at = max(other.known_at for other in closed if other.month.name >= each.month.name)
        since = clock.stamp(clock.seconds(known_at) - OVERLAP_SECONDS)
        values = {**vars(each.month), "game_id": game_id, "since": since}
        if any(connection.execute(query, values).fetchone() is not None for query in _CHANGES):
            found.append(each)
    return found


_CHANGES = (
    # coalesce() leaves the index on updated_at: few rows have changed, while a month may have a million.
    """SELECT 1 FROM payments
       WHERE game_id = :game_id AND updated_at >= :since
         AND coalesce(purchased_at, '') >= :starts_at AND coalesce(purchased_at, '') < :ends_at LIMIT 1""",
    # A payment that moved to another month, or is gone, leaves only this. The subject begins with its former time.
    """SELECT 1 FROM audit
       WHERE game_id = :game_id AND action = 'payment.move' AND created_at >= :since
         AND subject >= :starts_at AND subject < :ends_at LIMIT 1""",
    """SELECT 1 FROM transactions
       WHERE game_id = :game_id AND moment >= :starts_at
         AND moment < :ends_at AND received_at >= :since LIMIT 1""",
    """SELECT 1 FROM refunds r JOIN transactions t ON t.id = r.transaction_id
       WHERE r.game_id = :game_id AND (r.created_at >= :since OR r.settled_at >= :since)
         AND t.moment >= :starts_at AND t.moment < :ends_at
       LIMIT 1""",
    # A player supports a creator until another event ends that, so an event changes every later month.
    """SELECT 1 FROM events
       WHERE game_id = :game_id AND type IN ('sponsor.created', 'sponsor.ended') AND occurred_at < :ends_at
         AND received_at >= :since LIMIT 1""",
    # Adjustments in a reopened month count no more, however long ago their rows changed.
    """SELECT 1 FROM settlements s JOIN settlement_lines l ON l.settlement_id = s.id
       WHERE s.game_id = :game_id AND s.state = 'reopened' AND s.month <> :name AND l.month = :name LIMIT 1""",
)
