"""Boosts: which creator a player supports, one per player and campaign, as the newest event says.

Events come late and in any order. Their own time decides: an older event changes nothing, and of two with the same time
the later call wins, since the two halves of a change come one after the other.
"""

import json
from dataclasses import dataclass
from typing import Any

from coinslot.store.db import Connection

LATEST_EVENTS = 200  # of a player, in which to look for what came later than a beginning


@dataclass(frozen=True)
class Boost:
    """A player's support for a creator, which begins or ends at ``changed_at``. ``campaign_id`` is empty for none."""

    game_id: int
    player_id: str
    campaign_id: str
    creator_key: str
    is_test: bool
    changed_at: str


def begin(tx: Connection, boost: Boost) -> None:
    """The player supports this creator, and no other in the campaign.

    An event that came before may be later: then this boost has ended already, or another one has begun. The end of
    another creator's boost does not count, since the halves of a change may be some milliseconds apart.
    """
    ended_at, is_replaced = _find_later(tx, boost)
    if is_replaced:
        return
    tx.execute(
        """INSERT INTO boosts (game_id, player_id, campaign_id, is_test, creator_key, changed_at)
           VALUES (:game_id, :player_id, :campaign_id, :is_test, :supported, :since)
           ON CONFLICT (game_id, player_id, campaign_id, is_test)
           DO UPDATE SET creator_key = excluded.creator_key, changed_at = excluded.changed_at
           WHERE boosts.changed_at <= :changed_at OR boosts.creator_key IS NULL""",
        {**vars(boost), "supported": None if ended_at else boost.creator_key, "since": ended_at or boost.changed_at},
    )


def end(tx: Connection, boost: Boost) -> None:
    """The player no longer supports this creator. Support for another one stays as it is."""
    tx.execute(
        """INSERT INTO boosts (game_id, player_id, campaign_id, is_test, creator_key, changed_at)
           VALUES (:game_id, :player_id, :campaign_id, :is_test, NULL, :changed_at)
           ON CONFLICT (game_id, player_id, campaign_id, is_test)
           DO UPDATE SET creator_key = NULL, changed_at = excluded.changed_at
           WHERE boosts.changed_at <= excluded.changed_at
             AND (boosts.creator_key IS NULL OR boosts.creator_key = :creator_key)""",
        vars(boost),
    )


def current(connection: Connection, game_id: int, player_id: str) -> list[dict[str, Any]]:
    """The player's boosts: ``campaign_id`` (None: none was named), ``creator_key``, ``since``, ``is_test``."""
    rows = connection.execute(
        """SELECT nullif(campaign_id, '') AS campaign_id, creator_key, changed_at AS since, is_test FROM boosts
           WHERE game_id = :game_id AND player_id = :player_id AND creator_key IS NOT NULL
           ORDER BY boosts.campaign_id, is_test""",
        {"game_id": game_id, "player_id": player_id},
    )
    return [{**dict(row), "is_test": bool(row["is_test"])} for row in rows]


def _find_later(tx: Connection, boost: Boost) -> tuple[str | None, bool]:
    """When this boost ended, if its end came before its beginning (no row was there to end); and whether another boost
    of the campaign has begun since.
    """
    rows = tx.execute(
        """SELECT type, data, occurred_at FROM (
               SELECT type, is_test, data, occurred_at FROM events
               WHERE game_id = :game_id AND player_id = :player_id ORDER BY id DESC LIMIT :most) latest
           WHERE type IN ('sponsor.created', 'sponsor.ended') AND is_test = :is_test AND occurred_at > :changed_at
           ORDER BY occurred_at DESC""",
        {**vars(boost), "most": LATEST_EVENTS},
    )
    ended_at: str | None = None
    for row in rows:
        data = json.loads(row["data"])
        creator_key = data.get("creator_key")
        if creator_key is None or (data.get("campaign_id") or "") != boost.campaign_id:
            continue
        if row["type"] == "sponsor.created":
            return ended_at, True
        if ended_at is None and creator_key == boost.creator_key:
            ended_at = str(row["occurred_at"])
    return ended_at, False
