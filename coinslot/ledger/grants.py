"""What the game reads: grants in the order of their commits, each with its lines, and the sums of all lines."""

from collections.abc import Iterable, Mapping
from typing import Any

from coinslot.base import clock, request_ids
from coinslot.ledger import chain
from coinslot.store import queries
from coinslot.store.db import Connection, Row

# NULL AS items: the lines go there.
_READ = """SELECT g.id, t.public_id AS transaction_id, t.partner, t.reference AS external_id, g.kind, g.player_id,
                  NULL AS items, coalesce(g.reverses, g.restores) AS reverses, g.policy, g.is_test, g.created_at
           FROM grants g JOIN transactions t ON t.id = g.transaction_id"""


def insert(
    tx: Connection,
    grant_id: int,
    previous_hash: str,
    *,
    game_id: int,
    transaction_id: int,
    kind: str,
    player_id: str,
    lines: Iterable[tuple[str, int]],
    is_test: bool,
    reverses: int | None = None,
    restores: int | None = None,
    policy: str | None = None,
    reason: str | None = None,
    line_policies: Mapping[str, str] | None = None,
) -> None:
    """Add a grant and its lines. ``grant_id`` and ``previous_hash`` follow the last grant (:func:`next_up`).

    A reversal names the grant it ``reverses`` and its ``policy``; so does an adjustment, which ``restores`` what a
    reversal took. ``line_policies`` are those of the items with another policy.
    """
    tx.execute("UPDATE sequences SET last_id = :id WHERE name = 'grants'", {"id": grant_id})
    policies = line_policies or {}
    entries = [(sku, str(quantity), policies.get(sku)) for sku, quantity in lines]
    row = {
        "id": grant_id,
        "game_id": game_id,
        "transaction_id": transaction_id,
        "kind": kind,
        "player_id": player_id,
        "reverses": reverses,
        "restores": restores,
        "policy": policy,
        "reason": reason,
        "is_test": int(is_test),
        "created_at": clock.stamp(),
    }
    unhashed = {"request_id": request_ids.current(), "grant_hash": chain.grant_hash(previous_hash, row, entries)}
    queries.insert(tx, "grants", row | unhashed)
    tx.executemany(
        "INSERT INTO entries (grant_id, sku, quantity, policy) VALUES (:grant_id, :sku, :quantity, :policy)",
        [
            {"grant_id": grant_id, "sku": sku, "quantity": quantity, "policy": policy}
            for sku, quantity, policy in entries
        ],
    )


def next_up(tx: Connection) -> tuple[int, str]:
    """The id of the next grant, and the hash it follows."""
    row = tx.execute(
        """SELECT last_id + 1 AS id,
                  coalesce((SELECT grant_hash FROM grants ORDER BY id DESC LIMIT 1), :none) AS previous_hash
           FROM sequences WHERE name = 'grants'""",
        {"none": chain.NO_HASH},
    ).fetchone()
    return row["id"], row["previous_hash"]


def lines(connection: Connection, grant_id: int) -> dict[str, int]:
    """Item -> quantity of one grant."""
    rows = connection.execute("SELECT sku, quantity FROM entries WHERE grant_id = :id ORDER BY sku", {"id": grant_id})
    return {row["sku"]: int(row["quantity"]) for row in rows}


def policies(connection: Connection, grant_id: int) -> tuple[str | None, dict[str, str]]:
    """The policy of a grant, and item -> policy of the items with another one."""
    policy = queries.get(connection, "policy", "grants", id=grant_id)
    others = connection.execute(
        "SELECT sku, policy FROM entries WHERE grant_id = :id AND policy IS NOT NULL", {"id": grant_id}
    )
    return policy, {entry["sku"]: entry["policy"] for entry in others}


def feed(connection: Connection, game_id: int, after: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Grants with an id above ``after``, in order, as the game reads them; and whether there are more."""
    rows = connection.execute(
        f"{_READ} WHERE g.game_id = :game_id AND g.id > :after ORDER BY g.id LIMIT :limit",
        {"game_id": game_id, "after": after, "limit": limit + 1},
    ).fetchall()
    page = rows[:limit]
    entries: dict[int, list[Row]] = {row["id"]: [] for row in page}
    if page:
        found = connection.execute(
            """SELECT e.grant_id, e.sku, e.quantity, e.policy FROM entries e JOIN grants g ON g.id = e.grant_id
               WHERE g.game_id = :game_id AND g.id > :after AND g.id <= :last ORDER BY e.grant_id, e.sku""",
            {"game_id": game_id, "after": after, "last": page[-1]["id"]},
        )
        for entry in found:
            entries[entry["grant_id"]].append(entry)
    return [_as_read(row, entries[row["id"]]) for row in page], len(rows) > limit


def grant(connection: Connection, grant_id: int) -> dict[str, Any]:
    """One grant as the game reads it in the feed."""
    row = connection.execute(f"{_READ} WHERE g.id = :id", {"id": grant_id}).fetchone()
    entries = connection.execute(
        "SELECT sku, quantity, policy FROM entries WHERE grant_id = :id ORDER BY sku", {"id": grant_id}
    )
    return _as_read(row, entries)


def granted(connection: Connection, game_id: int, player_id: str) -> dict[str, int]:
    """The sum of a player's entries per item, without test traffic."""
    return granted_and_tested(connection, game_id, player_id)[0]


def granted_and_tested(connection: Connection, game_id: int, player_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """The same, and beside it the sums of the test traffic alone."""
    counted: dict[str, int] = {}
    tested: dict[str, int] = {}
    # Through the transactions, which have an index by player: another index over every entry would cost each credit
    # one more page to write.
    rows = connection.execute(
        """SELECT e.sku, e.quantity, g.is_test FROM transactions t
           JOIN grants g ON g.transaction_id = t.id JOIN entries e ON e.grant_id = g.id
           WHERE t.game_id = :game_id AND t.player_id = :player_id""",
        {"game_id": game_id, "player_id": player_id},
    )
    for row in rows:
        sums = tested if row["is_test"] else counted
        sums[row["sku"]] = sums.get(row["sku"], 0) + int(row["quantity"])
    return counted, tested


def _as_read(row: Row, entries: Iterable[Row]) -> dict[str, Any]:
    return {**dict(row), "is_test": bool(row["is_test"]), "items": [_line_as_read(entry) for entry in entries]}


def _line_as_read(entry: Row) -> dict[str, Any]:
    line = {"sku": entry["sku"], "quantity": int(entry["quantity"])}
    return line if entry["policy"] is None else {**line, "policy": entry["policy"]}
