"""Refunds and disputes: what the game is asked to take back, once per purchase.

A refund or a lost dispute becomes a reversal: a grant with the negative quantities of the one it undoes. A won dispute
gives back what the lost one took, as an adjustment. The studio's policy says per item and reason whether and how
anything is taken; only the game knows what has been spent, so the reversal names the policy.

A fact about an unknown purchase waits for it, and is applied in the write that credits it. Everything here happens
inside the caller's write.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal

from coinslot.base import clock, money
from coinslot.games import games
from coinslot.games.games import Game
from coinslot.ledger import notices, refund_requests, refused
from coinslot.ledger.policies import Policy
from coinslot.ledger.reversals import Fact, give_back, take_back
from coinslot.store import queries
from coinslot.store.db import Connection, Row

# When the money of a purchase ``t`` went back. A dispute that was won does not count, in whatever order we heard of it.
REFUNDED_AT = """(SELECT min(coalesce(r.occurred_at, r.created_at)) FROM refunds r
                     WHERE r.transaction_id = t.id AND r.reason IN ('refund', 'chargeback') AND r.is_test = 0
                       AND r.outcome NOT IN ('waiting', 'ambiguous', 'test')
                       AND NOT (r.reason = 'chargeback' AND EXISTS (
                           SELECT 1 FROM refunds w
                           WHERE w.transaction_id = t.id AND w.reason = 'reinstated' AND w.is_test = 0
                             AND w.outcome IN ('restored', 'repeated')
                             AND CASE WHEN w.occurred_at IS NULL OR r.occurred_at IS NULL THEN w.id > r.id
                                 ELSE substr(w.occurred_at, 1, 19) >= substr(r.occurred_at, 1, 19) END)))"""


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
    """Keep a refund, a chargeback or a reinstatement, apply it, and return its ``refunds.outcome``.

    ``named`` are the ids by which the fact names its purchase: ``reference`` (the order's own) before ``payment``,
    ``purchase`` and ``external``. A fact that names none, or several purchases, is ``ambiguous``; so is one that finds
    its purchase by one of the latter three and names another player. ``amount`` is what went back, as the fact says:
    less than the purchase is noted for a person, and treated like all of it.
    """
    fact = Fact(reason, event_id, is_test, occurred_at, player_id, amount)
    ids = list(dict.fromkeys(named))
    found = _find(tx, game_id, partner, ids)
    if ids and not found:
        refund_id = _insert(tx, game_id, partner, fact, "waiting")
        if reason == "refund":
            refund_requests.reported(tx, game_id, partner, (value for kind, value in ids if kind == "reference"))
        if reason != "reinstated" and not is_test:
            refused.mend_refunded(tx, game_id, partner, ids)
        tx.executemany(
            "INSERT INTO refund_keys (game_id, partner, kind, value, refund_id) VALUES (?, ?, ?, ?, ?)",
            [(game_id, partner, kind, value, refund_id) for kind, value in ids],
        )
        return "waiting"
    transaction = _only(found, fact)
    if transaction is None:
        _insert(tx, game_id, partner, fact, "ambiguous")
        return "ambiguous"
    outcome, grant_id = _apply(tx, game_slug, transaction, fact, policy)
    _insert(tx, game_id, partner, fact, outcome, transaction["id"], grant_id)
    return outcome


def note_event(
    tx: Connection,
    game: Game,
    event_id: int,
    *,
    reason: str,
    named: Iterable[tuple[str, str]],
    amount: str | None = None,
) -> str:
    """Apply the refund or dispute that a stored event reports, as :func:`note` says, by the policy of ``game``.

    The event says which player, when, and whether it is a test.
    """
    event = tx.execute(
        "SELECT partner, player_id, is_test, occurred_at FROM events WHERE id = :id", {"id": event_id}
    ).fetchone()
    return note(
        *(tx, game.id, game.slug, event["partner"]),
        event_id=event_id,
        reason=reason,
        named=named,
        player_id=event["player_id"],
        is_test=bool(event["is_test"]),
        occurred_at=event["occurred_at"],
        policy=Policy.of(game.settings),
        amount=amount,
    )


def settle(tx: Connection, game_id: int, game_slug: str, partner: str, ids: Iterable[tuple[str, str]]) -> None:
    """Apply the facts that waited for a purchase, which is known by ``ids`` now, in the order they came."""
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
    """Reverse a purchase for a person; ``text`` is their reason, ``occurred_at`` when the money went back (None: now).

    Returns the id of the reversal's grant; None when nothing is left to reverse or the policy asks for nothing.
    """
    fact = Fact("refund", None, bool(transaction["is_test"]), occurred_at or clock.stamp())
    outcome, grant_id = take_back(tx, transaction, fact, policy, text)
    if grant_id is not None:
        _insert(tx, transaction["game_id"], transaction["partner"], fact, outcome, transaction["id"], grant_id)
    return grant_id


def listing(connection: Connection, game_id: int, is_all: bool, limit: int) -> list[Row]:
    """The newest refunds, all or only those that are not settled, with the ids of event and purchase."""
    return connection.execute(
        """SELECT r.id, r.partner, r.reason, r.outcome, r.occurred_at, r.created_at, r.is_test,
                  e.external_id AS named, e.player_id, t.reference
           FROM refunds r LEFT JOIN events e ON e.id = r.event_id LEFT JOIN transactions t ON t.id = r.transaction_id
           WHERE r.game_id = :game_id AND (:is_all = 1 OR r.outcome IN ('ambiguous', 'waiting'))
           ORDER BY r.id DESC LIMIT :limit""",
        {"game_id": game_id, "is_all": int(is_all), "limit": limit},
    ).fetchall()


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
    fact = Fact(**{**dict(row), "is_test": bool(row["is_test"])})
    its_keys = {"game_id": game_id, "partner": partner, "refund_id": refund_id}
    # There is no index for this: it happens once, when the awaited purchase has come.
    keys = tx.execute(
        """SELECT kind, value FROM refund_keys
           WHERE game_id = :game_id AND partner = :partner AND refund_id = :refund_id""",
        its_keys,
    ).fetchall()
    found = _find(tx, game_id, partner, [tuple(key) for key in keys])
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
            "id": refund_id,
            "outcome": outcome,
            "transaction_id": transaction_id,
            "grant_id": grant_id,
            "now": clock.stamp(),
        },
    )
    tx.execute(
        "DELETE FROM refund_keys WHERE game_id = :game_id AND partner = :partner AND refund_id = :refund_id", its_keys
    )


def _insert(
    tx: Connection,
    game_id: int,
    partner: str,
    fact: Fact,
    outcome: str,
    transaction_id: int | None = None,
    grant_id: int | None = None,
) -> int:
    now = clock.stamp()
    row = {
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
        "created_at": now,
        "settled_at": None if outcome == "waiting" else now,
    }
    inserted = queries.insert(tx, "refunds", row, "RETURNING id")
    assert inserted is not None
    return int(inserted["id"])


def _find(
    connection: Connection, game_id: int, partner: str, named: Iterable[tuple[str, str]]
) -> list[tuple[Row, bool]]:
    """The transactions that these ids name, each with whether the order's own id names it.

    That id decides. Where no transaction has it, those named by the most other ids count.
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
               WHERE k.game_id = :game_id AND k.partner = :partner AND k.kind = +:key /* hint */
                 AND k.value = :value""",
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


def _only(found: Sequence[tuple[Row, bool]], fact: Fact) -> Row | None:
    """The purchase that is meant; None where a person has to say which."""
    if len(found) != 1:
        return None
    transaction, is_by_own_id = found[0]
    is_other_player = fact.player_id not in (None, transaction["player_id"])
    return None if is_other_player and not is_by_own_id else transaction  # purchases may share the other ids


def _apply(tx: Connection, game_slug: str, transaction: Row, fact: Fact, policy: Policy) -> tuple[str, int | None]:
    """The outcome, and the id of the grant it made."""
    if fact.is_test and not transaction["is_test"]:
        return "test", None
    if fact.reason == "refund":  # the fact may name the order by another id than the request
        refund_requests.reported(tx, transaction["game_id"], transaction["partner"], (transaction["reference"],))
    if fact.reason == "reinstated":
        return give_back(tx, game_slug, transaction, fact)
    if fact.amount is not None and not fact.is_test:
        _note_if_partial(tx, transaction, fact.amount)
    return take_back(tx, transaction, fact, policy, fact.reason)


def _note_if_partial(tx: Connection, transaction: Row, amount: str) -> None:
    """Note a refund of less than the purchase for a person. Partners do not say which unit the amount is in."""
    paid = queries.row(
        tx,
        """SELECT currency, gross_minor FROM transactions
           WHERE id = :id AND gross_minor IS NOT NULL AND currency IS NOT NULL""",
        {"id": transaction["id"]},
    )
    if paid is None:
        return
    refunded, in_major = Decimal(amount), money.in_major(paid["gross_minor"], paid["currency"])
    if refunded in (Decimal(in_major), paid["gross_minor"]):
        return
    is_whole = refunded == refunded.to_integral_value()
    if refunded < (paid["gross_minor"] if is_whole else Decimal(in_major)):
        notices.note(
            tx,
            transaction["game_id"],
            transaction["partner"],
            "partial_refund",
            transaction["reference"],
            f"{refunded:,} of {money.written(paid['gross_minor'], paid['currency'])}",
            transaction_id=transaction["id"],
        )
