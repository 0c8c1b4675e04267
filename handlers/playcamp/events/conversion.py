"""PlayCamp's events in the game's own format, for destinations of the format ``playcamp``.

A background job converts the stored events, per player in order. The usual body is the sample of PlayCamp's guide;
``playcamp.events.map`` makes any other. The guide does not say how a creator's key becomes the game's number: it is a
setting per creator, or PlayCamp's own number where the owner wants that, and never guessed. An event without one is
parked; later events of its player wait, and other players' events go on.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from coinslot.base import clock
from coinslot.base.expressions import Expression
from coinslot.base.limits import ExpressionError
from coinslot.games.games import Game
from coinslot.installation import Installation
from coinslot.outbox import conversion_queue, destinations
from coinslot.outbox.conversion_queue import Open
from coinslot.relay import jobs
from coinslot.store.db import Connection
from handlers.playcamp.events.creators import ConversionError, Creators, Usn, number_of
from handlers.playcamp.events.halves import HELD, HELD_SECONDS
from handlers.playcamp.settings import is_sandbox

JOB = "playcamp.convert"
PARTNER = "playcamp"
RUN_SECONDS = 60.0  # of one run, so that it ends well before its lease
AGAIN_SECONDS = 60.0  # while something is parked: the owner may have set what was missing
CHANGES_AT_ONCE = 200  # in one write

# The types of boosts -> the settings with the game's words for them.
WORDS = {"sponsor.created": "playcamp.event.registered", "sponsor.ended": "playcamp.event.removed"}
USUAL = ("custom_data", "usn", "creator_usn", "event", "timestamp")  # of a boost, in the order of PlayCamp's sample
USUAL_OTHERS = ("event", "timestamp", "player_id", "data")

Change: TypeAlias = Callable[[Connection], Any]  # one part of a write

log = logging.getLogger("coinslot")


def run(installation: Installation, game: Game) -> float | None:
    """Convert what can be, and park the rest. Returns in how many seconds to run again: 60 while anything is parked.

    Half a change waits a moment for the other half, and later events of its player wait with it.
    """
    until = time.monotonic() + RUN_SECONDS
    connection = installation.database.read()
    creators = Creators(installation, game, until)
    held: set[str] = set()  # players with something parked; never "", which means events of no player
    # The usual body cannot say that something is a test, so tests left from the sandbox are not sent later.
    sends_tests = is_sandbox(game) or game.settings["playcamp.forward_test_events"] == "on"
    changes: list[Change] = []
    waits: list[float] = []
    for group in conversion_queue.open_groups(connection, game.id):
        if time.monotonic() >= until:
            _write(installation, changes)
            return 0.0
        tests = [] if sends_tests else [one for one in group if one.is_test]
        if tests:
            changes.append(partial(conversion_queue.drop, group=tests))
            group = [one for one in group if not one.is_test]
        if not group or (group[0].player_id and group[0].player_id in held):
            continue
        wait = _held_seconds(group)
        if wait > 0:
            waits.append(wait)
            held.add(group[0].player_id)
            continue
        group = in_order(group)
        if not destinations.wanting(connection, game.id, [one.event_type for one in group], is_converted=True):
            changes.append(partial(conversion_queue.drop, group=group))
        else:
            content, reasons = converted(game, group, creators.usn)
            if content is not None:
                changes.append(partial(conversion_queue.convert, game_id=game.id, group=group, body=content))
            else:
                held.add(group[0].player_id)
                waits.append(AGAIN_SECONDS)
                changes += _put_off(game, group, reasons)
        if len(changes) >= CHANGES_AT_ONCE:
            _write(installation, changes)
    _write(installation, changes)
    return min(waits, default=None)


def in_order(group: Sequence[Open]) -> list[Open]:
    """A player's events by their time; at the same time the ends first, since a change is an end and a beginning.

    A boost that begins and ends at the same time keeps its order. Where the halves of a change came in two calls, the
    end is first: their times may differ by some milliseconds, either way.
    """
    if group[0].batch.startswith(HELD) and len(group) == 2:
        return sorted(group, key=lambda one: one.event_type == "sponsor.created")
    ranked: list[tuple[str, int, Open]] = []
    begun: set[tuple[str, Any, Any]] = set()
    at = ""
    for one in group:
        at = one.occurred_at or at
        rank = 1
        if one.event_type in WORDS:
            data = one.data
            boost = (at, data.get("campaign_id"), data.get("creator_key") or data.get("creator_usn"))
            if one.event_type == "sponsor.created":
                begun.add(boost)
            elif boost not in begun:
                rank = 0
        ranked.append((at, rank, one))
    return [one for _, _, one in sorted(ranked, key=lambda each: each[:2])]


def converted(game: Game, group: Sequence[Open], usn_of: Callable[[str], Usn]) -> tuple[bytes | None, dict[int, str]]:
    """The body of a group; or None, and for each event at fault, by its id, the reason in a line."""
    items: list[dict[str, Any]] = []
    reasons: dict[int, str] = {}
    for one in group:
        try:
            items.append(item(game, one, usn_of))
        except ConversionError as error:
            reasons[one.id] = jobs.in_a_line(str(error))
    if reasons:
        return None, reasons
    try:
        return body(game, items), {}
    except ConversionError as error:
        return None, {group[0].id: jobs.in_a_line(str(error))}


def item(game: Game, one: Open, usn_of: Callable[[str], Usn]) -> dict[str, Any]:
    """One event as expressions see it; ``usn_of`` gives the game's number of a creator's key.

    Raises :class:`ConversionError`.
    """
    data = one.data
    timestamp = None if one.occurred_at is None else math.floor(clock.seconds(one.occurred_at))
    about = {"player_id": one.player_id or None, "is_test": one.is_test, "occurred_at": one.occurred_at}
    if one.event_type not in WORDS:
        name = one.event_type.removeprefix(f"{PARTNER}.")
        return {"event": name, "timestamp": timestamp, "data": data, **about}
    custom_data = data.get("custom_data")
    if custom_data is None and game.settings["playcamp.absent_custom_data"] == "empty":
        custom_data = ""
    creator_key, creator_usn = data.get("creator_key"), data.get("creator_usn")
    if creator_usn is None:  # otherwise another gateway has found it
        if creator_key is None:
            raise ConversionError("the event names no creator")
        creator_usn = usn_of(creator_key)
    is_number = game.settings["playcamp.user_type"] == "int"
    return {
        "custom_data": custom_data,
        "usn": number_of(one.player_id) if is_number else one.player_id,
        "creator_usn": creator_usn,
        "event": game.settings[WORDS[one.event_type]],
        "timestamp": timestamp,
        "creator_key": creator_key,
        "campaign_id": data.get("campaign_id"),
        **about,
    }


def body(game: Game, items: Sequence[Mapping[str, Any]]) -> bytes:
    """The JSON that is sent: the usual one, or what the game's expression makes of ``{"events": [...]}``.

    Raises :class:`ConversionError`.
    """
    expression = game.settings["playcamp.events.map"]
    made: Any = {"events": [_usual(each) for each in items]}
    if expression:
        try:
            made = Expression.parse(expression).apply(
                {"events": [dict(each) for each in items]},
                zone=game.settings["playcamp.payments.zone"],
                lookup=lambda table, key: game.settings.get(f"lookup.{table}.{key}"),
            )
        except ExpressionError as error:
            raise ConversionError(f"playcamp.events.map: {error}") from None
        if not isinstance(made, dict | list):
            raise ConversionError("playcamp.events.map: it makes neither an object nor a list of this")
    try:
        return json.dumps(made, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        raise ConversionError("playcamp.events.map: it makes a number that JSON cannot hold") from None


def _held_seconds(group: Sequence[Open]) -> float:
    """For how long a group still waits for another half; 0 when it does not."""
    if not group[0].batch.startswith(HELD) or len(group) > 1:
        return 0.0
    rest = HELD_SECONDS - (clock.now() - clock.seconds(group[0].created_at))
    return max(0.0, rest) if rest <= HELD_SECONDS + 1 else 0.0  # more: the clock was set back


def _usual(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item[name] for name in (USUAL if "usn" in item else USUAL_OTHERS)}


def _put_off(game: Game, group: Sequence[Open], reasons: Mapping[int, str]) -> Iterator[Change]:
    """Record why each event of a group waits, where that is not recorded yet."""
    for one in group:
        reason = reasons.get(one.id)
        if reason is not None and one.reason is None:
            log.warning("playcamp %s: event %d is parked: %s", game.slug, one.event_id, reason)
        if reason != one.reason:
            yield partial(conversion_queue.put_off, one=one, reason=reason)


def _write(installation: Installation, changes: list[Change]) -> None:
    """Make all changes in one write, and empty the list."""

    def write(tx: Connection) -> None:
        for change in changes:
            change(tx)

    if changes:
        installation.database.write(write)
        changes.clear()
