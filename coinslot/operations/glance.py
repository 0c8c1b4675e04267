"""Each game at a glance: what it has already of what its first credit needs, and what waits in it."""

from coinslot.outbox.lists import COUNTED_TO
from coinslot.store.db import Connection, Row


def of_all(connection: Connection, most_calls: int) -> dict[int, Row]:
    """Game -> ``has_players``, ``has_items``, ``has_credits`` (tests are none), each 0 or 1; ``waiting`` and ``dead``
    deliveries, and refused ``open_calls``.

    A count of deliveries ends at :data:`coinslot.outbox.lists.COUNTED_TO` and one, that of calls at ``most_calls``.
    """
    rows = connection.execute(
        """SELECT g.id,
                  CASE WHEN EXISTS (SELECT 1 FROM players WHERE game_id = g.id) THEN 1 ELSE 0 END AS has_players,
                  CASE WHEN EXISTS (SELECT 1 FROM items WHERE game_id = g.id) THEN 1 ELSE 0 END AS has_items,
                  CASE WHEN EXISTS (SELECT 1 FROM counters WHERE game_id = g.id AND name = 'credited')
                       THEN 1 ELSE 0 END AS has_credits,
                  (SELECT count(*) FROM (SELECT 1 FROM deliveries
                                         WHERE game_id = g.id AND state = 'waiting' LIMIT :most) w) AS waiting,
                  (SELECT count(*) FROM (SELECT 1 FROM deliveries
                                         WHERE game_id = g.id AND state = 'dead' LIMIT :most) d) AS dead,
                  (SELECT count(*) FROM (SELECT 1 FROM refusals
                                         WHERE game_id = g.id AND state = 'open' LIMIT :most_calls) r) AS open_calls
           FROM games g""",
        {"most": COUNTED_TO + 1, "most_calls": most_calls},
    )
    return {row["id"]: row for row in rows}
