"""Inviting support, in Chromium: what they see, what they do not, and how they go."""

import json
import urllib.error
import urllib.request

import pyotp
import pytest
from werkzeug.security import generate_password_hash

from coinslot.access import owner
from coinslot.games import registry
from tests.browsers import DESKTOP, PHONE, barriers, browsing, is_too_wide, misfits, person, sign_in
from tests.conftest import appcharge_headers, order
from tests.servers import Server

PASSWORD, ANOTHER = "correct horse battery", "another long password"
pytestmark = pytest.mark.long


@pytest.fixture
def url(installation, studio):
    digest = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")

    def write(tx):
        owner.set_password(tx, digest, "command")
        registry.put_player(tx, studio.row["id"], "alice", {"name": "Alice Example"})

    installation.database.write_here(write)
    with Server(installation.settings.home) as server:
        yield server.url


def report_of_a_stranger(url):
    body = json.dumps(order(orderId="o-1", playerId="newcomer")).encode()
    call = urllib.request.Request(f"{url}/appcharge/demo/orders", data=body, headers=appcharge_headers(body))
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(call)
    assert answer.value.code == 400


@pytest.mark.parametrize(
    ("viewport", "how"),
    [(DESKTOP, {}), (PHONE, {"java_script_enabled": False, "color_scheme": "dark"})],
    ids=["desk", "phone without scripts"],
)
def test_support_is_invited_works_and_is_removed(url, viewport, how):
    report_of_a_stranger(url)

    def check(page):
        if "java_script_enabled" not in how:
            assert barriers(page) == []
        assert not is_too_wide(page)
        assert misfits(page) == []

    with (
        browsing() as browser,
        person(browser, url, viewport, **how) as mine,
        person(browser, url, viewport, **how) as page,
    ):
        sign_in(mine, PASSWORD)
        mine.goto("/account/people")
        mine.fill("#name", "Anna")
        mine.fill("#current", PASSWORD)
        mine.keyboard.press("Enter")
        mine.wait_for_selector(".copy code")
        check(mine)

        page.goto(mine.inner_text(".copy code").replace("http://127.0.0.1:8000", url))
        check(page)
        page.fill("#password", ANOTHER)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/")
        check(page)
        assert page.locator("a[href='/games/demo/settings']").count() == 0

        page.goto("/games/demo/players/alice")
        assert "Alice Example" not in page.inner_text("main")
        check(page)
        page.click("text=Show >> nth=0")
        page.wait_for_selector("text=Alice Example")

        page.goto("/games/demo/refusals")
        page.click("main table a >> nth=0")
        check(page)
        page.click("text=Register newcomer")
        assert page.inner_text(".said").startswith("Done.")

        page.goto("/account")
        page.fill("#second-factor-current", ANOTHER)
        page.click("text=Set it up")
        secret = page.inner_text(".copy code")
        page.fill("#code", pyotp.TOTP(secret).now())
        page.click("text=Switch it on")
        check(page)

        mine.goto("/activity?actor=Anna")
        said = mine.inner_text("table")
        assert all(
            each in said for each in ("Looked at personal data on", "Added the player", "Accepted the invitation")
        )
        mine.goto("/account/people")
        check(mine)
        mine.click("summary:has-text('Remove')")
        mine.click("text=Remove Anna, at once")
        assert mine.inner_text(".said").startswith("Removed")
        page.goto("/")
        assert page.url.startswith(f"{url}/login")
        check(page)
