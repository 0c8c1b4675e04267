"""Text that no database column and no encoding can hold, in every place where a stranger may write text.

JSON may spell half of a surrogate pair, and a NUL character anywhere. Neither may end in our own trouble (503): a
partner that is told so comes again for ever. What was kept must be readable afterwards, by the game and by the owner.
"""

import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest

from coinslot.installation import Installation
from tests import databases
from tests.appcharge_calls import document, path
from tests.conftest import appcharge_headers, order
from tests.fakes.http import Receiver, status
from tests.fakes.playcamp import signed, sponsor_event
from tests.playtem.test_credit import encode
from tests.playtem.test_credit import payload as playtem_order

ODD = ("\ud800", "a\udc00b", "a\x00b")
HOOK_SECRET = "whsec_demo_0001"
AT = "2026-01-02T03:04:05.678Z"

FULL_ORDER = order(
    orderId="o-NUMBER",
    externalTransactionId="external",
    sessionMetadata={"shard": "3"},
    tax="1.5",
    priceInDollar="9.99",
    products=[{"amount": "5", "productId": {"sku": "coins", "name": "Coins"}}, {"amount": 1, "sku": "gems"}],
)
EVENT = {
    "eventName": "order.refunded",
    "event": "order_refunded",
    "eventId": "event-1",
    "timestamp": "1767323045",
    "customer": {"id": "alice", "name": "Alice"},
    "order": {"orderId": "o-1", "disputeStatus": "won"},
    "dispute": {"status": "lost", "result": "won"},
    "result": "success",
    "reason": "lost",
    "transactions": [{"purchaseId": "pr", "type": "dispute_funds_withdrawn", "timestamp": "1767323045"}],
    "paymentId": "p",
}
LOGINS = [
    {
        "authMethod": method,
        "token": "alice",
        "appId": "NA",
        "userName": "alice",
        "password": "secret",
        "otp": {"playerCode": "1234", "accessToken": "token"},
        "sessionId": "s",
        "os": "ios",
        "playerLocation": {"countryCode2": "DE"},
        "date": "2026-01-01T00:00:00.000Z",
    }
    for method in ("userToken", "userPassword", "otp", "google")
]
COUPON = {"userId": "alice", "couponCode": "X", "usageId": "7", "reward": [{"itemId": "coins", "itemQuantity": "1"}]}
PAID = {"userId": "alice", "transactionId": "t", "amount": "1", "currency": "USD", "platform": "ios"}
CHANGED = {"userId": "100001", "campaignId": "camp_1", "oldCreatorKey": "AAA11", "newCreatorKey": "BBB22"}
WEBHOOKS = [
    sponsor_event("sponsor.created", "100001", "AAA11"),
    {"event": "sponsor.changed", "timestamp": AT, "callbackId": "cb-1", "isTest": "false", "data": CHANGED},
    {"event": "coupon.redeemed", "timestamp": AT, "callbackId": "cb-1", "data": COUPON},
    {"event": "payment.created", "timestamp": "1767323045", "data": PAID},
    {"event": "payment.bulk_created", "timestamp": "1", "data": {"totalRequested": "1", "transactionIds": ["a"]}},
    {"event": "something.new", "timestamp": "1", "data": {"a": {"b": ["c"]}}},
    {"custom_data": "c", "usn": "1", "creator_usn": "2", "event": "sponsor.created", "timestamp": "1741588200"},
]
PLAYER = {
    "name": "A",
    "profile_image": "https://x/y",
    "country": "DE",
    "login_name": "al",
    "password": "p",
    "identities": {"google": "g"},
    "segments": ["s"],
    "attributes": {"level": "1"},
    "session_metadata": {"a": ["b", {"c": "d"}]},
    "balances": [{"publisherProductId": "p", "quantity": "1"}],
}
PAYMENT = {
    "transactionId": "t",
    "userId": "alice",
    "productId": "p",
    "productName": "n",
    "amount": "1",
    "currency": "USD",
    "market": "google",
    "purchasedAt": AT,
}
CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("PATCH", "/players/alice", PLAYER),
    ("POST", "/players", {"players": [{"player_id": "new", "name": "N"}]}),
    ("PUT", "/items/coins", {"name": "Coins"}),
    ("POST", "/grants/ack", {"through": 1}),
    ("POST", "/logins/confirm", {"token": "t", "player_id": "alice"}),
    ("POST", "/logins/link", {"player_id": "alice"}),
    ("POST", "/playcamp/coupons/redeem", {"player_id": "alice", "code": "X"}),
    ("POST", "/playcamp/entry", {"player_id": "alice", "campaign_id": "c", "language": "en"}),
    ("POST", "/payments", {"payments": [PAYMENT]}),
    ("POST", "/appcharge/checkout", {"player_id": "alice", "items": [{"sku": "coins", "quantity": "1"}]}),
    ("POST", "/appcharge/checkout/cancel", {"id": "x"}),
]
IN_ADDRESSES = ("a%00b", "%ED%A0%80", "%FF")
ARGUMENTS = (
    "next token payload q player sku after from to reason amount currency partner kind type month usn cursor limit"
)


def spoilt(content: Any, text: str) -> Iterator[Any]:
    """Copies of a JSON document, each with one value or name that is this text, or has it at its end."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield {key: kept for key, kept in content.items() if key != name} | {name + text: value}
            for each in spoilt(value, text):
                yield content | {name: each}
    elif isinstance(content, list):
        for at, value in enumerate(content):
            for each in spoilt(value, text):
                yield [*content[:at], each, *content[at + 1 :]]
    else:
        yield text
        yield f"{content}{text}"
        yield {text: text}


def all_spoilt(*contents: Any) -> Iterator[Any]:
    for content in contents:
        for text in ODD:
            yield from spoilt(content, text)


def holding_nul(installation: Installation) -> list[str]:
    """Every column of text that holds a NUL in some row. PostgreSQL would have refused it."""
    if databases.IS_POSTGRES:
        return []
    return [
        f"{table}.{column}: {found[0]!r}"[:200]
        for table in databases.tables(installation)
        for column, its_type in databases.columns(installation, table).items()
        if its_type == "TEXT"
        for found in databases.tuples(
            installation, f"SELECT {column} FROM {table} WHERE instr({column}, char(0)) > 0 LIMIT 1"
        )
    ]


@pytest.fixture
def check(client, installation, studio, browser):
    """Notes an answer, and what it was to. In the end none was our trouble, no text that was kept holds a NUL, and game
    and owner read it.
    """
    troubled = set()

    def tell(answer, what):
        is_playtems = answer.status_code == 500 and b"ErrorCode" in answer.data and b"logged as" not in answer.data
        if answer.status_code >= 500 and not is_playtems:
            troubled.add(f"{answer.status_code} {what}"[:300])

    yield tell
    installation.observations.flush()
    assert troubled == set()
    assert holding_nul(installation) == []
    for address in ("grants?limit=1000", "events?limit=1000", "items", "players/alice"):
        answer = client.get(f"/game/v1/{address}", headers={"Authorization": f"Bearer {studio.token}"})
        assert answer.status_code == 200, address
    pages = [f"games/demo/{name}" for name in ("transactions", "players", "refusals", "payments")]
    for page in ("", "activity", *pages):
        assert browser.get(f"/{page}").status_code in (200, 404), page


@pytest.mark.parametrize("endpoint", ["orders", "auth", "otp", "players", "events"])
def test_of_appcharge(client, studio, check, endpoint):
    studio.config("appcharge.deep_link", "demo://login?token={token}")
    studio.config("players.unknown", "create")
    studio.config("items.unknown", "accept")
    contents = {"orders": [FULL_ORDER], "auth": LOGINS, "events": [EVENT]}.get(endpoint, [document(endpoint)])
    for number, content in enumerate(all_spoilt(*contents)):
        body = json.dumps(content).replace("NUMBER", str(number)).encode()
        check(client.post(path(endpoint), data=body, headers=appcharge_headers(body)), body)


def test_of_playcamp(client, studio, check):
    studio.secret("playcamp.webhook_secret", HOOK_SECRET)
    for content in all_spoilt(*WEBHOOKS, {"events": WEBHOOKS[:1]}):
        body = json.dumps(content).encode()
        headers = {"X-Webhook-Signature": signed(body, HOOK_SECRET)}
        check(client.post("/playcamp/demo/webhook", data=body, headers=headers), body)


def test_of_playtem(client, studio, check):
    studio.config("players.unknown", "create")
    studio.config("items.unknown", "accept")
    for content in all_spoilt(playtem_order()):
        for game in ("demo/", ""):
            check(client.get(f"/playtem/{game}credit?payload={quote(encode(content), safe='')}"), content)


def test_of_the_game(client, studio, check):
    studio.config("appcharge.store_url", "https://store.example.com")
    bearer = {"Authorization": f"Bearer {studio.token}"}
    for method, address, content in CALLS:
        for spoil in all_spoilt(content):
            answer = client.open(f"/game/v1{address}", method=method, json=spoil, headers=bearer)
            check(answer, (address, json.dumps(spoil)))
    body = json.dumps({"playerId": "alice"}).encode()
    check(client.post(path("players"), data=body, headers=appcharge_headers(body)), "shown in the store")


@pytest.mark.parametrize("text", ODD)
def test_in_what_the_games_server_says_of_who_logs_in(client, studio, check, text):
    says = json.dumps({"player_id": "alice", "name": f"Alice {text}", "profile_image": text, text: text}).encode()
    body = json.dumps(LOGINS[1]).encode()

    with Receiver(status(200, says)) as game:
        studio.config("players.login_url", game.url)
        answer = client.post(path("auth"), data=body, headers=appcharge_headers(body))

    check(answer, text)
    assert (answer.json["status"], answer.json["playerName"]) == ("valid", "alice")


def test_in_addresses_and_queries(app, client, studio, browser, check):
    """In every place of every address, and in the query, of whoever is signed in or has a token, and of others."""
    bearer = {"Authorization": f"Bearer {studio.token}"}
    for rule in app.url_map.iter_rules():
        method = min(rule.methods - {"HEAD", "OPTIONS"})
        for text in IN_ADDRESSES:
            query = "&".join(f"{name}={text}" for name in ARGUMENTS.split())
            addresses = {f"{re.sub('<[^>]*>', '1', rule.rule)}?{query}", re.sub("<[^>]*>", text, rule.rule)}
            addresses.add(re.sub("<[^>]*>", text, rule.rule.replace("<game_slug>", "demo").replace("<slug>", "demo")))
            for address in addresses - {"/readyz"}:
                check(browser.client.open(address, method=method, headers=bearer), (method, address))
                if text == IN_ADDRESSES[0]:
                    check(client.open(address, method=method), (method, address))


@pytest.mark.parametrize("host", ["a..b", ".", "[", "a b", "é", "\x7f", f"{'a' * 64}.b", "a:b"])
def test_in_the_host_header(app, client, browser, check, host):
    for address in (
        *("/", "/login", "/nowhere", "/static/style.css", "/game/v1/items", "/appcharge/demo/orders"),
        "/healthz",
    ):
        for each in (client, browser.client):
            check(each.get(address, headers={"Host": host}), address)


class Page(HTMLParser):
    """The links of a page, and its forms: method, address, and fields with the values that stand in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.forms: list[tuple[str, str, dict[str, str]]] = []
        self.select = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "a" and given.get("href", "").startswith("/"):
            self.links.append(given["href"].partition("#")[0])
        elif tag == "form":
            self.forms.append((given.get("method", "get").lower(), given.get("action", "").partition("#")[0], {}))
        elif self.forms and tag in ("input", "textarea", "button", "select") and given.get("name"):
            self.select = given["name"]
            self.forms[-1][2].setdefault(given["name"], given.get("value", ""))
        elif self.forms and tag == "option" and "selected" in given:
            self.forms[-1][2][self.select] = given.get("value", "")


def kind_of(address: str) -> str:
    return re.sub("[0-9a-f-]{36}|[0-9]+", "N", address)


@pytest.mark.long
def test_in_every_field_of_every_page(client, studio, browser, check):
    for number, text in enumerate(ODD):
        words = {"bundleName": text, "sessionMetadata": text, "currency": text, "tax": text}
        body = json.dumps(FULL_ORDER | words | {"orderId": f"o-{number}"}).encode()
        check(client.post(path("orders"), data=body, headers=appcharge_headers(body)), body)
        body = json.dumps(EVENT | {"reason": text, "eventId": f"e-{number}"}).encode()
        check(client.post(path("events"), data=body, headers=appcharge_headers(body)), body)

    waiting, seen, forms = ["/"], {"/logout"}, {}
    while waiting:
        address = waiting.pop()
        answer = browser.get(address)
        check(answer, address)
        if answer.mimetype != "text/html" or answer.status_code != 200:
            continue
        page = Page(answer.text)
        for link in page.links:
            if kind_of(link) not in seen:
                seen.add(kind_of(link))
                waiting.append(link)
        for method, action, fields in page.forms:
            action = action or address.partition("?")[0]
            forms[method, kind_of(action), *fields] = (method, action, fields)
    assert len(forms) > 30

    for method, action, fields in forms.values():
        if action.endswith(("/logout", "/test")):  # the latter calls this server, which is not one here
            continue
        for name in fields.keys() - {"form_token"}:
            for text in ("a\x00b", "\ufeff\ufffd"):
                given: dict[str, Any] = {**fields, name: text}
                if method == "get":
                    check(browser.get(action, query_string=given), (action, given))
                    continue
                given.pop("form_token", None)
                if "file" in given:
                    content = b"player_id,name\n" + text.encode() + b"\xed\xa0\x80,x\n"
                    given["file"] = (io.BytesIO(content), f"{text}.csv")
                check(browser.post(action, **given), (action, name, text))
