"""Who calls: what proxies write about it, and what allowlists and the login's throttle make of that."""

import json

import pytest
from werkzeug.security import generate_password_hash

from coinslot.access import owner
from coinslot.base import addresses
from coinslot.games.options import networks
from handlers.kit.headers import LONGEST_HEADER, MOST_HEADERS, ReadHeaders
from tests.conftest import appcharge_headers, order

UNREADABLE = (
    *("", " ", ",", "203.0.113.9,", '"203.0.113.9', '"203.0.113.9"', '"[2001:db8::5]:4711"', "'203.0.113.9'"),
    *("for=203.0.113.9", "203.0.113.9:", "203.0.113.9:http", "203.0.113.9:500000", "203.0.113.9:50 000"),
    *("203.0.113.9 192.0.2.1", "203.0.113.009", "203.0.113", "203.0.113.9/32", "２０３.0.113.9", "[2001:db8::5"),
    *("2001:db8::5]", "[[2001:db8::5]]", "[203.0.113.9]x", "[]", "[fe80::1%eth0]", "fe80::1%eth0", "unknown"),
    *("_hidden", "localhost", "1" * 5000),
)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:50000", "203.0.113.9"),
        ("2001:db8::5", "2001:db8::5"),
        ("2001:DB8:0::5", "2001:db8::5"),
        ("[2001:db8::5]", "2001:db8::5"),
        ("[2001:db8::5]:4711", "2001:db8::5"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::FFFF:cb00:7109", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:4711", "203.0.113.9"),
        *((written, addresses.UNKNOWN) for written in UNREADABLE),
    ],
)
def test_the_entry_of_our_own_proxy_is_an_address_or_nobodys(written, address):
    for before in ("", "192.0.2.1, ", '"192.0.2.1, ', '"\\, ", ', ",,", "192.0.2.1:1,\t"):
        assert addresses.forwarded(f"{before}{written}", 1) == address, before


def test_each_trusted_proxy_counts_for_one_entry_from_the_right():
    header = "192.0.2.1, 192.0.2.2:80, [2001:db8::3]"

    assert [addresses.forwarded(header, proxies) for proxies in (1, 2, 3, 4)] == [
        "2001:db8::3",
        "192.0.2.2",
        "192.0.2.1",
        addresses.UNKNOWN,
    ]


@pytest.mark.parametrize(
    ("written", "stored", "address", "is_allowed"),
    [
        ("::ffff:203.0.113.0/120", "203.0.113.0/24", "203.0.113.9", True),
        ("::ffff:203.0.113.9", "203.0.113.9/32", "::ffff:203.0.113.9", True),
        ("::ffff:203.0.113.9", "203.0.113.9/32", "203.0.113.8", False),
        ("::ffff:0:0/96", "0.0.0.0/0", "203.0.113.9", True),
        ("::ffff:0:0/96", "0.0.0.0/0", "2001:db8::5", False),
        ("2001:db8::/32", "2001:db8::/32", "2001:db8::5", True),
        ("0.0.0.0/0 ::/0", "0.0.0.0/0,::/0", addresses.UNKNOWN, False),
        ("fe80::/10", "fe80::/10", "fe80::1%eth0", False),
    ],
)
def test_ipv4_in_its_ipv6_form_is_ipv4_on_allowlists(written, stored, address, is_allowed):
    assert networks(written) == stored
    assert addresses.is_allowed(stored, address) is is_allowed
    assert addresses.is_allowed(written.replace(" ", ","), address) is is_allowed  # as it was stored before


@pytest.fixture
def behind_a_proxy(app, monkeypatch):
    monkeypatch.setattr(app, "wsgi_app", ReadHeaders(app.wsgi_app, 1))


@pytest.fixture
def post(client, studio, behind_a_proxy):
    def send(forwarded, order_id="one", **environ):
        body = json.dumps(order(orderId=order_id)).encode()
        headers = appcharge_headers(body) | ({} if forwarded is None else {"X-Forwarded-For": forwarded})
        return client.post("/appcharge/demo/orders", data=body, headers=headers, environ_overrides=environ).status_code

    return send


def test_a_port_and_brackets_do_not_keep_a_partner_out(post, studio):
    studio.config("allowlist.appcharge", "::ffff:203.0.113.0/120, 2001:db8::/64")

    for written in ("203.0.113.9:50000", "[::ffff:203.0.113.9]:4711", "[2001:db8::5]", "2001:db8::5"):
        assert post(written) == 200


def test_what_is_no_address_is_on_no_allowlist(post, studio):
    studio.config("allowlist.appcharge", "0.0.0.0/0, ::/0")

    for written in UNREADABLE:
        assert post(f"203.0.113.9, {written}") == 403, written


def test_a_caller_without_an_address_is_let_in_where_there_is_no_allowlist(post):
    assert post("rubbish") == 200


@pytest.mark.parametrize(
    "spelled",
    [
        *("203.0.113.9:{}", "::ffff:203.0.113.9", "[::ffff:203.0.113.9]:{}", "[2001:db8::5]:{}"),
        *("[2001:db8::{}]", "fe80::{}%{}", "rubbish-{}", '"203.0.113.9:{}'),
    ],
)
def test_one_caller_has_one_throttle_however_the_proxy_writes_the_address(
    client, installation, behind_a_proxy, spelled
):
    digest = generate_password_hash("the owner's own password", method="pbkdf2:sha256:1")
    installation.database.write_here(lambda tx: owner.set_password(tx, digest, "command"))

    def status(number):
        forwarded = spelled.replace("{}", str(number))
        token = client.get("/login").text.split('name="form_token" value="')[1].split('"')[0]
        form = {"form_token": token, "password": "wrong"}
        return client.post("/login", data=form, headers={"X-Forwarded-For": forwarded}).status_code

    assert [status(number) for number in range(1, 12)] == [403] * 10 + [429]


@pytest.mark.parametrize(("proxies", "forwarded", "status"), [(0, True, 403), (1, True, 200), (1, False, 403)])
def test_at_a_unix_socket_only_a_proxy_of_ours_says_who_calls(
    app, client, studio, monkeypatch, proxies, forwarded, status
):
    seen, inner = {}, app.wsgi_app

    def watched(environ, start_response):
        seen.update(environ)
        return inner(environ, start_response)

    monkeypatch.setattr(app, "wsgi_app", ReadHeaders(watched, proxies))
    studio.config("allowlist.appcharge", "203.0.113.9, 0.0.0.0/1, ::/0")
    body = json.dumps(order()).encode()
    headers = appcharge_headers(body) | ({"X-Forwarded-For": "127.0.0.1, 203.0.113.9"} if forwarded else {})

    answer = client.post("/appcharge/demo/orders", data=body, headers=headers, environ_overrides={"REMOTE_ADDR": ""})

    assert answer.status_code == status
    assert seen["REMOTE_ADDR"] == ("203.0.113.9" if status == 200 else addresses.UNKNOWN)


def test_the_owner_reads_that_nobody_knows_where_a_call_came_from(post, studio, browser, installation):
    studio.config("allowlist.appcharge", "192.0.2.0/24")
    post('192.0.2.7, "192.0.2.7')
    installation.observations.flush()

    assert "has no address at the place where a trusted proxy writes it" in browser.get("/games/demo/refusals").text

    post(None, "another", REMOTE_ADDR="")
    installation.observations.flush()

    assert "It came through a Unix socket without X-Forwarded-For" in browser.get("/games/demo/refusals").text


@pytest.mark.parametrize(
    "headers",
    [
        {"signature": "x" * (LONGEST_HEADER + 1)},
        {"Content-Type": "x" * (LONGEST_HEADER + 1)},
        {f"X-{number}": "1" for number in range(MOST_HEADERS + 1)},
    ],
    ids=["long", "long type", "many"],
)
def test_headers_are_counted_and_measured_before_they_are_read(client, studio, headers):
    for address in ("/appcharge/demo/orders", "/playcamp/demo/webhook", "/game/v1/grants/ack", "/login"):
        assert client.post(address, data=b"{}", headers=headers).status_code == 431


def test_playtem_is_told_of_too_long_a_header_in_its_own_dialect(client, studio):
    answer = client.get("/playtem/demo/credit?payload=AA", headers={"X-Anything": "x" * (LONGEST_HEADER + 1)})

    assert (answer.status_code, answer.json["ErrorCode"]) == (500, 400)
