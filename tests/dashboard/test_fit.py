"""Every page with long values, on four widths of screen: nothing is cut, and no word is broken. The menu of a phone."""

import pytest
import time_machine
from werkzeug.security import generate_password_hash

from coinslot.access import owner
from coinslot.games import games, registry
from tests.books import Books
from tests.browsers import PHONE, browsing, is_too_wide, misfits, person, sign_in
from tests.pages import PAGES
from tests.servers import Server

PASSWORD = "correct horse battery"
WIDTHS = (390, 768, 1280, 1440, 1920)
SKU = "com.studio.spaceminer.bundle.winter_2026_limited_edition_starter_pack"
PLAYER = "player-0003-750b8559-16e1-4b3c-9d0a-8a7c9f21b003"
OPEN_ALL = "for (const each of document.querySelectorAll('details:not(.menu)')) each.open = true"
MANY_OPEN = (
    "document.querySelector('.second [href$=refusals]').innerHTML = 'Refused calls <span class=count>99+ open</span>'"
)
# The rows of somebody else's file: any number of columns. It scrolls, and a shade at its edge says so.
MAY_SCROLL = "The first rows of the file"


@pytest.fixture(scope="module")
def chromium():
    with browsing() as browser:
        yield browser


@pytest.fixture
def crowded(world, installation, studio, clock):
    """The full game of all pages, with the long ids, skus and amounts that real games have; open for sign-in."""
    clock.move_to(time_machine.escape_hatch.time.time())  # the server's: what comes in now is in its newest figures
    books = Books(installation, studio)
    write = installation.database.write_here
    write(lambda tx: registry.put_item(tx, studio.row["id"], SKU, "Winter 2026 limited edition starter pack"))
    studio.player(PLAYER)
    for number in range(3):
        order_id = f"68e25eebdcb1278f0a0000{number:02}"
        books.order(order_id, 1_234_567_800, "KRW", player=PLAYER, lines=((SKU, 1_000_000 + number), ("gems", 5)))
        books.pay(f"GPA.3391-{number:04}-5570-88001..0", "12345678", "KRW", player=PLAYER)
    books.refund_order(order_id)
    write(lambda tx: games.add(tx, "puzzle", "Puzzle Kingdom: the Long Name of a Second Game", "owner"))
    digest = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")
    write(lambda tx: owner.set_password(tx, digest, "command"))
    return world | {"player_long": PLAYER}


@pytest.mark.long
def test_nothing_is_cut_and_no_word_is_broken(chromium, crowded, installation):
    addresses = [each for item in PAGES.values() if item.heading is not None for each in item.addresses]
    found = {}
    with Server(installation.settings.home) as server, person(chromium, server.url) as page:
        sign_in(page, PASSWORD)
        for address in (*addresses, "/games/demo/players/{player_long}", "/games/puzzle", "/games/puzzle/players"):
            address = address.format(**crowded)
            page.goto(address)
            page.evaluate(OPEN_ALL)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                lacks = [each for each in misfits(page) if MAY_SCROLL not in each]
                if lacks := [*lacks, *(["wider than the screen"] if is_too_wide(page) else [])]:
                    found[address, width] = lacks
    assert not found, "\n".join(f"{where}: {each}" for where, lacks in found.items() for each in lacks)


@pytest.mark.long
def test_the_pages_of_a_game_stand_on_one_line(chromium, crowded, installation):
    with (
        Server(installation.settings.home) as server,
        person(chromium, server.url, {"width": 1280, "height": 900}) as page,
    ):
        sign_in(page, PASSWORD)
        for slug in ("demo", "puzzle"):
            page.goto(f"/games/{slug}/refusals")
            page.evaluate(MANY_OPEN)
            tops = {round(each.bounding_box()["y"]) for each in page.locator(".bar.second > nav a").all()}
            assert len(tops) == 1, slug


@pytest.mark.long
@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_the_menu_of_a_phone_has_everything(chromium, crowded, installation, has_script):
    with (
        Server(installation.settings.home) as server,
        person(chromium, server.url, PHONE, java_script_enabled=has_script) as page,
    ):
        sign_in(page, PASSWORD)
        page.goto("/games/demo/refunds")
        assert page.get_by_role("link", name="Settlements").count() == 0

        page.get_by_text("Menu: Transactions").click()

        menu = page.get_by_role("navigation", name="Menu")
        here = [each.inner_text() for each in menu.locator("[aria-current]").all()]
        assert here == ["Transactions"]
        assert misfits(page) == []
        assert not is_too_wide(page)
        for name in ("Settings", "Activity", "Account", "Puzzle Kingdom: the Long Name of a Second Game"):
            assert menu.get_by_role("link", name=name).is_visible()
        menu.get_by_role("link", name="Puzzle Kingdom").click()
        page.wait_for_url("**/games/puzzle")
        page.get_by_text("Menu").first.click()
        page.get_by_role("navigation", name="Menu").get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/login*")
