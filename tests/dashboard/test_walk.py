"""An owner's whole way in Chromium, on a real server: set up, keys, a test, a dead letter put back, rotation, export.

On a phone and on a desktop, with JavaScript and without. And every page as whoever cannot see or point would meet it.
"""

import csv
import io
import json
import re
import time
from contextlib import ExitStack

import pytest
from werkzeug.security import generate_password_hash

from coinslot.access import owner
from handlers.appcharge.signature import sign
from tests import databases
from tests.browsers import DESKTOP, PHONE, barriers, browsing, is_too_wide, person, sign_in
from tests.fakes.http import Receiver, closed_port, status
from tests.pages import PAGES
from tests.servers import Server, until

PASSWORD = "correct horse battery"
KEY, NEW_KEY, TOKEN = "main-key-0123456789", "new-main-key-9876543210", "publisher-token-0123"


@pytest.fixture(scope="module")
def chromium():
    with browsing() as browser:
        yield browser


@pytest.fixture
def server(tmp_path):
    """A server that its own pages can call: it knows the address it is reached by."""
    port = closed_port()
    url = f"http://127.0.0.1:{port}"
    with Server(tmp_path / "home", listen=("-b", f"127.0.0.1:{port}"), COINSLOT_PUBLIC_URL=url) as server:
        yield server


def order(server, key=KEY, **changed):
    document = {"orderId": "o-1", "playerId": "alice", "products": [{"amount": 5, "sku": "coins"}], "priceInCents": 999}
    body = json.dumps({**document, "currency": "USD", **changed}).encode()
    signature = sign(body, key.encode(), str(int(time.time() * 1000)))
    headers = {"x-publisher-token": TOKEN, "signature": signature, "Content-Type": "application/json"}
    return server.post("/appcharge/demo/orders", body, headers)


def set_up(page, server):
    link = re.search(r"/setup\?token=\S+", server.log)[0]
    page.goto(link)
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_label("Name of your first game").fill("Space Miner")
    page.get_by_label("Short name").fill("demo")
    page.get_by_role("button", name="Set up").click()
    page.get_by_text("coinslot_").first.wait_for()  # a click does not wait for the page that answers it
    return re.search(r"coinslot_[\w-]{43}", page.content())[0]


def set_key(page, name, value):
    page.goto("/games/demo/integration/appcharge")
    card = page.locator(f"#key-{re.sub('[._]', '-', name)}")
    if card.locator("details").count():
        card.locator("summary").first.click()
    card.locator("input[type=password]").fill(value)
    page.get_by_role("button", name="Save keys").click()
    page.get_by_text("key is set").or_(page.get_by_text("new value is set")).first.wait_for()


@pytest.mark.long
@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_from_setup_to_export(chromium, server, viewport, has_script):
    with ExitStack() as stack:
        game = stack.enter_context(Receiver(status(500), status(500), status(200)))
        page = stack.enter_context(person(chromium, server.url, viewport, java_script_enabled=has_script))

        token = set_up(page, server)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        assert server.call("PUT", "/game/v1/items/coins", b"{}", headers).status in (200, 201, 204)
        assert server.call("PUT", "/game/v1/players/alice", b"{}", headers).status in (200, 201, 204)

        set_key(page, "appcharge.main_key", KEY)
        set_key(page, "appcharge.publisher_token", TOKEN)
        page.locator("#orders").get_by_role("button", name="Send test").click()
        page.get_by_text("As it should be.").wait_for()
        assert KEY not in page.content()

        page.goto("/games/demo/transactions")
        assert "coinslot-test" in page.content()

        page.goto("/games/demo/settings/destinations")
        page.get_by_label("Name", exact=True).fill("main")
        page.get_by_label("Address", exact=True).fill(game.url)
        page.locator("#add summary").click()
        page.get_by_label("Delays of the retries").fill("1")
        page.get_by_role("button", name="Add the destination").click()
        page.get_by_text("whsec_").first.wait_for()

        assert order(server).status == 200

        def is_dead():
            page.goto("/games/demo/deliveries?state=dead")
            return page.get_by_role("button", name="Redrive what is ticked").count()

        until(is_dead, "the delivery is dead", 20)
        page.goto("/")
        assert "dead letter" in page.locator(".troubles").first.inner_text()
        page.goto("/games/demo/deliveries?state=dead")
        page.locator("input[name=id]").check()
        page.get_by_label("Reason").fill("the game is back")
        page.get_by_role("button", name="Redrive what is ticked").click()
        page.get_by_role("status").first.wait_for()

        def is_delivered():
            page.goto("/games/demo/deliveries?state=delivered")
            return page.get_by_role("cell", name="grant.created").count() == 1

        until(is_delivered, "the delivery has arrived", 20)
        assert game.webhook_ids[0] == game.webhook_ids[-1]

        set_key(page, "appcharge.main_key", NEW_KEY)
        page.goto("/games/demo/integration/keys")
        assert "not used yet" in page.content()
        assert order(server, orderId="old-key").status == 200
        assert order(server, NEW_KEY, orderId="new-key").status == 200

        page.goto("/games/demo/transactions")
        with page.expect_download() as download:
            page.get_by_role("link", name=re.compile("CSV")).first.click()
        rows = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8-sig"))))
        assert {"o-1", "old-key", "new-key"} <= {value for row in rows for value in row.values()}
        assert page.problems == []


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_page_keeps_anybody_out(chromium, world, installation, viewport, scheme):
    """What axe-core calls serious is on no page, and none is wider than the screen, with the worst text on all."""
    digest = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")
    installation.database.write_here(lambda tx: owner.set_password(tx, digest, "command"))
    found = {}
    # The server lives by the machine's clock, by which what was uploaded in the test's past would be too old.
    databases.change(installation, "UPDATE uploads SET created_at = '2999-01-01T00:00:00.000000Z'")
    with (
        Server(installation.settings.home) as server,
        person(chromium, server.url, viewport, color_scheme=scheme) as page,
    ):
        sign_in(page, PASSWORD)
        for address in (each for item in PAGES.values() if item.heading is not None for each in item.addresses):
            address = address.format(**world)
            assert page.goto(address).status == 200, address
            page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
            if lacks := [*barriers(page), *(["wider than the screen"] if is_too_wide(page) else [])]:
                found[address] = lacks
        assert found == {}
        assert page.problems == []
