"""Everything that is known of one transaction, or of one player: for the owner's pages, and for a dispute.

Nothing here is computed twice: these are the rows of the ledger, of the outbox and of what partners said, side by side.
Each list is bounded; what is beyond the bound is left out and said to be.
"""

import json
from dataclasses import dataclass
from typing import Any

from coinslot.games.registry import LONGEST_ID
from coinslot.ledger.search import KEY_KINDS
from coinslot.store.db import Connection, Row

MOST_VALUES = 100  # of a body, that may be ids
MOST_ROWS = 200  # of each list
MOST_ATTEMPTS = 400
MOST_LINES = 5000
MOST_OF_PLAYER = 25  # transactions, and events, of one player at a time
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class History:
    """Some transactions and what became of them. ``grants`` includes those of the adjustments that gave one back, each
    with its ``items``; ``deliveries`` each with its ``attempts``."""

    transactions: Rows
    grants: Rows
    refunds: Rows
    events: Rows
    conflicts: Rows
    deliveries: Rows


@dataclass(frozen=True)
class Dossier(History):
    """The same of one transaction; ``keys`` are other ids it is known by."""

    transaction: dict[str, Any]
    keys: list[tuple[str, str]]
    is_cut: bool

    @property
    def state(self) -> str:
        newest = max(self.grants, key=lambda grant: int(grant["id"]), default=None)
        if newest is not None and newest["kind"] == "reversal":
            return "reversed"
        return "restored" if any(row["outcome"] == "restored" for row in self.refunds) else "credited"

    @property
    def is_forgotten(self) -> bool:
        return self.transaction["raw_body"] is None


def of_transaction(connection: Connection, game_id: int, public_id: str) -> Dossier | None:
    """None when the game has no such transaction."""
    row = connection.execute(
        """SELECT t.*, g.acked_through, g.acked_at,
                  (SELECT json_object('public_id', b.public_id, 'game_id', b.game_id, 'row_hash', b.row_hash)
                   FROM transactions b WHERE b.id < t.id ORDER BY b.id DESC LIMIT 1) AS before,
                  (SELECT json_object('public_id', n.public_id, 'game_id', n.game_id, 'previous_hash', n.previous_hash)
                   FROM transactions n WHERE n.id > t.id ORDER BY n.id LIMIT 1) AS next
           FROM transactions t JOIN games g ON g.id = t.game_id
           WHERE t.public_id = :public_id AND t.game_id = :game_id""",
        {"public_id": public_id, "game_id": game_id},
    ).fetchone()
    if row is None:
        return None
    transaction = dict(row)
    transaction["before"] = json.loads(row["before"]) if row["before"] else None
    transaction["next"] = json.loads(row["next"]) if row["next"] else None
    key = {"id": row["id"], "game_id": game_id, "partner": row["partner"], "most": MOST_ROWS}
    ids = json.dumps([row["id"]])
    grants, refunds, conflicts = _grants(connection, ids), _refunds(connection, ids), _conflicts(connection, ids)
    keys = _keys(connection, transaction)
    known_by = [row["external_id"], row["reference"], *(value for kind, value in keys if kind != "signature")]
    events = _dicts(
        connection,
        """SELECT e.id, e.type, e.external_id, e.player_id, e.data, e.is_test, e.occurred_at, e.received_at,
                  e.raw_body IS NOT NULL AS has_body
           FROM events e WHERE e.id IN (
               SELECT x.id FROM json_each(:ids) i CROSS JOIN /* hint */ events x
                   ON x.game_id = :game_id AND x.partner = :partner AND x.external_id = i.value
               UNION SELECT event_id FROM refunds WHERE transaction_id = :id AND event_id IS NOT NULL)
           ORDER BY e.id LIMIT :most""",
        {**key, "ids": json.dumps(list(dict.fromkeys(known_by)))},
    )
    deliveries = _deliveries(connection, grants)
    lists = (grants, refunds, events, conflicts, deliveries)
    return Dossier(
        transactions=[transaction],
        grants=grants,
        refunds=refunds,
        events=events,
        conflicts=conflicts,
        deliveries=deliveries,
        transaction=transaction,
        keys=keys,
        is_cut=any(len(each) >= MOST_ROWS for each in lists)
        or sum(len(each["attempts"]) or 1 for each in deliveries) >= MOST_ATTEMPTS,
    )


def row(connection: Connection, game_id: int, public_id: str) -> Row | None:
    """The transaction alone, for whoever is about to change something about it."""
    found: Row | None = connection.execute(
        "SELECT * FROM transactions WHERE public_id = :public_id AND game_id = :game_id",
        {"public_id": public_id, "game_id": game_id},
    ).fetchone()
    return found


def figures(text: str) -> dict[str, str]:
    """The partner's money figures, name -> digits as they came."""
    return {str(name): str(value) for name, value in json.loads(text).items()}


def of_player(connection: Connection, game_id: int, player_id: str, limit: int = MOST_OF_PLAYER) -> "History":
    """What happened to a player of late: the newest transactions and events, and all that became of the former."""
    transactions = _dicts(
        connection,
        """SELECT t.id, t.public_id, t.partner, t.reference, t.kind, t.player_id, t.currency, t.gross_minor, t.is_test,
                  t.signed_with, t.received_at, t.occurred_at, g.acked_through, g.acked_at
           FROM transactions t INDEXED BY transactions_by_player /* hint */ JOIN games g ON g.id = t.game_id
           WHERE t.game_id = :game_id AND t.player_id = :player_id ORDER BY t.id DESC LIMIT :limit""",
        {"game_id": game_id, "player_id": player_id, "limit": limit},
    )
    events = events_of_player(connection, game_id, player_id, limit)
    ids = json.dumps([row["id"] for row in transactions])
    grants = _grants(connection, ids)
    return History(
        transactions,
        grants,
        _refunds(connection, ids),
        events,
        _conflicts(connection, ids),
        _deliveries(connection, grants),
    )


def events_of_player(connection: Connection, game_id: int, player_id: str, limit: int) -> Rows:
    """The newest events that name a player: logins, boosts, what the store reported."""
    return _dicts(
        connection,
        """SELECT id, partner, type, external_id, player_id, data, is_test, occurred_at, received_at
           FROM events INDEXED BY events_by_player /* hint */
           WHERE game_id = :game_id AND player_id = :player_id ORDER BY id DESC LIMIT :limit""",
        {"game_id": game_id, "player_id": player_id, "limit": limit},
    )


def _keys(connection: Connection, transaction: dict[str, Any]) -> list[tuple[str, str]]:
    """The other ids a transaction is known by, as far as its own body names them: what a later report brought is found
    by searching for it, and not from here."""
    try:
        body = json.loads(transaction["raw_body"] or b"")
    except (ValueError, RecursionError):
        body = None
    values = [str(each) for each in body.values() if isinstance(each, str | int)] if isinstance(body, dict) else []
    rows = connection.execute(
        """SELECT k.kind, k.value FROM json_each(:kinds) c CROSS JOIN json_each(:values) v
           CROSS JOIN /* hint */ transaction_keys k
               ON k.game_id = :game_id AND k.partner = :partner AND k.kind = c.value AND k.value = v.value
               AND k.transaction_id = :id""",
        {
            "kinds": json.dumps(KEY_KINDS),
            "values": json.dumps([each for each in dict.fromkeys(values) if len(each) <= LONGEST_ID][:MOST_VALUES]),
            "game_id": transaction["game_id"],
            "partner": transaction["partner"],
            "id": transaction["id"],
        },
    )
    return [(row["kind"], row["value"]) for row in rows]


def _grants(connection: Connection, transaction_ids: str) -> Rows:
    """The grants of transactions, and those that gave one of them back after a dispute."""
    rows = connection.execute(
        """SELECT g.*, t.public_id AS transaction_public_id, e.sku, e.quantity, e.policy AS line_policy
           FROM grants g JOIN transactions t ON t.id = g.transaction_id LEFT JOIN entries e ON e.grant_id = g.id
           WHERE g.transaction_id IN (
               SELECT value FROM json_each(:ids)
               UNION SELECT x.transaction_id
               FROM json_each(:ids) i CROSS JOIN /* hint */ refunds r ON r.transaction_id = i.value
               JOIN grants x ON x.id = r.grant_id)
           ORDER BY g.id, e.sku LIMIT :most""",
        {"ids": transaction_ids, "most": MOST_LINES},
    )
    grants: dict[int, dict[str, Any]] = {}
    for row in rows:
        grant = grants.setdefault(row["id"], {**dict(row), "items": []})
        for name in ("sku", "quantity", "line_policy"):
            grant.pop(name, None)
        if row["sku"] is not None:
            grant["items"].append({"sku": row["sku"], "quantity": row["quantity"], "policy": row["line_policy"]})
    return list(grants.values())


def _refunds(connection: Connection, transaction_ids: str) -> Rows:
    return _dicts(
        connection,
        """SELECT r.*, e.type AS event_type, e.received_at AS event_at
           FROM json_each(:ids) i CROSS JOIN /* hint */ refunds r ON r.transaction_id = i.value
           LEFT JOIN events e ON e.id = r.event_id ORDER BY r.id LIMIT :most""",
        {"ids": transaction_ids, "most": MOST_ROWS},
    )


def _conflicts(connection: Connection, transaction_ids: str) -> Rows:
    return _dicts(
        connection,
        """SELECT c.* FROM json_each(:ids) i CROSS JOIN /* hint */ conflicts c ON c.transaction_id = i.value
           ORDER BY c.id LIMIT :most""",
        {"ids": transaction_ids, "most": MOST_ROWS},
    )


def _deliveries(connection: Connection, grants: Rows) -> Rows:
    rows = connection.execute(
        """SELECT d.id, d.webhook_id, d.event_type, d.grant_id, d.state, d.attempts_made, d.next_attempt_at,
                  d.dead_reason, d.created_at, d.finished_at, s.name AS destination, a.id AS attempt_id,
                  a.started_at, a.duration_ms, a.status, a.failure, a.detail, a.answer
           FROM json_each(:ids) i CROSS JOIN /* hint */ deliveries d ON d.grant_id = i.value
           JOIN destinations s ON s.id = d.destination_id LEFT JOIN attempts a ON a.delivery_id = d.id
           ORDER BY d.id, a.id LIMIT :most""",
        {"ids": json.dumps([grant["id"] for grant in grants]), "most": MOST_ATTEMPTS},
    )
    of_attempt = ("started_at", "duration_ms", "status", "failure", "detail", "answer")
    deliveries: dict[int, dict[str, Any]] = {}
    for row in rows:
        known = {name: row[name] for name in row.keys() if name not in (*of_attempt, "attempt_id")}  # noqa: SIM118
        delivery = deliveries.setdefault(row["id"], {**known, "attempts": []})
        if row["attempt_id"] is not None:
            delivery["attempts"].append({name: row[name] for name in of_attempt})
    return list(deliveries.values())


def _dicts(connection: Connection, sql: str, values: dict[str, Any]) -> Rows:
    return [dict(row) for row in connection.execute(sql, values)]
