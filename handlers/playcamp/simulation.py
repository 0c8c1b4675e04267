"""PlayCamp as ``flask simulate`` plays it: a player who enters, webhooks, a gateway that asks for payments.

All of it names the reserved player only, so that nothing of it counts. What came of a webhook is looked up in our
database: converted and taken by the game, or parked for a reason. Where we call others, they are called as the server
does, and nothing is stored: the game's own payment API, and PlayCamp with a coupon and payments that are marked as
tests. That, and an entry that succeeds and so has a token issued, is played against the sandbox only, or a PlayCamp on
this machine. What the game's server asks of us is not played: its API token is known here by its hash alone.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.games.registry import RESERVED_ID
from coinslot.ledger import events
from coinslot.outbox import conversion_queue, destinations
from coinslot.outbox import lists as delivery_lists
from coinslot.relay import jobs
from handlers.kit.api import ApiError
from handlers.kit.partner import Call, Check
from handlers.kit.receive import current_installation
from handlers.playcamp.api.client import Client, base_url
from handlers.playcamp.entries.entry import ENDPOINT as ENTRY
from handlers.playcamp.entries.entry import allowed_campaigns, recipe_of
from handlers.playcamp.events import payload
from handlers.playcamp.events.webhooks import CONVERT_JOB, PARTNER, is_forwarded, secrets_of
from handlers.playcamp.events.webhooks import ENDPOINT as WEBHOOK
from handlers.playcamp.payments.query import ENDPOINT as PAYMENTS
from handlers.playcamp.payments.query import fingerprint
from handlers.playcamp.payments.registration import sample_payment
from handlers.playcamp.payments.source import is_configured
from handlers.playcamp.payments.window_preview import MOST_PAGES, try_window
from handlers.playcamp.recipe import sign

Expect = Callable[[int, bytes], str | None]
FORGED_KEY = b"not the key that was agreed upon"
REWARD = {"itemId": RESERVED_ID, "itemQuantity": 1}
CONVERSION_SECONDS = 15.0  # for an event to be converted, half a change held, and the game to answer
LOOK_SECONDS = 0.1
CALL_SECONDS = 15.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def simulate(game: Game) -> Iterator[Call | Check]:
    """Each address of PlayCamp's that has a secret: good calls, repeats, and of each what must be refused."""
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


def _entries(game: Game) -> Iterator[Call]:
    key = game.keys("playcamp.shared_key")[0].value
    age = float(game.settings["playcamp.tolerance_seconds"]) + 60
    try:
        good = _entry(game, key)
        forged = _entry(game, FORGED_KEY)
        stale = _entry(game, key, at=clock.now() - age)
        other = _entry(game, key, user=f"{RESERVED_ID}-other")
    except ValueError:
        return  # the recipe cannot sign for this player, and what it cannot sign nobody can send
    if _may_call(game):
        yield Call("entry", "GET", good, {}, None, "302, to the WebView", _leads_on, sample_of=ENTRY)
        again = (401, "401, used") if game.is_on("playcamp.entry_once") else (302, "302, a token of its own")
        expect = _leads_on if again[0] == 302 else _answers(401)
        yield Call("the same entry again", "GET", good, {}, None, again[1], expect)
    for title, path in (
        ("entry: signed with another key", forged),
        ("entry: signed too long ago", stale),
        ("entry: of somebody else", other),
        ("entry: not signed", good.partition("?")[0]),
    ):
        yield Call(title, "GET", path, {}, None, "401", _answers(401))


def _entry(game: Game, key: bytes, at: float | None = None, user: str = RESERVED_ID) -> str:
    """An address that is signed for the reserved player, and says that ``user`` comes. Raises ValueError."""
    campaign = next(iter(allowed_campaigns(game)), None)
    signed = sign(recipe_of(game), key, RESERVED_ID, campaign, clock.now() if at is None else at)
    given = {"user": user, "campaign": campaign, "auth": signed}
    query = {game.settings[f"playcamp.param.{name}"]: value for name, value in given.items() if value is not None}
    return f"/api/{game.slug}/sponsor?{urlencode(query, quote_via=quote, safe='')}"


def _may_call(game: Game) -> bool:
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
    data = {"userId": RESERVED_ID, "campaignId": RESERVED_ID, "creatorKey": "TEST1"}
    created = {"event": "sponsor.created", "timestamp": _now(), "isTest": True, "data": data}
    body = _batch(created)
    first = _webhook("webhook", path, body, _signed(body, key), 200)
    yield Call(**{**vars(first), "sample_of": WEBHOOK})
    yield _webhook("the same webhook again", path, body, _signed(body, key), 200)
    both = {"userId": RESERVED_ID, "campaignId": RESERVED_ID, "oldCreatorKey": "TEST1", "newCreatorKey": "TEST2"}
    changed = {**created, "event": "sponsor.changed", "data": both}
    ended = {**created, "event": "sponsor.ended", "data": {**data, "creatorKey": "TEST2"}}
    body = _batch(changed, ended)
    yield _webhook("webhook with a timestamp, two events", path, body, _signed_at(body, key), 200)
    body = _batch({**created, "event": "a.new.one"})
    yield _webhook("an event nobody knows yet", path, body, _signed_at(body, key), 200)
    coupon = {"couponCode": RESERVED_ID, "userId": RESERVED_ID, "usageId": 1, "reward": [REWARD]}
    body = _batch({**created, "event": "coupon.redeemed", "data": coupon})
    yield _webhook("a coupon redeemed", path, body, _signed(body, key), 200)
    body = _batch()
    yield _webhook("a batch without events", path, body, _signed(body, key), 200)
    (fact,) = payload.read(game, created)
    is_wanted = destinations.wanting(current_installation().database.read(), game.id, [fact.type], is_converted=True)
    if is_wanted and is_forwarded(game, fact):
        yield Check("the webhook in the game's format", "taken by the game", partial(_converted, game, fact.dedupe_key))
    for name in sorted(game.secrets):
        hook = name.removeprefix("playcamp.webhook_secret.")
        if hook != name:
            body = _batch(created)
            own = game.keys(name)[0].value
            yield _webhook(f"webhook {hook}", f"{path}/{quote(hook, safe='')}", body, _signed(body, own), 200)
    body = _batch(created)
    age = int(game.settings["playcamp.tolerance_seconds"]) + 60
    yield _webhook("webhook: signed with another key", path, body, _signed(body, FORGED_KEY), 401)
    yield _webhook("webhook: signed too long ago", path, body, _signed_at(body, key, -age), 401)
    yield _webhook("webhook: one byte more", path, body + b" ", _signed(body, key), 401)
    yield _webhook("webhook: not signed", path, body, None, 401)
    yield _webhook("webhook: no JSON", path, b"{", _signed(b"{", key), 400)


def _converted(game: Game, dedupe_key: str) -> tuple[str, str | None]:
    """What became of an event on its way to the game.

    One that is parked waits for its owner, and says why; so does one behind such an event of the same player.
    """
    connection = current_installation().database.read()
    event_id = events.find(connection, game.id, PARTNER, dedupe_key)
    if event_id is None:
        return "not in this database", "must be in the database here; is --url its server?"
    until = time.monotonic() + CONVERSION_SECONDS
    told = ""
    while True:
        is_through = _is_through(game)  # asked first: what waits even so is held back
        found = conversion_queue.fate(connection, event_id)
        if found is None:
            return "not to be converted: nobody wants it any more, or a later event has overtaken it", None
        if found["state"] == "parked":
            return f"parked: {found['reason']}", None
        reason = conversion_queue.held_by(connection, event_id) if is_through else None
        if reason is not None:
            return f"parked: {reason}", None
        if found["state"] == "converted":
            sent = delivery_lists.of_event(connection, game.id, found["sent_as"])
            if all(each["state"] == "delivered" for each in sent):
                return f"converted, delivered to {', '.join(each['destination'] for each in sent)}", None
            told = "; ".join(f"{each['destination']}: {each['last_attempt'] or each['state']}" for each in sent)
            if any(each["last_attempt"] not in (None, "ok") for each in sent):
                return f"converted, {told}", "must be taken by the game's endpoint"
        if time.monotonic() >= until:
            where = f"converted, {told}" if told else str(found["state"])
            return where, f"must be delivered within {CONVERSION_SECONDS:.0f} seconds; is a relay running?"
        time.sleep(LOOK_SECONDS)


def _is_through(game: Game) -> bool:
    """Whether the conversion has gone through all that came, and rests."""
    now = clock.stamp()
    return any(
        row["name"] == CONVERT_JOB
        and row["lease_owner"] is None
        and not row["failures"]
        and (row["due_at"] is None or row["due_at"] > now)
        for row in jobs.listing(current_installation().database.read(), game.id)
    )


def _polled(game: Game) -> tuple[str, str | None]:
    found = try_window(current_installation(), game, most_pages=MOST_PAGES)
    told = f"{found.count} row(s)" + (f", {found.parked_count} cannot be sent" if found.parked_count else "")
    return told, found.wrong


def _registered(game: Game) -> tuple[str, str | None]:
    payment = sample_payment()
    try:
        found = _client(game).register_payments([payment], is_test=True)[payment["transactionId"]]
    except ApiError as error:
        return str(error), "must be registered; is playcamp.api_key the key of this PlayCamp?"
    return found.error or found.status, None if found.is_registered else "must be registered"


def _validated(game: Game) -> tuple[str, str | None]:
    """Whether such a coupon is valid is PlayCamp's to say: to a test it may answer with a mock."""
    try:
        found = _client(game).validate_coupon(RESERVED_ID, RESERVED_ID, is_test=True)
    except ApiError as error:
        return str(error), "must be answered; is playcamp.api_key the key of this PlayCamp?"
    return "valid" if found.is_accepted else f"not valid: {found.error_code}", None


def _client(game: Game) -> Client:
    return Client(game, current_installation().outbound, patience_seconds=CALL_SECONDS, tries=1)


def _queries(game: Game) -> Iterator[Call]:
    key = game.keys("playcamp.payments_key")[0].value
    now = int(clock.now())
    query = f"to={now}&from={now - 3600}&limit=1"
    age = int(game.settings["playcamp.tolerance_seconds"]) + 60
    proof = _proof(game, query, key)

    def lists(status: int, answered: bytes) -> str | None:
        is_good = status == 200 and isinstance(_json(answered).get("payments"), list)
        return None if is_good else "must get 200 and a list of payments"

    path = f"/playcamp/{game.slug}/payments"
    asked_for = f"{path}?{query}"
    yield Call("payment query", "GET", asked_for, proof, None, "200, payments", lists, sample_of=PAYMENTS)
    for title, asked, headers in (
        ("payment query: with another key", query, _proof(game, query, FORGED_KEY)),
        ("payment query: proved too long ago", query, _proof(game, query, key, -age)),
        ("payment query: of another range", query.replace("limit=1", "limit=2"), proof),
        ("payment query: not proved", query, {}),
    ):
        yield Call(title, "GET", f"{path}?{asked}", headers, None, "401", _answers(401))


def _proof(game: Game, query: str, key: bytes, later_seconds: int = 0) -> dict[str, str]:
    timestamp = str(int(clock.now()) + later_seconds)
    told = fingerprint("GET", f"/playcamp/{game.slug}/payments", query.encode(), timestamp, key)
    return {"X-Partner": game.slug, "X-Timestamp": timestamp, "X-Fingerprint": told}


def _webhook(title: str, path: str, body: bytes, signature: str | None, status: int) -> Call:
    headers = {"Content-Type": "application/json", "X-Webhook-Batch": "true"}
    if signature is not None:
        headers["X-Webhook-Signature"] = signature
    return Call(title, "POST", path, headers, body, str(status), _takes if status == 200 else _answers(status))


def _signed(body: bytes, key: bytes) -> str:
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def _signed_at(body: bytes, key: bytes, later_seconds: int = 0) -> str:
    timestamp = int(clock.now()) + later_seconds
    return f"t={timestamp},v1={_signed(f'{timestamp}.'.encode() + body, key)}"


def _batch(*events: Mapping[str, Any]) -> bytes:
    return json.dumps({"events": events}, separators=(",", ":")).encode()


def _now() -> str:
    return f"{clock.stamp()[:23]}Z"


def _leads_on(status: int, answered: bytes) -> str | None:
    return None if status == 302 else "must lead to the WebView; is PlayCamp reachable, and playcamp.api_key its key?"


def _takes(status: int, answered: bytes) -> str | None:
    return None if status == 200 and _json(answered).get("received") is True else "must be acknowledged with 200"


def _answers(wanted: int) -> Expect:
    return lambda status, answered: None if status == wanted else f"must be refused with {wanted}"


def _json(answered: bytes) -> dict[str, Any]:
    try:
        document = json.loads(answered)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
