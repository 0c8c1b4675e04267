"""Players whose open store must be reloaded: noted with the change, deleted once the partner has been asked."""

from collections.abc import Iterable

from coinslot.base import clock
from coinslot.store.db import Connection

DROPPED_AT_ONCE = 5000
EVERYBODY = "9999"  # a stamp after all others, for drop_late


def ask(tx: Connection, game_id: int, partner: str, player_ids: Iterable[str]) -> None:
    """Note players; for one who is noted already, the time becomes now."""
    now = clock.stamp()
    tx.executemany(
        """INSERT INTO refreshes (game_id, partner, player_id, asked_at) VALUES (?, ?, ?, ?)
           ON CONFLICT (game_id, partner, player_id) DO UPDATE SET asked_at = excluded.asked_at""",
        [(game_id, partner, player_id, now) for player_id in player_ids],
    )


def drop_late(tx: Connection, game_id: int, partner: str, before: str) -> bool:
    """Delete some of those that were noted before this stamp; returns whether there may be more of them."""
    dropped = tx.execute(
        """DELETE FROM refreshes WHERE game_id = :game_id AND partner = :partner AND player_id IN (
               SELECT player_id FROM refreshes
               WHERE game_id = :game_id AND partner = :partner AND asked_at < :before LIMIT :most)""",
        {"game_id": game_id, "partner": partner, "before": before, "most": DROPPED_AT_ONCE},
    )
    return dropped.rowcount >= DROPPED_AT_ONCE


def waiting(connection: Connection, game_id: int, partner: str, most: int) -> dict[str, str]:
    """Player -> when it was last noted, for up to ``most`` players."""
    rows = connection.execute(
        """SELECT player_id, asked_at FROM refreshes WHERE game_id = :game_id AND partner = :partner
           ORDER BY player_id LIMIT :most""",
        {"game_id": game_id, "partner": partner, "most": most},
    )
    return dict(map(tuple, rows))


def remove(tx: Connection, game_id: int, partner: str, done: dict[str, str]) -> None:
    """Delete these, as :func:`waiting` gave them; one that was noted again since then stays."""
    tx.executemany(
        "DELETE FROM refreshes WHERE game_id = ? AND partner = ? AND player_id = ? AND asked_at = ?",
        [(game_id, partner, player_id, asked_at) for player_id, asked_at in done.items()],
    )
