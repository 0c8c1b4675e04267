"""Whatever reads a stranger's text takes time in proportion to its length, however the text is made up.

Each reader is timed at a length, and at that length doubled three times. Reading that tries every way to share a run
of characters takes 64 times as long for 8 times the text; these take 8 times as long, and the rest is noise.
"""

import base64
import json
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import product

import pytest
from werkzeug.http import parse_cookie

from app import PARTNERS
from coinslot.access.keyring import SecretValue
from coinslot.base import addresses, exact, spellings
from coinslot.base.expressions import Expression
from coinslot.base.limits import ExpressionError
from coinslot.games import readers
from coinslot.operations import forgetting
from coinslot.payments import fields
from coinslot.settlement import amounts, columns, report_files
from handlers.appcharge import events, order_body, signature
from handlers.appcharge.logins import social
from handlers.dashboard.frame import masking
from handlers.dashboard.frame.pages import LARGEST_OF_STRANGERS
from handlers.dashboard.records.form import parse_amount
from handlers.game import paths
from handlers.kit import wrong_addresses
from handlers.kit.headers import ReadHeaders
from handlers.playcamp import recipe as entry_signature
from handlers.playcamp.events import signature as webhook_signature
from handlers.playtem import payload
from handlers.playtem.payload import PayloadError
from tests.server.test_server import post_order
from tests.servers import Server, together

LENGTH = 1000
DOUBLINGS = 3
MOST_TIMES = 4 * 2**DOUBLINGS
AT_LEAST_SECONDS = 0.1  # below which noise is larger than what is measured; quadratic reading takes longer
KEYS = (SecretValue("a.key", "current", b"k"),)

# Before a run, what is repeated, and after it.
BEFORE = (
    *("", "t=", "t=1,v1=", "a@", '"', "{", "{'", "+1", "2026-01-01T", "0.", "1e", "[", "203.0.113.9:", "a="),
    "sha256(",
)
REPEATED = (
    *(" ", "\t", "a", "0", ".", ",", ":", "-", "=", "@", "'", '"', "\\", "[", "{", "(", "a ", "0.", "a=", "a@"),
    *("0:", "a,", "\u0301\u0316"),
)
AFTER = ("", "x y", "\x01")


def masked_cookie(text: str) -> None:
    ReadHeaders(lambda environ, start: parse_cookie(environ["HTTP_COOKIE"]), 0)({"HTTP_COOKIE": text}, None)


def expression_of(formula: str) -> Callable[[str], object]:
    found = Expression.parse(formula)
    return lambda text: found.apply({"x": text})


READERS: dict[str, Callable[[str], object]] = {
    "Appcharge's signature": signature.parse,
    "a webhook's signature": lambda text: webhook_signature.verify(b"", f"{text}t=,v1=", KEYS, 300),
    "a gateway's time": lambda text: webhook_signature.verify_converted(b"", text, "0" * 64, KEYS, 300),
    "an entry's recipe": entry_signature.Recipe.parse,
    "an entry": lambda text: entry_signature.Recipe.parse("pipe-sha256").read(text, None, ""),
    "an entry's player": lambda text: entry_signature.Recipe.parse("pipe-sha256").read("a|1|b", text, ""),
    "X-Forwarded-For": lambda text: addresses.forwarded(text, 3),
    "a cookie": masked_cookie,
    "an allowed address": lambda text: addresses.is_allowed("192.0.2.0/24", text),
    "Playtem's Base64": payload.decode,
    "Playtem's JSON": lambda text: payload.decode(base64.b64encode(text.encode()).decode()),
    "Playtem's fields": lambda text: payload.decode(
        base64.b64encode(json.dumps({"AppId": text, "UserId": text, "Signature": text}).encode()).decode()
    ),
    "JSON": lambda text: exact.parse_json(text.encode()),
    "JSON's text": lambda text: exact.parse_json(json.dumps([text, {text: text}]).encode()),
    "JSON that is nested deeply": lambda text: exact.parse_json(b"[" * 2000 + text.encode(), is_lenient=True),
    "a number": exact.figure,
    "a whole number": lambda text: exact.whole(text, 40),
    "a moment": readers.moment_of,
    "an event's words": lambda text: events.without_personal_data({"text": f"@{text}"}),
    "an order": lambda text: order_body.parse_order(
        json.dumps({"orderId": "o", "playerId": "p", "products": [], "currency": text, "actionStatus": text}).encode()
    ),
    "a password": lambda text: spellings.composed(4 * text),
    "a login name": spellings.login_names_alike,
    "a code": spellings.code,
    "a payment's id": lambda text: fields.canonical_id(4 * text),
    "a report's column": lambda text: columns.bare(4 * text),
    "a report's amount": amounts.parse_amount,
    "a report's id": lambda text: report_files._reference([text], {"reference": 0}),
    "the words of a call that is forgotten": forgetting._of_text,
    "a path with encoded slashes": lambda text: paths._pieces(text, ""),
    "an address that nearly is ours": lambda text: wrong_addresses.nearest(f"/playtem/{text[:200]}", PARTNERS, []),
    "a token of Google or Apple": social._is_jwt,
    "a body that is shown": lambda text: masking.masked(text.encode()),
    "a text that is shown": lambda text: masking.masked(json.dumps({"note": text}).encode()),
    "a query that is shown": lambda text: masking.masked(f"payload={text}".encode()),
    "an amount that is looked for": parse_amount,
    "a time in an expression": expression_of("iso(x)"),
    "a written time in an expression": expression_of("time(x, '%Y-%m-%d %H:%M:%S')"),
    "a number in an expression": expression_of("to_number(x)"),
    "an amount in an expression": expression_of("scale(x, `2`)"),
}


REFUSALS = (ValueError, ExpressionError, signature.SignatureError, entry_signature.SignatureError, PayloadError)


def seconds(read: Callable[[str], object], text: str) -> float:
    begun = time.perf_counter()
    with suppress(*REFUSALS):
        read(text)
    return time.perf_counter() - begun


@pytest.mark.long
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_time_follows_length(read):
    for before, repeated, after in product(BEFORE, REPEATED, AFTER):
        texts = [before + repeated * (LENGTH * 2**doubled // len(repeated)) + after for doubled in range(DOUBLINGS + 1)]
        # The longest alone tells nearly always that there is nothing to look into.
        if seconds(read, texts[-1]) >= AT_LEAST_SECONDS:
            shortest, *_, longest = (min(seconds(read, text) for _ in range(3)) for text in texts)
            assert longest < max(AT_LEAST_SECONDS, MOST_TIMES * shortest), (before, repeated, after)


def test_a_form_of_somebody_who_is_not_signed_in_is_short(client, browser, studio):
    form = {"password": "x" * LARGEST_OF_STRANGERS}

    assert client.post("/login", data=form).status_code == 413
    assert browser.client.post("/login", data=form).status_code == 403  # signed in, without the form's token


def test_four_requests_of_a_stranger_keep_no_honest_order_waiting(installation, studio):
    line = f"signature: t=1,v1={' ' * 8000}x y\r\n"
    hostile = f"POST /appcharge/demo/orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n{line * 40}\r\n{{}}"

    with Server(installation.settings.home) as server, ExitStack() as connections:
        assert post_order(server, "alone").status == 200
        strangers = [connections.enter_context(server.connected()) for _ in range(4)]
        together(*(lambda each=each: each.sendall(hostile.encode()) for each in strangers))
        answers = [post_order(server, f"beside-{number}") for number in range(8)]
        told = [each.recv(65536)[:12] for each in strangers]

    assert [each.status for each in answers] == [200] * len(answers)
    assert max(each.seconds for each in answers) < 5.0  # where it was more than a minute
    assert told == [b"HTTP/1.1 431"] * 4
