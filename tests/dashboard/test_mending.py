"""Refused calls that had proved themselves: found in their list, and mended on their page."""

import json
import re

import pytest

from handlers.dashboard.integration.refusals import REASONS
from handlers.kit.trouble_sentences import REFUSALS, WHY
from tests.conftest import Studio, appcharge_headers, order
from tests.pages import assert_has, follow, next_of, text_of

LIST = "/games/demo/refusals"


def post(client, path="orders", slug="demo", token=None, **changed):
    body = json.dumps(order(**changed)).encode()
    headers = appcharge_headers(body) | ({} if token is None else {"x-publisher-token": token})
    return client.post(f"/appcharge/{slug}/{path}", data=body, headers=headers)


def calls(answer):
    return re.findall(rf'href="({LIST}/\d+)"', answer.text)


def only(browser):
    (address,) = calls(browser.get(LIST))
    return address


def test_a_player_is_registered_where_the_order_was_refused_and_the_order_is_credited(browser, client, studio, db):
    assert post(client, playerId="mallory").status_code == 400
    assert "1 open" in text_of(browser.get("/games/demo/settings"))
    address = only(browser)
    assert_has(
        browser.get(address).text,
        *("Nothing was credited for this order", "68e25eebdcb1278", "Register mallory"),
        *("Press Retry Award", "HTTP 400: <code>{&#34;error&#34;: &#34;Unknown player&#34;"),
    )

    page = follow(browser, browser.post(f"{address}/mend", what="player"))

    assert_has(page.text, "What it lacked is there now", "Press Retry Award", without=["Register mallory"])
    assert db("SELECT subject FROM audit WHERE action = 'player.add'") == [{"subject": "mallory"}]
    assert browser.post(f"{address}/mend", what="player").status_code == 409
    assert post(client, playerId="mallory").status_code == 200
    (known,) = db("SELECT public_id FROM transactions")
    assert_has(browser.get(address).text, "Its order was credited on", known["public_id"], without=["Set aside"])
    assert "open</span>" not in browser.get("/games/demo/settings").text


def test_an_item_is_added_where_the_order_was_refused(browser, client, studio, db):
    swords = [{"amount": 1, "sku": "swords"}]
    assert post(client, products=swords).status_code == 400
    address = only(browser)
    assert "Add item swords" in browser.get(address).text
    assert browser.post(f"{address}/mend", what="item", name="a\x01").status_code == 400
    follow(browser, browser.post(f"{address}/mend", what="item", name="Swords"))
    assert db("SELECT name FROM items WHERE sku = 'swords'") == [{"name": "Swords"}]
    assert post(client, products=swords).status_code == 200


@pytest.mark.parametrize(("what", "setting"), [("completed", "completed_statuses"), ("failed", "failed_statuses")])
def test_a_status_is_added_to_a_list_where_the_order_was_refused(browser, client, studio, db, what, setting):
    assert post(client, actionStatus="Settled").status_code == 400
    address = only(browser)
    assert_has(browser.get(address).text, "Paid: credit it", "Failed: credit nothing")
    follow(browser, browser.post(f"{address}/mend", what=what))
    (stored,) = db("SELECT value FROM settings WHERE key = :key", key=f"appcharge.{setting}")
    assert stored["value"].split(",")[1:] == ["settled"]
    assert post(client, actionStatus="Settled").status_code == 200
    assert db("SELECT state FROM refusals") == [{"state": "mended"}]
    assert len(db("SELECT id FROM transactions")) == (what == "completed")


def test_nothing_is_registered_where_the_game_is_asked(browser, client, studio):
    post(client, playerId="mallory")
    studio.config("players.unknown", "lookup")
    address = only(browser)
    assert "Register mallory" not in browser.get(address).text
    assert browser.post(f"{address}/mend", what="player").status_code == 409


def test_a_call_is_set_aside_with_a_note_and_opened_again(browser, client, studio, db):
    post(client, playerId="mallory")
    address = only(browser)
    assert browser.post(f"{address}/aside", note=" ").status_code == 400
    page = follow(browser, browser.post(f"{address}/aside", note="refunded <b>by hand"))
    assert_has(page.text, "refunded &lt;b&gt;by hand", "Open again", without=["Register mallory"])
    assert follow(browser, browser.post(f"{address}/aside", note="twice")).status_code == 200
    assert db("SELECT state, note FROM refusals") == [{"state": "aside", "note": "refunded <b>by hand"}]
    assert "Register mallory" in follow(browser, browser.post(f"{address}/aside", back="1")).text
    assert db("SELECT state, note, ended_at FROM refusals") == [{"state": "open", "note": None, "ended_at": None}]
    actions = [row["action"] for row in db("SELECT action FROM audit WHERE action LIKE 'refusal.%' ORDER BY id")]
    assert actions == ["refusal.aside", "refusal.reopen"]


def test_a_call_that_was_credited_while_set_aside_is_mended_when_it_is_opened_again(browser, client, studio, db):
    post(client, playerId="mallory")
    address = only(browser)
    browser.post(f"{address}/aside", note="later")
    studio.player("mallory")
    assert post(client, playerId="mallory").status_code == 200
    browser.post(f"{address}/aside", back="1")
    assert db("SELECT state FROM refusals") == [{"state": "mended"}]


def test_the_right_address_can_be_copied_and_the_right_key_is_named(browser, client, installation, studio):
    other = Studio(installation, "space-miner")
    for name in ("appcharge.main_key", "appcharge.publisher_token"):
        other.secret(name, f"another-{name}-0123")
    public = installation.settings.public_url
    assert post(client, "players").status_code == 400
    assert f"{public}/appcharge/demo/orders" in browser.get(only(browser)).text
    assert post(client, "ordres", orderId="o-2").status_code == 404
    assert post(client, slug="space-miner", orderId="o-3").status_code == 401
    for address in calls(browser.get(f"{LIST}?state=open")):
        assert f'data-copy="{public}/appcharge/demo/orders"' in browser.get(address).text
    post(client, orderId="o-4", playerId="alice")
    installation.observations.flush()
    assert post(client, orderId="o-5", token="another-token").status_code == 401
    page = browser.get(calls(browser.get(f"{LIST}?reason=token"))[0])
    assert_has(page.text, "have proved 2 other calls of Appcharge today", "keys#key-appcharge-publisher-token")
    assert 'id="key-appcharge-publisher-token"' in browser.get("/games/demo/integration/keys").text


def test_the_list_has_the_open_ones_first_and_every_filter_is_kept_by_its_pages(browser, client, installation, studio):
    for number in range(22):
        post(client, orderId=f"o-{number}", playerId="mallory" if number < 21 else "Eve")
    for _ in range(3):
        client.post("/appcharge/demo/orders", data=b"{}", headers=appcharge_headers(b"{}", key="x"))
    post(client, orderId="o-0", actionStatus="Failed")
    installation.observations.flush()
    first = browser.get(LIST)
    second = browser.get(next_of(first))
    ids = [int(each.rpartition("/")[2]) for page in (first, second) for each in calls(page)]
    assert (len(calls(first)), ids) == (20, [*range(22, 1, -1), 25, 24, 23, 1])
    for query, count in (
        ("state=open", 21),
        ("state=mended", 1),
        ("state=unproved", 3),
        ("state=aside", 0),
        ("state=strange", 25),
        ("reason=unknown_player&partner=appcharge", 22),
        ("reason=something_else", 0),
        ("partner=nobody", 0),
        ("endpoint=orders", 25),
        ("endpoint=events", 0),
        ("order=O-3", 1),
        ("order=o-", 0),
        ("player=Eve", 1),
        ("player=mallory&state=open", 20),
    ):
        page, found = browser.get(f"{LIST}?{query}"), []
        while True:
            found += calls(page)
            if next_of(page) is None:
                break
            page = browser.get(next_of(page))
        assert len(found) == count, query


def test_every_reason_has_a_name():
    assert (REFUSALS.keys() | WHY.keys()) <= REASONS.keys()
