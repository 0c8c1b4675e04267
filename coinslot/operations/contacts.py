"""Contacts: for each address of ours, whether its partner has it, and when calls there were last proved or refused.

An address is named by the partner's own word for it (``orders``, ``credit``, ``webhook``, ...).
"""

from typing import Any

from coinslot.base import clock
from coinslot.games.registry import RESERVED_ID
from coinslot.operations import pauses, silence
from coinslot.store.db import Connection, Row
from coinslot.store.queries import insert, row

LOOKED_BACK = 500  # newest transactions, among which the newest that is not simulated is looked for


def proved(tx: Connection, game_id: int, partner: str, endpoint: str, calls: int = 1) -> None:
    """Calls there have proved themselves; from the pause before them is learned what is usual there."""
    now = clock.now()
    known = row(
        tx,
        """SELECT proved_at, usual_pause_seconds, silent_from FROM contacts
           WHERE game_id = :game_id AND partner = :partner AND endpoint = :endpoint""",
        {"game_id": game_id, "partner": partner, "endpoint": endpoint},
    )
    before = None if known is None else known["proved_at"]
    pause = 0.0 if before is None else now - clock.seconds(before)
    is_longer = pauses.note(tx, game_id, partner, endpoint, pause, calls)
    if known is None or before is None or known["silent_from"] is None or is_longer:
        limits = silence.limits(pauses.days(tx, game_id, partner, endpoint), pauses.today())
    else:
        limits = (known["usual_pause_seconds"], clock.seconds(known["silent_from"]) - clock.seconds(before))
    columns: dict[str, Any] = {"first_at": clock.stamp(now), "proved_at": clock.stamp(now)} | {
        "usual_pause_seconds": None if limits is None else round(limits[0]),
        "silent_from": None if limits is None else clock.stamp(now + limits[1]),
    }
    changes = [f"{name} = excluded.{name}" for name in columns if name != "first_at"]
    first = "first_at = coalesce(contacts.first_at, excluded.first_at)"
    _note(tx, game_id, partner, endpoint, columns, ", ".join([first, *changes]))


def refused(tx: Connection, game_id: int, partner: str, endpoint: str, reason: str) -> None:
    """A call there was refused, whether or not it had proved itself."""
    change = "refused_at = excluded.refused_at, refused_reason = excluded.refused_reason"
    _note(tx, game_id, partner, endpoint, {"refused_at": clock.stamp(), "refused_reason": reason}, change)


def copied(tx: Connection, game_id: int, partner: str, endpoint: str) -> None:
    """The owner says that the address is pasted into the partner's dashboard."""
    _note(tx, game_id, partner, endpoint, {"copied_at": clock.stamp()}, "copied_at = excluded.copied_at")


def _note(tx: Connection, game_id: int, partner: str, endpoint: str, columns: dict[str, Any], change: str) -> None:
    where = {"game_id": game_id, "partner": partner, "endpoint": endpoint}
    insert(tx, "contacts", where | columns, f"ON CONFLICT (game_id, partner, endpoint) DO UPDATE SET {change}")


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
    return {(each["partner"], each["endpoint"]): each for each in rows}


def of_all(connection: Connection) -> list[Row]:
    """The rows of every address of every game."""
    return connection.execute("SELECT * FROM contacts ORDER BY game_id, partner, endpoint").fetchall()


def newest_credit(connection: Connection, game_id: int, partner: str) -> Row | None:
    """The partner's newest transaction without our own simulations: ``public_id``, ``received_at``, ``grant_id``.

    ``delivered_at`` is when it last arrived at a destination, NULL when it has not.
    """
    return row(
        connection,
        """SELECT t.public_id, t.received_at, g.id AS grant_id,
                  (SELECT max(d.finished_at) FROM deliveries d WHERE d.grant_id = g.id AND d.state = 'delivered')
                  AS delivered_at
           FROM (SELECT id, public_id, player_id, received_at FROM transactions
                 WHERE game_id = :game_id AND partner = :partner ORDER BY id DESC LIMIT :looked_back) t
           JOIN grants g ON g.transaction_id = t.id AND g.reverses IS NULL AND g.restores IS NULL
           WHERE t.player_id <> :simulated ORDER BY t.id DESC LIMIT 1""",
        {"game_id": game_id, "partner": partner, "simulated": RESERVED_ID, "looked_back": LOOKED_BACK},
    )


def acknowledged(connection: Connection, game_id: int) -> Row:
    """How far the game says it has come: ``acked_through`` and ``acked_at``, NULL when it never said so."""
    query = "SELECT acked_through, acked_at FROM games WHERE id = :game_id"
    found: Row = connection.execute(query, {"game_id": game_id}).fetchone()
    return found
