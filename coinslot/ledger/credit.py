"""Crediting a partner's report, once.

``UNIQUE (game_id, partner, external_id)`` decides which report is first. A later one is a duplicate, which gets the
first answer again, or a conflict, which credits nothing. Transactions, grants and entries are only ever added. A
credit's rows, its feed id and the deliveries it causes are one write. A refund that came before its purchase is applied
in that write too.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from coinslot.base import clock
from coinslot.base.outbound import Outbound
from coinslot.games import lookup, registry
from coinslot.games.games import Game
from coinslot.ledger import aliases, chain, grants, refunds, refused
from coinslot.ledger.chain import public_id as public_id
from coinslot.ledger.oddities import note_oddities
from coinslot.ledger.reports import (
    ConflictError,
    Credit,
    Credited,
    Outcome,
    RefusedError,
    Rules,
    merged,
)
from coinslot.outbox import deliveries
from coinslot.outbox.destinations import is_down
from coinslot.store import counters, queries
from coinslot.store.db import Connection, Database, Row

_to_json = json.JSONEncoder().encode


def report(
    database: Database,
    outbound: Outbound,
    game: Game,
    wanted: Credit,
    *,
    may_be_empty: bool = True,
    also: Callable[[Connection, Credited], None] | None = None,
) -> Outcome:
    """Credit a report by the game's rules, or say why not; a conflict is kept for a person.

    A game whose server is down may want new reports refused until it is back (``<partner>.when_game_down``). The game's
    server is asked about an unknown player only where nothing else decides. ``also`` runs in the write that credits.
    """
    connection = database.read()
    must_wait = game.settings[f"{wanted.partner}.when_game_down"] != "accept"
    if must_wait and is_down(connection, game.id, "grant.created") and not is_credited(connection, wanted):
        return Outcome("game_down")
    unknown_player = game.settings["players.unknown"]
    if unknown_player == "lookup":
        unknown_player = "reject"
        if not registry.has_player(connection, game.id, wanted.player_id) and not is_credited(connection, wanted):
            try:
                if lookup.player(outbound, game, wanted.player_id) is not None:
                    unknown_player = "accept"
            except lookup.LookupFailedError as error:
                return Outcome("lookup_failed", detail=str(error))
    rules = Rules(unknown_player, game.settings["items.unknown"], may_be_empty)

    def write(tx: Connection) -> Credited:
        credited = credit(tx, wanted, rules)
        if also is not None:
            also(tx, credited)
        return credited

    try:
        return _made(database.write(write, keeps_games=also is None))
    except ConflictError as error:
        known = error.transaction_id
        database.write(lambda tx: record_conflict(tx, wanted, known))
        return Outcome(error.reason)
    except RefusedError as error:
        return Outcome(error.reason, detail=error.detail)


def report_within(tx: Connection, wanted: Credit, rules: Rules) -> Outcome:
    """The same in a write that goes on after a conflict, for reports without ``keys``; any other refusal is raised."""
    try:
        return _made(credit(tx, wanted, rules))
    except ConflictError as error:  # raised before anything is written
        record_conflict(tx, wanted, error.transaction_id)
        return Outcome(error.reason)


def credit(tx: Connection, wanted: Credit, rules: Rules) -> Credited:
    """Credit once. Returns the first answer, whether this call made it or an earlier one.

    Raises RefusedError ``quantity``, ConflictError, or RefusedError ``unknown_player``, ``unknown_item`` or ``empty``,
    the first that applies. The caller's write is rolled back, and the same report may succeed later.
    """
    lines = merged(wanted.lines)
    state = _read_state(tx, wanted, lines)
    known = aliases.find(tx, wanted) if state["may_be_known"] else None
    if known is not None:
        return _repeat(tx, wanted, known, state)

    transaction_id = _insert_transaction(tx, wanted, state["previous_hash"] or chain.NO_HASH)
    if transaction_id is None:
        known = aliases.by_external_id(tx, wanted)
        assert known is not None, "the unique key was taken, so there is a row"
        return _repeat(tx, wanted, known, state)
    _insert_keys(tx, wanted, wanted.keys, transaction_id)

    if not state["has_player"] and wanted.player_id != registry.RESERVED_ID:
        if rules.unknown_player == "reject":
            raise RefusedError("unknown_player")
        if rules.unknown_player == "create":
            registry.register_player(tx, wanted.game_id, wanted.player_id)
    if rules.unknown_item == "reject" and state["may_have_unknown_items"]:
        unknown = registry.first_unknown_item(tx, wanted.game_id, (sku for sku, _ in lines))
        if unknown is not None:
            raise RefusedError("unknown_item", unknown)
    if not lines and not rules.may_be_empty:
        raise RefusedError("empty")

    grant_id = state["last_grant_id"] + 1
    grants.insert(
        tx,
        grant_id,
        state["last_grant_hash"] or chain.NO_HASH,
        game_id=wanted.game_id,
        transaction_id=transaction_id,
        kind=wanted.kind,
        player_id=wanted.player_id,
        lines=lines,
        is_test=wanted.is_test,
    )
    if state["has_destinations"]:
        deliveries.enqueue(tx, wanted.game_id, "grant.created", grant_id=grant_id, player_id=wanted.player_id)
    counters.add_each(tx, wanted.game_id, wanted.partner, _figures(wanted, lines))
    _end_what_waited(tx, wanted, state)
    note_oddities(tx, wanted, state["restored_at"])
    return Credited(wanted.public_id, wanted.answer_status, wanted.answer_body, is_new=True)


def is_credited(connection: Connection, wanted: Credit) -> bool:
    """Whether the same report was credited before: no question about its player needs asking again."""
    return aliases.find(connection, wanted) is not None


def record_conflict(tx: Connection, refused: Credit, transaction_id: int) -> None:
    """Keep a conflicting report for a person, once per content however often it comes."""
    now = clock.stamp()
    row = {
        "game_id": refused.game_id,
        "partner": refused.partner,
        "transaction_id": transaction_id,
        "external_id": refused.external_id,
        "player_id": refused.player_id,
        "fingerprint": refused.fingerprint,
        "raw_body": refused.raw_body,
        "seen": 1,
        "first_at": now,
        "last_at": now,
    }
    queries.insert(
        tx,
        "conflicts",
        row,
        """ON CONFLICT (transaction_id, external_id, fingerprint)
           DO UPDATE SET seen = conflicts.seen + 1, last_at = excluded.last_at""",
    )
    if not refused.is_simulated:
        counters.add(tx, refused.game_id, refused.partner, "conflict")


def _made(credited: Credited) -> Outcome:
    return Outcome("credited" if credited.is_new else "duplicate", credited)


def _figures(wanted: Credit, lines: list[tuple[str, int]]) -> dict[tuple[str, str], int]:
    """The counters that a credit adds to. A test adds to its own alone, a simulated credit to none."""
    if wanted.is_simulated:
        return {}
    if wanted.is_test:
        return {("credited.test", ""): 1}
    amounts = {("credited", ""): 1, **{(counters.ITEM, sku): 1 for sku, _ in lines}}
    if wanted.money.gross_minor and wanted.money.currency:
        amounts[counters.GROSS, wanted.money.currency] = wanted.money.gross_minor
    return amounts


def _read_state(tx: Connection, wanted: Credit, lines: list[tuple[str, int]]) -> Row:
    """All that a credit asks the database, in one statement: nobody else can write meanwhile."""
    # Plus signs: see transaction_keys_signature in schema.sql. Without them this takes ten times as long.
    shared = dict(wanted.known_by)
    kinds = [*shared, None, None][:2]
    row: Row = tx.execute(
        """SELECT
               (SELECT row_hash FROM transactions ORDER BY id DESC LIMIT 1) AS previous_hash,
               (SELECT last_id FROM sequences WHERE name = 'grants') AS last_grant_id,
               (SELECT grant_hash FROM grants ORDER BY id DESC LIMIT 1) AS last_grant_hash,
               (SELECT value FROM installation WHERE name = 'restored_at') AS restored_at,
               EXISTS (SELECT 1 FROM players WHERE game_id = :game_id AND player_id = :player_id) AS has_player,
               EXISTS (SELECT 1 FROM json_each(:skus) s
                       WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.game_id = :game_id AND i.sku = s.value))
                   AS may_have_unknown_items,
               EXISTS (SELECT 1 FROM destinations WHERE game_id = :game_id AND state <> 'removed') AS has_destinations,
               EXISTS (SELECT 1 FROM refunds
                       WHERE game_id = :game_id AND partner = :partner AND outcome = 'waiting') AS has_waiting_refunds,
               EXISTS (SELECT 1 FROM refusals
                       WHERE game_id = :game_id AND partner = :partner AND state = 'open') AS has_open_refusals,
               EXISTS (SELECT 1 FROM transaction_keys
                       WHERE game_id = :game_id AND partner = :partner AND kind = 'alias' AND value = :external_id)
               OR EXISTS (SELECT 1 FROM transaction_keys
                          WHERE game_id = :game_id AND partner = :partner AND kind = +:kind_1 /* hint */
                            AND value = :value_1)
               OR EXISTS (SELECT 1 FROM transaction_keys
                          WHERE game_id = :game_id AND partner = :partner AND kind = +:kind_2 /* hint */
                            AND value = :value_2)
                   AS may_be_known""",
        {
            **vars(wanted),
            "skus": _to_json([sku for sku, _ in lines]),
            "kind_1": kinds[0],
            "value_1": shared.get(kinds[0] or ""),
            "kind_2": kinds[1],
            "value_2": shared.get(kinds[1] or ""),
        },
    ).fetchone()
    return row


def _repeat(tx: Connection, wanted: Credit, known: Row, state: Row) -> Credited:
    if known["fingerprint"] != wanted.fingerprint:
        raise ConflictError(known["id"])
    _insert_keys(tx, wanted, aliases.names(wanted, known), known["id"])
    aliases.note_twins(tx, wanted, known)
    if not wanted.is_simulated:
        counters.add(tx, wanted.game_id, wanted.partner, "duplicate")
    _end_what_waited(tx, wanted, state)
    return Credited(known["public_id"], known["answer_status"], known["answer_body"], is_new=False)


def _end_what_waited(tx: Connection, wanted: Credit, state: Row) -> None:
    """Apply the refunds that waited for this purchase, and end the troubles of its calls that were refused."""
    if state["has_waiting_refunds"]:
        refunds.settle(tx, wanted.game_id, wanted.game_slug, wanted.partner, _named(wanted))
    if state["has_open_refusals"]:
        refused.mend_order(tx, wanted)


def _named(wanted: Credit) -> list[tuple[str, str]]:
    """The ids by which a refund may name this purchase, as :func:`refunds.note` takes them."""
    own = [] if wanted.is_fallback else [("reference", wanted.external_id)]
    return [*own, *(key for key in wanted.keys if key[0] != "signature"), *wanted.known_by]


def _insert_transaction(tx: Connection, wanted: Credit, previous_hash: str) -> int | None:
    """Insert the row that decides; None when the unique key is taken."""
    row: dict[str, Any] = {
        **vars(wanted),
        **vars(wanted.money),
        "public_id": wanted.public_id,
        "figures": json.dumps(dict(wanted.money.figures)),
        "is_test": int(wanted.is_test),
        "occurred_at": clock.plausible(wanted.occurred_at),
    }
    return chain.insert(tx, row, previous_hash)


def _insert_keys(tx: Connection, wanted: Credit, keys: Iterable[tuple[str, str]], transaction_id: int) -> None:
    """Raises :class:`ConflictError` when one is a signature that has credited before."""
    pairs = list(keys)
    for value in (value for kind, value in pairs if kind == "signature"):
        credited_id = queries.value(
            tx,
            """SELECT transaction_id FROM transaction_keys
               WHERE game_id = :game_id AND partner = :partner AND kind = 'signature' AND value = :value""",
            {**vars(wanted), "value": value},
        )
        if credited_id is not None:  # the partial unique index would refuse it too, and not say whose it is
            raise ConflictError(credited_id)
    aliases.insert_keys(tx, wanted, pairs, transaction_id)
