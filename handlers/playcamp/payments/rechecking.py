"""Payments that wait for the owner are read again when the configuration has changed.

A parked payment may be fixed: its market was in no table, an expression did not fit, or the time zone was another.
What the game pushed before there was a key to register it is registered when there is one.
"""

import hashlib
import json
import time
from typing import Any

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.installation import Installation
from coinslot.payments import parsing, queries
from coinslot.payments import store as payments
from coinslot.payments.parsing import Payment
from coinslot.relay import jobs
from coinslot.relay.jobs import JobError
from coinslot.store.db import Connection, Database, Row
from handlers.playcamp.payments import polling, sends
from handlers.playcamp.payments.game_answer import SourceError
from handlers.playcamp.payments.rules import is_registering, rules
from handlers.playcamp.payments.source import Source, is_configured

JOB = "playcamp.recheck"
ROWS_AT_ONCE = 500
SLICE_SECONDS = 45.0  # of work in one run, so that it ends well before its lease

_DECIDING = ("playcamp.market.", "lookup.", "playcamp.payments.map", "playcamp.payments.zone")


def run(installation: Installation, game: Game) -> float | None:
    """Read on for a while; returns 0 while there is more. Raises JobError if the configuration cannot work."""
    database = installation.database
    digest = _digest(game)
    text = jobs.cursor(database.read(), game.id, JOB)
    noted = json.loads(text) if text else {}
    is_changed = noted.get("configured") != digest
    after: int | None = 0 if is_changed else noted["after"]
    try:
        source = Source(game, installation.outbound) if is_configured(game) else None
    except SourceError as error:
        raise JobError(str(error)) from None
    ends = time.monotonic() + SLICE_SECONDS
    if is_changed and game.keys("playcamp.api_key"):
        while _release(database, game) == ROWS_AT_ONCE:
            if time.monotonic() >= ends:
                return 0.0
    while after is not None and time.monotonic() < ends:
        rows = queries.parked(database.read(), game.id, after, ROWS_AT_ONCE)
        again = [(row["id"], found) for row in rows if (found := _read(game, source, row)) is not None]
        after = rows[-1]["id"] if len(rows) == ROWS_AT_ONCE else None
        _store(database, game, again, json.dumps({"configured": digest, "after": after}))
    return None if after is None else 0.0


def _release(database: Database, game: Game) -> int:
    kept = queries.kept(database.read(), game.id, "push", ROWS_AT_ONCE)

    def release(tx: Connection) -> None:
        payments.release(tx, kept)
        jobs.at(tx, game.id, sends.JOB, 0)

    if kept:
        database.write(release)
    return len(kept)


def _store(database: Database, game: Game, again: list[tuple[int, Payment]], cursor: str) -> None:
    def store(tx: Connection) -> None:
        for payment_id, payment in again:
            is_ours = payment.source == "poll" or is_registering(game)
            payments.replace_parked(tx, game.id, payment_id, payment, is_registering=is_ours)
        if again:
            jobs.at(tx, game.id, sends.JOB, 0)
        jobs.put_cursor(tx, game.id, JOB, cursor)

    database.write(store)


def _read(game: Game, source: Source | None, row: Row) -> Payment | None:
    """What a parked row becomes now; None if no configuration can fix it."""
    at, is_test = clock.seconds(row["created_at"]), bool(row["is_test"])
    document: Any = json.loads(row["reported"])
    if row["source"] == "appcharge":
        return None
    if parsing.UNMAPPED not in document:
        return parsing.check(document, rules(game), row["source"], is_test=is_test, at=at)
    raw = document[parsing.UNMAPPED]
    return None if raw is None or source is None else polling.read_row(source, raw, rules(game), is_test, at)


def _digest(game: Game) -> str:
    """Of the configuration that rows are read by, and whether there is a key to register with."""
    deciding = sorted((key, value) for key, value in game.settings.items() if key.startswith(_DECIDING))
    deciding.append(("playcamp.api_key", str(bool(game.keys("playcamp.api_key")))))
    return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()
