"""What the tests of the owner's pages share: the worst that somebody may write, how a page is read, a served app."""

import html
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from werkzeug.serving import make_server
from werkzeug.wsgi import LimitedStream

from tests import databases

# Markup, the end of an attribute, text that turns round, a formula, what cannot be seen, NUL, and two units of UTF-16.
HOSTILE = "<script>alert(1)</script>\"'><img src=x>\u202e=1+1\u200b\x00😀"
SENDABLE = HOSTILE.replace("\x00", "")  # what a call can hold
STORABLE = SENDABLE if databases.IS_POSTGRES else HOSTILE  # PostgreSQL keeps no NUL


def text_of(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def follow(browser: Any, answer: Any) -> Any:
    assert answer.status_code == 303, answer.text
    return browser.get(answer.location)


def next_of(answer: Any) -> str | None:
    """Where the page after of a list is, None on the last."""
    found = re.search(r'href="([^"]+)" rel="next"', answer.text)
    return None if found is None else html.unescape(found[1])


def every_page(browser: Any, address: str | None) -> Iterator[Any]:
    """A list's pages, one after the other."""
    while address is not None:
        answer = browser.get(address)
        yield answer
        address = next_of(answer)


@contextmanager
def serving(app: Any, installation: Any = None) -> Iterator[Any]:
    """The app itself on a port of its own, which is the public address of ``installation``."""

    def bounded(environ: Any, start_response: Any) -> Any:
        """As gunicorn has it: a body ends."""
        environ["wsgi.input"] = LimitedStream(environ["wsgi.input"], int(environ.get("CONTENT_LENGTH") or 0))
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, bounded, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    if installation is not None:
        installation.settings = replace(installation.settings, public_url=f"http://127.0.0.1:{server.server_port}")
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)


class Page(NamedTuple):
    """``heading`` is on the page, None where it is a file; ``empty`` is on it while it has nothing to show."""

    addresses: tuple[str, ...]
    heading: str | None = None
    empty: str = ""
    status: int = 200


# Endpoint -> its page. Names in braces are ids of rows that the test has made.
PAGES = {
    "overview": Page(
        ("/", *(f"/?metric={each}&range=90" for each in ("paid", "grants", "refusals", "deliveries"))), "Overview"
    ),
    "game_overview": Page(("{game}", "{game}?metric=grants", "{game}?range=2026-07&metric=deliveries"), "Background"),
    "figures_csv": Page(("{game}/figures.csv",)),
    "search_everything": Page(
        ("/search", "/search?q=", "/search?q=o", "/search?q=1", "/search?q={player}", "/search?q=nothing-like-that"),
        "Search",
    ),
    "transactions": Page(
        ("{game}/transactions", "{game}/transactions?partner=appcharge&state=credited"),
        "Transactions",
        "Nothing has been credited yet",
    ),
    "transactions_csv": Page(("{game}/transactions.csv",)),
    "transaction": Page(("{game}/transactions/{transaction}",), "Timeline"),
    "refund_order": Page(("{game}/transactions/{transaction}/refund",), "Refund"),
    "dispute_pack": Page(("{game}/transactions/{transaction}/dispute.zip",)),
    "conflicts": Page(("{game}/conflicts",), "Conflicts", "No conflicts."),
    "conflicts_csv": Page(("{game}/conflicts.csv",)),
    "refunds": Page(("{game}/refunds", "{game}/refunds?show=open"), "Refunds", "No refunds"),
    "refunds_csv": Page(("{game}/refunds.csv",)),
    "players": Page(
        (
            "{game}/players",
            "{game}/players?q=a",
            "{game}/players?id={player}",
            "{game}/players?id={player}&show=timeline",
        ),
        "Player",
    ),
    "players_csv": Page(("{game}/players.csv",)),
    "player": Page(("{game}/players/carol",), "Player"),
    "edit_player": Page(("{game}/edit-player?id=carol", "{game}/edit-player?id={player}"), "Edit player"),
    "export_player": Page(("{game}/player.json?id=carol", "{game}/player.json?id={player}")),
    "items": Page(("{game}/items", "{game}/items?q=c", "{game}/items?rename=coins"), "Items"),
    "items_csv": Page(("{game}/items.csv",)),
    "events": Page(
        ("{game}/events", "{game}/events?partner=playcamp&type=sponsor&player=alice&from=2026-01-01&to=2026-12-31"),
        "Events",
        "No event yet.",
    ),
    "events_csv": Page(("{game}/events.csv",)),
    "event": Page(("{game}/events/{event}",), "As it came"),
    "deliveries": Page(
        ("{game}/deliveries", "{game}/deliveries?state=waiting&destination=game&type=grant.created"),
        "Deliveries",
        "Nothing has been sent yet",
    ),
    "deliveries_csv": Page(("{game}/deliveries.csv",)),
    "delivery": Page(("{game}/deliveries/{delivery}",), "Delivery"),
    "destination_list": Page(("{game}/settings/destinations",), "Destinations"),
    "payments": Page(
        (
            "{game}/payments",
            *(f"{{game}}/payments?{each}" for each in ("state=refunded", "state=conflicts", "q=alice")),
        ),
        "Payments",
        "No payment yet",
    ),
    "payments_csv": Page(("{game}/payments.csv",)),
    "payment": Page(("{game}/payments/{payment}",), "As it was reported"),
    "integration": Page(("{game}/integration",), "Integration"),
    "integration_partner": Page(
        tuple(f"{{game}}/integration/{each}" for each in ("appcharge", "playtem", "playcamp")), "Keys"
    ),
    "keys": Page(("{game}/integration/keys",), "Keys"),
    "payment_mapping": Page(("{game}/mapping/payments",), "Ask for payments"),
    "mapping": Page(
        tuple(f"{{game}}/mapping{each}" for each in ("", "?what=playcamp.payments.map", "?what=destination.game")), ""
    ),
    "refusals": Page(("{game}/refusals",), "Refused calls", "No call was refused here in the last week."),
    "refusal": Page(("{game}/refusals/{refusal}",), ""),
    "strays": Page(("/refusals",), "Refused calls", "No call was refused here in the last week."),
    "stray": Page(("/refusals/{stray}",), ""),
    "snippets": Page(("{game}/integration/snippets",), "Python"),
    "settings": Page(("{game}/settings",), "Settings"),
    "setting_family": Page(("{game}/settings/family?family=lookup.*",), ""),
    "settlements": Page(
        ("{game}/settlements", "{game}/settlements?currency=USD"), "Settlements", "There is no month yet"
    ),
    "month": Page(("{month}", "{game}/settlements/2026-08"), "2026-0"),
    "differences": Page(
        ("{month}/differences", "{month}/differences?result=missing_there&partner=playcamp"), "2026-07"
    ),
    "differences_csv": Page(("{month}/differences.csv",)),
    "month_file": Page(
        tuple(f"{{month}}/files/{each}" for each in ("statement.csv", "everything.csv", "creators.csv"))
    ),
    "month_print": Page(("{month}/print",), "2026-07"),
    "month_creators": Page(("{month}/creators", "{month}/creators?creator={creator}"), "2026-07"),
    "month_purchases": Page(
        tuple(f"{{month}}/purchases?partner={each}" for each in ("playcamp&currency=USD", "appcharge")), "2026-07"
    ),
    "report_columns": Page(("{month}/differences/playcamp/{upload}",), ""),
    "account": Page(("/account",), "Account"),
    "people_page": Page(("/account/people",), "People"),
    "invitation": Page(("/invitation",), status=410),
    "alerts": Page(("/account/alerts",), "Alerts", "There is no target yet"),
    "new_second_factor": Page(("/account/second-factor",), status=303),
    "activity": Page(("/activity", "/activity?game=demo", "/activity?game=-&actor=command&action=zzz"), "Activity"),
    "activity_csv": Page(("/activity.csv",)),
    "documents": Page(("/docs",), "Documents"),
    "document": Page(("/docs/readme", "/docs/dashboard"), "Coinslot"),
    "api_document": Page(("/docs/api", "/docs/api?for=demo"), "The game API"),
    "picture": Page(("/docs/pictures/overview.png",)),
}


def assert_has(text: Any, *wanted: str, without: Iterable[str] = ()) -> None:
    """Every wanted text is in it, and none of the others."""
    missing = [each for each in wanted if each not in text]
    extra = [each for each in without if each in text]
    assert (missing, extra) == ([], []), text
