"""Forgetting a player: what is emptied, and what stays because the books need it."""

from coinslot.games import search_keys
from coinslot.store.db import Connection

# A converted body that no delivery still waits to send. Its dead letters are never sent again.
FORGOTTEN = "its player was forgotten"
_IS_CONVERTED = """SELECT c.event_id FROM events e JOIN conversions c ON c.event_id = e.id
                   WHERE {which} AND c.body IS NOT NULL AND NOT EXISTS (
                       SELECT 1 FROM deliveries w JOIN destinations t ON t.id = w.destination_id
                       WHERE w.event_id = e.id AND w.state = 'waiting' AND t.is_converted = 1)"""
_EMPTY_CONVERTED = (
    f"""UPDATE deliveries SET dead_reason = '{FORGOTTEN}'
        WHERE state = 'dead' AND event_id IN ({_IS_CONVERTED})
          AND destination_id IN (SELECT id FROM destinations WHERE is_converted = 1)""",  # noqa: S608  our own words
    f"UPDATE conversions SET body = NULL WHERE event_id IN ({_IS_CONVERTED})",  # noqa: S608  our own words
)
EMPTY_CONVERTED_OF_PLAYER = tuple(
    each.format(which="e.game_id = :game_id AND e.player_id = :player_id") for each in _EMPTY_CONVERTED
)
EMPTY_CONVERTED_OF_EVENT = tuple(each.format(which="e.id = :id") for each in _EMPTY_CONVERTED)


def forget_player(tx: Connection, game_id: int, player_id: str) -> bool:
    """Delete the person and keep the sums; returns whether there was anything to forget.

    Deleted: the registry entry, identities, logins under way, boosts, and what a search finds the player by; the kept
    bodies and signatures of the player's transactions, conflicts and events, since those hold addresses; what was
    converted of the events and no longer waits to be sent; what the game answered to deliveries; the reasons of refund
    requests. Kept: ids, quantities and money. Rows that name the player in no column are for
    ``coinslot/operations/forgetting.py``.
    """
    key = {"game_id": game_id, "player_id": player_id}
    found = tx.execute("DELETE FROM players WHERE game_id = :game_id AND player_id = :player_id", key).rowcount
    emptied = tx.execute(
        """UPDATE transactions SET raw_body = NULL, signature = NULL, session_metadata = NULL
           WHERE game_id = :game_id AND player_id = :player_id
             AND (raw_body IS NOT NULL OR signature IS NOT NULL OR session_metadata IS NOT NULL)""",
        key,
    ).rowcount
    for statement in (
        """UPDATE conflicts SET raw_body = NULL
           WHERE game_id = :game_id AND player_id = :player_id AND raw_body IS NOT NULL""",
        # Of the player's orders, whichever player the conflicting report named.
        """UPDATE conflicts SET raw_body = NULL
           WHERE raw_body IS NOT NULL AND transaction_id IN (
               SELECT id FROM transactions WHERE game_id = :game_id AND player_id = :player_id)""",
        """UPDATE events SET raw_body = NULL
           WHERE game_id = :game_id AND player_id = :player_id AND raw_body IS NOT NULL""",
        # Events about the player's orders need not name the player.
        """UPDATE events SET raw_body = NULL
           WHERE raw_body IS NOT NULL AND id IN (
               SELECT r.event_id FROM transactions t JOIN refunds r ON r.transaction_id = t.id
               WHERE t.game_id = :game_id AND t.player_id = :player_id
               UNION
               SELECT e.id FROM transactions t CROSS JOIN /* hint */ events e
                   ON e.game_id = t.game_id AND e.partner = t.partner AND e.external_id IN (t.external_id, t.reference)
               WHERE t.game_id = :game_id AND t.player_id = :player_id)""",
        # What a person typed, and what the partner answered, may name the player.
        """UPDATE refund_requests SET reason = '', detail = ''
           WHERE (reason <> '' OR detail <> '') AND transaction_id IN (
               SELECT id FROM transactions WHERE game_id = :game_id AND player_id = :player_id)""",
        # A game's answer may repeat what it was sent.
        """UPDATE attempts SET answer = NULL, detail = NULL
           WHERE (answer IS NOT NULL OR detail IS NOT NULL) AND delivery_id IN (
               SELECT d.id FROM transactions t JOIN grants g ON g.transaction_id = t.id
               JOIN deliveries d ON d.grant_id = g.id
               WHERE t.game_id = :game_id AND t.player_id = :player_id
               UNION
               SELECT d.id FROM events e JOIN deliveries d ON d.event_id = e.id
               WHERE e.game_id = :game_id AND e.player_id = :player_id)""",
        *EMPTY_CONVERTED_OF_PLAYER,
        "DELETE FROM logins WHERE game_id = :game_id AND player_id = :player_id",
        "DELETE FROM refreshes WHERE game_id = :game_id AND player_id = :player_id",
        "DELETE FROM boosts WHERE game_id = :game_id AND player_id = :player_id",
    ):
        emptied += tx.execute(statement, key).rowcount
    emptied += search_keys.forget(tx, game_id, player_id)
    return found + emptied > 0
