"""Appcharge as ``flask simulate`` plays it: signed with the stored keys, naming only the reserved player and item."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

from coinslot.games import Game
from coinslot.registry import RESERVED_ID
from handlers import Call
from handlers.appcharge.signature import sign


def simulate(game: Game) -> Iterator[Call]:
    """An order and its retries, what must be refused, and a free order."""
    key = game.keys("appcharge.main_key")[0].value
    run = secrets.token_hex(6)
    order = {
        "orderId": f"{RESERVED_ID}-{run}",
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
    given: dict[str, str] = {}

    def post(
        title: str, body: bytes, expected: str, expect: Callable[[int, bytes], str | None], **changed: str
    ) -> Call:
        now = str(int(time.time() * 1000))
        headers = {
            "Content-Type": "application/json",
            "x-publisher-token": game.keys("appcharge.publisher_token")[0].value.decode(),
            "signature": sign(body, key, changed.pop("timestamp", now)),
            **changed,
        }
        return Call(title, "POST", f"/appcharge/{game.slug}/orders", headers, body, expected, expect)

    def credits_first(status: int, answered: bytes) -> str | None:
        given["id"] = str(_json(answered).get("publisherPurchaseId") or "")
        return None if status == 200 and given["id"] else "an order must get 200 and a publisherPurchaseId"

    def same_again(status: int, answered: bytes) -> str | None:
        is_same = status == 200 and _json(answered).get("publisherPurchaseId") == given.get("id")
        return None if is_same else "a repeated order must get the first answer again"

    def credits(status: int, answered: bytes) -> str | None:
        is_good = status == 200 and bool(_json(answered).get("publisherPurchaseId"))
        return None if is_good else "an order must get 200 and a publisherPurchaseId"

    def refuses(wanted: int) -> Callable[[int, bytes], str | None]:
        def expect(status: int, answered: bytes) -> str | None:
            is_good = status == wanted and bool(_json(answered).get("publisherErrorMessage"))
            return None if is_good else f"must be refused with {wanted} and a publisherErrorMessage"

        return expect

    body = _dump(order)
    stale = str(int((time.time() - int(game.settings["appcharge.tolerance_seconds"]) - 60) * 1000))
    free = {**order, "orderId": f"{RESERVED_ID}-{run}-free", "priceInCents": 0, "action": "bonus"}
    del free["appChargePaymentId"], free["purchaseId"]
    manual = _dump({**order, "awardFlow": "manual_retry"})
    dearer = _dump({**order, "priceInCents": 1999})
    yield post("order", body, "200, our id", credits_first)
    yield post("the same order again", body, "200, the same id", same_again)
    yield post("the same order, Retry Award pressed", manual, "200, the same id", same_again)
    yield post("the same order at another price", dearer, "400", refuses(400))
    yield post("free order", _dump(free), "200, our id", credits)
    forged = sign(body, b"not the key", str(int(time.time() * 1000)))
    yield post("signed with another key", body, "401", refuses(401), signature=forged)
    yield post("signed too long ago", body, "401", refuses(401), timestamp=stale)
    signed = post("one byte changed", body, "401", refuses(401))
    yield Call(**{**vars(signed), "body": body.replace(b"100", b"101", 1)})
    yield post("wrong publisher token", body, "401", refuses(401), **{"x-publisher-token": "wrong"})
    yield post("no JSON", b"{", "400", refuses(400))


def _dump(order: dict[str, Any]) -> bytes:
    return json.dumps(order, separators=(",", ":")).encode()


def _json(answered: bytes) -> dict[str, Any]:
    try:
        document = json.loads(answered)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
