"""The items of a game for its owner: listed, found, and removed where none was ever granted."""

from coinslot.games import registry
from coinslot.ledger.search import PAGE_ROWS, end_of
from coinslot.store import queries
from coinslot.store.db import Connection, Row

LOOKED_AT = 5000  # items that a search by name looks at
GRANTS_LOOKED_AT = 100  # of each listed item, since another game may grant an item of the same sku

_COLUMNS = """i.sku, i.name, i.created_at, i.updated_at, EXISTS (
    SELECT 1 FROM (SELECT e.grant_id FROM entries e WHERE e.sku = i.sku ORDER BY e.grant_id DESC LIMIT :looked) l
    JOIN grants g ON g.id = l.grant_id WHERE g.game_id = i.game_id) AS is_granted"""


def listed(
    connection: Connection, game_id: int, beginning: str = "", after: str = "", limit: int = PAGE_ROWS
) -> list[Row]:
    """Items whose sku begins so, in the order of the skus. ``is_granted``: one of the newest grants holds it."""
    return connection.execute(
        f"""SELECT {_COLUMNS} FROM items i
            WHERE i.game_id = :game_id AND i.sku > :after AND i.sku >= :beginning AND i.sku < :end
            ORDER BY i.sku LIMIT :limit""",  # noqa: S608  our own words only
        {
            "game_id": game_id,
            "after": after,
            "beginning": beginning,
            "end": end_of(beginning),
            "limit": limit,
            "looked": GRANTS_LOOKED_AT,
        },
    ).fetchall()


def named(connection: Connection, game_id: int, text: str, limit: int = PAGE_ROWS) -> list[Row]:
    """Items that have this text anywhere in their name or sku, in either case, among the first 5,000 by sku."""
    return connection.execute(
        f"""SELECT {_COLUMNS}
            FROM (SELECT * FROM items WHERE game_id = :game_id ORDER BY sku LIMIT :most) i
            WHERE instr(lower(i.sku), lower(:text)) > 0 OR instr(lower(coalesce(i.name, '')), lower(:text)) > 0
            ORDER BY i.sku LIMIT :limit""",  # noqa: S608  our own words only
        {"game_id": game_id, "text": text, "limit": limit, "most": LOOKED_AT, "looked": GRANTS_LOOKED_AT},
    ).fetchall()


def last_grant(connection: Connection) -> int:
    """The id of the newest grant of any game; 0 before the first."""
    return int(queries.value(connection, "SELECT coalesce(max(id), 0) FROM grants", {}))


def is_granted(connection: Connection, game_id: int, sku: str, above: int = 0) -> bool:
    """Whether a grant of the game with an id above this one holds the item, tests included."""
    return (
        queries.row(
            connection,
            """SELECT 1 FROM entries e JOIN grants g ON g.id = e.grant_id
               WHERE e.sku = :sku AND e.grant_id > :above AND g.game_id = :game_id LIMIT 1""",
            {"game_id": game_id, "sku": sku, "above": above},
        )
        is not None
    )


def remove(tx: Connection, game_id: int, sku: str, looked_through: int) -> bool:
    """Remove an item that was never granted; returns whether it was there.

    ``looked_through``: none of the grants up to this id holds it. The caller has looked that up before the write, since
    a sku of other games may have very many grants. Raises :class:`registry.RegistryError` where one was granted since.
    """
    if is_granted(tx, game_id, sku, looked_through):
        raise registry.RegistryError(GRANTED)
    return registry.delete_item(tx, game_id, sku)


GRANTED = "It was granted to players, so it stays. To stop selling it, take it out of the partner's catalogue."
