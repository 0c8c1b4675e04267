"""Changes of creator that come as two events: held until both halves have come, and sent on as one batch."""

import json
import uuid
from collections import Counter
from collections.abc import Sequence

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.ledger import boosts
from coinslot.outbox import conversion_queue
from coinslot.store.db import Connection, Row
from handlers.playcamp.events.payload import SPONSOR, Fact

# Batches of half a change. A held one waits for its other half, which comes in a call of its own where each event type
# has its own address.
HELD = "held:"
HALF = "half:"
HELD_SECONDS = 3.0  # how long one waits, and how far apart the times of two halves may be


def batch_of_half(tx: Connection, game: Game, fact: Fact, is_test: bool, batch: str) -> str:
    """The batch of one half of a change, or of what may be one: that of its other half, while that is still unsent.

    Else a new one, which is held if the player has supported a creator until now: the other half may follow soon. To be
    called before the boost is applied.
    """
    if fact.creator_key is None:
        return batch
    rows = [row for row in conversion_queue.open_of(tx, game.id, fact.player_id or "") if _is_alike(row, fact, is_test)]
    joined = _batch_of_other_half(rows, fact)
    if joined is not None:
        return joined
    if any(row["batch"].startswith((HELD, HALF)) and row["occurred_at"] == fact.occurred_at for row in rows):
        return batch  # one or both halves of this moment have come
    supported = _supported(tx, game, fact, is_test)
    is_ended = supported == fact.creator_key
    is_held = supported is not None and is_ended == (fact.type == "sponsor.ended")
    return (HELD if is_held else HALF) + uuid.uuid4().hex


def _batch_of_other_half(rows: Sequence[Row], fact: Fact) -> str | None:
    """Among a boost's unsent events, the batch of the other half of the same change; of several the nearest in time.

    The time of a held one may differ a little. A batch is sent in the place of its first event: an end may join any,
    since it goes before the beginning; a beginning joins only the last one, or it would overtake later events.
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
    """The facts of a call with its boosts in the order of their time, so that none is overtaken by one of its own call.

    Other facts keep their place.
    """
    ordered = iter(sorted((fact for fact in facts if fact.is_boost), key=lambda fact: fact.occurred_at or ""))
    return [next(ordered) if fact.is_boost else fact for fact in facts]


def is_overtaken(tx: Connection, game: Game, fact: Fact, is_test: bool, batch: str) -> bool:
    """Whether later events had come that make this boost over. To be called once the boost is applied.

    A game that ignores times would believe the event that comes last. An end that joins the other half of its change is
    sent before the later ones.
    """
    if fact.creator_key is None or fact.player_id is None or fact.occurred_at is None:
        return False
    is_supported = _supported(tx, game, fact, is_test) == fact.creator_key
    if fact.type == "sponsor.created":
        return not is_supported
    is_joining = batch.startswith((HELD, HALF)) and any(
        row["batch"] == batch for row in conversion_queue.open_of(tx, game.id, fact.player_id)
    )
    return is_supported and not is_joining


def _is_alike(row: Row, fact: Fact, is_test: bool) -> bool:
    """Whether an event is about the same boost as a fact: same campaign, both tests or neither."""
    is_boost = row["type"] in SPONSOR and row["is_test"] == is_test
    return is_boost and json.loads(row["data"])["campaign_id"] == fact.data["campaign_id"]


def _supported(tx: Connection, game: Game, fact: Fact, is_test: bool) -> str | None:
    """The creator that a fact's player supports now, in its campaign."""
    where = (fact.data["campaign_id"], is_test)
    for boost in boosts.current(tx, game.id, fact.player_id or ""):
        if (boost["campaign_id"], boost["is_test"]) == where:
            return str(boost["creator_key"])
    return None


def other_half(fact: Fact) -> str:
    """The type of the event that together with this one is a change."""
    return "sponsor.ended" if fact.type == "sponsor.created" else "sponsor.created"
