"""Text of strangers, partners, the game and files, on every page in Chromium: none of it runs, loads or leads away."""

import itertools
import re
import time
from collections import Counter
from urllib.parse import quote, urlsplit

import pytest

from coinslot.access import owner, people, sessions
from handlers.dashboard.frame import roles
from tests.browsers import browsing, person
from tests.conftest import Browser
from tests.fakes.http import Receiver, status
from tests.kit.test_odd_text import ARGUMENTS
from tests.owed import Owed
from tests.pages import PAGES, serving
from tests.traps import COMPUTED, TRAPS, Saying, set_everywhere, type_everywhere

pytestmark = pytest.mark.long
MOST_OF_ONE_KIND = 6  # pages of one kind that are opened, of the many that are linked
LEAST_FOLLOWED = 30  # links, after the pages that are always opened; more within MOST_SECONDS
MOST_SECONDS = 4.0
# What a page holds that it should not have: an array of lines.
LOOK = """() => {
  const found = [];
  if (document.contentType !== "text/html") return ["", found];
  for (const each of document.querySelectorAll("*")) {
    for (const { name, value } of each.attributes) {
      if (/^on|^style$|^srcdoc$|^background$/i.test(name)) found.push(`${each.tagName} ${name}=${value}`);
      if (/^(href|src|action|formaction|xlink:href)$/i.test(name) && URL.canParse(value, document.baseURI)) {
        const address = new URL(value, document.baseURI);
        const isOurs = address.host === location.host || name === "href";
        const isSafe = /^(https?|mailto):$/.test(address.protocol) && !/evil\\.test/.test(address.host);
        if (!isOurs || !isSafe) found.push(`${each.tagName} leads to ${value}`);
      }
    }
    if (/^(x-trap|iframe|object|embed|base)$/i.test(each.tagName)) found.push(each.tagName);
    if (each.tagName === "META" && /refresh/i.test(each.httpEquiv)) found.push("refresh");
    if (each.tagName === "STYLE" && /trap|evil/.test(each.textContent)) found.push("a style");
    if (each.tagName === "SCRIPT" && each.getAttribute("src") !== "/static/app.js") found.push("a script");
  }
  return [document.body.innerText, found];
}"""


@pytest.fixture
def trapped(world, app, installation, studio, client):
    """The full game with traps in it, served."""
    browser = Browser(app.test_client(), installation)
    with Saying() as other, Receiver(*(status(500, text.encode()) for text in TRAPS)) as game:
        Owed(installation, studio).destination("trapped", game.url)
        set_everywhere(client, studio, other.url)
        installation.observations.flush()
        installation.new_relay().drain()
        type_everywhere(browser)
        assert other.requests
        assert game.requests
        with serving(app, installation) as server:
            yield f"http://127.0.0.1:{server.server_port}"


def session_of(installation, role):
    def begin(tx):
        who = owner.first(tx)
        if role == "support":
            who = people.accept(tx, people.invite(tx, TRAPS[9][:40].strip(), "support", "test"), "hash")
        return sessions.begin(tx, who.id, "127.0.0.1", TRAPS[0])

    return installation.database.write_here(begin)


def first_addresses(world, role):
    for name, page in PAGES.items():
        if role == "owner" or name in roles.SUPPORT_MAY | roles.OPEN:
            for address in page.addresses if page.heading is not None or page.status != 200 else ():
                yield address.format(**world)
    query = "&".join(f"{name}={quote(TRAPS[number % len(TRAPS)])}" for number, name in enumerate(ARGUMENTS.split()))
    for address in (
        "/",
        "/login",
        "/setup",
        "/invitation",
        "/search",
        "/activity",
        "/refusals",
        "/nowhere",
        "/docs/api",
    ):
        yield f"{address}?{query}"
    for name in (
        "transactions",
        "refusals",
        "players",
        "items",
        "events",
        "deliveries",
        "payments",
        "refunds",
        "nowhere",
    ):
        yield f"/games/demo/{name}?{query}"
    for text in TRAPS[::3] if role == "owner" else TRAPS[1::3]:
        word = quote(text, safe="")
        yield f"/games/demo/players?id={word}"
        yield f"/search?q={word}"
        yield f"/games/demo/players?id={word}&show=timeline"
    yield f"/api/demo/sponsor?usn={quote(TRAPS[0])}&camp_code={quote(TRAPS[5])}&custom_data={quote(TRAPS[9])}"


def test_on_every_page(trapped, world, app, installation):
    with browsing() as chromium:
        for role in ("owner", "support"):
            open_every_page(chromium, trapped, world, app, installation, role)


def open_every_page(chromium, trapped, world, app, installation, role):
    ours, found, opened, queued = urlsplit(trapped).netloc, [], Counter(), Counter()
    with person(chromium, trapped) as page:
        page.context.add_cookies(
            [{"name": "coinslot_session", "value": session_of(installation, role), "url": trapped}]
        )
        page.context.expose_function("trap", lambda number=None: found.append(f"trap {number} ran at {page.url}"))
        page.on("dialog", lambda dialog: (found.append(f"a dialog at {page.url}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: urlsplit(request.url).netloc == ours or found.append(f"{request.url} was asked for"),
        )
        waiting = list(dict.fromkeys(first_addresses(world, role)))
        asked, always, until = set(waiting), len(waiting), 0.0
        for number in itertools.count():
            if number == always:
                until = time.monotonic() + MOST_SECONDS
            if not waiting or (number >= always + LEAST_FOLLOWED and time.monotonic() > until):
                break
            address = waiting.pop(0)
            answer = page.goto(address, wait_until="load")
            if answer is not None and answer.status >= 500 and not address.startswith("/api/"):  # PlayCamp's refusal
                found.append(f"{answer.status} at {address}")
            opened[kind_of(app, address)] += 1
            text, wrong = page.evaluate(LOOK)
            found += [f"{each} at {address}" for each in wrong]
            if COMPUTED in text:
                found.append(f"a template ran at {address}")
            if re.search("[\u202a-\u202e\u2066-\u2069]", text) and "/docs" not in address:
                found.append(f"text is turned round at {address}")
            found += [f"{each} at {address}" for each in page.problems if "Failed to load resource" not in each]
            page.problems.clear()
            for link in page.eval_on_selector_all(
                "a[href^='/']", "all => all.map((each) => each.getAttribute('href'))"
            ):
                link = link.partition("#")[0]
                kind = kind_of(app, link)
                if kind is not None and link not in asked and queued[kind] < MOST_OF_ONE_KIND:
                    asked.add(link)
                    queued[kind] += 1
                    waiting.append(link)
    assert not found, "\n".join(sorted(set(found)))
    pages = {name for name, page in PAGES.items() if page.heading is not None}
    missing = pages - opened.keys() - (set() if role == "owner" else pages - roles.SUPPORT_MAY)
    assert not missing - {"new_second_factor"}
    assert sum(opened.values()) >= always + LEAST_FOLLOWED


def kind_of(app, address):
    """The page that is at an address; None for files and for what is signed out by."""
    try:
        endpoint, _ = app.url_map.bind("").match(urlsplit(address).path, "GET")
    except Exception:
        return "elsewhere"
    name = endpoint.partition(".")[2]
    return None if name in PAGES and PAGES[name].heading is None else name
