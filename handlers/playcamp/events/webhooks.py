"""PlayCamp's webhooks: ``POST /playcamp/<game>/webhook``, and ``/webhook/<hook>`` for one with a secret of its own.

Events come in batches, repeated until we answer 200. We answer once the whole batch is stored. Sponsor events go to the
game as they are, others as ``playcamp.<event>``; what a game wants in its own format is converted later
(``coinslot/outbox/conversion_queue.py``). A gateway of PlayCamp's may call here too, with events that it has already
converted.
"""

import hashlib
import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from flask import Response, current_app, jsonify, request

from coinslot.access.keyring import SecretValue
from coinslot.games.games import Game
from coinslot.ledger import boosts, credit, events, refused
from coinslot.ledger.refused import Claim
from coinslot.ledger.reports import Credited
from coinslot.outbox import conversion_queue
from coinslot.payments import store
from coinslot.relay import jobs
from coinslot.store import portions
from coinslot.store.db import Connection
from handlers.kit.receive import (
    current_installation,
    is_address_allowed,
    log_credit,
    note_call,
    note_refusal,
    plain_error,
)
from handlers.playcamp.events import coupons, payload
from handlers.playcamp.events.halves import batch_of_half, in_time, is_overtaken, other_half
from handlers.playcamp.events.payload import Fact
from handlers.playcamp.events.signature import verify, verify_converted
from handlers.playcamp.recipe import SignatureError

PARTNER = "playcamp"
ENDPOINT = "webhook"
CONVERT_JOB = "playcamp.convert"
COUPON_REDEEMED = "playcamp.coupon.redeemed"
PAYMENT_CREATED = "playcamp.payment.created"
FACTS_AT_ONCE = 30
FOREVER = 10**12  # seconds
LARGEST_SMALL_BODY = 64 * 1024  # larger ones are read one at a time

# What is counted while a call is stored -> how it is logged.
PROBLEMS = {
    "ungranted": (logging.WARNING, "%d redeemed coupon(s) could not be granted"),
    "conflicting": (logging.ERROR, "%d coupon(s) were granted before with other content"),
    "unreadable": (logging.WARNING, "%d event(s) of a webhook could not be read"),
}


@dataclass
class Kept:
    """What became of a part of a call, for the log: usages of coupons with their credits, and counts
    by :data:`PROBLEMS`.
    """

    granted: list[tuple[str, Credited]] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)


@dataclass
class Call:
    """A call that has proved itself, while it is stored.

    ``only`` is the body of a call with one event: it is stored as it was signed. ``delivery`` is another gateway's id
    of the call, the same for each retry. ``boosted`` has the players of the call's boosts, with the types of those
    events. ``repeats`` counts how often each event has come in this call so far.
    """

    game: Game
    only: bytes | None
    header: str
    signer: SecretValue
    delivery: str
    boosted: set[tuple[str | None, str]]
    batch: str = field(default_factory=lambda: uuid.uuid4().hex)
    repeats: Counter[str] = field(default_factory=Counter)


def receive(game_slug: str, hook: str | None = None) -> Response:
    """Store what is new in a batch, a long one in portions; an unreadable event does not fail the others.

    The 200 says that all of it is stored. The retry of a call that broke off stores the rest.
    """
    installation = current_installation()
    game = installation.games.by_slug(game_slug)
    keys = () if game is None else secrets_of(game, hook)
    if game is None or not keys:
        return _refuse(game, "unknown_game", 404, "Not Found")
    if not is_address_allowed(game, PARTNER):
        return _refuse(game, "address", 403, "Forbidden")
    body = request.get_data(cache=True)
    if not body:
        return _refuse(game, "malformed", 400, "The body is empty")
    try:
        signer = _prove(game, body, keys, int(game.settings["playcamp.tolerance_seconds"]))
    except SignatureError as error:
        return _refuse(game, error.reason, 401, "Unauthorized")
    note_call(game, PARTNER, ENDPOINT, signer)
    with portions.one_at_a_time() if len(body) > LARGEST_SMALL_BODY else nullcontext():
        try:
            received = payload.parse(body)
        except ValueError as error:
            return _refuse(game, "malformed", 400, f"The body cannot be read: {error}")
        facts = [fact for event in received for fact in payload.read(game, event)]
        call = Call(
            game=game,
            only=body if len(received) == 1 else None,
            header=_signature(),
            signer=signer,
            delivery=request.headers.get("X-Gateway-Delivery", ""),
            boosted={(fact.player_id, fact.type) for fact in facts if fact.is_boost},
        )
        made = portions.write_each(
            installation.database.write, _cut(in_time(facts)), lambda tx, some: keep(tx, call, some)
        )
    if refused.has_open(installation.database.read(), game.id, PARTNER):
        installation.database.write(lambda tx: refused.mend_call(tx, game.id, PARTNER, body))
    for usage_id, credited in (each for kept in made for each in kept.granted):
        log_credit(PARTNER, game, f"coupon usage {usage_id}", credited)
    for problem, (level, text) in PROBLEMS.items():
        if count := sum(kept.problems[problem] for kept in made):
            current_app.logger.log(level, f"playcamp %s: {text}", game.slug, count)
    return jsonify(received=True)


def claim(game: Game, endpoint: str) -> Claim | None:
    """What the current request reports, if a secret of the game signed it, whatever else is wrong with it."""
    if endpoint != ENDPOINT:
        return None
    body = request.get_data(cache=True)
    try:
        _prove(game, body, secrets_of(game, None), FOREVER)
    except SignatureError:
        return None
    return Claim(game.id, (refused.body_name(body),))


def secrets_of(game: Game, hook: str | None) -> tuple[SecretValue, ...]:
    """What may have signed a call: at a hook's own address only its secret, else any of the game's."""
    if hook is not None:
        return game.keys(f"playcamp.webhook_secret.{hook}")
    named = (name for name in game.secrets if name.startswith("playcamp.webhook_secret."))
    return tuple(key for name in ("playcamp.webhook_secret", *named) for key in game.keys(name))


def _cut(facts: Sequence[Fact]) -> list[Sequence[Fact]]:
    """A call in parts that are stored one after another. In a long one each player's facts stay together and in order,
    up to :data:`FACTS_AT_ONCE`, so that an end and its beginning are rarely separated.
    """
    if len(facts) <= FACTS_AT_ONCE:
        return [facts]
    of_player: dict[str | None, list[Fact]] = {}
    for fact in facts:
        of_player.setdefault(fact.player_id, []).append(fact)
    return [some for own in of_player.values() for some in portions.ready_made(own, FACTS_AT_ONCE)]


def keep(tx: Connection, call: Call, facts: Sequence[Fact]) -> Kept:
    """Store what is new: the events, their changes to boosts and grants, and what is to be converted."""
    game, kept = call.game, Kept()
    environment = game.settings["playcamp.environment"]
    is_converting = False
    for fact in facts:
        dedupe_key = _key(tx, game, fact, call.delivery, call.repeats[fact.dedupe_key])
        call.repeats[fact.dedupe_key] += 1
        if dedupe_key is None:
            continue
        is_test = fact.is_marked or environment == "sandbox"
        event_id = events.record(
            tx,
            game_id=game.id,
            partner=PARTNER,
            type=fact.type,
            dedupe_key=dedupe_key,
            data=fact.data,
            raw_body=call.only or fact.raw,
            environment=environment,
            is_test=is_test,
            external_id=fact.external_id,
            player_id=fact.player_id,
            occurred_at=fact.occurred_at,
            counted_as="event",
        )
        if event_id is None:
            continue
        kept.problems["unreadable"] += fact.type == payload.UNREADABLE
        if fact.type == PAYMENT_CREATED and fact.external_id is not None and not is_test:
            store.note_attribution(tx, game.id, fact.external_id)
        kept.problems["ungranted"] += fact.type == COUPON_REDEEMED and fact.coupon is None
        is_wanted = is_forwarded(game, fact)
        is_half = fact.is_boost and (fact.player_id, other_half(fact)) not in call.boosted
        batch = batch_of_half(tx, game, fact, is_test, call.batch) if is_wanted and is_half else call.batch
        _apply_boost(tx, game, fact, is_test)
        _grant(tx, call, fact, kept)
        if not is_wanted:
            continue
        drops = game.settings["playcamp.events.overtaken"] == "drop"
        if not (drops and is_overtaken(tx, game, fact, is_test, batch)):
            conversion_queue.add(tx, game.id, event_id, fact.player_id or "", batch)
            is_converting = True
    if is_converting:
        jobs.at(tx, game.id, CONVERT_JOB, 0)
    return kept


def _grant(tx: Connection, call: Call, fact: Fact, kept: Kept) -> None:
    if fact.coupon is None or fact.player_id is None:
        return
    wanted = coupons.to_credit(
        call.game,
        fact.coupon,
        fact.player_id,
        fact.is_marked,
        occurred_at=fact.occurred_at,
        raw_body=call.only or fact.raw,
        signature=call.header,
        signed_with=call.signer.label,
    )
    outcome = credit.report_within(tx, wanted, coupons.RULES)
    kept.problems["conflicting"] += outcome.reason == "conflict"
    if outcome.credited is not None:
        kept.granted.append((wanted.reference, outcome.credited))


def _key(tx: Connection, game: Game, fact: Fact, delivery: str, nth: int) -> str | None:
    """What a repeat of an event is recognised by; None for a repeat.

    Another gateway sends times in whole seconds. The same boost in another call, or again in the same one, is a repeat,
    unless the opposite of it has come since: then the boost has changed back.
    """
    key = fact.dedupe_key
    if fact.opposite_key is None:
        return key
    own = f"{key}:{hashlib.sha256(delivery.encode()).hexdigest()[:16]}:{nth}" if delivery or nth else key
    last = events.last_like(tx, game.id, PARTNER, key)
    if last is None:
        return own
    opposite = None if own == key else events.last_like(tx, game.id, PARTNER, fact.opposite_key)
    return own if opposite is not None and opposite > last else None


def is_forwarded(game: Game, fact: Fact) -> bool:
    """Whether a fact is to be converted into the game's own format."""
    also = [word.strip() for word in game.settings["playcamp.events.also"].split(",")]
    if not fact.is_boost and fact.name not in also and fact.type not in also:
        return False
    if not fact.is_marked:
        return True
    wish = game.settings["playcamp.forward_test_events"]
    return wish == "on" or (wish == "auto" and game.settings["playcamp.environment"] == "sandbox")


def _prove(game: Game, body: bytes, keys: Sequence[SecretValue], tolerance: int) -> SecretValue:
    if "x-webhook-signature" not in request.headers and "x-gateway-signature" in request.headers:
        return verify_converted(body, request.headers.get("x-gateway-timestamp", ""), _signature(), keys, tolerance)
    return verify(body, _signature(), keys, tolerance)


def _signature() -> str:
    """As received. A gateway that has converted an event uses a header of its own."""
    return request.headers.get("x-webhook-signature") or request.headers.get("x-gateway-signature", "")


def _apply_boost(tx: Connection, game: Game, fact: Fact, is_test: bool) -> None:
    if fact.creator_key is None or fact.player_id is None or fact.occurred_at is None or not fact.is_boost:
        return
    boost = boosts.Boost(
        game_id=game.id,
        player_id=fact.player_id,
        campaign_id=fact.data["campaign_id"] or "",
        creator_key=fact.creator_key,
        is_test=is_test,
        changed_at=fact.occurred_at,
    )
    (boosts.begin if fact.type == "sponsor.created" else boosts.end)(tx, boost)


def _refuse(game: Game | None, reason: str, status: int, message: str) -> Response:
    answered = plain_error(status, message)
    note_refusal(PARTNER, ENDPOINT, game, reason, status, answer=answered)
    return answered
