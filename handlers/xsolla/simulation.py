"""Xsolla as ``flask simulate`` plays it: signed with the stored secret, naming only the reserved player and item."""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from coinslot.games.games import Game
from coinslot.games.registry import RESERVED_ID
from handlers.kit.partner import Call
from handlers.xsolla.messages import signature_of
from handlers.xsolla.settings import SIGNING_KEY

Expect = Callable[[int, bytes], str | None]


def simulate(game: Game) -> Iterator[Call]:
    """User validation, an order and its repeats, a payment with items, a refund, and what must be refused."""
    number = secrets.randbelow(10**12)
    player = {"id": RESERVED_ID, "country": "US"}
    validation = {"notification_type": "user_validation", "user": player}
    order = {
        "notification_type": "order_paid",
        "items": [{"sku": RESERVED_ID, "type": "virtual_good", "quantity": 1, "amount": "9.9900"}],
        "order": {
            "id": number,
            "mode": "sandbox",
            "currency_type": "real",
            "currency": "USD",
            "amount": "9.9900",
            "status": "paid",
            "invoice_id": f"{RESERVED_ID}-{number}",
        },
        "user": {"external_id": RESERVED_ID, "country": "US"},
    }
    payment = {
        "notification_type": "payment",
        "purchase": {
            "virtual_items": {"items": [{"sku": RESERVED_ID, "amount": 1}]},
            "total": {"currency": "USD", "amount": 9.99},
        },
        "user": player,
        "transaction": {"id": f"{RESERVED_ID}-{number}-payment", "dry_run": 1},
    }
    refund = {**payment, "notification_type": "refund", "refund_details": {"code": 1, "reason": "Simulated"}}
    dearer = {**order, "order": {**order["order"], "amount": "19.9900"}}  # type: ignore[dict-item]

    yield _call(game, "the store asks for a player", validation, "204", _accepts)
    if game.settings["players.unknown"] == "reject":
        nobody = {**validation, "user": {"id": f"{RESERVED_ID}-{number}-nobody"}}
        yield _call(game, "the store asks for an unknown player", nobody, "400", _refuses("INVALID_USER"))
    first = _call(game, "order", order, "204", _accepts)
    yield Call(**{**vars(first), "sample_of": "webhook"})
    yield _call(game, "the same order again", order, "204", _accepts)
    yield _call(game, "the same order at another price", dearer, "400", _refuses("INVALID_PARAMETER"))
    yield _call(game, "payment of virtual items", payment, "204", _accepts)
    yield _call(game, "refund of that payment", refund, "204", _accepts)
    unknown = {"notification_type": "coinslot_test", "user": player}
    yield _call(game, "a webhook of an unknown type", unknown, "204", _accepts)
    forged = _call(game, "signed with another secret", order, "400", _refuses("INVALID_SIGNATURE"), b"not the secret")
    yield forged
    unsigned = {name: value for name, value in forged.headers.items() if name != "Authorization"}
    yield Call(**{**vars(forged), "title": "not signed", "headers": unsigned})
    yield _call(game, "without a type", {"user": player}, "400", _refuses("INVALID_PARAMETER"))


def proved(game: Game, endpoint: str, content: Mapping[str, Any]) -> Call:
    """A webhook of any content, as the partner would send it."""
    return _call(game, endpoint, content, "", lambda status, body: None)


def _call(
    game: Game, title: str, document: Mapping[str, Any], expected: str, expect: Expect, key: bytes | None = None
) -> Call:
    body = json.dumps(document, separators=(",", ":")).encode()
    signature = signature_of(body, key or game.keys(SIGNING_KEY)[0].value)
    headers = {"Content-Type": "application/json", "Authorization": f"Signature {signature}"}
    return Call(title, "POST", f"/xsolla/{game.slug}/webhook", headers, body, expected, expect)


def _accepts(status: int, body: bytes) -> str | None:
    return None if status == 204 and not body else "must be answered with an empty 204"


def _refuses(code: str) -> Expect:
    def expect(status: int, body: bytes) -> str | None:
        try:
            is_good = status == 400 and json.loads(body)["error"]["code"] == code
        except (ValueError, KeyError, TypeError):
            is_good = False
        return None if is_good else f"must be refused with 400 and the code {code}"

    return expect
