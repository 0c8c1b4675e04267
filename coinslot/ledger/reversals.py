"""What a refund or a dispute does to a purchase: its reversal, and the adjustment that gives back what was taken."""

from dataclasses import dataclass
from typing import Any

from coinslot.games import registry
from coinslot.ledger import chain, grants
from coinslot.ledger.policies import BY_STRENGTH, IGNORE, Policy
from coinslot.outbox import deliveries
from coinslot.store import counters, queries
from coinslot.store.db import Connection, Row

SECOND = 19  # characters of a stamp: some of a partner's events count seconds, others milliseconds


@dataclass(frozen=True)
class Fact:
    """Money went back, or came back, as a partner or a person says."""

    reason: str
    event_id: int | None
    is_test: bool
    occurred_at: str | None
    player_id: str | None = None  # None: the fact names no player
    amount: str | None = None  # None: the fact names no amount


def take_back(tx: Connection, transaction: Row, fact: Fact, policy: Policy, text: str) -> tuple[str, int | None]:
    """Ask the game to take back what the policy names; returns the outcome, and the id of the grant it made."""
    newest = _newest_grant(tx, transaction)
    # The lines of the original: the newest grant may give back only what a dispute had taken.
    quantities = grants.lines(tx, newest["original_id"])
    asked = {sku: policy.for_line(fact.reason, sku) for sku in quantities}
    words = set(asked.values()) if asked else {policy.for_line(fact.reason)}
    words.discard(IGNORE)
    if not words:
        _count_money(tx, transaction, counters.REFUNDED)
        return "ignored", None
    if newest["reversed_by"] is not None or (fact.reason == "chargeback" and _is_won(tx, transaction, fact)):
        return "repeated", None
    _count_money(tx, transaction, counters.REFUNDED)
    mildest = min(words, key=BY_STRENGTH.index)
    grant_id = _add_grant(
        tx,
        transaction,
        transaction_id=newest["transaction_id"],
        kind="reversal",
        lines=[(sku, -quantities[sku]) for sku, word in asked.items() if word != IGNORE],
        reverses=newest["id"],
        policy=mildest,
        reason=text,
        line_policies={sku: word for sku, word in asked.items() if word != mildest},
    )
    _announce(tx, transaction, "grant.reversed", grant_id, "reversed", reverses=newest["id"])
    return "reversed", grant_id


def give_back(tx: Connection, game_slug: str, transaction: Row, fact: Fact) -> tuple[str, int | None]:
    """Give back what a chargeback took; what a refund took stays taken. Returns the outcome and the id of the grant."""
    newest = _newest_grant(tx, transaction)
    reversal_id = newest["reversed_by"]
    cause = queries.row(
        tx,
        """SELECT occurred_at FROM refunds
           WHERE transaction_id = :id AND grant_id = :reversal AND reason = 'chargeback'
             AND NOT EXISTS (SELECT 1 FROM refunds WHERE transaction_id = :id AND reason = 'refund'
                             AND outcome IN ('reversed', 'repeated'))""",
        {"id": transaction["id"], "reversal": reversal_id},
    )
    if cause is None:
        _count_money(tx, transaction, counters.RETURNED)  # the money comes back, also where the policy took nothing
        return "repeated", None
    if fact.occurred_at and cause["occurred_at"] and fact.occurred_at[:SECOND] < cause["occurred_at"][:SECOND]:
        return "repeated", None  # a late report of a dispute before the one that took this
    lines = [(sku, -quantity) for sku, quantity in grants.lines(tx, reversal_id).items()]
    policy, line_policies = grants.policies(tx, reversal_id)
    _count_money(tx, transaction, counters.RETURNED)
    transaction_id = _insert_restoring(tx, game_slug, transaction, fact, lines)
    grant_id = _add_grant(
        tx,
        transaction,
        transaction_id=transaction_id,
        kind="adjustment",
        lines=lines,
        restores=reversal_id,
        policy=policy,  # what the game was asked to take: only the game knows what it took
        line_policies=line_policies,
        reason=fact.reason,
    )
    _announce(tx, transaction, "grant.created", grant_id, "restored")
    return "restored", grant_id


def _newest_grant(connection: Connection, transaction: Row) -> Row:
    """The grant that holds a purchase, or held it last: the original, or the newest that gave it back."""
    row: Row = connection.execute(
        """SELECT g.id, g.transaction_id,
                  (SELECT r.id FROM grants r WHERE r.transaction_id = g.transaction_id AND r.kind = 'reversal')
                      AS reversed_by,
                  (SELECT id FROM grants WHERE transaction_id = :id AND kind = :kind) AS original_id
           FROM grants g
           WHERE g.id = coalesce(
               (SELECT max(grant_id) FROM refunds WHERE transaction_id = :id AND outcome = 'restored'),
               (SELECT id FROM grants WHERE transaction_id = :id AND kind = :kind))""",
        {"id": transaction["id"], "kind": transaction["kind"]},
    ).fetchone()
    return row


def _is_won(connection: Connection, transaction: Row, fact: Fact) -> bool:
    """Whether the dispute that a late report says was lost has been won since."""
    found = queries.row(
        connection,
        """SELECT 1 FROM refunds
           WHERE transaction_id = :id AND reason = 'reinstated' AND outcome IN ('restored', 'repeated')
             AND substr(occurred_at, 1, :second) >= substr(:occurred_at, 1, :second)""",
        {"id": transaction["id"], "occurred_at": fact.occurred_at, "second": SECOND},
    )
    return found is not None


def _insert_restoring(
    tx: Connection, game_slug: str, transaction: Row, fact: Fact, lines: list[tuple[str, int]]
) -> int:
    """A transaction of its own for what is given back: a game deduplicates on (transaction, kind)."""
    raw_body = queries.get(tx, "raw_body", "events", id=fact.event_id)
    restored = "SELECT count(*) FROM refunds WHERE transaction_id = :id AND outcome = 'restored'"
    number = queries.value(tx, restored, {"id": transaction["id"]})
    inserted = None
    while inserted is None:  # one round, unless the partner has an order of this name
        number += 1
        external_id = f"restore:{transaction['external_id']}:{number}"
        row = {
            **{name: transaction[name] for name in ("game_id", "partner", "reference", "player_id", "environment")},
            "public_id": chain.public_id(game_slug, transaction["partner"], external_id),
            "external_id": external_id,
            "kind": "adjustment",
            "figures": "{}",
            "fingerprint": chain.digest([external_id, sorted((sku, str(quantity)) for sku, quantity in lines)]),
            "raw_body": raw_body,
            "signature": "",
            "signed_with": "",
            "answer_status": 200,
            "answer_body": "",
            "is_test": transaction["is_test"],
            "occurred_at": fact.occurred_at,
        }
        inserted = chain.insert(tx, row, chain.last_hash(tx))
    return inserted


def _add_grant(tx: Connection, transaction: Row, **columns: Any) -> int:
    """Add a grant after the last one, for the player of the purchase; returns its id."""
    grant_id, previous_hash = grants.next_up(tx)
    game_id, player_id, is_test = transaction["game_id"], transaction["player_id"], bool(transaction["is_test"])
    grants.insert(tx, grant_id, previous_hash, game_id=game_id, player_id=player_id, is_test=is_test, **columns)
    return grant_id


def _announce(
    tx: Connection, transaction: Row, event_type: str, grant_id: int, counter: str, reverses: int | None = None
) -> None:
    """Owe the grant to the game's destinations, and count it."""
    game_id, player_id = transaction["game_id"], transaction["player_id"]
    deliveries.enqueue(tx, game_id, event_type, grant_id=grant_id, player_id=player_id, reverses=reverses)
    if player_id != registry.RESERVED_ID:
        counters.add(tx, game_id, transaction["partner"], f"{counter}.test" if transaction["is_test"] else counter)


def _count_money(tx: Connection, transaction: Row, name: str) -> None:
    """Count what went back to the player, or came back: once for many facts, and again after the other happened.

    Money that comes back where nothing was taken is of a dispute that was won after the policy had ignored its loss.
    """
    money = queries.row(
        tx,
        """SELECT currency, gross_minor,
                  coalesce((SELECT max(id) FROM refunds WHERE transaction_id = t.id AND reason <> 'reinstated'
                            AND outcome IN ('reversed', 'ignored')), 0) AS away,
                  coalesce((SELECT max(id) FROM refunds r
                            WHERE transaction_id = t.id AND (outcome = 'restored' OR (
                                reason = 'reinstated' AND outcome = 'repeated' AND EXISTS (
                                    SELECT 1 FROM refunds c WHERE c.transaction_id = t.id AND c.id < r.id
                                    AND c.reason = 'chargeback' AND c.outcome = 'ignored')))), 0) AS back
           FROM transactions t WHERE id = :id AND is_test = 0 AND gross_minor > 0 AND currency IS NOT NULL""",
        {"id": transaction["id"]},
    )
    if money is not None and (name == counters.REFUNDED) != (money["away"] > money["back"]):
        counters.add(tx, transaction["game_id"], transaction["partner"], name, money["gross_minor"], money["currency"])
