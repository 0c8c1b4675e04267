"""Pages of long work look again by themselves while it goes on, with scripts and without, and say how far it is."""

import time
from types import SimpleNamespace

import pytest
from werkzeug.security import generate_password_hash

from coinslot.access import owner
from coinslot.base import clock
from handlers.dashboard.settlement.progress import refresh_seconds
from tests.books import Books
from tests.browsers import barriers, browsing, person, sign_in
from tests.fakes.appcharge import FakeAppcharge
from tests.pages import serving

PASSWORD = "correct horse battery"
DIFFERENCES = "/games/demo/settlements/2026-07/differences"


def run_of(age_seconds, finished_at=None):
    return SimpleNamespace(started_at=clock.stamp(time.time() - age_seconds), finished_at=finished_at)


def test_a_page_looks_again_soon_then_later_and_not_for_ever():
    assert refresh_seconds([]) is None
    assert refresh_seconds([run_of(10, finished_at="2026")]) is None
    assert refresh_seconds([run_of(10)]) == 5
    assert refresh_seconds([run_of(3600), run_of(10, finished_at="2026")]) == 60
    assert refresh_seconds([run_of(90_000)]) is None


@pytest.mark.long
@pytest.mark.parametrize("has_scripts", [True, False])
def test_a_page_follows_a_comparison_to_its_end(app, installation, studio, browser, has_scripts):
    digest = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")
    installation.database.write_here(lambda tx: owner.set_password(tx, digest, "command"))
    with FakeAppcharge() as partner, serving(app, installation) as server, browsing() as chromium:
        studio.config("appcharge.base_url", partner.url)
        books = Books(installation, studio)
        books.order("o-1")
        books.close(may_be_early=True)
        url = f"http://127.0.0.1:{server.server_port}"
        with person(chromium, url, java_script_enabled=has_scripts) as page:
            sign_in(page, PASSWORD)
            page.goto(DIFFERENCES)
            page.click("form[action$='/ask'] button")
            assert "0% compared" in page.inner_text("#runs")
            if has_scripts:
                assert barriers(page) == []
            installation.new_relay().drain()
            page.get_by_text("100% compared").wait_for()
            page.wait_for_timeout(500)
            assert page.locator("main[data-refresh]").count() == 0
            assert page.problems == []
