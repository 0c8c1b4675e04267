"""Appcharge as ``flask simulate`` plays it: proved with the stored keys, naming only the reserved player and item.

One function per address of Appcharge's; each yields the calls in their order.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from coinslot.base import clock
from coinslot.games.games import Game
from coinslot.games.registry import RESERVED_ID
from handlers.appcharge import encryption
from handlers.appcharge.signature import sign
from handlers.kit.partner import Call, answered_object

Expect = Callable[[int, bytes], str | None]
FORGED_KEY = b"not the key, but as long as one!"  # 32 bytes, so that it could encrypt


def simulate(game: Game) -> Iterator[Call]:
    """Orders with their retries, logins, the store's view of a player, events; and of each what must be refused."""
    run = secrets.token_hex(6)
    order_id = f"{RESERVED_ID}-{run}"
    yield from _orders(game, run, order_id)
    yield from _logins(game, run)
    yield from _players(game)
    yield from _otp(game)
    yield from _events(game, run, order_id)


def proved(game: Game, endpoint: str, content: Mapping[str, Any]) -> Call:
    """A call of any content, as the partner would make it now."""
    return _call(game, endpoint, endpoint, content, "", lambda status, body: None)


def _orders(game: Game, run: str, order_id: str) -> Iterator[Call]:
    order = {
        "orderId": order_id,
        "purchaseId": f"pr_{run}",
        "appChargePaymentId": f"pay_{run}",
        "playerId": RESERVED_ID,
        "bundleName": "Simulated pack",
        "products": [{"amount": 100, "sku": RESERVED_ID, "name": "Simulated"}],
        "priceInCents": 999,
        "currency": "USD",
        "action": "purchase",
        "actionStatus": "completed",
        "awardFlow": "auto",
    }
    free = {**order, "orderId": f"{order_id}-free", "priceInCents": 0, "action": "bonus"}
    del free["appChargePaymentId"], free["purchaseId"]
    given: dict[str, str] = {}

    def credits(status: int, answered: bytes) -> str | None:
        ours = answered_object(answered).get("publisherPurchaseId")
        return None if status == 200 and ours else "an order must get 200 and a publisherPurchaseId"

    def credits_first(status: int, answered: bytes) -> str | None:
        given["id"] = str(answered_object(answered).get("publisherPurchaseId"))
        return credits(status, answered)

    def same_again(status: int, answered: bytes) -> str | None:
        is_same = status == 200 and answered_object(answered).get("publisherPurchaseId") == given.get("id")
        return None if is_same else "a repeated order must get the first answer again"

    def refuses(status: int) -> Expect:
        return _refuses(status, "publisherErrorMessage")

    manual, dearer = order | {"awardFlow": "manual_retry"}, order | {"priceInCents": 1999}
    yield _sample(_call(game, "orders", "order", order, "200, our id", credits_first))
    yield _call(game, "orders", "the same order again", order, "200, the same id", same_again)
    yield _call(game, "orders", "the same order, Retry Award pressed", manual, "200, the same id", same_again)
    yield _call(game, "orders", "the same order at another price", dearer, "400", refuses(400))
    yield _call(game, "orders", "free order", free, "200, our id", credits)
    yield from _forgeries(game, "orders", order, refuses)
    yield _call(game, "orders", "no JSON", b"{", "400", refuses(400))


def _logins(game: Game, run: str) -> Iterator[Call]:
    typed_id = {"authMethod": "userToken", "token": RESERVED_ID, "appId": "NA", "date": "2026-01-31T12:00:00.000Z"}
    allowed = game.settings["appcharge.logins"].split(",")
    if allowed == [""] or "userToken" in allowed:
        valid = _says("valid", "publisherPlayerId")
        yield _sample(_call(game, "auth", "login by player id", typed_id, "200, valid", valid))
    if game.settings["players.unknown"] == "reject":
        nobody = {**typed_id, "token": f"{RESERVED_ID}-{run}-nobody"}
        yield _call(game, "auth", "login of an unknown player", nobody, "200, invalid", _says("invalid"))
    code = {"authMethod": "otp", "otp": {"playerCode": "000000", "accessToken": f"made-up-{run}"}}
    yield _call(game, "auth", "login with a code nobody gave out", code, "200, invalid", _says("invalid"))
    yield from _forgeries(game, "auth", typed_id)


def _players(game: Game) -> Iterator[Call]:
    asked = {"playerId": RESERVED_ID}
    yield _sample(_call(game, "players", "the store asks for a player", asked, "200, valid", _says("valid")))
    yield from _forgeries(game, "players", asked)


def _otp(game: Game) -> Iterator[Call]:
    begun = {"device": "DESKTOP", "date": "2026-01-31T12:00:00.000Z"}
    if not game.settings["appcharge.deep_link"]:
        title = "login through the game, which is not set up"
        yield _call(game, "otp", title, begun, "404", _refuses(404, "error"))
        return

    def begins(status: int, answered: bytes) -> str | None:
        got = answered_object(answered)
        is_good = status == 200 and bool(got.get("accessToken")) and str(got.get("accessToken")) in got["deepLink"]
        return None if is_good else "must get 200, a deepLink and its accessToken"

    yield _sample(_call(game, "otp", "login through the game", begun, "200, a deep link", begins))
    yield _call(game, "otp", "the same without a device", {"date": begun["date"]}, "403", _refuses(403, "error"))
    yield from _forgeries(game, "otp", begun, unsigned=400)


def _events(game: Game, run: str, order_id: str) -> Iterator[Call]:
    now = int(clock.now() * 1000)
    customer = {"id": RESERVED_ID}
    displayed = {"eventName": "webstore.offers.displayed", "eventId": f"{RESERVED_ID}-{run}", "timestamp": now}
    displayed["customer"] = customer
    # What becomes of the simulated order's items is up to the refund policy; as the order is a test, nobody loses any.
    refunded = {"eventName": "order.refunded", "eventId": f"{RESERVED_ID}-{run}-refund", "timestamp": now}
    refunded |= {"customer": customer, "order": {"orderId": order_id}, "result": "success"}
    older = {"event": "order_refunded", "timestamp": now // 1000, "appChargeOrderId": order_id}
    older |= {"appChargePaymentId": f"pay_{run}", "playerId": RESERVED_ID}

    def takes(status: int, answered: bytes) -> str | None:
        return None if 200 <= status < 300 else "an event must be acknowledged"

    yield _sample(_call(game, "events", "event, version 2", displayed, "200", takes))
    yield _call(game, "events", "the same event again", displayed, "200", takes)
    yield _call(game, "events", "an event nobody knows yet", {**displayed, "eventName": "a.new.one"}, "200", takes)
    yield _call(game, "events", "refund of the order", refunded, "200", takes)
    yield _call(game, "events", "the same refund, version 1", older, "200", takes)
    yield from _forgeries(game, "events", displayed)


def _forgeries(
    game: Game,
    endpoint: str,
    content: Mapping[str, Any],
    refuses: Callable[[int], Expect] | None = None,
    unsigned: int = 401,
) -> Iterator[Call]:
    """What must be refused at every address; ``unsigned`` is the status for a call that proves nothing."""

    def forged(what: str, status: int) -> Call:
        expect = refuses(status) if refuses else _refuses(status, "error")
        return _call(game, endpoint, f"{endpoint}: {what}", content, str(status), expect)

    body = _dump(content)
    yield _with_headers(forged("wrong publisher token", 401), **{"x-publisher-token": "wrong"})
    if game.settings["appcharge.payload"] == "aes":
        vector = game.keys("appcharge.secondary_key")[0].value
        encrypted = encryption.encrypt(body, FORGED_KEY, vector)
        yield replace(forged("encrypted with another key", 400), body=encrypted)
        yield replace(forged("not encrypted", 400), body=body)
        return
    signature = sign(body, FORGED_KEY, _milliseconds())
    yield _with_headers(forged("signed with another key", unsigned), signature=signature)
    name = "events_tolerance_seconds" if endpoint == "events" else "tolerance_seconds"
    age = int(game.settings[f"appcharge.{name}"]) + 60
    stale = sign(body, _main_key(game), _milliseconds(-age))
    yield _with_headers(forged("signed too long ago", unsigned), signature=stale)
    yield replace(forged("one byte more", unsigned), body=body[:-1] + b" }")


def _call(
    game: Game, endpoint: str, title: str, content: Mapping[str, Any] | bytes, expected: str, expect: Expect
) -> Call:
    """A call that proves itself as this game's Appcharge would."""
    body = content if isinstance(content, bytes) else _dump(content)
    headers = {"x-publisher-token": game.keys("appcharge.publisher_token")[0].value.decode()}
    if game.settings["appcharge.payload"] == "aes":
        headers["Content-Type"] = "text/plain"
        body = encryption.encrypt(body, _main_key(game), game.keys("appcharge.secondary_key")[0].value)
    else:
        headers |= {"Content-Type": "application/json", "signature": sign(body, _main_key(game), _milliseconds())}
    return Call(title, "POST", f"/appcharge/{game.slug}/{endpoint}", headers, body, expected, expect)


def _sample(call: Call) -> Call:
    return replace(call, sample_of=call.path.rpartition("/")[2])


def _with_headers(call: Call, **changed: str) -> Call:
    return replace(call, headers={**call.headers, **changed})


def _says(status: str, *fields: str) -> Expect:
    def expect(answered_status: int, answered: bytes) -> str | None:
        got = answered_object(answered)
        is_good = answered_status == 200 and got.get("status") == status and all(got.get(field) for field in fields)
        return None if is_good else f"must get 200 and the status {status}"

    return expect


def _refuses(wanted: int, field: str) -> Expect:
    def expect(status: int, answered: bytes) -> str | None:
        is_good = status == wanted and bool(answered_object(answered).get(field))
        return None if is_good else f"must be refused with {wanted} and say so in {field}"

    return expect


def _main_key(game: Game) -> bytes:
    return game.keys("appcharge.main_key")[0].value


def _milliseconds(later_seconds: float = 0) -> str:
    return str(int((clock.now() + later_seconds) * 1000))


def _dump(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
