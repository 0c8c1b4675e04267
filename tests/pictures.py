"""The pictures of the owner's pages in docs/: ``python -m tests.pictures``. Thirty days of a made-up game.

Nothing of it is a test; it stands here because it drives the same browser, servers and signatures as they do.
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path

import time_machine
from werkzeug.security import generate_password_hash

from app import create_app
from coinslot.access import keyring, owner
from coinslot.games import games, registry
from coinslot.outbox import destinations
from handlers.playtem.simulation import simulate as simulate_playtem
from tests.browsers import DESKTOP, PHONE, browsing, person
from tests.conftest import appcharge_headers
from tests.fakes.http import Receiver, closed_port, status
from tests.servers import ROOT, Server

DAYS = 30
PASSWORD = "correct horse battery"
SECRETS = {
    "appcharge.main_key": "test-main-key-0123456789",
    "appcharge.publisher_token": "test-publisher-token",
    "playtem.secret": "test-playtem-secret",
}
PRICES = (("USD", 499), ("USD", 999), ("USD", 1999), ("EUR", 999))
SHOWN = {
    "overview": ("/", DESKTOP, 1150),
    "integration": ("/games/demo/integration/appcharge", DESKTOP, 1000),
    "transaction": ("/games/demo/transactions/{newest}", DESKTOP, 1100),
    "refusals": ("/games/demo/refusals", DESKTOP, 620),
    "deliveries": ("/games/demo/deliveries", DESKTOP, 900),
    "phone": ("/", PHONE, 844),
}


def main() -> None:
    folder = ROOT / "docs" / "pictures"
    folder.mkdir(exist_ok=True)
    random.seed(7)
    port = closed_port()
    environment = {"COINSLOT_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    answers = [*[status(200)] * 120, *[status(503)] * 6, status(200)]
    with tempfile.TemporaryDirectory() as home, Receiver(*answers) as game:
        newest = live_a_month(Path(home, "home"), game)
        listen = ("-b", f"127.0.0.1:{port}")
        with Server(Path(home, "home"), listen=listen, **environment) as server, browsing() as browser:
            for name, (path, viewport, height) in SHOWN.items():
                with person(browser, server.url, {**viewport, "height": height}) as page:
                    page.goto("/login")
                    page.get_by_label("Password").fill(PASSWORD)
                    page.get_by_role("button", name="Sign in").click()
                    page.get_by_role("button", name="Sign out").wait_for()
                    page.goto(path.format(newest=newest))
                    page.screenshot(path=folder / f"{name}.png")


def live_a_month(home: Path, game: Receiver) -> str:
    """Orders, refunds, rewards and deliveries of each day; returns the public id of the newest order."""
    now = time.time()
    with time_machine.travel(now - DAYS * 86400):
        app = create_app({"COINSLOT_HOME": str(home)})
        installation = app.extensions["coinslot"]
        del installation.jobs["appcharge.never_came"]  # which would try for seconds to reach the store, each night
        installation.prepare()
        digest = generate_password_hash(PASSWORD)
        installation.database.write_here(lambda tx: owner.set_password(tx, digest, "command"))
        installation.database.write_here(lambda tx: games.add(tx, "demo", "Space Miner", "owner"))
        row = games.find(installation.database.read(), "demo")
        for name, value in SECRETS.items():
            installation.database.write_here(
                lambda tx, name=name, value=value: keyring.put(tx, installation.vault, row, name, value, "owner")
            )
        for player in ("alice", "bob", "carol"):
            installation.database.write_here(
                lambda tx, player=player: registry.put_player(tx, row["id"], player, {"name": player.title()})
            )
        for sku in ("coins", "gems", "sword"):
            installation.database.write_here(lambda tx, sku=sku: registry.put_item(tx, row["id"], sku, None))
        installation.database.write_here(
            lambda tx: games.set_setting(tx, installation.catalogue, "demo", "refunds.revoke", "on", "owner")
        )
        installation.database.write_here(
            lambda tx: destinations.add(tx, installation.vault, "demo", "main", game.url, actor="owner", retry="1")
        )
    client = app.test_client()
    for day in range(DAYS):
        with time_machine.travel(now - (DAYS - 1 - day) * 86400 - 3600):
            for number in range(random.randint(3, 9) + day // 4):
                post(client, "orders", order(f"68e25e{day:02}{number:02}cdb1278"))
            if day % 6 == 5:
                refund = {"eventName": "order.refunded", "eventId": f"e-{day}", "timestamp": int(time.time() * 1000)}
                post(client, "events", refund | {"order": {"orderId": f"68e25e{day:02}00cdb1278"}, "result": "success"})
            reward = next(simulate_playtem(installation.games.by_slug("demo")))
            client.get(reward.path)
            relay = installation.new_relay()
            relay.drain()
            installation.observations.flush()
    with time_machine.travel(now - 600):
        body = json.dumps(order("68e25eff00cdb1278")).encode()
        client.post("/appcharge/demo/orders", data=body, headers=appcharge_headers(body, at=time.time() - 900))
        pretty = json.dumps(json.loads(body), indent=2).encode()
        client.post("/appcharge/demo/orders", data=pretty, headers=appcharge_headers(body))
        post(client, "orders", order("68e25eff01cdb1278", playerId="dave"))
        installation.observations.flush()
    (public_id,) = (
        installation.database.read()
        .execute("SELECT public_id FROM transactions WHERE is_test = 0 ORDER BY id DESC LIMIT 1")
        .fetchone()
    )
    installation.database.close()
    return str(public_id)


def order(order_id: str, **changed: object) -> dict[str, object]:
    currency, price = random.choice(PRICES)
    return {
        "orderId": order_id,
        "purchaseId": f"pr_{order_id[-6:]}",
        "playerId": random.choice(("alice", "bob", "carol")),
        "playerEmail": "player@example.com",
        "bundleName": "Starter Pack",
        "products": [{"amount": random.choice((100, 500)), "sku": random.choice(("coins", "coins", "gems", "sword"))}],
        "priceInCents": price,
        "currency": currency,
        "subTotal": price - 80,
        "tax": 80,
        "action": "purchase",
        "actionStatus": "completed",
        **changed,
    }


def post(client: object, endpoint: str, document: dict[str, object]) -> None:
    body = json.dumps(document, separators=(",", ":")).encode()
    client.post(f"/appcharge/demo/{endpoint}", data=body, headers=appcharge_headers(body))  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
