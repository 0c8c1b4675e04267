"""What is known of each address of ours: whether its partner has it, and how the last calls there went.

The addresses are the partners' own words for them (``orders``, ``credit``, ``webhook``, ...).
"""

from coinslot.base import clock
from coinslot.games.registry import RESERVED_ID
from coinslot.store.db import Connection, Row

LOOKED_BACK = 500  # transactions among which the newest is looked for that is no simulation's


def proved(tx: Connection, game_id: int, partner: str, endpoint: str) -> None:
    """A call there has proved itself."""
    tx.execute(
        """INSERT INTO contacts (game_id, partner, endpoint, first_at, proved_at)
           VALUES (:game_id, :partner, :endpoint, :now, :now)
           ON CONFLICT (game_id, partner, endpoint)
           DO UPDATE SET first_at = coalesce(contacts.first_at, excluded.first_at), proved_at = excluded.proved_at""",
        {"game_id": game_id, "partner": partner, "endpoint": endpoint, "now": clock.stamp()},
    )


def refused(tx: Connection, game_id: int, partner: str, endpoint: str, reason: str) -> None:
    """A call there was refused, whether or not it had proved itself."""
    tx.execute(
        """INSERT INTO contacts (game_id, partner, endpoint, refused_at, refused_reason)
           VALUES (:game_id, :partner, :endpoint, :now, :reason)
           ON CONFLICT (game_id, partner, endpoint)
           DO UPDATE SET refused_at = excluded.refused_at, refused_reason = excluded.refused_reason""",
        {"game_id": game_id, "partner": partner, "endpoint": endpoint, "reason": reason, "now": clock.stamp()},
    )


def copied(tx: Connection, game_id: int, partner: str, endpoint: str) -> None:
    """The owner says that the address is pasted into the partner's dashboard."""
    tx.execute(
        """INSERT INTO contacts (game_id, partner, endpoint, copied_at) VALUES (:game_id, :partner, :endpoint, :now)
           ON CONFLICT (game_id, partner, endpoint) DO UPDATE SET copied_at = excluded.copied_at""",
        {"game_id": game_id, "partner": partner, "endpoint": endpoint, "now": clock.stamp()},
    )


def not_copied(tx: Connection, game_id: int, partner: str, endpoint: str) -> None:
    """The owner takes that back."""
    tx.execute(
        """UPDATE contacts SET copied_at = NULL
           WHERE game_id = :game_id AND partner = :partner AND endpoint = :endpoint""",
        {"game_id": game_id, "partner": partner, "endpoint": endpoint},
    )


def of_game(connection: Connection, game_id: int) -> dict[tuple[str, str], Row]:
    """(partner, endpoint) -> its row; absent: nothing is known."""
    rows = connection.execute("SELECT * FROM contacts WHERE game_id = :game_id", {"game_id": game_id})
    return {(row["partner"], row["endpoint"]): row for row in rows}


def of_all(connection: Connection) -> list[Row]:
    """What is known of every address of every game."""
    return connection.execute("SELECT * FROM contacts ORDER BY game_id, partner, endpoint").fetchall()


def newest_credit(connection: Connection, game_id: int, partner: str) -> Row | None:
    """The partner's newest transaction, our own simulations left out; whether its game has it, and since when.

    ``grant_id`` is that of the feed; ``delivered_at`` the last arrival at a destination, NULL when there was none.
    """
    row: Row | None = connection.execute(
        """SELECT t.public_id, t.received_at, g.id AS grant_id,
                  (SELECT max(d.finished_at) FROM deliveries d WHERE d.grant_id = g.id AND d.state = 'delivered')
                  AS delivered_at
           FROM (SELECT id, public_id, player_id, received_at FROM transactions
                 WHERE game_id = :game_id AND partner = :partner ORDER BY id DESC LIMIT :looked_back) t
           JOIN grants g ON g.transaction_id = t.id AND g.reverses IS NULL AND g.restores IS NULL
           WHERE t.player_id <> :simulated ORDER BY t.id DESC LIMIT 1""",
        {"game_id": game_id, "partner": partner, "simulated": RESERVED_ID, "looked_back": LOOKED_BACK},
    ).fetchone()
    return row


def acknowledged(connection: Connection, game_id: int) -> Row:
    """How far the game says it has come: ``acked_through`` and ``acked_at``, NULL when it never said so."""
    row: Row = connection.execute(
        "SELECT acked_through, acked_at FROM games WHERE id = :game_id", {"game_id": game_id}
    ).fetchone()
    return row
