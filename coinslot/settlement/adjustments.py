"""What became known of a closed month later: a late payment, a refund, a corrected row.

It goes into the next month that is closed, as lines whose own month is the earlier one. They are the difference between
that month as it would be reckoned now, under the terms it was closed with, and all that was frozen of it so far. So the
lines of all closed months together are always what the rows say, and nothing is counted twice.
"""

from collections.abc import Sequence

from coinslot.base import clock
from coinslot.settlement import figures, statement
from coinslot.settlement.figures import Line
from coinslot.settlement.months import (
    Settlement,
    all_standing,
    line_of,
)
from coinslot.settlement.periods import Month
from coinslot.settlement.terms import InGame
from coinslot.store.db import Connection

OVERLAP_SECONDS = 600.0  # a row may be committed some time after the time that is written in it


def adjustments(connection: Connection, game_id: int, month: Month, in_game: InGame) -> list[Line]:
    """What became known of earlier closed months since all that was frozen of them."""
    all_closed = all_standing(connection, game_id)
    earlier = [each for each in all_closed if each.month.name < month.name]
    found: list[Line] = []
    for settlement in _touched(connection, game_id, earlier, all_closed):
        now = statement.lines(connection, game_id, settlement.month, settlement.terms, in_game)
        found += figures.difference(now, _frozen_of(connection, game_id, settlement.month.name))
    return found


def _touched(
    connection: Connection, game_id: int, earlier: Sequence[Settlement], all_closed: Sequence[Settlement]
) -> list[Settlement]:
    """Those months that are to be reckoned again. A few too many do no harm.

    A row of theirs has come or changed since they were last looked at, or a month was reopened that held lines of them.
    """
    found = []
    for each in earlier:
        looked_at = max(other.known_at for other in all_closed if other.month.name >= each.month.name)
        values = {
            "game_id": game_id,
            "month": each.month.name,
            "starts_at": each.month.starts_at,
            "ends_at": each.month.ends_at,
            "since": clock.stamp(clock.seconds(looked_at) - OVERLAP_SECONDS),
        }
        if any(connection.execute(query, values).fetchone() is not None for query in _CHANGES):
            found.append(each)
    return found


_CHANGES = (
    # Of the two times the index of the first is wanted: few rows have changed, and a month may have a million.
    """SELECT 1 FROM payments
       WHERE game_id = :game_id AND updated_at >= :since
         AND coalesce(purchased_at, '') >= :starts_at AND coalesce(purchased_at, '') < :ends_at LIMIT 1""",
    # Of a payment that is in another month now, or gone, nothing else is left here. The subject begins with the time.
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
    # Who is supported holds until another event says otherwise.
    """SELECT 1 FROM events
       WHERE game_id = :game_id AND type IN ('sponsor.created', 'sponsor.ended') AND occurred_at < :ends_at
         AND received_at >= :since LIMIT 1""",
    # Adjustments that a reopened month held count no more, however long ago their rows changed.
    """SELECT 1 FROM settlements s JOIN settlement_lines l ON l.settlement_id = s.id
       WHERE s.game_id = :game_id AND s.state = 'reopened' AND s.month <> :month AND l.month = :month LIMIT 1""",
)


def _frozen_of(connection: Connection, game_id: int, name: str) -> list[Line]:
    """All that standing months hold of one month: its own lines and its adjustments."""
    rows = connection.execute(
        """SELECT l.* FROM settlement_lines l JOIN settlements s ON s.id = l.settlement_id
           WHERE s.game_id = :game_id AND s.state <> 'reopened' AND l.month = :month""",
        {"game_id": game_id, "month": name},
    )
    return [line_of(row) for row in rows]
