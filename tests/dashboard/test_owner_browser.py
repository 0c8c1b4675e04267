"""The account, settings and activity pages in Chromium, with scripts and without, on a desk and on a phone."""

import pyotp
import pytest
from werkzeug.security import generate_password_hash

from coinslot.access import owner
from tests.browsers import DESKTOP, PHONE, browsing, person, sign_in
from tests.servers import Server

PASSWORD = "correct horse battery"
pytestmark = pytest.mark.long


@pytest.fixture
def url(installation, studio):
    digest = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")
    installation.database.write_here(lambda tx: owner.set_password(tx, digest, "command"))
    studio.config("playcamp.creator.luna", "1")
    with Server(installation.settings.home) as server:
        yield server.url


@pytest.mark.parametrize(
    ("viewport", "how"),
    [(DESKTOP, {}), (PHONE, {"java_script_enabled": False, "color_scheme": "dark"})],
    ids=["desk", "phone without scripts"],
)
def test_an_owner_sets_things_up_with_a_second_factor_and_comes_back(url, viewport, how):
    with browsing() as browser:
        with person(browser, url, viewport, **how) as page:
            sign_in(page, PASSWORD)
            page.goto("/account")
            page.fill("#second-factor-current", PASSWORD)
            page.click("text=Set it up")
            secret = page.inner_text(".copy code")
            page.fill("#code", pyotp.TOTP(secret).now())
            page.click("text=Switch it on")
            recovery = page.inner_text(".codes li >> nth=0")

            page.goto("/games/demo/settings?open=items")
            page.select_option("[id='f-items.unknown']", "accept")
            page.click("text=Save Items")
            assert page.inner_text(".said") == "Saved."
            assert page.input_value("[id='f-items.unknown']") == "accept"

            page.goto("/games/demo/settings/destinations")
            page.fill("#name", "main")
            page.fill("#url", "https://game.example.com/hook")
            page.click("text=Add the destination")
            assert page.inner_text(".copy code").startswith("whsec_")
            page.click("text=I have it")
            page.click("text=Pause")
            assert page.inner_text(".said").startswith("Paused.")

            page.goto("/activity?game=demo&actor=owner")
            assert "Paused the destination main" in page.inner_text("table")
            assert page.problems == []

        with person(browser, url, viewport, **how) as page:
            sign_in(page, PASSWORD)
            page.fill("#code", recovery)
            page.click("main button")
            page.goto("/account")
            assert "9 of 10 recovery codes" in page.inner_text("main")
