"""All that is known of one transaction, or of one player: for the owner's pages, and for a dispute.

Nothing is computed here: these are rows of the ledger, of the outbox and of what partners reported, side by side. Each
list is bounded; rows beyond the bound are left out, and ``is_cut`` says so.
"""

import json
from dataclasses import dataclass
from itertools import product
from typing import Any

from coinslot.base.exact import is_whole
from coinslot.games.registry import LONGEST_ID
from coinslot.ledger import packing
from coinslot.ledger.search import KEY_KINDS
from coinslot.store import queries
from coinslot.store.db import Connection, Row

MOST_VALUES = 100  # texts of a body that are looked up as ids
MOST_ROWS = 200  # of each list
MOST_ATTEMPTS = 400
MOST_LINES = 5000
MOST_OF_PLAYER = 25  # transactions, and events, of one player at a time
_OF_ATTEMPT = ("started_at", "duration_ms", "status", "failure", "detail", "answer")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class History:
    """Some transactions and what became of them: ``grants``, with those that gave one back, each with its ``items``;
    ``deliveries``, each with its ``attempts``; ``requests`` for their refunds.
    """

    transactions: Rows
    grants: Rows
    refunds: Rows
    events: Rows
    conflicts: Rows
    deliveries: Rows
    requests: Rows


@dataclass(frozen=True)
class Dossier(History):
    """The same of one transaction. ``keys`` are its other ids; ``is_cut``: a list has reached its bound."""

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
        return self.transaction["raw_body"] is None and self.transaction["signature"] is None

    @property
    def is_body_deleted(self) -> bool:
        """Whether the body alone is gone, after the time that the game keeps it (coinslot/operations/retention.py)."""
        return self.transaction["raw_body"] is None and self.transaction["signature"] is not None


def of_transaction(connection: Connection, game_id: int, public_id: str) -> Dossier | None:
    """None when the game has no such transaction."""
    row = queries.row(
        connection,
        """SELECT t.*, g.acked_through, g.acked_at,
                  (SELECT json_object('public_id', b.public_id, 'game_id', b.game_id, 'row_hash', b.row_hash)
                   FROM transactions b WHERE b.id < t.id ORDER BY b.id DESC LIMIT 1) AS before,
                  (SELECT json_object('public_id', n.public_id, 'game_id', n.game_id, 'previous_hash', n.previous_hash)
                   FROM transactions n WHERE n.id > t.id ORDER BY n.id LIMIT 1) AS next
           FROM transactions t JOIN games g ON g.id = t.game_id
           WHERE t.public_id = :public_id AND t.game_id = :game_id""",
        {"public_id": public_id, "game_id": game_id},
    )
    if row is None:
        return None
    transaction = dict(row) | {
        "raw_body": packing.body(row["raw_body"]),
        "figures": packing.figures(row["figures"]),
    }
    for name in ("before", "next"):
        transaction[name] = json.loads(row[name]) if row[name] else None
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
        {**transaction, "most": MOST_ROWS, "ids": json.dumps(list(dict.fromkeys(known_by)))},
    )
    history = vars(_history(connection, [transaction], events))
    attempts = sum(len(each["attempts"]) or 1 for each in history["deliveries"])
    is_cut = attempts >= MOST_ATTEMPTS or any(len(each) >= MOST_ROWS for each in history.values())
    return Dossier(**history, transaction=transaction, keys=keys, is_cut=is_cut)


def row(connection: Connection, game_id: int, public_id: str) -> Row | None:
    """The row of the transaction alone; None when the game has no such transaction."""
    sql = "SELECT * FROM transactions WHERE public_id = :public_id AND game_id = :game_id"
    return queries.row(connection, sql, {"public_id": public_id, "game_id": game_id})


def of_player(connection: Connection, game_id: int, player_id: str, limit: int = MOST_OF_PLAYER) -> History:
    """The newest transactions and events of a player, and what became of the transactions."""
    transactions = _dicts(
        connection,
        """SELECT t.id, t.public_id, t.partner, t.reference, t.kind, t.player_id, t.currency, t.gross_minor, t.is_test,
                  t.signed_with, t.received_at, t.occurred_at, g.acked_through, g.acked_at
           FROM transactions t INDEXED BY transactions_by_player /* hint */ JOIN games g ON g.id = t.game_id
           WHERE t.game_id = :game_id AND t.player_id = :player_id ORDER BY t.id DESC LIMIT :limit""",
        {"game_id": game_id, "player_id": player_id, "limit": limit},
    )
    return _history(connection, transactions, events_of_player(connection, game_id, player_id, limit))


def events_of_player(connection: Connection, game_id: int, player_id: str, limit: int) -> Rows:
    """The newest events that name a player, such as logins and boosts."""
    return _dicts(
        connection,
        """SELECT id, partner, type, external_id, player_id, data, is_test, occurred_at, received_at
           FROM events INDEXED BY events_by_player /* hint */
           WHERE game_id = :game_id AND player_id = :player_id ORDER BY id DESC LIMIT :limit""",
        {"game_id": game_id, "player_id": player_id, "limit": limit},
    )


def _history(connection: Connection, transactions: Rows, events: Rows) -> History:
    values = {"ids": json.dumps([row["id"] for row in transactions]), "most": MOST_ROWS}
    grants = _grants(connection, values["ids"])
    refunds = _dicts(
        connection,
        """SELECT r.*, e.type AS event_type, e.received_at AS event_at
           FROM json_each(:ids) /* numbers */ i CROSS JOIN /* hint */ refunds r ON r.transaction_id = i.value
           LEFT JOIN events e ON e.id = r.event_id ORDER BY r.id LIMIT :most""",
        values,
    )
    conflicts = _dicts(
        connection,
        """SELECT c.* FROM json_each(:ids) /* numbers */ i
           CROSS JOIN /* hint */ conflicts c ON c.transaction_id = i.value
           ORDER BY c.id LIMIT :most""",
        values,
    )
    requests = _dicts(
        connection,
        """SELECT q.* FROM json_each(:ids) /* numbers */ i
           CROSS JOIN /* hint */ refund_requests q ON q.transaction_id = i.value
           ORDER BY q.id LIMIT :most""",
        values,
    )
    return History(transactions, grants, refunds, events, conflicts, _deliveries(connection, grants), requests)


def _keys(connection: Connection, transaction: dict[str, Any]) -> list[tuple[str, str]]:
    """The other ids of a transaction that its own body names. The search finds it by those of later reports, too."""
    try:
        body = json.loads(transaction["raw_body"] or b"")
    except (ValueError, RecursionError):
        body = None
    named = [str(each) for each in body.values() if isinstance(each, str | int)] if isinstance(body, dict) else []
    values = [each for each in dict.fromkeys(named) if len(each) <= LONGEST_ID and is_whole(each)][:MOST_VALUES]
    rows = connection.execute(
        """SELECT k.kind, k.value FROM json_each(:kinds) c CROSS JOIN json_each(:values) v
           CROSS JOIN /* hint */ transaction_keys k
               ON k.game_id = :game_id AND k.partner = :partner AND k.kind = c.value AND k.value = v.value
               AND k.transaction_id = :id""",
        {**transaction, "kinds": json.dumps(KEY_KINDS), "values": json.dumps(values)},
    )
    found = {(row["kind"], row["value"]) for row in rows}
    return [each for each in product(KEY_KINDS, values) if each in found]


def _grants(connection: Connection, transaction_ids: Any) -> Rows:
    """The grants of transactions, and those that gave one of them back after a dispute."""
    rows = connection.execute(
        """SELECT g.*, t.public_id AS transaction_public_id, e.sku, e.quantity, e.policy AS line_policy
           FROM grants g JOIN transactions t ON t.id = g.transaction_id LEFT JOIN entries e ON e.grant_id = g.id
           WHERE g.transaction_id IN (
               SELECT value FROM json_each(:ids) /* numbers */
               UNION SELECT x.transaction_id
               FROM json_each(:ids) /* numbers */ i CROSS JOIN /* hint */ refunds r ON r.transaction_id = i.value
               JOIN grants x ON x.id = r.grant_id)
           ORDER BY g.id, e.sku LIMIT :most""",
        {"ids": transaction_ids, "most": MOST_LINES},
    )
    grants: dict[int, dict[str, Any]] = {}
    for row in rows:
        whole = dict(row)
        line = {"sku": whole.pop("sku"), "quantity": whole.pop("quantity"), "policy": whole.pop("line_policy")}
        grant = grants.setdefault(row["id"], {**whole, "items": []})
        if line["sku"] is not None:
            grant["items"].append(line)
    return list(grants.values())


def _deliveries(connection: Connection, grants: Rows) -> Rows:
    rows = connection.execute(
        """SELECT d.id, d.webhook_id, d.event_type, d.grant_id, d.state, d.attempts_made, d.next_attempt_at,
                  d.dead_reason, d.created_at, d.finished_at, s.name AS destination,
                  s.state AS destination_state, s.circuit_open_since, a.id AS attempt_id,
                  a.started_at, a.duration_ms, a.status, a.failure, a.detail, a.answer
           FROM json_each(:ids) /* numbers */ i CROSS JOIN /* hint */ deliveries d ON d.grant_id = i.value
           JOIN destinations s ON s.id = d.destination_id LEFT JOIN attempts a ON a.delivery_id = d.id
           ORDER BY d.id, a.id LIMIT :most""",
        {"ids": json.dumps([grant["id"] for grant in grants]), "most": MOST_ATTEMPTS},
    )
    deliveries: dict[int, dict[str, Any]] = {}
    for row in rows:
        whole = dict(row)
        attempt = {name: whole.pop(name) for name in _OF_ATTEMPT}
        delivery = deliveries.setdefault(row["id"], {**whole, "attempts": []})
        if row["attempt_id"] is not None:
            delivery["attempts"].append(attempt)
    return list(deliveries.values())


def _dicts(connection: Connection, sql: str, values: dict[str, Any]) -> Rows:
    return [dict(row) for row in connection.execute(sql, values)]
