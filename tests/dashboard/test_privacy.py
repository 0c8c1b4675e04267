"""What support is shown: nothing personal before Show is pressed, and no button or link that is not for them."""

import html
import json
import re

import pytest

from coinslot.games import registry
from handlers.dashboard.frame import roles
from tests.books import Books
from tests.conftest import Browser, appcharge_headers, order
from tests.pages import PAGES, assert_has, follow

NAME, ADDRESS, TELEPHONE = "Carol Canary", "carol.canary@example.com", "+49 170 1234567"
SECRETS = (NAME, ADDRESS, TELEPHONE, "canary")


@pytest.fixture
def support(app, world, installation):
    return Browser(app.test_client(), installation, support="Anna")


@pytest.fixture
def personal(installation, world, studio, client):
    """A player with personal data, in the registry and in what partners sent; returns the words of addresses."""
    studio.player("dora")

    def write(tx):
        values = {"name": NAME, "country": "DE", "login_name": "canary", "profile_image": "https://example.com/canary"}
        profile = {"attributes": {"mail": ADDRESS}, "segments": ["canary"]}
        registry.put_player(tx, studio.row["id"], "dora", {**values, "profile": profile})
        registry.put_player(tx, studio.row["id"], ADDRESS, {"name": "An address for an id"})

    installation.database.write_here(write)
    Books(installation, studio).pay("GP-dora", player="dora")
    for number, player in enumerate(("dora", ADDRESS)):
        body = order(orderId=f"o-personal-{number}", playerId=player, playerEmail=ADDRESS, customerName=NAME)
        body |= {"sessionMetadata": json.dumps({"phone": TELEPHONE, "mail": ADDRESS})}
        raw = json.dumps(body).encode()
        answer = client.post("/appcharge/demo/orders", data=raw, headers=appcharge_headers(raw))
        assert answer.status_code == 200, answer.text
    refused = json.dumps(order(orderId="o-refused", playerId="nobody", playerEmail=ADDRESS)).encode()
    answer = client.post("/appcharge/demo/orders", data=refused, headers=appcharge_headers(refused))
    assert answer.status_code == 400
    installation.observations.flush()
    return world


def pages_of(browser, world):
    """Every full page that support may ask for: its address and the answer."""
    for name, page in PAGES.items():
        for address in page.addresses if name in roles.SUPPORT_MAY else ():
            yield address, browser.get(address.format(**world))


def asked_for(app, answer, address):
    """Where the links and forms of a page lead: method, address and endpoint."""
    text = re.sub(r"<pre.*?</pre>", "", answer.text, flags=re.DOTALL)
    found = [("GET", link) for link in re.findall(r'<a\b[^>]*?\bhref="([^"]*)"', text)]
    for form in re.findall(r"<form\b[^>]*>", text):
        method = "POST" if 'method="post"' in form else "GET"
        action = re.search(r'\baction="([^"]*)"', form)
        found.append((method, address if action is None else action[1]))
    for method, link in found:
        path = html.unescape(link).partition("?")[0].partition("#")[0]
        if path.startswith("/"):
            endpoint, _ = app.url_map.bind("").match(path, method)
            yield method, path, endpoint.partition(".")[2]


def test_no_button_and_no_link_is_shown_that_is_not_for_support(app, support, personal, db):
    (refusal,) = db("SELECT max(id) AS id FROM refusals WHERE state = 'open'")
    wrong, seen = set(), 0
    addresses = [*pages_of(support, personal)]
    path = f"/games/demo/refusals/{refusal['id']}"
    addresses.append((path, support.get(path)))
    for address, answer in addresses:
        for method, path, endpoint in asked_for(app, answer, address.format(**personal)):
            seen += 1
            if endpoint not in roles.SUPPORT_MAY | roles.OPEN:
                wrong.add((address, method, path, endpoint))
    assert seen > 500
    assert not wrong, "\n".join(sorted(map(str, wrong)))


def test_nothing_personal_is_on_any_page_before_show_was_pressed(support, personal):
    more = ("/games/demo/players/dora", "/games/demo/players/dora?show=timeline", "/search?q=dora", "/search?q=carol")
    more += ("/search?q=o-personal", "/games/demo/payments/GP-dora", "/games/demo/refusals", "/games/demo/players?q=d")
    found = [(address, answer.text) for address, answer in pages_of(support, personal)]
    found += [(address, support.get(address).text) for address in more]
    wrong = []
    for address, text in found:
        plain = html.unescape(
            re.sub(r'(value|action|href|src)="[^"]*"', "", text)
        )  # what is typed, and ids in addresses
        wrong += [(address, each) for each in SECRETS if each in plain]
    assert not wrong, wrong


def test_show_shows_one_page_for_some_minutes_and_activity_says_so(support, personal, clock, db):
    page = "/games/demo/players/dora"
    hidden = support.get(page)
    assert_has(hidden.text, "Personal data on this page is hidden", without=(NAME,))
    (given,) = re.findall(r'name="page" value="([^"]*)"', hidden.text)
    before = len(db("SELECT * FROM audit"))
    shown = follow(support, support.post("/show", page=html.unescape(given)))
    assert_has(shown.text, NAME, ADDRESS, without=("is hidden",))
    (row,) = db("SELECT * FROM audit ORDER BY id")[before:]
    assert (row["actor"], row["action"], row["subject"], row["game_id"]) == ("Anna", "person.show", page, 1)
    assert NAME in support.get(page).text
    assert NAME not in support.get("/games/demo/players").text
    clock.shift(301)
    assert NAME not in support.get(page).text


def test_an_address_in_a_query_is_shown_for_it_alone_and_kept_out_of_the_audit(support, personal, db):
    page = f"/search?q={ADDRESS}"
    (given,) = re.findall(r'name="page" value="([^"]*)"', support.get(page).text)
    assert "player An address for an id" not in support.get(page).text
    assert "player An address for an id" in follow(support, support.post("/show", page=html.unescape(given))).text
    assert NAME not in support.get("/search?q=dora").text
    assert ADDRESS not in str(db("SELECT * FROM audit")) + str(db("SELECT * FROM sessions"))
    support.post("/show", page="/search?q=Carol")
    support.post("/show", page="/games/demo/players?id=dora&q=Carol")
    support.post("/show", page=f"/games/demo/players/{ADDRESS}")
    subjects = [row["subject"] for row in db("SELECT subject FROM audit WHERE action = 'person.show' ORDER BY id")]
    assert subjects == ["/search", "/search", "/games/demo/players?id=dora", "/games/demo/players/•••"]


@pytest.mark.parametrize(
    "page",
    [
        "",
        "https://example.com/",
        "//example.com",
        "/\\example.com",
        "/games/demo/settings",
        "/games/nobody/players",
        "/nowhere",
        "/healthz",
        "/static/app.js",
        "/games/demo/players/\x00",
        "/" + "x" * 3000,
    ],
)
def test_show_leads_nowhere_but_to_a_page_of_theirs(support, db, page):
    before = db("SELECT * FROM audit")
    assert support.post("/show", page=page).status_code in (400, 404)
    assert db("SELECT * FROM audit") == before


def test_a_body_is_shown_after_asking_and_noted_under_their_name(support, personal, db):
    (row,) = db("SELECT public_id FROM transactions WHERE reference = 'o-personal-0'")
    page = f"/games/demo/transactions/{row['public_id']}"
    assert_has(support.get(page).text, "•••", without=SECRETS)
    assert_has(html.unescape(support.post(f"{page}/reveal").text), ADDRESS, NAME, TELEPHONE)
    (refusal,) = db("SELECT max(id) AS id FROM refusals WHERE state = 'open'")
    assert ADDRESS in support.post(f"/games/demo/refusals/{refusal['id']}").text
    said = [(each["actor"], each["action"]) for each in db("SELECT * FROM audit ORDER BY id")][-2:]
    assert said == [("Anna", "transaction.reveal"), ("Anna", "refusal.body")]


def test_what_came_and_what_was_sent_is_hidden_too(support, personal):
    for page, word in (
        ("/games/demo/payments/GP-dora", "transactionId"),
        ("{game}/deliveries/{delivery}".format(**personal), "grant.created"),
    ):
        hidden = support.get(page).text
        bodies = html.unescape("".join(re.findall(r'aria-label="(?:Body|As it was reported)">(.*?)</pre>', hidden)))
        assert bodies == "•••", page
        shown = html.unescape(follow(support, support.post("/show", page=page)).text)
        assert word in "".join(re.findall(r"<pre.*?</pre>", shown, flags=re.DOTALL)), page


def test_support_registers_the_player_of_a_refused_call_and_sets_one_aside(support, personal, db):
    (refusal,) = db("SELECT max(id) AS id FROM refusals WHERE state = 'open'")
    page = f"/games/demo/refusals/{refusal['id']}"
    assert_has(support.get(page).text, "Register nobody", f'action="{page}/player"')
    follow(support, support.post(f"{page}/player"))
    assert db("SELECT actor FROM audit WHERE action = 'player.add'") == [{"actor": "Anna"}]
    follow(support, support.post(f"{page}/aside", note="told the player"))
    assert db("SELECT state FROM refusals WHERE id = :id", id=refusal["id"]) == [{"state": "aside"}]


def test_an_owner_sees_everything_and_no_show(browser, personal):
    page = browser.get("/games/demo/players/dora").text
    assert_has(page, NAME, ADDRESS, without=("Personal data on this page",))
