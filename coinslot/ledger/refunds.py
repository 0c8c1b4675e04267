"""Money that went back to a player: what the game is asked to take back because of it, once per purchase.

A refund or a lost dispute becomes a reversal: a grant of its own with the negative quantities of the one it undoes.
What a lost dispute took, a dispute won gives back, as an adjustment. Whether anything is taken, and how, is the
studio's policy, per item and reason; only the game knows what has been spent, so the policy travels to it.

A fact about a purchase we do not know waits for it, and is applied in the write that credits it. Everything here
happens inside the caller's write.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from coinslot.base import clock, money
from coinslot.games import games, registry
from coinslot.ledger import chain, grants, notices
from coinslot.outbox import deliveries
from coinslot.store import counters
from coinslot.store.db import Connection, Row

# When the money of a purchase ``t`` went back. A dispute that was won since is none, in whichever order that was told.
REFUNDED_AT = """(SELECT min(coalesce(r.occurred_at, r.created_at)) FROM refunds r
                     WHERE r.transaction_id = t.id AND r.reason IN ('refund', 'chargeback') AND r.is_test = 0
                       AND r.outcome NOT IN ('waiting', 'ambiguous', 'test')
                       AND NOT (r.reason = 'chargeback' AND EXISTS (
                           SELECT 1 FROM refunds w
                           WHERE w.transaction_id = t.id AND w.reason = 'reinstated' AND w.is_test = 0
                             AND w.outcome IN ('restored', 'repeated')
                             AND CASE WHEN w.occurred_at IS NULL OR r.occurred_at IS NULL THEN w.id > r.id
                                 ELSE substr(w.occurred_at, 1, 19) >= substr(r.occurred_at, 1, 19) END)))"""

REASONS = ("refund", "chargeback")
IGNORE = "ignore"
SECOND = 19  # characters of a stamp: some of a partner's events count seconds, others milliseconds
BY_STRENGTH = ("flag", "revoke", "revoke_negative")  # mildest first


@dataclass(frozen=True)
class Policy:
    """What is asked of the game for an item: ``revoke``, ``revoke_negative``, ``flag``, or ``ignore`` for nothing."""

    by_reason: Mapping[str, str]
    by_item: Mapping[tuple[str, str], str]

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> "Policy":
        """The policy in a game's settings: that of the item, else that of the reason, else the default row."""
        default = "revoke" if settings.get("refunds.revoke") == "on" else IGNORE
        by_item = {
            (reason, key.removeprefix(f"refunds.{reason}.")): value
            for reason in REASONS
            for key, value in settings.items()
            if key.startswith(f"refunds.{reason}.") and value
        }
        return cls({reason: settings.get(f"refunds.{reason}") or default for reason in REASONS}, by_item)

    @classmethod
    def always(cls, word: str) -> "Policy":
        return cls(dict.fromkeys(REASONS, word), {})

    def for_line(self, reason: str, sku: str | None = None) -> str:
        """The policy for an item; without one, that of a purchase of nothing."""
        return self.by_item.get((reason, sku or "")) or self.by_reason[reason]


@dataclass(frozen=True)
class _Fact:
    reason: str
    event_id: int | None
    is_test: bool
    occurred_at: str | None
    player_id: str | None = None  # whom it names, where it does
    amount: str | None = None  # what it says went back, where it does


def note(
    tx: Connection,
    game_id: int,
    game_slug: str,
    partner: str,
    *,
    event_id: int | None,
    reason: str,
    named: Iterable[tuple[str, str]],
    player_id: str | None,
    is_test: bool,
    occurred_at: str | None,
    policy: Policy,
    amount: str | None = None,
) -> str:
    """Keep a refund, a chargeback or a reinstatement, do what it asks for, and return its ``refunds.outcome``.

    ``named`` are the ids the fact names its purchase by: ``reference`` (the order's own) before ``payment``,
    ``purchase`` and ``external``. A fact that names none, or several purchases, is ``ambiguous``; so is one that finds
    its purchase by one of the latter three and names another player. ``amount`` is what it says went back; less than
    the purchase is noted for a person, and treated like all of it.
    """
    fact = _Fact(reason, event_id, is_test, occurred_at, player_id, amount)
    ids = list(dict.fromkeys(named))
    found = _find(tx, game_id, partner, ids)
    if ids and not found:
        refund_id = _insert(tx, game_id, partner, fact, "waiting")
        tx.executemany(
            """INSERT INTO refund_keys (game_id, partner, kind, value, refund_id)
               VALUES (:game_id, :partner, :kind, :value, :refund_id)""",
            [
                {"game_id": game_id, "partner": partner, "kind": kind, "value": value, "refund_id": refund_id}
                for kind, value in ids
            ],
        )
        return "waiting"
    transaction = _only(found, fact)
    if transaction is None:
        _insert(tx, game_id, partner, fact, "ambiguous")
        return "ambiguous"
    outcome, grant_id = _apply(tx, game_slug, transaction, fact, policy)
    _insert(tx, game_id, partner, fact, outcome, transaction["id"], grant_id)
    return outcome


def settle(tx: Connection, game_id: int, game_slug: str, partner: str, ids: Iterable[tuple[str, str]]) -> None:
    """Apply what waited for a purchase that is now known by ``ids``, in the order it came."""
    waiting: set[int] = set()
    for kind, value in dict.fromkeys(ids):
        rows = tx.execute(
            """SELECT refund_id FROM refund_keys
               WHERE game_id = :game_id AND partner = :partner AND kind = :kind AND value = :value""",
            {"game_id": game_id, "partner": partner, "kind": kind, "value": value},
        )
        waiting.update(row["refund_id"] for row in rows)
    if not waiting:
        return
    policy = Policy.of(games.stored_settings(tx, game_id))
    for refund_id in sorted(waiting):
        _settle_one(tx, game_id, game_slug, partner, refund_id, policy)


def reverse(tx: Connection, transaction: Row, policy: Policy, text: str, occurred_at: str | None = None) -> int | None:
    """Reverse a purchase because a person says so; ``text`` is their reason, ``occurred_at`` when the money went back
    (None: now).

    Returns the id of the reversal's grant, None when nothing is left to reverse or the policy asks for nothing.
    """
    fact = _Fact("refund", None, bool(transaction["is_test"]), occurred_at or clock.stamp())
    outcome, grant_id = _reverse(tx, transaction, fact, policy, text)
    if grant_id is not None:
        _insert(tx, transaction["game_id"], transaction["partner"], fact, outcome, transaction["id"], grant_id)
    return grant_id


def listing(connection: Connection, game_id: int, is_all: bool, limit: int) -> list[Row]:
    """The newest refunds, those that are not settled or all of them, with the ids of event and purchase."""
    return connection.execute(
        """SELECT r.id, r.partner, r.reason, r.outcome, r.occurred_at, r.created_at, r.is_test,
                  e.external_id AS named, e.player_id, t.reference
           FROM refunds r LEFT JOIN events e ON e.id = r.event_id LEFT JOIN transactions t ON t.id = r.transaction_id
           WHERE r.game_id = :game_id AND (:is_all = 1 OR r.outcome IN ('ambiguous', 'waiting'))
           ORDER BY r.id DESC LIMIT :limit""",
        {"game_id": game_id, "is_all": int(is_all), "limit": limit},
    ).fetchall()


def unsettled(connection: Connection, game_id: int, waiting_since: str) -> tuple[int, int]:
    """How many refunds are for a person to settle, and how many have waited for their purchase since before a time."""
    row = connection.execute(
        """SELECT coalesce(sum(outcome = 'ambiguous'), 0) AS ambiguous,
                  coalesce(sum(outcome = 'waiting' AND created_at < :since), 0) AS waiting
           FROM refunds WHERE game_id = :game_id AND is_test = 0 AND outcome IN ('ambiguous', 'waiting')""",
        {"game_id": game_id, "since": waiting_since},
    ).fetchone()
    return int(row["ambiguous"]), int(row["waiting"])


def purchase(connection: Connection, game_id: int, partner: str, reference: str) -> Row | None:
    """The purchase with a partner's id, for :func:`reverse`."""
    found = _find(connection, game_id, partner, [("reference", reference)])
    return found[0][0] if len(found) == 1 else None


def _settle_one(tx: Connection, game_id: int, game_slug: str, partner: str, refund_id: int, policy: Policy) -> None:
    row = tx.execute(
        """SELECT r.reason, r.event_id, r.is_test, r.occurred_at, r.amount, e.player_id
           FROM refunds r LEFT JOIN events e ON e.id = r.event_id WHERE r.id = :id""",
        {"id": refund_id},
    ).fetchone()
    fact = _Fact(
        row["reason"], row["event_id"], bool(row["is_test"]), row["occurred_at"], row["player_id"], row["amount"]
    )
    # No index leads here: this is asked once, when a purchase that was waited for has come.
    keys = tx.execute(
        """SELECT kind, value FROM refund_keys
           WHERE game_id = :game_id AND partner = :partner AND refund_id = :refund_id""",
        {"game_id": game_id, "partner": partner, "refund_id": refund_id},
    ).fetchall()
    found = _find(tx, game_id, partner, [(key["kind"], key["value"]) for key in keys])
    if not found:
        return
    outcome, transaction_id, grant_id = "ambiguous", None, None
    transaction = _only(found, fact)
    if transaction is not None:
        transaction_id = transaction["id"]
        outcome, grant_id = _apply(tx, game_slug, transaction, fact, policy)
    tx.execute(
        """UPDATE refunds SET outcome = :outcome, transaction_id = :transaction_id, grant_id = :grant_id,
                  settled_at = :now WHERE id = :id""",
        {
            "outcome": outcome,
            "transaction_id": transaction_id,
            "grant_id": grant_id,
            "now": clock.stamp(),
            "id": refund_id,
        },
    )
    tx.execute(
        "DELETE FROM refund_keys WHERE game_id = :game_id AND partner = :partner AND refund_id = :refund_id",
        {"game_id": game_id, "partner": partner, "refund_id": refund_id},
    )


def _insert(
    tx: Connection,
    game_id: int,
    partner: str,
    fact: _Fact,
    outcome: str,
    transaction_id: int | None = None,
    grant_id: int | None = None,
) -> int:
    now = clock.stamp()
    row = tx.execute(
        """INSERT INTO refunds (game_id, partner, event_id, reason, amount, outcome, transaction_id, grant_id, is_test,
                                occurred_at, created_at, settled_at)
           VALUES (:game_id, :partner, :event_id, :reason, :amount, :outcome, :transaction_id, :grant_id, :is_test,
                   :occurred_at, :now, :settled_at) RETURNING id""",
        {
            "game_id": game_id,
            "partner": partner,
            "event_id": fact.event_id,
            "reason": fact.reason,
            "amount": fact.amount,
            "outcome": outcome,
            "transaction_id": transaction_id,
            "grant_id": grant_id,
            "is_test": int(fact.is_test),
            "occurred_at": fact.occurred_at,
            "now": now,
            "settled_at": None if outcome == "waiting" else now,
        },
    ).fetchone()
    return int(row["id"])


def _find(
    connection: Connection, game_id: int, partner: str, named: Iterable[tuple[str, str]]
) -> list[tuple[Row, bool]]:
    """The transactions these ids name, and whether by the order's own id.

    That id decides; where nobody is known by it, whoever is named by the most of the others.
    """
    rows: dict[int, Row] = {}
    own: set[int] = set()
    others: Counter[int] = Counter()
    for kind, value in named:
        found = connection.execute(
            """SELECT id, public_id, game_id, partner, external_id, reference, kind, player_id, environment, is_test
               FROM transactions
               WHERE game_id = :game_id AND partner = :partner AND external_id = :external_id AND kind <> 'adjustment'
               UNION
               SELECT t.id, t.public_id, t.game_id, t.partner, t.external_id, t.reference, t.kind, t.player_id,
                      t.environment, t.is_test
               FROM transaction_keys k JOIN transactions t ON t.id = k.transaction_id
               WHERE k.game_id = :game_id AND k.partner = :partner AND k.kind = +:key AND k.value = :value""",
            {
                "game_id": game_id,
                "partner": partner,
                # An order reported without its own id is stored by another one, the kind in front.
                "external_id": value if kind == "reference" else f"{kind}:{value}",
                "key": "alias" if kind == "reference" else kind,
                "value": value,
            },
        ).fetchall()
        rows.update((row["id"], row) for row in found)
        if kind == "reference":
            own.update(row["id"] for row in found)
        else:
            others.update(row["id"] for row in found)
    if own:
        return [(rows[each], True) for each in sorted(own)]
    most = max(others.values(), default=0)
    return [(rows[each], False) for each in sorted(others) if others[each] == most]


def _only(found: Sequence[tuple[Row, bool]], fact: _Fact) -> Row | None:
    """The purchase that is meant; None where that is for a person to say."""
    if len(found) != 1:
        return None
    transaction, is_by_own_id = found[0]
    if not is_by_own_id and fact.player_id not in (None, transaction["player_id"]):
        return None  # an id that purchases may share, and somebody else's refund
    return transaction


def _apply(tx: Connection, game_slug: str, transaction: Row, fact: _Fact, policy: Policy) -> tuple[str, int | None]:
    """The outcome, and the grant it made."""
    if fact.is_test and not transaction["is_test"]:
        return "test", None
    if fact.reason == "reinstated":
        return _restore(tx, game_slug, transaction, fact)
    if fact.amount is not None and not fact.is_test:
        _note_if_partial(tx, transaction, fact.amount)
    return _reverse(tx, transaction, fact, policy, fact.reason)


def _note_if_partial(tx: Connection, transaction: Row, amount: str) -> None:
    """Have a person look at a refund of less than the purchase. Partners do not say which unit they write it in."""
    paid = tx.execute(
        "SELECT currency, gross_minor FROM transactions WHERE id = :id AND gross_minor IS NOT NULL",
        {"id": transaction["id"]},
    ).fetchone()
    if paid is None or paid["currency"] is None:
        return
    told, in_major = Decimal(amount), money.in_major(paid["gross_minor"], paid["currency"])
    if told in (Decimal(in_major), paid["gross_minor"]):
        return
    is_whole = told == told.to_integral_value()
    if told < (paid["gross_minor"] if is_whole else Decimal(in_major)):
        notices.note(
            tx,
            transaction["game_id"],
            transaction["partner"],
            "partial_refund",
            transaction["reference"],
            f"{amount} of {in_major} {paid['currency']}",
            transaction_id=transaction["id"],
        )


def _reverse(tx: Connection, transaction: Row, fact: _Fact, policy: Policy, text: str) -> tuple[str, int | None]:
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


def _restore(tx: Connection, game_slug: str, transaction: Row, fact: _Fact) -> tuple[str, int | None]:
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


def _is_won(connection: Connection, transaction: Row, fact: _Fact) -> bool:
    """Whether the dispute that a late report says was lost has been won since."""
    row = connection.execute(
        """SELECT 1 FROM refunds
           WHERE transaction_id = :id AND reason = 'reinstated' AND outcome IN ('restored', 'repeated')
             AND substr(occurred_at, 1, :second) >= substr(:occurred_at, 1, :second)""",
        {"id": transaction["id"], "occurred_at": fact.occurred_at, "second": SECOND},
    ).fetchone()
    return row is not None


def _is_before(fact: _Fact, stamp: str) -> bool:
    return (fact.occurred_at or "")[:SECOND] < stamp[:SECOND]


def _insert_restoring(
    tx: Connection, game_slug: str, transaction: Row, fact: _Fact, lines: list[tuple[str, int]]
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
    counters.add(tx, transaction["game_id"], transaction["partner"], name + money["currency"], money["gross_minor"])
