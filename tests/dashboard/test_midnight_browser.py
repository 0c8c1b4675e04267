"""A player wrote "I paid and got nothing": the owner finds the order, mends it and looks at the month, in Chromium."""

import json

import pytest
from werkzeug.security import generate_password_hash

from coinslot.access import owner
from coinslot.base import clock
from tests.browsers import DESKTOP, PHONE, barriers, browsing, is_too_wide, person, sign_in
from tests.conftest import appcharge_headers, order
from tests.dashboard.test_refund_browser import press
from tests.servers import Server

PASSWORD = "correct horse battery"
pytestmark = pytest.mark.long


@pytest.fixture
def server(installation, studio):
    digest = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")
    installation.database.write_here(lambda tx: owner.set_password(tx, digest, "command"))
    with Server(installation.settings.home) as server:
        yield server


@pytest.mark.parametrize(
    ("viewport", "how"),
    [(DESKTOP, {}), (PHONE, {"java_script_enabled": False, "color_scheme": "dark"})],
    ids=["desk", "phone without scripts"],
)
def test_a_refused_order_is_found_by_its_id_and_credited(server, viewport, how):
    def report():
        body = json.dumps(order(orderId="o-midnight", playerId="newcomer")).encode()
        return server.post("/appcharge/demo/orders", body, appcharge_headers(body)).status

    def lacks(page):
        return [*([] if "java_script_enabled" in how else barriers(page)), *(["too wide"] if is_too_wide(page) else [])]

    assert report() == 400
    with browsing() as browser, person(browser, server.url, viewport, **how) as page:
        sign_in(page, PASSWORD)
        page.focus("input[type=search]")
        page.keyboard.type("o-midnight")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        page.locator("main a", has_text="o-midnight").first.focus()
        with page.expect_navigation():
            page.keyboard.press("Enter")
        assert "newcomer" in page.inner_text("main")
        assert lacks(page) == []

        press(page, "Register newcomer")
        assert "Press Retry Award" in page.inner_text("main")
        assert report() == 200
        page.reload()
        assert "Its order was credited" in page.inner_text("main")
        assert lacks(page) == []

        month = clock.stamp()[:7]
        page.goto(f"/?range={month}&metric=paid")
        assert "9.99 USD" in page.inner_text("main")
        assert page.locator("main svg rect").count() > 0
        assert lacks(page) == []
        assert page.problems == []
