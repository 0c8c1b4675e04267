"""Payments looked up, by id, by time and by state. Nothing here changes any."""

from collections.abc import Iterable

from coinslot.games.registry import RESERVED_ID
from coinslot.payments.parsing import Payment
from coinslot.store.db import Connection, Row


def find(connection: Connection, game_id: int, transaction_id: str) -> Row | None:
    """The payment with this id, with every column; None when there is none."""
    row: Row | None = connection.execute(
        "SELECT * FROM payments WHERE game_id = :game_id AND transaction_id = :transaction_id",
        {"game_id": game_id, "transaction_id": transaction_id},
    ).fetchone()
    return row


def parked(connection: Connection, game_id: int, after: int, limit: int, through: int | None = None) -> list[Row]:
    """Parked payments with an id above ``after``, in order; each has every column."""
    return connection.execute(
        """SELECT * FROM payments
           WHERE game_id = :game_id AND state = 'parked' AND id > :after
             AND (CAST(:through AS INTEGER) IS NULL OR id <= :through)
           ORDER BY id LIMIT :limit""",
        {"game_id": game_id, "after": after, "limit": limit, "through": through},
    ).fetchall()


def oldest_polled(connection: Connection, game_id: int, from_at: str, to_at: str) -> str | None:
    """When the first payment of [from_at, to_at) was paid that came out of the game's own API; None: there is none."""
    row = connection.execute(
        """SELECT purchased_at FROM payments
           WHERE game_id = :game_id AND purchased_at >= :from_at AND purchased_at < :to_at AND source = 'poll'
           ORDER BY purchased_at LIMIT 1""",
        {"game_id": game_id, "from_at": from_at, "to_at": to_at},
    ).fetchone()
    return None if row is None else str(row["purchased_at"])


def newest_polled(connection: Connection, game_id: int, to_at: str) -> str | None:
    """When the last payment before ``to_at`` was paid that came out of the game's own API; None: there is none."""
    row = connection.execute(
        """SELECT purchased_at FROM payments
           WHERE game_id = :game_id AND purchased_at < :to_at AND source = 'poll'
           ORDER BY purchased_at DESC LIMIT 1""",
        {"game_id": game_id, "to_at": to_at},
    ).fetchone()
    return None if row is None else str(row["purchased_at"])


def known(connection: Connection, game_id: int, found: Iterable[Payment]) -> list[Payment]:
    """Those of them that are stored already, under their transaction id."""
    return [each for each in found if find(connection, game_id, each.transaction_id) is not None]


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
    """Payments that were not polled, paid from ``from_at`` on and before ``to_at``, in the order of time and id.

    ``after`` are the ``purchased_at`` and ``id`` of the last one read. Left out is what lacks a field, what names a
    reserved id, and but for ``is_sandbox`` what is of a sandbox. One that is parked only because its market is not
    known here is there.
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
    """Payments that are no tests, in the order of time and id, after those of the last one read; before ``to_at``."""
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


def kept_orders(connection: Connection, game_id: int, source: str, since_at: str, limit: int) -> list[int]:
    """Ids of payments of a source that are only kept to be asked for, those paid from ``since_at`` on, oldest first."""
    rows = connection.execute(
        """SELECT id FROM payments
           WHERE game_id = :game_id AND purchased_at >= :since_at AND state = 'kept' AND reason IS NULL
             AND source = :source
           ORDER BY purchased_at, id LIMIT :limit""",
        {"game_id": game_id, "source": source, "since_at": since_at, "limit": limit},
    )
    return [row["id"] for row in rows]


def kept_pushes(connection: Connection, game_id: int, limit: int) -> list[int]:
    """The same of what the game has pushed, from whatever time."""
    rows = connection.execute(
        """SELECT id FROM payments
           WHERE game_id = :game_id AND state = 'kept' AND reason IS NULL AND source = 'push'
           ORDER BY id LIMIT :limit""",
        {"game_id": game_id, "limit": limit},
    )
    return [row["id"] for row in rows]
