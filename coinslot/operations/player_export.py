"""Everything that is kept about one player, as one JSON document: for the player's own right to it.

It is made piece by piece, so a player with a hundred thousand orders needs no more memory than one with ten. What names
the player in a column is in it, with what hangs on it; a refused call that proved nothing is in it where a field for a
player holds the id. Left out are proofs (signatures, the password's hash) and what only serves to find the player.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from coinslot.access.vault import Vault
from coinslot.base import clock
from coinslot.games import registry
from coinslot.ledger import boosts, packing
from coinslot.operations import refusals
from coinslot.operations.forgetting import words_of_call
from coinslot.store import queries
from coinslot.store.db import Connection, Database, Row

ROWS_AT_ONCE = 100
_OF_PLAYER = re.compile("player|user|usn", re.IGNORECASE)  # names of fields that hold a player's id

Rows = list[dict[str, Any]]


def is_known(connection: Connection, game_id: int, player_id: str) -> bool:
    """Whether anything is kept that names the player in a column."""
    return (
        queries.row(
            connection,
            """SELECT 1 WHERE EXISTS (SELECT 1 FROM players WHERE game_id = :game_id AND player_id = :player_id)
                   OR EXISTS (SELECT 1 FROM transactions WHERE game_id = :game_id AND player_id = :player_id)
                   OR EXISTS (SELECT 1 FROM events WHERE game_id = :game_id AND player_id = :player_id)
                   OR EXISTS (SELECT 1 FROM payments WHERE game_id = :game_id AND player_id = :player_id)
                   OR EXISTS (SELECT 1 FROM boosts WHERE game_id = :game_id AND player_id = :player_id)
                   OR EXISTS (SELECT 1 FROM refusals WHERE game_id = :game_id AND player_id = :player_id)""",
            {"game_id": game_id, "player_id": player_id},
        )
        is not None
    )


def export(database: Database, vault: Vault, game_id: int, slug: str, player_id: str) -> Iterator[bytes]:
    """The document in pieces. What happens while it is made may or may not be in it."""
    connection = database.read()
    head = {
        "game": slug,
        "player_id": player_id,
        "exported_at": clock.stamp(),
        "registry": _registry(connection, game_id, player_id),
        "logins": _rows(
            connection,
            """SELECT partner, kind, created_at, expires_at, used_at FROM logins
               WHERE game_id = :game_id AND player_id = :player_id ORDER BY id""",
            {"game_id": game_id, "player_id": player_id},
        ),
        "boosts": [dict(row) for row in boosts.current(connection, game_id, player_id)],
    }
    yield _json(head)[:-1]
    key = {"game_id": game_id, "player_id": player_id}
    for name, rows in (
        ("transactions", _transactions(connection, key)),
        ("conflicts", _pages(connection, _CONFLICTS, key, _with_body)),
        ("events", _pages(connection, _EVENTS, key, _with_events_more)),
        ("payments", _pages(connection, _PAYMENTS, key, _with_payment_conflicts)),
        ("refused_calls", _refused(connection, vault, key)),
    ):
        yield b',\n"%s": [' % name.encode()
        before = b"\n"
        for row in rows:
            yield before + _json(row)
            before = b",\n"
        yield b"]"
    yield b"}\n"


def _registry(connection: Connection, game_id: int, player_id: str) -> dict[str, Any] | None:
    entry = registry.player(connection, game_id, player_id)
    if entry is None:
        return None
    plain = ("name", "profile_image", "country", "login_name", "identities", "profile", "created_at", "updated_at")
    return {**{name: entry[name] for name in plain}, "has_password": entry["password_hash"] is not None}


_TRANSACTIONS = """SELECT id, public_id AS transaction_id, partner, external_id, reference, kind, currency, gross_minor,
                          subtotal_minor, tax_minor, usd_gross, usd_tax, usd_fee, usd_net, usd_unit, figures,
                          session_metadata, raw_body, environment, is_test, occurred_at, received_at,
                          signature IS NOT NULL AS is_signed
                   FROM transactions
                   WHERE game_id = :game_id AND player_id = :player_id AND id > :after ORDER BY id LIMIT :limit"""
_CONFLICTS = """SELECT c.id, c.partner, c.external_id, t.public_id AS transaction_id, c.raw_body, c.seen, c.first_at,
                       c.last_at
                FROM conflicts c JOIN transactions t ON t.id = c.transaction_id
                WHERE c.game_id = :game_id AND c.id > :after AND c.player_id = :player_id AND t.player_id <> :player_id
                ORDER BY c.id LIMIT :limit"""
_EVENTS = """SELECT id, partner, type, external_id, data, raw_body, environment, is_test, occurred_at, received_at
             FROM events
             WHERE game_id = :game_id AND player_id = :player_id AND id > :after ORDER BY id LIMIT :limit"""
_PAYMENTS = """SELECT id, transaction_id, source, product_id, product_name, amount, currency, market, platform,
                      distribution_type, purchased_at, reported, is_test, refunded_at, state, reason, registered_at,
                      refund_state, created_at, updated_at
               FROM payments
               WHERE game_id = :game_id AND player_id = :player_id AND id > :after ORDER BY id LIMIT :limit"""
_REFUSALS = """SELECT * FROM refusals
               WHERE game_id = :game_id AND player_id = :player_id AND id > :after ORDER BY id LIMIT :limit"""
_RING = "SELECT * FROM refusals WHERE game_id = :game_id AND state IS NULL AND id > :after ORDER BY id LIMIT :limit"


def _pages(
    connection: Connection,
    query: str,
    key: Mapping[str, Any],
    complete: Callable[[Connection, Mapping[str, Any], Rows], None],
) -> Iterator[dict[str, Any]]:
    """The rows of a query, some at a time, each ready to be written. ``complete`` adds what hangs on them."""
    after = 0
    while rows := _rows(connection, query, {**key, "after": after, "limit": ROWS_AT_ONCE}):
        after = rows[-1]["id"]
        complete(connection, key, rows)
        for row in rows:
            del row["id"]
            yield row


def _transactions(connection: Connection, key: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    return _pages(connection, _TRANSACTIONS, key, _with_grants)


def _with_grants(connection: Connection, key: Mapping[str, Any], rows: Rows) -> None:
    """Add to transactions their grants with items and deliveries, refunds and requests for them, conflicts, and events
    about the order.
    """
    values = {**key, "ids": json.dumps([row["id"] for row in rows])}
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        row |= {"grants": [], "refunds": [], "refund_requests": [], "conflicts": [], "events": []}
        row["figures"] = packing.figures(row["figures"])
        row["raw_body"] = packing.body(row["raw_body"])
        is_deleted = row.pop("is_signed") and row["raw_body"] is None
        _read_body(row)
        if is_deleted:
            row["body_note"] = "The body was older than this game keeps bodies, and is deleted."
    grants: dict[int, dict[str, Any]] = {}
    for row in _rows(
        connection,
        """SELECT g.transaction_id, g.id, g.kind, g.reverses, g.restores, g.policy, g.reason, g.is_test, g.created_at,
                  e.sku, e.quantity
           FROM json_each(:ids) /* numbers */ i CROSS JOIN /* hint */ grants g ON g.transaction_id = i.value
           LEFT JOIN entries e ON e.grant_id = g.id ORDER BY g.id, e.sku""",
        values,
    ):
        sku, quantity, of = row.pop("sku"), row.pop("quantity"), row.pop("transaction_id")
        if row["id"] not in grants:
            grants[row["id"]] = {**row, "items": [], "deliveries": []}
            by_id[of]["grants"].append(grants[row["id"]])
        if sku is not None:
            grants[row["id"]]["items"].append({"sku": sku, "quantity": int(quantity)})
    _add_deliveries(connection, "grant_id", grants)
    for name, query in (
        ("refunds", _OF_REFUNDS),
        ("refund_requests", _OF_REQUESTS),
        ("conflicts", _OF_CONFLICTS),
        ("events", _OF_ORDERS),
    ):
        for row in _rows(connection, query, values):
            of = row.pop("of")
            row.pop("id", None)
            if "data" in row:
                row["data"] = json.loads(row["data"])
            if "raw_body" in row:
                _read_body(row)
            by_id[of][name].append(row)


_OF_REFUNDS = """SELECT r.transaction_id AS of, r.reason, r.amount, r.outcome, r.grant_id, r.is_test, r.occurred_at,
                        r.created_at, r.settled_at
                 FROM json_each(:ids) /* numbers */ i CROSS JOIN /* hint */ refunds r ON r.transaction_id = i.value
                 ORDER BY r.id"""
_OF_REQUESTS = """SELECT q.transaction_id AS of, q.state, q.reason, q.detail, q.created_at, q.answered_at, q.ended_at
                  FROM json_each(:ids) /* numbers */ i
                  CROSS JOIN /* hint */ refund_requests q ON q.transaction_id = i.value
                  ORDER BY q.id"""
_OF_CONFLICTS = """SELECT c.transaction_id AS of, c.external_id, c.raw_body, c.seen, c.first_at, c.last_at
                   FROM json_each(:ids) /* numbers */ i CROSS JOIN /* hint */ conflicts c ON c.transaction_id = i.value
                   WHERE c.player_id = :player_id ORDER BY c.id"""
# Events about an order need not name its player.
_OF_ORDERS = """SELECT t.id AS of, e.id, e.partner, e.type, e.data, e.raw_body, e.is_test, e.occurred_at, e.received_at
                FROM json_each(:ids) /* numbers */ i CROSS JOIN /* hint */ transactions t ON t.id = i.value
                CROSS JOIN /* hint */ events e
                    ON e.game_id = t.game_id AND e.partner = t.partner AND e.external_id IN (t.external_id, t.reference)
                WHERE e.player_id IS NULL
                UNION
                SELECT r.transaction_id, e.id, e.partner, e.type, e.data, e.raw_body, e.is_test, e.occurred_at,
                       e.received_at
                FROM json_each(:ids) /* numbers */ i CROSS JOIN /* hint */ refunds r ON r.transaction_id = i.value
                JOIN events e ON e.id = r.event_id WHERE e.player_id IS NULL
                ORDER BY 1, 2"""


def _with_events_more(connection: Connection, key: Mapping[str, Any], rows: Rows) -> None:
    """Add to events what was converted of them, and their deliveries."""
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        row["data"] = json.loads(row["data"])
        row |= {"converted": None, "deliveries": []}
        _read_body(row)
    for made in _rows(
        connection,
        """SELECT c.event_id, c.body FROM json_each(:ids) /* numbers */ i
           CROSS JOIN /* hint */ conversions c ON c.event_id = i.value WHERE c.body IS NOT NULL""",
        {"ids": json.dumps(list(by_id))},
    ):
        by_id[made["event_id"]]["converted"] = _text(made["body"])
    _add_deliveries(connection, "event_id", by_id)


def _with_payment_conflicts(connection: Connection, key: Mapping[str, Any], rows: Rows) -> None:
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        row["reported"], row["conflicts"] = _parsed(row["reported"]), []
    for row in _rows(
        connection,
        """SELECT c.payment_id, c.reported, c.reason, c.seen, c.first_at, c.last_at FROM json_each(:ids) /* numbers */ i
           CROSS JOIN /* hint */ payment_conflicts c ON c.payment_id = i.value ORDER BY c.id""",
        {"ids": json.dumps(list(by_id))},
    ):
        row["reported"] = _parsed(row["reported"])
        by_id[row.pop("payment_id")]["conflicts"].append(row)


def _with_body(connection: Connection, key: Mapping[str, Any], rows: Rows) -> None:
    for row in rows:
        _read_body(row)


def _add_deliveries(connection: Connection, column: str, facts: dict[int, dict[str, Any]]) -> None:
    """Add to grants or events where they were delivered, and what was answered."""
    deliveries: dict[int, dict[str, Any]] = {}
    for row in _rows(
        connection,
        f"""SELECT d.{column} AS fact, d.id, d.event_type, s.name AS destination, d.state, d.created_at, d.finished_at,
                  a.started_at, a.status, a.failure, a.detail, a.answer
           FROM json_each(:ids) /* numbers */ i CROSS JOIN /* hint */ deliveries d ON d.{column} = i.value
           JOIN destinations s ON s.id = d.destination_id
           LEFT JOIN attempts a ON a.delivery_id = d.id ORDER BY d.id, a.id""",  # noqa: S608  our own words only
        {"ids": json.dumps(list(facts))},
    ):
        attempt = {name: row.pop(name) for name in ("started_at", "status", "failure", "detail", "answer")}
        fact, delivery_id = row.pop("fact"), row.pop("id")
        if delivery_id not in deliveries:
            deliveries[delivery_id] = {**row, "attempts": []}
            facts[fact]["deliveries"].append(deliveries[delivery_id])
        if attempt["started_at"] is not None:
            attempt["answer"] = _text(attempt["answer"])
            deliveries[delivery_id]["attempts"].append(attempt)


def _refused(connection: Connection, vault: Vault, key: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Refused calls that name the player: those that had proved themselves, then those of the ring."""
    current = vault.current(connection)
    for query, is_ring in ((_REFUSALS, False), (_RING, True)):
        after = 0
        while rows := connection.execute(query, {**key, "after": after, "limit": ROWS_AT_ONCE}).fetchall():
            after = rows[-1]["id"]
            for row in rows:
                call = refusals.opened(current, row)
                if not is_ring or _names_player(call, key["player_id"]):
                    yield _call(row, call)


def _names_player(call: refusals.Refused, player_id: str) -> bool:
    words = words_of_call(call)
    return words is not None and any(word == player_id and _OF_PLAYER.search(field) for field, word in words)


def _call(row: Row, call: refusals.Refused) -> dict[str, Any]:
    plain = "partner endpoint reference reason detail state currency amount_minor seen created_at last_at ended_at note"
    return {
        **{name: row[name] for name in plain.split()},
        "is_test": bool(row["is_test"]),
        "remote_address": row["remote_address"],
        "path": call.text("path") or None,
        "query": call.text("query") or None,
        "body": _text(call.body) if call.body else None,
    }


def _rows(connection: Connection, query: str, values: Mapping[str, Any]) -> Rows:
    """Rows as dicts, with booleans as such."""
    return [
        {name: bool(value) if name.startswith("is_") else value for name, value in dict(row).items()}
        for row in connection.execute(query, values).fetchall()
    ]


def _read_body(row: dict[str, Any]) -> None:
    """What came, as text under the name ``body``; None once it was emptied."""
    row["body"] = _text(row.pop("raw_body"))


def _text(raw: bytes | None) -> str | None:
    """The bytes as text; Base64 with a word before it where they are none."""
    if raw is None:
        return None
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(raw).decode()}"


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _json(value: object) -> bytes:
    # JSON can spell half a surrogate pair, and UTF-8 cannot: it is written as it was spelled.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
