"""The owner's list of events: filtered, paged, exported; and one in full, with what is hidden shown on request."""

import csv
import io
import json
import re

import pytest

from coinslot.ledger import event_lists, events
from tests.conftest import Studio
from tests.pages import every_page, next_of, text_of

LIST = "/games/demo/events"
MARK = "alice@example.com"


@pytest.fixture(autouse=True)
def game(studio):
    return studio


@pytest.fixture
def record(installation, studio, clock):
    def keep(kind, player_id="alice", partner="playcamp", body=None, **more):
        values = {"game_id": studio.row["id"], "partner": partner, "type": kind, "data": more, "raw_body": body}
        values |= {"environment": "live", "is_test": False, "player_id": player_id, "external_id": more.get("order")}

        def store(tx):
            (count,) = tx.execute("SELECT count(*) FROM events").fetchone()
            return events.record(tx, dedupe_key=f"e-{count}", **values)

        return installation.database.write_here(store)

    return keep


def listed(answer):
    return [int(each) for each in re.findall(rf'href="{LIST}/(\d+)"', answer.text)]


class TestList:
    def test_newest_first_and_filtered(self, browser, record, clock):
        clock.move_to(1785801600)  # 2026-08-04
        first = record("player.login", partner="appcharge")
        second = record("sponsor.created", creator_key="c")
        clock.move_to(1785801600 + 86400)
        third = record("sponsor.ended", player_id="bob", creator_key="c")
        fourth = record("appcharge.refund", player_id=None, partner="appcharge", order="o-1")
        for query, found in (
            *(("", [fourth, third, second, first]), ("partner=appcharge", [fourth, first])),
            *(("type=sponsor", [third, second]), ("type=ENDED", [third]), ("player=alice", [second, first])),
            *(("from=2026-08-05", [fourth, third]), ("to=2026-08-04", [second, first]), ("from=2026-08-06", [])),
            *(("from=2026-08-04&to=2026-08-04&partner=playcamp", [second]), ("player=nobody", []), ("type=zzz", [])),
        ):
            assert listed(browser.get(f"{LIST}?{query}")) == found, query
            rows = list(csv.DictReader(io.StringIO(browser.get(f"{LIST}.csv?{query}").text.removeprefix("\ufeff"))))
            assert [int(row["id"]) for row in rows] == found, query
        assert "Nothing matches" in browser.get(f"{LIST}?type=zzz").text
        for wrong in ("from=yesterday", "to=9999-12-31", "from=2026-13-01"):
            assert browser.get(f"{LIST}?{wrong}").status_code == 400
            assert browser.get(f"{LIST}.csv?{wrong}").status_code == 400

    def test_pages_hold_each_once_and_say_how_far_they_searched(self, browser, record, monkeypatch):
        ids = [record("sponsor.created" if number % 40 else "rare.one") for number in range(130)]
        assert [each for answer in every_page(browser, LIST) for each in listed(answer)] == ids[::-1]
        monkeypatch.setattr(event_lists, "LOOKED_AT", 20)
        rare = list(every_page(browser, f"{LIST}?type=rare"))
        assert [each for answer in rare for each in listed(answer)] == ids[::40][::-1]
        assert "Searched back to" in rare[0].text
        assert len(rare) > 3
        answer, queries = browser.queries(f"{LIST}?type=rare&from=2020-01-01&to=2030-01-01")
        assert (answer.status_code, len(queries) <= 12) == (200, True)
        assert next_of(rare[-1]) is None

    def test_of_this_game_alone(self, browser, record, installation):
        Studio(installation, "other")
        number = record("player.login")
        assert listed(browser.get("/games/other/events")) == []
        assert browser.get(f"/games/other/events/{number}").status_code == 404
        assert browser.post(f"/games/other/events/{number}").status_code == 404


class TestOne:
    def test_what_is_hidden_is_shown_on_request_and_that_is_noted(self, browser, record, db):
        body = json.dumps({"orderId": "o-1", "email": MARK}).encode()
        number = record("appcharge.note", body=body, order="o-1")
        page = browser.get(f"{LIST}/{number}")
        assert (MARK in page.text, "o-1" in page.text) == (False, True)
        assert not db("SELECT 1 FROM audit WHERE action = 'event.reveal'")
        assert MARK in browser.post(f"{LIST}/{number}").text
        assert db("SELECT actor, subject FROM audit WHERE action = 'event.reveal'") == [
            {"actor": "owner", "subject": str(number)}
        ]

    def test_it_leads_to_its_player_and_its_order(self, browser, record, post_order, db):
        post_order(orderId="o-1")
        number = record("appcharge.note", player_id="a/b", partner="appcharge", order="o-1")
        text = browser.get(f"{LIST}/{number}").text
        (row,) = db("SELECT public_id FROM transactions")
        assert f"/games/demo/transactions/{row['public_id']}" in text
        assert any(each in text for each in ("/games/demo/players?id=a/b", "/games/demo/players?id=a%2Fb"))
        assert "The body is not kept" in text_of(browser.get(f"{LIST}/{number}"))

    def test_one_that_is_not_there(self, browser):
        assert browser.get(f"{LIST}/99").status_code == 404
        assert browser.post(f"{LIST}/99").status_code == 404
