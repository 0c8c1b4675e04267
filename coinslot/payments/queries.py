"""Payments looked up by id, by time and by state. Nothing here changes any."""

from coinslot.games.registry import RESERVED_ID
from coinslot.store.db import Connection, Row


def find(connection: Connection, game_id: int, transaction_id: str) -> Row | None:
    """The payment with this id, with every column; None if there is none."""
    row: Row | None = connection.execute(
        "SELECT * FROM payments WHERE game_id = :game_id AND transaction_id = :transaction_id",
        {"game_id": game_id, "transaction_id": transaction_id},
    ).fetchone()
    return row


def parked(connection: Connection, game_id: int, after: int, limit: int) -> list[Row]:
    """Parked payments with an id above ``after``, in order; each has every column."""
    return connection.execute(
        """SELECT * FROM payments WHERE game_id = :game_id AND state = 'parked' AND id > :after
           ORDER BY id LIMIT :limit""",
        {"game_id": game_id, "after": after, "limit": limit},
    ).fetchall()


def oldest_polled(connection: Connection, game_id: int, from_at: str, to_at: str) -> str | None:
    """``purchased_at`` of the first polled payment in [from_at, to_at); None if there is none."""
    return _polled(connection, game_id, from_at, to_at, "ASC")


def newest_polled(connection: Connection, game_id: int, to_at: str) -> str | None:
    """``purchased_at`` of the last polled payment before ``to_at``; None if there is none."""
    return _polled(connection, game_id, "", to_at, "DESC")


def _polled(connection: Connection, game_id: int, from_at: str, to_at: str, order: str) -> str | None:
    row = connection.execute(
        f"""SELECT purchased_at FROM payments
            WHERE game_id = :game_id AND purchased_at >= :from_at AND purchased_at < :to_at AND source = 'poll'
            ORDER BY purchased_at {order} LIMIT 1""",  # noqa: S608  our own words only
        {"game_id": game_id, "from_at": from_at, "to_at": to_at},
    ).fetchone()
    return None if row is None else str(row["purchased_at"])


def paid_between(
    connection: Connection,
    game_id: int,
    from_at: str,
    to_at: str,
    after: tuple[str, int] | None,
    limit: int,
    *,
    is_sandbox: bool,
) -> list[Row]:
    """Payments that were not polled, paid in [from_at, to_at), in the order of time and id.

    ``after`` are the ``purchased_at`` and ``id`` of the last one read. Payments that lack a field or name a reserved id
    are left out, and those of the sandbox unless ``is_sandbox``. One that is parked only for its market is included.
    """
    at, last_id = after or (from_at, 0)
    return connection.execute(
        """SELECT * FROM payments
           WHERE game_id = :game_id AND purchased_at >= :at AND purchased_at < :to_at
             AND (purchased_at > :at OR id > :last_id)
             AND source <> 'poll' AND is_test <= :is_sandbox AND player_id <> :reserved AND product_id <> :reserved
             AND amount IS NOT NULL AND currency IS NOT NULL
           ORDER BY purchased_at, id LIMIT :limit""",
        {
            "game_id": game_id,
            "at": max(at, from_at),
            "to_at": to_at,
            "last_id": last_id if at >= from_at else 0,
            "is_sandbox": int(is_sandbox),
            "reserved": RESERVED_ID,
            "limit": limit,
        },
    ).fetchall()


def made_between(connection: Connection, game_id: int, after: tuple[str, int], to_at: str, limit: int) -> list[Row]:
    """Payments that are no tests, in the order of time and id, after the last one read and before ``to_at``."""
    return connection.execute(
        """SELECT id, transaction_id, purchased_at FROM payments
           WHERE game_id = :game_id AND purchased_at >= :at AND purchased_at < :to_at
             AND (purchased_at > :at OR id > :last_id) AND is_test = 0
           ORDER BY purchased_at, id LIMIT :limit""",
        {"game_id": game_id, "at": after[0], "last_id": after[1], "to_at": to_at, "limit": limit},
    ).fetchall()


def count_between(connection: Connection, game_id: int, from_at: str, to_at: str) -> int:
    """How many there are, tests included; for a progress bar."""
    (count,) = connection.execute(
        """SELECT count(*) FROM payments
           WHERE game_id = :game_id AND purchased_at >= :from_at AND purchased_at < :to_at""",
        {"game_id": game_id, "from_at": from_at, "to_at": to_at},
    ).fetchone()
    return int(count)


def kept(connection: Connection, game_id: int, source: str, limit: int, since_at: str = "") -> list[int]:
    """Ids of payments of a source that are only kept for the query API, and were paid from ``since_at`` on."""
    rows = connection.execute(
        """SELECT id FROM payments
           WHERE game_id = :game_id AND state = 'kept' AND reason IS NULL AND source = :source
             AND purchased_at >= :since_at
           ORDER BY id LIMIT :limit""",
        {"game_id": game_id, "since_at": since_at, "source": source, "limit": limit},
    )
    return [row["id"] for row in rows]
