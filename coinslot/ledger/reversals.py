"""What a refund or a dispute does to a purchase: its reversal, and the adjustment that gives back what was taken."""

import json
from dataclasses import dataclass
from typing import Any

from coinslot.games import registry
from coinslot.ledger import chain, grants
from coinslot.ledger.policies import BY_STRENGTH, IGNORE, Policy
from coinslot.outbox import deliveries
from coinslot.store import counters
from coinslot.store.db import Connection, Row

SECOND = 19  # characters of a stamp: some of a partner's events count seconds, others milliseconds


@dataclass(frozen=True)
class Fact:
    """That money went back, or came back, as a partner or a person says it."""

    reason: str
    event_id: int | None
    is_test: bool
    occurred_at: str | None
    player_id: str | None = None  # whom it names, where it does
    amount: str | None = None  # what it says went back, where it does


def take_back(tx: Connection, transaction: Row, fact: Fact, policy: Policy, text: str) -> tuple[str, int | None]:
    """Ask the game to take back what the policy names; returns the outcome, and the grant it made."""
    newest = _newest_grant(tx, transaction)
    # Not the newest grant's: that gave back what a dispute had taken, while all of the purchase stands again.
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
    grant_id, previous_hash = grants.next_up(tx)
    grants.insert(
        tx,
        grant_id,
        previous_hash,
        game_id=transaction["game_id"],
        transaction_id=newest["transaction_id"],
        kind="reversal",
        player_id=transaction["player_id"],
        lines=[(sku, -quantities[sku]) for sku, word in asked.items() if word != IGNORE],
        is_test=bool(transaction["is_test"]),
        reverses=newest["id"],
        policy=mildest,
        reason=text,
        line_policies={sku: word for sku, word in asked.items() if word != mildest},
    )
    _tell(tx, transaction, "grant.reversed", grant_id, "reversed", reverses=newest["id"])
    return "reversed", grant_id


def give_back(tx: Connection, game_slug: str, transaction: Row, fact: Fact) -> tuple[str, int | None]:
    """Give back what a chargeback took. A refund's money is with the player whoever wins the dispute, so that stays."""
    newest = _newest_grant(tx, transaction)
    cause = tx.execute(
        """SELECT occurred_at FROM refunds
           WHERE transaction_id = :id AND grant_id = :reversal AND reason = 'chargeback'
             AND NOT EXISTS (SELECT 1 FROM refunds WHERE transaction_id = :id AND reason = 'refund'
                             AND outcome IN ('reversed', 'repeated'))""",
        {"id": transaction["id"], "reversal": newest["reversed_by"]},
    ).fetchone()
    if cause is None:
        _count_money(tx, transaction, counters.RETURNED)  # where the policy took nothing, money comes back all the same
        return "repeated", None
    if fact.occurred_at and cause["occurred_at"] and _is_before(fact, cause["occurred_at"]):
        return "repeated", None  # a late report of a dispute before the one that took this
    lines = [(sku, -quantity) for sku, quantity in grants.lines(tx, newest["reversed_by"]).items()]
    policy, line_policies = grants.policies(tx, newest["reversed_by"])
    _count_money(tx, transaction, counters.RETURNED)
    transaction_id = _insert_restoring(tx, game_slug, transaction, fact, lines)
    grant_id, previous_hash = grants.next_up(tx)
    grants.insert(
        tx,
        grant_id,
        previous_hash,
        game_id=transaction["game_id"],
        transaction_id=transaction_id,
        kind="adjustment",
        player_id=transaction["player_id"],
        lines=lines,
        is_test=bool(transaction["is_test"]),
        # Only the game knows what it took: it is told what it had been asked to do.
        restores=newest["reversed_by"],
        policy=policy,
        line_policies=line_policies,
        reason=fact.reason,
    )
    _tell(tx, transaction, "grant.created", grant_id, "restored")
    return "restored", grant_id


def _newest_grant(connection: Connection, transaction: Row) -> Row:
    """The grant by which a purchase stands, or stood last: the original, or the newest that gave it back."""
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
    row = connection.execute(
        """SELECT 1 FROM refunds
           WHERE transaction_id = :id AND reason = 'reinstated' AND outcome IN ('restored', 'repeated')
             AND substr(occurred_at, 1, :second) >= substr(:occurred_at, 1, :second)""",
        {"id": transaction["id"], "occurred_at": fact.occurred_at, "second": SECOND},
    ).fetchone()
    return row is not None


def _is_before(fact: Fact, stamp: str) -> bool:
    return (fact.occurred_at or "")[:SECOND] < stamp[:SECOND]


def _insert_restoring(
    tx: Connection, game_slug: str, transaction: Row, fact: Fact, lines: list[tuple[str, int]]
) -> int:
    """A transaction of its own for what is given back: (transaction, kind) is what a game deduplicates on."""
    event = tx.execute("SELECT raw_body FROM events WHERE id = :id", {"id": fact.event_id}).fetchone()
    (number,) = tx.execute(
        "SELECT count(*) FROM refunds WHERE transaction_id = :id AND outcome = 'restored'", {"id": transaction["id"]}
    ).fetchone()
    inserted = None
    while inserted is None:  # in the first round, unless the partner has an order of such a name
        number += 1
        external_id = f"restore:{transaction['external_id']}:{number}"
        row: dict[str, Any] = {
            "public_id": chain.public_id(game_slug, transaction["partner"], external_id),
            "game_id": transaction["game_id"],
            "partner": transaction["partner"],
            "external_id": external_id,
            "reference": transaction["reference"],
            "kind": "adjustment",
            "player_id": transaction["player_id"],
            **dict.fromkeys(("currency", "gross_minor", "subtotal_minor", "tax_minor", "session_metadata")),
            **dict.fromkeys(("usd_gross", "usd_tax", "usd_fee", "usd_net", "usd_unit")),
            "figures": json.dumps({}),
            "fingerprint": chain.digest([external_id, sorted((sku, str(quantity)) for sku, quantity in lines)]),
            "raw_body": None if event is None else event["raw_body"],
            "signature": "",
            "signed_with": "",
            "answer_status": 200,
            "answer_body": "",
            "environment": transaction["environment"],
            "is_test": transaction["is_test"],
            "occurred_at": fact.occurred_at,
        }
        inserted = chain.insert(tx, row, chain.last_hash(tx))
    return inserted


def _tell(
    tx: Connection,
    transaction: Row,
    event_type: str,
    grant_id: int,
    counter: str,
    reverses: int | None = None,
) -> None:
    deliveries.enqueue(
        tx,
        transaction["game_id"],
        event_type,
        grant_id=grant_id,
        player_id=transaction["player_id"],
        reverses=reverses,
    )
    if transaction["player_id"] != registry.RESERVED_ID:
        name = f"{counter}.test" if transaction["is_test"] else counter
        counters.add(tx, transaction["game_id"], transaction["partner"], name)


def _count_money(tx: Connection, transaction: Row, name: str) -> None:
    """What went back to the player, or came back: once however many facts say so, and anew after the other happened.

    What comes back where nothing had been taken is a dispute that was won after the policy had let it be.
    """
    money = tx.execute(
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
    ).fetchone()
    if money is None or (name == counters.REFUNDED) == (money["away"] > money["back"]):
        return
    counters.add(tx, transaction["game_id"], transaction["partner"], name, money["gross_minor"], money["currency"])
