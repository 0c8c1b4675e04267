"""Changes of creator that come as two events: held until both halves are there, and sent on as one batch."""

import json
import uuid
from collections import Counter
from collections.abc import Sequence

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.ledger import boosts
from coinslot.outbox import conversion_queue
from coinslot.store.db import Connection, Row
from handlers.playcamp.events import payload
from handlers.playcamp.events.payload import Fact

# Batches of half a change. One that is held waits for its other half, which comes in a call of its own where each event
# type has its own address.
HELD = "held:"
HALF = "half:"
HELD_SECONDS = 3.0  # that one waits, and that the times the halves say may be apart


def batch_of_half(tx: Connection, game: Game, fact: Fact, is_test: bool, batch: str) -> str:
    """The batch of one half of a change, or of what may be one: that of its other half, while that is still here.

    Else one of its own, which is held where the player has supported somebody until now: for a moment there may be
    more to come. To be asked before the boost is applied.
    """
    if fact.creator_key is None:
        return batch
    rows = [
        row for row in conversion_queue.open_of(tx, game.id, fact.player_id or "") if _is_beside(row, fact, is_test)
    ]
    joined = _batch_of_other_half(rows, fact)
    if joined is not None:
        return joined
    if any(row["batch"].startswith((HELD, HALF)) and row["occurred_at"] == fact.occurred_at for row in rows):
        return batch  # the moment has had its half, or two of them
    supported = _supported(tx, game, fact, is_test)
    is_ended = supported == fact.creator_key
    is_held = supported is not None and is_ended == (fact.type == "sponsor.ended")
    return (HELD if is_held else HALF) + uuid.uuid4().hex


def _batch_of_other_half(rows: Sequence[Row], fact: Fact) -> str | None:
    """Among open events of a boost, the batch of the other half of the same change; of several the nearest in time.

    What is held may say another time, a little before or after. A batch is told where it began: an end may be added
    there, since it goes before the beginning, but no beginning that would go before what came since.
    """
    of_batch = Counter(row["batch"] for row in rows)
    found: list[tuple[float, str]] = []
    for row in rows if fact.type == "sponsor.ended" else rows[-1:]:
        name, creator_key = row["batch"], json.loads(row["data"])["creator_key"]
        if of_batch[name] > 1 or row["type"] != other_half(fact) or creator_key == fact.creator_key:
            continue
        apart = abs(clock.seconds(row["occurred_at"]) - clock.seconds(fact.occurred_at or ""))
        if (name.startswith(HELD) and apart <= HELD_SECONDS) or (name.startswith(HALF) and apart == 0):
            found.append((apart, name))
    return min(found, key=lambda each: each[0])[1] if found else None


def in_time(facts: Sequence[Fact]) -> list[Fact]:
    """The facts of a call, those about boosts in the order of their time: so the game is told of them.

    Nothing is overtaken by what comes in the same call then. Other facts stay where they are.
    """
    ordered = iter(sorted((fact for fact in facts if fact.is_boost), key=lambda fact: fact.occurred_at or ""))
    return [next(ordered) if fact.is_boost else fact for fact in facts]


def is_overtaken(tx: Connection, game: Game, fact: Fact, is_test: bool, batch: str) -> bool:
    """Whether what a fact says of a boost was over when it came, as later events had said. Asked once it is applied.

    Told after those it would be believed, by a game that does not look at its time. An end that joins the other half of
    its change is told before them.
    """
    if not fact.is_boost or fact.creator_key is None or fact.player_id is None or fact.occurred_at is None:
        return False
    is_supported = _supported(tx, game, fact, is_test) == fact.creator_key
    if fact.type == "sponsor.created":
        return not is_supported
    is_joining = batch.startswith((HELD, HALF)) and any(
        row["batch"] == batch for row in conversion_queue.open_of(tx, game.id, fact.player_id)
    )
    return is_supported and not is_joining


def _is_beside(row: Row, fact: Fact, is_test: bool) -> bool:
    """Whether an event is about the same boost as a fact: the campaign's, and a test's or none."""
    is_boost = row["type"] in payload.SPONSOR and row["is_test"] == is_test
    return is_boost and json.loads(row["data"])["campaign_id"] == fact.data["campaign_id"]


def _supported(tx: Connection, game: Game, fact: Fact, is_test: bool) -> str | None:
    """The creator whom a fact's player supports now, in its campaign."""
    where = (fact.data["campaign_id"], is_test)
    for boost in boosts.current(tx, game.id, fact.player_id or ""):
        if (boost["campaign_id"], boost["is_test"]) == where:
            return str(boost["creator_key"])
    return None


def other_half(fact: Fact) -> str:
    return "sponsor.ended" if fact.type == "sponsor.created" else "sponsor.created"
