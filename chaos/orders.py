"""Orders as Appcharge and Playtem send them, signed here."""

import base64
import hashlib
import hmac
import json
import secrets
import time
import urllib.parse
from dataclasses import dataclass

MAIN_KEY, TOKEN, PLAYTEM_SECRET = (secrets.token_hex(16) for _ in range(3))
PLAYERS = [f"player-{number}" for number in range(50)]
SKUS = ("coins", "gems")
PARTNERS = ("appcharge", "playtem")


@dataclass(frozen=True)
class Call:
    """One HTTP request."""

    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]

    def raw(self) -> bytes:
        """The same as bytes on a connection that ends after it."""
        body = self.body or b""
        headers = {"Host": "127.0.0.1", **self.headers, "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Order:
    """One purchase: the id its partner knows it by, and who gets what."""

    partner: str
    id: str
    player: str
    items: tuple[tuple[str, int], ...]

    def call(self) -> Call:
        """The call that reports it now: an Appcharge call is signed with its time."""
        return self._playtem() if self.partner == "playtem" else self._appcharge()

    def _playtem(self) -> Call:
        skus = [sku for sku, _ in self.items]
        document = {"AppId": 3, "AppName": "Chaos", "UserId": self.player, "Items": skus, "TransactionId": self.id}
        message = f"3{self.player}{''.join(skus)}{self.id}".encode()
        document["Signature"] = hmac.new(PLAYTEM_SECRET.encode(), message, hashlib.sha1).hexdigest().upper()
        payload = base64.b64encode(json.dumps(document).encode()).decode()
        return Call("GET", f"/playtem/demo/credit?payload={urllib.parse.quote(payload, safe='')}", None, {})

    def _appcharge(self) -> Call:
        document = {
            "orderId": self.id,
            "appChargePaymentId": f"payment-{self.id}",
            "purchaseDateAndTimeUtc": "2026-07-21T14:17:27.329Z",
            "playerId": self.player,
            "products": [{"sku": sku, "amount": amount} for sku, amount in self.items],
            "priceInCents": 999,
            "currency": "USD",
            "action": "purchase",
            "actionStatus": "completed",
        }
        body = json.dumps(document).encode()
        stamp = str(int(time.time() * 1000))
        digest = hmac.new(MAIN_KEY.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        headers = {
            "x-publisher-token": TOKEN,
            "signature": f"t={stamp},v1={digest}",
            "Content-Type": "application/json",
        }
        return Call("POST", "/appcharge/demo/orders", body, headers)
