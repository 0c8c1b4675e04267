"""Calls to Appcharge's API and the game's checkout, against a server that answers as Appcharge does, or worse."""

import json
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from coinslot.access.keyring import SecretValue
from coinslot.base import signing
from coinslot.base.outbound import Outbound
from coinslot.games.games import Game
from handlers.appcharge.api import catalogue, offers
from handlers.appcharge.api.catalogue import CatalogueError, Line
from handlers.appcharge.api.client import Client
from handlers.appcharge.api.offers import UncertainError
from handlers.appcharge.settings import SETTINGS
from handlers.kit.api import ApiError, NotConfiguredError, UnsentError
from tests.conftest import MAIN_KEY, TOKEN
from tests.fakes.appcharge import FakeAppcharge, report_order, transaction
from tests.fakes.http import (
    bad_headers,
    closed_port,
    nonsense,
    reset,
    status,
)

FROM, TO = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
OUTBOUND = Outbound()  # one for all: to make one costs more than most of the tests
# A call of each kind, to be answered by a script.
READ = ("read", lambda api: api.offers())
PUT = ("PUT", lambda api: api.update_offer("o1", {"type": "Bundle"}))
DELETE = ("DELETE", lambda api: api.delete_offer("o1"))
POST = ("POST", lambda api: api.create_session({}))


@pytest.fixture
def fake():
    with FakeAppcharge() as fake:
        yield fake


def game(base_url, secrets=None, **settings):
    """A game as a request sees it. ``secrets``: name -> its values, current first."""
    defaults = {name: setting.default for name, setting in SETTINGS.items()}
    named = {f"appcharge.{name}": value for name, value in settings.items()}
    values = {"publisher_token": [TOKEN], "main_key": [MAIN_KEY], **(secrets or {})}
    keys = {
        f"appcharge.{name}": tuple(
            SecretValue(f"appcharge.{name}", slot, value.encode())
            for slot, value in zip(("current", "previous"), its_values, strict=False)
        )
        for name, its_values in values.items()
        if its_values
    }
    return Game(1, "demo", "Demo", {**defaults, "appcharge.base_url": base_url, **named}, keys)


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def api(fake, pauses):
    return Client(game(fake.url), OUTBOUND, sleep=pauses.append)


def by_kind(*kinds):
    return pytest.mark.parametrize("call", [call for _, call in kinds], ids=[name for name, _ in kinds])


# How a call is made


def test_each_call_carries_the_current_token_and_no_signature(fake):
    fake.script = [status(200, b'{"offers": [], "totalCount": 0}')]

    Client(game(fake.url, {"publisher_token": [TOKEN + "-next", TOKEN]}), OUTBOUND).offers()

    (request,) = fake.requests
    assert (request.route, request.headers["x-publisher-token"]) == ("GET /v2/offer", TOKEN + "-next")
    assert "signature" not in request.headers
    assert "content-type" not in request.headers


@by_kind(READ, PUT, POST)
def test_where_the_owner_wants_it_the_body_is_signed_with_the_main_key(fake, clock, call):
    fake.script = [status(201, b'{"offers": [], "checkoutSessionToken": "t", "parsedUrl": "https://x.example"}')]

    call(Client(game(fake.url, sign_calls="on"), OUTBOUND))

    (request,) = fake.requests
    timestamp, _, v1 = request.headers["signature"].removeprefix("t=").partition(",v1=")
    assert timestamp == str(int(time.time() * 1000))
    assert v1 == signing.hmac_hex("sha256", MAIN_KEY.encode(), timestamp.encode() + b"." + request.body)


def test_the_environment_names_the_server_unless_the_owner_does():
    class Asked(Outbound):
        def call(self, method, url, *_):
            asked.append(url)
            return super().call("GET", f"http://127.0.0.1:{closed_port()}", {}, None, 1.0)

    asked = []
    for environment in ("live", "sandbox"):
        with pytest.raises(ApiError):
            Client(game("", environment=environment), Asked(), tries=1).products()

    hosts = ("https://api.appcharge.com", "https://api-sandbox.appcharge.com")
    assert asked == [f"{host}/components/v1/product" for host in hosts]


@pytest.mark.parametrize(
    ("secrets", "settings", "words"),
    [
        ({"publisher_token": []}, {}, "appcharge.publisher_token is not set"),
        ({"publisher_token": ["two words"]}, {}, "appcharge.publisher_token has characters"),
        ({"publisher_token": ["sécret-de-test"]}, {}, "appcharge.publisher_token has characters"),
        ({"main_key": []}, {"sign_calls": "on"}, "appcharge.sign_calls is on, and appcharge.main_key is not set"),
        ({}, {"base_url": "http://appcharge.example.com"}, "appcharge.base_url: use https"),
        ({}, {"base_url": "http://localhost.example.com"}, "appcharge.base_url: use https"),
        ({}, {"base_url": "http://127.0.0.2"}, "appcharge.base_url: use https"),
        (
            {},
            {"base_url": "https://user:pass@api.appcharge.com"},
            "appcharge.base_url: use an https:// address without",
        ),
        ({}, {"base_url": "https://api.appcharge.com/?a=b"}, "appcharge.base_url: leave out"),
        ({}, {"base_url": "https://api.appcharge.com/#"}, "appcharge.base_url: leave out"),
    ],
)
def test_a_game_that_cannot_call_is_told_why_before_anything_is_sent(secrets, settings, words):
    with pytest.raises(NotConfiguredError) as raised:
        Client(game(**{"base_url": "", "secrets": secrets, **settings}), OUTBOUND)

    assert str(raised.value).startswith(words)
    assert not raised.value.is_uncertain
    assert "secret-de-test" not in str(raised.value)


# When a call is repeated


@by_kind(READ, PUT, DELETE, POST)
def test_a_429_is_waited_out_as_long_as_it_asks_for(api, fake, pauses, call):
    good = status(201, b'{"offers": [], "checkoutSessionToken": "t", "parsedUrl": "https://x.example"}')
    fake.script = [status(429, Retry_After="7"), status(429, Retry_After="soon"), good]

    call(api)

    assert len(fake.requests) == 3
    assert pauses[0] == 7
    assert 0.75 <= pauses[1] <= 2.25


@by_kind(READ, PUT, DELETE)
@pytest.mark.parametrize("trouble", [status(500), status(503, b"<html>"), reset, nonsense])
def test_what_may_be_repeated_is_repeated_after_trouble_of_the_servers(api, fake, call, trouble):
    fake.script = [trouble, trouble, status(200, b'{"offers": []}')]

    call(api)

    assert len(fake.requests) == 3


@pytest.mark.parametrize(
    "trouble", [status(500), status(503, Retry_After="0"), status(408), reset, nonsense, bad_headers]
)
def test_a_post_is_not_repeated_since_it_may_have_been_done(api, fake, pauses, trouble):
    fake.script = [trouble, status(201, b"{}")]

    with pytest.raises(ApiError) as raised:
        api.create_session({})

    assert raised.value.is_uncertain
    assert (len(fake.requests), pauses) == (1, [])


@by_kind(READ, PUT, DELETE, POST)
def test_a_refusal_is_final(api, fake, call):
    for number, code in enumerate((400, 401, 403, 409, 422), 1):
        fake.script = [status(code, b'{"message": "no"}')]
        with pytest.raises(ApiError, match=rf"^Appcharge answered {code}: no$") as raised:
            call(api)
        assert (raised.value.status, raised.value.is_uncertain, len(fake.requests)) == (code, False, number)


# What comes back. (Pauses, patience, redirects and endless answers: tests/playcamp/test_client.py, by the same caller.)


NO_LISTS = (
    *(b"", b"<html>", b"{", b"null", b"7", b'"text"', b"{}", b'{"offers": null}', b'{"offers": {"a": 1}}', b"\xff"),
    *(b'{"offers": NaN}', b'{"offers": [' + b"[" * 5000 + b"]" * 5000 + b"]}", b"[" * 200_000),
)
NO_SESSIONS = (
    *(b"{}", b"[]", b'{"checkoutSessionToken": "t"}', b'{"checkoutSessionToken": 7, "parsedUrl": "https://x"}'),
    b'{"checkoutSessionToken": "t", "parsedUrl": "javascript:alert(1)"}',
    b'{"checkoutSessionToken": "", "parsedUrl": "https://x"}',
    b'{"checkoutSessionToken": "t", "parsedUrl": "https://[x"}',
)


def test_an_answer_that_is_not_as_documented_is_an_error_and_no_crash(api, fake):
    for body in NO_LISTS:
        fake.script = [status(200, body)]
        with pytest.raises(ApiError, match="Appcharge answered 200: the answer"):
            api.offers()
    for body in NO_SESSIONS:
        fake.script = [status(201, body)]
        with pytest.raises(ApiError) as raised:
            api.create_session({})
        assert raised.value.is_uncertain, body  # there may be one that nobody can open


NUMBERED = {"statusCode": 400, "error": "Bad Request", "message": [{"error": "a date"}, {"error": "an end"}]}
ERRORS = (
    (b'{"errorCode": 17, "errorMessage": "price is missing"}', "price is missing"),
    (b'{"message": "Blocked player: p-1"}', "Blocked player: p-1"),
    (b'{"message": ["name too short", " price "]}', "name too short; price"),
    (json.dumps(NUMBERED).encode(), "a date; an end"),
    (b'{"error": "coupon exists"}', "coupon exists"),
    (b'{"error": {"message": "inner"}}', "inner"),
    (b'{"message": "", "errorMessage": null, "error": "last"}', "last"),
    (b'{"message": {"a": 1}, "error": 7}', '{"message": {"a": 1}, "error": 7}'),
    (b"<html>\n<b>Bad  Gateway</b>", "<html> <b>Bad Gateway</b>"),
    (b"", "HTTP 400"),
    (b"[]", "[]"),
    (b"x" * 5000, "x" * 199 + "…"),
    ("é".encode() * 5000, "é" * 199 + "…"),
    (b'{"message": "' + b"y" * 5000 + b'"}', "y" * 499 + "…"),
    (b'{"message": "\\u001b[31mred\\u0000 \\ud800"}', "·[31mred· ·"),
    (b"\xff\xfe", "\N{REPLACEMENT CHARACTER}" * 2),
)


def test_every_shape_of_an_error_is_told_in_its_words(api, fake):
    for body, text in ERRORS:
        fake.script = [status(400, body)]
        with pytest.raises(ApiError) as raised:
            api.offers()
        assert raised.value.text == text


def test_an_error_never_repeats_a_secret_our_body_or_an_address(api, fake):
    wanted = {"customer": {"id": "alice", "email": "alice@example.com"}, "note": "ours"}

    def echoes(handler):
        told = {"message": f"bad {TOKEN} {MAIN_KEY} {fake.requests[-1].body.decode()} bob@example.com"}
        status(400, json.dumps(told).encode())(handler)

    fake.script = [echoes]
    with pytest.raises(ApiError) as raised:
        api.create_session(wanted)

    assert raised.value.text == "bad [hidden] [hidden] [hidden] [hidden]"
    beginning = json.dumps(wanted, separators=(",", ":"))[:40]
    fake.script = [status(400, json.dumps({"message": f"cannot read {beginning}"}).encode())]
    with pytest.raises(ApiError) as raised:
        api.create_session(wanted)
    assert raised.value.text == "cannot read [hidden]"
    fake.script = [status(400, f"{'x' * 190}{TOKEN}".encode())]
    with pytest.raises(ApiError) as raised:
        api.offers()
    assert TOKEN[:4] not in raised.value.text


# The calls themselves


def test_offers_are_listed_read_created_updated_and_deleted(api, fake):
    fake.offer("a")
    api.create_offer({**fake.offer("template"), "publisherOfferId": "b,c/d e"})

    assert [each["publisherOfferId"] for each in api.offers().documents] == ["a", "template", "b,c/d e"]
    assert (api.offers().total, api.offers().is_partial) == (3, False)
    assert api.offer("a")["offerId"] == "ac-a"
    assert api.offer("b,c/d e")["publisherOfferId"] == "b,c/d e"
    assert api.offer("nobody") is None
    api.update_offer("b,c/d e", {"type": "Bundle", "active": True})
    assert fake.offers["b,c/d e"]["active"] is True
    assert fake.requests[-1].path == "/v2/offer/b%2Cc%2Fd%20e"
    api.delete_offer("b,c/d e")
    api.delete_offer("b,c/d e")
    assert list(fake.offers) == ["a", "template"]


@pytest.mark.parametrize("code", [400, 404])
def test_an_id_that_may_not_be_asked_for_is_looked_for_in_the_whole_list(api, fake, code):
    fake.offer("a")
    fake.script = [status(code, b'{"message": "no such offer"}')]

    assert api.offer("b") is None
    assert [request.target for request in fake.requests] == ["/v2/offer?publisherOfferIds=b", "/v2/offer"]


def test_what_no_address_or_header_can_carry_is_not_sent(api, fake):
    calls = [(api.cancel_session, "two\r\nlines")]
    calls += [
        call for own_id in ("", ".", "..") for call in ((api.delete_offer, own_id), (api.refund_order, own_id, "a"))
    ]
    calls += [(api.refund_order, "o1", user) for user in ("", "two words", "a\r\nb", "ünï")]
    for call, *words in calls:
        with pytest.raises(UnsentError):
            call(*words)

    assert fake.requests == []


def test_many_offers_are_asked_for_in_portions(api, fake):
    for number in range(120):
        fake.offer(f"o{number}")

    found = api.some_offers([*(f"o{number}" for number in range(120)), "with,comma"])

    assert len(found) == 120
    assert len(fake.requests) == 3


@pytest.mark.parametrize("wraps", [True, False])
def test_products_come_bare_or_wrapped(api, fake, wraps):
    fake.product("coins")
    fake.wraps_products = wraps

    assert [each["publisherProductId"] for each in api.products()] == ["coins"]


def test_price_points_are_read_exactly(api, fake):
    fake.price_points = [{"priceInUsdCents": 499, "priceByCountry": [{"price": 29.99, "countryCode2": "BR"}]}]

    assert [each["priceInUsdCents"] for each in api.price_points()] == [499]
    assert api.price_point(499)["priceByCountry"][0]["price"] == Decimal("29.99")
    assert api.local_prices([499, 999], "DE")["pricePoints"] == {
        "499": {"price": 449, "displayPrice": "4.49 €"},
        "999": None,
    }
    with pytest.raises(ApiError, match="404: Price point not found"):
        api.price_point(1)


def test_a_session_is_made_and_cancelled_once(api, fake):
    session = api.create_session({"customer": {"id": "alice"}})

    assert (session.url, session.purchase_id) == (f"https://checkout.example.com/{session.token}", "pr_1")
    assert session.token not in repr(session)
    assert [api.cancel_session(session.token), api.cancel_session(session.token)] == [True, False]
    assert fake.requests[-1].headers["authorization"] == f"Bearer {session.token}"
    fake.script = [status(401, b'{"message": "bad token tok-12345"}')]
    with pytest.raises(ApiError, match=r"401: bad token \[hidden\]"):
        api.cancel_session("tok-12345")


def test_an_order_is_refunded_by_somebody(api, fake):
    fake.orders = [report_order("or/1")]

    api.refund_order("or/1", "anna")

    assert fake.refunded == [("or/1", "anna")]
    with pytest.raises(ApiError, match="403: Order was refunded already"):
        api.refund_order("or/1", "anna")
    with pytest.raises(ApiError, match="404: Order not found"):
        api.refund_order("or/2", "anna")


def test_players_are_refreshed_in_portions_and_nobody_is_not_everyone(api, fake):
    api.refresh([f"p{number}" for number in range(1001)])
    api.refresh([])
    assert [len(each) for each in fake.refreshed] == [500, 500, 1]

    api.refresh_everyone()
    assert fake.refreshed[-1] is None


# Reports


@pytest.mark.parametrize("tells", ["both", "cursor", "query"])
def test_transactions_come_page_by_page_each_once(api, fake, tells):
    fake.transactions = [transaction(f"t{number}") for number in range(7)]
    fake.page_size, fake.tells = 3, tells

    found = [each["transactionDetails"]["id"] for each in api.transactions(FROM, TO)]

    assert found == [f"t{number}" for number in range(7)]
    assert [request.query.get("cursor") for request in fake.requests] == [None, "at:3==", "at:6=="]
    assert fake.requests[0].query == {
        "startDate": "2026-01-01T00:00:00.000Z",
        "endDate": "2026-02-01T00:00:00.000Z",
        "limit": "1000",
        "sortDirection": "asc",
    }


@pytest.mark.parametrize("tells", ["both", "cursor", "query"])
def test_a_cursor_that_leads_in_a_circle_is_followed_once(api, fake, tells):
    fake.transactions = [transaction(f"t{number}") for number in range(4)]
    fake.page_size, fake.tells, fake.loops = 2, tells, True

    assert len(list(api.transactions(FROM, TO))) == 4
    assert len(fake.requests) <= 4


ONE = {"results": [transaction("t1")]}
LAST_PAGES = (
    {"results": []},
    {"results": [], "nextCursor": "more"},
    {"results": [], "nextCursor": None, "nextPageQuery": "?cursor=x"},
    *({**ONE, "nextCursor": cursor, "nextPageQuery": None} for cursor in ("", None, 7, ["a"], {}, False)),
    *({**ONE, "nextPageQuery": q} for q in ("//elsewhere.example/x", "?a b", "?a#b", "/x?cursor=1", "?\r\nx: y")),
)


def test_a_page_with_nothing_or_that_names_no_next_one_is_the_last(api, fake):
    for number, page in enumerate(LAST_PAGES, 1):
        fake.script = [status(200, json.dumps(page).encode())]
        assert len(list(api.transactions(FROM, TO))) == len(page["results"]), page
        assert len(fake.requests) == number


def test_a_report_that_ends_too_early_says_so(api, fake):
    fake.script = [status(200, json.dumps({"totalCount": 3, "results": [transaction("t1")]}).encode())]
    report = api.transactions(FROM, TO)

    assert next(report)["orderId"] == "order-t1"
    with pytest.raises(ApiError, match="the report is incomplete: 1 of 3 transactions came"):
        next(report)


def test_the_end_of_a_report_is_not_part_of_it(api, fake):
    fake.transactions = [
        transaction("t1", at="2026-01-31T23:59:59.999Z"),
        transaction("t2", at="2026-02-01T00:00:00.000Z"),
        transaction("t3", at="whenever"),
    ]

    assert [each["transactionDetails"]["id"] for each in api.transactions(FROM, TO)] == ["t1", "t3"]


def test_orders_come_page_by_page(api, fake):
    fake.orders = [report_order(f"o{number}") for number in range(5)] + [report_order("r1", "payment_refunded")]
    fake.page_size = 2

    assert [each["acOrderId"] for each in api.orders(FROM, TO)] == ["o0", "o1", "o2", "o3", "o4", "r1"]
    assert [request.json["offset"] for request in fake.requests] == [0, 2, 4]
    assert [each["acOrderId"] for each in api.orders(FROM, TO, ["payment_refunded"], is_free=True)] == ["r1"]
    assert fake.requests[-1].json == {
        "startDate": "2026-01-01T00:00:00.000Z",
        "endDate": "2026-02-01T00:00:00.000Z",
        "recordLimit": 1000,
        "isFree": True,
        "statuses": ["payment_refunded"],
        "offset": 0,
    }


def test_a_report_that_repeats_its_first_page_ends_with_an_error(api, fake):
    fake.orders = [report_order(f"o{number}") for number in range(5)]
    fake.page_size, fake.loops = 2, True

    with pytest.raises(ApiError, match="repeats a page"):
        list(api.orders(FROM, TO))

    assert len(fake.requests) == 2


# The catalogue


def test_offers_are_read_in_every_shape_they_are_told_in(api, fake):
    flat = [{"publisherProductId": "coins", "quantity": "500", "priority": "Main"}]
    nested = [{"product": {"publisherProductId": "gems", "name": "Gems", "quantity": 7}, "priority": "Sub"}]
    bare = [{"product": {"publisherProductId": "coins", "name": "Coins"}}, {"publisherProductId": 12}, "odd", None]
    entries = [
        {"index": 1, "priceInUsdCents": 0, "products": flat},
        {"index": 2, "priceInUsdCents": 499, "products": nested},
        {"index": 3, "products": bare},
        None,
        {"products": None},
    ]
    fake.offer("o1", productsSequence=entries, subtype="StoreRefresh", type="PopUp", offerUi=None, displayName="Shown")
    fake.offer("o2", productsSequence=..., name=..., active=..., segments=None, type=...)

    first, second = catalogue.read(api).offers

    assert (first.kind, first.sub_kind, first.name, first.is_active) == ("PopUp", "StoreRefresh", "Shown", False)
    assert [entry.price_usd_cents for entry in first.entries] == [0, 499, None, None]
    assert [entry.lines for entry in first.entries] == [
        (Line("coins", 500),),
        (Line("gems", 7),),
        (Line("coins", None), Line("12", None)),
        (),
    ]
    assert (second.id, second.kind, second.name, second.is_active, second.entries) == ("o2", "", None, None, ())


def test_the_oddities_of_a_catalogue_are_told(api, fake):
    fake.product("coins")
    fake.product("coins")
    fake.product(" blank ")
    fake.product(None)
    fake.product("x" * 300)
    fake.offer("cheap", productsSequence=[{"index": 1, "priceInUsdCents": 79, "products": [{"quantity": 1}]}])
    fake.offer(
        "stale", productsSequence=[{"index": 1, "products": [{"publisherProductId": "gone\x1b", "quantity": 1}]}]
    )

    read = catalogue.read(api)

    assert [product.id for product in read.products] == ["coins", "coins"]
    assert not read.is_partial
    assert list(read.warnings) == [
        "product  blank  is left out: use 1 to 255 characters without blanks at the ends",
        "product without an id is left out: use 1 to 255 characters without blanks at the ends",
        f"product {'x' * 59}… is left out: use 1 to 255 characters without blanks at the ends",
        "product coins is there 2 times",
        "offer cheap has a product without an id",
        "offer cheap costs 79 US cents; Appcharge sells nothing below 80",
        "offer stale has gone·, which is no product",
    ]


@pytest.mark.parametrize("setting", [{"has_total": False}, {"total_besides": 1}, {"wants_offer_ids": True}])
def test_a_partial_list_is_completed_by_the_ids_that_are_known(api, fake, setting):
    fake.offer("a")
    fake.offer("b")
    vars(fake).update(setting)

    read = catalogue.read(api, ["a", "b", "not,askable"])

    assert sorted(offer.id for offer in read.offers) == ["a", "b"]
    assert read.is_partial
    assert "there may be more" in read.warnings[-1]


def test_filling_registers_what_is_missing_and_keeps_every_name(api, fake, studio, installation, db):
    installation.database.write_here(
        lambda tx: tx.execute("UPDATE items SET name = 'Studio coins' WHERE sku = 'coins'")
    )
    fake.product("coins", displayName="Other")
    fake.product("gems", displayName="Gems")
    fake.product("keys", displayName="", name="Key \x07 ring")
    fake.product("odd", name=["no", "text"])

    read = catalogue.read(api)
    new = installation.database.write_here(lambda tx: catalogue.fill_items(tx, studio.row["id"], read))

    assert new == ["keys", "odd"]
    assert db("SELECT sku, name FROM items ORDER BY sku") == [
        {"sku": "coins", "name": "Studio coins"},
        {"sku": "gems", "name": "Gems"},
        {"sku": "keys", "name": "Key · ring"},
        {"sku": "odd", "name": None},
    ]


def schedule(start, end):
    return {"permanent": False, "timeFrames": [{"startTime": start, "endTime": end}]}


COINS = {"sku": "coins", "name": "Coins", "quantity": 1}
OF_COINS = {"publisherProductId": "coins", "quantity": 1200, "priority": "Main"}
NEW = {
    "publisherOfferId": "bundle-1",
    "name": "Gold bundle",
    "type": "Bundle",
    "active": True,
    "segments": ["whales"],
    "offerExternalUiId": "bundle-default",
    "schedule": schedule("2037-01-01T00:00:00Z", "2037-01-02T00:00:00Z"),
    "productsSequence": [{"index": 1, "priceInUsdCents": 499, "products": [OF_COINS]}],
}


@pytest.fixture
def before_a_new_one(fake):
    """The answers that the look-ups before a creation get, for a script."""
    fake.product("coins")
    return status(200, json.dumps(fake.products).encode()), status(200, b'{"offers": []}')


def test_a_new_offer_is_created_switched_off_and_read_back(api, fake):
    fake.product("coins")

    changed = offers.create_offer(api, NEW)

    assert changed.unexpected == ()
    assert fake.offers["bundle-1"]["active"] is False
    assert fake.routes == ["GET /components/v1/product", "GET /v2/offer", "POST /v2/offer", "GET /v2/offer"]


def test_a_create_without_an_answer_is_looked_up_and_not_repeated(api, fake, before_a_new_one):
    def creates_and_breaks(handler):
        fake.create_offer(fake.requests[-1])
        reset(handler)

    fake.script = [*before_a_new_one, creates_and_breaks]
    assert offers.create_offer(api, NEW).unexpected == ()
    assert fake.routes.count("POST /v2/offer") == 1

    fake.offers.clear()
    fake.script = [*before_a_new_one, reset]
    with pytest.raises(ApiError, match="did not answer"):
        offers.create_offer(api, NEW)
    assert fake.routes.count("POST /v2/offer") == 2

    offers.create_offer(api, NEW)
    with pytest.raises(CatalogueError, match="there is an offer bundle-1 already"):
        offers.create_offer(api, NEW)


def test_an_offer_that_came_out_otherwise_is_told(api, fake, before_a_new_one):
    def twists(handler):
        fake.create_offer(fake.requests[-1])
        design = {"externalId": "other"}
        fake.offers["bundle-1"] |= {"segments": [], "active": True, "offerUi": design, "schedule": None}
        fake.offers["bundle-1"]["productsSequence"][0]["priceInUsdCents"] = 4
        status(201, b"")(handler)

    fake.script = [*before_a_new_one, twists]

    changed = offers.create_offer(api, NEW)

    names = {each.split(" ")[0] for each in changed.unexpected}
    assert names == {"active", "segments", "offerExternalUiId", "schedule", "productsSequence"}


GOLD = {"productsSequence": [{"index": 1, "products": [{"publisherProductId": "gold", "quantity": 1}]}]}


def test_an_offer_that_could_not_be_found_again_or_credited_is_not_sent(api, fake):
    fake.product("coins")
    no_id = "publisherOfferId: use 1 to 255"
    for changed, problem in (
        ({"publisherOfferId": None}, no_id),
        ({"publisherOfferId": 7}, no_id),
        (GOLD, "gold is no product at Appcharge"),
    ):
        with pytest.raises(CatalogueError, match=r"^nothing was sent") as raised:
            offers.create_offer(api, {**NEW, **changed})
        assert problem in str(raised.value)
    assert "POST /v2/offer" not in fake.routes


def test_what_an_offer_must_be_like_is_appcharges_to_say(api, fake, before_a_new_one):
    products, no_offers = before_a_new_one
    refusal = status(400, b'{"message": ["not like this"]}')
    for changed in (
        {"type": "Sale"},
        {"productsSequence": 7},
        {"productsSequence": [7]},
        {"schedule": [], "name": None},
    ):
        fake.script = [no_offers, refusal] if "productsSequence" in changed else [products, no_offers, refusal]
        with pytest.raises(ApiError, match="Appcharge answered 400: not like this"):
            offers.create_offer(api, {**NEW, **changed})


def test_a_change_sends_the_type_and_what_changes_and_nothing_else(api, fake):
    fake.offer("o1")

    changed = offers.change_offer(api, "o1", {"active": True})

    put = next(request for request in fake.requests if request.method == "PUT")
    assert put.json == {"type": "Bundle", "active": True}
    assert (changed.unexpected, changed.before["active"], changed.after["active"]) == ((), False, True)


def test_a_change_of_a_popup_names_its_kind_and_of_a_rolling_offer_all_it_needs(api, fake):
    fake.offer("p1", type="PopUp", subtype="StoreRefresh")
    told = [
        {"product": {"publisherProductId": "coins", "name": "Coins"}, "quantity": "5", "quantityDisplay": "5x"},
        {"publisherProductId": "gems", "quantity": 2, "priority": "Sub"},
    ]
    discount = {"discount": 10.5, "type": "percentage", "priceBeforeDiscount": 1000}
    badges = [{"publisherBadgeId": "hot", "badgeImageUrl": "https://x"}]
    entries = [{"id": f"e{n}", "index": n, "priceInUsdCents": 0, "products": told, "priceDiscount": discount,
                "badges": badges} for n in (1, 2)]  # fmt: skip
    fake.offer("r1", type="RollingOffer", productsSequence=entries)

    offers.change_offer(api, "p1", {"active": True})
    changed = offers.change_offer(api, "r1", {"active": True})

    puts = [request.json for request in fake.requests if request.method == "PUT"]
    assert puts[0] == {"type": "PopUp", "subType": "StoreRefresh", "active": True}
    assert set(puts[1]) == {"type", "name", "active", "productsSequence"}
    assert puts[1]["productsSequence"][1] == {
        "index": 2,
        "priceInUsdCents": 0,
        "products": [{"publisherProductId": "coins", "quantity": 5}, {"publisherProductId": "gems", "quantity": 2}],
        "priceDiscount": {"discount": 10.5, "type": "percentage"},
        "badges": [{"publisherBadgeId": "hot"}],
    }
    assert changed.unexpected == ()


@pytest.mark.parametrize(
    "lacks", [{"priceInUsdCents": None}, {"products": [{"product": {"publisherProductId": "coins"}}]}]
)
def test_a_rolling_offer_that_is_not_wholly_told_is_not_changed(api, fake, lacks):
    entry = {"index": 1, "priceInUsdCents": 0, "products": [{"publisherProductId": "coins", "quantity": 1}]}
    fake.offer("r1", type="RollingOffer", productsSequence=[{**entry, **lacks}])

    with pytest.raises(CatalogueError, match="does not tell price and quantities of entry 1"):
        offers.change_offer(api, "r1", {"active": True})

    assert "PUT /v2/offer/r1" not in fake.routes


def test_a_put_that_drops_what_it_does_not_name_is_noticed(api, fake):
    fake.offer("o1", segments=["whales"], displayName="Shown")
    fake.put_replaces = True

    changed = offers.change_offer(api, "o1", {"active": True})

    told = {each.split(" ")[0] for each in changed.unexpected}
    assert {"segments", "displayName", "productsSequence", "offerUi"} <= told
    assert changed.before["segments"] == ["whales"]


def test_a_change_that_was_not_made_is_noticed(api, fake):
    fake.offer("o1")
    fake.script = [status(200, json.dumps({"offers": [fake.offers["o1"]]}).encode()), status(200, b"{}")]

    assert offers.change_offer(api, "o1", {"active": True}).unexpected == ("active is not what was sent",)


def test_a_change_whose_answer_got_lost_keeps_the_way_back(fake):
    fake.offer("o1")
    before = status(200, json.dumps({"offers": [fake.offers["o1"]]}).encode())
    api = Client(game(fake.url), OUTBOUND, tries=1)

    for script in ([before, reset], [before, status(500)], [before, status(200, b"{}"), reset]):
        fake.script = script
        with pytest.raises(UncertainError, match="may have changed") as raised:
            offers.change_offer(api, "o1", {"active": True})
        assert raised.value.before["publisherOfferId"] == "o1"

    fake.script = [before, status(400, b'{"message": "no"}')]
    with pytest.raises(ApiError, match="400: no"):
        offers.change_offer(api, "o1", {"active": True})


def test_what_an_offer_is_cannot_be_changed(api, fake):
    fake.offer("o1")

    for changes in ({"type": "PopUp"}, {"subType": "X"}, {"publisherOfferId": "o2"}, {"updatedAt": "x"}):
        with pytest.raises(CatalogueError, match="nothing was sent"):
            offers.change_offer(api, "o1", changes)

    assert set(fake.routes) == {"GET /v2/offer"}


def test_an_offer_as_it_was_told_leads_back_to_it(api, fake):
    fake.product("coins")
    before = dict(fake.offer("o1", displayName="Shown", badges=[{"publisherBadgeId": "hot", "name": "Hot"}]))
    offers.change_offer(api, "o1", {"displayName": "Other", "active": True})

    changed = offers.change_offer(api, "o1", before)

    put = fake.requests[-2].json
    assert (put["displayName"], put["active"], put["badges"]) == ("Shown", False, [{"publisherBadgeId": "hot"}])
    assert not {"offerId", "publisherOfferId", "offerUi", "createdAt"} & set(put)
    assert changed.unexpected == ()


# The game's checkout


@pytest.fixture
def shop(client, studio, fake):
    """Post to the checkout as the game does."""
    studio.config("appcharge.base_url", fake.url)

    def post(path, document=None, raw=None):
        return client.post(
            f"/game/v1/appcharge/{path}",
            data=json.dumps(document) if raw is None else raw,
            headers={"Authorization": f"Bearer {studio.token}"},
        )

    return post


WANTED = {
    "player_id": "alice",
    "price_minor": 999,
    "currency": "USD",
    "offer": {"name": "Starter Pack", "sku": "starter", "display_name": "Starter!"},
    "items": [{"sku": "coins", "name": "Coins", "quantity": 10**29}],
    "country": "DE",
    "locale": "de-DE",
    "session_metadata": {"shard": 3, "deep": {"ratio": 0.25, "list": [None, True]}},
    "attributes": {"level": 7, "vip": True},
    "redirect_url": "mygame://shop?back=1",
    "email": "alice@example.com",
    "first_seen_at": "2024-02-29T12:00:00Z",
}


def test_a_checkout_becomes_a_session_in_appcharges_words(shop, fake):
    answer = shop("checkout", WANTED)

    assert answer.status_code == 201
    assert answer.json == {
        "url": "https://checkout.example.com/cs-token-000001",
        "session_token": "cs-token-000001",
        "purchase_id": "pr_1",
    }
    assert fake.requests[0].json == {
        "customer": {
            "id": "alice",
            "email": "alice@example.com",
            "identitySignals": {"firstSeenAt": "2024-02-29T12:00:00Z"},
        },
        "priceDetails": {"price": 999, "currency": "USD"},
        "offer": {"name": "Starter Pack", "sku": "starter", "displayName": "Starter!"},
        "items": [{"sku": "coins", "name": "Coins", "quantity": 10**29}],
        "countryCode2": "DE",
        "receiptMetadata": {"locale": "de-DE"},
        "sessionMetadata": {"shard": 3, "deep": {"ratio": 0.25, "list": [None, True]}},
        "attributes": {"level": 7, "vip": True},
        "redirectUrl": "mygame://shop?back=1",
    }


def test_a_checkout_of_items_that_would_not_be_credited_is_refused_before_anybody_pays(shop, studio, fake):
    items = [{"sku": sku, "name": "It", "quantity": 1} for sku in ("coins", "swords", "gems", "shields")]

    answer = shop("checkout", {**WANTED, "items": items})

    assert answer.status_code == 422
    assert [each["path"] for each in answer.json["errors"]] == ["items.1.sku", "items.3.sku"]
    assert "swords" not in answer.json["errors"][0]["detail"]
    assert fake.requests == []
    studio.config("items.unknown", "accept")
    assert shop("checkout", {**WANTED, "items": items}).status_code == 201


def test_the_least_a_checkout_needs(shop, fake):
    least = {name: WANTED[name] for name in ("player_id", "price_minor", "currency")}

    assert shop("checkout", {**least, "offer": {"name": "A", "sku": "a"}}).status_code == 201
    assert set(fake.requests[0].json) == {"customer", "priceDetails", "offer"}


# Place -> values that are refused for it.
MISTAKES = {
    "player_id": [{"player_id": value} for value in (None, 7, " alice")],
    "price_minor": [{"price_minor": value} for value in (-1, 9.99, "999", True, 10**15, 10**3000)],
    "currency": [{"currency": value} for value in ("usd", "USD\n", None, "ÜSD")],
    "offer": [{"offer": value} for value in (None, [])],
    "offer.name": [{"offer": {"sku": "a"}}],
    "offer.sku": [{"offer": {"sku": "", "name": "A"}}],
    "offer.price": [{"offer": {"sku": "a", "name": "A", "price": 1}}],
    "items": [{"items": value} for value in ({}, [COINS] * 101)],
    "items.0": [{"items": [7]}],
    "items.0.quantity": [{"items": [COINS | {"quantity": 10**30}]}],
    "country": [{"country": "de"}],
    "locale": [{"locale": "de_"}],
    "session_metadata": [{"session_metadata": value} for value in ("text", None)],
    "attributes.a.value": [{"attributes": {"a": []}}],
    "redirect_url": [{"redirect_url": value} for value in ("no address", "x:\r\ny", "https://x/" + "y" * 2048)],
    "email": [{"email": value} for value in ("alice", "a@b@c")],
    "first_seen_at": [
        {"first_seen_at": value} for value in ("yesterday", "2024-01-01", "2024-01-01T00:00:00", 1700000000)
    ],
    "surprise": [{"surprise": 1}],
}


def test_a_checkout_that_is_not_as_described_is_refused_with_the_place(shop, fake):
    for path, changed in ((path, changed) for path, values in MISTAKES.items() for changed in values):
        answer = shop("checkout", {**WANTED, **changed})

        assert (answer.status_code, answer.mimetype) == (422, "application/problem+json"), changed
        assert path in {each["path"] for each in answer.json["errors"]}, answer.json
    assert fake.requests == []


def test_what_is_no_json_is_refused(shop, fake):
    for raw in (b"", b"{", b"\xff", b'{"player_id": "\\ud800"}', b'{"price_minor": NaN}', b"[" * 9999):
        assert shop("checkout", raw=raw).status_code == 400, raw[:30]
        assert shop("checkout/cancel", raw=raw).status_code == 400, raw[:30]
    assert fake.requests == []


def test_a_checkout_is_for_registered_players_who_are_not_blocked(shop, studio, fake):
    assert shop("checkout", {**WANTED, "player_id": "mallory"}).status_code == 404
    assert fake.requests == []
    studio.config("players.unknown", "create")
    assert shop("checkout", {**WANTED, "player_id": "mallory"}).status_code == 201

    fake.blocked_players = {"alice"}
    answer = shop("checkout", WANTED)
    assert (answer.status_code, answer.json["detail"]) == (403, "Appcharge answered 403: Blocked player: alice")


def test_trouble_at_appcharge_is_a_502_and_no_second_session(shop, fake, caplog):
    troubles = (
        status(400, b'{"errorCode": 1, "errorMessage": "no such currency"}'),
        status(401, b'{"message": "Unauthorized"}'),
        status(302, Location="https://elsewhere.example"),
        *(status(500), status(201, b"<html>"), status(201, b"{}"), reset),
    )
    for trouble in troubles:
        fake.requests.clear()
        fake.script = [trouble]

        answer = shop("checkout", WANTED)

        assert (answer.status_code, answer.mimetype) == (502, "application/problem+json")
        assert answer.json["detail"].startswith("Appcharge ")
        assert len(fake.requests) == 1
    assert caplog.text.count("no checkout session was made") == 7
    for secret in (TOKEN, "alice@example.com", "no such currency"):
        assert secret not in caplog.text


def test_a_checkout_waits_out_a_429_but_ends_before_the_caller_gives_up(shop, fake):
    fake.script = [status(429, Retry_After="0")]
    assert shop("checkout", WANTED).status_code == 201

    fake.script = [status(429, b'{"message": "slow down"}', Retry_After="9")]
    answer = shop("checkout", WANTED)
    assert (answer.status_code, answer.json["detail"]) == (502, "Appcharge answered 429: slow down")


def test_a_game_without_appcharge_is_told_what_is_missing(shop, studio, fake):
    studio.installation.database.write_here(lambda tx: tx.execute("DELETE FROM secrets WHERE name LIKE '%token'"))
    studio.config("appcharge.environment", "sandbox")  # and so a new revision

    for path, document in (("checkout", WANTED), ("checkout/cancel", {"session_token": "t"})):
        answer = shop(path, document)
        assert answer.status_code == 409
        assert "appcharge.publisher_token is not set" in answer.json["detail"]
    assert fake.requests == []


def test_a_session_is_cancelled(shop, fake, caplog):
    token = shop("checkout", WANTED).json["session_token"]

    assert shop("checkout/cancel", {"session_token": token}).json == {"is_cancelled": True}
    assert shop("checkout/cancel", {"session_token": token}).json == {"is_cancelled": False}
    fake.script = [status(500, f"for {token}".encode())]
    answer = shop("checkout/cancel", {"session_token": token})
    assert (answer.status_code, answer.json["detail"]) == (502, "Appcharge answered 500: for [hidden]")
    assert token not in caplog.text


def test_a_session_token_that_is_none_is_refused(shop, fake):
    for token in (None, "", 7, "two words", "a\r\nb", "ü", "x" * 4097):
        assert shop("checkout/cancel", {"session_token": token}).status_code == 422
    assert fake.requests == []


def test_the_checkout_key_is_told_with_its_environment(client, studio):
    headers = {"Authorization": f"Bearer {studio.token}"}
    assert client.get("/game/v1/appcharge/checkout-key", headers=headers).status_code == 404

    studio.secret("appcharge.checkout_public_key", "public-key-1")
    answer = client.get("/game/v1/appcharge/checkout-key", headers=headers)
    assert answer.json == {"checkout_public_key": "public-key-1", "environment": "production"}

    studio.config("appcharge.environment", "sandbox")
    assert client.get("/game/v1/appcharge/checkout-key", headers=headers).json["environment"] == "sandbox"
    assert client.get("/game/v1/appcharge/checkout-key").status_code == 401


def test_a_signed_call_is_utf_8_and_not_escaped_so_that_a_verifier_that_prints_it_again_agrees(fake):
    content = {"name": "Pièces d’or", "text": "a\u2028b 😀", "cut": "half \ud83d", "price": 999}
    fake.script = [status(200, b"{}")]

    Client(game(fake.url, sign_calls="on"), OUTBOUND).update_offer("o-1", content)

    (request,) = fake.requests
    assert json.loads(request.body) == content
    again = json.dumps(
        json.loads(request.body), separators=(",", ":"), ensure_ascii=False
    )  # as their Python agent does
    assert again.encode("utf-8", "backslashreplace") == request.body
