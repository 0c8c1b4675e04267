"""A month in Chromium: asked for, compared by a file, accepted and printed, with scripts and without."""

import pytest
from werkzeug.security import generate_password_hash

from coinslot.access import owner
from tests.books import Books
from tests.browsers import DESKTOP, PHONE, browsing, person, sign_in
from tests.servers import Server

PASSWORD = "correct horse battery"
MONTH = "/games/demo/settlements/2026-07"
pytestmark = pytest.mark.long


@pytest.fixture
def url(installation, studio):
    digest = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")
    installation.database.write_here(lambda tx: owner.set_password(tx, digest, "command"))
    studio.config("settlement.share", "10")
    books = Books(installation, studio)
    books.boost("alice", "LUNA", "2026-05-01")
    for number in range(8):
        books.pay(f"GP-{number}", "9.99", "USD", "google" if number % 2 else "pc")
        books.order(f"o-{number}", currency="EUR", usd_gross="1099", usd_fee="86", usd_net="864")
    books.order("o-free", gross=0)
    books.close(may_be_early=True)
    with Server(installation.settings.home) as server:
        yield server.url


@pytest.mark.parametrize(
    ("viewport", "how"),
    [(DESKTOP, {}), (PHONE, {"java_script_enabled": False, "color_scheme": "dark"})],
    ids=["desk", "phone without scripts"],
)
def test_an_owner_compares_a_month_with_a_file_and_accepts_what_is_left(url, viewport, how, tmp_path):
    report = tmp_path / "report.csv"
    report.write_text("Payment,Gross,Currency\nGP-1,9.99,USD\nGP-2,8.99,USD\nGP-99,1.00,USD\n")
    with browsing() as browser, person(browser, url, viewport, **how) as page:
        sign_in(page, PASSWORD)
        page.goto(f"{MONTH}/differences")
        page.set_input_files("#file-playcamp", report)
        page.click("form:has(#file-playcamp) button")
        page.select_option("#reference", "0")
        page.select_option("#amount", "1")
        page.click("main form button")
        assert "compared now" in page.inner_text(".said")
        for _ in range(100):
            if "100% compared" in page.inner_text("main"):
                break
            page.wait_for_timeout(100)
            page.click("text=Look again")
        page.select_option("#result", "amount_differs")
        page.click("form.filter button")
        assert page.inner_text("table.stack a") == "GP-2"
        page.fill("#note", "they look into it")
        page.click("form:has(#note) button")
        page.goto(MONTH)
        assert "they look into it" in page.inner_text("main")
        assert page.problems == []
