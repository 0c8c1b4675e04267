"""PlayCamp as ``flask simulate`` plays it: a player's entry, webhooks, and a gateway that asks for payments.

All of it names the reserved player, so that nothing counts. The fate of a webhook is read from our database: converted
and taken by the game, or parked for a reason. Calls of ours to others are made as the server makes them, and nothing is
stored: to the game's own payment API, and to PlayCamp with a coupon and payments that are marked as tests. Those to
PlayCamp, and an entry that succeeds and so has a token issued, are made only to the sandbox or a PlayCamp on this
machine. The game server's own calls are not played: its API token is stored as a hash.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from coinslot.base import clock, signing
from coinslot.games.games import Game
from coinslot.games.registry import RESERVED_ID
from coinslot.ledger import events
from coinslot.outbox import conversion_queue, destinations
from coinslot.outbox import lists as delivery_lists
from coinslot.relay import jobs
from handlers.kit.api import ApiError
from handlers.kit.partner import Call, Check, answered_object
from handlers.kit.receive import current_installation
from handlers.playcamp.api.client import Client, base_url
from handlers.playcamp.entries.entry import ENDPOINT as ENTRY
from handlers.playcamp.entries.entry import allowed_campaigns, recipe_of
from handlers.playcamp.entries.game_call import entry_query
from handlers.playcamp.events import payload
from handlers.playcamp.events.webhooks import CONVERT_JOB, PARTNER, is_forwarded, secrets_of
from handlers.playcamp.events.webhooks import ENDPOINT as WEBHOOK
from handlers.playcamp.payments.query import ENDPOINT as PAYMENTS
from handlers.playcamp.payments.registration import sample_payment
from handlers.playcamp.payments.rules import fingerprint
from handlers.playcamp.payments.source import is_configured
from handlers.playcamp.payments.window_preview import MOST_PAGES, try_window
from handlers.playcamp.recipe import sign

FORGED_KEY = b"not the key that was agreed upon"
REWARD = {"itemId": RESERVED_ID, "itemQuantity": 1}
CONVERSION_SECONDS = 15.0  # to convert an event, with half a change held, and for the game to answer
LOOK_SECONDS = 0.1
CALL_SECONDS = 15.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def simulate(game: Game) -> Iterator[Call | Check]:
    """Each address of PlayCamp's that has a secret: good calls, repeats, and calls that must be refused."""
    if game.keys("playcamp.shared_key"):
        yield from _entries(game)
    if secrets_of(game, None):
        yield from _webhooks(game)
    if game.keys("playcamp.payments_key"):
        yield from _queries(game)
    if is_configured(game):
        yield Check("the game's own payments, one window", "rows that can be sent, or none", partial(_polled, game))
    if _may_call(game):
        yield Check("payments in bulk, as a test", "registered", partial(_registered, game))
        yield Check("a coupon, validated as a test", "an answer", partial(_validated, game))


def proved(game: Game, endpoint: str, content: Mapping[str, Any]) -> Call:
    """An entry of a ``user``, or a webhook with this one event, as it would come now. Raises ValueError."""
    if endpoint == ENTRY:
        key = game.keys("playcamp.shared_key")[0].value
        return _call(endpoint, _entry(game, key, user=content["user"], signed_for=content["user"]), {})
    body, key = _batch(content), secrets_of(game, None)[0].value
    return _webhook(endpoint, f"/playcamp/{game.slug}/webhook", body, _signed_at(body, key), 200)


def _call(
    title: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    status: int = 401,
    expected: str = "",
    expect: Callable[[int, bytes], str | None] | None = None,
    sample_of: str = "",
) -> Call:
    """A call that must be refused with ``status``, or one that ``expect`` judges."""

    def has_status(answered: int, _: bytes) -> str | None:
        return None if answered == status else f"must be refused with {status}"

    method = "GET" if body is None else "POST"
    return Call(title, method, path, headers, body, expected or str(status), expect or has_status, sample_of)


def _entries(game: Game) -> Iterator[Call]:
    key = game.keys("playcamp.shared_key")[0].value
    age = float(game.settings["playcamp.tolerance_seconds"]) + 60
    try:
        good = _entry(game, key)
        refused = {
            "entry: signed with another key": _entry(game, FORGED_KEY),
            "entry: signed too long ago": _entry(game, key, at=clock.now() - age),
            "entry: of another player": _entry(game, key, user=f"{RESERVED_ID}-other"),
            "entry: not signed": good.partition("?")[0],
        }
    except ValueError:
        return  # the recipe cannot sign for this player, so no such entry can come
    if _may_call(game):
        yield _call("entry", good, {}, expected="302, to the WebView", expect=_leads_on, sample_of=ENTRY)
        if game.is_on("playcamp.entry_once"):
            yield _call("the same entry again", good, {}, expected="401, used")
        else:
            yield _call("the same entry again", good, {}, expected="302, a token of its own", expect=_leads_on)
    for title, path in refused.items():
        yield _call(title, path, {})


def _entry(
    game: Game, key: bytes, at: float | None = None, user: str = RESERVED_ID, signed_for: str = RESERVED_ID
) -> str:
    """The address of an entry of ``user``. Raises ValueError."""
    campaign = next(iter(allowed_campaigns(game)), None)
    signed = sign(recipe_of(game), key, signed_for, campaign, clock.now() if at is None else at)
    return f"/api/{game.slug}/sponsor?{entry_query(game, user, campaign, signed)}"


def _may_call(game: Game) -> bool:
    """Whether calls to PlayCamp are made."""
    if not game.keys("playcamp.api_key"):
        return False
    try:
        is_here = urlsplit(base_url(game)).hostname in LOOPBACK
    except ApiError:
        return False
    return is_here or game.settings["playcamp.environment"] == "sandbox"


def _webhooks(game: Game) -> Iterator[Call | Check]:
    key = secrets_of(game, None)[0].value
    path = f"/playcamp/{game.slug}/webhook"
    now = f"{clock.stamp()[:23]}Z"
    data = {"userId": RESERVED_ID, "campaignId": RESERVED_ID, "creatorKey": "TEST1"}
    created = {"event": "sponsor.created", "timestamp": now, "isTest": True, "data": data}
    both = {"userId": RESERVED_ID, "campaignId": RESERVED_ID, "oldCreatorKey": "TEST1", "newCreatorKey": "TEST2"}
    changed = {**created, "event": "sponsor.changed", "data": both}
    ended = {**created, "event": "sponsor.ended", "data": {**data, "creatorKey": "TEST2"}}
    coupon = {"couponCode": RESERVED_ID, "userId": RESERVED_ID, "usageId": 1, "reward": [REWARD]}
    redeemed = {**created, "event": "coupon.redeemed", "data": coupon}
    for title, some, signature, sample_of in (
        ("webhook", [created], _signed, WEBHOOK),
        ("the same webhook again", [created], _signed, ""),
        ("webhook with a timestamp, two events", [changed, ended], _signed_at, ""),
        ("an event nobody knows yet", [{**created, "event": "a.new.one"}], _signed_at, ""),
        ("a coupon redeemed", [redeemed], _signed, ""),
        ("a batch without events", [], _signed, ""),
    ):
        body = _batch(*some)
        yield _webhook(title, path, body, signature(body, key), 200, sample_of)
    (fact,) = payload.read(game, created)
    is_wanted = destinations.wanting(current_installation().database.read(), game.id, [fact.type], is_converted=True)
    if is_wanted and is_forwarded(game, fact):
        yield Check("the webhook in the game's format", "taken by the game", partial(_converted, game, fact.dedupe_key))
    body = _batch(created)
    for name in sorted(game.secrets):
        hook = name.removeprefix("playcamp.webhook_secret.")
        if hook != name:
            own = game.keys(name)[0].value
            yield _webhook(f"webhook {hook}", f"{path}/{quote(hook, safe='')}", body, _signed(body, own), 200)
    age = int(game.settings["playcamp.tolerance_seconds"]) + 60
    for title, sent, proof, status in (
        ("webhook: signed with another key", body, _signed(body, FORGED_KEY), 401),
        ("webhook: signed too long ago", body, _signed_at(body, key, -age), 401),
        ("webhook: one byte more", body + b" ", _signed(body, key), 401),
        ("webhook: not signed", body, None, 401),
        ("webhook: no JSON", b"{", _signed(b"{", key), 400),
    ):
        yield _webhook(title, path, sent, proof, status)


def _webhook(title: str, path: str, body: bytes, signature: str | None, status: int, sample_of: str = "") -> Call:
    headers = {"Content-Type": "application/json", "X-Webhook-Batch": "true"}
    if signature is not None:
        headers["X-Webhook-Signature"] = signature
    return _call(title, path, headers, body, status, expect=_takes if status == 200 else None, sample_of=sample_of)


def _converted(game: Game, dedupe_key: str) -> tuple[str, str | None]:
    """What became of an event on its way to the game, and what is wrong with that.

    A parked event is nothing wrong: it waits for its owner. So does one behind a parked event of the same player.
    """
    connection = current_installation().database.read()
    event_id = events.find(connection, game.id, PARTNER, dedupe_key)
    if event_id is None:
        return "not in this database", "must be in the database here; is --url its server?"
    until = time.monotonic() + CONVERSION_SECONDS
    while True:
        is_idle = _is_conversion_idle(game)  # asked first: an event that still waits then is held back
        fate = conversion_queue.fate(connection, event_id)
        if fate is None:
            return "not to be converted: nobody wants it any more, or a later event has overtaken it", None
        state, failed = str(fate["state"]), False
        reason = fate["reason"] if state == "parked" else None
        if state == "waiting" and is_idle:
            reason = conversion_queue.held_by(connection, event_id)
        if reason is not None:
            return f"parked: {reason}", None
        if state == "converted":
            sent = delivery_lists.of_event(connection, game.id, fate["sent_as"])
            if all(each["state"] == "delivered" for each in sent):
                return f"converted, delivered to {', '.join(each['destination'] for each in sent)}", None
            attempts = (f"{each['destination']}: {each['last_attempt'] or each['state']}" for each in sent)
            state = f"converted, {'; '.join(attempts)}"
            failed = any(each["last_attempt"] not in (None, "ok") for each in sent)
        if failed:
            return state, "must be taken by the game's endpoint"
        if time.monotonic() >= until:
            return state, f"must be delivered within {CONVERSION_SECONDS:.0f} seconds; is a relay running?"
        time.sleep(LOOK_SECONDS)


def _is_conversion_idle(game: Game) -> bool:
    """Whether the conversion job has seen every event so far, and is not due."""
    rows = jobs.listing(current_installation().database.read(), game.id)
    return any(
        row["lease_owner"] is None and not row["failures"] and (row["due_at"] is None or row["due_at"] > clock.stamp())
        for row in rows
        if row["name"] == CONVERT_JOB
    )


def _polled(game: Game) -> tuple[str, str | None]:
    found = try_window(current_installation(), game, most_pages=MOST_PAGES)
    parked = f", {found.parked_count} cannot be sent" if found.parked_count else ""
    return f"{found.count} row(s){parked}", found.wrong


def _registered(game: Game) -> tuple[str, str | None]:
    payment = sample_payment()
    try:
        found = _client(game).register_payments([payment], is_test=True)[payment["transactionId"]]
    except ApiError as error:
        return str(error), "must be registered; is playcamp.api_key the key of this PlayCamp?"
    return found.error or found.status, None if found.is_registered else "must be registered"


def _validated(game: Game) -> tuple[str, str | None]:
    """Any answer is good: PlayCamp may answer a test with a mock."""
    try:
        found = _client(game).validate_coupon(RESERVED_ID, RESERVED_ID, is_test=True)
    except ApiError as error:
        return str(error), "must be answered; is playcamp.api_key the key of this PlayCamp?"
    return "valid" if found.is_accepted else f"not valid: {found.error_code}", None


def _client(game: Game) -> Client:
    return Client(game, current_installation().outbound, patience_seconds=CALL_SECONDS, tries=1)


def _queries(game: Game) -> Iterator[Call]:
    key = game.keys("playcamp.payments_key")[0].value
    path = f"/playcamp/{game.slug}/payments"
    now = int(clock.now())
    query = f"to={now}&from={now - 3600}&limit=1"
    age = int(game.settings["playcamp.tolerance_seconds"]) + 60

    def proof(key: bytes, later_seconds: int = 0) -> dict[str, str]:
        timestamp = str(int(clock.now()) + later_seconds)
        made = fingerprint("GET", path, query.encode(), timestamp, key)
        return {"X-Partner": game.slug, "X-Timestamp": timestamp, "X-Fingerprint": made}

    def lists(status: int, answered: bytes) -> str | None:
        is_good = status == 200 and isinstance(answered_object(answered).get("payments"), list)
        return None if is_good else "must get 200 and a list of payments"

    asked = f"{path}?{query}"
    yield _call("payment query", asked, proof(key), expected="200, payments", expect=lists, sample_of=PAYMENTS)
    yield _call("payment query: with another key", asked, proof(FORGED_KEY))
    yield _call("payment query: proved too long ago", asked, proof(key, -age))
    yield _call("payment query: of another range", asked.replace("limit=1", "limit=2"), proof(key))
    yield _call("payment query: not proved", asked, {})


def _signed(body: bytes, key: bytes) -> str:
    return signing.hmac_hex("sha256", key, body)


def _signed_at(body: bytes, key: bytes, later_seconds: int = 0) -> str:
    timestamp = int(clock.now()) + later_seconds
    return f"t={timestamp},v1={_signed(f'{timestamp}.'.encode() + body, key)}"


def _batch(*some: Mapping[str, Any]) -> bytes:
    return json.dumps({"events": some}, separators=(",", ":")).encode()


def _leads_on(status: int, answered: bytes) -> str | None:
    return None if status == 302 else "must lead to the WebView; is PlayCamp reachable, and playcamp.api_key its key?"


def _takes(status: int, answered: bytes) -> str | None:
    return (
        None if status == 200 and answered_object(answered).get("received") is True else "must be acknowledged with 200"
    )
