"""Purchases as the four partners report them, written and signed by hand after the partners' documents.

Nothing here is the product's: the signatures, the bodies and what the feed should say of them are worked out anew.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

GAME = "demo"
PLAYERS = ("ann", "ben", "cat", "dan")
TOKEN = "model-publisher-token"
SECRETS = {
    "appcharge": "appcharge.main_key",
    "playtem": "playtem.secret",
    "xsolla": "xsolla.secret",
    "playcamp": "playcamp.webhook_secret",
}
PARTNERS = tuple(SECRETS)
OK = {"appcharge": 200, "playtem": 200, "xsolla": 204, "playcamp": 200}
REFUSED = {"appcharge": 400, "playtem": 500, "xsolla": 400, "playcamp": 200}
UNPROVED = {"appcharge": 401, "playtem": 500, "xsolla": 400, "playcamp": 401}


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    body: bytes | None
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Purchase:
    """What a player bought or was given, as its partner knows it. ``cents`` and ``month`` count for the two web shops.

    ``by_payment``: this report leaves out the order's own id, so that another id has to tell which order it is of.
    ``number`` tells purchases of one partner apart; with other ``items`` it is the same purchase, told otherwise.
    """

    partner: str
    number: int
    player: str
    items: tuple[tuple[str, int], ...]
    cents: int = 0
    month: str = ""
    by_payment: bool = False

    @property
    def key(self) -> tuple[str, int]:
        return self.partner, self.number

    @property
    def content(self) -> tuple[Any, ...]:
        """What must be the same in a repeat."""
        return self.player, tuple(sorted(self.items)), self.cents

    @property
    def own_id(self) -> str:
        """No two partners have the same: forgetting a player looks for ids of the player's orders everywhere."""
        names = {"appcharge": "order-{}", "playtem": "tx-{}", "xsolla": "71{:04}", "playcamp": "73{:04}"}
        return names[self.partner].format(self.number)

    @property
    def other_id(self) -> str:
        """The payment of Appcharge's order, the order of Xsolla's transaction; nobody else has a second id."""
        return {"appcharge": f"pay-{self.number}", "xsolla": f"72{self.number:04}"}.get(self.partner, "")

    @property
    def reported_id(self) -> str:
        return self.other_id if self.by_payment else self.own_id

    @property
    def kind(self) -> str:
        """As the feed says it: whatever costs nothing is a bonus."""
        kinds = {"playtem": "reward", "playcamp": "coupon"}
        return kinds.get(self.partner) or ("purchase" if self.cents else "bonus")

    @property
    def paid_at(self) -> str:
        return f"{self.month}-{self.number % 28 + 1:02d}T12:00:00Z"

    def told_by(self, by_payment: bool) -> "Purchase":
        """The same purchase, reported without its own id where its partner may leave that out."""
        return replace(self, by_payment=by_payment and bool(self.other_id))

    def otherwise(self) -> "Purchase":
        """The same purchase with one more of its first item: a conflict."""
        (sku, quantity), *rest = self.items
        return replace(self, items=((sku, quantity + 1), *rest))


def report(bought: Purchase, key: str) -> Call:
    """The call that reports a purchase, signed with ``key``."""
    return _REPORTS[bought.partner](bought, key)


@dataclass(frozen=True)
class MoneyBack:
    """A refund or a dispute, as the shop reports it. ``at`` is in Unix seconds; ``names`` says which ids it gives."""

    bought: Purchase
    reason: str  # refund, chargeback, reinstated
    at: int
    names: str  # own, other, both

    @property
    def ids(self) -> frozenset[str]:
        own, other = f"own:{self.bought.own_id}", f"other:{self.bought.other_id}"
        return frozenset({"own": [own], "other": [other], "both": [own, other]}[self.names])

    @property
    def event_key(self) -> tuple[Any, ...]:
        """By what the shop's repeats of it are known."""
        if self.bought.partner == "xsolla":
            return "xsolla", self.bought.number
        return "appcharge", self.bought.number, self.reason, self.at

    def call(self, key: str) -> Call:
        return (_xsolla_refund if self.bought.partner == "xsolla" else _appcharge_event)(self, key)


def _appcharge(bought: Purchase, key: str) -> Call:
    document = {
        "orderId": bought.own_id,
        "appChargePaymentId": bought.other_id,
        "purchaseDateAndTimeUtc": bought.paid_at,
        "playerId": bought.player,
        "products": [{"sku": sku, "amount": quantity} for sku, quantity in bought.items],
        "priceInCents": bought.cents,
        "currency": "USD",
        "action": "purchase" if bought.cents else "bonus",
        "actionStatus": "completed",
    }
    if bought.by_payment:
        del document["orderId"]
    return _appcharge_call("orders", document, key)


def _appcharge_event(fact: MoneyBack, key: str) -> Call:
    names = {"refund": "order.refunded", "chargeback": "order.dispute.lost", "reinstated": "order.dispute.won"}
    document = {
        "eventName": names[fact.reason],
        "eventId": f"{fact.reason}-{fact.bought.number}-{fact.at}",
        "timestamp": fact.at * 1000,
        "playerId": fact.bought.player,
    }
    if fact.names != "other":
        document["orderId"] = fact.bought.own_id
    if fact.names != "own":
        document["appChargePaymentId"] = fact.bought.other_id
    return _appcharge_call("events", document, key)


def _appcharge_call(endpoint: str, document: Mapping[str, Any], key: str) -> Call:
    body = json.dumps(document).encode()
    at = str(int(time.time() * 1000))
    digest = hmac.new(key.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"x-publisher-token": TOKEN, "signature": f"t={at},v1={digest}", "Content-Type": "application/json"}
    return Call("POST", f"/appcharge/{GAME}/{endpoint}", body, headers)


def _playtem(bought: Purchase, key: str) -> Call:
    skus = [sku for sku, quantity in bought.items for _ in range(quantity)]
    message = f"3{bought.player}{''.join(skus)}{bought.own_id}".encode()
    document = {
        "AppId": 3,
        "AppName": "Model",
        "UserId": bought.player,
        "Items": skus,
        "TransactionId": bought.own_id,
        "Signature": hmac.new(key.encode(), message, hashlib.sha1).hexdigest().upper(),
    }
    payload = base64.b64encode(json.dumps(document).encode()).decode()
    return Call("GET", f"/playtem/{GAME}/credit?payload={quote(payload, safe='')}", None, {})


def _xsolla(bought: Purchase, key: str) -> Call:
    amount = f"{bought.cents / 100:.2f}00"
    order = {"id": int(bought.other_id), "mode": "default", "currency_type": "real", "currency": "USD"}
    order |= {"amount": amount, "invoice_id": bought.own_id}
    billing = {"transaction": {"id": int(bought.own_id), "payment_date": bought.paid_at}}
    if bought.by_payment:
        del order["invoice_id"], billing["transaction"]["id"]
    document = {
        "notification_type": "order_paid",
        "items": [{"sku": sku, "quantity": quantity} for sku, quantity in bought.items],
        "order": order,
        "user": {"external_id": bought.player},
        "billing": billing,
    }
    return _xsolla_call(document, key)


def _xsolla_refund(fact: MoneyBack, key: str) -> Call:
    document = {
        "notification_type": "refund",
        "transaction": {"id": int(fact.bought.own_id)},
        "order": {"id": int(fact.bought.other_id)},
        "user": {"id": fact.bought.player},
        "refund_details": {
            "code": 4 if fact.reason == "chargeback" else 1,
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(fact.at)),
        },
    }
    return _xsolla_call(document, key)


def _xsolla_call(document: Mapping[str, Any], key: str) -> Call:
    body = json.dumps(document).encode()
    signature = hashlib.sha1(body + key.encode()).hexdigest()
    headers = {"Authorization": f"Signature {signature}", "Content-Type": "application/json"}
    return Call("POST", f"/xsolla/{GAME}/webhook", body, headers)


def _playcamp(bought: Purchase, key: str) -> Call:
    reward = [{"itemId": sku, "itemQuantity": quantity, "itemName": {"en": sku}} for sku, quantity in bought.items]
    data = {"couponCode": "MODEL", "userId": bought.player, "usageId": int(bought.own_id), "reward": reward}
    return _playcamp_events([{"event": "coupon.redeemed", "timestamp": "2026-01-01T00:00:00Z", "data": data}], key)


def boost(player: str, creator: str, second: int, key: str) -> Call:
    """A player begins to support a creator, in this second of a day."""
    at = f"2026-01-01T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"
    data = {"userId": player, "campaignId": "camp_1", "creatorKey": creator}
    return _playcamp_events([{"event": "sponsor.created", "timestamp": at, "data": data}], key)


def _playcamp_events(events: list[dict[str, Any]], key: str) -> Call:
    body = json.dumps({"events": events}).encode()
    signature = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Webhook-Signature": signature, "Content-Type": "application/json"}
    return Call("POST", f"/playcamp/{GAME}/webhook", body, headers)


_REPORTS: Mapping[str, Callable[[Purchase, str], Call]] = {
    "appcharge": _appcharge,
    "playtem": _playtem,
    "xsolla": _xsolla,
    "playcamp": _playcamp,
}
