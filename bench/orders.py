"""A studio's installation to measure, and signed orders for it, written down before anything is timed."""

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from app import create_app
from coinslot.access import keyring
from coinslot.games import games, registry
from coinslot.installation import Installation
from handlers.appcharge.signature import sign

GAME = "bench"
KEYS = {
    "appcharge.main_key": secrets.token_hex(16),
    "appcharge.publisher_token": secrets.token_hex(16),
}
PLAYERS = 1000
ITEMS = ("coins", "gems", "energy", "keys")
LINES_PER_ORDER = 2

# Orders a file holds per second of measuring. Running out stops the run in words, so this may be generous.
MOST_PER_SECOND = 12_000


@dataclass(frozen=True)
class Orders:
    """A file of HTTP requests, all of the same length, so that each of wrk's threads can seek to its slice."""

    path: Path
    record_bytes: int
    count: int


def prepare_home(home: Path, more: Mapping[str, str] = MappingProxyType({})) -> None:
    """A folder ready to serve: one game with Appcharge's keys, players and items, and an owner's absence.

    ``more`` are variables that name another database.
    """
    installation: Installation = create_app({"COINSLOT_HOME": str(home), **more}).extensions["coinslot"]
    installation.prepare()

    def set_up(tx) -> None:
        games.add(tx, GAME, "Bench", "bench")
        for name, value in KEYS.items():
            keyring.put(tx, installation.vault, games.find(tx, GAME), name, value, "bench")
        # Signing happens before the run, and a run may take longer than the five minutes a signature is good for.
        games.set_setting(tx, installation.catalogue, GAME, "appcharge.tolerance_seconds", "86400", "bench")
        game_id = games.find(tx, GAME)["id"]
        for number in range(PLAYERS):
            registry.register_player(tx, game_id, player_id(number))
        for sku in ITEMS:
            registry.put_item(tx, game_id, sku, None)

    installation.database.write_here(set_up)
    installation.database.close()
    (home / "keys.json").write_text(json.dumps(KEYS))  # for bench/careful.py, which has no vault


def write_orders(path: Path, count: int, run: str) -> Orders:
    """Sign ``count`` orders and write them as whole requests. Another ``run`` is another set of orders."""
    timestamp = str(int(time.time() * 1000))
    key = KEYS["appcharge.main_key"].encode()
    head = (
        f"POST /appcharge/{GAME}/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: axios/1.7.9\r\n"
        "Accept: application/json, text/plain, */*\r\nContent-Type: application/json\r\n"
        f"x-publisher-token: {KEYS['appcharge.publisher_token']}\r\n"
    )
    record_bytes = 0
    with path.open("wb") as file:
        for number in range(count):
            body = order(run, number)
            signature = sign(body, key, timestamp)
            request = f"{head}signature: {signature}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            record_bytes = record_bytes or len(request)
            if len(request) != record_bytes:
                raise AssertionError("requests of one file have one length")
            file.write(request)
    return Orders(path, record_bytes, count)


def order(run: str, number: int) -> bytes:
    """One of Appcharge's Grant Award bodies as documented in 2026, about 1 KB, always of the same length."""
    # Ids without any order among them: for the database's indexes that is the dearest case.
    digest = hashlib.sha256(f"{run}/{number}".encode()).hexdigest()
    return TEMPLATE % {
        b"order": digest[:16].encode(),
        b"purchase": digest[16:28].encode(),
        b"payment": digest[28:45].encode(),
        b"player": player_id(number % PLAYERS).encode(),
    }


def player_id(number: int) -> str:
    return f"player-{number:05d}"


TEMPLATE = (
    json.dumps(
        {
            "orderId": "ORDER",
            "purchaseId": "pr_PURCHASE",
            "appChargePaymentId": "PAYMENT",
            "purchaseDateAndTimeUtc": "2026-07-21T14:17:27.329Z",
            "playerId": "PLAYER",
            "bundleName": "Starter Pack",
            "bundleId": "684044555ed01178ed2c0b3b",
            "sku": "starterpack",
            "products": [
                {"amount": 1000, "sku": "coins", "name": "Gold Coins"},
                {"amount": 5, "sku": "gems", "name": "Gems"},
            ],
            "priceInCents": 999,
            "currency": "USD",
            "subTotal": 850,
            "tax": 149,
            "taxRate": 17.5,
            "taxInDollar": 149,
            "priceInDollar": 850,
            "priceTotalInDollar": 999,
            "originalPriceInDollar": 1499,
            "paymentPriceInDollar": 999,
            "currencyExchangeCost": 0,
            "estimatedPublisherNetAmount": 850.5,
            "estimatedAppchargeFee": 148.5,
            "action": "purchase",
            "actionStatus": "completed",
            "paymentMethod": "card",
            "countryCode2": "US",
            "sessionMetadata": '{"shard":3}',
            "receiptId": "receipt_abc123",
            "awardFlow": "auto",
            "storeMetadata": {"productsSequenceIndex": 1, "offerType": "Bundle"},
        },
        separators=(",", ":"),
    )
    .replace("ORDER", "%(order)s")
    .replace("PURCHASE", "%(purchase)s")
    .replace("PAYMENT", "%(payment)s")
    .replace("PLAYER", "%(player)s")
    .encode()
)
