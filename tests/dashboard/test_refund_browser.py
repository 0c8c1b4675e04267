"""An order is refunded in Chromium: by keyboard, on a phone without scripts, and with the server killed meanwhile."""

import json

import pytest
from werkzeug.security import generate_password_hash

from coinslot.access import owner
from tests.browsers import DESKTOP, PHONE, barriers, browsing, is_too_wide, person, sign_in
from tests.conftest import appcharge_headers, order
from tests.fakes.appcharge import FakeAppcharge, report_order
from tests.fakes.http import silence
from tests.servers import Server, until

PASSWORD = "correct horse battery"
ORDER = order()["orderId"]
pytestmark = pytest.mark.long


@pytest.fixture
def fake():
    with FakeAppcharge() as fake:
        fake.orders = [report_order(ORDER)]
        yield fake


@pytest.fixture
def server(installation, studio, fake, post_order):
    digest = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")
    installation.database.write_here(lambda tx: owner.set_password(tx, digest, "command"))
    studio.config("appcharge.base_url", fake.url)
    assert post_order().status_code == 200
    with Server(installation.settings.home) as server:
        yield server


def press(page, name):
    """What a person without a mouse does: TAB until it is there, then ENTER."""
    page.wait_for_load_state()
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement?.innerText || ''").strip() == name:
            with page.expect_navigation():
                page.keyboard.press("Enter")
            return
    raise AssertionError(f"no TAB leads to {name}")


@pytest.mark.parametrize(
    ("viewport", "how"),
    [(DESKTOP, {"color_scheme": "dark"}), (PHONE, {"java_script_enabled": False})],
    ids=["desk", "phone without scripts"],
)
def test_an_order_is_refunded_by_keyboard(server, fake, viewport, how):
    def lacks(page):
        """What keeps somebody out; axe-core itself needs scripts."""
        return [*([] if "java_script_enabled" in how else barriers(page)), *(["too wide"] if is_too_wide(page) else [])]

    with browsing() as browser, person(browser, server.url, viewport, **how) as page:
        sign_in(page, PASSWORD)
        page.goto(f"/search?q={ORDER}")
        with page.expect_navigation():
            page.get_by_role("link", name=ORDER).first.click()
        press(page, "Refund the money")
        assert page.inner_text("h1") == "Refund 9.99 USD"
        assert lacks(page) == []
        page.focus("#reason")
        page.keyboard.type("asked by mail")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        press(page, "Refund 9.99 USD")
        assert page.inner_text(".said").startswith("The refund has begun")
        assert fake.refunded == [(ORDER, "owner")]

        body = json.dumps({"eventName": "order.refunded", "eventId": "1", "orderId": ORDER}).encode()
        assert server.post("/appcharge/demo/events", body, appcharge_headers(body)).status == 200
        page.reload()
        assert "Appcharge reported that the money went back" in page.inner_text("main")
        assert lacks(page) == []
        page.goto("/games/demo/refunds")
        assert "asked by mail" in page.inner_text("main")
        assert lacks(page) == []
        assert page.problems == []


def test_a_server_that_is_killed_meanwhile_does_not_send_it_again(server, fake, db):
    fake.script = [silence]
    with browsing() as browser, person(browser, server.url) as page:
        sign_in(page, PASSWORD)
        (row,) = db("SELECT public_id FROM transactions")
        page.goto(f"/games/demo/transactions/{row['public_id']}/refund")
        page.fill("#reason", "asked by mail")
        page.check("[name=sure]")
        page.evaluate("document.querySelector('button.danger').click()")
        until(lambda: fake.requests, "Appcharge was asked")
        server.kill()
        assert [row["state"] for row in db("SELECT state FROM refund_requests")] == ["requested"]

        server.start()
        page.goto(f"{server.url}/games/demo/transactions/{row['public_id']}/refund")
        assert page.locator("button.danger").count() == 0
        assert "being sent" in page.inner_text("main")
        assert len(fake.requests) == 1
