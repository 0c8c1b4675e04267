"""Players whose open store a partner is to be told to load anew: noted with the change, gone once the partner knows."""

from collections.abc import Iterable

from coinslot.base import clock
from coinslot.store.db import Connection

DROPPED_AT_ONCE = 5000
EVERYBODY = "9999"  # before this time


def ask(tx: Connection, game_id: int, partner: str, player_ids: Iterable[str]) -> None:
    """Note players; one noted already counts as asked for anew."""
    now = clock.stamp()
    tx.executemany(
        """INSERT INTO refreshes (game_id, partner, player_id, asked_at)
           VALUES (:game_id, :partner, :player_id, :now)
           ON CONFLICT (game_id, partner, player_id) DO UPDATE SET asked_at = excluded.asked_at""",
        [{"game_id": game_id, "partner": partner, "player_id": each, "now": now} for each in player_ids],
    )


def drop_late(tx: Connection, game_id: int, partner: str, before: str) -> bool:
    """Some of those last asked for before this time are not to be told any more; returns whether there may be more."""
    return (
        tx.execute(
            """DELETE FROM refreshes WHERE game_id = :game_id AND partner = :partner AND player_id IN (
                   SELECT player_id FROM refreshes
                   WHERE game_id = :game_id AND partner = :partner AND asked_at < :before LIMIT :most)""",
            {"game_id": game_id, "partner": partner, "before": before, "most": DROPPED_AT_ONCE},
        ).rowcount
        >= DROPPED_AT_ONCE
    )


def waiting(connection: Connection, game_id: int, partner: str, most: int) -> dict[str, str]:
    """Up to ``most`` of those noted, and when each was last asked for."""
    rows = connection.execute(
        """SELECT player_id, asked_at FROM refreshes WHERE game_id = :game_id AND partner = :partner
           ORDER BY player_id LIMIT :most""",
        {"game_id": game_id, "partner": partner, "most": most},
    )
    return {row["player_id"]: row["asked_at"] for row in rows}


def told(tx: Connection, game_id: int, partner: str, told: dict[str, str]) -> None:
    """These are done, as :func:`waiting` gave them; one that has been asked for since then stays."""
    tx.executemany(
        """DELETE FROM refreshes WHERE game_id = :game_id AND partner = :partner AND player_id = :player_id
             AND asked_at = :asked_at""",
        [
            {"game_id": game_id, "partner": partner, "player_id": player_id, "asked_at": asked_at}
            for player_id, asked_at in told.items()
        ],
    )
