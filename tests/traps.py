"""Text that does something where a page takes it for markup, script, style, an address, a template or a formula.

:func:`set_everywhere` puts it wherever somebody else may write: partners, the game, players, and other servers;
:func:`type_everywhere` into files and forms.
"""

import io
import itertools
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tests.conftest import Browser, Studio, appcharge_headers
from tests.fakes.http import FakeServer
from tests.fakes.playcamp import signed
from tests.kit import test_odd_text as odd
from tests.partner_cases import ADDRESSES, PLAYCAMP_SECRET
from tests.playtem.test_credit import encode
from tests.playtem.test_credit import payload as playtem_order
from tests.xsolla.test_webhook import order as xsolla_order
from tests.xsolla.test_webhook import signed as xsolla_signed

# ``trap`` is a function of the browser's that notes each call; ``x-trap`` is an element that no page of ours has.
TRAPS = (
    "\"'><script>trap(0)</script><x-trap>",
    "<img src=//evil.test/1 onerror=trap(1)>",
    "javascript:trap(2)//http://x/",
    "JaVa\tScRiPt:trap(3)",
    "data:text/html,<script>trap(4)</script>",
    '" onmouseover=trap(5) onfocus=trap(5) autofocus style=background:url(//evil.test/5) x="',
    "' onmouseover=trap(6) onfocus=trap(6) autofocus style='background:url(//evil.test/6)",
    "<svg/onload=trap(7)><a xlink:href=javascript:trap(7)><x-trap/></svg>",
    "{{7*7777}}${7*7777}{%print(7*7777)%}#{7*7777}<%=7*7777%>",
    "</title></textarea></style></script></pre><script>trap(9)</script><x-trap>",
    "\u2028</script>\u202e<x-trap>\u2066\u2029\u0085",
    "[x](javascript:trap(11)) ![y](//evil.test/11) <javascript:trap(11)> `<x-trap>`",
    "<iframe srcdoc='<script>parent.trap(12)</script>'></iframe><x-trap>",
    "*{background:url(//evil.test/13)} @import '//evil.test/13'; a{b:expression(trap(13))}",
    "<base href=//evil.test/><meta http-equiv=refresh content='0;url=//evil.test/14'><x-trap>",
    "-->]]>%3Cx-trap%3E&lt;x-trap&gt;&#60;x-trap&#62;\\u003cx-trap\\u003e\\x3cx-trap\\x3e",
    '=HYPERLINK("//evil.test/16")<x-trap>',
    "<form action=//evil.test/17><button formaction=javascript:trap(17)><x-trap>",
)
EVERY = 12  # no more than there are traps; a lower number tries more of them in each place, and takes longer
COMPUTED = "54439"  # what a template makes of 7*7777


def each(content: Any) -> Iterator[Any]:
    """Copies of a JSON document with a trap in one place each: every place has some, and every trap is in some."""
    for number, text in enumerate(TRAPS):
        yield from itertools.islice(odd.spoilt(content, text), number % EVERY, None, EVERY)


def posted(client: Any, path: str, content: Any, headers: Any, **environ: str) -> None:
    body = json.dumps(content).encode()
    client.post(path, data=body, headers=headers(body), environ_overrides=environ)


class Saying(FakeServer):
    """A server of somebody else's, which answers everything with traps."""

    def reply(self, request: Any) -> tuple[int, Any]:
        text = TRAPS[len(self.requests) % len(TRAPS)]
        return 400, {"error": text, "message": text, "code": text, "errors": [{"message": text}], text: text}


def set_everywhere(client: Any, studio: Studio, other_server: str) -> None:
    """``other_server`` is what a :class:`Saying` listens at: the game, Appcharge's API and PlayCamp's."""
    for address in ADDRESSES:
        address.set_up(studio)
    for key, value in (("items.unknown", "accept"), ("players.unknown", "create"), ("playcamp.base_url", other_server)):
        studio.config(key, value)
    studio.config("appcharge.base_url", other_server)
    studio.secret("playcamp.api_key", "key:secret")
    _partners(client, studio)
    _strangers(client)
    _game(client, studio)


def _partners(client: Any, studio: Studio) -> None:
    ids = map(str, itertools.count())
    for content in each(odd.FULL_ORDER):
        name = content.get("orderId")
        content = content | {"orderId": next(ids) if name == "o-NUMBER" else name}
        posted(client, "/appcharge/demo/orders", content, appcharge_headers)
    for content in each(odd.EVENT):
        name = content.get("eventId")
        content = content | {"eventId": next(ids) if name == "event-1" else name}
        posted(client, "/appcharge/demo/events", content, appcharge_headers)
    for content in itertools.chain.from_iterable(each(login) for login in odd.LOGINS[:1]):
        posted(client, "/appcharge/demo/auth", content, appcharge_headers)
    for number, text in enumerate(TRAPS):
        for changed in (
            {"UserId": text},
            {"Items": [text]},
            {"TransactionId": text},
            {"AppName": text},
            {"AppId": text},
        ):
            order = playtem_order(**{"TransactionId": f"tx-{number}", **changed})
            client.get(f"/playtem/demo/credit?payload={quote(encode(order), safe='')}")
        order = {
            "id": number,
            "invoice_id": text,
            "currency": "USD",
            "amount": "9.99",
            "status": text,
            "platform": text,
        }
        user = {"external_id": text, "email": text, "country": text, "name": text}
        items = [{"sku": text, "quantity": 1, "amount": "1"}]
        posted(client, "/xsolla/demo/webhook", xsolla_order(order=order, user=user, items=items), xsolla_signed)
    for webhook in odd.WEBHOOKS:
        for content in each(webhook):
            body = json.dumps({"events": [content]}).encode()
            headers = {"X-Webhook-Signature": signed(body, PLAYCAMP_SECRET, "timestamped")}
            client.post("/playcamp/demo/webhook", data=body, headers=headers)


def _strangers(client: Any) -> None:
    """Calls that prove nothing, with traps in all that is kept of them; and at addresses that are none."""
    for text in TRAPS:
        header = text.encode().decode("latin-1").replace("\n", "")
        names = ("User-Agent", "X-Forwarded-For", "X-Forwarded-Proto", "Referer", "Accept-Language", "Content-Type")
        names += ("x-publisher-token", "signature", "Authorization", "X-Webhook-Signature", "X-Timestamp", "Origin")
        headers = dict.fromkeys(names, header)
        word = quote(text, safe="")
        for path in (
            "/appcharge/demo/orders",
            "/xsolla/demo/webhook",
            "/playcamp/demo/webhook",
            f"/appcharge/{word}/orders",
        ):
            client.post(f"{path}?{word}={word}", data=text.encode(), headers=headers)
        client.get(f"/playtem/demo/credit?{word}={word}", headers=headers)
        client.post(f"/appcharge/demo/{word}", data=text.encode(), headers=headers)
        client.get(f"/{word}/{word}", headers=headers)
        client.get(f"/api/demo/sponsor?usn={word}&camp_code={word}&custom_data={word}", headers=headers)
        client.post("/login", data={"name": text, "password": text}, headers={"User-Agent": header})


def _game(client: Any, studio: Studio) -> None:
    token = {"Authorization": f"Bearer {studio.token}"}
    for content in each(odd.PLAYER):
        client.patch("/game/v1/players/carol", json=content, headers=token)
    for number, content in enumerate(each(odd.PAYMENT)):
        name = content.get("transactionId")
        content = content | {"transactionId": f"GP-trap-{number}" if name == "t" else name}
        client.post("/game/v1/payments", json={"payments": [content]}, headers=token)
    for text in TRAPS:
        word = quote(text, safe="")
        client.put(f"/game/v1/players/{word}", json={"name": text, "attributes": {text: text}}, headers=token)
        client.put(f"/game/v1/items/{word}", json={"name": text}, headers=token)
        client.put("/game/v1/items/coins", json={"name": text}, headers=token)
        for method, path, content in odd.CALLS[4:8]:
            for spoilt in itertools.islice(odd.spoilt(content, text), 3):
                client.open(f"/game/v1{path}", method=method, json=spoilt, headers=token)


def type_everywhere(owner: Browser) -> None:
    """Files that somebody sent to the owner, and what is typed into every form of every page."""
    rows = "\n".join('"' + text.replace('"', '""') + '",' + '"' + text.replace('"', '""') + '"' for text in TRAPS)
    for path, head in (("players/import", "player_id,name"), ("items/import", "sku,name"), ("players/import", rows)):
        file = (io.BytesIO(f"{head}\n{rows}\n".encode()), f"{TRAPS[0]}.csv")
        owner.post(f"/games/demo/{path}", file=file)
    for partner in ("playcamp", "appcharge", "playtem"):
        file = (io.BytesIO(f"transactionId,amount,currency,{rows}\n{rows}\n".encode()), f"{TRAPS[0]}.csv")
        owner.post("/games/demo/settlements/2026-07/differences/upload", partner=partner, file=file)
    waiting, seen, forms = ["/"], {"/logout"}, {}
    while waiting:
        address = waiting.pop()
        answer = owner.get(address, buffered=True)
        if answer.mimetype != "text/html" or answer.status_code != 200:
            continue
        page = odd.Page(answer.text)
        for link in page.links:
            if _kind(link) not in seen:
                seen.add(_kind(link))
                waiting.append(link)
        for method, action, fields in page.forms:
            if method == "post":
                action = action or address.partition("?")[0]
                forms.setdefault((_kind(action), *fields), (action, fields))
    texts = itertools.cycle(TRAPS)
    for action, fields in forms.values():
        if action.endswith(("/logout", "/test", "/off", "/end", "/remove", "/retire", "/token", "/master-key")):
            continue
        names = [name for name, value in fields.items() if name not in ("form_token", "file")]
        for name in names:  # each alone, since most forms refuse what one field has
            given = {**fields, name: next(texts)}
            given.pop("form_token", None)
            if "file" in given:
                given["file"] = (io.BytesIO(given[name].encode() if name != "file" else b"a"), f"{next(texts)}.csv")
            owner.post(action, **given)


def _kind(link: str) -> str:
    """An address without what tells rows apart."""
    path, _, query = odd.kind_of(link).partition("?")
    names = sorted(word.partition("=")[0] for word in query.split("&"))
    return f"{'/'.join(word if '%' not in word else 'N' for word in path.split('/'))}?{names}"
